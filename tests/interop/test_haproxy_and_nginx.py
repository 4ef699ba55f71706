"""Our server behind nginx and HAProxy, which keep connections to it and share them among their clients."""

from __future__ import annotations

import collections
import functools
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from tests.interop.behind import MEBIBYTE, PIECE, connected, pieces, rest_or_reset, start
from tests.interop.programs import SECONDS, Proxy, haproxy_before, nginx_before
from tests.server.support import Peer, head, post
from trio_http import (
    Client,
    Request,
    Response,
    Server,
    ServerConfig,
    ServerTimes,
    serve_listeners,
    serve_tcp,
)

pytestmark = pytest.mark.interop

Run = Callable[..., AbstractAsyncContextManager[Proxy]]


@pytest.fixture(params=["nginx", "haproxy"])
def proxy_before(request: pytest.FixtureRequest, program: Callable[[str], str], tmp_path: Path) -> Run:
    """A function that runs a proxy before a port."""
    before = nginx_before if request.param == "nginx" else haproxy_before
    return functools.partial(before, path=program(request.param), folder=tmp_path / "proxy")


@pytest.fixture
async def proxy(nursery: trio.Nursery, proxy_before: Run) -> AsyncIterator[Proxy]:
    async with proxy_before(await start(nursery)) as proxy:
        yield proxy


@pytest.fixture
async def peer(proxy: Proxy) -> AsyncIterator[Peer]:
    """A client of the proxy that sends bytes as they are."""
    async with connected(proxy.port) as peer:
        yield peer


async def test_get_head_and_post_come_through(proxy: Proxy, client: Client) -> None:
    got = await client.get(proxy.url + "/counted")
    assert (got.status, got.text, got.headers["content-length"]) == (200, "counted\n", "8")
    assert got.headers["x-framing"] == "none"
    headed = await client.head(proxy.url + "/counted")
    assert (headed.status, headed.content, headed.headers["content-length"]) == (200, b"", "8")
    posted = await client.post(proxy.url + "/echo", content=b"a body")
    assert (posted.status, posted.content, posted.headers["x-framing"]) == (200, b"a body", "6")
    assert (await client.get(proxy.url + "/nothing")).status == 404
    assert client.statistics().idle == 1


async def test_answers_without_content_leave_all_connections_in_order(proxy: Proxy, client: Client) -> None:
    for _ in range(3):
        assert (await client.get(proxy.url + "/empty")).status == 204
        assert (await client.get(proxy.url + "/old")).status == 304
        streamed = await client.head(proxy.url + "/streamed?1")
        assert (streamed.status, streamed.content) == (200, b"")
        assert (await client.get(proxy.url + "/counted")).text == "counted\n"
    assert client.statistics().idle == 1


async def test_chunks_come_through_both_ways(proxy: Proxy, client: Client) -> None:
    down = await client.get(proxy.url + "/streamed?3")
    assert down.headers["transfer-encoding"] == "chunked"
    assert down.content == PIECE * 3
    up = await client.post(proxy.url + "/echo", content=pieces(3))
    assert up.content == PIECE * 3
    assert client.statistics().idle == 1


async def test_large_bodies_come_through_both_ways(proxy: Proxy, client: Client) -> None:
    up = await client.post(proxy.url + "/echo", content=PIECE * 32)
    assert up.content == PIECE * 32
    async with client.stream("GET", proxy.url + "/streamed?64") as response:
        size = sum([len(piece) async for piece in response.body])
    assert size == 64 * MEBIBYTE


async def test_many_requests_need_few_connections_to_us(proxy: Proxy, client: Client) -> None:
    peers: set[str] = set()

    async def ask(count: int) -> None:
        for _ in range(count):
            response = await client.get(proxy.url + "/counted")
            assert response.text == "counted\n"
            peers.add(response.headers["x-peer"])

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(ask, 25)
    assert len(peers) <= 10  # 8 at a time, and a connection that is being closed while another is opened


async def test_a_refused_upload_is_answered_and_the_next_request_too(proxy: Proxy, client: Client) -> None:
    for _ in range(3):
        response = await client.post(proxy.url + "/refuse", content=PIECE * 4)
        assert response.status == 403
        assert (await client.get(proxy.url + "/counted")).text == "counted\n"


async def test_content_waits_for_a_continue(proxy: Proxy, peer: Peer) -> None:
    await peer.send(head("POST", "/echo", "Expect: 100-continue", "Content-Length: 3"))
    assert (await peer.head()).status == 100
    await peer.send(b"abc")
    answer = await peer.answer("POST")
    assert (answer.status, answer.content) == (200, b"abc")
    assert (await peer.ask(head("GET", "/counted"))).content == b"counted\n"


async def test_pipelined_requests_are_answered_in_their_order(proxy: Proxy, peer: Peer) -> None:
    await peer.send(*[post(b"%d" % number, target="/echo") for number in range(20)])
    contents = [(await peer.answer("POST")).content for _ in range(20)]
    assert contents == [b"%d" % number for number in range(20)]


async def test_an_http_1_0_client_gets_an_answer_that_it_understands(proxy: Proxy, peer: Peer) -> None:
    await peer.send(head("GET", "/streamed?1", version="1.0"))
    answer = await peer.answer()
    assert (answer.status, answer.framing, answer.content) == (200, "close", PIECE)


async def test_an_answer_that_we_had_to_cut_is_no_whole_answer_behind_the_proxy(
    proxy: Proxy, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    await peer.send(head("GET", "/cut"))
    received = await rest_or_reset(peer)
    assert b"HTTP/1.1 200 OK" in received
    assert not received.endswith(b"\r\n0\r\n\r\n")
    assert "to be seen as a cut" in caplog.text


async def test_no_request_fails_when_we_close_idle_connections_that_the_proxy_is_about_to_use(
    nursery: trio.Nursery, proxy_before: Run, client: Client
) -> None:
    idle = 0.02  # seconds; pauses are up to twice that, so that many connections are closed just when needed
    peers: set[str] = set()
    rng = random.Random(1)

    async def ask(url: str, count: int) -> None:
        for _ in range(count):
            await trio.sleep(rng.uniform(0, 2 * idle))
            response = await client.get(url)
            assert (response.status, response.text) == (200, "counted\n")
            peers.add(response.headers["x-peer"])

    port = await start(nursery, config=ServerConfig(times=ServerTimes(idle=idle)))
    async with proxy_before(port) as proxy, trio.open_nursery() as asking:
        for _ in range(5):
            asking.start_soon(ask, proxy.url + "/counted", 100)
    assert len(peers) > 20, "no idle connection was closed, so nothing was shown"


async def test_no_request_fails_when_each_of_our_answers_ends_its_connection(
    nursery: trio.Nursery, proxy_before: Run, client: Client
) -> None:
    async def close(request: Request) -> Response:
        return Response(200, text=str(request.connection.peername), headers={"Connection": "close"})

    async with proxy_before(await start(nursery, close)) as proxy:
        texts = [(await client.get(proxy.url + "/")).text for _ in range(50)]
    assert len(set(texts)) == 50


async def test_a_connection_is_upgraded_through_the_proxy(nursery: trio.Nursery, proxy_before: Run) -> None:
    ended = trio.Event()

    async def echo(request: Request) -> Response | None:
        if "echo" not in request.upgrade_protocols:
            return Response(426, headers={"Upgrade": "echo"})
        async with request.upgrade("echo") as stream:
            async for piece in stream:
                await stream.send_all(piece)
        ended.set()
        return None

    async with proxy_before(await start(nursery, echo)) as proxy, connected(proxy.port) as peer:
        assert (await peer.ask(head("GET"))).status == 426
        await peer.send(head("GET", "/", "Connection: Upgrade", "Upgrade: echo"))
        switched = await peer.head()
        assert (switched.status, switched.get("upgrade")) == (101, "echo")
        for message in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\r\n", b"x"):
            await peer.send(message)
            assert await peer.take(len(message)) == message
        async with trio.open_nursery() as sending:
            sending.start_soon(peer.send, PIECE)
            assert await peer.take(len(PIECE)) == PIECE
        await peer.stream.aclose()
        await ended.wait()


async def test_requests_under_way_are_answered_while_we_drain(
    nursery: trio.Nursery, proxy_before: Run, client: Client
) -> None:
    under_way, go = trio.Semaphore(0), trio.Event()

    async def wait(request: Request) -> Response:
        if request.path == "/wait":
            under_way.release()
            await go.wait()
        return Response(200, text=f"{request.draining}")

    statuses: list[tuple[int, str]] = []

    async def ask(url: str) -> None:
        response = await client.get(url)
        statuses.append((response.status, response.text))

    server = await nursery.start(serve_tcp, wait, 0)
    async with proxy_before(server.listeners[0].socket.getsockname()[1]) as proxy:
        assert (await client.get(proxy.url + "/")).text == "False"
        async with trio.open_nursery() as asking:
            for _ in range(5):
                asking.start_soon(ask, proxy.url + "/wait")
            for _ in range(5):
                await under_way.acquire()
            server.begin_shutdown(SECONDS)
            go.set()
        assert statuses == [(200, "True")] * 5
        # The proxy keeps connections for later, which must not keep us.
        with trio.fail_after(SECONDS / 3):
            await server.shutdown(SECONDS)
        assert (await client.get(proxy.url + "/")).status in (502, 503)


async def test_no_request_fails_when_one_server_hands_over_to_the_next(
    nursery: trio.Nursery, proxy_before: Run, client: Client
) -> None:
    """Servers that come and go on one listening socket, as in a restart without a gap."""
    served_by: collections.Counter[str] = collections.Counter()
    enough: dict[str, trio.Event] = collections.defaultdict(trio.Event)
    finished = trio.Event()

    async def ask(url: str) -> None:
        while not finished.is_set():
            response = await client.get(url)
            assert response.status == 200
            served_by[response.text] += 1
            if served_by[response.text] == 50:
                enough[response.text].set()

    async def served(name: str, listening: socket.socket) -> Server:
        async def handler(request: Request) -> Response:
            await trio.sleep(0.001)  # so that most requests are under way when a server begins to drain
            return Response(200, text=name)

        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.dup()))
        server = await nursery.start(serve_listeners, handler, [listener])
        assert isinstance(server, Server)
        return server

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = await served("0", listening)
        async with proxy_before(listening.getsockname()[1]) as proxy, trio.open_nursery() as asking:
            for _ in range(5):
                asking.start_soon(ask, proxy.url + "/")
            for number in range(1, 6):
                await enough[str(number - 1)].wait()
                following = await served(str(number), listening)
                await server.shutdown(SECONDS)
                server = following
            finished.set()
    assert all(served_by[str(number)] >= 50 for number in range(5))
