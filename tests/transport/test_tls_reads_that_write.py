"""TLS over a socket: something is received that wants an answer, at a time when nothing can be sent.

The server asks for a certificate after the handshake (RFC 8446 section 4.6.2): the one such thing that
Python can start. Key updates and renegotiation need another peer and are among the interop tests.
"""

from __future__ import annotations

import socket
import ssl

import pytest
import trio
import trio.testing

from tests.transport._peers import (
    CA,
    WatchedSocket,
    client_context,
    clog,
    expect,
    expect_to_end_with,
    server_context,
    tls_pair,
)
from trio_http.transport import TLSTransport

pytestmark = pytest.mark.usefixtures("each_way_of_waiting")


async def authenticating_pair() -> tuple[TLSTransport, TLSTransport, WatchedSocket]:
    """Client and server of which the server may ask, and the client's socket."""
    ours = client_context(post_handshake_auth=True)
    CA.issue_cert("client.test").configure_cert(ours)
    theirs = server_context(post_handshake_auth=True, verify_mode=ssl.CERT_REQUIRED)
    CA.configure_trust(theirs)
    left, right = socket.socketpair()
    watched = WatchedSocket(left)
    client, server = await tls_pair((watched.as_socket(), right), ours, theirs)
    return client, server, watched


async def ask(server: TLSTransport) -> None:
    assert isinstance(server.tls, ssl.SSLObject)
    assert not server.tls.getpeercert()
    server.tls.verify_client_post_handshake()
    await server.send_all(b"who are you?")


def known(server: TLSTransport) -> bool:
    assert isinstance(server.tls, ssl.SSLObject)
    return bool(server.tls.getpeercert())


async def test_a_receive_answers_what_the_protocol_asks() -> None:
    client, server, _ = await authenticating_pair()
    await ask(server)
    await expect(client, b"who are you?")
    await client.send_all(b"this is me")
    await expect(server, b"this is me")
    assert known(server)
    client.close()
    server.close()


async def test_a_receive_sends_the_answer_while_it_waits_for_bytes_that_depend_on_it() -> None:
    client, server, watched = await authenticating_pair()
    await ask(server)
    # The kernel refuses the answer at first; the server says nothing more before it has the answer.
    watched.clogged = 3
    await expect(client, b"who are you?")
    assert client._unsent

    async def serve() -> None:
        while not known(server):
            await trio.lowlevel.wait_readable(server._fd)
            assert server.receive_nowait() is None
        await server.send_all(b"welcome")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await expect(client, b"welcome")
    assert not client._unsent
    assert watched.clogged == 0
    client.close()
    server.close()


async def test_a_send_meanwhile_goes_out_behind_the_answer() -> None:
    client, server, watched = await authenticating_pair()
    await ask(server)
    watched.clogged = 2
    await expect(client, b"who are you?")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, client, b"bye")
        nursery.start_soon(client.send_all, b"m" * 100_000)
        await expect(server, b"m" * 100_000)
        assert known(server)
        await server.send_all(b"bye")
    client.close()
    server.close()


async def test_a_sender_that_waits_carries_the_answer_of_a_receiver() -> None:
    client, server, _ = await authenticating_pair()
    clog(client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"END")
        await trio.testing.wait_all_tasks_blocked()
        await ask(server)
        await expect(client, b"who are you?")
        assert client._carrying
        assert client._engine.outgoing.pending
        await expect_to_end_with(server, b"END")
    assert not client._engine.outgoing.pending
    while not known(server):
        await trio.lowlevel.wait_readable(server._fd)
        assert server.receive_nowait() is None
    client.close()
    server.close()


@pytest.mark.parametrize("end", ["close", "cancel", "second receiver"])
async def test_a_receive_that_also_flushes_ends_as_any_other(end: str) -> None:
    client, server, _ = await authenticating_pair()
    clog(client)
    await ask(server)
    await expect(client, b"who are you?")
    assert client._unsent
    raised: list[BaseException] = []

    async def receive() -> None:
        try:
            await client.receive()
        except trio.ClosedResourceError as exc:
            raised.append(exc)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        match end:
            case "close":
                client.close()
            case "cancel":
                nursery.cancel_scope.cancel()
            case "second receiver":
                with pytest.raises(trio.BusyResourceError):
                    await client.receive()
                nursery.cancel_scope.cancel()
    assert [type(exc) for exc in raised] == ([trio.ClosedResourceError] if end == "close" else [])
    if end != "close":
        # Nothing was torn: all that was encrypted arrives, and then more.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"END")
            await expect_to_end_with(server, b"END")
        assert known(server)
    client.close()
    server.close()


async def test_waiting_for_a_chance_to_send_pushes_what_was_left() -> None:
    client, server, watched = await authenticating_pair()
    await ask(server)
    watched.clogged = 1
    await expect(client, b"who are you?")
    assert client._unsent
    await client.wait_send_all_might_not_block()
    assert not client._unsent
    client.close()
    server.close()


async def test_a_close_sends_the_waiting_answer_and_the_alert() -> None:
    client, server, watched = await authenticating_pair()
    await ask(server)
    watched.clogged = 1
    await expect(client, b"who are you?")
    client.close()
    assert await server.receive() == b""
    assert known(server)
    assert not server.truncated
    server.close()


async def test_answers_that_nobody_reads_do_not_pile_up_without_bound() -> None:
    client, server, watched = await authenticating_pair()
    await ask(server)
    watched.clogged = 1
    client._engine.outgoing.write(bytes(300_000))  # stands for thousands of answers
    with pytest.raises(trio.BrokenResourceError, match="does not read"):
        await client.receive()
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"x")
    client.close()
    server.close()
