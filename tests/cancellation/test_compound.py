"""Scenes that no other file here has: downloads, lines, one connection without a pool, happy eyeballs.

Each is cancelled at every step, and where there is a client it is closed at each as well. The others are in
`test_client`, `test_contents`, `test_decoding`, `test_flow`, `test_pool`, `test_routes`, `test_tls`,
`test_tunnels`, and seen from both sides in `test_server_visits`.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._houses import tls_contexts
from tests.cancellation._scenes import Scene, close_at_every_step, sweep_scene
from tests.cancellation._worlds import CONFIG, Network, lands_in, sweep_client
from tests.client._contents import open_files
from tests.client._files import FileServer, content_of
from trio_http import PoolClosed, Request, Response, Retry, serve_connection
from trio_http.client import Client, ClientConnection, RaceFailed, race
from trio_http.client._connect import connect_tcp
from trio_http.testing import MemoryStream, cancel_at_every_step, memory_pair
from trio_http.transport import tls_over

# ------------------------------------------------------------------------------------------------ downloads


async def _in_this_thread(call: Callable[..., Any], *args: Any, abandon_on_cancel: bool = False) -> Any:
    """Stand in for a thread, for which an autojump clock would not wait: it is cancelled before it only."""
    await trio.lowlevel.checkpoint_if_cancelled()
    result = call(*args)
    await trio.lowlevel.cancel_shielded_checkpoint()
    return result


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(trio.to_thread, "run_sync", _in_this_thread)
    return tmp_path / "file"


FILE = content_of(90_000)


class _Download(Scene):
    """A file that comes in pieces, into a file; the second time from where the first came to."""

    lands = ("_take_whole", "next_data")

    def __init__(self, target: Path) -> None:
        self.target = target
        for path in target.parent.iterdir():
            path.unlink()
        self.server = FileServer(FILE)

    async def app(self, request: Request) -> Response | None:
        whole = await self.server(request)
        assert whole is not None
        async with request.stream_response(whole.status, headers=whole.headers) as body:
            for start in range(0, len(whole.content), 30_000):
                await body.send_all(whole.content[start : start + 30_000])
                await trio.sleep(1)
        return None

    async def run(self, client: Client) -> None:
        result = await client.download("/file", self.target)
        assert (result.size, self.target.read_bytes()) == (len(FILE), FILE)

    def see(self) -> None:
        """Whole or not at all; and what there is of it is its beginning, which nobody holds open."""
        part = self.target.with_name("file.part")
        if self.target.exists():
            assert open_files(self.target) == []
            assert self.target.read_bytes() == FILE
        if part.exists():
            assert open_files(part) == []
            assert FILE.startswith(part.read_bytes()), "what is there is not the beginning of the file"


async def test_a_download_that_is_cancelled_leaves_a_beginning_to_go_on_from(
    target: Path, autojump_clock: MockClock
) -> None:
    await sweep_scene(lambda: _Download(target))


async def test_a_download_whose_client_is_closed_leaves_a_beginning_to_go_on_from(
    target: Path, autojump_clock: MockClock
) -> None:
    assert await close_at_every_step(lambda: _Download(target)) > 0


class _Resumed(_Download):
    """A file whose server goes away in the midst of it: the rest comes by another request."""

    options = {"retry": Retry(backoff=2, jitter=False)}
    lands = ("_take_rest", "pause")

    def __init__(self, target: Path) -> None:
        super().__init__(target)
        self.cuts = 1

    async def app(self, request: Request) -> Response | None:
        whole = await self.server(request)
        assert whole is not None
        async with request.stream_response(whole.status, headers=whole.headers) as body:
            await body.send_all(whole.content[:30_000])
            await trio.sleep(1)
            if self.cuts:
                self.cuts -= 1
                raise LookupError("cut on purpose")
            await body.send_all(whole.content[30_000:])
        return None


async def test_a_download_that_goes_on_by_itself_is_cancelled_in_each_of_its_requests(
    target: Path, autojump_clock: MockClock
) -> None:
    await sweep_scene(lambda: _Resumed(target))


async def test_what_a_cancelled_download_has_left_is_gone_on_with(
    target: Path, autojump_clock: MockClock
) -> None:
    """After each cancel the next call comes to the whole file, and does not ask for what is there."""
    resumed: list[int] = []

    class Twice(_Download):
        async def run(self, client: Client) -> None:
            with trio.move_on_after(1.5):
                await client.download("/file", self.target)
            result = await client.download("/file", self.target)
            assert self.target.read_bytes() == FILE
            resumed.append(result.resumed_from)

    await sweep_scene(lambda: Twice(target))
    assert set(resumed) - {0, 90_000}, "no download has gone on with anything"


# ---------------------------------------------------------------------------------------------------- lines


async def _lines(request: Request) -> None:
    async with request.stream_response(headers={"content-type": "text/plain; charset=utf-8"}) as body:
        for piece in ("one\ntw", "o\r", "\nthr\N{LATIN SMALL LETTER E WITH ACUTE}".encode()[:-1], b"\xa9e"):
            await body.send_all(piece if isinstance(piece, bytes) else piece.encode())
            await trio.sleep(1)


async def test_lines_that_are_cut_anywhere(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        async with client.stream("GET", "/") as response:
            lines = [line async for line in response.lines()]
        assert lines == ["one", "two", "thr\N{LATIN SMALL LETTER E WITH ACUTE}e"]

    report = await sweep_client(scenario, _lines, warm=1)
    lands_in(report, "__anext__", "next_data")


async def test_a_line_that_is_not_waited_for_is_not_lost(autojump_clock: MockClock) -> None:
    """Waiting for the next line is given up now and again, and asked for anew."""

    async def scenario(client: Client) -> None:
        got: list[str] = []
        async with client.stream("GET", "/") as response:
            lines = aiter(response.lines())
            while True:
                with trio.move_on_after(0.4):
                    try:
                        got.append(await anext(lines))
                    except StopAsyncIteration:
                        break
        assert got == ["one", "two", "thr\N{LATIN SMALL LETTER E WITH ACUTE}e"]

    await sweep_client(scenario, _lines, warm=1)


# ----------------------------------------------------------------------------- one connection without a pool


async def _single(request: Request) -> Response | None:
    match request.path:
        case "/pieces":
            async with request.stream_response() as body:
                for _ in range(3):
                    await body.send_all(b"piece")
                    await trio.sleep(1)
            return None
        case "/upgrade":
            async with request.upgrade("echo") as stream:
                async for data in stream:
                    await stream.send_all(data)
            return None
    return Response(content=await request.read() or b"fresh")


async def _stream_on(connection: ClientConnection) -> None:
    async with connection.stream("GET", "/pieces") as response:
        assert await response.read() == b"piece" * 3
    assert (await connection.get("/")).content == b"fresh"


async def _leave_on(connection: ClientConnection) -> None:
    async with connection.stream("GET", "/pieces") as response:
        assert await response.body.receive_some() == b"piece"


async def _post_on(connection: ClientConnection) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one ", b"two"):
            yield piece
            await trio.sleep(1)

    assert (await connection.post("/", content=pieces())).content == b"one two"


async def _upgrade_on(connection: ClientConnection) -> None:
    async with connection.upgrade("/upgrade", "echo") as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("use", [_stream_on, _leave_on, _post_on, _upgrade_on])
async def test_one_connection_without_a_pool(
    use: Callable[[ClientConnection], Any], tls: bool, autojump_clock: MockClock
) -> None:
    """After a cancel it is closed, at both ends; or nothing was sent, and it is as good as new."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[tuple[MemoryStream, ClientConnection]]:
        ours, theirs = memory_pair()

        async def serve() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                stream: Any = theirs
                if tls:
                    stream = await tls_over(theirs, tls_contexts()[1], server_side=True)
                await serve_connection(_single, stream, config=CONFIG)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            stream: Any = ours
            if tls:
                stream = await tls_over(ours, tls_contexts()[0], server_hostname="a")
            async with ClientConnection(stream, base_url="https://a" if tls else "http://a") as connection:
                yield ours, connection
            assert ours.closed
        assert theirs.closed

    async def scenario(value: tuple[MemoryStream, ClientConnection]) -> None:
        await use(value[1])

    async def check(value: tuple[MemoryStream, ClientConnection]) -> None:
        stream, connection = value
        await trio.testing.wait_all_tasks_blocked()
        assert connection.closed == stream.closed
        if not connection.closed:
            assert (await connection.get("/")).content == b"fresh"

    await cancel_at_every_step(scenario, world=world, check=check, beside=not tls)


# ---------------------------------------------------------------------------------------- happy eyeballs


@contextlib.contextmanager
def deaf_listener() -> Iterator[int]:
    """A port on 127.0.0.2 that answers nobody: its queue is full. Yields the port."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.interop
@pytest.mark.parametrize("wins", ["the second", "none"])
async def test_attempts_to_connect_side_by_side_leave_no_socket(wins: str) -> None:
    """One address does not answer, another one refuses, a third may take us; cancelled in each attempt."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[int]:
        with deaf_listener() as port, contextlib.ExitStack() as stack:
            if wins != "none":
                listener = stack.enter_context(socket.socket())
                listener.bind(("127.0.0.1", port))
                listener.listen(10)
            yield port

    async def scenario(port: int) -> None:
        addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
        if wins == "none":
            with contextlib.suppress(OSError):
                await connect_tcp(addresses[1:], port, delay=0.001)
                raise AssertionError("nobody is there")
            return
        stream = await connect_tcp(addresses, port, delay=0.001)
        with stream.socket:
            assert stream.socket.getpeername()[0] == "127.0.0.1"

    report = await cancel_at_every_step(scenario, world=world)
    lands_in(report, "connect_tcp", "race", "_connected")


# ------------------------------------------------------------------- closing a client in the midst of all


async def test_a_client_that_is_closed_by_one_of_its_own_requests(autojump_clock: MockClock) -> None:
    """Whoever leaves the client's block has the others refused; cancelled at each step of that."""

    async def app(request: Request) -> Response:
        await trio.sleep(1)
        return Response(text="fresh")

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Network]:
        async with Network(app, dial_seconds=0.5).opened() as net:
            yield net

    async def scenario(net: Network) -> None:
        async def get(client: Client) -> None:
            with contextlib.suppress(PoolClosed):
                assert (await client.get("http://a/")).text == "fresh"

        async with trio.open_nursery() as nursery, Client(dial=net.dial, max_connections=2) as client:
            for _ in range(3):
                nursery.start_soon(get, client)
            await get(client)

    async def check(net: Network) -> None:
        await trio.testing.wait_all_tasks_blocked()
        assert net.dialing == 0
        assert all(stream.closed for stream in net.streams)

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "__aexit__", "_wait")


async def test_a_hedge_whose_client_is_closed(autojump_clock: MockClock) -> None:
    """Each attempt's connection is closed, whichever of them had begun."""

    class Hedge(Scene):
        refusals = (PoolClosed, RaceFailed)

        async def app(self, request: Request) -> Response:
            await trio.sleep(50)
            return Response(text="late")

        async def run(self, client: Client) -> None:
            get = functools.partial(client.get, "/")
            assert (await race(get, get, get, delay=0.5)).text == "late"

    await sweep_scene(Hedge)
    assert await close_at_every_step(Hedge) > 0
