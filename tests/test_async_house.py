"""The house rules for Trio code that need no flow: no async generators, and a word on what cancelling does.

Each rule is a function from source to complaints and is proven able to complain. CONTRIBUTING.md gives the
reasons; tests/house has the rules on shields, handlers, clean-up and ownership, and tests/test_house.py those
for text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "trio_http"
EXAMPLES = PACKAGE.parent / "examples"


def package_sources() -> dict[str, str]:
    return {str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


# ----------------------------------------------------------------------------------- code: trio's sharp edges


def called_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def own_nodes(function: ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function's body without those of the functions and classes inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def async_generators(source: str) -> list[str]:
    """Async generators: an abandoned one leaves its clean-up to the collector.

    Context managers, and fixtures, which pytest-trio runs to their end, are none to be abandoned.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.AsyncFunctionDef):
            continue
        manages = any(
            called_name(decorator) in {"asynccontextmanager", "fixture"} for decorator in node.decorator_list
        )
        if not manages and any(isinstance(inner, (ast.Yield, ast.YieldFrom)) for inner in own_nodes(node)):
            found.append(f"{node.lineno}: {node.name}")
    return found


# ---------------------------------------------------------------------------- docstrings of public coroutines


def public_coroutines(source: str) -> Iterator[tuple[str, str | None, ast.AsyncFunctionDef]]:
    """Async functions that are public by name: (qualified name, class or None, node)."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, None, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, ast.AsyncFunctionDef) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", node.name, inner


KEEPS_TRIOS_CONTRACT = re.compile(r"\btrio(?:\.abc\b|'s\b)", re.IGNORECASE)


def coroutines_without_a_word(source: str, *, exported: set[str] | frozenset[str]) -> list[str]:
    """Public coroutines that do not say what they do or, within users' reach, what cancelling does.

    `exported` are the functions and classes that users import. A method which only does what Trio's interface
    promises may say that instead of the ``Cancellation:`` paragraph; an override may leave the docstring to
    the method that it overrides.
    """
    found = []
    for qualified, owner, node in public_coroutines(source):
        if any(called_name(decorator) in {"override", "overload"} for decorator in node.decorator_list):
            continue
        text = ast.get_docstring(node)
        if text is None:
            found.append(f"{node.lineno}: {qualified} has no docstring")
        elif (
            (owner or qualified) in exported
            and "Cancellation:" not in text
            and not KEEPS_TRIOS_CONTRACT.search(text)
        ):
            found.append(f"{node.lineno}: {qualified} does not say what cancelling it does")
    return found


def exported_names(init_source: str) -> set[str]:
    """The names that an ``__init__`` hands out, imported for real or for the type checker only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(init_source)):
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names.update(alias.asname or alias.name for alias in node.names)
    return {name for name in names if not name.startswith("_")}


def names_users_import() -> set[str]:
    names: set[str] = set()
    for package in ("", "server", "client", "testing"):
        init = PACKAGE / package / "__init__.py"
        if init.exists():
            names |= exported_names(init.read_text("utf-8"))
    return names


# --------------------------------------------------------------------------------------- the package as it is


def test_the_package_and_the_examples_have_no_async_generators() -> None:
    files = {**package_sources(), **{path.name: path.read_text("utf-8") for path in EXAMPLES.glob("*.py")}}
    found = {name: complaints for name, source in files.items() if (complaints := async_generators(source))}
    assert found == {}


def test_public_coroutines_say_what_cancelling_them_does() -> None:
    exported = names_users_import()
    found = {
        name: complaints
        for name, source in package_sources().items()
        if (complaints := coroutines_without_a_word(source, exported=exported))
    }
    assert found == {}


# ------------------------------------------------------------------------------------ the checks can all fail


def test_an_async_generator_is_told_unless_it_is_a_context_manager() -> None:
    assert async_generators("async def chunks():\n    yield b''\n")
    assert async_generators(
        "class C:\n    async def chunks(self):\n        async with x:\n            yield b''\n"
    )
    assert async_generators("@asynccontextmanager\nasync def opened():\n    yield 1\n") == []
    assert async_generators("@contextlib.asynccontextmanager\nasync def opened():\n    yield 1\n") == []
    assert async_generators("@pytest.fixture\nasync def opened():\n    yield 1\n") == []
    assert async_generators("async def f():\n    def parts():\n        yield 1\n    return parts\n") == []


def test_an_async_generator_is_told_in_our_own_files() -> None:
    source = (PACKAGE / "client" / "_content_source.py").read_text("utf-8")
    right = "    async def next_piece(self) -> bytes:\n        await trio.lowlevel.checkpoint()\n"
    assert source.count(right) == 1
    assert async_generators(source) == []
    assert len(async_generators(source.replace(right, f"{right}        yield b''\n"))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "async def serve(): pass",
        "async def serve():\n    '''Serve.'''\n",
        "class Body:\n    async def read(self): pass\n",
        "class Body:\n    async def read(self):\n        '''Read it.'''\n",
        "class Hidden:\n    async def read(self): pass\n",
    ],
)
def test_a_public_coroutine_without_a_word_on_cancelling_is_told(source: str) -> None:
    assert coroutines_without_a_word(source, exported={"serve", "Body"})


@pytest.mark.parametrize(
    "source",
    [
        "async def serve():\n    '''Serve.\n\n    Cancellation: every socket is closed.\n    '''\n",
        "class Body:\n    async def aclose(self):\n        '''Close, as trio.abc says.'''\n",
        "class Body:\n    @override\n    async def aclose(self): pass\n",
        "class Hidden:\n    async def read(self):\n        '''Read it.'''\n",
        "class _Private:\n    async def read(self): pass\n",
        "async def _serve(): pass",
    ],
)
def test_a_coroutine_that_speaks_or_is_private_is_not_told(source: str) -> None:
    assert coroutines_without_a_word(source, exported={"serve", "Body"}) == []


def test_exports_are_found_under_type_checking_too() -> None:
    source = "from ._a import A as A\nif TYPE_CHECKING:\n    from ._b import B as B, _C\n"
    assert exported_names(source) == {"A", "B"}
