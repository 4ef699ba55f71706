"""The edge-triggered poll: parking, edges, hang-ups, and descriptors that are closed and used again."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import select
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.transport._peers import WatchedSocket, clog, expect, plain_pair, tcp_pair, tls_pair
from trio_http.transport import (
    RECEIVE_BYTES,
    EdgePoll,
    Hangup,
    SocketTransport,
    StreamTransport,
    TLSTransport,
    Transport,
)
from trio_http.transport._edge_poll import _EVENTS

pytestmark = pytest.mark.skipif(not EdgePoll.is_available, reason="this system has no epoll")


@pytest.fixture
async def poll(nursery: trio.Nursery) -> AsyncIterator[EdgePoll]:
    """A poll that runs."""
    made = EdgePoll()
    nursery.start_soon(made.run)
    await trio.testing.wait_all_tasks_blocked()
    yield made
    made.close()
    nursery.cancel_scope.cancel()


def attached(
    poll: EdgePoll, on_hangup: Callable[[bool], None] | None = None
) -> tuple[SocketTransport, socket.socket]:
    """A transport that waits through `poll`, and the plain socket of its peer."""
    left, right = tcp_pair()
    transport = SocketTransport(left)
    assert transport.attach(poll, on_hangup)
    return transport, right


def numbered(number: int, sock: socket.socket) -> socket.socket:
    """`sock`, under a descriptor of the given number, which must be free."""
    if sock.fileno() == number:
        return sock
    with pytest.raises(OSError):
        os.fstat(number)
    os.dup2(sock.fileno(), number, inheritable=False)
    sock.close()
    return socket.socket(fileno=number)


async def settle() -> None:
    """Let the kernel deliver over the loopback, and all tasks do what follows from it."""
    await trio.testing.wait_all_tasks_blocked(0.01)


class CountingEpoll:
    """An epoll that counts its calls; all else is the real one's."""

    def __init__(self, epoll: select.epoll) -> None:
        self.epoll = epoll
        self.calls: collections.Counter[str] = collections.Counter()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.epoll, name)
        if not callable(value):
            return value

        def counted(*args: Any) -> Any:
            self.calls[name] += 1
            return value(*args)

        return counted


# Parking


async def test_a_receiver_waits_without_a_call_to_the_kernel_of_its_own(
    poll: EdgePoll, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = CountingEpoll(poll._epoll)
    monkeypatch.setattr(poll, "_epoll", counting)
    left, right = socket.socketpair()
    watched = WatchedSocket(left)
    transport = SocketTransport(watched.as_socket())
    assert transport.attach(poll)
    for _ in range(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, transport, b"question")
            await trio.testing.wait_all_tasks_blocked()
            right.send(b"question")
    # One registration for its life. One look for each time that the poll itself was woken.
    assert counting.calls == {"register": 1, "poll": 10}
    assert watched.calls["recv"] == 10
    transport.close()
    assert counting.calls["unregister"] == 1
    right.close()


async def test_many_receivers_are_woken_by_one_look(poll: EdgePoll, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = CountingEpoll(poll._epoll)
    monkeypatch.setattr(poll, "_epoll", counting)
    pairs = [attached(poll) for _ in range(20)]
    assert len(poll) == 20
    async with trio.open_nursery() as nursery:
        for transport, _ in pairs:
            nursery.start_soon(expect, transport, b"x")
        await trio.testing.wait_all_tasks_blocked()
        for _, peer in pairs:
            peer.send(b"x")
    assert counting.calls["poll"] == 1
    for transport, peer in pairs:
        transport.close()
        peer.close()
    assert len(poll) == 0


async def test_more_receivers_than_one_look_takes_are_all_woken(
    poll: EdgePoll, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_http.transport._edge_poll._BATCH", 3)
    pairs = [attached(poll) for _ in range(10)]
    async with trio.open_nursery() as nursery:
        for transport, _ in pairs:
            nursery.start_soon(expect, transport, b"x")
        await trio.testing.wait_all_tasks_blocked()
        for _, peer in pairs:
            peer.send(b"x")
    for transport, peer in pairs:
        transport.close()
        peer.close()


async def test_bytes_that_came_before_it_was_attached_are_found(poll: EdgePoll) -> None:
    left, right = tcp_pair()
    transport = SocketTransport(left)
    right.send(b"early")
    await trio.lowlevel.wait_readable(left)
    assert transport.attach(poll)
    assert await transport.receive() == b"early"
    transport.close()
    right.close()


async def test_bytes_that_came_while_nobody_was_parked_are_found(poll: EdgePoll) -> None:
    transport, peer = attached(poll)
    for part in (b"one", b"two"):
        peer.send(part)
        await settle()
        assert transport._ready
        with trio.testing.assert_checkpoints():
            assert await transport.receive() == part
        assert not transport._ready
    transport.close()
    peer.close()


async def test_a_full_read_is_followed_by_another_without_a_new_edge(poll: EdgePoll) -> None:
    left, right = socket.socketpair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    right.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    transport = SocketTransport(left)
    assert transport.attach(poll)
    got: list[bytes] = []

    async def receive() -> None:
        while sum(map(len, got)) < RECEIVE_BYTES + 100:
            got.append(await transport.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        assert right.send(bytes(RECEIVE_BYTES + 100)) == RECEIVE_BYTES + 100
    assert [len(part) for part in got] == [RECEIVE_BYTES, 100]
    assert not transport._ready
    transport.close()
    right.close()


async def test_an_edge_of_bytes_that_were_read_already_costs_a_read_and_no_answer(poll: EdgePoll) -> None:
    transport, peer = attached(poll)
    peer.send(b"one")
    await settle()
    # Taken without the poll's knowledge, so that the edge is left over.
    assert transport._recv(100) == b"one"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, transport, b"two")
        await trio.testing.wait_all_tasks_blocked()
        assert transport._reader is not None
        peer.send(b"two")
    transport.close()
    peer.close()


async def test_what_is_read_without_waiting_leaves_no_edge_behind(poll: EdgePoll) -> None:
    transport, peer = attached(poll)
    peer.send(b"one")
    await settle()
    assert transport.receive_nowait() == b"one"
    assert not transport._ready
    assert transport.receive_nowait() is None
    peer.send(b"two")
    await expect(transport, b"two")
    transport.close()
    peer.close()


async def test_a_look_at_an_idle_connection_takes_no_edge_away(poll: EdgePoll) -> None:
    transport, peer = attached(poll)
    assert not transport.is_stale()
    peer.send(b"x")
    await settle()
    assert transport.is_stale()
    assert await transport.receive() == b"x"
    transport.close()
    peer.close()


async def test_urgent_data_cuts_a_read_short_and_what_lies_behind_it_is_found(poll: EdgePoll) -> None:
    transport, peer = attached(poll)
    got = b""

    async def receive() -> None:
        nonlocal got
        while not got.endswith(b"behind"):
            got += await transport.receive()

    peer.send(b"before")
    peer.send(b"!", socket.MSG_OOB)
    peer.send(b"behind")
    await settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
    assert got == b"beforebehind"
    # And hang-ups are told as before.
    peer.close()
    await settle()
    assert transport.hangup is Hangup.FIN
    transport.close()


# One receiver


async def test_a_second_receiver_is_refused_while_the_first_is_parked(poll: EdgePoll) -> None:
    transport, peer = attached(poll)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, transport, b"x")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await transport.receive()
        peer.send(b"x")
    transport.close()
    peer.close()


async def test_a_second_receiver_is_refused_while_the_first_need_not_park(poll: EdgePoll) -> None:
    transport, peer = attached(poll)
    peer.send(b"x")
    await settle()
    outcomes: list[object] = []

    async def receive() -> None:
        try:
            outcomes.append(await transport.receive())
        except trio.BusyResourceError:
            outcomes.append("busy")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(receive)
    assert outcomes == ["busy", b"x"]
    transport.close()
    peer.close()


@pytest.mark.parametrize("bytes_lie_there", [False, True])
async def test_a_cancelled_receive_has_lost_nothing_and_left_nobody_parked(
    poll: EdgePoll, bytes_lie_there: bool
) -> None:
    transport, peer = attached(poll)
    if bytes_lie_there:
        peer.send(b"x")
        await settle()
    with trio.CancelScope() as scope:
        scope.cancel()
        await transport.receive()
    assert scope.cancelled_caught
    assert transport._reader is None
    if not bytes_lie_there:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.receive)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert transport._reader is None
        peer.send(b"x")
    await expect(transport, b"x")
    transport.close()
    peer.close()


async def test_a_cancel_behind_a_wake_up_does_not_take_the_bytes_along(poll: EdgePoll) -> None:
    transport, peer = attached(poll)
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await transport.receive())

    class CancelOnceWoken(trio.abc.Instrument):
        def task_scheduled(self, task: trio.lowlevel.Task) -> None:
            if task.name.endswith("receive") and transport._reader is None:
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(instrument := CancelOnceWoken())
        peer.send(b"x")
    trio.lowlevel.remove_instrument(instrument)
    assert nursery.cancel_scope.cancel_called
    assert got == [b"x"]
    transport.close()
    peer.close()


# The end from our side


@pytest.mark.parametrize("end", ["close", "abort", "detach"])
async def test_a_parked_receiver_is_woken_by_the_end_and_told(poll: EdgePoll, end: str) -> None:
    transport, peer = attached(poll)

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await transport.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        given = getattr(transport, end)()
        assert len(poll) == 0
    if end == "detach":
        peer.send(b"for the new owner")
        given.setblocking(True)
        assert given.recv(100) == b"for the new owner"
        given.close()
    peer.close()


async def test_a_receiver_that_was_woken_just_before_the_socket_is_given_away_takes_nothing_from_it(
    poll: EdgePoll,
) -> None:
    transport, peer = attached(poll)
    given: list[socket.socket] = []

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await transport.receive()

    class DetachOnceWoken(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if armed and task.name.endswith("receive") and not given:
                given.append(transport.detach())

    armed = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(instrument := DetachOnceWoken())
        armed = True
        peer.send(b"x")
    trio.lowlevel.remove_instrument(instrument)
    assert given[0].recv(10) == b"x"
    given[0].close()
    peer.close()


async def test_a_number_that_is_used_again_has_nothing_of_its_predecessor(poll: EdgePoll) -> None:
    told: list[str] = []
    transport, peer = attached(poll, lambda reset: told.append("first"))
    number = transport._fd
    copy = transport._sock.dup()  # keeps the kernel's socket alive, as a forked child would
    peer.send(b"x")
    transport.close()
    left, right = tcp_pair()
    successor = SocketTransport(numbered(number, left))
    assert successor.attach(poll, lambda reset: told.append("second"))
    peer.close()
    await settle()
    assert not successor._ready
    assert successor.hangup is Hangup.NONE
    assert told == []
    right.close()
    await settle()
    assert told == ["second"]
    successor.close()
    copy.close()


async def test_an_event_that_was_fetched_before_its_number_was_used_again_is_nobodys(poll: EdgePoll) -> None:
    told: list[str] = []
    first, first_peer = attached(poll)
    second, second_peer = attached(poll, lambda reset: told.append("second"))
    number = second._fd
    made: list[tuple[SocketTransport, socket.socket]] = []

    def replace_second(reset: bool) -> None:
        """As a server may, in a callback: end a connection, and take the next one."""
        second.close()
        left, right = socket.socketpair()
        third = SocketTransport(numbered(number, left))
        assert third.attach(poll, lambda reset: told.append("third"))
        made.append((third, right))

    first.set_hangup(replace_second)
    first_peer.close()
    second_peer.close()
    await settle()
    assert told == []
    ((third, third_peer),) = made
    assert not third._ready
    assert third.hangup is Hangup.NONE
    third_peer.send(b"x")
    await expect(third, b"x")
    for end in (first, third, third_peer):
        end.close()


# Hang-ups


def reset_from(peer: socket.socket) -> None:
    SocketTransport(peer).abort()


async def test_a_fin_is_told_once_while_nobody_receives(poll: EdgePoll) -> None:
    told: list[bool] = []
    transport, peer = attached(poll, told.append)
    await settle()
    assert transport.hangup is Hangup.NONE
    peer.shutdown(socket.SHUT_WR)
    await settle()
    assert told == [False]
    assert transport.hangup is Hangup.FIN
    for _ in range(3):
        with trio.testing.assert_checkpoints():
            assert await transport.receive() == b""
    # The other direction works, and the end of it is told in its turn.
    await transport.send_all(b"still heard")
    assert peer.recv(100) == b"still heard"
    reset_from(peer)
    await settle()
    assert told == [False, True]
    assert transport.hangup is Hangup.RESET
    transport.close()


async def test_a_reset_is_told_once_and_then_received(poll: EdgePoll) -> None:
    told: list[bool] = []
    transport, peer = attached(poll, told.append)
    reset_from(peer)
    await settle()
    assert told == [True]
    assert transport.hangup is Hangup.RESET
    with pytest.raises(trio.BrokenResourceError):
        await transport.receive()
    assert await transport.receive() == b""
    assert told == [True]
    transport.close()


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_hang_up_that_is_reported_again_is_not_told_again(poll: EdgePoll, how: str) -> None:
    told: list[bool] = []
    transport, peer = attached(poll, told.append)
    if how == "fin":
        peer.shutdown(socket.SHUT_WR)
    else:
        reset_from(peer)
    await settle()
    transport._ready = False
    poll._epoll.modify(transport._fd, _EVENTS)  # makes the kernel report what is so already
    await settle()
    assert transport._ready
    assert told == [how == "reset"]
    transport.close()
    peer.close()


async def test_a_fin_behind_unread_bytes_is_told_before_they_are_read(poll: EdgePoll) -> None:
    told: list[bool] = []
    transport, peer = attached(poll, told.append)
    peer.send(b"pipelined")
    await settle()
    assert told == []
    peer.send(b" and more")
    peer.shutdown(socket.SHUT_WR)
    await settle()
    assert told == [False]
    await expect(transport, b"pipelined and more")
    assert await transport.receive() == b""
    transport.close()
    peer.close()


async def test_a_fin_that_comes_together_with_the_bytes_a_receiver_waits_for_is_not_missed(
    poll: EdgePoll,
) -> None:
    transport, peer = attached(poll)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, transport, b"last words")
        await trio.testing.wait_all_tasks_blocked()
        peer.send(b"last words")
        peer.close()
    assert await transport.receive() == b""
    transport.close()


async def test_a_hang_up_wakes_the_parked_receiver_and_is_told_too(poll: EdgePoll) -> None:
    told: list[bool] = []
    transport, peer = attached(poll, told.append)

    async def receive() -> None:
        assert await transport.receive() == b""

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        peer.close()
    assert told == [False]
    transport.close()


async def test_the_close_of_a_unix_peer_ends_both_directions(poll: EdgePoll) -> None:
    left, right = await plain_pair()
    told: list[bool] = []
    assert left.attach(poll, told.append)
    right.close()
    await settle()
    assert told == [True]
    assert left.hangup is Hangup.RESET
    assert await left.receive() == b""
    left.close()


async def test_a_hang_up_that_came_before_anybody_wanted_to_know_can_be_read(poll: EdgePoll) -> None:
    told: list[bool] = []
    transport, peer = attached(poll)
    peer.close()
    await settle()
    transport.set_hangup(told.append)
    assert transport.hangup is Hangup.FIN
    await settle()
    assert told == []
    transport.close()


async def test_a_hang_up_before_the_attaching_is_told(poll: EdgePoll) -> None:
    left, right = tcp_pair()
    right.close()
    await trio.lowlevel.wait_readable(left)
    transport = SocketTransport(left)
    told: list[bool] = []
    assert transport.attach(poll, told.append)
    await settle()
    assert told == [False]
    transport.close()


async def test_who_no_longer_wants_to_know_is_not_told(poll: EdgePoll) -> None:
    told: list[bool] = []
    transport, peer = attached(poll, told.append)
    transport.set_hangup(None)
    peer.close()
    await settle()
    assert told == []
    assert transport.hangup is Hangup.FIN
    transport.close()


async def test_a_transport_that_was_closed_is_not_told_of(poll: EdgePoll) -> None:
    told: list[str] = []
    pairs = [attached(poll) for _ in range(3)]

    def close_all(reset: bool) -> None:
        told.append("once")
        for transport, _ in pairs:
            transport.close()

    for transport, _ in pairs:
        transport.set_hangup(close_all)
    for _, peer in pairs:
        peer.close()
    await settle()
    assert told == ["once"]
    assert len(poll) == 0


async def test_a_callback_that_fails_is_logged_and_the_others_are_called(
    poll: EdgePoll, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[bool] = []

    def fail(reset: bool) -> None:
        raise ZeroDivisionError("at fault")

    pairs = [attached(poll, fail), attached(poll, told.append)]
    with caplog.at_level(logging.ERROR, "trio_http.transport"):
        for _, peer in pairs:
            peer.close()
        await settle()
    assert told == [False]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)
    for transport, _ in pairs:
        transport.close()


# TLS


async def attached_tls(poll: EdgePoll) -> tuple[TLSTransport, TLSTransport]:
    client, server = await tls_pair(tcp_pair())
    assert server.attach(poll)
    return client, server


async def test_tls_waits_through_the_poll(poll: EdgePoll) -> None:
    client, server = await attached_tls(poll)
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, server, b"question")
            await trio.testing.wait_all_tasks_blocked()
            assert server._reader is not None
            await client.send_all(b"question")
        await server.send_all(b"answer")
        await expect(client, b"answer")
    client.close()
    assert await server.receive() == b""
    assert not server.truncated
    server.close()


async def test_an_edge_of_records_that_were_read_already_does_not_keep_tls_from_parking(
    poll: EdgePoll,
) -> None:
    client, server = await attached_tls(poll)
    await client.send_all(b"one")
    await settle()
    # Taken without the poll's knowledge, so that the edge is left over.
    server._engine.incoming.write(server._recv(RECEIVE_BYTES))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, server, b"onetwo")
        await trio.testing.wait_all_tasks_blocked()
        assert server._reader is not None
        await client.send_all(b"two")
    client.close()
    server.close()


async def test_a_large_body_comes_whole_through_tls_and_the_poll(poll: EdgePoll) -> None:
    client, server = await attached_tls(poll)
    body = bytes(range(256)) * 16384
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, body)
        await expect(server, body)
    client.close()
    server.close()


async def test_a_hang_up_behind_a_closure_alert_is_told_under_tls(poll: EdgePoll) -> None:
    client, server = await attached_tls(poll)
    told: list[bool] = []
    server.set_hangup(told.append)
    await client.send_eof()
    await settle()
    assert told == [False]
    assert await server.receive() == b""
    assert not server.truncated
    client.abort()
    await settle()
    assert told == [False, True]
    server.close()


async def test_a_parked_receiver_under_tls_also_flushes(poll: EdgePoll) -> None:
    client, server = await attached_tls(poll)
    clog(server)
    assert server._unsent
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await server.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        assert server._reader is not None
        while server._unsent:
            await client.receive()
        await client.send_all(b"x")
    assert got == [b"x"]
    client.close()
    server.close()


# The poll's own life


async def test_while_it_does_not_run_receivers_wait_and_are_woken_when_it_runs_again() -> None:
    poll = EdgePoll()
    transport, peer = attached(poll)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    peer.send(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, transport, b"x")
        await settle()
        assert transport._reader is not None
        nursery.start_soon(poll.run)
        while transport._reader is not None:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert transport.receive_nowait() is None
    transport.close()
    peer.close()
    poll.close()


async def test_a_second_run_is_refused(poll: EdgePoll) -> None:
    with pytest.raises(trio.BusyResourceError):
        await poll.run()


async def test_closing_it_ends_its_run_and_sends_everybody_back_to_trios_way_of_waiting() -> None:
    poll = EdgePoll()
    transport, peer = attached(poll)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll.run)
        nursery.start_soon(expect, transport, b"x")
        await trio.testing.wait_all_tasks_blocked()
        poll.close()
        poll.close()
        assert len(poll) == 0
        assert "closed" in repr(poll)
        await trio.testing.wait_all_tasks_blocked()
        peer.send(b"x")
    await poll.run()
    assert not transport.attach(poll)
    transport.close()
    peer.close()


async def test_closing_it_from_a_callback_tells_nobody_else(poll: EdgePoll) -> None:
    told: list[bool] = []

    def close(reset: bool) -> None:
        told.append(reset)
        poll.close()

    pairs = [attached(poll, close) for _ in range(3)]
    for _, peer in pairs:
        peer.close()
    await settle()
    assert told == [False]
    for transport, _ in pairs:
        assert await transport.receive() == b""
        transport.close()


async def test_closing_it_behind_its_wake_up_ends_its_run(poll: EdgePoll) -> None:
    transport, peer = attached(poll)

    class CloseOnceWoken(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if task.name.endswith("EdgePoll.run"):
                poll.close()

    trio.lowlevel.add_instrument(instrument := CloseOnceWoken())
    peer.send(b"x")
    await expect(transport, b"x")
    trio.lowlevel.remove_instrument(instrument)
    assert poll._epoll.closed
    transport.close()
    peer.close()


async def test_attaching_is_refused_when_closed_attached_already_or_not_a_socket(poll: EdgePoll) -> None:
    transport, peer = attached(poll)
    with pytest.raises(ValueError, match="already"):
        transport.attach(poll)
    transport.close()
    with pytest.raises(trio.ClosedResourceError):
        transport.attach(poll)
    peer.close()
    left, right = trio.testing.memory_stream_pair()
    foreign: Transport = StreamTransport(left)
    assert not foreign.attach(poll)
    foreign.set_hangup(None)
    await right.aclose()
    assert await foreign.receive() == b""
    assert foreign.hangup is Hangup.NONE
    await foreign.aclose()


async def test_where_the_kernel_watches_no_more_nothing_has_changed(
    poll: EdgePoll, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """An epoll whose user has all the watches that a user may have."""

        closed = False

        def register(self, fd: int, events: int) -> None:
            raise OSError(28, "No space left on device")

    left, right = tcp_pair()
    transport = SocketTransport(left)
    with monkeypatch.context() as patch:
        patch.setattr(poll, "_epoll", Full())
        assert not transport.attach(poll)
    right.send(b"x")
    assert await transport.receive() == b"x"
    transport.close()
    right.close()


def test_where_the_system_has_none_it_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EdgePoll, "is_available", False)
    with pytest.raises(NotImplementedError):
        EdgePoll()


async def test_no_descriptor_is_left_behind(poll: EdgePoll) -> None:
    made = EdgePoll()
    fd = made._fd
    made.close()
    with pytest.raises(OSError), contextlib.closing(socket.socket(fileno=fd)):
        pass
