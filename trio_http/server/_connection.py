"""The life of one connection, from its first byte to its last.

It reads top to bottom in `ServerConnection._serve_exchanges`: wait for a head, call the handler, send its
answer, decide whether the connection lives on. The usual exchange does just that, with one receive and one
send and no scope, nursery or task of its own: all exchanges of a connection share one cancel scope.

Whatever is unusual leaves that scope first and is settled outside it, in `ServerConnection._settle`: a
handler that failed, a client that was too slow or broke the protocol, an answer that was ready when the
cancel came. There are two reasons. A scope that was cancelled cannot send an answer any more. And a cancelled
handler whose clean-up fails raises a group in which the cancel still stands; only the scope's exit takes it
out.
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
from trio_http.messages import Response
from trio_http.transport import ProxyHeader, Transport

from ._account import Account
from ._deadline import client_deadline_of
from ._linger import linger
from ._link import Link
from ._reasons import CancelReason
from ._request import Request
from ._response_stream import with_close
from ._shared import Shared, serving
from ._troubles import is_interrupt, is_of_the_await_in, lone_leaf, phrase, response_of

Handler: TypeAlias = Callable[[Request], Awaitable[Response | None]]

logger = logging.getLogger("trio_http.server")


class HandlerError(Exception):
    """A handler did not answer as it must. Only ever logged."""


class ServerConnection:
    """One client's connection and the exchanges on it.

    Args:
      handler: answers each request.
      transport: the byte stream; ours from now on.
      shared: of the server.
      proxy: the PROXY header that the connection began with.
    """

    __slots__ = (
        "_account",
        "_base_context",
        "_handler",
        "_link",
        "_owed",
        "_request",
        "_resume",
        "_shared",
        "_task",
    )

    def __init__(
        self, handler: Handler, transport: Transport, shared: Shared, proxy: ProxyHeader | None = None
    ) -> None:
        self._handler = handler
        self._shared = shared
        self._link = Link(transport, shared, proxy)
        self._account = Account(self._link) if shared.instruments else None
        self._request: Request | None = None
        # Where to go on after a cancel that was not for what is under way: with a head that had come, or with
        # the rest of an idle time.
        self._resume: wire.RequestHead | float | None = None
        self._owed: object = None  # what a handler returned that was cancelled meanwhile

    async def run(self) -> None:
        """Serve the client until the connection ends, however it ends. Never raises an `Exception`.

        Cancellation: the connection is aborted.
        """
        link, shared = self._link, self._shared
        task = self._task = trio.lowlevel.current_task()
        before = task.context
        self._base_context: Context = before.copy()
        self._base_context.run(serving.set, link)
        shared.connections.add(link)
        try:
            while await self._run_until_trouble():
                pass
        finally:
            task.context = before  # for whoever serves one connection in a task of their own
            shared.connections.discard(link)
            shared.exchanges_before += link.exchange
            shared.ticker.forget(link)
            link.handling = False
            try:
                await link.transport.aclose_forcefully()  # nothing, after a regular end
            except Exception:  # a foreign stream's own: it ends this connection, not the server
                logger.exception("closing %r failed", link.transport)
            if self._account is not None:
                self._account.close()
            shared.on_closed()

    async def _run_until_trouble(self) -> bool:
        """Serve exchange after exchange in one scope; then settle what ended it, and tell whether to go
        on."""
        link = self._link
        trouble: Exception | None = None
        try:
            with link.handlers.renew():
                await self._serve_exchanges()
                if link.cancel_reason is None:
                    link.handlers.lift()
                    await self._end()
                    return False
        except Exception as exc:  # noqa: BLE001  # the boundary for handlers' errors: `_settle` reports them
            trouble = exc
        except BaseExceptionGroup as group:  # cancel: goes on, with the group or with what is left of it
            # The server itself is being cancelled. That passes; what else went wrong in the handler is
            # reported, as it is without a nursery around it. Beside an interrupt, it comes out with that.
            errors, rest = group.split(Exception)
            if errors is None or rest is None or rest.subgroup(is_interrupt) is not None:
                raise
            self._report(errors)
            raise rest from None
        try:
            return await self._settle(trouble)
        except Exception:  # whatever it is, it is this connection's alone, which `run` closes
            logger.exception("settling what ended %r failed", self._request)
            return False

    # -- exchanges
    # ---------------------------------------------------------------------------------------------------

    async def _serve_exchanges(self) -> None:
        """Answer request after request, until the connection can carry no more, or something is to be
        settled."""
        link, shared, handler, task, account = (
            self._link,
            self._shared,
            self._handler,
            self._task,
            self._account,
        )
        peer, handlers, receive = link.wire, link.handlers, link.transport.receive
        config, base_context = shared.config, self._base_context
        idle, now = config.times.idle, trio.lowlevel.current_clock().current_time
        tunnels = config.connect
        limits_handlers = config.times.request != math.inf or link.trusts_deadline
        while True:
            # Each request has a context of its own; it takes effect at the wait that follows.
            task.context = base_context.copy()
            if link.last and not self._has_request():
                return  # the shutdown began when the last answer was under way, or before the first request
            if link.exchange and not peer.has_unread and self._resume is None:
                link.expect_by(now() + idle, CancelReason.IDLE)
                peer.receive_data(await receive())
                head = peer.next_head()
                while head is wire.NEED_DATA and not peer.has_unread:
                    # An empty line, which begins no head (RFC 9112 §2.2), gives no more time.
                    peer.receive_data(await receive())
                    head = peer.next_head()
                if head is wire.NEED_DATA:
                    head = await link.rest_of_head(now() + config.times.head)
            else:
                head = await self._first_or_pipelined_head()
            link.receive_deadline = math.inf
            if type(head) is not wire.RequestHead:
                if head is wire.NEED_DATA and not shared.draining:
                    continue  # an empty line, which does not begin a head (RFC 9112 §2.2)
                return  # the client has ended the connection
            if handlers.touched and handlers.scope.cancel_called:
                self._resume = head  # it came in the moment in which the wait for it was cancelled
                return
            began = now()
            link.begin_exchange(head, began)
            common = shared.common.at(began)
            request = self._request = Request(link, head, common)
            if account is not None:
                account.begin(request)
            if limits_handlers:
                link.limit_handler(client_deadline_of(request, began))
            elif handlers.touched:
                handlers.lift()
            if link.hangup:
                link.notice_hangup()
            try:
                if head.method == b"CONNECT" and not tunnels:
                    # Whoever stands between may take the tunnel for open, and what follows for its contents.
                    link.last = True
                    raise HTTPException(501)
                response = await handler(request)
            except HTTPException as exc:
                if peer.our_state is not wire.SEND_RESPONSE:
                    raise  # too late for an answer
                response = response_of(exc)
            if handlers.touched and handlers.scope.cancel_called:
                self._owed = response
                return
            stream = request.response_stream
            if (
                isinstance(response, Response)
                and (stream is None or not stream.started)
                and not link.upgraded
            ):
                if not link.begin_send(self._written(response, common)):
                    handlers.lift()  # from here on it is the client's time, not the handler's
                    await link.finish_send()
            else:
                self._check_streamed(request, response)
            if not peer.is_reusable:
                # Not behind an answer that has announced the close: an `Expect` that it left unanswered may
                # never be followed.
                if (
                    peer.their_state is wire.SEND_BODY
                    and peer.our_state is wire.DONE
                    and link.can_drain_body()
                ):
                    handlers.lift()
                    await link.drain_body()
                if not peer.is_reusable:
                    return
            self._finish_exchange()
            del head, request, response, stream  # an idle connection keeps no content alive
            if link.read_ahead is not None:
                await link.stop_read_ahead()
            # A deadline is left standing, for lifting it would cost as much as setting it: should it pass
            # while the connection is idle, `_settle` goes on.

    async def _first_or_pipelined_head(self) -> wire.RequestHead | wire.ResponseHead | type[wire.Sentinel]:
        """Return a head that did not come to an idle connection."""
        link, peer = self._link, self._link.wire
        head_seconds = self._shared.config.times.head
        resume, self._resume = self._resume, None
        if isinstance(resume, wire.RequestHead):
            return resume
        if peer.has_unread:
            if (head := peer.next_head()) is not wire.NEED_DATA:
                # Others have their turn first, or one that pipelines without end would starve them.
                await trio.lowlevel.cancel_shielded_checkpoint()
                return head
            has_begun = peer.unread_bytes > 0  # else it was an empty line
            return await link.rest_of_head(trio.current_time() + head_seconds) if has_begun else head
        end = link.opened + head_seconds
        if resume is None:
            link.expect_by(end, CancelReason.HEAD_TOO_SLOW)
        else:
            link.expect_by(resume, CancelReason.IDLE)
            end = math.inf
        peer.receive_data(await link.transport.receive())
        head = peer.next_head()
        if head is wire.NEED_DATA and (resume is None or peer.unread_bytes):
            return await link.rest_of_head(min(end, trio.current_time() + head_seconds))
        return head

    def _finish_exchange(self) -> None:
        """The exchange is complete on both sides: make ready for the next."""
        link = self._link
        link.handling = False
        if self._account is not None:
            self._account.finish()
        self._request = None
        link.wire.start_next_cycle()
        link.exchange += 1

    def _written(self, response: Response, common: wire.Headers) -> bytes:
        """Return a whole response's bytes, with what the unread rest of the request asks for."""
        link = self._link
        headers, content = response.headers._wire, response.content
        if headers.content_length is not None or link.method == b"CONNECT":
            self._check_whole(response, headers.content_length)
        if link.last or (link.framing and not link.body_is_complete and not link.can_drain_body()):
            headers = with_close(headers)
        data = link.wire.send_response(
            response.status, headers, content, reason=response.reason, common=common
        )
        link.status = response.status
        link.content_sent = len(content)
        return data

    def _check_whole(self, response: Response, declared: int | None) -> None:
        """Refuse a response that says what is not so.

        Seen here rather than in the wire, while nothing is lost and a 500 can still go out.
        """
        length, method = len(response.content), self._link.method
        # A HEAD's answer may declare what it does not have, and so may a 304 (RFC 9110 §8.6).
        if declared not in (None, length) and method != b"HEAD" and response.status not in (204, 304):
            raise HandlerError(f"a response with Content-Length {declared} and {length} bytes of content")
        if method == b"CONNECT" and 200 <= response.status <= 299:
            raise HandlerError(
                f"a response with status {response.status} to CONNECT; Request.tunnel opens one"
            )

    def _check_streamed(self, request: Request, response: object) -> None:
        """Refuse what a handler must not do beside a streamed response, or without any."""
        stream = request.response_stream
        if stream is None and not self._link.upgraded:
            hint = "; raise it" if isinstance(response, HTTPException) else ""
            raise HandlerError(
                f"the handler returned {response!r} without having answered, expected a Response{hint}"
            )
        if response is not None:
            what = "streamed response" if stream is not None else "upgrade"
            raise HandlerError(f"the handler returned {response!r} beside its {what}, expected None")
        if self._link.wire.our_state in (wire.SEND_RESPONSE, wire.SEND_BODY):
            raise HandlerError(
                "the handler returned without having entered or left the block of its streamed response,"
                " expected `async with request.stream_response(...) as body:`"
            )

    # -- what goes wrong
    # ---------------------------------------------------------------------------------------------------

    async def _settle(self, trouble: Exception | None) -> bool:
        """Answer for what ended the exchanges, where an answer is possible; tell whether the connection lives
        on."""
        link = self._link
        owed, self._owed = self._owed, None
        idle_end = link.receive_deadline
        link.lift_limits()
        if trouble is not None:
            self._report(trouble)
        if link.upgraded or link.transport.closed or link.wire.our_state in (wire.SEND_BODY, wire.ERROR):
            # Part of an answer is out: it must not look like all of it.
            await link.transport.aclose_forcefully()
            return False
        await link.stop_read_ahead()  # first, for it may hold a request, and nobody else may read meanwhile
        if self._resume is not None:
            return True
        if not link.handling and trouble is None:
            if link.cancel_reason is CancelReason.DEADLINE:
                # It was the last handler's. Between exchanges it is nobody's.
                self._resume = idle_end if idle_end != math.inf else None
                return True
            if link.cancel_reason is CancelReason.DRAIN and self._has_request():
                return True
        refusal = owed if isinstance(owed, Response) else self._refusal(trouble)
        if refusal is None or link.hangup == 2 or link.wire.our_state not in (wire.IDLE, wire.SEND_RESPONSE):
            await self._end()
            return False
        common = self._shared.common.at(trio.current_time())
        with trio.move_on_after(self._shared.config.times.answer):
            try:
                if link.wire.their_state in (wire.SEND_BODY, wire.ERROR, wire.IDLE):
                    refusal = Response(
                        refusal.status,
                        refusal.content,
                        headers=with_close(refusal.headers._wire),
                        reason=refusal.reason,
                    )
                await link.push(self._written(refusal, common))
            except HandlerError:
                logger.exception("handling %r failed", self._request)
                return False
            except (ClientDisconnected, trio.ClosedResourceError, wire.LocalProtocolError):
                return False
            if link.wire.is_reusable:
                self._finish_exchange()
                return True
            await self._end()
        return False

    def _has_request(self) -> bool:
        """Tell whether a request, or its beginning, has come to the connection, which is to be closed.

        What has reached us is answered, as the connection's last.
        """
        link = self._link
        if link.wire.has_unread or isinstance(self._resume, wire.RequestHead):
            return True
        try:
            data = link.transport.receive_nowait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        if not data:
            return False
        link.wire.receive_data(data)
        return True

    def _refusal(self, trouble: Exception | None) -> Response | None:
        """Return the answer to what went wrong, or None when there is nobody to answer, or nothing to say."""
        link = self._link
        if trouble is None:
            return self._refusal_for(link.cancel_reason)
        cause = lone_leaf(trouble)
        if isinstance(cause, HTTPException):
            try:
                return response_of(cause)
            except (wire.LocalProtocolError, TypeError, ValueError):
                logger.exception("no answer can be made of %r", cause)
                return Response(500, text=phrase(500))
        if isinstance(cause, wire.RemoteProtocolError) and link.wire.their_state is wire.ERROR:
            # The text is ours, and shows none of the peer's bytes: an echo could be made to run in a browser.
            return Response(cause.error_status_hint, text=phrase(cause.error_status_hint))
        if self._means_gone(cause) or link.cancel_reason is CancelReason.CLIENT_DISCONNECTED:
            return None
        return Response(500, text=phrase(500))

    def _refusal_for(self, reason: CancelReason | None) -> Response | None:
        link = self._link
        if reason is CancelReason.DEADLINE:
            return response_of(HTTPException(504 if link.deadline_is_the_clients else 503))
        if reason is CancelReason.BODY_TOO_SLOW or (
            # A connection that never sent a byte asked for nothing: a browser may have opened it in advance.
            reason is CancelReason.HEAD_TOO_SLOW and link.wire.has_unread
        ):
            return response_of(HTTPException(408))
        return None

    def _means_gone(self, cause: Exception) -> bool:
        """Tell whether an exception says that the connection is no more, rather than that the handler
        failed. So does a group of such: one task of the handler's was sending, say, and another receiving."""
        if isinstance(cause, ExceptionGroup):
            return all(self._means_gone(each) for each in cause.exceptions)
        if isinstance(cause, ClientDisconnected):
            # That of another connection, which this handler sends to as well, is an error like others.
            return self._link.hangup == 2 or self._link.wire.our_state is wire.ERROR
        if isinstance(cause, trio.ClosedResourceError) and self._link.transport.closed:
            return True  # we have closed it ourselves: the hard stop of a shutdown
        broken = isinstance(cause, trio.BrokenResourceError | trio.ClosedResourceError)
        # A handler's own streams break too; those that it was upgraded to are its own as well, but ended.
        return broken and (not self._link.handling or self._link.upgraded)

    def _report(self, trouble: Exception) -> None:
        """Log what is the handler's fault as an error, and what is the client's for whoever wants to know."""
        cause = lone_leaf(trouble)
        peer = self._link.transport.peername
        if isinstance(cause, HTTPException) and self._link.wire.our_state is wire.SEND_RESPONSE:
            return  # it is the answer
        if self._means_gone(cause):
            logger.debug("%s went away: %s", peer, cause)
            if self._account is not None:
                self._account.client_left = True
        elif isinstance(cause, wire.RemoteProtocolError) and self._link.wire.their_state is wire.ERROR:
            logger.info("%s broke the protocol: %s", peer, cause)
            if self._account is not None:
                self._account.protocol_error = True
        else:
            if is_of_the_await_in(ServerConnection._serve_exchanges, trouble):
                trouble.add_note("the handler must be an async function, or return an awaitable")
            logger.error("handling %r failed", self._request or self._link.transport, exc_info=trouble)
            if self._account is not None:
                self._account.error = trouble

    # -- the end
    # ---------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Close the connection so that the client gets what was sent to it."""
        link = self._link
        config = self._shared.config
        if link.handling and link.wire.our_state not in (wire.SEND_RESPONSE, wire.SEND_BODY, wire.ERROR):
            self._shared.exchanges_before += 1  # an exchange that was answered, though none may follow
        link.handling = False
        link.ending = True
        await link.stop_read_ahead()
        if self._account is not None:
            self._account.finish()
        if link.wire.our_state is wire.ERROR or link.transport.closed:
            await link.transport.aclose_forcefully()
            return
        # A client that is ready for another exchange may have sent it already. Between exchanges, no answer
        # can be lost.
        answered = link.wire.our_state is not wire.IDLE
        gone = link.hangup > 0 or link.wire.trailing_data[1]
        surprised = answered and not gone and (self._request is None or self._request._head.keep_alive)
        if surprised or link.wire.their_state in (wire.SEND_BODY, wire.ERROR) or link.wire.has_unread:
            await linger(link.transport, config)
        # A foreign stream may wait for its peer here, as TLS does in its goodbye.
        with trio.move_on_after(config.times.linger):
            await link.transport.aclose()
