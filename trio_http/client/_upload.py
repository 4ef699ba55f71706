"""Content that cannot be sent at once: it goes out beside the reading of the response."""

from __future__ import annotations

from typing import Final

import trio

from trio_http import wire
from trio_http._errors import InvalidRequest

from ._content_source import ContentReader
from ._link import Link
from ._plan import RequestPlan, as_fields

# How much is sent before other tasks run. They wait for about as long as for one exchange of their own.
_UNBROKEN_BYTES: Final = 256 * 1024

# What sending a piece costs besides its bytes, in bytes: a system call, and our part of it. Measured: some 10
# µs, in which this much of a large piece is sent.
_PIECE_COST_BYTES: Final = 16 * 1024


class Upload:
    """The sending of one request's content, in a task of its own.

    A server may answer before it has read everything (a 413, a redirect, an error), and then often stops
    reading. Who sends first and reads afterwards would wait for ever. So the two go on side by side, and a
    final response ends the sending.

    Args:
      link: leased for the request.
      plan: the request.
      reader: its content; None when that is bytes.

    Attributes:
      go_ahead: to be set when the 100 has come.
      source_error: what the content's own source raised, or what is wrong with what it gave. It is the
        caller's.
      send_error: what sending raised. There may be an answer all the same, so it is not told at once.
    """

    def __init__(self, link: Link, plan: RequestPlan, reader: ContentReader | None) -> None:
        self.go_ahead = trio.Event()
        self.source_error: Exception | None = None
        self.send_error: Exception | None = None
        self._link = link
        self._plan = plan
        self._reader = reader
        self._left: int | None = None  # bytes that are declared and have yet to go out; None: not counted

    def head(self) -> bytes:
        """Return the head of the request, framed as its content is (RFC 9112 §6)."""
        plan = self._plan
        headers = plan.headers
        by_name = headers.by_name
        if b"content-length" not in by_name and b"transfer-encoding" not in by_name:
            length = len(plan.content) if isinstance(plan.content, bytes) else None
            if self._reader is not None:
                length = self._reader.length
            if length is None or plan.trailers is not None:
                headers = headers.replaced(b"Transfer-Encoding", b"chunked")
            else:
                headers = headers.replaced(b"Content-Length", b"%d" % length)
        if self._link.watch is not None:
            self._link.watch.headers = headers
        head = self._link.wire.send_request(plan.method, plan.target, headers)
        self._left = headers.content_length
        return head

    async def run(self, scope: trio.CancelScope) -> None:
        """Send everything behind the head.

        Args:
          scope: is cancelled when `source_error` is set, since a response can no longer be what the caller
            wants.

        Cancellation: the message is left unfinished, and the connection can only be closed after the
        response."""
        if self._link.wire.our_state is wire.ERROR:
            return  # the connection broke under the head; what the server said before that is being read
        if self._plan.expects:
            with trio.move_on_after(self._link.config.expect_seconds):
                await self.go_ahead.wait()
        try:
            if self._reader is not None:
                await self._send_pieces(self._reader)
            elif isinstance(self._plan.content, bytes):
                await self._send_piece(self._plan.content)
            if self.source_error is None and self.send_error is None:
                await self._send(self._link.wire.send_end(self._trailers()))
        except wire.LocalProtocolError as exc:
            self.source_error = InvalidRequest(f"content or trailers that cannot be sent: {exc}")
            self.source_error.__cause__ = exc
        except Exception as exc:  # noqa: BLE001  # of the caller's `trailers`, raised to the caller as it is
            self.source_error = exc
        if self.source_error is not None:
            scope.cancel(reason="the content of the request failed")
        elif self.send_error is None:
            self._link.expect_head()

    def settle(self) -> None:
        """End the message, when the final response has come and all that was declared had gone out by then.

        A source may take its time to say that there is no more: a file is read once more for that, in a
        thread. The server does not wait for it, and the connection is as good as ever (RFC 9112 §6.3).
        """
        if self._left == 0 and self.send_error is None and self._link.wire.our_state is wire.SEND_BODY:
            self._link.wire.send_end()

    def _trailers(self) -> wire.Headers:
        trailers = self._plan.trailers
        return as_fields(trailers() if callable(trailers) else trailers)

    async def _send_pieces(self, reader: ContentReader) -> None:
        """Send what ``reader`` gives, until its end or an error."""
        unbroken = 0
        while self.send_error is None:
            # Neither the source nor the kernel may ever wait, and others want to run.
            if unbroken >= _UNBROKEN_BYTES:
                await trio.lowlevel.checkpoint()
                unbroken = 0
            try:
                piece = await reader.next_piece()
            except Exception as exc:  # noqa: BLE001  # the caller's own, raised to the caller as it is
                self.source_error = exc
                return
            if not piece:
                return
            unbroken += len(piece) + _PIECE_COST_BYTES
            await self._send_piece(piece)

    async def _send_piece(self, piece: bytes) -> None:
        await self._send(self._link.wire.send_data(piece))
        if self.send_error is not None:
            return
        if self._left is not None:
            self._left -= len(piece)
        if self._link.watch is not None:
            self._link.watch.request_bytes += len(piece)

    async def _send(self, data: bytes) -> None:
        if not data:
            return
        try:
            await self._link.push(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self.send_error = exc
