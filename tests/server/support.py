"""What the tests of the server share: a client that sends bytes as they are, and reads answers strictly.

`Peer` knows the framing of responses by RFC 9112 §6.3 and nothing of `trio_http.wire`, so the server's output
is judged by a second opinion.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio
import trio.testing

from tests.server.media import Media, Medium
from trio_http import Request, Response, ServerConfig, ServerRates, ServerTimes, serve_connection

Handler = Callable[[Request], Awaitable[Response | None]]
Fields = list[tuple[str, str]]

#: Where `serve` opens connections: the fixture ``medium`` in conftest.py sets it for each test.
media = Media(Medium.MEMORY)

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
CLOSING_GET = b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"


class Cut(Exception):
    """The connection ended within an answer."""


@dataclasses.dataclass
class Answer:
    """One response as it came.

    Attributes:
      interims: the interim responses before it.
      framing: "none", "length", "chunked" or "close".
    """

    status: int
    reason: str
    fields: Fields
    content: bytes = b""
    framing: str = "none"
    trailers: Fields = dataclasses.field(default_factory=list)
    interims: list[Answer] = dataclasses.field(default_factory=list)

    def get(self, name: str) -> str | None:
        """The value of the only field line of that name; None without one."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        """The server said that it closes the connection behind this answer."""
        return (self.get("connection") or "").lower() == "close"


class Peer:
    """A client's end of a connection.

    Args:
      stream: the connection.
      takes_resets: a reset ends what is received, as any other end does; otherwise it raises
        `trio.BrokenResourceError`.

    Attributes:
      stream: the connection.
      buffer: what was received and not used.
      ending: how the server has ended its sending: "" while it has not, "end", or "reset" when it broke the
        connection off. Over memory streams always an "end".
      finished: the server has returned from `serve_connection`.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream, takes_resets: bool = False) -> None:
        self.stream = stream
        self._takes_resets = takes_resets
        self.buffer = b""
        self.ending = ""
        self.finished = trio.Event()

    async def send(self, *data: bytes) -> None:
        await self.stream.send_all(b"".join(data))

    async def _receive(self) -> bool:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            self.ending = "reset"
            if not self._takes_resets:
                raise
            return False
        self.buffer += data
        if not data:
            self.ending = "end"
        return bool(data)

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            if not await self._receive():
                raise Cut(self.buffer)
        part, _, self.buffer = self.buffer.partition(mark)
        return part

    async def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        while len(self.buffer) < count:
            if not await self._receive():
                raise Cut(self.buffer)
        part, self.buffer = self.buffer[:count], self.buffer[count:]
        return part

    async def rest(self) -> bytes:
        """All bytes until the server ends the connection."""
        while await self._receive():
            pass
        part, self.buffer = self.buffer, b""
        return part

    async def head(self) -> Answer:
        """The next head, be it interim or final."""
        lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 ([1-9][0-9][0-9]) ([\x20-\x7e]*)", lines[0])
        assert match is not None, lines[0]
        return Answer(int(match[1]), match[2], _fields(lines[1:]))

    async def answer(self, to: str = "GET") -> Answer:
        """The next final response with its content.

        Args:
          to: the method that it answers.
        """
        interims = []
        while (answer := await self.head()).status < 200:
            interims.append(answer)
        answer.interims = interims
        coding, length = answer.get("transfer-encoding"), answer.get("content-length")
        assert coding is None or length is None
        if to == "HEAD" or answer.status in (204, 304):
            pass
        elif coding is not None:
            assert coding == "chunked"
            answer.framing = "chunked"
            await self._read_chunks(answer)
        elif length is not None:
            answer.framing = "length"
            answer.content = await self.take(int(length))
        else:
            answer.framing = "close"
            answer.content = await self.rest()
            if self.ending == "reset":
                raise Cut(answer.content)
        return answer

    async def _read_chunks(self, answer: Answer) -> None:
        while size := int(await self._until(b"\r\n"), 16):
            answer.content += await self.take(size)
            assert await self.take(2) == b"\r\n"
        while line := await self._until(b"\r\n"):
            answer.trailers += _fields([line.decode("latin-1")])

    async def ask(self, request: bytes = GET) -> Answer:
        """Send a request whole and return its answer."""
        await self.send(request)
        return await self.answer(request.partition(b" ")[0].decode())

    async def nothing_came(self) -> bool:
        """Whether the server, left to do all it can do now, has sent nothing."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return not self.buffer

    async def has_more(self) -> bool:
        """Whether anything comes before the end."""
        return bool(self.buffer) or await self._receive()

    async def is_closed_by_server(self) -> bool:
        """Whether nothing more comes but the end. To be asked only when that end is due."""
        return await self.rest() == b""


class WatchedStream(trio.abc.HalfCloseableStream):
    """A stream that counts the calls on it and keeps how it was ended.

    Attributes:
      calls: by name.
      ending: "", then "eof", then "closed" or, after `trio.aclose_forcefully`, "aborted".
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.calls: collections.Counter[str] = collections.Counter()
        self.ending = ""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.calls["send"] += 1
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.calls["receive"] += 1
        return await self.stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        self.ending = "eof"
        await self.stream.send_eof()

    async def aclose(self) -> None:
        if self.ending not in ("closed", "aborted"):
            self.ending = "aborted" if trio.current_effective_deadline() == -math.inf else "closed"
        await self.stream.aclose()


def watched() -> tuple[trio.abc.HalfCloseableStream, WatchedStream]:
    """Memory streams of which the server's end is watched."""
    client, server = trio.testing.memory_stream_pair()
    return client, WatchedStream(server)


def _fields(lines: list[str]) -> Fields:
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon
        assert name.strip() == name
        fields.append((name, value.strip(" \t")))
    return fields


def post(content: bytes, *fields: str, target: str = "/") -> bytes:
    """A POST with `content` and its length."""
    return head("POST", target, f"Content-Length: {len(content)}", *fields) + content


def head(method: str, target: str = "/", *fields: str, version: str = "1.1") -> bytes:
    """A request's head, with a Host."""
    lines = [f"{method} {target} HTTP/{version}", "Host: example.org", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """`data` as one chunk; the last chunk, without trailers, for none."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def config(*, rates: ServerRates | None = None, **times: Any) -> ServerConfig:
    """A configuration with some times changed, no rates unless given, and no Date, which differs from run to
    run."""
    if "head" in times:
        times.setdefault("head_stall", times["head"])
    return ServerConfig(
        times=ServerTimes(**times), rates=rates or ServerRates(head=0, body=0, response=0), date=False
    )


def serve(
    nursery: trio.Nursery,
    handler: Handler,
    config: ServerConfig | None = None,
    streams: tuple[Any, Any] | None = None,
) -> Peer:
    """Serve one connection in `nursery` and return the client's end of it.

    Args:
      streams: the client's end and the server's; without any, a connection in the test's medium. Over memory
        streams it takes any number of bytes at once.
    """
    config = config or ServerConfig()
    if streams is None:
        client, accept = media.open(nursery)
        if media.medium is Medium.TCP_WITHOUT_EDGES:
            config = attrs.evolve(config, edge_poll=False)
    else:
        client, accept = streams[0], None
    # In memory an abort is an end like any other; so a test that is to hold in every medium takes it as one.
    peer = Peer(client, takes_resets=streams is None)

    async def run() -> None:
        server = streams[1] if accept is None else await accept()
        await serve_connection(handler, server, config=config)
        peer.finished.set()

    nursery.start_soon(run)
    return peer


async def hello(request: Request) -> Response:
    """The plainest handler."""
    return Response(200, text=f"{request.method} {request.target}\n")


async def echo(request: Request) -> Response:
    """Give back what was sent."""
    return Response(200, await request.read())
