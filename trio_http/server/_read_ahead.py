"""Noticing that a client went away where nothing but reading can tell.

A socket's end shows in the server's epoll. Other streams, TLS of others' making and memory streams among
them, and systems without epoll, tell only who reads. So when a handler has run for a while, and its request
is complete, a task reads on beside it, until the client's end, or until as much has come of its next requests
as one receive can bring: a client that has sent more hides its end behind that. All of it goes to the wire,
where the connection finds it afterwards.

It costs a task, and so is not begun for the many handlers that are done before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from trio_http.transport import RECEIVE_BYTES, Transport

logger = logging.getLogger("trio_http.server")

#: How long a handler runs before this begins, in seconds. Arbitrary: a task costs about as much as a small
#: exchange, so beside a handler of this length it does not show; and a person does not notice the delay.
DELAY: Final = 0.05


class ReadAhead:
    """Reads beside a handler, up to about one receive's worth, or to the end.

    Args:
      transport: where to read.
      receive_data: takes the bytes, ``b""`` at the end.
      on_hangup: is told of the client's end; with True when the connection broke.
    """

    __slots__ = ("_finished", "_on_hangup", "_receive_data", "_scope", "_transport")

    def __init__(
        self,
        transport: Transport,
        receive_data: Callable[[bytes], None],
        on_hangup: Callable[[bool], None],
    ) -> None:
        self._transport = transport
        self._receive_data = receive_data
        self._on_hangup = on_hangup
        self._scope = trio.CancelScope()
        self._finished = trio.Event()

    async def run(self) -> None:
        """Read. In a task of its own."""
        try:
            with self._scope:
                room = RECEIVE_BYTES
                while room > 0 and (data := await self._transport.receive()):
                    self._receive_data(data)
                    room -= len(data)
                if room > 0:
                    self._receive_data(b"")
                    self._on_hangup(False)
        except trio.ClosedResourceError:
            pass  # by us, so the client has not gone
        except trio.BrokenResourceError:
            self._on_hangup(True)
        except Exception:
            # A foreign stream's own: it ends this connection, not the server. Caught outside the scope, for
            # only its exit takes the cancel out of a group.
            logger.exception("reading ahead on %r failed", self._transport)
            self._on_hangup(True)
        finally:
            self._finished.set()

    async def stop(self) -> None:
        """Read no more. Whoever reads from the transport next must wait for this.

        Cancellation: it has been told to stop, but may not have done so yet.
        """
        self._scope.cancel()
        await self._finished.wait()
