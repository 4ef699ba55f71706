"""The access log: each form, whatever the client sends, through whichever logger."""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.instruments.support import EXCHANGE, STARTED_AT, connection, exchange
from trio_http import Headers, HTTPException
from trio_http.instruments import AccessLog, ExchangeRecord, Instruments
from trio_http.wire import Headers as WireHeaders

# One field, a blank, and so on: what readers of such logs look for. A quoted field has no bare quote inside.
QUOTED = r'"((?:[^"\\]|\\.)*)"'
COMMON = re.compile(rf"(\S+) - - \[([^\]]+)\] {QUOTED} (\d{{3}}) (\d+|-)")
COMBINED = re.compile(rf"{COMMON.pattern} {QUOTED} {QUOTED}")


class Kept(logging.Handler):
    """Keeps the records that it handles."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def own_logger(level: int = logging.INFO) -> tuple[logging.Logger, Kept]:
    """A logger that nobody else has, and what it was given."""
    logger = logging.Logger("tests.access", level)
    logger.addHandler(kept := Kept())
    return logger, kept


def line(form: Any, record: ExchangeRecord) -> str:
    logger, kept = own_logger()
    AccessLog(form, logger=logger).exchange_finished(record)
    (logged,) = kept.records
    return logged.getMessage()


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A function that moves this process to a time zone, given as POSIX writes it, until the test ends."""

    def move(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


# -------------------------------------------------------------------------------------------------- the forms


def test_the_common_form_is_apaches(in_zone: Callable[[str], None]) -> None:
    in_zone("UTC0")
    assert line("common", EXCHANGE) == (
        '192.0.2.1 - - [23/Nov/2026:04:49:45 +0000] "GET /hello?you=1 HTTP/1.1" 200 13'
    )


def test_the_combined_form_adds_who_referred_and_with_what(in_zone: Callable[[str], None]) -> None:
    in_zone("UTC0")
    assert line("combined", EXCHANGE) == (
        '192.0.2.1 - - [23/Nov/2026:04:49:45 +0000] "GET /hello?you=1 HTTP/1.1" 200 13'
        ' "http://example.org/start" "curl/8.14.1"'
    )


def test_the_json_form_is_an_object_with_everything() -> None:
    assert json.loads(line("json", EXCHANGE)) == {
        "time": "2026-11-23T04:49:45.125Z",
        "client": "192.0.2.1",
        "method": "GET",
        "target": "/hello?you=1",
        "version": "1.1",
        "status": 200,
        "request_bytes": 0,
        "response_bytes": 13,
        "duration": 0.25,
        "host": "example.org",
        "referer": "http://example.org/start",
        "user_agent": "curl/8.14.1",
        "connection": 7,
        "exchange": 1,
        "tls": None,
        "cancel_reason": None,
        "error": None,
    }


def test_what_is_absent_is_a_dash_and_null() -> None:
    bare = exchange(headers=Headers(), client=None, connection=connection(peername=None), response_bytes=0)
    match = COMBINED.fullmatch(line("combined", bare))
    assert match is not None
    assert match.group(1, 5, 6, 7) == ("-", "-", "-", "-")
    found = json.loads(line("json", bare))
    assert [found[key] for key in ("client", "host", "referer", "user_agent")] == [None] * 4
    assert found["response_bytes"] == 0


def test_the_facts_that_only_json_has_are_there() -> None:
    group = ExceptionGroup("m", [ValueError("secret"), ExceptionGroup("n", [OSError(1, "x"), KeyError()])])
    found = json.loads(
        line(
            "json",
            exchange(connection=connection(tls="TLSv1.3"), number=3, cancel_reason="drain", error=group),
        )
    )
    assert (found["tls"], found["exchange"], found["cancel_reason"]) == ("TLSv1.3", 3, "drain")
    assert found["error"] == "ExceptionGroup(ValueError, ExceptionGroup(PermissionError, KeyError))"
    assert json.loads(line("json", exchange(error=HTTPException(404))))["error"] == "HTTPException"


@pytest.mark.parametrize("form", ["common", "combined", "json"])
def test_no_form_shows_credentials_or_the_text_of_an_error(form: str) -> None:
    headers = Headers({"Authorization": "Basic c2VjcmV0", "Cookie": "id=secret"})
    assert "secret" not in line(form, exchange(headers=headers, error=ValueError("secret")))
    assert "c2VjcmV0" not in line(form, exchange(headers=headers))


@pytest.mark.parametrize(
    ("client", "peername", "shown"),
    [
        ("198.51.100.7", ("192.0.2.1", 1), "198.51.100.7"),
        (None, ("192.0.2.1", 1), "192.0.2.1"),
        (None, ("2001:db8::1", 1, 0, 0), "2001:db8::1"),
        (None, "/run/client.sock", "/run/client.sock"),
        (None, "", "-"),
        (None, None, "-"),
        ("", ("192.0.2.1", 1), "-"),
        (None, b"\0abstract", r"\x00abstract"),
        ("a \nb", None, r"a\x20\nb"),
    ],
)
def test_the_client_is_the_one_behind_trusted_proxies_or_else_the_peer(
    client: str | None, peername: Any, shown: str
) -> None:
    record = exchange(client=client, connection=connection(peername=peername))
    assert line("common", record).startswith(f"{shown} - - [")
    assert escaped_or_dash(json.loads(line("json", record))["client"]) == shown


def escaped_or_dash(client: str | None) -> str:
    return "-" if client is None else client.replace("\0", r"\x00").replace(" ", r"\x20").replace("\n", r"\n")


@pytest.mark.parametrize(
    ("status", "cancel_reason", "shown"),
    [
        (404, None, "404"),
        (101, None, "101"),
        (200, "client disconnected", "200"),
        (None, "client disconnected", "499"),
        (None, "drain", "000"),
        (None, None, "000"),
    ],
)
def test_an_exchange_without_an_answer_has_nginxs_numbers_and_in_json_null(
    status: int | None, cancel_reason: str | None, shown: str
) -> None:
    record = exchange(status=status, cancel_reason=cancel_reason)
    match = COMMON.fullmatch(line("common", record))
    assert match is not None
    assert match[4] == shown
    assert json.loads(line("json", record))["status"] == status


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no form 'apache'.*common, combined, json"):
        AccessLog("apache")  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------- the time


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC0", "23/Nov/2026:04:49:45 +0000"),
        ("IST-5:30", "23/Nov/2026:10:19:45 +0530"),
        ("NST3:30NDT,M3.2.0,M11.1.0", "23/Nov/2026:01:19:45 -0330"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "23/Nov/2026:05:49:45 +0100"),
    ],
)
def test_apaches_forms_have_local_time_with_its_zone_and_json_has_utc(
    zone: str, shown: str, in_zone: Callable[[str], None]
) -> None:
    in_zone(zone)
    assert f"[{shown}]" in line("common", EXCHANGE)
    assert json.loads(line("json", EXCHANGE))["time"] == "2026-11-23T04:49:45.125Z"


@given(st.floats(min_value=0, max_value=4e9))
@example(999.9996)
@example(1.001)
def test_times_name_the_second_and_in_json_the_nearest_millisecond(started_at: float) -> None:
    found = COMMON.fullmatch(line("common", exchange(started_at=started_at)))
    assert found is not None
    assert datetime.strptime(found[2], "%d/%b/%Y:%H:%M:%S %z").timestamp() == int(started_at)
    at = json.loads(line("json", exchange(started_at=started_at)))["time"]
    assert len(at) == len("2026-11-23T04:49:45.125Z")
    # Half a millisecond, and what a float of this size cannot tell.
    assert datetime.fromisoformat(at).astimezone(UTC).timestamp() == pytest.approx(started_at, abs=0.000501)


def test_one_log_writes_many_seconds_in_any_order() -> None:
    logger, kept = own_logger()
    log = AccessLog("json", logger=logger)
    seconds = [0, 0, 1, 0, 59, 60]
    for second in seconds:
        log.exchange_finished(exchange(started_at=STARTED_AT - 45 + second))
    times = [json.loads(record.getMessage())["time"] for record in kept.records]
    assert [at[11:19] for at in times] == [f"04:{49 + second // 60}:{second % 60:02}" for second in seconds]


# -------------------------------------------------------------------------------------------- what is escaped

PEERS_TEXT = st.binary(max_size=30).map(lambda data: data.decode("latin-1"))


@given(target=PEERS_TEXT, agent=PEERS_TEXT, referer=PEERS_TEXT, client=PEERS_TEXT)
@example(target='/" 200 1\r\n::1 - - [] "', agent="\x1b[2J\x7f\x85", referer="\\", client="x - - [ \n")
@example(target="/100%s%(x)d", agent="%", referer="{}", client="%n")
def test_whatever_the_client_sends_stays_in_its_field(
    target: str, agent: str, referer: str, client: str
) -> None:
    # The wire itself lets no control characters in unless a leniency does; the log does not lean on that.
    headers = Headers._wrap(UncheckedHeaders({"user-agent": agent, "referer": referer}))
    record = exchange(target=target, headers=headers, client=client)

    for form, pattern in (("common", COMMON), ("combined", COMBINED)):
        shown = line(form, record)
        assert shown.isascii()
        assert shown.isprintable()
        match = pattern.fullmatch(shown)
        assert match is not None
        assert match.group(4, 5) == ("200", "13")
        assert match[3].startswith("GET ")
        assert match[3].endswith(" HTTP/1.1")

    shown = line("json", record)
    assert shown.isascii()
    assert shown.isprintable()
    found = json.loads(shown)
    assert (found["target"], found["client"] or "") == (target, client)
    assert (found["user_agent"], found["referer"]) == (agent, referer)


class UncheckedHeaders(WireHeaders):
    """A header section with values that the wire would refuse."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__()
        self.values = values

    def get(self, name: Any, default: Any = None) -> Any:
        value = self.values.get(name)
        return default if value is None else value.encode("latin-1")


# ------------------------------------------------------------------------------------------ through `logging`


def test_the_log_goes_to_its_own_logger_by_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_http.access")
    AccessLog("common").exchange_finished(EXCHANGE)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("trio_http.access", logging.INFO)
    assert record.exchange is EXCHANGE  # type: ignore[attr-defined]
    assert not record.args


def test_a_logger_that_is_not_enabled_costs_no_line() -> None:
    logger, kept = own_logger(logging.WARNING)

    class Untouchable:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"looked at {name}")

    AccessLog(logger=logger).exchange_finished(Untouchable())  # type: ignore[arg-type]
    assert kept.records == []


def test_a_filter_of_the_logger_sees_the_exchange_and_decides() -> None:
    logger, kept = own_logger()
    logger.addFilter(lambda record: record.exchange.target != "/health")  # type: ignore[attr-defined]
    log = AccessLog(logger=logger)
    for target in ("/health", "/hello"):
        log.exchange_finished(exchange(target=target))
    assert [record.exchange.target for record in kept.records] == ["/hello"]  # type: ignore[attr-defined]


def test_the_line_is_formatted_as_any_other_message_is() -> None:
    logger, kept = own_logger()
    AccessLog("common", logger=logger).exchange_finished(exchange(target="/100%s"))
    shown = logging.Formatter("%(levelname)s %(name)s %(message)s").format(kept.records[0])
    assert shown.startswith("INFO tests.access 192.0.2.1 - - [")
    assert '"GET /100%s HTTP/1.1"' in shown


def test_a_record_can_go_through_a_queue_to_a_slow_handler() -> None:
    logger, kept = own_logger()
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    logger.handlers = [logging.handlers.QueueHandler(waiting)]
    AccessLog(logger=logger).exchange_finished(EXCHANGE)
    kept.handle(waiting.get_nowait())
    assert kept.records[0].exchange == EXCHANGE  # type: ignore[attr-defined]
    assert "curl/8.14.1" in kept.records[0].getMessage()


def test_the_log_asks_only_for_the_ends_of_exchanges() -> None:
    logger, kept = own_logger()
    instruments = Instruments([AccessLog(logger=logger)])
    assert instruments.watches_exchanges
    instruments.connection_opened(EXCHANGE.connection)
    instruments.exchange_started(EXCHANGE.connection, 1, "GET", "/")
    instruments.exchange_finished(exchange(error=ValueError(), status=500))
    assert len(kept.records) == 1
