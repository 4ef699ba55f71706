"""The body of a request, as its handler reads it."""

from __future__ import annotations

import trio

from trio_http.messages import Headers, MessageBody

from ._link import Link


class RequestBody(MessageBody):
    """The content of a request: iterate over it, or `receive_some`.

    The first read sends ``100 Continue`` to a client that waits for it (RFC 9110 §10.1.1). Reading may raise,
    besides what `MessageBody` says: `HTTPException` 413 beyond the limit, `ClientDisconnected`, and
    `trio_http.wire.RemoteProtocolError` for a body that breaks its framing. A handler that lets them pass
    answers rightly.
    """

    __slots__ = ("_exchange", "_length", "_link", "_trailers")

    def __init__(self, link: Link, exchange: int) -> None:
        super().__init__()
        self._link: Link = link
        self._exchange = exchange
        self._length = link.framing if link.framing >= 0 else None
        self._trailers = Headers()

    async def _next_piece(self) -> bytes:
        self._link.check_current(self._exchange)
        piece = await self._link.next_body()
        if not piece:
            self._trailers = Headers(self._link.wire.trailers)  # kept: later the connection has another's
        return piece

    @property
    def length(self) -> int | None:
        """See `MessageBody.length`; 0 for a request without a body."""
        return self._length

    @property
    def trailers(self) -> Headers:
        """The request's trailer section; empty before the end of the body, and without one."""
        return self._trailers

    async def aclose(self) -> None:
        """Do nothing but checkpoint: what is unread is settled when the exchange ends.

        Cancellation: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
