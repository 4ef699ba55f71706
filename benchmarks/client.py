"""Microseconds a request of one client core, beside httpx, httpx2, httpcore and aiohttp, in several parts.

| part | what is measured |
|---|---|
| small | small GETs by 1, 16, 256 and 1,000 tasks that have a connection each, from nginx (`return 200`) |
| tls | the same over TLS, by 1 and 64 tasks; nginx has a certificate made for the run |
| down | one content of 1 GiB from nginx, and the most memory that the client's process had |
| up | the same sent, with a Content-Length, to a raw server that counts it |
| idle | small GETs by one task with 10,000 idle connections in the pool, and with 10, from the raw server |
| waiters | small GETs by 1,010 tasks for 10 connections, so that 1,000 wait, and by 20, so that 10 do |

The server has a CPU of its own; without nginx, the raw trio server of `server.py` stands in for "small". Each
sample is a new process of one client on the other CPU, and clients go in turn, round by round; in "idle" and
"waiters" one process measures few and many in turn. Each answer must be what it has to be. Beside the time on
the wall stands the CPU time of the client's process, user and system together: where both CPUs go to sleep
between two packets, the wall shows mostly what it takes to wake them.

At the end stand the targets and whether they hold. They do not change the exit status, and neither does a
peer that breaks: it is a row that says how.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "client"
sys.path.insert(0, str(FOLDER))

import _harness as harness  # noqa: E402 - the line above comes before what it makes found
import _targets as targets  # noqa: E402
import server  # noqa: E402
from _clients import AIOHTTP_UVLOOP, CLIENTS, HTTPX, OURS, RAW  # noqa: E402
from _measure import FEW, ORIGINS  # noqa: E402

PARTS = ("small", "tls", "down", "up", "idle", "waiters")
GIBIBYTE = 1 << 30
IDLE = (1_000, 10_000)
"""Idle connections: the smaller number also shows how it goes with peers that do not get to the larger."""

WAITERS = 1_000
POOL_SECONDS = 60.0
"""How long one client may take in a part about the pool, besides its rounds. Arbitrary: several times what
those need whose cost does not grow with the pool; the others would take half an hour to fill theirs.
"""

SEQUENTIAL, AT_256, POOL = 8.0, 20.0, 1.2
"""The targets: so many times as fast as httpx on trio by one task and by 256; what many may cost of few."""

Results = dict[str, harness.Result]


@dataclass(slots=True)
class Run:
    """What all parts of one run share.

    Attributes:
      only: of the clients, as `harness.chosen` takes it.
      rounds, seconds: of each case.
      length: bytes of a large content.
      client_cpu, server_cpu: None where they are not pinned.
      found: what was measured, by the name of the case.
    """

    only: str
    rounds: int
    seconds: float
    length: int
    client_cpu: int | None
    server_cpu: int | None
    found: dict[str, Results] = field(default_factory=dict)

    def measure(self, name: str, *, timeout: float, **asked: Any) -> dict[str, Any]:
        """Run one client once, in a child process; see `_measure.py`."""
        words = json.dumps({"client": name, **asked})
        command = [sys.executable, str(FOLDER / "_measure.py"), words]
        figures: dict[str, Any] = json.loads(
            harness.run_pinned(command, self.client_cpu, timeout=timeout).splitlines()[-1]
        )
        return figures

    def results(self, *, without: Sequence[str] = ()) -> Results:
        return {
            name: harness.Result(name)
            for name in CLIENTS
            if harness.chosen(self.only, name) and name not in without
        }

    def interleave(
        self, title: str, *, without: Sequence[str] = (), timeout: float = 60.0, **asked: Any
    ) -> Results:
        """Measure all clients in turn, round by round; returns what is also in `found`."""
        results = self.found[title] = self.results(without=without)

        def sample(name: str, result: harness.Result) -> float:
            figures = self.measure(name, timeout=self.seconds + timeout, **asked)
            wall: float = figures.pop("wall")
            for what, figure in figures.items():
                result.extra.setdefault(what, []).append(figure)
            return wall

        samplers: dict[str, Callable[[harness.Result], float]] = {
            name: functools.partial(sample, name) for name in results
        }
        harness.interleave(samplers, self.rounds, results, label=title)
        return results

    @contextmanager
    def raw_server(self) -> Iterator[int]:
        """Run the raw server for the length of a block, and give its port."""
        port = harness.free_port()
        with harness.serving(targets.raw_server(port, ORIGINS), port, self.server_cpu):
            yield port


def of(result: harness.Result | None, what: str) -> harness.Result | None:
    """Return a result whose figures are those that another one has besides, under the name `what`."""
    if result is None or not result.figures or what not in result.extra:
        return None
    return harness.Result(result.name, result.extra[what])


def say(text: str) -> None:
    harness.progress("")
    print(text, flush=True)


# The parts.


def small_gets(run: Run, url: str, tasks: Sequence[int], trust: str | None = None) -> None:
    """Parts "small" and "tls"."""
    for number in tasks:
        label = ("TLS, " if trust else "") + ("1 task" if number == 1 else f"{number:,} tasks")
        results = run.interleave(
            label, measure="small", url=url, tasks=number, seconds=run.seconds, trust=trust
        )
        say(small_table(f"client, {label}", results))


def small_table(title: str, results: Results) -> str:
    """Return the table of one number of tasks. Ratios are of times: 2.00x took twice as long."""
    peers = {RAW: "raw trio", OURS: "ours", AIOHTTP_UVLOOP: "aiohttp, uvloop"}

    def row(result: harness.Result) -> list[str]:
        cpu, base = of(result, "cpu"), of(results.get(OURS), "cpu")
        assert cpu is not None
        ratios = [harness.times(result.ratio(results.get(peer))) for peer in peers]
        cells = [f"{result.median:.1f}", f"±{result.spread:.0f}%", f"{1e6 / result.median:,.0f}", *ratios]
        return [*cells, f"{cpu.median:.1f}", harness.times(cpu.ratio(base))]

    columns = ["µs/request", "spread", "requests/s", *(f"of {peer}" for peer in peers.values())]
    return harness.table(title, [*columns, "CPU µs/request", "CPU of ours"], results, row)


def large_content(run: Run, which: str, url: str) -> None:
    """Parts "down" and "up"."""
    gibibytes = run.length / GIBIBYTE
    title = f"{gibibytes:g} GiB {which}"
    # aiohttp and httpx can take half a minute for 1 GiB.
    results = run.interleave(title, timeout=240 * gibibytes + 30, measure=which, url=url, length=run.length)
    say(large_table(title, results))


def large_table(title: str, results: Results) -> str:
    """Return the table of one direction. Megabytes are of 1,000,000 bytes."""

    def row(result: harness.Result) -> list[str]:
        rate = (1 << 20) / result.median  # bytes a microsecond, which is megabytes a second
        cpu = of(result, "cpu")
        assert cpu is not None
        ratios = [harness.times(result.ratio(results.get(peer))) for peer in (RAW, OURS)]
        peaks = [f"{max(result.extra[what]) / (1 << 20):.1f}" for what in ("peak", "grown")]
        return [f"{rate:,.0f}", f"±{result.spread:.0f}%", *ratios, f"{cpu.median:,.0f}", *peaks]

    columns = ["MB/s", "spread", "time of raw trio", "of ours", "CPU µs/MiB", "peak MiB", "grown by MiB"]
    return harness.table(title, columns, results, row)


def pool_size(run: Run, title: str, **asked: Any) -> None:
    """Parts "idle" and "waiters": `FEW` and many, in turn within one process."""
    smaller = run.found.get(idle_title(IDLE[0]), {}) if asked["measure"] == "idle" else {}
    results = run.found[title] = run.results(without=[RAW])
    for name, result in results.items():
        harness.progress(f"{title}: {name}")
        if name in smaller and smaller[name].note:
            result.note = f"not tried: it did not get through {IDLE[0]:,}"
            continue
        try:
            seconds = POOL_SECONDS + 4 * run.rounds * run.seconds
            figures = run.measure(name, timeout=seconds, rounds=run.rounds, seconds=run.seconds, **asked)
        except Exception as exc:  # noqa: BLE001 - a failure is a row of the table, not the run's end
            result.note = harness.describe(exc)
            continue
        result.figures = [once["wall"] for once in figures["many"]]
        result.extra = {
            "few": [once["wall"] for once in figures["few"]],
            "few cpu": [once["cpu"] for once in figures["few"]],
            "cpu": [once["cpu"] for once in figures["many"]],
        }
    say(pool_table(title, results))


def pool_table(title: str, results: Results) -> str:
    """Return the table of one size of a pool."""

    def row(result: harness.Result) -> list[str]:
        few, few_cpu, cpu = (statistics.median(result.extra[what]) for what in ("few", "few cpu", "cpu"))
        wall, on_cpu = pool_ratios(result)
        cells = [f"{few:.1f}", f"{result.median:.1f}", harness.times(wall)]
        return [*cells, f"{few_cpu:.1f}", f"{cpu:.1f}", harness.times(on_cpu)]

    columns = [f"µs with {FEW}", "with many", "ratio", f"CPU µs with {FEW}", "with many", "ratio"]
    return harness.table(title, columns, results, row)


def pool_ratios(result: harness.Result) -> tuple[float | None, float | None]:
    """Return how many times as long a request takes with many as with few: by the wall, and by CPU time."""
    cpu = of(result, "cpu")
    return result.ratio(of(result, "few")), None if cpu is None else cpu.ratio(of(result, "few cpu"))


# The targets.


@dataclass(frozen=True, slots=True)
class Target:
    """What is to hold of ours.

    Attributes:
      text: in words.
      wanted: the ratio that has to be reached, or not exceeded where `at_most`.
      wall, cpu: what was found; None: it was not measured.
    """

    text: str
    wanted: float
    wall: float | None
    cpu: float | None
    at_most: bool = False

    def __str__(self) -> str:
        if self.wall is None:
            return f"- not measured: {self.text}"
        holds = self.wall <= self.wanted if self.at_most else self.wall >= self.wanted
        found = f"{harness.times(self.wall)} by the wall, {harness.times(self.cpu) or '?'} by CPU time"
        return f"- {'holds' if holds else 'does not hold'}: {self.text}: {found}"


def all_targets(run: Run, tasks: Sequence[int]) -> list[Target]:
    """Return what is to hold, with what was found."""

    def times_of(title: str, peer: str) -> tuple[float | None, float | None]:
        results = run.found.get(title, {})
        theirs, ours = results.get(peer), results.get(OURS)
        cpu = of(theirs, "cpu")
        wall = None if theirs is None else theirs.ratio(ours)
        return wall, None if cpu is None else cpu.ratio(of(ours, "cpu"))

    found = []
    for wanted, title in ((SEQUENTIAL, "1 task"), (AT_256, "256 tasks")):
        text = f"{wanted:g}x as fast as {HTTPX}, {title}"
        found.append(Target(text, wanted, *times_of(title, HTTPX)))
    for number in tasks:
        title = "1 task" if number == 1 else f"{number:,} tasks"
        found.append(Target(f"ahead of {AIOHTTP_UVLOOP}, {title}", 1.0, *times_of(title, AIOHTTP_UVLOOP)))
    for title in (idle_title(IDLE[-1]), WAITERS_TITLE):
        ours = run.found.get(title, {}).get(OURS)
        ratios = (None, None) if ours is None else pool_ratios(ours)
        found.append(Target(f"{title}: within {POOL:g}x of {FEW}", POOL, *ratios, at_most=True))
    return found


def idle_title(count: int) -> str:
    return f"pool with {count:,} idle connections"


WAITERS_TITLE = f"pool with {WAITERS:,} waiting requests"


def main() -> int:
    parser = harness.arguments(__doc__, rounds=5)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="length of one round of one client, over 0.1"
    )
    parser.add_argument("--tasks", default="1,16,256,1000", help="for small: numbers of tasks")
    parser.add_argument("--tls-tasks", default="1,64", help="for tls: numbers of tasks")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    run = make_run(options)
    distributions = "trio trio-http httpx httpcore httpx2 httpcore2 h11 aiohttp uvloop".split()
    print(harness.versions(*distributions))
    measure_all(run, parts, numbers(options.tasks), numbers(options.tls_tasks), quick=options.quick)
    say("### Targets\n\n" + "\n".join(map(str, all_targets(run, numbers(options.tasks)))))
    return 1 if any(results[OURS].failed for results in run.found.values() if OURS in results) else 0


def make_run(options: argparse.Namespace) -> Run:
    rounds, seconds = (min(options.rounds, 3), 0.3) if options.quick else (options.rounds, options.seconds)
    length = GIBIBYTE // 16 if options.quick else GIBIBYTE
    return Run(options.only, rounds, seconds, length, *harness.cpus())


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def measure_all(
    run: Run, parts: Sequence[str], tasks: Sequence[int], tls_tasks: Sequence[int], *, quick: bool
) -> None:
    """Measure what is in `parts`; a part whose server is not there is a line that says so."""
    allowed = targets.raise_descriptor_limit()
    pinned = f"clients on CPU {run.client_cpu}, servers on CPU {run.server_cpu}"
    where = "not pinned" if run.client_cpu is None else pinned
    print(f"{run.rounds} rounds of {run.seconds:.1f} s, {where}; lower ratios are faster\n", flush=True)
    with ExitStack() as stack:
        if set(parts) & {"small", "tls", "down", "waiters"}:
            url = _serve_nginx(run, stack, parts, tasks, tls_tasks)
            if "waiters" in parts:
                pool_size(run, WAITERS_TITLE, measure="waiting", url=url, many=WAITERS)
    if set(parts) & {"up", "idle"}:
        with run.raw_server() as port:
            if "up" in parts:
                large_content(run, "up", f"http://{targets.HOST}:{port}/")
            for count in (IDLE[:1] if quick else IDLE) if "idle" in parts else ():
                title = idle_title(count)
                if allowed < count + 200:
                    say(f"### {title}\n\nLIMITED: a process may have {allowed} descriptors (ulimit -Hn)\n")
                    continue
                pool_size(run, title, measure="idle", port=port, many=count)


def _serve_nginx(
    run: Run, stack: ExitStack, parts: Sequence[str], tasks: Sequence[int], tls_tasks: Sequence[int]
) -> str:
    """Run nginx, or what stands in for it, until `stack` ends, and the parts that it serves; return its
    URL.
    """
    folder = stack.enter_context(tempfile.TemporaryDirectory(dir=targets.memory_folder()))
    nginx: targets.Nginx | None = None
    try:
        nginx = targets.Nginx(folder, run.length)
        stack.enter_context(harness.serving(nginx.command, nginx.port, run.server_cpu))
        server.check(nginx.port)
        url = nginx.url
    except harness.Absent as exc:
        port = harness.free_port()
        say(f"The raw trio server of server.py in place of nginx ({exc}); no parts tls and down\n")
        stack.enter_context(harness.serving(targets.fixed_server(port), port, run.server_cpu))
        url = f"http://{targets.HOST}:{port}/"
    if "small" in parts:
        small_gets(run, url, tasks)
    if "tls" in parts and nginx is not None:
        if nginx.trust is None:
            say("### TLS\n\nabsent: no module trustme\n")
        else:
            small_gets(run, nginx.tls_url, tls_tasks, nginx.trust)
    if "down" in parts and nginx is not None:
        large_content(run, "down", nginx.body_url)
    return url


if __name__ == "__main__":
    sys.exit(main())
