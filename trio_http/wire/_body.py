"""Bodies as they come: one reader for each framing.

A reader takes what the buffer has and returns the next piece: bytes, at least one; ``b""`` once the body is
complete, and again each time; None when the buffer has too little to tell. A read that raises has used
nothing, so it raises again.
"""

from __future__ import annotations

from typing import Final

from ._buffer import ReceiveBuffer
from ._errors import RemoteProtocolError, shown
from ._grammar import CHUNK_EXTENSION, CHUNK_SIZE, CRLF, NO_TRAILER_NAMES
from ._headers import Headers
from ._rules import Rules
from ._section import KnownLines, bare_lf_error, find_bare_lf, parse_fields, refuse_bare_lf, take_section

NO_TRAILERS: Final = Headers()

# A chunk size has at most this many digits; what is longer before any extension is malformed anyway.
_SIZE_DIGITS: Final = 20


class LengthReader:
    """A body of a known length (RFC 9112 §6.2).

    Attributes:
      length: bytes of the whole body, at least 0.
    """

    __slots__ = ("_left", "length")

    chunk_start = False
    chunk_end = False
    chunk_extension = b""
    trailers = NO_TRAILERS

    def __init__(self, length: int) -> None:
        self.length = self._left = length

    def read(self, buffer: ReceiveBuffer) -> bytes | None:
        """Return the next piece; see the module's head."""
        left = self._left
        if not left:
            return b""
        piece = buffer.take(left)
        if not piece:
            if buffer.closed:
                raise RemoteProtocolError(
                    f"the connection ended after {self.length - left} bytes of body, expected {self.length}",
                    section="RFC 9112 §8",
                )
            return None
        self._left = left - len(piece)
        return piece


class CloseDelimitedReader:
    """A body that lasts until the connection ends (RFC 9112 §6.3 step 8). Whether it is whole, nobody can
    tell here."""

    __slots__ = ()

    chunk_start = False
    chunk_end = False
    chunk_extension = b""
    trailers = NO_TRAILERS

    def read(self, buffer: ReceiveBuffer) -> bytes | None:
        """Return the next piece; see the module's head."""
        piece = buffer.take(len(buffer))
        return piece if piece or buffer.closed else None


# Where a `ChunkedReader` stands: before a chunk's size, in its data, before the CRLF behind it, in the
# trailers, at the end.
_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3
_END: Final = 4


class ChunkedReader:
    """A body in the chunked transfer coding (RFC 9112 §7.1).

    Attributes:
      chunk_start, chunk_end: of the piece returned last.
      chunk_extension: of its chunk, raw, when it is the chunk's first piece.
      trailers: the trailer section, once the body is complete.
    """

    __slots__ = (
        "_begun", "_extension", "_extension_bytes", "_left", "_rules", "_stage", "_usual", "_usual_size",
        "chunk_end", "chunk_extension", "chunk_start", "trailers",
    )  # fmt: skip

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._stage = _SIZE
        self._left = 0
        self._begun = False  # a piece of this chunk was returned
        self._extension = b""
        self._extension_bytes = 0
        self._usual = b""  # how the last chunk without extensions began, with the CRLF before it
        self._usual_size = 0  # its size; 0 before the first
        self.chunk_start = False
        self.chunk_end = False
        self.chunk_extension = b""
        self.trailers = NO_TRAILERS

    def read(self, buffer: ReceiveBuffer) -> bytes | None:
        """Return the next piece, which is of one chunk; see the module's head."""
        stage = self._stage
        if stage == _DATA_END:
            # The usual chunk follows another of the same size, without extensions, and is here whole.
            data, pos = buffer.data, buffer.pos
            if self._usual_size and data.startswith(self._usual, pos):
                start = pos + len(self._usual)
                end = start + self._usual_size
                if end <= len(data) and type(data) is bytes:
                    buffer.pos = buffer.scanned = end
                    self.chunk_start = True
                    self.chunk_extension = b""
                    return data[start:end]
        if stage == _DATA_END:
            if not self._take_data_end(buffer):
                self._check_open(buffer)
                return None
            stage = _SIZE
        if stage == _SIZE:
            stage = self._take_size(buffer)
            if stage == _SIZE:
                self._check_open(buffer)
                return None
        if stage == _DATA:
            piece = buffer.take(self._left)
            if not piece:
                self._check_open(buffer)
                return None
            if self._begun:
                self.chunk_start = False
                self.chunk_extension = b""
            else:
                self._begun = self.chunk_start = True
                self.chunk_extension = self._extension
            self._left -= len(piece)
            self.chunk_end = not self._left
            if self.chunk_end:
                self._stage = _DATA_END
            return piece
        if stage == _TRAILERS and not self._take_trailers(buffer):
            self._check_open(buffer)
            return None
        return b""

    def _check_open(self, buffer: ReceiveBuffer) -> None:
        """Refuse to wait for more when no more will come."""
        if buffer.closed:
            raise RemoteProtocolError(
                "the connection ended within a chunked body, expected the last chunk", section="RFC 9112 §8"
            )

    def _take_data_end(self, buffer: ReceiveBuffer) -> bool:
        data, pos = buffer.data, buffer.pos
        if data[pos : pos + 2] == CRLF:
            buffer.skip(2)
        elif self._rules.bare_lf and data[pos : pos + 1] == b"\n":
            buffer.skip(1)
        else:
            here = bytes(data[pos : pos + 2])
            if here and here != b"\r":
                wrong = (
                    here if here[:1] == b"\r" else here[:1]
                )  # as much as decided it, however the bytes were split
                raise RemoteProtocolError(
                    f"{wrong!r} behind the chunk data, expected CRLF", section="RFC 9112 §7.1"
                )
            return False
        self._stage = _SIZE
        return True

    def _take_size(self, buffer: ReceiveBuffer) -> int:
        """Use a chunk's first line and return the stage behind it; `_SIZE` while the line is not here."""
        data, pos = buffer.data, buffer.pos
        allowed = _SIZE_DIGITS + self._rules.limits.max_chunk_extension_bytes - self._extension_bytes
        line_end = data.find(b"\n", buffer.scanned, pos + allowed + 2)
        if line_end < 0:
            if len(data) - pos >= allowed + 2:
                raise self._too_long()
            buffer.scanned = len(data)
            return _SIZE
        line = bytes(data[pos:line_end])
        if line[-1:] == b"\r":
            line = line[:-1]
        elif not self._rules.bare_lf:
            raise bare_lf_error(line + b"\n", "RFC 9112 §7.1")
        size, extension = self._parse_size(line)
        if extension:
            self._extension_bytes += len(extension)
            if self._extension_bytes > self._rules.limits.max_chunk_extension_bytes:
                self._extension_bytes -= len(extension)
                raise self._too_long()
        self._extension = extension
        self._begun = False
        buffer.pos = buffer.scanned = line_end + 1
        self._left = size
        if size and not extension:
            self._usual = b"\r\n%s\r\n" % line
            self._usual_size = size
        self._stage = _DATA if size else _TRAILERS
        return self._stage

    def _parse_size(self, line: bytes) -> tuple[int, bytes]:
        match = CHUNK_SIZE.match(line)
        if match is None:
            raise RemoteProtocolError(
                f"malformed chunk size {shown(line)}, expected hexadecimal digits", section="RFC 9112 §7.1"
            )
        size = int(match[0], 16)
        extension = line[match.end() :]
        if not extension:
            return size, b""
        if self._rules.chunk_size_whitespace:
            extension = extension.rstrip(b" \t")
        if not CHUNK_EXTENSION.fullmatch(extension):
            if extension.lstrip(b" \t")[:1] == b";":
                raise RemoteProtocolError(
                    f"malformed chunk extension in {shown(line)}, expected ;name or ;name=value",
                    section="RFC 9112 §7.1.1",
                )
            raise RemoteProtocolError(
                f"malformed chunk size {shown(line)}, expected at most {_SIZE_DIGITS} hexadecimal digits",
                section="RFC 9112 §7.1",
            )
        return size, extension

    def _too_long(self) -> RemoteProtocolError:
        most = self._rules.limits.max_chunk_extension_bytes
        return RemoteProtocolError(
            f"chunk extensions of more than {most} bytes in one body", section="RFC 9112 §7.1.1"
        )

    def _take_trailers(self, buffer: ReceiveBuffer) -> bool:
        data, pos = buffer.data, buffer.pos
        if data[pos : pos + 2] == CRLF:
            buffer.skip(2)
        elif self._rules.bare_lf and data[pos : pos + 1] == b"\n":
            buffer.skip(1)
        else:
            if len(data) - pos < 2:
                if not self._rules.bare_lf:
                    refuse_bare_lf(buffer, pos + 1)
                return False
            section = take_section(
                buffer, self._rules.limits.max_trailer_bytes, self._rules, _trailers_too_long
            )
            if section is None:
                return False
            end = buffer.pos
            buffer.pos = buffer.scanned = (
                pos  # should the section be refused, the next read has to find it again
            )
            self.trailers = self._parse_trailers(section)
            buffer.pos = buffer.scanned = end
        self._stage = _END
        return True

    def _parse_trailers(self, section: bytes) -> Headers:
        try:
            trailers = parse_fields(section, self._rules, self._rules.limits.max_trailers, KnownLines())
        except RemoteProtocolError as exc:
            raise find_bare_lf(section) or exc from None
        for name, _ in trailers:
            if name in NO_TRAILER_NAMES:
                raise RemoteProtocolError(
                    f"field {name!r} in a trailer section, expected none that frames or routes",
                    section="RFC 9110 §6.5.1",
                )
        return trailers


def _trailers_too_long(section: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"the trailer section does not end within {len(section)} bytes, which are allowed", 431
    )


# For every message without a body: it has no state to share.
NO_BODY: Final = LengthReader(0)

BodyReader = LengthReader | ChunkedReader | CloseDelimitedReader
