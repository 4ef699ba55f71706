"""Where the server's functions are called: a request in the hands of its handler, and a listener."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import attrs
import trio
import trio.testing

from tests.cancellation._worlds import CONFIG
from trio_http import Request, Response, ServerConfig, serve_connection
from trio_http.testing import MemoryStream, memory_pair

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OPEN_CONFIG = attrs.evolve(CONFIG, connect=True)


@attrs.define(eq=False)
class Handling:
    """A request that waits in its handler while another task does something with it.

    Attributes:
      client, server: the two ends of the connection.
      request: it.
      value: what was made of it.
      received: what the client has got.
    """

    client: MemoryStream
    server: MemoryStream
    request: Request | None = None
    value: object = None
    received: bytes = b""
    entered: trio.Event = attrs.field(factory=trio.Event)
    leaving: trio.Event = attrs.field(factory=trio.Event)

    async def handle(self, request: Request) -> Response | None:
        if self.request is not None:
            return Response(text="fresh")
        self.request = request
        self.entered.set()
        await self.leaving.wait()
        return None if getattr(request, "response_stream", None) is not None else Response(text="well")

    async def read(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for part in self.client:
                self.received += part

    async def see_settled(self) -> None:
        """Let the handler go; see that its connection is closed, or takes another request."""
        self.leaving.set()
        await trio.testing.wait_all_tasks_blocked()
        if not self.server.closed:
            before = self.received
            with contextlib.suppress(trio.BrokenResourceError):
                await self.client.send_all(GET)
            await trio.sleep(10)
            assert self.server.closed or self.received.startswith(before)
            assert self.server.closed or self.received.endswith(b"fresh"), self.received


def handling(
    sent: bytes = GET,
    *,
    config: ServerConfig = OPEN_CONFIG,
    max_buffer_bytes: int | None = None,
    prepare: Callable[[Handling], Awaitable[object]] | None = None,
) -> Callable[[], AbstractAsyncContextManager[Handling]]:
    """Return the world in which a request is in its handler's hands.

    Args:
      sent: what the client has sent.
      config: the server's.
      max_buffer_bytes: of the connection, in each direction.
      prepare: what comes first.
    """

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Handling]:
        client, server = memory_pair(max_buffer_bytes)
        scene = Handling(client, server)

        async def serve() -> None:
            await serve_connection(scene.handle, server, config=config)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            nursery.start_soon(client.send_all, sent)
            nursery.start_soon(scene.read)
            await scene.entered.wait()
            if prepare is not None:
                await prepare(scene)
            yield scene
            nursery.cancel_scope.cancel()
        await client.aclose()

    return world


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """Gives streams that it was given, and waits when there are none.

    Attributes:
      closed: it was closed.
      fault: what `accept` raises.
    """

    def __init__(self) -> None:
        self.closed = False
        self.fault: Exception | None = None
        self._give, self._take = trio.open_memory_channel[MemoryStream](10)

    def connect(self) -> MemoryStream:
        """Return the client's end of a new connection."""
        client, server = memory_pair()
        self._give.send_nowait(server)
        return client

    async def accept(self) -> MemoryStream:
        if self.fault is not None:
            raise self.fault
        return await self._take.receive()

    async def aclose(self) -> None:
        self.closed = True
        self._take.close()
        self._give.close()
        await trio.lowlevel.checkpoint()
