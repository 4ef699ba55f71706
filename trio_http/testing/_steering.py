"""Who steers Trio's scheduler: it is one for all of the process, so one at a time, or one within another."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import attrs
import trio

from ._task_tree import is_within


@attrs.frozen(eq=False)
class _Steersman:
    """What steers: a sweep in a task, or a simulation in a thread."""

    name: str
    thread: int
    task: trio.lowlevel.Task | None

    def has_within(self, thread: int, task: trio.lowlevel.Task | None) -> bool:
        """Whether what begins there is over before this is."""
        if thread != self.thread:
            return False
        return self.task is None or (task is not None and is_within(task, self.task))


_steersmen: list[_Steersman] = []  # the outermost first


@contextlib.contextmanager
def steering(name: str) -> Iterator[None]:
    """Have the scheduler for the block, or within the block of who has it already.

    Args:
      name: what is about to steer, for the text of an error.

    Raises:
      RuntimeError: another task or thread has it, and is not waiting for this block to end. The caller is
        at fault; the other is not touched.
    """
    thread = threading.get_ident()
    task = trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None
    if _steersmen and not _steersmen[-1].has_within(thread, task):
        raise RuntimeError(
            f"{name} cannot begin beside {_steersmen[-1].name}: each sets the order of all tasks of the "
            "process; run one after the other, or one inside the other"
        )
    own = _Steersman(name, thread, task)
    _steersmen.append(own)
    try:
        yield
    finally:
        _steersmen.remove(own)
