"""A browser against our server: headless Chromium loads a page and prints the document it made of it."""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

import trio_http
from tests.interop.programs import output_until, run, running

pytestmark = pytest.mark.interop

DEMO_SERVER = Path(__file__).resolve().parent.parent.parent / "examples" / "demo_server.py"

# A browser starts slowly on a busy machine.
SECONDS = 90.0

# `--no-sandbox`: a container gives it no namespaces. The rest keeps it to the page that is asked for.
FLAGS = """
    --headless --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run
    --no-proxy-server --disable-background-networking --disable-component-update
    --disable-sync --disable-extensions
""".split()

Dump = Callable[[str], Awaitable[str]]


@pytest.fixture
def dump(program: Callable[[str], str], tmp_path: Path) -> Dump:
    """A function that gives the document at a URL, as it is when the page has loaded."""
    path = program("chromium")

    async def dump_document(url: str) -> str:
        argv = [path, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", url]
        done = await run(argv, seconds=SECONDS)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode()

    return dump_document


async def test_chromium_shows_the_page_of_the_demo_server(dump: Dump) -> None:
    async with running([sys.executable, str(DEMO_SERVER), "0"]) as process:
        url = (await output_until(process, r"http://[\w.:]+"))[0]
        document = await dump(url + "/")
    assert "<h1>It works</h1>" in document
    assert "<title>trio_http</title>" in document
    assert re.search(r"<pre>Mozilla/\S+ .*Chrome/", document)


# Requests that wait for their answers, so that the page has not loaded before the last is written into it.
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>a page</title>
<p></p>
<script>
  function ask(method, path, content) {
    const request = new XMLHttpRequest();
    request.open(method, path, false);
    try {
      request.send(content);
      return path + " " + request.status + " " + request.responseText;
    } catch (error) {
      return path + " " + error.name;
    }
  }
  const answers = [
    ask("GET", "/pieces"),
    ask("POST", "/echo", "x".repeat(200000)).replace(/x+/, found => found.length),
    ask("HEAD", "/pieces"),
    ask("GET", "/broken"),
    ask("GET", "/nothing"),
    ask("DELETE", "/pieces"),
  ];
  document.querySelector("p").textContent = answers.join("|");
</script>
"""


async def test_chromium_reads_streams_posts_and_tells_a_broken_answer_from_a_whole_one(
    dump: Dump, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[object] = []

    async def app(request: trio_http.Request) -> trio_http.Response | None:
        asked.append(request.connection.peername)
        match request.method, request.path:
            case "GET", "/":
                return trio_http.Response(200, html=PAGE)
            case "GET" | "HEAD", "/pieces":
                async with request.stream_response(200, headers={"Content-Type": "text/plain"}) as body:
                    for number in range(5):
                        await body.send_all(f"{number} ".encode())
                return None
            case "POST", "/echo":
                async with request.stream_response(200) as body:
                    async for piece in request.body:
                        await body.send_all(piece)
                return None
            case "GET", "/broken":
                async with request.stream_response(200) as body:
                    await body.send_all(b"the beginning")
                    raise RuntimeError("in the middle")
            case "DELETE", "/pieces":
                return trio_http.Response(204)
        raise trio_http.HTTPException(404)

    server: trio_http.Server = await nursery.start(trio_http.serve_tcp, app, 0)
    document = await dump(server.url + "/")
    found = re.search("<p>(.*?)</p>", document, re.DOTALL)
    assert found is not None, document
    assert html.unescape(found[1]).split("|") == [
        "/pieces 200 0 1 2 3 4 ",
        "/echo 200 200000",
        "/pieces 200 ",
        "/broken NetworkError",
        "/nothing 404 404 Not Found\n",
        "/pieces 204 ",
    ]
    assert len(set(asked)) < len(asked) - 1  # connections were kept, for more than the page's own icon
    assert "in the middle" in caplog.text
