"""Many runs of a program on a simulated network, each of them repeatable by its seed."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator

import trio

from ._arguments import check_function, check_int
from ._scheduler import resting_collector
from ._simulated_trace import trace_digest
from ._simulated_weather import CLEAR, ConnectionFacts, Weather, check_weather
from ._simulation_report import SimulationFailed, SimulationReport
from ._simulation_run import SimulatedRun, Simulation, Terms
from ._steering import steering


def simulate(
    program: Callable[[Simulation], Awaitable[object]],
    *,
    seeds: Iterable[int] = range(100),
    weather: Weather | Callable[[ConnectionFacts], Weather] = CLEAR,
    buffer_bytes: int = 64 * 1024,
    max_virtual_seconds: float = 3600.0,
    max_steps: int = 1_000_000,
    keep_going: bool = False,
) -> SimulationReport:
    """Run ``program`` once for each seed: one seed, one run, today and tomorrow.

    ::

        async def program(simulation):
            listener = simulation.network.listen("example.org", 80)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio_http.serve_listeners, app, [listener])
                async with trio_http.Client(dial=simulation.network.dial) as client:
                    ...
                nursery.cancel_scope.cancel()

        def test_it_works_in_any_weather():
            print(simulate(program, seeds=range(1000), weather=STORM))

    Each run is a `trio.run` of its own, with a clock that jumps as soon as all tasks wait, and its own
    `SimulatedNetwork`. The seed decides the order in which ready tasks run, the weather of each connection,
    what the module `random` gives and what ``simulation.random`` gives. Python's garbage collector runs
    between the runs and not in them.

    A run has failed when the program raises, does not end, or leaves streams or listeners of its network
    open. What it should have done besides is for the program to check.

    Not repeatable are threads, real sockets and files, the wall clock, `secrets`, and the order of a set: of
    strings between two processes, of objects that do not define a hash even between two runs.

    Args:
      program: is called with a `Simulation`.
      seeds: of the runs, in this order; at least one.
      weather, buffer_bytes: as `SimulatedNetwork`.
      max_virtual_seconds: a run that takes longer on its clock does not end. Arbitrary.
      max_steps: so does one whose tasks take more steps. Arbitrary: some seconds of work.
      keep_going: also after a failure.

    Returns:
      What was tried. With ``keep_going``, what has failed: that it is nothing is the caller's to assert.

    Raises:
      SimulationFailed: a run has failed; its text has the seed. Not with ``keep_going``.
      TypeError: an argument is of the wrong kind, such as one number for ``seeds``.
      ValueError: there are no seeds, or a limit is too low.
      RuntimeError: called within a `trio.run`; there, use `SimulatedNetwork`. Or another thread sweeps or
        simulates already.
    """
    if not max_virtual_seconds > 0 or max_steps < 1:
        raise ValueError(f"limits are above 0, got {max_virtual_seconds!r} virtual s and {max_steps!r} steps")
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("simulate() runs Trio itself; within a run use SimulatedNetwork")
    terms = Terms(
        program=program,
        weather=weather,
        buffer_bytes=buffer_bytes,
        max_virtual_seconds=max_virtual_seconds,
        max_steps=max_steps,
    )
    check_function("the program", program, ("a Simulation",))
    check_weather(weather)
    if not isinstance(seeds, Iterable):
        raise TypeError(f"seeds are several, range({seeds!r}) or [{seeds!r}], and not {seeds!r}")
    failures: list[SimulationFailed] = []
    events: Counter[str] = Counter()
    digest = hashlib.blake2b(digest_size=16)
    runs = steps = connections = 0
    seconds = 0.0
    with steering(f"a simulation of {terms.name}"), _steady_process():
        for seed in seeds:
            check_int("a seed", seed)
            run = SimulatedRun(terms, seed)
            failed = run.run()
            if failed is not None and not keep_going:
                raise failed
            if failed is not None:
                failures.append(failed)
            runs += 1
            steps += run.steps
            seconds += run.seconds
            connections += len(run.network.connections)
            events.update(run.network.events)
            digest.update(f"{seed} {run.steps} {trace_digest(run.network.trace)}\n".encode())
            del run, failed
            # Here, so that nothing is finalized in the next run, at a moment that depends on this one.
            gc.collect()
    if not runs:
        raise ValueError(f"there are no seeds in {seeds!r}: nothing was tried")
    return SimulationReport(
        runs=runs,
        failures=tuple(failures),
        steps=steps,
        virtual_seconds=seconds,
        connections=connections,
        events=events,
        digest=digest.hexdigest(),
    )


@contextlib.contextmanager
def _steady_process() -> Iterator[None]:
    """Keep the process's own chance out of the block, and the block's out of what follows."""
    state = random.getstate()
    # What was there before need not be looked at after each run; that takes longer than the run.
    may_freeze = hasattr(gc, "freeze")
    frozen_before = may_freeze and gc.get_freeze_count() > 0
    with resting_collector():
        if may_freeze:
            gc.freeze()
        try:
            yield
        finally:
            if may_freeze and not frozen_before:
                gc.unfreeze()
            random.setstate(state)
