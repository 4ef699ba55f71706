"""A stream that fails at a chosen byte: broken, ended, silent, or in small pieces."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import NoReturn

import attrs
import trio


@attrs.frozen(kw_only=True)
class Faults:
    """What goes wrong in one direction of a `FaultyStream`. Each number counts bytes of that direction from
    0.

    At most one of the three positions may be given. Exactly so many bytes pass, then:

    Attributes:
      break_at: `trio.BrokenResourceError`, in this call, in one that waits in the other direction, and in all
        later ones.
      end_at: receiving: the end of the stream, as if the peer had sent FIN there. Sending: the bytes beyond
        are dropped and the sender believes that they were sent, as with a peer that vanished.
      stall_at: no call ever returns, until it is cancelled or the stream is closed.
      at_most: a single call receives, or gives to the stream beneath, at most so many bytes, at least 1. A
        send of more takes several.
    """

    break_at: int | None = None
    end_at: int | None = None
    stall_at: int | None = None
    at_most: int | None = None

    def __attrs_post_init__(self) -> None:
        positions = [place for place in (self.break_at, self.end_at, self.stall_at) if place is not None]
        if len(positions) > 1:
            raise ValueError("give at most one of break_at, end_at and stall_at")
        if positions and positions[0] < 0:
            raise ValueError(f"a position is at least 0, got {positions[0]}")
        if self.at_most is not None and self.at_most < 1:
            raise ValueError(f"at_most must be at least 1, got {self.at_most}")

    @property
    def position(self) -> int | None:
        """Where it goes wrong, or None."""
        return next((at for at in (self.break_at, self.end_at, self.stall_at) if at is not None), None)


NO_FAULTS = Faults()


class FaultyStream(trio.abc.HalfCloseableStream):
    """A stream over another one that goes wrong at a chosen byte, always at the same.

    Without faults it adds nothing to the stream beneath. The stream beneath stays open when this one
    breaks, so that its peer sees nothing before this one is closed.

    Args:
      stream: the stream beneath; ours from now on.
      receiving, sending: what goes wrong.

    Attributes:
      received_bytes, sent_bytes: how much has passed.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        *,
        receiving: Faults = NO_FAULTS,
        sending: Faults = NO_FAULTS,
    ) -> None:
        self._stream = stream
        self._receiving = receiving
        self._sending = sending
        self._broken = False
        self._closed = trio.Event()
        self._under_way: set[trio.CancelScope] = set()
        self.received_bytes = 0
        self.sent_bytes = 0

    def __repr__(self) -> str:
        passed = f"{self.received_bytes} bytes received, {self.sent_bytes} sent"
        return f"<{type(self).__name__} over {self._stream!r}, {passed}>"

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive as `trio.abc.ReceiveStream` says, up to the fault.

        Cancellation: nothing is lost.
        """
        faults, size = self._receiving, None if max_bytes is None else operator.index(max_bytes)
        if size is not None and size < 1:
            raise ValueError(f"max_bytes must be at least 1, got {size}")
        left = None if faults.position is None else faults.position - self.received_bytes
        if self._broken or left == 0:
            if faults.end_at is not None and not self._broken:
                await trio.lowlevel.checkpoint()
                self._check_open()
                return b""
            await self._fail(faults)
        bounds = [bound for bound in (size, left, faults.at_most) if bound is not None]
        with self._until_broken():
            data = bytes(await self._stream.receive_some(min(bounds) if bounds else None))
        self.received_bytes += len(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send as `trio.abc.SendStream` says, up to the fault.

        Cancellation: some, all or none was sent.
        """
        faults, rest = self._sending, memoryview(data).cast("B")
        left = None if faults.position is None else faults.position - self.sent_bytes
        passing = rest if left is None else rest[:left]
        step = faults.at_most or len(passing) or 1
        if not self._broken:
            if not passing:
                await trio.lowlevel.checkpoint()
                self._check_open()
            for start in range(0, len(passing), step):
                part = passing[start : start + step]
                with self._until_broken():
                    await self._stream.send_all(part)
                self.sent_bytes += len(part)
        if self._broken or (len(passing) < len(rest) and faults.end_at is None):
            await self._fail(faults)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as `trio.abc.SendStream` says. At the fault it does what sending would do.

        Cancellation: nothing has changed.
        """
        faults = self._sending
        if self._broken or (faults.end_at is None and faults.position == self.sent_bytes):
            await self._fail(faults)
        with self._until_broken():
            await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End the sending direction as `trio.abc.HalfCloseableStream` says; a fault ahead never comes then.

        Cancellation: as the stream beneath.
        """
        if self._broken:
            await self._fail(self._sending)
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close both streams as `trio.abc.AsyncResource` says.

        Cancellation: they are closed all the same.
        """
        self._closed.set()
        await self._stream.aclose()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise trio.ClosedResourceError("this stream was closed by our side")

    @contextlib.contextmanager
    def _until_broken(self) -> Iterator[None]:
        """Let a call wait only as long as the stream is whole: a reset ends both directions."""
        with trio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                yield
            finally:
                self._under_way.discard(scope)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("broken on purpose in the other direction")

    async def _fail(self, faults: Faults) -> NoReturn:
        """Do what the fault is: stall until closed, or break."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        if not self._broken and faults.stall_at is not None:
            with self._until_broken():
                await self._closed.wait()
            raise trio.ClosedResourceError("this stream was closed by our side while it stalled")
        self._broken = True
        for scope in self._under_way:
            scope.cancel(reason="the stream is broken on purpose")
        raise trio.BrokenResourceError(f"broken on purpose at byte {faults.position}")
