"""A flood of connects while others are served: what 8 kept connections notice of it.

The flood is one process that opens and closes connections as fast as it can, in two ways: connect and close,
and connect, request and close without waiting for the answer. A probe in another process asks on kept
connections meanwhile. Afterwards the server must answer a new connection, and hold no more tasks and
descriptors than before.
"""

from __future__ import annotations

import errno
import functools
import socket
import sys
import time

import _load
from _apps import HELLO
from _client import connect, exchange, get
from _probe import Probe, measure

LONGEST = 1.0
"""Seconds that no kept connection's request may wait in a flood. Arbitrary: people notice a second."""


def flood(port: int, request: bytes, probe: Probe) -> float:
    """Open and close connections until the probe has ended; return how many a second.

    Args:
      port: the server's.
      request: sent on each before it is closed; b"" for nothing.
      probe: ends it.
    """
    count, begin = 0, time.monotonic()
    while not probe.over:
        for _ in range(100):
            with socket.socket() as sock:
                # Non-blocking: on the loopback interface the handshake is over when the call returns, and
                # with the server's queue full nobody waits for the retry.
                sock.setblocking(False)
                code = sock.connect_ex((_load.HOST, port))
                if code == errno.EADDRNOTAVAIL:
                    raise RuntimeError("no local port is left: the flood is faster than the system forgets")
                try:
                    if request:
                        sock.send(request)
                    else:
                        sock.getpeername()
                except OSError:
                    continue  # the queue was full
            count += 1
    return count / (time.monotonic() - begin)


def run(report: _load.Report, seconds: float, name: str) -> list[str]:
    """Flood one server; returns its cells."""
    with _load.running(name) as child:
        measure(child.port, 0.2)  # what is made once is made
        before = child.settled(child.facts())
        quiet = measure(child.port, seconds)
        seen, rates = [quiet], []
        for request in (b"", get("/hello")):
            probe = Probe(child.port, seconds)
            try:
                rates.append(flood(child.port, request, probe))
                seen.append(probe.result())
            finally:
                probe.kill()
        with connect(child.port) as sock:
            answer = exchange(sock, get("/hello"))
        after = child.settled(before)
        if name == _load.OURS:
            failures = [line for latencies in seen for line in latencies.failures]
            longest = max(max(latencies.seconds, default=0.0) for latencies in seen[1:])
            right = (answer.status, answer.content) == (200, HELLO)
            report.claim(f"no request on a kept connection fails {failures[:3] or ''}".strip(), not failures)
            report.claim(f"none of them waits {LONGEST} s ({longest:.3f} s)", longest < LONGEST, timed=True)
            report.claim("a new connection is served after the floods", right)
            for what in ("tasks", "fds"):
                report.claim(f"{what} as before ({before[what]}, {after[what]})", after[what] <= before[what])
            report.claim(f"nothing in the server's log {child.log()[-200:]!r}", not child.log())
        return [
            quiet.cell(),
            *(
                cell
                for rate, one in zip(rates, seen[1:], strict=True)
                for cell in (f"{rate:,.0f}", one.cell())
            ),
        ]


def main() -> int:
    parser = _load.options(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each flood")
    given, servers = _load.begin(parser)
    seconds = min(given.seconds, 0.5) if given.quick else given.seconds
    latency = "p50 / p99 / max ms"
    columns = [f"quiet: {latency}", "connects/s", latency, "with request/s", latency]
    report = _load.Report("flood of connects, 8 kept connections beside it", columns, quick=given.quick)
    _load.each(report, servers, functools.partial(run, report, seconds), "flood")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
