"""C44: which hosts and paths a cookie is for."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_http.client._cookie_rules import (
    check_prefix,
    default_path,
    domain_matches,
    host_argument,
    installed_public_suffixes,
    is_secure,
    path_matches,
    path_of,
)
from trio_http.client._set_cookie import CookieRefused
from trio_http.client._url import parse_url

# ----------------------------------------------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    ("host", "domain", "matches"),
    [
        ("example.org", "example.org", True),
        ("www.example.org", "example.org", True),
        ("a.b.example.org", "example.org", True),
        ("a.b.example.org", "b.example.org", True),
        ("example.org", "www.example.org", False),
        ("example.org", "org", True),
        ("badexample.org", "example.org", False),
        ("example.org.evil.test", "example.org", False),
        ("example.org", "", False),
        ("example.org", "xample.org", False),
        ("example.org", ".org", False),
        ("example.org.", "example.org", False),
        ("example.org.", "example.org.", True),
        ("www.example.org.", "example.org.", True),
        ("localhost", "localhost", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "2.1", False),
        ("192.0.2.1", "0.2.1", False),
        ("1.2.3.192.0.2.1", "192.0.2.1", False),
        ("2001:db8::1", "2001:db8::1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", False),
        ("10.127.1", "127.1", False),
        ("a.0x7f", "0x7f", False),
        ("0x7f.1.", "1.", False),
        ("1.example", "example", True),
        ("2a.4b", "4b", True),
    ],
)
def test_a_domain_is_for_itself_and_the_names_below_it_but_never_for_addresses(
    host: str, domain: str, matches: bool
) -> None:
    assert domain_matches(host, domain) is matches


LABEL = st.text("abc-019", min_size=1, max_size=4)
NAME = st.lists(LABEL, min_size=1, max_size=5).map(".".join)


@given(NAME, NAME)
def test_matching_is_being_equal_or_a_name_that_ends_in_the_domain_after_a_dot(
    host: str, domain: str
) -> None:
    for name in (host, f"{host}.{domain}"):
        numeric = name.rpartition(".")[2].isdecimal()
        assert domain_matches(name, domain) == (
            name == domain or (name.endswith(f".{domain}") and not numeric)
        )


@given(st.ip_addresses(), st.text("0123456789abcdef:.", max_size=20))
def test_an_address_matches_nothing_but_itself(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, domain: str
) -> None:
    assert domain_matches(str(address), str(address))
    assert domain_matches(str(address), domain) == (str(address) == domain)


@pytest.mark.parametrize(
    ("url", "secure"),
    [
        ("https://example.org/", True),
        ("http://example.org/", False),
        ("http://example.org:443/", False),
        ("http://localhost/", True),
        ("http://localhost.:8080/", True),
        ("http://LOCALHOST/", True),
        ("http://app.localhost/", True),
        ("http://notlocalhost/", False),
        ("http://localhost.example.org/", False),
        ("http://127.0.0.1/", True),
        ("http://127.8.8.8:80/", True),
        ("http://127.0.0.1.example.org/", False),
        ("http://128.0.0.1/", False),
        ("http://0.0.0.0/", False),
        ("http://[::1]/", True),
        ("http://[::ffff:127.0.0.1]/", True),
        ("http://[::2]/", False),
        ("https://192.0.2.1/", True),
    ],
)
def test_what_is_encrypted_or_stays_within_the_machine_is_secure(url: str, secure: bool) -> None:
    assert is_secure(parse_url(url)) is secure


@pytest.mark.parametrize(
    ("given_as", "host"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.org", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("a_b.example", "a_b.example"),
    ],
)
def test_a_user_names_a_host_in_any_form(given_as: str, host: str) -> None:
    assert host_argument(given_as) == host


@pytest.mark.parametrize(
    ("given_as", "why"),
    [
        ("", "no host"),
        (".example.org", "begins with a dot"),
        ("example.org/", "not a host alone"),
        ("http://example.org", "not a host alone"),
        ("user@example.org", "not a host alone"),
        ("example.org:80", "not a host"),
        ("[::1]:80", "not a host alone"),
        ("exa mple.org", "not a host"),
        ("a..b", "empty label"),
        ("example.org\r\n", "not a host"),
    ],
)
def test_what_is_no_host_is_refused(given_as: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        host_argument(given_as)
    assert why in str(caught.value)


# ----------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://h", "/"),
        ("http://h/", "/"),
        ("http://h?q=/a/b", "/"),
        ("http://h/a", "/"),
        ("http://h/a/", "/a"),
        ("http://h/a/b", "/a"),
        ("http://h/a/b/", "/a/b"),
        ("http://h/a/b?c/d", "/a"),
        ("http://h/a%2Fb", "/"),
        ("http://h//", "/"),
        ("http://h//a", "/"),
        ("http://h/a/b;c/d", "/a/b;c"),
    ],
)
def test_a_cookie_without_a_path_gets_that_of_the_request_up_to_its_last_slash(url: str, path: str) -> None:
    assert default_path(path_of(parse_url(url))) == path


@pytest.mark.parametrize(
    ("path", "cookie_path", "matches"),
    [
        ("/", "/", True),
        ("/a", "/", True),
        ("/a", "/a", True),
        ("/a/", "/a", True),
        ("/a/b", "/a", True),
        ("/a/b", "/a/", True),
        ("/a", "/a/", False),
        ("/ab", "/a", False),
        ("/a", "/ab", False),
        ("/A", "/a", False),
        ("/", "/a", False),
        ("/a%2Fb", "/a", False),
        ("//a", "/", True),
        ("/a?b", "/a", False),
    ],
)
def test_a_path_is_for_itself_and_what_lies_below_it(path: str, cookie_path: str, matches: bool) -> None:
    assert path_matches(path, cookie_path) is matches


PATH = st.lists(st.sampled_from(["a", "b", "ab", ""]), max_size=5).map(lambda parts: "/" + "/".join(parts))


@given(PATH, PATH)
def test_path_matching_goes_by_whole_segments(path: str, cookie_path: str) -> None:
    # Said in another way: the segments of the cookie's path are the first of the request's.
    wanted = cookie_path.removesuffix("/").split("/")
    expected = path.split("/")[: len(wanted)] == wanted and len(path) >= len(cookie_path)
    assert path_matches(path, cookie_path) == expected
    assert path_matches(path, "/")
    assert path_matches(path, path)
    assert path_matches(path, default_path(path))


# ---------------------------------------------------------------------------------- prefixes, public suffixes


@pytest.mark.parametrize(
    ("name", "secure", "host_only", "path", "good"),
    [
        ("a", False, False, None, True),
        ("__Secure-a", True, False, None, True),
        ("__Secure-a", False, True, "/", False),
        ("__SECURE-a", False, True, "/", False),
        ("__Secure", False, False, None, True),
        ("x__Secure-a", False, False, None, True),
        ("__Host-a", True, True, "/", True),
        ("__host-a", True, True, "/", True),
        ("__Host-a", False, True, "/", False),
        ("__hOsT-a", False, True, "/", False),
        ("__Host-a", True, False, "/", False),
        ("__Host-a", True, True, None, False),
        ("__Host-a", True, True, "/a", False),
        ("__Host-", True, True, None, False),
    ],
)
def test_a_name_with_a_prefix_keeps_its_promise_or_is_refused(
    name: str, secure: bool, host_only: bool, path: str | None, good: bool
) -> None:
    if good:
        check_prefix(name, "v", secure=secure, host_only=host_only, path=path)
    else:
        with pytest.raises(CookieRefused, match="promises"):
            check_prefix(name, "v", secure=secure, host_only=host_only, path=path)


@pytest.mark.parametrize("value", ["__Host-a", "__secure-", "__SECURE-x"])
def test_a_value_alone_does_not_pass_for_a_name_with_a_prefix(value: str) -> None:
    with pytest.raises(CookieRefused, match="no name"):
        check_prefix("", value, secure=True, host_only=True, path="/")


@pytest.fixture
def fresh_list() -> Iterator[None]:
    installed_public_suffixes.cache_clear()
    yield
    installed_public_suffixes.cache_clear()


@pytest.mark.parametrize(
    ("domain", "public"),
    [
        ("org", True),
        ("co.uk", True),
        ("example.co.uk", False),
        ("github.io", True),
        ("me.github.io", False),
        ("anything.ck", True),
        ("www.ck", False),
        ("localhost", True),
        ("app.unknown-suffix", False),
        ("xn--p1ai", True),
        ("co.uk.", True),
    ],
)
def test_the_installed_list_knows_public_suffixes(domain: str, public: bool) -> None:
    is_public_suffix = installed_public_suffixes()
    assert is_public_suffix is not None
    assert is_public_suffix(domain) is public


@pytest.mark.usefixtures("fresh_list")
def test_without_the_package_there_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "publicsuffixlist", None)  # what makes an import fail
    assert installed_public_suffixes() is None
