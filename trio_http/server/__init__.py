"""The server: a task for each connection, a handler for each request."""

from __future__ import annotations

from ._body import RequestBody as RequestBody
from ._config import ServerConfig as ServerConfig
from ._config import ServerTimes as ServerTimes
from ._connection import Handler as Handler
from ._request import ConnectionInfo as ConnectionInfo
from ._request import Request as Request
from ._response_stream import ResponseStream as ResponseStream
from ._serve import Server as Server
from ._serve import serve_connection as serve_connection
from ._serve import serve_tcp as serve_tcp
