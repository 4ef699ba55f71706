"""What a review of the server found, each with what used to happen."""

from __future__ import annotations

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
