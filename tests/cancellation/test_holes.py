"""Scenarios for which planted defects were the reason: all other sweeps did not see them (`tests/planted`).

Most are of what a docstring says of its own await (``Cancellation:``) and no request as a whole can show:
that reading can be gone on with, that a turn or a token is not lost, that a close has an end.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests._forwarding import ForwardingStream
from tests.cancellation._worlds import (
    CONFIG,
    Network,
    lands_in,
    sweep_server,
)
from tests.transport._peers import tcp_pair, tls_pair
from trio_http import RateLimit, Request, Response, Retry
from trio_http.client import Client, RetryBudget, race
from trio_http.server import serve_connection
from trio_http.testing import MemoryStream, SweepReport, cancel_at_every_step, memory_pair
from trio_http.transport import EdgePoll, SocketTransport, Transport

# ----------------------------------------------------------------------------------------- closes with an end


class SlowToClose(ForwardingStream[MemoryStream]):
    """A stream whose regular close waits for a peer that never answers. By force it is closed at once.

    Attributes:
      longest: how long a close has taken at most, in seconds.
    """

    longest = 0.0

    async def aclose(self) -> None:
        began = trio.current_time()
        try:
            if not self.inner.closed:
                await trio.sleep_forever()
        finally:
            self.inner.close()
            SlowToClose.longest = max(SlowToClose.longest, trio.current_time() - began)


@pytest.fixture(autouse=True)
def no_close_has_taken_long() -> Iterator[None]:
    """See that no close has waited for longer than it may: 3 seconds for a regular one."""
    SlowToClose.longest = 0.0
    yield
    assert SlowToClose.longest <= 3.1, f"a close has taken {SlowToClose.longest} s"


async def echo(request: Request) -> None:
    async with request.upgrade("echo") as stream:
        async for data in stream:
            await stream.send_all(data)


async def test_leaving_an_upgrade_of_the_clients_ends_though_the_close_waits(
    autojump_clock: MockClock,
) -> None:
    async def answer(request: Request) -> Response | None:
        if request.path == "/fresh":
            return Response(text="fresh")
        await echo(request)
        return None

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Network]:
        async with Network(answer).opened() as net:

            async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
                stream = await net.dial(host, port, scheme)
                assert isinstance(stream, MemoryStream)
                return SlowToClose(stream)

            async with Client(base_url="http://a", dial=dial) as net.client:
                yield net

    async def scenario(net: Network) -> None:
        with trio.fail_after(20):
            async with net.client.upgrade("/", "echo") as stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"

    report = await cancel_at_every_step(scenario, world=world, check=Network.see_all_is_well)
    lands_in(report, "__aexit__")


SWITCH = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize("fails", [False, True], ids=["well", "with an error"])
async def test_leaving_an_upgrade_of_the_servers_ends_though_the_close_waits(
    fails: bool, autojump_clock: MockClock
) -> None:
    async def short(request: Request) -> None:
        async with request.upgrade("echo") as stream:
            await stream.send_all(await stream.receive_some())
            if fails:
                raise LookupError("of the handler's own")

    report = await sweep_server(
        short,
        lambda peer: peer.send(SWITCH).expect(SWITCHED).send(b"hello").expect(b"hello").expect_end(),
        answer=SWITCHED + b"hello",
        over=SlowToClose,
        faults=int(fails),
    )
    lands_in(report, "short", *([] if fails else ["__aexit__"]))


async def test_the_end_of_a_connection_ends_though_the_close_waits(autojump_clock: MockClock) -> None:
    async def hello(request: Request) -> Response:
        return Response(text="hello")

    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    report = await sweep_server(
        hello,
        lambda peer: peer.send(request).expect(PLAIN).send_eof().expect_end(),
        answer=PLAIN,
        over=SlowToClose,
    )
    lands_in(report, "_end")


# ----------------------------------------------------------------------------------- things, turns and tokens


class Thing:
    """Something that has to be closed."""

    def __init__(self, quality: int) -> None:
        self.quality = quality
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("wins", [None, lambda thing: thing.quality > 1], ids=["any", "the best"])
async def test_a_race_for_things_loses_none(
    wins: Callable[[Thing], bool] | None, autojump_clock: MockClock
) -> None:
    """Each is returned or discarded, also one that comes with the cancel, or was kept till then."""
    made: list[Thing] = []

    async def make(seconds: float, quality: int) -> Thing:
        await trio.sleep(seconds)
        made.append(Thing(quality))
        return made[-1]

    async def scenario() -> None:
        made.clear()
        attempts = [functools.partial(make, *given) for given in ((1, 1), (2, 1), (2, 2), (2, 2))]
        won = await race(*attempts, wins=wins, discard=Thing.aclose)
        assert [thing for thing in made if not thing.closed] == [won]
        won.closed = True

    def check() -> None:
        assert all(thing.closed for thing in made), "a thing was left open"

    report = await cancel_at_every_step(scenario, check=check)
    lands_in(report, "make", "race")


async def test_a_pause_before_a_retry_keeps_no_token(autojump_clock: MockClock) -> None:
    """C12, N9: the budget has a token less for each retry that was made, and no other."""
    budget = RetryBudget(ratio=0.0, minimum_per_second=0.0, capacity=3.0)
    made = 0

    async def scenario() -> None:
        nonlocal made
        made = 0
        for _ in range(2):
            if await Retry(budget=budget).pause(2):
                made += 1
            await trio.sleep(1)

    def check() -> None:
        taken = 3 - budget.tokens
        for _ in range(made):
            budget.give_back()
        assert taken == made, f"{taken} tokens were taken for {made} retries"

    report = await cancel_at_every_step(scenario, check=check)
    lands_in(report, "pause")


class Queue:
    """Those who wait for turns of one limit: somebody before the scenario, and somebody behind it.

    Attributes:
      limit: one turn in a second.
      turns: when each turn was given.
      began: when the first could have been.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.limit = RateLimit(1.0)
        self.nursery = nursery
        self.turns: list[float] = []
        self.began = trio.current_time()

    async def take(self) -> None:
        await self.limit.wait()
        self.turns.append(trio.current_time())


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_a_turn_that_is_given_up_is_the_next_ones_and_nobody_waits_longer_for_it(
    before: int, autojump_clock: MockClock
) -> None:
    """C17: whatever is cancelled, the turns that were taken came without a gap."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Queue]:
        async with trio.open_nursery() as nursery:
            queue = Queue(nursery)
            for _ in range(before):
                nursery.start_soon(queue.take)
                await trio.testing.wait_all_tasks_blocked()
            try:
                yield queue
            finally:
                nursery.cancel_scope.cancel()

    async def scenario(queue: Queue) -> None:
        async def behind() -> None:
            await trio.sleep(0.2)
            await queue.take()
            await queue.take()

        queue.nursery.start_soon(behind)
        await queue.take()

    async def check(queue: Queue) -> None:
        with trio.fail_after(20):
            await queue.take()
            await trio.sleep(5)
            assert queue.limit.statistics().waiting == 0
        told = f"turns at {queue.turns}, from {queue.began}"
        gaps = [later - turn for turn, later in zip(queue.turns, queue.turns[1:], strict=False)]
        # A turn that is given up may wait for the task behind, which comes after 0.2 seconds.
        assert all(0.999 <= gap <= 1.201 for gap in gaps), told
        assert queue.turns[0] - queue.began <= 0.201, told

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "wait", *(["_wait_in"] if before else []))


# --------------------------------------------------------------------------- reading that can be gone on with

Receive = Callable[[], Awaitable[bytes]]

PIECES = [b"piece %d " % number for number in range(5)]
CONTENT = b"".join(PIECES)


async def sweep_reading(
    world: Callable[[], AbstractAsyncContextManager[Receive]], *, pause: float = 0
) -> SweepReport:
    """Cancel who reads at each step, and read on: nothing may be lost, and nothing come twice.

    Args:
      world: gives what receives the next part of `CONTENT`, ``b""`` at its end.
      pause: seconds before it is read on.
    """
    got = bytearray()

    @contextlib.asynccontextmanager
    async def begun() -> AsyncIterator[Receive]:
        got.clear()
        async with world() as receive:
            yield receive

    async def read(receive: Receive) -> None:
        while part := await receive():
            got.extend(part)

    async def check(receive: Receive) -> None:
        await trio.sleep(pause)  # in which nobody waits for the peer, so it cannot be too slow
        with trio.fail_after(50):
            await read(receive)
        assert got == CONTENT, f"{bytes(got)!r} was received"

    return await cancel_at_every_step(read, world=begun, check=check)


@pytest.mark.parametrize("coded", [False, True], ids=["plain", "coded"])
@pytest.mark.parametrize("at_once", [False, True], ids=["piece by piece", "at once"])
@pytest.mark.parametrize("size", [3, None])
async def test_the_body_of_a_response_can_be_gone_on_with(
    size: int | None, at_once: bool, coded: bool, autojump_clock: MockClock
) -> None:
    async def pieces(request: Request) -> None:
        content = [gzip.compress(piece) for piece in PIECES] if coded else PIECES
        headers = {"content-encoding": "gzip"} if coded else {}
        async with request.stream_response(headers=headers) as body:
            for piece in content:
                await body.send_all(piece)
                if not at_once:
                    await trio.sleep(1)

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Receive]:
        async with (
            Network(pieces).opened() as net,
            Client(base_url="http://a", dial=net.dial, idle_seconds=1e6) as client,
        ):
            async with client.stream("GET", "/") as response:
                await trio.testing.wait_all_tasks_blocked()
                yield functools.partial(response.body.receive_some, size)
            counts = client.statistics()
            assert (counts.leased, counts.idle) == (0, 1), "the connection was not given back"

    report = await sweep_reading(world, pause=1000)
    lands_in(report, "receive_some")


@pytest.mark.parametrize("at_once", [False, True], ids=["piece by piece", "at once"])
@pytest.mark.parametrize("size", [3, None])
async def test_the_body_of_a_request_can_be_gone_on_with(
    size: int | None, at_once: bool, autojump_clock: MockClock
) -> None:
    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Receive]:
        client, server = memory_pair()
        requests: list[Request] = []
        read = trio.Event()

        async def handler(request: Request) -> Response:
            requests.append(request)
            await read.wait()
            return Response(text="hello")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(functools.partial(serve_connection, handler, server, config=CONFIG))
            parts = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in PIECES] + [b"0\r\n\r\n"]
            head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            await client.send_all(head + parts.pop(0))  # so that a piece is here before it is asked for
            await trio.testing.wait_all_tasks_blocked()

            async def send() -> None:
                for part in parts:
                    await client.send_all(part)
                    if not at_once:
                        await trio.sleep(1)

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            yield functools.partial(requests[0].body.receive_some, size)
            read.set()
            assert await client.receive_some() == PLAIN
            client.close()

    report = await sweep_reading(world, pause=1000)
    lands_in(report, "receive_some")


@pytest.mark.interop
@pytest.mark.parametrize("kind", ["socket", "parked", "tls", "tls parked"])
async def test_a_transport_can_be_gone_on_with(kind: str) -> None:
    """Over real sockets, with Trio's waiting and with our epoll's."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Receive]:
        ours: Transport
        theirs: Transport
        if kind.startswith("tls"):
            ours, theirs = await tls_pair(tcp_pair())
        else:
            ours, theirs = (SocketTransport(sock) for sock in tcp_pair())
        async with trio.open_nursery() as nursery:
            poll = EdgePoll()
            if kind.endswith("parked"):
                nursery.start_soon(poll.run)
                assert ours.attach(poll)

            async def send() -> None:
                for piece in PIECES:
                    await theirs.send_all(piece)
                    await trio.testing.wait_all_tasks_blocked(0.001)
                await theirs.send_eof()

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.001)
            if kind.startswith("tls"):
                assert ours.is_stale()  # for which it takes a look at what has come, and keeps it
            yield ours.receive
            for transport in (ours, theirs):
                await transport.aclose_forcefully()
            poll.close()

    report = await sweep_reading(world)
    lands_in(report, "receive")
