"""HTTP/1.1 without I/O, for either role: bytes in, messages out, and the reverse.

Two faces on one engine. `Connection` speaks in events, exactly as h11 does, so that ``import trio_http.wire as h11`` runs
programs written for it. `MessageConnection` takes and gives whole heads and messages, in less time. Both are strict: what
could be read in two ways is refused, unless a `Leniency` says otherwise.
"""

from ._connection import Connection
from ._errors import LocalProtocolError
from ._errors import ProtocolError
from ._errors import RemoteProtocolError
from ._events import ConnectionClosed
from ._events import Data
from ._events import EndOfMessage
from ._events import Event
from ._events import InformationalResponse
from ._events import Request
from ._events import Response
from ._framing import CHUNKED
from ._framing import CLOSE_DELIMITED
from ._head import RequestHead
from ._head import ResponseHead
from ._headers import Headers
from ._limits import Leniency
from ._limits import Limits
from ._message import MessageConnection
from ._sentinels import CLIENT
from ._sentinels import CLOSED
from ._sentinels import DONE
from ._sentinels import ERROR
from ._sentinels import IDLE
from ._sentinels import MIGHT_SWITCH_PROTOCOL
from ._sentinels import MUST_CLOSE
from ._sentinels import NEED_DATA
from ._sentinels import PAUSED
from ._sentinels import SEND_BODY
from ._sentinels import SEND_RESPONSE
from ._sentinels import SERVER
from ._sentinels import Sentinel
from ._sentinels import SWITCHED_PROTOCOL

__version__ = "0.1.0"
PRODUCT_ID = f"trio-http/{__version__}"

__all__ = [
    "CHUNKED",
    "CLIENT",
    "CLOSED",
    "CLOSE_DELIMITED",
    "Connection",
    "ConnectionClosed",
    "DONE",
    "Data",
    "ERROR",
    "EndOfMessage",
    "Event",
    "Headers",
    "IDLE",
    "InformationalResponse",
    "Leniency",
    "Limits",
    "LocalProtocolError",
    "MIGHT_SWITCH_PROTOCOL",
    "MUST_CLOSE",
    "MessageConnection",
    "NEED_DATA",
    "PAUSED",
    "PRODUCT_ID",
    "ProtocolError",
    "RemoteProtocolError",
    "Request",
    "RequestHead",
    "Response",
    "ResponseHead",
    "SEND_BODY",
    "SEND_RESPONSE",
    "SERVER",
    "SWITCHED_PROTOCOL",
    "Sentinel",
    "__version__",
]
