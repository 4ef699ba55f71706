"""A connection to one client, with the clock on it: what the rest of the server waits through.

Beside what `PacedConnection` limits, a head has its time; and when a time is up, the connection's scope is
cancelled, and `HandlerScope.reason` says why.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import trio

from trio_http._errors import ClientDisconnected
from trio_http.connection import Pace, PacedConnection
from trio_http.transport import Transport
from trio_http.wire import NEED_DATA, SERVER, RequestHead, ResponseHead, Sentinel

from ._handler_scope import HandlerScope
from ._reasons import CancelReason
from ._shared import Shared


class TimedConnection(PacedConnection):
    """One client's connection, and the limits on its time.

    Args:
      transport: the byte stream; ours from now on.
      shared: of the server.

    Attributes:
      shared: as given.
      handlers: the scope in which the client is served.
      opened: when the connection began, on trio's clock.
      times, rates: the limits of the exchange under way.
    """

    __slots__ = ("handlers", "opened", "rates", "shared", "times")

    BODY: ClassVar[CancelReason] = CancelReason.BODY_TOO_SLOW

    def __init__(self, transport: Transport, shared: Shared) -> None:
        config = shared.config
        super().__init__(transport, SERVER, config.limits, config.lenient, shared.ticker)
        self.shared = shared
        self.handlers = HandlerScope()
        self.opened = trio.current_time()
        self.times = config.times
        self.rates = config.rates
        self.awaiting = CancelReason.HEAD_TOO_SLOW

    # -- the clock -------------------------------------------------------------------------------------------

    def body_limits(self) -> tuple[float, float]:
        """See `PacedConnection.body_limits`."""
        return self.times.body_stall, self.rates.body

    def reading_limits(self) -> tuple[float, float]:
        """See `PacedConnection.reading_limits`."""
        return self.times.write_stall, self.rates.response

    def is_too_slow(self, awaiting: Any) -> None:
        """See `PacedConnection.is_too_slow`."""
        self.handlers.cancel(CancelReason.WRITE_STALLED if awaiting is None else awaiting)

    @property
    def deadline(self) -> float:
        """When the ticker has to look at this connection."""
        return min(self.receive_deadline, self.send_deadline, self.handlers.due)

    def judge(self, now: float) -> None:
        """See `PacedConnection.judge`."""
        super().judge(now)
        if self.handlers.due <= now:
            self.handlers.deliver_if_due(now)

    # -- receiving -------------------------------------------------------------------------------------------

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

    # -- sending ---------------------------------------------------------------------------------------------

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
        try:
            await super().finish_send()
        except trio.BrokenResourceError as exc:
            raise ClientDisconnected("the client went away within the response") from exc

    async def push(self, data: bytes) -> None:
        """Send bytes of the wire's, all. Not a checkpoint when the kernel takes all at once.

        Raises and cancellation: as `finish_send`.
        """
        if not self.begin_send(data):
            await self.finish_send()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the client has read enough for a send to make progress, at its pace."""
        try:
            await super().wait_send_all_might_not_block()
        except trio.BrokenResourceError as exc:
            raise ClientDisconnected("the client went away within the response") from exc
