"""A message body as it is received: a stream of bytes with trailers behind it."""

from __future__ import annotations

import abc
import operator

import trio

from ._headers import Headers


class MessageBody(trio.abc.ReceiveStream):
    """The content of a message under way, as a `trio.abc.ReceiveStream`; iterate over it, or `receive_some`.

    It buffers nothing but the rest of a piece that was asked for in smaller parts.
    """

    __slots__ = ("_ended", "_rest", "_taking")

    def __init__(self) -> None:
        self._rest = b""
        self._ended = False
        self._taking = False

    @abc.abstractmethod
    async def _next_piece(self) -> bytes:
        """Return the next piece, ``b""`` at the end and then no more. A checkpoint."""

    @property
    def at_end(self) -> bool:
        """It was read to its end: the ``b""`` that says so was returned."""
        return self._ended and not self._rest

    @property
    def length(self) -> int | None:
        """How many bytes the body has in all, by its framing; None when only its end will tell."""
        return None

    @property
    @abc.abstractmethod
    def trailers(self) -> Headers:
        """The trailer section; empty before the end, and without one (RFC 9110 §6.5)."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next part of the body, or ``b""`` at its end, then and in every later call.

        Args:
          max_bytes: upper bound on the length returned, at least 1. None: what one receive brought.

        Raises:
          ValueError, TypeError: ``max_bytes`` is no positive integer; nothing has changed.
          trio.BusyResourceError: another task is reading this body.

        Cancellation: nothing is lost; call again and continue.
        """
        if max_bytes is not None and (max_bytes := operator.index(max_bytes)) < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        if self._taking:
            raise trio.BusyResourceError("another task is reading this body")
        self._taking = (
            True  # also over the checkpoint: a second reader would find the rest gone, or half of it
        )
        try:
            if self._rest or self._ended:
                await trio.lowlevel.checkpoint()
                piece = self._rest
            else:
                piece = await self._next_piece()
                self._ended = not piece
        finally:
            self._taking = False
        if max_bytes is None or len(piece) <= max_bytes:
            self._rest = b""
            return piece
        self._rest = piece[max_bytes:]
        return piece[:max_bytes]
