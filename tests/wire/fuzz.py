"""Runs the differential test on as many mutated inputs as wanted: ``python tests/wire/fuzz.py --count 1000000
--seed 1``.

It prints how often each row of the table of differences was met, and whatever no row explains; the exit
status is 1 if there was any. A run is repeated exactly by its seed; `tests/wire/test_differential.py` runs a
small one.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import sys
import time
from collections import Counter

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests.wire.corpus import mutated
from tests.wire.differential import check


def run(count: int, seed: int, seconds: float, show: int) -> int:
    """Check ``count`` inputs, or as many as ``seconds`` allow; print the result and return the number of
    faults.

    Args:
      count: inputs, at least 1.
      seed: of the mutations and of the splits.
      seconds: after which no new input is begun.
      show: how many faults are printed in full, at most.
    """
    rng = random.Random(seed)
    met: Counter[tuple[str, str, str]] = Counter()
    faults: list[str] = []
    kinds: Counter[str] = Counter()
    began = time.monotonic()
    done = 0
    while done < count and time.monotonic() - began < seconds:
        checked = check(mutated(rng), rng)
        met.update((difference.peer, difference.kind, row.id) for difference, row in checked.known)
        kinds.update(fault.partition(" ")[0] for fault in checked.faults)
        faults += checked.faults[: max(0, show - len(faults))]
        done += 1
    print(f"seed {seed}: {done} inputs in {time.monotonic() - began:.0f} s")
    for (peer, kind, id), times in sorted(met.items()):
        print(f"  {times:8} {peer:10} {kind:8} {id}")
    print(f"faults: {dict(kinds) or 'none'}")
    for fault in faults:
        print(fault[:4000])
    return kinds.total()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="inputs to try (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=3600, help="stop after this time (default: %(default)s)"
    )
    parser.add_argument("--show", type=int, default=20, help="faults to print in full (default: %(default)s)")
    arguments = parser.parse_args()
    sys.exit(1 if run(arguments.count, arguments.seed, arguments.seconds, arguments.show) else 0)


if __name__ == "__main__":
    main()
