"""The one place that touches Trio's private names: what a sweep needs to see and to steer.

Trio runs the tasks that are ready at the same time in a random order and has no public seed for it; it does
not tell what a task is about to be sent, nor whose deadline has cancelled it; and a task that waits in a
shield cannot be ended.
`tests/testing/test_scheduler.py` fails on the day when one of these names moves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn, cast

import attrs
import trio
from trio._core import _run


@contextlib.contextmanager
def repeatable_order(seed: int) -> Iterator[None]:
    """While the block runs, ready tasks run in an order that depends on ``seed`` and their age only.

    For the whole `trio.run`, also for tasks that have nothing to do with the block. What was before is
    restored. Trio's own plug-in for Hypothesis sets the same two globals.
    """
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING
    state = _run._r.getstate()
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # Final, and yet set by its own module
    _run._r.seed(seed)
    try:
        yield
    finally:
        _run._r.setstate(state)
        _run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]


def cancelled_with(task: trio.lowlevel.Task, reason: str) -> bool:
    """Whether a task that is about to run will meet `trio.Cancelled` with this reason in its await."""
    error = getattr(task._next_send, "error", None)
    return isinstance(error, trio.Cancelled) and error.reason == reason


def raise_in_waiting(task: trio.lowlevel.Task, text: str) -> bool:
    """Raise AssertionError in a task that waits, also in a shield, as a cancel would.

    Returns:
      Whether that was possible: the task must wait, and for something that lets itself be aborted.
    """
    if task._abort_func is None:
        return False
    task._attempt_abort(_Raise(text).unwrap)
    return True


def raise_in_ready(task: trio.lowlevel.Task, text: str) -> None:
    """Raise AssertionError in a task that is about to run, in place of what it was to be sent."""
    task._next_send = cast("Any", _Raise(text))


@attrs.frozen
class _Raise:
    """All of an outcome that Trio asks for."""

    text: str

    def unwrap(self) -> NoReturn:
        raise AssertionError(self.text)


def pass_deadline(scope: trio.CancelScope, reason: str) -> None:
    """Have the deadline of a scope pass now, so that Trio cancels it in its next round.

    The `trio.Cancelled` that comes of it is known by ``reason``: Trio itself gives those of a deadline none.
    """
    if scope._cancel_reason is None:
        scope._cancel_reason = _run.CancelReason(source="deadline", reason=reason)
    scope.deadline = trio.current_time()
