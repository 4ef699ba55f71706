"""Waiting for a 100 (Continue): a race of four, in every order (C28, N19)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, client_of, in_pool
from trio_http import ConnectionLost, RequestFailed, ResponseIncomplete
from trio_http.testing import ScriptedPeer

EXPECT = {"expect": "100-continue"}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ORDERS = list(itertools.permutations(["interim", "final", "timer", "close"]))


def test_there_are_24_orders() -> None:
    assert len(set(ORDERS)) == 24


def server(order: tuple[str, ...], end: str) -> ScriptedPeer:
    """A server that does one thing a second, in that order, until it closes."""
    peer = ScriptedPeer().expect_until(END)
    for what in order:
        peer.wait(1)
        if what == "interim":
            peer.send(CONTINUE)
        elif what == "final":
            peer.send(OK)
        elif what == "close":
            return getattr(peer, end)()  # type: ignore[no-any-return]
    raise AssertionError("it closes at some time")


@pytest.mark.parametrize("streamed", [False, True], ids=["bytes", "source"])
@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
async def test_the_first_that_decides_decides(
    order: tuple[str, ...], end: str, streamed: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """N19: the content goes out with the interim response or the timer, whichever is first, and not at all
    once the final response or the end has come; and the final response is had if it came before the end.
    """
    interim, final, timer, close = (order.index(what) for what in ("interim", "final", "timer", "close"))
    go, over = min(interim, timer), min(final, close)
    asked = False

    async def source() -> AsyncIterator[bytes]:
        nonlocal asked
        asked = True
        yield b"hello"

    async with client_of(server(order, end), expect_seconds=timer + 1) as (client, network):
        started = trio.current_time()
        content = source() if streamed else b"hello"
        if close < final:
            with pytest.raises(RequestFailed) as caught:
                await client.post(URL, content=content, headers=EXPECT)
            assert type(caught.value) is (ResponseIncomplete if interim < close else ConnectionLost)
            assert caught.value.facts.response_started is (interim < close)
            assert caught.value.facts.may_have_acted
            assert await in_pool(client) == (0, 0)
        else:
            response = await client.post(URL, content=content, headers=EXPECT)
            assert (response.status, response.content) == (200, b"ok")
            assert [each.status for each in response.interim] == [100] * (interim < final)
            assert client.statistics().idle == (go < final), "kept if the request was sent whole"
        assert trio.current_time() - started == pytest.approx(over + 1)
        head = network.heads().partition(END)[0] + END
        content_bytes = network.streams[0].sent_bytes - len(head)
        # 5, CRLF, hello, CRLF, 0, CRLF, CRLF
        assert content_bytes == (0 if go > over else 15 if streamed else 5)
        assert asked is (streamed and go < over)


@pytest.mark.parametrize("said", [OK, CONTINUE + OK, CONTINUE + CONTINUE + OK])
async def test_a_final_response_in_the_same_moment_wins(said: bytes) -> None:
    """N19: the content need not be sent; if it was not, the connection is closed, for the server may wait."""
    peer = ScriptedPeer().expect_until(END).send(said)
    async with client_of(peer) as (client, network):
        response = await client.post(URL, content=b"hello", headers=EXPECT)
        assert response.status == 200
        sent = network.streams[0].sent_bytes - len(network.heads().partition(END)[0] + END)
        assert sent in (0, 5)
        assert await in_pool(client) == ((0, 1) if sent else (0, 0))


async def test_a_timer_of_zero_does_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    """C28."""
    peer = ScriptedPeer().expect_until(END + b"hello").send(OK)
    async with client_of(peer, expect_seconds=0) as (client, _):
        started = trio.current_time()
        assert (await client.post(URL, content=b"hello", headers=EXPECT)).status == 200
        assert trio.current_time() == started


async def test_the_100_of_one_request_is_none_for_the_next(autojump_clock: trio.testing.MockClock) -> None:
    """C28."""
    peer = ScriptedPeer().expect_until(END).send(CONTINUE).expect(b"hello").send(OK)
    peer.expect_until(END).expect_nothing(0.9).expect(b"again").send(OK)
    async with client_of(peer) as (client, network):
        first = await client.post(URL, content=b"hello", headers=EXPECT)
        second = await client.post(URL, content=b"again", headers=EXPECT)
        assert (len(first.interim), len(second.interim)) == (1, 0)
    assert len(network.dialed) == 1


async def test_who_did_not_ask_sends_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """C28: no request waits for a 100 by itself."""
    peer = ScriptedPeer().expect_until(END + b"hello").send(OK)
    async with client_of(peer) as (client, network):
        await client.post(URL, content=b"hello")
    assert b"expect" not in network.heads().lower()
