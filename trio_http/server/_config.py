"""What a server allows its clients, each number with where it comes from."""

from __future__ import annotations

from typing import Any

import attrs
from attrs.validators import deep_iterable, instance_of

from trio_http.wire import Leniency, Limits


def _positive(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} must be more than 0, not {value!r}; math.inf for no limit")


@attrs.frozen(kw_only=True)
class ServerTimes:
    """How long a client may take, in seconds; `math.inf` for ever. The handler's own time is never counted.

    Attributes:
      head: from a connection's beginning, or a request's first byte, to the end of its head; then 408.
        Precedents: Apache 20-40, hyper 30, nginx 60.
      idle: between exchanges on a kept connection; then closed. Precedents: uvicorn and hypercorn 5, nginx
        and aiohttp 75.
      body_stall: without a byte of the request's body while the handler reads; then 408. Precedent: nginx 60.
      write_stall: without the client reading on while we send; then aborted. Precedent: nginx 60.
      answer: for an answer that refuses, after something went wrong. Arbitrary: a slow but honest client gets
        it.
      linger: for a client to take an answer that came before the end of its request. Precedents: Apache 2,
        nginx 5.
    """

    head: float = attrs.field(default=20.0, validator=_positive)
    idle: float = attrs.field(default=60.0, validator=_positive)
    body_stall: float = attrs.field(default=60.0, validator=_positive)
    write_stall: float = attrs.field(default=60.0, validator=_positive)
    answer: float = attrs.field(default=5.0, validator=_positive)
    linger: float = attrs.field(default=2.0, validator=_positive)


@attrs.frozen(kw_only=True)
class ServerConfig:
    """How a server treats its clients. The defaults are fit for the open internet.

    Attributes:
      limits: bounds on heads, chunk framing and trailers.
      lenient: departures from strictness; each opens an attack that its description names.
      times: how long a client may take.
      max_body_bytes: the most that a request's body may have, unless its handler says otherwise
        (`Request.limit_body`); more is 413. A streamed body takes no memory. Precedent: Apache 1 GiB.
      drain_bytes: how much of an unread request body is read and thrown away to keep a connection; beyond
        that it is closed. Precedents: Go 256 KiB; a new connection costs about as much as 64 KiB here.
      linger_bytes: how much is thrown away while lingering. Arbitrary: what a fast client sends before it
        looks up.
      server_name: the Server field (RFC 9110 §10.2.4); None for none.
      date: send the Date field (RFC 9110 §6.6.1).
    """

    limits: Limits = attrs.field(factory=Limits, validator=instance_of(Limits))
    lenient: frozenset[Leniency] = attrs.field(
        default=frozenset(), converter=frozenset, validator=deep_iterable(instance_of(Leniency))
    )
    times: ServerTimes = attrs.field(factory=ServerTimes)
    max_body_bytes: int = attrs.field(default=1 << 30, validator=_positive)
    drain_bytes: int = attrs.field(default=64 * 1024, validator=attrs.validators.ge(0))
    linger_bytes: int = attrs.field(default=4 << 20, validator=attrs.validators.ge(0))
    server_name: str | None = "trio_http"
    date: bool = True
