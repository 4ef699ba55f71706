"""Connections at rest: how long they are kept, and what is found on them before they are used again (C3, C4,
C5).
"""

from __future__ import annotations

import gzip
import math

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from tests.client._sockets import tcp_client_of, tcp_peer, until_played
from trio_http.client import Client
from trio_http.testing import ScriptedPeer

GONE, IDLE = (0, 0), (0, 1)
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"


def kept(value: bytes) -> bytes:
    """An answer whose Keep-Alive field says so."""
    return b"HTTP/1.1 200 OK\r\nKeep-Alive: %s\r\nContent-Length: 2\r\n\r\nok" % value


# --------------------------------------------------------------------------------------------------- how long


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (b"timeout=10", 9.0),
        (b"timeout=1", 0.5),
        (b"timeout=2", 1.0),
        (b"max=1000, timeout=10", 9.0),
        (b"timeout=10, max=1000", 9.0),
        (b'Timeout="10"', 9.0),
        (b"timeout=3600", 15.0),
        (b"timeout=999999", 15.0),
        (b"timeout=soon", 15.0),
        (b"notimeout=1", 15.0),
        (b"max=5", 15.0),
        (b"", 15.0),
    ],
)
async def test_a_connection_is_kept_as_long_as_both_sides_will(
    said: bytes, seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    """C3, C4: and given up a little before the server does, for a request would meet its close."""
    async with client_of(answering(kept(said)).expect_end(), idle_seconds=15) as (client, network):
        await client.get(URL)
        await trio.sleep(seconds - 0.01)
        assert await in_pool(client) == IDLE
        await trio.sleep(0.02)
        assert await in_pool(client) == GONE
        assert network.streams[0].closed
        assert network.peers[0].finished


async def test_a_server_that_keeps_connections_for_no_time_gets_none_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C4."""
    async with client_of(answering(kept(b"timeout=0")), answering(OK)) as (client, network):
        await client.get(URL)
        assert await in_pool(client) == GONE
        await client.get(URL)
    assert len(network.dialed) == 2


async def test_what_the_last_answer_said_counts(autojump_clock: trio.testing.MockClock) -> None:
    """C4: an earlier one was about an earlier rest."""
    async with client_of(answering(kept(b"timeout=4"), OK, kept(b"timeout=3")), idle_seconds=20) as (
        client,
        network,
    ):
        await client.get(URL)
        await trio.sleep(2.9)
        await client.get(URL)
        await trio.sleep(19.9)
        assert await in_pool(client) == IDLE
        await client.get(URL)
        await trio.sleep(2.1)
        assert await in_pool(client) == GONE
    assert len(network.dialed) == 1


async def test_each_idle_connection_has_its_own_time(autojump_clock: trio.testing.MockClock) -> None:
    """C3."""
    peers = [
        ScriptedPeer().expect_until(END).wait(1).send(OK),
        ScriptedPeer().expect_until(END).wait(3).send(OK),
    ]
    async with client_of(*peers, idle_seconds=10) as (client, network):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, URL)
            nursery.start_soon(client.get, URL)
        assert await in_pool(client) == (0, 2)
        await trio.sleep(8.1)  # 11.1 since the first one rests at 1
        assert [stream.closed for stream in network.streams] == [True, False]
        await trio.sleep(2)
        assert [stream.closed for stream in network.streams] == [True, True]


async def test_a_connection_that_may_rest_for_ever_does(autojump_clock: trio.testing.MockClock) -> None:
    async with client_of(answering(OK, OK), idle_seconds=math.inf) as (client, network):
        await client.get(URL)
        await trio.sleep(80_000)
        await client.get(URL)
    assert len(network.dialed) == 1


# ----------------------------------------------------------------------------- what was found on it (sockets)

UNASKED = [
    POISON,
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"\r\n",
    b"x",
]


@pytest.mark.interop
@pytest.mark.parametrize("said", UNASKED)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_bytes_on_an_idle_connection_end_it_and_answer_nothing(said: bytes, method: str) -> None:
    """C5: over real sockets, since only they can be looked into."""
    first = tcp_peer().expect_until(END).send(OK).wait_until_quiet().send(said)
    second = tcp_peer().expect_until(END).send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
    async with tcp_client_of(first, second) as (client, dialed):
        await client.get(URL)
        await until_played(first)
        assert (await client.request(method, URL)).content == b"second"
        assert dialed == [first, second]
        assert await in_pool(client) == IDLE
    assert first.received.count(b"HTTP/1.1") == 1, "nothing more was sent there"


@pytest.mark.interop
@pytest.mark.parametrize("end", ["close", "reset", "send_eof"])
async def test_a_connection_that_ended_at_rest_is_not_used_again(end: str) -> None:
    """C5: so that even a POST, which could not be repeated, is not lost."""
    first = getattr(tcp_peer().expect_until(END).send(OK).wait_until_quiet(), end)()
    second = tcp_peer().expect_until(b"pay").send(OK)
    async with tcp_client_of(first, second) as (client, dialed):
        await client.get(URL)
        await until_played(first)
        assert (await client.post(URL, content=b"pay")).status == 200
        assert dialed == [first, second]


@pytest.mark.interop
async def test_all_that_ended_at_rest_are_passed_over_for_one_that_did_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """C5: the one used last is looked at first, and here only the one used first is fit."""

    def slow(seconds: float) -> ScriptedPeer:
        return tcp_peer().expect_until(END).wait(seconds).send(OK).wait_until_quiet()

    peers = [slow(1).expect_until(END).send(OK), slow(2).close(), slow(3).close()]
    async with tcp_client_of(*peers) as (client, dialed):
        async with trio.open_nursery() as nursery:
            for _ in peers:
                nursery.start_soon(client.get, URL)
        await until_played(*peers[1:])
        assert (await client.post(URL)).status == 200
        assert dialed == peers
        assert client.statistics().idle == 1


@pytest.mark.interop
async def test_bytes_that_come_behind_an_answer_do_not_reach_who_is_next_in_line() -> None:
    """C5: the connection would go from hand to hand without ever being idle."""
    coded = gzip.compress(b"first")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    first = tcp_peer().expect_until(END).send(head % len(coded) + coded).wait_until_quiet().send(POISON)
    second = tcp_peer().expect_until(END).send(OK)
    async with tcp_client_of(first, second, max_connections_per_origin=1) as (client, dialed):
        answers: list[bytes] = []

        async def wait_in_line() -> None:
            answers.append((await client.post(URL)).content)

        async with trio.open_nursery() as nursery, client.stream("GET", URL) as response:
            nursery.start_soon(wait_in_line)
            await until_played(first)  # the answer is here, unread, and behind it what nobody asked for
            assert client.statistics().waiting == 1
            assert await response.read() == b"first"
        assert answers == [b"ok"]
        assert dialed == [first, second]


# -------------------------------------------------------------------------- right behind, in the same segment


async def whole(client: Client) -> bytes:
    return (await client.get(URL)).content


async def streamed(client: Client) -> bytes:
    async with client.stream("GET", URL) as response:
        return await response.read()


async def unread(client: Client) -> bytes:
    async with client.stream("GET", URL):
        return b"ok"


@pytest.mark.parametrize("ask", [whole, streamed, unread])
@pytest.mark.parametrize("said", UNASKED)
@pytest.mark.parametrize(
    "answer",
    [OK, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
    ids=["length", "chunked"],
)
async def test_bytes_right_behind_an_answer_end_the_connection(
    ask: object, said: bytes, answer: bytes
) -> None:
    """C5: the answer itself is good."""
    async with client_of(answering(answer + said), answering(OK)) as (client, network):
        assert await ask(client) == b"ok"  # type: ignore[operator]
        assert await in_pool(client) == GONE
        assert (await client.get(URL)).content == b"ok"
        assert len(network.dialed) == 2


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_content_of_a_response_that_can_have_none_answers_nothing(status: bytes) -> None:
    """C5: a broken server's body of a 204 is what nobody asked for."""
    async with client_of(answering(b"HTTP/1.1 " + status + b"\r\n\r\n" + POISON), answering(OK)) as (
        client,
        _,
    ):
        assert (await client.get(URL)).content == b""
        assert await in_pool(client) == GONE
        assert (await client.get(URL)).content == b"ok"


async def test_content_behind_the_answer_to_head_answers_nothing() -> None:
    """C5: a broken server that sends the body of its answer to a HEAD."""
    async with client_of(answering(POISON), answering(OK)) as (client, _):
        assert (await client.head(URL)).content == b""
        assert await in_pool(client) == GONE
        assert (await client.get(URL)).content == b"ok"


async def test_who_is_next_in_line_gets_a_new_connection_when_bytes_came_right_behind() -> None:
    """C5."""
    first = ScriptedPeer().expect_until(END).wait_until_quiet().send(OK + POISON).expect_end()
    answers: list[bytes] = []
    async with client_of(first, answering(OK), max_connections_per_origin=1) as (client, network):

        async def ask() -> None:
            answers.append((await client.get(URL)).content)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert answers == [b"ok", b"ok"]
        assert len(network.dialed) == 2
        assert network.heads(0).count(b"GET") == 1
