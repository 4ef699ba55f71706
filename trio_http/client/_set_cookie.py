"""One Set-Cookie field value, taken apart: what the server says, before it is asked whether it may say so.

The steps are those of RFC 6265 §5.2, with what its successor adds (draft-ietf-httpbis-rfc6265bis-22 §5.6;
"6265bis" from here on): limits of size, no control characters, and cookies without a name. Servers write
these fields in every way there is, so nearly everything is accepted, and what cannot be is refused by a
`CookieRefused` that says why.

Text is Latin-1: one character is one byte of the field, as in `Headers`.
"""

from __future__ import annotations

import datetime
import re
from typing import Final, Literal, TypeAlias

import attrs

SameSite: TypeAlias = Literal["Strict", "Lax", "None"]

#: The most bytes of name and value together (6265bis §5.6 step 5; RFC 6265 §6.1 asks for as many at least).
MAX_PAIR_BYTES: Final = 4096
#: The most bytes of one attribute's value; a longer one is passed over (6265bis §5.6).
MAX_ATTRIBUTE_BYTES: Final = 1024
#: The longest that a server's cookie lives: 400 days (6265bis §5.5).
MAX_LIFE_SECONDS: Final = 400 * 24 * 60 * 60

# Control characters but for the tab (6265bis §5.6 step 1), and what is no byte.
_NOT_STORABLE: Final = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_WHITESPACE: Final = " \t"
_SECONDS: Final = re.compile(r"-?[0-9]+")
_SAME_SITE: Final[dict[str, SameSite]] = {"strict": "Strict", "lax": "Lax", "none": "None"}

# cookie-date = *delimiter date-token-list *delimiter. What follows a token's digits may be anything that does
# not begin with another digit (RFC 6265 §5.1.1).
_DELIMITERS: Final = re.compile(r"[\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[^0-9].*)?", re.DOTALL)
_DAY: Final = re.compile(r"([0-9]{1,2})(?:[^0-9].*)?", re.DOTALL)
_YEAR: Final = re.compile(r"([0-9]{2,4})(?:[^0-9].*)?", re.DOTALL)
_MONTHS: Final = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_FIRST_YEAR: Final = 1601


class CookieRefused(ValueError):
    """A cookie that is not stored, with the reason; never the value, which may be a secret."""


@attrs.frozen(kw_only=True)
class SetCookie:
    """What one Set-Cookie field value says.

    Attributes:
      name: may be empty: such a cookie is sent as its value alone.
      value: quotation marks are part of it. Not shown by ``repr``.
      domain: the Domain attribute in lower case without its leading dot; empty when there is none.
      path: the Path attribute; None when there is none, or it does not begin with "/".
      max_age: the Max-Age attribute, seconds from now.
      expires: the Expires attribute, seconds since 1970.
      secure, http_only: whether there are such attributes.
      same_site: the SameSite attribute; None when there is none, or it is an unknown one.
    """

    name: str
    value: str = attrs.field(repr=False)
    domain: str = ""
    path: str | None = None
    max_age: int | None = None
    expires: float | None = None
    secure: bool = False
    http_only: bool = False
    same_site: SameSite | None = None

    def expires_at(self, now: float) -> float | None:
        """Return when the cookie ends, in seconds since 1970, or None: with the session.

        Max-Age wins over Expires (RFC 6265 §5.3 step 3), and neither reaches beyond `MAX_LIFE_SECONDS`. A
        time that is not after ``now`` is how a server deletes a cookie.
        """
        latest = now + MAX_LIFE_SECONDS
        if self.max_age is not None:
            # Compared as integers: one of a thousand digits has no float.
            return latest if self.max_age >= MAX_LIFE_SECONDS else now + max(self.max_age, 0)
        return None if self.expires is None else min(self.expires, latest)


def parse_set_cookie(text: str) -> SetCookie:
    """Take one Set-Cookie field value apart.

    Of an attribute that is repeated the last one counts, of those that can be understood.

    Raises:
      CookieRefused: it holds a control character, is too large, or has neither name nor value; the server is
        to blame.

    Reference: RFC 6265 §5.2; 6265bis §5.6.
    """
    pair, _, rest = text.partition(";")
    if found := _NOT_STORABLE.search(text):
        raise CookieRefused(f"it holds {found.group()!r}, expected no control character and only Latin-1")
    name, equals, value = pair.partition("=")
    if not equals:
        name, value = "", pair
    name, value = name.strip(_WHITESPACE), value.strip(_WHITESPACE)
    check_pair(name, value)
    # The attributes that were understood, as keywords of `SetCookie`.
    said: dict[str, str | int | float | bool | None] = {}
    if rest:
        for attribute in rest.split(";"):
            _read_attribute(attribute, said)
    return SetCookie(name=name, value=value, **said)  # type: ignore[arg-type]  # as `_read_attribute` puts them


def check_pair(name: str, value: str) -> None:
    """Refuse a name and value that cannot be sent back, or are not worth it.

    Raises:
      CookieRefused: they would be read as another cookie than they are, or are too large.
    """
    for part in (name, value):
        if found := _NOT_STORABLE.search(part):
            raise CookieRefused(f"it holds {found.group()!r}, expected no control character and only Latin-1")
        if ";" in part or part != part.strip(_WHITESPACE):
            raise CookieRefused('it holds ";" or whitespace at an end, which cannot be sent back')
    if "=" in name:
        raise CookieRefused(f'its name {name[:60]!r} holds "="')
    if not name and not value:
        raise CookieRefused("it has neither name nor value")
    if not name and "=" in value:
        # Sent back, `=a=b` would be the cookie "a" of somebody else. Stricter than 6265bis §5.7, which looks
        # for names that begin with a prefix only; the Cookie Store API refuses what we refuse.
        raise CookieRefused('it has no name, and its value holds "="')
    if len(name) + len(value) > MAX_PAIR_BYTES:
        raise CookieRefused(
            f"its name and value have {len(name) + len(value)} bytes, expected at most {MAX_PAIR_BYTES}"
        )


def _read_attribute(attribute: str, said: dict[str, str | int | float | bool | None]) -> None:
    """Put what ``attribute`` says into ``said``; nothing when it is unknown or makes no sense."""
    name, _, value = attribute.partition("=")
    name, value = name.strip(_WHITESPACE).lower(), value.strip(_WHITESPACE)
    if len(value) > MAX_ATTRIBUTE_BYTES:
        return
    match name:
        case "expires":
            if (moment := parse_cookie_date(value)) is not None:
                said["expires"] = moment
        case "max-age":
            if _SECONDS.fullmatch(value):
                said["max_age"] = int(value)  # at most `MAX_ATTRIBUTE_BYTES` digits
        case "domain":
            # An empty one takes back those before it (6265bis §5.6.3): the narrower of two readings.
            said["domain"] = value.removeprefix(".").lower()
        case "path":
            said["path"] = value if value.startswith("/") else None
        case "secure":
            said["secure"] = True
        case "httponly":
            said["http_only"] = True
        case "samesite":
            said["same_site"] = _SAME_SITE.get(value.lower())


def parse_cookie_date(text: str) -> float | None:
    """Return the moment that ``text`` means, in seconds since 1970; None when it means none.

    Not one format, but a search: the first token that looks like a time is the time, the first of the others
    that looks like a day of the month is that, and so on. Names of weekdays and time zones are passed over;
    all dates are UTC.

    Reference: RFC 6265 §5.1.1.
    """
    time: tuple[int, int, int] | None = None
    day: int | None = None
    month: int | None = None
    year: int | None = None
    for token in _DELIMITERS.split(text):
        if time is None and (found := _TIME.fullmatch(token)):
            time = (int(found[1]), int(found[2]), int(found[3]))
        elif day is None and (found := _DAY.fullmatch(token)):
            day = int(found[1])
        elif month is None and token[:3].lower() in _MONTHS:
            month = _MONTHS.index(token[:3].lower()) + 1
        elif year is None and (found := _YEAR.fullmatch(token)):
            year = int(found[1])
    if time is None or day is None or month is None or year is None:
        return None
    if 70 <= year <= 99:
        year += 1900
    elif year <= 69:
        year += 2000
    if year < _FIRST_YEAR:
        return None
    try:
        moment = datetime.datetime(year, month, day, *time, tzinfo=datetime.UTC)
    except ValueError:  # no such day, or no such time of day
        return None
    return moment.timestamp()
