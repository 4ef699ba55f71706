"""The charset of text: what a Content-Type names, as far as Python knows it and it is safe to decode by."""

from __future__ import annotations

import codecs
import encodings
import encodings.aliases
import encodings.utf_16
import encodings.utf_32
import functools
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from ._headers import Headers

#: A charset, or a function that finds one for a content; None: it finds none.
CharsetChoice: TypeAlias = "str | Callable[[bytes], str | None]"

# One parameter of a media type (RFC 9110 §5.6.6), which may also be missing between two semicolons.
_PARAMETER: Final = re.compile(r'[ \t]*;[ \t]*(?:([^\s;=",]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;",]*)))?')

# Codecs that Python has, and that are no charsets. The sender chooses the charset, and `punycode` takes
# quadratic time: 600 kB of it would stop the program for a minute. So does `utf_7` where it is decoded piece
# by piece: its decoder keeps all of a run of Base64, and begins it anew with each piece. Browsers know none
# of them (WHATWG Encoding §4.2).
_NO_CHARSETS: Final = frozenset(
    ["idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape", "utf_7"]
)

# The longest name of a charset (RFC 2978 §2.3).
_MAX_CHARSET: Final = 40


def decode_text(content: bytes, headers: Headers, default: CharsetChoice = "utf-8") -> str:
    """Return ``content`` as text by the charset that ``headers`` name (RFC 9110 §8.3.2).

    Malformed bytes become U+FFFD.

    Args:
      default: the charset where they name none that is known, or what finds it in the content; UTF-8 where
        that is none, either.
    """
    text = _decoded(content, _known_charset(headers))
    if text is None and default != "utf-8":
        text = _decoded(content, default(content) if callable(default) else default)
    return content.decode("utf-8", "replace") if text is None else text


def _decoded(content: bytes, charset: str | None) -> str | None:
    """Return ``content`` decoded; None without a charset, or with one that Python does not know as text's."""
    if charset is None:
        return None
    try:
        if _is_of_text(charset):
            return content.decode(charset, "replace")
    except (LookupError, ValueError):
        pass  # a charset that Python does not know, or a codec that is none for text
    return None


class _UTF16(encodings.utf_16.IncrementalDecoder):
    """Python's, and without a byte order mark as `bytes.decode` has it, where that one raises."""

    def _buffer_decode(self, data: Any, errors: str, final: bool) -> tuple[str, int]:
        try:
            return super()._buffer_decode(data, errors, final)
        except UnicodeError:
            self.decoder = codecs.utf_16_le_decode if sys.byteorder == "little" else codecs.utf_16_be_decode
            return self.decoder(data, errors, final)


class _UTF32(encodings.utf_32.IncrementalDecoder):
    """As `_UTF16`."""

    def _buffer_decode(self, data: Any, errors: str, final: bool) -> tuple[str, int]:
        try:
            return super()._buffer_decode(data, errors, final)
        except UnicodeError:
            self.decoder = codecs.utf_32_le_decode if sys.byteorder == "little" else codecs.utf_32_be_decode
            return self.decoder(data, errors, final)


_BY_MARK: Final[Mapping[str, Callable[[str], codecs.IncrementalDecoder]]] = {
    "utf-16": _UTF16,
    "utf-32": _UTF32,
}


def decoder_of_text(headers: Headers) -> codecs.IncrementalDecoder:
    """Return what decodes content piece by piece, to the same text as `decode_text` all at once."""
    charset = _known_charset(headers)
    if charset is not None:
        try:
            b" ".decode(charset, "replace")  # refuses what is a codec, and none for text
            if _is_of_text(charset):
                return _BY_MARK.get(codecs.lookup(charset).name, codecs.getincrementaldecoder(charset))(
                    "replace"
                )
        except (LookupError, ValueError):
            pass
    return codecs.getincrementaldecoder("utf-8")("replace")


def _is_of_text(charset: str) -> bool:
    """Tell whether a codec is a charset. Raises LookupError for a codec that there is not."""
    return codecs.lookup(charset).name.replace("-", "_") not in _NO_CHARSETS


def _known_charset(headers: Headers) -> str | None:
    """Return the charset that a sender names, if Python has a codec of this name.

    Others are not looked up: for each name that it does not find, Python looks for a file, and remembers that
    there was none, for ever. So a server could fill the memory by naming another charset in each response.
    """
    charset = charset_of(headers)
    if charset is None or len(charset) > _MAX_CHARSET:
        return None
    return charset if encodings.normalize_encoding(charset).lower() in _codecs() else None


@functools.cache
def _codecs() -> frozenset[str]:
    """Return the names of the codecs that Python has, as `encodings.normalize_encoding` writes them."""
    names = {module.name for module in pkgutil.iter_modules(encodings.__path__)}
    # Where the package is in no folder, in a program that was frozen, these are most of them.
    return frozenset(names.union(encodings.aliases.aliases, encodings.aliases.aliases.values()))


def charset_of(headers: Headers) -> str | None:
    """Return the charset parameter of the Content-Type, or None."""
    value = headers.get("content-type")
    if value is None or "charset" not in value.lower():
        return None
    position = value.find(";")
    while position >= 0 and (parameter := _PARAMETER.match(value, position)):
        name, quoted, token = parameter.groups()
        if name is not None and name.lower() == "charset":
            return (token or None) if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = parameter.end()
    return None
