"""A response whose body is still coming."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import trio

from trio_http._errors import StatusError
from trio_http.messages import MAX_LINE_CHARS, Headers, Lines, Response

from ._answer import Answer
from ._body import ResponseBody
from ._hints import Streamed
from ._timings import timings_of


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
