"""A connection whose peer has only so much time: a stall limit and a minimum rate in each direction.

The peer's time is a plain number for each direction, set before each wait for the peer and lifted when it is
over, so that whoever takes its own time is never blamed on the peer. A ticker watches the earliest; when it
passes, the subclass is told, and ends the connection as its role asks.

Most exchanges wait for the peer once, for the head. Then the numbers are all that time limits cost. A body
that is not here, or a peer that does not read, is waited for at a `Pace`.
"""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar

import trio

from trio_http.transport import RECEIVE_BYTES, Transport
from trio_http.wire import Leniency, Limits, Sentinel

from ._connection import HTTPConnection
from ._pace import Pace
from ._ticker import Ticker


class PacedConnection(HTTPConnection, abc.ABC):
    """One side of a connection, and the limits on its peer's time.

    Args:
      transport, role, limits, lenient: as `HTTPConnection`.
      ticker: watches it. None: nobody does, and no time is limited.

    Attributes:
      MOST_BYTES: what one receive of a body that comes fast may grow to.
      BODY: what the peer is too slow with when it does not send its body.
      ticker: as given.
      awaiting: what the peer is too slow with when `receive_deadline` passes.
      receive_deadline, send_deadline: until when the peer has time to send, and when it is next seen how it
        reads; `math.inf` while it is not waited for.
      receive_pace, send_pace: how the peer keeps up in the exchange under way; None when it was not waited
        for.
      scheduled: as `Timed`.
    """

    __slots__ = (
        "_unsent_before",
        "_used",
        "awaiting",
        "receive_deadline",
        "receive_pace",
        "scheduled",
        "send_deadline",
        "send_pace",
        "ticker",
    )

    BODY: ClassVar[Any] = None
    MOST_BYTES: ClassVar[int] = RECEIVE_BYTES

    def __init__(
        self,
        transport: Transport,
        role: type[Sentinel],
        limits: Limits,
        lenient: frozenset[Leniency],
        ticker: Ticker | None,
    ) -> None:
        super().__init__(transport, role, limits, lenient)
        self.ticker = ticker
        self.awaiting: Any = None
        self.receive_deadline = self.send_deadline = self.scheduled = math.inf
        self.receive_pace: Pace | None = None
        self.send_pace: Pace | None = None
        self._used = False  # something of the exchange under way has to be reset before the next
        self._unsent_before = 0

    # -- what a role says ------------------------------------------------------------------------------------

    @abc.abstractmethod
    def body_limits(self) -> tuple[float, float]:
        """Return the stall limit, in seconds, and the minimum rate, in bytes per second, of the peer's body;
        see `Pace`."""

    @abc.abstractmethod
    def reading_limits(self) -> tuple[float, float]:
        """Return the same of the peer's reading of what we send."""

    @abc.abstractmethod
    def is_too_slow(self, awaiting: Any) -> None:
        """The peer's time is up. No checkpoint.

        Args:
          awaiting: what it is too slow with; None: with reading.
        """

    # -- the clock -------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When the ticker has to look at this connection."""
        return min(self.receive_deadline, self.send_deadline)

    def expect_by(self, deadline: float, awaiting: Any) -> None:
        """Give the peer until then to send what is awaited."""
        self.receive_deadline = deadline
        self.awaiting = awaiting
        if deadline < self.scheduled and self.ticker is not None:
            self.ticker.watch(self)

    def lift_limits(self) -> None:
        """The peer is not waited for."""
        self.receive_deadline = self.send_deadline = math.inf

    def on_deadline(self) -> None:
        """The ticker's call: a deadline has passed."""
        self.judge(trio.current_time())
        if self.deadline != math.inf and self.ticker is not None:
            self.ticker.watch(self)

    def judge(self, now: float) -> None:
        """See whose time is up."""
        if self.receive_deadline <= now:
            self.lift_limits()
            self.is_too_slow(self.awaiting)
        elif self.send_deadline <= now:
            self._judge_reading(now)

    def adjust_paces(self) -> None:
        """Have the peer keep to the limits as they are now, also where it is being waited for."""
        now = trio.current_time()
        pace = self.receive_pace
        if pace is not None:
            waiting = pace.waiting
            if waiting:
                pace.stop(now, 0)
            pace.adjust(*self.body_limits())
            if waiting:
                self.expect_by(pace.start(now), self.BODY)
        pace = self.send_pace
        if pace is not None:
            waiting = pace.waiting
            if waiting:
                self._count_reading(now)
            pace.adjust(*self.reading_limits())
            if waiting:
                self._expect_reading_by(pace.start(now))

    # -- receiving -------------------------------------------------------------------------------------------

    async def receive(self) -> None:
        """Wait for more of the peer's body, at its pace; as `HTTPConnection.receive`."""
        pace = self.receive_pace
        if pace is None:
            self._used = True
            pace = self.receive_pace = Pace(*self.body_limits())
        self.expect_by(pace.start(trio.current_time()), self.BODY)
        count = 0
        try:
            data = await self.transport.receive()
            count = len(data)
            if count == self.transport.receive_bytes < self.MOST_BYTES:
                self.transport.receive_bytes = min(2 * count, self.MOST_BYTES)
        finally:
            self.receive_deadline = math.inf
            pace.stop(trio.current_time(), count)
        self.wire.receive_data(data)

    # -- sending ---------------------------------------------------------------------------------------------

    async def finish_send(self) -> None:
        """Send the rest of what the transport's `begin_send` was given, at the peer's pace.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: as `Transport.finish_send`.

        Cancellation: some, all or none was sent; our state is ERROR, and the connection can only be aborted.
        """
        self._begin_reading()
        try:
            await self.transport.finish_send()
        except BaseException:
            self.wire.send_failed()
            raise
        finally:
            self._end_reading()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the peer has read enough for a send to make progress, at its pace."""
        self._begin_reading()
        try:
            await self.transport.wait_send_all_might_not_block()
        except trio.BrokenResourceError:
            self.wire.send_failed()
            raise
        finally:
            self._end_reading()

    def _begin_reading(self) -> None:
        """The peer is waited for to read."""
        pace = self.send_pace
        if pace is None:
            self._used = True
            pace = self.send_pace = Pace(*self.reading_limits())
        self._unsent_before = self.transport.unsent()
        self._expect_reading_by(pace.start(trio.current_time()))

    def _expect_reading_by(self, end: float) -> None:
        # Looked at before that too: all that was read since the last look counts as read just now, and a
        # peer that stopped reading would be given almost that time again.
        stall = self.reading_limits()[0]
        self.send_deadline = deadline = min(end, trio.current_time() + stall / 4)
        if deadline < self.scheduled and self.ticker is not None:
            self.ticker.watch(self)

    def _end_reading(self) -> None:
        self.send_deadline = math.inf
        self._count_reading(trio.current_time())

    def _judge_reading(self, now: float) -> None:
        """The peer's time to read is up, unless it has read meanwhile.

        The kernel wakes a sender only when a good part of its buffer, which may be megabytes, is free. A slow
        but honest peer would be blamed for that; so what it has acknowledged is asked for.
        """
        if self._count_reading(now) and self.send_pace is not None:
            self._expect_reading_by(self.send_pace.start(now))
        else:
            self.send_deadline = math.inf
            self.is_too_slow(None)

    def _count_reading(self, now: float) -> bool:
        pace = self.send_pace
        if pace is None:
            return False  # of an exchange that is over, left behind by a task of its own
        unsent = self.transport.unsent()
        moved, self._unsent_before = self._unsent_before - unsent, unsent
        return pace.stop(now, max(moved, 0))
