"""Recorded exchanges as data, and how they stand in a file that people read, compare and mend by hand.

A file is JSON in UTF-8. A field line is one string, as it is in HTTP. Content that is text is a list of its
lines; other content is base64, 76 characters a line as in MIME (RFC 2045 §6.8). What is empty is left out.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import attrs

from trio_http import wire
from trio_http.messages import Headers

_FORM: Final = "trio-http recording 1"

# What no text has, and no editor shows.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BASE64_LINE: Final = 76

_Object: TypeAlias = Mapping[str, Any]


@attrs.frozen(kw_only=True)
class RecordedRequest:
    """A request as it came.

    Attributes:
      method: as written.
      host: the value of its Host field; empty without one.
      target: the request target as written.
      headers: its end-to-end fields, without Host and Content-Length. Redacted in a recording.
      content: whole, without its framing.
    """

    method: str
    host: str
    target: str
    headers: Headers = attrs.field(factory=Headers)
    content: bytes = b""

    def __str__(self) -> str:
        what = f"{self.method} {self.target} of {self.host or 'no host'}"
        if not self.content:
            return f"{what}, no content"
        shown = repr(self.content[:60]) + ("..." if len(self.content) > 60 else "")
        return f"{what}, {len(self.content)} bytes of content: {shown}"


@attrs.frozen(kw_only=True)
class RecordedResponse:
    """A response as it came.

    Attributes:
      status, reason: of its head; None for the status's own phrase.
      headers: its end-to-end fields, without Content-Length but in the answers to HEAD and the 304. Redacted
        in a recording.
      content: whole, without its framing.
      trailers: its trailer section.
    """

    status: int
    reason: str | None = None
    headers: Headers = attrs.field(factory=Headers)
    content: bytes = b""
    trailers: Headers = attrs.field(factory=Headers)


@attrs.frozen(kw_only=True)
class RecordedExchange:
    """A request and its response."""

    request: RecordedRequest
    response: RecordedResponse


# -------------------------------------------------------------------------------------------------- writing


def as_json(exchanges: Iterable[RecordedExchange]) -> str:
    """Return exchanges as the text of a file."""
    document = {"form": _FORM, "exchanges": [_exchange_object(exchange) for exchange in exchanges]}
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _exchange_object(exchange: RecordedExchange) -> _Object:
    request, response = exchange.request, exchange.response
    return {
        "request": {
            "method": request.method,
            "host": request.host,
            "target": request.target,
            **_fields_member("headers", request.headers),
            **_content_member(request.content),
        },
        "response": {
            "status": response.status,
            **({} if response.reason is None else {"reason": response.reason}),
            **_fields_member("headers", response.headers),
            **_content_member(response.content),
            **_fields_member("trailers", response.trailers),
        },
    }


def _fields_member(name: str, fields: Headers) -> _Object:
    lines = [f"{key.decode('latin-1')}: {value.decode('latin-1')}" for key, value in fields.raw]
    return {name: lines} if lines else {}


def _content_member(content: bytes) -> _Object:
    if not content:
        return {}
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if _CONTROLS.search(text) is None:
        return {"text": text.splitlines(keepends=True)}
    code = base64.b64encode(content).decode("ascii")
    return {"base64": [code[at : at + _BASE64_LINE] for at in range(0, len(code), _BASE64_LINE)]}


# -------------------------------------------------------------------------------------------------- reading


def from_json(text: str) -> list[RecordedExchange]:
    """Return the exchanges of a file's text.

    Raises:
      ValueError: it is no recording; the text says where.
    """
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise ValueError(f"a recording is JSON, and this is not: {exc}") from exc
    if not isinstance(document, dict) or document.get("form") != _FORM:
        raise ValueError(f'a recording is an object with "form": "{_FORM}"')
    exchanges = _member(document, "exchanges", list, "the recording")
    return [_exchange_of(each, f"exchange {number}") for number, each in enumerate(exchanges, start=1)]


def _exchange_of(found: Any, where: str) -> RecordedExchange:
    if not isinstance(found, dict):
        raise ValueError(f"{where} must be an object, not {found!r}")
    request = _member(found, "request", dict, where)
    response = _member(found, "response", dict, where)
    at, then = f"the request of {where}", f"the response of {where}"
    return RecordedExchange(
        request=RecordedRequest(
            method=_member(request, "method", str, at),
            host=_member(request, "host", str, at),
            target=_member(request, "target", str, at),
            headers=_fields_of(request, "headers", at),
            content=_content_of(request, at),
        ),
        response=RecordedResponse(
            status=_status_of(response, then),
            reason=_member(response, "reason", str, then) if "reason" in response else None,
            headers=_fields_of(response, "headers", then),
            content=_content_of(response, then),
            trailers=_fields_of(response, "trailers", then),
        ),
    )


def _member(found: _Object, name: str, kind: type, where: str) -> Any:
    value = found.get(name)
    if not isinstance(value, kind):
        raise ValueError(f'{where} must have "{name}" with a {kind.__name__}, not {value!r}')
    return value


def _status_of(found: _Object, where: str) -> int:
    status: int = _member(found, "status", int, where)
    if not 200 <= status <= 999:
        raise ValueError(f'{where} must have "status" with 200-999, not {status}')
    return status


def _lines(found: _Object, name: str, where: str) -> list[str]:
    lines: list[str] = _member(found, name, list, where)
    if not all(isinstance(line, str) for line in lines):
        raise ValueError(f'{where} must have "{name}" with a list of str, not {lines!r}')
    return lines


def _fields_of(found: _Object, name: str, where: str) -> Headers:
    if name not in found:
        return Headers()
    pairs = []
    for line in _lines(found, name, where):
        key, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f'{where} has the field line {line!r}, expected "name: value"')
        pairs.append((key, value.strip(" ")))
    try:
        return Headers(pairs)
    except (wire.LocalProtocolError, UnicodeEncodeError) as exc:
        raise ValueError(f"{where} has a malformed field: {exc}") from exc


def _content_of(found: _Object, where: str) -> bytes:
    if "text" in found and "base64" in found:
        raise ValueError(f'{where} must have "text" or "base64", not both')
    if "text" in found:
        return "".join(_lines(found, "text", where)).encode("utf-8")
    if "base64" not in found:
        return b""
    try:
        return base64.b64decode("".join(_lines(found, "base64", where)), validate=True)
    except ValueError as exc:
        raise ValueError(f'{where} has a malformed "base64": {exc}') from exc
