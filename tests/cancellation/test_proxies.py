"""Dials over real sockets, cancelled at every step: through proxies of each kind, and by remembered names.

The proxies here play the origin, too: what comes through the tunnel is answered at its other end. The clock
is the real one, and nothing waits for it.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio
import trustme

from tests.cancellation._worlds import CONFIG, Accounts, lands_in
from trio_http import ConnectFailed, Request, Response
from trio_http.client import Client
from trio_http.server import serve_connection
from trio_http.testing import SweepReport, cancel_at_every_step

pytestmark = pytest.mark.interop

HELLO = b"\x05\x02\x00\x02"  # SOCKS 5, two ways of authenticating: none, and by password
GRANTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


async def app(request: Request) -> Response:
    return Response(content=await request.read() or b"fresh")


class Tunnels:
    """A proxy that opens a tunnel to anywhere, and answers at its end; in TLS if the origin is to have it.

    Attributes:
      url: of the proxy, with a user name and a password.
      refuses: it opens none.
    """

    url = ""

    def __init__(self, scheme: str, context: ssl.SSLContext | None, *, refuses: bool = False) -> None:
        self.scheme = scheme
        self.refuses = refuses
        self._context = context

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"{self.scheme}://user:secret@127.0.0.1:{listener.socket.getsockname()[1]}"
        await trio.serve_listeners(self._serve, [listener], task_status=task_status)

    async def _serve(self, stream: trio.SocketStream) -> None:
        # A client that is cancelled goes away in the middle of anything.
        with contextlib.suppress(trio.BrokenResourceError, EOFError):
            async with stream:
                if self.scheme == "http":
                    await self._connect(stream)
                else:
                    await self._socks(stream)
                origin: trio.abc.Stream = stream
                if self._context is not None:
                    origin = trio.SSLStream(stream, self._context, server_side=True, https_compatible=True)
                await serve_connection(app, origin, config=CONFIG)

    async def _connect(self, stream: trio.SocketStream) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await _some(stream)
        assert head.startswith(b"CONNECT origin.test:")
        if self.refuses:
            await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            raise EOFError
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")

    async def _socks(self, stream: trio.SocketStream) -> None:
        assert await _exactly(stream, len(HELLO)) == HELLO
        await stream.send_all(b"\x05\x02")
        assert await _exactly(stream, 13) == b"\x01\x04user\x06secret"
        await stream.send_all(b"\x01\x00")
        version, command, _, kind = await _exactly(stream, 4)
        assert (version, command) == (5, 1)
        length = 4 if kind == 1 else (await _exactly(stream, 1))[0]
        await _exactly(stream, length + 2)
        await stream.send_all(b"\x05\x02" + GRANTED[2:] if self.refuses else GRANTED)


async def _some(stream: trio.SocketStream, size: int = 1000) -> bytes:
    data = await stream.receive_some(size)
    if not data:
        raise EOFError
    return bytes(data)


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await _some(stream, size - len(data))
    return data


async def resolve(host: str, port: int) -> Sequence[str]:
    await trio.lowlevel.checkpoint()
    return ["127.0.0.1"]


async def get(client: Client, url: str, *, refused: bool) -> None:
    if not refused:
        assert (await client.get(url)).text == "fresh"
        return
    with contextlib.suppress(ConnectFailed):
        await client.get(url)
        raise AssertionError("the proxy let us through")


async def sweep_dials(proxy: Tunnels, url: str, **options: Any) -> SweepReport:
    """Cancel a client that makes a request through a proxy, at each step, those of its dial included.

    A dial goes on when only its request is cancelled; what ends it in its midst is the end of the client.
    After each run no descriptor is left, and the instruments were told the truth.
    """

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Accounts]:
        accounts = Accounts()
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.run)
            yield accounts
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        accounts.see_all_is_settled(len(accounts.dials))

    async def scenario(accounts: Accounts) -> None:
        async with Client(proxy=proxy.url, instruments=[accounts], **options) as client:
            await get(client, url, refused=proxy.refuses)

    return await cancel_at_every_step(scenario, world=world)


async def sweep_requests(proxy: Tunnels, url: str, **options: Any) -> SweepReport:
    """Cancel a request through a proxy at each of its steps; see that the client works on."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Client]:
        accounts = Accounts()
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.run)
            async with Client(proxy=proxy.url, instruments=[accounts], **options) as client:
                yield client
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        accounts.see_all_is_settled(len(accounts.dials))

    async def scenario(client: Client) -> None:
        await get(client, url, refused=proxy.refuses)

    async def check(client: Client) -> None:
        counts = client.statistics()
        assert (counts.leased, counts.waiting) == (0, 0)
        client._pool.ledger.check()
        with trio.fail_after(10):
            await scenario(client)

    return await cancel_at_every_step(scenario, world=world, check=check)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize("refuses", [False, True], ids=["granted", "refused"])
@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_a_dial_through_a_proxy_leaves_nothing_open(
    scheme: str, refuses: bool, authority: trustme.CA
) -> None:
    """C18: a tunnel by CONNECT, and SOCKS with and without names."""
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("origin.test").configure_cert(theirs)
    proxy = Tunnels(scheme, theirs, refuses=refuses)
    options = {"ssl_context": ours, "resolver": resolve, "name_cache_seconds": 60.0}
    report = await sweep_dials(proxy, "https://origin.test/", **options)
    lands_in(report, "open_socks" if scheme != "http" else "open_tunnel", "connect_host", "_wait")
    if not refuses:
        lands_in(report, "tls_over", "_receive_head")
    report = await sweep_requests(proxy, "https://origin.test/", **options)
    lands_in(report, "_wait")


async def test_requests_that_share_a_lookup_do_not_lose_it_to_a_cancel() -> None:
    """A remembered name: what one of two had begun to look up, the other one gets."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[tuple[Client, str]]:
        accounts = Accounts()
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            url = f"http://origin.test:{listener.socket.getsockname()[1]}/"
            options: Any = {"resolver": resolve, "name_cache_seconds": 60.0, "instruments": [accounts]}
            async with Client(**options) as client:
                yield client, url
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        accounts.see_all_is_settled(len(accounts.dials))

    async def serve(stream: trio.SocketStream) -> None:
        await serve_connection(app, stream, config=CONFIG)

    async def scenario(value: tuple[Client, str]) -> None:
        client, url = value
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, url)
            assert (await client.post(url, content=b"mine")).text == "mine"

    async def check(value: tuple[Client, str]) -> None:
        client, url = value
        with trio.fail_after(10):
            assert (await client.get(url)).text == "fresh"
        counts = client.statistics()
        assert (counts.leased, counts.waiting) == (0, 0)
        client._pool.ledger.check()

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "_wait")
