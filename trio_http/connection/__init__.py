"""The wire joined to one transport: the one place where both meet, and the clock that watches such
connections."""

from __future__ import annotations

from ._connection import HTTPConnection as HTTPConnection
from ._pace import Pace as Pace
from ._paced_connection import PacedConnection as PacedConnection
from ._ticker import Ticker as Ticker
from ._ticker import Timed as Timed
