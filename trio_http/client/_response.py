"""What a request gives: a whole response, or a streamed one while its block lasts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from trio_http._errors import (
    ContentTooLarge,
    RequestFacts,
    RequestFailed,
    ResponseIncomplete,
    ResponseInvalid,
    StatusError,
)
from trio_http.messages import (
    MAX_LINE_CHARS,
    ContentCodingError,
    ContentDecoder,
    Headers,
    Lines,
    MessageBody,
    Response,
    decode_text,
    decoder_for,
)
from trio_http.wire import CHUNKED, CLOSE_DELIMITED, RemoteProtocolError

from ._exchange import ending
from ._hints import Streamed, Whole
from ._link import LINK_ERRORS, Link, Owner
from ._request import RequestPlan
from ._timings import Timings, timings_of

# How much of an unread body is thrown away to keep a connection. More costs more than a new connection does;
# precedent: Go 256 KiB, there however by waiting for it.
_DISCARDED_BYTES: Final = 64 * 1024

# How long that is waited for, in seconds, before a redirect is followed or a request made again. A new
# connection seldom takes longer. Arbitrary.
_DISCARD_SECONDS: Final = 1.0

# How many pieces of a body are kept as they came. Each takes some forty bytes beside its own, and a server
# can make pieces of two bytes, by the blocks of zstd: content of a size that is allowed would fill twenty
# times as much. Arbitrary.
_PIECES: Final = 1000

# How many bytes of coded content are received for content that is read whole, beyond twice of what that may
# have. Without this, content that becomes nothing, such as empty blocks of deflate, would have no end.
# Arbitrary: coding seldom makes content larger.
_CODED_BYTES: Final = 64 * 1024

_NO_TRAILERS: Final = Headers()


class ReceivedResponse(Whole, Response):
    """A `Response` that a client received.

    Attributes:
      url: what was asked in the end, as the caller or the redirect wrote it.
      history: the redirects that led here, in their order; their content is at most 64 KiB, and empty when
        there was more, or it took more than a second to come.
      interim: the interim responses that came before it.
      timings: where the time of the exchange went.
    """

    __slots__ = ("_charset", "_moments", "history", "interim", "url")

    def __init__(self, link: Link, content: bytes, asked_at: float, now: float) -> None:
        # Not by the base's own: all of this was checked by the wire.
        head, plan = link.head, link.plan
        assert head is not None
        assert plan is not None
        self.status = head.status_code
        self.reason = head.reason.decode("latin-1")
        self.headers = Headers._wrap(head.headers)
        self.content = content
        self.trailers = _NO_TRAILERS  # what came with its head has none
        self.url = plan.destination.url
        self.history: tuple[ReceivedResponse, ...] = ()
        self.interim = link.interim
        self._charset = plan.settings.charset
        dial = link.dial if link.exchanges == 1 else None
        self._moments = asked_at, link.leased_at, link.first_byte_at, now, dial

    @property
    def timings(self) -> Timings:
        """Where the time of the exchange went."""
        return timings_of(*self._moments)

    @property
    def text(self) -> str:
        """The content as text, by the charset of the Content-Type; without one by the client's ``charset``.
        Malformed bytes become U+FFFD."""
        return decode_text(self.content, self.headers, self._charset)

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

        Cancellation: not affected.
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
            await self._discard("body not read" if reuse else "cancelled", None if reuse else error)

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

    async def end(self, because: str, error: BaseException | None) -> None:
        """Close the link, unless it was released already.

        Cancellation: not affected.
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
        blocks: list[bytes] = []
        pieces: list[bytes] = []
        room = limit
        while piece := await self.receive_some():
            pieces.append(piece)
            room -= len(piece)
            if len(pieces) == _PIECES:
                blocks.append(b"".join(pieces))
                pieces.clear()
            if room < 0:
                what = _exceeding(limit)
                error = ContentTooLarge(what, self.facts(what))
                await self.end(*ending(error))
                raise error
        return pieces[0] if len(pieces) == 1 and not blocks else b"".join([*blocks, *pieces])

    async def aclose(self) -> None:
        """Read no more, as `trio.abc.AsyncResource.aclose`; the connection goes back, or is closed, as at the
        block's end.

        Cancellation: the body is closed all the same.
        """
        await self.leave(reuse=True)
        await trio.lowlevel.checkpoint()


class Answer:
    """The head of a final response, with the link that it came on; the link is the holder's to release.

    Attributes:
      link: leased, unless there is a `response`; `Link.plan` tells what was asked.
      head: of the response.
      owner: of the link.
      asked_at: when the exchange began, on trio's clock.
      history: the redirects before it.
      response: with the content, when that was read and the link released; None before.
    """

    __slots__ = ("asked_at", "head", "history", "link", "owner", "response")

    def __init__(self, link: Link, owner: Owner, asked_at: float) -> None:
        assert link.head is not None
        self.link = link
        self.head = link.head
        self.owner = owner
        self.asked_at = asked_at
        self.history: tuple[ReceivedResponse, ...] = ()
        self.response: ReceivedResponse | None = None

    @property
    def is_here(self) -> bool:
        """The content is here, and can be had without waiting or failing."""
        link = self.link
        content = link.content
        return content is not None and link.coding is None and len(content) <= link.config.max_content_bytes

    async def whole(self) -> ReceivedResponse:
        """Read the content, and release the link.

        Raises:
          ContentTooLarge: there is more than `ClientConfig.max_content_bytes`; the connection is closed.
          RequestFailed: a subclass says how.

        Cancellation: the connection is closed.
        """
        response = await whole(self.link, self.owner, self.asked_at)
        response.history = self.history
        return response

    async def passed_over(self, seconds: float = _DISCARD_SECONDS) -> ReceivedResponse:
        """Release the link, after reading the content if that is short; so others can have the connection.

        Never raises an `Exception`: what becomes of an answer that nobody reads does not matter.

        Args:
          seconds: how long the content is waited for at most, and in no case longer than one second.

        Returns:
          The response, without its content if that was too long, too late, or failed.

        Cancellation: the connection is closed.
        """
        if self.response is not None:
            return self.response
        link, head = self.link, self.head
        if not 0 <= head.framing <= _DISCARDED_BYTES and head.framing != CHUNKED:
            response = ReceivedResponse(link, b"", self.asked_at, trio.current_time())
            await self.dismissed()
        else:
            body = ResponseBody(link, self.owner)
            content = b""
            try:
                if link.content is not None:
                    content = await body.read(_DISCARDED_BYTES)  # nothing is waited for
                else:
                    with trio.move_on_after(min(seconds, _DISCARD_SECONDS)):
                        content = await body.read(_DISCARDED_BYTES)
                    await body.leave(reuse=True)
            except RequestFailed:
                pass
            except BaseException as exc:
                await body.end(*ending(exc))
                raise
            response = ReceivedResponse(link, content, self.asked_at, trio.current_time())
            response.trailers = body.trailers
        response.history = self.history
        return response

    async def kept(self) -> Link | None:
        """Read the content and keep the link, for an exchange that has to go over the same connection.

        Returns:
          The link, ready for that and still leased; None if it cannot carry another one, and was closed.

        Cancellation: the connection is closed.
        """
        link = self.link
        body = ResponseBody(link, self.owner, keeps=True)
        try:
            await body.read(_DISCARDED_BYTES)
        except RequestFailed:
            return None
        except BaseException as exc:
            await body.end(*ending(exc))
            raise
        if link.begin_next_cycle():
            link.tell_end("kept", "response complete")
            return link
        await self.owner.discard(link, "last exchange")
        return None

    async def dismissed(self) -> None:
        """Release the link without waiting for anything: it is closed unless all of the response is here.

        Cancellation: not affected.
        """
        link = self.link
        if self.response is not None:
            return
        if link.content is not None and link.begin_next_cycle():
            self.owner.give_back(link)
        else:
            await ResponseBody(link, self.owner).leave(reuse=True)


async def whole(link: Link, owner: Owner, asked_at: float) -> ReceivedResponse:
    """Read the content of the response whose head has come on a link, and release the link.

    Raises and cancellation: as `Answer.whole`.
    """
    content = link.content
    if content is None or link.coding is not None:
        return await _read_whole(link, owner, asked_at)
    if len(content) > link.config.max_content_bytes:
        error = _too_large(link, link.config.max_content_bytes)
        await owner.discard(link, *ending(error))
        raise error
    now = link.now()
    if link.watch is not None:
        link.watch.response_bytes = len(content)
    response = ReceivedResponse(link, content, asked_at, now)
    if link.begin_next_cycle():
        owner.give_back(link, now)
    else:
        await owner.discard(link, "last exchange")
    return response


async def _read_whole(link: Link, owner: Owner, asked_at: float) -> ReceivedResponse:
    """Be `whole` where there is more to it than to take what came with the head."""
    limit = link.config.max_content_bytes
    head = link.head
    assert head is not None
    body = ResponseBody(link, owner)
    try:
        if head.framing > limit and not body.is_decoded:
            raise _too_large(link, limit)
        content = await body.read(limit)
    except BaseException as exc:
        await body.end(*ending(exc))
        raise
    response = ReceivedResponse(link, content, asked_at, trio.current_time())
    response.trailers = body.trailers
    return response


def _exceeding(limit: int) -> str:
    return f"the response's content exceeds {limit} bytes (ClientConfig.max_content_bytes)"


def _too_large(link: Link, limit: int) -> ContentTooLarge:
    """Return the error for content of more than ``limit`` bytes."""
    what = _exceeding(limit)
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


class StreamedResponse(Streamed):
    """A response whose body is still coming; it lives in the block of ``stream``.

    Attributes:
      status, reason, headers: of its head.
      url: what was asked in the end, as the caller or the redirect wrote it.
      body: the content, to be iterated over or read by `ResponseBody.receive_some`.
      history: the redirects that led here, as `ReceivedResponse.history`.
      interim: the interim responses that came before it.
      timings: where the time went, up to the head.
    """

    __slots__ = ("_limit", "body", "headers", "history", "interim", "reason", "status", "timings", "url")

    def __init__(self, answer: Answer, body: ResponseBody) -> None:
        link = answer.link
        head, plan = link.head, link.plan
        assert head is not None
        assert plan is not None
        self.status = head.status_code
        self.reason = head.reason.decode("latin-1")
        self.headers = Headers(head.headers)
        self.body = body
        self.url = plan.url
        self.history = answer.history
        self.interim = link.interim
        self.timings = timings_of(
            answer.asked_at, link.leased_at, link.first_byte_at, trio.current_time(), link.first_dial
        )
        self._limit = link.config.max_content_bytes

    def __repr__(self) -> str:
        return f"<StreamedResponse {self.status}>"

    if not TYPE_CHECKING:  # who checks types is told so anyway

        def __aiter__(self) -> NoReturn:
            raise TypeError("iterate over `response.body` for bytes, or `response.lines()` for text")

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
        return await self.body.read(self._limit if limit is None else limit)

    def lines(self, *, max_chars: int = MAX_LINE_CHARS) -> Lines:
        """Return an async iterator over the lines of the body, as text and without their ends; see `Lines`.

        ::

            async with client.stream("GET", url) as response:
                async for line in response.lines():
                    print(json.loads(line))

        Args:
          max_chars: characters of a line, at most, at least 1. A longer one raises `LineTooLong`.

        Raises:
          ValueError, TypeError: ``max_chars`` is no positive integer.
        """
        return Lines(self.body, self.headers, max_chars=max_chars)

    def raise_for_status(self) -> StreamedResponse:
        """Return the response itself unless its status is an error.

        Raises:
          StatusError: the status is 400-599; it holds the head, and no content.
        """
        if 400 <= self.status <= 599:
            raise StatusError(Response(self.status, headers=self.headers, reason=self.reason), self.url)
        return self
