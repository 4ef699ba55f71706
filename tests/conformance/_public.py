"""What the package exports, found by looking: every public function, method, property and special method.

The rules of the list:

- A module is public when its name has no underscore; of it count all names without one. An object that is
  exported twice is counted once, where it is exported first: the package comes before its parts.
- Of a class count what it has written itself, or has from a base of ours that is not exported. What it has
  from an exported base is counted there; what comes from trio's classes or the standard library's, at the
  topmost exported class that has it. A method that is overridden is another function, and is counted again.
- Methods count by names without an underscore; of the special methods, those written by hand. What attrs and
  dataclasses write for us is theirs to test.
- A function is asynchronous when it is awaited. One that returns something for ``async with`` is synchronous,
  and is counted twice: as itself, and with ``()`` behind its name for the block.
"""

from __future__ import annotations

import enum
import functools
import importlib
import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import trio

import trio_http

Kind: TypeAlias = Literal["async", "block", "sync", "property"]

MODULES = (
    "trio_http",
    *(
        f"trio_http.{name}"
        for name in "client server messages connection transport instruments wire testing".split()
    ),
)
_OURS = str(Path(trio_http.__file__).parent)
_TRIO = str(Path(trio.__file__).parent)
_COUNTED_SPECIAL = frozenset(
    "__init__ __call__ __len__ __bool__ __contains__ __getitem__ __iter__ __next__ __aiter__ __anext__"
    " __enter__ __exit__ __aenter__ __aexit__ __eq__ __hash__ __str__ __repr__".split()
)


@attrs.frozen
class Public:
    """One name of the package.

    Attributes:
      name: qualified, such as ``trio_http.Client.get``; of a block with ``()`` at the end.
      kind: "async" is awaited, "block" is what a function returns for ``async with``.
      function: what runs.
      owner: the class it was found at; None for a function of a module.
    """

    name: str
    kind: Kind
    function: Any
    owner: type | None

    @property
    def runs_in(self) -> str:
        """The name that its frames have."""
        return str(inspect.unwrap(self.function).__name__)


def exported() -> dict[str, Any]:
    """Return all objects of the public modules by their qualified names, each once."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in sorted(dir(module)):
            if name.startswith("_"):
                continue
            value = getattr(module, name)
            of_ours = getattr(value, "__module__", "").startswith("trio_http")
            if of_ours and (inspect.isclass(value) or inspect.isfunction(value)) and id(value) not in seen:
                seen.add(id(value))
                found[f"{module_name}.{name}"] = value
    return found


def _is_written_by_hand(function: Any) -> bool:
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return False
    # trio's, and the Mapping and Sequence that an exported class gives to its users
    return code.co_filename.startswith((_OURS, _TRIO)) or "collections" in code.co_filename


def _plain(value: Any) -> tuple[Kind | None, Any]:
    """Return what a class's entry is, and the function in it; None for what is no function."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if isinstance(value, property):
        return "property", value.fget
    if isinstance(value, functools.cached_property):
        return "property", value.func
    if not isinstance(value, types.FunctionType):
        return None, None
    return ("async" if inspect.iscoroutinefunction(value) else "sync"), value


def _block_of(function: Any) -> bool:
    """Whether the function returns something for ``async with``."""
    if inspect.isasyncgenfunction(inspect.unwrap(function)) and hasattr(function, "__wrapped__"):
        return True
    unwrapped = inspect.unwrap(function)
    annotation = getattr(unwrapped, "__annotations__", {}).get("return")
    if not isinstance(annotation, str):
        return False
    returned = unwrapped.__globals__.get(annotation.split("[")[0])
    return hasattr(returned, "__aenter__") and unwrapped.__name__ != "__aenter__"


def _of_class(qualified: str, cls: type, public: set[type]) -> Iterator[Public]:
    if issubclass(cls, enum.Enum) or cls.__class__ in public:  # a Sentinel is its own class
        return
    elsewhere = {
        name for base in cls.__mro__[1:] if base in public for above in base.__mro__ for name in vars(above)
    }
    seen: set[str] = set()
    for base in cls.__mro__:
        for name, value in vars(base).items():
            kind, function = _plain(value)
            if kind is None or name in seen:
                continue
            seen.add(name)
            if name.startswith("_") and name not in _COUNTED_SPECIAL:
                continue
            if not _is_written_by_hand(function) or (base is not cls and name in elsewhere):
                continue
            yield Public(f"{qualified}.{name}", kind, function, cls)
            if kind == "sync" and _block_of(function):
                yield Public(f"{qualified}.{name}()", "block", function, cls)


def everything() -> dict[str, Public]:
    """Return all that is public, by qualified name."""
    objects = exported()
    public = {value for value in objects.values() if inspect.isclass(value)}
    found: list[Public] = []
    for name, value in objects.items():
        if inspect.isclass(value):
            found.extend(_of_class(name, value, public))
        elif inspect.iscoroutinefunction(value):
            found.append(Public(name, "async", value, None))
        else:
            found.append(Public(name, "sync", value, None))
            if _block_of(value):
                found.append(Public(f"{name}()", "block", value, None))
    return {entry.name: entry for entry in found}
