"""Interrupts such as KeyboardInterrupt, which are nobody's failure, and come out as they are."""

from __future__ import annotations

import trio


def interrupt_in(exc: BaseException) -> BaseException | None:
    """Return the first in a group that is neither an error nor `trio.Cancelled`; None: there is none."""
    if not isinstance(exc, BaseExceptionGroup):
        return None if isinstance(exc, (Exception, trio.Cancelled)) else exc
    return next(filter(None, map(interrupt_in, exc.exceptions)), None)
