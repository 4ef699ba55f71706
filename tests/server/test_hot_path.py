"""What an ordinary exchange costs, counted rather than timed (the budget is a promise of the design)."""

from __future__ import annotations

import collections
import heapq
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.server.media import Medium
from tests.server.support import GET, Peer, hello, post, serve
from trio_http import Request, Response, serve_connection
from trio_http.transport import SocketTransport

ROUNDS = 20


class Watched(SocketTransport):
    """A transport over a socket that counts the calls which reach the kernel, and the waits."""

    __slots__ = ("calls",)

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.calls: collections.Counter[str] = collections.Counter()
        self._recv = self._counting("recv", self._recv)
        self._send = self._counting("send", self._send)

    def _counting(self, name: str, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counted(argument: Any) -> Any:
            self.calls[name] += 1
            return call(argument)

        return counted


class Tasks(trio.abc.Instrument):
    """Counts tasks that begin, and the steps of the server's."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.spawned = 0
        self.steps = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.spawned += 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += task.name.endswith(self.server)


async def answer_text(request: Request) -> Response:
    return Response(200, text="hello\n")


async def echo_json(request: Request) -> Response:
    return Response(200, json=await request.json())


async def counted_exchanges(
    monkeypatch: pytest.MonkeyPatch, handler: Callable[[Request], Any], request: bytes
) -> tuple[collections.Counter[str], Tasks]:
    """Carry `ROUNDS` exchanges and return what they cost, after one that is not counted."""
    left, right = socket.socketpair()
    transport = Watched(right)
    tasks = Tasks("serving")
    counts: collections.Counter[str] = collections.Counter()
    client = trio.SocketStream(trio.socket.from_stdlib_socket(left))
    peer = Peer(client)

    async def serving() -> None:
        await serve_connection(handler, transport)

    def count(owner: type, method: str, name: str) -> None:
        original = getattr(owner, method)

        def counted(self: Any, *args: Any) -> Any:
            counts[name] += 1
            return original(self, *args)

        monkeypatch.setattr(owner, method, counted)

    async with client, trio.open_nursery() as nursery:
        nursery.start_soon(serving)
        await peer.ask(request)
        await trio.testing.wait_all_tasks_blocked()
        transport.calls.clear()
        count(trio.CancelScope, "__enter__", "scope")
        count(trio._core._run.NurseryManager, "__aenter__", "nursery")
        count(logging.Logger, "handle", "record")
        count(logging.Logger, "_log", "record")
        trio.lowlevel.add_instrument(tasks)
        for _ in range(ROUNDS):
            assert (await peer.ask(request)).status == 200
        trio.lowlevel.remove_instrument(tasks)
        monkeypatch.undo()
        nursery.cancel_scope.cancel()
    return counts + transport.calls, tasks


@pytest.mark.parametrize(
    ("handler", "request_bytes"), [(answer_text, GET), (echo_json, post(b'{"a": 1}'))], ids=["get", "post"]
)
async def test_an_ordinary_exchange_is_one_receive_and_one_send_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, handler: Callable[[Request], Any], request_bytes: bytes
) -> None:
    costs, tasks = await counted_exchanges(monkeypatch, handler, request_bytes)
    assert costs == {"recv": ROUNDS, "send": ROUNDS}
    assert tasks.spawned == 0


async def test_an_ordinary_exchange_has_one_schedule_point(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tasks = await counted_exchanges(monkeypatch, answer_text, GET)
    assert tasks.steps == ROUNDS


async def test_the_counters_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that does all of it once shows in every counter."""

    async def handler(request: Request) -> Response:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
        with trio.CancelScope():
            await trio.lowlevel.checkpoint()
        logging.getLogger("trio_http.test").error("counted")
        return Response(200)

    costs, tasks = await counted_exchanges(monkeypatch, handler, GET)
    assert tasks.spawned == ROUNDS
    assert costs["nursery"] == ROUNDS
    assert costs["scope"] >= ROUNDS
    assert costs["record"] >= ROUNDS


async def test_pipelined_exchanges_share_a_receive(nursery: trio.Nursery) -> None:
    left, right = socket.socketpair()
    transport = Watched(right)
    client = trio.SocketStream(trio.socket.from_stdlib_socket(left))
    async with client:
        peer = serve(nursery, hello, streams=(client, transport))
        await peer.send(GET * ROUNDS)
        for _ in range(ROUNDS):
            await peer.answer()
        assert transport.calls == {"recv": 1, "send": ROUNDS}


async def test_a_thousand_exchanges_are_two_entries_with_the_ticker(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    medium: Medium,
) -> None:
    pushes = 0
    push = heapq.heappush

    def counted(heap: list[Any], item: Any) -> None:
        nonlocal pushes
        pushes += 1
        push(heap, item)

    monkeypatch.setattr("trio_http.connection._ticker.heapq.heappush", counted)
    peer = serve(nursery, hello)
    for _ in range(1000):
        assert (await peer.ask()).status == 200
    # The limit on the first head; the reading ahead, where no epoll tells that the client has gone.
    assert pushes == (1 if medium in (Medium.TCP, Medium.TLS) else 2)
