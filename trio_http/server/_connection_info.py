"""The connection that a request came on, as handlers see it."""

from __future__ import annotations

from typing import Any

from trio_http.transport import Address, ProxyHeader, TLSFacts

from ._link import Link


class ConnectionInfo:
    """The connection that a request came on.

    Its facts are read when they are asked for, so they hold for the moment, and not for a log kept later.
    """

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def __repr__(self) -> str:
        return f"<ConnectionInfo {self.number} from {self.peername!r}>"

    @property
    def number(self) -> int:
        """The connection's number in its server, from 1."""
        return self._link.number

    @property
    def peername(self) -> Address:
        """The client's address: the one that the PROXY header gives, where one was required, or else the
        socket's; None when the transport has none."""
        return self._link.transport.peername

    @property
    def sockname(self) -> Address:
        """The address that the client connected to, likewise."""
        return self._link.transport.sockname

    @property
    def proxy(self) -> ProxyHeader | None:
        """The PROXY header that the connection began with; None without one."""
        return self._link.proxy

    @property
    def tls(self) -> TLSFacts:
        """The facts of the TLS session, among them ``getpeercert()``; None without TLS."""
        return self._link.transport.tls

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The client's certificate, as `ssl.SSLSocket.getpeercert` gives it; None when it showed none."""
        tls = self.tls
        return None if tls is None else tls.getpeercert() or None

    @property
    def receive_rate(self) -> float | None:
        """How fast the client has sent the body so far, in bytes per second of waiting for it; None when it
        was never waited for."""
        pace = self._link.receive_pace
        return None if pace is None else pace.speed

    @property
    def send_rate(self) -> float | None:
        """How fast the client has read the response so far, in bytes per second of waiting for it; None when
        it was never waited for."""
        pace = self._link.send_pace
        return None if pace is None else pace.speed

    @property
    def unsent(self) -> int:
        """Bytes of the response that the client has not acknowledged, as far as the system tells."""
        return self._link.transport.unsent()
