"""A connection that stops speaking HTTP: what a client has of it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from trio_http._errors import ResponseInvalid, UpgradeRefused
from trio_http.transport import TransportStream

from ._exchange import ending
from ._flow import Flow
from ._link import Link, Owner
from ._plan import RequestPlan
from ._received import ReceivedResponse

# How long closing may take where a stream waits for its peer in that. As the server's.
_CLOSE_SECONDS: Final = 2.0


class Upgrade:
    """What ``upgrade`` returns: ``async with`` it to send the request and have the connection as a stream.

    Attributes:
      response: the 101, once the block is entered; its headers may tell what was agreed on.
    """

    __slots__ = ("_answer", "_entered", "_link", "_owner", "_plan", "response")

    def __init__(self, flow: Flow, owner: Owner, plan: RequestPlan) -> None:
        self._answer = flow.answer
        self._owner = owner
        self._plan = plan
        self._link: Link | None = None
        self._entered = False
        self.response: ReceivedResponse | None = None

    if not TYPE_CHECKING:  # who checks types is told so anyway

        def __await__(self) -> NoReturn:
            raise TypeError("`upgrade` is not awaited: `async with client.upgrade(url, protocol) as stream:`")

    async def __aenter__(self) -> TransportStream:
        """Ask for the switch.

        Raises:
          UpgradeRefused: the server answered otherwise; the response is in it, whole.
          RequestFailed: as any request.

        Cancellation: as any request.
        """
        if self._entered:
            raise RuntimeError("one `upgrade` is one request, and this one was made; call it again")
        self._entered = True
        answer = await self._answer(self._plan)
        link = answer.link
        head = link.head
        assert head is not None
        if head.status_code != 101:
            raise UpgradeRefused(await answer.whole(), self._plan.url)
        agreed = (head.headers.get(b"upgrade") or b"").decode("latin-1")
        if agreed.lower() not in {protocol.lower() for protocol in self._plan.upgrade}:
            what = f"101 to {agreed!r}, expected one of {', '.join(self._plan.upgrade)} (RFC 9110 §7.8)"
            error = ResponseInvalid(what, link.facts(response_started=True, closed_because=what))
            await self._owner.discard(link, *ending(error))
            raise error
        self._link = link
        self.response = ReceivedResponse(link, b"", answer.asked_at, trio.current_time())
        return TransportStream(link.transport, link.wire.trailing_data[0])

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection; after an exception, abort it.

        Cancellation: it is closed all the same.
        """
        assert self._link is not None
        try:
            if exc is None:
                # A foreign stream may wait for its peer here, as TLS does in its goodbye.
                with trio.move_on_after(_CLOSE_SECONDS):
                    await self._link.transport.aclose()
        finally:
            await self._owner.discard(self._link, "upgraded")
