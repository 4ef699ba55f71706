"""No await between taking a thing and owning it: a cancel that came there would find it in nobody's hands.

From each call that takes a thing (`_takers`) the rule follows every way through the rest of the function,
until the thing is owned or a place comes at which a cancel can. It is owned when it

- is kept in an attribute or a container, or in an object that is;
- is returned, or entered by ``with``;
- is given back or closed;
- is an argument of an awaited function that takes it over from its first instruction on: the rule looks into
  that function, too;
- is named in the ``finally``, or in the handler of a cancel, of a ``try`` that is all around.

A thing without a name of its own, such as a place at a gate, is owned when its giving back is in such a
``finally``. What only a reader can see is said on the line: ``# owned: by what``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeAlias

import attrs

from tests.house._source import (
    CATCHES_A_CANCEL,
    FUNCTIONS,
    awaits,
    caught_names,
    has_comment,
    last_name,
    own_nodes,
    parsed,
)
from tests.house._takers import BORROW, GIVES, KEEP, RELEASE, TAKE_OVER, TAKERS, TOKENS, WRAP

_Path: TypeAlias = list[tuple[list[ast.stmt], int, ast.AST]]

_SIMPLE = (ast.Name, ast.Attribute)


def unowned_takings(source: str) -> list[str]:
    """Complain of each thing that a cancel could find without an owner."""
    tree = parsed(source)
    found: list[str] = []
    for function in ast.walk(tree):
        if isinstance(function, ast.AsyncFunctionDef):
            for name in _taken_over(function):
                flow = _Flow(
                    _Taken(name, f"{function.name}'s parameter", None, function.lineno), tree, source
                )
                flow.follow_from_the_start(function)
                found += flow.found
            for statement, path in _statements(function.body, function, []):
                for taken in _taken_by(statement):
                    if not has_comment(source, statement, "owned"):
                        flow = _Flow(taken, tree, source)
                        flow.follow(statement, path)
                        found += flow.found
    return sorted(dict.fromkeys(found), key=lambda line: int(line.split(":")[0]))


def _taken_over(function: ast.AsyncFunctionDef) -> list[str]:
    """Return the parameters that are a function's own from its start; none of one without a body."""
    if all(isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant) for each in function.body):
        return []
    names = {**TAKE_OVER, **BORROW}.get(function.name, ())
    arguments = function.args
    return [
        each.arg
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        if each.arg in names
    ]


def _statements(body: list[ast.stmt], owner: ast.AST, above: _Path) -> Iterator[tuple[ast.stmt, _Path]]:
    """Each statement of a function, with the way to it: the blocks around it, the innermost last."""
    for index, statement in enumerate(body):
        path = [*above, (body, index, owner)]
        yield statement, path
        if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            continue
        for block in _blocks(statement):
            yield from _statements(block, statement, path)


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    blocks = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
    blocks += [part.body for part in getattr(statement, "handlers", [])]
    return blocks + [case.body for case in getattr(statement, "cases", [])]


@attrs.frozen
class _Taken:
    """A thing that was taken.

    Attributes:
      name: the local name that it has; None for a token.
      call: as it was written, without arguments.
      gives_back: of a token: the name of what ends it.
      line: where.
    """

    name: str | None
    call: str
    gives_back: str | None
    line: int


def _key(call: ast.Call) -> tuple[str, set[str]]:
    """Return the name that is called, and the keys of a table which would mean it."""
    function: ast.expr = call.func
    if last_name(function) == "run_sync" and call.args:
        function = call.args[0]  # a thread that is not abandoned always comes back
    written = ast.unparse(function)
    parts = [part.lstrip("_") for part in written.split(".")[:-1]] + [last_name(function)]
    return written, {".".join(parts[start:]) for start in range(len(parts))} | {f".{written}"}


def _is_taker(call: ast.Call) -> bool:
    return bool(_key(call)[1] & TAKERS)


def _head(statement: ast.stmt) -> list[ast.expr]:
    """Return the expressions of a statement that come before its blocks."""
    return [each for each in ast.iter_child_nodes(statement) if isinstance(each, ast.expr)]


def _taken_by(statement: ast.stmt) -> Iterator[_Taken]:
    """Return what a statement takes into the function's hands: by a name, or as a token."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return
    values: list[tuple[list[ast.expr], ast.expr]] = []
    if isinstance(statement, ast.Assign):
        values = [(statement.targets, statement.value)]
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        values = [([statement.target], statement.value)]
    elif isinstance(statement, ast.Expr):
        values = [([], statement.value)]
    for node in own_nodes(_head(statement)):
        if isinstance(node, ast.NamedExpr):
            values.append(([node.target], node.value))
        elif isinstance(node, ast.Call):
            written, keys = _key(node)
            for key in keys & TOKENS.keys():
                yield _Taken(None, written, TOKENS[key], statement.lineno)
            if isinstance(statement, (ast.With, ast.AsyncWith)):
                continue
            # An argument of an awaited call, or of an object that is made and then awaited, has no name.
            for outer in own_nodes(_head(statement)):
                if isinstance(outer, ast.Await) and isinstance(outer.value, ast.Call):
                    inside = [each for given in outer.value.args for each in _alternatives(given)]
                    if node in inside and _is_taker(node) and not _takes_over(outer.value):
                        yield _Taken("", written, None, statement.lineno)
    for targets, value in values:
        for call in _alternatives(value):
            if not isinstance(call, ast.Call) or not _is_taker(call):
                continue
            written, keys = _key(call)
            names = [name for target in targets for name in _names(target)]
            if not targets and last_name(call.func) != "detach":
                yield _Taken("", written, None, statement.lineno)  # dropped
            places = next((GIVES[key] for key in keys & GIVES.keys()), (0,))
            for place in places if len(names) > 1 else (0,) * len(names):
                yield _Taken(names[place], written, None, statement.lineno)


def _alternatives(value: ast.expr) -> Iterator[ast.expr]:
    """Return what the value of an expression may be."""
    match value:
        case ast.Await(value=inner) | ast.NamedExpr(value=inner):
            yield from _alternatives(inner)
        case ast.BoolOp(values=several):
            for each in several:
                yield from _alternatives(each)
        case ast.IfExp(body=one, orelse=other):
            yield from _alternatives(one)
            yield from _alternatives(other)
        case _:
            yield value


def _names(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, (ast.Tuple, ast.List)):
        for each in target.elts:
            yield from _names(each)


def _takes_over(call: ast.Call) -> bool:
    return last_name(call.func) in TAKE_OVER


class _Flow:
    """Follows one thing through the rest of its function."""

    def __init__(self, taken: _Taken, tree: ast.Module, source: str) -> None:
        self.found: list[str] = []
        self._names = {taken.name}  # what it is called, and what holds it and has a name only
        self._is_protected = False  # a `try` that is followed looks after it
        self._taken = taken
        self._tree = tree
        self._source = source

    def follow_from_the_start(self, function: ast.AsyncFunctionDef) -> None:
        """Complain if the function awaits something before it looks after its parameter."""
        self._block(function.body)

    def follow(self, statement: ast.stmt, path: _Path) -> None:
        """Complain if there is an await on a way from ``statement`` on before the thing is owned."""
        taken = self._taken
        if taken.name == "":
            self._complain(statement, "it has no name, so nobody can close it")
            return
        if any(
            isinstance(owner, (ast.Try, ast.TryStar)) and block is owner.body and self._protects(owner)
            for block, _, owner in path
        ):
            return
        if isinstance(statement, (ast.If, ast.While)):
            # Taken in the test of the statement itself.
            held = self._branches(statement)
            if isinstance(statement, ast.While):
                held = True
        else:
            held = not self._owns(statement) if taken.name is None else True
        for block, index, owner in reversed(path):
            if not held:
                return
            held = self._block(block[index + 1 :])
            if held and isinstance(owner, (ast.For, ast.While)) and block is owner.body:
                # Once more from the top, for what the next turn awaits with this one's thing in hand.
                held = self._block(block[:index]) and not _is_endless(owner)
            elif held and isinstance(owner, (ast.Try, ast.TryStar)):
                held = self._block(owner.orelse if block is owner.body else []) and held
                held = held and (block is owner.finalbody or self._block(owner.finalbody))
            elif held and isinstance(owner, ast.AsyncWith):
                held = self._await(owner, "the end of its `async with`")

    # Each of these returns whether the thing is still in hand where the statements end.

    def _block(self, statements: list[ast.stmt]) -> bool:
        return all(self._statement(statement) for statement in statements)

    def _statement(self, statement: ast.stmt) -> bool:
        if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            return True
        if isinstance(statement, (ast.If, ast.While)):
            if not self._simple(statement):
                return False
            return self._branches(statement)
        if isinstance(statement, ast.For):
            return self._simple(statement) and self._block(statement.body)
        if isinstance(statement, ast.AsyncFor):
            return self._await(statement, "`async for`")
        if isinstance(statement, (ast.With, ast.AsyncWith)):
            return self._with(statement)
        if isinstance(statement, (ast.Try, ast.TryStar)):
            return self._try(statement)
        if isinstance(statement, ast.Match):
            return any([self._block(case.body) for case in statement.cases])  # noqa: C419  # all are looked at
        if not self._simple(statement):
            return False
        return not isinstance(statement, (ast.Return, ast.Raise, ast.Break, ast.Continue))

    def _simple(self, statement: ast.stmt) -> bool:
        """Look at the expressions of a statement."""
        if self._owns(statement):
            return False
        if self._is_lent(statement):
            return True
        for place in awaits(_head(statement)):
            if not self._await(place, ast.unparse(place)):
                return False
        if self._wraps(statement):
            return True
        return self._taken.name is None or self._taken.name not in _assigned_by(statement)

    def _branches(self, statement: ast.If | ast.While) -> bool:
        there, missing = self._told_by(statement.test)
        held = self._block(statement.body) if there else False
        other = self._block(statement.orelse) if missing else False
        if isinstance(statement, ast.While):
            return (held or missing) and not _is_endless(statement)
        return held or other

    def _told_by(self, test: ast.expr) -> tuple[bool, bool]:
        """Whether a test leaves it open that we have the thing in the body, and in the ``else``."""
        name = self._taken.name
        match test:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                there, missing = self._told_by(operand)
                return missing, there
            case ast.BoolOp(op=ast.And(), values=values):
                told = [self._told_by(each) for each in values]
                return all(there for there, _ in told), True
            case ast.Call() if name is None and ast.unparse(test.func) == self._taken.call:
                return True, False
            case ast.Compare(left=left, ops=[op], comparators=[ast.Constant(value=None)]):
                while isinstance(left, ast.NamedExpr):
                    left = left.target
                if isinstance(left, ast.Name) and left.id in self._names:
                    return isinstance(op, ast.IsNot), isinstance(op, ast.Is)
            case ast.Name(id=given) | ast.NamedExpr(target=ast.Name(id=given)) if given in self._names:
                return True, False
            case ast.Call(func=ast.Name(id="isinstance"), args=[ast.Name(id=given), kind]) if (
                given in self._names
            ):
                return not ast.unparse(kind).endswith(("Exception", "Error")), True
        return True, True

    def _with(self, statement: ast.With | ast.AsyncWith) -> bool:
        name = self._taken.name
        for item in statement.items:
            if name is not None and self._is_in([item.context_expr], deep=True):
                return False
        if isinstance(statement, ast.AsyncWith) and not all(
            isinstance(item.context_expr, ast.Call) and last_name(item.context_expr.func) == "open_nursery"
            for item in statement.items
        ):
            return self._await(statement, "`async with`")
        held = self._block(statement.body)
        if held and isinstance(statement, ast.AsyncWith):
            return self._await(statement, "the end of an `async with`")
        return held

    def _try(self, statement: ast.Try | ast.TryStar) -> bool:
        if self._protects(statement):
            if any(self._mentions_end(each) for each in statement.finalbody):
                return False
            # Whether the body gives it away; its awaits do no harm.
            before, self._is_protected = self._is_protected, True
            held = self._block(statement.body)
            self._is_protected = before
            return held and self._block(statement.orelse)
        held = self._block(statement.body)
        if held:
            held = self._block(statement.orelse)
        # When nothing but who looks after it, or keeps it, can fail, it is not there in the handlers.
        looked_after = all(self._is_lent(each) or self._owns(each) for each in statement.body)
        for handler in () if looked_after else statement.handlers:
            held = self._block(handler.body) or held
        return held and self._block(statement.finalbody)

    def _protects(self, statement: ast.Try | ast.TryStar) -> bool:
        """Whether the ``finally`` or the handler of a cancel of a ``try`` looks after the thing."""
        regions = [statement.finalbody]
        for handler in statement.handlers:
            if caught_names(handler.type, self._tree) & CATCHES_A_CANCEL:
                regions.append(handler.body)
                break
        return any(self._mentions_end(each) for region in regions for each in region)

    def _mentions_end(self, statement: ast.stmt) -> bool:
        """Whether a statement of a clean-up ends the thing, or hands it to who does; also in a loop over
        several.
        """
        taken = self._taken
        for node in own_nodes([statement]):
            if taken.name is None:
                if isinstance(node, ast.Call) and last_name(node.func) == taken.gives_back:
                    return True
            elif isinstance(node, ast.Attribute):
                # Also without a call, as a thread is given it.
                if node.attr.lstrip("_") in RELEASE and self._is_in([node.value]):
                    return True
            elif isinstance(node, ast.Call):
                ends = last_name(node.func) in KEEP or last_name(node.func) in TAKE_OVER
                if (ends or last_name(node.func) == "close") and self._is_in(node.args):
                    return True
            elif isinstance(node, ast.For) and self._is_in([node.iter]):
                return True
        return False

    def _wraps(self, statement: ast.stmt) -> bool:
        """Whether a statement makes a local object of the thing, which is then followed too."""
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or not isinstance(
            statement.value, ast.Call
        ):
            return False
        call, names = statement.value, _assigned_by(statement)
        if not names or not _makes(call) or not self._is_in(call.args):
            return False
        self._names |= names
        return True

    def _owns(self, statement: ast.stmt) -> bool:
        """Whether a statement gives the thing an owner before it awaits anything else."""
        name = self._taken.name
        head = _head(statement)
        if name is None:
            return any(
                isinstance(node, ast.Call) and last_name(node.func) == self._taken.gives_back
                for node in own_nodes(head)
            )
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            stores = any(not isinstance(target, ast.Name) for target in targets)
            if stores and not any(awaits(head)) and self._is_in(_alternatives(statement.value), deep=True):
                return True
        if isinstance(statement, ast.Return) and statement.value is not None and not any(awaits(head)):
            return self._is_in([statement.value], deep=True)
        for node in own_nodes(head):
            if not isinstance(node, ast.Call) or (
                isinstance(node.func, ast.Name) and node.func.id == "isinstance"
            ):
                continue
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            on_it = isinstance(node.func, ast.Attribute) and self._is_in([node.func.value])
            if on_it and last_name(node.func) in RELEASE:
                return True
            called = last_name(node.func)
            if _makes(node) and not _assigned_by(statement) and self._is_in(given, deep=True):
                return True
            if (called in KEEP or called in TAKE_OVER) and self._is_in(given):
                return True
        return False

    def _is_lent(self, statement: ast.stmt) -> bool:
        """Whether a statement awaits nothing but who looks after the thing meanwhile."""
        places = list(awaits(_head(statement)))
        return bool(places) and all(
            isinstance(place, ast.Await)
            and isinstance(place.value, ast.Call)
            and last_name(place.value.func) in BORROW
            and self._is_in(place.value.args)
            for place in places
        )

    def _is_in(self, values: list[ast.expr] | Iterator[ast.expr], *, deep: bool = False) -> bool:
        """Whether the thing is one of some values; with ``deep``, or a part of one."""
        for value in values:
            for node in own_nodes([value]) if deep else [value]:
                if isinstance(node, ast.Name) and node.id in self._names:
                    return True
        return False

    def _await(self, place: ast.stmt | ast.expr, what: str) -> bool:
        if self._is_protected:
            return True
        if not has_comment(self._source, place, "owned"):
            self._complain(place, what.splitlines()[0])
        return False

    def _complain(self, place: ast.stmt | ast.expr, what: str) -> None:
        taken = self._taken
        thing = f"{taken.name} = " if taken.name else ""
        self.found.append(f"{taken.line}: {thing}{taken.call}(), then {what} on line {place.lineno}")


def _assigned_by(statement: ast.stmt) -> set[str]:
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return {name for target in targets if isinstance(target, ast.expr) for name in _names(target)}


def _makes(call: ast.Call) -> bool:
    """Whether a call makes an object that has what it is made with."""
    called = last_name(call.func)
    return called[:1].isupper() or called == "cls" or called in WRAP


def _is_endless(loop: ast.For | ast.While) -> bool:
    return isinstance(loop, ast.While) and isinstance(loop.test, ast.Constant) and bool(loop.test.value)
