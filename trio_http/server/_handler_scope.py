"""The cancel scope that a connection's handlers run in: who cancels it, why, and what holds a cancel back."""

from __future__ import annotations

import math

import trio

from ._reasons import CancelReason


class HandlerScope:
    """One cancel scope for many exchanges; after a cancel it is left, and another one takes its place.

    A *withheld* cancel is not a shield: inside `hold` the two things that a handler may ask not to be
    bothered with, a disconnect and the drain, wait until `release` or until the hold's bound; everything
    else, the hard stop above all, is delivered.

    Attributes:
      scope: the scope of now.
      reason: why it was cancelled; None when it was not. Set before the cancel.
      touched: it was cancelled, or has a deadline. While this is False, nobody has to look at the scope.
    """

    __slots__ = (
        "_disconnected",
        "_drain_withheld",
        "_drains",
        "_gone",
        "_held_until",
        "_holds",
        "_withheld",
        "reason",
        "scope",
        "touched",
    )

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.reason: CancelReason | None = None
        self.touched = False
        self._holds: list[float] = []
        self._held_until = -math.inf  # the latest of them
        self._withheld: CancelReason | None = None
        self._drains: list[trio.CancelScope] = []
        self._drain_withheld = False
        self._gone = False
        self._disconnected: trio.Event | None = None

    def renew(self) -> trio.CancelScope:
        """Begin anew, with a scope that was not cancelled, and return it."""
        self.scope = trio.CancelScope()
        self.reason = self._withheld = None
        self._drain_withheld = False
        self.touched = False
        self._disconnected = None
        return self.scope

    def cancel(self, reason: CancelReason) -> None:
        """Cancel whatever runs, held or not. The first reason stands."""
        if self.reason is None:
            self.reason = reason
        self.touched = True
        self.scope.cancel(reason=reason.value)

    def limit(self, deadline: float) -> None:
        """Give the handler until then; `math.inf` for ever."""
        self.touched = True
        if deadline != self.scope.deadline:
            self.scope.deadline = deadline

    def lift(self) -> None:
        """Give whatever runs in the scope all the time in the world."""
        if self.touched and self.scope.deadline != math.inf:
            self.scope.deadline = math.inf

    # -- disconnects, and holding them back

    def disconnect(self, now: float) -> None:
        """The client has gone: tell who waits for that, and cancel, unless that is held back."""
        self._gone = True
        if self._disconnected is not None:
            self._disconnected.set()
        if now < self._held_until:
            self._withheld = CancelReason.CLIENT_DISCONNECTED
        else:
            self.cancel(CancelReason.CLIENT_DISCONNECTED)

    async def wait_disconnected(self) -> None:
        """Wait for `disconnect`, which may have come already. Always a checkpoint."""
        if self._disconnected is None:
            self._disconnected = trio.Event()
            if self._gone:
                self._disconnected.set()
        await self._disconnected.wait()

    @property
    def due(self) -> float:
        """When a cancel that is held back has to be delivered; `math.inf` without one."""
        return self._held_until if self._withheld is not None or self._drain_withheld else math.inf

    def hold(self, until: float) -> None:
        """Hold disconnect and drain back, until then at most. Holds may overlap in any way, as they do in
        tasks side by side; the latest bound counts."""
        self._holds.append(until)
        self._held_until = max(self._holds)

    def release(self, until: float, now: float) -> None:
        """The hold of that bound is over: deliver what it held back, unless another one goes on."""
        self._holds.remove(until)
        self._held_until = max(self._holds, default=-math.inf)
        self.deliver_if_due(now)

    def deliver_if_due(self, now: float) -> None:
        """Deliver what was held back, when its time has come."""
        if now < self._held_until:
            return
        if self._drain_withheld:
            self._cancel_drains()
        if self._withheld is not None:
            reason, self._withheld = self._withheld, None
            self.cancel(reason)

    # -- the drain

    def add_drain(self, scope: trio.CancelScope) -> None:
        """Have ``scope``, which has been entered, cancelled by `drain`."""
        self._drains.append(scope)

    def remove_drain(self, scope: trio.CancelScope) -> None:
        """Forget ``scope``."""
        self._drains.remove(scope)

    def drain(self, now: float) -> None:
        """The server drains: cancel the scopes that wait for it, unless that is held back."""
        if now >= self._held_until:
            self._cancel_drains()
        else:
            self._drain_withheld = True

    def _cancel_drains(self) -> None:
        self._drain_withheld = False
        for scope in self._drains:
            scope.cancel(reason=CancelReason.DRAIN.value)
