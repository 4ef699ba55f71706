"""What a server allows its clients, each number with where it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import attrs

from trio_http._kinds import (
    check_all,
    count,
    field_value,
    leniencies,
    made_of,
    one_of,
    positive,
    rate,
    switch,
    whole_number,
)
from trio_http.instruments import ServerInstrument
from trio_http.transport import NetworkInput, Networks
from trio_http.wire import Leniency, Limits


def _instruments(values: Iterable[ServerInstrument]) -> tuple[ServerInstrument, ...]:
    return check_all("instruments", values, ServerInstrument, "list")


def _networks(values: Iterable[NetworkInput] | Networks) -> Networks:
    return Networks.of(values)


_NOWHERE = Networks.of(())


@attrs.frozen(kw_only=True)
class ServerTimes:
    """How long a client may take, in seconds; `math.inf` for ever. Only `request` counts the handler's own
    time.

    The three stall limits work together with `ServerRates`: each is also how far a client may fall behind its
    minimum rate.

    Attributes:
      handshake: for what comes before HTTP: a PROXY header, the TLS handshake. Precedent: Go 10.
      head: from a connection's beginning, or a request's first byte, to the end of its head; then 408.
        Precedents: Apache 20-40, hyper 30, nginx 60.
      head_stall: without a byte of a head that has begun. Arbitrary: half of `head`.
      idle: between exchanges on a kept connection; then closed. Precedents: uvicorn and hypercorn 5, nginx
        and aiohttp 75.
      body_stall: without a byte of the request's body while the handler reads; then 408. Precedent: nginx 60.
      write_stall: without the client reading on while we send; then aborted. Precedent: nginx 60.
      request: for the handler, from the request's head to its return, and up to a 32nd more; then it is
        cancelled, and 503. For ever unless set: what is too long only the application knows.
      answer: for an answer that refuses, after something went wrong. Arbitrary: a slow but honest client gets
        it.
      linger: for a client to take an answer that came before the end of its request. Precedents: Apache 2,
        nginx 5.
    """

    handshake: float = attrs.field(default=10.0, validator=positive)
    head: float = attrs.field(default=20.0, validator=positive)
    head_stall: float = attrs.field(default=10.0, validator=positive)
    idle: float = attrs.field(default=60.0, validator=positive)
    body_stall: float = attrs.field(default=60.0, validator=positive)
    write_stall: float = attrs.field(default=60.0, validator=positive)
    request: float = attrs.field(default=math.inf, validator=positive)
    answer: float = attrs.field(default=5.0, validator=positive)
    linger: float = attrs.field(default=2.0, validator=positive)


@attrs.frozen(kw_only=True)
class ServerRates:
    """How fast a client must be at least, in bytes per second, while it is waited for; 0 for no such limit.

    The clock of a rate stands still while the handler does something else, and a client may fall behind by
    its stall limit (`ServerTimes`) before it is too slow. What it is ahead is not saved up beyond that.

    Attributes:
      head: of a request head that has begun. Precedent: Apache 500.
      body: of a request's body, while the handler reads. Precedent: Kestrel 240.
      response: of what we send and the kernel cannot take. Precedent: Kestrel 240.
    """

    head: float = attrs.field(default=240.0, validator=rate)
    body: float = attrs.field(default=240.0, validator=rate)
    response: float = attrs.field(default=240.0, validator=rate)


@attrs.frozen(kw_only=True)
class ServerConfig:
    """How a server treats its clients. The defaults are fit for the open internet.

    Attributes:
      limits: bounds on heads, chunk framing and trailers.
      lenient: departures from strictness; each opens an attack that its description names.
      times: how long a client may take.
      rates: how slow it may be.
      max_body_bytes: the most that a request's body may have, unless its handler says otherwise
        (`Request.limit_body`); more is 413. A streamed body takes no memory. Precedent: Apache 1 GiB.
      drain_bytes: how much of an unread request body is read and thrown away to keep a connection; beyond
        that it is closed. Precedents: Go 256 KiB; a new connection costs about as much as 64 KiB here.
      linger_bytes: how much is thrown away while lingering. Arbitrary: what a fast client sends before it
        looks up.
      max_connections: how many connections may be open at once, over all listeners of a server; `math.inf`
        for as many as the system gives.
      excess: what becomes of a connection beyond that: "wait", unaccepted in the kernel's queue, until
        another ends; or "refuse", a 503 at once.
      max_requests: how many requests a connection may carry; the last is answered with ``Connection: close``.
        `math.inf` for any number. For balancing load; precedent: nginx 1000.
      max_requests_jitter: up to so many fewer, drawn for each connection, so that they do not all end at
        once.
      half_close: what a client's FIN behind a complete request means. "cancel": it has gone, and the handler
        is cancelled. "answer": it will send no more, and waits for its answer. Under TLS always "cancel".
      connect: hand CONNECT requests to the handler, for `Request.tunnel`; else they are answered 501.
      proxy_protocol_from: the networks whose connections must begin with a PROXY header; from all others it
        is a syntax error. Networks as `trio_http.Networks`.
      trusted_proxies: the networks whose forwarding fields are believed, in `Request.forwarded`.
      forwarded_fields: which those are: RFC 7239's "forwarded", or "x-forwarded". Never both, since a client
        can always add the one that its proxy does not overwrite.
      deadlines_from: the networks whose ``Request-Deadline`` (milliseconds left) becomes the handler's.
      instruments: are told what happens, as `trio_http.AccessLog`.
      server_name: the Server field (RFC 9110 §10.2.4); None for none.
      date: send the Date field (RFC 9110 §6.6.1).
      edge_poll: wait for sockets through one edge-triggered epoll, where the system has it. False is slower
        by a fifth, and notices within 50 ms rather than one that a client went away.
    """

    limits: Limits = attrs.field(factory=Limits, validator=made_of(Limits))
    lenient: frozenset[Leniency] = attrs.field(default=frozenset(), converter=leniencies)
    times: ServerTimes = attrs.field(factory=ServerTimes, validator=made_of(ServerTimes))
    rates: ServerRates = attrs.field(factory=ServerRates, validator=made_of(ServerRates))
    max_body_bytes: float = attrs.field(default=1 << 30, validator=positive)
    drain_bytes: int = attrs.field(default=64 * 1024, validator=whole_number(0))
    linger_bytes: int = attrs.field(default=4 << 20, validator=whole_number(0))
    max_connections: float = attrs.field(default=math.inf, validator=count)
    excess: Literal["wait", "refuse"] = attrs.field(default="refuse", validator=one_of("wait", "refuse"))
    max_requests: float = attrs.field(default=math.inf, validator=count)
    max_requests_jitter: int = attrs.field(default=0, validator=whole_number(0))
    half_close: Literal["cancel", "answer"] = attrs.field(
        default="cancel", validator=one_of("cancel", "answer")
    )
    connect: bool = attrs.field(default=False, validator=switch)
    proxy_protocol_from: Networks = attrs.field(default=_NOWHERE, converter=_networks)
    trusted_proxies: Networks = attrs.field(default=_NOWHERE, converter=_networks)
    forwarded_fields: Literal["forwarded", "x-forwarded"] = attrs.field(
        default="forwarded", validator=one_of("forwarded", "x-forwarded")
    )
    deadlines_from: Networks = attrs.field(default=_NOWHERE, converter=_networks)
    instruments: tuple[ServerInstrument, ...] = attrs.field(default=(), converter=_instruments)
    server_name: str | None = attrs.field(default="trio_http", validator=field_value("Server", optional=True))
    date: bool = attrs.field(default=True, validator=switch)
    edge_poll: bool = attrs.field(default=True, validator=switch)
