"""Who watches a server: what it tells, to whom, and two that come with the package, a log and counters."""

from __future__ import annotations

from ._access_log import AccessLog as AccessLog
from ._counters import Counters as Counters
from ._instruments import Instruments as Instruments
from ._instruments import ServerInstrument as ServerInstrument
from ._records import CloseRecord as CloseRecord
from ._records import ConnectionRecord as ConnectionRecord
from ._records import ExchangeRecord as ExchangeRecord
