"""Plays many seeds, or one of them to be looked at.

``python -m tests.simulation --seeds 100000 --first 0 --processes 2`` prints how it goes and what has
happened, and the seeds that failed, each with the command that shows it again; it ends with status 1 if there
are any.
``python -m tests.simulation --replay 1234`` prints the plan of a seed, what came of it, and how it failed.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import multiprocessing
import pprint
import sys
import time
import traceback
from collections.abc import Sequence

import attrs

from tests.simulation._runs import Program, play, replay_command
from tests.simulation._totals import Totals
from tests.simulation._world import BOUND
from trio_http.testing import simulate

# Runs between two words from a process. Arbitrary.
_BATCH = 250


def play_all(first: int, count: int, processes: int) -> int:
    """Play so many seeds; return how many have failed."""
    batches = [range(at, min(at + _BATCH, first + count)) for at in range(first, first + count, _BATCH)]
    totals, events = Totals(), collections.Counter[str]()
    failures: list[tuple[int, str]] = []
    begun, done = time.monotonic(), 0
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        for future in concurrent.futures.as_completed([pool.submit(play, batch) for batch in batches]):
            seeds, failed, seen, counted = future.result()
            done += len(seeds)
            totals.add(counted)
            events.update(seen)
            failures += failed
            seconds = time.monotonic() - begun
            print(f"{done} of {count} runs, {len(failures)} failed, {seconds:.0f} s", flush=True)
            for seed, reason in failed:
                print(f"  seed {seed}: {reason[:300]}\n    {replay_command(seed)}", flush=True)
    print()
    print(totals)
    print(f"the network: {_counts(events)}")
    print(f"{count} runs, {len(failures)} failed, {time.monotonic() - begun:.0f} s")
    for seed, reason in sorted(failures):
        print(f"  {replay_command(seed)}    # {reason[:100]}")
    return len(failures)


def replay(seed: int) -> bool:
    """Play one seed and print all about it; return whether it has failed."""
    program = Program()
    report = simulate(program, seeds=[seed], max_virtual_seconds=BOUND, keep_going=True)
    world = program.world
    pprint.pp(attrs.asdict(world.plan), width=140, compact=True)
    print(*world.log, sep="\n")
    print(f"what came of it: {world.digest()}")
    print(f"what the network did: {report.digest}")
    print(report)
    for failure in report.failures:
        traceback.print_exception(failure)
    return bool(report.failures)


def _counts(counter: collections.Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many; 2000")
    parser.add_argument("--first", type=int, default=0, help="the first of them; 0")
    parser.add_argument("--processes", type=int, default=1, help="side by side; 1")
    parser.add_argument("--replay", type=int, metavar="SEED", help="play one, and print all about it")
    given = parser.parse_args(arguments)
    if given.replay is not None:
        return int(replay(given.replay))
    return int(play_all(given.first, given.seeds, given.processes) > 0)


if __name__ == "__main__":
    sys.exit(main())
