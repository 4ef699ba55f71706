"""The table of differences: every way in which `trio_http.wire` departs from h11 or httptools on purpose, as
data.

Three uses: the differential test explains what it finds by the rows of `RECEIVED` and fails on the rest;
tests of single departures name theirs by `row`; and the reference page on h11 is written from it (``python
tests/wire/differences.py``).

A row's ``holds`` looks at the input, from where the message begins on which the parsers part, and never at
what our own parser thought of it; so a row cannot excuse a mistake in input that has not what the row speaks
of.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests.wire import sight
from tests.wire.sight import Sight, sights

if TYPE_CHECKING:
    from tests.wire.differential import Difference

Kind = Literal["strict", "lenient", "facts"]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One departure.

    Attributes:
      id: by which tests name it.
      theirs, ours: what either does, for the page.
      why: the reason, with its source.
      wish: the row of the project's list of features, as in "W1"; empty when it has none.
      leniency: the `Leniency` that makes ours do as h11 does; empty without one.
      peers: whose behaviour ``theirs`` is.
      kinds: "strict" when only we refuse, "lenient" when only they do,
      "facts" when the accepted message differs.
      status: the hint of our error, for "strict".
      holds: tells whether an input has what the row speaks of; None when no input can show it.
      example, method: an input on which the row is an explanation; ``method`` as in `Input`.
      example_httptools: the same for httptools, where it takes another input.
    """

    id: str
    theirs: str
    ours: str
    why: str
    wish: str = ""
    leniency: str = ""
    peers: tuple[str, ...] = ("h11",)
    kinds: tuple[Kind, ...] = ("strict",)
    status: int = 400
    holds: Callable[[Sight], bool] | None = None
    example: bytes = b""
    example_httptools: bytes = b""
    method: bytes | None = None


GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
BOTH = ("h11", "httptools")

# ---- what is received

RECEIVED: tuple[Row, ...] = (
    Row(
        "BARE-LF",
        "LF alone ends a line in a head and a trailer section; in a chunk line it is waited past for ever",
        "refused at the LF",
        "RFC 9112 §2.2 allows the repair, but a hop that does not repair sees other lines",
        "W1, W33", "BARE_LF", BOTH, holds=sight.bare_lf, example=GET + b"X: y\n\r\n",
        example_httptools=b"\n" + GET + b"\r\n",
    ),
    Row(
        "OBS-FOLD", "a folded field line in a request is joined",
        "refused in a request; joined in a response, as a client must",
        "RFC 9112 §5.2: a server must reject it or replace it", "W2", "OBS_FOLD",
        holds=lambda s: s.item.method is None and sight.folded(s), example=GET + b"X: a\r\n b\r\n\r\n",
    ),
    Row(
        "FOLD-SPACE", "of a fold in a response, only the line end and what follows it becomes a space",
        "the whitespace before it is part of the fold too", "RFC 9112 §5.2: obs-fold = OWS CRLF RWS", "W2",
        kinds=("facts",),
        holds=lambda s: s.item.method is not None and bool(re.search(rb"[ \t]\r\n[ \t]", s.section)),
        example=b"HTTP/1.1 200 OK\r\nX: a \r\n b\r\nContent-Length: 0\r\n\r\n", method=b"GET",
    ),
    Row(
        "UNUSED-FRAMING", "malformed framing fields are an error even where they mean nothing",
        "ignored in a 1xx, in a 204 and in a 2xx to CONNECT", "RFC 9110 §9.3.6, RFC 9112 §6.3", peers=BOTH,
        kinds=("lenient", "facts"), holds=sight.without_framing,
        example=b"HTTP/1.1 204 No\r\nContent-Length: x\r\n\r\n", method=b"GET",
    ),
    Row(
        "EMPTY-LINE", "an empty line before a request line is an error", "skipped",
        "RFC 9112 §2.2: a server should ignore it", "W4",
        kinds=("lenient",), holds=lambda s: s.item.method is None and (s.region[:2] in (b"\r\n", b"\r")),
        example=b"\r\n" + GET + b"\r\n",
    ),
    Row(
        "HOST-SYNTAX", "a Host of any shape is accepted", "refused unless it is `uri-host [ \":\" port ]`",
        "RFC 9112 §3.2 demands 400; a malformed Host opens routing attacks", "W7", peers=BOTH,
        holds=lambda s: s.item.method is None and not all(map(sight.HOST.fullmatch, s.values(b"host"))),
        example=b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    ),
    Row(
        "VERSION", "any version of one digit, a dot and one digit is accepted",
        "only 1.0 and 1.1; the HTTP/2 preface is told by name",
        "RFC 9110 §2.5, §15.6.6", "W8, W19", "MINOR_VERSION", BOTH, status=505, holds=sight.unusual_version,
        example=b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        example_httptools=b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    ),
    Row(
        "FRAGMENT", "`#` is part of the request target", "refused", "RFC 9112 §3.2: a fragment is never sent",
        "W12", peers=BOTH,
        holds=lambda s: s.item.method is None and b"#" in s.target,
        example=b"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Row(
        "TARGET-FORM", "any visible ASCII is a request target",
        "refused unless it is of a form that the method can have: a path, an absolute URI, `host:port` for"
        " CONNECT, `*` for OPTIONS", "RFC 9112 §3.2", peers=BOTH,
        holds=sight.odd_target, example=b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        example_httptools=b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Row(
        "CONTROLS", "control characters other than NUL, CR, LF, VT and FF pass in field values and reasons",
        "refused",
        "RFC 9110 §5.5; they forge lines in logs and terminals", "W15", "CONTROLS_IN_VALUE",
        holds=sight.controls,
        example=GET + b"X: a\x01\r\n\r\n",
    ),
    Row(
        "EXPECTATION", "an expectation other than 100-continue is ignored", "refused with 417",
        "RFC 9110 §10.1.1", "W21", "UNKNOWN_EXPECTATION",
        BOTH, status=417,
        holds=lambda s: s.item.method is None and not {b"100-continue"}.issuperset(s.lower(b"expect")),
        example=GET + b"Expect: x\r\n\r\n",
    ),
    Row(
        "BOTH-FRAMINGS", "Transfer-Encoding wins over Content-Length, and the connection is kept", "refused",
        "RFC 9112 §6.1: it ought to be handled as an error; CL.TE is the classic of request smuggling", "W22",
        "BOTH_FRAMINGS",
        holds=lambda s: bool(s.values(b"content-length") and s.values(b"transfer-encoding")),
        example=b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    Row(
        "CODING-IN-1.0", "Transfer-Encoding counts in an HTTP/1.0 message", "refused",
        "RFC 9112 §6.1: its framing must be taken for faulty", "W25",
        peers=BOTH, holds=lambda s: s.version == b"HTTP/1.0" and bool(s.values(b"transfer-encoding")),
        example=b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    Row(
        "REPEATED-LENGTH", "equal Content-Lengths, in a list or in repeats, are merged", "refused",
        "RFC 9110 §8.6 leaves the choice; another hop may take the list for something else", "W27",
        "REPEATED_CONTENT_LENGTH",
        holds=lambda s: len(s.values(b"content-length")) > 1 or b"," in b"".join(s.values(b"content-length")),
        example=b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    ),
    Row(
        "CHUNK-PADDING", "whitespace may follow a chunk size", "refused",
        "RFC 9112 §7.1 has none there; hops disagree about it", "W32",
        "CHUNK_SIZE_WHITESPACE", holds=sight.padded_size, example=POST + b"3 \r\nabc\r\n0\r\n\r\n",
    ),
    Row(
        "CHUNK-EXTENSION-GRAMMAR", "anything may follow the semicolon behind a chunk size",
        "only what the grammar of extensions allows",
        "RFC 9112 §7.1.1; a lax reading of extensions has been used for smuggling", "W29", peers=BOTH,
        holds=sight.bad_extension,
        example=POST + b"3;a=\r\nabc\r\n0\r\n\r\n",
    ),
    Row(
        "CHUNK-EXTENSION-SPACE", "whitespace before the semicolon of a chunk extension is an error",
        "accepted",
        "RFC 9112 §7.1.1: a recipient must parse and remove it", "W29", peers=BOTH, kinds=("lenient",),
        holds=sight.padded_extension,
        example=POST + b"3 ;a\r\nabc\r\n0\r\n\r\n",
    ),
    Row(
        "TRAILER-FIELDS", "any field may stand in a trailer section",
        "those that frame, route or concern the connection are refused",
        "RFC 9110 §6.5.1", "W35", peers=BOTH, holds=sight.framing_trailer,
        example=POST + b"0\r\nHost: b\r\n\r\n",
    ),
    Row(
        "EXCESS-BYTES", "bytes behind a complete response wait for the next request and then answer it",
        "an error",
        "nobody asked for them: they are the tail of a response split by an attacker, or a broken server's",
        "W37", peers=BOTH,
        holds=lambda s: s.item.method is not None and s.difference.index == 1 and s.difference.region != b"",
        example=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx",
        example_httptools=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 2, method=b"GET",
    ),
    Row(
        "LIMIT-EXACT", "a head that comes at once may have any size; in pieces it is held to the limit",
        "held to the limit however it comes",
        "a verdict that depends on how the network split the bytes cannot be tested for", "W39", peers=BOTH,
        status=431,
        holds=sight.over_head_limit, example=GET + b"X: " + b"y" * 17000 + b"\r\n\r\n",
    ),
    Row(
        "TARGET-LIMIT", "a request target has no limit of its own", "more than 8192 bytes is 414",
        "RFC 9112 §3 wants at least 8000", "W43", peers=BOTH,
        status=414, holds=lambda s: s.item.method is None and len(s.start.partition(b" ")[2]) > 8192,
        example=b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Row(
        "FIELD-LIMIT", "any number of field lines", "at most 100 in a head and 100 in a trailer section",
        "each line costs memory and time to look up",
        "W40, W41", peers=BOTH, status=431, holds=lambda s: len(s.head) > 101 or len(s.trailer_lines()) > 100,
        example=GET + b"X: y\r\n" * 100 + b"\r\n",
    ),
    Row(
        "TRAILER-LIMIT", "a trailer section that comes at once may have any size", "at most 16384 bytes",
        "as LIMIT-EXACT", "W41", peers=BOTH, status=431,
        holds=lambda s: sum(map(len, s.trailer_lines())) > 16000,
        example=POST + b"0\r\nX: " + b"y" * 17000 + b"\r\n\r\n",
    ),
    Row(
        "EXTENSION-LIMIT", "chunk extensions are limited line by line, or not at all",
        "at most 16384 bytes of them in one body",
        "a body of nothing but extensions is a denial of service", "W44", peers=BOTH,
        holds=lambda s: sum(len(rest) for _, rest in s.chunks()) > 16384,
        example=POST + b"1;" + b"a" * 17000 + b"\r\nx\r\n0\r\n\r\n",
    ),
    Row(
        "INTERIM-LIMIT", "any number of interim responses", "at most 100 to one request",
        "an endless run of them would hold a client for ever", "W42", peers=BOTH,
        holds=lambda s: s.item.method is not None and len(re.findall(rb"HTTP/1\.[01] 1\d\d",
        s.item.data)) > 100,
        example=b"HTTP/1.1 102 P\r\n\r\n" * 101 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        method=b"GET",
    ),
    Row(
        "KEEP-ALIVE-1.0", "an HTTP/1.0 connection is always closed",
        "kept when the client asked for it by `Connection: keep-alive`",
        "RFC 9112 §9.3; old clients and load generators do ask", "W47", kinds=("lenient",),
        holds=sight.kept_1_0,
        example=b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2,
    ),
    Row(
        "FIRST-BYTE", "a peer of another protocol is waited for until its first line ends",
        "refused at its first byte; TLS is told by name",
        "the peer would wait for us as well", "W18", peers=BOTH, holds=sight.odd_first_byte,
        example=b"\x80\x2e\x01",
        example_httptools=b"\n" + GET + b"\r\n",
    ),
)  # fmt: skip

# ---- httptools alone

HTTPTOOLS: tuple[Row, ...] = (
    Row(
        "METHOD", "methods outside a fixed list are refused", "any token is a method", "RFC 9110 §9.1", "W13",
        peers=("httptools",), kinds=("lenient",),
        holds=lambda s: s.item.method is None and s.start.partition(b" ")[0] not in sight.METHODS,
        example=b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Row(
        "AUTHORITY-BYTES", "the authority of an absolute URI may hold few bytes", "any visible ASCII",
        "the handler knows whom it serves", peers=("httptools",), kinds=("lenient",),
        holds=sight.odd_authority,
        example=b'DELETE http://a"b HTTP/1.1\r\nHost: a\r\n\r\n',
    ),
    Row(
        "MISSING-HOST", "a 1.1 request needs no Host", "refused", "RFC 9112 §3.2", "W5", peers=("httptools",),
        holds=lambda s: s.item.method is None and s.version == b"HTTP/1.1" and not s.values(b"host"),
        example=b"GET / HTTP/1.1\r\n\r\n",
    ),
    Row(
        "TWO-HOSTS", "several Hosts pass", "refused", "RFC 9112 §3.2", "W6", peers=("httptools",),
        holds=lambda s: s.item.method is None and len(s.values(b"host")) > 1,
        example=GET + b"Host: b\r\n\r\n",
    ),
    Row(
        "SIMPLE-REQUEST", "an HTTP/0.9 request is read", "refused",
        "its answer has no head to tell an error by", "W9", peers=("httptools",),
        holds=lambda s: s.item.method is None and b" HTTP/" not in s.start, example=b"GET /\r\n\r\n",
    ),
    Row(
        "SPACES", "several spaces may part the words of a request line", "one", "RFC 9112 §3", "W10",
        peers=("httptools",), holds=sight.odd_spaces,
        example=b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Row(
        "CODINGS", "transfer codings other than chunked are passed on", "501", "RFC 9112 §6.1", "W23, W24",
        peers=("httptools",), status=501,
        holds=lambda s: b", ".join(s.values(b"transfer-encoding")).lower() not in (b"",
        b"chunked") or b"" in s.values(b"transfer-encoding"),
        example=b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    Row(
        "STATUS-RANGE", "any three digits are a status", "100 to 999", "RFC 9110 §15", peers=("httptools",),
        holds=lambda s: s.item.method is not None and bool(re.match(rb"HTTP/\d\.\d 0", s.start)),
        example=b"HTTP/1.1 099 No\r\n\r\n", method=b"GET",
    ),
    Row(
        "REASON-CONTROLS", "control characters pass in a reason", "refused", "RFC 9112 §4",
        peers=("httptools",),
        holds=lambda s: s.item.method is not None and bool(re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", s.start)),
        example=b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n", method=b"GET",
    ),
    Row(
        "CHUNK-DIGITS", "a chunk size may have any number of leading zeros", "at most 20 digits",
        "as h11; no sender writes more", peers=("httptools",),
        holds=lambda s: any(len(digits) > 20 for digits, _ in s.chunks()),
        example=POST + b"0" * 21 + b"3\r\nabc\r\n0\r\n\r\n",
    ),
    Row(
        "CLOSE-AND-KEEP-ALIVE", "of both options the later, or keep-alive, is believed", "close wins",
        "RFC 9112 §9.3", "W38", peers=("httptools",),
        holds=sight.closing_and_kept,
        example=(b"GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n") * 2,
    ),
    Row(
        "FOLD-IN-RESPONSE", "a folded field line in a response is refused", "joined",
        "RFC 9112 §5.2: a user agent must", "W2", peers=("httptools",),
        kinds=("lenient",), holds=lambda s: s.item.method is not None and sight.folded(s),
        example=b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", method=b"GET",
    ),
    Row(
        "INTERIM-UNKNOWN", "only 100 to 103 are interim responses; 104 to 199 may have a body", "none has",
        "RFC 9112 §6.3", peers=("httptools",),
        kinds=("lenient",),
        holds=lambda s: s.item.method is not None and bool(re.match(rb"HTTP/\d\.\d 1(?!0[0-3])\d\d",
        s.start)),
        example=b"HTTP/1.1 199 H\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        method=b"GET",
    ),
    Row(
        "CODING-TAB", "a tab behind `chunked` is part of the coding's name", "it is optional whitespace",
        "RFC 9112 §5.1", peers=("httptools",),
        kinds=("lenient", "strict"),
        holds=lambda s: bool(re.search(rb"(?i)transfer-encoding:[^\n]*\t\r?(?:\n|$)",
        s.section)),
        example=b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
    ),
    Row(
        "LENGTH-OVERFLOW", "a Content-Length of 2**64 and more is refused", "up to 20 digits are taken",
        "as h11", peers=("httptools",), kinds=("lenient",),
        holds=lambda s: any(re.fullmatch(rb"\d{20}",
        value) and int(value) >= 1 << 64 for value in s.values(b"content-length")),
        example=b"HTTP/1.1 204 No\r\nContent-Length: 99999999999999999999\r\n\r\n", method=b"GET",
    ),
    Row(
        "UNASKED-UPGRADE", "a 101 nobody asked for ends HTTP", "refused", "RFC 9110 §15.2.2", "W54",
        peers=("httptools",),
        holds=lambda s: s.item.method is not None and s.start[8:12] == b" 101",
        example=b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", method=b"GET",
    ),
)  # fmt: skip

# ---- what is sent

SENT: tuple[Row, ...] = (
    Row("SEND-CONTROLS", "control characters other than NUL, CR, LF, VT and FF can be sent in field values",
    "refused", "RFC 9110 §5.5", "W15"),
    Row("SEND-REASON", "a reason is written as given, even with CR and LF in it", "refused",
    "it would write field lines of its own (response splitting)", "W60"),
    Row(
        "NO-FRAMING-FIELDS",
        "Content-Length and Transfer-Encoding are written in 1xx, 204 and 2xx to CONNECT if given",
        "dropped there",
        "RFC 9110 §8.6, §9.3.6 and RFC 9112 §6.1 forbid them", "W61",
    ),
    Row(
        "LAST-RESPONSE", "the response to a client that has closed, or broken the protocol, is like others",
        "`Connection: close` is added", "RFC 9112 §9.6: a server that will close should say so",
    ),
    Row("INTERIM-TO-1.0", "an interim response can be sent to an HTTP/1.0 client", "refused",
    "RFC 9110 §15.2; the client would take it for the answer", "W62"),
    Row("SEND-BOTH-FRAMINGS", "a request with both framings is written as given", "refused", "RFC 9112 §6.2",
    "W63"),
)  # fmt: skip

# ---- what a program sees

SEEN: tuple[Row, ...] = (
    Row("DATA-BYTES", "`Data.data` is a `bytearray` when received", "`bytes`", "one copy less, and hashable"),
    Row("HEADERS-GET", "`Headers` has no look-up by name", "`get` and `get_all`",
    "every program wrote its own"),
    Row("CHUNK-EXTENSION", "chunk extensions are dropped",
    "`Data.chunk_extension`, the last field, no part of repr and ==", "W30", "W30"),
    Row("CHUNK-START", "`chunk_start` is lost when the chunk's size came without data",
    "set on the chunk's first data", "flags must not depend on splits"),
    Row("ERROR-SECTION", "errors have a text and a hint", "also `section`, the rule that was broken",
    "so that it can be looked up"),
    Row("PRIVATE-MODULES", "`_readers`, `_abnf`, `_receivebuffer` can be imported",
    "only `_connection` and `_headers` are there", "real programs import no others"),
    Row(
        "ATTRIBUTE-ERROR",
        "a request that comes after we answered or failed, and a second switch, end in `AttributeError`",
        "protocol errors",
        "h11 fails to print its own message",
    ),
    Row(
        "UNREQUESTED-RESPONSE", "a response to a client that asked nothing is an event", "an error",
        "it would be taken for the answer to the next request", "W37",
    ),
    Row(
        "SWITCH-AFTER-ERROR", "a CONNECT or upgrade that `send` refused still counts as proposed",
        "it was never sent, so it does not count",
        "what was refused must have no effect",
    ),
    Row(
        "UPGRADE-OPTION", "an Upgrade field counts without `Connection: upgrade`, and in HTTP/1.0",
        "ignored there", "RFC 9110 §7.8", "W50, W51",
    ),
    Row(
        "EXPECTATION-ANSWER", "any interim response ends the client's wait for 100",
        "only 100 and 101 do", "RFC 9110 §10.1.1: a client that got 103 waits on",
    ),
)  # fmt: skip

ROWS: dict[str, Row] = {row.id: row for row in (*RECEIVED, *HTTPTOOLS, *SENT, *SEEN)}


def row(id: str) -> Row:
    """Return the row that a test of one departure is about; KeyError if the table has none."""
    return ROWS[id]


def explanations(difference: Difference) -> list[Row]:
    """Return the rows that explain a difference, the first being the likeliest; empty means that nobody knows
    it."""
    seen = sights(difference)
    hint = getattr(difference.ours.error, "error_status_hint", None)
    return [
        row
        for row in (*RECEIVED, *HTTPTOOLS)
        if difference.peer in row.peers
        and difference.kind in row.kinds
        and (difference.kind != "strict" or hint == row.status)
        and row.holds is not None
        and any(row.holds(each) for each in seen)
    ]


# ---- the page

_INTRO = """# How it differs from h11

`import trio_http.wire as h11` runs programs written for h11 0.16. Below is every way in which it departs from
h11 on purpose. Each line has a test; no other difference is known, and the differential test fails on one
that is not here.

What is refused here and accepted by h11 can be let in by a `Leniency` where the last column names one; each
says in its documentation which attack it opens. What is sent has none.

<!-- Written by `python tests/wire/differences.py` from the table in that file: change it there. -->
"""


def _table(title: str, rows: tuple[Row, ...], *, received: bool) -> str:
    """Return one section of the page."""
    last = " Leniency |" if received else ""
    lines = [
        f"## {title}",
        "",
        f"| | h11 | here | why |{last}",
        f"|---|---|---|---|{'---|' if received else ''}",
    ]
    for each in rows:
        cells = [each.id, each.theirs, each.ours, each.why]
        if received:
            cells.append(f"`{each.leniency}`" if each.leniency else "")
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the reference page on the differences from h11, as Markdown."""
    return "\n".join(
        [
            _INTRO,
            _table("What is received", tuple(row for row in RECEIVED if "h11" in row.peers), received=True),
            _table("What is sent", SENT, received=False),
            _table("What a program sees", SEEN, received=False),
        ]
    )


PAGE = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "h11-differences.md"

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
