"""What a server tells its instruments, whatever becomes of its connections and exchanges (S49, S50, S54, N9).

The promise of `trio_http.instruments`: an exchange that has started is finished exactly once, a connection
that was opened is closed exactly once, and its last exchange is finished before that. `Witness` holds every
scene here to it.
"""

from __future__ import annotations

import contextvars
import io
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.server.support import CLOSING_GET, GET, Handler, Peer, head, hello, post, serve
from trio_http import (
    AccessLog,
    CloseRecord,
    ConnectionRecord,
    Counters,
    ExchangeRecord,
    HTTPException,
    Request,
    Response,
    Server,
    ServerConfig,
    ServerInstrument,
    ServerTimes,
    serve_connection,
    serve_tcp,
)
from trio_http.transport import Address


class Witness(ServerInstrument):
    """Keeps what it is told, and sees that it fits together.

    Attributes:
      exchanges, closings, failures: as told.
      refused: why connections were.
    """

    def __init__(self) -> None:
        self.exchanges: list[ExchangeRecord] = []
        self.closings: list[CloseRecord] = []
        self.failures: list[ExchangeRecord] = []
        self.refused: list[str] = []
        self.open: dict[int, ConnectionRecord] = {}
        self.running: dict[int, int] = {}

    def connection_opened(self, connection: ConnectionRecord) -> None:
        assert connection.id not in self.open
        assert all(closing.connection.id != connection.id for closing in self.closings)
        self.open[connection.id] = connection

    def exchange_started(self, connection: ConnectionRecord, number: int, method: str, target: str) -> None:
        assert self.open[connection.id] is connection
        assert connection.id not in self.running
        before = [each for each in self.exchanges if each.connection is connection]
        assert number == len(before) + 1
        self.running[connection.id] = number

    def handler_failed(self, exchange: ExchangeRecord) -> None:
        assert self.running[exchange.connection.id] == exchange.number
        assert exchange.error is not None
        self.failures.append(exchange)

    def exchange_finished(self, exchange: ExchangeRecord) -> None:
        assert self.running.pop(exchange.connection.id) == exchange.number
        assert (exchange.error is None) == (exchange not in self.failures)
        assert exchange.duration >= 0
        self.exchanges.append(exchange)

    def connection_closed(self, closing: CloseRecord) -> None:
        assert closing.connection.id not in self.running
        assert self.open.pop(closing.connection.id) is closing.connection
        assert closing.exchanges == sum(each.connection is closing.connection for each in self.exchanges)
        self.closings.append(closing)

    def connection_refused(self, peername: Address, why: str) -> None:
        self.refused.append(why)

    @property
    def is_settled(self) -> bool:
        """Nothing that was begun is unfinished."""
        return not self.open and not self.running

    @property
    def exchange(self) -> ExchangeRecord:
        """The only exchange that there was."""
        (exchange,) = self.exchanges
        return exchange

    @property
    def why(self) -> str:
        """How the only connection ended."""
        assert self.is_settled
        (closing,) = self.closings
        return closing.why


def watched_by(witness: Witness, **settings: Any) -> ServerConfig:
    return ServerConfig(instruments=[witness], **settings)


@pytest.fixture
def witness(caplog: pytest.LogCaptureFixture) -> Iterator[Witness]:
    """A witness to whom nothing was told that does not fit: that would have been logged."""
    witness = Witness()
    yield witness
    assert not [record for record in caplog.get_records("call") if record.args and witness in record.args]


# ----------------------------------------------------------------------------------------- ordinary exchanges


async def test_an_exchange_is_told_with_all_its_facts(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, witness: Witness
) -> None:
    """S50: connection, request, bytes and time."""

    async def handler(request: Request) -> Response:
        content = await request.read()
        await trio.sleep(3)
        return Response(201, content * 2)

    await trio.sleep(5)
    peer = serve(nursery, handler, watched_by(witness))
    await trio.sleep(2)
    answer = await peer.ask(post(b"12345", "X-Y: z", target="/items?q=1"))
    assert answer.status == 201
    await peer.stream.aclose()
    await peer.finished.wait()

    exchange = witness.exchange
    assert (exchange.number, exchange.method, exchange.target) == (1, "POST", "/items?q=1")
    assert exchange.http_version == "1.1"
    assert exchange.headers["x-y"] == "z"
    assert (exchange.status, exchange.request_bytes, exchange.response_bytes) == (201, 5, 10)
    assert exchange.duration == pytest.approx(3, abs=0.5)
    assert exchange.started == pytest.approx(7, abs=0.5)
    assert (exchange.cancel_reason, exchange.error) == (None, None)
    assert witness.why == "client closed"
    assert witness.closings[0].exchanges == 1


async def test_exchanges_of_one_connection_are_numbered(nursery: trio.Nursery, witness: Witness) -> None:
    peer = serve(nursery, hello, watched_by(witness))
    for _ in range(3):
        await peer.ask()
    await peer.send(GET, GET)
    await peer.answer()
    await peer.answer()
    await peer.stream.aclose()
    await peer.finished.wait()
    assert [exchange.number for exchange in witness.exchanges] == [1, 2, 3, 4, 5]
    assert witness.closings[0].exchanges == 5


async def test_a_connection_that_asks_for_the_close_is_counted_whole(
    nursery: trio.Nursery, witness: Witness
) -> None:
    peer = serve(nursery, hello, watched_by(witness))
    await peer.ask()
    await peer.ask(CLOSING_GET)
    await peer.finished.wait()
    assert [exchange.status for exchange in witness.exchanges] == [200, 200]
    assert witness.why == "server closed"


async def test_the_bytes_of_a_streamed_answer_are_those_of_its_content(
    nursery: trio.Nursery, witness: Witness
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(206) as body:
            for _ in range(3):
                await body.send_all(b"piece")

    peer = serve(nursery, handler, watched_by(witness))
    await peer.ask()
    await peer.stream.aclose()
    await peer.finished.wait()
    assert (witness.exchange.status, witness.exchange.response_bytes) == (206, 15)


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_answer_to_head_has_sent_no_content(
    nursery: trio.Nursery, witness: Witness, streamed: bool
) -> None:
    async def handler(request: Request) -> Response | None:
        if not streamed:
            return Response(200, b"content")
        async with request.stream_response() as body:
            await body.send_all(b"content")
        return None

    peer = serve(nursery, handler, watched_by(witness))
    await peer.ask(head("HEAD"))
    await peer.stream.aclose()
    await peer.finished.wait()
    assert (witness.exchange.status, witness.exchange.response_bytes) == (200, 0)


async def test_an_unread_body_that_was_thrown_away_was_received(
    nursery: trio.Nursery, witness: Witness
) -> None:
    peer = serve(nursery, hello, watched_by(witness))
    await peer.ask(post(b"x" * 100))
    await peer.ask()
    await peer.stream.aclose()
    await peer.finished.wait()
    assert [exchange.request_bytes for exchange in witness.exchanges] == [100, 0]


async def test_a_closing_exchange_lasts_until_its_answer_and_not_until_the_client_has_gone(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, witness: Witness
) -> None:
    """The lingering close is the connection's, and may take seconds."""

    async def handler(request: Request) -> Response:
        return Response(200, headers={"Connection": "close"})

    peer = serve(nursery, handler, watched_by(witness))
    assert (await peer.ask()).closes
    await trio.sleep(1)
    assert witness.exchange.duration < 0.5
    await peer.finished.wait()
    assert witness.closings[0].duration > 1.5  # the client has not closed, so the server lingered


async def test_the_record_of_an_exchange_keeps_no_connection_alive(
    nursery: trio.Nursery, witness: Witness
) -> None:
    peer = serve(nursery, hello, watched_by(witness))
    await peer.ask()
    await peer.stream.aclose()
    await peer.finished.wait()
    assert "Transport" not in repr(attrs.asdict(witness.exchange))


# ------------------------------------------------------------------------------ whatever becomes of exchanges


@pytest.mark.parametrize("error", [RuntimeError("x"), ExceptionGroup("g", [KeyError(1), OSError(2)])])
async def test_a_failed_handler_is_told_once_with_the_whole_error_and_its_answer(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, witness: Witness, error: Exception
) -> None:
    """S53, S54, N9."""

    async def handler(request: Request) -> Response:
        if request.path == "/fails":
            raise error
        return Response(200)

    peer = serve(nursery, handler, watched_by(witness))
    assert (await peer.ask(head("GET", "/fails"))).status == 500
    assert (await peer.ask()).status == 200
    await peer.stream.aclose()
    await peer.finished.wait()
    assert [failure.error for failure in witness.failures] == [error]
    assert [exchange.error for exchange in witness.exchanges] == [error, None]
    assert [exchange.status for exchange in witness.exchanges] == [500, 200]
    assert witness.why == "client closed"


async def test_a_connection_that_outlived_a_failure_did_not_end_by_it(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, witness: Witness
) -> None:
    async def handler(request: Request) -> Response:
        raise RuntimeError

    peer = serve(nursery, handler, watched_by(witness))
    assert (await peer.ask()).status == 500
    await peer.stream.aclose()
    await peer.finished.wait()
    assert witness.why == "client closed"


async def test_several_failures_of_one_request_are_one_group_with_the_request_beside_it(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, witness: Witness
) -> None:
    """N9: nothing is lost, and nothing crosses to other connections."""

    async def child(number: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError(number)

    async def handler(request: Request) -> Response:
        async with trio.open_nursery() as children:
            for number in range(3):
                children.start_soon(child, number)
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError("the first")

    peer = serve(nursery, handler, watched_by(witness))
    assert (await peer.ask(head("GET", "/many"))).status == 500
    await peer.stream.aclose()
    await peer.finished.wait()
    (failure,) = witness.failures
    assert isinstance(failure.error, ExceptionGroup)
    assert sorted(map(repr, failure.error.exceptions)) == [
        "KeyError('the first')", "ValueError(0)", "ValueError(1)", "ValueError(2)",
    ]  # fmt: skip
    assert (failure.method, failure.target) == ("GET", "/many")
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "<Request GET /many>" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is failure.error


async def test_an_http_exception_is_an_answer_and_no_failure(nursery: trio.Nursery, witness: Witness) -> None:
    async def handler(request: Request) -> Response:
        if request.path == "/grouped":
            raise ExceptionGroup("a nursery's", [HTTPException(404)])
        raise HTTPException(403)

    peer = serve(nursery, handler, watched_by(witness))
    await peer.ask()
    await peer.ask(head("GET", "/grouped"))
    await peer.stream.aclose()
    await peer.finished.wait()
    assert [exchange.status for exchange in witness.exchanges] == [403, 404]
    assert witness.failures == []


async def test_an_abort_is_told_with_the_status_that_was_out_already(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, witness: Witness
) -> None:
    failure = RuntimeError("midway")

    async def handler(request: Request) -> None:
        async with request.stream_response() as body:
            await body.send_all(b"part")
            raise failure

    peer = serve(nursery, handler, watched_by(witness))
    await peer.send(GET)
    await peer.rest()
    await peer.finished.wait()
    assert (witness.exchange.status, witness.exchange.response_bytes) == (200, 4)
    assert witness.exchange.error is failure
    assert witness.why == "handler failed"


async def test_no_answer_has_no_status(nursery: trio.Nursery, witness: Witness) -> None:
    async def handler(request: Request) -> Response:
        await trio.sleep_forever()

    peer = serve(nursery, handler, watched_by(witness))
    await peer.send(GET)
    await trio.testing.wait_all_tasks_blocked(0.01)
    await peer.stream.aclose()
    await peer.finished.wait()
    assert (witness.exchange.status, witness.exchange.response_bytes) == (None, 0)
    assert witness.exchange.cancel_reason == "client disconnected"
    assert witness.exchange.error is None
    assert witness.why == "client disconnected"


async def test_a_client_that_left_within_a_streamed_answer_is_why_the_connection_ended(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock, witness: Witness
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response() as body:
            await body.send_all(b"x")
            await go_on.wait()
            # The clock stands still, so that the send finds out, and no watch over disconnects.
            while True:
                await body.send_all(b"x" * 100_000)

    go_on = trio.Event()
    client, server = trio.testing.memory_stream_pair()
    peer = serve(nursery, handler, watched_by(witness), (client, server))
    await peer.send(GET)
    await peer.head()
    await client.aclose()
    go_on.set()
    await peer.finished.wait()
    assert (witness.exchange.status, witness.exchange.error) == (200, None)
    assert witness.why == "client disconnected"


async def test_a_client_that_left_before_its_whole_answer_went_out_is_why_the_connection_ended(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock, witness: Witness
) -> None:
    async def handler(request: Request) -> Response:
        await go_on.wait()
        return Response(200)

    go_on = trio.Event()
    client, server = trio.testing.memory_stream_pair()
    peer = serve(nursery, handler, watched_by(witness), (client, server))
    await peer.send(GET)
    await trio.testing.wait_all_tasks_blocked()
    await client.aclose()
    go_on.set()
    await peer.finished.wait()
    assert witness.exchange.error is None
    assert witness.why == "client disconnected"


async def test_a_failed_clean_up_of_a_cancelled_handler_is_told_with_the_cancels_reason(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, witness: Witness
) -> None:
    failure = RuntimeError("clean-up")

    async def handler(request: Request) -> Response:
        try:
            await trio.sleep_forever()
        finally:
            raise failure

    peer = serve(nursery, handler, watched_by(witness))
    await peer.send(GET)
    await trio.testing.wait_all_tasks_blocked(0.01)
    await peer.stream.aclose()
    await peer.finished.wait()
    assert witness.exchange.cancel_reason == "client disconnected"
    assert witness.exchange.error is failure


async def test_a_deadline_is_told_with_the_answer_that_it_got(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, witness: Witness
) -> None:
    async def handler(request: Request) -> Response:
        if request.path == "/slow":
            await trio.sleep(100)
        return Response(200)

    peer = serve(nursery, handler, watched_by(witness, times=ServerTimes(request=10)))
    assert (await peer.ask(head("GET", "/slow"))).status == 503
    assert (await peer.ask()).status == 200
    await peer.stream.aclose()
    await peer.finished.wait()
    first, second = witness.exchanges
    assert (first.status, first.cancel_reason, first.error) == (503, "deadline", None)
    assert first.duration == pytest.approx(10, abs=0.5)
    assert (second.status, second.cancel_reason) == (200, None)
    assert witness.why == "client closed"


@pytest.mark.parametrize(
    ("sent", "status", "why"),
    [
        (b"", None, "head too slow"),
        (b"GET / HT", None, "head too slow"),
        (GET, 200, "idle for too long"),
        (head("POST", "/", "Content-Length: 5") + b"ab", 408, "body too slow"),
    ],
)
async def test_a_client_that_is_too_slow_is_told_with_what(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    witness: Witness,
    sent: bytes,
    status: int | None,
    why: str,
) -> None:
    async def handler(request: Request) -> Response:
        await request.read()
        return Response(200)

    peer = serve(nursery, handler, watched_by(witness))
    await peer.send(sent)
    await peer.rest()
    await peer.stream.aclose()
    await peer.finished.wait()
    assert witness.why == why
    assert [exchange.status for exchange in witness.exchanges] == ([] if status is None else [status])
    if status == 408:
        assert witness.exchange.cancel_reason == why
        assert witness.exchange.request_bytes == 2


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"GARBAGE\r\n\r\n", []),
        (GET + b"GARBAGE\r\n\r\n", [200]),
        (head("POST", "/", "Transfer-Encoding: chunked") + b"zz\r\n", [400]),
    ],
)
async def test_a_broken_protocol_is_why_a_connection_ends_and_nobodys_failure(
    nursery: trio.Nursery, witness: Witness, sent: bytes, statuses: list[int]
) -> None:
    async def handler(request: Request) -> Response:
        await request.read()
        return Response(200)

    peer = serve(nursery, handler, watched_by(witness))
    await peer.send(sent)
    await peer.rest()
    await peer.stream.aclose()
    await peer.finished.wait()
    assert [exchange.status for exchange in witness.exchanges] == statuses
    assert witness.failures == []
    assert witness.why == "protocol error"


async def test_an_upgrade_is_an_exchange_with_101_that_lasts_as_long_as_its_block(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, witness: Witness
) -> None:
    async def handler(request: Request) -> None:
        async with request.upgrade("echo"):
            await trio.sleep(30)

    peer = serve(nursery, handler, watched_by(witness))
    await peer.send(head("GET", "/", "Connection: upgrade", "Upgrade: echo"))
    assert (await peer.head()).status == 101
    await peer.rest()
    await peer.finished.wait()
    assert witness.exchange.status == 101
    assert witness.exchange.duration == pytest.approx(30, abs=0.5)
    assert witness.why == "upgraded"


async def sleeping(request: Request) -> Response:
    await trio.sleep_forever()


async def streaming(request: Request) -> None:
    async with request.stream_response() as body:
        await body.send_all(b"part")
        await trio.sleep_forever()


@pytest.mark.interop
async def test_a_whole_server_that_is_cancelled_settles_every_account(witness: Witness) -> None:
    async def app(request: Request) -> Response | None:
        match request.path:
            case "/sleeping":
                return await sleeping(request)
            case "/streaming":
                return await streaming(request)
            case "/upgraded":
                async with request.upgrade("echo"):
                    await trio.sleep_forever()
        return Response(200)

    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(_serve(app, witness))
        streams = []
        for path in ("/", "/sleeping", "/streaming", "/upgraded"):
            stream = await trio.testing.open_stream_to_socket_listener(server.listeners[0])
            streams.append(stream)
            await stream.send_all(head("GET", path, "Connection: upgrade", "Upgrade: echo"))
            if path != "/sleeping":
                await stream.receive_some()
        await until(lambda: server.statistics().handling == 3)
        assert len(witness.open) == 4
        nursery.cancel_scope.cancel()
    for stream in streams:
        await trio.aclose_forcefully(stream)
    assert witness.is_settled
    assert sorted((each.target, each.status) for each in witness.exchanges if each.target != "/sleeping") == [
        ("/", 200), ("/streaming", 200), ("/upgraded", 101),
    ]  # fmt: skip
    assert {each.why for each in witness.closings} == {
        "server closed",
        "aborted: server cancelled",
        "upgraded",
    }


@pytest.mark.interop
@pytest.mark.parametrize("grace", [0, 0.1])
async def test_a_drained_server_settles_every_account(witness: Witness, grace: float) -> None:
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(_serve(sleeping, witness))
        idle = await trio.testing.open_stream_to_socket_listener(server.listeners[0])
        busy = await trio.testing.open_stream_to_socket_listener(server.listeners[0])
        await busy.send_all(GET)
        await until(lambda: server.statistics().handling == 1 and len(witness.open) == 2)
        await server.shutdown(grace)
    assert witness.is_settled
    assert [closing.why for closing in witness.closings] == ["drain", "drain"]
    assert (witness.exchange.status, witness.exchange.cancel_reason) == (None, "drain")
    for stream in (idle, busy):
        await stream.aclose()


@pytest.mark.interop
async def test_connections_beyond_the_limit_are_refused_and_were_never_opened(witness: Witness) -> None:
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(_serve(hello, witness, max_connections=1))
        first = Peer(await trio.testing.open_stream_to_socket_listener(server.listeners[0]))
        await first.ask()
        second = Peer(await trio.testing.open_stream_to_socket_listener(server.listeners[0]))
        assert (await second.answer()).status == 503
        assert witness.refused == ["too many connections"]
        assert len(witness.open) == 1
        nursery.cancel_scope.cancel()
    await first.stream.aclose()
    await second.stream.aclose()
    assert len(witness.closings) == 1


async def until(condition: Callable[[], bool]) -> None:
    """Let everybody else run until it is so; the kernel brings what they wait for in its own time."""
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - there is no event for what a kernel does
            await trio.sleep(0.001)


def _serve(app: Handler, witness: Witness, **settings: Any) -> Callable[..., Awaitable[None]]:
    async def run(task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED) -> None:
        await serve_tcp(app, 0, config=watched_by(witness, **settings), task_status=task_status)

    return run


# --------------------------------------------------------------------------------- interrupts, also in groups


@pytest.mark.interop
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_an_interrupt_in_a_handler_stops_the_server(
    kind: type[BaseException], depth: int, witness: Witness
) -> None:
    """N9, also from within groups; and the accounts are settled all the same."""
    interrupt = kind("now")

    async def app(request: Request) -> Response:
        error: BaseException = interrupt
        for _ in range(depth):
            error = BaseExceptionGroup("a nursery's", [error])
        raise error

    async def visit(server: Server) -> None:
        stream = await trio.testing.open_stream_to_socket_listener(server.listeners[0])
        async with stream:
            await stream.send_all(GET)
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

    with pytest.raises(BaseException) as caught:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(_serve(app, witness))
            nursery.start_soon(visit, server)
    leaves = caught.value
    while isinstance(leaves, BaseExceptionGroup):
        (leaves,) = leaves.exceptions
    assert leaves is interrupt
    assert witness.is_settled


@pytest.mark.interop
async def test_an_error_beside_an_interrupt_comes_out_with_it(witness: Witness) -> None:
    async def app(request: Request) -> Response:
        raise BaseExceptionGroup("both", [KeyboardInterrupt(), ValueError("beside")])

    async def visit(server: Server) -> None:
        async with await trio.testing.open_stream_to_socket_listener(server.listeners[0]) as stream:
            await stream.send_all(GET)
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(_serve(app, witness))
            nursery.start_soon(visit, server)
    assert caught.value.subgroup(KeyboardInterrupt) is not None
    assert caught.value.subgroup(ValueError) is not None
    assert witness.is_settled


# ----------------------------------------------------------------------------------------- broken instruments


HOOKS = (
    "connection_opened connection_closed exchange_started exchange_finished handler_failed connection_refused"
).split()


@pytest.mark.parametrize("hook", HOOKS[:-1])
async def test_an_instrument_that_raises_harms_nobody(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, witness: Witness, hook: str
) -> None:
    calls = []

    def fail(self: ServerInstrument, *args: object) -> None:
        calls.append(args)
        raise RuntimeError("broken instrument")

    async def handler(request: Request) -> Response:
        if request.path == "/fails":
            raise KeyError
        return Response(200)

    broken = type("Broken", (ServerInstrument,), {hook: fail})()
    peer = serve(nursery, handler, ServerConfig(instruments=[broken, witness]))
    statuses = [(await peer.ask(head("GET", path))).status for path in ("/", "/fails", "/fails", "/")]
    assert statuses == [200, 500, 500, 200]
    await peer.stream.aclose()
    await peer.finished.wait()
    assert len(calls) == 1
    assert len(witness.exchanges) == 4
    assert witness.is_settled
    (record,) = [each for each in caplog.records if each.name == "trio_http.instruments"]
    assert "is left out from now on" in record.getMessage()


# --------------------------------------------------------------------------------------------- the access log


def logged(form: Any) -> tuple[AccessLog, io.StringIO]:
    lines = io.StringIO()
    logger = logging.Logger("a test's own", logging.INFO)
    logger.addHandler(logging.StreamHandler(lines))
    return AccessLog(form, logger=logger), lines


@pytest.mark.interop
@pytest.mark.parametrize("form", ["common", "combined"])
async def test_each_exchange_is_a_line_of_apaches(form: str, witness: Witness) -> None:
    """S49, end to end."""
    log, lines = logged(form)
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[Server]) -> None:
            await serve_tcp(hello, 0, config=ServerConfig(instruments=[log]), task_status=task_status)

        server = await nursery.start(run)
        peer = Peer(await trio.testing.open_stream_to_socket_listener(server.listeners[0]))
        await peer.ask(head("GET", '/a"b', "User-Agent: me/1"))
        await peer.ask(head("POST", "/", "Content-Length: 0", "Referer: http://x/"))
        await peer.stream.aclose()
        await server.shutdown()
    agents = ['"-" "me/1"', '"http://x/" "-"'] if form == "combined" else ["", ""]
    for line, (request, size), agent in zip(
        lines.getvalue().splitlines(),
        [('GET /a\\"b HTTP/1.1', 9), ("POST / HTTP/1.1", 7)],
        agents,
        strict=True,
    ):
        prefix, _, rest = line.partition('"')
        assert re.fullmatch(r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] ", prefix)
        assert rest == f'{request}" 200 {size} {agent}'.rstrip()


async def test_each_exchange_is_an_object_of_json(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log, lines = logged("json")

    async def handler(request: Request) -> Response:
        match request.path:
            case "/fails":
                raise ExceptionGroup("g", [KeyError(), ValueError()])
            case "/slow":
                await trio.sleep(100)
        return Response(200, text="fine")

    peer = serve(nursery, handler, ServerConfig(instruments=[log], times=ServerTimes(request=10), date=False))
    for path in ("/", "/fails", "/slow"):
        await peer.ask(head("GET", path))
    await peer.stream.aclose()
    await peer.finished.wait()
    first, second, third = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (first["status"], first["response_bytes"], first["error"]) == (200, 4, None)
    assert (second["status"], second["error"]) == (500, "ExceptionGroup(KeyError, ValueError)")
    assert (third["status"], third["cancel_reason"]) == (503, "deadline")
    assert third["duration"] == pytest.approx(10, abs=0.5)
    assert [each["exchange"] for each in (first, second, third)] == [1, 2, 3]


async def test_the_counters_agree_with_what_happened(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()

    async def handler(request: Request) -> Response:
        if request.path == "/fails":
            raise KeyError
        return Response(200, await request.read() * 2)

    peer = serve(nursery, handler, ServerConfig(instruments=[counters]))
    await peer.ask(post(b"123"))
    await peer.ask(head("GET", "/fails"))
    assert (counters.connections_open, counters.exchanges_open) == (1, 0)
    await peer.stream.aclose()
    await peer.finished.wait()
    assert (counters.connections_opened, counters.connections_open) == (1, 0)
    assert counters.connections_closed == {"client closed": 1}
    assert counters.responses == {"2xx": 1, "5xx": 1}
    assert (counters.handler_errors, counters.request_bytes) == (1, 3)
    assert sum(counters.duration_counts) == 2


# --------------------------------------------------------------------------------- a context for each request


request_id = contextvars.ContextVar[str]("request_id", default="none")


async def test_context_variables_are_each_requests_own_also_in_what_it_logs(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """S61: on one kept connection, pipelined or not, also after a failure; and the log of that has them."""
    seen = []
    ids = []

    def note(record: logging.LogRecord) -> bool:
        ids.append(request_id.get())
        return True

    class Noting(ServerInstrument):
        def exchange_finished(self, exchange: ExchangeRecord) -> None:
            ids.append(request_id.get())

    async def child() -> None:
        seen.append(request_id.get())
        request_id.set("the child's")

    async def handler(request: Request) -> Response:
        seen.append(request_id.get())
        request_id.set(request.path)
        async with trio.open_nursery() as children:
            children.start_soon(child)
        seen.append(request_id.get())
        if request.path == "/fails":
            raise KeyError
        return Response(200)

    logger = logging.getLogger("trio_http.server")
    logger.addFilter(note)
    try:
        peer = serve(nursery, handler, ServerConfig(instruments=[Noting()]))
        await peer.send(head("GET", "/fails"), head("GET", "/1"), head("GET", "/2"))
        assert [(await peer.answer()).status for _ in range(3)] == [500, 200, 200]
        await peer.ask(head("GET", "/3"))
    finally:
        logger.removeFilter(note)
    paths = ["/fails", "/1", "/2", "/3"]
    assert seen == [value for path in paths for value in ("none", path, path)]
    assert ids == ["/fails", *paths]  # the log of the failure, and then each end


async def test_serving_in_a_task_of_ones_own_leaves_its_context_as_it_was(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        assert request_id.get() == "the caller's"
        request_id.set("the handler's")
        return Response(200)

    client, server = trio.testing.memory_stream_pair()
    done = trio.Event()

    async def caller() -> None:
        request_id.set("the caller's")
        await serve_connection(handler, server)
        assert request_id.get() == "the caller's"
        await trio.lowlevel.checkpoint()
        assert request_id.get() == "the caller's"
        done.set()

    nursery.start_soon(caller)
    peer = Peer(client)
    for _ in range(2):
        assert (await peer.ask()).status == 200
    await peer.stream.aclose()
    await done.wait()


async def test_connections_of_one_server_share_no_context(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        before = request_id.get()
        request_id.set(request.path)
        await trio.lowlevel.checkpoint()
        return Response(200, text=f"{before} {request_id.get()}")

    peers = [serve(nursery, handler) for _ in range(3)]
    for number, peer in enumerate(peers):
        await peer.send(head("GET", f"/{number}"))
    for number, peer in enumerate(peers):
        assert (await peer.answer()).content.decode() == f"none /{number}"
