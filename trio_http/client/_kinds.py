"""What the values of settings have to be. Unlike those of attrs, these validators say what to give
instead.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs

Validator: TypeAlias = "Callable[[Any, attrs.Attribute[Any], Any], None]"


def number(least: float, *, above: bool = False, none: str = "") -> Validator:
    """Return a validator for numbers, `math.inf` among them.

    Args:
      least: the least of them.
      above: that one is not among them.
      none: how to say that there is no limit.
    """

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{attribute.name} must be a number, not {value!r}{none}")
        if not (value > least if above else value >= least):
            relation = "more than" if above else "at least"
            raise ValueError(f"{attribute.name} must be {relation} {least:g}, not {value!r}{none}")

    return validate


seconds: Final = number(0, above=True, none="; math.inf for no limit")
count: Final = number(1, none="; math.inf for no limit")
rate: Final = number(0, none="; 0 for no limit")


def whole_number(least: int) -> Validator:
    """Return a validator for integers from ``least``."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{attribute.name} must be an int, not {value!r}")
        if value < least:
            raise ValueError(f"{attribute.name} must be at least {least}, not {value!r}")

    return validate


def charset(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Be a validator for charsets, and functions that find one."""
    if callable(value):
        return
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name} must be a str, or a function of the content, not {value!r}")
    try:
        codecs.lookup(value)
    except LookupError:
        raise ValueError(f"{attribute.name} is {value!r}, which Python knows no charset by") from None


def made_of(kind: type, *, optional: bool = False) -> Validator:
    """Return a validator for the values of a class, and for None if ``optional``."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind) and not (optional and value is None):
            name = kind.__name__
            none = "; None for none" if optional else ""
            raise TypeError(
                f"{attribute.name} must be a {name}, not {value!r}: {attribute.name}={name}(...){none}"
            )

    return validate


def switch(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Be a validator for True and False."""
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name} must be True or False, not {value!r}")


def function(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Be a validator for functions, and None."""
    if value is not None and not callable(value):
        raise TypeError(f"{attribute.name} must be a function, not {value!r}; None for none")


def mapping(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Be a validator for mappings."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{attribute.name} must be a mapping, such as a dict, not {value!r}")
