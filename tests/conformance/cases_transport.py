"""How the functions of transports are called."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import trio
import trio.testing

from tests.conformance._cases import CLOSED, Failure, case
from tests.conformance._public import everything
from tests.transport._peers import client_context, server_context, tls_pair
from trio_http.testing import memory_pair
from trio_http.transport import (
    SocketTransport,
    StreamTransport,
    Transport,
    tls_over,
    transport_over,
)


@attrs.define
class Linked:
    """Two transports that are connected, ours and the peer's.

    Attributes:
      got: what calls have received.
      stream: a view of ours, where there is one.
    """

    ours: Transport
    peer: Transport
    got: bytes = b""
    stream: Any = None


MUCH = 60_000  # more than a connection of these holds: their buffers are small, so that there are few steps


async def socket_pair() -> tuple[Transport, Transport]:
    left, right = socket.socketpair()
    _make_small(left)
    return SocketTransport(left), SocketTransport(right)


async def tls_socket_pair() -> tuple[Transport, Transport]:
    left, right = socket.socketpair()
    _make_small(left)
    return await tls_pair((left, right))


def _make_small(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def stream_pair() -> tuple[Transport, Transport]:
    left, right = memory_pair(10_000)
    return StreamTransport(left), StreamTransport(right)


async def tls_over_memory() -> tuple[Transport, Transport]:
    left, right = memory_pair(10_000)
    made: list[Transport] = []

    async def serve() -> None:
        made.append(await tls_over(right, server_context(), server_side=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        ours = await tls_over(left, client_context(), server_hostname="example.test")
    return ours, made[0]


Pair = Callable[[], Awaitable[tuple[Transport, Transport]]]
PAIRS: dict[str, Pair] = {
    "StreamTransport": stream_pair,
    "SocketTransport": socket_pair,
    "TLSTransport": tls_socket_pair,
    "TLSOverTransport": tls_over_memory,
    "Transport": socket_pair,  # what a kind has not of its own, and what each has to have
}
World = Callable[[], AbstractAsyncContextManager[Linked]]


def linked(pair: Pair, prepare: Callable[[Linked], Awaitable[object]] | None = None) -> World:
    """Return the world of two transports.

    Args:
      pair: makes them.
      prepare: what comes first; with what it returns, if that is a function, in a task beside the call.
    """

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Linked]:
        link = Linked(*await pair())
        async with trio.open_nursery() as nursery:
            beside = None if prepare is None else await prepare(link)
            if callable(beside):
                nursery.start_soon(beside, link)
            yield link
            nursery.cancel_scope.cancel()
        await link.ours.aclose_forcefully()
        await link.peer.aclose_forcefully()

    return world


async def with_data(link: Linked) -> None:
    await link.peer.send_all(b"data")


async def with_data_soon(link: Linked) -> object:
    return _send_soon


async def _send_soon(link: Linked) -> None:
    await trio.sleep(1)
    await link.peer.send_all(b"data")


async def with_an_end(link: Linked) -> None:
    await link.peer.send_eof()


async def closed(link: Linked) -> None:
    await link.ours.aclose()


async def broken(link: Linked) -> None:
    """Have the peer gone with something unread, which resets a socket."""
    with contextlib.suppress(trio.BrokenResourceError):
        await link.ours.send_all(b"unread")
    if isinstance(link.peer, StreamTransport):
        link.peer._stream.reset()  # type: ignore[attr-defined]
    elif hasattr(link.peer, "_inner"):
        link.peer._inner._stream.reset()
    link.peer.abort()
    await trio.testing.wait_all_tasks_blocked(0.01)


async def clogged(link: Linked) -> object:
    """Hand over more than the way to the peer holds; the peer reads it a little later."""
    assert not link.ours.begin_send(bytes(MUCH))
    return _read_all


async def _read_all(link: Linked) -> None:
    await trio.sleep(1)
    with contextlib.suppress(trio.BrokenResourceError):
        while await link.peer.receive():
            pass


async def later(link: Linked) -> object:
    return _read_all


async def _nothing_was_lost(link: Linked) -> None:
    while len(link.got) < len(b"data"):
        link.got += await link.ours.receive()
    assert link.got == b"data"


def is_closed(link: Linked) -> None:
    assert link.ours.closed


async def _receive(link: Linked) -> None:
    link.got += await link.ours.receive()


async def _finish(link: Linked) -> None:
    await link.ours.finish_send()


async def _send(link: Linked) -> None:
    await link.ours.send_all(b"data")


async def _send_much(link: Linked) -> None:
    await link.ours.send_all(bytes(MUCH))


async def _wait(link: Linked) -> None:
    await link.ours.wait_send_all_might_not_block()


async def _end(link: Linked) -> None:
    await link.ours.send_eof()


async def _close(link: Linked) -> None:
    await link.ours.aclose()


async def _close_forcefully(link: Linked) -> None:
    await link.ours.aclose_forcefully()


for kind, pair in PAIRS.items():
    home = f"trio_http.transport.{kind}"
    own = {name.removeprefix(home + ".") for name in everything() if name.startswith(home + ".")}

    if "receive" in own:
        case(
            f"{home}.receive",
            world=linked(pair, with_data),
            check=_nothing_was_lost,
            fails=[
                Failure(_receive, trio.ClosedResourceError, prepare=closed, at_once=CLOSED, spoils=True),
                Failure(_receive, trio.BrokenResourceError, prepare=broken, world=linked(pair)),
            ],
        )(_receive)
        case(
            f"{home}.receive",
            world=linked(pair, with_data_soon),
            check=_nothing_was_lost,
            variant="later",
        )(_receive)
        case(f"{home}.receive", world=linked(pair, with_an_end), variant="at the end")(_receive)
    if "finish_send" in own:
        case(
            f"{home}.finish_send",
            world=linked(pair, clogged),
            fails=[
                Failure(
                    _finish,
                    trio.ClosedResourceError,
                    prepare=closed,
                    world=linked(pair),
                    at_once=CLOSED,
                ),
            ],
        )(_finish)
        case(f"{home}.finish_send", world=linked(pair), variant="of nothing")(_finish)
    if "send_all" in own:
        case(f"{home}.send_all", world=linked(pair), variant="of little")(_send)
        case(f"{home}.send_all", world=linked(pair, later), variant="of much")(_send_much)
    if "wait_send_all_might_not_block" in own:
        case(
            f"{home}.wait_send_all_might_not_block",
            world=linked(pair),
            fails=[Failure(_wait, trio.ClosedResourceError, prepare=closed, at_once=CLOSED)],
        )(_wait)
    if "send_eof" in own:
        case(
            f"{home}.send_eof",
            world=linked(pair),
            fails=[Failure(_end, trio.ClosedResourceError, prepare=closed)]
            if kind != "StreamTransport"
            else [Failure(_end, trio.ClosedResourceError, prepare=closed, at_once=CLOSED)],
        )(_end)
    if "aclose" in own:
        case(f"{home}.aclose", world=linked(pair), check=is_closed)(_close)
        case(f"{home}.aclose", world=linked(pair, closed), check=is_closed, variant="closed before")(_close)
    if "aclose_forcefully" in own:
        case(f"{home}.aclose_forcefully", world=linked(pair), check=is_closed)(_close_forcefully)


async def _aborted(link: Linked) -> None:
    link.ours.abort()


@case(
    "trio_http.transport.StreamTransport.aclose",
    world=linked(stream_pair, _aborted),
    check=is_closed,
    variant="aborted before",
)
async def _(link: Linked) -> None:
    await link.ours.aclose()


@case(
    "trio_http.transport.TLSOverTransport.aclose",
    world=linked(tls_over_memory, _aborted),
    check=is_closed,
    variant="aborted before",
)
async def _(link: Linked) -> None:
    await link.ours.aclose()


@case("trio_http.transport.Transport.__aenter__", world=linked(stream_pair))
async def _(link: Linked) -> None:
    assert await link.ours.__aenter__() is link.ours


@case("trio_http.transport.Transport.__aexit__", world=linked(stream_pair), check=is_closed)
async def _(link: Linked) -> None:
    await link.ours.__aexit__(None, None, None)


@case("trio_http.transport.transport_over()", world=linked(stream_pair), check=is_closed)
async def _(link: Linked) -> None:
    async with transport_over(link.ours):
        pass
