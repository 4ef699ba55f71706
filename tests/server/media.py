"""What the tests of the server run over: memory streams, TCP, and TLS.

A test says nothing of it. `tests.server.support.serve` opens a connection in the medium of the moment, which
the fixture ``medium`` sets, and `conftest.py` runs each test that calls it once in every medium.
"""

from __future__ import annotations

import ast
import contextlib
import enum
import functools
import inspect
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any, Final

import trio
import trio.testing

from tests.transport._peers import client_context, server_context, tcp_pair
from trio_http.transport import SocketTransport, TLSTransport, Transport


class Medium(enum.Enum):
    """Where the bytes go.

    `MEMORY`: memory streams without limits; who has gone shows by the read-ahead alone. `TCP`: sockets on the
    loopback, in the server's epoll. `TCP_WITHOUT_EDGES`: the same with ``edge_poll=False``. `TLS`: over TCP.
    """

    MEMORY = "memory"
    TCP = "tcp"
    TCP_WITHOUT_EDGES = "tcp_without_edges"
    TLS = "tls"

    @property
    def is_real(self) -> bool:
        """Made of sockets."""
        return self is not Medium.MEMORY


#: How long all must have been idle before the clock of a test over sockets jumps, in seconds. The loopback
#: hands bytes over within the system call that sends them, except on a machine that is busy with interrupts.
PAUSE: Final = 0.025

_client_context = functools.cache(client_context)
_server_context = functools.cache(server_context)


class Media:
    """Opens connections in one medium, and closes what was opened.

    Args:
      medium: which.
    """

    def __init__(self, medium: Medium) -> None:
        self.medium = medium
        self._sockets: list[socket.socket] = []

    def open(
        self, nursery: trio.Nursery
    ) -> tuple[trio.abc.HalfCloseableStream, Callable[[], Awaitable[Any]]]:
        """Open a connection.

        Args:
          nursery: where the client shakes hands, under TLS.

        Returns:
          The client's end, and an async function that makes the server's.
        """
        if self.medium is Medium.MEMORY:
            client, server = trio.testing.memory_stream_pair()

            async def give() -> trio.abc.HalfCloseableStream:
                return server

            return client, give
        ours, theirs = tcp_pair()
        self._sockets.append(ours)
        ours.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))

        async def accept() -> Transport:
            if self.medium is Medium.TLS:
                return await TLSTransport.handshake(theirs, _server_context(), server_side=True)
            return SocketTransport(theirs)

        if self.medium is not Medium.TLS:
            return stream, accept
        tls = TLSClient(stream, ours)
        nursery.start_soon(tls.shake_hands)
        return tls, accept

    def close(self) -> None:
        """Close the clients' sockets that are still open. Outside of Trio, when the test is over."""
        for sock in self._sockets:
            sock.close()


def descriptors() -> dict[str, str]:
    """Return the descriptors that this process has open, and what each is of."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of the listing itself
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


class TLSClient(trio.abc.HalfCloseableStream):
    """The client's end of a TLS connection, made of the stdlib alone.

    Unlike `trio.SSLStream` it can end its sending and read on, and does not wait for the server in `aclose`.
    The end of the connection without a closure alert is an error, so an abort shows.

    Args:
      stream: the connection beneath.
      sock: the socket of that.
    """

    def __init__(self, stream: trio.SocketStream, sock: socket.socket) -> None:
        self.stream = stream
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _client_context().wrap_bio(self._incoming, self._outgoing, server_hostname="example.test")
        self._ready = trio.Event()
        self._sending = trio.StrictFIFOLock()

    async def shake_hands(self) -> None:
        """Make the connection TLS; everything else waits for that."""
        try:
            while True:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._fill()
                else:
                    break
            await self._flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            pass  # whoever sends or receives next will meet it
        finally:
            self._ready.set()

    async def _flush(self) -> None:
        async with self._sending:
            if data := self._outgoing.read():
                await self.stream.send_all(data)

    async def _fill(self) -> None:
        if data := await self.stream.receive_some():
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._ready.wait()
        if data:
            self._tls.write(data)
        await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        await self._ready.wait()
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self._ready.wait()
        while True:
            try:
                return self._tls.read(max_bytes or 65536)
            except ssl.SSLWantReadError:
                await self._fill()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as exc:
                raise trio.BrokenResourceError("the connection ended without a closure alert") from exc

    async def send_eof(self) -> None:
        await self._ready.wait()
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()
        await self.stream.send_eof()

    async def aclose(self) -> None:
        try:
            await self._ready.wait()  # the test means the end of a connection, not of a handshake
            with contextlib.suppress(ssl.SSLError, OSError):
                self._tls.unwrap()
                self._sock.send(self._outgoing.read())
        finally:
            await self.stream.aclose()


def that_serve(module: ModuleType) -> frozenset[str]:
    """Return the names of a module's functions that call `support.serve` and leave the medium to it, be it by
    way of each other."""
    names: dict[str, set[str]] = {}
    for function in ast.parse(inspect.getsource(module)).body:
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            names[function.name] = used = set()
            for node in ast.walk(function):
                if isinstance(node, ast.Name) and node.id != "serve":
                    used.add(node.id)
                elif isinstance(node, ast.arg):
                    used.add(node.arg)  # a fixture of the module's own
                elif isinstance(node, ast.Call) and _chooses_no_medium(node):
                    used.add("serve")
    found = {"serve"}
    while more := {name for name, used in names.items() if used & found} - found:
        found |= more
    return frozenset(found)


def _chooses_no_medium(call: ast.Call) -> bool:
    return (
        isinstance(call.func, ast.Name)
        and call.func.id == "serve"
        and len(call.args) < 4
        and not any(keyword.arg == "streams" for keyword in call.keywords)
    )
