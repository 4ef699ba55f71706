"""A storm: many clients of all manners against handlers of all manners, by chance, and a shutdown at the end.

What happens is drawn from a seed. A client plans its requests first, and each says in its target what its
handler is to do; so every answer that comes whole can be held against the request that it answers. What must
hold, whatever happens:

* a whole answer is that of its request, to the last byte, and a handler's failure is the only 500;
* a client that is in order is answered, while nothing is the matter;
* the shutdown is over in time, and then nothing is left: no task, connection, descriptor, count or deadline;
* the instruments are told of each beginning and each end, once, and in order;
* no error is logged but those that handlers raise on purpose.

``STORM_SEEDS=200`` runs more seeds, and ``STORM_FIRST=1234`` begins with another one; a failing test has its
seed in its name. Over memory streams the order of the tasks comes from the seed too, so that it happens
again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import random
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.server import media
from tests.server.running import MemoryListener
from tests.server.support import Answer, Cut, Peer, chunk
from trio_http import HTTPException, Request, Response, Server, ServerConfig, ServerRates, ServerTimes
from trio_http.instruments import CloseRecord, ConnectionRecord, ExchangeRecord, ServerInstrument
from trio_http.server import serve_listeners

SEEDS = range(int(os.environ.get("STORM_FIRST", "0")), int(os.environ.get("STORM_FIRST", "0")) + 1_000_000)
MORE = int(os.environ.get("STORM_SEEDS", "0"))

#: All sleeps are multiples of this, so that the clock jumps seldom.
BEAT = 0.25


class Squall(Exception):
    """What a handler raises on purpose."""


# --------------------------------------------------------------------------------------------------- handlers


def content(marker: str, size: int) -> bytes:
    """What the answer to the request with that marker has to say."""
    return (marker.encode() * (size // len(marker) + 1))[:size]


async def answer_at_once(request: Request, marker: str, size: int) -> Response:
    return Response(200, content(marker, size), headers={"x-marker": marker})


async def sleep(request: Request, marker: str, size: int) -> Response:
    await trio.sleep(size % 12 * BEAT)
    return await answer_at_once(request, marker, size)


async def stream(request: Request, marker: str, size: int) -> None:
    data = content(marker, size)
    async with request.stream_response(200, headers={"x-marker": marker}) as body:
        for start in range(0, size, size // 4 + 1):
            await body.send_all(data[start : start + size // 4 + 1])
            await trio.sleep(size % 3 * BEAT)


async def stream_and_raise(request: Request, marker: str, size: int) -> None:
    async with request.stream_response(200, headers={"x-marker": marker}) as body:
        await body.send_all(content(marker, size))
        raise Squall(marker)


async def raise_late(request: Request, marker: str, size: int) -> None:
    await trio.sleep(size % 4 * BEAT)
    raise Squall(marker)


async def refuse(request: Request, marker: str, size: int) -> None:
    raise HTTPException(418, content(marker, size).decode(), headers={"x-marker": marker})


async def read(request: Request, marker: str, size: int) -> Response:
    data = await request.read()
    assert data == content(marker, len(data)), "bytes of another request"
    return await answer_at_once(request, marker, size)


async def read_partly(request: Request, marker: str, size: int) -> Response:
    data = await request.body.receive_some()
    assert data == content(marker, len(data)), "bytes of another request"
    return await answer_at_once(request, marker, size)


async def both_ways(request: Request, marker: str, size: int) -> None:
    """Answers while it reads."""
    sent = 0
    async with request.stream_response(200, headers={"x-marker": marker}) as body:
        async for piece in request.body:
            part = content(marker, size)[sent : sent + len(piece)]
            await body.send_all(part)
            sent += len(part)
        await body.send_all(content(marker, size)[sent:])


async def finish(request: Request, marker: str, size: int) -> Response:
    with request.finish(within=4 * BEAT):
        await trio.sleep(size % 8 * BEAT)
    return await answer_at_once(request, marker, size)


async def poll_until_drain(request: Request, marker: str, size: int) -> Response:
    with request.cancel_on_drain():
        await trio.sleep(size % 40 * BEAT)
    return await answer_at_once(request, marker, size)


async def children(request: Request, marker: str, size: int) -> Response:
    async with trio.open_nursery() as nursery:
        for count in range(4):
            nursery.start_soon(trio.sleep, count * size % 4 * BEAT)
        if size % 5 == 0:
            nursery.start_soon(raise_late, request, marker, size)
    return await answer_at_once(request, marker, size)


async def untidy(request: Request, marker: str, size: int) -> Response:
    """Fails once more when it is cancelled."""
    try:
        await trio.sleep(size % 12 * BEAT)
    except trio.Cancelled:
        raise Squall(marker) from None
    return await answer_at_once(request, marker, size)


async def deaf_to_cancels(request: Request, marker: str, size: int) -> Response:
    with trio.move_on_after(size % 12 * BEAT), contextlib.suppress(trio.Cancelled):
        await trio.sleep_forever()
    return await answer_at_once(request, marker, size)


async def inform(request: Request, marker: str, size: int) -> Response:
    await request.send_informational(103, headers={"link": f"</{marker}>"})
    return await sleep(request, marker, size)


async def forget(request: Request, marker: str, size: int) -> None:
    """Does not answer."""


async def echo(request: Request, marker: str, size: int) -> Response | None:
    if "echo" not in request.upgrade_protocols:
        return await answer_at_once(request, marker, size)
    async with request.upgrade("echo", headers={"x-marker": marker}) as both:
        async for data in both:
            await both.send_all(data)
    return None


HANDLERS: dict[str, Callable[[Request, str, int], Any]] = {
    function.__name__: function
    for function in (
        answer_at_once, sleep, stream, stream_and_raise, raise_late, refuse, read, read_partly, both_ways,
        finish, poll_until_drain, children, untidy, deaf_to_cancels, inform, forget, echo,
    )
}  # fmt: skip

#: Those that may fail, and so answer 500.
FAILING = {"raise_late", "children", "untidy", "forget"}


async def handler(request: Request) -> Response | None:
    _, name, marker, size = request.path.split("/")
    answered: Response | None = await HANDLERS[name](request, marker, int(size))
    return answered


# ---------------------------------------------------------------------------------------------------- clients


@dataclasses.dataclass
class Planned:
    """A request that a client is going to send.

    Attributes:
      name: of the handler.
      marker: says whose it is.
      data: its bytes.
    """

    name: str
    marker: str
    size: int
    data: bytes
    has_body: bool

    def check(self, answer: Answer) -> None:
        """See that a whole answer is the one to this request."""
        if answer.get("x-marker") is None:
            # Of the server itself: it is overloaded, or the time is up, or the handler has failed.
            assert answer.status in (408, 503) or (answer.status == 500 and self.name in FAILING), answer
        else:
            assert answer.get("x-marker") == self.marker
            assert answer.status == (418 if self.name == "refuse" else 200)
            assert answer.content == content(self.marker, self.size)


def plan(chance: random.Random, marker: str, closable: bool) -> Planned:
    name = chance.choice(list(HANDLERS))
    size = chance.choice([1, 7, 100, 3000, 70_000, 300_000]) + chance.randrange(50)
    version = "1.0" if closable and chance.random() < 0.1 else "1.1"
    fields = ["Host: storm"]
    body = b""
    if name in ("read", "read_partly", "both_ways") or chance.random() < 0.2:
        data = content(marker, chance.choice([0, 1, 500, 20_000, 100_000]))
        if version == "1.1" and chance.random() < 0.5:
            fields.append("Transfer-Encoding: chunked")
            step = chance.choice([100, 7000])
            body = b"".join(chunk(data[at : at + step]) for at in range(0, len(data), step)) + chunk(b"")
        else:
            fields.append(f"Content-Length: {len(data)}")
            body = data
        if version == "1.1" and chance.random() < 0.2:
            fields.append("Expect: 100-continue")
    elif name == "echo":
        fields += ["Connection: upgrade", "Upgrade: echo"]
    if chance.random() < 0.1:
        fields.append("Connection: close")
    method = "POST" if body else "GET"
    lines = [f"{method} /{name}/{marker}/{size} HTTP/{version}", *fields, "", ""]
    return Planned(name, marker, size, "\r\n".join(lines).encode() + body, bool(body))


class Client:
    """One client and its plan.

    Attributes:
      whole: how many answers it got whole.
    """

    def __init__(
        self, chance: random.Random, server: Server, peer: Peer, number: int, sock: trio.SocketStream | None
    ) -> None:
        self._chance = chance
        self._server = server
        self._peer = peer
        self._sock = sock
        count = chance.choice([1, 1, 2, 3, 6, 12])
        self._plan = [plan(chance, f"<{number}.{index}>", sock is not None) for index in range(count)]
        self.whole = 0

    async def run(self) -> None:
        manner = self._chance.choice(
            [self.ask_in_turn, self.ask_in_turn, self.ask_in_turn, self.pipeline, self.pipeline, self.dribble,
             self.cut, self.end_and_listen, self.listen_to_nothing, self.talk_nonsense]
        )  # fmt: skip
        try:
            await trio.sleep(self._chance.randrange(12) * BEAT)
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, Cut):
                await manner()
        finally:
            if self._sock is not None and self._chance.random() < 0.3:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await trio.aclose_forcefully(self._peer.stream)

    async def ask_in_turn(self) -> None:
        has_waited = False
        for planned in self._plan:
            try:
                await self._peer.send(planned.data)
                if not await self._take(planned):
                    return
            except (trio.BrokenResourceError, Cut):
                assert has_waited or self._may_be_cut(planned), planned
                raise
            has_waited = self._chance.random() < 0.3
            if has_waited:
                await trio.sleep(self._chance.randrange(10) * BEAT)

    def _may_be_cut(self, planned: Planned) -> bool:
        """Tell whether there is a reason not to answer a client that is in order."""
        config = self._server._shared.config
        left_unread = planned.has_body and planned.name not in ("read", "both_ways")
        return (
            self._server.draining
            or left_unread
            or planned.name == "stream_and_raise"
            or config.times.request < 100
            or config.max_connections < 100
        )

    async def pipeline(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, b"".join(planned.data for planned in self._plan))
            await self._take_all()
            nursery.cancel_scope.cancel()

    async def dribble(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_bit_by_bit)
            await self._take_all()
            nursery.cancel_scope.cancel()

    async def cut(self) -> None:
        data = b"".join(planned.data for planned in self._plan)
        await self._send(data[: self._chance.randrange(len(data))])
        if self._chance.random() < 0.5:
            await trio.sleep(self._chance.randrange(8) * BEAT)

    async def end_and_listen(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, b"".join(planned.data for planned in self._plan), True)
            await self._take_all()
            nursery.cancel_scope.cancel()

    async def listen_to_nothing(self) -> None:
        with trio.move_on_after(self._chance.randrange(60) * BEAT):
            await self._send(b"".join(planned.data for planned in self._plan))
            await trio.sleep_forever()

    async def talk_nonsense(self) -> None:
        data = bytearray(self._plan[0].data)
        # Not in the target, which tells the handler what to do, nor in the body, which it looks at.
        line_end, head_end = data.index(b"\r\n"), data.index(b"\r\n\r\n") + 4
        data[self._chance.choice([*range(4), *range(line_end - 8, head_end)])] = self._chance.randrange(256)
        await self._send(bytes(data))
        with trio.move_on_after(self._chance.randrange(30) * BEAT):
            await self._peer.rest()

    async def _send(self, data: bytes, end: bool = False) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._peer.send(data)
            if end:
                await self._peer.stream.send_eof()

    async def _send_bit_by_bit(self) -> None:
        data = b"".join(planned.data for planned in self._plan)
        while data:
            size = self._chance.choice([1, 2, 10, 100, 100_000])
            await self._send(data[:size])
            data = data[size:]
            if self._chance.random() < 0.2:
                await trio.sleep(self._chance.randrange(4) * BEAT)

    async def _take_all(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, Cut):
            for planned in self._plan:
                if not await self._take(planned):
                    return

    async def _take(self, planned: Planned) -> bool:
        """Take the answer to a request, and tell whether there will be another."""
        peer = self._peer
        if planned.name == "echo" and b"\r\nUpgrade: echo" in planned.data:
            head = await peer.head()
            if head.status == 101:
                assert head.get("x-marker") == planned.marker
                await self._talk_to_echo()
                return False
            peer.buffer = _rewritten(head) + peer.buffer
        answer = await peer.answer(planned.data.partition(b" ")[0].decode())
        planned.check(answer)
        self.whole += 1
        return not answer.closes

    async def _talk_to_echo(self) -> None:
        # What it has pipelined behind its request belongs to the new protocol, and comes first.
        word = b"the last word"
        try:
            await self._peer.send(word)
        except trio.BusyResourceError:
            return  # that is still on its way
        if self._chance.random() < 0.5:
            with trio.move_on_after(20 * BEAT):
                while word not in self._peer.buffer and await self._peer._receive():
                    pass


def _rewritten(head: Answer) -> bytes:
    lines = [
        f"HTTP/1.1 {head.status} {head.reason}",
        *(f"{name}: {value}" for name, value in head.fields),
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1")


# --------------------------------------------------------------------------------------------- what must hold


class Witness(ServerInstrument):
    """Checks that what it is told of is whole and in order."""

    def __init__(self) -> None:
        self.connections = 0
        self._open: dict[int, int | None] = {}  # the exchange under way of each connection
        self._finished: set[tuple[int, int]] = set()

    def connection_opened(self, connection: ConnectionRecord) -> None:
        self.connections += 1
        assert connection.id not in self._open
        self._open[connection.id] = None

    def exchange_started(self, connection: ConnectionRecord, number: int, method: str, target: str) -> None:
        assert self._open[connection.id] is None
        self._open[connection.id] = number

    def exchange_finished(self, exchange: ExchangeRecord) -> None:
        key = exchange.connection.id, exchange.number
        assert self._open[exchange.connection.id] == exchange.number
        assert key not in self._finished
        self._finished.add(key)
        self._open[exchange.connection.id] = None

    def connection_closed(self, closing: CloseRecord) -> None:
        assert self._open.pop(closing.connection.id) is None

    def check(self) -> None:
        assert not self._open


def check_log(caplog: pytest.LogCaptureFixture) -> None:
    """See that only handlers have failed, and on purpose."""
    for record in caplog.records:
        if record.levelno >= logging.ERROR:
            assert record.exc_info is not None, record.getMessage()
            assert all(_on_purpose(leaf) for leaf in _leaves(record.exc_info[1])), caplog.text


def _on_purpose(exc: BaseException | None) -> bool:
    return isinstance(exc, Squall) or type(exc).__name__ == "HandlerError"


def _leaves(exc: BaseException | None) -> list[BaseException | None]:
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for each in exc.exceptions for leaf in _leaves(each)]
    return [exc]


def check_empty(server: Server) -> None:
    shared = server._shared
    assert not shared.connections
    assert server._gate.open_count == 0
    assert not server._opening
    assert not server._refuser
    assert len(shared.ticker) <= (server.scheduled < float("inf"))  # nobody is timed but perhaps the grace
    assert shared.poll is None or len(shared.poll) == 0


def drawn_config(chance: random.Random, witness: Witness, edge_poll: bool) -> ServerConfig:
    return ServerConfig(
        times=ServerTimes(
            head=4, head_stall=2, idle=chance.choice([1, 6]), body_stall=2, write_stall=2, answer=1, linger=1,
            request=chance.choice([float("inf"), float("inf"), 2.1]),
        ),
        rates=chance.choice([ServerRates(), ServerRates(head=0, body=0, response=0)]),
        max_connections=chance.choice([float("inf"), 10]),
        excess=chance.choice(["wait", "refuse"]),
        max_requests=chance.choice([float("inf"), 3]),
        drain_bytes=chance.choice([0, 1000, 65536]),
        linger_bytes=chance.choice([0, 100_000]),
        half_close=chance.choice(["cancel", "answer"]),
        instruments=[witness],
        edge_poll=edge_poll,
    )  # fmt: skip


async def storm(
    seed: int, caplog: pytest.LogCaptureFixture, *, tcp: bool, edge_poll: bool, clients: int
) -> int:
    """Run one, and return how many answers came whole."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    witness = Witness()
    config = drawn_config(chance, witness, edge_poll)
    tasks_before = trio.lowlevel.current_statistics().tasks_living
    met: list[Client] = []
    stopped = trio.Event()

    async def serve(task_status: trio.TaskStatus[Server]) -> None:
        listeners: list[Any] = (
            await trio.open_tcp_listeners(0, host="127.0.0.1") if tcp else [MemoryListener()]
        )
        await serve_listeners(handler, listeners, config=config, task_status=task_status)
        stopped.set()

    async def visit(server: Server, number: int, luck: random.Random) -> None:
        listener: Any
        (listener,) = server.listeners
        sock = None
        if isinstance(listener, MemoryListener):
            stream: Any = listener.connect()
        else:
            try:
                stream = sock = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
            except OSError:
                return  # the shutdown has begun
        client = Client(luck, server, Peer(stream, takes_resets=True), number, sock)
        met.append(client)
        await client.run()

    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(serve)
        for number in range(clients):
            nursery.start_soon(visit, server, number, random.Random(chance.random()))
        await trio.sleep(chance.randrange(4, 120) * BEAT)
        grace = chance.choice([0, 1, 3])
        begun = trio.current_time()
        await server.shutdown(grace)
        slack = 0.5 if tcp else 0  # the clock of a test over sockets may jump while bytes are under way
        assert trio.current_time() <= begun + grace + slack
        with trio.fail_after(5):
            await stopped.wait()
        nursery.cancel_scope.cancel()
    check_empty(server)
    witness.check()
    check_log(caplog)
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before
    return sum(client.whole for client in met)


@pytest.mark.parametrize("seed", SEEDS[: MORE or 8])
async def test_a_storm_over_memory_streams_leaves_nothing_behind(
    seed: int,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Who comes first in a batch is chance in Trio too; from the seed, it is the same again.
    monkeypatch.setattr("trio._core._run._r", random.Random(seed))
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    await storm(seed, caplog, tcp=False, edge_poll=False, clients=30)


@pytest.mark.interop
@pytest.mark.parametrize("edge_poll", [True, False], ids=["edges", "without_edges"])
@pytest.mark.parametrize("seed", SEEDS[: MORE or 3])
async def test_a_storm_over_tcp_leaves_nothing_behind(
    seed: int, edge_poll: bool, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    autojump_clock.autojump_threshold = media.PAUSE
    before = len(media.descriptors())
    await storm(seed, caplog, tcp=True, edge_poll=edge_poll, clients=30)
    assert len(media.descriptors()) == before


async def test_a_storm_has_whole_answers_to_check(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Or the others would hold for a server that does nothing."""
    assert sum([await storm(seed, caplog, tcp=False, edge_poll=False, clients=30) for seed in (0, 1)]) > 20
