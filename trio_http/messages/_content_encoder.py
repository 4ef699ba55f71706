"""Content that is coded for its way: compressed as it is made."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ._content_coding import brotli_module, supported_codings, unknown_coding, zstd_module

# Content is compressed once for each message, so what counts is the time; zlib's and zstd's own defaults (6
# and 3) are meant for that. Brotli's, 11, is for what is compressed once and served for years, and takes a
# hundred times as long; 5 takes about as long as zlib's 6 and makes less of it.
_BROTLI_QUALITY: Final = 5

_GZIP: Final = 16 + zlib.MAX_WBITS


class ContentEncoder:
    """Content in one coding, made in steps: `encode` each piece, then `finish`; send what they return.

    For two codings, one upon the other, give the output of one encoder to another. The caller writes the
    Content-Encoding field, and knows the length only at the end.

    Args:
      coding: one of `supported_codings`, as it stands in the field.

    Raises:
      ValueError: another coding, or one whose module is not installed.

    Attributes:
      coding: as given.
    """

    __slots__ = ("_encode", "_finish", "_finished", "_flush", "coding")

    def __init__(self, coding: str) -> None:
        if coding not in supported_codings():
            raise unknown_coding(coding)
        self.coding = coding
        self._finished = False
        self._encode: Callable[[bytes], bytes]
        self._flush: Callable[[], bytes]
        self._finish: Callable[[], bytes]
        if coding == "br":
            brotli: Any = brotli_module()
            compressor = brotli.Compressor(quality=_BROTLI_QUALITY)
            self._encode = compressor.process
            self._flush = compressor.flush
            self._finish = compressor.finish
        elif coding == "zstd":
            self._encode, self._flush, self._finish = _zstd()
        else:
            deflate = zlib.compressobj(wbits=_GZIP if coding == "gzip" else zlib.MAX_WBITS)
            self._encode = deflate.compress
            self._flush = partial(deflate.flush, zlib.Z_SYNC_FLUSH)
            self._finish = deflate.flush

    def __repr__(self) -> str:
        return f"<ContentEncoder {self.coding}>"

    def encode(self, data: bytes) -> bytes:
        """Take in more content; return what is ready of the coded content, often nothing.

        Raises:
          RuntimeError: after `finish`.
        """
        self._check_usable()
        return self._encode(data)

    def flush(self) -> bytes:
        """Return the coded content so far, so that all that was given can be decoded at once; for events that
        somebody waits for. It costs some bytes each time.

        Raises:
          RuntimeError: after `finish`.
        """
        self._check_usable()
        return self._flush()

    def finish(self) -> bytes:
        """Return the rest of the coded content. Without it, the content is incomplete.

        Raises:
          RuntimeError: it was finished before.
        """
        self._check_usable()
        self._finished = True
        return self._finish()

    def _check_usable(self) -> None:
        if self._finished:
            raise RuntimeError(f"this {self.coding} content was finished")


def _zstd() -> tuple[Callable[[bytes], bytes], Callable[[], bytes], Callable[[], bytes]]:
    """Return what encodes, flushes and finishes a zstd frame. At this level the window is 2 MiB; 8 would be
    allowed (RFC 9659 §3)."""
    zstd: Any = zstd_module()
    compressor = zstd.ZstdCompressor()
    if not hasattr(compressor, "compressobj"):
        return compressor.compress, partial(compressor.flush, compressor.FLUSH_BLOCK), compressor.flush
    frame = compressor.compressobj()
    return frame.compress, partial(frame.flush, zstd.COMPRESSOBJ_FLUSH_BLOCK), frame.flush
