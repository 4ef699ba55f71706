"""What a client tells its instruments: plain data, which may be kept, queued and pickled.

As with a server's records, nothing in one holds a connection or a task, but for an error, whose traceback
holds the frames that it came through.

Times without a word on the clock are instants on Trio's clock, in seconds, and None for what did not happen.
They are kept as they were taken; what one wants to know of them are differences, which are properties.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from trio_http.messages import Headers

#: How an exchange ended.
Outcome: TypeAlias = Literal["complete", "cancelled", "failed"]

#: What became of its connection.
Fate: TypeAlias = Literal["kept", "closed", "handed over", "none"]


@attrs.frozen(kw_only=True)
class DialRecord:
    """An attempt to make a connection; if it succeeded, the connection as it was when it was made.

    Attributes:
      id: 1 for a client's first connection, and one more for each that follows; None when none was made.
      origin: what it was dialed for, as in ``"https://example.org"``.
      proxy: the proxy that it leads to or through, as a URL without credentials; None without one.
      address: the IP address, or the path of the socket, that was connected to, the proxy's when there is
        one; None when nothing was, or when it is not known.
      tls: the version of TLS to the origin, as in ``"TLSv1.3"``; None without TLS.
      alpn: the protocol that both sides agreed on in the handshake (RFC 7301); None without one.
      started: when it began.
      started_at: when, in seconds since 1970 (UTC).
      resolved: the addresses of the name were known.
      connected: the operating system had a connection, to the origin or to the proxy.
      proxied: the proxy had opened the way to the origin; with a proxy that speaks TLS, its own handshake is
        in it.
      secured: the TLS handshake with the origin was done.
      finished: it was over, one way or the other.
      error: what it failed with. None when it succeeded, and when it was `abandoned`.
    """

    id: int | None
    origin: str
    proxy: str | None = None
    address: str | None = None
    tls: str | None = None
    alpn: str | None = None
    started: float
    started_at: float
    resolved: float | None = None
    connected: float | None = None
    proxied: float | None = None
    secured: float | None = None
    finished: float
    error: BaseException | None = None

    @property
    def abandoned(self) -> bool:
        """It was cancelled, for nobody wanted its connection any more, or the client was closed."""
        return self.id is None and self.error is None

    @property
    def duration(self) -> float:
        """How long it took in all, in seconds."""
        return self.finished - self.started

    @property
    def resolve_seconds(self) -> float | None:
        """How long the name took, in seconds; None when none was looked up to the end."""
        return _between(self.started, self.resolved)

    @property
    def connect_seconds(self) -> float | None:
        """How long the connection below all else took, in seconds; None when there was none."""
        return _between(_last(self.started, self.resolved), self.connected)

    @property
    def proxy_seconds(self) -> float | None:
        """How long the proxy took, in seconds; None when it did not, or there was none to be asked."""
        return _between(_last(self.started, self.resolved, self.connected), self.proxied)

    @property
    def tls_seconds(self) -> float | None:
        """How long the TLS handshake with the origin took, in seconds; None when there was none to the
        end.
        """
        return _between(_last(self.started, self.resolved, self.connected, self.proxied), self.secured)


@attrs.frozen(kw_only=True)
class ClientExchangeRecord:
    """An exchange that is over, however it ended, and what is known of what the server made of it.

    Each sending of a request is an exchange of its own: a redirect, a retry and an answer to a challenge come
    to a record each, with the same ``request_number``.

    Attributes:
      request_number: 1 for a client's first request, and one more for each that follows.
      attempt: which exchange of that request this is, from 1.
      connection: what it was on; None when it never had one, or when the client was not watched at its
        beginning.
      number: which exchange of that connection it was, from 1; 0 when it never had one.
      method, url, target: as they went out, or would have.
      headers: the request's header section.
      status, reason, http_version: of the final response, or of a 101 that was accepted; None when no such
        head came. ``http_version`` is as in ``"1.1"``.
      response_headers: its header section; None without one.
      interims: the statuses of the interim responses, in order; a 101 that was accepted is none.
      started: when it began, which is when a connection was asked for.
      started_at: when, in seconds since 1970 (UTC).
      leased: it had a connection.
      sent: all of the request was handed to the operating system.
      first_byte: the first bytes of an answer were here, those of an interim response included.
      finished: it was over. For a streamed response that is when its body was read, or its block was left.
      bytes_sent: bytes of the request that were handed to the operating system for certain, with head and
        framing; bytes that TLS adds are not counted, nor are those of a send that was cancelled or broke.
      bytes_received: the same of all responses, as far as they were taken from the operating system.
      request_bytes: content sent, without its framing, and as it was coded (RFC 9110 §8.4).
      response_bytes: content received, without its framing, and as it was coded.
      decoded_bytes: how much of it that was without its content coding, as far as it was decoded; None when
        nothing was.
      outcome: ``"complete"`` when a final response came whole, or was left unread by choice. Its status does
        not matter. ``"cancelled"`` when the caller was cancelled. Else ``"failed"``.
      error: what it failed with; None for the other two.
      head_sent: all of the request's head was handed to the operating system.
      may_have_acted: the server may have received enough to act on it. False is certain.
      fate: what became of the connection: ``"kept"`` for further exchanges, ``"closed"``, ``"handed over"``
        to who asked for an upgrade or a tunnel; ``"none"``, there never was one.
      because: why it was kept or closed, in a few words, as in ``"response complete"`` or ``"cancelled:
        waiting for the head"``. What stands before a colon is one of few, and fit for counting.
    """

    request_number: int
    attempt: int = 1
    connection: DialRecord | None = None
    number: int = 0
    method: str
    url: str
    target: str
    headers: Headers
    status: int | None = None
    reason: str | None = None
    http_version: str | None = None
    response_headers: Headers | None = None
    interims: tuple[int, ...] = ()
    started: float
    started_at: float
    leased: float | None = None
    sent: float | None = None
    first_byte: float | None = None
    finished: float
    bytes_sent: int = 0
    bytes_received: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    decoded_bytes: int | None = None
    outcome: Outcome
    error: BaseException | None = None
    head_sent: bool = False
    may_have_acted: bool = False
    fate: Fate = "none"
    because: str = ""

    @property
    def reused(self) -> bool:
        """The connection had carried an exchange before."""
        return self.number > 1

    @property
    def request_complete(self) -> bool:
        """All of the request was handed to the operating system."""
        return self.sent is not None

    @property
    def duration(self) -> float:
        """How long it took in all, in seconds, the wait for a connection included."""
        return self.finished - self.started

    @property
    def wait_seconds(self) -> float:
        """How long it waited for a connection, in seconds: to the end when it never had one."""
        return (self.finished if self.leased is None else self.leased) - self.started

    @property
    def first_byte_seconds(self) -> float | None:
        """How long the first byte of an answer took, from the beginning, in seconds; None without one."""
        return _between(self.started, self.first_byte)


@attrs.frozen(kw_only=True)
class ClientCloseRecord:
    """The end of a connection.

    Attributes:
      connection: as it was when it was made.
      duration: how long it lasted from then on, in seconds.
      exchanges: how many exchanges it carried, unfinished ones included.
      why: it ended, in a few words, as in ``"idle"`` or ``"cancelled: sending"``. What stands before a colon
        is one of few, and fit for counting.
    """

    connection: DialRecord
    duration: float
    exchanges: int
    why: str


def _last(*instants: float | None) -> float:
    """Return the last of instants that stand in the order of time."""
    return max(instant for instant in instants if instant is not None)


def _between(begin: float, end: float | None) -> float | None:
    return None if end is None else end - begin
