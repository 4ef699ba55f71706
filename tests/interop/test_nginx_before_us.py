"""What of nginx's HAProxy does not have: uploads stored or not, `X-Forwarded-For` as usual, and its stream module."""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from tests.interop.behind import PIECE, app, pieces
from tests.interop.programs import SECONDS, Proxy, nginx_before, run
from tests.server.support import Peer, chunk, head
from trio_http import Client, Request, Response, ServerConfig, serve_tcp

pytestmark = pytest.mark.interop

Run = Callable[..., AbstractAsyncContextManager[Proxy]]


@pytest.fixture
def proxy_before(program: Callable[[str], str], tmp_path: Path) -> Run:
    """A function that runs nginx before a port."""
    return functools.partial(nginx_before, path=program("nginx"), folder=tmp_path / "proxy")


Serve = Callable[..., Awaitable[int]]


@pytest.fixture
def serve(nursery: trio.Nursery) -> Serve:
    """A function that serves a handler and returns the port."""

    async def start(
        handler: Callable[[Request], Awaitable[Response | None]], config: ServerConfig | None = None
    ) -> int:
        server = await nursery.start(
            functools.partial(serve_tcp, config=config or ServerConfig()), handler, 0
        )
        return int(server.listeners[0].socket.getsockname()[1])

    return start


@pytest.mark.parametrize(("stored", "framing"), [("on", str(3 * len(PIECE))), ("off", "chunked")])
async def test_a_chunked_upload_is_counted_if_nginx_stores_it_and_else_stays_chunked(
    stored: str, framing: str, serve: Serve, proxy_before: Run
) -> None:
    port = await serve(app)
    async with proxy_before(port, options=f"proxy_request_buffering {stored};") as proxy, Client() as client:
        with trio.fail_after(SECONDS):
            response = await client.post(proxy.url + "/echo", content=pieces(3))
    assert response.headers["x-framing"] == framing
    assert response.content == PIECE * 3


async def test_trailers_that_nginx_leaves_out_leave_all_connections_in_order(
    serve: Serve, proxy_before: Run
) -> None:
    async with proxy_before(await serve(app)) as proxy:
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            peer = Peer(stream)
            with trio.fail_after(SECONDS):
                for _ in range(3):
                    await peer.send(head("POST", "/trailers", "Transfer-Encoding: chunked", "TE: trailers"))
                    await peer.send(chunk(b"abc"), b"0\r\nX-Sum: 1\r\n\r\n")
                    answer = await peer.answer("POST")
                    assert (answer.status, answer.content) == (200, b"abc")
                    assert answer.trailers == []


# ------------------------------------------------------------------------------------------ who the client is


async def forwarded(request: Request) -> Response:
    """Say whom we take the client for."""
    facts = request.forwarded
    return Response(200, text=f"{facts.client} {facts.scheme} {facts.hops} {request.connection.peername[0]}")


@pytest.mark.parametrize(
    ("lies", "trusted", "expected"),
    [
        ([], ["127.0.0.1"], "127.0.0.2 http 1 127.0.0.1"),
        (["X-Forwarded-For: 192.0.2.1"], ["127.0.0.1"], "127.0.0.2 http 1 127.0.0.1"),
        (
            ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"],
            ["127.0.0.1"],
            "127.0.0.2 http 1 127.0.0.1",
        ),
        (["X-Forwarded-For: 192.0.2.1"], ["127.0.0.0/8"], "192.0.2.1 http 2 127.0.0.1"),
        (["X-Forwarded-For: 192.0.2.1"], ["192.0.2.0/24"], "127.0.0.1 None 0 127.0.0.1"),
    ],
    ids=["an honest client", "a lie", "two lies", "a proxy before nginx", "nginx not trusted"],
)
async def test_the_client_is_whom_nginx_saw(
    lies: list[str], trusted: list[str], expected: str, serve: Serve, proxy_before: Run
) -> None:
    config = ServerConfig(trusted_proxies=trusted, forwarded_fields="x-forwarded")
    async with proxy_before(await serve(forwarded, config)) as proxy:
        # Another address of the loopback interface, so that client and proxy can be told apart.
        stream = await trio.open_tcp_stream("127.0.0.1", proxy.port, local_address="127.0.0.2")
        async with stream:
            with trio.fail_after(SECONDS):
                answer = await Peer(stream).ask(head("GET", "/", *lies))
    assert answer.content.decode() == expected


async def who(request: Request) -> Response:
    """Say whom we take the client for."""
    return Response(200, text=str(request.connection.peername))


async def test_the_peer_is_the_client_that_nginx_told_of_by_the_proxy_protocol(
    program: Callable[[str], str], serve: Serve, proxy_before: Run
) -> None:
    built = (await run([program("nginx"), "-V"])).stderr.decode()
    folder = re.search(r"--modules-path=(\S+)", built)
    module = trio.Path(folder[1] if folder else "/nowhere") / "ngx_stream_module.so"
    if not await module.exists():
        pytest.skip("this nginx has no stream module (Debian: apt-get install libnginx-mod-stream)")
    port = await serve(who, ServerConfig(proxy_protocol_from=["127.0.0.1"]))
    stream_block = f"load_module {module}; stream {{ server {{ "
    stream_block += "listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{backend}; proxy_protocol on; } }"
    async with proxy_before(port, stream=stream_block) as proxy:
        async with await trio.open_tcp_stream("127.0.0.1", proxy.stream_port) as stream:
            with trio.fail_after(SECONDS):
                for _ in range(2):
                    answer = await Peer(stream).ask(head("GET"))
                    assert answer.content.decode() == str(stream.socket.getsockname())
