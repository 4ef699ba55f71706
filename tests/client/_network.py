"""The world of a client under test: servers that follow a script, one for each dial."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from trio_http.client import Client
from trio_http.testing import MemoryStream, ScriptedPeer

URL = "http://example.org/path"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
END = b"\r\n\r\n"


def answering(*answers: bytes) -> ScriptedPeer:
    """A server that reads one head and sends one answer, and so on; afterwards it waits for the end."""
    peer = ScriptedPeer()
    for answer in answers:
        peer.expect_until(END).send(answer)
    return peer


class Network:
    """All servers there are: a dial takes the next peer and lets it play its script.

    Attributes:
      dialed: what was asked for, as (host, port, scheme).
      streams: the client's ends, in the order of the dials.
    """

    def __init__(self, nursery: trio.Nursery, *peers: ScriptedPeer) -> None:
        self.dialed: list[tuple[str, int, str]] = []
        self.streams: list[MemoryStream] = []
        self.peers = list(peers)
        self._next = iter(peers)
        self._nursery = nursery

    async def dial(self, host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.dialed.append((host, port, scheme))
        peer = next(self._next, None)
        if peer is None:
            raise OSError("nobody listens there")
        self.streams.append(peer.stream)
        self._nursery.start_soon(peer.play)
        return peer.stream

    def heads(self, number: int = 0) -> bytes:
        """Everything that a peer has received."""
        return bytes(self.peers[number].received)


@asynccontextmanager
async def client_of(*peers: ScriptedPeer, **options: Any) -> AsyncIterator[tuple[Client, Network]]:
    """A client whose dials lead to ``peers``, and the network between; at the end the books have to be true.

    The exception of the block comes out as it is, since what is tested is that it does.
    """
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        network = Network(nursery, *peers)
        try:
            async with Client(dial=network.dial, **options) as client:
                yield client, network
                client._pool.ledger.check()
        except Exception as exc:  # noqa: BLE001  # raised below, outside the nursery
            failure = exc
        assert all(stream.closed for stream in network.streams), "a stream outlived the client"
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def in_pool(client: Client) -> tuple[int, int]:
    """How many connections are leased and idle, once everything has come to rest."""
    await trio.testing.wait_all_tasks_blocked()
    client._pool.ledger.check()
    counts = client.statistics()
    return counts.leased, counts.idle
