"""What a header section says about its message and its connection, found once per head.

A head without any of the five fields that matter here shares one `Facts` object, so the usual request costs one set
operation.
"""

from __future__ import annotations

from typing import Final

from ._errors import LocalProtocolError, ProtocolError, shown
from ._grammar import MAX_LENGTH_DIGITS
from ._headers import Headers

TELLING = frozenset([b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"])


class Facts:
    """Framing, persistence and switching, as one header section states them.

    Attributes:
      content_length: bytes of body, or None without a Content-Length.
      chunked: a Transfer-Encoding of chunked is present.
      close, keep_alive: the connection options of RFC 9112 §9.3.
      expect_continue: ``Expect: 100-continue`` is present (RFC 9110 §10.1.1).
      unknown_expectation: an Expect with anything else, or None.
      upgrade: the Upgrade field's value, when the connection option says that it counts (RFC 9110 §7.8); else None.
      only_length: the Content-Length is all that the section says here.
    """

    __slots__ = (
        "chunked", "close", "content_length", "expect_continue", "keep_alive", "only_length", "unknown_expectation",
        "upgrade",
    )  # fmt: skip

    def __init__(self, content_length: int | None = None) -> None:
        self.content_length = content_length
        self.only_length = content_length is not None
        self.chunked = False
        self.close = False
        self.keep_alive = False
        self.expect_continue = False
        self.unknown_expectation: bytes | None = None
        self.upgrade: bytes | None = None


NO_FACTS: Final = Facts()  # of a header section with none of the telling fields


def facts_of(headers: Headers, error: type[ProtocolError] = LocalProtocolError) -> Facts:
    """Return what ``headers`` says; the answer is kept with it.

    Args:
      error: whose fault a contradiction is. Headers made by their constructor hold none.

    Raises:
      ProtocolError: ``error``, for a repeated or malformed Content-Length (400), or a Transfer-Encoding that is other
        than chunked, once (501).
    """
    facts = headers._facts
    if facts is None:
        telling = headers.by_name.keys() & TELLING
        facts = headers._facts = _gathered(headers.by_name, telling, error) if telling else NO_FACTS
    return facts


def _gathered(index: dict[bytes, bytes], telling: set[bytes], error: type[ProtocolError]) -> Facts:
    content_length = None
    if b"content-length" in telling:
        length = index[b"content-length"]
        if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
            raise error(
                f"malformed or repeated Content-Length {shown(length)}, expected digits once", section="RFC 9112 §6.3"
            )
        content_length = int(length)
    facts = Facts(content_length)
    if len(telling) == 1 and content_length is not None:
        return facts
    facts.only_length = False
    if b"connection" in telling:
        connection = index[b"connection"].lower()
        if connection == b"keep-alive":
            facts.keep_alive = True
        else:
            options = {option.strip(b" \t") for option in connection.split(b",")}
            facts.close = b"close" in options
            facts.keep_alive = b"keep-alive" in options
            if b"upgrade" in options:
                facts.upgrade = index.get(b"upgrade")
    if b"transfer-encoding" in telling:
        coding = index[b"transfer-encoding"]
        if coding.lower() != b"chunked":
            raise error(
                f"Transfer-Encoding {shown(coding)}, expected chunked once and nothing else",
                501,
                section="RFC 9112 §6.1",
            )
        facts.chunked = True
    if b"expect" in telling:
        expect = index[b"expect"]
        if expect.lower() == b"100-continue":
            facts.expect_continue = True
        else:
            facts.unknown_expectation = expect
    return facts


def is_persistent(http_version: bytes, facts: Facts) -> bool:
    """Tell whether a message lets its connection live on (RFC 9112 §9.3)."""
    if facts.close:
        return False
    return http_version != b"1.0" or facts.keep_alive
