"""The cancellation sweep: a scenario is run once for every place where a cancel can reach it.

Theory of operation
===================

A Trio task runs in *steps*, from one wake-up to the next wait. Between two steps of a task, and nowhere
else, can it be found by a cancel. There are two moments between them, and both matter:

- *waiting*: after the step, while the task waits. The wait is aborted: `trio.Cancelled` comes out of this
  very await, and what the abort has to take back (a place in a queue, a half-made hand-over) is put to the
  test;
- *woken*: before the next step, when what the task waited for has come. The await returns as if nothing had
  happened, and `Cancelled` comes out of the next one: what the task was just given must not get lost
  between the two.

So a scenario of n steps has 2n - 1 cancel points. The sweep runs it once untouched, then once for each
point, in the order of time, until a run ends by itself before its point comes. Steps of the tasks that the
scenario has started inside itself count like its own, because the same cancel reaches them all.

Three rules hold after each run, whatever the scenario is:

1. When `Cancelled` was delivered to the scenario, it comes out of it: neither swallowed nor turned into
   something else. A scenario that was not waiting for anything any more may complete instead.
2. No task is left that was not there before.
3. It ends at all, within ``patience`` seconds of Trio's clock: with an autojump clock this costs nothing.

What else must hold is the caller's to say, in ``check``.

The hard case is the first rule, for a scenario that comes to its end looks the same whether it was told or
not. So before each step the sweep looks at what the scenario's task is about to be sent, and knows its own
cancel by the reason. Only that task is watched so: a *child* that swallows `Cancelled` is found if its
parent is told, too, or by ``check``.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeAlias, TypeVar, overload

import attrs
import trio
import trio.testing

from ._scheduler import cancelled_with, raise_in_ready, raise_in_waiting, repeatable_order

T = TypeVar("T")

Moment: TypeAlias = Literal["waiting", "woken"]

# A run is stopped when it has gone on for so many steps after its cancel: it must be catching `Cancelled`
# in a loop.
_STEPS_AFTER_CANCEL = 10_000

# Code whose awaits say less than those of who called it.
_NOT_SHOWN = (
    os.path.dirname(inspect.getfile(trio)) + os.sep,
    os.path.dirname(__file__) + os.sep,
    inspect.getfile(contextlib),
)


@attrs.frozen
class CancelPoint:
    """One run of a sweep.

    Attributes:
      step: the step before ("woken") or after ("waiting") which the cancel came, counted from 1.
      moment: "waiting" or "woken".
      task: the name of the task whose step it was.
      where: file:line and function of the await, the innermost that is not Trio's own. For "woken" it is
        the await whose result the task had just got, and `Cancelled` came out of a later one.
      within: the names of all functions that the task was in, the outermost first, without Trio's.
      completed: the scenario came to its end in spite of the cancel.
    """

    step: int
    moment: Moment
    task: str
    where: str
    within: tuple[str, ...]
    completed: bool

    def __str__(self) -> str:
        end = ", completed" if self.completed else ""
        return f"step {self.step}, {self.moment} at {self.where} ({self.task}){end}"


@attrs.frozen
class SweepReport:
    """What a sweep has tried, all of it successfully.

    Attributes:
      points: one entry for each cancelled run, in order.
      steps: how many steps the scenario takes when it is left alone.
    """

    points: tuple[CancelPoint, ...]
    steps: int

    @property
    def places(self) -> dict[str, int]:
        """How often the cancel came in each place of the source; what is not in here was not tried."""
        return dict(Counter(point.where for point in self.points))

    def __str__(self) -> str:
        completed = sum(point.completed for point in self.points)
        head = (
            f"{len(self.points)} cancel points in {self.steps} steps, {completed} of them too late to matter"
        )
        return "\n".join([head, *(f"  {point}" for point in self.points)])


@overload
async def cancel_at_every_step(
    scenario: Callable[[], Awaitable[object]],
    *,
    check: Callable[[], Awaitable[object] | None] | None = None,
    max_steps: int = 2000,
    patience: float = 300,
    seed: int = 0,
) -> SweepReport: ...


@overload
async def cancel_at_every_step(
    scenario: Callable[[T], Awaitable[object]],
    *,
    world: Callable[[], AbstractAsyncContextManager[T]],
    check: Callable[[T], Awaitable[object] | None] | None = None,
    max_steps: int = 2000,
    patience: float = 300,
    seed: int = 0,
) -> SweepReport: ...


async def cancel_at_every_step(
    scenario: Callable[..., Awaitable[object]],
    *,
    world: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    check: Callable[..., Awaitable[object] | None] | None = None,
    max_steps: int = 2000,
    patience: float = 300,
    seed: int = 0,
) -> SweepReport:
    """Run ``scenario`` once for every place where a cancel can reach it, and look each time that all is well.

    ::

        async def scenario(client):
            await client.get("/")

        async def check(client):
            assert (await client.get("/")).status == 200    # cancelled or not, the client works as before

        report = await cancel_at_every_step(scenario, world=lambda: open_client(app), check=check)

    Works for any Trio code. Use an autojump clock where the scenario waits for time.

    Args:
      scenario: what is cancelled. It must succeed when it is left alone, and do the same in every run.
      world: gives an async context manager, entered afresh for each run and not cancelled; what it yields
        is handed to ``scenario`` and ``check``. None: they are called without arguments.
      check: raises, or returns, whether all is well after the scenario has ended; sync or async. It is
        called in the world, also after the run that is left alone.
      max_steps: a scenario of more steps is taken for endless.
      patience: seconds on Trio's clock that one run may take.
      seed: decides in which order ready tasks run; the same seed gives the same runs.

    Returns:
      What was tried. That it is not empty is the caller's to assert.

    Raises:
      AssertionError: a rule is broken, or ``check`` has raised (its exception is the cause). The text has
        the cancel point. The first broken run ends the sweep.
      Exception: what the scenario raises when it is left alone.

    Cancellation: the run under way is cancelled like any code, and no further one begins.
    """
    arrangement = _Arrangement(scenario, world, check, max_steps, patience)
    with repeatable_order(seed):
        untouched = await arrangement.run_once(None, "woken")
    points: list[CancelPoint] = []
    moments: tuple[Moment, Moment] = ("woken", "waiting")
    for step in range(1, max_steps + 1):
        for moment in moments:
            with repeatable_order(seed):
                run = await arrangement.run_once(step, moment)
            if run.point is None:
                return SweepReport(tuple(points), untouched.steps)
            points.append(run.point)
    raise AssertionError(f"the scenario has not ended by itself within {max_steps} steps; is it endless?")


@attrs.frozen
class _Arrangement:
    """What is the same in every run."""

    scenario: Callable[..., Awaitable[object]]
    world: Callable[[], AbstractAsyncContextManager[Any]] | None
    check: Callable[..., Awaitable[object] | None] | None
    max_steps: int
    patience: float

    async def run_once(self, step: int | None, moment: Moment) -> _Run:
        """Run the scenario, cancelled at this point; see that the rules hold."""
        run = _Run(step, moment, self.max_steps)
        before = _all_tasks()
        try:
            if self.world is None:
                error = await self._run_in_world(run)
            else:
                error = None
                try:
                    # The world is left in peace, also after a failure: its nurseries would group that.
                    async with self.world() as value:
                        error = await self._run_in_world(run, value)
                except Exception:
                    if error is None:
                        raise
            if error is not None:
                raise error
            await _see_no_task_left(before)
        except Exception as exc:
            if step is None:
                raise
            raise AssertionError(f"cancelled at {run.place()}: {_said(exc)}") from exc
        return run

    async def _run_in_world(self, run: _Run, *value: object) -> Exception | None:
        """Perform and check; return what went wrong."""
        try:
            await run.drive(self.scenario, value, self.patience)
            if self.check is not None:
                verdict = self.check(*value)
                if inspect.isawaitable(verdict):
                    await verdict
        except Exception as exc:  # noqa: BLE001  # raised by `run_once`
            return exc
        return None


class _Run(trio.abc.Instrument):
    """One run: counts the steps, and cancels when the time has come."""

    def __init__(self, step: int | None, moment: Moment, max_steps: int) -> None:
        self.steps = 0
        self.point: CancelPoint | None = None
        self._step = step
        self._moment = moment
        self._max_steps = max_steps
        self._task: trio.lowlevel.Task | None = None
        self._scope = trio.CancelScope()
        self._delivered_at = ""
        self._error: Exception | None = None
        self._ended = False
        self._stopped = False
        self._reason = f"cancelled by a sweep, {moment} at step {step}"

    def place(self) -> str:
        """Return where this run was cancelled, or was to be."""
        return str(self.point) if self.point else f"step {self._step}, {self._moment} (not reached)"

    async def drive(
        self, scenario: Callable[..., Awaitable[object]], args: tuple[object, ...], patience: float
    ) -> None:
        """Run the scenario in a task of its own, whose steps are counted, and judge how it has ended."""
        async with trio.open_nursery() as nursery:
            # Beside the scenario and not around it: a deadline around it would be seen by what it calls.
            nursery.start_soon(self._lose_patience, patience)
            nursery.start_soon(self._perform, scenario, args, nursery.cancel_scope, name=scenario)
        if self._error is not None:
            if self.point is None:
                raise self._error
            raise AssertionError(
                f"the scenario has raised {_said(self._error)} where only Cancelled or nothing may come out"
            ) from self._error
        if self.point is None:
            return
        completed = not self._scope.cancelled_caught
        if completed and self._delivered_at:
            raise AssertionError(
                f"Cancelled was swallowed: it was raised at {self._delivered_at}, and the scenario went on"
            )
        self.point = attrs.evolve(self.point, completed=completed)

    async def _perform(
        self, scenario: Callable[..., Awaitable[object]], args: tuple[object, ...], whole: trio.CancelScope
    ) -> None:
        self._task = trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(self)  # in the midst of the first step, of which it so sees only the end
        self.steps = 1
        try:
            with self._scope:
                if self._step == 1 and self._moment == "woken":
                    self._cancel(self._task)
                await scenario(*args)
        except Exception as exc:  # noqa: BLE001  # `drive` judges it, and raises
            self._error = exc
        finally:
            self._ended = True
            trio.lowlevel.remove_instrument(self)
            whole.cancel()

    async def _lose_patience(self, patience: float) -> None:
        while True:  # what catches the error, and waits on, meets it again
            await trio.sleep(patience)
            for task in self._leaves():
                raise_in_waiting(task, f"it has not ended within {patience} s; it waits at {_where(task)}")

    # --------------------------------------------------------------------------------------- as an instrument

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step of the scenario; cancel before it when it is the one."""
        if self._ended or not self._is_ours(task):
            return
        self.steps += 1
        if self.steps == self._step and self._moment == "woken":
            self._cancel(task)
        elif task is self._task and not self._delivered_at and cancelled_with(task, self._reason):
            self._delivered_at = _where(task)
        limit = self._max_steps if self.point is None else self.point.step + _STEPS_AFTER_CANCEL
        if self.steps > limit and not self._stopped:
            self._stopped = True  # once: what it brings down must be left to end in order
            raise_in_ready(task, f"it has not ended within {limit} steps; is it endless?")

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Cancel after the step when it is the one."""
        if (
            self.steps == self._step
            and self._moment == "waiting"
            and self.point is None
            and not self._ended
            and self._is_ours(task)
        ):
            self._cancel(task)

    def _cancel(self, task: trio.lowlevel.Task) -> None:
        first = self.steps == 1 and self._moment == "woken"
        self.point = CancelPoint(
            self.steps,
            self._moment,
            "the scenario's task" if task is self._task else task.name,
            "its beginning" if first else _where(task),
            () if first else tuple(frame.f_code.co_name for frame, _ in _frames(task)),
            completed=False,
        )
        self._scope.cancel(reason=self._reason)

    def _is_ours(self, task: trio.lowlevel.Task) -> bool:
        """Whether this is the scenario's task, or one that lives in a nursery inside it."""
        within: trio.lowlevel.Task | None = task
        while within is not None and within is not self._task:
            nursery = within.parent_nursery
            within = None if nursery is None else nursery.parent_task
        return within is not None

    def _leaves(self) -> list[trio.lowlevel.Task]:
        """The scenario's tasks that wait for no task of their own: those that hold up all the others."""
        assert self._task is not None
        return [
            task for task in _tasks_under(self._task) if not any(n.child_tasks for n in task.child_nurseries)
        ]


def _tasks_under(root: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    """Return the task and all that live in its nurseries, and in theirs."""
    tasks = [root]
    for task in tasks:  # grows while it is walked
        for nursery in task.child_nurseries:
            tasks.extend(nursery.child_tasks)
    return tasks


def _all_tasks() -> set[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return set(_tasks_under(root))


async def _see_no_task_left(before: set[trio.lowlevel.Task]) -> None:
    """Raise AssertionError when a task is here that was not here before, and is not just about to end."""
    if _all_tasks() - before:
        await trio.testing.wait_all_tasks_blocked()
    left = sorted(f"{task.name}, at {_where(task)}" for task in _all_tasks() - before)
    if left:
        raise AssertionError("tasks were left behind: " + "; ".join(left))


def _frames(task: trio.lowlevel.Task) -> list[tuple[FrameType, int]]:
    """Return the frames and lines of the awaits in which the task is, the outermost first.

    Without Trio's and ours.

    When there are no others, the innermost of those; none when the task is over.
    """
    if getattr(task.coro, "cr_frame", None) is None:
        return []
    frames = list(task.iter_await_frames())
    return [entry for entry in frames if not entry[0].f_code.co_filename.startswith(_NOT_SHOWN)] or frames[
        -1:
    ]


def _where(task: trio.lowlevel.Task) -> str:
    """Return file:line and function of the innermost await."""
    frames = _frames(task)
    if not frames:
        return "its end"
    frame, line = frames[-1]
    return f"{'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{line} in {frame.f_code.co_name}"


def _said(exc: BaseException) -> str:
    """Return what an exception says; for a group, what its leaves say."""
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(_said(inner) for inner in exc.exceptions)
    return f"{type(exc).__name__}: {exc}" if str(exc) else repr(exc)
