"""A handler that answers as somebody else did before, and only what was asked before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

from trio_http.messages import Headers, Response
from trio_http.server import Request

from ._recorded import RecordedExchange, RecordedRequest, RecordedResponse

logger = logging.getLogger("trio_http.testing")

ReplayMode: TypeAlias = Literal["in order", "by match"]
SameRequest: TypeAlias = Callable[[RecordedRequest, RecordedRequest], bool]

#: The most content that is recorded, or compared, of one message. That of a client's whole responses.
MAX_CONTENT_BYTES: Final = 64 * 1024 * 1024

# How many of the requests that would have been right an error names; the first ones tell enough. Arbitrary.
_NAMED: Final = 5


class UnexpectedRequest(AssertionError):
    """A replay was asked what the recording does not have, or not now.

    Attributes:
      got: what was asked.
      expected: what could have been asked; empty when all was asked already.
    """

    def __init__(self, got: RecordedRequest, expected: tuple[RecordedRequest, ...]) -> None:
        super().__init__(got, expected)
        self.got = got
        self.expected = expected

    def __str__(self) -> str:
        lines = [f"  expected: {each}" for each in self.expected[:_NAMED]] or ["  expected: nothing more"]
        if len(self.expected) > _NAMED:
            lines.append(f"            or one of {len(self.expected) - _NAMED} more")
        return "\n".join(["unexpected request", *lines, f"  got:      {self.got}"])


class Replay:
    """A handler that answers from a recording; made by `Recording.handler`.

    Each recorded exchange is played once. An unexpected request is logged as an error, answered with a 500
    that says what was expected and what came, and kept for `check`.

    Attributes:
      errors: the unexpected requests so far.
    """

    def __init__(
        self, exchanges: Iterable[RecordedExchange], mode: ReplayMode, same: SameRequest | None
    ) -> None:
        if mode not in ("in order", "by match"):
            raise ValueError(f"no mode {mode!r} (expected 'in order' or 'by match')")
        self._left = list(exchanges)
        self._count = len(self._left)
        self._in_order = mode == "in order"
        self._same = _same if same is None else same
        self.errors: list[UnexpectedRequest] = []

    def __repr__(self) -> str:
        return f"<Replay, {self._count - len(self._left)} of {self._count} exchanges played>"

    @property
    def left(self) -> tuple[RecordedExchange, ...]:
        """The exchanges that were not asked for yet, in order."""
        return tuple(self._left)

    async def __call__(self, request: Request) -> Response | None:
        """Answer a request."""
        asked = await as_recorded(request)
        # No checkpoint from here to the choice: nobody else is given the same exchange.
        response = self._take(asked)
        if response is None:
            error = UnexpectedRequest(asked, self._expected())
            self.errors.append(error)
            logger.error("%s", error)
            return Response(500, text=f"{error}\n")
        return await answer(request, response)

    def check(self) -> None:
        """Fail unless everything was asked for that was recorded, and nothing else.

        Raises:
          UnexpectedRequest: something else was; the first of `errors`.
          AssertionError: something was not asked for; the text says what.
        """
        if self.errors:
            raise self.errors[0]
        if self._left:
            raise AssertionError(
                f"{len(self._left)} of {self._count} recorded exchanges were not asked for, "
                f"the first of them {self._left[0].request}"
            )

    def _expected(self) -> tuple[RecordedRequest, ...]:
        return tuple(exchange.request for exchange in (self._left[:1] if self._in_order else self._left))

    def _take(self, asked: RecordedRequest) -> RecordedResponse | None:
        for index, request in enumerate(self._expected()):
            if self._same(request, asked):
                return self._left.pop(index).response
        return None


def _same(recorded: RecordedRequest, asked: RecordedRequest) -> bool:
    return (recorded.method, recorded.host, recorded.target, recorded.content) == (
        asked.method, asked.host, asked.target, asked.content
    )  # fmt: skip


async def as_recorded(request: Request) -> RecordedRequest:
    """Read a request whole.

    Raises:
      HTTPException: 413, its content is too large to be recorded.
      ClientDisconnected, trio_http.wire.RemoteProtocolError: as `RequestContent.read`.
    """
    content = await request.read(MAX_CONTENT_BYTES)
    return RecordedRequest(
        method=request.method,
        host=request.headers.get("host", ""),
        target=request.target,
        headers=_without(request.headers.end_to_end(), b"host", b"content-length"),
        content=content,
    )


async def answer(request: Request, response: RecordedResponse) -> Response | None:
    """Answer a request with a recorded response."""
    headers = without_framing(response.headers, request.method, response.status)
    if not response.trailers:
        return Response(response.status, response.content, headers=headers, reason=response.reason)
    async with request.stream_response(response.status, headers=headers, reason=response.reason) as body:
        await body.send_all(response.content)
        body.trailers = response.trailers
    return None


def without_framing(headers: Headers, method: str, status: int) -> Headers:
    """Return the fields of a response to ``method`` without those that say how long its content is.

    The answers to HEAD and the 304 keep theirs, which tells the length of what they do not have (RFC 9110
    §8.6).
    """
    return headers if method == "HEAD" or status == 304 else _without(headers, b"content-length")


def _without(headers: Headers, *names: bytes) -> Headers:
    return Headers([(name, value) for name, value in headers.raw if name.lower() not in names])
