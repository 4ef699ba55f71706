"""Serving: what users call."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_http.transport import Transport, transport_over

from ._arguments import check_config, check_context, check_handler, checked_listeners, open_tcp
from ._config import ServerConfig
from ._connection import Handler
from ._listen import close_unix_listener, open_unix_listener
from ._server import Server, close_listeners
from ._shared import Shared

_DEFAULTS = ServerConfig()


async def serve_tcp(
    handler: Handler,
    port: int,
    *,
    host: str | bytes | None = "127.0.0.1",
    backlog: int | None = None,
    config: ServerConfig = _DEFAULTS,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP on a TCP port, until a shutdown.

    Args:
      handler: called with each `Request`, in its connection's task; returns a `Response`, or None after
        `Request.stream_response`. An `HTTPException` becomes the answer it stands for; any other exception
        becomes a 500, or an abort once the head is out, and is logged; the server lives on.
      port: 0-65535; 0 lets the system choose one, which ``task_status`` tells.
      host: name or address to listen on; None for all addresses.
      backlog: connections that may wait to be accepted; None for the largest sensible number.
      config: what clients are allowed.
      task_status: is started with the `Server` once it listens.

    Returns:
      after `Server.shutdown`, when the last handler has ended.

    Raises:
      OSError: the port cannot be listened on.
      TypeError, ValueError: an argument is not what it must be; nothing was opened.
      KeyboardInterrupt, SystemExit: as they are, not in a group.

    Cancellation: every socket is closed.
    """
    check_handler(handler)
    check_config(config)
    listeners = await open_tcp(port, host, backlog)
    await serve_listeners(handler, listeners, config=config, task_status=task_status)


async def serve_ssl_over_tcp(
    handler: Handler,
    port: int,
    ssl_context: ssl.SSLContext,
    *,
    host: str | bytes | None = "127.0.0.1",
    backlog: int | None = None,
    config: ServerConfig = _DEFAULTS,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP over TLS on a TCP port, until a shutdown.

    Args:
      handler, port, host, backlog, config, task_status: as for `serve_tcp`.
      ssl_context: certificate and rules, as `trio_http.server_context` makes them;
        `Server.replace_ssl_context` changes it while the server runs.

    Returns, raises and cancellation: as `serve_tcp`.

    Cancellation: every socket is closed.
    """
    check_handler(handler)
    check_config(config)
    check_context(ssl_context)
    listeners = await open_tcp(port, host, backlog)
    await serve_listeners(handler, listeners, ssl_context=ssl_context, config=config, task_status=task_status)


async def serve_unix(
    handler: Handler,
    path: str | os.PathLike[str],
    *,
    mode: int | None = None,
    backlog: int | None = None,
    config: ServerConfig = _DEFAULTS,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP on a Unix socket, until a shutdown; its file is removed at the end.

    Args:
      handler, backlog, config, task_status: as for `serve_tcp`.
      path: of the socket. A file that a dead server has left is replaced.
      mode: its permissions, as in ``0o660``; None for what the umask leaves.

    Returns: as `serve_tcp`.

    Raises:
      OSError: the path cannot be listened on: a living server does, say, or it is another kind of file.
      TypeError: an argument is not what it must be; nothing was opened.

    Cancellation: every socket is closed.
    """
    check_handler(handler)
    check_config(config)
    listener = await open_unix_listener(path, mode=mode, backlog=backlog)
    try:
        await serve_listeners(handler, [listener], config=config, task_status=task_status)
    finally:
        close_unix_listener(listener)


async def serve_listeners(
    handler: Handler,
    listeners: Sequence[trio.abc.Listener[Any]],
    *,
    ssl_context: ssl.SSLContext | None = None,
    config: ServerConfig = _DEFAULTS,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP on listeners that are there already, until a shutdown.

    Args:
      handler, config, task_status: as for `serve_tcp`.
      listeners: ours from now on, and closed at the end. A `trio.SocketListener` is accepted from fast; of
        any other, `trio.SSLListener` among them, the streams are served as they come.
      ssl_context: speak TLS on those that are `trio.SocketListener`; None for plain HTTP.

    Returns: as `serve_tcp`.

    Raises:
      Exception: what a foreign listener's ``accept`` raised.
      TypeError, ValueError: an argument is not what it must be; the listeners, if they are some, are closed.

    Cancellation: every socket and listener is closed.
    """
    listeners = checked_listeners(listeners)
    try:
        check_handler(handler)
        check_config(config)
        async with _connections(config) as (shared, nursery):
            server = Server(handler, shared, listeners, ssl_context)
            task_status.started(server)
            await server.accept(nursery)
    finally:
        await close_listeners(listeners)  # for when it did not come to accepting


async def serve_connection(
    handler: Handler,
    stream: trio.abc.Stream | Transport,
    *,
    config: ServerConfig = _DEFAULTS,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP on one connection that is there already, until it ends.

    Args:
      handler, config, task_status: as for `serve_tcp`; the `Server` has no listeners.
      stream: any stream, or transport; ours from now on, and closed at the end.

    Raises:
      TypeError: ``stream`` is none, or another argument is not what it must be.

    Cancellation: the connection is aborted.
    """
    check_handler(handler)
    check_config(config)
    transport = transport_over(stream)
    async with _connections(config) as (shared, _):
        server = Server(handler, shared)
        task_status.started(server)
        await server.serve_transport(transport)


@asynccontextmanager
async def _connections(config: ServerConfig) -> AsyncIterator[tuple[Shared, trio.Nursery]]:
    """Run what serves connections beside the block, and wait for the connections at its end."""
    with _ungrouped():
        async with trio.open_nursery() as helpers:
            shared = Shared(config, helpers)
            try:
                helpers.start_soon(shared.ticker.run)
                if shared.poll is not None:
                    helpers.start_soon(shared.poll.run)
                async with trio.open_nursery() as connections:
                    yield shared, connections
            finally:
                if shared.poll is not None:
                    shared.poll.close()
            helpers.cancel_scope.cancel()


@contextlib.contextmanager
def _ungrouped() -> Iterator[None]:
    """Let what stands alone in the groups of our nurseries come out as it is: a KeyboardInterrupt, say."""
    try:
        yield
    except BaseExceptionGroup as group:  # cancel: goes on, with the group or out of it
        leaf: BaseException = group
        while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
            leaf = leaf.exceptions[0]
        if leaf is group:
            raise
        raise leaf from leaf.__cause__  # noqa: ASYNC123  # what it loses is our own nurseries' group
