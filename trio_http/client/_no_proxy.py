"""NO_PROXY: the hosts that are asked directly.

No standard says what the variable means, and programs differ. Here it means what it means to curl (from 7.86)
and to Go, as far as they agree. Where they do not, the reading that covers more is taken, but for localhost,
which Go covers unasked. What neither would understand is refused, for a name that is silently passed over
sends to a proxy what was to stay inside.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, TypeAlias

import yarl

from trio_http.transport import Networks, ip_of

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_SEPARATORS: Final = re.compile(r"[,\s]+")
_LABELS: Final = re.compile(r"(?:[a-z0-9_\-]{1,63}\.)*[a-z0-9_\-]{1,63}")
_BRACKETED: Final = re.compile(r"\[([^\[\]]*)\](.*)", re.DOTALL)


class NoProxy:
    """The entries of one NO_PROXY.

    They are separated by commas, white space or both. Each is one of:

    - ``*`` alone: every host;
    - ``example.com``, ``.example.com`` or ``*.example.com``: that name and all names below it, in lower case
      or not, with a final dot or without. Also ``localhost``, which is nothing special here: without an entry
      it is asked through the proxy, as is ``127.0.0.1``;
    - ``192.0.2.1``, ``2001:db8::1`` or ``[2001:db8::1]``: that address, in whichever way it is written; an
      address is compared with the address in a URL, and no name is looked up for it;
    - ``192.0.2.0/24``, ``2001:db8::/32``: all addresses of that network. Bits behind the prefix are ignored;
    - a name or an address, the latter in brackets if it is one of IPv6, with ``:port``: only on that port.

    Args:
      text: the entries; may be empty.

    Raises:
      ValueError: an entry is none of these; the text has it.
    """

    __slots__ = ("_entries", "_everything", "_names", "_networks")

    def __init__(self, text: str) -> None:
        self._entries = [entry for entry in _SEPARATORS.split(text) if entry]
        self._everything = False
        # By port; None is for entries that hold on all of them.
        self._names: dict[int | None, set[str]] = {}
        networks: dict[int | None, list[_Network]] = {}
        for entry in self._entries:
            if entry == "*":
                self._everything = True
                continue
            what, port = _parsed(entry)
            if isinstance(what, str):
                self._names.setdefault(port, set()).add(what)
            else:
                networks.setdefault(port, []).append(what)
        self._networks = {port: Networks.of(members) for port, members in networks.items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({','.join(self._entries)!r})"

    def covers(self, host: str, port: int) -> bool:
        """Tell whether an entry holds for ``host``, a name in lower case or an address without brackets."""
        if self._everything:
            return True
        if ip_of(host) is not None:
            return any(
                self._networks[key].contains_host(host) for key in (None, port) if key in self._networks
            )
        names = [self._names[key] for key in (None, port) if key in self._names]
        suffix = host.removesuffix(".")
        while names and suffix:
            if any(suffix in each for each in names):
                return True
            suffix = suffix.partition(".")[2]
        return False


def _parsed(entry: str) -> tuple[str | _Network, int | None]:
    """Return what one entry is about, a name in lower case or a network, and its port."""
    if "/" in entry:
        return _network_of(entry), None
    if bracketed := _BRACKETED.fullmatch(entry):
        host, behind = bracketed.groups()
        if ":" not in host or (behind and not behind.startswith(":")):
            raise _malformed(entry, "expected an IPv6 address in the brackets, and a port behind them if any")
        return _address_of(host, entry), _port_of(behind[1:], entry) if behind else None
    if entry.count(":") > 1:
        return _address_of(entry, entry), None
    host, colon, port_text = entry.partition(":")
    port = _port_of(port_text, entry) if colon else None
    last = host.removesuffix(".").rpartition(".")[2]
    if host and (not last or (last.isascii() and last.isdigit())):
        # No name ends in a number; ``10.`` was some programs' way to write a network.
        return _address_of(host, entry), port
    return _name_of(host, entry), port


def _network_of(entry: str) -> _Network:
    address, _, length = entry.partition("/")
    if bracketed := _BRACKETED.fullmatch(address):
        address = bracketed[1] if not bracketed[2] else address
    if "%" in address or not (length.isascii() and length.isdigit()):
        raise _malformed(entry, "expected a network such as 10.0.0.0/8")
    try:
        return ipaddress.ip_network(f"{address}/{length}", strict=False)
    except ValueError as exc:
        raise _malformed(entry, f"expected a network such as 10.0.0.0/8: {exc}") from exc


def _address_of(text: str, entry: str) -> _Network:
    if "%" in text:
        raise _malformed(entry, "a URL's address has no scope, so leave out what follows %")
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        raise _malformed(entry, "expected an IP address, or a network such as 10.0.0.0/8") from exc


def _name_of(text: str, entry: str) -> str:
    name = text.removeprefix("*").removeprefix(".") if text.startswith(("*.", ".")) else text
    name = name.removesuffix(".")
    if not name.isascii():
        try:
            name = yarl.URL.build(scheme="http", host=name).raw_host or ""  # IDNA, as in a request's URL
        except ValueError as exc:
            raise _malformed(entry, f"no host name: {exc}") from exc
    name = name.lower()
    if not _LABELS.fullmatch(name):
        raise _malformed(entry, "expected a host name, an IP address, a network or *")
    return name


def _port_of(text: str, entry: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise _malformed(entry, "expected a port of 1-65535 behind the colon")
    return int(text)


def _malformed(entry: str, why: str) -> ValueError:
    return ValueError(f"malformed entry {entry[:100]!r}, {why}")
