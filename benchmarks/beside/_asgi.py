"""What the peers serve in the comparison: an ASGI application with the routes of `_ours.py`.

It does whatever ASGI lets an application do. Where a message is an extension, it is sent if the server has
announced that in the scope, and else reported as not offered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from _say import ENDLESS, HELLO, PIECE, handed_over, report

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_told: list[str] = []  # by the lifespan


class _Gone(Exception):
    """The client went away within its request."""


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    match scope["type"]:
        case "lifespan":
            await _lifespan(receive, send)
        case "websocket":
            await _socket(scope, receive, send)
        case _:
            try:
                await _http(scope, receive, send)
            except _Gone:
                return


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            _told.append("lifespan.shutdown")
        await send({"type": f"{message['type']}.complete"})
        if _told:
            return


async def _http(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    match scope["path"].split("/")[1:]:
        case ["hello"]:
            await _answer(send)
        case ["sleep", seconds, key]:
            await _reported(key, lambda: _sleep(float(seconds)))
            await _answer(send)
        case ["shield", seconds, key]:
            await _reported(key, lambda: _shielded(float(seconds)))
            await _answer(send)
        case ["endless", key]:
            await _reported(key, lambda: _endless(send, key))
        case ["count", key]:
            await _answer(send, str(handed_over.get(key, 0)).encode())
        case ["sink", key]:
            lengths: list[int] = []
            await _reported(key, lambda: _sink(receive, lengths))
            await _answer(send, b"%d" % sum(lengths))
        case ["deaf", seconds]:
            await _sleep(float(seconds))
            await _answer(send)
        case ["late", seconds]:
            await _sleep(float(seconds))
            lengths = []
            await _sink(receive, lengths)
            await _answer(send, b"%d" % sum(lengths))
        case ["clock", key]:
            await _clock(receive, send, key)
        case ["drip", count]:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for number in range(int(count)):
                await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
                await _sleep(0.1)
            await send({"type": "http.response.body", "body": b""})
        case ["group", key]:
            await _fail_twice(key)
        case ["crash", key]:
            raise ValueError(f"crash {key}")
        case ["trailers"]:
            await _trailers(scope, receive, send)
        case ["hints"]:
            if "http.response.early_hint" in scope.get("extensions", {}):
                await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
            await _answer(send)
        case _:
            await _answer(send, b"", 404)


async def _answer(send: Send, content: bytes = HELLO, status: int = 200) -> None:
    fields = [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})


async def _reported(key: str, work: Callable[[], Awaitable[None]]) -> None:
    report("began", key)
    try:
        await work()
    except (trio.Cancelled, asyncio.CancelledError) as exc:
        told = getattr(exc, "reason", None) or (exc.args[0] if exc.args else None)
        report("cancelled", key, reason=None, told=told)
        raise
    except BaseException as exc:
        report("disconnected", key, error=repr(exc))
        raise
    report("finished", key)


async def _sleep(seconds: float) -> None:
    if trio.lowlevel.in_trio_run():
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


async def _shielded(seconds: float) -> None:
    """Sleep whatever the server does: on trio in a shield, on asyncio by going on after each cancel."""
    if trio.lowlevel.in_trio_run():
        with trio.move_on_after(seconds, shield=True):
            await trio.sleep_forever()
        return
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue


async def _endless(send: Send, key: str) -> None:
    handed_over[key] = 0
    fields = [(b"content-length", b"%d" % ENDLESS)]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    for _ in range(ENDLESS // len(PIECE)):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        handed_over[key] += len(PIECE)
    await send({"type": "http.response.body", "body": b""})


async def _sink(receive: Receive, lengths: list[int]) -> None:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        lengths.append(len(message.get("body", b"")))
        more = message.get("more_body", False)


async def _clock(receive: Receive, send: Send, key: str) -> None:
    """Send events until told, by whatever ASGI has, that this should end."""
    fields = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"data: tick\n\n", "more_body": True})
    report("began", key)

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    if trio.lowlevel.in_trio_run():
        async with trio.open_nursery() as nursery:

            async def listen_on_trio() -> None:
                await listen()
                nursery.cancel_scope.cancel()

            nursery.start_soon(listen_on_trio)
            while not _told:  # noqa: ASYNC110 - it is told on one of two libraries
                await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
    else:
        listening = asyncio.ensure_future(listen())
        while not _told and not listening.done():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
        listening.cancel()
    await send({"type": "http.response.body", "body": b"event: bye\ndata:\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _fail(text: str) -> None:
    raise ValueError(text)


async def _fail_twice(key: str) -> None:
    if trio.lowlevel.in_trio_run():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fail, f"first {key}")
            nursery.start_soon(_fail, f"second {key}")
    else:
        async with asyncio.TaskGroup() as group:
            group.create_task(_fail(f"first {key}"))
            group.create_task(_fail(f"second {key}"))


async def _trailers(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _sink(receive, [])
    offered = "http.response.trailers" in scope.get("extensions", {})
    fields = [(b"trailer", b"x-answer-sum")]
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": offered})
    await send({"type": "http.response.body", "body": b"42"})
    if offered:
        await send({"type": "http.response.trailers", "headers": [(b"x-answer-sum", b"42")]})


async def _socket(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    report("began", scope["path"].rpartition("/")[2])
    while (await receive())["type"] != "websocket.disconnect":
        pass
