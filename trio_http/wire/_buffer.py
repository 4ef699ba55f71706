"""The bytes that came and were not used yet.

The usual receive is used up whole before the next one comes, so a fresh receive is kept as the object it is
and sliced, without a copy. Only when bytes are left over does the buffer become a bytearray that grows: one
byte at a time then costs one byte's copy, and bytes that were used are dropped when they are the larger half,
so every byte is moved a bounded number of times.
"""

from __future__ import annotations


class ReceiveBuffer:
    """Received bytes, a position in them, and how far a search has come.

    Attributes:
      data: all bytes held; those before `pos` are used.
      pos: where the unused begin.
      scanned: no section that begins at `pos` ends before this index; at least `pos`.
      closed: the peer has ended its side; no more will come.
    """

    __slots__ = ("closed", "data", "pos", "scanned")

    def __init__(self) -> None:
        self.data: bytes | bytearray = b""
        self.pos = 0
        self.scanned = 0
        self.closed = False

    def __len__(self) -> int:
        return len(self.data) - self.pos

    def append(self, data: bytes) -> None:
        """Add what was received, at least one byte."""
        held, pos = self.data, self.pos
        left = len(held) - pos
        if left <= len(data):
            # Copying no more than what just came keeps the whole in proportion to what came.
            self.data = bytes(memoryview(held)[pos:]) + data if left else data
        elif not isinstance(held, bytearray):
            self.data = bytearray(memoryview(held)[pos:])
            self.data += data
        else:
            if pos > left:
                del held[:pos]
            else:
                pos = 0
            held += data
        self.scanned -= pos
        self.pos -= pos

    def take(self, most: int) -> bytes:
        """Use up to ``most`` bytes and return them; fewer when fewer are here, perhaps none."""
        data, pos = self.data, self.pos
        end = min(pos + most, len(data))
        self.pos = self.scanned = end
        if not isinstance(data, bytes):
            return bytes(memoryview(data)[pos:end])
        return data if pos == 0 and end == len(data) else data[pos:end]

    def skip(self, count: int) -> None:
        """Use ``count`` bytes that are here, unseen."""
        self.pos += count
        self.scanned = self.pos

    def peek(self) -> bytes:
        """Return the unused bytes, and leave them."""
        return bytes(memoryview(self.data)[self.pos :])
