"""What attackers send to make two hops disagree where a request ends.

Each `Attack` is the bytes of one front connection. ``MARK`` stands for four bytes that are different each
time an attack is sent; a request for ``/MARK/smuggled`` is one that no hop may see unless all hops see it.
`verdict` is what our own server says to the same bytes when nothing stands before it.

An attack is *ambiguous* when the bytes have two readings, or none that is well-formed. Such a request must be
refused, or be the last one of its connection (RFC 9112 §11.2); the others are here because the same bytes,
slightly changed, are ambiguous, and refusing them too would be the lazy way out.
"""

from __future__ import annotations

import dataclasses

SMUGGLED = b"GET /MARK/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"0\r\n\r\n"


@dataclasses.dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
      name: unique.
      raw: what is sent, with ``MARK`` in it.
      verdict: the status of our first answer; 203 is that of the handler, 0 for none.
      ambiguous: there are two readings.
    """

    name: str
    raw: bytes
    verdict: int
    ambiguous: bool

    def marked(self, mark: bytes) -> bytes:
        """The bytes to send, with a mark of their own."""
        assert len(mark) == 4
        return self.raw.replace(b"MARK", mark)


CORPUS: list[Attack] = []


def _add(name: str, raw: bytes, verdict: int = 400, *, ambiguous: bool | None = None) -> None:
    """Add an attack; what we refuse counts as ambiguous unless told otherwise."""
    assert all(attack.name != name for attack in CORPUS), name
    ambiguous = verdict != 203 if ambiguous is None else ambiguous
    CORPUS.append(Attack(name, raw, verdict, ambiguous))


def _post(*lines: bytes, body: bytes = b"", start: bytes = b"POST /MARK/attack HTTP/1.1") -> bytes:
    return b"\r\n".join([start, b"Host: a", *lines, b"", b""]) + body


def _length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


# ------------------------------------------------------------------------------- two framings in one message
# The published pair, and each way to hide one of the two fields from one of the two hops: a hop that
# overlooks the coding takes all by the length; one that sees it stops at the last chunk, before the second
# request.

HIDDEN = LAST + SMUGGLED
CHUNKED = b"Transfer-Encoding: chunked"

_add("CL.TE", _post(_length(HIDDEN), CHUNKED, body=HIDDEN))
_add("TE.CL", _post(CHUNKED, b"Content-Length: 4", body=_chunk(SMUGGLED) + LAST))
_add("CL.0 and chunked", _post(b"Content-Length: 0", CHUNKED, body=_chunk(b"abc") + LAST))
_add("chunked, and a length that is right", _post(CHUNKED, b"Content-Length: 5", body=LAST))
_add("CL.TE by GET", _post(_length(HIDDEN), CHUNKED, body=HIDDEN, start=b"GET /MARK/attack HTTP/1.1"))
_add("CL.TE, in capitals", _post(b"CONTENT-LENGTH: %d" % len(HIDDEN), CHUNKED.upper(), body=HIDDEN))

# name: the line or lines, our verdict on them beside a length.
CODINGS = {
    "TE xchunked": (b"Transfer-Encoding: xchunked", 501),
    "TE space colon": (b"Transfer-Encoding : chunked", 400),
    "TE tab colon": (b"Transfer-Encoding\t: chunked", 400),
    "TE tab value": (b"Transfer-Encoding:\tchunked", 400),
    "TE VT value": (b"Transfer-Encoding: \x0bchunked", 400),
    "TE FF value": (b"Transfer-Encoding: \x0cchunked", 400),
    "TE VT after": (b"Transfer-Encoding: chunked\x0b", 400),
    "TE NUL before": (b"Transfer-Encoding: \x00chunked", 400),
    "TE NUL after": (b"Transfer-Encoding: chunked\x00", 400),
    "TE NUL in name": (b"Transfer-Encoding\x00: chunked", 400),
    "TE no-break space": (b"Transfer-Encoding: \xa0chunked", 501),
    "TE high letter": (b"Transfer-Encoding: chun\xebed", 501),
    "TE DEL": (b"Transfer-Encoding: chunked\x7f", 400),
    "TE line begins with space": (b" Transfer-Encoding: chunked", 400),
    "TE line begins with tab": (b"X: y\r\n\tTransfer-Encoding: chunked", 400),
    "TE after bare LF": (b"X: y\nTransfer-Encoding: chunked", 400),
    "TE after bare CR": (b"X: y\rTransfer-Encoding: chunked", 400),
    "TE after LF CR": (b"X: y\n\rTransfer-Encoding: chunked", 400),
    "TE after CR CR LF": (b"X: y\r\r\nTransfer-Encoding: chunked", 400),
    "TE name folded": (b"Transfer-Encoding\r\n : chunked", 400),
    "TE value folded": (b"Transfer-Encoding:\r\n chunked", 400),
    "TE value folded with tab": (b"Transfer-Encoding:\r\n\tchunked", 400),
    "TE value split": (b"Transfer-Encoding: chu\r\n nked", 400),
    "TE underscore": (b"Transfer_Encoding: chunked", 203),
    "TE dot": (b"Transfer.Encoding: chunked", 203),
    "TE space in name": (b"Transfer Encoding: chunked", 400),
    "TE prefixed": (b"X-Transfer-Encoding: chunked", 203),
    "TE content": (b"Content-Encoding: chunked", 203),
    "TE field": (b"TE: chunked", 203),
    "TE no colon": (b"Transfer-Encoding chunked", 400),
    "TE equals": (b"Transfer-Encoding= chunked", 400),
    "TE in capitals": (b"transfer-ENCODING: CHUNKED", 400),
    "TE quoted": (b'Transfer-Encoding: "chunked"', 501),
    "TE single quotes": (b"Transfer-Encoding: 'chunked'", 501),
    "TE parameter": (b"Transfer-Encoding: chunked;q=1", 501),
    "TE semicolon": (b"Transfer-Encoding: chunked;", 501),
    "TE comma before": (b"Transfer-Encoding: ,chunked", 501),
    "TE comma after": (b"Transfer-Encoding: chunked,", 501),
    "TE words": (b"Transfer-Encoding: x chunked", 501),
    "TE twice in a line": (b"Transfer-Encoding: chunked, chunked", 501),
    "TE twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
    "TE gzip, chunked": (b"Transfer-Encoding: gzip, chunked", 501),
    "TE chunked, gzip": (b"Transfer-Encoding: chunked, gzip", 501),
    "TE identity": (b"Transfer-Encoding: identity", 501),
    "TE identity, chunked": (b"Transfer-Encoding: identity, chunked", 501),
    "TE chunked, identity": (b"Transfer-Encoding: chunked, identity", 501),
    "TE chunked then identity": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 501),
    "TE unknown then chunked": (b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked", 501),
    "TE chunked then unknown": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", 501),
    "TE empty": (b"Transfer-Encoding:", 501),
    "TE empty then chunked": (b"Transfer-Encoding:\r\nTransfer-Encoding: chunked", 501),
    "TE colon twice": (b"Transfer-Encoding:: chunked", 501),
    "TE hop by hop": (b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked", 400),
    "CL hop by hop": (b"Connection: content-length", 203),
}  # fmt: skip
for _name, (_lines, _verdict) in CODINGS.items():
    _add(f"CL beside {_name}", _post(_length(HIDDEN), _lines, body=HIDDEN), _verdict)
    if _verdict != 203:
        _add(
            f"{_name} beside CL", _post(_lines, b"Content-Length: 4", body=_chunk(SMUGGLED) + LAST), _verdict
        )

# Without a length beside it, a coding that a hop overlooks leaves a request without content.
for _name, _verdict in {
    "TE in capitals": 203, "TE tab value": 203, "TE xchunked": 501, "TE identity": 501,
    "TE gzip, chunked": 501, "TE chunked, gzip": 501, "TE quoted": 501, "TE parameter": 501,
    "TE comma before": 501, "TE comma after": 501,
    "TE twice": 501, "TE VT value": 400, "TE space colon": 400, "TE value folded": 400,
    "TE after bare LF": 400, "TE empty": 501,
}.items():  # fmt: skip
    _add(f"only {_name}", _post(CODINGS[_name][0], body=_chunk(b"abc") + HIDDEN), _verdict)

_add("only TE underscore", _post(b"Transfer_Encoding: chunked", body=SMUGGLED), 203)
_lines = b"Connection: close, content-length"
_add("CL and close hop by hop", _post(_lines, _length(HIDDEN), body=HIDDEN), 203, ambiguous=True)

# --------------------------------------------------------------------------------------------------- lengths

LENGTHS = {
    "twice the same in a line": (b"Content-Length: 40, 40", 400),
    "list of two": (b"Content-Length: 40, 0", 400),
    "list with empty": (b"Content-Length: 40,", 400),
    "list begins empty": (b"Content-Length: ,40", 400),
    "twice the same": (b"Content-Length: 40\r\nContent-Length: 40", 400),
    "twice, other last": (b"Content-Length: 40\r\nContent-Length: 0", 400),
    "twice, other first": (b"Content-Length: 0\r\nContent-Length: 40", 400),
    "twice, other case": (b"content-length: 40\r\nCONTENT-LENGTH: 0", 400),
    "equal numbers": (b"Content-Length: 40\r\nContent-Length: 040", 400),
    "plus": (b"Content-Length: +40", 400),
    "minus": (b"Content-Length: -40", 400),
    "minus zero": (b"Content-Length: -0", 400),
    "hexadecimal": (b"Content-Length: 0x28", 400),
    "underscore in number": (b"Content-Length: 4_0", 400),
    "octal": (b"Content-Length: 0o50", 400),
    "space in number": (b"Content-Length: 4 0", 400),
    "fraction": (b"Content-Length: 40.0", 400),
    "exponent": (b"Content-Length: 4e1", 400),
    "parameter": (b"Content-Length: 40;q=1", 400),
    "quoted": (b'Content-Length: "40"', 400),
    "empty": (b"Content-Length:", 400),
    "VT": (b"Content-Length: 40\x0b", 400),
    "NUL": (b"Content-Length: 40\x00", 400),
    "no-break space": (b"Content-Length: \xa040", 400),
    "superscript": (b"Content-Length: 4\xb2", 400),
    "space colon": (b"Content-Length : 40", 400),
    "space colon, second": (b"Content-Length: 0\r\nContent-Length : 40", 400),
    "folded": (b"Content-Length:\r\n 40", 400),
    "split": (b"Content-Length: 4\r\n 0", 400),
    "after bare LF": (b"X: y\nContent-Length: 40", 400),
    "after bare CR": (b"X: y\rContent-Length: 40", 400),
    "begins with space": (b" Content-Length: 40", 400),
    "underscore in name": (b"Content_Length: 40", 203),
    "2 to the 64th and 40": (b"Content-Length: 18446744073709551656", 413),
    "2 to the 32nd and 40": (b"Content-Length: 4294967336", 413),
    "long zeros": (b"Content-Length: " + b"0" * 30 + b"40", 400),
    "leading zero": (b"Content-Length: 040", 203),
    "tab": (b"Content-Length:\t40 \t", 203),
}  # fmt: skip
assert len(SMUGGLED) == 40
for _name, (_lines, _verdict) in LENGTHS.items():
    _add(f"CL {_name}", _post(_lines, body=SMUGGLED), _verdict)
_add("CL on GET", _post(_length(SMUGGLED), body=SMUGGLED, start=b"GET /MARK/attack HTTP/1.1"), 203)
_add("CL on HEAD", _post(_length(SMUGGLED), body=SMUGGLED, start=b"HEAD /MARK/attack HTTP/1.1"), 203)
_add("CL on OPTIONS", _post(_length(SMUGGLED), body=SMUGGLED, start=b"OPTIONS /MARK/attack HTTP/1.1"), 203)
_add("CL on DELETE", _post(_length(SMUGGLED), body=SMUGGLED, start=b"DELETE /MARK/attack HTTP/1.1"), 203)
_add(
    "CL on an unknown method",
    _post(_length(SMUGGLED), body=SMUGGLED, start=b"FROB /MARK/attack HTTP/1.1"),
    203,
)
_add("CL larger than sent", _post(b"Content-Length: 400", body=SMUGGLED))
_add("neither CL nor TE", _post(body=SMUGGLED), 203)

# ---------------------------------------------------------------------------------------------------- chunks

CHUNKS = {
    "0x": (b"0x3\r\nabc\r\n" + LAST, 400),
    "plus": (b"+3\r\nabc\r\n" + LAST, 400),
    "minus": (b"-3\r\nabc\r\n" + LAST, 400),
    "minus zero": (b"-0\r\n\r\n", 400),
    "space before size": (b" 3\r\nabc\r\n" + LAST, 400),
    "space after size": (b"3 \r\nabc\r\n" + LAST, 400),
    "tab after size": (b"3\t\r\nabc\r\n" + LAST, 400),
    "VT after size": (b"3\x0b\r\nabc\r\n" + LAST, 400),
    "NUL after size": (b"3\x00\r\nabc\r\n" + LAST, 400),
    "no-break space after size": (b"3\xa0\r\nabc\r\n" + LAST, 400),
    "underscore in size": (b"0_3\r\nabc\r\n" + LAST, 400),
    "letter after size": (b"3g\r\nabc\r\n" + LAST, 400),
    "comma": (b"3,3\r\nabc\r\n" + LAST, 400),
    "empty size": (b"\r\nabc\r\n" + LAST, 400),
    "blank line before size": (b"\r\n3\r\nabc\r\n" + LAST, 400),
    "17 digits": (b"10000000000000003\r\nabc\r\n" + LAST, 400),
    "17 digits, high": (b"f0000000000000003\r\nabc\r\n" + LAST, 400),
    "16 digits": (b"ffffffffffffffff\r\nabc\r\n" + LAST, 400),
    "9 digits": (b"100000003\r\nabc\r\n" + LAST, 400),
    "long zeros": (b"0" * 40 + b"3\r\nabc\r\n" + LAST, 400),
    "leading zero": (b"03\r\nabc\r\n" + LAST, 203),
    "capital digits": (b"A\r\n0123456789\r\n" + LAST, 203),
    "several zeros at the end": (b"3\r\nabc\r\n000\r\n\r\n", 203),
    "LF after size": (b"3\nabc\r\n" + LAST, 400),
    "CR after size": (b"3\rabc\r\n" + LAST, 400),
    "CR CR LF after size": (b"3\r\r\nabc\r\n" + LAST, 400),
    "LF after data": (b"3\r\nabc\n" + LAST, 400),
    "CR after data": (b"3\r\nabc\r" + LAST, 400),
    "LF LF after data": (b"3\r\nabc\n\n" + LAST, 400),
    "nothing after data": (b"3\r\nabc" + LAST, 400),
    "two bytes after data": (b"3\r\nabcXX" + LAST, 400),
    "more data than said": (b"3\r\nabcdef\r\n" + LAST, 400),
    "less data than said": (b"5\r\nabc\r\n" + LAST, 400),
    "LF in the last chunk": (b"0\n\r\n", 400),
    "LF at the end": (b"0\r\n\n", 400),
    "LF LF at the end": (b"0\n\n", 400),
    "CR at the end": (b"0\r\n\rX", 400),
    "no last chunk": (b"3\r\nabc\r\n", 400),
    "extension": (b"3;a=b\r\nabc\r\n" + LAST, 203),
    "extension without value": (b"3;a\r\nabc\r\n" + LAST, 203),
    "extension quoted": (b'3;a="b;c"\r\nabc\r\n' + LAST, 203),
    "extension in the last chunk": (b"3\r\nabc\r\n0;a=b\r\n\r\n", 203),
    "extension with quoted CRLF": (b'3;a="b\r\nabc\r\n0\r\n\r\n', 400),
    "extension empty": (b"3;\r\nabc\r\n" + LAST, 400),
    "extension with LF": (b"3;\nabc\r\n" + LAST, 400),
    "extension with name and LF": (b"3;a\nabc\r\n" + LAST, 400),
    "extension with CR": (b"3;a\rabc\r\n" + LAST, 400),
    "extension with NUL": (b"3;a\x00\r\nabc\r\n" + LAST, 400),
    "extension after space": (b"3 ;a\r\nabc\r\n" + LAST, 203),
    # What stands behind the LF is another chunk for who ends the line there, and extension for who does not.
    "extension hides a chunk": (b"5;\nAAAAA\r\n28\r\n" + SMUGGLED + b"\r\n" + LAST, 400),
    "extension hides a size": (b"2;\nxx\r\n2d\r\nxx\r\n0\r\n\r\n", 400),
    "spill of a chunk": (b"5\r\nAAAAA28\r\n" + SMUGGLED + b"\r\n" + LAST, 400),
    "extension too long": (b"3;" + b"a" * 20_000 + b"\r\nabc\r\n" + LAST, 400),
}  # fmt: skip
for _name, (_body, _verdict) in CHUNKS.items():
    _add(f"chunk {_name}", _post(CHUNKED, body=_body + SMUGGLED), _verdict)

TRAILERS = {
    "plain": (b"X: y\r\n", 203),
    "Content-Length": (b"Content-Length: 40\r\n", 400),
    "Transfer-Encoding": (b"Transfer-Encoding: chunked\r\n", 400),
    "Host": (b"Host: b\r\n", 400),
    "Connection": (b"Connection: close\r\n", 400),
    "Trailer": (b"Trailer: x\r\n", 400),
    "Expect": (b"Expect: 100-continue\r\n", 203),
    "Authorization": (b"Authorization: Basic eDp5\r\n", 203),
    "folded": (b"X: y\r\n z\r\n", 400),
    "begins folded": (b" X: y\r\n", 400),
    "LF": (b"X: y\n", 400),
    "CR": (b"X: y\rZ: z\r\n", 400),
    "NUL": (b"X: \x00\r\n", 400),
    "space colon": (b"X : y\r\n", 400),
    "no colon": (b"X y\r\n", 400),
    "a request line": (b"GET /MARK/smuggled HTTP/1.1\r\nHost: a\r\n", 400),
    "LF LF": (b"X: y\n\nGET /MARK/smuggled HTTP/1.1\r\n", 400),
}
for _name, (_lines, _verdict) in TRAILERS.items():
    _add(f"trailer {_name}", _post(CHUNKED, body=_chunk(b"abc") + b"0\r\n" + _lines + b"\r\n"), _verdict)

# -------------------------------------------------------------------------------------------- request lines

STARTS = {
    "two spaces after the method": (b"GET  /MARK/attack HTTP/1.1", 400),
    "two spaces before the version": (b"GET /MARK/attack  HTTP/1.1", 400),
    "space after the version": (b"GET /MARK/attack HTTP/1.1 ", 400),
    "tab for a space": (b"GET\t/MARK/attack\tHTTP/1.1", 400),
    "VT for a space": (b"GET\x0b/MARK/attack HTTP/1.1", 400),
    "space before": (b" GET /MARK/attack HTTP/1.1", 400),
    "blank line before": (b"\r\nGET /MARK/attack HTTP/1.1", 203),
    "LF before": (b"\nGET /MARK/attack HTTP/1.1", 400),
    "CR before": (b"\rGET /MARK/attack HTTP/1.1", 400),
    "space in the target": (b"GET /MARK/attack x HTTP/1.1", 400),
    "version twice": (b"GET /MARK/attack HTTP/1.1 HTTP/1.1", 400),
    "CR in the target": (b"GET /MARK/attack\rx HTTP/1.1", 400),
    "LF in the target": (b"GET /MARK/attack\nx HTTP/1.1", 400),
    "NUL in the target": (b"GET /MARK/attack\x00x HTTP/1.1", 400),
    "FF in the target": (b"GET /MARK/attack\x0cx HTTP/1.1", 400),
    "fragment": (b"GET /MARK/attack#x HTTP/1.1", 400),
    "high byte in the target": (b"GET /MARK/attack\xe9 HTTP/1.1", 400),
    "backslash": (b"GET /MARK\\attack HTTP/1.1", 203),
    "dots": (b"GET /MARK/../MARK/attack HTTP/1.1", 203),
    "encoded line end": (b"GET /MARK/attack%0d%0aX:%20y HTTP/1.1", 203),
    "encoded NUL": (b"GET /MARK/attack%00 HTTP/1.1", 203),
    "encoded slash": (b"GET /MARK%2fattack HTTP/1.1", 203),
    "two slashes": (b"GET //MARK/attack HTTP/1.1", 203),
    "bad escape": (b"GET /MARK/attack%zz HTTP/1.1", 203),
    "no slash": (b"GET MARK/attack HTTP/1.1", 400),
    "query without a path": (b"GET ?MARK/attack HTTP/1.1", 400),
    "asterisk by GET": (b"GET * HTTP/1.1", 400),
    "authority by GET": (b"GET a:80 HTTP/1.1", 400),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1", 501),
    "CONNECT with a path": (b"CONNECT /MARK/attack HTTP/1.1", 400),
    "empty method": (b" /MARK/attack HTTP/1.1", 400),
    "method in small letters": (b"get /MARK/attack HTTP/1.1", 203),
    "colon in the method": (b"GET: /MARK/attack HTTP/1.1", 400),
    "parenthesis in the method": (b"GE(T /MARK/attack HTTP/1.1", 400),
    "NUL in the method": (b"GE\x00T /MARK/attack HTTP/1.1", 400),
    "no version": (b"GET /MARK/attack", 400),
    "version 0.9": (b"GET /MARK/attack HTTP/0.9", 505),
    "version 1.2": (b"GET /MARK/attack HTTP/1.2", 505),
    "version 2.0": (b"GET /MARK/attack HTTP/2.0", 505),
    "version 1.10": (b"GET /MARK/attack HTTP/1.10", 400),
    "version 1.1x": (b"GET /MARK/attack HTTP/1.1x", 400),
    "version 01.1": (b"GET /MARK/attack HTTP/01.1", 400),
    "version 1.": (b"GET /MARK/attack HTTP/1.", 400),
    "version 1,1": (b"GET /MARK/attack HTTP/1,1", 400),
    "version in small letters": (b"GET /MARK/attack http/1.1", 400),
    "other protocol": (b"GET /MARK/attack ICAP/1.1", 400),
    "preface of HTTP/2": (b"PRI * HTTP/2.0", 505),
    "target too long": (b"GET /MARK/" + b"a" * 9000 + b" HTTP/1.1", 414),
}  # fmt: skip
for _name, (_start, _verdict) in STARTS.items():
    _add(
        f"start {_name}",
        _post(start=_start),
        _verdict,
    )

# ----------------------------------------------------------------------------------------- hosts and fields

GET = b"GET /MARK/attack HTTP/1.1\r\n"
HOSTS = {
    "none": (b"", 400),
    "empty": (b"Host:\r\n", 203),
    "twice": (b"Host: a\r\nHost: a\r\n", 400),
    "two": (b"Host: a\r\nHost: b\r\n", 400),
    "two, other case": (b"Host: a\r\nhOST: b\r\n", 400),
    "list": (b"Host: a, b\r\n", 400),
    "space": (b"Host: a b\r\n", 400),
    "user": (b"Host: a@b\r\n", 400),
    "path": (b"Host: a/b\r\n", 400),
    "port of letters": (b"Host: a:b\r\n", 400),
    "two ports": (b"Host: a:80:81\r\n", 400),
    "NUL": (b"Host: a\x00b\r\n", 400),
    "space colon": (b"Host : a\r\n", 400),
    "space colon, second": (b"Host: a\r\nHost : b\r\n", 400),
    "folded": (b"Host: a\r\n b\r\n", 400),
    "begins with space": (b" Host: b\r\nHost: a\r\n", 400),
    "after bare LF": (b"X: y\nHost: b\r\nHost: a\r\n", 400),
}
for _name, (_lines, _verdict) in HOSTS.items():
    _add(f"host {_name}", GET + _lines + b"\r\n", _verdict)
for _name, _target, _verdict in [
    ("the same", b"http://a/MARK/attack", 203),
    ("another", b"http://b/MARK/attack", 203),
    ("with user", b"http://a@b/MARK/attack", 400),
    ("without a host", b"http:///MARK/attack", 400),
    ("without a path", b"http://a?MARK/attack", 203),
    ("of another scheme", b"ftp://b/MARK/attack", 203),
]:
    _start = b"GET " + _target + b" HTTP/1.1"
    _add(f"absolute-form {_name}", _post(start=_start), _verdict)
_add("absolute-form without Host", b"GET http://a/MARK/attack HTTP/1.1\r\n\r\n")

FIELDS = {
    "without a name": (b": y", 400),
    "without a colon": (b"X", 400),
    "of a NUL": (b"X: a\x00b", 400),
    "of a control": (b"X: a\x01b", 400),
    "of a bare CR": (b"X: a\rb", 400),
    "of a bare LF": (b"X: a\nGET /MARK/smuggled HTTP/1.1", 400),
    "ended by a bare CR": (b"X: a\r", 400),
    "with a space in its name": (b"X Y: z", 400),
    "with a high byte in its name": (b"X\xe9: z", 400),
    "with a high byte in its value": (b"X: \xe9", 203),
    "with a slash in its name": (b"X/Y: z", 400),
    "folded": (b"X: y\r\n z", 400),
    "folded to nothing": (b"X: y\r\n ", 400),
    "empty": (b"X:", 203),
    "too long": (b"X: " + b"y" * 70_000, 431),
    "too many": (b"\r\n".join([b"X: y"] * 120), 431),
}
for _name, (_lines, _verdict) in FIELDS.items():
    _add(f"field {_name}", _post(_lines, start=GET.rstrip()), _verdict)
_add("head ended by LF LF", b"GET /MARK/attack HTTP/1.1\nHost: a\n\n" + SMUGGLED)
_add("head ended by CRLF LF", GET + b"Host: a\r\n\n" + SMUGGLED)
_add("head ended by LF CRLF", GET + b"Host: a\n\r\n" + SMUGGLED)
_add("head ended by CR CR", GET + b"Host: a\r\r" + SMUGGLED)
_add("head ended by CRLF CR", GET + b"Host: a\r\n\r" + SMUGGLED)

# ---------------------------------------------------------------- versions, expectations, upgrades, pipelines

OLD = b"POST /MARK/attack HTTP/1.0"
_add("1.0 chunked", _post(CHUNKED, body=HIDDEN, start=OLD))
_add("1.0 chunked, kept", _post(b"Connection: keep-alive", CHUNKED, body=HIDDEN, start=OLD))
_add("1.0 CL.TE", _post(_length(HIDDEN), CHUNKED, body=HIDDEN, start=OLD))
_add("1.0 CL.TE, kept", _post(b"Connection: keep-alive", _length(HIDDEN), CHUNKED, body=HIDDEN, start=OLD))
_add("1.0 kept", _post(b"Connection: keep-alive", _length(SMUGGLED), body=SMUGGLED, start=OLD), 203)
_add("1.0 and more", _post(b"Content-Length: 0", body=SMUGGLED, start=OLD), 203, ambiguous=True)
_add("1.0 without a Host", b"GET /MARK/attack HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + SMUGGLED, 203)

EXPECT = b"Expect: 100-continue"
_add("expect, content at once", _post(EXPECT, _length(SMUGGLED), body=SMUGGLED), 203)
_add("expect, chunks at once", _post(EXPECT, CHUNKED, body=_chunk(SMUGGLED) + LAST), 203)
_add("expect and both framings", _post(EXPECT, _length(HIDDEN), CHUNKED, body=HIDDEN))
_add("expect without content", _post(EXPECT, b"Content-Length: 0", body=SMUGGLED), 203)
_add("expect by GET", _post(EXPECT, start=GET.rstrip()) + SMUGGLED, 203)
_add("expect in capitals", _post(EXPECT.upper(), _length(SMUGGLED), body=SMUGGLED), 203)
_add("expect twice", _post(EXPECT, EXPECT, _length(SMUGGLED), body=SMUGGLED), 203)
_add("expect something else", _post(b"Expect: y 100-continue", _length(SMUGGLED), body=SMUGGLED), 417)
_add("expect something more", _post(EXPECT + b", x", _length(SMUGGLED), body=SMUGGLED), 417)
_add("expect, folded", _post(b"Expect:\r\n 100-continue", _length(SMUGGLED), body=SMUGGLED))

UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
_add("upgrade, refused, and more", _post(*UPGRADE, start=GET.rstrip()) + SMUGGLED, 203)
_add("upgrade with content", _post(*UPGRADE, _length(SMUGGLED), body=SMUGGLED), 203)
_add(
    "upgrade of another version",
    _post(*UPGRADE[:2], b"Sec-WebSocket-Version: 7", start=GET.rstrip()) + SMUGGLED,
    203,
)
_add(
    "upgrade to h2c",
    _post(
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        start=GET.rstrip(),
    )
    + SMUGGLED,
    203,
)
_refused = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n"
_add("CONNECT and more", _refused + b"\r\n" + SMUGGLED, 501)
_add("CONNECT with content", _refused + _length(SMUGGLED) + b"\r\n\r\n" + SMUGGLED, 501)

_add("two in a row", GET + b"Host: a\r\n\r\n" + SMUGGLED, 203)
_add("three in a row, one with content", _post(b"Content-Length: 3", body=b"abc") + SMUGGLED * 2, 203)
_add("chunks and one in a row", _post(CHUNKED, body=_chunk(SMUGGLED) + LAST + SMUGGLED), 203)
_add("more than the length", _post(b"Content-Length: 3", body=b"abcX"), 203)
_add("close and one in a row", GET + b"Host: a\r\nConnection: close\r\n\r\n" + SMUGGLED, 203, ambiguous=True)
