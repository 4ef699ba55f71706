"""A moment in the life of a scenario at which a cancel can come."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import attrs

from ._task_tree import Place

Moment: TypeAlias = Literal["woken", "waiting", "deadline", "beside"]

#: The moments of a step that is the scenario's own, and of one of another task.
OWN_MOMENTS: Final[tuple[Moment, ...]] = ("woken", "waiting", "deadline")
OTHER_MOMENTS: Final[tuple[Moment, ...]] = ("beside",)


@attrs.frozen
class CancelPoint:
    """One run of a sweep, and where its cancel came.

    Attributes:
      step: the step, counted from 1, before, in or after which the cancel came.
      moment: "woken" before it, "waiting" after it, "deadline" when a deadline passed as it began, "beside"
        after a step of a task that is not the scenario's.
      task: the name of the task whose step it was.
      place: the await, the innermost that is not Trio's own, in which that task was. For "woken" and
        "deadline" it is the one whose result the task had just got. None: there was none, at the task's
        beginning or end.
      landed: where `Cancelled` first came out in one of the scenario's tasks; None when it never did.
      within: the names of all functions that the task was in, the outermost first, without Trio's.
      completed: the scenario came to its end in spite of the cancel.
    """

    step: int
    moment: Moment
    task: str
    place: Place | None
    within: tuple[str, ...]
    landed: Place | None = None
    completed: bool = False

    def __str__(self) -> str:
        end = ", completed" if self.completed else ""
        return f"step {self.step}, {self.moment} at {self.where} ({self.task}){end}"

    @property
    def where(self) -> str:
        """The place as text: file:line and function."""
        return str(self.place or ("its beginning" if self.step == 1 else "its end"))

    @property
    def key(self) -> str:
        """What names this point when it is to be run alone, such as ``"12 waiting"``."""
        return f"{self.step} {self.moment}"


def parse_key(key: str) -> tuple[int, Moment]:
    """Return step and moment of a point's key.

    Raises:
      ValueError: it is none.
    """
    step, _, moment = str(key).partition(" ")
    for known in get_args(Moment):
        if moment == known and step.isdecimal() and int(step) > 0:
            return int(step), known
    raise ValueError(f"a cancel point is named by its step and its moment, such as '12 waiting', got {key!r}")
