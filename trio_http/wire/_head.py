"""Heads: the start line and header section of one message, taken apart and judged.

This is the hot path of every exchange. It splits with the methods of bytes, each of which runs at C speed, and leaves it to
the error paths to find out what exactly was wrong.
"""

from __future__ import annotations

from typing import Final

from ._errors import RemoteProtocolError, shown
from ._facts import NO_FACTS, TELLING, Facts, facts_of, is_persistent
from ._framing import request_framing
from ._grammar import CRLF, HOST, HTTP_VERSION, STATUS_LINE, TOKEN_BYTES, check_method, check_target, is_token
from ._headers import Headers, Pair
from ._rules import Rules
from ._section import find_bare_lf, parse_fields

_METHODS: Final = frozenset([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE"])
_NO_FIELDS: Final = Headers()
_FIRST_BYTES: Final = frozenset(TOKEN_BYTES)
# A field block longer than this is not remembered: it would be held for as long as the connection lives. Arbitrary: a
# browser's fields come to half of it.
_REMEMBERED_BYTES: Final = 1024


class RequestHead:
    """The head of a received request.

    Attributes:
      method, target: as written.
      http_version: ``b"1.1"`` or ``b"1.0"``.
      headers: the header section.
      framing: how the body ends: a length, or `CHUNKED` (RFC 9112 §6.3).
      facts: what the header section says of framing and connection.
    """

    __slots__ = ("facts", "framing", "headers", "http_version", "method", "target")

    def __init__(self, method: bytes, target: bytes, http_version: bytes, headers: Headers, facts: Facts) -> None:
        self.method = method
        self.target = target
        self.http_version = http_version
        self.headers = headers
        self.facts = facts
        self.framing = 0 if facts is NO_FACTS else request_framing(facts)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r} {self.http_version!r} {self.headers!r}>"

    @property
    def content_length(self) -> int | None:
        """Bytes of body; None when it is chunked."""
        return None if self.framing < 0 else self.framing

    @property
    def keep_alive(self) -> bool:
        """The client lets the connection live on after this exchange (RFC 9112 §9.3)."""
        return is_persistent(self.http_version, self.facts)

    @property
    def expects_continue(self) -> bool:
        """The client waits for a 100 before it sends the body (RFC 9110 §10.1.1)."""
        return self.facts.expect_continue and self.http_version != b"1.0"

    @property
    def upgrade(self) -> bytes | None:
        """The protocols that the client proposes to switch to (RFC 9110 §7.8), or None."""
        return None if self.http_version == b"1.0" else self.facts.upgrade


class ResponseHead:
    """The head of a received response, interim or final.

    Attributes:
      status_code: 100-999.
      reason: the reason phrase as written, often empty.
      http_version: ``b"1.1"`` or ``b"1.0"``.
      headers: the header section.
      framing: how the body ends: a length, `CHUNKED`, or `CLOSE_DELIMITED`; 0 for an interim response.
      facts: what the header section says of framing and connection.
    """

    __slots__ = ("facts", "framing", "headers", "http_version", "reason", "status_code")

    def __init__(
        self, status_code: int, reason: bytes, http_version: bytes, headers: Headers, framing: int, facts: Facts
    ) -> None:
        self.status_code = status_code
        self.reason = reason
        self.http_version = http_version
        self.headers = headers
        self.framing = framing
        self.facts = facts

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status_code} {self.reason!r} {self.http_version!r} {self.headers!r}>"

    @property
    def content_length(self) -> int | None:
        """Bytes of body; None when it is chunked or close-delimited."""
        return None if self.framing < 0 else self.framing


class HeadParser:
    """Takes heads apart for one connection, and remembers the last field block of a peer that repeats itself.

    Args:
      rules: what is accepted.
      requests: the heads are requests', not responses'.
    """

    __slots__ = ("_block", "_headers", "_host", "_known_lines", "_max_fields", "_max_target_bytes", "_requests", "_rules", "_target_marks")

    def __init__(self, rules: Rules, *, requests: bool) -> None:
        self._rules = rules
        self._requests = requests
        self._target_marks = rules.target_marks
        self._max_target_bytes = rules.limits.max_target_bytes
        self._known_lines: dict[bytes, Pair] = {}
        self._max_fields = rules.limits.max_fields
        self._host: bytes | None = None  # of the last head, found to be well-formed
        self._block = b""
        self._headers = _NO_FIELDS

    def request(self, section: bytes) -> RequestHead:
        """Return the request whose head is ``section`` (RFC 9112 §3).

        Raises:
          RemoteProtocolError: it is malformed, contradicts itself, or asks for what is not implemented.
        """
        try:
            start_line, _, block = section.partition(CRLF)
            method, target, version = start_line.split(b" ")
            if method not in _METHODS:
                check_method(method, RemoteProtocolError)
            if 0 in target.translate(self._target_marks) or not 0 < len(target) <= self._max_target_bytes:
                self._refuse_target(target)
            headers = self._headers if block == self._block else self._fields(block)
            facts = headers._facts or facts_of(headers)
            if version == b"HTTP/1.1" or self._version(version, start_line) == b"1.1":
                if self._host is None:
                    raise RemoteProtocolError("no Host field in an HTTP/1.1 request", section="RFC 9112 §3.2")
                if facts.unknown_expectation is not None:
                    self._refuse_expectation(facts.unknown_expectation)
                return RequestHead(method, target, b"1.1", headers, facts)
            _refuse_coding_in_1_0(facts)
            return RequestHead(method, target, b"1.0", headers, facts)
        except (RemoteProtocolError, ValueError) as exc:
            raise _first_error(section, exc, request=True) from None

    def response(self, section: bytes) -> ResponseHead:
        """Return the response whose head is ``section``, its framing still to be decided (RFC 9112 §4).

        Raises:
          RemoteProtocolError: as for a request.
        """
        try:
            start_line, _, block = section.partition(CRLF)
            match = STATUS_LINE.fullmatch(start_line)
            if match is None:
                raise RemoteProtocolError(f"malformed status line {shown(start_line)}", section="RFC 9112 §4")
            version, status, reason = match.groups(b"")
            http_version = b"1.1" if version == b"HTTP/1.1" else self._version(version, start_line)
            headers = self._headers if block == self._block else self._fields(block)
            facts = headers._facts or facts_of(headers)
            if http_version == b"1.0":
                _refuse_coding_in_1_0(facts)
        except RemoteProtocolError as exc:
            raise _first_error(section, exc, request=False) from None
        return ResponseHead(int(status), reason, http_version, headers, 0, facts)

    def _fields(self, block: bytes) -> Headers:
        """Return the header section in ``block``, taken apart and judged, and remember it."""
        if not block:
            self._host = None
            return _NO_FIELDS
        headers = parse_fields(block, self._rules, self._max_fields, self._known_lines)
        by_name = headers.by_name
        if TELLING.isdisjoint(by_name):
            headers._facts = NO_FACTS
        else:
            headers = self._judged(headers)
        host = by_name.get(b"host")
        if self._requests and (host != self._host or headers.repeated):
            if host is not None:
                _check_host(host, headers)
            self._host = host
        self._block = block if len(block) <= _REMEMBERED_BYTES else b""
        self._headers = headers if self._block else _NO_FIELDS
        return headers

    def _judged(self, headers: Headers) -> Headers:
        """Return new header fields with their facts found, refusing what could be framed in two ways (RFC 9112 §6.3)."""
        if self._rules.repeated_length:
            headers = _with_one_length(headers)
        facts = facts_of(headers, RemoteProtocolError)
        if facts.chunked and facts.content_length is not None:
            if not self._rules.both_framings:
                raise RemoteProtocolError(
                    "both Transfer-Encoding and Content-Length, expected at most one", section="RFC 9112 §6.1"
                )
            headers = headers.replaced(b"Content-Length")
            facts_of(headers, RemoteProtocolError).close = True  # as the RFC asks of whoever repairs such a message
        return headers

    def _refuse_target(self, target: bytes) -> None:
        check_target(target, self._target_marks, RemoteProtocolError)
        raise RemoteProtocolError(
            f"request target of {len(target)} bytes, at most {self._max_target_bytes} are allowed", 414
        )

    def _refuse_expectation(self, expectation: bytes) -> None:
        if not self._rules.unknown_expectation:
            raise RemoteProtocolError(
                f"expectation {shown(expectation)}, only 100-continue is known", 417, section="RFC 9110 §10.1.1"
            )

    def _version(self, version: bytes, start_line: bytes) -> bytes:
        if version == b"HTTP/1.0":
            return b"1.0"
        match = HTTP_VERSION.fullmatch(version)
        if match is None:
            raise ValueError("malformed request line")
        if start_line == b"PRI * HTTP/2.0":
            raise RemoteProtocolError("the peer speaks HTTP/2 with prior knowledge", 505, section="RFC 9113 §3.4")
        if match[1] == b"1" and self._rules.minor_version:
            return b"1.1"
        raise RemoteProtocolError(
            f"version {shown(version)}, expected HTTP/1.1 or HTTP/1.0", 505, section="RFC 9110 §2.5"
        )


def check_first_byte(byte: int, *, request: bool) -> None:
    """Refuse what cannot begin a head by its first byte, so that a peer of another protocol is not waited for."""
    if request:
        if byte in _FIRST_BYTES:
            return
    elif byte == 0x48:  # "H"
        return
    if byte == 0x16 or (byte == 0x15 and not request):
        raise RemoteProtocolError("the peer speaks TLS on a plain connection", section="RFC 8446 §5.1")
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


def _first_error(section: bytes, exc: ValueError | RemoteProtocolError, *, request: bool) -> RemoteProtocolError:
    """Return what is wrong with a head by the order in which its bytes would have told (see `_section`)."""
    try:
        check_first_byte(section[0], request=request)
    except RemoteProtocolError as first:
        return first
    bare_lf = find_bare_lf(section)
    if bare_lf is not None:
        return bare_lf
    return exc if isinstance(exc, RemoteProtocolError) else _request_line_error(section.partition(CRLF)[0])


def _check_host(host: bytes, headers: Headers) -> None:
    if b"host" in headers.repeated:
        raise RemoteProtocolError(f"more than one Host field: {shown(host)}", section="RFC 9112 §3.2")
    if not HOST.fullmatch(host):
        raise RemoteProtocolError(f"malformed Host {shown(host)}", section="RFC 9110 §7.2")


def _refuse_coding_in_1_0(facts: Facts) -> None:
    if facts.chunked:
        raise RemoteProtocolError("Transfer-Encoding in an HTTP/1.0 message", section="RFC 9112 §6.1")


def _request_line_error(line: bytes) -> RemoteProtocolError:
    if line.count(b" ") == 1 and is_token(line.partition(b" ")[0]):
        what = f"request line {shown(line)} without a version (HTTP/0.9)"
    else:
        what = f"malformed request line {shown(line)}, expected method, target and version with one space between"
    return RemoteProtocolError(what, section="RFC 9112 §3")


def _with_one_length(headers: Headers) -> Headers:
    """Return ``headers`` with repeats of one Content-Length merged; a contradiction is left to be found."""
    value = headers.by_name.get(b"content-length", b"")
    lengths = {length.strip(b" \t") for length in value.split(b",")}
    return headers.replaced(b"content-length", lengths.pop()) if b"," in value and len(lengths) == 1 else headers
