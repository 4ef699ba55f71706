"""Header fields as text: reading them, writing them, and passing them on."""

from __future__ import annotations

from collections import UserDict

import pytest

from trio_http import Headers, wire

FIELDS = [("Host", "a"), ("X-Two", "1"), ("x-two", "2"), ("Set-Cookie", "a=1, b"), ("set-cookie", "c=2")]


def test_a_value_is_found_without_regard_to_case() -> None:
    headers = Headers(FIELDS)
    assert headers["host"] == headers["HOST"] == headers.get("Host") == "a"
    assert "hOsT" in headers


def test_repeats_are_joined_or_given_one_by_one() -> None:
    headers = Headers(FIELDS)
    assert headers["x-two"] == "1, 2"
    assert headers.get_all("X-Two") == ["1", "2"]
    assert headers.get_all("set-cookie") == ["a=1, b", "c=2"]


@pytest.mark.parametrize("name", ["absent", "", "é", "\u20ac", "a b"])
def test_a_field_that_is_not_there_is_not_found(name: str) -> None:
    """A name beyond ASCII, which no field can have, once raised an error about encodings."""
    headers = Headers(FIELDS)
    assert name not in headers
    assert headers.get(name) is None
    assert headers.get(name, "default") == "default"
    assert headers.get_all(name) == []
    with pytest.raises(KeyError) as caught:
        headers[name]
    assert caught.value.args == (name,)


def test_what_is_no_text_is_in_no_headers() -> None:
    assert b"host" not in Headers(FIELDS)
    assert 1 not in Headers(FIELDS)


def test_iteration_gives_each_name_once_and_len_counts_lines() -> None:
    headers = Headers(FIELDS)
    assert list(headers) == ["host", "x-two", "set-cookie"]
    assert len(headers) == 5
    assert headers.items()[:2] == [("host", "a"), ("x-two", "1")]


def test_the_lines_are_kept_as_written_and_in_order() -> None:
    assert Headers(FIELDS).raw == [(name.encode(), value.encode()) for name, value in FIELDS]


@pytest.mark.parametrize(
    "fields",
    [
        {"A": "1", "B": "2"},
        UserDict({"A": "1", "B": "2"}),
        [("A", "1"), ("B", "2")],
        [(b"A", b"1"), ("B", b"2")],
        iter([("A", "1"), ("B", "2")]),
        Headers({"A": "1", "B": "2"}),
        wire.Headers([("A", "1"), ("B", "2")]),
    ],
    ids=["dict", "mapping", "pairs", "bytes", "iterator", "headers", "wire"],
)
def test_fields_may_be_given_in_many_forms(fields: object) -> None:
    assert Headers(fields).raw == [(b"A", b"1"), (b"B", b"2")]  # type: ignore[arg-type]


def test_no_fields_are_none_or_empty() -> None:
    assert len(Headers()) == len(Headers(None)) == len(Headers({})) == len(Headers([])) == 0
    assert Headers() == Headers([])


def test_values_are_latin_1_both_ways() -> None:
    headers = Headers({"X": "caf\xe9"})
    assert headers.raw == [(b"X", b"caf\xe9")]
    assert headers["x"] == "caf\xe9"


def test_a_value_beyond_latin_1_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        Headers({"X": "\u20ac"})


@pytest.mark.parametrize(
    "fields",
    [{"a b": "c"}, {"": "c"}, {"a": "b\r\nc: d"}, {"a": "b\0"}, {"a": " b"}, {"a:": "b"}, {"\xe9": "b"}],
)
def test_fields_that_would_break_a_message_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(wire.LocalProtocolError):
        Headers(fields)


def test_equality_regards_values_and_order_and_not_the_case_of_names() -> None:
    assert Headers({"A": "1", "B": "2"}) == Headers({"a": "1", "b": "2"})
    assert Headers({"A": "1", "B": "2"}) != Headers({"B": "2", "A": "1"})
    assert Headers({"A": "x"}) != Headers({"A": "X"})
    assert Headers({"A": "1"}) != [("a", "1")]


def test_headers_are_immutable_and_have_no_hash() -> None:
    headers = Headers(FIELDS)
    with pytest.raises(TypeError):
        hash(headers)
    with pytest.raises(TypeError):
        headers["host"] = "b"  # type: ignore[index]
    headers.items().clear()
    headers.raw.clear()
    assert len(headers) == 5


def test_the_repr_shows_the_fields() -> None:
    assert repr(Headers({"A": "1"})) == "Headers([('a', '1')])"


def test_end_to_end_leaves_out_what_concerns_one_connection() -> None:
    headers = Headers(
        [
            ("Connection", "close, X-Hop ,"), ("connection", "Other"),
            ("X-Hop", "1"), ("x-hop", "2"), ("OTHER", "3"),
            ("Keep-Alive", "timeout=5"), ("TE", "trailers"), ("Trailer", "A"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "echo"), ("Proxy-Authorization", "secret"), ("Proxy-Authenticate", "Basic"),
            ("Proxy-Connection", "close"), ("Host", "a"), ("X-Kept", "b"), ("Content-Type", "c"),
        ]
    )  # fmt: skip
    assert headers.end_to_end().raw == [(b"Host", b"a"), (b"X-Kept", b"b"), (b"Content-Type", b"c")]
    assert len(headers) == 16
