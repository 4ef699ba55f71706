"""Events, their normalisation, and `Headers`, as h11's users know them; h11 is the oracle beside ours."""

import collections.abc
import dataclasses
import importlib
import operator
from collections.abc import Callable, Iterable
from http import HTTPStatus
from types import ModuleType
from typing import Any

import h11
import pytest

from tests.wire.differences import row

HOST = [("Host", "example.org")]


@pytest.fixture(params=["h11", "trio_http.wire"])
def lib(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture
def wire() -> ModuleType:
    return importlib.import_module("trio_http.wire")


def get(lib: ModuleType, **changes: Any) -> Any:
    return lib.Request(**{"method": "GET", "target": "/", "headers": HOST, **changes})


MAKERS: dict[str, Callable[[ModuleType], Any]] = {
    "Request": lambda lib: get(lib),
    "InformationalResponse": lambda lib: lib.InformationalResponse(status_code=100, headers=[]),
    "Response": lambda lib: lib.Response(status_code=200, headers=[("a", "b")], reason="OK"),
    "Data": lambda lib: lib.Data(b"xyz"),
    "EndOfMessage": lambda lib: lib.EndOfMessage(headers=[("a", "b")]),
    "ConnectionClosed": lambda lib: lib.ConnectionClosed(),
}

REPRS = {
    "Request": (
        "Request(method=b'GET', headers=<Headers([(b'host', b'example.org')])>, target=b'/',"
        " http_version=b'1.1')"
    ),
    "InformationalResponse": (
        "InformationalResponse(headers=<Headers([])>, http_version=b'1.1', reason=b'', status_code=100)"
    ),
    "Response": (
        "Response(headers=<Headers([(b'a', b'b')])>, http_version=b'1.1', reason=b'OK', status_code=200)"
    ),
    "Data": "Data(data=b'xyz', chunk_start=False, chunk_end=False)",
    "EndOfMessage": "EndOfMessage(headers=<Headers([(b'a', b'b')])>)",
    "ConnectionClosed": "ConnectionClosed()",
}

FIELDS = {
    "Request": ("method", "headers", "target", "http_version"),
    "InformationalResponse": ("headers", "http_version", "reason", "status_code"),
    "Response": ("headers", "http_version", "reason", "status_code"),
    "Data": ("data", "chunk_start", "chunk_end"),
    "EndOfMessage": ("headers",),
    "ConnectionClosed": (),
}


def without_ours(names: Iterable[str]) -> tuple[str, ...]:
    """Return field names without the one that ours has behind h11's."""
    assert row("CHUNK-EXTENSION")
    found = tuple(names)
    return found[:-1] if found[-1:] == ("chunk_extension",) else found


@pytest.mark.parametrize("name", MAKERS)
class TestEveryEvent:
    def test_is_a_frozen_dataclass_with_these_fields(self, lib: ModuleType, name: str) -> None:
        event = MAKERS[name](lib)
        assert type(event) is getattr(lib, name)
        assert dataclasses.is_dataclass(event)
        assert without_ours(field.name for field in dataclasses.fields(event)) == FIELDS[name]
        for field in FIELDS[name]:
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(event, field, None)

    def test_is_shown_in_dataclass_form(self, lib: ModuleType, name: str) -> None:
        assert repr(MAKERS[name](lib)) == REPRS[name]

    def test_is_equal_by_value(self, lib: ModuleType, name: str) -> None:
        one, two = MAKERS[name](lib), MAKERS[name](lib)
        assert one is not two
        assert one == two
        assert [one] == [two]
        others = [make(lib) for other, make in MAKERS.items() if other != name]
        assert all(one != other for other in others)

    def test_is_unhashable_unless_it_has_no_fields(self, lib: ModuleType, name: str) -> None:
        event = MAKERS[name](lib)
        if name == "ConnectionClosed":
            assert hash(event) == hash(lib.ConnectionClosed())
        else:
            with pytest.raises(TypeError):
                hash(event)

    def test_can_be_replaced_field_by_field(self, lib: ModuleType, name: str) -> None:
        event = MAKERS[name](lib)
        assert dataclasses.replace(event) == event

    def test_can_be_matched_by_its_keywords(self, lib: ModuleType, name: str) -> None:
        assert without_ours(getattr(lib, name).__match_args__) == FIELDS[name]


def test_replacing_a_field_checks_it_again(lib: ModuleType) -> None:
    request = dataclasses.replace(get(lib), target="/two")
    assert request.target == b"/two"
    with pytest.raises(lib.LocalProtocolError):
        dataclasses.replace(request, target="/t wo")


@pytest.mark.parametrize("name", ["Request", "InformationalResponse", "Response", "EndOfMessage"])
def test_constructors_take_keywords_only(lib: ModuleType, name: str) -> None:
    with pytest.raises(TypeError):
        getattr(lib, name)([("a", "b")])


def test_unknown_and_missing_arguments_are_type_errors(lib: ModuleType) -> None:
    with pytest.raises(TypeError):
        get(lib, body=b"")
    with pytest.raises(TypeError):
        lib.Request(method="GET", target="/")
    with pytest.raises(TypeError):
        lib.Response(headers=[])
    with pytest.raises(TypeError):
        lib.Data()
    with pytest.raises(TypeError):
        lib.ConnectionClosed(1)


def test_data_takes_positional_arguments_and_checks_none_of_them(lib: ModuleType) -> None:
    placeholder = object()
    event = lib.Data(placeholder, True, False)
    assert event.data is placeholder
    assert event.chunk_start is True
    assert event.chunk_end is False
    assert lib.Data(data=b"x") == lib.Data(b"x", chunk_start=False, chunk_end=False)
    assert lib.Data(b"x") != lib.Data(b"x", chunk_end=True)
    assert lib.Data("text").data == "text"


def test_an_end_of_message_has_no_trailers_unless_given(lib: ModuleType) -> None:
    assert lib.EndOfMessage().headers == []
    assert lib.EndOfMessage(headers=None).headers == []
    assert lib.EndOfMessage() == lib.EndOfMessage(headers=[])


@pytest.mark.parametrize(
    "convert", [str, str.encode, lambda s: bytearray(s.encode()), lambda s: memoryview(s.encode())]
)
def test_text_and_bytes_of_any_kind_become_bytes(lib: ModuleType, convert: Callable[[str], Any]) -> None:
    request = lib.Request(
        method=convert("GET"),
        target=convert("/a"),
        headers=[(convert("Host"), convert("x"))],
        http_version=convert("1.1"),
    )
    response = lib.Response(status_code=200, reason=convert("Fine"), headers=[], http_version=convert("1.0"))
    values = [
        (request.method, b"GET"),
        (request.target, b"/a"),
        (request.http_version, b"1.1"),
        (request.headers[0][0], b"host"),
        (request.headers[0][1], b"x"),
        (request.headers.raw_items()[0][0], b"Host"),
        (response.reason, b"Fine"),
        (response.http_version, b"1.0"),
    ]
    for value, expected in values:
        assert type(value) is bytes
        assert value == expected


@pytest.mark.parametrize("changes", [{"method": "GÉT"}, {"target": "/é"}, {"headers": [("host", "é")]}])
def test_text_that_is_not_ascii_is_refused(lib: ModuleType, changes: dict[str, Any]) -> None:
    with pytest.raises(UnicodeEncodeError):
        get(lib, **changes)


@pytest.mark.parametrize(
    "changes", [{"method": 1}, {"target": 1}, {"headers": [("host", 1)]}, {"headers": [(1, "x")]}]
)
def test_a_number_where_bytes_belong_is_a_type_error(lib: ModuleType, changes: dict[str, Any]) -> None:
    # `bytes(3)` would be three NULs: h11 refuses by name, and so do we.
    with pytest.raises(TypeError):
        get(lib, **changes)


def test_none_where_bytes_belong_is_a_type_error(lib: ModuleType) -> None:
    with pytest.raises(TypeError):
        get(lib, target=None)


@pytest.mark.parametrize("method", ["", "G ET", "GET ", "G\r\n", "G\x00", b"G\xc9T", "a(b", "x:y", "GET\n"])
def test_a_method_that_is_no_token_is_refused(lib: ModuleType, method: str | bytes) -> None:
    with pytest.raises(lib.LocalProtocolError) as caught:
        get(lib, method=method)
    assert caught.value.error_status_hint == 400


@pytest.mark.parametrize("method", ["get", "FROB", "M-SEARCH", "!#$%&'*+-.^_`|~09azAZ"])
def test_any_token_is_a_method_and_keeps_its_case(lib: ModuleType, method: str) -> None:
    assert get(lib, method=method).method == method.encode()


@pytest.mark.parametrize("target", ["", "/a b", "/\t", "/\r\n", "/\n", "/\x00", "/\x7f", b"/\xe9"])
def test_a_target_with_anything_but_visible_ascii_is_refused(lib: ModuleType, target: str | bytes) -> None:
    with pytest.raises(lib.LocalProtocolError) as caught:
        get(lib, target=target)
    assert caught.value.error_status_hint == 400


@pytest.mark.parametrize("target", ["/", "*", "http://a/b?c=d", "example.org:443", "/%20", '/"<>\\^`{|}'])
def test_a_target_of_visible_ascii_is_kept_as_it_is(lib: ModuleType, target: str) -> None:
    assert get(lib, target=target).target == target.encode()


def test_a_1_1_request_needs_exactly_one_host(lib: ModuleType) -> None:
    with pytest.raises(lib.LocalProtocolError) as caught:
        get(lib, headers=[])
    assert caught.value.error_status_hint == 400
    assert get(lib, headers=[], http_version="1.0").headers == []
    for version in ("1.1", "1.0"):
        with pytest.raises(lib.LocalProtocolError) as caught:
            get(lib, headers=[("Host", "a"), ("hOST", "a")], http_version=version)
        assert caught.value.error_status_hint == 400


def test_a_host_may_be_empty(lib: ModuleType) -> None:
    assert get(lib, headers=[("Host", "")]).headers == [(b"host", b"")]


@pytest.mark.parametrize(
    ("name", "low", "high"), [("InformationalResponse", 100, 199), ("Response", 200, 999)]
)
def test_a_status_code_is_within_the_range_of_its_class(
    lib: ModuleType, name: str, low: int, high: int
) -> None:
    cls = getattr(lib, name)
    assert cls(status_code=low, headers=[]).status_code == low
    assert cls(status_code=high, headers=[]).status_code == high
    for wrong in (low - 1, high + 1, 0, -1, True):
        with pytest.raises(lib.LocalProtocolError):
            cls(status_code=wrong, headers=[])


@pytest.mark.parametrize("code", ["200", b"200", 200.0, None])
def test_a_status_code_must_be_an_integer(lib: ModuleType, code: Any) -> None:
    with pytest.raises(lib.LocalProtocolError):
        lib.Response(status_code=code, headers=[])


def test_an_enum_status_becomes_a_plain_integer(lib: ModuleType) -> None:
    response = lib.Response(status_code=HTTPStatus.NOT_FOUND, headers=[])
    assert type(response.status_code) is int
    assert repr(response).endswith("status_code=404)")


def test_field_names_are_lower_case_and_the_raw_case_is_kept(lib: ModuleType) -> None:
    headers = lib.Response(status_code=200, headers=[("X-Abc", "D"), (b"eTAG", b"q")]).headers
    assert list(headers) == [(b"x-abc", b"D"), (b"etag", b"q")]
    assert headers.raw_items() == [(b"X-Abc", b"D"), (b"eTAG", b"q")]


@pytest.mark.parametrize(
    "headers",
    [
        [("a", "b"), ("c", "d")],
        (("a", "b"), ("c", "d")),
        [["a", "b"], ["c", "d"]],
        iter([("a", "b"), ("c", "d")]),
        {"a": "b", "c": "d"}.items(),
    ],
    ids=["list", "tuple", "lists", "iterator", "items"],
)
def test_headers_come_from_any_iterable_of_pairs(lib: ModuleType, headers: Any) -> None:
    if isinstance(headers, collections.abc.Iterator):
        headers = (
            pair for pair in [("a", "b"), ("c", "d")]
        )  # an iterator would be spent by the other module
    assert lib.EndOfMessage(headers=headers).headers == [(b"a", b"b"), (b"c", b"d")]


def test_a_dict_is_not_accepted_as_headers(lib: ModuleType) -> None:
    with pytest.raises(ValueError):
        lib.Response(status_code=200, headers={"content-type": "text/plain"})


def test_a_headers_object_is_used_again_as_it_is(lib: ModuleType) -> None:
    first = lib.Response(status_code=200, headers=[("X-A", "1")])
    second = lib.Response(status_code=201, headers=first.headers)
    assert second.headers is first.headers


@pytest.mark.parametrize(
    "name", ["", "a b", "a:", " a", "a ", "a\r", "a\n", "a\x00", b"\xe9", "a(b)", 'a"', "\t"]
)
def test_a_field_name_that_is_no_token_is_refused(lib: ModuleType, name: str | bytes) -> None:
    with pytest.raises(lib.LocalProtocolError) as caught:
        lib.Response(status_code=200, headers=[(name, "v")])
    assert caught.value.error_status_hint == 400


@pytest.mark.parametrize(
    "value",
    [
        " a",
        "a ",
        "\ta",
        "a\t",
        " ",
        "a\x00b",
        "a\rb",
        "a\nb",
        "a\r\nb: c",
        "a\r\n b",
        "\x0b",
        "a\x0cb",
        "a\n",
    ],
)
def test_a_field_value_with_outer_whitespace_or_line_ends_is_refused(lib: ModuleType, value: str) -> None:
    with pytest.raises(lib.LocalProtocolError) as caught:
        lib.Response(status_code=200, headers=[("n", value)])
    assert caught.value.error_status_hint == 400


@pytest.mark.parametrize("value", [b"", b"a b", b"a\tb", b"a \t b", b"\xe9\xff\x80", b'a, b;c="d\\e"'])
def test_inner_whitespace_and_obs_text_pass_in_a_field_value(lib: ModuleType, value: bytes) -> None:
    assert lib.Response(status_code=200, headers=[("n", value)]).headers == [(b"n", value)]


@pytest.mark.parametrize("control", [b"\x01", b"\x08", b"\x1b", b"\x7f"])
def test_other_controls_in_a_field_value_are_refused_by_ours_when_sent(
    wire: ModuleType, control: bytes
) -> None:
    row("SEND-CONTROLS")
    assert h11.Connection(h11.CLIENT).send(get(h11, headers=[*HOST, ("n", b"a" + control)]))
    with pytest.raises(wire.LocalProtocolError):
        wire.Connection(wire.CLIENT).send(get(wire, headers=[*HOST, ("n", b"a" + control)]))


@pytest.mark.parametrize("lengths", [["3"], ["3, 3"], ["3", "3"], ["3,3 , 3", "3"]])
def test_equal_content_lengths_become_one_field(lib: ModuleType, lengths: list[str]) -> None:
    headers = lib.Response(status_code=200, headers=[("Content-Length", value) for value in lengths]).headers
    assert headers == [(b"content-length", b"3")]
    assert headers.raw_items() == [(b"Content-Length", b"3")]


@pytest.mark.parametrize("lengths", [["3, 4"], ["3", "4"], ["3, 03"], ["3", "03"]])
def test_content_lengths_that_differ_are_refused(lib: ModuleType, lengths: list[str]) -> None:
    with pytest.raises(lib.LocalProtocolError) as caught:
        lib.Response(status_code=200, headers=[("Content-Length", value) for value in lengths])
    assert caught.value.error_status_hint == 400


@pytest.mark.parametrize("length", ["", "+3", "-1", "1 2", "0x3", "3.0", "a", ",", b"\xb3", "1" * 21])
def test_a_content_length_that_is_no_number_of_at_most_20_digits_is_refused(
    lib: ModuleType, length: str | bytes
) -> None:
    with pytest.raises(lib.LocalProtocolError) as caught:
        lib.Response(status_code=200, headers=[("Content-Length", length)])
    assert caught.value.error_status_hint == 400


def test_a_content_length_of_20_digits_is_accepted(lib: ModuleType) -> None:
    length = b"9" * 20
    assert lib.Response(status_code=200, headers=[("Content-Length", length)]).headers[0][1] == length


def test_the_transfer_coding_is_compared_and_kept_in_lower_case(lib: ModuleType) -> None:
    headers = lib.Response(status_code=200, headers=[("Transfer-Encoding", "ChunkeD")]).headers
    assert headers == [(b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize(
    "codings", [["gzip"], ["gzip, chunked"], ["chunked, chunked"], ["chunked", "chunked"], [""]]
)
def test_any_transfer_coding_but_chunked_once_is_not_implemented(lib: ModuleType, codings: list[str]) -> None:
    with pytest.raises(lib.LocalProtocolError) as caught:
        lib.Response(status_code=200, headers=[("Transfer-Encoding", value) for value in codings])
    assert caught.value.error_status_hint == 501


def test_headers_are_a_sequence_of_pairs(lib: ModuleType) -> None:
    headers = lib.EndOfMessage(headers=[("A", "1"), ("B", "2"), ("a", "1")]).headers
    assert isinstance(headers, collections.abc.Sequence)
    assert len(headers) == 3
    assert headers[0] == (b"a", b"1")
    assert headers[-2] == (b"b", b"2")
    assert (b"b", b"2") in headers
    assert (b"B", b"2") not in headers
    assert headers.index((b"b", b"2")) == 1
    assert headers.count((b"a", b"1")) == 2
    assert list(reversed(headers)) == [(b"a", b"1"), (b"b", b"2"), (b"a", b"1")]
    assert dict(headers) == {b"a": b"1", b"b": b"2"}
    assert bool(headers) is True
    assert bool(lib.EndOfMessage().headers) is False
    with pytest.raises(IndexError):
        headers[3]


def test_headers_are_equal_to_any_sequence_of_the_same_pairs(lib: ModuleType) -> None:
    headers = lib.EndOfMessage(headers=[("A", "1"), ("b", "2")]).headers
    assert headers == [(b"a", b"1"), (b"b", b"2")]
    assert headers == ((b"a", b"1"), (b"b", b"2"))
    assert headers == lib.EndOfMessage(headers=[("a", "1"), ("B", "2")]).headers
    assert headers != [(b"b", b"2"), (b"a", b"1")]
    assert headers != [(b"A", b"1"), (b"b", b"2")]


def test_headers_are_shown_as_a_list_and_cannot_be_hashed_or_added(lib: ModuleType) -> None:
    headers = lib.EndOfMessage(headers=[("A", "1")]).headers
    assert repr(headers) == "<Headers([(b'a', b'1')])>"
    with pytest.raises(TypeError):
        hash(headers)
    with pytest.raises(TypeError):
        operator.add(headers, [(b"b", b"2")])


def test_headers_of_ours_can_be_looked_up_by_name(wire: ModuleType) -> None:
    row("HEADERS-GET")
    headers = wire.EndOfMessage(headers=[("A", "1"), ("b", "2"), ("a", "3")]).headers
    assert headers.get(b"a") == b"1, 3"
    assert headers.get(b"c") is None
    assert headers.get(b"c", b"-") == b"-"
    assert headers.get_all(b"a") == [b"1", b"3"]
    assert headers.get_all(b"c") == []
    assert not hasattr(h11.EndOfMessage().headers, "get")


@pytest.mark.parametrize("name", MAKERS)
def test_an_instance_of_a_subclass_of_an_event_cannot_be_sent(lib: ModuleType, name: str) -> None:
    event = MAKERS[name](lib)
    subclass = type("Sub", (type(event),), {})
    arguments = {field: getattr(event, field) for field in FIELDS[name]}
    conn = lib.Connection(lib.CLIENT if name == "Request" else lib.SERVER)
    with pytest.raises(lib.LocalProtocolError):
        conn.send(subclass(**arguments))
    assert conn.our_state is lib.ERROR
