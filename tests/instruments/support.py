"""Records as a server would make them, for tests of those who are told."""

from __future__ import annotations

from typing import Any

import attrs

from trio_http import Headers
from trio_http.instruments import CloseRecord, ConnectionRecord, ExchangeRecord

# 2026-11-23 04:49:45 UTC, and an eighth of a second, which a float has exactly.
STARTED_AT = 1795409385.125

CONNECTION = ConnectionRecord(
    id=7,
    peername=("192.0.2.1", 54321),
    sockname=("127.0.0.1", 8000),
    tls=None,
    opened=100.0,
    opened_at=STARTED_AT - 1,
)
EXCHANGE = ExchangeRecord(
    connection=CONNECTION,
    number=1,
    method="GET",
    target="/hello?you=1",
    http_version="1.1",
    headers=Headers(
        {"Host": "example.org", "User-Agent": "curl/8.14.1", "Referer": "http://example.org/start"}
    ),
    status=200,
    request_bytes=0,
    response_bytes=13,
    started=101.0,
    started_at=STARTED_AT,
    duration=0.25,
    cancel_reason=None,
    error=None,
    client="192.0.2.1",
)
CLOSING = CloseRecord(connection=CONNECTION, duration=2.0, exchanges=1, why="client closed")


def connection(**changes: Any) -> ConnectionRecord:
    return attrs.evolve(CONNECTION, **changes)


def exchange(**changes: Any) -> ExchangeRecord:
    return attrs.evolve(EXCHANGE, **changes)


def closing(**changes: Any) -> CloseRecord:
    return attrs.evolve(CLOSING, **changes)
