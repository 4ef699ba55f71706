"""From a host to IP addresses: pinned ones, remembered ones, or those that a resolver gives."""

from __future__ import annotations

import copy
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import trio

from trio_http._kinds import check_number

from ._url import host_key

#: Finds the IP addresses of a host, in order of preference. The port is there for those who keep addresses by
#: service. It is not asked about a host that is an IP address.
Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

#: Addresses to use instead of asking a resolver: by host, or by host and port.
PinnedAddresses: TypeAlias = "Mapping[str | tuple[str, int], str | Sequence[str]]"

#: How many names are remembered at most. Arbitrary: a hundred times the origins that a pool of the usual size
#: can serve at once, in some hundred kB.
_MAX_NAMES: Final = 1000


class _Lookup:
    """A lookup under way.

    Attributes:
      done: it has ended.
      addresses, error: how; both None when it was cancelled, or failed with something else than an `OSError`.
    """

    __slots__ = ("addresses", "done", "error")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.addresses: tuple[str, ...] | None = None
        self.error: OSError | None = None


class Addresses:
    """Where the addresses of hosts are known.

    What is asked in turn: the pinned addresses of host and port, those of the host, the names remembered, the
    resolver. Hosts are compared without case and without a final dot.

    Args:
      resolver: None: `trio.socket.getaddrinfo`, so the system's, or whatever
        `trio.socket.set_custom_hostname_resolver` has put in its place.
      pinned: IP addresses by host or by host and port; one, or several in order of preference.
      cache_seconds: how long a resolver's answer is remembered, at least 0. It is a fixed time, since the
        system's resolver does not tell how long an answer is good. 0: not at all.

    Raises:
      ValueError: a pinned address is no IP address, or there is none for a host; or what is to be a host is
        none; or a negative time.
    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        pinned: PinnedAddresses | None = None,
        cache_seconds: float = 0.0,
    ) -> None:
        check_number("cache_seconds", cache_seconds, unit="seconds")
        self._resolver = _system_resolver if resolver is None else resolver
        self._pinned: dict[tuple[str, int | None], tuple[str, ...]] = {}
        for key, given in (pinned or {}).items():
            host, port = (key, None) if isinstance(key, str) else key
            who = f"the pinned addresses of {key!r}"
            self._pinned[host_key(host, "pinned_addresses"), port] = _checked(
                [given] if isinstance(given, str) else given, who
            )
        self._cache_seconds = cache_seconds
        # In the order of expiry, since all answers live equally long.
        self._known: dict[tuple[str, int], tuple[float, tuple[str, ...]]] = {}
        self._lookups: dict[tuple[str, int], _Lookup] = {}

    async def of(self, host: str, port: int) -> tuple[str, ...]:
        """Return the IP addresses of ``host``, at least one, in order of preference.

        Tasks that ask for the same at the same time share one lookup, and its answer or its failure. Failures
        are not remembered.

        Args:
          host: a name, or an IP address without brackets, which is its own answer unless it is pinned.
          port: 1-65535.

        Returns:
          Addresses without doubles. One of IPv6 may have a zone, as in "fe80::1%2".

        Raises:
          OSError: the name is unknown (`socket.gaierror`), or has no address.
          ValueError: the resolver gave something else than IP addresses; its author's fault.
          Exception: the resolver's own, as they are.

        Cancellation: nothing has changed. When other tasks have waited for this one's lookup, one of them
          begins it again.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        name = _plain(host)
        pinned = self._pinned.get((name, port)) or self._pinned.get((name, None))
        if pinned is not None:
            return pinned
        if _is_address(host):
            return (host,)
        key = name, port
        while True:
            if key in self._known:
                expiry, addresses = self._known[key]
                if trio.current_time() < expiry:
                    return addresses
                del self._known[key]
            lookup = self._lookups.get(key)
            if lookup is None:
                return await self._look_up(host, key)
            await lookup.done.wait()
            if lookup.addresses is not None:
                return lookup.addresses
            if lookup.error is not None:
                # A copy, for an exception that is raised by many tasks collects the tracebacks of all.
                raise copy.copy(lookup.error) from lookup.error

    def forget(self, host: str, port: int) -> None:
        """Do not remember the addresses of ``host``: none of them could be reached. Pinned ones stay."""
        self._known.pop((_plain(host), port), None)

    async def _look_up(self, host: str, key: tuple[str, int]) -> tuple[str, ...]:
        """Ask the resolver, for this task and all that wait for the same."""
        lookup = self._lookups[key] = _Lookup()
        try:
            lookup.addresses = await self._ask(host, key[1])
        except OSError as exc:
            # The system's errors name no host, and can be made again from their arguments.
            if type(exc) in (OSError, socket.gaierror):
                lookup.error = exc
            raise
        finally:
            del self._lookups[key]
            lookup.done.set()
        if self._cache_seconds:
            self._known.pop(key, None)
            self._known[key] = trio.current_time() + self._cache_seconds, lookup.addresses
            if len(self._known) > _MAX_NAMES:
                del self._known[next(iter(self._known))]
        return lookup.addresses

    async def _ask(self, host: str, port: int) -> tuple[str, ...]:
        given = await self._resolver(host, port)
        if not given:
            raise OSError(f"the resolver knows no address of {host!r}")
        return _checked(given, f"the addresses of {host!r} by the resolver")


async def _system_resolver(host: str, port: int) -> Sequence[str]:
    """Return the addresses that `trio.socket.getaddrinfo` gives, in its order, which is RFC 6724's.

    Raises:
      socket.gaierror: as there, with the name in its text.
    """
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as exc:
        raise socket.gaierror(exc.errno, f"{exc.strerror}: {host!r}") from exc
    addresses = []
    for family, _, _, _, address in found:
        if family == socket.AF_INET:
            addresses.append(str(address[0]))
        elif family == socket.AF_INET6:
            # Since Python 3.7 the zone is in the tuple only.
            zone = address[3] if len(address) == 4 else 0
            plain = str(address[0])
            addresses.append(f"{plain}%{zone}" if zone and "%" not in plain else plain)
    return addresses


def _plain(host: str) -> str:
    """Return a host as hosts are compared."""
    return host.lower().removesuffix(".")


def _is_address(host: object) -> bool:
    if not isinstance(host, str):
        return False  # `ipaddress` takes numbers and packed bytes too
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _checked(addresses: Iterable[str], who: str) -> tuple[str, ...]:
    """Return ``addresses`` without doubles.

    Raises:
      ValueError: one is no IP address, or there is none.
    """
    checked = tuple(dict.fromkeys(addresses))
    for address in checked:
        if not _is_address(address):
            raise ValueError(f"{who}: expected IP addresses without brackets, not {address!r}")
    if not checked:
        raise ValueError(f"{who}: there must be at least one")
    return checked
