"""What surrounds a scenario of the sweep: a scripted client before a server's connection, and what must hold after it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import trio

from trio_http import Request, Response
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

    After each run: the connection is closed, no handler is left inside, the client has received the beginning of the
    right answer and nothing else, and no cancel was reported as an error.

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
        session = Session(script(ScriptedPeer(memory_pair(max_buffer_bytes))))
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
            assert session.peer.finished, f"the script was not played to its end: {session.peer!r}, {received!r}"
            assert received == answer
            assert len(session.errors.messages) == faults, session.errors.messages
        else:
            assert len(session.errors.messages) <= faults, session.errors.messages

    make_world: Callable[[], AbstractAsyncContextManager[Session]] = world
    return await cancel_at_every_step(scenario, world=make_world, check=check)
