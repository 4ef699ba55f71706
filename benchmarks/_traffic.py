"""The messages that the benchmarks exchange, and the facts that a parser must find in each.

No two of the messages made here in a row are equal: request target and at least one field value differ from
one to the next, so a parser that remembers whole heads gains nothing by it. (One that remembers single field
*lines* may gain: a browser does send the same `User-Agent` each time, and does so here.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Fields = list[tuple[bytes, bytes]]

ANSWER_BODY = b"Hello, world!"
ANSWER_TYPE = b"text/plain; charset=utf-8"
VERSION = b"1.1"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as bytes, and what it says.

    Attributes:
      data: the whole message as it comes from the network.
      first, second: method and request target of a request; status code and reason phrase of a response.
      fields: its field lines in order, names as they are written on the wire.
      body: its message body.
    """

    data: bytes
    first: bytes
    second: bytes
    fields: Fields
    body: bytes

    @property
    def facts(self) -> tuple[bytes, bytes, bytes, Fields, bytes]:
        """Return what a parser must have found; the fields with lower-case names."""
        return (
            self.first,
            self.second,
            VERSION,
            [(name.lower(), value) for name, value in self.fields],
            self.body,
        )


def lines(fields: Fields) -> bytes:
    """Return the header section of `fields` with the empty line that ends it."""
    return b"".join(b"%s: %s\r\n" % field for field in fields) + b"\r\n"


def _request(method: bytes, target: bytes, fields: Fields, body: bytes = b"") -> Message:
    return Message(
        b"%s %s HTTP/1.1\r\n%s%s" % (method, target, lines(fields), body), method, target, fields, body
    )


def small_request(number: int) -> Message:
    """Return a GET with one field, which is all that wrk and many probes send."""
    return _request(
        b"GET", b"/items/%d?page=%d" % (number, number % 7), [(b"Host", b"shop-%d.example" % number)]
    )


def browser_fields(number: int) -> Fields:
    """Return the 12 fields that desktop Chrome sends when a page of a plain http:// site is reloaded.

    (`Sec-Fetch-*` and `Sec-CH-UA*` are not among them: a browser keeps those for https:// and loopback.)
    `Referer`, `If-None-Match` and `Cookie` differ from page to page.
    """
    chrome = b"(KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
    accept = (
        b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
    )
    return [
        (b"Host", b"www.shop.example:8000"),
        (b"Connection", b"keep-alive"),
        (b"Cache-Control", b"max-age=0"),
        (b"Upgrade-Insecure-Requests", b"1"),
        (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 " + chrome),
        (b"Accept", accept + b",application/signed-exchange;v=b3;q=0.7"),
        (b"Referer", b"http://www.shop.example:8000/category/%d" % (number % 31)),
        (b"Accept-Encoding", b"gzip, deflate"),
        (b"Accept-Language", b"en-GB,en-US;q=0.9,en;q=0.8,de;q=0.7"),
        (
            b"Cookie",
            b"session=6f1c0b7e9d%08x; theme=dark; seen=%d; consent=analytics:0" % (number * 7919, number),
        ),
        (b"If-None-Match", b'"5f3759df-%x"' % (number + 4096)),
        (b"If-Modified-Since", b"Tue, 04 Nov 2025 10:12:55 GMT"),
    ]


def browser_request(number: int) -> Message:
    """Return a GET with `browser_fields`."""
    return _request(b"GET", b"/category/%d/item-%d?ref=home" % (number % 31, number), browser_fields(number))


def session_request(number: int) -> Message:
    """Return a `browser_request` of one session: the cookie stays, and target and `Referer` differ."""
    first = dict(browser_fields(0))
    fields = [
        (name, b"http://www.shop.example:8000/item/%d" % number if name == b"Referer" else first[name])
        for name, _ in browser_fields(0)
    ]
    return _request(b"GET", b"/category/%d/item-%d?ref=home" % (number % 31, number), fields)


def post_request(number: int) -> Message:
    """Return a POST with 5 fields and a body of 100 bytes, head and body in one piece."""
    body = (b'{"order": %d, "note": "' % number).ljust(98, b"x") + b'"}'
    fields = [
        (b"Host", b"api.shop.example"),
        (b"User-Agent", b"curl/8.5.0"),
        (b"Accept", b"*/*"),
        (b"Content-Type", b"application/json; v=%d" % number),
        (b"Content-Length", b"%d" % len(body)),
    ]
    return _request(b"POST", b"/orders/%d" % number, fields, body)


def client_request(number: int) -> Message:
    """Return the GET of 4 fields that the client role writes."""
    fields = [
        (b"Host", b"api.shop.example"),
        (b"User-Agent", b"benchmark/1"),
        (b"Accept", b"*/*"),
        (b"X-Request-Id", b"%08x" % (number * 7919)),
    ]
    return _request(b"GET", b"/orders/%d" % number, fields)


def response(number: int) -> Message:
    """Return the 200 with 6 fields and 13 bytes that the client role reads."""
    fields = [
        (b"Server", b"nginx/1.22.1"),
        (b"Date", b"Tue, 04 Nov 2025 10:%02d:%02d GMT" % (number // 60 % 60, number % 60)),
        (b"Content-Type", ANSWER_TYPE),
        (b"Content-Length", b"%d" % len(ANSWER_BODY)),
        (b"ETag", b'"5f3759df-%x"' % (number + 4096)),
        (b"Connection", b"keep-alive"),
    ]
    return Message(b"HTTP/1.1 200 OK\r\n" + lines(fields) + ANSWER_BODY, b"200", b"OK", fields, ANSWER_BODY)


def many(maker: Callable[[int], Message], count: int) -> list[Message]:
    """Return `count` messages of one kind, no two of them equal."""
    messages = [maker(number) for number in range(count)]
    assert len({message.data for message in messages}) == count
    return messages


def upload_head(framing: tuple[bytes, bytes]) -> bytes:
    """Return the head of an upload whose body is framed by the field `framing`."""
    return _request(b"PUT", b"/blob", [(b"Host", b"api.shop.example"), framing]).data


def tiny_chunks(count: int) -> bytes:
    """Return a chunked body of `count` chunks of 16 bytes, no two equal, and the last chunk."""
    return (
        b"".join(b"10\r\n%016x\r\n" % (number * 0x9E3779B97F4A7C15 % 2**64) for number in range(count))
        + b"0\r\n\r\n"
    )
