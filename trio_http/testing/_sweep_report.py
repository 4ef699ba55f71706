"""What a sweep has tried, and what it has found."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

import attrs

from ._cancel_point import CancelPoint


@attrs.frozen
class RunState:
    """What could be seen from outside in one run of a sweep.

    Attributes:
      before: the caller's state before the scenario began.
      cancelled: the same at the moment of the cancel; empty when it was not reached.
      after: the same when the scenario had ended; empty when it did not end.
      tasks: the scenario's tasks at the moment of the cancel, one in each line.
    """

    before: str = ""
    cancelled: str = ""
    after: str = ""
    tasks: str = ""

    def __str__(self) -> str:
        told = [
            ("state before", self.before),
            ("when cancelled", self.cancelled),
            ("afterwards", self.after),
        ]
        lines = [f"  {name + ':':<16}{text}" for name, text in told if text]
        if self.tasks:
            lines += ["  tasks when cancelled:", *("    " + line for line in self.tasks.splitlines())]
        return "\n".join(lines)


class SweepFailed(AssertionError):
    """A rule was broken in a run of a sweep.

    Its cause is what was raised in that run.

    Attributes:
      point: where the cancel came. None: in the run that was left alone, or before the point was reached.
      reason: which rule it was.
      state: what could be seen, before and after.
      seed: the sweep's.
    """

    def __init__(
        self, point: CancelPoint | None, place: str, reason: str, state: RunState, seed: int
    ) -> None:
        self.point = point
        self.reason = reason
        self.state = state
        self.seed = seed
        lines = [f"cancelled at {place}: {reason}"]
        if point is not None:
            lines.append(f"  Cancelled came: {point.landed or 'out of no await'}")
        if str(state):
            lines.append(str(state))
        if point is not None:
            lines.append(f"  to run it alone: only={point.key!r}, seed={seed}")
        super().__init__("\n".join(lines))


@attrs.frozen
class SweepReport:
    """What a sweep has tried.

    Attributes:
      points: one entry for each cancelled run, in order, failed ones too.
      steps: how many steps were counted when the scenario was left alone.
      failures: what was found. Only a sweep that keeps going returns a report that has any.
      scenario: its name.
      seed: what has decided the order of the tasks.
    """

    points: tuple[CancelPoint, ...]
    steps: int
    failures: tuple[SweepFailed, ...] = ()
    scenario: str = ""
    seed: int = 0

    @property
    def places(self) -> dict[str, int]:
        """How often the cancel came in each place of the source; what is not in here was not tried."""
        return dict(Counter(point.where for point in self.points))

    def __str__(self) -> str:
        completed = sum(point.completed for point in self.points)
        head = (
            f"{len(self.points)} cancel points in {self.steps} steps, {completed} of them too late to matter"
        )
        if self.failures:
            head += f"; {len(self.failures)} failed"
        failed = {id(failure.point) for failure in self.failures}
        points = (f"  {point}{' FAILED' if id(point) in failed else ''}" for point in self.points)
        return "\n".join([head, *points])


@attrs.define
class SweepDefaults:
    """What a sweep does that is not told otherwise; pytest's ``--sweep-seed`` and ``--sweep-only`` set it.

    Attributes:
      seed: of the order in which ready tasks run.
      only: the key of one cancel point that is to be run alone; None: all are run.
    """

    seed: int = 0
    only: str | None = None


sweep_defaults = SweepDefaults()

_watchers: list[Callable[[SweepReport], object]] = []


@contextlib.contextmanager
def watch_sweeps(watcher: Callable[[SweepReport], object]) -> Iterator[None]:
    """Have ``watcher`` called with the report of every sweep that ends in the block, well or not."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def tell_watchers(report: SweepReport) -> None:
    """Hand a report to all that watch."""
    for watcher in _watchers:
        watcher(report)
