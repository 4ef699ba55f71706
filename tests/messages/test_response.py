"""Whole responses: how they are made, and what is read from them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from trio_http import Headers, Response, wire
from trio_http.messages import charset_of


def test_a_response_is_200_with_no_content_unless_told_otherwise() -> None:
    response = Response()
    assert (response.status, response.content, response.headers.raw, response.reason) == (200, b"", [], None)
    assert response.trailers == Headers()
    assert repr(Response(201, b"abc")) == "<Response 201, 3 bytes>"


@pytest.mark.parametrize(
    ("given", "content", "content_type"),
    [
        ({"text": "caf\xe9"}, "caf\xe9".encode(), "text/plain; charset=utf-8"),
        ({"text": ""}, b"", "text/plain; charset=utf-8"),
        ({"html": "<p>"}, b"<p>", "text/html; charset=utf-8"),
        ({"json": {"a": [1, "\u20ac"]}}, '{"a":[1,"\u20ac"]}'.encode(), "application/json"),
        ({"json": None}, b"null", "application/json"),
        ({"content": b"raw"}, b"raw", None),
        ({"content": bytearray(b"raw")}, b"raw", None),
        ({"content": memoryview(b"raw")}, b"raw", None),
    ],
)
def test_content_comes_with_the_type_that_says_what_it_is(
    given: dict[str, Any], content: bytes, content_type: str | None
) -> None:
    response = Response(200, **given)
    assert response.content == content
    assert type(response.content) is bytes
    assert response.headers.get("content-type") == content_type


def test_a_type_that_is_given_is_not_replaced_and_other_fields_stay() -> None:
    response = Response(200, text="a,b", headers={"CONTENT-TYPE": "text/csv"})
    assert response.headers.get_all("content-type") == ["text/csv"]
    response = Response(200, text="x", headers={"X-Case": "1"})
    assert response.headers.raw == [(b"X-Case", b"1"), (b"Content-Type", b"text/plain; charset=utf-8")]


@pytest.mark.parametrize(
    "given",
    [
        {"content": b"", "text": ""}, {"text": "", "html": ""}, {"html": "", "json": None},
        {"content": b"", "json": 1},
        {"content": "text"}, {"content": 1}, {"json": object()},
    ],
)  # fmt: skip
def test_two_contents_or_content_of_another_kind_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Response(200, **given)


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 1000])
def test_a_status_that_is_not_final_is_refused(status: int) -> None:
    """An interim head once went out in the place of the final one, and then the close."""
    with pytest.raises(ValueError, match=f"not {status}"):
        Response(status)


@pytest.mark.parametrize("status", [204, 304])
def test_content_where_none_can_be_is_refused(status: int) -> None:
    assert Response(status).content == b""
    with pytest.raises(ValueError, match="has no content, got 3 bytes"):
        Response(status, text="abc")


def test_illegal_fields_are_refused() -> None:
    with pytest.raises(wire.LocalProtocolError):
        Response(200, headers={"X": "a\r\nb"})


def test_fields_given_as_headers_are_shared_and_not_copied() -> None:
    headers = Headers({"X": "1"})
    assert Response(200, headers=headers).headers == headers


# ---------------------------------------------------------------------------------------------------- reading


def test_json_is_read_and_what_is_none_raises() -> None:
    assert Response(200, b"[1, null]").json() == [1, None]
    assert math.isinf(Response(200, b"1e999").json())
    for content in (b"", b"nope", b"\xff"):
        with pytest.raises(ValueError):
            Response(200, content).json()


def test_text_is_decoded_by_the_charset_and_never_fails() -> None:
    latin = {"Content-Type": "text/plain; charset=ISO-8859-1"}
    assert Response(200, b"\xe9", headers=latin).text == "\xe9"
    assert Response(200, "\xe9".encode()).text == "\xe9"
    assert Response(200, b"a\xff").text == "a\ufffd"
    for charset in ("nonsense", "idna", "undefined", "hex", "zlib", "punycode"):
        headers = {"Content-Type": f"text/plain; charset={charset}"}
        assert Response(200, b"\xff", headers=headers).text == "\ufffd"


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        ("text/plain; charset=utf-8", "utf-8"),
        ("text/plain;charset=utf-8", "utf-8"),
        ("text/plain ;\tCharSet=UTF-8 ; x=y", "UTF-8"),
        ('text/plain; charset="utf-8"', "utf-8"),
        ('text/plain; charset="a\\"b"', 'a"b'),
        ('multipart/mixed; boundary=";charset=no"; charset=yes', "yes"),
        ("text/plain;;; charset=x", "x"),
        ("text/plain; charset=a; charset=b", "a"),
        ("text/plain", None),
        ("charset", None),
        ("text/plain; charset", None),
        ("text/plain; charset=", None),
        ("text/plain; xcharset=a", None),
        ('text/plain; x=";charset=a', None),
        ("text/plain; charset*=utf-8''x", None),
        ("text/plain;charset*1=a; charset*b=3; charset*", None),
    ],
)
def test_the_charset_is_the_parameter_of_that_name(content_type: str, charset: str | None) -> None:
    assert charset_of(Headers({"Content-Type": content_type})) == charset


def test_without_a_content_type_there_is_no_charset() -> None:
    assert charset_of(Headers()) is None
