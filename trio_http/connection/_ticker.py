"""Limits on peers, enforced by one task instead of a cancel scope around every await.

A connection states until when its peer has time as a plain number, and changes it as often as it likes: that
is one attribute store. The ticker keeps a heap in which each connection stands at most once, at a time no
later than its deadline was when it was put there. When that time comes, the ticker looks at the real
deadline: it has passed, or the connection goes back into the heap at it, or, when there is none, out of the
heap until the next `Ticker.watch`.

While nothing is timed the ticker sleeps without a deadline, so that a test's clock jumps exactly to what the
test waits for.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import NoReturn, Protocol

import trio


class Timed(Protocol):
    """What a ticker watches.

    Attributes:
      deadline: when the peer's time is up, on trio's clock; `math.inf` for never. To be changed at will, but
        after a change to an earlier time than `scheduled`, `Ticker.watch` has to be called.
      scheduled: the ticker's own: where the object stands in the heap; `math.inf` at first.
    """

    deadline: float
    scheduled: float

    def on_deadline(self) -> None:
        """The deadline has passed. Called in the ticker's task; must not raise or wait."""


class Ticker:
    """One clock for many peers. `run` it in a task of its own."""

    def __init__(self) -> None:
        # The number breaks ties, so that what is watched is never compared.
        self._heap: list[tuple[float, int, Timed]] = []
        self._numbers = itertools.count()
        self._nap: trio.CancelScope | None = None

    def watch(self, timed: Timed) -> None:
        """See that ``timed`` is told when its deadline passes. Cheap when it stands in the heap early enough
        already."""
        deadline = timed.deadline
        if deadline >= timed.scheduled or deadline == math.inf:
            return
        self._push(timed)
        if self._nap is not None and self._nap.deadline > deadline:
            self._nap.deadline = deadline

    def forget(self, timed: Timed) -> None:
        """Never tell ``timed`` anything again; it leaves the heap when its time comes."""
        timed.deadline = math.inf

    async def run(self) -> NoReturn:
        """Tell what is watched when its time is up; for ever.

        Cancellation: nothing is told any more; what is watched keeps its deadlines, and another `run` goes on
        with them.
        """
        while True:
            self._tell(trio.current_time())
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf) as self._nap:
                await trio.sleep_forever()

    def _tell(self, now: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= now:
            scheduled, _, timed = heapq.heappop(heap)
            if scheduled != timed.scheduled:
                continue  # it was put in again at an earlier time, which came first
            timed.scheduled = math.inf
            if timed.deadline <= now:
                timed.on_deadline()
            elif timed.deadline != math.inf:
                self._push(timed)

    def _push(self, timed: Timed) -> None:
        timed.scheduled = timed.deadline
        heapq.heappush(self._heap, (timed.deadline, next(self._numbers), timed))
