"""The reference's tables of numbers are those of the code."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import attrs
import pytest

import trio_http
from trio_http import ClientConfig, ClientPace, ServerConfig, ServerRates, ServerTimes
from trio_http.wire import PRODUCT_ID, Leniency, Limits

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/limits-and-defaults.md"

#: What the code has, by the word that stands above the first column of its table.
CODE: dict[str, dict[str, Any]] = {
    "limit": {field.name: field.default for field in dataclasses.fields(Limits)},
    "policy": {
        # The rest of them are the other tables.
        field.name: getattr(ServerConfig(), field.name)
        for field in attrs.fields(ServerConfig)
        if field.name not in ("limits", "lenient", "times", "rates")
    },
    "time": {field.name: field.default for field in attrs.fields(ServerTimes)},
    "rate": {field.name: field.default for field in attrs.fields(ServerRates)},
    "setting": {
        field.name: getattr(ClientConfig(), field.name)
        for field in attrs.fields(ClientConfig)
        if field.name not in ("limits", "lenient", "pace")
    },
    "pace": {field.name: field.default for field in attrs.fields(ClientPace)},
}


def tables(text: str) -> dict[str, dict[str, str]]:
    """The first two columns of each table, by the word above the first."""
    found: dict[str, dict[str, str]] = {}
    for word, body in re.findall(r"^\| (\w+) \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE):
        assert word not in found
        rows = re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", body, re.MULTILINE)
        assert len(rows) == len(body.splitlines()), f"a row of the table of each {word} is unlike the others"
        found[word] = dict(rows)
    return found


PAGES_TABLES = tables(PAGE.read_text("utf-8"))


def shown(value: Any) -> str:
    """A value as the page has it."""
    if value == PRODUCT_ID:
        return "wire.PRODUCT_ID"  # which changes with each release
    if isinstance(value, str):
        return f'"{value}"'
    return str(value) if value or isinstance(value, bool | int | float) else "none"


@pytest.mark.parametrize(
    ("word", "name"), [pytest.param(word, name, id=f"{word}-{name}") for word in CODE for name in CODE[word]]
)
def test_the_page_gives_each_default_as_the_code_has_it(word: str, name: str) -> None:
    assert PAGES_TABLES[word][name].strip("`") == shown(CODE[word][name])


@pytest.mark.parametrize("leniency", Leniency)
def test_the_page_names_each_leniency(leniency: Leniency) -> None:
    assert leniency.name in PAGES_TABLES["leniency"]


def test_the_page_names_nothing_that_the_code_has_not() -> None:
    code = {word: set(names) for word, names in CODE.items()}
    code["leniency"] = {leniency.name for leniency in Leniency}
    assert {word: set(rows) for word, rows in PAGES_TABLES.items()} == code


ERRORS = (PAGE.parent / "errors.md").read_text("utf-8")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in dir(trio_http)
        if isinstance(getattr(trio_http, name), type) and issubclass(getattr(trio_http, name), Exception)
    ],
)
def test_the_page_on_errors_names_each_of_them(name: str) -> None:
    assert f"`{name}`" in ERRORS or f"trio_http.{name}" in ERRORS
