"""What an ordinary exchange costs, counted: no task, nursery or scope, one receive and one send, and so many
calls of functions; the same however much the pool holds.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
import trio
import trio.testing

import trio_http
from tests.client._network import OK
from trio_http.client import Client
from trio_http.connection import Ticker
from trio_http.testing import memory_pair
from trio_http.transport import SocketTransport

OURS: Final = str(Path(trio_http.__file__).parent)


class WatchedTransport(SocketTransport):
    """A transport that counts the system calls it makes on its socket."""

    __slots__ = ("calls",)

    def __init__(self, sock: trio.socket.SocketType | socket.socket) -> None:
        super().__init__(sock)
        self.calls = dict.fromkeys(("send", "recv", "peek"), 0)
        send, recv = self._send, self._recv

        def counted_send(data: bytes | bytearray | memoryview) -> int:
            self.calls["send"] += 1
            return send(data)

        def counted_recv(size: int) -> bytes:
            self.calls["recv"] += 1
            return recv(size)

        self._send, self._recv = counted_send, counted_recv

    def is_stale(self) -> bool:
        self.calls["peek"] += 1
        return super().is_stale()


class Tasks(trio.abc.Instrument):
    """Counts what a run does in its tasks."""

    def __init__(self) -> None:
        self.spawned = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.spawned += 1


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, counts: dict[str, int]) -> None:
    """Count calls of a function, and make them."""
    original: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **keywords: Any) -> Any:
        counts[name] = counts.get(name, 0) + 1
        return original(*args, **keywords)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("content", [None, b"x" * 1000], ids=["GET", "POST"])
async def test_a_warm_exchange_opens_nothing_and_makes_one_receive_and_one_send(
    content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    transports: list[WatchedTransport] = []
    method = "GET" if content is None else "POST"

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            while await stream.receive_some():
                await stream.send_all(OK)

    async with trio.open_nursery() as nursery:

        async def dial(*_: object) -> WatchedTransport:
            await trio.lowlevel.checkpoint()
            ours, theirs = map(trio.socket.from_stdlib_socket, socket.socketpair())
            nursery.start_soon(serve, trio.SocketStream(theirs))
            transports.append(WatchedTransport(ours))
            return transports[-1]

        async with Client(dial=dial) as client:
            await client.request(method, "http://example.org/", content=content)
            (transport,) = transports
            transport.calls = dict.fromkeys(transport.calls, 0)
            counts: dict[str, int] = {}
            tasks = Tasks()
            with monkeypatch.context() as patch:
                counted(patch, trio, "open_nursery", counts)
                counted(patch, trio.CancelScope, "__enter__", counts)
                trio.lowlevel.add_instrument(tasks)
                for _ in range(10):
                    response = await client.request(method, "http://example.org/", content=content)
                    assert response.content == b"ok"
                trio.lowlevel.remove_instrument(tasks)
            assert tasks.spawned == 0
            assert counts == {}
            assert transport.calls == {"send": 10, "recv": 10, "peek": 10}


# ----------------------------------------------------------------------------------------- calls of functions

# What was counted when this was written, and room for a little more. Each is in an ordinary exchange; a tenth
# of a microsecond and up for each, before it has done anything.
GET_CALLS: Final = 35
POST_CALLS: Final = 84
ROOM: Final = 1.2


class Calls:
    """Counts the calls of functions of this package, and the resumptions of its coroutines.

    Attributes:
      counts: by the name of the function.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _see(self, frame: FrameType, what: str, _: Any) -> None:
        if what == "call" and frame.f_code.co_filename.startswith(OURS):
            name = frame.f_code.co_qualname
            self.counts[name] = self.counts.get(name, 0) + 1


@contextlib.asynccontextmanager
async def warm_client(**options: Any) -> AsyncIterator[Client]:
    """A client with a warm connection to a server over a socket; all other hosts are silent for ever."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            while await stream.receive_some():
                await stream.send_all(OK)

    async with trio.open_nursery() as nursery:

        async def dial(host: str, *_: object) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            if host == "black-hole":
                await trio.sleep_forever()
            if host != "example.org":
                return memory_pair()[0]
            ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(s)) for s in socket.socketpair())
            nursery.start_soon(serve, theirs)
            return ours

        async with Client(dial=dial, **options) as client:
            for _ in range(3):
                await client.get("http://example.org/")
            yield client
            nursery.cancel_scope.cancel()


async def calls_of(request: Callable[[], Awaitable[Any]], times: int = 10) -> Calls:
    """Count the calls in so many exchanges, the first of which came before."""
    assert (await request()).content == b"ok"
    calls = Calls()
    with calls.counted():
        for _ in range(times):
            await request()
    return calls


@pytest.mark.parametrize(("method", "most"), [("GET", GET_CALLS), ("POST", POST_CALLS)])
async def test_a_warm_exchange_takes_so_many_calls_and_does_not_push_the_ticker(
    method: str, most: int
) -> None:
    async with warm_client() as client:
        if method == "GET":
            calls = await calls_of(lambda: client.get("http://example.org/"))
        else:
            calls = await calls_of(lambda: client.post("http://example.org/", content=b"x" * 1000))
    assert calls.counts, "nothing was counted"
    assert calls.total <= 10 * most * ROOM, dict(sorted(calls.counts.items(), key=lambda item: -item[1]))
    assert Ticker.watch.__qualname__ not in calls.counts
    assert Ticker._push.__qualname__ not in calls.counts


async def test_what_the_calls_are_held_to_is_no_more_than_they_are() -> None:
    """When an exchange has become cheaper, the numbers above are to follow, or they hold nobody to it."""
    async with warm_client() as client:
        get = await calls_of(lambda: client.get("http://example.org/"))
        post = await calls_of(lambda: client.post("http://example.org/", content=b"x" * 1000))
    assert get.total >= 10 * GET_CALLS * 0.7, get.total / 10
    assert post.total >= 10 * POST_CALLS * 0.7, post.total / 10


async def test_a_request_costs_the_same_however_many_connections_are_idle() -> None:
    """C9: 10 or 1,000, each of another origin."""
    counts = []
    for others in (10, 1000):
        async with warm_client(max_connections=2000) as client:
            for number in range(others):
                await client.warm(f"http://host{number}/")
            await client.get("http://example.org/")
            assert client.statistics().idle == others + 1
            calls = await calls_of(lambda client=client: client.get("http://example.org/"))  # type: ignore[misc]
            counts.append(calls.counts)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("host", ["silent", "black-hole"])
async def test_a_request_costs_the_same_however_many_others_wait(host: str) -> None:
    """C9: 10 or 1,000, for connections of an origin that are in use, or that are still being dialed."""
    counts = []
    for others in (10, 1000):
        async with (
            warm_client(max_connections=100, max_connections_per_origin=5) as client,
            trio.open_nursery() as nursery,
        ):
            for _ in range(others + 5):
                nursery.start_soon(client.get, f"http://{host}/")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert client.statistics().waiting == others + (5 if host == "black-hole" else 0)
            calls = await calls_of(lambda client=client: client.get("http://example.org/"))  # type: ignore[misc]
            counts.append(calls.counts)
            nursery.cancel_scope.cancel()
    assert counts[0] == counts[1]


async def test_waiting_and_being_served_costs_the_same_however_many_others_wait() -> None:
    """C9: the way through the queue itself, for each of those who stand in it."""
    costs = []
    for tasks in (10, 1000):
        async with warm_client(max_connections_per_origin=1) as client:
            calls = Calls()
            with calls.counted():
                async with trio.open_nursery() as nursery:
                    for _ in range(tasks):
                        nursery.start_soon(client.get, "http://example.org/")
            costs.append(calls.total / tasks)
    assert costs[1] == pytest.approx(costs[0], rel=0.1)
