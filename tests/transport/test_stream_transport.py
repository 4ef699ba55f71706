"""The transport over a foreign stream."""

from __future__ import annotations

import ssl

import pytest
import trio
import trio.testing

from tests.transport._peers import client_context, expect, server_context, tcp_pair
from trio_http.transport import RECEIVE_BYTES, StreamTransport


def memory_pair() -> tuple[StreamTransport, StreamTransport]:
    left, right = trio.testing.memory_stream_pair()
    return StreamTransport(left), StreamTransport(right)


class WholeStream(trio.abc.Stream):
    """A memory stream without a half-close; counts closes, and breaks in them when told to."""

    def __init__(self, stream: trio.abc.Stream, failure: Exception | None = None) -> None:
        self.stream, self.failure = stream, failure
        self.closes = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.closes += 1
        await self.stream.aclose()
        if self.failure is not None:
            raise self.failure


async def test_bytes_travel_and_are_bytes_in_bounded_parts() -> None:
    left, right = memory_pair()
    body = bytes(range(256)) * 1024
    await left.send_all(body)
    got = b""
    while len(got) < len(body):
        part = await right.receive()
        assert type(part) is bytes
        assert 0 < len(part) <= RECEIVE_BYTES
        got += part
    assert got == body
    await left.aclose()
    assert await right.receive() == b""
    await right.aclose()


async def test_it_cannot_be_looked_into_and_says_so() -> None:
    left, right = memory_pair()
    await left.send_all(b"x")
    assert right.receive_nowait() is None
    assert not right.is_stale()
    await expect(right, b"x")
    await left.aclose()
    await right.aclose()
    assert right.is_stale()


@pytest.mark.parametrize("mark", ["abort", "close"])
async def test_a_synchronous_end_refuses_further_use_until_the_asynchronous_one_finishes_it(
    mark: str,
) -> None:
    left, right = memory_pair()
    getattr(left, mark)()
    getattr(left, mark)()
    assert left.closed
    for refused in (
        left.receive(),
        left.send_all(b"x"),
        left.send_eof(),
        left.wait_send_all_might_not_block(),
    ):
        with pytest.raises(trio.ClosedResourceError):
            await refused
    with pytest.raises(trio.ClosedResourceError):
        left.receive_nowait()
    await left.aclose_forcefully()
    assert await right.receive() == b""
    await right.aclose()


async def test_aclose_after_an_abort_is_forceful_and_after_a_close_is_graceful() -> None:
    class Reluctant(WholeStream):
        """Its close waits for ever, and is only ended by a cancel."""

        async def aclose(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                await trio.aclose_forcefully(self.stream)

    ours, theirs = trio.testing.memory_stream_pair()
    aborted = StreamTransport(Reluctant(ours))
    aborted.abort()
    await aborted.aclose()
    assert await theirs.receive_some() == b""

    ours, theirs = trio.testing.memory_stream_pair()
    graceful = StreamTransport(Reluctant(ours))
    graceful.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(graceful.aclose)
        await trio.testing.wait_all_tasks_blocked()
        # A task is still waiting in the graceful close; a forceful one does not wait with it.
        await graceful.aclose_forcefully()
        assert await theirs.receive_some() == b""
        nursery.cancel_scope.cancel()


async def test_aclose_forcefully_wakes_a_task_that_an_abort_left_waiting() -> None:
    left, right = memory_pair()

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await left.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        left.abort()
        await left.aclose_forcefully()
    await right.aclose()


async def test_a_close_that_fails_gracefully_is_no_error_and_other_errors_are() -> None:
    ours, _ = trio.testing.memory_stream_pair()
    stream = WholeStream(ours, trio.BrokenResourceError("the peer was gone"))
    transport = StreamTransport(stream)
    await transport.aclose()
    await transport.aclose_forcefully()
    assert stream.closes == 2
    ours, _ = trio.testing.memory_stream_pair()
    with pytest.raises(ZeroDivisionError):
        await StreamTransport(WholeStream(ours, ZeroDivisionError())).aclose()


async def test_half_closing_where_the_stream_can() -> None:
    left, right = memory_pair()
    assert left.can_half_close
    await left.send_eof()
    assert await right.receive() == b""
    await right.send_all(b"answer")
    await expect(left, b"answer")
    await left.aclose()
    await right.aclose()


async def test_half_closing_where_the_stream_cannot_closes_it_whole() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    stream = WholeStream(ours)
    transport = StreamTransport(stream)
    assert not transport.can_half_close
    await transport.send_eof()
    with trio.testing.assert_checkpoints():
        await transport.send_eof()
    assert transport.closed
    assert stream.closes == 1
    assert await theirs.receive_some() == b""


async def test_a_cancelled_aclose_has_closed() -> None:
    left, right = memory_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await left.aclose()
    assert scope.cancelled_caught
    assert left.closed
    assert await right.receive() == b""
    await right.aclose()


async def test_aclose_after_an_abort_lets_a_cancel_through_and_has_closed() -> None:
    left, right = memory_pair()
    left.abort()
    with trio.CancelScope() as scope:
        scope.cancel()
        await left.aclose()
    assert scope.cancelled_caught
    assert await right.receive() == b""
    await right.aclose()


async def test_a_users_ssl_stream_gives_its_tls_facts_and_addresses() -> None:
    left, right = (trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in tcp_pair())
    names = left.socket.getpeername(), left.socket.getsockname()
    client = trio.SSLStream(left, client_context(), server_hostname="example.test")
    server = trio.SSLStream(right, server_context(), server_side=True)
    ours, theirs = StreamTransport(client), StreamTransport(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, b"x")
        await expect(theirs, b"x")
    assert (ours.peername, ours.sockname) == names
    assert not isinstance(ours.tls, ssl.SSLObject)
    assert ours.tls is not None
    assert ours.tls.version() == "TLSv1.3"
    assert not ours.can_half_close
    await ours.aclose_forcefully()
    await theirs.aclose_forcefully()


async def test_a_memory_stream_has_neither_addresses_nor_tls() -> None:
    left, right = memory_pair()
    assert (left.peername, left.sockname, left.tls, left.truncated) == (None, None, None, False)
    await left.aclose()
    await right.aclose()


async def test_addresses_of_a_socket_that_is_gone_are_unknown() -> None:
    left, right = tcp_pair()
    right.close()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(left))
    await stream.aclose()
    transport = StreamTransport(stream)
    assert transport.peername is None


async def test_a_forceful_close_is_not_touched_by_a_cancel_of_its_caller() -> None:
    left, right = memory_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await left.aclose_forcefully()
        closed = left.closed
    assert closed
    assert not scope.cancelled_caught
    assert await right.receive() == b""
    await right.aclose()
