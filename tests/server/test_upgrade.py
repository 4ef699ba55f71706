"""A connection that becomes a stream: upgrades (RFC 9110 §7.8), and tunnels by CONNECT (§9.3.6)."""

from __future__ import annotations

import logging
import math
import re
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.server.support import GET, Handler, Peer, chunk, config, head, serve, watched
from tests.transport._peers import client_context, clog, server_context, tcp_pair
from trio_http import (
    HTTPException,
    Request,
    Response,
    Server,
    ServerConfig,
    ServerTimes,
    serve_connection,
)
from trio_http.transport import SocketTransport, TLSTransport, Transport, TransportStream

OFFER = head("GET", "/", "Connection: Upgrade", "Upgrade: echo")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
CONNECT = b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n"
CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"
TUNNELS = ServerConfig(connect=True)

Pair = tuple[trio.abc.Stream, TransportStream]


async def echoing(request: Request) -> Response | None:
    """Echo, for who wants that; else plain HTTP."""
    if "echo" not in request.upgrade_protocols:
        return Response(200, text="plain\n")
    async with request.upgrade("echo") as stream:
        async for data in stream:
            await stream.send_all(data)
    return None


class Handover:
    """A handler that hands the stream of each upgrade or tunnel to the test, and keeps the block open.

    Attributes:
      requests: that came.
    """

    def __init__(self) -> None:
        self._give, self._take = trio.open_memory_channel[TransportStream](math.inf)
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> None:
        self.requests.append(request)
        block = request.tunnel() if request.method == "CONNECT" else request.upgrade("echo")
        async with block as stream:
            self._give.send_nowait(stream)
            await trio.sleep_forever()

    async def stream(self) -> TransportStream:
        return await self._take.receive()


async def expect(stream: trio.abc.ReceiveStream, expected: bytes) -> None:
    """Receive just this, byte by byte, so that nothing behind it is taken."""
    got = b""
    while len(got) < len(expected):
        byte = await stream.receive_some(1)
        assert byte, got
        got += byte
    assert got == expected


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


# --------------------------------------------------------------------------------- a stream as Trio has them


async def memory(server_config: ServerConfig) -> tuple[trio.abc.Stream, Any, ServerConfig]:
    client, server = trio.testing.memory_stream_pair()
    return client, server, server_config


async def tcp(server_config: ServerConfig) -> tuple[trio.abc.Stream, Any, ServerConfig]:
    client, server = tcp_pair()
    client.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(client)), SocketTransport(server), server_config


async def tcp_without_the_poll(server_config: ServerConfig) -> tuple[trio.abc.Stream, Any, ServerConfig]:
    client, server, _ = await tcp(server_config)
    return client, server, ServerConfig(connect=server_config.connect, edge_poll=False)


async def unix(server_config: ServerConfig) -> tuple[trio.abc.Stream, Any, ServerConfig]:
    client, server = socket.socketpair()
    return TransportStream(SocketTransport(client)), SocketTransport(server), server_config


async def tls(
    server_config: ServerConfig, pair: Callable[[], Any] = tcp_pair
) -> tuple[trio.abc.Stream, Any, ServerConfig]:
    client, server = pair()
    made: dict[str, Transport] = {}

    async def accept() -> None:
        made["server"] = await TLSTransport.handshake(server, server_context(), server_side=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        mine = await TLSTransport.handshake(client, client_context(), server_hostname="example.test")
    return TransportStream(mine), made["server"], server_config


async def tls_over_unix(server_config: ServerConfig) -> tuple[trio.abc.Stream, Any, ServerConfig]:
    return await tls(server_config, socket.socketpair)


Opener = Callable[[ServerConfig], Awaitable[tuple[trio.abc.Stream, Any, ServerConfig]]]


def upgrader(over: Opener, request: bytes, answer: bytes, nursery: trio.Nursery) -> Callable[[], Any]:
    """A maker of streams for Trio's suite: the two ends of a connection that was upgraded."""

    async def make() -> Pair:
        client, transport, settings = await over(TUNNELS)
        handover = Handover()

        async def run() -> None:
            await serve_connection(handover, transport, config=settings)

        nursery.start_soon(run)
        await client.send_all(request)
        await expect(client, answer)
        return client, await handover.stream()

    return make


def clogged(make: Callable[[], Any]) -> Callable[[], Any]:
    async def make_clogged() -> Pair:
        client, server = await make()
        for end in (client, server):
            clog(end.transport)
        return client, server

    return make_clogged


@pytest.mark.interop
@pytest.mark.parametrize(
    ("request_", "answer"),
    [pytest.param(OFFER, SWITCHED, id="upgrade"), pytest.param(CONNECT, CONNECTED, id="connect")],
)
@pytest.mark.parametrize(
    ("over", "can_clog"),
    [
        pytest.param(memory, False, id="memory"),
        pytest.param(tcp, False, id="tcp"),
        pytest.param(tcp_without_the_poll, False, id="tcp without the poll"),
        pytest.param(unix, True, id="unix"),
        pytest.param(tls, False, id="tls"),
        pytest.param(tls_over_unix, True, id="tls over unix"),  # TCP's buffers grow while one looks
    ],
)
async def test_what_the_block_has_is_a_two_way_stream_by_trios_own_suite(
    over: Opener, can_clog: bool, request_: bytes, answer: bytes, nursery: trio.Nursery
) -> None:
    """N13, S35, S36: through a real upgrade, and a real CONNECT."""
    make = upgrader(over, request_, answer, nursery)
    await trio.testing.check_two_way_stream(make, clogged(make) if can_clog else None)
    nursery.cancel_scope.cancel()


@pytest.mark.interop
@pytest.mark.parametrize("over", [memory, tcp, tcp_without_the_poll, unix, tls])
async def test_the_stream_of_an_upgrade_can_be_half_closed(over: Opener, nursery: trio.Nursery) -> None:
    make = upgrader(over, OFFER, SWITCHED, nursery)
    await trio.testing.check_half_closeable_stream(make, None)
    nursery.cancel_scope.cancel()


@pytest.mark.interop
@pytest.mark.parametrize("over", [memory, tcp, tcp_without_the_poll, tls])
@pytest.mark.parametrize("early", [b"x", b"early " * 5, GET, b"y" * 200_000], ids=len)
async def test_what_the_client_sent_behind_its_offer_comes_first(
    over: Opener, early: bytes, nursery: trio.Nursery
) -> None:
    """A29: it once crashed another server. Requests, if it looks like them, it is not."""
    client, transport, settings = await over(ServerConfig())
    handover = Handover()
    nursery.start_soon(partial(serve_connection, handover, transport, config=settings))

    async def send() -> None:
        await client.send_all(OFFER + early)
        await client.send_all(b" later")

    nursery.start_soon(send)
    stream = await handover.stream()
    got = bytearray(await stream.receive_some(1))
    assert len(got) == 1
    while len(got) < len(early) + 6:
        got += await stream.receive_some(7777)
    assert got == early + b" later"
    assert len(handover.requests) == 1
    nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(client)


async def test_what_came_while_the_handler_thought_is_not_lost(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Where only reading tells of a disconnect, the server has read it."""

    async def thinking(request: Request) -> None:
        await trio.sleep(1)
        async with request.upgrade("echo") as stream:
            await stream.send_all(await stream.receive_some() + b"!")

    peer = serve(nursery, thinking)
    await peer.send(OFFER)
    await trio.sleep(0.5)
    await peer.send(b"hasty")
    assert await peer.rest() == SWITCHED + b"hasty!"


async def test_a_read_ahead_does_not_take_what_belongs_to_the_stream(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """The one that was begun while the handler thought is over when the stream is there."""

    async def thinking(request: Request) -> None:
        await trio.sleep(1)
        async with request.upgrade("echo") as stream:
            await trio.sleep(1)
            await stream.send_all(await stream.receive_some() + b"!")

    peer = serve(nursery, thinking)
    await peer.send(OFFER)
    await trio.sleep(1.5)
    await peer.send(b"late")
    assert await peer.rest() == SWITCHED + b"late!"


# -------------------------------------------------------------------------------------------- the handshake


async def test_the_answer_has_the_protocol_and_the_handlers_fields(nursery: trio.Nursery) -> None:
    """A43: all that a WebSocket server needs."""

    async def handler(request: Request) -> None:
        async with request.upgrade("websocket", headers={"Sec-WebSocket-Accept": "abc="}) as stream:
            await stream.send_all(b"frame")

    peer = serve(nursery, handler)
    await peer.send(head("GET", "/chat", "Connection: keep-alive, Upgrade", "Upgrade: websocket"))
    answer = await peer.head()
    assert (answer.status, answer.reason) == (101, "Switching Protocols")
    assert answer.fields == [
        ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Accept", "abc="),
    ]  # fmt: skip
    assert await peer.rest() == b"frame"


@pytest.mark.parametrize(
    ("fields", "offered"),
    [
        (["Connection: upgrade", "Upgrade: echo"], ("echo",)),
        (["Connection: close, UPGRADE", "Upgrade: h2c, ECHO/2 ,  echo"], ("h2c", "ECHO/2", "echo")),
        (["Connection: upgrade", "Upgrade: h2c", "Upgrade: echo"], ("h2c", "echo")),
        (["Upgrade: echo"], ()),
        (["Connection: keep-alive", "Upgrade: echo"], ()),
        (["Connection: upgrade"], ()),
    ],
)
async def test_the_offers_are_those_that_the_connection_option_covers(
    nursery: trio.Nursery, fields: list[str], offered: tuple[str, ...]
) -> None:
    seen = []

    async def handler(request: Request) -> Response:
        seen.append(request.upgrade_protocols)
        return Response(200)

    assert (await serve(nursery, handler).ask(head("GET", "/", *fields))).status == 200
    assert seen == [offered]


async def test_a_client_of_1_0_cannot_upgrade(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        assert request.upgrade_protocols == ()
        async with request.upgrade("echo"):
            pass

    peer = serve(nursery, handler)
    answer = await peer.ask(head("GET", "/", "Connection: Upgrade", "Upgrade: echo", version="1.0"))
    assert answer.status == 500
    assert len(errors(caplog)) == 1


async def test_a_protocol_is_taken_whatever_its_case(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        async with request.upgrade("WebSocket"):
            pass

    peer = serve(nursery, handler)
    await peer.send(head("GET", "/", "Connection: Upgrade", "Upgrade: websocket"))
    assert (await peer.head()).status == 101


async def test_a_protocol_that_was_not_offered_is_refused_with_those_that_were(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        request.upgrade("h3")

    peer = serve(nursery, handler)
    assert (await peer.ask(OFFER)).status == 500
    (record,) = errors(caplog)
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "the client has not offered to change to 'h3'; its offers: echo"
    caplog.clear()
    assert (await peer.ask()).status == 500
    assert "its offers: none" in str(errors(caplog)[0].exc_info)


async def test_a_declined_upgrade_is_an_ordinary_exchange_and_http_goes_on(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        if request.upgrade_protocols:
            return Response(426, headers={"Upgrade": "other", "Connection": "Upgrade"})
        return Response(200, text=request.path)

    peer = serve(nursery, handler)
    await peer.send(OFFER, head("GET", "/behind"))
    answer = await peer.answer()
    assert (answer.status, answer.get("upgrade")) == (426, "other")
    assert (await peer.answer()).content == b"/behind"
    assert (await peer.ask(head("GET", "/later"))).content == b"/later"


async def test_a_handler_that_failed_before_its_block_answers_500_and_http_goes_on(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Response | None:
        if not request.upgrade_protocols:
            return Response(200)
        block = request.upgrade("echo")
        assert block is not None
        raise RuntimeError("not today")

    peer = serve(nursery, handler)
    assert (await peer.ask(OFFER)).status == 500
    assert (await peer.ask()).status == 200


async def test_an_upgrade_that_was_never_entered_is_no_answer(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        request.upgrade("echo")

    assert (await serve(nursery, handler).ask(OFFER)).status == 500
    assert "without having answered" in str(errors(caplog)[0].exc_info)


async def test_fields_that_cannot_be_sent_are_a_500(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        async with request.upgrade("echo", headers={"X": "a\r\nb"}):
            pass

    peer = serve(nursery, handler)
    assert (await peer.ask(OFFER)).status == 500
    assert len(errors(caplog)) == 1


POSTED_OFFER = head("POST", "/", "Connection: Upgrade", "Upgrade: echo", "Content-Length: 5")


async def test_an_upgrade_before_the_content_was_read_is_refused(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9110 §7.8: the client finishes its request first."""
    peer = serve(nursery, Handover())
    await peer.send(POSTED_OFFER, b"12345")
    assert (await peer.answer()).status == 500
    assert "read the request's content first" in str(errors(caplog)[0].exc_info)


@pytest.mark.parametrize("expects", [False, True])
@pytest.mark.parametrize("coding", ["Content-Length: 5", "Transfer-Encoding: chunked"])
async def test_a_request_with_content_upgrades_behind_it(
    nursery: trio.Nursery, expects: bool, coding: str
) -> None:
    async def handler(request: Request) -> None:
        content = await request.read()
        async with request.upgrade("echo") as stream:
            await stream.send_all(content + await stream.receive_some())

    peer = serve(nursery, handler)
    expectation = ["Expect: 100-continue"] if expects else []
    await peer.send(head("POST", "/", "Connection: Upgrade", "Upgrade: echo", coding, *expectation))
    if expects:
        assert (await peer.head()).status == 100
    content = b"12345" if "Length" in coding else chunk(b"12345") + chunk(b"")
    await peer.send(content, b"678")
    assert (await peer.head()).status == 101
    assert await peer.rest() == b"12345678"


async def test_a_request_that_was_answered_cannot_upgrade(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response() as body:
            await body.send_all(b"answer")
        async with request.upgrade("echo"):
            pass

    peer = serve(nursery, handler)
    assert (await peer.ask(OFFER)).content == b"answer"
    assert await peer.is_closed_by_server()
    assert "answered already" in str(errors(caplog)[0].exc_info)


async def test_interim_responses_may_come_before_the_upgrade(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        await request.send_informational(102)
        async with request.upgrade("echo"):
            pass

    peer = serve(nursery, handler)
    await peer.send(OFFER)
    assert [(await peer.head()).status, (await peer.head()).status] == [102, 101]
    assert await peer.is_closed_by_server()


# ------------------------------------------------------------------------------------------------ the block


async def test_leaving_the_block_closes_the_connection(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    streams = watched()
    peer = serve(nursery, echoing, streams=streams)
    await peer.send(OFFER, b"hello")
    assert await peer.take(len(SWITCHED) + 5) == SWITCHED + b"hello"
    await peer.stream.send_eof()
    assert await peer.is_closed_by_server()
    await peer.finished.wait()
    assert streams[1].ending == "closed"
    assert caplog.records == []


async def test_the_verbs_of_http_are_over_within_the_block(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        body = request.body
        async with request.upgrade("echo") as stream:
            with pytest.raises(trio.ClosedResourceError):
                await body.receive_some()
            with pytest.raises(trio.ClosedResourceError):
                await request.read()
            with pytest.raises(trio.ClosedResourceError):
                await request.send_informational(103)
            with pytest.raises(trio.ClosedResourceError):
                async with request.stream_response():
                    pass
            with pytest.raises(trio.ClosedResourceError):
                async with request.upgrade("echo"):
                    pass
            assert (request.method, request.path) == ("GET", "/")
            await stream.send_all(b"fine")

    peer = serve(nursery, handler)
    await peer.send(OFFER)
    assert await peer.rest() == SWITCHED + b"fine"


async def test_a_stream_kept_beyond_its_block_is_closed(nursery: trio.Nursery) -> None:
    kept = []

    async def handler(request: Request) -> None:
        async with request.upgrade("echo") as stream:
            kept.append(stream)

    peer = serve(nursery, handler)
    await peer.send(OFFER)
    assert await peer.rest() == SWITCHED
    with pytest.raises(trio.ClosedResourceError):
        await kept[0].send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await kept[0].receive_some()


async def test_the_handler_may_close_the_stream_itself(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def handler(request: Request) -> None:
        async with request.upgrade("echo") as stream:
            await stream.aclose()

    peer = serve(nursery, handler)
    await peer.send(OFFER)
    assert await peer.rest() == SWITCHED
    assert caplog.records == []


async def test_a_response_beside_an_upgrade_is_an_error_and_sends_nothing(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Response:
        async with request.upgrade("echo") as stream:
            await stream.send_all(b"data")
        return Response(200)

    peer = serve(nursery, handler)
    await peer.send(OFFER)
    assert await peer.rest() == SWITCHED + b"data"
    await peer.finished.wait()
    (record,) = errors(caplog)
    assert "beside its upgrade" in str(record.exc_info)


@pytest.mark.parametrize("error", [RuntimeError("lost it"), HTTPException(404)])
async def test_an_error_in_the_block_aborts_and_is_logged(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Even an `HTTPException`: the answer that it stands for cannot be given any more."""

    async def handler(request: Request) -> None:
        async with request.upgrade("echo"):
            raise error

    streams = watched()
    peer = serve(nursery, handler, streams=streams)
    await peer.send(OFFER)
    assert await peer.rest() == SWITCHED
    await peer.finished.wait()
    assert streams[1].ending == "aborted"
    assert len(errors(caplog)) == 1


@pytest.mark.interop
@pytest.mark.parametrize("way", ["error", "cancel"])
async def test_over_tcp_an_abort_is_a_reset(
    way: str, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    fail = trio.Event()

    async def handler(request: Request) -> None:
        async with request.upgrade("echo"):
            await fail.wait()
            raise RuntimeError

    client, transport, settings = await tcp(ServerConfig())
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await serve_connection(handler, transport, config=settings)

    nursery.start_soon(run)
    await client.send_all(OFFER)
    await expect(client, SWITCHED)
    if way == "cancel":
        scope.cancel()
    fail.set()
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()
    await client.aclose()


@pytest.mark.interop
async def test_over_tls_an_abort_is_no_regular_end_and_a_close_is_one(nursery: trio.Nursery) -> None:
    for fails in (False, True):

        async def handler(request: Request, fails: bool = fails) -> None:
            async with request.upgrade("echo"):
                if fails:
                    raise trio.BrokenResourceError("the protocol's own")

        client, transport, settings = await tls(ServerConfig())
        nursery.start_soon(partial(serve_connection, handler, transport, config=settings))
        await client.send_all(OFFER)
        await expect(client, SWITCHED)
        if fails:
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()
        else:
            assert await client.receive_some() == b""
            assert isinstance(client, TransportStream)
            assert not client.transport.truncated
        await client.aclose()


@pytest.mark.parametrize("sleeps", [False, True])
async def test_a_cancelled_handler_leaves_its_block_and_the_connection_is_aborted(sleeps: bool) -> None:
    left = []

    async def handler(request: Request) -> None:
        try:
            async with request.upgrade("echo") as stream:
                if sleeps:
                    await trio.sleep_forever()
                await stream.receive_some()
        finally:
            left.append(request.cancel_reason)

    streams = watched()
    async with trio.open_nursery() as nursery:
        peer = serve(nursery, handler, streams=streams)
        await peer.send(OFFER)
        assert (await peer.head()).status == 101
        nursery.cancel_scope.cancel()
    assert streams[1].ending == "aborted"
    assert left == [None]


# ---------------------------------------------------------------------- what is no longer the server's affair


@pytest.mark.interop
@pytest.mark.parametrize("over", [memory, tcp, tcp_without_the_poll, unix])
async def test_the_clients_end_is_the_end_of_what_it_sends_and_no_cancel(
    over: Opener, nursery: trio.Nursery
) -> None:
    """The protocol is the handler's now, and so is what an end in it means."""
    noticed = trio.Event()

    async def handler(request: Request) -> None:
        async with request.upgrade("echo") as stream:
            assert await stream.receive_some() == b"last words"
            assert await stream.receive_some() == b""
            with trio.move_on_after(0.2):  # far beyond what the notice of a disconnect takes
                await trio.sleep_forever()
            assert request.cancel_reason is None
            await stream.send_all(b"heard")
        noticed.set()

    client, transport, settings = await over(ServerConfig())
    nursery.start_soon(partial(serve_connection, handler, transport, config=settings))
    await client.send_all(OFFER)
    await expect(client, SWITCHED)
    await client.send_all(b"last words")
    assert isinstance(client, trio.abc.HalfCloseableStream)
    await client.send_eof()
    await expect(client, b"heard")
    await noticed.wait()
    await client.aclose()


@pytest.mark.interop
@pytest.mark.parametrize("over", [tcp, tcp_without_the_poll])
async def test_a_reset_breaks_the_stream_and_is_not_the_handlers_fault(
    over: Opener, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    done = trio.Event()

    async def handler(request: Request) -> None:
        async with request.upgrade("echo") as stream:
            try:
                await stream.receive_some()
            finally:
                assert request.cancel_reason is None
                done.set()

    client, transport, settings = await over(ServerConfig())
    served = trio.Event()

    async def run() -> None:
        await serve_connection(handler, transport, config=settings)
        served.set()

    nursery.start_soon(run)
    await client.send_all(OFFER)
    await expect(client, SWITCHED)
    assert isinstance(client, trio.SocketStream)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await client.aclose()
    await done.wait()
    await served.wait()
    assert {record.levelname for record in caplog.records} <= {"DEBUG"}


async def test_no_limit_on_clients_holds_within_the_block(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        async with request.upgrade("echo") as stream:
            assert await stream.receive_some() == b"x"
            await stream.send_all(b"y" * 100)

    limits = config(head=1, idle=1, body_stall=1, write_stall=1, linger=1)
    peer = serve(nursery, handler, limits, trio.testing.lockstep_stream_pair())
    async with trio.open_nursery() as both:
        both.start_soon(peer.send, OFFER)
        assert (await peer.head()).status == 101
    await trio.sleep(80_000)
    await peer.send(b"x")
    await trio.sleep(80_000)
    assert await peer.rest() == b"y" * 100


async def test_the_limit_on_a_request_does_not_hold_within_the_block(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """It is there so that the client has an answer in time, and it has one: 101."""

    async def handler(request: Request) -> None:
        await trio.sleep(9)
        async with request.upgrade("echo") as stream:
            assert trio.current_effective_deadline() == math.inf
            await trio.sleep(80_000)
            await stream.send_all(b"still here")

    peer = serve(nursery, handler, ServerConfig(times=ServerTimes(request=10)))
    await peer.send(OFFER)
    assert await peer.rest() == SWITCHED + b"still here"


async def test_a_drain_tells_the_handler_of_an_upgrade_and_leaves_the_rest_to_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        async with request.upgrade("echo") as stream:
            with request.cancel_on_drain():
                await stream.receive_some()
            assert request.draining
            await stream.send_all(b"bye")

    client, transport = trio.testing.memory_stream_pair()
    server: Server = await nursery.start(serve_connection, handler, transport)
    peer = Peer(client)
    await peer.send(OFFER)
    assert (await peer.head()).status == 101
    (snapshot,) = server.snapshot()
    assert snapshot.state == "upgraded"
    await server.shutdown(grace=10)
    assert trio.current_time() < 10
    assert await peer.rest() == b"bye"


async def test_an_upgraded_stream_does_not_outlive_the_grace(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    client, transport = trio.testing.memory_stream_pair()
    server: Server = await nursery.start(serve_connection, Handover(), transport)
    peer = Peer(client)
    await peer.send(OFFER)
    assert (await peer.head()).status == 101
    before = trio.current_time()
    await server.shutdown(grace=10)
    assert trio.current_time() == before + 10
    assert await peer.is_closed_by_server()


# ---------------------------------------------------------------------------------------------------- CONNECT


async def test_connect_is_501_unless_the_server_is_told_otherwise(nursery: trio.Nursery) -> None:
    handover = Handover()
    peer = serve(nursery, handover)
    assert (await peer.ask(CONNECT)).status == 501
    assert handover.requests == []


async def test_a_tunnel_has_the_target_of_the_request(nursery: trio.Nursery) -> None:
    """S36; what the client sends before the answer is the tunnel's, too."""

    async def handler(request: Request) -> None:
        assert (request.method, request.target, request.path) == ("CONNECT", "example.org:443", "")
        async with request.tunnel(headers={"X-Via": "us"}) as stream:
            await stream.send_all(b"<" + await stream.receive_some() + b">")

    peer = serve(nursery, handler, TUNNELS)
    await peer.send(CONNECT, b"hello")
    answer = await peer.head()
    assert (answer.status, answer.fields) == (200, [("X-Via", "us")])
    assert await peer.rest() == b"<hello>"


async def test_a_refused_tunnel_is_an_ordinary_exchange_and_http_goes_on(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        if request.method == "CONNECT":
            raise HTTPException(403)
        return Response(200, text="plain")

    peer = serve(nursery, handler, TUNNELS)
    assert (await peer.ask(CONNECT)).status == 403
    assert (await peer.ask()).content == b"plain"


@pytest.mark.parametrize("status", [200, 204, 299])
async def test_a_response_that_would_open_a_tunnel_is_the_handlers_error(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    async def handler(request: Request) -> Response:
        return Response(status)

    assert (await serve(nursery, handler, TUNNELS).ask(CONNECT)).status == 500
    assert "Request.tunnel" in str(errors(caplog)[0].exc_info)


async def test_a_streamed_response_that_would_open_a_tunnel_is_the_handlers_error(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """Its head would have opened the tunnel, and its body broken it."""

    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            await body.send_all(b"content")

    assert (await serve(nursery, handler, TUNNELS).ask(CONNECT)).status == 500
    assert "Request.tunnel" in str(errors(caplog)[0].exc_info)


async def test_a_streamed_refusal_of_a_tunnel_is_fine(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(407) as body:
            await body.send_all(b"who are you?")

    peer = serve(nursery, handler, TUNNELS)
    for _ in range(2):
        answer = await peer.ask(CONNECT)
        assert (answer.status, answer.content) == (407, b"who are you?")


async def test_other_methods_open_no_tunnel(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> None:
        async with request.tunnel():
            pass

    assert (await serve(nursery, handler, TUNNELS).ask()).status == 500
    assert "only CONNECT opens a tunnel" in str(errors(caplog)[0].exc_info)


async def test_a_forward_proxy_is_a_few_lines(nursery: trio.Nursery) -> None:
    """Both ways at once, and an end of either is handed on."""

    async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream) -> None:
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()

    upstream, far = trio.testing.memory_stream_pair()

    async def proxy(request: Request) -> None:
        async with upstream, request.tunnel() as stream, trio.open_nursery() as both:
            both.start_soon(pump, stream, upstream)
            both.start_soon(pump, upstream, stream)

    peer = serve(nursery, proxy, TUNNELS)
    await peer.send(CONNECT, b"ping")
    await expect(far, b"ping")
    await far.send_all(b"pong")
    await far.send_eof()
    assert await peer.take(len(CONNECTED) + 4) == CONNECTED + b"pong"
    await peer.send(b"more")
    await expect(far, b"more")
    await peer.stream.send_eof()
    assert await far.receive_some() == b""
    assert await peer.is_closed_by_server()


# ------------------------------------------------------------------------------------------- the guide's word

GUIDE = Path(__file__).resolve().parents[2] / "docs/how-to/upgrade.md"


def program(number: int) -> dict[str, Any]:
    """The names that a program of the guide defines."""
    sources = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(sources[number], str(GUIDE), "exec"), names)
    return names


async def test_the_guides_upgrade_echoes(nursery: trio.Nursery) -> None:
    peer = serve(nursery, program(0)["app"])
    assert (await peer.ask()).status == 426
    await peer.send(OFFER, b"hello")
    assert await peer.take(len(SWITCHED) + 5) == SWITCHED + b"hello"
    await peer.stream.send_eof()
    assert await peer.is_closed_by_server()


@pytest.mark.interop
async def test_the_guides_tunnel_leads_where_it_may_and_nowhere_else(nursery: trio.Nursery) -> None:
    names = program(1)
    far = await nursery.start(trio.serve_tcp, _shouting, 0)
    port = far[0].socket.getsockname()[1]
    names["ALLOWED"] |= {f"127.0.0.1:{port}", "127.0.0.1:1"}
    peer = serve(nursery, names["proxy"], TUNNELS)
    assert (await peer.ask()).status == 405
    for target, status in (("elsewhere:1", 403), ("127.0.0.1:1", 502)):
        refused = await serve(nursery, names["proxy"], TUNNELS).ask(head("CONNECT", target))
        assert refused.status == status
    peer = serve(nursery, names["proxy"], TUNNELS)
    await peer.send(head("CONNECT", f"127.0.0.1:{port}"), b"hello")
    assert await peer.take(len(CONNECTED)) == CONNECTED  # an end before that would be a disconnect
    await peer.stream.send_eof()
    assert await peer.rest() == b"HELLO"
    nursery.cancel_scope.cancel()


async def _shouting(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(bytes(data).upper())
    await stream.send_eof()


# A handler written as a class is a `Handler` to mypy, too.
_: Handler = Handover()
