"""The tutorial's programs are run as its reader would run them, and do what it says."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import ssl
import sys
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

import trio_http
import trio_http.testing
from tests.test_docs import ROOT, blocks, program

TUTORIAL = (ROOT / "docs/tutorial/index.md").read_text("utf-8")


def programs_of_the_tutorial() -> dict[str, str]:
    """The programs by the file names above them."""
    found = re.findall(r"^`(\w+)\.py`[^\n]*:\n\n```python\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)
    return dict(found)


def from_tutorial(name: str) -> Any:
    return program(programs_of_the_tutorial()[name])


def test_every_program_of_the_tutorial_is_run_here() -> None:
    names = list(programs_of_the_tutorial())
    assert names == ["hello", "count", "upload", "service", "secure", "test_hello"]
    assert len(blocks(TUTORIAL, "python")) == len(names)


async def test_the_tutorials_server_greets_sums_and_refuses(caplog: pytest.LogCaptureFixture) -> None:
    async with trio_http.testing.open_client(from_tutorial("hello")["app"]) as client:
        assert (await client.get("/hello/you")).text == "hello you\n"
        assert (await client.post("/sum", content=b"[1, 2, 3]")).json() == {"sum": 6}
        assert (await client.post("/sum", content=b"no json")).status == 400
        assert (await client.get("/")).status == 404
        assert caplog.records == []
        assert (await client.post("/sum", content=b'[1, "a"]')).status == 500
    assert len(caplog.records) == 1


async def test_the_tutorials_count_goes_to_its_end_or_ends_with_its_client(
    capsys: pytest.CaptureFixture[str], autojump_clock: trio.testing.MockClock
) -> None:
    async with trio_http.testing.open_client(from_tutorial("count")["app"]) as client:
        assert (await client.get("/")).text == "".join(f"{number}\n" for number in range(60))
        assert capsys.readouterr().out == "ended: None\n"
        async with client.stream("GET", "/") as response:
            assert await response.body.receive_some() == b"0\n"
        await trio.sleep(0.5)
        assert capsys.readouterr().out == "ended: CancelReason.CLIENT_DISCONNECTED\n"


async def test_the_tutorials_upload_takes_what_it_allows(autojump_clock: trio.testing.MockClock) -> None:
    async with trio_http.testing.open_client(from_tutorial("upload")["app"]) as client:
        answer = await client.post("/", content=b"hello")
        assert answer.text == hashlib.sha256(b"hello").hexdigest() + "\n"
        assert (await client.post("/", content=bytes(10_000_001))).status == 413

        async def silent() -> AsyncIterator[bytes]:
            yield b"hello"
            await trio.sleep(1000)

        began = trio.current_time()
        assert (await client.post("/", content=silent())).status == 408
        assert trio.current_time() - began == 60


async def printed_url(capsys: pytest.CaptureFixture[str]) -> str:
    """What a program of the tutorial says that it serves on."""
    printed = ""
    while "http" not in printed:
        await trio.testing.wait_all_tasks_blocked()
        printed = capsys.readouterr().out
    return printed.split()[-1] + "/"


@pytest.mark.interop
@pytest.mark.skipif(os.name != "posix", reason="signals are sent by kill(2)")
async def test_the_tutorials_service_answers_before_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    names = from_tutorial("service")
    asked, answers = trio.Event(), []

    async def app(request: trio_http.Request) -> trio_http.Response:
        asked.set()
        return await slow(request)

    slow, names["app"] = names["app"], app
    async with trio_http.Client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(names["main"], 0)
        url = await printed_url(capsys)

        async def ask() -> None:
            answers.append(await client.get(url))

        nursery.start_soon(ask)
        await asked.wait()
        os.kill(os.getpid(), signal.SIGTERM)
    assert [(answer.status, answer.headers["connection"]) for answer in answers] == [(200, "close")]


@pytest.mark.interop
async def test_the_tutorials_secure_server_speaks_tls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            from_tutorial("secure")["main"], str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"), 0
        )
        url = await printed_url(capsys)
        async with trio_http.Client(ssl_context=context) as client:
            assert (await client.get(url)).text == "by TLSv1.3\n"
        nursery.cancel_scope.cancel()


async def test_the_tutorials_tests_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    hello = types.ModuleType("hello")
    vars(hello).update(from_tutorial("hello"))
    monkeypatch.setitem(sys.modules, "hello", hello)
    tests = [value for name, value in from_tutorial("test_hello").items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        await test()
