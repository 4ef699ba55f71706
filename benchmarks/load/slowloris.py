"""2,000 slow clients in three kinds while others are served: how long until each is cut off, and how.

A third dribbles a head, a third the content of a POST, a third reads a big answer: a byte, or 32 of the
answer's, every half second. Those who send make some progress all the time, which a minimum rate has to
notice; of those who read the server sees less, since their system opens its window in lumps. All are
connected before the clock of the others' requests begins. Each is watched until the server has cut it off,
for at most `--patience` seconds:

- *408*: an answer of that status came, and the connection ended behind it;
- *FIN* or *RST*: it ended without one.

Our server runs with its defaults; with `--quick`, with limits of about a second.
"""

from __future__ import annotations

import argparse
import collections
import functools
import random
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import _load
import trio
from _client import RECEIVE, connect, get
from _probe import Latencies, Probe, measure

KINDS = ("head", "body", "reading")
BEAT = 0.5
"""Seconds between a client's bytes, give or take a tenth; also how exactly its end is seen."""

GULP = 32
"""Bytes that a slow reader takes: 64 a second, a quarter of the 240 that our server asks for."""

ANSWER_BYTES = 64 << 20
SMALL_BUFFER = 4096
"""SO_RCVBUF of the slow readers: the server is not to be rid of the answer to the system's buffers."""

LATEST = 0.25
"""Seconds in which 99 of 100 ordinary requests must be answered. Arbitrary: people begin to notice."""

QUICK_CONFIG = {"times": {"head": 2.0, "head_stall": 1.0, "body_stall": 1.0, "write_stall": 1.0}}

OPENINGS = {
    "head": b"GET /hello HTTP/1.1\r\nHost: slow\r\nX-Slow: ",
    "body": b"POST /sink HTTP/1.1\r\nHost: slow\r\nContent-Length: 1000000\r\n\r\n",
    "reading": get(f"/big/{ANSWER_BYTES}/1"),
}

# linux/tcp_states.h: the peer has closed its direction (FIN); the connection is no more (RST).
CLOSE_WAIT, CLOSED = 8, 7


@dataclass(slots=True)
class End:
    """How a slow client was cut off: "408", "FIN", "RST", another status; "never" when it was not."""

    how: str
    seconds: float


def tcp_state(sock: trio.socket.SocketType) -> int:
    """Return the state of a connection, also while there is content before its end that nobody has read."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


async def slow_client(
    port: int, kind: str, seed: float, ends: list[End], patience: float, ready: trio.Event
) -> None:
    """Be slow until the server has had enough; add to `ends` how that went."""
    rng = random.Random(seed)
    begin = time.monotonic()
    seen = b""
    how = "never"
    buffer = SMALL_BUFFER if kind == "reading" else None
    with trio.socket.from_stdlib_socket(connect(port, receive_buffer=buffer)) as sock:
        await sock.send(OPENINGS[kind])
        ready.set()
        while time.monotonic() - begin < patience:
            await trio.sleep(BEAT * rng.uniform(0.9, 1.1))
            state = tcp_state(sock)
            try:
                if state not in (CLOSE_WAIT, CLOSED):
                    if kind == "reading":
                        with trio.move_on_after(BEAT):
                            await sock.recv(GULP)
                    else:
                        await sock.send(b"a")
                    continue
                if kind != "reading":
                    seen = await sock.recv(RECEIVE)
            except OSError:
                state = CLOSED
            how = "FIN" if state == CLOSE_WAIT else "RST"
            if seen.startswith(b"HTTP/1.1 "):
                how = seen[9:12].decode()
            break
        ends.append(End(how, time.monotonic() - begin))


async def load(
    port: int, counts: Mapping[str, int], seconds: float, patience: float, seed: int
) -> tuple[dict[str, list[End]], Latencies]:
    """Let slow clients at a server, measure others meanwhile, and wait until all have been cut off."""
    ends: dict[str, list[End]] = {kind: [] for kind in counts}
    async with trio.open_nursery() as nursery:
        rng = random.Random(seed)
        for kind, count in counts.items():
            for _ in range(count):
                ready = trio.Event()
                nursery.start_soon(slow_client, port, kind, rng.random(), ends[kind], patience, ready)
                await ready.wait()
        probe = await trio.to_thread.run_sync(Probe, port, seconds)
        try:
            with_them = await trio.to_thread.run_sync(probe.result)
        finally:
            probe.kill()
    return ends, with_them


def cell(ends: list[End]) -> str:
    """Return how clients of one kind ended: "667 by 408, after 20.1 / 20.6 s" (median, latest)."""
    kinds = collections.Counter(end.how for end in ends)
    ways = ", ".join(
        f"{count} by {how}" if how != "never" else f"{count} NEVER" for how, count in kinds.most_common()
    )
    over = [end.seconds for end in ends if end.how != "never"]
    if not over:
        return ways
    return f"{ways}, after {_load.percentile(over, 50):.1f} / {max(over):.1f} s"


def run(report: _load.Report, given: argparse.Namespace, name: str) -> list[str]:
    """Let the slow clients at one server; returns its cells."""
    counts = {kind: given.clients // len(KINDS) for kind in KINDS}
    counts[KINDS[0]] += given.clients % len(KINDS)
    config: Mapping[str, Any] = QUICK_CONFIG if given.quick else {}
    with _load.running(name, ours=config) as child:
        measure(child.port, 0.2)  # what is made once is made
        before = child.settled(child.facts())
        alone = measure(child.port, given.seconds)
        ends, beside = trio.run(load, child.port, counts, given.seconds, given.patience, given.seed)
        after = child.settled(before)
        if name == _load.OURS:
            for kind, of_kind in ends.items():
                never = sum(end.how == "never" for end in of_kind)
                report.claim(
                    f"{kind}: all are cut off within {given.patience:.0f} s ({never} are not)", not never
                )
            failures = alone.failures + beside.failures
            late = _load.percentile(beside.seconds, 99)
            report.claim(f"no ordinary request fails {failures[:3] or ''}".strip(), not failures)
            report.claim(
                f"99 of 100 are answered within {LATEST} s ({late:.3f} s)", late < LATEST, timed=True
            )
            for what in ("tasks", "fds"):
                report.claim(f"{what} as before ({before[what]}, {after[what]})", after[what] <= before[what])
            report.claim(f"nothing in the server's log {child.log()[-200:]!r}", not child.log())
    return [alone.cell(), beside.cell(), *(cell(ends[kind]) for kind in KINDS)]


def main() -> int:
    parser = _load.options(__doc__)
    parser.add_argument("--clients", type=int, default=2000, help="slow ones, at least 3")
    parser.add_argument("--seconds", type=float, default=10.0, help="that ordinary clients are measured")
    parser.add_argument(
        "--patience", type=float, default=150.0, help="seconds that a slow client stays at most"
    )
    given, servers = _load.begin(parser, descriptors=parser.parse_args().clients + 100)
    if given.quick:
        given.clients, given.seconds, given.patience = min(given.clients, 30), 0.5, min(given.patience, 8.0)
    latency = "p50 / p99 / max ms"
    columns = [f"others alone: {latency}", f"with them: {latency}", *(f"slow {kind}" for kind in KINDS)]
    report = _load.Report(f"{given.clients:,} slow clients, 8 ordinary ones", columns, quick=given.quick)
    _load.each(report, servers, functools.partial(run, report, given), "slowloris")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
