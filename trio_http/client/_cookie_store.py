"""Where cookies are kept: three tables, two limits, and no opinion on who may set what.

Theory of operation
===================

A cookie is known by four things: domain, host-only or not, name, path. A new one takes the place of the one
that agrees in all four, and keeps its age (RFC 6265 §5.3 step 11, 6265bis §5.7).

Each cookie stands in three tables, which change together in `CookieStore.add` and `CookieStore.remove` only:

    `_entries`   by its four things, the least recently sent first   what goes when there are too many
    `_buckets`   by its domain, in the same order                    what a request needs; a domain's limit
    `_secure`    Secure ones only, by name                           what an insecure server must not overlay

So a request costs one look-up for each label of its host, and a look at the cookies of these domains; it is
the same in a jar of ten cookies and one of three thousand.

Expired cookies are never seen from outside, but stay in the tables until somebody comes by. To make room,
they are looked for first; `_soonest` is not after the end of any, so that a full jar is not searched in vain.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TypeAlias

import attrs

from ._cookie_rules import HostFacts, domain_matches, path_matches
from ._set_cookie import SameSite


@attrs.frozen(kw_only=True)
class Cookie:
    """One cookie.

    Attributes:
      name: may be empty; the value is then sent alone.
      value: as it was received. It is often a secret, so ``repr`` does not show it.
      domain: the host, or the domain with all hosts below it, that gets it; lower case, in A-labels.
      path: of the requests that it goes with, and all below.
      expires: when it ends, in seconds since 1970; None: with the session, that is with the jar.
      host_only: it goes to the host ``domain`` alone.
      secure: it goes over secure connections only.
      http_only: not for scripts in a page. Kept, and of no meaning to us.
      same_site: from which sites' pages it may be sent. Kept and not enforced: a request of ours comes from
        no page.
      created: when it was first set, in seconds since 1970.
    """

    name: str
    value: str = attrs.field(repr=False)
    domain: str
    path: str
    expires: float | None
    host_only: bool
    secure: bool
    http_only: bool
    same_site: SameSite | None
    created: float

    def is_expired(self, now: float) -> bool:
        """Whether it has ended by ``now``, in seconds since 1970."""
        return self.expires is not None and self.expires <= now


_Key: TypeAlias = tuple[str, bool, str, str]


class Entry:
    """A cookie in its place.

    Attributes:
      cookie: what it is.
      key: what it is known by.
      number: of those with the same time of creation, the lower was set first.
      pair: as it stands in a Cookie field.
    """

    __slots__ = ("cookie", "key", "number", "pair")

    def __init__(self, cookie: Cookie, number: int) -> None:
        self.cookie = cookie
        self.key: _Key = (cookie.domain, cookie.host_only, cookie.name, cookie.path)
        self.number = number
        self.pair = f"{cookie.name}={cookie.value}" if cookie.name else cookie.value


class CookieStore:
    """The tables.

    Args:
      max_per_domain: cookies of one domain, at least 1.
      max_total: cookies in all, at least 1.

    Raises:
      ValueError: a limit below 1.
    """

    __slots__ = (
        "_buckets",
        "_entries",
        "_max_per_domain",
        "_max_total",
        "_next_number",
        "_secure",
        "_soonest",
    )

    def __init__(self, max_per_domain: int, max_total: int) -> None:
        if max_per_domain < 1 or max_total < 1:
            raise ValueError(f"a jar's limits are at least 1, not {max_per_domain} and {max_total}")
        self._max_per_domain = max_per_domain
        self._max_total = max_total
        self._entries: OrderedDict[_Key, Entry] = OrderedDict()
        self._buckets: dict[str, OrderedDict[_Key, Entry]] = {}
        self._secure: dict[str, dict[_Key, Entry]] = {}
        self._next_number = 0
        self._soonest = math.inf

    @property
    def is_empty(self) -> bool:
        """Nothing is in the tables, not even what has expired."""
        return not self._entries

    def live(self, now: float) -> list[Entry]:
        """Return what has not expired, the least recently sent first."""
        return [entry for entry in self._entries.values() if not entry.cookie.is_expired(now)]

    def take(self, host: HostFacts, path: str, secure: bool, now: float) -> list[Entry]:
        """Return what goes with a request, in the order of its Cookie field, and note that it was sent.

        Args:
          host: the request's.
          path: the request's.
          secure: its connection is.
          now: seconds since 1970.

        Reference: RFC 6265 §5.4: longer paths first, then the older.
        """
        found, expired = [], []
        for domain in host.domains:
            bucket = self._buckets.get(domain)
            if bucket is None:
                continue
            for entry in bucket.values():
                cookie = entry.cookie
                if cookie.is_expired(now):
                    expired.append(entry)
                elif (
                    (domain == host.name or not cookie.host_only)
                    and (secure or not cookie.secure)
                    and path_matches(path, cookie.path)
                ):
                    found.append(entry)
        for entry in expired:
            self.remove(entry)
        found.sort(key=_place_in_field)
        for entry in found:
            self._entries.move_to_end(entry.key)
            self._buckets[entry.cookie.domain].move_to_end(entry.key)
        return found

    def overlays_secure(self, new: Cookie, now: float) -> bool:
        """Whether a request could carry ``new`` where a Secure cookie is meant (6265bis §5.7)."""
        return any(
            not old.is_expired(now)
            and path_matches(new.path, old.path)
            and (domain_matches(old.domain, new.domain) or domain_matches(new.domain, old.domain))
            for old in (entry.cookie for entry in self._secure.get(new.name, {}).values())
        )

    def add(self, cookie: Cookie, now: float) -> None:
        """Put a cookie in, in place of the one that it replaces, and keep the limits.

        One that has expired only removes what it would replace: so servers delete cookies.
        """
        entry = Entry(cookie, self._next_number)
        old = self._entries.get(entry.key)
        if old is not None:
            self.remove(old)
            if not old.cookie.is_expired(now):
                entry = Entry(attrs.evolve(cookie, created=old.cookie.created), old.number)
        if cookie.is_expired(now):
            return
        self._next_number += 1
        bucket = self._buckets.setdefault(cookie.domain, OrderedDict())
        self._entries[entry.key] = bucket[entry.key] = entry
        if cookie.secure:
            self._secure.setdefault(cookie.name, {})[entry.key] = entry
        if cookie.expires is not None:
            self._soonest = min(self._soonest, cookie.expires)
        if len(bucket) > self._max_per_domain:
            self._make_room_in(bucket, now)
        if len(self._entries) > self._max_total:
            self._make_room(now)

    def remove(self, entry: Entry) -> None:
        """Take one out that is in."""
        cookie, key = entry.cookie, entry.key
        del self._entries[key]
        bucket = self._buckets[cookie.domain]
        del bucket[key]
        if not bucket:
            del self._buckets[cookie.domain]
        if cookie.secure:
            of_name = self._secure[cookie.name]
            del of_name[key]
            if not of_name:
                del self._secure[cookie.name]

    def _make_room_in(self, bucket: OrderedDict[_Key, Entry], now: float) -> None:
        """Bring one domain back to its limit; the newest may be what goes (6265bis §5.7)."""
        self._remove_expired(bucket, now)
        while len(bucket) > self._max_per_domain:
            oldest = next(iter(bucket.values()))
            self.remove(next((entry for entry in bucket.values() if not entry.cookie.secure), oldest))

    def _make_room(self, now: float) -> None:
        """Bring the whole back to its limit."""
        if self._soonest <= now:
            self._remove_expired(self._entries, now)
            ends = (entry.cookie.expires for entry in self._entries.values())
            self._soonest = min((end for end in ends if end is not None), default=math.inf)
        while len(self._entries) > self._max_total:
            self.remove(next(iter(self._entries.values())))

    def _remove_expired(self, table: OrderedDict[_Key, Entry], now: float) -> None:
        for entry in [entry for entry in table.values() if entry.cookie.is_expired(now)]:
            self.remove(entry)


def _place_in_field(entry: Entry) -> tuple[int, float, int]:
    return -len(entry.cookie.path), entry.cookie.created, entry.number
