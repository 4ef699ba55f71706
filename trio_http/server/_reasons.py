"""Why a server cancels what it runs."""

from __future__ import annotations

import enum


class CancelReason(enum.Enum):
    """Why a connection's scope was cancelled; the value is also `trio.Cancelled.reason`.

    A handler can meet the first five, as `Request.cancel_reason`. The other two end a connection between or
    before requests, and appear in the log and the instruments only.
    """

    CLIENT_DISCONNECTED = "client disconnected"
    BODY_TOO_SLOW = "body too slow"
    WRITE_STALLED = "write stalled"
    DRAIN = "drain"
    DEADLINE = "deadline"
    HEAD_TOO_SLOW = "head too slow"
    IDLE = "idle for too long"
