"""What an exchange says of itself when it is over, however it ended: to instruments, and to the `report` of
its request (N16, C61, C66).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, Network, answering, client_of, in_pool
from trio_http import (
    ConnectFailed,
    ConnectionLost,
    ContentTooLarge,
    HTTPError,
    InvalidRequest,
    PoolClosed,
    ResponseIncomplete,
    ResponseInvalid,
    UpgradeRefused,
)
from trio_http.client import Client, ClientPace
from trio_http.instruments import ClientCloseRecord, ClientExchangeRecord, ClientInstrument, DialRecord
from trio_http.testing import ScriptedPeer, memory_pair

LARGE = b"x" * 1_000_000
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"


class Told(ClientInstrument):
    """Everything that a client tells, in order."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.finished: list[ClientExchangeRecord] = []
        self.dials: list[DialRecord] = []
        self.closed: list[ClientCloseRecord] = []

    def dial_finished(self, dial: DialRecord) -> None:
        self.dials.append(dial)

    def connection_closed(self, closing: ClientCloseRecord) -> None:
        self.closed.append(closing)
        last = [record for record in self.finished if record.connection is closing.connection]
        assert len(last) == closing.exchanges or closing.why == "making room" or not closing.exchanges

    def exchange_started(self, request_number: int, attempt: int, method: str, url: str) -> None:
        self.started.append((request_number, attempt))

    def exchange_finished(self, exchange: ClientExchangeRecord) -> None:
        self.finished.append(exchange)

    def check(self) -> None:
        """One end for each beginning, and one for each connection that was made."""
        assert sorted(self.started) == sorted((each.request_number, each.attempt) for each in self.finished)
        assert len(set(self.started)) == len(self.started)
        made = [dial.id for dial in self.dials if dial.id is not None]
        assert sorted(made) == sorted(closing.connection.id for closing in self.closed)  # type: ignore[type-var]


# What is done with a client. Each ends in what the row says, and nothing else.


async def get(client: Client, **options: Any) -> None:
    await client.get(URL, **options)


async def post(client: Client, **options: Any) -> None:
    await client.post(URL, content=LARGE, **options)


async def twice(client: Client, **options: Any) -> None:
    await client.get(URL)
    await client.get(URL, **options)


async def stream_unread(client: Client, **options: Any) -> None:
    async with client.stream("GET", URL, **options):
        pass


async def stream_failed(client: Client, **options: Any) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with client.stream("GET", URL, **options):
            raise ValueError("mine")


async def for_a_second(client: Client, **options: Any) -> None:
    with trio.move_on_after(1) as scope:
        await client.get(URL, **options)
    assert scope.cancelled_caught


async def upload_for_a_second(client: Client, **options: Any) -> None:
    with trio.move_on_after(1) as scope:
        await client.post(URL, content=LARGE, **options)
    assert scope.cancelled_caught


async def cancelled_before(client: Client, **options: Any) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.get(URL, **options)
    assert scope.cancelled_caught


async def cancelled_before_again(client: Client, **options: Any) -> None:
    await client.get(URL)
    await cancelled_before(client, **options)


async def waiting_for_a_second(client: Client, **options: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.get, URL)
        await trio.testing.wait_all_tasks_blocked()
        await for_a_second(client, **options)
        nursery.cancel_scope.cancel()


async def upgraded(client: Client, **options: Any) -> None:
    async with client.upgrade(URL, "echo", **options):
        pass


async def bad_length(client: Client, **options: Any) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"abc"

    await client.post(URL, content=source(), headers={"content-length": "5"}, **options)


async def bad_source(client: Client, **options: Any) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"abc"
        raise LookupError("mine")

    await client.post(URL, content=source(), **options)


async def bad_file(client: Client, **options: Any) -> None:
    await client.post(URL, content=Path("no such file"), **options)


def listening(*then: bytes) -> ScriptedPeer:
    peer = ScriptedPeer().expect_until(END)
    for data in then:
        peer.send(data)
    return peer


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
CLOGGED = 5000

# name: (peers, options, what is done, error, outcome, fate, because, may_have_acted)
ENDS: dict[str, tuple[Any, ...]] = {
    "complete": ([lambda: answering(OK)], {}, get, None, "complete", "kept", "response complete", True),
    "reused": ([lambda: answering(OK, OK)], {}, twice, None, "complete", "kept", "response complete", True),
    "last": ([lambda: answering(CLOSE)], {}, get, None, "complete", "closed", "last exchange", True),
    "left unread": (
        [lambda: answering(HALF)],
        {},
        stream_unread,
        None,
        "complete",
        "closed",
        "body not read",
        True,
    ),
    "left unread, all here": (
        [lambda: answering(OK)],
        {},
        stream_unread,
        None,
        "complete",
        "kept",
        "response complete",
        True,
    ),
    "block failed": (
        [lambda: answering(HALF)],
        {},
        stream_failed,
        None,
        "complete",
        "closed",
        "body not read",
        True,
    ),
    "early answer": (
        [lambda: ScriptedPeer(memory_pair(CLOGGED)).expect_until(END).send(OK)],
        {},
        post,
        None,
        "complete",
        "closed",
        "last exchange",
        True,
    ),
    "upgraded": (
        [lambda: listening(SWITCH)],
        {},
        upgraded,
        None,
        "complete",
        "handed over",
        "upgraded",
        True,
    ),
    "upgrade refused": (
        [lambda: answering(OK)],
        {},
        upgraded,
        UpgradeRefused,
        "complete",
        "kept",
        "response complete",
        True,
    ),
    "cancelled waiting": (
        [listening],
        {"max_connections": 1},
        waiting_for_a_second,
        None,
        "cancelled",
        "none",
        "cancelled",
        False,
    ),
    "cancelled before, no connection": (
        [],
        {},
        cancelled_before,
        None,
        "cancelled",
        "none",
        "cancelled",
        False,
    ),
    "cancelled before, idle": (
        [lambda: answering(OK)],
        {},
        cancelled_before_again,
        None,
        "cancelled",
        "kept",
        "nothing was sent",
        False,
    ),
    "cancelled, no answer": ([listening], {}, for_a_second, None, "cancelled", "closed", "cancelled", True),
    "cancelled in the body": (
        [lambda: listening(HALF)],
        {},
        for_a_second,
        None,
        "cancelled",
        "closed",
        "cancelled",
        True,
    ),
    "cancelled sending": (
        [lambda: ScriptedPeer(memory_pair(CLOGGED)).expect_until(END)],
        {},
        upload_for_a_second,
        None,
        "cancelled",
        "closed",
        "cancelled",
        True,
    ),
    "not connected": ([], {}, get, ConnectFailed, "failed", "none", "no connection", False),
    "lost": ([lambda: listening().close()], {}, get, ConnectionLost, "failed", "closed", "failed", True),
    "incomplete": (
        [lambda: listening(HALF).close()],
        {},
        get,
        ResponseIncomplete,
        "failed",
        "closed",
        "failed",
        True,
    ),
    "invalid": (
        [lambda: listening(b"no HTTP\r\n\r\n")],
        {},
        get,
        ResponseInvalid,
        "failed",
        "closed",
        "failed",
        True,
    ),
    "too large": (
        [lambda: listening(HALF)],
        {"max_content_bytes": 5},
        get,
        ContentTooLarge,
        "failed",
        "closed",
        "failed",
        True,
    ),
    "too slow": (
        [listening],
        {"pace": ClientPace(head=1)},
        get,
        ConnectionLost,
        "failed",
        "closed",
        "failed",
        True,
    ),
    "bad length": ([listening], {}, bad_length, InvalidRequest, "failed", "closed", "failed", True),
    "bad source": ([listening], {}, bad_source, LookupError, "failed", "closed", "failed", True),
    "bad file": ([], {}, bad_file, FileNotFoundError, "failed", "none", "no content", False),
}


@pytest.mark.parametrize("name", ENDS)
async def test_each_exchange_is_told_of_once_as_it_ended(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    """N16, C61."""
    peers, options, do, kind, outcome, fate, because, acted = ENDS[name]
    told = Told()
    reports: list[ClientExchangeRecord] = []
    async with client_of(*[make() for make in peers], instruments=[told], **options) as (client, _):
        if kind is None:
            await do(client, report=reports.append)
        else:
            with pytest.raises(kind):
                await do(client, report=reports.append)
        await trio.testing.wait_all_tasks_blocked()
        (record,) = reports
        assert record in told.finished
        assert sorted(told.started) == sorted((each.request_number, each.attempt) for each in told.finished)
    told.check()
    assert (record.outcome, record.fate, record.because.partition(":")[0]) == (outcome, fate, because)
    assert record.may_have_acted is acted
    assert (record.error is not None) is (outcome == "failed")
    assert (record.connection is None) is (fate == "none")
    assert (record.bytes_sent > 0) is record.head_sent
    if not acted:
        assert (record.bytes_sent, record.status, record.first_byte, record.sent) == (0, None, None, None)
    if isinstance(record.error, HTTPError) and hasattr(record.error, "facts"):
        assert record.error.facts.may_have_acted is acted


async def test_a_cancel_within_the_block_of_a_stream_is_told_as_such(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """N16: it was told as complete, as if its body had been left unread by choice."""
    reports: list[ClientExchangeRecord] = []
    async with client_of(listening(HALF).expect_end()) as (client, _):
        with trio.move_on_after(1):
            async with client.stream("GET", URL, report=reports.append):
                await trio.sleep_forever()
    assert [(each.outcome, each.fate, each.because) for each in reports] == [
        ("cancelled", "closed", "cancelled")
    ]


async def test_a_request_that_could_not_be_sent_is_not_told_as_sent() -> None:
    """N16: `request_complete` was true of a request of which no byte had gone out."""
    reports: list[ClientExchangeRecord] = []
    peer = ScriptedPeer()
    peer._own.reset()
    async with client_of(peer) as (client, _):
        with pytest.raises(ConnectionLost):
            await client.post(URL, content=b"pay", report=reports.append)
    assert reports[0].bytes_sent == 0
    assert not reports[0].request_complete


@pytest.mark.parametrize("name", ["lost", "incomplete head", "too slow"])
async def test_the_error_told_is_the_one_raised_and_the_reason_is_the_real_one(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    """N16: of a server that was given up, it was told that "this connection was closed by our side"."""
    peers = {
        "lost": listening().close(),
        "incomplete head": listening(b"HTTP/1.1 20").close(),
        "too slow": listening(),
    }
    reports: list[ClientExchangeRecord] = []
    async with client_of(peers[name], pace=ClientPace(head=1)) as (client, _):
        with pytest.raises(HTTPError) as caught:
            await client.get(URL, report=reports.append)
    assert reports[0].error is caught.value
    assert reports[0].because == f"failed: {caught.value.args[0]}"


async def test_a_cancel_before_anything_was_sent_says_nothing_of_the_exchange_before() -> None:
    """N16: with the same request again, the record was that of the exchange before, as if answered."""
    told = Told()
    async with client_of(answering(OK), instruments=[told]) as (client, _):
        await client.get(URL)
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.get(URL)
        assert await in_pool(client) == (0, 1)
    first, second = told.finished
    assert (first.outcome, first.status) == ("complete", 200)
    assert (second.outcome, second.fate, second.status) == ("cancelled", "kept", None)
    assert not second.may_have_acted
    assert (second.bytes_sent, second.bytes_received, second.response_headers) == (0, 0, None)


async def test_what_is_sent_again_is_an_exchange_of_its_own() -> None:
    """N16, C6: each with what became of it."""
    told = Told()
    async with client_of(answering(OK).expect_until(END).close(), answering(OK), instruments=[told]) as (
        client,
        _,
    ):
        await client.get(URL)
        await client.get(URL)
    told.check()
    assert told.started == [(1, 1), (2, 1), (2, 2)]
    assert [(each.outcome, each.fate, each.reused) for each in told.finished] == [
        ("complete", "kept", False),
        ("failed", "closed", True),
        ("complete", "kept", False),
    ]
    assert told.finished[1].may_have_acted
    assert [closing.exchanges for closing in told.closed] == [2, 1]


async def test_redirects_are_exchanges_of_one_request() -> None:
    """C61."""
    told = Told()
    moved = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
    async with client_of(answering(moved, OK), instruments=[told], follow_redirects=True) as (client, _):
        await client.get(URL)
    told.check()
    assert [(each.request_number, each.attempt, each.status, each.url) for each in told.finished] == [
        (1, 1, 302, URL),
        (1, 2, 200, "http://example.org/there"),
    ]


async def test_an_exchange_that_a_closing_client_ended_is_told_before_its_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """N16, C61."""
    told = Told()
    reports: list[ClientExchangeRecord] = []

    async def ask(client: Client) -> None:
        with pytest.raises(PoolClosed):
            await client.get(URL, report=reports.append)

    async with trio.open_nursery() as nursery:
        network = Network(nursery, listening().expect_end(), answering(OK))
        async with Client(dial=network.dial, instruments=[told]) as client:
            nursery.start_soon(ask, client)
            await trio.testing.wait_all_tasks_blocked()
            await client.get("http://other.example/")
        await trio.testing.wait_all_tasks_blocked()
    told.check()
    assert [(each.outcome, each.fate) for each in reports] == [("failed", "closed")]
    assert reports[0].may_have_acted
    assert sorted(closing.exchanges for closing in told.closed) == [1, 1]


async def test_the_counts_are_those_of_the_wire() -> None:
    """N16, C66: bytes of head, framing and content, each for itself."""
    reports: list[ClientExchangeRecord] = []
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    peer = (
        ScriptedPeer().expect_until(b"hello").send(early).wait_until_quiet().send(answer).wait_until_quiet()
    )
    async with client_of(peer.send(body[:10]).wait_until_quiet().send(body[10:])) as (client, network):
        await client.post(URL, content=b"hello", report=reports.append)
        (record,) = reports
        assert record.bytes_sent == network.streams[0].sent_bytes == len(network.heads())
        assert record.bytes_received == len(early + answer + body)
    assert (record.request_bytes, record.response_bytes, record.decoded_bytes) == (5, 5, None)
    assert (record.interims, record.status, record.reason, record.http_version) == ((103,), 200, "OK", "1.1")
    assert record.request_complete


@pytest.mark.parametrize("size", [100, 100_000])
async def test_a_cancelled_upload_says_how_far_it_came(
    size: int, autojump_clock: trio.testing.MockClock
) -> None:
    """N16: enough for a caller to decide on a retry truthfully."""
    reports: list[ClientExchangeRecord] = []
    peer = ScriptedPeer(memory_pair(CLOGGED)).expect_until(END)
    async with client_of(peer) as (client, network):
        with trio.move_on_after(1):
            await client.post(URL, content=b"x" * size, report=reports.append)
        (record,) = reports
        sent = network.streams[0].sent_bytes
    assert record.may_have_acted
    assert record.head_sent
    assert record.request_complete is (size == 100)
    assert record.bytes_sent <= sent
    if size == 100:
        assert (record.bytes_sent, record.request_bytes) == (sent, 100)


async def test_a_body_under_way_says_how_much_of_it_has_come() -> None:
    """C66."""
    peer = ScriptedPeer().expect_until(END).send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n").send(b"abc")
    peer.wait_until_quiet().send(b"def")
    async with client_of(peer) as (client, _), client.stream("GET", URL) as response:
        counts = [response.body.received]
        while await response.body.receive_some():
            counts.append(response.body.received)
        assert counts[0] == 0
        assert counts[-1] == 6
        assert counts == sorted(counts)
        assert response.headers["content-length"] == "6"


@pytest.mark.parametrize("do", [get, stream_unread, upgraded])
async def test_a_report_that_fails_is_logged_and_costs_no_connection(
    do: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The slot was lost for good, for the report came before the books."""

    def fail(_: ClientExchangeRecord) -> None:
        raise ValueError("a bug in the report")

    first = listening(SWITCH) if do is upgraded else answering(OK)
    async with client_of(first, answering(OK), answering(OK), max_connections=1) as (client, _):
        await do(client, report=fail)
        assert client.statistics().leased == 0
        await client.get("http://other.example/")
        assert await in_pool(client) == (0, 1)
    assert "a bug in the report" in caplog.text


async def test_an_instrument_that_fails_costs_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    """C61."""

    class Broken(Told):
        def exchange_finished(self, exchange: ClientExchangeRecord) -> None:
            raise ValueError("a bug in the instrument")

    async with client_of(answering(OK, OK), max_connections=1, instruments=[Broken()]) as (client, _):
        await client.get(URL)
        await client.get(URL)
        assert await in_pool(client) == (0, 1)
    assert "a bug in the instrument" in caplog.text
