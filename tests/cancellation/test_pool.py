"""The pool, cancelled at every step of every way to a connection: idle, waited for, dialed, lost, shared.

After each run the books are in order and the client works: see `Network.see_all_is_well`.
"""

from __future__ import annotations

import contextlib

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from tests.cancellation._worlds import CONFIG, Network, lands_in, sweep_client
from trio_http import ConnectFailed, Request, Response
from trio_http.client import Client
from trio_http.server import ServerTimes


async def slow(request: Request) -> Response:
    await trio.sleep(3)
    return Response(text=request.path)


async def quick(request: Request) -> Response:
    return Response(text=request.path)


async def get(client: Client, url: str) -> None:
    """Get it, and see that it is what was asked for, and not the answer to another."""
    path = "/" + url.rpartition("/")[2]
    assert (await client.get(url)).text == path


async def others_are_busy(net: Network) -> None:
    """Have another request take the only connection, for as long as `slow` takes."""
    nursery = net.background
    nursery.start_soon(get, net.client, "/other")
    await trio.sleep(net.dial_seconds + 1)
    assert net.client.statistics().leased == 1


async def test_waiting_for_a_connection_that_another_task_gives_back(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        await get(client, "/mine")

    report = await sweep_client(scenario, slow, warm=1, prepare=others_are_busy, max_connections_per_origin=1)
    lands_in(report, "_wait")


async def test_waiting_for_a_slot_that_another_origin_holds(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        await get(client, "http://b/mine")

    report = await sweep_client(scenario, slow, prepare=others_are_busy, max_connections=1)
    lands_in(report, "_wait")


async def test_an_idle_connection_makes_room_for_another_origin(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        await get(client, "http://b/mine")

    await sweep_client(scenario, quick, warm=1, max_connections=1)


async def test_a_dial_in_progress(autojump_clock: MockClock) -> None:
    """It goes on for others when its caller is cancelled: a handshake is not wasted."""

    async def scenario(client: Client) -> None:
        await get(client, "/mine")

    report = await sweep_client(scenario, quick, network={"dial_seconds": 5})
    lands_in(report, "_wait")


async def test_a_dial_that_nobody_waits_for_any_more_makes_room(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        with trio.move_on_after(1):
            await get(client, "/given-up")
        await get(client, "http://b/mine")

    await sweep_client(scenario, quick, network={"dial_seconds": 5}, max_connections=1)


async def test_a_connection_that_comes_back_before_the_dial_is_done(autojump_clock: MockClock) -> None:
    """The waiter takes what is first; the other one is kept for later."""

    async def scenario(client: Client) -> None:
        await get(client, "/mine")

    async def prepare(net: Network) -> None:
        await others_are_busy(net)
        net.dial_seconds = 10

    await sweep_client(scenario, slow, warm=1, prepare=prepare)


async def test_a_dial_that_fails(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        with contextlib.suppress(ConnectFailed):
            await client.get("http://nowhere/")
            raise AssertionError("there is nobody there")

    await sweep_client(scenario, quick, network={"dial_seconds": 1})


async def test_a_dial_that_takes_too_long(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        with contextlib.suppress(ConnectFailed):
            await client.get("http://black-hole/")
            raise AssertionError("there is nobody there")

    await sweep_client(scenario, quick, dial_seconds=5)


@pytest.mark.parametrize("limit", [1, 2])
async def test_more_tasks_than_connections(limit: int, autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(get, client, f"/{number}")

    report = await sweep_client(scenario, slow, network={"dial_seconds": 1}, max_connections_per_origin=limit)
    lands_in(report, "_wait")


async def test_tasks_of_two_origins_that_share_the_slots(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        async with trio.open_nursery() as nursery:
            for url in ("http://a/1", "http://b/2", "http://a/3", "http://b/4"):
                nursery.start_soon(get, client, url)

    await sweep_client(scenario, slow, network={"dial_seconds": 1}, max_connections=2)


async def test_one_of_two_that_wait_gives_up(autojump_clock: MockClock) -> None:
    """The turn of one that is cancelled in the queue passes to the next."""

    async def scenario(client: Client) -> None:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(2):
                async with trio.open_nursery() as impatient:
                    impatient.start_soon(get, client, "/1")
                    await trio.sleep(0.5)
                    nursery.start_soon(get, client, "/2")
                    await get(client, "/3")

    await sweep_client(scenario, slow, warm=1, max_connections_per_origin=1)


async def test_a_kept_connection_that_the_server_closes_in_the_moment_it_is_used(
    autojump_clock: MockClock,
) -> None:
    """A foreign stream cannot be asked whether it is stale, so the request is lost, and made once more."""

    async def scenario(client: Client) -> None:
        await get(client, "/mine")

    async def prepare(net: Network) -> None:
        await trio.sleep(3)

    config = evolve(CONFIG, times=ServerTimes(idle=2))
    report = await sweep_client(scenario, quick, warm=2, prepare=prepare, network={"config": config})
    assert sum(point.within.count("begin_on") for point in report.points) > 5


@pytest.mark.finds_a_defect
async def test_the_sweep_over_a_pool_would_see_a_connection_that_is_lost(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        link = await client._pool.lease(client._planner.plan("GET", "/"))
        await trio.lowlevel.checkpoint()  # the defect: cancelled here, nobody gives it back
        client._pool.give_back(link)

    with pytest.raises(AssertionError, match="leased=1"):
        await sweep_client(scenario, quick, warm=1)
