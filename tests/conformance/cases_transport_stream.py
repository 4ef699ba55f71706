"""How the functions of a transport as a stream are called."""

from __future__ import annotations

import trio
import trio.testing

from tests.conformance._cases import MISUSE, Failure, case
from tests.conformance.cases_transport import (
    PAIRS,
    Linked,
    broken,
    closed,
    is_closed,
    linked,
    stream_pair,
    with_data,
)
from trio_http.transport import (
    TransportStream,
)


async def _viewed(link: Linked) -> None:
    link.stream = TransportStream(link.ours)
    await with_data(link)


async def _viewed_at_end(link: Linked) -> None:
    link.stream = TransportStream(link.ours)
    await link.peer.send_eof()


async def _receive_some(link: Linked) -> None:
    link.got += await link.stream.receive_some(2)


async def _receive_none(link: Linked) -> None:
    await link.stream.receive_some(0)


async def _next(link: Linked) -> None:
    link.got += await link.stream.__anext__()


async def _nothing_was_lost_in_view(link: Linked) -> None:
    while len(link.got) < len(b"data"):
        link.got += await link.stream.receive_some()
    assert link.got == b"data"


@case(
    "trio_http.transport.TransportStream.receive_some",
    world=linked(stream_pair, _viewed),
    check=_nothing_was_lost_in_view,
    fails=[Failure(_receive_none, ValueError, at_once=MISUSE)],
)
async def _(link: Linked) -> None:
    await _receive_some(link)


async def _viewed_in_part(link: Linked) -> None:
    await _viewed(link)
    await _receive_some(link)


@case(
    "trio_http.transport.TransportStream.receive_some",
    world=linked(stream_pair, _viewed_in_part),
    check=_nothing_was_lost_in_view,
    variant="the rest",
)
async def _(link: Linked) -> None:
    await _receive_some(link)


@case(
    "trio_http.transport.TransportStream.__anext__",
    world=linked(stream_pair, _viewed),
    check=_nothing_was_lost_in_view,
    fails=[Failure(_next, StopAsyncIteration, world=linked(stream_pair, _viewed_at_end))],
)
async def _(link: Linked) -> None:
    await _next(link)


async def _view_sends(link: Linked) -> None:
    await link.stream.send_all(b"data")


async def _view_waits(link: Linked) -> None:
    await link.stream.wait_send_all_might_not_block()


for name, call in [("send_all", _view_sends), ("wait_send_all_might_not_block", _view_waits)]:
    for sort in ("StreamTransport", "SocketTransport"):
        case(
            f"trio_http.transport.TransportStream.{name}",
            world=linked(PAIRS[sort], _viewed),
            variant=sort,
            fails=[
                Failure(call, trio.ClosedResourceError, prepare=closed),
                Failure(call, trio.BrokenResourceError, prepare=broken),
            ]
            if name == "send_all"
            else [Failure(call, trio.ClosedResourceError, prepare=closed)],
        )(call)


@case("trio_http.transport.TransportStream.send_eof", world=linked(stream_pair, _viewed))
async def _(link: Linked) -> None:
    await link.stream.send_eof()


@case("trio_http.transport.TransportStream.aclose", world=linked(stream_pair, _viewed), check=is_closed)
async def _(link: Linked) -> None:
    await link.stream.aclose()


@case("trio_http.transport.TransportStream.__aenter__", world=linked(stream_pair, _viewed))
async def _(link: Linked) -> None:
    assert await link.stream.__aenter__() is link.stream


@case("trio_http.transport.TransportStream.__aexit__", world=linked(stream_pair, _viewed), check=is_closed)
async def _(link: Linked) -> None:
    await link.stream.__aexit__(None, None, None)
