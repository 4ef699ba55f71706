"""Scenarios for which a defect planted in the server was the reason; see `test_holes`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator

import trio
import trio.testing
from trio.testing import MockClock

from tests.cancellation._worlds import CONFIG, lands_in, sweep_server
from trio_http import Request, Response, Server
from trio_http.server import serve_connection
from trio_http.testing import MemoryStream, cancel_at_every_step, memory_pair

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello"


async def hello(request: Request) -> Response:
    return Response(text="hello")


# ----------------------------------------------------------------------------------------- handlers that wait


async def patient(request: Request) -> Response:
    await trio.sleep(1)
    return Response(text="hello")


async def test_who_reads_ahead_beside_a_handler_stops_before_the_next_request(
    autojump_clock: MockClock,
) -> None:
    await sweep_server(
        patient,
        lambda peer: peer.send(GET).expect(HELLO).wait(1).send(GET).expect(HELLO).close(),
        answer=HELLO * 2,
    )


async def test_a_client_that_resets_beside_a_handler_ends_the_connection(autojump_clock: MockClock) -> None:
    async def waits(request: Request) -> Response:
        await trio.sleep(1000)
        return Response(text="too late")

    await sweep_server(waits, lambda peer: peer.send(GET).wait(1).reset(), answer=b"")


async def test_a_disconnect_that_was_held_back_comes_at_the_end_of_the_block(
    autojump_clock: MockClock,
) -> None:
    async def holds(request: Request) -> Response:
        began = trio.current_time()
        with request.finish(within=3):
            await trio.sleep(2)
        try:
            await trio.sleep(1000)
        finally:
            if trio.current_time() > began + 3:
                raise LookupError("never told")
        return Response(text="too late")

    report = await sweep_server(holds, lambda peer: peer.send(GET).wait(1).close(), answer=b"")
    lands_in(report, "holds")


async def test_the_time_for_a_body_is_not_the_handlers(autojump_clock: MockClock) -> None:
    """The client may take 5 seconds for a part of its body; the handler, as long as it wants."""

    async def works(request: Request) -> Response:
        text = await request.text()
        await trio.sleep(20)
        return Response(text=text)

    await sweep_server(
        works,
        lambda peer: (
            peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
            .wait(1)
            .send(b"llo")
            .expect(HELLO)
            .close()
        ),
        answer=HELLO,
    )


async def test_a_body_that_stalls_is_given_up_in_time(autojump_clock: MockClock) -> None:
    """Though the time for its head, which was longer, has not run out by then."""
    timeout = (
        b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
        b"Content-Length: 20\r\n\r\n408 Request Timeout\n"
    )

    async def reads(request: Request) -> None:
        began = trio.current_time()
        try:
            await request.text()
        finally:
            if trio.current_time() > began + 10:
                raise LookupError("noticed too late")

    await sweep_server(
        reads,
        lambda peer: (
            peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
            .expect(timeout)
            .expect_end()
            .close()
        ),
        answer=timeout,
    )


async def test_an_idle_connection_is_closed_in_the_end(autojump_clock: MockClock) -> None:
    """Also when it was to be looked at earlier, for a limit that has been lifted since."""
    await sweep_server(patient, lambda peer: peer.send(GET).expect(HELLO).expect_end().close(), answer=HELLO)


async def test_a_request_that_comes_with_the_shutdown_is_answered(autojump_clock: MockClock) -> None:
    """It has come, and then the wait for it is cancelled, before its task has run."""
    client, stream = memory_pair()
    async with trio.open_nursery() as nursery:
        serve = functools.partial(serve_connection, hello, stream, config=CONFIG)
        server: Server = await nursery.start(serve)
        await client.send_all(GET)
        assert await client.receive_some() == HELLO
        await trio.sleep(1)
        await client.send_all(GET)
        server.begin_shutdown()
        received = await client.receive_some()
        client.close()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n"), f"the client received {received!r}"
    assert b"Connection: close\r\n" in received


async def test_the_time_to_read_an_answer_is_not_that_of_the_next_handler(
    autojump_clock: MockClock,
) -> None:
    """The client may take some seconds to read what was sent; the handler, as long as it wants."""

    async def works(request: Request) -> None:
        async with request.stream_response(headers={"content-length": "20"}) as body:
            await body.send_all(b"0123456789")
            await trio.sleep(100)
            await body.send_all(b"0123456789")

    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n" + b"0123456789" * 2
    await sweep_server(
        works,
        lambda peer: peer.send(GET).wait(1).expect(answer).close(),
        answer=answer,
        max_buffer_bytes=8,
    )


async def test_a_group_of_a_cancel_and_an_error_is_reported_and_passes(autojump_clock: MockClock) -> None:
    """A task of the handler's fails in its clean-up while the server is cancelled: both must come out."""

    async def fails(request: Request) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 2)
            try:
                await trio.sleep(1)
            finally:
                raise LookupError("in the clean-up")

    answer = (
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 26\r\n\r\n500 Internal Server Error\n"
    )
    report = await sweep_server(
        fails, lambda peer: peer.send(GET).expect(answer).close(), answer=answer, faults=1
    )
    lands_in(report, "fails")


# ----------------------------------------------------------------------- a cancel of the handler's own making


class Exchange:
    """A request that is being handled, and a client that begins to read a second late.

    Attributes:
      request: the request; its handler answers "hello" when `done` is set.
      received: what the client has read.
      ended: the connection is at its end.
    """

    request: Request

    def __init__(self) -> None:
        self.done = trio.Event()
        self.received = b""
        self.ended = trio.Event()

    async def handle(self, request: Request) -> Response:
        self.request = request
        await self.done.wait()
        return Response(text="hello")

    async def read(self, client: MemoryStream) -> None:
        await trio.sleep(1)
        with contextlib.suppress(trio.BrokenResourceError):
            while part := await client.receive_some():
                self.received += part
        self.ended.set()


async def test_an_interim_response_that_is_cut_is_followed_by_nothing(autojump_clock: MockClock) -> None:
    """The handler gives it up and answers; half a head before the answer would make another answer of it."""
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Exchange]:
        exchange = Exchange()
        client, server = memory_pair(8)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(functools.partial(serve_connection, exchange.handle, server, config=CONFIG))
            await client.send_all(GET)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(exchange.read, client)
            yield exchange
            nursery.cancel_scope.cancel()
        client.close()

    async def scenario(exchange: Exchange) -> None:
        await exchange.request.send_informational(103, headers={"link": "</a>"})

    async def check(exchange: Exchange) -> None:
        exchange.done.set()
        await trio.sleep(10)
        received = exchange.received
        whole = received in (interim + HELLO, HELLO)
        cut = exchange.ended.is_set() and interim.startswith(received)
        assert whole or cut, f"the client received {received!r}"

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "send_informational", "finish_send")
