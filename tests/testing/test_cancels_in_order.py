"""The order in which Trio tells tasks that they are cancelled, and the private names that it takes."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio._core import _run

from trio_http.testing._scheduler import cancels_in_order, repeatable_order


def test_trios_private_names_are_where_they_are_expected() -> None:
    """A tripwire: when this fails, `trio_http/testing/_scheduler.py` has to follow Trio."""
    status = _run.CancelStatus(scope=trio.CancelScope())
    assert type(status._children) is type(status._tasks) is set
    assert callable(_run.CancelStatus.__attrs_post_init__)
    assert not hasattr(_run, "id")
    deadlines = _run.Deadlines()
    with cancels_in_order():
        first, second = trio.CancelScope(), trio.CancelScope()
        deadlines.add(1.0, first)
        deadlines.add(1.0, second)
    (_, number, scope), (_, next_number, next_scope) = sorted(deadlines._heap)
    assert (scope, next_scope) == (first, second)
    assert next_number == number + 1


def aborts(*, by_deadline: bool) -> list[int]:
    """The order in which twenty waits, in scopes of their own, are aborted by one cancel, or at one time."""
    order: list[int] = []

    async def wait(number: int, whole: trio.CancelScope) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            order.append(number)
            return trio.lowlevel.Abort.SUCCEEDED

        await started.wait()
        with trio.CancelScope(deadline=5 if by_deadline else float("inf")):
            await trio.lowlevel.wait_task_rescheduled(abort)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(wait, number, nursery.cancel_scope)
            await trio.testing.wait_all_tasks_blocked()
            started.set()
            await trio.sleep(1)
            if not by_deadline:
                nursery.cancel_scope.cancel()

    started = trio.Event()
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return order


@pytest.mark.parametrize("by_deadline", [False, True], ids=["by one cancel", "at one time"])
def test_waits_are_aborted_in_an_order_of_the_seeds(by_deadline: bool) -> None:
    orders = []
    for _ in range(3):
        with repeatable_order(1), cancels_in_order():
            orders.append(aborts(by_deadline=by_deadline))
    assert sorted(orders[0]) == list(range(20))
    assert orders[0] == orders[1] == orders[2]


def test_trio_is_as_it_was_after_the_block() -> None:
    original = _run.CancelStatus.__attrs_post_init__
    with pytest.raises(KeyError), cancels_in_order():
        assert _run.CancelStatus.__attrs_post_init__ is not original
        raise KeyError
    assert _run.CancelStatus.__attrs_post_init__ is original
    assert not hasattr(_run, "id")


def test_a_nursery_moves_its_tasks_and_a_scope_that_is_left_too_early_is_told_as_ever() -> None:
    """The two other things that Trio does with what is in a scope."""

    async def child(task_status: trio.TaskStatus[int]) -> None:
        with trio.CancelScope():
            task_status.started(1)
            await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            assert await nursery.start(child) == 1
            nursery.cancel_scope.cancel()
        outer, inner = trio.CancelScope(), trio.CancelScope()
        outer.__enter__()
        inner.__enter__()
        with pytest.raises(RuntimeError, match="Cancel scope stack corrupted"):
            outer.__exit__(None, None, None)
        inner.__exit__(None, None, None)

    with cancels_in_order():
        trio.run(main)


async def test_one_block_within_another_leaves_the_outer_one_in_force() -> None:
    with cancels_in_order():
        outer = _run.id  # type: ignore[attr-defined]
        with cancels_in_order():
            assert _run.id is not outer  # type: ignore[attr-defined]
        assert _run.id is outer  # type: ignore[attr-defined]
    assert not hasattr(_run, "id")
