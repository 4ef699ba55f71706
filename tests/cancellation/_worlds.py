"""What surrounds a scenario of the sweep: a scripted client, and what must hold after each run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
import trio.testing

from trio_http import Request, Response
from trio_http.client import Client
from trio_http.instruments import (
    ClientCloseRecord,
    ClientExchangeRecord,
    ClientInstrument,
    DialRecord,
)
from trio_http.server import Handler, ServerConfig, ServerTimes, serve_connection
from trio_http.testing import MemoryStream, ScriptedPeer, SweepReport, cancel_at_every_step, memory_pair

# No Date: an answer must be the same in every run.
CONFIG = ServerConfig(date=False, server_name=None, times=ServerTimes(body_stall=5, linger=3))


class _Errors(logging.Handler):
    """Collects what the server reports as a fault of its own or of a handler."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


class Session:
    """One connection of a server with its scripted client.

    Attributes:
      peer: the client; its `stream` is the server's.
      inside: handlers that have been entered and not left.
      served: the scenario came to its end.
    """

    def __init__(self, peer: ScriptedPeer) -> None:
        self.peer = peer
        self.inside = 0
        self.served = False
        self.errors = _Errors()

    def counted(self, handler: Handler) -> Handler:
        async def count(request: Request) -> Response | None:
            self.inside += 1
            try:
                return await handler(request)
            finally:
                self.inside -= 1

        return count


async def sweep_server(
    handler: Handler,
    script: Callable[[ScriptedPeer], ScriptedPeer],
    *,
    answer: bytes,
    config: ServerConfig = CONFIG,
    max_buffer_bytes: int | None = None,
    over: Callable[[MemoryStream], trio.abc.Stream] = lambda stream: stream,
    faults: int = 0,
) -> SweepReport:
    """Cancel `serve_connection` at each of its steps while it serves a scripted client.

    After each run: the connection is closed, no handler is left inside, the client has received the
    beginning of the right answer and nothing else, and no cancel was reported as an error.

    Args:
      handler: the handler.
      script: adds the client's steps; the last one ends the connection.
      answer: all that the client receives when nothing is cancelled.
      config: the server's settings.
      max_buffer_bytes: of the connection; a small one makes the server wait for its client.
      over: puts another stream over the server's end.
      faults: errors that are logged when nothing is cancelled.
    """

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Session]:
        ends = memory_pair(max_buffer_bytes)
        session = Session(script(ScriptedPeer(ends)))
        logger = logging.getLogger("trio_http.server")
        logger.addHandler(session.errors)
        propagate, logger.propagate = logger.propagate, False

        async def play() -> None:
            # A server that was cancelled does not follow the script; whether it had to is seen by `finished`.
            with contextlib.suppress(AssertionError):
                await session.peer.play()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(play)
                yield session
                nursery.cancel_scope.cancel()
        finally:
            ends[0].close()  # many scripts leave the client's end as it is
            logger.propagate = propagate
            logger.removeHandler(session.errors)

    async def scenario(session: Session) -> None:
        await serve_connection(session.counted(handler), over(session.peer.stream), config=config)
        session.served = True

    async def check(session: Session) -> None:
        assert session.peer.stream.closed, "the connection is still open"
        assert session.inside == 0, "a handler was left behind"
        await trio.testing.wait_all_tasks_blocked()
        received = bytes(session.peer.received)
        assert answer.startswith(received), f"the client received {received!r}"
        if session.served:
            assert session.peer.finished, f"{session.peer!r}, {received!r}"
            assert received == answer
            assert len(session.errors.messages) == faults, session.errors.messages
        else:
            assert len(session.errors.messages) <= faults, session.errors.messages

    make_world: Callable[[], AbstractAsyncContextManager[Session]] = world
    return await cancel_at_every_step(scenario, world=make_world, check=check)


# --------------------------------------------------------------------------------------------------- client


class Accounts(ClientInstrument):
    """Holds a client to what its instruments are promised, whatever was cancelled.

    Every exchange that has started is finished once, and not before it has started. Every connection that was
    made has one end, and it comes after that of its last exchange.

    Attributes:
      dials: all that were told of.
      finished: all exchanges that are over, in the order of their ends.
    """

    def __init__(self) -> None:
        self.dials: list[DialRecord] = []
        self.finished: list[ClientExchangeRecord] = []
        self._under_way: set[tuple[int, int]] = set()
        self._open: dict[int, int] = {}  # by connection: the number of its last exchange
        self.faults: list[str] = []

    def dial_finished(self, dial: DialRecord) -> None:
        self.dials.append(dial)
        if dial.id is not None:
            self._see(dial.id not in self._open, f"connection {dial.id} was made twice")
            self._open[dial.id] = 0

    def connection_closed(self, closing: ClientCloseRecord) -> None:
        last = self._open.pop(closing.connection.id or 0, None)
        self._see(last is not None, f"{closing} ended what was not open")
        self._see(last is None or closing.exchanges >= last, f"{closing} after exchange {last}")

    def exchange_started(self, request_number: int, attempt: int, method: str, url: str) -> None:
        key = request_number, attempt
        self._see(key not in self._under_way, f"{key} has started twice")
        self._under_way.add(key)

    def exchange_finished(self, exchange: ClientExchangeRecord) -> None:
        key = exchange.request_number, exchange.attempt
        self._see(key in self._under_way, f"{key} is finished and was not under way")
        self._under_way.discard(key)
        self.finished.append(exchange)
        self._see(
            (exchange.fate == "none") is (exchange.leased is None),
            f"{key}: {exchange.fate}, leased at {exchange.leased}",
        )
        if exchange.outcome == "complete":
            self._see(exchange.status is not None, f"{key} is complete without a response")
        if exchange.connection is not None:
            number = exchange.connection.id or 0
            self._see(number in self._open, f"{key} came after the end of its connection")
            if number in self._open:
                self._open[number] = max(self._open[number], exchange.number)

    def _see(self, fact: bool, otherwise: str) -> None:
        # Not by `assert`: an instrument that raises is dropped.
        if not fact:
            self.faults.append(otherwise)

    def see_all_is_settled(self, dials: int) -> None:
        """See that nothing is under way any more; for when the client is closed.

        Args:
          dials: how many were begun.
        """
        assert not self.faults, self.faults
        assert not self._under_way, f"never finished: {self._under_way}"
        assert not self._open, f"connections without an end: {self._open}"
        assert len(self.dials) == dials, f"{dials} dials were begun, and told of: {self.dials}"


class Network:
    """A network in memory: every dial leads to a handler. It keeps both ends of all connections.

    Args:
      handler: answers.
      dial_seconds: how long each dial takes.
      buffer_bytes: how much may be on its way in each direction.
      config: of the server.

    Attributes:
      client: the client that is under test, or was the last to be.
      streams: the client's ends, in the order of the dials.
      dialing: dials under way.
      dials: how many were begun.
      accounts: sees that instruments are told the truth; for a client that is given it.
      background: where requests of other tasks live.
    """

    client: Client
    background: trio.Nursery

    def __init__(
        self,
        handler: Handler,
        *,
        dial_seconds: float = 0,
        buffer_bytes: int | None = None,
        config: ServerConfig = CONFIG,
    ) -> None:
        self.handler = handler
        self.dial_seconds = dial_seconds
        self.streams: list[MemoryStream] = []
        self.dialing = 0
        self.dials = 0
        self.accounts: Accounts | None = None
        self._buffer_bytes = buffer_bytes
        self._config = config
        self._nursery: trio.Nursery | None = None

    async def dial(self, host: str, port: int, scheme: str) -> trio.abc.Stream:
        self.dials += 1
        self.dialing += 1
        try:
            await trio.sleep(1e6 if host == "black-hole" else self.dial_seconds)
            if host == "nowhere":
                raise OSError("nobody is there")
        finally:
            self.dialing -= 1
        assert self._nursery is not None
        ours, theirs = memory_pair(self._buffer_bytes)
        self.streams.append(ours)
        self._nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: MemoryStream) -> None:
        await serve_connection(self.handler, stream, config=self._config)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Network]:
        """Have the servers run within the block; see at its end that every connection is closed."""
        async with trio.open_nursery() as self._nursery:
            yield self
            self._nursery.cancel_scope.cancel()
        assert self.dialing == 0, "a dial was left behind"
        assert all(stream.closed for stream in self.streams), f"left open: {self.streams}"
        if self.accounts is not None:
            self.accounts.see_all_is_settled(self.dials)

    async def see_all_is_well(self) -> None:
        """See that the client holds what it says, that its books are in order, and that it still works."""
        client = self.client
        await trio.sleep(10)  # a dial may go on for others, and others for themselves
        for _ in range(2):
            await trio.testing.wait_all_tasks_blocked()
            counts = client.statistics()
            assert (counts.leased, counts.waiting, counts.dialing) == (0, 0, 0), counts
            unclosed = sum(not stream.closed for stream in self.streams)
            assert unclosed == counts.idle, f"{unclosed} connections are open, {counts.idle} in the pool"
            client._pool.ledger.check()
            with trio.fail_after(100):
                assert (await client.get("/fresh")).text == "fresh"


async def sweep_client(
    scenario: Callable[[Client], Awaitable[object]],
    handler: Handler,
    *,
    warm: int = 0,
    network: dict[str, Any] | None = None,
    prepare: Callable[[Network], Awaitable[object]] | None = None,
    watched: bool = True,
    fresh_options: Callable[[], dict[str, Any]] = dict,
    **options: Any,
) -> SweepReport:
    """Cancel what is done with a client at each of its steps; see that the client is none the worse.

    Args:
      scenario: what is done; the client itself is opened before and closed afterwards, uncancelled.
      handler: answers; ``/fresh`` is answered for it, with "fresh".
      warm: how many connections the client has already.
      network: arguments of `Network`.
      prepare: is called before the scenario.
      watched: the client has an instrument, `Accounts`; without one a plain request goes a shorter way.
      fresh_options: makes those options of the client that remember something.
      options: all others.
    """

    async def answer(request: Request) -> Response | None:
        return Response(text="fresh") if request.path == "/fresh" else await handler(request)

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Network]:
        given = {**options, **fresh_options()}
        async with Network(answer, **(network or {})).opened() as net:
            if watched:
                net.accounts = Accounts()
                given["instruments"] = [net.accounts]
            given.setdefault("dial", net.dial)
            async with Client(base_url="http://a", **given) as net.client:
                async with trio.open_nursery() as nursery:
                    for _ in range(warm):
                        nursery.start_soon(net.client.get, "/fresh")
                async with trio.open_nursery() as net.background:
                    if prepare is not None:
                        await prepare(net)
                    yield net

    async def perform(net: Network) -> None:
        await scenario(net.client)

    return await cancel_at_every_step(perform, world=world, check=Network.see_all_is_well, max_steps=5000)


def lands_in(report: SweepReport, *functions: str) -> None:
    """See that the sweep was where it was meant to be: a wait that was never reached proves nothing."""
    reached = {name for point in report.points for name in point.within}
    missed = [name for name in functions if name not in reached]
    assert not missed, f"no cancel came in {missed}; they came in {sorted(reached)}"
