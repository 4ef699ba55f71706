"""A request as it will be sent: everything that can be refused is refused here, before a connection is asked
for.
"""

from __future__ import annotations

import functools
import json as jsonlib
from collections.abc import AsyncIterable
from typing import Any, Final, TypeAlias, TypedDict

from trio_http import wire
from trio_http._errors import InvalidRequest
from trio_http.messages import FieldsInput, as_wire_headers

from ._config import ClientConfig
from ._origin import Origin
from ._url import Destination, ParamsInput, URLInput, form_encoded, joined_url, parse_url, with_params

Content: TypeAlias = "bytes | bytearray | memoryview | AsyncIterable[bytes]"

UNSET: Final[Any] = object()

# Repeating them does what doing them once does (RFC 9110 §9.2.2).
_IDEMPOTENT: Final = frozenset([b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
# Methods are case-sensitive (RFC 9110 §9.1), but in lower case the usual ones are meant; the Fetch standard
# does so too.
_METHODS: Final = {
    spelling: method.encode()
    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
    for spelling in (method, method.lower())
}


class RequestOptions(TypedDict, total=False):
    """The keywords of requests without content."""

    params: ParamsInput | None
    headers: FieldsInput | None
    target: str | bytes | None


class ContentOptions(RequestOptions, total=False):
    """The keywords of requests with content."""

    content: Content | None
    json: Any
    data: ParamsInput | None


class RequestPlan:
    """One request, ready to be sent once or, when its content can be had again, twice.

    Attributes:
      method: as it goes out.
      destination: where to.
      target: as it goes out.
      headers: the header section, with Host and framing.
      content: all of it, or what to iterate over.
      expects: the caller wants a 100 (Continue) to be waited for.
    """

    __slots__ = ("content", "destination", "expects", "headers", "method", "target")

    def __init__(
        self,
        method: bytes,
        destination: Destination,
        target: bytes,
        headers: wire.Headers,
        content: bytes | AsyncIterable[bytes],
        expects: bool,
    ) -> None:
        self.method = method
        self.destination = destination
        self.target = target
        self.headers = headers
        self.content = content
        self.expects = expects

    @property
    def origin(self) -> Origin:
        """Where the connection has to lead."""
        return self.destination.origin

    @property
    def url(self) -> str:
        """As the caller wrote it, without the fragment."""
        return self.destination.url

    @property
    def is_repeatable(self) -> bool:
        """To send it a second time does no harm, and is possible."""
        return self.method in _IDEMPOTENT and type(self.content) is bytes


class Planner:
    """Makes plans from what callers say.

    Args:
      config: the User-Agent.
      base_url: what relative URLs are appended to.
      headers: fields of every request that does not say otherwise.

    Raises:
      InvalidRequest: a bad ``base_url``.
      trio_http.wire.LocalProtocolError, UnicodeEncodeError: bad ``headers``.
    """

    def __init__(self, config: ClientConfig, base_url: URLInput | None, headers: FieldsInput | None) -> None:
        self._base_url = None if base_url is None else str(base_url)
        if self._base_url is not None:
            parse_url(self._base_url)
            if "?" in self._base_url or "#" in self._base_url:
                raise InvalidRequest("base_url has a query or a fragment, to which no path can be appended")
        defaults = wire.Headers([(b"User-Agent", config.user_agent), (b"Accept", b"*/*")])
        for name, value in as_wire_headers(headers).raw_items():
            defaults = defaults.replaced(name) if name.lower() in (b"user-agent", b"accept") else defaults
            defaults = wire.Headers([*defaults.raw_items(), (name, value)])
        self._defaults = defaults
        # One section for all plain requests to a host: what is derived from it is derived once.
        self._fields_for = functools.lru_cache(maxsize=256)(self._default_fields)

    def plan(
        self,
        method: str,
        url: URLInput,
        *,
        params: ParamsInput | None = None,
        headers: FieldsInput | None = None,
        target: str | bytes | None = None,
        content: Content | None = None,
        json: Any = UNSET,
        data: ParamsInput | None = None,
    ) -> RequestPlan:
        """Return the plan of one request.

        Raises:
          InvalidRequest: something cannot be sent as it was given.
        """
        text = url if type(url) is str else str(url)
        if self._base_url is not None:
            text = joined_url(self._base_url, text)
        if params is not None:
            text = with_params(text, params)
        destination = parse_url(text)
        body, content_type = _content_of(content, json, data)
        try:
            fields = self._fields_for(destination.host)
            if headers is not None or content_type is not None:
                fields = _merged(fields, as_wire_headers(headers), content_type)
            expects = False
            if type(body) is not bytes and fields.get(b"content-length") is None:
                fields = fields.replaced(b"Transfer-Encoding", b"chunked")
            if headers is not None or self._defaults.get(b"expect") is not None:
                expects = fields.by_name.get(b"expect", b"").lower() == b"100-continue"
        except (wire.LocalProtocolError, UnicodeEncodeError) as exc:
            raise InvalidRequest(f"header fields that cannot be sent: {exc}") from exc
        if expects and body == b"":
            raise InvalidRequest("Expect: 100-continue without content to wait with (RFC 9110 §10.1.1)")
        name = _METHODS.get(method) or _method_of(method)
        return RequestPlan(
            name,
            destination,
            destination.target if target is None else _target_of(target),
            fields,
            body,
            expects,
        )

    def _default_fields(self, host: bytes) -> wire.Headers:
        if self._defaults.get(b"host") is not None:
            return self._defaults
        return wire.Headers([(b"Host", host), *self._defaults.raw_items()])


def _merged(defaults: wire.Headers, given: wire.Headers, content_type: bytes | None) -> wire.Headers:
    """Return the default fields that are not given otherwise, and then those that are."""
    pairs = [pair for pair in defaults.raw_items() if pair[0].lower() not in given.by_name]
    pairs += given.raw_items()
    if content_type is not None and given.get(b"content-type") is None:
        pairs.append((b"Content-Type", content_type))
    return wire.Headers(pairs)


def _content_of(
    content: Content | None, json: Any, data: ParamsInput | None
) -> tuple[bytes | AsyncIterable[bytes], bytes | None]:
    """Return the content and the Content-Type that goes with it."""
    if content is None and json is UNSET and data is None:
        return b"", None
    if (content is not None) + (json is not UNSET) + (data is not None) > 1:
        raise InvalidRequest("give at most one of content, json and data")
    if json is not UNSET:
        try:
            text = jsonlib.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise InvalidRequest(f"json cannot be encoded: {exc}") from exc
        return text.encode(), b"application/json"
    if data is not None:
        return form_encoded(data).encode(), b"application/x-www-form-urlencoded"
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content), None
    if isinstance(content, AsyncIterable):
        return content, None
    raise InvalidRequest(f"content is bytes or an async iterable of bytes, not {type(content).__name__}")


def _method_of(method: str) -> bytes:
    if method.upper() == "CONNECT":
        raise InvalidRequest(
            "CONNECT opens a tunnel (RFC 9110 §9.3.6), which is not a request with a response"
        )
    try:
        return method.encode("ascii")
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"malformed method {method!r}, expected a token (RFC 9110 §9.1)") from exc


def _target_of(target: str | bytes) -> bytes:
    try:
        return target if isinstance(target, bytes) else target.encode("ascii")
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"malformed target {target!r}, expected visible ASCII (RFC 9112 §3.2)") from exc
