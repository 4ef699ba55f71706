"""From a route to a transport: a name, a TCP connection, a proxy, TLS."""

from __future__ import annotations

import ssl

import trio

from trio_http.transport import Transport, tls_over, transport_over

from ._addresses import Addresses
from ._config import ClientConfig, Dial
from ._connect import DialTimes, connect_host, connect_unix, unix_path
from ._origin import Origin
from ._proxy import Proxy
from ._route import Route
from ._socks import open_socks
from ._tls_settings import TLSSettings, client_context
from ._tunnel import open_tunnel


class Dialer:
    """Makes connections for one client.

    Args:
      config: how.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._addresses = Addresses(
            resolver=config.resolver, pinned=config.pinned_addresses, cache_seconds=config.name_cache_seconds
        )
        self._tls = TLSSettings(
            ssl_context=config.ssl_context,
            tls_names=config.tls_names,
            pinned_certificates=config.pinned_certificates,
            resume_sessions=config.resume_sessions,
        )
        self._proxy_context: ssl.SSLContext | None = None

    async def dial(self, route: Route, times: DialTimes) -> Transport:
        """Connect by ``route``; to an https origin, to the end of the TLS handshake.

        Args:
          times: is filled in as the steps are done.

        Raises:
          OSError: no address could be reached, or the name is unknown; or the server's certificate is none of
            those pinned.
          trio.BrokenResourceError: the connection broke, or TLS failed; the cause is then an `ssl.SSLError`.
          ProxyFailed: the proxy did not connect us.
          Exception: whatever a function of the caller's raised, as it is.

        Cancellation: what was opened is closed.

        Reference: RFC 8305 for the order in which the addresses of a name are tried.
        """
        origin, proxy = route.origin, route.proxy
        times.started = trio.current_time()
        if self._config.dial is not None:
            return await self._dialed(self._config.dial, origin, times)
        if proxy is None:
            return await self._secured(await self._connected(origin, times), origin, times)
        transport = await self._to_proxy(proxy, times)
        if route.is_forwarded:
            if transport.tls is not None:
                times.secured = trio.current_time()
            return transport
        await self._open_way(transport, proxy, origin, times)
        return await self._secured(transport, origin, times)

    async def _dialed(self, dial: Dial, origin: Origin, times: DialTimes) -> Transport:
        """Return what a function of the caller's leads to ``origin``, with TLS if the origin wants it."""
        stream: object = await dial(origin.host, origin.port, origin.scheme)
        times.connected = trio.current_time()
        if not isinstance(stream, trio.abc.Stream | Transport):
            raise TypeError(f"the dial for {origin} returned {stream!r}, expected a trio.abc.Stream")
        if not isinstance(stream, Transport) or stream.tls is None:
            return await self._secured(stream, origin, times)
        try:
            if isinstance(stream.tls, trio.SSLStream):
                await stream.tls.do_handshake()  # if it was not done yet
            self._tls.check(origin, stream.tls)
        except BaseException:
            await stream.aclose_forcefully()
            raise
        times.secured = trio.current_time()
        return stream

    async def _connected(self, origin: Origin, times: DialTimes) -> trio.SocketStream:
        path = unix_path(self._config.unix_socket, origin)
        if path is not None:
            return await connect_unix(path, times=times)
        return await self._connected_by_tcp(origin.host, origin.port, times)

    async def _connected_by_tcp(self, host: str, port: int, times: DialTimes) -> trio.SocketStream:
        local_address = self._config.local_address
        return await connect_host(self._addresses, host, port, local_address=local_address, times=times)

    async def _to_proxy(self, proxy: Proxy, times: DialTimes) -> Transport:
        """Return a transport to a proxy, with TLS to it if it wants that."""
        # The context first: making it may fail, and then nothing is open yet.
        context = self._context_for(proxy) if proxy.scheme == "https" else None
        stream = await self._connected_by_tcp(proxy.host, proxy.port, times)
        if context is None:
            return transport_over(stream)
        return await tls_over(stream, context, server_hostname=proxy.host.removesuffix("."))

    async def _open_way(self, transport: Transport, proxy: Proxy, origin: Origin, times: DialTimes) -> None:
        """Have a proxy connect us to ``origin``; when it does not, the transport is closed."""
        try:
            if proxy.is_socks:
                resolved = None
                if proxy.scheme == "socks5":
                    resolved = (await self._addresses.of(origin.host, origin.port))[0]
                await open_socks(transport, origin, proxy, resolved)
            else:
                await open_tunnel(
                    transport, origin, proxy, self._config.limits, user_agent=self._config.user_agent
                )
        except BaseException:
            await transport.aclose_forcefully()
            raise
        times.proxied = trio.current_time()

    def _context_for(self, proxy: Proxy) -> ssl.SSLContext:
        """Return the context for an https proxy; the default one is made when first needed."""
        if proxy.ssl_context is not None:
            return proxy.ssl_context
        if self._proxy_context is None:
            self._proxy_context = client_context()
        return self._proxy_context

    async def _secured(
        self, stream: trio.abc.Stream | Transport, origin: Origin, times: DialTimes
    ) -> Transport:
        """Return a transport over ``stream``, which leads to ``origin``, with TLS if that wants it."""
        if origin.scheme == "https":
            return await self._tls.secure(stream, origin, times=times)
        return transport_over(stream)
