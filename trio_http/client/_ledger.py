"""The pool's book-keeping: who has which connection, who waits, who is to dial. Synchronous, and without I/O.

Theory of operation
===================

A connection is a `Slot` in exactly one state from its dial to its end::

    DIALING ──▶ LEASED ◀──▶ IDLE
       └──────────┴──────────┴──▶ CLOSED

Each method is one change. It leaves the books true (`Ledger.check` lists what that means) and returns orders:
what the pool now has to do in the world, in that order. The pool reports back by further calls; in between
the books already show what was ordered, so nothing is ordered twice.

*Who is served.* A waiter is served by whatever comes first to its origin, a connection given back or a
finished dial, and the oldest waiter of the origin comes first. So a dial is nobody's in particular: the
waiters of an origin with D dials under way are *covered* up to the D-th oldest, the rest are not. A dial that
has more dials than waiters beside it is *spare*. Its end, good or bad, goes to the oldest waiter.

*Who may dial.* An uncovered waiter, when its origin is below its limit and there is room in all. Room is made
by giving up first what nobody waits for: a spare dial, then the idle connection that was used longest ago. If
there is none, the origin is *wanting*; the next room goes to the oldest uncovered waiter of all wanting
origins. Besides, a dial may be made for nobody, to warm up: it is spare from the first, and takes no room
from anybody.

*What it costs.* A request costs the same however many connections, origins and waiters there are, except that
while origins want they stand in a heap by their oldest uncovered waiter: a logarithm of the number of wanting
origins. An origin stands in it at most once, at a number no higher than its real one (which only grows), and
is put right when it comes to the top.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections import OrderedDict
from typing import Any, Generic, TypeAlias, TypeVar

import attrs

from ._config import ClientStatistics, PoolCounts
from ._route import Route

C = TypeVar("C")
W = TypeVar("W", bound="Waiter")


class State(enum.Enum):
    """Where a connection is in its life."""

    DIALING = "dialing"
    LEASED = "leased"
    IDLE = "idle"
    CLOSED = "closed"


class Waiter:
    """Somebody who wants a connection. The ledger knows it by its identity; the pool's subclass knows whom to
    wake.

    Attributes:
      number, place: its turn, and all that concerns its origin; the ledger's.
    """

    __slots__ = ("number", "place")

    def __init__(self) -> None:
        self.number = 0
        self.place: Any = None


class Slot(Generic[C]):
    """The entry of one connection.

    Attributes:
      state: changed by the ledger only.
      connection: what the pool keeps here once the dial has brought it.
      place: the ledger's.
    """

    __slots__ = ("connection", "place", "state")

    def __init__(self, place: Any) -> None:
        self.place = place
        self.state = State.DIALING
        self.connection: C | None = None

    @property
    def route(self) -> Route:
        """Where the connection leads, and how."""
        route: Route = self.place.route
        return route


@attrs.frozen(eq=False)
class Dial(Generic[C, W]):
    """Start a dial; it is made in the name of ``waiter``, if there is one."""

    slot: Slot[C]
    waiter: W | None


@attrs.frozen(eq=False)
class Abandon(Generic[C]):
    """Cancel a dial; what it brings nevertheless is to be closed."""

    slot: Slot[C]


@attrs.frozen(eq=False)
class Give(Generic[C, W]):
    """Wake a waiter with a connection, which is leased to it already."""

    slot: Slot[C]
    waiter: W


@attrs.frozen(eq=False)
class Fail(Generic[W]):
    """Wake a waiter without one."""

    waiter: W


@attrs.frozen(eq=False)
class Close(Generic[C]):
    """Close a connection."""

    slot: Slot[C]


Order: TypeAlias = "Dial[C, W] | Abandon[C] | Give[C, W] | Fail[W] | Close[C]"


class _Place(Generic[C, W]):
    """All that concerns one origin; exists while there is something.

    Attributes:
      size: slots that are not closed.
      idle: in the order in which they became idle.
      dials: in the order in which they began.
      waiters: all, in the order of arrival.
      uncovered: those of them that no dial is under way for: the younger ones.
      listed: stands in the heap of wanting places.
    """

    __slots__ = ("dials", "idle", "listed", "route", "size", "uncovered", "waiters")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.size = 0
        self.listed = False
        self.idle: dict[Slot[C], None] = {}
        self.dials: dict[Slot[C], None] = {}
        # Not plain dicts: finding the first entry of one from which many were removed in front takes long.
        self.waiters: OrderedDict[W, None] = OrderedDict()
        self.uncovered: OrderedDict[W, None] = OrderedDict()


class Ledger(Generic[C, W]):
    """The books of one pool.

    Args:
      max_total: slots that are not closed, in all, at least 1.
      max_per_origin: the same for each origin, at least 1.

    Attributes:
      closed: `close_all` was called.
    """

    def __init__(self, max_total: int, max_per_origin: int) -> None:
        self.closed = False
        self._max_total = max_total
        self._max_per_origin = max_per_origin
        self._places: dict[Route, _Place[C, W]] = {}
        self._slots: dict[Slot[C], None] = {}  # all that are not closed
        self._idle: OrderedDict[Slot[C], None] = OrderedDict()  # of all origins; used longest ago first
        self._spare: OrderedDict[_Place[C, W], None] = OrderedDict()  # places with more dials than waiters
        self._wanting: list[tuple[int, _Place[C, W]]] = []  # the heap; it may hold places that want no more
        self._numbers = itertools.count(1)
        self._dialing = 0
        self._waiting = 0

    @property
    def leased(self) -> int:
        """How many connections have an exchange under way."""
        return len(self._slots) - self._dialing - len(self._idle)

    # -- leasing ---------------------------------------------------------------------------------------------

    def take(self, route: Route) -> Slot[C] | None:
        """Lease the idle connection by ``route`` that was used last, if there is one."""
        place = self._places.get(route)
        if place is None or not place.idle:
            return None
        slot, _ = place.idle.popitem()
        del self._idle[slot]
        slot.state = State.LEASED
        return slot

    def wait(self, route: Route, waiter: W) -> list[Order[C, W]]:
        """Enter a waiter for a connection by ``route``, which must have no idle one."""
        place = self._places.get(route)
        if place is None:
            place = self._places[route] = _Place(route)
        assert not place.idle
        assert not self.closed
        waiter.number = next(self._numbers)
        waiter.place = place
        place.waiters[waiter] = None
        place.uncovered[waiter] = None
        self._waiting += 1
        return self._settled(place, [])

    def give_up(self, waiter: W) -> list[Order[C, W]]:
        """Strike out a waiter that was not served. A dial that covered it goes on, for others or as a
        spare.
        """
        place: _Place[C, W] = waiter.place
        del place.waiters[waiter]
        place.uncovered.pop(waiter, None)
        self._waiting -= 1
        return self._settled(place, [])

    def give_back(self, slot: Slot[C]) -> list[Order[C, W]]:
        """End a lease with the connection fit for another one. It goes to the oldest waiter, or is idle."""
        assert slot.state is State.LEASED
        place: _Place[C, W] = slot.place
        if place.waiters:
            return self._settled(place, [Give(slot, self._next_waiter(place))])
        slot.state = State.IDLE
        place.idle[slot] = None
        self._idle[slot] = None
        return self._settled(place, []) if self._wanting else []

    # -- dials -----------------------------------------------------------------------------------------------

    def dialed(self, slot: Slot[C]) -> list[Order[C, W]]:
        """A dial has brought a connection; it goes to the oldest waiter, or is idle."""
        assert slot.state is State.DIALING
        place: _Place[C, W] = slot.place
        del place.dials[slot]
        self._dialing -= 1
        slot.state = State.LEASED
        if not place.dials:
            self._spare.pop(place, None)
        return self.give_back(slot)

    def warm(self, route: Route) -> list[Order[C, W]]:
        """Begin a dial for nobody, if there is room for it without giving anything up; at most one order."""
        place = self._places.get(route)
        if self.closed or len(self._slots) >= self._max_total:
            return []
        if place is None:
            place = self._places[route] = _Place(route)
        elif place.size >= self._max_per_origin:
            return []
        orders: list[Order[C, W]] = [Dial(self._new_slot(place), None)]
        return self._settled(place, orders)

    def count(self, route: Route) -> int:
        """Return how many connections by ``route`` are idle or being dialed for nobody."""
        place = self._places.get(route)
        return 0 if place is None else len(place.idle) + max(0, len(place.dials) - len(place.waiters))

    def spare_dials(self, route: Route) -> list[Slot[C]]:
        """Return the dials by ``route`` that are made for nobody: all but the oldest."""
        place = self._places.get(route)
        return [] if place is None else list(place.dials)[len(place.waiters) :]

    def dial_failed(self, slot: Slot[C]) -> list[Order[C, W]]:
        """A dial has failed; the oldest waiter is told."""
        assert slot.state is State.DIALING
        place: _Place[C, W] = slot.place
        self._remove(slot)
        orders: list[Order[C, W]] = [Fail(self._next_waiter(place))] if place.waiters else []
        return self._settled(place, orders)

    # -- ends ------------------------------------------------------------------------------------------------

    def close(self, slot: Slot[C]) -> list[Order[C, W]]:
        """End a connection, leased or idle, which the caller closes; no change if it is closed already."""
        if slot.state is State.CLOSED:
            return []
        assert slot.state is not State.DIALING
        self._remove(slot)
        return self._settled(slot.place, [])

    def close_idle(self, route: Route) -> list[Order[C, W]]:
        """End all idle connections by ``route``."""
        place = self._places.get(route)
        if place is None or not place.idle:
            return []
        orders: list[Order[C, W]] = [Close(slot) for slot in place.idle]
        for slot in list(place.idle):
            self._remove(slot)
        return self._settled(place, orders)

    def close_all(self) -> list[Order[C, W]]:
        """End everything; from now on nobody may `wait`. What was leased is given back to no effect."""
        self.closed = True
        orders: list[Order[C, W]] = []
        for place in self._places.values():
            orders += [Fail(waiter) for waiter in place.waiters]
            place.waiters.clear()
            place.uncovered.clear()
        for slot in list(self._slots):
            orders.append(Abandon(slot) if slot.state is State.DIALING else Close(slot))
            self._remove(slot)
        self._places.clear()
        self._spare.clear()
        self._wanting.clear()
        self._waiting = 0
        return orders

    # -- looking on ------------------------------------------------------------------------------------------

    def statistics(self) -> ClientStatistics:
        """Return how many there are of each, in all and for each route."""
        return ClientStatistics(
            dialing=self._dialing,
            leased=self.leased,
            idle=len(self._idle),
            waiting=self._waiting,
            origins={
                str(route): PoolCounts(
                    dialing=len(place.dials),
                    leased=place.size - len(place.dials) - len(place.idle),
                    idle=len(place.idle),
                    waiting=len(place.waiters),
                )
                for route, place in self._places.items()
            },
        )

    def check(self) -> None:
        """Assert that the books are true. For tests: it looks at everything."""
        everything = [slot for place in self._places.values() for slot in (*place.idle, *place.dials)]
        assert all(slot in self._slots for slot in everything)
        assert len(self._slots) <= self._max_total
        assert set(self._idle) == {slot for place in self._places.values() for slot in place.idle}
        assert self._dialing == sum(len(place.dials) for place in self._places.values())
        assert self._waiting == sum(len(place.waiters) for place in self._places.values())
        for slot in self._slots:
            place = slot.place
            assert self._places[place.route] is place
            assert slot.state is not State.CLOSED
            assert (slot.state is State.IDLE) is (slot in place.idle)
            assert (slot.state is State.DIALING) is (slot in place.dials)
        heaped = [place for _, place in self._wanting]
        wanting = [place for place in self._places.values() if self._wants(place)]
        for place in self._places.values():
            assert place.size == sum(slot.place is place for slot in self._slots)
            assert place.size <= self._max_per_origin
            assert place.size or place.waiters, "an empty place is forgotten"
            assert not (place.idle and place.waiters), "who waits takes what is idle"
            covered = len(place.waiters) - len(place.uncovered)
            assert covered == min(len(place.dials), len(place.waiters))
            assert list(place.waiters)[covered:] == list(place.uncovered), "the oldest are covered"
            assert (place in self._spare) is (len(place.dials) > len(place.waiters))
            assert place.listed is (place in heaped)
            assert heaped.count(place) <= 1
        assert all(place.listed for place in wanting)
        if wanting:
            assert len(self._slots) == self._max_total, "nobody wants while there is room"
            assert not self._idle, "nobody wants while there is something to evict"
            assert not self._spare, "nobody wants while there is something to abandon"

    # -- keeping the books true ------------------------------------------------------------------------------

    def _wants(self, place: _Place[C, W]) -> bool:
        """Tell whether only the total limit keeps ``place`` from dialing."""
        return bool(place.uncovered) and place.size < self._max_per_origin

    def _next_waiter(self, place: _Place[C, W]) -> W:
        """Strike out the oldest waiter, who is to be woken."""
        waiter, _ = place.waiters.popitem(last=False)
        place.uncovered.pop(waiter, None)
        self._waiting -= 1
        return waiter

    def _remove(self, slot: Slot[C]) -> None:
        """Take a slot out of the books."""
        place: _Place[C, W] = slot.place
        if slot.state is State.IDLE:
            del place.idle[slot]
            del self._idle[slot]
        elif slot.state is State.DIALING:
            del place.dials[slot]
            self._dialing -= 1
        slot.state = State.CLOSED
        place.size -= 1
        del self._slots[slot]

    def _settled(self, place: _Place[C, W], orders: list[Order[C, W]]) -> list[Order[C, W]]:
        """Return ``orders`` with those that a change at ``place`` makes due."""
        while place.uncovered and len(place.dials) > len(place.waiters) - len(place.uncovered):
            place.uncovered.popitem(last=False)
        if len(place.dials) > len(place.waiters):
            self._spare[place] = None
        else:
            self._spare.pop(place, None)
        if not place.listed and self._wants(place):
            place.listed = True
            heapq.heappush(self._wanting, (next(iter(place.uncovered)).number, place))
        while (wanting := self._longest_wanting()) is not None and self._has_made_room(orders):
            self._begin_dial(wanting, orders)
        self._forget_if_empty(place)
        return orders

    def _longest_wanting(self) -> _Place[C, W] | None:
        """Return the wanting place whose oldest uncovered waiter is the oldest of all."""
        heap = self._wanting
        while heap:
            number, place = heap[0]
            if not self._wants(place):
                heapq.heappop(heap)
                place.listed = False
            elif (real := next(iter(place.uncovered)).number) != number:
                heapq.heapreplace(heap, (real, place))
            else:
                return place
        return None

    def _has_made_room(self, orders: list[Order[C, W]]) -> bool:
        """Tell whether there is room for one more slot, after giving up what nobody waits for."""
        if len(self._slots) < self._max_total:
            return True
        if self._spare:
            place = next(iter(self._spare))
            slot = next(reversed(place.dials))  # the youngest, which has the longest way to go
            orders.append(Abandon(slot))
            self._remove(slot)
            if len(place.dials) <= len(place.waiters):
                del self._spare[place]
        elif self._idle:
            slot = next(iter(self._idle))
            place = slot.place
            orders.append(Close(slot))
            self._remove(slot)
        else:
            return False
        self._forget_if_empty(place)
        return True

    def _begin_dial(self, place: _Place[C, W], orders: list[Order[C, W]]) -> None:
        waiter, _ = place.uncovered.popitem(last=False)
        orders.append(Dial(self._new_slot(place), waiter))

    def _new_slot(self, place: _Place[C, W]) -> Slot[C]:
        """Enter a connection that is to be dialed."""
        slot: Slot[C] = Slot(place)
        place.dials[slot] = None
        place.size += 1
        self._slots[slot] = None
        self._dialing += 1
        return slot

    def _forget_if_empty(self, place: _Place[C, W]) -> None:
        if not place.size and not place.waiters:
            self._places.pop(place.route, None)
