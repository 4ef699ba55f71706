"""Dialling, listening and accepting on a simulated network, and what it tells of itself."""

from __future__ import annotations

import errno
import random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_http.testing import (
    STORM,
    SimulatedListener,
    SimulatedNetwork,
    SimulatedStream,
    TraceEntry,
    Weather,
    cancel_at_every_step,
)


async def test_a_dial_leads_to_the_listener_of_its_host_and_port(autojump_clock: MockClock) -> None:
    async with SimulatedNetwork() as network:
        first, second = network.listen("Example.ORG", 80), network.listen("example.org", 81)
        client = await network.dial("example.org", 81)
        await client.send_all(b"to 81")
        server = await second.accept()
        assert await server.receive_some() == b"to 81"
        assert (first.waiting, second.waiting) == (0, 0)
        (connection,) = network.connections
        assert (connection.host, connection.port, connection.scheme) == ("example.org", 81, "http")
        assert connection.client.sent_bytes == connection.server.received_bytes == 5
        assert connection.open
        await client.aclose()
        assert connection.open
        await server.aclose()
        assert not connection.open
        assert network.left_open() == [repr(first), repr(second)]
    assert network.left_open() == []


async def test_a_dial_to_nobody_is_refused_after_the_way_there_and_back(autojump_clock: MockClock) -> None:
    network = SimulatedNetwork(weather=Weather(latency=0.25))
    with pytest.raises(ConnectionRefusedError, match="a:80") as caught:
        await network.dial("a", 80)
    assert caught.value.errno == errno.ECONNREFUSED
    assert trio.current_time() == 0.5
    network.listen("a", 80).close()
    with pytest.raises(ConnectionRefusedError):
        await network.dial("a", 80)
    assert network.connections == ()


async def test_the_weather_refuses_delays_and_swallows_dials(autojump_clock: MockClock) -> None:
    network = SimulatedNetwork(weather=Weather(dial_refused=1, dial_seconds=3))
    listener = network.listen("a", 80)
    with pytest.raises(ConnectionRefusedError):
        await network.dial("a", 80)
    assert trio.current_time() == 3
    network.weather = Weather(black_hole=1)
    with trio.move_on_after(100) as scope:
        await network.dial("a", 80)
    assert scope.cancelled_caught
    assert listener.waiting == 0
    assert network.events == {"dial": 2, "refuse": 1, "black hole": 1}


async def test_two_cannot_listen_in_one_place_at_a_time() -> None:
    network = SimulatedNetwork()
    listener = network.listen("a", 80)
    with pytest.raises(OSError, match="already") as caught:
        network.listen("A", 80)
    assert caught.value.errno == errno.EADDRINUSE
    await listener.aclose()
    again = network.listen("a", 80)
    assert not again.closed
    again.close()


async def test_a_full_backlog_holds_up_dials_until_somebody_accepts(autojump_clock: MockClock) -> None:
    network = SimulatedNetwork()
    listener = network.listen("a", 80, backlog=1)
    made: list[SimulatedStream] = []

    async def dial() -> None:
        made.append(await network.dial("a", 80))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(dial)
        await trio.testing.wait_all_tasks_blocked()
        assert (len(made), listener.waiting) == (1, 1)
        await listener.accept()
        await trio.testing.wait_all_tasks_blocked()
        assert (len(made), listener.waiting) == (2, 1)
        nursery.cancel_scope.cancel()
    assert (await listener.accept()).connection is made[1].connection
    assert len(network.connections) == 2
    network.close()


async def test_a_listener_that_closes_resets_what_waits_and_refuses_who_dials(
    autojump_clock: MockClock,
) -> None:
    network = SimulatedNetwork()
    listener = network.listen("a", 80, backlog=1)
    waiting = await network.dial("a", 80)
    ends: list[str] = []

    async def dial() -> None:
        with pytest.raises(ConnectionRefusedError):
            await network.dial("a", 80)
        ends.append("refused")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        await trio.testing.wait_all_tasks_blocked()
        await listener.aclose()
        listener.close()
    assert ends == ["refused"]
    with pytest.raises(trio.BrokenResourceError):
        await waiting.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    waiting.close()
    assert network.left_open() == []


async def test_who_waits_to_accept_is_told_of_the_close_and_loses_nothing_by_a_cancel(
    autojump_clock: MockClock,
) -> None:
    network = SimulatedNetwork()
    listener = network.listen("a", 80)
    with trio.move_on_after(1):
        await listener.accept()
    client = await network.dial("a", 80)
    with trio.CancelScope() as scope:
        scope.cancel()
        await listener.accept()
    assert listener.waiting == 1
    assert (await listener.accept()).connection is client.connection

    async def accept() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        nursery.start_soon(accept)
        await trio.testing.wait_all_tasks_blocked()
        listener.close()
    network.close()


async def test_a_cancelled_dial_or_accept_leaves_no_connection_behind(autojump_clock: MockClock) -> None:
    async def scenario(network: SimulatedNetwork) -> None:
        listener = network.listen("a", 80, backlog=1)
        ends: list[SimulatedStream] = []

        async def dial() -> None:
            ends.append(await network.dial("a", 80))

        async def accept() -> None:
            for _ in range(3):
                ends.append(await listener.accept())

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept)
                for _ in range(3):
                    nursery.start_soon(dial)
        finally:
            listener.close()
            for stream in ends:
                stream.close()

    def check(network: SimulatedNetwork) -> None:
        assert network.left_open() == []

    report = await cancel_at_every_step(
        scenario, world=lambda: SimulatedNetwork(weather=Weather(latency=(0.1, 0.2))), check=check
    )
    assert len(report.points) > 10


async def test_a_closed_network_is_of_no_more_use(autojump_clock: MockClock) -> None:
    network = SimulatedNetwork()
    listener = network.listen("a", 80)
    client = await network.dial("a", 80)
    await network.aclose()
    assert client.closed
    assert listener.closed
    with pytest.raises(trio.ClosedResourceError):
        await network.dial("a", 80)
    with pytest.raises(trio.ClosedResourceError):
        network.listen("b", 80)


async def test_closed_connections_stay_known_and_their_streams_do_not(autojump_clock: MockClock) -> None:
    network = SimulatedNetwork()
    listener = network.listen("a", 80)
    kept = await network.dial("a", 80)
    for _ in range(500):
        (await network.dial("a", 80)).close()
        (await listener.accept()).close()
    assert len(network.connections) == 501
    assert len(network._streams) <= 66
    assert repr(kept) in network.left_open()
    network.close()


def test_a_place_without_room_is_refused() -> None:
    with pytest.raises(ValueError):
        SimulatedNetwork(buffer_bytes=0)
    with pytest.raises(ValueError):
        SimulatedNetwork().listen("a", 80, backlog=0)


async def digest(seed: int | random.Random, sends: int = 5) -> str:
    network = SimulatedNetwork(seed=seed, weather=Weather(latency=(0, 1), jitter=(0, 1), split=0.3))
    listener: SimulatedListener = network.listen("a", 80)
    client = await network.dial("a", 80)
    await listener.accept()
    for _ in range(sends):
        await client.send_all(bytes(100))
    start = network.trace[0].time
    return SimulatedNetworkDigest.of(network.trace, start)


class SimulatedNetworkDigest:
    """A digest of a trace whose times count from the beginning of the test."""

    @staticmethod
    def of(trace: list[TraceEntry], start: float) -> str:
        network = SimulatedNetwork()
        network.trace = [
            entry._replace(time=round(entry.time - start, 6), at=round(entry.at - start, 6))
            for entry in trace
        ]
        return network.trace_digest


async def test_what_is_drawn_depends_on_the_seed(autojump_clock: MockClock) -> None:
    assert await digest(1) == await digest(1)
    assert await digest(1) != await digest(2)
    assert await digest(1) != await digest(1, sends=6)
    assert await digest(random.Random(3)) == await digest(random.Random(3))
    assert await digest(random.Random(3)) != await digest(random.Random(4))


async def test_the_trace_can_be_read(autojump_clock: MockClock) -> None:
    network = SimulatedNetwork(weather=STORM)
    assert repr(network) == "<SimulatedNetwork, 0 connections, 0 of them open>"
    lines = [
        str(entry)
        for entry in (
            TraceEntry(1.5, 3, "client", "send", 120, 1.75),
            TraceEntry(1.5, 3, "client", "stall", 2.5, 4.0),
            TraceEntry(1.5, 3, "server", "lose", 7, float("inf")),
            TraceEntry(1.5, 3, "", "connect", 0, 1.5),
        )
    ]
    assert lines == [
        "    1.5000 #3 client send 120 (at 1.7500)",
        "    1.5000 #3 client stall 2.5 s (at 4.0000)",
        "    1.5000 #3 server lose 7 (never to arrive)",
        "    1.5000 #3 both   connect",
    ]
