"""A client that stops reading, a server that is asked to stop with half a second's grace: when does it end?

The client asks for a gigabyte, reads the head and a little more, and then nothing; once what lies unread has
stopped growing, the server is asked to shut down. The figure is the time from there until its process has
ended, for at most `--patience` seconds, and how the client's connection ended. uvicorn and granian take a
grace in whole seconds only, so theirs is one second.
"""

from __future__ import annotations

import argparse
import functools
import socket
import subprocess
import sys
import time

import _load
from _client import connect, get

GRACE = 0.5
SLACK = 0.5
"""Seconds beyond the grace that our process may take: the interpreter's own end, on a busy machine."""

ANSWER_BYTES = 1 << 30
SMALL_BUFFER = 65_536


def stall(sock: socket.socket) -> None:
    """Ask for more than any buffer holds, read the beginning, and wait until no more comes in."""
    sock.settimeout(10)
    sock.sendall(get(f"/big/{ANSWER_BYTES}/1"))
    begin = sock.recv(1000)
    if not begin.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"answered {begin[:60]!r}")
    unread = -1
    while (now := len(_peek(sock))) != unread:
        unread = now
        time.sleep(0.3)


def _peek(sock: socket.socket) -> bytes:
    return sock.recv(1 << 24, socket.MSG_PEEK)


def ending(sock: socket.socket) -> str:
    """Read what lies there and return how the connection ended: "FIN", "RST", or "open"."""
    sock.settimeout(1)
    try:
        while sock.recv(1 << 20):
            pass
    except TimeoutError:
        return "open"
    except ConnectionResetError:
        return "RST"
    return "FIN"


def run(report: _load.Report, given: argparse.Namespace, name: str) -> list[str]:
    """Stop one server; returns its cells."""
    with _load.running(name, grace=GRACE) as child, connect(child.port, receive_buffer=SMALL_BUFFER) as sock:
        stall(sock)
        begin = time.monotonic()
        child.stop()
        try:
            child.process.wait(given.patience)
        except subprocess.TimeoutExpired:
            status = None
        else:
            status = child.process.returncode
        elapsed = time.monotonic() - begin
        end = ending(sock) if status is not None else "open"
        log = child.log()
        if name == _load.OURS:
            limit = GRACE + SLACK
            report.claim(
                f"our process ends within {limit} s ({elapsed:.2f} s)",
                status is not None and elapsed <= limit,
                timed=True,
            )
            report.claim(f"it ends well (status {status}) {log[-200:]!r}", status == 0)
            report.claim(f"the cut answer does not look whole: the client gets a RST ({end})", end == "RST")
        asked = GRACE if name in (_load.OURS, _load.HYPERCORN) else max(1, round(GRACE))
        took = f"{elapsed:.2f} s" if status is not None else f"still running after {elapsed:.0f} s"
        return [f"{asked} s", took, "" if status is None else str(status), end]


def main() -> int:
    parser = _load.options(__doc__, servers=(_load.OURS, *_load.PEERS))
    parser.add_argument("--patience", type=float, default=15.0, help="seconds to wait for a server's end")
    given, servers = _load.begin(parser)
    if given.quick:
        given.patience = min(given.patience, 4.0)
    columns = ["grace", "ended after", "exit status", "client's connection"]
    report = _load.Report("shutdown with a client that has stopped reading", columns, quick=given.quick)
    _load.each(report, servers, functools.partial(run, report, given), "stalled")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
