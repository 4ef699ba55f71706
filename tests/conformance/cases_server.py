"""How the functions that serve are called."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import trio
import trio.testing

from tests.cancellation._worlds import CONFIG
from tests.conformance._cases import MISUSE, Failure, case
from tests.conformance._server_worlds import GET, MemoryListener
from tests.transport._peers import server_context
from trio_http import (
    Request,
    Response,
    Server,
    open_unix_listener,
    serve_connection,
    serve_listeners,
    serve_ssl_over_tcp,
    serve_tcp,
    serve_unix,
)
from trio_http.server._listen import close_unix_listener
from trio_http.server._serve import _connections
from trio_http.testing import MemoryStream, memory_pair, no_descriptor_left
from trio_http.transport import transport_over

# ------------------------------------------------------------------------------------------------ connections


async def app(request: Request) -> Response:
    return Response(content=await request.read())


@attrs.define(eq=False)
class Arranged:
    """A server to be, and a client of it.

    Attributes:
      stream: the server's end of a connection.
      server: it, once it is there.
    """

    stream: MemoryStream
    server: Server | None = None
    nursery: trio.Nursery | None = None
    listener: MemoryListener | None = None


@contextlib.asynccontextmanager
async def one_visit() -> AsyncIterator[Arranged]:
    """A client that asks once and leaves."""
    client, server = memory_pair()

    async def visit() -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await client.send_all(GET.replace(b"Host", b"Connection: close\r\nHost"))
            async for _ in client:
                pass

    async with client, trio.open_nursery() as nursery:
        nursery.start_soon(visit)
        yield Arranged(server)
        nursery.cancel_scope.cancel()


def _connection_is_closed(arranged: Arranged) -> None:
    assert arranged.stream.closed


async def _serve_nothing(_: object) -> None:
    await serve_connection(app, "stream")


@case(
    "trio_http.serve_connection",
    world=one_visit,
    check=_connection_is_closed,
    fails=[Failure(_serve_nothing, TypeError, at_once=MISUSE, spoils=True)],
)
async def _(arranged: Arranged) -> None:
    await serve_connection(app, arranged.stream, config=CONFIG)


@contextlib.asynccontextmanager
async def one_server() -> AsyncIterator[Arranged]:
    """A server with a listener in memory that does not accept yet, and a client that asks once."""
    async with one_visit() as arranged, _connections(CONFIG) as (shared, nursery):
        arranged.listener = MemoryListener()
        arranged.server = Server(app, shared, [arranged.listener])
        arranged.nursery = nursery
        yield arranged
        arranged.server.begin_shutdown(0)
        await trio.testing.wait_all_tasks_blocked()
    await arranged.listener.aclose()
    await arranged.stream.aclose()


@case("trio_http.Server.serve_transport", world=one_server, check=_connection_is_closed)
async def _(arranged: Arranged) -> None:
    await arranged.server.serve_transport(transport_over(arranged.stream))


@contextlib.asynccontextmanager
async def _about_to_stop() -> AsyncIterator[Arranged]:
    """A server that another task shuts down."""

    async def stop() -> None:
        await trio.sleep(1)
        arranged.server.begin_shutdown()

    async with one_server() as arranged, trio.open_nursery() as nursery:
        client = arranged.listener.connect()
        nursery.start_soon(stop)
        yield arranged
        nursery.cancel_scope.cancel()
        await client.aclose()


def _listener_is_closed(arranged: Arranged) -> None:
    assert arranged.listener.closed


@case("trio_http.Server.accept", world=_about_to_stop, check=_listener_is_closed)
async def _(arranged: Arranged) -> None:
    await arranged.server.accept(arranged.nursery)


async def _shut_down_wrongly(arranged: Arranged) -> None:
    await arranged.server.shutdown(-1)


async def _is_draining(arranged: Arranged) -> None:
    await arranged.server.shutdown(0)
    assert arranged.server.draining
    assert arranged.stream.closed


@contextlib.asynccontextmanager
async def _busy() -> AsyncIterator[Arranged]:
    """A server with a connection whose client says nothing."""
    client, stream = memory_pair()
    async with client, trio.open_nursery() as nursery:
        server = await nursery.start(_serve, stream)
        await trio.testing.wait_all_tasks_blocked()
        yield Arranged(stream, server)
        nursery.cancel_scope.cancel()


async def _serve(stream: MemoryStream, task_status: Any) -> None:
    await serve_connection(app, stream, config=CONFIG, task_status=task_status)


@case(
    "trio_http.Server.shutdown",
    world=_busy,
    check=_is_draining,
    fails=[Failure(_shut_down_wrongly, ValueError, at_once=MISUSE)],
)
async def _(arranged: Arranged) -> None:
    await arranged.server.shutdown(5)


# ---------------------------------------------------------------------------------------------------- serving


@contextlib.asynccontextmanager
async def somewhere() -> AsyncIterator[Path]:
    """A folder for a socket; in the end no descriptor is left."""
    with tempfile.TemporaryDirectory() as name, no_descriptor_left():
        yield Path(name) / "socket"


def _no_socket_left(path: Path) -> None:
    assert not os.path.exists(path)


async def _until_shutdown(serve: Callable[[Any], Awaitable[None]]) -> None:
    """Serve until a task beside it ends that."""

    class Status:
        def started(self, server: Server) -> None:
            nursery.start_soon(stop, server)

    async def stop(server: Server) -> None:
        await trio.lowlevel.checkpoint()
        server.begin_shutdown()

    async with trio.open_nursery() as nursery:
        await serve(Status())


async def _serve_tcp_nobody(_: object) -> None:
    await serve_tcp(None, 0)


async def _serve_tcp_nowhere(_: object) -> None:
    await serve_tcp(app, 0, host="192.0.2.1")  # an address of documentation's (RFC 5737), and nobody's


async def _serve_tls_nowhere(_: object) -> None:
    await serve_ssl_over_tcp(app, 0, server_context(), host="192.0.2.1")


async def _serve_unix_nowhere(path: Path) -> None:
    await serve_unix(app, path / "no such directory" / "socket")


@case(
    "trio_http.serve_tcp",
    world=somewhere,
    fails=[
        Failure(_serve_tcp_nobody, TypeError, at_once=MISUSE),
        Failure(_serve_tcp_nowhere, OSError),
    ],
)
async def _(_: Path) -> None:
    await _until_shutdown(lambda status: serve_tcp(app, 0, task_status=status))


@case("trio_http.serve_ssl_over_tcp", world=somewhere, fails=[Failure(_serve_tls_nowhere, OSError)])
async def _(_: Path) -> None:
    context = server_context()
    await _until_shutdown(lambda status: serve_ssl_over_tcp(app, 0, context, task_status=status))


@case(
    "trio_http.serve_unix",
    world=somewhere,
    check=_no_socket_left,
    fails=[Failure(_serve_unix_nowhere, OSError)],
)
async def _(path: Path) -> None:
    await _until_shutdown(lambda status: serve_unix(app, path, task_status=status))


@contextlib.asynccontextmanager
async def _listening() -> AsyncIterator[MemoryListener]:
    yield MemoryListener()


async def _break(listener: MemoryListener) -> None:
    listener.fault = ZeroDivisionError("it was to fail")


async def _serve_listener(listener: MemoryListener) -> None:
    await serve_listeners(app, [listener], config=CONFIG)


@case(
    "trio_http.serve_listeners",
    world=_listening,
    fails=[Failure(_serve_listener, ZeroDivisionError, prepare=_break)],
)
async def _(listener: MemoryListener) -> None:
    await _until_shutdown(lambda status: serve_listeners(app, [listener], config=CONFIG, task_status=status))
    assert listener.closed


async def _listen_nowhere(path: Path) -> None:
    await open_unix_listener(path / "no such directory" / "socket")


@case(
    "trio_http.open_unix_listener",
    world=somewhere,
    check=_no_socket_left,
    fails=[Failure(_listen_nowhere, OSError)],
)
async def _(path: Path) -> None:
    close_unix_listener(await open_unix_listener(path))
