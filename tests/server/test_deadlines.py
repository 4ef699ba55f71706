"""Limits on a handler: the server's own, the client's that it hands on, and the handler's for itself."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.server.support import GET, Cut, config, head, hello, post, serve, watched
from trio_http import Request, Response, ServerConfig, ServerTimes
from trio_http.testing import MemoryStream, memory_pair
from trio_http.transport import StreamTransport

TRUSTING = ServerConfig(deadlines_from=["192.0.2.0/24"], date=False)  # type: ignore[arg-type]


def pair(peername: Any = ("192.0.2.7", 4000)) -> tuple[trio.abc.HalfCloseableStream, StreamTransport]:
    """The client's end and the server's of a connection from that address."""
    client, server = trio.testing.memory_stream_pair()
    transport = StreamTransport(server)
    transport.peername = peername
    return client, transport


def asking(milliseconds: str, *fields: str) -> bytes:
    """A GET with so much time left."""
    return head("GET", "/", f"Request-Deadline: {milliseconds}", *fields)


class Handler:
    """Takes its time.

    Attributes:
      left: the seconds that it had, by trio's account, at the beginning of each request.
      reasons: why it was cancelled, each time.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self.seconds = seconds
        self.left: list[float] = []
        self.reasons: list[str | None] = []

    async def __call__(self, request: Request) -> Response:
        self.left.append(trio.current_effective_deadline() - trio.current_time())
        try:
            await trio.sleep(self.seconds if request.path == "/" else 0)
        except trio.Cancelled:
            self.reasons.append(request.cancel_reason.value if request.cancel_reason else None)
            raise
        return Response(200)


# ------------------------------------------------------------------------------------- the server's own limit


async def test_a_handler_beyond_its_deadline_is_cancelled_and_503_and_the_connection_goes_on(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S10, A46c."""
    handler = Handler()
    peer = serve(nursery, handler, config(request=30))
    answer = await peer.ask()
    assert (answer.status, answer.closes) == (503, False)
    assert trio.current_time() == pytest.approx(30, abs=1)
    assert (await peer.ask(head("GET", "/quick"))).status == 200
    assert handler.left == [pytest.approx(30, abs=1e-9), pytest.approx(30, abs=1e-9)]
    assert handler.reasons == ["deadline"]


async def test_a_handler_within_its_deadline_does_not_shorten_the_next_ones(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, Handler(20), config(request=30, idle=1000))
    for _ in range(3):
        assert (await peer.ask()).status == 200
        await trio.sleep(100)  # idle, which is not the handler's time


async def test_the_deadline_counts_the_time_in_which_the_body_is_read(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, await request.read())

    peer = serve(nursery, handler, config(request=30, body_stall=20))
    await peer.send(head("POST", "/", "Content-Length: 3"), b"a")
    await trio.sleep(15)
    await peer.send(b"b")
    answer = await peer.answer()
    assert (answer.status, answer.closes) == (503, True)
    assert trio.current_time() == 30


async def test_an_answer_under_way_is_aborted_at_the_deadline(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response() as body:
            await body.send_all(b"so far")
            await trio.sleep_forever()

    streams = watched()
    peer = serve(nursery, handler, config(request=30), streams)
    await peer.send(GET)
    with pytest.raises(Cut):
        await peer.answer()
    assert trio.current_time() == 30
    assert streams[1].ending == "aborted"


async def test_a_handler_that_tidies_up_after_its_deadline_has_its_own_answer_sent(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """DESIGN.md 7: an answer that is ready when the cancel is found is written, unless the client is gone."""

    async def handler(request: Request) -> Response:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
            await trio.sleep(40)
        return Response(200, text="late")

    streams = trio.testing.memory_stream_pair()
    answer = await serve(nursery, handler, config(request=30), streams).ask()
    assert (answer.status, answer.content) == (200, b"late")


async def test_a_handler_that_fails_in_tidying_up_after_its_deadline_is_500(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Response:
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("tidying up failed")

    assert (await serve(nursery, handler, config(request=30)).ask()).status == 500
    assert "tidying up failed" in caplog.text


async def test_finish_does_not_hold_the_deadline_back(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        with request.finish(within=1000):
            await trio.sleep_forever()
        raise AssertionError

    assert (await serve(nursery, handler, config(request=30)).ask()).status == 503
    assert trio.current_time() == pytest.approx(30, abs=1)


class SlowSend(StreamTransport):
    """A transport on which sending takes time in which nothing else runs, as it does on a busy machine."""

    async def finish_send(self) -> None:
        raise AssertionError("not due")

    def begin_send(self, data: bytes | bytearray | memoryview) -> bool:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        self.sent += bytes(data)
        clock.jump(10)
        return True

    sent = b""


async def test_a_deadline_that_passes_while_the_answer_goes_out_changes_nothing(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    """Least of all is it answered once more: the client would take that for its next answer."""
    client, server = trio.testing.memory_stream_pair()
    transport = SlowSend(server)
    peer = serve(nursery, hello, config(request=5), (client, transport))
    for count in (1, 2):
        await peer.send(GET)
        await trio.testing.wait_all_tasks_blocked()
        assert transport.sent.count(b"HTTP/1.1 200 ") == transport.sent.count(b"HTTP/1.1 ") == count
    assert not peer.finished.is_set()


# ------------------------------------------------------------------------------------------ the handler's own


async def test_a_handler_may_give_itself_more_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S11, A22."""

    async def handler(request: Request) -> Response:
        if request.path == "/long":
            request.times = attrs.evolve(request.times, request=100)
        await trio.sleep(60)
        return Response(200)

    peer = serve(nursery, handler, config(request=30))
    assert (await peer.ask(head("GET", "/long"))).status == 200
    assert (await peer.ask()).status == 503
    assert trio.current_time() == pytest.approx(90, abs=1)


async def test_a_handlers_time_counts_from_its_requests_head_whenever_it_is_set(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        await trio.sleep(20)
        request.times = attrs.evolve(request.times, request=50)
        assert trio.current_effective_deadline() - trio.current_time() == pytest.approx(30)
        await trio.sleep_forever()
        raise AssertionError

    assert (await serve(nursery, handler, config()).ask()).status == 503
    assert trio.current_time() == pytest.approx(50, abs=1)


async def test_a_handlers_time_may_be_over_when_it_is_set(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        await trio.sleep(20)
        request.times = attrs.evolve(request.times, request=10)
        await trio.sleep_forever()
        raise AssertionError

    assert (await serve(nursery, handler, config()).ask()).status == 503
    assert trio.current_time() == pytest.approx(20, abs=1)


async def test_a_handler_may_take_its_limit_away(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        request.times = attrs.evolve(request.times, request=math.inf)
        await trio.sleep(10_000)
        return Response(200)

    assert (await serve(nursery, handler, config(request=30)).ask()).status == 200


async def test_a_handlers_other_limits_leave_its_deadline_alone(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        request.times = attrs.evolve(request.times, body_stall=1000)
        await trio.sleep_forever()
        raise AssertionError

    client, transport = pair()
    peer = serve(nursery, handler, TRUSTING, (client, transport))
    assert (await peer.ask(asking("3000"))).status == 504


# -------------------------------------------------------------------------------------- the client's deadline


async def test_a_trusted_clients_deadline_is_the_handlers_and_504(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """N12."""
    handler = Handler()
    peer = serve(nursery, handler, TRUSTING, pair())
    answer = await peer.ask(asking("1500"))
    assert (answer.status, answer.closes) == (504, False)
    assert trio.current_time() == 1.5
    assert handler.left == [1.5]
    assert handler.reasons == ["deadline"]


async def test_a_clients_deadline_is_that_of_one_request(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    handler = Handler(1)
    peer = serve(nursery, handler, TRUSTING, pair())
    for request in (asking("1500"), GET, asking("2000")):
        assert (await peer.ask(request)).status == 200
    assert handler.left == [1.5, math.inf, 2]


async def test_no_time_left_is_504_at_the_first_checkpoint(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, Handler(), TRUSTING, pair())
    assert (await peer.ask(asking("0"))).status == 504
    assert trio.current_time() == 0


@pytest.mark.parametrize("peername", [("198.51.100.1", 4000), None, ""], ids=["another", "none", "unix"])
async def test_the_deadline_of_who_is_not_trusted_is_ignored(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, peername: Any
) -> None:
    handler = Handler(60)
    peer = serve(nursery, handler, TRUSTING, pair(peername))
    assert (await peer.ask(asking("10"))).status == 200
    assert handler.left == [math.inf]


async def test_nobodys_deadline_is_believed_by_default(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    handler = Handler(60)
    assert (await serve(nursery, handler, streams=pair()).ask(asking("10"))).status == 200


async def test_peers_on_a_unix_socket_can_be_trusted(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    client, transport = pair(None)
    transport.sockname = "/run/app.sock"
    trusting = attrs.evolve(TRUSTING, deadlines_from=["unix"])
    assert (await serve(nursery, Handler(), trusting, (client, transport)).ask(asking("10"))).status == 504


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-1",
        "+1",
        "1.5",
        "1e3",
        "0x10",
        "1 000",
        "10S",
        "10, 20",
        "١٠",
        "99999999999",
        "inf",
        "nan",
    ],
)
async def test_a_deadline_that_is_no_number_is_ignored(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, value: str
) -> None:
    """The request is sound without it, and may be important."""
    handler = Handler(60)
    peer = serve(nursery, handler, TRUSTING, pair())
    await peer.send(head("GET").replace(b"\r\n\r\n", b"\r\nRequest-Deadline: %s\r\n\r\n" % value.encode()))
    assert (await peer.answer()).status == 200
    assert handler.left == [math.inf]


async def test_two_deadlines_are_none(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    handler = Handler(60)
    peer = serve(nursery, handler, TRUSTING, pair())
    assert (await peer.ask(asking("10", "Request-Deadline: 10"))).status == 200


async def test_the_greatest_number_is_a_third_of_a_year(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    handler = Handler(0)
    assert (await serve(nursery, handler, TRUSTING, pair()).ask(asking("9999999999"))).status == 200
    assert handler.left == [pytest.approx(9_999_999.999)]


async def test_the_servers_limit_bounds_the_clients(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """N12: bounded. And 503, for it was the server that did not want to go on."""
    both = attrs.evolve(TRUSTING, times=ServerTimes(request=30))
    assert (await serve(nursery, Handler(), both, pair()).ask(asking("99000"))).status == 503
    assert trio.current_time() == pytest.approx(30, abs=1)


async def test_the_clients_limit_is_504_also_where_the_server_has_one_that_is_longer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    both = attrs.evolve(TRUSTING, times=ServerTimes(request=30))
    answer = await serve(nursery, Handler(), both, pair()).ask(asking("2000"))
    assert trio.current_time() == pytest.approx(2, abs=1)
    assert answer.status == 504


async def test_a_handler_that_gives_itself_more_time_does_not_get_it_from_its_client(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody waits for the answer any more."""

    async def handler(request: Request) -> Response:
        request.times = attrs.evolve(request.times, request=100)
        await trio.sleep_forever()
        raise AssertionError

    answer = await serve(nursery, handler, TRUSTING, pair()).ask(asking("2000"))
    assert trio.current_time() == pytest.approx(2, abs=1)
    assert answer.status == 504


async def test_a_body_under_way_at_the_clients_deadline_is_504_and_closes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, await request.read())

    peer = serve(nursery, handler, TRUSTING, pair())
    await peer.send(post(b"abc", "Request-Deadline: 2000")[:-1])
    answer = await peer.answer()
    assert (answer.status, answer.closes) == (504, True)


async def test_a_chain_of_three_servers_stops_at_the_roots_deadline(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """N12: each hop hands on what `trio.current_effective_deadline` tells, in whole milliseconds."""
    ends: list[tuple[str, float]] = []

    def trusted() -> tuple[MemoryStream, StreamTransport]:
        client, server = memory_pair(1 << 16)
        transport = StreamTransport(server)
        transport.peername = ("192.0.2.7", 4000)
        return client, transport

    def hop(name: str, after: float, upstream: Any) -> Any:
        async def handler(request: Request) -> Response:
            await trio.sleep(after)
            try:
                if upstream is None:
                    await trio.sleep_forever()
                inner = serve(nursery, upstream, TRUSTING, trusted())
                left = trio.current_effective_deadline() - trio.current_time()
                return Response((await inner.ask(asking(str(int(left * 1000))))).status)
            finally:
                ends.append((name, trio.current_time()))

        return handler

    chain = hop("first", 0.5, hop("second", 0.5, hop("third", 0.5, None)))
    assert (await serve(nursery, chain, TRUSTING, trusted()).ask(asking("5000"))).status == 504
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(name for name, _ in ends) == ["first", "second", "third"]
    assert [end for _, end in ends] == [pytest.approx(5, abs=0.003)] * 3
