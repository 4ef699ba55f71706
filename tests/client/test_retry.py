"""When a request is made once more (C46, A52): the policy, the budget, and the wait."""

from __future__ import annotations

import itertools
import random
import ssl
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_http import Headers, Request, Response
from trio_http._errors import (
    ConnectFailed,
    ConnectionLost,
    ContentTooLarge,
    HTTPError,
    InvalidRequest,
    PoolClosed,
    RequestFacts,
    RequestFailed,
    ResponseIncomplete,
    ResponseInvalid,
    StatusError,
)
from trio_http.client import Client
from trio_http.client._retry import Retry, RetryBudget
from trio_http.testing import cancel_at_every_step, open_client

NOTHING = Headers()
PLAIN = Retry(budget=None, jitter=False)
IDEMPOTENT = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]


def facts(*, may_have_acted: bool) -> RequestFacts:
    return RequestFacts(method="GET", url="http://a/", may_have_acted=may_have_acted)


def lost(*, may_have_acted: bool = True) -> ConnectionLost:
    return ConnectionLost("the connection was lost", facts(may_have_acted=may_have_acted))


def after_error(error: HTTPError, retry: Retry = PLAIN, **changes: Any) -> float | None:
    arguments: dict[str, Any] = {"method": "GET", "repeatable": True, "attempt": 1} | changes
    return retry.delay_after_error(error, **arguments)


def after(status: int, headers: Headers = NOTHING, retry: Retry = PLAIN, **changes: Any) -> float | None:
    arguments: dict[str, Any] = {"method": "GET", "repeatable": True, "attempt": 1} | changes
    return retry.delay_after_response(status, headers, **arguments)


# -------------------------------------------------------------------------------------------- what is retried


@pytest.mark.parametrize("method", IDEMPOTENT)
def test_an_idempotent_request_is_made_again_whatever_the_server_did(method: str) -> None:
    assert after_error(lost(may_have_acted=True), method=method) == 0.5
    assert after(503, method=method) == 0.5


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "get", "FROB"])
def test_another_request_is_made_again_only_if_the_server_cannot_have_acted(method: str) -> None:
    assert after_error(lost(may_have_acted=True), method=method) is None
    assert after_error(lost(may_have_acted=False), method=method) == 0.5
    assert after(503, method=method) is None


def test_further_methods_can_be_declared_harmless() -> None:
    retry = attrs.evolve(PLAIN, methods=["POST"])
    assert after_error(lost(), retry, method="POST") == 0.5
    assert after(503, NOTHING, retry, method="POST") == 0.5
    assert after_error(lost(), retry, method="GET") is None


def test_content_that_cannot_be_sent_again_is_not() -> None:
    assert after_error(lost(may_have_acted=False), repeatable=False) is None
    assert after(503, repeatable=False) is None


@pytest.mark.parametrize("kind", [ConnectFailed, ConnectionLost, ResponseIncomplete])
def test_errors_that_pass_with_time_are_retried(kind: type[RequestFailed]) -> None:
    assert after_error(kind("it broke", facts(may_have_acted=False))) == 0.5


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("no such method"),
        PoolClosed("the client is closed", facts(may_have_acted=False)),
        ResponseInvalid("two lengths", facts(may_have_acted=False)),
        ContentTooLarge("64 MiB", facts(may_have_acted=False)),
        StatusError(Response(503), "http://a/"),
        RequestFailed("in a way nobody knows yet", facts(may_have_acted=False)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_would_be_the_same_again_are_not_retried(error: HTTPError) -> None:
    assert after_error(error) is None


def test_a_certificate_that_is_not_trusted_is_not_asked_for_again() -> None:
    error = ConnectFailed("no connection", facts(may_have_acted=False))
    error.__cause__ = trio.BrokenResourceError("TLS")
    assert after_error(error) == 0.5
    error.__cause__.__cause__ = ssl.SSLCertVerificationError("self-signed")
    assert after_error(error) is None


@pytest.mark.parametrize("status", [200, 301, 404, 408, 425, 429, 500, 501, 502, 503, 504, 505])
def test_only_statuses_that_mean_later_are_retried(status: int) -> None:
    assert after(status) == (0.5 if status in (429, 502, 503, 504) else None)
    assert after(status, NOTHING, attrs.evolve(PLAIN, statuses={status})) == 0.5


def test_the_attempts_are_counted_with_the_first() -> None:
    assert [after(503, attempt=attempt) is None for attempt in (1, 2, 3, 4)] == [False, False, True, True]
    assert after(503, NOTHING, attrs.evolve(PLAIN, attempts=1)) is None
    assert after_error(lost(), attempt=3) is None


# ------------------------------------------------------------------------------------------------- how late


def test_each_wait_is_twice_as_long_up_to_a_limit() -> None:
    retry = attrs.evolve(PLAIN, attempts=10_000)
    waits = [after(503, NOTHING, retry, attempt=attempt) for attempt in range(1, 9)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert after(503, NOTHING, retry, attempt=9_999) == 30
    assert after_error(lost(), attrs.evolve(retry, backoff=0), attempt=9_999) == 0


def test_jitter_takes_any_part_of_the_wait_and_repeats_itself_by_its_dice() -> None:
    seed = 46
    print(f"seed {seed}")
    retry = Retry(budget=None, attempts=10, rng=random.Random(seed))
    again = Retry(budget=None, attempts=10, rng=random.Random(seed))
    waits = [after(503, NOTHING, retry, attempt=4) for _ in range(200)]
    assert waits == [after(503, NOTHING, again, attempt=4) for _ in range(200)]
    known = [wait for wait in waits if wait is not None]
    assert len(known) == 200
    assert 0 <= min(known) < 0.4 < 3.6 < max(known) <= 4  # between nothing and 0.5 * 2 ** 3


def test_retry_after_takes_the_place_of_the_backoff() -> None:
    headers = Headers({"retry-after": "7"})
    assert after(503, headers, attempt=2) == 7
    assert after(429, Headers({"retry-after": "0"}), attempt=2) == 0
    assert after(503, headers, attrs.evolve(PLAIN, honour_retry_after=False), attempt=2) == 1
    assert after(503, Headers({"retry-after": "soon"}), attempt=2) == 1


def test_jitter_adds_to_retry_after_so_that_nobody_comes_early() -> None:
    seed = 7
    print(f"seed {seed}")
    retry = Retry(budget=None, rng=random.Random(seed))
    waits = [after(503, Headers({"retry-after": "7"}), retry, attempt=2) for _ in range(50)]
    assert all(wait is not None and 7 <= wait <= 8 for wait in waits)
    assert len(set(waits)) > 40


def test_a_longer_retry_after_than_the_policy_allows_is_not_waited_for() -> None:
    assert after(503, Headers({"retry-after": "60"})) == 60
    assert after(503, Headers({"retry-after": "61"})) is None
    assert after(503, Headers({"retry-after": "9" * 6000})) is None


def test_a_redirect_may_be_told_to_wait() -> None:
    no_attempts = attrs.evolve(PLAIN, attempts=1)
    assert no_attempts.delay_before_redirect(Headers({"retry-after": "7"})) == 7
    assert PLAIN.delay_before_redirect(NOTHING) == 0
    assert PLAIN.delay_before_redirect(Headers({"retry-after": "61"})) is None
    deaf = attrs.evolve(PLAIN, honour_retry_after=False)
    assert deaf.delay_before_redirect(Headers({"retry-after": "61"})) == 0


# -------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"backoff": -1},
        {"backoff": float("nan")},
        {"max_backoff": float("inf")},
        {"max_retry_after": float("inf")},
        {"statuses": [99]},
        {"statuses": [600]},
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Retry(**options)


@pytest.mark.parametrize(
    "options",
    [{"attempts": 2.5}, {"methods": "POST"}, {"methods": [b"POST"]}, {"statuses": ["503"]}, {"budget": 9}],
)
def test_settings_of_the_wrong_kind_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Retry(**options)


def test_attempts_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="from 1, not 0"):
        after(503, attempt=0)


def test_policies_compare_by_how_they_wait() -> None:
    assert Retry() == Retry()
    assert Retry() != Retry(attempts=4)
    assert Retry().budget is not Retry().budget


@pytest.mark.parametrize(
    "arguments", [{"ratio": -1}, {"minimum_per_second": float("inf")}, {"capacity": 0.5}]
)
def test_a_budget_out_of_range_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RetryBudget(**arguments)


# --------------------------------------------------------------------------------------------------- budget


async def test_retries_are_a_part_of_the_requests(mock_clock: MockClock) -> None:
    budget = RetryBudget(ratio=0.1, minimum_per_second=0, capacity=5)
    assert [budget.withdraw() for _ in range(6)] == [True] * 5 + [False]
    retries = 0
    for _ in range(1000):
        budget.deposit()
        retries += budget.withdraw()
    assert retries == 100


async def test_a_client_that_asks_seldom_has_its_minimum(mock_clock: MockClock) -> None:
    budget = RetryBudget(ratio=0, minimum_per_second=0.5, capacity=1)
    assert budget.withdraw()
    retries = 0
    for _ in range(100):
        mock_clock.jump(0.25)
        retries += budget.withdraw()
    assert retries == 12  # in 25 seconds


async def test_no_more_is_saved_up_than_the_budget_holds(mock_clock: MockClock) -> None:
    budget = RetryBudget(ratio=1, minimum_per_second=1, capacity=3)
    mock_clock.jump(1e6)
    for _ in range(100):
        budget.deposit()
    budget.give_back()
    assert budget.tokens == 3


def test_a_budget_survives_a_clock_that_begins_again() -> None:
    budget = RetryBudget(ratio=0, minimum_per_second=1, capacity=2)

    async def use(now: float, clock: MockClock) -> bool:
        await trio.lowlevel.checkpoint()
        clock.jump(now)
        return budget.withdraw()

    for now, expected in [(1e6, True), (5, True), (1, False)]:
        clock = MockClock()
        assert trio.run(use, now, clock, clock=clock) is expected


async def test_an_empty_budget_ends_retrying(mock_clock: MockClock) -> None:
    retry = Retry(budget=RetryBudget(ratio=0.5, minimum_per_second=0, capacity=1), jitter=False)
    assert after(503, NOTHING, retry) == 0.5
    assert after(503, NOTHING, retry) == 0.5, "to ask is not to take"
    assert retry.claim(0.5)
    assert after(503, NOTHING, retry) is None
    assert after_error(lost(), retry) is None
    assert not retry.claim(0.5)
    retry.count_request()
    assert after(503, NOTHING, retry) is None
    retry.count_request()
    assert after(503, NOTHING, retry) == 0.5


# ---------------------------------------------------------------------------------------------------- waiting


async def test_a_pause_takes_its_time_and_a_token(autojump_clock: MockClock) -> None:
    retry = Retry(budget=RetryBudget(0, 0, 2))
    assert retry.budget is not None
    assert await retry.pause(3)
    assert (trio.current_time(), retry.budget.tokens) == (3, 1)


@pytest.mark.parametrize(("limit", "waits"), [(2.9, False), (3, False), (3.1, True)])
async def test_a_pause_never_goes_past_the_deadline(
    limit: float, waits: bool, autojump_clock: MockClock
) -> None:
    """A52: the time that is left is the caller's, to do something with what there is."""
    retry = Retry(budget=RetryBudget(0, 0, 2))
    assert retry.budget is not None
    with trio.fail_after(100), trio.fail_after(limit):
        assert await retry.pause(3) is waits
    assert trio.current_time() == (3 if waits else 0)
    assert retry.budget.tokens == (1 if waits else 2)


async def test_a_pause_that_is_refused_is_a_checkpoint(mock_clock: MockClock) -> None:
    retry = Retry(budget=RetryBudget(0, 0, 1))
    assert retry.claim(0)
    with trio.testing.assert_checkpoints():
        assert not await retry.pause(0)
    with trio.CancelScope() as scope:
        scope.cancel()
        await retry.pause(0)
    assert scope.cancelled_caught


async def test_a_pause_that_is_cancelled_gives_its_token_back(autojump_clock: MockClock) -> None:
    budget = RetryBudget(0, 0, 1)
    finished = False

    async def scenario() -> None:
        nonlocal finished
        finished = await Retry(budget=budget).pause(5)

    def check() -> None:
        nonlocal finished
        if finished:
            budget.give_back()
        finished = False
        assert budget.tokens == 1

    report = await cancel_at_every_step(scenario, check=check)
    assert any("pause" in point.within for point in report.points)


# --------------------------------------------------------------------------------------- round a real client


async def send(client: Client, retry: Retry, method: str = "GET") -> Response:
    """As the docstring of `Retry` has it."""
    retry.count_request()
    for attempt in itertools.count(1):
        try:
            response = await client.request(method, "/")
        except RequestFailed as error:
            delay = retry.delay_after_error(error, method=method, repeatable=True, attempt=attempt)
            if delay is None or not await retry.pause(delay):
                raise
        else:
            delay = retry.delay_after_response(
                response.status, response.headers, method=method, repeatable=True, attempt=attempt
            )
            if delay is None or not await retry.pause(delay):
                return response
    raise AssertionError("not reached")


async def test_a_server_that_recovers_is_waited_for_with_nothing_held(autojump_clock: MockClock) -> None:
    """C46: statuses, Retry-After and backoff together."""
    times: list[float] = []

    async def app(request: Request) -> Response:
        times.append(trio.current_time())
        match len(times):
            case 1:
                return Response(503)
            case 2:
                return Response(429, headers={"retry-after": "10"})
        return Response(text="well again")

    async with open_client(app) as client, trio.open_nursery() as nursery:

        async def look() -> None:
            await trio.sleep(0.25)
            assert (client.statistics().leased, client.statistics().idle) == (0, 1)

        nursery.start_soon(look)
        assert (await send(client, Retry(jitter=False))).text == "well again"
    assert times == [0, 0.5, 10.5]


async def test_the_last_answer_is_handed_out_when_there_is_no_time_for_another(
    autojump_clock: MockClock,
) -> None:
    async def app(request: Request) -> Response:
        return Response(503, text="in a minute", headers={"retry-after": "60"})

    async with open_client(app) as client:
        with trio.fail_after(30):
            assert (await send(client, Retry())).text == "in a minute"
        assert trio.current_time() == 0


async def test_a_server_that_is_not_there_is_dialed_again(autojump_clock: MockClock) -> None:
    times: list[float] = []

    async def dial(*_: Any) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        times.append(trio.current_time())
        raise OSError("nobody listens there")

    async with Client(base_url="http://a", dial=dial) as client:
        with pytest.raises(ConnectFailed, match="nobody listens there"):
            await send(client, Retry(jitter=False), "POST")
    assert times == [0, 0.5, 1.5]
