"""C19: proxies from the environment, and the hosts that it excepts."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_http import InvalidRequest
from trio_http.client._no_proxy import NoProxy
from trio_http.client._origin import Origin
from trio_http.client._proxy_environment import EnvironmentProxies

HTTP = Origin("http", "example.org", 80)
HTTPS = Origin("https", "example.org", 443)


def chosen(environ: dict[str, str], origin: Origin) -> str | None:
    proxy = EnvironmentProxies(environ).proxy_for(origin)
    return None if proxy is None else str(proxy)


def test_without_variables_there_is_no_proxy() -> None:
    assert chosen({}, HTTP) is None
    assert chosen({"PATH": "/bin"}, HTTPS) is None


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({"http_proxy": "http://a:1"}, "http://a:1", None),
        ({"HTTP_PROXY": "http://a:1"}, "http://a:1", None),
        ({"https_proxy": "http://a:1"}, None, "http://a:1"),
        ({"HTTPS_PROXY": "https://a:1"}, None, "https://a:1"),
        ({"all_proxy": "socks5h://a:1"}, "socks5h://a:1", "socks5h://a:1"),
        ({"ALL_PROXY": "socks5://a"}, "socks5://a:1080", "socks5://a:1080"),
        ({"http_proxy": "http://a:1", "all_proxy": "http://b:1"}, "http://a:1", "http://b:1"),
        ({"http_proxy": "http://a:1", "HTTP_PROXY": "http://b:1"}, "http://a:1", None),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, None, "http://a:1"),
        ({"http_proxy": "", "HTTP_PROXY": "http://b:1"}, "http://b:1", None),
        ({"http_proxy": " ", "all_proxy": "\thttp://b:1 "}, "http://b:1", "http://b:1"),
        ({"http_proxy": "a:3128"}, "http://a:3128", None),
        ({"http_proxy": "user:pw@a"}, "http://a:80", None),
    ],
)
def test_the_variable_of_the_scheme_counts_then_the_one_for_all_and_lower_case_first(
    environ: dict[str, str], http: str | None, https: str | None
) -> None:
    assert (chosen(environ, HTTP), chosen(environ, HTTPS)) == (http, https)


def test_a_program_run_by_cgi_does_not_take_a_request_field_for_its_proxy() -> None:
    # CVE-2016-5385: the request field "Proxy: x" is the variable HTTP_PROXY there.
    cgi = {"REQUEST_METHOD": "GET", "HTTP_PROXY": "http://evil:1"}
    assert chosen(cgi, HTTP) is None
    assert chosen(cgi | {"HTTP_PROXY": "no URL at all"}, HTTP) is None
    assert chosen(cgi | {"http_proxy": "http://a:1"}, HTTP) == "http://a:1"
    assert chosen(cgi | {"ALL_PROXY": "http://a:1"}, HTTP) == "http://a:1"
    assert chosen(cgi | {"HTTPS_PROXY": "http://a:1"}, HTTPS) == "http://a:1"


def test_the_variables_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    monkeypatch.setenv("http_proxy", "http://a:1")
    proxies = EnvironmentProxies()
    monkeypatch.setenv("http_proxy", "http://b:1")
    monkeypatch.setenv("no_proxy", "*")
    assert str(proxies.proxy_for(HTTP)) == "http://a:1"
    assert proxies.proxy_for(HTTP) is proxies.proxy_for(Origin("http", "example.com", 80))


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("http_proxy", "ftp://user:secret@a", "scheme 'ftp'"),
        ("HTTPS_PROXY", "user:secret@a:b", "malformed host or port"),
        ("ALL_PROXY", "http://user:secret@", "no host"),
        ("https_proxy", "http://user:%80secret@a", "not UTF-8"),
        ("NO_PROXY", "example.org,10.0.0.0/33", "10.0.0.0/33"),
        ("no_proxy", "exa mple.org ex*mple.org", "ex*mple.org"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_the_name_of_its_variable(
    name: str, value: str, why: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        EnvironmentProxies({name: value})
    assert f"environment variable {name}: " in str(caught.value)
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_variable_that_is_overruled_is_not_looked_at() -> None:
    assert chosen({"http_proxy": "http://a:1", "HTTP_PROXY": "nonsense://"}, HTTP) == "http://a:1"


def test_the_excepted_hosts_are_asked_directly() -> None:
    environ = {"all_proxy": "http://a:1", "no_proxy": "example.org:443, .internal", "NO_PROXY": "*"}
    assert chosen(environ, HTTPS) is None
    assert chosen(environ, HTTP) == "http://a:1"
    assert chosen(environ, Origin("http", "db.internal", 80)) is None
    assert chosen({"all_proxy": "http://a:1", "NO_PROXY": "*"}, HTTP) is None


def test_a_host_of_this_machine_is_excepted_only_where_it_is_named() -> None:
    for host in ("localhost", "127.0.0.1", "::1"):
        origin = Origin("http", host, 80)
        assert chosen({"http_proxy": "http://a:1"}, origin) == "http://a:1"
        assert chosen({"http_proxy": "http://a:1", "no_proxy": f"x,{host}"}, origin) is None


def test_what_the_environment_said_can_be_shown() -> None:
    proxies = EnvironmentProxies({"http_proxy": "http://user:secret@a:1", "no_proxy": "b  c"})
    assert repr(proxies) == "<EnvironmentProxies http: http://a:1, https: None, NoProxy('b,c')>"


# --------------------------------------------------------------------------------------------- the exceptions


@pytest.mark.parametrize(
    ("entries", "covered", "not_covered"),
    [
        ("", [], ["example.org", "192.0.2.1", "::1", "localhost"]),
        (" , ,, ", [], ["example.org"]),
        ("*", ["example.org", "192.0.2.1", "::1"], []),
        ("a,*", ["example.org"], []),
        ("example.org", ["example.org", "www.example.org", "a.b.example.org", "example.org."], ["org"]),
        ("example.org", [], ["notexample.org", "example.org.evil", "example.com"]),
        (".example.org", ["example.org", "www.example.org"], ["notexample.org"]),
        ("*.example.org", ["example.org", "www.example.org"], ["notexample.org"]),
        ("Example.ORG.", ["example.org", "www.example.org."], []),
        (
            "a.example b.example,c.example\td.example",
            ["a.example", "b.example", "c.example", "d.example"],
            [],
        ),
        ("localhost", ["localhost", "x.localhost"], ["127.0.0.1", "::1"]),
        ("bücher.example", ["xn--bcher-kva.example", "www.xn--bcher-kva.example"], ["bcher.example"]),
        ("my_host", ["my_host"], ["host"]),
        ("192.0.2.1", ["192.0.2.1"], ["192.0.2.10", "192.0.2.11", "1.192.0.2.1"]),
        ("2001:DB8:0::1", ["2001:db8::1"], ["2001:db8::2"]),
        ("[2001:db8::1]", ["2001:db8::1"], ["2001:db8::2"]),
        ("::ffff:192.0.2.1", ["192.0.2.1", "::ffff:c000:201"], ["192.0.2.2"]),
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255", "::ffff:a01:203"], ["11.0.0.0", "10.example"]),
        ("10.1.2.3/8", ["10.255.255.255"], ["11.0.0.0"]),
        ("2001:db8::/32", ["2001:db8:ffff::"], ["2001:db9::", "192.0.2.1"]),
        ("[2001:db8::]/32", ["2001:db8:ffff::"], ["2001:db9::"]),
        ("0.0.0.0/0", ["192.0.2.1"], ["example.org", "::1"]),
        ("::/0", ["::1"], ["example.org", "192.0.2.1"]),
        ("::1", ["::1", "0:0::1"], ["127.0.0.1"]),
    ],
)
def test_an_entry_covers(entries: str, covered: list[str], not_covered: list[str]) -> None:
    exceptions = NoProxy(entries)
    assert [host for host in covered if not exceptions.covers(host, 443)] == []
    assert [host for host in not_covered if exceptions.covers(host, 443)] == []


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("example.org:8080", "www.example.org"),
        (".example.org.:8080", "example.org"),
        ("192.0.2.1:8080", "192.0.2.1"),
        ("[2001:db8::1]:8080", "2001:db8::1"),
    ],
)
def test_an_entry_with_a_port_holds_on_that_port_alone(entry: str, host: str) -> None:
    exceptions = NoProxy(f"{entry} other.example")
    assert exceptions.covers(host, 8080)
    assert not exceptions.covers(host, 80)
    assert not exceptions.covers(host, 443)
    assert exceptions.covers("other.example", 80)


@pytest.mark.parametrize(
    "entry",
    [
        "exa$mple.org", "exa*mple", "*example.org", "**", "*.", ".", "..", "a..b", ".example..", "*:80",
        "http://example.org", "x" * 64, "example.org;other", "10.", "192.168", "192.0.2.256",
        "1.2.3.4.5", "10.0.0.0/33", "10.0.0.0/x", "10.0.0.0/", "/8", "10.0.0.0/255.0.0.0",
        "10.0.0.0/8:80", "example.org/8", "::g", "1::2::3", "[::1", "::1]", "[::1]x", "[::1]:",
        "[192.0.2.1]", "[example.org]", "fe80::1%eth0", "[fe80::1%eth0]", "fe80::%1/10", ":80",
        "example.org:", "example.org:0", "example.org:65536", "example.org:-1", "example.org:٣",
        "٣.٣.٣.٣/8", "\ud800.example", "[::1]/129", "[::1]x/64",
    ],
)  # fmt: skip
def test_an_entry_that_means_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ValueError) as caught:
        NoProxy(f"example.org,{entry}")
    assert repr(entry) in str(caught.value)


NAMES = st.lists(st.text("abz09-_", min_size=1, max_size=5), min_size=1, max_size=4).map(
    lambda labels: ".".join([*labels, "example"])
)


@given(NAMES, NAMES)
def test_a_name_covers_itself_and_what_lies_below_it(name: str, other: str) -> None:
    exceptions = NoProxy(name)
    assert exceptions.covers(name, 80)
    assert exceptions.covers(f"{other}.{name}", 80)
    assert exceptions.covers(other, 80) == (other == name or other.endswith(f".{name}"))


# Those of IPv6 that stand for IPv4 count as IPv4, of which there are examples above.
ADDRESSES = st.ip_addresses().filter(lambda address: not getattr(address, "ipv4_mapped", None))


@given(ADDRESSES, ADDRESSES, st.integers(0, 128))
def test_a_network_covers_its_addresses(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
    length: int,
) -> None:
    network = ipaddress.ip_network(f"{address}/{min(length, address.max_prefixlen)}", strict=False)
    exceptions = NoProxy(f"{address}/{network.prefixlen}")
    assert exceptions.covers(str(address), 80)
    assert exceptions.covers(str(other), 80) == (other in network)


@given(st.text(max_size=30) | st.text(st.sampled_from("a1.:[]/*%, "), max_size=15))
def test_any_text_is_entries_or_refused(text: str) -> None:
    error = ""
    exceptions = NoProxy("")
    try:
        exceptions = NoProxy(text)
    except ValueError as exc:
        error = str(exc)
    if error:
        assert error.startswith("malformed entry ")
    else:
        assert exceptions.covers("example.org", 80) == ("*" in re.split(r"[,\s]+", text))
