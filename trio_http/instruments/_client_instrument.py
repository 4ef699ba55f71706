"""The interface of an instrument of a client, and the collection that a client calls.

What `trio_http.instruments` asks of those who watch a server holds here too: they are synchronous, called in
order, and dropped when they raise. Which of the four methods answers which hook of other clients is in
``docs/how-to/watch-a-client.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ._client_records import ClientCloseRecord, ClientExchangeRecord, DialRecord
from ._instruments import InstrumentCollection


class ClientInstrument:
    """What a client tells those who watch it; give them as ``Client(instruments=[...])``.

    Override what you want to know; the rest is not called at all. The methods must not block, for all
    requests of the program wait meanwhile. One that raises an `Exception` is logged, and its instrument is
    dropped; a KeyboardInterrupt or SystemExit passes.

    They are called for what happened, also when that was a cancel: an exchange that has started is finished
    exactly once, a dial that has begun is told of once, and so is the end of a connection, after that of its
    last exchange.
    """

    __slots__ = ()

    def dial_finished(self, dial: DialRecord) -> None:
        """Be told of a connection that was made, before its first exchange, or that could not be made.

        Called in the dial's own task, whose context variables are those of the request that it was begun for.
        """

    def connection_closed(self, closing: ClientCloseRecord) -> None:
        """Be told of the end of a connection that was made, after that of its last exchange."""

    def exchange_started(self, request_number: int, attempt: int, method: str, url: str) -> None:
        """Be told that a request is about to ask for a connection. Nothing was sent yet.

        Called in the task of who makes the request, and so with its context variables.

        Args:
          request_number: 1 for a client's first request, and one more for each that follows.
          attempt: which exchange of that request it is, from 1.
          method: as it will go out.
          url: what is asked; after a redirect, where that led.
        """

    def exchange_finished(self, exchange: ClientExchangeRecord) -> None:
        """Be told of the end of an exchange: its response is here, or never will be.

        Called in the task of who makes the request. What is refused before a connection is asked for, such as
        a bad URL, is no exchange.
        """


_HOOKS: Final = ("dial_finished", "connection_closed", "exchange_started", "exchange_finished")


class ClientInstruments(InstrumentCollection):
    """All instruments of one client; see `InstrumentCollection`.

    Args:
      instruments: in the order in which they are called.

    Raises: as `InstrumentCollection`.
    """

    __slots__ = ()

    def __init__(self, instruments: Iterable[ClientInstrument] = ()) -> None:
        super().__init__(ClientInstrument, _HOOKS, instruments)

    def dial_finished(self, dial: DialRecord) -> None:
        """Tell all, as `ClientInstrument.dial_finished` says; so do the methods that follow."""
        self._call("dial_finished", dial)

    def connection_closed(self, closing: ClientCloseRecord) -> None:
        self._call("connection_closed", closing)

    def exchange_started(self, request_number: int, attempt: int, method: str, url: str) -> None:
        self._call("exchange_started", request_number, attempt, method, url)

    def exchange_finished(self, exchange: ClientExchangeRecord) -> None:
        self._call("exchange_finished", exchange)
