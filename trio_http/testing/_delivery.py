"""What becomes of a `trio.Cancelled` that was sent to a task: does it come out, and if not, who has it?"""

from __future__ import annotations

import gc
import types

import attrs
import trio

from ._scheduler import Sending, count_errors, scopes_within
from ._task_tree import Place, place_of


@attrs.define(eq=False)
class Delivery:
    """`Cancelled` was sent to a task that is not over yet.

    Attributes:
      place: the await out of which it came.
    """

    place: Place | None
    _sending: Sending
    _scopes: tuple[trio.CancelScope, ...]  # in which the task waited

    @property
    def caught(self) -> bool:
        """A scope has caught it that was cancelled on its own."""
        return any(scope.cancelled_caught for scope in self._scopes)

    @property
    def kept(self) -> bool:
        """Somebody has it, and may hand it on, such as an ``outcome.Error``; a log does not count."""
        return any(
            not isinstance(holder, (types.FrameType, BaseException)) and not _is_exc_info(holder)
            for holder in gc.get_referrers(self._sending.error)
            if holder is not self._sending
        )


@attrs.define(eq=False)
class Told:
    """All that one of the scenario's tasks was told of a cancel."""

    deliveries: list[Delivery] = attrs.field(factory=list)
    _errors: int = 0

    def add(self, task: trio.lowlevel.Task, sending: Sending, outermost: trio.CancelScope) -> None:
        """Note what the task is about to be sent, in its scopes and all others within ``outermost``."""
        self.deliveries.append(Delivery(place_of(task), sending, scopes_within(task, outermost)))

    def begin_step(self, task: trio.lowlevel.Task) -> None:
        """Note how many errors the task's nursery has by now."""
        self._errors = _errors_beside(task)

    def lost(self, task: trio.lowlevel.Task) -> Delivery | None:
        """Return what a task has swallowed that has ended in the step which has begun; None: nothing.

        A task that has raised anything at all has not: what it was is for its nursery to say.
        """
        # `TaskStatus.started` in this very step changes the nursery; in the one before it was alone.
        if _errors_beside(task) > self._errors:
            return None
        return next((each for each in self.deliveries if not each.caught and not each.kept), None)

    def lost_at_the_end(self) -> Delivery | None:
        """Return what the scenario's task has swallowed, which has ended well; None: nothing.

        Whoever keeps it has nobody there to hand it to.
        """
        return next((each for each in self.deliveries if not each.caught), None)


def _is_exc_info(holder: object) -> bool:
    return isinstance(holder, tuple) and len(holder) == 3 and isinstance(holder[0], type)


def _errors_beside(task: trio.lowlevel.Task) -> int:
    return 0 if task.parent_nursery is None else count_errors(task.parent_nursery)
