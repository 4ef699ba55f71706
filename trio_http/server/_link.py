"""A connection to one client, with the clock on it: what the rest of the server waits through.

The client's time is a plain number for each direction, set before each wait for the client and lifted when it
is over, so a handler that takes its time is never blamed on the client. The server's ticker watches the
earlier of the two; when it passes, the connection's scope is cancelled, and `Link.overdue` says what the
client was too slow with.
"""

from __future__ import annotations

import enum
import math
from typing import Final

import trio

from trio_http import wire
from trio_http._errors import ClientDisconnected, HTTPException
from trio_http.connection import HTTPConnection, Ticker
from trio_http.transport import Transport
from trio_http.wire import CHUNKED, SERVER

from ._config import ServerConfig

# How much a client must read within the write limit. Arbitrary: about a kilobyte a second at the default
# limit, and enough at once that a large answer costs no more system calls than the kernel's own buffers make
# of it.
_PUSH_BYTES: Final = 64 * 1024


class Overdue(enum.Enum):
    """What a client was too slow with."""

    IDLE = "idle for too long"
    HEAD = "request head too slow"
    BODY = "request body stalled"
    WRITE = "response not read"


class Link(HTTPConnection):
    """One client's connection, and its time limits.

    Args:
      transport: the byte stream; ours from now on.
      config: the limits.
      ticker: watches the deadlines.

    Attributes:
      config: as given.
      scope: the scope in which the client is served; cancelled when its time is up.
      awaiting: what the client is waited for with, while `receive_deadline` is finite.
      overdue: what it was too slow with, or None.
      receive_deadline, send_deadline: until when the client has time to send, and to read; `math.inf` while
        it is not waited for.
      scheduled: as `trio_http.connection.Timed`.
      exchange: counts the exchanges, so that what belongs to one that is over can be told.
      method: of the request under way.
      body_received, max_body_bytes: of the request under way, in bytes.
    """

    __slots__ = (
        "awaiting",
        "body_received",
        "config",
        "exchange",
        "max_body_bytes",
        "method",
        "overdue",
        "receive_deadline",
        "scheduled",
        "scope",
        "send_deadline",
        "ticker",
    )

    def __init__(self, transport: Transport, config: ServerConfig, ticker: Ticker) -> None:
        super().__init__(transport, SERVER, config.limits, config.lenient)
        self.config = config
        self.ticker = ticker
        self.scope = trio.CancelScope()
        self.receive_deadline = self.send_deadline = self.scheduled = math.inf
        self.exchange = 0
        self.awaiting = Overdue.HEAD
        self.overdue: Overdue | None = None
        self.method = b""
        self.body_received = 0
        self.max_body_bytes = config.max_body_bytes

    @property
    def deadline(self) -> float:
        """The earlier end of the client's time."""
        return min(self.receive_deadline, self.send_deadline)

    def allow(self, seconds: float, awaiting: Overdue) -> None:
        """Give the client ``seconds`` from now to send what is awaited."""
        deadline = self.receive_deadline = trio.current_time() + seconds
        self.awaiting = awaiting
        if deadline < self.scheduled:
            self.ticker.watch(self)

    def allow_reading(self) -> None:
        """Give the client its time from now to read on."""
        deadline = self.send_deadline = trio.current_time() + self.config.times.write_stall
        if deadline < self.scheduled:
            self.ticker.watch(self)

    def lift_limits(self) -> None:
        """The client is not waited for."""
        self.receive_deadline = self.send_deadline = math.inf

    def on_deadline(self) -> None:
        """The client's time is up; called by the ticker."""
        self.overdue = Overdue.WRITE if self.send_deadline < self.receive_deadline else self.awaiting
        self.lift_limits()
        self.scope.cancel(reason=self.overdue.value)

    def begin_exchange(self, head: wire.RequestHead) -> None:
        """Forget the exchange before this one: its body's length and the limit that its handler set are not
        this one's."""
        self.overdue = None
        self.framing = head.framing
        self.method = head.method
        self.body_received = 0
        self.max_body_bytes = self.config.max_body_bytes

    def check_current(self, exchange: int) -> None:
        """Refuse what belongs to an exchange that is over.

        Raises:
          trio.ClosedResourceError: another has begun, and its bytes are not for the request of this one.
        """
        if exchange != self.exchange:
            raise trio.ClosedResourceError("the exchange of this request is over")

    # -- the request's body
    # ------------------------------------------------------------------------------------------

    async def next_body(self) -> bytes:
        """Return the next piece of the request's body; ``b""`` at its end. Always a checkpoint.

        Raises:
          HTTPException: 413, the body exceeds its limit.
          trio_http.wire.RemoteProtocolError: the client broke the framing.
          ClientDisconnected: the client went away.
        """
        self.refuse_large_body()
        if self.wire.they_are_waiting_for_100_continue and not self.wire.has_unread:
            await self.push(self.wire.send_response(100, ()))
        self.allow(self.config.times.body_stall, Overdue.BODY)
        try:
            piece = await self.next_data()
        except trio.BrokenResourceError as exc:
            raise ClientDisconnected("the client went away within its request") from exc
        finally:
            self.receive_deadline = math.inf
        self.body_received += len(piece)
        if self.body_received > self.max_body_bytes:
            raise self._too_large()
        return piece

    def refuse_large_body(self) -> None:
        """Raise 413 when the request's Content-Length says already that its body exceeds the limit."""
        if self.framing != CHUNKED and self.framing > self.max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the request's content may have at most {self.max_body_bytes} bytes\n")

    @property
    def body_is_complete(self) -> bool:
        """The request is here to its end."""
        return self.wire.their_state is not wire.SEND_BODY

    def is_worth_draining(self) -> bool:
        """Tell whether the unread rest of the request, as far as its head tells, is worth reading to keep the
        connection.

        Nothing is taken from it: the handler may read on.
        """
        if self.wire.they_are_waiting_for_100_continue:
            return (
                False  # a client that was told no will not send it, or will: nobody can say what comes next
            )
        return self.framing != CHUNKED and self.framing - self.body_received <= self.config.drain_bytes

    def can_drain_body(self) -> bool:
        """Tell whether the unread rest of the request, which nobody will read, is worth reading to keep the
        connection.

        What is here already is thrown away at once, up to the bound.
        """
        # A chunked body does not tell how long it is: whether it is here to its end is found out below.
        if self.wire.they_are_waiting_for_100_continue or (
            self.framing != CHUNKED and not self.is_worth_draining()
        ):
            return False
        bound = self.config.drain_bytes
        discarded = 0
        while discarded <= bound:
            try:
                piece = self.wire.next_data()
            except wire.RemoteProtocolError:
                return (
                    False  # the answer is ready and owed; what the client has broken only ends the connection
                )
            if not isinstance(piece, bytes):
                return self.framing != CHUNKED
            if not piece:
                return True
            discarded += len(piece)
            self.body_received += len(piece)
        return False

    async def drain_body(self) -> None:
        """Read the rest of the request and throw it away. Bounded by `can_drain_body` and the body's stall
        limit.

        Raises:
          trio_http.wire.RemoteProtocolError: the client broke the framing.
          ClientDisconnected: the client went away.
        """
        self.allow(self.config.times.body_stall, Overdue.BODY)
        try:
            while not self.body_is_complete:
                await self.next_data()
        except trio.BrokenResourceError as exc:
            raise ClientDisconnected("the client went away within the rest of its request") from exc
        self.receive_deadline = math.inf

    # -- sending
    # -----------------------------------------------------------------------------------------------------

    async def push(self, data: bytes) -> None:
        """Send bytes of the wire's, under the write limit. Not a checkpoint when the kernel takes all at
        once.

        The limit counts from the last piece that was taken, so a client that reads slowly has as long as it
        needs.

        Raises:
          ClientDisconnected: the client went away.

        Cancellation: as `HTTPConnection.send`.
        """
        self.allow_reading()
        try:
            if len(data) <= _PUSH_BYTES:
                await self.send(data)
            else:
                view = memoryview(data)
                for start in range(0, len(data), _PUSH_BYTES):
                    self.allow_reading()
                    await self.send(view[start : start + _PUSH_BYTES])
        except trio.BrokenResourceError as exc:
            raise ClientDisconnected("the client went away within the response") from exc
        finally:
            self.send_deadline = math.inf
