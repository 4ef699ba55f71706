"""How fast a client must be while it is waited for: a stall limit and a minimum rate in one."""

from __future__ import annotations

import math


class Pace:
    """A bucket of patience, in seconds: waiting takes from it, bytes put back.

    It begins full, and holds no more than the stall limit. A client that sends nothing empties it in just
    that time; one that is slower than the rate empties it little by little; one that keeps the rate never
    does, and what it was faster earlier is not saved up. While nobody waits for the client nothing is taken.

    Args:
      stall: how much patience there is at most, in seconds; `math.inf` for ever.
      rate: bytes that are worth a second; 0 when any byte restores all patience.

    Attributes:
      waited: how long the client was waited for so far, in seconds.
      moved: the bytes that came, or went, in that time.
      waiting: the client is waited for.
    """

    __slots__ = ("_patience", "_rate", "_since", "_stall", "moved", "waited", "waiting")

    def __init__(self, stall: float, rate: float) -> None:
        self._stall = self._patience = stall
        self._rate = rate
        self._since = 0.0
        self.waited = 0.0
        self.moved = 0
        self.waiting = False

    def adjust(self, stall: float, rate: float) -> None:
        """Go on with other limits. A longer stall limit adds the difference to the patience in hand; a
        shorter one cuts that down to itself, so that no client is given up for the change alone."""
        if stall > self._stall:
            self._patience += stall - self._stall
        else:
            self._patience = min(stall, self._patience)
        self._stall = stall
        self._rate = rate

    def start(self, now: float) -> float:
        """The client is waited for from now on; return when patience ends unless bytes come."""
        self._since = now
        self.waiting = True
        return now + self._patience

    def stop(self, now: float, count: int) -> bool:
        """The wait is over, or looked at, and ``count`` bytes moved in it; return whether patience is
        left."""
        elapsed = now - self._since
        self._since = now
        self.waiting = False
        self.waited += elapsed
        self.moved += count
        if count > 0 and self._rate == 0:
            self._patience = self._stall
        else:
            earned = count / self._rate if count > 0 else 0.0
            self._patience = min(self._stall, self._patience - elapsed + earned)
        # Not `patience > 0`: a rest that is too small for the clock to tell would have the next deadline be
        # now, and whoever watches it go round for ever.
        return now + self._patience > now

    @property
    def end(self) -> float:
        """When patience ends unless bytes come; `math.inf` while the client is not waited for."""
        return self._since + self._patience if self.waiting else math.inf

    @property
    def speed(self) -> float | None:
        """Bytes per second of waiting; None when that took no time."""
        return self.moved / self.waited if self.waited > 0 else None
