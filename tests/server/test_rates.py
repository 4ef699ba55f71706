"""The client's speed: minimum rates beside the stall limits, what counts and what does not, and who may
change it."""

from __future__ import annotations

import itertools
import math
import socket

import attrs
import pytest
import trio
import trio.testing

from tests.server.support import GET, Cut, chunk, config, head, post, serve
from tests.transport._peers import tcp_pair
from trio_http import Request, Response, ServerRates, ServerTimes
from trio_http.transport import SocketTransport, StreamTransport

# --------------------------------------------------------------------------------------------- head and body
# All in steps of some seconds, for over sockets each costs the test a pause.


async def test_a_head_that_drips_below_the_rate_is_408(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S6, S12. At 50 of 100 bytes per second it loses 2 of its 10 seconds in each 4."""
    peer = serve(nursery, _never, config(head=1000, head_stall=10, rates=ServerRates(head=100)))
    await peer.send(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(3):
        await trio.sleep(4)
        await peer.send(b"x" * 200)
    assert (await peer.answer()).status == 408
    assert trio.current_time() == 12 + 4


async def test_a_head_that_keeps_its_rate_lives_until_its_whole_time_is_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, _never, config(head=48, head_stall=10, rates=ServerRates(head=100)))
    await peer.send(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(5):
        await trio.sleep(9)
        await peer.send(b"x" * 900)
    assert (await peer.answer()).status == 408
    assert trio.current_time() == 48


async def test_a_head_that_stops_is_408_after_its_stall_limit(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, _never, config(head=1000, head_stall=10))
    await trio.sleep(3)
    await peer.send(b"GET ")
    assert (await peer.answer()).status == 408
    assert trio.current_time() == 13


@pytest.mark.parametrize("when", ["behind the request", "later"])
async def test_an_empty_line_between_requests_is_no_head(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, when: str
) -> None:
    """RFC 9112 §2.2: clients have been known to send one behind a body. A 408 to that would be taken for the
    answer to the next request."""

    async def handler(request: Request) -> Response:
        return Response(200)

    async def ask_and_add_an_empty_line() -> None:
        if when == "later":
            assert (await peer.ask()).status == 200
            await trio.sleep(1)
            await peer.send(b"\r\n")
        else:
            assert (await peer.ask(GET + b"\r\n")).status == 200

    peer = serve(nursery, handler, config(head=20, head_stall=10, idle=60))
    await ask_and_add_an_empty_line()
    await trio.sleep(30)
    await ask_and_add_an_empty_line()
    began = trio.current_time()
    assert await peer.is_closed_by_server()
    assert trio.current_time() - began == pytest.approx(60, abs=1)


async def test_a_body_below_the_rate_is_408_and_the_handler_knows_why(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S7, S12, A21, A24. At 50 of 100 bytes per second it loses 10 of its 60 seconds in each 20."""
    reasons = []

    async def handler(request: Request) -> Response:
        try:
            await request.read()
        except trio.Cancelled:
            reasons.append(request.cancel_reason.value if request.cancel_reason else None)
            raise
        raise AssertionError

    peer = serve(nursery, handler, config(body_stall=60, rates=ServerRates(body=100)))
    await peer.send(head("POST", "/", "Content-Length: 100000"))
    for _ in range(3):
        await trio.sleep(20)
        await peer.send(bytes(1000))
    answer = await peer.answer()
    assert (answer.status, answer.closes) == (408, True)
    assert trio.current_time() == 60 + 30
    assert reasons == ["body too slow"]


async def test_a_body_at_the_rate_may_take_for_ever(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, _count, config(body_stall=60, rates=ServerRates(body=100)))
    await peer.send(head("POST", "/", "Content-Length: 40000"))
    for _ in range(8):
        await trio.sleep(50)
        await peer.send(bytes(5000))
    assert (await peer.answer()).content == b"40000"


async def test_chunk_framing_counts_for_the_rate_as_it_is_sent_too(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """One byte a chunk is six on the way; the client is not to be blamed for how we were sent them."""
    peer = serve(nursery, _count, config(body_stall=10, rates=ServerRates(body=6)))
    await peer.send(head("POST", "/", "Transfer-Encoding: chunked"))
    for _ in range(6):
        await trio.sleep(9)
        await peer.send(chunk(b"x") * 9)
    await peer.send(chunk(b""))
    assert (await peer.answer()).content == b"54"


async def test_a_handler_that_reads_one_byte_a_minute_is_not_blamed_on_its_client(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """DESIGN.md 7: the clock of a rate runs only while the client is waited for."""

    async def handler(request: Request) -> Response:
        got = b""
        while byte := await request.body.receive_some(1):
            got += byte
            await trio.sleep(60)
        return Response(200, got)

    limits = config(head=1, idle=1, body_stall=1, write_stall=1, rates=ServerRates(body=1e6, response=1e6))
    peer = serve(nursery, handler, limits)
    assert (await peer.ask(post(b"slowly"))).content == b"slowly"
    assert trio.current_time() == pytest.approx(360)


async def test_a_clients_silence_while_the_handler_does_something_else_costs_it_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        for _ in range(5):
            assert await request.body.receive_some()
            await trio.sleep(100)
        return Response(200)

    peer = serve(nursery, handler, config(body_stall=2, rates=ServerRates(body=10)))
    await peer.send(head("POST", "/", "Content-Length: 50"))
    for number in range(5):
        await trio.sleep(1 if number == 0 else 101)
        await peer.send(bytes(10))
    assert (await peer.answer()).status == 200


# ------------------------------------------------------------------------------------------------- responses


class SlowKernel(StreamTransport):
    """A transport over a connection on which bytes leave at a given speed, of which the sender learns nothing
    before all are gone: a kernel with buffers as large as you like.

    Args:
      stream: of which only the receiving side matters.
      speed: bytes per second that the peer acknowledges.
      stops_at: when it acknowledges no more.
    """

    __slots__ = ("_begun", "_size", "_speed", "_stops_at", "sent")

    def __init__(self, stream: trio.abc.Stream, speed: float, stops_at: float = math.inf) -> None:
        super().__init__(stream)
        self._speed, self._stops_at = speed, stops_at
        self._begun = 0.0
        self._size = 0
        self.sent = 0

    def begin_send(self, data: bytes | bytearray | memoryview) -> bool:
        self._begun, self._size = trio.current_time(), len(data)
        return False

    async def finish_send(self) -> None:
        await trio.sleep(self._size / self._speed if self._stops_at == math.inf else math.inf)
        self.sent += self._size
        self._size = 0

    def unsent(self) -> int:
        gone = int(self._speed * (min(trio.current_time(), self._stops_at) - self._begun))
        return 0 if self.closed else max(0, self._size - gone)


def slow(speed: float, stops_at: float = math.inf) -> tuple[trio.abc.Stream, SlowKernel]:
    """The client's end and the server's of a connection that is slow towards the client."""
    client, server = trio.testing.memory_stream_pair()
    return client, SlowKernel(server, speed, stops_at)


async def test_a_slow_but_honest_reader_is_not_blamed_for_large_kernel_buffers(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S9, S13. One send takes an hour and a half, in which the kernel never says that it could take more; but
    it does say how much the client has acknowledged."""
    streams = slow(300)
    peer = serve(nursery, _large, config(write_stall=60, rates=ServerRates(response=240)), streams)
    await peer.send(head("GET", "/", "Connection: close"))
    await peer.finished.wait()
    assert streams[1].sent > 1 << 20
    assert trio.current_time() > (1 << 20) / 300


async def test_a_reader_below_the_rate_is_given_up_when_its_patience_is_used_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """At 180 of 240 bytes per second it loses a quarter of a second in each; it is looked at when its
    patience would be used up without a byte, so after 60 seconds, then 45, then 33.75 ..."""
    streams = slow(180)
    peer = serve(nursery, _large, config(write_stall=60, rates=ServerRates(response=240)), streams)
    await peer.send(GET)
    await peer.finished.wait()
    assert streams[1].sent == 0
    assert trio.current_time() == pytest.approx(240, abs=1)


async def test_a_reader_that_stops_is_given_up_one_stall_limit_later_at_most_twice(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """It is looked at every 60 seconds: what it read until it stopped at 90 shows at 120, then no more."""
    peer = serve(
        nursery, _large, config(write_stall=60, rates=ServerRates(response=240)), slow(1000, stops_at=90)
    )
    await peer.send(GET)
    await peer.finished.wait()
    assert 90 + 60 <= trio.current_time() <= 90 + 2 * 60


async def test_no_speed_has_the_server_look_at_the_same_reader_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Speeds at which the times are no round numbers: the effect of a property in `test_pace.py`."""
    for speed in (7.7, 61.3, 123.4, 200.1, 239.9):
        async with trio.open_nursery() as nursery:
            peer = serve(
                nursery, _large, config(write_stall=60, rates=ServerRates(response=240)), streams=slow(speed)
            )
            await peer.send(GET)
            await peer.finished.wait()


async def test_pieces_that_are_read_too_slowly_cancel_their_handler_with_the_reason(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """50 bytes in each ten seconds, all of which are spent waiting: half of what the rate asks for."""
    reasons = []

    async def handler(request: Request) -> None:
        async with request.stream_response(200, headers={"content-length": "100000"}) as body:
            try:
                while True:
                    await body.send_all(bytes(50))
            except trio.Cancelled:
                reasons.append(request.cancel_reason)
                raise

    peer = serve(
        nursery,
        handler,
        config(write_stall=60, rates=ServerRates(response=10)),
        trio.testing.lockstep_stream_pair(),
    )
    await peer.send(GET)
    await peer.head()
    count = 0
    with pytest.raises(Cut):
        while True:
            await trio.sleep(10)
            await peer.take(50)
            count += 1
    # Half the rate: twice the stall limit.
    assert trio.current_time() == pytest.approx(120, abs=10)
    assert count == pytest.approx(11, abs=1)
    assert [reason.value for reason in reasons if reason] == ["write stalled"]


async def test_events_with_gaps_of_a_minute_live(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """DESIGN.md 7, with limits that a rate over the whole response would break at once."""

    async def handler(request: Request) -> None:
        async with request.stream_response(200, headers={"content-type": "text/event-stream"}) as body:
            for number in range(10):
                await body.send_all(b"data: %d\n\n" % number)
                await trio.sleep(60)

    limits = config(head=1, idle=1, body_stall=1, write_stall=1, rates=ServerRates(response=1e6))
    answer = await serve(nursery, handler, limits).ask()
    assert answer.content.count(b"data: ") == 10
    assert trio.current_time() == pytest.approx(600)


@pytest.mark.interop
async def test_the_kernels_queue_shows_that_a_slow_client_reads(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    """Over TCP, with large buffers: what the client reads in 50 seconds is too little for the kernel to wake
    the sender. Had the server gone by that, the client would have been cut after 60 seconds."""
    client, server = tcp_pair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    client.setblocking(False)
    ours = trio.SocketStream(trio.socket.from_stdlib_socket(client))
    theirs = SocketTransport(server)
    size = 64 << 20

    async def handler(request: Request) -> Response:
        return Response(200, bytes(size))

    peer = serve(nursery, handler, config(write_stall=60, rates=ServerRates(response=240)), (ours, theirs))
    await peer.send(GET)
    await peer.head()
    for _ in range(30):
        # More than a window at once, or the kernel keeps the news to itself (RFC 9293 §3.8.6.2.2).
        await peer.take(100_000)
        await trio.testing.wait_all_tasks_blocked(0.002)
        mock_clock.jump(50)
        await trio.testing.wait_all_tasks_blocked(0.002)
    assert not peer.finished.is_set()
    for _ in range(3):
        mock_clock.jump(61)
        await trio.testing.wait_all_tasks_blocked(0.002)
    await peer.finished.wait()  # and without reading, it is over
    await ours.aclose()


# ------------------------------------------------------------------------------------ limits of one request


async def test_a_handler_may_have_more_patience_for_its_request_and_the_next_has_the_servers_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S11, A22."""

    async def handler(request: Request) -> Response:
        if request.path == "/patient":
            request.times = attrs.evolve(request.times, body_stall=1000)
            request.rates = ServerRates(body=0)
        seen.append((request.times.body_stall, request.rates.body))
        return Response(200, await request.read())

    seen: list[tuple[float, float]] = []
    peer = serve(nursery, handler, config(body_stall=60, rates=ServerRates(body=100)))
    await peer.send(head("POST", "/patient", "Content-Length: 2"), b"a")
    await trio.sleep(900)
    await peer.send(b"b")
    assert (await peer.answer()).content == b"ab"
    await peer.send(head("POST", "/", "Content-Length: 2"), b"a")
    assert (await peer.answer()).status == 408
    assert trio.current_time() == 960
    assert seen == [(1000, 0), (60, 100)]


async def test_a_handler_may_have_less_patience(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        request.times = attrs.evolve(request.times, body_stall=5)
        return Response(200, await request.read())

    peer = serve(nursery, handler, config(body_stall=60))
    await peer.send(head("POST", "/", "Content-Length: 2"), b"a")
    assert (await peer.answer()).status == 408
    assert trio.current_time() == 5


async def test_the_rate_can_be_raised_between_two_reads(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        await request.body.receive_some()
        await request.body.receive_some()
        request.rates = attrs.evolve(request.rates, body=100)
        return Response(200, await request.read())

    peer = serve(nursery, handler, config(body_stall=60))
    await peer.send(head("POST", "/", "Content-Length: 100000"))
    for _ in itertools.repeat(None, 4):
        await peer.send(bytes(1000))
        await trio.sleep(20)
    assert (await peer.answer()).status == 408
    # Two reads without a rate; then 50 bytes per second, of which each 20 seconds cost 10 of patience.
    assert trio.current_time() == pytest.approx(60 + 40)


@pytest.mark.parametrize(("stall", "end"), [(200, 200), (20, 30)])
async def test_the_limits_can_be_changed_while_the_client_is_waited_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, stall: float, end: float
) -> None:
    """A longer one adds the difference, a shorter one counts from the change."""

    async def handler(request: Request) -> Response:
        async def change() -> None:
            await trio.sleep(10)
            request.times = attrs.evolve(request.times, body_stall=stall)

        async with trio.open_nursery() as inner:
            inner.start_soon(change)
            await request.read()
        raise AssertionError

    peer = serve(nursery, handler, config(body_stall=60))
    await peer.send(head("POST", "/", "Content-Length: 2"), b"a")
    await peer.answer()
    assert trio.current_time() == end


@pytest.mark.parametrize(
    ("stall", "end"),
    [
        (200, 200),
        (20, 30),
    ],
)
async def test_the_limits_can_be_changed_while_the_client_is_waited_for_to_read(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, stall: float, end: float
) -> None:
    async def handler(request: Request) -> None:
        async def change() -> None:
            await trio.sleep(10)
            request.times = attrs.evolve(request.times, write_stall=stall)

        async with trio.open_nursery() as inner, request.stream_response() as body:
            inner.start_soon(change)
            await body.send_all(b"x")

    peer = serve(nursery, handler, config(write_stall=60), trio.testing.lockstep_stream_pair())
    await peer.send(GET)
    await peer.head()
    await peer.finished.wait()
    assert trio.current_time() == end


async def test_a_handler_may_have_more_patience_with_its_reader(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        request.times = attrs.evolve(request.times, write_stall=500)
        return Response(200)

    peer = serve(nursery, handler, config(write_stall=60), trio.testing.lockstep_stream_pair())
    await peer.send(GET)
    await trio.sleep(400)
    assert (await peer.answer()).status == 200


async def test_what_is_no_set_of_limits_is_refused_with_what_was_expected(nursery: trio.Nursery) -> None:
    errors = []

    async def handler(request: Request) -> Response:
        for name, value in (
            ("times", 5),
            ("times", ServerRates()),
            ("rates", ServerTimes()),
            ("rates", None),
        ):
            with pytest.raises(TypeError, match=r"expected a Server(Times|Rates)") as caught:
                setattr(request, name, value)
            errors.append(caught.value)
        return Response(200)

    assert (await serve(nursery, handler).ask()).status == 200
    assert len(errors) == 4


@pytest.mark.parametrize("name", ["head", "body", "response"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(name: str, value: float) -> None:
    """A rate without end would be kept by nobody."""
    with pytest.raises(ValueError, match=name):
        ServerRates(**{name: value})


# ---------------------------------------------------------------------------------------------------- speeds


async def test_the_handler_sees_how_fast_its_client_sends(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """N26."""
    seen: list[float | None] = []

    async def handler(request: Request) -> Response:
        seen.append(request.connection.receive_rate)
        while await request.body.receive_some():
            seen.append(request.connection.receive_rate)
            await trio.sleep(1000)  # does not count
        return Response(200)

    peer = serve(nursery, handler, config())
    await peer.send(head("POST", "/", "Content-Length: 3000"))
    await trio.sleep(10)
    await peer.send(bytes(1000))
    await trio.sleep(1030)
    await peer.send(bytes(2000))
    await peer.answer()
    assert seen == [None, pytest.approx(100), pytest.approx(3000 / 40)]


async def test_the_handler_sees_how_fast_its_client_reads_before_that_is_too_slow(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """N26: so it may send less."""
    seen: list[float | None] = []

    async def handler(request: Request) -> None:
        seen.append(request.connection.send_rate)
        async with request.stream_response(200, headers={"content-length": "300"}) as body:
            for _ in range(3):
                await body.send_all(bytes(100))
                seen.append(request.connection.send_rate)
                assert request.connection.unsent == 0

    peer = serve(nursery, handler, config(write_stall=200), trio.testing.lockstep_stream_pair())
    await peer.send(GET)
    await peer.head()
    for seconds in (10, 10, 180):
        await trio.sleep(seconds)
        await peer.take(100)
    await trio.testing.wait_all_tasks_blocked()
    first, second, third, fourth = seen
    assert first is None
    assert second is not None
    head_bytes = second * 10 - 100
    assert 10 < head_bytes < 200
    assert third == pytest.approx((200 + head_bytes) / 20)
    assert fourth == pytest.approx((300 + head_bytes) / 200)


async def test_what_the_client_has_not_taken_is_visible_to_the_handlers_other_tasks(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    seen = []

    async def handler(request: Request) -> None:
        async def look() -> None:
            await trio.sleep(5)
            seen.append(request.connection.unsent)

        async with request.stream_response(200, headers={"content-length": "1000"}) as body:
            async with trio.open_nursery() as inner:
                inner.start_soon(look)
                await body.send_all(bytes(1000))
            seen.append(request.connection.unsent)

    peer = serve(nursery, handler, config(), trio.testing.lockstep_stream_pair())
    await peer.send(GET)
    await peer.head()
    await trio.sleep(10)
    await peer.take(1000)
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [1000, 0]


async def test_speeds_are_those_of_one_request(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    seen = []

    async def handler(request: Request) -> Response:
        await request.read()
        seen.append(request.connection.receive_rate)
        return Response(200)

    peer = serve(nursery, handler, config())
    await peer.send(head("POST", "/", "Content-Length: 10"))
    await trio.sleep(10)
    await peer.send(bytes(10))
    await peer.answer()
    await peer.ask()
    assert seen == [pytest.approx(1), None]


# --------------------------------------------------------------------------------------------------- handlers


async def _never(request: Request) -> Response:
    raise AssertionError("this request was never complete")


async def _count(request: Request) -> Response:
    count = 0
    async for piece in request.body:
        count += len(piece)
    return Response(200, str(count).encode())


async def _large(request: Request) -> Response:
    return Response(200, bytes(1 << 20))
