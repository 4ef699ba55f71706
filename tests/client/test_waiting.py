"""Who gets a connection, and when: limits, order, room made for others, and what a cancelled request costs
them (C1, C2, C7, C12, C57, C58, N17).
"""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, Network, answering, client_of, in_pool
from trio_http import ConnectFailed
from trio_http.client import Client, PoolCounts
from trio_http.testing import MemoryStream, ScriptedPeer, memory_pair

OTHER, THIRD = "http://other.example/", "http://third.example/"


def slow(*seconds: float) -> ScriptedPeer:
    """A server that takes its time for each of its answers."""
    peer = ScriptedPeer()
    for time in seconds:
        peer.expect_until(END).wait(time).send(OK)
    return peer


class Origins:
    """Servers without end, of any origin; each answer takes a second.

    Attributes:
      dials: seconds that a dial takes, by host.
      busy, most: requests that are being answered, and were at once, by host and in all.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.dials: dict[str, float] = {}
        self.busy: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.dialed: list[str] = []
        self._nursery = nursery

    async def dial(self, host: str, port: int, scheme: str) -> trio.abc.Stream:
        self.dialed.append(host)
        await trio.sleep(self.dials.get(host, 0))
        ours, theirs = memory_pair()
        self._nursery.start_soon(self._serve, host, theirs)
        return ours

    def _count(self, host: str, change: int) -> None:
        for name in (host, "all"):
            self.busy[name] = self.busy.get(name, 0) + change
            self.most[name] = max(self.most.get(name, 0), self.busy[name])

    async def _serve(self, host: str, stream: MemoryStream) -> None:
        try:
            while await stream.receive_some():
                self._count(host, 1)
                await trio.sleep(1)
                self._count(host, -1)
                await stream.send_all(OK)
        except trio.BrokenResourceError:
            pass


# ----------------------------------------------------------------------------------------------------- limits


async def test_neither_limit_is_ever_exceeded_and_all_room_is_used(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C1, C2."""
    async with trio.open_nursery() as nursery:
        origins = Origins(nursery)
        async with Client(dial=origins.dial, max_connections=5, max_connections_per_origin=3) as client:
            started = trio.current_time()
            async with trio.open_nursery() as requests:
                for _ in range(15):
                    for url in (URL, OTHER):
                        requests.start_soon(client.get, url)
                        await trio.testing.wait_all_tasks_blocked()
            # Three of one and two of the other until the first has no more, then three at a time.
            assert trio.current_time() - started == pytest.approx(7)
            assert origins.most == {"example.org": 3, "other.example": 3, "all": 5}
            client._pool.ledger.check()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_origin_is_scheme_host_and_port(scheme: str, autojump_clock: trio.testing.MockClock) -> None:
    """C2: and no matter how the host is spelled."""
    async with trio.open_nursery() as nursery:
        origins = Origins(nursery)
        async with Client(dial=origins.dial, max_connections_per_origin=1) as client:
            started = trio.current_time()
            async with trio.open_nursery() as requests:
                for url in ("http://a.example/", "http://A.example:80/x", "http://a.example:81/"):
                    requests.start_soon(client.get, url)
            assert trio.current_time() - started == pytest.approx(2)
            assert origins.most["a.example"] == 2
            assert set(client.statistics().origins) == {"http://a.example", "http://a.example:81"}
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------ order


async def test_waiters_of_an_origin_are_served_first_come_first_served_whatever_serves_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C7, C12, N17: by connections given back and by dials alike."""
    order: list[int] = []
    async with trio.open_nursery() as nursery:
        origins = Origins(nursery)
        async with Client(dial=origins.dial, max_connections_per_origin=3) as client:

            async def one(number: int) -> None:
                await client.get(URL)
                order.append(number)

            async with trio.open_nursery() as requests:
                for number in range(12):
                    origins.dials["example.org"] = number * 0.3
                    requests.start_soon(one, number)
                    await trio.testing.wait_all_tasks_blocked()
            assert order == list(range(12))
        nursery.cancel_scope.cancel()


async def test_a_waiter_takes_a_connection_that_is_free_before_its_dial_is_done(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C12: late binding; and the dial's connection is there for the next."""
    async with trio.open_nursery() as nursery:
        origins = Origins(nursery)
        async with Client(dial=origins.dial) as client, trio.open_nursery() as requests:
            requests.start_soon(client.get, URL)
            await trio.sleep(0.5)
            origins.dials["example.org"] = 10
            started = trio.current_time()
            await client.get(URL)
            assert trio.current_time() - started == pytest.approx(
                1.5
            )  # half of the first answer, and its own
            assert origins.dialed == ["example.org"] * 2
            await trio.sleep(10)
            assert await in_pool(client) == (0, 2)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", range(4))
async def test_a_cancelled_waiter_delays_nobody(number: int, autojump_clock: trio.testing.MockClock) -> None:
    """C7, N17: wherever in the line it stood, those behind it move up, and those before it stay."""
    ended: dict[int, float] = {}
    async with client_of(slow(*[1] * 4), max_connections_per_origin=1) as (client, network):
        started = trio.current_time()
        scopes = [trio.CancelScope() for _ in range(5)]

        async def one(place: int) -> None:
            with scopes[place]:
                await client.get(URL)
                ended[place] = trio.current_time() - started

        async with trio.open_nursery() as nursery:
            for place in range(5):
                nursery.start_soon(one, place)
                await trio.testing.wait_all_tasks_blocked()
            scopes[number + 1].cancel()
        places = [place for place in range(5) if place != number + 1]
        assert ended == {place: pytest.approx(at) for at, place in enumerate(places, 1)}
        assert len(network.dialed) == 1


async def test_waiters_cancelled_in_the_moment_in_which_a_connection_is_free_pass_it_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C58, N17: each of them may have been given it already; the last in line gets it all the same."""
    async with client_of(slow(1, 1), max_connections_per_origin=1) as (client, network):
        started = trio.current_time()

        async def impatient() -> None:
            with trio.move_on_at(started + 1):  # just when the connection is given back
                await client.get(URL)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, URL)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(5):
                nursery.start_soon(impatient)
                await trio.testing.wait_all_tasks_blocked()
            await client.get(URL)
            assert trio.current_time() - started == pytest.approx(2)
        assert await in_pool(client) == (0, 1)
        assert len(network.dialed) == 1
        assert network.heads().count(b"GET") == 2


async def test_a_freed_slot_goes_to_who_has_waited_longest_of_all_origins(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C7."""
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        origins = Origins(nursery)
        async with Client(dial=origins.dial, max_connections=1) as client:

            async def one(url: str) -> None:
                await client.get(url)
                order.append(url)

            async with trio.open_nursery() as requests:
                for url in (URL, THIRD, OTHER):
                    requests.start_soon(one, url)
                    await trio.testing.wait_all_tasks_blocked()
            assert order == [URL, THIRD, OTHER]
            assert origins.most["all"] == 1
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------- room


async def test_room_for_another_origin_is_made_by_what_was_idle_longest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C1."""
    peers = [answering(OK), answering(OK, OK), answering(OK)]
    async with client_of(*peers, max_connections=2) as (client, network):
        await client.get(URL)
        await trio.sleep(1)
        await client.get(OTHER)
        await trio.sleep(1)
        await client.get(THIRD)
        await trio.testing.wait_all_tasks_blocked()
        assert [stream.closed for stream in network.streams] == [True, False, False]
        await client.get(OTHER)
        assert len(network.dialed) == 3
        assert await in_pool(client) == (0, 2)


async def test_an_origin_at_its_own_limit_takes_no_room_from_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C2: its waiters wait for their own."""
    async with client_of(answering(OK), slow(5, 5), max_connections=2, max_connections_per_origin=1) as (
        client,
        network,
    ):
        await client.get(OTHER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, URL)
            nursery.start_soon(client.get, URL)
            await trio.testing.wait_all_tasks_blocked()
            counts = client.statistics()
            assert counts.origins["http://other.example"] == PoolCounts(
                dialing=0, leased=0, idle=1, waiting=0
            )
            assert counts.origins["http://example.org"] == PoolCounts(dialing=0, leased=1, idle=0, waiting=1)
        assert len(network.dialed) == 2


async def test_an_origin_that_is_a_black_hole_starves_nobody(autojump_clock: trio.testing.MockClock) -> None:
    """C7: every slot is taken by its dials, and given up by those whose requests were cancelled."""
    async with trio.open_nursery() as nursery:
        origins = Origins(nursery)
        origins.dials["example.org"] = 1e9
        async with Client(dial=origins.dial, max_connections=3, max_connections_per_origin=3) as client:
            async with trio.open_nursery() as requests:
                for _ in range(20):
                    requests.start_soon(client.get, URL)
                await trio.sleep(5)
                requests.cancel_scope.cancel()
            assert client.statistics().dialing == 3
            started = trio.current_time()
            async with trio.open_nursery() as requests:
                for url in (OTHER, THIRD, OTHER):
                    requests.start_soon(client.get, url)
            assert trio.current_time() - started == pytest.approx(1), (
                "all at once, and none waited for a dial"
            )
            assert client.statistics().dialing == 0
        nursery.cancel_scope.cancel()


async def test_those_who_still_wait_for_a_black_hole_hold_their_slots_no_longer_than_a_dial_may_take(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C7: nobody is cancelled here, so another origin waits; but not for ever."""
    failed: list[float] = []
    async with trio.open_nursery() as nursery:
        origins = Origins(nursery)
        origins.dials["example.org"] = 1e9
        async with Client(dial=origins.dial, max_connections=2, dial_seconds=10) as client:
            started = trio.current_time()

            async def lost() -> None:
                with pytest.raises(ConnectFailed):
                    await client.get(URL)
                failed.append(trio.current_time() - started)

            async with trio.open_nursery() as requests:
                for _ in range(3):
                    requests.start_soon(lost)
                await trio.testing.wait_all_tasks_blocked()
                await client.get(OTHER)
                assert trio.current_time() - started == pytest.approx(11)
            assert failed == [pytest.approx(10), pytest.approx(10), pytest.approx(20)]
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------ dials


async def test_a_dial_is_shared_by_those_who_come_while_it_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C12: who began it is cancelled, who came later has it, and no second one is made."""
    async with trio.open_nursery() as nursery:
        origins = Origins(nursery)
        origins.dials["example.org"] = 5
        async with Client(dial=origins.dial) as client:
            with trio.move_on_after(4):
                await client.get(URL)
            started = trio.current_time()
            await client.get(URL)
            assert trio.current_time() - started == pytest.approx(2)
            assert origins.dialed == ["example.org"]
        nursery.cancel_scope.cancel()


async def test_there_are_no_more_dials_than_waiters(autojump_clock: trio.testing.MockClock) -> None:
    """C12."""
    async with trio.open_nursery() as nursery:
        origins = Origins(nursery)
        origins.dials["example.org"] = 5
        async with Client(dial=origins.dial) as client:
            for _ in range(6):
                with trio.move_on_after(0.5):
                    await client.get(URL)
            assert origins.dialed == ["example.org"]
            async with trio.open_nursery() as requests:
                requests.start_soon(client.get, URL)
                requests.start_soon(client.get, URL)
                await trio.testing.wait_all_tasks_blocked()
                assert len(origins.dialed) == 2
        nursery.cancel_scope.cancel()


async def test_a_cancelled_exchange_makes_room_for_who_waits_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C57: its connection is closed, another one is dialed, and no other is touched."""
    stuck = ScriptedPeer().expect_until(END).expect_end()
    async with client_of(slow(3), stuck, slow(1), max_connections_per_origin=2) as (client, network):
        started = trio.current_time()

        async def impatient() -> None:
            with trio.move_on_after(1):
                await client.get(URL)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, URL)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(impatient)
            await trio.testing.wait_all_tasks_blocked()
            await client.get(URL)
            assert trio.current_time() - started == pytest.approx(2)
            assert [stream.closed for stream in network.streams] == [False, True, False]
        assert await in_pool(client) == (0, 2)


async def test_a_foreign_stream_that_will_not_close_holds_up_neither_the_cancel_nor_the_next_request(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C59: what is waited for in a clean-up has an end."""

    class Sticky(trio.abc.Stream):
        """A stream whose close waits for its peer, as TLS does in its goodbye."""

        def __init__(self) -> None:
            self.closes = 0

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await trio.lowlevel.checkpoint()

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def aclose(self) -> None:
            self.closes += 1
            await trio.sleep_forever()

    streams = [Sticky(), answering(OK).stream]
    async with trio.open_nursery() as nursery:
        network = Network(nursery, answering(OK))

        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            return streams[0] if host == "example.org" else await network.dial(host, port, scheme)

        sticky = streams[0]
        assert isinstance(sticky, Sticky)
        async with Client(dial=dial, max_connections=1) as client:
            started = trio.current_time()
            with trio.move_on_after(1) as scope:
                await client.get(URL)
            assert scope.cancelled_caught
            assert trio.current_time() - started == pytest.approx(1)
            assert (await client.get(OTHER)).content == b"ok"
            assert trio.current_time() - started == pytest.approx(1)
        assert sticky.closes >= 1
        assert trio.current_time() - started == pytest.approx(1)
        nursery.cancel_scope.cancel()
