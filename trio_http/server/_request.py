"""A request as its handler sees it: what HTTP says, and the verbs to answer it with."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import trio
import yarl

from trio_http import wire
from trio_http._errors import HTTPException
from trio_http.messages import FieldsInput, Headers, as_wire_headers, decode_text
from trio_http.transport import Address, TLSFacts

from ._body import RequestBody
from ._link import Link
from ._response_stream import ResponseStream

# What `read`, `text`, `json` and `form` take unless told otherwise, in bytes. Precedent: aiohttp's
# client_max_size.
READ_LIMIT = 1 << 20


class ConnectionInfo:
    """The connection that a request came on.

    Attributes:
      peername, sockname: the client's address and ours; None when the transport has none.
      tls: the facts of the TLS session; None without TLS.
    """

    __slots__ = ("peername", "sockname", "tls")

    def __init__(self, peername: Address, sockname: Address, tls: TLSFacts) -> None:
        self.peername = peername
        self.sockname = sockname
        self.tls = tls


class Request:
    """One request, and the ways to answer it.

    Attributes:
      method: as written; case matters (RFC 9110 §9.1).
      target: the request target exactly as written (RFC 9112 §3.2).
      http_version: "1.1" or "1.0".
      headers: the header section.
      body: the content as a stream, for one reader.
      connection: the addresses and TLS facts of the connection.
    """

    __slots__ = (
        "_body",
        "_common",
        "_exchange",
        "_head",
        "_headers",
        "_link",
        "method",
        "response_stream",
        "target",
    )

    def __init__(self, link: Link, head: wire.RequestHead, common: wire.Headers) -> None:
        self._link = link
        self._exchange = link.exchange
        self._head = head
        self._common = common
        self._body: RequestBody | None = None
        self._headers: Headers | None = None
        self.response_stream: ResponseStream | None = None
        self.method = head.method.decode("ascii")
        self.target = head.target.decode("latin-1")

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
        client named.

        Raises:
          ValueError: the parts make no URL; the method is CONNECT, or the target ``*``.
        """
        target = self.target
        if target[0] != "/":
            if "://" in target.partition("?")[0]:
                return yarl.URL(target, encoded=True)
            raise ValueError(f"the target {target!r} names no resource")
        return yarl.URL.build(
            scheme="http" if self._link.transport.tls is None else "https",
            authority=self.headers.get("host") or "localhost",
            path=self.path,
            query_string=self.query,
            encoded=True,
        )

    @property
    def body(self) -> RequestBody:
        """The content as a stream; always the same object."""
        body = self._body
        if body is None:
            body = self._body = RequestBody(self._link, self._exchange)
        return body

    @property
    def connection(self) -> ConnectionInfo:
        """The connection that the request came on."""
        transport = self._link.transport
        return ConnectionInfo(transport.peername, transport.sockname, transport.tls)

    def limit_body(self, max_bytes: int) -> None:
        """Set the most that the content may have, in place of the server's limit; to be called before it is
        read.

        Raises:
          HTTPException: 413, the Content-Length says that it has more: before any ``100 Continue``.
          ValueError: ``max_bytes`` is negative.
        """
        if max_bytes < 0:
            raise ValueError(f"max_bytes must not be negative, got {max_bytes}")
        self._link.check_current(self._exchange)
        self._link.max_body_bytes = max_bytes
        self._link.refuse_large_body()

    async def read(self, limit: int = READ_LIMIT) -> bytes:
        """Return the whole content.

        Args:
          limit: the most that it may have, in bytes.

        Raises:
          HTTPException: 413 beyond ``limit``, before any ``100 Continue`` when the Content-Length tells.
          ClientDisconnected, trio_http.wire.RemoteProtocolError: as `RequestBody`.

        Cancellation: what was read is lost, and the exchange can only be given up.
        """
        self.limit_body(min(limit, self._link.max_body_bytes))
        pieces = []
        while piece := await self.body.receive_some():
            pieces.append(piece)
        return b"".join(pieces)

    async def text(self, limit: int = READ_LIMIT) -> str:
        """Return the whole content as text, by the Content-Type's charset or else UTF-8; see `read`.

        Cancellation: as `read`.
        """
        return decode_text(await self.read(limit), self.headers)

    async def json(self, limit: int = READ_LIMIT) -> Any:
        """Return the whole content, taken for JSON; see `read`.

        Raises:
          HTTPException: 400, it is no JSON; besides what `read` raises.

        Cancellation: as `read`.
        """
        content = await self.read(limit)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as exc:  # RecursionError: a hundred thousand "[" in a row
            raise HTTPException(400, "the request's content is no JSON\n") from exc

    async def form(self, limit: int = READ_LIMIT) -> list[tuple[str, str]]:
        """Return the whole content, taken for an ``application/x-www-form-urlencoded`` form, as pairs; see
        `read`.

        Raises:
          HTTPException: 415, the Content-Type is another; 400, there are too many fields; besides what `read`
            raises.

        Cancellation: as `read`.
        """
        if (self.headers.get("content-type") or "").partition(";")[0].strip().lower() != (
            "application/x-www-form-urlencoded"
        ):
            raise HTTPException(415, "the request's content must be application/x-www-form-urlencoded\n")
        content = await self.read(limit)
        try:
            # 1000 fields: arbitrary, a form that people fill in has fewer.
            return parse_qsl(content.decode("utf-8"), keep_blank_values=True, max_num_fields=1000)
        except ValueError as exc:
            raise HTTPException(400, "the request's content is no form\n") from exc

    def stream_response(
        self, status: int = 200, *, headers: FieldsInput | None = None, reason: str | None = None
    ) -> ResponseStream:
        """Answer piece by piece: ``async with request.stream_response(200) as body: await
        body.send_all(b"...")``.

        Args:
          status: 200-999.
          headers: header fields. With a Content-Length the body must have just that; else it is chunked, or
            for an HTTP/1.0 client delimited by the close.
          reason: the reason phrase; None for the registered one.

        Raises:
          RuntimeError: this request has a streamed response already.
          ValueError: another status.
          trio_http.wire.LocalProtocolError: illegal header fields.
        """
        if not 200 <= status <= 999:
            raise ValueError(f"a response has a status of 200-999, not {status}")
        if self.response_stream is not None:
            raise RuntimeError("this request has a streamed response already")
        self.response_stream = ResponseStream(
            self._link, self._exchange, status, as_wire_headers(headers), reason, self._common
        )
        return self.response_stream

    async def send_informational(self, status: int, *, headers: FieldsInput | None = None) -> None:
        """Send an interim response, such as 103 with Link fields (RFC 8297); an HTTP/1.0 client is not sent
        any.

        Args:
          status: 100-199 without 101, which is an upgrade.
          headers: its fields.

        Raises:
          ClientDisconnected: the client went away.
          ValueError: another status.

        Cancellation: the connection is aborted, for part of it may be out.
        """
        if not 100 <= status <= 199 or status == 101:
            raise ValueError(f"an interim response has a status of 100-199 and not 101, got {status}")
        await trio.lowlevel.checkpoint()
        self._link.check_current(self._exchange)
        if self._head.http_version != b"1.0":
            await self._link.push(self._link.wire.send_response(status, as_wire_headers(headers)))
