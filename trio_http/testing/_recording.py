"""Recorded peers: what a real server answered once, for tests that shall not ask it again.

It is messages that are recorded, not bytes: what a file shows, and somebody mends by hand, is what a program
asked and what it was told. How the bytes were framed and split is not in it; a test about that plays a
`ScriptedPeer`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from trio_http._errors import HTTPException, RequestFailed
from trio_http.client import Client, ClientConnection
from trio_http.instruments import SENSITIVE_FIELDS, Redaction
from trio_http.messages import Headers, Response
from trio_http.server import Handler, Request

from ._recorded import RecordedExchange, RecordedRequest, RecordedResponse, as_json, from_json
from ._replay import MAX_CONTENT_BYTES, Replay, ReplayMode, SameRequest, answer, as_recorded, without_framing

Edit: TypeAlias = Callable[[RecordedExchange], RecordedExchange | None]

_ORIGIN: Final = re.compile(r"(https?://[^/?#]+)/?")

# Fields of the test's client that are not passed on: its connection's, or replaced.
_NOT_FORWARDED: Final = frozenset([b"accept-encoding", b"expect"])


class Recording:
    """Exchanges with a real server, to be replayed in tests.

    To record::

        recording = Recording()
        async with trio_http.Client() as real:
            handler = recording.handler_around(real, upstream="https://api.example.org")
            async with open_client(handler) as client:
                ...                                         # the program, with this client
        recording.save("tests/api.json")

    To replay, without a network::

        replay = Recording.load("tests/api.json").handler()
        async with open_client(replay) as client:
            ...                                             # the same
        replay.check()

    A recorded exchange is a whole one. Interim responses and the trailers of requests are not recorded, nor
    what failed.

    Args:
      exchanges: what it has at its beginning.
    """

    def __init__(self, exchanges: Iterable[RecordedExchange] = ()) -> None:
        # One place for each request, taken when it came; None while it has no answer, and if it never gets
        # one.
        self._places: list[RecordedExchange | None] = list(exchanges)

    def __repr__(self) -> str:
        return f"<Recording, {len(self.exchanges)} exchanges>"

    @property
    def exchanges(self) -> tuple[RecordedExchange, ...]:
        """What was recorded, in the order in which the requests came."""
        return tuple(exchange for exchange in self._places if exchange is not None)

    # --------------------------------------------------------------------------------------------- the file

    @classmethod
    def from_json(cls, text: str) -> Recording:
        """Return the recording that a file's text is.

        Raises:
          ValueError: it is none; the text says where.
        """
        return cls(from_json(text))

    def to_json(self) -> str:
        """Return the text of a file; the same for the same exchanges."""
        return as_json(self.exchanges)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Return the recording in a file. It blocks, as long as the reading of a small file does.

        Raises:
          OSError: the file cannot be read.
          ValueError: it is no recording; the text says where.
        """
        return cls.from_json(Path(path).read_text("utf-8"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording to a file. It blocks, as long as the writing of a small file does.

        Raises:
          OSError: the file cannot be written.
        """
        Path(path).write_text(self.to_json(), "utf-8", newline="\n")

    # -------------------------------------------------------------------------------------------- replaying

    def handler(self, mode: ReplayMode = "in order", *, same: SameRequest | None = None) -> Replay:
        """Return a handler that answers as it was recorded, each exchange once.

        Args:
          mode: ``"in order"``: requests have to come as they were recorded. ``"by match"``: in any order; of
            several that match, the first that is left is taken.
          same: tells whether a recorded request (its first argument) is what was asked (its second). None:
            when method, host, target and content are equal.

        Raises:
          ValueError: there is no such mode.
        """
        return Replay(self.exchanges, mode, same)

    # -------------------------------------------------------------------------------------------- recording

    def handler_around(
        self,
        client: Client | ClientConnection,
        *,
        upstream: str | None = None,
        redact: Iterable[str] = SENSITIVE_FIELDS,
        edit: Edit | None = None,
    ) -> Handler:
        """Return a handler that asks a real server through ``client``, and records what it answers.

        Whoever asks the handler gets the answer as it came; what is recorded has no secrets in those fields
        that hold them by design. Contents may have some, too: ``edit`` can take them out.

        The server is asked for content that is not coded, so that the recording can be read. A request that
        fails is answered with a 502, which says why, and is not recorded.

        Args:
          client: makes the requests. It should neither follow redirects nor keep cookies: the client under
            test does, if any does.
          upstream: the origin that all requests go to, as in ``"https://api.example.org"``; a Location that
            leads there is changed to lead to the handler. None: the host of each request, by http.
          redact: the names of the fields whose values are not recorded. Empty: all are.
          edit: is given each exchange, redacted, and returns what is recorded instead, made with
            `attrs.evolve`; None leaves the exchange out.

        Raises:
          ValueError: ``upstream`` is no origin.
          TypeError: ``redact`` is one str.
        """
        origin = None
        if upstream is not None:
            match = _ORIGIN.fullmatch(upstream)
            if match is None:
                raise ValueError(
                    f"upstream must be an origin such as 'https://api.example.org', not {upstream!r}"
                )
            origin = match[1]
        return _Recorder(self._places, client, origin, Redaction(redact), edit)


class _Recorder:
    """The handler that `Recording.handler_around` returns."""

    def __init__(
        self,
        places: list[RecordedExchange | None],
        client: Client | ClientConnection,
        upstream: str | None,
        redaction: Redaction,
        edit: Edit | None,
    ) -> None:
        self._places = places
        self._client = client
        self._upstream = upstream
        self._redaction = redaction
        self._edit = edit

    async def __call__(self, request: Request) -> Response | None:
        place = len(self._places)
        self._places.append(None)
        asked = await as_recorded(request)
        try:
            answered = await self._forward(asked)
        except RequestFailed as exc:
            raise HTTPException(502, f"not recorded: {exc}\n") from exc
        exchange = RecordedExchange(
            request=attrs.evolve(asked, headers=self._redacted(asked.headers)),
            response=attrs.evolve(
                answered,
                headers=self._redacted(answered.headers),
                trailers=self._redacted(answered.trailers),
            ),
        )
        self._places[place] = exchange if self._edit is None else self._edit(exchange)
        return await answer(request, answered)

    async def _forward(self, asked: RecordedRequest) -> RecordedResponse:
        fields = [pair for pair in asked.headers.raw if pair[0].lower() not in _NOT_FORWARDED]
        async with self._client.stream(
            asked.method,
            self._upstream or f"http://{asked.host}",
            target=asked.target,
            headers=[*fields, (b"Accept-Encoding", b"identity")],
            content=asked.content,
        ) as response:
            content = await response.read(MAX_CONTENT_BYTES)
            headers = without_framing(response.headers.end_to_end(), asked.method, response.status)
            if self._upstream is not None:
                headers = _leading_here(headers, self._upstream, asked.host)
            return RecordedResponse(
                status=response.status,
                reason=response.reason,
                headers=headers,
                content=content,
                trailers=response.trailers,
            )

    def _redacted(self, fields: Headers) -> Headers:
        return Headers(self._redaction.of(fields.raw))


def _leading_here(headers: Headers, upstream: str, host: str) -> Headers:
    """Return the fields with a Location on ``upstream`` changed to lead to ``host``, by http."""
    location = headers.get("location", "")
    if re.match(re.escape(upstream) + r"(?:[/?#]|$)", location) is None:
        return headers
    here = f"http://{host}{location[len(upstream) :]}".encode("latin-1")
    return Headers([(name, here if name.lower() == b"location" else value) for name, value in headers.raw])
