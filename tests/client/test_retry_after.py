"""The Retry-After field: seconds, or a date in one of three forms (RFC 9110 §10.2.3, §5.6.7)."""

from __future__ import annotations

import datetime
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_http import Headers
from trio_http.client._retry_after import http_date, retry_after

NOW = 1_800_000_000.0  # 15 January 2027, 08:00:00


def wait(*values: str, date: str | None = None) -> float | None:
    pairs = [("Retry-After", value) for value in values] + ([] if date is None else [("Date", date)])
    return retry_after(Headers(pairs), NOW)


@pytest.mark.parametrize(
    ("value", "seconds"), [("0", 0), ("120", 120), ("007", 7), ("9" * 5000, float("inf"))]
)
def test_seconds_are_taken_as_they_are(value: str, seconds: float) -> None:
    assert wait(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-1",
        "+1",
        "1.5",
        "1e3",
        "1_000",
        "0x10",
        "\u00b2",
        "\u00b9",
        "10 s",
        "Fri, 15 Jan 2027 08:00:30",
    ],
)
def test_what_is_neither_seconds_nor_a_date_is_not_there(value: str) -> None:
    assert wait(value) is None
    assert retry_after(Headers()) is None


@pytest.mark.parametrize(
    "value", ["Fri, 15 Jan 2027 08:00:30 GMT", "Friday, 15-Jan-27 08:00:30 GMT", "Fri Jan 15 08:00:30 2027"]
)
def test_a_date_is_measured_against_the_responses_own(value: str) -> None:
    assert wait(value) == 30
    assert wait(value, date="Fri, 15 Jan 2027 08:00:10 GMT") == 20
    assert wait(value, date="Fri, 15 Jan 2027 07:00:30 GMT") == 3600
    assert wait(value, date="Fri, 15 Jan 2027 09:00:00 GMT") == 0
    assert wait(value, date="yesterday") == 30


def test_without_a_date_the_clock_of_the_system_counts() -> None:
    headers = Headers({"retry-after": formatdate(time.time() + 3600, usegmt=True)})
    waiting = retry_after(headers)
    assert waiting is not None
    assert 3000 < waiting <= 3600


def test_of_several_the_longest_that_is_understood_counts() -> None:
    assert wait("5", "never", "Fri, 15 Jan 2027 08:00:30 GMT", "20") == 30


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("Sunday, 06-Nov-94 08:49:37 GMT", 1994),
        ("Saturday, 06-Nov-77 08:49:37 GMT", 2077),  # just 50 years ahead
        ("Sunday, 06-Nov-78 08:49:37 GMT", 1978),
        ("Monday, 06-Nov-00 08:49:37 GMT", 2000),
    ],
)
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(text: str, year: int) -> None:
    seconds = http_date(text, NOW)
    assert seconds is not None
    assert time.gmtime(seconds)[:6] == (year, 11, 6, 8, 49, 37)


@pytest.mark.parametrize(
    "text",
    [
        "Fri, 31 Feb 2027 08:00:00 GMT",
        "Fri, 15 Jan 2027 24:00:00 GMT",
        "Fri, 15 Jan 2027 08:60:00 GMT",
        "Fri, 15 Jan 2027 08:00:61 GMT",
        "Fri, 00 Jan 2027 08:00:00 GMT",
        "Fri, 15 Jan 0000 08:00:00 GMT",
        "Fri, 15 jan 2027 08:00:00 GMT",
        "Fri, 15 Jan 2027 08:00:00 +0000",
        "Fri, 5 Jan 2027 08:00:00 GMT",
        " Fri, 15 Jan 2027 08:00:00 GMT",
        "Fri, 15 Jan 2027 08:00:00 GMT\n",
        "Friday, 29-Feb-27 08:00:00 GMT",
        "Fri Jan 5 08:00:00 2027",
        "Fri, \u0661\u0665 Jan 2027 08:00:00 GMT",
    ],
)
def test_what_is_no_date_is_told(text: str) -> None:
    assert http_date(text, NOW) is None


def test_a_leap_second_is_one() -> None:
    assert http_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW) == http_date("Sun, 01 Jan 2017 00:00:00 GMT", NOW)


def test_a_day_below_ten_has_a_blank_in_the_form_of_c() -> None:
    assert http_date("Sun Nov  6 08:49:37 1994", NOW) == 784111777


@given(st.datetimes(min_value=datetime.datetime(1, 1, 1), max_value=datetime.datetime(9999, 12, 31)))
def test_every_date_of_todays_form_comes_back(moment: datetime.datetime) -> None:
    month = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()[moment.month - 1]
    text = f"Mon, {moment:%d} {month} {moment.year:04} {moment:%H:%M:%S} GMT"
    seconds = http_date(text, NOW)
    assert seconds is not None
    start = datetime.datetime(1970, 1, 1)
    assert start + datetime.timedelta(seconds=seconds) == moment.replace(microsecond=0)


@given(st.text())
def test_no_text_whatever_makes_it_fail(text: str) -> None:
    http_date(text, NOW)
