"""Content that cannot be sent at once: it goes out beside the reading of the response."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable

import trio

from trio_http._errors import InvalidRequest
from trio_http.wire import LocalProtocolError

from ._link import Link


class Upload:
    """The sending of one request's content, in a task of its own.

    A server may answer before it has read everything (a 413, a redirect, an error), and then often stops
    reading. Who sends first and reads afterwards would wait for ever. So the two go on side by side, and a
    final response ends the sending.

    Args:
      link: the head of the request has been sent on it.
      content: in one piece, or in pieces as they come.
      wait_seconds: how long to wait for a 100 (Continue) first; None: not at all.

    Attributes:
      go_ahead: to be set when the 100 has come.
      source_error: what the content's own iterator raised, or what is wrong with what it gave. It is the
        caller's.
      send_error: what sending raised. There may be an answer all the same, so it is not told at once.
    """

    def __init__(self, link: Link, content: bytes | AsyncIterable[bytes], wait_seconds: float | None) -> None:
        self.go_ahead = trio.Event()
        self.source_error: Exception | None = None
        self.send_error: Exception | None = None
        self._link = link
        self._content = content
        self._wait_seconds = wait_seconds

    async def run(self, scope: trio.CancelScope) -> None:
        """Send everything.

        Args:
          scope: is cancelled when `source_error` is set, since a response can no longer be what the caller
            wants.

        Cancellation: the message is left unfinished, and the connection can only be closed after the
        response."""
        if self._wait_seconds is not None:
            with trio.move_on_after(self._wait_seconds):
                await self.go_ahead.wait()
        try:
            if isinstance(self._content, bytes):
                await self._send(self._link.wire.send_data(self._content))
            else:
                await self._send_pieces(self._content)
            if self.source_error is None and self.send_error is None:
                await self._send(self._link.wire.send_end())
        except LocalProtocolError as exc:
            self.source_error = InvalidRequest(
                f"the content is not as long as its Content-Length says: {exc}"
            )
            self.source_error.__cause__ = exc
        if self.source_error is not None:
            scope.cancel(reason="the content of the request failed")

    async def _send_pieces(self, source: AsyncIterable[bytes]) -> None:
        """Send what ``source`` gives, until its end or an error."""
        pieces = aiter(source)
        try:
            while self.send_error is None:
                # The kernel may take all that we send, and the source may never wait: others want to run too.
                await trio.lowlevel.checkpoint()
                try:
                    piece = await anext(pieces)
                    if not isinstance(piece, bytes | bytearray | memoryview):
                        raise TypeError(f"content must give bytes, not {type(piece).__name__}")
                except StopAsyncIteration:
                    return
                except Exception as exc:  # noqa: BLE001  # the caller's own, raised to the caller as it is
                    self.source_error = exc
                    return
                await self._send(self._link.wire.send_data(piece))
        finally:
            if inspect.isasyncgen(pieces):
                # Nobody can go on with it, and its clean-up should not wait for the collector.
                await pieces.aclose()

    async def _send(self, data: bytes) -> None:
        if not data:
            return
        try:
            await self._link.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self.send_error = exc
        else:
            self._link.bytes_sent += len(data)
