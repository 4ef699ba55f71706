"""One connection of a client's, from the dial to the close, with what its owner has to know of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Protocol

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
from trio_http.connection import HTTPConnection
from trio_http.transport import Transport

from ._config import ClientConfig
from ._request import RequestPlan

#: What an exchange meets because of the peer, the network or a close, and tells as a `RequestFailed`.
LINK_ERRORS: Final = (wire.RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError)


class Link(HTTPConnection):
    """A client's side of a connection. It belongs to its owner while idle, and to one exchange while leased.

    Args:
      transport: connected; ours from now on.
      config: limits and leniencies.

    Attributes:
      exchanges: how many were begun here.
      bytes_sent: of the request under way, as far as they were handed to the transport for certain.
      sending: the first byte of the request under way was handed to the transport, or may have been.
      interim: an interim response has come to it.
      slot: where the pool keeps its books.
      deadline, scheduled: the end of its idle time; see `trio_http.connection.Timed`.
      on_expiry: what to call then.
    """

    __slots__ = (
        "bytes_sent",
        "deadline",
        "exchanges",
        "interim",
        "on_expiry",
        "scheduled",
        "sending",
        "slot",
    )

    def __init__(self, transport: Transport, config: ClientConfig) -> None:
        super().__init__(transport, wire.CLIENT, config.limits, config.lenient)
        self.exchanges = 0
        self.bytes_sent = 0
        self.sending = False
        self.interim = False
        self.slot: Any = None
        self.deadline = math.inf
        self.scheduled = math.inf
        self.on_expiry: Callable[[], None] = _nothing

    def on_deadline(self) -> None:
        """See `trio_http.connection.Timed`."""
        self.on_expiry()

    def begin_exchange(self) -> None:
        """Note that a request is about to be sent."""
        self.exchanges += 1
        self.bytes_sent = 0
        self.sending = self.interim = False

    def data_nowait(self) -> bytes | None:
        """Return the next piece of the body that is here, ``b""`` at its end; None when more has to be
        received first.

        Raises:
          RemoteProtocolError: as `next_data`.
        """
        return self._data_here()

    def begin_next_cycle(self) -> bool:
        """Make ready for the next exchange, and tell whether there can be one (RFC 9112 §9.3)."""
        try:
            self.wire.start_next_cycle()
        except wire.LocalProtocolError:
            return False
        return self.framing != wire.CLOSE_DELIMITED and not self.transport.closed

    def failure(self, plan: RequestPlan, cause: Exception, *, closed: bool, head_came: bool) -> RequestFailed:
        """Return the error that tells a caller how an exchange failed.

        Args:
          plan: the request.
          cause: what an operation on this connection raised.
          closed: the owner was closed meanwhile.
          head_came: the head of the final response had come.
        """
        received, ended = self.wire.trailing_data
        started = head_came or self.interim or bool(received)
        if closed:
            kind: type[RequestFailed] = PoolClosed
            what = "the client was closed during the request"
        elif isinstance(cause, wire.RemoteProtocolError) and not ended:
            kind, what = ResponseInvalid, str(cause)
        elif isinstance(cause, wire.RemoteProtocolError) and started:
            kind, what = ResponseIncomplete, str(cause)
        elif isinstance(cause, wire.RemoteProtocolError):
            kind, what = ConnectionLost, "the server closed the connection without an answer"
        else:
            kind, what = ResponseIncomplete if started else ConnectionLost, str(cause) or type(cause).__name__
        return kind(what, self.facts(plan, response_started=started, closed_because=what))

    def facts(self, plan: RequestPlan, *, response_started: bool, closed_because: str) -> RequestFacts:
        """Return what is known of the exchange under way."""
        return RequestFacts(
            method=plan.method.decode("ascii"),
            url=plan.url,
            bytes_sent=self.bytes_sent,
            may_have_acted=self.sending,
            response_started=response_started,
            reused=self.exchanges > 1,
            closed_because=closed_because,
        )


class Owner(Protocol):
    """Who lends links to exchanges: a pool, or a single connection.

    Attributes:
      closed: no link is lent any more, and those that were have been closed.
    """

    closed: bool

    async def lease(self, plan: RequestPlan) -> Link:
        """Return a link for the request; it belongs to the caller until `give_back` or `discard`."""

    def give_back(self, link: Link) -> None:
        """Take back a link that is fit for another exchange. No checkpoint."""

    async def discard(self, link: Link) -> None:
        """Take back a link that is not, and close it. Not a checkpoint on sockets; never waits for the
        peer.
        """

    def may_lease_again(self, plan: RequestPlan) -> bool:
        """Prepare for another `lease` after a reused link was found dead, and tell whether it can bring a
        better one.
        """


def _nothing() -> None:
    """Idle without a limit."""
