"""What a request gives: a whole response, or a streamed one while its block lasts."""

from __future__ import annotations

from typing import Final

import trio

from trio_http._errors import ContentTooLarge, StatusError
from trio_http.messages import Headers, MessageBody, Response
from trio_http.wire import CLOSE_DELIMITED, RemoteProtocolError, ResponseHead
from trio_http.wire import Headers as WireHeaders

from ._link import LINK_ERRORS, Link, Owner
from ._request import RequestPlan

# How much of an unread body is thrown away to keep a connection. More costs more than a new connection does;
# precedent: Go 256 KiB, there however by waiting for it.
_DISCARDED_BYTES: Final = 64 * 1024


class ReceivedResponse(Response):
    """A `Response` that a client received.

    Attributes:
      url: what was asked, as the caller wrote it.
    """

    __slots__ = ("url",)

    def __init__(self, head: ResponseHead, content: bytes, trailers: WireHeaders, url: str) -> None:
        # Not by the base's own: all of this was checked by the wire.
        self.status = head.status_code
        self.reason = head.reason.decode("latin-1")
        self.headers = Headers(head.headers)
        self.content = content
        self.trailers = Headers(trailers)
        self.url = url

    def raise_for_status(self) -> ReceivedResponse:
        """Return the response itself unless its status is an error.

        Raises:
          StatusError: the status is 400-599; the response is in it.
        """
        if 400 <= self.status <= 599:
            raise StatusError(self, self.url)
        return self


class ResponseBody(MessageBody):
    """The body of a response under way. It ends with the block of ``stream``.

    Errors: `RequestFailed`, of a subclass that says how, when the body cannot be received whole; the
      connection is then
    closed. `trio.ClosedResourceError` after `aclose` or the end of the block.
    """

    __slots__ = ("_closed", "_error", "_link", "_owner", "_plan", "_released", "_trailers")

    def __init__(self, link: Link, owner: Owner, plan: RequestPlan) -> None:
        super().__init__()
        self._link = link
        self._owner = owner
        self._plan = plan
        self._trailers = Headers()
        self._error: Exception | None = None
        self._closed = False
        self._released = False

    @property
    def trailers(self) -> Headers:
        """See `MessageBody.trailers`."""
        return self._trailers

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
            raise self._error
        if self._released:
            await trio.lowlevel.checkpoint()
            return b""
        try:
            piece = await self._link.next_data()
        except LINK_ERRORS as exc:
            if self._closed:
                raise trio.ClosedResourceError("this body was closed by another task") from exc
            self._error = self._link.failure(self._plan, exc, closed=self._owner.closed, head_came=True)
            await self._discard()
            raise self._error from exc
        if not piece:
            await self.release()
        return piece

    async def release(self) -> None:
        """Give the link back after the last byte, or close it if it has served its time.

        Cancellation: not affected.
        """
        self._trailers = Headers(self._link.wire.trailers)
        if self._link.begin_next_cycle():
            self._released = True
            self._owner.give_back(self._link)
        else:
            await self._discard()

    async def _discard(self) -> None:
        self._released = True
        await self._owner.discard(self._link)

    def too_large(self, limit: int) -> ContentTooLarge:
        """Return the error for a body of more than ``limit`` bytes."""
        what = f"the response's content exceeds {limit} bytes"
        return ContentTooLarge(what, self._link.facts(self._plan, response_started=True, closed_because=what))

    async def leave(self, *, reuse: bool) -> None:
        """End the use of the body; the link goes back if nothing has to be waited for, and is closed
        otherwise.

        Args:
          reuse: False closes the link if the body was not read to its end.

        Cancellation: not affected.
        """
        self._closed = True
        if self._released:
            return
        # Another task may be reading (`_taking`); it is woken by the close.
        if reuse and not self._taking and self._rest_is_here() and self._link.begin_next_cycle():
            self._released = True
            self._owner.give_back(self._link)
        else:
            await self._discard()

    def _rest_is_here(self) -> bool:
        """Use up what is left of the body, without waiting; tell whether that was all."""
        link = self._link
        room = _DISCARDED_BYTES
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

    async def aclose(self) -> None:
        """Read no more, as `trio.abc.AsyncResource.aclose`; the connection goes back, or is closed, as at the
        block's end.

        Cancellation: the body is closed all the same.
        """
        await self.leave(reuse=True)
        await trio.lowlevel.checkpoint()


class StreamedResponse:
    """A response whose body is still coming; it lives in the block of ``stream``.

    Attributes:
      status, reason, headers: of its head.
      url: what was asked, as the caller wrote it.
      body: the content, to be iterated over or read by `ResponseBody.receive_some`.
    """

    __slots__ = ("_limit", "body", "headers", "reason", "status", "url")

    def __init__(self, head: ResponseHead, body: ResponseBody, url: str, limit: int) -> None:
        self.status = head.status_code
        self.reason = head.reason.decode("latin-1")
        self.headers = Headers(head.headers)
        self.body = body
        self.url = url
        self._limit = limit

    def __repr__(self) -> str:
        return f"<StreamedResponse {self.status}>"

    @property
    def trailers(self) -> Headers:
        """The trailer section; empty before the body's end, and without one (RFC 9110 §6.5)."""
        return self.body.trailers

    async def read(self, limit: int | None = None) -> bytes:
        """Return the rest of the body whole.

        Args:
          limit: bytes, at most; None: the client's `max_content_bytes`.

        Raises:
          ContentTooLarge: there is more. The connection was closed.
          RequestFailed: the body cannot be received whole. The connection was closed.

        Cancellation: what was read so far is lost, and leaving the block closes the connection.
        """
        if limit is None:
            limit = self._limit
        pieces: list[bytes] = []
        while piece := await self.body.receive_some():
            pieces.append(piece)
            limit -= len(piece)
            if limit < 0:
                await self.body.leave(reuse=False)
                raise self.body.too_large(limit + sum(map(len, pieces)))
        return b"".join(pieces)

    def raise_for_status(self) -> StreamedResponse:
        """Return the response itself unless its status is an error.

        Raises:
          StatusError: the status is 400-599; it holds the head, and no content.
        """
        if 400 <= self.status <= 599:
            raise StatusError(Response(self.status, headers=self.headers, reason=self.reason), self.url)
        return self
