"""TLS over whatever carries bytes: the transport that does it best, after its handshake."""

from __future__ import annotations

import ssl

import trio

from ._over import transport_over
from ._socket import SocketTransport
from ._tls import TLSTransport
from ._tls_over_stream import TLSOverTransport
from ._transport import Transport


async def tls_over(
    stream: trio.abc.Stream | Transport,
    context: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    leftover: bytes = b"",
    session: ssl.SSLSession | None = None,
) -> Transport:
    """Make a TLS connection over anything that carries bytes.

    The stream is ours from the call on: whatever is raised, it has been closed. A `trio.SocketStream` or
    `SocketTransport` gives up its socket to a `TLSTransport`, which is faster, unless there are `leftover`
    bytes.

    Args:
      stream: connected; nothing of the TLS stream may have been read from it but `leftover`.
      context: versions, certificates and protocols (ALPN) to offer.
      server_side: our role.
      server_hostname: client only: the name or IP address to ask for (SNI) and to verify.
      leftover: bytes of the TLS stream that were received already, any length.
      session: client only: one to resume, of an earlier connection with the same context. The peer's
        certificate is then not verified again.

    Returns:
      The transport, ready for use. Its `truncated` can be trusted: a peer that ends without a closure alert
      sets it (RFC 9112 §9.8).

    Raises:
      trio.BrokenResourceError: the connection broke, or the peers did not agree. If TLS was the reason, its
        cause is the `ssl.SSLError`; `ssl.SSLCertVerificationError` when we did not trust the peer's
        certificate.
      ValueError: `server_hostname` does not fit the context; the fault of the calling program.

    Cancellation: the stream is closed, without an alert.
    """
    if not leftover:
        sock = (
            stream.socket
            if isinstance(stream, trio.SocketStream)
            else stream.detach()
            if isinstance(stream, SocketTransport)
            else None
        )
        if sock is not None:
            return await TLSTransport.handshake(
                sock, context, server_side=server_side, server_hostname=server_hostname, session=session
            )
    inner = transport_over(stream)
    try:
        transport = TLSOverTransport(inner, context, server_side, server_hostname, leftover, session)
        await transport._shake_hands()
    except BaseException as exc:
        # First a regular close, where that is possible: the alert that says why may be on its way to the
        # peer, and an abort would overtake it.
        inner.close()
        await inner.aclose_forcefully()
        if isinstance(exc, trio.BrokenResourceError):  # maybe at once, and the caller may try again
            await trio.lowlevel.checkpoint()
        raise
    return transport
