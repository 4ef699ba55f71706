"""Heads: the start line and header section of one message, taken apart and judged.

This is the hot path of every exchange. It splits with the methods of bytes, each of which runs at C speed,
and leaves it to the error paths to find out what exactly was wrong.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from ._errors import RemoteProtocolError, shown
from ._facts import BESIDE_CONNECTION, BY_CONNECTION, FRAMING, TELLING, Facts, gathered, length_in
from ._framing import framed_regardless, request_framing
from ._grammar import (
    CRLF,
    HTTP_VERSION,
    STATUS_LINE,
    TOKEN_BYTES,
    check_method,
    check_target,
    check_target_form,
    is_host,
    is_token,
)
from ._headers import Headers
from ._rules import Rules
from ._section import KnownLines, find_bare_lf, parse_fields

_METHODS: Final = frozenset(
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE"]
)
_NO_FIELDS: Final = Headers()
_FIRST_BYTES: Final = frozenset(TOKEN_BYTES)
_SLASH: Final = 0x2F
# A field block longer than this is not remembered: it would be held for as long as the connection lives.
# Arbitrary: a browser's fields come to half of it.
_REMEMBERED_BYTES: Final = 1024

# A request's method, target, version and header section; a response's status, reason, version and header
# section.
RequestParts: TypeAlias = tuple[bytes, bytes, bytes, Headers]
ResponseParts: TypeAlias = tuple[int, bytes, bytes, Headers]


class RequestHead:
    """The head of a received request.

    Attributes:
      method, target: as written.
      http_version: ``b"1.1"`` or ``b"1.0"``.
      headers: the header section.
      framing: how the body ends: a length in bytes, or `CHUNKED` (RFC 9112 §6.3).
    """

    __slots__ = ("framing", "headers", "http_version", "method", "target")

    def __init__(self, method: bytes, target: bytes, http_version: bytes, headers: Headers) -> None:
        self.method = method
        self.target = target
        self.http_version = http_version
        self.headers = headers
        self.framing: int = request_framing(headers.facts.chunked, headers.content_length)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r} {self.http_version!r} {self.headers!r}>"

    @property
    def content_length(self) -> int | None:
        """Bytes of body; None when it is chunked."""
        return None if self.headers.facts.chunked else self.headers.content_length or 0

    @property
    def keep_alive(self) -> bool:
        """The client lets the connection live on after this exchange (RFC 9112 §9.3)."""
        return self.headers.facts.persistent(self.http_version)

    @property
    def expects_continue(self) -> bool:
        """The client waits for a 100 before it sends the body (RFC 9110 §10.1.1)."""
        return self.headers.facts.expect_continue and self.http_version != b"1.0"

    @property
    def upgrade(self) -> bytes | None:
        """The protocols that the client proposes to switch to (RFC 9110 §7.8), or None."""
        return None if self.http_version == b"1.0" else self.headers.facts.upgrade


class ResponseHead:
    """The head of a received response, interim or final.

    Attributes:
      status_code: 100-999.
      reason: the reason phrase as written, often empty.
      http_version: ``b"1.1"`` or ``b"1.0"``.
      headers: the header section.
      framing: how the body ends: a length in bytes, `CHUNKED`, or `CLOSE_DELIMITED`; 0 for an interim
        response.
    """

    __slots__ = ("framing", "headers", "http_version", "reason", "status_code")

    def __init__(
        self, status_code: int, reason: bytes, http_version: bytes, headers: Headers, framing: int
    ) -> None:
        self.status_code = status_code
        self.reason = reason
        self.http_version = http_version
        self.headers = headers
        self.framing = framing

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status_code} {self.reason!r} {self.http_version!r} {self.headers!r}>"

    @property
    def content_length(self) -> int | None:
        """Bytes of body; None when it is chunked or close-delimited."""
        return None if self.framing < 0 else self.framing

    @property
    def keep_alive(self) -> bool:
        """The server lets the connection live on after this exchange (RFC 9112 §9.3)."""
        return self.headers.facts.persistent(self.http_version)


class HeadParser:
    """Takes heads apart for one connection, and remembers the last field block of a peer that repeats itself.

    Args:
      rules: what is accepted.
    """

    __slots__ = (
        "_block", "_headers", "_host", "_known_lines", "_max_fields", "_max_target_bytes", "_rules",
        "_target_marks",
    )  # fmt: skip

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._target_marks = rules.target_marks
        self._max_target_bytes = rules.limits.max_target_bytes
        self._max_fields = rules.limits.max_fields
        self._known_lines = KnownLines()
        self._host: bytes | None = None  # of the last head, found to be well-formed
        self._block: bytes | None = None
        self._headers = _NO_FIELDS

    def request(self, section: bytes) -> RequestParts:
        """Return the parts of the request head ``section`` (RFC 9112 §3).

        Raises:
          RemoteProtocolError: it is malformed, contradicts itself, or asks for what is not implemented.
        """
        try:
            start_line, _, block = section.partition(CRLF)
            method, target, version = start_line.split(b" ")
            if method not in _METHODS:
                check_method(method, RemoteProtocolError)
            if (
                0 in target.translate(self._target_marks)
                or not target
                or len(target) > self._max_target_bytes
            ):
                raise self._target_error(target)
            http_version = b"1.1" if version == b"HTTP/1.1" else self._version(version, start_line)
            if target[0] != _SLASH or method == b"CONNECT":
                check_target_form(method, target, RemoteProtocolError)
            headers = self._headers if block == self._block else self._request_fields(block)
            if http_version == b"1.0":
                _refuse_coding_in_1_0(headers.facts)
            elif self._host is None:
                raise RemoteProtocolError("no Host field in an HTTP/1.1 request", section="RFC 9112 §3.2")
            elif headers.facts.unknown_expectation is not None:
                self._refuse_expectation(headers.facts.unknown_expectation)
            return method, target, http_version, headers
        except (RemoteProtocolError, ValueError) as exc:
            raise _first_error(section, exc, request=True) from None

    def response(self, section: bytes, request_method: bytes | None) -> ResponseParts:
        """Return the parts of the response head ``section`` (RFC 9112 §4).

        Args:
          request_method: of the request that it answers.

        Raises:
          RemoteProtocolError: as for a request.
        """
        try:
            start_line, _, block = section.partition(CRLF)
            match = STATUS_LINE.fullmatch(start_line)
            if match is None:
                raise RemoteProtocolError(
                    f"malformed status line {shown(start_line)}, expected version, three digits and reason",
                    section="RFC 9112 §4",
                )
            version, digits, reason = match.groups(b"")
            status = int(digits)
            http_version = b"1.1" if version == b"HTTP/1.1" else self._version(version, start_line)
            headers = _NO_FIELDS
            if block:
                headers = parse_fields(block, self._rules, self._max_fields, self._known_lines)
            if framed_regardless(request_method, status):
                by_name = headers.by_name
                headers.facts = gathered(
                    {name: by_name[name] for name in by_name if name not in FRAMING}, RemoteProtocolError
                )
            elif not TELLING.isdisjoint(headers.by_name):
                self._judge(headers)
            if http_version == b"1.0":
                _refuse_coding_in_1_0(headers.facts)
        except RemoteProtocolError as exc:
            raise _first_error(section, exc, request=False) from None
        return status, reason, http_version, headers

    def _request_fields(self, block: bytes) -> Headers:
        """Return the header section in ``block``, taken apart and judged, and remember it."""
        if not block:
            self._block = self._host = None
            return _NO_FIELDS
        headers = parse_fields(block, self._rules, self._max_fields, self._known_lines)
        by_name = dict(headers.items)
        if len(by_name) == len(headers.items):
            headers.joined = by_name
        else:
            by_name = headers.by_name
        if (
            BESIDE_CONNECTION.isdisjoint(by_name)
            and (said := by_name.get(b"connection", b"")) in BY_CONNECTION
        ):
            headers.facts = BY_CONNECTION[said]  # nearly every GET
        else:
            self._judge(headers)
        host = by_name.get(b"host")
        if host != self._host:
            # Several, joined, are not well-formed: they have a space.
            if host is not None and not is_host(host):
                raise _host_error(host, headers)
            self._host = host
        # What is remembered was found to be right, and goes with the host above.
        if len(block) <= _REMEMBERED_BYTES:
            self._block, self._headers = block, headers
        else:
            self._block, self._headers = None, _NO_FIELDS
        return headers

    def _judge(self, headers: Headers) -> None:
        """Find what new header fields say, and refuse what could be framed in two ways (RFC 9112 §6.3)."""
        if self._rules.repeated_length:
            _merge_lengths(headers)
        by_name = headers.by_name
        headers.facts = facts = gathered(by_name, RemoteProtocolError)
        length = by_name.get(b"content-length")
        if length is not None:
            headers.content_length = length_in(length, RemoteProtocolError)
        if facts.chunked:
            if length is not None:
                self._refuse_both_framings(length)
                headers.drop(b"content-length")
                headers.content_length = None
                # The RFC asks whoever repairs such a message to close the connection behind it.
                headers.facts = Facts(
                    chunked=True,
                    close=True,
                    expect_continue=facts.expect_continue,
                    unknown_expectation=facts.unknown_expectation,
                    upgrade=facts.upgrade,
                )
            if by_name[b"transfer-encoding"] != b"chunked":
                headers.merge(b"transfer-encoding", b"chunked")

    def _refuse_both_framings(self, length: bytes) -> None:
        if not self._rules.both_framings:
            raise RemoteProtocolError(
                f"both Transfer-Encoding and Content-Length {shown(length)}, expected at most one of them",
                section="RFC 9112 §6.1",
            )

    def _target_error(self, target: bytes) -> RemoteProtocolError:
        try:
            check_target(target, self._target_marks, RemoteProtocolError)
        except RemoteProtocolError as exc:
            return exc
        return RemoteProtocolError(
            f"request target of {len(target)} bytes, at most {self._max_target_bytes} are allowed", 414
        )

    def _refuse_expectation(self, expectation: bytes) -> None:
        if not self._rules.unknown_expectation:
            raise RemoteProtocolError(
                f"expectation {shown(expectation)}, expected 100-continue", 417, section="RFC 9110 §10.1.1"
            )

    def _version(self, version: bytes, start_line: bytes) -> bytes:
        if version == b"HTTP/1.0":
            return b"1.0"
        match = HTTP_VERSION.fullmatch(version)
        if match is None:
            raise ValueError("malformed request line")
        if start_line == b"PRI * HTTP/2.0":
            raise RemoteProtocolError(
                "the peer speaks HTTP/2 with prior knowledge, expected HTTP/1.1", 505, section="RFC 9113 §3.4"
            )
        if match[1] == b"1" and match[2] != b"0" and self._rules.minor_version:
            return b"1.1"
        raise RemoteProtocolError(
            f"version {shown(version)}, expected HTTP/1.1 or HTTP/1.0", 505, section="RFC 9110 §2.5"
        )


def check_first_byte(byte: int, *, request: bool) -> None:
    """Refuse what cannot begin a head by its first byte, so that a peer of another protocol is not waited
    for."""
    if request:
        if byte in _FIRST_BYTES:
            return
    elif byte == 0x48:  # "H"
        return
    if byte == 0x16 or (byte == 0x15 and not request):
        raise RemoteProtocolError(
            "the peer speaks TLS on a plain connection, expected HTTP", section="RFC 8446 §5.1"
        )
    kind, rule = ("request", "RFC 9112 §3") if request else ("response", "RFC 9112 §4")
    raise RemoteProtocolError(f"byte {bytes([byte])!r} where a {kind} should begin", section=rule)


def request_too_long(head: bytes) -> RemoteProtocolError:
    """Return the error for a request head that exceeds its limit, given as much of it as the limit allows."""
    if CRLF not in head and b"\n" not in head:
        return RemoteProtocolError(f"request line {shown(head)} does not end within {len(head)} bytes", 414)
    return RemoteProtocolError(f"request head does not end within {len(head)} bytes", 431)


def response_too_long(head: bytes) -> RemoteProtocolError:
    """Return the error for a response head that exceeds its limit."""
    return RemoteProtocolError(f"response head does not end within {len(head)} bytes", 431)


def _first_error(
    section: bytes, exc: ValueError | RemoteProtocolError, *, request: bool
) -> RemoteProtocolError:
    """Return what is wrong with a head by the order in which its bytes would have told (see `_section`)."""
    try:
        check_first_byte(section[0], request=request)
    except RemoteProtocolError as first:
        return first
    bare_lf = find_bare_lf(section)
    if bare_lf is not None:
        return bare_lf
    return exc if isinstance(exc, RemoteProtocolError) else _request_line_error(section.partition(CRLF)[0])


def _host_error(host: bytes, headers: Headers) -> RemoteProtocolError:
    if len(headers.get_all(b"host")) > 1:
        return RemoteProtocolError(
            f"more than one Host field: {shown(host)}, expected one", section="RFC 9112 §3.2"
        )
    return RemoteProtocolError(
        f"malformed Host {shown(host)}, expected host or host:port", section="RFC 9110 §7.2"
    )


def _refuse_coding_in_1_0(facts: Facts) -> None:
    if facts.chunked:
        raise RemoteProtocolError(
            "Transfer-Encoding in an HTTP/1.0 message, expected Content-Length or none",
            section="RFC 9112 §6.1",
        )


def _request_line_error(line: bytes) -> RemoteProtocolError:
    if line.count(b" ") == 1 and is_token(line.partition(b" ")[0]):
        what = f"request line {shown(line)} without a version (HTTP/0.9)"
    else:
        what = f"malformed request line {shown(line)}, expected method, target, version with a space between"
    return RemoteProtocolError(what, section="RFC 9112 §3")


def _merge_lengths(headers: Headers) -> None:
    """Merge the repeats of one Content-Length; a contradiction is left to be found."""
    value = headers.by_name.get(b"content-length", b"")
    lengths = {length.strip(b" \t") for length in value.split(b",")}
    if b"," in value and len(lengths) == 1:
        headers.merge(b"content-length", lengths.pop())
