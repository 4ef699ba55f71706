"""TLS over a socket, on the stdlib's `ssl.SSLObject` with memory BIOs.

Theory of operation
===================

Why not `trio.SSLStream`: it either never sends a closure alert or waits for a peer that may never read,
cannot be looked into without waiting, and puts two locks and two streams between an exchange and its socket.

The SSL object is synchronous: plaintext and ciphertext go in and come out, and nothing waits. Two queues of
ciphertext belong to it.

*In.* What a `recv` returned goes into `_incoming`, and all whole records are decrypted at once (`_decrypt`).
So between calls that queue holds at most a part of one record, which OpenSSL has taken in already; and there
is no plaintext left inside either, since one read asks for more than the largest record. Hence the rule that
receiving can wait for the socket first: nothing can be ready inside while the socket is silent, except what
`_stored` and `_ended` say.

*Out.* All ciphertext, ours and what the protocol answers by itself, leaves the SSL object in the order in
which it must reach the peer, into `_outgoing`. `_push` moves it to the kernel as far as that goes without
waiting; what a short send left over is kept in `_unsent` and is always first. `_push` is synchronous and
takes from one queue, so **any task may call it at any time**, also while another one waits for the socket to
become writable. That is all there is to concurrent sending and receiving.

*The hard case* is a read that wants to write: a request for a client certificate arrives, and an answer is
due, while the kernel's buffer is full. (A key update is easier, as OpenSSL answers it with the next send.) If
a sender is at work it carries the answer too, for it goes on until `_outgoing` is empty. If none is, the
receiver
must wait for both directions: the peer may wait for our answer before it sends, or for us to read before it
reads. Only then is a task started, in a nursery (`_wait_readable_and_flush`). Who waits for writability holds
`_write_lock`, for Trio lets only one task wait for that.

*Session tickets.* OpenSSL's server writes them when the TLS 1.3 handshake ends, though the client may never
read. They are held back until there is something else to send (`_held`), which also saves a packet.

*The end.* A closure alert is the regular end. End of file without it sets `truncated`, wherever it comes,
since all whole records before it have been decrypted. We send the alert when we close, unless our stream was
cut in the middle: a peer that got the alert would take what it has for complete.

The file is longer than most, for receiving, sending and the end all work on the same two queues; apart, each
would need the others' private parts.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import ClassVar, Final, NoReturn, Self

import trio
from trio.lowlevel import wait_readable, wait_writable

from ._socket import SocketBase
from ._transport import RECEIVE_BYTES, Address

#: How much is encrypted at a time, in bytes: four records of the largest size (RFC 8446 section 5.1). More
#: would only hold more ciphertext beside the caller's bytes.
_SLICE_BYTES: Final = 65536

#: How much ciphertext may wait while we receive, in bytes. Above our own slice (with what its records add)
#: there are only answers of the protocol, of 50 bytes to some KiB; a peer that makes us pile up more does not
#: read on purpose.
_MAX_WAITING_BYTES: Final = 4 * _SLICE_BYTES

#: How often `is_stale` reads. A new connection has some session tickets, which one read takes; the second
#: finds nothing. Whoever sends faster than we look is not idle.
_STALE_READS: Final = 4

_EMPTY: Final = memoryview(b"")


class TLSTransport(SocketBase):
    """A transport that speaks TLS over a connected socket. Made by `TLSTransport.handshake`.

    Renegotiation (TLS 1.2) that the peer starts is followed while we only receive; a send meanwhile fails.
    """

    __slots__ = (
        "_broken",
        "_carrying",
        "_decode",
        "_encode",
        "_ended",
        "_held",
        "_incoming",
        "_outgoing",
        "_ssl",
        "_stored",
        "_unsent",
        "_write_lock",
    )

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
        if context.check_hostname and not server_side and not server_hostname:
            # `wrap_bio`, unlike `wrap_socket`, would take this, and then verify no name at all.
            raise ValueError("the context checks host names, so server_hostname must be given")
        # First of all, since this raises when the arguments are wrong, and the socket is then still the
        # caller's.
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl: ssl.SSLObject = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
        )
        super().__init__(sock, peername)
        self.tls = self._ssl
        self._decode: Callable[[int], bytes] = self._ssl.read
        self._encode: Callable[[bytes | bytearray | memoryview], int] = self._ssl.write
        self._unsent: memoryview = _EMPTY
        self._held: int = 0
        # Plaintext that arrived with the handshake, or was found by `is_stale`.
        self._stored: bytes = b""
        # True after a closure alert or end of file; else what broke the protocol.
        self._ended: bool | ssl.SSLError = False
        self._broken: bool = False  # nothing may be sent any more
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
        except BaseException:
            # Not an abort: the alert that says why may be on its way to the peer.
            transport._close_socket()
            raise
        return transport

    async def _shake_hands(self) -> None:
        """Run the handshake to its end."""
        done = False
        while not done:
            try:
                self._ssl.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as exc:
                self._break(exc, "TLS handshake failed")
            if done and self._ssl.server_side and self._ssl.version() == "TLSv1.3":
                self._held = self._outgoing.pending
                break
            while not self._push():
                await wait_writable(self._fd)
            if not done:
                await wait_readable(self._fd)
                with contextlib.suppress(BlockingIOError):
                    data = self._receive_ciphertext()
                    if not data:
                        raise trio.BrokenResourceError(
                            f"{self.peername!r} closed the connection in the TLS handshake"
                        )
                    self._incoming.write(data)
        # The client's first bytes may have come together with the end of its handshake, without waiting for
        # ours.
        if self._incoming.pending:
            with contextlib.suppress(trio.BrokenResourceError):  # told by the first receive
                self._stored = self._decrypt() or b""

    # Receiving

    async def receive(self) -> bytes:
        """See `Transport.receive`."""
        while True:
            if self.closed:
                raise trio.ClosedResourceError("this connection was closed by our side")
            if self._stored or self._ended:
                # The checkpoint comes before the taking, so that a cancelled call has taken nothing.
                await trio.lowlevel.checkpoint()
                if self._stored or self._ended:
                    return self._take_stored()
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
                return plaintext if len(plaintext) <= RECEIVE_BYTES else self._in_part(plaintext)

    def receive_nowait(self) -> bytes | None:
        """See `Transport.receive_nowait`."""
        if self.closed:
            raise trio.ClosedResourceError("this connection was closed by our side")
        if self._stored or self._ended:
            return self._take_stored()
        while True:
            try:
                plaintext = self._feed(self._receive_ciphertext())
            except BlockingIOError:
                return None
            if plaintext is not None:
                return self._in_part(plaintext)

    def is_stale(self) -> bool:
        """See `Transport.is_stale`."""
        if self._stored or self._ended or self.closed:
            return True
        for _ in range(_STALE_READS):
            try:
                plaintext = self._feed(self._receive_ciphertext())
            except BlockingIOError:
                return False
            except trio.BrokenResourceError:
                return True
            if plaintext is not None:
                self._stored = plaintext
                return True
        return True

    def _take_stored(self) -> bytes:
        """Return what needs no reading: bytes found earlier, then the end or error that came after them."""
        if self._stored:
            stored, self._stored = self._stored, b""
            return self._in_part(stored)
        if isinstance(self._ended, ssl.SSLError):
            raise trio.BrokenResourceError(
                f"TLS with {self.peername!r} failed: {self._ended}"
            ) from self._ended
        return b""

    def _in_part(self, plaintext: bytes) -> bytes:
        """Return as much as one receive may; the rest is stored."""
        # One receive's ciphertext may complete a record of which OpenSSL had taken in a part before.
        if len(plaintext) > RECEIVE_BYTES:
            self._stored = plaintext[RECEIVE_BYTES:]
            return plaintext[:RECEIVE_BYTES]
        return plaintext

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
        if not ciphertext:
            self._ended = self.truncated = True
            return b""
        self._incoming.write(ciphertext)
        plaintext = self._decrypt()
        if self._outgoing.pending > self._held:
            self._answer()
        return plaintext

    def _decrypt(self) -> bytes | None:
        """Decrypt all whole records. Returns and raises as `_feed`."""
        chunks: list[bytes] = []
        while True:
            try:
                chunk = self._decode(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                chunk = b""  # The closure alert, when we have sent ours already.
            except ssl.SSLError as exc:
                if not chunks:
                    self._break(exc, "TLS failed")
                # What came before the error is sound, and goes first; the next call meets the error.
                self._note_failure(exc)
                break
            if not chunk:
                self._ended = True
                break
            if not self._incoming.pending:
                # OpenSSL takes one record at a time out of the BIO, so there is none left; asking it again,
                # to be told so by an exception, would cost more than a small record.
                if not chunks:
                    return chunk
                chunks.append(chunk)
                break
            chunks.append(chunk)
        if chunks:
            return b"".join(chunks)
        return b"" if self._ended else None

    def _answer(self) -> None:
        """Send what the protocol answers to something received, as far as it goes without waiting."""
        if self._broken:
            self._outgoing.read()
            return
        # A failure to send does not spoil what was received; the next send, or the end of the stream, tells.
        with contextlib.suppress(trio.BrokenResourceError):
            self._push()
        if self._outgoing.pending + len(self._unsent) > _MAX_WAITING_BYTES:
            self._broken = self._barred = True
            raise trio.BrokenResourceError(f"{self.peername!r} asks for TLS answers but does not read them")

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
        done = self._encrypt(data if length <= _SLICE_BYTES else memoryview(data)[:_SLICE_BYTES])
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
        # Session tickets that are held back were not handed over by anybody.
        return super()._unsent_here() + len(self._unsent) + self._outgoing.pending - self._held

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
        self._encrypt_closure_alert()
        if not self._push():
            await self._carry(_EMPTY)
        self._shutdown_sending()

    def _check_sendable(self) -> None:
        super()._check_sendable()
        if self._broken:
            raise trio.BrokenResourceError(
                "nothing more can be sent on this TLS connection: it failed, or an earlier send was cancelled"
            )

    async def _carry(self, rest: memoryview) -> None:
        """Send what `_push` left, and then `rest`."""
        self._occupy()
        self._carrying = True
        try:
            async with self._write_lock:
                while not (pushed := self._push()) or rest or self._broken:
                    if self._broken:
                        # A receiver met a failure meanwhile, and what waited was thrown away.
                        raise trio.BrokenResourceError(
                            f"TLS with {self.peername!r} failed while we were sending"
                        )
                    # Also when all was pushed: it is the checkpoint between two slices.
                    await wait_writable(self._fd)
                    if pushed:
                        self._rest = rest = rest[self._encrypt(rest[:_SLICE_BYTES]) :]
        except BaseException:
            # Cancelled, closed or broken: a record may be half out, or a half of the caller's message.
            self._stop_sending()
            raise
        finally:
            self._carrying = False
            self._vacate()

    def _vacate(self) -> None:
        super()._vacate()
        self._barred = self._barred or self._broken

    def _encrypt(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt into `_outgoing`; return how many bytes of `data` that took."""
        try:
            return self._encode(data)
        except ssl.SSLWantReadError as exc:
            self._stop_sending()
            raise trio.BrokenResourceError(
                f"{self.peername!r} started a TLS renegotiation while we were sending, which is not supported"
            ) from exc
        except ssl.SSLError as exc:
            self._break(exc, "TLS failed")

    def _encrypt_closure_alert(self) -> None:
        """Put the closure alert into `_outgoing`."""
        # Python's shutdown is OpenSSL's, called twice. The second call looks for the peer's alert, and would
        # fail for good at application data. Invariant: no whole record waits in the BIO, so it finds nothing.
        with contextlib.suppress(OSError):
            self._ssl.unwrap()

    def _push(self) -> bool:
        """Give the kernel what it takes now of the ciphertext that waits, the oldest first.

        Returns:
          True when nothing is left.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: nothing can be sent any more.
        """
        self._held = 0
        while True:
            unsent: bytes | memoryview = self._unsent or self._outgoing.read()
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
            if not self._outgoing.pending:
                return True

    # The end

    def _break(self, exc: ssl.SSLError, what: str) -> NoReturn:
        """Note that the protocol failed, and raise `trio.BrokenResourceError` from `exc`."""
        self._note_failure(exc)
        raise trio.BrokenResourceError(f"{what} with {self.peername!r}: {exc}") from exc

    def _note_failure(self, exc: ssl.SSLError) -> None:
        """Remember that the protocol failed, and try to send the alert that OpenSSL has prepared."""
        self._ended = exc
        if not self._broken:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                self._push()
        self._stop_sending()

    def _stop_sending(self) -> None:
        """Give up the sending direction, with all that waits."""
        self._broken = self._barred = True
        self._unsent = _EMPTY

    def close(self) -> None:
        """See `Transport.close`."""
        if self.closed:
            return
        if not (self._broken or self._sending or self._rest is not None or self._eof_sent):
            self._encrypt_closure_alert()
            with contextlib.suppress(OSError):
                self._send(bytes(self._unsent) + self._outgoing.read())
        self._close_socket()
