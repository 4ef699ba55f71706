"""One side of one HTTP/1.1 connection: what both faces stand on.

To what `Incoming` does this adds the steps that send, each checked against the same state graph. The h11 face
wraps the steps in events, the message face gives them as they are. What the caller got wrong is a
`LocalProtocolError`, and puts our side in ERROR.
"""

from __future__ import annotations

from typing import Any, Final

from ._errors import LocalProtocolError
from ._events import ConnectionClosed, Data, EndOfMessage, Response
from ._facts import FRAMING, NO_FACTS
from ._framing import CHUNKED, CLOSE_DELIMITED, framed_regardless, request_framing, response_framing
from ._grammar import CRLF, check_target_form
from ._headers import Headers
from ._incoming import Incoming
from ._sentinels import (
    CLOSED,
    ERROR,
    SEND_BODY,
)
from ._writers import (
    STATUS_LINES,
    BodyWriter,
    ChunkedWriter,
    CloseDelimitedWriter,
    status_line,
    write_request_head,
)

_BODILESS: Final = frozenset([204, 304])


class Engine(Incoming):
    """Both directions of one side: the steps of an exchange.

    Args, Raises: as `Incoming`.
    """

    __slots__ = ()

    def _give_request_head(self, method: bytes, target: bytes, headers: Headers) -> bytes:
        """Enter a request of ours in the state and return its head."""
        if not self._is_client:
            raise LocalProtocolError("a server sends no requests")
        headers = headers.sendable()
        facts, length = headers.facts, headers.content_length
        check_target_form(method, target)
        if facts.chunked and length is not None:
            raise LocalProtocolError(
                "a request with both Transfer-Encoding and Content-Length, expected at most one of them",
                section="RFC 9112 §6.2",
            )
        if len(self._buffer):
            raise LocalProtocolError(
                "bytes that answer no request are waiting, so an answer could not be told from them;"
                " expected none: close the connection",
                section="RFC 9112 §9.2",
            )
        self._begin_request(method, b"1.1", headers)
        self._writer = self._writer_for(request_framing(facts.chunked, length))
        return write_request_head(method, target, headers.block or b"")

    def _give_interim(self, status_code: int, reason: bytes, headers: Headers) -> bytes:
        """Enter an interim response of ours in the state and return it."""
        if self._is_client:
            raise LocalProtocolError("a client sends no responses")
        if self._their_http_version == b"1.0":
            raise LocalProtocolError("an interim response to an HTTP/1.0 client", section="RFC 9110 §15.2")
        self._begin_interim(status_code, LocalProtocolError)
        return status_line(status_code, reason) + (_unframed(headers.sendable()).block or b"") + CRLF

    def _give_response_head(self, status_code: int, reason: bytes, headers: Headers) -> bytes:
        """Enter a final response of ours in the state and return its head, with the framing that the client
        can read."""
        block = headers.block
        if block is None:
            headers = headers.sendable()
            block = headers.block or b""
        joint = self._state
        length = headers.content_length
        if (
            length is not None
            and headers.facts is NO_FACTS
            and joint.answered is not None
            and self._plain
            and status_code not in _BODILESS
        ):
            # The usual response goes out as it is; the longer way below makes the same of it.
            self._state = joint.by_server[Response]
            self._waiting_for_100 = False
            self._writer = writer = self._length_writer
            writer.left = length
        else:
            if self._is_client:
                raise LocalProtocolError("a client sends no responses")
            headers, framing = self._framed(status_code, headers)
            block = headers.block or b""
            self._begin_response(status_code, b"1.1", headers)
            if self._state.server is SEND_BODY:  # else the answer opened a tunnel
                self._writer = self._writer_for(framing)
        line = STATUS_LINES.get((status_code, reason)) or status_line(status_code, reason)
        return line + block + CRLF

    def _framed(self, status_code: int, headers: Headers) -> tuple[Headers, int]:
        """Return a final response's fields with those of framing and persistence set right, and its
        framing."""
        method = self._request_method
        if framed_regardless(method, status_code):
            headers = _unframed(headers)
        facts = headers.facts
        # The answer to HEAD has the fields that the answer to GET would have, and no body (RFC 9110 §9.3.2).
        framing = response_framing(
            b"GET" if method == b"HEAD" else method, status_code, facts.chunked, headers.content_length
        )
        old_client = self._their_http_version is None or self._their_http_version == b"1.0"
        # A client that has ended its side, or whose bytes we cannot read any further, sends no other request.
        closing = not self._state.keep_alive or self._state.client in (CLOSED, ERROR)
        if framing < 0:
            headers = _unframed(headers)
            if old_client:
                framing = CLOSE_DELIMITED
                closing = closing or method != b"HEAD"
            else:
                framing = CHUNKED
                headers = headers.replaced(b"Transfer-Encoding", b"chunked")
        if closing:
            headers = _with_option(headers, b"close", instead_of=b"keep-alive")
        elif self._their_http_version == b"1.0" and not (facts.close or facts.keep_alive):
            # An HTTP/1.0 client asked for persistence, and takes silence for a no (RFC 9112 §9.3, appendix
            # C.2.2).
            headers = _with_option(headers, b"keep-alive", instead_of=b"close")
        return headers, 0 if method == b"HEAD" else framing

    def _give_data(self, data: Any) -> list[Any]:
        """Enter a piece of our body in the state and return what to send for it."""
        writer = self._writer
        if writer is None:
            raise self._forbidden(Data, self.our_role)
        self._waiting_for_100 = False  # a client that sends its body waits no longer
        return writer.data(data)

    def _give_end(self, trailers: Headers) -> bytes:
        """Enter the end of our message in the state and return what to send for it."""
        writer = self._writer
        if writer is None:
            raise self._forbidden(EndOfMessage, self.our_role)
        end = writer.end(trailers)
        joint = self._state
        self._state = (joint.by_client if self._is_client else joint.by_server)[EndOfMessage]
        self._writer = None
        self._waiting_for_100 = False
        return end

    def _give_close(self) -> None:
        """Enter in the state that we send no more."""
        following = (self._state.by_client if self._is_client else self._state.by_server).get(
            ConnectionClosed
        )
        if following is None:
            raise self._forbidden(ConnectionClosed, self.our_role)
        self._state = following

    def _writer_for(self, framing: int) -> BodyWriter:
        if framing == CHUNKED:
            return ChunkedWriter()
        if framing == CLOSE_DELIMITED:
            return CloseDelimitedWriter()
        self._length_writer.left = framing
        return self._length_writer


def _unframed(headers: Headers) -> Headers:
    """Return ``headers`` without framing fields, which have no place there (RFC 9110 §8.6, RFC 9112 §6.1)."""
    if FRAMING.isdisjoint(headers.by_name):
        return headers
    return headers.replaced(b"Content-Length").replaced(b"Transfer-Encoding")


def _with_option(headers: Headers, option: bytes, *, instead_of: bytes) -> Headers:
    """Return ``headers`` with a connection option added and another removed (RFC 9110 §7.6.1)."""
    present = headers.by_name.get(b"connection", b"").lower().split(b",")
    options = {each for each in (item.strip(b" \t") for item in present) if each}
    options.discard(instead_of)
    options.add(option)
    return headers.replaced(b"Connection", *sorted(options))
