"""What the guide to downloads shows is run as it stands."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_http
from tests.test_docs import ROOT, blocks

SNIPPETS = blocks((ROOT / "docs/how-to/download.md").read_text("utf-8"), "python")
TEXT = "one\ntwo\n"


@pytest.mark.interop
@pytest.mark.parametrize("number", range(6))
async def test_a_snippet_of_the_guide_does_what_it_says(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(SNIPPETS) == 6
    names: dict[str, Any] = {"trio": trio, "trio_http": trio_http}
    body = textwrap.indent(SNIPPETS[number], "    ")
    exec(compile(f"async def snippet(url, path):\n{body}    return locals()\n", "snippet", "exec"), names)
    statuses: list[int] = []

    async def app(request: trio_http.Request) -> trio_http.Response:
        same = request.headers.get("if-none-match") == '"v1"'
        response = trio_http.Response(304) if same else trio_http.Response(200, text=TEXT)
        statuses.append(response.status)
        response.headers = trio_http.Headers([*response.headers.items(), ("etag", '"v1"')])
        return response

    async with trio.open_nursery() as nursery:
        running = await nursery.start(trio_http.serve_tcp, app, 0)
        await names["snippet"](f"{running.url.rstrip('/')}/file", tmp_path / "file")
        nursery.cancel_scope.cancel()
    printed = capsys.readouterr().out
    if "lines()" in SNIPPETS[number]:
        assert printed == TEXT
        return
    assert (tmp_path / "file").read_text() == TEXT
    assert statuses == ([200, 304] if "if_changed" in SNIPPETS[number] else [200])
    if "print" in SNIPPETS[number]:
        assert "8 bytes, 0 of them from before\n" in printed or printed.endswith("\r8 of 8 bytes")
