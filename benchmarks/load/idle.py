"""10,000 idle connections: the memory of each, and what 64 busy ones beside them lose of their throughput.

Every idle connection has had one exchange, is kept alive, and is asked once more at the end, when it must
still answer. Memory is the server's resident set (after a garbage collection) with them, less that without,
divided by their number; what the kernel holds for a socket is not in it. Before the first figure 200
connections come and go, so that no connection pays for what is made once.

The throughput is wrk's, against two processes of the same server, one with the idle connections and one
without, in interleaved rounds. The limit on idle time is lifted to an hour for this, for our server and its
peers alike; it is still kept, so what watching 10,000 deadlines costs is in the figures.
"""

from __future__ import annotations

import functools
import re
import socket
import sys
from contextlib import ExitStack
from typing import Any

import _load
from _apps import HELLO
from _client import connect, exchange, get

harness = _load.harness

BUSY = 64
WARM = 200
IDLE_SECONDS = 3600
LEAST_SHARE = 0.8
"""Of the throughput without idle connections."""


def ask(sock: socket.socket) -> None:
    """Have one exchange, and hold the answer to what it must be."""
    answer = exchange(sock, get("/hello"))
    if (answer.status, answer.content) != (200, HELLO):
        raise ValueError(f"a wrong answer: {answer!r}")


def wrk(port: int, seconds: float, _result: Any) -> float:
    """Run wrk once and return requests a second.

    Raises:
      ValueError: an answer was not 2xx or 3xx, or a connection failed, was cut, or timed out.
    """
    url = f"http://{_load.HOST}:{port}/hello"
    command = ["wrk", "-t1", f"-c{BUSY}", f"-d{max(1, round(seconds))}s", url]
    output = harness.run_pinned(command, harness.cpus()[1], timeout=seconds + 60)
    for trouble in ("Non-2xx or 3xx responses: .*", "Socket errors: .*"):
        if found := re.search(trouble, output):
            raise ValueError(found.group())
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if rate is None:
        raise ValueError(f"cannot read wrk's output: {output!r}")
    return float(rate[1])


def measure(report: _load.Report, count: int, rounds: int, seconds: float, name: str) -> list[str]:
    """Measure one server; returns its cells."""
    with ExitStack() as stack:
        crowded = stack.enter_context(_load.running(name, idle=IDLE_SECONDS))
        alone = stack.enter_context(_load.running(name, idle=IDLE_SECONDS))
        for child in (crowded, alone):
            for _ in range(WARM):
                with connect(child.port) as sock:
                    ask(sock)
        before = crowded.settled(crowded.facts())
        idle = []
        for _ in range(count):
            sock = stack.enter_context(connect(crowded.port))
            ask(sock)
            idle.append(sock)
        each = (crowded.facts()["rss"] - before["rss"]) / count

        without, beside = harness.Result("without"), harness.Result("beside")
        samplers = {
            "without": functools.partial(wrk, alone.port, seconds),
            "beside": functools.partial(wrk, crowded.port, seconds),
        }
        harness.interleave(
            samplers, rounds, {"without": without, "beside": beside}, label=f"{name}: wrk beside {count} idle"
        )
        for result in (without, beside):
            if result.note:
                raise RuntimeError(result.note)

        alive = 0
        for sock in idle:
            try:
                ask(sock)
                alive += 1
            except (OSError, ValueError):
                pass
    share = beside.ratio(without)
    assert share is not None
    if name == _load.OURS:
        report.claim(f"all {count:,} idle connections are alive at the end ({alive:,})", alive == count)
        report.claim(
            f"{BUSY} busy ones keep {LEAST_SHARE:.0%} of their throughput ({share:.0%})",
            share >= LEAST_SHARE,
            timed=True,
        )
    return [
        f"{each / 1024:.1f} KiB",
        f"{alive:,}",
        f"{without.median:,.0f}",
        f"{beside.median:,.0f}",
        f"{share:.0%}",
        f"±{max(without.spread, beside.spread):.0f}%",
    ]


def main() -> int:
    parser = _load.options(__doc__)
    parser.add_argument("--connections", type=int, default=10_000, help="idle ones, at least 1")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of wrk, at least 1")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one round of wrk, at least 1")
    # Some descriptors are the process's own, and wrk's come on top in the server.
    given, servers = _load.begin(parser, descriptors=parser.parse_args().connections + BUSY + 100)
    count, rounds, seconds = given.connections, given.rounds, given.seconds
    if given.quick:
        count, rounds, seconds = min(count, 200), 1, 1.0
    columns = ["memory each", "alive", "requests/s without", "beside them", "share", "spread"]
    report = _load.Report(f"{count:,} idle connections, {BUSY} busy ones", columns, quick=given.quick)
    _load.each(report, servers, functools.partial(measure, report, count, rounds, seconds), "idle")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
