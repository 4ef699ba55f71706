"""TLS over something that is no socket: a user's stream, a memory stream, the inside of another TLS session.

Theory of operation
===================

The same `TLSEngine` as over a socket, but what carries its ciphertext is another `Transport`. That may be one
that waits for nothing it need not (TLS in the TLS of an https proxy), or a `StreamTransport`, with which
every byte sent is an await. Both are driven by `Transport.begin_send` and `Transport.finish_send`.

*Out.* `_push` is synchronous: it gives the inner transport what waits, and notes in `_owed` that the inner
`finish_send` is due. `_settle` pays that, under `_write_lock`, until nothing waits any more; so whoever is in
it carries what others have added meanwhile. What of a record is given to the inner transport cannot be taken
back: a cancelled `_settle` ends our sending direction.

*A read that wants to write* (a request for a client certificate after the handshake; OpenSSL answers key
updates with its next send) pushes. If that is not enough, and no sender is there to carry the answer, the
receiver sends it and meanwhile reads ahead within a bound, since the peer may wait for us to read
(`_answer_while_reading`). It returns when the answer was taken, for there is no task that could go on with
it.

*The end.* Closing makes one attempt at our closure alert. Over a foreign stream that attempt is an await, so
it is made by `aclose` and has a short time limit; `close` only marks.
"""

from __future__ import annotations

import contextlib
import math
import ssl
from typing import ClassVar, Final

import trio

from ._stream import StreamTransport
from ._tls_engine import MAX_WAITING_BYTES, SLICE_BYTES, STALE_READS, TLSEngine
from ._transport import Transport

#: How long a foreign stream may take to accept a last alert, in seconds. One whose buffer has room needs no
#: time at all, and nobody should wait for a peer that does not read. Arbitrary.
_ALERT_SECONDS: Final = 0.1


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
        "_engine",
        "_eof_sent",
        "_foreign",
        "_inner",
        "_owed",
        "_receiving",
        "_rest",
        "_sending",
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
        super().__init__()
        self._engine = TLSEngine(context, server_side, server_hostname, session, leftover)
        self._engine.peername = inner.peername
        self.tls = self._engine.tls
        self._inner: Transport = inner
        self.peername, self.sockname = inner.peername, inner.sockname
        #: Somewhere beneath is a stream that can do nothing without waiting.
        self._foreign: bool = isinstance(inner, StreamTransport) or (
            isinstance(inner, TLSOverTransport) and inner._foreign
        )
        self._receiving: bool = False
        self._rest: memoryview | None = None  # None when `finish_send` is not due
        self._sending: bool = False  # a task waits in order to send
        self._owed: bool = False  # the inner `finish_send` is due
        self._eof_sent: bool = False
        self._aborted: bool = False
        self._write_lock = trio.StrictFIFOLock()

    async def _shake_hands(self) -> None:
        """Run the handshake to its end."""
        engine = self._engine
        done = False
        while not done:
            try:
                done = engine.shake_hands()
            except trio.BrokenResourceError:
                await self._settle_soon()
                raise
            if engine.held:
                break  # nothing else waits
            await self._settle()
            if not done:
                data = await self._inner.receive()
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
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this connection")
        self._receiving = True
        engine = self._engine
        try:
            while True:
                self._check_open()
                if engine.stored or engine.ended:
                    # The checkpoint comes before the taking, so that a cancelled call has taken nothing.
                    await trio.lowlevel.checkpoint()
                    self._check_open()
                    return engine.take()
                if self._owes() and not self._sending:
                    await self._answer_while_reading()
                    continue
                plaintext = self._feed(await self._inner.receive())
                if plaintext is not None:
                    return engine.in_part(plaintext)
        finally:
            self._receiving = False

    def receive_nowait(self) -> bytes | None:
        """See `Transport.receive_nowait`."""
        self._check_open()
        engine = self._engine
        if engine.stored or engine.ended:
            return engine.take()
        while (ciphertext := self._inner.receive_nowait()) is not None:
            plaintext = self._feed(ciphertext)
            if plaintext is not None:
                return engine.in_part(plaintext)
        return None

    def is_stale(self) -> bool:
        """See `Transport.is_stale`."""
        engine = self._engine
        if engine.stored or engine.ended or self.closed:
            return True
        for _ in range(STALE_READS):
            try:
                ciphertext = self._inner.receive_nowait()
                if ciphertext is None:
                    return False
                plaintext = self._feed(ciphertext)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return True
            if plaintext is not None:
                engine.stored = plaintext
                return True
        return True

    def _check_open(self) -> None:
        """Raise `trio.ClosedResourceError` when we have closed."""
        if self.closed:
            raise trio.ClosedResourceError("this connection was closed by our side")

    def _feed(self, ciphertext: bytes) -> bytes | None:
        """Decrypt what was received, and begin to send what the protocol answers.

        Returns:
          Plaintext, of any length; b"" at the end of the stream; None when more has to be received.

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
            if engine.writes_tickets():
                engine.held = engine.outgoing.pending
            else:
                self._answer()
        return plaintext

    def _owes(self) -> bool:
        """Whether something waits to be sent that nobody has handed over, or its sender has left."""
        return not self._engine.broken and (self._owed or self._engine.due() > 0)

    def _answer(self) -> None:
        """Send what the protocol answers to something received, as far as it goes without waiting."""
        engine = self._engine
        if engine.broken:
            engine.outgoing.read()
            return
        if not self._write_lock.locked():  # else whoever holds it sends this too
            # A failure to send does not spoil what was received; the next send, or the end, tells.
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                self._push()
        if engine.outgoing.pending > MAX_WAITING_BYTES:
            engine.broken = True
            raise trio.BrokenResourceError(f"{engine.peer()} asks for TLS answers but does not read them")

    async def _answer_while_reading(self) -> None:
        """Send the answers that wait; meanwhile receive, lest the peer waits for that."""
        engine = self._engine
        failures: list[Exception] = []

        async def read_ahead() -> None:
            try:
                while not engine.ended and len(engine.stored) < MAX_WAITING_BYTES:
                    engine.stored += self._feed(await self._inner.receive()) or b""
            except Exception as exc:  # noqa: BLE001  # raised below, for the nursery would wrap it in a group
                failures.append(exc)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_ahead)
            try:
                await self._settle()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # `broken` is set, which the next send tells
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
        done = self._engine.encrypt(view[:SLICE_BYTES])
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
                self._engine.check_unbroken()
                self._rest = rest = rest[self._engine.encrypt(rest[:SLICE_BYTES]) :]
                await self._settle()
        except BaseException:
            self._engine.broken = True  # a record may be half out, or a half of the caller's message
            raise
        finally:
            self._sending = False
            self._rest = None

    def unsent(self) -> int:
        """See `Transport.unsent`."""
        if self.closed:
            return 0
        return self._inner.unsent() + self._engine.due() + len(self._rest or b"")

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
            self._engine.encrypt_closure_alert()
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
        self._engine.check_unbroken()

    def _push(self) -> bool:
        """Give the inner transport what waits, as long as it has finished what it got before.

        Returns:
          True when nothing is left; False when `_settle` is due.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: nothing can be sent any more.
        """
        engine = self._engine
        engine.held = 0
        while not self._owed:
            ciphertext = engine.outgoing.read()
            if not ciphertext:
                return True
            try:
                self._owed = not self._inner.begin_send(ciphertext)
            except BaseException:
                engine.broken = True
                raise
        return False

    async def _settle(self) -> None:
        """Send all that waits. Always a checkpoint; when it fails or is cancelled, `broken` is set."""
        async with self._write_lock:
            try:
                while not self._push():
                    await self._inner.finish_send()
                    self._owed = False
            except BaseException:
                self._engine.broken = True
                raise

    async def _settle_soon(self) -> None:
        """Send what waits, but do not wait long for it; a failure is nobody's concern any more."""
        with (
            contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),
            trio.move_on_after(_ALERT_SECONDS),
        ):
            await self._settle()

    # The end

    def _give_up(self) -> None:
        """Give up sending, for the protocol failed; try to send the alert that OpenSSL has prepared."""
        if not self._engine.broken and not self._write_lock.locked():
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                self._push()
        self._engine.broken = True

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
        in_midst = self._engine.broken or self._sending or self._rest is not None or self._write_lock.locked()
        self._rest = None
        if not in_midst and not self._eof_sent:
            self._engine.encrypt_closure_alert()
        if in_midst:
            # Half a message is out. The peer must not see an alert after it, also not from `aclose`.
            self._engine.broken = True
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
