"""Blocks in which a handler says what may interrupt it: the drain of the server, or not even a disconnect."""

from __future__ import annotations

from types import TracebackType

import trio

from ._handler_scope import HandlerScope


class Finish:
    """A block that a disconnect or a drain does not cancel; see `Request.finish`.

    Args:
      handlers: the scope in which the handler runs.
      within: how long the cancel may be held back, in seconds.
    """

    __slots__ = ("_before", "_handlers", "_within")

    def __init__(self, handlers: HandlerScope, within: float) -> None:
        self._handlers = handlers
        self._within = within
        self._before = 0.0

    def __enter__(self) -> None:
        self._before = self._handlers.hold(trio.current_time() + self._within)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._handlers.release(self._before, trio.current_time())


class DrainScope:
    """A block that the drain of the server cancels; see `Request.cancel_on_drain`.

    Args:
      handlers: the scope in which the handler runs.
    """

    __slots__ = ("_handlers", "_scope")

    def __init__(self, handlers: HandlerScope) -> None:
        self._handlers = handlers
        self._scope = trio.CancelScope()

    def __enter__(self) -> trio.CancelScope:
        scope = self._scope.__enter__()
        self._handlers.add_drain(scope, trio.current_time())
        return scope

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._handlers.remove_drain(self._scope)
        return self._scope.__exit__(exc_type, exc, traceback)
