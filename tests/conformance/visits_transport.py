"""The synchronous functions of transports and of a connection, each called at least once."""

from __future__ import annotations

import socket

import trio

from tests.conformance._cases import Visit, family
from tests.conformance._public import everything
from tests.conformance.cases_connection import Alarm, Paced
from tests.conformance.cases_transport import PAIRS, linked, stream_pair
from tests.transport._peers import client_context, server_context
from trio_http.connection import HTTPConnection, Pace, Ticker
from trio_http.testing import memory_pair
from trio_http.transport import (
    ContextHolder,
    EdgePoll,
    ProxyHeader,
    ProxyHeaderParser,
    SocketTransport,
    StreamTransport,
    TLSOverTransport,
    TLSTransport,
    TransportStream,
    ip_of,
    peer_address,
    transport_over,
)
from trio_http.wire import CLIENT, Limits


@family("trio_http.transport", "ip_of peer_address transport_over")
async def _(visit: Visit) -> None:
    visit("ip_of", lambda: ip_of("192.0.2.1"))
    visit("peer_address", lambda: peer_address(("192.0.2.1", 1), ("192.0.2.2", 2)))
    ours, theirs = memory_pair()
    visit("transport_over", lambda: transport_over(ours))
    ours.close()
    theirs.close()


def _constructors(visit: Visit, kind: str) -> None:
    """Visit the constructor of a kind; what is made is dropped, and what it was made of closed."""
    if kind in ("StreamTransport", "Transport", "TLSOverTransport"):
        ours, theirs = memory_pair()
        inner = visit("__init__", lambda: StreamTransport(ours))
        if kind == "TLSOverTransport":
            visit("__init__", lambda: TLSOverTransport(inner, client_context(), False, "example.test", b""))
        ours.close()
        theirs.close()
        return
    left, right = socket.socketpair()
    with left, right:
        if kind == "SocketTransport":
            visit("__init__", lambda: SocketTransport(left))
        else:
            visit("__init__", lambda: TLSTransport(left, client_context(), False, "example.test", None, None))


_METHODS = "receive_nowait begin_send unsent is_stale detach attach set_hangup abort close".split()

for kind in PAIRS:
    home = f"trio_http.transport.{kind}"
    own = [name for name in _METHODS if f"{home}.{name}" in everything()]

    @family(home, " ".join(["__init__", *own]), looks=kind == "Transport")
    async def _(visit: Visit, kind: str = kind, own: list[str] = own) -> None:
        _constructors(visit, kind)
        async with linked(PAIRS[kind])() as link:
            visit.look_at(link.ours)
            arguments = {"begin_send": [b""], "set_hangup": [None], "attach": [EdgePoll()]}
            for name in own:
                if name in ("abort", "close", "detach"):
                    continue
                visit(name, lambda name=name: getattr(link.ours, name)(*arguments.get(name, [])))
            arguments["attach"][0].close()
        for name in own:
            if name in ("abort", "close", "detach"):
                async with linked(PAIRS[kind])() as link:
                    given = visit(name, lambda link=link, name=name: getattr(link.ours, name)())
                    if given is not None:
                        given.close()


@family("trio_http.transport.TransportStream", "__init__ __aiter__", looks=True)
async def _(visit: Visit) -> None:
    async with linked(stream_pair)() as link:
        stream = visit("__init__", lambda: TransportStream(link.ours))
        visit("__aiter__", lambda: aiter(stream))
        visit.look_at(stream)


@family("trio_http.transport.ContextHolder", "__init__ replace", looks=True)
async def _(visit: Visit) -> None:
    holder = visit("__init__", lambda: ContextHolder(server_context()))
    visit("replace", lambda: holder.replace(server_context()))
    visit.look_at(holder)


@family("trio_http.transport.EdgePoll", "__init__ close", looks=True)
async def _(visit: Visit) -> None:
    poll = visit("__init__", EdgePoll)
    visit.look_at(poll)
    visit("close", poll.close)


@family("trio_http.transport.ProxyHeader", "to_bytes", looks=True)
async def _(visit: Visit) -> None:
    header = ProxyHeader(family="tcp4", source=("192.0.2.1", 1), destination=("192.0.2.2", 2))
    visit.look_at(header)
    visit("to_bytes", header.to_bytes)


@family("trio_http.transport.ProxyHeaderParser", "__init__ feed")
async def _(visit: Visit) -> None:
    parser = visit("__init__", lambda: ProxyHeaderParser(4096))
    visit("feed", lambda: parser.feed(b"PROXY UNKNOWN\r\n"))


@family("trio_http.connection.HTTPConnection", "__init__")
async def _(visit: Visit) -> None:
    async with linked(stream_pair)() as link:
        visit("__init__", lambda: HTTPConnection(link.ours, CLIENT, Limits(), frozenset()))


@family("trio_http.connection.Pace", "__init__ adjust start stop", looks=True)
async def _(visit: Visit) -> None:
    pace = visit("__init__", lambda: Pace(10, 100))
    visit("adjust", lambda: pace.adjust(20, 100))
    visit("start", lambda: pace.start(0))
    visit.look_at(pace)
    visit("stop", lambda: pace.stop(1, 1000))


@family(
    "trio_http.connection.PacedConnection",
    "__init__ body_limits reading_limits is_too_slow expect_by lift_limits on_deadline judge adjust_paces",
    looks=True,
)
async def _(visit: Visit) -> None:
    async with linked(stream_pair)() as link:
        made = visit("__init__", lambda: Paced(link.ours, CLIENT, Limits(), frozenset(), Ticker()))
        visit("body_limits", made.body_limits)
        visit("reading_limits", made.reading_limits)
        visit("expect_by", lambda: made.expect_by(trio.current_time() + 1, "a body"))
        visit("adjust_paces", made.adjust_paces)
        visit("judge", lambda: made.judge(trio.current_time()))
        visit("on_deadline", made.on_deadline)
        visit.look_at(made)
        visit("lift_limits", made.lift_limits)
        visit("is_too_slow", lambda: made.is_too_slow(None))


@family("trio_http.connection.Ticker", "__init__ watch forget", looks=True)
async def _(visit: Visit) -> None:
    ticker, alarm = visit("__init__", Ticker), Alarm()
    visit("watch", lambda: ticker.watch(alarm))
    visit.look_at(ticker)
    visit("forget", lambda: ticker.forget(alarm))


@family("trio_http.connection.Timed", "deadline on_deadline")
async def _(visit: Visit) -> None:
    alarm = Alarm()  # the protocol itself has nothing to run
    visit("deadline", lambda: alarm.deadline)
    visit("on_deadline", alarm.on_deadline)
