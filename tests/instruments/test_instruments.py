"""The collection of instruments: who is called, in which order, and what one that breaks does to the rest."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import attrs
import pytest

from tests.instruments.support import CLOSING, CONNECTION, EXCHANGE, exchange
from trio_http.instruments import ConnectionRecord, ExchangeRecord, Instruments, ServerInstrument
from trio_http.transport import Address


class Everything(ServerInstrument):
    """Keeps what it is told, under its own name, in a list that several may share."""

    def __init__(self, told: list[tuple[Any, ...]], name: str = "") -> None:
        self.told = told
        self.name = name

    def tell(self, *what: Any) -> None:
        self.told.append((self.name, *what) if self.name else what)

    def connection_opened(self, connection: ConnectionRecord) -> None:
        self.tell("opened", connection)

    def connection_closed(self, closing: Any) -> None:
        self.tell("closed", closing)

    def connection_refused(self, peername: Address, why: str) -> None:
        self.tell("refused", peername, why)

    def exchange_started(self, connection: ConnectionRecord, number: int, method: str, target: str) -> None:
        self.tell("started", connection, number, method, target)

    def exchange_finished(self, exchange: ExchangeRecord) -> None:
        self.tell("finished", exchange)

    def handler_failed(self, exchange: ExchangeRecord) -> None:
        self.tell("failed", exchange)


class Ends(ServerInstrument):
    """Wants to know of the ends of exchanges only, and breaks when it is told to."""

    def __init__(self, breaks_with: BaseException | None = None) -> None:
        self.count = 0
        self.breaks_with = breaks_with

    def exchange_finished(self, exchange: ExchangeRecord) -> None:
        self.count += 1
        if self.breaks_with is not None:
            raise self.breaks_with


def tell_everything(instruments: Instruments, last: ExchangeRecord = EXCHANGE) -> None:
    instruments.connection_opened(CONNECTION)
    instruments.exchange_started(CONNECTION, 1, "GET", "/hello")
    instruments.exchange_finished(last)
    instruments.connection_closed(CLOSING)
    instruments.connection_refused(("192.0.2.9", 1), "too many connections")


def test_an_instrument_is_told_everything_in_order() -> None:
    told: list[tuple[Any, ...]] = []
    tell_everything(Instruments([Everything(told)]))
    assert told == [
        ("opened", CONNECTION),
        ("started", CONNECTION, 1, "GET", "/hello"),
        ("finished", EXCHANGE),
        ("closed", CLOSING),
        ("refused", ("192.0.2.9", 1), "too many connections"),
    ]


def test_instruments_are_called_in_the_order_in_which_they_were_given() -> None:
    told: list[tuple[Any, ...]] = []
    instruments = Instruments([Everything(told, "b"), Everything(told, "a")])
    instruments.exchange_finished(EXCHANGE)
    assert [name for name, *_ in told] == ["b", "a"]


def test_a_failure_is_told_once_and_whole_before_the_end_of_its_exchange() -> None:
    told: list[tuple[Any, ...]] = []
    group = ExceptionGroup("two", [ValueError("one"), KeyError("other")])
    failed = exchange(error=group, status=500)
    Instruments([Everything(told)]).exchange_finished(failed)
    assert told == [("failed", failed), ("finished", failed)]
    assert told[0][1].error is group


def test_no_instruments_are_false_and_may_be_told_all_the_same() -> None:
    instruments = Instruments()
    assert not instruments
    assert not instruments.watches_exchanges
    tell_everything(instruments, exchange(error=ValueError()))


def test_an_instrument_that_overrides_nothing_leaves_the_collection_false() -> None:
    assert not Instruments([ServerInstrument(), ServerInstrument()])


def test_only_the_methods_that_an_instrument_has_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base's methods are never called, not even to do nothing."""

    def never(self: ServerInstrument, *args: object) -> None:
        raise AssertionError("called")

    for name in ("connection_opened", "connection_closed", "connection_refused", "exchange_started"):
        monkeypatch.setattr(ServerInstrument, name, never)
    instruments = Instruments([ends := Ends()])
    tell_everything(instruments)
    assert ends.count == 1
    assert instruments, "a call of the base's method has failed, and has cost the instrument its place"


@pytest.mark.parametrize("hook", ["exchange_finished", "handler_failed"])
def test_the_collection_knows_whether_a_record_of_an_exchange_is_worth_making(hook: str) -> None:
    wanting = type("Wanting", (ServerInstrument,), {hook: lambda self, exchange: None})
    assert Instruments([wanting()]).watches_exchanges
    opening = type("Opening", (ServerInstrument,), {"connection_opened": lambda self, connection: None})
    assert not Instruments([opening()]).watches_exchanges


def test_a_method_set_on_the_object_counts_as_its_own() -> None:
    class Open(ServerInstrument):
        pass

    told: list[ConnectionRecord] = []
    instrument = Open()
    instrument.connection_opened = told.append  # type: ignore[method-assign]
    Instruments([instrument]).connection_opened(CONNECTION)
    assert told == [CONNECTION]


def test_an_instrument_that_fails_is_logged_and_dropped_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[tuple[Any, ...]] = []
    error = RuntimeError("a broken instrument")
    instruments = Instruments([broken := Ends(error), Everything(told), whole := Ends()])
    for _ in range(3):
        instruments.exchange_finished(EXCHANGE)
    assert (broken.count, whole.count, len(told)) == (1, 3, 3)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("trio_http.instruments", logging.ERROR)
    assert "exchange_finished" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_an_instrument_that_fails_is_dropped_from_all_of_its_methods(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Everything):
        def exchange_started(self, *args: object) -> None:
            raise RuntimeError

    told: list[tuple[Any, ...]] = []
    instruments = Instruments([Broken(told)])
    tell_everything(instruments)
    assert told == [("opened", CONNECTION)]
    assert not instruments
    assert not instruments.watches_exchanges
    assert len(caplog.records) == 1


def test_a_failure_in_the_first_hook_of_an_exchange_spares_the_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Ends):
        def handler_failed(self, exchange: ExchangeRecord) -> None:
            raise RuntimeError

    instruments = Instruments([broken := Broken(), whole := Ends()])
    instruments.exchange_finished(exchange(error=ValueError()))
    assert (broken.count, whole.count) == (0, 1)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_must_end_the_program_passes(error: type[BaseException]) -> None:
    instruments = Instruments([Ends(error())])
    with pytest.raises(error):
        instruments.exchange_finished(EXCHANGE)
    assert instruments


@pytest.mark.parametrize("wrong", [Ends, print, None, "AccessLog"])
def test_what_is_no_instrument_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="list of ServerInstrument, and "):
        Instruments([wrong])


def test_an_async_method_is_refused_for_nobody_would_await_it() -> None:
    class Async(ServerInstrument):
        async def connection_opened(self, connection: ConnectionRecord) -> None:  # type: ignore[override]
            raise AssertionError("awaited")

    with pytest.raises(TypeError, match=r"connection_opened of .* is async"):
        Instruments([Async()])


def test_an_instrument_given_twice_is_refused_for_it_would_count_double() -> None:
    ends = Ends()
    with pytest.raises(ValueError, match="given twice"):
        Instruments([ends, Ends(), ends])


@pytest.mark.parametrize("record", [CONNECTION, EXCHANGE, CLOSING], ids=lambda record: type(record).__name__)
def test_a_record_is_data_that_cannot_be_changed_and_can_be_pickled(record: Any) -> None:
    assert pickle.loads(pickle.dumps(record)) == record
    assert not hasattr(record, "__dict__")
    for field in attrs.fields(type(record)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(record, field.name, None)
