"""HTTP/1.1 for those who ask: a client with a pool of connections, and the same over one connection without
a pool.
"""

from __future__ import annotations

from ._auth import Auth as Auth
from ._auth import AuthInput as AuthInput
from ._auth import AuthRequest as AuthRequest
from ._auth import BasicAuth as BasicAuth
from ._auth import BearerAuth as BearerAuth
from ._body import ResponseBody as ResponseBody
from ._challenge import Challenge as Challenge
from ._challenge import challenges as challenges
from ._client import Client as Client
from ._conditions import Validators as Validators
from ._config import ClientConfig as ClientConfig
from ._config import ClientOptions as ClientOptions
from ._config import ClientPace as ClientPace
from ._config import ClientStatistics as ClientStatistics
from ._config import Dial as Dial
from ._config import PoolCounts as PoolCounts
from ._connection import ClientConnection as ClientConnection
from ._content import Sized as Sized
from ._content_source import Content as Content
from ._content_source import ContentReader as ContentReader
from ._cookie_store import Cookie as Cookie
from ._cookies import CookieJar as CookieJar
from ._digest import DigestAuth as DigestAuth
from ._download import Download as Download
from ._download import Progress as Progress
from ._interim import InterimResponse as InterimResponse
from ._multipart import Multipart as Multipart
from ._netrc import NetrcAuth as NetrcAuth
from ._origin import Origin as Origin
from ._proxy import Proxy as Proxy
from ._proxy import ProxyFailed as ProxyFailed
from ._proxy_environment import EnvironmentProxies as EnvironmentProxies
from ._race import RaceFailed as RaceFailed
from ._race import race as race
from ._rate_limit import RateLimit as RateLimit
from ._rate_limit import RateLimitStatistics as RateLimitStatistics
from ._received import ReceivedResponse as ReceivedResponse
from ._response import StreamedResponse as StreamedResponse
from ._retry import Retry as Retry
from ._retry import RetryBudget as RetryBudget
from ._socks import SOCKSRefused as SOCKSRefused
from ._timings import Timings as Timings
from ._tls_settings import CertificateMismatch as CertificateMismatch
from ._tls_settings import client_context as client_context
from ._tunnel import ProxyRefused as ProxyRefused
from ._upgrade import Upgrade as Upgrade
