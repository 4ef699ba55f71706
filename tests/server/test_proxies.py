"""Behind proxies: the PROXY protocol before anything else, forwarding fields in requests (S44, S45, A32)."""

from __future__ import annotations

import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.server.support import GET, Peer, head
from tests.transport._peers import client_context, server_context
from trio_http import (
    Request,
    Response,
    Server,
    ServerConfig,
    ServerInstrument,
    ServerTimes,
    serve_ssl_over_tcp,
    serve_tcp,
    serve_unix,
)
from trio_http.instruments import ExchangeRecord
from trio_http.transport import Address, ProxyHeader, TLSTransport, TransportStream

pytestmark = pytest.mark.interop

HERE = ["127.0.0.0/8", "::1"]
ELSEWHERE = ["192.0.2.0/24"]
V1 = b"PROXY TCP4 198.51.100.7 203.0.113.9 4444 443\r\n"
V2 = ProxyHeader(
    version=2, command="PROXY", family="tcp4", source=("198.51.100.7", 4444), destination=("203.0.113.9", 443)
).to_bytes()
V2_OF_IPV6 = ProxyHeader(
    version=2, command="PROXY", family="tcp6", source=("2001:db8::7", 4444), destination=("2001:db8::9", 443)
).to_bytes()
LOCAL = ProxyHeader(version=2, command="LOCAL", family="unknown").to_bytes()


class Records(ServerInstrument):
    """Keeps who was refused and why, and who asked."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.clients: list[tuple[Address, str | None]] = []

    def connection_refused(self, peername: Address, why: str) -> None:
        self.refused.append(why)

    def exchange_finished(self, exchange: ExchangeRecord) -> None:
        self.clients.append((exchange.connection.peername, exchange.client))


async def facts(request: Request) -> Response:
    """Tell who asks, as the server sees it."""
    connection, forwarded = request.connection, request.forwarded
    return Response(
        200,
        json={
            "peername": connection.peername,
            "sockname": connection.sockname,
            "proxy": None if connection.proxy is None else connection.proxy.command,
            "client": forwarded.client,
            "scheme": forwarded.scheme,
            "hops": forwarded.hops,
            "url": str(request.url),
        },
    )


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext | None = None, **settings: Any) -> AsyncIterator[Server]:
    config = ServerConfig(**settings)
    async with trio.open_nursery() as nursery:
        if context is None:
            yield await nursery.start(partial(serve_tcp, facts, 0, config=config))
        else:
            yield await nursery.start(partial(serve_ssl_over_tcp, facts, 0, context, config=config))
        nursery.cancel_scope.cancel()


async def open_peer(server: Server) -> tuple[Peer, trio.SocketStream]:
    stream = await trio.testing.open_stream_to_socket_listener(server.listeners[0])
    assert isinstance(stream, trio.SocketStream)
    return Peer(stream, takes_resets=True), stream


async def ask(server: Server, *data: bytes) -> dict[str, Any]:
    """Send bytes on a connection of its own, and return what `facts` has answered."""
    peer, stream = await open_peer(server)
    async with stream:
        await peer.send(*data)
        answer = await peer.answer()
        assert answer.status == 200
        told: dict[str, Any] = json.loads(answer.content)
        return told


# ----------------------------------------------------------------------------------------- the PROXY protocol


@pytest.mark.parametrize(
    ("header", "peername", "sockname"),
    [
        pytest.param(V1, ["198.51.100.7", 4444], ["203.0.113.9", 443], id="1"),
        pytest.param(V2, ["198.51.100.7", 4444], ["203.0.113.9", 443], id="2"),
        pytest.param(V2_OF_IPV6, ["2001:db8::7", 4444], ["2001:db8::9", 443], id="2, IPv6"),
    ],
)
@pytest.mark.parametrize("over_tls", [False, True])
async def test_the_header_says_who_the_client_is(
    header: bytes, peername: list[Any], sockname: list[Any], over_tls: bool
) -> None:
    """S44: in front of plain HTTP, and of a TLS handshake; in every request of the connection."""
    records = Records()
    context = server_context() if over_tls else None
    async with serving(context, proxy_protocol_from=HERE, instruments=[records]) as server:
        peer, stream = await open_peer(server)
        if over_tls:
            await peer.send(header)
            transport = await TLSTransport.handshake(
                stream.socket, client_context(), server_hostname="example.test"
            )
            peer = Peer(TransportStream(transport))
            first = await peer.ask()
        else:
            await peer.send(header + GET)  # the request behind it, in the same segment
            first = await peer.answer()
        second = await peer.ask()
        for answer in (first, second):
            told = json.loads(answer.content)
            assert told["peername"][:2] == peername
            assert told["sockname"][:2] == sockname
            assert told["proxy"] == "PROXY"
            assert told["client"] == peername[0]
        await peer.stream.aclose()
    assert {(tuple(name or ())[:2], client) for name, client in records.clients} == {
        (tuple(peername), peername[0])
    }


async def test_a_header_may_come_byte_by_byte() -> None:
    async with serving(proxy_protocol_from=HERE) as server:
        peer, stream = await open_peer(server)
        for byte in V2 + GET:
            await peer.send(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert json.loads((await peer.answer()).content)["peername"] == ["198.51.100.7", 4444]
        await stream.aclose()


async def test_a_proxys_own_connection_is_the_proxys() -> None:
    """Health checks come so."""
    async with serving(proxy_protocol_from=HERE) as server:
        told = await ask(server, LOCAL, GET)
        assert told["peername"][0] == "127.0.0.1"
        assert told["proxy"] == "LOCAL"


@pytest.mark.parametrize("over_tls", [False, True])
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(GET, id="none"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS at once"),
        pytest.param(b"PROXY TCP4 198.51.100.7 203.0.113.9 4444 99999\r\n" + GET, id="malformed"),
        pytest.param(V2[:-1], id="cut"),
    ],
)
async def test_a_trusted_peer_without_a_header_is_refused(
    sent: bytes, over_tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is never guessed: the client behind it could otherwise be anybody."""
    records = Records()
    context = server_context() if over_tls else None
    async with serving(context, proxy_protocol_from=HERE, instruments=[records]) as server:
        peer, stream = await open_peer(server)
        await peer.send(sent)
        with contextlib.suppress(trio.BrokenResourceError):  # reset already, and rightly
            await stream.send_eof()
        assert b"HTTP/1.1 200" not in await peer.rest()
        await stream.aclose()
    assert records.refused[0].startswith("PROXY header: ")
    assert records.clients == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_peer_that_is_not_trusted_must_not_have_one() -> None:
    async with serving(proxy_protocol_from=ELSEWHERE) as server:
        for header in (V1, V2):
            peer, stream = await open_peer(server)
            await peer.send(header + GET)
            assert (await peer.answer()).status == 400
            assert await peer.is_closed_by_server()
            await stream.aclose()
        assert (await ask(server, GET))["peername"][0] == "127.0.0.1"


async def test_a_server_without_the_protocol_takes_a_header_for_a_bad_request() -> None:
    async with serving() as server:
        peer, stream = await open_peer(server)
        assert (await peer.ask(V1 + GET)).status == 400
        await stream.aclose()


@pytest.mark.parametrize("begins", [b"", V1[:9], V2[:14]])
async def test_a_header_has_a_time_limit(begins: bytes) -> None:
    records = Records()
    times = ServerTimes(handshake=0.1, head=100)
    async with serving(proxy_protocol_from=HERE, instruments=[records], times=times) as server:
        peer, stream = await open_peer(server)
        await peer.send(begins)
        with trio.fail_after(10):
            assert await peer.rest() == b""
        await stream.aclose()
        assert records.refused == ["handshake too slow"]


async def test_what_a_header_says_is_not_trusted_by_itself_to_forward() -> None:
    """The peer that `trusted_proxies` asks for is the one that the header names: the HTTP proxy behind the
    balancer, if that is what connects to it."""
    field = head("GET", "/", "X-Forwarded-For: 6.6.6.6")
    settings: dict[str, Any] = {"proxy_protocol_from": HERE, "forwarded_fields": "x-forwarded"}
    async with serving(**settings, trusted_proxies=HERE) as server:
        assert (await ask(server, V1, field))["client"] == "198.51.100.7"
    async with serving(**settings, trusted_proxies=["198.51.100.7"]) as server:
        assert (await ask(server, V1, field))["client"] == "6.6.6.6"


# ------------------------------------------------------------------------------------------ forwarding fields


X_FORWARDED = (
    "X-Forwarded-For: 6.6.6.6, 198.51.100.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.example",
)
FORWARDED = ('Forwarded: for=6.6.6.6, for="198.51.100.7:81";proto=https;host=shop.example',)


@pytest.mark.parametrize(
    ("style", "fields"), [("x-forwarded", X_FORWARDED), ("forwarded", FORWARDED)], ids=["x", "standard"]
)
async def test_what_a_trusted_proxy_says_is_believed_and_what_its_client_said_is_not(
    style: str, fields: tuple[str, ...]
) -> None:
    """S45."""
    records = Records()
    async with serving(trusted_proxies=HERE, forwarded_fields=style, instruments=[records]) as server:
        told = await ask(server, head("GET", "/a?b", *fields))
    assert (told["client"], told["scheme"], told["hops"]) == ("198.51.100.7", "https", 1)
    assert told["url"] == "https://shop.example/a?b"
    assert told["peername"][0] == "127.0.0.1"  # the socket's other end stays what it is
    assert [client for _, client in records.clients] == ["198.51.100.7"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"trusted_proxies": ELSEWHERE, "forwarded_fields": "x-forwarded"},
        {"trusted_proxies": ELSEWHERE, "forwarded_fields": "forwarded"},
    ],
)
async def test_nobody_else_is_believed(settings: dict[str, Any]) -> None:
    async with serving(**settings) as server:
        told = await ask(server, head("GET", "/a?b", *X_FORWARDED, *FORWARDED))
    assert (told["client"], told["scheme"], told["hops"]) == ("127.0.0.1", None, 0)
    assert told["url"] == "http://example.org/a?b"


@pytest.mark.parametrize(("style", "others"), [("x-forwarded", FORWARDED), ("forwarded", X_FORWARDED)])
async def test_the_other_style_is_never_read(style: str, others: tuple[str, ...]) -> None:
    """A proxy passes on what it does not write, as the client sent it."""
    async with serving(trusted_proxies=HERE, forwarded_fields=style) as server:
        told = await ask(server, head("GET", "/a", *others))
    assert (told["client"], told["scheme"]) == ("127.0.0.1", None)
    assert told["url"] == "http://example.org/a"


async def test_a_proxy_on_a_unix_socket_is_trusted_by_that_name(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    for trusted, client in ((["unix"], "198.51.100.7"), (HERE, None)):
        config = ServerConfig(trusted_proxies=trusted, forwarded_fields="x-forwarded")
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve_unix, facts, path, config=config))
            async with await trio.open_unix_socket(path) as stream:
                answer = await Peer(stream).ask(head("GET", "/", *X_FORWARDED))
                told = json.loads(answer.content)
                assert told["client"] == client
            await server.shutdown()


async def test_a_balancer_on_a_unix_socket_must_send_its_header(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    config = ServerConfig(proxy_protocol_from=["unix"])
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_unix, facts, path, config=config))
        async with await trio.open_unix_socket(path) as stream:
            told = json.loads((await Peer(stream).ask(V1 + GET)).content)
            assert told["peername"] == ["198.51.100.7", 4444]
        async with await trio.open_unix_socket(path) as stream:
            peer = Peer(stream, takes_resets=True)
            await peer.send(GET)
            assert await peer.rest() == b""
        await server.shutdown()


async def test_an_absolute_target_is_the_url_whatever_was_forwarded() -> None:
    """RFC 9112 §3.3: the client named the resource itself."""
    async with serving(trusted_proxies=HERE, forwarded_fields="x-forwarded") as server:
        told = await ask(server, head("GET", "http://example.org/x", *X_FORWARDED))
    assert told["url"] == "http://example.org/x"
