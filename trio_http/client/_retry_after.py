"""The Retry-After field: for how long a server asks not to be asked again (RFC 9110 §10.2.3)."""

from __future__ import annotations

import datetime
import re
import time
from typing import Final

from trio_http.messages import Headers

_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"

# The three forms of RFC 9110 §5.6.7, all of which a recipient has to know: the one that is sent today, that
# of RFC 850 with its year of two digits, and that of C's `asctime`. The name of the day tells nothing new, so
# whether it is the right one is not asked.
_FORMS: Final = tuple(
    re.compile(form, re.ASCII)
    for form in (
        rf"[MTWFS][a-z]{{2}}, (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT",
        rf"[MTWFS][a-z]{{5,8}}, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT",
        rf"[MTWFS][a-z]{{2}} {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)


def retry_after(headers: Headers, now: float | None = None) -> float | None:
    """Return how many seconds the server asks to wait, at least 0; None when it does not, or says it badly.

    A date is measured against the response's own Date, so it does not matter whose clock is right; a
    response without one is measured by our clock. When the field is there more than once, which only happens
    by mistake, the longest wait counts.

    Args:
      headers: of the response.
      now: seconds since 1970, for a response without Date; None: the system's clock.

    Reference: RFC 9110 §10.2.3, §6.6.1.
    """
    waits = [
        wait
        for value in headers.get_all("retry-after")
        if (wait := _seconds(value.strip(" \t"), headers, now)) is not None
    ]
    return max(waits, default=None)


def _seconds(value: str, headers: Headers, now: float | None) -> float | None:
    if value.isascii() and value.isdigit():
        return float(value)  # and not `int`, which refuses some thousand digits; this says "infinite"
    if now is None:
        now = time.time()
    until = http_date(value, now)
    if until is None:
        return None
    date = http_date(headers.get("date", ""), now)
    return max(0.0, until - (now if date is None else date))


def http_date(text: str, now: float) -> float | None:
    """Return the seconds since 1970 of an HTTP-date; None if it is none.

    Args:
      text: in one of the three forms.
      now: seconds since 1970; tells the century of a year of two digits.

    Reference: RFC 9110 §5.6.7.
    """
    for form in _FORMS:
        if match := form.fullmatch(text):
            break
    else:
        return None
    year, month = int(match["year"]), _MONTHS.index(match["month"]) + 1
    if len(match["year"]) == 2:
        # What seems to lie more than 50 years ahead is of the past.
        this_year = time.gmtime(now).tm_year
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    second = int(match["second"])
    if second > 60:  # 60 is a leap second
        return None
    try:
        minute = datetime.datetime(
            year, month, int(match["day"]), int(match["hour"]), int(match["minute"]), tzinfo=datetime.UTC
        )
    except ValueError:  # no such day or hour
        return None
    return minute.timestamp() + second
