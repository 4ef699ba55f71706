"""How a server has to keep up: limits whose clock runs only while the server is waited for (C56, N7)."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from trio_http import ClientPace, ConnectionLost, ResponseIncomplete
from trio_http.client import Client
from trio_http.testing import MemoryStream, ScriptedPeer, memory_pair

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
GONE, IDLE = (0, 0), (0, 1)


def chunk(size: int) -> bytes:
    return b"%x\r\n%s\r\n" % (size, b"x" * size)


def sending(size: int, seconds: float, times: int, *, ends: bool = True) -> ScriptedPeer:
    """A server that sends so many bytes of content each so many seconds."""
    peer = ScriptedPeer().expect_until(END).send(CHUNKED)
    for _ in range(times):
        peer.wait(seconds).send(chunk(size))
    return peer.send(LAST) if ends else peer


async def given_up(peer: ScriptedPeer, kind: type[Exception], **options: Any) -> tuple[float, Exception]:
    """After how many seconds a GET fails, and how; the connection has to be closed."""
    async with client_of(peer) as (client, network):
        started = trio.current_time()
        with pytest.raises(kind) as caught:
            await client.get(URL, **options)
        seconds = trio.current_time() - started
        assert caught.value.facts.timed_out  # type: ignore[attr-defined]  # of a RequestFailed
        assert await in_pool(client) == GONE
        assert network.streams[0].closed
    return seconds, caught.value


# --------------------------------------------------------------------------------------------------- the head


async def test_a_server_that_does_not_answer_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    """C56."""
    peer = ScriptedPeer().expect_until(END).expect_end()
    seconds, error = await given_up(peer, ConnectionLost, pace=ClientPace(head=7))
    assert seconds == pytest.approx(7)
    assert "ClientPace.head" in str(error)
    assert "may have acted" in str(error)


async def test_half_a_head_is_no_answer(autojump_clock: trio.testing.MockClock) -> None:
    """C56: however lively it comes in."""
    peer = ScriptedPeer().expect_until(END).send(b"HTTP/1.1 200 OK\r\n")
    for number in range(6):
        peer.wait(1).send(b"x-%d: y\r\n" % number)
    seconds, _ = await given_up(peer.expect_end(), ResponseIncomplete, pace=ClientPace(head=6.5))
    assert seconds == pytest.approx(6.5)


async def test_interim_responses_are_no_answer(autojump_clock: trio.testing.MockClock) -> None:
    """C56."""
    peer = ScriptedPeer().expect_until(END)
    for _ in range(6):
        peer.wait(1).send(b"HTTP/1.1 102 Processing\r\n\r\n")
    seconds, _ = await given_up(peer.expect_end(), ResponseIncomplete, pace=ClientPace(head=6.5))
    assert seconds == pytest.approx(6.5)


@pytest.mark.parametrize(("answer_after", "in_time"), [(4, True), (6, False)])
@pytest.mark.parametrize("size", [10, 100_000])
async def test_the_time_for_the_head_begins_with_the_end_of_the_upload(
    answer_after: float, in_time: bool, size: int, autojump_clock: trio.testing.MockClock
) -> None:
    """C56: the caller's own content may take as long as it likes."""

    async def source() -> AsyncIterator[bytes]:
        for _ in range(4):
            await trio.sleep(5)
            yield b"x" * size

    peer = ScriptedPeer().expect_until(b"\r\n" + LAST).wait(answer_after)
    if in_time:
        async with client_of(peer.send(OK)) as (client, _):
            assert (await client.post(URL, content=source(), pace=ClientPace(head=5))).status == 200
            assert trio.current_time() == pytest.approx(24, abs=0.1)
    else:
        async with client_of(peer) as (client, _):
            with pytest.raises(ConnectionLost) as caught:
                await client.post(URL, content=source(), pace=ClientPace(head=5))
            assert caught.value.facts.timed_out
            assert trio.current_time() == pytest.approx(25, abs=0.1)


async def test_waiting_for_a_100_is_not_counted(autojump_clock: trio.testing.MockClock) -> None:
    """C56, C28: the request was not sent yet."""
    peer = ScriptedPeer().expect_until(END).expect_nothing(9.9).expect(b"hello").wait(3).send(OK)
    async with client_of(peer, expect_seconds=10, pace=ClientPace(head=5)) as (client, _):
        response = await client.post(URL, content=b"hello", headers={"expect": "100-continue"})
        assert response.status == 200


async def test_a_head_in_time_ends_its_limit(autojump_clock: trio.testing.MockClock) -> None:
    """C56: the body, the caller and the next request have times of their own."""
    peer = ScriptedPeer().expect_until(END).wait(4).send(CHUNKED).wait(50).send(chunk(2)).send(LAST)
    peer.expect_until(END).wait(1000).send(OK)
    async with client_of(peer, idle_seconds=math.inf) as (client, network):
        async with client.stream("GET", URL, pace=ClientPace(head=5)) as response:
            await trio.sleep(100)
            assert await response.read() == b"xx"
        await trio.sleep(100)
        assert (await client.get(URL)).status == 200
    assert len(network.dialed) == 1


# -------------------------------------------------------------------------------------------------- receiving


@pytest.mark.parametrize("before", [0, 3])
async def test_a_silent_body_is_given_up_after_the_stall_limit(
    before: int, autojump_clock: trio.testing.MockClock
) -> None:
    """C56: counted from the last byte."""
    peer = sending(10, 1, before, ends=False).expect_end()
    seconds, error = await given_up(peer, ResponseIncomplete, pace=ClientPace(stall=20))
    assert seconds == pytest.approx(before + 20)
    assert "too slow with its response" in str(error)


async def test_a_silent_body_has_a_minute_unless_told_otherwise(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C56."""
    seconds, _ = await given_up(sending(1, 59, 3, ends=False).expect_end(), ResponseIncomplete)
    assert seconds == pytest.approx(59 * 3 + 60)


async def test_a_slow_drip_is_given_up_for_its_rate(autojump_clock: trio.testing.MockClock) -> None:
    """C56: half of the rate loses half a second each second."""
    peer = sending(500, 1, 19, ends=False).expect_end()
    seconds, _ = await given_up(peer, ResponseIncomplete, pace=ClientPace(stall=10, receive_rate=1000))
    assert 18 <= seconds <= 22


async def test_a_drip_is_honest_where_no_rate_is_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    """C56."""
    async with client_of(sending(1, 9, 100)) as (client, _):
        assert len((await client.get(URL, pace=ClientPace(stall=10))).content) == 100


@pytest.mark.parametrize(
    ("size", "seconds"), [(1100, 1), (11_000, 9.5), (110, 0.1)], ids=["even", "bursts", "fine"]
)
async def test_a_slow_but_honest_server_is_never_given_up(
    size: int, seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    """C56: for as long as it keeps the rate, in whatever portions."""
    pace = ClientPace(stall=10, receive_rate=1000)
    async with client_of(sending(size, seconds, 300), pace=pace) as (client, _):
        assert len((await client.get(URL)).content) == size * 300
        assert await in_pool(client) == IDLE


async def test_what_was_fast_is_not_saved_up(autojump_clock: trio.testing.MockClock) -> None:
    """C56."""
    peer = sending(1_000_000, 1, 5, ends=False).expect_end()
    seconds, _ = await given_up(peer, ResponseIncomplete, pace=ClientPace(stall=10, receive_rate=1000))
    assert seconds == pytest.approx(15)


async def test_a_caller_that_is_slow_to_read_is_not_blamed_on_the_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C56, N7: neither by the stall limit nor by the rate."""
    pace = ClientPace(stall=10, receive_rate=1000)
    async with client_of(sending(2000, 1, 20), pace=pace) as (client, _):
        received = 0
        async with client.stream("GET", URL) as response:
            while piece := await response.body.receive_some(500):
                received += len(piece)
                await trio.sleep(60)
        assert received == 40_000
        assert await in_pool(client) == IDLE


async def test_the_servers_time_begins_when_the_caller_comes_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C56: and then it is as long as ever."""
    peer = ScriptedPeer().expect_until(END).send(CHUNKED + chunk(3)).expect_end()
    async with (
        client_of(peer) as (client, _),
        client.stream("GET", URL, pace=ClientPace(stall=10)) as response,
    ):
        assert await response.body.receive_some() == b"xxx"
        await trio.sleep(1000)
        started = trio.current_time()
        with pytest.raises(ResponseIncomplete):
            await response.body.receive_some()
        assert trio.current_time() - started == pytest.approx(10)
        with pytest.raises(ResponseIncomplete):  # told again to who asks again
            await response.body.receive_some()


# ---------------------------------------------------------------------------------------------------- sending


async def upload(reads: Any, content: Any, pace: ClientPace) -> tuple[float, object]:
    """Send content to a server whose reading is ``reads``; how long it took, and the status or the error."""
    theirs, ours = memory_pair(1000)

    async def dial(*_: object) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reads, theirs)
        async with Client(dial=dial, pace=pace) as client:
            started = trio.current_time()
            try:
                result: object = (await client.put(URL, content=content)).status
            except ConnectionLost as exc:
                result = type(exc) if exc.facts.timed_out else exc
            seconds = trio.current_time() - started
            client._pool.ledger.check()
            assert client.statistics().leased == 0
        nursery.cancel_scope.cancel()
    return seconds, result


def reading(size: int, seconds: float, *, stops_after: float = math.inf) -> Any:
    """A server that takes so many bytes each so many seconds, and answers at the end."""

    async def serve(stream: MemoryStream) -> None:
        taken = 0
        last = b""
        while taken < stops_after:
            data = await stream.receive_some(size)
            taken += len(data)
            last = (last + data)[-5:]
            if last == b"end.\n":
                await stream.send_all(OK)
                return
            await trio.sleep(seconds)
        await trio.sleep_forever()

    return serve


def content_of(size: int, *, streamed: bool) -> Any:
    whole = b"x" * (size - 5) + b"end.\n"

    class Pieces:
        """Async iterable, of a known length to who reads it."""

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for at in range(0, size, 5000):
                await trio.lowlevel.checkpoint()
                yield whole[at : at + 5000]

    return Pieces() if streamed else whole


@pytest.mark.parametrize("streamed", [False, True], ids=["bytes", "source"])
async def test_a_server_that_stops_taking_the_request_is_given_up(
    streamed: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """C56: a stall in the other direction."""
    content = content_of(50_000, streamed=streamed)
    seconds, result = await upload(reading(1000, 0, stops_after=5000), content, ClientPace(stall=20))
    assert result is ConnectionLost
    assert seconds == pytest.approx(20, rel=0.3)


async def test_a_server_that_takes_a_small_request_not_at_all_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C56: also where the request is one send."""
    seconds, result = await upload(reading(1, 0, stops_after=0), b"x" * 10_000, ClientPace(stall=20))
    assert result is ConnectionLost
    assert seconds == pytest.approx(20, rel=0.3)


async def test_a_server_slower_than_the_rate_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    """C56."""
    content = content_of(100_000, streamed=True).__aiter__()
    _, result = await upload(reading(100, 1), content, ClientPace(stall=20, send_rate=1000))
    assert result is ConnectionLost


async def test_a_server_that_keeps_the_rate_is_not_given_up(autojump_clock: trio.testing.MockClock) -> None:
    """C56: though the upload lasts ten times as long as the stall limit."""

    async def source() -> AsyncIterator[bytes]:
        async for piece in content_of(200_000, streamed=True):
            yield piece

    seconds, result = await upload(unframed(1000, 1), source(), ClientPace(stall=20, send_rate=900))
    assert result == 200
    assert seconds > 190


def unframed(size: int, seconds: float) -> Any:
    """A server that reads slowly to the end of a chunked request."""

    async def serve(stream: MemoryStream) -> None:
        last = b""
        while not last.endswith(b"\r\n" + LAST):
            last = (last + await stream.receive_some(size))[-20:]
            await trio.sleep(seconds)
        await stream.send_all(OK)

    return serve


async def test_a_slow_source_is_not_blamed_on_the_server(autojump_clock: trio.testing.MockClock) -> None:
    """C56, N7."""

    async def source() -> AsyncIterator[bytes]:
        for _ in range(10):
            await trio.sleep(100)
            yield b"x"

    pace = ClientPace(stall=20, send_rate=1000)
    seconds, result = await upload(unframed(1000, 0), source(), pace)
    assert seconds == pytest.approx(1000)
    assert result == 200


# ------------------------------------------------------------------------------------------------- by request


async def test_a_request_may_have_a_pace_of_its_own(autojump_clock: trio.testing.MockClock) -> None:
    """C56: in place of the client's, for itself alone."""
    peer = ScriptedPeer().expect_until(END).wait(30).send(OK).expect_until(END).expect_end()
    async with client_of(peer, pace=ClientPace(head=10)) as (client, _):
        assert (await client.get(URL, pace=ClientPace(head=40))).status == 200
        started = trio.current_time()
        with pytest.raises(ConnectionLost):
            await client.get(URL)
        assert trio.current_time() - started == pytest.approx(10)


async def test_no_pace_is_asked_of_who_answers_nothing_but_late(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C56: how long an answer takes only the caller knows."""
    async with client_of(ScriptedPeer().expect_until(END).wait(1e5).send(OK)) as (client, _):
        assert (await client.get(URL)).status == 200


async def test_giving_up_one_server_touches_no_other(autojump_clock: trio.testing.MockClock) -> None:
    """C57."""
    stuck = ScriptedPeer().expect_until(END).expect_end()
    async with client_of(answering(OK, OK), stuck) as (client, network):
        await client.get("http://other.example/")
        with pytest.raises(ConnectionLost):
            await client.get(URL, pace=ClientPace(head=1))
        assert [stream.closed for stream in network.streams] == [False, True]
        await client.get("http://other.example/")
    assert len(network.dialed) == 2


@pytest.mark.parametrize(
    "values", [{"head": 0}, {"stall": 0}, {"stall": -1}, {"receive_rate": -1}, {"send_rate": -0.1}]
)
def test_a_pace_out_of_range_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        ClientPace(**values)
