"""What content is made of, and the simple sources of it: bytes, streams, async iterables.

Theory of operation
===================

A `Content` says what can be sent, a `ContentReader` is one sending of it. The same content may be sent more
than once, after a redirect, an authentication or a lost connection; each time it is opened anew, and whoever
has opened it closes the reader.

1. The length belongs to the reader. A file has the length that it has when it is opened, and only to ask for
   that takes a system call. What a reader promises it keeps: a file that has become shorter or longer in the
   meantime is an error, and that one is raised before the last promised byte goes out, so that the server
   cannot take the request for a complete one.
2. Who has opened something closes it. A path is opened and closed by us; a file or a stream of the caller's
   stays open, at the place that was reached. Only an async generator is closed: nobody can go on with it, and
   its clean-up should not wait for the collector.
3. What a source raises comes out as it is.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Final

import trio

from trio_http._errors import InvalidRequest
from trio_http.messages import MessageBody

# What is asked of a source at a time, in bytes. Precedent: trio's streams and Go's copying, 32-64 KiB; a
# thread's turn for each read costs little beside it.
PIECE_BYTES: Final = 64 * 1024


class ContentReader(trio.abc.AsyncResource):
    """One sending of a `Content`, from its start; used by one task at a time.

    Attributes:
      length: how many bytes it gives in all, not a byte more or less; None: not known.
    """

    length: int | None = None

    @abc.abstractmethod
    async def next_piece(self) -> bytes:
        """Return the next piece, of any length, or ``b""`` at the end, then and in every later call.

        It can be cancelled each time, and need not let other tasks run when it has bytes at hand: whoever
        sends them sees to that.

        Raises:
          Exception: what the source raises. The content cannot be gone on with.
          InvalidRequest: there are not as many bytes as `length` has promised.
          trio.ClosedResourceError: the reader was closed.
          trio.BrokenResourceError: the source has failed before.

        Cancellation: nothing is lost if the source loses nothing, and the next call goes on. What an async
          iterable or a pipe would have given is lost, and the next call raises.
        """

    @abc.abstractmethod
    async def aclose(self) -> None:
        """End the sending, as `trio.abc.AsyncResource.aclose`; what the content has opened is closed.

        Cancellation: it is closed all the same. It waits for nothing but an async generator's own clean-up.
        """


class Content(abc.ABC):
    """Content of a request that is not plain bytes. Derive from it for a source of your own.

    Attributes:
      repeatable: it can be opened again, and then gives the same bytes.
      content_type: the Content-Type that goes with it, unless the request says another; None: none.
    """

    repeatable: bool = False
    content_type: str | None = None

    @abc.abstractmethod
    async def open(self) -> ContentReader:
        """Return a reader at the start of the content; it is the caller's to close.

        Raises:
          InvalidRequest: the content can be sent once, and was.
          Exception: what opening the source raises, such as `FileNotFoundError`.

        Cancellation: nothing is left open.
        """


class WholeContent(Content):
    """Bytes, where a `Content` is wanted."""

    repeatable = True

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def open(self) -> ContentReader:
        """As `Content.open`."""
        await trio.lowlevel.checkpoint()
        return _WholeReader(self._data)


class _WholeReader(ContentReader):
    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data
        self._at = 0
        self._closed = False

    async def next_piece(self) -> bytes:
        await trio.lowlevel.checkpoint()
        check_open(self._closed)
        piece = self._data[self._at : self._at + PIECE_BYTES]
        self._at += len(piece)
        return piece

    async def aclose(self) -> None:
        self._closed = True
        await trio.lowlevel.checkpoint()


class StreamContent(Content):
    """A stream of the caller's: it stays open."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._used = False

    async def open(self) -> ContentReader:
        """As `Content.open`."""
        await trio.lowlevel.checkpoint()
        check_unused(self._used, "a stream")
        self._used = True
        return _StreamReader(self._stream)


class _StreamReader(ContentReader):
    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        # A body that is passed on goes out framed as it came.
        self.length = stream.length if isinstance(stream, MessageBody) else None
        self._ended = False
        self._closed = False

    async def next_piece(self) -> bytes:
        check_open(self._closed)
        if self._ended:
            await trio.lowlevel.checkpoint()
            return b""
        piece = as_bytes(await self._stream.receive_some(PIECE_BYTES))
        self._ended = not piece
        return piece

    async def aclose(self) -> None:
        self._closed = True
        await trio.lowlevel.checkpoint()


class IterableContent(Content):
    """An async iterable of the caller's; if it is a generator, it is closed."""

    def __init__(self, source: AsyncIterable[Any]) -> None:
        self._source = source
        self._used = False

    async def open(self) -> ContentReader:
        """As `Content.open`."""
        await trio.lowlevel.checkpoint()
        check_unused(self._used, f"an async iterable ({type(self._source).__name__})")
        self._used = True
        return _IterableReader(aiter(self._source))


class _IterableReader(ContentReader):
    def __init__(self, pieces: AsyncIterator[Any]) -> None:
        self._pieces = pieces
        self._ended = False
        self._failed = False
        self._closed = False

    async def next_piece(self) -> bytes:
        check_open(self._closed)
        if self._failed:
            raise trio.BrokenResourceError("the source of this content has failed, or was cancelled, before")
        while True:
            # Before a piece is in hand, which a cancel would lose.
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._ended:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return b""
            # A generator that an exception or a cancel has gone through says next time that it is at its end;
            # what it has given by then must not be taken for the whole.
            self._failed = True
            try:
                piece = as_bytes(await anext(self._pieces))
            except StopAsyncIteration:
                self._ended = True
                piece = b""
            self._failed = False
            if piece or self._ended:  # an empty one before the end would be taken for it
                return piece
            await trio.lowlevel.checkpoint()  # a source of nothing but empty pieces keeps nobody waiting

    async def aclose(self) -> None:
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        if inspect.isasyncgen(self._pieces):
            await self._pieces.aclose()
        await trio.lowlevel.checkpoint()


def as_bytes(piece: object) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, bytearray | memoryview):
        return bytes(piece)
    hint = "; for text there is piece.encode()" if isinstance(piece, str) else ""
    raise TypeError(f"content must give bytes, not {type(piece).__name__}{hint}")


def check_open(closed: bool) -> None:
    if closed:
        raise trio.ClosedResourceError("this content was closed")


def check_unused(used: bool, what: str) -> None:
    if used:
        raise InvalidRequest(
            f"the content is {what} that was sent before, expected a new one: it can be read once. A path "
            "or a file that can seek may be sent again"
        )
