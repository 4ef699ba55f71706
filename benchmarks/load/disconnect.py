"""The client goes away while its handler sleeps: is the handler cancelled, and how soon?

Each client asks for an answer that takes five seconds and closes its connection 0.1 s after that began, one
half by FIN, the other by RST. The handler says when it began, was cancelled, or came to its end; the clock is
the system's monotonic one, which client and server share. The peers run an ASGI application that, as most do,
waits for its work and does not ask `receive` at the same time whether anyone is still there.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import sys
import time

import _load
from _client import connect, get, reset

LATEST = 0.05
"""Seconds in which the median handler must be cancelled. Arbitrary: a few turns of a busy scheduler."""

BEFORE_CLOSE = 0.1


def reported(child: _load.Child, count: int, words: tuple[str, ...], seconds: float) -> list[_load.Facts]:
    """Wait until `count` reports of these kinds have come, or for `seconds`, and return those there are."""
    deadline = time.monotonic() + seconds
    while True:
        found = [said for said in child.reports if said["report"] in words]
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def leave(child: _load.Child, way: str, sleep: float) -> tuple[str, float | None]:
    """Be one client that leaves.

    Returns:
      What became of the handler ("cancelled", "finished", "nothing"), and how many seconds after the close.
    """
    child.reports.clear()
    sock = connect(child.port)
    sock.send(get(f"/sleep/{sleep}"))
    if not reported(child, 1, ("began",), 10.0):
        raise RuntimeError("the handler did not begin")
    time.sleep(BEFORE_CLOSE)
    closed = time.monotonic()
    sock.close() if way == "FIN" else reset(sock)
    ends = reported(child, 1, ("cancelled", "finished"), sleep + 5.0)
    if not ends:
        return "nothing", None
    return ends[0]["report"], ends[0]["at"] - closed


def run(report: _load.Report, given: argparse.Namespace, name: str) -> list[str]:
    """Leave one server some times in each way; returns its cells."""
    cells = []
    with _load.running(name) as child:
        for way in ("FIN", "RST"):
            ends = []
            for _ in range(given.clients):
                ends.append(leave(child, way, given.sleep))
                if ends[-1][0] != "cancelled":
                    break  # it will not be otherwise the next time, and takes seconds
            delays = [delay for end, delay in ends if end == "cancelled" and delay is not None]
            if delays:
                median, longest = map(_load.milliseconds, (statistics.median(delays), max(delays)))
                cells.append(f"cancelled {len(delays)} of {len(ends)}, after {median} / {longest} ms")
            else:
                end, delay = ends[0]
                cells.append(
                    f"{end} {delay:.1f} s later" if delay is not None else "nothing more was heard of it"
                )
            if name == _load.OURS:
                middle = statistics.median(delays) if delays else math.inf
                report.claim(f"{way}: every handler is cancelled", len(delays) == given.clients)
                report.claim(
                    f"{way}: within {LATEST} s in the median ({middle:.4f} s)", middle < LATEST, timed=True
                )
        if name == _load.OURS:
            report.claim(f"nothing in the server's log {child.log()[-200:]!r}", not child.log())
    return cells


def main() -> int:
    parser = _load.options(__doc__, servers=(_load.OURS, *_load.PEERS))
    parser.add_argument("--clients", type=int, default=20, help="that leave in each of the two ways")
    parser.add_argument("--sleep", type=float, default=5.0, help="seconds that a handler sleeps")
    given, servers = _load.begin(parser)
    if given.quick:
        given.clients, given.sleep = min(given.clients, 3), min(given.sleep, 1.0)
    latency = "median / max"
    report = _load.Report(
        f"the client leaves {BEFORE_CLOSE} s into a handler of {given.sleep} s",
        [f"by FIN ({latency})", f"by RST ({latency})"],
        quick=given.quick,
    )
    _load.each(report, servers, functools.partial(run, report, given), "disconnect")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
