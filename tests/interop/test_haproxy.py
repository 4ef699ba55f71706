"""What of HAProxy's nginx does not have: trailers, interim responses, and the PROXY protocol as its speciality."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from tests.interop.behind import PIECE, app, pieces
from tests.interop.programs import SECONDS, Proxy, haproxy_before
from tests.server.support import Peer, chunk, head
from trio_http import Client, Request, Response, ServerConfig, serve_tcp

pytestmark = pytest.mark.interop

Run = Callable[..., AbstractAsyncContextManager[Proxy]]


@pytest.fixture
def proxy_before(program: Callable[[str], str], tmp_path: Path) -> Run:
    """A function that runs HAProxy before a port."""
    return functools.partial(haproxy_before, path=program("haproxy"), folder=tmp_path / "proxy")


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


@pytest.fixture
async def peer(serve: Serve, proxy_before: Run) -> AsyncIterator[Peer]:
    """A client of HAProxy that sends bytes as they are."""
    async with proxy_before(await serve(app)) as proxy:
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            with trio.fail_after(SECONDS):
                yield Peer(stream)


async def test_trailers_come_through_both_ways(peer: Peer) -> None:
    for number in range(2):
        await peer.send(
            head("POST", "/trailers", "Transfer-Encoding: chunked", "Trailer: X-Sum", "TE: trailers"),
            chunk(b"abc"),
            b"0\r\nX-Sum: %d\r\n\r\n" % number,
        )
        answer = await peer.answer("POST")
        assert (answer.status, answer.content) == (200, b"abc")
        assert [(name.lower(), value.lower()) for name, value in answer.trailers] == [
            ("x-seen", f"x-sum={number}")
        ]


async def test_an_early_hint_comes_through_before_the_answer(peer: Peer) -> None:
    for _ in range(2):
        answer = await peer.ask(head("GET", "/early"))
        assert (answer.status, answer.content) == (200, b"late\n")
        assert [interim.status for interim in answer.interims] == [103]


async def test_a_chunked_upload_reaches_us_in_chunks(serve: Serve, proxy_before: Run) -> None:
    async with proxy_before(await serve(app)) as proxy, Client() as client:
        with trio.fail_after(SECONDS):
            response = await client.post(proxy.url + "/echo", content=pieces(3))
    assert response.headers["x-framing"] == "chunked"
    assert response.content == PIECE * 3


# ------------------------------------------------------------------------------------------ who the client is


async def who(request: Request) -> Response:
    """Say whom we take the client for."""
    return Response(200, text=str(request.connection.peername))


@pytest.mark.parametrize(
    "words",
    ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c,authority"],
    ids=["version 1", "version 2", "version 2 with TLVs"],
)
async def test_the_peer_is_the_client_that_haproxy_told_of(
    words: str, serve: Serve, proxy_before: Run
) -> None:
    port = await serve(who, ServerConfig(proxy_protocol_from=["127.0.0.1"]))
    async with proxy_before(port, server=words) as proxy:
        for _ in range(3):
            async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
                with trio.fail_after(SECONDS):
                    peer = Peer(stream)
                    for _ in range(3):
                        answer = await peer.ask(head("GET"))
                        assert answer.status == 200
                        assert answer.content.decode() == str(stream.socket.getsockname())


@pytest.mark.parametrize("words", ["send-proxy", "send-proxy-v2"])
async def test_a_health_check_comes_as_haproxy_itself(words: str, serve: Serve, proxy_before: Run) -> None:
    checked = trio.Event()
    peers = []

    async def handler(request: Request) -> Response:
        if request.method == "OPTIONS":
            peers.append(request.connection.peername)
            checked.set()
        return Response(204)

    port = await serve(handler, ServerConfig(proxy_protocol_from=["127.0.0.1"]))
    async with proxy_before(
        port, server=f"{words} check check-send-proxy inter 50ms", backend_options="option httpchk OPTIONS /"
    ):
        with trio.fail_after(SECONDS):
            await checked.wait()
    assert peers[0][0] == "127.0.0.1"


async def test_a_proxy_without_the_header_is_turned_away_where_one_is_due(
    serve: Serve, proxy_before: Run, caplog: pytest.LogCaptureFixture
) -> None:
    port = await serve(who, ServerConfig(proxy_protocol_from=["127.0.0.1"]))
    async with proxy_before(port) as proxy:
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            with trio.fail_after(SECONDS):
                assert (await Peer(stream).ask(head("GET"))).status in (502, 503)


async def test_the_header_from_where_none_is_due_is_a_malformed_request(
    serve: Serve, proxy_before: Run
) -> None:
    port = await serve(who, ServerConfig(proxy_protocol_from=["192.0.2.0/24"]))
    async with proxy_before(port, server="send-proxy") as proxy:
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            with trio.fail_after(SECONDS):
                assert (await Peer(stream).ask(head("GET"))).status in (400, 502)
