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
from typing import Any, Final, NoReturn, Protocol

import trio

# Below this many, dead entries are not worth the work of removing them. Arbitrary.
_FEW: Final = 64


class Timed(Protocol):
    """What a ticker watches.

    Attributes:
      deadline: when the peer's time is up, on trio's clock; `math.inf` for never. To be changed at will, but
        after a change to an earlier time than `scheduled`, `Ticker.watch` has to be called.
      scheduled: the ticker's own: where the object stands in the heap; `math.inf` at first.
    """

    scheduled: float

    @property
    def deadline(self) -> float:
        """When the peer's time is up; may be a plain attribute."""

    def on_deadline(self) -> None:
        """The deadline has passed. Called in the ticker's task; must not raise or wait."""


class Ticker:
    """One clock for many peers. `run` it in a task of its own."""

    def __init__(self) -> None:
        # Entries of [time, number, what is watched]. The number breaks ties, so that what is watched is never
        # compared. An entry whose last part is None is dead: nothing is told, and nothing is kept alive by
        # it.
        self._heap: list[list[Any]] = []
        self._entries: dict[int, list[Any]] = {}  # the living ones, by the identity of what they watch
        self._numbers = itertools.count()
        self._nap: trio.CancelScope | None = None

    def __len__(self) -> int:
        """The number of objects in the heap."""
        return len(self._entries)

    def watch(self, timed: Timed) -> None:
        """See that ``timed`` is told when its deadline passes. Cheap when it stands in the heap early enough
        already."""
        deadline = timed.deadline
        if deadline >= timed.scheduled or deadline == math.inf:
            return
        self._strike(timed)
        self._push(timed, deadline)
        if self._nap is not None and self._nap.deadline > deadline:
            self._nap.deadline = deadline

    def forget(self, timed: Timed) -> None:
        """Never tell ``timed`` anything again, and let go of it."""
        self._strike(timed)
        timed.scheduled = math.inf

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
        while self._heap and self._heap[0][0] <= now:
            timed = heapq.heappop(self._heap)[2]
            if timed is None:
                continue
            del self._entries[id(timed)]
            timed.scheduled = math.inf
            deadline = timed.deadline
            if deadline <= now:
                timed.on_deadline()
            elif deadline != math.inf:
                self._push(timed, deadline)

    def _push(self, timed: Timed, deadline: float) -> None:
        timed.scheduled = deadline
        entry = self._entries[id(timed)] = [deadline, next(self._numbers), timed]
        heapq.heappush(self._heap, entry)

    def _strike(self, timed: Timed) -> None:
        entry = self._entries.pop(id(timed), None)
        if entry is None:
            return
        entry[2] = None
        # Dead entries wait for their time, unless they become the greater part: connections that are short,
        # or that are watched for something short again and again, would pile them up.
        if len(self._heap) > 2 * len(self._entries) + _FEW:
            self._heap = [entry for entry in self._heap if entry[2] is not None]
            heapq.heapify(self._heap)
