"""URLs: taken apart as they are written, or refused.

A library that repairs a URL sends another one than the caller gave: it decodes ``%2F``, removes ``..``,
encodes twice. And where two libraries disagree on what a URL means, one checks the host of one server and the
other asks another. So a str is split by RFC 3986's own grammar and its path and query go out byte for byte;
what is no URL is refused with the reason. Only a host is brought into its normal form (lower case, IDNA),
since a host is looked up and compared, not handed on.

A `yarl.URL` is encoded already; its str is what is sent.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode

import yarl

from trio_http._errors import InvalidRequest

from ._origin import DEFAULT_PORTS, Origin

URLInput: TypeAlias = "str | yarl.URL"

ParamValue: TypeAlias = "str | int | float | bool"
ParamsInput: TypeAlias = "Mapping[str, ParamValue | Iterable[ParamValue]] | Iterable[tuple[str, ParamValue]]"

# The regular expression of RFC 3986 appendix B, with scheme and authority obligatory.
_ABSOLUTE: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.DOTALL
)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
# host [ ":" port ], an IP literal in brackets (RFC 3986 §3.2).
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
# reg-name (RFC 3986 §3.2.2), less percent-encoding, which no resolver understands.
_NAME: Final = re.compile(r"[a-z0-9\-._~!$&'()*+,;=]+")
_NOT_SENDABLE: Final = re.compile(r"[^\x21-\x7e]")
# A host whose last label is a number is an IPv4 address or nothing: there are no such names (WHATWG URL §3.5,
# "ends in a number checker").
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")

# The longest name that DNS has, and a dot at its end (RFC 1035 §2.3.4). Before IDNA a name is shorter, if
# anything; and IDNA takes a tenth of a millisecond for a character, of which a redirect could have many.
_MAX_HOST: Final = 254


class Destination:
    """One URL, taken apart.

    Attributes:
      origin: where the connection goes.
      host: the value of the Host field.
      target: the request target in origin-form: path and query as they were written (RFC 9112 §3.2.1).
      url: as it was written, without the fragment.
    """

    __slots__ = ("host", "origin", "target", "url")

    def __init__(self, origin: Origin, target: str, url: str) -> None:
        self.origin = origin
        self.host = origin.authority.encode("ascii")
        self.target = target.encode("ascii")
        self.url = url


#: A longer URL is not remembered: it is hardly asked for again, and would be held in several forms.
#: Arbitrary.
REMEMBERED_CHARS: Final = 1024


def parse_url(url: str) -> Destination:
    """Take an absolute URL apart.

    Raises:
      InvalidRequest: it is relative, of another scheme, without a host, or holds what a URL cannot; the text
        says which.
    """
    return _remembered(url) if len(url) <= REMEMBERED_CHARS else _parsed(url)


def _parsed(url: str) -> Destination:
    match = _ABSOLUTE.fullmatch(url)
    if match is None:
        raise InvalidRequest(
            f"URL {_shown(url)} is not absolute, expected one such as https://example.org/path"
        )
    scheme, authority, path, query = match.groups()
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise InvalidRequest(f"URL {_shown(url)} has the scheme {scheme!r}, expected http or https")
    target = (path or "/") if query is None else f"{path or '/'}?{query}"
    if found := _NOT_SENDABLE.search(target):
        raise InvalidRequest(
            f"URL {_shown(url)} holds {found.group()!r}, which must be percent-encoded (RFC 3986 §2.1); "
            "yarl.URL and params= do that"
        )
    return Destination(_origin_of(scheme, authority, url), target, url.partition("#")[0])


# A program asks for the same few URLs again and again, or for a new one each time; neither wants many of them
# kept.
_remembered = functools.lru_cache(maxsize=256)(_parsed)


def _origin_of(scheme: str, authority: str, url: str) -> Origin:
    _, at, hostport = authority.rpartition("@")
    if at:
        # Not shown: that is where a password would be.
        raise InvalidRequest(
            f"URL with credentials before the host {_shown(hostport)}, which are not sent (RFC 9110 §4.2.4); "
            "an Authorization field is"
        )
    match = _AUTHORITY.fullmatch(hostport)
    if match is None:
        raise InvalidRequest(f"URL {_shown(url)} has a malformed host (RFC 3986 §3.2)")
    host, port = match.groups()
    if port and (len(port) > 5 or not 0 < int(port) < 65536):
        raise InvalidRequest(f"URL {_shown(url)} has the port {port}, expected 1-65535")
    return Origin(scheme, _host_of(host, url), int(port) if port else DEFAULT_PORTS[scheme])


def _host_of(host: str, url: str) -> str:
    if not host:
        raise InvalidRequest(f"URL {_shown(url)} has no host (RFC 9110 §4.2.1)")
    if host.startswith("["):
        if "%" in host:
            raise InvalidRequest(
                f"URL {_shown(url)} has an IPv6 zone, which means nothing to a server (RFC 9110 §4.2)"
            )
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError as exc:
            raise InvalidRequest(f"URL {_shown(url)} has the malformed IPv6 address {host}: {exc}") from exc
    if len(host) > _MAX_HOST:
        raise InvalidRequest(
            f"URL {_shown(url)} has a host of {len(host)} characters, expected at most {_MAX_HOST} "
            "(RFC 1035 §2.3.4)"
        )
    if not host.isascii():
        try:
            host = yarl.URL.build(scheme="http", host=host).raw_host or ""  # IDNA, as browsers do it
        except ValueError as exc:
            raise InvalidRequest(f"URL {_shown(url)} has a host that is no name: {exc}") from exc
    host = host.lower()
    if not all(0 < len(label) <= 63 for label in host.removesuffix(".").split(".")):
        raise InvalidRequest(
            f"URL {_shown(url)} has a host with an empty label or one of more than 63 characters"
        )
    if not _NAME.fullmatch(host):
        raise InvalidRequest(f"URL {_shown(url)} has the malformed host {host!r} (RFC 3986 §3.2.2)")
    if _ENDS_IN_NUMBER.fullmatch(host):
        _check_ipv4(host, url)
    return host


def _check_ipv4(host: str, url: str) -> None:
    """Refuse what resolvers take for an IPv4 address and others for a name, such as 127.1 or 0x7f.1: whoever
    allows hosts by their addresses would see none in it."""
    try:
        ipaddress.IPv4Address(host)
    except ValueError as exc:
        raise InvalidRequest(
            f"URL {_shown(url)} has the host {host!r}, which ends in a number and is no IPv4 address: "
            "expected four numbers of 0-255 without leading zeros, and dots between (RFC 3986 §3.2.2)"
        ) from exc


def host_key(given: str, setting: str) -> str:
    """Return a host that a setting names as hosts are compared: as `Origin` has it, and without a final dot.

    Args:
      given: a name in any case, also an internationalized one, or an IP address, with brackets or without.
      setting: its name, for the error.

    Raises:
      ValueError: it is no host. One that is passed over in silence would be a setting without effect.
    """
    if isinstance(given, str):
        host = f"[{given}]" if ":" in given and not given.startswith("[") else given
        try:
            return _host_of(host, given).removesuffix(".")
        except InvalidRequest as exc:
            raise ValueError(
                f"{setting} has {given!r}, expected a host alone, such as example.org: {exc}"
            ) from exc
    raise ValueError(f"{setting} has {given!r}, expected a host as a str")


def url_text(given: object) -> str:
    """Return what was given as a URL as text.

    Raises:
      InvalidRequest: it is neither a str nor a `yarl.URL`.
    """
    if not isinstance(given, str | yarl.URL):
        raise InvalidRequest(f"a URL must be a str or a yarl.URL, not {given!r}")
    return str(given)


def joined_url(base_url: str, url: str) -> str:
    """Return ``url`` when it is absolute, else what it names below ``base_url``.

    It is appended, with one slash between, and not resolved by RFC 3986 §5: so a relative URL, wherever it
    came from, can never lead to another host.
    """
    if _SCHEME.match(url):
        return url
    if not url or url.startswith("?"):
        return base_url + url
    return f"{base_url.rstrip('/')}/{url[1:] if url.startswith('/') else url}"


def with_params(url: str, params: ParamsInput) -> str:
    """Return ``url`` with ``params`` appended to its query, form-encoded (WHATWG URL §5.2).

    Raises:
      InvalidRequest: a value is no str, number or bool.
    """
    query = form_encoded(params)
    if not query:
        return url
    url = url.partition("#")[0]
    if "?" not in url:
        return f"{url}?{query}"
    return f"{url}{query}" if url.endswith(("?", "&")) else f"{url}&{query}"


def form_encoded(params: ParamsInput) -> str:
    """Return ``params`` as ``application/x-www-form-urlencoded`` text; a list of values repeats its name.

    Raises:
      InvalidRequest: a value is no str, number or bool.
    """
    pairs: list[tuple[str, str]] = []
    for name, value in params.items() if isinstance(params, Mapping) else _checked_pairs(params):
        if isinstance(value, str | bytes | int | float) or not isinstance(value, Iterable):
            pairs.append((name, _text_of(name, value)))
        elif isinstance(value, Mapping):
            raise InvalidRequest(
                f"parameter {name!r} is {value!r}, expected a str, a number, a bool, or a list of these; "
                "json= sends what has more structure"
            )
        else:
            pairs.extend((name, _text_of(name, each)) for each in value)
    return urlencode(pairs)


def _checked_pairs(given: object) -> Iterable[tuple[str, Any]]:
    if not isinstance(given, Iterable) or isinstance(given, str | bytes) or hasattr(given, "read"):
        raise InvalidRequest(
            f"params and data are a mapping or pairs, not {type(given).__name__}; what is encoded already "
            "goes into the URL, or into content="
        )
    for pair in given:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InvalidRequest(
                f"params and data have the entry {pair!r}, expected a pair of name and value"
            )
        yield pair[0], pair[1]


def _text_of(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"  # as JSON and most APIs write them
    if isinstance(value, int | float):
        return str(value)
    raise InvalidRequest(
        f"parameter {name!r} is {value!r}, expected a str, a number, a bool, or a list of these"
        + ("; leave out what has no value" if value is None else "")
    )


def _shown(url: str) -> str:
    """Return a URL as it may stand in an error's text: cut, and without what might be a password."""
    match = _ABSOLUTE.fullmatch(url)
    authority = "" if match is None else match.group(2)
    if not authority or "@" in authority or _AUTHORITY.fullmatch(authority) is None:
        return repr(masked(url))
    return repr(_cut(url))  # an @ in here is one of the path or the query


def masked(url: str) -> str:
    """Return a URL as it may stand in an error's text: cut, and without what might be a password.

    Whatever stands before the last ``@`` counts as one, for in a malformed URL a password may hold anything.
    """
    before, at, after = url.rpartition("@")
    if at:
        scheme, slashes, _ = before.partition("://")
        url = f"{scheme}://***@{after}" if slashes and scheme.isalnum() else f"***@{after}"
    return _cut(url)


def _cut(url: str) -> str:
    return url if len(url) <= 100 else f"{url[:100]}..."
