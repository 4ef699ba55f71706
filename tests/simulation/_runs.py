"""Many runs, and what happened in all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.simulation._plan import drawn
from tests.simulation._totals import Totals
from tests.simulation._world import BOUND, FRESH, WEATHERS, World
from trio_http.testing import Simulation, SimulationReport, simulate


class Program:
    """What is simulated: a plan is drawn from the seed, and played.

    Args:
      totals: where all runs are counted; None: nowhere.
      options: of each `World`.

    Attributes:
      world: the last run.
    """

    world: World

    def __init__(self, totals: Totals | None = None, **options: Any) -> None:
        self._totals = totals
        self._options = options

    async def __call__(self, simulation: Simulation) -> None:
        plan = drawn(simulation.random)
        simulation.network.weather = lambda facts: WEATHERS["clear" if facts.host == FRESH else plan.weather]
        self.world = World(simulation, plan, **self._options)
        await self.world.play()
        if self._totals is not None:
            self._totals.add(self.world.totals)


def run(seeds: Iterable[int], *, keep_going: bool = False, **options: Any) -> tuple[SimulationReport, Totals]:
    """Play the plan of each seed.

    Args:
      seeds: of the runs.
      keep_going: also after a failure.
      options: of each `World`.

    Returns:
      What the networks did, and what the programs did.

    Raises:
      SimulationFailed: a run has failed; not with ``keep_going``.
    """
    totals = Totals()
    report = simulate(
        Program(totals, **options), seeds=seeds, max_virtual_seconds=BOUND, keep_going=keep_going
    )
    return report, totals


def play(seeds: range) -> tuple[range, list[tuple[int, str]], Counter[str], Totals]:
    """Play a batch in a process of its own.

    Returns:
      The batch; the seeds that failed, and how; what the networks did, and what the programs did.
    """
    report, totals = run(seeds, keep_going=True)
    failures = [(failure.seed, failure.reason) for failure in report.failures]
    return seeds, failures, Counter(report.events), totals


def replay_command(seed: int) -> str:
    """Return what shows a run again."""
    return f"python -m tests.simulation --replay {seed}"
