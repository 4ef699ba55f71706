"""A script is followed to the byte, and says what went wrong."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_http.testing import ScriptedPeer


async def failure(peer: ScriptedPeer) -> str:
    """Play a script that has to fail; return what it says."""
    with pytest.raises(AssertionError) as caught:
        await peer.play()
    return str(caught.value)


async def test_a_whole_exchange_goes_by_the_script() -> None:
    peer = (
        ScriptedPeer()
        .expect(b"GET / HTTP/1.1\r\n")
        .expect_until(b"\r\n\r\n", startswith=b"Host:", contains=b"example")
        .send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .expect_end()
        .close()
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        for part in (b"GET / HT", b"TP/1.1\r\nHost: exam", b"ple\r\n\r\n"):
            await peer.stream.send_all(part)
        assert await peer.stream.receive_some() == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        await peer.stream.send_eof()
        assert await peer.stream.receive_some() == b""
    assert peer.received == b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"


async def test_a_mismatch_shows_both_byte_strings_and_the_step_and_breaks_the_connection() -> None:
    peer = ScriptedPeer().send(b"hello").expect(b"PUT /x")
    await peer.stream.send_all(b"POST /x and more")
    text = await failure(peer)
    assert "step 2 of 2, expect(b'PUT /x'):" in text
    assert "expected: b'PUT /x'\n" in text
    assert "got:      b'POST /'" in text
    with pytest.raises(trio.BrokenResourceError):
        await peer.stream.receive_some()


async def test_a_mismatch_fails_at_the_first_wrong_byte_without_waiting_for_the_rest() -> None:
    peer = ScriptedPeer().expect(b"0123456789")
    await peer.stream.send_all(b"01x")
    assert "got:      b'01x'" in await failure(peer)


@pytest.mark.parametrize("script", [ScriptedPeer().expect(b"abc"), ScriptedPeer().expect_until(b"c")])
async def test_an_early_end_is_a_mismatch_that_shows_what_came_before(script: ScriptedPeer) -> None:
    await script.stream.send_all(b"ab")
    await script.stream.aclose()
    text = await failure(script)
    assert "got:      b'ab'" in text
    assert "then: the end of the stream" in text


async def test_what_comes_up_to_a_marker_is_looked_at() -> None:
    for wrong in ({"startswith": b"GET"}, {"contains": b"Host:"}):
        peer = ScriptedPeer().expect_until(b"\n", **wrong)
        await peer.stream.send_all(b"PUT /\nGET Host:")
        assert "got:      b'PUT /\\n'" in await failure(peer)
    with pytest.raises(ValueError):
        ScriptedPeer().expect_until(b"")


async def test_bytes_where_the_end_is_expected_are_a_mismatch() -> None:
    peer = ScriptedPeer().expect(b"ab").expect_end()
    await peer.stream.send_all(b"abc")
    assert "expected: the end of the stream\n  got:      b'c'" in await failure(peer)


async def test_a_broken_connection_is_expected_or_else_told() -> None:
    peer = ScriptedPeer().expect_broken()
    peer.stream.reset()
    await peer.play()
    for script in (ScriptedPeer().expect_end(), ScriptedPeer().send(b"x"), ScriptedPeer().expect(b"x")):
        script.stream.reset()
        assert "the peer has reset the connection" in await failure(script)
    peer = ScriptedPeer().expect_broken()
    await peer.stream.aclose()
    assert "got:      the end of the stream" in await failure(peer)


async def test_silence_is_expected_for_a_time_and_a_byte_or_the_end_breaks_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    peer = ScriptedPeer().expect_nothing(30)
    start = trio.current_time()
    await peer.play()
    assert trio.current_time() - start == 30
    peer.expect_nothing(30)
    await peer.stream.send_all(b"too early")
    assert "got:      b'too early'" in await failure(peer)
    peer = ScriptedPeer().expect_nothing(30)
    await peer.stream.aclose()
    assert "got:      the end of the stream" in await failure(peer)


async def test_waiting_takes_its_time(autojump_clock: trio.testing.MockClock) -> None:
    start = trio.current_time()
    await ScriptedPeer().wait(12.5).play()
    assert trio.current_time() - start == 12.5


async def test_bytes_sent_one_by_one_arrive_one_by_one() -> None:
    peer = ScriptedPeer().send_bytewise(b"abc").send_eof()
    parts: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        while part := await peer.stream.receive_some():
            parts.append(part)
    assert parts == [b"a", b"b", b"c"]


async def test_after_a_half_close_it_goes_on_receiving() -> None:
    peer = ScriptedPeer().send_eof().expect(b"late")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        assert await peer.stream.receive_some() == b""
        await peer.stream.send_all(b"late")


async def test_a_reset_is_a_failure_for_the_other_side() -> None:
    peer = ScriptedPeer().send(b"lost").reset()
    await peer.play()
    with pytest.raises(trio.BrokenResourceError):
        await peer.stream.receive_some()


async def test_quiet_is_when_the_other_side_can_do_no_more() -> None:
    peer = ScriptedPeer().wait_until_quiet()
    done: list[int] = []

    async def work() -> None:
        for number in range(20):
            await trio.lowlevel.checkpoint()
            done.append(number)
        await peer.stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await peer.play()
        assert len(done) == 20
        nursery.cancel_scope.cancel()


async def test_playing_goes_on_where_it_left_off() -> None:
    peer = ScriptedPeer().send(b"one")
    assert not peer.finished
    await peer.play()
    assert peer.finished
    assert not peer.send(b"two").finished
    await peer.play()
    assert await peer.stream.receive_some() == b"onetwo"


async def test_a_cancelled_play_breaks_the_connection() -> None:
    peer = ScriptedPeer().expect(b"x")
    with trio.CancelScope() as scope:
        scope.cancel()
        await peer.play()
    with pytest.raises(trio.BrokenResourceError):
        await peer.stream.send_all(b"x")
