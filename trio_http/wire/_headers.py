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
from ._grammar import CRLF, VALUE_MARKS, as_bytes, fold_name

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

    #: The length that a Content-Length states, in bytes; None without one.
    # For this package alone:
    #   facts: what the section says; of a received one, once the parser has judged it.
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
        lines: list[bytes] = []
        telling = 0  # what the fields tell, summed up: `_LENGTH` when that is a Content-Length, once
        told = b""
        for field in fields:
            try:
                item, line, tells = _recent[field]
            except (KeyError, TypeError):  # not used lately, or of a type that cannot be looked up
                name, value = field
                item, line, tells = _checked_line(name, value)
            if tells:
                telling += tells
                told = item[1]
            items.append(item)
            lines.append(line)
        self.items = items
        self.lines = self.joined = self.content_length = None
        self.facts = NO_FACTS
        if telling == _LENGTH:
            self.content_length = int(told)
        elif telling:
            self._judge(lines)
        self.block = b"".join(lines)

    def _judge(self, lines: list[bytes]) -> None:
        """Find what fields of ours say, and see that they say it once."""
        by_name = self.by_name
        length = by_name.get(b"content-length")
        if length is not None:
            if b"," in length:
                length = _one_length(length)
                self._keep_first(b"content-length", length, lines)
                by_name = self.by_name
            self.content_length = int(length)
        self.facts = gathered(by_name, LocalProtocolError)

    def _keep_first(self, name: bytes, value: bytes, lines: list[bytes]) -> None:
        places = [at for at, item in enumerate(self.items) if item[0] == name]
        for at in reversed(places[1:]):
            del self.items[at], lines[at]
        self.items[places[0]], lines[places[0]], _ = _checked_line(lines[places[0]].partition(b":")[0], value)
        self.joined = None

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

    def merged(self, other: Headers) -> Headers:
        """Return these field lines without those whose names ``other`` has, and then all of ``other``."""
        if not other.items:
            return self
        if not self.items:
            return other
        block, more = self.block, other.block
        if (
            block is None
            or more is None
            or (other.facts is not NO_FACTS and self.facts is not NO_FACTS)
            or not self.by_name.keys().isdisjoint(other.by_name)
        ):
            kept = [pair for pair in self.raw_items() if pair[0].lower() not in other.by_name]
            return Headers([*kept, *other.raw_items()])
        # All was checked, no name is in both, and at most one of them says more than a length.
        headers = object.__new__(Headers)
        headers.items = self.items + other.items
        headers.block = block + more
        headers.facts = self.facts if other.facts is NO_FACTS else other.facts
        headers.content_length = self.content_length if other.content_length is None else other.content_length
        headers.lines = headers.joined = None
        return headers

    def replaced(self, name: bytes, *values: bytes) -> Headers:
        """Return these field lines without those of ``name``, and with one for each of ``values`` at the end.

        Args:
          name: as it shall be written; any case is removed.
        """
        lower = name.lower()
        if lower not in self.by_name:
            return self.merged(Headers([(name, value) for value in values]))
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


# Fields that were written lately, each with its pair, its line, and what it tells: most of a program's fields
# are the same in every message, and looking one up costs a fifth of checking and writing it. Only short ones,
# and few: what a program says may be long, and may be a secret.
_recent: Final[dict[Any, tuple[Pair, bytes, int]]] = {}
_LENGTH: Final = 1  # a Content-Length
_OTHER: Final = 2  # another of `TELLING`
_RECENT_FIELDS: Final = 256
_RECENT_VALUE_BYTES: Final = 64
_HASHED: Final = frozenset([bytes, str])  # what cannot change under its hash
_SECRET: Final = frozenset([b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"])


def _checked_line(name: Any, value: Any) -> tuple[Pair, bytes, int]:
    """Return a field as a pair, as its line, and what it tells; refuse what is no field."""
    raw, content = as_bytes(name), as_bytes(value)
    lower = fold_name(raw)
    if lower is None or content.strip() != content or 0 in content.translate(VALUE_MARKS):
        raise _illegal(raw, lower, content) from None  # not from the look-up in `_recent`
    if lower == b"transfer-encoding":
        content = content.lower()
    elif lower == b"content-length":
        content = _one_length(content)
    tells = _LENGTH if lower == b"content-length" else _OTHER if lower in TELLING else 0
    checked = (lower, content), b"%s: %s\r\n" % (raw, content), tells
    if len(content) <= _RECENT_VALUE_BYTES and lower not in _SECRET and {type(name), type(value)} <= _HASHED:
        if len(_recent) >= _RECENT_FIELDS:
            _recent.clear()
        _recent[name, value] = checked
    return checked


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


def _one_length(value: bytes) -> bytes:
    """Return the one length that a Content-Length value states, perhaps several times over (RFC 9110 §8.6).

    Raises:
      LocalProtocolError: it states none, or more than one.
    """
    lengths = {length.strip(b" \t") for length in value.split(b",")}
    if len(lengths) != 1:
        raise LocalProtocolError(
            f"contradictory Content-Length {shown(value)}, expected one length", section="RFC 9112 §6.3"
        )
    length = lengths.pop()
    length_in(length, LocalProtocolError)
    return length
