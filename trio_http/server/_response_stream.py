"""A response that is sent piece by piece."""

from __future__ import annotations

from types import TracebackType

import trio

from trio_http import wire
from trio_http._errors import ClientDisconnected
from trio_http.messages import FieldsInput, as_wire_headers

from ._link import Link
from ._reasons import CancelReason


class ResponseStream(trio.abc.SendStream):
    """The body of a streamed response: ``async with request.stream_response(...) as body: await
    body.send_all(...)``.

    Entering sends the head; leaving the block without an exception ends the message. Nothing else does: an
    exception, a cancel or `aclose` before that aborts the connection, so that the client cannot take the part
    for the whole.

    Args:
      link: the client's connection.
      exchange: which of its exchanges this answers.
      status, headers, reason: of the response.

    Attributes:
      trailers: set it within the block to send a trailer section. It is left out in answer to HEAD and to an
        HTTP/1.0 client; beside a Content-Length it is an error (RFC 9112 §7.1.2).
      started: the head has been sent.
    """

    __slots__ = ("_broken", "_ended", "_exchange", "_gone", "_head", "_link", "started", "trailers")

    def __init__(
        self,
        link: Link,
        exchange: int,
        status: int,
        headers: wire.Headers,
        reason: str | None,
        common: wire.Headers,
    ) -> None:
        self._link = link
        self._exchange = exchange
        self._head = (status, headers, reason, common)
        self._broken = self._gone = False
        self._ended = False
        self.started = False
        self.trailers: FieldsInput = ()

    async def __aenter__(self) -> ResponseStream:
        """Send the head.

        Raises:
          ClientDisconnected: the client went away.
          trio_http.wire.LocalProtocolError: the head breaks a rule; nothing was sent.
          RuntimeError: this request was answered already.
          trio.ClosedResourceError: its exchange is over.

        Cancellation: the connection is aborted.
        """
        link = self._link
        link.check_unanswered(self._exchange)
        status, headers, reason, common = self._head
        # Not `can_drain_body`: the handler may read on.
        if link.last or (not link.body_is_complete and not link.is_worth_draining()):
            headers = with_close(headers)
        await trio.lowlevel.checkpoint()
        head = link.wire.send_response(status, headers, reason=reason, common=common)
        self.started = True
        link.status = status
        await self._push(head)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the message; after an exception, abort the connection."""
        if exc is not None or self._broken:
            self._abort()
        elif not self._ended:
            await trio.lowlevel.checkpoint()
            link = self._link
            trailers = as_wire_headers(self.trailers)
            if link.method == b"HEAD" or link.wire.their_http_version == b"1.0":
                # Such a client can have none, and is owed the response all the same.
                trailers = wire.Headers()
            end = link.wire.send_end(trailers)
            self._ended = True
            if end:
                await self._push(end)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send a piece of the body. Returns when the operating system has taken it, so nothing piles up here.

        Args:
          data: any length; for HEAD it is not sent.

        Raises:
          ClientDisconnected: the client went away, be it that an earlier send has met it.
          trio.ClosedResourceError: the response, or its exchange, has ended.
          RuntimeError: its block was not entered.
          trio.BrokenResourceError: an earlier send failed or was cancelled.
          trio_http.wire.LocalProtocolError: more than the Content-Length that the head announced.
          TypeError: ``data`` is not bytes; nothing was sent.

        Cancellation: some, all or none was sent. Every later send raises, and the connection is aborted when
        the block ends.
        """
        if self._broken:
            await trio.lowlevel.checkpoint()  # who tries again and again must let others live
        self._check_open()
        if not self.started:
            raise RuntimeError("this response has not begun: send within `async with`")
        if not isinstance(data, bytes | bytearray | memoryview):
            raise _no_bytes(data)
        await trio.lowlevel.checkpoint()
        if self._link.method != b"HEAD":
            piece = self._link.wire.send_data(data)
            if piece:
                await self._push(piece)
        self._link.content_sent += len(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the client has read enough for a send to make progress.

        Raises:
          ClientDisconnected: the client went away.
          trio.ClosedResourceError: the response has ended.

        Cancellation: nothing has changed.
        """
        if self._broken:
            await trio.lowlevel.checkpoint()
        self._check_open()
        await self._link.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Give the response up, unless it has ended: the connection is aborted. Always a checkpoint.

        Cancellation: it is given up all the same.
        """
        if not self._ended:
            self._abort()
        await trio.lowlevel.checkpoint()

    async def _push(self, data: bytes) -> None:
        try:
            await self._link.push(data)
        except BaseException as exc:
            self._broken = True
            if isinstance(exc, ClientDisconnected):
                self._gone = True
                self._link.on_hangup(True)  # for a handler that goes on: behind an abort nothing else tells
                self._link.transport.abort()
            raise

    def _check_open(self) -> None:
        self._link.check_current(self._exchange)
        if self._ended:
            raise trio.ClosedResourceError("this response has ended")
        if self._broken:
            if self._gone or self._link.cancel_reason is CancelReason.CLIENT_DISCONNECTED:
                raise ClientDisconnected("the client went away, and an earlier send of this response failed")
            raise trio.BrokenResourceError("an earlier send of this response failed or was cancelled")

    def _abort(self) -> None:
        if not self._ended and self._exchange == self._link.exchange:
            self._ended = True
            self._link.wire.send_failed()
            self._link.transport.abort()


def with_close(headers: wire.Headers) -> wire.Headers:
    """Return ``headers`` with the connection option ``close`` (RFC 9112 §9.6)."""
    kept = [pair for pair in headers.raw_items() if pair[0].lower() != b"connection"]
    return wire.Headers([*kept, (b"Connection", b"close")])


def _no_bytes(data: object) -> TypeError:
    hint = "; for text there is .encode()" if isinstance(data, str) else ""
    return TypeError(f"data must be bytes, not {type(data).__name__}{hint}")
