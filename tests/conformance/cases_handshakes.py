"""How what comes before HTTP is called: handshakes, headers of proxies, and the poll of sockets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import trio
import trio.testing

from tests.conformance._cases import MISUSE, Failure, case
from tests.transport._peers import client_context, server_context
from trio_http.testing import memory_pair
from trio_http.transport import (
    EdgePoll,
    ProxyProtocolError,
    TLSTransport,
    Transport,
    read_proxy_header,
    tls_over,
)


@attrs.define
class Greeting:
    """Two ends of something on which nothing was said yet.

    Attributes:
      made: the transport that a call has made.
    """

    ours: Any
    theirs: Any
    made: Transport | None = None


@contextlib.contextmanager
def _sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


async def _serve_handshake(end: Any) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        made = await tls_over(end, server_context(), server_side=True)
        await made.aclose_forcefully()


@contextlib.asynccontextmanager
async def greeting_by_socket() -> AsyncIterator[Greeting]:
    with _sockets() as (left, right):
        async with trio.open_nursery() as nursery:
            peer = trio.SocketStream(trio.socket.from_stdlib_socket(right.dup()))
            nursery.start_soon(_serve_handshake, peer)
            scene = Greeting(left, peer)
            yield scene
            nursery.cancel_scope.cancel()
        if scene.made is not None:
            await scene.made.aclose_forcefully()


@contextlib.asynccontextmanager
async def greeting_in_memory() -> AsyncIterator[Greeting]:
    left, right = memory_pair(1000)
    async with left, trio.open_nursery() as nursery:
        nursery.start_soon(_serve_handshake, right)
        scene = Greeting(left, right)
        yield scene
        nursery.cancel_scope.cancel()
    if scene.made is not None:
        await scene.made.aclose_forcefully()


@contextlib.asynccontextmanager
async def _nobody() -> AsyncIterator[Greeting]:
    with _sockets() as (left, right):
        right.close()
        yield Greeting(left, right)


@contextlib.asynccontextmanager
async def _nobody_in_memory() -> AsyncIterator[Greeting]:
    left, right = memory_pair()
    await right.aclose()
    yield Greeting(left, right)
    await left.aclose()


def _made_or_closed(scene: Greeting) -> None:
    end = scene.ours
    is_closed = end.closed if hasattr(end, "closed") else end.fileno() < 0
    assert is_closed is (scene.made is None)


def _made_or_closed_socket(scene: Greeting) -> None:
    assert scene.made is not None or scene.ours.fileno() < 0


async def _handshake(scene: Greeting) -> None:
    scene.made = await TLSTransport.handshake(scene.ours, client_context(), server_hostname="example.test")


async def _handshake_without_name(scene: Greeting) -> None:
    await TLSTransport.handshake(scene.ours, client_context())


@case(
    "trio_http.transport.TLSTransport.handshake",
    world=greeting_by_socket,
    check=_made_or_closed_socket,
    fails=[
        Failure(_handshake, trio.BrokenResourceError, world=_nobody),
        Failure(_handshake_without_name, ValueError, at_once=MISUSE),
    ],
)
async def _(scene: Greeting) -> None:
    await _handshake(scene)


async def _tls_over(scene: Greeting) -> None:
    scene.made = await tls_over(scene.ours, client_context(), server_hostname="example.test")


@case(
    "trio_http.transport.tls_over",
    world=greeting_in_memory,
    check=_made_or_closed,
    fails=[Failure(_tls_over, trio.BrokenResourceError, world=_nobody_in_memory)],
)
async def _(scene: Greeting) -> None:
    await _tls_over(scene)


@contextlib.asynccontextmanager
async def proxied() -> AsyncIterator[Greeting]:
    with _sockets() as (left, right):
        left.setblocking(False)

        async def introduce() -> None:
            await trio.sleep(1)
            right.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(introduce)
            yield Greeting(left, right)
            nursery.cancel_scope.cancel()


async def _read_header(scene: Greeting) -> None:
    await read_proxy_header(scene.ours)


async def _say_something_else(scene: Greeting) -> None:
    scene.theirs.send(b"GET / HTTP/1.1\r\n\r\n")


@case(
    "trio_http.transport.read_proxy_header",
    world=proxied,
    fails=[
        Failure(_read_header, ProxyProtocolError, prepare=_say_something_else),
        Failure(_read_header, ProxyProtocolError, world=_nobody),
    ],
)
async def _(scene: Greeting) -> None:
    assert (await read_proxy_header(scene.ours)).source == ("192.0.2.1", 1)


@contextlib.asynccontextmanager
async def polled() -> AsyncIterator[EdgePoll]:
    poll = EdgePoll()

    async def close_soon() -> None:
        await trio.sleep(1)
        poll.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close_soon)
        yield poll
        nursery.cancel_scope.cancel()
    poll.close()


@case("trio_http.transport.EdgePoll.run", world=polled)
async def _(poll: EdgePoll) -> None:
    await poll.run()
