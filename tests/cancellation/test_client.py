"""The client, cancelled at every step of every kind of request.

After each run the client holds no connection but idle ones, its books are in order, and it works: see
`Network.see_all_is_well`. That a request never comes back half done is seen by the scenarios' assertions.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._worlds import CONFIG, Network, lands_in, sweep_client
from trio_http import HTTPException, PoolClosed, Request, Response, ResponseIncomplete
from trio_http.client import Client, ClientConnection
from trio_http.testing import ScriptedPeer, cancel_at_every_step, memory_pair, open_client

BIG = bytes(range(256)) * 400  # beyond what is sent at once with a head, and beyond a read
WARM = pytest.mark.parametrize("warm", [0, 1], ids=["cold", "warm"])
# A plain request that nobody looks on at goes a shorter way.
WATCHED = pytest.mark.parametrize("watched", [False, True], ids=["alone", "watched"])


async def app(request: Request) -> Response | None:
    match request.path:
        case "/":
            return Response(text="hello")
        case "/echo":
            return Response(content=await request.read())
        case "/big":
            return Response(content=BIG)
        case "/deaf":
            await trio.sleep(2.5)
            raise HTTPException(403)
        case "/chunks":
            async with request.stream_response() as body:
                for _ in range(3):
                    await body.send_all(b"chunk")
                    await trio.sleep(1)
        case "/early":
            await request.send_informational(103, headers={"link": "</a>"})
            await trio.sleep(1)
            return Response(text="late")
    return None


class Pieces:
    """Content that comes piece by piece, and knows whether somebody still reads it."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop(0)


@WARM
@WATCHED
async def test_a_get(warm: int, watched: bool, autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        assert (await client.get("/")).text == "hello"

    report = await sweep_client(scenario, app, warm=warm, watched=watched)
    lands_in(report, "_receive_head", "finish_send", *([] if warm else ["lease"]))


@WATCHED
async def test_a_get_of_a_big_answer_over_a_narrow_way(watched: bool, autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        assert (await client.get("/big")).content == BIG

    report = await sweep_client(scenario, app, warm=1, watched=watched, network={"buffer_bytes": 20_000})
    lands_in(report, "_read_whole")


async def test_a_head(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        response = await client.head("/big")
        assert (response.content, response.headers["content-length"]) == (b"", str(len(BIG)))

    await sweep_client(scenario, app, warm=1)


@WARM
@WATCHED
async def test_a_post_in_one_send(warm: int, watched: bool, autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        assert (await client.post("/echo", content=b"content")).content == b"content"

    await sweep_client(scenario, app, warm=warm, watched=watched)


async def test_a_post_of_more_than_goes_out_at_once(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        assert (await client.post("/echo", content=BIG)).content == BIG

    report = await sweep_client(scenario, app, warm=1, network={"buffer_bytes": 20_000})
    lands_in(report, "_begin_beside", "run")


async def test_a_streamed_post(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        response = await client.post("/echo", content=Pieces(b"one ", b"two ", b"three"))
        assert response.content == b"one two three"

    report = await sweep_client(scenario, app, warm=1)
    lands_in(report, "_send_pieces", "__anext__")


async def test_a_streamed_post_by_a_generator_which_is_closed(autojump_clock: MockClock) -> None:
    inside = 0

    async def scenario(client: Client) -> None:
        nonlocal inside
        assert inside == 0, "the generator of the run before was not closed"

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal inside
            inside += 1
            try:
                for piece in (b"one ", b"two"):
                    await trio.sleep(1)
                    yield piece
            finally:
                inside -= 1

        assert (await client.post("/echo", content=pieces())).content == b"one two"

    await sweep_client(scenario, app, warm=1)
    assert inside == 0


async def test_content_that_fails(autojump_clock: MockClock) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await trio.sleep(1)
        raise LookupError("no more")

    async def scenario(client: Client) -> None:
        # Told from a cancel, and not in a group.
        with contextlib.suppress(LookupError):
            await client.post("/echo", content=pieces())
            raise AssertionError("the error was lost")

    await sweep_client(scenario, app, warm=1)


async def test_an_answer_that_comes_before_the_content_is_sent(autojump_clock: MockClock) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1000)
            await trio.sleep(1)

    async def scenario(client: Client) -> None:
        assert (await client.post("/deaf", content=endless())).status == 403

    report = await sweep_client(scenario, app, warm=1)
    lands_in(report, "endless")


async def test_content_that_waits_for_100_continue(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        response = await client.post("/echo", content=b"content", headers={"expect": "100-continue"})
        assert response.content == b"content"

    await sweep_client(scenario, app, warm=1)


async def test_content_that_goes_out_when_no_100_comes(autojump_clock: MockClock) -> None:
    async def slow(request: Request) -> Response:
        await trio.sleep(3)
        return Response(content=await request.read())

    async def scenario(client: Client) -> None:
        response = await client.post("/", content=Pieces(b"con", b"tent"), headers={"expect": "100-continue"})
        assert response.content == b"content"

    await sweep_client(scenario, slow, warm=1)


async def test_an_interim_response_is_passed_over(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        assert (await client.get("/early")).text == "late"

    await sweep_client(scenario, app, warm=1)


async def test_a_streamed_answer_that_is_read_to_its_end(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        async with client.stream("GET", "/chunks") as response:
            assert b"".join([piece async for piece in response.body]) == b"chunk" * 3

    report = await sweep_client(scenario, app, warm=1)
    lands_in(report, "receive_some", "next_data")


async def test_a_streamed_answer_that_is_left_half_way(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        async with client.stream("GET", "/chunks") as response:
            assert await response.body.receive_some(3) == b"chu"
            await trio.lowlevel.checkpoint()

    report = await sweep_client(scenario, app, warm=1)
    lands_in(report, "__aexit__")


async def test_a_streamed_answer_whose_rest_is_here_when_it_is_left(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        async with client.stream("GET", "/") as response:
            assert await response.body.receive_some(1) == b"h"

    await sweep_client(scenario, app, warm=1)


async def test_a_streamed_answer_that_is_closed_early_and_one_that_is_read_whole(
    autojump_clock: MockClock,
) -> None:
    async def scenario(client: Client) -> None:
        async with client.stream("GET", "/chunks") as response:
            await response.body.aclose()
        async with client.stream("GET", "/chunks") as response:
            assert await response.read() == b"chunk" * 3

    await sweep_client(scenario, app, warm=1)


@WATCHED
async def test_an_answer_that_is_cut_off(watched: bool, autojump_clock: MockClock) -> None:
    async def cut(request: Request) -> None:
        async with request.stream_response() as body:
            await body.send_all(b"half")
            raise LookupError("cut on purpose")

    async def scenario(client: Client) -> None:
        with contextlib.suppress(ResponseIncomplete):
            await client.get("/")
            raise AssertionError("half an answer was returned")

    await sweep_client(scenario, cut, warm=1, watched=watched)


async def test_opening_using_and_closing_a_client(autojump_clock: MockClock) -> None:
    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Network]:
        async with Network(app).opened() as net:
            yield net

    async def scenario(net: Network) -> None:
        async with Client(base_url="http://a", dial=net.dial) as client:
            assert (await client.get("/")).text == "hello"

    async def check(net: Network) -> None:
        await trio.testing.wait_all_tasks_blocked()
        assert all(stream.closed for stream in net.streams)
        assert net.dialing == 0

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "__aenter__", "__aexit__", "dial", "_supervise")


async def test_closing_a_client_while_requests_run(autojump_clock: MockClock) -> None:
    """They end in `PoolClosed`, in a cancel if that is theirs, and never in a cancel of somebody else's."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Network]:
        async with Network(app, dial_seconds=2).opened() as net:
            yield net

    async def scenario(net: Network) -> None:
        refused = 0

        async def chunks(client: Client) -> None:
            nonlocal refused
            with contextlib.suppress(PoolClosed):
                await client.get("/chunks")
                raise AssertionError("the client was closed in the midst of it")
            refused += 1

        async with (
            trio.open_nursery() as nursery,
            Client(base_url="http://a", dial=net.dial, max_connections=2) as client,
        ):
            for _ in range(3):
                nursery.start_soon(chunks, client)
            await trio.sleep(3)
        assert refused == 3

    async def check(net: Network) -> None:
        await trio.testing.wait_all_tasks_blocked()
        assert all(stream.closed for stream in net.streams)
        assert net.dialing == 0

    await cancel_at_every_step(scenario, world=world, check=check)


async def test_a_whole_test_with_a_client_in_memory(autojump_clock: MockClock) -> None:
    async def scenario() -> None:
        async with open_client(app, config=CONFIG) as client:
            assert (await client.get("/chunks")).content == b"chunk" * 3

    report = await cancel_at_every_step(scenario)
    lands_in(report, "app", "_receive_head", "__aexit__")


async def test_one_connection_without_a_pool(autojump_clock: MockClock) -> None:
    """After a cancel it is closed, or as good as new when nothing was sent yet."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[tuple[ScriptedPeer, ClientConnection]]:
        ends = memory_pair()
        peer = ScriptedPeer(ends)
        for _ in range(2):
            peer.expect_until(b"\r\n\r\n", startswith=b"GET / ").send(answer)

        async def play() -> None:
            with contextlib.suppress(AssertionError):
                await peer.play()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(play)
            async with ClientConnection(peer.stream, base_url="http://a") as connection:
                yield peer, connection
            assert peer.stream.closed
        ends[0].close()

    async def scenario(value: tuple[ScriptedPeer, ClientConnection]) -> None:
        assert (await value[1].get("/")).content == b"ok"

    async def check(value: tuple[ScriptedPeer, ClientConnection]) -> None:
        peer, connection = value
        assert connection.closed == peer.stream.closed
        if not connection.closed:
            assert (await connection.get("/")).content == b"ok"

    await cancel_at_every_step(scenario, world=world, check=check)
