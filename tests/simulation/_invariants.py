"""What must hold whatever happens: what is told, how often anything is done, and what may fail and why."""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

import trio

from tests.cancellation._worlds import Accounts
from tests.simulation._handlers import Squall
from tests.simulation._manners import Refused
from trio_http import (
    ClientExchangeRecord,
    CloseRecord,
    ConnectFailed,
    ConnectionLost,
    ConnectionRecord,
    ExchangeRecord,
    PoolClosed,
    RaceFailed,
    ResponseIncomplete,
    Server,
    ServerInstrument,
)

#: Why a request may fail: its server was stopped, or is tight; so is who has to answer in its dial, by a
#: tunnel or in TLS; what its connections meet; its client was closed.
Reason = str

#: What may be raised for which reasons, besides what a manner raises on purpose.
EXCUSES: dict[type[BaseException], frozenset[Reason]] = {
    PoolClosed: frozenset(["client closed"]),
    ConnectFailed: frozenset(["server stopped", "foul weather", "dial tight"]),
    OSError: frozenset(["server stopped", "foul weather"]),  # of a dial without a client
    ConnectionLost: frozenset(["server stopped", "server tight", "foul weather"]),
    ResponseIncomplete: frozenset(["server stopped", "server tight", "foul weather"]),
    # Of a stream that was changed to another protocol; a client that is closed takes it with it.
    trio.BrokenResourceError: frozenset(["server stopped", "server tight", "foul weather", "client closed"]),
    trio.ClosedResourceError: frozenset(["client closed"]),
}

#: Likewise of what a server answers by itself, by status.
REFUSALS: dict[int, frozenset[Reason]] = {
    # The request's content was cut short by an end of the stream.
    400: frozenset(["foul weather"]),
    # It did not come in time.
    408: frozenset(["server tight", "foul weather"]),
    # The gate got no answer from the server behind it.
    502: frozenset(["server stopped", "server tight", "foul weather"]),
    # Too many connections, or the handler took too long; or it said "later", which would have been too late.
    503: frozenset(["server tight", "no time to try again"]),
}


def unexcused(error: BaseException, reasons: set[Reason]) -> str | None:
    """Return what is wrong with a failure; None: there is a reason for it."""
    if isinstance(error, RaceFailed):
        return next((why for each in error.errors if (why := unexcused(each, reasons))), None)
    if isinstance(error, Refused):
        if REFUSALS.get(error.status, frozenset()) & reasons:
            return None
        return f"the server itself answered {error.status}, and the only reasons are {sorted(reasons)}"
    for kind, excuses in EXCUSES.items():
        if isinstance(error, kind) and excuses & reasons:
            return None
    return f"{error!r}, and the only reasons are {sorted(reasons)}"


class Books(Accounts):
    """What a client tells: each beginning has its end, and what was sent is known for each path.

    Attributes:
      name: "client", or "gate" for what the gate asks others.
    """

    def __init__(self, name: str = "client") -> None:
        super().__init__()
        self.name = name


class Witness(ServerInstrument):
    """What the servers tell: each beginning has its end, in order.

    Attributes:
      faults: what was not so.
      statuses: of the answers to each path, in the order of their ends.
      refused: connections that were turned away.
      closings: why connections ended, as counts.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.statuses: dict[str, list[int | None]] = {}
        self.refused = 0
        self.closings: collections.Counter[str] = collections.Counter()
        self._open: dict[int, int | None] = {}  # the exchange under way of each connection

    def connection_opened(self, connection: ConnectionRecord) -> None:
        self._see(connection.id not in self._open, f"{connection} was opened twice")
        self._open[connection.id] = None

    def exchange_started(self, connection: ConnectionRecord, number: int, method: str, target: str) -> None:
        self._see(self._open.get(connection.id, 0) is None, f"{target} began within another exchange")
        self._open[connection.id] = number

    def exchange_finished(self, exchange: ExchangeRecord) -> None:
        self._see(
            self._open.get(exchange.connection.id) == exchange.number,
            f"{exchange.target} ended and had not begun",
        )
        self._open[exchange.connection.id] = None
        self.statuses.setdefault(path_of(exchange.target), []).append(exchange.status)

    def connection_closed(self, closing: CloseRecord) -> None:
        self._see(self._open.pop(closing.connection.id, 0) is None, f"{closing} within an exchange, or twice")
        self.closings[closing.why.partition(":")[0]] += 1

    def connection_refused(self, peername: object, why: str) -> None:
        self.refused += 1

    def _see(self, fact: bool, otherwise: str) -> None:
        # Not by `assert`: an instrument that raises is dropped.
        if not fact:
            self.faults.append(otherwise)

    def check(self) -> None:
        assert not self.faults, self.faults
        assert not self._open, f"connections without an end: {self._open}"


def path_of(target: str) -> str:
    """Return the path of a target in any of its forms; of CONNECT's, the whole."""
    return urlsplit(target).path if "://" in target else target


def check_executions(
    executed: collections.Counter[tuple[str, str]], books: Iterable[Books], witnesses: Iterable[Witness]
) -> None:
    """See that nothing was done that its client says cannot have been; and nothing twice that must not be.

    Args:
      executed: how often handlers were begun, as `Site.executed`.
      books: of all clients.
      witnesses: of all servers.
    """
    sendings: dict[tuple[str, str], list[ClientExchangeRecord]] = {}
    for each in books:
        for record in each.finished:
            sendings.setdefault((each.name, urlsplit(record.url).path), []).append(record)
    for key, times in executed.items():
        records = sendings.get(key, [])
        acted = sum(record.may_have_acted for record in records)
        assert times <= acted, (
            f"{key} was done {times} times, and by its client {acted} times at most: {records}"
        )
        if records[0].method == "POST":
            assert acted <= 1, f"{key} was sent {acted} times so that it may have been done: {records}"
    statuses = collections.defaultdict(set)
    for witness in witnesses:
        for path, given in witness.statuses.items():
            statuses[path].update(given)
    for key, records in sendings.items():
        for record in records:
            if record.outcome == "complete" and record.status is not None and record.status < 400:
                assert record.status in statuses[key[1]], f"{key} was answered, and no server knows: {record}"


class Complaints(logging.Handler):
    """Collects what the package reports as somebody's fault, but for the failures that are on purpose.

    Use it as a context manager: it listens within its block, and nobody else does.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._logger = logging.getLogger("trio_http")

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not _is_on_purpose(error):
            self.messages.append(logging.Formatter().format(record))

    def __enter__(self) -> Complaints:
        self._before = self._logger.propagate
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.propagate = self._before
        self._logger.removeHandler(self)

    def check(self) -> None:
        assert not self.messages, "\n\n".join(["the package complains:", *self.messages])


def _is_on_purpose(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_on_purpose(each) for each in error.exceptions)
    return isinstance(error, Squall)


def check_stopped(server: Server) -> None:
    """See that a server that has stopped has nothing left."""
    shared = server._shared
    assert not shared.connections, f"connections are left: {shared.connections}"
    assert server._gate.open_count == 0, f"{server._gate.open_count} have entered and not left"
    assert not server._opening, "a handshake is left"
    assert not server._refuser, "a refusal is left"
    # Nobody is timed but perhaps the end of the grace.
    assert len(shared.ticker) <= (server.scheduled < float("inf")), "a deadline is left"
