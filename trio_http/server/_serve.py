"""Serving: from listeners and streams to connections."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import trio

from trio_http.connection import Ticker
from trio_http.transport import SocketTransport, StreamTransport, Transport

from ._common import CommonFields
from ._config import ServerConfig
from ._connection import Handler, ServerConnection

_DEFAULTS = ServerConfig()


@attrs.frozen
class Server:
    """A running server, as ``await nursery.start(serve_tcp, handler, 0)`` returns it.

    Attributes:
      listeners: what it accepts on.
      url: where the first of them can be reached, as in ``"http://127.0.0.1:8000"``.
    """

    listeners: Sequence[trio.SocketListener]

    @property
    def url(self) -> str:
        host, port = self.listeners[0].socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve_tcp(
    handler: Handler,
    port: int,
    *,
    host: str | None = "127.0.0.1",
    backlog: int | None = None,
    config: ServerConfig = _DEFAULTS,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP on a TCP port, for ever.

    Args:
      handler: called with each `Request`, in its connection's task; returns a `Response`, or None after
        `Request.stream_response`. An `HTTPException` becomes the answer it stands for; any other exception
        becomes a 500, or an abort once the head is out, and is logged; the server lives on.
      port: 0-65535; 0 lets the system choose one, which ``task_status`` tells.
      host: name or address to listen on; None for all addresses.
      backlog: connections that may wait to be accepted; None for the largest sensible number.
      config: what clients are allowed.
      task_status: is started with the `Server` once it listens.

    Raises:
      OSError: the port cannot be listened on.
      KeyboardInterrupt, SystemExit: as they are, not in a group.

    Cancellation: every socket is closed.
    """
    server = _ConnectionServer(handler, config)
    listeners = await trio.open_tcp_listeners(port, host=host, backlog=backlog)

    async def serve_stream(stream: trio.SocketStream) -> None:
        await server.serve(SocketTransport(stream.socket))

    try:
        with _ungrouped():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.ticker.run)
                task_status.started(Server(listeners))
                await trio.serve_listeners(serve_stream, listeners, handler_nursery=nursery)
    finally:
        for listener in listeners:  # trio closes those that it had begun to serve
            listener.socket.close()


async def serve_connection(
    handler: Handler, stream: trio.abc.Stream | Transport, *, config: ServerConfig = _DEFAULTS
) -> None:
    """Serve HTTP on one connection that is there already, until it ends.

    Args:
      handler: as for `serve_tcp`.
      stream: any stream, or transport; ours from now on, and closed at the end.
      config: what the client is allowed.

    Cancellation: the connection is aborted.
    """
    server = _ConnectionServer(handler, config)
    transport = _transport_over(stream)
    with _ungrouped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.ticker.run)
            await server.serve(transport)
            nursery.cancel_scope.cancel()


@contextlib.contextmanager
def _ungrouped() -> Iterator[None]:
    """Let what stands alone in the groups of our nurseries come out as it is: a KeyboardInterrupt, say."""
    try:
        yield
    except BaseExceptionGroup as group:
        leaf: BaseException = group
        while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
            leaf = leaf.exceptions[0]
        if leaf is group:
            raise
        raise leaf from leaf.__cause__


class _ConnectionServer:
    """What the connections of one server share.

    Args:
      handler: answers requests.
      config: what clients are allowed.
    """

    def __init__(self, handler: Handler, config: ServerConfig) -> None:
        self._handler = handler
        self._config = config
        self._common = CommonFields(config)
        self.ticker = Ticker()

    async def serve(self, transport: Transport) -> None:
        await ServerConnection(self._handler, transport, self._config, self.ticker, self._common).run()


def _transport_over(stream: trio.abc.Stream | Transport | Any) -> Transport:
    if isinstance(stream, Transport):
        return stream
    if isinstance(stream, trio.SocketStream):
        return SocketTransport(stream.socket)
    if isinstance(stream, trio.abc.Stream):
        return StreamTransport(stream)
    raise TypeError(f"expected a trio.abc.Stream, not {type(stream).__name__}")
