"""What every benchmark here shares: interleaved rounds, medians, paired ratios, tables, child processes.

A figure of one run means little on a machine that others use too, so nothing here reports one. All contenders
of a case are measured in rounds, A B C A B C, and never A A B B: what slows the machine for some seconds then
slows all of them. From the rounds come

- the *median*, which one bad round does not move;
- the *ratio*, which is the median of the rounds' own ratios (round 1 of A against round 1 of B, and so on),
  not the ratio of the medians: the two figures of one round were taken next to each other, so the drift of
  the machine falls out of their quotient;
- the *spread*, half the distance between the quartiles in per cent of the median. Two contenders nearer to
  each other than their spreads have not been told apart.

A contender whose library is not there is `Absent`: it becomes a row that says so, and the run goes on. One
that fails its check or breaks in a round becomes a row that says what happened, and the script's exit status
is 1.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    # The checkout that this file lies in is what is measured, not whatever version may be installed.
    sys.path.insert(0, str(ROOT))

EXIT_ABSENT = 3
"""Exit status of a child that could not import its contender (arbitrary; Python itself does not use it)."""

START_SECONDS = 20.0
"""How long a server may take to listen. Arbitrary: the slowest here needs under two seconds when alone."""


Prepare = Callable[[int], tuple[Callable[[], None], int]]
"""Given a wished number of units of work: a job without arguments, and how many units it will do."""


class Absent(Exception):
    """The contender's library or program is not on this machine. Its text says which."""


@dataclass(slots=True)
class Result:
    """One contender's figures in one case.

    Attributes:
      name: as printed.
      figures: one a round, in the case's unit; empty if there is a `note`.
      note: why there are no figures ("absent: ...", "FAILED: ..."), or "".
      extra: further facts about the rounds for a column of the caller's own.
    """

    name: str
    figures: list[float] = field(default_factory=list)
    note: str = ""
    extra: dict[str, list[float]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, in per cent of the median; 0.0 for under 3 rounds."""
        if len(self.figures) < 3:
            return 0.0
        low, _, high = statistics.quantiles(self.figures, n=4)
        return 50.0 * (high - low) / self.median

    @property
    def failed(self) -> bool:
        return self.note.startswith("FAILED")

    def ratio(self, other: Result | None) -> float | None:
        """Return how many times this contender's figure is the other's, or None if either has none."""
        if other is None or not self.figures or not other.figures:
            return None
        return statistics.median(a / b for a, b in zip(self.figures, other.figures, strict=True))


def interleave(
    samplers: Mapping[str, Callable[[Result], float]],
    rounds: int,
    results: Mapping[str, Result],
    *,
    label: str,
) -> None:
    """Take `rounds` figures from each sampler, in turn, into `results`.

    Args:
      samplers: name of the contender to a function that takes one sample and returns the figure; it may put
        more into its result's `extra`.
      rounds: at least 1.
      results: by the same names; a sampler that raises has its figures dropped and its `note` set, and is not
        asked again.
      label: what the progress line (standard error, only on a terminal) names.
    """
    alive = dict(samplers)
    for number in range(rounds):
        progress(f"{label}: round {number + 1} of {rounds}")
        for name, sample in list(alive.items()):
            result = results[name]
            # The collector stays on while the clock runs, but nobody pays for the garbage of the one before.
            gc.collect()
            try:
                result.figures.append(sample(result))
            except Exception as exc:  # noqa: BLE001 - a failure is a row of the table, not the run's end
                result.figures.clear()
                result.note = describe(exc)
                del alive[name]
    progress("")


def describe(exc: BaseException) -> str:
    """Return the note for a contender that raised `exc`."""
    text = " ".join(str(exc).split())[:160]
    if isinstance(exc, Absent):
        return f"absent: {text}"
    if isinstance(exc, ImportError):
        return f"absent: {type(exc).__name__}: {text}"
    return f"FAILED: {type(exc).__name__}: {text}"


def stopwatch(prepare: Prepare, seconds: float) -> Callable[[Result], float]:
    """Return a sampler that gives microseconds of this process's CPU time a unit of work.

    CPU time, because the work does no I/O: what the clock on the wall adds to it is other programs' doing.

    Args:
      prepare: given a wished number of units, returns a job without arguments and how many units it does;
        called outside the timed part, for each sample anew.
      seconds: about how long a sample should take, over 0. The number of units is found here, by doubling.
    """
    units = 1
    while True:
        job, done = prepare(units)
        begin = time.process_time()
        job()
        elapsed = time.process_time() - begin
        if elapsed >= seconds / 4:
            break
        units = max(units, done) * 2
    wished = max(1, round(done * seconds / elapsed))

    def sample(_result: Result) -> float:
        job, done = prepare(wished)
        begin = time.process_time()
        job()
        return (time.process_time() - begin) * 1e6 / done

    return sample


def table(
    title: str, columns: Sequence[str], results: Mapping[str, Result], row: Callable[[Result], Sequence[str]]
) -> str:
    """Return a Markdown table under a heading, a line for each contender, and below it why some have no
    figures.

    Args:
      title: of the heading.
      columns: heads of all columns but the first, which is the contender's name.
      results: in the order of the lines.
      row: gives the cells of a result that has figures, one for each of `columns`.
    """
    head = ["", *columns]
    rows = []
    for result in results.values():
        cells = [result.note.partition(":")[0], *[""] * (len(columns) - 1)] if result.note else row(result)
        rows.append([result.name, *cells])
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        return (
            "| "
            + " | ".join([first, *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))])
            + " |"
        )

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    notes = [f"- {result.name}: {result.note}" for result in results.values() if result.note]
    return "\n".join(
        [f"### {title}", "", line(head), rule, *map(line, rows), "", *notes, *[""] * bool(notes)]
    )


def times(value: float | None) -> str:
    """Return a ratio for a cell: "6.12x", or "" for None."""
    return "" if value is None else f"{value:.2f}x"


def progress(text: str) -> None:
    """Overwrite the progress line on a terminal; say nothing into a pipe or file."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def versions(*distributions: str) -> str:
    """Return one paragraph: the interpreter, the processor, the version of each distribution or "absent"."""
    found = []
    for name in distributions:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} absent")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{python}, {platform.system()} {platform.machine()} ({processor()}), {cpus} CPUs\n" + ", ".join(
        found
    )


def processor() -> str:
    """Return the processor's model name as Linux tells it, or what `platform` knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


def arguments(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has: `--rounds`, `--quick`, `--only`."""
    parser = argparse.ArgumentParser(
        description=(description or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds, at least 1")
    parser.add_argument(
        "--quick", action="store_true", help="short samples and 3 rounds, to see that it runs"
    )
    parser.add_argument("--only", default="", help="comma-separated parts of the names of cases to run")
    return parser


def chosen(only: str, name: str) -> bool:
    """Whether `--only` selects the case `name`; an empty `--only` selects all."""
    return not only or any(part.strip() in name for part in only.split(",") if part.strip())


def require(module: str) -> None:
    """Raise `Absent` unless the top-level `module` can be found; it is not imported."""
    if importlib.util.find_spec(module) is None:
        raise Absent(f"no module {module}")


# Child processes. Servers, clients and load generators run outside this process, each pinned to one CPU,
# because the question is what one core of the server does and not how the scheduler shares two cores among
# three programs.


def cpus() -> tuple[int | None, int | None]:
    """Return the CPU for what is measured and the one for its peer; two None where there is no pinning."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else (None, None)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_pinned(command: Sequence[str], cpu: int | None, *, timeout: float) -> str:
    """Run a program to its end on one CPU and return its standard output.

    Raises:
      Absent: it is not there, or it ended with `EXIT_ABSENT`.
      RuntimeError: it ended with another status than 0, or not in `timeout` seconds (it is killed then).
    """
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_pinner(cpu)
        )
    except FileNotFoundError as exc:
        raise Absent(f"no program {command[0]}") from exc
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as exc:
        process.kill()
        process.communicate()
        raise RuntimeError(f"{command[0]} did not end within {timeout:.0f} s") from exc
    if process.returncode != 0:
        _raise_for_exit(process.returncode, errors or output)
    return output


@contextmanager
def serving(command: Sequence[str], port: int, cpu: int | None) -> Iterator[None]:
    """Run a server on one CPU for the length of a block, from when it accepts connections on `port`.

    It gets a session of its own, and at the end exactly that session's process group is ended: SIGTERM, and
    SIGKILL for what is left after 5 seconds.

    Raises:
      Absent: the program is not there, or it ended with `EXIT_ABSENT`.
      RuntimeError: it ended before it listened, or did not listen within `START_SECONDS`.
    """
    with tempfile.TemporaryFile("w+") as log:
        try:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, preexec_fn=_pinner(cpu)
            )
        except FileNotFoundError as exc:
            raise Absent(f"no program {command[0]}") from exc
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _accepts(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    _raise_for_exit(process.returncode, log.read())
                time.sleep(0.05)
            yield
        finally:
            _end(process)


def exit_status(job: Callable[[], object]) -> int:
    """Do what a child process is for, and return its exit status: 0, or `EXIT_ABSENT` if an import fails."""
    try:
        job()
    except ImportError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return EXIT_ABSENT
    return 0


def _pinner(cpu: int | None) -> Callable[[], None] | None:
    if cpu is None:
        return None
    return lambda: os.sched_setaffinity(0, {cpu})


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _raise_for_exit(status: int | None, output: str) -> None:
    lines = [line for line in output.splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    if status == EXIT_ABSENT:
        raise Absent(last)
    raise RuntimeError(
        f"did not listen in time: {last}" if status is None else f"ended with {status}: {last}"
    )


def end_at_once(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """End the process group of a child that was started with `start_new_session`, without asking it."""
    _signal(process, signal.SIGKILL)
    process.wait()


def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    _signal(process, signal.SIGTERM)
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        pass
    end_at_once(process)


def _signal(process: subprocess.Popen[bytes] | subprocess.Popen[str], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass  # all of the group have ended
