"""What proofs and soaks have found in the package, each as small as it goes, with what used to happen."""

from __future__ import annotations

import contextlib
import logging
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.cancellation._houses import Door, tls_contexts
from tests.cancellation._visits import Kept
from tests.transport._peers import client_context, tls_pair
from trio_http import (
    Client,
    ClientConnection,
    ClientDisconnected,
    Headers,
    HTTPException,
    Lines,
    LineTooLong,
    PoolClosed,
    Request,
    Response,
    Sized,
    race,
)
from trio_http.server import Server, serve_connection, serve_listeners
from trio_http.testing import SimulatedNetwork, Weather, memory_pair
from trio_http.transport import TLSTransport
from trio_http.transport._tls_engine import SLICE_BYTES


async def test_a_tls_send_that_waits_for_its_turn_is_told_of_the_close() -> None:
    """Another task closed the transport between `begin_send` and the moment in which `finish_send` had the
    lock. It then waited for the descriptor -1 and raised a ValueError, which a request with content passed on
    as an error of its caller's own source when its client was closed.
    """
    client, server = await tls_pair()
    done = client.begin_send(bytes(SLICE_BYTES + 1))  # more than a slice; the kernel takes that at once
    assert not done

    async def finish() -> None:
        with pytest.raises(trio.ClosedResourceError, match="by our side"):
            await client.finish_send()

    async with trio.open_nursery() as nursery, client._write_lock:
        nursery.start_soon(finish)
        await trio.testing.wait_all_tasks_blocked()
        client.close()
    server.close()


# ------------------------------------------------------------------------- the server, and who comes to it


async def test_an_early_answer_by_trios_own_tls_reaches_a_client_that_is_still_sending(
    autojump_clock: MockClock,
) -> None:
    """An `SSLStream` cannot half-close, so the server closed all of it in order to linger: what the client
    had sent meanwhile reset the connection, and the answer was lost. The simulation found it, by its TLS.
    """

    async def refuse(request: Request) -> Response:
        await trio.sleep(1)
        return Response(413, text="too much")

    async def content() -> AsyncIterator[bytes]:
        for _ in range(100):
            await trio.sleep(0.1)
            yield bytes(1000)

    client_side, server_side = tls_contexts()
    async with SimulatedNetwork(weather=Weather(latency=0.2)) as network, trio.open_nursery() as nursery:
        listener = trio.SSLListener(network.listen("a", 443), server_side, https_compatible=True)
        server = await nursery.start(serve_listeners, refuse, [listener])
        async with Client(dial=network.dial, ssl_context=client_side) as client:
            response = await client.post("https://a/", content=content())
            assert (response.status, response.text) == (413, "too much")
        await server.shutdown(grace=5)


async def test_a_server_that_is_cancelled_in_a_handshake_of_an_ssl_listener_closes_the_stream() -> None:
    """The handshake of a stream that `trio.SSLListener` had accepted is ours to make. Cancelled in it, the
    connection's task ended, and the stream stayed open, its peer waiting: nobody had it any more.
    """
    door = Door()
    listener = trio.SSLListener(door, tls_contexts()[1], https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_listeners, Kept().app, [listener])
        async with door.connect():
            await trio.testing.wait_all_tasks_blocked()
            assert not door.streams[0].closed
            nursery.cancel_scope.cancel()
    assert door.streams[0].closed


@pytest.mark.parametrize("grace", [0, math.inf])
async def test_a_shutdown_waits_for_what_was_accepted_and_has_not_begun(grace: float) -> None:
    """A connection whose task had not had its first turn was not counted yet, and neither was a foreign
    listener, which may have to wait in its close. So the shutdown could return with both of them open, and
    who then took the same address, or looked for what was left, found it taken and left.
    """
    door = Door()
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(serve_listeners, Kept().app, [door])
        async with door.connect():
            while not server._gate.open_count:  # its first turn comes after this one
                await trio.lowlevel.checkpoint()
            await server.shutdown(grace)
            assert door.closed
            assert door.streams[0].closed


async def test_a_connection_that_breaks_under_two_tasks_of_its_handler_is_no_error_of_the_handlers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One was sending, and the other one receiving, as with any protocol that an upgrade leads to. Each had
    the break, and the group of the two was logged as a failure of the handler's, where a single one was not.
    """

    async def app(request: Request) -> None:
        async with request.upgrade("echo") as stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await stream.send_all(bytes(10_000))

    ours, theirs = memory_pair(1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, app, theirs)
        await ours.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        ours.reset()
    assert theirs.closed
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


class _Turns:
    """Counts how often another task gets its turn."""

    def __init__(self) -> None:
        self.count = 0

    async def take(self) -> None:
        while True:
            self.count += 1
            await trio.lowlevel.checkpoint()


async def _tried_again(attempt: Callable[[], Awaitable[object]], raises: type[Exception]) -> int:
    """Return how many turns another task gets while something fails ten times.

    At least nine: which of the two comes first is chance.
    """
    turns = _Turns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.take)
        await trio.lowlevel.checkpoint()
        before = turns.count
        for _ in range(10):
            with pytest.raises(raises):
                await attempt()
        nursery.cancel_scope.cancel()
    return turns.count - before


async def test_who_asks_a_closed_client_again_and_again_lets_others_live() -> None:
    """`PoolClosed` came without a checkpoint, so that a loop which goes on after a `RequestFailed` kept every
    other task, and its own cancel, from running for ever.
    """
    async with Client() as client:
        pass
    assert await _tried_again(lambda: client.get("http://a/"), PoolClosed) >= 9
    assert await _tried_again(lambda: client.warm("http://a/"), PoolClosed) >= 9
    ours, theirs = memory_pair()
    connection = ClientConnection(ours)
    await connection.aclose()
    theirs.close()
    assert await _tried_again(lambda: connection.get("http://a/"), PoolClosed) >= 9


async def test_a_handler_that_goes_on_sending_to_nobody_lets_others_live() -> None:
    """`ClientDisconnected` of every send after the one that has met it came without a checkpoint."""
    turns: list[int] = []

    async def stubborn(request: Request) -> None:
        with request.finish(within=5):
            async with request.stream_response() as body:
                ours.reset()
                with contextlib.suppress(ClientDisconnected):
                    await body.send_all(b"piece")
                turns.append(await _tried_again(lambda: body.send_all(b"piece"), ClientDisconnected))
                turns.append(await _tried_again(body.wait_send_all_might_not_block, ClientDisconnected))

    ours, theirs = memory_pair()
    await ours.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await serve_connection(stubborn, theirs)
    assert min(turns) >= 9


async def test_a_line_that_is_too_long_is_raised_again_and_again_beside_others() -> None:
    """`LineTooLong` of a line that was here already came without a checkpoint, each time."""
    ours, theirs = memory_pair()
    await theirs.send_all(b"a\ntoo long\n")
    async with ours, theirs:
        lines = Lines(ours, Headers(), max_chars=3)
        assert await anext(lines) == "a"
        assert await _tried_again(lambda: anext(lines), LineTooLong) >= 9


async def test_a_race_of_what_does_not_wait_can_be_cancelled() -> None:
    """A nursery is no place where a cancel comes out; so `race` returned though it was cancelled before."""

    async def at_once() -> int:
        return 1

    with trio.CancelScope() as scope:
        scope.cancel()
        await race(at_once, at_once)
    assert scope.cancelled_caught


async def test_a_handshake_with_nobody_is_a_checkpoint() -> None:
    """Over a socket whose peer was gone, the first send of the handshake failed at once."""
    left, right = socket.socketpair()
    right.close()
    failed = False
    with trio.testing.assert_checkpoints():
        try:
            await TLSTransport.handshake(left, client_context(), server_hostname="example.test")
        except trio.BrokenResourceError:
            failed = True
    assert failed


async def test_content_that_is_opened_has_let_others_live() -> None:
    """A stream and an async iterable were opened without a checkpoint, unlike bytes and files."""
    ours, theirs = memory_pair()
    async with ours, theirs:
        with trio.testing.assert_checkpoints():
            await Sized(ours, 3).open()


@pytest.mark.parametrize("read", ["read", "text", "form"])
async def test_refusing_content_by_its_head_is_a_checkpoint(read: str) -> None:
    """A 413 for what Content-Length tells, and a 415, came out of `Request.read` and `form` at once."""
    refused: list[int] = []

    async def handle(request: Request) -> Response:
        with trio.testing.assert_checkpoints():
            try:
                await getattr(request, read)(1)
            except HTTPException as exc:
                refused.append(exc.status)
        return Response(400)

    ours, theirs = memory_pair()
    await ours.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab")
    async with ours:
        await serve_connection(handle, theirs)
    assert refused == [415 if read == "form" else 413]
