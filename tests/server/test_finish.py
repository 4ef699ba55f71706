"""What a handler may ask not to be interrupted by, and what it may ask to be interrupted by."""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs
import pytest
import trio
import trio.testing

from tests.server.media import Medium
from tests.server.running import IN_EVERY_MEDIUM, Witness, blamed, leave, run_server, settle
from tests.server.support import GET, config, head
from trio_http import Request, Response

pytestmark = IN_EVERY_MEDIUM

#: In which a client that has gone is noticed, in seconds, where somebody has to read to notice it.
NOTICE = 0.05


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No disconnect, drain or finished block is anybody's fault."""
    yield
    assert blamed(caplog) == []


class Steps:
    """What a handler has come to, and when, in seconds from its beginning."""

    def __init__(self) -> None:
        self.start = trio.current_time()
        self.steps: list[tuple[str, float]] = []

    def note(self, step: str) -> None:
        self.steps.append((step, round(trio.current_time() - self.start, 6)))

    def time_of(self, step: str) -> float:
        (found,) = [time for name, time in self.steps if name == step]
        return found

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.steps]


# -- disconnects


async def test_a_disconnect_waits_for_the_end_of_the_block(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """S27, N5, A39: what must finish does, and the handler is cancelled as soon as it has."""
    steps, witness = Steps(), Witness()

    async def app(request: Request) -> Response:
        with witness.watch(request):
            with request.finish(within=10):
                await trio.sleep(3)
                assert request.cancel_reason is None  # it is not being cancelled, only going to be
                steps.note("finished")
            await trio.sleep(100)
        return Response()

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    leave(peer.stream, "fin")
    await running.server.shutdown()
    assert steps.time_of("finished") == 3
    assert witness.reasons == [("client disconnected", "client disconnected")]
    assert trio.current_time() - steps.start == 3


async def test_a_block_of_a_client_that_stays_costs_nothing(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """A bound that passes without a cancel to deliver is nobody's limit."""

    async def app(request: Request) -> Response:
        with request.finish(within=1):
            await trio.sleep(5)
        await trio.sleep(5)
        return Response(text="done")

    running = await run_server(nursery, medium, app)
    peer = await running.connect()
    for _ in range(2):
        assert (await peer.ask()).content == b"done"


async def test_the_bound_of_the_block_holds(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    witness = Witness()

    async def app(request: Request) -> Response:
        with witness.watch(request), request.finish(within=4):
            await trio.sleep(100)
        return Response()

    running = await run_server(nursery, medium, app)
    start = trio.current_time()
    peer = await running.client()
    leave(peer.stream, "reset")
    await running.server.shutdown()
    assert witness.times == [start + 4]
    assert witness.reasons == [("client disconnected", "client disconnected")]


async def test_a_disconnect_after_the_bound_comes_at_once(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    witness = Witness()

    async def app(request: Request) -> Response:
        with witness.watch(request), request.finish(within=4):
            await trio.sleep(100)
        return Response()

    running = await run_server(nursery, medium, app)
    start = trio.current_time()
    peer = await running.client()
    await trio.sleep(10)
    leave(peer.stream, "fin")
    await running.server.shutdown()
    assert len(witness.times) == 1
    assert start + 10 <= witness.times[0] <= start + 10 + NOTICE


@pytest.mark.parametrize(
    ("outer", "inner", "inner_takes", "cancelled_at"),
    [
        pytest.param(20, 5, 2, 20, id="the outer goes on"),
        pytest.param(5, 20, 8, 8, id="the outer's time is up when the inner is done"),
        pytest.param(5, 20, 30, 20, id="the inner has its own bound"),
        # It used to be cancelled only at the inner's bound, which was over.
        pytest.param(10, 100, 2, 10, id="the outer's bound counts again"),
    ],
)
async def test_blocks_may_be_nested(
    nursery: trio.Nursery,
    medium: Medium,
    autojump_clock: trio.testing.MockClock,
    outer: float,
    inner: float,
    inner_takes: float,
    cancelled_at: float,
) -> None:
    witness = Witness()

    async def app(request: Request) -> Response:
        with witness.watch(request), request.finish(within=outer):
            with request.finish(within=inner):
                await trio.sleep(inner_takes)
            await trio.sleep(1000)
        return Response()

    running = await run_server(nursery, medium, app)
    start = trio.current_time()
    peer = await running.client()
    leave(peer.stream, "fin")
    await running.server.shutdown()
    assert witness.times == [start + cancelled_at]


async def test_blocks_of_tasks_side_by_side_do_not_end_each_other(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """The one that ended first used to end them all, and what the others had to finish was cut."""
    steps = Steps()

    async def app(request: Request) -> Response:
        async def finish(name: str, seconds: float) -> None:
            with request.finish(within=50):
                await trio.sleep(seconds)
                steps.note(name)

        async with trio.open_nursery() as tasks:
            tasks.start_soon(finish, "short", 1)
            tasks.start_soon(finish, "long", 9)
        await trio.sleep_forever()
        return Response()

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    leave(peer.stream, "fin")
    await running.server.shutdown()
    assert steps.names == ["short", "long"]
    assert trio.current_time() - steps.start == 9


async def test_a_block_begun_by_a_cancelled_handler_protects_nothing(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """It holds cancels back that come, and is no shield from one that has come: for clean-up take that."""
    steps = Steps()

    async def app(request: Request) -> Response:
        try:
            await trio.sleep_forever()
        finally:
            with pytest.raises(trio.Cancelled), request.finish(within=10):
                await trio.sleep(1)
            with trio.move_on_after(1) as bounded:
                bounded.shield = True
                await trio.sleep(0.5)
                steps.note("cleaned up")
        return Response()

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    leave(peer.stream, "fin")
    await running.server.shutdown()
    assert steps.names == ["cleaned up"]


async def test_an_error_in_the_block_is_the_handlers(
    nursery: trio.Nursery,
    medium: Medium,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(request: Request) -> Response:
        with request.finish(within=10):
            raise ValueError("not committed")

    running = await run_server(nursery, medium, app)
    peer = await running.connect()
    assert (await peer.ask()).status == 500
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "not committed"
    caplog.clear()


async def test_the_block_has_a_positive_bound(nursery: trio.Nursery, medium: Medium) -> None:
    async def app(request: Request) -> Response:
        for within in (0, -1, math.nan):
            with pytest.raises(ValueError, match=f"within must be more than 0 seconds, not {within!r}"):
                request.finish(within=within)
        with request.finish(within=math.inf):
            await trio.lowlevel.checkpoint()
        return Response(text="checked")

    running = await run_server(nursery, medium, app)
    peer = await running.connect()
    assert (await peer.ask()).content == b"checked"


# -- being told of a disconnect


@pytest.mark.parametrize("waits", ["before", "after"])
async def test_a_block_can_wait_for_the_disconnect(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock, waits: str
) -> None:
    """Who asked only when the client had gone already used to wait for ever."""
    steps = Steps()

    async def app(request: Request) -> Response:
        with request.finish(within=10):
            if waits == "after":
                await trio.sleep(2)
            await request.wait_disconnected()
            steps.note("told")
            await request.wait_disconnected()
            await trio.sleep(1)
            steps.note("finished")
        return Response()

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    leave(peer.stream, "fin")
    await running.server.shutdown()
    assert steps.names == ["told", "finished"]
    if waits == "after":
        assert steps.time_of("told") == 2
    else:
        assert 0 <= steps.time_of("told") <= NOTICE


# -- drains


async def test_a_drain_waits_for_the_end_of_the_block(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """S24: a block that is cancelled by the drain, and within it one that is not."""
    steps = Steps()

    async def app(request: Request) -> Response:
        with request.cancel_on_drain() as scope:
            with request.finish(within=10):
                await trio.sleep(3)
                assert request.draining
                steps.note("finished")
            await trio.sleep(100)
            steps.note("not cancelled")
        assert scope.cancelled_caught
        assert request.cancel_reason is None  # the scope was, not the handler
        steps.note("left")
        return Response(text="bye")

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    running.server.begin_shutdown()
    answer = await peer.answer()
    assert (answer.content, answer.closes) == (b"bye", True)
    assert steps.steps == [("finished", 3), ("left", 3)]


async def test_a_drain_is_held_back_no_longer_than_the_bound(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    steps = Steps()

    async def app(request: Request) -> Response:
        with request.finish(within=4), request.cancel_on_drain():
            await trio.sleep(100)
            steps.note("not cancelled")
        steps.note("left")
        return Response(text="bye")

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    running.server.begin_shutdown()
    assert (await peer.answer()).content == b"bye"
    assert steps.steps == [("left", 4)]


async def test_in_a_drain_that_goes_on_a_wait_ends_at_once(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """Also when the block is entered after the drain has begun, and again and again."""
    steps = Steps()

    async def app(request: Request) -> Response:
        await trio.sleep(1)
        assert request.draining
        for _ in range(3):
            with request.cancel_on_drain() as scope:
                await trio.sleep(100)
            assert scope.cancelled_caught
        steps.note("left")
        return Response(text="bye")

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    running.server.begin_shutdown()
    assert (await peer.answer()).content == b"bye"
    assert steps.steps == [("left", 1)]


async def test_in_a_drain_that_goes_on_a_wait_in_a_finish_ends_at_its_bound(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """It used to end with the wait itself: nobody was there to look at the clock."""
    steps = Steps()

    async def app(request: Request) -> Response:
        await trio.sleep(1)
        with request.finish(within=5), request.cancel_on_drain():
            await trio.sleep(100)
            steps.note("not cancelled")
        steps.note("left")
        return Response(text="bye")

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    running.server.begin_shutdown()
    assert (await peer.answer()).content == b"bye"
    assert steps.steps == [("left", 6)]


async def test_the_reason_of_a_drain_is_in_the_cancelled(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """N4, for a scope of the drain's."""
    reasons: list[str | None] = []

    async def app(request: Request) -> Response:
        with request.cancel_on_drain():
            try:
                await trio.sleep_forever()
            except trio.Cancelled as exc:
                reasons.append(exc.reason)
                raise
        return Response()

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    running.server.begin_shutdown()
    await peer.answer()
    assert reasons == ["drain"]


async def test_all_scopes_of_a_handler_and_its_tasks_learn_of_the_drain(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """A42: nested, and in tasks of the handler's."""
    steps = Steps()

    async def app(request: Request) -> Response:
        async def wait(name: str) -> None:
            with request.cancel_on_drain(), request.cancel_on_drain():
                await trio.sleep_forever()
            steps.note(name)

        async with trio.open_nursery() as tasks:
            tasks.start_soon(wait, "one")
            tasks.start_soon(wait, "two")
            with request.cancel_on_drain():
                pass  # left before the drain: not its concern
            await wait("own")
        return Response(text="bye")

    running = await run_server(nursery, medium, app)
    peer = await running.client()
    await trio.sleep(5)
    running.server.begin_shutdown()
    assert (await peer.answer()).content == b"bye"
    assert sorted(steps.steps) == [("one", 5), ("own", 5), ("two", 5)]


# -- what a finish does not hold back


async def test_the_hard_stop_is_delivered(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """N2: the bound is capped by the grace."""
    witness = Witness()

    async def app(request: Request) -> Response:
        with witness.watch(request), request.finish(within=100):
            await trio.sleep(1000)
        return Response()

    running = await run_server(nursery, medium, app)
    start = trio.current_time()
    await running.client()
    await running.server.shutdown(grace=7)
    assert trio.current_time() == start + 7
    await running.stopped.wait()
    assert witness.times == [start + 7]
    assert witness.reasons == [("drain", "drain")]


async def test_the_requests_deadline_is_delivered(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    witness = Witness()

    async def app(request: Request) -> Response:
        with witness.watch(request), request.finish(within=100):
            await trio.sleep(1000)
        return Response()

    running = await run_server(nursery, medium, app, config(request=6))
    peer = await running.connect()
    start = trio.current_time()
    assert (await peer.ask()).status == 503
    assert witness.times == [start + 6]
    assert [reason for reason, _ in witness.reasons] == ["deadline"]


async def test_a_body_that_is_too_slow_is_delivered(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """The client is waited for, so its limits hold."""
    witness = Witness()

    async def app(request: Request) -> Response:
        with witness.watch(request), request.finish(within=100):
            await request.read()
        return Response()

    running = await run_server(nursery, medium, app, config(body_stall=8))
    peer = await running.connect()
    start = trio.current_time()
    assert (await peer.ask(head("POST", "/", "Content-Length: 5"))).status == 408
    assert witness.times == [start + 8]
    assert witness.reasons == [("body too slow", "body too slow")]


async def test_a_cancelled_server_does_not_wait_for_a_finish(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    """Whose cancel it is, the handler cannot know: it is not the server's."""
    witness = Witness()

    async def app(request: Request) -> Response:
        with witness.watch(request), request.finish(within=100):
            await trio.sleep(1000)
        return Response()

    running = await run_server(nursery, medium, app)
    start = trio.current_time()
    await running.client()
    running.scope.cancel()
    await running.stopped.wait()
    assert witness.times == [start]
    assert [reason for reason, _ in witness.reasons] == [None]


async def test_one_exchange_leaves_nothing_held_back_for_the_next(
    nursery: trio.Nursery, medium: Medium, autojump_clock: trio.testing.MockClock
) -> None:
    witness = Witness()

    async def app(request: Request) -> Response:
        if request.target == "/finish":
            with request.finish(within=1000):
                await trio.sleep(1)
            return Response()
        return await witness.sleep(request)

    running = await run_server(nursery, medium, app, attrs.evolve(config(), half_close="cancel"))
    peer = await running.connect()
    await peer.ask(GET.replace(b"/ ", b"/finish ", 1))
    await peer.send(GET)
    await settle()
    start = trio.current_time()
    leave(peer.stream, "fin")
    await running.server.shutdown()
    assert len(witness.times) == 1
    assert witness.times[0] <= start + NOTICE
