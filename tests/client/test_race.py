"""Several attempts, of which one counts (N11): order, failures, cancels, and what comes out."""

from __future__ import annotations

import functools
import logging
import math
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.cancellation._worlds import lands_in
from trio_http import HTTPError
from trio_http.client._race import RaceFailed, race
from trio_http.testing import cancel_at_every_step


class Course:
    """Attempts that note their beginning and end, as "+name" or "-name", with the time.

    Attributes:
      notes: in order.
    """

    def __init__(self) -> None:
        self.notes: list[tuple[str, float]] = []

    def attempt(
        self, name: str, seconds: float, error: BaseException | None = None, *, cleaning: float = 0
    ) -> Callable[[], Awaitable[str]]:
        """One that takes so long, and then returns its name or raises ``error``; when cancelled, it takes
        ``cleaning`` seconds to end."""

        async def run() -> str:
            self.note(f"+{name}")
            try:
                await trio.sleep(seconds)
            finally:
                if cleaning:
                    with trio.CancelScope(shield=True, relative_deadline=cleaning):
                        await trio.sleep_forever()
                self.note(f"-{name}")
            if error is not None:
                raise error
            return name

        return run

    def note(self, text: str) -> None:
        self.notes.append((text, trio.current_time()))

    def at_the_same_moment(self, names: str) -> list[Callable[[], Awaitable[str]]]:
        """Some that all have their result before any of them can be cancelled."""
        event = trio.Event()

        async def run(name: str) -> str:
            if name == names[-1]:
                await trio.sleep(1)
                event.set()
            else:
                await event.wait()
            self.note(f"-{name}")
            return name

        return [functools.partial(run, name) for name in names]


@pytest.fixture
def course() -> Course:
    return Course()


def messy(error: Exception) -> Callable[[], Awaitable[str]]:
    """An attempt that raises ``error`` while it is being cancelled, so that its nursery groups the two."""

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async def run() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()
        raise AssertionError("not reached")

    return run


# ------------------------------------------------------------------------------------------ who comes first


async def test_the_first_success_is_returned(course: Course, autojump_clock: MockClock) -> None:
    assert await race(course.attempt("slow", 5), course.attempt("fast", 1)) == "fast"
    assert trio.current_time() == 1


async def test_the_losers_have_ended_when_it_returns(course: Course, autojump_clock: MockClock) -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living
    await race(course.attempt("slow", 5, cleaning=2), course.attempt("fast", 1))
    assert course.notes[-2:] == [("-fast", 1), ("-slow", 3)]
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_each_attempt_begins_a_delay_after_the_one_before(
    course: Course, autojump_clock: MockClock
) -> None:
    attempts = [course.attempt(name, 5.5) for name in "abc"]
    assert await race(*attempts, delay=2) == "a"
    assert course.notes[:3] == [("+a", 0), ("+b", 2), ("+c", 4)]
    assert trio.current_time() == 5.5


async def test_an_attempt_that_is_not_needed_is_not_begun(course: Course, autojump_clock: MockClock) -> None:
    assert await race(*[course.attempt(name, 3) for name in "abc"], delay=2) == "a"
    assert [note for note, _ in course.notes if note[0] == "+"] == ["+a", "+b"]


async def test_without_a_delay_all_begin_at_once(course: Course, autojump_clock: MockClock) -> None:
    await race(*[course.attempt(name, 3) for name in "abc"])
    assert sorted(course.notes[:3]) == [("+a", 0), ("+b", 0), ("+c", 0)]


async def test_a_failure_lets_the_next_begin_at_once(course: Course, autojump_clock: MockClock) -> None:
    attempts = [course.attempt("a", 1, OSError("a")), course.attempt("b", 9), course.attempt("c", 1)]
    assert await race(*attempts, delay=4) == "c"
    assert [note for note in course.notes if note[0][0] == "+"] == [("+a", 0), ("+b", 1), ("+c", 5)]


async def test_a_failure_of_one_before_the_last_changes_nothing(
    course: Course, autojump_clock: MockClock
) -> None:
    attempts = [course.attempt("a", 5, OSError("a")), course.attempt("b", 6), course.attempt("c", 9)]
    assert await race(*attempts, delay=4) == "b"
    assert course.notes[:4] == [("+a", 0), ("+b", 4), ("-a", 5), ("+c", 8)]


async def test_an_endless_delay_makes_one_after_the_other(course: Course, autojump_clock: MockClock) -> None:
    attempts = [course.attempt("a", 50, OSError("a")), course.attempt("b", 50), course.attempt("c", 1)]
    assert await race(*attempts, delay=math.inf) == "b"
    assert [note for note, _ in course.notes] == ["+a", "-a", "+b", "-b"]


async def test_an_attempt_sees_the_context_of_its_caller_and_its_deadline(mock_clock: MockClock) -> None:
    async def look() -> float:
        await trio.lowlevel.checkpoint()
        return trio.current_effective_deadline()

    with trio.fail_after(7):
        assert await race(look, look) == 7


# ---------------------------------------------------------------------------------------- what does not win


def even(number: int) -> bool:
    return number % 2 == 0


def giving(number: int, seconds: float) -> Callable[[], Awaitable[int]]:
    async def run() -> int:
        await trio.sleep(seconds)
        return number

    return run


async def test_a_result_that_does_not_win_is_passed_over(autojump_clock: MockClock) -> None:
    assert await race(giving(1, 1), giving(2, 2), wins=even) == 2
    # It lets the next one begin, as a failure does.
    assert await race(giving(1, 1), giving(2, 2), delay=math.inf, wins=even) == 2
    assert trio.current_time() == 2 + 3
    assert await race(giving(1, 1), giving(3, 1), giving(2, 1), delay=math.inf, wins=even) == 2


async def test_when_nothing_wins_the_first_result_is_better_than_an_error(autojump_clock: MockClock) -> None:
    async def failing() -> int:
        raise OSError("no")

    assert await race(failing, giving(5, 2), giving(3, 1), giving(7, 3), wins=even) == 3


async def test_what_wins_raises_ends_the_race_as_it_is(course: Course, autojump_clock: MockClock) -> None:
    error = LookupError("a bug")

    def wins(_: str) -> bool:
        raise error

    dropped: list[str] = []
    with pytest.raises(LookupError) as caught:
        await race(course.attempt("a", 1), course.attempt("b", 5), wins=wins, discard=dropped.append)
    assert caught.value is error
    assert (dropped, trio.current_time()) == (["a"], 1)


# ------------------------------------------------------------------------------------------------- failures


async def test_when_all_have_failed_their_errors_are_told_in_order(
    course: Course, autojump_clock: MockClock
) -> None:
    errors = [OSError("first"), ValueError("second"), ExceptionGroup("third", [KeyError("k")])]
    seconds = [3, 1, 2]
    with pytest.raises(RaceFailed) as caught:
        await race(*[course.attempt("x", time, error) for time, error in zip(seconds, errors, strict=True)])
    failed = caught.value
    assert isinstance(failed, HTTPError)
    assert list(failed.errors) == errors
    assert isinstance(failed.__cause__, ExceptionGroup)
    assert list(failed.__cause__.exceptions) == errors
    assert str(failed) == (
        "all 3 attempts failed: OSError: first; ValueError: second; ExceptionGroup: third (1 sub-exception)"
    )


def test_the_error_of_a_race_can_be_pickled() -> None:
    copy = pickle.loads(pickle.dumps(RaceFailed([OSError("a"), OSError("b")])))
    assert [str(error) for error in copy.errors] == ["a", "b"]


async def test_an_only_error_comes_out_as_it_is(course: Course) -> None:
    error = OSError("mine")
    with pytest.raises(OSError, match="mine") as caught:
        await race(course.attempt("a", 0, error))
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)


async def test_a_group_of_an_attempt_is_left_as_it_is(course: Course) -> None:
    group = ExceptionGroup("mine", [OSError("a")])
    with pytest.raises(ExceptionGroup) as caught:
        await race(course.attempt("a", 0, group))
    assert caught.value is group


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), BaseExceptionGroup("mine", [SystemExit(3), OSError()])]
)
async def test_what_is_no_failure_ends_the_race_and_comes_out_as_it_is(
    error: BaseException, course: Course, autojump_clock: MockClock
) -> None:
    with pytest.raises(type(error)) as caught:
        await race(course.attempt("a", 9, cleaning=1), course.attempt("b", 1, error))
    assert caught.value is error
    assert error.__context__ is None
    assert course.notes[-1] == ("-a", 2)


async def test_a_loser_whose_clean_up_fails_does_not_spoil_the_race(
    course: Course, autojump_clock: MockClock
) -> None:
    assert await race(messy(LookupError("in the clean-up")), course.attempt("b", 1)) == "b"


# --------------------------------------------------------------------------------------------------- cancel


async def test_a_cancel_passes_and_all_attempts_have_ended(course: Course, autojump_clock: MockClock) -> None:
    seen: list[BaseException] = []
    with trio.move_on_after(1) as scope:
        try:
            await race(course.attempt("a", 9, cleaning=1), course.attempt("b", 9))
        except BaseException as exc:
            seen.append(exc)
            raise
    assert scope.cancelled_caught
    assert [type(exc) for exc in seen] == [trio.Cancelled]
    assert course.notes[-1] == ("-a", 2)


async def test_an_error_in_the_clean_up_of_a_cancelled_attempt_has_no_group_of_ours(
    course: Course, autojump_clock: MockClock
) -> None:
    error = LookupError("in the clean-up")
    with pytest.raises(ExceptionGroup) as caught, trio.move_on_after(1):
        await race(messy(error), course.attempt("b", 9))
    assert caught.value.exceptions == (error,)  # in the group of its own nursery
    assert "nursery" in caught.value.message


async def test_errors_in_the_clean_up_of_several_cancelled_attempts_are_all_there(
    course: Course, autojump_clock: MockClock
) -> None:
    with pytest.raises(ExceptionGroup, match="race") as caught, trio.move_on_after(1):
        await race(messy(LookupError()), course.attempt("b", 9), messy(OSError()))
    assert caught.value.subgroup(LookupError) is not None
    assert caught.value.subgroup(OSError) is not None


async def test_a_cancel_at_any_step_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """Each result is returned or discarded, and exactly once."""
    made: list[object] = []
    gone: list[object] = []

    def making(seconds: float) -> Callable[[], Awaitable[object]]:
        async def run() -> object:
            await trio.sleep(seconds)
            made.append(result := object())
            return result

        return run

    async def let_go(result: object) -> None:
        gone.append(result)
        await trio.sleep_forever()

    async def scenario() -> None:
        attempts = [making(3), making(2), making(1), making(1)]
        gone.append(await race(*attempts, delay=1, wins=lambda _: len(made) > 1, discard=let_go))

    def check() -> None:
        assert len(set(map(id, gone))) == len(gone)
        assert sorted(map(id, gone)) == sorted(map(id, made))
        made.clear()
        gone.clear()

    report = await cancel_at_every_step(scenario, check=check)
    lands_in(report, "start", "run", "race")


# -------------------------------------------------------------------------------------------------- discard


async def test_of_two_results_of_one_moment_one_is_returned_and_the_other_discarded(
    course: Course, autojump_clock: MockClock
) -> None:
    dropped: list[str] = []
    assert await race(*course.at_the_same_moment("abc"), discard=dropped.append) == "c"
    assert sorted(dropped) == ["a", "b"]


async def test_a_result_of_a_loser_that_would_not_be_cancelled_is_discarded(
    course: Course, autojump_clock: MockClock
) -> None:
    async def stubborn() -> str:
        with trio.CancelScope(shield=True, relative_deadline=9):
            await trio.sleep(2)
        return "late"

    dropped: list[str] = []
    assert await race(stubborn, course.attempt("b", 1), discard=dropped.append) == "b"
    assert (dropped, trio.current_time()) == (["late"], 2)


async def test_streams_can_race_and_those_that_are_not_wanted_are_closed(
    course: Course, autojump_clock: MockClock
) -> None:
    """As happy eyeballs would have it (RFC 8305): results that hold something."""
    made: list[trio.testing.MemorySendStream] = []

    def connect(attempt: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[trio.abc.SendStream]]:
        async def run() -> trio.abc.SendStream:
            await attempt()
            made.append(stream := trio.testing.memory_stream_one_way_pair()[0])
            return stream

        return run

    attempts = [connect(attempt) for attempt in course.at_the_same_moment("abc")]
    winner = await race(*attempts, discard=trio.aclose_forcefully)
    assert len(made) == 3
    for stream in made:
        if stream is not winner:
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_all(b"x")
    await winner.send_all(b"x")


async def test_a_result_is_discarded_when_the_race_is_cancelled_before_it_returns(
    course: Course, autojump_clock: MockClock
) -> None:
    dropped: list[str] = []
    with trio.move_on_after(2) as scope:
        # The winner is there at 1; the loser, which does not end before 3, has to be waited for.
        await race(course.attempt("a", 9, cleaning=2), course.attempt("b", 1), discard=dropped.append)
    assert (scope.cancelled_caught, dropped, trio.current_time()) == (True, ["b"], 3)


async def test_a_discard_within_a_cancel_does_not_hide_what_ended_the_race(
    course: Course, autojump_clock: MockClock
) -> None:
    error = SystemExit(3)

    async def shielded() -> str:
        with trio.CancelScope(shield=True, relative_deadline=9):
            await trio.sleep(3)
        raise error

    async def wait(_: str) -> None:
        await trio.sleep_forever()

    with pytest.raises(SystemExit) as caught, trio.move_on_after(2):
        await race(course.attempt("a", 1), shielded, wins=lambda _: False, discard=wait)
    assert caught.value is error
    assert trio.current_time() == 3


async def test_a_discard_that_fails_is_logged_and_one_that_waits_is_cut_short(
    course: Course, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def wait(_: str) -> None:
        await trio.sleep_forever()

    def fail(_: str) -> None:
        raise LookupError("a bug")

    for discard in (wait, fail):
        assert await race(*course.at_the_same_moment("ab"), discard=discard) == "b"
    assert trio.current_time() == 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "a bug" in caplog.text


# ------------------------------------------------------------------------------------------------ bad input


async def test_a_race_without_runners_is_refused() -> None:
    with pytest.raises(TypeError, match="at least one"):
        await race()


@pytest.mark.parametrize("delay", [-1, float("nan")])
async def test_a_bad_delay_is_refused(delay: float, course: Course) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        await race(course.attempt("a", 0), delay=delay)
    assert course.notes == []


async def test_a_coroutine_is_refused_with_advice_and_without_a_warning(course: Course) -> None:
    given: Any = course.attempt("a", 0)()
    with pytest.raises(TypeError, match=r"functools\.partial"):
        await race(course.attempt("b", 0), given)
    assert course.notes == []
