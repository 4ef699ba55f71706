"""The view of a transport that is handed to users: Trio's contract of a stream, and leftover bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from tests.transport._peers import clog, plain_pair, tcp_pair, tls_pair
from trio_http.transport import (
    RECEIVE_BYTES,
    SocketTransport,
    StreamTransport,
    TLSTransport,
    TransportStream,
)

pytestmark = pytest.mark.usefixtures("each_way_of_waiting")

StreamPair = tuple[TransportStream, TransportStream]


async def plain() -> StreamPair:
    left, right = await plain_pair()
    return TransportStream(left), TransportStream(right)


async def plain_clogged() -> StreamPair:
    left, right = await plain_pair()
    clog(left)
    clog(right)
    return TransportStream(left), TransportStream(right)


async def tcp() -> StreamPair:
    left, right = tcp_pair()
    return TransportStream(SocketTransport(left)), TransportStream(SocketTransport(right))


async def tls() -> StreamPair:
    left, right = await tls_pair()
    return TransportStream(left), TransportStream(right)


async def tls_clogged() -> StreamPair:
    left, right = await tls_pair()
    clog(left)
    clog(right)
    return TransportStream(left), TransportStream(right)


async def memory() -> StreamPair:
    left, right = trio.testing.memory_stream_pair()
    return TransportStream(StreamTransport(left)), TransportStream(StreamTransport(right))


async def lockstep() -> StreamPair:
    left, right = trio.testing.lockstep_stream_pair()
    return TransportStream(StreamTransport(left)), TransportStream(StreamTransport(right))


Maker = Callable[[], Awaitable[StreamPair]]


@pytest.mark.parametrize(
    ("make", "make_clogged"),
    [
        pytest.param(plain, plain_clogged, id="plain"),
        pytest.param(tcp, None, id="tcp"),
        pytest.param(tls, tls_clogged, id="tls"),
        pytest.param(memory, None, id="memory"),
    ],
)
async def test_it_is_a_half_closeable_stream_by_trios_own_suite(
    make: Maker, make_clogged: Maker | None
) -> None:
    await trio.testing.check_half_closeable_stream(make, make_clogged)


async def test_over_a_foreign_stream_without_a_buffer_it_is_a_two_way_stream_by_trios_own_suite() -> None:
    # Not the half-closeable suite: Trio's lockstep streams themselves do not pass it when clogged.
    await trio.testing.check_two_way_stream(lockstep, lockstep)


@pytest.mark.parametrize("make", [plain, tls, memory])
async def test_leftover_bytes_come_first_and_obey_max_bytes(make: Maker) -> None:
    left, right = await make()
    stream = TransportStream(left.transport, leftover=bytearray(b"abcdef"))
    await right.send_all(b"ghi")
    got = [await stream.receive_some(4), await stream.receive_some(4), await stream.receive_some()]
    assert got == [b"abcd", b"ef", b"ghi"]
    await stream.aclose()
    await right.aclose()


async def test_a_small_max_bytes_keeps_the_rest_for_later() -> None:
    left, right = await plain()
    await left.send_all(b"abcdef")
    assert [await right.receive_some(n) for n in (1, 2, 100)] == [b"a", b"bc", b"def"]
    await left.aclose()
    assert await right.receive_some(1) == b""
    await right.aclose()


async def test_a_cancelled_receive_leaves_the_leftover_where_it_was() -> None:
    left, right = await plain()
    stream = TransportStream(left.transport, leftover=b"kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.receive_some()
    assert scope.cancelled_caught
    assert await stream.receive_some() == b"kept"
    await stream.aclose()
    await right.aclose()


async def test_leftover_bytes_are_not_given_out_after_a_close() -> None:
    left, right = await plain()
    stream = TransportStream(left.transport, leftover=b"late")
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    await right.aclose()


async def test_reading_a_large_leftover_byte_by_byte_copies_each_byte_once() -> None:
    left, right = await plain()
    whole = bytes(2000)
    stream = TransportStream(left.transport, leftover=whole)
    for _ in range(1000):
        assert await stream.receive_some(1) == b"\0"
    assert stream._leftover is whole
    assert len(await stream.receive_some()) == 1000
    assert stream._leftover == b""
    await stream.aclose()
    await right.aclose()


@pytest.mark.parametrize("make", [plain, tls])
async def test_a_send_is_a_checkpoint_and_a_cancelled_one_has_sent_nothing(make: Maker) -> None:
    left, right = await make()
    with trio.testing.assert_checkpoints():
        await left.send_all(b"x")
    with trio.CancelScope() as scope:
        scope.cancel()
        await left.send_all(b"never")
    assert scope.cancelled_caught
    await left.send_all(b"y")
    await left.aclose()
    got = [part async for part in right]
    assert b"".join(got) == b"xy"
    await right.aclose()


@pytest.mark.parametrize("make", [plain, tls])
async def test_a_memoryview_of_larger_items_is_sent_whole(make: Maker) -> None:
    left, right = await make()
    body = bytes(range(256)) * 4096
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, memoryview(body).cast("I"))
        got = b""
        while len(got) < len(body):
            got += await right.receive_some()
    assert got == body
    await left.aclose()
    await right.aclose()


async def test_without_max_bytes_one_receive_is_returned() -> None:
    left, right = await plain()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, bytes(1 << 18))
        got = 0
        while got < 1 << 18:
            part = await right.receive_some()
            assert 0 < len(part) <= RECEIVE_BYTES
            got += len(part)
    await left.aclose()
    await right.aclose()


async def test_it_leads_back_to_the_facts_of_its_transport() -> None:
    left, right = await tls()
    assert isinstance(left.transport, TLSTransport)
    assert left.transport.tls is not None
    assert "TLSTransport" in repr(left)
    await left.aclose()
    assert left.transport.closed
    await right.aclose()
