"""The moments of a sweep beyond a task's own waits: deadlines, and the steps of other tasks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from trio_http.testing import CancelPoint, SweepFailed, cancel_at_every_step
from trio_http.testing._cancel_point import parse_key


async def test_a_deadline_has_passed_before_trio_cancels() -> None:
    """What asks for the time that is left is told the truth, and has not been cancelled yet."""
    overdue: list[bool] = []

    async def scenario() -> None:
        await trio.lowlevel.checkpoint()
        late = trio.current_effective_deadline() <= trio.current_time()
        overdue.append(late)
        await trio.lowlevel.checkpoint()
        assert not late, "it went on behind a deadline"

    report = await cancel_at_every_step(scenario)
    assert [point.key for point in report.points if point.moment == "deadline"] == [
        "1 deadline", "2 deadline", "3 deadline",
    ]  # fmt: skip
    assert (
        overdue.count(True) == 1
    )  # cancelled by the deadline in its second step; elsewhere by hand, or too early


async def test_a_cancel_comes_beside_each_step_of_the_others_too() -> None:
    """The scenario makes one step; what it waits for is made in three by somebody else."""
    stages: list[int] = []

    class Dial:
        def __init__(self) -> None:
            self.stage = 0
            self.done = trio.Event()

        async def run(self) -> None:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                self.stage += 1
            self.done.set()

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Dial]:
        dial = Dial()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial.run)
            yield dial

    async def scenario(dial: Dial) -> None:
        try:
            await dial.done.wait()
        finally:
            stages.append(dial.stage)

    report = await cancel_at_every_step(scenario, world=world, seed=0)
    beside = [point for point in report.points if point.moment == "beside"]
    assert {point.task for point in beside} == {"Dial.run"}
    assert {*stages} == {1, 2, 3}  # by the time that the first cancel is told, one step is made
    assert len(beside) == 4

    stages.clear()
    report = await cancel_at_every_step(scenario, world=world, beside=False, seed=0)
    assert {point.moment for point in report.points} == {"woken", "waiting", "deadline"}
    assert {*stages} == {1, 3}


async def test_what_is_lost_half_way_through_the_work_of_another_task_is_found() -> None:
    """Nothing of this is to be seen at the steps of the one that is cancelled."""

    class Shop:
        def __init__(self) -> None:
            self.shelf = ["bread"]
            self.on_its_way: list[str] = []
            self.wanted = trio.Event()
            self.customer = trio.Event()

        async def serve(self) -> None:
            await self.wanted.wait()
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            self.on_its_way.append(self.shelf.pop())
            await trio.lowlevel.checkpoint()
            self.customer.set()

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Shop]:
        shop = Shop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shop.serve)
            yield shop
            shop.wanted.set()

    async def scenario(shop: Shop) -> None:
        shop.wanted.set()
        try:
            await shop.customer.wait()
        except trio.Cancelled:
            if shop.shelf:
                raise
            shop.on_its_way.clear()  # the defect: it was taken off the shelf for nobody
            raise
        shop.shelf.append(shop.on_its_way.pop())

    async def check(shop: Shop) -> None:
        await trio.testing.wait_all_tasks_blocked()
        assert shop.shelf + shop.on_its_way == ["bread"], "the bread is lost"

    with pytest.raises(SweepFailed, match="the bread is lost") as caught:
        await cancel_at_every_step(scenario, world=world, check=check)
    assert caught.value.point is not None
    assert caught.value.point.moment == "beside"


@pytest.mark.parametrize("key", ["", "3", "waiting", "0 waiting", "-1 waiting", "3 sleeping", "3  waiting"])
def test_a_key_that_names_no_point_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"such as '12 waiting', got"):
        parse_key(key)


def test_a_point_is_named_by_its_key() -> None:
    point = CancelPoint(12, "waiting", "a task", None, ())
    assert (point.key, parse_key(point.key)) == ("12 waiting", (12, "waiting"))
