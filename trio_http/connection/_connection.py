"""One wire and one transport, joined.

Everything that waits for the peer in the middle of HTTP goes through here: heads and body pieces in, bytes
out. What a message means, who owns the connection and what happens when it fails is decided above; this only
keeps the wire's idea of the connection true, whatever interrupts it.
"""

from __future__ import annotations

import trio

from trio_http.transport import Transport
from trio_http.wire import (
    CLOSE_DELIMITED,
    NEED_DATA,
    Leniency,
    Limits,
    MessageConnection,
    RemoteProtocolError,
    RequestHead,
    ResponseHead,
    Sentinel,
)


class HTTPConnection:
    """One side of an HTTP/1.1 connection, over one transport, with one owner.

    Args:
      transport: the byte stream; ours from now on.
      role: `trio_http.wire.CLIENT` or `trio_http.wire.SERVER`.
      limits, lenient: what the wire accepts.

    Attributes:
      transport, wire: what was joined.
      framing: of the message that is being received, or came last: a length, CHUNKED or CLOSE_DELIMITED.
    """

    __slots__ = ("framing", "transport", "wire")

    def __init__(
        self, transport: Transport, role: type[Sentinel], limits: Limits, lenient: frozenset[Leniency]
    ) -> None:
        self.transport = transport
        self.wire = MessageConnection(role, limits, lenient)
        self.framing = 0

    async def receive(self) -> None:
        """Wait for bytes, or the end of the stream, and give them to the wire. Always a checkpoint.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: as `Transport.receive`.

        Cancellation: nothing is lost; call again and continue.
        """
        self.wire.receive_data(await self.transport.receive())

    async def next_head(self) -> RequestHead | ResponseHead | type[Sentinel]:
        """Return the next head, waiting for as much of it as is missing.

        Returns:
          The head; or CLOSED or PAUSED, as `MessageConnection.next_head`.

        Raises:
          RemoteProtocolError: the peer broke the protocol or a limit.
          trio.BrokenResourceError, trio.ClosedResourceError: as `Transport.receive`.

        Cancellation: nothing is lost; call again and continue. Not a checkpoint when the head is here
        already.
        """
        while True:
            head = self.wire.next_head()
            if isinstance(head, RequestHead | ResponseHead):
                self.framing = head.framing
                return head
            if head is not NEED_DATA:
                return head
            await self.receive()

    async def next_data(self) -> bytes:
        """Return the next piece of the body under way, waiting for one; ``b""`` at its end. Always a
        checkpoint.

        Raises:
          RemoteProtocolError: the peer broke the framing, or ended the connection within the body.
          trio.BrokenResourceError, trio.ClosedResourceError: as `Transport.receive`.

        Cancellation: nothing is lost; call again and continue.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # before a piece is in hand, which a cancel would lose
        piece = self._data_here()
        if piece is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return piece
        while piece is None:
            await self.receive()
            piece = self._data_here()
        return piece

    def _data_here(self) -> bytes | None:
        piece = self.wire.next_data()
        if isinstance(piece, bytes):
            if not piece and self.transport.truncated and self.framing == CLOSE_DELIMITED:
                raise RemoteProtocolError(
                    "the connection ended without TLS's closure alert in a body that only the end delimits,"
                    " so it may be cut",
                    section="RFC 9112 §9.8",
                )
            return piece
        return None

    async def send(self, data: bytes | memoryview) -> None:
        """Send bytes that the wire gave; when that fails or is cancelled, the wire knows it.

        Raises:
          trio.BrokenResourceError, trio.ClosedResourceError: as `Transport.send_all`.

        Cancellation: some, all or none was sent; our state is ERROR, and the connection can only be aborted.
        Not a checkpoint when the kernel takes all at once.
        """
        try:
            await self.transport.send_all(data)
        except BaseException:
            self.wire.send_failed()
            raise
