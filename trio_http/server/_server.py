"""A running server: what it is doing, and how it is stopped."""

from __future__ import annotations

import logging
import math
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final

import trio

from trio_http._kinds import check_number
from trio_http.transport import (
    Address,
    ContextHolder,
    ProxyHeader,
    ProxyProtocolError,
    SocketTransport,
    TLSTransport,
    Transport,
    peer_address,
    read_proxy_header,
    transport_over,
)

from ._accept import Gate, accept_foreign_loop, accept_loop
from ._connection import Handler, ServerConnection
from ._listen import close_unix_listener, url_of
from ._refuser import Refuser
from ._shared import Served, Shared, serving
from ._snapshot import ConnectionSnapshot, ServerStatistics

logger = logging.getLogger("trio_http.server")

#: How long after a hard stop the handlers that are still there are named in the log, in seconds. Arbitrary: a
#: cancelled handler that tidies up properly is gone by then.
_PATIENCE: Final = 1.0


class Server:
    """A running server, as ``await nursery.start(serve_tcp, handler, 0)`` returns it.

    Attributes:
      listeners: what it accepts on.
      draining: it is shutting down.
    """

    def __init__(
        self,
        handler: Handler,
        shared: Shared,
        listeners: Sequence[trio.abc.Listener[Any]] = (),
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.listeners = tuple(listeners)
        self._handler = handler
        self._shared = shared
        self._context = None if context is None else ContextHolder(context)
        self._url = self._first_url()  # now, for a closed socket has no address
        self._gate = Gate(shared.config.max_connections, shared.config.excess)
        self._refuser = Refuser(shared)
        self._opening: dict[trio.CancelScope, None] = {}  # in the order of their beginning
        self._callers: set[Served] = set()  # whose handlers have called `shutdown`
        self._accepting = trio.CancelScope()
        self._is_accepting = bool(listeners)  # also before the first, and until all listeners are closed
        self._changed = trio.Event()
        self._stopping = self._stopped = False  # the grace is over; all sockets are closed
        # The ticker's view of the grace: see `Timed`.
        self.deadline = self.scheduled = math.inf
        shared.on_closed = self._on_closed

    def __repr__(self) -> str:
        return f"<Server on {len(self.listeners)} listeners, {len(self._shared.connections)} connections>"

    @property
    def url(self) -> str:
        """Where the first of the sockets that it listens on can be reached, as in
        ``"http://127.0.0.1:8000"``. Known also when it has stopped.

        Raises:
          ValueError: there is none.
        """
        if self._url is None:
            raise ValueError("this server listens on no socket")
        return self._url

    def _first_url(self) -> str | None:
        for listener in self.listeners:
            if isinstance(listener, trio.SocketListener):
                return url_of(listener, "http" if self._context is None else "https")
            if isinstance(listener, trio.SSLListener):
                beneath = listener.transport_listener
                if isinstance(beneath, trio.SocketListener):
                    return url_of(beneath, "https")
        return None

    @property
    def draining(self) -> bool:
        """A shutdown has begun."""
        return self._shared.draining

    # -- what it is doing
    # ---------------------------------------------------------------------------------------------------

    def statistics(self) -> ServerStatistics:
        """Return the server's numbers of now. Takes time in proportion to its connections."""
        shared = self._shared
        return ServerStatistics(
            connections=len(shared.connections),
            handling=sum(connection.is_handling for connection in shared.connections),
            connections_total=shared.opened,
            requests_total=shared.exchanges_before + sum(each.exchange for each in shared.connections),
            draining=shared.draining,
        )

    def snapshot(self) -> list[ConnectionSnapshot]:
        """Return what each connection is doing, the oldest first, as plain data: to be shown at an address
        that only operators reach, for it tells of all clients."""
        now = trio.current_time()
        return sorted(
            (connection.snapshot(now) for connection in self._shared.connections), key=lambda each: each.id
        )

    def replace_ssl_context(self, context: ssl.SSLContext) -> None:
        """Have another certificate, or other rules, for every handshake from now on. Connections that are
        there keep theirs.

        Raises:
          RuntimeError: this server does not speak TLS.
          TypeError, ValueError: that is no context for a server.
        """
        if self._context is None:
            raise RuntimeError("this server does not speak TLS, so it has no context to replace")
        self._context.replace(context)

    # -- stopping
    # ---------------------------------------------------------------------------------------------------

    def begin_shutdown(self, grace: float = math.inf) -> None:
        """Stop accepting, end what is idle, let the rest finish within ``grace`` seconds, then cancel it.

        Answers say ``Connection: close``; handlers see `Request.draining`, and what they put into
        `Request.cancel_on_drain` is cancelled. At the end of the grace whatever is left is cancelled and its
        connection aborted. Calling again can only shorten the grace.

        Args:
          grace: seconds, 0 for at once, `math.inf` for as long as it takes.
        """
        check_number("grace", grace, unit="seconds")
        shared = self._shared
        if not shared.draining:
            shared.draining = True
            self._accepting.cancel(reason="drain")
            for listener in self.listeners:
                if isinstance(listener, trio.SocketListener):
                    # A foreign one may have to wait for it, and so is closed by `accept`.
                    close_unix_listener(listener)
            for scope in self._opening:
                scope.cancel(reason="drain")
            for connection in sorted(shared.connections, key=_age):
                connection.begin_drain()
        self.deadline = min(self.deadline, trio.current_time() + grace)
        shared.ticker.watch(self)

    async def shutdown(self, grace: float = math.inf) -> None:
        """Do as `begin_shutdown`, and wait until all connections and listeners are closed: ``grace`` seconds
        at most.

        Called from a handler, it does not wait for that handler's own connection, nor for those of others
        that have called it.

        Args:
          grace: as `begin_shutdown`.

        Raises:
          ValueError: ``grace`` is negative.

        Cancellation: the shutdown goes on; only the wait is given up.
        """
        self.begin_shutdown(grace)
        own = serving.get()
        if own is not None:
            self._callers.add(own)
            self._tell_change()
        await trio.lowlevel.checkpoint()
        while not self._stopped and self._is_busy(() if own is None else self._callers):
            await self._changed.wait()

    def _is_busy(self, apart: Collection[Served]) -> bool:
        """Tell whether there is any connection or listener, apart from some connections."""
        connections = self._shared.connections
        # Those that were accepted and have not begun have passed the gate only.
        others = max(len(connections), self._gate.open_count) > len(connections.intersection(apart))
        return bool(others or self._is_accepting or self._opening or self._refuser)

    def _is_opening(self) -> bool:
        """Tell whether there is anything that has yet to become a connection, or is to be refused."""
        begun = self._gate.open_count <= len(self._shared.connections)
        return bool(not begun or self._is_accepting or self._opening or self._refuser)

    def on_deadline(self) -> None:
        """The ticker's call: the grace is over."""
        self.deadline = math.inf
        self._stopping = True
        for scope in self._opening:
            scope.cancel(reason="drain")
        self._refuser.stop()
        left = sorted(self._shared.connections, key=_age)
        for connection in left:
            connection.stop()
        self._shared.nursery.start_soon(self._finish_stop, left)

    async def _finish_stop(self, left: Sequence[Served]) -> None:
        """Close what cannot be closed without waiting, and name who stays."""
        for connection in left:
            try:
                await connection.finish_stop()
            except Exception:  # a foreign stream's own: it must not keep the others open
                logger.exception("closing %r failed", connection)
        # They all end at their next step, unless a foreign listener or stream does not take the cancel.
        with trio.move_on_after(_PATIENCE):
            while self._is_opening():
                await self._changed.wait()
        self._stopped = True
        self._tell_change()
        await trio.sleep(_PATIENCE)
        for connection in self._shared.connections:
            if connection.is_handling:
                logger.warning(
                    "a handler goes on %g s after it was cancelled, and keeps the server from ending: %s",
                    _PATIENCE,
                    connection.snapshot(trio.current_time()).as_dict(),
                )

    def _on_closed(self) -> None:
        if self._shared.draining:
            self._tell_change()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- connections
    # ---------------------------------------------------------------------------------------------------

    async def serve_transport(self, transport: Transport, proxy: ProxyHeader | None = None) -> None:
        """Serve one connection to its end.

        Cancellation: the connection is aborted.
        """
        tls = transport.tls
        if isinstance(tls, trio.SSLStream):
            ready = False
            try:
                ready = await self._shake_hands(tls, transport.peername)
            finally:
                if not ready:
                    await transport.aclose_forcefully()
            if not ready:
                return
        if self._stopping:  # accepted, but not begun when the grace ended
            await transport.aclose_forcefully()
            return
        await ServerConnection(self._handler, transport, self._shared, proxy).run()

    async def _shake_hands(self, stream: trio.SSLStream[Any], peername: Address) -> bool:
        """Shake hands on a stream of `trio.SSLListener`'s, say, and tell whether that went well.

        By itself it would do so with its first bytes, when its facts are wanted already.
        """
        try:
            with trio.move_on_after(self._shared.config.times.handshake) as scope:
                if self._shared.draining:
                    scope.cancel(reason="drain")
                self._opening[scope] = None
                try:
                    await stream.do_handshake()  # nothing, after the first time
                finally:
                    self._opening.pop(scope, None)
                    self._on_closed()
                return True
            self._refused(peername, "drain" if self._shared.draining else "handshake too slow")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            logger.info("%s was turned away: %s", peername, exc)
            self._refused(peername, f"handshake: {exc}")
        except Exception:  # of the foreign stream beneath: it ends this connection, not the server
            logger.exception("a TLS handshake on %r failed", stream)
            self._refused(peername, "handshake")
        return False

    def admit(self, nursery: trio.Nursery) -> Callable[[socket.socket, Address], None]:
        """Return what takes accepted sockets and serves each in a task of ``nursery``."""
        opens_plainly = self._context is None and not self._shared.config.proxy_protocol_from
        serve = self._serve_plain if opens_plainly else self._serve_opening

        def admit(sock: socket.socket, peername: Address) -> None:
            nursery.start_soon(serve, sock, peername, name="trio_http connection")

        return admit

    def _leave(self) -> None:
        """Count a connection no more that has passed the gate."""
        self._gate.leave()
        self._on_closed()

    async def _serve_plain(self, sock: socket.socket, peername: Address) -> None:
        try:
            await self.serve_transport(SocketTransport(sock, peername=peername))
        finally:
            self._leave()

    async def _serve_opening(self, sock: socket.socket, peername: Address) -> None:
        """Serve a socket on which something comes before HTTP: a PROXY header, a TLS handshake, or both."""
        transport: Transport | None = None
        proxy: ProxyHeader | None = None
        try:
            with trio.move_on_after(self._shared.config.times.handshake) as scope:
                if self._shared.draining:  # accepted, but not begun when the drain began
                    scope.cancel(reason="drain")
                self._opening[scope] = None
                try:
                    proxy = await self._read_proxy(sock, peername)
                    if self._context is None:
                        transport = SocketTransport(sock, peername=peername)
                    else:
                        transport = await TLSTransport.handshake(
                            sock, self._context.current, server_side=True, peername=peername
                        )
                finally:
                    self._opening.pop(scope, None)
                    self._on_closed()
                    if transport is None:
                        sock.close()
            if transport is None:
                self._refused(peername, "drain" if self._shared.draining else "handshake too slow")
                return
            if proxy is not None and proxy.source is not None:
                transport.peername, transport.sockname = proxy.source, proxy.destination
            await self.serve_transport(transport, proxy)
        except (ProxyProtocolError, trio.BrokenResourceError) as exc:
            logger.info("%s was turned away: %s", peername, exc)
            what = "PROXY header" if isinstance(exc, ProxyProtocolError) else "handshake"
            self._refused(peername, f"{what}: {exc}")
        finally:
            self._leave()

    async def _read_proxy(self, sock: socket.socket, peername: Address) -> ProxyHeader | None:
        config = self._shared.config
        if config.proxy_protocol_from:
            try:
                sockname = sock.getsockname()
            except OSError as exc:  # some systems do not know, once the peer has reset
                raise trio.BrokenResourceError(f"the connection broke: {exc}") from exc
            if peer_address(peername or None, sockname) in config.proxy_protocol_from:
                return await read_proxy_header(sock)
        return None

    def refuse(self, nursery: trio.Nursery) -> Callable[[socket.socket, Address], None]:
        """Return what takes the sockets beyond the limit on connections, and says no to them."""

        def refuse(sock: socket.socket, peername: Address) -> None:
            self._refused(peername, "too many connections")
            if self._context is not None:
                sock.close()  # to be told why in TLS it would need a handshake, the dearest thing of all
            else:
                self._refuser.refuse(SocketTransport(sock, peername=peername), nursery)

        return refuse

    def admit_stream(self, nursery: trio.Nursery) -> Callable[[trio.abc.Stream], None]:
        """As `admit`, for the streams of foreign listeners."""

        async def serve(stream: trio.abc.Stream) -> None:
            try:
                await self.serve_transport(transport_over(stream))
            finally:
                self._leave()

        def admit(stream: trio.abc.Stream) -> None:
            nursery.start_soon(serve, stream, name="trio_http connection")

        return admit

    def refuse_stream(self, nursery: trio.Nursery) -> Callable[[trio.abc.Stream], None]:
        """As `refuse`, for the streams of foreign listeners."""

        def refuse(stream: trio.abc.Stream) -> None:
            self._refused(None, "too many connections")
            self._refuser.refuse(transport_over(stream), nursery)

        return refuse

    async def accept(self, nursery: trio.Nursery) -> None:
        """Accept connections, each into a task of ``nursery``, until the shutdown; then close all
        listeners.

        Cancellation: all listeners are closed.
        """
        try:
            with self._accepting:
                async with trio.open_nursery() as loops:
                    for listener in self.listeners:
                        if isinstance(listener, trio.SocketListener):
                            loops.start_soon(
                                partial(accept_loop, refuse=self.refuse(nursery)),
                                listener,
                                self.admit(nursery),
                                self._gate,
                            )
                        else:
                            loops.start_soon(
                                partial(accept_foreign_loop, refuse=self.refuse_stream(nursery)),
                                listener,
                                self.admit_stream(nursery),
                                self._gate,
                            )
        finally:
            await close_listeners(self.listeners)
            self._is_accepting = False
            self._on_closed()

    def _refused(self, peername: Address, why: str) -> None:
        if self._shared.instruments:
            self._shared.instruments.connection_refused(peername, why)


async def close_listeners(listeners: Sequence[trio.abc.Listener[Any]]) -> None:
    """Close all of them, whatever the end of one of them raises. Idempotent. Never waits.

    Cancellation: not affected; all are closed when this returns.
    """
    for listener in listeners:
        try:
            # As `trio.aclose_forcefully`, which would pass on a cancel of its caller and leave the others
            # open.
            with trio.CancelScope(deadline=-math.inf, shield=True):
                if isinstance(listener, trio.SocketListener):
                    close_unix_listener(listener)  # with its file, if it has one that is ours
                else:
                    await listener.aclose()
        except Exception:
            logger.exception("closing %r failed", listener)


def _age(connection: Served) -> int:
    """The key for an order that is the same in each run, as that of a set is not: the oldest first."""
    return connection.number
