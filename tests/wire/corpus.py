"""Inputs for the differential test: messages written by hand, and seeded mutations of them.

An `Input` is what a peer sends,
and what it answers. The hand-written ones cover each rule of RFC 9112 from both sides of
its edge; mutations then find what nobody thought of.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """What one peer sends.

    Attributes:
      data: all its bytes; the stream ends behind them.
      method: None when the peer is a client; else the method of the request that the peer, a server, answers.
    """

    data: bytes
    method: bytes | None = None


def _requests() -> Iterator[bytes]:
    yield from (
        b"",
        b"\r\n",
        b"G",
        b"GET",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
    )
    for line in [
        b"GET / HTTP/1.1", b"GET /index.html?q=1&r=%20 HTTP/1.1", b"HEAD / HTTP/1.1", b"OPTIONS * HTTP/1.1",
        b"DELETE http://a/b HTTP/1.1", b"CONNECT a:443 HTTP/1.1", b"FROB / HTTP/1.1", b"get / HTTP/1.1",
        b"M-SEARCH * HTTP/1.1", b"GET / HTTP/1.0", b"GET /", b"GET / HTTP/0.9", b"GET / HTTP/1.2",
        b"GET / HTTP/2.0",
        b"PRI * HTTP/2.0", b"GET / HTTP/9.9", b"GET / HTTP/11", b"GET / http/1.1", b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET / a HTTP/1.1", b"GET\t/ HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"GET /#f HTTP/1.1", b"GET /\x7f HTTP/1.1", b"G(T / HTTP/1.1", b"GET: / HTTP/1.1",
        b"GET / HTTP/1.1\r",
        b"GET // HTTP/1.1", b"GET /%zz HTTP/1.1", b"GET ?a HTTP/1.1", b"GET a HTTP/1.1",
        b'GET /"<>^`{|} HTTP/1.1',
        b"\x16\x03\x01\x02\x00\x01\x00", b"\x80.\x01", b"GET /\x00 HTTP/1.1",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1",
    ]:  # fmt: skip
        yield line + b"\r\nHost: a\r\n\r\n"
    for fields in [
        b"", b"Host:\r\n", b"Host: a:80\r\n", b"Host: [::1]:8\r\n", b"Host: a/b\r\n", b"Host: a b\r\n",
        b"Host: a:b\r\n",
        b"Host: a@b\r\n", b"Host: a\r\nHost: a\r\n", b"Host: a\r\nhost: b\r\n", b"HOST: a, b\r\n",
        b"Host : a\r\n",
        b"Host:a\r\nX:  b \t\r\n", b"Host: a\r\nX:\r\n", b"Host: a\r\nX\r\n", b"Host: a\r\n: x\r\n",
        b"Host: a\r\n\r\n",
        b"Host: a\r\nX: a\r\n b\r\n", b"Host: a\r\nX: a\r\n\t b\r\n c\r\n", b" X: y\r\nHost: a\r\n",
        b"Host: a\r\nX:\r\n y\r\n",
        b"Host: a\nX: y\r\n", b"Host: a\r\nX: y\n\r\n", b"Host: a\r\nX: a\rb\r\n",
        b"Host: a\r\nX: a\x00b\r\n",
        b"Host: a\r\nX: a\x01b\r\n", b"Host: a\r\nX: a\x7f\r\n", b"Host: a\r\nX: a\x0b\r\n",
        b"Host: a\r\nX: \xff\x80\r\n",
        b"Host: a\r\nX\x80: y\r\n", b"Host: a\r\nX(: y\r\n", b"Host: a\r\nX y: z\r\n",
        b"Host: a\r\nX\t: z\r\n",
        b"Host: a\r\nExpect: 100-continue\r\n", b"Host: a\r\nExpect: 200-ok\r\n",
        b"Host: a\r\nExpect: 100-continue, x\r\n",
        b"Host: a\r\nConnection: close\r\n", b"Host: a\r\nConnection: keep-alive, x\r\n",
        b"Host: a\r\nUpgrade: x\r\n",
        b"Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
        b"Host: a\r\nConnection: Upgrade, close\r\nUpgrade: x\r\n",
        b"Host: a\r\n" + b"X: y\r\n" * 99, b"Host: a\r\n" + b"X: y\r\n" * 100,
        b"Host: a\r\nX: " + b"y" * 17000 + b"\r\n",
    ]:  # fmt: skip
        yield b"GET / HTTP/1.1\r\n" + fields + b"\r\n"
        if len(fields) < 100:
            yield b"POST /p HTTP/1.0\r\n" + fields + b"\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n"
    for framing, body in _bodies():
        yield b"POST /b HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n" + body
    for version in (b"1.0", b"1.1"):
        for option in (b"close", b"keep-alive", b"x", b"close, keep-alive"):
            one = b"GET /1 HTTP/%s\r\nHost: a\r\nConnection: %s\r\n\r\n" % (version, option)
            yield one + one.replace(b"/1 ", b"/2 ")
            yield one.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nab") + b"\r\n" + one
    yield b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    yield b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    yield b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"


def _bodies() -> Iterator[tuple[bytes, bytes]]:
    """Yield framing fields and what follows the head; `_requests` and `_responses` put heads before them."""
    yield b"", b"abc"
    for length, body in [
        (b"0", b""), (b"3", b"abc"), (b"3", b"ab"), (b"3", b"abcGET"), (b"+3", b"abc"), (b"-3", b"abc"),
        (b"3 3", b"abc"),
        (b"3, 3", b"abc"), (b"3,4", b"abc"), (b"0x3", b"abc"), (b"", b"abc"), (b"003", b"abc"), (b"3,",
        b"abc"),
        (b"9" * 20, b"abc"), (b"9" * 21, b"abc"), (b"\xb3", b"abc"), (b"3;x", b"abc"), (b'"3"', b"abc"),
    ]:  # fmt: skip
        yield b"Content-Length: " + length + b"\r\n", body
    yield b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"
    yield b"Content-Length: 3\r\ncontent-length: 4\r\n", b"abcd"
    yield b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n"
    for coding in [
        b"gzip, chunked", b"gzip", b"chunked, chunked", b"identity", b"xchunked", b"chunked;q=1", b"",
        b'"chunked"', b"chunked,",
    ]:  # fmt: skip
        yield b"Transfer-Encoding: " + coding + b"\r\n", b"3\r\nabc\r\n0\r\n\r\n"
    yield b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"
    yield b"transfer-encoding:  CHUNKED \r\n", b"3\r\nabc\r\n0\r\n\r\n"
    for body in [
        b"0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n2\r\nde\r\n000\r\n\r\n",
        b"A\r\n0123456789\r\n0\r\n\r\n", b"3\r\nab", b"3",
        b"3\r\nabc\r\n0\r\nA: b\r\nC:d\r\n\r\n", b"3;a=b\r\nabc\r\n0;c\r\n\r\n",
        b'3 ; a = "q\\"r" ; b\r\nabc\r\n0\r\n\r\n', b"3;\r\nabc\r\n0\r\n\r\n",
        b"3;a=\r\nabc\r\n0\r\n\r\n", b'3;a="b\r\nabc\r\n0\r\n\r\n', b"3;a=\x01\r\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n", b"3\t\r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b"3\nabc\r\n0\r\n\r\n", b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nabcXY0\r\n\r\n",
        b"3\r\nab\r\n0\r\n\r\n",
        # An LF behind the data of a first chunk with an extension, and of one whose data ends in CR.
        b"3;a=b\r\nabc\n0\r\n\r\n", b"3;a=b\r\nbc\r\n0;c\r\n\r\n", b"3;a\r\nabc\n",
        b"x\r\n\r\n", b"\r\n", b"-3\r\nabc\r\n", b"+3\r\nabc\r\n", b"0x3\r\nabc\r\n",
        b"3g\r\nabc\r\n", b"0\r\n", b"0\r\nX",
        b"00000000000000000003\r\nabc\r\n0\r\n\r\n", b"000000000000000000003\r\nabc\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nabc",
        b"0\r\nContent-Length: 3\r\n\r\n", b"0\r\nHost: b\r\n\r\n", b"0\r\nTransfer-Encoding: x\r\n\r\n",
        b"0\r\nConnection: close\r\n\r\n",
        b"0\r\n X: y\r\n\r\n", b"0\r\nX: y\r\n z\r\n\r\n", b"0\r\nX: y\n\r\n", b"0\r\nX y\r\n\r\n",
        b"0\r\nX : y\r\n\r\n", b"0\r\nX: \x00\r\n\r\n", b"0\r\nX: \x01\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 101 + b"\r\n", b"0\r\n" + b"X: y\r\n" * 100 + b"\r\n",
        b"1;" + b"a" * 17000 + b"\r\nx\r\n0\r\n\r\n", b"3\r\rabc",
        b"3\r\nabc\r\n0\r\n\r\nGET /n HTTP/1.1\r\nHost: a\r\n\r\n", b"3\r\nabc\r0\r\n\r\n",
        b"0\r\n\rX: y\r\n\r\n",
    ]:  # fmt: skip
        yield b"Transfer-Encoding: chunked\r\n", body


def _responses() -> Iterator[tuple[bytes, bytes]]:
    yield from (
        (b"GET", start)
        for start in (b"", b"H", b"HTTP/1.1 200 OK\r\n", b"\r\nHTTP/1.1 200 OK\r\n\r\n", b"\x16\x03\x01")
    )
    for line in [
        b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.1 999 Odd",
        b"HTTP/1.1 099 No", b"HTTP/1.1 000 No",
        b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 200  OK",
        b"HTTP/1.1 200 O\x01K", b"HTTP/1.1 200 \xe9", b"HTTP/1.1 200 OK ",
        b"HTTP/1.2 200 OK", b"HTTP/2.0 200 OK", b"HTTP/2 200 OK", b"HTTP/0.9 200 OK", b"http/1.1 200 OK",
        b"ICY 200 OK", b"HTTP/1.1 2x0 OK", b"HTTP/1.1\t200\tOK",
        b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 +20 OK", b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 304 Same", b"HTTP/1.1 205 Reset", b"HTTP/1.1 404 No",
    ]:  # fmt: skip
        yield b"GET", line + b"\r\nContent-Length: 3\r\n\r\nabc"
        yield b"GET", line + b"\r\nX: y\r\n\r\n"
    for status in (100, 102, 103, 101, 199):
        interim = b"HTTP/1.1 %d I\r\nLink: x\r\n\r\n" % status
        yield b"GET", interim + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
        yield b"GET", interim * 3
    yield b"GET", b"HTTP/1.1 102 I\r\n\r\n" * 101 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    for framing, body in _bodies():
        yield b"GET", b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + body
    for method in (b"HEAD", b"CONNECT", b"POST"):
        for status in (200, 204, 304, 404):
            for framing in (b"", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"):
                yield method, b"HTTP/1.1 %d X\r\n%s\r\n" % (status, framing)
                yield method, b"HTTP/1.1 %d X\r\n%s\r\n3\r\nabc\r\n0\r\n\r\n" % (status, framing)
    for fields in [
        b"X: a\r\n b\r\n", b"X: a \t\r\n \t b\r\n\tc\r\n", b"X:\r\n b\r\n", b" X: a\r\n", b"X : a\r\n",
        b"X: a\nY: b\r\n", b"X: a\rb\r\n", b"X: a\x01\r\n", b"X: a\x00\r\n",
        b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Upgrade: x\r\n",
        b"Connection: upgrade\r\nUpgrade: x\r\n", b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n",
        b"X: y\r\n" * 101, b"X: " + b"y" * 17000 + b"\r\n",
    ]:  # fmt: skip
        yield b"GET", b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 3\r\n\r\nabc"
        yield b"GET", b"HTTP/1.0 200 OK\r\n" + fields + b"\r\nabc"
    yield b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    yield b"GET", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


CORPUS: tuple[Input, ...] = (
    *(Input(data) for data in _requests()),
    *(Input(data, method) for method, data in _responses()),
)

# What mutations insert: the bytes and words on which parsers disagree.
_WORDS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b",", b";", b"=", b'"', b"\\", b"#", b"\x00",
    b"\x01", b"\x0b", b"\x7f", b"\x80", b"\xff", b"0", b"1",
    b"a", b"/", b"?", b"%", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"GET ", b"HEAD ", b"CONNECT ",
    b"Host: a\r\n", b"Host: b:c\r\n", b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n", b"Content-Length: 3, 3\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"Expect: 100-continue\r\n",
    b"Expect: x\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b";a=b",
    b" \r\n", b"\r\n ", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 C\r\n\r\n", b"Trailer: x\r\n",
]  # fmt: skip


def mutated(rng: random.Random) -> Input:
    """Return one input of the corpus, changed in one to four places."""
    base = rng.choice(CORPUS)
    data = bytearray(base.data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        at = rng.randint(0, min(len(data), 400))
        end = min(len(data), at + rng.choice((1, 1, 1, 2, 4, 12)))
        match rng.randrange(8):
            case 0:
                data[at:at] = rng.choice(_WORDS)
            case 1:
                del data[at:end]
            case 2:
                data[at:end] = bytes([rng.randrange(256)])
            case 3:
                data[at:at] = data[at:end]
            case 4:
                data[at:end] = rng.choice(_WORDS)
            case 5:  # what an ill-timed close does
                del data[at + len(data) // 2 :]
            case 6:
                lines = bytes(data).split(b"\r\n")
                i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[i], lines[j] = lines[j], lines[i]
                data[:] = b"\r\n".join(lines)
            case _:
                other = rng.choice(CORPUS).data
                data[at:] = other[rng.randint(0, len(other)) :]
    return Input(bytes(data), base.method)


def splits(rng: random.Random, data: bytes) -> list[bytes]:
    """Return ``data`` in pieces: single bytes for a short one now and then, else a few cuts."""
    if len(data) < 200 and rng.randrange(4) == 0:
        return [data[i : i + 1] for i in range(len(data))]
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(1, 6)))
    pieces = [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [piece for piece in pieces if piece]
