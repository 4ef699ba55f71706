"""Framing and the bytes that are written, on both modules."""

import importlib
from types import ModuleType
from typing import Any

import h11
import pytest

from tests.wire.differences import row
from tests.wire.h11_scenes import CHUNKED, asked, asking, get, refused, taken


@pytest.fixture(params=["h11", "trio_http.wire"])
def lib(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture
def wire() -> ModuleType:
    return importlib.import_module("trio_http.wire")


# ---- receiving: length


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 404 OK\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_some_responses_have_no_body_whatever_their_fields_say(
    lib: ModuleType, method: str, head: bytes
) -> None:
    conn = asking(lib, method)
    conn.receive_data(head)
    assert [type(event) for event in taken(lib, conn)] == [lib.Response, lib.EndOfMessage]
    conn.start_next_cycle()


def test_a_successful_answer_to_connect_has_no_body(lib: ModuleType) -> None:
    conn = asking(lib, "CONNECT")
    conn.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert [type(event) for event in taken(lib, conn)] == [lib.Response]
    assert conn.next_event() is lib.PAUSED
    assert conn.trailing_data == (b"hello", False)


def test_a_request_without_framing_fields_has_no_body(lib: ModuleType) -> None:
    conn = lib.Connection(lib.SERVER)
    conn.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\n\r\nxyz")
    assert [type(event) for event in taken(lib, conn)] == [lib.Request, lib.EndOfMessage]
    assert conn.trailing_data == (b"xyz", False)


@pytest.mark.parametrize("size", [b"3", b"003", b"00000000000000000003"])
def test_a_chunked_body_is_joined_again(lib: ModuleType, size: bytes) -> None:
    conn = lib.Connection(lib.SERVER)
    conn.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    conn.receive_data(size + b"\r\nabc\r\nA;x=y\r\n0123456789\r\n0;z\r\nT: 1\r\nU:\r\n\r\n")
    assert taken(lib, conn)[1:] == [
        lib.Data(b"abc0123456789"),
        lib.EndOfMessage(headers=[("t", "1"), ("u", "")]),
    ]


def test_the_flags_tell_where_chunks_begin_and_end(lib: ModuleType) -> None:
    conn = lib.Connection(lib.SERVER)
    conn.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    flags = []
    for piece in (b"3\r\nabc\r\n", b"4\r\nab", b"c", b"d\r\n", b"0\r\n\r\n"):
        conn.receive_data(piece)
        while (event := conn.next_event()) is not lib.NEED_DATA:
            if type(event) is lib.Data:
                flags.append((bytes(event.data), event.chunk_start, event.chunk_end))
    assert flags == [(b"abc", True, True), (b"ab", True, False), (b"c", False, False), (b"d", False, True)]


def test_a_chunk_begins_with_its_first_data_in_ours_even_if_its_size_came_alone(wire: ModuleType) -> None:
    row("CHUNK-START")
    for lib, flag in [(h11, False), (wire, True)]:
        conn = asked(lib, b"POST", b"Transfer-Encoding: chunked")
        conn.receive_data(b"4\r\n")
        assert conn.next_event() is lib.NEED_DATA
        conn.receive_data(b"ab")
        assert conn.next_event().chunk_start is flag


@pytest.mark.parametrize(
    "body",
    [
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"\r\n",
        b" 1\r\n",
        b"1 1\r\n",
        b"3\r\nabcX\r\n",
        b"1" * 21 + b"\r\n",
    ],
)
def test_a_malformed_chunk_is_an_error(lib: ModuleType, body: bytes) -> None:
    conn = asked(lib, b"POST", b"Transfer-Encoding: chunked")
    conn.receive_data(body)
    with pytest.raises(lib.RemoteProtocolError) as caught:
        taken(lib, conn)
    assert caught.value.error_status_hint == 400
    assert conn.our_state is lib.SEND_RESPONSE


def test_a_chunk_extension_can_be_read_in_ours(wire: ModuleType) -> None:
    row("CHUNK-EXTENSION")
    conn = wire.Connection(wire.SERVER)
    conn.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n")
    conn.next_event()
    event = conn.next_event()
    assert event.chunk_extension == b";a=b"
    assert event == wire.Data(b"abc", chunk_start=True, chunk_end=True)
    assert not hasattr(h11.Data(b""), "chunk_extension")


# ---- sending heads


def test_a_request_is_written_as_given_with_host_first(lib: ModuleType) -> None:
    request = lib.Request(method="FROB", target="/x", headers=[("X-a", "1"), ("hOSt", "h"), ("X-a", "")])
    assert (
        lib.Connection(lib.CLIENT).send(request) == b"FROB /x HTTP/1.1\r\nhOSt: h\r\nX-a: 1\r\nX-a: \r\n\r\n"
    )


@pytest.mark.parametrize("version", ["1.0", "1.2", "2.0"])
def test_only_version_1_1_can_be_sent(lib: ModuleType, version: str) -> None:
    refused(lib, lib.Connection(lib.CLIENT), get(lib, "GET", http_version=version))
    refused(lib, asked(lib), lib.Response(status_code=200, headers=[], http_version=version))


def test_a_missing_reason_leaves_its_space(lib: ModuleType) -> None:
    assert asked(lib).send(lib.InformationalResponse(status_code=100, headers=[])) == b"HTTP/1.1 100 \r\n\r\n"
    response = lib.Response(status_code=200, headers=[("Content-Length", "0")])
    assert asked(lib).send(response) == b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "version", "status", "fields", "expected"),
    [
        (b"GET", b"1.1", 200, [], b"Transfer-Encoding: chunked\r\n"),
        (b"GET", b"1.1", 200, [("X", "y")], b"X: y\r\nTransfer-Encoding: chunked\r\n"),
        (b"GET", b"1.1", 200, [("content-length", "3")], b"content-length: 3\r\n"),
        (b"GET", b"1.1", 200, [("transfer-encoding", "Chunked")], b"Transfer-Encoding: chunked\r\n"),
        (b"GET", b"1.1", 200, [("Content-Length", "3"), CHUNKED], b"Transfer-Encoding: chunked\r\n"),
        (b"GET", b"1.1", 200, [("Content-Length", "3, 3")], b"Content-Length: 3\r\n"),
        (b"GET", b"1.0", 200, [], b"Connection: close\r\n"),
        (b"GET", b"1.0", 200, [CHUNKED], b"Connection: close\r\n"),
        (b"GET", b"1.0", 200, [("Content-Length", "3")], b"Content-Length: 3\r\nConnection: close\r\n"),
        (b"GET", b"1.0", 200, [("Connection", "keep-alive")], b"Connection: close\r\n"),
        (
            b"GET", b"1.1", 200, [("Connection", "close"), ("A", "b")],
            b"Connection: close\r\nA: b\r\nTransfer-Encoding: chunked\r\n",
        ),
        (b"HEAD", b"1.1", 200, [], b"Transfer-Encoding: chunked\r\n"),
        (b"HEAD", b"1.1", 200, [("Content-Length", "3")], b"Content-Length: 3\r\n"),
        (b"HEAD", b"1.0", 200, [], b"Connection: close\r\n"),
        (b"GET", b"1.1", 204, [], b""),
        (b"GET", b"1.1", 304, [], b""),
        (b"GET", b"1.1", 304, [("Content-Length", "3")], b"Content-Length: 3\r\n"),
        (b"CONNECT", b"1.1", 200, [], b""),
        (b"CONNECT", b"1.1", 403, [], b"Transfer-Encoding: chunked\r\n"),
    ],
)  # fmt: skip
def test_the_framing_of_a_response_fits_the_request_and_its_version(
    lib: ModuleType,
    method: bytes,
    version: bytes,
    status: int,
    fields: list[tuple[str, str]],
    expected: bytes,
) -> None:
    conn = asked(lib, method, version=version)
    written = conn.send(lib.Response(status_code=status, headers=fields, reason="R"))
    assert written == b"HTTP/1.1 %d R\r\n%s\r\n" % (status, expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], b"Connection: close\r\n"),
        ([("Connection", "keep-alive")], b"Connection: close\r\n"),
        ([("connection", "Close")], b"Connection: close\r\n"),
        (
            [("Connection", "X-y, Keep-Alive"), ("A", "b")],
            b"A: b\r\nConnection: close\r\nConnection: x-y\r\n",
        ),
    ],
)
def test_a_request_that_closes_makes_the_response_say_so(
    lib: ModuleType, fields: list[tuple[str, str]], expected: bytes
) -> None:
    conn = asked(lib, b"GET", b"Connection: close")
    written = conn.send(lib.Response(status_code=200, headers=[("Content-Length", "0"), *fields]))
    assert written == b"HTTP/1.1 200 \r\nContent-Length: 0\r\n" + expected + b"\r\n"


@pytest.mark.parametrize("last", [b"", b"nonsense\r\n\r\n"])
def test_a_response_that_must_be_the_last_says_so_in_ours(wire: ModuleType, last: bytes) -> None:
    row("LAST-RESPONSE")
    for lib, option in [(h11, b""), (wire, b"Connection: close\r\n")]:
        conn = lib.Connection(lib.SERVER) if last else asked(lib)
        conn.receive_data(last)
        try:
            conn.next_event()
        except lib.RemoteProtocolError:
            pass
        written = conn.send(lib.Response(status_code=400, headers=[("Content-Length", "0")]))
        assert written == b"HTTP/1.1 400 \r\nContent-Length: 0\r\n" + option + b"\r\n"


def test_a_kept_http_1_0_connection_is_a_difference(wire: ModuleType) -> None:
    row("KEEP-ALIVE-1.0")
    response = {"status_code": 200, "headers": [("Content-Length", "0")]}
    for lib, field in [(h11, b"close"), (wire, b"keep-alive")]:
        conn = asked(lib, b"GET", b"Connection: keep-alive", version=b"1.0")
        written = conn.send(lib.Response(**response))
        assert written == b"HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: " + field + b"\r\n\r\n"
        conn.send(lib.EndOfMessage())
        assert conn.our_state is (lib.DONE if lib is wire else lib.MUST_CLOSE)
    conn.start_next_cycle()


@pytest.mark.parametrize("status", [101, 103, 204])
def test_framing_fields_are_dropped_by_ours_where_they_must_not_be(wire: ModuleType, status: int) -> None:
    row("NO-FRAMING-FIELDS")
    for lib, expected in [(h11, b"Content-Length: 3\r\n"), (wire, b"")]:
        conn = asked(lib, b"GET", b"Connection: upgrade", b"Upgrade: x")
        cls = lib.InformationalResponse if status < 200 else lib.Response
        written = conn.send(cls(status_code=status, headers=[("Content-Length", "3")]))
        assert written == b"HTTP/1.1 %d \r\n%s\r\n" % (status, expected)


def test_an_interim_response_to_an_http_1_0_client_is_refused_by_ours(wire: ModuleType) -> None:
    row("INTERIM-TO-1.0")
    assert asked(h11, version=b"1.0").send(h11.InformationalResponse(status_code=103, headers=[]))
    refused(wire, asked(wire, version=b"1.0"), wire.InformationalResponse(status_code=103, headers=[]))


@pytest.mark.parametrize("reason", ["a\r\nX: y", "a\n", "a\x00", "a\r", "\x7f"])
def test_a_reason_with_a_control_cannot_be_sent_by_ours(wire: ModuleType, reason: str) -> None:
    row("SEND-REASON")
    fields = {"status_code": 200, "headers": [("Content-Length", "0")]}
    assert reason.encode() in asked(h11).send(h11.Response(**fields, reason=reason))
    with pytest.raises(wire.LocalProtocolError):
        asked(wire).send(wire.Response(**fields, reason=reason))


def test_a_request_with_both_framings_is_refused_by_ours(wire: ModuleType) -> None:
    row("SEND-BOTH-FRAMINGS")
    both = [("Content-Length", "3"), CHUNKED]
    assert h11.Connection(h11.CLIENT).send(get(h11, "POST", *both)).count(b"\r\n") == 5
    refused(wire, wire.Connection(wire.CLIENT), get(wire, "POST", *both))


# ---- sending bodies


def test_a_request_body_of_a_given_length(lib: ModuleType) -> None:
    conn = lib.Connection(lib.CLIENT)
    conn.send(get(lib, "POST", ("Content-Length", "5")))
    assert conn.send(lib.Data(b"ab")) == b"ab"
    assert conn.send(lib.Data(b"")) == b""
    assert conn.send(lib.Data(bytearray(b"cde"))) == b"cde"
    assert conn.send(lib.EndOfMessage()) == b""
    assert conn.our_state is lib.DONE


def test_a_chunked_body_with_trailers(lib: ModuleType) -> None:
    conn = lib.Connection(lib.CLIENT)
    conn.send(get(lib, "POST", CHUNKED))
    assert conn.send(lib.Data(b"x" * 10)) == b"a\r\nxxxxxxxxxx\r\n"
    assert conn.send(lib.Data(b"")) == b""  # as a chunk it would end the body
    assert conn.send(lib.EndOfMessage(headers=[("T-x", "1"), ("u", "")])) == b"0\r\nT-x: 1\r\nu: \r\n\r\n"


def test_the_chunk_flags_are_ignored_when_sent(lib: ModuleType) -> None:
    conn = asked(lib)
    conn.send(lib.Response(status_code=200, headers=[]))
    assert conn.send(lib.Data(b"x", chunk_start=True, chunk_end=False)) == b"1\r\nx\r\n"
    assert conn.send(lib.EndOfMessage()) == b"0\r\n\r\n"


def test_a_close_delimited_body_is_written_bare(lib: ModuleType) -> None:
    conn = asked(lib, version=b"1.0")
    conn.send(lib.Response(status_code=200, headers=[]))
    assert conn.send(lib.Data(b"abc")) == b"abc"
    assert conn.send(lib.EndOfMessage()) == b""
    assert conn.our_state is lib.MUST_CLOSE
    assert conn.send(lib.ConnectionClosed()) is None


@pytest.mark.parametrize("data", [b"abcd", b"abc" * 100])
def test_more_data_than_was_declared_is_refused(lib: ModuleType, data: bytes) -> None:
    conn = lib.Connection(lib.CLIENT)
    conn.send(get(lib, "POST", ("Content-Length", "3")))
    refused(lib, conn, lib.Data(data))


def test_data_for_a_request_that_declared_none_is_refused(lib: ModuleType) -> None:
    conn = lib.Connection(lib.CLIENT)
    conn.send(get(lib, "POST"))
    refused(lib, conn, lib.Data(b"x"))


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_data_for_a_response_without_body_is_refused(lib: ModuleType, method: bytes, status: int) -> None:
    conn = asked(lib, method)
    conn.send(lib.Response(status_code=status, headers=[]))
    refused(lib, conn, lib.Data(b"x"))


def test_less_data_than_was_declared_is_refused_at_the_end(lib: ModuleType) -> None:
    conn = lib.Connection(lib.CLIENT)
    conn.send(get(lib, "POST", ("Content-Length", "3")))
    conn.send(lib.Data(b"ab"))
    refused(lib, conn, lib.EndOfMessage())


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_trailers_need_the_chunked_coding(lib: ModuleType, version: bytes) -> None:
    conn = asked(lib, version=version)
    conn.send(lib.Response(status_code=200, headers=[("Content-Length", "0")] if version == b"1.1" else []))
    refused(lib, conn, lib.EndOfMessage(headers=[("a", "b")]))


class Placeholder:
    """Stands for a part of a file: it has a length and nothing else."""

    def __len__(self) -> int:
        return 10


@pytest.mark.parametrize(
    ("version", "fields", "expected"),
    [
        (b"1.1", [("Content-Length", "10")], [b"", None, b""]),
        (b"1.1", [], [b"a\r\n", None, b"\r\n"]),
        (b"1.0", [], [b"", None, b""]),
    ],
)
def test_the_very_object_passes_through(
    lib: ModuleType, version: bytes, fields: list[Any], expected: list[bytes | None]
) -> None:
    conn = asked(lib, version=version)
    assert (
        b"".join(conn.send_with_data_passthrough(lib.Response(status_code=200, headers=fields)))[:8]
        == b"HTTP/1.1"
    )
    placeholder = Placeholder()
    pieces = conn.send_with_data_passthrough(lib.Data(placeholder))
    at = next(i for i, piece in enumerate(pieces) if piece is placeholder)
    assert [b"".join(pieces[:at]), None, b"".join(pieces[at + 1 :])] == expected
    assert b"".join(conn.send_with_data_passthrough(lib.EndOfMessage())) in (b"", b"0\r\n\r\n")
    conn.send_failed()
    with pytest.raises(lib.LocalProtocolError):
        conn.send_with_data_passthrough(lib.Data(placeholder))


def test_closing_passes_nothing_through(lib: ModuleType) -> None:
    assert lib.Connection(lib.CLIENT).send_with_data_passthrough(lib.ConnectionClosed()) is None
