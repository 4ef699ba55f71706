"""Where the client's functions are called: a network in memory, one connection, a response under way."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import trio
import trio.testing

from tests.cancellation._worlds import CONFIG, Accounts, Network
from trio_http import (
    Client,
    ClientConnection,
    ClientInstrument,
    Request,
    Response,
    ServerRates,
    ServerTimes,
    StreamedResponse,
    serve_connection,
)
from trio_http.testing import MemoryStream, memory_pair

# A clock that runs fast does so also while a thread is at work on a file: the server has all the time then.
PATIENT = attrs.evolve(
    CONFIG,
    times=ServerTimes(**{each.name: math.inf for each in attrs.fields(ServerTimes)}),
    rates=ServerRates(head=0, body=0, response=0),
)

PIECES = [b"first\n", b"second\n", b"third\n"]
WHOLE = b"".join(PIECES)


async def answer(request: Request) -> Response | None:
    """Answer as the path says."""
    match request.path:
        case "/fresh":
            return Response(text="fresh")
        case "/error":
            return Response(500)
        case "/pieces":
            async with request.stream_response() as body:
                for piece in PIECES:
                    await body.send_all(piece)
                    await trio.sleep(1)
            return None
        case "/cut":
            async with request.stream_response(headers={"content-length": "100"}) as body:
                await body.send_all(b"a part")
                await trio.sleep(1)
                raise ValueError("this is as far as it goes")
        case "/echo" if "echo" in request.upgrade_protocols:
            async with request.upgrade("echo") as stream:
                async for data in stream:
                    await stream.send_all(data)
            return None
    return Response(text=f"{request.method} {request.path} {(await request.read()).decode()}")


def network_with(
    *, extra: Sequence[ClientInstrument] = (), **options: Any
) -> Callable[[], AbstractAsyncContextManager[Network]]:
    """Return the world of a client, open and without a connection, and of servers that answer by `answer`.

    Args:
      extra: instruments of the client.
      options: others of its options.
    """

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Network]:
        async with Network(answer).opened() as net:
            net.accounts = Accounts()
            instruments = [net.accounts, *extra]
            async with Client(
                base_url="http://a", dial=net.dial, instruments=instruments, **options
            ) as net.client:
                yield net

    return world


network = network_with()


def still_works(net: Network) -> Any:
    """See that the client holds what it says, and that it works as before."""
    return net.see_all_is_well()


@attrs.frozen
class OneConnection:
    """A connection of the client's, and the stream beneath."""

    connection: ClientConnection
    stream: MemoryStream


@contextlib.asynccontextmanager
async def one_connection() -> AsyncIterator[OneConnection]:
    """A `ClientConnection` to a server that answers by `answer`."""
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            await serve_connection(answer, theirs, config=PATIENT)

        nursery.start_soon(serve)
        connection = ClientConnection(ours, base_url="http://a")
        yield OneConnection(connection, ours)
        await connection.aclose()
        nursery.cancel_scope.cancel()


async def works_or_is_closed(one: OneConnection) -> None:
    """See that the connection is closed or takes the next request, and nothing in between."""
    await trio.testing.wait_all_tasks_blocked()
    assert one.connection.closed is one.stream.closed
    if not one.connection.closed:
        with trio.fail_after(100):
            assert (await one.connection.get("/fresh")).text == "fresh"


async def is_closed(one: OneConnection) -> None:
    """See that the connection is closed."""
    await trio.testing.wait_all_tasks_blocked()
    assert one.connection.closed
    assert one.stream.closed


@attrs.define
class Streaming:
    """A response of three pieces, of which nothing was read yet.

    Attributes:
      got: what the calls have read.
    """

    net: Network
    response: StreamedResponse
    got: list[bytes] = attrs.field(factory=list)


def streaming(path: str = "/pieces") -> Callable[[], AbstractAsyncContextManager[Streaming]]:
    """Return the world in which the response to a path is under way."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Streaming]:
        async with network() as net:
            async with net.client.stream("GET", path) as response:
                yield Streaming(net, response)
            await net.see_all_is_well()

    return world


async def nothing_was_lost(under_way: Streaming) -> None:
    """See that what was read and what is still to be had make up the whole."""
    rest = await under_way.response.body.read(1000)
    assert b"".join(under_way.got) + rest == WHOLE


def is_over(under_way: Streaming) -> None:
    """See that the connection is given back, or closed."""
    assert under_way.net.client.statistics().leased == 0
