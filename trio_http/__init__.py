"""HTTP/1.1 for Trio, made of structured concurrency: a wire layer without I/O, a server and a client.

The public names are loaded when they are first used, so that ``import trio_http.wire`` alone loads neither
trio nor anything else that it does not need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ._errors import ClientDisconnected as ClientDisconnected
    from ._errors import ConnectFailed as ConnectFailed
    from ._errors import ConnectionLost as ConnectionLost
    from ._errors import ContentTooLarge as ContentTooLarge
    from ._errors import HTTPError as HTTPError
    from ._errors import HTTPException as HTTPException
    from ._errors import InvalidRequest as InvalidRequest
    from ._errors import PoolClosed as PoolClosed
    from ._errors import RedirectRefused as RedirectRefused
    from ._errors import RequestFacts as RequestFacts
    from ._errors import RequestFailed as RequestFailed
    from ._errors import ResponseIncomplete as ResponseIncomplete
    from ._errors import ResponseInvalid as ResponseInvalid
    from ._errors import StatusError as StatusError
    from ._errors import TooManyRedirects as TooManyRedirects
    from ._errors import UpgradeRefused as UpgradeRefused
    from .client import Auth as Auth
    from .client import AuthRequest as AuthRequest
    from .client import BasicAuth as BasicAuth
    from .client import BearerAuth as BearerAuth
    from .client import CertificateMismatch as CertificateMismatch
    from .client import Challenge as Challenge
    from .client import Client as Client
    from .client import ClientConfig as ClientConfig
    from .client import ClientConnection as ClientConnection
    from .client import ClientPace as ClientPace
    from .client import ClientStatistics as ClientStatistics
    from .client import Content as Content
    from .client import ContentReader as ContentReader
    from .client import Cookie as Cookie
    from .client import CookieJar as CookieJar
    from .client import DigestAuth as DigestAuth
    from .client import Download as Download
    from .client import EnvironmentProxies as EnvironmentProxies
    from .client import InterimResponse as InterimResponse
    from .client import Multipart as Multipart
    from .client import NetrcAuth as NetrcAuth
    from .client import Origin as Origin
    from .client import PoolCounts as PoolCounts
    from .client import Progress as Progress
    from .client import Proxy as Proxy
    from .client import ProxyFailed as ProxyFailed
    from .client import ProxyRefused as ProxyRefused
    from .client import RaceFailed as RaceFailed
    from .client import RateLimit as RateLimit
    from .client import RateLimitStatistics as RateLimitStatistics
    from .client import ReceivedResponse as ReceivedResponse
    from .client import ResponseBody as ResponseBody
    from .client import Retry as Retry
    from .client import RetryBudget as RetryBudget
    from .client import Sized as Sized
    from .client import SOCKSRefused as SOCKSRefused
    from .client import StreamedResponse as StreamedResponse
    from .client import Timings as Timings
    from .client import Upgrade as Upgrade
    from .client import Validators as Validators
    from .client import challenges as challenges
    from .client import client_context as client_context
    from .client import race as race
    from .instruments import AccessLog as AccessLog
    from .instruments import ClientCloseRecord as ClientCloseRecord
    from .instruments import ClientExchangeRecord as ClientExchangeRecord
    from .instruments import ClientInstrument as ClientInstrument
    from .instruments import CloseRecord as CloseRecord
    from .instruments import ConnectionRecord as ConnectionRecord
    from .instruments import Counters as Counters
    from .instruments import DialRecord as DialRecord
    from .instruments import ExchangeRecord as ExchangeRecord
    from .instruments import HarRecorder as HarRecorder
    from .instruments import ServerInstrument as ServerInstrument
    from .messages import ForwardedFacts as ForwardedFacts
    from .messages import Headers as Headers
    from .messages import Lines as Lines
    from .messages import LineTooLong as LineTooLong
    from .messages import MessageBody as MessageBody
    from .messages import Response as Response
    from .server import CancelReason as CancelReason
    from .server import ConnectionInfo as ConnectionInfo
    from .server import ConnectionSnapshot as ConnectionSnapshot
    from .server import Handler as Handler
    from .server import Request as Request
    from .server import RequestBody as RequestBody
    from .server import ResponseStream as ResponseStream
    from .server import Server as Server
    from .server import ServerConfig as ServerConfig
    from .server import ServerRates as ServerRates
    from .server import ServerStatistics as ServerStatistics
    from .server import ServerTimes as ServerTimes
    from .server import inherited_listener as inherited_listener
    from .server import open_unix_listener as open_unix_listener
    from .server import serve_connection as serve_connection
    from .server import serve_listeners as serve_listeners
    from .server import serve_ssl_over_tcp as serve_ssl_over_tcp
    from .server import serve_tcp as serve_tcp
    from .server import serve_unix as serve_unix
    from .server import systemd_listeners as systemd_listeners
    from .transport import Networks as Networks
    from .transport import by_server_name as by_server_name
    from .transport import server_context as server_context
    from .wire import Leniency as Leniency
    from .wire import Limits as Limits

__version__ = "0.1.0.dev0"

_HOMES: Final = {
    "._errors": (
        "ClientDisconnected ConnectFailed ConnectionLost ContentTooLarge HTTPError HTTPException"
        " InvalidRequest PoolClosed RedirectRefused RequestFacts RequestFailed ResponseIncomplete"
        " ResponseInvalid StatusError TooManyRedirects UpgradeRefused"
    ),
    ".client": (
        "Auth AuthRequest BasicAuth BearerAuth CertificateMismatch Challenge Client"
        " ClientConfig ClientConnection ClientPace ClientStatistics Content ContentReader Cookie"
        " CookieJar DigestAuth Download EnvironmentProxies InterimResponse Multipart NetrcAuth"
        " Origin PoolCounts Progress Proxy ProxyFailed ProxyRefused RaceFailed RateLimit"
        " RateLimitStatistics ReceivedResponse ResponseBody Retry RetryBudget SOCKSRefused Sized"
        " StreamedResponse Timings Upgrade Validators challenges client_context race"
    ),
    ".instruments": (
        "AccessLog ClientCloseRecord ClientExchangeRecord ClientInstrument CloseRecord"
        " ConnectionRecord Counters DialRecord ExchangeRecord HarRecorder ServerInstrument"
    ),
    ".messages": "ForwardedFacts Headers LineTooLong Lines MessageBody Response",
    ".server": (
        "CancelReason ConnectionInfo ConnectionSnapshot Handler Request RequestBody ResponseStream"
        " Server ServerConfig ServerRates ServerStatistics ServerTimes inherited_listener"
        " open_unix_listener serve_connection serve_listeners serve_ssl_over_tcp serve_tcp"
        " serve_unix systemd_listeners"
    ),
    ".transport": "Networks by_server_name server_context",
    ".wire": "Leniency Limits",
}
# What users of other clients look for first.
_ELSEWHERE: Final = {
    **dict.fromkeys(
        ("get", "post", "put", "patch", "delete", "head", "options", "request", "stream"),
        "a client makes requests: `async with trio_http.Client() as client:`",
    ),
    **dict.fromkeys(("AsyncClient", "ClientSession", "Session", "Pool"), "it is called Client here"),
    **dict.fromkeys(
        ("Timeout", "ClientTimeout"), "time limits are cancel scopes, `with trio.fail_after(5): ...`"
    ),
    "HTTPStatusError": "it is called StatusError here",
    "RequestError": "it is called RequestFailed here",
    "TransportError": "it is called RequestFailed here",
    "ConnectError": "it is called ConnectFailed here",
    "TimeoutException": "a cancel scope's is trio.TooSlowError",
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        hint = _ELSEWHERE.get(name)
        raise AttributeError(
            f"module 'trio_http' has no attribute {name!r}" + (f"; {hint}" if hint else ""), name=name
        )
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
