"""What can go wrong on the wire, sorted by whose fault it is.

`LocalProtocolError` is ours: the caller asked for bytes that HTTP does not allow. `RemoteProtocolError` is
the peer's: its bytes are no HTTP, or HTTP that we refuse. Both carry facts, so that a server can answer and a
log can explain.
"""

from __future__ import annotations

from typing import Any

# How much of an offending byte string a message shows. Arbitrary: a line of a log, and never a whole hostile
# head.
SHOWN_BYTES = 60


class ProtocolError(Exception):
    """A rule of HTTP/1.1 was broken; the base of the two errors below, never raised itself.

    Args:
      msg: what was wrong, what came, and what was expected.
      error_status_hint: the status code with which a server may answer, 400-599.
      section: the rule, as in ``"RFC 9112 §5.1"``; empty when it is this library's rule rather than the
        RFC's.
    """

    def __init__(self, msg: str, error_status_hint: int = 400, *, section: str = "") -> None:
        if type(self) is ProtocolError:
            raise TypeError("ProtocolError is abstract: raise LocalProtocolError or RemoteProtocolError")
        super().__init__(msg)
        self.error_status_hint = error_status_hint
        self.section = section

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} ({self.section})" if self.section else text

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own pickling would call the class with `args` alone and lose both facts.
        return type(self), (*self.args[:1], self.error_status_hint), {"section": self.section}


class LocalProtocolError(ProtocolError):
    """You asked for something that HTTP/1.1 forbids; nothing of it was written.

    After one from ``send``, our state is ERROR and this connection can send nothing more. An event's
    constructor raises it too, and then no connection was touched.
    """


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol, or a limit; its state is ERROR from here on, and nothing more can be
    received.

    A server whose own state is IDLE or SEND_RESPONSE may still answer, with ``error_status_hint``, and must
    then close.
    """


def shown(data: bytes | bytearray) -> str:
    """Return ``data`` as it may stand in an error's text: its repr, cut at `SHOWN_BYTES`."""
    if len(data) <= SHOWN_BYTES:
        return repr(bytes(data))
    return f"{bytes(data[:SHOWN_BYTES])!r}... ({len(data)} bytes)"
