"""A stream that hands everything on to another one, for those that do one thing differently."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

S = TypeVar("S", bound=trio.abc.HalfCloseableStream)


class ForwardingStream(trio.abc.HalfCloseableStream, Generic[S]):
    """Does what ``inner`` does."""

    def __init__(self, inner: S) -> None:
        self.inner = inner

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self.inner.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self.inner.send_eof()

    async def aclose(self) -> None:
        await self.inner.aclose()
