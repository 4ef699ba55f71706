"""How many requests may begin in a second (C47, A56): rate, burst, order, and what a cancel leaves."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_http import Request, Response
from trio_http.client._rate_limit import RateLimit, RateLimitStatistics
from trio_http.testing import cancel_at_every_step, open_client


class Log:
    """Who had a turn, and when.

    Attributes:
      turns: pairs of name and time.
    """

    def __init__(self, limit: RateLimit) -> None:
        self.turns: list[tuple[str, float]] = []
        self._limit = limit

    async def wait(self, name: str, key: str = "a") -> None:
        await self._limit.wait(key)
        self.turns.append((name, trio.current_time()))

    @property
    def times(self) -> list[float]:
        return [time for _, time in self.turns]

    @property
    def names(self) -> str:
        return "".join(name for name, _ in self.turns)


# --------------------------------------------------------------------------------------- rate, burst, order


async def test_turns_are_an_interval_apart(autojump_clock: MockClock) -> None:
    log = Log(RateLimit(4))
    for name in "abcde":
        await log.wait(name)
    assert log.times == [0, 0.25, 0.5, 0.75, 1]


async def test_a_thousand_turns_take_exactly_their_time(autojump_clock: MockClock) -> None:
    """No error of floating point adds up, and no turn is lost to it."""
    log = Log(RateLimit(10))
    for name in "x" * 1001:
        await log.wait(name)
    assert log.times[-1] == pytest.approx(100, abs=1e-9)


@pytest.mark.parametrize("rate", [0.1, 3, 7, 10, 1e6])
async def test_a_burst_is_had_at_once_and_not_more_than_that(rate: float, mock_clock: MockClock) -> None:
    log = Log(RateLimit(rate, 11))
    async with trio.open_nursery() as nursery:
        for _ in range(13):
            nursery.start_soon(log.wait, "x")
        await wait_all_tasks_blocked()
        assert log.times == [0] * 11
        mock_clock.jump(1.01 / rate)
        await wait_all_tasks_blocked()
        assert len(log.times) == 12
        mock_clock.jump(1 / rate)


async def test_a_burst_comes_back_with_time_and_no_further(autojump_clock: MockClock) -> None:
    log = Log(RateLimit(1, 3))
    for pause in (0, 2, 100):
        await trio.sleep(pause)
        start = trio.current_time()
        log.turns.clear()
        for _ in range(4):
            await log.wait("x")
        waited = [time - start for time in log.times]
        # After two seconds two turns are back, and the third comes a second later.
        assert waited == ([0, 0, 1, 2] if pause == 2 else [0, 0, 0, 1])


async def test_first_come_first_served_also_for_who_comes_when_a_turn_is_due(
    autojump_clock: MockClock,
) -> None:
    log = Log(RateLimit(1))
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(log.wait, name)
            await wait_all_tasks_blocked()
        autojump_clock.jump(1)
        await log.wait("d")  # `b` is due, and not awake yet
    assert log.turns == [("a", 0), ("b", 1), ("c", 2), ("d", 3)]


async def test_keys_do_not_wait_for_each_other(autojump_clock: MockClock) -> None:
    log = Log(RateLimit(1))
    async with trio.open_nursery() as nursery:
        for key in "abc":
            for _ in range(3):
                nursery.start_soon(log.wait, key, key)
    assert sorted(log.turns) == [(key, time) for key in "abc" for time in (0, 1, 2)]


async def test_a_limit_for_the_client_counts_everything_together(autojump_clock: MockClock) -> None:
    log = Log(RateLimit(1, per="client"))
    for key in "abc":
        await log.wait(key, key)
    assert log.times == [0, 1, 2]


async def test_timers_that_are_late_do_not_slow_it_down(mock_clock: MockClock) -> None:
    log = Log(RateLimit(1))
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(log.wait, "x")
            await wait_all_tasks_blocked()
        for now in (1.25, 2.25, 3.5, 4.5, 5):
            mock_clock.jump(now - trio.current_time())
            await wait_all_tasks_blocked()
    assert log.times == [0, 1.25, 2.25, 3.5, 4.5, 5]


@pytest.mark.parametrize("burst", [1, 3])
async def test_a_program_that_stood_still_makes_up_for_one_turn_only(
    burst: int, mock_clock: MockClock
) -> None:
    log = Log(RateLimit(1, burst))
    async with trio.open_nursery() as nursery:
        for _ in range(burst + 10):
            nursery.start_soon(log.wait, "x")
        await wait_all_tasks_blocked()
        mock_clock.jump(1000)
        await wait_all_tasks_blocked()
        assert log.times == [0] * burst + [1000] * (burst + 1)
        mock_clock.jump(0.5)
        await wait_all_tasks_blocked()
        assert len(log.times) == 2 * burst + 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(10))
async def test_no_window_has_more_turns_than_its_share(seed: int, autojump_clock: MockClock) -> None:
    dice = random.Random(seed)
    print(f"seed {seed}")
    rate, burst = dice.choice([0.5, 2, 3]), dice.randint(1, 4)
    log = Log(RateLimit(rate, burst))

    async def come(name: str) -> None:
        await trio.sleep(dice.random() * 20)
        with trio.move_on_after(dice.choice([0.3, 3, 1000])):
            await log.wait(name)

    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(come, "x")
    times = log.times
    assert times == sorted(times)
    assert len(times) > 10
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + rate * (times[last] - times[first]) + 1e-6


# ----------------------------------------------------------------------------------------------- cancelling


async def test_a_cancelled_waiter_gives_its_turn_back(mock_clock: MockClock) -> None:
    log = Log(RateLimit(1))
    scopes = {name: trio.CancelScope() for name in "abcdef"}

    async def come(name: str) -> None:
        with scopes[name]:
            await log.wait(name)

    async with trio.open_nursery() as nursery:
        for name in scopes:
            nursery.start_soon(come, name)
            await wait_all_tasks_blocked()
        scopes["b"].cancel()  # which is first in the queue and sleeps
        scopes["d"].cancel()  # which is in its midst
        await wait_all_tasks_blocked()
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
        assert log.turns == [("a", 0), ("c", 1)]
        # The one that is first now, and the one after it, in the same moment.
        scopes["e"].cancel()
        scopes["f"].cancel()
    assert log.names == "ac"


async def test_a_waiter_that_is_cancelled_as_it_is_woken_wakes_the_next(mock_clock: MockClock) -> None:
    limit = RateLimit(1)
    log = Log(limit)
    scopes = {name: trio.CancelScope() for name in "abcd"}

    async def come(name: str) -> None:
        with scopes[name]:
            await log.wait(name)
            if name == "b":
                scopes["c"].cancel()  # to which it has just handed its place

    async with trio.open_nursery() as nursery:
        for name in scopes:
            nursery.start_soon(come, name)
            await wait_all_tasks_blocked()
        for _ in range(2):
            mock_clock.jump(1)
            await wait_all_tasks_blocked()
    assert log.turns == [("a", 0), ("b", 1), ("d", 2)]
    assert limit.statistics().waiting == 0


async def test_a_cancel_at_any_step_leaves_the_limit_in_order(autojump_clock: MockClock) -> None:
    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[RateLimit]:
        yield RateLimit(1, 2)

    async def scenario(limit: RateLimit) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(limit.wait, "a")

    async def check(limit: RateLimit) -> None:
        assert limit.statistics().waiting == 0
        await trio.sleep(2)
        start = trio.current_time()
        for _ in range(3):
            await limit.wait("a")
        assert trio.current_time() - start == pytest.approx(1)

    report = await cancel_at_every_step(scenario, world=world, check=check)
    assert any("_wait_in" in point.within for point in report.points)


async def test_a_turn_is_a_checkpoint_and_is_not_taken_by_who_is_cancelled(mock_clock: MockClock) -> None:
    limit = RateLimit(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await limit.wait()
    assert scope.cancelled_caught
    with trio.testing.assert_checkpoints(), trio.fail_after(0.5):
        await limit.wait()


# -------------------------------------------------------------------------------------------- what it keeps


async def test_idle_keys_are_forgotten(autojump_clock: MockClock) -> None:
    limit = RateLimit(1, 2)
    most = 0
    for number in range(2000):
        await limit.wait(number)
        most = max(most, limit.statistics().keys)
        await trio.sleep(0.1)
    # A key is full again after a second, in which there are ten more.
    assert most <= 40


async def test_a_key_with_a_long_queue_does_not_keep_the_others_in_memory(autojump_clock: MockClock) -> None:
    limit = RateLimit(1)
    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(limit.wait, "busy")
        for number in range(1000):
            await limit.wait(number)
            await trio.sleep(0.5)
        assert limit.statistics().keys < 20
        assert 490 <= limit.statistics().waiting <= 510
        nursery.cancel_scope.cancel()
    assert limit.statistics().waiting == 0


async def test_the_statistics_are_a_picture(mock_clock: MockClock) -> None:
    limit = RateLimit(1)
    async with trio.open_nursery() as nursery:
        for key in "aab":
            nursery.start_soon(limit.wait, key)
        await wait_all_tasks_blocked()
        assert limit.statistics() == RateLimitStatistics(waiting=1, keys=2)
        nursery.cancel_scope.cancel()
    assert repr(limit) == "RateLimit(1, burst=1, per='origin')"


def test_a_limit_survives_a_clock_that_begins_again() -> None:
    limit = RateLimit(1)

    async def use(now: float, clock: MockClock) -> float:
        clock.jump(now)
        for _ in range(3):
            await limit.wait("a")
        return trio.current_time() - now

    for now in (1e6, 5):
        clock = MockClock(autojump_threshold=0)
        assert trio.run(use, now, clock, clock=clock) <= 3


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (ValueError, {"rate": 0}),
        (ValueError, {"rate": -1}),
        (ValueError, {"rate": float("nan")}),
        (ValueError, {"rate": float("inf")}),
        (ValueError, {"rate": 1, "burst": 0}),
        (TypeError, {"rate": 1, "burst": 1.5}),
        (ValueError, {"rate": 1, "per": "host"}),
    ],
)
def test_bad_arguments_are_refused(error: type[Exception], arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=list(arguments)[-1]):
        RateLimit(**arguments)


# -------------------------------------------------------------------------------------- round a real client


async def test_requests_of_many_tasks_reach_the_server_at_the_rate(autojump_clock: MockClock) -> None:
    """C47: while they wait for their turn, they hold no connection."""
    times: list[float] = []

    async def app(request: Request) -> Response:
        times.append(trio.current_time())
        return Response()

    limit = RateLimit(2, 2)

    async with open_client(app) as client, trio.open_nursery() as nursery:

        async def get() -> None:
            await limit.wait("http://testserver")
            await client.get("/")

        for _ in range(6):
            nursery.start_soon(get)
        await trio.sleep(0.25)
        assert (client.statistics().leased, client.statistics().waiting) == (0, 0)
        assert limit.statistics().waiting == 4
    assert times == [0, 0, 0.5, 1, 1.5, 2]
