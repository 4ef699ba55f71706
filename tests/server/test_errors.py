"""What a handler may do wrong: a 500 or an abort, a log entry, and a server that lives."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.server.support import CLOSING_GET, GET, Cut, config, head, post, serve, watched
from trio_http import ClientDisconnected, HTTPException, Request, Response, serve_connection, wire


def raising(exc: BaseException) -> Callable[[Request], Any]:
    async def handler(request: Request) -> Response:
        if request.path == "/fine":
            return Response(200)
        raise exc

    return handler


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_failed_handler_is_a_500_and_its_error_is_logged(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    failure = RuntimeError("secret")
    peer = serve(nursery, raising(failure))
    answer = await peer.ask(head("GET", "/broken"))

    assert (answer.status, answer.closes) == (500, False)
    assert answer.content == b"500 Internal Server Error\n"
    (record,) = errors(caplog)
    assert "<Request GET /broken>" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is failure
    assert (await peer.ask(head("GET", "/fine"))).status == 200


async def test_a_failed_handler_with_an_unread_body_is_a_500_and_the_body_is_settled(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    peer = serve(nursery, raising(RuntimeError()))
    answer = await peer.ask(head("POST", "/", "Content-Length: 5") + b"ab")
    assert (answer.status, answer.closes) == (500, True)


async def test_an_http_exception_is_the_answer_it_stands_for_and_is_not_logged(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    peer = serve(nursery, raising(HTTPException(404)))
    for _ in range(2):
        answer = await peer.ask()
        assert (answer.status, answer.content, answer.closes) == (404, b"404 Not Found\n", False)
    assert caplog.records == []


async def test_an_http_exception_carries_its_text_and_fields(nursery: trio.Nursery) -> None:
    exc = HTTPException(302, "over there", headers={"Location": "/there"})
    answer = await serve(nursery, raising(exc)).ask()
    assert (answer.status, answer.content, answer.get("location")) == (302, b"over there", "/there")


async def test_an_http_exception_with_304_has_no_content(nursery: trio.Nursery) -> None:
    """Its usual text once made a message that cannot be sent."""
    peer = serve(nursery, raising(HTTPException(304)))
    for _ in range(2):
        assert (await peer.ask()).status == 304


@pytest.mark.parametrize("depth", [1, 2])
async def test_a_group_whose_only_leaf_is_an_http_exception_counts_as_that(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, depth: int
) -> None:
    exc: Exception = HTTPException(403)
    for _ in range(depth):
        exc = ExceptionGroup("a nursery's", [exc])
    answer = await serve(nursery, raising(exc)).ask()
    assert (answer.status, answer.closes) == (403, False)
    assert caplog.records == []


async def test_a_group_with_more_than_one_leaf_is_a_500(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    exc = ExceptionGroup("a nursery's", [HTTPException(403), HTTPException(403)])
    assert (await serve(nursery, raising(exc)).ask()).status == 500
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("headers", [{"X": "a\r\nSet-Cookie: b"}, {"X": "\u20ac"}])
async def test_an_http_exception_that_makes_no_message_is_a_500(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, headers: dict[str, str], grouped: bool
) -> None:
    """In a group it once left `serve_connection`, and would have ended every connection of the server."""
    exc: Exception = HTTPException(302, headers=headers)
    peer = serve(nursery, raising(ExceptionGroup("a nursery's", [exc]) if grouped else exc))
    answer = await peer.ask()
    assert answer.status == 500
    assert answer.get("set-cookie") is None
    assert len(errors(caplog)) == 1
    assert (await peer.ask(head("GET", "/fine"))).status == 200


async def test_a_grouped_http_exception_with_a_wrong_length_costs_its_own_connection_alone(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    exc = ExceptionGroup("a nursery's", [HTTPException(403, headers={"Content-Length": "3"})])
    streams = watched()
    peer = serve(nursery, raising(exc), streams=streams)
    await peer.send(GET)
    await peer.finished.wait()
    assert streams[1].ending == "aborted"


@pytest.mark.parametrize("answer", [None, "text", (200, "text"), b"bytes"])
async def test_a_handler_that_returns_no_response_is_a_500(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, answer: object
) -> None:
    async def handler(request: Request) -> Any:
        return answer

    assert (await serve(nursery, handler).ask()).status == 500
    (record,) = errors(caplog)
    assert record.exc_info is not None
    assert f"returned {answer!r} without having answered" in str(record.exc_info[1])


async def test_a_response_beside_a_streamed_one_is_an_error_and_the_streamed_one_stays(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Response:
        async with request.stream_response(200) as body:
            await body.send_all(b"streamed")
        return Response(201)

    peer = serve(nursery, handler)
    assert (await peer.ask()).content == b"streamed"
    assert await peer.is_closed_by_server()
    assert len(errors(caplog)) == 1


async def test_a_streamed_response_that_was_never_entered_is_a_500(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        request.stream_response(200)

    assert (await serve(nursery, handler).ask()).status == 500
    assert len(errors(caplog)) == 1


async def test_a_streamed_response_that_was_never_left_is_aborted(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        await request.stream_response(200).__aenter__()

    streams = watched()
    with pytest.raises(Cut):
        await serve(nursery, handler, streams=streams).ask()
    assert streams[1].ending == "aborted"
    assert len(errors(caplog)) == 1


async def test_an_error_within_a_streamed_response_aborts_and_is_logged(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            await body.send_all(b"part")
            raise RuntimeError("too late for a 500")

    streams = watched()
    peer = serve(nursery, handler, streams=streams)
    await peer.send(GET)
    assert (await peer.head()).get("transfer-encoding") == "chunked"
    assert await peer.rest() == b"4\r\npart\r\n"
    assert streams[1].ending == "aborted"
    assert len(errors(caplog)) == 1


async def test_an_http_exception_within_a_streamed_response_aborts(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200):
            raise HTTPException(404)

    streams = watched()
    with pytest.raises(Cut):
        await serve(nursery, handler, streams=streams).ask()
    assert streams[1].ending == "aborted"


async def test_an_error_that_the_handler_caught_outside_its_stream_still_aborts(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        try:
            async with request.stream_response(200) as body:
                await body.send_all(b"part")
                raise KeyError
        except KeyError:
            pass

    streams = watched()
    with pytest.raises(Cut):
        await serve(nursery, handler, streams=streams).ask()
    assert streams[1].ending == "aborted"


async def test_an_error_behind_a_complete_streamed_response_cannot_change_it(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            await body.send_all(b"whole")
        raise RuntimeError

    peer = serve(nursery, handler)
    assert (await peer.ask()).content == b"whole"
    assert await peer.is_closed_by_server()
    assert len(errors(caplog)) == 1


@pytest.mark.interop
async def test_an_abort_is_a_reset_on_a_socket() -> None:
    """A client of HTTP/1.0 reads to the end, and would take a mere FIN for the end of the whole."""

    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            await body.send_all(b"part")
            got_part.set()
            await fail.wait()
            raise HTTPException(404)

    got_part, fail = trio.Event(), trio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    client, server = (trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in (left, right))
    async with client, trio.open_nursery() as nursery:
        peer = serve(nursery, handler, streams=(client, server))
        await peer.send(head("GET", version="1.0"))
        assert (await peer.head()).get("content-length") is None
        assert await peer.take(4) == b"part"
        fail.set()
        with pytest.raises(trio.BrokenResourceError):
            await peer.rest()


# --------------------------------------------------------------------------------- what must not be swallowed


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_passes_as_it_is_and_aborts(kind: type[BaseException]) -> None:
    client, server = watched()
    await client.send_all(GET)
    interrupt = kind()
    with pytest.raises(kind) as caught:
        await serve_connection(raising(interrupt), server)
    assert caught.value is interrupt
    assert server.ending == "aborted"
    assert await client.receive_some() == b""


async def test_an_interrupt_in_a_group_passes_too() -> None:
    client, server = watched()
    await client.send_all(GET)
    group = BaseExceptionGroup("a nursery's", [KeyboardInterrupt(), RuntimeError()])
    with pytest.raises(BaseExceptionGroup) as caught:
        await serve_connection(raising(group), server)
    # Trio copies a group where it takes its own cancellations out, so it is told by what is in it.
    assert (caught.value.message, caught.value.exceptions) == (group.message, group.exceptions)


async def test_a_failed_cleanup_of_a_cancelled_handler_is_settled_outside_the_cancel(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler's nursery raises a group of cancel and failure; only the scope's exit takes them apart."""

    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("clean-up failed")

    async def handler(request: Request) -> Response:
        async with trio.open_nursery() as inner:
            inner.start_soon(fail_when_cancelled)
            await request.read()
        raise AssertionError

    peer = serve(nursery, handler, config(body_stall=5))
    await peer.send(head("POST", "/", "Content-Length: 5"))
    answer = await peer.answer()
    assert (answer.status, answer.closes) == (500, True)
    assert len(errors(caplog)) == 1


# ----------------------------------------------------------------------------------------- clients that leave


class Leaving(trio.abc.HalfCloseableStream):
    """A stream whose client has gone: what was sent can be read, and every send fails."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.data:
            raise trio.BrokenResourceError("reset")
        data, self.data = self.data, b""
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError("reset")

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError("reset")

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError("reset")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def read_body(request: Request) -> Response:
    return Response(200, await request.read())


async def answer_whole(request: Request) -> Response:
    return Response(200)


async def enter_stream(request: Request) -> None:
    async with request.stream_response(200):
        raise AssertionError


async def wait_to_send(request: Request) -> None:
    await request.stream_response(200).wait_send_all_might_not_block()


async def inform(request: Request) -> Response:
    await request.send_informational(103)
    raise AssertionError


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
@pytest.mark.parametrize("verb", [read_body, answer_whole, enter_stream, wait_to_send, inform])
async def test_a_client_that_left_is_not_the_handlers_fault(
    caplog: pytest.LogCaptureFixture, verb: Callable[[Request], Any], expect: tuple[str, ...]
) -> None:
    """The send of the 100 and the wait for room in a stream once raised what looked like its own error."""
    seen = []

    async def handler(request: Request) -> Any:
        try:
            return await verb(request)
        except Exception as exc:
            seen.append(exc)
            raise

    await serve_connection(handler, Leaving(head("POST", "/", "Content-Length: 5", *expect)))

    assert errors(caplog) == []
    if verb is not answer_whole:
        assert [type(exc) for exc in seen] == [ClientDisconnected]
        assert isinstance(seen[0].__cause__, trio.BrokenResourceError)


async def test_a_client_that_left_between_exchanges_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "trio_http")
    await serve_connection(answer_whole, Leaving(b""))
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


async def test_a_broken_stream_of_the_handlers_own_is_its_error(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    peer = serve(nursery, raising(trio.BrokenResourceError("a database's")))
    assert (await peer.ask()).status == 500
    assert len(errors(caplog)) == 1


async def test_a_protocol_error_of_the_handlers_own_is_not_blamed_on_its_client(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that speaks HTTP to others, through the wire, may let their errors pass."""
    peer = serve(nursery, raising(wire.RemoteProtocolError("another peer's", 431)))
    assert (await peer.ask()).status == 500
    assert len(errors(caplog)) == 1


# ------------------------------------------------------------------------ messages that contradict themselves


@pytest.mark.parametrize("length", ["2", "4"])
async def test_a_content_length_other_than_the_contents_is_a_500_and_is_logged(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, length: str
) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, b"abc", headers={"Content-Length": length})

    answer = await serve(nursery, handler).ask(CLOSING_GET)
    assert answer.status == 500
    assert len(errors(caplog)) == 1


async def test_a_content_length_beside_no_content_is_right_in_answer_to_head(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, headers={"Content-Length": "1000000"})

    peer = serve(nursery, handler)
    for _ in range(2):
        assert (await peer.ask(head("HEAD"))).get("content-length") == "1000000"


async def test_an_illegal_reason_is_a_500(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, reason="Fine\r\nSet-Cookie: a=b")

    answer = await serve(nursery, handler).ask()
    assert (answer.status, answer.get("set-cookie")) == (500, None)
    assert len(errors(caplog)) == 1


async def test_a_failed_handler_of_a_posted_form_leaves_the_next_request_whole(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    peer = serve(nursery, raising(RuntimeError()))
    await peer.ask(post(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert await peer.is_closed_by_server()
