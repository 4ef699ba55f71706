"""The server: a task for each connection, a handler for each request."""

from __future__ import annotations

from ._arguments import check_handler as check_handler
from ._body import RequestBody as RequestBody
from ._config import ServerConfig as ServerConfig
from ._config import ServerRates as ServerRates
from ._config import ServerTimes as ServerTimes
from ._connection import Handler as Handler
from ._connection_info import ConnectionInfo as ConnectionInfo
from ._listen import inherited_listener as inherited_listener
from ._listen import open_unix_listener as open_unix_listener
from ._listen import systemd_listeners as systemd_listeners
from ._reasons import CancelReason as CancelReason
from ._request import Request as Request
from ._response_stream import ResponseStream as ResponseStream
from ._serve import serve_connection as serve_connection
from ._serve import serve_listeners as serve_listeners
from ._serve import serve_ssl_over_tcp as serve_ssl_over_tcp
from ._serve import serve_tcp as serve_tcp
from ._serve import serve_unix as serve_unix
from ._server import Server as Server
from ._snapshot import ConnectionSnapshot as ConnectionSnapshot
from ._snapshot import ServerStatistics as ServerStatistics
