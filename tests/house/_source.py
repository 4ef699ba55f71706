"""What the rules over our own source share: which files they read, and what a name in them stands for.

A rule is a function from the text of one file to complaints, each of them ``"line: what is wrong"``. Nothing
of what is read is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parent.parent.parent

Rule: TypeAlias = Callable[[str], list[str]]

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def sources(*folders: str) -> dict[str, str]:
    """Return the programs in ``folders``, by their path in the project."""
    return {
        str(path.relative_to(ROOT)): path.read_text("utf-8")
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


@lru_cache(maxsize=1)
def our_code() -> dict[str, str]:
    """Return what users run or copy: the package and the examples."""
    return sources("trio_http", "examples")


def helpers_of_tests() -> dict[str, str]:
    """Return the modules that tests import: they hang a run as surely as the package would."""
    return {path: text for path, text in sources("tests").items() if Path(path).name.startswith("_")}


@lru_cache(maxsize=512)
def parsed(source: str) -> ast.Module:
    """Return the tree of a program; the same one each time, and not to be changed."""
    return ast.parse(source)


def complaints(rule: Rule, files: dict[str, str]) -> dict[str, list[str]]:
    """Return what ``rule`` has to say of ``files``, by path."""
    return {path: found for path, text in files.items() if (found := rule(text))}


def with_a_mistake(path: str, right: str, wrong: str) -> str:
    """Return the text of one of our files with ``wrong`` in the place of ``right``, which is there once."""
    text = (ROOT / path).read_text("utf-8")
    times = text.count(right)
    assert times == 1, f"{path} has {right!r} {times} times, expected once: plant the mistake elsewhere"
    return text.replace(right, wrong)


def last_name(node: ast.expr) -> str:
    """Return the last part of a dotted name; ``""`` for anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@lru_cache(maxsize=8)
def imported_as(tree: ast.Module) -> dict[str, str]:
    """Return what names were before ``from ... import name as other``, without their module."""
    return {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname is not None
    }


@lru_cache(maxsize=8)
def assigned(scope: ast.AST) -> dict[str, list[ast.expr]]:
    """Return every value that is given to a plain name anywhere in ``scope``, also as a parameter's
    default.
    """
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, []).extend([] if node.value is None else [node.value])
    return found


def has_comment(source: str, node: ast.stmt | ast.expr | ast.excepthandler, word: str) -> bool:
    """Tell whether ``# word: a reason`` stands on one of the lines of ``node``, or of its head if it has a
    body, or in the comment right above it.
    """
    body = getattr(node, "body", None)
    last = body[0].lineno - 1 if isinstance(body, list) else (node.end_lineno or node.lineno)
    lines = source.splitlines()
    first = node.lineno - 1
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return any(re.search(rf"# {word}: \S+ \S", line) for line in lines[first : max(last, node.lineno)])


def own_nodes(statements: list[ast.stmt] | list[ast.expr]) -> Iterator[ast.AST]:
    """The nodes of some statements, from top to bottom, without those of functions and classes inside
    them.
    """
    for statement in statements:
        yield statement
        if not isinstance(statement, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            yield from own_nodes(list(ast.iter_child_nodes(statement)))  # type: ignore[arg-type]


def awaits(statements: list[ast.stmt] | list[ast.expr]) -> Iterator[ast.Await | ast.AsyncFor | ast.AsyncWith]:
    """The places in ``statements`` at which a cancel can come, from top to bottom."""
    for node in own_nodes(statements):
        if isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
            yield node


CATCHES_A_CANCEL = frozenset({"BaseException", "Cancelled"})


def caught_names(kind: ast.expr | None, tree: ast.Module) -> set[str]:
    """Return the names of the exceptions that an ``except`` or a ``suppress`` takes, as they are at home.

    A bare ``except`` takes BaseException. Names are followed through ``import ... as`` and through what the
    module assigns to them.
    """
    if kind is None:
        return {"BaseException"}
    renamed, values = imported_as(tree), assigned(tree)
    found: set[str] = set()
    waiting, seen = [kind], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Tuple, ast.List)):
            waiting.extend(node.elts)
        elif isinstance(node, ast.Starred):
            waiting.append(node.value)
        elif isinstance(node, ast.BinOp):
            waiting += [node.left, node.right]
        elif isinstance(node, (ast.Name, ast.Attribute)):
            name = last_name(node)
            if isinstance(node, ast.Name) and name in values and name not in seen:
                seen.add(name)
                waiting.extend(values[name])
            found.add(renamed.get(name, name))
    return found
