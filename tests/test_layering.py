"""The layers of the package, held to by its imports.

The rules, which `docs/explanation/architecture.md` draws and explains:

1. imports only go down the list `LAYERS`, and never sideways: server and client do not know each other;
2. `trio_http.wire` knows the standard library's data tools and nothing else: no I/O, clock, log or Trio;
3. `transport` carries bytes and has never heard of HTTP: it does not import `wire`;
4. a package's private modules are its own; from outside one imports the package's public names;
5. inside `wire` the modules stand in one order, `WIRE_ORDER`, and each imports only from those before it;
6. no two modules import each other, not even for type checking;
7. an import stands at the head of its file. One inside a function needs ``# deferred import: <reason>`` on
   its line, and only such an import may name an optional dependency.

Everything is read with `ast`; nothing is imported, except in the one test that starts an interpreter to look
at `sys.modules`. Imports under `TYPE_CHECKING` are held to the same rules.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "trio_http"

# Lowest first; a name is a package or a module directly under `trio_http`. Members of one set stand side by
# side. The root package itself is above them all: it hands out the public names; nothing below may ask it.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"wire"}),
    frozenset({"transport"}),
    frozenset({"connection"}),
    frozenset({"_errors", "_config", "_kinds", "instruments", "messages"}),
    frozenset({"server", "client"}),
    frozenset({"testing", "asgi"}),
    frozenset({"cli", "pytest_plugin"}),
    frozenset({"__init__", "__main__"}),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

# Side by side *and* allowed to see each other. Rule 6 still keeps the edges between them from closing a ring.
NEIGHBOURS = frozenset({"_errors", "_config", "_kinds", "instruments", "messages"})

# Lowest first. A module that is added to the folder must be put in here, where the reader sees what it may
# lean on.
WIRE_ORDER = (
    "_errors",
    "_limits",
    "_sentinels",
    "_grammar",
    "_facts",
    "_headers",
    "_rules",
    "_events",
    "_buffer",
    "_framing",
    "_section",
    "_state",
    "_head",
    "_body",
    "_writers",
    "_incoming",
    "_engine",
    "_connection",
    "_prepared",
    "_message",
    "__init__",
)

# Standard library modules that do I/O, read a clock, start something, or speak HTTP themselves.
NOT_FOR_WIRE = frozenset(
    """
    asyncio concurrent datetime email http.client http.cookiejar http.server logging multiprocessing os
    pathlib queue sched select selectors signal socket socketserver ssl subprocess tempfile threading
    time urllib
    """.split()
)

# What the core may import besides the standard library: the dependencies of pyproject.toml, by the names they
# are imported under.
CORE_DEPENDENCIES = frozenset({"trio", "attrs", "attr", "yarl"})
TRANSPORT_DEPENDENCIES = frozenset({"trio", "attrs", "attr"})

DEFERRED = re.compile(r"#.*\bdeferred import: \S+")


@dataclass(frozen=True)
class Import:
    """One imported module: where it is asked for, what it is, and how."""

    importer: str  # dotted, "trio_http.wire._head"; packages without ".__init__"
    target: str  # dotted and absolute; for `from x import y` it is x.y where y is a module, else x
    line: int
    in_function: bool
    excused: bool


def module_name(path: Path, root: Path) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of the package under `root`, by its dotted name."""
    return {module_name(path, root): path for path in sorted((root / PACKAGE).rglob("*.py"))}


def imports_of(name: str, source: str, *, is_package: bool, modules: frozenset[str]) -> list[Import]:
    """All imports of one module's source, made absolute, wherever they stand."""
    lines = source.splitlines()
    found: list[Import] = []

    def add(node: ast.stmt, target: str, *, in_function: bool) -> None:
        excused = bool(DEFERRED.search(lines[node.lineno - 1]))
        found.append(Import(name, target, node.lineno, in_function, excused))

    def walk(node: ast.AST, *, in_function: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    add(child, alias.name, in_function=in_function)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    here = name.split(".") if is_package else name.split(".")[:-1]
                    here = here[: len(here) - (child.level - 1)]
                    base = ".".join([*here, base]) if base else ".".join(here)
                for alias in child.names:
                    whole = f"{base}.{alias.name}"
                    add(child, whole if whole in modules else base, in_function=in_function)
            else:
                enters = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                walk(child, in_function=in_function or enters)

    walk(ast.parse(source), in_function=False)
    return found


def all_imports(root: Path) -> list[Import]:
    modules = modules_of(root)
    known = frozenset(modules)
    return [
        entry
        for name, path in modules.items()
        for entry in imports_of(
            name, path.read_text("utf-8"), is_package=path.name == "__init__.py", modules=known
        )
    ]


def layer_of(module: str) -> str:
    """`wire` for trio_http.wire._head, `_errors` for trio_http._errors, `__init__` for trio_http itself."""
    return module.split(".")[1] if "." in module else "__init__"


def is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def wrong_direction(entry: Import) -> str | None:
    """Rules 1 and 3."""
    if not is_ours(entry.target):
        return None
    above, below = layer_of(entry.importer), layer_of(entry.target)
    for name in (above, below):
        if name not in RANK:
            return f"`{name}` has no place in LAYERS yet"
    if above == below:
        return None
    if above == "transport" and below == "wire":
        return "transport carries bytes and does not know HTTP; the two meet in connection"
    if {above, below} <= NEIGHBOURS:
        return None
    if RANK[below] >= RANK[above]:
        return f"{above} must not import {below}: imports only go down"
    return None


def foreign_to_wire(entry: Import) -> str | None:
    """Rule 2."""
    if layer_of(entry.importer) != "wire" or not is_ours(entry.importer):
        return None
    top = entry.target.split(".")[0]
    if top == PACKAGE:
        return None if layer_of(entry.target) == "wire" else "wire imports nothing of the rest of the package"
    if top not in sys.stdlib_module_names:
        return f"wire has no dependencies, so not {top} either"
    if top in NOT_FOR_WIRE or ".".join(entry.target.split(".")[:2]) in NOT_FOR_WIRE:
        return f"wire is without I/O, clock and log, so not {entry.target}"
    return None


def private_to_another(entry: Import) -> str | None:
    """Rule 4. The private modules directly under trio_http (`_errors`) belong to the package as a whole."""
    parts = entry.target.split(".")
    if not is_ours(entry.target) or len(parts) < 3 or layer_of(entry.importer) == parts[1]:
        return None
    if any(part.startswith("_") for part in parts[2:]):
        return f"{'.'.join(parts[:2])}'s private modules are its own; import its public names"
    return None


def out_of_order_in_wire(entry: Import) -> str | None:
    """Rule 5."""
    if not (is_ours(entry.target) and layer_of(entry.importer) == layer_of(entry.target) == "wire"):
        return None
    places = []
    for module in (entry.importer, entry.target):
        stem = module.split(".")[2] if module.count(".") > 1 else "__init__"
        if stem not in WIRE_ORDER:
            return f"`{stem}` has no place in WIRE_ORDER yet"
        places.append(WIRE_ORDER.index(stem))
    return (
        None if places[1] < places[0] else "wire's modules import only from those before them in WIRE_ORDER"
    )


def undeclared_dependency(entry: Import) -> str | None:
    """Rule 7, its second half; `wire` has its own, stricter rule."""
    top, layer = entry.target.split(".")[0], layer_of(entry.importer)
    if top in sys.stdlib_module_names or top in (PACKAGE, "__future__") or layer in ("wire", "cli", "asgi"):
        return None
    allowed = TRANSPORT_DEPENDENCIES if layer == "transport" else CORE_DEPENDENCIES
    if layer == "pytest_plugin":  # it is pytest that imports it
        allowed |= {"pytest"}
    if top in allowed or (entry.in_function and entry.excused):
        return None
    return (
        f"{layer} may import {', '.join(sorted(allowed))}; {top} is optional, so it needs a deferred import"
    )


def inside_a_function(entry: Import) -> str | None:
    """Rule 7, its first half."""
    if entry.in_function and not entry.excused:
        return "an import belongs at the head of the file (or say on its line `# deferred import: why`)"
    return None


RULES = (
    wrong_direction,
    foreign_to_wire,
    private_to_another,
    out_of_order_in_wire,
    undeclared_dependency,
    inside_a_function,
)


def ring(imports: list[Import]) -> list[str]:
    """Rule 6: the modules of one ring of imports, or an empty list."""
    edges: dict[str, set[str]] = {}
    for entry in imports:
        if is_ours(entry.target) and entry.target != entry.importer:
            edges.setdefault(entry.importer, set()).add(entry.target)
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        path.append(module)
        for target in sorted(edges.get(module, ())):
            if found := visit(target):
                return found
        path.pop()
        done.add(module)
        return []

    for module in sorted(edges):
        if found := visit(module):
            return found
    return []


# --------------------------------------------------------------------------------------- the package as it is


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_import_breaks_the_rule(rule: Callable[[Import], str | None]) -> None:
    imports = all_imports(ROOT)
    assert imports, "no imports were found, so nothing was checked"
    broken = [
        f"{entry.importer}:{entry.line} imports {entry.target}: {why}"
        for entry in imports
        if (why := rule(entry))
    ]
    assert broken == []


def test_no_modules_import_each_other_in_a_ring() -> None:
    assert ring(all_imports(ROOT)) == []


def test_every_module_and_package_has_its_place_in_the_layers() -> None:
    found = {layer_of(module) for module in modules_of(ROOT)}
    assert found <= RANK.keys()


def test_the_order_of_wire_lists_its_modules_and_no_others() -> None:
    assert {path.stem for path in (ROOT / PACKAGE / "wire").glob("*.py")} == set(WIRE_ORDER)


def test_importing_wire_loads_neither_trio_nor_anything_that_does_io() -> None:
    script = """
        import sys
        before = set(sys.modules)   # what the interpreter and its site files had loaded anyway
        import trio_http.wire
        print(*sorted(set(sys.modules) - before))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert PACKAGE in loaded
    assert not loaded & {
        "trio",
        "anyio",
        "attr",
        "attrs",
        "yarl",
        "asyncio",
        "socket",
        "ssl",
        "logging",
        "select",
        "selectors",
    }


# ------------------------------------------------------------------------------------ the checks can all fail

KNOWN = frozenset(
    {"trio_http", "trio_http.wire", "trio_http.wire._head", "trio_http.wire._state", "trio_http._errors"}
    | {"trio_http.transport", "trio_http.transport._socket", "trio_http.connection", "trio_http.messages"}
    | {
        "trio_http.server",
        "trio_http.server._serve",
        "trio_http.client",
        "trio_http.client._pool",
        "trio_http.testing",
    }
)


def complaints(module: str, source: str, *, is_package: bool = False) -> set[str]:
    """The names of the rules that a module with this source would break."""
    entries = imports_of(module, textwrap.dedent(source), is_package=is_package, modules=KNOWN)
    return {rule.__name__ for rule in RULES for entry in entries if rule(entry)}


@pytest.mark.parametrize(
    ("module", "source", "rule"),
    [
        ("trio_http.transport._socket", "import trio_http.server", "wrong_direction"),
        ("trio_http.transport._socket", "from .. import wire", "wrong_direction"),
        ("trio_http.connection", "from trio_http.messages import Headers", "wrong_direction"),
        ("trio_http.server._serve", "from ..client import Client", "wrong_direction"),
        ("trio_http.client._pool", "from trio_http.server import serve_tcp", "wrong_direction"),
        ("trio_http.client._pool", "from trio_http.testing import open_client", "wrong_direction"),
        ("trio_http.client._pool", "import trio_http", "wrong_direction"),
        ("trio_http.client._pool", "from .. import Client", "wrong_direction"),
        ("trio_http.novelty", "from trio_http import wire", "wrong_direction"),
        ("trio_http.wire._head", "import socket", "foreign_to_wire"),
        ("trio_http.wire._head", "from os.path import join", "foreign_to_wire"),
        ("trio_http.wire._head", "import http.client", "foreign_to_wire"),
        ("trio_http.wire._head", "import h11", "foreign_to_wire"),
        ("trio_http.wire._head", "from .._errors import HTTPError", "foreign_to_wire"),
        ("trio_http.server._serve", "from ..wire._head import parse", "private_to_another"),
        ("trio_http.server._serve", "from trio_http.wire import _head", "private_to_another"),
        ("trio_http.client._pool", "from ..transport import _socket", "private_to_another"),
        ("trio_http.wire._state", "from ._head import parse", "out_of_order_in_wire"),
        ("trio_http.wire._state", "from . import Connection", "out_of_order_in_wire"),
        ("trio_http.wire._novelty", "from ._state import x", "out_of_order_in_wire"),
        ("trio_http.transport._socket", "import yarl", "undeclared_dependency"),
        ("trio_http.client._pool", "import brotli", "undeclared_dependency"),
        ("trio_http.client._pool", "def f():\n    import brotli\n", "undeclared_dependency"),
        ("trio_http.client._pool", "async def f():\n    import json\n", "inside_a_function"),
        (
            "trio_http.client._pool",
            "class C:\n    def f(self):\n        from trio import sleep\n",
            "inside_a_function",
        ),
        (
            "trio_http.transport._socket",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..server import Server\n",
            "wrong_direction",
        ),
    ],
)
def test_a_bad_import_is_told_by_its_rule(module: str, source: str, rule: str) -> None:
    assert rule in complaints(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trio_http.wire._state", "import re\nfrom http import HTTPStatus\n"),
        ("trio_http.wire._head", "from ._state import x\nfrom trio_http.wire import _state\n"),
        ("trio_http.transport._socket", "import ssl\nimport trio\nimport attrs\n"),
        ("trio_http.connection", "from . import transport, wire\nfrom .wire import NEED_DATA\n"),
        ("trio_http.messages", "from .._errors import HTTPError\nimport yarl\n"),
        (
            "trio_http.client._pool",
            "from .. import wire\nfrom .._errors import PoolClosed\nfrom . import _lease\n",
        ),
        (
            "trio_http.client._pool",
            "def f():\n    import brotli  # deferred import: an optional dependency\n",
        ),
        (
            "trio_http.testing",
            "from trio_http.server import serve_connection\nfrom trio_http.client import Client\n",
        ),
    ],
)
def test_a_good_import_passes_every_rule(module: str, source: str) -> None:
    is_package = module.rsplit(".", 1)[-1] in {"connection", "messages", "testing"}
    # A package's relative imports count from itself, a module's from the folder it lies in.
    assert complaints(module, source, is_package=is_package and ".." in source) == set()


def test_a_ring_is_found_and_named_even_when_it_is_only_for_types() -> None:
    there = imports_of("trio_http.a", "from . import b", is_package=False, modules=frozenset({"trio_http.b"}))
    back = imports_of(
        "trio_http.b",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import A\n",
        is_package=False,
        modules=frozenset({"trio_http.a"}),
    )
    assert ring(there) == []
    assert ring([*there, *back]) == ["trio_http.a", "trio_http.b", "trio_http.a"]
