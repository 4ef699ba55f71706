"""Lingering: the end of a connection on which the client may still be sending."""

from __future__ import annotations

import trio

from trio_http.transport import Transport

from ._config import ServerConfig


async def linger(transport: Transport, config: ServerConfig) -> None:
    """Say that we send no more, and read on for a while, so that the client gets what was sent to it.

    A close while bytes of the client's are unread, or on their way, becomes a reset that may overtake our
    answer (RFC 9112 §9.6). Bounded in bytes and in time by ``config``. The transport is not closed here. Over
    one that cannot half-close the client is not told that we send no more; it sees so by the answer.

    Cancellation: our sending may have ended; nothing else has changed.
    """
    left = config.linger_bytes
    with trio.move_on_after(config.times.linger):
        try:
            if transport.can_half_close:  # another one would be closed by it, and the answer lost
                await transport.send_eof()
            while left > 0 and (data := await transport.receive()):
                left -= len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has gone, or the server stops: there is nobody left to wait for
