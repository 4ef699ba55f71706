"""What HAProxy has and nginx lacks: trailers, interim responses, health checks, and the PROXY protocol."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from tests.interop.behind import PIECE, address, connected, pieces, start, who
from tests.interop.programs import SECONDS, Proxy, haproxy_before
from tests.server.support import Peer, chunk, head
from trio_http import Client, Request, Response, ServerConfig

pytestmark = pytest.mark.interop

Run = Callable[..., AbstractAsyncContextManager[Proxy]]


@pytest.fixture
def proxy_before(program: Callable[[str], str], tmp_path: Path) -> Run:
    """A function that runs HAProxy before a port."""
    return functools.partial(haproxy_before, path=program("haproxy"), folder=tmp_path / "proxy")


@pytest.fixture
async def peer(nursery: trio.Nursery, proxy_before: Run) -> AsyncIterator[Peer]:
    port = await start(nursery)
    async with proxy_before(port) as proxy, connected(proxy.port) as peer:
        yield peer


async def test_trailers_come_through_both_ways(peer: Peer) -> None:
    for number in range(2):
        await peer.send(
            head("POST", "/trailers", "Transfer-Encoding: chunked", "Trailer: X-Sum", "TE: trailers"),
            chunk(b"abc"),
            b"0\r\nX-Sum: %d\r\n\r\n" % number,
        )
        answer = await peer.answer("POST")
        assert (answer.status, answer.content) == (200, b"abc")
        # HAProxy writes names in small letters.
        assert [(name.lower(), value.lower()) for name, value in answer.trailers] == [
            ("x-seen", f"x-sum={number}")
        ]


async def test_an_early_hint_comes_through_before_the_answer(peer: Peer) -> None:
    for _ in range(2):
        answer = await peer.ask(head("GET", "/early"))
        assert (answer.status, answer.content) == (200, b"late\n")
        assert [interim.status for interim in answer.interims] == [103]


async def test_a_chunked_upload_reaches_us_in_chunks(nursery: trio.Nursery, proxy_before: Run) -> None:
    port = await start(nursery)
    async with proxy_before(port) as proxy, Client() as client:
        with trio.fail_after(SECONDS):
            response = await client.post(proxy.url + "/echo", content=pieces(3))
    assert response.headers["x-framing"] == "chunked"
    assert response.content == PIECE * 3


# ------------------------------------------------------------------------------------------ who the client is


@pytest.mark.parametrize(
    "words",
    ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c,authority"],
    ids=["version 1", "version 2", "version 2 with TLVs"],
)
async def test_the_peer_is_the_client_that_haproxy_told_of(
    words: str, nursery: trio.Nursery, proxy_before: Run
) -> None:
    port = await start(nursery, who, ServerConfig(proxy_protocol_from=["127.0.0.1"]))
    async with proxy_before(port, server=words) as proxy:
        for _ in range(3):
            async with connected(proxy.port) as peer:
                for _ in range(3):
                    answer = await peer.ask(head("GET"))
                    assert (answer.status, answer.content.decode()) == (200, address(peer))


@pytest.mark.parametrize("words", ["send-proxy", "send-proxy-v2"])
async def test_a_health_check_comes_from_haproxy_itself(
    words: str, nursery: trio.Nursery, proxy_before: Run
) -> None:
    checked = trio.Event()
    hosts = []

    async def handler(request: Request) -> Response:
        if request.method == "OPTIONS":
            assert isinstance(request.connection.peername, tuple)
            hosts.append(request.connection.peername[0])
            checked.set()
        return Response(204)

    port = await start(nursery, handler, ServerConfig(proxy_protocol_from=["127.0.0.1"]))
    words += " check check-send-proxy inter 50ms"
    with trio.fail_after(SECONDS):
        async with proxy_before(port, server=words, backend_options="option httpchk OPTIONS /"):
            await checked.wait()
    assert hosts[0] == "127.0.0.1"


async def test_haproxy_without_the_header_is_turned_away_where_one_is_due(
    nursery: trio.Nursery, proxy_before: Run
) -> None:
    port = await start(nursery, who, ServerConfig(proxy_protocol_from=["127.0.0.1"]))
    async with proxy_before(port) as proxy, connected(proxy.port) as peer:
        assert (await peer.ask(head("GET"))).status in (502, 503)


async def test_a_header_where_none_is_due_is_a_malformed_request(
    nursery: trio.Nursery, proxy_before: Run
) -> None:
    port = await start(nursery, who, ServerConfig(proxy_protocol_from=["192.0.2.0/24"]))
    async with proxy_before(port, server="send-proxy") as proxy, connected(proxy.port) as peer:
        assert (await peer.ask(head("GET"))).status in (400, 502)
