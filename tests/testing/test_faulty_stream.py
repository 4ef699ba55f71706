"""Faults at a chosen byte, in either direction."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_http.testing import Faults, FaultyStream, MemoryStream, memory_pair


async def receive_until_it_fails(stream: trio.abc.ReceiveStream) -> tuple[list[bytes], str]:
    """The parts that came, and what came then: the end, or the error's name."""
    parts: list[bytes] = []
    try:
        while part := await stream.receive_some():
            parts.append(part)
    except trio.BrokenResourceError as exc:
        return parts, type(exc).__name__
    return parts, "end"


def faulty(
    receiving: Faults | None = None, sending: Faults | None = None
) -> tuple[FaultyStream, MemoryStream]:
    inner, peer = memory_pair()
    return FaultyStream(inner, receiving=receiving or Faults(), sending=sending or Faults()), peer


async def test_without_faults_it_keeps_trios_contract() -> None:
    async def make() -> tuple[FaultyStream, FaultyStream]:
        left, right = memory_pair()
        return FaultyStream(left), FaultyStream(right)

    async def make_clogged() -> tuple[FaultyStream, FaultyStream]:
        left, right = memory_pair(max_buffer_bytes=1)
        await left.send_all(b"x")
        await right.send_all(b"x")
        return FaultyStream(left), FaultyStream(right)

    await trio.testing.check_half_closeable_stream(make, make_clogged)


@pytest.mark.parametrize("at", range(7))
async def test_receiving_breaks_after_exactly_so_many_bytes(at: int) -> None:
    stream, peer = faulty(receiving=Faults(break_at=at))
    await peer.send_all(b"abcdefg")
    parts, end = await receive_until_it_fails(stream)
    assert (b"".join(parts), end) == (b"abcdefg"[:at], "BrokenResourceError")
    assert stream.received_bytes == at
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"the other direction is broken, too")


@pytest.mark.parametrize("at", range(7))
async def test_sending_breaks_after_exactly_so_many_bytes(at: int) -> None:
    stream, peer = faulty(sending=Faults(break_at=at))
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"abcdefgh")
    assert stream.sent_bytes == at
    await stream.aclose()
    assert await receive_until_it_fails(peer) == ([b"abcdefgh"[:at]] if at else [], "end")


async def test_a_message_that_ends_before_the_fault_passes_and_the_next_breaks() -> None:
    stream, _ = faulty(sending=Faults(break_at=3))
    await stream.send_all(b"abc")
    with pytest.raises(trio.BrokenResourceError):
        await stream.wait_send_all_might_not_block()
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()


@pytest.mark.parametrize("other", [None, 3], ids=["waits for its peer", "stalls"])
async def test_a_call_that_waits_in_the_other_direction_breaks_too(other: int | None) -> None:
    stream, peer = faulty(receiving=Faults(stall_at=other), sending=Faults(break_at=3))
    await peer.send_all(b"abc")
    assert await stream.receive_some() == b"abc"
    async with trio.open_nursery() as nursery:

        async def is_broken() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

        nursery.start_soon(is_broken)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"abcd")


async def test_an_early_end_looks_like_the_peers_and_leaves_sending_alone() -> None:
    stream, peer = faulty(receiving=Faults(end_at=2))
    await peer.send_all(b"abc")
    assert await receive_until_it_fails(stream) == ([b"ab"], "end")
    assert await stream.receive_some() == b""
    await stream.send_all(b"x")
    assert await peer.receive_some() == b"x"


async def test_a_sender_does_not_notice_that_the_rest_is_dropped() -> None:
    stream, peer = faulty(sending=Faults(end_at=2))
    await stream.send_all(b"abc")
    await stream.send_all(b"d")
    await stream.wait_send_all_might_not_block()
    await stream.aclose()
    assert await receive_until_it_fails(peer) == ([b"ab"], "end")


@pytest.mark.parametrize("direction", ["receiving", "sending"])
async def test_a_stall_lasts_until_it_is_cancelled_or_closed(
    direction: str, autojump_clock: trio.testing.MockClock
) -> None:
    stream, peer = faulty(**{direction: Faults(stall_at=2)})
    await peer.send_all(b"abc")

    async def stall() -> None:
        if direction == "receiving":
            while True:
                await stream.receive_some()
        await stream.send_all(b"abc")

    with trio.move_on_after(1000) as scope:
        await stall()
    assert scope.cancelled_caught
    assert (stream.received_bytes, stream.sent_bytes) == ((2, 0) if direction == "receiving" else (0, 2))
    async with trio.open_nursery() as nursery:

        async def is_woken() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stall()

        nursery.start_soon(is_woken)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()


async def test_small_pieces_add_up() -> None:
    stream, peer = faulty(receiving=Faults(at_most=1), sending=Faults(at_most=2))
    await peer.send_all(b"abc")
    assert [await stream.receive_some() for _ in range(3)] == [b"a", b"b", b"c"]
    await stream.send_all(b"defgh")
    inner = stream._stream
    assert isinstance(inner, MemoryStream)
    assert inner.sends == 3
    assert await peer.receive_some() == b"defgh"


@pytest.mark.parametrize("wrong", [{"break_at": 1, "stall_at": 2}, {"end_at": -1}, {"at_most": 0}])
def test_faults_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        Faults(**wrong)
