"""The PROXY protocol: a header in front of the first byte, by which a proxy tells who the client is.

Theory of operation
===================

A proxy that passes bytes on without looking into them (or that ends TLS and is no HTTP proxy) begins each
connection with one header: a line of text in version 1, a block of bytes in version 2. What follows is the
client's own bytes, TLS or HTTP. The source of all rules here is "The PROXY protocol, Versions 1 & 2", which
HAProxy publishes; "spec §" below is a section of that.

Three rules shape the code:

1. *Never guess* (spec §2). Whether a header comes is a matter of configuration; a peer that may send one but
   need not could pass for anybody. So a connection whose first bytes are no header is refused, at the first
   byte that cannot belong to one.
2. *Not a byte more* is taken than the header has: what follows is read by others. A header of version 1 does
   not say how long it is, so `read_proxy_header` peeks, and takes what the parser found to belong to the
   header. While the end is not in sight, all that was peeked belongs to it and is taken, so that the next
   wait is for new bytes, and not a busy loop over old ones.
3. *What is malformed is refused*, and so is what has no single meaning: a repeated TLV, a wrong checksum.

The one hard case is a block whose addresses are of a kind unknown to us or of no concern (LOCAL, UNSPEC). How
long its addresses are is not known, so neither is where its TLVs begin. It is skipped as a whole, as the spec
asks, and its checksum with it.
"""

from __future__ import annotations

import re
import socket
from typing import Final

import trio

from ._proxy_header import V1_START, V2_FIXED_BYTES, V2_SIGNATURE, ProxyHeader, parse_v1, parse_v2

#: The longest line of version 1, with its CRLF (spec §2.1).
MAX_V1_BYTES: Final = 107
#: The longest header of version 2 that we take. Its length field allows 65,551; it is made to fit into one
#: segment of 536 bytes, and certificate names can make it longer. Precedent: nginx 4096.
MAX_HEADER_BYTES: Final = 4096

# A line's end is CRLF, and neither of the two stands alone (spec §2.1).
_V1_LINE: Final = re.compile(rb"[^\r\n]*(\r\n)?")


class ProxyProtocolError(ValueError):
    """What came is no PROXY protocol header, or not all of one. The connection can only be aborted."""


class ProxyHeaderParser:
    """Finds and reads one header in bytes that come in pieces. No I/O.

    Args:
      max_bytes: the longest header taken, 16 or more; a line of version 1 has at most 107 whatever this says.

    Attributes:
      header: the header, once all of it is here; None before.
    """

    __slots__ = ("_buffer", "_max_bytes", "header")

    def __init__(self, max_bytes: int = MAX_HEADER_BYTES) -> None:
        if max_bytes < V2_FIXED_BYTES:
            raise ValueError(f"max_bytes must be at least {V2_FIXED_BYTES}, got {max_bytes}")
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self.header: ProxyHeader | None = None

    def feed(self, data: bytes) -> int:
        """Take what belongs to the header.

        Args:
          data: what follows the bytes that earlier calls have taken; any length, more than the header too.

        Returns:
          How many bytes of ``data``, from its start, belong to the header: all of them while its end has not
          come; 0 once `header` is there.

        Raises:
          ProxyProtocolError: the bytes are no header, as soon as that is certain; again in every later call.
        """
        if self.header is not None:
            return 0
        buffer, before = self._buffer, len(self._buffer)
        # No more than the longest header is ever looked at, whatever was sent with it.
        buffer += data[: max(self._max_bytes, MAX_V1_BYTES, before) - before]
        end = self._end()
        if end is None:
            return len(data)
        header = bytes(buffer[:end])
        try:
            self.header = parse_v1(header) if header[:1] == b"P" else parse_v2(header)
        except ValueError as exc:
            raise ProxyProtocolError(f"malformed PROXY header: {exc}") from exc
        return end - before

    def _end(self) -> int | None:
        """Return the length of the header, or None while more must come to know it or to have it all."""
        buffer = self._buffer
        if not buffer:
            return None
        if buffer.startswith(V1_START[: len(buffer)]):
            return self._v1_end()
        if not buffer.startswith(V2_SIGNATURE[: len(buffer)]):
            raise ProxyProtocolError(f"expected a PROXY protocol header, got {bytes(buffer[:16])!r}")
        if len(buffer) > 12 and buffer[12] not in (0x20, 0x21):
            raise ProxyProtocolError(
                f"PROXY header with version and command {buffer[12]:#04x}, expected 0x20 or 0x21 (spec §2.2)"
            )
        if len(buffer) < V2_FIXED_BYTES:
            return None
        length = V2_FIXED_BYTES + int.from_bytes(buffer[14:16], "big")
        if length > self._max_bytes:
            raise ProxyProtocolError(f"PROXY header of {length} bytes, at most {self._max_bytes} are taken")
        return length if length <= len(buffer) else None

    def _v1_end(self) -> int | None:
        line = bytes(self._buffer[:MAX_V1_BYTES])
        found = _V1_LINE.match(line)
        length = found.end() if found else 0
        if found and found[1]:
            return length
        if line[length:] not in (b"", b"\r"):
            raise ProxyProtocolError(f"PROXY line {line!r} with a CR or LF alone (spec §2.1)")
        if len(line) == MAX_V1_BYTES:
            raise ProxyProtocolError(
                f"PROXY line without an end in its first {MAX_V1_BYTES} bytes (spec §2.1)"
            )
        return None


async def read_proxy_header(sock: socket.socket, *, max_bytes: int = MAX_HEADER_BYTES) -> ProxyHeader:
    """Wait for the PROXY protocol header that a connection begins with, and take it, and not a byte more.

    How long that may take is for the caller to bound; spec §2 wants a few seconds, and at least 3, to let a
    lost segment come again. Always a checkpoint.

    Args:
      sock: a connected stream socket, non-blocking, from which nothing was read yet. It stays the caller's.
      max_bytes: the longest header taken.

    Raises:
      ProxyProtocolError: the peer has sent something else, or ended the stream within the header.
      trio.BrokenResourceError: the connection was reset, or broke.
      trio.ClosedResourceError: the socket was closed by our side.
      trio.BusyResourceError: another task waits to read from the socket.

    Cancellation: a part of the header may have been taken, and nobody has it: close the socket.
    """
    parser = ProxyHeaderParser(max_bytes)
    while parser.header is None:
        if sock.fileno() < 0:
            raise trio.ClosedResourceError("this socket was closed by our side")
        await trio.lowlevel.wait_readable(sock)
        peeked = _receive(sock, max_bytes, socket.MSG_PEEK)
        if peeked is None:
            continue  # the kernel may wake us for nothing
        if not peeked:
            raise ProxyProtocolError("the connection ended before the end of its PROXY header")
        used = parser.feed(peeked)
        if _receive(sock, used) != peeked[:used]:
            # Cannot happen while we are the only reader, since these bytes were there. If it did and passed
            # unnoticed, the rest of the header would be taken for the client's.
            raise trio.BrokenResourceError("another reader has taken bytes of the PROXY header")
    return parser.header


def _receive(sock: socket.socket, max_bytes: int, flags: int = 0) -> bytes | None:
    """Return what is here, or None when that is nothing."""
    try:
        return sock.recv(max_bytes, flags)
    except BlockingIOError:
        return None
    except OSError as exc:
        if sock.fileno() < 0:
            raise trio.ClosedResourceError("this socket was closed by our side") from exc
        raise trio.BrokenResourceError(f"the connection broke within its PROXY header: {exc}") from exc
