"""The fields that go with every response: Server and Date, built once a second."""

from __future__ import annotations

import math
import time
from email.utils import formatdate

from trio_http import wire

from ._config import ServerConfig


class CommonFields:
    """Makes the fields that a response gets unless its handler gave them.

    Args:
      config: says which.
    """

    __slots__ = ("_config", "_fields", "_stale_at")

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._fields = self._made()
        self._stale_at = -math.inf if config.date else math.inf

    def at(self, now: float) -> wire.Headers:
        """Return the fields; the same object for about a second.

        Args:
          now: trio's time, which the caller knows already. The date itself is the wall clock's (RFC 9110
            §6.6.1).
        """
        if now >= self._stale_at:
            wall = time.time()
            self._fields = self._made(wall)
            self._stale_at = now + 1 - wall % 1  # when the date's second ends
        return self._fields

    def _made(self, wall: float | None = None) -> wire.Headers:
        fields = []
        if wall is not None:
            fields.append(("Date", formatdate(wall, usegmt=True)))
        if self._config.server_name is not None:
            fields.append(("Server", self._config.server_name))
        return wire.Headers(fields)
