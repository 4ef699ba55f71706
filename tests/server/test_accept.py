"""Accepting on real sockets over the loopback, and from listeners of any kind."""

from __future__ import annotations

import collections
import contextlib
import errno
import logging
import math
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

import pytest
import trio
import trio.testing

from tests.server.support import WatchedStream
from trio_http.server._accept import _BURST, Gate, accept_foreign_loop, accept_loop
from trio_http.transport import Address


class Admitted:
    """Takes what is accepted, and closes it at the end.

    Attributes:
      sockets, peernames: in the order of their coming.
    """

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.peernames: list[Address] = []

    def __call__(self, sock: socket.socket, peername: Address) -> None:
        self.sockets.append(sock)
        self.peernames.append(peername)

    def __len__(self) -> int:
        return len(self.sockets)


@pytest.fixture
def admitted() -> Iterator[Admitted]:
    admitted = Admitted()
    yield admitted
    for sock in admitted.sockets:
        sock.close()


@pytest.fixture
async def listener() -> AsyncIterator[trio.SocketListener]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    yield listener
    listener.socket.close()


@pytest.fixture
def connect() -> Iterator[Callable[[trio.SocketListener], socket.socket]]:
    """A function that makes a connection, which is then in the backlog of its listener."""
    with contextlib.ExitStack() as stack:
        yield lambda listener: stack.enter_context(socket.create_connection(listener.socket.getsockname()))


async def settle() -> None:
    """Let everybody do what can be done now. The first wait lets trio learn of the sockets' readiness."""
    for _ in range(3):
        await trio.testing.wait_all_tasks_blocked(0.01)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def is_closed(peer: socket.socket) -> bool:
    """Whether the other end of a connection has been closed."""
    peer.settimeout(5)
    return peer.recv(1) == b""


async def test_each_connection_is_admitted_open_and_non_blocking_with_its_peers_address(
    listener: trio.SocketListener, admitted: Admitted, connect: Callable[..., socket.socket]
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, admitted, Gate())
        clients = [connect(listener) for _ in range(3)]
        await settle()
        nursery.cancel_scope.cancel()
    assert admitted.peernames == [client.getsockname() for client in clients]
    for number, sock in enumerate(admitted.sockets):
        assert not sock.getblocking()
        clients[number].sendall(b"%d" % number)
        await trio.lowlevel.wait_readable(sock)
        assert sock.recv(10) == b"%d" % number


async def test_connections_of_a_unix_socket_are_admitted(admitted: Admitted) -> None:
    address = f"\0trio_http-test-{os.getpid()}"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(address)
    sock.listen()
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_loop, listener, admitted, Gate())
            await settle()
            listener.socket.close()
    assert [sock.family for sock in admitted.sockets] == [socket.AF_UNIX]


async def test_a_flood_of_connects_is_accepted_a_bounded_number_in_each_wake_up(
    listener: trio.SocketListener, admitted: Admitted, connect: Callable[..., socket.socket]
) -> None:
    class Steps(trio.abc.Instrument):
        count = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.count += task.name.endswith("accept_loop")

    steps = Steps()
    in_step: collections.Counter[int] = collections.Counter()

    def admit(sock: socket.socket, peername: Address) -> None:
        admitted(sock, peername)
        in_step[steps.count] += 1

    for _ in range(3 * _BURST + 1):
        connect(listener)
    trio.lowlevel.add_instrument(steps)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_loop, listener, admit, Gate())
            await settle()
            nursery.cancel_scope.cancel()
    finally:
        trio.lowlevel.remove_instrument(steps)
    assert list(in_step.values()) == [_BURST, _BURST, _BURST, 1]


async def test_a_loop_ends_when_its_listener_is_closed_and_leaves_nothing(
    listener: trio.SocketListener, admitted: Admitted
) -> None:
    before = open_descriptors()
    address = listener.socket.getsockname()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, admitted, Gate())
        await settle()
        assert open_descriptors() == before
        listener.socket.close()
        # At once, before the loop has had its turn.
        assert open_descriptors() == before - 1
        with socket.create_server(address):
            pass
    assert not admitted


async def test_a_loop_ends_at_once_over_a_closed_listener(
    listener: trio.SocketListener, admitted: Admitted
) -> None:
    listener.socket.close()
    with trio.testing.assert_checkpoints():
        await accept_loop(listener, admitted, Gate())


async def test_a_loop_whose_listener_is_closed_by_who_admits_leaves_the_next_socket_of_that_number_alone(
    listener: trio.SocketListener, admitted: Admitted, connect: Callable[..., socket.socket]
) -> None:
    successors: list[socket.socket] = []

    def admit(sock: socket.socket, peername: Address) -> None:
        admitted(sock, peername)
        number = listener.socket.fileno()
        listener.socket.close()
        successor = socket.create_server(("127.0.0.1", 0))
        assert successor.fileno() == number
        successors.append(successor)
        client = socket.create_connection(successor.getsockname())
        client.close()

    connect(listener)
    await accept_loop(listener, admit, Gate())
    assert len(admitted) == 1
    with successors[0] as successor:
        successor.settimeout(5)
        successor.accept()[0].close()  # it is open, and its connection is still in the backlog


async def test_a_cancelled_loop_leaves_the_listener_to_another(
    listener: trio.SocketListener, admitted: Admitted, connect: Callable[..., socket.socket]
) -> None:
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_loop, listener, admitted, Gate())
            await settle()
            connect(listener)
            await settle()
            nursery.cancel_scope.cancel()
    assert len(admitted) == 2


async def test_two_loops_on_one_listener_are_refused(
    listener: trio.SocketListener, admitted: Admitted
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, admitted, Gate())
        await settle()
        with pytest.raises(trio.BusyResourceError):
            await accept_loop(listener, admitted, Gate())
        nursery.cancel_scope.cancel()


async def test_no_interrupt_can_come_between_accepting_and_admitting(
    listener: trio.SocketListener, connect: Callable[..., socket.socket]
) -> None:
    protected = []

    def admit(sock: socket.socket, peername: Address) -> None:
        protected.append(trio.lowlevel.currently_ki_protected())
        sock.close()
        listener.socket.close()

    connect(listener)
    await accept_loop(listener, admit, Gate())
    assert protected == [True]


# ----------------------------------------------------------------------------------------------------- errors


def failing(monkeypatch: pytest.MonkeyPatch, *errors: int) -> None:
    """Let `accept` fail so often, and then work."""
    accept = socket.socket.accept
    waiting = list(errors)

    def accept_or_fail(self: socket.socket) -> Any:
        if waiting:
            number = waiting.pop(0)
            raise OSError(number, os.strerror(number))
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", accept_or_fail)


async def test_connections_that_failed_before_they_were_accepted_are_passed_over(
    listener: trio.SocketListener,
    admitted: Admitted,
    connect: Callable[..., socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connect(listener)
    failing(monkeypatch, errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETUNREACH, errno.ETIMEDOUT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, admitted, Gate())
        await settle()
        nursery.cancel_scope.cancel()
    assert len(admitted) == 1
    assert caplog.records == []


async def test_an_error_of_the_listener_itself_comes_out(
    listener: trio.SocketListener,
    admitted: Admitted,
    connect: Callable[..., socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect(listener)
    failing(monkeypatch, errno.EINVAL)
    with pytest.raises(OSError) as info:
        await accept_loop(listener, admitted, Gate())
    assert info.value.errno == errno.EINVAL
    assert listener.socket.fileno() != -1


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Let this process have not one descriptor more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_without_free_descriptors_the_loop_says_so_once_and_tries_again_until_there_are_some(
    listener: trio.SocketListener,
    admitted: Admitted,
    connect: Callable[..., socket.socket],
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    caplog.set_level(logging.INFO, "trio_http.server")
    async with trio.open_nursery() as nursery:
        for shortage in (1, 2):
            connect(listener)
            if shortage == 1:
                nursery.start_soon(accept_loop, listener, admitted, Gate())
            with no_more_descriptors():
                await trio.sleep(10)
                assert len(admitted) == shortage - 1
            await trio.sleep(0.11)  # one pause at most
            assert len(admitted) == shortage
            assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * shortage
        nursery.cancel_scope.cancel()
    assert "Too many open files" in caplog.records[0].getMessage()
    assert "127.0.0.1" in caplog.records[0].getMessage()


async def test_a_shortage_that_comes_back_before_the_backlog_is_empty_is_the_same_shortage(
    listener: trio.SocketListener,
    admitted: Admitted,
    connect: Callable[..., socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    connect(listener)
    connect(listener)
    accept = socket.socket.accept
    calls = 0

    def every_other_fails(self: socket.socket) -> Any:
        nonlocal calls
        calls += 1
        if calls % 2 and calls < 6:
            raise OSError(errno.ENFILE, "Too many open files in system")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", every_other_fails)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, admitted, Gate())
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert len(admitted) == 2
    assert len(caplog.records) == 1


async def test_a_listener_closed_during_a_shortage_ends_the_loop(
    listener: trio.SocketListener,
    admitted: Admitted,
    connect: Callable[..., socket.socket],
    autojump_clock: trio.testing.MockClock,
) -> None:
    connect(listener)
    async with trio.open_nursery() as nursery:
        with no_more_descriptors():
            nursery.start_soon(accept_loop, listener, admitted, Gate())
            await trio.sleep(1)
            listener.socket.close()
    assert not admitted


@pytest.mark.parametrize("who", ["admit", "refuse"])
async def test_a_connection_that_nobody_took_is_closed_and_not_counted(
    who: str,
    listener: trio.SocketListener,
    connect: Callable[..., socket.socket],
) -> None:
    def fail(sock: socket.socket, peername: Address) -> None:
        raise RuntimeError("no")

    client = connect(listener)
    gate = Gate(1, "refuse")
    if who == "refuse":
        assert gate.enter()
    before = gate.open_count
    with pytest.raises(RuntimeError, match="no"):
        await accept_loop(listener, fail, gate, refuse=fail)
    assert gate.open_count == before
    assert is_closed(client)
    assert listener.socket.fileno() != -1


# --------------------------------------------------------------------------------------------------- the gate


async def test_a_gate_that_waits_leaves_the_excess_in_the_backlog_until_one_leaves(
    listener: trio.SocketListener, admitted: Admitted, connect: Callable[..., socket.socket]
) -> None:
    gate = Gate(2)
    for _ in range(4):
        connect(listener)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, admitted, gate)
        await settle()
        assert (len(admitted), gate.open_count) == (2, 2)
        gate.leave()
        await settle()
        assert (len(admitted), gate.open_count) == (3, 2)
        gate.leave()
        gate.leave()
        await settle()
        assert (len(admitted), gate.open_count) == (4, 1)
        nursery.cancel_scope.cancel()


async def test_room_that_one_listener_has_no_use_for_goes_to_the_other(
    listener: trio.SocketListener, admitted: Admitted, connect: Callable[..., socket.socket]
) -> None:
    [idle] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    gate = Gate(1)
    assert gate.enter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, idle, admitted, gate)
        await settle()  # it waits at the gate first
        nursery.start_soon(accept_loop, listener, admitted, gate)
        await settle()
        client = connect(listener)
        gate.leave()
        await settle()
        assert admitted.peernames == [client.getsockname()]
        nursery.cancel_scope.cancel()
    idle.socket.close()


async def test_two_listeners_never_admit_more_than_their_gate_allows(
    listener: trio.SocketListener, admitted: Admitted, connect: Callable[..., socket.socket]
) -> None:
    [other] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    gate = Gate(3)
    for _ in range(5):
        connect(listener)
        connect(other)
    async with trio.open_nursery() as nursery:
        for one in (listener, other):
            nursery.start_soon(accept_loop, one, admitted, gate)
        for served in range(8):
            await settle()
            assert (len(admitted), gate.open_count) == (min(3 + served, 10), 3)
            gate.leave()
        nursery.cancel_scope.cancel()
    other.socket.close()


async def test_a_loop_at_a_full_gate_notices_its_closed_listener_when_one_leaves(
    listener: trio.SocketListener, admitted: Admitted
) -> None:
    gate = Gate(1)
    assert gate.enter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, admitted, gate)
        await settle()
        listener.socket.close()
        gate.leave()
    assert not admitted


async def test_a_gate_that_refuses_hands_over_the_excess_which_does_not_count(
    listener: trio.SocketListener, admitted: Admitted, connect: Callable[..., socket.socket]
) -> None:
    gate = Gate(1, "refuse")
    refused: list[Address] = []

    def refuse(sock: socket.socket, peername: Address) -> None:
        assert not sock.getblocking()
        refused.append(peername)
        sock.send(b"full")
        sock.close()

    clients = [connect(listener) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        loop = accept_loop
        nursery.start_soon(lambda: loop(listener, admitted, gate, refuse=refuse))
        await settle()
        assert (len(admitted), gate.open_count) == (1, 1)
        assert refused == [client.getsockname() for client in clients[1:]]
        assert clients[1].recv(10) == b"full"
        gate.leave()
        connect(listener)
        await settle()
        assert (len(admitted), gate.open_count, len(refused)) == (2, 1, 2)
        nursery.cancel_scope.cancel()


async def test_a_gate_that_refuses_wants_to_know_how(listener: trio.SocketListener) -> None:
    with pytest.raises(TypeError, match="refuse="):
        await accept_loop(listener, print, Gate(1, "refuse"))
    with pytest.raises(TypeError, match="refuse="):
        await accept_foreign_loop(listener, print, Gate(1, "refuse"))


@pytest.mark.parametrize("limit", [0, -1, 0.5, math.nan])
def test_a_gate_without_room_for_one_is_a_mistake(limit: float) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Gate(limit)


def test_a_policy_that_no_gate_has_is_a_mistake() -> None:
    policy: Any = "drop"
    with pytest.raises(ValueError, match="drop"):
        Gate(1, policy)


def test_a_gate_without_limit_is_never_full() -> None:
    gate = Gate()
    assert all(gate.enter() for _ in range(10_000))
    assert gate.open_count == 10_000
    assert repr(gate) == "<Gate 10000 of inf, wait>"


async def test_waiting_for_room_is_a_checkpoint_also_when_there_is_some() -> None:
    with trio.testing.assert_checkpoints():
        await Gate(1).wait_free()


async def test_who_waits_for_room_can_be_cancelled_and_is_forgotten() -> None:
    gate = Gate(1)
    assert gate.enter()
    assert not gate.enter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gate.wait_free)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    gate.leave()
    assert (gate.open_count, gate.is_full) == (0, False)


# -------------------------------------------------------------------------------------- listeners of any kind


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener for streams that a test makes, or errors."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream | OSError](math.inf)

    def put(self, what: trio.abc.Stream | OSError) -> None:
        self._send.send_nowait(what)

    def connect(self) -> trio.abc.Stream:
        client, server = trio.testing.memory_stream_pair()
        self.put(server)
        return client

    async def accept(self) -> trio.abc.Stream:
        what = await self._receive.receive()
        if isinstance(what, OSError):
            raise what
        return what

    async def aclose(self) -> None:
        self._receive.close()
        await trio.lowlevel.checkpoint()


async def ended(client: trio.abc.Stream) -> bool:
    with trio.fail_after(5):
        return await client.receive_some() == b""


async def test_streams_of_any_listener_are_admitted_until_it_is_closed() -> None:
    listener, streams = MemoryListener(), list[trio.abc.Stream]()
    client = listener.connect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_foreign_loop, listener, streams.append, Gate())
        await trio.testing.wait_all_tasks_blocked()
        await client.send_all(b"hello")
        assert await streams[0].receive_some() == b"hello"
        # A task in `receive` is not woken by the close of a memory channel: it has its say before.
        nursery.cancel_scope.cancel()
    await listener.aclose()
    await accept_foreign_loop(listener, streams.append, Gate())
    assert len(streams) == 1


async def test_one_stream_of_a_foreign_listener_waits_at_a_full_gate_and_the_others_in_the_listener() -> None:
    listener, streams = MemoryListener(), list[trio.abc.Stream]()
    gate = Gate(1)
    for _ in range(3):
        listener.connect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_foreign_loop, listener, streams.append, gate)
        await trio.testing.wait_all_tasks_blocked()
        assert len(streams) == 1
        gate.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert (len(streams), gate.open_count) == (2, 1)
        nursery.cancel_scope.cancel()


async def test_a_stream_that_found_the_gate_full_after_it_was_accepted_is_admitted_later() -> None:
    listener, streams = MemoryListener(), list[trio.abc.Stream]()
    gate = Gate(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_foreign_loop, listener, streams.append, gate)
        await trio.testing.wait_all_tasks_blocked()
        assert gate.enter()  # another listener's
        listener.connect()
        await trio.testing.wait_all_tasks_blocked()
        assert streams == []
        gate.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert (len(streams), gate.open_count) == (1, 1)
        nursery.cancel_scope.cancel()


async def test_a_stream_that_waits_at_the_gate_is_closed_by_a_cancel() -> None:
    listener, streams = MemoryListener(), list[trio.abc.Stream]()
    gate = Gate(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_foreign_loop, listener, streams.append, gate)
        await trio.testing.wait_all_tasks_blocked()
        assert gate.enter()
        client = listener.connect()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await ended(client)
    assert (streams, gate.open_count) == ([], 1)


async def test_a_stream_that_cannot_be_closed_does_not_take_the_place_of_a_cancel(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unclosable(WatchedStream):
        async def aclose(self) -> None:
            raise OSError("not today")

    listener, gate = MemoryListener(), Gate(1)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_foreign_loop, listener, lambda stream: None, gate)
            await trio.testing.wait_all_tasks_blocked()
            assert gate.enter()
            listener.put(Unclosable(trio.testing.memory_stream_pair()[1]))
            await trio.testing.wait_all_tasks_blocked()  # with the stream in hand
            scope.cancel()
    assert scope.cancelled_caught
    assert "not today" in caplog.text


async def test_a_gate_that_refuses_hands_over_the_excess_of_a_foreign_listener() -> None:
    listener, streams, refused = MemoryListener(), list[trio.abc.Stream](), list[trio.abc.Stream]()
    for _ in range(3):
        listener.connect()
    gate = Gate(1, "refuse")
    async with trio.open_nursery() as nursery:
        loop = accept_foreign_loop
        nursery.start_soon(lambda: loop(listener, streams.append, gate, refuse=refused.append))
        await trio.testing.wait_all_tasks_blocked()
        assert (len(streams), len(refused), gate.open_count) == (1, 2, 1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("policy", ["wait", "refuse"])
async def test_a_stream_that_nobody_took_is_closed_and_not_counted(policy: Literal["wait", "refuse"]) -> None:
    def fail(stream: trio.abc.Stream) -> None:
        raise RuntimeError("no")

    listener = MemoryListener()
    client = listener.connect()
    gate = Gate(1, policy)
    if policy == "refuse":
        assert gate.enter()
    before = gate.open_count
    with pytest.raises(RuntimeError, match="no"):
        await accept_foreign_loop(listener, fail, gate, refuse=fail)
    assert await ended(client)
    assert gate.open_count == before


async def test_a_shortage_that_a_foreign_listener_meets_is_waited_out(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    listener, streams = MemoryListener(), list[trio.abc.Stream]()
    for _ in range(3):
        listener.put(OSError(errno.EMFILE, "Too many open files"))
    listener.connect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_foreign_loop, listener, streams.append, Gate())
        await trio.sleep(0.29)
        assert streams == []
        await trio.sleep(0.02)
        assert len(streams) == 1
        nursery.cancel_scope.cancel()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_any_other_error_of_a_foreign_listener_comes_out() -> None:
    listener = MemoryListener()
    listener.put(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError) as info:
        await accept_foreign_loop(listener, print, Gate())
    assert info.value.errno == errno.EIO
