"""httpcore over streams in memory, so that a sweep can look at its pool."""

# ruff: noqa: ASYNC109  # the arguments for time are those of the interface

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import httpcore
import trio
import trio.testing

from trio_http import Request, Response
from trio_http.server import serve_connection
from trio_http.testing import MemoryStream, memory_pair


async def answer(request: Request) -> Response:
    """Be the server: say what was asked for, and close the connection when it was /last."""
    return Response(text=request.path, headers={"connection": "close"} if request.path == "/last" else None)


@contextmanager
def as_httpcores(late: type[Exception], broken: type[Exception], seconds: float | None) -> Iterator[None]:
    """Turn Trio's errors into those that httpcore expects of a stream."""
    try:
        with trio.fail_after(math.inf if seconds is None else seconds):
            yield
    except trio.TooSlowError as exc:
        raise late(exc) from exc
    except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
        raise broken(exc) from exc


class MemoryNetworkStream(httpcore.AsyncNetworkStream):
    """One of httpcore's streams over one of ours."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with as_httpcores(httpcore.ReadTimeout, httpcore.ReadError, timeout):
            return await self._stream.receive_some(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer:
            with as_httpcores(httpcore.WriteTimeout, httpcore.WriteError, timeout):
                await self._stream.send_all(buffer)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise NotImplementedError("there is no TLS here")

    def get_extra_info(self, info: str) -> Any:
        return False if info == "is_readable" else None


class MemoryNetworkBackend(httpcore.AsyncNetworkBackend):
    """A network in which each connection leads to `answer`.

    Attributes:
      streams: the client's ends, in the order of the dials.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.streams: list[MemoryStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        await trio.sleep(1)
        ours, theirs = memory_pair()
        self.streams.append(ours)
        self._nursery.start_soon(serve_connection, answer, theirs)
        return MemoryNetworkStream(ours)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


@attrs.define
class PoolInMemory:
    """httpcore's pool with its network."""

    pool: httpcore.AsyncConnectionPool
    network: MemoryNetworkBackend

    def __repr__(self) -> str:
        return repr(self.pool)


@asynccontextmanager
async def httpcore_in_memory(max_connections: int, others: int) -> AsyncIterator[PoolInMemory]:
    """Open a pool, with so many other tasks that ask at the same time."""
    async with trio.open_nursery() as nursery:
        network = MemoryNetworkBackend(nursery)
        async with httpcore.AsyncConnectionPool(
            network_backend=network, max_connections=max_connections
        ) as pool:
            for _ in range(others):
                nursery.start_soon(pool.request, "GET", "http://a/last")
                await trio.testing.wait_all_tasks_blocked()  # in the order in which they ask
            yield PoolInMemory(pool, network)
        nursery.cancel_scope.cancel()
