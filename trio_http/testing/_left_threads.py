"""Threads that a cancel has left to themselves (``abandon_on_cancel``), and that are still at work."""

from __future__ import annotations

import time
from typing import Final

import trio

# Real seconds that they have to come to their end. In so many pieces, for when a busy machine lets the whole
# process stand still for longer than all of it, only one piece is lost. Arbitrary.
_REAL_SECONDS: Final = 2.0
_PIECES: Final = 1000


def threads_at_work() -> frozenset[object]:
    """Return what stands for each thread of `trio.to_thread.run_sync` that has not ended.

    It holds its place in Trio's limiter until then, whether or not anybody still waits for it. Threads under
    a limiter of the program's own are not seen.
    """
    return frozenset(trio.to_thread.current_default_thread_limiter().statistics().borrowers)


async def let_threads_end(before: frozenset[object]) -> None:
    """Wait until the threads that were not there ``before`` are over; but not for long.

    Trio's clock does not jump meanwhile, since it has something to do all the time.

    Cancellation: they are left as they are.
    """
    left = threads_at_work() - before
    for _ in range(_PIECES):
        if not left:
            return
        time.sleep(_REAL_SECONDS / _PIECES)  # noqa: ASYNC251  # nothing else is to go on
        await trio.lowlevel.checkpoint()  # where a thread's end is told
        left &= threads_at_work()
