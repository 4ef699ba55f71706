"""Connections made before they are needed (C11), and what `statistics` says of the pool (C10)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, Network, answering, client_of, in_pool
from trio_http import ConnectFailed, InvalidRequest, PoolClosed
from trio_http.client import Client, ClientStatistics, PoolCounts, Proxy
from trio_http.testing import MemoryStream, ScriptedPeer, memory_pair

OTHER = "http://other.example/"


def silent(number: int) -> list[ScriptedPeer]:
    return [ScriptedPeer() for _ in range(number)]


class Slow:
    """Dials of ten seconds, to servers that answer everything; some of them fail.

    Args:
      failing: which dials fail, from 1.
    """

    def __init__(self, nursery: trio.Nursery, *failing: int) -> None:
        self._failing = failing
        self._nursery = nursery
        self.begun = 0
        self.cancelled = 0

    async def dial(self, *_: object) -> trio.abc.Stream:
        self.begun += 1
        number = self.begun
        try:
            await trio.sleep(10)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if number in self._failing:
            raise OSError("nobody listens there")
        ours, theirs = memory_pair()
        self._nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: MemoryStream) -> None:
        while await stream.receive_some():
            await stream.send_all(OK)


# ---------------------------------------------------------------------------------------------------- warming


async def test_warm_returns_when_so_many_connections_are_idle_and_requests_use_them() -> None:
    """C11."""
    async with client_of(answering(OK), answering(OK), answering(OK)) as (client, network):
        await client.warm(URL, 3)
        assert await in_pool(client) == (0, 3)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(client.get, URL)
        assert len(network.dialed) == 3


async def test_connections_that_are_idle_or_on_their_way_count(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C11."""
    async with trio.open_nursery() as nursery:
        slow = Slow(nursery)
        async with Client(dial=slow.dial) as client:
            await client.get(URL)
            async with trio.open_nursery() as warming:
                warming.start_soon(client.warm, URL, 3)
                warming.start_soon(client.warm, URL, 3)
                await trio.testing.wait_all_tasks_blocked()
                assert slow.begun == 3
            assert await in_pool(client) == (0, 3)
            await client.warm(URL, 2)
            assert slow.begun == 3
        nursery.cancel_scope.cancel()


async def test_connections_in_use_do_not_count(autojump_clock: trio.testing.MockClock) -> None:
    """C11: so many are to be idle."""
    busy = ScriptedPeer().expect_until(END).wait(5).send(OK)
    async with client_of(busy, *silent(2)) as (client, _), trio.open_nursery() as nursery:
        nursery.start_soon(client.get, URL)
        await trio.testing.wait_all_tasks_blocked()
        await client.warm(URL, 2)
        assert await in_pool(client) == (1, 2)


@pytest.mark.parametrize(
    ("limits", "made"), [({"max_connections_per_origin": 2}, 2), ({"max_connections": 3}, 2)]
)
async def test_warming_keeps_to_the_limits_and_takes_nothing_from_anybody(
    limits: dict[str, int], made: int
) -> None:
    """C11: what another origin has idle stays."""
    async with client_of(answering(OK), *silent(5), **limits) as (client, network):
        await client.get(OTHER)
        await client.warm(URL, 5)
        assert client.statistics().origins == {
            "http://other.example": PoolCounts(dialing=0, leased=0, idle=1, waiting=0),
            "http://example.org": PoolCounts(dialing=0, leased=0, idle=made, waiting=0),
        }
        assert len(network.dialed) == 1 + made


async def test_warming_where_there_is_no_room_makes_nothing() -> None:
    """C11."""
    async with client_of(answering(OK), max_connections=1) as (client, network):
        await client.get(OTHER)
        with trio.testing.assert_checkpoints():
            await client.warm(URL)
        assert len(network.dialed) == 1


async def test_who_waits_is_served_before_what_is_kept_warm(autojump_clock: trio.testing.MockClock) -> None:
    """C11."""
    async with trio.open_nursery() as nursery:
        slow = Slow(nursery)
        async with Client(dial=slow.dial, max_connections_per_origin=2) as client:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(client.warm, URL, 2)
                await trio.sleep(9)
                await client.get(URL)
                assert slow.begun == 2
            assert await in_pool(client) == (0, 2)
        nursery.cancel_scope.cancel()


async def test_a_dial_to_keep_warm_is_given_up_for_who_needs_its_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C11: and who warms up does not wait for what will not come."""
    async with trio.open_nursery() as nursery:
        slow = Slow(nursery)
        async with Client(dial=slow.dial, max_connections=1) as client, trio.open_nursery() as tasks:
            tasks.start_soon(client.warm, URL)
            await trio.sleep(1)
            with trio.fail_after(10.5):
                await client.get(OTHER)
            assert slow.cancelled == 1
            assert set(client.statistics().origins) == {"http://other.example"}
        nursery.cancel_scope.cancel()


async def test_a_failure_is_told_at_once_and_the_other_dials_go_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C11."""
    async with trio.open_nursery() as nursery:
        slow = Slow(nursery, 1)
        async with Client(dial=slow.dial) as client:
            with pytest.raises(ConnectFailed, match="nobody listens there") as caught:
                await client.warm(URL, 3)
            assert isinstance(caught.value.__cause__, OSError)
            assert not caught.value.facts.may_have_acted
            assert await in_pool(client) == (0, 2)
        nursery.cancel_scope.cancel()


async def test_warming_that_was_cancelled_leaves_its_dials_to_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C11."""
    async with trio.open_nursery() as nursery:
        slow = Slow(nursery)
        async with Client(dial=slow.dial) as client:
            with trio.move_on_after(4) as scope:
                await client.warm(URL, 2)
            assert scope.cancelled_caught
            assert client.statistics().dialing == 2
            started = trio.current_time()
            await client.get(URL)
            assert trio.current_time() - started == pytest.approx(6)
            assert await in_pool(client) == (0, 2)
        nursery.cancel_scope.cancel()


async def test_warming_a_client_that_closes_ends_in_pool_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C11."""
    ended: list[PoolClosed] = []
    async with trio.open_nursery() as nursery:
        slow = Slow(nursery)

        async def warm(client: Client) -> None:
            with pytest.raises(PoolClosed) as caught:
                await client.warm(URL, 2)
            ended.append(caught.value)

        async with Client(dial=slow.dial) as client:
            nursery.start_soon(warm, client)
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        assert len(ended) == 1
        assert slow.cancelled == 2
        with pytest.raises(PoolClosed):
            await client.warm(URL)


async def test_warm_connections_are_closed_when_nobody_comes(autojump_clock: trio.testing.MockClock) -> None:
    """C11, C3."""
    async with client_of(ScriptedPeer().expect_end(), idle_seconds=15) as (client, _):
        await client.warm(URL)
        await trio.sleep(14.9)
        assert await in_pool(client) == (0, 1)
        await trio.sleep(0.2)
        assert await in_pool(client) == (0, 0)


async def test_what_cannot_be_warmed_is_refused() -> None:
    """C11."""
    async with client_of() as (client, network):
        with pytest.raises(ValueError, match="at least 1, not 0"):
            await client.warm(URL, 0)
        with pytest.raises(InvalidRequest):
            await client.warm("ftp://example.org/")
        assert network.dialed == []
    with pytest.raises(RuntimeError, match="not open"):
        await Client().warm(URL)


# ------------------------------------------------------------------------------------------------- statistics


async def test_the_statistics_count_each_origin_by_itself_and_sum_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C10, N17."""
    async with trio.open_nursery() as nursery:
        network = Network(
            nursery, answering(OK), ScriptedPeer().expect_until(END), ScriptedPeer().expect_until(END)
        )

        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            if host == "hole.example":
                await trio.sleep_forever()
            return await network.dial(host, port, scheme)

        async with Client(dial=dial, max_connections_per_origin=2) as client:
            await client.get(OTHER)
            async with trio.open_nursery() as requests:
                for _ in range(5):
                    requests.start_soon(client.get, URL)
                requests.start_soon(client.get, "http://hole.example:8080/")
                await trio.testing.wait_all_tasks_blocked()
                counts = client.statistics()
                assert counts == ClientStatistics(dialing=1, leased=2, idle=1, waiting=4)
                assert counts.origins == {
                    "http://other.example": PoolCounts(dialing=0, leased=0, idle=1, waiting=0),
                    "http://example.org": PoolCounts(dialing=0, leased=2, idle=0, waiting=3),
                    "http://hole.example:8080": PoolCounts(dialing=1, leased=0, idle=0, waiting=1),
                }
                requests.cancel_scope.cancel()
            await trio.sleep(20)
            assert client.statistics().origins == {
                "http://hole.example:8080": PoolCounts(dialing=1, leased=0, idle=0, waiting=0)
            }
        assert client.statistics() == ClientStatistics(dialing=0, leased=0, idle=0, waiting=0)
        assert client.statistics().origins == {}
        nursery.cancel_scope.cancel()


async def test_the_statistics_name_the_proxy_and_not_its_password() -> None:
    """C10."""
    names: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        names.extend(client.statistics().origins)
        raise OSError(f"{host} is unknown")

    proxy = Proxy.from_url("http://me:s3cret@proxy.example:3128")
    async with Client(proxy=proxy, resolver=resolver) as client:
        with pytest.raises(ConnectFailed):
            await client.get("https://example.org/")
    (name,) = names
    assert "https://example.org" in name
    assert "proxy.example:3128" in name
    assert "s3cret" not in name
