"""Who looks on at a client: its instruments, and the `report` of a request; and what they are told.

Nothing in here is called unless somebody looks on. An exchange that has begun is told of exactly once, by
whatever ends it: the return of its connection, its close, or the failure to get one.
"""

from __future__ import annotations

import itertools
import logging
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

import trio

from trio_http import wire
from trio_http.instruments import (
    ClientCloseRecord,
    ClientExchangeRecord,
    ClientInstrument,
    ClientInstruments,
    DialRecord,
    Fate,
    Outcome,
)
from trio_http.messages import Headers
from trio_http.transport import Transport

from ._connect import DialTimes
from ._plan import RequestPlan
from ._route import Route
from ._settings import Report

logger = logging.getLogger("trio_http.client")


class Watch:
    """Who looks on at one client.

    Args:
      instruments: of the client.

    Attributes:
      instruments: as given.
    """

    def __init__(self, instruments: Iterable[ClientInstrument]) -> None:
        self.instruments = ClientInstruments(instruments)
        self._requests = itertools.count(1)
        self._connections = itertools.count(1)

    @property
    def watches_exchanges(self) -> bool:
        """Some instrument wants to know of exchanges."""
        return self.instruments.watches_starts or self.instruments.watches_exchanges

    def request(self, plan: RequestPlan) -> RequestWatch | None:
        """Return who looks on at a request that begins now; None: nobody."""
        report = plan.settings.report
        if report is None and not self.watches_exchanges:
            return None
        return RequestWatch(self.instruments, report, next(self._requests))

    def dialed(
        self, route: Route, times: DialTimes, transport: Transport | None, error: BaseException | None
    ) -> DialRecord | None:
        """Tell of the end of a dial, and return what was told; None when nobody wants to know."""
        if not self.instruments:
            return None
        now = trio.current_time()
        started = now if times.started is None else times.started
        tls = None if transport is None else transport.tls
        record = DialRecord(
            id=None if transport is None else next(self._connections),
            origin=str(route.origin),
            proxy=None if route.proxy is None else str(route.proxy),
            address=times.address,
            tls=_asked(tls, "version"),
            alpn=_asked(tls, "selected_alpn_protocol"),
            started=started,
            started_at=time.time() - (now - started),
            resolved=times.resolved,
            connected=times.connected,
            proxied=times.proxied,
            secured=times.secured,
            finished=now,
            error=error,
        )
        self.instruments.dial_finished(record)
        return record

    def closed(self, connection: DialRecord | None, exchanges: int, why: str) -> None:
        """Tell of the end of a connection, unless nobody was told of its beginning."""
        if connection is not None:
            duration = trio.current_time() - connection.finished
            self.instruments.connection_closed(
                ClientCloseRecord(connection=connection, duration=duration, exchanges=exchanges, why=why)
            )


class RequestWatch:
    """Who looks on at one request, which is made of one exchange or more.

    Args:
      instruments: of the client.
      report: of the request.
      number: of the request in its client, from 1.
    """

    __slots__ = ("_attempts", "_instruments", "_number", "_report")

    def __init__(self, instruments: ClientInstruments, report: Report | None, number: int) -> None:
        self._instruments = instruments
        self._report = report
        self._number = number
        self._attempts = 0

    def begin(self, plan: RequestPlan) -> ExchangeWatch:
        """Tell that an exchange begins; its end has to be told to what this returns."""
        self._attempts += 1
        self._instruments.exchange_started(
            self._number, self._attempts, plan.method.decode("ascii"), plan.url
        )
        return ExchangeWatch(self, plan, self._number, self._attempts)

    def tell(self, record: ClientExchangeRecord) -> None:
        """Tell of the end of an exchange."""
        self._instruments.exchange_finished(record)
        if self._report is not None:
            try:
                self._report(record)
            except Exception:
                # Whoever tells is about to release a connection, perhaps because of a cancel.
                logger.exception("the `report` of a request failed: %r", self._report)


class ExchangeWatch:
    """Who looks on at one exchange.

    Args:
      request: the watch of its request.
      plan: what is sent.
      number, attempt: of the request, and of the exchange in it.

    Attributes:
      error: what interrupted it, if anything did.
      sent_at: when all of the request was handed over, on trio's clock.
      headers: the header section as it went out, if that is not the plan's.
      request_bytes, response_bytes: content sent and received, as it was coded.
      decoded_bytes: content after decoding; None when nothing was decoded.
      head_bytes: bytes received up to the head of the final response, and what came with it.
    """

    __slots__ = (
        "_attempt",
        "_number",
        "_plan",
        "_request",
        "_started",
        "_started_at",
        "decoded_bytes",
        "error",
        "head_bytes",
        "headers",
        "request_bytes",
        "response_bytes",
        "sent_at",
    )

    def __init__(self, request: RequestWatch, plan: RequestPlan, number: int, attempt: int) -> None:
        self._request = request
        self._plan = plan
        self._number = number
        self._attempt = attempt
        self._started = trio.current_time()
        self._started_at = time.time()
        self.error: BaseException | None = None
        self.sent_at: float | None = None
        self.headers: wire.Headers | None = None
        self.request_bytes = self.response_bytes = self.head_bytes = 0
        self.decoded_bytes: int | None = None

    def never_leased(self, error: BaseException, missing: str = "connection") -> None:
        """Tell of an exchange that had no connection.

        Args:
          error: why.
          missing: what it did not get.
        """
        self.error = error
        because = (
            f"no {missing}: {error}"
            if isinstance(error, Exception)
            else f"cancelled: waiting for a {missing}"
        )
        self._tell(fate="none", because=because, facts={})

    def ended(self, link: Any, fate: Fate, because: str, error: BaseException | None) -> None:
        """Tell of an exchange that was on a connection.

        Args:
          link: the connection, as the exchange has left it.
          fate, because: see `ClientExchangeRecord`.
          error: what ended it, if anything did.
        """
        if error is not None:
            self.error = error
        # Given back in spite of an error: before the wire was called. What the link tells is of the exchange
        # before, whose plan may be the same.
        untouched = fate == "kept" and self.error is not None
        if untouched:
            because = "nothing was sent"
        begun = link.plan is self._plan and not untouched
        head: wire.ResponseHead | None = link.head if begun else None
        facts: dict[str, Any] = {
            "connection": link.record,
            "number": link.exchanges,
            "leased": link.leased_at,
        }
        if begun:
            facts["interims"] = tuple(interim.status for interim in link.interim)
            facts["first_byte"] = link.first_byte_at or None
            facts["bytes_sent"] = link.bytes_sent
            facts["head_sent"] = link.bytes_sent > 0
            facts["may_have_acted"] = link.sending
            facts["bytes_received"] = self.head_bytes + (
                0 if link.receive_pace is None else link.receive_pace.moved
            )
        if head is not None:
            facts["status"] = head.status_code
            facts["reason"] = head.reason.decode("latin-1")
            facts["http_version"] = head.http_version.decode("ascii")
            facts["response_headers"] = Headers._wrap(head.headers)
        self._tell(fate=fate, because=because, facts=facts)

    def _tell(self, *, fate: Fate, because: str, facts: dict[str, Any]) -> None:
        plan = self._plan
        error = self.error
        outcome: Outcome = (
            "complete" if error is None else "failed" if isinstance(error, Exception) else "cancelled"
        )
        self._request.tell(
            ClientExchangeRecord(
                request_number=self._number,
                attempt=self._attempt,
                method=plan.method.decode("ascii"),
                url=plan.url,
                target=plan.target.decode("latin-1"),
                headers=Headers._wrap(self.headers or _written(plan)),
                started=self._started,
                started_at=self._started_at,
                sent=self.sent_at,
                finished=trio.current_time(),
                request_bytes=self.request_bytes,
                response_bytes=self.response_bytes,
                decoded_bytes=self.decoded_bytes,
                outcome=outcome,
                error=error if outcome == "failed" else None,
                fate=fate,
                because=because,
                **facts,
            )
        )


def _written(plan: RequestPlan) -> wire.Headers:
    """Return the header section of a request as the wire writes it."""
    framed = not {b"content-length", b"transfer-encoding"}.isdisjoint(plan.headers.by_name)
    if plan.prepared is None or not plan.prepared.content or framed:
        return plan.headers
    return plan.headers.replaced(b"Content-Length", b"%d" % len(plan.prepared.content))


def _asked(tls: ssl.SSLObject | trio.SSLStream[Any] | None, name: str) -> str | None:
    """Return what a method of a TLS object says; None without one."""
    method: Callable[[], str | None] | None = getattr(tls, name, None)
    return None if method is None else method()
