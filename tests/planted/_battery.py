"""A plugin for the pytest that runs a battery: it counts runs, and writes down what the first failure says.

It is loaded before any test module, so the tests import sweeps that count.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import tests.cancellation._scenes
import tests.cancellation._worlds
import trio_http
import trio_http.testing


class _Told:
    """What has been seen so far; written out after each test, since a process may be killed."""

    def __init__(self) -> None:
        self.passed = 0
        self.runs = 0
        self.test = ""
        self.said = ""

    def write(self) -> None:
        facts = {"package": str(Path(trio_http.__file__).parent), **vars(self)}
        Path("outcome.json").write_text(json.dumps(facts), "utf-8")


_told = _Told()


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what does as ``function`` does, and counts its calls."""

    @functools.wraps(function)
    def count(*args: Any, **options: Any) -> Any:
        _told.runs += 1
        return function(*args, **options)

    return count


def _counting(sweep: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a sweep that counts how often it calls its first argument: once for each run."""

    @functools.wraps(sweep)
    async def counting(scenario: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return await sweep(_counted(scenario), *args, **options)

    return counting


def _said(exc: BaseException) -> str:
    """Return what an exception says, and its cause, if that says more; for a group, what its leaves say."""
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(_said(inner) for inner in exc.exceptions)
    said = f"{type(exc).__name__}: {exc}"
    if exc.__cause__ is None or str(exc.__cause__) in said:
        return said
    return f"{said}; because {_said(exc.__cause__)}"


def pytest_configure() -> None:
    if Path(trio_http.__file__).parent != Path.cwd() / "trio_http":
        raise pytest.UsageError(f"the package under test is {trio_http.__file__}, not the copy's")
    sweep = _counting(trio_http.testing.cancel_at_every_step)
    for module in (trio_http.testing, tests.cancellation._scenes, tests.cancellation._worlds):
        vars(module)["cancel_at_every_step"] = sweep
    closing = _counting(tests.cancellation._scenes.close_at_every_step)
    vars(tests.cancellation._scenes)["close_at_every_step"] = closing


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.failed and call.excinfo is not None and not _told.test:
        _told.test, _told.said = item.nodeid, _said(call.excinfo.value)
    _told.passed += report.when == "call" and report.passed
    _told.write()
    return report
