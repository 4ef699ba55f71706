"""Heads and bodies as they go out.

What is written was checked when it was built (`Headers`, the events) or is checked by the engine, so a writer
only joins. A body writer stands guard over its framing: it refuses what would make the peer read another
message than ours.
"""

from __future__ import annotations

from typing import Any, Final

from ._errors import LocalProtocolError
from ._grammar import CRLF, NO_TRAILER_NAMES, REASONS
from ._headers import Headers


def status_line(status_code: int, reason: bytes) -> bytes:
    """Return a status line with its CRLF; the space before an empty reason stays (RFC 9112 §4)."""
    return b"HTTP/1.1 %d %s\r\n" % (status_code, reason)


# Nearly every response has the registered reason or none; to look its line up costs a third of writing it.
STATUS_LINES: Final[dict[tuple[int, bytes], bytes]] = {
    (status, reason): status_line(status, reason)
    for status, phrase in REASONS.items()
    for reason in (phrase, b"")
}


def write_request_head(method: bytes, target: bytes, block: bytes) -> bytes:
    """Return the head of a request (RFC 9112 §3), its field lines given as a block."""
    if block[:5].lower() != b"host:":
        # RFC 9110 §7.2 wants Host first. A stable sort leaves the order of all others as it is.
        lines: list[bytes] = block.splitlines(keepends=True)
        lines.sort(key=lambda line: line[:5].lower() != b"host:")
        block = b"".join(lines)
    return b"%s %s HTTP/1.1\r\n%s\r\n" % (method, target, block)


class LengthWriter:
    """A body of a declared length, which may be 0.

    One serves all the messages of a connection, one after the other.

    Attributes:
      left: bytes still to come, at least 0; to be set to the length when a body begins.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = 0

    def data(self, data: Any) -> list[Any]:
        """Return what to send for a piece of the body, which stands in it as the object it is."""
        length = len(data)
        if length > self.left:
            raise LocalProtocolError(
                f"too much data for the declared Content-Length: {length} bytes where {self.left} are left",
                section="RFC 9112 §6.2",
            )
        self.left -= length
        return [data]

    def end(self, trailers: Headers) -> bytes:
        """Return what to send at the end of the body."""
        if self.left:
            raise LocalProtocolError(
                f"too little data for the declared Content-Length: {self.left} bytes are missing",
                section="RFC 9112 §6.2",
            )
        if trailers.items:
            raise LocalProtocolError("trailers need the chunked coding", section="RFC 9112 §7.1.2")
        return b""


class ChunkedWriter:
    """A body in the chunked transfer coding: a chunk for each piece (RFC 9112 §7.1)."""

    __slots__ = ()

    def data(self, data: Any) -> list[Any]:
        """Return what to send for a piece; nothing for an empty one, since an empty chunk would end the
        body."""
        length = len(data)
        return [b"%x\r\n" % length, data, CRLF] if length else []

    def end(self, trailers: Headers) -> bytes:
        """Return the last chunk with the trailer section."""
        if not trailers.items:
            return b"0\r\n\r\n"
        for name, _ in trailers:
            if name in NO_TRAILER_NAMES:
                raise LocalProtocolError(
                    f"field {name!r} in a trailer section, expected none that frames or routes",
                    section="RFC 9110 §6.5.1",
                )
        return b"0\r\n%s\r\n" % (trailers.sendable().block or b"")


class CloseDelimitedWriter:
    """A body that ends with the connection (RFC 9112 §6.3), for HTTP/1.0 clients."""

    __slots__ = ()

    def data(self, data: Any) -> list[Any]:
        """Return what to send for a piece."""
        return [data]

    def end(self, trailers: Headers) -> bytes:
        """Return nothing: the caller's close is the end."""
        if trailers.items:
            raise LocalProtocolError(
                "trailers cannot be sent to an HTTP/1.0 client", section="RFC 9112 §7.1.2"
            )
        return b""


BodyWriter = LengthWriter | ChunkedWriter | CloseDelimitedWriter
