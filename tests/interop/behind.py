"""A server of ours behind a proxy, which answers so that a client can tell what it was given."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from tests.interop.programs import SECONDS
from tests.server.support import Peer
from trio_http import HTTPException, Request, Response, ServerConfig, serve_tcp

MEBIBYTE = 1 << 20
PIECE = b"".join(b"%07d\n" % number for number in range(MEBIBYTE // 8))  # in which no two lines are the same


async def app(request: Request) -> Response | None:
    """Answer as the path says; ``X-Framing`` tells how the request was framed, ``X-Peer`` who sent it."""
    headers = {
        "X-Framing": request.headers.get("transfer-encoding")
        or request.headers.get("content-length")
        or "none",
        "X-Peer": str(request.connection.peername),
    }
    match request.method, request.path:
        case _, "/echo":
            return Response(200, await request.read(64 * MEBIBYTE), headers=headers)
        case "POST", "/trailers":
            async with request.stream_response(200, headers=headers) as body:
                async for piece in request.body:
                    await body.send_all(piece)
                body.trailers = [
                    ("X-Seen", f"{name}={value}") for name, value in request.body.trailers.items()
                ]
            return None
        case "GET" | "HEAD", "/counted":
            return Response(200, text="counted\n", headers=headers)
        case "GET" | "HEAD", "/streamed":
            async with request.stream_response(200, headers=headers) as body:
                for _ in range(int(request.query)):
                    await body.send_all(PIECE)
            return None
        case "GET", "/early":
            await request.send_informational(103, headers={"Link": "</style.css>; rel=preload"})
            return Response(200, text="late\n", headers=headers)
        case "GET", "/empty":
            return Response(204, headers=headers)
        case "GET", "/cut":
            async with request.stream_response(200, headers=headers) as body:
                await body.send_all(PIECE)
                raise RuntimeError("to be seen as a cut, not as an end")
        case "GET", "/old":
            return Response(304, headers={**headers, "ETag": '"x"'})
        case "POST", "/refuse":
            raise HTTPException(403)
    raise HTTPException(404)


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield PIECE


async def rest_or_reset(peer: Peer) -> bytes:
    """All bytes until the proxy ends the connection, in whichever way it does."""
    try:
        return await peer.rest()
    except trio.BrokenResourceError:
        return peer.buffer


async def start(
    nursery: trio.Nursery,
    handler: Callable[[Request], Awaitable[Response | None]] = app,
    config: ServerConfig | None = None,
) -> int:
    """Serve in `nursery`, and return the port."""
    serve = functools.partial(serve_tcp, config=config or ServerConfig())
    server = await nursery.start(serve, handler, 0)
    return int(server.listeners[0].socket.getsockname()[1])


async def who(request: Request) -> Response:
    """Say whom we take the client for."""
    return Response(200, text=str(request.connection.peername))


@asynccontextmanager
async def connected(port: int, local_address: str | None = None) -> AsyncIterator[Peer]:
    """A client of the proxy that sends bytes as they are, for as long as a step may take."""
    async with await trio.open_tcp_stream("127.0.0.1", port, local_address=local_address) as stream:
        with trio.fail_after(SECONDS):
            yield Peer(stream)


def address(peer: Peer) -> str:
    """The address of a client, as `who` would write it."""
    assert isinstance(peer.stream, trio.SocketStream)
    return str(peer.stream.socket.getsockname())
