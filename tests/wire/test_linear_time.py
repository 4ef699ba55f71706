"""The work that hostile input causes grows with its length, not faster.

Nothing is timed. What Python executes is counted in bytecodes, for an input and for one twice as long. What C
does inside one bytecode (searching, copying) does not show in that count, so two facts are looked at besides:
a search never begins again before where it has been, and a growing buffer is one object that grows, not a
copy for each receive.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import trio_http.wire as wire

HUGE = wire.Limits(
    max_head_bytes=1 << 20,
    max_fields=1 << 16,
    max_target_bytes=1 << 20,
    max_chunk_extension_bytes=1 << 20,
    max_trailer_bytes=1 << 20,
    max_trailers=1 << 16,
    max_interim=1 << 16,
)
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def bytecodes(work: Callable[[], object]) -> int:
    """Return how many bytecodes ``work`` executes."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def read(role: Any, pieces: list[bytes], *, requests: int = 1) -> None:
    conn = wire.Connection(role, limits=HUGE)
    if role is wire.CLIENT:
        conn.send(wire.Request(method="GET", target="/", headers=[("Host", "a")]))
        conn.send(wire.EndOfMessage())
    for piece in pieces:
        conn.receive_data(piece)
        try:
            while conn.next_event() not in (wire.NEED_DATA, wire.PAUSED):
                pass
        except wire.RemoteProtocolError:
            return


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


HOSTILE: dict[str, Callable[[int], tuple[Any, list[bytes]]]] = {
    "a head byte by byte": lambda n: (wire.SERVER, bytewise(b"GET / HTTP/1.1\r\nX: " + b"y" * n)),
    "a head of many lines, byte by byte": lambda n: (
        wire.SERVER,
        bytewise(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (n // 6)),
    ),
    "empty lines before a request": lambda n: (wire.SERVER, bytewise(b"\r\n" * (n // 2))),
    "a target that never ends": lambda n: (wire.SERVER, [b"GET /", *[b"a" * 64] * (n // 64)]),
    "many fields of one name": lambda n: (
        wire.SERVER,
        [b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * n + b"\r\n"],
    ),
    "a value of spaces": lambda n: (
        wire.SERVER,
        [b"GET / HTTP/1.1\r\nHost: a\r\nX: y" + b" " * n + b"z\r\n\r\n"],
    ),
    "folded lines": lambda n: (wire.CLIENT, [b"HTTP/1.1 200 OK\r\nX: y\r\n" + b" z\r\n" * n + b"\r\n"]),
    "chunks of one byte, one receive": lambda n: (wire.SERVER, [CHUNKED + b"1\r\nx\r\n" * n]),
    "chunks of one byte, byte by byte": lambda n: (
        wire.SERVER,
        [CHUNKED, *bytewise(b"1\r\nx\r\n" * (n // 6))],
    ),
    "chunks of many sizes": lambda n: (
        wire.SERVER,
        [CHUNKED + b"".join(b"%x\r\n%s\r\n" % (1 + i % 3, b"x" * (1 + i % 3)) for i in range(n))],
    ),
    "chunk extensions": lambda n: (wire.SERVER, [CHUNKED, *bytewise(b"1;" + b"a" * n)]),
    "a trailer section byte by byte": lambda n: (
        wire.SERVER,
        [CHUNKED + b"0\r\n", *bytewise(b"X: " + b"y" * n)],
    ),
    "a body byte by byte": lambda n: (
        wire.SERVER,
        [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % n, *bytewise(b"x" * n)],
    ),
    "interim responses": lambda n: (wire.CLIENT, [b"HTTP/1.1 103 E\r\n\r\n" * n]),
    "a pipeline that nobody takes": lambda n: (wire.SERVER, [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] * n),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_twice_the_input_is_at_most_twice_the_work(name: str) -> None:
    make = HOSTILE[name]
    short, long = make(600), make(1200)
    assert bytecodes(lambda: read(*long)) <= 2.1 * bytecodes(lambda: read(*short)) + 200


def test_a_search_never_begins_again_before_where_it_has_been() -> None:
    conn = wire.Connection(wire.SERVER, limits=HUGE)
    for i, byte in enumerate(bytewise(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 5000)):
        conn.receive_data(byte)
        assert conn.next_event() is wire.NEED_DATA
        assert conn._buffer.scanned == i + 1


def test_a_growing_buffer_is_one_object() -> None:
    conn = wire.Connection(wire.SERVER, limits=HUGE)
    held = []
    for byte in bytewise(b"GET / HTTP/1.1\r\nX: " + b"y" * 5000):
        conn.receive_data(byte)
        assert conn.next_event() is wire.NEED_DATA
        held.append(conn._buffer.data)
    assert all(data is held[-1] for data in held[2:])


def test_bytes_that_were_used_are_let_go() -> None:
    conn = wire.MessageConnection(wire.SERVER)
    conn.receive_data(CHUNKED)
    conn.next_head()
    most = 0
    for i in range(20_000):
        conn.receive_data(b"1\r\nx\r\n" if i % 2 else b"8\r\nabcdefgh\r\n1")
        if i % 2 == 0:
            conn.next_data()
            conn.receive_data(b"\r\nx\r\n")
        conn.next_data()
        most = max(most, len(conn._buffer.data))
    assert most < 200
