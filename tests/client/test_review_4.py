"""What a second review of the client found, in the pool's epoll and in what others' code may raise; each
with what used to happen."""

from __future__ import annotations

import errno
import functools
from typing import Any

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from trio_http import (
    Auth,
    AuthRequest,
    Client,
    ConnectFailed,
    ConnectionLost,
    Content,
    ContentReader,
    CookieJar,
    RequestFacts,
    Response,
    Retry,
)
from trio_http.messages import FieldsInput
from trio_http.testing import ScriptedPeer, memory_pair
from trio_http.transport import EdgePoll, StreamTransport


class Source(Content):
    """Content that begins, and then fails; it can be had again.

    Attributes:
      opened: how often it was.
    """

    repeatable = True

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.opened = 0

    async def open(self) -> ContentReader:
        await trio.lowlevel.checkpoint()
        self.opened += 1
        return Reader(self.error)


class Reader(ContentReader):
    def __init__(self, error: BaseException, *pieces: bytes) -> None:
        self.pieces = list(pieces or [b"beginning"])
        self.error = error

    async def next_piece(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.pieces:
            raise self.error
        return self.pieces.pop()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


# ------------------------------------------------------------------------------------------- the pool's epoll


async def slow(stream: trio.SocketStream) -> None:
    data = b""
    async for piece in stream:
        data += piece
        if data.endswith(END):
            data = b""
            await trio.sleep(0.02)  # so that all of them are under way at once
            await stream.send_all(OK)


async def many_at_once(tasks: int) -> int:
    """Make so many requests at once, three times, over real sockets; return how many were answered."""
    answered = 0

    async def ask(client: Client, url: str) -> None:
        nonlocal answered
        for _ in range(3):
            response = await client.get(url)
            answered += response.content == b"ok"

    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(serve, slow, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        async with Client(max_connections_per_origin=tasks) as client, trio.open_nursery() as asking:
            for _ in range(tasks):
                asking.start_soon(ask, client, url)
        nursery.cancel_scope.cancel()
    return answered


@pytest.mark.interop
async def test_many_requests_at_once_work_on_a_system_without_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 13th connection at once ended the client, and cancelled the block that it was in."""
    monkeypatch.setattr(EdgePoll, "is_available", False)
    assert await many_at_once(20) == 60


@pytest.mark.interop
async def test_many_requests_at_once_work_without_a_descriptor_for_an_epoll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As above."""

    def no_more() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("trio_http.transport._edge_poll.select.epoll", no_more)
    assert await many_at_once(20) == 60


async def test_a_dial_that_gives_a_closed_transport_fails_its_own_request_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where connections are attached to the pool's epoll, it ended the client."""
    monkeypatch.setattr("trio_http.client._pool._MANY", 0)

    class Stale(StreamTransport):
        def attach(self, *args: Any) -> bool:
            raise trio.ClosedResourceError("this connection was closed by our side")

    transports = [Stale(memory_pair()[0]) for _ in range(2)]
    for transport in transports:
        transport.close()
    peer = answering(OK)

    async def dial(host: str, port: int, scheme: str) -> Any:
        await trio.lowlevel.checkpoint()
        return transports.pop() if transports else peer.stream

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        async with Client(dial=dial) as client:
            for _ in range(2):
                with pytest.raises(ConnectionLost):
                    await client.get(URL)
            assert (await client.get(URL)).content == b"ok"


# ------------------------------------------------------------------------------ what the caller's code raises


def silent() -> ScriptedPeer:
    return ScriptedPeer().expect_until(b"beginning")


def of_another(
    kind: type[ConnectionLost] | type[ConnectFailed], **facts: Any
) -> ConnectionLost | ConnectFailed:
    return kind("it is down", RequestFacts(method="POST", url="http://tokens.example/", **facts))


async def test_the_failure_of_another_request_that_a_source_makes_repeats_nothing() -> None:
    """It was taken for the failure of this one: a POST of which a part was sent went out a second time."""
    source = Source(of_another(ConnectionLost, reused=True))
    async with client_of(silent(), silent()) as (client, network):
        with pytest.raises(ConnectionLost) as caught:
            await client.post(URL, content=source)
    assert caught.value is source.error
    assert (source.opened, len(network.dialed)) == (1, 1)


async def test_the_failure_of_another_request_that_a_source_makes_is_not_retried() -> None:
    """By its facts the server could not have acted, so a POST was made again."""
    source = Source(of_another(ConnectFailed))
    async with client_of(silent(), silent(), retry=Retry(backoff=0)) as (client, network):
        with pytest.raises(ConnectFailed) as caught:
            await client.post(URL, content=source)
    assert caught.value is source.error
    assert (source.opened, len(network.dialed)) == (1, 1)


async def test_a_failed_request_for_a_token_ends_the_request_that_it_is_for() -> None:
    """As `Auth` says; a retry policy asked again and again."""
    asked = 0

    class Tokens(Auth):
        async def authorize(self, request: AuthRequest) -> FieldsInput:
            nonlocal asked
            await trio.lowlevel.checkpoint()
            asked += 1
            raise of_another(ConnectFailed)

    async with client_of(auth=Tokens(), retry=Retry(backoff=0)) as (client, network):
        with pytest.raises(ConnectFailed):
            await client.get(URL)
    assert (asked, network.dialed) == (1, [])


async def test_a_group_that_a_source_raises_comes_out_as_it_is() -> None:
    """Its first exception came out alone."""
    error = BaseExceptionGroup("of the caller's own", [KeyboardInterrupt(), ValueError()])
    caught: BaseExceptionGroup[BaseException] | None = None

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return memory_pair()[0]

    async with Client(dial=dial) as client:
        try:
            await client.post(URL, content=Source(error))
        except BaseExceptionGroup as exc:
            caught = exc
    # Not the very same, for trio's scopes make copies of groups that go through.
    assert caught is not None
    assert (caught.message, caught.exceptions) == (error.message, error.exceptions)


class Dice:
    def uniform(self, low: float, high: float) -> float:
        raise ZeroDivisionError("loaded")


def no_suffix(domain: str) -> bool:
    raise ZeroDivisionError("no list")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"retry": Retry(rng=Dice())}, id="dice of a retry"),  # type: ignore[arg-type]
        pytest.param({"cookies": CookieJar(is_public_suffix=no_suffix)}, id="public suffixes"),
    ],
)
async def test_a_function_of_the_callers_that_fails_on_a_head_leaks_no_connection(
    options: dict[str, Any],
) -> None:
    """Its connection was nobody's: it stayed leased until the client was closed."""
    busy = (
        b"HTTP/1.1 503 Service Unavailable\r\nSet-Cookie: a=b; Domain=example.org\r\n"
        b"Content-Length: 2\r\n\r\nno"
    )
    async with client_of(answering(busy), **options) as (client, _):
        with pytest.raises(ZeroDivisionError):
            await client.get(URL)
        assert await in_pool(client) == (0, 1)


async def test_content_that_cannot_be_closed_does_not_hide_why_a_kept_connection_failed() -> None:
    """Where an `Auth` goes on with the connection of a 401, the error of closing came in its place."""

    class Stubborn(Reader):
        async def aclose(self) -> None:
            raise ZeroDivisionError("cannot be closed")

    class Twice(Content):
        repeatable = True
        readers = [Stubborn(OSError("no such disk")), Reader(RuntimeError(), b"", b"whole")]

        async def open(self) -> ContentReader:
            await trio.lowlevel.checkpoint()
            return self.readers.pop()

    class Dialogue(Auth):
        keeps_connection = True

        async def answer(self, request: AuthRequest, response: Response, round: int) -> FieldsInput:
            await trio.lowlevel.checkpoint()
            return {"Authorization": "step 2"}

    unauthorized = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    peer = ScriptedPeer().expect_until(b"0\r\n\r\n").send(unauthorized)
    async with client_of(peer, auth=Dialogue()) as (client, _):
        with pytest.raises(OSError, match="no such disk"):
            await client.put(URL, content=Twice())
        assert await in_pool(client) == (0, 0)
