"""What the servers under load serve: the same routes as a handler of this project and as an ASGI application.

| route | answer |
|---|---|
| ``/hello`` | `HELLO` |
| ``/number/N`` | ``N`` and a line feed, so that no two requests have the same right answer |
| ``/echo`` | the request's content |
| ``/sink`` | the length of the request's content and a line feed; the content is read piece by piece |
| ``/big/L/N`` | `pattern` of L bytes for N, streamed in pieces of 64 KiB at most |
| ``/sleep/S`` | `HELLO` after S seconds; reports how the handler began, and how it ended |

Reports are lines of JSON on standard output, with the time of the system's monotonic clock, which is the same
in all processes of one machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import trio_http

HELLO = b"Hello, world!"
PIECE = 64 * 1024
_CYCLE = 251  # a prime: a piece that is lost, doubled or moved by a power of two shifts all that follows
_BLOCK = bytes(range(_CYCLE)) * (PIECE // _CYCLE + 2)


def pattern(length: int, number: int) -> Iterator[bytes]:
    """Give content of `length` bytes that differs from that of most other numbers, in pieces."""
    start = number % _CYCLE
    while length > 0:
        piece = _BLOCK[start : start + min(PIECE, length)]
        length -= len(piece)
        start = (start + len(piece)) % _CYCLE
        yield piece


def report(what: str, **facts: Any) -> None:
    """Write one line of JSON to standard output, in one piece, with the time in seconds."""
    line = json.dumps({"report": what, "at": time.monotonic(), **facts}) + "\n"
    os.write(1, line.encode())  # under PIPE_BUF, so reports of several processes do not mix


async def app(request: trio_http.Request) -> trio_http.Response | None:
    """Answer as a handler of this project."""
    import trio

    from trio_http import HTTPException, Response

    match request.path.split("/")[1:]:
        case ["hello"]:
            return Response(200, content=HELLO)
        case ["number", number]:
            return Response(200, text=f"{number}\n")
        case ["echo"]:
            return Response(200, content=await request.read())
        case ["sink"]:
            length = 0
            async for piece in request.body:
                length += len(piece)
            return Response(200, text=f"{length}\n")
        case ["big", length, number]:
            async with request.stream_response(200) as body:
                for piece in pattern(int(length), int(number)):
                    await body.send_all(piece)
            return None
        case ["sleep", seconds]:
            await _sleep(trio.sleep, float(seconds))
            return Response(200, content=HELLO)
        case _:
            raise HTTPException(404)


async def _sleep(sleep: Callable[[float], Awaitable[object]], seconds: float) -> None:
    report("began")
    try:
        await sleep(seconds)
    except BaseException:
        report("cancelled")
        raise
    report("finished")


async def asgi_app(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """Answer as an ASGI application, on whatever library the server runs."""
    assert scope["type"] == "http"

    async def content() -> bytes:
        pieces, more = [], True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(pieces)

    async def answer(body: bytes, status: int = 200) -> None:
        fields = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    try:
        await _answer(scope["path"].split("/")[1:], content, answer, send)
    except _Gone:
        # A client that has only half-closed is not to be told about part of its content as if it were all.
        return


class _Gone(Exception):
    """The client went away within its request."""


async def _answer(
    path: list[str],
    content: Callable[[], Awaitable[bytes]],
    answer: Callable[..., Awaitable[None]],
    send: Callable[[Any], Any],
) -> None:
    match path:
        case ["hello"]:
            await answer(HELLO)
        case ["number", number]:
            await answer(f"{number}\n".encode())
        case ["echo"]:
            await answer(await content())
        case ["sink"]:
            await answer(b"%d\n" % len(await content()))
        case ["big", length, number]:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for piece in pattern(int(length), int(number)):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case ["sleep", seconds]:
            await _sleep(_sleep_of_this_library(), float(seconds))
            await answer(HELLO)
        case _:
            await answer(b"", 404)


def _sleep_of_this_library() -> Callable[[float], Awaitable[object]]:
    import asyncio

    import trio

    return trio.sleep if trio.lowlevel.in_trio_run() else asyncio.sleep
