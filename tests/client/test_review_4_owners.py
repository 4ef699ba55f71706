"""What a second review of the client found in who has a connection when, and in whose turn it is; each with
what used to happen."""

from __future__ import annotations

import functools
import gc
import math
from collections.abc import AsyncIterator, Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.client._network import END, OK, URL, Network, answering, client_of, in_pool
from trio_http import (
    Auth,
    AuthRequest,
    Client,
    ClientPace,
    ConnectFailed,
    Content,
    ContentReader,
    ContentTooLarge,
    Origin,
    Response,
    Retry,
)
from trio_http.client._link import Link
from trio_http.instruments import ClientCloseRecord, ClientExchangeRecord, ClientInstrument
from trio_http.messages import FieldsInput
from trio_http.testing import ScriptedPeer, memory_pair

OTHER = "http://example.org/other"


# ----------------------------------------------------------------------------------------- who has what, when


async def test_the_facts_of_a_body_are_those_of_its_own_exchange() -> None:
    """A connection goes back when all of a response is here; the error of who reads it later had the URL of
    the exchange that the connection had by then."""
    hello = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    async with client_of(answering(hello, OK)) as (client, _), client.stream("GET", URL) as response:
        await client.get(OTHER)
        with pytest.raises(ContentTooLarge) as caught:
            await response.read(limit=2)
    facts = caught.value.facts
    assert (facts.url, facts.reused, facts.closed_because) == (URL, False, "")
    assert facts.may_have_acted
    assert facts.bytes_sent > 0


async def test_an_auth_can_ask_the_same_server_while_a_401_is_at_hand(autojump_clock: MockClock) -> None:
    """The 401 kept its connection meanwhile: with all of an origin's in use so, who fetched a token waited
    for ever."""
    unauthorized = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"

    class Tokens(Auth):
        async def answer(self, request: AuthRequest, response: Response, round: int) -> FieldsInput | None:
            token = await client.get("http://example.org/token")
            return {"Authorization": token.text}

    peer = answering(unauthorized, OK, OK)
    async with client_of(peer, max_connections_per_origin=1) as (client, network):
        with trio.fail_after(10):
            assert (await client.get(URL, auth=Tokens())).status == 200
    assert [line for line in network.heads().split(b"\r\n") if line.startswith(b"GET")] == [
        b"GET /path HTTP/1.1",
        b"GET /token HTTP/1.1",
        b"GET /path HTTP/1.1",
    ]


async def test_a_401_that_an_auth_has_no_answer_to_comes_whole_though_its_connection_went_on() -> None:
    """What the connection carried meanwhile must not be taken for it."""
    unauthorized = b"HTTP/1.1 401 Unauthorized\r\nX-Of: the first\r\nContent-Length: 2\r\n\r\nno"
    elsewhere = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"

    class Vain(Auth):
        async def answer(self, request: AuthRequest, response: Response, round: int) -> FieldsInput | None:
            await client.get(OTHER, follow_redirects=False, retry=None)
            return None

    options = {"follow_redirects": True, "retry": Retry(statuses=[302])}
    async with client_of(answering(unauthorized, elsewhere), **options) as (client, network):
        response = await client.get(URL, auth=Vain())
        assert await in_pool(client) == (0, 1)
    assert (response.status, response.headers["x-of"], response.content) == (401, "the first", b"no")
    assert (response.url, len(network.dialed)) == (URL, 1)


async def test_warming_waits_for_a_dial_that_another_has_begun(autojump_clock: MockClock) -> None:
    """The second to warm up came back at once, with nothing idle."""

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.sleep(1)
        return memory_pair()[0]

    async with Client(dial=dial) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.warm, URL)
        await trio.testing.wait_all_tasks_blocked()
        await client.warm(URL)
        assert (client.statistics().idle, trio.current_time()) == (1, 1)


async def test_warming_does_not_wait_for_a_dial_that_it_does_not_need(autojump_clock: MockClock) -> None:
    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.sleep(1)
        return memory_pair()[0]

    async with Client(dial=dial) as client, trio.open_nursery() as nursery:
        await client.warm(URL)
        nursery.start_soon(client.warm, URL, 2)
        await trio.testing.wait_all_tasks_blocked()
        await client.warm(URL)
        assert (client.statistics().idle, client.statistics().dialing, trio.current_time()) == (1, 1, 1)


class Told(ClientInstrument):
    """Writes down what becomes of exchanges and connections."""

    def __init__(self) -> None:
        self.what: list[str] = []

    def exchange_finished(self, exchange: ClientExchangeRecord) -> None:
        self.what.append(exchange.outcome)

    def connection_closed(self, closing: ClientCloseRecord) -> None:
        self.what.append(f"closed: {closing.why}")


async def test_the_end_of_a_connection_is_told_when_a_cancel_and_the_clients_end_meet() -> None:
    """A cancelled request yields once more, with its connection. When the client was closed in that moment,
    instruments were never told that the connection had ended."""
    told = Told()
    async with trio.open_nursery() as nursery:
        network = Network(nursery, ScriptedPeer().expect_until(END).send(OK))
        client = Client(dial=network.dial, instruments=[told])
        async with client:
            await client.get(URL)
            told.what.clear()
            with trio.CancelScope() as scope:
                scope.cancel()
                async with trio.open_nursery() as inner:
                    inner.start_soon(client.get, URL)
                    # The request takes its connection in its first step, before it finds out.
                    while not client.statistics().leased:
                        await trio.lowlevel.cancel_shielded_checkpoint()
                    client._pool.close()
        nursery.cancel_scope.cancel()
    assert told.what == ["cancelled", "closed: client closed"]


def links() -> int:
    return sum(type(thing) is Link for thing in gc.get_objects())


async def test_a_closed_connection_is_let_go_of_at_once() -> None:
    """It was part of a cycle, so it stayed in memory until Python looked for cycles."""
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with client_of(answering(OK), answering(last), max_connections=1) as (client, _):
        gc.collect()
        before = links()  # which the failures of other tests may hold
        gc.disable()
        try:
            await client.get(URL)
            assert links() == before + 1
            await client.get("http://example.com/")  # whose connection takes the place of the first
            assert await in_pool(client) == (0, 0)
            assert links() == before
        finally:
            gc.enable()


async def test_an_interrupt_while_somebody_is_told_leaves_no_stream_open() -> None:
    """The stream of a connection that was off the books already was never closed."""
    told: list[str] = []

    def report(record: ClientExchangeRecord) -> None:
        told.append(record.fate)
        raise KeyboardInterrupt

    async with trio.open_nursery() as nursery:
        network = Network(nursery, ScriptedPeer().expect_until(END).send(b"nonsense\r\n\r\n"))
        async with Client(dial=network.dial) as client:
            with pytest.raises(KeyboardInterrupt):
                await client.get(URL, report=report)
            assert network.streams[0].closed
        nursery.cancel_scope.cancel()
    assert told == ["closed"]


# -------------------------------------------------------------------------------------------- time, and turns


class Gated(Content):
    """Content that ends when a socket can be read from."""

    def __init__(self, gate: trio.socket.SocketType) -> None:
        self._gate = gate

    async def open(self) -> ContentReader:
        await trio.lowlevel.checkpoint()
        return GatedReader(self._gate)


class GatedReader(ContentReader):
    length: int | None = 3

    def __init__(self, gate: trio.socket.SocketType) -> None:
        self._gate = gate
        self._pieces = [b"", b"abc"]

    async def next_piece(self) -> bytes:
        if len(self._pieces) == 1:
            await trio.lowlevel.wait_readable(self._gate)
        return self._pieces.pop()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.interop
@pytest.mark.parametrize("turn", range(12))
async def test_a_limit_on_the_head_is_off_when_head_and_end_of_the_upload_come_in_one_turn(turn: int) -> None:
    """If the sender ran after the reader, which Trio leaves to chance, it set the time limit for a head that
    had come already; the connection was closed when it was up."""
    ours, theirs = trio.socket.socketpair()
    gate, other_gate = trio.socket.socketpair()

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return trio.SocketStream(ours)

    async def answer() -> None:
        request = b""
        while not request.endswith(b"abc"):
            request += await theirs.recv(1000)
        await trio.testing.wait_all_tasks_blocked()
        # Both are there when Trio looks next.
        theirs._sock.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")  # type: ignore[attr-defined]
        other_gate._sock.send(b".")  # type: ignore[attr-defined]

    with theirs, gate, other_gate:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            async with (
                Client(dial=dial, pace=ClientPace(head=10)) as client,
                client.stream("POST", URL, content=Gated(gate)) as response,
            ):
                link = response.body._link
                assert link.awaiting != "head" or link.receive_deadline == math.inf
                await theirs.send(b"ok")
                assert await response.read() == b"ok"


@pytest.mark.interop
async def test_an_upload_of_many_small_pieces_lets_others_run() -> None:
    """What is sent between two turns was counted by bytes: of pieces of one byte there were 262,144."""
    turns: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(2000):
            turns.append("p")
            yield b"x"

    async def take(stream: trio.SocketStream) -> None:
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data = data[-5:] + await stream.receive_some()
        await stream.send_all(OK)

    async def note_turns() -> None:
        while True:
            turns.append(" ")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(serve, take, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        nursery.start_soon(note_turns)
        async with Client() as client:
            await client.post(url, content=pieces())
        nursery.cancel_scope.cancel()
    longest = max(map(len, "".join(turns).split()))
    assert 2 <= longest <= 64


async def test_long_urls_are_not_remembered() -> None:
    """256 of them were, each in several forms."""
    async with Client() as client:
        plan: Callable[[str, str], object] = client._planner.plan
        short, long = "http://example.org/?a", f"http://example.org/?{'a' * 2000}"
        assert plan("GET", short) is plan("GET", short)
        assert plan("GET", long) is not plan("GET", long)


async def test_a_function_that_chooses_the_proxy_is_asked_for_each_request() -> None:
    """It was asked once for equal requests, so one that goes round its proxies did not."""
    asked: list[str] = []

    def choose(origin: Origin) -> None:
        asked.append(str(origin))

    async with Client(proxy=choose, resolver=nobody) as client:
        for _ in range(2):
            with pytest.raises(ConnectFailed):
                await client.get(URL)
    assert asked == ["http://example.org"] * 2


async def nobody(host: str, port: int) -> list[str]:
    await trio.lowlevel.checkpoint()
    raise OSError("nobody has this name")
