"""Content that comes piece by piece: what callers may give, and what is made of other content."""

from __future__ import annotations

import inspect
import operator
import os
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import trio

from trio_http._errors import InvalidRequest

from ._content_file import BinaryFile, PathContent, file_content
from ._content_source import (
    PIECE_BYTES,
    Content,
    ContentReader,
    IterableContent,
    StreamContent,
    WholeContent,
)


class Coder(Protocol):
    """What turns content into another form of it, a compression for one."""

    def encode(self, data: bytes, /) -> bytes:
        """Return what can be said of the coded form by now, maybe ``b""``."""

    def finish(self) -> bytes:
        """Return the rest."""


#: What `as_content` takes.
ContentInput: TypeAlias = (
    "bytes | bytearray | memoryview | Sequence[bytes] | Content | os.PathLike[str] | BinaryFile "
    "| trio.abc.ReceiveStream | AsyncIterable[bytes]"
)


def as_content(given: object) -> bytes | Content:
    """Return what was given as content in the form in which it is sent: bytes, or a `Content`.

    Args:
      given: one of

        - bytes, a bytearray or a memoryview; or a list or tuple of these, which is joined;
        - a `Content`;
        - a path (`pathlib.Path`, `trio.Path`), but no str, of a regular file: it can be sent again, and is
          opened and closed for each sending;
        - a binary file, sync or `trio.open_file`'s: it is read in a thread, from where it stands, and stays
          open. If it can seek, its length is known and it can be sent again;
        - a `trio.abc.ReceiveStream` or another async iterable of bytes, such as an async generator: it can
          be sent once, and its length is not known; see `Sized`.

        Other iterables are refused: one that waits for its next piece would stop every task.

    Raises:
      InvalidRequest: it is none of these; the text says what to give instead.
    """
    if isinstance(given, bytes):
        return given
    if isinstance(given, bytearray | memoryview):
        return bytes(given)
    if isinstance(given, Content):
        return given
    if isinstance(given, list | tuple):
        try:
            return b"".join(given)
        except TypeError as exc:
            raise InvalidRequest(f"content is a {type(given).__name__}, expected bytes in it: {exc}") from exc
    if isinstance(given, os.PathLike):
        return PathContent(given)
    if isinstance(given, trio.abc.ReceiveStream):  # before files: the body of a response can `read`, too
        return StreamContent(given)
    if callable(getattr(given, "read", None)):
        return file_content(given)
    if isinstance(given, AsyncIterable):
        return IterableContent(given)
    raise InvalidRequest(f"content is {_described(given)}")


def _described(given: object) -> str:
    """Return what is wrong with content of this type, and what to do about it."""
    what = (
        f"of type {type(given).__name__}, expected bytes, a path, a binary file or an async iterable of bytes"
    )
    if isinstance(given, str):
        return "a str, expected bytes: give text.encode(), or pathlib.Path(name) for a file"
    if inspect.iscoroutine(given):
        return f"a coroutine, expected what it returns: await {given.__name__}() first"
    if inspect.isroutine(given):
        return f"a function, expected what it returns: call {given.__name__}()"
    if isinstance(given, Mapping):
        return f"{what}; data= makes a form of a mapping, and json= makes JSON"
    if hasattr(given, "__iter__"):
        return f"{what}; a sync iterator may stop every task: make it an async generator, or join its bytes"
    return what


class Sized(Content):
    """Content that comes with a promise of its length, so that it goes out with a Content-Length.

    Args:
      source: whatever `as_content` takes, mostly a stream or an async iterable.
      length: in bytes, at least 0. A source that gives fewer or more is an `InvalidRequest` when that is
        seen.

    Raises:
      InvalidRequest: ``source`` is no content.
      ValueError, TypeError: ``length`` is negative, or no integer.
    """

    def __init__(self, source: ContentInput, length: int) -> None:
        self._length = operator.index(length)
        if self._length < 0:
            raise ValueError(f"length must be at least 0, got {length}")
        self._source = content_of(source)
        self.repeatable = self._source.repeatable
        self.content_type = self._source.content_type

    async def open(self) -> ContentReader:
        """Open the source, as `Content.open`.

        Cancellation: nothing is left open.
        """
        reader = await self._source.open()
        if reader.length not in (None, self._length):
            await reader.aclose()
            raise InvalidRequest(
                f"the content has {reader.length} bytes, expected the {self._length} that it was said to have"
            )
        return _SizedReader(reader, self._length)


class Compressed(Content):
    """Other content in a coded form. Its length is not known, and its Content-Encoding is the caller's to
    tell.

    Args:
      source: whatever `as_content` takes.
      make_coder: is called for each sending, and gives an object with ``encode(data)`` and ``finish()``, each
        of which returns bytes. It is given at most 64 KiB at a time, so that other tasks get their turn.

    Raises:
      InvalidRequest: ``source`` is no content.
    """

    def __init__(self, source: ContentInput, make_coder: Callable[[], Coder]) -> None:
        self._source = content_of(source)
        self._make_coder = make_coder
        self.repeatable = self._source.repeatable
        self.content_type = self._source.content_type

    async def open(self) -> ContentReader:
        """Open the source and make a coder, as `Content.open`.

        Cancellation: nothing is left open.
        """
        coder = self._make_coder()  # first, for nothing is open yet if it raises
        return _CompressedReader(await self._source.open(), coder)


def content_of(given: object) -> Content:
    """Return what was given as a `Content`, also if it is bytes.

    Raises:
      InvalidRequest: as `as_content`.
    """
    content = as_content(given)
    return WholeContent(content) if isinstance(content, bytes) else content


class _SizedReader(ContentReader):
    def __init__(self, source: ContentReader, length: int) -> None:
        self.length = self._length = length
        self._source = source
        self._given = 0

    async def next_piece(self) -> bytes:
        piece = await self._source.next_piece()
        given = self._given + len(piece)
        if given > self._length or (not piece and given < self._length):
            raise InvalidRequest(
                f"the content has {'at least ' if piece else ''}{given} bytes, expected the {self._length} "
                "that it was said to have"
            )
        self._given = given
        return piece

    async def aclose(self) -> None:
        await self._source.aclose()


class _CompressedReader(ContentReader):
    def __init__(self, source: ContentReader, coder: Coder) -> None:
        self._source = source
        self._coder = coder
        self._rest = memoryview(b"")
        self._ended = False

    async def next_piece(self) -> bytes:
        while not self._ended:
            if self._rest:
                await trio.lowlevel.checkpoint()
                data, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:]
                coded = self._coder.encode(bytes(data))
            elif piece := await self._source.next_piece():
                self._rest = memoryview(piece)
                continue
            else:
                coded = self._coder.finish()
                self._ended = True
            if coded:
                return coded
        # The source's to say when it is closed.
        return await self._source.next_piece()

    async def aclose(self) -> None:
        self._rest = memoryview(b"")
        await self._source.aclose()
