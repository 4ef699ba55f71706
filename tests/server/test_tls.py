"""Serving over TLS: the handshake and its limit, SNI, client certificates, another certificate while it runs
(S46-S48, N20, A33)."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from tests.server.support import GET, Handler, Peer, head, hello, post
from trio_http import (
    Request,
    Response,
    Server,
    ServerConfig,
    ServerInstrument,
    ServerTimes,
    by_server_name,
    serve_ssl_over_tcp,
)
from trio_http.transport import Address, TLSTransport, TransportStream

pytestmark = pytest.mark.interop

CA = trustme.CA()
OTHER_CA = trustme.CA()


def context_of(name: str, ca: trustme.CA = CA) -> ssl.SSLContext:
    """A server's context with the certificate of that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    ca.issue_cert(name).configure_cert(context)
    return context


def trusting(ca: trustme.CA = CA, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """A client's context that trusts that authority, and has a certificate if it is given one."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    ca.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


A, B = context_of("a.example"), context_of("b.example")


class Refusals(ServerInstrument):
    """Keeps why connections were refused."""

    def __init__(self) -> None:
        self.why: list[str] = []

    def connection_refused(self, peername: Address, why: str) -> None:
        assert isinstance(peername, tuple)
        assert peername[0] == "127.0.0.1"
        self.why.append(why)


@contextlib.asynccontextmanager
async def serving(
    context: ssl.SSLContext = A, handler: Handler = hello, **settings: Any
) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        serve = partial(serve_ssl_over_tcp, handler, 0, context, config=ServerConfig(**settings))
        yield await nursery.start(serve)
        nursery.cancel_scope.cancel()


async def connect(server: Server, name: str = "a.example", context: ssl.SSLContext | None = None) -> Peer:
    """Shake hands with the server, as a client who asks for that name."""
    listener = server.listeners[0]
    assert isinstance(listener, trio.SocketListener)
    raw = await trio.testing.open_stream_to_socket_listener(listener)
    assert isinstance(raw, trio.SocketStream)
    transport = await TLSTransport.handshake(raw.socket, context or trusting(), server_hostname=name)
    return Peer(TransportStream(transport))


async def open_plain(server: Server) -> Peer:
    stream = await trio.testing.open_stream_to_socket_listener(server.listeners[0])
    assert isinstance(stream, trio.SocketStream)
    return Peer(stream)


def session(peer: Peer) -> ssl.SSLObject:
    assert isinstance(peer.stream, TransportStream)
    tls = peer.stream.transport.tls
    assert isinstance(tls, ssl.SSLObject)
    return tls


def name_of(peer: Peer) -> str:
    """The name in the certificate that the server showed."""
    certificate = session(peer).getpeercert()
    assert certificate is not None
    ((_, name),) = certificate["subjectAltName"]
    return str(name)


async def test_requests_are_served_over_tls() -> None:
    """S46; the handler can see that, and with what."""
    seen: list[Any] = []

    async def handler(request: Request) -> Response:
        assert request.connection.tls is not None
        seen.append(
            (
                str(request.url),
                request.connection.tls.version(),
                request.connection.tls.selected_alpn_protocol(),
                request.connection.peer_certificate,
            )
        )
        return Response(200, await request.read())

    async with serving(handler=handler) as server:
        assert server.url == f"https://127.0.0.1:{server.listeners[0].socket.getsockname()[1]}"  # type: ignore[attr-defined]
        peer = await connect(server)
        for size in (0, 5, 300_000):
            assert (await peer.ask(post(b"x" * size, target="/a?b"))).content == b"x" * size
        await peer.stream.aclose()
    assert seen == [("https://example.org/a?b", "TLSv1.3", "http/1.1", None)] * 3


async def test_a_client_of_plain_http_is_turned_away_and_others_are_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "trio_http")
    refusals = Refusals()
    async with serving(instruments=[refusals]) as server:
        plain = await open_plain(server)
        await plain.send(GET)
        with contextlib.suppress(trio.BrokenResourceError):
            assert b"HTTP/1.1" not in await plain.rest()
        await plain.stream.aclose()
        peer = await connect(server)
        assert (await peer.ask()).status == 200
        await peer.stream.aclose()
    (why,) = refusals.why
    assert why.startswith("handshake: ")
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "was turned away" in record.getMessage()


@pytest.mark.parametrize("end", ["fin", "reset", "bytes", "distrust"])
async def test_a_handshake_that_fails_harms_nobody(end: str, caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals()
    async with serving(instruments=[refusals]) as server:
        if end == "distrust":
            with pytest.raises(trio.BrokenResourceError):
                await connect(server, context=trusting(OTHER_CA))
        else:
            plain = await open_plain(server)
            assert isinstance(plain.stream, trio.SocketStream)
            if end == "bytes":
                await plain.send(b"\x16\x03\x01\x00\x05hello")
                with contextlib.suppress(trio.BrokenResourceError):
                    await plain.rest()
            elif end == "reset":
                plain.stream.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SOL_SOCKET, SO_LINGER
            await plain.stream.aclose()
        with trio.fail_after(10):
            while not refusals.why:  # noqa: ASYNC110 - there is no event for what a kernel does
                await trio.sleep(0.001)
        assert server.statistics().connections == 0
        peer = await connect(server)
        assert (await peer.ask()).status == 200
        await peer.stream.aclose()
    assert refusals.why[0].startswith("handshake: ")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("begins", [b"", b"\x16\x03\x01"])
async def test_a_handshake_has_its_time_limit(begins: bytes) -> None:
    """S13; the limit on a request's head begins behind it."""
    refusals = Refusals()
    async with serving(instruments=[refusals], times=ServerTimes(handshake=0.1, head=100)) as server:
        plain = await open_plain(server)
        await plain.send(begins)
        with trio.fail_after(10), contextlib.suppress(trio.BrokenResourceError):
            assert await plain.rest() == b""
        await plain.stream.aclose()
        assert refusals.why == ["handshake too slow"]


async def test_a_shutdown_does_not_wait_for_handshakes() -> None:
    refusals = Refusals()
    async with serving(instruments=[refusals]) as server:
        plain = await open_plain(server)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.fail_after(5):
            await server.shutdown(grace=1000)
        with contextlib.suppress(trio.BrokenResourceError):
            assert await plain.rest() == b""
        await plain.stream.aclose()
    assert refusals.why == ["drain"]


# -------------------------------------------------------------------------------------------------------- SNI


async def test_the_certificate_is_chosen_by_the_name_that_the_client_asks_for() -> None:
    """S46."""
    async with serving(by_server_name({"a.example": A, "b.example": B}, default=None)) as server:
        for name in ("a.example", "b.example"):
            peer = await connect(server, name)
            assert name_of(peer) == name
            assert (await peer.ask()).status == 200
            await peer.stream.aclose()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await connect(server, "c.example")
        assert "UNRECOGNIZED_NAME" in str(caught.value.__cause__)


# ---------------------------------------------------------------------------------------- client certificates


def asking(mode: ssl.VerifyMode) -> ssl.SSLContext:
    context = context_of("a.example")
    context.verify_mode = mode
    OTHER_CA.configure_trust(context)
    return context


async def certificate(request: Request) -> Response:
    return Response(200, json=request.connection.peer_certificate)


async def test_the_clients_certificate_is_on_the_request() -> None:
    """S48: verified, in each request of the connection."""
    shown = OTHER_CA.issue_cert("client@example.org", organization_name="us")
    async with serving(asking(ssl.CERT_REQUIRED), certificate) as server:
        peer = await connect(server, context=trusting(certificate=shown))
        for _ in range(2):
            answer = await peer.ask()
            assert b'["email", "client@example.org"]' in answer.content.replace(b'","', b'", "')
        await peer.stream.aclose()


async def test_a_client_without_a_certificate_is_refused_where_one_is_required() -> None:
    refusals = Refusals()
    async with serving(asking(ssl.CERT_REQUIRED), certificate, instruments=[refusals]) as server:
        with pytest.raises(trio.BrokenResourceError):  # TLS 1.3 tells at the first read
            peer = await connect(server)
            try:
                await peer.ask()
            finally:
                await peer.stream.aclose()
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in refusals.why[0]


@pytest.mark.parametrize("authority", [CA, trustme.CA()])
async def test_a_certificate_of_another_authority_is_refused(authority: trustme.CA) -> None:
    """The server's own authority among them: it does not speak for clients unless it is told to."""
    refusals = Refusals()
    shown = authority.issue_cert("client@example.org")
    async with serving(asking(ssl.CERT_OPTIONAL), certificate, instruments=[refusals]) as server:
        with pytest.raises(trio.BrokenResourceError):  # TLS 1.3 tells at the first read
            peer = await connect(server, context=trusting(certificate=shown))
            try:
                await peer.ask()
            finally:
                await peer.stream.aclose()
    assert "CERTIFICATE_VERIFY_FAILED" in refusals.why[0]


async def test_where_a_certificate_is_optional_its_absence_can_be_seen() -> None:
    async with serving(asking(ssl.CERT_OPTIONAL), certificate) as server:
        peer = await connect(server)
        assert (await peer.ask()).content == b"null"
        await peer.stream.aclose()


# -------------------------------------------------------------------------- another certificate while it runs


async def test_a_new_certificate_holds_for_new_connections_and_the_old_ones_keep_theirs() -> None:
    """S47, A33."""
    async with serving() as server:
        old = await connect(server)
        server.replace_ssl_context(B)
        new = await connect(server, "b.example")
        assert (name_of(old), name_of(new)) == ("a.example", "b.example")
        for peer in (old, new):
            assert (await peer.ask()).status == 200
            await peer.stream.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await connect(server, "a.example")


async def test_what_is_no_servers_context_is_refused_and_the_old_one_stays() -> None:
    async with serving() as server:
        with pytest.raises(TypeError, match="one for clients"):
            server.replace_ssl_context(trusting())
        peer = await connect(server)
        assert (await peer.ask()).status == 200
        await peer.stream.aclose()


async def test_certificates_can_be_replaced_during_load_without_a_failed_request() -> None:
    """N20: connections come and go, requests stream in both directions, and the certificate changes all the
    time."""
    shown = set()
    requests = 0

    async def client(number: int) -> None:
        nonlocal requests
        context = trusting()
        context.check_hostname = False
        for _ in range(5):
            peer = await connect(server, context=context)
            shown.add(name_of(peer))
            for size in (0, 10, 40_000):
                content = bytes([number]) * size
                assert (await peer.ask(post(content))).content == content
                requests += 1
            await peer.stream.aclose()

    async def rotate() -> None:
        while True:
            for context in (B, A):
                await trio.sleep(0.002)
                server.replace_ssl_context(context)

    async def handler(request: Request) -> Response:
        return Response(200, await request.read())

    async with serving(handler=handler) as server, trio.open_nursery() as nursery:
        nursery.start_soon(rotate)
        async with trio.open_nursery() as clients:
            for number in range(8):
                clients.start_soon(client, number)
        nursery.cancel_scope.cancel()
    assert requests == 120
    assert shown == {"a.example", "b.example"}


async def test_pipelined_requests_are_answered_in_order_over_tls() -> None:
    async with serving() as server:
        peer = await connect(server)
        await peer.send(GET, head("HEAD"), GET)
        for method in ("GET", "HEAD", "GET"):
            assert (await peer.answer(method)).status == 200
        await peer.stream.aclose()
