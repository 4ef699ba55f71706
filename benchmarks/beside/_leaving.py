"""Claims about clients that go away: handlers are cancelled, soon, with a reason, unless they say no."""

from __future__ import annotations

import statistics
import time

import trio
from _claims import Cell, Claim, Run
from _contender import GRANIAN, HYPERCORN, UVICORN, Contender, new_key
from _raw import connect, get

LATEST = 0.05
"""Seconds in which the median handler must be cancelled. Arbitrary: a few turns of a busy scheduler."""

BEFORE_CLOSE = 0.1
SLEEP = 2.0


async def _leave(child: Contender, path: str, way: str, patience: float) -> tuple[str, float, object]:
    """Be a client that leaves.

    Returns:
      What became of the handler ("cancelled", "finished", "nothing"), how many seconds after the close, and
      the reason that it was told.
    """
    key = new_key()
    raw = await connect(child.port)
    await raw.send(get(f"{path}/{key}"))
    await child.began(key)
    await trio.sleep(BEFORE_CLOSE)
    closed = time.monotonic()
    raw.close() if way == "FIN" else raw.reset()
    end = await child.reported(key, "cancelled", "finished", seconds=patience)
    if end is None:
        return "nothing", patience, None
    reasons = {end.get("told"), end.get("reason")} - {None}
    return end["report"], end["at"] - closed, " / ".join(sorted(map(str, reasons)))


async def _cancelled(run: Run, name: str) -> Cell:
    child = run.shared[name]
    delays, reasons = [], set()
    for _ in range(3 if run.quick else 15):
        for way in ("FIN", "RST"):
            what, delay, reason = await _leave(child, f"/sleep/{SLEEP}", way, SLEEP + 1)
            if what != "cancelled":
                ran = f"the handler ran to its end, {delay:.1f} s after the {way}"
                return Cell(False, ran if what == "finished" else "nothing more was heard of the handler")
            delays.append(delay)
            reasons.add(reason)
    median = statistics.median(delays)
    figures = (
        f"{len(delays)} of {len(delays)}, after {median * 1000:.1f} ms ({max(delays) * 1000:.1f} at most)"
    )
    return Cell(
        reasons == {"client disconnected"} and median < LATEST,
        f"{figures}, reason {', '.join(map(repr, reasons))}",
    )


async def _two_policies(run: Run, name: str) -> Cell:
    child = run.shared[name]
    first, cancelled_after, _ = await _leave(child, "/sleep/5", "FIN", 6)
    second, finished_after, _ = await _leave(child, "/finish/5/0.6", "FIN", 6)
    return Cell(
        (first, second) == ("cancelled", "finished") and cancelled_after < 0.5,
        f"one {first} after {cancelled_after * 1000:.1f} ms,"
        f" one in `finish` {second} its work {finished_after * 1000:.0f} ms after the client left",
    )


_NO_POLICY = {
    HYPERCORN: "no handler is cancelled by a disconnect, and nothing chooses that (hypercorn/config.py)",
    UVICORN: "no handler is cancelled by a disconnect, and nothing chooses that (uvicorn/config.py)",
    GRANIAN: "no handler is cancelled by a disconnect, and nothing chooses that (granian/server/common.py)",
}

CLAIMS = [
    Claim(
        "a handler is cancelled when its client goes away, and told why",
        "N4, S25, S26",
        _cancelled,
        turn="alone",
    ),
    Claim(
        "two policies in one server: cancelled, or finishing first",
        "N5, S27",
        _two_policies,
        _NO_POLICY,
        "alone",
    ),
]
