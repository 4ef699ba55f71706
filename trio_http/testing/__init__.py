"""Tools for tests of HTTP programs, and of Trio programs in general."""

from __future__ import annotations

from ._cancel_point import CancelPoint as CancelPoint
from ._faulty_stream import Faults as Faults
from ._faulty_stream import FaultyStream as FaultyStream
from ._invariants import DEFAULT_INVARIANTS as DEFAULT_INVARIANTS
from ._invariants import Invariant as Invariant
from ._invariants import no_descriptor_left as no_descriptor_left
from ._invariants import no_resource_warning as no_resource_warning
from ._invariants import no_stream_left as no_stream_left
from ._invariants import no_task_left as no_task_left
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
from ._sweep import cancel_at_every_step as cancel_at_every_step
from ._sweep_report import RunState as RunState
from ._sweep_report import SweepFailed as SweepFailed
from ._sweep_report import SweepReport as SweepReport
from ._task_tree import Place as Place
