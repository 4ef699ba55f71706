"""Nothing may eat a cancel: what flake8-async and ruff do not see of that.

They see handlers, all the ways through them, and jumps in a ``finally`` (ASYNC103, ASYNC104, BLE001, B012).
Here are the other places in which an exception can end: a group with a cancel in it, `contextlib.suppress`, a
context manager that says that it has dealt with it, and a handler whose exceptions have another name.

What a reader must know to see that the cancel goes on is said on the line: ``# cancel: why it is not lost``,
or behind the ``noqa`` of the linters' rules.
"""

from __future__ import annotations

import ast
import re

from tests.house._source import (
    CATCHES_A_CANCEL,
    FUNCTIONS,
    caught_names,
    has_comment,
    imported_as,
    last_name,
    own_nodes,
    parsed,
)

_GROUPS = CATCHES_A_CANCEL | {"BaseExceptionGroup"}


def suppressed_cancels(source: str) -> list[str]:
    """Complain of each `contextlib.suppress` that takes a cancel, or a group that may have one in it."""
    tree = parsed(source)
    renamed = imported_as(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = last_name(node.func)
            if renamed.get(name, name) == "suppress":
                taken = set().union(*(caught_names(each, tree) for each in node.args))
                if taken & _GROUPS:
                    found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def caught_groups(source: str) -> list[str]:
    """Complain of each handler for groups, or for a cancel by another name, that gives no reason.

    A group of a nursery holds the cancels of its tasks, and the linters do not count it among what does. A
    tuple of exceptions is told where it is defined, for the handlers may be in other files.
    """
    tree = parsed(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Tuple):
            taken = {last_name(each) for each in node.value.elts}
            if taken & (CATCHES_A_CANCEL | {"BaseExceptionGroup"}) and not has_comment(
                source, node, "cancel"
            ):
                found.append(f"{node.lineno}: {ast.unparse(node)}")
        if not isinstance(node, ast.ExceptHandler):
            continue
        taken = caught_names(node.type, tree)
        written = "bare" if node.type is None else ast.unparse(node.type)
        seen_by_the_linters = node.type is None or re.search(r"\b(BaseException|Cancelled)\b", written)
        unseen = "BaseExceptionGroup" in taken or (taken & CATCHES_A_CANCEL and not seen_by_the_linters)
        if unseen and not has_comment(source, node, "cancel"):
            found.append(f"{node.lineno}: except {written}")
    return found


def raises_that_only_seem(source: str) -> list[str]:
    """Complain of handlers of a cancel whose ``raise`` raises another thing, or stands in a function inside.

    The linters count both as passing the cancel on.
    """
    tree = parsed(source)
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler) or not caught_names(node.type, tree) & CATCHES_A_CANCEL:
            continue
        for inner in own_nodes(list(node.body)):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store) and inner.id == node.name:
                found.append(f"{inner.lineno}: {inner.id} is no longer what was caught")
            elif isinstance(inner, FUNCTIONS) and any(
                isinstance(each, ast.Raise) for each in ast.walk(inner)
            ):
                found.append(f"{inner.lineno}: {inner.name} may raise, which is not to raise")
    return found


def exits_that_may_swallow(source: str) -> list[str]:
    """Complain of each context manager whose exit returns something: what is true ends a cancel."""
    found = []
    for node in ast.walk(parsed(source)):
        if not isinstance(node, FUNCTIONS) or node.name not in {"__exit__", "__aexit__"}:
            continue
        for inner in own_nodes(list(node.body)):
            if not isinstance(inner, ast.Return) or inner.value is None:
                continue
            if isinstance(inner.value, ast.Constant) and not inner.value.value:
                continue
            answer = inner.value.value if isinstance(inner.value, ast.Await) else inner.value
            if isinstance(answer, ast.Call) and last_name(answer.func) == node.name:
                continue  # another one's answer, which is looked at where that is
            if not has_comment(source, inner, "cancel"):
                found.append(f"{inner.lineno}: {ast.unparse(inner)} in {node.name}")
    return found


# Linters are silenced in their own way; a reason comes after it, behind a hash or a dash.
_SILENCED = re.compile(r"# noqa: (?P<codes>[A-Z]+\d+(?:[, ]+[A-Z]+\d+)*)(?P<reason>(?:  # | - )\S+ \S.*)?")
_ABOUT_CANCELS = re.compile(r"\b(?:ASYNC1|ASYNC9|BLE0|B012)")


def silenced_without_a_reason(source: str) -> list[str]:
    """Complain of each place where a linter's rule about cancelling is put out of force without a reason."""
    found = []
    for number, line in enumerate(source.splitlines(), 1):
        match = _SILENCED.search(line)
        if match is not None and _ABOUT_CANCELS.search(match["codes"]) and match["reason"] is None:
            found.append(f"{number}: {match.group()}")
    return found
