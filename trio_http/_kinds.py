"""What values have to be: checks, and validators and converters of settings. Unlike those of attrs, these say
what to give instead.

They all raise TypeError for a value of the wrong kind, and ValueError for one out of its range.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar

import attrs

from trio_http.messages import as_wire_headers
from trio_http.wire import Leniency

T = TypeVar("T")

Validator: TypeAlias = "Callable[[Any, attrs.Attribute[Any], Any], None]"


# Not `int | float`, which would be made anew at each call.
_NUMBER: Final = (int, float)


# ---------------------------------------------------------------------------------------------------- checks


def check_number(
    name: str,
    value: Any,
    least: float = 0,
    *,
    above: bool = False,
    finite: bool = False,
    unit: str = "",
    hint: str = "",
) -> None:
    """Refuse what is no number, or too small a one.

    Args:
      name: what the value is called.
      value: that.
      least: the least number there may be.
      above: that one may not be.
      finite: nor may `math.inf`.
      unit: what it is a number of, in the plural.
      hint: what else to say, such as how there is no limit.
    """
    right = isinstance(value, _NUMBER) and not isinstance(value, bool)
    if right and (value > least if above else value >= least) and not (finite and value == math.inf):
        return
    ending = f"; {hint}" if hint else ""
    if not right:
        kind = f"a number of {unit}" if unit else "a number"
        raise TypeError(f"{name} must be {kind}, not {value!r}{ending}")
    kind = "finite and " if finite else ""
    relation = "more than" if above else "at least"
    bound = f"{least:g} {unit}" if unit else f"{least:g}"
    raise ValueError(f"{name} must be {kind}{relation} {bound}, not {value!r}{ending}")


def check_int(name: str, value: object, least: int) -> None:
    """Refuse what is no int, or less than ``least``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def check_all(name: str, values: Iterable[T], kind: type[T], form: Literal["list", "set"]) -> tuple[T, ...]:
    """Return what there is in a setting of several values.

    Args:
      name: what they are called.
      values: any iterable, but not a single one of ``kind``.
      kind: what each has to be an instance of.
      form: what to call them together.
    """
    what = f"{name} must be a {form} of {kind.__name__}"
    if isinstance(values, kind) or not isinstance(values, Iterable):
        one = "[...]" if form == "list" else "{...}"
        raise TypeError(f"{what}, not {values!r}; for a single one there is {one}")
    checked = tuple(values)
    for value in checked:
        if not isinstance(value, kind):
            made = (
                f": {value.__name__}() is one" if isinstance(value, type) and issubclass(value, kind) else ""
            )
            raise TypeError(f"{what}, and {value!r} is none{made}")
    return checked


# ------------------------------------------------------------------------------------------------ validators


def number(
    least: float, *, above: bool = False, finite: bool = False, unit: str = "", hint: str = ""
) -> Validator:
    """Return a validator for numbers; the arguments are those of `check_number`."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        check_number(attribute.name, value, least, above=above, finite=finite, unit=unit, hint=hint)

    return validate


#: Of times and sizes, of what is counted, and of rates in bytes per second: one that does not end would be
#: kept by nobody.
positive: Final = number(0, above=True, hint="math.inf for no limit")
count: Final = number(1, hint="math.inf for no limit")
rate: Final = number(0, finite=True, hint="0 for no limit")


def whole_number(least: int) -> Validator:
    """Return a validator for integers from ``least``."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        check_int(attribute.name, value, least)

    return validate


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


def one_of(*words: str) -> Validator:
    """Return a validator for a choice of words."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in words:
            raise ValueError(f"{attribute.name} must be one of {', '.join(map(repr, words))}, not {value!r}")

    return validate


def field_value(field: str, *, optional: bool = False) -> Validator:
    """Return a validator for values of a header field, and for None if ``optional``.

    Besides what the others raise, it raises what `trio_http.Headers` does for a value that cannot be sent.
    """

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if isinstance(value, str):
            as_wire_headers({field: value})
        elif value is not None or not optional:
            none = "; None for none" if optional else ""
            raise TypeError(f"{attribute.name} must be a str, not {value!r}{none}")

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


# ------------------------------------------------------------------------------------------------ converters


def leniencies(values: Iterable[Leniency]) -> frozenset[Leniency]:
    """Be a converter for `lenient`."""
    return frozenset(check_all("lenient", values, Leniency, "set"))
