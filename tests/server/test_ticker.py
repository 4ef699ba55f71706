"""The clock that watches peers: when it tells, how little it does, and that it never spins."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from trio_http.connection import Ticker


class Timed:
    """Something watched, which keeps when it was told."""

    def __init__(self, deadline: float = math.inf) -> None:
        self.deadline = deadline
        self.scheduled = math.inf
        self.told: list[float] = []

    def on_deadline(self) -> None:
        self.told.append(trio.current_time())
        self.deadline = math.inf

    def allow(self, ticker: Ticker, deadline: float) -> None:
        self.deadline = deadline
        if deadline < self.scheduled:
            ticker.watch(self)


class Steps(trio.abc.Instrument):
    """Counts the steps of one task."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += self.name in task.name


@pytest.fixture
async def ticker(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> Ticker:
    ticker = Ticker()
    nursery.start_soon(ticker.run)
    await trio.testing.wait_all_tasks_blocked()
    return ticker


async def test_what_is_watched_is_told_when_its_time_is_up_and_once(
    ticker: Ticker, autojump_clock: trio.testing.MockClock
) -> None:
    timed = Timed()
    timed.allow(ticker, 10)
    await trio.sleep(100)
    assert timed.told == [10]


async def test_a_later_deadline_is_not_told_at_the_earlier_time(
    ticker: Ticker, autojump_clock: trio.testing.MockClock
) -> None:
    timed = Timed()
    timed.allow(ticker, 10)
    timed.deadline = 25
    await trio.sleep(100)
    assert timed.told == [25]


async def test_an_earlier_deadline_wakes_the_ticker(
    ticker: Ticker, autojump_clock: trio.testing.MockClock
) -> None:
    slow, quick = Timed(), Timed()
    slow.allow(ticker, 50)
    await trio.sleep(1)
    quick.allow(ticker, 5)
    await trio.sleep(1)
    slow.allow(ticker, 7)
    await trio.sleep(100)
    assert (quick.told, slow.told) == ([5], [7])


async def test_a_deadline_that_was_lifted_is_not_told_until_it_is_set_again(
    ticker: Ticker, autojump_clock: trio.testing.MockClock
) -> None:
    timed = Timed()
    timed.allow(ticker, 10)
    timed.deadline = math.inf
    await trio.sleep(20)
    assert timed.told == []
    assert timed.scheduled == math.inf
    timed.allow(ticker, 30)
    await trio.sleep(100)
    assert timed.told == [30]


async def test_what_is_forgotten_is_never_told(
    ticker: Ticker, autojump_clock: trio.testing.MockClock
) -> None:
    timed = Timed()
    timed.allow(ticker, 10)
    ticker.forget(timed)
    await trio.sleep(100)
    assert timed.told == []


async def test_a_deadline_in_the_past_is_told_at_once(
    ticker: Ticker, autojump_clock: trio.testing.MockClock
) -> None:
    await trio.sleep(10)
    timed = Timed()
    timed.allow(ticker, 3)
    await trio.testing.wait_all_tasks_blocked()
    assert timed.told == [10]


async def test_many_are_told_in_the_order_of_their_deadlines(
    ticker: Ticker, autojump_clock: trio.testing.MockClock
) -> None:
    all_timed = [Timed() for _ in range(100)]
    for number, timed in enumerate(all_timed):
        timed.allow(ticker, 1 + number * 37 % 100)
    await trio.sleep(200)
    assert [timed.told for timed in all_timed] == [[1 + number * 37 % 100] for number in range(100)]


async def test_entries_that_were_overtaken_tell_nothing(
    ticker: Ticker, autojump_clock: trio.testing.MockClock
) -> None:
    """Each earlier deadline leaves the former entry behind in the heap, where it may meet its time again."""
    timed = Timed()
    for deadline in (30, 20, 10):
        timed.allow(ticker, deadline)
    timed.deadline = 20
    await trio.sleep(15)
    timed.allow(ticker, 30)
    await trio.sleep(100)
    assert timed.told == [30]


async def test_entries_that_were_overtaken_are_gone_once_their_time_has_come(
    ticker: Ticker, autojump_clock: trio.testing.MockClock
) -> None:
    timed = Timed()
    for deadline in (30, 20, 10):
        timed.allow(ticker, deadline)
    timed.deadline = 1000
    await trio.sleep(50)
    assert [entry[0] for entry in ticker._heap] == [1000]


async def test_an_idle_ticker_takes_no_step(ticker: Ticker, autojump_clock: trio.testing.MockClock) -> None:
    steps = Steps("Ticker.run")
    trio.lowlevel.add_instrument(steps)
    await trio.sleep(80_000)
    trio.lowlevel.remove_instrument(steps)
    assert steps.count == 0


async def test_a_deadline_that_is_pushed_on_and_on_costs_one_step_for_each_time_it_is_looked_at(
    ticker: Ticker, autojump_clock: trio.testing.MockClock
) -> None:
    steps = Steps("Ticker.run")
    timed = Timed()
    timed.allow(ticker, 60)
    await trio.testing.wait_all_tasks_blocked()
    trio.lowlevel.add_instrument(steps)
    for _ in range(6000):
        await trio.sleep(0.1)
        timed.allow(ticker, trio.current_time() + 60)
    trio.lowlevel.remove_instrument(steps)

    # 600 seconds in which a look comes at most every 60: had each change been a push, 6000 steps.
    assert 9 <= steps.count <= 11
    assert timed.told == []


async def test_a_ticker_that_was_cancelled_can_be_run_again(autojump_clock: trio.testing.MockClock) -> None:
    ticker, timed = Ticker(), Timed()
    timed.allow(ticker, 10)
    with trio.move_on_after(5):
        await ticker.run()
    assert timed.told == []
    with trio.move_on_after(100):
        await ticker.run()
    assert timed.told == [10]
