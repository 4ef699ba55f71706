"""A web in memory: real servers under every name, with TLS where the scheme wants it, and one client."""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
import trio.testing
import trustme

from trio_http import Headers, Request, Response, ServerConfig
from trio_http.client import Client
from trio_http.server import serve_connection
from trio_http.testing import MemoryStream, memory_pair

Answer = Response | Callable[[Request], Awaitable[Response | None]]

HERE = "http://a.example"
CONFIG = ServerConfig(date=False, server_name=None)


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The client's and the servers', which prove to be any host of ``.example``."""
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    proving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("a.example", "b.example", "*.a.example").configure_cert(proving)
    return trusting, proving


@attrs.frozen
class Asked:
    """A request as it came to a server."""

    method: str
    url: str
    headers: Headers
    content: bytes


def moved(status: int, location: str, **options: Any) -> Response:
    return Response(status, headers={"Location": location, **options.pop("headers", {})}, **options)


class Web:
    """All servers there are.

    Attributes:
      answers: by URL; what is not there is a 200 that names its URL.
      asked: all requests, in order.
      dialed: the origins of the dials.
      streams: the client's ends.
    """

    def __init__(self, nursery: trio.Nursery, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.asked: list[Asked] = []
        self.dialed: list[str] = []
        self.streams: list[MemoryStream] = []
        self._nursery = nursery

    async def dial(self, host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = memory_pair(64 * 1024)
        origin = f"{scheme}://{host}" + ("" if port == {"http": 80, "https": 443}[scheme] else f":{port}")
        self.dialed.append(origin)
        self.streams.append(ours)
        self._nursery.start_soon(self._serve, origin, theirs, scheme == "https")
        return ours

    async def _serve(self, origin: str, stream: trio.abc.Stream, is_tls: bool) -> None:
        if is_tls:
            stream = trio.SSLStream(stream, contexts()[1], server_side=True, https_compatible=True)
        await serve_connection(functools.partial(self._handle, origin), stream, config=CONFIG)

    async def _handle(self, origin: str, request: Request) -> Response | None:
        url = origin + request.target
        content = await request.read() if not request.upgrade_protocols else b""
        self.asked.append(Asked(request.method, url, request.headers, content))
        answer = self.answers.get(url)
        if answer is None:
            return Response(text=url)
        return answer if isinstance(answer, Response) else await answer(request)

    def sent(self, name: str) -> list[str | None]:
        """The value of a field in each request."""
        return [asked.headers.get(name) for asked in self.asked]

    @property
    def urls(self) -> list[str]:
        return [asked.url for asked in self.asked]


@asynccontextmanager
async def web(
    answers: Mapping[str, Any] | None = None, *, leased: int = 0, **options: Any
) -> AsyncIterator[tuple[Client, Web]]:
    """A client and the web that it is in; when the block ends, no connection may be in use.

    The exception of the block comes out as it is, since what is tested is that it does.
    """
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        world = Web(nursery, answers or {})
        options.setdefault("ssl_context", contexts()[0])
        try:
            async with Client(dial=world.dial, **options) as client:
                yield client, world
                client._pool.ledger.check()
                counts = client.statistics()
                assert (counts.leased, counts.waiting) == (leased, 0), "a request left something behind"
        except Exception as exc:  # noqa: BLE001  # raised below, outside the nursery
            failure = exc
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
