"""The sweep on pools that it has never seen: httpcore's, which loses a connection, and ours.

The scene is the same for both: one connection at most, two tasks; the one that has it is told by the server
that it is the connection's last request, and the other one waits for what comes next. It is the one that is
cancelled. A pool passes when it still answers afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpcore
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.testing._memory_httpcore import MemoryNetworkBackend, PoolInMemory, answer, httpcore_in_memory
from trio_http import Client
from trio_http.server import serve_connection
from trio_http.testing import SweepFailed, SweepReport, cancel_at_every_step, memory_pair


async def ask(world: PoolInMemory) -> None:
    assert (await world.pool.request("GET", "http://a/mine")).content == b"/mine"


async def see_it_answers(world: PoolInMemory) -> None:
    await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(100):
        assert (await world.pool.request("GET", "http://a/again")).content == b"/again"


async def sweep_httpcore(seed: int, only: str | None = None) -> SweepReport:
    return await cancel_at_every_step(
        ask,
        world=lambda: httpcore_in_memory(max_connections=1, others=1),
        check=see_it_answers,
        keep_going=True,
        seed=seed,
        only=only,
    )


async def sweep_ours(seed: int) -> SweepReport:
    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Client]:
        async with trio.open_nursery() as nursery:

            async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
                await trio.sleep(1)
                ours, theirs = memory_pair()
                nursery.start_soon(serve_connection, answer, theirs)
                return ours

            async with Client(base_url="http://a", dial=dial, max_connections=1) as client:
                nursery.start_soon(client.get, "/last")
                await trio.testing.wait_all_tasks_blocked()
                yield client
            nursery.cancel_scope.cancel()

    async def scenario(client: Client) -> None:
        assert (await client.get("/mine")).text == "/mine"

    async def check(client: Client) -> None:
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(100):
            assert (await client.get("/again")).text == "/again"

    return await cancel_at_every_step(
        scenario, world=world, check=check, state=Client.statistics, keep_going=True, seed=seed
    )


@pytest.mark.parametrize("seed", range(4))
async def test_httpcore_loses_a_connection_for_good(seed: int, autojump_clock: MockClock) -> None:
    """A waiter that is cancelled, and in the same moment given a connection, takes it with it.

    The pool counts that connection for ever after: its one slot is gone, and each later request waits in
    vain.
    """
    assert httpcore.__version__ == "1.0.9", (
        "look whether a later one has it still, and adapt the documentation"
    )
    report = await sweep_httpcore(seed)
    assert report.failures
    for failure in report.failures:
        assert failure.reason == "check has raised TooSlowError()"
        assert failure.point is not None
        assert failure.point.moment == "beside"  # at its own steps no cancel finds it
        assert failure.point.landed is not None
        assert failure.point.landed.function == "wait"
        assert "Requests: 1 active, 0 queued | Connections: 1 active" in failure.state.before
        assert "Requests: 0 active, 0 queued | Connections: 1 active" in failure.state.after

    first = report.failures[0]
    assert first.point is not None
    again = await sweep_httpcore(seed, only=first.point.key)
    assert [str(failure) for failure in again.failures] == [str(first)]


@pytest.mark.parametrize("seed", range(4))
async def test_our_pool_loses_none(seed: int, autojump_clock: MockClock) -> None:
    report = await sweep_ours(seed)
    assert report.failures == ()
    assert len(report.points) > 40
    assert sum(point.moment == "beside" for point in report.points) > 15


async def test_a_sweep_that_does_not_keep_going_raises_the_first(autojump_clock: MockClock) -> None:
    with pytest.raises(SweepFailed, match="Connections: 1 active"):
        await cancel_at_every_step(
            ask, world=lambda: httpcore_in_memory(max_connections=1, others=1), check=see_it_answers
        )


async def test_httpcore_over_streams_in_memory_works(autojump_clock: MockClock) -> None:
    """What the findings above rest on: left alone, nothing is the matter with it."""
    async with trio.open_nursery() as nursery:
        network = MemoryNetworkBackend(nursery)
        async with httpcore.AsyncConnectionPool(network_backend=network, max_connections=2) as pool:
            for count in range(3):
                assert (await pool.request("GET", f"http://a/{count}")).content == f"/{count}".encode()
            assert len(network.streams) == 1
        assert all(stream.closed for stream in network.streams)
        nursery.cancel_scope.cancel()
