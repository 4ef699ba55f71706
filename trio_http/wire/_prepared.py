"""A request that is checked and written once, and sent any number of times."""

from __future__ import annotations

from ._headers import Headers
from ._state import JointState


class PreparedRequest:
    """A whole request, ready for any connection; made by `MessageConnection.prepare_request`.

    Programs ask for the same things again and again. What a request is made of is then checked once, and
    sending it costs a look at the state.

    Attributes:
      method, target, headers, content: of the request, as they go out.
      data: all its bytes.
    """

    # For this package alone:
    #   following: where it leads a connection that has begun no exchange.
    #   plain: its answer is framed as usual, as that to GET is.
    __slots__ = ("content", "data", "following", "headers", "method", "plain", "target")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        content: bytes,
        data: bytes,
        following: JointState,
        plain: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.content = content
        self.data = data
        self.following = following
        self.plain = plain

    def __repr__(self) -> str:
        return f"<PreparedRequest {self.method!r} {self.target!r}, {len(self.data)} bytes>"
