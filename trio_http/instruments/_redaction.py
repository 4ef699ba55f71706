"""What is left of a field's value when its secret is taken out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: Fields whose values let whoever reads them act as somebody else.
SENSITIVE_FIELDS: Final = frozenset(["authorization", "cookie", "proxy-authorization", "set-cookie"])

#: What stands in the place of a secret.
REDACTED: Final = "redacted"


class Redaction:
    """Takes the secrets out of header sections, and leaves their form.

    The scheme of credentials, and the names and attributes of cookies, are kept; of any other field nothing.

    Args:
      fields: the names of the fields, in any case. Empty: nothing is taken out.

    Raises:
      TypeError: ``fields`` is one str.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[str] = SENSITIVE_FIELDS) -> None:
        if isinstance(fields, str):
            raise TypeError(f"expected several names of fields, not the one str {fields!r}: put it in a list")
        self._fields = frozenset(name.lower() for name in fields)

    def of(self, fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
        """Return field lines as text (Latin-1), redacted, with their names as they were written."""
        return [
            (text, _redacted(text.lower(), value.decode("latin-1")))
            if (text := name.decode("latin-1")).lower() in self._fields
            else (text, value.decode("latin-1"))
            for name, value in fields
        ]


def _redacted(name: str, value: str) -> str:
    match name:
        case "cookie":
            return "; ".join(map(_without_value, value.split(";")))
        case "set-cookie":
            pair, semicolon, attributes = value.partition(";")
            return _without_value(pair) + semicolon + attributes
        case "authorization" | "proxy-authorization":
            scheme, space, _ = value.partition(" ")
            return f"{scheme} {REDACTED}" if space else REDACTED
    return REDACTED


def _without_value(pair: str) -> str:
    """Return ``name=value`` without the value; without ``=`` all of it may be the value (RFC 6265 §5.2)."""
    name, equals, _ = pair.strip().partition("=")
    return f"{name}={REDACTED}" if equals else REDACTED
