"""Responses before the final one, as they come (C36, C37)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from trio_http import ResponseInvalid
from trio_http.client import InterimResponse
from trio_http.messages import Headers
from trio_http.testing import ScriptedPeer
from trio_http.wire import Limits

LARGE = b"x" * 100_000
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


async def test_interim_responses_are_seen_as_they_come(autojump_clock: trio.testing.MockClock) -> None:
    """C36: not with the final one."""
    seen: list[tuple[float, int, str]] = []
    peer = ScriptedPeer().expect_until(END).wait(1).send(PROCESSING).wait(1).send(HINTS).wait(1).send(OK)
    async with client_of(peer) as (client, _):
        started = trio.current_time()

        def note(interim: InterimResponse) -> None:
            seen.append((trio.current_time() - started, interim.status, interim.headers.get("link", "")))

        response = await client.get(URL, on_interim=note)
        assert seen == [(1, 102, ""), (2, 103, "</a.css>; rel=preload")]
        assert [interim.status for interim in response.interim] == [102, 103]
        assert response.status == 200
        assert response.timings.first_byte == pytest.approx(1)


@pytest.mark.parametrize("content", [None, b"small", LARGE], ids=["none", "small", "large"])
async def test_interim_responses_come_whatever_is_sent(content: bytes | None) -> None:
    """C36."""
    seen: list[int] = []
    async with client_of(answering(HINTS + PROCESSING + OK)) as (client, _):
        await client.put(URL, content=content, on_interim=lambda interim: seen.append(interim.status))
    assert seen == [103, 102]


async def test_they_are_there_in_a_streamed_response_too() -> None:
    """C36."""
    async with client_of(answering(HINTS + OK)) as (client, _), client.stream("GET", URL) as response:
        assert response.interim == (InterimResponse(103, Headers([("Link", "</a.css>; rel=preload")])),)


async def test_they_are_those_of_their_own_request() -> None:
    """C36."""
    async with client_of(answering(HINTS + OK, OK, PROCESSING + OK)) as (client, network):
        answers = [await client.get(URL) for _ in range(3)]
    assert [[each.status for each in answer.interim] for answer in answers] == [[103], [], [102]]
    assert len(network.dialed) == 1


async def test_one_that_is_unknown_is_passed_on() -> None:
    """C36: a client has to expect any of 1xx (RFC 9110 §15.2)."""
    async with client_of(answering(b"HTTP/1.1 199 Whatever\r\n\r\n" + OK)) as (client, _):
        assert [each.status for each in (await client.get(URL)).interim] == [199]


@pytest.mark.parametrize("content", [None, LARGE], ids=["none", "upload"])
@pytest.mark.parametrize("kind", [ValueError, LookupError])
async def test_an_error_of_the_callers_function_comes_out_as_it_is(
    content: bytes | None, kind: type[Exception]
) -> None:
    """C36: and the connection is closed, for the rest of the answer is on its way."""
    error = kind("mine")

    def fail(_: InterimResponse) -> None:
        raise error

    async with client_of(answering(HINTS)) as (client, _):
        with pytest.raises(kind) as caught:
            await client.request("PUT", URL, content=content, on_interim=fail)
        assert caught.value is error
        assert await in_pool(client) == (0, 0)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, trio.BrokenResourceError("mine")),
        (LARGE, trio.ClosedResourceError("mine")),
        (LARGE, ExceptionGroup("mine", [ValueError("a"), ValueError("b")])),
    ],
    ids=["broken", "closed, upload", "group, upload"],
)
async def test_an_error_of_the_callers_function_is_never_taken_for_another(
    content: bytes | None, error: Exception
) -> None:
    """C36: ``on_interim=channel.send_nowait`` raises trio's errors when nobody listens any more."""

    def fail(_: InterimResponse) -> None:
        raise error

    async with client_of(answering(HINTS)) as (client, _):
        with pytest.raises(type(error)) as caught:
            await client.request("PUT", URL, content=content, on_interim=fail)
        assert caught.value is error


@pytest.mark.parametrize("number", [100, 101])
async def test_there_may_be_a_hundred_and_no_more(number: int) -> None:
    """C37."""
    async with client_of(answering(PROCESSING * number + OK)) as (client, _):
        if number == 100:
            assert len((await client.get(URL)).interim) == 100
        else:
            with pytest.raises(ResponseInvalid, match="interim"):
                await client.get(URL)
            assert await in_pool(client) == (0, 0)


async def test_the_number_is_of_one_response_and_can_be_set() -> None:
    """C37."""
    peer = answering(PROCESSING * 3 + OK, PROCESSING * 3 + OK, PROCESSING * 4 + OK)
    async with client_of(peer, limits=Limits(max_interim=3)) as (client, _):
        await client.get(URL)
        await client.get(URL)
        with pytest.raises(ResponseInvalid):
            await client.get(URL)


async def test_a_drip_of_interim_responses_ends_with_the_callers_scope(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C37: each is a sign of life, and none is an answer."""
    peer = ScriptedPeer().expect_until(END)
    for _ in range(30):
        peer.send(PROCESSING).wait(1)
    async with client_of(peer.expect_end()) as (client, _):
        with trio.move_on_after(30.5) as scope:
            await client.get(URL)
        assert scope.cancelled_caught
        assert await in_pool(client) == (0, 0)
        assert peer.finished
