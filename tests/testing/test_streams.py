"""The connection in memory: Trio's contract, resets, limits and counters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from trio_http.testing import MemoryStream, memory_pair


async def test_it_keeps_trios_contract_for_streams() -> None:
    async def make() -> tuple[MemoryStream, MemoryStream]:
        return memory_pair()

    async def make_clogged() -> tuple[MemoryStream, MemoryStream]:
        left, right = memory_pair(max_buffer_bytes=1)
        await left.send_all(b"x")
        await right.send_all(b"x")
        return left, right

    await trio.testing.check_half_closeable_stream(make, make_clogged)


async def test_counters_tell_bytes_and_calls() -> None:
    left, right = memory_pair()
    await left.send_all(b"abc")
    await left.send_all(b"de")
    await left.send_all(b"")
    assert (left.sends, left.sent_bytes) == (2, 5)
    assert await right.receive_some(4) == b"abcd"
    assert await right.receive_some() == b"e"
    assert (right.receives, right.received_bytes) == (2, 5)
    await left.aclose()
    assert await right.receive_some() == b""
    assert right.receives == 2
    assert (left.closed, right.closed) == (True, False)


async def test_a_limited_buffer_holds_up_the_sender_until_the_receiver_takes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    left, right = memory_pair(max_buffer_bytes=3)
    with trio.move_on_after(1) as scope:
        await left.send_all(b"abcde")
    assert scope.cancelled_caught
    assert left.sent_bytes == 3
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, b"fgh")
        await trio.testing.wait_all_tasks_blocked()
        assert left.sent_bytes == 3
        assert await right.receive_some(2) == b"ab"
        await trio.testing.wait_all_tasks_blocked()
        assert left.sent_bytes == 5
        assert await right.receive_some() == b"cfg"
    assert await right.receive_some() == b"h"


async def test_a_limit_of_no_bytes_is_refused() -> None:
    with pytest.raises(ValueError):
        memory_pair(max_buffer_bytes=0)


async def test_a_reset_breaks_whatever_the_peer_does_and_loses_what_was_on_its_way() -> None:
    left, right = memory_pair()
    await left.send_all(b"lost")
    left.reset()
    for operation in (right.receive_some, lambda: right.send_all(b"x"), right.wait_send_all_might_not_block):
        with pytest.raises(trio.BrokenResourceError):
            await operation()
    for operation in (left.receive_some, lambda: left.send_all(b"x"), left.send_eof):
        with pytest.raises(trio.ClosedResourceError):
            await operation()
    assert left.closed
    assert not right.closed


@pytest.mark.parametrize("end", ["reset", "close"])
async def test_who_waits_is_woken_by_the_end_of_either_side(end: str) -> None:
    async def fails(operation: Callable[[], Awaitable[object]], error: type[Exception]) -> None:
        with pytest.raises(error):
            await operation()

    left, right = memory_pair(max_buffer_bytes=1)
    await left.send_all(b"x")
    await right.send_all(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, lambda: left.send_all(b"y"), trio.ClosedResourceError)
        nursery.start_soon(fails, lambda: right.send_all(b"y"), trio.BrokenResourceError)
        await trio.testing.wait_all_tasks_blocked()
        getattr(left, end)()

    left, right = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, left.receive_some, trio.ClosedResourceError)
        if end == "reset":
            nursery.start_soon(fails, right.receive_some, trio.BrokenResourceError)
        await trio.testing.wait_all_tasks_blocked()
        getattr(left, end)()


async def test_the_first_way_of_closing_counts() -> None:
    left, right = memory_pair()
    await left.send_all(b"kept")
    left.close()
    left.reset()
    assert await right.receive_some() == b"kept"
    assert await right.receive_some() == b""
