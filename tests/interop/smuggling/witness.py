"""A handler that remembers each request it was given, and what a client can tell of the answers."""

from __future__ import annotations

import contextlib
import dataclasses
import re

import trio

from trio_http import Request, Response

# What the handler answers with. No proxy and no refusal of ours has it, so the status tells whose answer it
# is.
SEEN = 203


@dataclasses.dataclass
class Sight:
    """One request as the handler saw it.

    Attributes:
      id: what the proxy called it; empty without a proxy.
      connection: the address at the other end of its connection.
      content: None when it could not be read to its end.
    """

    id: str
    connection: object
    method: str
    target: str
    content: bytes | None = None


class Witness:
    """Sees requests, and remembers them.

    Attributes:
      sights: all that was seen, oldest first.
    """

    def __init__(self) -> None:
        self.sights: list[Sight] = []

    async def handler(self, request: Request) -> Response:
        """Remember a request with its content, and say so in the answer."""
        name = request.headers.get("x-request-id") or ""
        sight = Sight(name, request.connection.peername, request.method, request.target)
        self.sights.append(sight)
        sight.content = await request.read()
        # To CONNECT, a 2xx would turn the connection into a tunnel (RFC 9110 §9.3.6).
        status = 501 if request.method == "CONNECT" else SEEN
        return Response(status, text="seen\n", headers=self.fields(sight))

    @staticmethod
    def fields(sight: Sight) -> dict[str, str]:
        """What the answer to a request says of it."""
        return {"X-Back-Id": sight.id, "X-Back-Target": re.sub(r"[^!-~]", "?", sight.target)}

    async def serve_without_bodies(self, stream: trio.SocketStream) -> None:
        """Be what all this guards against: a server that takes the content of a request for the next one."""
        buffer = b""
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):  # who is answered twice goes away
                while piece := await stream.receive_some():
                    buffer += piece
                    while b"\r\n\r\n" in buffer:
                        head, _, buffer = buffer.partition(b"\r\n\r\n")
                        method, target, _ = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
                        name = _field(head, b"x-request-id")
                        sight = Sight(name, stream.socket.getpeername(), method, target, b"")
                        self.sights.append(sight)
                        fields = "".join(f"{name}: {value}\r\n" for name, value in self.fields(sight).items())
                        answer = f"HTTP/1.1 {SEEN} Seen\r\n{fields}Content-Length: 0\r\n\r\n"
                        await stream.send_all(answer.encode())

    def of(self, mark: str) -> list[Sight]:
        """What was seen of one attack, by its mark."""
        return [sight for sight in self.sights if mark in sight.target]


@dataclasses.dataclass(frozen=True)
class Answer:
    """A final response as a client got it.

    Attributes:
      front: what the proxy calls the request that it answers; empty without a proxy.
      back: what our handler was told that this request is called; empty when the handler did not answer.
      target: what our handler saw; empty as `back`.
    """

    status: int
    front: str
    back: str
    target: str


def answers(data: bytes) -> list[Answer]:
    """The final responses in all that a client received.

    Heads are told by their status lines, which no content of ours or of a proxy's error page has; so framing
    need not be understood, nor the method that was answered be known.
    """
    found = []
    for match in re.finditer(rb"HTTP/1\.[01] ([2-5][0-9][0-9])[ \r].*?(?:\r\n\r\n|\Z)", data, re.DOTALL):
        found.append(Answer(int(match[1]), *(_field(match[0], name) for name in _FIELDS)))
    return found


_FIELDS = (b"x-front-id", b"x-back-id", b"x-back-target")


def _field(head: bytes, name: bytes) -> str:
    match = re.search(rb"\r\n" + name + rb": *([^\r\n]*)", head, re.IGNORECASE)
    return "" if match is None else match[1].decode("latin-1")


async def converse(port: int, data: bytes) -> tuple[bytes, bool]:
    """Send all of `data` on one connection, then the end, and return what came until the other side's end.

    Returns:
      What came, and whether the connection was reset rather than ended.
    """
    received = b""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        try:
            await stream.send_all(data)
            await stream.send_eof()
        except (trio.BrokenResourceError, OSError):
            pass  # refused before all was sent; the answer may be here all the same
        try:
            while piece := await stream.receive_some():
                received += piece
        except trio.BrokenResourceError:
            return received, True
    return received, False


def readings(data: bytes) -> set[bytes]:
    """All contents that a reader may find in a message: by any length in it, by chunks, or by neither.

    Chunks are read as leniently as any known reader does: by the digits alone, with line ends of every kind.
    """
    match = re.search(rb"\r?\n\r?\n", data)
    if match is None:
        return {b""}
    head, rest = data[: match.start()], data[match.end() :]
    numbers = {int(number) for number in re.findall(rb"[0-9]+", head)}
    found = {b""} | {rest[:number] for number in numbers if number <= len(rest)}
    content, at = b"", 0
    while size := re.compile(rb"[\s+]*(?:0[xX])?([0-9a-fA-F]+)[^\n]*\n").match(rest, at):
        length = int(size[1], 16)
        if length == 0:
            found.add(content)
            break
        content += rest[size.end() : size.end() + length]
        line_end = re.compile(rb"\r?\n?").match(rest, size.end() + length)
        at = line_end.end() if line_end else len(rest)
    return found
