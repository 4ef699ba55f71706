"""How a public function is called: the cases of the asynchronous ones, the visits of all others.

Which functions there are is found by `_public`; the files ``cases_*`` and ``visits_*`` say how each is
called. A missing case, a second one and one for a name that is gone fail `test_catalogue`.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import attrs
import trio.testing
from trio.testing import MockClock

from tests.conformance._public import everything

World: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]
Call: TypeAlias = Callable[[Any], Awaitable[object]]
Check: TypeAlias = Callable[[Any], Awaitable[object] | None]


@contextlib.asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    """The world of what needs none."""
    yield


@contextlib.asynccontextmanager
async def a_list() -> AsyncIterator[list[Any]]:
    """The world of what is made by the way."""
    yield []


@attrs.frozen
class Failure:
    """One way in which a function fails.

    Attributes:
      call: ends in the error.
      raises: its kind.
      prepare: what comes before, and is not looked at.
      at_once: why no checkpoint comes before the error; "" when one does.
      world: where; None: that of the case.
      spoils: the world is not worth being looked at afterwards.
    """

    call: Call
    raises: type[BaseException]
    prepare: Call | None = None
    at_once: str = ""
    world: World | None = None
    spoils: bool = False


# Trio lets an error come without a checkpoint, and its own functions do so for what is the caller's fault.
MISUSE = "a mistake of the caller's, which is there whenever it is called"
CLOSED = "closed by the caller itself before"


@attrs.frozen
class Case:
    """How one asynchronous function is called.

    Attributes:
      name: the function's, qualified.
      call: awaits the function once, with success. An asynchronous context manager it enters and leaves.
      world: gives what ``call`` is called with.
      check: raises AssertionError unless all is as it must be afterwards, whether cancelled or not.
      fails: the ways in which it fails.
      variant: tells several cases of one name apart.
      threads: it waits for a thread, which a clock that jumps at once does not see.
    """

    name: str
    call: Call
    world: World = nothing
    check: Check | None = None
    fails: tuple[Failure, ...] = ()
    variant: str = ""
    threads: bool = False

    def set_up(self, clock: MockClock) -> None:
        """Have the clock behave so that nothing comes to its time limit before its time.

        With threads it jumps when nothing has happened for 0.05 real seconds, far more than they take. (It
        used to run a hundred times as fast instead: on a busy machine a dial came to its limit.)
        """
        if self.threads:
            clock.autojump_threshold = 0.05

    def __str__(self) -> str:
        return f"{self.name}[{self.variant}]" if self.variant else self.name


CASES: dict[str, Case] = {}


def case(
    name: str,
    *,
    world: World = nothing,
    check: Check | None = None,
    fails: Iterable[Failure] = (),
    variant: str = "",
    threads: bool = False,
) -> Callable[[Call], Call]:
    """Register the function below as the way to call ``name``; the arguments are those of `Case`."""

    def register(call: Call) -> Call:
        made = Case(name, call, world, check, tuple(fails), variant, threads)
        if str(made) in CASES:
            raise ValueError(f"{made} has a case already, in {CASES[str(made)].call.__code__.co_filename}")
        CASES[str(made)] = made
        return call

    return register


# -------------------------------------------------------------------------------------- synchronous functions


class Visit:
    """Calls synchronous functions, sees that they are, and keeps their names.

    Attributes:
      prefix: what the names of the family begin with.
      names: the qualified names of the family.
      called: those of all that was called.
    """

    def __init__(self, prefix: str, names: frozenset[str]) -> None:
        self.called: set[str] = set()
        self.prefix = prefix
        self.names = names

    def __call__(
        self, name: str, call: Callable[[], Any], *, raises: type[BaseException] | None = None
    ) -> Any:
        """Call, within `assert_no_checkpoints`, and return what comes of it.

        Args:
          name: the function's, within the family.
          call: calls it.
          raises: the error that it is there for.
        """
        self.called.add(self.prefix + name)
        with trio.testing.assert_no_checkpoints():
            try:
                result = call()
            except BaseException as exc:
                if raises is None or not isinstance(exc, raises):
                    raise
                return exc
        assert raises is None, (
            f"{self.prefix}{name} has returned {result!r} instead of raising {raises.__name__}"
        )
        # `stream` is for `async with`, and what it returns can be awaited, to say so.
        is_block = hasattr(result, "__aenter__")
        assert is_block or not inspect.isawaitable(result), f"{self.prefix}{name} has to be awaited"
        return result

    def look_at(self, instance: object) -> None:
        """Read all properties of an object, and what its special methods without an argument say."""
        of_it = {
            name: entry
            for name, entry in everything().items()
            if name.startswith(self.prefix) and entry.owner is not None and isinstance(instance, entry.owner)
        }
        for name, entry in of_it.items():
            short = name.removeprefix(self.prefix)
            if entry.kind == "property":
                self(short, lambda short=short: getattr(instance, short))
            elif short in _LOOKS:
                self(short, lambda look=_LOOKS[short]: look(instance))


_LOOKS: dict[str, Callable[[Any], object]] = {
    "__repr__": repr,
    "__str__": str,
    "__len__": len,
    "__bool__": bool,
    "__iter__": list,
    "__hash__": hash,
    "__eq__": lambda instance: instance == instance,
}

Play: TypeAlias = Callable[[Visit], Awaitable[None]]


@attrs.frozen
class Family:
    """The synchronous functions of one class or module, which one function calls, each at least once.

    Attributes:
      prefix: what their names begin with.
      names: the qualified names of all.
      play: calls them.
    """

    prefix: str
    names: frozenset[str]
    play: Play


FAMILIES: dict[str, Family] = {}


def family(prefix: str, names: str = "", *, looks: bool = False) -> Callable[[Play], Play]:
    """Register the function below as what calls the synchronous functions of a family.

    Args:
      prefix: qualified name of the class or module.
      names: of its functions, separated by spaces; ``()`` at the end of none.
      looks: all properties, and `Visit.look_at`'s special methods, are among them.
    """

    def register(play: Play) -> Play:
        if prefix in FAMILIES:
            raise ValueError(f"{prefix} is visited twice")
        full = {f"{prefix}.{name}" for name in names.split()}
        if looks:
            for name, entry in everything().items():
                short = name.removeprefix(prefix + ".")
                if name.startswith(prefix + ".") and (entry.kind == "property" or short in _LOOKS):
                    full.add(name)
        FAMILIES[prefix] = Family(prefix + ".", frozenset(full), play)
        return play

    return register
