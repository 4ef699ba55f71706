"""What nginx has and HAProxy lacks: stored uploads, its way with `X-Forwarded-For`, its stream module."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from tests.interop.behind import PIECE, address, connected, pieces, start, who
from tests.interop.programs import SECONDS, Proxy, nginx_before
from tests.server.support import chunk, head
from trio_http import Client, Request, Response, ServerConfig

pytestmark = pytest.mark.interop

Run = Callable[..., AbstractAsyncContextManager[Proxy]]


@pytest.fixture
def proxy_before(program: Callable[[str], str], tmp_path: Path) -> Run:
    """A function that runs nginx before a port."""
    return functools.partial(nginx_before, path=program("nginx"), folder=tmp_path / "proxy")


@pytest.mark.parametrize(("stored", "framing"), [("on", str(3 * len(PIECE))), ("off", "chunked")])
async def test_a_chunked_upload_is_counted_if_nginx_stores_it_and_else_stays_chunked(
    stored: str, framing: str, nursery: trio.Nursery, proxy_before: Run
) -> None:
    port = await start(nursery)
    async with proxy_before(port, options=f"proxy_request_buffering {stored};") as proxy, Client() as client:
        with trio.fail_after(SECONDS):
            response = await client.post(proxy.url + "/echo", content=pieces(3))
    assert response.headers["x-framing"] == framing
    assert response.content == PIECE * 3


async def test_trailers_that_nginx_leaves_out_leave_all_connections_in_order(
    nursery: trio.Nursery, proxy_before: Run
) -> None:
    port = await start(nursery)
    async with proxy_before(port) as proxy, connected(proxy.port) as peer:
        for _ in range(3):
            await peer.send(head("POST", "/trailers", "Transfer-Encoding: chunked", "TE: trailers"))
            await peer.send(chunk(b"abc"), b"0\r\nX-Sum: 1\r\n\r\n")
            answer = await peer.answer("POST")
            assert (answer.status, answer.content, answer.trailers) == (200, b"abc", [])


# ------------------------------------------------------------------------------------------ who the client is


async def forwarded(request: Request) -> Response:
    """Say whom we take the client for, after how many proxies, and who is connected to us."""
    facts = request.forwarded
    assert isinstance(request.connection.peername, tuple)
    return Response(200, text=f"{facts.client} {facts.hops} {facts.scheme} {request.connection.peername[0]}")


LIE = "X-Forwarded-For: 192.0.2.1"


@pytest.mark.parametrize(
    ("fields", "trusted", "expected"),
    [
        ([], ["127.0.0.1"], "127.0.0.2 1 http 127.0.0.1"),
        ([LIE], ["127.0.0.1"], "127.0.0.2 1 http 127.0.0.1"),
        ([LIE, "X-Forwarded-Proto: https"], ["127.0.0.1"], "127.0.0.2 1 http 127.0.0.1"),
        ([LIE], ["127.0.0.0/8"], "192.0.2.1 2 http 127.0.0.1"),
        ([LIE], ["192.0.2.0/24"], "127.0.0.1 0 None 127.0.0.1"),
    ],
    ids=["an honest client", "a lie", "two lies", "a proxy before nginx", "nginx not trusted"],
)
async def test_the_client_is_whom_nginx_saw(
    fields: list[str], trusted: list[str], expected: str, nursery: trio.Nursery, proxy_before: Run
) -> None:
    config = ServerConfig(trusted_proxies=trusted, forwarded_fields="x-forwarded")
    port = await start(nursery, forwarded, config)
    # Another address of the loopback interface, so that client and proxy can be told apart.
    async with proxy_before(port) as proxy, connected(proxy.port, "127.0.0.2") as peer:
        assert (await peer.ask(head("GET", "/", *fields))).content.decode() == expected


@pytest.fixture
def stream_module(program: Callable[[str], str]) -> Path:
    """Where nginx's stream module is, which Debian has in a package of its own."""
    built = subprocess.run([program("nginx"), "-V"], capture_output=True, text=True, timeout=SECONDS).stderr
    folder = re.search(r"--modules-path=(\S+)", built)
    module = Path(folder[1] if folder else "modules") / "ngx_stream_module.so"
    if not module.exists():
        pytest.skip("nginx's stream module is not installed (Debian: apt-get install libnginx-mod-stream)")
    return module


async def test_the_peer_is_the_client_that_nginx_told_of_by_the_proxy_protocol(
    stream_module: Path, nursery: trio.Nursery, proxy_before: Run
) -> None:
    port = await start(nursery, who, ServerConfig(proxy_protocol_from=["127.0.0.1"]))
    block = "server {{ listen 127.0.0.1:{ports[1]}; proxy_pass 127.0.0.1:{backend}; proxy_protocol on; }}"
    async with (
        proxy_before(port, stream=f"load_module {stream_module}; stream {{{{ {block} }}}}") as proxy,
        connected(proxy.stream_port) as peer,
    ):
        for _ in range(2):
            answer = await peer.ask(head("GET"))
            assert (answer.status, answer.content.decode()) == (200, address(peer))
