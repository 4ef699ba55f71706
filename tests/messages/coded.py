"""Coded content for the tests of content codings: what makes it, what takes it apart, and bombs."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import cache

from trio_http.messages._content_decoder import ContentDecoder
from trio_http.messages._content_encoder import ContentEncoder

MIB = 1 << 20

#: Content that shrinks, but not to nothing; the same in each run.
TEXT = b"".join(b'{"id": %d, "square": %d}\n' % (n, n * n) for n in range(2000))


def encoded(content: bytes, *codings: str) -> bytes:
    """The content in these codings, applied in turn."""
    for coding in codings:
        encoder = ContentEncoder(coding)
        content = encoder.encode(content) + encoder.finish()
    return content


def drained(decoder: ContentDecoder, max_bytes: int = 65536) -> bytes:
    """All that can be taken now."""
    return b"".join(iter(lambda: decoder.take(max_bytes), b""))


def decoded(pieces: Iterable[bytes], *codings: str, max_ratio: float | None = None) -> bytes:
    """The whole content of pieces that were coded with these, applied in turn."""
    decoder = ContentDecoder(codings, max_ratio=max_ratio)
    content = b""
    for piece in pieces:
        decoder.feed(piece)
        content += drained(decoder)
    decoder.finish()
    return content


@cache
def zeros(coding: str, mebibytes: int) -> bytes:
    """So many MiB of zeros in a coding; ``raw`` is deflate without zlib's format."""
    if coding in ("gzip", "deflate", "raw"):
        # zlib needs some seconds for a gibibyte. After a full flush nothing refers to what was before, so the
        # same blocks may stand a thousand times one behind the other, before an empty last one.
        deflate = zlib.compressobj(9, wbits=-15)
        blocks = deflate.compress(bytes(MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)
        stream = blocks * mebibytes + b"\x03\x00"
        check, mib = (zlib.crc32, bytes(MIB)) if coding == "gzip" else (zlib.adler32, bytes(MIB))
        if coding == "raw":
            return stream
        checksum = 0 if coding == "gzip" else 1
        for _ in range(mebibytes):
            checksum = check(mib, checksum)
        if coding == "deflate":
            return b"\x78\xda" + stream + checksum.to_bytes(4, "big")
        length = (mebibytes * MIB) & 0xFFFFFFFF
        head = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
        return head + stream + checksum.to_bytes(4, "little") + length.to_bytes(4, "little")
    encoder = ContentEncoder(coding)
    return b"".join(encoder.encode(bytes(MIB)) for _ in range(mebibytes)) + encoder.finish()
