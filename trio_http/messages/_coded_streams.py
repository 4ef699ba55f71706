"""One coded stream undone in steps, for each coding.

Theory of operation
===================

All have one method, ``decode(data)``, with one rule: it returns the next bytes of output, at most about
`STEP_BYTES`, and only when it has returned ``b""`` has it used up all that it was given. So whoever drives
it calls ``decode(b"")`` until that comes, and only then gives it more. Nobody holds more than one step of
output, whatever the input grows to.

The libraries bound their output in different ways:

- zlib (gzip, deflate) and Python's own zstd take an upper bound with each call;
- brotli has a limit that it may overshoot by part of its own buffer (98 KiB came for 64);
- `zstandard` has none: it decodes all that it is given. But a zstd block never holds more than 128 KiB (RFC
  8878 §3.1.1.2.4), and says at its start how long it is. So `ZstdBlocks` follows the frames and hands out one
  block at a time. It needs to know them anyway, because that library does not tell whether a frame is
  complete when its last bytes are still missing.

A coded stream says itself where it ends. ``complete`` tells whether it has: content that merely stops is not
the whole. gzip and zstd allow another member or frame behind the end; brotli and deflate allow nothing.
"""

from __future__ import annotations

import zlib
from typing import Any, Final, Literal, Protocol, TypeAlias

from ._content_coding import ContentCodingError, brotli_module, zstd_module

#: How much output one step makes. As much as a receive brings, so that content which hardly shrinks comes in
#: one step.
STEP_BYTES: Final = 65536

#: The largest zstd window, in bytes, that is decoded: a sender must not use more (RFC 9659 §3).
ZSTD_WINDOW_LOG: Final = 23

# zlib's `wbits`: the largest window, and which wrapping to expect around the deflate stream.
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class CodedStream(Protocol):
    """What the classes below have in common.

    Attributes:
      frames: how many members (gzip) or frames (zstd) have begun: each costs time, even an empty one. Empty
        blocks (zstd) count, too, where they are taken one by one.
    """

    frames: int

    def decode(self, data: bytes) -> bytes:
        """Return the next output, about `STEP_BYTES` at most; ``b""``: all that was given is used up.

        Args:
          data: more of the coded stream. Only the last call's ``b""`` allows any.

        Raises:
          ContentCodingError: it is malformed.
        """

    @property
    def complete(self) -> bool:
        """It could end here: what was begun is finished."""


class GzipStream:
    """``gzip``: members one behind the other (RFC 1952 §2.2), and then maybe zeros, with which some writers
    fill a block."""

    __slots__ = ("_inflate", "_padded", "_rest", "frames")

    def __init__(self) -> None:
        self.frames = 0
        self._inflate: zlib._Decompress | None = None  # None: between two members
        self._rest = b""
        self._padded = False

    def decode(self, data: bytes) -> bytes:
        data = data or self._rest
        while True:
            if self._inflate is None:
                if data and not self._begins(data):
                    data = b""
                if not data:
                    self._rest = b""
                    return b""
                self._inflate = zlib.decompressobj(_GZIP)
                self.frames += 1
            output = _inflated("gzip", self._inflate, data)
            if self._inflate.eof:
                data = self._inflate.unused_data
                self._inflate = None
            else:
                data = self._inflate.unconsumed_tail
            if output or (self._inflate is not None and not data):
                self._rest = data
                return output

    def _begins(self, data: bytes) -> bool:
        """Tell whether ``data`` begins a member; else it is padding."""
        if not self.frames:
            return True  # zlib says what is wrong with it
        if not data.strip(b"\0"):
            self._padded = True
            return False
        if self._padded or data[0] != 0x1F:  # ID1 of a member's header, RFC 1952 §2.3.1
            raise ContentCodingError("gzip", "bytes that begin no member follow its end")
        return True

    @property
    def complete(self) -> bool:
        return self.frames > 0 and self._inflate is None


class DeflateStream:
    """``deflate``: a deflate stream within zlib's format (RFC 9110 §8.4.1.2); or without, as some servers
    send it and all browsers take it."""

    __slots__ = ("_inflate", "_rest", "frames")

    def __init__(self) -> None:
        self.frames = 0
        self._inflate: zlib._Decompress | None = None  # None: the first two bytes are not here yet
        self._rest = b""

    def decode(self, data: bytes) -> bytes:
        data = self._rest + data  # one of them is empty, but for the first two bytes
        if self._inflate is None:
            if len(data) < 2:
                self._rest = data
                return b""
            self._inflate = zlib.decompressobj(_ZLIB if _is_zlib_header(data) else _RAW)
            self.frames = 1
        while True:
            if self._inflate.eof:
                if data:
                    raise ContentCodingError("deflate", "bytes follow its end")
                return b""
            output = _inflated("deflate", self._inflate, data)
            data = self._inflate.unconsumed_tail or self._inflate.unused_data  # the latter only at the end
            if output or not data:
                self._rest = data
                return output

    @property
    def complete(self) -> bool:
        return self._inflate is not None and self._inflate.eof


def _is_zlib_header(data: bytes) -> bool:
    """Tell zlib's CMF and FLG (RFC 1950 §2.2) from the start of a bare deflate stream.

    One that looks the same would be a stored block, not the last, with other than zeros in its padding: no
    encoder writes that.
    """
    return data[0] & 0x0F == 8 and data[0] >> 4 <= 7 and (data[0] << 8 | data[1]) % 31 == 0


def _inflated(coding: str, inflate: zlib._Decompress, data: bytes) -> bytes:
    try:
        return inflate.decompress(data, STEP_BYTES)
    except zlib.error as exc:
        raise ContentCodingError(coding, f"it is malformed: {exc}") from exc


class BrotliStream:
    """``br`` (RFC 7932)."""

    __slots__ = ("_decompressor", "_error", "frames")

    def __init__(self) -> None:
        brotli: Any = brotli_module()
        self._error = brotli.error
        self._decompressor = brotli.Decompressor()
        self.frames = 1

    def decode(self, data: bytes) -> bytes:
        if self._decompressor.is_finished():
            if data:
                raise ContentCodingError("br", "bytes follow its end")
            return b""
        try:
            output: bytes = self._decompressor.process(data, output_buffer_limit=STEP_BYTES)
        except self._error as exc:
            raise ContentCodingError("br", "it is malformed, or bytes follow its end") from exc
        return output

    @property
    def complete(self) -> bool:
        finished: bool = self._decompressor.is_finished()
        return finished


class ZstdFrames:
    """``zstd`` (RFC 8878) by Python's own module or its backport, which bound their output themselves."""

    __slots__ = ("_frame", "_rest", "_zstd", "frames")

    def __init__(self, zstd: Any) -> None:
        self._zstd = zstd
        self.frames = 0
        self._frame: Any = None  # None: between two frames
        self._rest = b""

    def decode(self, data: bytes) -> bytes:
        data = data or self._rest
        while True:
            if self._frame is None:
                if not data:
                    self._rest = b""
                    return b""
                options = {self._zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
                self._frame = self._zstd.ZstdDecompressor(options=options)
                self.frames += 1
            try:
                output: bytes = self._frame.decompress(data, STEP_BYTES)
            except self._zstd.ZstdError as exc:
                raise ContentCodingError("zstd", f"it is malformed: {exc}") from exc
            data = b""
            if self._frame.eof:
                data = self._frame.unused_data
                self._frame = None
            if output or self._frame is not None:
                self._rest = data
                return output

    @property
    def complete(self) -> bool:
        return self.frames > 0 and self._frame is None


_Part: TypeAlias = Literal[
    "magic", "skip size", "skip", "descriptor", "header", "block", "content", "checksum"
]


class ZstdBlocks:
    """``zstd`` (RFC 8878) by `zstandard`, which is given one block at a time.

    Each part of a frame either has a fixed length and is gathered until it is whole, or is passed on as it
    comes, ``_left`` bytes of it.
    """

    __slots__ = (
        "_checksum",
        "_decompressor",
        "_error",
        "_frame",
        "_gathered",
        "_last",
        "_left",
        "_need",
        "_part",
        "_rest",
        "frames",
    )

    def __init__(self, zstandard: Any) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << ZSTD_WINDOW_LOG)
        self._error = zstandard.ZstdError
        self.frames = 0
        self._frame: Any = None  # None: between two frames, or in one that is skipped
        self._part: _Part = "magic"
        self._need = 4  # the length of a part that is gathered
        self._gathered = b""
        self._left = 0  # what is still to come of a part that is passed on
        self._last = False  # this block is the frame's last
        self._checksum = False  # the frame ends with one
        self._rest = b""

    def decode(self, data: bytes) -> bytes:
        data = data or self._rest
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._passed()
            else:
                more = data[at : at + self._need - len(self._gathered)]
                at += len(more)
                self._gathered += more
                if len(self._gathered) < self._need:
                    break
                piece = self._gathered
                self._gathered = b""
                self._parse(piece)
            if self._frame is not None and (output := self._decoded(piece)):
                self._rest = data[at:]
                return output
        self._rest = b""
        return b""

    def _decoded(self, piece: bytes) -> bytes:
        """Give a part of the frame to the library; at most one block comes out of it."""
        try:
            output: bytes = self._frame.decompress(piece)
        except self._error as exc:
            raise ContentCodingError("zstd", f"it is malformed: {exc}") from exc
        if self._part == "magic":  # that was the frame's last part
            if not self._frame.eof:
                raise ContentCodingError("zstd", "it is malformed: a frame does not end with its last block")
            self._frame = None
        return output

    def _parse(self, piece: bytes) -> None:
        """Take a gathered part, and say what comes next."""
        number = int.from_bytes(piece, "little")
        match self._part:
            case "magic":  # RFC 8878 §3.1.1 and §3.1.2
                self.frames += 1
                if number & 0xFFFFFFF0 == 0x184D2A50:
                    self._expect("skip size", 4)
                else:  # another number than 0xFD2FB528 is the library's to refuse
                    self._frame = self._decompressor.decompressobj()
                    self._expect("descriptor", 1)
            case "skip size":
                self._part = "skip"
                self._left = number
                if not number:
                    self._passed()
            case "descriptor":  # §3.1.1.1.1
                single_segment = number >> 5 & 1
                self._checksum = bool(number >> 2 & 1)
                window = 1 - single_segment
                dictionary_id = (0, 1, 2, 4)[number & 3]
                content_size = (single_segment, 2, 4, 8)[number >> 6]
                self._expect("header", window + dictionary_id + content_size)
            case "header":
                self._expect("block", 3)
            case "block":  # §3.1.1.2; a block of the reserved type 3 is the library's to refuse
                self._last = bool(number & 1)
                self._part = "content"
                self._left = 1 if number >> 1 & 3 == 1 else number >> 3  # 1: one byte, to be repeated
                if not self._left:
                    if not self._last:  # some writers end a frame so
                        self.frames += 1
                    self._passed()
            case _:  # the checksum, §3.1.1
                self._expect("magic", 4)

    def _passed(self) -> None:
        """Say what comes behind a part that was passed on."""
        if self._part == "content" and not self._last:
            self._expect("block", 3)
        elif self._part == "content" and self._checksum:
            self._expect("checksum", 4)
        else:
            self._expect("magic", 4)

    def _expect(self, part: _Part, length: int) -> None:
        self._part = part
        self._need = length

    @property
    def complete(self) -> bool:
        return self.frames > 0 and self._part == "magic" and not self._gathered


def coded_stream(coding: str) -> CodedStream:
    """Return what undoes ``coding``, one of `supported_codings`."""
    match coding:
        case "gzip":
            return GzipStream()
        case "deflate":
            return DeflateStream()
        case "br":
            return BrotliStream()
        case _:
            zstd: Any = zstd_module()
            bounded = not hasattr(zstd.ZstdDecompressor, "decompressobj")
            return ZstdFrames(zstd) if bounded else ZstdBlocks(zstd)
