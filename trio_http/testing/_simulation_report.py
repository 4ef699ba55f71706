"""What came of simulated runs: a summary of all, and the error of one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import attrs

from ._simulated_trace import TraceEntry

# How many of the network's last entries the text of a failure has. Arbitrary: a screen of them.
_LAST_ENTRIES = 20


class SimulationFailed(AssertionError):
    """A simulated run has failed. Its cause is the program's exception, if there was one.

    The program is at fault, or the check in it. It pickles, without its cause.

    Attributes:
      seed: of the run; `simulate` with ``seeds=[seed]`` and the same arguments repeats it.
      program: the program's name.
      reason: what went wrong.
      seconds: the virtual time at the end.
      steps: how many steps Trio's tasks had taken.
      trace: all that the network has done.
      tasks: the tasks of a run that did not end, a line each; else empty.
    """

    def __init__(
        self,
        *,
        seed: int,
        program: str,
        reason: str,
        seconds: float,
        steps: int,
        trace: tuple[TraceEntry, ...] = (),
        tasks: str = "",
    ) -> None:
        self.seed = seed
        self.program = program
        self.reason = reason
        self.seconds = seconds
        self.steps = steps
        self.trace = trace
        self.tasks = tasks
        super().__init__(self._text())

    def __reduce__(self) -> tuple[Callable[[], SimulationFailed], tuple[()]]:
        facts = {
            name: getattr(self, name)
            for name in ("seed", "program", "reason", "seconds", "steps", "trace", "tasks")
        }
        return functools.partial(type(self), **facts), ()

    def _text(self) -> str:
        lines = [
            f"the run of {self.program} with seed {self.seed} has failed: {self.reason}",
            f"to see it again: simulate({self.program}, seeds=[{self.seed}]), all else as it was",
            f"it was at {self.seconds:g} virtual seconds, after {self.steps} steps",
        ]
        if self.tasks:
            lines += ["its tasks:", *(f"  {line}" for line in self.tasks.splitlines())]
        if self.trace:
            last = self.trace[-_LAST_ENTRIES:]
            lines.append(f"the last {len(last)} of {len(self.trace)} entries of the network's trace:")
            lines += [f"  {entry}" for entry in last]
        return "\n".join(lines)


@attrs.frozen(kw_only=True)
class SimulationReport:
    """What a simulation has tried.

    Attributes:
      runs: how many runs there were.
      failures: those that failed, in order; only with ``keep_going`` can there be any here.
      steps: how many steps Trio's tasks have taken, in all runs.
      virtual_seconds: how much time has passed on the runs' clocks.
      connections: how many were made.
      events: how often the network did what; the kinds are those of `TraceEntry`. A test that wants to be
        sure that a stall was ever met, asserts it here.
      digest: 32 hex digits for all that the networks did in all runs: equal when it was the same.
    """

    runs: int
    failures: tuple[SimulationFailed, ...]
    steps: int
    virtual_seconds: float
    connections: int
    events: Mapping[str, int]
    digest: str

    def __str__(self) -> str:
        events = ", ".join(f"{count} {event}" for event, count in sorted(self.events.items()))
        head = (
            f"{self.runs} runs, {len(self.failures)} failures, {self.connections} connections, "
            f"{self.steps} steps, {self.virtual_seconds:.0f} virtual seconds"
        )
        seeds = [f"failed: seed {failure.seed}: {failure.reason}" for failure in self.failures]
        return "\n".join([head, f"the network: {events or 'nothing'}", *seeds])
