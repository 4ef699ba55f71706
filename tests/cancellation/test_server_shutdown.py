"""A server that is shut down at every step of every kind of visit; and shutdowns that are cancelled.

Whatever its clients do, a shutdown is over when its grace is, with every connection closed; and as long as
there is grace, nobody is cut off: see `shut_down_at_every_step`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._houses import House, Visit, shut_down_at_every_step
from tests.cancellation._visits import (
    FULL,
    VISITS,
    Children,
    Events,
    Finishing,
    Lingering,
    SlowBody,
    Upgraded,
)
from tests.cancellation._worlds import lands_in
from trio_http import Request, Response
from trio_http.client import Client
from trio_http.testing import cancel_at_every_step


@pytest.mark.parametrize("visit", [*VISITS, *FULL])
async def test_a_shutdown_without_a_grace_is_over_at_once(
    visit: type[Visit], autojump_clock: MockClock
) -> None:
    outcomes = await shut_down_at_every_step(visit, 0)
    assert outcomes["broken"] > 0


@pytest.mark.parametrize("visit", [SlowBody, Children, Lingering, Upgraded, Finishing, Events])
async def test_a_shutdown_is_over_when_its_grace_is(visit: type[Visit], autojump_clock: MockClock) -> None:
    outcomes = await shut_down_at_every_step(visit, 1.2)
    assert outcomes["well"] > 0


@pytest.mark.parametrize("visit", [*VISITS, *FULL])
async def test_a_shutdown_that_takes_as_long_as_it_takes_cuts_nobody_off(
    visit: type[Visit], autojump_clock: MockClock
) -> None:
    outcomes = await shut_down_at_every_step(visit, math.inf)
    assert outcomes["well"] > 0


async def test_events_end_with_a_goodbye_when_there_is_grace(autojump_clock: MockClock) -> None:
    """Whoever has begun to listen is told that it is over, at once, and not when the grace ends."""
    goodbyes: set[str] = set()

    class Listening(Events):
        async def run(self, client: Client) -> None:
            text = (await client.get("/")).text
            assert text.endswith("bye")
            goodbyes.add(text)

    await shut_down_at_every_step(Listening, 30)
    assert goodbyes == {"0,bye", "0,1,bye", "0,1,2,bye"}


class _Busy(Visit):
    """Clients of every kind at the same time: in a handler, in a stream, at rest, half said, and upgraded."""

    async def app(self, request: Request) -> Response | None:
        if request.path == "/stream":
            async with request.stream_response() as body:
                while True:
                    await body.send_all(b"piece")
                    await trio.sleep(1)
        if request.path == "/upgrade":
            async with request.upgrade("echo") as stream:
                async for data in stream:
                    await stream.send_all(data)
            return None
        if request.path == "/finish":
            with request.finish(within=2):
                await trio.sleep(1.5)
        await trio.sleep(50)
        return Response()

    async def beside(self) -> None:
        await self.house.serving.wait()
        for said in (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /finish HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
            b"GET / HT",
            b"",
        ):
            await self.house.door.connect().send_all(said)
        try:
            await trio.sleep_forever()
        finally:
            self.house.door.close_visitors()


async def test_a_shutdown_whose_caller_is_cancelled_goes_on(autojump_clock: MockClock) -> None:
    """Only the wait is given up; the server is empty when the grace is over."""
    end_by: list[float] = []

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[House]:
        house = House(_Busy())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.serve)
            await house.serving.wait()
            async with house.client_opened():
                await trio.sleep(1)
                counts = house.server.statistics()
                assert (counts.connections, counts.handling) == (6, 4), counts
                end_by[:] = [trio.current_time() + 3]
                yield house
                nursery.cancel_scope.cancel()

    async def scenario(house: House) -> None:
        await house.server.shutdown(3)

    async def check(house: House) -> None:
        assert house.server.draining
        await house.stopped.wait()
        assert trio.current_time() <= end_by[0] + 1e-6, "the shutdown took longer than its grace"
        house.see_it_is_empty()

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "shutdown")


async def test_a_second_shutdown_that_is_cancelled_does_not_disturb_the_first(
    autojump_clock: MockClock,
) -> None:
    """A grace can only be shortened, and whoever waits for the first is told when all is over."""
    end_by: list[float] = []

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[House]:
        house = House(_Busy())

        async def first() -> None:
            end_by.append(trio.current_time() + 5)
            await house.server.shutdown(5)
            assert trio.current_time() <= end_by.pop() + 1e-6
            assert all(stream.closed for stream in house.door.streams)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.serve)
            await house.serving.wait()
            async with house.client_opened():
                await trio.sleep(1)
                nursery.start_soon(first)
                yield house
                await house.stopped.wait()

    async def scenario(house: House) -> None:
        await trio.sleep(1)
        await house.server.shutdown(1)

    async def check(house: House) -> None:
        await house.stopped.wait()
        await trio.testing.wait_all_tasks_blocked()
        house.see_it_is_empty()
        assert not end_by, "whoever waited for the first was not told"

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "shutdown")


class _Stays(Visit):
    """A handler that no cancel moves for a while, and a client that waits for it."""

    async def app(self, request: Request) -> Response | None:
        with trio.move_on_after(20, shield=True):
            await trio.sleep(10)
        await trio.sleep(10)
        return Response()

    async def run(self, client: Client) -> None:
        await client.get("/")


async def test_a_handler_that_cannot_be_cancelled_delays_only_the_return_of_the_serve_function(
    autojump_clock: MockClock,
) -> None:
    outcomes = await shut_down_at_every_step(_Stays, 1)
    assert outcomes["broken"] > 0


async def test_a_shutdown_that_cuts_off_would_be_found(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trio_http.server import Server

    begin = Server.begin_shutdown
    monkeypatch.setattr(Server, "begin_shutdown", lambda self, grace=math.inf: begin(self, min(grace, 1.0)))
    with pytest.raises((AssertionError, ExceptionGroup)):
        await shut_down_at_every_step(Children, math.inf)
