"""Files as content: paths, which are ours to open and close, and files that the caller has opened.

The hard case is a cancel while a thread reads. A read from a disk cannot be cancelled, and ends soon: it is
waited for, so a cancel never closes a file that a thread is reading. A read from a pipe may wait for ever: a
cancel leaves it to its thread, and what it brings is lost. So a pipe is better given as a
`trio.lowlevel.FdStream`.
"""

from __future__ import annotations

import inspect
import io
import os
import stat
from collections.abc import Callable
from typing import Any, Final, Protocol

import trio

from trio_http._errors import InvalidRequest

from ._content_source import PIECE_BYTES, Content, ContentReader, as_bytes, check_open, check_unused

# What a thread reads in one turn, in bytes, when the file's length is known. On two busy cores a turn was
# measured at 0.3-0.6 ms whatever it reads, so that a turn for each 64 KiB gave 140 MiB/s, and this 650.
_BLOCK_BYTES: Final = 512 * 1024


class BinaryFile(Protocol):
    """What is asked of a file: bytes."""

    def read(self, size: int = ..., /) -> bytes:
        """Return at most ``size`` bytes, ``b""`` at the end."""


def file_content(given: Any) -> Content:
    """Return a file of the caller's, sync or trio's, as content.

    Raises:
      InvalidRequest: it is a text file, closed, not open for reading, or an async one of another kind.
    """
    file = given
    if inspect.iscoroutinefunction(given.read):
        # An async file of trio's is a sync one whose methods are called in threads, which is done here, too.
        file = getattr(given, "wrapped", None)
        if not callable(getattr(file, "read", None)):
            raise InvalidRequest(
                f"content is of type {type(given).__name__}, whose read() is async, expected a binary file "
                "of Python's or trio's, or an async iterable of bytes: its body, if it is a message"
            )
    if isinstance(file, io.TextIOBase) or hasattr(file, "encoding"):
        raise InvalidRequest(
            f"content is a text file, expected a binary one: open {_name_of(file)} with 'rb'"
        )
    if getattr(file, "closed", False):
        raise InvalidRequest(f"content is the file {_name_of(file)}, which is closed")
    if not _can(file, "readable", default=True):
        raise InvalidRequest(f"content is the file {_name_of(file)}, which is not open for reading")
    return FileContent(file)


class PathContent(Content):
    """A file that is opened for each sending, and closed after it."""

    repeatable = True

    def __init__(self, path: os.PathLike[str] | os.PathLike[bytes]) -> None:
        self._path = os.fsdecode(path)

    async def open(self) -> ContentReader:
        """Open the file, as `Content.open`.

        Raises:
          InvalidRequest: it is no regular file.
          OSError: it cannot be opened.
        """
        # A thread that is not abandoned always comes back, so the file has an owner whatever happens.
        file, length = await trio.to_thread.run_sync(_opened, self._path)
        return _FileReader(file, repr(self._path), length=length, close=file.close)


def _opened(path: str) -> tuple[io.FileIO, int | None]:
    """Open a file; return it with its length. For a thread.

    Raises:
      InvalidRequest: it is no regular file.
      OSError: it cannot be opened.
    """
    file = open(path, "rb", buffering=0, opener=_open_at_once)  # noqa: SIM115  # the reader closes it
    try:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise InvalidRequest(
                f"content is the path {path!r}, which is no regular file, so that reading it may wait for "
                "ever; open it yourself, or give a trio.lowlevel.FdStream"
            )
        return file, _true_length(file, 0, facts.st_size)
    except BaseException:
        file.close()
        raise


def _open_at_once(path: str, flags: int) -> int:
    # A pipe without a writer would keep the thread, and a cancel, waiting. Regular files ignore the flag.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _true_length(file: Any, start: int, length: int) -> int | None:
    """Return ``length`` unless the file is of those that the kernel writes as they are read (Linux's /proc):
    they are 0 bytes long and have content."""
    if length == 0:
        has_content = bool(file.read(1))
        file.seek(start)
        return None if has_content else 0
    return length


class FileContent(Content):
    """A file of the caller's: it stays open, and is sent from where it stands."""

    def __init__(self, file: Any) -> None:
        self.repeatable = _can(file, "seekable", default=False)
        self._file = file
        self._start: int | None = None
        self._used = False
        self._busy = False

    async def open(self) -> ContentReader:
        """Look how long the file is from where it stands, as `Content.open`.

        Raises:
          InvalidRequest: it cannot seek, and was sent before.
          trio.BusyResourceError: it is being sent.
        """
        check_unused(
            self._used and not self.repeatable, f"the file {_name_of(self._file)}, which cannot seek,"
        )
        if self._busy:
            raise trio.BusyResourceError(f"the file {_name_of(self._file)} is being sent by another request")
        self._used = self._busy = True
        # BytesIO itself: a class that is derived from it may wait.
        here = type(self._file) is io.BytesIO
        try:
            length = None
            if self.repeatable and not here:
                length = await trio.to_thread.run_sync(self._measured)
            else:
                await trio.lowlevel.checkpoint()
                if here:
                    length = self._measured()
        except BaseException:
            self._busy = False
            raise
        return _FileReader(
            self._file,
            _name_of(self._file),
            length=length,
            start=self._start,
            in_memory=here,
            may_wait=not self.repeatable,
            close=self._end,
        )

    def _measured(self) -> int | None:
        """Return how many bytes there are from the first opening's position on."""
        file = self._file
        if self._start is None:
            self._start = file.tell()
        file.seek(0, os.SEEK_END)
        length = max(0, file.tell() - self._start)
        # Back to where it was, for the case that none of it will be read.
        file.seek(self._start)
        return _true_length(file, self._start, length)

    def _end(self) -> None:
        self._busy = False


class _FileReader(ContentReader):
    """Reads a file.

    Args:
      file: of which only `read` is used, and `seek` with ``start``.
      name: for the text of errors.
      length: of the content.
      start: where it begins; None: at the file's position.
      in_memory: reading takes no time.
      may_wait: reading may take any time.
      close: is called once, when it is closed and no thread reads any more.
    """

    def __init__(
        self,
        file: Any,
        name: str,
        *,
        length: int | None,
        close: Callable[[], None],
        start: int | None = None,
        in_memory: bool = False,
        may_wait: bool = False,
    ) -> None:
        self.length = length
        self._file = file
        self._name = name
        self._close: Callable[[], None] | None = close
        self._start = start
        self._in_memory = in_memory
        self._may_wait = may_wait
        self._read_bytes = 0
        self._ended = length == 0
        self._block = b""  # what was read, of which all from `_at` on is still to be given
        self._at = 0
        self._reading = False
        self._closed = False

    async def next_piece(self) -> bytes:
        check_open(self._closed)
        if self._reading:
            raise trio.BusyResourceError("another task is reading this content")
        if self._at < len(self._block) or self._ended:
            await trio.lowlevel.checkpoint()
            return self._next_of_block()
        self._reading = True
        try:
            if self._in_memory:
                await trio.lowlevel.checkpoint()
                block = self._read()
            else:
                block = await trio.to_thread.run_sync(self._read, abandon_on_cancel=self._may_wait)
        except trio.Cancelled:
            # A thread may still be reading: who reads beside it would get the bytes behind those it brings.
            self._closed = self._closed or self._may_wait
            raise
        finally:
            self._reading = False
            if self._closed:
                self._release()
        check_open(self._closed)
        self._read_bytes += len(block)
        self._ended = not block or self._read_bytes == self.length
        self._block = block
        self._at = 0
        return self._next_of_block()

    def _next_of_block(self) -> bytes:
        piece = self._block[self._at : self._at + PIECE_BYTES]
        self._at += len(piece)
        return piece

    def _read(self) -> bytes:
        """Return the next block; see that there is not more or less than was promised. Maybe in a thread."""
        if self._start is not None:
            # The position is the caller's, who may have moved it since it was looked at.
            self._file.seek(self._start)
            self._start = None
        if self.length is None:
            return self._read_once(PIECE_BYTES)
        left = self.length - self._read_bytes
        # With the last block one byte is asked for that should not be there.
        wanted = left + 1 if left <= _BLOCK_BYTES else _BLOCK_BYTES
        pieces: list[bytes] = []
        while wanted and (piece := self._read_once(wanted)):
            pieces.append(piece)
            wanted -= len(piece)
        data = b"".join(pieces)
        if len(data) > left:
            raise InvalidRequest(
                f"the file {self._name} has grown while it was sent: it had {self.length} bytes, "
                "now it has more"
            )
        if wanted and len(data) < left:
            raise InvalidRequest(
                f"the file {self._name} has shrunk while it was sent: it had {self.length} bytes, "
                f"now it ends after {self._read_bytes + len(data)}"
            )
        return data

    def _read_once(self, size: int) -> bytes:
        data = self._file.read(size)
        if data is None:
            raise InvalidRequest(
                f"the file {self._name} is in non-blocking mode and has nothing to read, expected one that "
                "waits: give a trio.lowlevel.FdStream"
            )
        return as_bytes(data)

    async def aclose(self) -> None:
        self._closed = True
        self._block = b""
        if not self._reading:  # else who reads does it
            self._release()
        await trio.lowlevel.checkpoint()

    def _release(self) -> None:
        # In this thread: to close what was only read never waits for a disk.
        if self._close is not None:
            close, self._close = self._close, None
            close()


def _name_of(file: Any) -> str:
    name = getattr(file, "name", None)
    return type(file).__name__ if name is None else repr(name)


def _can(file: Any, ability: str, *, default: bool) -> bool:
    ask = getattr(file, ability, None)
    return default if ask is None else bool(ask())
