"""100-continue, and the idioms that h11's documentation teaches, on both modules."""

import importlib
from types import ModuleType

import h11
import pytest

from tests.wire.differences import row
from tests.wire.h11_scenes import CHUNKED, asked, get, taken


@pytest.fixture(params=["h11", "trio_http.wire"])
def lib(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture
def wire() -> ModuleType:
    return importlib.import_module("trio_http.wire")


# ---- 100-continue


@pytest.mark.parametrize("expect", [b"100-continue", b"100-Continue"])
def test_an_expectation_is_a_flag_until_the_server_answers(lib: ModuleType, expect: bytes) -> None:
    for status in (100, 200):
        conn = asked(lib, b"POST", b"Content-Length: 1", b"Expect: " + expect)
        assert conn.client_is_waiting_for_100_continue is True
        assert conn.they_are_waiting_for_100_continue is True
        cls = lib.InformationalResponse if status < 200 else lib.Response
        conn.send(cls(status_code=status, headers=[]))
        assert conn.client_is_waiting_for_100_continue is False
        assert conn.they_are_waiting_for_100_continue is False


def test_an_interim_response_other_than_100_leaves_an_expectation_unanswered(wire: ModuleType) -> None:
    row("EXPECTATION-ANSWER")
    for lib, waits_on in ((h11, False), (wire, True)):
        conn = asked(lib, b"POST", b"Content-Length: 1", b"Expect: 100-continue")
        conn.send(lib.InformationalResponse(status_code=103, headers=[]))
        assert conn.they_are_waiting_for_100_continue is waits_on
        conn.send(lib.InformationalResponse(status_code=100, headers=[]))
        assert conn.they_are_waiting_for_100_continue is False


def test_an_expectation_ends_when_the_client_sends_after_all(lib: ModuleType) -> None:
    conn = asked(lib, b"POST", b"Content-Length: 1", b"Expect: 100-continue")
    conn.receive_data(b"x")
    assert type(conn.next_event()) is lib.Data
    assert conn.they_are_waiting_for_100_continue is False


def test_a_client_that_expects_is_not_held_back(lib: ModuleType) -> None:
    conn = lib.Connection(lib.CLIENT)
    conn.send(get(lib, "POST", CHUNKED, ("Expect", "100-continue")))
    assert conn.client_is_waiting_for_100_continue is True
    assert conn.they_are_waiting_for_100_continue is False
    conn.send(lib.Data(b"x"))
    assert conn.client_is_waiting_for_100_continue is False


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"]
)
def test_a_waiting_client_is_told_by_any_response(lib: ModuleType, data: bytes) -> None:
    conn = lib.Connection(lib.CLIENT)
    conn.send(get(lib, "POST", CHUNKED, ("Expect", "100-continue")))
    conn.receive_data(data)
    taken(lib, conn)
    assert conn.client_is_waiting_for_100_continue is False


def test_an_http_1_0_expectation_is_ignored(lib: ModuleType) -> None:
    conn = asked(lib, b"POST", b"Content-Length: 1", b"Expect: 100-continue", version=b"1.0")
    assert conn.they_are_waiting_for_100_continue is False


# ---- whole programs


def test_a_server_drains_an_unread_body_before_the_next_cycle(lib: ModuleType) -> None:
    conn = asked(lib, b"POST", b"Content-Length: 3")
    conn.send(lib.Response(status_code=200, headers=[("Content-Length", "0")]))
    conn.send(lib.EndOfMessage())
    assert conn.states == {lib.CLIENT: lib.SEND_BODY, lib.SERVER: lib.DONE}
    conn.receive_data(b"abc")
    assert [type(event) for event in taken(lib, conn)] == [lib.Data, lib.EndOfMessage]
    conn.start_next_cycle()


def test_an_upgrade_hands_over_what_came_behind_it(lib: ModuleType) -> None:
    conn = lib.Connection(lib.SERVER)
    conn.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nfirst")
    assert [type(event) for event in taken(lib, conn)] == [lib.Request, lib.EndOfMessage]
    assert conn.next_event() is lib.PAUSED
    conn.receive_data(b" second")
    written = conn.send(lib.InformationalResponse(status_code=101, headers=[("Upgrade", "x")], reason="Go"))
    assert written == b"HTTP/1.1 101 Go\r\nUpgrade: x\r\n\r\n"
    assert conn.next_event() is lib.PAUSED
    assert conn.trailing_data == (b"first second", False)


def test_a_refused_upgrade_goes_on_as_http(lib: ModuleType) -> None:
    conn = lib.Connection(lib.SERVER)
    conn.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    conn.receive_data(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    taken(lib, conn)
    conn.send(lib.Response(status_code=200, headers=[("Content-Length", "0")]))
    conn.send(lib.EndOfMessage())
    conn.start_next_cycle()
    assert conn.next_event().target == b"/2"


def test_an_upgrade_without_the_connection_option_does_not_count_in_ours(wire: ModuleType) -> None:
    row("UPGRADE-OPTION")
    for lib, state in [(h11, h11.MIGHT_SWITCH_PROTOCOL), (wire, wire.DONE)]:
        assert asked(lib, b"GET", b"Upgrade: x").their_state is state
    for lib, state in [(h11, h11.MIGHT_SWITCH_PROTOCOL), (wire, wire.MUST_CLOSE)]:
        assert asked(lib, b"GET", b"Connection: upgrade", b"Upgrade: x", version=b"1.0").their_state is state


def test_both_ends_of_one_module_and_of_both_understand_each_other(lib: ModuleType) -> None:
    for other in (h11, importlib.import_module("trio_http.wire")):
        ours, theirs = lib.Connection(lib.CLIENT), other.Connection(other.SERVER)
        for event in (get(lib, "POST", CHUNKED), lib.Data(b"hello"), lib.EndOfMessage(headers=[("t", "1")])):
            theirs.receive_data(ours.send(event))
        assert taken(other, theirs)[1:] == [other.Data(b"hello"), other.EndOfMessage(headers=[("t", "1")])]
        for event in (other.Response(status_code=200, headers=[]), other.Data(b"ok"), other.EndOfMessage()):
            ours.receive_data(theirs.send(event))
        assert taken(lib, ours)[1:] == [lib.Data(b"ok"), lib.EndOfMessage()]
        ours.start_next_cycle()
        theirs.start_next_cycle()
