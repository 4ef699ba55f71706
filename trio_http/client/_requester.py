"""The verbs that a client and a single connection have in common."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Unpack

from ._answer import whole
from ._body import ResponseBody
from ._config import ClientConfig
from ._download import Download, ProgressCallback
from ._download import download as download_to
from ._exchange import begin
from ._flow import Flow
from ._link import Owner
from ._options import ContentOptions, RequestOptions
from ._plan import RequestPlan
from ._received import ReceivedResponse
from ._request import Planner
from ._response import StreamedResponse
from ._upgrade import Upgrade
from ._url import URLInput


class ResponseBlock:
    """What ``stream`` returns: ``async with`` it to send the request and have the response."""

    __slots__ = ("_body", "_entered", "_flow", "_plan")

    def __init__(self, flow: Flow, plan: RequestPlan) -> None:
        self._flow = flow
        self._plan = plan
        self._body: ResponseBody | None = None
        self._entered = False

    if not TYPE_CHECKING:  # who checks types is told so anyway

        def __await__(self) -> NoReturn:
            raise TypeError("`stream` is not awaited: `async with client.stream(method, url) as response:`")

        def __enter__(self) -> NoReturn:
            raise TypeError("use `async with` for `stream`, not `with`")

        def __exit__(self, *_: object) -> NoReturn:
            raise AssertionError("`stream` cannot be entered by `with`")

    async def __aenter__(self) -> StreamedResponse:
        if self._entered:
            raise RuntimeError("one `stream` is one request, and this one was made; call it again")
        self._entered = True
        answer = await self._flow.answer(self._plan)
        # No checkpoint from here on: the link is in nobody's hands.
        self._body = body = ResponseBody(answer.link, answer.owner)
        response = StreamedResponse(answer, body)
        await body.release_early()
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._body is not None
        # A cancelled block, alone or in a group, is not an Exception.
        await self._body.leave(reuse=exc is None or isinstance(exc, Exception), error=exc)


class Requester:
    """Makes requests on the connections of an owner. The base of `Client` and `ClientConnection`.

    The keywords of all methods. What is sent:

    - ``params``: a mapping or pairs, appended to the URL's query; a list of values repeats its name;
    - ``headers``: header fields, instead of the client's own of the same name;
    - ``target``: the request target as it shall go out, instead of the URL's path and query;
    - ``content``: bytes; a path or binary file; a `trio.abc.ReceiveStream` or another async iterable of
      bytes. Its length goes out when it is known, else the chunked coding is used. At most one of this,
      ``json`` and ``data``;
    - ``json``: an object for `json.dumps`;
    - ``data``: a mapping or pairs, sent as a form;
    - ``files``: a mapping or pairs of name and file, sent with ``data`` as multipart/form-data, see
      `Multipart`;
    - ``compress``: a content coding for the content, such as ``"gzip"``;
    - ``trailers``: a trailer section for the content, or a function that returns it when the content was
      sent.

    How, in place of what the client is set to (`ClientConfig`):

    - ``auth``, ``follow_redirects``, ``retry``, ``decode``, ``charset``, ``pace``, ``propagate_deadline``;
    - ``on_interim``: a function that is called with each `InterimResponse` as it comes;
    - ``report``: a function that is called with a `ClientExchangeRecord` at the end of each exchange, also of
      a cancelled one: what was sent, whether the server may have acted, what became of the connection.

    A request is sent at most twice unless a `Retry` says otherwise: once more when a connection from the pool
    turns out to be closed, nothing of an answer came, and a repetition does no harm: the method is
    idempotent, or nothing was sent; and the content can be had again.
    """

    def __init__(self, owner: Owner, config: ClientConfig, planner: Planner) -> None:
        self._owner = owner
        self._config = config
        self._planner = planner
        self._flow = Flow(owner, config, planner)

    async def request(
        self,
        method: str,
        url: URLInput,
        **options: Unpack[ContentOptions],
    ) -> ReceivedResponse:
        """Send a request and return its response, whole.

        Args:
          method: a token; the usual ones also in lower case.
          url: absolute, or below the client's ``base_url``. A fragment is not sent.

        Raises:
          InvalidRequest: it cannot be sent as it was given; the text says why.
          RequestFailed: a subclass says how: `ConnectFailed`, `ConnectionLost`, `ResponseIncomplete`,
            `ResponseInvalid`, `ContentTooLarge`, `TooManyRedirects`, `RedirectRefused`, `PoolClosed`. Its
            ``facts`` say whether the server may have acted.
          Exception: whatever the source of ``content``, an `Auth` or a function among the options raised, as
            it is; only what ``report`` raises is logged.

        Cancellation: while it waits for a connection, nothing is held; a dial made for it goes on for others.
        From the first byte sent to the last one received, the connection in use is closed, and no other. The
        server may have acted.
        """
        plan = self._planner.plan(method, url, **options)
        owner = self._owner
        if plan.is_plain and self._flow.is_plain:
            asked_at = owner.now()
            return await whole(await begin(owner, plan, asked_at), owner, asked_at)
        return await self._flow.whole(plan)

    def stream(
        self,
        method: str,
        url: URLInput,
        **options: Unpack[ContentOptions],
    ) -> ResponseBlock:
        """Return an async context manager that sends a request and gives its response as soon as the head is
        here.

        The body is read within the block. Leaving the block ends it: the connection goes back to the pool if
        the body was read to its end, or if its rest is here already and at most 64 KiB; else it is closed.

        Args, Raises: as `request`; the body raises what concerns the body.

        Cancellation: entering, as `request`. Within the block: the connection is closed, unless the body was
        read to its end."""
        return ResponseBlock(self._flow, self._planner.plan(method, url, **options))

    async def download(
        self,
        url: URLInput,
        path: str | os.PathLike[str],
        *,
        resume: bool = True,
        progress: ProgressCallback | None = None,
        **options: Unpack[RequestOptions],
    ) -> Download:
        """Download to a file, which is there when all of it is; go on with what an earlier call has left.

        What has come is kept beside it, as ``path`` with ``.part``, whatever ends the call. The next one asks
        for the rest, if the server says by its validators that it is still the same; with a `Retry` this call
        does so itself. A file that has the name already is replaced at the end.

        Args:
          url: as in `request`.
          path: of a file in a directory that exists.
          resume: False does not use what an earlier call has left.
          progress: is called with a `Progress` after each piece; what it raises ends the download.

        Raises:
          OSError: of the file; before anything is sent if it cannot be written at all.
          trio.BusyResourceError: another download is writing this file.
          StatusError: the status is not 200, 203 or 206; a redirect, too, unless ``follow_redirects`` is set.
          InvalidRequest, RequestFailed, Exception: as `request`.

        Cancellation: what came is written, and kept for the next call. The connection is closed.

        Reference: RFC 9110 §13.1.5, §14.
        """
        plan = self._planner.plan("GET", url, **options)
        return await download_to(self.stream, plan, url, path, resume=resume, progress=progress, **options)

    def upgrade(self, url: URLInput, *protocols: str, **options: Unpack[RequestOptions]) -> Upgrade:
        """Return an async context manager that asks to switch protocols, and gives the connection as a
        stream.

        The stream is a `trio.abc.HalfCloseableStream`; what came behind the 101 is read from it first. When
        the block ends it is closed, and after an exception aborted. Its connection counts as one of the
        client's until then.

        Args:
          url: as in `request`; its scheme is http or https.
          protocols: what to switch to, the preferred ones first, as in the Upgrade field.

        Raises:
          InvalidRequest: it cannot be sent as it was given.
          UpgradeRefused: when the block is entered; the server answered something else, which is in it.
          RequestFailed: as in `request`.

        Cancellation: entering, as `request`. Within the block: the connection is closed.

        Reference: RFC 9110 §7.8.
        """
        if not protocols:
            raise TypeError("upgrade needs the name of a protocol")
        for protocol in protocols:
            if not isinstance(protocol, str):
                raise TypeError(f"a protocol must be a str, each an argument of its own, not {protocol!r}")
        plan = self._planner.upgrading(url, protocols, **options)
        return Upgrade(self._flow, self._owner, plan)

    async def get(
        self,
        url: URLInput,
        **options: Unpack[RequestOptions],
    ) -> ReceivedResponse:
        """Make a GET request (RFC 9110 §9.3.1); see `request`.

        Cancellation: as `request`.
        """
        return await self.request("GET", url, **options)

    async def head(
        self,
        url: URLInput,
        **options: Unpack[RequestOptions],
    ) -> ReceivedResponse:
        """Make a HEAD request (RFC 9110 §9.3.2); see `request`.

        Cancellation: as `request`.
        """
        return await self.request("HEAD", url, **options)

    async def options(
        self,
        url: URLInput,
        **options: Unpack[RequestOptions],
    ) -> ReceivedResponse:
        """Make an OPTIONS request (RFC 9110 §9.3.7); see `request`.

        Cancellation: as `request`.
        """
        return await self.request("OPTIONS", url, **options)

    async def delete(
        self,
        url: URLInput,
        **options: Unpack[RequestOptions],
    ) -> ReceivedResponse:
        """Make a DELETE request (RFC 9110 §9.3.5); see `request`.

        Cancellation: as `request`.
        """
        return await self.request("DELETE", url, **options)

    async def post(
        self,
        url: URLInput,
        **options: Unpack[ContentOptions],
    ) -> ReceivedResponse:
        """Make a POST request (RFC 9110 §9.3.3); see `request`.

        Cancellation: as `request`.
        """
        return await self.request("POST", url, **options)

    async def put(
        self,
        url: URLInput,
        **options: Unpack[ContentOptions],
    ) -> ReceivedResponse:
        """Make a PUT request (RFC 9110 §9.3.4); see `request`.

        Cancellation: as `request`.
        """
        return await self.request("PUT", url, **options)

    async def patch(
        self,
        url: URLInput,
        **options: Unpack[ContentOptions],
    ) -> ReceivedResponse:
        """Make a PATCH request (RFC 5789); see `request`.

        Cancellation: as `request`.
        """
        return await self.request("PATCH", url, **options)
