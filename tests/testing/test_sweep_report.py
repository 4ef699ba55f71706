"""What a sweep says: of each point, of the first that fails, and how that one is run alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
import trio.testing

from trio_http.testing import SweepFailed, SweepReport, cancel_at_every_step, watch_sweeps


@attrs.define
class Slots:
    """Something that is taken and must be given back."""

    taken: int = 0
    runs: int = 0


@contextlib.asynccontextmanager
async def fresh_slots() -> AsyncIterator[Slots]:
    await trio.lowlevel.checkpoint()
    yield Slots()


async def careless(slots: Slots) -> None:
    slots.taken += 1
    await trio.lowlevel.checkpoint()  # the defect: nothing gives it back when this is cancelled
    slots.taken -= 1
    await trio.lowlevel.checkpoint()


def none_taken(slots: Slots) -> None:
    if slots.taken:
        raise AssertionError("a slot is lost")


HERE = f"testing/test_sweep_report.py:{careless.__code__.co_firstlineno + 2} in careless"


async def test_a_failure_has_the_point_the_state_and_the_way_to_run_it_alone() -> None:
    with pytest.raises(SweepFailed) as caught:
        await cancel_at_every_step(careless, world=fresh_slots, check=none_taken, only="1 waiting", seed=0)
    failure = caught.value
    assert str(failure).splitlines() == [
        f"cancelled at step 1, waiting at {HERE} (the scenario's task): "
        "check has raised AssertionError: a slot is lost",
        f"  Cancelled came: {HERE}",
        "  state before:   Slots(taken=0, runs=0)",
        "  when cancelled: Slots(taken=1, runs=0)",
        "  afterwards:     Slots(taken=1, runs=0)",
        "  tasks when cancelled:",
        f"    {careless.__module__}.careless: {HERE}",
        "  to run it alone: only='1 waiting', seed=0",
    ]
    assert failure.point is not None
    assert failure.point.landed == failure.point.place
    assert isinstance(failure.__cause__, AssertionError)


async def test_the_callers_own_state_is_shown() -> None:
    with pytest.raises(SweepFailed, match=r"afterwards: +1 of 4 slots"):
        await cancel_at_every_step(
            careless, world=fresh_slots, check=none_taken, state=lambda slots: f"{slots.taken} of 4 slots"
        )


async def test_a_state_that_cannot_be_had_hides_nothing() -> None:
    def state(slots: Slots) -> str:
        raise LookupError("no statistics")

    with pytest.raises(
        SweepFailed, match=r"a slot is lost[\s\S]*\(not to be had: LookupError: no statistics\)"
    ):
        await cancel_at_every_step(careless, world=fresh_slots, check=none_taken, state=state)


async def test_one_point_is_run_alone() -> None:
    worlds: list[Slots] = []

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Slots]:
        async with fresh_slots() as slots:
            worlds.append(slots)
            yield slots

    with pytest.raises(SweepFailed, match="a slot is lost"):
        await cancel_at_every_step(careless, world=world, check=none_taken, only="1 waiting")
    assert len(worlds) == 2  # left alone, and this one

    report = await cancel_at_every_step(careless, world=world, check=none_taken, only="2 waiting")
    assert [point.key for point in report.points] == ["2 waiting"]


@pytest.mark.parametrize("key", ["9 waiting", "3 waiting", "1 beside"])
async def test_a_point_that_does_not_come_is_told(key: str) -> None:
    with pytest.raises(ValueError, match=f"has no cancel point '{key}': left alone it takes 3 steps"):
        await cancel_at_every_step(careless, world=fresh_slots, only=key)


async def test_a_sweep_that_keeps_going_tells_of_every_failure() -> None:
    report = await cancel_at_every_step(careless, world=fresh_slots, check=none_taken, keep_going=True)
    assert [failure.point.key for failure in report.failures if failure.point] == [
        "1 woken", "1 waiting", "1 deadline", "2 woken",
    ]  # fmt: skip
    assert len(report.points) == 8
    text = str(report)
    assert text.startswith("8 cancel points in 3 steps, 1 of them too late to matter; 4 failed\n")
    assert f"  step 1, waiting at {HERE} (the scenario's task) FAILED\n" in text
    assert text.count("FAILED") == 4


async def test_a_sweep_that_keeps_going_ends_although_no_point_is_reached_any_more() -> None:
    visits: list[int] = []

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Slots]:
        visits.append(len(visits))
        if len(visits) > 1:
            raise OSError("no room")
        yield Slots()

    report = await cancel_at_every_step(careless, world=world, keep_going=True)
    assert report.points == ()
    assert {failure.reason.partition(": ")[2] for failure in report.failures} == {"no room"}
    assert len(report.failures) == 9  # three moments of the three steps that there were


async def test_the_report_tells_where_each_cancel_landed() -> None:
    report = await cancel_at_every_step(careless, world=fresh_slots)
    landed = {point.key: point.landed.line if point.landed else None for point in report.points}
    first = careless.__code__.co_firstlineno + 2
    assert landed == {
        "1 woken": first, "1 waiting": first, "1 deadline": first,
        # A checkpoint looks for a cancel again when it is woken: so it comes out of this one still.
        "2 woken": first, "2 waiting": first + 2, "2 deadline": first + 2,
        "3 woken": first + 2, "3 deadline": None,
    }  # fmt: skip


async def test_a_cancel_that_lands_in_a_child_is_told_there() -> None:
    async def child() -> None:
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    report = await cancel_at_every_step(scenario)
    assert "child" in {point.landed.function for point in report.points if point.landed}


async def test_a_cancel_that_is_met_again_in_the_clean_up_is_told_where_it_came_first() -> None:
    async def scenario() -> None:
        try:
            await trio.lowlevel.checkpoint()
        finally:
            await trio.lowlevel.checkpoint()

    report = await cancel_at_every_step(scenario, only="1 waiting")
    (landed,) = [point.landed for point in report.points]
    assert landed is not None
    assert landed.line == scenario.__code__.co_firstlineno + 2


async def test_who_watches_is_told_of_every_sweep_well_or_not() -> None:
    told: list[SweepReport] = []

    async def well() -> None:
        await trio.lowlevel.checkpoint()

    with watch_sweeps(told.append):
        await cancel_at_every_step(well)
        with pytest.raises(SweepFailed):
            await cancel_at_every_step(careless, world=fresh_slots, check=none_taken)
    await cancel_at_every_step(well)
    assert [(len(report.points), len(report.failures)) for report in told] == [(5, 0), (1, 1)]
    assert told[1].scenario == "careless"


async def test_a_scenario_that_changes_when_cancelled_is_followed_to_its_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Left alone it takes three steps, cancelled late it takes more: those are tried as well."""

    async def scenario() -> None:
        await trio.lowlevel.checkpoint()
        try:
            await trio.lowlevel.checkpoint()
        finally:
            with trio.move_on_after(5, shield=True):
                for _ in range(3):
                    await trio.lowlevel.checkpoint()

    report = await cancel_at_every_step(scenario)
    assert report.steps == 6
    assert max(point.step for point in report.points) == 6
