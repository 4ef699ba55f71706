"""Claims about slow clients: how long they live, what is buffered for them, who sees how slow they are."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial

import trio
from _claims import Cell, Claim, Run
from _contender import GRANIAN, HYPERCORN, OURS, UVICORN, Contender, new_key, running
from _raw import Raw, connect, get, post, queued
from _stopping import stop_reading

STRICT = {
    "times": {"head_stall": 1, "body_stall": 1, "write_stall": 1},
    "rates": {"head": 100, "body": 100, "response": 20_000},
}
"""Limits that show within seconds: a client may fall behind these rates (bytes per second) by one second."""

DRIBBLE_SECONDS = 0.1
"""Between two bytes of a client that dribbles: 10 bytes per second, and never a stall."""

PATIENCE = 8.0

STALL_PATIENCE = 130.0
"""Seconds: our default is a minute, after which what was read in it may be worth another."""


async def _dribble(
    raw: Raw, seconds: float, every: float = DRIBBLE_SECONDS, piece: bytes = b"x"
) -> tuple[str, float]:
    """Send a piece from time to time until the server ends the connection.

    Returns:
      How it ended, or "open" if it lives after `seconds`; and how long it lived.
    """
    begin = time.monotonic()
    while (now := time.monotonic()) < begin + seconds:
        try:
            await raw.send(piece)
        except (trio.BrokenResourceError, OSError):
            break
        how, _ = await raw.wait_ended(every - (now - begin) % every)
        if how != "open":
            break
    how = raw.ended() or "open"
    return how, time.monotonic() - begin


async def _last_words(raw: Raw) -> str:
    """Return the status that the server has answered with at the end, or ""."""
    try:
        with trio.move_on_after(1):
            return f", {(await raw.head()).status}"
    except (Exception, trio.TooSlowError):  # noqa: BLE001 - whatever it is, it is no answer
        return ""
    return ""


def _lived(name: str, how: str, lived: float, words: str, *, holds: bool, note: str = "") -> Cell:
    if how == "open":
        return Cell(False, f"no such limit; lives after {lived:.1f} s", note)
    prefix = "" if name == OURS else "no such limit; "
    return Cell(holds, f"{prefix}cut off after {lived:.1f} s ({how}{words})", note)


Client = Callable[[Contender, Raw, str], Awaitable[tuple[str, float]]]


async def _too_slow(
    client: Client, word: str | None, run: Run, name: str, *, receive_buffer: int | None = None
) -> Cell:
    """Be a client below a minimum rate.

    Args:
      client: sends and receives, and returns how it ended after how many seconds.
      word: why our handler must be cancelled; None if there is no handler yet.
      run, name: as for all.
      receive_buffer: the client's, in bytes.
    """
    key = new_key()

    async def look(child: Contender) -> Cell:
        raw = await connect(child.port, receive_buffer=receive_buffer)
        try:
            how, lived = await client(child, raw, key)
            words = await _last_words(raw) if how == "FIN" else ""
        finally:
            raw.reset()
        if word is None:
            told = ""
        else:
            report = await child.reported(key, "cancelled", seconds=1 if name == OURS else 0)
            told = "" if report is None else str(report["reason"])
            words += f', handler told "{told}"' if told else ""
        holds = name == OURS and lived < 4 and told == (word or "")
        return _lived(name, how, lived, words, holds=holds, note=_OTHER_LIMITS.get((name, word), ""))

    if name != OURS:
        return await look(run.shared[name])
    async with running(OURS, ours=STRICT) as child:
        return await look(child)


_OTHER_LIMITS: dict[tuple[str, str | None], str] = {
    (
        HYPERCORN,
        None,
    ): "what ends it is `keep_alive_timeout` for the whole head (hypercorn/trio/tcp_server.py)",
    (GRANIAN, None): "`header_read_timeout` for the whole head, 30 s, is not reached here (granian/http.py)",
}


async def _slow_head(child: Contender, raw: Raw, key: str) -> tuple[str, float]:
    await raw.send(b"GET /hello HTTP/1.1\r\nHost: x\r\nX: ")
    return await _dribble(raw, PATIENCE)


async def _slow_body(child: Contender, raw: Raw, key: str) -> tuple[str, float]:
    await raw.send(post(f"/sink/{key}", 1_000_000))
    return await _dribble(raw, PATIENCE)


async def _slow_reader(child: Contender, raw: Raw, key: str) -> tuple[str, float]:
    """Read 2 kB a second of an endless answer."""
    await raw.send(get(f"/endless/{key}"))
    await raw.head()
    begin = time.monotonic()
    while time.monotonic() < begin + PATIENCE and raw.ended() is None:
        with trio.move_on_after(DRIBBLE_SECONDS):
            await raw.stream.receive_some(200)
        await trio.sleep(DRIBBLE_SECONDS)
    return raw.ended() or "open", time.monotonic() - begin


async def _fast_enough(run: Run, name: str) -> Cell:
    """Send a body at four times the minimum rate, for three times as long as the slow one lives."""
    pieces = 36
    async with running(OURS, ours=STRICT) as child:
        raw = await connect(child.port)
        await raw.send(post(f"/sink/{new_key()}", 40 * pieces))
        begin = time.monotonic()
        how = "open"
        for number in range(1, pieces + 1):
            await raw.send(b"x" * 40)
            left = begin + number * DRIBBLE_SECONDS - time.monotonic()
            how, _ = await raw.wait_ended(left if number < pieces else 0)
            if how != "open":
                break
        answer = await raw.answer() if how == "open" else None
        raw.close()
    took = time.monotonic() - begin
    said = "cut off" if answer is None else f"{answer.status} {answer.content.decode()} bytes"
    return Cell(answer is not None and answer.status == 200, f"{said}, after {took:.1f} s")


async def _head_with_defaults(run: Run, name: str) -> Cell:
    raw = await connect(run.shared[name].port)
    await raw.send(b"GET /hello HTTP/1.1\r\nHost: x\r\nX: ")
    how, lived = await _dribble(raw, 20 if run.quick else 45, every=1.0)
    words = await _last_words(raw) if how == "FIN" else ""
    raw.reset()
    if how == "open":
        return Cell(False, f"lives after {lived:.0f} s")
    return Cell(True, f"cut off after {lived:.1f} s ({how}{words})")


async def _stalled_with_defaults(run: Run, name: str) -> Cell:
    """Stop reading, and wait. In a quick run our limit is a second, and not the minute of the default."""

    async def look(child: Contender) -> Cell:
        key = new_key()
        raw = await connect(child.port, receive_buffer=65_536)
        begin = time.monotonic()
        try:
            await stop_reading(child, raw, key)
            how, at = await raw.wait_ended(10 if run.quick else STALL_PATIENCE)
        finally:
            raw.reset()
        report = await child.reported(key, "cancelled", "disconnected", seconds=1)
        told = f', handler told "{report["reason"]}"' if report and report.get("reason") else ""
        if how == "open":
            return Cell(False, f"open after {at - begin:.0f} s")
        limit = ", its limit set to 1 s" if run.quick and name == OURS else ""
        return Cell(True, f"cut off after {at - begin:.1f} s ({how}{told}){limit}")

    if run.quick and name == OURS:
        async with running(OURS, ours={"times": {"write_stall": 1}}) as child:
            return await look(child)
    return await look(run.shared[name])


# What is buffered. The kernel tells what its own buffers hold (`_raw.queued`); what is in none of them and
# not at the other end is in the server's memory.


async def _counted(child: Contender, key: str) -> int:
    raw = await connect(child.port)
    answer = await raw.ask(get(f"/count/{key}", "Connection: close"))
    raw.close()
    return int(answer.content)


async def _ahead(run: Run, name: str) -> Cell:
    """How far a handler gets ahead of a client that does not read, beyond what the kernel holds."""
    child, key = run.shared[name], new_key()
    raw = await connect(child.port, receive_buffer=65_536)
    try:
        await raw.send(get(f"/endless/{key}"))
        await raw.head()
        read = len(raw.take())
        local = raw.sock.getsockname()[1]
        before: object = None
        while True:
            unsent, _ = queued(child.port, local)
            _, unread = queued(local, child.port)
            now = (await _counted(child, key), unsent, unread)
            if now == before:
                break
            before = now
            await trio.sleep(0.5)
    finally:
        raw.reset()
    handed = now[0]
    hidden = max(0, handed - read - unsent - unread)
    kernel = (unsent + unread) / 1024
    return Cell(
        hidden == 0, f"{hidden / 1024:,.0f} KiB in the server's memory (the kernel has {kernel:,.0f})"
    )


async def _behind(run: Run, name: str) -> Cell:
    """How much of a body a server takes in that its handler does not read."""
    child = run.shared[name]
    raw = await connect(child.port)
    head = post("/deaf/30", 1 << 30)
    await raw.send(head)
    sent = 0
    try:
        while True:
            with trio.move_on_after(0.7) as scope:
                sent += await raw.sock.send(bytes(64 * 1024))
            if scope.cancelled_caught:
                break
        local = raw.sock.getsockname()[1]
        unsent, _ = queued(local, child.port)
        _, unread = queued(child.port, local)
    finally:
        raw.reset()
    hidden = max(0, sent - unsent - unread)
    kernel = (unsent + unread) / 1024
    return Cell(
        hidden <= 64 * 1024,
        f"{hidden / 1024:,.0f} KiB in the server's memory (the kernel has {kernel:,.0f})",
    )


async def _visible_speed(run: Run, name: str) -> Cell:
    """Read at a steady speed, and see what the handler thinks of it."""
    child, key = run.shared[name], new_key()
    raw = await connect(child.port, receive_buffer=65_536)
    await raw.send(get(f"/speed/{key}"))
    got, begin = 0, time.monotonic()
    while (now := time.monotonic()) < begin + (3 if run.quick else 5):
        while got < 2_000_000 * (now - begin):
            got += len(await raw.more())
        await trio.sleep(0.02)
    real = got / (time.monotonic() - begin)
    raw.reset()
    said = child.reports(key, "speed")
    rate, unsent = said[-1]["rate"], said[-1]["unsent"]
    return Cell(
        rate is not None and real / 2 < rate < real * 2 and unsent > 0,
        f"handler sees {(rate or 0) / 1e6:.1f} MB/s, and {unsent / 1024:,.0f} KiB unsent;"
        f" truly {real / 1e6:.1f} MB/s",
    )


_NO_RATE = {
    HYPERCORN: "no minimum rate to keep (hypercorn/config.py)",
    UVICORN: "no minimum rate to keep (uvicorn/config.py)",
    GRANIAN: "no minimum rate to keep (granian/server/common.py, granian/http.py)",
}
_NO_SPEED = {
    HYPERCORN: "nothing of it in the scope that an application gets (hypercorn/protocol/http_stream.py)",
    UVICORN: "nothing of it in the scope that an application gets (uvicorn/protocols/http/httptools_impl.py)",
    GRANIAN: "an application gets scope, `receive` and `send` only (granian/asgi.py); ASGI has no such field",
}

CLAIMS = [
    Claim(
        "minimum rate: a head at 10 B/s (ours: at least 100)", "N7, S12", partial(_too_slow, _slow_head, None)
    ),
    Claim("... a body at 10 B/s", "N7, S12", partial(_too_slow, _slow_body, "body too slow")),
    Claim(
        "... an answer read at 2 kB/s (ours: at least 20)",
        "N7, S13",
        partial(_too_slow, _slow_reader, "write stalled", receive_buffer=4096),
    ),
    Claim("... a body at 400 B/s is not cut off", "N7", _fast_enough, _NO_RATE),
    Claim("a head at 1 B/s is cut off, with defaults", "S6", _head_with_defaults, turn="long"),
    Claim(
        "a client that stopped reading is cut off, with defaults", "S9", _stalled_with_defaults, turn="long"
    ),
    Claim("a client that does not read: nothing is buffered behind the handler", "N14, S20", _ahead),
    Claim("a handler that does not read: at most one read is buffered before it", "N14, S20", _behind),
    Claim("a handler sees how fast its client reads", "N26", _visible_speed, _NO_SPEED, "alone"),
]
