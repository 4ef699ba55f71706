"""Clean-up may not wait: what it awaits ends at once, done, when all around is cancelled.

In a ``finally``, or in a handler of a cancel, the scope is cancelled already. An ordinary await there raises
before it has done anything. So an await stands in a shield with an end, or calls one of the functions that
finish all the same: those named below, each of which says so in its docstring. Where a reader must know more,
it is said on the line: ``# finishes: why``.
"""

from __future__ import annotations

import ast
import re
from typing import TypeAlias

from tests.house._source import (
    CATCHES_A_CANCEL,
    awaits,
    caught_names,
    has_comment,
    last_name,
    own_nodes,
    parsed,
)

#: Trio's, and those of every `trio.abc.AsyncResource`.
THEIRS = frozenset({"aclose", "aclose_forcefully", "cancel_shielded_checkpoint"})

#: Ours, by name: each definition of one promises it, or refers to one that does.
OURS = frozenset(
    {
        "_closed_after_failure",
        "aclose",
        "aclose_forcefully",
        "close_listeners",
        "discard",
        "dismissed",
        "end",
        "leave",
    }
)

_CANCELS = CATCHES_A_CANCEL | {"BaseExceptionGroup"}

_PROMISE = re.compile(r"Cancellation: (?:not affected|nothing has changed|[^.]*\ball the same)")
_REFERS = re.compile(r"\b(?:see|as) `", re.IGNORECASE)

_Awaiting: TypeAlias = ast.Await | ast.AsyncFor | ast.AsyncWith


def waiting_cleanups(source: str) -> list[str]:
    """Complain of each await in clean-up that a cancel would cut short."""
    tree = parsed(source)
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Try, ast.TryStar)):
            continue
        regions = [("finally", node.finalbody)]
        for handler in node.handlers:
            if caught_names(handler.type, tree) & _CANCELS:
                what = "bare" if handler.type is None else ast.unparse(handler.type)
                regions.append((f"except {what}", _without_errors(handler)))
                break  # those below it see no cancel
        for where, body in regions:
            shielded = _in_shields(body)
            for place in awaits(body):
                if place in shielded or _finishes(place) or has_comment(source, place, "finishes"):
                    continue
                found.append(f"{place.lineno}: {ast.unparse(place).splitlines()[0]} in {where}")
    return sorted(set(found), key=lambda line: int(line.split(":")[0]))


def _without_errors(handler: ast.ExceptHandler) -> list[ast.stmt]:
    """Return a handler's statements without the blocks that are for an error: ``if isinstance(exc, X)``."""
    statements = []
    for statement in handler.body:
        match statement:
            case ast.If(test=ast.Call(func=ast.Name(id="isinstance"), args=[ast.Name(id=name), kind])) if (
                name == handler.name and not caught_names(kind, ast.Module([], [])) & _CANCELS
            ):
                statements += statement.orelse
            case _:
                statements.append(statement)
    return statements


def _in_shields(body: list[ast.stmt]) -> set[_Awaiting]:
    """Return the awaits that stand in a shield; that it has an end is another rule's."""
    return {
        inner
        for node in own_nodes(body)
        if isinstance(node, (ast.With, ast.AsyncWith))
        and any(
            isinstance(item.context_expr, ast.Call)
            and any(keyword.arg == "shield" for keyword in item.context_expr.keywords)
            for item in node.items
        )
        for inner in awaits(list(node.body))
    }


def _finishes(node: _Awaiting) -> bool:
    if isinstance(node, ast.AsyncWith):
        # Its entry waits for nothing, and what is in it is looked at by itself.
        return all(
            isinstance(item.context_expr, ast.Call) and last_name(item.context_expr.func) == "open_nursery"
            for item in node.items
        )
    if not isinstance(node, ast.Await) or not isinstance(node.value, ast.Call):
        return False
    name = last_name(node.value.func)
    # By hand, when a nursery or another context manager is left so: the exit is the clean-up.
    return name in THEIRS or name in OURS or name == "__aexit__"


def broken_promises(files: dict[str, str]) -> list[str]:
    """Complain of each name in `OURS` that nobody defines, or that a definition does not stand up for."""
    promising: set[str] = set()
    found = []
    for path, source in files.items():
        for node in ast.walk(parsed(source)):
            if not isinstance(node, ast.AsyncFunctionDef) or node.name not in OURS:
                continue
            text = " ".join((ast.get_docstring(node) or "").split())
            if _PROMISE.search(text):
                promising.add(node.name)
            elif text and not _REFERS.search(text):  # without a word it keeps that of what it overrides
                found.append(f"{path}:{node.lineno}: {node.name} does not say that a cancel finds it done")
    return found + [f"nobody promises {name}" for name in sorted(OURS - promising)]
