"""Which hosts and paths a cookie is for.

The questions of RFC 6265 §5.1.2–5.1.4, and those that it leaves to us: what a public suffix is, and which
connections are secure.

A connection is *secure* if its scheme is https, or if it stays within the machine: to ``localhost``, a name
below it (RFC 6761 §6.3), 127.0.0.0/8 or ::1. There is nobody to listen, and a program under test sets the
cookies that it will set in earnest. Browsers and curl hold it so, too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from trio_http._errors import InvalidRequest
from trio_http.transport import ip_of

from ._set_cookie import CookieRefused
from ._url import Destination, parse_url

#: Tells whether anybody can register names below a domain, such as co.uk: no cookie may be for all of it.
#: It is given a domain in A-labels and lower case, without a leading dot.
IsPublicSuffix: TypeAlias = Callable[[str], bool]

# A host whose last label is a number is an address or nothing (WHATWG URL §3.5, "ends in a number checker"):
# resolvers read `127.1` and `0x7f.1` as addresses, too. A dot at its end changes nothing.
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")


class HostFacts(NamedTuple):
    """What cookies want to know of a host.

    Attributes:
      name: as in `Origin`.
      domains: whose cookies it can get: itself, and then the domains that it lies in, the nearest first.
        Only itself when it is an address.
      is_address: an IP address, however it is written.
      is_loopback: a connection to it does not leave the machine.
    """

    name: str
    domains: tuple[str, ...]
    is_address: bool
    is_loopback: bool


# As many as `parse_url` keeps: they are asked for together.
@functools.lru_cache(maxsize=256)
def host_facts(host: str) -> HostFacts:
    """Return the facts of a host as `Origin` has it: in lower case and A-labels, or an address."""
    if ":" in host or _ENDS_IN_NUMBER.fullmatch(host):
        address = ip_of(host.removesuffix("."))
        return HostFacts(host, (host,), True, address is not None and address.is_loopback)
    starts = [0] + [place.end() for place in re.finditer(r"\.(?=.)", host)]
    name = host.removesuffix(".")
    is_loopback = name == "localhost" or name.endswith(".localhost")
    return HostFacts(host, tuple(host[start:] for start in starts), False, is_loopback)


def host_argument(domain: str) -> str:
    """Return a host that a user names as URLs have it: in lower case and A-labels, an address without
    brackets.

    Raises:
      ValueError: it is none.
    """
    if domain.startswith("."):
        raise ValueError(f"domain {domain!r} begins with a dot; say host_only=False for all hosts below it")
    host = f"[{domain}]" if ":" in domain and not domain.startswith("[") else domain
    if not set(host).isdisjoint("/?#@\\") or (host.startswith("[") and not host.endswith("]")):
        raise ValueError(f"domain {domain!r} is not a host alone")
    try:
        return parse_url(f"https://{host}/").origin.host
    except InvalidRequest as exc:
        raise ValueError(f"domain {domain!r} is not a host: {exc}") from exc


def domain_matches(host: str, domain: str) -> bool:
    """Whether a cookie for ``domain`` and all below it is for ``host`` (RFC 6265 §5.1.3)."""
    return domain in host_facts(host).domains


def is_secure(destination: Destination) -> bool:
    """Whether what goes there can be read by no one on the way."""
    origin = destination.origin
    return origin.scheme == "https" or host_facts(origin.host).is_loopback


def path_of(destination: Destination) -> str:
    """Return the path of a request: as it was written, since servers differ on what ``%2F`` means."""
    return destination.target.partition(b"?")[0].decode("ascii")


def default_path(path: str) -> str:
    """Return the path of cookies that do not name one: that of the request up to its last slash (RFC 6265
    §5.1.4)."""
    return path[: path.rindex("/")] or "/"


def path_matches(path: str, cookie_path: str) -> bool:
    """Whether a cookie for ``cookie_path`` is for requests to ``path`` (RFC 6265 §5.1.4)."""
    if not path.startswith(cookie_path):
        return False
    return len(path) == len(cookie_path) or cookie_path.endswith("/") or path[len(cookie_path)] == "/"


def check_prefix(name: str, value: str, *, secure: bool, host_only: bool, path: str | None) -> None:
    """Refuse a cookie that does not have what its name promises (6265bis §5.4).

    Args:
      name, value, secure, host_only: of the cookie.
      path: as it was asked for; None when it was not.

    Raises:
      CookieRefused: ``__Secure-`` without Secure; ``__Host-`` without Secure, with a Domain, or without a
        Path of "/"; or no name, and a value that would be taken for such a name.
    """
    lowered = (name or value)[:9].lower()  # case-insensitive: servers exist that read them so
    if not lowered.startswith(("__secure-", "__host-")):
        return
    if not name:
        raise CookieRefused("it has no name, and its value begins as a name with a prefix does")
    if not secure:
        raise CookieRefused(f"its name {name[:60]!r} promises Secure")
    if lowered.startswith("__host-") and not (host_only and path == "/"):
        raise CookieRefused(f'its name {name[:60]!r} promises no Domain, and a Path of "/"')


# Reading the list takes about 0.1 s and some megabytes: once a process.
@functools.cache
def installed_public_suffixes() -> IsPublicSuffix | None:
    """Return the public suffix list, or None when ``publicsuffixlist`` is not installed."""
    try:
        import publicsuffixlist  # deferred import: an optional dependency, of the extra `cookies`
    except ImportError:
        return None
    # Domains of no rule fall under its rule "*": a single label is always a public suffix.
    return publicsuffixlist.PublicSuffixList().is_public
