"""Sending in two steps, synchronous and waiting, and how much of it the peer has yet to take."""

from __future__ import annotations

import socket
import ssl
import sys

import pytest
import trio
import trio.testing

from tests.transport._peers import (
    WatchedSocket,
    client_context,
    clog,
    closing,
    expect,
    plain_pair,
    server_context,
    tcp_pair,
    tls_pair,
)
from trio_http.transport import RECEIVE_BYTES, SocketTransport, StreamTransport, TLSTransport, Transport

pytestmark = pytest.mark.usefixtures("each_way_of_waiting")

Pair = tuple[Transport, Transport]


async def make(kind: str) -> Pair:
    match kind:
        case "socket":
            return await plain_pair()
        case "tls":
            return await tls_pair()
    left, right = trio.testing.memory_stream_pair()
    return StreamTransport(left), StreamTransport(right)


SOCKETS = pytest.mark.parametrize("kind", ["socket", "tls"])
ALL = pytest.mark.parametrize("kind", ["socket", "tls", "stream"])


async def end(*transports: Transport) -> None:
    for transport in transports:
        await transport.aclose_forcefully()


@SOCKETS
async def test_what_the_kernel_takes_at_once_is_sent_without_waiting(kind: str) -> None:
    left, right = await make(kind)
    for data in (b"a", bytearray(b"b"), memoryview(b"c"), b""):
        assert left.begin_send(data) is True
    await expect(right, b"abc")
    await end(left, right)


@SOCKETS
async def test_what_it_does_not_take_is_kept_until_the_send_is_finished(kind: str) -> None:
    left, right = await make(kind)
    body = bytes(range(256)) * 16384
    assert left.begin_send(body) is False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, right, body)
        await left.finish_send()
    assert left.begin_send(b"next")
    await expect(right, b"next")
    await end(left, right)


async def test_a_foreign_stream_keeps_everything_until_the_send_is_finished() -> None:
    left, right = await make("stream")
    assert left.begin_send(b"") is True
    assert left.begin_send(b"x") is False
    assert left.unsent() == 1
    with trio.testing.assert_checkpoints():
        await left.finish_send()
    assert left.unsent() == 0
    await expect(right, b"x")
    await end(left, right)


async def test_an_empty_send_on_a_foreign_stream_is_that_streams_own() -> None:
    class Told(trio.abc.SendStream):
        sent: list[object] = []

        async def send_all(self, data: object) -> None:
            await trio.lowlevel.checkpoint()
            self.sent.append(data)

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    _, receiving = trio.testing.memory_stream_one_way_pair()
    transport = StreamTransport(trio.StapledStream(told := Told(), receiving))
    with trio.testing.assert_checkpoints():
        await transport.send_all(b"")
    await transport.send_all(b"whole")
    await transport.send_all(bytes(RECEIVE_BYTES * 2 + 1))
    assert told.sent[:2] == [b"", b"whole"]
    assert type(told.sent[1]) is bytes
    assert [len(part) for part in told.sent[2:]] == [RECEIVE_BYTES, RECEIVE_BYTES, 1]
    await transport.aclose()


@ALL
async def test_nothing_else_may_be_sent_before_the_send_is_finished(kind: str) -> None:
    left, right = await make(kind)
    body = bytes(1 << 22)
    assert not left.begin_send(body)
    with pytest.raises(trio.BusyResourceError):
        left.begin_send(b"!")
    for refused in (left.send_all(b"!"), left.send_eof(), left.wait_send_all_might_not_block()):
        with pytest.raises(trio.BusyResourceError):
            await refused
    if isinstance(left, SocketTransport):
        with pytest.raises(trio.BusyResourceError):
            left.detach()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.finish_send)
        await trio.testing.wait_all_tasks_blocked()
        if kind != "stream":  # whose memory takes all
            with pytest.raises(trio.BusyResourceError):
                await left.finish_send()
        await expect(right, body)
    await left.send_all(b"next")
    await expect(right, b"next")
    await end(left, right)


@ALL
async def test_finishing_what_was_not_begun_is_a_checkpoint_and_no_more(kind: str) -> None:
    left, right = await make(kind)
    with trio.testing.assert_checkpoints():
        await left.finish_send()
    await left.send_all(b"x")
    await expect(right, b"x")
    await end(left, right)


@ALL
async def test_a_close_between_the_steps_is_met_by_the_second(kind: str) -> None:
    left, right = await make(kind)
    assert not left.begin_send(bytes(1 << 22))
    left.close()
    assert left.unsent() == 0
    with pytest.raises(trio.ClosedResourceError):
        await left.finish_send()
    with pytest.raises(trio.ClosedResourceError):
        left.begin_send(b"x")
    with pytest.raises(trio.ClosedResourceError):
        left.begin_send(b"")
    await end(left, right)


async def test_a_close_between_the_steps_cuts_tls_visibly() -> None:
    left, right = await tls_pair()
    assert not left.begin_send(bytes(1 << 22))
    left.close()
    while await right.receive():
        pass
    assert right.truncated
    right.close()


@SOCKETS
async def test_a_cancel_between_the_steps_forgets_the_rest(kind: str) -> None:
    left, right = await make(kind)
    assert not left.begin_send(bytes(1 << 22))
    with trio.CancelScope() as scope:
        scope.cancel()
        await left.finish_send()
    assert scope.cancelled_caught
    assert isinstance(left, SocketTransport | TLSTransport)
    assert left._rest is None
    if kind == "tls":
        with pytest.raises(trio.BrokenResourceError, match="cancelled"):
            left.begin_send(b"x")
    await end(left, right)


@pytest.mark.parametrize("kind", ["socket", "tls"])
async def test_a_peer_that_is_gone_is_met_by_either_step(kind: str) -> None:
    sockets = tcp_pair()
    left, right = (
        (SocketTransport(sockets[0]), SocketTransport(sockets[1]))
        if kind == "socket"
        else await tls_pair(sockets)
    )
    assert not left.begin_send(bytes(1 << 24))
    right.abort()
    with pytest.raises(trio.BrokenResourceError):
        await left.finish_send()
    with pytest.raises(trio.BrokenResourceError):
        left.begin_send(b"x")
    left.close()


async def test_after_the_end_of_our_direction_nothing_is_begun() -> None:
    for left, right in (await plain_pair(), await tls_pair()):
        await left.send_eof()
        with pytest.raises(trio.ClosedResourceError, match="sending direction"):
            left.begin_send(b"x")
        with closing(left, right):
            pass


async def test_after_an_end_of_our_direction_that_had_to_wait_nothing_is_begun() -> None:
    client, server = await tls_pair()
    clog(client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_eof)
        await trio.testing.wait_all_tasks_blocked()
        while await server.receive():
            pass
    with pytest.raises(trio.ClosedResourceError, match="sending direction"):
        client.begin_send(b"x")
    client.close()
    server.close()


async def test_a_failure_that_a_receiver_meets_between_the_steps_is_not_taken_for_success() -> None:
    left, right = socket.socketpair()
    watched = WatchedSocket(left)
    client, server = await tls_pair((watched.as_socket(), right))
    watched.clogged = 2
    assert not client.begin_send(b"all of it is encrypted, and none is sent")
    server._send(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(trio.BrokenResourceError):
        await client.receive()
    with pytest.raises(trio.BrokenResourceError):
        await client.finish_send()
    client.close()
    server.close()


@pytest.mark.parametrize("failure", ["a broken record", "answers without end"])
async def test_a_failure_that_a_receiver_met_keeps_a_send_from_beginning(failure: str) -> None:
    client, server = await tls_pair()
    if failure == "a broken record":
        server._send(b"\x17\x03\x03\x00\x20" + bytes(32))
    else:
        clog(client)
        client._engine.outgoing.write(bytes(300_000))  # stands for thousands of answers
        await server.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await client.receive()
    for data in (b"x", b""):
        with pytest.raises(trio.BrokenResourceError, match="nothing more can be sent"):
            client.begin_send(data)
    client.close()
    server.close()


async def test_a_receiver_may_answer_for_tls_between_the_steps() -> None:
    left, right = socket.socketpair()
    watched = WatchedSocket(left)
    client, server = await tls_pair((watched.as_socket(), right))
    watched.clogged = 1
    assert not client.begin_send(b"question")
    async with trio.open_nursery() as nursery:
        # It also flushes what waits, so the question goes out, and the second step has nothing left to do.
        nursery.start_soon(expect, client, b"answer")
        await expect(server, b"question")
        await server.send_all(b"answer")
    with trio.testing.assert_checkpoints():
        await client.finish_send()
    assert client.begin_send(b"more")
    await expect(server, b"more")
    client.close()
    server.close()


async def test_a_hold_on_sending_ends_with_its_reason() -> None:
    for left, right in (await plain_pair(), await tls_pair()):
        await left.wait_send_all_might_not_block()
        assert not left._barred
        assert not left.begin_send(bytes(1 << 22))
        assert left._barred
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.finish_send)
            await expect(right, bytes(1 << 22))
        assert not left._barred
        left.close()
        assert left._barred
        right.close()


# What the peer has yet to take


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what its queue holds")
async def test_the_bytes_in_the_kernels_queue_count_until_the_peer_has_acknowledged_them() -> None:
    left, right = tcp_pair()
    ours, theirs = SocketTransport(left), SocketTransport(right)
    assert ours.unsent() == 0
    body = bytes(1 << 23)
    assert not ours.begin_send(body)
    kept = ours._rest
    assert kept is not None
    queued = ours.unsent() - len(kept)
    # What our queue does not hold lies, acknowledged and unread, with the peer.
    assert 0 < queued <= len(body) - len(kept)
    seen = [ours.unsent()]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.finish_send)
        got = 0
        while got < len(body):
            got += len(await theirs.receive())
            seen.append(ours.unsent())
    assert seen == sorted(seen, reverse=True)
    assert seen[0] > seen[-1]
    with trio.fail_after(5):
        while ours.unsent():
            await trio.lowlevel.checkpoint()
    ours.close()
    theirs.close()


async def test_a_foreign_streams_rest_shrinks_as_its_peer_reads() -> None:
    left, right = trio.testing.lockstep_stream_pair()
    transport = StreamTransport(left)
    body = bytes(3 * RECEIVE_BYTES + 5)
    assert not transport.begin_send(body)
    seen = [transport.unsent()]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.finish_send)
        got = 0
        while got < len(body):
            got += len(await right.receive_some(RECEIVE_BYTES))
            await trio.testing.wait_all_tasks_blocked()
            seen.append(transport.unsent())
    assert seen == [3 * RECEIVE_BYTES + 5, 2 * RECEIVE_BYTES + 5, RECEIVE_BYTES + 5, 5, 0]
    await transport.aclose_forcefully()


async def test_tls_counts_what_is_encrypted_and_what_is_not_but_no_held_tickets() -> None:
    left, right = socket.socketpair()
    watched = WatchedSocket(right)
    client, server = await tls_pair((left, watched.as_socket()))
    assert isinstance(server.tls, ssl.SSLObject)
    assert server._engine.outgoing.pending
    assert server.unsent() == 0
    watched.clogged = 1
    body = bytes(200_000)
    assert not server.begin_send(body)
    assert server._rest is not None
    assert server.unsent() == len(server._rest) + len(server._unsent)
    assert len(body) < server.unsent() < len(body) + 4096
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.finish_send)
        await expect(client, body)
    assert server.unsent() == 0
    client.close()
    server.close()


@SOCKETS
async def test_what_the_peer_has_taken_does_not_count_while_the_rest_is_sent(kind: str) -> None:
    left, right = await make(kind)
    body = bytes(1 << 22)
    assert not left.begin_send(body)
    before = left.unsent()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.finish_send)
        got = 0
        while got < len(body) // 2:
            got += len(await right.receive())
        await trio.testing.wait_all_tasks_blocked()
        assert left.unsent() < before - len(body) // 4
        await expect(right, bytes(len(body) - got))
    await end(left, right)


async def test_a_stream_that_is_marked_closed_while_it_sends_stops_between_two_pieces() -> None:
    left, right = trio.testing.lockstep_stream_pair()
    transport = StreamTransport(left)

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await transport.send_all(bytes(3 * RECEIVE_BYTES))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        transport.abort()
        assert len(await right.receive_some(RECEIVE_BYTES)) == RECEIVE_BYTES
    await transport.aclose_forcefully()


# The peer's address


async def test_an_address_that_is_known_is_not_asked_for() -> None:
    class Asked(WatchedSocket):
        def getpeername(self) -> object:
            self.calls["getpeername"] += 1
            return self.sock.getpeername()

    left, right = tcp_pair()
    watched = Asked(left)
    transport = SocketTransport(watched.as_socket(), peername=("192.0.2.7", 5))
    assert transport.peername == ("192.0.2.7", 5)
    assert not watched.calls["getpeername"]
    transport.close()
    right.close()
    left, right = tcp_pair()
    transport = SocketTransport(left, peername=b"\0abstract")
    assert transport.peername == "\0abstract"
    transport.close()
    right.close()
    left, right = socket.socketpair()
    transport = SocketTransport(left, peername="")
    assert transport.peername is None
    transport.close()
    right.close()


async def test_tls_takes_an_address_that_is_known_too() -> None:

    left, right = tcp_pair()
    async with trio.open_nursery() as nursery:
        made: list[TLSTransport] = []

        async def serve() -> None:
            made.append(
                await TLSTransport.handshake(
                    right, server_context(), server_side=True, peername=("192.0.2.7", 5)
                )
            )

        nursery.start_soon(serve)
        client = await TLSTransport.handshake(left, client_context(), server_hostname="example.test")
    assert made[0].peername == ("192.0.2.7", 5)
    client.close()
    made[0].close()
