"""What a sweep sees of things that are left behind, and how a caller adds to it."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from trio_http.testing import (
    DEFAULT_INVARIANTS,
    SweepFailed,
    cancel_at_every_step,
    memory_pair,
    no_descriptor_left,
    no_resource_warning,
    no_stream_left,
    no_task_left,
)

needs_a_list_of_descriptors = pytest.mark.skipif(
    not (os.path.isdir("/proc/self/fd") or os.path.isdir("/dev/fd")),
    reason="this system does not list a process's descriptors",
)


@needs_a_list_of_descriptors
async def test_a_socket_that_is_left_open_is_found_with_its_address() -> None:
    held: list[socket.socket] = []

    async def scenario() -> None:
        listener = socket.socket()
        held.append(listener)
        listener.bind(("127.0.0.1", 0))
        await trio.lowlevel.checkpoint()  # the defect: not in a block
        listener.close()

    with pytest.raises(SweepFailed) as caught:
        await cancel_at_every_step(scenario)
    host, port = held[-1].getsockname()
    for each in held:
        each.close()
    assert caught.value.reason.startswith("AssertionError: descriptors were left open: ")
    assert f"(a socket at ('{host}', {port}))" in caught.value.reason


@needs_a_list_of_descriptors
async def test_a_file_and_a_pipe_that_are_left_open_are_found() -> None:
    held: list[int] = []

    def close() -> None:
        while held:
            os.close(held.pop())

    async def scenario() -> None:
        held.extend([os.open(__file__, os.O_RDONLY), *os.pipe()])
        await trio.lowlevel.checkpoint()
        close()

    with pytest.raises(SweepFailed) as caught:
        await cancel_at_every_step(scenario)
    close()
    assert "a file, " in caught.value.reason
    assert caught.value.reason.count("a pipe") == 2


@needs_a_list_of_descriptors
def test_a_descriptor_of_the_same_number_is_not_taken_for_another() -> None:
    first = os.open(__file__, os.O_RDONLY)
    with pytest.raises(AssertionError, match="left open"), no_descriptor_left():
        os.close(first)
        again = os.open(os.devnull, os.O_RDONLY)
        assert again == first
    os.close(again)


async def test_a_stream_in_memory_that_is_left_open_is_found_and_one_that_was_open_before_is_not() -> None:
    earlier = memory_pair()
    held = []

    async def scenario() -> None:
        pair = memory_pair()
        held.append(pair)
        await pair[0].send_all(b"hello")
        pair[0].close()
        pair[1].close()

    with pytest.raises(SweepFailed, match="streams in memory were left open: <MemoryStream, open, 0 bytes"):
        await cancel_at_every_step(scenario)
    assert not earlier[0].closed


async def test_a_socket_that_only_the_collector_closes_is_found() -> None:
    """Nothing is left open when it is looked for, and yet somebody had lost it."""

    async def scenario() -> None:
        mine = socket.socket()
        await trio.lowlevel.checkpoint()
        mine.close()

    with pytest.raises(SweepFailed, match="dropped without a close: unclosed <socket"):
        await cancel_at_every_step(scenario)


def test_other_warnings_take_their_way() -> None:
    with pytest.warns(UserWarning, match="of no concern"), no_resource_warning():
        warnings.warn("of no concern", UserWarning, stacklevel=1)


async def test_a_task_is_left_when_it_is_not_over() -> None:
    async with trio.open_nursery() as nursery:
        with (
            pytest.raises(AssertionError, match=r"tasks were left behind: .*sleep_forever, at"),
            no_task_left(),
        ):
            nursery.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


def test_nothing_is_said_when_nothing_is_left() -> None:
    with no_stream_left(), no_descriptor_left(), no_resource_warning():
        left, right = memory_pair()
        left.close()
        right.close()
        with open(__file__, "rb") as file:
            assert file.read(1)


async def test_a_caller_adds_an_invariant_of_its_own() -> None:
    rows: list[str] = []

    @contextlib.contextmanager
    def no_row_locked() -> Iterator[None]:
        yield
        locked = list(rows)
        rows.clear()
        assert not locked, f"still locked: {locked}"

    async def scenario() -> None:
        rows.append("seven")
        await trio.lowlevel.checkpoint()
        rows.clear()

    assert (await cancel_at_every_step(scenario)).points
    rows.clear()
    with pytest.raises(SweepFailed, match="still locked: \\['seven'\\]"):
        await cancel_at_every_step(scenario, invariants=(*DEFAULT_INVARIANTS, no_row_locked))


async def test_invariants_are_looked_at_when_the_world_is_left() -> None:
    """What the world holds and closes at its end was not left behind."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[None]:
        kept = memory_pair()
        with socket.socket():
            await trio.lowlevel.checkpoint()
            yield
        for end in kept:
            end.close()

    async def scenario(value: None) -> None:
        await trio.lowlevel.checkpoint()

    assert (await cancel_at_every_step(scenario, world=world)).points


async def test_what_is_made_once_and_kept_for_good_was_not_left_behind() -> None:
    cache: list[int] = []

    async def scenario() -> None:
        if not cache:
            cache.append(os.open(os.devnull, os.O_RDONLY))
        await trio.lowlevel.checkpoint()

    assert (await cancel_at_every_step(scenario)).points
    os.close(cache[0])


async def test_garbage_of_an_earlier_time_is_blamed_on_nobody() -> None:
    """It used to be: the collector came by in the midst of an innocent run, and found a socket in a ring."""

    class Ring:
        def __init__(self) -> None:
            self.socket = socket.socket()
            self.itself = self

    async def scenario() -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        rubbish = [[] for _ in range(20_000)]  # enough for the collector to come by
        assert rubbish

    Ring()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert (await cancel_at_every_step(scenario)).points
        assert gc.isenabled()
        gc.collect()
