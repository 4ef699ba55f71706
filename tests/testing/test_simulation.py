"""Simulated runs: one seed, one run; what is a failure, and what its text says."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import random
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import trio

from trio_http.testing import (
    CLEAR,
    STORM,
    Mishap,
    Simulation,
    SimulationFailed,
    Weather,
    simulate,
)

ROOT = Path(__file__).resolve().parents[2]


async def echo(simulation: Simulation) -> None:
    """A program with much chance in it: three clients and an echo, some of which are cancelled."""
    network = simulation.network
    listener = network.listen("a", 80)

    async def serve(stream: trio.abc.Stream) -> None:
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):
                async for data in stream:
                    await stream.send_all(data)

    async def ask(length: int) -> None:
        with (
            contextlib.suppress(trio.BrokenResourceError, OSError),
            trio.move_on_after(random.uniform(1, 60)),
        ):
            async with await network.dial("a", 80) as stream:
                await stream.send_all(bytes(length))
                while length:
                    data = await stream.receive_some(simulation.random.randint(1, 50))
                    if not data:
                        break
                    length -= len(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        async with trio.open_nursery() as asking:
            for _ in range(3):
                asking.start_soon(ask, simulation.random.randint(1, 300))
        nursery.cancel_scope.cancel()
    listener.close()


def test_one_seed_is_one_run() -> None:
    first = simulate(echo, seeds=range(20), weather=STORM)
    again = simulate(echo, seeds=range(20), weather=STORM)
    assert first == again
    assert first.runs == 20
    assert first.connections > 20
    assert first.virtual_seconds > 20
    assert first.events["stall"] > 5
    assert "20 runs, 0 failures" in str(first)
    assert f"{first.events['stall']} stall" in str(first)


def test_each_seed_is_another_run_and_none_depends_on_those_before_it() -> None:
    digests = [simulate(echo, seeds=[seed], weather=STORM).digest for seed in range(20)]
    assert len(set(digests)) == 20
    assert simulate(echo, seeds=[19], weather=STORM).digest == digests[19]


PROGRAM = """
import random, sys
junk = [bytes(random.SystemRandom().randint(1, 5000)) for _ in range(random.SystemRandom().randint(1, 3000))]
from tests.testing.test_simulation import echo
from tests.testing.test_simulation_of_http import crowd
from trio_http.testing import STORM, Weather, simulate
print(simulate(echo, seeds=range(10), weather=STORM).digest)
print(simulate(crowd, seeds=range(15), weather=Weather(latency=0.1)).digest)
"""


def test_a_run_is_the_same_in_another_process() -> None:
    """Whatever the seed of Python's hashes, and wherever its objects lie in memory."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().split()) == 2


async def breaks(simulation: Simulation) -> None:
    network = simulation.network
    listener = network.listen("a", 80)
    async with listener, await network.dial("a", 80) as client, await listener.accept():
        await client.send_all(b"x")
        await trio.sleep(2)
        if simulation.seed == 3:
            raise KeyError("no such luck")


def test_a_failure_says_its_seed_how_to_see_it_again_and_what_the_network_did() -> None:
    with pytest.raises(SimulationFailed) as caught:
        simulate(breaks, seeds=range(10), weather=Weather(latency=1))
    failed = caught.value
    assert isinstance(failed.__cause__, KeyError)
    assert (failed.seed, failed.seconds, failed.tasks) == (3, 4.0, "")
    assert str(failed).splitlines()[:3] == [
        "the run of breaks with seed 3 has failed: KeyError: 'no such luck'",
        "to see it again: simulate(breaks, seeds=[3]), all else as it was",
        f"it was at 4 virtual seconds, after {failed.steps} steps",
    ]
    assert "#0 client send 1 (at 3.0000)" in str(failed)
    with pytest.raises(SimulationFailed) as again:
        simulate(breaks, seeds=[3], weather=Weather(latency=1))
    assert str(again.value) == str(failed)
    copy = pickle.loads(pickle.dumps(failed))
    assert str(copy) == str(failed)
    assert copy.trace == failed.trace


def test_going_on_after_a_failure_collects_them() -> None:
    async def program(simulation: Simulation) -> None:
        assert simulation.seed % 3

    report = simulate(program, seeds=range(10), keep_going=True)
    assert report.runs == 10
    assert [failed.seed for failed in report.failures] == [0, 3, 6, 9]
    assert "failed: seed 6: AssertionError" in str(report)


def test_a_failure_in_a_group_is_told_by_what_is_in_it() -> None:
    async def fail() -> None:
        raise ValueError("inside")

    async def program(simulation: Simulation) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)

    with pytest.raises(SimulationFailed, match="has failed: ValueError: inside"):
        simulate(program, seeds=[0])


async def hangs(simulation: Simulation) -> None:
    async def wait_for_ever() -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_ever)


def test_a_hang_is_a_failure_and_its_tasks_are_drawn() -> None:
    with pytest.raises(SimulationFailed) as caught:
        simulate(hangs, seeds=[7], max_virtual_seconds=50)
    failed = caught.value
    assert failed.reason == "it has not ended within 50 virtual seconds"
    assert failed.seconds == 50
    outer, inner = failed.tasks.splitlines()
    assert outer.startswith("hangs: testing/test_simulation.py:")
    assert "wait_for_ever: testing/test_simulation.py:" in inner
    assert inner.startswith("  ")
    assert inner in str(failed)


def test_a_hang_that_does_not_let_itself_be_cancelled_ends_all_the_same() -> None:
    async def program(simulation: Simulation) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    with pytest.raises(SimulationFailed, match="not ended within 50 virtual") as caught:
        simulate(program, seeds=[0], max_virtual_seconds=50)
    assert "cancelled, and still waiting" in str(caught.value.__cause__)


@pytest.mark.parametrize("shield", [False, True])
def test_a_program_that_never_waits_is_stopped(shield: bool) -> None:
    async def program(simulation: Simulation) -> None:
        with trio.CancelScope(shield=shield):
            while True:
                await trio.lowlevel.checkpoint()

    with pytest.raises(SimulationFailed, match="not ended within 1000 steps") as caught:
        simulate(program, seeds=[0], max_steps=1000)
    assert "program: testing/test_simulation.py" in caught.value.tasks
    assert caught.value.steps < 2100


def test_streams_and_listeners_that_are_left_open_are_a_failure() -> None:
    async def program(simulation: Simulation) -> None:
        listener = simulation.network.listen("a", 80)
        async with await simulation.network.dial("a", 80):
            leaked.append(await listener.accept())

    leaked: list[object] = []
    with pytest.raises(SimulationFailed) as caught:
        simulate(program, seeds=[0])
    assert caught.value.reason == (
        "it has ended and left open: <SimulatedListener on a:80, open, 0 waiting>; "
        "<SimulatedStream #0, <server's end, open, 0 bytes sent, 0 received>>"
    )


def test_nothing_of_one_run_is_finalized_in_the_next() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    async def program(simulation: Simulation) -> None:
        assert not gc.isenabled()
        assert all(reference() is None for reference in before)
        before.append(weakref.ref(Cycle()))

    before: list[weakref.ref[Cycle]] = []
    simulate(program, seeds=range(5))
    assert len(before) == 5
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_the_process_is_left_as_it_was_also_by_a_failure() -> None:
    async def program(simulation: Simulation) -> None:
        drawn.append(random.random())
        if simulation.seed == 2:
            raise ValueError

    drawn: list[float] = []
    state = random.getstate()
    with pytest.raises(SimulationFailed):
        simulate(program)
    assert random.getstate() == state
    assert gc.isenabled()
    with pytest.raises(SimulationFailed):
        simulate(program)
    assert drawn[:3] == drawn[3:]
    assert len(set(drawn)) == 3


def test_an_interrupt_is_no_failure_of_the_program() -> None:
    async def program(simulation: Simulation) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(program)
    assert gc.isenabled()


def test_a_program_may_set_its_own_weather() -> None:
    async def program(simulation: Simulation) -> None:
        simulation.network.weather = Weather(
            latency=simulation.random.choice([1, 2]),
            script=[Mishap(way="server", at_byte=0, then="reset")],
        )
        async with simulation.network.listen("a", 80), await simulation.network.dial("a", 80) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

    report = simulate(program, seeds=range(8), weather=CLEAR)
    assert report.events["reset"] == 8
    assert 16 < report.virtual_seconds - 8 * 1 < 8 * 6


async def does_nothing(simulation: Simulation) -> None:
    await trio.lowlevel.checkpoint()


def test_a_run_without_connections_says_that_the_network_did_nothing() -> None:
    report = simulate(does_nothing, seeds=[0])
    assert report.runs == 1
    assert "the network: nothing" in str(report)


@pytest.mark.parametrize("limits", [{"max_steps": 0}, {"max_virtual_seconds": 0}])
def test_limits_that_let_nothing_run_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        simulate(hangs, **limits)  # type: ignore[arg-type]


async def test_it_is_not_for_use_within_a_run() -> None:
    with pytest.raises(RuntimeError, match="SimulatedNetwork"):
        simulate(hangs)
