"""Whole clients and servers on simulated networks, by chance: what must hold holds in every run.

What is played is in `tests.simulation._plan`, what must hold in `tests.simulation._world` and
`tests.simulation._invariants`. ``SIMULATION_SEEDS=10000`` plays more seeds, and ``SIMULATION_FIRST=1234``
begins with another one; a failure names its seed. ``python -m tests.simulation`` plays many more, in several
processes, and shows one of them in detail.
"""

from __future__ import annotations

import functools
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.simulation._handlers import Site
from tests.simulation._manners import MANNERS, Caller, take_turn
from tests.simulation._plan import MANNERS as DRAWN
from tests.simulation._runs import Program, replay_command, run
from tests.simulation._totals import Totals
from trio_http import Request, Response
from trio_http.client import _body, _plan, _pool
from trio_http.server import _accept
from trio_http.testing import SimulationFailed, SimulationReport, simulate
from trio_http.transport import _stream

ROOT = Path(__file__).resolve().parents[2]

FIRST = int(os.environ.get("SIMULATION_FIRST", "0"))
COUNT = int(os.environ.get("SIMULATION_SEEDS", "2000"))
SIZE = math.ceil(COUNT / 20)
BATCHES = [range(at, min(at + SIZE, FIRST + COUNT)) for at in range(FIRST, FIRST + COUNT, SIZE)]


@functools.cache
def played(batch: range) -> tuple[SimulationReport, Totals]:
    print(f"seeds {batch.start} to {batch.stop - 1}; each can be seen again by {replay_command(batch.start)}")
    return run(batch)


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: f"{batch.start}-{batch.stop - 1}")
def test_nothing_leaks_lies_or_hangs_whatever_happens(batch: range) -> None:
    report, totals = played(batch)
    print(report, totals, sep="\n")
    assert report.runs == totals.counts["runs"]["played"] == len(batch)


def test_everything_that_can_happen_has_happened_in_these_seeds() -> None:
    """Or the other test would hold for a plan in which nothing does. It takes some hundred seeds."""
    events: Counter[str] = Counter()
    totals = Totals()
    for batch in BATCHES:
        report, counted = played(batch)
        events.update(report.events)
        totals.add(counted)
    print(totals)
    counts = totals.counts
    assert set(DRAWN) == set(MANNERS)
    assert set(counts["manners"]) == set(MANNERS)
    assert set(counts["as wanted"]) == set(MANNERS)
    for outcome in (
        "complete", "cancelled", "raised on purpose", "Refused", "PoolClosed", "ConnectFailed",
        "ConnectionLost", "ResponseIncomplete", "RaceFailed", "BrokenResourceError", "ConnectionRefusedError",
    ):  # fmt: skip
        assert counts["outcomes"][outcome], outcome
    for event in (
        "server stopped", "server started again", "client left", "client cancelled", "client raised",
    ):  # fmt: skip
        assert counts["events"][event], event
    for closing in (
        "server closed", "client closed", "drain", "upgraded", "client disconnected", "handler failed",
        "protocol error", "idle for too long", "head too slow", "body too slow", "write stalled", "deadline",
    ):  # fmt: skip
        assert counts["closings"][closing], closing
    assert counts["runs"]["connections refused"]
    assert counts["runs"]["in which nothing had a reason to fail"]
    for event in (
        "split", "stall", "reset", "cut", "silence", "lose", "refuse", "black hole", "end", "answer by reset",
    ):  # fmt: skip
        assert events[event], event


# ----------------------------------------------------------------------------------------- the same run again


def digests(seed: int) -> tuple[str, str]:
    """Return what the network did, and what came of it."""
    program = Program()
    return simulate(program, seeds=[seed]).digest, program.world.digest()


def test_a_seed_plays_the_same_run_again_in_whatever_process() -> None:
    seeds = range(FIRST, FIRST + 12)
    here = [digests(seed) for seed in seeds]
    assert len(set(here)) == len(seeds)
    code = (
        "from tests.simulation.test_simulation import digests;"
        f"print([digests(seed) for seed in reversed(range({seeds.start}, {seeds.stop}))])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == str(here[::-1])


def test_a_seed_can_be_looked_at() -> None:
    command = [sys.executable, *replay_command(FIRST).split()[1:]]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"what came of it: {digests(FIRST)[1]}" in ran.stdout


# -------------------------------------------------------------------------- mistakes that are made on purpose


def find(reason: str, **options: Any) -> None:
    """See that one run of so many fails, and for this reason; others may fail for what else comes of it."""
    others = []
    for seed in range(60):
        try:
            run([seed], **options)
        except SimulationFailed as exc:
            if re.search(reason, exc.reason):
                return
            others.append(exc.reason)
    raise AssertionError(f"{len(others)} runs have failed, and none of them by {reason!r}: {others}")


class Mixed(Site):
    """Gives a plain request what another one has asked for."""

    _last: Response | None = None

    async def __call__(self, request: Request) -> Response | None:
        answer = await super().__call__(request)
        if "/plain/" in request.path and answer is not None:
            answer, self._last = self._last or answer, answer
        return answer


class Short(Site):
    """Leaves the last byte out."""

    async def __call__(self, request: Request) -> Response | None:
        answer = await super().__call__(request)
        if "/sleep/" in request.path and answer is not None:
            return Response(
                answer.status, answer.content[:-1], headers={"x-marker": answer.headers["x-marker"]}
            )
        return answer


class Hasty(Site):
    """Does everything twice, though it was asked once."""

    async def __call__(self, request: Request) -> Response | None:
        if "/take/" in request.path:
            self.executed["client", request.path] += 1
        return await super().__call__(request)


class Broken(Site):
    """Fails as nobody has planned."""

    async def __call__(self, request: Request) -> Response | None:
        if "/inform/" in request.path:
            raise ZeroDivisionError
        return await super().__call__(request)


@pytest.mark.parametrize(
    ("site", "reason"),
    [
        (Mixed, "got the answer to"),
        (Short, "the first wrong one is"),
        (Hasty, "was done"),
        (Broken, "answered 500|ZeroDivisionError"),
    ],
)
def test_a_mistake_of_a_server_is_found(site: type[Site], reason: str) -> None:
    find(reason, make_site=site)


async def swallow_a_cancel(caller: Caller) -> None:
    try:
        await take_turn(caller)
    except trio.Cancelled:
        pass


async def be_late_to_go(caller: Caller) -> None:
    try:
        await take_turn(caller)
    finally:
        with trio.move_on_after(0.5, shield=True):
            await trio.sleep_forever()


async def leave_a_stream_open(caller: Caller) -> None:
    if caller.errand.manner == "alone":
        await caller.dial(caller.errand.host)
    await take_turn(caller)


async def leave_a_task_behind(caller: Caller) -> None:
    if caller.errand.manner == "alone":
        trio.lowlevel.spawn_system_task(trio.sleep, 100)
    await take_turn(caller)


async def take_a_part_for_the_whole(caller: Caller) -> None:
    if caller.errand.manner == "torn":
        raise AssertionError("as whole")
    await take_turn(caller)


@pytest.mark.parametrize(
    ("perform", "reason"),
    [
        (swallow_a_cancel, "swallowed"),
        (be_late_to_go, "was cancelled at"),
        (leave_a_stream_open, "left open"),
        (leave_a_task_behind, "tasks live"),
        (take_a_part_for_the_whole, "as whole"),
    ],
)
def test_a_mistake_of_a_client_is_found(perform: Callable[[Caller], Any], reason: str) -> None:
    find(reason, perform=perform)


# Planted in the package itself: the tools of a run are its clients and servers, and nothing is told of these.


def test_a_connection_that_does_not_come_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def discard(self: Any, link: Any, because: str, error: BaseException | None = None) -> None:
        link.transport.close()
        link.tell_end("closed", because, error)
        self._tell_closed(link, because)
        await link.transport.aclose_forcefully()

    monkeypatch.setattr(_pool.Pool, "discard", discard)
    find("leased=1")


def test_a_waiter_that_is_not_removed_is_found() -> None:
    """Trio says so first: a task is woken that does not wait any more. Of such a run, wreckage is left."""
    code = (
        "from trio_http.client import _ledger;"
        "_ledger.Ledger.give_up = lambda self, waiter: [];"
        "from tests.simulation._runs import run;"
        "run(range(60))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "SimulationFailed" in ran.stderr
    assert re.search("TrioInternalError|Should never have been rescheduled", ran.stderr)


def test_a_connection_that_is_given_back_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave(self: Any, *, reuse: bool, error: BaseException | None = None) -> None:
        self._closed = True
        if not self._released:
            self._released = True
            self._owner.give_back(self._link)

    monkeypatch.setattr(_body.ResponseBody, "leave", leave)
    find("state (DONE|MUST_CLOSE)")


def test_a_cancel_with_another_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = _stream.StreamTransport.receive

    async def renaming(self: Any) -> bytes:
        try:
            return await receive(self)
        except trio.Cancelled:
            raise trio.BrokenResourceError("something went wrong") from None

    monkeypatch.setattr(_stream.StreamTransport, "receive", renaming)
    find("closed_because='something went wrong'")


def test_a_request_that_is_sent_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plan.RequestPlan, "is_idempotent", True)
    find("so that it may have been done")


def test_a_server_that_forgets_that_connections_have_left_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_accept.Gate, "leave", lambda self: None)
    find("entered and not left|has not ended")
