"""Tunnels that last, lead to IPv6, or are given up: through tinyproxy, Squid and microsocks."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio
import trustme

import trio_http
from tests.interop.behind import app
from tests.interop.conftest import idle_and_leased
from tests.interop.forward_proxies import microsocks, squid, tinyproxy
from tests.interop.programs import SECONDS
from trio_http.client import Client

pytestmark = pytest.mark.interop

Program = Callable[[str], str]
Run = Callable[[], AbstractAsyncContextManager[int]]

AUTHORITY = trustme.CA()


@pytest.fixture(params=["tinyproxy", "squid", "microsocks"])
def proxy(request: pytest.FixtureRequest, program: Program, tmp_path: Path) -> tuple[str, Run]:
    """The scheme of a proxy, and how it is run."""
    path = program(request.param)
    if request.param == "squid":
        return "http", functools.partial(squid, path)
    if request.param == "tinyproxy":
        return "http", functools.partial(tinyproxy, path, tmp_path)
    return "socks5h", functools.partial(microsocks, path, bound=False)


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


async def start_tls(nursery: trio.Nursery, host: str = "127.0.0.1") -> int:
    """Serve over TLS, and return the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1", "::1", "localhost").configure_cert(context)
    serve = functools.partial(trio_http.serve_ssl_over_tcp, host=host)
    server = await nursery.start(serve, app, 0, context)
    return int(server.listeners[0].socket.getsockname()[1])


@contextlib.contextmanager
def unanswering() -> Iterator[int]:
    """A port that takes no connection and refuses none: its queue is full, and nobody accepts."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_hundred_requests_go_through_one_tunnel(
    proxy: tuple[str, Run], nursery: trio.Nursery
) -> None:
    # C18, C1
    scheme, run = proxy
    port = await start_tls(nursery)
    async with (
        run() as proxy_port,
        Client(proxy=f"{scheme}://127.0.0.1:{proxy_port}", ssl_context=trusting()) as client,
    ):
        with trio.fail_after(SECONDS):
            peers = {
                (await client.get(f"https://127.0.0.1:{port}/counted")).headers["x-peer"] for _ in range(100)
            }
            assert len(peers) == 1
            assert idle_and_leased(client) == (1, 0)
            (name,) = client.statistics().origins
            assert name == f"https://127.0.0.1:{port} by {scheme}://127.0.0.1:{proxy_port}"


async def test_tunnels_are_opened_beside_each_other_within_the_limit(
    proxy: tuple[str, Run], nursery: trio.Nursery
) -> None:
    scheme, run = proxy
    port = await start_tls(nursery)
    peers: set[str] = set()

    async def ask(client: Client) -> None:
        peers.add((await client.get(f"https://127.0.0.1:{port}/counted")).headers["x-peer"])

    async with (
        run() as proxy_port,
        Client(
            proxy=f"{scheme}://127.0.0.1:{proxy_port}", ssl_context=trusting(), max_connections_per_origin=3
        ) as client,
    ):
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as requests:
                for _ in range(30):
                    requests.start_soon(ask, client)
        assert 1 <= len(peers) <= 3
        assert client.statistics().idle == len(peers)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_socks_leads_to_an_ipv6_address(scheme: str, program: Program, nursery: trio.Nursery) -> None:
    # C18: RFC 1928 §5, address type 4.
    try:
        port = await start_tls(nursery, host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 on its loopback interface")
    async with (
        microsocks(program("microsocks"), bound=False) as proxy_port,
        Client(proxy=f"{scheme}://127.0.0.1:{proxy_port}", ssl_context=trusting()) as client,
    ):
        with trio.fail_after(SECONDS):
            for _ in range(2):
                response = await client.get(f"https://[::1]:{port}/counted")
                assert response.text == "counted\n"
                assert "::1" in response.headers["x-peer"]
            assert client.statistics().idle == 1


async def test_connect_leads_to_an_ipv6_address(program: Program, nursery: trio.Nursery) -> None:
    try:
        port = await start_tls(nursery, host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 on its loopback interface")
    # Squid's address to go out from is one of IPv4, and holds for such origins only.
    async with (
        squid(program("squid")) as proxy_port,
        Client(proxy=f"http://127.0.0.1:{proxy_port}", ssl_context=trusting()) as client,
    ):
        with trio.fail_after(SECONDS):
            assert (await client.get(f"https://[::1]:{port}/counted")).text == "counted\n"


async def test_a_request_that_is_cancelled_while_the_proxy_connects_disturbs_no_other(
    proxy: tuple[str, Run], nursery: trio.Nursery
) -> None:
    scheme, run = proxy
    port = await start_tls(nursery)
    with unanswering() as silent:
        async with (
            run() as proxy_port,
            Client(
                proxy=f"{scheme}://127.0.0.1:{proxy_port}", ssl_context=trusting(), max_connections=2
            ) as client,
        ):
            with trio.move_on_after(0.3) as scope:
                await client.get(f"https://127.0.0.1:{silent}/")
            assert scope.cancelled_caught
            counts = client.statistics()
            assert (counts.dialing, counts.leased, counts.waiting) == (1, 0, 0)
            with trio.fail_after(SECONDS):
                assert (await client.get(f"https://127.0.0.1:{port}/counted")).status == 200
                # Room for one more: the dial that nobody waits for gives way.
                assert (await client.get(f"https://localhost:{port}/counted")).status == 200
            assert client.statistics().dialing == 0


async def test_a_tunnel_that_is_not_made_in_time_is_given_up(
    proxy: tuple[str, Run], nursery: trio.Nursery
) -> None:
    scheme, run = proxy
    with unanswering() as silent:
        async with run() as proxy_port:
            url = f"{scheme}://127.0.0.1:{proxy_port}"
            async with Client(proxy=url, ssl_context=trusting(), dial_seconds=0.3) as client:
                with trio.fail_after(SECONDS), pytest.raises(trio_http.ConnectFailed) as caught:
                    await client.get(f"https://127.0.0.1:{silent}/")
                assert "not made within 0.3 s" in str(caught.value)
                assert url in str(caught.value)
                assert client.statistics().dialing == 0
