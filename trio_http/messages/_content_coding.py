"""The codings of content: which of them this installation has, how a field names them, and their errors.

A coding (RFC 9110 §8.4.1) belongs to the content, unlike a transfer coding, which belongs to one connection.
Four are in use: ``gzip`` and ``deflate`` are in Python's own library; ``br`` needs the `brotli` module, 1.2
or newer; ``zstd`` needs Python 3.14, or one of the modules that bring it to an older Python.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Final

#: How many codings one content may have. Arbitrary: nobody has a use for two, and each multiplies what a few
#: bytes can grow to.
MAX_CODINGS: Final = 5

#: How many times as large content may become by being decoded. As in Apache's mod_deflate
#: (DeflateInflateRatioLimit); text shrinks to a tenth, and zeros by gzip to a thousandth.
MAX_RATIO: Final = 200.0

#: What content may become beyond that, in bytes: so much does no harm, and a short answer that is all zeros
#: is no attack. Arbitrary: an eighth of what a whole response may have by default.
FREE_BYTES: Final = 8 * 1024 * 1024

#: In order of preference: what makes content smallest and costs the reader least comes first. ``deflate`` is
#: last because senders do not agree on what it is (RFC 9110 §8.4.1.2).
KNOWN_CODINGS: Final = ("zstd", "br", "gzip", "deflate")

#: What to install for those that Python may lack.
EXTRAS: Final = {"br": "trio-http[brotli]", "zstd": "trio-http[zstd]"}

# How much of a name that is the sender's an error shows. Arbitrary: all that are registered have less.
_SHOWN: Final = 60

# The first two bound their output themselves; the last one is bounded by us.
_ZSTD_MODULES: Final = ("compression.zstd", "backports.zstd", "zstandard")


class ContentCodingError(Exception):
    """Coded content is malformed, incomplete, or coded too often. Its sender's fault.

    What was decoded before is as it was sent, but not the whole.

    Args:
      coding: the coding at fault, in lower case.
      reason: what is wrong, as a part of a sentence.

    Attributes:
      coding, reason: as given.
    """

    def __init__(self, coding: str, reason: str) -> None:
        super().__init__(coding, reason)
        self.coding = coding
        self.reason = reason

    def __str__(self) -> str:
        return f"content in coding {self.coding}: {self.reason}"


class ContentTooExpanded(ContentCodingError):
    """Coded content grows to so much more that it looks like an attack on memory or time.

    Args:
      coding: the coding whose output it is; of several, the first whose output was too much.
      received: bytes of the coded content that were used, at least 1.
      produced: what decoding them cost, in bytes of output; a begun member or frame counts as some, too.
      max_ratio: the limit on how many times as many that may be, beyond `FREE_BYTES`.

    Attributes:
      coding, received, produced, max_ratio: as given.
    """

    def __init__(self, coding: str, received: int, produced: int, max_ratio: float) -> None:
        super().__init__(
            coding,
            f"{received} bytes grow to {produced} or more, "
            f"expected at most {max_ratio:g} times as many beyond the first {FREE_BYTES}",
        )
        self.args = (coding, received, produced, max_ratio)  # what pickling gives back to the class
        self.received = received
        self.produced = produced
        self.max_ratio = max_ratio


@cache
def supported_codings() -> tuple[str, ...]:
    """Return the codings that this installation can encode and decode, the preferred ones first."""
    absent = {"br": brotli_module() is None, "zstd": zstd_module() is None}
    return tuple(coding for coding in KNOWN_CODINGS if not absent.get(coding))


@cache
def accept_encoding() -> bytes:
    """Return a value for the Accept-Encoding field (RFC 9110 §12.5.3): all of `supported_codings`."""
    return ", ".join(supported_codings()).encode("ascii")


def parse_content_encoding(value: bytes) -> tuple[str, ...]:
    """Return the codings that a Content-Encoding names (RFC 9110 §8.4), in the order in which they were
    applied.

    Names are in lower case, ``x-gzip`` is ``gzip`` (§8.4.1.3); ``identity`` and empty list elements are left
    out. Whether a name means anything is not looked at.

    Args:
      value: the field's value; of several field lines, all values joined with commas.

    Raises:
      ContentCodingError: there are more than `MAX_CODINGS`.
    """
    names = (name.strip(" \t").lower() for name in value.decode("latin-1").split(","))
    codings = tuple("gzip" if name == "x-gzip" else name for name in names if name not in ("", "identity"))
    if len(codings) > MAX_CODINGS:
        raise ContentCodingError(
            codings[-1][:_SHOWN],
            f"it is one of {len(codings)} applied in turn, expected at most {MAX_CODINGS}",
        )
    return codings


def unknown_coding(coding: str) -> ValueError:
    """Return the error of a coding that a caller has named and that is not to be had."""
    known = ", ".join(supported_codings())
    hint = f"; for {coding}, install {EXTRAS[coding]}" if coding in EXTRAS else ""
    return ValueError(f"unknown content coding {coding!r}, expected one of {known}{hint}")


@cache
def brotli_module() -> Any | None:
    """Return the module that does ``br``, or None.

    One older than 1.2 counts as absent: it cannot bound its output, so a few bytes could fill the memory.
    """
    module = _installed("brotli")
    return module if hasattr(getattr(module, "Decompressor", None), "can_accept_more_data") else None


@cache
def zstd_module() -> Any | None:
    """Return the module that does ``zstd``, or None: Python's own (3.14), its backport, or `zstandard`."""
    return next((module for name in _ZSTD_MODULES if (module := _installed(name)) is not None), None)


def _installed(name: str) -> Any | None:
    """Return an optional module, or None."""
    try:
        return importlib.import_module(name)  # deferred import: optional, and few programs need it
    except ImportError:
        return None
