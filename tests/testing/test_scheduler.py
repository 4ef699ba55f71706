"""The names of Trio's that only `trio_http/testing/_scheduler.py` may touch, and what it makes of them."""

from __future__ import annotations

import random
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from trio._core import _run

from trio_http.testing import _scheduler

PACKAGE = Path(_scheduler.__file__).resolve().parents[1]


def test_trios_private_names_are_where_they_are_expected() -> None:
    """A tripwire: when this fails, the file has to follow Trio."""
    assert isinstance(_run._r, random.Random)
    assert isinstance(_run._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert {"_next_send", "_abort_func"} <= set(trio.lowlevel.Task.__slots__)
    assert callable(trio.lowlevel.Task._attempt_abort)
    assert _run.CancelReason(source="deadline", reason="ours").reason == "ours"
    assert trio.CancelScope()._cancel_reason is None
    assert {"scope", "parent"} <= {field.alias for field in attrs.fields(_run.CancelStatus)}


def test_no_other_module_touches_trios_private_names() -> None:
    touching = [path.name for path in PACKAGE.rglob("*.py") if "trio._" in path.read_text("utf-8")]
    assert touching == ["_scheduler.py"]


async def order_of_tasks(seed: int) -> list[int]:
    """The order in which eight tasks run that are made ready at the same time, four times over."""
    order: list[int] = []

    async def run(number: int) -> None:
        for _ in range(4):
            order.append(number)
            await trio.lowlevel.checkpoint()

    with _scheduler.repeatable_order(seed):
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(run, number)
    return order


async def test_one_seed_gives_one_order_and_another_seed_another() -> None:
    assert await order_of_tasks(1) == await order_of_tasks(1)
    assert await order_of_tasks(1) != await order_of_tasks(2)


async def test_the_order_is_trios_own_again_after_the_block() -> None:
    state, flag = _run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING
    with _scheduler.repeatable_order(5):
        assert _run._r.getstate() != state
        assert _run._ALLOW_DETERMINISTIC_SCHEDULING
    assert _run._r.getstate() == state
    assert flag == _run._ALLOW_DETERMINISTIC_SCHEDULING


async def test_a_task_that_waits_in_a_shield_can_be_ended_and_one_that_runs_cannot() -> None:
    ended: list[str] = []

    async def stuck() -> None:
        try:
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()
        except AssertionError as exc:
            ended.append(str(exc))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stuck)
        await trio.testing.wait_all_tasks_blocked()
        (task,) = nursery.child_tasks
        assert not _scheduler.raise_in_waiting(trio.lowlevel.current_task(), "never raised")
        assert _scheduler.raise_in_waiting(task, "enough")
    assert ended == ["enough"]


@pytest.mark.parametrize("reason", ["ours", "another"])
async def test_what_a_task_is_about_to_be_sent_is_told_by_the_reason(reason: str) -> None:
    seen: list[bool] = []

    class Look(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if task is me:
                seen.append(_scheduler.cancelled_with(task, "ours") is not None)

    me = trio.lowlevel.current_task()
    trio.lowlevel.add_instrument(look := Look())
    with trio.CancelScope() as scope:
        await trio.lowlevel.checkpoint()
        scope.cancel(reason=reason)
        await trio.sleep_forever()
    trio.lowlevel.remove_instrument(look)
    assert seen == [False, reason == "ours"]


async def test_a_deadline_that_is_made_to_pass_is_known_by_its_reason(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A tripwire, too: Trio keeps the reason of a cancel where it is put."""
    told: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        _scheduler.pass_deadline(scope, "ours")
        assert not scope._cancel_called  # not before Trio's next round
        assert trio.current_effective_deadline() <= trio.current_time()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            told.append(exc)
            raise
    assert scope.cancelled_caught
    assert [(exc.source, exc.reason) for exc in told] == [("deadline", "ours")]


async def test_the_scopes_of_a_task_are_told_from_the_innermost_out_to_one() -> None:
    """A tripwire for the names in which Trio keeps them."""
    task = trio.lowlevel.current_task()
    with trio.CancelScope() as outer, trio.CancelScope() as middle, trio.CancelScope() as inner:
        await trio.lowlevel.checkpoint()
        assert _scheduler.scopes_within(task, outer) == (inner, middle)
        assert _scheduler.scopes_within(task, inner) == ()
        assert _scheduler.scopes_within(task, trio.CancelScope())[:3] == (inner, middle, outer)


async def test_the_errors_that_a_nursery_has_to_raise_are_counted() -> None:
    async def fail() -> None:
        raise KeyError("one of two")

    with pytest.RaisesGroup(KeyError, KeyError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(fail)
            nursery.start_soon(trio.lowlevel.checkpoint)
            assert _scheduler.count_errors(nursery) == 0
            for _ in range(2):  # the first one to fail cancels the nursery, which is not to be seen here
                await trio.lowlevel.cancel_shielded_checkpoint()
            assert _scheduler.count_errors(nursery) == 2
