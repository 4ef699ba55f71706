"""A whole response, as a client received it."""

from __future__ import annotations

from typing import Final

from trio_http._errors import StatusError
from trio_http.messages import Headers, Response, decode_text

from ._hints import Whole
from ._link import Link
from ._timings import Timings, timings_of

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
