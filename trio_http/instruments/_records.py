"""What a server tells its instruments: plain data, which may be kept, queued and pickled.

A record holds no socket, request or task, so that keeping one keeps no connection alive. The one exception is
an error: its traceback holds the frames of the handler that raised it, and with them whatever they held.
"""

from __future__ import annotations

import attrs

from trio_http.messages import Headers
from trio_http.transport import Address


@attrs.frozen
class ConnectionRecord:
    """A connection, as it was when it was opened.

    Attributes:
      id: 1 for a server's first connection, and one more for each that follows.
      peername: the address of the client, or of the proxy that speaks for it (`ExchangeRecord.client`).
      sockname: our own address.
      tls: the version of TLS, as in ``"TLSv1.3"``; None without TLS.
      opened: when, on Trio's clock, in seconds.
      opened_at: when, in seconds since 1970 (UTC).
    """

    id: int
    peername: Address
    sockname: Address
    tls: str | None
    opened: float
    opened_at: float


@attrs.frozen
class ExchangeRecord:
    """An exchange that is over, however it ended.

    Attributes:
      connection: the connection that it was on.
      number: which exchange of the connection it was, from 1.
      method: as written (RFC 9110 §9.1).
      target: the request target as written (RFC 9112 §3.2), Latin-1. The peer's words: escape them.
      http_version: of the request, ``"1.1"`` or ``"1.0"``.
      headers: the request's header section. The peer's words too.
      status: of the final response, 200-599, or 101 after an upgrade, as soon as any of it was sent; None
        when no answer was sent.
      request_bytes: content received, without its framing.
      response_bytes: content handed to the transport, without its framing. The client need not have read it.
      started: when the head had come, on Trio's clock, in seconds.
      started_at: the same in seconds since 1970 (UTC).
      duration: from there to the end of the answer, or to the abort, in seconds.
      cancel_reason: why the handler was cancelled, in the words that it saw itself, as in
        ``"client disconnected"``; None when it was not.
      error: what the handler failed with, the whole group when there were several; None when it did not fail.
        A `trio_http.HTTPException` is an answer, and a client that went away is no failure.
      client: the client's host, behind trusted proxies the one that they name; None when there is none, as on
        a Unix socket.
    """

    connection: ConnectionRecord
    number: int
    method: str
    target: str
    http_version: str
    headers: Headers
    status: int | None
    request_bytes: int
    response_bytes: int
    started: float
    started_at: float
    duration: float
    cancel_reason: str | None
    error: BaseException | None
    client: str | None


@attrs.frozen
class CloseRecord:
    """The end of a connection.

    Attributes:
      connection: as it was when it was opened.
      duration: how long it lasted, in seconds.
      exchanges: how many exchanges it carried, unfinished ones included.
      why: it ended, in a few words, as in ``"client closed"`` or ``"aborted: response not read"``. What
        stands before a colon is one of few, and fit for counting.
    """

    connection: ConnectionRecord
    duration: float
    exchanges: int
    why: str
