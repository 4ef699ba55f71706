"""Every limit holds in a server that was not configured at all.

For each number of the configuration there is a scene below, in which a client of a bare `ServerConfig()` runs
into that limit and into no other. A limit that is off by default is set to the smallest value that it can
have. A number without a scene fails the test.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import pytest
import trio
import trio.testing

from tests.server.support import GET, Cut, Peer, chunk, head, hello, post, serve
from tests.transport._peers import server_context
from trio_http import (
    Request,
    Response,
    Server,
    ServerConfig,
    ServerRates,
    ServerTimes,
    serve_ssl_over_tcp,
    serve_tcp,
)
from trio_http.testing import memory_pair
from trio_http.wire import Limits

BARE: Final = ServerConfig()
#: What a client that is well within all limits on rates sends in a second: more than 240 bytes.
BRISK: Final = 300
#: What one that is too slow sends.
SLOW: Final = 100


class World:
    """What a scene has: a nursery, and a way to be served.

    Attributes:
      nursery: ends with the scene.
      clock: jumps.
    """

    def __init__(self, nursery: trio.Nursery, clock: trio.testing.MockClock) -> None:
        self.nursery = nursery
        self.clock = clock

    def serve(self, handler: Any = hello, config: ServerConfig = BARE, streams: Any = None) -> Peer:
        """A client in memory."""
        return serve(self.nursery, handler, config, streams or trio.testing.memory_stream_pair())

    async def connect(self, server: Server) -> trio.SocketStream:
        """A client on a socket; the clock jumps only when sockets are silent, too."""
        self.clock.autojump_threshold = 0.01
        return await trio.testing.open_stream_to_socket_listener(server.listeners[0])


Scene = Callable[[World], Awaitable[None]]
SCENES: dict[tuple[type, str], Scene] = {}


def scene(owner: type, name: str) -> Callable[[Scene], Scene]:
    """Say of which number a function is the scene."""

    def keep(play: Scene) -> Scene:
        assert (owner, name) not in SCENES
        SCENES[owner, name] = play
        return play

    return keep


def numbers() -> list[tuple[type, str]]:
    """All that a server's configuration bounds."""
    found: list[tuple[type, str]] = [(Limits, field.name) for field in dataclasses.fields(Limits)]
    for owner in (ServerTimes, ServerRates, ServerConfig):
        for field in attrs.fields(owner):
            if isinstance(field.default, (int, float)) and not isinstance(field.default, bool):
                found.append((owner, field.name))
    return found


#: Of the other side: a server receives no responses.
NOT_OF_A_SERVER: Final = {(Limits, "max_interim")}


@pytest.mark.parametrize(
    ("owner", "name"), [pytest.param(*each, id=f"{each[0].__name__}.{each[1]}") for each in numbers()]
)
async def test_the_limit_holds_by_default(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, owner: type, name: str
) -> None:
    if (owner, name) in NOT_OF_A_SERVER:
        assert (owner, name) not in SCENES
        return
    assert (owner, name) in SCENES, f"{owner.__name__}.{name} is new: show here that it does something"
    await SCENES[owner, name](World(nursery, autojump_clock))


def test_there_is_no_scene_of_a_limit_that_does_not_exist() -> None:
    assert set(SCENES) | NOT_OF_A_SERVER == set(numbers())


# ---------------------------------------------------------------------------------------------------- times


def now_is(seconds: float) -> bool:
    """Whether so much time has passed since the scene began. Over sockets it passes a little faster."""
    return bool(trio.current_time() == pytest.approx(seconds, abs=0.1))


@scene(ServerTimes, "handshake")
async def _(world: World) -> None:
    """A client that connects to the TLS port and says nothing."""
    server: Server = await world.nursery.start(serve_ssl_over_tcp, hello, 0, server_context())
    async with await world.connect(server) as stream:
        began = trio.current_time()
        try:
            assert await stream.receive_some() == b""
        except trio.BrokenResourceError:
            pass
        assert trio.current_time() - began == pytest.approx(10, abs=1)
    world.nursery.cancel_scope.cancel()


@scene(ServerTimes, "head")
async def _(world: World) -> None:
    """A head that keeps to its rate, but does not end."""
    peer = world.serve()
    await peer.send(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(19):
        await trio.sleep(1)
        await peer.send(b"x" * BRISK)
    assert (await peer.answer()).status == 408
    assert now_is(20)


@scene(ServerTimes, "head_stall")
async def _(world: World) -> None:
    peer = world.serve()
    await peer.send(b"GET ")
    assert (await peer.answer()).status == 408
    assert now_is(10)


@scene(ServerTimes, "idle")
async def _(world: World) -> None:
    peer = world.serve()
    await peer.ask()
    assert await peer.is_closed_by_server()
    assert now_is(60)


async def _reading(request: Request) -> Response:
    async for _ in request.body:
        pass
    return Response(200)


@scene(ServerTimes, "body_stall")
async def _(world: World) -> None:
    peer = world.serve(_reading)
    await peer.send(post(b"abc")[:-1])
    assert (await peer.answer()).status == 408
    assert now_is(60)


@scene(ServerTimes, "write_stall")
async def _(world: World) -> None:
    peer = world.serve(streams=trio.testing.lockstep_stream_pair())
    await peer.send(GET)
    await peer.finished.wait()
    assert now_is(60)


@scene(ServerTimes, "request")
async def _(world: World) -> None:
    async def handler(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    assert BARE.times.request == math.inf
    shortest = ServerConfig(times=ServerTimes(request=math.ulp(0)))
    assert (await world.serve(handler, shortest).ask()).status == 503
    assert now_is(0)


@scene(ServerTimes, "answer")
async def _(world: World) -> None:
    """A refusal that nobody reads. The limit on writing would give it a minute."""
    peer = world.serve(streams=trio.testing.lockstep_stream_pair())
    await peer.send(b"nonsense\r\n\r\n")
    await peer.finished.wait()
    assert now_is(5)


@scene(ServerTimes, "linger")
async def _(world: World) -> None:
    """A client that was refused, and neither goes nor says anything."""
    peer = world.serve()
    assert (await peer.ask(b"nonsense\r\n\r\n")).status == 400
    await peer.finished.wait()
    assert now_is(2)


# ---------------------------------------------------------------------------------------------------- rates
# At 100 of 240 bytes per second, patience lasts 1 / (1 - 100/240) times as long as without a byte.


@scene(ServerRates, "head")
async def _(world: World) -> None:
    peer = world.serve()
    await peer.send(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(16):
        await trio.sleep(1)
        await peer.send(b"x" * SLOW)
    assert (await peer.answer()).status == 408
    assert 16 < trio.current_time() < 18  # and not at 20, where the head's whole time is up


@scene(ServerRates, "body")
async def _(world: World) -> None:
    peer = world.serve(_reading)
    await peer.send(head("POST", "/", "Content-Length: 1000000"))
    for _ in range(9):
        await trio.sleep(10)
        await peer.send(bytes(10 * SLOW))
    assert (await peer.answer()).status == 408
    assert now_is(97.5)


@scene(ServerRates, "response")
async def _(world: World) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200, headers={"content-length": "1000000"}) as body:
            while True:
                await body.send_all(bytes(10 * SLOW))

    peer = world.serve(handler, streams=trio.testing.lockstep_stream_pair())
    await peer.send(GET)
    await peer.head()
    with pytest.raises(Cut):
        while True:
            await trio.sleep(10)
            await peer.take(10 * SLOW)
    assert 100 <= trio.current_time() <= 120


# --------------------------------------------------------------------------------------------------- limits


async def _status(world: World, request: bytes, just_within: bytes) -> int:
    """The status for a request; that for another one, which is as large as may be, is 200."""
    assert (await world.serve(_reading).ask(just_within)).status == 200
    return (await world.serve(_reading).ask(request)).status


@scene(Limits, "max_head_bytes")
async def _(world: World) -> None:
    def of(size: int) -> bytes:
        # In fields of 7000, for which there is another limit.
        fields = [f"X: {'x' * 7000}"] * 8
        rest = size - len(head("GET", "/", *fields, "Y: "))
        return head("GET", "/", *fields, f"Y: {'y' * rest}")

    assert len(of(64 * 1024)) == 64 * 1024
    assert await _status(world, of(64 * 1024 + 1), of(64 * 1024)) == 431


@scene(Limits, "max_fields")
async def _(world: World) -> None:
    # One of them is the Host.
    assert await _status(world, head("GET", "/", *["X: y"] * 100), head("GET", "/", *["X: y"] * 99)) == 431


@scene(Limits, "max_target_bytes")
async def _(world: World) -> None:
    assert await _status(world, head("GET", "/" + "x" * 8192), head("GET", "/" + "x" * 8191)) == 414


def _chunked(*parts: bytes) -> bytes:
    return head("POST", "/", "Transfer-Encoding: chunked") + b"".join(parts)


@scene(Limits, "max_chunk_extension_bytes")
async def _(world: World) -> None:
    def of(count: int) -> bytes:
        extended = b"1;" + b"x" * 1023 + b"\r\nx\r\n"
        return _chunked(*[extended] * count, chunk(b""))

    assert await _status(world, of(17), of(15)) == 400


@scene(Limits, "max_trailer_bytes")
async def _(world: World) -> None:
    def of(size: int) -> bytes:
        return _chunked(b"0\r\n", b"X: ", b"x" * (size - len(b"X: \r\n\r\n")), b"\r\n\r\n")

    assert await _status(world, of(16_384 + 1), of(16_384 - 16)) == 431


@scene(Limits, "max_trailers")
async def _(world: World) -> None:
    def of(count: int) -> bytes:
        return _chunked(b"0\r\n", b"X: y\r\n" * count, b"\r\n")

    assert await _status(world, of(101), of(100)) == 431


# --------------------------------------------------------------------------------------------------- counts


@scene(ServerConfig, "max_body_bytes")
async def _(world: World) -> None:
    """It is not sent, but announced."""
    peer = world.serve(_reading)
    answer = await peer.ask(head("POST", "/", f"Content-Length: {(1 << 30) + 1}"))
    assert (answer.status, answer.closes) == (413, True)


@scene(ServerConfig, "drain_bytes")
async def _(world: World) -> None:
    kept = await world.serve().ask(post(bytes(64 * 1024)))
    ended = await world.serve().ask(post(bytes(64 * 1024 + 1)))
    assert (kept.status, kept.closes, ended.status, ended.closes) == (200, False, 200, True)


@scene(ServerConfig, "linger_bytes")
async def _(world: World) -> None:
    """A client that was refused, and goes on sending as fast as it can: the time for it is not used up."""
    ours, theirs = memory_pair(16 << 20)
    peer = world.serve(streams=(ours, theirs))
    assert (await peer.ask(b"nonsense\r\n\r\n")).status == 400
    await peer.send(bytes(8 << 20))
    await peer.finished.wait()
    assert now_is(0)
    assert 4 << 20 <= theirs.received_bytes <= (4 << 20) + (64 << 10) + 100


@scene(ServerConfig, "max_connections")
async def _(world: World) -> None:
    assert BARE.max_connections == math.inf
    only = ServerConfig(max_connections=1)
    server: Server = await world.nursery.start(
        lambda task_status: serve_tcp(hello, 0, config=only, task_status=task_status)
    )
    async with await world.connect(server) as first, await world.connect(server) as second:
        assert (await Peer(first).ask()).status == 200
        assert (await Peer(second).ask()).status == 503
    world.nursery.cancel_scope.cancel()


@scene(ServerConfig, "max_requests")
async def _(world: World) -> None:
    assert BARE.max_requests == math.inf
    assert (await world.serve(config=ServerConfig(max_requests=1)).ask()).closes


@scene(ServerConfig, "max_requests_jitter")
async def _(world: World) -> None:
    assert BARE.max_requests_jitter == 0
    config = ServerConfig(max_requests=2, max_requests_jitter=1)
    # Each is a throw of a coin.
    closes = [(await world.serve(config=config).ask()).closes for _ in range(64)]
    assert set(closes) == {True, False}
