"""TLS over a socket: exchange, end, staleness, failure."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
import trio
import trio.testing

from tests.transport._peers import (
    WatchedSocket,
    client_context,
    clog,
    closing,
    expect,
    readable,
    server_context,
    tcp_pair,
    tls_pair,
)
from trio_http.transport import RECEIVE_BYTES, TLSTransport

pytestmark = pytest.mark.usefixtures("each_way_of_waiting")


async def joined_to_stdlib(server_side: bool) -> tuple[TLSTransport, ssl.SSLSocket]:
    """A transport of ours, and at its other end a blocking socket of the stdlib; the role is ours."""
    ours, theirs = socket.socketpair()
    context = client_context() if server_side else server_context()
    made: list[ssl.SSLSocket] = []

    def shake_hands() -> None:
        made.append(
            context.wrap_socket(
                theirs,
                server_side=not server_side,
                server_hostname="example.test" if server_side else None,
                suppress_ragged_eofs=False,
            )
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, shake_hands)
        transport = await TLSTransport.handshake(
            ours,
            server_context() if server_side else client_context(),
            server_side=server_side,
            server_hostname=None if server_side else "example.test",
        )
    return transport, made[0]


# Exchange


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_bytes_travel_both_ways_and_the_end_is_regular(version: ssl.TLSVersion) -> None:
    client, server = await tls_pair(client=client_context(maximum_version=version, minimum_version=version))
    await client.send_all(b"question")
    await expect(server, b"question")
    await server.send_all(bytearray(b"ans"))
    await server.send_all(b"")
    await server.send_all(memoryview(b"wer"))
    await expect(client, b"answer")
    server.close()
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            assert await client.receive() == b""
    assert not client.truncated
    assert client.receive_nowait() == b""
    client.close()


@pytest.mark.parametrize("role", ["client", "server"])
async def test_an_exchange_is_one_recv_and_one_send_session_tickets_included(role: str) -> None:
    left, right = socket.socketpair()
    watched = WatchedSocket(left if role == "client" else right)
    sockets = (watched.as_socket(), right) if role == "client" else (left, watched.as_socket())
    client, server = await tls_pair(sockets)
    ours, peer = (client, server) if role == "client" else (server, client)
    watched.calls.clear()
    for _ in range(5):
        await peer.send_all(b"question")
        assert await ours.receive() == b"question"
        with trio.testing.assert_no_checkpoints():
            await ours.send_all(b"answer")
        assert await peer.receive() == b"answer"
    assert watched.calls == {"recv": 5, "send": 5}
    client.close()
    server.close()


async def test_all_records_of_one_receive_come_out_together() -> None:
    client, server = await tls_pair()
    for part in (b"a", b"b", b"c"):
        await client.send_all(part)
    assert await server.receive() == b"abc"
    client.close()
    server.close()


async def test_a_large_body_is_encrypted_in_slices_and_received_in_bounded_parts() -> None:
    left, right = socket.socketpair()
    watched = WatchedSocket(left)
    client, server = await tls_pair((watched.as_socket(), right))
    largest = 0
    send = client._send

    def measured(data: bytes | bytearray | memoryview) -> int:
        nonlocal largest
        largest = max(largest, len(data))
        return send(data)

    client._send = measured
    body = bytes(range(256)) * 8192
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, body)
        got = b""
        while len(got) < len(body):
            part = await server.receive()
            assert 0 < len(part) <= RECEIVE_BYTES
            got += part
    assert got == body
    assert largest < 65536 + 4 * 256
    client.close()
    server.close()


@pytest.mark.parametrize("taken", ["waiting", "nowait", "after a look"])
async def test_no_receive_returns_more_than_one_may_when_it_completes_a_record(taken: str) -> None:
    # A receive of ciphertext that ends within a record is followed by a full one, which completes it.
    left, right = socket.socketpair()
    client, server = await tls_pair((left, right))
    for sock in (left, right):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    ciphertext = bytearray()
    client._send = lambda data: ciphertext.extend(data) or len(data)  # type: ignore[func-returns-value]
    body = bytes(range(250)) * 60 * 8
    for begin in range(0, len(body), 15_000):
        await client.send_all(body[begin : begin + 15_000])  # each a record
    left.send(ciphertext[:15_000])
    assert server.receive_nowait() is None
    left.sendall(ciphertext[15_000:])
    if taken == "after a look":
        assert server.is_stale()
    got = b""
    lengths = []
    while len(got) < len(body):
        part = await server.receive() if taken == "waiting" else server.receive_nowait()
        assert part
        lengths.append(len(part))
        got += part
    assert got == body
    assert max(lengths) == RECEIVE_BYTES
    assert server.receive_nowait() is None
    client.abort()
    server.close()


async def test_the_facts_of_the_session_can_be_read() -> None:
    client, server = await tls_pair(
        tcp_pair(), client=alpn(client_context(), "http/1.1"), server=alpn(server_context(), "http/1.1")
    )
    assert isinstance(client.tls, ssl.SSLObject)
    assert isinstance(server.tls, ssl.SSLObject)
    assert client.tls.selected_alpn_protocol() == server.tls.selected_alpn_protocol() == "http/1.1"
    assert client.tls.version() == "TLSv1.3"
    assert client.tls.getpeercert()
    assert client.peername == server.sockname
    client.close()
    server.close()


def alpn(context: ssl.SSLContext, *protocols: str) -> ssl.SSLContext:
    context.set_alpn_protocols(list(protocols))
    return context


# The end


@pytest.mark.parametrize("server_side", [True, False])
async def test_a_plain_ssl_peer_sees_the_closure_alert(server_side: bool) -> None:
    transport, peer = await joined_to_stdlib(server_side)
    with closing(peer):
        await transport.send_all(b"all of it")
        transport.close()
        assert transport.closed
        # Without the alert, and with ragged ends not suppressed, the second read would raise SSLEOFError.
        assert peer.recv(100) == b"all of it"
        assert peer.recv(100) == b""


async def test_an_abort_sends_no_closure_alert() -> None:
    transport, peer = await joined_to_stdlib(server_side=False)
    with closing(peer):
        transport.abort()
        with pytest.raises(ssl.SSLEOFError):
            peer.recv(100)


async def test_an_abort_over_tcp_resets() -> None:
    client, server = await tls_pair(tcp_pair())
    server.abort()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await client.receive()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ECONNRESET
    assert not client.truncated
    client.close()


@pytest.mark.parametrize("where", ["between records", "inside a record"])
async def test_an_end_without_the_alert_is_marked_as_truncated(where: str) -> None:
    client, server = await tls_pair()
    await server.send_all(b"a close-delimited body")
    if where == "inside a record":
        server._engine.encrypt(b"cut off")
        server._send(server._engine.outgoing.read()[:10])
    server.abort()
    await expect(client, b"a close-delimited body")
    for _ in range(2):
        assert await client.receive() == b""
    assert client.truncated
    client.close()


async def test_bytes_that_come_together_with_the_alert_come_first() -> None:
    client, server = await tls_pair()
    await server.send_all(b"last words")
    server.close()
    assert await client.receive() == b"last words"
    assert await client.receive() == b""
    assert not client.truncated
    client.close()


async def test_close_does_not_wait_for_a_peer_that_does_not_read() -> None:
    client, server = await tls_pair()
    clog(client)
    client.close()
    assert client.closed
    with pytest.raises(trio.ClosedResourceError):
        client.receive_nowait()
    server.close()


async def test_a_close_while_another_task_sends_cuts_the_stream_visibly() -> None:
    client, server = await tls_pair()

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await client.send_all(bytes(1 << 22))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        client.close()
    while await server.receive():
        pass
    assert server.truncated
    server.close()


async def test_closing_twice_sends_one_alert_and_everything_after_says_closed() -> None:
    client, server = await tls_pair()
    await client.aclose()
    await client.aclose()
    client.abort()
    for refused in (client.receive(), client.send_all(b""), client.send_eof()):
        with pytest.raises(trio.ClosedResourceError):
            await refused
    assert client.is_stale()
    assert await server.receive() == b""
    assert not server.truncated
    server.close()


async def test_half_closing_sends_the_alert_and_leaves_the_other_direction_open() -> None:
    client, server = await tls_pair()
    await client.send_all(b"question")
    await client.send_eof()
    await client.send_eof()
    with pytest.raises(trio.ClosedResourceError, match="sending direction"):
        await client.send_all(b"more")
    await expect(server, b"question")
    assert await server.receive() == b""
    assert not server.truncated
    await server.send_all(b"answer" * 10000)
    await expect(client, b"answer" * 10000)
    server.close()
    assert await client.receive() == b""
    assert not client.truncated
    client.close()


async def test_half_closing_while_unread_bytes_lie_here_loses_none_of_them() -> None:
    client, server = await tls_pair()
    await server.send_all(b"unread")
    assert readable(client._fd)
    await client.send_eof()
    await expect(client, b"unread")
    client.close()
    server.close()


async def test_half_closing_waits_behind_what_the_kernel_has_not_taken() -> None:
    client, server = await tls_pair()
    clog(client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_eof)
        await trio.testing.wait_all_tasks_blocked()
        while await server.receive():
            pass
    assert not server.truncated
    client.close()
    server.close()


# Staleness


async def test_session_tickets_do_not_make_an_idle_connection_stale() -> None:
    transport, peer = await joined_to_stdlib(server_side=False)
    with closing(transport, peer):
        assert readable(transport._fd)  # the stdlib's server sends its tickets at once
        assert not transport.is_stale()
        assert not readable(transport._fd)
        assert isinstance(transport.tls, ssl.SSLObject)
        assert transport.tls.session is not None
        assert transport.tls.session.has_ticket
        assert not transport.is_stale()
        await transport.send_all(b"x")
        assert peer.recv(1) == b"x"


async def test_our_server_keeps_its_tickets_until_it_has_something_to_say() -> None:
    client, server = await tls_pair()
    assert not readable(client._fd)
    await client.send_all(b"question")
    await expect(server, b"question")
    assert not readable(client._fd)
    await server.send_all(b"answer")
    assert await client.receive() == b"answer"
    assert isinstance(client.tls, ssl.SSLObject)
    assert client.tls.session is not None
    assert client.tls.session.has_ticket
    client.close()
    server.close()


@pytest.mark.parametrize("what", ["bytes", "alert", "end", "tickets and end", "reset", "garbage"])
async def test_anything_else_makes_an_idle_connection_stale(what: str) -> None:
    client, server = await tls_pair(tcp_pair())
    assert not client.is_stale()
    match what:
        case "bytes":
            await server.send_all(b"unasked")
        case "alert":
            server.close()
        case "end":
            server._sock.shutdown(socket.SHUT_WR)
        case "tickets and end":
            server._push()
            server._sock.shutdown(socket.SHUT_WR)
        case "reset":
            server.abort()
        case "garbage":
            server._send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await trio.lowlevel.wait_readable(client._fd)
    assert client.is_stale()
    assert client.is_stale()
    if what == "bytes":
        assert await client.receive() == b"unasked"
    elif what in ("end", "tickets and end"):
        assert client.truncated
    client.close()
    server.close()


async def test_a_peer_that_sends_faster_than_we_look_is_stale() -> None:
    client, server = await tls_pair()
    server._engine.encrypt(bytes(16384))
    record = server._engine.outgoing.read()
    reads = 0

    def recv(size: int) -> bytes:
        """Give one byte of a record at a time: there is always something, and never anything whole."""
        nonlocal reads
        reads += 1
        return record[reads - 1 : reads]

    client._recv = recv
    assert client.is_stale()
    assert reads < 10
    client.close()
    server.close()


# Failure


async def test_a_broken_record_is_reported_after_the_bytes_before_it_and_then_always() -> None:
    client, server = await tls_pair()
    await server.send_all(b"sound")
    server._send(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert await client.receive() == b"sound"
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.receive()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
    with pytest.raises(trio.BrokenResourceError):
        client.receive_nowait()
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"x")
    # The peer is told why, by the alert that OpenSSL prepared.
    with pytest.raises(trio.BrokenResourceError, match=r"(?i)bad.record.mac"):
        await server.receive()
    client.close()
    server.close()


async def test_a_cancelled_send_ends_sending_but_not_receiving_and_the_peer_sees_a_cut() -> None:
    client, server = await tls_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, bytes(1 << 22))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    for refused in (
        client.send_all(b"x"),
        client.send_all(b""),
        client.send_eof(),
        client.wait_send_all_might_not_block(),
    ):
        with pytest.raises(trio.BrokenResourceError, match="cancelled"):
            await refused
    await server.send_all(b"still heard")
    await expect(client, b"still heard")
    client.close()
    while await server.receive():
        pass
    assert server.truncated
    server.close()


async def test_sending_to_a_peer_that_is_gone_is_broken_then_and_later() -> None:
    client, server = await tls_pair()
    server.abort()
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(b"x")
    client.close()


async def test_a_receive_goes_on_waiting_when_the_kernel_woke_it_for_nothing() -> None:
    client, server = await tls_pair()
    recv = client._recv
    errors = iter([BlockingIOError()])

    def spurious(size: int) -> bytes:
        for error in errors:
            raise error
        return recv(size)

    client._recv = spurious
    await server.send_all(b"x")
    assert await client.receive() == b"x"
    assert client.receive_nowait() is None
    client.close()
    server.close()
