"""Trailer sections, both ways (C29, C35)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from trio_http import InvalidRequest, ResponseIncomplete, ResponseInvalid
from trio_http.messages import Headers
from trio_http.testing import ScriptedPeer

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
LARGE = b"x" * 100_000


async def sent(content: Any, **options: Any) -> bytes:
    """Everything that goes out for a POST."""
    peer = ScriptedPeer().expect_until(b"\r\n0\r\n").expect_until(END).send(OK)
    async with client_of(peer) as (client, network):
        assert (await client.post(URL, content=content, **options)).status == 200
        assert await in_pool(client) == (0, 1)
        return network.heads()


# ------------------------------------------------------------------------------------------------ of requests


@pytest.mark.parametrize(
    "trailers",
    [
        {"X-Sum": "abc", "x-size": "5"},
        [("X-Sum", "abc"), ("x-size", "5")],
        Headers({"X-Sum": "abc", "x-size": "5"}),
    ],
    ids=["mapping", "pairs", "headers"],
)
async def test_trailers_follow_the_content_and_are_announced(trailers: Any) -> None:
    """C29: in the order and the case in which they were given."""
    request = await sent(b"hello", trailers=trailers)
    head, _, body = request.partition(END)
    assert b"\r\nTrailer: X-Sum, x-size" in head
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert body == b"5\r\nhello\r\n0\r\nX-Sum: abc\r\nx-size: 5\r\n\r\n"


async def test_a_name_is_announced_once() -> None:
    """C29."""
    request = await sent(b"x", trailers=[("A", "1"), ("B", "2"), ("A", "3")])
    assert b"\r\nTrailer: A, B\r\n" in request
    assert request.endswith(b"0\r\nA: 1\r\nB: 2\r\nA: 3\r\n\r\n")


async def test_a_function_is_asked_when_the_content_was_sent() -> None:
    """C29: for a sum that nobody knows before."""
    digest = hashlib.sha256()

    async def source() -> AsyncIterator[bytes]:
        for part in (b"abc", b"def"):
            await trio.lowlevel.checkpoint()
            digest.update(part)
            yield part

    request = await sent(
        source(), trailers=lambda: {"x-sum": digest.hexdigest()}, headers={"trailer": "x-sum"}
    )
    assert request.endswith(b"0\r\nx-sum: " + hashlib.sha256(b"abcdef").hexdigest().encode() + b"\r\n\r\n")


@pytest.mark.parametrize("content", [None, b"", LARGE], ids=["none", "empty", "large"])
async def test_there_may_be_trailers_behind_any_content(content: bytes | None) -> None:
    """C29."""
    request = await sent(content, trailers={"a": "b"})
    assert request.endswith(b"0\r\na: b\r\n\r\n")


async def test_trailers_are_sent_again_with_a_request_that_lost_the_race() -> None:
    """C29, C6."""
    first = answering(OK).expect_until(END).close()
    second = ScriptedPeer().expect_until(b"0\r\na: b\r\n\r\n").send(OK)
    async with client_of(first, second) as (client, network):
        await client.get(URL)
        assert (await client.put(URL, content=b"x", trailers={"a": "b"})).status == 200
    assert len(network.dialed) == 2


async def test_an_error_of_the_function_comes_out_as_it_is_and_the_request_never_looks_complete() -> None:
    """C29."""
    error = LookupError("mine")

    def fail() -> dict[str, str]:
        raise error

    peer = ScriptedPeer().expect_until(b"5\r\nhello\r\n").expect_end()
    async with client_of(peer) as (client, network):
        with pytest.raises(LookupError) as caught:
            await client.post(URL, content=b"hello", trailers=fail)
        assert caught.value is error
        assert await in_pool(client) == (0, 0)
        assert not network.heads().endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("trailers", [{"a b": "c"}, {"a": "b\r\nc: d"}, {"a": "\u20ac"}])
async def test_trailers_that_are_no_fields_are_refused_and_nothing_is_sent(trailers: dict[str, str]) -> None:
    """C29."""
    async with client_of(ScriptedPeer()) as (client, network):
        with pytest.raises(InvalidRequest):
            await client.post(URL, content=b"x", trailers=trailers)
        assert network.dialed == []


@pytest.mark.parametrize(
    ("trailers", "headers"),
    [
        ({"content-length": "5"}, {}),
        ({"transfer-encoding": "chunked"}, {}),
        ({"host": "x"}, {}),
        ({"a": "b"}, {"content-length": "1"}),
    ],
)
async def test_trailers_that_may_not_be_are_refused_and_nothing_is_sent(
    trailers: dict[str, str], headers: dict[str, str]
) -> None:
    """C29: those that frame or route, and any without chunked coding (RFC 9110 §6.5.1, RFC 9112 §7.1.2)."""
    async with client_of(ScriptedPeer().expect_until(END)) as (client, network):
        with pytest.raises(InvalidRequest, match="trailer"):
            await client.post(URL, content=b"x", trailers=trailers, headers=headers)
        assert network.dialed == []


async def test_trailers_of_a_function_that_may_not_be_are_the_callers_fault() -> None:
    """C29: these can only be found out when they are there."""
    async with client_of(ScriptedPeer().expect_until(b"x\r\n").expect_end()) as (client, _):
        with pytest.raises(InvalidRequest, match="content-length"):
            await client.post(URL, content=b"x", trailers=lambda: {"content-length": "5"})
        assert await in_pool(client) == (0, 0)


# ----------------------------------------------------------------------------------------------- of responses


async def test_trailers_of_a_response_are_apart_from_its_headers() -> None:
    """C35."""
    answer = CHUNKED + b"Trailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: abc\r\nX-Sum: def\r\n\r\n"
    async with client_of(answering(answer)) as (client, _):
        response = await client.get(URL)
        assert response.trailers.get_all("x-sum") == ["abc", "def"]
        assert "x-sum" not in response.headers
        assert await in_pool(client) == (0, 1)


async def test_trailers_of_a_streamed_response_are_there_at_its_end() -> None:
    """C35."""
    peer = ScriptedPeer().expect_until(END).send(CHUNKED + b"\r\n2\r\nok\r\n").wait_until_quiet()
    async with (
        client_of(peer.send(b"0\r\nX-Sum: abc\r\n\r\n")) as (client, _),
        client.stream("GET", URL) as response,
    ):
        assert await response.body.receive_some() == b"ok"
        assert not response.trailers
        assert await response.body.receive_some() == b""
        assert response.trailers.items() == [("x-sum", "abc")]


async def test_a_trailer_section_cut_short_is_no_end() -> None:
    """C35: neither the content nor the trailers look complete."""
    peer = (
        ScriptedPeer().expect_until(END).send(CHUNKED + b"\r\n2\r\nok\r\n0\r\nX-Sum: ab").wait_until_quiet()
    )
    async with client_of(peer.close()) as (client, _):
        with pytest.raises(ResponseIncomplete):
            await client.get(URL)
        assert await in_pool(client) == (0, 0)


@pytest.mark.parametrize(
    "section", [b"a: " + b"x" * 70_000, b"\r\n".join([b"a: b"] * 1000), b"no field", b" folded: x"]
)
async def test_a_trailer_section_without_bound_or_form_is_invalid(section: bytes) -> None:
    """C35."""
    async with client_of(answering(CHUNKED + b"\r\n0\r\n" + section + b"\r\n\r\n")) as (client, _):
        with pytest.raises(ResponseInvalid):
            await client.get(URL)
        assert await in_pool(client) == (0, 0)
