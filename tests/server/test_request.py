"""What a handler sees of a request, and what it reads from it as a whole."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
import yarl

from tests.server.support import CLOSING_GET, Answer, head, post, serve
from trio_http import Request, Response, serve_connection


async def seen(data: bytes, look: Callable[[Request], Any]) -> Any:
    """What `look` gives for the one request in `data`."""
    found: list[Any] = []

    async def handler(request: Request) -> Response:
        found.append(look(request))
        return Response(200, headers={"Connection": "close"})

    client, server = trio.testing.memory_stream_pair()
    await client.send_all(data)
    await client.send_eof()
    await serve_connection(handler, server)
    (value,) = found
    return value


async def test_the_head_is_there_as_it_was_sent() -> None:
    def look(request: Request) -> Any:
        return (
            request.method, request.target, request.http_version, request.headers["x-one"],
            request.headers.get_all("x-two"), repr(request),
        )  # fmt: skip

    data = head("FROB", "/a?b", "X-One: 1", "X-Two: 2", "x-two: 3")
    expected = ("FROB", "/a?b", "1.1", "1", ["2", "3"], "<Request FROB /a?b>")
    assert await seen(data, look) == expected
    assert await seen(head("GET", version="1.0"), lambda request: request.http_version) == "1.0"


TARGETS = [
    # target, path, query, url
    ("/", "/", "", "http://example.org/"),
    ("/a/b?c=d&e", "/a/b", "c=d&e", "http://example.org/a/b?c=d&e"),
    ("/a?b?c", "/a", "b?c", "http://example.org/a?b?c"),
    ("//evil/x", "//evil/x", "", "http://example.org//evil/x"),
    ("/a%2Fb/../c", "/a%2Fb/../c", "", "http://example.org/a%2Fb/../c"),
    ("/to?next=http://evil/x", "/to", "next=http://evil/x", "http://example.org/to?next=http://evil/x"),
    ("http://other/p?q", "/p", "q", "http://other/p?q"),
    ("http://other:81", "/", "", "http://other:81"),
    ("http://other?a=/admin", "/", "a=/admin", "http://other/?a=/admin"),
    ("http://other/?a=http://evil/admin", "/", "a=http://evil/admin", "http://other/?a=http://evil/admin"),
]


@pytest.mark.parametrize(("target", "path", "query", "url"), TARGETS)
async def test_path_query_and_url_come_from_the_target_and_are_not_normalised(
    target: str, path: str, query: str, url: str
) -> None:
    def look(request: Request) -> Any:
        return request.target, request.path, request.query, str(request.url), request.url.host

    host = yarl.URL(url, encoded=True).host
    assert await seen(head("GET", target), look) == (target, path, query, url, host)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("[::1]", "http://[::1]/"),
        ("[::1]:8080", "http://[::1]:8080/"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ("h:80", "http://h/"),
    ],
)
async def test_the_url_names_the_host_that_the_client_named(host: str, url: str) -> None:
    data = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    assert await seen(data, lambda request: str(request.url)) == url


async def test_the_url_of_a_request_without_a_host_is_on_localhost() -> None:
    assert await seen(b"GET /x HTTP/1.0\r\n\r\n", lambda request: str(request.url)) == "http://localhost/x"


async def test_a_target_that_names_no_resource_has_no_url() -> None:
    def look(request: Request) -> Any:
        with pytest.raises(ValueError, match="names no resource"):
            str(request.url)
        return request.path

    assert await seen(head("OPTIONS", "*"), look) == "*"


async def test_a_port_that_cannot_be_makes_no_url_and_no_harm() -> None:
    def look(request: Request) -> Any:
        with pytest.raises(ValueError):
            str(request.url)
        return request.path

    assert await seen(b"GET /x HTTP/1.1\r\nHost: a:99999\r\n\r\n", look) == "/x"


async def test_a_connection_over_memory_has_no_addresses() -> None:
    def look(request: Request) -> Any:
        connection = request.connection
        return connection.peername, connection.sockname, connection.tls

    assert await seen(CLOSING_GET, look) == (None, None, None)


# --------------------------------------------------------------------------------------------- whole contents


def reader(read: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def handler(request: Request) -> Response:
        return Response(200, json=await read(request))

    return handler


async def ask(read: Callable[[Request], Awaitable[Any]], request: bytes) -> Answer:
    """The answer of a handler that gives back what `read` got, as JSON."""
    async with trio.open_nursery() as nursery:
        answer = await serve(nursery, reader(read)).ask(request)
        nursery.cancel_scope.cancel()
    return answer


@pytest.mark.parametrize("content", [b'{"a": [1, null]}', b'"\\u20ac"', '"\u20ac"'.encode(), b"1e400"])
async def test_json_is_read(content: bytes) -> None:
    answer = await ask(lambda request: request.json(), post(content))
    assert answer.status == 200
    assert json.loads(answer.content) == json.loads(content)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"{'a': 1}", b"[" * 100_000, b"1" * 5000])
async def test_content_that_is_no_json_is_400(content: bytes) -> None:
    """Nesting deeper than Python's own once was a 500, and an error in the log."""
    answer = await ask(lambda request: request.json(), post(content))
    assert (answer.status, answer.content) == (400, b"the request's content is no JSON\n")


@pytest.mark.parametrize(
    ("content_type", "content", "text"),
    [
        ("text/plain", "\u20ac".encode(), "\u20ac"),
        ("text/plain; charset=iso-8859-1", b"\xe9", "\xe9"),
        ('text/plain; charset="utf-16-le"', b"a\0b\0", "ab"),
        ("text/plain; charset=nonsense", b"abc", "abc"),
        ("text/plain; charset=idna", b"abc", "abc"),
        ("text/plain; charset=undefined", b"abc", "abc"),
        ("text/plain; charset=hex", b"6162", "6162"),
        ("text/plain;charset*1=a; charset*b=3; charset*", b"abc", "abc"),
        ("text/plain", b"\xff", "\ufffd"),
    ],
)
async def test_text_is_decoded_by_its_charset_and_never_fails(
    content_type: str, content: bytes, text: str
) -> None:
    """Some names of Python's codecs, and some malformed parameters, once made a 500."""
    answer = await ask(lambda request: request.text(), post(content, f"Content-Type: {content_type}"))
    assert answer.status == 200
    assert json.loads(answer.content) == text


FORM = "Content-Type: application/x-www-form-urlencoded"


async def test_a_form_is_read_as_pairs() -> None:
    content = b"a=1&b=&a=%E2%82%AC+x&c"
    answer = await ask(lambda request: request.form(), post(content, FORM + "; charset=utf-8"))
    assert json.loads(answer.content) == [["a", "1"], ["b", ""], ["a", "\u20ac x"], ["c", ""]]


@pytest.mark.parametrize("field", ["X: y", "Content-Type: text/plain", "Content-Type: multipart/form-data"])
async def test_a_form_of_another_type_is_415(field: str) -> None:
    assert (await ask(lambda request: request.form(), post(b"a=1", field))).status == 415


@pytest.mark.parametrize("content", [b"a=1&" * 1001, b"\xff=1"])
async def test_a_form_with_too_many_fields_or_bytes_that_are_no_text_is_400(content: bytes) -> None:
    assert (await ask(lambda request: request.form(), post(content, FORM))).status == 400


@pytest.mark.parametrize("verb", ["read", "text", "json", "form"])
async def test_whole_content_is_limited_unless_told_otherwise(verb: str) -> None:
    content = b"1" * ((1 << 20) + 1)
    answer = await ask(lambda request: getattr(request, verb)(), post(content, FORM))
    assert (answer.status, answer.closes) == (413, True)


async def test_whole_content_may_be_larger_when_told_so() -> None:
    async def read(request: Request) -> int:
        return len(await request.read(limit=2 << 20))

    answer = await ask(read, post(b"1" * ((1 << 20) + 1)))
    assert answer.content == b"%d" % ((1 << 20) + 1)


async def test_a_request_that_is_over_holds_nothing_of_the_next_one_back(nursery: trio.Nursery) -> None:
    kept: list[Request] = []

    async def handler(request: Request) -> Response:
        kept.append(request)
        return Response(200)

    peer = serve(nursery, handler)
    await peer.ask()
    await peer.ask()
    for use in (lambda: kept[0].finish(within=5), kept[0].cancel_on_drain):
        with pytest.raises(trio.ClosedResourceError, match="is over"):
            use()
