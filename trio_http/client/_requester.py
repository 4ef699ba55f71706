"""The verbs that a client and a single connection have in common."""

from __future__ import annotations

from types import TracebackType
from typing import Unpack

from ._config import ClientConfig
from ._exchange import begin, finish
from ._link import Owner
from ._request import ContentOptions, Planner, RequestOptions, RequestPlan
from ._response import ReceivedResponse, ResponseBody, StreamedResponse
from ._url import URLInput


class ResponseBlock:
    """What ``stream`` returns: ``async with`` it to send the request and have the response."""

    __slots__ = ("_body", "_config", "_entered", "_owner", "_plan")

    def __init__(self, owner: Owner, plan: RequestPlan, config: ClientConfig) -> None:
        self._owner = owner
        self._plan = plan
        self._config = config
        self._body: ResponseBody | None = None
        self._entered = False

    async def __aenter__(self) -> StreamedResponse:
        if self._entered:
            raise RuntimeError("one `stream` is one request, and this one was made; call it again")
        self._entered = True
        link, head = await begin(self._owner, self._plan, self._config)
        # No checkpoint from here on: the link is in nobody's hands.
        self._body = body = ResponseBody(link, self._owner, self._plan)
        if not head.framing:
            await body.release()  # nothing follows the head, so others can have the connection now
        return StreamedResponse(head, body, self._plan.url, self._config.max_content_bytes)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._body is not None
        # A cancelled block, alone or in a group, is not an Exception.
        await self._body.leave(reuse=exc is None or isinstance(exc, Exception))


class Requester:
    """Makes requests on the connections of an owner. The base of `Client` and `ClientConnection`.

    The keywords of all methods:

    - ``params``: a mapping or pairs, appended to the URL's query; a list of values repeats its name;
    - ``headers``: header fields, instead of the client's own of the same name;
    - ``target``: the request target as it shall go out, instead of the URL's path and query;
    - ``content``: bytes, or an async iterable of bytes (a `trio.abc.ReceiveStream` is one), which goes out in
      the chunked coding unless there is a Content-Length. At most one of this, ``json`` and ``data``;
    - ``json``: an object for `json.dumps`;
    - ``data``: a mapping or pairs, sent as a form.

    A request is sent at most twice: once more when a connection from the pool turns out to be closed, nothing
    of an answer came, the method is idempotent and the content is bytes.
    """

    def __init__(self, owner: Owner, config: ClientConfig, planner: Planner) -> None:
        self._owner = owner
        self._config = config
        self._planner = planner

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
            `ResponseInvalid`, `ContentTooLarge`, `PoolClosed`. Its ``facts`` say whether the server may have
            acted.
          Exception: whatever the iterator of ``content`` raised, as it is.

        Cancellation: while it waits for a connection, nothing is held; a dial made for it goes on for others.
        From the first byte sent to the last one received, the connection in use is closed, and no other. The
        server may have acted.
        """
        plan = self._planner.plan(method, url, **options)
        link, head = await begin(self._owner, plan, self._config)
        return await finish(link, self._owner, plan, head, self._config.max_content_bytes)

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
        plan = self._planner.plan(method, url, **options)
        return ResponseBlock(self._owner, plan, self._config)

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
