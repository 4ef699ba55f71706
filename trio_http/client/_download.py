"""Downloads to a file: whole or not at all, and gone on with where they were cut.

Theory of operation
===================

A download is one loop of requests. Each asks for what is not there yet, and ends in one of four ways:

- *complete*: the file gets its name;
- *more*: a piece of it came, or it turned out that what is there is of no use; ask again at once;
- *failed*: the connection broke, or the status was an error. The `Retry` policy, if there is one, says
  whether to ask again; what came is kept for that;
- *raised*: everything else goes to the caller, and what came is kept for the next call.

What is there may be gone on with only if it is certain that the rest belongs to it, byte by byte. The server
is asked to see to that, by If-Range (RFC 9110 §13.1.5): it sends the rest (206) if the validator still holds,
and else everything (200). Not all servers do it well, so a 206 is believed only if it says exactly the range
that was asked for, the length that was said before, and no other validator. If it does not, everything is
asked for, without a range.

So content has to be asked for as it is: without content codings, for which a position in the file would mean
nothing. A server that applies one all the same is obeyed: its content is decoded, and cannot be gone on with.

The hard case is a cancel. Pieces are collected, and written in a thread, which cannot be cancelled; so the
file is never in the midst of a write when somebody else can see it. What was collected is written at the
end, under a shield that is as short as one such write.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, Unpack

import attrs
import trio

from trio_http import wire
from trio_http._errors import InvalidRequest, RequestFailed, ResponseInvalid, StatusError
from trio_http.messages import Headers, Response, as_wire_headers

from ._conditions import Validators
from ._options import RequestOptions
from ._partial_file import PartialFile, Record
from ._plan import RequestPlan
from ._response import StreamedResponse
from ._retry import Retry
from ._url import URLInput

# How much is collected before a thread writes it, in bytes. A turn of a thread costs the same whatever it
# writes, see `_content_file`; the memory that one download may take is about twice this.
_BLOCK_BYTES: Final = 512 * 1024

# How long the end of a cancelled download may wait for a thread, in seconds. Then it writes by itself, and
# everybody else has to wait for that. Arbitrary; only a program whose threads are all busy sees it.
_CLOSING_SECONDS: Final = 5

# Successes whose content is the resource's (RFC 9110 §15.3.1, §15.3.4).
_WHOLE: Final = frozenset([200, 203])
_PARTIAL: Final = 206
_UNSATISFIABLE: Final = 416

# RFC 9110 §14.4. Fifteen digits are more than any file has, and fewer than would be work to read.
_RANGE: Final = re.compile(r"bytes (?:(\d{1,15})-(\d{1,15})|\*)/(\d{1,15}|\*)", re.ASCII | re.IGNORECASE)

# These are ours to send: a caller's would say something else about the same file.
_OURS: Final = frozenset([b"range", b"if-range"])


@attrs.frozen
class Progress:
    """How far a download is.

    Attributes:
      received: bytes of the file that are there. It falls when a download has to start over.
      total: bytes that the file will have; None while that is not known.
      resumed_from: how many of the received bytes an earlier call has left; 0 after starting over.
    """

    received: int
    total: int | None
    resumed_from: int


ProgressCallback: TypeAlias = Callable[[Progress], object]


@attrs.frozen
class Download:
    """A file that was downloaded, and is complete.

    Attributes:
      path: of the file, absolute.
      size: bytes in it.
      resumed_from: how many of them an earlier call has left.
      requests: how many responses it took.
      url: what was asked in the end, after redirects.
      status: of the last response: 200 or 203; 206 for the rest of a file; 416 when there was no rest.
      headers: of that response.
      validators: of the file, for a request that asks whether it has changed.
    """

    path: Path
    size: int
    resumed_from: int
    requests: int
    url: str
    status: int
    headers: Headers
    validators: Validators


class OpenStream(Protocol):
    """Makes one request: `Requester.stream`."""

    def __call__(
        self, method: str, url: URLInput, **options: Unpack[RequestOptions]
    ) -> AbstractAsyncContextManager[StreamedResponse, Any]: ...


async def download(
    stream: OpenStream,
    plan: RequestPlan,
    url: URLInput,
    path: str | os.PathLike[str],
    *,
    resume: bool = True,
    progress: ProgressCallback | None = None,
    **options: Unpack[RequestOptions],
) -> Download:
    """Download to a file; see `Requester.download`, which adds the first two arguments.

    Args:
      stream: makes the requests.
      plan: of a GET request with the same URL and options.
    """
    given = as_wire_headers(options.get("headers"))
    for name in _OURS:
        if name in given.by_name:
            raise InvalidRequest(
                f"a download asks for ranges by itself, so it takes no {name.decode()} field of its caller's"
            )
    if inspect.iscoroutinefunction(progress):
        raise TypeError("progress must be a plain function: it is called, and not awaited")
    target = _absolute(path)
    # What is decoded is another file than what is not.
    asked = b"%s %s %d" % (plan.url.encode(), plan.target, plan.settings.decode)
    request = hashlib.sha256(asked).hexdigest()
    part = await trio.to_thread.run_sync(PartialFile.open, target, request)
    try:
        if not resume:
            part.record = None
        return await _Run(stream, plan, url, options, given, progress, part, request).run(target)
    finally:
        if not part.closed:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSING_SECONDS):
                await trio.to_thread.run_sync(part.close)
            part.close()  # does nothing, unless no thread was to be had


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(path))  # now, since the current directory may be another one later


class _Run:
    """One call of `download`, from the opened part on."""

    def __init__(
        self,
        stream: OpenStream,
        plan: RequestPlan,
        url: URLInput,
        options: RequestOptions,
        given: wire.Headers,
        progress: ProgressCallback | None,
        part: PartialFile,
        request: str,
    ) -> None:
        self._stream = stream
        self._url = url
        self._options = options
        self._fields = wire.Headers([(b"Accept-Encoding", b"identity")]).merged(given)
        self._decode = plan.settings.decode
        self._retry = plan.settings.retry
        self._progress = progress
        self._part = part
        self._request = request
        self._resumed_from = self._kept
        self._requests = 0
        self._total: int | None = None
        self._validators = Validators()
        self._response: StreamedResponse | None = None
        self._theirs: BaseException | None = None  # what the caller's own function has raised

    @property
    def _kept(self) -> int:
        """How many bytes can be gone on from."""
        return 0 if self._part.record is None else self._part.size

    async def run(self, target: Path) -> Download:
        """Ask until the content is complete, and give it its name."""
        retry = self._retry
        if retry is not None:
            retry.count_request()
        failed, furthest = 0, self._kept
        while True:
            try:
                if await self._attempt():
                    break
            except (RequestFailed, StatusError) as exc:
                # Whoever gets on step by step may go on, however often: not so who fails in one place.
                failed, furthest = (1, self._kept) if self._kept > furthest else (failed + 1, furthest)
                delay = None if exc is self._theirs else _delay(retry, exc, failed)
                if retry is None or delay is None or not await retry.pause(delay):
                    raise
        await trio.to_thread.run_sync(self._part.complete)
        response = self._response
        assert response is not None
        return Download(
            target,
            self._part.size,
            self._resumed_from,
            self._requests,
            response.url,
            response.status,
            response.headers,
            self._validators,
        )

    async def _attempt(self) -> bool:
        """Make one request for what is not there yet; tell whether the content is complete then.

        Raises:
          StatusError: another status.
          RequestFailed: as the response and its body.
        """
        record = self._part.record if self._kept else None
        fields = self._fields
        if record is not None:
            condition = record.validators.if_range()
            assert condition is not None
            wanted = b"bytes=%d-" % self._part.size
            fields = fields.merged(
                wire.Headers([(b"Range", wanted), (b"If-Range", condition.encode("latin-1"))])
            )
        options: RequestOptions = {
            **self._options,
            "headers": fields,
            "retry": None,  # is asked here, which knows what came
        }
        self._requests += 1
        async with self._stream("GET", self._url, **options) as response:
            self._response = response
            if response.status in _WHOLE:
                return await self._take_whole(response)
            if record is not None and response.status == _PARTIAL:
                return await self._take_rest(response, record)
            if record is not None and response.status == _UNSATISFIABLE:
                return await self._take_nothing(response, record)
            if response.status == _PARTIAL:
                what = "206 to a request for all of the content (RFC 9110 §15.3.7)"
                raise ResponseInvalid(what, response.body.facts())
            raise StatusError(
                Response(response.status, headers=response.headers, reason=response.reason), response.url
            )

    async def _take_whole(self, response: StreamedResponse) -> bool:
        """Receive all of the content, from its beginning."""
        coding = _coding_of(response.headers)
        decodes = self._decode and bool(coding)
        self._validators = Validators.of(response.headers)
        self._total = None if decodes else _length_of(response.headers)
        record = None
        if not decodes and self._validators.if_range() is not None:
            record = Record(self._request, self._validators, coding, self._total)
        self._resumed_from = 0
        await trio.to_thread.run_sync(self._part.begin, record)
        return await self._receive(response, None)

    async def _take_rest(self, response: StreamedResponse, record: Record) -> bool:
        """Receive the content from where it was cut, or another part of it that begins there."""
        start = self._part.size
        first, last, total = _range_of(response.headers)
        # If it is decoded, the record has no coding, and a part of what is coded is not the rest.
        length = _length_of(response.headers)
        is_the_rest = (
            first == start
            and start <= last
            and (total is None or last < total)
            and (length is None or length == last + 1 - start)
            and self._is_of(record, response.headers, total)
            and _coding_of(response.headers) == record.coding
        )
        self._total = record.total if total is None else total
        if not is_the_rest or not await self._receive(response, last + 1):
            return await self._start_over()
        # Without a total, the server says by a 416 that there is no more.
        return self._part.size == self._total

    async def _take_nothing(self, response: StreamedResponse, record: Record) -> bool:
        """See whether there is no rest because everything is there."""
        first, _, total = _range_of(response.headers)
        if first >= 0 or total != self._part.size or not self._is_of(record, response.headers, total):
            return await self._start_over()
        self._total = total
        return True

    def _is_of(self, record: Record, headers: Headers, total: int | None) -> bool:
        """Tell whether a response is, by all that it says, of the content that is there."""
        self._validators = record.validators
        same_total = total is None or record.total is None or total == record.total
        return same_total and not record.validators.contradict(Validators.of(headers))

    async def _start_over(self) -> bool:
        self._resumed_from = 0
        await trio.to_thread.run_sync(self._part.begin, None)
        return False

    async def _receive(self, response: StreamedResponse, end: int | None) -> bool:
        """Append the body; tell whether it ended where it had to.

        Args:
          end: the size that the part has then; None: any.
        """
        part = self._part
        while piece := await response.body.receive_some():
            if end is not None and part.size + len(piece) > end:
                return False
            part.add(piece)
            self._tell()
            if part.held >= _BLOCK_BYTES:
                await trio.to_thread.run_sync(part.write)
        return end is None or part.size == end

    def _tell(self) -> None:
        if self._progress is not None:
            try:
                self._progress(Progress(self._part.size, self._total, self._resumed_from))
            except BaseException as exc:
                self._theirs = exc
                raise


def _delay(retry: Retry | None, exc: RequestFailed | StatusError, attempt: int) -> float | None:
    """Return after how many seconds a policy would ask again; None: not at all."""
    if retry is None:
        return None
    if isinstance(exc, RequestFailed):
        return retry.delay_after_error(exc, method="GET", repeatable=True, attempt=attempt)
    response = exc.response
    return retry.delay_after_response(
        response.status, response.headers, method="GET", repeatable=True, attempt=attempt
    )


def _coding_of(headers: Headers) -> str:
    """Return the content codings that the content has, empty without one (RFC 9110 §8.4)."""
    coding = headers.get("content-encoding", "").strip().lower()
    return "" if coding == "identity" else coding


def _length_of(headers: Headers) -> int | None:
    """Return how many bytes a body will have, as far as that is known (RFC 9112 §6.3)."""
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) <= 15 else None


def _range_of(headers: Headers) -> tuple[int, int, int | None]:
    """Return first, last and total of a Content-Range, -1 and -1 for a range that is none (RFC 9110 §14.4).

    One that is malformed or missing is like one that says nothing: -1, -1, None.
    """
    match = _RANGE.fullmatch(headers.get("content-range", ""))
    if match is None:
        return -1, -1, None
    first, last, total = match.groups()
    known = None if total == "*" else int(total)
    return (-1, -1, known) if first is None else (int(first), int(last), known)
