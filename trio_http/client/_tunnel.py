"""CONNECT: a connection to an origin through an HTTP proxy (RFC 9110 §9.3.6)."""

from __future__ import annotations

from typing import Final

import trio

from trio_http import wire
from trio_http.connection import HTTPConnection
from trio_http.messages import Headers
from trio_http.transport import Transport

from ._origin import Origin
from ._proxy import Proxy, ProxyFailed

# What is kept of the content of a refusal, and how long the rest of it is waited for: it is there to explain,
# and the refusal itself is known already. Arbitrary: a page of text, and the time for it over a slow line.
_CONTENT_BYTES: Final = 8 * 1024
_CONTENT_SECONDS: Final = 1.0


class ProxyRefused(ProxyFailed):
    """An HTTP proxy answered CONNECT with something else than 2xx.

    Args:
      proxy: its URL, without credentials.
      target: host and port that it was asked for.
      status, reason, headers: of its answer; 300-999.
      content: of its answer, or the beginning; at most 8 KiB.
      authorized: we sent credentials.

    Attributes:
      status, reason, headers, content, authorized: as given.
    """

    def __init__(
        self,
        proxy: str,
        target: str,
        status: int,
        reason: str,
        headers: Headers,
        content: bytes,
        authorized: bool,
    ) -> None:
        what = f"it refused with {status} {reason[:60]}".rstrip()
        if status == 407:
            what += ", not accepting our credentials" if authorized else ", and we have sent no credentials"
            if "proxy-authenticate" in headers:
                what += f" (it asks for {headers['proxy-authenticate'][:60]!r})"
        super().__init__(what, proxy, target)
        # What `Exception` makes a copy from.
        self.args = (proxy, target, status, reason, headers, content, authorized)
        self.status = status
        self.reason = reason
        self.headers = headers
        self.content = content
        self.authorized = authorized


async def open_tunnel(
    transport: Transport,
    target: Origin,
    proxy: Proxy,
    limits: wire.Limits,
    *,
    user_agent: str = wire.PRODUCT_ID,
) -> None:
    """Have an HTTP proxy connect us to an origin.

    When this returns, what is sent and received on the transport is the origin's, from the first byte on; TLS
    to it is the caller's to begin. Otherwise the transport can only be closed, which is the caller's too.

    Args:
      transport: connected to the proxy; the TLS to an https proxy included.
      target: what to be connected to. Its port always goes out, also where it is the scheme's own.
      proxy: its header fields and authorization.
      limits: what is accepted of the proxy. Nothing is lenient.
      user_agent: the User-Agent, unless the proxy's header fields have one.

    Raises:
      ProxyRefused: the proxy answered with another status than 2xx.
      ProxyFailed: it broke HTTP or a limit, closed or lost the connection; the cause is chained. Or it sent
        bytes behind its 2xx: neither a TLS server nor an HTTP server speaks first, and what nobody has asked
        for must not be taken for an answer.
      trio.ClosedResourceError: we have closed the transport meanwhile.

    Cancellation: the proxy may have connected us or not; close the transport.

    Reference: RFC 9110 §9.3.6; RFC 9112 §3.2.3 for the authority-form.
    """
    host = f"[{target.host}]" if ":" in target.host else target.host
    authority = f"{host}:{target.port}"
    connection = HTTPConnection(transport, wire.CLIENT, limits, frozenset())
    fields = [(b"Host", authority.encode("ascii"))]
    if not any(name.lower() == b"user-agent" for name, _ in proxy.headers):
        fields.append((b"User-Agent", user_agent.encode("latin-1")))
    request = connection.wire.send_request(b"CONNECT", authority, [*fields, *proxy.fields()], b"")
    try:
        head = await _final_head(connection, request)
    except wire.RemoteProtocolError as exc:
        raise ProxyFailed(f"no proper answer to CONNECT: {exc}", str(proxy), authority) from exc
    except trio.BrokenResourceError as exc:
        raise ProxyFailed(
            f"the connection to it broke before its answer: {exc}", str(proxy), authority
        ) from exc
    if not 200 <= head.status_code < 300:
        authorized = any(name.lower() == b"proxy-authorization" for name, _ in proxy.fields())
        raise ProxyRefused(
            str(proxy),
            authority,
            head.status_code,
            head.reason.decode("latin-1"),
            Headers(head.headers),
            await _content(connection),
            authorized,
        )
    early, _ = connection.wire.trailing_data
    if early:
        raise ProxyFailed(
            f"it sent {len(early)} bytes behind its {head.status_code}, where it is on us to speak first: "
            f"{early[:60]!r}",
            str(proxy),
            authority,
        )


async def _final_head(connection: HTTPConnection, request: bytes) -> wire.ResponseHead:
    """Send the request, and return the head of its final response; interim ones are passed over."""
    try:
        await connection.send(request)
    except trio.BrokenResourceError:
        pass  # an answer may have come before it broke: a proxy that refuses us unheard says so, and closes
    while True:
        head = await connection.next_head()
        # Nothing else can come: we have proposed no upgrade, and the end of the stream is an error here.
        assert isinstance(head, wire.ResponseHead), head
        if head.status_code >= 200:
            return head


async def _content(connection: HTTPConnection) -> bytes:
    """Return the content of a refusal, or as much of it as there is."""
    content = bytearray()
    with trio.move_on_after(_CONTENT_SECONDS):
        try:
            while len(content) < _CONTENT_BYTES and (piece := await connection.next_data()):
                content += piece
        except (wire.RemoteProtocolError, trio.BrokenResourceError):
            pass  # the refusal is what happened, and it came whole
    return bytes(content[:_CONTENT_BYTES])
