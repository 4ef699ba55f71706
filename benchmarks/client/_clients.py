"""The clients that are compared: each opened as its library wants it, and asked in the same three ways.

Each runs in a child process that imports only its own library. What is set is the same for all: as many
connections as the case needs, no end to how long an idle one is kept, no proxies from the environment, and no
time limits, which hundreds of connections opened at once on a slow machine would exceed. All else is the
library's default.

*raw trio* is no client but the floor: it sends fixed bytes on sockets of its own and looks at little more
than the number of bytes that come back.
"""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

RAW, OURS = "raw trio", "ours"
AIOHTTP, AIOHTTP_UVLOOP = "aiohttp on asyncio", "aiohttp on uvloop"
HTTPX, HTTPX_UVLOOP, HTTPX2, HTTPCORE = (
    "httpx on trio",
    "httpx on uvloop",
    "httpx2 on trio",
    "httpcore on trio",
)

KEEP_SECONDS = 3600.0
"""How long an idle connection is kept: longer than any run."""

RECEIVE = 64 * 1024
PIECE = bytes(64 * 1024)
"""What an upload consists of, again and again."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a client is opened with.

    Attributes:
      connections: the most in all, at least 1.
      per_origin: the most to one scheme, host and port, where the library has such a limit.
      trust: the file of the certificate that https is verified by; None without https.
    """

    connections: int
    per_origin: int
    trust: str | None = None

    @property
    def context(self) -> ssl.SSLContext | None:
        return None if self.trust is None else ssl.create_default_context(cafile=self.trust)


class Pieces:
    """Content of `length` bytes, a multiple of `PIECE`'s, as an async iterable that never waits."""

    def __init__(self, length: int) -> None:
        self._left = length

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if self._left <= 0:
            raise StopAsyncIteration
        self._left -= len(PIECE)
        return PIECE


class Asker(Protocol):
    """An open client."""

    async def get(self, url: str) -> tuple[int, bytes]:
        """Return status and content of a GET."""

    async def download(self, url: str) -> int:
        """GET a content piece by piece, and return how many bytes it had."""

    async def upload(self, url: str, length: int) -> bytes:
        """PUT `Pieces` of this length, with a Content-Length, and return the content of the answer."""


@dataclass(frozen=True, slots=True)
class Client:
    """How one library is run.

    Attributes:
      run: runs an async function to its end.
      spread: runs so many tasks of an async function to their end.
      open: opens a client for the length of a block.
    """

    run: Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
    spread: Callable[[Callable[[], Awaitable[None]], int], Awaitable[None]]
    open: Callable[[Setting], AbstractAsyncContextManager[Asker]]


# The three ways to run.


def _run_trio(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    import trio

    trio.run(main)


def _run_asyncio(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    import asyncio

    asyncio.run(main())


def _run_uvloop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    import uvloop

    uvloop.run(main())


async def _spread_trio(task: Callable[[], Awaitable[None]], count: int) -> None:
    import trio

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(task)


async def _spread_asyncio(task: Callable[[], Awaitable[None]], count: int) -> None:
    import asyncio

    async def one() -> None:
        await task()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())


# The floor.


class _RawConnection:
    """A socket, or TLS over one, on which an answer is bytes up to a length that is known from the first."""

    def __init__(self, sock: socket.socket, stream: Any) -> None:
        self.sock = sock
        self.stream = stream
        self.length = 0

    async def receive(self) -> bytes:
        import trio

        if self.stream is not None:
            data: bytes = await self.stream.receive_some(RECEIVE)
        else:
            await trio.lowlevel.wait_readable(self.sock)
            data = self.sock.recv(RECEIVE)
        if not data:
            raise ConnectionError("closed in place of an answer")
        return data

    async def receive_into(self, buffer: bytearray) -> int:
        """Receive on a plain socket, into the same memory again and again; return how many bytes came."""
        import trio

        await trio.lowlevel.wait_readable(self.sock)
        count = self.sock.recv_into(buffer)
        if not count:
            raise ConnectionError("closed within an answer")
        return count

    async def send(self, data: bytes) -> None:
        import trio

        if self.stream is not None:
            await self.stream.send_all(data)
            return
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.sock.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)

    async def head(self) -> tuple[bytes, bytes]:
        """Return the next head without its empty line, and what has come behind it."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self.receive()
        head, _, rest = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ValueError(f"answered {head[:60]!r}")
        return head, rest


class _Raw:
    """Connections in a stack, and requests as fixed bytes."""

    def __init__(self, setting: Setting) -> None:
        self._context = setting.context
        self._idle: list[_RawConnection] = []
        self._requests: dict[str, bytes] = {}

    async def get(self, url: str) -> tuple[int, bytes]:
        connection = self._idle.pop() if self._idle else await self._connect(url)
        await connection.send(self._requests[url])
        data = await connection.receive()
        if not connection.length:
            while b"\r\n\r\n" not in data:
                data += await connection.receive()
            # A Date always has the same length, so each answer has the length of the first.
            connection.length = len(data.partition(b"\r\n\r\n")[0]) + 4 + _length_of(data)
        while len(data) < connection.length:
            data += await connection.receive()
        self._idle.append(connection)
        return 200, data[data.index(b"\r\n\r\n") + 4 :]

    async def download(self, url: str) -> int:
        connection = await self._connect(url)
        await connection.send(self._requests[url])
        head, rest = await connection.head()
        length, received = _length_of(head), len(rest)
        buffer = bytearray(4 * RECEIVE)
        while received < length:
            received += await connection.receive_into(buffer)
        return received

    async def upload(self, url: str, length: int) -> bytes:
        connection = await self._connect(url)
        head = self._requests[url].replace(b"GET ", b"PUT ", 1)
        await connection.send(head[:-2] + b"Content-Length: %d\r\n\r\n" % length)
        async for piece in Pieces(length):
            await connection.send(piece)
        answer, content = await connection.head()
        while len(content) < _length_of(answer):
            content += await connection.receive()
        return content

    async def _connect(self, url: str) -> _RawConnection:
        import trio

        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        host, _, port = authority.partition(":")
        self._requests[url] = f"GET /{path} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()
        stream = await trio.open_tcp_stream(host, int(port))
        if scheme == "http":
            # The socket itself: trio's wrapper tries before it waits, which costs a system call an answer.
            sock = socket.socket(fileno=stream.socket.detach())
            sock.setblocking(False)
            return _RawConnection(sock, None)
        assert self._context is not None
        secure = trio.SSLStream(stream, self._context, server_hostname=host, https_compatible=True)
        await secure.do_handshake()
        return _RawConnection(socket.socket(), secure)

    def close(self) -> None:
        for connection in self._idle:
            connection.sock.close()
            if connection.stream is not None:
                connection.stream.transport_stream.socket.close()


def _length_of(head: bytes) -> int:
    """Return the Content-Length in a head whose names are in any case."""
    for line in head.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError(f"no Content-Length in {head[:200]!r}")


@asynccontextmanager
async def _open_raw(setting: Setting) -> AsyncIterator[Asker]:
    raw = _Raw(setting)
    try:
        yield raw
    finally:
        raw.close()


# The libraries.


async def _count(pieces: AsyncIterable[bytes]) -> int:
    length = 0
    async for piece in pieces:
        length += len(piece)
    return length


class _Library:
    """What ours, httpx and httpcore do by the same names."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def pieces(self, response: Any) -> AsyncIterable[bytes]:
        raise NotImplementedError

    async def download(self, url: str) -> int:
        async with self._client.stream("GET", url) as response:
            return await _count(self.pieces(response))

    async def upload(self, url: str, length: int) -> bytes:
        fields = {"content-length": str(length)}
        response = await self._client.request("PUT", url, content=Pieces(length), headers=fields)
        content: bytes = response.content
        return content


class _Ours(_Library):
    async def get(self, url: str) -> tuple[int, bytes]:
        response = await self._client.get(url)
        return response.status, response.content

    def pieces(self, response: Any) -> AsyncIterable[bytes]:
        body: AsyncIterable[bytes] = response.body
        return body


@asynccontextmanager
async def _open_ours(setting: Setting) -> AsyncIterator[Asker]:
    import trio_http

    async with trio_http.Client(
        max_connections=setting.connections,
        max_connections_per_origin=setting.per_origin,
        idle_seconds=KEEP_SECONDS,
        ssl_context=setting.context,
    ) as client:
        yield _Ours(client)


class _Httpx(_Library):
    """httpx, and httpx2, which has the same interface."""

    async def get(self, url: str) -> tuple[int, bytes]:
        response = await self._client.get(url)
        return response.status_code, response.content

    def pieces(self, response: Any) -> AsyncIterable[bytes]:
        pieces: AsyncIterable[bytes] = response.aiter_bytes()
        return pieces


@asynccontextmanager
async def _open_httpx(module: str, setting: Setting) -> AsyncIterator[Asker]:
    import importlib

    httpx = importlib.import_module(module)
    count = setting.connections
    limits = httpx.Limits(
        max_connections=count, max_keepalive_connections=count, keepalive_expiry=KEEP_SECONDS
    )
    context = setting.context
    verify = False if context is None else context
    async with httpx.AsyncClient(limits=limits, verify=verify, trust_env=False, timeout=None) as client:
        yield _Httpx(client)


class _Httpcore(_Library):
    async def get(self, url: str) -> tuple[int, bytes]:
        response = await self._client.request("GET", url)
        return response.status, response.content

    def pieces(self, response: Any) -> AsyncIterable[bytes]:
        pieces: AsyncIterable[bytes] = response.aiter_stream()
        return pieces


@asynccontextmanager
async def _open_httpcore(setting: Setting) -> AsyncIterator[Asker]:
    import httpcore

    async with httpcore.AsyncConnectionPool(
        ssl_context=setting.context,
        max_connections=setting.connections,
        max_keepalive_connections=setting.connections,
        keepalive_expiry=KEEP_SECONDS,
    ) as pool:
        yield _Httpcore(pool)


class _Aiohttp:
    def __init__(self, session: Any) -> None:
        self._session = session

    async def get(self, url: str) -> tuple[int, bytes]:
        async with self._session.get(url) as response:
            return response.status, await response.read()

    async def download(self, url: str) -> int:
        async with self._session.get(url) as response:
            return await _count(response.content.iter_any())

    async def upload(self, url: str, length: int) -> bytes:
        fields = {"content-length": str(length)}
        async with self._session.put(url, data=Pieces(length), headers=fields) as response:
            content: bytes = await response.read()
            return content


@asynccontextmanager
async def _open_aiohttp(setting: Setting) -> AsyncIterator[Asker]:
    import aiohttp

    connector = aiohttp.TCPConnector(
        limit=setting.connections,
        limit_per_host=setting.per_origin,
        keepalive_timeout=KEEP_SECONDS,
        ssl=setting.context or True,
    )
    no_limit = aiohttp.ClientTimeout(total=None, sock_connect=None)
    async with aiohttp.ClientSession(connector=connector, timeout=no_limit) as session:
        yield _Aiohttp(session)


CLIENTS: dict[str, Client] = {
    RAW: Client(_run_trio, _spread_trio, _open_raw),
    OURS: Client(_run_trio, _spread_trio, _open_ours),
    AIOHTTP_UVLOOP: Client(_run_uvloop, _spread_asyncio, _open_aiohttp),
    AIOHTTP: Client(_run_asyncio, _spread_asyncio, _open_aiohttp),
    HTTPCORE: Client(_run_trio, _spread_trio, _open_httpcore),
    HTTPX2: Client(_run_trio, _spread_trio, functools.partial(_open_httpx, "httpx2")),
    HTTPX: Client(_run_trio, _spread_trio, functools.partial(_open_httpx, "httpx")),
    HTTPX_UVLOOP: Client(_run_uvloop, _spread_asyncio, functools.partial(_open_httpx, "httpx")),
}
