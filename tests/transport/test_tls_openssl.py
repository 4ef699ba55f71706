"""TLS over a socket, against OpenSSL's own programs: what Python cannot make a peer do."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.transport._peers import SERVER_CERTIFICATE, WatchedSocket, client_context, expect, server_context
from trio_http.transport import TLSTransport

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("each_way_of_waiting")]


class Program:
    """A running program: what it is told, and what it says."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.tell = process.stdin.send_all
        self._listen = process.stdout.receive_some
        self._said = b""

    async def hear(self, expected: bytes) -> None:
        """Wait until the program has printed `expected`; forget all up to there."""
        while expected not in self._said:
            part = await self._listen()
            assert part, f"the program ended, having said {self._said!r}"
            self._said += part
        self._said = self._said.split(expected, 1)[1]

    async def hear_line(self) -> bytes:
        """The rest of the current line."""
        while b"\n" not in self._said:
            self._said += await self._listen()
        line, self._said = self._said.split(b"\n", 1)
        return line


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[Program]:
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await process.wait()


def record_lengths(ciphertext: bytes) -> list[int]:
    """The lengths of the TLS records in `ciphertext` (RFC 8446 section 5.1)."""
    lengths = []
    while ciphertext:
        lengths.append(int.from_bytes(ciphertext[3:5]))
        ciphertext = ciphertext[5 + lengths[-1] :]
    return lengths


async def test_key_updates_are_answered_and_do_not_make_a_connection_stale(
    program: Callable[[str], str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        to = f"127.0.0.1:{listener.getsockname()[1]}"
        async with running(program("openssl"), "s_client", "-tls1_3", "-connect", to) as client:
            await trio.lowlevel.wait_readable(listener)
            watched = WatchedSocket(listener.accept()[0])
            server = await TLSTransport.handshake(watched.as_socket(), server_context(), server_side=True)
            await server.send_all(b"begin\n")
            await client.hear(b"begin\n")
            for turn in (b"one\n", b"two\n"):
                # The program takes this line as the order to update its key and to ask us to update ours.
                await client.tell(b"K\n")
                await trio.lowlevel.wait_readable(server._fd)
                assert not server.is_stale()
                await client.tell(turn)
                await expect(server, turn)
                # OpenSSL keeps its answer until there is something to send. With the old key the program
                # could not read what follows the answer.
                await server.send_all(b"heard " + turn)
                assert len(record_lengths(watched.last_sent)) == 2
                await client.hear(b"heard " + turn)
                await server.send_all(b"and " + turn)
                assert len(record_lengths(watched.last_sent)) == 1
                await client.hear(b"and " + turn)
            server.close()


async def test_a_renegotiation_is_followed_while_we_only_receive(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    pem = str(tmp_path / "server.pem")
    SERVER_CERTIFICATE.private_key_and_cert_chain_pem.write_to_path(pem)
    openssl = program("openssl")
    async with running(openssl, "s_server", "-tls1_2", "-accept", "127.0.0.1:0", "-cert", pem) as server:
        await server.hear(b"ACCEPT 127.0.0.1:")
        sock = trio.socket.socket()
        await sock.connect(("127.0.0.1", int(await server.hear_line())))
        client = await TLSTransport.handshake(sock, client_context(), server_hostname="example.test")
        await server.tell(b"before\n")
        await expect(client, b"before\n")
        first = client._engine.tls.get_channel_binding("tls-unique")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, client, b"after\n")
            # The program takes this line as the order to renegotiate.
            await server.tell(b"r\n")
            # With each handshake this value changes.
            while client._engine.tls.get_channel_binding("tls-unique") == first:
                await trio.lowlevel.checkpoint()
            await server.tell(b"after\n")
        await client.send_all(b"again\n")
        await server.hear(b"again\n")
        client.close()
