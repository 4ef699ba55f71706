"""The counters: each number after what happened to a server."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.instruments.support import CONNECTION, closing, exchange
from trio_http.instruments import Counters, Instruments


def fed(*exchanges: Any, **options: Any) -> Counters:
    """Counters after these exchanges, all of them on one connection."""
    counters = Counters(**options)
    instruments = Instruments([counters])
    instruments.connection_opened(CONNECTION)
    for number, record in enumerate(exchanges, start=1):
        instruments.exchange_started(CONNECTION, number, "GET", "/")
        instruments.exchange_finished(record)
    instruments.connection_closed(closing(exchanges=len(exchanges)))
    return counters


def test_connections_are_counted_as_opened_open_and_closed_by_reason() -> None:
    counters = Counters()
    instruments = Instruments([counters])
    for _ in range(3):
        instruments.connection_opened(CONNECTION)
    instruments.connection_closed(closing(why="idle for too long"))
    instruments.connection_closed(closing(why="idle for too long"))
    assert (counters.connections_opened, counters.connections_open) == (3, 1)
    assert counters.connections_closed == {"idle for too long": 2}


def test_refused_connections_are_counted_by_reason_and_are_not_opened() -> None:
    counters = Counters()
    instruments = Instruments([counters])
    instruments.connection_refused(("192.0.2.1", 1), "too many connections")
    instruments.connection_refused(None, "TLS handshake: bad certificate")
    assert counters.connections_refused == {"too many connections": 1, "TLS handshake": 1}
    assert counters.connections_opened == counters.connections_open == 0


def test_exchanges_are_counted_when_they_start_and_when_they_end() -> None:
    counters = Counters()
    instruments = Instruments([counters])
    for number in (1, 2):
        instruments.exchange_started(CONNECTION, number, "GET", "/")
    instruments.exchange_finished(exchange())
    assert (counters.exchanges_started, counters.exchanges_open) == (2, 1)


def test_responses_are_counted_by_the_class_of_their_status() -> None:
    statuses = (101, 200, 204, 302, 404, 418, 500, None, 599)
    counters = fed(*(exchange(status=status) for status in statuses))
    assert counters.responses == {"1xx": 1, "2xx": 2, "3xx": 1, "4xx": 2, "5xx": 2, "none": 1}


def test_content_is_summed_up_both_ways() -> None:
    counters = fed(
        exchange(request_bytes=10, response_bytes=100), exchange(request_bytes=5, response_bytes=0)
    )
    assert (counters.request_bytes, counters.response_bytes) == (15, 100)


def test_cancelled_handlers_are_counted_by_reason() -> None:
    reasons = ("client disconnected", "drain", None, "client disconnected", "write stalled: 0 bytes")
    counters = fed(*(exchange(cancel_reason=reason) for reason in reasons))
    assert counters.cancelled == {"client disconnected": 2, "drain": 1, "write stalled": 1}


def test_several_errors_of_one_handler_are_one_failure() -> None:
    group = ExceptionGroup("two", [ValueError(), KeyError()])
    counters = fed(exchange(), exchange(error=group, status=500), exchange(error=OSError(), status=None))
    assert counters.handler_errors == 2


def test_what_a_client_chooses_is_no_key() -> None:
    """Or a client could fill the memory with keys: one a method, a target or a cause."""
    counters = fed(
        *(exchange(method=f"M{n}", target=f"/{n}", cancel_reason=f"aborted: {n}") for n in range(100))
    )
    for tally in (counters.responses, counters.cancelled, counters.connections_closed):
        assert len(tally) == 1


def test_durations_fall_into_buckets_that_include_their_bound() -> None:
    durations = (0.0, 1.0, 1.5, 2.0, 2.000001, 100.0)
    counters = fed(*(exchange(duration=duration) for duration in durations), duration_buckets=[1, 2, 3])
    assert counters.duration_counts == [2, 2, 1, 1]
    assert counters.cumulative_durations() == [(1, 2), (2, 4), (3, 5), (math.inf, 6)]
    assert counters.duration_sum == pytest.approx(106.500001)


@given(st.lists(st.floats(min_value=0, max_value=20), max_size=30))
def test_the_histogram_says_how_many_took_no_longer_than_each_bound(durations: list[float]) -> None:
    counters = fed(*(exchange(duration=duration) for duration in durations))
    for bound, count in counters.cumulative_durations():
        assert count == sum(duration <= bound for duration in durations)


def test_without_buckets_everything_is_counted_in_one() -> None:
    assert fed(exchange(), duration_buckets=()).cumulative_durations() == [(math.inf, 1)]


@pytest.mark.parametrize("bounds", [[0], [-1], [math.inf], [math.nan], [1, 1], [2, 1]])
def test_bounds_that_make_no_histogram_are_refused(bounds: list[float]) -> None:
    with pytest.raises(ValueError, match="positive, finite and ascending"):
        Counters(duration_buckets=bounds)


def test_one_object_may_count_for_several_servers() -> None:
    counters = Counters()
    for instruments in (Instruments([counters]), Instruments([counters])):
        instruments.connection_opened(CONNECTION)
    assert counters.connections_open == 2
