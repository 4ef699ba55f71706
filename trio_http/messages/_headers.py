"""Header fields as text: what handlers and callers see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, overload

from trio_http import wire

# Fields that concern one connection, not the message behind it (RFC 9110 §7.6.1), besides those that
# Connection names.
HOP_BY_HOP = frozenset(
    [
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    ]
)

FieldsInput: TypeAlias = (
    "Headers | wire.Headers | Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]"
)


class Headers:
    """A header or trailer section: immutable, in order, names without regard to case, values as Latin-1 text.

    Args:
      fields: a mapping, or pairs, of name and value; or another `Headers`.

    Raises:
      trio_http.wire.LocalProtocolError: a name is no token, or a value has control characters or outer
        whitespace.
      UnicodeEncodeError: a value has characters beyond Latin-1, for which HTTP has no room.
      TypeError: a name or a value is neither str nor bytes.

    Reference: RFC 9110 §5.
    """

    __slots__ = ("_wire",)

    def __init__(self, fields: FieldsInput | None = None) -> None:
        self._wire = as_wire_headers(fields)

    @classmethod
    def _wrap(cls, fields: wire.Headers) -> Headers:
        self = cls.__new__(cls)
        self._wire = fields
        return self

    def __getitem__(self, name: str) -> str:
        value = self._wire.get(name) if name.isascii() else None
        if value is None:
            raise KeyError(name)
        return value.decode("latin-1")

    @overload
    def get(self, name: str) -> str | None: ...

    @overload
    def get(self, name: str, default: str) -> str: ...

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of ``name``, its repeats joined by ``", "``; ``default`` without one."""
        value = self._wire.get(name) if name.isascii() else None
        return default if value is None else value.decode("latin-1")

    def get_all(self, name: str) -> list[str]:
        """Return every value of ``name``, in order; empty without one."""
        return [value.decode("latin-1") for value in self._wire.get_all(name)] if name.isascii() else []

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.isascii() and self._wire.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        """The names in lower case, in order, each once."""
        return iter(dict.fromkeys(name.decode("ascii") for name, _ in self._wire))

    def __len__(self) -> int:
        """The number of field lines."""
        return len(self._wire)

    def items(self) -> list[tuple[str, str]]:
        """Return every field line as (name in lower case, value)."""
        return [(name.decode("ascii"), value.decode("latin-1")) for name, value in self._wire]

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """Every field line as it stands on the wire."""
        return self._wire.raw_items()

    def end_to_end(self) -> Headers:
        """Return the fields that a proxy passes on: all but those for this connection alone (RFC 9110
        §7.6.1)."""
        named = {
            option.strip(b" \t").lower() for option in (self._wire.get(b"connection") or b"").split(b",")
        }
        kept = [pair for pair in self._wire.raw_items() if pair[0].lower() not in HOP_BY_HOP | named]
        return Headers._wrap(wire.Headers(kept))

    def __eq__(self, other: object) -> bool:
        return self._wire == other._wire if isinstance(other, Headers) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equality ignores the case of names, a hash of lists there is not

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"


def as_wire_headers(fields: FieldsInput | None) -> wire.Headers:
    """Return ``fields`` as the wire has them; text is Latin-1.

    Raises:
      trio_http.wire.LocalProtocolError, UnicodeEncodeError, TypeError: as `Headers`.
    """
    if fields is None:
        return _EMPTY
    if isinstance(fields, Headers):
        return fields._wire
    if isinstance(fields, wire.Headers):
        return fields
    pairs = fields.items() if isinstance(fields, Mapping) else _checked_pairs(fields)
    try:
        return wire.Headers([(_latin_1(name, name), _latin_1(value, name)) for name, value in pairs])
    except UnicodeEncodeError:
        raise
    except ValueError as exc:
        raise TypeError(f"header fields must be pairs of name and value, not {fields!r}: {exc}") from None


def _checked_pairs(pairs: Any) -> Any:
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise TypeError(f"header fields must be a mapping or pairs, not {pairs!r}")
    return pairs


def _latin_1(text: object, name: object) -> bytes:
    if isinstance(text, str):
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError as exc:
            exc.reason = f"header field {name!r} is sent in Latin-1; for other characters there are bytes"
            raise
    if isinstance(text, bytes | bytearray | memoryview):
        return bytes(text)
    raise TypeError(f"header field {name!r} must have a name and a value of str or bytes, got {text!r}")


_EMPTY = wire.Headers()
