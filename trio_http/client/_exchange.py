"""One request and its response, on one connection, in the caller's task.

Read from top to bottom: `begin` leases a link and comes back with the head of the final response; `finish`
reads a whole content. Whatever interrupts them, an error or a cancel, the link is taken off the books in
synchronous code and closed, and no other link is touched.
"""

from __future__ import annotations

from typing import Final

import trio

from trio_http._errors import ConnectionLost, ContentTooLarge, InvalidRequest
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

from ._config import ClientConfig
from ._link import LINK_ERRORS, Link, Owner
from ._request import RequestPlan
from ._response import ReceivedResponse
from ._upload import Upload

# Content up to this goes out in one send with its head, which may wait, and nothing is read meanwhile. The
# buffers of the two kernels take that much however slow the server reads: Linux and the BSDs begin with 16
# KiB and more on each side.
_AT_ONCE_BYTES: Final = 16 * 1024

# How many connections that were used before a second attempt passes over, to get a new one. Arbitrary: each
# costs another request nothing but a dial, and more would let one request close the pool of a busy client.
_FRESH_TRIES: Final = 10


async def begin(owner: Owner, plan: RequestPlan, config: ClientConfig) -> tuple[Link, ResponseHead]:
    """Send a request and wait for the head of its final response.

    A reused connection may be closed by the server in the moment in which we send on it. When nothing of an
    answer has come, and a repetition does no harm, the request is then sent once more, on another connection
    (RFC 9112 §9.3.1).

    Returns:
      The link, which is the caller's until it is given back or discarded, and the head.

    Raises:
      InvalidRequest: the request cannot be sent, or its content broke the declared length.
      RequestFailed: a subclass says how.
      Exception: whatever the content's own iterator raised.

    Cancellation: before anything was sent, the connection goes back; after that it is closed. No other one is
    affected."""
    link = await owner.lease(plan)
    try:
        return link, await _begin_on(link, owner, plan, config)
    except ConnectionLost as exc:  # which means that nothing of an answer has come
        if not (exc.facts.reused and plan.is_repeatable and owner.may_lease_again(plan)):
            raise
    link = await owner.lease(plan)
    for _ in range(_FRESH_TRIES):
        if not link.exchanges or not owner.may_lease_again(plan):
            break
        await owner.discard(link)  # used before, like the one that was dead: a second loss is not repeated
        link = await owner.lease(plan)
    return link, await _begin_on(link, owner, plan, config)


async def _begin_on(link: Link, owner: Owner, plan: RequestPlan, config: ClientConfig) -> ResponseHead:
    try:
        await trio.lowlevel.checkpoint_if_cancelled()
    except BaseException:
        owner.give_back(link)  # neither the wire nor the transport was called yet
        raise
    link.begin_exchange()
    content = plan.content
    upload = None
    try:
        if type(content) is bytes and len(content) <= _AT_ONCE_BYTES and not plan.expects:
            await _send(link, link.wire.send_request(plan.method, plan.target, plan.headers, content))
            return await _final_head(link, None)
        upload = Upload(link, content, config.expect_seconds if plan.expects else None)
        return await _begin_beside(link, plan, upload)
    except LocalProtocolError as exc:
        if link.wire.our_state is IDLE:
            owner.give_back(link)  # refused by its grammar, and nothing has changed
        else:
            await owner.discard(link)
        raise InvalidRequest(str(exc)) from exc
    except BaseException as exc:
        await owner.discard(link)
        # The caller's own source may be a stream that broke: that is no failure of this connection.
        if isinstance(exc, LINK_ERRORS) and (upload is None or exc is not upload.source_error):
            raise link.failure(plan, exc, closed=owner.closed, head_came=False) from exc
        raise


async def _send(link: Link, data: bytes) -> None:
    """Send the beginning of a request, or all of it."""
    link.sending = True
    try:
        await link.send(data)
    except trio.BrokenResourceError:
        pass  # an answer may have come before it broke: a server that is too busy says so, and closes
    else:
        link.bytes_sent = len(data)


async def _begin_beside(link: Link, plan: RequestPlan, upload: Upload) -> ResponseHead:
    """Send the head, and then the content beside the reading of the response."""
    headers = plan.headers
    if type(plan.content) is bytes and headers.get(b"content-length") is None:
        headers = headers.replaced(b"Content-Length", b"%d" % len(plan.content))
    await _send(link, link.wire.send_request(plan.method, plan.target, headers))
    head: ResponseHead | None = None
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload.run, nursery.cancel_scope)
            head = await _final_head(link, upload)
            nursery.cancel_scope.cancel(reason="the final response has come")
    except BaseExceptionGroup as group:
        error = _leaf(group)
    if upload.source_error is not None:
        raise upload.source_error
    if error is not None:
        raise error
    assert head is not None
    return head


async def _final_head(link: Link, upload: Upload | None) -> ResponseHead:
    """Return the head of the final response; interim ones are passed over."""
    wire, receive = link.wire, link.transport.receive
    # Receive first: nothing of the answer can be here, or the wire would not have sent the request.
    wire.receive_data(await receive())
    while True:
        head = wire.next_head()
        if isinstance(head, ResponseHead):
            if head.status_code >= 200:
                link.framing = head.framing
                return head
            link.interim = True
            if head.status_code == 100 and upload is not None:
                upload.go_ahead.set()
        elif head is NEED_DATA:
            wire.receive_data(await receive())
        else:
            raise _no_head(head)


def _no_head(what: RequestHead | type[Sentinel]) -> RemoteProtocolError:
    """Return the error for a connection on which no response will come."""
    if what is PAUSED:
        return RemoteProtocolError(
            "101 response: the server left HTTP, and nobody here speaks the other protocol"
        )
    return RemoteProtocolError("the connection ended where a response was due", section="RFC 9112 §8")


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the exception that a group of our own nursery is about: the first that is no mere
    `trio.Cancelled`.
    """
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        others = leaf.split(trio.Cancelled)[1]
        leaf = (others or leaf).exceptions[0]
    return leaf


async def finish(
    link: Link, owner: Owner, plan: RequestPlan, head: ResponseHead, limit: int
) -> ReceivedResponse:
    """Read the content whole, and release the link.

    Args:
      limit: bytes of content, at most.

    Raises:
      ContentTooLarge: there is more; the connection is closed.
      RequestFailed: a subclass says how.

    Cancellation: the connection is closed.
    """
    content = b""
    if head.framing:
        try:
            content = await _read_content(link, plan, head, limit)
        except BaseException as exc:
            await owner.discard(link)
            if isinstance(exc, LINK_ERRORS):
                raise link.failure(plan, exc, closed=owner.closed, head_came=True) from exc
            raise
    response = ReceivedResponse(head, content, link.wire.trailers, plan.url)
    if link.begin_next_cycle():
        owner.give_back(link)
    else:
        await owner.discard(link)
    return response


async def _read_content(link: Link, plan: RequestPlan, head: ResponseHead, limit: int) -> bytes:
    pieces: list[bytes] = []
    room = limit - max(head.framing, 0)
    while room >= 0:
        piece = link.data_nowait()
        if piece is None:
            await link.receive()
        elif not piece:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        else:
            pieces.append(piece)
            if head.framing < 0:
                room -= len(piece)
    what = f"the response's content exceeds {limit} bytes"
    raise ContentTooLarge(what, link.facts(plan, response_started=True, closed_because=what))
