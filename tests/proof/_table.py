"""The table of what the sweeps have tried: made from a report of pytest's plugin, kept in the docs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/explanation/proof.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"

# Tests of the sweep itself and of the documentation, whose scenarios have defects on purpose or are empty.
NOT_OF_THE_PACKAGE = ("tests/testing/", "tests/test_", "tests/conformance/test_checkpoints.py")


@attrs.frozen
class Row:
    """One test, and what its sweeps have tried.

    Attributes:
      test: file and function, with its parameters in brackets.
      points: the cancels that were tried.
      failures: those that broke a rule.
    """

    test: str
    points: int
    failures: int

    @property
    def file(self) -> str:
        return self.test.partition("::")[0]

    @property
    def scenario(self) -> str:
        """The test's name as a sentence."""
        name, bracket, rest = self.test.partition("::")[2].removeprefix("test_").partition("[")
        words = name.replace("_", " ")
        return f"{words} ({rest.removesuffix(']').strip('_')})" if bracket else words


def rows_of(report: Path) -> list[Row]:
    """Read a report; the sweeps of one test become one row. Tests that want a failure are left out."""
    rows: dict[str, Row] = {}
    for entry in json.loads(report.read_text("utf-8")):
        if entry["test"].startswith(NOT_OF_THE_PACKAGE) or "finds_a_defect" in entry["markers"]:
            continue
        before = rows.get(entry["test"], Row(entry["test"], 0, 0))
        rows[entry["test"]] = attrs.evolve(
            before, points=before.points + entry["points"], failures=before.failures + entry["failures"]
        )
    return sorted(rows.values(), key=lambda row: row.test)


def drawn(rows: Iterable[Row]) -> str:
    """Return the table, in parts by file, with the sums at its head."""
    rows = list(rows)
    total, failures = sum(row.points for row in rows), sum(row.failures for row in rows)
    lines = [
        f"**{len(rows)} scenarios, {total:,} cancel points, {failures} failures.**",
    ]
    for file in sorted({row.file for row in rows}):
        of_file = [row for row in rows if row.file == file]
        lines += [
            "",
            f"### {theme(file)}",
            "",
            f"`{file}`: {sum(row.points for row in of_file):,} cancel points",
            "",
            "| scenario | cancel points | failures |",
            "|---|---:|---:|",
            *(f"| {row.scenario.replace('|', '/')} | {row.points:,} | {row.failures} |" for row in of_file),
        ]
    return "\n".join(lines)


def theme(file: str) -> str:
    """Return what a file of tests is about: ``tests/client/test_race.py`` is "client: race"."""
    folder, name = Path(file).parts[-2:]
    return f"{folder}: {name.removeprefix('test_').removesuffix('.py').replace('_', ' ')}"


def table_in(page: str) -> str:
    """Return the part of the page between the marks."""
    return page[page.index(BEGIN) + len(BEGIN) : page.index(END)].strip()


def with_table(page: str, table: str) -> str:
    """Return the page with another table between its marks."""
    return page[: page.index(BEGIN) + len(BEGIN)] + f"\n{table}\n" + page[page.index(END) :]


def told_in(table: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Read a table: for file and scenario, the points and failures."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    file = ""
    for line in table.splitlines():
        if head := re.match(r"`(tests/[^`]+)`: ", line):
            file = head[1]
        elif row := re.match(r"\| (.+) \| ([\d,]+) \| (\d+) \|$", line):
            found[file, row[1]] = int(row[2].replace(",", "")), int(row[3])
    return found


def complaints(rows: list[Row], page: str) -> list[str]:
    """Return what the page does not tell, or tells wrongly, of a run.

    Numbers of points are not compared: they change with every await, with Trio and with Python.
    """
    told = told_in(table_in(page))
    ran = {(row.file, row.scenario.replace("|", "/")): row for row in rows}
    found = [f"{row.test} has failed at {row.failures} points" for row in rows if row.failures]
    found += [f"not in the table: {file}: {name}" for file, name in sorted(ran.keys() - told.keys())]
    found += [f"in the table, and not run: {file}: {name}" for file, name in sorted(told.keys() - ran.keys())]
    found += [f"tried nothing: {row.test}" for row in rows if not row.points]
    if (total := sum(row.points for row in rows)) < 1000:
        found.append(f"only {total} cancel points were tried")
    return found
