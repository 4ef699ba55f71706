"""A connection of a simulated network: two directions, two ends, and what TCP makes of closes and resets.

All of it is synchronous. Who waits at an end, waits until the earliest thing that will reach it, and is woken
when there is an earlier one; so nothing here needs a task or a timer.
"""

from __future__ import annotations

import math
from typing import Literal

import trio

from ._simulated_trace import TraceEntry
from ._simulated_way import Way
from ._simulated_weather import ConnectionFacts, Side, Weather


class SimulatedEnd:
    """What is known of one end of a connection.

    Attributes:
      side: "client", which has dialled, or "server".
      left: how the program has left it: "closed", "reset"; None: it is open.
      sent_bytes, received_bytes: how many bytes the program has given, and got.
    """

    __slots__ = ("_broken_at", "_incoming", "_outgoing", "_receivers", "_senders", "left", "side")

    def __init__(self, side: Side, incoming: Way, outgoing: Way) -> None:
        self.side: Side = side
        self.left: Literal["closed", "reset"] | None = None
        self._incoming = incoming
        self._outgoing = outgoing
        self._broken_at = math.inf
        self._receivers = trio.lowlevel.ParkingLot()
        self._senders = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        passed = f"{self.sent_bytes} bytes sent, {self.received_bytes} received"
        return f"<{self.side}'s end, {self.left or 'open'}, {passed}>"

    @property
    def sent_bytes(self) -> int:
        return self._outgoing.sent

    @property
    def received_bytes(self) -> int:
        return self._incoming.received

    @property
    def broken(self) -> bool:
        """A reset has arrived here, of the peer's or of the weather's."""
        return self._broken_at <= trio.current_time()

    def _break(self, at: float) -> None:
        if at < self._broken_at:
            self._broken_at = at
            self._wake()

    def _wake(self) -> None:
        self._receivers.unpark_all()
        self._senders.unpark_all()


class SimulatedConnection:
    """What is known of one connection of a `SimulatedNetwork`.

    Attributes:
      number: of its dial, counted from 0; numbers of dials that failed are left out.
      host, port, scheme: what was dialled.
      opened_at: when it was made, on Trio's clock.
      weather: what it meets.
      client, server: its ends.
    """

    def __init__(
        self, facts: ConnectionFacts, weather: Weather, ways: tuple[Way, Way], trace: list[TraceEntry]
    ) -> None:
        there, back = ways
        self.number = facts.number
        self.host, self.port, self.scheme = facts.host, facts.port, facts.scheme
        self.weather = weather
        self.client = SimulatedEnd("client", back, there)
        self.server = SimulatedEnd("server", there, back)
        self._trace = trace
        self.opened_at = now = trio.current_time()
        self._note("", "connect", 0, now)
        for way in ways:
            way.open(now)
        self._break_by_weather()

    def __repr__(self) -> str:
        return f"<connection #{self.number} to {self.host}:{self.port}, {self.client!r}, {self.server!r}>"

    @property
    def open(self) -> bool:
        """The program has yet to close one of the ends."""
        return self.client.left is None or self.server.left is None

    def _peer(self, end: SimulatedEnd) -> SimulatedEnd:
        return self.server if end is self.client else self.client

    def _note(self, side: str, event: str, amount: float, at: float) -> None:
        self._trace.append(TraceEntry(trio.current_time(), self.number, side, event, amount, at))

    def _break_by_weather(self) -> None:
        at = min(self.client._outgoing.broken_at, self.server._outgoing.broken_at)
        self.client._break(at)
        self.server._break(at)

    # ------------------------------------------------------------------------------ what the streams ask for

    def _send(self, end: SimulatedEnd, data: bytes) -> None:
        """Send bytes for which there is room."""
        peer = self._peer(end)
        first = end._outgoing.send(data, trio.current_time())
        self._break_by_weather()
        if peer.left is not None:
            self._answer_by_reset(peer, end, first)
        peer._receivers.unpark_all()

    def _receive(self, end: SimulatedEnd, most: int | None) -> bytes | None:
        """Return what has arrived; empty at the end; None when there is nothing yet."""
        now = trio.current_time()
        data = end._incoming.take(most, now)
        if data:
            self._note(end.side, "receive", len(data), now)
            self._peer(end)._senders.unpark_all()
        return data

    def _send_end(self, end: SimulatedEnd) -> None:
        """End one direction; once."""
        if not end._outgoing.ended:
            end._outgoing.end(trio.current_time())
            self._note(end.side, "end", 0, end._outgoing.ends_at)
            self._peer(end)._receivers.unpark_all()

    def _close(self, end: SimulatedEnd) -> None:
        """Close one end; at once, if there is nothing that its owner has not received."""
        if end.left is not None:
            return
        now, peer = trio.current_time(), self._peer(end)
        end.left = "closed"
        self._note(end.side, "close", 0, end._outgoing.news(now))
        if now < end._broken_at:  # else the connection is no more
            unread_from = end._incoming.next_piece_at()
            if unread_from <= now:
                self._answer_by_reset(end, peer, now)
            else:
                end._outgoing.end(now)
                self._answer_by_reset(end, peer, unread_from)
        self._left(end)

    def _reset(self, end: SimulatedEnd) -> None:
        """End the connection by force."""
        if end.left is not None:
            return
        now, peer = trio.current_time(), self._peer(end)
        end.left = "reset"
        at = end._outgoing.news(now)
        self._note(end.side, "abort", 0, at)
        if now < end._broken_at:
            peer._break(at)
        self._left(end)

    def _answer_by_reset(self, end: SimulatedEnd, peer: SimulatedEnd, when: float) -> None:
        """Let the peer know, by a reset sent at ``when``, that its bytes are not wanted."""
        if when < math.inf and peer.left is None:
            at = end._outgoing.news(when)
            if at < peer._broken_at:
                self._note(end.side, "answer by reset", 0, at)
                peer._break(at)

    def _left(self, end: SimulatedEnd) -> None:
        end._incoming.forget()
        end._wake()
        self._peer(end)._wake()
