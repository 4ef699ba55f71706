"""The page of what was proven: it says what was run, and the check of it can complain."""

from __future__ import annotations

import json
from pathlib import Path

from tests.proof._table import PAGE, ROOT, Row, complaints, drawn, rows_of, table_in, told_in, with_table

ROWS = [
    Row("tests/cancellation/test_pool.py::test_a_dial_in_progress", 900, 0),
    Row("tests/client/test_race.py::test_a_race[two_runners]", 1200, 0),
]
EMPTY = "# Proof\n\n<!-- table: begin -->\n<!-- table: end -->\n\nMore.\n"


def test_the_page_has_at_least_a_thousand_points_and_no_failure() -> None:
    told = told_in(table_in(PAGE.read_text("utf-8")))
    assert sum(points for points, _ in told.values()) >= 1000
    assert {failures for _, failures in told.values()} == {0}
    assert all(points > 0 for points, _ in told.values())


def test_the_page_names_files_that_exist_and_tests_that_are_in_them() -> None:
    for file, scenario in told_in(table_in(PAGE.read_text("utf-8"))):
        source = (ROOT / file).read_text("utf-8")
        name = "test_" + scenario.partition(" (")[0].replace(" ", "_")
        assert f"def {name}(" in source, f"{file} has no {name}"


def test_a_table_that_was_written_can_be_read() -> None:
    page = with_table(EMPTY, drawn(ROWS))
    assert told_in(table_in(page)) == {
        ("tests/cancellation/test_pool.py", "a dial in progress"): (900, 0),
        ("tests/client/test_race.py", "a race (two_runners)"): (1200, 0),
    }
    assert "**2 scenarios, 2,100 cancel points, 0 failures.**" in page
    assert page.startswith("# Proof\n")
    assert page.endswith("\nMore.\n")
    assert complaints(ROWS, page) == []
    assert with_table(page, drawn(ROWS)) == page


def test_what_the_page_does_not_tell_is_complained_of() -> None:
    page = with_table(EMPTY, drawn(ROWS))
    other = Row("tests/client/test_race.py::test_a_race[three_runners]", 1500, 0)
    assert complaints([ROWS[0], other], page) == [
        "not in the table: tests/client/test_race.py: a race (three_runners)",
        "in the table, and not run: tests/client/test_race.py: a race (two_runners)",
    ]
    assert complaints([ROWS[0], Row(ROWS[1].test, 1200, 3)], page) == [
        f"{ROWS[1].test} has failed at 3 points"
    ]
    assert complaints([ROWS[0], Row(ROWS[1].test, 0, 0)], page) == [
        f"tried nothing: {ROWS[1].test}",
        "only 900 cancel points were tried",
    ]


def test_sweeps_of_one_test_are_one_row_and_those_that_want_a_failure_none(tmp_path: Path) -> None:
    def entry(test: str, points: int, failures: int = 0, *markers: str) -> dict[str, object]:
        return {"test": test, "points": points, "failures": failures, "markers": markers}

    report = tmp_path / "report.json"
    entries = [
        entry("tests/client/test_b.py::test_it", 10),
        entry("tests/client/test_a.py::test_it", 10),
        entry("tests/client/test_a.py::test_it", 5, 1),
        entry("tests/client/test_a.py::test_that", 5, 1, "finds_a_defect"),
        entry("tests/testing/test_sweep.py::test_it", 5, 1),
        entry("tests/test_docs.py::test_it", 5, 1),
    ]
    report.write_text(json.dumps(entries), "utf-8")
    assert rows_of(report) == [
        Row("tests/client/test_a.py::test_it", 15, 1),
        Row("tests/client/test_b.py::test_it", 10, 0),
    ]
