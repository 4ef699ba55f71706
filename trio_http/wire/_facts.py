"""What a header section says about its message and its connection, found once per head.

Nearly every head says one of a few things here, so `Facts` are shared objects, never changed once made. The
one fact that differs from message to message, the length of the body, is kept beside them
(`Headers.content_length`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ._errors import ProtocolError, shown
from ._grammar import MAX_LENGTH_DIGITS

# The fields that frame a message (RFC 9112 §6), and all that decide on it or its connection.
FRAMING: Final = frozenset([b"content-length", b"transfer-encoding"])
TELLING: Final = FRAMING | {b"connection", b"expect", b"upgrade"}
BESIDE_CONNECTION: Final = TELLING - {b"connection"}


class Facts:
    """Coding, persistence and switching, as one header section states them.

    Attributes:
      chunked: a Transfer-Encoding of chunked is present.
      close, keep_alive: the connection options of RFC 9112 §9.3.
      expect_continue: Expect holds 100-continue and nothing else (RFC 9110 §10.1.1).
      unknown_expectation: an Expect with anything else, or None.
      upgrade: the Upgrade field's value, when the connection option says that it counts (RFC 9110 §7.8); else
        None.
      usual: nothing of the above but perhaps `keep_alive`: in HTTP/1.1 the length of the body is all there is
        to know.
    """

    __slots__ = (
        "chunked",
        "close",
        "expect_continue",
        "keep_alive",
        "unknown_expectation",
        "upgrade",
        "usual",
    )

    def __init__(
        self,
        *,
        chunked: bool = False,
        close: bool = False,
        keep_alive: bool = False,
        expect_continue: bool = False,
        unknown_expectation: bytes | None = None,
        upgrade: bytes | None = None,
    ) -> None:
        self.chunked = chunked
        self.close = close
        self.keep_alive = keep_alive
        self.expect_continue = expect_continue
        self.unknown_expectation = unknown_expectation
        self.upgrade = upgrade
        self.usual = not (chunked or close or expect_continue or unknown_expectation or upgrade)

    def persistent(self, http_version: bytes) -> bool:
        """Tell whether a message of this version lets its connection live on (RFC 9112 §9.3)."""
        return not self.close and (self.keep_alive or http_version != b"1.0")


NO_FACTS: Final = Facts()  # of a header section with none of the telling fields
# What a Connection field alone says, for its usual values.
BY_CONNECTION: Final = {b"": NO_FACTS, b"keep-alive": Facts(keep_alive=True), b"close": Facts(close=True)}


def gathered(fields: Mapping[bytes, bytes], error: type[ProtocolError]) -> Facts:
    """Return what a header section says.

    Args:
      fields: lower-case name to value, repeats joined.
      error: whose fault it is.

    Raises:
      ProtocolError: ``error``, with the hint 501, for a Transfer-Encoding that is other than chunked, once.
    """
    connection = fields.get(b"connection", b"").lower()
    coding = fields.get(b"transfer-encoding")
    expect = fields.get(b"expect")
    if coding is None and expect is None and connection in BY_CONNECTION:
        return BY_CONNECTION[connection]
    options = _members(connection)
    if coding is not None and coding.lower() != b"chunked":
        raise error(
            f"Transfer-Encoding {shown(coding)}, expected chunked once and nothing else",
            501,
            section="RFC 9112 §6.1",
        )
    expectations = _members((expect or b"").lower())
    expect_continue = expectations == {b"100-continue"}
    return Facts(
        chunked=coding is not None,
        close=b"close" in options,
        keep_alive=b"keep-alive" in options,
        expect_continue=expect_continue,
        unknown_expectation=expect if expectations and not expect_continue else None,
        upgrade=(fields.get(b"upgrade") or None) if b"upgrade" in options else None,
    )


def length_in(value: bytes, error: type[ProtocolError]) -> int:
    """Return the length that a Content-Length states (RFC 9110 §8.6).

    Raises:
      ProtocolError: ``error``: it is not digits, once.
    """
    if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
        raise error(
            f"malformed or repeated Content-Length {shown(value)}, expected 1 to {MAX_LENGTH_DIGITS} digits",
            section="RFC 9112 §6.3",
        )
    return int(value)


def _members(value: bytes) -> set[bytes]:
    """Return the members of a list field; empty ones mean nothing (RFC 9110 §5.6.1)."""
    return {member for item in value.split(b",") if (member := item.strip(b" \t"))}
