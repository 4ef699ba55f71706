"""Every public asynchronous function has its checkpoint, whether it succeeds or fails.

The rule is trio's, and goes further where trio's leaves room:

- A function that succeeds has executed a checkpoint: others had their turn, and a cancel could come out. For
  ``async with``, that is true of the entry or of the exit.
- One that fails through anybody's doing but its caller's has, too; so a loop that goes on after failures lets
  others live. Trio promises nothing there.
- One that fails by the mere look at its arguments may do so at once, as trio's own do.
- In a scope that is cancelled already, every call ends in `trio.Cancelled`.

Exceptions are in `_exemptions`, each with its reason, and in the docstrings.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.conformance import _all_cases  # noqa: F401 - they register themselves
from tests.conformance._cases import CASES, Case, Failure
from tests.conformance._exemptions import NO_CHECKPOINT, NO_TURN_FOR_OTHERS, NOT_CANCELLED
from tests.conformance._public import everything
from trio_http.transport import Transport

SUCCESSES = [pytest.param(case, id=str(case)) for case in CASES.values()]
FAILURES = [
    pytest.param(case, failure, id=f"{case} {failure.raises.__name__} {number}")
    for case in CASES.values()
    for number, failure in enumerate(case.fails)
]


def is_of_ours(function: Any) -> bool:
    return bool(inspect.unwrap(function).__module__.startswith("trio_http"))


async def settle(case: Case, value: object) -> None:
    if case.check is not None:
        verdict = case.check(value)
        if inspect.isawaitable(verdict):
            await verdict


@pytest.mark.parametrize("case", SUCCESSES)
async def test_success_is_a_checkpoint(case: Case, autojump_clock: MockClock) -> None:
    case.set_up(autojump_clock)
    if str(case) in NO_CHECKPOINT:
        expected = trio.testing.assert_no_checkpoints
    elif str(case) in NO_TURN_FOR_OTHERS:
        expected = contextlib.nullcontext
    else:
        expected = trio.testing.assert_checkpoints
    async with case.world() as value:
        with expected():
            await case.call(value)
        await settle(case, value)


@pytest.mark.parametrize(("case", "failure"), FAILURES)
async def test_failure_is_a_checkpoint(case: Case, failure: Failure, autojump_clock: MockClock) -> None:
    case.set_up(autojump_clock)
    expected = trio.testing.assert_no_checkpoints if failure.at_once else trio.testing.assert_checkpoints
    async with (failure.world or case.world)() as value:
        if failure.prepare is not None:
            await failure.prepare(value)
        with expected():
            # Caught within, for `assert_checkpoints` takes an exception for a checkpoint.
            try:
                await failure.call(value)
            except failure.raises:
                pass
            else:
                pytest.fail(f"{case} has not raised {failure.raises.__name__}")
        if failure.world is None and not failure.spoils:
            await settle(case, value)


@pytest.mark.parametrize("name", NO_TURN_FOR_OTHERS)
async def test_what_gives_no_turn_to_others_gives_none(name: str) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with CASES[name].world() as value, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        before = turns
        await CASES[name].call(value)
        assert turns == before
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("case", SUCCESSES)
async def test_in_a_cancelled_scope_it_is_cancelled(case: Case, autojump_clock: MockClock) -> None:
    case.set_up(autojump_clock)
    async with case.world() as value:
        with trio.CancelScope() as scope:
            scope.cancel()
            await case.call(value)
        assert scope.cancelled_caught is (str(case) not in NO_CHECKPOINT and str(case) not in NOT_CANCELLED)
        await settle(case, value)


@pytest.mark.parametrize("name", [*NO_CHECKPOINT, *NO_TURN_FOR_OTHERS, *NOT_CANCELLED])
def test_what_is_no_checkpoint_says_so(name: str) -> None:
    entry = everything()[name.partition("[")[0]]
    if entry.runs_in == "__aenter__" and not is_of_ours(entry.function):
        return  # trio's own, whose manual says so of every AsyncResource
    documentation = inspect.getdoc(entry.function) or ""
    if "See `Transport." in documentation:
        documentation += inspect.getdoc(getattr(Transport, entry.runs_in)) or ""
    words = ("checkpoint", "gives way", "not affected")
    assert any(word in documentation.lower() for word in words), documentation
