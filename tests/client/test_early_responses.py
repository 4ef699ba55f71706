"""Final responses that come before the request was sent (C27, N6), and streaming up (C26)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from tests.client._sockets import tcp_client_of, tcp_peer
from trio_http.testing import ScriptedPeer, memory_pair

LARGE = b"x" * (16 << 20)  # more than the kernels of both sides take
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\ntoo"


class Endless:
    """Content without end, and what became of it."""

    def __init__(self, size: int = 1000, seconds: float = 0) -> None:
        self.size = size
        self.seconds = seconds
        self.given = 0
        self.ended: BaseException | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while True:
                await trio.sleep(self.seconds)
                self.given += 1
                yield b"x" * self.size
        except BaseException as exc:
            self.ended = exc
            raise


@pytest.mark.interop
@pytest.mark.parametrize("content", [LARGE, None], ids=["bytes", "source"])
@pytest.mark.parametrize("end", [None, "close"], ids=["stays", "closes"])
async def test_over_tcp_a_413_reaches_who_uploads_to_a_server_that_stopped_reading(
    content: bytes | None, end: str | None
) -> None:
    """C27: httpx and urllib3 wait for ever here."""
    peer = tcp_peer().expect_until(END).wait_until_quiet().send(TOO_LARGE)
    if end is not None:
        getattr(peer.wait_until_quiet(), end)()
    async with tcp_client_of(peer) as (client, _):
        with trio.fail_after(20):
            response = await client.post(URL, content=Endless() if content is None else content)
        assert (response.status, response.content) == (413, b"too")
        assert await in_pool(client) == (0, 0)


async def test_an_early_answer_ends_a_source_that_waits_and_others_keep_their_connections(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """N6: the upload is cancelled, the response delivered, this connection closed, and no other."""
    source = Endless(seconds=1)
    peer = ScriptedPeer().expect_until(END).wait(5.5).send(TOO_LARGE)
    async with client_of(answering(OK), peer) as (client, network):
        await client.get("http://other.example/")
        started = trio.current_time()
        assert (await client.post(URL, content=source)).status == 413
        assert trio.current_time() - started == pytest.approx(5.5)
        assert source.given == 5
        assert isinstance(source.ended, trio.Cancelled)
        assert await in_pool(client) == (0, 1)
        assert [stream.closed for stream in network.streams] == [False, True]


@pytest.mark.parametrize("status", [200, 301, 401, 500, 599])
async def test_any_final_status_ends_the_upload(status: int) -> None:
    """C27."""
    peer = ScriptedPeer(memory_pair(5000)).expect_until(END)
    async with client_of(peer.send(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)) as (client, _):
        assert (await client.post(URL, content=Endless())).status == status
        assert await in_pool(client) == (0, 0)


async def test_a_large_early_answer_is_had_whole_while_the_server_reads_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """N6: no byte of it is lost, however long it takes."""
    parts = [b"%07d\n" % number for number in range(2000)]
    peer = ScriptedPeer(memory_pair(5000)).expect_until(END)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 16000\r\n\r\n")
    for at in range(0, 2000, 100):
        peer.wait(1).send(b"".join(parts[at : at + 100]))
    async with client_of(peer) as (client, _):
        assert (await client.post(URL, content=Endless())).content == b"".join(parts)
        assert await in_pool(client) == (0, 0)


async def test_an_answer_that_comes_with_the_end_of_the_upload_keeps_the_connection() -> None:
    """C27: the request was sent whole, so nothing is early."""
    peer = ScriptedPeer().expect_until(b"0\r\n\r\n").send(OK).expect_until(END).send(OK)

    async def source() -> AsyncIterator[bytes]:
        yield b"x"

    async with client_of(peer) as (client, network):
        assert (await client.post(URL, content=source())).status == 200
        assert (await client.get(URL)).status == 200
    assert len(network.dialed) == 1


async def test_an_answer_while_the_source_is_being_asked_for_its_end_closes_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C27: all of the content has gone out, but not the end of it: the next request would be read as more."""

    async def source() -> AsyncIterator[bytes]:
        yield b"all"
        await trio.sleep(10)

    peer = ScriptedPeer().expect_until(b"all\r\n").send(OK).expect_end()
    async with client_of(peer) as (client, _):
        started = trio.current_time()
        assert (await client.post(URL, content=source())).status == 200
        assert trio.current_time() == started
        assert await in_pool(client) == (0, 0)
        assert peer.finished


@pytest.mark.parametrize("given", ["3", "4"])
async def test_an_answer_while_a_counted_source_is_being_asked_for_its_end_finds_a_whole_message(
    given: str, autojump_clock: trio.testing.MockClock
) -> None:
    """C27: the server can know that it has all, and the connection goes on; unless there is some to come.

    It used to be closed each time: that of a file, too, which is read once more for its end, in a thread.
    """

    async def source() -> AsyncIterator[bytes]:
        yield b"all"
        await trio.sleep(10)

    peer = ScriptedPeer().expect_until(b"all").send(OK)
    peer = peer.expect_until(END).send(OK) if given == "3" else peer.expect_end()
    async with client_of(peer) as (client, network):
        began = trio.current_time()
        response = await client.post(URL, content=source(), headers={"Content-Length": given})
        assert (response.status, trio.current_time()) == (200, began)
        assert await in_pool(client) == ((0, 1) if given == "3" else (0, 0))
        if given == "3":
            assert (await client.get(URL)).status == 200
            assert len(network.dialed) == 1


@pytest.mark.parametrize("error", [ValueError("mine"), ExceptionGroup("mine", [ValueError("a")])])
async def test_a_source_that_fails_in_its_own_clean_up_is_heard(error: Exception) -> None:
    """C27: even though the answer has come; its error would else be lost."""

    async def source() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
        finally:
            raise error

    peer = ScriptedPeer(memory_pair(5000)).expect_until(b"xxx").send(TOO_LARGE)
    async with client_of(peer) as (client, _):
        with pytest.raises(type(error)) as caught:
            await client.post(URL, content=source())
        assert caught.value is error
        assert await in_pool(client) == (0, 0)


async def test_a_source_that_never_waits_lets_others_run() -> None:
    """C26: however fast the server reads."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    class Eager:
        given = 0

        def __aiter__(self) -> Eager:
            return self

        async def __anext__(self) -> bytes:
            if self.given == 200:
                raise StopAsyncIteration
            self.given += 1
            return b"x"

    peer = ScriptedPeer().expect_until(b"0\r\n\r\n").send(OK)
    async with client_of(peer) as (client, _), trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await client.post(URL, content=Eager())
        nursery.cancel_scope.cancel()
    assert turns >= 200


async def test_streaming_up_holds_no_more_than_a_piece(autojump_clock: trio.testing.MockClock) -> None:
    """C26: a source is asked for the next piece when the server has taken the one before."""
    source = Endless(size=10_000)
    peer = ScriptedPeer(memory_pair(10_000)).expect_until(END).wait(50).send(TOO_LARGE)
    async with client_of(peer) as (client, _):
        await client.post(URL, content=source)
    assert source.given <= 3


async def test_what_is_uploaded_and_downloaded_can_be_the_same_stream() -> None:
    """C26, C34: a streamed response is content for another request, and nothing is kept between."""
    parts = [b"%04d" % number for number in range(500)]
    chunks = b"".join(b"4\r\n%s\r\n" % part for part in parts)
    upstream = answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    sink = ScriptedPeer(memory_pair(100)).expect_until(b"\r\n0\r\n\r\n").send(OK)
    async with client_of(upstream, sink) as (client, network):
        async with client.stream("GET", "http://other.example/") as response:
            assert (await client.put(URL, content=response.body)).status == 200
            assert response.body.at_end
            assert response.body.received == 2000
        pieces = network.heads(1).partition(END)[2].split(b"\r\n")[1::2]
    assert b"".join(pieces) == b"".join(parts)
