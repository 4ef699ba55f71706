"""Two ends of a connection in memory, which can be half-closed, clogged and reset.

Trio's own memory streams can do neither of the last two by themselves. A stream here keeps the contract of
`trio.abc.HalfCloseableStream` (Trio's check for it is run on it) and adds what a test of a network program
asks: how much went through, is it closed, and what does the other side make of a reset.
"""

from __future__ import annotations

import operator

import trio

from ._invariants import register_stream


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory; made by `memory_pair`.

    What one end sends is at once receivable at the other. It differs from a TCP connection in one point:
    closing with unread bytes is a regular end for the peer, not a reset.

    Attributes:
      closed: this end was closed or reset by its owner.
      sent_bytes, received_bytes: how many bytes went through this end.
      sends, receives: how many calls carried them; a call that failed or met the end is not counted.
    """

    __slots__ = (
        "__weakref__", "_incoming", "_outgoing", "_receiving", "_sending", "closed", "received_bytes",
        "receives", "sends", "sent_bytes",
    )  # fmt: skip

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._receiving = False
        self._sending = False
        self.closed = False
        self.sent_bytes = self.received_bytes = self.sends = self.receives = 0
        register_stream(self)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return (
            f"<{type(self).__name__}, {state}, {self.sent_bytes} bytes sent, {self.received_bytes} received>"
        )

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive as `trio.abc.ReceiveStream` says.

        Args:
          max_bytes: at least 1; None: everything that is here.

        Raises:
          trio.BrokenResourceError: the peer has reset the connection; what was on its way is lost.

        Cancellation: nothing is lost.
        """
        if max_bytes is not None and (max_bytes := operator.index(max_bytes)) < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            pipe = self._incoming
            while True:
                if self.closed:
                    raise trio.ClosedResourceError("this stream was closed by our side")
                if pipe.reset:
                    raise trio.BrokenResourceError("the peer has reset the connection")
                if pipe.data or pipe.ended:
                    break
                await pipe.changed.park()
            data = bytes(pipe.data[:max_bytes])
            del pipe.data[:max_bytes]
            pipe.changed.unpark_all()
        finally:
            self._receiving = False
        if data:
            self.received_bytes += len(data)
            self.receives += 1
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send as `trio.abc.SendStream` says; waits only while a limited buffer is full.

        Raises:
          trio.BrokenResourceError: the peer has closed or reset the connection.

        Cancellation: some, all or none was sent; `sent_bytes` tells.
        """
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            rest = memoryview(data).cast("B")
            while True:
                room = self._room()
                if rest and room:
                    part = rest[:room]
                    self._outgoing.data += part
                    self._outgoing.changed.unpark_all()
                    self.sent_bytes += len(part)
                    rest = rest[room:]
                if not rest:
                    break
                await self._outgoing.changed.park()
        finally:
            self._sending = False
        self.sends += bool(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as `trio.abc.SendStream` says.

        Raises: as `send_all`.

        Cancellation: nothing has changed.
        """
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            while not self._room():
                await self._outgoing.changed.park()
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """End the sending direction as `trio.abc.HalfCloseableStream` says.

        Cancellation: before the checkpoint in it nothing has changed; afterwards it is done.
        """
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            if self.closed:
                raise trio.ClosedResourceError("this stream was closed by our side")
            self._outgoing.end()
        finally:
            self._sending = False

    def close(self) -> None:
        """Close both directions: the peer receives what was sent, and then the end. Idempotent."""
        if not self.closed:
            self.closed = True
            self._outgoing.end()
            self._incoming.abandon()

    async def aclose(self) -> None:
        """Close as `trio.abc.AsyncResource` says.

        Cancellation: it is closed all the same.
        """
        self.close()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """End the connection by force, as a TCP RST does.

        Whatever the peer does next, or waits in now, raises `trio.BrokenResourceError`; what was on its way
        in either direction is lost. Afterwards this end is closed. Idempotent, and nothing after a close.
        """
        if not self.closed:
            self.closed = True
            self._outgoing.break_off()
            self._incoming.break_off()

    def _begin_sending(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True

    def _room(self) -> int:
        """Return how many bytes can be sent now; raise when none can ever be."""
        pipe = self._outgoing
        if self.closed:
            raise trio.ClosedResourceError("this stream was closed by our side")
        if pipe.ended:
            raise trio.ClosedResourceError("the sending direction was ended by our side")
        if pipe.reset:
            raise trio.BrokenResourceError("the peer has reset the connection")
        if pipe.abandoned:
            raise trio.BrokenResourceError("the peer has closed the connection")
        return pipe.limit - len(pipe.data)


class _Pipe:
    """One direction: bytes on their way, and how the two ends have left it.

    Attributes:
      ended: the sender sends nothing more; what is here may still be received.
      abandoned: the receiver receives nothing more.
      reset: either end has broken the connection.
      changed: where the one receiver and the one sender wait; all are woken by every change, and look again.
    """

    __slots__ = ("abandoned", "changed", "data", "ended", "limit", "reset")

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self.limit = limit
        self.ended = self.abandoned = self.reset = False
        self.changed = trio.lowlevel.ParkingLot()

    def end(self) -> None:
        self.ended = True
        self.changed.unpark_all()

    def abandon(self) -> None:
        self.abandoned = True
        self.data.clear()
        self.changed.unpark_all()

    def break_off(self) -> None:
        self.reset = True
        self.data.clear()
        self.changed.unpark_all()


def memory_pair(max_buffer_bytes: int | None = None) -> tuple[MemoryStream, MemoryStream]:
    """Return both ends of a new connection in memory.

    Args:
      max_buffer_bytes: how many bytes may be on their way in each direction, at least 1, before a sender
        has to wait for the receiver. None: a terabyte, which no test sends.

    Raises:
      ValueError: ``max_buffer_bytes`` is less than 1.
    """
    limit = 1 << 40 if max_buffer_bytes is None else max_buffer_bytes
    if limit < 1:
        raise ValueError(f"max_buffer_bytes must be at least 1, got {max_buffer_bytes}")
    there, back = _Pipe(limit), _Pipe(limit)
    return MemoryStream(back, there), MemoryStream(there, back)
