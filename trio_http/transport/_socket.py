"""A transport over a plain socket, and the part of it that TLS over a socket shares.

The stdlib's socket is used directly, non-blocking: a receive is one wait and one `recv`, a send is one
`send`, with no scope, lock or wrapper between. Trio's part, or that of an `EdgePoll`, is to say when the
descriptor is ready and to wake who waits on a descriptor that is being closed.

Two receivers are told apart by waiting, since both wait first: the second wait on one socket raises
`trio.BusyResourceError`. Two senders are told apart by a flag and by what is kept of an earlier send, which
only exist while a sender waits or is about to: a send that finishes at once is synchronous, and no other task
can be in the midst of it. All that can be said against a send is gathered in one more flag, `_barred`, so
that the ordinary send asks one question; it may be set in vain, never cleared in vain.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, NoReturn

import trio
from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    Task,
    current_task,
    notify_closing,
    reschedule,
    wait_readable,
    wait_task_rescheduled,
    wait_writable,
)

from ._edge_poll import EdgePoll, Hangup
from ._transport import RECEIVE_BYTES, Address, Transport

if sys.platform == "linux":
    import fcntl
    import termios

#: Linger on, for zero seconds: the close that follows discards what is unsent and sends RST (POSIX
#: `SO_LINGER`).
_LINGER_ZERO: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class SocketBase(Transport):
    """What the transports that own a socket have in common: its life, its addresses, its errors, its waits.

    The socket passes into our ownership, and is made non-blocking; a Trio socket object is emptied
    (detached).

    Args:
      sock: a connected stream socket.
      peername: the peer's address where it is known, as `accept` returned it; None: ask the kernel.
    """

    __slots__ = (
        "_barred",
        "_eof_sent",
        "_fd",
        "_on_hangup",
        "_parks",
        "_passing",
        "_poll",
        "_reader",
        "_ready",
        "_recv",
        "_rest",
        "_send",
        "_sending",
        "_sock",
    )

    def __init__(
        self, sock: trio.socket.SocketType | socket.socket, peername: Address | bytes = None
    ) -> None:
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
        self._barred: bool = False  # a send must ask `_check_sendable` first
        self._sending: bool = False  # a task waits in order to send
        self._rest: memoryview | None = None  # what `begin_send` kept; None when `finish_send` is not due
        self._eof_sent: bool = False
        # For the `EdgePoll`; what they mean is said there, in `Watched`.
        self._poll: EdgePoll | None = None
        self._parks: bool = False
        self._reader: Task | None = None
        self._ready: bool = False
        self._passing: bool = False  # a receiver does not park, since `_ready`, but is in its checkpoint
        self._on_hangup: Callable[[bool], None] | None = None
        # Asked now, since after a reset or a close, when a log wants to know, the kernel has forgotten.
        self.peername = _ask(sock.getpeername) if peername is None else _address(peername)
        self.sockname = _ask(sock.getsockname)

    # Receiving

    def _wait_readable(self) -> Awaitable[object]:
        """Return what to await, at once, before a `recv` that may find something. Always a checkpoint.

        Not a coroutine itself: each one between an exchange and Trio has its price.

        Raises:
          trio.BusyResourceError: another task is waiting.
          trio.ClosedResourceError: closed while waiting. Parked receivers are not told; their `recv` is.
        """
        if not self._parks:
            return wait_readable(self._fd)  # noqa: ASYNC105 - awaited by our caller, at once
        if self._ready:
            return self._pass()
        if self._reader is not None:
            raise trio.BusyResourceError("another task is receiving on this connection")
        self._reader = current_task()
        return wait_task_rescheduled(self._unpark)  # noqa: ASYNC105 - as above

    def _unpark(self, raise_cancel: RaiseCancelT) -> Abort:
        self._reader = None
        return Abort.SUCCEEDED

    async def _pass(self) -> None:
        """Let other tasks run, where there is no need to wait."""
        if self._passing:
            raise trio.BusyResourceError("another task is receiving on this connection")
        self._passing = True
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._passing = False

    def _note_received(self, length: int, asked: int = RECEIVE_BYTES) -> None:
        """Note how much a `recv` returned; needless when `_ready` was False and the buffer was not filled."""
        self._ready = length == asked or self.hangup is not Hangup.NONE

    def attach(self, poll: EdgePoll, on_hangup: Callable[[bool], None] | None = None) -> bool:
        """See `Transport.attach`."""
        if self.closed:
            raise trio.ClosedResourceError("this connection was closed by our side")
        if self._poll is not None:
            raise ValueError("this transport is attached already")
        if not poll._add(self._fd, self):
            return False
        self._poll, self._on_hangup = poll, on_hangup
        self._parks = True
        return True

    def set_hangup(self, on_hangup: Callable[[bool], None] | None) -> None:
        """See `Transport.set_hangup`."""
        self._on_hangup = on_hangup

    # Sending

    def _check_sendable(self) -> None:
        """Raise unless we may send.

        Raises:
          trio.BusyResourceError, trio.ClosedResourceError: as `Transport.begin_send`.
        """
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        if self.closed:
            raise trio.ClosedResourceError("this connection was closed by our side")
        if self._rest is not None:
            raise trio.BusyResourceError("an earlier send on this connection has yet to be finished")
        if self._eof_sent:
            raise trio.ClosedResourceError("our side has ended the sending direction of this connection")

    def _keep(self, rest: memoryview) -> None:
        """Keep what `begin_send` could not send, until `finish_send`."""
        self._rest = rest
        self._barred = True

    def _take_rest(self) -> memoryview | None:
        """Begin a `finish_send`: return what was kept, None when there is nothing to do.

        Raises:
          trio.BusyResourceError, trio.ClosedResourceError: as `Transport.finish_send`.
        """
        if self._rest is None or self._sending or self.closed:
            self._check_sendable()
            return None
        return self._rest

    def _occupy(self) -> None:
        """Keep other senders out while we wait."""
        self._sending = self._barred = True

    def _vacate(self) -> None:
        """Let other senders in again. Nothing is kept any more."""
        self._sending = False
        self._rest = None
        self._barred = self.closed or self._eof_sent

    def _unsent_here(self) -> int:
        """Return how many bytes are kept in this process."""
        return len(self._rest) if self._rest is not None else 0

    def unsent(self) -> int:
        """See `Transport.unsent`."""
        if self.closed:
            return 0
        return self._unsent_here() + _queued(self._fd)

    def _shutdown_sending(self) -> None:
        """Send FIN."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise self._failure(exc) from exc

    # The end

    def _failure(self, exc: OSError) -> trio.ClosedResourceError | trio.BrokenResourceError:
        """Return the error to raise from `exc`, which a call on the socket raised."""
        if self.closed:
            # Another task closed the socket after the kernel had already woken us.
            return trio.ClosedResourceError("this connection was closed by our side")
        return trio.BrokenResourceError(f"the connection to {self.peername!r} broke: {exc}")

    def _leave(self) -> None:
        """Mark the transport closed and wake whoever waits in it; the descriptor is still open."""
        # Without a checkpoint up to the close: who is woken must find the transport closed, and nobody may
        # begin to wait on a number that the next `accept` gets.
        self.closed = self._barred = True
        self._rest = None
        fd, self._fd = self._fd, -1
        if self._poll is not None:
            poll, self._poll, self._on_hangup = self._poll, None, None
            poll._remove(fd)
            if self._reader is not None:
                task, self._reader = self._reader, None
                reschedule(task)
        notify_closing(fd)

    def _close_socket(self) -> None:
        """Close the descriptor and wake whoever waits on it."""
        self._leave()
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
      peername: the peer's address as `accept` returned it, which saves a system call; None: ask the kernel.
    """

    __slots__ = ()

    kind: ClassVar[str] = "socket"

    def __init__(
        self, sock: trio.socket.SocketType | socket.socket, *, peername: Address | bytes = None
    ) -> None:
        super().__init__(sock, peername)

    async def receive(self) -> bytes:
        """See `Transport.receive`."""
        while True:
            if self.closed:
                raise trio.ClosedResourceError("this connection was closed by our side")
            await self._wait_readable()
            try:
                data = self._recv(self.receive_bytes)
            except BlockingIOError:
                # The kernel may wake us for nothing: select(2), "BUGS"; or the edge was of bytes read before.
                self._ready = False
                continue
            except OSError as exc:
                raise self._failure(exc) from exc
            if self._ready or len(data) == self.receive_bytes:
                self._note_received(len(data), self.receive_bytes)
            return data

    def receive_nowait(self) -> bytes | None:
        """See `Transport.receive_nowait`."""
        try:
            data = self._recv(RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise self._failure(exc) from exc
        self._note_received(len(data))
        return data

    def begin_send(self, data: bytes | bytearray | memoryview) -> bool:
        """See `Transport.begin_send`."""
        if self._barred:
            self._check_sendable()
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            raise self._failure(exc) from exc
        if sent == len(data):
            return True
        self._keep(memoryview(data)[sent:])
        return False

    async def finish_send(self) -> None:
        """See `Transport.finish_send`."""
        rest = self._take_rest()
        if rest is None:
            await trio.lowlevel.checkpoint()
            return
        self._occupy()
        try:
            while rest:
                await wait_writable(self._fd)
                try:
                    self._rest = rest = rest[self._send(rest) :]
                except BlockingIOError:
                    continue
                except OSError as exc:
                    raise self._failure(exc) from exc
        finally:
            self._vacate()

    async def wait_send_all_might_not_block(self) -> None:
        """See `Transport.wait_send_all_might_not_block`."""
        self._check_sendable()
        self._occupy()
        try:
            await wait_writable(self._fd)
        finally:
            self._vacate()

    async def send_eof(self) -> None:
        """See `Transport.send_eof`."""
        await trio.lowlevel.checkpoint()
        if self._eof_sent and not self.closed:
            return
        self._check_sendable()
        self._eof_sent = self._barred = True
        self._shutdown_sending()

    def is_stale(self) -> bool:
        """See `Transport.is_stale`."""
        if self.closed:
            return True
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
          trio.BusyResourceError: a task is sending, or has yet to finish a send. Nothing has changed.
        """
        self._check_sendable()
        self._leave()
        # A receiver that was woken already must not take what is no longer ours.
        self._recv = self._send = _given_away
        return self._sock


def _given_away(argument: object) -> NoReturn:
    raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _queued(fd: int) -> int:
    """Return how many bytes the kernel holds of what was sent; 0 where it does not say.

    Reference: `SIOCOUTQ` in tcp(7) and unix(7), which is the same number as `TIOCOUTQ`.
    """
    if sys.platform == "linux":
        try:
            answer = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(answer, sys.byteorder, signed=True)
    else:
        return 0


def _ask(question: Callable[[], object]) -> Address:
    """Return what `question`, a socket's for an address, answers; None when there is no answer."""
    try:
        return _address(question())
    except OSError:
        return None  # The peer has reset the connection before we looked.


def _address(address: object) -> Address:
    """Return `address` as we show it; None when it is empty, as that of an unnamed Unix socket is."""
    if isinstance(address, bytes):
        address = os.fsdecode(address)  # Linux's abstract Unix names: bytes that begin with NUL.
    return address if isinstance(address, tuple | str) and address else None
