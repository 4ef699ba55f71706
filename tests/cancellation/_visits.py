"""Visits: what servers are asked for, one of each kind, to be interrupted by the sweeps of `_houses`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator

import attrs
import trio

from tests.cancellation._houses import Visit
from tests.cancellation._worlds import CONFIG
from trio_http import (
    ClientDisconnected,
    HTTPException,
    Request,
    RequestFailed,
    Response,
    UpgradeRefused,
)
from trio_http.client import Client, RaceFailed, race

BIG = bytes(range(256)) * 400  # beyond a read, and beyond what a narrow way takes at once


class Kept(Visit):
    """Two requests on one connection, with a rest between them."""

    finely = True
    serves = ("receive", "app", "finish_send")

    async def app(self, request: Request) -> Response | None:
        content = await request.read()
        await trio.sleep(1)
        return Response(content=content + b"!")

    async def run(self, client: Client) -> None:
        assert (await client.get("/")).content == b"!"
        await trio.sleep(2)
        assert (await client.post("/", content=b"content")).content == b"content!"


class SlowBody(Visit):
    """Content that comes piece by piece, and is read as it comes."""

    finely = True
    lands = ("pieces", "_send_pieces")
    serves = ("app", "receive_some")

    async def app(self, request: Request) -> Response | None:
        size = 0
        async for piece in request.body:
            size += len(piece)
            await trio.lowlevel.checkpoint()
        return Response(text=str(size))

    async def run(self, client: Client) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"piece"
                await trio.sleep(1)

        assert (await client.post("/", content=pieces())).text == "15"


class Children(Visit):
    """An answer that is streamed by a task of the handler's, while another one goes on beside; each has
    something to clean up, which takes its time."""

    lands = ("next_data",)
    serves = ("produce", "tick", "app", "send_all")

    def __init__(self) -> None:
        self.open_now = 0

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        self.open_now += 1
        try:
            yield
        finally:
            with trio.move_on_after(1, shield=True):
                await trio.sleep(0.25)
            self.open_now -= 1

    async def app(self, request: Request) -> Response | None:
        send, receive = trio.open_memory_channel[bytes](1)

        async def produce() -> None:
            async with self.held(), send:
                for piece in (b"one ", b"two ", b"three"):
                    await send.send(piece)
                    await trio.sleep(1)

        async def tick() -> None:
            async with self.held():
                await trio.sleep_forever()

        async with (
            request.stream_response(headers={"trailer": "x-sum"}) as body,
            trio.open_nursery() as nursery,
            receive,
        ):
            nursery.start_soon(produce)
            nursery.start_soon(tick)
            async for piece in receive:
                await body.send_all(piece)
            nursery.cancel_scope.cancel()
            body.trailers = {"x-sum": "13"}
        return None

    async def run(self, client: Client) -> None:
        response = await client.get("/")
        assert (response.content, response.trailers["x-sum"]) == (b"one two three", "13")

    def see(self) -> None:
        assert self.open_now == 0, "a task of the handler's was not waited for"


class NarrowWay(Visit):
    """A big answer over a narrow way, to a client that is slow to read; then a small one."""

    buffer_bytes = 10_000
    lands = ("run", "receive_some")
    serves = ("finish_send",)

    async def app(self, request: Request) -> Response | None:
        return Response(content=BIG)

    async def run(self, client: Client) -> None:
        content = b""
        async with client.stream("GET", "/") as response:
            while piece := await response.body.receive_some(40_000):
                content += piece
                await trio.sleep(0.25)
        assert content == BIG


class LeftHalfWay(Visit):
    """A stream that its reader leaves: the handler is cancelled for it."""

    lands = ("run",)
    serves = ("app",)

    async def app(self, request: Request) -> Response | None:
        async with request.stream_response() as body:
            while True:
                await body.send_all(b"piece")
                await trio.sleep(1)

    async def run(self, client: Client) -> None:
        async with client.stream("GET", "/") as response:
            for _ in range(2):
                assert await response.body.receive_some() == b"piece"


class Drained(Visit):
    """A body that nobody reads: it is thrown away, and the connection is kept."""

    serves = ("drain_body",)

    async def app(self, request: Request) -> Response | None:
        return Response(text="unread")

    async def run(self, client: Client) -> None:
        class Slow:
            def __init__(self) -> None:
                self.left = 3

            def __aiter__(self) -> Slow:
                return self

            async def __anext__(self) -> bytes:
                await trio.sleep(1)
                if not self.left:
                    raise StopAsyncIteration
                self.left -= 1
                return b"abc"

        headers = {"content-length": "9"}
        assert (await client.put("/", content=Slow(), headers=headers)).text == "unread"
        assert (await client.put("/", content=b"now")).text == "unread"


class Lingering(Visit):
    """A final response before the end of a content that has none: the server lingers behind it."""

    lands = ("endless",)
    serves = ("linger",)

    async def app(self, request: Request) -> Response | None:
        await request.body.receive_some()
        raise HTTPException(413)

    async def run(self, client: Client) -> None:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield bytes(1000)
                await trio.sleep(1)

        assert (await client.post("/", content=endless())).status == 413


class Expecting(Visit):
    """Content that waits for a 100, and one that is refused in its place."""

    serves = ("app",)

    async def app(self, request: Request) -> Response | None:
        await trio.sleep(0.5)
        if request.path == "/refused":
            raise HTTPException(417)
        return Response(content=await request.read())

    async def run(self, client: Client) -> None:
        expect = {"expect": "100-continue"}
        assert (await client.post("/", content=b"content", headers=expect)).content == b"content"
        assert (await client.post("/refused", content=b"content", headers=expect)).status == 417


class Upgraded(Visit):
    """Another protocol on the connection, with a task of the handler's that speaks beside."""

    finely = True
    lands = ("run", "__aenter__")
    serves = ("app", "speak", "__aexit__", "receive_some")
    broken = (RequestFailed, trio.BrokenResourceError, EOFError)

    async def app(self, request: Request) -> Response | None:
        if "echo" not in request.upgrade_protocols:
            return Response(426)
        async with request.upgrade("echo") as stream, trio.open_nursery() as nursery:
            heard: list[bytes] = []

            async def speak() -> None:
                while True:
                    await trio.sleep(1)
                    while heard:
                        await stream.send_all(heard.pop(0))

            nursery.start_soon(speak)
            async for data in stream:
                heard.append(data)
            nursery.cancel_scope.cancel()
        return None

    async def run(self, client: Client) -> None:
        async with client.upgrade("/", "echo") as stream:
            for word in (b"hello", b"again"):
                await stream.send_all(word)
                answer = await stream.receive_some()
                if not answer:
                    raise EOFError
                assert answer == word


class UpgradeIsRefused(Visit):
    """A switch that is not made: the connection goes on with HTTP."""

    async def app(self, request: Request) -> Response | None:
        await trio.sleep(1)
        return Response(403, text="no")

    async def run(self, client: Client) -> None:
        with contextlib.suppress(UpgradeRefused):
            async with client.upgrade("/", "echo"):
                pass
            raise AssertionError("it was refused")


class Finishing(Visit):
    """A transaction that neither a disconnect nor a drain breaks off in the middle."""

    serves = ("app",)

    def __init__(self) -> None:
        self.begun = self.done = 0

    async def app(self, request: Request) -> Response | None:
        await trio.sleep(0.5)
        with request.finish(within=5):
            self.begun += 1
            await trio.sleep(1)
            await trio.sleep(1)
            self.done += 1
        return Response(text="done")

    async def run(self, client: Client) -> None:
        assert (await client.post("/", content=b"x")).text == "done"

    def see_in_peace(self) -> None:
        assert self.begun == self.done, "a transaction was broken off"


class Events(Visit):
    """A stream of events that says goodbye when the server drains, and ends by itself after some time."""

    lands = ("next_data",)
    serves = ("app",)

    async def app(self, request: Request) -> Response | None:
        async with request.stream_response() as body:
            for number in range(3):
                await body.send_all(b"%d," % number)
                with request.cancel_on_drain():
                    await trio.sleep(1)
                if request.draining:
                    break
            await body.send_all(b"bye")
        return None

    async def run(self, client: Client) -> None:
        text = (await client.get("/")).text
        assert text in ("0,bye", "0,1,bye", "0,1,2,bye"), text


class WaitingForTheEnd(Visit):
    """A handler that waits for its client to go, and a client that goes."""

    lands = ("run",)
    serves = ("wait_disconnected",)

    def __init__(self) -> None:
        self.begun = self.told = 0

    async def app(self, request: Request) -> Response | None:
        with request.finish(within=10):
            self.begun += 1
            await request.wait_disconnected()
            self.told += 1
        await trio.sleep_forever()
        return None

    async def run(self, client: Client) -> None:
        with trio.move_on_after(2):
            await client.get("/")
            raise AssertionError("it never answers")

    def see_in_peace(self) -> None:
        assert self.told == self.begun, "a handler was not told that its client has gone"


class Pipelined(Visit):
    """Three requests in one piece, from a client that is none of ours; the third closes."""

    lands = ("run",)
    serves = ("_serve_exchanges", "app")
    broken = (RequestFailed, trio.BrokenResourceError, EOFError)

    async def app(self, request: Request) -> Response | None:
        await trio.sleep(0.5)
        return Response(text=request.path)

    async def run(self, client: Client) -> None:
        try:
            stream = self.house.door.connect()
        except ConnectionRefusedError as exc:
            raise EOFError from exc
        async with stream:
            for path, fields in (("1", ""), ("2", ""), ("3", "Connection: close\r\n")):
                await stream.send_all(f"GET /{path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
            received = b""
            while data := await stream.receive_some():
                received += data
            if received.count(b"HTTP/1.1 200 OK") < 3:
                raise EOFError  # a server that drains answers what has reached it, or says that it closes
            assert received.endswith(b"\r\n\r\n/3"), received


class Crowd(Visit):
    """Three tasks that share two connections, of which one is always busy."""

    finely = True
    options = {"max_connections": 2}
    lands = ("_wait",)

    async def app(self, request: Request) -> Response | None:
        await trio.sleep(1)
        return Response(text=request.path)

    async def run(self, client: Client) -> None:
        failures: list[RequestFailed] = []

        async def get(path: str) -> None:
            try:
                assert (await client.get(path)).text == path
            except RequestFailed as exc:
                failures.append(exc)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(get, f"/{number}")
        if failures:
            raise failures[0]


class Hedged(Visit):
    """A request that is made again, beside, when no answer has come in time; the loser's handler ends."""

    lands = ("race",)
    broken = (RequestFailed, RaceFailed)

    def __init__(self) -> None:
        self.calls = 0

    async def app(self, request: Request) -> Response | None:
        self.calls += 1
        await trio.sleep(0.5 if self.calls % 2 == 0 else 50)
        return Response(text="won")

    async def run(self, client: Client) -> None:
        self.calls = 0
        get = functools.partial(client.get, "/")
        assert (await race(get, get, delay=1)).text == "won"


class Failing(Visit):
    """A handler that gives up on its client when a send breaks, and one error that is nobody's fault."""

    async def app(self, request: Request) -> Response | None:
        try:
            async with request.stream_response() as body:
                for _ in range(3):
                    await body.send_all(b"piece")
                    await trio.sleep(1)
        except ClientDisconnected:
            await trio.lowlevel.checkpoint()
            raise
        return None

    async def run(self, client: Client) -> None:
        assert (await client.get("/")).content == b"piece" * 3


class Secured(Kept):
    """The same over TLS: the handshake is part of the visit."""

    tls = True
    finely = False
    serves = ("_shake_hands", "receive", "app")


class SecuredChildren(Children):
    tls = True


class SecuredBody(SlowBody):
    tls = True
    finely = False
    serves = ("_shake_hands", "app")


class SecuredUpgrade(Upgraded):
    tls = True
    finely = False


class Refused(Crowd):
    """More connections than the server allows: one is told so, and may have to be told for long."""

    config = attrs.evolve(CONFIG, max_connections=1, excess="refuse")
    serves = ("_refuse",)
    lands = ()

    async def run(self, client: Client) -> None:
        statuses: list[int] = []
        failures: list[RequestFailed] = []

        async def get(path: str) -> None:
            try:
                statuses.append((await client.get(path)).status)
            except RequestFailed as exc:
                failures.append(exc)

        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(get, f"/{number}")
        if failures:
            raise failures[0]
        assert sorted(statuses) in ([200, 503], [503, 503]), statuses


class HeldBack(Crowd):
    """More connections than the server allows: one of them is accepted, and held until it is admitted."""

    config = attrs.evolve(CONFIG, max_connections=1, excess="wait")
    serves = ("wait_free", "accept")


# A server that is full has connections that its client takes for good ones, and that it does not count.
FULL: list[type[Visit]] = [Refused, HeldBack]
VISITS: list[type[Visit]] = [
    Kept, SlowBody, Children, NarrowWay, LeftHalfWay, Drained, Lingering, Expecting, Upgraded,
    UpgradeIsRefused, Finishing, Events, WaitingForTheEnd, Pipelined, Crowd, Hedged, Failing, Secured,
]  # fmt: skip
# Others over TLS. They take as many handshakes as steps, and are not played everywhere.
SECURED: list[type[Visit]] = [SecuredBody, SecuredChildren, SecuredUpgrade]
