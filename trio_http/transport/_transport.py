"""The interface of a transport, and what all kinds promise.

Theory of operation
===================

A transport is one connected byte stream with a single owner. It differs from `trio.abc.Stream` in six
points, each of which is there because an HTTP connection pays for it on every exchange or cannot be correct
without it:

1. *Receiving waits first.* `Transport.receive` waits until there is something to read and only then reads,
   once. The wait is the schedule point of the connection; a speculative read that mostly fails would cost a
   system call and an exception more.
2. *Sending does not wait when it need not.* `Transport.begin_send` hands the bytes to the kernel in
   synchronous code, and when the kernel takes them all that is the end of it. Otherwise the rest is kept
   here, and `Transport.finish_send` waits. `Transport.send_all` is the two in one. An exchange so has one
   schedule point, the receive; and who must arm a time limit around a wait knows when there is going to be
   one.
3. *Some things can be done without waiting*, because they must happen in synchronous code, where ownership
   changes: `Transport.close`, `Transport.abort`, `Transport.is_stale`, `Transport.receive_nowait`.
4. *How it ended is known*: `Transport.truncated` tells a TLS stream that was cut from one that was closed,
   and `Transport.abort` ends a stream so that the peer cannot take the end for a regular one.
5. *How fast the peer takes what it is sent is known*: `Transport.unsent` counts what it has yet
   to acknowledge.
6. *That the peer goes away is noticed while nobody receives*: `Transport.attach` and `Transport.hangup`.

The kinds differ where the medium does. What differs is said in the docstrings below, under "Kinds".

Errors are Trio's: `trio.ClosedResourceError` (we closed it), `trio.BrokenResourceError` (the peer or the
network did; the cause is chained), `trio.BusyResourceError` (two tasks in the same direction at once; the
fault is in the calling program). After any of them but the last a transport can only be closed.
"""

from __future__ import annotations

import abc
import ssl
from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeAlias

import trio

from ._edge_poll import EdgePoll, Hangup

#: The most that one receive returns, in bytes. Trio's `SocketStream` reads as much at once. A bigger buffer
#: would be allocated in full for every small request.
RECEIVE_BYTES: Final = 65536

#: An IP address with its port (and flow and scope for IPv6), the path of a Unix socket, or None when there is
#: none.
Address: TypeAlias = tuple[Any, ...] | str | None

#: Where the facts of a TLS session are read: protocol version, cipher, ALPN, the peer's certificate.
TLSFacts: TypeAlias = "ssl.SSLObject | trio.SSLStream[Any] | None"


class Transport(trio.abc.AsyncResource):
    """One connected byte stream, for one owner.

    One task may receive while another one sends. Two tasks in the same direction are refused.

    Attributes:
      kind: "socket", "tls" or "stream". For logs and errors only; nothing may branch on it.
      closed: we have closed, aborted or given away the transport. What the peer did does not show here.
      hangup: what is known of the peer's going away, whether or not all that it sent was received. Only
        looked for while attached to an `EdgePoll`; else `Hangup.NONE`.
      truncated: the end of the stream was met without the peer's closure alert, so that bytes may be missing
        before it. Only TLS can know; the others leave it False.
      can_half_close: `send_eof` leaves the receiving direction open.
      peername: address of the peer, as it was at the beginning.
      sockname: our own address, as it was at the beginning.
      receive_bytes: the most that one `receive` returns: `RECEIVE_BYTES`, unless who receives much has raised
        it.
      tls: where to read the facts of the TLS session. None when the transport is not encrypted.
    """

    __slots__ = (
        "can_half_close",
        "closed",
        "hangup",
        "peername",
        "receive_bytes",
        "sockname",
        "tls",
        "truncated",
    )

    kind: ClassVar[str]

    def __init__(self) -> None:
        self.closed: bool = False
        self.hangup: Hangup = Hangup.NONE
        self.truncated: bool = False
        self.can_half_close: bool = True
        self.receive_bytes: int = RECEIVE_BYTES
        self.peername: Address = None
        self.sockname: Address = None
        self.tls: TLSFacts = None

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<{type(self).__name__} to {self.peername!r}, {state}>"

    @abc.abstractmethod
    async def receive(self) -> bytes:
        """Wait for bytes and return them.

        Always a checkpoint.

        Returns:
          1 to `receive_bytes` bytes, or b"" at the end of the stream, then and in every later call.
          `truncated` says whether that end can be trusted.

        Raises:
          trio.BrokenResourceError: the connection was reset, timed out, or broke the TLS protocol.
          trio.ClosedResourceError: we have closed the transport, maybe while this call was waiting.
          trio.BusyResourceError: another task is waiting in this method.

        Cancellation: nothing is lost; call again and continue.

        Kinds: only a plain socket heeds a raised `receive_bytes`.
        """

    @abc.abstractmethod
    def receive_nowait(self) -> bytes | None:
        """Return what is here already.

        Not for use while another task is in `receive`: the two would divide the stream between them.

        Returns:
          1 to `RECEIVE_BYTES` bytes; b"" at the end of the stream; None when there is nothing at the moment.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: as `receive`.

        Kinds: a foreign stream cannot tell, and always answers None.
        """

    @abc.abstractmethod
    def begin_send(self, data: bytes | bytearray | memoryview) -> bool:
        """Hand over `data`, and make one attempt to send it without waiting.

        Args:
          data: any length, also none. A memoryview must be one of single bytes. It must not change until all
            is sent.

        Returns:
          True: all was taken. False: the rest is kept here, and `finish_send` must follow, before any other
            send.

        Raises:
          trio.BrokenResourceError: the connection broke, or an earlier send was cancelled (TLS). How much the
            peer has got is unknown, and nothing is kept.
          trio.ClosedResourceError: we have closed the transport or its sending direction.
          trio.BusyResourceError: another task is sending, or `finish_send` has yet to follow an earlier call.
            Nothing of `data` was sent or kept.

        Kinds: on a foreign stream nothing can be sent without waiting; all is kept.
        """

    @abc.abstractmethod
    async def finish_send(self) -> None:
        """Send what `begin_send` has kept; wait until the peer has read enough for that. Always a checkpoint.

        Raises:
          trio.BrokenResourceError: the connection broke. How much the peer has got is unknown.
          trio.ClosedResourceError: we have closed the transport, maybe while this call was waiting.
          trio.BusyResourceError: another task is sending. Nothing was sent by this call.

        Cancellation: some, all or none was sent, and what was left is forgotten. Send nothing more; abort.
        Under TLS later sends raise, since half a record may be out.

        Kinds: a foreign stream gets pieces of at most `RECEIVE_BYTES` bytes, so that `unsent` shows progress.
        """

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`: `begin_send`, and `finish_send` when that is due.

        When the first attempt took everything the call returns at once, **without a checkpoint**: a loop that
        only sends to a fast peer must have a checkpoint of its own.

        Args:
          data: as in `begin_send`.

        Raises: as `begin_send` and `finish_send`.

        Cancellation: as in `finish_send`.

        Kinds: on a foreign stream it is as much of a checkpoint as that stream's own method.
        """
        if not self.begin_send(data):
            await self.finish_send()

    @abc.abstractmethod
    def unsent(self) -> int:
        """Return how many of the bytes handed over the peer has yet to acknowledge.

        A number that goes down tells that the peer takes what it is sent, and how fast; its height depends on
        the kind. After a close it is 0.

        Kinds: a socket counts what is kept here and, on Linux, the kernel's queue: of TCP in bytes (a FIN
        counts as one), of a Unix socket with the kernel's overhead. TLS counts ciphertext where it has
        encrypted. A foreign stream counts what it has not been given, or is being given now.
        """

    @abc.abstractmethod
    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send could make progress; may return early, never late.

        Raises: as `send_all`.

        Cancellation: nothing has changed.
        """

    @abc.abstractmethod
    async def send_eof(self) -> None:
        """Tell the peer that we send nothing more; go on receiving. Always a checkpoint; idempotent.

        Raises: as `send_all`.

        Cancellation: the peer may or may not have been told. Sending is over in either case.

        Kinds: TLS sends its closure alert, then FIN. A foreign stream that cannot half-close
        (`can_half_close` is False) is closed whole, for there is no other way to keep the promise to the
        peer.

        Reference: RFC 9112 section 9.6, section 9.8; RFC 8446 section 6.1.
        """

    @abc.abstractmethod
    def is_stale(self) -> bool:
        """Look, without waiting, whether an idle connection is unfit for another exchange.

        On an idle connection the peer has nothing to say. So anything that can be read makes it stale: bytes,
        the end of the stream, an error. Bytes found are not lost, the next receive returns them.

        Returns:
          True when the connection must not be used. False is no guarantee: the peer's FIN may be on its way.

        Kinds: TLS feeds and decrypts what is there; session tickets and key updates do not count. A foreign
        stream cannot tell, and always answers False.

        Reference: RFC 9112 section 9.5.
        """

    def attach(self, poll: EdgePoll, on_hangup: Callable[[bool], None] | None = None) -> bool:
        """Let `receive` wait through `poll`, and the peer's going away be noticed, from now to the close.

        No task may be in `receive`, and the transport must not be attached yet. `EdgePoll.run` must be
        running, or `receive` waits without end.

        Args:
          poll: shared by any number of transports of the same Trio run.
          on_hangup: as in `set_hangup`.

        Returns:
          False when nothing has changed, because this kind of transport cannot be watched, or the kernel
          refuses to watch any more: `receive` works as before, and hang-ups are only noticed by receiving.

        Raises:
          trio.ClosedResourceError: we have closed the transport.
          ValueError: it is attached already.

        Kinds: only sockets and TLS can be attached.
        """
        return False

    def set_hangup(self, on_hangup: Callable[[bool], None] | None) -> None:
        """Say who is told that the peer goes away, once this transport is attached; None: nobody.

        It is called from the task of `EdgePoll.run` with True when both directions are over, and with False
        when only the peer's is (a FIN); at most once with each, the former last. Bytes that came before may
        still lie unread. What happened earlier is not told again, and is read from `hangup`.

        Args:
          on_hangup: must not raise, and may close this transport or others. Should it raise an `Exception`,
            that is logged and no more.
        """
        # Never called: nothing is noticed without being attached.

    @abc.abstractmethod
    def abort(self) -> None:
        """End the connection so that the peer sees a failure rather than a regular end. Idempotent.

        A task that waits in this transport is woken with `trio.ClosedResourceError`.

        Kinds: a socket sends RST, and TLS no closure alert. A foreign stream cannot be ended in synchronous
        code: it is marked closed and refuses further use, tasks that wait in it stay there, and
        `aclose_forcefully` (or `aclose`) must follow to finish. Callers that can await therefore use
        `aclose_forcefully`.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close at once, regularly, without waiting. Idempotent.

        Bytes that the kernel has taken are still delivered, unless the peer has sent something that we have
        not
        read: then most kernels reset, and the peer may lose them (RFC 9112 section 9.6). Who cares
        half-closes first and receives until the end.

        Kinds: TLS makes one attempt at a closure alert, which is given up when the kernel does not take it at
        once. A foreign stream is only marked closed, and `aclose` or `aclose_forcefully` must follow.
        """

    async def aclose_forcefully(self) -> None:
        """Abort, and finish what `abort` cannot do on a foreign stream. Idempotent.

        Never waits for the peer and never raises. Not a checkpoint on sockets and TLS.

        Cancellation: not affected; the transport is closed when this returns.
        """
        self.abort()

    async def aclose(self) -> None:
        """Close regularly. Always a checkpoint; idempotent; an abort before it stays an abort.

        Cancellation: the transport is closed all the same.

        Kinds: sockets and TLS never wait for the peer here. A foreign stream may, in its own `aclose`; that
        it was broken already is not reported.
        """
        self.close()
        await trio.lowlevel.checkpoint()
