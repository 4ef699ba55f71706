"""Scenarios for which a defect planted in accepting or in stopping was the reason; see `test_holes`."""

from __future__ import annotations

import contextlib
import functools
import math
import socket
from collections.abc import AsyncIterator
from typing import Literal

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.cancellation._worlds import CONFIG, lands_in
from trio_http import Request, Response, Server, serve_listeners, serve_tcp
from trio_http.server import serve_connection
from trio_http.server._accept import Gate, accept_foreign_loop, accept_loop
from trio_http.testing import MemoryStream, cancel_at_every_step, memory_pair

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def hello(request: Request) -> Response:
    return Response(text="hello")


class Hall:
    """Where accepted sockets go.

    Attributes:
      guests: all that were admitted.
      inside: those that have not left the gate.
    """

    def __init__(self, listener: trio.SocketListener) -> None:
        self.listener = listener
        self.gate = Gate(2)
        self.guests: list[socket.socket] = []
        self.inside = 0

    def admit(self, guest: socket.socket, _: object) -> None:
        self.guests.append(guest)
        self.inside += 1

    async def fill(self) -> None:
        """Accept until three have come; those inside leave one after the other."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_loop, self.listener, self.admit, self.gate)
            while len(self.guests) < 3:
                await trio.testing.wait_all_tasks_blocked(0.001)
                if self.inside == 2:
                    self.inside -= 1
                    self.gate.leave()
            nursery.cancel_scope.cancel()


@pytest.mark.interop
async def test_accepting_loses_nobody_and_another_loop_goes_on_with_the_listener() -> None:
    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Hall]:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        hall = Hall(listener)
        clients = [socket.create_connection(listener.socket.getsockname()) for _ in range(3)]
        yield hall
        for sock in (*clients, *hall.guests):
            sock.close()
        await listener.aclose()

    async def check(hall: Hall) -> None:
        with trio.fail_after(10):
            await hall.fill()
        assert len(hall.guests) == 3
        assert hall.gate.open_count == hall.inside

    report = await cancel_at_every_step(Hall.fill, world=world, check=check)
    lands_in(report, "accept_loop")


class Door(trio.abc.Listener[MemoryStream]):
    """A listener in memory, to which some have come.

    Attributes:
      accepted: the server's ends that were given out.
      closed: it was closed.
    """

    def __init__(self, visitors: int) -> None:
        self._send, self._receive = trio.open_memory_channel[MemoryStream](math.inf)
        self.accepted: list[MemoryStream] = []
        self.closed = False
        self.visitors: list[MemoryStream] = []
        for _ in range(visitors):
            ours, theirs = memory_pair()
            self.visitors.append(ours)
            self._send.send_nowait(theirs)

    async def accept(self) -> MemoryStream:
        stream = await self._receive.receive()
        self.accepted.append(stream)
        return stream

    async def aclose(self) -> None:
        self.closed = True
        self._send.close()
        self._receive.close()
        for visitor in self.visitors:
            visitor.close()
        await trio.lowlevel.checkpoint()


async def test_a_foreign_stream_that_waits_for_room_is_closed_when_it_is_not_admitted(
    autojump_clock: MockClock,
) -> None:
    class Room:
        def __init__(self) -> None:
            self.doors = [Door(1), Door(1)]  # both wait for somebody, who come at once
            self.gate = Gate(1)
            self.admitted: list[trio.abc.Stream] = []

        def admit(self, stream: trio.abc.Stream) -> None:
            self.admitted.append(stream)

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Room]:
        room = Room()
        yield room
        for stream in room.admitted:
            await stream.aclose()
        for door in room.doors:
            await door.aclose()

    async def scenario(room: Room) -> None:
        async with trio.open_nursery() as nursery:
            for door in room.doors:
                nursery.start_soon(accept_foreign_loop, door, room.admit, room.gate)
            await trio.sleep(1)
            room.gate.leave()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert len(room.admitted) == 2

    def check(room: Room) -> None:
        accepted = [stream for door in room.doors for stream in door.accepted]
        lost = [stream for stream in accepted if stream not in room.admitted and not stream.closed]
        assert not lost, f"accepted, and in nobody's hands: {lost}"

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "accept_foreign_loop")


async def test_all_listeners_are_closed_whoever_is_cancelled(autojump_clock: MockClock) -> None:
    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[list[Door]]:
        yield [Door(1), Door(1), Door(0)]

    async def scenario(doors: list[Door]) -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(functools.partial(serve_listeners, hello, doors, config=CONFIG))
            await trio.sleep(1)
            for door in doors:
                for visitor in door.visitors:
                    visitor.close()
            await server.shutdown()

    async def check(doors: list[Door]) -> None:
        await trio.testing.wait_all_tasks_blocked()
        assert [door.closed for door in doors] == [True] * 3, "a listener was left open"
        assert all(stream.closed for door in doors for stream in door.accepted)
        for door in doors:
            await door.aclose()

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "accept", "shutdown")


async def test_the_end_of_a_grace_comes_through_whatever_holds_a_handler(autojump_clock: MockClock) -> None:
    """And it comes when who asked for it is cancelled: the shutdown goes on."""

    async def holds(request: Request) -> Response:
        with request.finish(within=1000):
            await trio.sleep(1000)
        return Response(text="too late")

    class House:
        server: Server

        def __init__(self) -> None:
            self.ended: float | None = None
            self.began = trio.current_time()

        async def serve(self, stream: MemoryStream, task_status: trio.TaskStatus[Server]) -> None:
            await serve_connection(holds, stream, config=CONFIG, task_status=task_status)
            self.ended = trio.current_time()

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[House]:
        client, server = memory_pair()
        house = House()
        async with trio.open_nursery() as nursery:
            house.server = await nursery.start(house.serve, server)
            await client.send_all(GET)
            await trio.sleep(1)
            yield house
            nursery.cancel_scope.cancel()
        client.close()

    async def scenario(house: House) -> None:
        await house.server.shutdown(5)

    async def check(house: House) -> None:
        if house.server.draining:  # else it was cancelled before it had begun
            await trio.sleep(20)
            assert house.ended is not None, "the server goes on"
            assert house.ended - house.began < 7

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "shutdown")


@pytest.mark.interop
@pytest.mark.parametrize("policy", ["wait", "refuse"])
async def test_what_is_accepted_and_not_yet_a_connection_leaves_no_descriptor(
    policy: Literal["wait", "refuse"],
) -> None:
    """A PROXY header that comes in two halves; and one connection more than there may be."""
    config = attrs.evolve(CONFIG, proxy_protocol_from=["127.0.0.0/8"], max_connections=1, excess=policy)

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(functools.partial(serve_tcp, hello, 0, config=config))
            port = server.listeners[0].socket.getsockname()[1]
            async with (
                await trio.open_tcp_stream("127.0.0.1", port) as first,
                await trio.open_tcp_stream("127.0.0.1", port) as second,
            ):
                await first.send_all(b"PROXY TCP4 192.0.2.1 ")
                await trio.testing.wait_all_tasks_blocked(0.002)
                await first.send_all(b"192.0.2.2 1000 80\r\n" + GET)
                assert (await first.receive_some()).startswith(b"HTTP/1.1 200 OK")
                if policy == "refuse":
                    assert (await second.receive_some()).startswith(b"HTTP/1.1 503 ")
            nursery.cancel_scope.cancel()

    report = await cancel_at_every_step(scenario)
    lands_in(report, "_serve_opening", *(["_refuse"] if policy == "refuse" else []))
