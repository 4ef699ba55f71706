"""Clients that go away at every offset of a request and at every stage of a response, over real TCP.

A client goes in one of three ways: it ends its sending and reads on ("fin"), it closes ("close": a FIN, then
a reset if anything more is sent to it), or it breaks the connection off ("reset": an RST, which also takes
what it had sent before and nobody has read yet).

Afterwards the server must be as it was: no descriptor more, no connection in its books or in its epoll, no
handler that runs on, nothing in the log that would get somebody out of bed; and it answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, Literal

import attrs
import pytest
import trio
import trio.testing

from tests.server.media import descriptors
from tests.server.support import GET, Peer, chunk, head, post
from trio_http import CancelReason, ClientDisconnected, Request, Response, ServerConfig, serve_tcp, wire
from trio_http.instruments import CloseRecord, ServerInstrument
from trio_http.server import Handler, Server

pytestmark = pytest.mark.interop

Way = Literal["fin", "close", "reset"]
WAYS: tuple[Way, ...] = ("fin", "close", "reset")

EXPECTING = head("POST", "/", "Content-Length: 5", "Expect: 100-continue")

REQUESTS: dict[str, bytes] = {
    "get": GET,
    "post": post(b"some content"),
    "chunked": head("POST", "/", "Transfer-Encoding: chunked", "Trailer: Sum")
    + chunk(b"some")
    + chunk(b"content")
    + b"0\r\nSum: 11\r\n\r\n",
    "expecting": EXPECTING + b"hello",
    "pipelined": post(b"first", target="/1") + head("GET", "/2"),
}


@dataclasses.dataclass
class Call:
    """What became of one call of a handler.

    Attributes:
      target: the request's.
      outcome: "running", then "answered", "told" when its reading or sending raised that the client is gone
        or its request not whole, or "cancelled".
      reason: why it was cancelled.
    """

    target: str
    outcome: str = "running"
    reason: CancelReason | None = None


class World(ServerInstrument):
    """A server, and what it did with each of its clients.

    Attributes:
      calls: of handlers, by the port of their client.
      server: once it runs.
    """

    def __init__(self) -> None:
        self.calls: dict[int, list[Call]] = {}
        self.server: Server
        self._closed: set[int] = set()
        self._change = trio.Event()

    def connection_closed(self, closing: CloseRecord) -> None:
        self._closed.add(closing.connection.peername[1])  # type: ignore[index, arg-type]
        self._change.set()
        self._change = trio.Event()

    async def wait_closed(self, port: int) -> None:
        """Wait until the server has done with that client."""
        while port not in self._closed:
            await self._change.wait()

    def recorded(self, handler: Handler) -> Handler:
        """Wrap a handler, so that what becomes of it is kept."""

        async def record(request: Request) -> Response | None:
            call = Call(request.target)
            self.calls.setdefault(request.connection.peername[1], []).append(call)  # type: ignore[index, arg-type]
            try:
                response = await handler(request)
            except (ClientDisconnected, wire.RemoteProtocolError):
                call.outcome = "told"
                raise
            except trio.Cancelled:
                call.outcome, call.reason = "cancelled", request.cancel_reason
                raise
            call.outcome = "answered"
            return response

        return record

    def open(self) -> Client:
        """Connect."""
        return Client(socket.create_connection(self.server.listeners[0].socket.getsockname()), self)


class Client:
    """A client that goes away.

    Attributes:
      peer: reads what it is answered.
      port: its own.
    """

    def __init__(self, sock: socket.socket, world: World) -> None:
        self._sock = sock
        self._world = world
        self.port: int = sock.getsockname()[1]
        sock.setblocking(False)
        self.peer = Peer(trio.SocketStream(trio.socket.from_stdlib_socket(sock)), takes_resets=True)

    @property
    def calls(self) -> list[Call]:
        return self._world.calls.get(self.port, [])

    async def go(self, way: Way) -> None:
        """Go away; returns when the server has done with it. It can then read what was on its way, if the
        way is "fin"."""
        if way == "fin":
            await self.peer.stream.send_eof()
        else:
            if way == "reset":
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await self.peer.stream.aclose()
        await self._world.wait_closed(self.port)

    async def whole_answers(self) -> list[int]:
        """Read to the end and return the status of each answer; each must be whole."""
        statuses = []
        while await self.peer.has_more():
            statuses.append((await self.peer.answer()).status)
        return statuses

    async def aclose(self) -> None:
        await self.peer.stream.aclose()


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, caplog: pytest.LogCaptureFixture, **settings: Any
) -> AsyncIterator[World]:
    """Serve for the block, in which clients come and go; see at its end that none has left anything behind.

    The block has 30 s, and takes about one.
    """
    world = World()
    config = attrs.evolve(ServerConfig(**settings), instruments=(world,))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[Server]) -> None:
                await serve_tcp(world.recorded(handler), 0, config=config, task_status=task_status)

            server = world.server = await nursery.start(serve)
            before = descriptors()
            with caplog.at_level(logging.WARNING):
                yield world
            assert [record.getMessage() for record in caplog.records] == []
            assert descriptors() == before
            statistics = server.statistics()
            assert (statistics.connections, statistics.handling) == (0, 0)
            poll = server._shared.poll
            assert poll is None or len(poll) == 0
            # What ran beside the connections has ended too: of the helpers, ticker and epoll are left.
            assert len(server._shared.nursery.child_tasks) == 1 + (poll is not None)
            assert len(server._shared.ticker) == 0
            assert "running" not in [call.outcome for calls in world.calls.values() for call in calls]
            client = world.open()
            async with client.peer.stream:
                await client.peer.send(head("GET", "/still-there"))
                assert (await client.peer.answer()).status == 200
            await world.wait_closed(client.port)
            server.begin_shutdown(0)


async def cut_everywhere(world: World, request: bytes, way: Way) -> dict[int, tuple[Client, list[int]]]:
    """Send each beginning of a request, the whole included, and go; all at once, on a connection each.

    Returns:
      By length: the client, and the answers that it has read, if it stayed to read.
    """
    gone: dict[int, tuple[Client, list[int]]] = {}

    async def send(length: int) -> None:
        client = world.open()
        async with client.peer.stream:
            await client.peer.send(request[:length])
            await client.go(way)
            gone[length] = client, await client.whole_answers() if way == "fin" else []

    async with trio.open_nursery() as nursery:
        for length in range(len(request) + 1):
            nursery.start_soon(send, length)
    return gone


async def wait_for_ever(request: Request) -> Response:
    """Read the request, and then need to be cancelled."""
    if request.path == "/still-there":
        return Response(200)
    await request.read()
    await trio.sleep_forever()
    raise AssertionError


async def read_and_answer(request: Request) -> Response:
    await request.read()
    return Response(200, text="all of it")


def complete(request: bytes) -> tuple[int, int]:
    """The offsets at which the first head of `request`, and the first request in it, are complete."""
    end_of_head = request.index(b"\r\n\r\n") + 4
    if request == REQUESTS["pipelined"]:
        return end_of_head, request.index(b"GET")
    return end_of_head, len(request)


# -- requests


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "edge_poll"),
    # Without the epoll an end behind another request does not show before that is read.
    [(name, True) for name in REQUESTS] + [(name, False) for name in REQUESTS if name != "pipelined"],
)
async def test_a_handler_is_cancelled_or_never_called_wherever_its_request_is_cut(
    name: str, way: Way, edge_poll: bool, caplog: pytest.LogCaptureFixture
) -> None:
    request = REQUESTS[name]
    end_of_head, end = complete(request)
    async with serving(wait_for_ever, caplog, edge_poll=edge_poll) as world:
        gone = await cut_everywhere(world, request, way)
        for length, (client, statuses) in gone.items():
            seen = length, client.calls, statuses
            ends = [(call.outcome, call.reason) for call in client.calls]
            assert len(client.calls) <= 1, seen
            assert all(status == 400 for status in statuses), seen
            if length < end_of_head:
                assert client.calls == [], seen
            elif length < end:
                # It reads, and meets the end there; a reset may also come before it is called, or cancel it.
                allowed = [[("told", None)], [("cancelled", CancelReason.CLIENT_DISCONNECTED)], []]
                assert ends in (allowed[:1] if way == "fin" else allowed), seen
            else:
                called = [("cancelled", CancelReason.CLIENT_DISCONNECTED)]
                assert ends == called or (way != "fin" and not client.calls), seen
                assert statuses == [], seen


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_handler_that_answers_whoever_is_left_harms_nothing(
    name: str, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it is cancelled depends on who is first; but half an answer never goes out as a whole one."""
    request = REQUESTS[name]
    async with serving(read_and_answer, caplog) as world:
        for length, (client, statuses) in (await cut_everywhere(world, request, way)).items():
            answers = request.count(b"HTTP/1.1") if length == len(request) else length >= complete(request)[1]
            assert statuses.count(200) <= answers, (length, statuses)
            assert len(client.calls) <= request.count(b"HTTP/1.1")


@pytest.mark.parametrize("edge_poll", [True, False])
@pytest.mark.parametrize("name", REQUESTS)
async def test_whoever_may_half_close_is_answered_exactly_what_was_asked_whole(
    name: str, edge_poll: bool, caplog: pytest.LogCaptureFixture
) -> None:
    request = REQUESTS[name]
    _, end = complete(request)
    async with serving(read_and_answer, caplog, edge_poll=edge_poll, half_close="answer") as world:
        for length, (_, statuses) in (await cut_everywhere(world, request, "fin")).items():
            answers = [200] * (length >= end)
            if name == "pipelined" and length == len(request):
                answers.append(200)
            # What was cut is told so, but for what was not begun: no client, then, asked for anything.
            rest = [400] if 0 < length < end or end < length < len(request) else []
            assert statuses in (answers + rest, answers), (length, statuses)


# -- responses


#: What one send of a streamed response holds, in bytes, and how many there are.
PIECE, PIECES = 1000, 5


@pytest.mark.parametrize("edge_poll", [True, False])
@pytest.mark.parametrize("way", WAYS)
async def test_a_client_may_go_before_the_head_and_after_each_piece_of_a_streamed_answer(
    way: Way, edge_poll: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler waits there, and is cancelled in its wait."""
    gates = [trio.Event() for _ in range(PIECES + 1)]

    async def handler(request: Request) -> Response | None:
        if request.path == "/still-there":
            return Response(200)
        stop = int(request.path[1:])
        if stop == 0:
            await gates[0].wait()
        async with request.stream_response() as body:
            for number in range(1, PIECES + 1):
                await body.send_all(bytes(PIECE))
                if stop == number:
                    await gates[number].wait()
        return None

    async def visit(stop: int) -> None:
        client = world.open()
        async with client.peer.stream:
            await client.peer.send(head("GET", f"/{stop}"))
            if stop:
                assert (await client.peer.head()).get("transfer-encoding") == "chunked"
                await client.peer.take(stop * len(chunk(bytes(PIECE))))
            while not client.calls:
                await trio.testing.wait_all_tasks_blocked(0.001)
            await client.go(way)
            assert client.calls == [Call(f"/{stop}", "cancelled", CancelReason.CLIENT_DISCONNECTED)]
            if way == "fin":
                # It reads on, and must not be led to believe that this was all.
                assert await client.peer.rest() == b""
                assert client.peer.ending == ("reset" if stop else "end")

    async with serving(handler, caplog, edge_poll=edge_poll) as world, trio.open_nursery() as nursery:
        for stop in range(PIECES + 1):
            nursery.start_soon(visit, stop)


@pytest.mark.parametrize("edge_poll", [True, False])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_may_go_anywhere_in_an_answer_that_is_larger_than_what_the_kernel_takes(
    streamed: bool, way: Way, edge_poll: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler, or the connection after it, waits for the client to read."""
    big = bytes(16 << 20)

    async def handler(request: Request) -> Response | None:
        if request.path == "/still-there":
            return Response(200)
        if not streamed:
            return Response(200, big)
        async with request.stream_response() as body:
            while True:
                await body.send_all(big[: 1 << 16])

    async def visit(length: int) -> None:
        client = world.open()
        async with client.peer.stream:
            await client.peer.send(GET)
            await client.peer.take(length)
            while not client.calls:
                await trio.testing.wait_all_tasks_blocked(0.001)
            await client.go(way)
            ends = [(call.outcome, call.reason) for call in client.calls]
            if streamed:
                assert ends in ([("told", None)], [("cancelled", CancelReason.CLIENT_DISCONNECTED)])
            else:
                assert ends == [("answered", None)]

    async with serving(handler, caplog, edge_poll=edge_poll) as world, trio.open_nursery() as nursery:
        for length in (0, 1, 17, 1000, 65536, 1 << 20, 4 << 20):
            nursery.start_soon(visit, length)
