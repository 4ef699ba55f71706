"""Counters: what a server has done since it began, as plain numbers."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate, pairwise

from trio_http.transport import Address

from ._instruments import ServerInstrument
from ._records import CloseRecord, ConnectionRecord, ExchangeRecord

# The upper bounds of the buckets, in seconds. Precedent: those of Prometheus's own client libraries, whose
# ready-made dashboards expect them.
DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Counters(ServerInstrument):
    """Count connections, exchanges, bytes, failures and times; read the numbers whenever you like.

    Everything but the two gauges only grows, from 0. One object may serve several servers, and then counts
    all of them. The numbers are consistent with each other when read in Trio's thread without an await
    between.

    Nothing is counted by method, target or client: the peers choose those, and could fill the memory with
    their choices. The keys of the tallies are the server's own words.

    Args:
      duration_buckets: upper bounds for the histogram of durations, in seconds, ascending, each above 0 and
        finite; a bound belongs to its bucket.

    Attributes:
      connections_opened: how many there have been.
      connections_open: a gauge: how many there are now.
      connections_refused: how many were turned away, by the reason.
      connections_closed: how many have ended, by the reason.
      exchanges_started: how many requests have come.
      exchanges_open: a gauge: how many of them are not finished.
      responses: how many exchanges are finished, by the class of their status: ``"2xx"`` to ``"5xx"``, and
        ``"none"`` when no answer was sent. An upgrade is a ``"1xx"``.
      cancelled: how many handlers were cancelled, by the reason.
      handler_errors: how many handlers have failed; several errors of one handler are one.
      request_bytes: content received in finished exchanges.
      response_bytes: content sent in finished exchanges.
      duration_sum: the seconds of all finished exchanges together.
      duration_buckets: as given.
      duration_counts: how many exchanges fell into each bucket, those beyond the last bound at the end: one
        more than there are bounds. `cumulative_durations` has them summed up.

    Raises:
      ValueError: the buckets are not ascending, or not positive and finite.
    """

    def __init__(self, *, duration_buckets: Iterable[float] = DURATION_BUCKETS) -> None:
        bounds = tuple(duration_buckets)
        if any(not 0 < bound < math.inf for bound in bounds) or any(a >= b for a, b in pairwise(bounds)):
            raise ValueError(f"the bounds must be positive, finite and ascending, not {bounds!r}")
        self.connections_opened = 0
        self.connections_open = 0
        self.connections_refused: Counter[str] = Counter()
        self.connections_closed: Counter[str] = Counter()
        self.exchanges_started = 0
        self.exchanges_open = 0
        self.responses: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()
        self.handler_errors = 0
        self.request_bytes = 0
        self.response_bytes = 0
        self.duration_sum = 0.0
        self.duration_buckets = bounds
        self.duration_counts = [0] * (len(bounds) + 1)

    def connection_opened(self, connection: ConnectionRecord) -> None:
        """Count a connection."""
        self.connections_opened += 1
        self.connections_open += 1

    def connection_closed(self, closing: CloseRecord) -> None:
        """Count the end of a connection."""
        self.connections_open -= 1
        self.connections_closed[_kind(closing.why)] += 1

    def connection_refused(self, peername: Address, why: str) -> None:
        """Count a connection that was turned away."""
        self.connections_refused[_kind(why)] += 1

    def exchange_started(self, connection: ConnectionRecord, number: int, method: str, target: str) -> None:
        """Count a request."""
        self.exchanges_started += 1
        self.exchanges_open += 1

    def exchange_finished(self, exchange: ExchangeRecord) -> None:
        """Count the end of an exchange, and what it took."""
        self.exchanges_open -= 1
        self.responses["none" if exchange.status is None else f"{exchange.status // 100}xx"] += 1
        if exchange.cancel_reason is not None:
            self.cancelled[_kind(exchange.cancel_reason)] += 1
        self.request_bytes += exchange.request_bytes
        self.response_bytes += exchange.response_bytes
        self.duration_sum += exchange.duration
        self.duration_counts[bisect_left(self.duration_buckets, exchange.duration)] += 1

    def handler_failed(self, exchange: ExchangeRecord) -> None:
        """Count a failure of a handler."""
        self.handler_errors += 1

    def cumulative_durations(self) -> list[tuple[float, int]]:
        """Return (bound, how many exchanges took no longer) for each bucket; the last bound is `math.inf`."""
        return list(zip((*self.duration_buckets, math.inf), accumulate(self.duration_counts), strict=True))


def _kind(why: str) -> str:
    """Return what stands before a colon: what follows may be different each time."""
    return why.partition(":")[0]
