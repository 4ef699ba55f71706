"""Claims about the end of a server: the hard stop holds whatever the clients do, and handlers are told."""

from __future__ import annotations

import base64
import fcntl
import ssl
import struct
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio
from _claims import Cell, Claim, Run
from _contender import GRANIAN, HYPERCORN, UVICORN, Contender, new_key, running
from _raw import Raw, connect, get

GRACE = 0.5
SLACK = 0.5
"""Seconds beyond its grace that a server may take. Arbitrary: the machine runs many servers at once."""

PATIENCE = 4.0
"""Seconds after which a server that has not ended is taken for one that does not."""

SHIELD = 2.5

Prepare = Callable[[Contender, Raw, str], Awaitable[None]]


@asynccontextmanager
async def _client(child: Contender, *, receive_buffer: int | None = None) -> AsyncIterator[Raw]:
    raw = await connect(child.port, receive_buffer=receive_buffer)
    try:
        yield raw
    finally:
        raw.close()


async def stop_reading(child: Contender, raw: Raw, key: str) -> None:
    """Ask for more than any buffer holds, read the beginning, and wait until no more comes in."""
    await raw.send(get(f"/endless/{key}"))
    await raw.head()
    before = -1
    while (now := _unread(raw)) != before:
        before = now
        await trio.sleep(0.3)


def _unread(raw: Raw) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(raw.sock.fileno(), termios.FIONREAD, b"\0" * 4))
    return int(count)


async def _half_a_head(child: Contender, raw: Raw, key: str) -> None:
    await raw.send(b"GET /hello HTTP/1.1\r\nHost: ")
    await trio.sleep(0.2)


async def _half_a_handshake(child: Contender, raw: Raw, key: str) -> None:
    outgoing = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = outgoing.read()
    await raw.send(hello[: len(hello) // 2])
    await trio.sleep(0.2)


async def _a_socket(child: Contender, raw: Raw, key: str) -> None:
    """Become a WebSocket, and never answer what comes over it."""
    proof = base64.b64encode(bytes(16)).decode()
    fields = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    await raw.send(get(f"/socket/{key}", *fields, f"Sec-WebSocket-Key: {proof}"))
    head = await raw.head()
    if head.status != 101:
        raise RuntimeError(f"no WebSocket: {head}")
    await child.began(key)


async def _a_handler(path: str, child: Contender, raw: Raw, key: str) -> None:
    await raw.send(get(f"{path}/{key}"))
    await child.began(key)


async def stop_with(prepare: Prepare, run: Run, name: str, *, tls: bool = False) -> Cell:
    """Stop a server that has such a client, and find out when it has ended serving."""
    certificate = run.certificates[0] if tls else None
    key = new_key()
    async with running(name, grace=GRACE, tls=certificate) as child:
        async with _client(child, receive_buffer=65_536 if prepare is stop_reading else None) as raw:
            await prepare(child, raw, key)
            begin = time.monotonic()
            child.command("stop", GRACE)
            end = await child.served(PATIENCE)
        reasons = child.reports(key, "cancelled", "finished", "disconnected")
    because = f', handler cancelled: "{reasons[0]["told"]}"' if reasons and reasons[0].get("told") else ""
    asked = f"grace {child.grace} s"
    if end is None:
        return Cell(False, f"still serving after {PATIENCE:.0f} s ({asked})")
    took = end - begin
    return Cell(took <= child.grace + SLACK, f"ended after {took:.2f} s ({asked}){because}")


async def _shield(run: Run, name: str) -> Cell:
    """Stop a server whose handler sleeps in a shield: the client's connection is what can end in time."""
    key = new_key()
    async with running(name, grace=GRACE) as child, _client(child) as raw:
        await _a_handler(f"/shield/{SHIELD}", child, raw, key)
        begin = time.monotonic()
        child.command("stop", GRACE)
        how, at = await raw.wait_ended(PATIENCE)
        end = await child.served(PATIENCE)
    took = at - begin
    serving = f"serving ended after {end - begin:.2f} s" if end else f"still serving after {PATIENCE:.0f} s"
    cut = f"connection {how} after {took:.2f} s" if how != "open" else "connection stayed open"
    return Cell(
        how != "open" and took <= child.grace + SLACK and end is not None,
        f"{cut}, {serving} (grace {child.grace} s)",
    )


async def _told(run: Run, name: str) -> Cell:
    """Stop a server with an endless stream of events: does the handler end it by itself, in time?"""
    grace = 2.0
    key = new_key()
    async with running(name, grace=grace) as child, _client(child) as raw:
        await raw.send(get(f"/clock/{key}"))
        await raw.until(b"data: tick\n\n")
        await child.began(key)
        begin = time.monotonic()
        child.command("stop", grace)
        rest = raw.take()
        with trio.move_on_after(grace + PATIENCE) as scope:
            # Not to the end of the connection: a server may linger when the answer is complete.
            while not rest.endswith(b"0\r\n\r\n") and (data := await raw.more()):
                rest += data
        took = time.monotonic() - begin
    if scope.cancelled_caught:
        return Cell(False, f"the stream goes on after {took:.0f} s (grace {child.grace} s)")
    whole = rest.endswith(b"0\r\n\r\n") and b"event: bye" in rest
    if whole:
        return Cell(took < grace / 2, f"the handler ended its stream after {took * 1000:.0f} ms")
    return Cell(False, f"the stream was cut off after {took:.2f} s (grace {child.grace} s)")


async def _says_close(run: Run, name: str) -> Cell:
    """Stop a server while a handler works: does the answer say that it is the connection's last?"""
    key = new_key()
    async with running(name, grace=5.0) as child, _client(child) as raw:
        await raw.send(get(f"/sleep/1/{key}"))
        await child.began(key)
        child.command("stop", 5.0)
        answer = await raw.answer()
        with trio.move_on_after(PATIENCE) as scope:
            closed = await raw.more() == b""
    if scope.cancelled_caught:
        return Cell(False, f"{answer.status}, and the connection stays open")
    says = answer.fields.get(b"connection", b"").lower() == b"close"
    what = "says Connection: close" if says else "closed without a word of it"
    return Cell(answer.status == 200 and says and closed, f"{answer.status}, {what}")


_NO_FINISH = {
    HYPERCORN: (
        "no such block: its application gets `receive` and `send` (hypercorn/trio/task_group.py), and the"
        " only cancel is that of the whole server nursery (hypercorn/trio/run.py)"
    ),
    UVICORN: "no such block; the only cancel is the one at the end of the grace (uvicorn/server.py)",
    GRANIAN: "no such block; `receive` and `send` are all its application gets (granian/asgi.py)",
}

CLAIMS = [
    Claim(
        f"hard stop within {GRACE} s of grace: a client that stopped reading",
        "N2, S22",
        partial(stop_with, stop_reading),
    ),
    Claim("... a client that never ends its head", "N2, S22", partial(stop_with, _half_a_head)),
    Claim(
        "... a client within its TLS handshake", "N2, S22", partial(stop_with, _half_a_handshake, tls=True)
    ),
    Claim(
        "... an upgraded connection (WebSocket) whose client is silent", "N2", partial(stop_with, _a_socket)
    ),
    Claim(
        "... a handler that withholds disconnect and drain (`finish(within=60)`)",
        "N2, N5",
        partial(stop_with, partial(_a_handler, "/finish/60/60")),
        _NO_FINISH,
    ),
    Claim(
        f"... a handler in a shield of its own for {SHIELD} s: its client is let go in time", "N2", _shield
    ),
    Claim("a handler is told of the drain: an event stream ends by itself", "N3, S24", _told),
    Claim("an answer within the drain says Connection: close", "S23", _says_close),
]
