"""The life of one connection, from its first byte to its last.

It reads top to bottom: wait for a head, call the handler, send its answer, decide whether the connection
lives on. The usual exchange does just that, with one receive and one send and no scope, nursery or task of
its own: all exchanges of a connection share one cancel scope.

Whatever is unusual leaves that scope first and is settled outside it, in `ServerConnection._settle`: a
handler that failed, a client that was too slow or broke the protocol. There are two reasons. A scope that was
cancelled cannot send an answer any more. And a cancelled handler whose clean-up fails raises a group in which
the cancel still stands; only the scope's exit takes it out.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TypeAlias

import trio

from trio_http import wire
from trio_http._errors import ClientDisconnected, HTTPException
from trio_http.connection import Ticker
from trio_http.messages import Response
from trio_http.transport import Transport

from ._common import CommonFields
from ._config import ServerConfig
from ._link import Link, Overdue
from ._request import Request
from ._response_stream import with_close

Handler: TypeAlias = Callable[[Request], Awaitable[Response | None]]

logger = logging.getLogger("trio_http.server")


class HandlerError(Exception):
    """A handler did not answer as it must. Only ever logged."""


class ServerConnection:
    """One client's connection and the exchanges on it.

    Args:
      handler: answers each request.
      transport: the byte stream; ours from now on.
      config: the limits.
      ticker: watches the client's deadlines.
      common: makes the fields of every response.
    """

    __slots__ = ("_common", "_config", "_context", "_first", "_handler", "_link", "_request", "_task")

    def __init__(
        self,
        handler: Handler,
        transport: Transport,
        config: ServerConfig,
        ticker: Ticker,
        common: CommonFields,
    ) -> None:
        self._handler = handler
        self._link = Link(transport, config, ticker)
        self._config = config
        self._common = common
        self._request: Request | None = None
        self._first = True

    async def run(self) -> None:
        """Serve the client until the connection ends, however it ends. Never raises an `Exception`.

        Cancellation: the connection is aborted.
        """
        link = self._link
        self._task = trio.lowlevel.current_task()
        self._context: Context = self._task.context
        try:
            while await self._run_until_trouble():
                pass
        finally:
            self._task.context = self._context  # for whoever serves one connection in a task of their own
            link.ticker.forget(link)
            self._request = None
            await link.transport.aclose_forcefully()  # nothing, after a regular end

    async def _run_until_trouble(self) -> bool:
        """Serve exchange after exchange in one scope; then settle what ended it, and tell whether to go
        on."""
        link = self._link
        trouble: Exception | None = None
        try:
            with trio.CancelScope() as link.scope:
                while await self._exchange():
                    pass
                await self._end()
                return False
        except Exception as exc:  # noqa: BLE001  # the boundary for handlers' errors: `_settle` reports them
            trouble = exc
        link.lift_limits()
        try:
            return await self._settle(trouble)
        except Exception:  # whatever it is, it is this connection's alone, which `run` closes
            logger.exception("settling what ended %r failed", self._request)
            return False

    # -- one exchange
    # ------------------------------------------------------------------------------------------------

    async def _exchange(self) -> bool:
        """Answer one request; tell whether the connection can carry another."""
        link, peer = self._link, self._link.wire
        self._task.context = (
            self._context.copy()
        )  # each request has its own; takes effect at the wait that follows
        self._request = None
        if not peer.has_unread or (head := peer.next_head()) is wire.NEED_DATA:
            head = await self._wait_for_head()
        else:
            # The client pipelines. Others have their turn first, or one that pipelines without end would
            # starve them.
            await trio.lowlevel.cancel_shielded_checkpoint()
        if not isinstance(head, wire.RequestHead):
            return False  # the client has ended the connection
        link.begin_exchange(head)
        common = self._common.at(trio.current_time())
        request = self._request = Request(link, head, common)
        try:
            if head.method == b"CONNECT":
                raise HTTPException(501)  # a 2xx would announce a tunnel that nobody serves (RFC 9110 §9.3.6)
            response = await self._handler(request)
        except HTTPException as exc:
            response = _response_of(exc)
        stream = request.response_stream
        if (stream is None or not stream.started) and isinstance(response, Response):
            await self._send(response, common)
        else:
            self._check_streamed(request, response)
        # Not behind an answer that has announced the close: an `Expect` that it left unanswered may never be
        # followed.
        unread = peer.their_state is wire.SEND_BODY and peer.our_state is wire.DONE
        if unread and link.can_drain_body():
            await link.drain_body()
        if peer.our_state is not wire.DONE or peer.their_state is not wire.DONE or link.overdue is not None:
            return False
        self._next_exchange()
        return True

    def _next_exchange(self) -> None:
        self._link.wire.start_next_cycle()
        self._link.exchange += 1

    async def _wait_for_head(self) -> wire.RequestHead | wire.ResponseHead | type[wire.Sentinel]:
        """Wait for a head: idle until its first byte, then within the head's limit."""
        link, times = self._link, self._config.times
        if self._first or link.wire.has_unread:
            link.allow(times.head, Overdue.HEAD)
            self._first = False
        else:
            link.allow(times.idle, Overdue.IDLE)
        while True:
            link.wire.receive_data(await link.transport.receive())
            head = link.wire.next_head()
            if head is not wire.NEED_DATA:
                link.receive_deadline = math.inf
                return head
            if link.awaiting is Overdue.IDLE:
                link.allow(times.head, Overdue.HEAD)

    async def _send(self, response: Response, common: wire.Headers) -> None:
        """Send a whole response, with what the unread rest of the request asks for."""
        link = self._link
        headers = response.headers._wire
        declared, length = headers.content_length, len(response.content)
        # Seen here rather than in the wire, while nothing is lost and a 500 can still go out. A HEAD's answer
        # may declare what it does not have, and so may a 304 (RFC 9110 §8.6).
        if declared not in (None, length) and link.method != b"HEAD" and response.status not in (204, 304):
            raise HandlerError(f"a response with Content-Length {declared} and {length} bytes of content")
        if link.framing and not link.body_is_complete and not link.can_drain_body():
            headers = with_close(headers)
        await link.push(
            link.wire.send_response(
                response.status, headers, response.content, reason=response.reason, common=common
            )
        )

    def _check_streamed(self, request: Request, response: object) -> None:
        """Refuse what a handler must not do beside a streamed response, or without any."""
        stream = request.response_stream
        if stream is None:
            raise HandlerError(
                f"the handler returned {response!r} without having answered, expected a Response"
            )
        if response is not None:
            raise HandlerError(
                f"the handler returned {response!r} beside its streamed response, expected None"
            )
        if self._link.wire.our_state in (wire.SEND_RESPONSE, wire.SEND_BODY):
            raise HandlerError(
                "the handler returned without having entered or left its streamed response's block"
            )

    # -- what goes wrong
    # ---------------------------------------------------------------------------------------------

    async def _settle(self, trouble: Exception | None) -> bool:
        """Answer for what ended the exchanges, where an answer is possible; tell whether the connection lives
        on."""
        link = self._link
        if trouble is not None:
            self._report(trouble)
        if link.transport.closed or link.wire.our_state in (wire.SEND_BODY, wire.ERROR):
            await (
                link.transport.aclose_forcefully()
            )  # part of an answer is out: it must not look like all of it
            return False
        refusal = self._refusal(trouble) if link.wire.our_state in (wire.IDLE, wire.SEND_RESPONSE) else None
        if refusal is None:
            await self._end()
            return False
        common = self._common.at(trio.current_time())
        with trio.move_on_after(self._config.times.answer):
            try:
                if link.wire.their_state in (wire.SEND_BODY, wire.ERROR, wire.IDLE):
                    refusal = Response(
                        refusal.status,
                        refusal.content,
                        headers=with_close(refusal.headers._wire),
                        reason=refusal.reason,
                    )
                await self._send(refusal, common)
            except (ClientDisconnected, HandlerError, trio.ClosedResourceError, wire.LocalProtocolError):
                return False
            if link.wire.our_state is wire.DONE and link.wire.their_state is wire.DONE:
                self._next_exchange()
                return True
            await self._end()
        return False

    def _refusal(self, trouble: Exception | None) -> Response | None:
        """Return the answer to what went wrong, or None when there is nobody to answer, or nothing to say."""
        link = self._link
        if trouble is None:
            if link.overdue in (Overdue.HEAD, Overdue.BODY):
                return _response_of(HTTPException(408))
            return None
        cause = _lone_leaf(trouble)
        if isinstance(cause, HTTPException):
            try:
                return _response_of(cause)
            except (wire.LocalProtocolError, TypeError, ValueError):
                logger.exception("no answer can be made of %r", cause)
                return Response(500, text=_phrase(500))
        if isinstance(cause, wire.RemoteProtocolError) and link.wire.their_state is wire.ERROR:
            # The text is ours, and shows none of the peer's bytes: an echo could be made to run in a browser.
            return Response(cause.error_status_hint, text=_phrase(cause.error_status_hint))
        if self._means_gone(cause):
            return None
        return Response(500, text=_phrase(500))

    def _means_gone(self, cause: Exception) -> bool:
        """Tell whether an exception says that the connection is no more, rather than that the handler
        failed."""
        if isinstance(cause, ClientDisconnected):
            return True
        broken = isinstance(cause, trio.BrokenResourceError | trio.ClosedResourceError)
        return broken and self._request is None  # a handler's own streams break too

    def _report(self, trouble: Exception) -> None:
        """Log what is the handler's fault as an error, and what is the client's for whoever wants to know."""
        cause = _lone_leaf(trouble)
        peer = self._link.transport.peername
        if isinstance(cause, HTTPException):
            return
        if self._means_gone(cause):
            logger.debug("%s went away: %s", peer, cause)
        elif isinstance(cause, wire.RemoteProtocolError) and self._link.wire.their_state is wire.ERROR:
            logger.info("%s broke the protocol: %s", peer, cause)
        else:
            logger.error("handling %r failed", self._request, exc_info=trouble)

    # -- the end
    # -----------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Close the connection so that the client gets what was sent to it.

        A close while bytes of the client's are unread, or on their way, becomes a reset that may overtake our
        answer (RFC 9112 §9.6). So then we say that we send no more, and read on for a while.
        """
        link = self._link
        if link.wire.our_state is wire.ERROR or link.transport.closed:
            await link.transport.aclose_forcefully()
            return
        # A client that is ready for another exchange may have sent it already. Between exchanges, no answer
        # can be lost.
        answered, gone = link.wire.our_state is not wire.IDLE, link.wire.trailing_data[1]
        surprised = answered and not gone and (self._request is None or self._request._head.keep_alive)
        if surprised or link.wire.their_state in (wire.SEND_BODY, wire.ERROR) or link.wire.has_unread:
            left = self._config.linger_bytes
            with trio.move_on_after(self._config.times.linger):
                try:
                    await link.transport.send_eof()
                    while left > 0 and (data := await link.transport.receive()):
                        left -= len(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
        # A foreign stream may wait for its peer here, as TLS does in its goodbye.
        with trio.move_on_after(self._config.times.linger):
            await link.transport.aclose()


def _lone_leaf(exc: Exception) -> Exception:
    """Return the only exception in a group of groups, or ``exc`` itself."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


def _response_of(exc: HTTPException) -> Response:
    return Response(
        exc.status, text=exc.text if exc.status != 304 else None, headers=exc.headers
    )  # 304: has no content


def _phrase(status: int) -> str:
    return f"{HTTPException(status)}\n"
