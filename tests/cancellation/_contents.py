"""Content of the caller's own that knows whether each of its readers was closed."""

from __future__ import annotations

import trio

from trio_http import Content, ContentReader


class CountedContent(Content):
    """Content that counts who reads it.

    Args:
      pieces: what it is, in order.
      pause: seconds before each piece, and before its end; 0: a checkpoint.

    Attributes:
      open_now: readers that were opened and not closed.
    """

    repeatable = True

    def __init__(self, *pieces: bytes, pause: float = 0) -> None:
        self.pieces = pieces
        self.pause = pause
        self.open_now = 0

    async def open(self) -> ContentReader:
        await trio.lowlevel.checkpoint()
        self.open_now += 1
        return _Reader(self)


class _Reader(ContentReader):
    def __init__(self, content: CountedContent) -> None:
        self._content: CountedContent | None = content
        self._left = iter(content.pieces)
        self._pause = content.pause

    async def next_piece(self) -> bytes:
        await trio.sleep(self._pause)
        return next(self._left, b"")

    async def aclose(self) -> None:
        if self._content is not None:
            self._content.open_now -= 1
            self._content = None
        await trio.lowlevel.checkpoint()
