"""The client's time: each limit, what it counts, and what it ends with."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from tests.server.support import GET, Cut, WatchedStream, config, echo, head, hello, post, serve, watched
from trio_http import Request, Response, ServerConfig


@pytest.mark.parametrize("begun", [b"GET / HT", head("GET")[:-2]])
async def test_a_head_that_does_not_come_in_time_is_408(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, begun: bytes
) -> None:
    peer = serve(nursery, hello, config(head=20))
    await peer.send(begun)
    answer = await peer.answer()

    assert (answer.status, answer.closes) == (408, True)
    assert trio.current_time() == 20
    assert await peer.is_closed_by_server()


async def test_a_connection_that_never_asks_anything_is_closed_without_a_word(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A browser opens connections in advance; a 408 there has been taken for the answer to a later
    request."""
    peer = serve(nursery, hello, config(head=20))
    await peer.send(b"\r\n")  # RFC 9112 §2.2: that is nothing yet
    assert await peer.is_closed_by_server()
    assert trio.current_time() == 20


async def test_a_head_that_drips_is_408_at_the_same_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, hello, config(head=20))
    for byte in head("GET", "/" + "x" * 100)[:19]:
        await peer.send(bytes([byte]))
        await trio.sleep(1)
    assert await peer.nothing_came()
    assert (await peer.answer()).status == 408
    assert trio.current_time() == 20


async def test_the_head_limit_of_a_kept_connection_counts_from_the_first_byte(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, hello, config(head=20, idle=60))
    await peer.ask()
    await trio.sleep(50)
    await peer.send(GET[:5])
    await trio.sleep(19)
    assert (await peer.ask(GET[5:])).status == 200
    await peer.send(GET[:5])
    assert (await peer.answer()).status == 408
    assert trio.current_time() == 89


async def test_the_head_limit_of_a_request_that_was_pipelined_in_part_counts_from_the_answer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        await trio.sleep(100)
        return Response(200)

    peer = serve(nursery, handler, config(head=20, idle=1000))
    await peer.send(GET, GET[:5])
    assert (await peer.answer()).status == 200
    assert (await peer.answer()).status == 408
    assert trio.current_time() == 120


async def test_an_idle_connection_is_closed_without_a_word(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, hello, config(head=1, idle=60))
    await peer.ask()
    await trio.sleep(10)
    await peer.ask()
    assert await peer.is_closed_by_server()
    assert trio.current_time() == 70


async def test_a_handler_may_take_all_the_time_it_wants(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        await trio.sleep(1000)
        content = await request.body.receive_some()
        await trio.sleep(1000)
        return Response(200, content)

    peer = serve(nursery, handler, config(head=1, idle=1, body_stall=1, write_stall=1))
    assert (await peer.ask(post(b"abc"))).content == b"abc"
    assert trio.current_time() == 2000


async def test_a_body_that_stalls_is_408_and_cancels_the_handler_with_the_reason(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    reasons = []

    async def handler(request: Request) -> Response:
        try:
            await request.read()
        except trio.Cancelled as exc:
            reasons.append(exc.reason)
            raise
        raise AssertionError

    peer = serve(nursery, handler, config(body_stall=60))
    await peer.send(head("POST", "/", "Content-Length: 5"), b"ab")
    await trio.sleep(10)
    await peer.send(b"c")
    answer = await peer.answer()

    assert (answer.status, answer.closes) == (408, True)
    assert trio.current_time() == 70
    assert reasons == ["body too slow"]
    assert await peer.is_closed_by_server()


async def test_a_body_that_keeps_coming_is_not_stalled(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, echo, config(body_stall=60))
    await peer.send(head("POST", "/", "Content-Length: 5"))
    for byte in b"abcde":
        await trio.sleep(59)
        await peer.send(bytes([byte]))
    assert (await peer.answer()).content == b"abcde"


async def test_a_stall_behind_a_streamed_head_cannot_be_answered_and_aborts(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200):
            await request.read()

    streams = watched()
    peer = serve(nursery, handler, config(body_stall=60), streams)
    await peer.send(head("POST", "/", "Content-Length: 5"))
    with pytest.raises(Cut):
        await peer.answer()
    assert trio.current_time() == 60
    assert streams[1].ending == "aborted"


async def test_a_client_that_does_not_read_its_answer_is_aborted(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    streams = trio.testing.lockstep_stream_pair()
    peer = serve(nursery, hello, config(write_stall=60), streams)
    await peer.send(GET)
    await peer.finished.wait()
    assert trio.current_time() == 60


async def test_a_client_that_reads_slowly_gets_all_of_a_large_answer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """The limit once counted from the answer's first byte to its last, however much the client had read."""
    size = 1 << 20

    async def handler(request: Request) -> Response:
        return Response(200, bytes(size))

    client, server = trio.testing.lockstep_stream_pair()
    stream = WatchedStream(server)
    peer = serve(nursery, handler, config(write_stall=60), (client, stream))
    await peer.send(head("GET", "/", "Connection: close"))
    received = 0
    while part := await peer.stream.receive_some(1 << 16):
        received += len(part)
        await trio.sleep(30)
    await peer.finished.wait()
    assert received > size
    assert trio.current_time() > 400
    assert stream.ending == "closed"  # the bytes alone would not tell: what was left unread is still there


async def test_a_streamed_answer_that_is_not_read_cancels_its_handler_with_the_reason(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    reasons = []

    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            try:
                await body.send_all(b"x")
            except trio.Cancelled as exc:
                reasons.append(exc.reason)
                raise

    peer = serve(nursery, handler, config(write_stall=60), trio.testing.lockstep_stream_pair())
    await peer.send(GET)
    assert (await peer.head()).status == 200
    await peer.finished.wait()
    assert reasons == ["write stalled"]


async def test_gaps_between_the_pieces_of_a_streamed_answer_are_the_handlers_own(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            for _ in range(5):
                await body.send_all(b"event")
                await trio.sleep(1000)

    peer = serve(nursery, handler, config(write_stall=1, idle=1, head=1))
    assert (await peer.ask()).content == b"event" * 5


async def test_a_refusal_that_is_not_read_is_given_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, hello, config(answer=5), trio.testing.lockstep_stream_pair())
    await peer.send(b"nonsense\r\n\r\n")
    await peer.finished.wait()
    assert trio.current_time() == 5


async def test_no_limit_is_no_limit(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    peer = serve(nursery, hello, config(head=math.inf, idle=math.inf))
    await trio.sleep(80_000)
    await peer.ask()
    await trio.sleep(80_000)
    assert (await peer.ask()).status == 200


async def test_connections_are_limited_each_on_its_own(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    first = serve(nursery, hello, config(head=20))
    await trio.sleep(5)
    second = serve(nursery, hello, config(head=10))
    await trio.sleep(9)
    assert (await second.ask()).status == 200
    assert await first.is_closed_by_server()
    assert trio.current_time() == 20
    assert not second.finished.is_set()


async def test_a_time_that_is_no_time_is_refused() -> None:
    for value in (0, -1, math.nan):
        with pytest.raises(ValueError):
            config(head=value)
    with pytest.raises(ValueError):
        ServerConfig(max_body_bytes=0)
    with pytest.raises(ValueError):
        ServerConfig(drain_bytes=-1)
