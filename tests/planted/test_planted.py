"""Mistakes that somebody could make, made on purpose in copies of the package: the tests find each of them.

What a proof is worth shows when there is something to be found. A defect that goes unseen is a hole in the
proof; the scenarios that closed such holes are in `tests/cancellation/test_holes*.py`. All defects are listed
in `docs/explanation/planted-defects.md`; ``python -m tests.planted`` writes that page anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import attrs
import pytest

from tests.planted._defects import DEFECTS
from tests.planted._page import PAGE, rows, written_rows
from tests.planted._planting import ROOT, AnchorMoved, Defect, Outcome, Runner, copied, plant
from tests.planted._trials import Trials

T = TypeVar("T", bound=Callable[..., object])


def runs_batteries(test: T) -> T:
    """Mark a test: some batteries are of real sockets, and all run in forked processes."""
    forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    marked: T = pytest.mark.interop(forks(test))
    return marked


@pytest.fixture(scope="module")
def trials(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    """The trials of those defects whose tests were selected; they begin with the first that is asked for."""
    found = [
        item for item in request.session.items if item.name.startswith("test_a_planted_defect_is_found[")
    ]
    chosen = [getattr(item, "callspec").params["defect"] for item in found]  # noqa: B009  # no public class has it
    # Without any, the untouched copy is tried with the batteries of all.
    with Trials(chosen or DEFECTS, tmp_path_factory.mktemp("planted")) as running:
        yield running


def told(outcome: Outcome) -> str:
    """Return what a test has to say of an outcome that is not the expected one."""
    return f"status {outcome.status}, {outcome.test or 'no test'} said:\n{outcome.said}\n{outcome.output}"


@runs_batteries
def test_the_untouched_copy_passes_every_battery(trials: Trials, tmp_path: Path) -> None:
    outcome = trials.control()
    assert outcome.status == 0, told(outcome)
    assert outcome.package == str(trials.base / "trio_http")
    assert outcome.runs > outcome.passed > 0


@runs_batteries
@pytest.mark.parametrize("defect", DEFECTS, ids=[defect.name for defect in DEFECTS])
def test_a_planted_defect_is_found(defect: Defect, trials: Trials) -> None:
    outcome = trials.outcome(defect)
    assert outcome.status != 0, f"nobody has noticed that {defect.what}"
    # Anything but 1 is no failed test: the copy could not be imported, say, or the battery is not there.
    assert outcome.status == 1, told(outcome)
    assert outcome.test, told(outcome)
    assert re.search(defect.symptom, outcome.said), f"expected {defect.symptom!r}: {told(outcome)}"
    assert (where := written_rows().get(defect.name)), f"{PAGE} has no row for it: write it anew"
    assert where == rows({defect: outcome})[defect.name], f"{PAGE} says something else: write it anew"


def test_the_page_has_no_row_for_a_defect_that_is_not_planted() -> None:
    assert sorted(written_rows()) == sorted(defect.name for defect in DEFECTS)


def test_no_two_defects_have_one_name() -> None:
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect.name for defect in DEFECTS])
def test_a_defect_changes_one_place_of_a_program_that_is_still_one(defect: Defect, tmp_path: Path) -> None:
    """Quick, so that who moves an anchor is told at once."""
    file = tmp_path / "trio_http" / defect.file
    file.parent.mkdir(parents=True)
    source = (ROOT / "trio_http" / defect.file).read_text("utf-8")
    file.write_text(source, "utf-8")
    plant(defect, tmp_path)
    assert file.read_text("utf-8") != source


@pytest.mark.parametrize("anchor", ["no such line\n", "    return "], ids=["none", "several"])
def test_an_anchor_that_has_moved_is_told(anchor: str, tmp_path: Path) -> None:
    defect = attrs.evolve(DEFECTS[0], name="moved", anchor=anchor)
    file = tmp_path / "trio_http" / defect.file
    file.parent.mkdir(parents=True)
    file.write_text("def f():\n    return 1\n\n\ndef g():\n    return 2\n", "utf-8")
    with pytest.raises(AnchorMoved, match=r"'moved' has moved: its text occurs (0|2) times"):
        plant(defect, tmp_path)


@runs_batteries
def test_a_defect_that_nobody_looks_for_is_not_found(tmp_path: Path) -> None:
    """The trial itself can say no: a battery that has nothing to do with the defect passes."""
    project = copied(tmp_path / "project")
    defect = next(defect for defect in DEFECTS if defect.file == "client/_race.py")
    plant(defect, project)
    with Runner() as runner:
        outcome = runner.run(project, ("tests/cancellation/test_pool.py::test_a_dial_that_fails",))
    assert (outcome.status, outcome.passed, outcome.said) == (0, 1, ""), told(outcome)
    assert outcome.runs > 1
