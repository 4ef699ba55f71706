"""From an origin to a transport: a name, a TCP connection, TLS."""

from __future__ import annotations

import ssl

import trio

from trio_http.transport import SocketTransport, StreamTransport, TLSTransport, Transport

from ._config import ClientConfig
from ._origin import Origin


class Dialer:
    """Makes connections for one client.

    Args:
      config: how.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._dial = config.dial
        self._ssl_context = config.ssl_context

    async def dial(self, origin: Origin) -> Transport:
        """Connect to ``origin``; under https, to the end of the TLS handshake.

        Raises:
          OSError: no address could be reached, or the name is unknown.
          trio.BrokenResourceError: the connection broke, or TLS failed; the cause is then an `ssl.SSLError`.

        Cancellation: what was opened is closed.

        Reference: RFC 8305 for the order in which the addresses of a name are tried, by
          `trio.open_tcp_stream`.
        """
        if self._dial is None:
            stream: trio.abc.Stream = await trio.open_tcp_stream(origin.host, origin.port)
        else:
            stream = await self._dial(origin.host, origin.port, origin.scheme)
        if origin.scheme != "https" or isinstance(stream, trio.SSLStream):
            return (
                SocketTransport(stream.socket)
                if isinstance(stream, trio.SocketStream)
                else StreamTransport(stream)
            )
        # The name in a certificate has no final dot, however absolute the name in the URL is.
        name = origin.host.rstrip(".")
        if isinstance(stream, trio.SocketStream):
            return await TLSTransport.handshake(stream.socket, self._context(), server_hostname=name)
        return await _tls_over(stream, self._context(), name)

    def _context(self) -> ssl.SSLContext:
        """Return the context; the default one is made when first needed, for it reads all the system's
        certificates.
        """
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
            self._ssl_context.set_alpn_protocols(["http/1.1"])
        return self._ssl_context


async def _tls_over(stream: trio.abc.Stream, context: ssl.SSLContext, name: str) -> Transport:
    """Put TLS over a stream that is no socket."""
    # https_compatible: it then neither waits for the peer's closure alert nor takes its absence for an error.
    tls = trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)
    try:
        await tls.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(tls)
        raise
    return StreamTransport(tls)
