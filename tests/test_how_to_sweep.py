"""The guide to the sweep: its programs run, its mistakes are found, its failures read as it shows them."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio.testing

from tests.test_docs import ROOT, blocks
from tests.testing.test_sweep_pools import sweep_httpcore
from trio_http.testing import SweepFailed, SweepReport, cancel_at_every_step

PAGE = (ROOT / "docs/how-to/sweep-cancels.md").read_text("utf-8")
POOL, TEST, TAKE, LEND, *OTHERS = blocks(PAGE, "python")
FIRST, SECOND, ALL, HTTPCORES = blocks(PAGE, "text")

Stage = Callable[[str], ModuleType]


def with_methods(source: str, methods: str) -> str:
    """The pool's source, where these methods stand in the place of those of their names."""
    methods = textwrap.indent(textwrap.dedent(methods), "    ")
    for method in ast.parse(f"class Pool:\n{methods}").body[0].body:  # type: ignore[attr-defined]
        (pool,) = (node for node in ast.parse(source).body if getattr(node, "name", "") == "Pool")
        (old,) = (node for node in pool.body if getattr(node, "name", "") == method.name)  # type: ignore[attr-defined]
        lines = source.splitlines(keepends=True)
        first = min(node.lineno for node in (old, *old.decorator_list)) - 1
        new = methods.splitlines(keepends=True)
        begin = min(node.lineno for node in (method, *method.decorator_list)) - 2
        source = "".join([*lines[:first], *new[begin : method.end_lineno - 1], *lines[old.end_lineno :]])
    return source


MENDED_ONCE = with_methods(POOL, TAKE)
MENDED = with_methods(MENDED_ONCE, LEND)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A function that writes the page's two files, with this pool, and gives the module of the test."""

    def write(pool: str) -> ModuleType:
        folder = tmp_path / "shop"
        folder.mkdir()
        (folder / "pool.py").write_text(pool, "utf-8")
        (folder / "test_pool.py").write_text(TEST, "utf-8")
        monkeypatch.syspath_prepend(folder)
        for name in ("pool", "test_pool"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        test = importlib.import_module("test_pool")
        for name in ("pool", "test_pool"):
            monkeypatch.delitem(sys.modules, name)
        return test

    return write


async def failure_of(test: ModuleType) -> str:
    with pytest.raises(SweepFailed) as caught:
        await test.test_a_cancel_loses_no_item(None)
    assert isinstance(caught.value.__cause__, trio.TooSlowError)
    return f"{caught.value}\n"


async def swept(test: ModuleType, **options: Any) -> SweepReport:
    return await cancel_at_every_step(test.use, world=test.pool_in_use, check=test.check, **options)


async def test_the_first_failure_reads_as_it_is_shown(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    assert await failure_of(stage(POOL)) == FIRST


async def test_the_second_failure_is_found_when_the_first_is_mended(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    test = stage(MENDED_ONCE)
    assert await failure_of(test) == SECOND
    assert f"{await swept(test, keep_going=True)}\n" == ALL
    alone = await swept(test, keep_going=True, only="2 beside")
    assert [f"{failure}\n" for failure in alone.failures] == [SECOND]


@pytest.mark.parametrize("seed", range(4))
async def test_the_mended_pool_passes(
    stage: Stage, seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    test = stage(MENDED)
    await test.test_a_cancel_loses_no_item(None)
    report = await swept(test, seed=seed)
    own = sum(point.moment == "woken" for point in report.points)
    others = sum(point.moment == "beside" for point in report.points)
    assert len(report.points) == 3 * own - 1 + others


@pytest.mark.parametrize("source", OTHERS)
async def test_the_other_tests_of_the_page_pass(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "a_guide"}
    exec(compile(source, "sweep-cancels.md", "exec"), names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    await test(autojump_clock)


async def test_the_invariant_of_the_page_finds_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    (source,) = (source for source in OTHERS if "no_file_left" in source)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "a_guide"}
    careless = source.replace(
        "    finally:\n        draft.unlink()", "    finally:\n        pass\n    draft.unlink()"
    )
    assert careless != source
    exec(compile(careless, "sweep-cancels.md", "exec"), names)
    with pytest.raises(SweepFailed, match=r"left behind: .*draft\.txt"):
        await names["test_a_cancel_leaves_no_draft"](autojump_clock)


async def test_httpcore_fails_as_the_page_says(autojump_clock: trio.testing.MockClock) -> None:
    report = await sweep_httpcore(seed=0)
    assert HTTPCORES in str(report.failures[0])
    assert {failure.point.moment for failure in report.failures if failure.point} == {"beside"}


def test_the_moments_of_the_page_are_those_of_the_sweep() -> None:
    table = re.findall(r"^\| `(\w+)` \| ", PAGE, flags=re.MULTILINE)
    assert sorted(table) == ["beside", "deadline", "waiting", "woken"]
