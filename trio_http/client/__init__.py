"""HTTP/1.1 for those who ask: a client with a pool of connections, and the same over one connection without
a pool.
"""

from __future__ import annotations

from ._client import Client as Client
from ._config import ClientConfig as ClientConfig
from ._config import ClientOptions as ClientOptions
from ._config import ClientStatistics as ClientStatistics
from ._config import Dial as Dial
from ._connection import ClientConnection as ClientConnection
from ._response import ReceivedResponse as ReceivedResponse
from ._response import ResponseBody as ResponseBody
from ._response import StreamedResponse as StreamedResponse
