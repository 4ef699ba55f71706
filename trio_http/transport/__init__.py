"""Bytes in, bytes out: one interface over a plain socket, TLS over a socket, and any other Trio stream.

The layers above hold a `Transport` and do not know which kind it is. Nothing in here knows HTTP.

Making a connection (names, happy eyeballs, proxies) and accepting one belong to the client and the server.
"""

from __future__ import annotations

from ._socket import SocketTransport as SocketTransport
from ._stream import StreamTransport as StreamTransport
from ._tls import TLSTransport as TLSTransport
from ._transport import RECEIVE_BYTES as RECEIVE_BYTES
from ._transport import Address as Address
from ._transport import TLSFacts as TLSFacts
from ._transport import Transport as Transport
from ._view import TransportStream as TransportStream
