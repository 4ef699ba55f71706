"""One run of a scenario under the sweep: its steps are counted, and a cancel comes at one of them."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio
import trio.testing

from ._arguments import awaited
from ._cancel_point import CancelPoint, Moment
from ._delivery import Delivery, Told
from ._interrupts import interrupt_in
from ._said import said
from ._scheduler import cancelled_with, pass_deadline, raise_in_ready, raise_in_waiting
from ._sweep_report import RunState
from ._task_tree import (
    Place,
    draw_tasks,
    frames_of,
    is_within,
    place_of,
    task_name,
    tasks_under,
    waits_outside,
    where,
)

# A run is stopped when it has gone on for so many steps after its cancel: it must be catching `Cancelled`
# in a loop. Arbitrary.
_STEPS_AFTER_CANCEL: Final = 10_000

# Real seconds that a thread or the system has to bring what is waited for, when Trio's clock can jump: that
# has gone on to the end of all patience in no time. In so many pieces, for when a busy machine lets the whole
# process stand still for longer than all of it, only one piece is lost. Arbitrary.
_REAL_SECONDS: Final = 2.0
_PIECES: Final = 20


class SweepRun(trio.abc.Instrument):
    """One run of a scenario.

    Args:
      step, moment: where to cancel; None: nowhere.
      max_steps: more are taken for an endless scenario.
      beside: steps of other tasks count, too.
      describe: gives the caller's state as text.

    Attributes:
      owners: for each step that was counted, whether it was the scenario's own.
      point: where the cancel came; None: it has not come.
      state: what could be seen.
    """

    def __init__(
        self, step: int | None, moment: Moment, *, max_steps: int, beside: bool, describe: Callable[[], str]
    ) -> None:
        self.owners: list[bool] = []
        self.point: CancelPoint | None = None
        self.state = RunState()
        self._step = step
        self._moment = moment
        self._max_steps = max_steps
        self._beside = beside
        self._describe = describe
        self._task: trio.lowlevel.Task | None = None
        self._driver: trio.lowlevel.Task | None = None
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._landed: Place | None = None
        self._told: dict[trio.lowlevel.Task, Told] = {}  # of our cancel; tasks that are not over
        self._swallowed = ""  # what is to be said of the first one; the delivery itself holds frames
        self._error: Exception | None = None
        self._ended = False
        self._endless = ""  # what is to be said of a run that was ended by force
        self._reason = f"cancelled by a sweep, {moment} at step {step}"

    def place(self) -> str:
        """Return where this run was cancelled, or was to be."""
        return str(self.point) if self.point else f"step {self._step}, {self._moment} (not reached)"

    async def drive(
        self, scenario: Callable[..., Awaitable[object]], args: tuple[object, ...], patience: float
    ) -> None:
        """Run the scenario in a task of its own, whose steps are counted, and judge how it has ended.

        Raises:
          AssertionError: a rule was broken.
          Exception: the scenario's own, when nothing was cancelled.
          KeyboardInterrupt, SystemExit: as they came, also out of a group.

        Cancellation: the scenario is cancelled, too, and has ended when it comes out.
        """
        self._driver = trio.lowlevel.current_task()
        self.state = RunState(before=self._describe())
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                # Beside the scenario and not around it: a deadline around it would be seen by what it calls.
                nursery.start_soon(self._lose_patience, patience)
                nursery.start_soon(self._perform, scenario, args, nursery.cancel_scope, name=scenario)
        except BaseExceptionGroup as group:  # cancel: goes on in the group, or an interrupt does
            interrupt = interrupt_in(group)
            if interrupt is None:
                raise
            raise interrupt from group
        finally:
            self.state = attrs.evolve(self.state, after=self._describe())
            if self.point is not None:
                completed = self._ended and self._error is None and not self._scope.cancelled_caught
                self.point = attrs.evolve(self.point, landed=self._landed, completed=completed)
        if self._endless:  # whatever it has made of the error that ended it
            raise AssertionError(self._endless) from self._error
        if self._error is not None:
            if self.point is None:
                raise self._error
            raise AssertionError(
                f"the scenario has raised {said(self._error)} where only Cancelled or nothing may come out"
            ) from self._error
        if self._swallowed:
            raise AssertionError(f"Cancelled was swallowed: it was raised at {self._swallowed} went on")

    async def _perform(
        self, scenario: Callable[..., Awaitable[object]], args: tuple[object, ...], whole: trio.CancelScope
    ) -> None:
        self._task = trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(self)  # in the midst of the first step, of which it so sees only the end
        try:
            with self._scope:
                self._begin_step(self._task, own=True)
                await awaited("the scenario", scenario, scenario(*args))
        except Exception as exc:  # noqa: BLE001  # `drive` judges it, and raises
            self._error = exc
        else:
            if not self._scope.cancelled_caught and self._task in self._told:
                self._see_lost(self._task, self._told[self._task].lost_at_the_end())
        finally:
            self._ended = True
            self._told.clear()  # what it holds, holds all that was in the frames
            trio.lowlevel.remove_instrument(self)
            whole.cancel()

    async def _lose_patience(self, patience: float) -> None:
        while True:  # what catches the error, and waits on, meets it again
            await trio.sleep(patience)
            if self._waits_outside() and await self._goes_on_after_all():
                continue
            for task in self._leaves():
                text = f"it has not ended within {patience} s; it waits at {where(task)}"
                self._endless = self._endless or text
                raise_in_waiting(task, text)

    def _waits_outside(self) -> bool:
        """Whether there is a wait that goes by no clock of Trio's, while Trio's own can jump."""
        jumps = isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
        return jumps and any(map(waits_outside, self._leaves()))

    async def _goes_on_after_all(self) -> bool:
        """Wait for real, and tell whether that wait is over."""
        for _ in range(_PIECES):
            await _wait_really(_REAL_SECONDS / _PIECES)
            if not self._waits_outside():
                return True
        return False

    # --------------------------------------------------------------------------------------- as an instrument

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step; cancel before it when it is the one."""
        if self._ended:
            return
        own = is_within(task, self._task)
        if own:
            self._see_cancelled(task)
            if task in self._told:
                self._told[task].begin_step(task)
        elif not self._beside or self._is_drivers(task):
            return
        self._begin_step(task, own)
        limit = self._max_steps if self.point is None else self.point.step + _STEPS_AFTER_CANCEL
        if own and len(self.owners) > limit and not self._endless:
            # Once: what it brings down must be left to end in order.
            self._endless = f"it has not ended within {limit} steps; is it endless?"
            raise_in_ready(task, self._endless)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Cancel after the step when it is the one."""
        if self._ended or self.point is not None or len(self.owners) != self._step:
            return
        if self._moment == ("waiting" if self.owners[-1] else "beside"):
            self._cancel(task)

    def _begin_step(self, task: trio.lowlevel.Task, own: bool) -> None:
        self.owners.append(own)
        if own and len(self.owners) == self._step and self._moment in ("woken", "deadline"):
            self._cancel(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """See whether a task within the scenario that was cancelled has ended as if it had not been."""
        told = self._told.pop(task, None)
        if told is not None and task is not self._task:
            self._see_lost(task, told.lost(task))

    def _see_cancelled(self, task: trio.lowlevel.Task) -> None:
        """Note where `Cancelled` comes out, when it is ours that the task is about to be sent."""
        sending = None if self.point is None else cancelled_with(task, self._reason)
        if sending is not None:
            self._landed = self._landed or place_of(task)
            self._told.setdefault(task, Told()).add(task, sending, self._scope)

    def _see_lost(self, task: trio.lowlevel.Task, delivery: Delivery | None) -> None:
        if delivery is not None and not self._swallowed:
            who = "the scenario" if task is self._task else f"{task_name(task)}, a task within it,"
            self._swallowed = f"{delivery.place}, and {who}"

    def _cancel(self, task: trio.lowlevel.Task) -> None:
        assert self._task is not None
        # At its first step the scenario has not begun: the frames are those of the sweep.
        begun = len(self.owners) > 1 or self._moment in ("waiting", "beside")
        self.point = CancelPoint(
            len(self.owners),
            self._moment,
            "the scenario's task" if task is self._task else task_name(task),
            place_of(task) if begun else None,
            tuple(frame.f_code.co_name for frame, _ in frames_of(task)) if begun else (),
        )
        self.state = attrs.evolve(
            self.state, cancelled=self._describe(), tasks=draw_tasks(self._task) if begun else ""
        )
        if self._moment == "deadline":
            pass_deadline(self._scope, self._reason)
        else:
            self._scope.cancel(reason=self._reason)

    def _is_drivers(self, task: trio.lowlevel.Task) -> bool:
        """Whether it watches over the scenario: its steps are none of the world's."""
        return task is self._driver or task.parent_nursery is self._nursery

    def _leaves(self) -> list[trio.lowlevel.Task]:
        """The scenario's tasks that wait for no task of their own: those that hold up all the others."""
        assert self._task is not None
        return [
            task for task in tasks_under(self._task) if not any(n.child_tasks for n in task.child_nurseries)
        ]


async def _wait_really(seconds: float) -> None:
    """Wait some time that is not Trio's."""
    over = threading.Event()
    try:
        await trio.to_thread.run_sync(over.wait, seconds, abandon_on_cancel=True)
    finally:
        over.set()
