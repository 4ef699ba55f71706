"""From a route to a transport: a name, a TCP connection, a proxy, TLS."""

from __future__ import annotations

import ssl

import trio

from trio_http.transport import SocketTransport, StreamTransport, Transport, tls_over

from ._addresses import Addresses
from ._config import ClientConfig
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
        )
        self._proxy_context: ssl.SSLContext | None = None

    async def dial(self, route: Route, times: DialTimes) -> Transport:
        """Connect by ``route``; to an https origin, to the end of the TLS handshake.

        Args:
          times: is filled in as the steps are done.

        Raises:
          OSError: no address could be reached, or the name is unknown.
          trio.BrokenResourceError: the connection broke, or TLS failed; the cause is then an `ssl.SSLError`.
          ProxyFailed: the proxy did not connect us.
          Exception: whatever a function of the caller's raised, as it is.

        Cancellation: what was opened is closed.

        Reference: RFC 8305 for the order in which the addresses of a name are tried.
        """
        origin, proxy = route.origin, route.proxy
        times.started = trio.current_time()
        if self._config.dial is not None:
            stream = await self._config.dial(origin.host, origin.port, origin.scheme)
            times.connected = trio.current_time()
            return await self._secured(stream, origin, times)
        if proxy is None or route.is_forwarded:
            stream = await self._connected(origin, times)
            return await self._secured(stream, origin, times, proxy)
        transport = await self._tunnelled(proxy, origin, times)
        return await self._secured(transport, origin, times)

    async def _connected(self, origin: Origin, times: DialTimes) -> trio.SocketStream:
        path = unix_path(self._config.unix_socket, origin)
        if path is not None:
            return await connect_unix(path, times=times)
        return await connect_host(
            self._addresses,
            origin.host,
            origin.port,
            local_address=self._config.local_address,
            times=times,
        )

    async def _tunnelled(self, proxy: Proxy, origin: Origin, times: DialTimes) -> Transport:
        """Return a transport that leads through a proxy to ``origin``."""
        stream = await connect_host(
            self._addresses,
            proxy.host,
            proxy.port,
            local_address=self._config.local_address,
            times=times,
        )
        transport: Transport = SocketTransport(stream.socket)
        try:
            if proxy.scheme == "https":
                transport = await tls_over(
                    transport, self._context_for(proxy), server_hostname=proxy.host.rstrip(".")
                )
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
        return transport

    def _context_for(self, proxy: Proxy) -> ssl.SSLContext:
        """Return the context for an https proxy; the default one is made when first needed."""
        if proxy.ssl_context is not None:
            return proxy.ssl_context
        if self._proxy_context is None:
            self._proxy_context = client_context()
        return self._proxy_context

    async def _secured(
        self,
        stream: trio.abc.Stream | Transport,
        origin: Origin,
        times: DialTimes,
        proxy: Proxy | None = None,
    ) -> Transport:
        """Return a transport over ``stream``, with TLS if the origin wants it.

        Args:
          proxy: what the connection leads to, in the origin's place; None: to the origin.
        """
        if origin.scheme != "https" or isinstance(stream, trio.SSLStream):
            if isinstance(stream, Transport):
                return stream
            if isinstance(stream, trio.SocketStream):
                return SocketTransport(stream.socket)
            return StreamTransport(stream)
        if proxy is not None:
            context, name = self._context_for(proxy), proxy.host.rstrip(".")
        else:
            context, name = self._tls.context_for(origin), self._tls.name_for(origin)
        transport = await tls_over(stream, context, server_hostname=name)
        if proxy is None:
            try:
                self._tls.check(origin, transport.tls)
            except BaseException:
                await transport.aclose_forcefully()
                raise
        times.secured = trio.current_time()
        return transport
