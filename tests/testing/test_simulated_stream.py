"""A simulated connection's streams: Trio's contract, and what TCP does at the end of a connection."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_http.testing import (
    CLEAR,
    Mishap,
    SimulatedListener,
    SimulatedNetwork,
    SimulatedStream,
    Weather,
    cancel_at_every_step,
)

SLOW = Weather(latency=1)


async def connected(
    weather: Weather = CLEAR, *, buffer_bytes: int = 64 * 1024
) -> tuple[SimulatedStream, SimulatedStream]:
    """The two ends of a new connection, the client's first."""
    network = SimulatedNetwork(weather=weather, buffer_bytes=buffer_bytes)
    listener: SimulatedListener = network.listen("a", 80)
    client = await network.dial("a", 80)
    return client, await listener.accept()


@pytest.mark.parametrize(
    "weather",
    [CLEAR, Weather(latency=0.1, jitter=(0, 0.2), split=0.5, stall=0.1)],
    ids=["clear", "slow and split"],
)
async def test_it_keeps_trios_contract_for_streams(weather: Weather, autojump_clock: MockClock) -> None:
    async def make() -> tuple[SimulatedStream, SimulatedStream]:
        return await connected(weather)

    async def make_clogged() -> tuple[SimulatedStream, SimulatedStream]:
        left, right = await connected(weather, buffer_bytes=1)
        await left.send_all(b"x")
        await right.send_all(b"x")
        return left, right

    await trio.testing.check_half_closeable_stream(make, make_clogged)


async def test_what_is_on_its_way_is_bounded_and_a_sender_waits_for_the_receiver(
    autojump_clock: MockClock,
) -> None:
    client, server = await connected(SLOW, buffer_bytes=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"abcdefgh")
        await trio.testing.wait_all_tasks_blocked()
        assert client.end.sent_bytes == 3
        await trio.sleep(100)
        assert client.end.sent_bytes == 3
        assert await server.receive_some(2) == b"ab"
        assert client.end.sent_bytes == 3  # the sender has yet to run
        await trio.testing.wait_all_tasks_blocked()
        assert client.end.sent_bytes == 5
        assert await server.receive_some() == b"c"
        received = b""
        while len(received) < 5:
            received += await server.receive_some()
    assert received == b"defgh"


async def test_bytes_that_were_lost_hold_up_the_sender(autojump_clock: MockClock) -> None:
    script = (Mishap(way="client", at_byte=2, then="silence"),)
    client, server = await connected(Weather(script=script), buffer_bytes=10)
    with trio.move_on_after(1000) as scope:
        await client.send_all(bytes(100))
    assert scope.cancelled_caught
    assert client.end.sent_bytes == 10
    assert await server.receive_some() == bytes(2)
    with trio.move_on_after(1000) as scope:
        await client.send_all(bytes(100))
    assert scope.cancelled_caught
    assert client.end.sent_bytes == 12


async def test_an_end_arrives_after_what_was_sent_before_it(autojump_clock: MockClock) -> None:
    client, server = await connected(Weather(latency=1, bytes_per_second=10))
    began = trio.current_time()
    await client.send_all(bytes(50))
    await client.send_eof()
    assert await server.receive_some() == bytes(50)
    assert trio.current_time() == began + 6
    assert await server.receive_some() == b""
    assert trio.current_time() == began + 6
    await server.send_all(b"half-closed only")
    assert await client.receive_some() == b"half-closed only"
    with pytest.raises(trio.ClosedResourceError, match="ended by our side"):
        await client.send_all(b"more")
    await client.send_eof()  # again, which does nothing


async def test_a_peer_that_has_closed_answers_by_a_reset_after_the_way_there_and_back(
    autojump_clock: MockClock,
) -> None:
    client, server = await connected(SLOW)
    await server.send_all(b"bye")
    await server.aclose()
    began = trio.current_time()
    await client.send_all(b"are you there?")
    assert await client.receive_some() == b"bye"
    assert await client.receive_some() == b""
    assert trio.current_time() == began + 1
    with trio.CancelScope(deadline=began + 1.99):
        while True:  # each is taken, for nothing is known here as yet
            await client.send_all(b"x")
            await trio.sleep(0.2)
    assert not client.end.broken
    await trio.sleep_until(began + 2)
    assert client.end.broken
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()


async def test_a_close_before_what_is_on_its_way_arrives_is_noticed_when_it_has(
    autojump_clock: MockClock,
) -> None:
    client, server = await connected(SLOW)
    await client.send_all(b"too late")
    await trio.sleep(0.25)
    await server.aclose()
    began = trio.current_time()
    assert await client.receive_some() == b""
    assert trio.current_time() == began + 1
    await trio.sleep_until(began + 1.7)
    assert not client.end.broken
    await trio.sleep_until(began + 1.75)  # there after 0.75 s, and back after one more
    assert client.end.broken


async def test_closing_with_bytes_unread_resets_the_connection_at_once(autojump_clock: MockClock) -> None:
    client, server = await connected(SLOW)
    await client.send_all(b"unread")
    await server.send_all(b"lost, too")
    await trio.sleep(1)
    await server.aclose()
    await trio.sleep(0.9)
    assert not client.end.broken
    await trio.sleep(0.1)
    with pytest.raises(trio.BrokenResourceError):  # although bytes had arrived
        await client.receive_some()
    assert client.connection.client.received_bytes == 0


async def test_a_reset_is_the_end_for_whoever_waits_and_for_what_was_on_its_way(
    autojump_clock: MockClock,
) -> None:
    client, server = await connected(SLOW, buffer_bytes=4)
    began = trio.current_time()
    ends: list[tuple[str, float]] = []

    async def breaks(name: str, stream: SimulatedStream) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await (stream.send_all(bytes(9)) if name == "send" else stream.receive_some())
        ends.append((name, trio.current_time() - began))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(breaks, "send", server)
        nursery.start_soon(breaks, "receive", server)
        await trio.sleep(0.5)
        client.reset()
        client.close()  # the first way of leaving counts
    assert sorted(ends) == [("receive", 1.5), ("send", 1.5)]
    assert (client.end.left, server.end.left) == ("reset", None)
    for call in (client.receive_some, client.send_eof, lambda: client.send_all(b"x")):
        with pytest.raises(trio.ClosedResourceError):
            await call()
    with pytest.raises(trio.BrokenResourceError):
        await server.send_eof()
    assert client.connection.open
    server.close()
    assert not client.connection.open


async def test_who_waits_at_an_end_is_woken_when_that_is_closed() -> None:
    client, server = await connected(buffer_bytes=1)
    await client.send_all(b"x")

    async def fails(name: str) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await (client.send_all(b"y") if name == "send" else client.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, "send")
        nursery.start_soon(fails, "receive")
        await trio.testing.wait_all_tasks_blocked()
        client.close()
    server.close()


async def test_neither_end_of_a_transfer_loses_bytes_when_it_is_cancelled(autojump_clock: MockClock) -> None:
    """Whatever a cancelled receiver has not got is there for the next; what was sent, `sent_bytes` tells."""

    class World(trio.abc.AsyncResource):
        async def aclose(self) -> None:
            self.client.close()
            self.server.close()

        async def __aenter__(self) -> World:
            self.received = b""
            weather = Weather(latency=0.1, jitter=(0, 0.1), split=0.6, split_bytes=(1, 3))
            self.client, self.server = await connected(weather, buffer_bytes=8)
            return self

    sent = bytes(range(40))

    async def scenario(world: World) -> None:
        async def receive() -> None:
            while len(world.received) < len(sent):
                world.received += await world.server.receive_some(5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await world.client.send_all(sent)

    async def check(world: World) -> None:
        await world.client.aclose()
        while True:
            data = await world.server.receive_some()
            if not data:
                break
            world.received += data
        assert world.received == sent[: world.client.end.sent_bytes]

    report = await cancel_at_every_step(scenario, world=World, check=check)
    assert len(report.points) > 20
