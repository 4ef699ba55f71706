"""HTTP/1.1 without I/O, for either role: bytes in, messages out, and the reverse.

Two faces on one engine. `Connection` speaks in events, exactly as h11 does, so that ``import trio_http.wire
as h11`` runs programs written for it. `MessageConnection` takes and gives whole heads and messages, in less
time. Both are strict: what could be read in two ways is refused, unless a `Leniency` says otherwise.
"""

from ._connection import Connection
from ._errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from ._events import ConnectionClosed, Data, EndOfMessage, Event, InformationalResponse, Request, Response
from ._framing import CHUNKED, CLOSE_DELIMITED
from ._head import RequestHead, ResponseHead
from ._headers import Headers
from ._limits import Leniency, Limits
from ._message import MessageConnection, prepare_request
from ._prepared import PreparedRequest
from ._sentinels import (
    CLIENT,
    CLOSED,
    DONE,
    ERROR,
    IDLE,
    MIGHT_SWITCH_PROTOCOL,
    MUST_CLOSE,
    NEED_DATA,
    PAUSED,
    SEND_BODY,
    SEND_RESPONSE,
    SERVER,
    SWITCHED_PROTOCOL,
    Sentinel,
)

__version__ = "0.1.0"
PRODUCT_ID = f"trio-http/{__version__}"

__all__ = [
    "CHUNKED",
    "CLIENT",
    "CLOSED",
    "CLOSE_DELIMITED",
    "DONE",
    "ERROR",
    "IDLE",
    "MIGHT_SWITCH_PROTOCOL",
    "MUST_CLOSE",
    "NEED_DATA",
    "PAUSED",
    "PRODUCT_ID",
    "SEND_BODY",
    "SEND_RESPONSE",
    "SERVER",
    "SWITCHED_PROTOCOL",
    "Connection",
    "ConnectionClosed",
    "Data",
    "EndOfMessage",
    "Event",
    "Headers",
    "InformationalResponse",
    "Leniency",
    "Limits",
    "LocalProtocolError",
    "MessageConnection",
    "PreparedRequest",
    "ProtocolError",
    "RemoteProtocolError",
    "Request",
    "RequestHead",
    "Response",
    "ResponseHead",
    "Sentinel",
    "__version__",
    "prepare_request",
]
