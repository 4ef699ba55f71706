"""The page of planted defects: a table of what was planted, where, and what has found it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from tests.planted._planting import ROOT, Defect, Outcome

PAGE = "docs/explanation/planted-defects.md"

_HEAD = """\
# Planted defects

A proof that has never found anything says little about what it would find.
So mistakes are made on purpose: each row below is a small change of one place of the package, of the kind
that a review might let pass, made in a copy of it.
The tests named beside it are run on the copy, and have to fail, for the reason that was expected;
on an untouched copy they have to pass.

The last column says in which run of a scenario it showed: a sweep plays its scenario again for each place
where a cancel can come, and most mistakes show at a few of them only.
"-" is for what shows before the first cancel.

`tests/planted` has the changes themselves.
`python -m tests.planted` plants all of them and writes this page.

"""


@attrs.frozen
class Row:
    """What the page says of a defect, and a trial has to repeat.

    Attributes:
      file: of the package.
      what: what was done.
      test: which test has found it, without its parameters.
    """

    file: str
    what: str
    test: str


def rows(outcomes: Mapping[Defect, Outcome]) -> dict[str, Row]:
    """Return what the page is to say, by the defects' names."""
    return {
        defect.name: Row(defect.file, defect.what, _function(outcome.test))
        for defect, outcome in outcomes.items()
    }


def page(outcomes: Mapping[Defect, Outcome]) -> str:
    """Return the whole page."""
    lines = [
        f"There are {len(outcomes)} of them, and each is found.\n",
        "| defect | where | what was done | found by | in run |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows(outcomes).items():
        runs = next(outcome.runs for defect, outcome in outcomes.items() if defect.name == name)
        lines.append(f"| {name} | `{row.file}` | {row.what} | `{row.test}` | {runs if runs > 1 else '-'} |")
    return _HEAD + "\n".join(lines) + "\n"


def written_rows() -> dict[str, Row]:
    """Return what the page says, by the defects' names."""
    text = (ROOT / PAGE).read_text("utf-8")
    found = re.findall(r"^\| ([^|]+) \| `([^|]+)` \| ([^|]+) \| `([^|]+)` \| [-\d]+ \|$", text, re.MULTILINE)
    return {name: Row(file, what, test) for name, file, what, test in found}


def _function(test: str) -> str:
    """Return a node id without the folder that most have, and without parameters."""
    return test.partition("[")[0].removeprefix("tests/cancellation/")
