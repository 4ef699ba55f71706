"""No hidden buffers, in bytes: what the server has taken from one side and not given to the other."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing

from tests.server.support import GET, chunk, config, head, hello, serve
from trio_http import Request, Response
from trio_http.testing import memory_pair

#: The most that the server receives at once.
ONE_RECEIVE = 64 * 1024

# ---------------------------------------------------------------------------------------- towards the client


async def test_a_send_does_not_return_before_the_client_has_all_but_the_last_piece(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """N14, S20. Over a stream without any buffer, in which a send ends when its bytes are received: the
    handler's k-th `send_all` returns when the client has received k pieces, and not before. So the server
    holds one piece at most, the one that the handler is sending."""
    size, count = 1000, 50
    returned = 0

    async def handler(request: Request) -> None:
        nonlocal returned
        async with request.stream_response(200, headers={"content-length": str(size * count)}) as body:
            for _ in range(count):
                await body.send_all(bytes(size))
                returned += 1

    peer = serve(nursery, handler, config(), trio.testing.lockstep_stream_pair())
    await peer.send(GET)
    await peer.head()
    for number in range(count):
        await trio.testing.wait_all_tasks_blocked()
        assert returned == number
        received = 0
        while received < size:
            # In parts, for half a piece is none.
            await trio.testing.wait_all_tasks_blocked()
            assert returned == number
            received += len(await peer.stream.receive_some(300))
    await trio.testing.wait_all_tasks_blocked()
    assert returned == count


async def test_chunks_are_held_back_as_exactly(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    returned = 0

    async def handler(request: Request) -> None:
        nonlocal returned
        async with request.stream_response() as body:
            for _ in range(20):
                await body.send_all(b"piece")
                returned += 1

    peer = serve(nursery, handler, config(), trio.testing.lockstep_stream_pair())
    await peer.send(GET)
    await peer.head()
    for number in range(20):
        await trio.testing.wait_all_tasks_blocked()
        assert returned == number
        assert await peer.take(len(chunk(b"piece"))) == chunk(b"piece")
    assert await peer.take(5) == b"0\r\n\r\n"


async def test_a_buffer_of_n_bytes_lets_the_handler_run_ahead_by_n_bytes_and_a_piece(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """With a buffer between them, as a kernel is, and a client that does not read: the handler has sent what
    the buffer holds, and is sending one piece more."""
    taken = 0

    async def handler(request: Request) -> None:
        nonlocal taken
        async with request.stream_response(200, headers={"content-length": str(1 << 30)}) as body:
            while True:
                taken += 1000
                await body.send_all(bytes(1000))

    ours, theirs = memory_pair(10_000)
    peer = serve(nursery, handler, config(write_stall=60), (ours, theirs))
    await peer.send(GET)
    await trio.testing.wait_all_tasks_blocked()
    assert 10_000 - 1000 <= taken <= 10_000 + 1000
    assert theirs.sent_bytes <= 10_000 + 1000
    await peer.finished.wait()


async def test_events_are_not_held_back_for_company(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """The other half: what was sent is there at once, however small, and no later piece is needed for it."""
    go_on = trio.Event()

    async def handler(request: Request) -> None:
        async with request.stream_response() as body:
            await body.send_all(b"x")
            await go_on.wait()

    peer = serve(nursery, handler, config())
    await peer.send(GET)
    await peer.head()
    assert await peer.take(6) == b"1\r\nx\r\n"
    go_on.set()
    assert await peer.take(5) == b"0\r\n\r\n"


# -------------------------------------------------------------------------------------------- from the client


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_the_server_reads_at_most_one_receive_ahead_of_its_handler(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, framing: str
) -> None:
    """N14, S20. The bound: what was received and is not in the handler's hands is never more than one
    receive, which is 64 KiB; for a chunked body there may be the beginning of a chunk's line before it."""
    size = 1 << 20
    ahead: list[int] = []
    content = os.urandom(1000) * (size // 1000)
    if framing == "length":
        request_head = head("POST", "/", f"Content-Length: {len(content)}")
        wire_content = content
    else:
        request_head = head("POST", "/", "Transfer-Encoding: chunked")
        pieces = [content[at : at + 10_000] for at in range(0, len(content), 10_000)]
        wire_content = b"".join(map(chunk, [*pieces, b""]))

    async def handler(request: Request) -> Response:
        got = b""
        while True:
            await trio.testing.wait_all_tasks_blocked()  # whoever would read ahead, now could
            ahead.append(theirs.received_bytes - len(request_head) - len(got))
            piece = await request.body.receive_some(7000)
            if not piece:
                break
            got += piece
            await trio.sleep(1)
        assert got == content
        return Response(200)

    ours, theirs = memory_pair(1 << 22)
    peer = serve(nursery, handler, config(body_stall=1), (ours, theirs))
    assert (await peer.ask(request_head + wire_content)).status == 200
    framing_so_far = len(wire_content) - len(content)
    assert max(ahead) <= ONE_RECEIVE + framing_so_far + 16
    assert max(ahead) > 10_000  # nor does it read byte by byte


async def test_a_body_that_the_handler_does_not_read_stays_where_it_is(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """What came with the head, and not a byte more, however long the handler takes."""

    async def handler(request: Request) -> Response:
        await trio.sleep(1000)
        return Response(200)

    ours, theirs = memory_pair(1 << 22)
    peer = serve(nursery, handler, config(), (ours, theirs))
    await peer.send(head("POST", "/", f"Content-Length: {1 << 21}"), bytes(1 << 20))
    await trio.sleep(500)
    assert theirs.receives == 1
    assert theirs.received_bytes <= ONE_RECEIVE


async def test_a_client_that_pipelines_without_end_is_read_from_as_it_is_answered(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """It sends megabytes of requests and reads no answer. The server takes one receive, answers what the way
    back holds, and waits."""
    ours, theirs = memory_pair(8 << 20)
    back, forth = memory_pair(4000)
    stapled = trio.StapledStream(forth, theirs)
    peer = serve(nursery, hello, config(write_stall=60), (trio.StapledStream(ours, back), stapled))
    requests = GET * ((4 << 20) // len(GET))
    await peer.stream.send_all(requests)
    await trio.testing.wait_all_tasks_blocked()
    assert theirs.received_bytes <= ONE_RECEIVE
    assert forth.sent_bytes <= 4000 + 200
    await peer.finished.wait()
    assert trio.current_time() == 60
    assert theirs.received_bytes <= 2 * ONE_RECEIVE  # the second by who reads ahead, to see its end


async def test_reading_ahead_for_the_clients_end_is_one_receive(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Where only reading tells that a client has gone, the server reads on beside a long handler; once."""
    ours, theirs = memory_pair(8 << 20)

    async def handler(request: Request) -> Response:
        await trio.sleep(10)
        return Response(200)

    peer = serve(nursery, handler, config(), (ours, theirs))
    await peer.send(GET)
    await trio.testing.wait_all_tasks_blocked()
    await peer.send(GET * ((1 << 20) // len(GET)))
    await trio.sleep(5)
    assert theirs.receives == 2
    assert theirs.received_bytes <= len(GET) + ONE_RECEIVE


async def test_what_is_echoed_is_received_as_fast_as_it_is_read(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Both ways at once: what the handler copies moves as fast as the client reads it."""

    async def handler(request: Request) -> None:
        async with request.stream_response() as body:
            async for piece in request.body:
                await body.send_all(piece)

    size = 1 << 20
    ours, theirs = memory_pair(8 << 20)
    back, forth = memory_pair(4096)
    peer = serve(
        nursery, handler, config(), (trio.StapledStream(ours, back), trio.StapledStream(forth, theirs))
    )
    await peer.stream.send_all(head("POST", "/", f"Content-Length: {size}") + bytes(size))
    await peer.head()
    for _ in range(5):
        await trio.testing.wait_all_tasks_blocked()
        assert theirs.received_bytes - back.received_bytes <= 2 * ONE_RECEIVE
        await peer.take(50_000)
