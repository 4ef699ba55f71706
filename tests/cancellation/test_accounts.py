"""What is told of exchanges that a cancel or an error has ended, and that telling it costs no connection."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.client._network import OK, answering, client_of, in_pool
from trio_http import Auth, AuthRequest, Response, ResponseIncomplete, Retry
from trio_http.client import ClientConnection, RetryBudget
from trio_http.instruments import ClientExchangeRecord, ClientInstrument


class Told(ClientInstrument):
    """Keeps what it is told of exchanges."""

    def __init__(self) -> None:
        self.exchanges: list[ClientExchangeRecord] = []

    def exchange_finished(self, exchange: ClientExchangeRecord) -> None:
        self.exchanges.append(exchange)


async def test_a_request_that_is_cancelled_before_it_was_sent_has_none_of_the_facts_of_the_one_before() -> (
    None
):
    """The connection goes back unused; what it carried before is not this request's."""
    told = Told()
    async with client_of(answering(OK), instruments=[told]) as (client, _):
        await client.get("http://example.org/")
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.get("http://example.org/")
        assert await in_pool(client) == (0, 1)
    first, second = told.exchanges
    assert (first.outcome, first.status, first.may_have_acted, first.number) == ("complete", 200, True, 1)
    assert (second.outcome, second.fate) == ("cancelled", "kept")
    assert (second.status, second.may_have_acted, second.bytes_sent) == (None, False, 0)


def fail(_: object) -> None:
    raise LookupError("of the report")


CLOSING = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("ending", ["complete", "last", "streamed", "cut"])
async def test_a_report_that_raises_is_logged_and_costs_no_connection(
    ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    match ending:
        case "last":
            peers = [answering(CLOSING), answering(OK)]
        case "cut":
            peers = [answering(CUT).send_eof(), answering(OK)]
        case _:
            peers = [answering(OK, OK)]
    async with client_of(*peers, max_connections=1) as (client, _):
        if ending == "streamed":
            async with client.stream("GET", "http://example.org/", report=fail) as response:
                assert await response.read() == b"ok"
        elif ending == "cut":
            with pytest.raises(ResponseIncomplete):
                await client.get("http://example.org/", report=fail)
        else:
            assert (await client.get("http://example.org/", report=fail)).content == b"ok"
        assert (await in_pool(client))[0] == 0
        with trio.fail_after(5):
            assert (await client.get("http://example.org/")).content == b"ok"
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["of the report"]


async def test_a_report_that_raises_leaves_a_single_connection_to_be_used_or_closed() -> None:
    peer = answering(OK, CLOSING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        async with ClientConnection(peer.stream, base_url="http://a") as connection:
            assert (await connection.get("/", report=fail)).content == b"ok"
            assert not connection.closed
            assert (await connection.get("/", report=fail)).content == b"ok"
            assert connection.closed


class _Unsendable(Auth):
    """Answers a 401 with what no field can hold."""

    async def answer(self, request: AuthRequest, response: Response, round: int) -> dict[str, str]:
        return {"authorization": "a\r\nb"}


async def test_credentials_that_cannot_be_sent_cost_no_connection() -> None:
    refusal = b"HTTP/1.1 401 Who\r\nWWW-Authenticate: Odd\r\nContent-Length: 0\r\n\r\n"
    async with client_of(answering(refusal), max_connections=1) as (client, _):
        with pytest.raises(Exception, match=r"(?i)field|value|header"):
            await client.get("http://example.org/", auth=_Unsendable())
        leased, _ = await in_pool(client)
        assert leased == 0


async def test_a_retry_that_is_cancelled_in_its_wait_gives_its_token_back(autojump_clock: MockClock) -> None:
    later = b"HTTP/1.1 503 Later\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
    budget = RetryBudget(ratio=0.0, minimum_per_second=0.0, capacity=3.0)
    tokens = budget.tokens
    retry = Retry(budget=budget, jitter=False)
    async with client_of(answering(later), retry=retry) as (client, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, "http://example.org/")
            await trio.sleep(1)
            assert budget.tokens == tokens - 1
            nursery.cancel_scope.cancel()
        assert budget.tokens == tokens
        assert await in_pool(client) == (0, 1)
