"""One client's connection in the server: its exchanges, the bodies of its requests, its end.

`TimedConnection` beneath knows how long the client may take. This knows what the client sends, when it has
gone, and what the exchange under way has become.
"""

from __future__ import annotations

import math
import random

import trio

from trio_http import wire
from trio_http._errors import ClientDisconnected, HTTPException
from trio_http.messages import ForwardedFacts, peer_facts
from trio_http.transport import RECEIVE_BYTES, Address, ProxyHeader, Transport, peer_address
from trio_http.wire import CHUNKED

from ._config import ServerRates, ServerTimes
from ._read_ahead import DELAY, ReadAhead
from ._reasons import CancelReason
from ._shared import Shared
from ._snapshot import ConnectionSnapshot
from ._timed_connection import TimedConnection


class Link(TimedConnection):
    """One client's connection.

    Args:
      transport: the byte stream; ours from now on.
      shared: of the server.

    Attributes:
      number: of the connection in its server, from 1.
      exchange: how many exchanges are complete; also tells what belongs to one that is over.
      handling: a request is under way.
      last: the exchange under way is the connection's last.
      method, target: of the request under way, or the one before.
      status: of its final response; 0 before.
      content_sent: bytes of content given to the transport in the exchange under way.
      body_received, max_body_bytes: of the request under way, in bytes.
      began: when its head was complete, on trio's clock.
      client_deadline: until when the client says that it wants the answer; `math.inf` without a word.
      ending: the connection is being closed.
      hangup: the client has ended its sending (1), or the whole connection (2).
      upgraded: the connection has become a stream of the handler's.
      trusts_proxy, trusts_deadline: the client's forwarding fields, or its deadline, are believed.
      proxy: the PROXY header that the connection began with; None without one.
      read_ahead: notices a hang-up where the transport does not tell by itself; None mostly.
    """

    __slots__ = (
        "_last_exchange",
        "_peer_facts",
        "_probe_at",
        "_read_ahead_at",
        "began",
        "body_received",
        "client_deadline",
        "content_sent",
        "ending",
        "exchange",
        "handling",
        "hangup",
        "last",
        "max_body_bytes",
        "method",
        "number",
        "proxy",
        "read_ahead",
        "status",
        "target",
        "trusts_deadline",
        "trusts_proxy",
        "upgraded",
    )

    def __init__(self, transport: Transport, shared: Shared, proxy: ProxyHeader | None = None) -> None:
        super().__init__(transport, shared)
        config = shared.config
        shared.opened += 1
        self.number = shared.opened
        self.proxy = proxy
        # Asked once: a look into networks costs as much as a small request does here.
        self.trusts_proxy = bool(config.trusted_proxies) and self.peer in config.trusted_proxies
        self.trusts_deadline = bool(config.deadlines_from) and self.peer in config.deadlines_from
        self._peer_facts: ForwardedFacts | None = None
        self.exchange = 0
        self.handling = False
        self.last = shared.draining
        self._last_exchange = config.max_requests - 1
        if config.max_requests_jitter and config.max_requests != math.inf:
            # Not for secrecy: it spreads the ends of connections that began together.
            fewer = random.randint(0, config.max_requests_jitter)  # noqa: S311
            self._last_exchange = max(0, self._last_exchange - fewer)
        self.method = self.target = b""
        self.status = 0
        self.content_sent = 0
        self.body_received = 0
        self.max_body_bytes = config.max_body_bytes
        self.began = 0.0
        self.client_deadline = math.inf
        self.ending = False
        self.hangup = 0
        self.upgraded = False
        self.read_ahead: ReadAhead | None = None
        # Whether the transport tells of hang-ups by itself, or somebody has to read.
        self._probe_at = math.inf
        poll = shared.poll
        self._read_ahead_at = (
            math.inf if poll is not None and transport.attach(poll, self.on_hangup) else DELAY
        )

    # -- the exchange under way
    # ---------------------------------------------------------------------------------------------------

    def begin_exchange(self, head: wire.RequestHead, now: float) -> None:
        """A head has come: forget the exchange before this one."""
        self.framing = head.framing
        self.method = head.method
        self.target = head.target
        self.began = now
        self.handling = True
        self.status = self.content_sent = 0
        if self._used:
            self._reset()
        if self.exchange >= self._last_exchange:
            self.last = True
        if self._read_ahead_at != math.inf:
            self._probe_at = math.inf
            if self.request_is_here:
                self._watch_by_reading(now)

    def _reset(self) -> None:
        """Lift what the handler before set, and forget what its client's body was like."""
        config = self.shared.config
        self._used = False
        self.body_received = 0
        self.max_body_bytes = config.max_body_bytes
        self.times = config.times
        self.rates = config.rates
        self.client_deadline = math.inf
        self.receive_pace = self.send_pace = None
        self.send_deadline = math.inf

    def limit_handler(self, client_deadline: float) -> None:
        """Give the handler under way as long as the server allows, and its client, who may be more
        impatient."""
        self._used = True
        self.client_deadline = client_deadline
        end = self.began + self.times.request
        if 1 <= self.times.request < math.inf:
            # Rounded up to its next 32nd. Moving a scope's deadline costs as much as a fifth of a small
            # exchange, and so a busy connection moves it only now and then.
            grain = self.times.request / 32
            end = math.ceil(end / grain) * grain
        self.handlers.limit(min(client_deadline, end))

    def set_limits(self, times: ServerTimes, rates: ServerRates) -> None:
        """Have other limits for the exchange under way, and for a wait that goes on."""
        self._used = True
        request_seconds, self.times, self.rates = self.times.request, times, rates
        if times.request != request_seconds:
            self.limit_handler(self.client_deadline)
        self.adjust_paces()

    def upgrade(self) -> None:
        """The connection is no HTTP connection any more: no limit on the client holds, and what its end means
        is for the handler to say."""
        self.upgraded = True
        self.last = True
        self.handlers.limit(math.inf)  # the answer, which it is about, is given
        self.transport.set_hangup(None)

    @property
    def peer(self) -> Address:
        """The client's address for a comparison with `Networks`; ``""`` for a client on a Unix socket."""
        return peer_address(self.transport.peername, self.transport.sockname)

    @property
    def peer_facts(self) -> ForwardedFacts:
        """What is known of the client without its fields."""
        facts = self._peer_facts
        if facts is None:
            facts = self._peer_facts = peer_facts(self.peer)
        return facts

    @property
    def deadline_is_the_clients(self) -> bool:
        """The handler's time is up earlier for its client than by our own limit."""
        return self.client_deadline < self.began + self.times.request

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why the handler under way was cancelled; None when it was not."""
        handlers = self.handlers
        if handlers.reason is None and handlers.scope.cancel_called:
            return CancelReason.DEADLINE  # the scope's own, which nobody has to set off
        return handlers.reason

    def touch(self) -> None:
        """Something about this exchange is not as usual, and has to be reset before the next."""
        self._used = True

    def check_current(self, exchange: int) -> None:
        """Refuse what belongs to an exchange that is over, in HTTP at least.

        Raises:
          trio.ClosedResourceError: another has begun, and its bytes are not for the request of this one; or
            the connection is not HTTP any more.
        """
        self.check_handling(exchange)
        if self.upgraded:
            raise trio.ClosedResourceError("this connection was given to another protocol")

    def check_unanswered(self, exchange: int) -> None:
        """Refuse to answer what was answered, or is over.

        Raises:
          RuntimeError: this request was answered already.
          trio.ClosedResourceError: as `check_current`.
        """
        self.check_current(exchange)
        if self.wire.our_state is not wire.SEND_RESPONSE:
            raise RuntimeError("this request was answered already")

    def check_handling(self, exchange: int) -> None:
        """Refuse what belongs to a handler that has returned.

        Raises:
          trio.ClosedResourceError: the exchange is over.
        """
        if exchange != self.exchange:
            raise trio.ClosedResourceError("the exchange of this request is over")

    # -- the client's end
    # ---------------------------------------------------------------------------------------------------

    def on_hangup(self, reset: bool) -> None:
        """The client has ended its sending, or with ``reset`` the connection."""
        self.hangup = max(self.hangup, 2 if reset else 1)
        if self.handling:
            self.notice_hangup()

    def notice_hangup(self) -> None:
        """Act on the client's end, which lies behind the request under way.

        While the request is incomplete, its end is for who reads it to meet: it may be all here already.
        """
        if self.hangup == 1 and (
            not self.request_is_here
            or (self.shared.config.half_close == "answer" and self.transport.tls is None)
        ):
            return
        self.handlers.disconnect(trio.current_time())
        if self.handlers.due < self.scheduled:
            self.shared.ticker.watch(self)

    @property
    def request_is_here(self) -> bool:
        """The request under way has been received to its end, be it read or not."""
        if self.body_is_complete:
            return True
        return self.framing != CHUNKED and self.wire.unread_bytes >= self.framing - self.body_received

    def _watch_by_reading(self, now: float) -> None:
        self._probe_at = now + self._read_ahead_at
        if self._probe_at < self.scheduled:
            self.shared.ticker.watch(self)

    @property
    def deadline(self) -> float:
        """When the ticker has to look at this connection."""
        return min(self.receive_deadline, self.send_deadline, self.handlers.due, self._probe_at)

    def on_deadline(self) -> None:
        """The ticker's call: a deadline has passed."""
        if self._probe_at <= trio.current_time():
            self._probe_at = math.inf
            if self.handling and not self.upgraded and self.read_ahead is None and self._may_read_ahead():
                self.read_ahead = ReadAhead(self.transport, self.wire.receive_data, self.on_hangup)
                self.shared.nursery.start_soon(self.read_ahead.run)
        super().on_deadline()

    def _may_read_ahead(self) -> bool:
        """Tell whether the request is here, so that its handler will not wait for more, and little behind
        it."""
        rest = 0 if self.body_is_complete else self.framing - self.body_received
        return self.request_is_here and self.wire.unread_bytes - rest < RECEIVE_BYTES

    async def stop_read_ahead(self) -> None:
        """See to it that nobody else reads from the transport.

        Cancellation: the other was told to stop, but may not have done so yet.
        """
        self._probe_at = math.inf
        if self.read_ahead is not None:
            await self.read_ahead.stop()
            self.read_ahead = None

    # -- the request's body
    # ---------------------------------------------------------------------------------------------------

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
        self._used = True
        piece = await self._next_data("the client went away within its request")
        self.body_received += len(piece)
        if self.body_received > self.max_body_bytes:
            raise self._too_large()
        if self.handling and (self.hangup or self._read_ahead_at != math.inf) and self.request_is_here:
            if self.hangup:
                self.notice_hangup()
            else:
                self._watch_by_reading(trio.current_time())
        return piece

    async def _next_data(self, problem: str) -> bytes:
        try:
            return await self.next_data()
        except trio.BrokenResourceError as exc:
            self.hangup = 2
            raise ClientDisconnected(problem) from exc

    def refuse_large_body(self) -> None:
        """Raise 413 when the request's Content-Length says already that its body exceeds the limit."""
        if self.framing != CHUNKED and self.framing > self.max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the request's content may have at most {self.max_body_bytes} bytes\n")

    @property
    def body_is_complete(self) -> bool:
        """The request has been read to its end."""
        return self.wire.their_state is not wire.SEND_BODY

    def is_worth_draining(self) -> bool:
        """Tell whether the unread rest of the request, as far as its head tells, is worth reading to keep the
        connection.

        Nothing is taken from it: the handler may read on.
        """
        if self.wire.they_are_waiting_for_100_continue:
            # A client that was told no will not send it, or will: nobody can say what comes next.
            return False
        return self.framing != CHUNKED and self.framing - self.body_received <= self.shared.config.drain_bytes

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
        bound = self.shared.config.drain_bytes
        discarded = 0
        self._used = True
        while discarded <= bound:
            try:
                piece = self.wire.next_data()
            except wire.RemoteProtocolError:
                # The answer is ready and owed; what the client has broken only ends the connection.
                return False
            if not isinstance(piece, bytes):
                return self.framing != CHUNKED
            if not piece:
                return True
            discarded += len(piece)
            self.body_received += len(piece)
        return False

    async def drain_body(self) -> None:
        """Read the rest of the request and throw it away. Bounded by `can_drain_body` and the body's limits.

        Raises:
          trio_http.wire.RemoteProtocolError: the client broke the framing.
          ClientDisconnected: the client went away.
        """
        self._used = True
        while not self.body_is_complete:
            await self._next_data("the client went away within the rest of its request")

    # -- the server's end
    # ---------------------------------------------------------------------------------------------------

    def begin_drain(self) -> None:
        """See `Served.begin_drain`."""
        self.last = True
        if self.handling:
            self.handlers.drain(trio.current_time())
            if self.handlers.due < self.scheduled:
                self.shared.ticker.watch(self)
        elif self.wire.our_state is wire.IDLE and not self.wire.has_unread:
            self.handlers.cancel(CancelReason.DRAIN)

    def stop(self) -> None:
        """See `Served.stop`."""
        self.handlers.cancel(CancelReason.DRAIN)
        self.transport.abort()

    async def finish_stop(self) -> None:
        """See `Served.finish_stop`."""
        await self.transport.aclose_forcefully()

    @property
    def is_handling(self) -> bool:
        """See `Served.is_handling`."""
        return self.handling

    def snapshot(self, now: float) -> ConnectionSnapshot:
        """See `Served.snapshot`."""
        limits = {
            "receive": self.receive_deadline,
            "send": math.inf if self.send_pace is None else self.send_pace.end,
            "handler": self.handlers.scope.deadline,
            "finish": self.handlers.due,
        }
        handling, reason = self.handling, self.cancel_reason
        return ConnectionSnapshot(
            id=self.number,
            peername=self.transport.peername,
            transport=self.transport.kind,
            state=self._state(),
            age=now - self.opened,
            requests=self.exchange,
            method=self.method.decode("latin-1") if handling else None,
            target=self.target.decode("latin-1") if handling else None,
            handling_for=now - self.began if handling else None,
            cancel_reason=None if reason is None else reason.value,
            deadlines={name: end - now for name, end in limits.items() if end != math.inf},
            receive_rate=None if self.receive_pace is None else self.receive_pace.speed,
            send_rate=None if self.send_pace is None else self.send_pace.speed,
            unsent=self.transport.unsent(),
        )

    def _state(self) -> str:
        if self.upgraded:
            return "upgraded"
        if self.send_pace is not None and self.send_pace.waiting:
            return "sending"
        if self.handling:
            return "receiving" if self.receive_pace is not None and self.receive_pace.waiting else "handling"
        if self.ending:
            return "ending"
        return "idle" if self.awaiting is CancelReason.IDLE else "head"
