"""The real client and the real server on a simulated network."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from trio_http import Client, Request, RequestFailed, Response, serve_listeners
from trio_http.server import Server, ServerConfig
from trio_http.testing import (
    CLEAR,
    LOSSY_MOBILE,
    STORM,
    Mishap,
    SimulatedNetwork,
    Simulation,
    Weather,
    cancel_at_every_step,
    simulate,
)


async def reverse(request: Request) -> Response:
    """Answer with the content, back to front, after half a second."""
    content = await request.read()
    await trio.sleep(0.5)
    return Response(content=content[::-1])


async def crowd(simulation: Simulation) -> None:
    """Requests to two hosts over few connections, in groups of which each may be cancelled at once."""
    network, chance = simulation.network, simulation.random
    hosts = ("example.org", "example.com")

    async def ask(client: Client, content: bytes) -> None:
        await trio.sleep(chance.choice([0, 0.1, 0.2, 1]))
        with contextlib.suppress(RequestFailed):
            response = await client.post(f"http://{chance.choice(hosts)}/", content=content)
            assert response.status != 200 or response.content == content[::-1]

    async def group(client: Client) -> None:
        with trio.move_on_after(chance.choice([0.1, 0.3, 0.5, 0.6, 1])):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(ask, client, chance.randbytes(chance.randint(1, 500)))

    async def shut_down(server: Server) -> None:
        await trio.sleep(chance.uniform(0, 5))
        await server.shutdown(grace=1)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_listeners, reverse, [network.listen(host, 80) for host in hosts])
        nursery.start_soon(shut_down, server)
        async with Client(dial=network.dial, max_connections=3, max_connections_per_origin=2) as client:
            for _ in range(3):
                with trio.move_on_after(chance.choice([0.3, 0.5, 0.6, 1, 100])):
                    async with trio.open_nursery() as groups:
                        for _ in range(3):
                            groups.start_soon(group, client)


@pytest.mark.parametrize("weather", [CLEAR, LOSSY_MOBILE, STORM], ids=["clear", "mobile", "storm"])
def test_client_and_server_hold_in_any_weather(weather: Weather) -> None:
    report = simulate(crowd, seeds=range(40), weather=weather)
    assert report.connections > 40
    assert report.events["receive"] > 200
    if weather is STORM:
        assert {"reset", "stall", "cut", "silence", "refuse", "black hole", "split"} <= set(report.events)


def test_in_clear_weather_every_request_is_answered() -> None:
    async def program(simulation: Simulation) -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                serve_listeners, reverse, [simulation.network.listen("example.org", 80)]
            )
            async with Client(dial=simulation.network.dial) as client:
                for _ in range(3):
                    response = await client.post("http://example.org/", content=b"abc")
                    assert (response.status, response.content) == (200, b"cba")
            await server.shutdown(grace=5)

    report = simulate(program, seeds=range(10), weather=Weather(latency=0.1, split=1, split_bytes=7))
    assert report.connections == 10
    assert report.events["split"] == 60
    assert report.virtual_seconds == pytest.approx(10 * (0.2 + 3 * 0.7))


def test_a_shutdown_closes_idle_connections_the_oldest_first() -> None:
    """It went through a set, so that the order was another one in each run."""

    async def program(simulation: Simulation) -> None:
        network = simulation.network
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_listeners, reverse, [network.listen("a", 80)])
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(8):
                    await stack.enter_async_context(await network.dial("a", 80))
                await trio.sleep(1)
                await server.shutdown(grace=5)
                closed = [entry.connection for entry in network.trace if entry.event == "close"]
        order.append(closed)

    order: list[list[int]] = []
    simulate(program, seeds=range(10))
    # They run in an order of the seed's, once each of them was told.
    assert [sorted(closed) for closed in order] == [list(range(8))] * 10
    before = list(order)
    order.clear()
    simulate(program, seeds=range(10))
    assert order == before


async def test_half_an_answer_is_never_taken_for_a_whole_one(autojump_clock: MockClock) -> None:
    serve = partial(serve_listeners, config=ServerConfig(date=False, server_name=None))
    ends = []
    for position in range(200):
        script = [Mishap(way="server", at_byte=position, then="cut")]
        async with (
            SimulatedNetwork(weather=Weather(script=script)) as network,
            trio.open_nursery() as nursery,
        ):
            server = await nursery.start(serve, reverse, [network.listen("a", 80)])
            async with Client(dial=network.dial) as client:
                try:
                    response = await client.post("http://a/", content=b"abc")
                except RequestFailed:
                    ends.append("failed")
                else:
                    assert response.content == b"cba"
                    ends.append("whole")
            await server.shutdown(grace=1)
            assert network.left_open() == []
    whole = ends.index("whole")
    assert ends == ["failed"] * whole + ["whole"] * (200 - whole)
    assert whole > 30


async def test_a_request_that_is_cancelled_anywhere_on_a_slow_network(autojump_clock: MockClock) -> None:
    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Client]:
        weather = Weather(latency=0.1, jitter=(0, 0.05), split=0.5, split_bytes=(1, 30))
        network = SimulatedNetwork(weather=weather)
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_listeners, reverse, [network.listen("a", 80)])
            async with Client(base_url="http://a", dial=network.dial, max_connections=1) as client:
                yield client
            await server.shutdown(grace=30)
        assert network.left_open() == []

    async def scenario(client: Client) -> None:
        assert (await client.post("/", content=b"abc")).content == b"cba"

    async def check(client: Client) -> None:
        with trio.fail_after(30):  # the only connection there may be is free, or another can be made
            assert (await client.post("/", content=b"def")).content == b"fed"

    report = await cancel_at_every_step(scenario, world=world, check=check)
    assert len(report.points) > 20
