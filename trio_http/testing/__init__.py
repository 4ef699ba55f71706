"""Tools for tests of HTTP programs, and of Trio programs in general."""

from __future__ import annotations

from ._faulty_stream import Faults as Faults
from ._faulty_stream import FaultyStream as FaultyStream
from ._open_client import open_client as open_client
from ._recorded import RecordedExchange as RecordedExchange
from ._recorded import RecordedRequest as RecordedRequest
from ._recorded import RecordedResponse as RecordedResponse
from ._recording import Recording as Recording
from ._replay import Replay as Replay
from ._replay import UnexpectedRequest as UnexpectedRequest
from ._scripted_peer import ScriptedPeer as ScriptedPeer
from ._streams import MemoryStream as MemoryStream
from ._streams import memory_pair as memory_pair
from ._sweep import CancelPoint as CancelPoint
from ._sweep import SweepReport as SweepReport
from ._sweep import cancel_at_every_step as cancel_at_every_step
