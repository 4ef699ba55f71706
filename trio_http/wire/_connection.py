"""The h11 face: one side of a connection as events in and events out.

Programs written for h11 0.16 run on it. What it does differently, always on the strict side, is one table in
the reference.
"""

from __future__ import annotations

from typing import Any, Final

from ._body import NO_BODY
from ._engine import Engine
from ._errors import LocalProtocolError
from ._events import (
    ConnectionClosed,
    Data,
    EndOfMessage,
    Event,
    InformationalResponse,
    Request,
    Response,
    data_event,
    request_event,
    response_event,
)
from ._limits import STRICT, Leniency, Limits
from ._sentinels import CLOSED, SEND_BODY, Sentinel
from ._sentinels import NEED_DATA as NEED_DATA  # h11 has the two marks here, too
from ._sentinels import PAUSED as PAUSED
from ._state import State

# h11's name and value for what we call `Limits.max_head_bytes`; real programs import it from here.
DEFAULT_MAX_INCOMPLETE_EVENT_SIZE: Final = 16 * 1024

_H11_LIMITS: Final = Limits(max_head_bytes=DEFAULT_MAX_INCOMPLETE_EVENT_SIZE)
_CLOSED_EVENT: Final = ConnectionClosed()
_END_OF_MESSAGE: Final = EndOfMessage()


class Connection(Engine):
    """One side of an HTTP/1.1 connection, without I/O: give it what you received, send what it gives you.

    Args:
      our_role: CLIENT or SERVER.
      max_incomplete_event_size: h11's name for ``limits.max_head_bytes``; 16 KiB unless either is given.
      limits: bounds on what is received.
      lenient: departures from strictness on what is received.

    Raises:
      ValueError: ``our_role`` is neither, or the size is given twice.
    """

    __slots__ = ()

    def __init__(
        self,
        our_role: State,
        max_incomplete_event_size: int | None = None,
        *,
        limits: Limits | None = None,
        lenient: frozenset[Leniency] = STRICT,
    ) -> None:
        if max_incomplete_event_size is not None:
            if limits is not None:
                raise ValueError("max_incomplete_event_size is limits.max_head_bytes: give one of the two")
            limits = Limits(max_head_bytes=max_incomplete_event_size)
        super().__init__(our_role, limits or _H11_LIMITS, lenient)

    def next_event(self) -> Event | type[Sentinel]:
        """Return the next event that the received bytes make up.

        Returns:
          An event; NEED_DATA when more bytes are needed first; PAUSED when the peer's bytes belong to a later
          exchange or to another protocol, so that we have to act first.

        Raises:
          RemoteProtocolError: the peer broke the protocol or a limit. Its state is ERROR now, and each
            further call raises.
        """
        joint = self._state
        is_client = self._is_client
        state = joint.server if is_client else joint.client
        try:
            if state is SEND_BODY:
                reader = self._reader
                assert reader is not None
                if reader is NO_BODY and not is_client:
                    self._state = joint.by_client[EndOfMessage]
                    self._waiting_for_100 = False
                    return _END_OF_MESSAGE
                piece = reader.read(self._buffer)
                if piece:
                    self._waiting_for_100 = False
                    return data_event(piece, reader.chunk_start, reader.chunk_end, reader.chunk_extension)
                if piece is None:
                    return NEED_DATA
                self._end_theirs()
                trailers = reader.trailers
                return EndOfMessage(headers=trailers) if trailers.items else _END_OF_MESSAGE
            if state is self._head_due:
                if is_client:
                    response = self._take_response()
                    if response is not None:
                        return response_event(*response)
                else:
                    request = self._take_request()
                    if request is not None:
                        return request_event(*request)
            told = self._standing(state)
            return _CLOSED_EVENT if told is CLOSED else told
        except BaseException:
            self._fail(ours=False)
            raise

    def send(self, event: Event) -> bytes | None:
        """Return the bytes that tell ``event`` to the peer, and enter it in our state.

        Args:
          event: one of the six event types themselves, not of a subclass.

        Returns:
          What to send, perhaps ``b""``; None for `ConnectionClosed`: close the connection, or your half of
          it.

        Raises:
          LocalProtocolError: the event is not allowed now, or contradicts what was sent. Nothing was written;
            our state is ERROR.
        """
        kind = type(event)  # exactly: an event of a subclass could carry anything
        given: Any = event
        by_length = self._length_writer
        try:
            if kind is Data:
                data = given.data
                if self._writer is by_length and type(data) is bytes and len(data) <= by_length.left:
                    # What most bodies come to, by the shortest way.
                    by_length.left -= len(data)
                    self._waiting_for_100 = False
                    return data
                return b"".join(self._give_data(data))
            if kind is EndOfMessage:
                if self._writer is not by_length or by_length.left or self._is_client or given.headers.items:
                    return self._give_end(given.headers)
                # As above: a body of declared length, sent to its end.
                self._state = self._state.by_server[EndOfMessage]
                self._writer = None
                return b""
            if kind is Response and given.http_version == b"1.1":
                return self._give_response_head(given.status_code, given.reason, given.headers)
            return self._give_other(kind, given)
        except BaseException:
            self._fail(ours=True)
            raise

    def _give_other(self, kind: type[Event], event: Any) -> bytes | None:
        """Enter an event in our state and return its bytes; all but the three that a server sends all the
        time."""
        if kind is ConnectionClosed:
            self._give_close()
            return None
        if kind is not Request and kind is not InformationalResponse and kind is not Response:
            raise LocalProtocolError(f"cannot send a {kind.__name__}, expected one of the six event types")
        if event.http_version != b"1.1":
            raise LocalProtocolError(
                f"only HTTP/1.1 is sent, not {event.http_version!r}", section="RFC 9112 §2.3"
            )
        if kind is Request:
            return self._give_request_head(event.method, event.target, event.headers)
        return self._give_interim(event.status_code, event.reason, event.headers)

    def send_with_data_passthrough(self, event: Event) -> list[Any] | None:
        """Return what `send` would, as a list of pieces in which ``Data.data`` stands as the object it is.

        Only its length is looked at, so it may be a placeholder for a file to be sent by the operating
        system.
        """
        if type(event) is not Data:
            whole = self.send(event)
            return None if whole is None else [whole]
        try:
            return self._give_data(event.data)
        except BaseException:
            self._fail(ours=True)
            raise
