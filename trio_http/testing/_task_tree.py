"""Trio's tasks, seen from outside: which there are, and in which await each of them is."""

from __future__ import annotations

import contextlib
import functools
import inspect
import linecache
import os
from pathlib import Path
from types import FrameType

import attrs
import trio

_TRIO = os.path.dirname(inspect.getfile(trio)) + os.sep

# Code whose awaits say less than those of who called it.
_NOT_SHOWN = (_TRIO, os.path.dirname(__file__) + os.sep, inspect.getfile(contextlib))

# Where Trio waits for what no clock of its own can bring: threads, and the system's events.
_OUTSIDE = (_TRIO + "_threads.py", os.path.join(_TRIO, "_core", "_io_"))


@attrs.frozen
class Place:
    """A line of source at which a task waits.

    Attributes:
      file: the path, as Python knows it.
      line: counted from 1.
      function: the name of the function.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{'/'.join(Path(self.file).parts[-2:])}:{self.line} in {self.function}"

    @property
    def code(self) -> str:
        """The line's text, such as ``await stream.receive_some()``; empty where there is no source."""
        return linecache.getline(self.file, self.line).strip()


def tasks_under(root: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    """Return the task and all that live in its nurseries, and in theirs."""
    tasks = [root]
    for task in tasks:  # grows while it is walked
        for nursery in task.child_nurseries:
            tasks.extend(nursery.child_tasks)
    return tasks


def all_tasks() -> set[trio.lowlevel.Task]:
    """Return every task of this `trio.run`."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return set(tasks_under(root))


def is_within(task: trio.lowlevel.Task, root: trio.lowlevel.Task | None) -> bool:
    """Whether this is the root, or lives in a nursery inside it."""
    within: trio.lowlevel.Task | None = task
    while within is not None and within is not root:
        nursery = within.parent_nursery
        within = None if nursery is None else nursery.parent_task
    return within is not None


def frames_of(task: trio.lowlevel.Task) -> list[tuple[FrameType, int]]:
    """Return the frames and lines of the awaits in which the task is, the outermost first.

    Without Trio's and those of this package's tools for tests. When there are no others, the innermost that
    says most: one of the tools before one of Trio's. None when the task is over.
    """
    if getattr(task.coro, "cr_frame", None) is None:
        return []
    frames = list(task.iter_await_frames())
    for hidden in (_NOT_SHOWN, (_TRIO,)):
        shown = [entry for entry in frames if not entry[0].f_code.co_filename.startswith(hidden)]
        if shown:
            return shown if hidden is _NOT_SHOWN else shown[-1:]
    return frames[-1:]


def waits_outside(task: trio.lowlevel.Task) -> bool:
    """Whether a task waits for a thread or for the system, which go by no clock of Trio's."""
    return any(frame.f_code.co_filename.startswith(_OUTSIDE) for frame, _ in task.iter_await_frames())


def place_of(task: trio.lowlevel.Task) -> Place | None:
    """Return where the innermost await of a task is; None when it is over."""
    frames = frames_of(task)
    if not frames:
        return None
    frame, line = frames[-1]
    return Place(frame.f_code.co_filename, line, frame.f_code.co_name)


def where(task: trio.lowlevel.Task) -> str:
    """Return the place of a task as text."""
    return str(place_of(task) or "its end")


def draw_tasks(root: trio.lowlevel.Task, indent: str = "") -> str:
    """Return a line for each task under ``root``: its name, indented by its depth, and where it is."""
    lines = [f"{indent}{task_name(root)}: {where(root)}"]
    for nursery in root.child_nurseries:
        # A set: sorted, so that one run is drawn the same way each time.
        children = sorted(nursery.child_tasks, key=lambda task: (task_name(task), where(task)))
        lines.extend(draw_tasks(child, indent + "  ") for child in children)
    return "\n".join(lines)


def function_name(function: object) -> str:
    """Return the name of a function; of a partial that of what it calls, of any other object its class's."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def task_name(task: trio.lowlevel.Task) -> str:
    """Return the task's name without the address of what it runs, and without what a local function is in."""
    return task.name.partition(" at 0x")[0].rpartition("<locals>.")[2]
