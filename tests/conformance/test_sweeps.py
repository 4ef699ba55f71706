"""Every public asynchronous function of client and server is cancelled at each of its checkpoints."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import trio_http.testing
from tests.conformance import _all_cases  # noqa: F401 - they register themselves
from tests.conformance._cases import CASES, Case
from tests.conformance._exemptions import NO_CHECKPOINT, NO_TURN_FOR_OTHERS
from tests.conformance._public import everything
from trio_http.testing import cancel_at_every_step

# The sweep does not show code of these.
_UNSEEN = tuple(str(Path(module.__file__ or "").parent) for module in (trio, trio_http.testing))


def is_seen(case: Case) -> bool:
    """Whether the sweep can tell that a cancel came within the function."""
    function = inspect.unwrap(everything()[case.name].function)
    exempt = str(case) in NO_CHECKPOINT or str(case) in NO_TURN_FOR_OTHERS
    return not exempt and not function.__code__.co_filename.startswith(_UNSEEN)


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for case in CASES.values()])
async def test_cancelled_at_every_checkpoint(case: Case, autojump_clock: MockClock) -> None:
    case.set_up(autojump_clock)
    report = await cancel_at_every_step(case.call, world=case.world, check=case.check)
    entry = everything()[case.name]
    if is_seen(case):
        reached = {name for point in report.points for name in point.within}
        names = {"__aenter__", "__aexit__", "aclose"} if entry.kind == "block" else {entry.runs_in}
        assert names & reached, f"no cancel came in {entry.runs_in}; they came in {sorted(reached)}"
    assert report.points
