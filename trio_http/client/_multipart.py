"""Forms with files, ``multipart/form-data`` (RFC 7578).

The names of fields and files are written as browsers write them (WHATWG HTML, "multipart/form-data encoding
algorithm"): in UTF-8, with the three characters that would end them as ``%22``, ``%0D`` and ``%0A``. The
older ways to do it (RFC 2047's and RFC 5987's encodings) are not for forms (RFC 7578 §4.2). In two things we
are not a browser: line ends stay as they are given, and other control characters in a name are refused.
"""

from __future__ import annotations

import contextlib
import mimetypes
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import trio

from trio_http import wire
from trio_http._errors import InvalidRequest
from trio_http.messages import as_wire_headers

from ._content import as_content
from ._content_source import PIECE_BYTES, Content, ContentReader

#: What the two arguments of `Multipart` are. Their values are checked when it is made, and not by type: of a
#: union within a mapping no type checker makes sense when it sees a literal.
FormInput: TypeAlias = "Mapping[str, object] | Iterable[tuple[str, object]]"

# boundary := 0*69<bchars> bcharsnospace (RFC 2046 §5.1.1)
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_TOKEN: Final = re.compile(
    r"[0-9A-Za-z'+_\-.]+"
)  # those of these characters that need no quotes in a parameter

_ESCAPES: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})

# A file without a name would be taken for a field. Precedent for the word: httpx.
_NAMELESS: Final = "upload"

# What a name such as x.tar.gz means as a whole: the file is compressed, whatever is in it.
_COMPRESSED: Final = {"gzip": "application/gzip"}

_OCTETS: Final = "application/octet-stream"


class Multipart(Content):
    """A form of fields and files as ``multipart/form-data``. Files are sent piece by piece; when it is opened
    they all are, so that what is missing is known before anything is sent.

    Args:
      data: the fields: a mapping or pairs of name and value. A value is a str, bytes, a number, a bool, or a
        list of these, which repeats the field.
      files: a mapping or pairs of name and file, after the fields. A file is whatever can be content
        (`as_content`), or ``(filename, content)``, ``(filename, content, content_type)`` or
        ``(filename, content, content_type, headers)``, where a content may be a str and goes out in UTF-8; a
        list of files repeats the name. The filename is that
        of the path or file unless given; with None in its place there is none. Without a content type it is
        guessed by the filename, and ``application/octet-stream`` if nothing can be guessed.
      boundary: what stands between the parts, 1-70 characters of RFC 2046 §5.1.1; it must not occur in them.
        None: 128 random bits.

    Raises:
      InvalidRequest: something cannot be sent so; the text says what.

    Attributes:
      boundary: as it is sent.

    Reference: RFC 7578, RFC 2046 §5.1.
    """

    def __init__(
        self, data: FormInput | None = None, files: FormInput | None = None, *, boundary: str | None = None
    ) -> None:
        # Random enough that it occurs in no file by chance, so that none has to be searched for it.
        self.boundary = secrets.token_hex(16) if boundary is None else _checked(boundary)
        quoted = self.boundary if _TOKEN.fullmatch(self.boundary) else f'"{self.boundary}"'
        self.content_type = f"multipart/form-data; boundary={quoted}"
        self._segments: list[bytes | Content] = []
        self._end_of_last = b""
        for name, value in _pairs("data", data):
            for each in _values(name, value):
                self._add(_disposition(name), b"", each)
        for name, file in _pairs("files", files):
            for each in file if isinstance(file, list) else [file]:
                self._add_file(name, each)
        self._append(self._end_of_last + f"--{self.boundary}--\r\n".encode("ascii"))
        self.repeatable = all(isinstance(each, bytes) or each.repeatable for each in self._segments)

    @property
    def whole(self) -> bytes | None:
        """All of it, if none of it has to be read from anywhere; else None."""
        if len(self._segments) == 1 and isinstance(self._segments[0], bytes):
            return self._segments[0]
        return None

    def _add_file(self, name: str, given: Any) -> None:
        filename, content, content_type, extra = _taken_apart(name, given)
        try:
            if isinstance(content, str) and isinstance(given, tuple):
                content = content.encode()
            content = as_content(content)
            if content_type is None and extra.get(b"content-type") is None:
                told = content.content_type if isinstance(content, Content) else None
                content_type = told or (None if filename is None else _guessed(filename))
            typed = as_wire_headers([] if content_type is None else [("Content-Type", content_type)])
        except (InvalidRequest, wire.LocalProtocolError, UnicodeEncodeError, TypeError) as exc:
            raise InvalidRequest(f"file {name!r} of a form: {exc}") from exc
        fields = b"".join(b"%s: %s\r\n" % pair for pair in (*typed.raw_items(), *extra.raw_items()))
        self._add(_disposition(name, filename), fields, content)

    def _add(self, disposition: bytes, fields: bytes, content: bytes | Content) -> None:
        delimiter = f"--{self.boundary}\r\n".encode("ascii")
        self._append(
            self._end_of_last + delimiter + b"Content-Disposition: %s\r\n%s\r\n" % (disposition, fields)
        )
        self._append(content)
        self._end_of_last = b"\r\n"

    def _append(self, segment: bytes | Content) -> None:
        # What can be is joined, so that a form of many small fields goes out at once.
        if isinstance(segment, bytes) and self._segments and isinstance(last := self._segments[-1], bytes):
            self._segments[-1] = last + segment
        else:
            self._segments.append(segment)

    async def open(self) -> ContentReader:
        """Open all files, as `Content.open`.

        Cancellation: nothing is left open.
        """
        segments: list[bytes | ContentReader] = []
        async with contextlib.AsyncExitStack() as stack:
            for segment in self._segments:
                if isinstance(segment, bytes):
                    segments.append(segment)
                else:
                    segments.append(await stack.enter_async_context(await segment.open()))
            return _MultipartReader(segments, stack.pop_all())
        raise AssertionError("an exit stack without callbacks swallows nothing")


class _MultipartReader(ContentReader):
    """Gives the segments one after the other.

    Args:
      segments: bytes, and readers of files.
      stack: closes the readers.
    """

    def __init__(self, segments: list[bytes | ContentReader], stack: contextlib.AsyncExitStack) -> None:
        lengths = [len(each) if isinstance(each, bytes) else each.length for each in segments]
        known = [each for each in lengths if each is not None]
        self.length = sum(known) if len(known) == len(lengths) else None
        self._stack = stack
        self._left = segments[::-1]
        self._at = 0
        self._closed = False

    async def next_piece(self) -> bytes:
        if self._closed:
            raise trio.ClosedResourceError("this content was closed")
        while self._left:
            segment = self._left[-1]
            if isinstance(segment, bytes):
                await trio.lowlevel.checkpoint()
                piece = segment[self._at : self._at + PIECE_BYTES]
                self._at += len(piece)
                if self._at == len(segment):
                    self._left.pop()
                    self._at = 0
                return piece
            if piece := await segment.next_piece():
                return piece
            self._left.pop()
            # As soon as it can be: the rest may take long.
            await segment.aclose()
        await trio.lowlevel.checkpoint()
        return b""

    async def aclose(self) -> None:
        self._closed = True
        await self._stack.aclose()
        await trio.lowlevel.checkpoint()


def _checked(boundary: str) -> str:
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequest(
            f"malformed boundary {boundary[:80]!r}, expected 1-70 characters of RFC 2046 §5.1.1: letters, "
            "digits, '()+_,-./:=? and spaces, not at the end"
        )
    return boundary


def _pairs(what: str, given: Any) -> list[tuple[str, Any]]:
    """Return ``data`` or ``files`` as pairs."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        given = given.items()
    elif isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidRequest(f"{what} is of type {type(given).__name__}, expected a mapping or pairs")
    pairs = []
    for pair in given:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise InvalidRequest(f"{what} has the entry {pair!r:.60}, expected a pair of a str and its value")
        pairs.append((pair[0], pair[1]))
    return pairs


def _values(name: str, given: Any) -> list[bytes]:
    """Return the values of one field."""
    # What can be read is a file, though Python would give its lines.
    several = (
        isinstance(given, Iterable)
        and not isinstance(given, str | bytes | bytearray | memoryview | Mapping)
        and not hasattr(given, "read")
    )
    return [_value(name, each) for each in (given if several else [given])]


def _value(name: str, value: object) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, bool):
        return b"true" if value else b"false"  # as in forms that are not multipart
    if isinstance(value, int | float):
        return str(value).encode("ascii")
    if isinstance(value, str):
        return _utf_8(f"field {name!r}", value)
    raise InvalidRequest(
        f"field {name!r} of a form is {value!r:.60}, expected a str, bytes, a number, a bool, or a list of "
        "these; files go into files="
    )


def _taken_apart(name: str, given: Any) -> tuple[str | None, Any, str | None, wire.Headers]:
    """Return filename, content, content type and further header fields of one file."""
    if not isinstance(given, tuple):
        return _filename_of(given), given, None, as_wire_headers(None)
    if not 2 <= len(given) <= 4:
        raise InvalidRequest(
            f"file {name!r} of a form is a tuple of {len(given)}, expected (filename, content), and then a "
            "content_type, and then headers"
        )
    filename, content, content_type, headers = (*given, None, None)[:4]
    if filename is not None and not isinstance(filename, str):
        raise InvalidRequest(
            f"file {name!r} of a form has the filename {filename!r:.60}, expected a str or None"
        )
    try:
        extra = as_wire_headers(headers)
    except (wire.LocalProtocolError, UnicodeEncodeError, TypeError) as exc:
        raise InvalidRequest(f"file {name!r} of a form has header fields that cannot be sent: {exc}") from exc
    if extra.get(b"content-disposition") is not None:
        raise InvalidRequest(
            f"file {name!r} of a form has a Content-Disposition, expected none: it is made here"
        )
    if content_type is not None and extra.get(b"content-type") is not None:
        raise InvalidRequest(f"file {name!r} of a form has two content types, expected one")
    return filename, content, content_type, extra


def _filename_of(content: Any) -> str:
    """Return the last part of the name of a path or file."""
    if isinstance(content, os.PathLike):
        return os.path.basename(os.fsdecode(content))
    name = getattr(content, "name", None)
    # A file that has only a descriptor is named by a number, and standard input "<stdin>".
    if isinstance(name, str) and not name.startswith("<"):
        return os.path.basename(name) or _NAMELESS
    return _NAMELESS


def _guessed(filename: str) -> str:
    # As an absolute path: what begins like "data:" would be taken for a URL.
    guess, coding = mimetypes.guess_type(f"/{filename}")
    if coding is not None:
        return _COMPRESSED.get(coding, _OCTETS)
    return guess or _OCTETS


def _disposition(name: str, filename: str | None = None) -> bytes:
    """Return the value of a part's Content-Disposition.

    Raises:
      InvalidRequest: a name cannot be in a header field.
    """
    value = b'form-data; name="%s"' % _utf_8(f"the name {name!r}", name.translate(_ESCAPES))
    if filename is not None:
        value += b'; filename="%s"' % _utf_8(f"the filename {filename!r}", filename.translate(_ESCAPES))
    try:
        as_wire_headers([(b"Content-Disposition", value)])
    except wire.LocalProtocolError as exc:
        raise InvalidRequest(f"a form has a name with control characters: {exc}") from exc
    return value


def _utf_8(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"{what} of a form cannot be encoded in UTF-8: {exc}") from exc
