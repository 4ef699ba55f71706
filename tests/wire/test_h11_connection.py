"""`Connection` as h11's users know it: receiving, sending, errors and their aftermath; h11 is the oracle
beside ours."""

import importlib
import inspect
from types import ModuleType
from typing import Any

import h11
import pytest

from tests.wire.differences import row

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(params=["h11", "trio_http.wire"])
def lib(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture
def wire() -> ModuleType:
    return importlib.import_module("trio_http.wire")


def server(lib: ModuleType, data: bytes = b"", **options: Any) -> Any:
    conn = lib.Connection(lib.SERVER, **options)
    if data:
        conn.receive_data(data)
    return conn


def client(lib: ModuleType, method: str = "GET", **options: Any) -> Any:
    """Return a client connection whose request has gone out whole."""
    conn = lib.Connection(lib.CLIENT, **options)
    conn.send(lib.Request(method=method, target="/", headers=[("Host", "a")]))
    conn.send(lib.EndOfMessage())
    return conn


def events(lib: ModuleType, conn: Any) -> list[Any]:
    """Take every event there is, up to and with the marker (or the closing) that ends them."""
    taken: list[Any] = []
    while True:
        event = conn.next_event()
        taken.append(event)
        if event is lib.NEED_DATA or event is lib.PAUSED or type(event) is lib.ConnectionClosed:
            return taken


def fails(lib: ModuleType, conn: Any) -> Any:
    """Take events until the peer's error, check what an error leaves behind, and return it."""
    with pytest.raises(lib.RemoteProtocolError) as caught:
        for _ in range(100):
            conn.next_event()
    assert conn.their_state is lib.ERROR
    return caught.value


# ---- the object itself


def test_the_arguments_have_the_names_that_programs_use(lib: ModuleType) -> None:
    conn = lib.Connection(our_role=lib.CLIENT, max_incomplete_event_size=1000)
    assert conn.our_role is lib.CLIENT
    assert list(inspect.signature(lib.Connection).parameters)[:2] == ["our_role", "max_incomplete_event_size"]


@pytest.mark.parametrize("role", ["client", None, 1])
def test_a_role_that_is_none_is_a_value_error(lib: ModuleType, role: Any) -> None:
    with pytest.raises(ValueError):
        lib.Connection(role)
    with pytest.raises(ValueError):
        lib.Connection(lib.IDLE)


def test_a_new_connection_is_idle_on_both_sides(lib: ModuleType) -> None:
    for ours, theirs in [(lib.CLIENT, lib.SERVER), (lib.SERVER, lib.CLIENT)]:
        conn = lib.Connection(ours)
        assert (conn.our_role, conn.their_role) == (ours, theirs)
        assert conn.states == {lib.CLIENT: lib.IDLE, lib.SERVER: lib.IDLE}
        assert conn.our_state is lib.IDLE
        assert conn.their_state is lib.IDLE
        assert conn.their_http_version is None
        assert conn.client_is_waiting_for_100_continue is False
        assert conn.they_are_waiting_for_100_continue is False
        assert conn.trailing_data == (b"", False)


def test_the_states_are_a_fresh_dict_each_time(lib: ModuleType) -> None:
    conn = server(lib)
    states = conn.states
    states.clear()
    assert conn.states == {lib.CLIENT: lib.IDLE, lib.SERVER: lib.IDLE}
    assert type(conn.states) is dict


@pytest.mark.parametrize("name", ["states", "our_state", "their_state", "trailing_data"])
def test_what_is_computed_cannot_be_set(lib: ModuleType, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(server(lib), name, None)


# ---- receiving


@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview])
def test_any_bytes_can_be_received(lib: ModuleType, convert: Any) -> None:
    conn = server(lib)
    assert conn.receive_data(convert(GET)) is None
    assert type(conn.next_event()) is lib.Request


def test_received_data_is_copied_so_that_the_caller_may_reuse_its_buffer(lib: ModuleType) -> None:
    buffer = bytearray(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
    conn = server(lib)
    conn.receive_data(buffer)
    buffer[:] = b"X" * len(buffer)
    assert events(lib, conn)[1].data == b"abc"


def test_text_cannot_be_received(lib: ModuleType) -> None:
    with pytest.raises(TypeError):
        server(lib).receive_data("GET")


@pytest.mark.parametrize("end", [b"", None, bytearray(), ""])
def test_anything_empty_is_the_end_of_the_stream_and_may_be_repeated(lib: ModuleType, end: Any) -> None:
    conn = server(lib)
    conn.receive_data(end)
    conn.receive_data(end)
    assert conn.trailing_data == (b"", True)
    assert conn.next_event() == lib.ConnectionClosed()


def test_data_after_the_end_is_the_callers_slip_and_no_protocol_error(lib: ModuleType) -> None:
    conn = server(lib, GET)
    conn.receive_data(b"")
    with pytest.raises(RuntimeError) as caught:
        conn.receive_data(b"x")
    assert not isinstance(caught.value, lib.ProtocolError)
    assert type(conn.next_event()) is lib.Request


def test_receiving_never_raises_a_protocol_error_itself(lib: ModuleType) -> None:
    conn = server(lib, b"\x00\x00\x00\r\n\r\n")
    assert conn.their_state is lib.IDLE
    fails(lib, conn)


def test_a_request_arrives_as_head_and_end(lib: ModuleType) -> None:
    conn = server(lib, b"GET /x?y HTTP/1.1\r\nhOSt:a\r\nX-Y: \t b \t\r\nEmpty:\r\n\r\n")
    request, end, marker = events(lib, conn)
    assert request == lib.Request(
        method="GET", target="/x?y", headers=[("Host", "a"), ("x-y", "b"), ("empty", "")], http_version="1.1"
    )
    assert request.headers.raw_items() == [(b"hOSt", b"a"), (b"X-Y", b"b"), (b"Empty", b"")]
    assert all(type(value) is bytes for value in (request.method, request.target, request.http_version))
    assert end == lib.EndOfMessage()
    assert marker is lib.NEED_DATA
    assert conn.their_http_version == b"1.1"


def test_the_type_of_what_came_can_be_dispatched_on(lib: ModuleType) -> None:
    conn = server(lib, GET)
    assert [type(event) for event in events(lib, conn)] == [lib.Request, lib.EndOfMessage, lib.NEED_DATA]


def test_a_head_in_pieces_needs_data_until_it_is_whole(lib: ModuleType) -> None:
    conn = server(lib)
    for i in range(len(GET) - 1):
        conn.receive_data(GET[i : i + 1])
        assert conn.next_event() is lib.NEED_DATA
        assert conn.trailing_data == (GET[: i + 1], False)
    conn.receive_data(GET[-1:])
    assert type(conn.next_event()) is lib.Request


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200"])
def test_a_reason_may_be_missing(lib: ModuleType, line: bytes) -> None:
    conn = client(lib)
    conn.receive_data(line + b"\r\nContent-Length: 0\r\n\r\n")
    assert conn.next_event().reason == line[13:]


def test_interim_responses_arrive_before_the_final_one(lib: ModuleType) -> None:
    conn = client(lib)
    conn.receive_data(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK)
    assert events(lib, conn) == [
        lib.InformationalResponse(status_code=100, reason="Continue", headers=[]),
        lib.InformationalResponse(status_code=103, reason="Hints", headers=[("link", "x")]),
        lib.Response(status_code=200, reason="OK", headers=[("content-length", "0")]),
        lib.EndOfMessage(),
        lib.NEED_DATA,
    ]


def test_a_body_is_handed_over_as_it_comes(lib: ModuleType) -> None:
    conn = server(lib, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
    assert [type(event) for event in events(lib, conn)] == [lib.Request, lib.Data, lib.NEED_DATA]
    conn.receive_data(b"cde")
    assert events(lib, conn) == [lib.Data(b"cde"), lib.EndOfMessage(), lib.NEED_DATA]


def test_received_data_is_bytes_in_ours_and_bytearray_in_h11(wire: ModuleType) -> None:
    row("DATA-BYTES")
    message = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
    assert type(events(h11, server(h11, message))[1].data) is bytearray
    assert type(events(wire, server(wire, message))[1].data) is bytes


def test_a_pipelined_request_is_held_until_the_next_cycle(lib: ModuleType) -> None:
    conn = server(lib, GET + GET.replace(b"/ ", b"/2 "))
    assert [type(event) for event in events(lib, conn)] == [lib.Request, lib.EndOfMessage, lib.PAUSED]
    assert conn.next_event() is lib.PAUSED
    assert conn.trailing_data == (GET.replace(b"/ ", b"/2 "), False)
    conn.send(lib.Response(status_code=200, headers=[("Content-Length", "0")]))
    conn.send(lib.EndOfMessage())
    assert conn.next_event() is lib.PAUSED
    conn.start_next_cycle()
    assert conn.next_event().target == b"/2"


def test_the_end_of_the_stream_after_a_message_is_a_clean_close_for_ever(lib: ModuleType) -> None:
    conn = server(lib, GET)
    events(lib, conn)
    conn.receive_data(b"")
    for _ in range(3):
        assert conn.next_event() == lib.ConnectionClosed()
        assert conn.their_state is lib.CLOSED


@pytest.mark.parametrize("before", [b"G", b"GET / HTTP/1.1\r\n", GET[:-1]])
def test_the_end_of_the_stream_within_a_head_is_an_error(lib: ModuleType, before: bytes) -> None:
    conn = server(lib, before)
    conn.receive_data(b"")
    assert fails(lib, conn).error_status_hint == 400


def test_the_end_of_the_stream_before_any_response_is_an_error_for_a_waiting_client(lib: ModuleType) -> None:
    conn = client(lib)
    conn.receive_data(b"")
    fails(lib, conn)


@pytest.mark.parametrize(
    ("framing", "body", "words"),
    [
        # How much is missing belongs into the text.
        (b"Content-Length: 67", b"x" * 43, ["43", "67"]),
        (b"Transfer-Encoding: chunked", b"5\r\nabc", ["chunked"]),
        (b"Transfer-Encoding: chunked", b"3\r\nabc", ["chunked"]),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0", []),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\nA: b\r\n", []),
    ],
)
def test_the_end_of_the_stream_within_a_body_is_told_from_its_end(
    lib: ModuleType, framing: bytes, body: bytes, words: list[str]
) -> None:
    conn = server(lib, b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + body)
    conn.receive_data(b"")
    error = fails(lib, conn)
    assert error.error_status_hint == 400
    assert [word for word in words if word not in str(error)] == []


def test_a_close_delimited_body_ends_with_the_stream(lib: ModuleType) -> None:
    conn = client(lib)
    conn.receive_data(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert [type(event) for event in events(lib, conn)] == [lib.Response, lib.Data, lib.NEED_DATA]
    conn.receive_data(b"")
    assert events(lib, conn) == [lib.EndOfMessage(), lib.ConnectionClosed()]


@pytest.mark.parametrize("second", [GET, b"x"])
def test_bytes_after_a_request_that_closes_are_an_error(lib: ModuleType, second: bytes) -> None:
    conn = server(lib, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + second)
    assert type(conn.next_event()) is lib.Request
    assert type(conn.next_event()) is lib.EndOfMessage
    assert conn.their_state is lib.MUST_CLOSE
    fails(lib, conn)


# ---- the limit


@pytest.mark.parametrize("size", [100, 1000, 16 * 1024])
def test_an_endless_head_is_refused_with_431_once_it_is_over_the_limit(lib: ModuleType, size: int) -> None:
    conn = server(lib, b"GET / HTTP/1.1\r\na: ", max_incomplete_event_size=size)
    assert conn.next_event() is lib.NEED_DATA
    conn.receive_data(b"x" * size)
    assert fails(lib, conn).error_status_hint == 431


def test_a_head_in_pieces_below_the_default_limit_passes(lib: ModuleType) -> None:
    conn = server(lib, b"GET / HTTP/1.1\r\nHost: a\r\nx: ")
    for _ in range(15):
        conn.receive_data(b"x" * 1024)
        assert conn.next_event() is lib.NEED_DATA
    conn.receive_data(b"\r\n\r\n")
    assert type(conn.next_event()) is lib.Request


def test_a_body_is_no_part_of_the_limit(lib: ModuleType) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n"
    conn = server(lib, head + b"x" * 50000, max_incomplete_event_size=100)
    assert sum(len(event.data) for event in events(lib, conn) if type(event) is lib.Data) == 50000


def test_the_limit_of_ours_is_exact_when_the_head_comes_at_once(wire: ModuleType) -> None:
    row("LIMIT-EXACT")
    head = b"GET / HTTP/1.1\r\nHost: a\r\nx: %s\r\n\r\n" % (b"x" * 500)
    assert type(server(h11, head, max_incomplete_event_size=100).next_event()) is h11.Request
    assert type(server(wire, head, max_incomplete_event_size=len(head)).next_event()) is wire.Request
    assert fails(wire, server(wire, head, max_incomplete_event_size=len(head) - 1)).error_status_hint == 431


# ---- errors


def test_the_peers_error_is_final(lib: ModuleType) -> None:
    conn = server(lib, b"nonsense\r\n\r\n")
    fails(lib, conn)
    for _ in range(2):
        with pytest.raises(lib.RemoteProtocolError):
            conn.next_event()
    conn.receive_data(GET)  # what still arrives does no harm
    with pytest.raises(lib.RemoteProtocolError):
        conn.next_event()


def test_a_server_may_answer_the_peers_error_from_idle_with_its_hint(lib: ModuleType) -> None:
    conn = server(lib, b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n")
    error = fails(lib, conn)
    assert error.error_status_hint == 501
    assert conn.our_state is lib.IDLE
    head = conn.send(lib.Response(status_code=error.error_status_hint, headers=[]))
    assert head == b"HTTP/1.1 501 \r\nConnection: close\r\n\r\n"
    assert conn.send(lib.Data(b"sorry")) == b"sorry"
    assert conn.send(lib.EndOfMessage()) == b""
    assert conn.our_state is lib.MUST_CLOSE


def test_a_server_may_answer_an_error_within_the_body(lib: ModuleType) -> None:
    conn = server(lib, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert type(conn.next_event()) is lib.Request
    fails(lib, conn)
    assert conn.our_state is lib.SEND_RESPONSE
    conn.send(lib.Response(status_code=400, headers=[("Content-Length", "0")]))
    conn.send(lib.EndOfMessage())
    assert conn.states == {lib.CLIENT: lib.ERROR, lib.SERVER: lib.MUST_CLOSE}
    assert conn.send(lib.ConnectionClosed()) is None


def test_our_error_is_final_for_sending_only(lib: ModuleType) -> None:
    conn = server(lib, GET)
    assert type(conn.next_event()) is lib.Request
    with pytest.raises(lib.LocalProtocolError):
        conn.send(lib.Data(b"x"))
    assert conn.our_state is lib.ERROR
    with pytest.raises(lib.LocalProtocolError):
        conn.send(lib.ConnectionClosed())
    assert type(conn.next_event()) is lib.EndOfMessage
    assert conn.states == {lib.CLIENT: lib.MUST_CLOSE, lib.SERVER: lib.ERROR}


@pytest.mark.parametrize("first", ["answered", "failed"])
def test_a_request_that_comes_after_we_answered_or_failed_is_refused(lib: ModuleType, first: str) -> None:
    """An answer that went out before its request could be taken for the answer to it."""
    row("ATTRIBUTE-ERROR")
    conn = server(lib)
    if first == "answered":
        conn.send(lib.Response(status_code=200, headers=[("Content-Length", "0")]))
        conn.send(lib.EndOfMessage())
    else:
        conn.send_failed()
    conn.receive_data(GET)
    with pytest.raises(AttributeError if lib is h11 else lib.RemoteProtocolError):
        conn.next_event()
    assert conn.their_state is lib.ERROR
    assert conn.our_state is (lib.ERROR if first == "failed" else lib.MUST_CLOSE)


def test_a_response_that_nobody_asked_for_cannot_answer_the_next_request(lib: ModuleType) -> None:
    """Else a server, or who can write through it, would choose what the next request is answered with."""
    row("UNREQUESTED-RESPONSE")
    conn = lib.Connection(lib.CLIENT)
    conn.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    if lib is h11:
        assert [type(event) for event in events(lib, conn)][:2] == [lib.Response, lib.Data]
        with pytest.raises(AttributeError):
            conn.send(lib.Request(method="GET", target="/", headers=[("Host", "a")]))
    else:
        fails(lib, conn)
        with pytest.raises(lib.LocalProtocolError):
            conn.send(lib.Request(method="GET", target="/", headers=[("Host", "a")]))
    assert conn.our_state is lib.ERROR


@pytest.mark.parametrize("thing", [b"bytes", None, "NEED_DATA", "PAUSED"])
def test_sending_what_is_no_event_is_an_error_and_final(lib: ModuleType, thing: Any) -> None:
    conn = lib.Connection(lib.CLIENT)
    with pytest.raises(Exception):  # noqa: B017 - h11 has two kinds here, which no program tells apart
        conn.send(getattr(lib, thing) if isinstance(thing, str) else thing)
    assert conn.our_state is lib.ERROR


@pytest.mark.parametrize("role", ["CLIENT", "SERVER"])
def test_a_failed_send_is_an_error_of_ours_whatever_the_state(lib: ModuleType, role: str) -> None:
    conn = lib.Connection(getattr(lib, role))
    conn.send_failed()
    assert conn.our_state is lib.ERROR
    assert conn.their_state is lib.IDLE
    with pytest.raises(lib.LocalProtocolError):
        conn.send(lib.ConnectionClosed())


def test_a_failed_send_after_the_exchange_leaves_the_peer_to_close(lib: ModuleType) -> None:
    conn = client(lib)
    conn.receive_data(OK)
    events(lib, conn)
    assert conn.states == {lib.CLIENT: lib.DONE, lib.SERVER: lib.DONE}
    conn.send_failed()
    assert conn.states == {lib.CLIENT: lib.ERROR, lib.SERVER: lib.MUST_CLOSE}


# ---- next cycle


def test_the_next_cycle_needs_both_sides_done_and_a_refusal_harms_nothing(lib: ModuleType) -> None:
    conn = lib.Connection(lib.CLIENT)
    with pytest.raises(lib.LocalProtocolError):
        conn.start_next_cycle()
    assert conn.states == {lib.CLIENT: lib.IDLE, lib.SERVER: lib.IDLE}
    conn.send(lib.Request(method="GET", target="/", headers=[("Host", "a")]))
    conn.send(lib.EndOfMessage())
    with pytest.raises(lib.LocalProtocolError):
        conn.start_next_cycle()
    conn.receive_data(OK)
    events(lib, conn)
    conn.start_next_cycle()
    assert conn.states == {lib.CLIENT: lib.IDLE, lib.SERVER: lib.IDLE}


def test_the_next_cycle_keeps_the_version_and_forgets_the_method(lib: ModuleType) -> None:
    conn = client(lib, method="HEAD")
    conn.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
    assert [type(event) for event in events(lib, conn)] == [lib.Response, lib.EndOfMessage, lib.NEED_DATA]
    conn.start_next_cycle()
    assert conn.their_http_version == b"1.1"
    conn.send(lib.Request(method="GET", target="/", headers=[("Host", "a")]))
    conn.send(lib.EndOfMessage())
    conn.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
    assert [type(event) for event in events(lib, conn)][:2] == [lib.Response, lib.Data]


def test_a_thousand_exchanges_can_follow_each_other(lib: ModuleType) -> None:
    conn = server(lib)
    for _ in range(1000):
        conn.receive_data(GET)
        assert [type(event) for event in events(lib, conn)] == [lib.Request, lib.EndOfMessage, lib.NEED_DATA]
        assert conn.send(lib.Response(status_code=200, headers=[("Content-Length", "0")], reason="OK")) == OK
        assert conn.send(lib.EndOfMessage()) == b""
        conn.start_next_cycle()
    assert conn.trailing_data == (b"", False)


def test_trailing_data_can_be_asked_for_at_any_time(lib: ModuleType) -> None:
    conn = server(lib, GET + b"rest")
    assert conn.trailing_data == (GET + b"rest", False)
    events(lib, conn)
    assert conn.trailing_data == (b"rest", False)
    assert type(conn.trailing_data[0]) is bytes
    conn.receive_data(b"")
    assert conn.trailing_data == (b"rest", True)
