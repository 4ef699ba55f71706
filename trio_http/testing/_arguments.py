"""What a test hands over, looked at before anything is run.

A mistake is then told where it was made, and in the words of the argument. Otherwise it would show somewhere
in the midst of a run, as the failure of what is under test; or not at all, as with a check that returns False
instead of raising.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from ._task_tree import function_name


def check_function(role: str, function: object, arguments: tuple[str, ...], *, waits: bool = True) -> None:
    """Refuse what cannot be called with these arguments, or yields.

    Whether a plain function returns an awaitable shows only when it is called: see `awaited`.

    Args:
      role: what the function is for, such as ``"the scenario"``.
      arguments: what it is called with, in words.
      waits: it may be async.

    Raises:
      TypeError: it is no function, takes other arguments, yields, or is async where that makes no sense.
    """
    if inspect.iscoroutine(function):
        name = function.__name__
        function.close()  # or Python warns that it was never awaited, beside this
        raise TypeError(
            f"{role} must be an async function, not its coroutine: {name} instead of {name}(...);"
            f" functools.partial({name}, ...) gives it arguments"
        )
    if not callable(function):
        raise TypeError(f"{role} must be a function, got {function!r}")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{role} must not yield, and {function_name(function)} does")
    if not waits and inspect.iscoroutinefunction(function):
        raise TypeError(f"{role} must be a sync function, and {function_name(function)} is async")
    _check_signature(role, function, arguments)


def check_world(world: object) -> None:
    """Refuse what does not give an async context manager.

    Raises:
      TypeError: it is none such.
    """
    how = "@asynccontextmanager above an async function that yields makes one"
    if inspect.iscoroutine(world):
        world.close()
    if not callable(world) or isinstance(world, AbstractAsyncContextManager):
        raise TypeError(
            f"world must be a function that gives an async context manager, a fresh one for each run;"
            f" got {world!r}: world=lambda: ... instead of world=..."
        )
    if inspect.isasyncgenfunction(world) or inspect.iscoroutinefunction(world):
        raise TypeError(
            f"world must give an async context manager, and {function_name(world)} does not: {how}"
        )
    _check_signature("world", world, ())


def check_invariants(invariants: Iterable[object]) -> tuple[Any, ...]:
    """Return the invariants, once each is known to be a function.

    Raises:
      TypeError: it is a single one, or one is no function.
    """
    if not isinstance(invariants, Iterable):
        raise TypeError(
            f"invariants must be a tuple of them, got {invariants!r}: (*DEFAULT_INVARIANTS, yours)"
        )
    invariants = tuple(invariants)
    for invariant in invariants:
        if not callable(invariant):
            raise TypeError(f"an invariant is a function that gives a context manager, got {invariant!r}")
    return invariants


def as_context(invariant: Callable[[], object], given: object) -> AbstractContextManager[object]:
    """Return what an invariant has given.

    Raises:
      TypeError: it is no context manager.
    """
    if not isinstance(given, AbstractContextManager):
        raise TypeError(
            f"the invariant {function_name(invariant)} must give a context manager, as a function does that"
            f" yields once under @contextmanager; got {given!r}"
        )
    return given


def awaited(role: str, function: Callable[..., object], given: object) -> Awaitable[object]:
    """Return what an async function has given.

    Raises:
      TypeError: it is nothing to await, so the function is not async.
    """
    if not inspect.isawaitable(given):
        raise TypeError(
            f"{role} must be an async function, and {function_name(function)} is not: it returned {given!r}"
        )
    return given


def check_int(name: str, value: object, least: int | None = None) -> None:
    """Refuse what is no whole number, or less than it has to be.

    Raises:
      TypeError, ValueError: so it is.
    """
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_bytes(name: str, value: object) -> None:
    """Refuse what cannot be sent, or received.

    Raises:
      TypeError: it is no bytes.
    """
    if not isinstance(value, (bytes, bytearray, memoryview)):
        hint = f": b{value!r}" if isinstance(value, str) and value.isascii() else ""
        raise TypeError(f"{name} must be bytes, got {value!r}{hint}")


def _check_signature(role: str, function: Any, arguments: tuple[str, ...]) -> None:
    with contextlib.suppress(ValueError):  # written in C, mostly: nothing is known of it
        signature = inspect.signature(function)
        try:
            signature.bind(*arguments)
        except TypeError as exc:
            told = " and ".join(arguments) or "no arguments"
            raise TypeError(
                f"{role} is called with {told}, and {function_name(function)}{signature} does not take that:"
                f" {exc}"
            ) from None
