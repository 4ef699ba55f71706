"""From addresses to a connected socket: several at a time, the first to answer wins.

Why not `trio.open_tcp_stream`, which does as much: it looks names up by itself and takes one host, while here
the addresses are known, pinned or from anybody's resolver. What it does for each address is done here too.
"""

from __future__ import annotations

import contextlib
import functools
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
from ._race import RaceFailed, race

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

    The attempts begin one after the other, in the order of preference with IPv6 and IPv4 alternating. Each
    begins when the one before it has failed, or was begun ``delay`` seconds ago. The first that connects
    wins, and the others are closed. TCP_NODELAY is set.

    Args:
      addresses: IP addresses, at least one.
      port: 1-65535.
      local_address: the IP address to connect from, which leaves only addresses of its family; "0.0.0.0" and
        "::" choose a family and nothing else.
      delay: in seconds, above 0.

    Raises:
      OSError: none could be connected to. With more than one, the cause is an `ExceptionGroup` of what each
        failed with, in the order of the attempts, and each names its address.
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
    attempts = [functools.partial(_attempt, address, port, local_address) for address in order]
    try:
        won = await race(*attempts, delay=delay, discard=_close)
    except RaceFailed as failed:
        what = "; ".join(str(error) for error in failed.errors)
        raise OSError(what) from ExceptionGroup("all attempts to connect failed", failed.errors)
    if isinstance(won, Exception):
        raise won
    return trio.SocketStream(won)


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


async def _attempt(address: str, port: int, local_address: str | None) -> trio.socket.SocketType | Exception:
    """Return a socket that is connected to one address; or what went wrong otherwise than by the network, so
    that it ends the race: it would go wrong with each address.

    Raises:
      OSError: as `_connected`.
    """
    try:
        return await _connected(address, port, local_address)
    except OSError:
        raise
    except Exception as exc:  # noqa: BLE001  # raised by `connect_tcp`
        return exc


def _close(result: trio.socket.SocketType | Exception) -> None:
    if not isinstance(result, Exception):
        result.close()


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
        raise OSError(exc.errno, f"{why}: {where}") from exc  # noqa: ASYNC104  # not of a cancel: of an OSError
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
