"""The task that serves, cancelled at every step of every kind of visit.

Each listener and each connection is closed when it has ended, no handler is left, nobody is blamed for it,
and clients learn of it: see `sweep_serving`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._houses import Door, House, Visit, sweep_serving
from tests.cancellation._visits import FULL, VISITS, Kept
from tests.cancellation._worlds import CONFIG, lands_in
from trio_http import Request, Response
from trio_http.client import Client
from trio_http.server import serve_listeners
from trio_http.testing import MemoryStream, cancel_at_every_step


@pytest.mark.parametrize("visit", [*VISITS, *FULL])
async def test_a_server_that_is_cancelled_leaves_nothing_and_nobody_waiting(
    visit: type[Visit], autojump_clock: MockClock
) -> None:
    await sweep_serving(visit)


class _Flood(Kept):
    """Several clients at once, none of whom says a word."""

    finely = False
    serves = ("accept",)

    async def run(self, client: Client) -> None:
        try:
            streams = [self.house.door.connect() for _ in range(4)]
        except ConnectionRefusedError:
            return
        await trio.sleep(1)
        for stream in streams:
            await stream.aclose()
        await trio.sleep(1)


async def test_a_connection_belongs_to_somebody_in_each_moment_of_its_accepting(
    autojump_clock: MockClock,
) -> None:
    report = await sweep_serving(_Flood)
    # Cancelled with the connection just handed over, and not yet in the hands of a task.
    assert any(point.moment == "woken" and "accept" in point.within for point in report.points)


async def _app(request: Request) -> Response:
    await trio.sleep(1)
    return Response(text="hello")


class _Failing(Door):
    """A listener that fails when the first has come."""

    async def accept(self) -> MemoryStream:
        (await super().accept()).close()
        raise LookupError("out of order")


async def test_a_listener_that_fails_takes_the_others_and_their_connections_down_in_order(
    autojump_clock: MockClock,
) -> None:
    """Its error comes out as it is, or the cancel does; and everything is closed."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[tuple[Door, Door]]:
        doors = Door(), _Failing()

        async def come() -> None:
            stream = doors[0].connect()
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await trio.sleep(0.5)
            if not doors[1].closed:
                doors[1].connect()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come)
            yield doors
            nursery.cancel_scope.cancel()
        for door in doors:
            door.close_visitors()

    async def scenario(doors: tuple[Door, Door]) -> None:
        try:
            await serve_listeners(_app, doors, config=CONFIG)
        except LookupError:
            return
        except BaseExceptionGroup as group:
            # Cancelled in the same moment: the error is not lost, and neither is the cancel.
            rest = group.split(LookupError)[1]
            assert rest is not None, "an error that is alone came out in a group"
            raise rest from None
        raise AssertionError("the error was lost")

    def check(doors: tuple[Door, Door]) -> None:
        assert all(door.closed for door in doors)
        assert all(stream.closed for stream in doors[0].streams)

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "accept", "_app")


async def test_a_server_that_was_cancelled_before_it_served_has_closed_its_listeners(
    autojump_clock: MockClock,
) -> None:
    house = House(Kept())
    with trio.CancelScope() as scope:
        scope.cancel()
        await house.serve()
    assert scope.cancelled_caught
    house.see_it_is_empty()
