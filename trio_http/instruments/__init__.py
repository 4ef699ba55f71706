"""Who watches a server or a client: what it tells, to whom, and three that come with the package: a log and
counters for servers, an archive for clients.
"""

from __future__ import annotations

from ._access_log import AccessLog as AccessLog
from ._client_instrument import ClientInstrument as ClientInstrument
from ._client_instrument import ClientInstruments as ClientInstruments
from ._client_records import ClientCloseRecord as ClientCloseRecord
from ._client_records import ClientExchangeRecord as ClientExchangeRecord
from ._client_records import DialRecord as DialRecord
from ._client_records import Fate as Fate
from ._client_records import Outcome as Outcome
from ._counters import Counters as Counters
from ._har import HarRecorder as HarRecorder
from ._instruments import Instruments as Instruments
from ._instruments import ServerInstrument as ServerInstrument
from ._records import CloseRecord as CloseRecord
from ._records import ConnectionRecord as ConnectionRecord
from ._records import ExchangeRecord as ExchangeRecord
from ._redaction import SENSITIVE_FIELDS as SENSITIVE_FIELDS
from ._redaction import Redaction as Redaction
