"""What a server allows its clients, each number with where it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import attrs

from trio_http.instruments import ServerInstrument
from trio_http.messages import Headers
from trio_http.transport import NetworkInput, Networks
from trio_http.wire import Leniency, Limits


def _number(attribute: attrs.Attribute[Any], value: object, no_limit: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{attribute.name} must be a number, not {value!r}{no_limit}")


def _positive(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    _number(attribute, value, "; math.inf for no limit")
    if not value > 0:
        raise ValueError(f"{attribute.name} must be more than 0, not {value!r}; math.inf for no limit")


def _at_least_one(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    _number(attribute, value, "; math.inf for no limit")
    if not value >= 1:
        raise ValueError(f"{attribute.name} must be at least 1, not {value!r}; math.inf for no limit")


def _rate(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    _number(attribute, value, "; 0 for no limit")
    if not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must be at least 0 and finite, not {value!r}; 0 for no limit")


def _count(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{attribute.name} must be an int, not {value!r}")
    if value < 0:
        raise ValueError(f"{attribute.name} must be at least 0, not {value!r}")


def _made_of(kind: type) -> Any:
    """Return a validator for the values of a class. Unlike that of attrs it says how to make one."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            name = kind.__name__
            raise TypeError(f"{attribute.name} must be a {name}, not {value!r}: {attribute.name}={name}(...)")

    return validate


def _one_of(*words: str) -> Any:
    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in words:
            raise ValueError(f"{attribute.name} must be one of {', '.join(map(repr, words))}, not {value!r}")

    return validate


def _switch(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name} must be True or False, not {value!r}")


def _field_value(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, str):
        Headers({"Server": value})  # raises when it is none
    elif value is not None:
        raise TypeError(f"{attribute.name} must be a str, not {value!r}; None for none")


def _leniencies(values: Iterable[Leniency]) -> frozenset[Leniency]:
    if not isinstance(values, Iterable):
        raise TypeError(
            f"lenient must be a set of Leniency, not {values!r}; for a single one there is {{...}}"
        )
    values = frozenset(values)
    for value in values:
        if not isinstance(value, Leniency):
            raise TypeError(f"lenient must be a set of Leniency, and {value!r} is none")
    return values


def _all_of(instruments: Iterable[ServerInstrument]) -> tuple[ServerInstrument, ...]:
    if not isinstance(instruments, Iterable):
        raise TypeError(
            f"instruments must be a list of instruments, not {instruments!r}; for a single one there is [...]"
        )
    instruments = tuple(instruments)
    for instrument in instruments:
        if not isinstance(instrument, ServerInstrument):
            raise _no_instrument(instrument)
    return instruments


def _no_instrument(value: object) -> TypeError:
    made = f": {value.__name__}() is one" if isinstance(value, type) else ""
    return TypeError(f"instruments must be a list of instruments, and {value!r} is none{made}")


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

    handshake: float = attrs.field(default=10.0, validator=_positive)
    head: float = attrs.field(default=20.0, validator=_positive)
    head_stall: float = attrs.field(default=10.0, validator=_positive)
    idle: float = attrs.field(default=60.0, validator=_positive)
    body_stall: float = attrs.field(default=60.0, validator=_positive)
    write_stall: float = attrs.field(default=60.0, validator=_positive)
    request: float = attrs.field(default=math.inf, validator=_positive)
    answer: float = attrs.field(default=5.0, validator=_positive)
    linger: float = attrs.field(default=2.0, validator=_positive)


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

    head: float = attrs.field(default=240.0, validator=_rate)
    body: float = attrs.field(default=240.0, validator=_rate)
    response: float = attrs.field(default=240.0, validator=_rate)


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

    limits: Limits = attrs.field(factory=Limits, validator=_made_of(Limits))
    lenient: frozenset[Leniency] = attrs.field(default=frozenset(), converter=_leniencies)
    times: ServerTimes = attrs.field(factory=ServerTimes, validator=_made_of(ServerTimes))
    rates: ServerRates = attrs.field(factory=ServerRates, validator=_made_of(ServerRates))
    max_body_bytes: float = attrs.field(default=1 << 30, validator=_positive)
    drain_bytes: int = attrs.field(default=64 * 1024, validator=_count)
    linger_bytes: int = attrs.field(default=4 << 20, validator=_count)
    max_connections: float = attrs.field(default=math.inf, validator=_at_least_one)
    excess: Literal["wait", "refuse"] = attrs.field(default="refuse", validator=_one_of("wait", "refuse"))
    max_requests: float = attrs.field(default=math.inf, validator=_at_least_one)
    max_requests_jitter: int = attrs.field(default=0, validator=_count)
    half_close: Literal["cancel", "answer"] = attrs.field(
        default="cancel", validator=_one_of("cancel", "answer")
    )
    connect: bool = attrs.field(default=False, validator=_switch)
    proxy_protocol_from: Networks = attrs.field(default=_NOWHERE, converter=_networks)
    trusted_proxies: Networks = attrs.field(default=_NOWHERE, converter=_networks)
    forwarded_fields: Literal["forwarded", "x-forwarded"] = attrs.field(
        default="forwarded", validator=_one_of("forwarded", "x-forwarded")
    )
    deadlines_from: Networks = attrs.field(default=_NOWHERE, converter=_networks)
    instruments: tuple[ServerInstrument, ...] = attrs.field(default=(), converter=_all_of)
    server_name: str | None = attrs.field(default="trio_http", validator=_field_value)
    date: bool = attrs.field(default=True, validator=_switch)
    edge_poll: bool = attrs.field(default=True, validator=_switch)
