"""Where a message body ends: RFC 9112 §6.3, as pure functions of the head.

Message length is where smuggling lives, so it is decided here once, for both directions, and nowhere else. A framing is a
length in bytes, or one of the two named values below.
"""

from __future__ import annotations

from typing import Final

from ._facts import Facts

CHUNKED: Final = -1
CLOSE_DELIMITED: Final = -2


def request_framing(facts: Facts) -> int:
    """Return how the body of a request is framed.

    The steps of RFC 9112 §6.3 that concern requests: 3 and 4 (chunked), 6 (length), 7 (nothing: no body).
    """
    if facts.chunked:
        return CHUNKED
    return facts.content_length or 0


def response_framing(request_method: bytes | None, status_code: int, facts: Facts) -> int:
    """Return how the body of a final response is framed.

    Args:
      request_method: of the request that it answers; None when it answers none.
    """
    # 1. and 2. No body, whatever the fields say.
    if request_method == b"HEAD" or status_code in (204, 304):
        return 0
    if request_method == b"CONNECT" and 200 <= status_code < 300:
        return 0
    # 3. and 4. The coding overrides a length; both together were refused before, unless a leniency dropped the length.
    if facts.chunked:
        return CHUNKED
    # 6. A valid length.
    if facts.content_length is not None:
        return facts.content_length
    # 8. All that comes until the connection ends.
    return CLOSE_DELIMITED
