"""What an ordinary exchange costs, counted: no task, nursery or scope, one receive and one send."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.client._network import OK
from trio_http.client import Client
from trio_http.transport import SocketTransport


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

    def watched(sock: trio.socket.SocketType) -> WatchedTransport:
        transports.append(WatchedTransport(sock))
        return transports[-1]

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            while await stream.receive_some():
                await stream.send_all(OK)

    async with trio.open_nursery() as nursery:

        async def dial(*_: object) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(s)) for s in socket.socketpair())
            nursery.start_soon(serve, theirs)
            return ours

        async with Client(dial=dial) as client:
            monkeypatch.setattr("trio_http.client._dial.SocketTransport", watched)
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
