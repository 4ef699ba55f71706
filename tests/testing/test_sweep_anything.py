"""The sweep over Trio code that has nothing to do with HTTP, of every shape in which a scenario can come."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_http.testing import SweepFailed, cancel_at_every_step
from trio_http.testing._task_tree import frames_of


class Machine:
    """Scenarios that are no plain functions."""

    async def run(self) -> None:
        await trio.lowlevel.checkpoint()

    async def __call__(self) -> str:
        await trio.lowlevel.checkpoint()
        return "a value, which is of no concern"


@pytest.mark.parametrize(
    ("scenario", "name"),
    [
        (Machine().run, "Machine.run"),
        (Machine(), "Machine"),
        (functools.partial(functools.partial(trio.sleep), 0), "sleep"),
        (lambda: Machine().run(), "<lambda>"),
    ],
    ids=["a bound method", "an object", "a partial", "a lambda"],
)
async def test_a_scenario_is_whatever_gives_an_awaitable_and_its_name_has_no_address(
    scenario: Callable[[], Awaitable[object]], name: str
) -> None:
    report = await cancel_at_every_step(scenario)
    assert len(report.points) == 5
    assert report.scenario.rpartition("<locals>.")[2] == name


async def locks() -> None:
    lock = trio.Lock()

    async def use() -> None:
        async with lock:
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(use)
        nursery.start_soon(use)


async def limiters() -> None:
    limiter = trio.CapacityLimiter(1)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(functools.partial(trio.to_thread.run_sync, int, limiter=limiter))


async def channels() -> None:
    send, receive = trio.open_memory_channel[int](0)

    async def produce() -> None:
        async with send:
            for number in range(3):
                await send.send(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        async with receive:
            assert [number async for number in receive] == [0, 1, 2]


async def conditions() -> None:
    condition = trio.Condition()
    open_for_all: list[bool] = []

    async def wait() -> None:
        async with condition:
            while not open_for_all:
                await condition.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.lowlevel.checkpoint()
        async with condition:
            open_for_all.append(True)
            condition.notify_all()


async def generators() -> None:
    async def count() -> AsyncGenerator[int]:
        for number in range(3):
            await trio.lowlevel.checkpoint()
            yield number

    async with contextlib.aclosing(count()) as numbers:
        async for _ in numbers:
            await trio.lowlevel.checkpoint()


async def threads() -> None:
    await trio.to_thread.run_sync(lambda: trio.from_thread.run(trio.lowlevel.checkpoint))


async def processes() -> None:
    await trio.run_process([sys.executable, "-S", "-E", "-c", "pass"])


async def sockets() -> None:
    left, right = trio.socket.socketpair()
    with left, right:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.send, b"x")
            assert await right.recv(1) == b"x"


@pytest.mark.parametrize(
    "scenario",
    [locks, limiters, channels, conditions, generators, threads, processes, sockets],
    ids=lambda scenario: scenario.__name__,
)
async def test_trios_own_tools_pass(scenario: Callable[[], Awaitable[object]]) -> None:
    assert len((await cancel_at_every_step(scenario)).points) > 4


@pytest.mark.parametrize("patience", [300, math.inf])
async def test_a_thread_is_waited_for_although_the_clock_jumps(
    patience: float, autojump_clock: MockClock
) -> None:
    """All patience used to be at its end in no time, and the thread was taken for a hang."""

    async def scenario() -> None:
        over = threading.Event()
        try:
            await trio.to_thread.run_sync(over.wait, 0.05, abandon_on_cancel=True)
        finally:
            over.set()

    assert len((await cancel_at_every_step(scenario, patience=patience)).points) > 4


@pytest.mark.parametrize("late", [False, True], ids=["it has a file open", "it opens one later"])
async def test_a_thread_left_to_itself_closes_its_file_by_itself(late: bool, tmp_path: Path) -> None:
    """Its file used to be told as left open, by this run or, if it was opened late, by the next one."""
    path = tmp_path / "file"
    path.touch()
    wait = threading.Event().wait

    def work() -> None:
        if late:
            wait(0.02)
        with path.open():
            wait(0.02)

    async def scenario() -> None:
        await trio.to_thread.run_sync(work, abandon_on_cancel=True)

    assert len((await cancel_at_every_step(scenario)).points) > 4


async def test_a_thread_that_goes_on_with_its_file_open_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("trio_http.testing._left_threads._REAL_SECONDS", 0.5)
    path = tmp_path / "file"
    path.touch()
    over = threading.Event()
    over.set()

    def work() -> None:
        with path.open():
            over.wait(60)

    async def scenario() -> None:
        await trio.to_thread.run_sync(work, abandon_on_cancel=True)

    try:
        with pytest.raises(SweepFailed, match=r"descriptors were left open: \d+ \(a file, .*/file\)"):
            await cancel_at_every_step(scenario, check=over.clear)  # from the second run on it stays
    finally:
        over.set()


async def test_a_thread_that_does_not_end_is_found_all_the_same(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_http.testing._sweep_run._REAL_SECONDS", 0.1)
    monkeypatch.setattr("trio_http.testing._left_threads._REAL_SECONDS", 0.1)
    over = threading.Event()

    async def scenario() -> None:
        await trio.to_thread.run_sync(over.wait, 60, abandon_on_cancel=True)

    began = time.monotonic()
    try:
        with pytest.raises(
            AssertionError, match="it has not ended within 300 s; it waits at testing/test_sweep_any"
        ):
            await cancel_at_every_step(scenario)
    finally:
        over.set()
    assert time.monotonic() - began < 30


async def test_a_generator_that_is_not_closed_is_found() -> None:
    async def count() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await trio.lowlevel.checkpoint()

    async def scenario() -> None:
        async for _ in count():
            await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailed, match="dropped without a close: Async generator"):
        await cancel_at_every_step(scenario)


async def test_a_task_left_behind_that_never_waits_is_found_too() -> None:
    """The sweep used to wait for it without end."""

    async def spin() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as outside:

        async def scenario() -> None:
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                outside.start_soon(spin)
                raise

        with pytest.raises(SweepFailed, match="tasks were left behind: spin, at testing/test_sweep_anything"):
            await cancel_at_every_step(scenario)
        outside.cancel_scope.cancel()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("in_a_child", [False, True])
async def test_an_interrupt_comes_out_of_its_groups(interrupt: type[BaseException], in_a_child: bool) -> None:
    """It used to come in a group, which pytest takes for a test's failure and goes on."""

    async def stop() -> None:
        await trio.lowlevel.checkpoint()
        raise interrupt

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            if in_a_child:
                nursery.start_soon(stop)
            else:
                await stop()

    with pytest.raises(interrupt):
        await cancel_at_every_step(scenario)


async def test_a_group_that_the_scenario_raises_by_itself_comes_out_as_it_is() -> None:
    async def scenario() -> None:
        await trio.lowlevel.checkpoint()
        raise ExceptionGroup("two", [ValueError("one"), KeyError("other")])

    with pytest.RaisesGroup(ValueError, KeyError):
        await cancel_at_every_step(scenario)


async def test_a_world_that_fails_as_it_is_left_is_told_after_a_cancel_too() -> None:
    visits: list[str] = []

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[None]:
        yield
        visits.append("left")
        if len(visits) > 1:
            raise RuntimeError("the door is stuck")

    async def scenario(_: None) -> None:
        await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailed, match=r"at step 1, woken .*: RuntimeError: the door is stuck"):
        await cancel_at_every_step(scenario, world=world)

    async def check(_: None) -> None:
        assert not visits, "the scenario's fault"

    visits.clear()
    with pytest.raises(SweepFailed, match="the scenario's fault"):  # the first of the two is told
        await cancel_at_every_step(scenario, world=world, check=check)


async def test_what_the_world_has_given_is_let_go_of_with_it() -> None:
    """Else an invariant that looks for what was dropped finds it held by the sweep."""
    given: list[weakref.ref[Machine]] = []

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Machine]:
        machine = Machine()
        given.append(weakref.ref(machine))
        yield machine

    @contextlib.contextmanager
    def all_gone() -> Iterator[None]:
        yield
        assert all(reference() is None for reference in given)

    report = await cancel_at_every_step(Machine.run, world=world, invariants=[all_gone])
    assert len(report.points) == 5


async def test_of_hidden_frames_the_one_that_says_most_is_shown() -> None:
    """Of a task in nothing but this package's tools and Trio's, Trio's trap used to be all that was shown."""
    files: dict[str, str] = {}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_at_every_step, trio.sleep_forever, name="a sweep")
        nursery.start_soon(trio.sleep_forever, name="Trio's own")
        await trio.testing.wait_all_tasks_blocked()
        for task in nursery.child_tasks:
            ((frame, _),) = frames_of(task)
            files[task.name] = os.path.basename(frame.f_code.co_filename)
        nursery.cancel_scope.cancel()
    assert files == {"a sweep": "_sweep_run.py", "Trio's own": "_traps.py"}
