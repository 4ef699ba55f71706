"""Where a simulated network's dials arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from ._simulated_stream import SimulatedStream


class SimulatedListener(trio.abc.Listener[SimulatedStream]):
    """Accepts the connections to one host and port; made by `SimulatedNetwork.listen`.

    Attributes:
      host, port: what it listens on.
      closed: it was closed.
      waiting: how many connections have been made and not yet been accepted.
    """

    def __init__(
        self, host: str, port: int, backlog: int, on_accept: Callable[[SimulatedStream], None]
    ) -> None:
        self.host = host
        self.port = port
        self.closed = False
        self._backlog = backlog
        self._on_accept = on_accept
        self._arrived: deque[SimulatedStream] = deque()
        self._acceptors = trio.lowlevel.ParkingLot()
        self._dialers = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<{type(self).__name__} on {self.host}:{self.port}, {state}, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        return len(self._arrived)

    async def accept(self) -> SimulatedStream:
        """Accept as `trio.abc.Listener` says; several tasks may.

        Raises:
          trio.ClosedResourceError: the listener was closed.

        Cancellation: no connection is lost; it stays in the backlog.
        """
        await trio.lowlevel.checkpoint()
        while not self._arrived:
            if self.closed:
                raise trio.ClosedResourceError(f"the listener on {self.host}:{self.port} was closed")
            await self._acceptors.park()
        stream = self._arrived.popleft()
        self._dialers.unpark()
        self._on_accept(stream)
        return stream

    def close(self) -> None:
        """Stop listening: further dials are refused, and what was not accepted is reset. Idempotent."""
        if self.closed:
            return
        self.closed = True
        while self._arrived:
            self._arrived.popleft().reset()
        self._acceptors.unpark_all()
        self._dialers.unpark_all()

    async def aclose(self) -> None:
        """Close as `trio.abc.AsyncResource` says.

        Cancellation: it is closed all the same.
        """
        self.close()
        await trio.lowlevel.checkpoint()

    async def _wait_for_room(self) -> None:
        """Wait until one more connection may wait here, or the listener is closed."""
        while not self.closed and len(self._arrived) >= self._backlog:
            await self._dialers.park()

    def _arrive(self, stream: SimulatedStream) -> None:
        self._arrived.append(stream)
        self._acceptors.unpark()
