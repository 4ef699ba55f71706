"""Which connections can carry a request: those to its origin, by the way that it has to take."""

from __future__ import annotations

from typing import NamedTuple

from ._origin import Origin
from ._proxy import Proxy


class Route(NamedTuple):
    """What connections are kept by.

    Attributes:
      origin: where they lead; for a forward proxy, the proxy itself.
      proxy: what is between; None: nothing.
      is_forwarded: the proxy reads the requests and passes them on, so one connection serves many origins.
        False: it only carries bytes.
    """

    origin: Origin
    proxy: Proxy | None = None
    is_forwarded: bool = False

    @classmethod
    def through(cls, proxy: Proxy, origin: Origin) -> Route:
        """Return the route to ``origin`` through a proxy: for plain http by forwarding (RFC 9112 §3.2.2), for
        https by a tunnel (RFC 9110 §9.3.6), and a SOCKS proxy tunnels both."""
        if origin.scheme == "http" and not proxy.is_socks:
            scheme = "https" if proxy.scheme == "https" else "http"
            return cls(Origin(scheme, proxy.host, proxy.port), proxy, True)
        return cls(origin, proxy)

    def __str__(self) -> str:
        if self.proxy is None:
            return str(self.origin)
        return str(self.proxy) if self.is_forwarded else f"{self.origin} by {self.proxy}"
