"""What goes out for what a caller says, and what is refused before anything does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client._network import OK, URL, answering, client_of
from trio_http import Headers, InvalidRequest, wire
from trio_http.client import Client
from trio_http.messages import accept_encoding


async def sent(
    method: str, url: str = URL, *, client_options: dict[str, Any] | None = None, **keywords: Any
) -> bytes:
    """The bytes of one request, and of nothing else."""
    async with client_of(answering(OK if method != "HEAD" else OK[:-2]), **client_options or {}) as (
        client,
        network,
    ):
        await client.request(method, url, **keywords)
        return network.heads()


def fields(request: bytes) -> list[bytes]:
    return request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]


CODINGS = b"Accept-Encoding: " + accept_encoding()
DEFAULTS = [b"Host: example.org", b"User-Agent: trio-http/0.1.0", b"Accept: */*", CODINGS]


async def test_fields_are_sent_in_order_and_as_written() -> None:
    given = [("X-One", "1"), ("x-two", "2"), ("X-ONE", "3")]
    assert fields(await sent("GET", headers=given)) == [*DEFAULTS, b"X-One: 1", b"x-two: 2", b"X-ONE: 3"]
    assert fields(await sent("GET", headers=Headers({"a": "é"})))[-1] == b"a: \xe9"


async def test_fields_given_take_the_place_of_defaults() -> None:
    request = await sent("GET", headers={"accept": "text/html", "host": "elsewhere", "user-agent": "me"})
    assert fields(request) == [b"host: elsewhere", CODINGS, b"accept: text/html", b"user-agent: me"]


async def test_fields_of_the_client_are_on_every_request_that_does_not_say_otherwise() -> None:
    options = {"headers": {"X-Key": "k", "Accept": "text/plain"}, "user_agent": "mine"}
    request = await sent("GET", client_options=options, headers={"x-other": "o"})
    host, agent = DEFAULTS[0], b"User-Agent: mine"
    assert fields(request) == [host, agent, CODINGS, b"X-Key: k", b"Accept: text/plain", b"x-other: o"]
    request = await sent("GET", client_options=options, headers={"x-key": "other"})
    assert fields(request) == [host, agent, CODINGS, b"Accept: text/plain", b"x-key: other"]


@pytest.mark.parametrize(
    ("keywords", "content_type", "body"),
    [
        ({"json": {"a": ["é", None]}}, b"application/json", '{"a":["é",null]}'.encode()),
        ({"json": None}, b"application/json", b"null"),
        ({"data": {"a": "x y", "b": [1, 2]}}, b"application/x-www-form-urlencoded", b"a=x+y&b=1&b=2"),
        ({"content": bytearray(b"raw")}, None, b"raw"),
        ({"content": memoryview(b"raw")}, None, b"raw"),
    ],
)
async def test_content_has_its_length_and_type(
    keywords: dict[str, Any], content_type: bytes | None, body: bytes
) -> None:
    head, _, content = (await sent("POST", **keywords)).partition(b"\r\n\r\n")
    assert content == body
    assert b"Content-Length: %d" % len(body) in head
    types = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-type")]
    assert types == ([b"Content-Type: " + content_type] if content_type else [])


async def test_a_content_type_that_was_given_is_not_replaced() -> None:
    request = await sent("POST", json={}, headers={"content-type": "application/problem+json"})
    assert request.lower().count(b"content-type") == 1
    assert b"application/problem+json" in request


async def test_a_get_without_content_has_no_length_and_a_post_has() -> None:
    assert b"Content-Length" not in await sent("GET")
    assert b"Content-Length: 0\r\n" in await sent("POST")


async def test_usual_methods_are_understood_in_lower_case_and_others_go_out_as_written() -> None:
    assert (await sent("get")).startswith(b"GET /path HTTP/1.1\r\n")
    assert (await sent("Purge")).startswith(b"Purge /path HTTP/1.1\r\n")


@pytest.mark.parametrize("verb", ["get", "head", "options", "delete", "post", "put", "patch"])
async def test_each_verb_is_its_method(verb: str) -> None:
    async with client_of(answering(OK if verb != "head" else OK[:-2])) as (client, network):
        await getattr(client, verb)(URL, headers={"a": "b"}, params={"q": "1"})
    assert network.heads().startswith(verb.upper().encode() + b" /path?q=1 HTTP/1.1\r\n")


async def test_a_target_overrides_path_and_query() -> None:
    assert (await sent("OPTIONS", target="*")).startswith(b"OPTIONS * HTTP/1.1\r\nHost: example.org\r\n")
    request = await sent("GET", target=b"http://other.example/x?y")
    assert request.startswith(b"GET http://other.example/x?y HTTP/1.1\r\nHost: example.org\r\n")


async def test_relative_urls_are_below_the_base_url() -> None:
    request = await sent(
        "GET", "items", client_options={"base_url": "http://example.org/v1/"}, params={"q": "1"}
    )
    assert request.startswith(b"GET /v1/items?q=1 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("method", "keywords", "why"),
    [
        ("GE T", {}, "method"),
        ("GÉT", {}, "method"),
        ("GET\r\nX: y", {}, "method"),
        ("", {}, "method"),
        ("CONNECT", {}, "tunnel"),
        ("connect", {}, "tunnel"),
        ("GET", {"headers": {"a b": "c"}}, "field name"),
        ("GET", {"headers": {"a": "b\r\nc: d"}}, "value"),
        ("GET", {"headers": {"a": "\u20ac"}}, "header fields"),
        ("GET", {"headers": {"host": "a/b"}}, "Host"),
        ("GET", {"target": "/a b"}, "target"),
        ("GET", {"target": "/a#b"}, "fragment"),
        ("GET", {"target": "/ü"}, "target"),
        ("GET", {"target": ""}, "target"),
        ("POST", {"content": b"x", "json": 1}, "at most one"),
        ("POST", {"content": "text"}, "str"),
        ("POST", {"content": 3}, "int"),
        ("POST", {"json": {1, 2}}, "json"),
        ("POST", {"json": float("nan")}, "json"),
        ("POST", {"data": "a=b"}, "mapping or pairs"),
        ("POST", {"params": {"a": None}}, "parameter 'a'"),
        ("POST", {"content": b"abc", "headers": {"content-length": "2"}}, "Content-Length"),
        ("POST", {"content": b"abc", "headers": {"content-length": "4"}}, "Content-Length"),
        (
            "POST",
            {"content": b"abc", "headers": {"content-length": "3", "transfer-encoding": "chunked"}},
            "both",
        ),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_nothing_is_sent(
    method: str, keywords: dict[str, Any], why: str
) -> None:
    async with client_of(answering(OK)) as (client, network):
        await client.get(URL)
        before = network.heads()
        with pytest.raises(InvalidRequest) as caught:
            await client.request(method, URL, **keywords)
        assert why in str(caught.value)
        assert network.heads() == before


@pytest.mark.parametrize("base_url", ["/v1", "http://h/?q", "ftp://h/", "http://h/#f"])
def test_a_base_url_that_is_none_is_refused(base_url: str) -> None:
    with pytest.raises(InvalidRequest):
        Client(base_url=base_url)


def test_default_fields_that_cannot_be_sent_are_refused_at_once() -> None:
    with pytest.raises(wire.LocalProtocolError):
        Client(headers={"a": "b\n"})


@pytest.mark.parametrize(
    "options",
    [
        {"max_connections": 0},
        {"max_connections_per_origin": 0},
        {"idle_seconds": 0},
        {"dial_seconds": -1},
        {"expect_seconds": -1},
        {"max_content_bytes": -1},
    ],
)
def test_an_option_out_of_its_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Client(**options)
