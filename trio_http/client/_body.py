"""The body of a response under way."""

from __future__ import annotations

import math
from typing import Final

import trio

from trio_http._errors import (
    ContentTooLarge,
    RequestFacts,
    RequestFailed,
    ResponseIncomplete,
    ResponseInvalid,
)
from trio_http.messages import ContentCodingError, ContentDecoder, Headers, MessageBody, Pieces, decoder_for
from trio_http.wire import CLOSE_DELIMITED, RemoteProtocolError

from ._exchange import ending
from ._link import LINK_ERRORS, Link, Owner
from ._plan import RequestPlan

# How much of an unread body is thrown away to keep a connection. More costs more than a new connection does;
# precedent: Go 256 KiB, there however by waiting for it.
DISCARDED_BYTES: Final = 64 * 1024

# How many bytes of coded content are received for content that is read whole, beyond twice of what that may
# have. Without this, content that becomes nothing, such as empty blocks of deflate, would have no end.
# Arbitrary: coding seldom makes content larger.
_CODED_BYTES: Final = 64 * 1024


class ResponseBody(MessageBody):
    """The body of a response under way. It ends with the block of ``stream``.

    Its content codings are undone, unless the request said ``decode=False``, one is not known here, or the
    status is 206: then it is as it came. A part of coded content is none that could be decoded.

    Errors: `RequestFailed`, of a subclass that says how, when the body cannot be received or decoded whole;
      the connection is then closed. `trio.ClosedResourceError` after `aclose` or the end of the block.

    Args:
      link: the head of the response has come on it.
      owner: of the link.
      keeps: the link is not released at the end of the body, but left to the caller.

    Attributes:
      received: bytes of the body that came, before any decoding.
    """

    __slots__ = (
        "_closed",
        "_decoder",
        "_early",
        "_error",
        "_first",
        "_keeps",
        "_link",
        "_most_coded",
        "_owner",
        "_released",
        "_trailers",
        "received",
    )

    def __init__(self, link: Link, owner: Owner, *, keeps: bool = False) -> None:
        super().__init__()
        self._link = link
        self._owner = owner
        self._keeps = keeps
        self._trailers = Headers()
        self._error: Exception | None = None
        self._closed = False
        self._released = False
        self._early: tuple[RequestPlan, int, int] | None = None
        self._decoder: ContentDecoder | None = None
        try:
            self._decoder = _decoder_of(link)
        except ContentCodingError as exc:  # raised to who reads; nobody has to
            self._error = self._malformed(exc, ResponseInvalid)
        self._first = link.content or b""  # what came with the head, if that was all
        self.received = 0
        self._most_coded: float = math.inf

    @property
    def trailers(self) -> Headers:
        """See `MessageBody.trailers`."""
        return self._trailers

    def facts(self, closed_because: str = "") -> RequestFacts:
        """Return what is known of the exchange, for the error of who does not want its body.

        Args:
          closed_because: as `RequestFacts` has it, unless the connection was given back already.
        """
        if self._early is None:
            return self._link.facts(response_started=True, closed_because=closed_because)
        # The connection may have another exchange by now.
        plan, bytes_sent, exchanges = self._early
        return RequestFacts(
            method=plan.method.decode("ascii"),
            url=plan.url,
            bytes_sent=bytes_sent,
            may_have_acted=True,
            response_started=True,
            reused=exchanges > 1,
        )

    @property
    def is_decoded(self) -> bool:
        """What is read is not what came, but what that becomes when its content codings are undone."""
        return self._decoder is not None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next part of the body, as `MessageBody.receive_some`.

        Raises:
          RequestFailed: the body cannot be received whole; the connection was closed.
          trio.ClosedResourceError: the body was closed, or its block left.

        Cancellation: nothing is lost; call again and continue.
        """
        if self._closed:
            raise trio.ClosedResourceError(
                "this body is closed: it is there within the block of `stream` only"
            )
        return await super().receive_some(max_bytes)

    async def _next_piece(self) -> bytes:
        if self._error is not None:
            await trio.lowlevel.checkpoint()
            if not self._released:
                await self._discard(*ending(self._error))
            raise self._error
        if self._released and not self._first:
            await trio.lowlevel.checkpoint()
            return b""
        if self._decoder is None:
            piece = await self._next_coded()
            if not piece:
                await self._release()
            return piece
        return await self._next_decoded(self._decoder)

    async def _next_coded(self) -> bytes:
        """Return the next piece as it came, ``b""`` at the end."""
        if self._first:
            await trio.lowlevel.checkpoint()
            piece, self._first = self._first, b""
            self._count(piece)
            return piece
        try:
            piece = await self._link.next_data()
        except LINK_ERRORS as exc:
            if self._closed:
                raise trio.ClosedResourceError("this body was closed by another task") from exc
            error = self._link.failure(exc, closed=self._owner.closed)
            await self._fail(error)
            raise error from exc
        self._count(piece)
        return piece

    def _count(self, piece: bytes) -> None:
        self.received += len(piece)
        if self._link.watch is not None and not self._released:
            self._link.watch.response_bytes += len(piece)

    async def _next_decoded(self, decoder: ContentDecoder) -> bytes:
        """Return the next piece of decoded content, ``b""`` at the end."""
        await trio.lowlevel.checkpoint_if_cancelled()  # before a piece is in hand, which a cancel would lose
        yielded = False
        kind: type[RequestFailed] = ResponseInvalid
        try:
            while True:
                if piece := decoder.take():
                    if not yielded:
                        await trio.lowlevel.cancel_shielded_checkpoint()
                    if self._link.watch is not None:
                        self._link.watch.decoded_bytes = (self._link.watch.decoded_bytes or 0) + len(piece)
                    return piece
                coded = await self._next_coded()
                yielded = True
                if not coded:
                    kind = ResponseIncomplete
                    decoder.finish()
                    await self._release()
                    return b""
                if self.received > self._most_coded:
                    what = f"the response's coded content exceeds {self._most_coded} bytes, and becomes less"
                    too_large = ContentTooLarge(what, self.facts(what))
                    await self._fail(too_large)
                    raise too_large
                decoder.feed(coded)
        except ContentCodingError as exc:
            error = self._malformed(exc, kind)
            await self._fail(error)
            raise error from exc

    def _malformed(self, cause: ContentCodingError, kind: type[RequestFailed]) -> RequestFailed:
        """Return the error for content that cannot be decoded."""
        error = kind(str(cause), self._link.facts(response_started=True, closed_because=str(cause)))
        error.__cause__ = cause
        return error

    async def _fail(self, error: Exception) -> None:
        self._error = error
        await self._discard(*ending(error))

    async def release_early(self) -> None:
        """Give the link back if all of the body is here already, and it needs no decoding, which could fail.

        Cancellation: not affected; a checkpoint only where a foreign stream's close is one.
        """
        link = self._link
        if link.content is not None and self._decoder is None and self._error is None:
            if link.watch is not None:
                link.watch.response_bytes = len(link.content)
            assert link.plan is not None
            self._early = link.plan, link.bytes_sent, link.exchanges
            await self._release()

    async def _release(self) -> None:
        """Give the link back after the last byte, or close it if it has served its time."""
        self._trailers = Headers(self._link.wire.trailers)
        if self._keeps:
            self._released = True
        elif self._link.begin_next_cycle():
            self._released = True
            self._owner.give_back(self._link)
        else:
            await self._discard("last exchange")

    async def _discard(self, because: str, error: BaseException | None = None) -> None:
        self._released = True
        await self._owner.discard(self._link, because, error)

    async def leave(self, *, reuse: bool, error: BaseException | None = None) -> None:
        """End the use of the body; the link goes back if nothing has to be waited for, and is closed
        otherwise.

        Args:
          reuse: False closes the link if the body was not read to its end.
          error: what goes through the block, when that is why.

        Cancellation: not affected; a checkpoint only where a foreign stream's close is one.
        """
        self._closed = True
        if self._released:
            return
        # Another task may be reading (`_taking`); it is woken by the close.
        if reuse and not self._taking and self._rest_is_here() and self._link.begin_next_cycle():
            self._released = True
            self._owner.give_back(self._link)
        else:
            await self._discard("body not read" if reuse else "cancelled", None if reuse else error)

    def _rest_is_here(self) -> bool:
        """Use up what is left of the body, without waiting; tell whether that was all."""
        link = self._link
        room = DISCARDED_BYTES
        if link.framing == CLOSE_DELIMITED:
            return False
        try:
            while room >= 0:
                piece = link.data_nowait()
                if piece is None:
                    data = link.transport.receive_nowait()
                    if not data:
                        return False
                    link.wire.receive_data(data)
                elif not piece:
                    return True
                else:
                    room -= len(piece)
        except (RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the caller did not want to know what came here
        return False

    async def end(self, because: str, error: BaseException | None) -> None:
        """Close the link, unless it was released already.

        Cancellation: not affected; a checkpoint only where a foreign stream's close is one.
        """
        self._closed = True
        if not self._released:
            await self._discard(because, error)

    async def read(self, limit: int) -> bytes:
        """Return the rest of the body whole.

        Args:
          limit: bytes, at most.

        Raises:
          ContentTooLarge: there is more. The connection was closed.
          RequestFailed: the body cannot be received whole. The connection was closed.

        Cancellation: what was read so far is lost.
        """
        self._most_coded = self.received + 2 * limit + _CODED_BYTES
        pieces = Pieces()
        room = limit
        while piece := await self.receive_some():
            pieces.add(piece)
            room -= len(piece)
            if room < 0:
                what = exceeding(limit)
                error = ContentTooLarge(what, self.facts(what))
                await self.end(*ending(error))
                raise error
        return pieces.joined()

    async def aclose(self) -> None:
        """Read no more, as `trio.abc.AsyncResource.aclose`; the connection goes back, or is closed, as at the
        block's end.

        Cancellation: the body is closed all the same.
        """
        await self.leave(reuse=True)
        await trio.lowlevel.checkpoint()


def exceeding(limit: int) -> str:
    return f"the response's content exceeds {limit} bytes (ClientConfig.max_content_bytes)"


def too_large(link: Link, limit: int) -> ContentTooLarge:
    """Return the error for content of more than ``limit`` bytes."""
    what = exceeding(limit)
    return ContentTooLarge(what, link.facts(response_started=True, closed_because=what))


def _decoder_of(link: Link) -> ContentDecoder | None:
    """Return what undoes the content codings of a response; None when nothing is to be undone.

    Raises:
      ContentCodingError: nobody would code content so.
    """
    plan, head = link.plan, link.head
    assert plan is not None
    assert head is not None
    if link.coding is None or not plan.settings.decode or head.status_code == 206 or link.content == b"":
        return None
    return decoder_for(link.coding)
