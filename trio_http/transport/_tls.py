"""TLS over a socket: what a `TLSEngine` wants sent and received, done without waiting where that is possible.

Theory of operation
===================

Why not `trio.SSLStream`: it either never sends a closure alert or waits for a peer that may never read,
cannot be looked into without waiting, and puts two locks and two streams between an exchange and its socket.

*In.* A receive waits for the socket first, and decrypts whatever one `recv` returned. Why nothing is missed
by that is said in `_tls_engine`.

*Out.* `_push` moves ciphertext from the engine to the kernel as far as that goes without waiting; what a
short send left over is kept in `_unsent` and is always first. `_push` is synchronous and takes from one
queue, so **any task may call it at any time**, also while another one waits for the socket to become
writable. That is all there is to concurrent sending and receiving.

*The hard case* is a read that wants to write: a request for a client certificate arrives, and an answer is
due, while the kernel's buffer is full. (A key update is easier, as OpenSSL answers it with the next send.) If
a sender is at work it carries the answer too, for it goes on until nothing waits. If none is, the receiver
must wait for both directions: the peer may wait for our answer before it sends, or for us to read before it
reads. Only then is a task started, in a nursery (`_wait_readable_and_flush`). Who waits for writability holds
`_write_lock`, for Trio lets only one task wait for that.

*The end.* We send the closure alert when we close, unless our stream was cut in the middle: a peer that got
the alert would take what it has for complete.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import ClassVar, Final, Self

import trio
from trio.lowlevel import wait_readable, wait_writable

from ._socket import SocketBase
from ._tls_engine import MAX_WAITING_BYTES, SLICE_BYTES, STALE_READS, TLSEngine
from ._transport import RECEIVE_BYTES, Address

_EMPTY: Final = memoryview(b"")


class TLSTransport(SocketBase):
    """A transport that speaks TLS over a connected socket. Made by `TLSTransport.handshake`.

    Renegotiation (TLS 1.2) that the peer starts is followed while we only receive; a send meanwhile fails.
    """

    __slots__ = ("_carrying", "_engine", "_unsent", "_write_lock")

    kind: ClassVar[str] = "tls"

    def __init__(
        self,
        sock: trio.socket.SocketType | socket.socket,
        context: ssl.SSLContext,
        server_side: bool,
        server_hostname: str | None,
        peername: Address | bytes = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        # First of all, since this raises when the arguments are wrong, and the socket is then still the
        # caller's.
        self._engine = TLSEngine(context, server_side, server_hostname, session)
        super().__init__(sock, peername)
        self._engine.peername = self.peername
        self.tls = self._engine.tls
        self._unsent: memoryview = _EMPTY
        self._carrying: bool = False  # a task is in `_carry` and sends all there is, the answers too
        self._write_lock = trio.StrictFIFOLock()

    @classmethod
    async def handshake(
        cls,
        sock: trio.socket.SocketType | socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        peername: Address | bytes = None,
        session: ssl.SSLSession | None = None,
    ) -> Self:
        """Make a TLS connection over a connected socket.

        The socket is ours from the call on: whatever is raised, it has been closed.

        Args:
          sock: connected; nothing of the TLS stream may have been read from it.
          context: versions, certificates and protocols (ALPN) to offer.
          server_side: our role.
          server_hostname: client only: the name or IP address to ask for (SNI) and to verify.
          peername: the peer's address as `accept` returned it, which saves a system call; None: ask the
            kernel.
          session: client only: one to resume, of an earlier connection with the same context. The peer's
            certificate is then not verified again.

        Returns:
          The transport, ready for use.

        Raises:
          trio.BrokenResourceError: the connection broke, or the peers did not agree. If TLS was the reason,
            its cause is the `ssl.SSLError`; `ssl.SSLCertVerificationError` when we did not trust the peer's
            certificate.
          ValueError: `server_hostname` does not fit the context; the fault of the calling program.

        Cancellation: the socket is closed, without an alert.
        """
        try:
            transport = cls(sock, context, server_side, server_hostname, peername, session)
        except BaseException:
            sock.close()
            raise
        try:
            await transport._shake_hands()
        except BaseException as exc:
            # Not an abort: the alert that says why may be on its way to the peer.
            transport._close_socket()
            if isinstance(exc, trio.BrokenResourceError):  # maybe at once, and the caller may try again
                await trio.lowlevel.checkpoint()
            raise
        return transport

    async def _shake_hands(self) -> None:
        """Run the handshake to its end."""
        engine = self._engine
        done = False
        while not done:
            try:
                done = engine.shake_hands()
            except trio.BrokenResourceError:
                self._give_up()
                raise
            if engine.held:
                break  # nothing else waits
            while not self._push():
                await wait_writable(self._fd)
            if not done:
                await wait_readable(self._fd)
                with contextlib.suppress(BlockingIOError):
                    data = self._receive_ciphertext()
                    if not data:
                        raise trio.BrokenResourceError(
                            f"{engine.peer()} closed the connection in the TLS handshake"
                        )
                    engine.incoming.write(data)
        if engine.failure is not None:
            self._give_up()  # told by the first receive

    # Receiving

    async def receive(self) -> bytes:
        """See `Transport.receive`."""
        engine = self._engine
        while True:
            if self.closed:
                raise trio.ClosedResourceError("this connection was closed by our side")
            if engine.stored or engine.ended:
                # The checkpoint comes before the taking, so that a cancelled call has taken nothing.
                await trio.lowlevel.checkpoint()
                if engine.stored or engine.ended:
                    return engine.take()
                continue
            if self._unsent and not self._carrying:
                await self._wait_readable_and_flush()
            else:
                await self._wait_readable()
            try:
                plaintext = self._feed(self._receive_ciphertext())
            except BlockingIOError:
                continue
            if plaintext is not None:
                return plaintext if len(plaintext) <= RECEIVE_BYTES else engine.in_part(plaintext)

    def receive_nowait(self) -> bytes | None:
        """See `Transport.receive_nowait`."""
        if self.closed:
            raise trio.ClosedResourceError("this connection was closed by our side")
        engine = self._engine
        if engine.stored or engine.ended:
            return engine.take()
        while True:
            try:
                plaintext = self._feed(self._receive_ciphertext())
            except BlockingIOError:
                return None
            if plaintext is not None:
                return engine.in_part(plaintext)

    def is_stale(self) -> bool:
        """See `Transport.is_stale`."""
        engine = self._engine
        if engine.stored or engine.ended or self.closed:
            return True
        for _ in range(STALE_READS):
            try:
                plaintext = self._feed(self._receive_ciphertext())
            except BlockingIOError:
                return False
            except trio.BrokenResourceError:
                return True
            if plaintext is not None:
                engine.stored = plaintext
                return True
        return True

    def _receive_ciphertext(self) -> bytes:
        """Return what the kernel has, b"" at end of file; raise `BlockingIOError` when there is nothing."""
        try:
            data = self._recv(RECEIVE_BYTES)
        except BlockingIOError:
            self._ready = False
            raise
        except OSError as exc:
            raise self._failure(exc) from exc
        if self._ready or len(data) == RECEIVE_BYTES:
            self._note_received(len(data))
        return data

    def _feed(self, ciphertext: bytes) -> bytes | None:
        """Decrypt what was received and send what the protocol answers.

        Returns:
          Plaintext; b"" at the end of the stream; None when more has to be received.

        Raises:
          trio.BrokenResourceError: the peer broke the protocol.
        """
        engine = self._engine
        if not ciphertext:
            engine.ended = self.truncated = True
            return b""
        plaintext = engine.decrypt(ciphertext)
        if engine.failure is not None:
            self._give_up()
            if not plaintext:
                engine.raise_failure()
        elif engine.outgoing.pending > engine.held:
            self._answer()
        return plaintext

    def _answer(self) -> None:
        """Send what the protocol answers to something received, as far as it goes without waiting."""
        engine = self._engine
        if engine.broken:
            engine.outgoing.read()
            return
        # A failure to send does not spoil what was received; the next send, or the end of the stream, tells.
        with contextlib.suppress(trio.BrokenResourceError):
            self._push()
        if engine.outgoing.pending + len(self._unsent) > MAX_WAITING_BYTES:
            engine.broken = self._barred = True
            raise trio.BrokenResourceError(f"{engine.peer()} asks for TLS answers but does not read them")

    async def _wait_readable_and_flush(self) -> None:
        """Wait for readability, and meanwhile send the answers that the kernel has not taken yet."""
        failure: trio.ClosedResourceError | trio.BusyResourceError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flush)
            try:
                await self._wait_readable()
            except (trio.ClosedResourceError, trio.BusyResourceError) as exc:
                failure = exc  # Raised outside, for the nursery would wrap it in a group.
            # A cancel that comes in the nursery's end must not lose the edge that has woken us.
            self._ready = True
            # The queue is kept by `_push`, so nothing is torn by this.
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _flush(self) -> None:
        """Send all that waits. Errors are for the next send or receive to tell."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self._write_lock:
                while not self._push():
                    await wait_writable(self._fd)

    # Sending

    def begin_send(self, data: bytes | bytearray | memoryview) -> bool:
        """See `Transport.begin_send`."""
        if self._barred:
            self._check_sendable()
        if not data:
            return True
        length = len(data)
        try:
            done = self._engine.encrypt(data if length <= SLICE_BYTES else memoryview(data)[:SLICE_BYTES])
        except trio.BrokenResourceError:
            self._stop_sending()
            raise
        if self._push() and done == length:
            return True
        self._keep(memoryview(data)[done:])
        return False

    async def finish_send(self) -> None:
        """See `Transport.finish_send`."""
        rest = self._take_rest()
        if rest is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._carry(rest)

    def _unsent_here(self) -> int:
        return super()._unsent_here() + len(self._unsent) + self._engine.due()

    async def wait_send_all_might_not_block(self) -> None:
        """See `Transport.wait_send_all_might_not_block`."""
        self._check_sendable()
        self._occupy()
        try:
            async with self._write_lock:
                if self.closed:
                    raise trio.ClosedResourceError("this connection was closed by our side")
                await wait_writable(self._fd)
                self._push()
        finally:
            self._vacate()

    async def send_eof(self) -> None:
        """See `Transport.send_eof`."""
        await trio.lowlevel.checkpoint()
        if self._eof_sent and not self.closed:
            return
        self._check_sendable()
        self._eof_sent = self._barred = True
        self._engine.encrypt_closure_alert()
        if not self._push():
            await self._carry(_EMPTY)
        self._shutdown_sending()

    def _check_sendable(self) -> None:
        super()._check_sendable()
        self._engine.check_unbroken()

    async def _carry(self, rest: memoryview) -> None:
        """Send what `_push` left, and then `rest`."""
        self._occupy()
        self._carrying = True
        try:
            async with self._write_lock:
                while not (pushed := self._push()) or rest or self._engine.broken:
                    if self.closed:  # while we waited for the lock, or had been woken already
                        raise trio.ClosedResourceError("this connection was closed by our side")
                    if self._engine.broken:
                        # A receiver met a failure meanwhile, and what waited was thrown away.
                        raise trio.BrokenResourceError(
                            f"TLS with {self._engine.peer()} failed while we were sending"
                        )
                    # Also when all was pushed: it is the checkpoint between two slices.
                    await wait_writable(self._fd)
                    if pushed:
                        self._rest = rest = rest[self._engine.encrypt(rest[:SLICE_BYTES]) :]
        except BaseException:
            # Cancelled, closed or broken: a record may be half out, or a half of the caller's message.
            self._stop_sending()
            raise
        finally:
            self._carrying = False
            self._vacate()

    def _vacate(self) -> None:
        super()._vacate()
        self._barred = self._barred or self._engine.broken

    def _push(self) -> bool:
        """Give the kernel what it takes now of the ciphertext that waits, the oldest first.

        Returns:
          True when nothing is left.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: nothing can be sent any more.
        """
        engine = self._engine
        engine.held = 0
        outgoing = engine.outgoing
        while True:
            unsent: bytes | memoryview = self._unsent or outgoing.read()
            if not unsent:
                return True
            try:
                sent = self._send(unsent)
            except BlockingIOError:
                sent = 0
            except OSError as exc:
                self._stop_sending()
                raise self._failure(exc) from exc
            if sent < len(unsent):
                # A short send means that the buffer is full; a second one would only be told so.
                self._unsent = memoryview(unsent)[sent:]
                return False
            self._unsent = _EMPTY
            if not outgoing.pending:
                return True

    # The end

    def _give_up(self) -> None:
        """Give up sending, for the protocol failed; try to send the alert that OpenSSL has prepared."""
        if not self._engine.broken:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                self._push()
        self._stop_sending()

    def _stop_sending(self) -> None:
        """Give up the sending direction, with all that waits."""
        self._engine.broken = self._barred = True
        self._unsent = _EMPTY

    def close(self) -> None:
        """See `Transport.close`."""
        if self.closed:
            return
        if not (self._engine.broken or self._sending or self._rest is not None or self._eof_sent):
            self._engine.encrypt_closure_alert()
            with contextlib.suppress(OSError):
                self._send(bytes(self._unsent) + self._engine.outgoing.read())
        self._close_socket()
