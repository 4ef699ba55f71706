"""URLs: as they are written, or refused with the reason."""

from __future__ import annotations

import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st

from trio_http import InvalidRequest
from trio_http.client._url import form_encoded, joined_url, parse_url, with_params


@pytest.mark.parametrize(
    ("url", "origin", "host", "target"),
    [
        ("http://example.org", "http://example.org", b"example.org", b"/"),
        ("http://example.org:8080/a/b?c=d", "http://example.org:8080", b"example.org:8080", b"/a/b?c=d"),
        ("HTTP://EXAMPLE.org:80/A", "http://example.org", b"example.org", b"/A"),
        ("https://example.org:443/", "https://example.org", b"example.org", b"/"),
        ("https://example.org:80/", "https://example.org:80", b"example.org:80", b"/"),
        ("http://example.org:/", "http://example.org", b"example.org", b"/"),
        ("http://example.org?q", "http://example.org", b"example.org", b"/?q"),
        ("http://example.org/?", "http://example.org", b"example.org", b"/?"),
        ("http://example.org/#top", "http://example.org", b"example.org", b"/"),
        ("http://example.org/a%2Fb/../c//d;e", "http://example.org", b"example.org", b"/a%2Fb/../c//d;e"),
        ("http://example.org//evil/x", "http://example.org", b"example.org", b"//evil/x"),
        ("http://[::1]:8000/", "http://[::1]:8000", b"[::1]:8000", b"/"),
        ("http://[2001:DB8:0::1]/", "http://[2001:db8::1]", b"[2001:db8::1]", b"/"),
        ("http://192.0.2.1/", "http://192.0.2.1", b"192.0.2.1", b"/"),
        ("http://bücher.example/", "http://xn--bcher-kva.example", b"xn--bcher-kva.example", b"/"),
    ],
)
def test_a_url_is_taken_apart_as_it_is_written(url: str, origin: str, host: bytes, target: bytes) -> None:
    destination = parse_url(url)
    assert (str(destination.origin), destination.host, destination.target) == (origin, host, target)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("/hello", "is not absolute"),
        ("example.org", "is not absolute"),
        ("http:/example.org", "is not absolute"),
        ("", "is not absolute"),
        ("ftp://example.org/", "the scheme 'ftp'"),
        ("http:///path", "has no host"),
        ("http://:80/", "has no host"),
        ("http://example.org/a b", "holds ' '"),
        ("http://example.org/\r\nX: y", "holds '\\r'"),
        ("http://example.org/\x00", "holds '\\x00'"),
        ("http://example.org/ü", "must be percent-encoded"),
        ("http://exa mple.org/", "malformed host"),
        ("http://example.org\\@evil/", "credentials"),
        ("http://exa\\mple/", "malformed host"),
        ("http://example.org\n/", "malformed host"),
        ("http://a%41/", "malformed host"),
        ("http://user:secret@example.org/", "credentials"),
        ("http://example.org:0/", "port 0"),
        ("http://example.org:65536/", "port 65536"),
        ("http://example.org:٣/", "malformed host"),
        ("http://example.org:x/", "malformed host"),
        ("http://[::1/", "malformed host"),
        ("http://[::g]/", "IPv6"),
        ("http://[fe80::1%25eth0]/", "IPv6 zone"),
    ],
)
def test_what_is_no_url_of_ours_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_url(url)
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=30).map(lambda text: f"http://example.org/{text}") | st.text(max_size=40))
def test_any_text_goes_out_as_written_or_is_refused(url: str) -> None:
    try:
        destination = parse_url(url)
    except InvalidRequest:
        return
    assert (
        destination.target.decode() in (f"/{url}" if "/?" not in url else url) or destination.target == b"/"
    )
    assert destination.target.startswith(b"/")
    assert not set(destination.target) & {*range(0x21), *range(0x7F, 0x100)}
    assert not set(destination.host) & {*range(0x21), *range(0x7F, 0x100), *b"/?#@"}


def test_a_yarl_url_is_sent_as_it_encodes_itself() -> None:
    assert parse_url(str(yarl.URL("http://example.org/ü b"))).target == b"/%C3%BC%20b"


@pytest.mark.parametrize(
    ("base", "url", "joined"),
    [
        ("http://h", "/a", "http://h/a"),
        ("http://h/", "/a", "http://h/a"),
        ("http://h/v1", "a", "http://h/v1/a"),
        ("http://h/v1/", "/a", "http://h/v1/a"),
        ("http://h/v1", "", "http://h/v1"),
        ("http://h/v1", "?q=1", "http://h/v1?q=1"),
        ("http://h/v1", "https://other/x", "https://other/x"),
        ("http://h", "//evil/x", "http://h//evil/x"),
        ("http://h", "@evil/x", "http://h/@evil/x"),
        ("http://h", "a:b", "http://h/a:b"),
    ],
)
def test_a_relative_url_is_appended_and_never_leads_elsewhere(base: str, url: str, joined: str) -> None:
    assert joined_url(base, url) == joined


@pytest.mark.parametrize(
    ("url", "params", "expected"),
    [
        ("http://h/", {"q": "x y", "n": 3}, "http://h/?q=x+y&n=3"),
        ("http://h/?a=1", {"b": "2"}, "http://h/?a=1&b=2"),
        ("http://h/?", {"b": "2"}, "http://h/?b=2"),
        ("http://h/#f", {"b": "2"}, "http://h/?b=2"),
        ("http://h/", {}, "http://h/"),
        ("http://h/", [("a", "1"), ("a", "&=#")], "http://h/?a=1&a=%26%3D%23"),
        ("http://h/", {"a": ["1", 2, True]}, "http://h/?a=1&a=2&a=true"),
        ("http://h/", {"ü": "ü"}, "http://h/?%C3%BC=%C3%BC"),
    ],
)
def test_parameters_are_appended_to_the_query(url: str, params: dict[str, str], expected: str) -> None:
    assert with_params(url, params) == expected


@pytest.mark.parametrize(
    "params", [{"a": None}, {"a": b"x"}, {"a": {"b": 1}, "c": object()}, "a=b", b"a=b", 3]
)
def test_parameters_that_are_no_text_are_refused(params: object) -> None:
    with pytest.raises(InvalidRequest):
        form_encoded(params)  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize(
    "url",
    [
        "http:/user:secret@host",
        "user:secret@host/",
        "//user:secret@host/",
        "http//user:secret@host/",
        "ftp://user:secret@host/",
        "http://user:sec/secret@host/",
        "http://user:secret#@host/",
        "http://user:secret@ho st/",
        "http://secret@host:port/",
        "http://user:secret@",
        "http:///user:secret@host/",
        "http://user:secret@[::1%25eth0]/",
        "x" * 100 + ":secret@host/",
    ],
)
def test_no_error_shows_what_might_be_a_password(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


def test_an_at_sign_in_a_path_hides_nothing() -> None:
    with pytest.raises(InvalidRequest, match=r"http://example\.org/a b@c"):
        parse_url("http://example.org/a b@c")
