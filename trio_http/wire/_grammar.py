"""The grammar of RFC 9110 and 9112 as tables, with the rule above each.

Two kinds of check are used, because both run at C speed: a table that marks each allowed byte with 1 and
every other with 0, so that data is well-formed when ``0 not in data.translate(table)``; and one compiled
expression where order matters. (To delete the allowed bytes and look at the rest says the same, in three
times the time.) Nothing here knows a role or a connection.
"""

from __future__ import annotations

import http
import re
from collections.abc import Iterable

from ._errors import LocalProtocolError, ProtocolError, shown

CRLF = b"\r\n"


def marks(allowed: Iterable[int]) -> bytes:
    """Return a table for `bytes.translate` that turns each byte of ``allowed`` into 1 and every other into
    0."""
    allowed = frozenset(allowed)
    return bytes(byte in allowed for byte in range(256))


# token = 1*tchar; tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" /
# "~" / DIGIT / ALPHA (RFC 9110 §5.6.2)
TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# field-value = *( field-vchar / SP / HTAB ), field-vchar = VCHAR / obs-text (RFC 9110 §5.5). DEL is no VCHAR.
VALUE_MARKS = marks(c for c in range(256) if c == 0x09 or (c >= 0x20 and c != 0x7F))
# What `Leniency.CONTROLS_IN_VALUE` lets in besides: everything but NUL, CR and LF, which no leniency admits.
LENIENT_VALUE_MARKS = marks(c for c in range(256) if c not in b"\0\r\n")

# A request target is visible ASCII (RFC 9112 §3.2 by RFC 3986); a fragment is never sent (RFC 9110 §4.2.5,
# RFC 9112 §3.2).
TARGET_MARKS = marks(c for c in range(0x21, 0x7F) if c != 0x23)
LENIENT_TARGET_MARKS = marks(c for c in range(0x21, 0x100) if c not in (0x23, 0x7F))

# Lower-cases a token, and turns every byte that no token holds into NUL, so one pass both folds and checks.
_FOLD_TOKEN = bytes(c + 32 if 0x41 <= c <= 0x5A else c if c in TOKEN_BYTES else 0 for c in range(256))

# uri-host = IP-literal / IPv4address / reg-name (RFC 3986 §3.2.2; reg-name covers IPv4address)
_REG_NAME = rb"(?: [A-Za-z0-9\-._~!$&'()*+,;=] | %[0-9A-Fa-f]{2} )"
_IP_LITERAL = rb"\[ (?: [0-9A-Fa-f:.]+ | v[0-9A-Fa-f]+ \. [A-Za-z0-9\-._~!$&'()*+,;=:]+ ) \]"

# Host = uri-host [ ":" port ] (RFC 9110 §7.2). Empty is legal: the target URI may have no authority. The RFC
# gives port as *DIGIT, which admits the empty port.
_HOST = re.compile(rb"(?: %s* | %s ) (?: : [0-9]* )?" % (_REG_NAME, _IP_LITERAL), re.VERBOSE)
_REG_NAME_MARKS = marks(b"-._~!$&'()*+,;=0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

# authority-form = uri-host ":" port (RFC 9112 §3.2.3). Nobody can connect to an empty host or port.
_AUTHORITY_FORM = re.compile(rb"(?: %s+ | %s ) : [0-9]+" % (_REG_NAME, _IP_LITERAL), re.VERBOSE)

# absolute-form = absolute-URI (RFC 9112 §3.2.2), of which we look at the beginning: a scheme (RFC 3986 §3.1),
# and the slashes that tell it from a host with a port. An http or https URI has a host (RFC 9110 §4.2.1), and
# no userinfo, which is there to deceive people (§4.2.4).
_ABSOLUTE_FORM = re.compile(rb"(?!https?://(?:[/?:]|\Z|[^/?]*@))[a-z][a-z0-9+\-.]*://", re.IGNORECASE)

# HTTP-version = "HTTP/" DIGIT "." DIGIT, case-sensitive (RFC 9112 §2.3)
HTTP_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])")

# status-line = HTTP-version SP status-code SP [ reason-phrase ] (RFC 9112 §4). Deviation: the second SP may
# be absent with the reason, as many servers leave it out; it delimits nothing.
STATUS_LINE = re.compile(rb"(HTTP/[0-9]\.[0-9]) ([1-9][0-9][0-9])(?: ([\t \x21-\x7E\x80-\xFF]*))?")

# Content-Length = 1*DIGIT (RFC 9110 §8.6). 20 digits hold 2**64; no length beyond them is meant seriously.
MAX_LENGTH_DIGITS = 20

# chunk = chunk-size [ chunk-ext ] CRLF, chunk-size = 1*HEXDIG (RFC 9112 §7.1); 20 digits as above.
# chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ) (RFC 9112 §7.1.1)
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,20}")
CHUNK_EXTENSION = re.compile(
    rb"(?: [ \t]* ; [ \t]* [!\#$%&'*+\-.^_`|~0-9A-Za-z]+"
    rb" (?: [ \t]* = [ \t]* (?: [!\#$%&'*+\-.^_`|~0-9A-Za-z]+"
    rb' | " (?: [\t \x21\x23-\x5B\x5D-\x7E\x80-\xFF] | \\ [\t \x21-\x7E\x80-\xFF] )* " ) )? )*',
    re.VERBOSE,
)

# Fields that frame or route a message, or concern its connection, mean nothing behind its body, and harm when
# somebody merges them into its head (RFC 9110 §6.5.1).
NO_TRAILER_NAMES = frozenset(
    [
        b"content-length",
        b"transfer-encoding",
        b"host",
        b"connection",
        b"keep-alive",
        b"upgrade",
        b"te",
        b"trailer",
    ]
)

# The registered reason phrases (RFC 9110 §15).
REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}

_COMMON_NAMES = """
    Accept Accept-Charset Accept-Encoding Accept-Language Accept-Ranges Access-Control-Allow-Credentials
    Access-Control-Allow-Headers Access-Control-Allow-Methods Access-Control-Allow-Origin
    Access-Control-Expose-Headers Access-Control-Max-Age Access-Control-Request-Headers
    Access-Control-Request-Method Age Allow Alt-Svc Authorization Cache-Control Connection Content-Disposition
    Content-Encoding Content-Language Content-Length Content-Location Content-Range Content-Security-Policy
    Content-Type Cookie DNT Date ETag Expect Expires Forwarded From Host If-Match If-Modified-Since
    If-None-Match If-Range If-Unmodified-Since Keep-Alive Last-Modified Link Location Max-Forwards Origin
    Pragma Priority Proxy-Authenticate Proxy-Authorization Proxy-Connection Range Referer Referrer-Policy
    Retry-After Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site
    Sec-Fetch-User Sec-WebSocket-Accept Sec-WebSocket-Extensions Sec-WebSocket-Key Sec-WebSocket-Protocol
    Sec-WebSocket-Version Server Set-Cookie Strict-Transport-Security TE Trailer Transfer-Encoding Upgrade
    Upgrade-Insecure-Requests User-Agent Vary Via WWW-Authenticate X-Content-Type-Options X-Correlation-ID
    X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Frame-Options X-Real-IP X-Request-ID X-Requested-With
"""


def _spellings() -> dict[bytes, bytes]:
    found = {}
    for name in _COMMON_NAMES.encode().split():
        lower = name.lower()
        for spelling in (name, lower, lower.title()):
            found[spelling] = lower
    return found


# Usual spellings of usual names, each with its lower case: one look-up in place of a check and a copy, and
# every connection shares the lower-case object, whose hash is computed once.
KNOWN_NAMES = _spellings()


def fold_name(name: bytes) -> bytes | None:
    """Return a field name in lower case, or None when it is no token (RFC 9110 §5.1)."""
    known = KNOWN_NAMES.get(name)
    if known is not None:
        return known
    folded = name.translate(_FOLD_TOKEN)
    return None if not folded or 0 in folded else folded


def is_token(data: bytes) -> bool:
    """Tell whether ``data`` is a token (RFC 9110 §5.6.2)."""
    return bool(data) and 0 not in data.translate(_FOLD_TOKEN)


def as_bytes(value: object) -> bytes:
    """Return ``value`` as bytes: str must be ASCII; bytes-like is copied.

    Raises:
      UnicodeEncodeError: a str with other characters.
      TypeError: neither str nor bytes-like.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        return value.encode("ascii")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"expected str or a bytes-like object, not {type(value).__name__}")


def check_method(method: bytes, error: type[ProtocolError] = LocalProtocolError) -> None:
    """Refuse a method that is no token (RFC 9110 §9.1)."""
    if not is_token(method):
        raise error(f"malformed method {shown(method)}, expected a token", section="RFC 9110 §9.1")


def check_target(
    target: bytes, allowed: bytes = TARGET_MARKS, error: type[ProtocolError] = LocalProtocolError
) -> None:
    """Refuse a request target that is empty or has a byte that ``allowed`` marks with 0 (RFC 9112 §3.2)."""
    if target and 0 not in target.translate(allowed):
        return
    if not target:
        what = "empty request target"
    elif b"#" in target:
        what = f"fragment in request target {shown(target)}, which stays with the client"
    else:
        what = f"malformed request target {shown(target)}, expected visible ASCII"
    raise error(what, section="RFC 9112 §3.2")


def check_target_form(method: bytes, target: bytes, error: type[ProtocolError] = LocalProtocolError) -> None:
    """Refuse a request target of a form that its method cannot have (RFC 9112 §3.2).

    Args:
      target: not empty, and found to hold allowed bytes only.
    """
    if method == b"CONNECT":
        if _AUTHORITY_FORM.fullmatch(target):
            return
        expected = "host:port for CONNECT"
    elif target[:1] == b"/" or (target == b"*" and method == b"OPTIONS") or _ABSOLUTE_FORM.match(target):
        return
    else:
        expected = "a path that begins with /, or an absolute URI; host:port is for CONNECT, * for OPTIONS"
    raise error(f"request target {shown(target)}, expected {expected}", section="RFC 9112 §3.2")


def is_host(host: bytes) -> bool:
    """Tell whether ``host`` is what a Host field may hold (RFC 9110 §7.2)."""
    name, _, port = host.partition(b":")
    if 0 not in name.translate(_REG_NAME_MARKS) and (not port or port.isdigit()):
        return True  # nearly all; an IP-literal and a percent-encoded name go the longer way
    return _HOST.fullmatch(host) is not None
