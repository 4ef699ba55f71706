"""The lines of a body, as they come."""

from __future__ import annotations

import operator
from collections import deque
from typing import Final

import trio

from ._charset import decoder_of_text
from ._headers import Headers

#: How long a line may be, in characters: a sender that never ends one would otherwise fill the memory.
#: Precedent: 64 KiB in asyncio, which users of streamed JSON find too little. Arbitrary.
MAX_LINE_CHARS: Final = 1024 * 1024


class LineTooLong(ValueError):
    """A line of a body is longer than its reader allows. Nothing more is read of that body.

    Attributes:
      number: which line it is, counted from 1.
      limit: characters that were allowed.
    """

    def __init__(self, number: int, limit: int) -> None:
        super().__init__(number, limit)
        self.number = number
        self.limit = limit

    def __str__(self) -> str:
        return f"line {self.number} of the body has more than {self.limit} characters (max_chars)"


class Lines:
    """The lines of a body as text, one after the other: an async iterator.

    A line ends with LF, CRLF or a CR alone, as in Python's text files and in event streams, and is given
    without that; what stands behind the last end is a line, too, unless it is empty. Nothing else ends one.
    `str.splitlines` and its like also do so at U+2028 and other characters, which may stand in the midst of a
    JSON text.

    A line is given as soon as its end is here. In particular, a CR is not kept back to see whether an LF
    follows. No more is held than one piece of the body and one unfinished line.

    It can be left and gone on with; so can the body, of which it has then taken whole pieces.

    Args:
      body: any stream of bytes. It stays the caller's to close.
      headers: name the charset, by Content-Type; UTF-8 is assumed without it, or if it is not known.
        Malformed bytes become U+FFFD, and a byte order mark stays where it is, as in `Response.text`.
      max_chars: characters of a line without its end, at most, at least 1.

    Raises:
      ValueError, TypeError: ``max_chars`` is no positive integer.
    """

    __slots__ = (
        "_body",
        "_decoder",
        "_ended",
        "_max_chars",
        "_number",
        "_parts",
        "_ready",
        "_skips_lf",
        "_tail",
    )

    def __init__(
        self, body: trio.abc.ReceiveStream, headers: Headers, *, max_chars: int = MAX_LINE_CHARS
    ) -> None:
        self._max_chars = operator.index(max_chars)
        if self._max_chars < 1:
            raise ValueError(f"max_chars must be at least 1, got {max_chars}")
        self._body = body
        self._decoder = decoder_of_text(headers)
        self._ready: deque[str] = deque()
        self._parts: list[str] = []  # of the line whose end is not here yet
        self._tail = 0  # characters in them
        self._skips_lf = False  # the last character was a CR
        self._ended = False
        self._number = 0

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> str:
        """Return the next line.

        Raises:
          StopAsyncIteration: the body has ended.
          LineTooLong: this line and everything behind it is not to be had.
          Exception: whatever the body raises. An unfinished line before it is not given.

        Cancellation: nothing is lost; call again and continue. To other tasks it gives way once for each
        piece of the body that it receives, and not for each line.
        """
        if self._ready:
            await trio.lowlevel.checkpoint_if_cancelled()
        while not self._ready:
            if self._tail > self._max_chars:
                await trio.lowlevel.checkpoint()
                raise LineTooLong(self._number + 1, self._max_chars)
            if self._ended:
                await trio.lowlevel.checkpoint()
                raise StopAsyncIteration
            self._take(await self._body.receive_some())
        if len(self._ready[0]) > self._max_chars:
            await trio.lowlevel.checkpoint()  # it is raised again by every later call
            raise LineTooLong(self._number + 1, self._max_chars)
        self._number += 1
        return self._ready.popleft()

    def _take(self, piece: bytes | bytearray) -> None:
        """Divide a piece of the body; ``b""`` is its end."""
        self._ended = not piece
        text = self._decoder.decode(piece, final=self._ended)
        if self._skips_lf and text:
            text = text.removeprefix("\n")
            self._skips_lf = False
        if text:
            self._skips_lf = text.endswith("\r")
            if "\r" in text:
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            first, *others = text.split("\n")
            self._parts.append(first)
            self._tail += len(first)
            if others:
                self._ready.append("".join(self._parts))
                self._ready.extend(others)
                last = self._ready.pop()
                self._parts = [last]
                self._tail = len(last)
        if self._ended and self._tail:
            self._ready.append("".join(self._parts))
            self._parts, self._tail = [], 0
