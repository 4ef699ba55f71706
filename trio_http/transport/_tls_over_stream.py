"""TLS over something that is no socket: a user's stream, a memory stream, the inside of another TLS session.

Theory of operation
===================

The same SSL object on memory BIOs as in `_tls`, but what carries its ciphertext is another `Transport`. That
may be one that waits for nothing it need not (TLS in the TLS of an https proxy), or a `StreamTransport`, with
which every byte sent is an await. Both are driven by `Transport.begin_send` and `Transport.finish_send`.

*Out.* Ciphertext leaves the SSL object in the order in which it must reach the peer, into `_outgoing`.
`_push` is synchronous: it gives the inner transport what waits, and notes in `_owed` that the inner
`finish_send` is due. `_settle` pays that, under `_write_lock`, until nothing waits any more; so whoever is in
it carries what others have added meanwhile. What of a record is given to the inner transport cannot be taken
back: a cancelled `_settle` ends our sending direction.

*A read that wants to write* (a request for a client certificate after the handshake; OpenSSL answers key
updates with its next send) pushes. If that is not enough, and no sender is there to carry the answer, the
receiver sends it and meanwhile reads ahead within a bound, since the peer may wait for us to read
(`_answer_while_reading`). It returns when the answer was taken, for there is no task that could go on with
it.

*Session tickets* that our own side, as a server, writes are held back until there is something else to send
(`_held`), since the client may not read yet.

*The end.* As in `_tls`: a closure alert is the regular end, and any other sets `truncated`. Closing makes one
attempt at our own alert. Over a foreign stream that attempt is an await, so it is made by `aclose` and has a
short time limit; `close` only marks.

The file is long for the same reason as `_tls`: both directions and the end work on the same queues.
"""

from __future__ import annotations

import contextlib
import math
import ssl
from typing import ClassVar, Final

import trio

from ._socket import SocketTransport
from ._stream import StreamTransport
from ._tls import TLSTransport
from ._transport import RECEIVE_BYTES, Transport

#: How much is encrypted at a time, in bytes: four records of the largest size (RFC 8446 §5.1).
_SLICE_BYTES: Final = 65536

#: How much plaintext is read ahead, and how much ciphertext may wait, while an answer of the protocol cannot
#: be sent, in bytes. Arbitrary; an answer has 50 bytes to some KiB.
_MAX_WAITING_BYTES: Final = 4 * _SLICE_BYTES

#: How often `is_stale` reads. A new connection has some session tickets, which one read takes. Whoever sends
#: faster than we look is not idle.
_STALE_READS: Final = 4

#: How long a foreign stream may take to accept a last alert, in seconds. One whose buffer has room needs no
#: time at all, and nobody should wait for a peer that does not read. Arbitrary.
_ALERT_SECONDS: Final = 0.1


async def tls_over(
    stream: trio.abc.Stream | Transport,
    context: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    leftover: bytes = b"",
    session: ssl.SSLSession | None = None,
) -> Transport:
    """Make a TLS connection over anything that carries bytes.

    The stream is ours from the call on: whatever is raised, it has been closed. A `trio.SocketStream` or
    `SocketTransport` gives up its socket to a `TLSTransport`, which is faster, unless there are `leftover`
    bytes.

    Args:
      stream: connected; nothing of the TLS stream may have been read from it but `leftover`.
      context: versions, certificates and protocols (ALPN) to offer.
      server_side: our role.
      server_hostname: client only: the name or IP address to ask for (SNI) and to verify.
      leftover: bytes of the TLS stream that were received already, any length.
      session: client only: one to resume, of an earlier connection with the same context. The peer's
        certificate is then not verified again.

    Returns:
      The transport, ready for use. Its `truncated` can be trusted: a peer that ends without a closure alert
      sets it (RFC 9112 §9.8).

    Raises:
      trio.BrokenResourceError: the connection broke, or the peers did not agree. If TLS was the reason, its
        cause is the `ssl.SSLError`; `ssl.SSLCertVerificationError` when we did not trust the peer's
        certificate.
      ValueError: `server_hostname` does not fit the context; the fault of the calling program.

    Cancellation: the stream is closed, without an alert.
    """
    if not leftover:
        sock = (
            stream.socket
            if isinstance(stream, trio.SocketStream)
            else stream.detach()
            if isinstance(stream, SocketTransport)
            else None
        )
        if sock is not None:
            return await TLSTransport.handshake(
                sock, context, server_side=server_side, server_hostname=server_hostname, session=session
            )
    if isinstance(stream, Transport):
        inner = stream
    elif isinstance(stream, trio.SocketStream):
        inner = SocketTransport(stream.socket)
    else:
        inner = StreamTransport(stream)
    try:
        transport = TLSOverTransport(inner, context, server_side, server_hostname, leftover, session)
        await transport._shake_hands()
    except BaseException:
        # First a regular close, where that is possible: the alert that says why may be on its way to the
        # peer, and an abort would overtake it.
        inner.close()
        await inner.aclose_forcefully()
        raise
    return transport


class TLSOverTransport(Transport):
    """A transport that speaks TLS over another transport. Made by `tls_over`.

    What the inner one cannot do, this cannot either: over a foreign stream, `receive_nowait` always answers
    None, `is_stale` sees only what was received already, every send has to be finished, and `close` and
    `abort` only mark.

    Cancellation: as `Transport` says, with one thing more: a cancelled `receive` that was just sending an
    answer of the protocol has ended our sending direction. It has lost nothing received.
    """

    __slots__ = (
        "_aborted",
        "_broken",
        "_ended",
        "_eof_sent",
        "_foreign",
        "_held",
        "_incoming",
        "_inner",
        "_outgoing",
        "_owed",
        "_receiving",
        "_rest",
        "_sending",
        "_ssl",
        "_stored",
        "_write_lock",
    )

    kind: ClassVar[str] = "tls"

    def __init__(
        self,
        inner: Transport,
        context: ssl.SSLContext,
        server_side: bool,
        server_hostname: str | None,
        leftover: bytes,
        session: ssl.SSLSession | None = None,
    ) -> None:
        if context.check_hostname and not server_side and not server_hostname:
            # `wrap_bio`, unlike `wrap_socket`, would take this, and then verify no name at all.
            raise ValueError("the context checks host names, so server_hostname must be given")
        super().__init__()
        self._inner: Transport = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl: ssl.SSLObject = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
        )
        self._incoming.write(leftover)
        self.tls = self._ssl
        self.peername, self.sockname = inner.peername, inner.sockname
        #: Somewhere beneath is a stream that can do nothing without waiting.
        self._foreign: bool = isinstance(inner, StreamTransport) or (
            isinstance(inner, TLSOverTransport) and inner._foreign
        )
        self._stored: bytes = b""  # plaintext that nobody has asked for yet
        self._ended: bool | ssl.SSLError = False  # True: alert or end of file; else what broke the protocol
        self._receiving: bool = False
        self._held: int = 0
        self._rest: memoryview | None = None  # None when `finish_send` is not due
        self._sending: bool = False  # a task waits in order to send
        self._owed: bool = False  # the inner `finish_send` is due
        self._broken: bool = False  # nothing may be sent any more
        self._eof_sent: bool = False
        self._aborted: bool = False
        self._write_lock = trio.StrictFIFOLock()

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
                await self._settle_soon()
                raise trio.BrokenResourceError(f"TLS handshake failed with {self._peer()}: {exc}") from exc
            if done and self._ssl.server_side and self._ssl.version() == "TLSv1.3":
                self._held = self._outgoing.pending
                break
            await self._settle()
            if not done:
                data = await self._inner.receive()
                if not data:
                    raise trio.BrokenResourceError(
                        f"{self._peer()} closed the connection in the TLS handshake"
                    )
                self._incoming.write(data)
        if self._incoming.pending:
            with contextlib.suppress(trio.BrokenResourceError):  # told by the first receive
                self._stored = self._decrypt() or b""

    def _peer(self) -> str:
        """Return how an error's text names the peer."""
        return "the peer" if self.peername is None else repr(self.peername)

    # Receiving

    async def receive(self) -> bytes:
        """See `Transport.receive`."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this connection")
        self._receiving = True
        try:
            while True:
                self._check_open()
                if self._stored or self._ended:
                    # The checkpoint comes before the taking, so that a cancelled call has taken nothing.
                    await trio.lowlevel.checkpoint()
                    self._check_open()
                    return self._take_stored()
                if self._owes() and not self._sending:
                    await self._answer_while_reading()
                    continue
                plaintext = self._feed(await self._inner.receive())
                if plaintext is not None:
                    return self._in_part(plaintext)
        finally:
            self._receiving = False

    def receive_nowait(self) -> bytes | None:
        """See `Transport.receive_nowait`."""
        self._check_open()
        if self._stored or self._ended:
            return self._take_stored()
        while (ciphertext := self._inner.receive_nowait()) is not None:
            plaintext = self._feed(ciphertext)
            if plaintext is not None:
                return self._in_part(plaintext)
        return None

    def is_stale(self) -> bool:
        """See `Transport.is_stale`."""
        if self._stored or self._ended or self.closed:
            return True
        for _ in range(_STALE_READS):
            try:
                ciphertext = self._inner.receive_nowait()
                if ciphertext is None:
                    return False
                plaintext = self._feed(ciphertext)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return True
            if plaintext is not None:
                self._stored = plaintext
                return True
        return True

    def _check_open(self) -> None:
        """Raise `trio.ClosedResourceError` when we have closed."""
        if self.closed:
            raise trio.ClosedResourceError("this connection was closed by our side")

    def _take_stored(self) -> bytes:
        """Return what needs no reading: bytes found earlier, then the end or error that came after them."""
        if self._stored:
            stored, self._stored = self._stored, b""
            return self._in_part(stored)
        if isinstance(self._ended, ssl.SSLError):
            raise trio.BrokenResourceError(f"TLS with {self._peer()} failed: {self._ended}") from self._ended
        return b""

    def _in_part(self, plaintext: bytes) -> bytes:
        """Return as much as one receive may; the rest is stored."""
        # One receive's ciphertext may complete a record of which OpenSSL had taken in a part before.
        if len(plaintext) > RECEIVE_BYTES:
            self._stored = plaintext[RECEIVE_BYTES:]
            return plaintext[:RECEIVE_BYTES]
        return plaintext

    def _feed(self, ciphertext: bytes) -> bytes | None:
        """Decrypt what was received, and begin to send what the protocol answers.

        Returns:
          Plaintext, of any length; b"" at the end of the stream; None when more has to be received.

        Raises:
          trio.BrokenResourceError: the peer broke the protocol.
        """
        if not ciphertext:
            self._ended = self.truncated = True
            return b""
        self._incoming.write(ciphertext)
        plaintext = self._decrypt()
        if self._outgoing.pending > self._held:
            if self._ssl.server_side and self._ssl.version() == "TLSv1.3":
                self._held = self._outgoing.pending  # more session tickets: a server answers nothing else
            else:
                self._answer()
        return plaintext

    def _decrypt(self) -> bytes | None:
        """Decrypt all whole records. Returns and raises as `_feed`."""
        chunks: list[bytes] = []
        while not self._ended:
            try:
                chunk = self._ssl.read(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                chunk = b""  # The closure alert, when we have sent ours already.
            except ssl.SSLError as exc:
                self._note_failure(exc)
                if chunks:
                    break  # What came before the error is sound, and goes first; the next call meets it.
                raise trio.BrokenResourceError(f"TLS with {self._peer()} failed: {exc}") from exc
            if chunk:
                chunks.append(chunk)
            else:
                self._ended = True
        if chunks:
            return b"".join(chunks)
        return b"" if self._ended else None

    def _owes(self) -> bool:
        """Whether something waits to be sent that nobody has handed over, or its sender has left."""
        return not self._broken and (self._owed or self._outgoing.pending > self._held)

    def _answer(self) -> None:
        """Send what the protocol answers to something received, as far as it goes without waiting."""
        if self._broken:
            self._outgoing.read()
            return
        if not self._write_lock.locked():  # else whoever holds it sends this too
            # A failure to send does not spoil what was received; the next send, or the end, tells.
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                self._push()
        if self._outgoing.pending > _MAX_WAITING_BYTES:
            self._broken = True
            raise trio.BrokenResourceError(f"{self._peer()} asks for TLS answers but does not read them")

    async def _answer_while_reading(self) -> None:
        """Send the answers that wait; meanwhile receive, lest the peer waits for that."""
        failures: list[Exception] = []

        async def read_ahead() -> None:
            try:
                while not self._ended and len(self._stored) < _MAX_WAITING_BYTES:
                    self._stored += self._feed(await self._inner.receive()) or b""
            except Exception as exc:  # noqa: BLE001  # raised below, for the nursery would wrap it in a group
                failures.append(exc)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_ahead)
            try:
                await self._settle()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # `_broken` is set, which the next send tells
            except Exception as exc:  # noqa: BLE001  # as above
                failures.append(exc)
            nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]

    # Sending

    def begin_send(self, data: bytes | bytearray | memoryview) -> bool:
        """See `Transport.begin_send`."""
        self._check_sendable()
        if not data:
            return True
        view = memoryview(data)
        done = self._encrypt(view[:_SLICE_BYTES])
        if self._push() and done == len(view):
            return True
        self._rest = view[done:]
        return False

    async def finish_send(self) -> None:
        """See `Transport.finish_send`."""
        rest = self._rest
        if rest is None or self._sending or self.closed:
            self._check_sendable()
            await trio.lowlevel.checkpoint()
            return
        self._sending = True
        try:
            await self._settle()
            while rest:
                self._check_unbroken()
                self._rest = rest = rest[self._encrypt(rest[:_SLICE_BYTES]) :]
                await self._settle()
        except BaseException:
            self._broken = True  # a record may be half out, or a half of the caller's message
            raise
        finally:
            self._sending = False
            self._rest = None

    def unsent(self) -> int:
        """See `Transport.unsent`."""
        if self.closed:
            return 0
        # Session tickets that are held back were not handed over by anybody.
        return self._inner.unsent() + self._outgoing.pending - self._held + len(self._rest or b"")

    async def wait_send_all_might_not_block(self) -> None:
        """See `Transport.wait_send_all_might_not_block`."""
        self._check_sendable()
        self._sending = True
        try:
            if self._owed:
                await self._settle()
            async with self._write_lock:
                self._check_open()
                await self._inner.wait_send_all_might_not_block()
                self._push()  # what was to be answered meanwhile
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """See `Transport.send_eof`.

        Kinds: over a foreign stream that cannot half-close, the closure alert alone says it.
        """
        await trio.lowlevel.checkpoint()
        if self._eof_sent and not self.closed:
            return
        self._check_sendable()
        self._eof_sent = self._sending = True
        try:
            self._encrypt_closure_alert()
            await self._settle()
            if self._inner.can_half_close:
                await self._inner.send_eof()
        finally:
            self._sending = False

    def _check_sendable(self) -> None:
        """Raise unless we may send, as `Transport.begin_send`."""
        self._check_open()
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        if self._rest is not None:
            raise trio.BusyResourceError("an earlier send on this connection has yet to be finished")
        if self._eof_sent:
            raise trio.ClosedResourceError("our side has ended the sending direction of this connection")
        self._check_unbroken()

    def _check_unbroken(self) -> None:
        """Raise `trio.BrokenResourceError` when nothing can be sent any more."""
        if self._broken:
            raise trio.BrokenResourceError(
                "nothing more can be sent on this TLS connection: it failed, or an earlier send was cancelled"
            )

    def _encrypt(self, data: memoryview) -> int:
        """Encrypt into `_outgoing`; return how many bytes of `data` that took."""
        try:
            return self._ssl.write(data)
        except ssl.SSLWantReadError as exc:
            self._broken = True
            raise trio.BrokenResourceError(
                f"{self._peer()} started a TLS renegotiation while we were sending, which is not supported"
            ) from exc
        except ssl.SSLError as exc:
            self._note_failure(exc)
            raise trio.BrokenResourceError(f"TLS with {self._peer()} failed: {exc}") from exc

    def _push(self) -> bool:
        """Give the inner transport what waits, as long as it has finished what it got before.

        Returns:
          True when nothing is left; False when `_settle` is due.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: nothing can be sent any more.
        """
        self._held = 0
        while not self._owed:
            ciphertext = self._outgoing.read()
            if not ciphertext:
                return True
            try:
                self._owed = not self._inner.begin_send(ciphertext)
            except BaseException:
                self._broken = True
                raise
        return False

    async def _settle(self) -> None:
        """Send all that waits. Always a checkpoint; when it fails or is cancelled, `_broken` is set."""
        async with self._write_lock:
            try:
                while not self._push():
                    await self._inner.finish_send()
                    self._owed = False
            except BaseException:
                self._broken = True
                raise

    async def _settle_soon(self) -> None:
        """Send what waits, but do not wait long for it; a failure is nobody's concern any more."""
        with (
            contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),
            trio.move_on_after(_ALERT_SECONDS),
        ):
            await self._settle()

    # The end

    def _note_failure(self, exc: ssl.SSLError) -> None:
        """Remember that the protocol failed, and try to send the alert that OpenSSL has prepared."""
        self._ended = exc
        if not self._broken and not self._write_lock.locked():
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                self._push()
        self._broken = True

    def _encrypt_closure_alert(self) -> None:
        """Put the closure alert into `_outgoing`."""
        # Python's shutdown is OpenSSL's, called twice; the second looks for the peer's alert, and finds
        # nothing, for no whole record ever waits in the BIO.
        with contextlib.suppress(OSError):
            self._ssl.unwrap()

    def abort(self) -> None:
        """See `Transport.abort`."""
        if not self.closed:
            self.closed = self._aborted = True
            self._rest = None
            self._inner.abort()

    def close(self) -> None:
        """See `Transport.close`."""
        if self.closed:
            return
        self.closed = True
        in_midst = self._broken or self._sending or self._rest is not None or self._write_lock.locked()
        self._rest = None
        if not in_midst and not self._eof_sent:
            self._encrypt_closure_alert()
        if in_midst:
            # Half a message is out. The peer must not see an alert after it, also not from `aclose`.
            self._broken = True
        if self._foreign:
            return  # `aclose` sends the alert, and closes
        if not in_midst:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                self._push()
        self._inner.close()

    async def aclose_forcefully(self) -> None:
        """See `Transport.aclose_forcefully`."""
        self.abort()
        await self._inner.aclose_forcefully()

    async def aclose(self) -> None:
        """See `Transport.aclose`.

        Kinds: over a foreign stream it waits at most 0.1 s for our closure alert to be taken, and then for
        whatever that stream's own `aclose` waits for.
        """
        self.close()
        if self._foreign and self._owes() and not self._aborted:
            try:
                await self._settle_soon()
            except BaseException:
                with trio.CancelScope(deadline=-math.inf, shield=True):
                    await self._inner.aclose_forcefully()
                raise
        await self._inner.aclose()
