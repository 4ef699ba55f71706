"""Serving by any way in: ports, Unix sockets, inherited sockets, listeners of others (S3-S5, S42, S43)."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.server.support import CLOSING_GET, GET, Peer, head, hello
from tests.transport._peers import client_context, server_context
from trio_http import (
    Request,
    Response,
    Server,
    ServerConfig,
    inherited_listener,
    serve_connection,
    serve_listeners,
    serve_ssl_over_tcp,
    serve_tcp,
    serve_unix,
)
from trio_http.testing import no_descriptor_left

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def every_descriptor_is_closed() -> Iterator[None]:
    with no_descriptor_left():
        yield


async def ask(listener: trio.SocketListener, request: bytes = GET) -> int:
    """The status of the answer to a request on a connection of its own."""
    async with await trio.testing.open_stream_to_socket_listener(listener) as stream:
        return (await Peer(stream).ask(request)).status


# ------------------------------------------------------------------------------- what the caller gets in hand


async def test_a_nursery_starts_a_server_and_gets_it_when_it_listens() -> None:
    """S3, A31."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_tcp, hello, 0)
        assert isinstance(server, Server)
        (listener,) = server.listeners
        port = listener.socket.getsockname()[1]
        assert server.url == f"http://127.0.0.1:{port}"
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert (await Peer(stream).ask()).status == 200
        await server.shutdown()
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_a_server_is_embedded_started_and_stopped_from_code() -> None:
    """A34, A35, S5: twice in one program, beside another, and it takes no signal for itself."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    async with trio.open_nursery() as nursery:
        other = await nursery.start(serve_tcp, hello, 0)
        for _ in range(2):
            async with trio.open_nursery() as its_own:
                server = await its_own.start(serve_tcp, hello, 0)
                assert server.url != other.url
                assert await ask(server.listeners[0]) == 200
                assert handlers == [
                    signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
                ]
                its_own.cancel_scope.cancel()
        assert await ask(other.listeners[0]) == 200
        await other.shutdown()


async def test_a_server_still_knows_its_url_when_it_has_stopped() -> None:
    """For the last line in a log."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_tcp, hello, 0)
        url = server.url
        await server.shutdown()
        assert server.url == url


async def test_requests_that_end_their_connections_are_counted_like_others() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_tcp, hello, 0)
        for request in (CLOSING_GET, GET, CLOSING_GET):
            assert await ask(server.listeners[0], request) == 200
        await server.shutdown()
        assert server.statistics().requests_total == 3


async def test_a_server_of_one_connection_has_no_url_and_says_so() -> None:
    async with trio.open_nursery() as nursery:
        client, stream = trio.testing.memory_stream_pair()
        server = await nursery.start(serve_connection, hello, stream)
        assert server.listeners == ()
        with pytest.raises(ValueError, match="listens on no socket"):
            _ = server.url
        await client.aclose()


@pytest.mark.parametrize(("host", "url"), [("::1", "http://[::1]:"), (None, "http://")])
async def test_a_server_listens_where_it_is_told(host: str | None, url: str) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_tcp, hello, 0, host=host))
        assert server.url.startswith(url)
        for listener in server.listeners:
            assert await ask(listener) == 200
        await server.shutdown()


async def test_a_port_that_is_taken_is_told_and_nothing_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve_tcp(hello, taken.getsockname()[1])


# ----------------------------------------------------------------------------------------------- Unix sockets


async def test_a_unix_socket_is_served_and_its_file_goes_with_the_server(tmp_path: Path) -> None:
    """S42."""
    path = tmp_path / "app.sock"
    seen = []

    async def handler(request: Request) -> Response:
        seen.append((request.connection.peername, request.forwarded.client))
        return Response(200)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_unix, handler, path, mode=0o600))
        assert server.url == f"http+unix://{str(path).replace('/', '%2F')}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with await trio.open_unix_socket(path) as stream:
            assert (await Peer(stream).ask()).status == 200
        await server.shutdown()
    assert not path.exists()
    assert seen == [(None, None)]  # who comes over a Unix socket has no address


async def test_a_cancelled_server_removes_its_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_unix, hello, path)
        assert path.exists()
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_living_servers_unix_socket_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_unix, hello, path)
        with pytest.raises(OSError, match="a server listens there"):
            await serve_unix(hello, path)
        async with await trio.open_unix_socket(path) as stream:
            assert (await Peer(stream).ask()).status == 200
        await server.shutdown()


# ------------------------------------------------------------------------------------------ inherited sockets


async def test_an_inherited_socket_is_served() -> None:
    """S42."""
    fd = socket.create_server(("127.0.0.1", 0)).detach()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_listeners, hello, [inherited_listener(fd)])
        assert await ask(server.listeners[0]) == 200
        await server.shutdown()


#: The manager's part between fork and exec: the sockets become descriptors 3 and 4.
MANAGER = """
import os, sys
for number, fd in enumerate(map(int, sys.argv[2:]), start=3):
    os.set_inheritable(os.dup2(fd, number), True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""

SERVICE = """
import os
import trio
import trio_http

async def app(request):
    return trio_http.Response(200, text=request.path)

async def main():
    async with trio.open_nursery() as nursery:
        listeners = trio_http.systemd_listeners("web")
        server = await nursery.start(trio_http.serve_listeners, app, listeners)
        print(server.url, "LISTEN_FDS" in os.environ, flush=True)
        await trio.to_thread.run_sync(input)
        await server.shutdown(grace=1)

trio.run(main)
"""


@contextlib.contextmanager
def service(*sockets: socket.socket, names: str) -> Iterator[subprocess.Popen[str]]:
    """Run `SERVICE` as systemd would."""
    # Above 4, so that none is overwritten before it was moved.
    fds = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 10) for sock in sockets]
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", MANAGER, SERVICE, *map(str, fds)],
            pass_fds=fds, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names},
        )  # fmt: skip
    finally:
        for fd in fds:
            os.close(fd)
    with process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_service_serves_the_socket_that_systemd_has_opened_for_it_by_name() -> None:
    """S43. The socket outlives the service: who connects between two of them waits, and is served."""
    with socket.create_server(("127.0.0.1", 0)) as admin, socket.create_server(("127.0.0.1", 0)) as web:
        address = web.getsockname()
        for _ in range(2):
            with service(admin, web, names="admin:web") as process, trio.fail_after(30):
                assert process.stdin is not None
                assert process.stdout is not None
                async with await trio.open_tcp_stream(*address) as stream:  # before anybody accepts
                    said = await trio.to_thread.run_sync(process.stdout.readline)
                    assert said == f"http://127.0.0.1:{address[1]} False\n"
                    assert (await Peer(stream).ask(head("GET", "/here"))).content == b"/here"
                process.stdin.write("\n")
                process.stdin.flush()
                assert await trio.to_thread.run_sync(process.wait) == 0


# ---------------------------------------------------------------------------------------- listeners of others


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts memory streams: what a listener of another kind than sockets may be.

    Attributes:
      closed: by the server.
    """

    def __init__(self) -> None:
        self.closed = False
        self._connects, self._accepts = trio.open_memory_channel[trio.abc.Stream | Exception](math.inf)

    def connect(self) -> Peer:
        """Return the client's end of a connection that can be accepted."""
        client, server = trio.testing.memory_stream_pair()
        self._connects.send_nowait(server)
        return Peer(client)

    def fail(self, error: Exception) -> None:
        """Let `accept` raise this."""
        self._connects.send_nowait(error)

    async def accept(self) -> trio.abc.Stream:
        accepted = await self._accepts.receive()
        if isinstance(accepted, Exception):
            raise accepted
        return accepted

    async def aclose(self) -> None:
        self.closed = True
        self._accepts.close()
        await trio.lowlevel.checkpoint()


async def test_a_listener_of_any_streams_is_served_beside_others() -> None:
    """S4."""
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        sockets = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server = await nursery.start(serve_listeners, hello, [listener, *sockets])
        assert server.url.startswith("http://127.0.0.1:")
        peers = [listener.connect() for _ in range(3)]
        for peer in peers:
            assert (await peer.ask()).status == 200
        assert await ask(sockets[0]) == 200
        assert server.statistics().connections >= 3
        await server.shutdown()
        for peer in peers:
            assert await peer.is_closed_by_server()
    assert listener.closed


async def test_a_cancelled_server_closes_foreign_listeners_and_their_streams() -> None:
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_listeners, hello, [listener])
        peer = listener.connect()
        assert (await peer.ask()).status == 200
        nursery.cancel_scope.cancel()
    assert listener.closed
    assert await peer.is_closed_by_server()


async def test_a_server_that_cannot_begin_closes_the_listeners_that_it_was_given() -> None:
    listener = MemoryListener()
    with pytest.raises(TypeError):
        await serve_listeners(None, [listener])  # type: ignore[arg-type]
    assert listener.closed


async def test_a_foreign_listener_that_fails_ends_the_server_with_its_own_error() -> None:
    listener = MemoryListener()
    failure = RuntimeError("the listener's")
    listener.fail(failure)
    with pytest.raises(RuntimeError) as caught:
        await serve_listeners(hello, [listener])
    assert caught.value is failure
    assert listener.closed


async def test_foreign_connections_beyond_the_limit_are_refused() -> None:
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        config = ServerConfig(max_connections=1)
        server = await nursery.start(partial(serve_listeners, hello, [listener], config=config))
        first, second = listener.connect(), listener.connect()
        assert (await first.ask()).status == 200
        answer = await second.answer()
        assert (answer.status, answer.closes) == (503, True)
        await first.stream.aclose()
        await second.stream.aclose()
        await server.shutdown()


async def test_trios_own_tls_listener_is_served() -> None:
    """Its streams shake hands when they are first read from, under the limit on a request's head."""
    listeners = await trio.open_ssl_over_tcp_listeners(0, server_context(), host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_listeners, hello, listeners)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        assert server.url == f"https://127.0.0.1:{port}"
        raw = await trio.open_tcp_stream("127.0.0.1", port)
        async with trio.SSLStream(
            raw, client_context(), server_hostname="example.test", https_compatible=True
        ) as stream:
            for _ in range(2):
                assert (await Peer(stream).ask()).status == 200  # type: ignore[arg-type]
        await server.shutdown()


async def test_any_stream_can_be_served() -> None:
    """S4: made of two that go one way, and TLS over memory."""
    async with trio.open_nursery() as nursery:
        (to_server, from_client) = trio.testing.memory_stream_one_way_pair()
        (to_client, from_server) = trio.testing.memory_stream_one_way_pair()
        nursery.start_soon(serve_connection, hello, trio.StapledStream(to_client, from_client))
        peer = Peer(trio.StapledStream(to_server, from_server))
        assert (await peer.ask()).status == 200
        await peer.stream.aclose()

        left, right = trio.testing.memory_stream_pair()
        tls = trio.SSLStream(right, server_context(), server_side=True, https_compatible=True)
        nursery.start_soon(serve_connection, hello, tls)
        client = trio.SSLStream(left, client_context(), server_hostname="example.test", https_compatible=True)
        assert (await Peer(client).ask()).status == 200  # type: ignore[arg-type]
        await client.aclose()


async def test_what_is_no_server_with_tls_has_no_context_to_replace() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_tcp, hello, 0)
        with pytest.raises(RuntimeError, match="does not speak TLS"):
            server.replace_ssl_context(server_context())
        secure = await nursery.start(serve_ssl_over_tcp, hello, 0, server_context())
        assert secure.url.startswith("https://127.0.0.1:")
        nursery.cancel_scope.cancel()
