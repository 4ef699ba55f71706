"""A script is played as a client, to servers on sockets and to handlers in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import attrs
import pytest
import trio
import trio.testing

from tests.cancellation._worlds import CONFIG
from tests.testing._ways import MEMORY, TCP, UNIX, every_plain_way, serving, trusting
from trio_http import Request, Response, serve_ssl_over_tcp, serve_tcp, serve_unix
from trio_http.server import Server
from trio_http.testing import (
    Script,
    ScriptedPeer,
    ScriptFailed,
    cancel_at_every_step,
    open_scripted_server,
    play_to,
    play_to_handler,
)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
OK = Script().expect_until(b"\r\n\r\n", startswith=b"HTTP/1.1 200 ").expect(b"fine")

Play: TypeAlias = Callable[[Script], Awaitable[ScriptedPeer]]


class App:
    """A handler that remembers what it was asked, and how each request ended."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.ended: list[str] = []

    async def __call__(self, request: Request) -> Response:
        end = "answered"
        try:
            self.contents.append(await request.read())
            if request.path == "/slow":
                await trio.sleep(3600)
        except BaseException as exc:
            end = type(exc).__name__
            raise
        finally:
            self.ended.append(end)
        return Response(text="fine")


@contextlib.asynccontextmanager
async def playing(way: str, app: App, tmp_path: Any) -> AsyncIterator[Play]:
    """Serve a handler in some way; what is given plays a script to it."""
    if way == "memory":
        yield partial(play_to_handler, app, config=CONFIG)
        return
    async with trio.open_nursery() as nursery:
        if way == "unix":
            server = await nursery.start(partial(serve_unix, config=CONFIG), app, tmp_path / "socket")
        else:
            server = await nursery.start(partial(serve_tcp, config=CONFIG), app, 0)
        yield partial(play_to, server)
        nursery.cancel_scope.cancel()


@every_plain_way
async def test_one_script_goes_by_over_every_way(way: str, tmp_path: Any) -> None:
    app = App()
    async with playing(way, app, tmp_path) as play:
        peer = await play(Script().repeat(Script().send(GET).then(OK), 3).send_eof().expect_end())
    assert peer.finished
    assert peer.received.count(b"200 OK") == 3
    assert app.ended == ["answered"] * 3


@every_plain_way
async def test_a_request_that_comes_byte_by_byte_or_slowly_is_one_request(way: str, tmp_path: Any) -> None:
    app = App()
    async with playing(way, app, tmp_path) as play:
        await play(Script().send_bytewise(POST + b"abcd").then(OK))
        await play(Script().send_slowly(POST + b"efgh", each=7, seconds=0.001).then(OK))
    assert app.contents == [b"abcd", b"efgh"]


@pytest.mark.parametrize("way", [MEMORY, TCP])
async def test_a_reset_is_a_disconnect_for_the_handler(way: str, tmp_path: Any) -> None:
    app = App()
    slow = GET.replace(b"/ ", b"/slow ")
    async with playing(way, app, tmp_path) as play:
        await play(Script().send(slow).wait_until_quiet().reset())
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert app.ended == ["Cancelled"]


@every_plain_way
async def test_a_script_that_the_server_does_not_follow_fails(way: str, tmp_path: Any) -> None:
    async with contextlib.AsyncExitStack() as stack:
        play = await stack.enter_async_context(playing(way, App(), tmp_path))
        with pytest.raises(ScriptFailed) as caught:
            await play(Script().send(GET).expect(b"HTTP/1.1 404"))
    assert str(caught.value) == (
        "step 2 of 2, expect(b'HTTP/1.1 404'):\n  expected: b'HTTP/1.1 404'\n  got:      b'HTTP/1.1 200'"
    )


@pytest.mark.parametrize("way", [MEMORY, TCP, UNIX])
async def test_both_sides_may_be_scripts(way: str) -> None:
    async with open_scripted_server(
        Script().expect(b"ping").send(b"pong").expect_end(), over=way  # type: ignore[arg-type]  # a way
    ) as server:  # fmt: skip
        script = Script().send(b"ping").expect(b"pong")
        if way == "memory":
            async with await server.dial("a", 80, "http") as stream:
                await ScriptedPeer(over=stream, script=script).play()
            with pytest.raises(ValueError, match="no address"):
                await play_to(server, script)
        else:
            assert (await play_to(server, script)).received == b"pong"


@pytest.mark.interop
async def test_a_script_is_played_under_tls_and_the_end_is_announced() -> None:
    app = App()
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(serve_ssl_over_tcp, app, 0, serving())
        close = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        script = Script().send(close).then(OK).expect_end()
        await play_to(server, script, ssl_context=trusting())
        await play_to(server, script, ssl_context=trusting(), server_hostname="localhost")
        with pytest.raises(ScriptFailed, match="certificate verify failed"):
            await play_to(server, script, ssl_context=trusting(), server_hostname="elsewhere.example")
        nursery.cancel_scope.cancel()
    assert app.ended == ["answered"] * 2


@pytest.mark.interop
async def test_an_address_and_a_path_will_do(tmp_path: Any) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_tcp, App(), 0)
        await play_to(server.listeners[0].socket.getsockname(), Script().send(GET).then(OK))
        await nursery.start(serve_unix, App(), tmp_path / "socket")
        await play_to(tmp_path / "socket", Script().send(GET).then(OK))
        nursery.cancel_scope.cancel()
    with pytest.raises(FileNotFoundError):
        await play_to(tmp_path / "socket", Script())


async def test_a_handler_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(TypeError):
        await play_to_handler("handler", Script())  # type: ignore[arg-type]  # that is the test


async def test_a_handler_in_memory_is_cancelled_with_its_script_and_waited_for() -> None:
    slow = GET.replace(b"/ ", b"/slow ")
    app = App()
    script = Script().send(slow).wait_until_quiet()
    await play_to_handler(app, script, config=CONFIG)
    with pytest.raises(ScriptFailed):
        await play_to_handler(app, script.send_eof().expect(b"x"), config=attrs.evolve(CONFIG))
    with trio.move_on_after(0.01) as scope:
        await play_to_handler(app, script.expect(b"x"), config=CONFIG)
    assert scope.cancelled_caught
    assert app.ended == ["Cancelled"] * 3


@every_plain_way
async def test_cancelled_anywhere_it_leaves_nothing_open(way: str, tmp_path: Any) -> None:
    script = Script().send(POST).wait_until_quiet(0).send(b"abcd").then(OK).send_eof().expect_end()

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[tuple[App, Play]]:
        app = App()
        async with playing(way, app, tmp_path) as play:
            yield app, play

    async def scenario(value: tuple[App, Play]) -> None:
        await value[1](script)

    async def check(value: tuple[App, Play]) -> None:
        await trio.testing.wait_all_tasks_blocked(0.001)
        assert set(value[0].ended) <= {"answered", "Cancelled", "ClientDisconnected", "RemoteProtocolError"}

    report = await cancel_at_every_step(scenario, world=world, check=check)
    assert len(report.points) > 10
