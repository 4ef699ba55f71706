"""A server for the client's soak: it echoes the number of each request, and misbehaves as that number says.

``python _peer.py PORT ADDRESSES SEED`` serves on 127.0.0.1, 127.0.0.2 and so on until it is ended. It speaks
as much HTTP as the soak needs and shares no code with the project, so that the two cannot share a mistake.

| request | answer |
|---|---|
| any method, ``/NUMBER`` | by `make_plan` |
| ``GET /hold/N/KEY`` | 200, but not before N requests have come with this key |
| ``GET /facts`` | JSON: "requests", "connections" now, and "malformed", what came that was no request |
"""

from __future__ import annotations

import json
import random
import re
import resource
import socket
import struct
import sys
import zlib
from dataclasses import dataclass

import trio

RECEIVE = 64 * 1024
QUIET_SECONDS = 5.0
"""How long a connection is kept on which nothing comes, where the plan says nothing else."""

SOUND = {
    "well": 40,
    "chunked": 8,
    "pieces": 5,
    "late": 8,
    "interim": 5,
    "close": 4,
    "until close": 2,
    "leave": 5,
    "two": 3,
}
"""Ways to answer that give a client all it needs, with how often each is taken.

*Leave* closes without having said so, and *two* sends another request's answer right behind, unasked.
"""

UNSOUND = {"fin": 4, "rst": 4, "cut fin": 4, "cut rst": 4, "early": 3, "silent": 1}
"""Ways that need not end in an answer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one request is answered.

    Attributes:
      kind: of `SOUND` or `UNSOUND`.
      length: bytes of content.
      delay: seconds, where the kind has a delay.
      cut: where the kind has one, as a part of the answer, 0-1.
      keep: seconds for which the connection is kept for another request.
    """

    kind: str
    length: int
    delay: float
    cut: float
    keep: float


def make_plan(seed: int, number: int) -> Plan:
    """Return what is done with the request of this number, always the same."""
    rng = random.Random(f"{seed} peer {number}")
    kinds = SOUND | UNSOUND
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    length = rng.choice((0, 1, 20, 20, 1000, 1000, 20_000, 100_000))
    if kind == "two":
        length = min(length, 1000)  # so that both fit into one segment, and the second cannot come later
    keep = rng.uniform(0, 0.01) if rng.random() < 0.15 else QUIET_SECONDS
    return Plan(kind, length, rng.expovariate(1 / 0.005), rng.random(), keep)


def content_of(number: int, length: int) -> bytes:
    """Return content that is that of no other number, if it has a byte for each digit."""
    block = b"<%d>" % number
    return (block * (length // len(block) + 1))[:length]


def checksum(content: bytes) -> bytes:
    """Return what the peer says of the content that it received."""
    return b"%d/%08x" % (len(content), zlib.crc32(content))


class _Ended(Exception):
    """The client ended the connection."""


class _Malformed(Exception):
    """This was no request."""


class _Reader:
    """What comes on a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    async def wait(self) -> None:
        """Return when something has come."""
        if not self._buffer:
            await self._receive()

    async def line(self, mark: bytes = b"\r\n") -> bytes:
        """Return what comes before the next `mark`."""
        while (end := self._buffer.find(mark)) < 0:
            await self._receive()
        found = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        return found

    async def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._receive()
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    async def until_end(self) -> None:
        """Receive, and throw away, until the client ends the connection."""
        try:
            while True:
                self._buffer.clear()
                await self._receive()
        except _Ended:
            pass

    async def _receive(self) -> None:
        await trio.lowlevel.wait_readable(self._sock)
        try:
            data = self._sock.recv(RECEIVE)
        except ConnectionResetError:
            raise _Ended from None
        if not data:
            raise _Ended
        self._buffer += data


REQUEST_LINE = re.compile(rb"(GET|POST|PUT) /(hold/(\d+)/\w+|facts|\d+) HTTP/1\.1")


class Peer:
    """All connections.

    Args:
      seed: of all plans.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._requests = 0
        self._connections = 0
        self._malformed: list[str] = []
        self._held: dict[bytes, tuple[list[int], trio.Event]] = {}

    async def serve(self, sock: socket.socket) -> None:
        self._connections += 1
        try:
            with sock:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._serve(sock)
        except (_Ended, BrokenPipeError, ConnectionResetError):
            pass
        except _Malformed as exc:
            self._malformed.append(str(exc))
        finally:
            self._connections -= 1

    async def _serve(self, sock: socket.socket) -> None:
        reader = _Reader(sock)
        keep = QUIET_SECONDS
        while keep > 0:
            with trio.move_on_after(keep) as scope:
                await reader.wait()
            if scope.cancelled_caught:
                return
            first, *lines = (await reader.line(b"\r\n\r\n")).split(b"\r\n")
            match = REQUEST_LINE.fullmatch(first)
            if match is None:
                raise _Malformed(f"{first[:80]!r}")
            fields = {
                name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)
            }
            if match[3] is not None:
                await self._hold(match[2], int(match[3]))
                await _send(sock, _answer(b"0", b"", b"held"))
            elif match[2] == b"facts":
                facts = {
                    "requests": self._requests,
                    "connections": self._connections,
                    "malformed": self._malformed,
                }
                await _send(sock, _answer(b"0", b"", json.dumps(facts).encode()))
            else:
                keep = await self._echo(sock, reader, int(match[2]), fields)

    async def _hold(self, key: bytes, wished: int) -> None:
        count, all_here = self._held.setdefault(key, ([0], trio.Event()))
        count[0] += 1
        if count[0] >= wished:
            self._held.pop(key, None)
            all_here.set()
        await all_here.wait()

    async def _echo(
        self, sock: socket.socket, reader: _Reader, number: int, fields: dict[bytes, bytes]
    ) -> float:
        """Do what the plan for `number` says; return how long the connection is to be kept, 0 for not."""
        self._requests += 1
        plan = make_plan(self._seed, number)
        content = content_of(number, plan.length)
        if plan.kind == "early":
            await _send(sock, _answer(b"%d" % number, b"early", content, b"Connection: close\r\n"))
            await trio.sleep(plan.delay)
            return 0
        received = await _request_content(reader, fields)
        answer = _answer(b"%d" % number, checksum(received), content)
        match plan.kind:
            case "well":
                await _send(sock, answer)
            case "chunked":
                await _send(sock, _chunked(b"%d" % number, checksum(received), content))
            case "pieces":
                for at in range(0, len(answer), len(answer) // 3 + 1):
                    await _send(sock, answer[at : at + len(answer) // 3 + 1])
                    await trio.sleep(plan.delay / 3)
            case "late":
                await trio.sleep(plan.delay)
                await _send(sock, answer)
            case "interim":
                await _send(sock, b"HTTP/1.1 103 Early Hints\r\nX-Id: 0\r\n\r\n")
                await trio.sleep(plan.delay * plan.cut)
                await _send(sock, b"HTTP/1.1 102 Processing\r\n\r\n" + answer)
            case "close":
                await _send(
                    sock, _answer(b"%d" % number, checksum(received), content, b"Connection: close\r\n")
                )
                return 0
            case "until close":
                head = b"HTTP/1.1 200 OK\r\nX-Id: %d\r\nX-Received: %s\r\n\r\n"
                await _send(sock, head % (number, checksum(received)) + content)
                return 0
            case "leave":
                await _send(sock, answer)
                return 0
            case "two":
                other = number ^ 1
                await _send(sock, answer + _answer(b"%d" % other, b"0/00000000", content_of(other, 20)))
            case "silent":
                await reader.until_end()
                return 0
            case "fin":
                return 0
            case "rst":
                _reset(sock)
                return 0
            case "cut fin":
                await _send(sock, answer[: int(len(answer) * plan.cut)])
                return 0
            case "cut rst":
                await _send(sock, answer[: int(len(answer) * plan.cut)])
                await trio.sleep(plan.delay)
                _reset(sock)
                return 0
        return plan.keep


async def _request_content(reader: _Reader, fields: dict[bytes, bytes]) -> bytes:
    if fields.get(b"transfer-encoding") == b"chunked":
        content = bytearray()
        while size := _number(await reader.line(), 16):
            content += await reader.exactly(size)
            if await reader.exactly(2) != b"\r\n":
                raise _Malformed(f"a chunk is longer than its {size} bytes")
        if await reader.line():
            raise _Malformed("a trailer section that nobody sent")
        return bytes(content)
    return await reader.exactly(_number(fields.get(b"content-length", b"0"), 10))


def _number(digits: bytes, base: int) -> int:
    try:
        return int(digits, base)
    except ValueError:
        raise _Malformed(f"{digits[:40]!r} is no number") from None


def _answer(number: bytes, received: bytes, content: bytes, more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nX-Id: %s\r\nX-Received: %s\r\n%sContent-Length: %d\r\n\r\n"
    return head % (number, received, more, len(content)) + content


def _chunked(number: bytes, received: bytes, content: bytes) -> bytes:
    """Return a chunked answer whose number stands in the trailer section too."""
    head = b"HTTP/1.1 200 OK\r\nX-Id: %s\r\nX-Received: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [content[at : at + 3000] for at in range(0, len(content), 3000)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head % (number, received) + body + b"0\r\nX-Id: %s\r\n\r\n" % number


async def _send(sock: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)


def _reset(sock: socket.socket) -> None:
    """Make the close that follows a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _accept(listener: socket.socket, peer: Peer, nursery: trio.Nursery) -> None:
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue
        nursery.start_soon(peer.serve, sock)


async def main(port: int, addresses: int, seed: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    peer = Peer(seed)
    async with trio.open_nursery() as nursery:
        # The first address last: who finds it listening finds all of them.
        for number in range(addresses, 0, -1):
            listener = socket.create_server((f"127.0.0.{number}", port), backlog=1024)
            listener.setblocking(False)
            nursery.start_soon(_accept, listener, peer, nursery)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
