"""The reference's tables of numbers are those of the code."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

import trio_http
import trio_http.pytest_plugin
import trio_http.testing
from trio_http import ClientConfig, ClientPace, ServerConfig, ServerRates, ServerTimes
from trio_http.testing import DEFAULT_INVARIANTS
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


TOOLS = (PAGE.parent / "testing.md").read_text("utf-8")


def test_the_page_on_tools_for_tests_names_each_of_them_and_no_other() -> None:
    public = {name for name in vars(trio_http.testing) if name.isidentifier() and not name.startswith("_")}
    named = set(re.findall(r"`(\w+)`", TOOLS.partition("## With pytest")[0]))
    # `from __future__ import annotations` is no tool; the page names some things that are of these.
    assert public - {"annotations"} <= named
    rows = " ".join(re.findall(r"^\| (`[^|]+`) \| [^`]", TOOLS.partition("## With pytest")[0], re.MULTILINE))
    options = {*OPTIONS["The sweep"], *OPTIONS["The simulation"]}
    assert set(re.findall(r"`(\w+)`", rows)) <= public | options


#: What the page has on the two functions, by its heading.
OPTIONS = {
    heading: dict(re.findall(r"^\| `(\w+)` \| `([^|]+)` \| ", text, re.MULTILINE))
    for heading, text in re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", TOOLS, re.MULTILINE)
}


@pytest.mark.parametrize(
    ("heading", "function"),
    [
        ("The sweep", trio_http.testing.cancel_at_every_step),
        ("The simulation", trio_http.testing.simulate),
    ],
)
def test_the_page_gives_the_options_of_tools_for_tests_as_the_code_has_them(
    heading: str, function: Callable[..., object]
) -> None:
    named = {id(trio_http.testing.CLEAR): "CLEAR", id(DEFAULT_INVARIANTS): "DEFAULT_INVARIANTS"}
    options = {
        parameter.name: named.get(id(parameter.default), repr(parameter.default))
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert OPTIONS[heading] == options


def test_the_page_names_the_options_and_fixtures_of_pytest(request: pytest.FixtureRequest) -> None:
    parser = pytest.Parser(_ispytest=True)
    trio_http.pytest_plugin.pytest_addoption(parser)
    (group,) = (group for group in parser._groups if group.name == "trio-http")
    options = {name for option in group.options for name in option.names()}
    text = TOOLS.partition("## With pytest")[2]
    assert set(re.findall(r"^\| `(--[\w-]+)=", text, re.MULTILINE)) == options
    fixtures = {
        name
        for name, value in vars(trio_http.pytest_plugin).items()
        if type(value).__name__ == "FixtureFunctionDefinition"
    }
    assert set(re.findall(r"^\| `(\w+)` \| ", text, re.MULTILINE)) == fixtures
