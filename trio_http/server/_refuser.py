"""Saying no to connections beyond the limit, cheaply."""

from __future__ import annotations

import logging
from typing import Final

import trio

from trio_http.transport import Transport
from trio_http.wire import SERVER, MessageConnection

from ._linger import linger
from ._shared import Shared

logger = logging.getLogger("trio_http.server")

#: How many that were refused may linger at once, for their clients to take the answer. Beyond that they are
#: closed at once, and some will see a reset. Arbitrary: few enough that their descriptors do not matter.
_LINGERING: Final = 64


class Refuser:
    """Answers 503 to connections for which there is no room (RFC 9110 §15.6.4).

    The answer goes out without the request having been looked at, so that it costs next to nothing.

    Args:
      shared: of the server.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._under_way: dict[trio.CancelScope, None] = {}  # in the order of their beginning
        self._stopped = False

    def __len__(self) -> int:
        """The number of connections that are being refused."""
        return len(self._under_way)

    def stop(self) -> None:
        """End what lingers; answer nobody any more."""
        self._stopped = True
        for scope in self._under_way:
            scope.cancel(reason="drain")

    def refuse(self, transport: Transport, nursery: trio.Nursery) -> None:
        """Answer and close, in a task of ``nursery``; ``transport`` is ours from now on."""
        scope = trio.CancelScope(deadline=trio.current_time() + self._shared.config.times.linger)
        nursery.start_soon(self._refuse, transport, scope)
        self._under_way[scope] = None  # from now on, for a shutdown must wait for it
        if self._stopped:
            scope.cancel(reason="drain")

    async def _refuse(self, transport: Transport, scope: trio.CancelScope) -> None:
        config = self._shared.config
        try:
            with scope:
                await transport.send_all(self._answer())
                if len(self._under_way) <= _LINGERING:
                    # A close while the request is on its way would reset the answer away (RFC 9112 §9.6).
                    await linger(transport, config)
                await transport.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except Exception:  # a foreign stream's own: it ends this connection, not the server
            logger.exception("refusing a connection on %r failed", transport)
        finally:
            await transport.aclose_forcefully()
            self._under_way.pop(scope, None)
            self._shared.on_closed()

    def _answer(self) -> bytes:
        return MessageConnection(SERVER).send_response(
            503,
            [("Content-Type", "text/plain; charset=utf-8"), ("Retry-After", "1"), ("Connection", "close")],
            b"503 Service Unavailable\n",
            common=self._shared.common.at(trio.current_time()),
        )
