"""The transport over a plain socket."""

from __future__ import annotations

import errno
import socket

import pytest
import trio
import trio.testing

from tests.transport._peers import WatchedSocket, clog, expect, plain_pair, tcp_pair
from trio_http.transport import RECEIVE_BYTES, SocketTransport

pytestmark = pytest.mark.usefixtures("each_way_of_waiting")


async def test_bytes_travel_both_ways() -> None:
    left, right = await plain_pair()
    await left.send_all(b"ping")
    assert await right.receive() == b"ping"
    await right.send_all(bytearray(b"po"))
    await right.send_all(memoryview(b"ng"))
    await expect(left, b"pong")
    left.close()
    right.close()


async def test_a_receive_is_one_recv_and_an_ordinary_send_is_one_send() -> None:
    left, right = socket.socketpair()
    watched = WatchedSocket(left)
    transport, peer = SocketTransport(watched.as_socket()), SocketTransport(right)
    for _ in range(10):
        await peer.send_all(b"question")
        assert await transport.receive() == b"question"
        await transport.send_all(b"answer")
        assert await peer.receive() == b"answer"
    assert watched.calls == {"recv": 10, "send": 10}
    transport.close()
    peer.close()


async def test_a_receive_is_a_checkpoint_and_an_ordinary_send_is_none() -> None:
    left, right = await plain_pair()
    with trio.testing.assert_no_checkpoints():
        await left.send_all(b"x")
    with trio.testing.assert_checkpoints():
        await right.receive()
    left.close()
    right.close()


async def test_a_receive_opens_no_scope_and_starts_no_task() -> None:
    left, right = await plain_pair()
    task = trio.lowlevel.current_task()
    before = trio.lowlevel.current_statistics().tasks_living
    scope = task._cancel_status

    class Probe(trio.abc.Instrument):
        seen: list[tuple[bool, int]] = []

        def before_io_wait(self, timeout: float) -> None:
            same = task._cancel_status is scope
            self.seen.append((same, trio.lowlevel.current_statistics().tasks_living))

    await left.send_all(b"x")
    trio.lowlevel.add_instrument(probe := Probe())
    await right.receive()
    trio.lowlevel.remove_instrument(probe)
    assert probe.seen
    assert set(probe.seen) == {(True, before)}
    left.close()
    right.close()


async def test_a_receive_returns_at_most_64_kib() -> None:
    left, right = tcp_pair()
    sender, receiver = SocketTransport(left), SocketTransport(right)
    body = bytes(range(256)) * 2048
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.send_all, body)
        got = b""
        while len(got) < len(body):
            part = await receiver.receive()
            assert 0 < len(part) <= RECEIVE_BYTES
            got += part
    assert got == body
    sender.close()
    receiver.close()


async def test_a_receive_goes_on_waiting_when_the_kernel_woke_it_for_nothing() -> None:
    left, right = await plain_pair()
    recv = left._recv
    errors = iter([BlockingIOError()])

    def spurious(size: int) -> bytes:
        for error in errors:
            raise error
        return recv(size)

    left._recv = spurious
    await right.send_all(b"x")
    assert await left.receive() == b"x"
    left.close()
    right.close()


async def test_what_does_not_fit_waits_until_the_peer_reads() -> None:
    left, right = await plain_pair()
    body = bytes(1 << 22)
    living = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, body)
        await trio.testing.wait_all_tasks_blocked()
        # It has not ended.
        assert trio.lowlevel.current_statistics().tasks_living > living
        await expect(right, body)
    with trio.testing.assert_no_checkpoints():
        await left.send_all(b"next")
    await expect(right, b"next")
    left.close()
    right.close()


async def test_receive_nowait_tells_nothing_bytes_and_end_apart() -> None:
    left, right = await plain_pair()
    assert right.receive_nowait() is None
    await left.send_all(b"x")
    assert right.receive_nowait() == b"x"
    left.close()
    assert right.receive_nowait() == b""
    right.close()
    with pytest.raises(trio.ClosedResourceError):
        right.receive_nowait()


async def test_after_the_end_every_receive_returns_nothing_and_nothing_is_called_truncated() -> None:
    left, right = await plain_pair()
    left.close()
    for _ in range(3):
        with trio.testing.assert_checkpoints():
            assert await right.receive() == b""
    assert not right.truncated
    right.close()


async def test_a_second_sender_is_refused_and_has_sent_nothing() -> None:
    left, right = await plain_pair()
    body = bytes(1 << 21)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, body)
        await trio.testing.wait_all_tasks_blocked()
        for refused in (left.send_all(b"!"), left.send_eof(), left.wait_send_all_might_not_block()):
            with pytest.raises(trio.BusyResourceError):
                await refused
        with pytest.raises(trio.BusyResourceError):
            left.detach()
        await expect(right, body)
    await left.send_all(b"next")
    assert await right.receive() == b"next"
    left.close()
    right.close()


async def test_a_second_receiver_is_refused_and_the_first_goes_on() -> None:
    left, right = await plain_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, right, b"x")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await right.receive()
        await left.send_all(b"x")
    left.close()
    right.close()


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_closing_wakes_the_tasks_that_wait(end: str) -> None:
    left, right = await plain_pair()
    clog(left)

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await left.receive()

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await left.send_all(b"x")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        getattr(left, end)()
        assert left.closed
    right.close()


async def test_a_receiver_that_was_woken_by_bytes_just_before_a_close_meets_the_close() -> None:
    left, right = await plain_pair()

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await left.receive()

    class CloseOnceReadable(trio.abc.Instrument):
        """Closes when the kernel has reported the bytes, before the woken task runs."""

        def after_io_wait(self, timeout: float) -> None:
            armed.append(None)

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if armed and task.name.endswith("receive") and not left.closed:
                left.close()

    armed: list[None] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(instrument := CloseOnceReadable())
        await right.send_all(b"x")
    trio.lowlevel.remove_instrument(instrument)
    assert left.closed
    right.close()


async def test_everything_after_a_close_says_closed_and_closing_again_is_nothing() -> None:
    left, right = await plain_pair()
    left.close()
    left.close()
    left.abort()
    with trio.testing.assert_checkpoints():
        await left.aclose()
    await left.aclose_forcefully()
    for refused in (
        left.receive(),
        left.send_all(b"x"),
        left.send_all(b""),
        left.send_eof(),
        left.wait_send_all_might_not_block(),
    ):
        with pytest.raises(trio.ClosedResourceError):
            await refused
    with pytest.raises(trio.ClosedResourceError):
        left.detach()
    assert left.is_stale()
    right.close()


async def test_abort_resets_the_connection() -> None:
    left, right = tcp_pair()
    ours, theirs = SocketTransport(left), SocketTransport(right)
    await ours.send_all(b"a body that is only partly out")
    ours.abort()
    with pytest.raises(trio.BrokenResourceError) as caught:
        while await theirs.receive():
            pass
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ECONNRESET
    theirs.close()


async def test_close_ends_regularly() -> None:
    left, right = tcp_pair()
    ours, theirs = SocketTransport(left), SocketTransport(right)
    await ours.send_all(b"all of it")
    ours.close()
    await expect(theirs, b"all of it")
    assert await theirs.receive() == b""
    theirs.close()


async def test_sending_to_a_peer_that_is_gone_is_broken_with_the_cause_and_the_peer() -> None:
    left, right = tcp_pair()
    ours = SocketTransport(left)
    peername = right.getsockname()
    SocketTransport(right).abort()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await ours.send_all(b"x")
    assert isinstance(caught.value.__cause__, OSError)
    assert repr(peername) in str(caught.value)
    assert ours.peername == peername
    ours.close()


async def test_a_sender_that_waits_is_told_when_the_peer_goes() -> None:
    left, right = await plain_pair()
    clog(left)

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await left.send_all(b"x")
        assert not left._sending

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        right.close()
    left.close()


async def test_half_closing_ends_our_direction_only() -> None:
    left, right = await plain_pair()
    await left.send_all(b"question")
    with trio.testing.assert_checkpoints():
        await left.send_eof()
    with trio.testing.assert_checkpoints():
        await left.send_eof()
    await expect(right, b"question")
    assert await right.receive() == b""
    await right.send_all(b"answer")
    await expect(left, b"answer")
    with pytest.raises(trio.ClosedResourceError, match="sending direction"):
        await left.send_all(b"more")
    left.close()
    right.close()


@pytest.mark.parametrize("what", ["bytes", "end", "reset"])
async def test_anything_readable_makes_an_idle_connection_stale(what: str) -> None:
    left, right = tcp_pair()
    idle, peer = SocketTransport(left), SocketTransport(right)
    assert not idle.is_stale()
    match what:
        case "bytes":
            await peer.send_all(b"HTTP/1.1 408 Request Timeout\r\n")
        case "end":
            await peer.send_eof()
        case "reset":
            peer.abort()
    await trio.lowlevel.wait_readable(left)
    assert idle.is_stale()
    assert idle.is_stale()
    if what == "bytes":
        await expect(idle, b"HTTP/1.1 408 Request Timeout\r\n")
    idle.close()
    peer.close()


async def test_a_cancelled_receive_has_lost_nothing() -> None:
    left, right = await plain_pair()
    await left.send_all(b"x")
    with trio.CancelScope() as scope:
        scope.cancel()
        await right.receive()
    assert scope.cancelled_caught
    assert await right.receive() == b"x"
    left.close()
    right.close()


async def test_a_cancelled_send_has_sent_a_part_and_lets_the_connection_be_aborted() -> None:
    left, right = tcp_pair()
    ours, theirs = SocketTransport(left), SocketTransport(right)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, bytes(1 << 24))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not ours._sending
    ours.abort()
    with pytest.raises(trio.BrokenResourceError):
        while await theirs.receive():
            pass
    theirs.close()


async def test_a_cancelled_aclose_has_closed() -> None:
    left, right = await plain_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await left.aclose()
    assert scope.cancelled_caught
    assert left.closed
    assert await right.receive() == b""
    right.close()


async def test_aclose_forcefully_ends_even_under_a_cancel_without_raising_it() -> None:
    left, right = await plain_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        with trio.testing.assert_no_checkpoints():
            await left.aclose_forcefully()
    assert left.closed
    right.close()


async def test_a_trio_socket_is_taken_over_and_tcp_does_not_delay() -> None:
    left, right = tcp_pair()
    theirs = trio.socket.from_stdlib_socket(left)
    transport = SocketTransport(theirs)
    assert theirs.fileno() == -1
    assert transport._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not transport._sock.getblocking()
    assert transport.sockname == right.getpeername()
    assert transport.peername == right.getsockname()
    assert transport.tls is None
    right.send(b"x")
    assert await transport.receive() == b"x"
    transport.close()
    right.close()


async def test_a_unix_socket_has_its_path_as_address_and_none_when_unnamed(tmp_path: object) -> None:
    path = f"{tmp_path}/s"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        server, _ = listener.accept()
        transport = SocketTransport(server)
        assert transport.sockname == path
        assert transport.peername is None
        transport.close()


async def test_addresses_are_still_known_after_the_close() -> None:
    left, right = tcp_pair()
    transport = SocketTransport(left)
    expected = transport.peername
    transport.close()
    right.close()
    assert expected is not None
    assert transport.peername == expected
    assert "closed" in repr(transport)


async def test_a_detached_socket_stays_open_and_wakes_who_waited() -> None:
    left, right = await plain_pair()

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await left.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        sock = left.detach()
    assert left.closed
    again = SocketTransport(sock)
    await right.send_all(b"x")
    assert await again.receive() == b"x"
    again.close()
    right.close()
