"""One connection of a client's, from the dial to the close, with what its owner has to know of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

import trio

from trio_http import wire
from trio_http._errors import (
    ConnectionLost,
    PoolClosed,
    RequestFacts,
    RequestFailed,
    ResponseIncomplete,
    ResponseInvalid,
)
from trio_http.connection import PacedConnection, Ticker
from trio_http.instruments import DialRecord, Fate
from trio_http.transport import RECEIVE_BYTES, Transport

from ._config import ClientConfig, ClientPace
from ._connect import DialTimes
from ._interim import InterimResponse
from ._plan import RequestPlan
from ._watch import ExchangeWatch, Watch

#: What an exchange meets because of the peer, the network or a close, and tells as a `RequestFailed`.
LINK_ERRORS: Final = (wire.RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError)

_TIMEOUT: Final = re.compile(rb"(?:^|[,;\s])timeout=\"?(\d{1,6})\"?", re.IGNORECASE)

# What a connection waits for.
_HEAD: Final = "head"
_BODY: Final = "body"
_IDLE: Final = "idle"


class Link(PacedConnection):
    """A client's side of a connection. It belongs to its owner while idle, and to one exchange while leased.

    Args:
      transport: connected; ours from now on.
      config: limits and leniencies.
      ticker: watches the server's time; None: nobody does.

    Attributes:
      config: as given.
      exchanges: how many were begun here.
      plan: the request under way, or the one before.
      head: of its final response; None before that came.
      content: of that response, when all of it came with the head.
      coding: its Content-Encoding; None without one.
      bytes_sent: of the request under way, as far as they were handed to the transport for certain.
      sending: the first byte of the request under way was handed to the transport, or may have been.
      interim: the interim responses that have come to it.
      attached: its transport waits through the pool's `EdgePoll`, or cannot.
      leased_at, first_byte_at: when this exchange got the connection, and the first byte of an answer; 0
        before.
      idle_seconds: how long it may rest after the exchange: less when the server says that it will.
      overdue: why the server's time was found to be up; empty while it is not.
      pace: how the server has to keep up in the exchange under way.
      now: tells the time on trio's clock.
      raised: what a function of the caller's raised in the midst of the exchange; None mostly.
      slot: where the pool keeps its books.
      record: what was told of the dial; None when nobody wants to know.
      dial: how long the connection took to make; None when somebody else made it.
      watch: who looks on at the exchange under way; None mostly.
      on_expiry: what to call when its idle time is up, or it has been too slow.
    """

    __slots__ = (
        "_judged",
        "attached",
        "bytes_sent",
        "coding",
        "config",
        "content",
        "dial",
        "exchanges",
        "first_byte_at",
        "head",
        "idle_seconds",
        "interim",
        "leased_at",
        "now",
        "on_expiry",
        "overdue",
        "pace",
        "plan",
        "raised",
        "record",
        "sending",
        "slot",
        "watch",
    )

    BODY: ClassVar[str] = _BODY
    # Measured: from 64 KiB to this, receiving costs the processor half as much for each byte.
    MOST_BYTES: ClassVar[int] = 512 * 1024

    def __init__(self, transport: Transport, config: ClientConfig, ticker: Ticker | None = None) -> None:
        super().__init__(transport, wire.CLIENT, config.limits, config.lenient, ticker)
        self.config = config
        self.exchanges = 0
        self.plan: RequestPlan | None = None
        self.head: wire.ResponseHead | None = None
        self.content: bytes | None = None
        self.coding: bytes | None = None
        self.idle_seconds = config.idle_seconds
        self._judged: wire.ResponseHead | None = None
        self.bytes_sent = 0
        self.sending = False
        self.interim: tuple[InterimResponse, ...] = ()
        self.leased_at = self.first_byte_at = 0.0
        self.overdue = ""
        self.raised: BaseException | None = None
        self.pace: ClientPace = config.pace
        self.attached = False
        self.slot: Any = None
        # Looked up once, for it is asked for in each exchange.
        self.now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self.dial: DialTimes | None = None
        self.record: DialRecord | None = None
        self.watch: ExchangeWatch | None = None
        self.on_expiry: Callable[[], None] = nothing

    # -- the server's time -----------------------------------------------------------------------------------

    def body_limits(self) -> tuple[float, float]:
        """See `PacedConnection.body_limits`."""
        return self.pace.stall, self.pace.receive_rate

    def reading_limits(self) -> tuple[float, float]:
        """See `PacedConnection.reading_limits`."""
        return self.pace.stall, self.pace.send_rate

    def is_too_slow(self, awaiting: Any) -> None:
        """See `PacedConnection.is_too_slow`."""
        pace = self.pace
        if awaiting == _HEAD:
            self.overdue = f"the server did not answer within {pace.head:g} s (ClientPace.head)"
        elif awaiting == _BODY:
            self.overdue = "the server was too slow with its response (" + _told(
                pace.stall, "receive_rate", pace.receive_rate
            )
        elif awaiting is None:
            self.overdue = "the server was too slow to take the request (" + _told(
                pace.stall, "send_rate", pace.send_rate
            )
        self.on_expiry()

    def rest_until(self, deadline: float) -> None:
        """Be idle until then, at most."""
        self.receive_deadline = deadline
        self.awaiting = _IDLE
        if deadline < self.scheduled and self.ticker is not None:
            self.ticker.watch(self)

    def expect_head(self, *, sent: bool = True) -> None:
        """The request was sent, or its sending failed; the server has its time to answer."""
        if sent and self.watch is not None:
            self.watch.sent_at = trio.current_time()
        # The head may have come in the same turn as the sending's end: then nothing is awaited.
        if self.pace.head != math.inf and self.head is None:
            self.expect_by(trio.current_time() + self.pace.head, _HEAD)

    @property
    def first_dial(self) -> DialTimes | None:
        """How long the connection took to make, when the exchange under way is its first."""
        return self.dial if self.exchanges == 1 else None

    # -- the exchange under way ------------------------------------------------------------------------------

    def send_now(self, plan: RequestPlan, request: wire.PreparedRequest) -> bool:
        """Begin an exchange, and send its request as far as that goes without waiting.

        Returns, raises: as `begin_send`.
        """
        self.begin_exchange(plan)
        data = self.wire.send_prepared(request)
        try:
            taken = self.transport.begin_send(data)
        except BaseException:
            self.wire.send_failed()
            raise
        self.sending = True
        if taken:
            self.bytes_sent = len(data)
        return taken

    def begin_exchange(self, plan: RequestPlan) -> None:
        """Note that a request is about to be sent."""
        self.exchanges += 1
        self.plan = plan
        self.pace = plan.settings.pace
        self.head = self.content = None
        self.bytes_sent = 0
        self.sending = False
        self.first_byte_at = 0.0
        if self.interim:
            self.interim = ()
        if self._used:
            self._used = False
            self.transport.receive_bytes = RECEIVE_BYTES
            self.receive_pace = self.send_pace = None

    def take_head(self, head: wire.ResponseHead, content: bytes | None) -> None:
        """Note the head of the final response, and what it says about content and connection."""
        self.receive_deadline = math.inf
        self.head = head
        self.content = content
        self.framing = head.framing
        if head is self._judged:
            return  # a server that repeats itself says the same again
        self._judged = head
        fields = head.headers.by_name
        self.coding = fields.get(b"content-encoding")
        said = fields.get(b"keep-alive")
        idle = self.config.idle_seconds
        self.idle_seconds = idle if said is None else min(idle, _kept_for(said))

    def begin_send(self, data: bytes) -> bool:
        """Hand over bytes of the request as far as that goes without waiting.

        Returns:
          True when the kernel took all; else `finish_send` must follow, and `bytes_sent` be raised.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: as `Transport.begin_send`.
        """
        try:
            taken = self.transport.begin_send(data)
        except BaseException:
            self.wire.send_failed()
            raise
        self.sending = True
        if taken:
            self.bytes_sent += len(data)
        return taken

    async def push(self, data: bytes) -> None:
        """Send bytes of the request, all. Not a checkpoint when the kernel takes all at once.

        Raises and cancellation: as `begin_send` and `finish_send`.
        """
        if not self.begin_send(data):
            await self.finish_send()
            self.bytes_sent += len(data)

    def data_nowait(self) -> bytes | None:
        """Return the next piece of the body that is here, ``b""`` at its end; None when more has to be
        received first.

        Raises:
          RemoteProtocolError: as `next_data`.
        """
        return self._data_here()

    def begin_next_cycle(self) -> bool:
        """Make ready for the next exchange, and tell whether there can be one (RFC 9112 §9.3)."""
        connection = self.wire
        if not connection.is_reusable or self.framing == wire.CLOSE_DELIMITED or self.transport.closed:
            return False
        connection.start_next_cycle()
        return True

    def failure(self, cause: Exception, *, closed: bool) -> RequestFailed:
        """Return the error that tells a caller how the exchange under way failed.

        Args:
          cause: what an operation on this connection raised.
          closed: the owner was closed meanwhile.
        """
        received, ended = self.wire.trailing_data
        started = self.head is not None or bool(self.interim) or bool(received)
        if closed:
            kind: type[RequestFailed] = PoolClosed
            what = "the client was closed during the request"
        elif self.overdue:
            kind, what = ResponseIncomplete if started else ConnectionLost, self.overdue
        elif isinstance(cause, wire.RemoteProtocolError) and not ended:
            kind, what = ResponseInvalid, str(cause)
        elif isinstance(cause, wire.RemoteProtocolError) and started:
            kind, what = ResponseIncomplete, str(cause)
        elif isinstance(cause, wire.RemoteProtocolError):
            kind, what = ConnectionLost, "the server closed the connection without an answer"
        else:
            kind, what = ResponseIncomplete if started else ConnectionLost, str(cause) or type(cause).__name__
        return kind(what, self.facts(response_started=started, closed_because=what))

    def tell_end(self, fate: Fate, because: str, error: BaseException | None = None) -> None:
        """Tell who looks on, if anybody does, that the exchange is over."""
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.ended(self, fate, because, error)

    def facts(self, *, response_started: bool, closed_because: str) -> RequestFacts:
        """Return what is known of the exchange under way."""
        plan = self.plan
        assert plan is not None
        return RequestFacts(
            method=plan.method.decode("ascii"),
            url=plan.url,
            bytes_sent=self.bytes_sent,
            may_have_acted=self.sending,
            response_started=response_started,
            reused=self.exchanges > 1,
            timed_out=bool(self.overdue),
            closed_because=closed_because,
        )


class Owner(Protocol):
    """Who lends links to exchanges: a pool, or a single connection.

    Attributes:
      closed: no link is lent any more, and those that were have been closed.
      leads_anywhere: it has links to any origin, and not to one server alone.
      watch: who looks on.
      now: tells the time on trio's clock.
    """

    closed: bool
    leads_anywhere: bool
    now: Callable[[], float]
    watch: Watch

    def take(self, plan: RequestPlan) -> Link | None:
        """Return a link for the request, if one is idle; as `lease`, and without waiting."""

    async def lease(self, plan: RequestPlan) -> Link:
        """Return a link for the request; it belongs to the caller until `give_back` or `discard`."""

    def give_back(self, link: Link, now: float | None = None) -> None:
        """Take back a link that is fit for another exchange. No checkpoint.

        Args:
          now: the time on trio's clock, if it is known.
        """

    async def discard(self, link: Link, because: str, error: BaseException | None = None) -> None:
        """Take back a link that is not, and close it. Not a checkpoint on sockets; never waits for the peer.

        Args:
          because: why, in a few words, of which those before a colon are one of few.
          error: what ended the exchange, if anything did.

        Cancellation: not affected.
        """

    def may_lease_again(self, plan: RequestPlan) -> bool:
        """Prepare for another `lease` after a reused link was found dead, and tell whether it can bring a
        better one.
        """


def _kept_for(value: bytes) -> float:
    """Return how long a Keep-Alive field says that the connection is kept, in seconds, less some for the way.

    Reference: RFC 2068 §19.7.1.1, where the field was last described.
    """
    match = _TIMEOUT.search(value)
    if match is None:
        return math.inf
    seconds = int(match.group(1))
    return max(seconds - 1.0, seconds / 2)


def _told(stall: float, name: str, rate: float) -> str:
    """Return what a limit was, for an error's text."""
    return f"ClientPace: stall {stall:g} s, {name} {rate:g} bytes/s)"


def nothing() -> None:
    """Idle without a limit."""
