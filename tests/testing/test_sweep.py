"""The sweep finds every cancel point of a scenario, and each kind of defect that it promises to find."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
import trio.testing

from trio_http.testing import SweepReport, cancel_at_every_step, memory_pair


async def failure(scenario: Callable[[], Awaitable[object]], **options: object) -> str:
    """Sweep over a scenario that has a defect; return what is said of it."""
    with pytest.raises(AssertionError) as caught:
        await cancel_at_every_step(scenario, **options)  # type: ignore[call-overload]
    return str(caught.value)


# --------------------------------------------------------------------------------------------- what it covers


async def test_every_step_is_cancelled_before_in_and_after_it() -> None:
    async def scenario() -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()

    report = await cancel_at_every_step(scenario)
    assert report.steps == 4  # the first one, and one after each checkpoint
    assert [(point.step, point.moment) for point in report.points] == [
        (1, "woken"), (1, "waiting"), (1, "deadline"), (2, "woken"), (2, "waiting"), (2, "deadline"),
        (3, "woken"), (3, "waiting"), (3, "deadline"), (4, "woken"), (4, "deadline"),
    ]  # fmt: skip


async def test_a_scenario_without_an_await_has_its_beginning_only_and_completes() -> None:
    async def scenario() -> None:
        pass

    report = await cancel_at_every_step(scenario)
    assert [(point.key, point.where, point.completed) for point in report.points] == [
        ("1 woken", "its beginning", True),
        ("1 deadline", "its beginning", True),
    ]


async def test_a_woken_task_keeps_what_it_was_given_and_a_waiting_one_gets_nothing() -> None:
    """The two moments differ in what the await returns, so each finds defects that the other one cannot."""
    seen: list[str] = []

    async def scenario() -> None:
        send, receive = trio.open_memory_channel[str](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send.send, "given")
            got = "nothing"
            try:
                got = await receive.receive()
            finally:
                seen.append(got)

    await cancel_at_every_step(scenario)
    assert {*seen} == {"nothing", "given"}


async def test_the_report_tells_where_each_cancel_came_and_how_often() -> None:
    async def inner() -> None:
        await trio.lowlevel.checkpoint()

    async def scenario() -> None:
        await inner()
        left, right = memory_pair()
        await left.send_all(b"x")
        await right.receive_some()

    report = await cancel_at_every_step(scenario)
    line = scenario.__code__.co_firstlineno
    here = "testing/test_sweep.py"
    assert report.places == {
        "its beginning": 2,
        f"{here}:{inner.__code__.co_firstlineno + 1} in inner": 3,
        f"{here}:{line + 3} in scenario": 3,
        f"{here}:{line + 4} in scenario": 3,
    }
    assert {point.within for point in report.points} == {(), ("scenario",), ("scenario", "inner")}
    text = str(report)
    assert text.startswith("11 cancel points in 4 steps, 1 of them too late to matter\n")
    assert f"  step 2, waiting at {here}:{line + 3} in scenario (the scenario's task)\n" in text
    assert str(report.points[-2]) == f"step 4, woken at {here}:{line + 4} in scenario (the scenario's task)"
    assert str(report.points[-1]) == (
        f"step 4, deadline at {here}:{line + 4} in scenario (the scenario's task), completed"
    )
    assert [point.place.code for point in report.points if point.place][:2] == [
        "await trio.lowlevel.checkpoint()"
    ] * 2


async def test_steps_of_tasks_within_the_scenario_count_and_those_outside_do_not() -> None:
    async def child() -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    async with trio.open_nursery() as outside:
        outside.start_soon(trio.sleep_forever)
        report = await cancel_at_every_step(scenario)
        outside.cancel_scope.cancel()
    names = [point.task for point in report.points]
    assert sum("child" in name for name in names) >= 11
    assert {name for name in names if "child" not in name} == {"the scenario's task"}


async def test_the_same_seed_gives_the_same_report_and_another_seed_another_order() -> None:
    async def child() -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()

    async def other() -> None:
        await child()

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(other)

    reports = [await cancel_at_every_step(scenario, seed=seed) for seed in (1, 1, 2, 3)]
    assert reports[0] == reports[1]
    assert len(set(reports)) > 1


async def test_time_passes_on_the_tests_clock_only(autojump_clock: trio.testing.MockClock) -> None:
    async def scenario() -> None:
        await trio.sleep(10)
        with trio.move_on_after(20):
            await trio.sleep_forever()

    report = await cancel_at_every_step(scenario)
    assert report.steps == 3


async def test_each_run_has_a_world_of_its_own_that_the_check_sees() -> None:
    worlds: list[list[str]] = []

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[list[str]]:
        worlds.append(here := [])
        await trio.lowlevel.checkpoint()
        yield here
        await trio.lowlevel.checkpoint()
        here.append("left")

    async def scenario(here: list[str]) -> None:
        await trio.lowlevel.checkpoint()
        here.append("ran")

    async def check(here: list[str]) -> None:
        await trio.lowlevel.checkpoint()
        assert "left" not in here
        here.append("checked")

    report = await cancel_at_every_step(scenario, world=world, check=check)
    assert len(report.points) == 5
    # Left alone; cancelled at its beginning, in the await, by a deadline; then after the await, which is its
    # end: it does not wait once more, and a deadline that passes there comes too late.
    whole, cut = ["ran", "checked", "left"], ["checked", "left"]
    assert worlds == [whole, cut, cut, cut, cut, whole, whole]


async def test_a_shield_with_a_deadline_is_waited_for_and_its_own_cancel_is_no_swallowing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def scenario() -> None:
        try:
            await trio.lowlevel.checkpoint()
        finally:
            with trio.move_on_after(5, shield=True):
                await trio.sleep_forever()

    report = await cancel_at_every_step(scenario)
    assert [point.key for point in report.points if not point.completed] == [
        "1 woken", "1 waiting", "1 deadline", "2 woken",
    ]  # fmt: skip
    assert [point.key for point in report.points if point.completed] == [
        "2 waiting", "2 deadline", "3 woken", "3 deadline",
    ]  # fmt: skip


async def test_a_cancel_from_outside_ends_the_sweep(autojump_clock: trio.testing.MockClock) -> None:
    async def scenario() -> None:
        await trio.sleep(10)

    with trio.move_on_after(25) as scope:
        await cancel_at_every_step(scenario)
    assert scope.cancelled_caught


# ---------------------------------------------------------------------------------------------- what it finds


class Slots:
    """Something that is taken and must be given back."""

    def __init__(self) -> None:
        self.taken = 0

    async def acquire(self) -> None:
        await trio.lowlevel.checkpoint()
        self.taken += 1

    def release(self) -> None:
        self.taken -= 1


async def test_a_resource_taken_before_an_await_without_a_block_is_found() -> None:
    slots = Slots()

    async def scenario() -> None:
        await slots.acquire()
        await trio.lowlevel.checkpoint()  # the defect: nothing gives it back when this is cancelled
        slots.release()

    def check() -> None:
        taken, slots.taken = slots.taken, 0
        assert taken == 0, f"{taken} slots are still taken"

    text = await failure(scenario, check=check)
    line = scenario.__code__.co_firstlineno
    assert text.startswith(f"cancelled at step 2, waiting at testing/test_sweep.py:{line + 2} in scenario")
    assert "1 slots are still taken" in text

    async def mended() -> None:
        await slots.acquire()
        try:
            await trio.lowlevel.checkpoint()
        finally:
            slots.release()

    assert len((await cancel_at_every_step(mended, check=check)).points) == 8


async def test_a_result_lost_between_two_awaits_is_found_though_it_waits_no_more() -> None:
    """What a wait has handed over belongs to the task, also when the next await is cancelled."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
        send, receive = trio.open_memory_channel[str](1)

        async def give_when_waited_for() -> None:
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            await send.send("given")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_when_waited_for)
            yield receive

    handled: list[str] = []

    async def scenario(receive: trio.MemoryReceiveChannel[str]) -> None:
        value = await receive.receive()
        await trio.lowlevel.checkpoint_if_cancelled()  # the defect: now only this task has the value
        handled.append(value)

    async def check(receive: trio.MemoryReceiveChannel[str]) -> None:
        await trio.testing.wait_all_tasks_blocked()
        left = receive.statistics().current_buffer_used + len(handled)
        handled.clear()
        assert left == 1, "the value is lost"

    with pytest.raises(AssertionError, match=r"step 2, woken at .*: the value is lost"):
        await cancel_at_every_step(scenario, world=world, check=check, beside=False)
    with pytest.raises(AssertionError, match=r"step \d+, beside at .*: the value is lost"):
        await cancel_at_every_step(scenario, world=world, check=check)


async def test_a_swallowed_cancel_is_found_where_it_was_raised() -> None:
    async def scenario() -> None:
        with contextlib.suppress(trio.Cancelled):
            await trio.lowlevel.checkpoint()

    text = await failure(scenario)
    line = scenario.__code__.co_firstlineno + 2
    assert f"Cancelled was swallowed: it was raised at testing/test_sweep.py:{line}" in text


async def test_a_renamed_cancel_is_found() -> None:
    async def scenario() -> None:
        try:
            await trio.lowlevel.checkpoint()
        except BaseException as exc:
            raise ConnectionError("the request has failed") from exc

    text = await failure(scenario)
    assert "has raised ConnectionError: the request has failed where only Cancelled" in text
    assert "completed" not in text


async def test_an_error_in_the_clean_up_is_found_inside_its_group() -> None:
    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("while cleaning up")

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_when_cancelled)
            await trio.lowlevel.checkpoint()
            with contextlib.suppress(trio.Cancelled):
                nursery.cancel_scope.deadline = trio.current_time()

    with pytest.raises(ExceptionGroup):  # it fails when left alone, and this comes out as it is
        await cancel_at_every_step(scenario)

    async def only_when_cancelled() -> None:
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            raise OSError("while cleaning up") from None

    async def nested() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(only_when_cancelled)

    assert "has raised OSError: while cleaning up" in await failure(nested)


async def test_a_task_left_behind_is_found() -> None:
    async with trio.open_nursery() as outside:

        async def scenario() -> None:
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                outside.start_soon(trio.sleep_forever, name="left over")
                raise

        text = await failure(scenario)
        outside.cancel_scope.cancel()
    assert "tasks were left behind: left over, at " in text


async def test_a_task_that_is_about_to_end_was_not_left_behind() -> None:
    async with trio.open_nursery() as outside:

        async def scenario() -> None:
            outside.start_soon(trio.lowlevel.checkpoint)
            await trio.lowlevel.checkpoint()

        assert (await cancel_at_every_step(scenario)).points


async def test_a_shield_without_a_deadline_is_found_when_patience_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def scenario() -> None:
        never = trio.Event()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await never.wait()
            raise

    text = await failure(scenario, patience=60)
    line = scenario.__code__.co_firstlineno + 6
    assert f"not ended within 60 s; it waits at testing/test_sweep.py:{line}" in text


async def test_a_wait_that_comes_again_when_it_was_ended_is_ended_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """And whatever the scenario makes of it in the end, it is the wait that is told."""
    ended = 0

    async def scenario() -> None:
        nonlocal ended
        for _ in range(3):
            with contextlib.suppress(AssertionError), trio.CancelScope(shield=True):
                try:
                    await trio.sleep_forever()
                finally:
                    ended += 1
        raise LookupError("it gave in")

    with pytest.raises(
        AssertionError, match=r"not ended within 300 s; it waits at testing/test_sweep\.py"
    ) as caught:
        await cancel_at_every_step(scenario)
    assert str(caught.value.__cause__) == "it gave in"
    assert ended == 6  # the run that is left alone is made again when it fails


async def test_code_that_takes_the_end_of_all_patience_for_an_error_of_its_own_does_not_pass(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It used to: what ends a wait comes out of that wait, and many a clean-up catches every error."""

    async def scenario() -> None:
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            with contextlib.suppress(Exception), trio.CancelScope(shield=True):
                await trio.sleep(1000)
            raise

    assert "it has not ended within 300 s" in await failure(scenario)


async def test_a_loop_that_takes_its_end_for_an_error_of_its_own_does_not_pass_either() -> None:
    async def scenario() -> None:
        with contextlib.suppress(Exception):
            while True:
                await trio.lowlevel.checkpoint()

    assert "it has not ended within 50 steps" in await failure(scenario, max_steps=50)


async def test_a_child_that_waits_for_ever_in_a_shield_is_found(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def child() -> None:
        with trio.CancelScope() as scope:
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                scope.shield = True
                await trio.sleep_forever()

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    text = await failure(scenario)
    assert "not ended within 300 s; it waits at testing/test_sweep.py" in text
    assert text.count("not ended") == 1  # who only waits for the child is not told


@pytest.mark.parametrize("as_child", [False, True], ids=["in its own task", "in a child"])
async def test_a_loop_that_catches_every_cancel_is_found(as_child: bool) -> None:
    async def again() -> None:
        done = False
        while not done:
            try:
                await trio.lowlevel.checkpoint()
                done = True
            except trio.Cancelled:
                pass

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            if as_child:
                nursery.start_soon(again)
            else:
                await again()

    assert "steps; is it endless?" in await failure(scenario)


async def test_an_endless_scenario_is_told_before_any_cancel() -> None:
    async def scenario() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    assert await failure(scenario, max_steps=50) == "it has not ended within 50 steps; is it endless?"


async def test_an_error_of_the_scenario_itself_comes_out_as_it_is() -> None:
    async def scenario() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        await cancel_at_every_step(scenario)


async def test_a_check_that_fails_without_any_cancel_comes_out_as_it_is() -> None:
    async def scenario() -> None:
        await trio.lowlevel.checkpoint()

    def check() -> None:
        raise LookupError("always")

    with pytest.raises(LookupError, match="always"):
        await cancel_at_every_step(scenario, check=check)


async def test_a_connection_pool_that_loses_its_waiters_turn_is_found() -> None:
    """A classic of pools: the waiter that is cancelled when it has just been given the connection."""

    class Pool:
        def __init__(self) -> None:
            self.idle = ["connection"]
            self.waiting: list[trio.Event] = []

        async def lease(self) -> str:
            await trio.lowlevel.checkpoint()
            if not self.idle:
                self.waiting.append(turn := trio.Event())
                await turn.wait()
                await trio.lowlevel.checkpoint()  # the defect: it is ours by now, and nobody else knows
                return "connection"
            return self.idle.pop()

        def give_back(self, connection: str) -> None:
            if self.waiting:
                self.waiting.pop(0).set()
            else:
                self.idle.append(connection)

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Pool]:
        async with trio.open_nursery() as nursery:
            pool = Pool()

            async def use_it_first(task_status: trio.TaskStatus[None]) -> None:
                connection = await pool.lease()
                task_status.started()
                for _ in range(6):
                    await trio.lowlevel.checkpoint()
                pool.give_back(connection)

            await nursery.start(use_it_first)
            yield pool

    async def scenario(pool: Pool) -> None:
        pool.give_back(await pool.lease())

    async def check(pool: Pool) -> None:
        await trio.testing.wait_all_tasks_blocked()
        assert pool.idle == ["connection"], "the connection is lost"

    with pytest.raises(AssertionError, match="the connection is lost"):
        await cancel_at_every_step(scenario, world=world, check=check)


def test_a_report_counts_places() -> None:
    assert SweepReport((), 1).places == {}
