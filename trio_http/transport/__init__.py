"""Bytes in, bytes out: one interface over a plain socket, TLS over a socket, and any other Trio stream.

The layers above hold a `Transport` and do not know which kind it is. Nothing in here knows HTTP.

Making a connection (names, happy eyeballs, proxies) and accepting one belong to the client and the server.
"""

from __future__ import annotations

from ._contexts import ContextHolder as ContextHolder
from ._contexts import by_server_name as by_server_name
from ._contexts import server_context as server_context
from ._edge_poll import EdgePoll as EdgePoll
from ._edge_poll import Hangup as Hangup
from ._networks import NetworkInput as NetworkInput
from ._networks import Networks as Networks
from ._networks import ip_of as ip_of
from ._networks import peer_address as peer_address
from ._over import transport_over as transport_over
from ._proxy_header import ProxyFamily as ProxyFamily
from ._proxy_header import ProxyHeader as ProxyHeader
from ._proxy_header import ProxyTLS as ProxyTLS
from ._proxy_protocol import ProxyHeaderParser as ProxyHeaderParser
from ._proxy_protocol import ProxyProtocolError as ProxyProtocolError
from ._proxy_protocol import read_proxy_header as read_proxy_header
from ._socket import SocketTransport as SocketTransport
from ._stream import StreamTransport as StreamTransport
from ._tls import TLSTransport as TLSTransport
from ._tls_over import tls_over as tls_over
from ._tls_over_stream import TLSOverTransport as TLSOverTransport
from ._transport import RECEIVE_BYTES as RECEIVE_BYTES
from ._transport import Address as Address
from ._transport import TLSFacts as TLSFacts
from ._transport import Transport as Transport
from ._view import TransportStream as TransportStream
