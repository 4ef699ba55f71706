"""A whole response: what a handler returns, and what `Client.get` gives."""

from __future__ import annotations

import inspect
import json as jsonlib
from typing import Any, Final

from trio_http import wire

from ._charset import decode_text
from ._headers import FieldsInput, Headers, as_wire_headers

_UNSET: Final[Any] = object()

_TEXT: Final = Headers({"Content-Type": "text/plain; charset=utf-8"})
_HTML: Final = Headers({"Content-Type": "text/html; charset=utf-8"})
_JSON: Final = Headers({"Content-Type": "application/json"})
_NONE: Final = Headers()


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
