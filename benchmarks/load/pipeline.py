"""One client pipelines 10,000 requests: every answer in its order, and what others notice of it.

The requests go out as fast as the server takes them, on one connection, while the answers are read; each asks
for a number of its own, so a lost, doubled or moved answer shows. One batch of 10,000 follows another until
the probe of the others, in a process of its own, has ended.
"""

from __future__ import annotations

import functools
import sys
import time

import _load
import trio
from _client import RECEIVE, Answers, connect, get
from _probe import Latencies, Probe, measure

LATEST = 0.1
"""Seconds in which 99 of 100 requests of the others must be answered. Arbitrary: at once, to a person."""


async def batch(sock: trio.socket.SocketType, first: int, count: int) -> str:
    """Pipeline `count` requests from number `first` on; return what was wrong with the answers, or ""."""
    requests = b"".join(get(f"/number/{number}") for number in range(first, first + count))
    answers, expected, wrong = Answers(), first, ""

    async def send() -> None:
        rest = memoryview(requests)
        while rest:
            rest = rest[await sock.send(rest) :]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while expected < first + count and not wrong:
            data = await sock.recv(RECEIVE)
            if not data:
                wrong = f"closed in place of answer {expected}"
            for answer in answers.feed(data):
                if not wrong and (answer.status, answer.content) != (200, b"%d\n" % expected):
                    wrong = f"answer {expected} is {answer.status} {answer.content[:40]!r}"
                expected += 1
        nursery.cancel_scope.cancel()
    if not wrong and not (answers.between and expected == first + count):
        wrong = "more answers than requests"
    return wrong


async def load(port: int, count: int, probe: Probe) -> tuple[int, float, str]:
    """Pipeline batches until the probe has ended.

    Returns:
      How many answers came, how many a second, and what was wrong, or "".
    """
    done, begin, wrong = 0, time.monotonic(), ""
    with trio.socket.from_stdlib_socket(connect(port)) as sock:
        while not wrong and (not done or not probe.over):
            try:
                wrong = await batch(sock, done, count)
            except* (OSError, ValueError) as group:
                wrong = repr(group.exceptions[0])
            done += count
    return done, done / (time.monotonic() - begin), wrong


def run(report: _load.Report, count: int, seconds: float, name: str) -> list[str]:
    """Pipeline to one server; returns its cells."""
    with _load.running(name) as child:
        measure(child.port, 0.2)  # what is made once is made
        quiet: Latencies = measure(child.port, seconds)
        probe = Probe(child.port, seconds)
        try:
            done, rate, wrong = trio.run(load, child.port, count, probe)
            beside = probe.result()
        finally:
            probe.kill()
        if name == _load.OURS:
            late = _load.percentile(beside.seconds, 99)
            report.claim(f"{done:,} answers, each the right one in its place {wrong}".strip(), not wrong)
            failures = quiet.failures + beside.failures
            report.claim(f"no request of the others fails {failures[:3] or ''}".strip(), not failures)
            report.claim(
                f"99 of 100 are answered within {LATEST} s ({late:.3f} s)", late < LATEST, timed=True
            )
            report.claim(f"nothing in the server's log {child.log()[-200:]!r}", not child.log())
        return [f"{done:,}", f"{rate:,.0f}", wrong or "right", quiet.cell(), beside.cell()]


def main() -> int:
    parser = _load.options(__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="of one batch, at least 1")
    parser.add_argument("--seconds", type=float, default=5.0, help="that the others are asked")
    given, servers = _load.begin(parser)
    count, seconds = given.requests, given.seconds
    if given.quick:
        count, seconds = min(count, 1000), 0.5
    latency = "p50 / p99 / max ms"
    columns = ["answers", "per second", "order", f"others alone: {latency}", f"beside it: {latency}"]
    report = _load.Report(
        f"{count:,} pipelined requests on one connection, 8 others", columns, quick=given.quick
    )
    _load.each(report, servers, functools.partial(run, report, count, seconds), "pipeline")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
