"""The load scripts run, at tiny sizes, and what they claim holds; and their judges can find fault.

The scripts are programs of their own in benchmarks/load, each with its server in a further process. A faulty
server for the judges is one of ours with a handler that answers wrongly.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

import pytest
import trio

import trio_http
from tests.interop.programs import run

pytestmark = pytest.mark.interop

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "load"
SECONDS = 100.0  # the slowest takes ten on a quiet machine

Import = Callable[[str], ModuleType]


@pytest.fixture
def load_module(monkeypatch: pytest.MonkeyPatch) -> Import:
    """A function that imports a module of the scripts, which find one another by their folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


# --------------------------------------------------------------------------------------------- whole scripts


@pytest.mark.parametrize(
    "script", ["idle", "slowloris", "flood", "pipeline", "disconnects", "stalled", "disconnect"]
)
async def test_what_a_load_script_claims_of_our_server_holds(
    script: str, program: Callable[[str], str]
) -> None:
    if script == "idle":
        program("wrk")
    command = [sys.executable, str(FOLDER / f"{script}.py"), "--quick", "--server", "ours", "--seed", "1"]
    done = await run(command, seconds=SECONDS)
    output = done.stdout.decode()
    assert done.returncode == 0, output + done.stderr.decode()
    assert "\nseed 1\n" in output
    assert "\n| ours" in output
    assert "\n- holds: " in output


@pytest.mark.parametrize("script", ["stalled", "disconnect"])
async def test_a_peer_that_does_not_hold_is_a_figure_and_no_failure(script: str) -> None:
    command = [sys.executable, str(FOLDER / f"{script}.py"), "--quick", "--server", "hypercorn"]
    done = await run(command, seconds=SECONDS)
    output = done.stdout.decode()
    assert done.returncode == 0, output + done.stderr.decode()
    assert "still running after" in output or "finished" in output
    assert "holds" not in output


async def test_a_server_that_is_not_known_is_refused() -> None:
    done = await run([sys.executable, str(FOLDER / "flood.py"), "--server", "none"], seconds=SECONDS)
    assert done.returncode == 2
    assert b"no such server: none" in done.stderr


# -------------------------------------------------------------------------------------- the judges find fault


async def judged(
    handler: Callable[[trio_http.Request], Awaitable[trio_http.Response]],
    judge: Callable[[int], Awaitable[None]],
) -> None:
    """Run a judge beside a server of ours with the given handler."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(trio_http.serve_tcp, handler, 0))
        await judge(server.listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def test_answers_of_another_request_are_found_among_disconnects(load_module: Import) -> None:
    load_module("_load")
    disconnects = load_module("disconnects")

    async def of_another(request: trio_http.Request) -> trio_http.Response:
        await request.read()
        return trio_http.Response(200, text="of another\n")

    async def judge(port: int) -> None:
        load = disconnects.Load(port, 1)
        await load.run(100)
        assert load.counts["right"] == 0
        assert "a wrong answer to" in load.wrong[0]

    await judged(of_another, judge)


async def test_pipelined_answers_in_another_order_are_found(load_module: Import) -> None:
    load_module("_load")
    pipeline = load_module("pipeline")
    client = load_module("_client")

    async def swapped(request: trio_http.Request) -> trio_http.Response:
        number = int(request.path.rpartition("/")[2])
        return trio_http.Response(200, text=f"{ {5: 6, 6: 5}.get(number, number) }\n")

    async def judge(port: int) -> None:
        with trio.socket.from_stdlib_socket(client.connect(port)) as sock:
            assert await pipeline.batch(sock, 7, 20) == ""
            assert await pipeline.batch(sock, 0, 20) == "answer 5 is 200 b'6\\n'"

    await judged(swapped, judge)


def test_a_claim_that_does_not_hold_is_the_exit_status(
    load_module: Import, capsys: pytest.CaptureFixture[str]
) -> None:
    report = load_module("_load").Report("title", ["figure"], rows={"ours": ["1"]})
    report.claim("one", True)
    assert report.close() == 0
    report.claim("two", False)
    assert report.close() == 1
    assert "- DOES NOT HOLD: two" in capsys.readouterr().out


def test_what_depends_on_the_machines_speed_is_not_judged_in_a_quick_run(load_module: Import) -> None:
    for quick in (True, False):
        report = load_module("_load").Report("title", ["figure"], rows={"ours": ["1"]}, quick=quick)
        report.claim("in time", False, timed=True)
        assert report.close() == (0 if quick else 1)


def test_a_server_that_breaks_is_a_line_of_the_table_and_the_exit_status(
    load_module: Import, capsys: pytest.CaptureFixture[str]
) -> None:
    load = load_module("_load")
    report = load.Report("title", ["figure"])

    def measure(name: str) -> list[str]:
        if name == "ours":
            raise RuntimeError("it broke")
        return ["2"]

    load.each(report, ["ours", "granian"], measure, "label")
    assert report.close() == 1
    output = capsys.readouterr().out
    assert "- ours: FAILED: RuntimeError: it broke" in output
    assert "granian" in output


HEAD = b"HTTP/1.1 200 OK\r\n"
WHOLE = HEAD + b"Content-Length: 3\r\n\r\none"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_answers_are_read_whatever_the_pieces_they_come_in(load_module: Import, size: int) -> None:
    load_module("_load")
    answers = load_module("_client").Answers()
    stream = b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE + CHUNKED
    found = []
    for start in range(0, len(stream), size):
        found += answers.feed(stream[start : start + size])
    assert [answer.content for answer in found] == [b"one", b"two"]
    assert answers.between
    assert answers.feed(WHOLE[:-1]) == []
    assert not answers.between


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"oneHTTP/1.1 200 OK\r\n\r\n",
        HEAD + b"\r\n",
        HEAD + b"no field\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\ntwo\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nno\r\n",
    ],
)
def test_what_is_no_answer_is_told(load_module: Import, stream: bytes) -> None:
    load_module("_load")
    answers = load_module("_client").Answers()
    with pytest.raises(ValueError):
        answers.feed(stream)
