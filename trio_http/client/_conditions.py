"""What tells one state of a resource from another, and requests that depend on it (RFC 9110 §8.8, §13)."""

from __future__ import annotations

import re
import time
from typing import Final

import attrs

from trio_http.messages import Headers

from ._retry_after import http_date

# RFC 9110 §8.8.3. What some servers send without quotes is no entity tag, and others would not know it again.
_ENTITY_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

# How many seconds a Date has to lie behind Last-Modified before that is taken for strong. RFC 9110 §8.8.2.2
# asks for one, and for a reason to believe that both are by the same clock; RFC 7232 §2.2.2 asked for 60
# instead of the reason, which we do not have.
_STRONG_AFTER: Final = 60


@attrs.frozen
class Validators:
    """The validators of a response, and the header fields of requests that are conditional on them.

    ::

        page = await client.get(url)
        known = Validators.of(page.headers)
        later = await client.get(url, headers=known.if_changed())              # 304: it is still the same
        await client.put(url, content=new, headers=known.if_unchanged())       # 412: somebody else was first

    Attributes:
      etag: the entity tag with its quotes, and ``W/`` if it is weak; None without one.
      last_modified, date: as sent; None without a valid one.
    """

    etag: str | None = None
    last_modified: str | None = None
    date: str | None = None

    @classmethod
    def of(cls, headers: Headers) -> Validators:
        """Return the validators among the header fields of a response; malformed ones are left out."""
        etag = headers.get("etag")
        return cls(
            etag if etag is not None and _ENTITY_TAG.fullmatch(etag) else None,
            _date_or_none(headers.get("last-modified")),
            _date_or_none(headers.get("date")),
        )

    @property
    def strong_etag(self) -> str | None:
        """The entity tag, if two contents that have it are equal byte by byte."""
        return None if self.etag is None or self.etag.startswith("W/") else self.etag

    def if_changed(self) -> dict[str, str]:
        """Return the fields of a request whose answer is 304 (Not Modified) while nothing has changed; empty
        without validators.

        Reference: RFC 9110 §13.1.2, §13.1.3.
        """
        fields = {}
        if self.etag is not None:
            fields["If-None-Match"] = self.etag
        if self.last_modified is not None:
            fields["If-Modified-Since"] = self.last_modified
        return fields

    def if_unchanged(self) -> dict[str, str]:
        """Return the field of a request whose answer is 412 (Precondition Failed) once something has changed.

        Raises:
          ValueError: there is no strong validator, so the server cannot tell.

        Reference: RFC 9110 §13.1.1, §13.1.4.
        """
        if self.strong_etag is not None:
            return {"If-Match": self.strong_etag}
        if self.last_modified is not None and self._date_is_strong():
            return {"If-Unmodified-Since": self.last_modified}
        raise ValueError(
            f"a request that depends on nothing having changed needs a strong validator, got {self!r}"
        )

    def if_range(self) -> str | None:
        """Return the value of If-Range, with which the rest of content is asked for; None when these
        validators do not do for that.

        Reference: RFC 9110 §13.1.5: an entity tag must be strong, and a date must be, too, and may stand in
        only where there is no entity tag at all.
        """
        if self.etag is not None:
            return self.strong_etag
        return self.last_modified if self._date_is_strong() else None

    def contradict(self, later: Validators) -> bool:
        """Tell whether ``later`` must be of another state, because a validator that both have differs."""
        if self.etag is not None and later.etag is not None:
            return self.etag != later.etag
        return (
            self.last_modified is not None
            and later.last_modified is not None
            and self.last_modified != later.last_modified
        )

    def _date_is_strong(self) -> bool:
        if self.last_modified is None or self.date is None:
            return False
        now = time.time()
        modified, date = http_date(self.last_modified, now), http_date(self.date, now)
        return modified is not None and date is not None and date - modified >= _STRONG_AFTER


def _date_or_none(value: str | None) -> str | None:
    return value if value is not None and http_date(value, time.time()) is not None else None
