"""What a server says before its final response."""

from __future__ import annotations

import attrs

from trio_http.messages import Headers


@attrs.frozen
class InterimResponse:
    """A response that is not the final one (RFC 9110 §15.2).

    Attributes:
      status: 100-199, and never 101, which ends HTTP on its connection.
      headers: its header section; that of a 103 (Early Hints) is what it is sent for (RFC 8297).
    """

    status: int
    headers: Headers
