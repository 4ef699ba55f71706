"""The request's content: 100-continue, what is read, what is not, and how the connection ends over it."""

from __future__ import annotations

import logging
import socket

import pytest
import trio
import trio.testing

from tests.server.support import GET, Peer, chunk, config, echo, head, hello, post, serve, watched
from trio_http import HTTPException, Request, Response, Server, ServerConfig, serve_tcp, wire

EXPECTING = head("POST", "/", "Content-Length: 5", "Expect: 100-continue")


# ----------------------------------------------------------------------------------------------- 100-continue


async def test_100_continue_is_sent_when_the_handler_first_reads(nursery: trio.Nursery) -> None:
    may_read = trio.Event()

    async def handler(request: Request) -> Response:
        await may_read.wait()
        return Response(200, await request.read())

    peer = serve(nursery, handler)
    await peer.send(EXPECTING)
    assert await peer.nothing_came()
    may_read.set()
    assert (await peer.head()).status == 100
    assert await peer.nothing_came()
    answer = await peer.ask(b"hello")

    assert (answer.content, answer.interims, answer.closes) == (b"hello", [], False)
    assert (await peer.ask(post(b"again"))).content == b"again"


async def test_100_continue_is_sent_once_for_a_body_in_many_pieces(nursery: trio.Nursery) -> None:
    peer = serve(nursery, echo)
    await peer.send(EXPECTING)
    assert (await peer.head()).status == 100
    for byte in b"hello":
        await peer.send(bytes([byte]))
        await trio.testing.wait_all_tasks_blocked()
    answer = await peer.answer()
    assert (answer.content, answer.interims) == (b"hello", [])


async def test_100_continue_is_not_sent_when_the_body_has_begun(nursery: trio.Nursery) -> None:
    answer = await serve(nursery, echo).ask(EXPECTING + b"hello")
    assert (answer.content, answer.interims) == (b"hello", [])


async def test_100_continue_is_not_sent_to_a_client_of_1_0(nursery: trio.Nursery) -> None:
    peer = serve(nursery, echo)
    await peer.send(head("POST", "/", "Content-Length: 5", "Expect: 100-continue", version="1.0"))
    assert await peer.nothing_came()
    assert (await peer.ask(b"hello")).content == b"hello"


async def test_an_expectation_with_nothing_to_send_needs_no_100_continue(nursery: trio.Nursery) -> None:
    peer = serve(nursery, echo)
    for _ in range(2):
        answer = await peer.ask(head("POST", "/", "Content-Length: 0", "Expect: 100-continue"))
        assert (answer.status, answer.interims, answer.closes) == (200, [], False)


async def test_a_final_answer_to_an_unanswered_expectation_closes_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """It once announced the close and then waited a minute for a body that would not come."""
    peer = serve(nursery, hello)
    answer = await peer.ask(EXPECTING)

    assert (answer.status, answer.interims, answer.closes) == (200, [], True)
    assert await peer.is_closed_by_server()
    assert trio.current_time() == 0


async def test_a_refusal_of_an_expectation_closes_too(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        raise HTTPException(403)

    answer = await serve(nursery, handler).ask(EXPECTING)
    assert (answer.status, answer.interims, answer.closes) == (403, [], True)


@pytest.mark.parametrize("how", ["limit_body", "read", "config"])
async def test_content_that_announces_too_much_is_413_before_any_100_continue(
    nursery: trio.Nursery, how: str
) -> None:
    async def handler(request: Request) -> Response:
        if how == "limit_body":
            request.limit_body(4)
        if how == "config":
            return Response(200, await request.body.receive_some())
        return Response(200, await request.read(4 if how == "read" else 100))

    limits = ServerConfig(max_body_bytes=4 if how == "config" else 100)
    peer = serve(nursery, handler, limits)
    answer = await peer.ask(EXPECTING)

    assert (answer.status, answer.interims, answer.closes) == (413, [], True)
    assert await peer.is_closed_by_server()


# ------------------------------------------------------------------------------------------- limits of bodies


async def test_content_within_the_limit_is_read_to_the_last_byte(nursery: trio.Nursery) -> None:
    peer = serve(nursery, echo, ServerConfig(max_body_bytes=5))
    assert (await peer.ask(post(b"12345"))).content == b"12345"
    answer = await peer.ask(post(b"123456"))
    assert (answer.status, answer.closes) == (413, False)  # the rest is small enough to be thrown away
    assert (await peer.ask(post(b"12345"))).content == b"12345"


async def test_a_chunked_body_over_the_limit_is_413(nursery: trio.Nursery) -> None:
    peer = serve(nursery, echo, ServerConfig(max_body_bytes=5))
    await peer.send(head("POST", "/", "Transfer-Encoding: chunked"), chunk(b"123"))
    await trio.testing.wait_all_tasks_blocked()
    await peer.send(chunk(b"456"))
    assert (await peer.answer()).status == 413


async def test_the_limit_is_each_requests_own_and_counts_from_nothing(nursery: trio.Nursery) -> None:
    """The bytes of one request once counted in the next, and so did the limit that its handler had set."""

    async def handler(request: Request) -> Response:
        if request.path == "/small":
            request.limit_body(4)
        return Response(200, await request.read())

    peer = serve(nursery, handler, ServerConfig(max_body_bytes=8))
    for _ in range(3):
        assert (await peer.ask(post(b"1234", target="/small"))).status == 200
        assert (await peer.ask(post(b"12345678"))).status == 200


async def test_a_handler_may_raise_the_limit(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        request.limit_body(10)
        return Response(200, await request.read())

    assert (await serve(nursery, handler, ServerConfig(max_body_bytes=1)).ask(post(b"x" * 10))).status == 200


async def test_a_negative_limit_is_refused(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        with pytest.raises(ValueError):
            request.limit_body(-1)
        return Response(200)

    assert (await serve(nursery, handler).ask()).status == 200


# ---------------------------------------------------------------------------------------------- unread bodies


@pytest.mark.parametrize(("length", "kept"), [(10, True), (11, False)])
async def test_an_unread_rest_of_known_length_is_drained_within_a_bound(
    nursery: trio.Nursery, length: int, kept: bool
) -> None:
    peer = serve(nursery, hello, ServerConfig(drain_bytes=10))
    answer = await peer.ask(head("POST", "/", f"Content-Length: {length}"))
    assert answer.closes is not kept
    if kept:
        await peer.send(b"x" * 4)
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(b"x" * 6, GET)
        assert (await peer.answer()).content == b"GET /\n"
    else:
        assert await peer.is_closed_by_server()


async def test_what_the_handler_has_read_does_not_count_as_unread(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, await request.body.receive_some(10))

    peer = serve(nursery, handler, ServerConfig(drain_bytes=10))
    answer = await peer.ask(post(b"x" * 20))
    assert (answer.content, answer.closes) == (b"x" * 10, False)
    assert (await peer.ask(post(b"y"))).content == b"y"


async def test_an_unread_chunked_body_that_is_here_is_thrown_away(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello)
    request = head("POST", "/", "Transfer-Encoding: chunked") + chunk(b"a" * 100) * 3 + chunk(b"")
    for _ in range(3):
        assert not (await peer.ask(request)).closes


async def test_an_unread_chunked_body_that_is_not_here_ends_the_connection(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello)
    answer = await peer.ask(head("POST", "/", "Transfer-Encoding: chunked") + chunk(b"a"))
    assert answer.closes
    assert await peer.is_closed_by_server()


async def test_an_unread_chunked_body_beyond_the_bound_ends_the_connection(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello, ServerConfig(drain_bytes=10))
    answer = await peer.ask(head("POST", "/", "Transfer-Encoding: chunked") + chunk(b"a" * 11) + chunk(b""))
    assert answer.closes


async def test_a_broken_body_that_nobody_reads_does_not_cost_the_answer(nursery: trio.Nursery) -> None:
    """The handler has done its work, and its answer once became a 400."""
    peer = serve(nursery, hello)
    answer = await peer.ask(head("POST", "/", "Transfer-Encoding: chunked") + b"no chunk\r\n")
    assert (answer.status, answer.closes) == (200, True)
    assert await peer.is_closed_by_server()


async def test_a_broken_body_behind_a_failed_handler_does_not_take_the_server_down(
    nursery: trio.Nursery,
) -> None:
    """The 500 looked at the body first, whose error left `serve_connection` and ended every connection."""

    async def handler(request: Request) -> Response:
        raise RuntimeError("the handler's own")

    peer = serve(nursery, handler)
    answer = await peer.ask(head("POST", "/", "Transfer-Encoding: chunked") + b"no chunk\r\n")
    assert (answer.status, answer.closes) == (500, True)
    await peer.stream.aclose()
    await peer.finished.wait()


async def test_a_client_that_ends_within_the_drained_rest_is_not_the_handlers_fault(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    peer = serve(nursery, hello)
    await peer.ask(head("POST", "/", "Content-Length: 5") + b"ab")
    await peer.stream.aclose()
    await peer.finished.wait()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_drained_rest_that_does_not_come_ends_the_connection_in_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, hello, config(body_stall=7, linger=1))
    answer = await peer.ask(head("POST", "/", "Content-Length: 5"))
    assert not answer.closes
    assert await peer.is_closed_by_server()  # no 408: the request has been answered
    assert trio.current_time() == 7


# ----------------------------------------------------------------------------------------------------- linger


async def test_a_server_that_answers_early_says_so_at_once_and_reads_on(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    streams = watched()
    peer = serve(nursery, hello, config(linger=3), streams)
    await peer.ask(head("POST", "/", "Content-Length: 1000000"))
    assert await peer.is_closed_by_server()
    assert streams[1].ending == "eof"
    await trio.sleep(2)
    await peer.send(b"x" * 1000)
    await peer.stream.send_eof()
    await peer.finished.wait()

    assert trio.current_time() == 2
    assert streams[1].ending == "closed"


async def test_lingering_is_bounded_in_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, hello, config(linger=3))
    await peer.ask(head("POST", "/", "Content-Length: 1000000"))
    for _ in range(2):
        await trio.sleep(1)
        await peer.send(b"x")
    await peer.finished.wait()
    assert trio.current_time() == 3


async def test_lingering_is_bounded_in_bytes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, hello, ServerConfig(linger_bytes=1000))
    await peer.ask(head("POST", "/", "Content-Length: 1000000"))
    await peer.send(b"x" * 999)
    await trio.testing.wait_all_tasks_blocked()
    assert not peer.finished.is_set()
    await peer.send(b"x")
    await peer.finished.wait()
    assert trio.current_time() == 0


async def test_a_close_of_the_servers_own_lingers_for_requests_on_their_way(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """The client did not ask for it; were its next request under way, a reset would overtake the answer."""

    async def handler(request: Request) -> Response:
        return Response(200, headers={"Connection": "close"})

    streams = watched()
    peer = serve(nursery, handler, config(linger=3), streams)
    await peer.ask()
    await trio.testing.wait_all_tasks_blocked()
    assert streams[1].ending == "eof"
    await peer.send(GET)
    await peer.finished.wait()
    assert trio.current_time() == 3


async def test_a_close_that_the_client_asked_for_does_not_linger(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, hello)
    await peer.ask(head("GET", "/", "Connection: close"))
    await peer.finished.wait()
    assert trio.current_time() == 0


@pytest.mark.interop
async def test_an_answer_that_the_server_closes_behind_survives_what_the_client_still_sends(
    nursery: trio.Nursery,
) -> None:
    """A plain close would answer late bytes with a reset, and the client would not get what is on its way."""
    size = 8 << 20

    async def handler(request: Request) -> None:
        async with request.stream_response(413, headers={"Content-Length": str(size)}) as body:
            await body.send_all(bytes(size))

    server: Server = await nursery.start(serve_tcp, handler, 0)
    raw = trio.socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await raw.connect(server.listeners[0].socket.getsockname())
    peer = Peer(trio.SocketStream(raw))
    await peer.send(head("POST", "/", "Content-Length: 1000000"))
    answer = await peer.head()
    received = 0
    while received < size:
        await peer.send(b"x" * 100)
        received += len(await peer.take(min(1 << 18, size - received)))
    await peer.send(b"x" * 100)

    assert (answer.status, answer.closes) == (413, True)
    assert await peer.is_closed_by_server()
    await peer.stream.aclose()


# --------------------------------------------------------------------------------------------- reading a body


async def test_trailers_of_a_request_are_there_behind_its_body(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        assert request.body.trailers.items() == []
        content = await request.read()
        return Response(200, content + (request.body.trailers["checksum"]).encode())

    request = head("POST", "/", "Transfer-Encoding: chunked") + chunk(b"abc") + b"0\r\nChecksum: 9\r\n\r\n"
    assert (await serve(nursery, handler).ask(request)).content == b"abc9"


async def test_a_request_without_a_body_has_an_empty_one(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        assert request.body is request.body
        assert await request.body.receive_some() == b""
        return Response(200, await request.read())

    assert (await serve(nursery, handler).ask()).content == b""


async def test_closing_a_requests_body_changes_nothing(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        await request.body.aclose()
        return Response(200, await request.read())

    assert (await serve(nursery, handler).ask(post(b"abc"))).content == b"abc"


async def test_a_cancelled_read_loses_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        content = await request.body.receive_some()
        for _ in range(3):
            with trio.move_on_after(1):
                content += await request.body.receive_some()
            await trio.lowlevel.checkpoint()
        return Response(200, content + await request.read())

    peer = serve(nursery, handler)
    await peer.send(head("POST", "/", "Content-Length: 3"), b"a")
    await trio.sleep(1.5)
    await peer.send(b"b")
    await trio.sleep(3)
    await peer.send(b"c")
    assert (await peer.answer()).content == b"abc"


async def test_a_body_that_ends_early_raises_in_the_handler_and_is_a_400(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        with pytest.raises(wire.RemoteProtocolError) as caught:
            await request.read()
        raise caught.value

    peer = serve(nursery, handler)
    await peer.send(head("POST", "/", "Content-Length: 5"), b"ab")
    await peer.stream.send_eof()
    answer = await peer.answer()
    assert (answer.status, answer.closes) == (400, True)
