"""The pool's books: whatever happens in whatever order, they are true, and everybody is served in turn."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from trio_http.client._config import ClientStatistics, PoolCounts
from trio_http.client._ledger import Abandon, Close, Dial, Fail, Give, Ledger, Slot, State, Waiter
from trio_http.client._origin import Origin

A, B, C = (Origin("http", name, 80) for name in "abc")

NOTHING = PoolCounts(dialing=0, leased=0, idle=0, waiting=0)

Books = Ledger[str, Waiter]


def books(max_total: int = 100, max_per_origin: int = 10) -> Books:
    return Ledger(max_total, max_per_origin)


def dial_for(ledger: Books, origin: Origin) -> tuple[Slot[str], Waiter]:
    """Enter a waiter, which must lead to a dial and nothing else."""
    waiter = Waiter()
    (order,) = ledger.wait(origin, waiter)
    assert isinstance(order, Dial)
    assert order.waiter is waiter
    return order.slot, waiter


def leased(ledger: Books, origin: Origin) -> Slot[str]:
    slot, waiter = dial_for(ledger, origin)
    (order,) = ledger.dialed(slot)
    assert isinstance(order, Give)
    assert order.waiter is waiter
    return slot


def kinds(orders: list[Any]) -> list[type]:
    return [type(order) for order in orders]


# ---------------------------------------------------------------------------------------------- one at a time


def test_the_connection_used_last_is_taken_first() -> None:
    ledger = books()
    first, second = leased(ledger, A), leased(ledger, A)
    ledger.give_back(first)
    ledger.give_back(second)
    assert ledger.take(A) is second
    assert ledger.take(A) is first
    assert ledger.take(A) is None
    assert ledger.take(B) is None


def test_a_waiter_is_served_by_a_returning_connection_before_its_dial_is_done() -> None:
    ledger = books()
    slot = leased(ledger, A)
    dial, waiter = dial_for(ledger, A)
    (order,) = ledger.give_back(slot)
    assert isinstance(order, Give)
    assert (order.slot, order.waiter) == (slot, waiter)
    assert slot.state is State.LEASED
    assert ledger.dialed(dial) == []
    assert dial.state is State.IDLE


def test_a_spare_dial_serves_the_next_waiter_instead_of_another_dial() -> None:
    ledger = books()
    dial, waiter = dial_for(ledger, A)
    assert ledger.give_up(waiter) == []
    newcomer = Waiter()
    assert ledger.wait(A, newcomer) == []
    (order,) = ledger.dialed(dial)
    assert isinstance(order, Give)
    assert order.waiter is newcomer


def test_waiters_of_an_origin_are_served_in_the_order_of_arrival() -> None:
    ledger = books(max_per_origin=1)
    slot = leased(ledger, A)
    waiters = [Waiter() for _ in range(4)]
    for waiter in waiters:
        assert ledger.wait(A, waiter) == []
    assert ledger.give_up(waiters[1]) == []
    served = [ledger.give_back(slot)[0] for _ in range(3)]
    assert [order.waiter for order in served if isinstance(order, Give)] == [waiters[0], *waiters[2:]]
    assert ledger.give_back(slot) == []


def test_a_failed_dial_is_told_to_the_oldest_waiter_and_another_one_begins_for_the_next() -> None:
    ledger = books(max_per_origin=1)
    dial, first = dial_for(ledger, A)
    second = Waiter()
    assert ledger.wait(A, second) == []
    failed, begun = ledger.dial_failed(dial)
    assert isinstance(failed, Fail)
    assert failed.waiter is first
    assert isinstance(begun, Dial)
    assert begun.waiter is second


def test_a_freed_slot_goes_to_the_oldest_waiter_of_any_origin() -> None:
    ledger = books(max_total=2, max_per_origin=1)
    of_a, of_b = leased(ledger, A), leased(ledger, B)
    waiting_a, waiting_c = Waiter(), Waiter()
    assert ledger.wait(A, waiting_a) == []
    assert ledger.wait(C, waiting_c) == []
    (order,) = ledger.close(of_b)  # A is at its own limit
    assert isinstance(order, Dial)
    assert order.waiter is waiting_c
    (order,) = ledger.close(of_a)
    assert isinstance(order, Dial)
    assert order.waiter is waiting_a


def test_a_waiter_held_up_by_its_origin_keeps_its_age_when_the_total_limit_is_what_holds_it() -> None:
    ledger = books(max_total=2, max_per_origin=1)
    of_a, of_b = leased(ledger, A), leased(ledger, B)
    oldest, younger = Waiter(), Waiter()
    ledger.wait(A, oldest)
    ledger.wait(C, younger)
    (order,) = ledger.close(of_a)
    assert isinstance(order, Dial)
    assert order.waiter is oldest
    (order,) = ledger.close(of_b)
    assert isinstance(order, Dial)
    assert order.waiter is younger


def test_an_origin_that_got_a_slot_stands_behind_those_whose_waiters_are_older_than_its_next() -> None:
    ledger = books(max_total=2, max_per_origin=2)
    held = [leased(ledger, B), leased(ledger, B)]
    waiters = [Waiter() for _ in range(3)]
    for origin, waiter in zip((A, C, A), waiters, strict=True):
        assert ledger.wait(origin, waiter) == []
    begun = []
    for slot in held:
        (order,) = ledger.close(slot)
        assert isinstance(order, Dial)
        begun.append(order.waiter)
    assert begun == waiters[:2]


def test_the_idle_connection_used_longest_ago_is_closed_for_another_origin() -> None:
    ledger = books(max_total=3)
    slots = [leased(ledger, origin) for origin in (A, B, A)]
    for slot in (slots[1], slots[0], slots[2]):
        ledger.give_back(slot)
    closed, begun = ledger.wait(C, Waiter())
    assert isinstance(closed, Close)
    assert closed.slot is slots[1]
    assert slots[1].state is State.CLOSED
    assert isinstance(begun, Dial)


def test_a_spare_dial_is_abandoned_before_an_idle_connection_is_closed() -> None:
    ledger = books(max_total=2)
    idle = leased(ledger, A)
    ledger.give_back(idle)
    dial, waiter = dial_for(ledger, B)
    ledger.give_up(waiter)
    abandoned, begun = ledger.wait(C, Waiter())
    assert isinstance(abandoned, Abandon)
    assert abandoned.slot is dial
    assert isinstance(begun, Dial)
    assert idle.state is State.IDLE


def test_a_connection_given_back_is_closed_at_once_when_another_origin_wants_its_slot() -> None:
    ledger = books(max_total=1)
    slot = leased(ledger, A)
    waiter = Waiter()
    assert ledger.wait(B, waiter) == []
    closed, begun = ledger.give_back(slot)
    assert isinstance(closed, Close)
    assert closed.slot is slot
    assert isinstance(begun, Dial)
    assert begun.waiter is waiter


def test_the_end_of_everything_fails_who_waits_and_closes_what_is_open() -> None:
    ledger = books(max_per_origin=2)
    held, idle = leased(ledger, A), leased(ledger, A)
    ledger.give_back(idle)
    dial, waiter = dial_for(ledger, B)
    orders = ledger.close_all()
    assert sorted(kinds(orders), key=str) == sorted([Fail, Close, Close, Abandon], key=str)
    assert {slot.state for slot in (held, idle, dial)} == {State.CLOSED}
    assert ledger.close(held) == []
    assert ledger.closed
    assert ledger.statistics() == ClientStatistics(dialing=0, leased=0, idle=0, waiting=0)
    assert not waiter.place.waiters
    ledger.check()


def test_a_dial_for_nobody_is_made_where_there_is_room_and_takes_none_from_anybody() -> None:
    """C10: warming up."""
    ledger = books(max_total=3, max_per_origin=2)
    idle = leased(ledger, B)
    ledger.give_back(idle)
    for _ in range(2):
        (order,) = ledger.warm(A)
        assert isinstance(order, Dial)
        assert order.waiter is None
    assert ledger.warm(A) == [], "at the limit of its origin"
    assert ledger.warm(C) == [], "at the limit of all; the idle one stays"
    assert idle.state is State.IDLE
    assert (ledger.count(A), ledger.count(B), ledger.count(C)) == (2, 1, 0)
    ledger.close_all()
    assert ledger.warm(A) == []


def test_a_dial_for_nobody_serves_who_comes_and_is_given_up_for_another_origin() -> None:
    ledger = books(max_total=2)
    (first,) = ledger.warm(A)
    (second,) = ledger.warm(A)
    assert isinstance(first, Dial)
    assert isinstance(second, Dial)
    waiter = Waiter()
    assert ledger.wait(A, waiter) == []
    assert ledger.count(A) == 1, "the other one is for who waits"
    abandoned, begun = ledger.wait(B, Waiter())
    assert isinstance(abandoned, Abandon)
    assert abandoned.slot is second.slot
    assert isinstance(begun, Dial)
    assert ledger.count(A) == 0
    (order,) = ledger.dialed(first.slot)
    assert isinstance(order, Give)
    assert order.waiter is waiter


def test_a_dial_for_nobody_that_fails_fails_nobody() -> None:
    ledger = books()
    (order,) = ledger.warm(A)
    assert isinstance(order, Dial)
    assert ledger.dial_failed(order.slot) == []
    assert ledger.statistics().origins == {}


def test_the_statistics_of_each_route_are_its_own() -> None:
    ledger = books(max_per_origin=2)
    ledger.give_back(leased(ledger, A))
    leased(ledger, B)
    dial_for(ledger, B)
    ledger.wait(B, Waiter())
    assert ledger.statistics().origins == {
        "http://a": PoolCounts(dialing=0, leased=0, idle=1, waiting=0),
        "http://b": PoolCounts(dialing=1, leased=1, idle=0, waiting=2),
    }


def test_the_check_finds_a_spare_dial_that_is_not_listed() -> None:
    ledger = books()
    ledger.warm(A)
    ledger.check()
    ledger._spare.clear()
    with pytest.raises(AssertionError):
        ledger.check()


def test_the_check_finds_books_that_are_not_true() -> None:
    ledger = books()
    slot = leased(ledger, A)
    slot.state = State.IDLE
    with pytest.raises(AssertionError):
        ledger.check()


# -------------------------------------------------------------------------------------------------- any order


class LedgerMachine(RuleBasedStateMachine):
    """The world round a ledger: it does what is ordered, and everything that may happen happens."""

    slots: Bundle[Slot[str]] = Bundle("slots")

    @initialize(max_total=st.integers(1, 4), max_per_origin=st.integers(1, 3))
    def begin(self, max_total: int, max_per_origin: int) -> None:
        self.ledger = books(max_total, max_per_origin)
        self.max_total, self.max_per_origin = max_total, max_per_origin
        self.waiting: list[tuple[Origin, Waiter]] = []  # the model: who waits, oldest first
        self.made: list[tuple[Origin, Slot[str]]] = []  # and every connection that is not closed

    def carry_out(self, orders: list[Any]) -> list[Slot[str]]:
        """Do what was ordered; return the dials that were begun."""
        begun = []
        for order in orders:
            if isinstance(order, Give | Fail):
                origin = next(origin for origin, waiter in self.waiting if waiter is order.waiter)
                oldest = next(waiter for each, waiter in self.waiting if each == origin)
                assert order.waiter is oldest, "served out of turn"
                self.waiting = [pair for pair in self.waiting if pair[1] is not order.waiter]
                if isinstance(order, Give):
                    assert order.slot.route == origin
                    assert order.slot.state is State.LEASED
            elif isinstance(order, Dial):
                assert order.slot.state is State.DIALING
                assert order.waiter is None or (order.slot.route, order.waiter) in self.waiting
                self.made.append((order.slot.route, order.slot))
                begun.append(order.slot)
            else:
                assert order.slot.state is State.CLOSED
        return begun

    @rule(target=slots, origin=st.sampled_from([A, B, C]))
    def ask(self, origin: Origin) -> Any:
        if (slot := self.ledger.take(origin)) is not None:
            assert not any(each == origin for each, _ in self.waiting), "took what others wait for"
            return slot
        waiter = Waiter()
        self.waiting.append((origin, waiter))
        return multiple(*self.carry_out(self.ledger.wait(origin, waiter)))

    @rule(target=slots, origin=st.sampled_from([A, B, C]))
    def warm(self, origin: Origin) -> Any:
        """Dial for nobody: when there is room, and only then, and at nobody's cost."""
        before = [(slot, slot.state) for _, slot in self.made]
        open_slots = [place for place, slot in self.made if slot.state is not State.CLOSED]
        has_room = len(open_slots) < self.max_total and open_slots.count(origin) < self.max_per_origin
        count = self.ledger.count(origin)
        waited = any(each == origin for each, _ in self.waiting)
        begun = self.carry_out(self.ledger.warm(origin))
        assert len(begun) == has_room
        assert all(slot.state is state for slot, state in before)
        if not waited:
            assert self.ledger.count(origin) == count + has_room
        return multiple(*begun)

    @rule(target=slots, data=st.data())
    def give_up(self, data: st.DataObject) -> Any:
        if not self.waiting:
            return multiple()
        pair = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(pair)
        return multiple(*self.carry_out(self.ledger.give_up(pair[1])))

    @rule(target=slots, slot=slots)
    def use(self, slot: Slot[str]) -> Any:
        """Let time pass for a connection: a dial succeeds, a lease ends well."""
        match slot.state:
            case State.DIALING:
                orders = self.ledger.dialed(slot)
            case State.LEASED:
                orders = self.ledger.give_back(slot)
            case _:
                return multiple()
        return multiple(*self.carry_out(orders))

    @rule(target=slots, slot=consumes(slots))
    def lose(self, slot: Slot[str]) -> Any:
        """Let a connection end: a dial fails, a lease ends badly, an idle connection expires."""
        if slot.state is State.DIALING:
            return multiple(*self.carry_out(self.ledger.dial_failed(slot)))
        return multiple(*self.carry_out(self.ledger.close(slot)))

    @rule(target=slots, origin=st.sampled_from([A, B, C]))
    def distrust(self, origin: Origin) -> Any:
        return multiple(*self.carry_out(self.ledger.close_idle(origin)))

    @invariant()
    def the_books_are_true(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.ledger.check()
        self.made = [pair for pair in self.made if pair[1].state is not State.CLOSED]
        counts = self.ledger.statistics()
        routes = {}
        for origin in (A, B, C):
            states = [slot.state for place, slot in self.made if place == origin]
            real = PoolCounts(
                dialing=states.count(State.DIALING),
                leased=states.count(State.LEASED),
                idle=states.count(State.IDLE),
                waiting=sum(each == origin for each, _ in self.waiting),
            )
            if real != NOTHING:
                routes[str(origin)] = real
            assert self.ledger.count(origin) == real.idle + max(0, real.dialing - real.waiting)
        assert counts.origins == routes
        for name in ("dialing", "leased", "idle", "waiting"):
            assert getattr(counts, name) == sum(getattr(each, name) for each in routes.values())

    def teardown(self) -> None:
        """However it went: when every dial succeeds and every lease ends, everybody is served."""
        if not hasattr(self, "ledger"):
            return
        for _ in range(1000):
            active = [slot for slot in self.ledger._slots if slot.state in (State.DIALING, State.LEASED)]
            if not active:
                break
            for slot in active:
                if slot.state is State.DIALING:
                    self.carry_out(self.ledger.dialed(slot))
                elif slot.state is State.LEASED:
                    self.carry_out(self.ledger.give_back(slot))
        assert self.waiting == []
        self.ledger.check()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = hypothesis.settings(max_examples=200, stateful_step_count=60)
