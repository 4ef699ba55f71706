"""Cancelled over real sockets, where an abort can be told from a close, and a descriptor can be forgotten.

In memory a send has a checkpoint and an abort looks like an end; a socket's send has none while the kernel
takes all, and an abort is a reset. So what an answer that was cut looks like to its client is shown here.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
import trio.lowlevel

from tests.cancellation._worlds import CONFIG as QUIET
from tests.cancellation._worlds import lands_in
from tests.transport._peers import tcp_pair
from trio_http import Request, Response, serve_tcp
from trio_http.client import Client
from trio_http.server import Handler, serve_connection
from trio_http.testing import SweepReport, cancel_at_every_step
from trio_http.transport import SocketTransport

pytestmark = pytest.mark.interop


# The client of these sends its FIN at once, and reads.
CONFIG = attrs.evolve(QUIET, half_close="answer")


class Visit:
    """A client that sends its request and reads to the end, however it ends.

    Attributes:
      received: all that came.
      end: "fin" or "reset".
      served: the server came to its end by itself.
    """

    def __init__(self) -> None:
        client, server = tcp_pair()
        client.setblocking(False)
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
        self.transport = SocketTransport(server)
        self.received = b""
        self.end = ""
        self.served = False
        self.over = trio.Event()

    async def run(self, request: bytes) -> None:
        async with self.stream:
            try:
                await self.stream.send_all(request)
                await self.stream.send_eof()
                while part := await self.stream.receive_some():
                    self.received += part
                self.end = "fin"
            except trio.BrokenResourceError:
                self.end = "reset"
        self.over.set()


async def sweep_sockets(handler: Handler, request: bytes, answer: bytes) -> SweepReport:
    """Cancel a server's connection over TCP at each of its steps.

    After each run: what the client has of the answer is its beginning, and if that is not all of it, the
    client was told so by a reset.
    """

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Visit]:
        visit = Visit()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visit.run, request)
            yield visit

    async def scenario(visit: Visit) -> None:
        await serve_connection(handler, visit.transport, config=CONFIG)
        visit.served = True

    async def check(visit: Visit) -> None:
        assert visit.transport.closed
        with trio.fail_after(10):
            await visit.over.wait()
        assert answer.startswith(visit.received), f"the client received {visit.received!r}"
        if visit.served:
            assert visit.received == answer
        if visit.received and visit.received != answer:
            assert visit.end == "reset", f"{visit.received!r} looks like the whole answer"

    return await cancel_at_every_step(scenario, world=world, check=check)


async def pieces(request: Request) -> None:
    async with request.stream_response() as body:
        for number in range(3):
            await body.send_all(b"%d" % number)
            await trio.lowlevel.checkpoint()


async def test_a_chunked_answer_that_is_cut_never_looks_whole() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"1\r\n%d\r\n" % number for number in range(3)
    )
    report = await sweep_sockets(pieces, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer + b"0\r\n\r\n")
    lands_in(report, "pieces", "send_all", "receive")


async def test_an_answer_that_only_the_close_ends_never_looks_whole_when_it_is_cut() -> None:
    """The hard case: here nothing but the kind of the end tells half an answer from a whole one."""
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n012"
    report = await sweep_sockets(pieces, b"GET / HTTP/1.0\r\n\r\n", answer)
    lands_in(report, "pieces", "_end")


async def test_a_handlers_own_clean_up_cannot_finish_the_answer_either() -> None:
    """What it sends after the cancel would pass for the rest."""

    async def stubborn(request: Request) -> None:
        async with request.stream_response() as body:
            await body.send_all(b"0")
            try:
                await trio.lowlevel.checkpoint()
            finally:
                await body.send_all(b"1")

    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n01"
    await sweep_sockets(stubborn, b"GET / HTTP/1.0\r\n\r\n", answer)


async def app(request: Request) -> Response | None:
    match request.path:
        case "/echo":
            return Response(content=await request.read())
        case "/pieces":
            return await pieces(request)
    return Response(text="fresh")


async def use(client: Client) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"one"
        await trio.lowlevel.checkpoint()
        yield b"two"

    assert (await client.get("/")).text == "fresh"
    assert (await client.post("/echo", content=content())).content == b"onetwo"
    async with client.stream("GET", "/pieces") as response:
        assert await response.body.receive_some(1) == b"0"
    async with client.stream("GET", "/pieces") as response:
        assert await response.read() == b"012"


async def test_a_client_over_tcp_works_on_and_leaves_no_descriptor() -> None:
    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Client]:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_tcp, app, 0)
            async with Client(base_url=server.url) as client:
                yield client
            nursery.cancel_scope.cancel()

    async def check(client: Client) -> None:
        counts = client.statistics()
        assert (counts.leased, counts.waiting) == (0, 0)
        client._pool.ledger.check()
        assert (await client.get("/")).text == "fresh"

    report = await cancel_at_every_step(use, world=world, check=check)
    lands_in(report, "_wait", "_receive_head", "_send_pieces", "next_data")


async def test_serving_tcp_leaves_no_descriptor() -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_tcp, app, 0)
            port = server.listeners[0].socket.getsockname()[1]
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert await stream.receive_some()
            nursery.cancel_scope.cancel()

    report = await cancel_at_every_step(scenario)
    lands_in(report, "serve_tcp", "_serve_plain")
