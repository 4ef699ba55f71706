"""What must hold again after each run of a sweep, whatever was cancelled.

An invariant is a function that gives a context manager: it is entered before the run, looks at what there is,
and raises AssertionError when it is left and something is there that was not there before.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeAlias

from ._task_tree import all_tasks, task_name, where

Invariant: TypeAlias = Callable[[], AbstractContextManager[object]]


class Closable(Protocol):
    """A stream that says whether it was closed."""

    @property
    def closed(self) -> bool:
        """It was closed by its owner."""
        ...


#: Every stream in memory that has been made and is still referred to.
_streams: weakref.WeakSet[Closable] = weakref.WeakSet()


def register_stream(stream: Closable) -> None:
    """Have `no_stream_left` look at this stream as long as anything refers to it."""
    _streams.add(stream)


@contextlib.contextmanager
def no_task_left() -> Iterator[None]:
    """See that every task that has begun in the block is over."""
    before = all_tasks()
    yield
    left = sorted(f"{task_name(task)}, at {where(task)}" for task in all_tasks() - before)
    if left:
        raise AssertionError("tasks were left behind: " + "; ".join(left))


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """See that every file and socket that was opened in the block is closed.

    Where the system does not list a process's descriptors (Windows), nothing is seen.
    """
    before = _descriptors()
    yield
    left = {number: what for number, what in _descriptors().items() if before.get(number) != what}
    if left:
        told = "; ".join(f"{number} ({_describe(number, what)})" for number, what in sorted(left.items()))
        raise AssertionError(f"descriptors were left open: {told}")


@contextlib.contextmanager
def no_stream_left() -> Iterator[None]:
    """See that every stream in memory that was made in the block is closed, or gone.

    Those of this package, that is. Trio's own warn when they are dropped: see `no_resource_warning`.
    """
    before = set(_streams)
    yield
    left = sorted(repr(stream) for stream in _streams if not stream.closed and stream not in before)
    if left:
        raise AssertionError("streams in memory were left open: " + "; ".join(left))


@contextlib.contextmanager
def no_resource_warning() -> Iterator[None]:
    """See that nothing was dropped in the block that should have been closed first.

    The garbage collector closes a file or a socket that nobody holds any more, and so hides that somebody has
    lost it; but Python says so with a ResourceWarning. Other warnings take their way.
    """
    dropped: list[str] = []
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: object, **named: object) -> None:
            if issubclass(category, ResourceWarning):
                dropped.append(str(message))
            else:
                shown(message, category, *rest, **named)  # type: ignore[arg-type]

        warnings.simplefilter("always", ResourceWarning)
        warnings.showwarning = show
        yield
    if dropped:
        raise AssertionError("dropped without a close: " + "; ".join(dropped))


DEFAULT_INVARIANTS: Final[tuple[Invariant, ...]] = (
    no_resource_warning,
    no_descriptor_left,
    no_stream_left,
    no_task_left,
)

_LISTS: Final = ("/proc/self/fd", "/dev/fd")  # Linux; macOS and the BSDs


def _descriptors() -> dict[int, tuple[int, ...]]:
    """Return what is open: for each descriptor that by which it differs from a later one of its number."""
    found: dict[int, tuple[int, ...]] = {}
    listing = next((path for path in _LISTS if os.path.isdir(path)), None)
    for name in [] if listing is None else os.listdir(listing):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed by now
            status = os.fstat(int(name))
            found[int(name)] = status.st_mode, status.st_dev, status.st_ino
    return found


def _describe(number: int, what: tuple[int, ...]) -> str:
    """Return what a descriptor is: a socket with its addresses, a file, a pipe."""
    if not stat.S_ISSOCK(what[0]):
        kind = "a pipe" if stat.S_ISFIFO(what[0]) else "a file" if stat.S_ISREG(what[0]) else "no socket"
        with contextlib.suppress(OSError):
            kind += f", {os.readlink(f'{_LISTS[0]}/{number}')}"
        return kind
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
        told = f"a socket at {copy.getsockname()}"
        with contextlib.suppress(OSError):
            told += f", connected to {copy.getpeername()}"
        return told
    return "a socket"
