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


async def test_what_the_soak_claims_of_our_client_holds() -> None:
    command = [sys.executable, str(FOLDER / "client_soak.py"), "--quick", "--seed", "1"]
    done = await run(command, seconds=SECONDS)
    output = done.stdout.decode()
    assert done.returncode == 0, output + done.stderr.decode()
    assert "\nseed 1\n" in output
    assert output.count("\n- holds: ") == 10


@pytest.mark.parametrize("processes", ["one", "two"])
async def test_what_the_soak_claims_of_our_client_and_our_server_holds(processes: str) -> None:
    command = [sys.executable, str(FOLDER / "soak.py"), "--quick", "--seed", "1"]
    done = await run([*command, *["--two-processes"] * (processes == "two")], seconds=SECONDS)
    output = done.stdout.decode()
    assert done.returncode == 0, output + done.stderr.decode()
    assert "\nseed 1\n" in output
    assert output.count("\n- holds: ") == (18 if processes == "one" else 20)


@pytest.mark.parametrize(
    ("planted", "refuted"),
    [
        # Apart from what is left over and shows in later rounds: so many wrong answers soon end all asking.
        (
            "other answer,lost tail,commit",
            [
                "no answer to another request, none in part",
                "no work that must not be cut short is",
            ],
        ),
        (
            "task,descriptor,memory,log,unraisable,socket",
            [
                "no task is left",
                "no descriptor is left open",
                "memory of the process",
                "nothing unexpected is logged",
                "no exception is raised where nobody can catch it",
                "no warning, of a resource or otherwise",
            ],
        ),
        ("hang", ["no request outlives its deadline"]),
        (
            "silence,lease",
            [
                "no request on a direct route goes without an answer",
                "no connection is in use, dialed or waited for between requests",
                "every pool can lend all its connections at once",
            ],
        ),
    ],
    ids=["wrong", "left over", "hang", "silence"],
)
async def test_what_is_planted_into_the_soak_is_found(planted: str, refuted: list[str]) -> None:
    command = [sys.executable, str(FOLDER / "soak.py"), "--quick", "--seed", "1", "--plant", planted]
    done = await run([*command, "--longest", "3", "--patience", "1"], seconds=SECONDS)
    output = done.stdout.decode()
    assert done.returncode == 1, output + done.stderr.decode()
    for claim in refuted:
        assert f"\n- DOES NOT HOLD: {claim}" in output, output


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


async def soaked(
    load_module: Import,
    handler: Callable[[trio_http.Request], Awaitable[trio_http.Response]],
    requests: int = 100,
) -> list[str]:
    """What the client's soak finds wrong with a server of ours in place of its peer."""
    load_module("_load")
    module = load_module("client_soak")
    wrong: list[str] = []

    async def judge(port: int) -> None:
        async def dial(*_: object) -> trio.SocketStream:
            return await trio.open_tcp_stream("127.0.0.1", port)  # of four addresses, this server has one

        async with module.open_client(dial) as client:
            soak = module.Soak(client, port, 1)
            await soak.run(requests, tasks=20)
            wrong.extend(soak.wrong)

    await judged(handler, judge)
    return wrong


async def test_an_answer_to_another_request_is_found_by_the_soak(load_module: Import) -> None:
    async def of_another(request: trio_http.Request) -> trio_http.Response:
        await request.read()
        number = int(request.path[1:]) + 1
        return trio_http.Response(200, headers={"X-Id": str(number), "X-Received": "0/00000000"})

    wrong = await soaked(load_module, of_another)
    assert len(wrong) >= 10
    assert all(" and was told (200, " in line for line in wrong)


async def test_a_content_of_another_answer_is_found_by_the_soak(load_module: Import) -> None:
    peer = load_module("_peer")

    async def of_another(request: trio_http.Request) -> trio_http.Response:
        number = int(request.path[1:])
        plan = peer.make_plan(1, number)
        sent = await request.read()
        received = "early" if plan.kind == "early" else peer.checksum(sent).decode()
        headers = {"X-Id": str(number), "X-Received": received}
        return trio_http.Response(200, content=peer.content_of(number ^ 1, plan.length), headers=headers)

    wrong = await soaked(load_module, of_another)
    assert len(wrong) >= 10
    assert all(" bytes, of " in line or "trailers of another" in line for line in wrong)


async def test_a_request_that_fails_though_the_peer_answers_well_is_found_by_the_soak(
    load_module: Import,
) -> None:
    async def broken(request: trio_http.Request) -> trio_http.Response:
        async with request.stream_response(200, headers={"Content-Length": "5"}):
            raise ValueError("breaks off")

    with_log = await soaked(load_module, broken)
    assert with_log
    assert all("failed: ResponseIncomplete" in line or "told" in line for line in with_log)


async def test_a_pool_that_has_lost_a_connection_is_found_by_the_soak(load_module: Import) -> None:
    load_module("_load")
    module = load_module("client_soak")
    held: list[trio_http.Request] = []
    all_here = trio.Event()

    async def hold(request: trio_http.Request) -> trio_http.Response:
        held.append(request)
        if len(held) >= 3:
            all_here.set()
        await all_here.wait()
        return trio_http.Response(200, content=b"held")

    async def judge(port: int) -> None:
        async def dial(*_: object) -> trio.SocketStream:
            return await trio.open_tcp_stream("127.0.0.1", port)

        for most, whole in ((2, False), (3, True)):
            held.clear()
            async with trio_http.Client(max_connections=most, dial=dial) as client:
                seconds = 30.0 if whole else 0.3
                assert await module.hold_all(client, port, 3, seconds=seconds) is whole

    await judged(hold, judge)


def test_the_soaks_peer_does_the_same_with_a_number_again(load_module: Import) -> None:
    peer = load_module("_peer")
    plans = [peer.make_plan(5, number) for number in range(2000)]
    assert plans == [peer.make_plan(5, number) for number in range(2000)]
    assert plans != [peer.make_plan(6, number) for number in range(2000)]
    assert {plan.kind for plan in plans} == set(peer.SOUND) | set(peer.UNSOUND)


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
