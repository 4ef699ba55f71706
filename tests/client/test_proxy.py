"""C18: what a proxy is, how it is named, and how one is chosen."""

from __future__ import annotations

import base64
import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_http import InvalidRequest
from trio_http.client._origin import Origin
from trio_http.client._proxy import Proxy, ProxyFailed, as_chooser, masked

ORIGIN = Origin("https", "example.org", 443)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://proxy.example", "http://proxy.example:80"),
        ("https://proxy.example", "https://proxy.example:443"),
        ("socks5://proxy.example", "socks5://proxy.example:1080"),
        ("socks5h://proxy.example", "socks5h://proxy.example:1080"),
        ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128"),
        ("http://user:secret@[2001:DB8::1]:3128", "http://[2001:db8::1]:3128"),
        ("http://192.0.2.1:", "http://192.0.2.1:80"),
        ("http://bücher.example:1", "http://xn--bcher-kva.example:1"),
    ],
)
def test_a_proxy_is_named_by_a_url(url: str, shown: str) -> None:
    proxy = Proxy.from_url(url)
    assert str(proxy) == shown
    assert proxy.is_socks == shown.startswith("socks")
    assert Proxy.from_url(shown, credentials=proxy.credentials) == proxy


@pytest.mark.parametrize(
    ("userinfo", "credentials"),
    [
        ("", None),
        ("@", None),
        ("user@", ("user", "")),
        ("user:@", ("user", "")),
        ("user:pass:word@", ("user", "pass:word")),
        (":secret@", ("", "secret")),
        ("%75s%40er:p%3Aw%2F%25@", ("us@er", "p:w/%")),
        ("m%C3%BCller:gr%C3%BC%C3%9Fe@", ("müller", "grüße")),
        ("a@b:c@", ("a@b", "c")),
    ],
)
def test_credentials_are_taken_out_of_the_url_and_decoded(
    userinfo: str, credentials: tuple[str, str] | None
) -> None:
    proxy = Proxy.from_url(f"http://{userinfo}proxy.example")
    assert proxy.credentials == credentials
    if credentials is None:
        assert proxy.authorization is None
        assert proxy.fields() == []
    else:
        assert proxy.authorization is not None
        scheme, _, token = proxy.authorization.partition(b" ")
        assert (scheme, base64.b64decode(token).decode()) == (b"Basic", ":".join(credentials))
        assert proxy.fields() == [(b"Proxy-Authorization", proxy.authorization)]


def test_basic_authorization_is_that_of_the_standard() -> None:
    # The two examples of RFC 7617 §2 and §2.1.
    proxy = Proxy.from_url("http://proxy.example", credentials=("Aladdin", "open sesame"))
    assert proxy.authorization == b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    proxy = Proxy.from_url("http://test:123%C2%A3@proxy.example")
    assert proxy.authorization == b"Basic dGVzdDoxMjPCow=="


def test_socks_has_credentials_and_no_authorization_field() -> None:
    proxy = Proxy.from_url("socks5://us%3Aer:secret@proxy.example")
    assert proxy.credentials == ("us:er", "secret")
    assert proxy.authorization is None
    assert proxy.fields() == []


def test_neither_credentials_nor_field_values_are_shown() -> None:
    proxy = Proxy.from_url("http://user:secret@proxy.example", headers={"X-Key": "hidden"})
    for text in (repr(proxy), str(proxy), f"{[proxy]}"):
        assert "proxy.example" in text
        assert "user" not in text
        assert "secret" not in text
        assert "hidden" not in text
        assert base64.b64encode(b"user:secret").decode() not in text
    assert "credentials='***'" in repr(proxy)
    assert "X-Key" in repr(proxy)
    assert "credentials=None" in repr(Proxy.from_url("http://proxy.example"))


def test_a_proxy_is_a_value() -> None:
    url, context = "https://user:secret@proxy.example", ssl.create_default_context()
    proxy = Proxy.from_url(url, headers={"X-A": "1"}, ssl_context=context)
    same = Proxy.from_url(url, headers={"X-A": "1"}, ssl_context=context)
    assert proxy == same
    assert hash(proxy) == hash(same)
    others = [
        Proxy.from_url(url, headers={"X-A": "1"}),
        Proxy.from_url(url, headers={"X-A": "2"}, ssl_context=context),
        Proxy.from_url("https://user:other@proxy.example", headers={"X-A": "1"}, ssl_context=context),
        Proxy.from_url("https://user:secret@proxy.example:8443", headers={"X-A": "1"}, ssl_context=context),
    ]
    assert len({proxy, same, *others}) == 5


def test_a_proxy_can_be_made_of_its_parts() -> None:
    proxy = Proxy(scheme="http", host="Proxy.Example", port=3128, credentials=("user", "p@ss"))
    assert proxy == Proxy.from_url("http://user:p%40ss@proxy.example:3128")
    assert str(Proxy(scheme="socks5", host="::1", port=1080)) == "socks5://[::1]:1080"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("proxy.example:3128", "is not absolute"),
        ("user:secret@proxy.example:3128", "is not absolute"),
        ("http:/user:secret@proxy.example", "is not absolute"),
        ("", "is not absolute"),
        ("ftp://user:secret@proxy.example", "the scheme 'ftp', expected one of http, https, socks5, socks5h"),
        ("socks4://proxy.example", "the scheme 'socks4'"),
        ("http://", "has no host"),
        ("http://user:secret@", "has no host"),
        ("http://user:secret@:3128", "has no host"),
        ("http://proxy.example/path", "more than credentials, host and port"),
        ("http://proxy.example?query", "more than credentials, host and port"),
        ("http://proxy.example#top", "more than credentials, host and port"),
        ("http://user:sec/ret@proxy.example", "malformed host"),
        ("http://user:1/secret@proxy.example", "more than credentials, host and port"),
        ("http://user:secret@proxy example", "malformed host"),
        ("http://user:secret@proxy.example:0", "port 0"),
        ("http://user:secret@proxy.example:65536", "port 65536"),
        ("http://user:secret@proxy.example:x", "malformed host or port"),
        ("http://user:secret@[::g]:1", "IPv6"),
        ("http://user:secret@[fe80::1%25eth0]:1", "IPv6 zone"),
        ("http://user:secret%@proxy.example", "a % in its credentials"),
        ("http://user:%FFsecret@proxy.example", "not UTF-8"),
        ("http://us%3Aer:secret@proxy.example", "a colon"),
        ("http://user:secret%0D%0A@proxy.example", "control characters"),
        ("socks5://:secret@proxy.example", "the user name of the credentials"),
        ("socks5://user@proxy.example", "has 0 bytes, expected 1-255"),
        (f"socks5://user:secret{'x' * 250}@proxy.example", "the password of the credentials"),
    ],
)
def test_what_names_no_proxy_is_refused_with_the_reason_and_without_the_credentials(
    url: str, why: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Proxy.from_url(url)
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "user:" not in str(caught.value)


def test_a_long_url_is_cut_where_it_is_shown() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Proxy.from_url("http://proxy.example/" + "x" * 10_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"ssl_context": ssl.create_default_context()}, "ssl_context"),
        ({"headers": {"Host": "other"}}, "field host"),
        ({"headers": {"content-length": "3"}}, "field content-length"),
        ({"headers": {"X": "a\r\nY: b"}}, "cannot be sent"),
        ({"headers": {"X": "€"}}, "cannot be sent"),
        ({"credentials": ("user", "secret"), "headers": {"proxy-authorization": "x"}}, "expected only one"),
        ({"credentials": ("user", "secret"), "scheme": "socks5", "headers": {"X": "y"}}, "SOCKS has no room"),
        ({"credentials": ("user", "secret\udcff")}, "UTF-8"),
        ({"credentials": "user:secret"}, "no tuple of two str"),
        ({"credentials": ("user", b"secret")}, "no tuple of two str"),
        ({"scheme": "ftp"}, "scheme 'ftp'"),
        ({"port": 0}, "port 0"),
        ({"port": "80"}, "port '80'"),
        ({"host": "proxy example"}, "malformed host"),
        ({"host": ""}, "no host"),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_the_reason(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Proxy(**{"scheme": "http", "host": "proxy.example", "port": 3128, **arguments})
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)


def test_credentials_in_the_url_and_beside_it_are_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Proxy.from_url("http://user:secret@proxy.example", credentials=("other", "secret"))
    assert "beside it" in str(caught.value)


@given(
    st.sampled_from(["http://", "https://", "socks5h://", "", "http:", "//"]),
    st.text(st.sampled_from("useUSE019:/?#@%[]é \n"), max_size=20),
    st.sampled_from(["@proxy.example", "@proxy.example:3128", "@", ""]),
)
def test_any_text_names_a_proxy_or_is_refused_without_what_stands_before_an_at_sign(
    scheme: str, text: str, rest: str
) -> None:
    try:
        proxy = Proxy.from_url(f"{scheme}{text}SECRET{rest}" if rest else f"{scheme}{text}")
    except InvalidRequest as exc:
        shown = str(exc)
    else:
        shown = repr(proxy)
        assert proxy.host == "proxy.example" or not rest
    assert "SECRET" not in shown


@given(st.text(st.characters(exclude_categories=["C"]), max_size=20), st.text(max_size=20))
def test_credentials_come_out_of_the_field_as_they_went_in(user: str, password: str) -> None:
    try:
        proxy = Proxy(scheme="http", host="proxy.example", port=80, credentials=(user, password))
    except InvalidRequest:
        assert ":" in user or not password.isprintable()
        return
    assert proxy.authorization is not None
    decoded = base64.b64decode(proxy.authorization.removeprefix(b"Basic "), validate=True).decode()
    assert decoded.partition(":")[::2] == (user, password)


def test_a_masked_url_keeps_its_scheme_and_host() -> None:
    assert masked("http://user:sec@ret@proxy.example") == "http://***@proxy.example"
    assert masked("user:secret@proxy.example") == "***@proxy.example"
    assert masked("http://proxy.example") == "http://proxy.example"


def test_a_failure_tells_which_proxy_was_asked_for_what() -> None:
    failure = ProxyFailed("it is asleep", "http://proxy.example:80", "example.org:443")
    assert str(failure) == "proxy http://proxy.example:80, asked for example.org:443: it is asleep"


# ------------------------------------------------------------------------------------------------- the choice


def test_a_choice_is_a_proxy_its_url_a_function_or_none() -> None:
    proxy = Proxy.from_url("http://proxy.example:3128")
    assert as_chooser(None)(ORIGIN) is None
    assert as_chooser(proxy)(ORIGIN) is proxy
    assert as_chooser("http://proxy.example:3128")(ORIGIN) == proxy
    chooser = as_chooser(lambda origin: proxy if origin.scheme == "https" else None)
    assert chooser(ORIGIN) is proxy
    assert chooser(Origin("http", "example.org", 80)) is None


def test_a_choice_that_is_none_of_these_is_refused() -> None:
    given: Any = 3128
    with pytest.raises(TypeError, match="not 3128"):
        as_chooser(given)
    with pytest.raises(InvalidRequest):
        as_chooser("proxy.example")


def test_a_function_that_chooses_no_proxy_is_told_and_one_that_raises_is_heard() -> None:
    choosing: Any = lambda origin: "http://proxy.example"  # noqa: E731
    with pytest.raises(TypeError, match=r"returned str for https://example\.org"):
        as_chooser(choosing)(ORIGIN)

    def broken(origin: Origin) -> Proxy | None:
        raise LookupError(origin.host)

    with pytest.raises(LookupError, match=r"example\.org"):
        as_chooser(broken)(ORIGIN)
