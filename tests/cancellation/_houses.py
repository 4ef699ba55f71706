"""A whole server in memory and one client that visits it; and four ways to interrupt it at every step.

`_scenes` looks at the client; here both sides are looked at. A visit is played again for each place where

- its client is cancelled (`sweep_visitor`),
- the task that serves is cancelled (`sweep_serving`),
- the server is shut down (`shut_down_at_every_step`),
- the network between the two breaks (`break_at_every_step`).

What must hold after each run, whoever was interrupted: no handler is left inside, no connection is open but
the client's idle ones, the server counts as many connections as there are, nobody waits for ever, and nothing
was reported as a fault of the program's own.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cache
from ssl import PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import trio
import trio.testing
import trustme

from tests.cancellation._scenes import Scene
from tests.cancellation._worlds import CONFIG, lands_in
from trio_http import Request, RequestFailed, Response
from trio_http.client import Client
from trio_http.server import CancelReason, Server, ServerConfig, serve_listeners
from trio_http.testing import MemoryStream, SweepReport, cancel_at_every_step, memory_pair
from trio_http.testing._scheduler import repeatable_order
from trio_http.transport import Transport

# Longer than all that a side may go on for by itself: bodies that stall, lingering, `finish`. Arbitrary.
SETTLING_SECONDS = 60


@cache
def tls_contexts() -> tuple[SSLContext, SSLContext]:
    """Return a client's context and a server's, whose certificate is good for "a", "b" and "origin.test"."""
    authority = trustme.CA()
    client, server = SSLContext(PROTOCOL_TLS_CLIENT), SSLContext(PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert("a", "b", "origin.test").configure_cert(server)
    return client, server


class Door(trio.abc.Listener[MemoryStream]):
    """A listener in memory.

    Args:
      buffer_bytes: of each connection; how much may be on its way in each direction.

    Attributes:
      visitors: the clients' ends of all connections, in the order of their making.
      streams: the server's ends, the accepted ones and those that wait for it.
      closed: it was closed; nobody can come any more.
    """

    def __init__(self, buffer_bytes: int | None = None) -> None:
        self.visitors: list[MemoryStream] = []
        self.streams: list[MemoryStream] = []
        self.closed = False
        self._buffer_bytes = buffer_bytes
        self._send, self._receive = trio.open_memory_channel[MemoryStream](math.inf)
        self._waiting: list[MemoryStream] = []

    def connect(self) -> MemoryStream:
        """Return the client's end of a new connection, which the server has yet to accept.

        Raises:
          ConnectionRefusedError: the listener was closed.
        """
        if self.closed:
            raise ConnectionRefusedError("nobody listens any more")
        ours, theirs = memory_pair(self._buffer_bytes)
        self.visitors.append(ours)
        self.streams.append(theirs)
        self._waiting.append(theirs)
        self._send.send_nowait(theirs)
        return ours

    def close_visitors(self) -> None:
        """Close the clients' ends of all connections."""
        for stream in self.visitors:
            stream.close()

    async def accept(self) -> MemoryStream:
        """Accept as `trio.abc.Listener` says: whoever was cancelled has accepted nobody."""
        stream = await self._receive.receive()
        self._waiting.remove(stream)
        return stream

    async def aclose(self) -> None:
        """Close; those who were not accepted find the connection broken, as over TCP."""
        self.closed = True
        self._receive.close()
        for stream in self._waiting:
            stream.reset()
        await trio.lowlevel.checkpoint()


class Faults(logging.Handler):
    """Collects what either side reports as a fault of its own, or of a handler."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        logger = logging.getLogger("trio_http")
        logger.addHandler(self)
        propagate, logger.propagate = logger.propagate, False
        try:
            yield
        finally:
            logger.propagate = propagate
            logger.removeHandler(self)


class Visit(Scene):
    """A scene of which the server's side is looked at, too.

    Attributes:
      config: of the server.
      buffer_bytes: how much may be on its way in each direction.
      tls: it is played over TLS.
      house: where it is played.
      holds: handlers that go on for as long as the client keeps a connection: one, when that is a tunnel.
      finely: either side is cancelled also after each step of the other one; takes its time.
      serves: functions of the server in which a cancel of it has to come.
      broken: what comes of it when the server goes away or the network breaks.
    """

    config: ServerConfig = CONFIG
    buffer_bytes: int | None = None
    tls = False
    house: House
    warm = 0
    holds = 0
    finely = False
    serves: Sequence[str] = ()
    broken: tuple[type[Exception], ...] = (RequestFailed,)

    async def dial(self, host: str, port: int, scheme: str) -> trio.abc.Stream | Transport:
        """Lead the client to the house."""
        await trio.lowlevel.checkpoint()
        return self.house.door.connect()

    async def beside(self) -> None:
        """Run for as long as the client is open; whatever else the visit needs."""

    def see_in_peace(self) -> None:
        """See what must hold when handlers were left alone: no hard stop, and no cancel of the server."""


class House:
    """One server, its door, and its only client.

    Attributes:
      server: as `serve_listeners` has handed it over.
      inside: handlers that have been entered and not left.
      reasons: why handlers were cancelled.
      outcome: how the visit has ended: "well" or "broken"; "" while it has not.
      over: set when it has.
      turned: set when it has, or when it was interrupted.
    """

    server: Server
    client: Client

    def __init__(self, visit: Visit) -> None:
        self.scene = visit
        visit.house = self
        self.door = Door(visit.buffer_bytes)
        self.inside = 0
        self.reasons: list[CancelReason] = []
        self.outcome = ""
        self.over = trio.Event()
        self.turned = trio.Event()
        self.serving = trio.Event()
        self.stopped = trio.Event()
        self.faults = Faults()

    async def handle(self, request: Request) -> Response | None:
        if request.path == "/fresh":
            return Response(text="fresh")
        self.inside += 1
        try:
            return await self.scene.app(request)
        finally:
            self.inside -= 1
            if request.cancel_reason is not None:
                self.reasons.append(request.cancel_reason)

    def started(self, server: Server) -> None:
        """Be the status that `serve_listeners` reports to."""
        self.server = server
        self.serving.set()

    async def serve(self) -> None:
        listener: trio.abc.Listener[Any] = self.door
        if self.scene.tls:
            listener = trio.SSLListener(listener, tls_contexts()[1], https_compatible=True)
        try:
            await serve_listeners(self.handle, [listener], config=self.scene.config, task_status=self)
        finally:
            self.stopped.set()

    @contextlib.asynccontextmanager
    async def client_opened(self) -> AsyncIterator[None]:
        scheme = "https" if self.scene.tls else "http"
        options: dict[str, Any] = {"base_url": f"{scheme}://a", "dial": self.scene.dial}
        if self.scene.tls:
            options["ssl_context"] = tls_contexts()[0]
        options |= {**self.scene.options, **self.scene.fresh_options()}
        with self.faults.collected():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.scene.beside)
                async with Client(**options) as self.client:
                    yield
                nursery.cancel_scope.cancel()

    async def visit(self) -> None:
        """Play the visit; it may break."""
        try:
            await self.scene.run(self.client)
            self.outcome = "well"
        except self.scene.broken:
            self.outcome = "broken"
        finally:
            self.over.set()
            self.turned.set()

    def see_it_is_empty(self) -> None:
        """See that the server has gone, and has left nothing behind."""
        assert self.stopped.is_set(), "the serve function has not returned"
        assert self.door.closed, "the listener is open"
        left = [stream for stream in self.door.streams if not stream.closed]
        assert not left, f"{len(left)} connections are open at the server's end"
        assert self.inside == 0, f"{self.inside} handlers were left inside"
        assert not self.faults.messages, self.faults.messages
        if self.serving.is_set():
            counts = self.server.statistics()
            assert (counts.connections, counts.handling) == (0, 0), counts

    async def see_all_is_well(self) -> None:
        """See that both sides hold the client's idle connections, and nothing else; and that they work."""
        await trio.sleep(SETTLING_SECONDS if self.inside > self.scene.holds else 5)
        await trio.testing.wait_all_tasks_blocked()
        ours, theirs = self.client.statistics(), self.server.statistics()
        held = self.scene.holds * ours.idle
        assert self.inside == held, f"{self.inside - held} handlers were left inside"
        assert (ours.leased, ours.waiting, ours.dialing) == (0, 0, 0), ours
        self.client._pool.ledger.check()
        open_here = [stream for stream in self.door.visitors if not stream.closed]
        open_there = sum(not stream.closed for stream in self.door.streams)
        assert len(open_here) == ours.idle, f"{len(open_here)} connections are open, {ours.idle} in the pool"
        # An idle one that broke stays in the pool until it is used: a foreign stream cannot be asked.
        sound = sum(not stream._incoming.reset for stream in open_here)
        assert open_there == theirs.connections == sound, (
            f"the client has {sound} connections open, the server {open_there}; it says {theirs}"
        )
        assert theirs.handling == held, theirs
        with trio.fail_after(100):
            assert (await self.client.get("/fresh")).text == "fresh"
        assert not self.faults.messages, self.faults.messages

    @contextlib.asynccontextmanager
    async def both_opened(self) -> AsyncIterator[House]:
        """Have both sides run in the block; at its end the client goes first, and the server is empty."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.serve)
            await self.serving.wait()
            async with self.client_opened():
                yield self
            await trio.sleep(SETTLING_SECONDS)
            counts = self.server.statistics()
            assert counts.connections == 0, f"the client has gone, and the server holds {counts}"
            await self.server.shutdown(0)
            await self.stopped.wait()
        self.see_it_is_empty()


async def sweep_visitor(make: Callable[[], Visit]) -> SweepReport:
    """Cancel the client at each step of a visit; see that it works on, and that the server has noticed.

    The handlers of cancelled requests end, their connections are closed on both sides, and the server counts
    them no more.
    """
    house: House

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[House]:
        nonlocal house
        house = House(make())
        async with house.both_opened():
            yield house

    async def perform(house: House) -> None:
        await house.scene.run(house.client)

    async def check(house: House) -> None:
        await house.see_all_is_well()
        house.scene.see()
        house.scene.see_in_peace()

    report = await cancel_at_every_step(
        perform, world=world, check=check, beside=make().finely, max_steps=5000
    )
    lands_in(report, *house.scene.lands)
    return report


async def sweep_serving(make: Callable[[], Visit]) -> SweepReport:
    """Cancel the task that serves at each step of a visit; see that it leaves nothing, and nobody waiting."""
    house: House

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[House]:
        nonlocal house
        house = House(make())

        async def visit_and_end() -> None:
            await house.visit()
            if house.serving.is_set():
                house.server.begin_shutdown()

        async with trio.open_nursery() as nursery, house.client_opened():
            nursery.start_soon(visit_and_end)
            yield house

    async def check(house: House) -> None:
        with trio.move_on_after(SETTLING_SECONDS):
            await house.over.wait()
        assert house.outcome, "the client still waits for a server that has gone"
        await trio.testing.wait_all_tasks_blocked()
        house.see_it_is_empty()
        counts = house.client.statistics()
        assert (counts.leased, counts.waiting) == (0, 0), counts
        house.scene.see()

    report = await cancel_at_every_step(
        House.serve, world=world, check=check, beside=make().finely, max_steps=5000
    )
    lands_in(report, *house.scene.serves)
    return report


class _AtStep(trio.abc.Instrument):
    """Calls a function between two steps, after so many of them of any tasks.

    Attributes:
      acted: set when it has been called.
      at: when that was, on trio's clock.
    """

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.acted = trio.Event()
        self.at = math.inf
        self._left = step
        self._act = act

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self.at = trio.current_time()
            self._act()
            self.acted.set()


async def shut_down_at_every_step(make: Callable[[], Visit], grace: float) -> Counter[str]:
    """Begin a shutdown after each step of a visit, whoever makes it.

    After each run: the shutdown is over within its grace, with every connection closed then; the serve
    function has returned; the visit has ended, well or broken. In a grace without end no handler is cancelled
    for it.

    Returns:
      How many visits have ended in which way.
    """
    outcomes: Counter[str] = Counter()
    for step in itertools.count(1):
        house = House(make())

        def begin(house: House = house) -> None:
            house.server.begin_shutdown(grace)
            house.turned.set()

        with repeatable_order(0), trio.fail_after(100_000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(house.serve)
                await house.serving.wait()
                async with house.client_opened():
                    at_step = _AtStep(step, begin)
                    trio.lowlevel.add_instrument(at_step)
                    nursery.start_soon(house.visit)
                    await (house.over if grace == math.inf else house.turned).wait()
                    was_over = house.over.is_set() and not at_step.acted.is_set()
                    if at_step.acted.is_set():
                        await house.server.shutdown(grace)
                        late = trio.current_time() - at_step.at - grace
                        assert late <= 1e-6, f"step {step}: the shutdown took {late} s too long"
                        left = sum(not stream.closed for stream in house.door.streams)
                        assert left == 0, f"step {step}: {left} connections are open after the shutdown"
                    with trio.move_on_after(SETTLING_SECONDS):
                        await house.over.wait()
                    trio.lowlevel.remove_instrument(at_step)
                    assert house.outcome, f"step {step}: the client still waits for a server that has gone"
                    counts = house.client.statistics()
                    assert (counts.leased, counts.waiting, counts.dialing) == (0, 0, 0), (step, counts)
                    house.client._pool.ledger.check()
                await trio.sleep(SETTLING_SECONDS)
                house.server.begin_shutdown(0)
                await house.stopped.wait()
        house.see_it_is_empty()
        house.scene.see()
        if grace == math.inf:
            cut = {reason for reason in house.reasons if reason is not CancelReason.CLIENT_DISCONNECTED}
            assert not cut, f"step {step}: handlers were cut off for {cut}"
            house.scene.see_in_peace()
        outcomes[house.outcome] += 1
        if was_over:
            assert house.outcome == "well", "left alone, the visit succeeds"
            return outcomes
    raise AssertionError("a count has no end")


async def break_at_every_step(make: Callable[[], Visit]) -> Counter[str]:
    """Break all connections, as a reset does, after each step of a visit, whoever makes it.

    After each run both sides have let go of what was broken, and work.

    Returns:
      How many visits have ended in which way.
    """
    outcomes: Counter[str] = Counter()
    for step in itertools.count(1):
        house = House(make())

        def break_off(house: House = house) -> None:
            for stream in house.door.visitors:
                # From neither end: whose fault it is, neither can tell.
                stream._outgoing.break_off()
                stream._incoming.break_off()

        with repeatable_order(0), trio.fail_after(100_000):
            async with house.both_opened():
                at_step = _AtStep(step, break_off)
                async with trio.open_nursery() as nursery:
                    trio.lowlevel.add_instrument(at_step)
                    nursery.start_soon(house.visit)
                    with trio.move_on_after(10 * SETTLING_SECONDS):
                        await house.over.wait()
                    trio.lowlevel.remove_instrument(at_step)
                    assert house.outcome, f"step {step}: the client still waits on a broken connection"
                await house.see_all_is_well()
                house.scene.see()
                house.scene.see_in_peace()
        outcomes[house.outcome] += 1
        if not at_step.acted.is_set():
            assert house.outcome == "well", "left alone, the visit succeeds"
            return outcomes
    raise AssertionError("a count has no end")
