"""One side of one HTTP/1.1 connection, as far as it looks on and receives.

It holds the joint state, the receive buffer and the reader of the message under way. Its methods each take
one step of an exchange, for either role, and check it against the state graph. What the peer got wrong is a
`RemoteProtocolError`, and puts the peer in ERROR.

`Engine` adds the steps that send; they are apart only because the two together are too long for one reading.
"""

from __future__ import annotations

from typing import Any, Final

from ._body import NO_BODY, NO_TRAILERS, BodyReader, ChunkedReader, CloseDelimitedReader, LengthReader
from ._buffer import ReceiveBuffer
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import ConnectionClosed, EndOfMessage, InformationalResponse, Request, Response
from ._framing import CHUNKED, CLOSE_DELIMITED, request_framing, response_framing
from ._head import (
    HeadParser,
    RequestParts,
    ResponseParts,
    check_first_byte,
    request_too_long,
    response_too_long,
)
from ._headers import Headers
from ._limits import Leniency, Limits
from ._rules import Rules
from ._section import take_section
from ._sentinels import (
    CLIENT,
    CLOSED,
    DONE,
    ERROR,
    IDLE,
    MIGHT_SWITCH_PROTOCOL,
    NEED_DATA,
    PAUSED,
    SEND_RESPONSE,
    SERVER,
    SWITCHED_PROTOCOL,
    Sentinel,
)
from ._state import FAILED, START, SWITCH_CONNECT, SWITCH_UPGRADE, Cause, State
from ._writers import (
    BodyWriter,
    LengthWriter,
)

_SWITCHING: Final = frozenset([MIGHT_SWITCH_PROTOCOL, SWITCHED_PROTOCOL])
# The answers to these are framed in ways of their own (RFC 9112 §6.3).
_ODD_METHODS: Final = frozenset([b"HEAD", b"CONNECT"])
_HEAD_END: Final = b"\r\n\r\n"
# What was received and used is let go of before the wait for the next message, unless it is short: ten
# thousand idle connections would hold ten thousand last receives. As for what is remembered of heads.
_KEPT_BYTES: Final = 1024


class Incoming:
    """The state of one side, and the steps of an exchange.

    Args:
      our_role: CLIENT or SERVER.
      limits: bounds on what is received.
      lenient: departures from strictness on what is received.

    Raises:
      ValueError: ``our_role`` is neither.
    """

    __slots__ = (
        "_buffer", "_head_due", "_heads", "_interim", "_is_client", "_length_writer", "_plain",
        "_quick_head_bytes", "_reader", "_request_method", "_rules", "_state", "_their_http_version",
        "_waiting_for_100", "_writer",
    )  # fmt: skip

    def __init__(self, our_role: State, limits: Limits, lenient: frozenset[Leniency]) -> None:
        if our_role not in (CLIENT, SERVER):
            raise ValueError(f"expected CLIENT or SERVER, not {our_role!r}")
        self._is_client = our_role is CLIENT
        self._head_due = (
            SEND_RESPONSE if self._is_client else IDLE
        )  # the peer's state in which it owes a head
        self._rules = Rules(limits, lenient, client=self._is_client)
        self._heads = HeadParser(self._rules)
        self._buffer = ReceiveBuffer()
        # Where lines may end in LF, the first CRLF CRLF is perhaps not the end of the first head.
        self._quick_head_bytes = 0 if self._rules.bare_lf else limits.max_head_bytes
        self._state = START
        self._reader: BodyReader | None = None
        self._writer: BodyWriter | None = None  # for as long as our state is SEND_BODY, and no longer
        self._length_writer = LengthWriter()
        self._request_method: bytes | None = None
        self._their_http_version: bytes | None = None
        self._plain = (
            False  # the request is of HTTP/1.1, and neither HEAD nor CONNECT: its answer is framed as usual
        )
        self._waiting_for_100 = False
        self._interim = 0

    # -- looking on ------------------------------------------------------------------------------------------

    @property
    def our_role(self) -> State:
        """CLIENT or SERVER, as given."""
        return CLIENT if self._is_client else SERVER

    @property
    def their_role(self) -> State:
        """The other role."""
        return SERVER if self._is_client else CLIENT

    @property
    def states(self) -> dict[State, State]:
        """A new dict of role to state."""
        return {CLIENT: self._state.client, SERVER: self._state.server}

    @property
    def our_state(self) -> State:
        """Our side's state."""
        return self._state.client if self._is_client else self._state.server

    @property
    def their_state(self) -> State:
        """The peer's state."""
        return self._state.server if self._is_client else self._state.client

    @property
    def their_http_version(self) -> bytes | None:
        """The version in the peer's last head, as in ``b"1.1"``; None before the first one."""
        return self._their_http_version

    @property
    def client_is_waiting_for_100_continue(self) -> bool:
        """The client said ``Expect: 100-continue``, and neither a 100, a final response nor body came since
        (RFC 9110 §10.1.1)."""
        return self._waiting_for_100

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        """The same, when the client is the peer."""
        return self._waiting_for_100 and not self._is_client

    @property
    def trailing_data(self) -> tuple[bytes, bool]:
        """What was received and not used, and whether the peer has ended its side.

        Behind a switch of protocols, these are the first bytes of the new one.
        """
        return self._buffer.peek(), self._buffer.closed

    @property
    def unread_bytes(self) -> int:
        """How many received bytes wait to be looked at."""
        return len(self._buffer)

    @property
    def has_unread(self) -> bool:
        """Bytes were received that were not used yet."""
        return self._buffer.pos < len(self._buffer.data)

    @property
    def is_reusable(self) -> bool:
        """Both messages are complete, and neither side has said that they were the last: `start_next_cycle`
        may come."""
        return self._state.next_cycle is not None

    # -- receiving -------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | bytearray | memoryview | None) -> None:
        """Take in what was read from the connection.

        Args:
          data: the bytes; empty or None at the end of the stream, which may be told repeatedly.

        Raises:
          RuntimeError: bytes came after the end of the stream.
          TypeError: not bytes-like.
        """
        buffer = self._buffer
        if type(data) is bytes and data and buffer.pos == len(buffer.data) and not buffer.closed:
            # Nearly always all that came before was used.
            buffer.data = data
            buffer.pos = buffer.scanned = 0
        elif not data:
            buffer.closed = True
        elif buffer.closed:
            raise RuntimeError("received the end of the stream, then more data")
        elif isinstance(data, (bytes, bytearray, memoryview)):
            buffer.append(bytes(data))
        else:
            raise TypeError(f"expected bytes-like data, not {type(data).__name__}")

    def _take_request(self) -> RequestParts | None:
        """Use the head of a request and enter it in the state; None while it is not here.

        For a server, with the client in IDLE.
        """
        buffer = self._buffer
        data: Any = buffer.data
        pos = buffer.pos
        # The usual case is a fresh receive that holds a head whole; all others take the longer way.
        end = data.find(_HEAD_END, pos, pos + self._quick_head_bytes) if type(data) is bytes else -1
        if end > pos and data[pos] > 0x20:
            section = data[pos:end]
            buffer.pos = buffer.scanned = end + 4
        else:
            section = self._await_request_section()
            if section is None:
                return None
        parts = self._heads.request(section)
        method, _, http_version, headers = parts
        facts = headers.facts
        self._their_http_version = http_version
        following = self._state.requested
        if following is not None and facts.usual and http_version == b"1.1" and method not in _ODD_METHODS:
            # The longer way below comes to the same.
            self._state = following
            self._request_method = method
            self._plain = True
            length = headers.content_length
            self._reader = LengthReader(length) if length else NO_BODY
        else:
            self._begin_request(method, http_version, headers)
            self._reader = self._reader_for(request_framing(facts.chunked, headers.content_length))
        return parts

    def _await_request_section(self) -> bytes | None:
        """Return the head of a request that came in parts, or behind empty lines, or not as it should."""
        buffer = self._buffer
        data, pos = buffer.data, buffer.pos
        while True:  # empty lines before a request are to be ignored (RFC 9112 §2.2)
            if data[pos : pos + 2] == b"\r\n":
                pos += 2
            elif self._rules.bare_lf and data[pos : pos + 1] == b"\n":
                pos += 1
            else:
                break
        if pos > buffer.pos:
            buffer.skip(pos - buffer.pos)
        if pos == len(data) or (data[pos] == 0x0D and pos + 1 == len(data)):
            return None
        check_first_byte(data[pos], request=True)
        return take_section(buffer, self._rules.limits.max_head_bytes, self._rules, request_too_long)

    def _take_response(self) -> ResponseParts | None:
        """Use the head of a response and enter it in the state; None while it is not here.

        For a client, with a request unanswered.
        """
        buffer = self._buffer
        if not len(buffer):
            return None
        check_first_byte(buffer.data[buffer.pos], request=False)
        section = take_section(buffer, self._rules.limits.max_head_bytes, self._rules, response_too_long)
        if section is None:
            return None
        method = self._request_method
        parts = self._heads.response(section, method)
        status, _, http_version, headers = parts
        if status < 200:
            self._interim += 1
            most = self._rules.limits.max_interim
            if self._interim > most:
                raise RemoteProtocolError(
                    f"{self._interim} interim responses to one request, at most {most} are allowed"
                )
            if status == 101 and http_version == b"1.0":
                raise RemoteProtocolError(
                    "101 in an HTTP/1.0 response, expected HTTP/1.1", section="RFC 9110 §15.2"
                )
            self._begin_interim(status, RemoteProtocolError)
        else:
            self._begin_response(status, http_version, headers)
            self._reader = self._reader_for(
                response_framing(method, status, headers.facts.chunked, headers.content_length)
            )
        self._their_http_version = http_version
        return parts

    def _end_theirs(self) -> None:
        """Enter the end of the peer's message in the state."""
        state = self._state
        if self._is_client:
            state = state.by_server[EndOfMessage]
            if len(self._buffer):
                # Nobody asked for what follows: it must not be taken for the next answer (request smuggling,
                # from behind).
                state = state.not_persistent
        else:
            state = state.by_client[EndOfMessage]
            self._waiting_for_100 = False
        self._state = state

    def _take_close(self) -> None:
        """Enter the end of the peer's stream in the state, which must be between messages."""
        if len(self._buffer):
            raise RemoteProtocolError("the connection ended within a head", section="RFC 9112 §8")
        following = (self._state.by_server if self._is_client else self._state.by_client).get(
            ConnectionClosed
        )
        if following is None:
            raise RemoteProtocolError("the connection ended where a response was due", section="RFC 9112 §8")
        self._state = following

    def _standing(self, state: State) -> type[Sentinel]:
        """Return how things stand with a peer in ``state`` when nothing is here that could be told.

        Returns:
          NEED_DATA, PAUSED, or CLOSED for the end of its stream.
        """
        if state is ERROR:
            raise RemoteProtocolError("nothing can be received: the peer's state is ERROR")
        if state in _SWITCHING:
            return PAUSED
        if len(self._buffer) and state is not self._head_due:
            if self._is_client:
                raise RemoteProtocolError(
                    "bytes from the server that answer no request", section="RFC 9112 §9.2"
                )
            if state is DONE:
                return PAUSED
            raise RemoteProtocolError(
                "bytes behind the last request of the connection", section="RFC 9112 §9.6"
            )
        if not self._buffer.closed:
            return NEED_DATA
        self._take_close()
        return CLOSED

    def _reader_for(self, framing: int) -> BodyReader:
        if framing == CHUNKED:
            return ChunkedReader(self._rules)
        if framing == CLOSE_DELIMITED:
            return CloseDelimitedReader()
        return LengthReader(framing) if framing else NO_BODY

    # -- both directions -------------------------------------------------------------------------------------

    def _begin_request(self, method: bytes, http_version: bytes, headers: Headers) -> None:
        state, facts = self._state, headers.facts
        if method == b"CONNECT":
            state = state.proposing.get(SWITCH_CONNECT, state)
        if facts.upgrade is not None and http_version != b"1.0":
            state = state.proposing.get(SWITCH_UPGRADE, state)
        following = state.by_client.get(Request)
        if following is None:
            raise self._forbidden(Request, CLIENT)
        self._state = following if facts.persistent(http_version) else following.not_persistent
        self._request_method = method
        self._plain = http_version == b"1.1" and method not in _ODD_METHODS
        self._waiting_for_100 = facts.expect_continue and http_version != b"1.0"
        self._interim = 0

    def _begin_interim(
        self, status_code: int, error: type[LocalProtocolError] | type[RemoteProtocolError]
    ) -> None:
        if status_code == 101:
            following = self._state.by_server.get(SWITCH_UPGRADE)
            if following is None and InformationalResponse in self._state.by_server:
                raise error("101 response to a request that proposed no upgrade", section="RFC 9110 §15.2.2")
        else:
            following = self._state.by_server.get(InformationalResponse)
        if following is None:
            raise self._forbidden(InformationalResponse, SERVER)
        self._state = following
        if status_code in (100, 101):
            # Another interim response, 103 say, is no answer to the expectation (RFC 9110 §10.1.1).
            self._waiting_for_100 = False

    def _begin_response(self, status_code: int, http_version: bytes, headers: Headers) -> None:
        switching = self._request_method == b"CONNECT" and 200 <= status_code < 300
        following = self._state.by_server.get(SWITCH_CONNECT if switching else Response)
        if following is None:
            raise self._forbidden(Response, SERVER)
        if not headers.facts.persistent(http_version):
            following = following.not_persistent
        self._state = following
        self._waiting_for_100 = False

    def _forbidden(self, cause: Cause, role: State) -> LocalProtocolError | RemoteProtocolError:
        state = self._state.client if role is CLIENT else self._state.server
        error = LocalProtocolError if role is self.our_role else RemoteProtocolError
        return error(f"no {cause.__name__} may come from the {role} in state {state}")

    def _fail(self, *, ours: bool) -> None:
        if ours:
            self._writer = None
        by_client = self._is_client is ours
        self._state = (self._state.by_client if by_client else self._state.by_server)[FAILED]

    # -- between exchanges -----------------------------------------------------------------------------------

    def send_failed(self) -> None:
        """Tell that bytes got from here could not be sent, or not all: our state is ERROR now, whatever it
        was.

        A cancelled or failed send leaves the connection in a state that only the peer knows, and the bytes
        cannot be taken back; without this call the connection would look as if it could be used again.
        """
        self._fail(ours=True)

    def start_next_cycle(self) -> None:
        """Begin the next exchange on this connection; bytes of a pipelined request stay where they are.

        Raises:
          LocalProtocolError: not both sides are DONE. The connection stays as it was.
        """
        following = self._state.next_cycle
        if following is None:
            raise LocalProtocolError(f"not in a reusable state: {self.states}")
        self._state = following
        self._reader = self._writer = self._request_method = None
        self._waiting_for_100 = False
        buffer = self._buffer
        if buffer.pos == len(buffer.data) > _KEPT_BYTES:
            buffer.data = b""
            buffer.pos = buffer.scanned = 0

    @property
    def _trailers(self) -> Headers:
        return NO_TRAILERS if self._reader is None else self._reader.trailers
