"""`Cancelled` that is swallowed in a task within the scenario, and what looks like it and is none."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable

import outcome
import pytest
import trio
from trio.testing import MockClock

from trio_http.testing import SweepFailed, SweepReport, cancel_at_every_step


async def failures(scenario: Callable[[], Awaitable[object]]) -> SweepReport:
    return await cancel_at_every_step(scenario, keep_going=True)


async def forget() -> None:
    with contextlib.suppress(trio.Cancelled):
        await trio.lowlevel.checkpoint()


FORGOTTEN = f"testing/test_sweep_swallowing.py:{forget.__code__.co_firstlineno + 2} in forget"


async def test_a_child_that_swallows_it_is_found_though_its_parent_meets_it() -> None:
    """It used to be found only where the parent was told as well, and who waits for its nursery is not."""

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forget)
        await trio.lowlevel.checkpoint()

    report = await failures(scenario)
    assert {failure.reason for failure in report.failures} == {
        f"AssertionError: Cancelled was swallowed: it was raised at {FORGOTTEN}, "
        "and tests.testing.test_sweep_swallowing.forget, a task within it, went on"
    }
    # Before the child has begun, while it waits, and when it was woken; not when it is over.
    assert [failure.point.key for failure in report.failures if failure.point] == [
        "1 woken", "1 waiting", "1 deadline", "2 woken", "2 waiting", "2 deadline", "3 woken",
    ]  # fmt: skip


async def test_a_grandchild_that_was_started_and_waited_for_is_found() -> None:
    async def serve(task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forget)
            task_status.started()

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)

    report = await failures(scenario)
    assert report.failures
    assert all(FORGOTTEN in failure.reason for failure in report.failures)


async def test_of_several_that_swallow_it_the_first_is_told() -> None:
    async def forget_too() -> None:
        await forget()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forget_too)
            nursery.start_soon(forget)

    with pytest.raises(SweepFailed, match=r"test_sweep_swallowing\.forget, a task within it, went on"):
        await cancel_at_every_step(scenario)


async def test_a_child_that_only_logs_it_is_found(caplog: pytest.LogCaptureFixture) -> None:
    async def child() -> None:
        try:
            await trio.lowlevel.checkpoint()
        except BaseException:
            logging.getLogger("a").exception("something has happened")

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    with pytest.raises(SweepFailed, match="Cancelled was swallowed"):
        await cancel_at_every_step(scenario)
    assert caplog.records


async def test_a_child_whose_own_scope_catches_it_has_swallowed_nothing(autojump_clock: MockClock) -> None:
    async def child() -> None:
        with trio.move_on_after(5) as scope:
            try:
                await trio.sleep(1)
            finally:
                scope.shield = True
                await trio.sleep(20)

    async def in_a_nursery() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    assert (await cancel_at_every_step(in_a_nursery)).points
    # It used to be said of the scenario's own task that it had swallowed the cancel.
    assert (await cancel_at_every_step(child)).points


async def test_a_child_that_hands_it_to_its_parent_has_swallowed_nothing() -> None:
    async def raised_by_the_parent() -> None:
        results: list[outcome.Maybe[None]] = []

        async def child() -> None:
            results.append(await outcome.acapture(trio.lowlevel.checkpoint))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        results[0].unwrap()

    async def kept_and_never_looked_at() -> None:
        errors: list[BaseException] = []

        async def child() -> None:
            try:
                await trio.lowlevel.checkpoint()
            except BaseException as exc:  # noqa: BLE001  # swallowed on purpose
                errors.append(exc)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.lowlevel.checkpoint)

    assert (await cancel_at_every_step(raised_by_the_parent)).points
    assert (await cancel_at_every_step(kept_and_never_looked_at)).points


async def test_the_scenario_itself_has_nobody_to_hand_it_to() -> None:
    kept: list[outcome.Maybe[None]] = []

    async def scenario() -> None:
        kept.append(await outcome.acapture(trio.lowlevel.checkpoint))

    with pytest.raises(SweepFailed, match=r"Cancelled was swallowed: .*, and the scenario went on"):
        await cancel_at_every_step(scenario)


async def test_a_child_that_is_cancelled_by_its_parent_as_well_has_swallowed_nothing(
    autojump_clock: MockClock,
) -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep(1)
            finally:
                nursery.cancel_scope.cancel()
        with trio.move_on_after(0):
            await trio.sleep_forever()

    assert (await cancel_at_every_step(scenario)).points


async def test_a_child_that_fails_as_it_is_cancelled_is_left_to_whoever_handles_that() -> None:
    async def child() -> None:
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            raise OSError("broken while it was cancelled") from None

    async def scenario() -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
        except* OSError:
            pass

    assert (await cancel_at_every_step(scenario)).points


async def test_one_sweep_within_another_takes_no_cancel_for_its_own() -> None:
    """Both come to the same moments of steps with the same numbers, by which they know their own."""

    async def inner() -> None:
        await trio.lowlevel.checkpoint()

    async def scenario() -> None:
        assert len((await cancel_at_every_step(inner)).points) == 5

    assert len((await cancel_at_every_step(scenario)).points) > 50
