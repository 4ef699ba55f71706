"""The clients of the comparison: sockets that send bytes as they are, and read answers with few questions.

No HTTP library is used, ours least of all: what looks at a server must not share its mistakes.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import trio
from _contender import HOST, LOOK

Fields = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """One response.

    Attributes:
      status: 100-999.
      fields: the last value of each field, by its name in lower case.
      content: without its framing; as much as came if the connection ended within it.
      trailers: as `fields`.
      whole: it came to its end.
    """

    status: int
    fields: Fields
    content: bytes = b""
    trailers: Fields | None = None
    whole: bool = True


class Cut(Exception):
    """The connection ended before an answer."""


class Raw:
    """A connection to a server.

    Attributes:
      stream: what goes over it.
      sock: below.
      consumed: how many bytes were read so far.
    """

    def __init__(self, stream: trio.abc.Stream, sock: trio.socket.SocketType) -> None:
        self.stream = stream
        self.sock = sock
        self.consumed = 0
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def more(self) -> bytes:
        """Return the bytes that come next, b"" at the end of the stream, or when it was reset."""
        try:
            data = bytes(await self.stream.receive_some(64 * 1024))
        except (trio.BrokenResourceError, OSError):
            return b""
        self.consumed += len(data)
        return data

    async def until(self, mark: bytes) -> bytes:
        """Return everything to the end of `mark`.

        Raises:
          Cut: the connection ended before.
        """
        while mark not in self._buffer:
            data = await self.more()
            if not data:
                raise Cut(f"after {self._buffer[-100:]!r}")
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(mark)
        return head + mark

    def take(self) -> bytes:
        """Return what was read and not yet returned."""
        data, self._buffer = self._buffer, b""
        return data

    async def head(self) -> Answer:
        """Return the next head, of an interim or a final response."""
        status, fields = _parsed(await self.until(b"\r\n\r\n"))
        return Answer(status, fields)

    async def answer(self) -> Answer:
        """Return the next response; of a final one with its content."""
        head = await self.head()
        if head.status < 200 or head.status in (204, 304):
            return head
        try:
            content, trailers = await self._content(head.fields)
        except Cut:
            return Answer(head.status, head.fields, self.take(), whole=False)
        return Answer(head.status, head.fields, content, trailers)

    async def ask(self, request: bytes) -> Answer:
        await self.send(request)
        return await self.answer()

    async def _content(self, fields: Fields) -> tuple[bytes, Fields | None]:
        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            content = b""
            while size := int((await self.until(b"\r\n")).partition(b";")[0], 16):
                content += (await self._exactly(size + 2))[:-2]
            lines = b""
            while (line := await self.until(b"\r\n")) != b"\r\n":
                lines += line
            return content, _fields(lines)
        if b"content-length" in fields:
            return await self._exactly(int(fields[b"content-length"])), None
        while data := await self.more():
            self._buffer += data
        return self.take(), None

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            data = await self.more()
            if not data:
                raise Cut
            self._buffer += data
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def reset(self) -> None:
        """Close so that the server gets a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close so that the server gets a FIN, or a RST if something lies unread here."""
        self.sock.close()

    def ended(self) -> str | None:
        """Return how the server has ended the connection, "FIN" or "RST", and None while it has not.

        Does not read, so that it can be asked of a connection whose client has stopped reading.
        """
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLRDHUP)
        events = dict(poll.poll(0)).get(self.sock.fileno(), 0)
        if events & (select.POLLERR | select.POLLHUP):
            return "RST"
        return "FIN" if events & select.POLLRDHUP else None

    async def wait_ended(self, seconds: float) -> tuple[str, float]:
        """Wait until the server has ended the connection.

        Returns:
          "FIN", "RST", or "open" if it is there after `seconds`; and when that was seen.
        """
        deadline = time.monotonic() + seconds
        while (end := self.ended()) is None:
            if time.monotonic() > deadline:
                return "open", time.monotonic()
            await trio.sleep(LOOK)
        return end, time.monotonic()


async def connect(port: int, *, receive_buffer: int | None = None) -> Raw:
    """Return a connection to a server.

    Args:
      port: the server's.
      receive_buffer: bytes for SO_RCVBUF (Linux doubles it), set before the handshake, so that the window is
        small from the beginning; None for the system's own.
    """
    sock = trio.socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    with trio.fail_after(10):
        await sock.connect((HOST, port))
    return Raw(trio.SocketStream(sock), sock)


def get(path: str, *fields: str) -> bytes:
    """Return a GET request, with further field lines if given."""
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {HOST}", *fields, "", ""]).encode()


def post(path: str, length: int, *fields: str) -> bytes:
    """Return the head of a POST request whose content has this length."""
    start = f"POST {path} HTTP/1.1"
    return "\r\n".join([start, f"Host: {HOST}", f"Content-Length: {length}", *fields, "", ""]).encode()


def _parsed(head: bytes) -> tuple[int, Fields]:
    first, _, lines = head.partition(b"\r\n")
    version, status, *_ = first.split(b" ")
    if version != b"HTTP/1.1" or len(status) != 3:
        raise ValueError(f"not the beginning of an answer: {first!r}")
    return int(status), _fields(lines)


def _fields(lines: bytes) -> Fields:
    fields = {}
    for line in lines.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
    return fields


def queued(local: int, remote: int) -> tuple[int, int]:
    """Return what the kernel holds for the socket with these ports, as Linux tells it.

    Returns:
      bytes sent that the other side has not acknowledged, and bytes received that nobody has read.
    """
    wanted = (local, remote)
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if tuple(int(address.rpartition(":")[2], 16) for address in words[1:3]) == wanted:
            unsent, unread = (int(count, 16) for count in words[4].split(":"))
            return unsent, unread
    return 0, 0
