"""What the instruments of a server are told of one connection, and when."""

from __future__ import annotations

import time

import trio

from trio_http import wire
from trio_http.instruments import CloseRecord, ConnectionRecord, ExchangeRecord

from ._link import Link
from ._reasons import CancelReason
from ._request import Request


class Account:
    """Tells a server's instruments of one connection and its exchanges, each beginning with its end.

    Made when the connection begins.

    Args:
      link: the connection.

    Attributes:
      error: what the handler of the last exchange has failed with.
      protocol_error: the client broke the protocol.
      client_left: the client has ended or broken the connection within an exchange.
    """

    __slots__ = (
        "_exchanges",
        "_link",
        "_record",
        "_request",
        "client_left",
        "error",
        "protocol_error",
    )

    def __init__(self, link: Link) -> None:
        self._link = link
        self._request: Request | None = None
        self._exchanges = 0
        self.error: BaseException | None = None
        self.protocol_error = False
        self.client_left = False
        transport = link.transport
        self._record = ConnectionRecord(
            id=link.number,
            peername=transport.peername,
            sockname=transport.sockname,
            tls=None if transport.tls is None else transport.tls.version(),
            opened=link.opened,
            opened_at=time.time(),
        )
        link.shared.instruments.connection_opened(self._record)

    def begin(self, request: Request) -> None:
        """A request's head has come."""
        self._request = request
        self._exchanges += 1
        self.error = None
        instruments = self._link.shared.instruments
        if instruments.watches_starts:
            instruments.exchange_started(self._record, self._exchanges, request.method, request.target)

    def finish(self) -> None:
        """The exchange under way is over, however it ended. Nothing, when there is none."""
        request, self._request = self._request, None
        link = self._link
        instruments = link.shared.instruments
        if request is None or not instruments.watches_exchanges:
            return
        reason = link.cancel_reason if link.handlers.touched else None
        duration = trio.current_time() - link.began
        instruments.exchange_finished(
            ExchangeRecord(
                connection=self._record,
                number=self._exchanges,
                method=request.method,
                target=request.target,
                http_version=request.http_version,
                headers=request.headers,
                status=link.status or None,
                request_bytes=link.body_received,
                response_bytes=0 if link.method == b"HEAD" else link.content_sent,
                started=link.began,
                started_at=time.time() - duration,
                duration=duration,
                cancel_reason=None if reason is None else reason.value,
                error=self.error,
                client=request.forwarded.client,
            )
        )

    def close(self) -> None:
        """The connection has ended."""
        link = self._link
        self.finish()
        link.shared.instruments.connection_closed(
            CloseRecord(self._record, trio.current_time() - link.opened, self._exchanges, self._why())
        )

    def _why(self) -> str:
        link = self._link
        reason = link.cancel_reason
        if reason is not None:
            return reason.value
        if self.protocol_error:
            return "protocol error"
        # An answer that was complete was the end of its exchange, whatever else became of that.
        cut = link.upgraded or link.wire.our_state in (wire.SEND_RESPONSE, wire.SEND_BODY, wire.ERROR)
        if cut and self.error is not None:
            return "handler failed"
        if self.client_left:
            return CancelReason.CLIENT_DISCONNECTED.value  # as where it was noticed by the watch
        if link.upgraded:
            return "upgraded"
        if cut:
            return "aborted: server cancelled"
        return "client closed" if link.hangup or link.wire.trailing_data[1] else "server closed"
