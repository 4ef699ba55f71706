"""Scenes that tell clients apart, played with ours and with httpx, httpx2 and aiohttp.

``python -m tests.interop.beside_clients`` plays them all and prints a table; names of clients behind it
choose some. What another client does is a figure, found at that moment with the release that is installed;
only what ours does is asserted, in test_client_beside.py.

Each scene has a server that follows a script, on a real socket, and looks at the wire; the clients are asked
as their own documentation says. All of them get the same few seconds.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import math
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import trio

import trio_http

HOST: Final = "127.0.0.1"
PATIENCE: Final = 4.0
"""Seconds that a request may take before a scene goes on without it."""

OURS, HTTPX, HTTPX2, AIOHTTP = "ours", "httpx", "httpx2", "aiohttp"
PEERS: Final = (HTTPX, HTTPX2, AIOHTTP)

PIECE: Final = bytes(64 * 1024)
UPLOAD: Final = 32 << 20
"""Bytes: more than the buffers of the two kernels take when nobody reads."""

CONNECTIONS: Final = 4
"""The size of the pool in the scene of cancels."""


# ------------------------------------------------------------------------------------------------ the clients


@dataclass
class Told:
    """What a client tells of a request.

    Attributes:
      status: of the final response; 0 for none.
      error: the type of what was raised instead, "" for nothing.
      content: of the response.
      trailers: the trailer section, where the client shows one.
      interim: status codes of interim responses, where the client shows them.
      sent: bytes that it took from the content.
      seconds: how long it took.
      exception: what was raised, or None.
    """

    status: int = 0
    error: str = ""
    content: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    interim: list[int] = field(default_factory=list)
    sent: int = 0
    seconds: float = 0.0
    exception: Exception | None = None

    def __str__(self) -> str:
        return self.error or str(self.status)


class Pieces:
    """Content that counts how much of it was taken."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.taken = 0

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        piece = PIECE[: self._left]
        self._left -= len(piece)
        self.taken += len(piece)
        return piece


class Asker(Protocol):
    """An open client."""

    async def ask(self, method: str, url: str, content: Any, headers: dict[str, str]) -> Told:
        """Make one request and return what came of it; raises what the client raises."""


class _Ours:
    def __init__(self, client: trio_http.Client) -> None:
        self._client = client

    async def ask(self, method: str, url: str, content: Any, headers: dict[str, str]) -> Told:
        options = {"content": content} if content else {}
        response = await self._client.request(method, url, headers=headers, **options)
        return Told(
            response.status,
            content=response.content,
            trailers=dict(response.trailers.items()),
            interim=[interim.status for interim in response.interim],
        )


class _Httpx:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def ask(self, method: str, url: str, content: Any, headers: dict[str, str]) -> Told:
        response = await self._client.request(method, url, headers=headers, content=content)
        trailers = getattr(response, "trailers", None) or response.extensions.get("trailing_headers", {})
        return Told(response.status_code, content=response.content, trailers=_texts(trailers))


class _Aiohttp:
    def __init__(self, session: Any) -> None:
        self._session = session

    async def ask(self, method: str, url: str, content: Any, headers: dict[str, str]) -> Told:
        # This one has a keyword for the field, and sends both if it is given both.
        given = {name: value for name, value in headers.items() if name != "Expect"}
        expects = "Expect" in headers
        async with self._session.request(
            method, url, data=content, headers=given, expect100=expects
        ) as response:
            received = await response.read()
            trailers = _texts(getattr(response, "trailers", None) or {})
            return Told(response.status, content=received, trailers=trailers)


def _texts(fields: Any) -> dict[str, str]:
    """Return fields as text, whatever a library has them as."""

    def text(value: Any) -> str:
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)

    pairs = fields.items() if hasattr(fields, "items") else fields
    return {text(name).lower(): text(value) for name, value in pairs}


async def _measured(asker: Asker, method: str, url: str, content: Any, headers: dict[str, str]) -> Told:
    """Ask, and make an error that the client raised part of what it told."""
    begin = time.monotonic()
    try:
        told = await asker.ask(method, url, content, headers)
    except Exception as exc:  # noqa: BLE001 - whatever a client raises is what is looked at
        told = Told(error=type(exc).__name__, exception=exc)
    told.seconds = time.monotonic() - begin
    told.sent = content.taken if isinstance(content, Pieces) else len(content or b"")
    return told


class Caller:
    """A client as the scenes use it: from Trio, whatever it runs on itself.

    Args:
      name: of the client.
      asker: open.
    """

    def __init__(self, name: str, asker: Asker) -> None:
        self.name = name
        self._asker = asker

    async def ask(
        self,
        method: str,
        url: str,
        content: Any = None,
        headers: dict[str, str] | None = None,
        *,
        seconds: float = PATIENCE,
    ) -> Told:
        """Make one request, and cancel it after so many seconds; it then has the error "nothing in ... s"."""
        with trio.move_on_after(seconds):
            return await self._ask(method, url, content, headers or {}, seconds)
        return self._nothing(content, seconds)

    async def _ask(
        self, method: str, url: str, content: Any, headers: dict[str, str], seconds: float
    ) -> Told:
        return await _measured(self._asker, method, url, content, headers)

    def _nothing(self, content: Any, seconds: float) -> Told:
        sent = content.taken if isinstance(content, Pieces) else 0
        return Told(error=f"nothing in {seconds:g} s", sent=sent, seconds=seconds)


class _AsyncioCaller(Caller):
    """A client on asyncio's loop in a thread of its own; Trio's thread asks it by messages."""

    def __init__(self, name: str, asker: Asker, loop: Any) -> None:
        super().__init__(name, asker)
        self._loop = loop

    async def _ask(
        self, method: str, url: str, content: Any, headers: dict[str, str], seconds: float
    ) -> Told:
        import asyncio

        async def limited() -> Told:
            try:
                async with asyncio.timeout(seconds):
                    return await _measured(self._asker, method, url, content, headers)
            except TimeoutError:
                return self._nothing(content, seconds)

        done = trio.Event()
        token = trio.lowlevel.current_trio_token()
        future = asyncio.run_coroutine_threadsafe(limited(), self._loop)
        future.add_done_callback(lambda _: token.run_sync_soon(done.set))
        with trio.CancelScope(shield=True, deadline=trio.current_time() + seconds + PATIENCE):
            await done.wait()  # the loop's own limit ends it
        return future.result(timeout=0)


@asynccontextmanager
async def open_caller(name: str, *, connections: int = 100) -> AsyncIterator[Caller]:
    """Open a client for the length of a block.

    Args:
      name: `OURS` or one of `PEERS`.
      connections: the most that it may have.

    Raises:
      ImportError: its library is not installed.
    """
    if name == OURS:
        async with trio_http.Client(
            max_connections=connections, max_connections_per_origin=connections, expect_seconds=0.3
        ) as client:
            yield Caller(name, _Ours(client))
    elif name == AIOHTTP:
        async with _open_aiohttp(connections) as caller:
            yield caller
    else:
        httpx = importlib.import_module(name)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        # Its limit on waiting for a connection stays, below the scenes' own, so that it can be seen.
        timeout = httpx.Timeout(2 * PATIENCE, pool=PATIENCE / 2)
        async with httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as client:
            yield Caller(name, _Httpx(client))


@asynccontextmanager
async def _open_aiohttp(connections: int) -> AsyncIterator[Caller]:
    import asyncio
    import threading

    aiohttp = importlib.import_module("aiohttp")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def open_session() -> Any:
        connector = aiohttp.TCPConnector(limit=connections)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))

    def on_loop(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=PATIENCE)

    session = await trio.to_thread.run_sync(on_loop, open_session())
    try:
        yield _AsyncioCaller(AIOHTTP, _Aiohttp(session), loop)
    finally:
        on_loop(session.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


# ------------------------------------------------------------------------------------------------ the servers


class Wire:
    """A server's end of one connection.

    Attributes:
      number: of the connection, from 0.
      stream: it.
    """

    def __init__(self, number: int, stream: trio.SocketStream) -> None:
        self.number = number
        self.stream = stream
        self._buffer = b""

    async def head(self) -> bytes:
        """Return the next head, or b"" when the client has ended the connection."""
        while b"\r\n\r\n" not in self._buffer:
            if not (data := await self.stream.receive_some(65536)):
                return b""
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    async def content(self, length: float, *, seconds: float = math.inf) -> bytes:
        """Return so many bytes; fewer at the connection's end, or when nothing came for a time."""
        while len(self._buffer) < length:
            data = b""
            with trio.move_on_after(seconds):
                data = await self.stream.receive_some(65536)
            if not data:
                break
            self._buffer += data
        count = int(min(length, len(self._buffer)))
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    async def answer(self, status: int, content: bytes = b"", *fields: str) -> None:
        """Send a whole response."""
        lines = [f"HTTP/1.1 {status} Said", *fields, f"Content-Length: {len(content)}", "", ""]
        await self.stream.send_all("\r\n".join(lines).encode() + content)


@asynccontextmanager
async def serving(script: Callable[[Wire], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve a script on each connection while the block runs, and give the URL. A connection is closed when
    its script ends.
    """
    connections = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal connections
        wire = Wire(connections, stream)
        connections += 1
        try:
            await script(wire)
        except trio.BrokenResourceError:
            pass  # a client that broke off
        finally:
            stream.socket.close()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, serve, 0, host=HOST))
        yield f"http://{HOST}:{listeners[0].socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------- the scenes


@dataclass(frozen=True)
class Seen:
    """What one client did in one scene.

    Attributes:
      text: for the table.
      told: by the client, in order.
      wire: what its server saw, by the scene's own names.
    """

    text: str
    told: Sequence[Told]
    wire: dict[str, Any]


async def early_413(name: str) -> Seen:
    """Upload 32 MiB to a server that answers 413 to the head, and reads nothing more."""

    async def refuse(wire: Wire) -> None:
        await wire.head()
        await wire.answer(413, b"too large", "Connection: close")
        await trio.sleep(2 * PATIENCE)  # neither reads nor closes

    pieces = Pieces(UPLOAD)
    async with serving(refuse) as url, open_caller(name) as caller:
        told = await caller.ask("PUT", url, pieces, {"Content-Length": str(UPLOAD)})
    text = f"{told} after {told.seconds * 1000:.0f} ms, {told.sent / (1 << 20):.1f} MiB sent"
    return Seen(text, [told], {})


async def expect_unanswered(name: str) -> Seen:
    """Ask a server that never says 100 whether it wants the content."""
    seen = {"expected": False, "waited": 0.0}

    async def say_nothing(wire: Wire) -> None:
        head = await wire.head()
        seen["expected"] = b"expect: 100-continue" in head.lower()
        begin = time.monotonic()
        content = await wire.content(1)
        seen["waited"] = time.monotonic() - begin if content else math.inf
        await wire.content(5 - len(content))
        await wire.answer(200, b"taken")

    async with serving(say_nothing) as url, open_caller(name) as caller:
        told = await caller.ask("PUT", url, b"hello", {"Expect": "100-continue"})
    waited = seen["waited"]
    sent = "never sends the content" if waited in (0, math.inf) else f"sends it after {waited * 1000:.0f} ms"
    return Seen(f"{told}; {sent}", [told], seen)


async def expect_refused(name: str) -> Seen:
    """Ask a server that answers 417."""
    seen = {"content": b""}

    async def refuse(wire: Wire) -> None:
        await wire.head()
        await trio.sleep(0.05)  # what goes out with the head is here then
        await wire.answer(417, b"no", "Connection: close")
        seen["content"] += await wire.content(5, seconds=0.5)

    async with serving(refuse) as url, open_caller(name) as caller:
        told = await caller.ask("PUT", url, b"hello", {"Expect": "100-continue"})
        await trio.sleep(0.1)
    return Seen(f"{told}; {len(seen['content'])} of 5 bytes of content sent", [told], seen)


async def stale(method: str, name: str) -> Seen:
    """Make a second request on a connection that the server closes in that moment."""
    asked: list[int] = []

    async def close_on_second(wire: Wire) -> None:
        while await wire.head():
            asked.append(wire.number)
            if asked == [0, 0]:
                return  # closed by the time the client looks for an answer
            await wire.answer(200, b"here")

    async with serving(close_on_second) as url, open_caller(name) as caller:
        told = [await caller.ask(method, url) for _ in range(2)]
    text = f"{told[1]}; the server had it {max(0, len(asked) - 1)}x"
    return Seen(text, told, {"asked": asked})


async def churn(name: str, *, seed: int = 1, requests: int = 300) -> Seen:
    """Cancel many requests at random moments, in a pool of `CONNECTIONS`; then see what the pool can do.

    The seed repeats the moments that are aimed at; where a request is by then depends on the machine.
    """
    rng = random.Random(seed)
    pending = 0
    all_here = trio.Event()

    async def serve(wire: Wire) -> None:
        nonlocal pending
        while head := await wire.head():
            if b"GET /hold " in head:
                pending += 1
                if pending >= CONNECTIONS:
                    all_here.set()
                await all_here.wait()
            else:
                await trio.sleep(rng.uniform(0, 0.004))
            await wire.answer(200, b"here")

    async with serving(serve) as url, open_caller(name, connections=CONNECTIONS) as caller:
        cut = 0

        async def one(seconds: float) -> None:
            nonlocal cut
            told = await caller.ask("GET", url, seconds=seconds)
            cut += told.error.startswith("nothing in")

        for _ in range(requests // 20):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(one, rng.choice((0.0002, 0.001, 0.003, 0.01, 0.03)))
        held: list[Told] = []

        async def hold() -> None:
            held.append(await caller.ask("GET", f"{url}hold"))

        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS):
                nursery.start_soon(hold)
    whole = sum(told.status == 200 for told in held)
    others = sorted({told.error for told in held if told.error})
    text = f"after {cut} cancels, {whole} of {CONNECTIONS} connections can be used at once"
    return Seen("; ".join([text, *others]), held, {"cancelled": cut, "whole": whole})


async def trailers(name: str) -> Seen:
    """Receive a trailer section behind a chunked content."""

    async def send_trailers(wire: Wire) -> None:
        await wire.head()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        await wire.stream.send_all(head + b"2\r\nhi\r\n0\r\nX-Sum: 17\r\n\r\n")
        await wire.head()

    async with serving(send_trailers) as url, open_caller(name) as caller:
        told = await caller.ask("GET", url, headers={"TE": "trailers"})
    shown = "visible" if told.trailers.get("x-sum") == "17" else "not visible"
    return Seen(f"{told}; trailers {shown}", [told], {})


async def early_hints(name: str) -> Seen:
    """Receive a 103, and a 200 some time later."""

    async def hint(wire: Wire) -> None:
        await wire.head()
        await wire.stream.send_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
        await trio.sleep(0.05)
        await wire.answer(200, b"here")
        await wire.head()

    async with serving(hint) as url, open_caller(name) as caller:
        told = await caller.ask("GET", url)
    shown = "visible" if told.interim == [103] else "not visible"
    return Seen(f"{told}; the 103 {shown}", [told], {})


Scene = Callable[[str], Awaitable[Seen]]

SCENES: dict[str, Scene] = {
    "413 at once, and the server stops reading (C27)": early_413,
    "`Expect`, and no 100 ever comes (C28)": expect_unanswered,
    "`Expect`, and a 417 (C28)": expect_refused,
    "GET as the server closes (C6)": functools.partial(stale, "GET"),
    "POST as the server closes (C6)": functools.partial(stale, "POST"),
    "300 requests, cancelled at random (C8)": churn,
    "response trailers (C35)": trailers,
    "103, then 200 (C36)": early_hints,
}


def absent(name: str) -> str:
    """Return why a client cannot be looked at, or ""."""
    if name == OURS:
        return ""
    try:
        importlib.import_module(name)
    except ImportError as exc:
        return str(exc)
    return ""


def table(names: Sequence[str], cells: dict[tuple[str, str], str]) -> str:
    """Return what was seen as Markdown: a line for each scene, a column for each client."""
    rows = [["", *names], ["---"] * (len(names) + 1)]
    rows += [[scene, *(cells[scene, name] for name in names)] for scene in SCENES]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


async def main(wanted: Sequence[str]) -> int:
    if unknown := set(wanted) - {OURS, *PEERS}:
        print(f"no such client: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    names = [name for name in wanted if not absent(name)]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names if name != OURS]
    print(", ".join([f"CPython {sys.version.split()[0]}", *versions]), end="\n\n")
    cells = {}
    for text, scene in SCENES.items():
        for name in names:
            cells[text, name] = (await scene(name)).text
    print(table(names, cells))
    print("".join(f"\n{name}: absent: {why}" for name in wanted if (why := absent(name))))
    return 0


if __name__ == "__main__":
    sys.exit(trio.run(main, sys.argv[1:] or (OURS, *PEERS)))
