"""The clients' side of the load: sockets that are opened and broken off, and answers read from raw bytes.

No HTTP library is used, ours least of all: what checks a server's answers must not share its mistakes.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Generator
from dataclasses import dataclass

import _load
import trio

RECEIVE = 64 * 1024
CONNECT_SECONDS = 10.0
"""How long a connect on the loopback interface may take; a full queue of the server's shows as this."""


def connect(port: int, *, receive_buffer: int | None = None) -> socket.socket:
    """Return a non-blocking socket that is connected to a server.

    Args:
      port: the server's.
      receive_buffer: bytes for SO_RCVBUF (Linux doubles it), set before the handshake, so that the window is
        small from the beginning; None for the system's own.
    """
    sock = socket.socket()
    try:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(CONNECT_SECONDS)
        sock.connect((_load.HOST, port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def reset(sock: socket.socket | trio.socket.SocketType) -> None:
    """Close a socket so that the server gets a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole final response.

    Attributes:
      status: 200-999.
      fields: the last value of each field, by its name in lower case.
      content: without its framing.
    """

    status: int
    fields: dict[bytes, bytes]
    content: bytes


class Answers:
    """Takes bytes, gives answers: as much of HTTP as the scripts' requests (no HEAD) can be answered with."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._found: list[Answer] = []
        self._reading = self._read()
        next(self._reading)

    @property
    def between(self) -> bool:
        """Whether no byte of an answer is here that is not whole."""
        return self._at_start and not self._buffer

    def feed(self, data: bytes) -> list[Answer]:
        """Return the answers that `data` has made whole.

        Raises:
          ValueError: this is no HTTP/1.1 answer, or one that ends with the connection.
        """
        self._buffer += data
        next(self._reading)
        found, self._found = self._found, []
        return found

    def _read(self) -> Generator[None, None, None]:
        while True:
            self._at_start = True
            head = yield from self._line(b"\r\n\r\n")
            self._at_start = False
            first, *lines = head.split(b"\r\n")
            version, status, *_ = first.split(b" ")
            if version != b"HTTP/1.1" or len(status) != 3:
                raise ValueError(f"not the beginning of an answer: {first!r}")
            if status[:1] == b"1":
                continue
            fields = {}
            for line in lines:
                name, colon, value = line.partition(b":")
                if not colon:
                    raise ValueError(f"not a field line: {line!r}")
                fields[name.lower()] = value.strip()
            content = yield from self._content(fields)
            self._found.append(Answer(int(status), fields, content))

    def _content(self, fields: dict[bytes, bytes]) -> Generator[None, None, bytes]:
        if b"content-length" in fields:
            return (yield from self._bytes(int(fields[b"content-length"])))
        if fields.get(b"transfer-encoding", b"").lower() != b"chunked":
            raise ValueError("an answer that ends with the connection")
        content = bytearray()
        while size := int((yield from self._line(b"\r\n")), 16):
            content += yield from self._bytes(size)
            if (yield from self._bytes(2)) != b"\r\n":
                raise ValueError("a chunk is longer than it says")
        if (yield from self._line(b"\r\n")) != b"":
            raise ValueError("a trailer section where none was asked for")
        return bytes(content)

    def _line(self, mark: bytes) -> Generator[None, None, bytes]:
        while (end := self._buffer.find(mark)) < 0:
            yield
        line = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        return line

    def _bytes(self, count: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < count:
            yield
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


def get(path: str, *fields: str) -> bytes:
    """Return a GET request, with further field lines if given."""
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {_load.HOST}", *fields, "", ""]).encode()


def exchange(sock: socket.socket, request: bytes, *, seconds: float = 30.0) -> Answer:
    """Send one request on a kept connection and return its answer, in blocking calls; for use outside Trio.

    Raises:
      OSError: the connection broke, or nothing came for `seconds`.
      ValueError: this was not one answer.
    """
    sock.settimeout(seconds)
    try:
        sock.sendall(request)
        answers = Answers()
        while not (found := answers.feed(_received(sock))):
            pass
        if len(found) != 1 or not answers.between:
            raise ValueError("more came than one answer")
        return found[0]
    finally:
        sock.setblocking(False)


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(RECEIVE)
    if not data:
        raise ConnectionError("the server closed the connection in place of an answer")
    return data
