"""HTTP/1.1 without I/O, for either role: bytes in, messages out, and the reverse.

Two faces on one engine. `Connection` speaks in events, exactly as h11 does, so that ``import trio_http.wire as h11`` runs
programs written for it. `MessageConnection` takes and gives whole heads and messages, in less time. Both are strict: what
could be read in two ways is refused, unless a `Leniency` says otherwise.
"""

from ._connection import Connection as Connection
from ._errors import LocalProtocolError as LocalProtocolError
from ._errors import ProtocolError as ProtocolError
from ._errors import RemoteProtocolError as RemoteProtocolError
from ._events import ConnectionClosed as ConnectionClosed
from ._events import Data as Data
from ._events import EndOfMessage as EndOfMessage
from ._events import Event as Event
from ._events import InformationalResponse as InformationalResponse
from ._events import Request as Request
from ._events import Response as Response
from ._framing import CHUNKED as CHUNKED
from ._framing import CLOSE_DELIMITED as CLOSE_DELIMITED
from ._head import RequestHead as RequestHead
from ._head import ResponseHead as ResponseHead
from ._headers import Headers as Headers
from ._limits import Leniency as Leniency
from ._limits import Limits as Limits
from ._message import MessageConnection as MessageConnection
from ._sentinels import CLIENT as CLIENT
from ._sentinels import CLOSED as CLOSED
from ._sentinels import DONE as DONE
from ._sentinels import ERROR as ERROR
from ._sentinels import IDLE as IDLE
from ._sentinels import MIGHT_SWITCH_PROTOCOL as MIGHT_SWITCH_PROTOCOL
from ._sentinels import MUST_CLOSE as MUST_CLOSE
from ._sentinels import NEED_DATA as NEED_DATA
from ._sentinels import PAUSED as PAUSED
from ._sentinels import SEND_BODY as SEND_BODY
from ._sentinels import SEND_RESPONSE as SEND_RESPONSE
from ._sentinels import SERVER as SERVER
from ._sentinels import Sentinel as Sentinel
from ._sentinels import SWITCHED_PROTOCOL as SWITCHED_PROTOCOL

__version__ = "0.1.0"
PRODUCT_ID = f"trio-http/{__version__}"
