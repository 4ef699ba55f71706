"""What a client may be told."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypedDict

import attrs
import trio
from attrs.validators import deep_iterable, ge, gt, instance_of

from trio_http import wire

#: Makes a byte stream to a host and port for a scheme ("http" or "https"). TLS is put over it by the client
#: when the scheme wants it, unless the stream is a `trio.SSLStream` already.
Dial: TypeAlias = Callable[[str, int, str], Awaitable[trio.abc.Stream]]


@attrs.frozen(kw_only=True)
class ClientConfig:
    """The settings of a `Client`. None of them limits the time of a request: that is what cancel scopes are
    for.

    Attributes:
      max_connections: open and being opened, in all, at least 1. Precedent: httpx and aiohttp 100.
      max_connections_per_origin: the same for one scheme, host and port, at least 1. Precedent: browsers have
        6; a program's requests to one service want some more.
      idle_seconds: how long a connection is kept without a request, above 0. Precedent: aiohttp 15; shorter
        than the 60-75 after which common servers close, so that we are seldom the second to do so.
      dial_seconds: how long one dial may take, from the name to the end of the TLS handshake, above 0.
        Precedent: Go 30.
      expect_seconds: how long content waits for a 100 (Continue) that the caller asked for, at least 0.
        Precedent: Go and curl 1.
      max_content_bytes: the most that a whole response's content may have; a streamed one is not limited.
        Arbitrary.
      limits, lenient: what the wire accepts of a server; see `trio_http.wire`.
      user_agent: the User-Agent field of requests that have none.
      ssl_context: for https. None: `ssl.create_default_context`, which verifies by the system's certificates.
      dial: makes connections instead of TCP.
    """

    max_connections: int = attrs.field(default=100, validator=ge(1))
    max_connections_per_origin: int = attrs.field(default=10, validator=ge(1))
    idle_seconds: float = attrs.field(default=15.0, validator=gt(0))
    dial_seconds: float = attrs.field(default=30.0, validator=gt(0))
    expect_seconds: float = attrs.field(default=1.0, validator=ge(0))
    max_content_bytes: int = attrs.field(default=64 * 1024 * 1024, validator=ge(0))
    limits: wire.Limits = attrs.field(factory=wire.Limits, validator=instance_of(wire.Limits))
    lenient: frozenset[wire.Leniency] = attrs.field(
        default=frozenset(), validator=deep_iterable(instance_of(wire.Leniency))
    )
    user_agent: str = wire.PRODUCT_ID
    ssl_context: ssl.SSLContext | None = None
    dial: Dial | None = None


class ClientOptions(TypedDict, total=False):
    """The attributes of `ClientConfig` as keywords."""

    max_connections: int
    max_connections_per_origin: int
    idle_seconds: float
    dial_seconds: float
    expect_seconds: float
    max_content_bytes: int
    limits: wire.Limits
    lenient: frozenset[wire.Leniency]
    user_agent: str
    ssl_context: ssl.SSLContext | None
    dial: Dial | None


@attrs.frozen(kw_only=True)
class ClientStatistics:
    """What the pool of a client holds at a moment.

    Attributes:
      dialing: connections being made.
      leased: connections with a request under way.
      idle: connections that wait for a request.
      waiting: requests that wait for a connection.
    """

    dialing: int
    leased: int
    idle: int
    waiting: int
