"""Requests made again by a policy (C46, A51, A52): what is tried again, when, and what is held meanwhile."""

from __future__ import annotations

import email.utils
import random
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.client._contents import generated
from tests.client._network import OK, URL, answering, client_of, in_pool
from tests.client._web import HERE, web
from trio_http import (
    Auth,
    AuthRequest,
    ConnectFailed,
    ConnectionLost,
    Request,
    RequestFailed,
    Response,
    ResponseIncomplete,
    ResponseInvalid,
    Retry,
    RetryBudget,
)
from trio_http.testing import ScriptedPeer

START = f"{HERE}/start"
STEADY = Retry(jitter=False, budget=None)  # waits 0.5 s, then 1 s
BUSY = b"HTTP/1.1 503 Service Unavailable\r\n%sContent-Length: 4\r\n\r\nbusy"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"


class Recovering:
    """A handler that answers so many times with a status before it answers with 200.

    Attributes:
      at: when it was asked.
    """

    def __init__(self, failures: int, status: int = 503, **fields: str) -> None:
        self.at: list[float] = []
        self._failures = failures
        self._status = status
        self._fields = {name.replace("_", "-"): value for name, value in fields.items()}

    async def __call__(self, request: Request) -> Response:
        self.at.append(trio.current_time())
        if len(self.at) <= self._failures:
            return Response(self._status, text="busy", headers=self._fields)
        return Response(text="at last")


# ------------------------------------------ statuses


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_server_that_says_later_is_asked_later(status: int, autojump_clock: MockClock) -> None:
    server = Recovering(2, status)
    async with web({START: server}, retry=STEADY) as (client, world):
        assert (await client.get(START)).text == "at last"
        assert client.statistics().idle == 1
    assert server.at == [0, 0.5, 1.5]
    assert world.dialed == [HERE], "a wait gives the connection back"


@pytest.mark.parametrize("status", [400, 401, 404, 408, 500, 501])
async def test_no_other_status_is_asked_again(status: int, autojump_clock: MockClock) -> None:
    server = Recovering(9, status)
    async with web({START: server}, retry=STEADY) as (client, _):
        assert (await client.get(START)).status == status
    assert server.at == [0]


async def test_the_last_answer_is_the_callers_with_its_content(autojump_clock: MockClock) -> None:
    server = Recovering(9)
    async with web({START: server}, retry=STEADY) as (client, _):
        response = await client.get(START)
        assert (response.status, response.text) == (503, "busy")
        async with client.stream("GET", START) as streamed:
            assert (streamed.status, await streamed.read()) == (503, b"busy")
    assert len(server.at) == 6


@pytest.mark.parametrize(
    ("method", "asked"), [("GET", 3), ("PUT", 3), ("DELETE", 3), ("POST", 1), ("PATCH", 1)]
)
async def test_only_what_does_no_harm_is_asked_again(
    method: str, asked: int, autojump_clock: MockClock
) -> None:
    server = Recovering(9)
    async with web({START: server}, retry=STEADY) as (client, _):
        assert (await client.request(method, START, content=b"x")).status == 503
    assert len(server.at) == asked


async def test_content_that_was_used_up_is_not_sent_again(autojump_clock: MockClock) -> None:
    server = Recovering(9)
    async with web({START: server}, retry=STEADY) as (client, world):
        assert (await client.put(START, content=generated(b"once"))).status == 503
        assert len(server.at) == 1
        assert (await client.put(START, content=b"often")).status == 503
    assert [asked.content for asked in world.asked] == [b"once"] + [b"often"] * 3


async def test_a_request_has_its_own_policy_or_none(autojump_clock: MockClock) -> None:
    server = Recovering(2)
    async with web({START: server}, retry=STEADY) as (client, _):
        assert (await client.get(START, retry=None)).status == 503
        assert (await client.get(START, retry=Retry(statuses={500}))).status == 503
        assert (await client.get(START)).status == 200
    assert len(server.at) == 3


# ------------------------------------------ Retry-After


def date_in(seconds: float) -> dict[str, str]:
    start = 1_700_000_000
    return {
        "Date": email.utils.formatdate(start, usegmt=True),
        "Retry_After": email.utils.formatdate(start + seconds, usegmt=True),
    }


@pytest.mark.parametrize(
    ("fields", "wait"),
    [({"Retry_After": "7"}, 7), (date_in(9), 9), (date_in(-9), 0), ({"Retry_After": "soon"}, 0.5)],
    ids=["seconds", "date", "past date", "malformed"],
)
async def test_a_server_says_when(fields: dict[str, str], wait: float, autojump_clock: MockClock) -> None:
    server = Recovering(1, 503, **fields)
    async with web({START: server}, retry=STEADY) as (client, _):
        assert (await client.get(START)).status == 200
    assert server.at == [0, wait]


@pytest.mark.parametrize("seconds", ["61", "9" * 5000])
async def test_a_server_that_asks_for_too_much_time_is_not_waited_for(
    seconds: str, autojump_clock: MockClock
) -> None:
    server = Recovering(9, Retry_After=seconds)
    async with web({START: server}, retry=STEADY) as (client, _):
        assert (await client.get(START)).headers["retry-after"] == seconds
    assert server.at == [0]


@pytest.mark.parametrize("limit", [7, 5, 0.1])
async def test_no_wait_goes_past_the_deadline(limit: float, autojump_clock: MockClock) -> None:
    """A52: what there is comes out at once, instead of a cancel later."""
    server = Recovering(9, Retry_After="7")
    async with web({START: server}, retry=STEADY) as (client, _):
        with trio.fail_after(limit):
            assert (await client.get(START)).text == "busy"
        assert trio.current_time() == 0
        with trio.fail_after(limit):
            async with client.stream("GET", START) as streamed:
                assert await streamed.read() == b"busy"
        assert trio.current_time() == 0
        with trio.fail_after(7.5):
            assert (await client.get(START)).status == 503
        assert trio.current_time() == 7


# ------------------------------------------ errors


async def test_a_server_that_is_not_there_is_dialed_again(autojump_clock: MockClock) -> None:
    async with client_of(retry=STEADY) as (client, network):
        with pytest.raises(ConnectFailed):
            await client.post(URL, content=b"x")
        assert (len(network.dialed), trio.current_time()) == (3, 1.5)


@pytest.mark.parametrize(("method", "asked"), [("GET", 3), ("POST", 1)])
async def test_a_lost_connection_is_tried_again_when_that_does_no_harm(
    method: str, asked: int, autojump_clock: MockClock
) -> None:
    peers = [ScriptedPeer().expect_until(b"\r\n\r\n").reset() for _ in range(3)]
    async with client_of(*peers, retry=STEADY) as (client, network):
        with pytest.raises(ConnectionLost):
            await client.request(method, URL)
        assert len(network.dialed) == asked


async def test_an_answer_that_ends_in_its_head_is_tried_again(autojump_clock: MockClock) -> None:
    peer = ScriptedPeer().expect_until(b"\r\n\r\n").send(b"HTTP/1.1 200 OK\r\nConte").close()
    async with client_of(peer, answering(OK), retry=STEADY) as (client, _):
        assert (await client.get(URL)).content == b"ok"


async def test_content_that_did_not_come_whole_is_tried_again(autojump_clock: MockClock) -> None:
    async with client_of(answering(CUT).close(), answering(OK), retry=STEADY) as (client, _):
        assert (await client.get(URL)).content == b"ok"


async def test_the_flow_tries_content_again_that_did_not_come_whole(autojump_clock: MockClock) -> None:
    peers = [answering(CUT).close(), answering(BUSY % b"", CUT).close()]
    async with client_of(*peers, retry=STEADY) as (client, network):
        with pytest.raises(ResponseIncomplete):
            await client._flow.whole(client._planner.plan("GET", URL))
        assert await in_pool(client) == (0, 0)
        assert len(network.dialed) == 2
    async with client_of(answering(CUT).close(), retry=STEADY) as (client, _):
        with pytest.raises(ResponseIncomplete):
            await client._flow.whole(client._planner.plan("POST", URL))
    async with client_of(answering(CUT).close(), answering(OK), retry=STEADY) as (client, _):
        assert (await client._flow.whole(client._planner.plan("GET", URL))).content == b"ok"


async def test_a_streamed_body_that_breaks_off_is_the_callers(autojump_clock: MockClock) -> None:
    """A52: what was handed out cannot be taken back."""
    async with client_of(answering(BUSY % b"", CUT).close(), retry=STEADY) as (client, network):
        with pytest.raises(ResponseIncomplete):
            async with client.stream("GET", URL) as streamed:
                await streamed.read()
        assert len(network.dialed) == 1


@pytest.mark.parametrize("garbage", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
async def test_what_breaks_the_protocol_is_not_asked_for_again(
    garbage: bytes, autojump_clock: MockClock
) -> None:
    async with client_of(answering(garbage), answering(OK), retry=STEADY) as (client, network):
        with pytest.raises(ResponseInvalid):
            await client.get(URL)
        assert len(network.dialed) == 1


async def test_the_error_comes_out_at_once_when_there_is_no_time_for_another_attempt(
    autojump_clock: MockClock,
) -> None:
    async with client_of(retry=STEADY) as (client, _):
        with pytest.raises(ConnectFailed), trio.fail_after(0.5):
            await client.get(URL)
        assert trio.current_time() == 0


# ------------------------------------------ budget and cancel


async def test_a_budget_bounds_what_a_server_in_trouble_is_asked(autojump_clock: MockClock) -> None:
    budget = RetryBudget(ratio=0.1, minimum_per_second=0, capacity=10)
    policy = Retry(attempts=5, backoff=0, jitter=False, budget=budget)
    server = Recovering(10_000)
    async with web({START: server}, retry=policy) as (client, _):
        for _ in range(100):
            assert (await client.get(START)).status == 503
    assert 100 + 10 + 9 <= len(server.at) <= 100 + 10 + 10


async def test_a_cancel_in_the_wait_finds_nothing_held(autojump_clock: MockClock) -> None:
    """A52: neither a connection nor a token."""
    budget = RetryBudget(ratio=0, minimum_per_second=0, capacity=3)
    policy = Retry(backoff=10, jitter=False, budget=budget)
    async with web({START: Recovering(9)}, retry=policy, max_connections=1) as (client, world):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, START)
            await trio.sleep(1)
            counts = client.statistics()
            assert (counts.leased, counts.idle, budget.tokens) == (0, 1, 2)
            assert (await client.get(f"{HERE}/meanwhile")).status == 200
            nursery.cancel_scope.cancel()
        assert budget.tokens == 3
    assert len(world.asked) == 2


async def test_a_cancel_in_the_wait_after_an_error_finds_nothing_held(autojump_clock: MockClock) -> None:
    budget = RetryBudget(ratio=0, minimum_per_second=0, capacity=3)
    async with client_of(retry=Retry(backoff=10, jitter=False, budget=budget)) as (client, _):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.get, URL)
                await trio.sleep(1)
                scope.cancel()
        assert budget.tokens == 3
        assert await in_pool(client) == (0, 0)


async def test_the_rest_of_an_answer_is_waited_for_no_longer_than_the_retry(
    autojump_clock: MockClock,
) -> None:
    """The wait has begun when the head came."""
    slow = BUSY[:-4] % b""
    async with client_of(answering(slow), answering(OK), retry=STEADY) as (client, _):
        assert (await client.get(URL)).status == 200
        assert trio.current_time() == 0.5
        assert await in_pool(client) == (0, 1)


@pytest.mark.parametrize("seed", range(5))
async def test_clients_that_failed_together_do_not_come_back_together(
    seed: int, autojump_clock: MockClock
) -> None:
    server = Recovering(20)
    policy = Retry(rng=random.Random(seed), backoff=8, budget=None)
    async with (
        web({START: server}, retry=policy, max_connections_per_origin=30) as (client, _),
        trio.open_nursery() as nursery,
    ):
        for _ in range(20):
            nursery.start_soon(client.get, START)
    assert server.at[:20] == [0] * 20
    assert len({round(at, 6) for at in server.at[20:]}) == 20, f"seed {seed}"
    assert max(server.at) <= 8


async def test_credentials_are_made_anew_for_each_attempt(autojump_clock: MockClock) -> None:
    class Dated(Auth):
        async def authorize(self, request: AuthRequest) -> dict[str, str]:
            return {"X-Date": str(trio.current_time())}

    async with web({START: Recovering(2)}, retry=STEADY, auth=Dated()) as (client, world):
        await client.get(START)
    assert world.sent("x-date") == ["0.0", "0.5", "1.5"]


async def test_an_upgrade_is_asked_for_again(autojump_clock: MockClock) -> None:
    tries = 0

    async def echo(request: Request) -> Response | None:
        nonlocal tries
        tries += 1
        if tries == 1:
            return Response(503, text="busy")
        async with request.upgrade("echo") as stream:
            await stream.send_all(b"hello")
        return None

    async with web({START: echo}, retry=STEADY) as (client, _), client.upgrade(START, "echo") as stream:
        assert await stream.receive_some() == b"hello"


async def test_an_error_of_the_callers_own_content_is_not_retried(autojump_clock: MockClock) -> None:
    calls = 0

    class Broken:
        def __aiter__(self) -> Any:
            nonlocal calls
            calls += 1
            return self

        async def __anext__(self) -> bytes:
            await trio.lowlevel.checkpoint()
            raise OSError("mine")

    async with web({}, retry=STEADY) as (client, _):
        with pytest.raises(OSError, match="mine") as caught:
            await client.put(START, content=Broken())
        assert not isinstance(caught.value, RequestFailed)
    assert calls == 1
