"""TLS over streams in memory, cancelled at every step from the first byte of the handshake to the last alert.

`test_server_visits` has whole visits over TLS; here are the handshake and the end by themselves, from either
side, and with a peer that does not play its part.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._houses import tls_contexts
from tests.cancellation._worlds import CONFIG, Accounts, lands_in
from trio_http import ConnectFailed, Request, Response, serve_connection
from trio_http.client import Client
from trio_http.testing import MemoryStream, SweepReport, cancel_at_every_step, memory_pair
from trio_http.transport import Transport, tls_over


async def app(request: Request) -> Response | None:
    if request.path == "/pieces":
        async with request.stream_response() as body:
            for _ in range(3):
                await body.send_all(b"piece")
                await trio.sleep(1)
        return None
    return Response(content=await request.read() or b"fresh")


class Line:
    """A network on which everything leads to one kind of server.

    Attributes:
      ours: the clients' ends, in the order of the dials.
      theirs: the servers' ends.
      accounts: what the client tells.
    """

    def __init__(
        self, nursery: trio.Nursery, *, speaks: bool = True, buffer_bytes: int | None = None
    ) -> None:
        self.ours: list[MemoryStream] = []
        self.theirs: list[MemoryStream] = []
        self.accounts = Accounts()
        self._nursery = nursery
        self._speaks = speaks
        self._buffer_bytes = buffer_bytes

    async def dial(self, host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = memory_pair(self._buffer_bytes)
        self.ours.append(ours)
        self.theirs.append(theirs)
        if self._speaks:
            self._nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: MemoryStream) -> None:
        # A client that is cancelled goes away in the middle of the handshake.
        with contextlib.suppress(trio.BrokenResourceError):
            await serve_connection(
                app, await tls_over(stream, tls_contexts()[1], server_side=True), config=CONFIG
            )


@contextlib.asynccontextmanager
async def line(*, speaks: bool = True, buffer_bytes: int | None = None) -> AsyncIterator[Line]:
    """A line for the block; at its end both sides have closed what there was."""
    async with trio.open_nursery() as nursery:
        made = Line(nursery, speaks=speaks, buffer_bytes=buffer_bytes)
        yield made
        await trio.sleep(20)
        assert all(stream.closed for stream in made.ours), "the client has left a connection open"
        if speaks:
            assert all(stream.closed for stream in made.theirs), "the server has left a connection open"
        for stream in made.theirs:
            stream.close()
        made.accounts.see_all_is_settled(len(made.accounts.dials))


async def sweep_whole_clients(use: str, *, buffer_bytes: int | None = None) -> SweepReport:
    """Cancel a client that is opened, used and closed, at each step; the dial and its handshake are in it."""

    async def scenario(line: Line) -> None:
        context = tls_contexts()[0]
        options = {"dial": line.dial, "ssl_context": context, "instruments": [line.accounts]}
        async with Client(base_url="https://origin.test", **options) as client:
            match use:
                case "get":
                    assert (await client.get("/")).content == b"fresh"
                case "post":
                    assert (await client.post("/", content=bytes(50_000))).content == bytes(50_000)
                case "stream":
                    async with client.stream("GET", "/pieces") as response:
                        assert await response.read() == b"piece" * 3
                case "left":
                    async with client.stream("GET", "/pieces") as response:
                        assert await response.body.receive_some() == b"piece"

    return await cancel_at_every_step(scenario, world=lambda: line(buffer_bytes=buffer_bytes))


@pytest.mark.parametrize("use", ["get", "stream", "left"])
async def test_a_client_over_tls_from_its_opening_to_its_end(use: str, autojump_clock: MockClock) -> None:
    report = await sweep_whole_clients(use)
    # What is left half way is cut off, and all else is said goodbye to.
    lands_in(report, "tls_over", "_shake_hands", "_settle", "_receive_head")
    lands_in(report, "aclose_forcefully" if use == "left" else "aclose")


async def test_content_and_answer_over_a_narrow_tls_connection(autojump_clock: MockClock) -> None:
    """Records are half out, on either side, when the cancel comes."""
    report = await sweep_whole_clients("post", buffer_bytes=8_000)
    lands_in(report, "_settle", "finish_send", "_read_whole")


async def test_a_handshake_with_a_server_that_does_not_speak(autojump_clock: MockClock) -> None:
    """The dial has its own limit; before it, nothing but the request is lost to a cancel."""

    async def scenario(line: Line) -> None:
        context = tls_contexts()[0]
        options = {"dial": line.dial, "ssl_context": context, "instruments": [line.accounts]}
        async with Client(dial_seconds=5, **options) as client:
            with contextlib.suppress(ConnectFailed):
                await client.get("https://origin.test/")
                raise AssertionError("nobody has answered")

    report = await cancel_at_every_step(scenario, world=lambda: line(speaks=False))
    lands_in(report, "_shake_hands")


async def test_a_server_that_is_not_trusted(autojump_clock: MockClock) -> None:
    """The alert that says so may be on its way when the cancel comes; both sides close."""

    async def scenario(line: Line) -> None:
        options = {"dial": line.dial, "ssl_context": tls_contexts()[0], "instruments": [line.accounts]}
        async with Client(**options) as client:
            with contextlib.suppress(ConnectFailed):
                await client.get("https://elsewhere.test/")
                raise AssertionError("the certificate is of another")

    report = await cancel_at_every_step(scenario, world=line)
    lands_in(report, "_shake_hands")


@contextlib.asynccontextmanager
async def visited() -> AsyncIterator[tuple[MemoryStream, MemoryStream]]:
    """A client that shakes hands, sends a request, reads the answer and closes; it may be broken off."""
    ours, theirs = memory_pair()

    async def visit() -> None:
        try:
            with trio.fail_after(100):
                client = await tls_over(ours, tls_contexts()[0], server_hostname="origin.test")
                await client.send_all(
                    b"GET /pieces HTTP/1.1\r\nHost: origin.test\r\nConnection: close\r\n\r\n"
                )
                while await client.receive():
                    pass
                await client.aclose()
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(ours)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(visit)
        yield ours, theirs
    assert ours.closed, "the client has left its end open"


async def test_the_servers_side_of_a_handshake_and_of_what_follows(autojump_clock: MockClock) -> None:
    """The client never waits for a server that was cancelled."""

    async def scenario(ends: tuple[MemoryStream, MemoryStream]) -> None:
        transport = await tls_over(ends[1], tls_contexts()[1], server_side=True)
        await serve_connection(app, transport, config=CONFIG)

    def check(ends: tuple[MemoryStream, MemoryStream]) -> None:
        assert ends[1].closed

    report = await cancel_at_every_step(scenario, world=visited, check=check)
    lands_in(report, "_shake_hands", "_settle", "app", "receive", "aclose")


@pytest.mark.parametrize("reads", [True, False], ids=["it reads", "it does not"])
async def test_a_goodbye_to_a_peer(reads: bool, autojump_clock: MockClock) -> None:
    """The closure alert has its own short time; whoever does not take it keeps nobody."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[tuple[Transport, MemoryStream]]:
        ours, theirs = memory_pair(3_000)
        pair: list[Transport] = []

        async def shake_hands() -> None:
            pair.append(await tls_over(theirs, tls_contexts()[1], server_side=True))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake_hands)
            transport = await tls_over(ours, tls_contexts()[0], server_hostname="origin.test")
        with trio.move_on_after(1):  # until there is no room for an alert
            while not reads:
                await ours.send_all(b"x")
        yield transport, ours
        pair[0].abort()
        await pair[0].aclose_forcefully()

    async def scenario(value: tuple[Transport, MemoryStream]) -> None:
        before = trio.current_time()
        await value[0].aclose()
        assert trio.current_time() - before <= 0.1 + 1e-6

    def check(value: tuple[Transport, MemoryStream]) -> None:
        assert value[0].closed
        assert value[1].closed

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "_settle_soon")
