"""Content that is gathered piece by piece."""

from __future__ import annotations

from typing import Final

# How many pieces are kept as they came. Each takes some forty bytes beside its own, and a peer can make
# pieces of a byte or two: content of a size that is allowed would fill twenty times as much. Arbitrary.
_FEW: Final = 1000


class Pieces:
    """The pieces of a content; they take little more room than their bytes, however small they are."""

    __slots__ = ("_blocks", "_pieces")

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Add the next one."""
        self._pieces.append(piece)
        if len(self._pieces) == _FEW:
            self._blocks.append(b"".join(self._pieces))
            self._pieces.clear()

    def joined(self) -> bytes:
        """Return all of them."""
        if len(self._pieces) == 1 and not self._blocks:
            return self._pieces[0]  # without a copy
        return b"".join([*self._blocks, *self._pieces])
