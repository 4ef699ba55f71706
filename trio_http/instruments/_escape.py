"""Text of a peer, made fit to stand in a line of a log.

Whatever a client sends (target, fields, the host in a ``Forwarded``) may hold control characters, which would
begin a line of their own or steer the terminal of whoever reads it; quotes, which would end a quoted field;
and bytes that are text in no agreed encoding. The rule is Apache's (mod_log_config, "Format Notes", since
2.0.46; nginx's default is close to it):

- printable ASCII, 0x20-0x7E, stands for itself, but for the two that follow;
- ``"`` and ``\\`` get a ``\\`` before them;
- backspace, line feed, carriage return, tab and vertical tab are ``\\b \\n \\r \\t \\v``;
- any other byte is ``\\xhh``, with two lower case digits.

The rule can be undone: different texts never look the same. Text comes from the wire as Latin-1, a character
a byte. Beyond Latin-1, which no message can hold, a character is ``\\uhhhh`` or ``\\Uhhhhhhhh``.
"""

from __future__ import annotations

from typing import Final


class _Escapes(dict[int, str]):
    """A table for `str.translate`, which fills itself with what is beyond Latin-1."""

    def __missing__(self, code: int) -> str:
        return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


_NAMED: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}

_QUOTED: Final = _Escapes(
    {code: chr(code) if 0x20 <= code <= 0x7E else f"\\x{code:02x}" for code in range(0x100)}
    | {ord(character): escape for character, escape in _NAMED.items()}
)
_BARE: Final = _Escapes(_QUOTED | {0x20: "\\x20"})


def escape_quoted(text: str) -> str:
    """Return text as it stands between quotes in a log line."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text  # nearly always, in a quarter of the time
    return text.translate(_QUOTED)


def escape_bare(text: str) -> str:
    """Return text as it stands in a log line without quotes, where a space would begin the next field."""
    return text.translate(_BARE)
