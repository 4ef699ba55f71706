"""The message face: whole heads and whole messages in one step, for programs that care about time.

It stands on the same engine as the h11 face and makes the same decisions; it only leaves out the events
between. Server and client of this package use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ._body import NO_BODY, BodyReader
from ._engine import Engine
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import EndOfMessage, check_hosts, checked_reason, checked_status
from ._facts import FRAMING, NO_FACTS
from ._framing import response_framing
from ._grammar import REASONS, as_bytes, check_method, check_target
from ._head import RequestHead, ResponseHead
from ._headers import Headers, HeadersInput
from ._limits import STRICT, Leniency, Limits
from ._prepared import PreparedRequest
from ._sentinels import CLIENT, ERROR, NEED_DATA, SEND_BODY, Sentinel
from ._state import START, State
from ._writers import STATUS_LINES

P = ParamSpec("P")
T = TypeVar("T")

_EMPTY = Headers()
_DEFAULT_LIMITS = Limits()

_PLAIN_STATUS_LINES = {
    status: STATUS_LINES[status, reason]
    for status, reason in REASONS.items()
    if status >= 200 and status not in (204, 304)
}

# Methods whose request says so when it has no content: they anticipate some (RFC 9110 §8.6).
_ANTICIPATING = frozenset([b"POST", b"PUT", b"PATCH"])


# A message longer than this is not remembered: it would be held for as long as the connection lives. As for
# field blocks.
_REMEMBERED_BYTES = 1024


class MessageConnection(Engine):
    """One side of an HTTP/1.1 connection, without I/O, by whole heads and messages.

    What repeats itself is not looked at twice. A peer that sends the same request or response again, byte for
    byte, as pollers and those they ask do, gets us the same head; and the fields that a handler sends are
    joined with the common ones once, for as long as both are the same objects.

    Args:
      our_role: CLIENT or SERVER.
      limits: bounds on what is received.
      lenient: departures from strictness on what is received.

    Raises:
      ValueError: ``our_role`` is neither.
    """

    __slots__ = (
        "_last_block", "_last_common", "_last_head", "_last_headers", "_last_received", "_last_response",
    )  # fmt: skip

    def __init__(
        self, our_role: State, limits: Limits = _DEFAULT_LIMITS, lenient: frozenset[Leniency] = STRICT
    ) -> None:
        super().__init__(our_role, limits, lenient)
        # A receive that was a whole message, and what it was: a request without a body, or a response.
        self._last_received: bytes | None = None
        self._last_head: RequestHead | None = None
        self._last_response: tuple[ResponseHead, bytes] | None = None
        self._last_headers = self._last_common = _EMPTY
        self._last_block = b""

    # -- receiving -------------------------------------------------------------------------------------------

    def next_head(self) -> RequestHead | ResponseHead | type[Sentinel]:
        """Return the next head that the received bytes make up.

        Returns:
          A `RequestHead` for a server, a `ResponseHead` for a client, interim ones too; NEED_DATA when more
          bytes are needed first; PAUSED when the peer's bytes belong to a later exchange or to another
          protocol; CLOSED when the peer has ended the connection where it may.

        Raises:
          RemoteProtocolError: the peer broke the protocol or a limit. Its state is ERROR now, and each
            further call raises.
          LocalProtocolError: the body of the last message was not read to its end.
        """
        joint = self._state
        is_client = self._is_client
        state = joint.server if is_client else joint.client
        if state is SEND_BODY:
            raise LocalProtocolError("the body comes first: read it to its end")
        try:
            if state is self._head_due:
                if is_client:
                    response = self._take_response()
                    if response is not None:
                        return self._response_head(*response)
                else:
                    buffer = self._buffer
                    received = buffer.data
                    following = joint.repeated if buffer.pos == 0 else None  # None: not from its beginning
                    if received == self._last_received and following is not None:
                        head = self._last_head
                        assert head is not None
                        buffer.pos = buffer.scanned = len(received)
                        self._state = following
                        self._request_method = head.method
                        self._their_http_version = head.http_version
                        self._plain = True
                        self._reader = NO_BODY
                        return head
                    request = self._take_request()
                    if request is not None:
                        method, target, http_version, headers = request
                        head = RequestHead(method, target, http_version, headers)
                        if self._reader is NO_BODY:
                            self._end_theirs()
                            if (
                                self._state is following
                                and self._plain
                                and type(received) is bytes
                                and buffer.data is received
                                and buffer.pos == len(received) <= _REMEMBERED_BYTES
                            ):
                                self._last_received, self._last_head = received, head
                        return head
            return self._standing(state)
        except BaseException:
            self._fail(ours=False)
            raise

    def next_response(self) -> tuple[RequestHead | ResponseHead | type[Sentinel], bytes | None]:
        """Return the next head, as `next_head` does, and with it the content if that is here to its end.

        For a client.

        Returns:
          What `next_head` returns; and of a final response the content, when it and nothing behind it is
          here: the message is then complete. None otherwise: `next_data` reads the body of a final response.

        Raises: as `next_head`.
        """
        buffer = self._buffer
        received = buffer.data
        fresh = buffer.pos == 0
        following = self._state.answered if fresh and self._plain else None
        if received == self._last_received and following is not None:
            assert self._last_response is not None
            buffer.pos = buffer.scanned = len(received)
            self._state = following
            self._their_http_version = b"1.1"
            self._waiting_for_100 = False
            self._reader = NO_BODY
            return self._last_response
        head = self.next_head()
        if type(head) is not ResponseHead or head.status_code < 200:
            return head, None
        framing = head.framing
        if framing == 0:
            content = b""
        elif framing == len(buffer.data) - buffer.pos:
            content = bytes(buffer.data[buffer.pos :])
            buffer.pos = buffer.scanned = len(buffer.data)
            self._reader = NO_BODY
            self._state = self._state.by_server[EndOfMessage]
        else:
            return head, None
        if (
            self._state is following
            and type(received) is bytes
            and buffer.data is received
            and buffer.pos == len(received) <= _REMEMBERED_BYTES
            and head.http_version == b"1.1"
        ):
            self._last_received, self._last_response = received, (head, content)
        return head, content

    def _response_head(
        self, status_code: int, reason: bytes, http_version: bytes, headers: Headers
    ) -> ResponseHead:
        framing = 0
        if self._state.server is SEND_BODY:  # else what came was interim, or a switch of protocols
            facts = headers.facts
            framing = response_framing(
                self._request_method, status_code, facts.chunked, headers.content_length
            )
            if framing == 0:
                self._end_theirs()
        return ResponseHead(status_code, reason, http_version, headers, framing)

    def next_data(self) -> bytes | type[Sentinel]:
        """Return the next piece of the body under way.

        Returns:
          Bytes, at least one: all that is here, however many chunks it came in; ``b""`` when the body is
          complete, and the message with it; NEED_DATA when more bytes are needed first.

        Raises:
          RemoteProtocolError: the peer broke the framing, or ended the connection within the body. What came
            before was returned before.
          LocalProtocolError: no body is under way.
        """
        joint = self._state
        state = joint.server if self._is_client else joint.client
        reader = self._reader
        if state is not SEND_BODY or reader is None:
            if state is ERROR:
                raise RemoteProtocolError("nothing can be received: the peer's state is ERROR")
            if reader is not None:
                return b""  # the message is complete already
            raise LocalProtocolError(f"no body is under way, the peer's state is {state}")
        try:
            piece = reader.read(self._buffer)
            if piece == b"":
                self._end_theirs()
        except BaseException:
            self._fail(ours=False)
            raise
        if piece is None:
            return NEED_DATA
        if piece:
            self._waiting_for_100 = False
            if reader.chunk_end and len(self._buffer):
                return self._with_further_chunks(piece, reader)
        return piece

    def _with_further_chunks(self, piece: bytes, reader: BodyReader) -> bytes:
        pieces = [piece]
        try:
            while further := reader.read(self._buffer):
                pieces.append(further)
        except RemoteProtocolError:
            pass  # nothing was used: the next call meets the error again, and raises it
        return b"".join(pieces)  # the end, if it is here, is told by the next call

    @property
    def trailers(self) -> Headers:
        """The trailer section of the message that came last; empty before its end, and without one."""
        return self._trailers

    # -- sending ---------------------------------------------------------------------------------------------

    def send_request(
        self, method: bytes | str, target: bytes | str, headers: HeadersInput, content: bytes | None = None
    ) -> bytes:
        """Return a request to send.

        Args:
          method, target: as they shall stand on the wire.
          headers: the header section, with a Host.
          content: the whole body, which completes the message; a Content-Length is added when no framing
            field is there and either the content or the method asks for one. None: the head alone, and the
            body follows by its framing.

        Raises:
          LocalProtocolError: a part breaks the grammar, and the connection is as it was; or the message may
            not be sent now or contradicts itself, and our state is ERROR. Nothing was written.
        """
        method, target = as_bytes(method), as_bytes(target)
        if type(headers) is not Headers:
            headers = Headers(headers)
        check_method(method)
        check_target(target)
        check_hosts(headers, b"1.1")
        with_content = bool(content) or (content is not None and method in _ANTICIPATING)
        if with_content and FRAMING.isdisjoint(headers.by_name):
            headers = headers.replaced(b"Content-Length", b"%d" % len(content or b""))
        if content is None:
            return self._sent(self._give_request_head, method, target, headers)
        return self._sent(self._whole_request, method, target, headers, content)

    def prepare_request(
        self, method: bytes | str, target: bytes | str, headers: HeadersInput, content: bytes = b""
    ) -> PreparedRequest:
        """Check and write a whole request, for `send_prepared` of this connection or any other.

        For a client that has begun no exchange; it is as if nothing had been done.

        Args, Raises: as `send_request`.
        """
        if self._state is not START or len(self._buffer):
            raise LocalProtocolError("an exchange was begun, and requests are prepared on a fresh connection")
        fields = headers if type(headers) is Headers else Headers(headers)
        try:
            data = self.send_request(method, target, fields, content)
            sent = self._request_method or b""
            return PreparedRequest(sent, as_bytes(target), fields, content, data, self._state, self._plain)
        finally:
            self._state = START
            self._writer = self._request_method = None
            self._waiting_for_100 = False

    def send_prepared(self, request: PreparedRequest) -> bytes:
        """Return a prepared request to send, whole.

        Raises: as `send_request`; what can be wrong with the request itself was found when it was prepared.
        """
        if self._state is not START or not self._is_client or len(self._buffer):
            return self.send_request(request.method, request.target, request.headers, request.content)
        # What `_give_request_head` and the end of the message come to.
        self._state = request.following
        self._request_method = request.method
        self._plain = request.plain
        self._waiting_for_100 = False
        self._interim = 0
        return request.data

    def _whole_request(self, method: bytes, target: bytes, headers: Headers, content: bytes) -> bytes:
        head = self._give_request_head(method, target, headers)
        body = self._give_data(content) if content else []
        return b"".join([head, *body, self._give_end(_EMPTY)])

    def send_response(
        self,
        status_code: int,
        headers: HeadersInput,
        content: bytes | None = None,
        *,
        reason: bytes | str | None = None,
        common: Headers = _EMPTY,
    ) -> bytes:
        """Return a response to send.

        Args:
          status_code: below 200 for an interim response, which has no content.
          headers: the header section.
          content: the whole body, which completes the message; a Content-Length is added when no framing
            field is there. The answer to HEAD has the length and not the content. None: the head alone, and
            the body follows.
          reason: the reason phrase; None for the registered one.
          common: field lines to add unless ``headers`` has the name; each name once. Made to be the same
            object for many responses.

        Raises:
          LocalProtocolError: a part breaks the grammar, and the connection is as it was; or the message may
            not be sent now or contradicts itself, and our state is ERROR. Nothing was written.
        """
        if type(headers) is not Headers:
            headers = Headers(headers)
        if headers.block is None:
            headers = headers.sendable()
        answered = self._state.answered
        line = _PLAIN_STATUS_LINES.get(status_code)
        if (
            answered is not None
            and line is not None
            and content is not None
            and reason is None
            and self._plain
        ):
            # The usual response, by the shortest way; the longer one below makes the same of it.
            if headers is self._last_headers and common is self._last_common:
                block: bytes | None = self._last_block
            else:
                block = self._plain_block(headers, common)
            if block is not None:
                self._state = answered
                self._waiting_for_100 = False
                return b"%s%sContent-Length: %d\r\n\r\n%s" % (line, block, len(content), content)
        if common.items:
            missing = _missing(common, headers)
            headers = Headers([*headers.raw_items(), *missing.raw_items()])
        status_code = checked_status(status_code, interim=_is_interim(status_code))
        phrase = REASONS.get(status_code, b"") if reason is None else checked_reason(reason)
        if status_code < 200:
            if content:
                raise LocalProtocolError("an interim response has no content", section="RFC 9110 §15.2")
            return self._sent(self._give_interim, status_code, phrase, headers)
        if content is None:
            return self._sent(self._give_response_head, status_code, phrase, headers)
        if FRAMING.isdisjoint(headers.by_name) and (content or status_code not in (204, 304)):
            headers = headers.replaced(b"Content-Length", b"%d" % len(content))
        return self._sent(self._whole_response, status_code, phrase, headers, content)

    def _plain_block(self, headers: Headers, common: Headers) -> bytes | None:
        """Return the field lines of a usual response, and remember them; None when it is not usual."""
        if (
            self._is_client
            or headers.block is None
            or headers.facts is not NO_FACTS
            or headers.content_length is not None
            or common.block is None
            or common.facts is not NO_FACTS
            or common.content_length is not None
        ):
            return None
        missing = common
        if common.block and not common.by_name.keys().isdisjoint(headers.by_name):
            missing = _missing(common, headers)
        self._last_headers, self._last_common = headers, common
        self._last_block = headers.block + (missing.block or b"")
        return self._last_block

    def _whole_response(self, status_code: int, reason: bytes, headers: Headers, content: bytes) -> bytes:
        head = self._give_response_head(status_code, reason, headers)
        if self.our_state is not SEND_BODY:  # a switch to another protocol, by CONNECT
            if content:
                raise LocalProtocolError(
                    "the answer that opens a tunnel has no content", section="RFC 9110 §9.3.6"
                )
            return head
        body = self._give_data(content) if content and self._request_method != b"HEAD" else []
        return b"".join([head, *body, self._give_end(_EMPTY)])

    def send_data(self, data: bytes | bytearray | memoryview) -> bytes:
        """Return what to send for a piece of the body; perhaps nothing.

        Raises:
          LocalProtocolError: no body is due, or it exceeds its declared length. Our state is ERROR.
        """
        return b"".join(self._sent(self._give_data, data))

    def send_end(self, trailers: HeadersInput = ()) -> bytes:
        """Return what to send at the end of the message; perhaps nothing.

        Args:
          trailers: the trailer section; needs the chunked coding.

        Raises:
          LocalProtocolError: no message is under way, or its body is short of its declared length. Our state
            is ERROR.
        """
        trailers = trailers if isinstance(trailers, Headers) else Headers(trailers)
        return self._sent(self._give_end, trailers)

    def send_close(self) -> None:
        """Enter in our state that we send no more; close the connection, or our half of it, after that."""
        self._sent(self._give_close)

    def _sent(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self.our_state is ERROR:
            raise LocalProtocolError("nothing can be sent: our state is ERROR")
        try:
            return step(*args, **kwargs)
        except BaseException:
            self._fail(ours=True)
            raise


def prepare_request(
    method: bytes | str, target: bytes | str, headers: HeadersInput, content: bytes = b""
) -> PreparedRequest:
    """Check and write a whole request, as `MessageConnection.prepare_request`."""
    return MessageConnection(CLIENT).prepare_request(method, target, headers, content)


def _is_interim(status_code: object) -> bool:
    return isinstance(status_code, int) and status_code < 200


def _missing(common: Headers, headers: Headers) -> Headers:
    """Return the field lines of ``common`` whose names ``headers`` has not."""
    present = headers.by_name.keys()
    return Headers([pair for pair in common.raw_items() if pair[0].lower() not in present])
