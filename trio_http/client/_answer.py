"""The head of a response and the link that it came on, while nobody has read the rest."""

from __future__ import annotations

from typing import Final

import trio

from trio_http._errors import RequestFailed
from trio_http.wire import CHUNKED

from ._body import DISCARDED_BYTES, ResponseBody, too_large
from ._exchange import ending
from ._link import Link, Owner
from ._received import ReceivedResponse

# How long that is waited for, in seconds, before a redirect is followed or a request made again. A new
# connection seldom takes longer. Arbitrary.
_DISCARD_SECONDS: Final = 1.0


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
        if not 0 <= head.framing <= DISCARDED_BYTES and head.framing != CHUNKED:
            response = ReceivedResponse(link, b"", self.asked_at, trio.current_time())
            await self.dismissed()
        else:
            body = ResponseBody(link, self.owner)
            content = b""
            try:
                if link.content is not None:
                    content = await body.read(DISCARDED_BYTES)  # nothing is waited for
                else:
                    with trio.move_on_after(min(seconds, _DISCARD_SECONDS)):
                        content = await body.read(DISCARDED_BYTES)
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
            await body.read(DISCARDED_BYTES)
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
        error = too_large(link, link.config.max_content_bytes)
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
            raise too_large(link, limit)
        content = await body.read(limit)
    except BaseException as exc:
        await body.end(*ending(exc))
        raise
    response = ReceivedResponse(link, content, asked_at, trio.current_time())
    response.trailers = body.trailers
    return response
