"""What a server is doing, as plain data."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class ServerStatistics:
    """Numbers of a running server.

    Attributes:
      connections: open now.
      handling: requests under way now.
      connections_total: opened so far.
      requests_total: requests answered so far.
      draining: the server is shutting down.
    """

    connections: int
    handling: int
    connections_total: int
    requests_total: int
    draining: bool


@attrs.frozen(kw_only=True)
class ConnectionSnapshot:
    """One connection, and the request under way on it, at one moment. Nothing in it is live.

    Attributes:
      id: the connection's number in its server, from 1.
      peername: the client's address.
      transport: "socket", "tls" or "stream".
      state: "idle", "head" (waiting for a request's head), "handling", "sending" (waiting for the client to
        read), "receiving" (waiting for the body), "upgraded", or "ending".
      age: seconds since it was opened.
      requests: exchanges completed.
      method, target: of the request under way; None without one.
      handling_for: seconds since its head; None without one.
      cancel_reason: why it was cancelled; None when it was not.
      deadlines: seconds left, by what they limit: "receive", "send", "handler", "finish". Only those that
        are set.
      receive_rate, send_rate: bytes per second while the client was waited for; None when it never was.
      unsent: bytes of the response that the client has not acknowledged; None when that is not known.
    """

    id: int
    peername: Any
    transport: str
    state: str
    age: float
    requests: int
    method: str | None
    target: str | None
    handling_for: float | None
    cancel_reason: str | None
    deadlines: dict[str, float]
    receive_rate: float | None
    send_rate: float | None
    unsent: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes."""
        data = attrs.asdict(self)
        data["peername"] = None if self.peername is None else str(self.peername)
        return data
