"""The wire joined to one transport: the one place where both meet, and the clock that watches such
connections."""

from __future__ import annotations

from ._connection import HTTPConnection as HTTPConnection
from ._ticker import Ticker as Ticker
from ._ticker import Timed as Timed
