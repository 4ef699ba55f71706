"""A client that goes away: its handler is cancelled, is told why, and is not blamed.

The policy, and what cannot be noticed, is in `docs/explanation/disconnects.md`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator

import attrs
import pytest
import trio
import trio.lowlevel
import trio.testing

from tests.server.media import Medium
from tests.server.running import (
    IN_EVERY_MEDIUM,
    OVER_TCP,
    Witness,
    blamed,
    leave,
    reset,
    run_server,
    settle,
    until_the_kernel_knows,
)
from tests.server.support import GET, Handler, Peer, chunk, head, post, serve
from trio_http import CancelReason, ClientDisconnected, Request, Response, ServerConfig
from trio_http.instruments import ExchangeRecord, ServerInstrument

#: How long a handler runs before somebody reads beside it, in seconds, where only reading tells.
NOTICE = 0.05

#: The most that noticing may take on a machine that is busy with other things, in seconds.
SOON = 0.5


@pytest.fixture(autouse=True)
def nobody_is_blamed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Clients go away all the time: that is for no log that somebody reads."""
    caplog.set_level(logging.WARNING)
    yield
    assert blamed(caplog) == []


class Book(ServerInstrument):
    """Keeps what a server tells of its exchanges."""

    def __init__(self) -> None:
        self.exchanges: list[ExchangeRecord] = []

    def exchange_finished(self, exchange: ExchangeRecord) -> None:
        self.exchanges.append(exchange)


# -- the rule


@IN_EVERY_MEDIUM
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_handler_whose_client_has_gone_is_cancelled_and_told_why(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock, how: str
) -> None:
    """S25, S26, N4: on sockets in the epoll at once, elsewhere in 50 ms."""
    witness, book = Witness(), Book()
    running = await run_server(nursery, medium, witness.sleep, ServerConfig(instruments=[book]))
    peer = await running.client()
    start = trio.current_time()
    leave(peer.stream, how)
    await running.server.shutdown()
    assert witness.reasons == [("client disconnected", "client disconnected")]
    took = witness.times[0] - start
    assert took == 0 if medium in (Medium.TCP, Medium.TLS) else took == NOTICE
    (exchange,) = book.exchanges
    assert (exchange.status, exchange.cancel_reason, exchange.error) == (None, "client disconnected", None)


@IN_EVERY_MEDIUM
async def test_the_handlers_own_tasks_are_cancelled_for_the_same_reason(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    witness = Witness()

    async def app(request: Request) -> Response:
        async with trio.open_nursery() as tasks:
            for _ in range(3):
                tasks.start_soon(witness.sleep, request)
        return Response()

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    leave(peer.stream, "fin")
    await running.server.shutdown()
    assert witness.reasons == [("client disconnected", "client disconnected")] * 3


@IN_EVERY_MEDIUM
async def test_a_client_that_reads_on_is_no_disconnect(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """A long wait, with a read beside it where that is what it takes, and request after request."""

    async def app(request: Request) -> Response:
        await trio.sleep(30)
        return Response(text=request.target)

    running = await run_server(nursery, medium, app)
    peer = await running.connect()
    for target in ("/1", "/2", "/3"):
        assert (await peer.ask(head("GET", target))).content == target.encode()


@IN_EVERY_MEDIUM
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_streamed_answer_is_cancelled(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock, how: str
) -> None:
    """A40: server-sent events, cancelled in the wait between two."""
    witness = Witness()

    async def app(request: Request) -> None:
        with witness.watch(request):
            async with request.stream_response() as body:
                while True:
                    await body.send_all(b"data: tick\n\n")
                    await trio.sleep(60)

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    start = trio.current_time()
    leave(peer.stream, how)
    await running.server.shutdown()
    assert witness.reasons == [("client disconnected", "client disconnected")]
    assert witness.times[0] - start <= NOTICE


@IN_EVERY_MEDIUM
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_client_that_goes_within_its_body_ends_the_read(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock, how: str
) -> None:
    """The handler that lets it pass is not blamed, and needs no `except`."""
    ends: list[str] = []

    async def app(request: Request) -> Response:
        try:
            await request.read()
        except BaseException as exc:
            ends.append(type(exc).__name__)
            raise
        return Response()

    running = await run_server(nursery, medium, app)
    peer = await running.client(head("POST", "/", "Content-Length: 10") + b"12345")
    leave(peer.stream, how)
    await running.server.shutdown()
    assert ends[0] in ("ClientDisconnected", "RemoteProtocolError", "Cancelled")


@IN_EVERY_MEDIUM
@pytest.mark.parametrize(
    "part",
    [b"", b"GE", b"GET / HTTP/1.1\r\nHost: exam", GET[:-1]],
    ids=["nothing", "method", "host", "all but one"],
)
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_client_that_goes_before_its_request_is_here_calls_nobody(
    nursery: trio.Nursery,
    medium: Medium,
    autojump_clock: trio.testing.MockClock,
    part: bytes,
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    witness = Witness()
    running = await run_server(nursery, medium, witness.sleep)
    peer = await running.client(part) if part else await running.connect()
    leave(peer.stream, how)
    await settle()
    assert running.server.statistics().connections == 0
    assert witness.begun == []
    # Half a head is the client's breach of the protocol, which whoever wants to know is told.
    assert {record.levelname for record in caplog.records} <= {"INFO"}
    caplog.clear()


@IN_EVERY_MEDIUM
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_client_that_goes_between_exchanges_is_no_event(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock, how: str
) -> None:
    async def app(request: Request) -> Response:
        return Response(text="hello")

    book = Book()
    running = await run_server(nursery, medium, app, ServerConfig(instruments=[book]))
    peer = await running.connect()
    await peer.ask()
    leave(peer.stream, how)
    await settle()
    assert running.server.statistics().connections == 0
    assert [exchange.cancel_reason for exchange in book.exchanges] == [None]


# -- what is owed to a client that only sends no more


@OVER_TCP
async def test_an_answer_that_was_ready_is_written_behind_a_fin(
    nursery: trio.Nursery, medium: Medium
) -> None:
    """A shell's ``printf ... | nc host port`` gets its answer: the end was there before the handler."""

    async def app(request: Request) -> Response:
        return Response(text="ready")

    running = await run_server(nursery, medium, app)
    peer = await running.connect()
    await peer.send(GET)
    await peer.stream.send_eof()
    assert (await peer.answer()).content == b"ready"
    assert await peer.is_closed_by_server()


@OVER_TCP
async def test_what_was_finished_is_answered_behind_a_fin(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    async def app(request: Request) -> Response:
        with request.finish(within=10):
            await trio.sleep(3)
        return Response(text="committed")

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    await peer.stream.send_eof()
    assert (await peer.answer()).content == b"committed"
    assert await peer.is_closed_by_server()


@OVER_TCP
async def test_a_half_closed_client_is_answered_where_that_is_the_policy(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """S28."""

    async def app(request: Request) -> None:
        async with request.stream_response() as body:
            await trio.sleep(30)
            await body.send_all(b"late")

    running = await run_server(nursery, medium, app, ServerConfig(half_close="answer"))
    peer = await running.client()
    await peer.stream.send_eof()
    assert (await peer.answer()).content == b"late"
    assert await peer.is_closed_by_server()


async def test_the_policy_holds_over_memory_streams_too(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S28, where only reading tells of the FIN."""

    async def app(request: Request) -> Response:
        await trio.sleep(30)
        return Response(text="late")

    client, server = trio.testing.memory_stream_pair()
    peer = serve(nursery, app, ServerConfig(half_close="answer"), streams=(client, server))
    await peer.send(GET)
    await client.send_eof()
    assert (await peer.answer()).content == b"late"
    await peer.finished.wait()


@OVER_TCP
async def test_a_reset_cancels_whatever_the_policy(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    witness = Witness()
    running = await run_server(nursery, medium, witness.sleep, ServerConfig(half_close="answer"))
    peer = await running.client()
    leave(peer.stream, "reset")
    await running.server.shutdown()
    assert witness.reasons == [("client disconnected", "client disconnected")]


@pytest.mark.parametrize("medium", [pytest.param(Medium.TLS, marks=pytest.mark.interop)], indirect=True)
async def test_the_end_of_a_tls_client_cancels_whatever_the_policy(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """TLS ends both directions at once in practice: nobody reads on behind its closure alert."""
    witness = Witness()
    running = await run_server(nursery, medium, witness.sleep, ServerConfig(half_close="answer"))
    peer = await running.client()
    await peer.stream.send_eof()
    await running.server.shutdown()
    assert witness.reasons == [("client disconnected", "client disconnected")]


# -- how soon


@OVER_TCP
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_sleeping_handler_is_cancelled_within_milliseconds(
    nursery: trio.Nursery, medium: Medium, how: str
) -> None:
    """S25 on the real clock."""
    witness = Witness()
    running = await run_server(nursery, medium, witness.sleep)
    peer = await running.client()
    start = trio.current_time()
    leave(peer.stream, how)
    with trio.fail_after(10):
        await running.server.shutdown()
    assert witness.times[0] - start < SOON


@pytest.mark.parametrize("medium", [pytest.param(Medium.TCP, marks=pytest.mark.interop)], indirect=True)
@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("streams", [False, True])
async def test_a_handler_that_computes_meets_the_cancel_at_its_next_checkpoints(
    nursery: trio.Nursery, medium: Medium, how: str, streams: bool
) -> None:
    """S25, A40, counted in checkpoints: the first lets the server look, by the third it is cancelled."""
    passed: list[int] = []
    reasons: list[CancelReason | None] = []
    peers: list[Peer] = []

    async def app(request: Request) -> None:
        async with request.stream_response() as body:
            leave(peers[0].stream, how)
            until_the_kernel_knows(request)  # that is the computing: no other task has run
            try:
                for count in range(100):
                    if streams:
                        await body.send_all(b"more")
                    else:
                        await trio.lowlevel.checkpoint()
                    passed.append(count)
            except (trio.Cancelled, ClientDisconnected):  # a send may meet it first
                reasons.append(request.cancel_reason)
                raise

    running = await run_server(nursery, medium, app)
    peers.append(await running.connect())
    await peers[0].send(GET)
    with trio.fail_after(10):
        await settle()
        await running.server.shutdown()
    assert reasons == [CancelReason.CLIENT_DISCONNECTED]
    assert len(passed) <= 2


@IN_EVERY_MEDIUM
async def test_a_handler_that_passes_over_a_failed_send_is_cancelled_all_the_same(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """It used to live on for as long as it liked: the send that met the end had closed what tells of it."""
    witness = Witness()
    gone = trio.Event()

    async def app(request: Request) -> None:
        async with request.stream_response() as body:
            with request.finish(within=5):
                await gone.wait()
                with pytest.raises(ClientDisconnected):
                    for _ in range(100):
                        await body.send_all(bytes(1 << 16))
            await witness.sleep(request)

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    leave(peer.stream, "reset")
    gone.set()
    await running.server.shutdown(grace=100)
    assert witness.reasons == [("client disconnected", "client disconnected")]


# -- where the end lies behind something


@pytest.mark.parametrize("medium", [pytest.param(Medium.TCP, marks=pytest.mark.interop)], indirect=True)
async def test_an_end_behind_pipelined_requests_is_noticed_in_the_epoll(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    witness = Witness()
    running = await run_server(nursery, medium, witness.sleep)
    peer = await running.client(head("GET", "/1") + head("GET", "/2"))
    leave(peer.stream, "fin")
    await running.server.shutdown()
    assert witness.begun == ["/1"]
    assert witness.reasons == [("client disconnected", "client disconnected")]


@pytest.mark.parametrize(
    "medium",
    [Medium.MEMORY, pytest.param(Medium.TCP_WITHOUT_EDGES, marks=pytest.mark.interop)],
    indirect=True,
    ids=["memory", "tcp_without_edges"],
)
@pytest.mark.parametrize(("behind", "is_noticed"), [(1, True), (2000, False)])
async def test_where_only_reading_tells_an_end_shows_behind_as_much_as_one_receive_brings(
    nursery: trio.Nursery,
    medium: Medium,
    autojump_clock: trio.testing.MockClock,
    behind: int,
    is_noticed: bool,
) -> None:
    """A documented limit: nobody reads further ahead, for that would be a buffer of the client's choice."""
    answers: list[str] = []

    async def app(request: Request) -> Response:
        await trio.sleep(10)
        answers.append(request.target)
        return Response()

    running = await run_server(nursery, medium, app)
    peer = await running.client(head("GET", "/1") + head("GET", "/" + "2" * 50) * behind)
    start = trio.current_time()
    await peer.stream.send_eof()
    await running.server.shutdown()
    assert answers == ([] if is_noticed else ["/1"])
    assert trio.current_time() - start <= (NOTICE if is_noticed else 10 + 2 * NOTICE)


@IN_EVERY_MEDIUM
async def test_an_end_behind_a_body_that_nobody_has_read_is_noticed(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """The request is complete, whether its handler cares for its content or not."""
    witness = Witness()
    running = await run_server(nursery, medium, witness.sleep)
    peer = await running.client(post(b"content"))
    start = trio.current_time()
    leave(peer.stream, "fin")
    await running.server.shutdown(grace=100)
    assert witness.reasons == [("client disconnected", "client disconnected")]
    assert witness.times[0] - start <= NOTICE


@IN_EVERY_MEDIUM
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("goes", ["before it is read", "after"])
async def test_an_end_behind_a_body_that_was_read_is_noticed(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock, framing: str, goes: str
) -> None:
    witness = Witness()
    read = trio.Event()

    async def app(request: Request) -> Response:
        await trio.sleep(1)
        assert await request.read() == b"content"
        read.set()
        return await witness.sleep(request)

    running = await run_server(nursery, medium, app)
    request = (
        post(b"content")
        if framing == "length"
        else head("POST", "/", "Transfer-Encoding: chunked") + chunk(b"content") + chunk(b"")
    )
    peer = await running.client(request)
    start = trio.current_time()
    if goes == "after":
        await read.wait()
    leave(peer.stream, "fin")
    await running.server.shutdown(grace=100)
    if witness.times:
        assert witness.reasons == [("client disconnected", "client disconnected")]
        assert witness.times[0] - start <= 1 + NOTICE
    else:  # noticed before it was read: cancelled in the first sleep
        assert not read.is_set()
        assert trio.current_time() - start <= NOTICE


@IN_EVERY_MEDIUM
async def test_an_end_behind_a_body_whose_last_piece_was_read_is_noticed(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """Who knows the length need not ask for the empty piece that says that it was all."""
    witness = Witness()
    left = trio.Event()

    async def app(request: Request) -> Response:
        got = await request.body.receive_some()
        await left.wait()
        while len(got) < 10:
            got += await request.body.receive_some()
        return await witness.sleep(request)

    running = await run_server(nursery, medium, app)
    peer = await running.client(head("POST", "/", "Content-Length: 10") + b"12345")
    await peer.send(b"67890")
    leave(peer.stream, "fin")
    await settle()
    left.set()
    start = trio.current_time()
    await running.server.shutdown(grace=100)
    assert witness.reasons == [("client disconnected", "client disconnected")]
    assert witness.times[0] - start <= NOTICE


@OVER_TCP
async def test_an_end_within_a_body_is_for_who_reads_it(
    nursery: trio.Nursery,
    medium: Medium,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A FIN does not tell how much lies before it; so the handler works on until it reads, and meets it
    there."""
    worked = trio.Event()

    async def app(request: Request) -> Response:
        await trio.sleep(20)
        worked.set()
        await request.read()
        return Response()

    running = await run_server(nursery, medium, app)
    peer = await running.client(head("POST", "/", "Content-Length: 10") + b"12345")
    await peer.stream.send_eof()
    assert (await peer.answer()).status == 400
    assert worked.is_set()
    caplog.clear()


@pytest.mark.parametrize("medium", [pytest.param(Medium.TCP, marks=pytest.mark.interop)], indirect=True)
@pytest.mark.parametrize("has_read", [False, True], ids=["before it is asked to go on", "then"])
async def test_a_reset_within_a_body_cancels(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock, has_read: bool
) -> None:
    """Nothing can come any more; also within the wait of a client that asked whether to go on."""
    witness = Witness()
    asked = trio.Event()

    async def app(request: Request) -> Response:
        if has_read:
            with trio.move_on_after(1):
                await request.read()
            asked.set()
        return await witness.sleep(request)

    running = await run_server(nursery, medium, app)
    peer = await running.client(head("POST", "/", "Content-Length: 10", "Expect: 100-continue"))
    if has_read:
        assert (await peer.head()).status == 100
        await asked.wait()
    leave(peer.stream, "reset")
    await running.server.shutdown()
    assert witness.reasons[-1] == ("client disconnected", "client disconnected")


# -- what a handler may still do, and what is still its fault


@IN_EVERY_MEDIUM
async def test_a_send_to_nobody_raises_what_a_broken_stream_raises(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """A46d: and once more, from layers around the handler that go on sending; none of it is logged."""
    errors: list[type[BaseException]] = []

    async def app(request: Request) -> None:
        async with request.stream_response() as body:
            with request.finish(within=100):
                await request.wait_disconnected()
                for _ in range(5):
                    try:
                        for _ in range(1000):  # the first ones may still go out, into the void
                            await body.send_all(bytes(65536))
                    except trio.BrokenResourceError as exc:
                        errors.append(type(exc))
                await body.send_all(b"unguarded")

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    leave(peer.stream, "reset")
    await running.server.shutdown()
    assert errors == [ClientDisconnected] * 5


@IN_EVERY_MEDIUM
async def test_clean_up_that_tells_the_client_is_not_blamed(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """It used to be logged as the handler's failure: the send was poisoned by the cancel before it."""

    async def app(request: Request) -> None:
        async with request.stream_response() as body:
            try:
                while True:
                    await body.send_all(bytes(1 << 20))
                    await trio.sleep(1)
            finally:
                with trio.move_on_after(5) as bounded:
                    bounded.shield = True
                    for _ in range(100):
                        await body.send_all(b"event: bye\n\n")

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    leave(peer.stream, "reset")
    await running.server.shutdown()


@IN_EVERY_MEDIUM
async def test_clean_up_that_fails_is_the_handlers_fault(
    nursery: trio.Nursery,
    medium: Medium,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And the server's next client is served."""

    async def app(request: Request) -> Response:
        if request.target == "/fine":
            return Response()
        async with trio.open_nursery() as tasks:
            tasks.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("the clean-up is wrong")
        return Response()

    book = Book()
    running = await run_server(nursery, medium, app, ServerConfig(instruments=[book]))
    peer = await running.client()
    leave(peer.stream, "fin")
    await trio.sleep(1)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "Request GET /" in record.getMessage()
    assert record.exc_info is not None
    assert "the clean-up is wrong" in caplog.text
    assert "Cancelled" not in str(record.exc_info[1])
    (exchange,) = book.exchanges
    assert exchange.cancel_reason == "client disconnected"
    assert exchange.error is record.exc_info[1]
    peer = await running.connect()
    assert (await peer.ask(head("GET", "/fine"))).status == 200
    caplog.clear()


@IN_EVERY_MEDIUM
async def test_both_kinds_of_handlers_run_in_one_server(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """N5: what must be finished is declared by its handler, with its own bound, not by a switch for all."""
    committed: list[str] = []
    witness = Witness()

    async def app(request: Request) -> Response:
        with witness.watch(request):
            if request.target.startswith("/buy"):
                with request.finish(within=60):
                    await trio.sleep(5)
                    committed.append(request.target)
            else:
                await trio.sleep(5)
                committed.append(request.target)
            await trio.lowlevel.checkpoint()
        return Response()

    running = await run_server(nursery, medium, app)
    targets = ["/buy/1", "/look/1", "/buy/2", "/look/2"]
    for peer in [await running.client(head("GET", target)) for target in targets]:
        leave(peer.stream, "reset")
    stays = await running.client(head("GET", "/look/3"))
    await running.server.shutdown()
    assert (await stays.answer()).status == 200
    assert sorted(committed) == ["/buy/1", "/buy/2", "/look/3"]
    assert len(witness.reasons) == 4


async def test_an_abort_of_our_own_is_no_disconnect(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Who was reading ahead took the abort of a failed answer for the client's."""
    book, seen = Book(), []

    async def app(request: Request) -> None:
        with contextlib.suppress(KeyError):
            async with request.stream_response() as body:
                await body.send_all(b"half")
                await trio.sleep(1)
                raise KeyError
        await trio.sleep(1)
        seen.append(request.cancel_reason)

    running = await run_server(nursery, Medium.TCP_WITHOUT_EDGES, app, ServerConfig(instruments=[book]))
    await running.client()
    await running.server.shutdown()
    assert seen == [None]
    assert [exchange.cancel_reason for exchange in book.exchanges] == [None]


# -- all at once


async def streaming(request: Request) -> None:
    async with request.stream_response() as body:
        while True:
            await body.send_all(bytes(1 << 16))


async def reading(request: Request) -> Response:
    return Response(content=await request.read())


async def sleeping(request: Request) -> Response:
    await trio.sleep_forever()
    return Response()


@OVER_TCP
@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize(
    ("handler", "sent"),
    [
        pytest.param(sleeping, GET, id="sleeping"),
        pytest.param(streaming, GET, id="streaming, and the way is full"),
        pytest.param(reading, head("POST", "/", "Content-Length: 99") + b"1", id="reading"),
        pytest.param(reading, head("POST", "/", "Content-Length: 9", "Expect: 100-continue"), id="asked for"),
        pytest.param(sleeping, b"GET / HTTP/1.1\r\nHo", id="in the head"),
        pytest.param(sleeping, b"", id="connected"),
    ],
)
async def test_clients_that_go_away_leave_nothing_behind(
    nursery: trio.Nursery,
    medium: Medium,
    how: str,
    handler: Handler,
    sent: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On the real clock, some at once."""
    running = await run_server(nursery, medium, handler)
    shared = running.server._shared
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        clients: list[socket.socket] = [socket.create_connection(running.address) for _ in range(4)]
        for client in clients:
            client.sendall(sent)
        await settle()
        assert running.server.statistics().connections == 4
        for client in clients:
            client.close() if how == "fin" else reset(client)
        with trio.fail_after(10):
            while running.server.statistics().connections:
                await trio.testing.wait_all_tasks_blocked(0.001)
    await settle()
    assert set(os.listdir("/proc/self/fd")) == before
    assert shared.poll is None or len(shared.poll) == 0
    assert len(shared.ticker) == 0
    assert {record.levelname for record in caplog.records} <= {"INFO"}  # half a request breaks the protocol
    caplog.clear()


async def test_a_config_says_what_half_close_may_be() -> None:
    with pytest.raises(ValueError, match="half_close"):
        ServerConfig(half_close="ignore")  # type: ignore[arg-type]
    assert attrs.evolve(ServerConfig(), half_close="answer").half_close == "answer"
