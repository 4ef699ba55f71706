"""The cookie jar: what servers asked to be told again, and whom it is told to.

RFC 6265 (§5.3, §5.4) says what is stored and sent, and its successor, the draft 6265bis, what experience has
added. Each question has a module: `_set_cookie` what a field says, `_cookie_rules` whom a cookie is for,
`_cookie_store` where it is kept; here it is decided what may be kept.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Any, Final, TypeAlias

import attrs

from ._cookie_rules import (
    HostFacts,
    IsPublicSuffix,
    check_prefix,
    default_path,
    domain_matches,
    host_argument,
    host_facts,
    installed_public_suffixes,
    is_secure,
    path_of,
)
from ._cookie_store import Cookie, CookieStore, Entry
from ._set_cookie import CookieRefused, SetCookie, check_pair, parse_set_cookie
from ._url import Destination, parse_url

logger = logging.getLogger("trio_http.client")

#: What may be said of a client's cookies; see `as_cookie_jar`.
CookiesInput: TypeAlias = "CookieJar | Mapping[str, str] | bool | None"

_JSON_VERSION: Final = 1


class CookieJar:
    """Cookies, kept and given out by RFC 6265 §5.

    What it has of 6265bis (draft-ietf-httpbis-rfc6265bis-22): the promises of names that begin with
    ``__Secure-`` and ``__Host-``, in any case; no Secure cookies from insecure servers, nor any that overlay
    one; no control characters; limits of size; cookies without a name; a life of at most 400 days; host-only
    cookies beside those of the same domain.

    A server can set cookies for its own host, and for the domains that this lies in as far as these are not
    public suffixes (co.uk, github.io). What these are is known with the package ``publicsuffixlist``
    (the extra ``trio-http[cookies]``). Without it every received cookie is host-only: one that is meant for
    ``example.org`` goes back to the very host that set it, and to no other.

    Connections over https and those that stay within the machine (``localhost`` and all below it,
    127.0.0.0/8, ::1) are secure ones. Cookies do not know ports (RFC 6265 §8.5).

    It does no I/O, and none of its methods is a checkpoint. One jar may serve many tasks, also several
    clients, but not several threads.

    Args:
      max_per_domain: cookies of one domain, at least 1. Beyond it expired ones go, then those that are not
        Secure, and of these the ones that were not sent for longest (6265bis §5.7). Precedent: Chromium 180;
        RFC 6265 §6.1 asks for 50 at least.
      max_total: cookies in all, at least 1; the ones that were not sent for longest go. RFC 6265 §6.1: 3000
        at least.
      is_public_suffix: which domains are nobody's; see `IsPublicSuffix`. None: by the installed list, which
        is read when the first jar is made (0.1 s, once a process).

    Raises:
      ValueError: a limit below 1.
    """

    __slots__ = ("_is_public_suffix", "_store")

    def __init__(
        self,
        *,
        max_per_domain: int = 180,
        max_total: int = 3000,
        is_public_suffix: IsPublicSuffix | None = None,
    ) -> None:
        self._store = CookieStore(max_per_domain, max_total)
        self._is_public_suffix = installed_public_suffixes() if is_public_suffix is None else is_public_suffix

    @classmethod
    def from_mapping(cls, cookies: Mapping[str, str], url: str) -> CookieJar:
        """Return a new jar with cookies of these names and values for the host of ``url`` alone.

        They go with every path, and only over https if that is the scheme of ``url``.

        Raises:
          ValueError: a bad name or value.
          InvalidRequest: a bad URL.
        """
        jar = cls()
        origin = parse_url(url).origin
        for name, value in cookies.items():
            jar.set(name, value, domain=origin.host, secure=origin.scheme == "https")
        return jar

    # ------------------------------------------------------------------------------------ for a client's use

    def receive(self, url: str, values: Iterable[str], now: float | None = None) -> None:
        """Take what a response sets.

        A cookie that the server must not set, or that makes no sense, is passed over with a line in the log
        ``trio_http.client`` at level DEBUG, which does not tell its value. A server can raise nothing here.

        Args:
          url: of the request.
          values: the response's Set-Cookie field values, in order: ``headers.get_all("set-cookie")``.
          now: seconds since 1970; None: the system's clock.

        Raises:
          InvalidRequest: a bad URL, before anything was taken.
          TypeError: ``values`` is one str.
        """
        if isinstance(values, str):
            raise TypeError("the values of Set-Cookie are a list of str, not one str; see Headers.get_all")
        destination = parse_url(url)
        moment = time.time() if now is None else now
        for value in values:
            try:
                self._store.add(self._cookie_of(parse_set_cookie(value), destination, moment), moment)
            except CookieRefused as exc:
                if logger.isEnabledFor(logging.DEBUG):
                    logger.debug("cookie %s of %s refused: %s", _shown(value), destination.origin, exc)

    def field_for(self, url: str, now: float | None = None) -> str | None:
        """Return the value of the Cookie field for a request, or None: without one.

        Cookies with longer paths stand first, and of those with equally long ones the older (RFC 6265 §5.4).

        Args:
          url: of the request, as it was written.
          now: seconds since 1970; None: the system's clock.

        Raises:
          InvalidRequest: a bad URL; an empty jar does not look at it.
        """
        if self._store.is_empty:
            return None
        destination = parse_url(url)
        found = self._store.take(
            host_facts(destination.origin.host),
            path_of(destination),
            is_secure(destination),
            time.time() if now is None else now,
        )
        return "; ".join([entry.pair for entry in found]) or None

    # ------------------------------------------------------------------------------------------ for a user's

    def set(
        self,
        name: str,
        value: str,
        *,
        domain: str,
        path: str = "/",
        host_only: bool = True,
        secure: bool = False,
        expires: float | None = None,
        now: float | None = None,
    ) -> None:
        """Put a cookie of your own in, in place of the one with the same name, domain and path.

        Args:
          name, value: Latin-1 text without ";" and control characters, at most 4096 bytes together; the name
            is not empty and has no "=". Other text has to be percent-encoded first.
          domain: a host, or with ``host_only=False`` a domain.
          path: of the requests that it goes with; begins with "/".
          host_only: it goes to the host ``domain`` alone, and not also to all below it.
          secure: it goes over secure connections only.
          expires: when it ends, in seconds since 1970; None: with the jar.
          now: seconds since 1970; None: the system's clock.

        Raises:
          ValueError: any of them cannot be so; the text says which. Nothing was changed.
        """
        moment = time.time() if now is None else now
        if not name:
            raise ValueError("a cookie needs a name")
        cookie = Cookie(
            name=name,
            value=value,
            domain=host_argument(domain),
            path=path,
            expires=expires,
            host_only=host_only,
            secure=secure,
            http_only=False,
            same_site=None,
            created=moment,
        )
        self._check(cookie)
        if cookie.is_expired(moment):
            raise ValueError(f"cookie {name!r} would have ended at {expires}, before now ({moment})")
        self._store.add(cookie, moment)

    def get(self, name: str, *, domain: str | None = None, path: str | None = None) -> str | None:
        """Return the value of the cookie called ``name``, or None without one.

        Args:
          name: in the case that it was set with.
          domain: only of this very domain; None: any.
          path: only of this very path; None: any.

        Raises:
          ValueError: several cookies are meant; the text says where they are.
        """
        found = [entry.cookie for entry in self._called(name, domain, path)]
        if len(found) > 1:
            places = ", ".join(f"{cookie.domain}{cookie.path}" for cookie in found)
            raise ValueError(f"{len(found)} cookies are called {name!r}, say domain= or path=: {places}")
        return found[0].value if found else None

    def delete(self, name: str, *, domain: str | None = None, path: str | None = None) -> int:
        """Remove the cookies called ``name``, narrowed as in `get`, and return how many they were."""
        found = self._called(name, domain, path)
        for entry in found:
            self._store.remove(entry)
        return len(found)

    def clear(self, domain: str | None = None) -> None:
        """Remove the cookies of ``domain`` and of all that lies below it; None: all cookies."""
        below = None if domain is None else host_argument(domain)
        for entry in self._store.live(-math.inf):  # expired ones, too
            if below is None or domain_matches(entry.cookie.domain, below):
                self._store.remove(entry)

    def __iter__(self) -> Iterator[Cookie]:
        """The cookies that have not expired, the least recently sent first; a snapshot."""
        return iter([entry.cookie for entry in self._store.live(time.time())])

    def __len__(self) -> int:
        """The number of cookies that have not expired."""
        return len(self._store.live(time.time()))

    def __bool__(self) -> bool:
        """Always: ``jar or CookieJar()`` would otherwise drop a jar for being empty yet."""
        return True

    def __repr__(self) -> str:
        return f"<CookieJar: {len(self)} cookies of {len({cookie.domain for cookie in self})} domains>"

    # ------------------------------------------------------------------------------------------- persistence

    def to_json(self, *, session: bool = False) -> str:
        """Return the cookies that have not expired as JSON text, for `from_json`.

        It holds what others could log in with: keep it as you keep passwords.

        Args:
          session: also those that end with the session.
        """
        kept = sorted(self._store.live(time.time()), key=lambda entry: (entry.cookie.created, entry.number))
        cookies = [
            attrs.asdict(entry.cookie) for entry in kept if session or entry.cookie.expires is not None
        ]
        return json.dumps({"version": _JSON_VERSION, "cookies": cookies})

    @classmethod
    def from_json(
        cls,
        text: str,
        *,
        max_per_domain: int = 180,
        max_total: int = 3000,
        is_public_suffix: IsPublicSuffix | None = None,
    ) -> CookieJar:
        """Return a new jar with the cookies that `to_json` wrote.

        Those that have expired in the meantime are left out, and so are those of domains that have become
        public suffixes (6265bis §5.8.3).

        Args:
          text: what was written.
          max_per_domain, max_total, is_public_suffix: as `CookieJar` has them.

        Raises:
          ValueError: it is not what `to_json` writes; the text says where.
        """
        jar = cls(max_per_domain=max_per_domain, max_total=max_total, is_public_suffix=is_public_suffix)
        now = time.time()
        held = json.loads(text)
        if not isinstance(held, dict) or held.get("version") != _JSON_VERSION:
            raise ValueError(f"no cookies of version {_JSON_VERSION}, as CookieJar.to_json writes them")
        listed = held.get("cookies")
        if not isinstance(listed, list):
            raise ValueError(f"the cookies are a list, not {type(listed).__name__}")
        for index, item in enumerate(listed):
            try:
                cookie = _cookie_from(item)
                if not cookie.host_only and jar._is_nobodys(cookie.domain):
                    continue
                jar._check(cookie)
            except ValueError as exc:
                raise ValueError(f"cookie {index}: {exc}") from exc
            if not cookie.is_expired(now):
                jar._store.add(cookie, now)
        return jar

    # ------------------------------------------------------------------------------- what may be in, and why

    def _cookie_of(self, given: SetCookie, destination: Destination, now: float) -> Cookie:
        """Return the cookie that a server may set by saying ``given`` (RFC 6265 §5.3, 6265bis §5.7).

        Raises:
          CookieRefused: it may not.
        """
        host, secure = host_facts(destination.origin.host), is_secure(destination)
        domain, host_only = self._domain_of(given.domain, host)
        if given.secure and not secure:
            raise CookieRefused("it is Secure, and the connection is not")
        check_prefix(
            given.name,
            given.value,
            secure=given.secure,
            host_only=not given.domain,
            path=given.path,
        )
        cookie = Cookie(
            name=given.name,
            value=given.value,
            domain=domain,
            path=default_path(path_of(destination)) if given.path is None else given.path,
            expires=given.expires_at(now),
            host_only=host_only,
            secure=given.secure,
            http_only=given.http_only,
            same_site=given.same_site,
            created=now,
        )
        if not secure and self._store.overlays_secure(cookie, now):
            raise CookieRefused("it would overlay a Secure cookie, and the connection is not secure")
        return cookie

    def _domain_of(self, domain: str, host: HostFacts) -> tuple[str, bool]:
        """Return the domain of a new cookie, and whether it is host-only.

        Raises:
          CookieRefused: ``domain`` is not one that the host may set cookies for.
        """
        if not domain:
            return host.name, True
        if domain not in host.domains:
            raise CookieRefused(f"its Domain {domain[:60]!r} is none that the host lies in")
        if host.is_address or self._is_public_suffix is None:
            return host.name, True
        if not self._is_public_suffix(domain):
            return domain, False
        if domain == host.name:
            return host.name, True
        raise CookieRefused(f"its Domain {domain[:60]!r} is a public suffix")

    def _is_nobodys(self, domain: str) -> bool:
        return self._is_public_suffix is not None and self._is_public_suffix(domain)

    def _check(self, cookie: Cookie) -> None:
        """Refuse a cookie of the user's that could not be, or not be sent.

        Raises:
          ValueError: the text says what is wrong.
        """
        what = f"cookie {cookie.name[:60]!r}"
        try:
            check_pair(cookie.name, cookie.value)
            check_prefix(
                cookie.name,
                cookie.value,
                secure=cookie.secure,
                host_only=cookie.host_only,
                path=cookie.path,
            )
        except CookieRefused as exc:
            raise ValueError(f"{what}: {exc}") from exc
        if not cookie.path.startswith("/"):
            raise ValueError(f'{what} has the path {cookie.path[:60]!r}, expected one that begins with "/"')
        for number in (cookie.created, cookie.expires):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{what} has the time {number}, expected seconds since 1970")
        if cookie.host_only:
            return
        if host_facts(cookie.domain).is_address:
            raise ValueError(f"{what} is for {cookie.domain} and all below, but that is an address")
        if self._is_nobodys(cookie.domain):
            raise ValueError(f"{what} is for all of {cookie.domain!r}, which is a public suffix")

    def _called(self, name: str, domain: str | None, path: str | None) -> list[Entry]:
        wanted = None if domain is None else host_argument(domain)
        return [
            entry
            for entry in self._store.live(time.time())
            if entry.cookie.name == name
            and wanted in (None, entry.cookie.domain)
            and path in (None, entry.cookie.path)
        ]


def as_cookie_jar(cookies: CookiesInput, base_url: str | None) -> CookieJar | None:
    """Return the jar that a client is to use.

    Args:
      cookies: a jar, which may be another client's, too; True: a new, empty one; None or False: none at all;
        or names and values, which start a new jar and go to the host of ``base_url`` alone: a cookie without
        a host would go to every host that a URL, or a redirect, names.
      base_url: the client's.

    Raises:
      ValueError: names and values without a ``base_url``, or bad ones.
      TypeError: anything else.
    """
    if cookies is None or cookies is False:
        return None
    if cookies is True:
        return CookieJar()
    if isinstance(cookies, CookieJar):
        return cookies
    if not isinstance(cookies, Mapping):
        raise TypeError(f"cookies are a CookieJar, a mapping or a bool, not {type(cookies).__name__}")
    if base_url is None:
        raise ValueError(
            "cookies given as names and values go to the host of base_url, and there is none; give one, or a "
            "CookieJar with set(name, value, domain=...)"
        )
    return CookieJar.from_mapping(cookies, base_url)


def _shown(value: str) -> str:
    """Return the name of a cookie as it may stand in a log: never the value, and that is all there is without
    a name."""
    name, equals, _ = value.partition(";")[0].partition("=")
    return repr(name.strip()[:60]) if equals else "without a name"


# What JSON has for each attribute of a `Cookie`.
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "name": (str,),
    "value": (str,),
    "domain": (str,),
    "path": (str,),
    "expires": (int, float, NoneType),
    "host_only": (bool,),
    "secure": (bool,),
    "http_only": (bool,),
    "same_site": (str, NoneType),
    "created": (int, float),
}


def _cookie_from(item: Any) -> Cookie:
    """Return what one member of the JSON list means.

    Raises:
      ValueError: it means no cookie.
    """
    if not isinstance(item, dict) or item.keys() != _TYPES.keys():
        raise ValueError(f"expected an object with the members {', '.join(_TYPES)}")
    for name, types in _TYPES.items():
        if type(item[name]) not in types:
            raise ValueError(f"{name} is of the type {type(item[name]).__name__}")
    if item["same_site"] not in (None, "Strict", "Lax", "None"):
        raise ValueError(f"same_site is {item['same_site'][:60]!r}")
    if host_argument(item["domain"]) != item["domain"]:
        raise ValueError(f"domain {item['domain'][:60]!r} is not in lower case and A-labels")
    return Cookie(**item)
