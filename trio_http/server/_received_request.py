"""A request as its client wrote it: what HTTP says, read off its head."""

from __future__ import annotations

import yarl

from trio_http import wire
from trio_http.messages import ForwardedFacts, Headers, client_of

from ._link import Link


class ReceivedRequest:
    """What a client asked for.

    Attributes:
      method: as written; case matters (RFC 9110 §9.1).
      target: the request target exactly as written (RFC 9112 §3.2).
    """

    __slots__ = ("_exchange", "_forwarded", "_head", "_headers", "_link", "method", "target")

    # Set by `Request`, in one place: a chain of constructors would cost as much as a context.
    _link: Link
    _exchange: int
    _head: wire.RequestHead
    _headers: Headers | None
    _forwarded: ForwardedFacts | None
    method: str
    target: str

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"

    @property
    def http_version(self) -> str:
        """The version of the client's message, "1.1" or "1.0"."""
        return self._head.http_version.decode("ascii")

    @property
    def headers(self) -> Headers:
        """The header section."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers(self._head.headers)
        return headers

    @property
    def path(self) -> str:
        """The target's path as written, still percent-encoded; ``"*"`` for ``OPTIONS *``, empty for
        CONNECT."""
        target = self.target
        if target[0] != "/":
            if self.method == "CONNECT":
                return ""
            target, _, _ = target.partition("?")  # first, for the query may hold anything but "#"
            if "://" in target:  # absolute-form, as proxies are sent (RFC 9112 §3.2.2)
                return "/" + target.partition("://")[2].partition("/")[2]
        return target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the ``?`` in the target, as written; empty without one."""
        return self.target.partition("?")[2]

    @property
    def url(self) -> yarl.URL:
        """The target URI (RFC 9112 §3.3), built from its parts and not normalised; with the host that the
        client named, to a trusted proxy if there is one (`forwarded`).

        Raises:
          ValueError: the parts make no URL; the method is CONNECT, or the target ``*``.
        """
        target = self.target
        if target[0] != "/":
            if "://" in target.partition("?")[0]:
                return yarl.URL(target, encoded=True)
            raise ValueError(f"the target {target!r} names no resource")
        forwarded = self.forwarded
        return yarl.URL.build(
            scheme=forwarded.scheme or ("http" if self._link.transport.tls is None else "https"),
            authority=forwarded.host or self.headers.get("host") or "localhost",
            path=self.path,
            query_string=self.query,
            encoded=True,
        )

    @property
    def forwarded(self) -> ForwardedFacts:
        """Who asked, and for what, as far as trusted proxies tell (`ServerConfig.trusted_proxies`); without
        them, the connection's own client and nothing else."""
        facts = self._forwarded
        if facts is None:
            link = self._link
            facts = link.peer_facts
            if link.trusts_proxy:
                config = link.shared.config
                facts = client_of(self.headers, link.peer, config.trusted_proxies, config.forwarded_fields)
            self._forwarded = facts
        return facts

    @property
    def upgrade_protocols(self) -> tuple[str, ...]:
        """The protocols that the client offers to change to, as written, the one it likes best first (RFC
        9110 §7.8); empty when it asks for no upgrade, or may not."""
        offered = (self._head.upgrade or b"").decode("latin-1").split(",")
        return tuple(token for part in offered if (token := part.strip(" \t")))
