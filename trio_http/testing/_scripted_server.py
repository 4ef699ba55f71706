"""A server that plays a script on each connection, in memory or on a socket.

How it ends
===========

The block and the scripts run beside each other, and either may go wrong first. So that a test is told once,
and of the cause:

- A script that fails cancels the block, and its failure comes out of it. The client under test need not come
  to an end by itself.
- An exception of the block comes out as it is. If a script has failed as well, there is a cause and a
  consequence. A script that received something else than it expects is the cause: its failure comes out, and
  the exception of the block is the failure's `__cause__`. A script that met the end of its connection is the
  consequence, for a block that fails closes its client: then a note on the exception tells of it.
- When neither happens, the scripts are waited for, since the last bytes may be on their way. Then a script
  that is not at its end fails the block, and so does a connection for which there was none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, Literal, TypeAlias

import trio

from ._conversation import Conversation, ScriptFailed, check_seconds, close_now
from ._script import Script, check_script
from ._scripted_peer import ScriptedPeer
from ._streams import memory_pair

#: Where a socket listens: (host, port), or the path of a Unix socket.
SocketAddress: TypeAlias = tuple[str, int] | str

_WAYS: Final = ("memory", "tcp", "unix")


class ScriptedServer:
    """A server that follows scripts, as `open_scripted_server` gives it.

    Attributes:
      url: where a client finds it. In memory and over a Unix socket it leads there only by way of `dial`, as
        any other URL would.
      address: where it listens: (host, port), or a path. None: in memory, and nowhere else.
      peers: one for each connection that has come, in order; the n-th plays the n-th script.
    """

    def __init__(
        self,
        scripts: tuple[Script, ...],
        listener: trio.SocketListener | None,
        context: ssl.SSLContext | None,
        max_buffer_bytes: int | None,
    ) -> None:
        scheme = "http" if context is None else "https"
        self.address: SocketAddress | None = None
        self.url = f"{scheme}://localhost"
        self.peers: list[ScriptedPeer] = []
        if listener is not None:
            name = listener.socket.getsockname()
            self.address = name if isinstance(name, str) else (name[0], name[1])
            if isinstance(self.address, tuple):
                self.url = f"{scheme}://{self.address[0]}:{self.address[1]}"
        self._scripts = scripts
        self._listener = listener
        self._context = context
        self._max_buffer_bytes = max_buffer_bytes
        self._surplus = 0
        self._failures: list[Exception] = []
        self._nursery: trio.Nursery | None = None
        self._block = trio.CancelScope()
        self._accepting = trio.CancelScope()
        self._accepted = trio.Event()  # nothing more is accepted
        self._changed = trio.Event()

    def __repr__(self) -> str:
        ended = sum(peer.finished for peer in self.peers)
        return f"<{type(self).__name__}, {ended} of {len(self._scripts)} scripts played>"

    async def dial(self, host: str, port: int, scheme: str) -> trio.abc.Stream:
        """Connect to this server, whatever is asked for; a `trio_http.client.Dial`.

        Returns:
          a stream without TLS, which a client lays over it by itself where the scheme wants it.

        Raises:
          OSError: there is no script left for the connection, or the server is closed.

        Cancellation: no connection was made.
        """
        if self._listener is not None:
            return await connected(self._address())
        await trio.lowlevel.checkpoint()
        if self._nursery is None:
            raise ConnectionRefusedError("the scripted server is closed")
        ours, theirs = memory_pair(self._max_buffer_bytes)
        if not self._begin(theirs):
            ours.close()
            raise ConnectionRefusedError(f"there are no more than {len(self._scripts)} scripts")
        return ours

    def _address(self) -> SocketAddress:
        assert self.address is not None
        return self.address

    # ----------------------------------------------------------------------------------------- connections

    async def _accept(self, listener: trio.SocketListener) -> None:
        try:
            with self._accepting:
                while True:
                    self._begin(await listener.accept())
        except OSError as exc:
            self._fail(exc)
        finally:
            self._accepted.set()

    def _begin(self, stream: trio.abc.Stream) -> bool:
        """Have the next script played on this connection; one too many is reset. Tell which it was."""
        if self._nursery is None or len(self.peers) == len(self._scripts):
            self._surplus += self._nursery is not None
            Conversation(stream).break_off()
            return False
        if self._context is not None:
            # Not compatible with HTTPS: so an end without an alert breaks the connection; a close sends one.
            stream = trio.SSLStream(stream, self._context, server_side=True, https_compatible=False)
        peer = ScriptedPeer(over=stream, script=self._scripts[len(self.peers)])
        self.peers.append(peer)
        self._nursery.start_soon(self._play, peer, len(self.peers), name=f"script {len(self.peers)}")
        return True

    async def _play(self, peer: ScriptedPeer, number: int) -> None:
        try:
            await peer.play()
        except ScriptFailed as exc:
            told = ScriptFailed(f"connection {number}, {exc}", gone=exc.gone)
            told.__cause__ = exc.__cause__
            self._fail(told)
        except Exception as exc:  # noqa: BLE001  # comes out of the block
            self._fail(exc)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _fail(self, failure: Exception) -> None:
        self._failures.append(failure)
        self._block.cancel(reason="a script has failed")

    # --------------------------------------------------------------------------------------------- the end

    async def _settle(self, patience: float) -> None:
        """Wait for the scripts, and see that they were played and no more was asked for."""
        with trio.move_on_after(patience):
            while not self._is_over():
                await self._changed.wait()
        await trio.lowlevel.checkpoint()
        if self._listener is not None:
            # A connection may be half accepted; only when that is over can those that are left be counted.
            self._accepting.cancel(reason="the scripted server's block is over")
            await self._accepted.wait()
            self._surplus += self._listener.socket.is_readable()
        if wrongs := self._wrongs():
            raise ScriptFailed("\n".join(wrongs))

    def _is_over(self) -> bool:
        return len(self.peers) == len(self._scripts) and all(peer.finished for peer in self.peers)

    def _wrongs(self) -> list[str]:
        wrongs = [
            f"connection {number} is still at {peer.next_step}\n  received so far: {bytes(peer.received)!r}"
            for number, peer in enumerate(self.peers, start=1)
            if not peer.finished
        ]
        if len(self.peers) < len(self._scripts):
            wrongs.append(
                f"of {len(self._scripts)} connections that have scripts, {len(self.peers)} have come"
            )
        if self._surplus:
            wrongs.append(self._surplus_text())
        return wrongs

    def _surplus_text(self) -> str:
        return f"{self._surplus} more connections have come than the {len(self._scripts)} that have scripts"

    def _failure(self) -> Exception | None:
        """Return what the scripts have to raise: of several failures, one that is not a consequence."""
        failure = min(self._failures, key=_is_consequence, default=None)
        if failure is not None:
            self._note_on(failure)
        return failure

    def _note_on(self, exc: Exception) -> None:
        """Note on an exception what else there is to say about the scripts."""
        for failure in self._failures:
            if failure is not exc:
                exc.add_note(f"a script has failed, too: {failure}")
        if self._surplus:
            exc.add_note(self._surplus_text())

    def _close(self) -> None:
        for peer in self.peers:
            close_now(peer._own)


@contextlib.asynccontextmanager
async def open_scripted_server(
    *scripts: Script,
    over: Literal["memory", "tcp", "unix"] = "tcp",
    ssl_context: ssl.SSLContext | None = None,
    max_buffer_bytes: int | None = None,
    patience: float = 5,
) -> AsyncIterator[ScriptedServer]:
    """Open a server that plays the n-th of ``scripts`` on its n-th connection.

    ::

        busy = b"HTTP/1.1 503 Busy\\r\\nContent-Length: 0\\r\\n\\r\\n"
        script = Script().expect_until(b"\\r\\n\\r\\n").send(busy).expect_end()
        async with open_scripted_server(script) as server:
            async with trio_http.Client() as client:
                assert (await client.get(server.url)).status == 503

    With ``Client(dial=server.dial)`` the same block runs over any of the three ways.

    A script that fails cancels the block. At the end of the block all connections are closed.

    Args:
      scripts: what is played.
      over: "tcp": a socket on 127.0.0.1; "unix": a Unix socket in a folder of its own; "memory": streams in
        memory, which only `ScriptedServer.dial` leads to.
      ssl_context: of a server; every connection is TLS then. The handshake comes with the first step that
        sends or receives, so that it is late when the script begins with a `Script.wait`. None: no TLS.
      max_buffer_bytes: in memory: how much may be on its way in each direction, as `memory_pair` has it.
      patience: for how many seconds, on trio's clock, scripts may go on after the block. The default is
        arbitrary; only a test that fails waits for so long.

    Raises:
      ScriptFailed: the other side has not done what a script expects; or, at the end, a script was not played
        to its end, or more connections came than scripts. The text has the connection, the step and the
        bytes. Its cause may be an exception of the block.
      Exception: of a function that a script calls.
      TypeError: a script is none.
      ValueError: ``over`` is none of the three, or another argument is out of range.
      OSError: the socket cannot be opened, as when the system has no Unix sockets.

    Cancellation: as the block; connections whose script is still played are reset, the others closed.
    """
    if over not in _WAYS:
        raise ValueError(f"over must be one of {', '.join(_WAYS)}, got {over!r}")
    for script in scripts:
        check_script(script)
    check_seconds(patience, "patience")
    if max_buffer_bytes is not None and max_buffer_bytes < 1:
        raise ValueError(f"max_buffer_bytes must be at least 1, got {max_buffer_bytes}")
    with _listening(over) as listener:
        server = ScriptedServer(scripts, listener, ssl_context, max_buffer_bytes)
        # By hand: a nursery that is told of the block's exception would put it into a group.
        manager = trio.open_nursery()
        server._nursery = nursery = await manager.__aenter__()
        try:
            if listener is not None:
                nursery.start_soon(server._accept, listener)
            with server._block:
                try:
                    yield server
                except Exception as exc:
                    failure = server._failure()
                    if failure is not None and not _is_consequence(failure):
                        raise failure from failure.__cause__ or exc
                    server._note_on(exc)
                    raise
                await server._settle(patience)
        finally:
            server._nursery = None  # a connection that comes now has nobody to play to it
            try:
                nursery.cancel_scope.cancel(reason="the scripted server's block is over")
                await manager.__aexit__(None, None, None)
            finally:
                server._close()
    if (failure := server._failure()) is not None:
        raise failure


def _is_consequence(failure: Exception) -> bool:
    """Whether a script has failed because the other side was gone."""
    return isinstance(failure, ScriptFailed) and failure.gone


@contextlib.contextmanager
def _listening(over: str) -> Iterator[trio.SocketListener | None]:
    """Give an open listener; None: in memory. At the end it and its folder are gone."""
    if over == "memory":
        yield None
        return
    if over == "unix" and not hasattr(socket, "AF_UNIX"):
        raise OSError("this system has no Unix sockets")
    folder = tempfile.mkdtemp(prefix="scripted-") if over == "unix" else None
    try:
        with socket.socket(socket.AF_INET if folder is None else socket.AF_UNIX) as sock:
            sock.bind(("127.0.0.1", 0) if folder is None else os.path.join(folder, "socket"))
            sock.listen()
            yield trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    finally:
        if folder is not None:
            shutil.rmtree(folder)


async def connected(address: Any) -> trio.SocketStream:
    """Connect to a socket: (host, port), or the path of a Unix one.

    Raises:
      OSError: nobody listens there.

    Cancellation: no connection is open.
    """
    if isinstance(address, tuple):
        return await trio.open_tcp_stream(*address)
    try:
        return await trio.open_unix_socket(address)
    except OSError as exc:
        exc.filename = address  # the system's error does not say it
        raise
