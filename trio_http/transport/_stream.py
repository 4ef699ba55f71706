"""A transport over any stream of Trio's: memory streams, a user's own, an `SSLStream`.

What a foreign stream can do is only what `trio.abc.Stream` says. It cannot be looked into, read without
waiting, or ended in synchronous code; the methods of `Transport` that need this say what they do instead.
"""

from __future__ import annotations

import contextlib
import logging
import math
from typing import Any, ClassVar

import trio

from ._transport import RECEIVE_BYTES, Address, Transport

logger = logging.getLogger("trio_http.transport")


class StreamTransport(Transport):
    """A transport over a foreign stream, which passes into our ownership.

    For a `trio.SocketStream` take `SocketTransport` with its socket: it can do more, and faster.

    Addresses are known when a Trio socket lies beneath. `tls` is the stream itself when that is a
    `trio.SSLStream`; `truncated` then tells, too, when one that is compatible with HTTPS has ended without
    the peer's closure alert.

    Args:
      stream: a connected stream.
    """

    __slots__ = ("_aborted", "_eof_sent", "_rest", "_sending", "_stream")

    kind: ClassVar[str] = "stream"

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__()
        self._stream: trio.abc.Stream = stream
        self._aborted: bool = False
        self._eof_sent: bool = False
        self._rest: bytes | bytearray | memoryview | None = None  # None when `finish_send` is not due
        self._sending: bool = False
        self.can_half_close = isinstance(stream, trio.abc.HalfCloseableStream)
        if isinstance(stream, trio.SSLStream):
            self.tls = stream
        self.peername, self.sockname = _addresses(stream)

    def _check_open(self) -> None:
        """Raise `trio.ClosedResourceError` when we have closed."""
        if self.closed:
            raise trio.ClosedResourceError("this connection was closed by our side")

    async def receive(self) -> bytes:
        """See `Transport.receive`."""
        self._check_open()
        if not self.truncated:
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if data or not isinstance(self._stream, trio.SSLStream):
                return data if type(data) is bytes else bytes(data)
        await self._ask_how_it_ended(self._stream)
        return b""

    async def _ask_how_it_ended(self, stream: trio.abc.Stream) -> None:
        """Set `truncated` by whether the end of ``stream``, a `trio.SSLStream`, came with a closure alert."""
        # In its mode for HTTPS, a stream that was cut says "end", once, as one that was closed does; but it
        # is broken from then on, and says so to whoever asks again. Nothing is received for that. Not to be
        # trusted in the meantime, for a cancel may come here; then this call's successor asks.
        self.truncated = True
        try:
            self.truncated = bool(await stream.receive_some(1))
        except trio.BrokenResourceError:
            pass

    def receive_nowait(self) -> bytes | None:
        """See `Transport.receive_nowait`."""
        self._check_open()
        return None

    def _check_sendable(self) -> None:
        """Raise unless we may send. What the stream has against it, it says when it is given the bytes.

        Raises:
          trio.BusyResourceError, trio.ClosedResourceError: as `Transport.begin_send`.
        """
        self._check_open()
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        if self._rest is not None:
            raise trio.BusyResourceError("an earlier send on this connection has yet to be finished")

    def begin_send(self, data: bytes | bytearray | memoryview) -> bool:
        """See `Transport.begin_send`."""
        self._check_sendable()
        if not data:
            return True
        self._rest = data
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
            while len(rest) > RECEIVE_BYTES:
                rest = memoryview(rest)
                await self._stream.send_all(rest[:RECEIVE_BYTES])
                self._check_open()
                self._rest = rest = rest[RECEIVE_BYTES:]
            # As it came, where it is not cut: there are streams that take nothing but bytes.
            await self._stream.send_all(rest)
        finally:
            self._sending = False
            self._rest = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `Transport.send_all`."""
        if self.begin_send(data):
            await self._stream.send_all(data)  # Of nothing: for the sake of its checkpoint, and its errors.
        else:
            await self.finish_send()

    def unsent(self) -> int:
        """See `Transport.unsent`."""
        return 0 if self._rest is None or self.closed else len(self._rest)

    async def wait_send_all_might_not_block(self) -> None:
        """See `Transport.wait_send_all_might_not_block`."""
        self._check_sendable()
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """See `Transport.send_eof`."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            self._check_sendable()
            await self._stream.send_eof()
        elif self._eof_sent:
            await trio.lowlevel.checkpoint()
        else:
            self._check_sendable()
            self._eof_sent = True
            await self.aclose()

    def is_stale(self) -> bool:
        """See `Transport.is_stale`."""
        return self.closed

    def abort(self) -> None:
        """See `Transport.abort`."""
        if not self.closed:
            self.closed = self._aborted = True

    def close(self) -> None:
        """See `Transport.close`."""
        self.closed = True

    async def aclose_forcefully(self) -> None:
        """See `Transport.aclose_forcefully`."""
        self.abort()
        # Also after an `aclose`: that may still be waiting for the peer, in another task, and is to end now.
        await self._finish_forcefully()

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self.close()
        if self._aborted:
            await self._finish_forcefully()
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            # A failure here is a failure to close gracefully; Trio's contract is that it is closed
            # nevertheless.
            with contextlib.suppress(trio.BrokenResourceError):
                await self._stream.aclose()

    async def _finish_forcefully(self) -> None:
        """Close the foreign stream without waiting for the peer and without telling how it went."""
        # Cancelled from the outset, as in `trio.aclose_forcefully`; and shielded, for where the caller is
        # cancelled too, that function passes the cancel on.
        try:
            with trio.CancelScope(deadline=-math.inf, shield=True):
                await self._stream.aclose()
        except trio.BrokenResourceError:
            pass
        except Exception:
            # The stream's own: whoever closes it in a clean-up has more to do than this. Caught outside the
            # scope, for only its exit takes the cancel out of a group.
            logger.exception("closing %r failed", self._stream)


def _addresses(stream: trio.abc.Stream | Any) -> tuple[Address, Address]:
    """Return the peer's address and ours when the stream is a Trio socket stream, or TLS over one."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if isinstance(stream, trio.SocketStream):
        try:
            return stream.socket.getpeername() or None, stream.socket.getsockname() or None
        except OSError:
            pass  # The peer has reset the connection before we looked.
    return None, None
