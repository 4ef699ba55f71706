"""One direction of a simulated connection: what is on its way, and when it arrives.

There are no tasks and no timers here. When a piece is sent, its fate is drawn and the time of its arrival is
known; so is that of an end and of a reset. The receiver looks at the list and at the clock.

Invariants: the times of arrival never fall; what was sent and has not been received is at most the limit;
once the direction is dead, nothing that is sent arrives.
"""

from __future__ import annotations

import math
from collections import deque

from ._simulated_trace import TraceEntry
from ._simulated_weather import Mishap, Side, Weather, draw, generator

# How many small pieces are split off one piece. Arbitrary: enough for a head to come in crumbs, and a large
# body costs no more than a small one.
_MOST_SPLITS = 16


class _Piece:
    """Bytes that arrive together.

    Attributes:
      arrives: when.
      alone: a call that receives its last byte receives none of the next piece.
    """

    __slots__ = ("alone", "arrives", "data")

    def __init__(self, arrives: float, data: bytes, alone: bool) -> None:
        self.arrives = arrives
        self.data = data
        self.alone = alone


class Way:
    """One direction of a connection.

    Attributes:
      sender: the end that sends here.
      latency: of this direction.
      limit: how many bytes may be on their way.
      on_way: bytes that were sent and not yet received, the lost ones included: a sender is held up by them.
      sent, received: bytes in all.
      ends_at: when the receiver meets the end.
      ended: the sender has sent its end.
      dead: the weather lets nothing through that is sent from now on.
      broken_at: when the weather resets the connection.
    """

    __slots__ = (
        "_arrival", "_cut_at", "_free_at", "_luck", "_number", "_pieces", "_script", "_start", "_timed",
        "_trace", "_weather", "_windows", "broken_at", "dead", "ended", "ends_at", "latency", "limit",
        "on_way", "received", "sender", "sent",
    )  # fmt: skip

    def __init__(
        self, sender: Side, number: int, weather: Weather, seed: int, limit: int, trace: list[TraceEntry]
    ) -> None:
        self.sender: Side = sender
        self.limit = limit
        self.on_way = self.sent = self.received = 0
        self.ends_at = self.broken_at = math.inf
        self.dead = self.ended = False
        self._number = number
        self._weather = weather.on_way(sender)
        self._luck = generator(seed, number, sender)
        self._trace = trace
        self.latency = draw(self._luck, self._weather.latency)
        self._pieces: deque[_Piece] = deque()
        self._start = 0  # how much of the first piece has been received
        self._arrival = 0.0  # of what was sent last
        self._free_at = 0.0  # when the line has sent what was given to it
        self._cut_at = math.inf
        mine = [mishap for mishap in weather.script if mishap.way == sender]
        self._script = deque(sorted((m for m in mine if m.at_byte is not None), key=lambda m: m.at_byte or 0))
        self._timed = sorted((m for m in mine if m.at_second is not None), key=lambda m: m.at_second or 0)
        self._windows: list[tuple[float, float]] = []  # from when to when nothing arrives

    def open(self, now: float) -> None:
        """Begin: what the script has for certain times, and for byte 0, is decided."""
        self._arrival = self._free_at = now
        for mishap in self._timed:
            begin = now + (mishap.at_second or 0.0)
            end = begin + mishap.stall
            if mishap.stall:
                self._windows.append((begin, end))
                self._note("stall", now, mishap.stall, end)
            if mishap.then is not None:
                self._note(mishap.then, now, 0, end)
            if mishap.then == "reset":
                self.broken_at = min(self.broken_at, end)
            elif mishap.then is not None:
                self._cut_at = min(self._cut_at, end)
                if mishap.then == "cut":
                    self.ends_at = min(self.ends_at, end)
        self._meet_script(now)

    def room(self) -> int:
        """Return how many bytes can be sent now."""
        return self.limit - self.on_way

    def send(self, data: bytes, now: float) -> float:
        """Send at most as many bytes as there is room for.

        Returns:
          when the first of them arrives; infinite: never.
        """
        first = math.inf
        while data:
            part = data
            if self._script:
                left = (self._script[0].at_byte or 0) - self.sent
                if left < len(data):
                    part = data[:left]
            data = data[len(part) :]
            self.sent += len(part)
            self.on_way += len(part)
            first = min(first, self._send_part(part, now))
            self._meet_script(now)
        return first

    def end(self, now: float) -> None:
        """Send the end of the stream."""
        self.ended = True
        self.ends_at = min(self.ends_at, self.news(now))

    def news(self, now: float) -> float:
        """Return when an end or a reset that is sent now arrives: not before what was sent; maybe never."""
        arrival = self._in_time(max(self._arrival, now + self.latency))
        return math.inf if self.dead or arrival >= self._cut_at else arrival

    def next_at(self) -> float:
        """Return when the receiver has something to receive."""
        return min(self._pieces[0].arrives, self.ends_at) if self._pieces else self.ends_at

    def next_piece_at(self) -> float:
        """Return when the first of the bytes that were not received has arrived, or will."""
        return self._pieces[0].arrives if self._pieces else math.inf

    def take(self, most: int | None, now: float) -> bytes | None:
        """Return what has arrived, at most ``most`` bytes; empty at the end; None: there is nothing yet."""
        pieces = self._pieces
        if not pieces or pieces[0].arrives > now:
            return b"" if self.ends_at <= now else None
        parts: list[bytes] = []
        left = self.limit if most is None else most  # no more can be here
        while left and pieces and pieces[0].arrives <= now:
            piece = pieces[0]
            part = piece.data[self._start : self._start + left]
            parts.append(part)
            left -= len(part)
            self._start += len(part)
            if self._start < len(piece.data):
                break
            self._start = 0
            pieces.popleft()
            if piece.alone:
                break
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self.on_way -= len(data)
        self.received += len(data)
        return data

    def forget(self) -> None:
        """Let go of all bytes: nobody can receive them any more."""
        self._pieces.clear()

    def _note(self, event: str, now: float, amount: float, at: float) -> None:
        self._trace.append(TraceEntry(now, self._number, self.sender, event, amount, at))

    def _chance(self, chance: float) -> bool:
        return chance > 0 and self._luck.random() < chance

    def _in_time(self, arrival: float) -> float:
        """Return ``arrival``, or the end of the scripted stall in which it falls."""
        for begin, end in self._windows:
            if begin <= arrival < end:
                arrival = end
        return arrival

    def _send_part(self, data: bytes, now: float) -> float:
        """Send what lies between two scripted places; return when its first byte arrives."""
        if self.dead or not data:
            if data:
                self._note("lose", now, len(data), math.inf)
            return math.inf
        first = math.inf
        pieces = self._split(data)
        if len(pieces) > 1:
            self._note("split", now, len(pieces), now)
        for place, piece in enumerate(pieces, start=1):
            first = min(first, self._send_piece(piece, now, alone=place < len(pieces)))
        return first

    def _split(self, data: bytes) -> list[bytes]:
        weather = self._weather
        if not self._chance(weather.split):
            return [data]
        pieces: list[bytes] = []
        start = 0
        low, high = weather.split_bytes
        while len(pieces) < _MOST_SPLITS and start < len(data):
            end = start + self._luck.randint(low, high)
            pieces.append(data[start:end])
            start = end
        if start < len(data):
            pieces.append(data[start:])
        return pieces

    def _send_piece(self, data: bytes, now: float, *, alone: bool) -> float:
        """Draw the fate of one piece; return when it arrives."""
        weather = self._weather
        if self.dead:
            self._note("lose", now, len(data), math.inf)
            return math.inf
        leaves = now
        if weather.bytes_per_second is not None:
            leaves = self._free_at = max(now, self._free_at) + len(data) / weather.bytes_per_second
        arrival = leaves + self.latency + draw(self._luck, weather.jitter)
        if self._chance(weather.stall):
            seconds = draw(self._luck, weather.stall_seconds)
            arrival = max(arrival, self._arrival) + seconds
            self._note("stall", now, seconds, arrival)
        arrival = self._arrival = self._in_time(max(arrival, self._arrival))
        if arrival == math.inf:
            self.dead = True
        elif self._chance(weather.silence):
            self._die("silence", now, arrival)
        elif self._chance(weather.reset):
            self._die("reset", now, arrival)
        elif self._chance(weather.cut):
            self._die("cut", now, arrival)
        if self.dead or arrival >= self._cut_at:
            self._note("lose", now, len(data), math.inf)
            return math.inf
        self._note("send", now, len(data), arrival)
        self._pieces.append(_Piece(arrival, data, alone))
        return arrival

    def _die(self, event: str, now: float, at: float) -> None:
        self._note(event, now, 0, at)
        self.dead = True
        if event == "cut":
            self.ends_at = min(self.ends_at, at)
        elif event == "reset":
            self.broken_at = min(self.broken_at, at)

    def _meet_script(self, now: float) -> None:
        """Let happen what the script has for the byte that was reached."""
        while self._script and self._script[0].at_byte == self.sent:
            mishap: Mishap = self._script.popleft()
            if self.dead:
                continue
            self._arrival = max(self._arrival, now + self.latency) + mishap.stall
            if mishap.stall:
                self._note("stall", now, mishap.stall, self._arrival)
            if mishap.then is not None:
                self._die(mishap.then, now, self._arrival)
