"""A request with its content: as a stream, or whole."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import parse_qsl

import trio

from trio_http._errors import HTTPException
from trio_http._kinds import check_number
from trio_http.messages import Pieces, decode_text

from ._body import RequestBody
from ._received_request import ReceivedRequest

#: What `read`, `text`, `json` and `form` take unless told otherwise, in bytes. Precedent: aiohttp's
#: client_max_size.
READ_LIMIT: Final = 1 << 20


class RequestContent(ReceivedRequest):
    """A request whose content can be read."""

    __slots__ = ("_body",)

    _body: RequestBody | None

    @property
    def body(self) -> RequestBody:
        """The content as a stream; always the same object."""
        body = self._body
        if body is None:
            body = self._body = RequestBody(self._link, self._exchange)
        return body

    def limit_body(self, max_bytes: float) -> None:
        """Set the most that the content may have, in bytes, in place of the server's limit; to be called
        before it is read. `math.inf` for any length.

        Raises:
          HTTPException: 413, the Content-Length says that it has more: before any ``100 Continue``.
          ValueError, TypeError: ``max_bytes`` is negative, or no number.
        """
        check_number("max_bytes", max_bytes, unit="bytes")
        self._link.check_current(self._exchange)
        self._link.touch()
        self._link.max_body_bytes = max_bytes
        self._link.refuse_large_body()

    async def read(self, limit: int = READ_LIMIT) -> bytes:
        """Return the whole content, or what is left of it. It is not kept, so it can be read once.

        Args:
          limit: the most that it may have, in bytes.

        Raises:
          HTTPException: 413 beyond ``limit``, before any ``100 Continue`` when the Content-Length tells.
          RuntimeError: it was read to its end before.
          ValueError, TypeError: ``limit`` is negative, or no number.
          ClientDisconnected, trio_http.wire.RemoteProtocolError: as `RequestBody`.

        Cancellation: what was read is lost, and the exchange can only be given up.
        """
        check_number("limit", limit, unit="bytes")
        try:
            self.limit_body(min(limit, self._link.max_body_bytes))
        except HTTPException:  # the client's fault, so it comes as what a wait for the client would bring
            await trio.lowlevel.checkpoint()
            raise
        if self._body is not None and self._body.at_end and self._link.body_received:
            # Nothing is left, and an empty content would be taken for what the client has sent.
            raise RuntimeError(
                "the request's content was read before; it is not kept, so keep what the first read returned"
            )
        pieces = Pieces()
        while piece := await self.body.receive_some():
            pieces.add(piece)
        return pieces.joined()

    async def text(self, limit: int = READ_LIMIT) -> str:
        """Return the whole content as text, by the Content-Type's charset or else UTF-8; see `read`.

        Cancellation: as `read`.
        """
        return decode_text(await self.read(limit), self.headers)

    async def json(self, limit: int = READ_LIMIT) -> Any:
        """Return the whole content, taken for JSON; see `read`.

        Raises:
          HTTPException: 400, it is no JSON; besides what `read` raises.

        Cancellation: as `read`.
        """
        content = await self.read(limit)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as exc:  # RecursionError: a hundred thousand "[" in a row
            raise HTTPException(400, "the request's content is no JSON\n") from exc

    async def form(self, limit: int = READ_LIMIT) -> list[tuple[str, str]]:
        """Return the whole content, taken for an ``application/x-www-form-urlencoded`` form, as pairs; see
        `read`.

        Raises:
          HTTPException: 415, the Content-Type is another; 400, there are too many fields; besides what `read`
            raises.

        Cancellation: as `read`.
        """
        if (self.headers.get("content-type") or "").partition(";")[0].strip().lower() != (
            "application/x-www-form-urlencoded"
        ):
            await trio.lowlevel.checkpoint()
            raise HTTPException(415, "the request's content must be application/x-www-form-urlencoded\n")
        content = await self.read(limit)
        try:
            # 1000 fields: arbitrary, a form that people fill in has fewer.
            return parse_qsl(content.decode("utf-8"), keep_blank_values=True, max_num_fields=1000)
        except ValueError as exc:
            raise HTTPException(400, "the request's content is no form\n") from exc
