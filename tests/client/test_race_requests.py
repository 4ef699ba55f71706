"""Requests that race (C50, N11): what becomes of the losers' connections."""

from __future__ import annotations

import functools

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._worlds import lands_in, sweep_client
from trio_http import Request, Response
from trio_http.client import Client
from trio_http.client._race import race
from trio_http.testing import open_client


async def app(request: Request) -> Response:
    match request.path:
        case "/fast":
            await trio.sleep(1)
        case "/slow":
            await trio.sleep(100)
        case "/broken":
            return Response(503)
        case "/huge":
            return Response(content=bytes(1_000_000))
    return Response(text=request.path)


def well(response: Response) -> bool:
    return response.status < 500


async def test_losing_requests_leave_no_connection_behind(autojump_clock: MockClock) -> None:
    """N11: each loser's connection is closed, or given back clean."""
    async with open_client(app) as client:
        get = functools.partial(functools.partial, client.get)
        response = await race(get("/slow"), get("/fast"), get("/broken"), get("/slow"), wins=well)
        assert (response.text, trio.current_time()) == ("/fast", 1)
        counts = client.statistics()
        assert (counts.leased, counts.waiting, counts.dialing) == (0, 0, 0)
        assert counts.idle == 2, "those of the winner and of the one that had its answer"
        assert (await client.get("/again")).text == "/again"


async def test_a_hedged_request_is_only_made_when_the_first_is_late(autojump_clock: MockClock) -> None:
    """C50."""
    asked: list[float] = []

    async def uneven(request: Request) -> Response:
        asked.append(trio.current_time())
        await trio.sleep(0.02 if len(asked) != 2 else 100)
        return Response()

    async with open_client(uneven) as client:
        get = functools.partial(client.get, "/")
        for _ in range(3):
            await race(get, get, delay=0.05)
            await trio.sleep(1 - trio.current_time() % 1)
        assert asked == pytest.approx([0, 1, 1.05, 2])
        assert (client.statistics().leased, client.statistics().idle) == (0, 1)


async def test_a_race_for_the_last_connection_is_won_all_the_same(autojump_clock: MockClock) -> None:
    async with open_client(app, max_connections=1) as client:
        get = functools.partial(functools.partial, client.get)
        assert (await race(get("/fast"), get("/fast"), get("/fast"))).text == "/fast"
        assert client.statistics().waiting == 0
        assert (await client.get("/again")).text == "/again"


@pytest.mark.parametrize("delay", [0, 0.5, 2])
async def test_a_race_of_requests_that_is_cancelled_leaves_the_client_as_it_was(
    delay: float, autojump_clock: MockClock
) -> None:
    async def scenario(client: Client) -> None:
        get = functools.partial(functools.partial, client.get)
        response = await race(get("/slow"), get("/huge"), get("/fast"), delay=delay)
        assert response.status == 200

    report = await sweep_client(scenario, app, warm=1)
    lands_in(report, "race", "begin")
