"""C44: the cookie jar in a user's hands: cookies of one's own, and keeping them."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest

from trio_http.client._cookies import CookieJar

LATER = time.time() + 3600


def filled() -> CookieJar:
    jar = CookieJar()
    jar.receive(
        "https://www.example.org/x/y",
        ["a=1; Secure; HttpOnly; SameSite=Lax; Max-Age=3600", "b=2; Domain=example.org; Path=/", "\xfc=\xff"],
    )
    jar.set("a", "3", domain="other.example", expires=LATER)
    return jar


# --------------------------------------------------------------------------------------- cookies of one's own


def test_a_users_cookie_goes_where_it_is_told_to() -> None:
    jar = CookieJar()
    jar.set("a", "1", domain="Example.org")
    jar.set("b", "2", domain="example.org", path="/x", secure=True)
    jar.set("c", "3", domain="example.org", host_only=False)
    jar.set("d", "4", domain="::1")
    assert jar.field_for("https://example.org/x") == "b=2; a=1; c=3"
    assert jar.field_for("http://example.org/x") == "a=1; c=3"
    assert jar.field_for("http://www.example.org/") == "c=3"
    assert jar.field_for("http://[::1]:80/") == "d=4"


def test_a_users_cookie_ends_when_it_is_told_to_and_not_after_400_days() -> None:
    jar = CookieJar()
    jar.set("a", "1", domain="h", expires=4e9, now=1e9)
    assert jar.field_for("http://h/", now=4e9 - 1) == "a=1"
    assert jar.field_for("http://h/", now=4e9) is None


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"name": ""}, "needs a name"),
        ({"name": "a=b"}, 'holds "="'),
        ({"name": "a;b"}, 'holds ";"'),
        ({"name": " a"}, "whitespace at an end"),
        ({"name": "a\r\nX"}, "holds '\\r'"),
        ({"value": "b; Secure"}, 'holds ";"'),
        ({"value": "b "}, "whitespace at an end"),
        ({"value": "b\nc"}, "holds '\\n'"),
        ({"value": "€"}, "Latin-1"),
        ({"value": "b" * 4096}, "4097 bytes"),
        ({"path": ""}, 'begins with "/"'),
        ({"path": "x"}, 'begins with "/"'),
        ({"domain": ""}, "no host"),
        ({"domain": ".example.org"}, "host_only=False"),
        ({"domain": "http://example.org"}, "not a host alone"),
        ({"domain": "192.0.2.1", "host_only": False}, "is an address"),
        ({"domain": "co.uk", "host_only": False}, "public suffix"),
        ({"name": "__Secure-a"}, "promises Secure"),
        ({"name": "__Host-a", "secure": True, "path": "/x"}, "promises no Domain"),
        ({"name": "__Host-a", "secure": True, "host_only": False}, "promises no Domain"),
        ({"expires": 1.0}, "before now"),
        ({"expires": math.nan}, "expected seconds since 1970"),
        ({"expires": math.inf}, "expected seconds since 1970"),
    ],
)
def test_a_users_bad_cookie_is_an_error_and_changes_nothing(given: dict[str, Any], why: str) -> None:
    jar = CookieJar()
    jar.set("a", "kept", domain="example.org")
    with pytest.raises(ValueError) as caught:
        jar.set(**{"name": "a", "value": "b", "domain": "example.org", **given})
    assert why in str(caught.value)
    assert [cookie.value for cookie in jar] == ["kept"]


def test_a_cookie_is_got_by_its_name_and_where_it_is() -> None:
    jar = filled()
    assert jar.get("b") == "2"
    assert jar.get("B") is None
    assert jar.get("a", domain="OTHER.example") == "3"
    assert jar.get("a", path="/x") == "1"
    assert jar.get("a", path="/nowhere") is None
    with pytest.raises(ValueError, match=r"2 cookies are called 'a'.*www\.example\.org/x, other\.example/"):
        jar.get("a")


def test_cookies_are_deleted_by_name_and_where_they_are() -> None:
    jar = filled()
    assert jar.delete("a", domain="www.example.org") == 1
    assert jar.delete("a", domain="www.example.org") == 0
    assert jar.get("a") == "3"
    assert jar.delete("a", path="/") == 1
    assert sorted(cookie.name for cookie in jar) == ["b", "\xfc"]


def test_a_domain_is_cleared_with_all_below_it() -> None:
    jar = filled()
    jar.set("c", "4", domain="badexample.org")
    jar.clear("example.org")
    assert {cookie.domain for cookie in jar} == {"other.example", "badexample.org"}
    jar.clear()
    assert len(jar) == 0
    assert jar.field_for("http://other.example/") is None


def test_iteration_shows_what_is_kept_and_nothing_that_has_ended() -> None:
    jar = filled()
    jar.receive("https://www.example.org/", ["gone=1; Max-Age=10"], now=time.time() - 10)
    jar.receive("https://www.example.org/", ["soon=1; Max-Age=100"])
    assert len(jar) == 5
    assert {cookie.name for cookie in jar} == {"a", "b", "\xfc", "soon"}
    assert jar.get("gone") is None
    assert jar.delete("gone") == 0
    cookie = next(cookie for cookie in jar if cookie.name == "b")
    assert (cookie.domain, cookie.host_only, cookie.path, cookie.expires) == ("example.org", False, "/", None)
    cookie = next(cookie for cookie in jar if cookie.domain == "www.example.org" and cookie.name == "a")
    assert (cookie.secure, cookie.http_only, cookie.same_site, cookie.host_only) == (True, True, "Lax", True)
    for cookie in jar:  # a snapshot: it may change meanwhile
        jar.delete(cookie.name)
    assert len(jar) == 0


def test_no_repr_shows_a_value() -> None:
    jar = CookieJar()
    jar.set("session", "hunter2", domain="example.org")
    assert "hunter2" not in repr(jar) + repr(list(jar))
    assert repr(jar) == "<CookieJar: 1 cookies of 1 domains>"


# ----------------------------------------------------------------------------------------------- keeping them


def test_what_was_written_is_read_back_whole() -> None:
    jar = filled()
    again = CookieJar.from_json(jar.to_json(session=True))
    assert set(again) == set(jar)
    assert len(again) == 4
    for url in ("https://www.example.org/x", "http://example.org/", "http://other.example/"):
        assert again.field_for(url) == jar.field_for(url)


def test_cookies_of_the_session_are_written_only_when_asked_for() -> None:
    again = CookieJar.from_json(filled().to_json())
    assert {(cookie.name, cookie.domain) for cookie in again} == {
        ("a", "www.example.org"),
        ("a", "other.example"),
    }


def test_a_cookie_whose_domain_is_an_address_is_host_only_and_can_be_kept() -> None:
    jar = CookieJar()
    jar.receive("http://192.0.2.1/", ["a=1; Domain=192.0.2.1"])
    assert [cookie.host_only for cookie in CookieJar.from_json(jar.to_json(session=True))] == [True]


def test_the_order_of_sending_survives() -> None:
    jar = CookieJar()
    jar.receive("http://h/", [f"c{number}=x" for number in range(20)])
    before = jar.field_for("http://h/")
    jar.receive("http://h/", ["c3=x"])
    assert CookieJar.from_json(jar.to_json(session=True)).field_for("http://h/") == before


def test_what_has_ended_or_become_a_public_suffix_is_left_out() -> None:
    jar = CookieJar(is_public_suffix=lambda domain: False)
    jar.receive("http://a.b.example/", ["a=1; Domain=b.example", "b=2"])
    jar.set("c", "3", domain="h", expires=1060.0, now=1000.0)
    text = jar.to_json(session=True)
    ended = text.replace('"expires": null', '"expires": 5.0', 1)
    assert ended != text
    assert len(CookieJar.from_json(text, is_public_suffix=lambda domain: False)) == 2
    assert [c.name for c in CookieJar.from_json(text, is_public_suffix=lambda d: d == "b.example")] == ["b"]
    assert [c.name for c in CookieJar.from_json(ended, is_public_suffix=lambda domain: False)] == ["b"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "a;b"}, 'holds ";"'),
        ({"name": "", "value": ""}, "neither name nor value"),
        ({"value": "b\r\nX: y"}, "holds '\\r'"),
        ({"value": 3}, "value is of the type int"),
        ({"domain": "EXAMPLE.org"}, "lower case"),
        ({"domain": "a/b"}, "not a host alone"),
        ({"path": "x"}, 'begins with "/"'),
        ({"secure": 1}, "secure is of the type int"),
        ({"expires": True}, "expires is of the type bool"),
        ({"expires": math.nan}, "expected seconds since 1970"),
        ({"created": None}, "created is of the type NoneType"),
        ({"same_site": "Sometimes"}, "same_site is 'Sometimes'"),
        ({"name": "__Host-a", "secure": False}, "promises Secure"),
        ({"domain": "192.0.2.1", "host_only": False}, "is an address"),
        ({"more": 1}, "expected an object with the members"),
    ],
)
def test_a_bad_cookie_in_a_file_is_an_error_that_says_which(change: dict[str, Any], why: str) -> None:
    held = json.loads(filled().to_json())
    held["cookies"][1].update(change)
    with pytest.raises(ValueError) as caught:
        CookieJar.from_json(json.dumps(held))
    assert str(caught.value).startswith("cookie 1: ")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"version": 2, "cookies": []}',
        '{"version": 1}',
        '{"version": 1, "cookies": {}}',
    ],
)
def test_what_is_no_jar_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        CookieJar.from_json(text)
