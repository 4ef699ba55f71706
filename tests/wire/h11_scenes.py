"""What the tests of h11's API share: messages, and connections brought to where a test begins.

Everything takes the module as ``lib``, h11 or ours, so that a scene can be set on either.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

HOST = ("Host", "a")


def get(lib: ModuleType, method: str = "GET", *fields: tuple[str, str], http_version: str = "1.1") -> Any:
    target = "a:1" if method == "CONNECT" else "/"
    return lib.Request(method=method, target=target, headers=[HOST, *fields], http_version=http_version)


def answer(lib: ModuleType, status: int = 200, *fields: tuple[str, str]) -> Any:
    cls = lib.InformationalResponse if status < 200 else lib.Response
    return cls(status_code=status, headers=list(fields))


def head(method: bytes = b"GET", *fields: bytes, version: bytes = b"1.1") -> bytes:
    target = b"a:1" if method == b"CONNECT" else b"/"
    lines = [b"%s %s HTTP/%s" % (method, target, version), b"Host: a", *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def take(lib: ModuleType, conn: Any) -> list[Any]:
    """Take events until there are no more now."""
    taken: list[Any] = []
    while True:
        event = conn.next_event()
        if event is lib.NEED_DATA or event is lib.PAUSED:
            return [*taken, event]
        taken.append(event)
        if type(event) is lib.ConnectionClosed:
            return taken


def brought(lib: ModuleType, role: str, *steps: Any) -> Any:
    """Return a connection of ``role`` after ``steps``: bytes are received, anything else is sent."""
    conn = lib.Connection(getattr(lib, role))
    for step in steps:
        if isinstance(step, bytes):
            conn.receive_data(step)
            take(lib, conn)
        else:
            conn.send(step(lib))
    return conn


def end(lib: ModuleType) -> Any:
    return lib.EndOfMessage()


def closed(lib: ModuleType) -> Any:
    return lib.ConnectionClosed()


def request(method: str = "GET", *fields: tuple[str, str]) -> Callable[[ModuleType], Any]:
    return lambda lib: get(lib, method, *fields)


def response(status: int = 200, *fields: tuple[str, str]) -> Callable[[ModuleType], Any]:
    return lambda lib: answer(lib, status, *fields)


CLOSE = ("Connection", "close")
CHUNKED = ("Transfer-Encoding", "chunked")
UPGRADE = [("Connection", "upgrade"), ("Upgrade", "x")]


def names(lib: ModuleType, conn: Any) -> tuple[str, str]:
    return repr(conn.states[lib.CLIENT]), repr(conn.states[lib.SERVER])


def asking(lib: ModuleType, method: str = "GET") -> Any:
    """Return a client connection whose request has gone out whole."""
    conn = lib.Connection(lib.CLIENT)
    conn.send(get(lib, method))
    conn.send(lib.EndOfMessage())
    return conn


def asked(lib: ModuleType, method: bytes = b"GET", *fields: bytes, version: bytes = b"1.1") -> Any:
    """Return a server connection that has received a request."""
    conn = lib.Connection(lib.SERVER)
    conn.receive_data(head(method, *fields, version=version))
    taken(lib, conn)
    return conn


def taken(lib: ModuleType, conn: Any) -> list[Any]:
    """Take every event there is now, without the marker that ends them; received data as bytes, joined."""
    events: list[Any] = []
    while True:
        event = conn.next_event()
        if event is lib.NEED_DATA or event is lib.PAUSED:
            return events
        if type(event) is lib.Data and events and type(events[-1]) is lib.Data:
            events[-1] = lib.Data(bytes(events[-1].data + event.data))
        elif type(event) is lib.Data:
            events.append(lib.Data(bytes(event.data)))
        else:
            events.append(event)
        if type(event) is lib.ConnectionClosed:
            return events


def refused(lib: ModuleType, conn: Any, event: Any, hint: int = 400) -> None:
    with pytest.raises(lib.LocalProtocolError) as caught:
        conn.send(event)
    assert caught.value.error_status_hint == hint
    assert conn.our_state is lib.ERROR
