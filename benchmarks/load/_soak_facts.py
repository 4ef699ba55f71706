"""What a process of the soak holds, and what went wrong in it without anybody being told."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

MOST_TROUBLES = 20
"""So many are kept; more of the same say nothing new."""


class Planned(Exception):
    """What a handler of the soak fails with on purpose."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a process holds.

    Attributes:
      tasks: of Trio, living.
      descriptors: open ones.
      rss: bytes of memory, without what was freed and is only kept by the C library's allocator.
      objects: what the collector tracks.
    """

    tasks: int
    descriptors: int
    rss: int
    objects: int


def facts() -> Facts:
    """Return what this process holds, after a garbage collection. To be called in Trio's thread."""
    gc.collect()
    _give_back()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Facts(
        tasks=trio.lowlevel.current_statistics().tasks_living,
        descriptors=len(os.listdir("/proc/self/fd")) - 1,  # without the one that lists them
        rss=pages * os.sysconf("SC_PAGE_SIZE"),
        objects=len(gc.get_objects()),
    )


def _give_back() -> None:
    """Have the allocator give to the system what it keeps of freed memory, where it can: glibc's.

    Pieces of all sizes come and go, and it keeps much of what they leave, which nobody holds. How much it is
    depends on where between them something is still in use.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def descriptor_kinds() -> dict[str, int]:
    """Return how many descriptors are open of each kind: of sockets, pipes, and each file."""
    found: dict[str, int] = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            kind = os.readlink(f"/proc/self/fd/{number}").partition(":[")[0]
        except OSError:
            continue  # the one that lists them
        found[kind] = found.get(kind, 0) + 1
    return found


class Troubles(logging.Handler):
    """Keeps what nobody is told: unexpected log records, unraisable exceptions, and warnings.

    A record is unexpected from WARNING upwards, in the loggers of the package, unless it is about a
    `Planned` failure. Every ResourceWarning counts, and so does every other warning of Python's.

    Attributes:
      logged, unraisable, warned: a line for each, `MOST_TROUBLES` at most.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.logged: list[str] = []
        self.unraisable: list[str] = []
        self.warned: list[str] = []

    def install(self) -> None:
        """Begin to keep them, for the rest of the process."""
        logging.getLogger("trio_http").addHandler(self)
        sys.unraisablehook = self._unraisable
        warnings.simplefilter("always")
        warnings.showwarning = self._warned

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and _is_planned(error):
            return
        where = "" if error is None else f": {last_lines(error)}"
        _keep(self.logged, f"{record.levelname} {record.name}: {record.getMessage()}{where}")

    def _unraisable(self, told: Any) -> None:
        _keep(self.unraisable, f"{told.err_msg or 'ignored'} {told.object!r}: {told.exc_value!r}")

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        _keep(self.warned, f"{category.__name__} {filename}:{lineno}: {message}")

    def as_dict(self) -> dict[str, list[str]]:
        return {"logged": self.logged, "unraisable": self.unraisable, "warned": self.warned}


def _keep(kept: list[str], text: str) -> None:
    if len(kept) < MOST_TROUBLES:
        kept.append(text)


def _is_planned(error: BaseException) -> bool:
    """Tell whether an exception is a `Planned` one, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(Planned)[1] is None
    return isinstance(error, Planned)


def last_lines(error: BaseException) -> str:
    """Return an exception, and where it was raised, in one line."""
    lines = "".join(traceback.format_exception(error)).strip().splitlines()
    return " / ".join(line.strip() for line in lines[-12:])


def stack_of(task: trio.lowlevel.Task) -> str:
    """Return where a task waits, a line for each frame, the innermost last; without Trio's own."""
    lines = []
    for frame, lineno in task.iter_await_frames():
        path = Path(frame.f_code.co_filename)
        if "trio" not in path.parts:
            lines.append(f"  {path.name}:{lineno} {frame.f_code.co_name}")
    return "\n".join(lines)


PLANTS = {
    "other answer": "a handler answers with the content of another request",
    "lost tail": "a handler leaves out the last byte, and says so in the framing",
    "hang": "a request cannot be cancelled",
    "silence": "a handler never answers, and is not cancelled by the client's leaving",
    "task": "a task is left behind",
    "descriptor": "a descriptor is left open",
    "memory": "what was received is kept for ever",
    "lease": "a connection is never given back",
    "log": "an error is logged",
    "unraisable": "an exception is raised where nobody can catch it",
    "socket": "a socket is left to the collector",
    "commit": "what must not be cancelled is cut short",
}
"""Defects that can be planted into the soak's own code, to see that it finds them."""
