"""The synchronous functions of `trio_http.testing`, each called at least once."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import trio

from tests.conformance._cases import Visit, family
from tests.conformance.cases_testing import EXCHANGE, SCRIPT, app, ends, simulated
from trio_http.testing import (
    CLEAR,
    CancelPoint,
    ConnectionFacts,
    Faults,
    FaultyStream,
    MemoryStream,
    Place,
    Recording,
    RunState,
    Script,
    ScriptedPeer,
    ScriptFailed,
    SimulatedConnection,
    SimulatedNetwork,
    SimulatedStream,
    SimulationFailed,
    SimulationReport,
    SweepFailed,
    SweepReport,
    TraceEntry,
    UnexpectedRequest,
    memory_pair,
    no_descriptor_left,
    no_resource_warning,
    no_stream_left,
    no_task_left,
    open_client,
    open_scripted_server,
    simulate,
    watch_sweeps,
)


async def _program(_: object) -> None:
    await trio.lowlevel.checkpoint()


@family(
    "trio_http.testing",
    "memory_pair no_descriptor_left no_resource_warning no_stream_left no_task_left open_client"
    " open_scripted_server simulate watch_sweeps",
)
async def _(visit: Visit) -> None:
    for stream in visit("memory_pair", memory_pair):
        stream.close()
    for name, invariant in [
        ("no_descriptor_left", no_descriptor_left),
        ("no_resource_warning", no_resource_warning),
        ("no_task_left", no_task_left),
        ("no_stream_left", no_stream_left),
    ]:
        with visit(name, invariant):
            pass
    visit("open_client", lambda: open_client(app))
    visit("open_scripted_server", open_scripted_server)
    visit("simulate", lambda: simulate(_program), raises=RuntimeError)
    with visit("watch_sweeps", lambda: watch_sweeps(lambda report: None)):
        pass


# ---------------------------------------------------------------------------------------------------- streams


@family("trio_http.testing.MemoryStream", "__init__ __aiter__ close reset", looks=True)
async def _(visit: Visit) -> None:
    async with ends("MemoryStream")() as pair:
        stream: Any = pair.ours
        made = visit("__init__", lambda: MemoryStream(stream._incoming, stream._outgoing))
        made.close()
        visit("__aiter__", lambda: aiter(stream))
        visit.look_at(stream)
        visit("reset", stream.reset)
        visit("close", stream.close)


@family("trio_http.testing.FaultyStream", "__init__ __aiter__", looks=True)
async def _(visit: Visit) -> None:
    async with ends("MemoryStream")() as pair:
        stream = visit("__init__", lambda: FaultyStream(pair.ours))
        visit("__aiter__", lambda: aiter(stream))
        visit.look_at(stream)


@family("trio_http.testing.Faults", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(Faults(end_at=1))


# ---------------------------------------------------------------------------------------- records and scripts


@family("trio_http.testing.RecordedRequest", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(EXCHANGE.request)


@family(
    "trio_http.testing.Recording",
    "__init__ from_json to_json load save handler handler_around",
    looks=True,
)
async def _(visit: Visit) -> None:
    recording = visit("__init__", lambda: Recording([EXCHANGE]))
    visit.look_at(recording)
    text = visit("to_json", recording.to_json)
    visit("from_json", lambda: Recording.from_json(text))
    with tempfile.TemporaryDirectory() as name:
        visit("save", lambda: recording.save(Path(name) / "file"))
        visit("load", lambda: Recording.load(Path(name) / "file"))
    visit("handler", recording.handler)
    async with open_client(app) as client:
        visit("handler_around", lambda: recording.handler_around(client, upstream="http://a"))


@family("trio_http.testing.Replay", "__init__ check", looks=True)
async def _(visit: Visit) -> None:
    replay = visit("__init__", Recording().handler)
    visit("check", replay.check)
    visit.look_at(replay)


@family("trio_http.testing.UnexpectedRequest", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: UnexpectedRequest(EXCHANGE.request, ())))


STEPS: dict[str, tuple[Any, ...]] = {
    "expect": (b"a",),
    "expect_until": (b"\n",),
    "expect_until_end": (),
    "expect_end": (),
    "expect_broken": (),
    "expect_end_or_broken": (),
    "expect_nothing": (1,),
    "send": (b"a",),
    "send_bytewise": (b"a",),
    "wait": (1,),
    "wait_until_quiet": (),
    "call": (int,),
    "send_eof": (),
    "close": (),
    "cut": (),
    "reset": (),
    "then": (SCRIPT,),
    "repeat": (SCRIPT, 2),
}


def _add_steps(visit: Visit, script: Any) -> None:
    for name, arguments in STEPS.items():
        visit(name, lambda name=name, arguments=arguments: getattr(script, name)(*arguments))
    visit("send_slowly", lambda: script.send_slowly(b"ab", each=1, seconds=1))


@family("trio_http.testing.Script", " ".join(["send_slowly", *STEPS]), looks=True)
async def _(visit: Visit) -> None:
    _add_steps(visit, Script())
    visit.look_at(SCRIPT)


@family("trio_http.testing.ScriptedPeer", " ".join(["__init__", "send_slowly", *STEPS]), looks=True)
async def _(visit: Visit) -> None:
    peer = visit("__init__", ScriptedPeer)
    visit.look_at(peer)
    _add_steps(visit, peer)
    peer.stream.close()
    peer._own.close()


@family("trio_http.testing.ScriptFailed", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: ScriptFailed("no"))


@family("trio_http.testing.ScriptedServer", "__init__", looks=True)
async def _(visit: Visit) -> None:
    async with open_scripted_server(over="memory") as server:
        visit("__init__", lambda: type(server)((), None, None, None))
        visit.look_at(server)


# ------------------------------------------------------------------------------------- sweeps and simulations

POINT = CancelPoint(1, "woken", "a task", Place(__file__, 1, "function"), ("function",))


@family("trio_http.testing.CancelPoint", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(POINT)


@family("trio_http.testing.Place", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(POINT.place)


@family("trio_http.testing.RunState", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(RunState("a", "b", "c", "d"))


@family("trio_http.testing.SweepReport", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(SweepReport((POINT,), 1))


@family("trio_http.testing.SweepFailed", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: SweepFailed(POINT, "somewhere", "a task was left", RunState(), 0))


@family("trio_http.testing.SimulatedNetwork", "__init__ left_open listen close", looks=True)
async def _(visit: Visit) -> None:
    network = visit("__init__", SimulatedNetwork)
    visit("listen", lambda: network.listen("a", 80))
    visit("left_open", network.left_open)
    visit.look_at(network)
    visit("close", network.close)


@family("trio_http.testing.SimulatedListener", "__init__ close", looks=True)
async def _(visit: Visit) -> None:
    async with simulated()() as given:
        listener = visit("__init__", lambda: given.network.listen("b", 80))
        visit.look_at(listener)
        visit("close", listener.close)


@contextlib.asynccontextmanager
async def _a_stream() -> Any:
    async with simulated()() as given:
        stream = await given.network.dial("a", 80)
        given.streams.append(stream)
        yield stream


@family("trio_http.testing.SimulatedStream", "__init__ __aiter__ close reset", looks=True)
async def _(visit: Visit) -> None:
    async with _a_stream() as stream:
        visit("__init__", lambda: SimulatedStream(stream.connection, "client"))
        visit("__aiter__", lambda: aiter(stream))
        visit.look_at(stream)
        visit("reset", stream.reset)
        visit("close", stream.close)


@family("trio_http.testing.SimulatedConnection", "__init__", looks=True)
async def _(visit: Visit) -> None:
    async with _a_stream() as stream:
        ways = stream.end._outgoing, stream.end._incoming
        facts = ConnectionFacts(number=1, host="a", port=80, scheme="http", time=0, random=Random(0))
        visit("__init__", lambda: SimulatedConnection(facts, CLEAR, ways, []))
        visit.look_at(stream.connection)


@family("trio_http.testing.SimulatedEnd", "__init__", looks=True)
async def _(visit: Visit) -> None:
    async with _a_stream() as stream:
        end = stream.end
        visit("__init__", lambda: type(end)("client", end._incoming, end._outgoing))
        visit.look_at(end)


@family("trio_http.testing.SimulationFailed", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: SimulationFailed(seed=1, program="p", reason="no", seconds=0, steps=1))


REPORT = SimulationReport(
    runs=1, failures=(), steps=1, virtual_seconds=0, connections=0, events={}, digest=""
)


@family("trio_http.testing.SimulationReport", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(REPORT)


@family("trio_http.testing.TraceEntry", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(TraceEntry(0, 1, "client", "send", 1, 0))


@family("trio_http.testing.Weather", "on_way")
async def _(visit: Visit) -> None:
    visit("on_way", lambda: CLEAR.on_way("client"))
