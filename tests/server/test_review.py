"""What a review of the server found, each with what used to happen."""

from __future__ import annotations

import contextlib
import signal

import pytest
import trio
import trio.lowlevel
import trio.testing

import trio_http
import trio_http.testing
from trio_http.connection import Ticker
from trio_http.server import ServerConfig, ServerTimes, serve_connection


async def test_a_request_kept_beyond_its_exchange_cannot_read_the_next_ones_body(
    nursery: trio.Nursery,
) -> None:
    """It used to return the content of the exchange under way."""
    kept: list[trio_http.Request] = []

    async def app(request: trio_http.Request) -> trio_http.Response:
        kept.append(request)
        if len(kept) == 2:
            for attempt in (kept[0].read, kept[0].stream_response(200).__aenter__):
                with pytest.raises(trio.ClosedResourceError):
                    await attempt()
            assert await kept[0].body.receive_some() == b""  # its own had ended
            with pytest.raises(trio.ClosedResourceError):
                kept[0].limit_body(5)
            with pytest.raises(trio.ClosedResourceError):
                await kept[0].send_informational(103)
        return trio_http.Response(200, await request.read())

    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(serve_connection, app, theirs)
    for word in (b"1", b"2"):
        await ours.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n" + word)
        answer = await ours.receive_some()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n" + word)
    nursery.cancel_scope.cancel()


async def test_sending_does_not_lift_the_limit_on_the_body(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Both directions shared one deadline: a response that went on kept a stalled upload alive for ever."""
    ended: list[float] = []

    async def app(request: trio_http.Request) -> None:
        try:
            async with request.stream_response(200) as body, trio.open_nursery() as both:
                both.start_soon(request.body.receive_some)
                while True:
                    await body.send_all(b"still here\n")
                    await trio.sleep(10)
        finally:
            ended.append(trio.current_time())

    ours, theirs = trio.testing.memory_stream_pair()
    config = ServerConfig(times=ServerTimes(body_stall=60))
    start = trio.current_time()
    nursery.start_soon(lambda: serve_connection(app, theirs, config=config))
    await ours.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    with pytest.raises(trio.BrokenResourceError):
        while await ours.receive_some():
            await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError  # a memory stream cannot tell an abort from an end
    assert ended == [start + 60]


async def test_a_closed_connection_does_not_stay_in_the_heap() -> None:
    """Every connection stayed until the time of its last limit: a server of short ones piled them up."""

    class Timed:
        def __init__(self) -> None:
            self.deadline = trio.current_time() + 60
            self.scheduled = float("inf")

        def on_deadline(self) -> None:
            raise AssertionError("it was forgotten")

    ticker = Ticker()
    for _ in range(10_000):
        timed = Timed()
        ticker.watch(timed)
        ticker.forget(timed)
    assert len(ticker) == 0
    assert len(ticker._heap) < 200


async def test_a_stream_closed_by_its_owner_ends_the_connection_quietly(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """It used to be logged as a handler's failure, and to raise out of the connection."""

    async def app(request: trio_http.Request) -> trio_http.Response:
        raise AssertionError("nobody asked")

    _, theirs = trio_http.testing.memory_pair()
    nursery.start_soon(serve_connection, app, theirs)
    await trio.testing.wait_all_tasks_blocked()
    theirs.close()
    await trio.testing.wait_all_tasks_blocked()
    assert not caplog.records
    assert not nursery.child_tasks


def test_an_interrupt_comes_out_of_serve_tcp_as_it_is() -> None:
    """It used to come in a group."""

    async def app(request: trio_http.Request) -> trio_http.Response:
        raise AssertionError("nobody asked")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio_http.serve_tcp, app, 0)
            nursery.cancel_scope.cancel()
        with pytest.raises(KeyboardInterrupt):
            await trio_http.serve_tcp(app, 0, task_status=Interrupting())

    trio.run(main)


class Interrupting:
    """Presses Ctrl-C as soon as the server listens."""

    def started(self, value: object = None) -> None:
        signal.raise_signal(signal.SIGINT)


async def test_a_background_reader_of_the_body_cannot_end_the_server(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Its `BusyResourceError` came out of the clean-up, and took every connection with it."""

    async def app(request: trio_http.Request) -> trio_http.Response:
        nursery.start_soon(read, request)
        await trio.sleep(1)
        return trio_http.Response(200)

    async def read(request: trio_http.Request) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await request.read()

    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    await serve_connection(app, theirs)


async def test_waiting_to_send_is_under_the_limit_on_reading(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A client that read nothing held the handler for ever, when that only waited for room."""

    async def app(request: trio_http.Request) -> None:
        async with request.stream_response(200, headers={"Content-Length": "5000"}) as body:
            while True:
                await body.wait_send_all_might_not_block()
                await body.send_all(b"x")

    ours, theirs = trio_http.testing.memory_pair(1000)
    await ours.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    start = trio.current_time()
    await serve_connection(app, theirs)
    assert trio.current_time() - start == pytest.approx(60, abs=10)


async def test_a_response_that_was_not_begun_cannot_be_sent_into(nursery: trio.Nursery) -> None:
    """Its bytes went into the next exchange's response."""
    kept: list[trio_http.ResponseStream] = []

    async def app(request: trio_http.Request) -> None:
        stream = request.stream_response(200)
        if not kept:
            kept.append(stream)
            with pytest.raises(RuntimeError):
                await stream.send_all(b"early")
            raise trio_http.HTTPException(404)
        async with stream:
            with pytest.raises(trio.ClosedResourceError):
                await kept[0].send_all(b"late")
            await kept[0].aclose()
            await stream.send_all(b"mine")

    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(serve_connection, app, theirs)
    answers = b""
    for _ in range(2):
        await ours.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        answers += await ours.receive_some()
    assert answers.startswith(b"HTTP/1.1 404 ")
    assert answers.endswith(b"4\r\nmine\r\n0\r\n\r\n")
    nursery.cancel_scope.cancel()


async def test_a_kept_body_has_its_own_trailers(nursery: trio.Nursery) -> None:
    """It showed those of the exchange under way."""
    kept: list[trio_http.RequestBody] = []
    seen: list[list[tuple[str, str]]] = []

    async def app(request: trio_http.Request) -> trio_http.Response:
        kept.append(request.body)
        await request.read()
        seen.append(kept[0].trailers.items())
        return trio_http.Response(200)

    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(serve_connection, app, theirs)
    for word in (b"one", b"two"):
        await ours.send_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nWord: %s\r\n\r\n" % word
        )
        await ours.receive_some()
    assert seen == [[("word", "one")], [("word", "one")]]
    nursery.cancel_scope.cancel()
