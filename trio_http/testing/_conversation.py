"""A stream as a script sees it: what came and was not expected yet, and the rougher ways to end it.

Trio's streams offer no reset, and no way to know that a byte has left in a segment of its own. What it takes
for either depends on what lies beneath: this file is the only place that knows which kinds there are.
"""

from __future__ import annotations

import math
import socket
import struct
import sys
import time
from typing import Final, Protocol, runtime_checkable

import trio
import trio.testing

# Seconds without work after which a program that speaks over sockets counts as quiet; what is on its way
# through the kernel takes some thousandth of that on the loopback interface. Arbitrary.
SOCKET_CUSHION: Final = 0.01

# The same between two bytes that are sent one by one: there are many of them. Arbitrary.
_BYTE_CUSHION: Final = 0.001

# Seconds until a byte must have left; a peer that receives nothing delays it for good. Arbitrary.
_LEAVES_WITHIN: Final = 5

# "How much was not sent yet" of linux/sockios.h, which the standard library has no name for.
_SIOCOUTQNSD: Final = 0x894B


class ScriptFailed(AssertionError):
    """The other side has not done what a script expects. The text has the place, what was expected, and what
    came.

    Attributes:
      gone: it has ended or broken the connection, and so maybe only followed somebody else's failure. False:
        it has sent something else.
    """

    def __init__(self, text: str, *, gone: bool = False) -> None:
        super().__init__(text)
        self.gone = gone


@runtime_checkable
class _Resettable(Protocol):
    """What knows by itself how to break off, as `MemoryStream` does."""

    def reset(self) -> object: ...


class Conversation:
    """One end of a stream, and what was received from it.

    Attributes:
      stream: our end.
      received: everything so far.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.received = bytearray()
        self._taken = 0

    # -------------------------------------------------------------------------------------------- receiving

    def rest(self) -> bytes:
        """Return what was received and has not been expected yet."""
        return bytes(self.received[self._taken :])

    def take(self, size: int) -> None:
        """Count so many bytes of the rest as expected."""
        self._taken += size

    async def receive(self) -> bytes:
        """Receive more; the rest grows by it. Empty: the stream has ended."""
        data = bytes(await self.stream.receive_some())
        self.received += data
        return data

    # ---------------------------------------------------------------------------------------------- sending

    async def send_apart(self, data: bytes) -> None:
        """Send one byte, and see that it goes by itself.

        In memory, and to a task of this very program, the other side has received it when this returns, if
        it receives at all.

        Raises:
          ScriptFailed: it has not left within five seconds, because the other side receives nothing; the next
            one would have gone with it.
        """
        await self.stream.send_all(data)
        sock = _socket_beneath(self.stream)
        if sock is None:
            await trio.testing.wait_all_tasks_blocked()
            return
        until = time.monotonic() + _LEAVES_WITHIN  # the kernel's time goes on when trio's clock does not
        while _unsent(sock):
            if time.monotonic() > until:
                raise ScriptFailed(
                    f"  expected: a peer that receives each byte\n"
                    f"  got:      {_LEAVES_WITHIN} s in which {data!r} could not leave"
                )
            await trio.testing.wait_all_tasks_blocked(_BYTE_CUSHION)
        await trio.testing.wait_all_tasks_blocked(_BYTE_CUSHION)

    async def send_eof(self) -> None:
        """End the sending direction.

        Raises:
          TypeError: the stream cannot.
        """
        send_eof = getattr(self.stream, "send_eof", None)
        if send_eof is None:
            raise TypeError(
                f"a {type(self.stream).__name__} cannot be half-closed; expected a HalfCloseableStream"
            )
        await send_eof()

    async def wait_until_quiet(self, cushion: float | None) -> None:
        """Wait until nothing has happened in this program for ``cushion`` seconds of real time."""
        if cushion is None:
            cushion = SOCKET_CUSHION if _socket_beneath(self.stream) is not None else 0
        await trio.testing.wait_all_tasks_blocked(cushion)

    # ----------------------------------------------------------------------------------------------- ending

    async def close(self) -> None:
        """Close it as its class does; under TLS with a closure alert."""
        await self.stream.aclose()

    async def cut(self) -> None:
        """Close what lies beneath: the other side sees an end that TLS has not announced."""
        await innermost(self.stream).aclose()

    async def reset(self) -> None:
        """Break the connection; one that cannot be reset is closed by force.

        Cancellation: it is broken all the same.
        """
        if not self.break_off():
            await trio.aclose_forcefully(self.stream)

    def break_off(self) -> bool:
        """Break the connection now; tell whether that is possible without a wait."""
        beneath = innermost(self.stream)
        if isinstance(beneath, _Resettable):
            beneath.reset()
            return True
        sock = _socket_beneath(beneath)
        if sock is None:
            return False
        if sock.fileno() != -1:
            # Zero seconds to linger: the close is abortive, and sends RST (POSIX, SO_LINGER).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        return True


def innermost(stream: trio.abc.AsyncResource) -> trio.abc.AsyncResource:
    """Return the stream that is beneath all TLS."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream


def close_now(stream: trio.abc.AsyncResource) -> None:
    """Close a stream in memory or over a socket, TLS or not, without a wait and without an alert."""
    beneath = innermost(stream)
    sock = _socket_beneath(beneath)
    close = getattr(beneath, "close", None) if sock is None else sock.close
    if close is None:
        raise TypeError(f"a {type(beneath).__name__} cannot be closed without a wait")
    close()


def _socket_beneath(stream: trio.abc.AsyncResource) -> trio.socket.SocketType | None:
    """Return the socket that carries a stream; None: there is none."""
    beneath = innermost(stream)
    return beneath.socket if isinstance(beneath, trio.SocketStream) else None


def _unsent(sock: trio.socket.SocketType) -> int:
    """Return how many bytes the kernel holds back; 0 also where it does not say.

    What was sent but not acknowledged does not count: acknowledging may take its 40 ms, and on the loopback
    interface the peer has it by then. A Unix socket holds nothing back: its peer has what was sent.
    """
    if sys.platform != "linux" or sock.fileno() == -1 or sock.family == socket.AF_UNIX:
        return 0
    import fcntl  # deferred import: Windows has none

    counted = bytearray(4)
    try:
        fcntl.ioctl(sock.fileno(), _SIOCOUTQNSD, counted)
    except OSError:
        return 0  # a sandbox that pretends to be Linux
    return int.from_bytes(counted, sys.byteorder)


def check_seconds(seconds: float, name: str = "seconds") -> None:
    """See that a number is a time to wait."""
    if not seconds >= 0 or math.isinf(seconds):
        raise ValueError(f"{name} must be at least 0 and finite, got {seconds}")
