"""A whole server for a test: in every medium of `tests/server/media.py`, with as many clients as wanted."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.server.media import Medium, TLSClient
from tests.server.support import GET, Handler, Peer
from tests.transport._peers import server_context
from trio_http import Request, Response, Server, ServerConfig, serve_listeners, serve_ssl_over_tcp, serve_tcp

#: For a module or a test: run in each medium.
IN_EVERY_MEDIUM = pytest.mark.parametrize(
    "medium",
    [
        pytest.param(medium, marks=[pytest.mark.interop] if medium.is_real else [], id=medium.value)
        for medium in Medium
    ],
    indirect=True,
)

#: The same without memory streams.
OVER_SOCKETS = pytest.mark.parametrize(
    "medium",
    [pytest.param(medium, marks=pytest.mark.interop, id=medium.value) for medium in Medium if medium.is_real],
    indirect=True,
)

#: Without TLS too: its client can neither end one direction alone nor be cut without the other end noticing.
OVER_TCP = pytest.mark.parametrize(
    "medium",
    [
        pytest.param(medium, marks=pytest.mark.interop, id=medium.value)
        for medium in (Medium.TCP, Medium.TCP_WITHOUT_EDGES)
    ],
    indirect=True,
)


class MemoryListener(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    """A listener in memory.

    Attributes:
      closed: it accepts no more.
    """

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.HalfCloseableStream](math.inf)
        self.closed = False

    def connect(self) -> trio.abc.HalfCloseableStream:
        """The client's end of a new connection.

        Raises:
          ConnectionRefusedError: closed.
        """
        if self.closed:
            raise ConnectionRefusedError
        client, server = trio.testing.memory_stream_pair()
        self._send.send_nowait(server)
        return client

    async def accept(self) -> trio.abc.HalfCloseableStream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self.closed = True
        self._receive.close()
        await trio.lowlevel.checkpoint()


class Running:
    """A server that runs, and its clients.

    Attributes:
      server: what the serve function has handed over.
      stopped: the serve function has returned.
      scope: around it.
      address: where it listens; not in memory.
    """

    def __init__(self, medium: Medium, nursery: trio.Nursery) -> None:
        self._medium = medium
        self._nursery = nursery
        self.server: Server
        self.stopped = trio.Event()
        self.scope = trio.CancelScope()
        self.address: tuple[str, int] = ("", 0)
        self._sockets: list[socket.socket] = []

    async def start(self, handler: Handler, config: ServerConfig, **options: Any) -> None:
        serve: Callable[..., Awaitable[None]]
        if self._medium is Medium.MEMORY:
            listeners = options.pop("listeners", None) or [MemoryListener()]
            serve = partial(serve_listeners, handler, listeners)
        elif self._medium is Medium.TLS:
            serve = partial(serve_ssl_over_tcp, handler, 0, server_context())
        else:
            serve = partial(serve_tcp, handler, 0)
        if self._medium is Medium.TCP_WITHOUT_EDGES:
            config = attrs.evolve(config, edge_poll=False)

        async def run(*, task_status: trio.TaskStatus[Server]) -> None:
            with self.scope:
                await serve(config=config, task_status=task_status, **options)
            self.stopped.set()

        self._nursery.start_soon(self._close_clients_at_the_end)
        self.server = await self._nursery.start(run)

        (listener,) = self.server.listeners
        if isinstance(listener, trio.SocketListener):
            self.address = listener.socket.getsockname()

    async def _close_clients_at_the_end(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            for sock in self._sockets:
                sock.close()

    async def connect(self) -> Peer:
        """A new client.

        Raises:
          ConnectionRefusedError: the server accepts no more.
        """
        if self._medium is Medium.MEMORY:
            (listener,) = self.server.listeners
            assert isinstance(listener, MemoryListener)
            return Peer(listener.connect())
        sock = socket.create_connection(self.address)
        self._sockets.append(sock)
        sock.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        if self._medium is not Medium.TLS:
            return Peer(stream)
        client = TLSClient(stream, sock)
        await client.shake_hands()
        return Peer(client)

    async def client(self, request: bytes = GET) -> Peer:
        """A new client that has sent a request, which the server has got."""
        peer = await self.connect()
        await peer.send(request)
        await settle()
        return peer


async def run_server(
    nursery: trio.Nursery,
    medium: Medium,
    handler: Handler,
    config: ServerConfig | None = None,
    **options: Any,
) -> Running:
    """Start a server in `nursery`, in the medium."""
    running = Running(medium, nursery)
    await running.start(handler, config or ServerConfig(), **options)
    return running


async def settle() -> None:
    """Let everybody do what can be done without time passing."""
    await trio.testing.wait_all_tasks_blocked(0.005)


def blamed(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged in the test itself, for a fixture to ask when it is over."""
    return [record.getMessage() for record in caplog.get_records("call")]


async def end_of(peer: Peer) -> str:
    """How the server has ended the connection, whatever it has sent before: "end", or "reset" when it broke
    it off, which in memory looks the same."""
    try:
        await peer.rest()
    except trio.BrokenResourceError:
        return "reset"
    return "end"


def send_now(stream: trio.abc.Stream, data: bytes) -> None:
    """Send from a client on a socket without a checkpoint: no task of the server's has run meanwhile."""
    if isinstance(stream, TLSClient):
        stream._tls.write(data)
        data = stream._outgoing.read()
        sock = stream._sock
    else:
        assert isinstance(stream, trio.SocketStream)
        sock = stream.socket._sock  # type: ignore[attr-defined]
    assert sock.send(data) == len(data)


class ChannelStream(trio.abc.Stream):
    """A server's end of which the client's is synchronous: `feed` wakes whoever receives, at once."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[bytes](math.inf)
        self.feed = self._send.send_nowait
        self.sent = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._receive.close()
        await trio.lowlevel.checkpoint()


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def leave(stream: trio.abc.Stream, how: str) -> None:
    """Be gone at once: with "fin" close the socket of a client, with "reset" break it off; a memory stream is
    closed."""
    sock = stream.stream.socket if isinstance(stream, TLSClient) else getattr(stream, "socket", None)
    if sock is None:
        assert isinstance(stream, trio.StapledStream)
        stream.send_stream.close()
        stream.receive_stream.close()
        return
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def until_the_kernel_knows(request: Request) -> None:
    """Wait, without letting any task run, until the server's kernel knows that the client of this request has
    gone."""
    look = select.poll()
    look.register(request._link.transport._fd, select.POLLRDHUP)  # type: ignore[attr-defined]
    assert look.poll(5000)


class Witness:
    """Handlers that tell what became of them.

    Attributes:
      reasons: of each handler that was cancelled: `Request.cancel_reason` and what the `trio.Cancelled` said.
      times: when that was, on trio's clock.
      begun, done: targets of the requests that were begun, and handled to the end.
    """

    def __init__(self) -> None:
        self.reasons: list[tuple[str | None, str | None]] = []
        self.times: list[float] = []
        self.begun: list[str] = []
        self.done: list[str] = []

    @contextlib.contextmanager
    def watch(self, request: Request) -> Any:
        self.begun.append(request.target)
        try:
            yield
        except trio.Cancelled as exc:
            reason = request.cancel_reason
            self.reasons.append((reason.value if reason else None, exc.reason))
            self.times.append(trio.current_time())
            raise
        self.done.append(request.target)

    async def sleep(self, request: Request) -> Response:
        """Do nothing, for ever."""
        with self.watch(request):
            await trio.sleep_forever()
        return Response()
