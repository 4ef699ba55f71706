"""What a third review of the server found, each with what used to happen."""

from __future__ import annotations

import contextlib
import errno
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.server import media
from tests.server.running import MemoryListener
from tests.server.support import GET, Handler, Peer, head, hello, post, serve
from tests.transport._peers import client_context, server_context, tcp_pair
from trio_http import ClientDisconnected, Request, Response, Server, ServerConfig, ServerTimes
from trio_http.connection import Ticker
from trio_http.instruments import ConnectionRecord, ServerInstrument
from trio_http.server import serve_listeners
from trio_http.server._refuser import Refuser
from trio_http.server._shared import Shared
from trio_http.transport import EdgePoll, StreamTransport, TLSTransport


@asynccontextmanager
async def serving(
    handler: Handler = hello, config: ServerConfig | None = None
) -> AsyncIterator[tuple[Server, MemoryListener]]:
    """A server on memory streams, which is cancelled in the end."""
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            lambda task_status: serve_listeners(
                handler, [listener], config=config or ServerConfig(), task_status=task_status
            )
        )
        yield server, listener
        nursery.cancel_scope.cancel()


# --------------------------------------------------------------------- one connection that stopped the server


@pytest.mark.interop
async def test_a_stream_of_trios_tls_has_shaken_hands_before_it_is_told_of(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The instruments asked for its TLS version before it had one: the first client stopped the server."""

    class Watcher(ServerInstrument):
        def connection_opened(self, connection: ConnectionRecord) -> None:
            versions.append(connection.tls)

        def connection_refused(self, peername: object, why: str) -> None:
            refused.append(why.partition(":")[0])

    versions: list[str | None] = []
    refused: list[str] = []
    autojump_clock.autojump_threshold = media.PAUSE
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listener.socket.getsockname()
    config = ServerConfig(instruments=[Watcher()])
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            lambda task_status: serve_listeners(
                hello, [trio.SSLListener(listener, server_context())], config=config, task_status=task_status
            )
        )
        async with await trio.open_tcp_stream(*address) as plain:
            await plain.send_all(GET)  # no handshake
            with contextlib.suppress(trio.BrokenResourceError):
                while await plain.receive_some():
                    pass
        async with await trio.open_tcp_stream(*address) as silent:
            assert await silent.receive_some() == b""
        stream = trio.SSLStream(
            await trio.open_tcp_stream(*address),
            client_context(),
            server_hostname="example.test",
            https_compatible=True,
        )
        async with stream:
            assert (await Peer(stream).ask()).status == 200  # type: ignore[arg-type]
        await server.shutdown(1)
    assert versions == ["TLSv1.3"]
    assert refused == ["handshake", "handshake too slow"]


class Foreign(trio.abc.HalfCloseableStream):
    """A stream with tasks of its own, which fail when they are cancelled.

    Args:
      receives: how many receives go well.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream, receives: int) -> None:
        self._stream = stream
        self._receives = receives

    async def _fail(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError(errno.EIO, "out of order")

    async def _wait_in_two(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fail)
            await trio.sleep_forever()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self._receives -= 1
        if self._receives < 0:
            await self._wait_in_two()
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._wait_in_two()


@pytest.mark.parametrize("receives", [0, 1])
async def test_a_foreign_stream_that_fails_beside_a_cancel_fails_alone(
    receives: int, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its failure came in a group with the cancel, which was taken for none; and so it reached the server,
    from the end of a connection or from the read beside a handler."""

    async def handler(request: Request) -> Response:
        await trio.sleep(1)
        return Response(200)

    config = ServerConfig(times=ServerTimes(idle=5, head=5))
    async with serving(handler, config) as (_, listener):
        client, theirs = trio.testing.memory_stream_pair()
        listener._send.send_nowait(Foreign(theirs, receives))
        await client.send_all(GET)
        await trio.sleep(20)
        assert (await Peer(listener.connect()).ask()).status == 200
    assert "out of order" in caplog.text


async def test_a_cancel_that_a_foreign_stream_answers_with_a_group_closes_it(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It used to raise from where nothing may be raised."""
    await StreamTransport(Foreign(trio.testing.memory_stream_pair()[0], 0)).aclose_forcefully()
    assert "out of order" in caplog.text


async def test_a_wait_that_outlives_its_exchange_just_ends(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """The next exchange had taken its pace away, and it ended in an assertion of ours."""

    class Patient(Foreign):
        async def wait_send_all_might_not_block(self) -> None:
            begun.set()
            await go_on.wait()

    async def handler(request: Request) -> Response | None:
        if request.target == "/next":
            content = await request.read()
            go_on.set()
            await trio.testing.wait_all_tasks_blocked()
            return Response(200, content)
        async with request.stream_response() as body:
            nursery.start_soon(body.wait_send_all_might_not_block)
            await request.read()
            await begun.wait()
        return None

    begun, go_on = trio.Event(), trio.Event()
    client, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as serving:
        peer = serve(serving, handler, streams=(client, Patient(theirs, 10)))
        assert (await peer.ask(post(b"x"))).status == 200
        assert (await peer.ask(post(b"x", target="/next"))).content == b"x"
        serving.cancel_scope.cancel()


# ---------------------------------------------------------------------------------------------- what was lost


async def test_one_cancel_closes_all_foreign_listeners(caplog: pytest.LogCaptureFixture) -> None:
    """The first passed the cancel on, and the others stayed open; so they did when its end failed."""

    class Listener(trio.abc.Listener[Any]):
        closed = 0

        async def accept(self) -> Any:
            await trio.sleep_forever()

        async def aclose(self) -> None:
            self.closed += 1
            await trio.lowlevel.checkpoint()

    class Failing(Listener):
        async def aclose(self) -> None:
            try:
                await super().aclose()
            finally:
                raise OSError(errno.EIO, "out of order")

    listeners = [Listener(), Failing(), Listener()]
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve_listeners(hello, listeners, task_status=task_status))
        nursery.cancel_scope.cancel()
    assert all(listener.closed for listener in listeners)
    assert "out of order" in caplog.text


async def test_a_request_that_comes_in_the_moment_of_the_drain_is_answered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its handler was begun in a scope that the drain had cancelled as idle: half of it ran, and no answer
    came."""

    async def handler(request: Request) -> Response:
        reasons.append(request.cancel_reason)
        await trio.sleep(1)
        return Response(200)

    reasons: list[object] = []
    async with serving(handler) as (server, listener):
        peer = Peer(listener.connect())
        await peer.ask()
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(GET)  # the connection is woken, and has not run yet
        server.begin_shutdown(10)
        assert (await peer.answer()).closes
    assert reasons == [None, None]


async def test_a_connection_whose_answer_was_begun_before_the_drain_ends_with_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its head had not said that it closes, so it was kept until the idle limit, and the shutdown with it."""

    async def handler(request: Request) -> None:
        async with request.stream_response() as body:
            await trio.sleep(2)
            await body.send_all(b"x")

    async with serving(handler) as (server, listener):
        peer = Peer(listener.connect())
        await peer.send(GET)
        await trio.sleep(1)
        await server.shutdown(100)
        assert trio.current_time() == 2
        assert (await peer.answer()).content == b"x"
        assert await peer.is_closed_by_server()


async def test_the_end_of_another_connection_is_a_handlers_error(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that sends to another client too, and lets its end pass, was closed without answer or log."""

    async def handler(request: Request) -> Response:
        raise ClientDisconnected("the other one's")

    peer = serve(nursery, handler, streams=trio.testing.memory_stream_pair())
    assert (await peer.ask()).status == 500
    assert "the other one's" in caplog.text
    nursery.cancel_scope.cancel()


async def test_a_handler_whose_child_fails_as_the_server_is_cancelled_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a nursery it was logged, in one it came out of the serve function."""

    async def fail_at_the_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("out of order")

    async def handler(request: Request) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_at_the_end)
            await trio.sleep_forever()

    async with serving(handler) as (_, listener):
        await Peer(listener.connect()).send(GET)
        await trio.testing.wait_all_tasks_blocked()
    assert "out of order" in caplog.text


async def test_a_refusal_that_has_not_begun_at_the_hard_stop_does_not_linger(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """It kept the server for the time of its lingering, beyond the grace."""
    _, theirs = trio.testing.memory_stream_pair()
    refuser = Refuser(Shared(ServerConfig(edge_poll=False), nursery))
    async with trio.open_nursery() as refusing:
        refuser.refuse(StreamTransport(theirs), refusing)
        refuser.stop()
    assert trio.current_time() == 0


@pytest.mark.skipif(not EdgePoll.is_available, reason="without an epoll there are no edges")
@pytest.mark.interop
async def test_a_cancel_after_the_edge_does_not_lose_it_under_tls(nursery: trio.Nursery) -> None:
    """While answers of the protocol waited to be sent, a receive cancelled at the wrong moment made the next
    one park before unread bytes."""
    ours, theirs = tcp_pair()
    made: list[TLSTransport] = []

    async def shake_hands() -> None:
        made.append(await TLSTransport.handshake(theirs, server_context(), server_side=True))

    async with trio.open_nursery() as both:
        both.start_soon(shake_hands)
        client = await TLSTransport.handshake(ours, client_context(), server_hostname="example.test")
    (server,) = made
    poll = EdgePoll()
    assert server.attach(poll)
    with contextlib.suppress(BlockingIOError):
        while True:  # the client does not read, so that
            theirs_buffer = bytes(1 << 20)
            server._send(theirs_buffer)
    server._unsent = memoryview(b"an answer")  # waits
    scope = trio.CancelScope()

    async def receive() -> None:
        with scope:
            await server.receive()

    poll._look()  # the edges so far
    server._ready = False
    async with trio.open_nursery() as waiting:
        waiting.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        assert client.begin_send(b"hello")
        poll._look()
        scope.cancel()
    assert scope.cancelled_caught
    nursery.start_soon(poll.run)
    with trio.fail_after(5):
        assert await server.receive() == b"hello"
    server.abort()
    client.abort()
    poll.close()


# --------------------------------------------------------------------------------------------- what was wrong


async def test_the_last_answer_of_a_handler_that_took_its_time_is_no_error(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Lingering met the read beside the handler, which nobody had stopped, and that was logged as the
    handler's failure."""

    async def handler(request: Request) -> Response:
        await trio.sleep(1)
        return Response(200)

    peer = serve(nursery, handler, ServerConfig(max_requests=1), streams=trio.testing.memory_stream_pair())
    assert (await peer.ask()).closes
    assert await peer.is_closed_by_server()
    assert not caplog.records
    nursery.cancel_scope.cancel()


async def test_the_speed_of_one_exchange_is_not_held_against_the_next(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """The pace of a slowly read answer stayed: its speed was told of the next one, and its patience was used
    up."""

    async def handler(request: Request) -> Response:
        rates.append(request.connection.send_rate)
        return Response(200, bytes(200_000))

    rates: list[float | None] = []
    peer = serve(nursery, handler, streams=trio.testing.lockstep_stream_pair())
    for _ in range(2):
        await peer.send(GET)
        await trio.sleep(3)
        await peer.answer()
    assert rates == [None, None]
    nursery.cancel_scope.cancel()


# ---------------------------------------------------------------------------------------------- what was kept


async def test_what_is_watched_for_something_short_again_and_again_is_not_piled_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each watch of a handler by reading left the idle limit behind in the heap, until that had passed: 1,200
    entries a connection."""
    async with serving() as (server, listener):
        peer = Peer(listener.connect())
        for _ in range(500):
            await peer.ask()
            await trio.sleep(0.06)
        assert len(server._shared.ticker) == 1
        assert len(server._shared.ticker._heap) < 100


async def test_a_heap_that_was_cleared_still_tells_in_time(autojump_clock: trio.testing.MockClock) -> None:
    class Timed:
        def __init__(self) -> None:
            self.deadline = self.scheduled = float("inf")

        def on_deadline(self) -> None:
            told.append((trio.current_time(), self.deadline))
            self.deadline = float("inf")

    told: list[tuple[float, float]] = []
    ticker = Ticker()
    both = Timed(), Timed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker.run)
        for step in range(1000, 0, -1):
            for timed in both:
                timed.deadline = step
                ticker.watch(timed)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert told == [(1, 1), (1, 1)]
    assert len(ticker) == 0


@pytest.mark.parametrize(
    "request_bytes",
    [post(bytes(60_000)), head("GET", "/", *(f"X-{count}: {'y' * 600}" for count in range(95)))],
    ids=["body", "head"],
)
@pytest.mark.parametrize("piece", [1_000_000, 7000])
async def test_an_idle_connection_does_not_keep_what_its_client_has_sent(
    request_bytes: bytes, piece: int, autojump_clock: trio.testing.MockClock
) -> None:
    """The last receive stayed until the next, and the last head for good: 64 KiB and 200 KiB a connection, as
    often as a client liked."""

    async def handler(request: Request) -> Response:
        await request.read()
        return Response(200)

    async with serving(handler) as (server, listener):
        peer = Peer(listener.connect())
        for start in range(0, len(request_bytes), piece):
            await peer.send(request_bytes[start : start + piece])
        assert (await peer.answer()).status == 200
        await trio.testing.wait_all_tasks_blocked()
        (link,) = server._shared.connections
        wire = link.wire  # type: ignore[attr-defined]
        assert len(wire._buffer.data) <= 1024
        assert len(wire._heads._headers) <= 2
        assert (await peer.ask()).status == 200


async def test_an_idle_connection_does_not_keep_its_last_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It kept the request and the content of the response until the next one came."""

    class Weak(Response):
        __slots__ = ("__weakref__",)

    async def handler(request: Request) -> Response:
        response = Weak(200, bytes(1_000_000))
        kept.append(weakref.ref(response))
        return response

    kept: list[weakref.ref[Weak]] = []
    async with serving(handler) as (_, listener):
        peer = Peer(listener.connect())
        await peer.ask()
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert kept[0]() is None


async def test_empty_lines_do_not_keep_an_idle_connection(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A client that sent CRLF now and then was kept for ever."""
    config = ServerConfig(times=ServerTimes(idle=5))
    peer = serve(nursery, hello, config, streams=trio.testing.memory_stream_pair())
    await peer.ask()
    with trio.move_on_after(60) as scope, contextlib.suppress(trio.BrokenResourceError):
        while True:
            await peer.send(b"\r\n")
            await trio.sleep(4)
    assert not scope.cancelled_caught
    assert trio.current_time() <= 8
