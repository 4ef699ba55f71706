"""Records as a client would make them, for tests of those who are told."""

from __future__ import annotations

from typing import Any

import attrs

from trio_http import Headers
from trio_http.instruments import ClientCloseRecord, ClientExchangeRecord, DialRecord

# 2026-11-23 04:49:45 UTC, and an eighth of a second, which a float has exactly.
STARTED_AT = 1795409385.125

# Powers of two in it, so that differences are exact.
DIAL = DialRecord(
    id=3,
    origin="https://example.org",
    proxy="http://proxy.example:3128",
    address="192.0.2.7",
    tls="TLSv1.3",
    alpn="http/1.1",
    started=100.0,
    started_at=STARTED_AT - 1,
    resolved=100.125,
    connected=100.375,
    proxied=100.5,
    secured=101.0,
    finished=101.0,
)
EXCHANGE = ClientExchangeRecord(
    request_number=8,
    connection=DIAL,
    number=1,
    method="POST",
    url="https://example.org/items?a=1&b=",
    target="/items?a=1&b=",
    headers=Headers({"Host": "example.org", "Content-Length": "5"}),
    status=201,
    reason="Created",
    http_version="1.1",
    response_headers=Headers({"Content-Type": "application/json", "Content-Length": "9"}),
    interims=(103,),
    started=100.0,
    started_at=STARTED_AT,
    leased=101.0,
    sent=101.25,
    first_byte=101.75,
    finished=102.75,
    bytes_sent=80,
    bytes_received=120,
    request_bytes=5,
    response_bytes=9,
    outcome="complete",
    head_sent=True,
    may_have_acted=True,
    fate="kept",
    because="response complete",
)
CLOSING = ClientCloseRecord(connection=DIAL, duration=15.0, exchanges=4, why="idle")

# A request that was cancelled while it waited for a connection: of all of it, only its beginning and end.
WAITING = ClientExchangeRecord(
    request_number=9,
    method="GET",
    url="https://example.org/",
    target="/",
    headers=Headers({"Host": "example.org"}),
    started=100.0,
    started_at=STARTED_AT,
    finished=105.0,
    outcome="cancelled",
    because="cancelled: waiting for a connection",
)


def dial(**changes: Any) -> DialRecord:
    return attrs.evolve(DIAL, **changes)


def exchange(**changes: Any) -> ClientExchangeRecord:
    return attrs.evolve(EXCHANGE, **changes)
