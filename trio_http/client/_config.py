"""What a client may be told."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypedDict

import attrs
import trio

from trio_http import wire
from trio_http._kinds import (
    charset,
    check_all,
    count,
    field_value,
    function,
    leniencies,
    made_of,
    mapping,
    number,
    positive,
    rate,
    switch,
    whole_number,
)
from trio_http.instruments import ClientInstrument
from trio_http.messages import CharsetChoice
from trio_http.transport import Transport

from ._addresses import PinnedAddresses, Resolver
from ._auth import Auth, AuthInput, as_auth
from ._connect import UnixSocket
from ._cookies import CookieJar, as_cookie_jar
from ._hints import unknown_options
from ._proxy import Proxy, ProxyChoice
from ._rate_limit import RateLimit
from ._retry import Retry
from ._tls_settings import SSLContextInput

#: Makes a byte stream to a host and port for a scheme ("http" or "https"). TLS is put over it by the client
#: when the scheme wants it, unless it is there already: in a `trio.SSLStream`, or a transport with ``tls``.
Dial: TypeAlias = Callable[[str, int, str], Awaitable[trio.abc.Stream | Transport]]

#: The settings that a dial of the caller's takes the place of.
_DIALS: Final = (
    "proxy",
    "proxies_from_environment",
    "unix_socket",
    "resolver",
    "pinned_addresses",
    "name_cache_seconds",
    "local_address",
)

#: By host: what the certificate of its server may be, see `ClientConfig`.
CertificatePins: TypeAlias = "Mapping[str, str | Iterable[str]]"


@attrs.frozen(kw_only=True)
class ClientPace:
    """How a server has to keep up; it is given up when it does not. Times in seconds, `math.inf` for ever;
    rates in bytes per second, 0 for any.

    The clock runs only while the server is waited for. `stall` and the rates work together: a server that is
    slower than a rate may fall behind by the stall limit, and one that is silent is given up after just that.

    Attributes:
      head: from the end of the request to the head of the final response. For ever unless set: how long an
        answer takes only the caller knows, and says with a cancel scope.
      stall: without a byte of the response's body, or without the server taking a byte of the request.
        Precedent: nginx 60 towards its upstreams. A stream of events may be silent for longer: give it more.
      receive_rate: of the response's body, at least. Precedent for 0: curl, without ``--speed-limit``.
      send_rate: of the request, as the server takes it, at least.
    """

    head: float = attrs.field(default=math.inf, validator=positive)
    stall: float = attrs.field(default=60.0, validator=positive)
    receive_rate: float = attrs.field(default=0.0, validator=rate)
    send_rate: float = attrs.field(default=0.0, validator=rate)


def _instruments(values: Iterable[ClientInstrument]) -> tuple[ClientInstrument, ...]:
    return check_all("instruments", values, ClientInstrument, "list")


def _local_address(value: str | None) -> str | None:
    if value is not None:
        try:
            if not isinstance(value, str):
                raise ValueError("it is no str")  # an int would do, too
            ipaddress.ip_address(value)
        except ValueError as exc:
            raise ValueError(f"local_address must be an IP address to connect from, not {value!r}") from exc
    return value


def _as_proxy(value: ProxyChoice) -> ProxyChoice:
    # At once, for the str may hold a password, which a repr of the settings would show.
    return Proxy.from_url(value) if isinstance(value, str) else value


def _auth(value: AuthInput | None) -> Auth | None:
    return None if value is None else as_auth(value)


@attrs.frozen(kw_only=True)
class ClientConfig:
    """The settings of a `Client`. None of them limits the time of a request: that is what cancel scopes are
    for.

    Attributes:
      max_connections: open and being opened, in all, at least 1. Precedent: httpx and aiohttp 100.
      max_connections_per_origin: the same for one scheme, host and port, or for one proxy that forwards, at
        least 1. Precedent: browsers have 6; a program's requests to one service want some more.
      idle_seconds: how long a connection is kept without a request, above 0; less when the server's
        Keep-Alive field says less. Precedent: aiohttp 15; shorter than the 60-75 after which common servers
        close, so that we are seldom the second to do so.
      dial_seconds: how long one dial may take, from the name to the end of the TLS handshake, above 0.
        Precedent: Go 30.
      expect_seconds: how long content waits for a 100 (Continue) that the caller asked for, at least 0.
        Precedent: Go and curl 1.
      max_content_bytes: the most that a whole response's content may have, decoded; a streamed one is not
        limited. Arbitrary.
      limits, lenient: what the wire accepts of a server; see `trio_http.wire`.
      pace: how a server has to keep up.
      decode: content codings of responses are undone; and asked for.
      charset: that of a response's text where its Content-Type names none, or a function that finds it in the
        content, as charset detectors do.
      follow_redirects: a redirect is followed, up to `max_redirects` of them.
      max_redirects: at least 0. Precedent: httpx, curl and the Fetch standard 20 to 50.
      cookies: keeps what servers set, and sends it; None: cookies are left alone.
      auth: who the client is, to the origin of each request; and no other.
      retry: when a request is made once more; None: never, but for lost races (see `Client`).
      rate_limit: how many requests may begin in a time; None: any number.
      propagate_deadline: tell servers how much time is left, in milliseconds in the field Request-Deadline,
        if a cancel scope around the request limits it.
      user_agent: the User-Agent field of requests that have none.
      ssl_context: for https: one for all origins, or a function of the origin. None: one that verifies by
        the system's certificates.
      tls_names: the name that a server has to prove, in place of the URL's host: a mapping by host.
      pinned_certificates: by host: what the server's own certificate must be, besides being verified; one of
        several. Each is the SHA-256 of the certificate in hexadecimal, or that of its public key as
        ``sha256//`` and Base64 (curl's ``--pinnedpubkey``).
      resume_sessions: begin TLS with the session of the last connection to the same server, which is less
        work for both. Off, since the certificate is then not verified again, and since who watches can tell
        that two connections are of the same client (RFC 8446 appendix C.4). Precedent: Go, off. Each costs
        some 7 kB of memory for ever in Python 3.11, 3.12 before 3.12.8 and 3.13.0 (python/cpython#116810).
      resolver: finds the addresses of a name; None: the system's.
      pinned_addresses: the addresses of names that are not looked up.
      name_cache_seconds: how long found addresses are kept, at least 0.
      local_address: the IP address to connect from; None: the system's choice.
      unix_socket: the path of a socket to connect to instead of host and port, or a function of the origin,
        which returns None for those that have none. What has one goes through no proxy.
      dial: makes connections instead of all that; see `Dial`.
      proxy: what requests go through: a `Proxy`, its URL, or a function of the origin.
      proxies_from_environment: go by the variables "http_proxy", "https_proxy", "all_proxy" and "no_proxy";
        not with `proxy`.
      instruments: are told what happens.
    """

    max_connections: int = attrs.field(default=100, validator=count)
    max_connections_per_origin: int = attrs.field(default=10, validator=count)
    idle_seconds: float = attrs.field(default=15.0, validator=positive)
    dial_seconds: float = attrs.field(default=30.0, validator=positive)
    expect_seconds: float = attrs.field(default=1.0, validator=number(0))
    max_content_bytes: int = attrs.field(
        default=64 * 1024 * 1024, validator=number(0, hint="math.inf for no limit")
    )
    limits: wire.Limits = attrs.field(factory=wire.Limits, validator=made_of(wire.Limits))
    lenient: frozenset[wire.Leniency] = attrs.field(default=frozenset(), converter=leniencies)
    pace: ClientPace = attrs.field(factory=ClientPace, validator=made_of(ClientPace))
    decode: bool = attrs.field(default=True, validator=switch)
    charset: CharsetChoice = attrs.field(default="utf-8", validator=charset)
    follow_redirects: bool = attrs.field(default=False, validator=switch)
    max_redirects: int = attrs.field(default=20, validator=whole_number(0))
    cookies: CookieJar | None = attrs.field(default=None, validator=made_of(CookieJar, optional=True))
    auth: Auth | None = attrs.field(default=None, converter=_auth)
    retry: Retry | None = attrs.field(default=None, validator=made_of(Retry, optional=True))
    rate_limit: RateLimit | None = attrs.field(default=None, validator=made_of(RateLimit, optional=True))
    propagate_deadline: bool = attrs.field(default=False, validator=switch)
    user_agent: str = attrs.field(default=wire.PRODUCT_ID, validator=field_value("User-Agent"))
    ssl_context: SSLContextInput = None
    tls_names: Mapping[str, str] = attrs.field(factory=dict, validator=mapping)
    pinned_certificates: CertificatePins = attrs.field(factory=dict, validator=mapping)
    resume_sessions: bool = attrs.field(default=False, validator=switch)
    resolver: Resolver | None = attrs.field(default=None, validator=function)
    pinned_addresses: PinnedAddresses = attrs.field(factory=dict, validator=mapping)
    name_cache_seconds: float = attrs.field(default=0.0, validator=number(0))
    local_address: str | None = attrs.field(default=None, converter=_local_address)
    unix_socket: UnixSocket = None
    dial: Dial | None = attrs.field(default=None, validator=function)
    proxy: ProxyChoice = attrs.field(default=None, converter=_as_proxy)
    proxies_from_environment: bool = attrs.field(default=False, validator=switch)
    instruments: Sequence[ClientInstrument] = attrs.field(default=(), converter=_instruments)

    def __attrs_post_init__(self) -> None:
        if self.proxies_from_environment and self.proxy is not None:
            raise ValueError("give proxy or proxies_from_environment, not both")
        if self.dial is not None:
            both = [name for name in _DIALS if getattr(self, name)]
            if both:
                raise ValueError(f"give dial or {both[0]}, not both: a dial of your own does all of that")


class ClientOptions(TypedDict, total=False):
    """The attributes of `ClientConfig` as keywords."""

    max_connections: int
    max_connections_per_origin: int
    idle_seconds: float
    dial_seconds: float
    expect_seconds: float
    max_content_bytes: int
    limits: wire.Limits
    lenient: Iterable[wire.Leniency]
    pace: ClientPace
    decode: bool
    charset: CharsetChoice
    follow_redirects: bool
    max_redirects: int
    cookies: CookieJar | Mapping[str, str] | bool | None
    auth: AuthInput | None
    retry: Retry | None
    rate_limit: RateLimit | None
    propagate_deadline: bool
    user_agent: str
    ssl_context: SSLContextInput
    tls_names: Mapping[str, str]
    pinned_certificates: CertificatePins
    resume_sessions: bool
    resolver: Resolver | None
    pinned_addresses: PinnedAddresses
    name_cache_seconds: float
    local_address: str | None
    unix_socket: UnixSocket
    dial: Dial | None
    proxy: ProxyChoice
    proxies_from_environment: bool
    instruments: Iterable[ClientInstrument]


def config_of(options: Mapping[str, Any], base_url: str | None) -> ClientConfig:
    """Return the settings that keywords of `ClientOptions` ask for."""
    given = dict(options)
    known = ClientOptions.__annotations__
    if unknown := given.keys() - known.keys():
        raise unknown_options(unknown, {*known, "base_url", "headers"})
    if "cookies" in given:
        given["cookies"] = as_cookie_jar(given["cookies"], base_url)
    return ClientConfig(**given)


@attrs.frozen(kw_only=True)
class PoolCounts:
    """What a pool holds, in all or for one origin.

    Attributes:
      dialing: connections being made.
      leased: connections with a request under way.
      idle: connections that wait for a request.
      waiting: requests that wait for a connection.
    """

    dialing: int
    leased: int
    idle: int
    waiting: int


@attrs.frozen(kw_only=True)
class ClientStatistics(PoolCounts):
    """What the pool of a client holds at a moment: the sums, and each origin.

    Attributes:
      origins: the counts of each origin for which there is anything, as in ``"https://example.org"``; with
        the proxy when there is one.
    """

    origins: Mapping[str, PoolCounts] = attrs.field(factory=dict, eq=False)
