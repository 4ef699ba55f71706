"""C44: the cookie jar: what it takes, what it sends, and to whom."""

from __future__ import annotations

import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_http import InvalidRequest
from trio_http.client._cookie_rules import host_facts, installed_public_suffixes
from trio_http.client._cookies import CookieJar, as_cookie_jar
from trio_http.client._set_cookie import MAX_LIFE_SECONDS, MAX_PAIR_BYTES

# In 2096: what lives for minutes must not have ended by the clock of whoever runs this.
NOW = 4_000_000_000.0
PUBLIC = frozenset({"org", "example", "uk", "co.uk", "localhost", "test"})


def jar_with(url: str, *values: str, now: float = NOW, jar: CookieJar | None = None) -> CookieJar:
    """A jar, by default an empty one that knows `PUBLIC`, after a response from ``url``."""
    jar = CookieJar(is_public_suffix=PUBLIC.__contains__) if jar is None else jar
    jar.receive(url, values, now)
    return jar


# -------------------------------------------------------------------------------------------- what goes where


@pytest.mark.parametrize(
    ("set_by", "value", "asked", "field"),
    [
        # Without a Domain: the host alone, on any port and scheme.
        ("http://example.org/", "a=b", "http://example.org/", "a=b"),
        ("http://example.org/", "a=b", "https://example.org:8443/x?y", "a=b"),
        ("http://example.org/", "a=b", "http://EXAMPLE.org/", "a=b"),
        ("http://example.org/", "a=b", "http://www.example.org/", None),
        ("http://www.example.org/", "a=b", "http://example.org/", None),
        ("http://example.org/", "a=b", "http://example.org./", None),
        ("http://bücher.example/", "a=b", "http://xn--bcher-kva.example/", "a=b"),
        # With one: that domain, and all below it.
        ("http://www.example.org/", "a=b; Domain=example.org", "http://example.org/", "a=b"),
        ("http://www.example.org/", "a=b; Domain=.example.org", "http://x.y.example.org/", "a=b"),
        ("http://www.example.org/", "a=b; Domain=example.org", "http://badexample.org/", None),
        ("http://example.org/", "a=b; Domain=example.org", "http://www.example.org/", "a=b"),
        ("http://example.org/", "a=b; Domain=", "http://www.example.org/", None),
        ("http://example.org/", "a=b; Domain=.", "http://example.org/", "a=b"),
        # Not for others, nor for what is below, nor for what is everybody's.
        ("http://example.org/", "a=b; Domain=other.example", "http://other.example/", None),
        ("http://example.org/", "a=b; Domain=www.example.org", "http://www.example.org/", None),
        ("http://example.org/", "a=b; Domain=other.example", "http://example.org/", None),
        ("http://example.org/", "a=b; Domain=org", "http://example.org/", None),
        ("http://shop.co.uk/", "a=b; Domain=co.uk", "http://shop.co.uk/", None),
        ("http://example.org/", "a=b; Domain=\xe9xample.org", "http://example.org/", None),
        # A public suffix can have cookies of its own, as a host.
        ("http://co.uk/", "a=b; Domain=co.uk", "http://co.uk/", "a=b"),
        ("http://co.uk/", "a=b; Domain=co.uk", "http://shop.co.uk/", None),
        # Addresses.
        ("http://192.0.2.1/", "a=b", "http://192.0.2.1/", "a=b"),
        ("http://192.0.2.1/", "a=b; Domain=192.0.2.1", "http://192.0.2.1/", "a=b"),
        ("http://192.0.2.1/", "a=b; Domain=0.2.1", "http://192.0.2.1/", None),
        ("http://[::1]/", "a=b", "http://[0:0::1]/", "a=b"),
        # Paths.
        ("http://example.org/x/y", "a=b", "http://example.org/x/z", "a=b"),
        ("http://example.org/x/y", "a=b", "http://example.org/", None),
        ("http://example.org/x/y", "a=b; Path=/", "http://example.org/", "a=b"),
        ("http://example.org/", "a=b; Path=/x", "http://example.org/x?q", "a=b"),
        ("http://example.org/", "a=b; Path=/x", "http://example.org/xy", None),
        ("http://example.org/x/y", "a=b; Path=nonsense", "http://example.org/x", "a=b"),
        # Secure.
        ("https://example.org/", "a=b; Secure", "https://example.org/", "a=b"),
        ("https://example.org/", "a=b; Secure", "http://example.org/", None),
        ("http://example.org/", "a=b; Secure", "https://example.org/", None),
        ("http://localhost:8000/", "a=b; Secure", "http://localhost:8000/", "a=b"),
        ("http://[::1]/", "a=b; Secure", "http://[::1]/", "a=b"),
        # What is kept without a meaning.
        ("http://example.org/", "a=b; HttpOnly; SameSite=Strict", "http://example.org/", "a=b"),
        ("http://example.org/", "a=b; SameSite=None; Partitioned", "http://example.org/", "a=b"),
        # Prefixes.
        ("https://example.org/", "__Secure-a=b; Secure", "https://example.org/", "__Secure-a=b"),
        ("https://example.org/", "__Secure-a=b", "https://example.org/", None),
        ("https://example.org/", "__Host-a=b; Secure; Path=/", "https://example.org/", "__Host-a=b"),
        ("https://example.org/", "__Host-a=b; Secure", "https://example.org/", None),
        ("https://h.org/", "__Host-a=b; Secure; Path=/; Domain=h.org", "https://h.org/", None),
        ("https://co.uk/", "__Host-a=b; Secure; Path=/; Domain=co.uk", "https://co.uk/", None),
        ("https://example.org/", "__host-a=b; Secure; Path=/x", "https://example.org/x", None),
        ("https://example.org/", "=__Host-a", "https://example.org/", None),
        # No name, no value, no sense.
        ("http://example.org/", "token", "http://example.org/", "token"),
        ("http://example.org/", "a=", "http://example.org/", "a="),
        ("http://example.org/", "=session=evil", "http://example.org/", None),
        ("http://example.org/", "a=b\x00", "http://example.org/", None),
        ("http://example.org/", f"a={'b' * MAX_PAIR_BYTES}", "http://example.org/", None),
    ],
)  # fmt: skip
def test_a_cookie_goes_back_to_whom_it_is_for(set_by: str, value: str, asked: str, field: str | None) -> None:
    assert jar_with(set_by, value).field_for(asked, NOW) == field


def test_longer_paths_stand_first_and_then_older_cookies() -> None:
    jar = jar_with("http://example.org/x/y", "a=1; Path=/", "b=2", "c=3; Path=/", "d=4; Path=/x/y")
    jar_with("http://example.org/", "old=5", now=NOW - 1, jar=jar)
    assert jar.field_for("http://example.org/x/y/z", NOW) == "d=4; b=2; old=5; a=1; c=3"


def test_a_cookie_takes_the_place_and_the_age_of_its_predecessor() -> None:
    jar = jar_with("http://example.org/", "a=1", "b=2")
    jar_with("http://example.org/", "a=3; Max-Age=60", now=NOW + 10, jar=jar)
    assert jar.field_for("http://example.org/", NOW + 10) == "a=3; b=2"
    # But not of one that had ended when it came.
    jar_with("http://example.org/", "a=4", now=NOW + 100, jar=jar)
    assert jar.field_for("http://example.org/", NOW + 100) == "b=2; a=4"


def test_name_path_domain_and_host_only_tell_cookies_apart() -> None:
    jar = jar_with(
        "http://www.example.org/", "a=1", "A=2", "a=3; Path=/x", "a=4; Domain=example.org",
        "a=5; Domain=www.example.org", "a=6",
    )  # fmt: skip
    assert jar.field_for("http://www.example.org/x", NOW) == "a=3; a=6; A=2; a=4; a=5"


# ----------------------------------------------------------------------------------------------- for how long


@pytest.mark.parametrize(
    ("attributes", "last"),
    [
        ("Max-Age=60", NOW + 60),
        ("Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", NOW + 60),
        ("Expires=Tue, 02 Oct 2096 07:07:40 GMT", NOW + 60),
        ("Max-Age=x; Expires=Tue, 02 Oct 2096 07:07:40 GMT", NOW + 60),
        ("Max-Age=999999999999", NOW + MAX_LIFE_SECONDS),
        ("Expires=Fri, 31 Dec 9999 23:59:59 GMT", NOW + MAX_LIFE_SECONDS),
    ],
)
def test_a_cookie_ends_at_its_time(attributes: str, last: float) -> None:
    jar = jar_with("http://example.org/", f"a=b; {attributes}")
    assert jar.field_for("http://example.org/", last - 0.5) == "a=b"
    assert jar.field_for("http://example.org/", last) is None


@pytest.mark.parametrize("attributes", ["", "Max-Age=", "Expires=soon"])
def test_a_cookie_without_a_time_ends_with_the_jar(attributes: str) -> None:
    assert (
        jar_with("http://example.org/", f"a=b; {attributes}").field_for("http://example.org/", 1e12) == "a=b"
    )


@pytest.mark.parametrize("end", ["Max-Age=0", "Max-Age=-1", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_server_deletes_a_cookie_by_a_time_that_is_over(end: str) -> None:
    jar = jar_with("http://example.org/", "a=b", "c=d; Path=/x", "a=; " + end, "c=; " + end, "e=; " + end)
    assert [cookie.name for cookie in jar] == ["c"]  # which has another path


# ------------------------------------------------------------------ what insecure servers cannot do to others


@pytest.mark.parametrize(
    ("kept", "set_by", "value", "taken"),
    [
        ("a=1; Secure", "http://example.org/", "a=evil", False),
        ("a=1; Secure", "http://example.org/", "a=; Max-Age=0", False),
        ("a=1; Secure", "http://example.org/", "a=evil; Domain=example.org", False),
        ("a=1; Secure", "http://www.example.org/", "a=evil; Domain=example.org", False),
        ("a=1; Secure; Domain=example.org", "http://www.example.org/", "a=evil", False),
        ("a=1; Secure; Path=/x", "http://example.org/", "a=evil; Path=/x/y", False),
        ("a=1; Secure; Path=/x", "http://example.org/", "a=evil; Path=/", True),
        ("a=1; Secure; Path=/x", "http://example.org/", "a=evil; Path=/xy", True),
        ("a=1; Secure", "http://example.org/", "b=other", True),
        ("a=1; Secure", "http://www.example.org/", "a=evil", False),  # though neither host gets both
        ("a=1; Secure", "http://badexample.org/", "a=mine", True),
        ("a=1; Secure", "http://other.org/", "a=mine", True),
        ("a=1; Secure; Max-Age=1", "http://example.org/", "a=mine", True),
        ("a=1", "http://example.org/", "a=mine", True),
        ("a=1; Secure", "https://example.org/", "a=mine", True),
    ],
)
def test_an_insecure_server_does_not_overlay_a_secure_cookie(
    kept: str, set_by: str, value: str, taken: bool
) -> None:
    jar = jar_with("https://example.org/", kept)
    before = set(jar)
    jar_with(set_by, value, now=NOW + 2, jar=jar)
    assert (set(jar) != before) is taken


def test_an_insecure_server_does_not_overlay_the_secure_cookie_of_a_host_below_it() -> None:
    jar = jar_with("https://www.example.org/", "a=1; Secure")
    jar_with("http://example.org/", "a=evil; Domain=example.org", jar=jar)
    jar_with("http://other.example.org/", "a=mine", jar=jar)
    assert jar.field_for("https://www.example.org/", NOW) == "a=1"
    assert jar.field_for("http://other.example.org/", NOW) == "a=mine"
    # Once it is gone, by whichever way, there is nothing to overlay.
    jar.clear("www.example.org")
    jar_with("http://example.org/", "a=2; Domain=example.org", jar=jar)
    assert jar.field_for("https://www.example.org/", NOW) == "a=2"


def test_an_insecure_server_does_not_drive_secure_cookies_out() -> None:
    jar = CookieJar(max_per_domain=3, is_public_suffix=PUBLIC.__contains__)
    jar_with("https://example.org/", "a=1; Secure", "b=2; Secure", jar=jar)
    jar_with("http://example.org/", *(f"c{number}=x" for number in range(20)), jar=jar)
    assert jar.field_for("https://example.org/", NOW) == "a=1; b=2; c19=x"
    jar_with("https://example.org/", "d=3; Secure", jar=jar)
    jar_with("http://example.org/", "e=x", jar=jar)
    assert jar.field_for("https://example.org/", NOW) == "a=1; b=2; d=3"


# ----------------------------------------------------------------------------------------------------- limits


def test_a_domain_has_so_many_cookies_and_the_least_recently_sent_goes() -> None:
    jar = CookieJar(max_per_domain=3, is_public_suffix=PUBLIC.__contains__)
    jar_with("http://example.org/", "a=1; Path=/a", "b=2; Path=/b", "c=3; Path=/c", jar=jar)
    jar_with("http://other.org/", "z=9", jar=jar)
    assert jar.field_for("http://example.org/a", NOW) == "a=1"
    jar_with("http://example.org/", "d=4", jar=jar)
    assert sorted(cookie.name for cookie in jar) == ["a", "c", "d", "z"]


def test_expired_cookies_go_before_others_do() -> None:
    for jar in (CookieJar(max_per_domain=3), CookieJar(max_total=3)):
        jar_with("http://example.org/", "a=1", "b=2; Max-Age=5", "c=3", jar=jar)
        jar_with("http://example.org/", "d=4", now=NOW + 5, jar=jar)
        assert jar.field_for("http://example.org/", NOW + 5) == "a=1; c=3; d=4"
        jar_with("http://example.org/", "e=5", now=NOW + 6, jar=jar)
        assert jar.field_for("http://example.org/", NOW + 6) == "c=3; d=4; e=5"


def test_a_jar_has_so_many_cookies_and_the_least_recently_sent_goes() -> None:
    jar = CookieJar(max_total=3)
    for host in "abc":
        jar_with(f"http://{host}.example/", f"{host}=1", jar=jar)
    assert jar.field_for("http://a.example/", NOW) == "a=1"
    jar_with("http://d.example/", "d=1", jar=jar)
    assert [cookie.name for cookie in jar] == ["c", "a", "d"]


def test_the_limits_are_those_that_the_documents_say() -> None:
    jar = CookieJar(is_public_suffix=PUBLIC.__contains__)
    for host in range(20):
        jar_with(f"http://h{host}.example/", *(f"a{number}=x" for number in range(200)), jar=jar)
        assert len(jar) == min(180 * (host + 1), 3000)
    with pytest.raises(ValueError, match="at least 1, not 0 and 3000"):
        CookieJar(max_per_domain=0)
    with pytest.raises(ValueError, match="at least 1, not 180 and 0"):
        CookieJar(max_total=0)


def test_what_has_ended_is_let_go_of_when_it_is_met() -> None:
    jar = jar_with("http://example.org/", "a=1; Max-Age=5", "b=2; Max-Age=5; Path=/x")
    assert jar.field_for("http://example.org/", NOW + 5) is None
    assert jar._store.is_empty


def test_a_request_looks_at_the_cookies_of_its_own_domains_only() -> None:
    seen = 0

    class Counting(str):
        def startswith(self, *args: object) -> bool:  # what path matching asks of each cookie
            nonlocal seen
            seen += 1
            return super().startswith(*args)  # type: ignore[arg-type]

    jar = CookieJar(is_public_suffix=PUBLIC.__contains__)
    for host in range(500):
        jar_with(f"http://h{host}.example/", "a=1", "b=2", "c=3; Domain=example", jar=jar)
    assert len(jar) == 1000
    assert jar.field_for("http://h7.example/", NOW) == "a=1; b=2"
    assert len(jar._store.take(host_facts("h7.example"), Counting("/"), False, NOW)) == 2
    assert seen == 2


# ------------------------------------------------------------------------------- lists, logs, and bad callers


def test_without_a_list_every_received_cookie_is_host_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "publicsuffixlist", None)  # what makes an import fail
    installed_public_suffixes.cache_clear()
    jar = CookieJar()
    installed_public_suffixes.cache_clear()
    jar.receive("http://www.example.org/", ["a=1; Domain=example.org", "b=2; Domain=other.org"], NOW)
    assert jar.field_for("http://www.example.org/", NOW) == "a=1"
    assert jar.field_for("http://example.org/", NOW) is None
    assert jar.field_for("http://x.www.example.org/", NOW) is None


def test_with_the_package_installed_its_list_is_used() -> None:
    jar = CookieJar()
    jar_with("http://me.github.io/", "a=1; Domain=github.io", "b=2; Domain=me.github.io", jar=jar)
    assert jar.field_for("http://x.me.github.io/", NOW) == "b=2"
    assert jar.field_for("http://you.github.io/", NOW) is None


def test_what_is_refused_is_logged_without_its_value(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="trio_http.client"):
        jar_with("http://example.org:81/", "session=hunter2; Secure", "__Host-hunter2", "hunter2\x00", "a=b")
    assert len(caplog.records) == 3
    assert "cookie 'session' of http://example.org:81 refused: it is Secure" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_bad_url_or_one_str_is_the_callers_mistake() -> None:
    jar = jar_with("http://example.org/", "a=b")
    with pytest.raises(InvalidRequest):
        jar.receive("example.org", ["a=b"], NOW)
    with pytest.raises(InvalidRequest):
        jar.field_for("example.org", NOW)
    with pytest.raises(TypeError, match="not one str"):
        jar.receive("http://example.org/", "a=b", NOW)


PARTS = st.sampled_from(
    "a|b|=|; |Path|/|/x|Domain|example.org|org|.|Max-Age|-1|5|Expires|Secure|__Host-|__Secure-|\t|\x00|"
    "\xff|€|06 Nov 2096 08:49:37".split("|")
)
URLS = st.sampled_from(
    ["http://example.org/", "https://www.example.org/x/y", "http://192.0.2.1/", "http://localhost/x"]
) | st.sampled_from(["https://org/", "http://" + "a." * 120 + "org/x"])


@given(
    st.lists(st.tuples(URLS, st.text(max_size=30) | st.lists(PARTS, max_size=10).map("".join)), max_size=8),
    URLS,
)
def test_a_server_can_raise_nothing_and_break_no_field(received: list[tuple[str, str]], asked: str) -> None:
    jar = CookieJar(max_per_domain=3, max_total=5, is_public_suffix=PUBLIC.__contains__)
    for url, value in received:
        jar.receive(url, [value], NOW)
    assert len(list(jar)) <= 5
    field = jar.field_for(asked, NOW)
    sent = [] if field is None else field.split("; ")
    assert field is None or not set(field.encode("latin-1")) & {*range(9), *range(10, 32), 127}
    assert field is None or field == field.strip(" \t") != ""
    assert len(sent) <= 5
    if not asked.startswith("https:") and "localhost" not in asked:
        assert all(f"{c.name}={c.value}" not in sent for c in jar if c.secure and c.name.startswith("__"))


# ------------------------------------------------------------------------------------- a client's three words


def test_a_client_is_told_of_a_jar_or_a_new_one_or_none() -> None:
    jar = CookieJar()
    assert as_cookie_jar(jar, None) is jar
    assert as_cookie_jar(None, "http://h/") is None
    assert as_cookie_jar(False, "http://h/") is None
    fresh = as_cookie_jar(True, None)
    assert fresh is not None
    assert len(fresh) == 0
    assert fresh, "an empty jar is true, or `jar or CookieJar()` would lose it"


def test_names_and_values_go_to_the_host_of_base_url_alone() -> None:
    jar = as_cookie_jar({"a": "b", "c": "d"}, "https://api.example.org/v1")
    assert jar is not None
    assert jar.field_for("https://api.example.org/") == "a=b; c=d"
    assert jar.field_for("http://api.example.org/") is None
    assert jar.field_for("https://x.api.example.org/") is None
    assert jar.field_for("https://evil.example/") is None
    plain = as_cookie_jar({"a": "b"}, "http://[::1]:8000")
    assert plain is not None
    assert plain.field_for("http://[::1]:9000/x") == "a=b"


def test_names_and_values_without_a_host_are_refused() -> None:
    with pytest.raises(ValueError, match="base_url"):
        as_cookie_jar({"a": "b"}, None)
    with pytest.raises(ValueError, match='holds ";"'):
        as_cookie_jar({"a": "b;c"}, "http://h/")
    with pytest.raises(TypeError, match="not str"):
        as_cookie_jar("a=b", "http://h/")  # type: ignore[arg-type]  # what is tested
