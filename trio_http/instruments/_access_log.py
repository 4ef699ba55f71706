"""An access log: a line for each exchange, through `logging`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from typing import Final, Literal, TypeAlias

from ._escape import escape_bare, escape_quoted
from ._instruments import ServerInstrument
from ._records import ExchangeRecord

LogForm: TypeAlias = Literal["common", "combined", "json"]

# English in every locale, as Apache writes them.
_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()

# What stands for the status of an exchange that got no answer: nginx's numbers, which the readers of logs
# know. No status code is below 100 (RFC 9110 §15), and none is registered for 499.
_CLIENT_LEFT: Final = "499"
_NO_ANSWER: Final = "000"


class AccessLog(ServerInstrument):
    """Log each exchange when it is over, as one line, at level INFO.

    The line is the message of a record of `logging`, whose attribute ``exchange`` is the `ExchangeRecord`,
    for filters and formatters of your own. `logging` shows nothing below WARNING until it is told to, and its
    default format puts words before the message; ``docs/how-to/watch-a-server.md`` sets it up, also for
    handlers that are slow. ``docs/reference/access-log.md`` has each form in full.

    Whatever comes from the client is escaped: a line is one line of printable ASCII.

    Args:
      form: ``"common"`` and ``"combined"`` are Apache's; ``"json"`` is an object a line.
      logger: where it is logged; None for the one named ``"trio_http.access"``.

    Raises:
      ValueError: there is no such form.
    """

    __slots__ = ("_clock", "_line", "_logger")

    def __init__(self, form: LogForm = "combined", *, logger: logging.Logger | None = None) -> None:
        lines: dict[str, tuple[Callable[[ExchangeRecord], str], Callable[[int], str]]] = {
            "common": (self._common, _apache_time),
            "combined": (self._combined, _apache_time),
            "json": (self._json, _utc_time),
        }
        if form not in lines:
            raise ValueError(f"no form {form!r} (expected one of {', '.join(lines)})")
        self._line, stamp = lines[form]
        self._clock = _SecondHand(stamp)
        self._logger = logging.getLogger("trio_http.access") if logger is None else logger

    def exchange_finished(self, exchange: ExchangeRecord) -> None:
        """Log the exchange, if the logger is enabled for INFO."""
        logger = self._logger
        if not logger.isEnabledFor(logging.INFO):
            return
        # Made and handled here, for `Logger.info` would look for its caller on the stack, find the server's
        # code, and take as long over that as we take over the line.
        logger.handle(
            logger.makeRecord(
                logger.name,
                logging.INFO,
                "access log",
                0,
                self._line(exchange),
                (),
                None,
                "exchange_finished",
                {"exchange": exchange},
            )
        )

    def _common(self, exchange: ExchangeRecord) -> str:
        request_line = f"{exchange.method} {exchange.target} HTTP/{exchange.http_version}"
        return (
            f"{escape_bare(_host(exchange) or '-')} - - [{self._clock.at(int(exchange.started_at))}]"
            f' "{escape_quoted(request_line)}" {_status(exchange)} {exchange.response_bytes or "-"}'
        )

    def _combined(self, exchange: ExchangeRecord) -> str:
        headers = exchange.headers
        referer, user_agent = headers.get("referer", "-"), headers.get("user-agent", "-")
        return f'{self._common(exchange)} "{escape_quoted(referer)}" "{escape_quoted(user_agent)}"'

    def _json(self, exchange: ExchangeRecord) -> str:
        headers, connection = exchange.headers, exchange.connection
        # Rounded first, or 0.9996 s would be the wrong second.
        second, thousandths = divmod(round(exchange.started_at * 1000), 1000)
        # Put together by hand: `json.dumps` takes three times as long, and most of it for what never changes.
        return (
            f'{{"time":"{self._clock.at(second)}.{thousandths:03}Z"'
            f',"client":{_json_text(_host(exchange) or None)}'
            f',"method":{_json_text(exchange.method)},"target":{_json_text(exchange.target)}'
            f',"version":{_json_text(exchange.http_version)}'
            f',"status":{"null" if exchange.status is None else exchange.status}'
            f',"request_bytes":{exchange.request_bytes},"response_bytes":{exchange.response_bytes}'
            f',"duration":{exchange.duration:.6f},"host":{_json_text(headers.get("host"))}'
            f',"referer":{_json_text(headers.get("referer"))}'
            f',"user_agent":{_json_text(headers.get("user-agent"))}'
            f',"connection":{connection.id},"exchange":{exchange.number},"tls":{_json_text(connection.tls)}'
            f',"cancel_reason":{_json_text(exchange.cancel_reason)}'
            f',"error":{_json_text(None if exchange.error is None else _error_name(exchange.error))}}}'
        )


class _SecondHand:
    """Writes seconds as text, and the same second only once.

    Args:
      stamp: writes a second since 1970.
    """

    __slots__ = ("_second", "_stamp", "_text")

    def __init__(self, stamp: Callable[[int], str]) -> None:
        self._stamp = stamp
        self._second: int | None = None
        self._text = ""

    def at(self, second: int) -> str:
        if second != self._second:
            self._second = second
            self._text = self._stamp(second)
        return self._text


def _json_text(text: str | None) -> str:
    """Write a string, or null: all but printable ASCII is escaped (RFC 8259 §7)."""
    return "null" if text is None else encode_basestring_ascii(text)


def _apache_time(second: int) -> str:
    """Write local time with its zone, as ``23/Nov/2026:04:49:45 +0000``."""
    there = time.localtime(second)
    offset = there.tm_gmtoff // 60  # in minutes; a zone has no seconds since the 1970s
    hours, minutes = divmod(abs(offset), 60)
    return (
        f"{there.tm_mday:02}/{_MONTHS[there.tm_mon - 1]}/{there.tm_year:04}"
        f":{there.tm_hour:02}:{there.tm_min:02}:{there.tm_sec:02}"
        f" {'-' if offset < 0 else '+'}{hours:02}{minutes:02}"
    )


def _utc_time(second: int) -> str:
    """Write UTC as RFC 3339 has it, without fraction and zone, as ``2026-11-23T04:49:45``."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _host(exchange: ExchangeRecord) -> str:
    """Return the client's host, or the path of its Unix socket; empty when it has neither."""
    if exchange.client is not None:
        return exchange.client
    peername = exchange.connection.peername
    if isinstance(peername, tuple):
        return str(peername[0])
    return os.fsdecode(peername or "")  # in Linux's abstract namespace, which peers choose, a name is bytes


def _status(exchange: ExchangeRecord) -> int | str:
    if exchange.status is not None:
        return exchange.status
    return _CLIENT_LEFT if exchange.cancel_reason == "client disconnected" else _NO_ANSWER


def _error_name(error: BaseException) -> str:
    """Name an error, and those in a group. Not their texts: secrets and the peer's words may stand there."""
    name = type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        return f"{name}({', '.join(map(_error_name, error.exceptions))})"
    return name
