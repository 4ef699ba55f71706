"""What the load scripts share: a server in a child process that can be asked, options, claims and the report.

Importing this finds the checkout and its benchmark harness, so it comes before everything else of the
project.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
if str(FOLDER.parent) not in sys.path:
    sys.path.append(str(FOLDER.parent))  # behind this folder, whose names win

import _harness  # noqa: E402 - the line above is what makes it found

harness = _harness

HOST = "127.0.0.1"
BACKLOG = 20_000
"""Connections that may wait to be accepted, in each server alike; the system cuts it to its own limit."""

OURS, HYPERCORN, UVICORN, GRANIAN = "ours", "hypercorn", "uvicorn", "granian"
PEERS = (HYPERCORN, UVICORN, GRANIAN)
ANSWER_SECONDS = 30.0
"""How long a server may take to answer its control wire. Arbitrary: far above what a busy one needs."""

Facts = dict[str, Any]


class Child:
    """A server in a child process, on a CPU of its own, as its parent sees it.

    Attributes:
      name: of the server.
      port: where it listens, on the loopback interface.
      process: the child; it leads a process group of its own.
      reports: what its handlers said, in order (see `_apps.report`).
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int, log: Any) -> None:
        self.name = name
        self.port = port
        self.process = process
        self.reports: list[Facts] = []
        self._log = log
        self._answers: queue.SimpleQueue[Facts] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if said["report"] == "facts":
                self._answers.put(said)
            else:
                self.reports.append(said)

    def _tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()

    def facts(self) -> Facts:
        """Return what the server holds now, after a garbage collection.

        Returns:
          "rss" in bytes, "fds", "threads", "tasks" and "objects" (what the collector tracks); the last two
          None for a server whose workers are other processes.

        Raises:
          RuntimeError: it did not answer within `ANSWER_SECONDS`.
        """
        self._tell("facts")
        try:
            return self._answers.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise RuntimeError(f"{self.name} does not answer; its log: {self.log()!r}") from None

    def settled(self, before: Facts, *, seconds: float = 10.0) -> Facts:
        """Return the facts once tasks and descriptors are down to what they were, or after `seconds` anyway.

        A server notices the last client's close in its own time, and lingers with some.
        """
        deadline = time.monotonic() + seconds
        while True:
            now = self.facts()
            still = any(now[what] is not None and now[what] > before[what] for what in ("tasks", "fds"))
            if not still or time.monotonic() > deadline:
                return now
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask the server to shut down with the grace that it was started with; does not wait."""
        self._tell("stop")

    def log(self) -> str:
        """Return what the server wrote to its standard error so far."""
        self._log.seek(0)
        text: str = self._log.read()
        return text.strip()


@contextmanager
def running(
    name: str, *, grace: float = 1.0, idle: float | None = None, ours: Mapping[str, Any] | None = None
) -> Iterator[Child]:
    """Run a server for the length of a block, from when it accepts connections; then end its process group.

    Args:
      name: `OURS` or one of `PEERS`.
      grace: seconds for `Child.stop`; some servers round it up to a whole one.
      idle: seconds that a connection may be idle; None for the server's default.
      ours: attributes of our `ServerConfig`, a group of them as a mapping; not looked at by peers.

    Raises:
      Absent: the server's library is not there.
      RuntimeError: it did not listen within `harness.START_SECONDS`.
    """
    settings = {"grace": grace, "ours": dict(ours or {})} | ({} if idle is None else {"idle": idle})
    port = harness.free_port()
    cpu, _ = harness.cpus()
    command = [sys.executable, str(FOLDER / "_server.py"), "--server", name, "--port", str(port)]
    command += ["--settings", json.dumps(settings), *([] if cpu is None else ["--cpu", str(cpu)])]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        child = Child(name, process, port, log)
        try:
            _wait_until_it_listens(child)
            yield child
        finally:
            harness.end_at_once(process)  # whatever was to be seen of it has been seen
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


def _wait_until_it_listens(child: Child) -> None:
    deadline = time.monotonic() + harness.START_SECONDS
    while True:
        try:
            socket.create_connection((HOST, child.port), timeout=1).close()
            return
        except OSError:
            status = child.process.poll()
        last = child.log().rpartition("\n")[2]
        if status == harness.EXIT_ABSENT:
            raise harness.Absent(last)
        if status is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{child.name} does not listen: {last or 'no output'}")
        time.sleep(0.05)


# The script around it.


@dataclass(slots=True)
class Claim:
    """What must hold, in words, and whether it does; `is_judged` says whether it has to."""

    text: str
    holds: bool
    is_judged: bool = True


@dataclass(slots=True)
class Report:
    """What a script has found: a line of the table for each contender, and the claims.

    Attributes:
      title: of the table.
      columns: heads of all columns but the first, which names the contender.
      rows: the cells of each contender.
      notes: why a contender has no cells.
      remarks: what else is worth a line below the table.
      claims: those of our own server; what a peer does is a figure, and never a failure.
      quick: the sizes are tiny, so that what depends on how fast the machine is says nothing.
    """

    title: str
    columns: Sequence[str]
    rows: dict[str, Sequence[str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    quick: bool = False

    def claim(self, text: str, holds: bool, *, timed: bool = False) -> None:
        """Add a claim; one that is `timed` is not judged in a quick run."""
        self.claims.append(Claim(text, holds, is_judged=not (timed and self.quick)))

    def close(self) -> int:
        """Print the table and the claims; return the script's exit status."""
        names = [*self.rows, *(name for name in self.notes if name not in self.rows)]
        results = {name: harness.Result(name, note=self.notes.get(name, "")) for name in names}
        harness.progress("")
        print(harness.table(self.title, self.columns, results, lambda result: self.rows[result.name]))
        for remark in self.remarks:
            print(f"- {remark}")
        for claim in self.claims:
            verdict = (
                "holds" if claim.holds else "DOES NOT HOLD" if claim.is_judged else "not in this short run"
            )
            print(f"- {verdict}: {claim.text}")
        failed = any(result.failed for result in results.values())
        return 1 if failed or not all(claim.holds or not claim.is_judged for claim in self.claims) else 0


def options(description: str | None, *, servers: Sequence[str] = (OURS,)) -> argparse.ArgumentParser:
    """Return a parser with what every load script has: `--quick`, `--seed`, `--server`."""
    parser = argparse.ArgumentParser(
        description=(description or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--seed", type=int, help="of all random choices; by default a new one each run")
    parser.add_argument(
        "--server", default=",".join(servers), help=f"comma-separated, of {', '.join((OURS, *PEERS))}"
    )
    return parser


def begin(parser: argparse.ArgumentParser, *, descriptors: int = 0) -> tuple[argparse.Namespace, list[str]]:
    """Read the options, print the machine and the seed, and take the CPU that the server does not have.

    Args:
      parser: from `options`, with the script's own added.
      descriptors: how many a process is going to need; the limit is raised as far as it goes.

    Returns:
      The options, with a `seed` in any case, and the names of the servers.
    """
    given = parser.parse_args()
    servers = given.server.split(",")
    if unknown := set(servers) - {OURS, *PEERS}:
        parser.error(f"no such server: {', '.join(unknown)}")
    if not Path("/proc/self/statm").exists():
        parser.error("the load scripts read Linux's /proc, and this system has none")
    if given.seed is None:
        given.seed = random.SystemRandom().randrange(1 << 32)
    peers = [] if servers == [OURS] else ["hypercorn", "uvicorn", "httptools", "uvloop", "granian"]
    print(harness.versions("trio", "trio-http", *peers))
    server_cpu, own_cpu = harness.cpus()
    if own_cpu is None:
        print("not pinned")
    else:
        os.sched_setaffinity(0, {own_cpu})
        print(f"server on CPU {server_cpu}, clients on CPU {own_cpu}")
    allowed = raise_descriptor_limit()
    if allowed < descriptors:
        print(f"LIMITED: {descriptors} descriptors are wanted, and a process may have {allowed} (ulimit -Hn)")
    print(f"seed {given.seed}\n", flush=True)
    return given, servers


def raise_descriptor_limit() -> int:
    """Raise the limit of open descriptors, also for children, as far as it goes; return what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


def each(report: Report, servers: Sequence[str], measure: Callable[[str], Sequence[str]], label: str) -> None:
    """Measure the servers one after another; one that breaks becomes a line of the table that says so.

    Args:
      report: takes the cells.
      servers: names.
      measure: given a name, returns its cells.
      label: what the progress line names.
    """
    for name in servers:
        harness.progress(f"{label}: {name}")
        try:
            report.rows[name] = measure(name)
        except Exception as exc:  # noqa: BLE001 - a failure is a row of the table, not the run's end
            report.notes[name] = harness.describe(exc)


# Figures.


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of the values do not exceed; 0.0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def milliseconds(seconds: float) -> str:
    """Return a time for a cell, with about two figures: "0.31", "4.2", "120"."""
    value = seconds * 1000
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def mebibytes(count: int) -> str:
    """Return a number of bytes for a cell."""
    return f"{count / (1 << 20):.1f} MiB"
