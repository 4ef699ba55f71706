"""A whole response: what a handler returns, and what `Client.get` gives."""

from __future__ import annotations

import codecs
import encodings
import encodings.aliases
import encodings.utf_16
import encodings.utf_32
import functools
import inspect
import json as jsonlib
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from trio_http import wire

from ._headers import FieldsInput, Headers, as_wire_headers

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: A charset, or a function that finds one for a content; None: it finds none.
CharsetChoice: TypeAlias = "str | Callable[[bytes], str | None]"

_UNSET: Final[Any] = object()

_TEXT: Final = Headers({"Content-Type": "text/plain; charset=utf-8"})
_HTML: Final = Headers({"Content-Type": "text/html; charset=utf-8"})
_JSON: Final = Headers({"Content-Type": "application/json"})
_NONE: Final = Headers()

# One parameter of a media type (RFC 9110 §5.6.6), which may also be missing between two semicolons.
_PARAMETER: Final = re.compile(r'[ \t]*;[ \t]*(?:([^\s;=",]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;",]*)))?')


class Response:
    """A response whose content is here as a whole.

    Args:
      status: 200-999 to be sent (RFC 9110 §15).
      content: the content as bytes. At most one of ``content``, ``text``, ``html`` and ``json`` may be given.
      text, html: content as text, sent in UTF-8 with the Content-Type that says so.
      json: content as an object for `json.dumps`, with the Content-Type that says so.
      headers: header fields; a Content-Type there is not replaced.
      reason: the reason phrase; None for the registered one.
      trailers: a trailer section that was received.

    Raises:
      TypeError: more than one content, or one of another type; an object that JSON cannot hold; a status that
        is no int.
      ValueError: a status outside 200-999 (an interim response is sent by `Request.send_informational`), or a
        204 or 304 with content.
      trio_http.wire.LocalProtocolError: illegal header fields.

    Attributes:
      status, reason, headers, content, trailers: as given.
    """

    __slots__ = ("content", "headers", "reason", "status", "trailers")

    def __init__(
        self,
        status: int = 200,
        content: bytes | None = None,
        *,
        text: str | None = None,
        html: str | None = None,
        json: Any = _UNSET,
        headers: FieldsInput | None = None,
        reason: str | None = None,
        trailers: Headers = _NONE,
    ) -> None:
        if text is not None and content is None and html is None and json is _UNSET:
            implied = _TEXT  # the usual one; what follows would come to the same
            try:
                content = text.encode()
            except AttributeError:
                raise _wrong_type("text", "a str", text) from None
        else:
            content, implied = _content_of(content, text, html, json)
        try:
            is_final = 200 <= status <= 999
        except TypeError:
            raise _wrong_type("status", "an int", status) from None
        if not is_final:
            raise ValueError(f"a response has a status of 200-999, not {status}")
        if content and (status == 204 or status == 304):
            raise ValueError(f"a response with status {status} has no content, got {len(content)} bytes")
        self.status = status
        self.content = content
        if headers is None:
            self.headers = implied
        else:
            fields = as_wire_headers(headers)
            if implied is not _NONE and fields.get(b"content-type") is None:
                fields = wire.Headers([*fields.raw_items(), *implied.raw])
            self.headers = Headers._wrap(fields)
        self.reason = reason
        self.trailers = trailers

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.content)} bytes>"

    @property
    def text(self) -> str:
        """The content as text, by the charset of the Content-Type; UTF-8 without one. Malformed bytes become
        U+FFFD."""
        return decode_text(self.content, self.headers)

    def json(self) -> Any:
        """Return the content as JSON.

        Raises:
          ValueError: it is no JSON (RFC 8259), or nested some thousand levels deep.
        """
        try:
            return jsonlib.loads(self.content)
        except RecursionError as exc:
            raise ValueError("this JSON is nested too deeply to be read") from exc
        except ValueError as exc:
            # Mostly it is a page that says in HTML what went wrong, and the parser tells nothing of that.
            kind = self.headers.get("content-type") or "no Content-Type"
            exc.add_note(f"This is no JSON: status {self.status}, {kind}, {self.content[:100]!r}")
            raise


def _content_of(
    content: bytes | None, text: str | None, html: str | None, json: Any
) -> tuple[bytes, Headers]:
    """Return the one content that was given, and the fields that it implies."""
    if (content is not None) + (text is not None) + (html is not None) + (json is not _UNSET) > 1:
        raise TypeError("give at most one of content, text, html and json")
    if content is not None:
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise _wrong_type("content", "bytes", content, "; for text there is text=")
        return bytes(content), _NONE
    if json is not _UNSET:
        try:
            return jsonlib.dumps(json, ensure_ascii=False, separators=(",", ":")).encode(), _JSON
        except TypeError as exc:
            if inspect.iscoroutine(json):
                raise _wrong_type("json", "an object for json.dumps", json) from None
            raise TypeError(f"json must be what JSON can hold: {exc}") from exc
    if html is not None:
        if not isinstance(html, str):
            raise _wrong_type("html", "a str", html)
        return html.encode(), _HTML
    if text is not None:
        if not isinstance(text, str):
            raise _wrong_type("text", "a str", text)
        return text.encode(), _TEXT
    return b"", _NONE


def _wrong_type(name: str, expected: str, got: object, hint: str = "") -> TypeError:
    """Return the error of an argument that is of another type."""
    if inspect.iscoroutine(got):
        got.close()  # or Python warns that it was never awaited, at some later time and place
        hint = f": is an await missing before {got.__name__}()?"
    return TypeError(f"{name} must be {expected}, not {type(got).__name__}{hint}")


# Codecs that Python has, and that are no charsets. The sender chooses the charset, and `punycode` takes
# quadratic time: 600 kB of it would stop the program for a minute. So does `utf_7` where it is decoded piece
# by piece: its decoder keeps all of a run of Base64, and begins it anew with each piece. Browsers know none
# of them (WHATWG Encoding §4.2).
_NO_CHARSETS: Final = frozenset(
    ["idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape", "utf_7"]
)

# The longest name of a charset (RFC 2978 §2.3).
_MAX_CHARSET: Final = 40


def decode_text(content: bytes, headers: Headers, default: CharsetChoice = "utf-8") -> str:
    """Return ``content`` as text by the charset that ``headers`` name (RFC 9110 §8.3.2).

    Malformed bytes become U+FFFD.

    Args:
      default: the charset where they name none that is known, or what finds it in the content; UTF-8 where
        that is none, either.
    """
    text = _decoded(content, _known_charset(headers))
    if text is None and default != "utf-8":
        text = _decoded(content, default(content) if callable(default) else default)
    return content.decode("utf-8", "replace") if text is None else text


def _decoded(content: bytes, charset: str | None) -> str | None:
    """Return ``content`` decoded; None without a charset, or with one that Python does not know as text's."""
    if charset is None:
        return None
    try:
        if _is_of_text(charset):
            return content.decode(charset, "replace")
    except (LookupError, ValueError):
        pass  # a charset that Python does not know, or a codec that is none for text
    return None


class _UTF16(encodings.utf_16.IncrementalDecoder):
    """Python's, and without a byte order mark as `bytes.decode` has it, where that one raises."""

    def _buffer_decode(self, data: ReadableBuffer, errors: str, final: bool) -> tuple[str, int]:
        try:
            return super()._buffer_decode(data, errors, final)
        except UnicodeError:
            self.decoder = codecs.utf_16_le_decode if sys.byteorder == "little" else codecs.utf_16_be_decode
            return self.decoder(data, errors, final)


class _UTF32(encodings.utf_32.IncrementalDecoder):
    """As `_UTF16`."""

    def _buffer_decode(self, data: ReadableBuffer, errors: str, final: bool) -> tuple[str, int]:
        try:
            return super()._buffer_decode(data, errors, final)
        except UnicodeError:
            self.decoder = codecs.utf_32_le_decode if sys.byteorder == "little" else codecs.utf_32_be_decode
            return self.decoder(data, errors, final)


_BY_MARK: Final[Mapping[str, Callable[[str], codecs.IncrementalDecoder]]] = {
    "utf-16": _UTF16,
    "utf-32": _UTF32,
}


def decoder_of_text(headers: Headers) -> codecs.IncrementalDecoder:
    """Return what decodes content piece by piece, to the same text as `decode_text` all at once."""
    charset = _known_charset(headers)
    if charset is not None:
        try:
            b" ".decode(charset, "replace")  # refuses what is a codec, and none for text
            if _is_of_text(charset):
                return _BY_MARK.get(codecs.lookup(charset).name, codecs.getincrementaldecoder(charset))(
                    "replace"
                )
        except (LookupError, ValueError):
            pass
    return codecs.getincrementaldecoder("utf-8")("replace")


def _is_of_text(charset: str) -> bool:
    """Tell whether a codec is a charset. Raises LookupError for a codec that there is not."""
    return codecs.lookup(charset).name.replace("-", "_") not in _NO_CHARSETS


def _known_charset(headers: Headers) -> str | None:
    """Return the charset that a sender names, if Python has a codec of this name.

    Others are not looked up: for each name that it does not find, Python looks for a file, and remembers that
    there was none, for ever. So a server could fill the memory by naming another charset in each response.
    """
    charset = charset_of(headers)
    if charset is None or len(charset) > _MAX_CHARSET:
        return None
    return charset if encodings.normalize_encoding(charset).lower() in _codecs() else None


@functools.cache
def _codecs() -> frozenset[str]:
    """Return the names of the codecs that Python has, as `encodings.normalize_encoding` writes them."""
    names = {module.name for module in pkgutil.iter_modules(encodings.__path__)}
    # Where the package is in no folder, in a program that was frozen, these are most of them.
    return frozenset(names.union(encodings.aliases.aliases, encodings.aliases.aliases.values()))


def charset_of(headers: Headers) -> str | None:
    """Return the charset parameter of the Content-Type, or None."""
    value = headers.get("content-type")
    if value is None or "charset" not in value.lower():
        return None
    position = value.find(";")
    while position >= 0 and (parameter := _PARAMETER.match(value, position)):
        name, quoted, token = parameter.groups()
        if name is not None and name.lower() == "charset":
            return (token or None) if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = parameter.end()
    return None
