"""Both modules side by side through every state that a connection can be brought into.

A breadth-first search over messages sent and received, on h11, with its private parts telling states apart:
whatever can happen to a connection happens here, and ours has to do the same, byte for byte, but for the rows
of the table.
"""

import copy
import importlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import h11
import pytest

from tests.wire.differences import row
from tests.wire.h11_scenes import CHUNKED, CLOSE, UPGRADE, closed, end, head, names, request, response, take

Op = Callable[[ModuleType, Any], Any]


def sends(make: Callable[[ModuleType], Any]) -> Op:
    return lambda lib, conn: conn.send(make(lib))


def receives(data: bytes) -> Op:
    def run(lib: ModuleType, conn: Any) -> Any:
        conn.receive_data(data)
        return [facts(event) for event in take(lib, conn)]

    return run


def facts(event: Any) -> tuple[Any, ...]:
    """Return an event as plain values that can be compared between the modules."""
    names = [name for name in getattr(event, "__match_args__", ()) if name != "chunk_extension"]
    fields = [getattr(event, name) for name in names]
    plain = (
        bytes(f) if isinstance(f, bytearray) else list(f) if hasattr(f, "raw_items") else f for f in fields
    )
    return type(event).__name__, *plain


COMMON: dict[str, Op] = {
    "send Data": sends(lambda lib: lib.Data(b"abc")),
    "send empty Data": sends(lambda lib: lib.Data(b"")),
    "send EndOfMessage": sends(end),
    "send trailers": sends(lambda lib: lib.EndOfMessage(headers=[("T", "x")])),
    "send ConnectionClosed": sends(closed),
    "start_next_cycle": lambda lib, conn: conn.start_next_cycle(),
    "send_failed": lambda lib, conn: conn.send_failed(),
    "receive end": receives(b""),
    "receive abc": receives(b"abc"),
    "receive chunk": receives(b"3\r\nabc\r\n"),
    "receive last chunk": receives(b"0\r\n\r\n"),
    "receive trailers": receives(b"0\r\nT: x\r\n\r\n"),
}

SERVER_OPS: dict[str, Op] = COMMON | {
    "receive GET": receives(head()),
    "receive HEAD": receives(head(b"HEAD")),
    "receive GET with close": receives(head(b"GET", b"Connection: close")),
    "receive GET 1.0": receives(head(version=b"1.0")),
    "receive POST of 3": receives(head(b"POST", b"Content-Length: 3")),
    "receive POST chunked": receives(head(b"POST", b"Transfer-Encoding: chunked")),
    "receive POST that expects": receives(head(b"POST", b"Content-Length: 3", b"Expect: 100-Continue")),
    "receive CONNECT": receives(head(b"CONNECT")),
    "receive upgrade": receives(head(b"GET", b"Connection: upgrade", b"Upgrade: x")),
    "receive nonsense": receives(b"nonsense\r\n\r\n"),
    "send Request": sends(request()),
    "send 100": sends(response(100)),
    "send 101": sends(response(101)),
    "send 200": sends(response()),
    "send 200 of 3": sends(response(200, ("Content-Length", "3"))),
    "send 200 with both framings": sends(response(200, ("Content-Length", "3"), CHUNKED)),
    "send 200 with close": sends(response(200, CLOSE)),
    "send 204": sends(response(204)),
    "send 304": sends(response(304, ("Content-Length", "3"))),
    "send 404": sends(response(404)),
}

CLIENT_OPS: dict[str, Op] = COMMON | {
    "send GET": sends(request()),
    "send HEAD": sends(request("HEAD")),
    "send GET with close": sends(request("GET", CLOSE)),
    "send POST of 3": sends(request("POST", ("Content-Length", "3"))),
    "send POST chunked": sends(request("POST", CHUNKED)),
    "send POST that expects": sends(request("POST", CHUNKED, ("Expect", "100-continue"))),
    "send CONNECT": sends(request("CONNECT")),
    "send upgrade": sends(request("GET", *UPGRADE)),
    "send Response": sends(response()),
    "receive 100": receives(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "receive 101": receives(b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    "receive 200 of 0": receives(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "receive 200 of 3": receives(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
    "receive 200 chunked": receives(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "receive 200 to the end": receives(b"HTTP/1.1 200 OK\r\n\r\n"),
    "receive 200 with close": receives(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
    "receive 1.0 200": receives(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "receive 204": receives(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "receive 304": receives(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "receive 403": receives(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"),
    "receive nonsense": receives(b"nonsense\r\n\r\n"),
}


def makes_sense(conn: Any, op: str, path: list[str]) -> bool:
    """Tell whether ``op`` is to be tried on the oracle ``conn``; each False keeps the walk finite, or is a
    row."""
    kind, _, what = op.partition(" ")
    too_late = conn.our_role is h11.SERVER and conn.their_state is h11.IDLE and conn.our_state is not h11.IDLE
    if kind == "receive" and too_late and (what != "end" or conn.trailing_data[0]):
        row("ATTRIBUTE-ERROR")
        return False
    if kind == "receive" and what != "end":
        if any(conn.trailing_data):
            return False  # after the end nothing can be received; and one held message stands for many
        within = conn.their_state is h11.SEND_BODY
        pieces = what in ("abc", "chunk", "last chunk", "trailers")
        if within != pieces:
            return False  # a head inside a body is body, and a piece outside is nonsense, which is tried
        if type(conn._reader).__name__ == "ContentLengthReader" and what != "abc":
            row("EXCESS-BYTES")
            return False  # on a server the rest would begin with an empty line, which is a row too
        if conn.our_role is h11.CLIENT and not _comparable_to_a_client(conn, what, path):
            return False
    if op in ("send 100", "send 101") and conn.their_http_version == b"1.0":
        row("INTERIM-TO-1.0")
        return False
    if op in ("send 200 of 3", "send 200 with both framings") and conn._request_method == b"CONNECT":
        row("NO-FRAMING-FIELDS")
        return False
    return True


def _comparable_to_a_client(conn: Any, what: str, path: list[str]) -> bool:
    """Tell whether ours is to do as h11 does when a server sends ``what``."""
    if conn.their_state is h11.IDLE:
        row("UNREQUESTED-RESPONSE")
        return False
    if conn.their_state is h11.DONE:
        row("EXCESS-BYTES")
        return False
    if conn.our_state is h11.ERROR and {"send CONNECT", "send upgrade"} & set(path):
        row("SWITCH-AFTER-ERROR")
        return False
    return True


def hidden(conn: Any) -> tuple[Any, ...]:
    """Return all that decides what the oracle does next, its private parts included (its version is
    pinned)."""

    def coder(state: Any, part: Any) -> Any:
        return state is h11.SEND_BODY and (type(part).__name__, tuple(getattr(part, "__dict__", {}).items()))

    if {conn.our_state, conn.their_state} <= {h11.ERROR, h11.MUST_CLOSE, h11.CLOSED} and h11.ERROR in (
        conn.our_state, conn.their_state
    ):  # fmt: skip
        return tuple(conn.states.values())  # nothing but closing is left
    method = conn._request_method if conn._request_method in (None, b"HEAD", b"CONNECT") else b"any other"
    return (
        tuple(conn.states.values()), conn._cstate.keep_alive,
        frozenset(conn._cstate.pending_switch_proposals),
        method, conn.their_http_version, conn.client_is_waiting_for_100_continue,
        conn.their_state is not h11.ERROR and conn.trailing_data,
        coder(conn.their_state, conn._reader), coder(conn.our_state, conn._writer),
    )  # fmt: skip


def outcome(lib: ModuleType, conn: Any, op: Op) -> tuple[Any, ...]:
    """Do ``op`` and return everything that a program can see of it."""
    try:
        result: Any = op(lib, conn)
    except lib.ProtocolError as error:
        result = type(error).__name__, error.error_status_hint
    except AttributeError:  # h11's, in place of its own error
        if lib is not h11:
            raise
        result = "LocalProtocolError", 400
    version, waits, they_wait = (
        conn.their_http_version,
        conn.client_is_waiting_for_100_continue,
        conn.they_are_waiting_for_100_continue,
    )  # fmt: skip
    if (
        isinstance(result, bytes)
        and conn.our_role is lib.SERVER
        and conn.their_state in (lib.CLOSED, lib.ERROR)
    ):
        row("LAST-RESPONSE")
        result = result.replace(b"Connection: close\r\n", b"")
    # After the peer's error there is no telling what of its bytes was consumed, and no use for it.
    rest = None if conn.their_state is lib.ERROR else conn.trailing_data
    return result, names(lib, conn), version, waits, they_wait, rest


def walk(role: str, ops: dict[str, Op]) -> Iterator[tuple[list[str], Any, tuple[Any, ...], tuple[Any, ...]]]:
    """Yield the path, h11's connection, h11's outcome and ours for each operation in each reachable state of
    h11.

    h11's connection is copied at each fork. Ours walks the whole path anew: a copy would copy its state table
    as well.
    """
    wire = importlib.import_module("trio_http.wire")
    start = h11.Connection(getattr(h11, role))
    seen = {hidden(start)}
    queue: deque[tuple[list[str], Any]] = deque([([], start)])
    while queue:
        path, before = queue.popleft()
        for name, op in ops.items():
            if not makes_sense(before, name, path):
                continue
            theirs = copy.deepcopy(before)
            ours = wire.Connection(getattr(wire, role))
            for step in path:
                try:
                    ops[step](wire, ours)
                except wire.ProtocolError:
                    pass  # as it did at this step before; the state it left is what matters
            yield [*path, name], theirs, outcome(h11, theirs, op), outcome(wire, ours, op)
            key = hidden(theirs)
            if key not in seen:
                seen.add(key)
                queue.append(([*path, name], theirs))


@pytest.mark.parametrize(("role", "ops"), [("SERVER", SERVER_OPS), ("CLIENT", CLIENT_OPS)])
def test_both_modules_agree_in_every_state_that_can_be_reached(role: str, ops: dict[str, Op]) -> None:
    visited: Counter[tuple[str, str]] = Counter()
    differing: dict[str, str] = {}
    for path, conn, theirs, ours in walk(role, ops):
        visited[names(h11, conn)] += 1
        if theirs != ours:
            differing.setdefault(path[-1], f"{' / '.join(path)}\n    h11:  {theirs}\n    ours: {ours}")
    assert differing == {}, "\n".join(differing.values())
    assert sum(visited.values()) > 3000
    both = {"IDLE", "SEND_BODY", "DONE", "MUST_CLOSE", "CLOSED", "SWITCHED_PROTOCOL", "ERROR"}
    assert {client for client, _ in visited} == both | {"MIGHT_SWITCH_PROTOCOL"}
    assert {server for _, server in visited} == both | {"SEND_RESPONSE"}
