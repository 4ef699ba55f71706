"""A connection to one client, with the clock on it: what the rest of the server waits through.

The client's time is a plain number for each direction, set before each wait for the client and lifted when it
is over, so a handler that takes its time is never blamed on the client. The server's ticker watches the
earliest; when it passes, the connection's scope is cancelled, and `HandlerScope.reason` says why.

Most exchanges wait for the client once, for the head. Then the numbers are all that time limits cost. A body
that is not here, or a client that does not read, is waited for at a `Pace`.
"""

from __future__ import annotations

import math

import trio

from trio_http._errors import ClientDisconnected
from trio_http.connection import HTTPConnection
from trio_http.transport import Transport
from trio_http.wire import NEED_DATA, SERVER, RequestHead, ResponseHead, Sentinel

from ._handler_scope import HandlerScope
from ._pace import Pace
from ._reasons import CancelReason
from ._shared import Shared


class TimedConnection(HTTPConnection):
    """One client's connection, and the limits on its time.

    Args:
      transport: the byte stream; ours from now on.
      shared: of the server.

    Attributes:
      shared: as given.
      handlers: the scope in which the client is served.
      opened: when the connection began, on trio's clock.
      times, rates: the limits of the exchange under way.
      awaiting: what the client is too slow with when `receive_deadline` passes.
      receive_deadline, send_deadline: until when the client has time to send, and when it is next seen how it
        reads; `math.inf` while
        it is not waited for.
      receive_pace, send_pace: how the client keeps up in the exchange under way; None when it was not waited
        for.
      scheduled: as `trio_http.connection.Timed`.
    """

    __slots__ = (
        "_unsent_before",
        "_used",
        "awaiting",
        "handlers",
        "opened",
        "rates",
        "receive_deadline",
        "receive_pace",
        "scheduled",
        "send_deadline",
        "send_pace",
        "shared",
        "times",
    )

    def __init__(self, transport: Transport, shared: Shared) -> None:
        config = shared.config
        super().__init__(transport, SERVER, config.limits, config.lenient)
        self.shared = shared
        self.handlers = HandlerScope()
        self.opened = trio.current_time()
        self.times = config.times
        self.rates = config.rates
        self.awaiting = CancelReason.HEAD_TOO_SLOW
        self.receive_deadline = self.send_deadline = self.scheduled = math.inf
        self.receive_pace: Pace | None = None
        self.send_pace: Pace | None = None
        self._unsent_before = 0
        self._used = False  # something of the exchange under way has to be reset before the next

    # -- the clock
    # ---------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When the ticker has to look at this connection."""
        return min(self.receive_deadline, self.send_deadline, self.handlers.due)

    def expect_by(self, deadline: float, awaiting: CancelReason) -> None:
        """Give the client until then to send what is awaited."""
        self.receive_deadline = deadline
        self.awaiting = awaiting
        if deadline < self.scheduled:
            self.shared.ticker.watch(self)

    def lift_limits(self) -> None:
        """The client is not waited for."""
        self.receive_deadline = self.send_deadline = math.inf

    def on_deadline(self) -> None:
        """The ticker's call: a deadline has passed."""
        now = trio.current_time()
        if self.receive_deadline <= now:
            self.lift_limits()
            self.handlers.cancel(self.awaiting)
        elif self.send_deadline <= now:
            self._judge_reading(now)
        if self.handlers.due <= now:
            self.handlers.deliver_if_due(now)
        if self.deadline != math.inf:
            self.shared.ticker.watch(self)

    def adjust_paces(self) -> None:
        """Have the client keep to `times` and `rates` as they are now, also where it is being waited for."""
        now = trio.current_time()
        pace = self.receive_pace
        if pace is not None:
            waiting = pace.waiting
            if waiting:
                pace.stop(now, 0)
            pace.adjust(self.times.body_stall, self.rates.body)
            if waiting:
                self.expect_by(pace.start(now), CancelReason.BODY_TOO_SLOW)
        pace = self.send_pace
        if pace is not None:
            waiting = pace.waiting
            if waiting:
                self._count_reading(now)
            pace.adjust(self.times.write_stall, self.rates.response)
            if waiting:
                self._expect_reading_by(pace.start(now))

    # -- receiving
    # ---------------------------------------------------------------------------------------------------

    async def receive(self) -> None:
        """Wait for more of the request's body, at its pace; as `HTTPConnection.receive`."""
        pace = self.receive_pace
        if pace is None:
            pace = self.receive_pace = Pace(self.times.body_stall, self.rates.body)
        self.expect_by(pace.start(trio.current_time()), CancelReason.BODY_TOO_SLOW)
        count = 0
        try:
            data = await self.transport.receive()
            count = len(data)
        finally:
            self.receive_deadline = math.inf
            pace.stop(trio.current_time(), count)
        self.wire.receive_data(data)

    async def rest_of_head(self, end: float) -> RequestHead | ResponseHead | type[Sentinel]:
        """Wait for the rest of a head that has begun, at its pace, and return it.

        Args:
          end: when its whole time is up.

        Raises: as `HTTPConnection.next_head`.
        """
        pace = Pace(self.times.head_stall, self.rates.head)
        while True:
            self.expect_by(min(end, pace.start(trio.current_time())), CancelReason.HEAD_TOO_SLOW)
            data = await self.transport.receive()
            pace.stop(trio.current_time(), len(data))
            self.wire.receive_data(data)
            head = self.wire.next_head()
            if head is not NEED_DATA:
                self.receive_deadline = math.inf
                return head

    # -- sending
    # ---------------------------------------------------------------------------------------------------

    def begin_send(self, data: bytes) -> bool:
        """Send bytes of the wire's as far as that goes without waiting.

        Returns:
          True when the kernel took all; else `finish_send` must follow.

        Raises:
          ClientDisconnected: the client went away.
          trio.ClosedResourceError: we have closed the connection.
        """
        try:
            return self.transport.begin_send(data)
        except trio.BrokenResourceError as exc:
            self.wire.send_failed()
            raise ClientDisconnected("the client went away within the response") from exc
        except BaseException:
            self.wire.send_failed()
            raise

    async def finish_send(self) -> None:
        """Send the rest of what `begin_send` was given, at the client's pace.

        Raises: as `begin_send`.

        Cancellation: some, all or none was sent; our state is ERROR, and the connection can only be aborted.
        """
        self._begin_reading()
        try:
            await self.transport.finish_send()
        except trio.BrokenResourceError as exc:
            self.wire.send_failed()
            raise ClientDisconnected("the client went away within the response") from exc
        except BaseException:
            self.wire.send_failed()
            raise
        finally:
            self._end_reading()

    async def push(self, data: bytes) -> None:
        """Send bytes of the wire's, all. Not a checkpoint when the kernel takes all at once.

        Raises and cancellation: as `finish_send`.
        """
        if not self.begin_send(data):
            await self.finish_send()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the client has read enough for a send to make progress, at its pace."""
        self._begin_reading()
        try:
            await self.transport.wait_send_all_might_not_block()
        except trio.BrokenResourceError as exc:
            self.wire.send_failed()
            raise ClientDisconnected("the client went away within the response") from exc
        finally:
            self._end_reading()

    def _begin_reading(self) -> None:
        """The client is waited for to read."""
        pace = self.send_pace
        if pace is None:
            self._used = True
            pace = self.send_pace = Pace(self.times.write_stall, self.rates.response)
        self._unsent_before = self.transport.unsent()
        self._expect_reading_by(pace.start(trio.current_time()))

    def _expect_reading_by(self, end: float) -> None:
        # Looked at before that too: all that was read since the last look counts as read just now, and a
        # client that stopped reading would be given almost that time again.
        self.send_deadline = deadline = min(end, trio.current_time() + self.times.write_stall / 4)
        if deadline < self.scheduled:
            self.shared.ticker.watch(self)

    def _end_reading(self) -> None:
        self.send_deadline = math.inf
        self._count_reading(trio.current_time())

    def _judge_reading(self, now: float) -> None:
        """The client's time to read is up, unless it has read meanwhile.

        The kernel wakes a sender only when a good part of its buffer, which may be megabytes, is free. A slow
        but honest client would be blamed for that; so what it has acknowledged is asked for.
        """
        if self._count_reading(now) and self.send_pace is not None:
            self._expect_reading_by(self.send_pace.start(now))
        else:
            self.send_deadline = math.inf
            self.handlers.cancel(CancelReason.WRITE_STALLED)

    def _count_reading(self, now: float) -> bool:
        pace = self.send_pace
        if pace is None:
            return False  # of an exchange that is over, left behind by a task of its handler's
        unsent = self.transport.unsent()
        moved, self._unsent_before = self._unsent_before - unsent, unsent
        return pace.stop(now, max(moved, 0))
