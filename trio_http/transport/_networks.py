"""Sets of networks: which peers are ours, and may be believed."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import attrs

from ._transport import Address

_IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What `Networks.of` takes for one member.
NetworkInput: TypeAlias = str | _IPAddress | _IPNetwork

#: The IPv6 addresses that stand for IPv4 ones, ``::ffff:0:0/96`` (RFC 4291 §2.5.5.2). A socket that listens
#: for both families names its IPv4 peers so.
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_ANY: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def ip_of(host: str) -> _IPAddress | None:
    """Return the IP address that ``host`` is written as, or None when it is none.

    An IPv6 address loses its scope (``%eth0``), and one that stands for an IPv4 address becomes that.
    """
    try:
        if ":" not in host:
            return ipaddress.IPv4Address(host)
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address


def peer_address(peername: Address, sockname: Address) -> Address:
    """Return ``peername``, or ``""`` when the peer has no name because it is one on a Unix socket.

    Who connects to a Unix socket has mostly no name there, and its peername then is None; but so is that of a
    TCP peer that sent its bytes and a reset before we asked. Our own name, which does not go away, tells them
    apart, so that the second cannot pass for the first.

    Args:
      peername, sockname: those of one transport.
    """
    return "" if peername is None and isinstance(sockname, str) else peername


@attrs.frozen(repr=False)
class Networks:
    """An immutable set of IP networks, and maybe of all Unix peers; made by `Networks.of`.

    A peer on TCP is a member when its IP address is in one of the networks: an IPv4 address that is written
    as IPv6 (``::ffff:192.0.2.1``) counts as IPv4, and the scope of an IPv6 address does not count. So
    ``::/0`` has no IPv4 peers. A peer on a Unix socket is a member when ``"unix"`` is. Two sets with the same
    members are equal, however they were written.

    Attributes:
      networks: the IP networks, without overlap, sorted; IPv4 first.
      unix: whether peers on Unix sockets are members.
    """

    networks: tuple[_IPNetwork, ...] = ()
    unix: bool = False
    # First addresses and last addresses of the networks, as numbers and by IP version: a question is one
    # bisection, however long the list of a content network's ranges is.
    _firsts: dict[int, list[int]] = attrs.field(init=False, eq=False)
    _lasts: dict[int, list[int]] = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        firsts: dict[int, list[int]] = {4: [], 6: []}
        lasts: dict[int, list[int]] = {4: [], 6: []}
        for network in self.networks:
            firsts[network.version].append(int(network.network_address))
            lasts[network.version].append(int(network.broadcast_address))
        object.__setattr__(self, "_firsts", firsts)
        object.__setattr__(self, "_lasts", lasts)

    @classmethod
    def of(cls, values: Iterable[NetworkInput] | Networks) -> Networks:
        """Return the set of ``values``. Fit for an attrs converter.

        Args:
          values: each an `ipaddress` network or address, or as text: a network (``"10.0.0.0/8"``), an address
            (``"::1"``), ``"unix"`` for every peer on a Unix socket, or ``"*"`` for every peer whose address
            is known. Or a `Networks`, which is returned as it is.

        Raises:
          ValueError: a text is none of these; or it has bits set to the right of its prefix length, which is
            a slip of either the address or the length.
          TypeError: a value is of another type; or ``values`` is one text, address or network, not several.
        """
        if isinstance(values, Networks):
            return values
        if isinstance(values, str | bytes | _IPAddress | _IPNetwork) or not isinstance(values, Iterable):
            raise TypeError(f"expected a list of networks, not {values!r}; for a single one there is [...]")
        by_version: dict[int, list[_IPNetwork]] = {4: [], 6: []}
        unix = False
        for value in values:
            if value == "unix":
                unix = True
                continue
            unix = unix or value == "*"
            for network in _ANY if value == "*" else (_network(value),):
                by_version[network.version].append(network)
        collapsed = [
            network
            for version in (4, 6)
            for network in ipaddress.collapse_addresses(by_version[version])  # type: ignore[type-var]  # one version a call
        ]
        return cls(tuple(collapsed), unix)

    def __contains__(self, address: object) -> bool:
        """Tell whether a peer is a member.

        Args:
          address: the peer's address as a socket gives it: a tuple that begins with an IP address for TCP,
            the path (also an empty one, or bytes) for a Unix socket; see `peer_address`. None, for a peer of
            which nothing is known, is a member of no set.
        """
        if isinstance(address, tuple):
            return bool(address) and isinstance(address[0], str) and self.contains_host(address[0])
        return self.unix and isinstance(address, str | bytes)

    def contains_host(self, host: str) -> bool:
        """Tell whether the IP address that ``host`` is written as is a member; a name is none."""
        address = ip_of(host)
        if address is None:
            return False
        number = int(address)
        index = bisect_right(self._firsts[address.version], number) - 1
        return index >= 0 and number <= self._lasts[address.version][index]

    def __bool__(self) -> bool:
        return self.unix or bool(self.networks)

    def __iter__(self) -> Iterator[str]:
        """The members as text that `Networks.of` takes."""
        yield from map(str, self.networks)
        if self.unix:
            yield "unix"

    def __repr__(self) -> str:
        return f"Networks.of({list(self)!r})"


def _network(value: object) -> _IPNetwork:
    """Return one value of `Networks.of` as a network."""
    if isinstance(value, _IPNetwork):
        network = value
    elif isinstance(value, _IPAddress):
        network = _from_text(str(value).partition("%")[0])
    elif isinstance(value, str):
        network = _from_text(value)
    else:
        raise TypeError(f'expected a network, an address, "unix" or "*", not {value!r}')
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        # As members are compared as IPv4, so must this be, or it would be a network without members.
        address = network.network_address.ipv4_mapped
        return ipaddress.ip_network((int(address or 0), network.prefixlen - _MAPPED.prefixlen))
    return network


def _from_text(text: str) -> _IPNetwork:
    address, slash, length = text.partition("/")
    if slash and not (length.isascii() and length.isdigit()):
        raise ValueError(
            f"malformed network {text!r}, expected a prefix length after the slash, as in 10.0.0.0/8"
        )
    if "%" in address:
        raise ValueError(f"malformed network {text!r}: scopes are not looked at, so leave out what follows %")
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError as exc:
        raise ValueError(
            f'malformed network {text!r}, expected as 10.0.0.0/8, 192.0.2.1, 2001:db8::/32, "unix" or "*"'
        ) from exc
    network = interface.network
    if interface.ip != network.network_address:
        raise ValueError(
            f"network {text!r} has host bits set: is it the network {network},"
            f" or the address {interface.ip} alone?"
        )
    return network
