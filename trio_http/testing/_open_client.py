"""A real client joined to a handler in memory: everything of client and server but the sockets."""

from __future__ import annotations

import contextlib
import contextvars
import ssl
from collections.abc import AsyncIterator
from typing import Final, Unpack

import trio

from trio_http.client import Client, ClientOptions
from trio_http.messages import FieldsInput
from trio_http.server import Handler, ServerConfig, check_handler, serve_connection
from trio_http.transport import StreamTransport, Transport

from ._streams import MemoryStream, memory_pair

# How many bytes may be on their way in each direction, so that a sender waits for its peer as it does on a
# network. Of the size of a kernel's buffers.
_BUFFER_BYTES: Final = 64 * 1024


class _Servers:
    """The server's side of every connection, each in a task of its own, until the block ends."""

    def __init__(self, handler: Handler, config: ServerConfig) -> None:
        self.scope = trio.CancelScope()
        self.ready = trio.Event()
        self._handler = handler
        self._config = config
        self._context = contextvars.copy_context()
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        with self.scope:
            # A request that is made in a shielded clean-up wants its answer, too.
            self.scope.shield = True  # bounded: by the block, whose end cancels the scope
            async with trio.open_nursery() as self._nursery:
                self.ready.set()
                await trio.sleep_forever()

    async def dial(self, host: str, port: int, scheme: str) -> Transport:
        await trio.lowlevel.checkpoint()
        assert self._nursery is not None
        ours, theirs = (_transport(stream, scheme) for stream in memory_pair(_BUFFER_BYTES))
        # In the context of the block: a server knows nothing of its client's context variables.
        self._context.run(self._nursery.start_soon, self._serve, theirs)
        return ours

    async def _serve(self, transport: Transport) -> None:
        await serve_connection(self._handler, transport, config=self._config)


class _SaidToBeTLS(ssl.SSLObject):
    """The facts of a TLS session that there is not: the connection counts as secure, and nothing is known of
    it.
    """

    def __init__(self) -> None:
        """Make it without a context, which `ssl.SSLObject` does not allow."""

    def version(self) -> None:
        return None

    def cipher(self) -> None:
        return None

    def selected_alpn_protocol(self) -> None:
        return None

    def getpeercert(self, binary_form: bool = False) -> None:
        return None


def _transport(stream: MemoryStream, scheme: str) -> Transport:
    transport = StreamTransport(stream)
    if scheme == "https":
        transport.tls = _SaidToBeTLS()
    return transport


@contextlib.asynccontextmanager
async def open_client(
    handler: Handler,
    *,
    config: ServerConfig | None = None,
    base_url: str = "http://testserver",
    headers: FieldsInput | None = None,
    **client_options: Unpack[ClientOptions],
) -> AsyncIterator[Client]:
    """Open a `Client` whose connections lead to ``handler``, whatever the host, and through no socket.

    ::

        async with open_client(app) as client:
            assert (await client.get("/hello/you")).text == "hello you\\n"

    Client and server are the real ones, with all that lies between them: framing, keep-alive, limits,
    back-pressure. There is no TLS, but https URLs lead to the handler too, and on both sides such a
    connection counts as secure: ``request.url`` says https, and cookies with the attribute Secure are sent.
    The handler behaves as on any server: its errors are logged and answered with 500, and never reach the
    block. An exception of the block comes out as it is. When the block ends, handlers that still run are
    cancelled.

    Args:
      handler: answers the requests.
      config: the server's settings; None: its defaults.
      base_url: what relative URLs are appended to.
      headers: fields of every request that does not say otherwise.
      client_options: as `Client`; a ``dial`` of your own takes the place of the handler.

    Raises: as `Client`; TypeError when ``handler`` cannot be one.

    Cancellation: as the block; all is closed when it comes out.
    """
    check_handler(handler)  # here, where it is the test that is told
    servers = _Servers(handler, config or ServerConfig())
    client_options.setdefault("dial", servers.dial)
    # By hand, as `Client` does it: a nursery that is told of the block's exception would put it into a group.
    manager = trio.open_nursery()
    nursery = await manager.__aenter__()
    try:
        # Not by `Nursery.start`: cancelled, that waits for the task, and the task shields itself.
        nursery.start_soon(servers.run)
        await servers.ready.wait()
        async with Client(base_url=base_url, headers=headers, **client_options) as client:
            yield client
    finally:
        servers.scope.cancel(reason="the test's client is closed")
        await manager.__aexit__(None, None, None)
