"""TLS over a socket: the handshake, and what may go wrong in it."""

from __future__ import annotations

import socket
import ssl
from functools import partial

import pytest
import trio
import trio.testing

from tests.transport._peers import WatchedSocket, client_context, closing, readable, server_context, tls_pair
from trio_http.transport import TLSTransport

pytestmark = pytest.mark.usefixtures("each_way_of_waiting")


async def test_bytes_that_come_with_the_end_of_the_handshake_are_received_without_waiting() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client_context().wrap_bio(incoming, outgoing, server_hostname="example.test")

    async def play_client() -> None:
        while True:
            try:
                peer.do_handshake()
                break
            except ssl.SSLWantReadError:
                theirs.send(outgoing.read())
                await trio.lowlevel.wait_readable(theirs)
                incoming.write(theirs.recv(65536))
        peer.write(b"early")
        theirs.send(outgoing.read())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play_client)
        server = await TLSTransport.handshake(ours, server_context(), server_side=True)
    assert not readable(server._fd)
    assert server.is_stale()
    with trio.CancelScope() as scope:
        scope.cancel()
        await server.receive()
    assert scope.cancelled_caught
    with trio.testing.assert_checkpoints():
        assert await server.receive() == b"early"
    assert server.receive_nowait() is None
    server.close()
    theirs.close()


async def failing_pair(client: ssl.SSLContext, hostname: str) -> list[trio.BrokenResourceError]:
    """The errors of the client and of the server when they do not agree."""
    left, right = socket.socketpair()
    errors: list[trio.BrokenResourceError] = []

    async def serve() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            server = await TLSTransport.handshake(right, server_context(), server_side=True)
            await server.receive()
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await TLSTransport.handshake(left, client, server_hostname=hostname)
        errors.insert(0, caught.value)
    assert left.fileno() == right.fileno() == -1
    return errors


async def test_a_certificate_that_is_not_trusted_breaks_both_sides_with_the_reason() -> None:
    ours, theirs = await failing_pair(ssl.create_default_context(), "example.test")
    assert isinstance(ours.__cause__, ssl.SSLCertVerificationError)
    assert isinstance(theirs.__cause__, ssl.SSLError)
    assert "UNKNOWN_CA" in str(theirs).upper()


async def test_a_certificate_for_another_name_is_not_accepted() -> None:
    ours, _ = await failing_pair(client_context(), "other.test")
    assert isinstance(ours.__cause__, ssl.SSLCertVerificationError)
    assert "other.test" in str(ours)


async def test_a_peer_that_does_not_speak_tls_is_broken() -> None:
    ours, theirs = socket.socketpair()
    theirs.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with closing(theirs):
        with pytest.raises(trio.BrokenResourceError, match="TLS handshake failed") as caught:
            await TLSTransport.handshake(ours, client_context(), server_hostname="example.test")
        assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert ours.fileno() == -1


async def test_a_peer_that_leaves_in_the_handshake_is_broken() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(trio.BrokenResourceError):
        await TLSTransport.handshake(ours, server_context(), server_side=True)
    assert ours.fileno() == -1


@pytest.mark.parametrize("wrap", [lambda sock: sock, trio.socket.from_stdlib_socket], ids=["stdlib", "trio"])
async def test_a_call_with_wrong_arguments_closes_the_socket(wrap: type) -> None:
    ours, theirs = socket.socketpair()
    with closing(theirs):
        with pytest.raises(ValueError, match="server_hostname"):
            await TLSTransport.handshake(wrap(ours), client_context())
        assert ours.fileno() == -1
        assert theirs.recv(1) == b""


async def test_a_cancelled_handshake_has_closed_the_socket() -> None:
    ours, theirs = socket.socketpair()
    with closing(theirs):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(TLSTransport.handshake, ours, server_context(), server_side=True))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert ours.fileno() == -1
        assert theirs.recv(1) == b""


async def test_a_handshake_waits_when_the_kernel_does_not_take_its_bytes() -> None:
    left, right = socket.socketpair()
    watched = WatchedSocket(left)
    watched.clogged = 3
    client, server = await tls_pair((watched.as_socket(), right))
    assert watched.clogged == 0
    client.close()
    server.close()
