"""What only a real listener has, cancelled at every step: PROXY headers, TLS handshakes, Unix sockets.

The scenario is a client that is none of ours beside the server; the cancel reaches both. After each run no
descriptor is left, and no file of a socket.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.cancellation._houses import tls_contexts
from tests.cancellation._worlds import CONFIG, lands_in
from trio_http import Request, Response
from trio_http.server import Server, serve_ssl_over_tcp, serve_tcp, serve_unix
from trio_http.testing import SweepReport, cancel_at_every_step

pytestmark = pytest.mark.interop

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
TRUSTING = attrs.evolve(CONFIG, proxy_protocol_from=["127.0.0.1"])


async def app(request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    return Response(text=request.connection.peername[0] if request.connection.peername else "nobody")


async def sweep(
    serve: Callable[..., Awaitable[None]], talk: Callable[[Server], Awaitable[None]]
) -> SweepReport:
    """Cancel a server and its client at each step of either.

    Args:
      serve: as `serve_tcp`, without its handler.
      talk: is the client.
    """

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(functools.partial(serve, app))
            await talk(server)
            await server.shutdown()

    return await cancel_at_every_step(scenario)


def port_of(server: Server) -> int:
    """Return the port that a server listens on."""
    (listener,) = server.listeners
    assert isinstance(listener, trio.SocketListener)
    port: int = listener.socket.getsockname()[1]
    return port


async def said(stream: trio.abc.Stream, *parts: bytes) -> bytes:
    """Send the parts, each when everybody waits for it, and return all that comes."""
    answer = b""
    async with stream:
        for part in parts:
            await stream.send_all(part)
            await trio.testing.wait_all_tasks_blocked()
        while data := await stream.receive_some(1000):
            answer += data
    return answer


@pytest.mark.parametrize(
    "parts",
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET,),
        (b"PROXY TCP4 192.0", b".2.1 192.0.2.2 1 2\r", b"\n" + GET),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", b"\xc0\0\2\1\xc0\0\2\2\0\1\0\2" + GET),
    ],
    ids=["in one piece", "in pieces", "binary"],
)
async def test_a_proxy_header(parts: tuple[bytes, ...]) -> None:
    async def talk(server: Server) -> None:
        answer = await said(await trio.open_tcp_stream("127.0.0.1", port_of(server)), *parts)
        assert answer.endswith(b"192.0.2.1")

    report = await sweep(functools.partial(serve_tcp, port=0, config=TRUSTING), talk)
    lands_in(report, "read_proxy_header" if len(parts) > 1 else "_serve_opening")


async def test_a_proxy_header_that_is_none() -> None:
    async def talk(server: Server) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            answer = await said(await trio.open_tcp_stream("127.0.0.1", port_of(server)), GET)
            assert answer == b""

    await sweep(functools.partial(serve_tcp, port=0, config=TRUSTING), talk)


async def test_a_tls_handshake() -> None:
    ours, theirs = tls_contexts()

    async def talk(server: Server) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(server))
        secured = trio.SSLStream(stream, ours, server_hostname="a", https_compatible=True)
        assert (await said(secured, GET)).endswith(b"127.0.0.1")

    report = await sweep(functools.partial(serve_ssl_over_tcp, port=0, ssl_context=theirs), talk)
    lands_in(report, "handshake", "app")


async def test_a_proxy_header_and_a_tls_handshake_behind_it() -> None:
    ours, theirs = tls_contexts()

    async def talk(server: Server) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(server))
        await stream.send_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        secured = trio.SSLStream(stream, ours, server_hostname="a", https_compatible=True)
        assert (await said(secured, GET)).endswith(b"192.0.2.1")

    serve = functools.partial(serve_ssl_over_tcp, port=0, ssl_context=theirs, config=TRUSTING)
    report = await sweep(serve, talk)
    lands_in(report, "read_proxy_header", "handshake")


async def test_a_tls_handshake_that_fails() -> None:
    """The client does not trust us, and says so."""
    theirs = tls_contexts()[1]

    async def talk(server: Server) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(server))
        trusting_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        secured = trio.SSLStream(stream, trusting_nobody, server_hostname="a", https_compatible=True)
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                await secured.do_handshake()
            raise AssertionError("it was trusted")

    report = await sweep(functools.partial(serve_ssl_over_tcp, port=0, ssl_context=theirs), talk)
    lands_in(report, "handshake")


async def test_a_unix_socket_and_its_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    seen: list[bool] = []

    async def talk(server: Server) -> None:
        assert path.exists()
        answer = await said(await trio.open_unix_socket(path), GET)
        assert answer.startswith(b"HTTP/1.1 200 ")

    async def serve(handler: Any, **options: Any) -> None:
        assert not path.exists(), "the file of the run before was left"
        seen.append(True)
        await serve_unix(handler, path, **options)

    report = await sweep(serve, talk)
    lands_in(report, "open_unix_listener", "app")
    assert seen
    assert not path.exists()


async def test_more_connections_than_there_is_room_for_over_tcp() -> None:
    """One is served, one is told that there is no room; neither is lost."""
    config = attrs.evolve(CONFIG, max_connections=1, excess="refuse")

    async def talk(server: Server) -> None:
        first = await trio.open_tcp_stream("127.0.0.1", port_of(server))
        async with first:
            await first.send_all(b"GET / HT")
            await trio.testing.wait_all_tasks_blocked()
            second = await trio.open_tcp_stream("127.0.0.1", port_of(server))
            answer = await said(second)
            assert answer.startswith(b"HTTP/1.1 503 "), answer
            assert (await said(first, b"TP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).endswith(
                b"127.0.0.1"
            )

    report = await sweep(functools.partial(serve_tcp, port=0, config=config), talk)
    lands_in(report, "_refuse")
