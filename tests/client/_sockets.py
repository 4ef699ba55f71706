"""Scripted servers at the other end of a real TCP connection over loopback."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from trio_http.client import Client
from trio_http.testing import ScriptedPeer
from trio_http.transport import SocketTransport


class PeerSocket:
    """The server's end: a socket stream, which can be reset as well."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket = stream.socket
        self.receive_some = stream.receive_some
        self.send_all = stream.send_all
        self.send_eof = stream.send_eof
        self.aclose = stream.aclose

    def reset(self) -> None:
        """Send RST instead of FIN (POSIX SO_LINGER, for zero seconds)."""
        if self.socket.fileno() != -1:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()


class BlindTransport(SocketTransport):
    """A socket whose peer's end is never noticed beforehand, as in a race with the server's close."""

    __slots__ = ()

    def is_stale(self) -> bool:
        return self.closed


def tcp_peer() -> ScriptedPeer:
    """A scripted peer whose stream is a connected TCP socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    streams: Any = (
        PeerSocket(trio.SocketStream(trio.socket.from_stdlib_socket(theirs))),
        trio.SocketStream(trio.socket.from_stdlib_socket(ours)),
    )
    return ScriptedPeer(streams)


@asynccontextmanager
async def tcp_client_of(
    *peers: ScriptedPeer, blind: bool = False, **options: Any
) -> AsyncIterator[tuple[Client, list[ScriptedPeer]]]:
    """A client whose dials lead to ``peers``, one after the other; and those that were dialed so far.

    Args:
      blind: no end of a connection is noticed before it is used.
    """
    dialed: list[ScriptedPeer] = []
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:

        async def dial(*_: object) -> Any:
            await trio.lowlevel.checkpoint()
            if len(dialed) == len(peers):
                raise OSError("nobody listens there")
            peer = peers[len(dialed)]
            dialed.append(peer)
            nursery.start_soon(peer.play)
            stream: Any = peer.stream
            return BlindTransport(stream.socket) if blind else stream

        try:
            async with Client(dial=dial, **options) as client:
                yield client, dialed
                client._pool.ledger.check()
        except Exception as exc:  # noqa: BLE001  # raised below, outside the nursery
            failure = exc
        nursery.cancel_scope.cancel()
    for peer in peers:
        for end in (peer.stream, peer._own):
            end.socket.close()  # type: ignore[attr-defined]  # a socket's, here
    if failure is not None:
        raise failure


async def until_played(*peers: ScriptedPeer) -> None:
    """Wait until scripts are at their ends, and the client has done what it can do about that."""
    for _ in range(20):
        await trio.testing.wait_all_tasks_blocked()
        if all(peer.finished for peer in peers):
            await trio.testing.wait_all_tasks_blocked()
            return
    raise AssertionError(f"scripts that do not come to their ends: {peers!r}")
