"""No shield without a deadline: a peer that stops reading would own the task for ever.

A deadline counts when the program shows that it is one: a number, a time plus a number, a name that is only
given such. What only a reader can know is said in a comment on the line, ``# bounded: by what``.
"""

from __future__ import annotations

import ast

from tests.house._source import FUNCTIONS, assigned, has_comment, imported_as, last_name, parsed

_LIMITS = frozenset({"deadline", "relative_deadline", "seconds"})
_SCOPES_WITH_A_LIMIT = frozenset({"move_on_after", "move_on_at", "fail_after", "fail_at"})
_SCOPES = _SCOPES_WITH_A_LIMIT | {"CancelScope"}


def unbounded_shields(source: str) -> list[str]:
    """Complain of each shield whose end nobody can see."""
    tree = parsed(source)
    renamed, module_values = dict(imported_as(tree)), assigned(tree)
    # A scope may have another name here, by import or by assignment.
    for name, values in module_values.items():
        for value in values:
            if last_name(value) in _SCOPES:
                renamed[name] = last_name(value)
    found: list[str] = []

    def look(node: ast.AST, values: dict[str, list[ast.expr]]) -> None:
        if isinstance(node, FUNCTIONS):
            values = module_values | _parameters(node) | assigned(node)
        told = (isinstance(node, ast.Call) and _is_unbounded(node, renamed, values)) or (
            isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and _sets_unbounded(node, values)
        )
        if told and not has_comment(source, node, "bounded"):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        for child in ast.iter_child_nodes(node):
            look(child, values)

    look(tree, module_values)
    return found


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, list[ast.expr]]:
    """Return the parameters, about which nothing is known: they hide the module's names."""
    arguments = function.args
    return {each.arg: [] for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


def _is_unbounded(call: ast.Call, renamed: dict[str, str], values: dict[str, list[ast.expr]]) -> bool:
    name = last_name(call.func)
    name = renamed.get(name, name)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if name == "setattr":
        _, attribute, value = [*call.args, *[None] * 3][:3]
        is_shield = isinstance(attribute, ast.Constant) and attribute.value == "shield"
        return is_shield and not (isinstance(value, ast.Constant) and value.value is False)
    if None in keywords and name in _SCOPES and "shield" not in keywords:
        return True  # `**options` may hold one
    if "shield" not in keywords or _is_false(keywords["shield"]):
        return False
    limits = [value for word, value in keywords.items() if word in _LIMITS]
    if name in _SCOPES_WITH_A_LIMIT:
        limits += call.args
    return not any(_is_bounded(limit, values, frozenset()) for limit in limits)


def _sets_unbounded(
    node: ast.Assign | ast.AnnAssign | ast.AugAssign, values: dict[str, list[ast.expr]]
) -> bool:
    """Tell whether an assignment turns a shield on, whose deadline is then elsewhere, or takes a deadline
    away.
    """
    if node.value is None:
        return False
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        for each in ast.walk(target):
            if isinstance(each, ast.Attribute) and each.attr == "shield" and not _is_false(node.value):
                return True
            if isinstance(each, ast.Attribute) and each.attr == "deadline" and _is_endless(node.value):
                owner = last_name(each.value)
                return any("shield" in ast.unparse(value) for value in values.get(owner, ()))
    return False


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _is_endless(node: ast.expr) -> bool:
    return ast.unparse(node) in {"inf", "math.inf", "float('inf')", "float('infinity')"}


def _is_bounded(node: ast.expr, values: dict[str, list[ast.expr]], seen: frozenset[str]) -> bool:
    """Tell whether an expression can be seen to be a finite time, or one that is over."""
    match node:
        case ast.Constant(value=int() | float()):
            return True
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _is_endless(operand) or _is_bounded(operand, values, seen)
        case ast.BinOp(left=left, right=right):
            return _is_bounded(left, values, seen) and _is_bounded(right, values, seen)
        case ast.IfExp(body=body, orelse=orelse):
            return _is_bounded(body, values, seen) and _is_bounded(orelse, values, seen)
        case ast.Call(func=func, args=args):
            if last_name(func) in {"current_time", "monotonic"}:
                return True
            if last_name(func) == "min":
                return any(_is_bounded(each, values, seen) for each in args)
            return last_name(func) == "max" and all(_is_bounded(each, values, seen) for each in args)
        case ast.Name(id=name) if name not in seen and values.get(name):
            return all(_is_bounded(value, values, seen | {name}) for value in values[name])
    return False
