"""The reference's tables of numbers are those of the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from trio_http import ServerConfig, ServerTimes
from trio_http.wire import Leniency, Limits

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/limits-and-defaults.md"
ROWS = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))

NUMBERS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Limits)}
NUMBERS |= {field.name: field.default for field in attrs.fields(ServerTimes)}
NUMBERS |= {
    field.name: field.default
    for field in attrs.fields(ServerConfig)
    if field.name not in ("limits", "lenient", "times")
}


@pytest.mark.parametrize("name", NUMBERS)
def test_the_page_gives_each_default_as_the_code_has_it(name: str) -> None:
    shown = ROWS[name].strip("`")
    assert shown == (f'"{NUMBERS[name]}"' if isinstance(NUMBERS[name], str) else str(NUMBERS[name]))


@pytest.mark.parametrize("leniency", Leniency)
def test_the_page_names_each_leniency(leniency: Leniency) -> None:
    assert leniency.name in ROWS


def test_the_page_names_nothing_that_the_code_has_not() -> None:
    assert set(ROWS) == set(NUMBERS) | {leniency.name for leniency in Leniency}
