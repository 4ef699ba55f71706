"""From addresses to a connected socket: several at a time, the first to answer wins.

Why not `trio.open_tcp_stream`, which does as much: it looks names up by itself and takes one host, while here
the addresses are known, pinned or from anybody's resolver. What it does for each address is done here too.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import attrs
import trio

from ._addresses import Addresses
from ._origin import Origin

#: How long an attempt may go on before the next one begins beside it, in seconds. Source: RFC 8305 §5,
#: "Connection Attempt Delay".
ATTEMPT_DELAY: Final = 0.25

#: The path of a Unix socket: for all origins, or by origin; None: TCP.
UnixSocket: TypeAlias = "str | os.PathLike[str] | Callable[[Origin], str | os.PathLike[str] | None] | None"


@attrs.define
class DialTimes:
    """When the steps of a dial were done, on trio's clock, in seconds. A step that was not made has None.

    Attributes:
      started: the dial began.
      resolved: the addresses of the host, or of its proxy, were known.
      connected: the first connection stood: TCP or Unix, or what a dialer of the user's gave.
      proxied: the proxy had made the tunnel.
      secured: the TLS handshake with the origin, or with a proxy that forwards, was over, and pinned
        certificates compared.
      address: the IP address, or the path of the Unix socket, that we are connected to.
    """

    started: float | None = None
    resolved: float | None = None
    connected: float | None = None
    proxied: float | None = None
    secured: float | None = None
    address: str | None = None


async def connect_host(
    addresses: Addresses,
    host: str,
    port: int,
    *,
    local_address: str | None = None,
    times: DialTimes | None = None,
) -> trio.SocketStream:
    """Look ``host`` up and connect to it by TCP.

    Args:
      addresses: who knows hosts. One whose addresses could not be reached is looked up anew the next time.
      host: a name, or an IP address without brackets.
      port: 1-65535.
      local_address: as for `connect_tcp`.
      times: gets ``resolved``, ``connected`` and ``address``.

    Raises:
      OSError: the name is unknown, or no address could be reached.
      ValueError: as `connect_tcp`, or of `Addresses.of`.

    Cancellation: what was opened is closed.
    """
    found = await addresses.of(host, port)
    if times is not None:
        times.resolved = trio.current_time()
    try:
        stream = await connect_tcp(found, port, local_address=local_address)
    except OSError:
        addresses.forget(host, port)
        raise
    _note_connected(times, stream)
    return stream


async def connect_tcp(
    addresses: Sequence[str], port: int, *, local_address: str | None = None, delay: float = ATTEMPT_DELAY
) -> trio.SocketStream:
    """Connect to whichever of ``addresses`` answers first.

    The attempts begin one after the other, in the order of preference with IPv6 and IPv4 alternating. The
    next one begins when one has failed, or the last was begun ``delay`` seconds ago. The first that connects
    wins, and the others are closed. TCP_NODELAY is set.

    Args:
      addresses: IP addresses, at least one.
      port: 1-65535.
      local_address: the IP address to connect from, which leaves only addresses of its family; "0.0.0.0" and
        "::" choose a family and nothing else.
      delay: in seconds, above 0.

    Raises:
      OSError: none could be connected to. With more than one, the cause is an `ExceptionGroup` of what each
        failed with, and each names its address.
      ValueError: an argument is not what it should be.

    Cancellation: all sockets are closed.

    Reference: RFC 8305 §4 and §5.
    """
    if not addresses:
        raise ValueError("there must be at least one address to connect to")
    order = interleaved(addresses)
    if local_address is not None:
        family = _family(local_address)
        order = [address for address in order if _family(address) == family]
        if not order:
            raise OSError(
                f"cannot connect from {local_address}: {' and '.join(addresses)} are of another family"
            )
    if len(order) == 1:
        return trio.SocketStream(await _connected(order[0], port, local_address))
    return trio.SocketStream(await _Race(order, port, local_address, delay).run())


async def connect_unix(path: str | os.PathLike[str], *, times: DialTimes | None = None) -> trio.SocketStream:
    """Connect to a Unix socket.

    Args:
      path: of the socket; one that begins with NUL is an abstract name (Linux).
      times: gets ``connected`` and ``address``.

    Raises:
      OSError: there is none, or nobody listens; its ``filename`` is the path.
      RuntimeError: this system has no Unix sockets.

    Cancellation: what was opened is closed.
    """
    name = os.fspath(path)
    try:
        stream = await trio.open_unix_socket(name)
    except OSError as exc:
        # The kernel's error has no path. OSError chooses the subclass by the number again.
        raise OSError(exc.errno, exc.strerror, name) from exc
    _note_connected(times, stream, name)
    return stream


def unix_path(setting: UnixSocket, origin: Origin) -> str | None:
    """Return the path of the Unix socket by which ``origin`` is reached; None: by TCP.

    Raises:
      Exception: what the setting, if it is a function, has raised.
    """
    path = setting(origin) if callable(setting) else setting
    return None if path is None else os.fspath(path)


def interleaved(addresses: Sequence[str]) -> list[str]:
    """Return ``addresses`` with the families alternating, beginning with that of the first (RFC 8305 §4,
    "First Address Family Count" of 1)."""
    families: dict[int, list[str]] = {}
    for address in addresses:
        families.setdefault(_family(address), []).append(address)
    rounds = itertools.zip_longest(*families.values())
    return [address for turn in rounds for address in turn if address is not None]


class _Race:
    """Attempts to connect to several addresses, of which one is to be used."""

    def __init__(self, order: Sequence[str], port: int, local_address: str | None, delay: float) -> None:
        self._order = order
        self._port = port
        self._local_address = local_address
        self._delay = delay
        self._winner: trio.socket.SocketType | None = None
        self._failures: list[OSError] = []
        self._fault: Exception | None = None
        self._may_begin = trio.Event()

    async def run(self) -> trio.socket.SocketType:
        """Return the first socket that is connected. Raises as `connect_tcp`."""
        try:
            async with trio.open_nursery() as nursery:
                for address in self._order:
                    self._may_begin = trio.Event()
                    nursery.start_soon(self._attempt, address, nursery.cancel_scope)
                    with trio.move_on_after(self._delay):
                        await self._may_begin.wait()
        except BaseException:
            if self._winner is not None:
                self._winner.close()
            raise
        if self._fault is not None:
            if self._winner is not None:
                self._winner.close()
            raise self._fault
        if self._winner is not None:
            return self._winner
        what = "; ".join(str(failure) for failure in self._failures)
        raise OSError(what) from ExceptionGroup("all attempts to connect failed", self._failures)

    async def _attempt(self, address: str, everyone: trio.CancelScope) -> None:
        try:
            sock = await _connected(address, self._port, self._local_address)
        except OSError as exc:
            self._failures.append(exc)
            # Of whichever attempt is the last now; for that one the wait is over as well.
            self._may_begin.set()
        except Exception as exc:  # noqa: BLE001  # raised by `run`, for the nursery would wrap it in a group
            self._fault = exc
            everyone.cancel()
        else:
            if self._winner is None:
                self._winner = sock
                everyone.cancel()
            else:
                sock.close()


async def _connected(address: str, port: int, local_address: str | None) -> trio.socket.SocketType:
    """Return a socket that is connected to one address.

    Raises:
      OSError: with the number of the kernel's, and the address in its text.
    """
    sock: trio.socket.SocketType | None = None
    try:
        sock = trio.socket.socket(_family(address), socket.SOCK_STREAM)
        if local_address is not None:
            # Connections to different servers may then share a local port (ip(7)); elsewhere it is not there.
            with contextlib.suppress(OSError, AttributeError):
                sock.setsockopt(socket.IPPROTO_IP, trio.socket.IP_BIND_ADDRESS_NO_PORT, 1)
            await sock.bind((local_address, 0))
        await sock.connect((address, port))
    except BaseException as exc:
        if sock is not None:
            sock.close()
        if not isinstance(exc, OSError):
            raise
        where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        if local_address is not None:
            where += f" from {local_address}"
        # Trio's text for some of them holds what this one says better.
        why = str(exc) if exc.errno is None else os.strerror(exc.errno)
        raise OSError(exc.errno, f"{why}: {where}") from exc
    return sock


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6


def _note_connected(times: DialTimes | None, stream: trio.SocketStream, path: str | None = None) -> None:
    if times is not None:
        times.connected = trio.current_time()
        try:
            times.address = path if path is not None else stream.socket.getpeername()[0]
        except OSError:
            pass  # The peer has reset the connection before we looked; whoever uses it will meet that.
