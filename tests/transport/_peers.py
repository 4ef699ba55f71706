"""What the tests of the transports share: connected sockets, TLS contexts, and sockets that count or clog."""

from __future__ import annotations

import collections
import contextlib
import select
import socket
import ssl
from collections.abc import Iterator
from typing import Any, cast

import trio
import trustme

from trio_http.transport import SocketTransport, TLSTransport, Transport

CA = trustme.CA()
SERVER_CERTIFICATE = CA.issue_cert("example.test")


def client_context(**attributes: Any) -> ssl.SSLContext:
    """A context that trusts our authority; `attributes` are set on it."""
    context = ssl.create_default_context()
    CA.configure_trust(context)
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


def server_context(**attributes: Any) -> ssl.SSLContext:
    """A context with the certificate of "example.test"; `attributes` are set on it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    SERVER_CERTIFICATE.configure_cert(context)
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


async def plain_pair() -> tuple[SocketTransport, SocketTransport]:
    """Two transports, joined by a Unix socket pair."""
    left, right = socket.socketpair()
    return SocketTransport(left), SocketTransport(right)


async def tls_pair(
    sockets: tuple[socket.socket, socket.socket] | None = None,
    client: ssl.SSLContext | None = None,
    server: ssl.SSLContext | None = None,
) -> tuple[TLSTransport, TLSTransport]:
    """Two TLS transports, client and server, after their handshake."""
    left, right = sockets or socket.socketpair()
    made: dict[str, TLSTransport] = {}

    async def serve() -> None:
        made["server"] = await TLSTransport.handshake(right, server or server_context(), server_side=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        made["client"] = await TLSTransport.handshake(
            left, client or client_context(), server_hostname="example.test"
        )
    return made["client"], made["server"]


class WatchedSocket:
    """A socket that counts calls by name, keeps what was sent last, and refuses the next `clogged` sends.

    Verified by what the transports' tests do with it: all else is the real socket's.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.calls: collections.Counter[str] = collections.Counter()
        self.clogged = 0
        self.last_sent = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def as_socket(self) -> socket.socket:
        return cast(socket.socket, self)

    def recv(self, *args: int) -> bytes:
        self.calls["recv"] += 1
        return self.sock.recv(*args)

    def send(self, data: bytes) -> int:
        self.calls["send"] += 1
        if self.clogged:
            self.clogged -= 1
            raise BlockingIOError
        sent = self.sock.send(data)
        self.last_sent = bytes(data[:sent])
        return sent


async def expect(transport: Transport, expected: bytes) -> None:
    """Receive exactly `expected`, in however many parts."""
    got = b""
    while len(got) < len(expected):
        part = await transport.receive()
        assert part, f"the stream ended after {got!r}"
        got += part
    assert got == expected


async def expect_to_end_with(transport: Transport, expected: bytes) -> None:
    """Receive until `expected` comes."""
    tail = b""
    while not tail.endswith(expected):
        part = await transport.receive()
        assert part
        tail = tail[-len(expected) :] + part


def readable(sock: socket.socket | int) -> bool:
    """Whether the kernel has something for this socket now."""
    return bool(select.select([sock], [], [], 0)[0])


@contextlib.contextmanager
def closing(*transports: TLSTransport | socket.socket) -> Iterator[None]:
    """Close all of them at the end."""
    try:
        yield
    finally:
        for transport in transports:
            transport.close()


def clog(transport: SocketTransport | TLSTransport) -> None:
    """Fill the way to the peer, so that the next send has to wait until the peer receives."""
    if isinstance(transport, TLSTransport):
        while True:
            transport._engine.encrypt(b"x" * 16384)
            if not transport._push():
                return
    with contextlib.suppress(BlockingIOError):
        while True:
            transport._send(b"x" * 65536)
