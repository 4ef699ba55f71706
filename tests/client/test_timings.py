"""Where the time of a request went (C62)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, Network, client_of
from trio_http.client import Client, Timings
from trio_http.testing import ScriptedPeer


async def test_each_part_has_its_time(autojump_clock: trio.testing.MockClock) -> None:
    """C62."""
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    peer = ScriptedPeer().expect_until(END).wait(3).send(body + b"ab").wait(5).send(b"cd")
    peer.expect_until(END).wait(1).send(OK)
    async with trio.open_nursery() as nursery:
        network = Network(nursery, peer)

        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            await trio.sleep(2)
            return await network.dial(host, port, scheme)

        async with Client(dial=dial) as client:
            first, second = await client.get(URL), await client.get(URL)
        nursery.cancel_scope.cancel()
    assert first.timings == Timings(waiting=2, name=0, connect=2, proxy=0, tls=0, first_byte=3, total=10)
    assert second.timings == Timings(waiting=0, name=0, connect=0, proxy=0, tls=0, first_byte=1, total=1)


async def test_a_wait_in_line_is_a_wait_and_the_dial_is_its_first_users(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C62."""
    peer = ScriptedPeer().expect_until(END).wait(3).send(OK).expect_until(END).wait(1).send(OK)
    timings: list[Timings] = []
    async with client_of(peer, max_connections=1) as (client, _):

        async def ask() -> None:
            timings.append((await client.get(URL)).timings)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(1)
            nursery.start_soon(ask)
    assert (timings[0].waiting, timings[0].first_byte, timings[0].total) == (0, 3, 3)
    assert (timings[1].waiting, timings[1].first_byte, timings[1].total) == (2, 1, 3)


async def test_those_of_a_streamed_response_go_up_to_its_head(autojump_clock: trio.testing.MockClock) -> None:
    """C62."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    peer = ScriptedPeer().expect_until(END).wait(2).send(head[:9]).wait(3).send(head[9:]).wait(4).send(b"ab")
    async with client_of(peer) as (client, _), client.stream("GET", URL) as response:
        assert (response.timings.first_byte, response.timings.total) == (2, 5)
        await response.read()
        assert response.timings.total == 5


async def test_name_and_connection_are_told_apart(autojump_clock: trio.testing.MockClock) -> None:
    """C62: with a resolver that takes its time, over a real socket."""

    async def resolver(host: str, port: int) -> list[str]:
        await trio.sleep(4)
        return ["127.0.0.1"]

    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(OK)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        async with Client(resolver=resolver) as client:
            timings = (await client.get(f"http://name.example:{port}/")).timings
        nursery.cancel_scope.cancel()
    assert timings.name == pytest.approx(4)
    assert timings.waiting == pytest.approx(timings.name + timings.connect)
    assert timings.total == pytest.approx(timings.waiting + timings.first_byte)
    assert (timings.proxy, timings.tls) == (0, 0)
