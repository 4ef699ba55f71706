"""What a simulated network has done, entry by entry: to be read after a failure, and to compare two runs."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable
from typing import NamedTuple

#: What an entry can tell, in the order of their numbers in a digest.
EVENTS = (
    "dial", "refuse", "black hole", "connect", "accept",
    "send", "lose", "split", "receive", "end", "close", "abort",
    "stall", "reset", "cut", "silence", "answer by reset",
)  # fmt: skip

_NUMBER = {event: number for number, event in enumerate(EVENTS)}
_SIDES = {"": 0, "client": 1, "server": 2}
_ENTRY = struct.Struct("<dIBBdd")


class TraceEntry(NamedTuple):
    """One thing that a simulated network has done.

    Attributes:
      time: when it was decided, on Trio's clock.
      connection: the connection's number.
      side: "client" or "server": who did it, or the end that sends in the direction it was done to. "": both.
      event: what.

        - "dial", "refuse", "black hole", "connect", "accept": the beginning of a connection.
        - "send": bytes were given to the network; "lose": and it has lost them, as after a cut.
        - "split": a piece was split into ``amount`` pieces.
        - "receive": bytes were received.
        - "end", "close", "abort": what the program did: ``send_eof``, a close, a reset.
        - "stall" (of ``amount`` seconds), "reset", "cut", "silence": the weather.
        - "answer by reset": bytes were unread when an end was closed, or came to one that was.
      amount: bytes, pieces or seconds; else 0.
      at: when it arrives or takes effect; infinite: never.
    """

    time: float
    connection: int
    side: str
    event: str
    amount: float
    at: float

    def __str__(self) -> str:
        words = [f"{self.time:10.4f}", f"#{self.connection}", f"{self.side or 'both':6}", self.event]
        if self.event == "stall":
            words.append(f"{self.amount:g} s")
        elif self.amount:
            words.append(f"{self.amount:g}")
        if self.at == math.inf:
            words.append("for ever" if self.event == "stall" else "(never to arrive)")
        elif self.at > self.time:
            words.append(f"(at {self.at:.4f})")
        return " ".join(words)


def trace_digest(trace: Iterable[TraceEntry]) -> str:
    """Return 32 hex digits for what happened: the same in each process, whatever Python's hash seed."""
    digest = hashlib.blake2b(digest_size=16)
    for time, connection, side, event, amount, at in trace:
        digest.update(_ENTRY.pack(time, connection, _SIDES[side], _NUMBER[event], amount, at))
    return digest.hexdigest()
