"""Redirects (RFC 9110 §15.4): what is to be asked next, and with what."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urljoin

import attrs

from trio_http import wire
from trio_http._errors import InvalidRequest, RedirectRefused
from trio_http.messages import Response

from ._content_source import Content
from ._link import Link
from ._plan import RequestPlan
from ._request import Planner
from ._settings import RequestSettings
from ._url import Destination, parse_url

_REDIRECTS: Final = frozenset([301, 302, 303, 307, 308])

# About content: they go with it when a redirect turns the request into a GET (RFC 9110 §15.4).
_OF_CONTENT: Final = frozenset(
    [
        b"content-encoding",
        b"content-language",
        b"content-length",
        b"content-location",
        b"content-type",
        b"digest",
        b"expect",
        b"last-modified",
        b"trailer",
        b"transfer-encoding",
    ]
)
# About who we are to the origin that was asked, and nobody else's business.
_CREDENTIALS: Final = frozenset([b"authorization", b"cookie", b"proxy-authorization", b"www-authenticate"])
_HOST: Final = frozenset([b"host"])

# Servers write what is no URL into Location; what browsers do with it is plain: bytes that a URL cannot have
# are percent-encoded.
_NOT_SENDABLE: Final = re.compile(rb"[^\x21-\x7e]+")
# A host with other letters is a name for IDNA, not for percent-encoding.
_BEGINNING: Final = re.compile(rb"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*:)?(?P<authority>//[^/?#]*)?")
_USER: Final = re.compile(rb"//[^/?#]*@")


def is_redirect(head: wire.ResponseHead) -> bool:
    """Tell whether a response is a redirect that can be followed."""
    return head.status_code in _REDIRECTS and head.headers.get(b"location") is not None


def redirected(
    planner: Planner, plan: RequestPlan, link: Link, response: Response, *, anywhere: bool
) -> RequestPlan:
    """Return the request that a redirect asks for.

    A POST becomes a GET by 301 and 302, and everything but HEAD by 303, as all clients do it. To another
    origin no credentials go along.

    Args:
      planner: makes the plan.
      plan: what was asked, without what was added for that one sending: neither credentials nor the cookies
        of a jar are to go where this leads.
      link: has the head of the answer.
      response: that answer, for the error.
      anywhere: other origins can be asked, too.

    Raises:
      RedirectRefused: it leads nowhere that we can go; or its content would have to be sent again and cannot
        be, or would have to leave TLS.
    """
    head = link.head
    assert head is not None

    def refusal(what: str) -> RedirectRefused:
        facts = link.facts(response_started=True, closed_because="")
        return RedirectRefused(f"{head.status_code} was not followed: {what}", facts, response)

    locations = set(head.headers.get_all(b"location"))
    location = locations.pop()
    if locations:
        raise refusal("several Location fields that differ, expected one (RFC 9110 §10.2.2)")
    try:
        destination = parse_url(_resolved(plan.url, location))
    except (InvalidRequest, ValueError) as exc:
        # Not its user and password.
        raise refusal(f"malformed Location {_USER.sub(b'//***@', location)[:100]!r}: {exc}") from exc
    if not anywhere and destination.origin != plan.origin:
        raise refusal(f"it leads to another origin, {destination.origin}, and this is one connection")
    method, content = _method_and_content(plan, head.status_code)
    if content != b"":
        if not (isinstance(content, bytes) or content.repeatable):
            raise refusal("its content can be sent once, and was")
        if plan.origin.scheme == "https" and destination.origin.scheme == "http":
            raise refusal(f"its content would go to {destination.origin}, which is not under TLS")
    return planner.planned(
        method,
        destination,
        None,
        _fields(plan, destination, keeps_content=content is plan.content),
        content,
        _settings_for(plan, destination),
        expects=plan.expects and content != b"",
        trailers=plan.trailers if content != b"" else None,
        upgrade=plan.upgrade,
    )


def _resolved(url: str, location: bytes) -> str:
    """Return the absolute URL that a Location names (RFC 9110 §10.2.2)."""
    beginning = _BEGINNING.match(location)
    assert beginning is not None  # it may be empty
    rest = location[beginning.end() :]
    rest = _NOT_SENDABLE.sub(lambda found: quote(found.group()).encode("ascii"), rest)
    text = beginning.group().decode("utf-8") + rest.decode("ascii")
    if beginning["scheme"]:
        return text
    # Not by `urljoin`, which takes an empty host for the one that it knows.
    return f"{url.partition(':')[0]}:{text}" if beginning["authority"] else urljoin(url, text)


def _method_and_content(plan: RequestPlan, status: int) -> tuple[bytes, bytes | Content]:
    if status == 303 and plan.method not in (b"GET", b"HEAD"):
        return b"GET", b""
    if status in (301, 302) and plan.method == b"POST":
        return b"GET", b""
    return plan.method, plan.content


def _fields(plan: RequestPlan, destination: Destination, *, keeps_content: bool) -> wire.Headers:
    """Return the header section for the request that follows."""
    dropped = _HOST
    if not keeps_content:
        dropped |= _OF_CONTENT
    if destination.origin != plan.origin:
        dropped |= _CREDENTIALS
    if plan.route.proxy is not None and plan.route.is_forwarded:
        # Added again where that is the proxy.
        dropped |= {name.lower() for name, _ in plan.route.proxy.fields()}
    kept = [pair for pair in plan.headers.raw_items() if pair[0].lower() not in dropped]
    return wire.Headers([(b"Host", destination.host), *kept])


def _settings_for(plan: RequestPlan, destination: Destination) -> RequestSettings:
    if destination.origin == plan.origin or plan.settings.auth is None:
        return plan.settings
    return attrs.evolve(plan.settings, auth=None)
