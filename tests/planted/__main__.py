"""Plant all defects, one after the other, and write the page of what has found them."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from tests.planted._defects import DEFECTS
from tests.planted._page import PAGE, page
from tests.planted._planting import ROOT
from tests.planted._trials import Trials


def main() -> int:
    """Write the page, unless something is not found; return the exit status."""
    with tempfile.TemporaryDirectory() as folder, Trials(DEFECTS, Path(folder)) as trials:
        outcomes = {defect: trials.outcome(defect) for defect in DEFECTS}
        missed = {
            defect.name: outcome
            for defect, outcome in outcomes.items()
            if outcome.status != 1 or not re.search(defect.symptom, outcome.said)
        }
    for name, outcome in missed.items():
        print(f"not found, or not for its reason: {name}: {outcome.said or outcome.output}", file=sys.stderr)
    if missed:
        return 1
    (ROOT / PAGE).write_text(page(outcomes), "utf-8")
    print(f"{PAGE} has {len(outcomes)} defects")
    return 0


if __name__ == "__main__":
    sys.exit(main())
