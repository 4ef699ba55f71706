"""What the connections of one server share, and what the server wants from each of them."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Protocol

import trio

from trio_http.connection import Ticker
from trio_http.instruments import Instruments
from trio_http.transport import EdgePoll

from ._common import CommonFields
from ._config import ServerConfig
from ._snapshot import ConnectionSnapshot


class Served(Protocol):
    """A connection, as its server sees it.

    Attributes:
      exchange: how many exchanges it has completed.
      number: of the connection in its server, from 1.
    """

    exchange: int
    number: int

    @property
    def is_handling(self) -> bool:
        """A request is under way."""

    def begin_drain(self) -> None:
        """End after the exchange under way; at once between exchanges. Does not wait."""

    def stop(self) -> None:
        """End now: cancel the handler and abort the transport, as far as that goes without waiting."""

    async def finish_stop(self) -> None:
        """Finish what `stop` could not do without waiting. Never waits for the client."""

    def snapshot(self, now: float) -> ConnectionSnapshot:
        """Return what it is doing, as plain data."""


class Shared:
    """What the connections of one server share.

    Args:
      config: what clients are allowed.
      nursery: for what runs beside the handlers and ends with the server.

    Attributes:
      config, nursery: as given.
      ticker: watches the clients' deadlines.
      common: makes the fields of every response.
      poll: where sockets are waited for; None where each is waited for alone.
      instruments: are told what happens.
      connections: the ones that are open.
      draining: no exchange may follow the one under way.
      opened: how many connections there were so far, open ones included.
      exchanges_before: exchanges of the connections that have ended.
      on_closed: is called when a connection has ended.
    """

    __slots__ = (
        "common",
        "config",
        "connections",
        "draining",
        "exchanges_before",
        "instruments",
        "nursery",
        "on_closed",
        "opened",
        "poll",
        "ticker",
    )

    def __init__(self, config: ServerConfig, nursery: trio.Nursery) -> None:
        self.config = config
        self.nursery = nursery
        self.ticker = Ticker()
        self.common = CommonFields(config)
        self.poll = EdgePoll() if config.edge_poll and EdgePoll.is_available else None
        self.instruments = Instruments(config.instruments)
        self.connections: set[Served] = set()
        self.draining = False
        self.opened = 0
        self.exchanges_before = 0
        self.on_closed: Callable[[], None] = _nobody_cares


def _nobody_cares() -> None:
    pass


#: The connection whose handler, or a task of that handler's, is running.
serving: contextvars.ContextVar[Served | None] = contextvars.ContextVar("trio_http_serving", default=None)
