"""One request and the head of its response, on one connection, in the caller's task.

Read from top to bottom: `begin` leases a link and comes back when the head of the final response is here.
Whatever interrupts it, an error or a cancel, the link is taken off the books in synchronous code and closed,
and no other link is touched.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trio_http._errors import ConnectionLost, InvalidRequest, RequestFailed
from trio_http.messages import Headers
from trio_http.wire import (
    IDLE,
    NEED_DATA,
    PAUSED,
    LocalProtocolError,
    RemoteProtocolError,
    RequestHead,
    ResponseHead,
    Sentinel,
)

from ._content_source import Content, ContentReader
from ._interim import InterimResponse
from ._link import LINK_ERRORS, Link, Owner
from ._plan import RequestPlan
from ._upload import Upload
from ._watch import ExchangeWatch, RequestWatch

logger = logging.getLogger("trio_http.client")

# How many connections that were used before a second attempt passes over, to get a new one. Arbitrary: each
# costs another request nothing but a dial, and more would let one request close the pool of a busy client.
_FRESH_TRIES: Final = 10

_SWITCHING_PROTOCOLS: Final = 101


async def begin(
    owner: Owner,
    plan: RequestPlan,
    asked_at: float,
    watching: RequestWatch | None = None,
    again: Callable[[], Awaitable[RequestPlan]] | None = None,
) -> Link:
    """Send a request and wait for the head of its final response.

    A reused connection may be closed by the server in the moment in which we send on it. When nothing of an
    answer has come, and a repetition does no harm, the request is then sent once more, on another connection
    (RFC 9112 §9.3.1).

    Args:
      asked_at: the time, on trio's clock.
      watching: who looks on at the request.
      again: gives the plan for the second time; None: it is the same.

    Returns:
      The link, which is the caller's until it is given back or discarded, with its `Link.head`.

    Raises:
      InvalidRequest: the request cannot be sent, or its content broke the declared length.
      RequestFailed: a subclass says how.
      Exception: whatever the content's own source raised.

    Cancellation: before anything was sent, the connection goes back; after that it is closed. No other one is
    affected."""
    for is_last in (False, True):
        watch = None if watching is None else watching.begin(plan)
        try:
            if isinstance(plan.content, bytes):
                link = None if is_last else owner.take(plan)
                if link is not None:
                    link.leased_at = asked_at
                else:
                    link = await _leased(owner, plan, watch, fresh=is_last)
                link.watch = watch
                await begin_on(link, owner, plan)
                return link
            return await _begin_with_content(owner, plan, plan.content, watch, fresh=is_last)
        except ConnectionLost as exc:  # which means that nothing of an answer has come
            if is_last or not (_may_repeat(exc, plan) and owner.may_lease_again(plan)):
                raise
        if again is not None:
            plan = await again()
    raise AssertionError("the last attempt returns or raises")


async def _begin_with_content(
    owner: Owner, plan: RequestPlan, content: Content, watch: ExchangeWatch | None, *, fresh: bool
) -> Link:
    """Be `begin` for content that has to be opened; it is, before a connection is asked for."""
    try:
        reader = await content.open()
    except BaseException as exc:
        if watch is not None:
            watch.never_leased(exc, "content")
        raise
    try:
        link = await _leased(owner, plan, watch, fresh=fresh)
    except BaseException:
        await _closed_after_failure(reader)
        raise
    link.watch = watch
    await begin_and_close(link, owner, plan, reader)
    return link


async def begin_and_close(link: Link, owner: Owner, plan: RequestPlan, reader: ContentReader) -> None:
    """Be `begin_on`, and close the content after it."""
    try:
        await begin_on(link, owner, plan, reader)
    except BaseException:
        await _closed_after_failure(reader)
        raise
    try:
        await reader.aclose()
    except BaseException as exc:
        await owner.discard(link, *ending(exc))
        raise


async def _closed_after_failure(reader: ContentReader) -> None:
    """Close a reader whose request has failed; what goes wrong in that must not take the failure's place.

    Cancellation: it is closed all the same.
    """
    try:
        await reader.aclose()
    except Exception:
        logger.exception("closing the content of a failed request failed")


async def _leased(owner: Owner, plan: RequestPlan, watch: ExchangeWatch | None, *, fresh: bool) -> Link:
    """Lease a link, waiting for one.

    Args:
      watch: is told when there is none.
      fresh: it should be one that was never used: a second loss is not repeated.
    """
    try:
        link = await owner.lease(plan)
        for _ in range(_FRESH_TRIES if fresh else 0):
            if not link.exchanges or not owner.may_lease_again(plan):
                break
            await owner.discard(link, "passed over: a new connection was wanted")
            link = await owner.lease(plan)
    except BaseException as exc:
        if watch is not None:
            watch.never_leased(exc)
        raise
    link.leased_at = trio.current_time()
    return link


def _may_repeat(error: ConnectionLost, plan: RequestPlan) -> bool:
    """Tell whether a lost race with the server's close is the likely reason, and sending again harmless."""
    facts = error.facts
    if not facts.reused or facts.timed_out or not plan.is_repeatable or not is_about(error, plan):
        return False
    return plan.is_idempotent or not facts.may_have_acted


def is_about(error: RequestFailed, plan: RequestPlan) -> bool:
    """Tell whether this request has failed, and not another one, which a function of the caller's has made
    for it.
    """
    facts = error.facts
    return facts.url == plan.url and facts.method == plan.method.decode("ascii")


async def begin_on(link: Link, owner: Owner, plan: RequestPlan, reader: ContentReader | None = None) -> None:
    """Send a request on a link that was leased for it, and wait for the head of its final response.

    Args:
      reader: the content, unless that is bytes; the caller closes it.

    Raises and cancellation: as `begin`; the link is then given back or closed.
    """
    try:
        await trio.lowlevel.checkpoint_if_cancelled()
    except BaseException as exc:
        if link.watch is not None:
            link.watch.error = exc
        owner.give_back(link)  # neither the wire nor the transport was called yet
        raise
    upload = None
    try:
        if plan.prepared is not None:
            try:
                if not link.send_now(plan, plan.prepared):
                    await link.finish_send()
                    link.bytes_sent = len(plan.prepared.data)
                if link.watch is not None:
                    link.watch.request_bytes = len(plan.prepared.content)
                sent = True
            except trio.BrokenResourceError:
                # An answer may have come before it broke: a server that is too busy says so, and closes.
                sent = False
            if link.pace.head != math.inf or link.watch is not None:
                link.expect_head(sent=sent)
            await _receive_head(link, plan, None)
        else:
            link.begin_exchange(plan)
            upload = Upload(link, plan, reader)
            await _begin_beside(link, plan, upload)
    except BaseException as exc:
        failure: Exception | None = None
        # The caller's own source or function may raise the same: that is no failure of this connection.
        own = link.raised is not None or (upload is not None and exc is upload.source_error)
        if isinstance(exc, LINK_ERRORS) and not own:
            failure = link.failure(exc, closed=owner.closed)
        if isinstance(exc, LocalProtocolError) and link.wire.our_state is IDLE:
            if link.watch is not None:
                link.watch.error = exc
            owner.give_back(link)  # refused by its grammar, and nothing has changed
        else:
            await owner.discard(link, *ending(failure or exc))
        if isinstance(exc, LocalProtocolError) and not own:
            raise InvalidRequest(str(exc)) from exc  # noqa: ASYNC104  # not of a cancel
        if failure is not None:
            raise failure from exc  # noqa: ASYNC104  # not of a cancel: of one of `LINK_ERRORS`
        raise


def ending(error: BaseException) -> tuple[str, BaseException]:
    """Return why a connection is closed on which ``error`` interrupted an exchange, and the error."""
    if isinstance(error, RequestFailed):
        return f"failed: {error.args[0]}", error  # without the facts, which a record has by itself
    if isinstance(error, Exception):
        return f"failed: {error}", error
    return "cancelled", error


async def _begin_beside(link: Link, plan: RequestPlan, upload: Upload) -> None:
    """Send the head, and then the content beside the reading of the response."""
    try:
        await link.push(upload.head())
    except trio.BrokenResourceError:
        pass  # as in `begin_on`
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload.run, nursery.cancel_scope)
            await _receive_head(link, plan, upload)
            nursery.cancel_scope.cancel(reason="the final response has come")
    except BaseExceptionGroup as group:  # cancel: raised below, unless something else says more
        error = _leaf(group)
    if link.raised is not None:
        raise link.raised  # as it is, also when it is a group
    if upload.source_error is not None:
        raise upload.source_error
    if error is not None:
        raise error
    upload.settle()


async def _receive_head(link: Link, plan: RequestPlan, upload: Upload | None) -> None:
    """Wait for the head of the final response, or of a switch that was asked for."""
    wire, receive = link.wire, link.transport.receive
    # Receive first: nothing of the answer can be here, or the wire would not have sent the request.
    data = await receive()
    link.first_byte_at = link.now()
    wire.receive_data(data)
    if link.watch is not None:
        link.watch.head_bytes = len(data)
    while True:
        head, content = wire.next_response()
        if isinstance(head, ResponseHead):
            if head.status_code >= 200 or (head.status_code == _SWITCHING_PROTOCOLS and plan.upgrade):
                link.take_head(head, content)
                return
            _pass_over(link, plan, head, upload)
        elif head is NEED_DATA:
            data = await receive()
            wire.receive_data(data)
            if link.watch is not None:
                link.watch.head_bytes += len(data)
        else:
            raise _no_head(head)


def _pass_over(link: Link, plan: RequestPlan, head: ResponseHead, upload: Upload | None) -> None:
    """Take note of an interim response."""
    if head.status_code == _SWITCHING_PROTOCOLS:
        return  # the wire tells what follows
    interim = InterimResponse(head.status_code, Headers(head.headers))
    link.interim += (interim,)
    if head.status_code == 100 and upload is not None:
        upload.go_ahead.set()
    if plan.settings.on_interim is not None:
        try:
            plan.settings.on_interim(interim)
        except BaseException as exc:
            link.raised = exc
            raise


def _no_head(what: RequestHead | type[Sentinel]) -> RemoteProtocolError:
    """Return the error for a connection on which no response will come."""
    if what is PAUSED:
        return RemoteProtocolError(
            "101 response: the server left HTTP, and nobody here speaks the other protocol"
        )
    return RemoteProtocolError("the connection ended where a response was due", section="RFC 9112 §8")


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the exception that a group of our own nursery is about, as it is, also when it is a group.

    There are two at most, of the sending and of the reading. One that says more than a mere cancel comes
    first, and before that one that is no `Exception`, such as KeyboardInterrupt.
    """

    def rank(exc: BaseException) -> int:
        others = exc.split(trio.Cancelled)[1] if isinstance(exc, BaseExceptionGroup) else exc
        if others is None or isinstance(others, trio.Cancelled):
            return 2
        return 1 if isinstance(others, Exception) else 0

    return min(group.exceptions, key=rank)
