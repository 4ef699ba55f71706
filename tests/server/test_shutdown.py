"""The end of a server: what is idle goes at once, what is under way may finish, all ends with the grace."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.server.media import Medium
from tests.server.running import (
    IN_EVERY_MEDIUM,
    OVER_SOCKETS,
    ChannelStream,
    MemoryListener,
    Running,
    Witness,
    blamed,
    end_of,
    run_server,
    send_now,
    settle,
)
from tests.server.support import GET, Peer, WatchedStream, config, head
from trio_http import (
    Request,
    Response,
    Server,
    ServerConfig,
    ServerTimes,
    serve_connection,
    serve_tcp,
    serve_unix,
)

#: On the real clock, the most that what takes no time may take on a busy machine, in seconds.
SOON = 0.5

TCP = pytest.mark.parametrize("medium", [pytest.param(Medium.TCP, marks=pytest.mark.interop)], indirect=True)


async def hello(request: Request) -> Response:
    return Response(text="hello")


async def ten_seconds(request: Request) -> Response:
    await trio.sleep(10)
    return Response(text="done")


async def ticks(request: Request) -> None:
    """Server-sent events, as one writes them."""
    async with request.stream_response(headers={"content-type": "text/event-stream"}) as body:
        while not request.draining:
            await body.send_all(b"data: tick\n\n")
            with request.cancel_on_drain():
                await trio.sleep(15)
        await body.send_all(b"event: bye\n\n")


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """But what a test has looked at, and then cleared."""
    caplog.set_level(logging.WARNING)
    yield
    assert blamed(caplog) == []


# -- the order


@IN_EVERY_MEDIUM
async def test_a_shutdown_has_its_order(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """S21, A28: listeners, then what is idle, then what is under way, then it has returned."""
    running = await run_server(nursery, medium, ten_seconds)
    start = trio.current_time()
    events: list[tuple[str, float]] = []

    def note(event: str) -> None:
        events.append((event, trio.current_time() - start))

    async def shut_down() -> None:
        await running.server.shutdown(grace=100)
        note("shutdown returned")

    async def wait() -> None:
        await running.stopped.wait()
        note("serving returned")

    idle, busy = await running.connect(), await running.client()
    await idle.ask()
    assert trio.current_time() - start == 10
    await busy.answer()
    await busy.send(GET)
    await trio.sleep(4)  # `busy` needs six more
    start = trio.current_time()
    nursery.start_soon(wait)
    nursery.start_soon(shut_down)
    await settle()
    with pytest.raises(ConnectionRefusedError):
        await running.connect()
    note("closed to newcomers")
    assert await idle.is_closed_by_server()
    note("idle was closed")
    assert running.server.statistics().handling == 1
    answer = await busy.answer()
    assert (answer.content, answer.closes) == (b"done", True)
    note("busy was answered")
    assert await busy.is_closed_by_server()
    await busy.stream.aclose()
    await running.stopped.wait()
    await settle()
    assert [(event, time) for event, time in events if event != "serving returned"] == [
        ("closed to newcomers", 0),
        ("idle was closed", 0),
        ("busy was answered", 6),
        ("shutdown returned", 6),
    ]
    assert ("serving returned", 6) in events


@IN_EVERY_MEDIUM
async def test_idle_connections_are_closed_at_once(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """A28: those that had exchanges, and those that never said a word."""
    running = await run_server(nursery, medium, hello)
    silent, used = await running.connect(), await running.connect()
    await used.ask()
    await settle()
    assert running.server.statistics().connections == 2
    start = trio.current_time()
    await running.server.shutdown()
    assert await silent.is_closed_by_server()
    assert await used.is_closed_by_server()
    await running.stopped.wait()
    assert trio.current_time() == start


@IN_EVERY_MEDIUM
async def test_answers_of_a_drain_announce_the_close(
    nursery: trio.Nursery,
    medium: Medium,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S23: whole ones, streamed ones, and refusals."""

    async def app(request: Request) -> Response | None:
        await trio.sleep(1)
        if request.target == "/streamed":
            async with request.stream_response() as body:
                await body.send_all(b"done")
            return None
        if request.target == "/failed":
            raise KeyError("no")
        return Response(text="done")

    running = await run_server(nursery, medium, app)
    peers = [await running.client(head("GET", target)) for target in ("/whole", "/streamed", "/failed")]
    running.server.begin_shutdown()
    for peer, status in zip(peers, (200, 200, 500), strict=True):
        answer = await peer.answer()
        assert (answer.status, answer.closes) == (status, True)
        assert await peer.is_closed_by_server()
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info].count("'no'") == 1
    caplog.clear()


@IN_EVERY_MEDIUM
async def test_a_streamed_answer_that_began_before_ends_its_connection(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """S24, N3, A25: its head has not announced the close. It used to be kept idle for a minute."""
    running = await run_server(nursery, medium, ticks)
    peer = await running.client()
    await trio.sleep(50)
    start = trio.current_time()
    await running.server.shutdown()
    assert trio.current_time() == start
    answer = await peer.answer()
    assert answer.content.endswith(b"data: tick\n\nevent: bye\n\n")
    assert not answer.closes
    assert await peer.is_closed_by_server()


@OVER_SOCKETS
async def test_a_whole_answer_that_began_before_ends_its_connection(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """The same for an answer of which a client takes its time to read."""

    async def app(request: Request) -> Response:
        return Response(content=bytes(20 << 20))

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    assert running.server.snapshot()[0].state == "sending"
    running.server.begin_shutdown()
    answer = await peer.answer()
    assert (len(answer.content), answer.closes) == (20 << 20, False)
    start = trio.current_time()
    assert await peer.is_closed_by_server()
    assert trio.current_time() - start < 1


@IN_EVERY_MEDIUM
async def test_a_head_that_has_begun_is_waited_for(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """Within its own limits; and its handler learns of the drain, also from a scope."""
    reasons: list[bool] = []

    async def app(request: Request) -> Response:
        with request.cancel_on_drain() as scope:
            await trio.sleep(100)
        reasons.append(scope.cancelled_caught)
        return Response(text="late")

    running = await run_server(nursery, medium, app)
    peer = await running.client(GET[:20])
    slow = await running.client(GET[:20])
    running.server.begin_shutdown()
    start = trio.current_time()
    await trio.sleep(3)
    await peer.send(GET[20:])
    answer = await peer.answer()
    assert (answer.content, answer.closes) == (b"late", True)
    assert reasons == [True]
    assert (await slow.answer()).status == 408
    await running.stopped.wait()
    assert trio.current_time() - start <= 20 + 2


@OVER_SOCKETS
async def test_a_request_that_crossed_the_close_is_answered(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """It had reached us, and its client would have to guess whether we acted on it; with the drain told."""
    cancelled: list[bool] = []

    async def app(request: Request) -> Response:
        with request.cancel_on_drain() as scope:
            await trio.sleep(1)
        cancelled.append(scope.cancelled_caught)
        return Response(text="answered")

    running = await run_server(nursery, medium, app)
    used, new = await running.connect(), await running.connect()
    await used.ask()
    await settle()
    for peer in (used, new):
        send_now(peer.stream, GET)
    running.server.begin_shutdown()
    for peer in (used, new):
        answer = await peer.answer()
        assert (answer.content, answer.closes) == (b"answered", True)
        assert await peer.is_closed_by_server()
    assert cancelled == [False, True, True]


async def test_a_request_that_woke_its_connection_when_the_drain_began_is_answered(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Its handler used to be called in a scope that was cancelled, and its client saw the connection end."""
    stream = ChannelStream()

    async def app(request: Request) -> Response:
        await trio.sleep(1)
        return Response(text=f"{request.draining} {request.cancel_reason}")

    server = await nursery.start(partial(serve_connection, app, stream))
    await settle()
    for drains in (False, True):
        stream.feed(GET)  # here the connection's task becomes runnable
        if drains:
            server.begin_shutdown()
        await trio.sleep(2)
    first, second = stream.sent.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert first.endswith(b"False None")
    assert b"Connection: close" in second
    assert second.endswith(b"True None")


@IN_EVERY_MEDIUM
async def test_a_pipelined_request_behind_an_answer_that_closes_is_not_served(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """The client was told so, and may send it again elsewhere (RFC 9112 §9.3.2)."""
    targets: list[str] = []

    async def app(request: Request) -> Response:
        targets.append(request.target)
        await trio.sleep(5)
        return Response(text="first")

    running = await run_server(nursery, medium, app)
    peer = await running.client(head("GET", "/1") + head("GET", "/2"))
    running.server.begin_shutdown()
    answer = await peer.answer()
    assert (answer.content, answer.closes) == (b"first", True)
    assert await peer.is_closed_by_server()
    assert targets == ["/1"]


@IN_EVERY_MEDIUM
async def test_a_pipelined_request_behind_an_answer_that_keeps_open_is_served(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """The first answer had begun before the drain and promised it; the second announces the close."""

    async def app(request: Request) -> Response | None:
        if request.target == "/2":
            return Response(text="second")
        return await ticks(request)

    running = await run_server(nursery, medium, app)
    peer = await running.client(head("GET", "/1") + head("GET", "/2"))
    running.server.begin_shutdown()
    first, second = await peer.answer(), await peer.answer()
    assert (first.closes, second.closes, second.content) == (False, True, b"second")
    assert await peer.is_closed_by_server()


@TCP
async def test_a_port_is_free_as_soon_as_a_shutdown_begins(nursery: trio.Nursery, medium: Medium) -> None:
    """S21: synchronously, so that a successor can listen while the rest is finished."""
    running = await run_server(nursery, medium, ten_seconds)
    await running.client()
    running.server.begin_shutdown()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(running.address)
    with socket.create_server(running.address):
        pass


@pytest.mark.interop
async def test_a_unix_sockets_file_goes_with_the_server(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    stopped = trio.Event()

    async def run(*, task_status: trio.TaskStatus[Server]) -> None:
        await serve_unix(hello, path, task_status=task_status)
        stopped.set()

    server = await nursery.start(run)
    await server.shutdown()
    await stopped.wait()
    assert not path.exists()


@IN_EVERY_MEDIUM
async def test_a_draining_server_says_so(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    running = await run_server(nursery, medium, ten_seconds)
    assert (running.server.draining, running.server.statistics().draining) == (False, False)
    await running.client()
    running.server.begin_shutdown()
    assert (running.server.draining, running.server.statistics().draining) == (True, True)
    assert running.server.statistics().handling == 1


@pytest.mark.parametrize(
    "medium",
    [Medium.MEMORY, pytest.param(Medium.TCP_WITHOUT_EDGES, marks=pytest.mark.interop)],
    indirect=True,
    ids=["memory", "tcp_without_edges"],
)
async def test_an_answer_that_closes_after_a_long_wait_is_not_logged(
    nursery: trio.Nursery,
    medium: Medium,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who read ahead was still at it when the connection lingered, and the two met in the stream."""
    running = await run_server(nursery, medium, ten_seconds)
    peer = await running.client()
    running.server.begin_shutdown()
    answer = await peer.answer()
    assert (answer.content, answer.closes) == (b"done", True)
    await running.stopped.wait()
    assert caplog.records == []


# -- the hard stop


async def never_reads(running: Running) -> Peer:
    return await running.client(head("GET", "/endless"))


async def never_ends_its_head(running: Running) -> Peer:
    return await running.client(GET[:20])


async def never_ends_its_body(running: Running) -> Peer:
    return await running.client(head("POST", "/body", "Content-Length: 100") + b"1")


async def holds_an_upgrade(running: Running) -> Peer:
    peer = await running.client(head("GET", "/upgrade", "Connection: upgrade", "Upgrade: echo"))
    assert (await peer.head()).status == 101
    return peer


def asks_for(target: str) -> Callable[[Running], Awaitable[Peer]]:
    async def client(running: Running) -> Peer:
        return await running.client(head("GET", target))

    return client


async def stubborn(request: Request) -> Response | None:
    """A handler of each kind that an end has to reckon with."""
    match request.target:
        case "/endless":
            async with request.stream_response() as body:
                while True:
                    await body.send_all(bytes(1 << 20))
                    await trio.sleep(1)
        case "/body":
            return Response(content=await request.read())
        case "/upgrade":
            async with request.upgrade("echo") as stream:
                async for data in stream:
                    await stream.send_all(data)
            return None
        case "/finish":
            with request.finish(within=100):
                await trio.sleep_forever()
        case "/shielded":
            with trio.CancelScope(shield=True):
                await trio.sleep(17)
    await trio.sleep_forever()
    return None


SCENES = {
    "a client that never reads": never_reads,
    "a head that never ends": never_ends_its_head,
    "a body that never ends": never_ends_its_body,
    "an upgraded stream": holds_an_upgrade,
    "a handler that sleeps": asks_for("/sleep"),
    "a handler that finishes": asks_for("/finish"),
    "a handler in its own shield": asks_for("/shielded"),
}


@IN_EVERY_MEDIUM
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("grace", [0, 8])
async def test_the_hard_stop_always_holds(
    nursery: trio.Nursery,
    medium: Medium,
    autojump_clock: trio.testing.MockClock,
    scene: str,
    grace: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S22, N2, A26: to the very moment, on the mock clock; the client sees the end."""
    running = await run_server(nursery, medium, stubborn)
    start = trio.current_time()
    peer = await SCENES[scene](running)
    assert trio.current_time() == start
    await running.server.shutdown(grace)
    assert trio.current_time() == start + grace
    assert await end_of(peer) == ("end" if medium is Medium.MEMORY else "reset")
    assert trio.current_time() == start + grace
    await running.stopped.wait()
    if scene == "a handler in its own shield":
        assert trio.current_time() == start + 17
        (record,) = caplog.records
        assert "'target': '/shielded'" in record.getMessage()
        assert "'handling_for': " in record.getMessage()
        caplog.clear()
    else:
        assert trio.current_time() == start + grace
        assert caplog.records == []


@IN_EVERY_MEDIUM
async def test_the_hard_stop_is_for_all_at_once(
    nursery: trio.Nursery,
    medium: Medium,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Many that are stubborn take no longer than one, and those who are done in time are answered."""
    running = await run_server(nursery, medium, stubborn)
    start = trio.current_time()
    peers = [await scene(running) for scene in SCENES.values() for _ in range(3)]
    await running.server.shutdown(grace=3)
    assert trio.current_time() == start + 3
    for peer in peers:
        await end_of(peer)
    assert trio.current_time() == start + 3
    await running.stopped.wait()
    assert trio.current_time() == start + 17
    assert len(caplog.records) == 3
    assert all("'target': '/shielded'" in record.getMessage() for record in caplog.records)
    caplog.clear()


@pytest.mark.parametrize("medium", [pytest.param(Medium.TLS, marks=pytest.mark.interop)], indirect=True)
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
@pytest.mark.parametrize("begun", [True, False])
async def test_a_handshake_holds_nothing_up(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock, sent: bytes, begun: bool
) -> None:
    """N2: also one whose socket was accepted in the very step in which the drain began, and used to go on."""
    running = await run_server(nursery, medium, hello, ServerConfig(times=ServerTimes(handshake=math.inf)))
    with socket.create_connection(running.address) as client:
        client.sendall(sent)
        if begun:
            await settle()
        else:
            # What the accept loop does, and then the drain begins before the new task has run.
            theirs, ours = socket.socketpair()
            ours.setblocking(False)
            assert running.server._gate.enter()
            running.server.admit(nursery)(ours, None)
        start = trio.current_time()
        await running.server.shutdown()
        await running.stopped.wait()
        assert trio.current_time() == start
        client.settimeout(10)
        with _ended():
            while client.recv(100):
                pass
        if not begun:
            theirs.settimeout(10)
            while theirs.recv(100):
                pass
            theirs.close()


@TCP
async def test_a_proxy_header_that_never_comes_holds_nothing_up(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    settings = ServerConfig(proxy_protocol_from=["*"], times=ServerTimes(handshake=math.inf))
    running = await run_server(nursery, medium, hello, settings)
    peer = await running.client(b"PROXY TCP4 ")
    start = trio.current_time()
    await running.server.shutdown()
    await running.stopped.wait()
    await end_of(peer)
    assert trio.current_time() == start


@TCP
@pytest.mark.parametrize("grace", [0, math.inf])
async def test_a_connection_that_begins_in_the_drain_holds_nothing_up(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock, grace: float
) -> None:
    """Accepted before, its task run for the first time behind: it used to have all the time for a head."""
    running = await run_server(nursery, medium, hello)
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    start = trio.current_time()
    with theirs:
        assert running.server._gate.enter()
        if grace == 0:
            running.server.begin_shutdown(grace)
            while not running.server._stopping:  # nobody else is told of it
                await trio.lowlevel.checkpoint()
            running.server.admit(running.server._shared.nursery)(ours, None)
        else:
            running.server.begin_shutdown(grace)
            running.server.admit(running.server._shared.nursery)(ours, None)
        await running.stopped.wait()
        assert trio.current_time() == start
        theirs.settimeout(10)
        assert theirs.recv(10) == b""


@TCP
async def test_who_is_being_refused_holds_nothing_up(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """Lingering, for the answer not to be lost, is for those who have time."""
    running = await run_server(nursery, medium, stubborn, ServerConfig(max_connections=1, excess="refuse"))
    await running.client(head("GET", "/sleep"))
    refused = await running.client()
    assert (await refused.answer()).status == 503
    start = trio.current_time()
    await running.server.shutdown(grace=1)
    assert trio.current_time() == start + 1
    await running.stopped.wait()
    assert trio.current_time() == start + 1


@TCP
async def test_a_handler_in_a_thread_delays_only_the_return_of_the_serve_function(
    nursery: trio.Nursery, medium: Medium, caplog: pytest.LogCaptureFixture
) -> None:
    """On the real clock: a thread cannot be cancelled. Its client is cut off, and the log names it."""
    release = threading.Event()

    async def app(request: Request) -> Response:
        await trio.to_thread.run_sync(partial(release.wait, 60))
        return Response()

    running = await run_server(nursery, medium, app)
    peer = await running.client(head("GET", "/in-a-thread"))
    try:
        start = trio.current_time()
        with trio.fail_after(10):
            await running.server.shutdown(grace=0.05)
            assert 0.05 <= trio.current_time() - start < SOON
            assert await end_of(peer) == "reset"
            assert running.server.statistics().handling == 1
            await trio.sleep(1.1)  # the server's patience
            assert caplog.records
        assert not running.stopped.is_set()
        assert "'target': '/in-a-thread'" in caplog.text
        caplog.clear()
    finally:
        release.set()
    with trio.fail_after(10):
        await running.stopped.wait()


async def test_a_foreign_stream_that_cannot_be_closed_keeps_no_other_open(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is logged, as that of the server's user whose stream it is."""

    class Broken(WatchedStream):
        async def aclose(self) -> None:
            try:
                await super().aclose()
            finally:
                raise RuntimeError("no close")

    listener = MemoryListener()
    accept = listener.accept
    served: list[bool] = []

    async def accept_broken() -> trio.abc.HalfCloseableStream:
        stream = await accept()
        served.append(True)
        return Broken(stream) if len(served) == 1 else stream

    listener.accept = accept_broken  # type: ignore[method-assign]
    running = Running(Medium.MEMORY, nursery)
    await running.start(stubborn, ServerConfig(), listeners=[listener])
    peers = [await running.client(head("GET", "/shielded")) for _ in range(3)]
    start = trio.current_time()
    await running.server.shutdown(grace=5)
    assert trio.current_time() == start + 5
    for peer in peers:
        await end_of(peer)
    assert trio.current_time() == start + 5
    await running.stopped.wait()
    assert "no close" in caplog.text
    caplog.clear()


# -- how long the grace is


@IN_EVERY_MEDIUM
async def test_without_a_grace_it_takes_as_long_as_it_takes(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    async def app(request: Request) -> Response:
        await trio.sleep(80_000)
        return Response(text="done")

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    start = trio.current_time()
    running.server.begin_shutdown()
    assert (await peer.answer()).content == b"done"
    assert trio.current_time() - start == 80_000


@IN_EVERY_MEDIUM
@pytest.mark.parametrize(
    ("graces", "ends_at"),
    [([20, 5], 6), ([5, 20], 5), ([math.inf, 7], 8), ([30, math.inf], 30), ([30, 0], 1)],
)
async def test_calling_again_can_only_shorten_the_grace(
    nursery: trio.Nursery,
    medium: Medium,
    autojump_clock: trio.testing.MockClock,
    graces: list[float],
    ends_at: float,
) -> None:
    """The second call comes a second after the first."""
    running = await run_server(nursery, medium, stubborn)
    await running.client(head("GET", "/sleep"))
    start = trio.current_time()
    running.server.begin_shutdown(graces[0])
    await trio.sleep(1)
    await running.server.shutdown(graces[1])
    await running.stopped.wait()
    assert trio.current_time() == start + ends_at


@IN_EVERY_MEDIUM
async def test_every_waiter_returns_and_later_calls_do_nothing(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    running = await run_server(nursery, medium, stubborn)
    await running.client(head("GET", "/sleep"))
    start = trio.current_time()
    async with trio.open_nursery() as waiters:
        for grace in (9, 4, 30):
            waiters.start_soon(running.server.shutdown, grace)
    assert trio.current_time() == start + 4
    await running.stopped.wait()
    await running.server.shutdown(50)
    running.server.begin_shutdown(50)
    await trio.sleep(100)
    assert running.server.statistics().connections == 0


@pytest.mark.parametrize("grace", [-1, math.nan, -math.inf])
async def test_a_grace_is_no_negative_number(nursery: trio.Nursery, grace: float) -> None:
    running = await run_server(nursery, Medium.MEMORY, hello)
    with pytest.raises(ValueError, match=f"grace must be at least 0 seconds, not {grace!r}"):
        running.server.begin_shutdown(grace)
    with pytest.raises(ValueError, match="grace must be at least 0 seconds"):
        await running.server.shutdown(grace)
    assert not running.server.draining
    peer = await running.connect()
    assert not (await peer.ask()).closes


# -- who calls


@IN_EVERY_MEDIUM
async def test_a_handler_may_shut_its_server_down_and_answer(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """It waits for all the others, and not for itself."""

    async def app(request: Request) -> Response:
        if request.target == "/shutdown":
            await running.server.shutdown(grace=60)
            return Response(text="the others have ended")
        return await ten_seconds(request)

    running = await run_server(nursery, medium, app)
    other = await running.client()
    start = trio.current_time()
    peer = await running.client(head("POST", "/shutdown"))
    assert (await other.answer()).content == b"done"
    await other.stream.aclose()
    answer = await peer.answer()
    assert (answer.content, answer.closes) == (b"the others have ended", True)
    assert trio.current_time() == start + 10
    await peer.stream.aclose()
    await running.stopped.wait()


@IN_EVERY_MEDIUM
async def test_handlers_that_shut_down_do_not_wait_for_each_other(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """Two of them used to wait until the grace was over, without a grace for ever."""

    go = trio.Event()

    async def app(request: Request) -> Response:
        await go.wait()
        await running.server.shutdown()
        return Response(text="down")

    running = await run_server(nursery, medium, app)
    start = trio.current_time()
    peers = [await running.client(head("POST", "/shutdown")) for _ in range(3)]
    go.set()
    for peer in peers:
        assert (await peer.answer()).content == b"down"
    assert trio.current_time() == start


@IN_EVERY_MEDIUM
async def test_a_shutdown_goes_on_when_its_waiter_is_cancelled(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    running = await run_server(nursery, medium, stubborn)
    await running.client(head("GET", "/sleep"))
    start = trio.current_time()
    with trio.move_on_after(2) as scope:
        await running.server.shutdown(grace=6)
    assert scope.cancelled_caught
    assert trio.current_time() == start + 2
    await running.stopped.wait()
    assert trio.current_time() == start + 6


async def test_a_shutdown_is_a_checkpoint(nursery: trio.Nursery) -> None:
    """Also when there is nothing to wait for; cancelled before, it has begun all the same."""
    running = await run_server(nursery, Medium.MEMORY, hello)
    with trio.CancelScope() as scope:
        scope.cancel()
        await running.server.shutdown()
    assert scope.cancelled_caught
    await running.stopped.wait()
    with trio.testing.assert_checkpoints():
        await running.server.shutdown()


@pytest.mark.interop
async def test_a_server_may_be_shut_down_before_it_has_accepted_anything(nursery: trio.Nursery) -> None:
    """In the same step in which it has started."""

    class Status:
        def started(self, server: Server) -> None:
            server.begin_shutdown()

    with trio.fail_after(10):
        await serve_tcp(hello, 0, task_status=Status())  # type: ignore[arg-type]


# -- the serve task is cancelled


@IN_EVERY_MEDIUM
@pytest.mark.parametrize("scene", [*SCENES, "idle", "silent", "lingering"])
async def test_cancelling_the_serve_task_closes_every_socket(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock, scene: str
) -> None:
    """A27: each client sees an end, and no task, descriptor or deadline is left."""
    running = await run_server(nursery, medium, stubborn, config(linger=1000))
    shared = running.server._shared
    if scene in SCENES:
        peer = await SCENES[scene](running)
    elif scene == "silent":
        peer = await running.connect()
        await settle()
    elif scene == "idle":
        peer = await running.connect()
        await peer.send(head("OPTIONS", "*"))
        await settle()
    else:
        peer = await running.client(b"nonsense\r\n\r\n")
        assert (await peer.answer()).status == 400
    assert running.server.statistics().connections == 1
    start = trio.current_time()
    running.scope.cancel()
    await running.stopped.wait()
    assert trio.current_time() == start + (17 if scene == "a handler in its own shield" else 0)
    # Who lingers has had the end of the answer already.
    assert await end_of(peer) == ("end" if medium is Medium.MEMORY or scene == "lingering" else "reset")
    assert shared.connections == set()
    assert len(shared.ticker) == 0
    assert shared.poll is None or len(shared.poll) == 0
    assert shared.nursery.child_tasks == frozenset()


@pytest.mark.interop
@pytest.mark.parametrize("edge_poll", [True, False])
@pytest.mark.parametrize("tls", [True, False])
async def test_a_cancelled_server_leaves_no_descriptor(edge_poll: bool, tls: bool) -> None:
    """A27, on the real clock, with clients in all stages, handshakes among them."""
    before = sorted(os.listdir("/proc/self/fd"))
    async with trio.open_nursery() as nursery:
        running = Running(Medium.TLS if tls else Medium.TCP, nursery)
        await running.start(stubborn, ServerConfig(edge_poll=edge_poll))
        silent = [socket.create_connection(running.address) for _ in range(5)]
        busy = [await running.client(head("GET", "/sleep")) for _ in range(5)]
        running.scope.cancel()
        with trio.fail_after(10):
            await running.stopped.wait()
            for peer in busy:
                assert await end_of(peer) == "reset"
        for client in silent:
            client.settimeout(10)
            with _ended():
                while client.recv(100):
                    pass
            client.close()
        nursery.cancel_scope.cancel()
    assert sorted(os.listdir("/proc/self/fd")) == before


def _ended() -> contextlib.suppress:
    """Either end will do."""
    return contextlib.suppress(ConnectionResetError)


@IN_EVERY_MEDIUM
async def test_a_cancel_in_the_midst_of_a_drain_ends_both(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    running = await run_server(nursery, medium, stubborn)
    peer = await running.client(head("GET", "/finish"))
    returned: list[float] = []

    async def shut_down() -> None:
        await running.server.shutdown(grace=1000)
        returned.append(trio.current_time())

    start = trio.current_time()
    nursery.start_soon(shut_down)
    await trio.sleep(5)
    running.scope.cancel()
    await running.stopped.wait()
    await settle()
    assert returned == [start + 5]
    await end_of(peer)


# -- what a handler is told


@IN_EVERY_MEDIUM
async def test_a_handler_that_is_stopped_is_told_why(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """N4, S26."""
    witness = Witness()
    running = await run_server(nursery, medium, witness.sleep)
    await running.client()
    await running.server.shutdown(grace=3)
    await running.stopped.wait()
    assert witness.reasons == [("drain", "drain")]


@IN_EVERY_MEDIUM
async def test_a_long_poll_sees_the_drain(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """S24, A25: it asks `draining` between waits, and one that waits for long uses a scope."""
    seen: list[bool] = []

    async def app(request: Request) -> Response:
        seen.append(request.draining)
        with request.cancel_on_drain():
            await trio.sleep_forever()
        seen.append(request.draining)
        return Response(204)

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    await trio.sleep(30)
    start = trio.current_time()
    await running.server.shutdown(grace=100)
    answer = await peer.answer()
    assert (answer.status, answer.closes) == (204, True)
    assert seen == [False, True]
    assert trio.current_time() - start <= 2  # a client that does not close keeps it lingering


@IN_EVERY_MEDIUM
async def test_an_upgraded_handler_sees_the_drain(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody else could end it: it has left HTTP."""

    async def app(request: Request) -> None:
        async with request.upgrade("echo") as stream:
            with request.cancel_on_drain():
                await trio.sleep_forever()
            await stream.send_all(b"bye")

    running = await run_server(nursery, medium, app)
    peer = await holds_an_upgrade(running)
    running.server.begin_shutdown()
    assert await peer.take(3) == b"bye"
    await running.stopped.wait()


async def test_nothing_is_logged_of_an_orderly_end(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    running = await run_server(nursery, Medium.MEMORY, ticks)
    await running.client()
    await running.server.shutdown()
    await running.stopped.wait()
    assert caplog.records == []
