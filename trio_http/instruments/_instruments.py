"""The collection of instruments that a server or a client calls, and the interface of a server's.

An instrument is called in the tasks of who is watched, between one step of an exchange and the next. So it
is synchronous, and what it does is added to the time of every exchange. In return its calls are in order, and
nothing is lost between them: an exchange that has started is finished exactly once, a connection that was
opened is closed exactly once, and its last exchange is finished before that.

A broken instrument must not break who is watched: what it raises is logged, and from then on it is left out,
as Trio does with its own.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from trio_http._kinds import check_all
from trio_http.transport import Address

from ._records import CloseRecord, ConnectionRecord, ExchangeRecord

logger = logging.getLogger("trio_http.instruments")

Hook: TypeAlias = tuple[object, Callable[..., None]]


class InstrumentCollection:
    """All instruments of one server or client, called one after the other, each kept from harming the
    others.

    False when there is none left to call: ``if instruments:`` is all that a server or client without any
    pays.

    Args:
      kind: what each instrument has to be an instance of, and whose own methods do nothing.
      hooks: the names of the methods.
      instruments: in the order in which they are called.

    Attributes:
      watches_starts, watches_exchanges: somebody wants to know of the beginnings, or ends, of exchanges, so
        that a record is worth making.

    Raises:
      TypeError: something is no instrument, or one has an ``async`` method, which nobody would await.
      ValueError: one is given twice, and would count everything twice.
    """

    __slots__ = ("_hooks", "watches_exchanges", "watches_starts")

    def __init__(self, kind: type, hooks: Iterable[str], instruments: Iterable[object]) -> None:
        self._hooks: dict[str, tuple[Hook, ...]] = {}
        given: list[object] = []
        for instrument in check_all("instruments", instruments, kind, "list"):
            if any(instrument is other for other in given):
                raise ValueError(f"{instrument!r} is given twice")
            given.append(instrument)
        for name in hooks:
            self._hooks[name] = tuple(
                (instrument, method)
                for instrument in given
                if (method := _overridden(kind, instrument, name)) is not None
            )
        self._look()

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def _look(self) -> None:
        """Forget the hooks that nobody has any more."""
        self._hooks = {name: hooks for name, hooks in self._hooks.items() if hooks}
        self.watches_starts = "exchange_started" in self._hooks
        self.watches_exchanges = "exchange_finished" in self._hooks or "handler_failed" in self._hooks

    def _call(self, name: str, *args: Any) -> None:
        for instrument, method in self._hooks.get(name, ()):
            try:
                method(*args)
            except Exception:
                logger.exception("%r failed in %s, and is left out from now on", instrument, name)
                self._drop(instrument)

    def _drop(self, instrument: object) -> None:
        # New tuples, for `_call` is going through the old ones.
        for name, hooks in self._hooks.items():
            self._hooks[name] = tuple(hook for hook in hooks if hook[0] is not instrument)
        self._look()


def _overridden(kind: type, instrument: object, name: str) -> Callable[..., None] | None:
    """Return an instrument's own method, or None when it has the base's, which does nothing."""
    method: Callable[..., None] = getattr(instrument, name)
    if getattr(method, "__func__", None) is getattr(kind, name):
        return None
    if inspect.iscoroutinefunction(method):
        raise TypeError(f"{name} of {instrument!r} is async; instruments are called, not awaited")
    return method


class ServerInstrument:
    """What a server tells those who watch it; give them as ``ServerConfig(instruments=[...])``.

    Override what you want to know; the rest is not called at all. The methods must not block, for all
    connections wait meanwhile. One that raises an `Exception` is logged, and its instrument is dropped; a
    KeyboardInterrupt or SystemExit passes.
    """

    __slots__ = ()

    def connection_opened(self, connection: ConnectionRecord) -> None:
        """Be told of a connection, before its first exchange; under TLS after the handshake."""

    def connection_closed(self, closing: CloseRecord) -> None:
        """Be told of the end of a connection that was opened, after that of its last exchange."""

    def connection_refused(self, peername: Address, why: str) -> None:
        """Be told of a connection that was never opened: shed before any request, or failed in its handshake.

        Args:
          peername: where it came from.
          why: in a few words, of which those before a colon are one of few.
        """

    def exchange_started(self, connection: ConnectionRecord, number: int, method: str, target: str) -> None:
        """Be told that the head of a request has come, before its handler is called.

        Args:
          connection: the connection that it came on.
          number: which exchange of the connection it is, from 1.
          method: as written.
          target: the request target as written. The peer's words.
        """

    def exchange_finished(self, exchange: ExchangeRecord) -> None:
        """Be told of the end of an exchange: its answer is sent, or never will be.

        What never became a request, such as a head that broke the protocol, is no exchange; the end of its
        connection tells of it.
        """

    def handler_failed(self, exchange: ExchangeRecord) -> None:
        """Be told of a handler's failure, before the end of its exchange.

        One call an exchange, with everything that went wrong in it: ``exchange.error`` is the group, when
        there were several, as it left the handler. It is never None here.
        """


_HOOKS: Final = (
    "connection_opened",
    "connection_closed",
    "connection_refused",
    "exchange_started",
    "exchange_finished",
    "handler_failed",
)


class Instruments(InstrumentCollection):
    """All instruments of one server; see `InstrumentCollection`.

    Args:
      instruments: in the order in which they are called.

    Raises: as `InstrumentCollection`.
    """

    __slots__ = ()

    def __init__(self, instruments: Iterable[ServerInstrument] = ()) -> None:
        super().__init__(ServerInstrument, _HOOKS, instruments)

    def connection_opened(self, connection: ConnectionRecord) -> None:
        """Tell all, as `ServerInstrument.connection_opened` says; so do the methods that follow."""
        self._call("connection_opened", connection)

    def connection_closed(self, closing: CloseRecord) -> None:
        self._call("connection_closed", closing)

    def connection_refused(self, peername: Address, why: str) -> None:
        self._call("connection_refused", peername, why)

    def exchange_started(self, connection: ConnectionRecord, number: int, method: str, target: str) -> None:
        self._call("exchange_started", connection, number, method, target)

    def exchange_finished(self, exchange: ExchangeRecord) -> None:
        """Tell all of the end of an exchange, and before that, when it has an error, of its failure."""
        if exchange.error is not None:
            self._call("handler_failed", exchange)
        self._call("exchange_finished", exchange)
