"""From any stream to the transport that fits it."""

from __future__ import annotations

import trio

from ._socket import SocketTransport
from ._stream import StreamTransport
from ._transport import Transport


def transport_over(stream: trio.abc.Stream | Transport) -> Transport:
    """Return ``stream``, or the transport over it. It then owns the stream; the socket, if that is a
    `trio.SocketStream`'s.

    Raises:
      TypeError: it is no stream.
    """
    if isinstance(stream, Transport):
        return stream
    if isinstance(stream, trio.SocketStream):
        return SocketTransport(stream.socket)
    if isinstance(stream, trio.abc.Stream):
        return StreamTransport(stream)
    raise TypeError(f"expected a trio.abc.Stream, not {type(stream).__name__}")
