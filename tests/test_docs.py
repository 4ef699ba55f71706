"""What the documents show is run: the README's programs and commands, and the snippets of the guides."""

from __future__ import annotations

import math
import re
import textwrap
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import trio_http
import trio_http.testing

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
    server, client = (program(source) for source in blocks(README, "python"))
    async with trio.open_nursery() as nursery:
        running = await nursery.start(trio_http.serve_tcp, server["app"], 0)
        await client["main"](f"{running.url.rstrip('/')}/hello/you")
        nursery.cancel_scope.cancel()
    printed = capsys.readouterr().out
    assert printed.startswith("200 text/plain")
    assert printed.endswith("hello you\n\n")


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


@pytest.mark.parametrize("number", range(3))
async def test_the_tests_of_the_guide_pass(number: int) -> None:
    sources = blocks((ROOT / PAGE_OF_TESTS).read_text("utf-8"), "python")
    assert len(sources) == 3
    names = program(sources[number])
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    await tests[0]()


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
