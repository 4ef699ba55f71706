"""A connection that stops speaking HTTP: an upgrade to another protocol, or a tunnel."""

from __future__ import annotations

from types import TracebackType

import trio

from trio_http import wire
from trio_http.transport import TransportStream

from ._link import Link


class Upgrade:
    """A block that has the connection as a stream; see `Request.upgrade` and `Request.tunnel`.

    Args:
      link: the client's connection.
      exchange: which of its exchanges this answers.
      status: 101, or 2xx in answer to CONNECT.
      headers: of the response.
    """

    __slots__ = ("_exchange", "_headers", "_link", "_status", "_stream")

    def __init__(self, link: Link, exchange: int, status: int, headers: wire.Headers) -> None:
        self._link = link
        self._exchange = exchange
        self._status = status
        self._headers = headers
        self._stream: TransportStream | None = None

    async def __aenter__(self) -> TransportStream:
        """Send the head, and hand the connection over.

        Raises:
          ClientDisconnected: the client went away.
          RuntimeError: this request was answered already, or its content was not read.
          trio.ClosedResourceError: its exchange is over.

        Cancellation: the connection is aborted.
        """
        link = self._link
        link.check_unanswered(self._exchange)
        if not link.body_is_complete:
            raise RuntimeError(
                "read the request's content first: until then the client cannot switch protocols"
            )
        await trio.lowlevel.checkpoint()
        await link.stop_read_ahead()
        head = link.wire.send_response(self._status, self._headers)
        link.status = self._status
        link.upgrade()
        try:
            await link.push(head)
        except BaseException:
            link.transport.abort()
            raise
        self._stream = TransportStream(link.transport, link.wire.trailing_data[0])
        return self._stream

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection; after an exception, abort it.

        Cancellation: it is closed all the same.
        """
        transport = self._link.transport
        if exc is not None:
            await transport.aclose_forcefully()
        else:
            # A foreign stream may wait for its peer here, as TLS does in its goodbye.
            with trio.move_on_after(self._link.times.linger):
                await transport.aclose()
        await trio.lowlevel.checkpoint_if_cancelled()
