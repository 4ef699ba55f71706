"""C44: Set-Cookie field values, as servers write them; and the dates in them."""

from __future__ import annotations

import calendar
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_http.client._set_cookie import (
    MAX_ATTRIBUTE_BYTES,
    MAX_LIFE_SECONDS,
    MAX_PAIR_BYTES,
    CookieRefused,
    SetCookie,
    parse_cookie_date,
    parse_set_cookie,
)


def moment(*date: int) -> float:
    """Seconds since 1970 of year, month, day, hour, minute, second, by another road than the parser's."""
    return float(calendar.timegm((*date, 0, 0, 0)))


# -------------------------------------------------------------------------------------------- name and value


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("a=b", "a", "b"),
        ("a=b; Secure", "a", "b"),
        ("  a \t=  b c \t; Path=/", "a", "b c"),
        ("a=", "a", ""),
        ("a=;", "a", ""),
        ("a==b=", "a", "=b="),
        ('a="b c"', "a", '"b c"'),
        ('a="b;c"', "a", '"b'),
        ("a=b,c=d", "a", "b,c=d"),
        ("a[0]=b", "a[0]", "b"),
        ("a=b\tc", "a", "b\tc"),
        ("a=\xfc\x80\xff", "a", "\xfc\x80\xff"),
        ("token", "", "token"),
        ("=token", "", "token"),
        ("token; Secure", "", "token"),
        ("Secure", "", "Secure"),
    ],
)
def test_name_and_value_are_what_stands_before_the_first_semicolon(text: str, name: str, value: str) -> None:
    cookie = parse_set_cookie(text)
    assert (cookie.name, cookie.value) == (name, value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither name nor value"),
        ("=", "neither name nor value"),
        (" = ; Path=/", "neither name nor value"),
        (";", "neither name nor value"),
        ("; a=b", "neither name nor value"),
        ("=a=b", 'holds "="'),
        ("a=b\x00", "holds '\\x00'"),
        ("a=b\r\nX: y", "holds '\\r'"),
        ("a\n=b", "holds '\\n'"),
        ("a=b\x7f", "holds '\\x7f'"),
        ("a=b; Path=/\x01", "holds '\\x01'"),
        ("a=€", "Latin-1"),
        ("a=\ud800", "Latin-1"),
    ],
)
def test_what_cannot_be_sent_back_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(CookieRefused) as caught:
        parse_set_cookie(text)
    assert why in str(caught.value)


def test_name_and_value_have_a_limit_together() -> None:
    assert len(parse_set_cookie("name=" + "v" * (MAX_PAIR_BYTES - 4)).value) == 4092
    with pytest.raises(CookieRefused, match="4097 bytes, expected at most 4096"):
        parse_set_cookie("name=" + "v" * (MAX_PAIR_BYTES - 3))


def test_neither_an_error_nor_a_repr_shows_the_value() -> None:
    with pytest.raises(CookieRefused) as caught:
        parse_set_cookie("session=hunter2\x00")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(parse_set_cookie("session=hunter2"))


# ------------------------------------------------------------------------------------------------ attributes


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("", {}),
        (";;; ;", {}),
        ("Secure; HttpOnly", {"secure": True, "http_only": True}),
        ("sEcUrE ;\thttponly", {"secure": True, "http_only": True}),
        ("Secure=no; HttpOnly=", {"secure": True, "http_only": True}),
        ("Secured; Http-Only; Partitioned; Priority=High", {}),
        ("Domain=Example.ORG", {"domain": "example.org"}),
        ("domain = .example.org ", {"domain": "example.org"}),
        ("Domain=..example.org", {"domain": ".example.org"}),
        ("Domain=example.org; Domain=other.example", {"domain": "other.example"}),
        ("Domain=example.org; Domain=", {"domain": ""}),
        ("Domain=example.org; Domain", {"domain": ""}),
        ("Path=/a/b", {"path": "/a/b"}),
        ("Path = /a b", {"path": "/a b"}),
        ("Path=a", {"path": None}),
        ("Path=", {"path": None}),
        ('Path="/"', {"path": None}),
        ("Path=/a; Path=b", {"path": None}),
        ("Path=a; Path=/b", {"path": "/b"}),
        ("Max-Age=60", {"max_age": 60}),
        ("max-age=-1", {"max_age": -1}),
        ("Max-Age=0", {"max_age": 0}),
        ("Max-Age=060", {"max_age": 60}),
        ("Max-Age=1; Max-Age=2", {"max_age": 2}),
        ("Max-Age=1; Max-Age=x", {"max_age": 1}),
        ("Max-Age", {}),
        ("Max-Age=", {}),
        ("Max-Age=+60", {}),
        ("Max-Age=6e1", {}),
        ("Max-Age=60.5", {}),
        ('Max-Age="60"', {}),
        ("Max-Age=--1", {}),
        ("Max-Age=-", {}),
        ("Max-Age=٦٠", None),
        ("Expires=Thu, 01 Jan 1970 00:00:10 GMT", {"expires": 10.0}),
        ("Expires=never", {}),
        ("Expires=Thu, 01 Jan 1970 00:00:10 GMT; Expires=never", {"expires": 10.0}),
        ("SameSite=Strict", {"same_site": "Strict"}),
        ("samesite=lAx", {"same_site": "Lax"}),
        ("SameSite=None", {"same_site": "None"}),
        ("SameSite=Whatever", {}),
        ("SameSite", {}),
        ("SameSite=Strict; SameSite=Whatever", {"same_site": None}),
    ],
)
def test_attributes_are_read_in_any_case_and_passed_over_when_they_make_no_sense(
    attributes: str, expected: dict[str, object] | None
) -> None:
    if expected is None:
        with pytest.raises(CookieRefused):
            parse_set_cookie(f"a=b; {attributes}")
    else:
        assert parse_set_cookie(f"a=b; {attributes}") == SetCookie(name="a", value="b", **expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Path", "Domain", "Max-Age"])
def test_an_attribute_that_is_too_long_is_passed_over(name: str) -> None:
    start, fill = {"Path": ("/", "a"), "Domain": ("a", "a"), "Max-Age": ("1", "0")}[name]
    longest = parse_set_cookie(f"a=b; {name}={start}{fill * (MAX_ATTRIBUTE_BYTES - 1)}")
    assert longest != SetCookie(name="a", value="b")
    longer = parse_set_cookie(f"a=b; {name}={start}{fill * MAX_ATTRIBUTE_BYTES}")
    assert longer == SetCookie(name="a", value="b")


# ----------------------------------------------------------------------------------------------- how long


@pytest.mark.parametrize(
    ("max_age", "expires", "ends"),
    [
        (None, None, None),
        (60, None, 1060.0),
        (None, 1060.0, 1060.0),
        (60, 5.0, 1060.0),
        (0, 2000.0, 1000.0),
        (-5, None, 1000.0),
        (-(10**1000), None, 1000.0),
        (None, 5.0, 5.0),
        (10**1000, None, 1000.0 + MAX_LIFE_SECONDS),
        (None, 1e12, 1000.0 + MAX_LIFE_SECONDS),
        (MAX_LIFE_SECONDS - 1, None, 1000.0 + MAX_LIFE_SECONDS - 1),
    ],
)
def test_max_age_wins_over_expires_and_neither_goes_beyond_400_days(
    max_age: int | None, expires: float | None, ends: float | None
) -> None:
    assert SetCookie(name="a", value="b", max_age=max_age, expires=expires).expires_at(1000.0) == ends


# --------------------------------------------------------------------------------------------------- dates

DATE = moment(2026, 11, 6, 8, 49, 37)


@pytest.mark.parametrize(
    "text",
    [
        # The three formats of RFC 9110 §5.6.7, and what servers make of them.
        "Fri, 06 Nov 2026 08:49:37 GMT",
        "Friday, 06-Nov-26 08:49:37 GMT",
        "Fri Nov  6 08:49:37 2026",
        "Fri, 6 Nov 2026 8:49:37 GMT",
        "Fri, 06-Nov-2026 08:49:37 GMT",
        "Fri 06 Nov 2026 08:49:37",
        "06 Nov 2026 08:49:37",
        "6-nov-26 8:49:37",
        "08:49:37 06 Nov 2026",
        "2026 06 Nov 08:49:37",
        "Nov 06 2026 08:49:37",
        "NOVEMBER 06 2026 08:49:37",
        "06 Novembre 2026 08:49:37",
        "06Nov Nov 2026 08:49:37",
        "06 Nov 2026GMT 08:49:37",
        "06 Nov 2026 08:49:37.123",
        "06 Nov 2026 08:49:37+01:00",
        "06th Nov 2026 08:49:37",
        "  ,;06/Nov/2026@08:49:37,; ",
        "Fri, 06 Nov 2026 08:49:37 +0200",
        "Thu, 06 Nov 2026 08:49:37 PST",
        "06 Nov 2026 08:49:37 99:99:99 31 Dec 1999",
        "\t06\tNov\t2026\t08:49:37\t",
        "{06}[Nov](2026)~08:49:37",
        "06 Nov 026 08:49:37",
        "06 Nov 0026 08:49:37",
        "ab:cd:ef 06 Nov 2026 08:49:37",
    ],
)
def test_a_date_is_found_however_it_is_written(text: str) -> None:
    assert parse_cookie_date(text) == DATE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "session",
        "1794041377",
        "2026-11-06T08:49:37Z",
        "11/06/2026 08:49:37",
        "06 Nov 2026",
        "06 Nov 2026 08:49",
        "06 Nov 2026 0849:37",
        "06 Nov 2026 008:49:37",
        "06 Nov 2026 08:49:370",
        "06 Nov 08:49:37",
        "Nov 2026 08:49:37",
        "06 2026 08:49:37",
        "06 Nvember 2026 08:49:37",
        "006 Nov 2026 08:49:37",
        "00 Nov 2026 08:49:37",
        "31 Nov 2026 08:49:37",
        "32 Oct 2026 08:49:37",
        "29 Feb 2026 08:49:37",
        "29 Feb 2100 08:49:37",
        "06 Nov 20260 08:49:37",
        "06 Nov 6 08:49:37",
        "06 Nov 1600 08:49:37",
        "123 06 Nov 2026 08:49:37",
        "06 Nov 2026 24:00:00",
        "06 Nov 2026 08:60:37",
        "06 Nov 2026 08:49:60",
        "06 Nov 2026 -08:49",
        "٠٦ Nov ٢٠٢٦ 08:49:37",
        "06\x0bNov\x0b2026\x0b08:49:37",
    ],
)
def test_what_is_no_date_or_one_that_never_was_is_none(text: str) -> None:
    assert parse_cookie_date(text) is None


@pytest.mark.parametrize(
    ("written", "year"),
    [
        ("70", 1970),
        ("99", 1999),
        ("00", 2000),
        ("69", 2069),
        ("094", 1994),
        ("0001", 2001),
        ("1601", 1601),
        ("9999", 9999),
    ],
)
def test_years_of_two_digits_are_of_1970_to_2069(written: str, year: int) -> None:
    assert parse_cookie_date(f"06 Nov {written} 08:49:37") == moment(year, 11, 6, 8, 49, 37)


@pytest.mark.parametrize("month", range(1, 13))
def test_each_month_has_its_name_and_its_length(month: int) -> None:
    name = calendar.month_abbr[month]
    last = calendar.monthrange(2028, month)[1]
    assert parse_cookie_date(f"{last} {name} 2028 23:59:59") == moment(2028, month, last, 23, 59, 59)
    assert parse_cookie_date(f"{last + 1} {name} 2028 23:59:59") is None


@given(
    st.datetimes(min_value=datetime.datetime(1601, 1, 1)),
    st.permutations(range(4)),
    st.lists(st.text("\t !\"#$%&'()*+,-./;<=>?@[\\]^_`{|}~", min_size=1, max_size=3), min_size=5, max_size=5),
)
def test_any_date_is_read_back_whatever_the_order_of_its_parts_and_what_stands_between(
    when: datetime.datetime, order: list[int], delimiters: list[str]
) -> None:
    # A year of four digits is never taken for a day.
    parts = [str(when.day), calendar.month_name[when.month], f"{when.year}", f"{when:%H:%M:%S}"]
    text = "".join(delimiter + parts[index] for delimiter, index in zip(delimiters, order, strict=False))
    expected = moment(when.year, when.month, when.day, when.hour, when.minute, when.second)
    assert parse_cookie_date(text + delimiters[-1]) == expected


DATE_PARTS = st.sampled_from(
    ["06", "Nov", "2026", "26", "8:49:37", "08:49:37x", "99", "0", "feb", "31", "24:00:00", "GMT", "9999"]
)


@given(
    st.text(max_size=60)
    | st.lists(DATE_PARTS | st.text(max_size=4), max_size=8).map(" ".join)
    | st.lists(DATE_PARTS, max_size=8).map("-".join)
)
def test_any_text_is_a_date_between_1601_and_9999_or_none(text: str) -> None:
    found = parse_cookie_date(text)
    assert found is None or moment(1601, 1, 1) <= found < moment(9999, 12, 31, 24)


FIELD_PARTS = st.sampled_from(
    "a|=|;|; |Path|/|Domain|example.org|Max-Age|-1|Expires|Secure|__Host-|SameSite|Lax|\t|\x00|\xff|€".split(
        "|"
    )
) | st.sampled_from(["9" * 1000, "06 Nov 2026 08:49:37"])


@given(st.text(max_size=60) | st.lists(FIELD_PARTS, max_size=14).map("".join))
def test_any_text_is_a_cookie_that_can_be_sent_back_or_is_refused(text: str) -> None:
    try:
        cookie = parse_set_cookie(text)
    except CookieRefused:
        return
    pair = f"{cookie.name}={cookie.value}" if cookie.name else cookie.value
    again = parse_set_cookie(pair)
    assert (again.name, again.value) == (cookie.name, cookie.value)
    assert not set(pair.encode("latin-1")) & {*range(9), *range(10, 32), 127, ord(";")}
    assert 0 < len(cookie.name) + len(cookie.value) <= MAX_PAIR_BYTES
    assert cookie.path is None or cookie.path.startswith("/")
    ends = cookie.expires_at(1e9)
    assert ends is None or ends <= 1e9 + MAX_LIFE_SECONDS
