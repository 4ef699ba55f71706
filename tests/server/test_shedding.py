"""More than there is room for: connections beyond the limit, requests beyond a connection's, content beyond
its bound, and a process without descriptors."""

from __future__ import annotations

import collections
import errno
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.server.support import GET, Answer, Peer, chunk, head, hello, post, serve
from trio_http import HTTPException, Request, Response, Server, ServerConfig, serve_tcp
from trio_http.server import serve_listeners


@asynccontextmanager
async def serving(handler: Any, config: ServerConfig) -> AsyncIterator[Server]:
    """A server on a port of the loopback while the block lasts."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(
            lambda task_status: serve_tcp(handler, 0, config=config, task_status=task_status)
        )
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def visiting(server: Server) -> AsyncIterator[Peer]:
    """A client of it while the block lasts."""
    async with await trio.testing.open_stream_to_socket_listener(server.listeners[0]) as stream:
        yield Peer(stream)


async def until(condition: Callable[[], object]) -> None:
    """Let others run until it holds. Over real sockets nothing else tells; a hang would fail the test."""
    with trio.fail_after(10):
        while not condition():
            await trio.lowlevel.checkpoint()


# ---------------------------------------------------------------------------- connections, the excess refused


@pytest.mark.interop
async def test_a_connection_beyond_the_limit_is_503_and_told_when_to_come_again() -> None:
    """S17, A46c."""
    async with serving(hello, ServerConfig(max_connections=1)) as server:
        async with visiting(server) as first, visiting(server) as second:
            assert (await first.ask()).status == 200
            answer = await second.ask()
            assert (answer.status, answer.closes, answer.get("retry-after")) == (503, True, "1")
            assert answer.get("date") is not None
            assert await second.is_closed_by_server()
            assert (await first.ask()).status == 200
        await until(lambda: server.statistics().connections == 0)
        async with visiting(server) as third:
            assert (await third.ask()).status == 200


@pytest.mark.interop
async def test_a_refusal_is_not_lost_to_the_reset_of_a_request_that_was_on_its_way() -> None:
    """The client has megabytes to send, and reads when it has sent them."""
    async with serving(hello, ServerConfig(max_connections=1)) as server, visiting(server) as first:
        await first.ask()
        async with visiting(server) as second:
            await second.send(post(bytes(2 << 20)))
            answer = await second.answer()
            assert (answer.status, answer.content) == (503, b"503 Service Unavailable\n")


@pytest.mark.interop
async def test_a_flood_beyond_the_limit_leaves_those_alone_who_are_served() -> None:
    """More than linger for their answers at once; every one is told or reset, and none stays."""
    ends: collections.Counter[str] = collections.Counter()
    async with serving(hello, ServerConfig(max_connections=1)) as server, visiting(server) as first:
        await first.ask()

        async def knock() -> None:
            async with visiting(server) as peer:
                try:
                    ends[str((await peer.ask()).status)] += 1
                except trio.BrokenResourceError:
                    ends["reset"] += 1

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(knock)
        assert ends.total() == 200
        assert set(ends) <= {"503", "reset"}
        assert ends["503"] >= 64
        assert (await first.ask()).status == 200
        assert server.statistics().connections_total == 1


@pytest.mark.interop
async def test_who_never_reads_its_refusal_is_gone_when_the_lingering_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    autojump_clock.autojump_threshold = 0.01
    async with serving(hello, ServerConfig(max_connections=1)) as server, visiting(server) as first:
        await first.ask()
        async with visiting(server) as second:
            began = trio.current_time()
            assert (await second.answer()).status == 503  # it has not even asked
            assert await second.is_closed_by_server()
            assert trio.current_time() - began <= 2
        assert (await first.ask()).status == 200


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener of nobody's but ours."""

    def __init__(self) -> None:
        self.send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)

    async def connect(self) -> Peer:
        ours, theirs = trio.testing.memory_stream_pair()
        await self.send.send(theirs)
        return Peer(ours)

    async def accept(self) -> trio.abc.Stream:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError from None

    async def aclose(self) -> None:
        self._receive.close()
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def serving_memory(config: ServerConfig) -> AsyncIterator[tuple[Server, MemoryListener]]:
    """A server on a foreign listener."""
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            lambda task_status: serve_listeners(hello, [listener], config=config, task_status=task_status)
        )
        yield server, listener
        nursery.cancel_scope.cancel()


async def test_streams_of_foreign_listeners_are_refused_in_the_same_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving_memory(ServerConfig(max_connections=1)) as (_, listener):
        first, second = await listener.connect(), await listener.connect()
        assert (await first.ask()).status == 200
        assert (await second.ask()).status == 503
        assert await second.is_closed_by_server()
        assert (await first.ask()).status == 200


class Hostile(trio.abc.HalfCloseableStream):
    """A stream on which everything fails in its own way."""

    async def fail(self, *args: object) -> Any:
        await trio.lowlevel.checkpoint()
        raise OSError(errno.EIO, "out of order")

    send_all = wait_send_all_might_not_block = send_eof = receive_some = fail

    async def aclose(self) -> None:
        raise OSError(errno.EIO, "out of order")


@pytest.mark.parametrize("limit", [1, 2], ids=["refused", "served"])
async def test_a_foreign_stream_that_fails_in_its_own_way_fails_alone(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, limit: int
) -> None:
    async with serving_memory(ServerConfig(max_connections=limit)) as (_, listener):
        first = await listener.connect()
        assert (await first.ask()).status == 200
        await listener.send.send(Hostile())
        await trio.testing.wait_all_tasks_blocked()
        assert (await first.ask()).status == 200
    assert "out of order" in caplog.text


# ------------------------------------------------------------------------------ connections, the excess waits


@pytest.mark.interop
async def test_a_connection_beyond_the_limit_waits_until_another_ends() -> None:
    """S17."""
    config = ServerConfig(max_connections=2, excess="wait")
    async with serving(hello, config) as server, visiting(server) as first, visiting(server) as second:
        assert (await first.ask()).status == 200
        assert (await second.ask()).status == 200
        async with visiting(server) as third:
            await third.send(GET)
            for _ in range(5):
                assert (await first.ask()).status == 200
            assert server.statistics().connections_total == 2
            await first.stream.aclose()
            assert (await third.answer()).status == 200
            assert server.statistics().connections_total == 3


@pytest.mark.interop
async def test_who_waits_is_served_after_one_that_was_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A slow client holds the only place no longer than its limit allows."""
    autojump_clock.autojump_threshold = 0.01
    async with serving(hello, ServerConfig(max_connections=1, excess="wait")) as server:  # noqa: SIM117
        async with visiting(server) as slow, visiting(server) as waiting:
            await slow.send(b"GET / HT")
            await waiting.send(GET)
            assert (await waiting.answer()).status == 200
            assert trio.current_time() >= 10
            assert (await slow.answer()).status == 408


async def test_streams_of_foreign_listeners_wait_in_the_same_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving_memory(ServerConfig(max_connections=1, excess="wait")) as (server, listener):
        first, second = await listener.connect(), await listener.connect()
        assert (await first.ask()).status == 200
        await second.send(GET)
        assert await second.nothing_came()
        assert server.statistics().connections == 1
        await first.stream.aclose()
        assert (await second.answer()).status == 200


@pytest.mark.parametrize("name", ["max_connections", "max_requests"])
@pytest.mark.parametrize("value", [0, 0.5, -1, float("nan")])
def test_a_limit_that_lets_nobody_in_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        ServerConfig(**{name: value})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------ requests per connection


async def test_the_last_request_of_a_connection_says_so(nursery: trio.Nursery) -> None:
    """S18."""
    peer = serve(nursery, hello, ServerConfig(max_requests=3))
    assert [(await peer.ask()).closes for _ in range(3)] == [False, False, True]
    assert await peer.is_closed_by_server()


async def test_the_last_answer_says_so_when_it_is_streamed_too(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response() as body:
            await body.send_all(b"x")

    peer = serve(nursery, handler, ServerConfig(max_requests=2))
    assert [(await peer.ask()).closes for _ in range(2)] == [False, True]


async def test_a_refused_request_counts(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        raise HTTPException(404)

    peer = serve(nursery, handler, ServerConfig(max_requests=2))
    assert [(await peer.ask()).closes for _ in range(2)] == [False, True]


async def test_what_is_pipelined_behind_the_last_request_is_not_answered(nursery: trio.Nursery) -> None:
    """RFC 9112 §9.3.2: the client sends it again elsewhere, which it may because of the ``close``."""
    peer = serve(nursery, hello, ServerConfig(max_requests=2))
    await peer.send(GET, GET, GET)
    assert [(await peer.answer()).closes for _ in range(2)] == [False, True]
    assert await peer.is_closed_by_server()


async def test_one_request_a_connection_is_possible(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello, ServerConfig(max_requests=1))
    assert (await peer.ask()).closes
    assert await peer.is_closed_by_server()


async def lengths(nursery: trio.Nursery, config: ServerConfig, count: int) -> collections.Counter[int]:
    """How many requests each of `count` connections carried."""
    found: collections.Counter[int] = collections.Counter()
    for _ in range(count):
        peer = serve(nursery, hello, config, trio.testing.memory_stream_pair())
        number = 1
        while not (await peer.ask()).closes:
            number += 1
        await peer.stream.aclose()
        found[number] += 1
    return found


async def test_jitter_makes_connections_end_at_different_requests(nursery: trio.Nursery) -> None:
    """S18. 60 throws of a die with three sides: that one side never comes has a chance of one in ten thousand
    millions."""
    found = await lengths(nursery, ServerConfig(max_requests=5, max_requests_jitter=2), 60)
    assert set(found) == {3, 4, 5}


async def test_no_jitter_leaves_a_connection_without_a_request(nursery: trio.Nursery) -> None:
    found = await lengths(nursery, ServerConfig(max_requests=2, max_requests_jitter=1000), 20)
    assert set(found) <= {1, 2}


async def test_jitter_without_a_limit_changes_nothing(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello, ServerConfig(max_requests_jitter=5), trio.testing.memory_stream_pair())
    for _ in range(20):
        assert not (await peer.ask()).closes


# ------------------------------------------------------------------------------------------------ descriptors


@pytest.mark.interop
async def test_a_process_without_descriptors_goes_on_serving_who_is_there_and_accepts_when_it_can_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S19."""
    caplog.set_level(logging.INFO, "trio_http.server")
    async with serving(hello, ServerConfig()) as server, visiting(server) as first:
        await first.ask()
        # Made before, since the two ends are of one process here. To connect it takes none.
        client = socket.socket()
        client.setblocking(False)
        spare = os.dup(0)
        os.close(spare)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))
        try:
            client.connect_ex(server.listeners[0].socket.getsockname())
            await until(lambda: "no connection can be accepted" in caplog.text)
            for _ in range(20):
                assert (await first.ask()).status == 200
            assert server.statistics().connections == 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(client)) as stream:
            assert (await Peer(stream).ask()).status == 200
        await until(lambda: "can be accepted" in caplog.messages[-1])
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


# ---------------------------------------------------------------------------------------------------- content


async def test_content_beyond_the_limit_is_413_while_it_is_read(nursery: trio.Nursery) -> None:
    """S16. Chunked, so that nothing tells in advance."""
    got = 0

    async def handler(request: Request) -> Response:
        nonlocal got
        async for piece in request.body:
            got += len(piece)
        raise AssertionError

    peer = serve(nursery, handler, ServerConfig(max_body_bytes=10_000))
    await peer.send(head("POST", "/", "Transfer-Encoding: chunked"), *[chunk(bytes(1000))] * 11)
    answer = await peer.answer()
    assert (answer.status, answer.closes) == (413, True)
    assert got <= 10_000
    assert await peer.is_closed_by_server()


async def test_content_of_just_the_limit_is_taken(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, str(len(await request.read())).encode())

    peer = serve(nursery, handler, ServerConfig(max_body_bytes=10_000))
    assert (await peer.ask(post(bytes(10_000)))).content == b"10000"
    await peer.send(head("POST", "/", "Transfer-Encoding: chunked"), *[chunk(bytes(1000))] * 10, chunk(b""))
    assert (await peer.answer()).content == b"10000"


async def test_a_handlers_own_limit_is_that_of_one_request(nursery: trio.Nursery) -> None:
    """S16: up and down, and back again for the next."""

    async def handler(request: Request) -> Response:
        if request.path != "/default":
            request.limit_body(100 if request.path == "/more" else 2)
        return Response(200, await request.read())

    async def status(target: str) -> int:
        return (await peer.ask(post(b"12345", target=target))).status

    peer = serve(nursery, handler, ServerConfig(max_body_bytes=4))
    assert await status("/more") == 200
    assert await status("/default") == 413
    assert await status("/less") == 413
    assert await status("/more") == 200


async def test_content_that_nobody_reads_is_within_every_limit(nursery: trio.Nursery) -> None:
    """413 is for who would have to take it. What is left is thrown away, or the connection ends."""
    peer = serve(nursery, hello, ServerConfig(max_body_bytes=10, drain_bytes=1000))
    kept: Answer = await peer.ask(post(bytes(1000)))
    assert (kept.status, kept.closes) == (200, False)
    ended = await peer.ask(post(bytes(1001)))
    assert (ended.status, ended.closes) == (200, True)
