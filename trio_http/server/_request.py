"""A request as its handler sees it: what HTTP says, and the verbs to answer it with."""

from __future__ import annotations

import trio

from trio_http import wire
from trio_http._kinds import check_number
from trio_http.messages import FieldsInput, as_wire_headers

from ._config import ServerRates, ServerTimes
from ._connection_info import ConnectionInfo
from ._finish import DrainScope, Finish
from ._link import Link
from ._reasons import CancelReason
from ._request_content import RequestContent
from ._response_stream import ResponseStream
from ._upgrade import Upgrade


class Request(RequestContent):
    """One request, and the ways to answer it.

    Attributes:
      method, target, http_version, headers, path, query, url: what the client asked for.
      body: the content as a stream, for one reader.
      connection: the addresses, TLS facts and speeds of the connection.
    """

    __slots__ = ("_common", "response_stream")

    def __init__(self, link: Link, head: wire.RequestHead, common: wire.Headers) -> None:
        self._link = link
        self._exchange = link.exchange
        self._head = head
        self._common = common
        self._headers = self._forwarded = self._body = None
        self.response_stream: ResponseStream | None = None
        self.method = head.method.decode("ascii")
        self.target = head.target.decode("latin-1")

    @property
    def connection(self) -> ConnectionInfo:
        """The connection that the request came on."""
        return ConnectionInfo(self._link)

    # -- answering
    # ---------------------------------------------------------------------------------------------------

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
          RuntimeError: this request has a streamed response already; or the method is CONNECT and the status
            2xx, which only `tunnel` sends.
          ValueError: another status.
          trio_http.wire.LocalProtocolError: illegal header fields.
        """
        if not isinstance(status, int):
            raise TypeError(f"status must be an int, not {status!r}")
        if not 200 <= status <= 999:
            raise ValueError(f"a response has a status of 200-999, not {status}")
        if status <= 299 and self.method == "CONNECT":
            # Its head would open the tunnel (RFC 9110 §9.3.6), and its body be taken for what comes out of
            # that.
            raise RuntimeError(f"a response with status {status} to CONNECT; Request.tunnel opens one")
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

    def upgrade(self, protocol: str, *, headers: FieldsInput | None = None) -> Upgrade:
        """Change the connection to another protocol: ``async with request.upgrade("echo") as stream: ...``.

        Entering sends ``101 Switching Protocols``; the block has the connection as a
        `trio.abc.HalfCloseableStream`, the bytes that the client has sent already included, without time
        limits; leaving it closes the connection. The handler then returns None.

        Args:
          protocol: one of `upgrade_protocols`, with its version if it has one.
          headers: further fields of the 101.

        Raises:
          ValueError: the client has not offered it.
          RuntimeError: the request has content that was not read: the client may not switch before it is (RFC
            9110 §7.8).
        """
        if protocol.lower() not in (offered.lower() for offered in self.upgrade_protocols):
            offers = ", ".join(self.upgrade_protocols) or "none"
            raise ValueError(f"the client has not offered to change to {protocol!r}; its offers: {offers}")
        fields = wire.Headers(
            [("Connection", "Upgrade"), ("Upgrade", protocol), *as_wire_headers(headers).raw_items()]
        )
        return Upgrade(self._link, self._exchange, 101, fields)

    def tunnel(self, *, headers: FieldsInput | None = None) -> Upgrade:
        """Answer CONNECT with a 200 and have the connection as a stream; as `upgrade`.

        Needs `ServerConfig.connect`. The target's host and port are in `target`, and whether the client may
        reach them is for the handler to decide: by default nobody may tunnel anywhere.

        Raises:
          RuntimeError: the method is not CONNECT.
        """
        if self.method != "CONNECT":
            raise RuntimeError(f"only CONNECT opens a tunnel, and this is {self.method}")
        return Upgrade(self._link, self._exchange, 200, as_wire_headers(headers))

    # -- time
    # ---------------------------------------------------------------------------------------------------

    @property
    def times(self) -> ServerTimes:
        """How long this request's client may take. Assign others, made with `attrs.evolve`, to change what
        holds from here to the end of this exchange: ``body_stall``, ``write_stall`` and ``request``."""
        return self._link.times

    @times.setter
    def times(self, times: ServerTimes) -> None:
        if not isinstance(times, ServerTimes):
            raise TypeError(f"expected a ServerTimes, as attrs.evolve makes of `times`, not {times!r}")
        self._link.check_current(self._exchange)
        self._link.set_limits(times, self._link.rates)

    @property
    def rates(self) -> ServerRates:
        """How slow this request's client may be: ``body`` and ``response``. To be changed as `times`."""
        return self._link.rates

    @rates.setter
    def rates(self, rates: ServerRates) -> None:
        if not isinstance(rates, ServerRates):
            raise TypeError(f"expected a ServerRates, as attrs.evolve makes of `rates`, not {rates!r}")
        self._link.check_current(self._exchange)
        self._link.set_limits(self._link.times, rates)

    # -- the end of the client, or of the server
    # ---------------------------------------------------------------------------------------------------

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why this handler is being cancelled by the server; None when it is not."""
        return self._link.cancel_reason if self._exchange == self._link.exchange else None

    @property
    def draining(self) -> bool:
        """The server is shutting down: finish soon, start nothing long."""
        return self._link.shared.draining

    def cancel_on_drain(self) -> DrainScope:
        """Return a block that is cancelled when the server begins to shut down: ``with
        request.cancel_on_drain() as scope: await trio.sleep(15)``.

        Made for waits. A cancelled *send* breaks its response; so put no `send_all` inside.
        """
        self._link.check_handling(self._exchange)
        return DrainScope(self._link)

    def finish(self, within: float) -> Finish:
        """Return a block which a disconnect or a drain does not cancel: ``with request.finish(within=5):
        await commit()``.

        A cancel that comes meanwhile waits for the end of the block, or until ``within`` seconds after its
        beginning. This is no shield: the hard stop at the end of a shutdown's grace, the request's deadline,
        and the limits on a client that is being waited for cancel the block all the same; and a handler that
        was cancelled before is not helped by it. Blocks may be nested, and overlap in tasks: the latest bound
        counts.

        Args:
          within: seconds, more than 0.
        """
        check_number("within", within, above=True, unit="seconds")
        self._link.check_handling(self._exchange)
        return Finish(self._link, within)

    async def wait_disconnected(self) -> None:
        """Wait until the client has gone.

        The handler is cancelled then anyway; so this is for inside `finish`, and for telling others.

        Cancellation: nothing has changed.
        """
        self._link.check_current(self._exchange)
        await self._link.handlers.wait_disconnected()
