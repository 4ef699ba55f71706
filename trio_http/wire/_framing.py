"""Where a message body ends: RFC 9112 §6.3, as pure functions of the head.

Message length is where smuggling lives, so it is decided here once, for both directions, and nowhere else. A
framing is a length in bytes, or one of the two named values below.
"""

from __future__ import annotations

from typing import Final

CHUNKED: Final = -1
CLOSE_DELIMITED: Final = -2


def request_framing(chunked: bool, content_length: int | None) -> int:
    """Return how the body of a request is framed.

    The steps of RFC 9112 §6.3 that concern requests: 3 and 4 (chunked), 6 (length), 7 (nothing: no body).
    """
    return CHUNKED if chunked else content_length or 0


def framed_regardless(request_method: bytes | None, status_code: int) -> bool:
    """Tell whether a response has neither body nor framing fields; such fields in it are to be ignored (RFC
    9112 §6.3).

    The answers to HEAD and the 304 have no body either, but their fields tell what another answer would have.
    """
    return status_code < 200 or status_code == 204 or (request_method == b"CONNECT" and status_code < 300)


def response_framing(
    request_method: bytes | None, status_code: int, chunked: bool, content_length: int | None
) -> int:
    """Return how the body of a response is framed.

    Args:
      request_method: of the request that it answers; None when it answers none.
    """
    # 1. and 2. No body, whatever the fields say.
    if request_method == b"HEAD" or status_code == 304 or framed_regardless(request_method, status_code):
        return 0
    # 3. and 4. The coding overrides a length; both together were refused before, unless a leniency dropped
    # the length.
    if chunked:
        return CHUNKED
    # 6. A valid length.
    if content_length is not None:
        return content_length
    # 8. All that comes until the connection ends.
    return CLOSE_DELIMITED
