"""A client that asks no faster than it may (C47, A56)."""

from __future__ import annotations

import trio
import trio.testing
from trio.testing import MockClock

from tests.client._web import HERE, moved, web
from trio_http import BasicAuth, RateLimit, Request, Response, Retry


class Times:
    """A handler that notes when it was asked for what."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, float]] = []

    async def __call__(self, request: Request) -> Response:
        self.notes.append((request.target, trio.current_time()))
        return Response()


async def test_requests_begin_in_turn_and_at_the_rate(autojump_clock: MockClock) -> None:
    times = Times()
    urls = [f"{HERE}/{number}" for number in range(6)]
    answers = dict.fromkeys(urls, times)
    async with (
        web(answers, rate_limit=RateLimit(2, burst=2)) as (client, _),
        trio.open_nursery() as nursery,
    ):
        for url in urls:
            nursery.start_soon(client.get, url)
            await trio.testing.wait_all_tasks_blocked()
    assert times.notes == [("/0", 0), ("/1", 0), ("/2", 0.5), ("/3", 1), ("/4", 1.5), ("/5", 2)]


async def test_each_origin_has_its_own_rate(autojump_clock: MockClock) -> None:
    origins = [HERE, "http://b.example", "http://a.example:8080"]
    async with web(rate_limit=RateLimit(1)) as (client, _):
        for _ in range(3):
            for origin in origins:
                await client.get(f"{origin}/")
        assert trio.current_time() == 2
    async with web(rate_limit=RateLimit(1, per="client")) as (client, _):
        for origin in origins:
            await client.get(f"{origin}/")
        assert trio.current_time() == 4


async def test_who_waits_for_a_turn_holds_no_connection(autojump_clock: MockClock) -> None:
    async with web(rate_limit=RateLimit(0.1), max_connections=1, idle_seconds=100) as (client, world):
        await client.get(f"{HERE}/")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, f"{HERE}/")
            await trio.sleep(1)
            counts = client.statistics()
            assert (counts.leased, counts.waiting, counts.idle) == (0, 0, 1)
            await client.get("http://b.example/")
            assert trio.current_time() == 1, "another origin need not wait for this one"
    assert world.urls == [f"{HERE}/", "http://b.example/", f"{HERE}/"]


async def test_a_turn_that_was_given_up_is_the_next_ones(autojump_clock: MockClock) -> None:
    times = Times()
    answers = {f"{HERE}/{name}": times for name in "abc"}
    async with web(answers, rate_limit=RateLimit(0.1)) as (client, _):
        await client.get(f"{HERE}/a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, f"{HERE}/b")
            await trio.testing.wait_all_tasks_blocked()

            async def cancelled() -> None:
                with trio.move_on_after(3):
                    await client.get(f"{HERE}/never")

            nursery.start_soon(cancelled)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(client.get, f"{HERE}/c")
    assert times.notes == [("/a", 0), ("/b", 10), ("/c", 20)]


async def test_redirects_retries_and_second_attempts_take_their_turn_too(autojump_clock: MockClock) -> None:
    """What a server counts is what it receives."""
    tries = 0

    async def late(request: Request) -> Response:
        nonlocal tries
        tries += 1
        return Response(503 if tries == 1 else 200)

    answers = {f"{HERE}/": moved(302, "/late"), f"{HERE}/late": late}
    retry = Retry(backoff=0, jitter=False)
    async with web(answers, rate_limit=RateLimit(1), retry=retry, follow_redirects=True) as (client, world):
        assert (await client.get(f"{HERE}/", auth=BasicAuth("a", "b"))).status == 200
        assert (len(world.asked), trio.current_time()) == (3, 2)


async def test_a_stream_counts_when_it_begins_and_not_while_it_lasts(autojump_clock: MockClock) -> None:
    async with web(rate_limit=RateLimit(1)) as (client, _), client.stream("GET", f"{HERE}/") as first:
        await trio.sleep(5)
        async with client.stream("GET", f"{HERE}/") as second:
            assert trio.current_time() == 5
            await second.read()
        await first.read()


async def test_one_limit_can_be_shared_by_clients(autojump_clock: MockClock) -> None:
    limit = RateLimit(1)
    async with web(rate_limit=limit) as (one, _), web(rate_limit=limit) as (other, _):
        for client in (one, other, one):
            await client.get(f"{HERE}/")
        assert trio.current_time() == 2
    assert limit.statistics().waiting == 0
