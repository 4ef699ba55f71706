"""A transport over a plain socket, and the part of it that TLS over a socket shares.

The stdlib's socket is used directly, non-blocking: a receive is one wait and one `recv`, a send is one
`send`, with no scope, lock or wrapper between. Trio's part is to say when the descriptor is ready and to wake
who waits on a descriptor that is being closed.

Two receivers are told apart by Trio itself, since both wait first: the second wait on one descriptor raises
`trio.BusyResourceError`. Two senders are told apart by one flag, which is only set while a sender waits: a
send that finishes at once is synchronous, and no other task can be in the midst of it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import ClassVar, Final

import trio
from trio.lowlevel import notify_closing, wait_readable, wait_writable

from ._transport import RECEIVE_BYTES, Address, Transport

#: Linger on, for zero seconds: the close that follows discards what is unsent and sends RST (POSIX
#: `SO_LINGER`).
_LINGER_ZERO: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class SocketBase(Transport):
    """What the transports that own a socket have in common: its life, its addresses, its errors.

    The socket passes into our ownership, and is made non-blocking; a Trio socket object is emptied
    (detached).

    Args:
      sock: a connected stream socket.
    """

    __slots__ = ("_eof_sent", "_fd", "_recv", "_send", "_sending", "_sock")

    def __init__(self, sock: trio.socket.SocketType | socket.socket) -> None:
        super().__init__()
        if isinstance(sock, trio.socket.SocketType):
            # Family, type and protocol are passed on, for otherwise Python asks the kernel for each of them.
            sock = socket.socket(sock.family, sock.type, sock.proto, sock.detach())
        sock.setblocking(False)
        # We send whole messages; the last segment of one must not wait for the peer's delayed ACK. A Unix
        # socket has no such option, and some systems refuse it when the peer has reset already.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock: socket.socket = sock
        self._fd: int = sock.fileno()
        # Bound once: a look-up and a method object less in each call of the hot path.
        self._recv: Callable[[int], bytes] = sock.recv
        self._send: Callable[[bytes | bytearray | memoryview], int] = sock.send
        self._sending: bool = False
        self._eof_sent: bool = False
        # Asked now, since after a reset or a close, when a log wants to know, the kernel has forgotten.
        self.peername = _address(sock.getpeername)
        self.sockname = _address(sock.getsockname)

    def _check_sendable(self) -> None:
        """Raise unless we may send.

        Raises:
          trio.BusyResourceError, trio.ClosedResourceError: as `Transport.send_all`.
        """
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        if self.closed:
            raise trio.ClosedResourceError("this connection was closed by our side")
        if self._eof_sent:
            raise trio.ClosedResourceError("our side has ended the sending direction of this connection")

    def _failure(self, exc: OSError) -> trio.ClosedResourceError | trio.BrokenResourceError:
        """Return the error to raise from `exc`, which a call on the socket raised."""
        if self.closed:
            # Another task closed the socket after the kernel had already woken us.
            return trio.ClosedResourceError("this connection was closed by our side")
        return trio.BrokenResourceError(f"the connection to {self.peername!r} broke: {exc}")

    def _shutdown_sending(self) -> None:
        """Send FIN."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise self._failure(exc) from exc

    def _close_socket(self) -> None:
        """Close the descriptor and wake whoever waits on it."""
        # In this order, and without a checkpoint: who is woken must find the transport closed, and nobody may
        # begin to wait on a number that the next `accept` gets.
        self.closed = True
        fd, self._fd = self._fd, -1
        notify_closing(fd)
        self._sock.close()

    def abort(self) -> None:
        """See `Transport.abort`."""
        if self.closed:
            return
        # Some systems refuse options of a socket that the peer has reset. Then there is nothing left to
        # abort.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._close_socket()


class SocketTransport(SocketBase):
    """A transport over a connected TCP or Unix stream socket.

    Args:
      sock: the socket; it is ours from now on. TCP_NODELAY is set.
    """

    __slots__ = ()

    kind: ClassVar[str] = "socket"

    async def receive(self) -> bytes:
        """See `Transport.receive`."""
        while True:
            if self.closed:
                raise trio.ClosedResourceError("this connection was closed by our side")
            await wait_readable(self._fd)
            try:
                return self._recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue  # The kernel may wake us for nothing: select(2), "BUGS".
            except OSError as exc:
                raise self._failure(exc) from exc

    def receive_nowait(self) -> bytes | None:
        """See `Transport.receive_nowait`."""
        try:
            return self._recv(RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise self._failure(exc) from exc

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `Transport.send_all`."""
        if self._sending or self.closed or self._eof_sent:
            self._check_sendable()
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            raise self._failure(exc) from exc
        if sent != len(data):
            await self._send_rest(memoryview(data)[sent:])

    async def _send_rest(self, rest: memoryview) -> None:
        """Send what the kernel did not take at once."""
        self._sending = True
        try:
            while rest:
                await wait_writable(self._fd)
                try:
                    rest = rest[self._send(rest) :]
                except BlockingIOError:
                    continue
                except OSError as exc:
                    raise self._failure(exc) from exc
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """See `Transport.wait_send_all_might_not_block`."""
        self._check_sendable()
        self._sending = True
        try:
            await wait_writable(self._fd)
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """See `Transport.send_eof`."""
        await trio.lowlevel.checkpoint()
        if self._eof_sent and not self.closed:
            return
        self._check_sendable()
        self._eof_sent = True
        self._shutdown_sending()

    def is_stale(self) -> bool:
        """See `Transport.is_stale`."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """See `Transport.close`."""
        if not self.closed:
            self._close_socket()

    def detach(self) -> socket.socket:
        """Give the socket away, open and non-blocking; for TLS after a plain beginning, as in a tunnel.

        The transport is closed by this. The caller owns the socket, and what was received from it before.

        Raises:
          trio.ClosedResourceError: the transport was closed before.
          trio.BusyResourceError: a task is sending. Nothing has changed.
        """
        self._check_sendable()
        self.closed = True
        fd, self._fd = self._fd, -1
        notify_closing(fd)
        return self._sock


def _address(ask: Callable[[], object]) -> Address:
    """Return what `ask`, a socket's question for an address, answers; None when there is no answer."""
    try:
        address = ask()
    except OSError:
        return None  # The peer has reset the connection before we looked.
    if isinstance(address, bytes):
        return os.fsdecode(address)  # Linux's abstract Unix names: bytes that begin with NUL.
    return address if isinstance(address, tuple | str) and address else None
