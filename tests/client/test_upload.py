"""Content on its way out: what goes beside the reading of the response, and what stops it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from trio_http import ConnectionLost, InvalidRequest
from trio_http.testing import ScriptedPeer, memory_pair

LARGE = b"0123456789abcdef" * 65536  # a megabyte, far more than goes out at once
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\ntoo"


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await trio.lowlevel.checkpoint()
        yield part


async def test_a_small_content_is_one_send_with_its_head() -> None:
    peer = ScriptedPeer().expect_until(END + b"hello", contains=b"\r\nContent-Length: 5\r\n").send(OK)
    async with client_of(peer) as (client, network):
        await client.post(URL, content=b"hello")
        assert network.streams[0].sends == 1


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, len(LARGE)])
async def test_whole_content_of_any_size_arrives_with_its_length(size: int) -> None:
    content = LARGE[:size]
    peer = (
        ScriptedPeer().expect_until(END, contains=b"Content-Length: %d\r\n" % size).expect(content).send(OK)
    )
    async with client_of(peer) as (client, _):
        assert (await client.post(URL, content=content)).status == 200
        assert await in_pool(client) == (0, 1)


async def test_streamed_content_is_chunked_and_the_connection_goes_on() -> None:
    peer = ScriptedPeer().expect_until(END, contains=b"Transfer-Encoding: chunked\r\n")
    peer.expect(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").send(OK).expect_until(END).send(OK)
    async with client_of(peer) as (client, network):
        assert (await client.post(URL, content=pieces(b"abc", b"", b"de"))).status == 200
        assert (await client.get(URL)).status == 200
    assert len(network.dialed) == 1


async def test_streamed_content_of_a_stated_length_is_not_chunked() -> None:
    peer = ScriptedPeer().expect_until(END + b"abcde", contains=b"content-length: 5\r\n").send(OK)
    async with client_of(peer) as (client, network):
        await client.post(URL, content=pieces(b"abc", b"de"), headers={"content-length": "5"})
    assert b"Transfer-Encoding" not in network.heads()


async def test_a_stream_of_trios_is_content() -> None:
    source, sink = memory_pair()
    peer = ScriptedPeer().expect_until(b"0\r\n\r\n", contains=b"5\r\nhello\r\n").send(OK)
    async with client_of(peer) as (client, _):
        await sink.send_all(b"hello")
        await sink.aclose()
        assert (await client.post(URL, content=source)).status == 200
    await source.aclose()


@pytest.mark.parametrize(("given", "what"), [((b"abc",), "too little"), ((b"abc", b"def"), "too much")])
async def test_content_that_is_not_as_long_as_it_says_is_the_callers_fault(
    given: tuple[bytes, ...], what: str
) -> None:
    async with client_of(ScriptedPeer().expect_until(END)) as (client, _):
        with pytest.raises(InvalidRequest) as caught:
            await client.post(URL, content=pieces(*given), headers={"content-length": "5"})
        assert what in str(caught.value)
        assert await in_pool(client) == (0, 0)


@pytest.mark.parametrize(
    "error", [ValueError("mine"), trio.BrokenResourceError("mine"), ExceptionGroup("mine", [KeyError("x")])]
)
async def test_an_error_of_the_source_comes_out_as_it_is(error: Exception) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"abc"
        await trio.lowlevel.checkpoint()
        raise error

    async with client_of(ScriptedPeer().expect_until(b"abc\r\n").expect_end()) as (client, _):
        with pytest.raises(type(error)) as caught:
            await client.post(URL, content=source())
        assert caught.value is error
        assert await in_pool(client) == (0, 0)


async def test_a_source_that_gives_text_is_told_what_is_expected() -> None:
    async def source() -> AsyncIterator[str]:
        yield "abc"

    async with client_of(ScriptedPeer().expect_until(END)) as (client, _):
        with pytest.raises(TypeError, match="content must give bytes, not str"):
            await client.post(URL, content=source())  # type: ignore[arg-type]  # what is tested


async def test_an_early_answer_stops_the_upload_and_the_connection_is_closed_after_it() -> None:
    ended = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal ended
        try:
            while True:
                yield b"x" * 1000
        finally:
            ended = True

    peer = ScriptedPeer(memory_pair(5000)).expect_until(b"xxx").send(TOO_LARGE)  # and reads no more
    async with client_of(peer) as (client, _):
        response = await client.post(URL, content=endless())
        assert (response.status, response.content) == (413, b"too")
        assert ended
        assert await in_pool(client) == (0, 0)


async def test_an_early_answer_to_a_large_whole_content_is_had_too() -> None:
    peer = ScriptedPeer(memory_pair(5000)).expect_until(END).send(TOO_LARGE)
    async with client_of(peer) as (client, _):
        assert (await client.post(URL, content=LARGE)).status == 413
        assert await in_pool(client) == (0, 0)


async def test_the_body_of_an_early_answer_can_be_streamed() -> None:
    peer = ScriptedPeer(memory_pair(5000)).expect_until(END)
    peer.send(b"HTTP/1.1 413 X\r\nTransfer-Encoding: chunked\r\n\r\n").wait_until_quiet().send(
        b"3\r\nabc\r\n0\r\n\r\n"
    )
    async with client_of(peer) as (client, _):
        async with client.stream("POST", URL, content=LARGE) as response:
            assert await response.read() == b"abc"
        assert await in_pool(client) == (0, 0)


async def test_an_answer_is_had_when_the_server_stops_reading_for_good() -> None:
    """The send fails, since the server has closed; what it said before is here all the same."""
    peer = ScriptedPeer(memory_pair(5000)).expect_until(END).send(TOO_LARGE).close()
    async with client_of(peer) as (client, _):
        assert (await client.post(URL, content=LARGE)).content == b"too"


async def test_a_server_that_closes_within_an_upload_without_an_answer_is_lost() -> None:
    peer = ScriptedPeer(memory_pair(5000)).expect_until(END).close()
    async with client_of(peer) as (client, _):
        with pytest.raises(ConnectionLost) as caught:
            await client.post(URL, content=LARGE)
        assert 0 < caught.value.facts.bytes_sent < len(LARGE)
        assert await in_pool(client) == (0, 0)


async def test_a_cancelled_upload_closes_the_connection_and_ends_the_source(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[type[BaseException]] = []

    async def source() -> AsyncIterator[bytes]:
        yield b"abc"
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            seen.append(type(exc))
            raise

    async with client_of(ScriptedPeer().expect_until(b"abc\r\n").expect_end()) as (client, _):
        with trio.move_on_after(2) as scope:
            try:
                await client.post(URL, content=source())
            except BaseException as exc:
                seen.append(type(exc))
                raise
        assert scope.cancelled_caught
        assert seen == [trio.Cancelled, trio.Cancelled], "in the source and here: as it is, not in a group"
        assert await in_pool(client) == (0, 0)


# --------------------------------------------------------------------------------------------- 100 (Continue)

EXPECT = {"expect": "100-continue"}


async def test_content_waits_for_the_100_that_was_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    peer = ScriptedPeer().expect_until(END, contains=b"expect: 100-continue").expect_nothing(0.5)
    peer.send(b"HTTP/1.1 100 Continue\r\n\r\n").expect(b"hello").send(OK)
    async with client_of(peer) as (client, _):
        started = trio.current_time()
        assert (await client.post(URL, content=b"hello", headers=EXPECT)).status == 200
        assert trio.current_time() - started == pytest.approx(0.5)
        assert await in_pool(client) == (0, 1)


async def test_content_waits_a_second_for_a_100_and_no_longer(autojump_clock: trio.testing.MockClock) -> None:
    peer = ScriptedPeer().expect_until(END).expect_nothing(0.9).expect(b"hello").send(OK)
    async with client_of(peer) as (client, _):
        started = trio.current_time()
        assert (await client.post(URL, content=b"hello", headers=EXPECT)).status == 200
        assert trio.current_time() - started == pytest.approx(1)


async def test_another_interim_response_is_no_go_ahead(autojump_clock: trio.testing.MockClock) -> None:
    peer = ScriptedPeer().expect_until(END).send(b"HTTP/1.1 102 Processing\r\n\r\n").expect_nothing(0.9)
    async with client_of(peer.expect(b"hello").send(OK)) as (client, _):
        assert (await client.post(URL, content=b"hello", headers=EXPECT)).status == 200


async def test_a_refusal_instead_of_a_100_saves_the_content(autojump_clock: trio.testing.MockClock) -> None:
    peer = ScriptedPeer().expect_until(END).send(TOO_LARGE).expect_end()
    async with client_of(peer) as (client, _):
        assert (await client.post(URL, content=LARGE, headers=EXPECT)).status == 413
        assert await in_pool(client) == (0, 0)
        assert peer.finished


async def test_a_cancel_while_waiting_for_the_100_closes_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    peer = ScriptedPeer().expect_until(END).expect_end()
    async with client_of(peer) as (client, _):
        with trio.move_on_after(0.5) as scope:
            await client.post(URL, content=b"hello", headers=EXPECT)
        assert scope.cancelled_caught
        assert await in_pool(client) == (0, 0)
        assert peer.finished


async def test_streamed_content_waits_for_the_100_before_its_source_is_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked_at: list[float] = []

    async def source() -> AsyncIterator[bytes]:
        asked_at.append(trio.current_time())
        yield b"abc"

    peer = ScriptedPeer().expect_until(END).wait(0.25).send(b"HTTP/1.1 100 Continue\r\n\r\n")
    async with client_of(peer.expect(b"3\r\nabc\r\n0\r\n\r\n").send(OK)) as (client, _):
        started = trio.current_time()
        await client.post(URL, content=source(), headers=EXPECT)
        assert asked_at == [pytest.approx(started + 0.25)]


async def test_expect_without_content_is_refused() -> None:
    async with client_of(answering(OK)) as (client, network):
        with pytest.raises(InvalidRequest, match="without content"):
            await client.get(URL, headers=EXPECT)
    assert network.dialed == []
