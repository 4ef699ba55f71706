"""Requests on a connection that the server closes at that moment: which are sent again, and which are not
(C6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from tests.client._sockets import tcp_client_of, tcp_peer, until_played
from trio_http import ClientPace, ConnectionLost, ResponseIncomplete
from trio_http.testing import ScriptedPeer, memory_pair

LARGE = b"\r\n" + b"x" * 1_000_000 + b"the end of it"


class Source:
    """Pieces for a request's content, and how many of them were asked for."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await trio.lowlevel.checkpoint()
            self.given += 1
            yield piece


# ---------------------------------------------------------------------- nothing of the request has gone out


@pytest.mark.interop
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "M-SEARCH"])
@pytest.mark.parametrize("content", [None, b"pay", LARGE], ids=["empty", "small", "large"])
async def test_a_request_of_which_no_byte_went_out_is_sent_again_whatever_its_method(
    method: str, content: bytes | None
) -> None:
    """C6: the connection was reset already, so the server cannot have acted."""
    first = tcp_peer().expect_until(END).send(OK).wait_until_quiet().reset()
    second = tcp_peer().expect_until((content or END)[-13:]).send(OK)
    told: list[Any] = []
    async with tcp_client_of(first, second, blind=True) as (client, dialed):
        await client.get(URL)
        await until_played(first)
        assert (await client.request(method, URL, content=content, report=told.append)).status == 200
        assert dialed == [first, second]
        assert await in_pool(client) == (0, 1)
    assert [(record.attempt, record.outcome, record.may_have_acted) for record in told] == [
        (1, "failed", False),
        (2, "complete", True),
    ]
    assert told[0].bytes_sent == 0


@pytest.mark.interop
async def test_a_file_is_sent_again_from_its_start(tmp_path: Path) -> None:
    """C6: it can be had again."""
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    first = tcp_peer().expect_until(END).send(OK).wait_until_quiet().reset()
    second = tcp_peer().expect_until(END).expect(LARGE).send(OK)
    async with tcp_client_of(first, second, blind=True) as (client, dialed):
        await client.get(URL)
        await until_played(first)
        assert (await client.post(URL, content=path)).status == 200
        assert dialed == [first, second]


@pytest.mark.interop
async def test_a_generator_is_not_sent_twice_even_if_nothing_went_out() -> None:
    """C6: pieces may have been taken from it."""
    first = tcp_peer().expect_until(END).send(OK).wait_until_quiet().reset()
    source = Source(b"once")
    async with tcp_client_of(first, tcp_peer(), blind=True) as (client, dialed):
        await client.get(URL)
        await until_played(first)
        with pytest.raises(ConnectionLost) as caught:
            await client.put(URL, content=source)
        assert not caught.value.facts.may_have_acted
        assert caught.value.facts.reused
        assert dialed == [first]
    assert source.given <= 1


# ----------------------------------------------------------------------------------- some of it has gone out


def partly_reading(end: str) -> ScriptedPeer:
    """A server that answers once, then takes the beginning of a request and goes."""
    peer = (
        ScriptedPeer(memory_pair(5000)).expect_until(END).send(OK).expect_until(END).expect_until(b"\r\nxxx")
    )
    return getattr(peer, end)()  # type: ignore[no-any-return]


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_post_that_was_partly_sent_is_not_sent_again(end: str) -> None:
    """C6: a server may act on the beginning of a request."""
    async with client_of(partly_reading(end), answering(OK)) as (client, network):
        await client.get(URL)
        with pytest.raises(ConnectionLost) as caught:
            await client.post(URL, content=LARGE)
        assert caught.value.facts.may_have_acted
        assert 0 < caught.value.facts.bytes_sent < len(LARGE)
    assert len(network.dialed) == 1


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_put_that_was_partly_sent_is_sent_again_whole(end: str) -> None:
    """C6."""
    second = ScriptedPeer().expect_until(END, startswith=b"PUT ").expect(LARGE).send(OK)
    async with client_of(partly_reading(end), second) as (client, network):
        await client.get(URL)
        assert (await client.put(URL, content=LARGE)).status == 200
    assert len(network.dialed) == 2


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET"])
async def test_a_generator_is_never_sent_twice(method: str) -> None:
    """C6: whatever the method allows."""
    source = Source(*[b"xxx" * 300] * 100)
    async with client_of(partly_reading("close"), answering(OK)) as (client, network):
        await client.get(URL)
        with pytest.raises(ConnectionLost):
            await client.request(method, URL, content=source)
    assert len(network.dialed) == 1
    assert 0 < source.given < 100


@pytest.mark.interop
@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_over_tcp_a_close_that_crosses_a_request_costs_only_what_cannot_be_repeated(
    method: str, end: str
) -> None:
    """C6."""
    first = getattr(tcp_peer().expect_until(END).send(OK).expect_until(END), end)()
    second = tcp_peer().expect_until(END, startswith=method.encode()).send(OK)
    async with tcp_client_of(first, second) as (client, dialed):
        await client.get(URL)
        if method == "POST":
            with pytest.raises(ConnectionLost) as caught:
                await client.post(URL)
            assert caught.value.facts.may_have_acted
            assert dialed == [first]
        else:
            assert (await client.request(method, URL)).status == 200
            assert dialed == [first, second]


# ------------------------------------------------------------------------------------- what is no lost race


async def test_a_server_that_was_too_slow_is_not_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    """C6: it was given up by us."""
    peer = answering(OK).expect_until(END).expect_end()
    async with client_of(peer, answering(OK), pace=ClientPace(head=5)) as (client, network):
        await client.get(URL)
        with pytest.raises(ConnectionLost, match=r"did not answer within 5 s") as caught:
            await client.get(URL)
        assert caught.value.facts.timed_out
        assert caught.value.facts.reused
    assert len(network.dialed) == 1


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n", OK[:-1]])
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_request_is_not_sent_again_once_the_answer_has_begun(said: bytes, end: str) -> None:
    """C6."""
    peer = getattr(answering(OK).expect_until(END).send(said).wait_until_quiet(), end)()
    async with client_of(peer, answering(OK)) as (client, network):
        await client.get(URL)
        with pytest.raises(ResponseIncomplete):
            await client.get(URL)
    assert len(network.dialed) == 1


@pytest.mark.parametrize("content", [b"pay", LARGE, Source(b"pay")], ids=["small", "large", "source"])
async def test_a_broken_connection_is_the_networks_fault_whatever_was_to_be_sent(content: Any) -> None:
    """It was InvalidRequest for content that is sent in several steps, as if the caller had done wrong."""
    peer = ScriptedPeer()
    peer._own.reset()
    async with client_of(peer) as (client, _):
        with pytest.raises(ConnectionLost) as caught:
            await client.post(URL, content=content)
        assert caught.value.facts.bytes_sent == 0
        assert await in_pool(client) == (0, 0)


async def test_an_answer_that_came_before_the_head_could_be_sent_is_had_by_a_large_upload() -> None:
    """It was InvalidRequest: sending went on after the head had failed."""
    busy = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
    theirs, ours = memory_pair()
    await theirs.send_all(busy)
    await theirs.aclose()
    peer = ScriptedPeer((theirs, ours))
    async with client_of(peer) as (client, _):
        for content in (LARGE,):
            response = await client.post(URL, content=content)
            assert (response.status, response.content) == (503, b"busy")
        assert await in_pool(client) == (0, 0)
