"""What a server's process says to the one that looks at it: lines of JSON on standard output.

Each has the time of the system's monotonic clock, which is the same in all processes of one machine.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

HELLO = b"Hello, world!"
ENDLESS = 1 << 30
"""Bytes of an answer that nobody reads to its end."""
PIECE = bytes(16 * 1024)

handed_over: dict[str, int] = {}
"""How many bytes of an `ENDLESS` answer its handler could hand over so far, by the key of its request."""


def report(what: str, key: str = "", **facts: Any) -> None:
    """Write one report, in one piece.

    Args:
      what: it is about.
      key: the last segment of the request's path, which its client has chosen; "" for the server itself.
      facts: what `json` takes.
    """
    line = json.dumps({"report": what, "key": key, "at": time.monotonic(), **facts}) + "\n"
    os.write(1, line.encode())
