"""Planting: a copy of the package with one defect in it, and a battery of tests that is run on the copy.

The copy is a small project of its own: the package, the tests and `pyproject.toml`. So the tests that run in
it import the package beside them and not the one that is worked on; the battery's plugin refuses to go on
when that is not so. A battery is what pytest takes on its command line: files and single tests, be they
sweeps, runs of a simulation, or any others.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

ROOT = Path(__file__).resolve().parent.parent.parent

_WARM = Path(__file__).parent / "_warm.py"

# A battery takes seconds. This long on a machine that is busy, and then it counts as hanging. Arbitrary.
_BATTERY_SECONDS = 200

_NOT_COPIED = shutil.ignore_patterns("vectors", "smuggling", "interop", "*.pyc.*")


@attrs.frozen
class Defect:
    """A plausible mistake in the package, and the tests that have to find it.

    Attributes:
      name: a few words, for test ids and the page.
      what: what was done, and so what goes wrong, in one or two sentences.
      file: of the package, relative to it.
      anchor: text that occurs exactly once in the file.
      instead: what takes its place.
      battery: arguments for pytest: the smallest tests that are to find it.
      symptom: a regular expression for what the failed test says. It names the kind of the failure, so that
        a defect which merely breaks everything does not count as found.
    """

    name: str
    what: str
    file: str
    anchor: str
    instead: str
    battery: tuple[str, ...]
    symptom: str


@attrs.frozen
class Outcome:
    """What a battery has come to.

    Attributes:
      status: pytest's exit status: 0, all passed; 1, a test has failed; anything else, no test could tell,
        and -1, it took too long.
      package: the folder of the package that was tested.
      passed: tests that passed.
      runs: how often a scenario was run, in all sweeps of the battery together.
      test: the node id of the first test that failed; empty without one.
      said: what it said.
      output: of pytest, for who has to find out more.
    """

    status: int
    package: str
    passed: int
    runs: int
    test: str
    said: str
    output: str


class AnchorMoved(Exception):
    """The text that a defect replaces is not in its file exactly once. The table of defects has to follow."""

    def __init__(self, *, name: str, file: str, count: int) -> None:
        super().__init__(name, file, count)
        self.name, self.file, self.count = name, file, count

    def __str__(self) -> str:
        return (
            f"the anchor of {self.name!r} has moved: its text occurs {self.count} times in"
            f" trio_http/{self.file}, expected once"
        )


def copied(folder: Path, source: Path = ROOT) -> Path:
    """Make ``folder`` a project with copies of the package and the tests; return it.

    With the compiled files, which still fit since the times of their sources are copied too: compiling takes
    longer than most batteries.

    Args:
      folder: is made.
      source: a project as this one is.
    """
    for name in ("trio_http", "tests"):
        shutil.copytree(source / name, folder / name, ignore=_NOT_COPIED)
    shutil.copy2(source / "pyproject.toml", folder)
    return folder


def plant(defect: Defect, project: Path) -> None:
    """Put a defect into the package of a copied project.

    Raises:
      AnchorMoved: there is not one place for it, but none or several.
      SyntaxError: what is put there is no Python; the fault of who wrote the defect.
    """
    path = project / "trio_http" / defect.file
    source = path.read_text("utf-8")
    if (count := source.count(defect.anchor)) != 1:
        raise AnchorMoved(name=defect.name, file=defect.file, count=count)
    source = source.replace(defect.anchor, defect.instead)
    compile(source, str(path), "exec")
    path.write_text(source, "utf-8")


class Runner:
    """Runs batteries in processes of their own, one after the other. To be used in ``with``."""

    def __init__(self) -> None:
        self._warm: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._warm is not None:
            self._warm.communicate()  # it ends with its input

    def run(self, project: Path, battery: tuple[str, ...], *, seconds: float = _BATTERY_SECONDS) -> Outcome:
        """Run tests of a copied project on its package, up to the first that fails.

        What takes longer than ``seconds`` is killed, and its status is -1.
        """
        told = project / "outcome.json"
        told.unlink(missing_ok=True)
        arguments = [
            "-x", "-q", "-p", "no:cacheprovider", "-p", "tests.planted._battery", "--no-header", "--tb=short",
            # Hypothesis is imported before; its assertions need no rewriting here.
            "-W", "ignore::pytest.PytestAssertRewriteWarning",
            *battery,
        ]  # fmt: skip
        if self._warm is None:
            self._warm = subprocess.Popen(
                [sys.executable, str(_WARM)], cwd=project.parent, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.write(json.dumps([str(project), arguments, seconds]) + "\n")
        self._warm.stdin.flush()
        status, output = json.loads(self._warm.stdout.readline())
        facts = json.loads(told.read_text("utf-8")) if told.exists() else {}
        return Outcome(
            status=status,
            package=facts.get("package", ""),
            passed=facts.get("passed", 0),
            runs=facts.get("runs", 0),
            test=facts.get("test", ""),
            said=facts.get("said", ""),
            output=output,
        )

    def tried(self, defect: Defect, base: Path, folder: Path) -> Outcome:
        """Return what the defect's battery says of a copy of ``base`` that has the defect.

        Args:
          defect: what to plant.
          base: a copied project, which is not changed.
          folder: is made for the copy, and removed.

        Raises: as `plant`.
        """
        project = copied(folder, base)
        try:
            plant(defect, project)
            return self.run(project, defect.battery)
        finally:
            shutil.rmtree(folder)
