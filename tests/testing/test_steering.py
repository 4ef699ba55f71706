"""Sweeps and simulations set the order of all tasks of a process, so there is one at a time."""

from __future__ import annotations

import pytest
import trio
from trio._core import _run
from trio.testing import MockClock

from trio_http.testing import Simulation, cancel_at_every_step, simulate


async def two_steps() -> None:
    await trio.lowlevel.checkpoint()


async def nothing(simulation: Simulation) -> None:
    await trio.lowlevel.checkpoint()


def as_trio_has_it() -> bool:
    return not hasattr(_run, "id") and _run.CancelStatus.__attrs_post_init__.__module__ == _run.__name__


async def test_two_sweeps_beside_each_other_are_refused() -> None:
    """They used to restore each other's order, to see each other's tasks, and to change Trio for good."""
    flag = _run._ALLOW_DETERMINISTIC_SCHEDULING
    ended: list[int] = []

    async def sweep() -> None:
        ended.append(len((await cancel_at_every_step(two_steps)).points))

    with pytest.RaisesGroup(
        pytest.RaisesExc(RuntimeError, match="a sweep of two_steps cannot begin beside a sw")
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sweep)
            nursery.start_soon(sweep)
    assert ended == []
    assert as_trio_has_it()
    assert flag == _run._ALLOW_DETERMINISTIC_SCHEDULING
    await sweep()
    assert ended == [5]


async def test_one_sweep_within_another_is_fine_and_two_there_are_not() -> None:
    async def inner() -> None:
        await cancel_at_every_step(two_steps)

    async def side_by_side() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner)
            nursery.start_soon(inner)

    await cancel_at_every_step(inner, only="1 woken")
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="cannot begin beside")):
        await cancel_at_every_step(side_by_side)
    assert as_trio_has_it()


async def test_a_sweep_that_is_cancelled_lets_the_next_one_begin(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1):
        await cancel_at_every_step(trio.sleep_forever)
    assert (await cancel_at_every_step(two_steps)).points


async def test_a_simulation_in_a_thread_beside_a_sweep_is_refused() -> None:
    async def scenario() -> None:
        with pytest.raises(RuntimeError, match="a simulation of nothing cannot begin beside a sweep of"):
            await trio.to_thread.run_sync(lambda: simulate(nothing, seeds=[0]))

    await cancel_at_every_step(scenario, only="1 woken")
    assert (await trio.to_thread.run_sync(lambda: simulate(nothing, seeds=[0]))).runs == 1


def test_a_sweep_within_a_simulation_is_fine() -> None:
    async def program(simulation: Simulation) -> None:
        assert len((await cancel_at_every_step(two_steps)).points) == 5

    assert simulate(program, seeds=range(2)).runs == 2
    assert as_trio_has_it()
