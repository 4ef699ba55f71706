"""A fast server that speaks as much HTTP as the clients under test need, on many loopback addresses.

``python _raw_server.py PORT ADDRESSES`` serves on 127.0.0.1, 127.0.0.2 and so on until it is ended. It takes
what it receives for a request when a head has ended, and looks at the first line and the Content-Length.

| request | answer |
|---|---|
| ``GET /hold/N/KEY`` | the usual one, but not before N requests have come with this key |
| ``GET /connections`` | how many connections there are |
| ``PUT`` | how many bytes of content came |
| any other | the usual one: 13 bytes |
"""

from __future__ import annotations

import errno
import resource
import socket
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parent))

import _traffic as traffic  # noqa: E402 - the line above is what makes it found
import trio  # noqa: E402

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s"
USUAL = ANSWER % (len(traffic.ANSWER_BODY), traffic.ANSWER_BODY)
RECEIVE = 64 * 1024
SINK = bytearray(1 << 20)
"""Where the content of every PUT goes."""


class Server:
    """The connections, and the requests that are held."""

    def __init__(self) -> None:
        self._connections = 0
        self._held: dict[bytes, tuple[list[int], trio.Event]] = {}

    async def serve(self, sock: socket.socket) -> None:
        self._connections += 1
        try:
            with sock:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._serve(sock)
        except OSError as exc:
            if exc.errno not in (errno.ECONNRESET, errno.EPIPE):
                raise
        finally:
            self._connections -= 1

    async def _serve(self, sock: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(sock)
            data = sock.recv(RECEIVE)
            if not data:
                return
            while b"\r\n\r\n" not in data:
                await trio.lowlevel.wait_readable(sock)
                data += sock.recv(RECEIVE)
            if data.startswith(b"PUT "):
                sock.send(await self._put(sock, data))
            elif data.startswith(b"GET /hold/"):
                await self._hold(data)
                sock.send(USUAL)
            elif data.startswith(b"GET /connections "):
                content = b"%d" % self._connections
                sock.send(ANSWER % (len(content), content))
            else:
                sock.send(USUAL)

    async def _put(self, sock: socket.socket, data: bytes) -> bytes:
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        received = len(rest)
        while received < length:
            await trio.lowlevel.wait_readable(sock)
            count = sock.recv_into(SINK)
            if not count:
                break
            received += count
        content = b"%d" % received
        return ANSWER % (len(content), content)

    async def _hold(self, data: bytes) -> None:
        _, _, wished, key = data.split(b" ", 2)[1].split(b"/")
        count, all_here = self._held.setdefault(key, ([0], trio.Event()))
        count[0] += 1
        if count[0] >= int(wished):
            self._held.pop(key, None)
            all_here.set()
        await all_here.wait()


async def accept(listener: socket.socket, server: Server, nursery: trio.Nursery) -> None:
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            continue
        nursery.start_soon(server.serve, sock)


async def main(port: int, addresses: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = Server()
    async with trio.open_nursery() as nursery:
        # The first address last: who finds it listening finds all of them.
        for number in range(addresses, 0, -1):
            listener = socket.create_server((f"127.0.0.{number}", port), backlog=4096)
            listener.setblocking(False)
            nursery.start_soon(accept, listener, server, nursery)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]))
