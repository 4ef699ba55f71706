"""The header (or trailer) section: an immutable sequence of field lines.

What is true of field lines, and decided the representation: their order matters among those of one name; a
name's case does not matter but people want to see theirs again; a name may repeat; most sections have each
name once, and are asked for a handful of names. So: a list of ``(lower-case name, value)``, an index beside
it, and the names as written are found again, when somebody asks, in the lines that came or in the block that
goes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, overload

from ._errors import LocalProtocolError, shown
from ._facts import NO_FACTS, TELLING, Facts, gathered, length_in
from ._grammar import CRLF, KNOWN_NAMES, MAX_LENGTH_DIGITS, VALUE_MARKS, as_bytes, fold_name

Pair: TypeAlias = tuple[bytes, bytes]
HeadersInput: TypeAlias = "Headers | Iterable[Sequence[bytes | str]]"


class Headers(Sequence[Pair]):
    """Field lines as a sequence of ``(name in lower case, value)``; equal to any sequence of the same pairs.

    Args:
      fields: pairs of name and value, str (ASCII) or bytes-like; or another `Headers`.

    Raises:
      LocalProtocolError: a name is no token, a value has a control character or outer whitespace, the
        Content-Length is malformed or contradicts itself, or the Transfer-Encoding is other than one
        ``chunked`` (hint 501).
      TypeError, ValueError: not pairs, or not text.

    Repeats of one Content-Length are merged, a Transfer-Encoding is lower-cased (RFC 9110 §8.6, RFC 9112 §7).
    """

    # For this package alone:
    #   content_length, facts: what the section says; of a received one, once the parser has judged it.
    #   block: the field lines as they are written, each with its CRLF; None when they were received.
    #   lines: the field lines as they were received; None otherwise.
    #   joined: as `by_name`, or None until somebody asks.
    __slots__ = ("block", "content_length", "facts", "items", "joined", "lines")

    block: bytes | None
    content_length: int | None
    facts: Facts
    joined: dict[bytes, bytes] | None
    items: list[Pair]
    lines: list[bytes] | None

    def __init__(self, fields: HeadersInput = ()) -> None:
        if type(fields) is Headers:
            fields = fields.raw_items()
        items: list[Pair] = []
        parts: list[bytes] = []
        length: bytes | None = None
        telling = False
        name: Any
        value: Any
        for name, value in fields:
            lower = _known_name(name) if type(name) is bytes else None
            if lower is None or type(value) is not bytes or value.strip() != value:
                name, lower, value = _checked_pair(name, value)
            if lower in TELLING:
                if lower != b"content-length":
                    telling = True
                    if lower == b"transfer-encoding":
                        value = value.lower()
                elif length is None and value.isdigit() and len(value) <= MAX_LENGTH_DIGITS:
                    length = value
                else:
                    value = _one_length(value, length)
                    if length is not None:
                        continue
                    length = value
            items.append((lower, value))
            parts += name, b": ", value, b"\r\n"
        self.block = block = b"".join(parts)
        if block.translate(VALUE_MARKS).count(0) != 2 * len(items):  # more than the CR and LF of each line
            raise _first_illegal(items)
        self.items = items
        self.lines = self.joined = None
        self.content_length = None if length is None else int(length)
        self.facts = gathered(self.by_name, LocalProtocolError) if telling else NO_FACTS

    @property
    def by_name(self) -> dict[bytes, bytes]:
        """Lower-case name to value, repeats joined by ``b", "``; not to be changed."""
        index = self.joined
        if index is None:
            index = self.joined = dict(self.items)
            if len(index) != len(self.items):
                values: dict[bytes, list[bytes]] = {}
                for name, value in self.items:
                    values.setdefault(name, []).append(value)
                index.update((name, b", ".join(each)) for name, each in values.items())
        return index

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> Pair: ...

    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...

    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        return self.items[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            return self.items == other.items
        if isinstance(other, Sequence):
            return self.items == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"<Headers({self.items!r})>"

    def raw_items(self) -> list[Pair]:
        """Return the pairs with each name as it was written."""
        # Lines behind those of the items are none: behind the last CRLF of a block, nothing follows.
        lines = self.lines if self.block is None else self.block.split(CRLF)
        return [
            (line.partition(b":")[0], item[1]) for item, line in zip(self.items, lines or (), strict=False)
        ]

    def get(self, name: bytes | str, default: bytes | None = None) -> bytes | None:
        """Return the value of ``name``, its repeats joined by ``b", "`` (RFC 9110 §5.3); ``default`` without
        one.

        Joining breaks Set-Cookie, whose values hold commas: use `get_all` for it.
        """
        return self.by_name.get(as_bytes(name).lower(), default)

    def get_all(self, name: bytes | str) -> list[bytes]:
        """Return every value of ``name``, in order; empty without one."""
        wanted = as_bytes(name).lower()
        return [value for lower, value in self.items if lower == wanted]

    def replaced(self, name: bytes, *values: bytes) -> Headers:
        """Return these field lines without those of ``name``, and with one for each of ``values`` at the end.

        Args:
          name: as it shall be written; any case is removed.
        """
        lower = name.lower()
        if lower not in self.by_name and not values:
            return self
        kept = [pair for pair in self.raw_items() if pair[0].lower() != lower]
        return Headers([*kept, *((name, value) for value in values)])

    def sendable(self) -> Headers:
        """Return these field lines with a `block`, checked anew when they were received.

        What is sent is checked more strictly than a leniency may let in, and written in one form.

        Raises:
          LocalProtocolError: they may not be sent.
        """
        return self if self.block is not None else Headers(self.raw_items())

    # -- what the parser of received field lines does with them, before anybody else has them ----------------

    def merge(self, name: bytes, value: bytes) -> None:
        """Leave one field line of ``name`` (in lower case), the first, and give it ``value``."""
        first = next(at for at, item in enumerate(self.items) if item[0] == name)
        self.items[first] = name, value
        self._keep([at for at, item in enumerate(self.items) if item[0] != name or at == first])

    def drop(self, name: bytes) -> None:
        """Leave no field line of ``name`` (in lower case)."""
        self._keep([at for at, item in enumerate(self.items) if item[0] != name])

    def _keep(self, places: list[int]) -> None:
        lines = self.lines or []
        self.items, self.lines = [self.items[at] for at in places], [lines[at] for at in places]
        self.joined = None


_known_name: Final = KNOWN_NAMES.get


def _checked_pair(name: object, value: object) -> tuple[bytes, bytes, bytes]:
    """Return a field's name, its name in lower case and its value as bytes, refusing what is no field."""
    name, value = as_bytes(name), as_bytes(value)
    lower = fold_name(name)
    if lower is None or value.strip() != value:
        raise _illegal(name, lower, value)
    return name, lower, value


def _illegal(name: bytes, lower: bytes | None, value: bytes) -> LocalProtocolError:
    if lower is None:
        return LocalProtocolError(
            f"illegal field name {shown(name)}, expected a token", section="RFC 9110 §5.1"
        )
    return LocalProtocolError(
        f"illegal value {shown(value)} of field {shown(name)},"
        " expected neither control characters nor outer whitespace",
        section="RFC 9110 §5.5",
    )


def _first_illegal(items: list[Pair]) -> LocalProtocolError:
    return next(_illegal(name, name, value) for name, value in items if 0 in value.translate(VALUE_MARKS))


def _one_length(value: bytes, former: bytes | None) -> bytes:
    """Return the one length that a Content-Length value states, perhaps several times over (RFC 9110 §8.6).

    Args:
      former: what the field lines before it state, if there are any.

    Raises:
      LocalProtocolError: it states none, or another one.
    """
    lengths = {length.strip(b" \t") for length in value.split(b",")}
    if former is not None:
        lengths.add(former)
    if len(lengths) != 1:
        stated = b", ".join(sorted(lengths))
        raise LocalProtocolError(
            f"contradictory Content-Length {shown(stated)}, expected one length", section="RFC 9112 §6.3"
        )
    length = lengths.pop()
    length_in(length, LocalProtocolError)
    return length
