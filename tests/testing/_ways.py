"""Connected streams of each kind that a script can be played over."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
import trustme

from tests.transport._peers import tcp_pair
from trio_http.testing import Script, ScriptedPeer, memory_pair

AUTHORITY = trustme.CA()
LEAF = AUTHORITY.issue_cert("localhost", "127.0.0.1")

MEMORY = pytest.param("memory")
TCP = pytest.param("tcp", marks=pytest.mark.interop)
UNIX = pytest.param("unix", marks=pytest.mark.interop)
TLS = pytest.param("tls", marks=pytest.mark.interop)
TLS_IN_MEMORY = pytest.param("tls in memory")

every_way = pytest.mark.parametrize("way", [MEMORY, TCP, UNIX, TLS, TLS_IN_MEMORY])
every_plain_way = pytest.mark.parametrize("way", [MEMORY, TCP, UNIX])


def serving() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    LEAF.configure_cert(context)
    return context


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def bare_pair(way: str) -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
    """Two ends of a connection without TLS."""
    if way not in ("tcp", "unix", "tls"):
        return memory_pair()
    left, right = socket.socketpair() if way == "unix" else tcp_pair()
    for sock in (left, right):
        sock.setblocking(False)
    return (
        trio.SocketStream(trio.socket.from_stdlib_socket(left)),
        trio.SocketStream(trio.socket.from_stdlib_socket(right)),
    )


@attrs.frozen
class Scene:
    """A peer with its script, and the stream of the code under test.

    Attributes:
      beneath: what carries `stream`, if that is TLS.
    """

    peer: ScriptedPeer
    stream: Any
    beneath: trio.abc.HalfCloseableStream

    async def failure(self) -> str:
        """Play a script that has to fail; return what it says."""
        with pytest.raises(AssertionError) as caught:
            await self.peer.play()
        return str(caught.value)


@contextlib.asynccontextmanager
async def scene(way: str, script: Script) -> AsyncIterator[Scene]:
    """Bind a script to one end of a connection, as the server; both ends are closed afterwards."""
    own, beneath = bare_pair(way)
    over: trio.abc.Stream = own
    stream: trio.abc.Stream = beneath
    if way.startswith("tls"):
        over = trio.SSLStream(own, serving(), server_side=True, https_compatible=False)
        stream = trio.SSLStream(beneath, trusting(), server_hostname="localhost")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(over.do_handshake)
            nursery.start_soon(stream.do_handshake)
    try:
        yield Scene(ScriptedPeer(over=over, script=script), stream, beneath)
    finally:
        for end in (own, beneath):
            await trio.aclose_forcefully(end)
