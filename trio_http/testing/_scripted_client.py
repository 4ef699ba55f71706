"""A script played as the client, against a server on a socket or a handler in memory."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from trio_http.server import Handler, Server, ServerConfig, check_handler, serve_connection

from ._conversation import close_now
from ._script import Script, check_script
from ._scripted_peer import ScriptedPeer
from ._scripted_server import ScriptedServer, connected
from ._streams import MemoryStream, memory_pair

#: What a script can be played to: (host, port), the path of a Unix socket, or a server on either.
Destination: TypeAlias = tuple[str, int] | str | os.PathLike[str] | Server | ScriptedServer


async def play_to(
    destination: Destination,
    script: Script,
    *,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
) -> ScriptedPeer:
    """Connect to a server, and play a script to it as its client.

    ::

        server = await nursery.start(trio_http.serve_tcp, app, 0)
        peer = await play_to(server, Script().send(b"GET / HTTP/1.1\\r\\n\\r\\n").expect_until_end())
        assert peer.received.startswith(b"HTTP/1.1 400 ")

    Args:
      destination: (host, port), the path of a Unix socket, or a server; of a server's sockets the first.
      script: what is played. When it is over the connection is closed, under TLS without an alert unless the
        script closes it.
      ssl_context: of a client; the connection is TLS then. None: no TLS.
      server_hostname: whom the certificate must name; None: the host, or "localhost" for a Unix socket.

    Returns:
      the peer that has played; `ScriptedPeer.received` is what the server has said.

    Raises:
      ScriptFailed: the server has not done what the script expects.
      TypeError: ``script`` is none.
      ValueError: ``destination`` is a server without a socket, or a URL.
      OSError: nobody listens there.
      Exception: of a function that the script calls.

    Cancellation: the connection is reset.
    """
    check_script(script)
    address = _address_of(destination)
    stream: trio.abc.Stream = await connected(address)
    try:
        if ssl_context is not None:
            name = server_hostname or (address[0] if isinstance(address, tuple) else "localhost")
            stream = trio.SSLStream(stream, ssl_context, server_hostname=name, https_compatible=False)
        peer = ScriptedPeer(over=stream, script=script)
        await peer.play()
    finally:
        close_now(stream)
    return peer


async def play_to_handler(
    handler: Handler,
    script: Script,
    *,
    config: ServerConfig | None = None,
    max_buffer_bytes: int | None = None,
) -> ScriptedPeer:
    """Play a script, as the client, to a server in memory that has this handler; wait for the server's end.

    Args:
      handler: answers the requests; its errors are logged and answered with 500, as on any server.
      script: what is played. When it is over the connection is closed.
      config: the server's settings; None: its defaults.
      max_buffer_bytes: how much may be on its way in each direction, as `memory_pair` has it.

    Returns:
      the peer that has played; `ScriptedPeer.received` is what the server has said.

    Raises:
      ScriptFailed: the server has not done what the script expects; it was cancelled then.
      TypeError: ``handler`` or ``script`` cannot be one.
      Exception: of a function that the script calls.

    Cancellation: the connection is broken on both sides, and the handler cancelled.
    """
    check_handler(handler)  # here, where it is the test that is told
    check_script(script)
    streams = memory_pair(max_buffer_bytes)
    peer = ScriptedPeer(streams, script=script)
    try:
        await _beside(lambda: _play_and_close(peer), lambda: _serve(handler, peer.stream, config))
    finally:
        for stream in streams:
            stream.close()
    return peer


async def _play_and_close(peer: ScriptedPeer) -> None:
    await peer.play()
    await peer._own.aclose()


async def _serve(handler: Handler, stream: MemoryStream, config: ServerConfig | None) -> None:
    await serve_connection(handler, stream, config=config or ServerConfig())


async def _beside(first: Callable[[], Awaitable[None]], second: Callable[[], Awaitable[None]]) -> None:
    """Do both at a time. An exception of either comes out as it is, the other one is cancelled."""
    failures: list[Exception] = []
    async with trio.open_nursery() as nursery:

        async def run(work: Callable[[], Awaitable[None]]) -> None:
            try:
                await work()
            except Exception as exc:  # noqa: BLE001  # raised below, outside the nursery
                failures.append(exc)
                nursery.cancel_scope.cancel(reason="the other side has failed")

        nursery.start_soon(run, first)
        nursery.start_soon(run, second)
    if failures:
        raise failures[0]


def _address_of(destination: Destination) -> tuple[str, int] | str:
    if isinstance(destination, ScriptedServer):
        if destination.address is None:
            raise ValueError("this scripted server is in memory only: it has a dial, and no address")
        return destination.address
    if isinstance(destination, Server):
        for listener in destination.listeners:
            beneath = listener.transport_listener if isinstance(listener, trio.SSLListener) else listener
            if isinstance(beneath, trio.SocketListener):
                name = beneath.socket.getsockname()
                return name if isinstance(name, str) else (name[0], name[1])
        raise ValueError("this server listens on no socket")
    if isinstance(destination, str) and "://" in destination:
        raise ValueError(f"expected (host, port) or the path of a Unix socket, not a URL: {destination!r}")
    return destination if isinstance(destination, tuple) else os.fspath(destination)
