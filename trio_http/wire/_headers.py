"""The header (or trailer) section: an immutable sequence of field lines.

What is true of field lines, and decided the representation: their order matters among those of one name; a name's case
does not matter but people want to see theirs again; a name may repeat; most sections have each name once, and are asked
for a handful of names. So: a list of ``(lower-case name, value)``, the names as written beside it, and an index built at
the first look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, overload

from ._errors import LocalProtocolError, shown
from ._grammar import KNOWN_NAMES, MAX_LENGTH_DIGITS, VALUE_MARKS, as_bytes, fold_name

if TYPE_CHECKING:
    from ._facts import Facts

Pair: TypeAlias = tuple[bytes, bytes]
HeadersInput: TypeAlias = "Headers | Iterable[Sequence[bytes | str]]"


class Headers(Sequence[Pair]):
    """Field lines as a sequence of ``(name in lower case, value)``; equal to any sequence of the same pairs.

    Args:
      fields: pairs of name and value, str (ASCII) or bytes-like; or another `Headers`.

    Raises:
      LocalProtocolError: a name is no token, a value has a control character or outer whitespace, the Content-Length is
        malformed or contradicts itself, or the Transfer-Encoding is other than one ``chunked`` (hint 501).
      TypeError, ValueError: not pairs, or not text.

    Repeats of one Content-Length are merged, a Transfer-Encoding is lower-cased (RFC 9110 §8.6, RFC 9112 §7).
    """

    __slots__ = ("_block", "_facts", "_items", "_lines", "by_name", "repeated")

    def __init__(self, fields: HeadersInput = ()) -> None:
        items: list[Pair] = []
        lines: list[bytes] = []
        framed = False
        for name, value in fields.raw_items() if type(fields) is Headers else fields:
            if type(name) is not bytes or type(value) is not bytes:
                name, value = as_bytes(name), as_bytes(value)
            lower = KNOWN_NAMES.get(name) or fold_name(name)
            if lower is None or value.strip() != value:
                raise _illegal(name, lower, value)
            if lower in _FRAMING:
                if framed or not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                    value = _normalised_framing(lower, value, items)
                    if (lower, value) in items:
                        continue
                framed = True
            items.append((lower, value))
            lines.append(b"%s: %s\r\n" % (name, value))
        block = b"".join(lines)
        if block.translate(VALUE_MARKS).count(0) != 2 * len(lines):  # more than the CR and LF of each line
            raise _first_illegal(items)
        self._hold(items, lines, block)

    def _hold(self, items: list[Pair], lines: list[bytes], block: bytes | None) -> None:
        self._items = items
        self._lines = lines  # as they came, or with CRLF as they go
        self._block = block
        self._facts: Facts | None = None
        #: Lower-case name to value, repeats joined; not to be changed.
        self.by_name = by_name = dict(items)
        #: The lower-case names that have more than one field line.
        self.repeated = _NOTHING
        if len(by_name) != len(items):
            self._join_repeats()

    @classmethod
    def _checked(cls, items: list[Pair], lines: list[bytes]) -> Headers:
        """Wrap received field lines that the caller has checked, and their pairs."""
        self = _new(cls)
        self._hold(items, lines, None)
        return self

    def _join_repeats(self) -> None:
        values: dict[bytes, list[bytes]] = {}
        for name, value in self._items:
            values.setdefault(name, []).append(value)
        repeated = [name for name, each in values.items() if len(each) > 1]
        for name in repeated:
            self.by_name[name] = b", ".join(values[name])
        self.repeated = frozenset(repeated)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._items)

    @overload
    def __getitem__(self, index: int) -> Pair: ...

    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...

    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        return self._items[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            return self._items == other._items
        if isinstance(other, Sequence):
            return self._items == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"<Headers({self._items!r})>"

    def raw_items(self) -> list[Pair]:
        """Return the pairs with each name as it was written."""
        return [(line.partition(b":")[0], item[1]) for line, item in zip(self._lines, self._items, strict=True)]

    def get(self, name: bytes | str, default: bytes | None = None) -> bytes | None:
        """Return the value of ``name``, its repeats joined by ``b", "`` (RFC 9110 §5.3); ``default`` without one.

        Joining breaks Set-Cookie, whose values hold commas: use `get_all` for it.
        """
        return self.by_name.get(as_bytes(name).lower(), default)

    def get_all(self, name: bytes | str) -> list[bytes]:
        """Return every value of ``name``, in order; empty without one."""
        wanted = as_bytes(name).lower()
        return [value for lower, value in self._items if lower == wanted]

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

    @property
    def block(self) -> bytes:
        """The field lines as they are written, each with its CRLF, Host first (RFC 9110 §7.2 wants it so).

        Raises:
          LocalProtocolError: they were received under a leniency, and may not be sent.
        """
        block = self._block
        if block is None:  # received: what is sent is checked more strictly, and written in one form
            block = self._block = Headers(self.raw_items()).block
        elif b"host" in self.by_name and block[:5].lower() != b"host:":
            lines = sorted(self._lines, key=lambda line: line[:5].lower() != b"host:")
            block = self._block = b"".join(lines)
        return block


_NOTHING: frozenset[bytes] = frozenset()
_new: Callable[[type[Headers]], Headers] = object.__new__
_FRAMING: frozenset[bytes] = frozenset([b"content-length", b"transfer-encoding"])


def _illegal(name: bytes, lower: bytes | None, value: bytes) -> LocalProtocolError:
    if lower is None:
        return LocalProtocolError(f"illegal field name {shown(name)}, expected a token", section="RFC 9110 §5.1")
    return LocalProtocolError(
        f"illegal value {shown(value)} of field {shown(name)}, expected no control characters and no outer whitespace",
        section="RFC 9110 §5.5",
    )


def _first_illegal(items: list[Pair]) -> LocalProtocolError:
    return next(_illegal(name, name, value) for name, value in items if 0 in value.translate(VALUE_MARKS))


def _normalised_framing(lower: bytes, value: bytes, items: list[Pair]) -> bytes:
    """Return a framing field's value in its only form, refusing what contradicts the fields before it."""
    former = [item[1] for item in items if item[0] == lower]
    if lower == b"content-length":
        value = merged_length(value)
        if former and former != [value]:
            raise LocalProtocolError(f"Content-Length {shown(value)} beside {former[0]!r}", section="RFC 9112 §6.3")
        return value
    value = value.lower()
    if value != b"chunked" or former:
        raise LocalProtocolError(
            f"Transfer-Encoding {shown(value)}, expected chunked once and nothing else", 501, section="RFC 9112 §6.1"
        )
    return value


def merged_length(value: bytes) -> bytes:
    """Return the one length that a Content-Length value states, perhaps several times over (RFC 9110 §8.6).

    Raises:
      LocalProtocolError: it states none, or two.
    """
    lengths = {length.strip(b" \t") for length in value.split(b",")}
    if len(lengths) != 1:
        raise LocalProtocolError(f"contradictory Content-Length {shown(value)}", section="RFC 9112 §6.3")
    length = lengths.pop()
    if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
        raise LocalProtocolError(f"malformed Content-Length {shown(value)}, expected digits", section="RFC 9110 §8.6")
    return length
