"""Races between real clients and servers (N11): which answer comes, and what the others leave."""

from __future__ import annotations

import functools

import pytest
import trio
from trio.testing import MockClock

from tests.client._network import OK, URL, answering, client_of, in_pool
from tests.client._web import HERE, moved, web
from trio_http import ClientExchangeRecord, RaceFailed, RateLimit, Request, RequestFailed, Response, race
from trio_http.testing import ScriptedPeer

MIRROR, ORIGIN = "http://b.example/", f"{HERE}/"


async def slow(request: Request) -> Response:
    await trio.sleep(10)
    return Response(text="slow")


async def test_the_first_of_two_servers_wins_and_the_other_is_left_clean(autojump_clock: MockClock) -> None:
    """N11: the loser's connection is closed, for its answer is still to come; the winner's is kept."""
    records: list[ClientExchangeRecord] = []
    async with web({MIRROR: slow}) as (client, world):
        ask = functools.partial(functools.partial, client.get, report=records.append)
        response = await race(ask(MIRROR), ask(ORIGIN))
        assert response.url == ORIGIN
        assert (client.statistics().leased, client.statistics().idle) == (0, 1)
        # The two dials begin in either order.
        closed = dict(zip(world.dialed, [stream.closed for stream in world.streams], strict=True))
        assert sorted(closed.values()) == [False, True]
        assert not next(closed[origin] for origin in closed if ORIGIN.startswith(origin))
        assert (await client.get(ORIGIN)).status == 200
    assert {(record.url, record.outcome, record.fate) for record in records} == {
        (MIRROR, "cancelled", "closed"),
        (ORIGIN, "complete", "kept"),
    }


async def test_a_hedge_is_sent_when_the_first_is_late_and_by_another_connection(
    autojump_clock: MockClock,
) -> None:
    async def stuck_once(request: Request) -> Response:
        if len(world.asked) == 1:
            await trio.sleep_forever()
        return Response(text="second")

    async with web({ORIGIN: stuck_once}) as (client, world):
        get = functools.partial(client.get, ORIGIN)
        assert (await race(get, get, delay=0.05)).text == "second"
        assert trio.current_time() == pytest.approx(0.05)
        assert [stream.closed for stream in world.streams] == [True, False]


async def test_a_hedge_that_waits_for_a_connection_leaves_the_queue(autojump_clock: MockClock) -> None:
    async with web({ORIGIN: slow}, max_connections=1) as (client, world):
        get = functools.partial(client.get, ORIGIN)
        assert (await race(get, get, delay=1)).text == "slow"
        assert trio.current_time() == 10
        counts = client.statistics()
        assert (counts.waiting, counts.leased, counts.idle) == (0, 0, 1)
    assert len(world.asked) == 1


async def test_a_mirror_that_is_down_lets_the_next_one_begin_at_once(autojump_clock: MockClock) -> None:
    async with web({MIRROR: Response(503), ORIGIN: Response(text="here")}) as (client, _):
        ask = functools.partial(functools.partial, client.get)
        gone = functools.partial(client.get, "http://b.example:1/", target="bad target")
        response = await race(gone, ask(MIRROR), ask(ORIGIN), delay=60, wins=lambda given: given.status < 500)
        assert (response.text, trio.current_time()) == ("here", 0)


async def test_when_all_fail_each_failure_is_told() -> None:
    peers = [
        ScriptedPeer().expect_until(b"\r\n\r\n").reset(),
        ScriptedPeer().expect_until(b"\r\n\r\n").close(),
    ]
    async with client_of(*peers) as (client, _):
        post = functools.partial(client.post, URL)
        with pytest.raises(RaceFailed) as caught:
            await race(post, post)
        assert len(caught.value.errors) == 2
        assert all(isinstance(error, RequestFailed) for error in caught.value.errors)
        assert await in_pool(client) == (0, 0)


async def test_a_loser_in_the_middle_of_its_body_is_cut(autojump_clock: MockClock) -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    loser = answering(half).expect_end()
    winner = answering().expect_until(b"\r\n\r\n").wait(1).send(OK).expect_until(b"\r\n\r\n").send(OK)
    async with client_of(loser, winner) as (client, _):
        get = functools.partial(client.get, URL)
        assert (await race(get, get)).content == b"ok"
        assert await in_pool(client) == (0, 1)
        assert (await client.get(URL)).content == b"ok", "and not the other half"
    assert loser.finished


async def test_losers_wait_for_no_turn_and_no_redirect(autojump_clock: MockClock) -> None:
    answers = {MIRROR: moved(302, "/slow"), "http://b.example/slow": slow}
    limit = RateLimit(0.01)
    async with web(answers, follow_redirects=True, rate_limit=limit) as (client, world):
        ask = functools.partial(functools.partial, client.get)
        assert (await race(ask(MIRROR), ask(ORIGIN))).url == ORIGIN
        assert limit.statistics().waiting == 0
        assert client.statistics().leased == 0
    assert "http://b.example/slow" not in world.urls


async def test_a_race_under_a_deadline_is_cancelled_whole(autojump_clock: MockClock) -> None:
    async with web({MIRROR: slow, ORIGIN: slow}) as (client, world):
        with trio.move_on_after(1) as scope:
            await race(functools.partial(client.get, MIRROR), functools.partial(client.get, ORIGIN))
        assert scope.cancelled_caught
        counts = client.statistics()
        assert (counts.leased, counts.idle, counts.dialing) == (0, 0, 0)
        assert all(stream.closed for stream in world.streams)
