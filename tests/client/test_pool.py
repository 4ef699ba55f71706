"""Waiting for a connection, dialing one, keeping some: who is served, when, and what a cancel leaves
behind.
"""

from __future__ import annotations

import contextlib
import contextvars
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, Network, answering, client_of, in_pool
from trio_http import ConnectFailed, PoolClosed
from trio_http.client import Client, ClientStatistics
from trio_http.testing import MemoryStream, ScriptedPeer, memory_pair

OTHER = "http://other.example/"


def slowly(*answers: bytes, seconds: float = 1) -> ScriptedPeer:
    """A server that takes its time for each answer."""
    peer = ScriptedPeer()
    for answer in answers:
        peer.expect_until(END).wait(seconds).send(answer)
    return peer


# ----------------------------------------------------------------------------------------------------- limits


async def test_requests_over_the_origins_limit_wait_and_are_served_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    order: list[int] = []

    async with client_of(slowly(OK, OK, OK, OK), max_connections_per_origin=1) as (client, network):

        async def one(number: int) -> None:
            await client.get(URL)
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(one, number)
                await trio.testing.wait_all_tasks_blocked()
            assert client.statistics() == ClientStatistics(dialing=0, leased=1, idle=0, waiting=3)
        assert order == [0, 1, 2, 3]
        assert len(network.dialed) == 1


async def test_a_cancelled_waiter_leaves_the_queue_and_holds_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client_of(slowly(OK, OK, seconds=5), max_connections_per_origin=1) as (client, network):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, URL)
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(1) as scope:
                await client.get(URL)
            assert scope.cancelled_caught
            assert client.statistics().waiting == 0
            await client.get(URL)
        assert network.heads().count(b"GET") == 2
        assert await in_pool(client) == (0, 1)


async def test_the_total_limit_takes_the_idle_connection_of_another_origin() -> None:
    async with client_of(answering(OK).expect_end(), answering(OK), max_connections=1) as (client, network):
        await client.get(URL)
        await client.get(OTHER)
        await trio.testing.wait_all_tasks_blocked()
        assert network.peers[0].finished
        assert await in_pool(client) == (0, 1)
    assert [host for host, _, _ in network.dialed] == ["example.org", "other.example"]


async def test_a_connection_given_back_makes_room_for_an_origin_that_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client_of(slowly(OK).expect_end(), answering(OK), max_connections=1) as (client, network):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, URL)
            await trio.testing.wait_all_tasks_blocked()
            await client.get(OTHER)
        assert network.peers[0].finished


# ---------------------------------------------------------------------------------------------- the hand-over


async def test_a_waiter_that_is_given_a_connection_and_then_cancelled_gives_it_back() -> None:
    # Of a chunked body the end is only found by reading it.
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with client_of(answering(chunked, OK), max_connections_per_origin=1) as (client, _):
        async with client.stream("GET", URL) as response:
            scope = trio.CancelScope()
            cancelled = trio.Event()

            async def waiter() -> None:
                with scope:
                    await client.get(URL)
                assert scope.cancelled_caught
                cancelled.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(waiter)
                await trio.testing.wait_all_tasks_blocked()
                # The last byte gives the connection to the waiter; before it can run, it is cancelled.
                await response.read()
                assert client.statistics().leased == 1
                scope.cancel()
                await cancelled.wait()
        assert await in_pool(client) == (0, 1)
        assert (await client.get(URL)).content == b"ok"


async def test_a_waiter_that_is_cancelled_before_a_connection_is_free_does_not_get_it() -> None:
    async with (
        client_of(answering(OK), max_connections_per_origin=1) as (client, _),
        client.stream("GET", URL) as response,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.get, URL)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        await response.read()
        assert client.statistics() == ClientStatistics(dialing=0, leased=0, idle=1, waiting=0)


# ------------------------------------------------------------------------------------------------------ dials


class Gate:
    """A dial that waits until it is opened."""

    def __init__(self, network: Callable[[str, int, str], Awaitable[trio.abc.Stream]]) -> None:
        self.opened = trio.Event()
        self.cancelled = 0
        self._network = network

    async def dial(self, host: str, port: int, scheme: str) -> trio.abc.Stream:
        try:
            await self.opened.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return await self._network(host, port, scheme)


async def test_a_cancelled_request_leaves_its_dial_to_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        network = Network(nursery, answering(OK))
        gate = Gate(network.dial)
        async with Client(dial=gate.dial) as client:
            with trio.move_on_after(1) as scope:
                await client.get(URL)
            assert scope.cancelled_caught
            assert client.statistics() == ClientStatistics(dialing=1, leased=0, idle=0, waiting=0)
            gate.opened.set()
            assert (await client.get(URL)).content == b"ok"
        assert len(network.dialed) == 1
        nursery.cancel_scope.cancel()


async def test_a_dial_that_nobody_waits_for_becomes_an_idle_connection() -> None:
    async with trio.open_nursery() as nursery:
        network = Network(nursery, ScriptedPeer())
        gate = Gate(network.dial)
        async with Client(dial=gate.dial) as client:
            async with trio.open_nursery() as requests:
                requests.start_soon(client.get, URL)
                await trio.testing.wait_all_tasks_blocked()
                requests.cancel_scope.cancel()
            gate.opened.set()
            assert await in_pool(client) == (0, 1)
        assert network.streams[0].closed
        nursery.cancel_scope.cancel()


async def test_dials_into_a_black_hole_starve_nobody() -> None:
    async with trio.open_nursery() as nursery:
        network = Network(nursery, answering(OK))
        hole = Gate(network.dial)

        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            return await (hole.dial if host == "example.org" else network.dial)(host, port, scheme)

        async with Client(dial=dial, max_connections=2) as client:
            for _ in range(3):
                async with trio.open_nursery() as requests:
                    requests.start_soon(client.get, URL)
                    requests.start_soon(client.get, URL)
                    await trio.testing.wait_all_tasks_blocked()
                    requests.cancel_scope.cancel()
            assert client.statistics().dialing == 2
            assert (await client.get(OTHER)).content == b"ok"
            assert hole.cancelled == 1
        nursery.cancel_scope.cancel()


async def test_a_dial_has_a_time_limit(autojump_clock: trio.testing.MockClock) -> None:
    async def dial(*_: object) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    async with Client(dial=dial, dial_seconds=7) as client:
        started = trio.current_time()
        with pytest.raises(ConnectFailed, match="not made within 7 s"):
            await client.get(URL)
        assert trio.current_time() - started == pytest.approx(7)
        assert client.statistics() == ClientStatistics(dialing=0, leased=0, idle=0, waiting=0)


async def test_a_failed_dial_fails_one_request_and_no_other(autojump_clock: trio.testing.MockClock) -> None:
    async with client_of(slowly(OK)) as (client, _):  # the second dial is refused
        results: list[object] = []

        async def one() -> None:
            try:
                results.append((await client.get(URL)).status)
            except ConnectFailed:
                results.append(ConnectFailed)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)
        assert sorted(results, key=str) == [200, ConnectFailed]


async def test_an_error_of_the_users_own_dial_comes_out_as_it_is() -> None:
    error = LookupError("no such service")

    async def dial(*_: object) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise error

    async with Client(dial=dial) as client:
        with pytest.raises(LookupError) as caught:
            await client.get(URL)
        assert caught.value is error


async def test_a_dial_sees_the_context_variables_of_its_caller_whoever_makes_room_for_it() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    seen: list[str] = []

    async def ask(client: Client, url: str, name: str) -> None:
        who.set(name)
        await client.get(url)
        assert who.get() == name

    async with client_of(answering(OK).expect_end(), answering(OK)) as (_, network):

        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            seen.append(who.get())
            who.set("a dial")
            return await network.dial(host, port, scheme)

        async with Client(dial=dial, max_connections=1) as client, trio.open_nursery() as nursery:
            nursery.start_soon(ask, client, URL, "first")
            await trio.lowlevel.checkpoint()
            nursery.start_soon(ask, client, OTHER, "second")  # the end of the first makes room
    assert seen == ["first", "second"]


# --------------------------------------------------------------------------------------- idle, expired, stale


async def test_an_idle_connection_is_closed_after_its_time(autojump_clock: trio.testing.MockClock) -> None:
    async with client_of(answering(OK).expect_end(), answering(OK), idle_seconds=15) as (client, network):
        await client.get(URL)
        await trio.sleep(14)
        assert await in_pool(client) == (0, 1)
        await trio.sleep(1.5)
        assert await in_pool(client) == (0, 0)
        assert network.peers[0].finished
        await client.get(URL)
        assert len(network.dialed) == 2


async def test_each_use_begins_the_idle_time_anew(autojump_clock: trio.testing.MockClock) -> None:
    async with client_of(answering(*[OK] * 4), idle_seconds=15) as (client, network):
        for _ in range(4):
            await client.get(URL)
            await trio.sleep(10)
        assert len(network.dialed) == 1


async def test_a_connection_in_use_does_not_expire(autojump_clock: trio.testing.MockClock) -> None:
    async with client_of(slowly(OK, OK, seconds=100), idle_seconds=15) as (client, network):
        await client.get(URL)
        await client.get(URL)
        assert len(network.dialed) == 1


@pytest.mark.parametrize(
    "said", [None, b"HTTP/1.1 408 Request Timeout\r\n\r\n"], ids=["closed", "said something"]
)
async def test_a_stale_connection_is_noticed_before_it_is_used(said: bytes | None) -> None:
    """Over a real socket pair, since only a socket can be looked into."""
    peers: list[trio.SocketStream] = []

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(
            trio.BrokenResourceError
        ):  # a reset, for the client has left something unread
            while await stream.receive_some():
                await stream.send_all(OK)

    async with trio.open_nursery() as nursery:

        async def dial(*_: object) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(s)) for s in socket.socketpair())
            peers.append(theirs)
            nursery.start_soon(serve, theirs)
            return ours

        async with Client(dial=dial) as client:
            await client.get(URL)
            await client.get(URL)
            assert len(peers) == 1
            await trio.testing.wait_all_tasks_blocked()
            if said is None:
                await peers[0].send_eof()
            else:
                await peers[0].send_all(said)
            assert (await client.post(URL, content=b"not repeatable")).content == b"ok"
            assert len(peers) == 2
            assert await in_pool(client) == (0, 1)
    for peer in peers:
        await peer.aclose()


@pytest.mark.parametrize(("size", "idle"), [(64_000, 1), (70_000, 0)])
async def test_what_lies_unread_in_the_socket_is_thrown_away_up_to_64_kib(size: int, idle: int) -> None:
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(s)) for s in socket.socketpair())

    async def dial(*_: object) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    async with Client(dial=dial) as client, trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        async with client.stream("GET", URL):
            await trio.testing.wait_all_tasks_blocked()
            await theirs.send_all(b"x" * size)  # which the kernel holds
        assert client.statistics().idle == idle
    await theirs.aclose()


# ------------------------------------------------------------------------------------------------------ churn


async def test_no_slot_is_lost_in_a_thousand_cancels(autojump_clock: trio.testing.MockClock) -> None:
    """Four slots, twelve tasks, cancels at all times of dial, wait, exchange and hand-over; then four at
    once succeed.
    """

    async def serve(stream: MemoryStream) -> None:
        try:
            while await stream.receive_some():
                await trio.sleep(0.3)
                await stream.send_all(OK)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as servers:

        async def dial(*_: object) -> trio.abc.Stream:
            await trio.sleep(0.2)
            ours, theirs = memory_pair()
            servers.start_soon(serve, theirs)
            return ours

        async with Client(dial=dial, max_connections=4, max_connections_per_origin=3) as client:

            async def churn(seed: int) -> None:
                for number in range(84):
                    with trio.move_on_after((seed * 7 + number * 13) % 17 / 10):
                        await client.get((URL, OTHER)[number * seed % 2])
                    client._pool.ledger.check()

            async with trio.open_nursery() as nursery:
                for seed in range(12):
                    nursery.start_soon(churn, seed)
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    for url in (URL, URL, OTHER, OTHER):
                        nursery.start_soon(client.get, url)
            assert client.statistics().leased == client.statistics().waiting == 0
        servers.cancel_scope.cancel()


# ---------------------------------------------------------------------------------------------------- closing


async def test_requests_of_other_tasks_end_in_pool_closed_when_the_client_closes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ended: list[PoolClosed] = []

    async def one(client: Client, url: str) -> None:
        with pytest.raises(PoolClosed) as caught:
            await client.get(url)
        ended.append(caught.value)

    async def hole(host: str, port: int, scheme: str) -> trio.abc.Stream:
        if host == "other.example":
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return memory_pair()[0]

    async with trio.open_nursery() as nursery:
        async with Client(dial=hole, max_connections_per_origin=1) as client:
            for url in (URL, URL, OTHER):  # one exchange, one waiter, one dial
                nursery.start_soon(one, client, url)
            await trio.testing.wait_all_tasks_blocked()
            assert client.statistics() == ClientStatistics(dialing=1, leased=1, idle=0, waiting=2)
        await trio.testing.wait_all_tasks_blocked()
        assert len(ended) == 3
        assert sorted(error.facts.may_have_acted for error in ended) == [False, False, True]
        with pytest.raises(PoolClosed, match="the client is closed"):
            await client.get(URL)


async def test_a_stream_of_another_task_ends_in_pool_closed_when_the_client_closes() -> None:
    reading = trio.Event()

    async def read(client: Client) -> None:
        async with client.stream("GET", URL) as response:
            reading.set()
            with pytest.raises(PoolClosed):
                await response.read()

    peer = ScriptedPeer().expect_until(END).send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    async with trio.open_nursery() as nursery, client_of(peer) as (client, _):
        nursery.start_soon(read, client)
        await reading.wait()
        await trio.testing.wait_all_tasks_blocked()
