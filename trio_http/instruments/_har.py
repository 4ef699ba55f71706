"""An HTTP archive: the exchanges of a client, in the form that browsers' developer tools save and open.

The form is HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/). What it has no member for stands in
members that begin with an underscore, which readers pass over:

- ``_error`` of a response: why there is none, or not the whole; browsers use that name too;
- ``_outcome``, ``_mayHaveActed``, ``_fate`` and ``_because`` of an entry: those of `ClientExchangeRecord`;
- ``_requestNumber`` and ``_attempt``: which entries belong to one request;
- ``_interims``: the statuses of interim responses.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

import attrs
import trio

from trio_http import wire

from ._client_instrument import ClientInstrument
from ._client_records import ClientExchangeRecord, DialRecord
from ._redaction import SENSITIVE_FIELDS, Redaction

#: An exchange without its error, and the error's text.
_Kept: TypeAlias = tuple[ClientExchangeRecord, str]

_CREATOR: Final = dict(zip(("name", "version"), wire.PRODUCT_ID.split("/"), strict=True))

# What is written for a size that is not known, and for a phase that there was not.
_UNKNOWN: Final = -1
_NOT_APPLICABLE: Final = -1


class HarRecorder(ClientInstrument):
    """Keep the last exchanges of a client, to be saved as an HTTP archive (HAR 1.2).

    ::

        recorder = HarRecorder()
        async with trio_http.Client(instruments=[recorder]) as client:
            ...
        await recorder.save("exchanges.har")

    It keeps heads, sizes and times. It has no contents, for instruments are not given any. Values of
    sensitive fields are replaced by a word; URLs and all other fields are kept as they are, so an archive is
    still nothing to be published without a look.

    Args:
      max_entries: how many exchanges are kept, at least 1; when there are more, the oldest are dropped. The
        default is arbitrary; it comes to a few MB.
      redact: the names of the fields whose values are taken out. Empty: all stay in.

    Attributes:
      dropped: how many exchanges were dropped for newer ones.

    Raises:
      ValueError: ``max_entries`` is less than 1.
      TypeError: ``redact`` is one str.
    """

    __slots__ = ("_kept", "_redaction", "dropped")

    def __init__(self, *, max_entries: int = 1000, redact: Iterable[str] = SENSITIVE_FIELDS) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries must be at least 1, got {max_entries}")
        self._kept: deque[_Kept] = deque(maxlen=max_entries)
        self._redaction = Redaction(redact)
        self.dropped = 0

    def exchange_finished(self, exchange: ClientExchangeRecord) -> None:
        """Keep the exchange."""
        text = ""
        if exchange.error is not None:
            # Not the error itself: its traceback would keep the frames of whoever made the request.
            text = f"{type(exchange.error).__name__}: {exchange.error}"
            exchange = attrs.evolve(exchange, error=None)
        elif exchange.outcome == "cancelled":
            text = "cancelled"
        self.dropped += len(self._kept) == self._kept.maxlen
        self._kept.append((exchange, text))

    def clear(self) -> None:
        """Forget all exchanges so far."""
        self._kept.clear()
        self.dropped = 0

    def har(self) -> dict[str, Any]:
        """Return the archive as an object for `json.dumps`, its entries in the order in which they began."""
        return _archive(tuple(self._kept), self.dropped, self._redaction)

    async def save(self, path: str | os.PathLike[str]) -> None:
        """Write the archive to a file, in a thread.

        A file that is there is replaced once the new one is whole.

        Raises:
          OSError: the file cannot be written.

        Cancellation: before the thread has begun, nothing is written; after that, the file is, all the same.
        """
        kept, dropped = tuple(self._kept), self.dropped
        await trio.to_thread.run_sync(_write, path, kept, dropped, self._redaction)


def _write(path: str | os.PathLike[str], kept: tuple[_Kept, ...], dropped: int, redaction: Redaction) -> None:
    text = json.dumps(_archive(kept, dropped, redaction), indent=1)
    part = f"{os.fspath(path)}.part"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    os.replace(part, path)


def _archive(kept: tuple[_Kept, ...], dropped: int, redaction: Redaction) -> dict[str, Any]:
    in_order = sorted(kept, key=lambda each: each[0].started)
    log: dict[str, Any] = {
        "version": "1.2",
        "creator": _CREATOR,
        "entries": [_entry(exchange, error, redaction) for exchange, error in in_order],
    }
    if dropped:
        log["comment"] = f"{dropped} exchanges before these were dropped"
    return {"log": log}


def _entry(exchange: ClientExchangeRecord, error: str, redaction: Redaction) -> dict[str, Any]:
    timings = _timings(exchange)
    # The sum that the form asks for: TLS is in "connect" already.
    total = sum(value for name, value in timings.items() if name != "ssl" and value != _NOT_APPLICABLE)
    entry: dict[str, Any] = {
        "startedDateTime": datetime.fromtimestamp(exchange.started_at, UTC).isoformat(
            timespec="milliseconds"
        ),
        "time": round(total, 3),
        "request": _request(exchange, redaction),
        "response": _response(exchange, error, redaction),
        "cache": {},
        "timings": timings,
    }
    if exchange.connection is not None:
        entry["connection"] = str(exchange.connection.id)
        if (address := _ip(exchange.connection.address)) is not None:
            entry["serverIPAddress"] = address
    entry["_outcome"] = exchange.outcome
    entry["_mayHaveActed"] = exchange.may_have_acted
    entry["_fate"] = exchange.fate
    entry["_because"] = exchange.because
    entry["_requestNumber"] = exchange.request_number
    entry["_attempt"] = exchange.attempt
    entry["_interims"] = list(exchange.interims)
    return entry


# ------------------------------------------------------------------------------------------------- messages


def _request(exchange: ClientExchangeRecord, redaction: Redaction) -> dict[str, Any]:
    fields = redaction.of(exchange.headers.raw)
    return {
        "method": exchange.method,
        "url": exchange.url,
        "httpVersion": "HTTP/1.1",
        "cookies": _cookies(fields),
        "headers": _named(fields),
        "queryString": _named(parse_qsl(exchange.target.partition("?")[2], keep_blank_values=True)),
        "headersSize": _head_bytes(exchange) if exchange.head_sent else _UNKNOWN,
        "bodySize": exchange.request_bytes,
    }


def _head_bytes(exchange: ClientExchangeRecord) -> int:
    """Return the length of the request's head, which is as our own writer made it (RFC 9112 §3, §5)."""
    request_line = len(exchange.method) + len(exchange.target) + len("  HTTP/1.1\r\n")
    return request_line + sum(len(name) + len(value) + 4 for name, value in exchange.headers.raw) + 2


def _response(exchange: ClientExchangeRecord, error: str, redaction: Redaction) -> dict[str, Any]:
    headers = exchange.response_headers
    fields = [] if headers is None else redaction.of(headers.raw)
    content_type = None if headers is None else headers.get("content-type")
    content: dict[str, Any] = {
        "size": exchange.response_bytes if exchange.decoded_bytes is None else exchange.decoded_bytes,
        "mimeType": "x-unknown" if content_type is None else content_type,
    }
    if exchange.decoded_bytes is not None:
        content["compression"] = exchange.decoded_bytes - exchange.response_bytes
    response = {
        "status": exchange.status or 0,  # as browsers write it when no response came
        "statusText": exchange.reason or "",
        "httpVersion": "" if exchange.http_version is None else f"HTTP/{exchange.http_version}",
        "cookies": _set_cookies(fields),
        "headers": _named(fields),
        "content": content,
        "redirectURL": "" if headers is None else headers.get("location", ""),
        # The peer's own spaces are not kept, so its head cannot be counted.
        "headersSize": _UNKNOWN,
        "bodySize": _UNKNOWN if exchange.status is None else exchange.response_bytes,
    }
    if error:
        response["_error"] = error
    return response


def _named(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]


def _cookies(fields: list[tuple[str, str]]) -> list[dict[str, str]]:
    """Return the cookies of the Cookie fields (RFC 6265 §4.2.1)."""
    pairs = [pair for name, value in fields if name.lower() == "cookie" for pair in value.split(";")]
    return _named((name.strip(), value.strip()) for name, _, value in (pair.partition("=") for pair in pairs))


def _set_cookies(fields: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [_set_cookie(value) for name, value in fields if name.lower() == "set-cookie"]


def _set_cookie(value: str) -> dict[str, Any]:
    """Return one Set-Cookie field (RFC 6265 §4.1.1), as far as it can be understood."""
    pair, *attributes = value.split(";")
    name, _, text = pair.partition("=")
    cookie: dict[str, Any] = {
        "name": name.strip(), "value": text.strip(), "httpOnly": False, "secure": False,
    }  # fmt: skip
    for attribute in attributes:
        key, _, text = attribute.partition("=")
        text = text.strip()
        match key.strip().lower():
            case "path":
                cookie["path"] = text
            case "domain":
                cookie["domain"] = text
            case "httponly":
                cookie["httpOnly"] = True
            case "secure":
                cookie["secure"] = True
            case "expires":
                try:
                    cookie["expires"] = parsedate_to_datetime(text).isoformat()
                except (ValueError, OverflowError):
                    pass  # no date that a reader could use; it is in the headers as it came
    return cookie


# -------------------------------------------------------------------------------------------------- timings


def _timings(exchange: ClientExchangeRecord) -> dict[str, float]:
    """Return how long each phase took, in ms; together they are the exchange's whole duration.

    Phases do not overlap in this form, while an answer may come within an upload here: then what follows the
    upload, or its end, is "receive", and "wait" is 0.
    """
    leased = exchange.finished if exchange.leased is None else exchange.leased
    dns = connect = ssl = 0.0
    dialed = exchange.number == 1 and exchange.connection is not None
    if dialed:
        assert exchange.connection is not None
        dns, connect, ssl = _dial_phases(exchange.connection, exchange.started, leased)
    sent, first_byte, finished = exchange.sent, exchange.first_byte, exchange.finished
    if sent is None:
        sent = finished if first_byte is None else first_byte
    if exchange.leased is None:
        sent = leased
    answered = finished if first_byte is None else max(first_byte, sent)
    return {
        "blocked": _ms(leased - exchange.started - dns - connect),
        "dns": _ms(dns) if dns else _NOT_APPLICABLE,
        "connect": _ms(connect) if connect else _NOT_APPLICABLE,
        "ssl": _ms(ssl) if ssl else _NOT_APPLICABLE,
        "send": _ms(sent - leased),
        "wait": _ms(answered - sent),
        "receive": _ms(finished - answered),
    }


def _dial_phases(dial: DialRecord, begin: float, end: float) -> tuple[float, float, float]:
    """Return how much of a wait, from ``begin`` to ``end``, went to name, connection and TLS, in seconds.

    A dial may have begun before the request that got its connection: what was done by then cost it nothing.
    TLS is also in the connection's part, as the form has it.
    """

    def within(since: float, until: float | None) -> float:
        return 0.0 if until is None else max(0.0, min(until, end) - max(since, begin))

    resolved = dial.started if dial.resolved is None else dial.resolved
    below = max(instant for instant in (resolved, dial.connected, dial.proxied) if instant is not None)
    return (
        within(dial.started, dial.resolved),
        within(resolved, dial.finished),
        within(below, dial.secured),
    )


def _ms(seconds: float) -> float:
    # To the microsecond. What rounding leaves of a difference that should be 0 must not become "not
    # applicable".
    return max(0.0, round(seconds * 1000, 3))


def _ip(address: str | None) -> str | None:
    """Return an address if it is one of IP, and no path of a Unix socket."""
    try:
        ipaddress.ip_address(address or "")
    except ValueError:
        return None
    return address
