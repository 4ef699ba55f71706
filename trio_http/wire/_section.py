"""Sections of field lines: finding where one ends, and taking it apart.

The verdict on a section must not depend on how its bytes arrived. So whatever is refused before a section is
complete is refused at a position, and a position that comes first wins, whether the section is here whole or
in part: the first byte, then a bare LF, then the limit. Everything else is judged only when the section is
complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from ._buffer import ReceiveBuffer
from ._errors import RemoteProtocolError, shown
from ._facts import NO_FACTS
from ._grammar import CRLF, KNOWN_NAMES, fold_name
from ._headers import Headers, Pair
from ._rules import Rules

# What one connection remembers of its peer's field lines: a browser sends about 15 of up to 130 bytes. So it
# is at most 8 KiB.
KNOWN_LINES: Final = 32
KNOWN_LINE_BYTES: Final = 256
# After so many lines that were not known, what is known is forgotten: the peer has come to say other things.
# Arbitrary.
RELEARN_AFTER: Final = 1000
_FEW_LINES: Final = 2

_WHITESPACE: Final = frozenset([b" ", b"\t"])
_SECTION_END: Final = b"\r\n\r\n"
_LENIENT_END: Final = re.compile(rb"\n\r?\n")
_LENIENT_LINE_END: Final = re.compile(rb"\r?\n")
_new: Final[Callable[[type[Headers]], Headers]] = object.__new__


class KnownLines(dict[bytes, Pair]):
    """Field lines that were taken apart before, each with its pair.

    Most peers say most things again and again, and looking a line up costs a fifth of taking it apart. What a
    peer says only once must not push out what it repeats: when there is no room, nothing is added.
    """

    __slots__ = ("_unknown",)

    def __init__(self) -> None:
        self._unknown = 0

    def has_room(self, unknown: int) -> bool:
        """Tell whether lines may be added, now that ``unknown`` more have come that are not here."""
        if len(self) < KNOWN_LINES:
            return True
        self._unknown += unknown
        if self._unknown > RELEARN_AFTER:
            self.clear()
            self._unknown = 0
        return False


def take_section(
    buffer: ReceiveBuffer, limit: int, rules: Rules, too_long: Callable[[bytes], RemoteProtocolError]
) -> bytes | None:
    """Use a section with the empty line that ends it, and return it without that line and the CRLF before.

    Args:
      limit: the most bytes it may have, the empty line included.
      too_long: makes the error for a section that does not end within ``limit``, from its first ``limit``
        bytes.

    Returns:
      The section's lines, joined by CRLF; None while its end is not here.
    """
    data, start = buffer.data, buffer.pos
    if rules.bare_lf:
        found = _LENIENT_END.search(data, max(start, buffer.scanned - 2), start + limit)
        if found is not None:
            section = bytes(memoryview(data)[start : found.start()]).removesuffix(b"\r")
            buffer.pos = buffer.scanned = found.end()
            return _LENIENT_LINE_END.sub(CRLF, section)
    else:
        end = data.find(_SECTION_END, max(start, buffer.scanned - 3), start + limit)
        if end >= 0:
            lines = data[start:end]
            buffer.pos = buffer.scanned = end + 4
            return bytes(lines)  # which copies only what is none yet
        refuse_bare_lf(buffer, start + limit)
    if len(data) - start >= limit:
        raise too_long(bytes(memoryview(data)[start : start + limit]))
    buffer.scanned = len(data)
    return None


def refuse_bare_lf(buffer: ReceiveBuffer, end: int) -> None:
    """Refuse a line that ends in LF alone, among the bytes before ``end`` that were not looked at yet."""
    data = buffer.data
    at = data.find(b"\n", buffer.scanned, end)
    while at >= 0:
        if at == buffer.pos or data[at - 1] != 0x0D:
            raise bare_lf_error(bytes(memoryview(data)[buffer.pos : at + 1]))
        at = data.find(b"\n", at + 1, end)


def find_bare_lf(section: bytes) -> RemoteProtocolError | None:
    """Return the error for the first LF in ``section`` that ends a line alone, or None without one.

    A section that arrives in parts is refused at that LF, so it outranks whatever else is wrong with a whole
    one.
    """
    if section.count(b"\n") == section.count(CRLF):
        return None
    at = section.find(b"\n")
    while section[at - 1 : at] == b"\r":
        at = section.find(b"\n", at + 1)
    return bare_lf_error(section[: at + 1])


def bare_lf_error(data: bytes, section: str = "RFC 9112 §2.2") -> RemoteProtocolError:
    """Return the error for ``data``, whose last byte is an LF that ends a line alone; ``section`` is the rule
    broken."""
    line = data[data.rfind(b"\n", 0, -1) + 1 :]
    return RemoteProtocolError(f"line {shown(line)} ends in LF, expected CRLF", section=section)


def parse_fields(section: bytes, rules: Rules, most: int, known: KnownLines) -> Headers:
    """Take field lines apart (RFC 9112 §5).

    Args:
      section: the lines, joined by CRLF; not empty.
      most: field lines allowed; more is 431.
      known: what the peer said before; it learns new lines.

    Returns:
      The fields; what they say of framing and connection is for the caller to judge.
    """
    lines = section.split(CRLF)
    if len(lines) > most:
        raise RemoteProtocolError(f"{len(lines)} field lines, at most {most} are allowed", 431)
    marks = rules.value_marks
    items: list[Any]
    if len(lines) <= _FEW_LINES:  # these are taken apart faster than remembered
        items = [_pair(line, marks) for line in lines]
    else:
        items = list(map(known.get, lines))
        unknown = items.count(None)
        has_room = unknown > 0 and known.has_room(unknown)
        at = -1
        for _ in range(unknown):
            at = items.index(None, at + 1)
            line = lines[at]
            pair = items[at] = _pair(line, marks)
            if has_room and pair is not None and len(line) <= KNOWN_LINE_BYTES:
                known[line] = pair
    if None in items:
        at = items.index(None)
        if lines[at][:1] in _WHITESPACE and at > 0 and rules.unfold:
            return parse_fields(_unfolded(lines), rules, most, known)
        raise _line_error(lines[at], at, rules)
    # Not by the constructor: all that it would check is known.
    headers = _new(Headers)
    headers.items = items
    headers.lines = lines
    headers.facts = NO_FACTS
    headers.block = headers.content_length = headers.joined = None
    return headers


def _pair(line: bytes, value_marks: bytes) -> Pair | None:
    """Return a field line as name and value, or None when it is not one."""
    name, colon, value = line.partition(b":")
    lower = KNOWN_NAMES.get(name) or fold_name(name)
    if lower is None or not colon or 0 in line.translate(value_marks):
        return None
    return lower, value.strip(b" \t")


def _unfolded(lines: list[bytes]) -> bytes:
    """Return a section with a space in place of each obs-fold = OWS CRLF RWS (RFC 9112 §5.2).

    The parts of a line are joined once, and each is stripped alone: any number of folds takes linear time.
    """
    unfolded: list[list[bytes]] = []
    for line in lines:
        if line[:1] in _WHITESPACE and unfolded:
            parts = unfolded[-1]
            parts[-1] = parts[-1].rstrip(b" \t")
            parts.append(line.lstrip(b" \t"))
        else:
            unfolded.append([line])
    return CRLF.join([b" ".join(parts) for parts in unfolded])


def _line_error(line: bytes, number: int, rules: Rules) -> RemoteProtocolError:
    name, colon, _ = line.partition(b":")
    at = line.translate(rules.value_marks).find(0)
    if at >= 0:
        left = line[at:]
        what = "bare CR" if left[:1] == b"\r" else f"control character {left[:1]!r}"
        rule = "RFC 9112 §2.2" if left[:1] == b"\r" else "RFC 9110 §5.5"
        return RemoteProtocolError(f"{what} in the field line {shown(line)}", section=rule)
    if line[:1] in _WHITESPACE:
        if number == 0:
            return RemoteProtocolError(
                f"whitespace before the first field line {shown(line)}", section="RFC 9112 §2.2"
            )
        return RemoteProtocolError(f"folded field line {shown(line)}", section="RFC 9112 §5.2")
    if not colon:
        return RemoteProtocolError(f"field line {shown(line)} without a colon", section="RFC 9112 §5")
    if name[-1:] in _WHITESPACE:
        return RemoteProtocolError(f"whitespace before the colon in {shown(line)}", section="RFC 9112 §5.1")
    return RemoteProtocolError(f"illegal field name {shown(name)}, expected a token", section="RFC 9110 §5.1")
