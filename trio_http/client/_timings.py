"""Where the time of a request went."""

from __future__ import annotations

import attrs

from ._connect import DialTimes


@attrs.frozen(kw_only=True)
class Timings:
    """Where the time of one exchange went, in seconds. A part that there was not is 0.

    Attributes:
      waiting: for a connection, a dial included.
      name, connect, proxy, tls: of the dial, when the connection was made for this request or just before,
        and this is its first exchange: finding the addresses, TCP, what a proxy wanted, the TLS handshake.
      first_byte: from having the connection to the first byte of an answer; the sending is in it.
      total: from asking for a connection to the end of the response; of a streamed one, to its head.
    """

    waiting: float
    name: float
    connect: float
    proxy: float
    tls: float
    first_byte: float
    total: float


def timings_of(asked: float, leased: float, first_byte: float, end: float, dial: DialTimes | None) -> Timings:
    """Return the timings between moments of trio's clock.

    Args:
      dial: of the connection, if this was its first exchange.
    """
    moments = [] if dial is None else [dial.resolved, dial.connected, dial.proxied, dial.secured]
    steps = [0.0, 0.0, 0.0, 0.0]
    before = None if dial is None else dial.started
    for number, moment in enumerate(moments):
        if moment is not None and before is not None:
            steps[number] = moment - before
            before = moment
    name, connect, proxy, tls = steps
    return Timings(
        waiting=leased - asked,
        name=name,
        connect=connect,
        proxy=proxy,
        tls=tls,
        first_byte=max(0.0, first_byte - leased),
        total=end - asked,
    )
