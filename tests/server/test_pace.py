"""The patience that a client has while it is waited for: how it uses it up, and how it gets it back."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from trio_http.connection import Pace

# Whole numbers, for which floats are exact, so that "never" can be tested for what it says.
SECONDS = st.integers(0, 60)
RATES = st.integers(1, 10_000)


@given(RATES, st.lists(st.tuples(SECONDS, st.integers(0, 1000)), max_size=30))
def test_a_client_at_or_above_the_rate_keeps_all_its_patience(
    rate: int, waits: list[tuple[int, int]]
) -> None:
    """S12, S13. However uneven it is: each wait is no longer than the stall limit, and brings at least what
    the rate asks for."""
    pace, now = Pace(60, rate), 1000.0
    for gap, more in waits:
        assert pace.start(now) == now + 60
        now += gap
        assert pace.stop(now, rate * gap + more)


@given(st.integers(1, 10_000), st.integers(0, 10**9), st.sampled_from([0, 1, 240]))
def test_a_client_that_sends_nothing_is_cut_after_exactly_the_stall_limit(
    stall: int, now: int, rate: float
) -> None:
    pace = Pace(stall, rate)
    assert pace.start(now) == now + stall
    assert pace.stop(now + stall - 1, 0)
    assert pace.start(now + stall - 1) == now + stall
    assert not pace.stop(now + stall, 0)


@given(
    st.floats(0.1, 100),
    st.floats(1, 1e6),
    st.lists(st.tuples(st.floats(0, 200), st.integers(0, 10**7)), min_size=1),
)
def test_patience_never_exceeds_the_stall_limit(
    stall: float, rate: float, waits: list[tuple[float, int]]
) -> None:
    """What a client is ahead is not saved up: a fast beginning does not buy an hour of silence."""
    pace, now = Pace(stall, rate), 0.0
    for gap, count in waits:
        pace.start(now)
        now += gap
        pace.stop(now, count)
        assert pace.start(now) <= now + stall


@given(st.floats(1e-3, 100), st.floats(1, 1e6), st.lists(st.tuples(st.floats(0, 50), st.integers(0, 10**6))))
def test_who_is_told_that_patience_is_left_is_never_given_a_deadline_that_has_passed(
    stall: float, rate: float, waits: list[tuple[float, int]]
) -> None:
    """A rest of patience too small to be added to the clock once had the server look at the same client for
    ever, and at nobody else."""
    pace, now = Pace(stall, rate), 123_456.789
    for gap, count in waits:
        pace.start(now)
        now += gap
        pace.stop(now, count)
        end = pace.start(now)
        if end > now and pace.stop(end, 0):
            now = end
            assert pace.start(now) > now


@given(st.integers(1, 100), st.integers(2, 10_000).map(lambda half: 2 * half))
def test_a_client_at_half_the_rate_lasts_twice_the_stall_limit(stall: int, rate: int) -> None:
    pace, now = Pace(stall, rate), 0.0
    seconds = 0
    while pace.stop(now, rate // 2 if seconds else 0):
        pace.start(now)
        now += 1
        seconds += 1
    assert seconds == 2 * stall


def test_without_a_rate_any_byte_restores_all_patience() -> None:
    pace = Pace(60, 0)
    pace.start(0)
    assert pace.stop(59, 1)
    assert pace.start(100) == 160


@pytest.mark.parametrize("rate", [0, 240])
def test_an_endless_stall_limit_is_no_limit_on_the_rate_either(rate: float) -> None:
    pace = Pace(math.inf, rate)
    assert pace.start(0) == math.inf
    assert pace.stop(1e9, 0)
    assert pace.start(1e9) == math.inf


def test_a_longer_stall_limit_adds_the_difference_to_the_patience_in_hand() -> None:
    pace = Pace(60, 100)
    pace.start(0)
    pace.stop(20, 0)
    pace.adjust(100, 100)
    assert pace.start(20) == 20 + 40 + 40
    pace.adjust(math.inf, 100)
    assert pace.start(20) == math.inf


@pytest.mark.parametrize(("stall", "left"), [(50, 40), (40, 40), (5, 5)])
def test_a_shorter_stall_limit_is_all_that_is_left_at_most(stall: float, left: float) -> None:
    """A client that was within its limits is not cut for a change that nobody told it of."""
    pace = Pace(60, 100)
    pace.start(0)
    pace.stop(20, 0)
    pace.adjust(stall, 100)
    assert pace.start(20) == 20 + left


def test_an_endless_stall_limit_can_be_ended() -> None:
    pace = Pace(math.inf, 100)
    pace.start(0)
    pace.stop(1000, 0)
    pace.adjust(math.inf, 50)
    pace.adjust(30, 50)
    assert pace.start(1000) == 1030


def test_speed_counts_the_waits_alone_and_is_unknown_without_one() -> None:
    pace = Pace(60, 0)
    assert pace.speed is None
    pace.start(0)
    pace.stop(0, 100)
    assert pace.speed is None
    pace.start(50)
    pace.stop(60, 900)
    assert pace.speed == 100
    assert (pace.moved, pace.waited, pace.waiting) == (1000, 10, False)
