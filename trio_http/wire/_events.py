"""What happens on an HTTP/1.1 connection, as values: the words of the h11 face.

Events are symmetric: what one side sends, the other receives. They are checked when built, so that one which
exists can be written; those that the parser builds come from bytes it has checked itself, and skip the
constructor (`request_event` and its kin).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from ._errors import LocalProtocolError, shown
from ._grammar import REASONS, VALUE_MARKS, as_bytes, check_method, check_target, is_host
from ._headers import Headers, HeadersInput

_NO_HEADERS: Final = Headers()


_VERSION: Final = b"1.1"


class Event:
    """The base of all events; not to be built or subclassed by callers: `send` goes by the exact type."""

    __slots__ = ()


@dataclasses.dataclass(init=False, frozen=True, slots=True)
class Request(Event):
    """The head of a request (RFC 9112 §3).

    Attributes:
      method: a token, as written (RFC 9110 §9.1 makes it case-sensitive).
      headers: the header section; in HTTP/1.1 with exactly one Host.
      target: the request target, visible ASCII without fragment, as written.
      http_version: ``b"1.1"`` or ``b"1.0"``; only the former may be sent.

    Raises:
      LocalProtocolError: any of it breaks the grammar.
    """

    method: bytes
    headers: Headers
    target: bytes
    http_version: bytes

    def __init__(
        self,
        *,
        method: bytes | str,
        headers: HeadersInput,
        target: bytes | str,
        http_version: bytes | str = _VERSION,
    ) -> None:
        method, target, http_version = as_bytes(method), as_bytes(target), checked_version(http_version)
        if type(headers) is not Headers:
            headers = Headers(headers)
        check_method(method)
        check_target(target)
        check_hosts(headers, http_version)
        _method(self, method)
        _headers(self, headers)
        _target(self, target)
        _version(self, http_version)

    __hash__ = None  # type: ignore[assignment]  # holds `Headers`, which has none


@dataclasses.dataclass(init=False, frozen=True, slots=True)
class _ResponseHead(Event):
    """What interim and final responses share (RFC 9112 §4)."""

    headers: Headers
    http_version: bytes
    reason: bytes
    status_code: int

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(init=False, frozen=True, slots=True)
class InformationalResponse(_ResponseHead):
    """The head of an interim response, which is all of it (RFC 9110 §15.2).

    Attributes:
      status_code: 100-199.
      headers, http_version, reason: as on `Response`.
    """

    def __init__(
        self,
        *,
        status_code: int,
        headers: HeadersInput,
        http_version: bytes | str = _VERSION,
        reason: bytes | str = b"",
    ) -> None:
        _status(self, checked_status(status_code, interim=True))
        _fields(self, headers if type(headers) is Headers else Headers(headers))
        _response_version(self, checked_version(http_version))
        _reason(self, checked_reason(reason))

    __hash__ = None


@dataclasses.dataclass(init=False, frozen=True, slots=True)
class Response(_ResponseHead):
    """The head of a final response (RFC 9112 §4).

    Attributes:
      status_code: 200-999.
      headers: the header section.
      http_version: of the sender, ``b"1.1"`` or ``b"1.0"``; only the former may be sent.
      reason: the reason phrase as it goes on the wire; often empty.
    """

    def __init__(
        self,
        *,
        status_code: int,
        headers: HeadersInput,
        http_version: bytes | str = _VERSION,
        reason: bytes | str = b"",
    ) -> None:
        # The values that nearly all responses have are told without a call.
        if type(status_code) is not int or not 200 <= status_code <= 999:
            status_code = checked_status(status_code, interim=False)
        if type(headers) is not Headers:
            headers = Headers(headers)
        if http_version is not _VERSION:
            http_version = checked_version(http_version)
        if type(reason) is not bytes or reason not in _USUAL_REASONS:
            reason = checked_reason(reason)
        _status(self, status_code)
        _fields(self, headers)
        _response_version(self, http_version)
        _reason(self, reason)

    __hash__ = None


@dataclasses.dataclass(init=False, frozen=True, slots=True)
class Data(Event):
    """A piece of a message body, without its framing.

    Attributes:
      data: received: bytes, at least one. To be sent: bytes-like, or any object with a length for
        ``send_with_data_passthrough``.
      chunk_start, chunk_end: received in the chunked coding: the piece begins or ends a chunk. Chunks are the
        sender's accident and mean nothing in HTTP (RFC 9112 §7.1); ignored when sent.
      chunk_extension: received with ``chunk_start``: the raw chunk extensions, as in ``b";name=value"``; else
        empty.
    """

    data: bytes
    chunk_start: bool
    chunk_end: bool
    chunk_extension: bytes = dataclasses.field(repr=False, compare=False)

    def __init__(
        self, data: bytes, chunk_start: bool = False, chunk_end: bool = False, chunk_extension: bytes = b""
    ) -> None:
        # To be sent it has data alone; what is not stored, `__getattr__` tells.
        _data(self, data)
        if chunk_start:
            _start(self, chunk_start)
        if chunk_end:
            _end(self, chunk_end)
        if chunk_extension:
            _extension(self, chunk_extension)

    def __getattr__(self, name: str) -> Any:
        try:
            return _DATA_DEFAULTS[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(init=False, frozen=True, slots=True)
class EndOfMessage(Event):
    """The end of a message.

    Attributes:
      headers: the trailer section (RFC 9112 §7.1.2); empty unless the body was chunked and had one.
    """

    headers: Headers

    def __init__(self, *, headers: HeadersInput | None = None) -> None:
        if headers is None:
            headers = _NO_HEADERS
        elif type(headers) is not Headers:
            headers = Headers(headers)
        _trailers(self, headers)

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionClosed(Event):
    """One side will send no more; received, the same comes again each time it is asked for."""


def checked_version(http_version: bytes | str) -> bytes:
    """Return an ``http_version`` as bytes, refusing what is not DIGIT "." DIGIT (RFC 9112 §2.3)."""
    version = as_bytes(http_version)
    if len(version) == 3 and version[1:2] == b"." and (version[:1] + version[2:]).isdigit():
        return version
    raise LocalProtocolError(
        f"malformed HTTP version {shown(version)}, expected digit.digit", section="RFC 9112 §2.3"
    )


def check_hosts(headers: Headers, http_version: bytes) -> None:
    """Refuse a request's header section without the one Host that its version asks for (RFC 9112 §3.2)."""
    host = headers.by_name.get(b"host")
    if host is None:
        if http_version != b"1.0":
            raise LocalProtocolError("no Host field in an HTTP/1.1 request", section="RFC 9112 §3.2")
    elif not is_host(host):
        if len(headers.get_all(b"host")) > 1:
            raise LocalProtocolError(
                f"more than one Host field: {shown(host)}, expected one", section="RFC 9112 §3.2"
            )
        raise LocalProtocolError(
            f"malformed Host {shown(host)}, expected host or host:port", section="RFC 9110 §7.2"
        )


def checked_status(status_code: int, *, interim: bool) -> int:
    """Return ``status_code`` as a plain int, refusing what is none or lies outside its kind's range (RFC 9110
    §15)."""
    low, high = (100, 199) if interim else (200, 999)
    if type(status_code) is int and low <= status_code <= high:
        return status_code
    if not isinstance(status_code, int):
        raise LocalProtocolError(f"status code {status_code!r}, expected an int", section="RFC 9110 §15")
    if not low <= status_code <= high:
        kind = "an interim" if interim else "a final"
        raise LocalProtocolError(
            f"status code {int(status_code)}, expected {low}-{high} for {kind} response",
            section="RFC 9110 §15",
        )
    return int(status_code)


def checked_reason(reason: bytes | str) -> bytes:
    """Return a reason phrase as bytes, refusing control characters (RFC 9112 §4): CR and LF would begin
    another line."""
    phrase = as_bytes(reason)
    if 0 in phrase.translate(VALUE_MARKS):
        raise LocalProtocolError(
            f"illegal reason phrase {shown(phrase)}, expected no control characters", section="RFC 9112 §4"
        )
    return phrase


_USUAL_REASONS: Final = frozenset([b"", *REASONS.values()])

# The classes are frozen. Their constructors set attributes through the slots' descriptors, which costs half
# of what `object.__setattr__` does. The parser, which builds most events and has checked their parts, fills
# in a draft of the same layout and then declares it to be the event: half of that again.


def _slot_setters(cls: type, *names: str) -> list[Callable[[Any, Any], None]]:
    return [cls.__dict__[name].__set__ for name in names]


_method, _headers, _target, _version = _slot_setters(Request, "method", "headers", "target", "http_version")
_status, _fields, _response_version, _reason = _slot_setters(
    _ResponseHead, "status_code", "headers", "http_version", "reason"
)
_data, _start, _end, _extension = _slot_setters(Data, "data", "chunk_start", "chunk_end", "chunk_extension")
(_trailers,) = _slot_setters(EndOfMessage, "headers")


_DATA_DEFAULTS: Final = {"chunk_start": False, "chunk_end": False, "chunk_extension": b""}


class _RequestDraft(Event):
    __slots__ = ("headers", "http_version", "method", "target")


class _ResponseDraft(Event):
    __slots__ = ("headers", "http_version", "reason", "status_code")


class _DataDraft(Event):
    __slots__ = ("chunk_end", "chunk_extension", "chunk_start", "data")


def request_event(method: bytes, target: bytes, http_version: bytes, headers: Headers) -> Request:
    """Build a `Request` from parts that the parser has checked."""
    event: Any = _RequestDraft()
    event.method = method
    event.target = target
    event.http_version = http_version
    event.headers = headers
    event.__class__ = Request
    built: Request = event
    return built


def response_event(
    status_code: int, reason: bytes, http_version: bytes, headers: Headers
) -> InformationalResponse | Response:
    """Build the response of that status from parts that the parser has checked."""
    event: Any = _ResponseDraft()
    event.status_code = status_code
    event.reason = reason
    event.http_version = http_version
    event.headers = headers
    event.__class__ = InformationalResponse if status_code < 200 else Response
    built: InformationalResponse | Response = event
    return built


def data_event(data: bytes, chunk_start: bool, chunk_end: bool, chunk_extension: bytes) -> Data:
    """Build a `Data` from the parser's parts."""
    event: Any = _DataDraft()
    event.data = data
    event.chunk_start = chunk_start
    event.chunk_end = chunk_end
    event.chunk_extension = chunk_extension
    event.__class__ = Data
    built: Data = event
    return built
