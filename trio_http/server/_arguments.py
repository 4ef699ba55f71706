"""What the serve functions are given, looked at before anything is opened.

A handler that takes no request, or a context that is none, would otherwise show with the first client, as a
500 or a failed handshake, and only to who reads the log.
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Iterable
from typing import Any

import trio

from ._config import ServerConfig


def check_handler(handler: object) -> None:
    """Refuse what cannot answer a request.

    Whether a plain function returns an awaitable shows only when it is called, so it passes.

    Raises:
      TypeError: it is not callable, wants other arguments than a request, or yields.
    """
    if inspect.iscoroutine(handler):
        name = handler.__name__
        handler.close()  # or Python warns that it was never awaited, beside this
        raise TypeError(
            f"the handler must be an async function, not its coroutine: {name} instead of {name}(...)"
        )
    if not callable(handler):
        raise TypeError(f"the handler must be an async function, not {handler!r}")
    if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
        raise TypeError(
            f"the handler {_name(handler)} yields; it must return a Response, or use Request.stream_response"
        )
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return  # written in C, mostly
    try:
        signature.bind(None)
    except TypeError as exc:
        raise TypeError(f"the handler {_name(handler)} must take one argument, the request: {exc}") from None


def check_config(config: object) -> None:
    """Refuse what is no configuration.

    Raises:
      TypeError: it is none.
    """
    if not isinstance(config, ServerConfig):
        raise TypeError(f"config must be a ServerConfig, not {config!r}: config=ServerConfig(...)")


def check_context(context: object) -> None:
    """Refuse what is no TLS context.

    Raises:
      TypeError: it is none. Not even None is: it would mean to speak plainly on a port that is meant for TLS.
    """
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(
            f"ssl_context must be an ssl.SSLContext, as trio_http.server_context makes one, not {context!r}"
        )


def checked_listeners(listeners: Iterable[trio.abc.Listener[Any]]) -> tuple[trio.abc.Listener[Any], ...]:
    """Return the listeners, once each is known to be one.

    Raises:
      TypeError: one is none: a socket, say, whose ``accept`` would stop the whole program.
      ValueError: there are none.
    """
    if isinstance(listeners, trio.abc.Listener) or not isinstance(listeners, Iterable):
        raise TypeError(f"expected a list of listeners, not {listeners!r}; for a single one there is [...]")
    listeners = tuple(listeners)
    for listener in listeners:
        if not isinstance(listener, trio.abc.Listener):
            raise TypeError(
                f"expected a trio.abc.Listener, not {listener!r};"
                " trio.SocketListener makes one of a trio socket"
            )
    if not listeners:
        raise ValueError("there is no listener to serve on")
    return listeners


async def open_tcp(port: int, host: str | bytes | None, backlog: int | None) -> list[trio.SocketListener]:
    """Do as `trio.open_tcp_listeners`, with the address in the error.

    Raises:
      TypeError, ValueError: ``port`` is no int, or beyond 0-65535, which some systems would cut down to it.
      OSError: as `trio.open_tcp_listeners`.

    Cancellation: nothing is open.
    """
    if not isinstance(port, int):
        raise TypeError(f"port must be an int, not {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be 0-65535, not {port}")
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    except OSError as exc:
        if exc.errno is None:
            raise
        where = "all addresses" if host is None else repr(host)
        raise type(exc)(exc.errno, f"{exc.strerror} (to listen on port {port} of {where})") from exc


def _name(handler: object) -> str:
    return getattr(handler, "__qualname__", None) or repr(handler)
