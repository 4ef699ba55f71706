"""Who watches a client: what they are told, what a record says, and what the guide shows (C61, C62, N16)."""

from __future__ import annotations

import contextlib
import logging
import pickle
import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.instruments.client_support import CLOSING, DIAL, EXCHANGE, WAITING, dial, exchange
from trio_http.instruments import (
    AccessLog,
    ClientExchangeRecord,
    ClientInstrument,
    ClientInstruments,
    DialRecord,
    HarRecorder,
    Instruments,
)

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "watch-a-client.md").read_text("utf-8")


class Everything(ClientInstrument):
    """Keeps what it is told, under its own name, in a list that several may share."""

    def __init__(self, told: list[tuple[Any, ...]], name: str = "") -> None:
        self.told = told
        self.name = name

    def tell(self, *what: Any) -> None:
        self.told.append((self.name, *what) if self.name else what)

    def dial_finished(self, dial: DialRecord) -> None:
        self.tell("dialed", dial)

    def connection_closed(self, closing: Any) -> None:
        self.tell("closed", closing)

    def exchange_started(self, request_number: int, attempt: int, method: str, url: str) -> None:
        self.tell("started", request_number, attempt, method, url)

    def exchange_finished(self, exchange: ClientExchangeRecord) -> None:
        self.tell("finished", exchange)


def tell_everything(instruments: ClientInstruments) -> None:
    instruments.exchange_started(8, 1, "POST", EXCHANGE.url)
    instruments.dial_finished(DIAL)
    instruments.exchange_finished(EXCHANGE)
    instruments.connection_closed(CLOSING)


# ------------------------------------------------------------------------------------------- the collection


def test_an_instrument_is_told_everything_in_order() -> None:
    """C61."""
    told: list[tuple[Any, ...]] = []
    tell_everything(ClientInstruments([Everything(told)]))
    assert told == [
        ("started", 8, 1, "POST", EXCHANGE.url),
        ("dialed", DIAL),
        ("finished", EXCHANGE),
        ("closed", CLOSING),
    ]


def test_instruments_are_called_in_the_order_in_which_they_were_given() -> None:
    told: list[tuple[Any, ...]] = []
    ClientInstruments([Everything(told, "b"), Everything(told, "a")]).dial_finished(DIAL)
    assert [name for name, *_ in told] == ["b", "a"]


def test_without_instruments_the_collection_is_false_and_wants_no_records() -> None:
    for instruments in (ClientInstruments(), ClientInstruments([ClientInstrument()])):
        assert not instruments
        assert not instruments.watches_starts
        assert not instruments.watches_exchanges
        tell_everything(instruments)


@pytest.mark.parametrize(
    ("hook", "starts", "ends"),
    [("exchange_started", True, False), ("exchange_finished", False, True), ("dial_finished", False, False)],
)
def test_the_collection_knows_which_records_are_worth_making(hook: str, starts: bool, ends: bool) -> None:
    wanting = type("Wanting", (ClientInstrument,), {hook: lambda self, *args: None})
    instruments = ClientInstruments([wanting()])
    assert instruments
    assert (instruments.watches_starts, instruments.watches_exchanges) == (starts, ends)


def test_an_instrument_that_fails_is_logged_and_dropped_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Everything):
        def dial_finished(self, dial: DialRecord) -> None:
            raise error

    error = RuntimeError("a broken instrument")
    told: list[tuple[Any, ...]] = []
    instruments = ClientInstruments([Broken(told, "broken"), Everything(told, "whole")])
    tell_everything(instruments)
    assert [name for name, *_ in told] == ["broken", "whole", "whole", "whole", "whole"]
    assert instruments
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("trio_http.instruments", logging.ERROR)
    assert "dial_finished" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_the_last_instrument_that_fails_leaves_the_collection_false(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ClientInstrument):
        def exchange_finished(self, exchange: ClientExchangeRecord) -> None:
            raise RuntimeError

    instruments = ClientInstruments([Broken()])
    instruments.exchange_finished(EXCHANGE)
    assert not instruments
    assert not instruments.watches_exchanges
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_must_end_the_program_passes(error: type[BaseException]) -> None:
    class Ending(ClientInstrument):
        def exchange_finished(self, exchange: ClientExchangeRecord) -> None:
            raise error

    with pytest.raises(error):
        ClientInstruments([Ending()]).exchange_finished(EXCHANGE)


def test_a_servers_instrument_is_none_of_a_clients_and_the_reverse() -> None:
    with pytest.raises(TypeError, match=r"list of ClientInstrument, and <.*AccessLog.* is none$"):
        ClientInstruments([AccessLog()])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"list of ServerInstrument, and <.*HarRecorder.* is none$"):
        Instruments([HarRecorder()])  # type: ignore[list-item]


def test_an_async_method_and_an_instrument_given_twice_are_refused() -> None:
    class Async(ClientInstrument):
        async def exchange_finished(self, exchange: ClientExchangeRecord) -> None:  # type: ignore[override]
            raise AssertionError("awaited")

    with pytest.raises(TypeError, match=r"exchange_finished of .* is async"):
        ClientInstruments([Async()])
    twice = Everything([])
    with pytest.raises(ValueError, match="given twice"):
        ClientInstruments([twice, twice])


# -------------------------------------------------------------------------------------------------- records


@pytest.mark.parametrize(
    "record", [DIAL, EXCHANGE, CLOSING, WAITING], ids=lambda record: type(record).__name__
)
def test_a_record_is_data_that_cannot_be_changed_and_can_be_pickled(record: Any) -> None:
    assert pickle.loads(pickle.dumps(record)) == record
    assert not hasattr(record, "__dict__")
    for field in attrs.fields(type(record)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(record, field.name, None)


def test_a_dial_says_how_long_each_of_its_parts_took() -> None:
    """C62."""
    parts = (DIAL.resolve_seconds, DIAL.connect_seconds, DIAL.proxy_seconds, DIAL.tls_seconds)
    assert parts == (0.125, 0.25, 0.125, 0.5)
    assert DIAL.duration == sum(filter(None, parts)) == 1.0


def test_a_part_that_a_dial_did_not_have_is_none_and_counts_towards_none() -> None:
    straight = dial(proxied=None, resolved=None)
    assert (straight.resolve_seconds, straight.proxy_seconds) == (None, None)
    assert (straight.connect_seconds, straight.tls_seconds) == (0.375, 0.625)
    given = dial(resolved=None, connected=None, proxied=None)
    assert (given.connect_seconds, given.tls_seconds) == (None, 1.0)


def test_a_dial_was_made_or_has_failed_or_was_abandoned() -> None:
    assert not DIAL.abandoned
    assert not dial(id=None, error=OSError("refused")).abandoned
    assert dial(id=None).abandoned


def test_an_exchange_says_how_long_it_waited_and_took() -> None:
    """C62."""
    assert (EXCHANGE.wait_seconds, EXCHANGE.first_byte_seconds, EXCHANGE.duration) == (1.0, 1.75, 2.75)
    assert (WAITING.wait_seconds, WAITING.first_byte_seconds, WAITING.duration) == (5.0, None, 5.0)


def test_an_exchange_that_never_had_a_connection_says_so() -> None:
    """N16: the least that a cancelled request's record says, without the client's saying anything of it."""
    assert (WAITING.number, WAITING.reused, WAITING.fate, WAITING.connection) == (0, False, "none", None)
    assert (WAITING.bytes_sent, WAITING.head_sent, WAITING.may_have_acted) == (0, False, False)
    assert not WAITING.request_complete


def test_a_connection_is_reused_from_its_second_exchange_on() -> None:
    assert [exchange(number=number).reused for number in (1, 2, 3)] == [False, True, True]


# ------------------------------------------------------------------------------------------------ the guide


def program(heading: str) -> dict[str, Any]:
    """The names that the program under a heading of the guide defines."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    (source,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "a_program_of_the_guide"}
    exec(compile(source, "watch-a-client.md", "exec"), names)
    return names


def test_the_guides_log_tells_of_slow_exchanges_only(caplog: pytest.LogCaptureFixture) -> None:
    slow = program("Log what is slow, and why")["SlowRequests"]
    for limit in (2.0, 3.0):
        ClientInstruments([slow(limit)]).exchange_finished(EXCHANGE)
    assert caplog.messages == [
        f"POST {EXCHANGE.url} took 2.750 s: 1.000 s for a connection (new), first byte after 1.75 s"
    ]


def test_the_guides_doubts_are_about_what_may_have_been_done() -> None:
    """N16."""
    doubts = program("Know what a cancel left behind")["InDoubt"]()
    instruments = ClientInstruments([doubts])
    cut = exchange(outcome="cancelled", status=None)
    for each in (EXCHANGE, WAITING, cut, attrs.evolve(cut, may_have_acted=False)):
        instruments.exchange_finished(each)
    assert doubts.exchanges == [cut]


def test_the_guides_counts_count() -> None:
    counts = program("Count")["Counts"]()
    instruments = ClientInstruments([counts])
    tell_everything(instruments)
    instruments.exchange_finished(exchange(number=2))
    instruments.dial_finished(dial(id=None))
    instruments.dial_finished(dial(id=None, error=OSError("refused")))
    instruments.connection_closed(attrs.evolve(CLOSING, why="cancelled: sending"))
    assert counts.dials == {"made": 1, "abandoned": 1, "failed": 1}
    assert counts.exchanges == {"on a new connection": 1, "on a used connection": 1}
    assert counts.closes == {"idle": 1, "cancelled": 1}


def test_the_guides_orders_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    names = program("Follow a request through a program")
    token = names["order_id"].set("17")
    with contextlib.ExitStack() as stack:
        stack.callback(names["order_id"].reset, token)
        ClientInstruments([names["ByOrder"]()]).exchange_finished(EXCHANGE)
    ClientInstruments([names["ByOrder"]()]).exchange_finished(WAITING)
    assert capsys.readouterr().out.splitlines() == [
        f"order 17: POST {EXCHANGE.url}: 201",
        "order -: GET https://example.org/: cancelled",
    ]


def test_the_guide_names_only_what_there_is() -> None:
    """Its tables of methods and of attributes, read as they stand."""
    records = (DIAL, EXCHANGE, CLOSING)
    known = {name for record in records for name in dir(record)} | set(dir(ClientInstrument))
    last_columns = re.findall(r"^\|.*\| ([^|]*) \|$", GUIDE.partition("## If you know")[2], re.MULTILINE)
    named = {name for column in last_columns for name in re.findall(r"`(\w+)`", column)}
    (doubts,) = re.findall(r"^\| attribute \|.*\n\|[-|]+\n((?:\|.*\n)+)", GUIDE, re.MULTILINE)
    for row in doubts.splitlines():
        named |= set(re.findall(r"`(\w+)`", row.split("|")[1]))
    methods = set(re.findall(r"^\| `(\w+)` \| (?:before|when)", GUIDE, re.MULTILINE))
    assert methods == {name for name in vars(ClientInstrument) if not name.startswith("_")}
    assert len(named) > 20
    assert named <= known
