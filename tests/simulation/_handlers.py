"""What the servers of a run do: handlers of all manners, told by the target of a request what is wanted.

``/stream/(3.1)/3000/0.25`` asks for the handler ``stream``, in the name of the errand ``(3.1)``, for an
answer of 3000 bytes with pauses of 0.25 s. So each answer can be held against its request, and each execution
be counted.
"""

from __future__ import annotations

import collections
import gzip
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import trio

from tests.simulation._plan import BEAT
from trio_http import Client, Headers, HTTPException, Request, RequestFailed, Response
from trio_http.transport import TransportStream

#: Seconds that a client has to take an answer while it still sends. Arbitrary: as many as a server's.
LINGER: Final = 2.0


class Squall(Exception):
    """What is raised on purpose: by a handler, by the source of a request's content, in a client's block."""


def content(marker: str, size: int) -> bytes:
    """Return what is said in the name of ``marker``, in so many bytes; no two markers say the same."""
    return (marker.encode() * (size // len(marker) + 1))[:size]


def said_by_client(marker: str) -> str:
    """Return the marker of a request's content, which differs from that of its answer."""
    return f"{marker}?"


class Wanted:
    """What a request asks for.

    Attributes:
      handler, marker, size, pause: as in its target.
      request: itself.
      headers: of an answer that is what was asked for.
    """

    def __init__(self, request: Request) -> None:
        _, self.handler, self.marker, size, pause = request.path.split("/")
        self.request = request
        self.size = int(size)
        self.pause = float(pause)
        self.headers = {"x-marker": self.marker}
        cookie = request.headers.get("cookie")
        if cookie is not None:
            self.headers["x-cookie"] = cookie

    @property
    def content(self) -> bytes:
        return content(self.marker, self.size)

    def answer(self, **more: str) -> Response:
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        return Response(200, self.content, headers={**self.headers, **headers})

    def check_upload(self, data: bytes | bytearray, begin: int = 0) -> None:
        """See that a piece of the request's content is what its client has to say."""
        expected = content(said_by_client(self.marker), begin + len(data))[begin:]
        assert data == expected, f"bytes of another request than {self.marker}"


Handling: TypeAlias = Callable[[Wanted], Awaitable[Response | None]]

HANDLERS: Final[dict[str, Handling]] = {}


def handles(handling: Handling) -> Handling:
    """Enter a handler by its name."""
    HANDLERS[handling.__name__] = handling
    return handling


class Site:
    """The handlers of one run, and what they have done.

    Attributes:
      executed: how often each request was begun to be handled, by who asked ("client" or "gate") and path.
      inside: handlers that have been entered and not left.
      faults: what was not as it must be.
      client: what the gate asks the others with.
      dial: connects the gate to what a tunnel is wanted to.
      origins: of each host, the origin of its URLs.
    """

    client: Client

    def __init__(self, dial: Callable[[str, int], Awaitable[Any]], origins: dict[str, str]) -> None:
        self.executed: collections.Counter[tuple[str, str]] = collections.Counter()
        self.inside = 0
        self.faults: list[str] = []
        self.dial = dial
        self.origins = origins

    async def __call__(self, request: Request) -> Response | None:
        """Be the handler of all servers."""
        self.inside += 1
        try:
            if request.method == "CONNECT":
                return await self._tunnel(request)
            asker = "gate" if "x-via" in request.headers else "client"
            self.executed[asker, request.path] += 1
            if request.target.startswith("http://"):
                return await self._forward(request, request.target)
            if request.path.startswith("/via/"):
                _, _, host, rest = request.path.split("/", 3)
                return await self._forward(request, f"{self.origins[host]}/{rest}")
            wanted = Wanted(request)
            if wanted.handler == "flaky" and self.executed[asker, request.path] == 1:
                return Response(503, b"later")
            return await HANDLERS[wanted.handler](wanted)
        except trio.Cancelled as exc:
            if request.cancel_reason is None:
                self.faults.append(f"{request} was cancelled without a reason: {exc}")
            raise
        finally:
            self.inside -= 1

    async def _forward(self, request: Request, url: str) -> Response | None:
        """Be a proxy: both ways as streams, so that neither content is ever here whole."""
        passed_on = [pair for pair in request.headers.end_to_end().items() if pair[0] != "host"]
        headers = Headers([*passed_on, ("x-via", "gate")])
        has_body = {"content-length", "transfer-encoding"} & set(request.headers)
        try:
            upload = request.body if has_body else None
            async with (
                self.client.stream(request.method, url, headers=headers, content=upload, decode=False) as up,
                request.stream_response(up.status, headers=up.headers.end_to_end()) as body,
            ):
                async for piece in up.body:
                    await body.send_all(piece)
                body.trailers = up.trailers
        except RequestFailed as exc:
            if request.response_stream is not None and request.response_stream.started:
                raise Squall("the answer that was being forwarded broke off") from exc
            raise HTTPException(502) from exc
        return None

    async def _tunnel(self, request: Request) -> Response | None:
        host, _, port = request.target.partition(":")
        try:
            far = await self.dial(host, int(port))
        except OSError as exc:
            raise HTTPException(502) from exc
        try:
            async with request.tunnel() as near, trio.open_nursery() as nursery:
                nursery.start_soon(_pump, near, far, nursery.cancel_scope)
                nursery.start_soon(_pump, far, near, nursery.cancel_scope)
        finally:
            await trio.aclose_forcefully(far)
        return None


async def _pump(source: Any, target: Any, scope: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some(10_000):
            await target.send_all(data)
        if isinstance(target, TransportStream) and not target.transport.can_half_close:
            # Trio's TLS is closed whole by it, and what comes from there then would reset it.
            await trio.sleep(LINGER)
        await target.send_eof()
    except trio.BrokenResourceError:
        scope.cancel()


# ------------------------------------------------------------------------------------- answers of all manners


@handles
async def plain(wanted: Wanted) -> Response:
    return wanted.answer()


@handles
async def sleep(wanted: Wanted) -> Response:
    await trio.sleep(wanted.size % 12 * BEAT)
    return wanted.answer()


@handles
async def stream(wanted: Wanted) -> None:
    data, step = wanted.content, wanted.size // 4 + 1
    async with wanted.request.stream_response(200, headers=wanted.headers) as body:
        for start in range(0, len(data), step):
            await body.send_all(data[start : start + step])
            await trio.sleep(wanted.pause)


@handles
async def trailers(wanted: Wanted) -> None:
    async with wanted.request.stream_response(200, headers=wanted.headers) as body:
        await body.send_all(wanted.content)
        body.trailers = {"x-sum": str(sum(wanted.content))}


@handles
async def coded(wanted: Wanted) -> Response:
    return Response(
        200, gzip.compress(wanted.content, 1, mtime=0), headers={**wanted.headers, "content-encoding": "gzip"}
    )


@handles
async def inform(wanted: Wanted) -> Response:
    await wanted.request.send_informational(103, headers={"x-early": wanted.marker})
    await trio.sleep(wanted.pause)
    return wanted.answer()


@handles
async def hop(wanted: Wanted) -> Response:
    """Leads to another path on the same server, as often as the marker's last digit says; then answers."""
    name, _, left = wanted.marker.rpartition("~")
    if left == "0":
        if wanted.request.method == "POST":
            wanted.marker = name
            await _take_all(wanted)
        return Response(200, content(name, wanted.size), headers={**wanted.headers, "x-marker": name})
    target = f"/hop/{name}~{int(left) - 1}/{wanted.size}/{wanted.pause}"
    return Response(307, b"elsewhere", headers={"location": target})


@handles
async def cookie(wanted: Wanted) -> Response:
    owner = wanted.request.headers["x-owner"]
    return wanted.answer(set_cookie=f"owner={owner}")


@handles
async def flaky(wanted: Wanted) -> Response:
    return wanted.answer()  # the first time it is not asked: see `Site.__call__`


@handles
async def children(wanted: Wanted) -> Response:
    async with trio.open_nursery() as nursery:
        for count in range(3):
            nursery.start_soon(trio.sleep, count * wanted.pause)
    return wanted.answer()


@handles
async def finish(wanted: Wanted) -> Response:
    with wanted.request.finish(within=4 * BEAT):
        await trio.sleep(wanted.size % 8 * BEAT)
    return wanted.answer()


@handles
async def drain(wanted: Wanted) -> Response:
    with wanted.request.cancel_on_drain():
        await trio.sleep(wanted.size % 20 * BEAT)
    return wanted.answer()


# ----------------------------------------------------------------------------------------------- with content


async def _take_all(wanted: Wanted) -> None:
    begin = 0
    async for piece in wanted.request.body:
        wanted.check_upload(piece, begin)
        begin += len(piece)
    length = int(wanted.request.headers["x-body"])
    assert begin == length, f"{begin} bytes of {length} for {wanted.marker}, and no error"


@handles
async def take(wanted: Wanted) -> Response:
    await _take_all(wanted)
    return wanted.answer()


@handles
async def take_slowly(wanted: Wanted) -> Response:
    await trio.sleep(wanted.pause)
    await _take_all(wanted)
    await trio.sleep(wanted.pause)
    return wanted.answer()


@handles
async def take_part(wanted: Wanted) -> Response:
    wanted.check_upload(await wanted.request.body.receive_some(1000))
    return wanted.answer()


@handles
async def inflate(wanted: Wanted) -> Response:
    data = gzip.decompress(await wanted.request.read())
    wanted.check_upload(data)
    assert len(data) == int(wanted.request.headers["x-body"]), f"part of the content of {wanted.marker}"
    return wanted.answer()


@handles
async def refuse(wanted: Wanted) -> None:
    raise HTTPException(413, wanted.content.decode(), headers=wanted.headers)


# ---------------------------------------------------------------------------------------- ends of other kinds


@handles
async def tear(wanted: Wanted) -> None:
    async with wanted.request.stream_response(200, headers=wanted.headers) as body:
        await body.send_all(wanted.content)
        await trio.sleep(wanted.pause)
        raise Squall(wanted.marker)


@handles
async def fail(wanted: Wanted) -> None:
    await trio.sleep(wanted.pause)
    raise Squall(wanted.marker)


@handles
async def dawdle(wanted: Wanted) -> Response:
    await trio.sleep(20)
    return wanted.answer()


@handles
async def echo(wanted: Wanted) -> Response | None:
    if "echo" not in wanted.request.upgrade_protocols:  # the gate has left that out
        return Response(426, headers={**wanted.headers, "upgrade": "echo"})
    async with wanted.request.upgrade("echo", headers=wanted.headers) as both:
        async for data in both:
            await both.send_all(data)
    return None


class Rendezvous:
    """A handler that answers a client when so many requests of it have come, on connections of their own.

    Args:
      counts: how many, by client.
    """

    def __init__(self, counts: Mapping[int, int]) -> None:
        self._missing = dict(counts)
        self._complete = {client: trio.Event() for client in counts}

    async def __call__(self, request: Request) -> Response:
        client = int(request.path.split("/")[1])
        self._missing[client] -= 1
        if not self._missing[client]:
            self._complete[client].set()
        await self._complete[client].wait()
        return Response(text=request.path)
