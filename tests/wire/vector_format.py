r"""The format of the conformance vectors, and its parser.

The Markdown files in ``vectors/`` are at once tests and the conformance page of the documentation. This
file says what they mean, byte for byte, and refuses what it does not understand, so that a slip in a vector
cannot pass as a test. It knows nothing of the wire layer: `test_vectors.py` runs what is parsed here.

**A file** begins with a first-level heading and a paragraph about its subject. Each second-level heading,
``## UPPER-CASE-ID``, begins one vector, which consists of, in this order: a list of facts, prose that says
why the vector matters, a fenced ``http`` block with what is received, a fenced ``events`` block with what
must come of it.

**The facts**, one list item each (``- Name: value``):

- ``Section`` (required): the clause the vector shows, ``RFC 9112 §6.1``.
- ``Level`` (required): how strongly the clause speaks: ``MUST``, ``SHOULD``, ``MAY``, ``ought to`` (RFC
  9112 uses these words in lower case too), or ``grammar`` where the ABNF alone decides, or ``ours`` where
  we choose.
- ``Rows``: the rows of the project's feature table that the vector touches, ``W22, W27``.
- ``Role`` (required): who receives the bytes, ``server`` or ``client``.
- ``Request`` (client only; default ``GET``): the requests sent, separated by commas, each a method and
  words: ``close`` (with ``Connection: close``), ``upgrade`` (proposes the protocol "echo"), ``unfinished``
  (three bytes of content are announced and not sent), ``expect`` (unfinished, and waits for a 100). A
  following request is sent at the mark ``\NEXT`` in the input. ``none``: nothing has been sent.
- ``Answer`` (server only): the status codes of the answer to each request, and perhaps the word ``late``
  (only when all input has been given). ``none``: no answer. Without this fact each complete request is
  answered at once with an empty 200, of which the events say nothing; with it they show each response head
  sent.
- ``Limits``: ``max_fields=3 max_head_bytes=256``, the others at their defaults.
- ``Edge``: ``max_fields at`` or ``max_fields over``: the input is exactly at this limit, or one above it.
- ``Lenient``: names of leniencies that are on. ``Twin`` then names the vector with the same bytes without
  them.

**The http block** is the input. A newline in the block stands for nothing: every byte is written, and lines
end with ``\r\n`` written out. Bytes 0x20 to 0x7E stand for themselves, but for the backslash, with which
these escapes begin:

- ``\r``, ``\n``, ``\t``, ``\\``: as in C; ``\xHH``: the byte with this value;
- ``\{TEXT*N}``: TEXT, in which escapes are known, N times;
- ``\NEXT`` (client only): the exchange must be over here, and the next request is sent before the bytes
  that follow arrive;
- ``\EOF``: the peer ends the stream here. It must be last.

A line must not end with a literal space (editors remove it): write ``\x20``.

**The events block** has one line an event, in the same escapes, with pieces of a body merged however they
arrived:

- ``Request METHOD TARGET VERSION``, ``Interim STATUS VERSION REASON``, ``Response STATUS VERSION REASON``,
  each followed by its fields in order and in the case received, each on a line of its own, indented by two
  spaces: ``  Name: value``. REASON is left out when it is empty.
- ``expects 100-continue``: the client waits for a 100 (after a request's fields).
- ``Data "..."``: the whole content received between its neighbours. ``Extension "..."`` (h11 face only):
  the chunk extension of a chunk, raw, before the data of its body.
- ``EndOfMessage``, followed by the trailer fields in the same form as fields.
- ``MIGHT_SWITCH_PROTOCOL``: the request just ended proposes to leave HTTP.
- ``Answer STATUS`` and the fields sent, where the vector has the fact ``Answer``.
- last, how things stand at the end of the input: ``IDLE`` (the exchange is over and the connection fit for
  another), ``MUST_CLOSE`` (over, and not fit), ``NEED_DATA`` (within a message, or none came), ``PAUSED
  "..."`` (bytes held until the current exchange is over), ``SWITCHED_PROTOCOL "..."`` (bytes of the new
  protocol; followed by `` EOF`` if that came), ``ConnectionClosed``, or ``error HINT SECTION``: a
  `RemoteProtocolError` with this `error_status_hint` (left out for a client, who has no one to send it to)
  and this `section` (left out where the rule is ours and no RFC's).

``\times{N}`` at the end of a line repeats the line N times.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

VECTORS = Path(__file__).with_name("vectors")

_LEVELS = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "ought to", "grammar", "ours")
_FACTS = (
    "Section", "Level", "Rows", "Role", "Request", "Answer", "Limits", "Edge", "Lenient", "Twin",
)  # fmt: skip
_REQUEST_WORDS = {"close", "upgrade", "unfinished", "expect"}
_FINAL_WORDS = {"IDLE", "MUST_CLOSE", "NEED_DATA", "PAUSED", "SWITCHED_PROTOCOL", "ConnectionClosed", "error"}
_EVENT_WORDS = _FINAL_WORDS | {
    "Request", "Interim", "Response", "expects", "Data", "Extension", "EndOfMessage", "MIGHT_SWITCH_PROTOCOL",
    "Answer",
}  # fmt: skip
_ID = re.compile(r"[A-Z][A-Z0-9]*(-[A-Z0-9]+)+")
_SECTION = re.compile(r"RFC \d{4} §\d+(\.\d+)*")
_FENCE = re.compile(r"^```(\w*)$", re.MULTILINE)
_ESCAPE = re.compile(
    r"\\(?:(?P<simple>[rnt\\])|x(?P<hex>[0-9a-fA-F]{2})|\{(?P<text>[^{}]*)\*(?P<count>\d+)\})"
)
_SIMPLE = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}
_SHOWN = {value[0]: f"\\{key}" for key, value in _SIMPLE.items()}
_REPEATED_LINE = re.compile(r"(?P<line>.*?) ?\\times\{(?P<count>\d+)\}")
_EOF = "\\EOF"
_NEXT = "\\NEXT"


class VectorError(Exception):
    """A vector is malformed; the text names the file and the vector."""


@dataclass(frozen=True)
class Vector:
    """One vector, ready to run.

    Attributes:
      id: unique over all files.
      file: name of its file without the suffix.
      data: the bytes received, 0 or more.
      marks: for a client, the places in `data` where a next request is sent.
      eof: whether the end of the stream follows them.
      events: the lines expected, at least one, escapes in the form of `escape`.
      rows: row names such as ``"W22"``.
      requests: for a client, the requests sent, as (method, words).
      answer: status codes for each request; None when the vector has no such fact; empty for ``none``.
      edge: (name of a limit, ``"at"`` or ``"over"``), or None.
    """

    id: str
    file: str
    section: str
    level: str
    role: str
    prose: str
    data: bytes
    eof: bool
    events: tuple[str, ...]
    marks: tuple[int, ...] = ()
    rows: tuple[str, ...] = ()
    requests: tuple[tuple[str, frozenset[str]], ...] = ()
    answer: tuple[int, ...] | None = None
    answers_late: bool = False
    limits: dict[str, int] = field(default_factory=dict)
    edge: tuple[str, str] | None = None
    lenient: tuple[str, ...] = ()
    twin: str | None = None

    @property
    def verdict(self) -> str:
        """The first word of the last line: how things stand at the end of the input."""
        return self.events[-1].split(" ")[0]


def escape(data: bytes) -> str:
    """Show bytes in the escapes of the format: one form for each byte, so that texts may be compared."""
    return "".join(
        _SHOWN.get(byte) or (chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02x}") for byte in data
    )


def unescape(text: str) -> bytes:
    """Read the escapes of the format.

    Raises:
      VectorError: an unknown escape, or a character outside 0x20-0x7E.
    """
    out = bytearray()
    position = 0
    while position < len(text):
        char = text[position]
        if char != "\\":
            if not " " <= char <= "~":
                raise VectorError(f"character {char!r} must be written as an escape")
            out += char.encode("ascii")
            position += 1
            continue
        match = _ESCAPE.match(text, position)
        if match is None:
            raise VectorError(f"unknown escape at {text[position : position + 12]!r}")
        if match["simple"]:
            out += _SIMPLE[match["simple"]]
        elif match["hex"]:
            out.append(int(match["hex"], 16))
        else:
            out += unescape(match["text"]) * int(match["count"])
        position = match.end()
    return bytes(out)


def parse_http_block(block: str) -> tuple[bytes, tuple[int, ...], bool]:
    """Return an ``http`` block's bytes, the places of next requests, and whether the stream then ends."""
    lines = block.split("\n")
    for line in lines:
        if line.endswith(" "):
            raise VectorError(f"line {line!r} ends with a space: write \\x20")
    text = "".join(lines)
    eof = text.endswith(_EOF)
    parts = [unescape(part) for part in text.removesuffix(_EOF).split(_NEXT)]
    marks = tuple(sum(map(len, parts[:count])) for count in range(1, len(parts)))
    return b"".join(parts), marks, eof


def parse_events_block(block: str) -> tuple[str, ...]:
    """Return the lines of an ``events`` block, repeated lines written out and escapes in one form."""
    events: list[str] = []
    for line in block.split("\n"):
        repeated = _REPEATED_LINE.fullmatch(line)
        count = int(repeated["count"]) if repeated else 1
        text = repeated["line"] if repeated else line
        # The section sign is the one character beyond ASCII, and only an error has it.
        is_error = text.split(" ")[0] == "error"
        events += [text if is_error else escape(unescape(text))] * count
    for line in events:
        if not line.startswith("  ") and line.split(" ")[0] not in _EVENT_WORDS:
            raise VectorError(f"unknown event {line!r}")
    if events[-1].split(" ")[0] not in _FINAL_WORDS:
        raise VectorError(f"the last event {events[-1]!r} does not say how things stand at the end")
    return tuple(events)


def _parse_facts(lines: list[str]) -> dict[str, str]:
    facts: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.removeprefix("- ").partition(": ")
        if not colon or name not in _FACTS or name in facts or not value.strip():
            raise VectorError(f"bad fact {line!r}")
        facts[name] = value.strip()
    for name in ("Section", "Level", "Role"):
        if name not in facts:
            raise VectorError(f"the fact {name!r} is missing")
    if not _SECTION.fullmatch(facts["Section"]):
        raise VectorError(f"bad section {facts['Section']!r}")
    if facts["Level"] not in _LEVELS:
        raise VectorError(f"bad level {facts['Level']!r}")
    if facts["Role"] not in ("server", "client"):
        raise VectorError(f"bad role {facts['Role']!r}")
    if ("Request" if facts["Role"] == "server" else "Answer") in facts:
        raise VectorError("a client sends requests, a server answers")
    return facts


def _parse_requests(value: str) -> tuple[tuple[str, frozenset[str]], ...]:
    if value == "none":
        return ()
    requests = []
    for part in value.split(","):
        method, *words = part.split()
        if not set(words) <= _REQUEST_WORDS:
            raise VectorError(f"bad request {part!r}")
        requests.append((method, frozenset(words)))
    return tuple(requests)


def _parse_answer(value: str) -> tuple[tuple[int, ...], bool]:
    words = value.split()
    if words == ["none"]:
        return (), False
    late = words[-1] == "late"
    return tuple(int(word) for word in words[: len(words) - late]), late


def _parse_edge(value: str, limits: dict[str, int]) -> tuple[str, str]:
    name, _, side = value.partition(" ")
    if name not in limits or side not in ("at", "over"):
        raise VectorError(f"bad edge {value!r}")
    return name, side


def _parse_vector(file: str, vector_id: str, text: str) -> Vector:
    pieces = _FENCE.split(text)
    # Split by its fences a vector is: facts and prose, "http", block, "", gap, "events", block, "", rest.
    if len(pieces) != 9 or pieces[1::2] != ["http", "", "events", ""]:
        raise VectorError("expected an http block and then an events block")
    intro, http, gap, events, rest = (piece.strip("\n") for piece in pieces[0::2])
    if gap.strip() or rest.strip():
        raise VectorError("prose belongs before the http block")
    lines = intro.split("\n")
    facts = _parse_facts([line for line in lines if line.startswith("- ")])
    prose = " ".join(line for line in lines if not line.startswith("- ")).strip()
    if len(prose.split()) < 5 or not prose.endswith((".", ")", "?")):
        raise VectorError("the prose does not say why the vector matters")
    if bool(facts.get("Lenient")) != bool(facts.get("Twin")):
        raise VectorError("a lenient vector names its strict twin, and only it does")
    pairs = [pair.partition("=") for pair in facts.get("Limits", "").split()]
    limits = {name: int(value) for name, _, value in pairs}
    data, marks, eof = parse_http_block(http)
    requests = _parse_requests(facts.get("Request", "GET")) if facts["Role"] == "client" else ()
    if len(marks) != max(len(requests) - 1, 0):
        raise VectorError("each request but the first needs a mark in the input")
    answer, answers_late = _parse_answer(facts["Answer"]) if "Answer" in facts else (None, False)
    return Vector(
        id=vector_id,
        file=file,
        section=facts["Section"],
        level=facts["Level"],
        role=facts["Role"],
        prose=prose,
        data=data,
        eof=eof,
        events=parse_events_block(events),
        marks=marks,
        rows=tuple(row.strip() for row in facts["Rows"].split(",")) if "Rows" in facts else (),
        requests=requests,
        answer=answer,
        answers_late=answers_late,
        limits=limits,
        edge=_parse_edge(facts["Edge"], limits) if "Edge" in facts else None,
        lenient=tuple(facts["Lenient"].split()) if "Lenient" in facts else (),
        twin=facts.get("Twin"),
    )


def parse_file(file: str, text: str) -> list[Vector]:
    """Return the vectors of one Markdown text.

    Args:
      file: the file's name without the suffix, for `Vector.file` and for errors.

    Raises:
      VectorError: the text is not in the format; it names the file and the vector.
    """
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    if not head.startswith("# ") or len(head.split()) < 20:
        raise VectorError(f"{file}: a file begins with its title and a paragraph about its subject")
    vectors = []
    for section in sections:
        vector_id, _, body = section.partition("\n")
        try:
            if not _ID.fullmatch(vector_id):
                raise VectorError("an id is words of capitals and digits, joined by hyphens")
            vectors.append(_parse_vector(file, vector_id, body))
        except (VectorError, ValueError) as exc:
            raise VectorError(f"{file}: {vector_id}: {exc}") from exc
    return vectors


def load_vectors() -> list[Vector]:
    """Return all vectors, by file name and then in the order of the file."""
    vectors = []
    for path in sorted(VECTORS.glob("*.md")):
        vectors += parse_file(path.stem, path.read_text(encoding="utf-8"))
    return vectors
