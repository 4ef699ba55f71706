"""What a server behind a proxy answers in the tests, so that a client can tell what the server was given."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from tests.server.support import Peer
from trio_http import HTTPException, Request, Response

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
