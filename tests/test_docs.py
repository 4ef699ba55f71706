"""What the documents show is run: the README's programs and commands, and the snippets of the guides."""

from __future__ import annotations

import math
import re
import socket
import sys
import textwrap
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import trio_http
import trio_http.testing

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")

# Pages whose code blocks with a `client` are bodies of a function that has one, a `url` and some `urls`.
PAGES_OF_SNIPPETS = ("docs/how-to/limit-time.md", "docs/explanation/why-no-timeout-arguments.md")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def command_after(marker: str) -> str:
    """The one line of the fenced block that follows an HTML comment starting with `marker`."""
    _, _, rest = README.partition(f"<!-- {marker}")
    lines = blocks(rest, "sh")[0].splitlines()
    assert len(lines) == 1, "a command is one line"
    return lines[0]


def program(source: str) -> dict[str, Any]:
    """The names that a whole program defines, without running its main part."""
    names: dict[str, Any] = {"__name__": "a_program_of_the_readme"}
    exec(compile(source, "README.md", "exec"), names)
    return names


def snippets() -> list[Any]:
    return [
        pytest.param(source, id=f"{Path(page).stem}-{number}")
        for page in PAGES_OF_SNIPPETS
        for number, source in enumerate(blocks((ROOT / page).read_text("utf-8"), "python"), start=1)
        if "client." in source
    ]


@pytest.mark.interop
async def test_the_readmes_client_gets_what_the_readmes_server_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server, _, client, _ = (program(source) for source in blocks(README, "python"))
    async with trio.open_nursery() as nursery:
        running = await nursery.start(trio_http.serve_tcp, server["app"], 0)
        await client["main"](f"{running.url.rstrip('/')}/hello/you")
        nursery.cancel_scope.cancel()
    printed = capsys.readouterr().out
    assert printed.startswith("200 text/plain")
    assert printed.endswith("hello you\n\n")


@pytest.mark.interop
async def test_the_readmes_clock_ticks_until_the_server_shuts_down_and_says_goodbye() -> None:
    _, clock, _, _ = (program(source) for source in blocks(README, "python"))
    async with trio.open_nursery() as nursery:
        running = await nursery.start(trio_http.serve_tcp, clock["clock"], 0)
        async with trio_http.Client() as client, client.stream("GET", running.url + "/") as response:
            assert (await response.body.receive_some()).startswith(b"data: ")
            running.begin_shutdown(grace=10)
            with trio.fail_after(5):
                assert (await response.read()).endswith(b"event: bye\ndata:\n\n")


async def test_the_readmes_sweep_passes(autojump_clock: trio.testing.MockClock) -> None:
    names = program(blocks(README, "python")[3])
    told: list[trio_http.testing.SweepReport] = []
    with trio_http.testing.watch_sweeps(told.append):
        await names["test_a_cancel_breaks_no_client"](autojump_clock)
    assert len(told[0].points) > 20


async def test_the_readmes_clock_stops_when_its_client_goes_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    _, names, _, _ = (program(source) for source in blocks(README, "python"))
    ended = trio.Event()

    async def app(request: trio_http.Request) -> None:
        try:
            await names["clock"](request)
        finally:
            assert request.cancel_reason is trio_http.CancelReason.CLIENT_DISCONNECTED
            ended.set()

    async with trio_http.testing.open_client(app) as client:
        async with client.stream("GET", "/") as response:
            assert (await response.body.receive_some()).startswith(b"data: ")
        with trio.fail_after(1):
            await ended.wait()


@pytest.mark.interop
@pytest.mark.parametrize("source", snippets())
async def test_a_snippet_of_a_page_runs_as_it_stands(source: str) -> None:
    names: dict[str, Any] = {"trio": trio, "trio_http": trio_http}
    body = textwrap.indent(source, "    ")
    exec(
        compile(f"async def snippet(client, url, urls):\n{body}    return locals()\n", "snippet", "exec"),
        names,
    )

    paths: list[str] = []

    async def app(request: trio_http.Request) -> trio_http.Response:
        paths.append(request.path)
        return trio_http.Response(200, text="some content\n")

    async with trio.open_nursery() as nursery:
        running = await nursery.start(trio_http.serve_tcp, app, 0)
        url = f"{running.url.rstrip('/')}/one"
        async with trio_http.Client() as client:
            left = await names["snippet"](client, url, [url, url])
        nursery.cancel_scope.cancel()
    assert set(paths) == {"/one"}
    if "response" in left:
        assert left["response"].status == 200


def test_the_readmes_run_command_starts_a_program_that_exists() -> None:
    command = command_after("the run command")
    started = command.split("&&")[-1].split()
    assert started[0] == ".venv/bin/python"
    assert (ROOT / started[1]).is_file()


def test_both_commands_of_the_readme_set_up_the_same_environment() -> None:
    """Run one after the other, in either order, neither may undo what the other has installed."""
    for marker in ("the run command", "the test command"):
        set_up = command_after(marker).split("&&")
        assert set_up[0].strip() == "python3 -m venv .venv"
        assert re.fullmatch(r"\s*\.venv/bin/pip install --quiet -e (\.|'\.\[test\]')\s*", set_up[1])


def test_ci_runs_the_readmes_test_command_and_does_not_repeat_it() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "<!-- the test command" in script
    assert "-m pytest" in command_after("the test command")
    assert "-m pytest" not in script


PAGE_OF_TESTS = "docs/how-to/test-your-program.md"


def blocks_of_tests(*, over_sockets: bool) -> list[Any]:
    """The guide's programs: those that open a socket, or all others."""
    return [
        pytest.param(source, id=str(number))
        for number, source in enumerate(blocks((ROOT / PAGE_OF_TESTS).read_text("utf-8"), "python"), start=1)
        if ("serve_tcp" in source) == over_sockets and "pytestmark" not in source
    ]


async def pass_all_tests(names: dict[str, Any]) -> None:
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        await test()


@pytest.mark.parametrize("source", blocks_of_tests(over_sockets=False))
async def test_the_tests_of_the_guide_pass(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    names = program(source)
    monkeypatch.chdir(tmp_path)
    if "record" in names:
        await recorded(names["record"], monkeypatch)
    await pass_all_tests(names)


@pytest.mark.interop
@pytest.mark.parametrize("source", blocks_of_tests(over_sockets=True))
async def test_the_tests_of_the_guide_pass_over_sockets(source: str) -> None:
    await pass_all_tests(program(source))


def test_the_guides_test_with_fixtures_passes(pytester: pytest.Pytester) -> None:
    page = (ROOT / PAGE_OF_TESTS).read_text("utf-8")
    (settings,) = blocks(page, "ini")
    (source,) = (source for source in blocks(page, "python") if "pytestmark" in source)
    pytester.makeini(settings)
    pytester.makepyfile(source)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


async def recorded(record: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what a person runs by hand, with a server of ours in the place of the real one."""

    async def shop(request: trio_http.Request) -> trio_http.Response:
        assert request.headers["authorization"] == "Bearer abc"
        return trio_http.Response(200, json=["socks"])

    with monkeypatch.context() as patched:
        patched.setattr(trio_http, "Client", partial(trio_http.testing.open_client, shop))
        await record()
    assert "abc" not in await trio.Path("shop.json").read_text("utf-8")


# Its code blocks without a `client` define an `app`, a `config`, or both.
PAGE_OF_SERVERS = (ROOT / "docs/how-to/limit-time.md").read_text("utf-8")


@pytest.mark.parametrize(
    "source", [source for source in blocks(PAGE_OF_SERVERS, "python") if "client." not in source]
)
async def test_a_server_of_the_guide_on_time_serves(
    source: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def hello(request: trio_http.Request) -> trio_http.Response:
        return trio_http.Response(200)

    async def look_up(path: str) -> str:
        await trio.sleep(1)
        raise AssertionError("this takes too long")

    def picture(number: int, *, small: bool) -> bytes:
        return bytes(100 if small else 1000)

    names: dict[str, Any] = {
        "attrs": attrs, "math": math, "trio": trio, "trio_http": trio_http,
        "look_up": look_up, "picture": picture,
    }  # fmt: skip
    exec(compile(source, "limit-time.md", "exec"), names)
    assert {"app", "config"} & set(names)
    async with trio_http.testing.open_client(names.get("app", hello), config=names.get("config")) as client:
        response = await client.post("/", content=b"some content")
    assert response.status == 200
    assert response.content in (b"", b"hello", b"12 bytes\n", b"inf seconds left\n", bytes(100_000))


# How a server ends, and what its handlers do about it.
PAGE_OF_SHUTDOWNS = (ROOT / "docs/how-to/shut-down.md").read_text("utf-8")
PAGE_OF_DISCONNECTS = (ROOT / "docs/how-to/survive-a-disconnect.md").read_text("utf-8")


@pytest.mark.interop
async def test_the_recipe_for_sigterm_ends_in_order(tmp_path: Path) -> None:
    """As a process of its own, which is told to stop while a request is on its way, and answers it."""
    recipe = blocks(PAGE_OF_SHUTDOWNS, "python")[0]
    assert len([line for line in recipe.splitlines() if line.strip()]) <= 15
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    assert recipe.count(" 8000)") == 1
    path = tmp_path / "recipe.py"
    path.write_text(recipe.replace(" 8000)", f" {address[1]})"), "utf-8")
    with trio.fail_after(60):
        process = await trio.lowlevel.open_process([sys.executable, path], cwd=ROOT)
        try:
            while True:
                try:
                    client = await trio.open_tcp_stream(*address)
                except OSError:
                    assert process.poll() is None
                    await trio.sleep(0.02)  # Python is starting, and nothing tells when it has
                else:
                    break
            async with client:
                head = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
                await client.send_all(head)
                answer = b""
                while not answer.endswith(b"hello\n"):
                    answer += await client.receive_some()
                assert b"Connection: close" not in answer
                async with await trio.open_tcp_stream(*address) as idle:
                    await client.send_all(head[:20])
                    await idle.send_all(head)
                    while not (await idle.receive_some()).endswith(b"hello\n"):
                        pass
                    process.terminate()
                    assert await idle.receive_some() == b""
                with pytest.raises(OSError, match="all attempts to connect"):
                    await trio.open_tcp_stream(*address)
                await client.send_all(head[20:])
                answer = b""
                while chunk := await client.receive_some():
                    answer += chunk
            assert b"\r\nConnection: close\r\n" in answer
            assert answer.endswith(b"hello\n")
            assert await process.wait() == 0
        finally:
            process.kill()
            await process.wait()


def _handlers(page: str) -> list[dict[str, Any]]:
    """What each block of a page defines."""
    return [program(f"import trio\nimport trio_http\n\n\n{source}") for source in blocks(page, "python")]


class _Asked:
    """A handler of a guide, its server, and a client that has asked it something.

    Args:
      names: where the handler is the `app`.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.client, self._server_end = trio.testing.memory_stream_pair()

    async def start(self, nursery: trio.Nursery, content: bytes = b"") -> trio_http.Server:
        serve = partial(trio_http.serve_connection, self.names["app"], self._server_end)
        server: trio_http.Server = await nursery.start(serve)
        await self.client.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(content))
        await self.client.send_all(content)
        await trio.testing.wait_all_tasks_blocked()
        return server

    async def received(self) -> bytes:
        received = b""
        while part := await self.client.receive_some():
            received += part
        return received


async def test_the_guides_stream_of_events_ends_with_the_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    names = _handlers(PAGE_OF_SHUTDOWNS)[1]
    async with trio.open_nursery() as nursery:
        asked = _Asked(names)
        server = await asked.start(nursery)
        await trio.sleep(40)
        server.begin_shutdown()
        received = await asked.received()
    assert received.count(b"data: still here\n\n") == 3
    assert received.endswith(b"event: bye\ndata:\n\n\r\n0\r\n\r\n")


async def test_the_guides_handler_shuts_its_server_down() -> None:
    names = _handlers(PAGE_OF_SHUTDOWNS)[2]
    servers: list[trio_http.Server] = []
    known = trio.Event()

    async def app(request: trio_http.Request) -> trio_http.Response:
        await known.wait()
        response: trio_http.Response = await names["app_of"](servers[0])(request)
        return response

    async with trio.open_nursery() as nursery:
        asked = _Asked({"app": app})
        servers.append(await asked.start(nursery))
        known.set()
        received = await asked.received()
        await asked.client.aclose()
    assert b"\r\nConnection: close\r\n" in received
    assert received.endswith(b"all others have ended\n")


async def test_the_guides_order_is_charged_and_recorded_without_its_client(
    autojump_clock: trio.testing.MockClock,
) -> None:
    names = _handlers(PAGE_OF_DISCONNECTS)[0]
    done: list[tuple[str, Any]] = []

    def step(name: str) -> Any:
        async def take(order: Any) -> None:
            await trio.sleep(2)
            done.append((name, order))

        return take

    names |= {"charge": step("charged"), "record": step("recorded")}
    async with trio.open_nursery() as nursery:
        asked = _Asked(names)
        await asked.start(nursery, b"[1]")
        await asked.client.aclose()
    assert done == [("charged", [1]), ("recorded", [1])]


async def test_the_guides_clean_up_is_done(autojump_clock: trio.testing.MockClock) -> None:
    names = _handlers(PAGE_OF_DISCONNECTS)[1]
    left: list[str] = []

    async def enter_room() -> str:
        return "blue"

    async def leave_room(room: str) -> None:
        await trio.sleep(1)
        left.append(room)

    names |= {"enter_room": enter_room, "leave_room": leave_room}
    async with trio.open_nursery() as nursery:
        asked = _Asked(names)
        await asked.start(nursery)
        await asked.client.aclose()
    assert left == ["blue"]


async def test_the_guides_handler_knows_why_it_was_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    names = _handlers(PAGE_OF_DISCONNECTS)[2]
    lost: list[bool] = []
    names["count_lost_client"] = lambda: lost.append(True)
    async with trio.open_nursery() as nursery:
        asked = _Asked(names)
        await asked.start(nursery)
        await asked.client.aclose()
    assert lost == [True]


async def test_the_guides_handler_is_told_and_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    names = _handlers(PAGE_OF_DISCONNECTS)[3]
    events: list[str] = []

    async def compute() -> None:
        await trio.sleep(30)
        events.append("computed")

    names |= {"compute": compute, "lower_the_priority": lambda: events.append("told")}
    async with trio.open_nursery() as nursery:
        asked = _Asked(names)
        await asked.start(nursery)
        await asked.client.aclose()
    assert events == ["told", "computed"]
