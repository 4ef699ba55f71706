"""A message body as a stream: pieces, parts of pieces, the end, and who may read."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from trio_http import Headers, MessageBody


class Body(MessageBody):
    """A body of given pieces, each of which may be waited for."""

    def __init__(self, *pieces: bytes, gate: trio.Semaphore | None = None) -> None:
        super().__init__()
        self.pieces = list(pieces)
        self.gate = gate
        self.asked = 0

    async def _next_piece(self) -> bytes:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.acquire()
        return self.pieces.pop(0) if self.pieces else b""

    @property
    def trailers(self) -> Headers:
        return Headers()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_pieces_come_as_they_are_and_then_the_end_for_ever() -> None:
    body = Body(b"one", b"two")
    assert [await body.receive_some() for _ in range(4)] == [b"one", b"two", b"", b""]
    assert body.asked == 3  # the end is asked for once


async def test_iteration_ends_with_the_body() -> None:
    assert [piece async for piece in Body(b"one", b"two")] == [b"one", b"two"]


async def test_a_bound_is_kept_and_no_byte_is_lost() -> None:
    body = Body(b"abcde", b"f")
    assert await body.receive_some(2) == b"ab"
    assert await body.receive_some(2) == b"cd"
    assert await body.receive_some(2) == b"e"
    assert await body.receive_some(2) == b"f"
    assert await body.receive_some(2) == b""


async def test_the_rest_of_a_piece_comes_before_the_next_piece() -> None:
    body = Body(b"abc", b"de")
    assert await body.receive_some(1) == b"a"
    assert await body.receive_some() == b"bc"
    assert body.asked == 1
    assert await body.receive_some() == b"de"


@pytest.mark.parametrize(
    ("bound", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("1", TypeError)]
)
async def test_a_bound_that_is_none_is_refused_and_changes_nothing(
    bound: Any, error: type[Exception]
) -> None:
    body = Body(b"abc")
    with pytest.raises(error):
        await body.receive_some(bound)
    assert await body.receive_some() == b"abc"


async def test_a_second_reader_is_refused_while_one_waits(nursery: trio.Nursery) -> None:
    gate = trio.Semaphore(0)
    body = Body(b"abc", gate=gate)
    got = []

    async def read() -> None:
        got.append(await body.receive_some())

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(trio.BusyResourceError):
        await body.receive_some()
    gate.release()
    await trio.testing.wait_all_tasks_blocked()
    assert got == [b"abc"]


async def test_a_cancelled_reader_leaves_the_body_to_the_next() -> None:
    gate = trio.Semaphore(0)
    body = Body(b"abc", gate=gate)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    gate.release()
    assert await body.receive_some() == b"abc"


async def test_every_read_is_a_checkpoint() -> None:
    body = Body(b"abc")
    for bound in (1, 1, None, None, None):
        with trio.testing.assert_checkpoints():
            await body.receive_some(bound)
