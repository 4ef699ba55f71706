"""One end of a simulated connection, as a stream of Trio's."""

from __future__ import annotations

import math
import operator

import trio

from ._invariants import register_stream
from ._simulated_connection import SimulatedConnection, SimulatedEnd
from ._simulated_weather import Side


class SimulatedStream(trio.abc.HalfCloseableStream):
    """One end of a connection of a `SimulatedNetwork`, which behaves as one over TCP does.

    - The bytes on their way in one direction are bounded; beyond that a sender waits for the receiver to
      receive. Bytes that the weather has lost are on their way for ever.
    - When one side has closed, the other receives what was sent, and then the end. What it sends itself is
      answered by a reset, which is noticed after the way there and back; so is what was already on its way.
    - Closing with bytes here that were not received resets the connection at once.
    - Where a reset has arrived, what was not received is lost, and every call raises.

    Attributes:
      connection: what is known of the connection.
      end: what is known of this end.
    """

    __slots__ = ("__weakref__", "_receiving", "_sending", "connection", "end")

    def __init__(self, connection: SimulatedConnection, side: Side) -> None:
        self.connection = connection
        self.end: SimulatedEnd = connection.client if side == "client" else connection.server
        self._receiving = False
        self._sending = False
        register_stream(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} #{self.connection.number}, {self.end!r}>"

    @property
    def closed(self) -> bool:
        """This end was closed or reset by its owner."""
        return self.end.left is not None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive as `trio.abc.ReceiveStream` says.

        Args:
          max_bytes: at least 1; None: everything that is here, but not beyond the end of a piece that was
            split off.

        Raises:
          trio.BrokenResourceError: the connection was reset; what was here is lost.

        Cancellation: nothing is lost.
        """
        if max_bytes is not None and (max_bytes := operator.index(max_bytes)) < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self._receiving = True
        end = self.end
        try:
            await trio.lowlevel.checkpoint()
            while True:
                self._check_whole()
                data = self.connection._receive(end, max_bytes)
                if data is not None:
                    return data
                await _wait(end._receivers, min(end._incoming.next_at(), end._broken_at))
        finally:
            self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send as `trio.abc.SendStream` says; waits only while too much is on its way.

        Raises:
          trio.BrokenResourceError: the connection was reset.

        Cancellation: some, all or none was sent; `SimulatedEnd.sent_bytes` tells.
        """
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            rest = memoryview(data).cast("B")
            while True:
                self._check_sendable()
                room = self.end._outgoing.room()
                if rest and room:
                    part = bytes(rest[:room])
                    rest = rest[room:]
                    self.connection._send(self.end, part)
                if not rest:
                    return
                await _wait(self.end._senders, self.end._broken_at)
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as `trio.abc.SendStream` says.

        Raises: as `send_all`.

        Cancellation: nothing has changed.
        """
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            while True:
                self._check_sendable()
                if self.end._outgoing.room():
                    return
                await _wait(self.end._senders, self.end._broken_at)
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """End the sending direction as `trio.abc.HalfCloseableStream` says.

        Raises:
          trio.BrokenResourceError: the connection was reset.

        Cancellation: before the checkpoint in it nothing has changed; afterwards it is done.
        """
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            self._check_whole()
            self.connection._send_end(self.end)
        finally:
            self._sending = False

    def close(self) -> None:
        """Close both directions. Idempotent."""
        self.connection._close(self.end)

    async def aclose(self) -> None:
        """Close as `trio.abc.AsyncResource` says.

        Cancellation: it is closed all the same.
        """
        self.close()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """End the connection by force, as with SO_LINGER 0. Idempotent, and nothing after a close.

        When that has arrived, whatever the peer does raises `trio.BrokenResourceError`.
        """
        self.connection._reset(self.end)

    def _begin_sending(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True

    def _check_whole(self) -> None:
        if self.end.left is not None:
            raise trio.ClosedResourceError("this stream was closed by our side")
        if self.end._broken_at <= trio.current_time():
            raise trio.BrokenResourceError("the connection was reset")

    def _check_sendable(self) -> None:
        self._check_whole()
        if self.end._outgoing.ended:
            raise trio.ClosedResourceError("the sending direction was ended by our side")


async def _wait(lot: trio.lowlevel.ParkingLot, until: float) -> None:
    """Wait to be woken, or until a time that may be infinite."""
    if until == math.inf:
        await lot.park()
    else:
        with trio.CancelScope(deadline=until):
            await lot.park()
