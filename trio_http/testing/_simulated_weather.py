"""What a simulated network does to a connection: the weather, by script or by chance.

A weather is only a description. What it makes of each piece of bytes is drawn in the file of the connection,
from a generator that belongs to one direction of one connection, so that no other connection's schedule can
change its fate.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import attrs

#: Which end of a connection: the one that dialled, or the one that was accepted. A direction is named after
#: the end that sends in it.
Side: TypeAlias = Literal["client", "server"]

#: What a mishap ends with. "reset": both ends have lost the connection. "cut": the receiver meets the end of
#: the stream, and whatever was to follow is lost without the sender's knowing. "silence": all that was to
#: follow is lost, and nobody is told.
Ending: TypeAlias = Literal["reset", "cut", "silence"]


def _seconds(value: float | tuple[float, float]) -> tuple[float, float]:
    """Return a range of seconds; one number is a range of its own."""
    low, high = value if isinstance(value, tuple) else (value, value)
    if not 0 <= low <= high:
        raise ValueError(f"expected seconds of at least 0, or a pair of them, lowest first; got {value!r}")
    if math.isinf(high) and low != high:
        raise ValueError(f"a range that ends in infinity has no middle; got {value!r}, silence= means that")
    return float(low), float(high)


def generator(*names: object) -> random.Random:
    """Return a generator that draws the same in each process for the same names."""
    return random.Random("/".join(map(str, names)))  # noqa: S311  # it is to be repeated


def draw(luck: random.Random, span: tuple[float, float]) -> float:
    """Draw from a range; nothing is drawn where there is nothing to choose."""
    low, high = span
    return low if low == high else luck.uniform(low, high)


def _sizes(value: int | tuple[int, int]) -> tuple[int, int]:
    """Return a range of sizes; one number is a range of its own."""
    low, high = value if isinstance(value, tuple) else (value, value)
    if not 1 <= low <= high:
        raise ValueError(f"expected a size of at least 1, or a pair of them, lowest first; got {value!r}")
    return low, high


def _script(value: object) -> tuple[Mishap, ...]:
    """Return the mishaps of a script."""
    script = tuple(value) if isinstance(value, Iterable) else (value,)
    for mishap in script:
        if not isinstance(mishap, Mishap):
            raise TypeError(f"the script of a weather is a list of Mishap, got {value!r}")
    return script


def _chance(weather: object, field: attrs.Attribute[Any], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{field.name} is a probability, from 0 to 1; got {value!r}")


@attrs.frozen(kw_only=True)
class Mishap:
    """Something that happens at an exact place or time, in one direction of a connection.

    Attributes:
      way: the direction, named after the end that sends in it.
      at_byte: when so many bytes have been sent in this direction, counted from 0. A send that goes beyond is
        divided there.
      at_second: so long after the connection was made. Exactly one of the two is given.
      stall: for so many seconds nothing arrives; what would have is late. `math.inf`: for ever. At a byte,
        they begin when that byte arrives.
      then: what happens when the stall is over; None: all goes on. After a reset, bytes that have arrived and
        were not received are lost, as in TCP; with a small stall before it the receiver is the faster.
    """

    way: Side
    at_byte: int | None = None
    at_second: float | None = None
    stall: float = 0.0
    then: Ending | None = None

    def __attrs_post_init__(self) -> None:
        if self.way not in ("client", "server"):
            raise ValueError(f"a direction is 'client' or 'server', got {self.way!r}")
        if (self.at_byte is None) == (self.at_second is None):
            raise ValueError("give exactly one of at_byte and at_second")
        place = self.at_second if self.at_byte is None else self.at_byte
        if place is None or not 0 <= place < math.inf:
            raise ValueError(f"a place is at least 0 and finite, got {place!r}")
        if not self.stall >= 0:
            raise ValueError(f"a stall has at least 0 seconds, got {self.stall!r}")
        if self.then not in (None, "reset", "cut", "silence"):
            raise ValueError(f"then is None, 'reset', 'cut' or 'silence', got {self.then!r}")


@attrs.frozen(kw_only=True)
class Weather:
    """What one connection meets. Without arguments nothing at all: what is sent is there at once.

    A *piece* is what a single call has sent, or a part of it where the buffer was full or where it was split.
    Times are in seconds; one number, or the lowest and the highest of a range from which one is drawn.
    Probabilities are from 0 to 1, for each piece unless it says otherwise.

    Attributes:
      latency: how long a piece is on its way; drawn once for each direction of a connection.
      jitter: is added to that; drawn for each piece. What was sent first arrives first nevertheless.
      bytes_per_second: how fast pieces leave, one after the other; None: at once.
      split: that a piece is split into smaller ones, which never arrive in one call.
      split_bytes: how large those are. The last of them is the rest; at most 16 are split off.
      stall: that a piece, and all that follows it, is late.
      stall_seconds: by how much.
      reset: that the connection is reset when the piece would have arrived.
      cut: that the receiver meets the end of the stream instead of the piece and of all that follows.
      silence: that the piece and all that follows are lost without a word.
      dial_seconds: how long a dial takes; None: as long as once there and back.
      dial_refused: that a dial is refused although somebody listens; for each dial.
      black_hole: that a dial never ends; for each dial.
      script: what happens for certain, beside all that.
      server: another weather for the direction in which the server sends. Its dial and its script are not
        looked at, so they are not to be given.
    """

    latency: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=_seconds)
    jitter: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=_seconds)
    bytes_per_second: float | None = None
    split: float = attrs.field(default=0.0, validator=_chance)
    split_bytes: tuple[int, int] = attrs.field(default=(1, 64), converter=_sizes)
    stall: float = attrs.field(default=0.0, validator=_chance)
    stall_seconds: tuple[float, float] = attrs.field(default=(1.0, 1.0), converter=_seconds)
    reset: float = attrs.field(default=0.0, validator=_chance)
    cut: float = attrs.field(default=0.0, validator=_chance)
    silence: float = attrs.field(default=0.0, validator=_chance)
    dial_seconds: tuple[float, float] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_seconds)
    )
    dial_refused: float = attrs.field(default=0.0, validator=_chance)
    black_hole: float = attrs.field(default=0.0, validator=_chance)
    script: tuple[Mishap, ...] = attrs.field(default=(), converter=_script)
    server: Weather | None = None

    def __attrs_post_init__(self) -> None:
        if self.bytes_per_second is not None and not self.bytes_per_second > 0:
            raise ValueError(f"bytes_per_second is above 0, got {self.bytes_per_second!r}")
        if math.isinf(self.latency[1]) or math.isinf(self.jitter[1]):
            raise ValueError("latency and jitter are finite; silence= means that nothing arrives")
        other = self.server
        if other is not None and (
            other.script
            or other.dial_seconds is not None
            or other.dial_refused
            or other.black_hole
            or other.server is not None
        ):
            raise ValueError(
                "the weather in server= has neither a dial nor a script nor a server= of its own"
            )

    def on_way(self, way: Side) -> Weather:
        """Return the weather of one direction."""
        return self.server if way == "server" and self.server is not None else self


@attrs.frozen(kw_only=True)
class ConnectionFacts:
    """What is known of a connection when its weather is asked for.

    Attributes:
      number: of the dial, counted from 0 in each network.
      host, port, scheme: what was dialled.
      time: when, on Trio's clock.
      random: a generator for this connection alone, for whoever wants to draw its weather.
    """

    number: int
    host: str
    port: int
    scheme: str
    time: float
    random: random.Random = attrs.field(repr=False)


def check_weather(weather: object) -> None:
    """Refuse what is neither a weather nor a function that may give one.

    Raises:
      TypeError: so it is.
    """
    if not isinstance(weather, Weather) and not callable(weather):
        raise TypeError(
            f"weather must be a Weather, such as STORM, or a function that gives one; got {weather!r}"
        )


#: Nothing ever goes wrong, and nothing takes time.
CLEAR = Weather()

#: A phone in a train. Arbitrary, in the order of what people see there.
LOSSY_MOBILE = Weather(
    latency=(0.03, 0.3),
    jitter=(0.0, 0.1),
    bytes_per_second=250_000,
    split=0.3,
    split_bytes=(1, 1400),
    stall=0.03,
    stall_seconds=(0.2, 8.0),
    reset=0.005,
    silence=0.002,
    dial_refused=0.01,
    black_hole=0.01,
)

#: Everything goes wrong, often. Arbitrary.
STORM = Weather(
    latency=(0.0, 0.5),
    jitter=(0.0, 0.3),
    split=0.5,
    split_bytes=(1, 40),
    stall=0.05,
    stall_seconds=(0.1, 20.0),
    reset=0.02,
    cut=0.01,
    silence=0.01,
    dial_refused=0.05,
    black_hole=0.03,
)
