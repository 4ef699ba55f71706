"""Servers on the loopback interface for a client's dials: origins of ours, and peers that play something."""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import trio
import trustme

import trio_http
from trio_http import Request, Response

AUTHORITY = trustme.CA()
LEAF = AUTHORITY.issue_cert("localhost", "127.0.0.1", "origin.example", "inner.example")


def trusting(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    """A client's context that trusts one authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def serving(leaf: trustme.LeafCert = LEAF, *alpn: str) -> ssl.SSLContext:
    """A server's context."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


async def facts(request: Request) -> Response:
    """Tell who asked, and for what; ``/last`` is the last request of its connection."""
    peername = request.connection.peername
    certificate = request.connection.peer_certificate
    names = [value for _, value in certificate["subjectAltName"]] if certificate else []
    return Response(
        json={
            "target": request.target,
            "host": request.headers.get("host"),
            "peer": peername[0] if isinstance(peername, tuple) else peername,
            "names": names,
            "resumed": isinstance(request.connection.tls, ssl.SSLObject)
            and request.connection.tls.session_reused,
        },
        headers={"connection": "close"} if request.path == "/last" else None,
    )


@contextlib.asynccontextmanager
async def origin(context: ssl.SSLContext | None = None, *, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """An origin that answers `facts`, under TLS if there is a context; what is given is its port."""
    async with trio.open_nursery() as nursery:
        if context is None:
            serve = functools.partial(trio_http.serve_tcp, host=host)
            server = await nursery.start(serve, facts, 0)
        else:
            serve_tls = functools.partial(trio_http.serve_ssl_over_tcp, host=host)
            server = await nursery.start(serve_tls, facts, 0, context)
        yield server.listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def listening(play: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    """A peer that plays something on each connection, and closes it; what is given is its port."""

    async def handle(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await play(stream)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def head_from(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything up to the end of a head; empty when the peer closes before."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = await stream.receive_some(1)
        if not piece:
            return b""
        head += piece
    return head


async def relay(left: trio.abc.Stream, right: trio.abc.Stream) -> None:
    """Carry bytes both ways until both ends have ended, or one has broken."""

    async def carry(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for piece in source:
                await target.send_all(piece)
        await target.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(carry, left, right)
        nursery.start_soon(carry, right, left)


def tunnelling(heads: list[bytes]) -> Callable[[trio.abc.Stream], Awaitable[None]]:
    """A proxy that connects by CONNECT to the port that is asked for, on the loopback interface.

    Args:
      heads: gets what it was asked.
    """

    async def play(stream: trio.abc.Stream) -> None:
        head = await head_from(stream)
        if not head:
            return
        heads.append(head)
        port = int(head.split()[1].rpartition(b":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as onward:
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            await relay(stream, onward)

    return play
