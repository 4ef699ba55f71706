"""The time that is left, told to the server (N12)."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.client._network import OK, URL, answering, client_of, in_pool
from tests.client._web import HERE, moved, web
from trio_http import Request, Response, Retry, ServerConfig
from trio_http.client import Client
from trio_http.server import serve_connection
from trio_http.testing import memory_pair
from trio_http.transport import StreamTransport

FIELD = "request-deadline"


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        (2.5, "2500"),
        (0.0019, "1"),
        (0.0009, "0"),
        (1e6, "1000000000"),
        (9_999_999.5, "9999999500"),
        (1e7, None),  # a number that servers need not read; so far away, it limits nothing
        (1e300, None),
        (math.inf, None),
    ],
)
async def test_the_time_left_is_told_in_milliseconds_rounded_down(
    seconds: float, value: str | None, mock_clock: MockClock
) -> None:
    async with web(propagate_deadline=True) as (client, world):
        with trio.move_on_after(seconds):
            await client.get(f"{HERE}/")
    assert world.sent(FIELD) == [value]


async def test_the_nearest_scope_counts_whoever_made_it(mock_clock: MockClock) -> None:
    async with web(propagate_deadline=True) as (client, world):
        await client.get(f"{HERE}/")
        with trio.fail_after(5), trio.fail_after(60):
            await client.get(f"{HERE}/")
            with trio.CancelScope(shield=True):  # bounded: nothing waits within
                await client.get(f"{HERE}/")
    assert world.sent(FIELD) == [None, "5000", None]


async def test_it_is_told_only_on_request(mock_clock: MockClock) -> None:
    async with web() as (client, world):
        with trio.fail_after(5):
            await client.get(f"{HERE}/")
            await client.get(f"{HERE}/", propagate_deadline=True)
            async with client.stream("GET", f"{HERE}/", propagate_deadline=True) as response:
                await response.read()
    assert world.sent(FIELD) == [None, "5000", "5000"]


async def test_what_is_left_is_less_after_a_wait(autojump_clock: MockClock) -> None:
    async def busy(request: Request) -> Response:
        await trio.sleep(1)
        return Response(503 if len(world.asked) == 1 else 302, headers={"Location": "/there"})

    options: dict[str, Any] = {"retry": Retry(backoff=2, jitter=False), "follow_redirects": True}
    async with web({f"{HERE}/": busy}, propagate_deadline=True, **options) as (client, world):
        with trio.fail_after(10):
            await client.get(f"{HERE}/")
    assert world.sent(FIELD) == ["10000", "7000", "6000"]


async def test_a_deadline_does_not_outlive_its_scope_in_a_redirect(mock_clock: MockClock) -> None:
    """It was a field of the redirected request, which is told anew."""
    async with web({f"{HERE}/": moved(302, "http://b.example/")}, follow_redirects=True) as (client, world):
        with trio.fail_after(5):
            await client.get(f"{HERE}/", propagate_deadline=True)
    assert world.sent(FIELD) == ["5000", "5000"]


@pytest.mark.parametrize("late", [False, True])
async def test_a_request_without_any_time_left_is_cancelled(late: bool, mock_clock: MockClock) -> None:
    """In a cancelled scope the time that is left was no number to be rounded, and OverflowError came out."""
    async with client_of(answering(OK)) as (client, network):
        with trio.CancelScope() as scope:
            if late:
                scope.deadline = trio.current_time() - 1
            else:
                scope.cancel()
            await client.get(URL, propagate_deadline=True)
        assert scope.cancelled_caught
        assert (await in_pool(client))[0] == 0
        assert (await client.get(URL)).status == 200
    assert len(network.dialed) == 1


async def test_three_hops_stop_together(autojump_clock: MockClock) -> None:
    """N12: a chain of servers, each a client of the next one, and nobody works on for who has gone."""
    stopped: list[tuple[str, float]] = []
    config = ServerConfig(deadlines_from=["192.0.2.0/24"], date=False)
    async with trio.open_nursery() as nursery:

        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = memory_pair()
            transport = StreamTransport(theirs)
            transport.peername = ("192.0.2.7", 4000)
            handler = functools.partial(hop, host)
            nursery.start_soon(functools.partial(serve_connection, handler, transport, config=config))
            return ours

        async def hop(name: str, request: Request) -> Response:
            try:
                if name == "three.example":
                    # Deaf to disconnects: it is the deadline that has to stop it.
                    with request.finish(within=30):
                        await trio.sleep_forever()
                following = {"one.example": "two.example", "two.example": "three.example"}[name]
                return await client.get(f"http://{following}/")
            finally:
                stopped.append((name, trio.current_time()))

        async with Client(dial=dial, propagate_deadline=True) as client:
            with trio.move_on_after(2) as scope:
                await client.get("http://one.example/")
            assert scope.cancelled_caught
            assert trio.current_time() == 2
            await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert sorted(name for name, _ in stopped) == ["one.example", "three.example", "two.example"]
    # Servers round up to a 32nd of a second.
    assert all(2 <= at <= 2 + 3 / 32 for _, at in stopped), stopped
