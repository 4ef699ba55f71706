"""Heads and bodies as they go out.

What is written was checked when it was built (`Headers`, the events) or is checked by the engine, so a writer only joins. A
body writer stands guard over its framing: it refuses what would make the peer read another message than ours.
"""

from __future__ import annotations

import http
from collections.abc import Sequence
from typing import Any, Final

from ._errors import LocalProtocolError
from ._grammar import CRLF
from ._headers import Headers

REASONS: Final[dict[int, bytes]] = {status.value: status.phrase.encode() for status in http.HTTPStatus}
STATUS_LINES: Final[dict[int, bytes]] = {
    status: b"HTTP/1.1 %d %s\r\n" % (status, reason) for status, reason in REASONS.items()
}


def write_request_head(method: bytes, target: bytes, headers: Headers) -> bytes:
    """Return the head of a request (RFC 9112 §3)."""
    return b"%s %s HTTP/1.1\r\n%s\r\n" % (method, target, headers.block)


def write_response_head(status_code: int, reason: bytes, headers: Headers) -> bytes:
    """Return the head of a response; the space before an empty reason stays (RFC 9112 §4)."""
    return b"HTTP/1.1 %d %s\r\n%s\r\n" % (status_code, reason, headers.block)


class LengthWriter:
    """A body of a declared length, which may be 0.

    Args:
      length: bytes, at least 0.
    """

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def data(self, data: Any) -> list[Any]:
        """Return what to send for a piece of the body, which stands in it as the object it is."""
        length = len(data)
        if length > self._left:
            raise LocalProtocolError(
                f"too much data for the declared Content-Length: {length} bytes where {self._left} are left",
                section="RFC 9112 §6.2",
            )
        self._left -= length
        return [data]

    def end(self, trailers: Headers) -> bytes:
        """Return what to send at the end of the body."""
        if self._left:
            raise LocalProtocolError(
                f"too little data for the declared Content-Length: {self._left} bytes are missing",
                section="RFC 9112 §6.2",
            )
        if trailers:
            raise LocalProtocolError("trailers need the chunked coding", section="RFC 9112 §7.1.2")
        return b""


class ChunkedWriter:
    """A body in the chunked transfer coding: a chunk for each piece (RFC 9112 §7.1)."""

    __slots__ = ()

    def data(self, data: Any) -> list[Any]:
        """Return what to send for a piece; nothing for an empty one, since an empty chunk would end the body."""
        length = len(data)
        return [b"%x\r\n" % length, data, CRLF] if length else []

    def end(self, trailers: Headers) -> bytes:
        """Return the last chunk with the trailer section."""
        return b"0\r\n%s\r\n" % trailers.block if trailers else b"0\r\n\r\n"


class CloseDelimitedWriter:
    """A body that ends with the connection (RFC 9112 §6.3), for HTTP/1.0 clients."""

    __slots__ = ()

    def data(self, data: Any) -> list[Any]:
        """Return what to send for a piece."""
        return [data]

    def end(self, trailers: Headers) -> bytes:
        """Return nothing: the caller's close is the end."""
        if trailers:
            raise LocalProtocolError("trailers cannot be sent to an HTTP/1.0 client", section="RFC 9112 §7.1.2")
        return b""


BodyWriter = LengthWriter | ChunkedWriter | CloseDelimitedWriter


def join(pieces: Sequence[Any]) -> bytes:
    """Return the pieces as one byte string."""
    return b"".join(pieces)
