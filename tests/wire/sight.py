"""What an input has, seen without any of the parsers under test: the eyes of the table of differences.

`Sight` takes a message apart as leniently as can be; the functions below tell whether it has some one oddity.
None of them asks what our own parser made of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.wire.differential import Difference

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]*)([^\n]*)\n")
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION = re.compile(
    rb"(?:[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*", re.DOTALL
)
HOST = re.compile(
    rb"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f][0-9A-Fa-f])*|\[(?:[0-9A-Fa-f:.]+|v[0-9A-Fa-f]+\.[^\]\[/?#@\s]+)\])(?::\d*)?"
)


class Sight:
    """An input from where a message begins, split as leniently as can be, to see what it has.

    Attributes:
      skipped: the empty lines before the message.
      head: the head's lines without their ends, the start line first.
      whole: the empty line that ends the head is there.
      body: what follows the head.
    """

    def __init__(self, difference: Difference, region: bytes | None = None) -> None:
        self.difference = difference
        self.item = difference.item
        if region is None:
            region = difference.region
        self.region = region
        start = re.match(rb"[\r\n]*", region)
        assert start is not None
        self.skipped = start[0]
        end = re.compile(rb"\n\r?\n").search(region, start.end())
        self.whole = end is not None
        section = region[start.end() : end.start() if end else len(region)]
        self.section = section
        self.head = [line.removesuffix(b"\r") for line in section.split(b"\n")]
        self.body = region[end.end() :] if end else b""
        self.start = self.head[0]
        self.fields: list[tuple[bytes, bytes]] = []
        for line in self.head[1:]:
            name, _, value = line.partition(b":")
            self.fields.append((name.strip(b" \t").lower(), value.strip(b" \t")))

    def values(self, name: bytes) -> list[bytes]:
        return [value for other, value in self.fields if other == name]

    def lower(self, name: bytes) -> list[bytes]:
        return [value.lower() for value in self.values(name)]

    @property
    def version(self) -> bytes:
        words = self.start.split(b" ")
        return words[0] if self.item.method is not None else words[-1]

    @property
    def target(self) -> bytes:
        """All between the first and the last space of a request line."""
        return self.start.partition(b" ")[2].rpartition(b" ")[0]

    @property
    def chunked(self) -> bool:
        unfolded = re.sub(rb"\r?\n[ \t]+", b" ", self.section)
        return re.search(rb"(?im)^transfer-encoding[ \t]*:.*chunked", unfolded) is not None

    def chunks(self) -> list[tuple[bytes, bytes]]:
        """Return each chunk line's digits and what follows them, its CR included, as far as the lines can be
        followed."""
        found: list[tuple[bytes, bytes]] = []
        pos = 0
        self.behind_chunks = b""
        self.bare_lf_behind_data = False
        while self.chunked and pos <= len(self.body) and (line := _CHUNK_LINE.match(self.body, pos)):
            found.append((line[1], line[2]))
            self.behind_chunks = self.body[line.end() :]
            size = int(line[1] or b"0", 16)
            if not size:
                break
            pos = line.end() + size
            if pos < len(self.body):
                self.bare_lf_behind_data |= self.body[pos : pos + 1] == b"\n"
                pos += len(self.body[pos : pos + 2]) - len(self.body[pos : pos + 2].lstrip(b"\r\n"))
        return found

    def trailer_lines(self, *, raw: bool = False) -> list[bytes]:
        """Return the trailer section's lines, if there is one; ``raw`` leaves their CR."""
        chunks = self.chunks()
        if not chunks or not chunks[-1][0] or int(chunks[-1][0], 16):
            return []
        section = re.compile(rb"(?:^|(?<=\n))\r?\n").split(self.behind_chunks, maxsplit=1)[0]
        # What follows the last LF is no line yet.
        return [line if raw else line.removesuffix(b"\r") for line in section.split(b"\n")[:-1]]

    def field_lines(self) -> list[bytes]:
        return self.head[1:] + self.trailer_lines()


def sights(difference: Difference) -> list[Sight]:
    """Return the views on an input that a row may hold for: from the message on which the parsers part; for a
    response, also from behind each interim response before it, since they are no messages of their own in an
    `Outcome`."""
    found = [Sight(difference)]
    while (
        difference.item.method is not None and re.match(rb"HTTP/\d\.\d 1", found[-1].start) and found[-1].body
    ):
        found.append(Sight(difference, found[-1].body))
    return found


def bare_lf(sight: Sight) -> bool:
    head = sight.region[: len(sight.region) - len(sight.body)]
    if re.search(rb"(?<!\r)\n", head):
        return True
    lines = [rest for _, rest in sight.chunks()] + sight.trailer_lines(raw=True)
    if sight.bare_lf_behind_data or not all(line.endswith(b"\r") for line in lines):
        return True
    end = re.search(rb"(?:^|\n)(\r?)\n", sight.behind_chunks)
    return end is not None and not end[1]


def folded(sight: Sight) -> bool:
    return any(line[:1] in (b" ", b"\t") for line in sight.field_lines()[1:])


def controls(sight: Sight) -> bool:
    control = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
    if any(control.search(line) for line in sight.field_lines()):
        return True
    return sight.item.method is not None and bool(control.search(sight.start))


def bad_extension(sight: Sight) -> bool:
    for _, rest in sight.chunks():
        extension = rest.removesuffix(b"\r")
        if extension.lstrip(b" \t")[:1] == b";" and not _EXTENSION.fullmatch(extension):
            return True
    return False


def padded_extension(sight: Sight) -> bool:
    """An extension that is well-formed, with whitespace in it."""
    rests = [rest.removesuffix(b"\r") for _, rest in sight.chunks()]
    return any(re.search(rb"[ \t]", rest) and b";" in rest and _EXTENSION.fullmatch(rest) for rest in rests)


def padded_size(sight: Sight) -> bool:
    return any(
        rest[:1] in (b" ", b"\t") or rest.removesuffix(b"\r")[-1:] in (b" ", b"\t")
        for _, rest in sight.chunks()
    )


def _options_before(sight: Sight) -> tuple[bytes, set[bytes]]:
    """Return the version and the connection options of the request before this one."""
    before = sight.difference.index - 1
    if before < 0 or sight.item.method is not None:
        return b"", set()
    message = sight.difference.ours.messages[before]
    options = b",".join(value for name, value in message.fields if name == b"connection").lower()
    return message.start[2], {option.strip(b" \t") for option in options.split(b",")}


def kept_1_0(sight: Sight) -> bool:
    version, options = _options_before(sight)
    return version == b"1.0" and b"keep-alive" in options and b"close" not in options


_NOT_IN_TRAILERS = (
    b"content-length", b"transfer-encoding", b"host", b"connection", b"keep-alive", b"upgrade", b"te",
    b"trailer",
)  # fmt: skip


def framing_trailer(sight: Sight) -> bool:
    return any(line.partition(b":")[0].lower() in _NOT_IN_TRAILERS for line in sight.trailer_lines())


def over_head_limit(sight: Sight) -> bool:
    return len(sight.region) - len(sight.skipped) - len(sight.body) > 16384


def unusual_version(sight: Sight) -> bool:
    return sight.version not in (b"HTTP/1.1", b"HTTP/1.0") and bool(
        re.search(rb"HTTP/[0-9]\.[0-9]", sight.start)
    )


def odd_first_byte(sight: Sight) -> bool:
    first = (
        sight.region[len(re.match(rb"(?:\r\n)*", sight.region)[0]) :][:1]
        if sight.item.method is None
        else sight.region[:1]
    )  # type: ignore[index]
    return first != b"" and not (re.match(_TOKEN, first) if sight.item.method is None else first == b"H")


# The methods that llhttp knows; it refuses all others.
METHODS = frozenset(
    b"""
    DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH
    UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE
    PATCH PURGE MKCALENDAR LINK UNLINK SOURCE QUERY
    """.split()
)


def odd_spaces(sight: Sight) -> bool:
    """A request line that is no three words with one space between."""
    return sight.item.method is None and not re.fullmatch(rb"[^ ]+ [^ ]+ [^ ]+", sight.start)


def closing_and_kept(sight: Sight) -> bool:
    return {b"close", b"keep-alive"} <= _options_before(sight)[1]


def odd_target(sight: Sight) -> bool:
    """A target of a form that the method cannot have (RFC 9112 §3.2)."""
    method = sight.start.partition(b" ")[0]
    if sight.item.method is not None:
        return False
    if method == b"CONNECT":
        return not re.fullmatch(rb"(?:\[[0-9A-Fa-f:.v]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+):\d+", sight.target)
    if sight.target == b"*":
        return method != b"OPTIONS"
    return not re.match(rb"/|[A-Za-z][A-Za-z0-9+.-]*://", sight.target)


def odd_authority(sight: Sight) -> bool:
    """An absolute URI with unusual bytes before its path."""
    if sight.item.method is not None:
        return False
    usual = rb"[A-Za-z]+://[A-Za-z0-9._~:@%!$&'()*+,;=\[\]-]+(?:[/?]|$)"
    return sight.target[:1] not in (b"/", b"*") and not re.match(usual, sight.target)


def without_framing(sight: Sight) -> bool:
    """A response whose framing fields mean nothing, with such fields."""
    status = sight.start[9:12]
    unframed = (
        status == b"204" or status[:1] == b"1" or (sight.item.method == b"CONNECT" and status[:1] == b"2")
    )
    return unframed and bool(sight.values(b"content-length") or sight.values(b"transfer-encoding"))
