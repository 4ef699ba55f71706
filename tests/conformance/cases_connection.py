"""How the functions of a connection, and of the clock beside it, are called."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import trio
import trio.testing

from tests.conformance._cases import CLOSED, Failure, case
from tests.conformance.cases_transport import (
    MUCH,
    PAIRS,
    Linked,
    Pair,
    later,
    linked,
    stream_pair,
)
from trio_http.connection import HTTPConnection, PacedConnection, Ticker
from trio_http.wire import CLIENT, Limits, RemoteProtocolError


class Paced(PacedConnection):
    """A connection whose peer has ten seconds at a time."""

    def body_limits(self) -> tuple[float, float]:
        return 10, 0

    def reading_limits(self) -> tuple[float, float]:
        return 10, 0

    def is_too_slow(self, awaiting: object) -> None:
        self.transport.abort()


@attrs.define
class Talk:
    """A connection of a client's, and its server's end.

    Attributes:
      got: what calls have received.
    """

    connection: Any
    link: Linked
    got: bytes = b""


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


def talk(
    answer: bytes = b"",
    *,
    pair: Pair = stream_pair,
    paced: bool = False,
    prepare: Callable[[Talk], Awaitable[object]] | None = None,
) -> Callable[[], AbstractAsyncContextManager[Talk]]:
    """Return the world of a connection on which a request was sent, and these bytes came back."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Talk]:
        async with linked(pair, later)() as link:
            connection: HTTPConnection = (
                Paced(link.ours, CLIENT, Limits(), frozenset(), Ticker())
                if paced
                else HTTPConnection(link.ours, CLIENT, Limits(), frozenset())
            )
            scene = Talk(connection, link)
            await connection.send(connection.wire.send_request("GET", "/", [("Host", "a")]))
            if answer:
                await link.peer.send_all(answer)
            if prepare is not None:
                await prepare(scene)
            yield scene

    return world


async def _next_head(scene: Talk) -> None:
    await scene.connection.next_head()


async def _next_data(scene: Talk) -> None:
    scene.got += await scene.connection.next_data()


async def _receive_more(scene: Talk) -> None:
    await scene.connection.receive()


async def _peer_leaves(scene: Talk) -> None:
    await scene.link.peer.aclose()


async def _close_ours(scene: Talk) -> None:
    await scene.link.ours.aclose()


async def _head_is_there(scene: Talk) -> None:
    if scene.connection.framing == 0:
        assert (await scene.connection.next_head()).status_code == 200


async def _body_is_there(scene: Talk) -> None:
    while len(scene.got) < 4:
        await _next_data(scene)
    assert scene.got == b"body"


for paced in (False, True):
    case(
        f"trio_http.connection.{'PacedConnection' if paced else 'HTTPConnection'}.receive",
        world=talk(HEAD, paced=paced),
        check=_head_is_there,
        fails=[
            Failure(_receive_more, trio.ClosedResourceError, prepare=_close_ours, at_once=CLOSED, spoils=True)
        ],
    )(_receive_more)

case(
    "trio_http.connection.HTTPConnection.next_head",
    world=talk(HEAD),
    check=_head_is_there,
    fails=[
        Failure(_next_head, RemoteProtocolError, world=talk(b"nonsense\r\n\r\n")),
        Failure(_next_head, RemoteProtocolError, world=talk(prepare=_peer_leaves)),
    ],
)(_next_head)
case(
    "trio_http.connection.HTTPConnection.next_head",
    world=talk(HEAD, prepare=_receive_more),
    variant="is here",
)(_next_head)
case(
    "trio_http.connection.HTTPConnection.next_data",
    world=talk(HEAD + b"body", prepare=_next_head),
    check=_body_is_there,
    fails=[
        Failure(
            _next_data,
            RemoteProtocolError,
            world=talk(HEAD, prepare=_next_head),
            prepare=_peer_leaves,
        )
    ],
)(_next_data)


async def _send_on(scene: Talk) -> None:
    await scene.connection.send(b"more")


for sort in ("StreamTransport", "SocketTransport"):
    case("trio_http.connection.HTTPConnection.send", world=talk(pair=PAIRS[sort]), variant=sort)(_send_on)


async def _clog(scene: Talk) -> None:
    assert not scene.link.ours.begin_send(bytes(MUCH))


@case("trio_http.connection.PacedConnection.finish_send", world=talk(paced=True, prepare=_clog))
async def _(scene: Talk) -> None:
    await scene.connection.finish_send()


@case("trio_http.connection.PacedConnection.wait_send_all_might_not_block", world=talk(paced=True))
async def _(scene: Talk) -> None:
    await scene.connection.wait_send_all_might_not_block()


class Alarm:
    """Something that is watched, and ends what it was given."""

    def __init__(self) -> None:
        self.deadline = trio.current_time() + 1
        self.scheduled = math.inf
        self.scope = trio.CancelScope()

    def on_deadline(self) -> None:
        self.scope.cancel()


@contextlib.asynccontextmanager
async def _ticking() -> AsyncIterator[tuple[Ticker, Alarm]]:
    ticker, alarm = Ticker(), Alarm()
    ticker.watch(alarm)
    yield ticker, alarm


@case("trio_http.connection.Ticker.run", world=_ticking)
async def _(given: tuple[Ticker, Alarm]) -> None:
    ticker, alarm = given
    with alarm.scope:
        await ticker.run()
