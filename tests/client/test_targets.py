"""What stands in the first line of a request and in its fields: exactly what was asked for (C32, C33)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client._network import END, OK, answering, client_of
from trio_http import InvalidRequest


async def line(method: str, url: str, **options: Any) -> bytes:
    """The request line."""
    async with client_of(answering(OK if method != "HEAD" else OK[:-2])) as (client, network):
        await client.request(method, url, **options)
    return network.heads().partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h", b"/"),
        ("http://h?q", b"/?q"),
        ("http://h/", b"/"),
        ("http://h/a%2Fb/../c", b"/a%2Fb/../c"),
        ("http://h//evil/x", b"//evil/x"),
        ("http://h/a//b/./c", b"/a//b/./c"),
        ("http://h/%7Euser/%c3%A9", b"/%7Euser/%c3%A9"),
        ("http://h/a?b=%20+c&&=", b"/a?b=%20+c&&="),
        ("http://h/a?b?c/d", b"/a?b?c/d"),
        ("http://h/a;p=1,2!$&'()*+:@", b"/a;p=1,2!$&'()*+:@"),
        ("http://h/a#fragment", b"/a"),
        ("http://h/?", b"/?"),
    ],
)
async def test_a_url_goes_out_as_it_was_written(url: str, target: bytes) -> None:
    """C32: a fragment is the caller's own (RFC 9110 §4.2.5); all else is not touched."""
    assert await line("GET", url) == b"GET " + target + b" HTTP/1.1"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("OPTIONS", "*"),
        ("GET", "http://other.example/x?y"),
        ("GET", "/a%2Fb/../c?d"),
        ("GET", b"/bytes"),
        ("GET", '/a?b="<>[]^`{|}'),
    ],
)
async def test_a_target_goes_out_as_it_was_written(method: str, target: str | bytes) -> None:
    """C32."""
    written = target if isinstance(target, bytes) else target.encode()
    assert (
        await line(method, "http://h/path?query", target=target)
        == method.encode() + b" " + written + b" HTTP/1.1"
    )


@pytest.mark.parametrize("method", ["PROPFIND", "M-SEARCH", "x", "!#$%&'*+-.^_`|~09", "Get", "TRACE"])
async def test_any_token_is_a_method(method: str) -> None:
    """C32: in its own case."""
    assert await line(method, "http://h/") == method.encode() + b" / HTTP/1.1"


@pytest.mark.parametrize("method", ["PROPFIND", "SEARCH", "GET", "DELETE"])
async def test_any_method_may_have_content(method: str) -> None:
    """C32."""
    async with client_of(answering(OK)) as (client, network):
        await client.request(method, "http://h/", content=b"<x/>")
        assert network.streams[0].sends == 1
        sent = network.streams[0].sent_bytes
    head = network.heads().partition(END)[0]
    assert b"\r\nContent-Length: 4" in head
    assert sent == len(head) + len(END) + 4


@pytest.mark.parametrize(
    "target", ["/a b", "/a\tb", "/a\r\nX: y", "/a\x00", "/a\x7f", "/é", "", "/a#b", b"/\xff"]
)
async def test_a_target_that_would_break_the_line_is_refused_and_nothing_is_sent(target: str | bytes) -> None:
    """C32."""
    async with client_of(answering(OK)) as (client, network):
        with pytest.raises(InvalidRequest):
            await client.get("http://h/", target=target)
        assert network.dialed == []


async def test_fields_keep_their_order_and_case() -> None:
    """C33: also where a name comes again, and where the client's own stand among them."""
    given = [("x-B", "1"), ("X-a", "2"), ("X-b", "3"), ("aCCept", "text/html")]
    async with client_of(answering(OK)) as (client, network):
        await client.get("http://h/", headers=given)
    fields = network.heads().partition(END)[0].split(b"\r\n")[1:]
    assert fields[-4:] == [b"x-B: 1", b"X-a: 2", b"X-b: 3", b"aCCept: text/html"]
    assert fields[0] == b"Host: h"
    assert sum(field.lower().startswith(b"accept:") for field in fields) == 1


async def test_fields_of_a_response_keep_their_order_and_case() -> None:
    """C33."""
    answer = b"HTTP/1.1 200 OK\r\nX-b: 1\r\nsET-cookie: a=1\r\nx-B: 2\r\nContent-Length: 0\r\n\r\n"
    async with client_of(answering(answer)) as (client, _):
        response = await client.get("http://h/")
    assert [bytes(name) for name, _ in response.headers.raw] == [
        b"X-b",
        b"sET-cookie",
        b"x-B",
        b"Content-Length",
    ]
    assert response.headers["x-b"] == "1, 2"
