"""A transport seen as a Trio stream: what an upgrade or a tunnel hands to the user."""

from __future__ import annotations

import operator

import trio

from ._transport import RECEIVE_BYTES, Transport


class TransportStream(trio.abc.HalfCloseableStream):
    """A `trio.abc.HalfCloseableStream` over a transport, which passes into its ownership.

    The methods keep Trio's contract, with what `Transport` adds about errors and cancellation. Under TLS a
    cancelled `send_all` makes later ones raise `trio.BrokenResourceError`. When the end of the stream was
    met, `transport.truncated` says whether it can be trusted.

    Args:
      transport: the connection.
      leftover: bytes of the stream that were received already, any length; they are returned first.

    Attributes:
      transport: the connection, for its facts and for `Transport.abort`.
    """

    __slots__ = ("_leftover", "_position", "transport")

    def __init__(self, transport: Transport, leftover: bytes | bytearray | memoryview = b"") -> None:
        self.transport = transport
        # Kept whole and read by position: cutting it at each call would make many small reads quadratic.
        self._leftover: bytes = bytes(leftover)
        self._position: int = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.transport!r}>"

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for bytes and return them.

        Args:
          max_bytes: upper bound on the length returned, at least 1. None: one receive's worth, at most
            `RECEIVE_BYTES`.

        Returns:
          At least one byte, or b"" at the end of the stream.

        Raises:
          ValueError, TypeError: `max_bytes` is not a positive integer; nothing has changed.
          trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError: as `Transport.receive`.

        Cancellation: nothing is lost; call again and continue.
        """
        if max_bytes is None:
            max_bytes = RECEIVE_BYTES
        elif (max_bytes := operator.index(max_bytes)) < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        if self._leftover:
            await trio.lowlevel.checkpoint()
            if self.transport.closed:
                raise trio.ClosedResourceError("this connection was closed by our side")
        if not self._leftover:
            data = await self.transport.receive()
            if len(data) <= max_bytes:
                return data
            self._leftover, self._position = data, 0
        # No checkpoint from here on: bytes that left the store must reach the caller.
        start = self._position
        data = self._leftover[start : start + max_bytes]
        self._position = start + len(data)
        if self._position == len(self._leftover):
            self._leftover, self._position = b"", 0
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; see `Transport.send_all`. Always a checkpoint.

        Cancellation: before the checkpoint nothing was sent; afterwards some, all or none, and there is no
        way to know.
        """
        await trio.lowlevel.checkpoint()
        await self.transport.send_all(data.cast("B") if isinstance(data, memoryview) else data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send could make progress; see `Transport.wait_send_all_might_not_block`.

        Cancellation: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        await self.transport.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Tell the peer that we send nothing more; see `Transport.send_eof`.

        Over a foreign stream that cannot half-close, this closes.

        Cancellation: the peer may or may not have been told. Sending is over in either case.
        """
        await self.transport.send_eof()

    async def aclose(self) -> None:
        """Close regularly; see `Transport.aclose`.

        Cancellation: the transport is closed all the same.
        """
        await self.transport.aclose()
