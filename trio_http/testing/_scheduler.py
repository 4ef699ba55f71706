"""The one place that touches Trio's private names: what a sweep needs to see and to steer.

Trio runs the tasks that are ready at the same time in a random order and has no public seed for it. It does
not tell what a task is about to be sent, nor whose deadline has cancelled it, nor whether it has raised
in the end. And a task that waits in a shield cannot be ended.
`tests/testing/test_scheduler.py` fails on the day when one of these names moves.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import Iterator
from typing import Any, NoReturn, Protocol, cast

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


class Sending(Protocol):
    """What Trio sends to a task, when that is an exception."""

    error: BaseException


def cancelled_with(task: trio.lowlevel.Task, reason: str) -> Sending | None:
    """Return what a task that is about to run is sent, if that is `trio.Cancelled` with this reason."""
    sending = cast("Any", task._next_send)
    error = getattr(sending, "error", None)
    return sending if isinstance(error, trio.Cancelled) and error.reason == reason else None


def scopes_within(task: trio.lowlevel.Task, outermost: trio.CancelScope) -> tuple[trio.CancelScope, ...]:
    """Return the scopes in which a task is, from the innermost out to ``outermost``, without that one."""
    scopes: list[trio.CancelScope] = []
    status: _run.CancelStatus | None = task._cancel_status
    while status is not None and status._scope is not outermost:
        scopes.append(status._scope)
        status = status.parent
    return tuple(scopes)


def count_errors(nursery: trio.Nursery) -> int:
    """Return how many exceptions a nursery has to raise when it is left."""
    return len(nursery._pending_excs)


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


# Of all blocks: what an earlier one has left in Trio's heap of deadlines must be the equal of nothing later.
_numbers = itertools.count()


class _InOrder(dict[Any, None]):
    """As much of a set as Trio asks of the two in a cancel scope; it is walked in the order of adding."""

    def add(self, member: object) -> None:
        self[member] = None

    def remove(self, member: object) -> None:
        del self[member]


@contextlib.contextmanager
def cancels_in_order() -> Iterator[None]:
    """While the block runs, what one cancel or one moment ends is told of it in the order of its beginning.

    Otherwise that order comes from addresses in memory, and is another one in each process. It matters where
    being cancelled does something that the next one meets, as when a waiter hands its place to another. For
    scopes that are opened in the block; go round a whole `trio.run`.
    """
    original = _run.CancelStatus.__attrs_post_init__
    outer = vars(_run).get("id")  # of a block around this one: the module has no such name of its own

    def post_init(status: _run.CancelStatus) -> None:
        status._children = cast("Any", _InOrder())
        status._tasks = cast("Any", _InOrder())
        original(status)

    def number(_: object) -> int:
        return next(_numbers)

    _run.CancelStatus.__attrs_post_init__ = post_init  # type: ignore[method-assign,assignment]
    # Where two deadlines are the same, Trio compares this.
    _run.id = number  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if outer is None:
            del _run.id  # type: ignore[attr-defined]
        else:
            _run.id = outer  # type: ignore[attr-defined]
        _run.CancelStatus.__attrs_post_init__ = original  # type: ignore[method-assign]


@contextlib.contextmanager
def resting_collector() -> Iterator[None]:
    """While the block runs, Python's collector of cyclic garbage does not.

    What it found would be of an earlier time, and its warnings and finalizers would come at a moment that
    depends on how much was made before.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
