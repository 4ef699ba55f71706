"""The guide to simulated networks: its tests pass, as they stand."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import trio.testing

PAGE = Path(__file__).resolve().parent.parent / "docs/how-to/simulate-a-network.md"
SOURCES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def shown(source: str) -> list[Any]:
    names: dict[str, Any] = {"__name__": "a_guide"}
    exec(compile(source, PAGE.name, "exec"), names)
    return [value for name, value in names.items() if name.startswith("test_")]


def test_the_guide_has_a_simulation_and_a_coroutine() -> None:
    assert [[inspect.iscoroutinefunction(test) for test in shown(source)] for source in SOURCES] == [
        [False],
        [True],
    ]


@pytest.mark.parametrize("source", SOURCES[:1])
def test_the_guides_simulation_passes(source: str) -> None:
    for test in shown(source):
        test()


@pytest.mark.parametrize("source", SOURCES[1:])
async def test_the_guides_coroutine_passes(source: str, autojump_clock: trio.testing.MockClock) -> None:
    for test in shown(source):
        await test()
