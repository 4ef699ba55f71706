"""Trials of many defects, two at a time."""

from __future__ import annotations

import queue
import re
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.planted._planting import Defect, Outcome, Runner, copied

# A machine for tests has two processors at least, mostly.
_AT_ONCE = 2

# All batteries one after the other take a minute or more; this long on a machine that is busy, as one may be.
# Arbitrary.
_CONTROL_SECONDS = 1000


class Trials:
    """The batteries of some defects, each on a copy of its own. To be used in ``with``.

    They begin when an outcome is asked for, and go on beside; what has not begun at the end never does.

    Args:
      defects: which.
      folder: where the copies are made.

    Attributes:
      base: the untouched copy.
    """

    def __init__(self, defects: Iterable[Defect], folder: Path) -> None:
        self.base = folder / "untouched"
        self._defects = list(defects)
        self._folder = folder
        self._pool = ThreadPoolExecutor(_AT_ONCE)
        self._exits = ExitStack()
        self._runners: queue.SimpleQueue[Runner] = queue.SimpleQueue()
        self._futures: dict[str, Future[Outcome]] = {}
        self._control: Future[Outcome] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._exits.close()

    def _begin(self) -> None:
        if self._control is not None:
            return
        copied(self.base)
        for _ in range(_AT_ONCE):
            self._runners.put(self._exits.enter_context(Runner()))
        self._control = self._pool.submit(self._run_control)
        for defect in self._defects:
            self._futures[defect.name] = self._pool.submit(self._try, defect)

    def _run_control(self) -> Outcome:
        runner = self._runners.get()
        try:
            # Each test once: many defects have the same.
            tests = dict.fromkeys(test for defect in self._defects for test in defect.battery)
            return runner.run(self.base, tuple(tests), seconds=_CONTROL_SECONDS)
        finally:
            self._runners.put(runner)

    def _try(self, defect: Defect) -> Outcome:
        runner = self._runners.get()
        try:
            return runner.tried(defect, self.base, self._folder / re.sub(r"\W+", "-", defect.name))
        finally:
            self._runners.put(runner)

    def control(self) -> Outcome:
        """Return what all batteries together say of the untouched copy."""
        self._begin()
        assert self._control is not None
        return self._control.result()

    def outcome(self, defect: Defect) -> Outcome:
        """Return what the battery of a defect says."""
        self._begin()
        return self._futures[defect.name].result()
