"""Blocks in which a handler says what may interrupt it: the drain of the server, or not even a disconnect."""

from __future__ import annotations

from types import TracebackType

import trio

from ._link import Link


class Finish:
    """A block that a disconnect or a drain does not cancel; see `Request.finish`.

    Args:
      link: the connection whose handler it is.
      within: how long the cancel may be held back, in seconds.
    """

    __slots__ = ("_link", "_until", "_within")

    def __init__(self, link: Link, within: float) -> None:
        self._link = link
        self._within = within
        self._until = 0.0

    def __enter__(self) -> None:
        self._until = trio.current_time() + self._within
        self._link.handlers.hold(self._until)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        link = self._link
        link.handlers.release(self._until, trio.current_time())
        link.shared.ticker.watch(link)  # another block, which goes on, may have less time than this one had


class DrainScope:
    """A block that the drain of the server cancels; see `Request.cancel_on_drain`.

    Args:
      link: the connection whose handler it is.
    """

    __slots__ = ("_link", "_scope")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._scope = trio.CancelScope()

    def __enter__(self) -> trio.CancelScope:
        scope = self._scope.__enter__()
        link = self._link
        link.handlers.add_drain(scope)
        if link.shared.draining:
            link.handlers.drain(trio.current_time())
            link.shared.ticker.watch(link)  # within a `Finish`, it is due only later
        return scope

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._link.handlers.remove_drain(self._scope)
        return self._scope.__exit__(exc_type, exc, traceback)
