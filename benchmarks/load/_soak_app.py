"""What the servers of the soak serve: one handler for each manner of answering.

A path is ``/KIND/NUMBER/LENGTH``, and the request says the same number in its X-Id field: the answer has its
content from the path and its X-Id from the field, so that a request whose parts are not of one piece has an
answer that is not either.

| kind | answer |
|---|---|
| small | content of that length |
| late | the same after some milliseconds |
| sleep | the same after up to a second, for clients that do not wait for it |
| pieces | streamed with a Content-Length |
| chunked | streamed, with the number in the trailer section |
| events | a chunked stream of events, shorter when the server drains; the trailer section says how many |
| gzip | in that content coding |
| echo | the request's content, read to its end before; a trailer section comes back in the answer's |
| unzip | the same for content in gzip |
| early | 413 before anything of the content is read |
| bounded | 413 by `Request.limit_body`, or the echo of what is shorter |
| redirect | 302 or 307 to itself, ``hops`` times, and then to what ``to`` says |
| hints | a 103 with the number, then as *small* |
| upgrade | the protocol "echo" |
| file | 200 or 206 by the Range field, with a validator; now and then it breaks off |
| flaky | 503 at times, a break now and then, else as *small* |
| fail | the handler fails before it answers: 500 |
| cut | the handler fails in the midst of its answer |
| commit | as *small*, after work that a disconnect must not cut short |
| cookie | sets what ``set`` says; the content is what came by that name |
| hold | 200, but not before as many requests have come as LENGTH says, with the same key |
"""

from __future__ import annotations

import gzip
import logging
import os
import random
import re
import socket
from collections.abc import Awaitable, Callable, Collection
from urllib.parse import parse_qsl

import trio
from _peer import checksum, content_of
from _soak_facts import Planned

import trio_http

HEAVY = 1 << 20
"""The most content that anybody sends here, in bytes."""

RARELY = 1 / 40
"""How often each planted defect shows itself, of the requests that could."""

HOLD_SECONDS = 10.0
"""How long one request waits for the others that are to be under way with it."""

SILENT_SECONDS = 8.0
"""How long a planted silence lasts, so that the run has an end."""

_RANGE = re.compile(r"bytes=(\d+)-")

Handling = Callable[[trio_http.Request, int, int], Awaitable[trio_http.Response | None]]


class App:
    """The handler, and what it finds wrong by itself.

    Args:
      seed: of its own choices.
      planted: names of defects, of `_soak_facts.PLANTS`.

    Attributes:
      complaints: what came that nobody has sent.
      begun, ended, stopped: pieces of work that must not be cut short: begun, done, and cut short by the end
        of a shutdown's grace, which may do that.
    """

    def __init__(self, seed: int, planted: Collection[str] = ()) -> None:
        self.complaints: list[str] = []
        self.begun = self.ended = self.stopped = 0
        self._rng = random.Random(f"{seed} app")
        self._planted = sorted(planted)
        self._kept: list[object] = []
        self._held: dict[str, tuple[list[int], trio.Event]] = {}
        self._kinds: dict[str, Handling] = {
            name.removeprefix("_do_"): getattr(self, name) for name in dir(self) if name.startswith("_do_")
        }

    async def __call__(self, request: trio_http.Request) -> trio_http.Response | None:
        _, kind, number, length = request.path.split("/")
        if request.headers.get("x-id") != number:
            self.complaints.append(f"{request.target} came with X-Id {request.headers.get('x-id')!r}")
        if kind == "hold":
            return await self._hold(number, int(length))
        if "memory" in self._planted:
            self._kept.append(b"." * (HEAVY // 4))
        if self._rng.random() < RARELY * len(self._planted):
            await self._go_wrong(request)
        return await self._kinds[kind](request, int(number), int(length))

    # What a client can hold to its request at once.

    async def _do_small(self, request: trio_http.Request, number: int, length: int) -> trio_http.Response:
        if "other answer" in self._planted and self._rng.random() < RARELY:
            number ^= 1
        content = content_of(number, length)
        if "lost tail" in self._planted and self._rng.random() < RARELY:
            content = content[:-1]
        return trio_http.Response(200, content, headers=_named(request))

    async def _do_late(self, request: trio_http.Request, number: int, length: int) -> trio_http.Response:
        await trio.sleep(self._rng.expovariate(1 / 0.008))
        return await self._do_small(request, number, length)

    async def _do_sleep(self, request: trio_http.Request, number: int, length: int) -> trio_http.Response:
        await trio.sleep(self._rng.uniform(0, 1))
        return await self._do_small(request, number, length)

    async def _do_gzip(self, request: trio_http.Request, number: int, length: int) -> trio_http.Response:
        coded = gzip.compress(content_of(number, length), 1)
        return trio_http.Response(200, coded, headers=_named(request, {"Content-Encoding": "gzip"}))

    async def _do_hints(self, request: trio_http.Request, number: int, length: int) -> trio_http.Response:
        hints = _named(request, {"Link": "</style.css>; rel=preload"})
        for _ in range(self._rng.randint(1, 3)):
            await request.send_informational(103, headers=hints)
            await trio.sleep(self._rng.uniform(0, 0.003))
        return await self._do_small(request, number, length)

    async def _do_cookie(self, request: trio_http.Request, number: int, length: int) -> trio_http.Response:
        query = dict(parse_qsl(request.query))
        fields = {"Set-Cookie": f"{query['name']}={query['set']}; Path=/"} if "set" in query else {}
        pairs = (pair.partition("=") for pair in (request.headers.get("cookie") or "").split("; "))
        found = {name: value for name, _, value in pairs}.get(query["name"], "")
        return trio_http.Response(200, text=found, headers=_named(request, fields))

    async def _do_redirect(self, request: trio_http.Request, number: int, length: int) -> trio_http.Response:
        query = dict(parse_qsl(request.query))
        hops, to = int(query["hops"]), query["to"]
        target = (
            f"/redirect/{number}/{length}?hops={hops - 1}&to={to}" if hops else f"/{to}/{number}/{length}"
        )
        status = 302 if request.method == "GET" else 307
        raise trio_http.HTTPException(status, headers=_named(request, {"Location": target}))

    # What goes out piece by piece.

    async def _do_pieces(self, request: trio_http.Request, number: int, length: int) -> None:
        fields = _named(request, {"Content-Length": str(length)})
        async with request.stream_response(200, headers=fields) as body:
            await self._send(body, content_of(number, length))

    async def _do_chunked(self, request: trio_http.Request, number: int, length: int) -> None:
        async with request.stream_response(200, headers=_named(request)) as body:
            await self._send(body, content_of(number, length))
            body.trailers = _named(request)

    async def _do_events(self, request: trio_http.Request, number: int, length: int) -> None:
        count = 0
        async with request.stream_response(200, headers=_named(request)) as body:
            while count < 5 and not request.draining:
                await body.send_all(content_of(number, length))
                count += 1
                with request.cancel_on_drain():
                    await trio.sleep(self._rng.expovariate(1 / 0.01))
            body.trailers = _named(request, {"X-Count": str(count)})

    async def _send(self, body: trio_http.ResponseStream, content: bytes) -> None:
        """Send content in pieces, with a wait now and then."""
        at = 0
        while at < len(content):
            size = self._rng.randint(1, 40_000)
            await body.send_all(content[at : at + size])
            at += size
            if self._rng.random() < 0.1:
                await trio.sleep(self._rng.uniform(0, 0.003))

    # What takes content.

    async def _do_echo(
        self, request: trio_http.Request, number: int, length: int
    ) -> trio_http.Response | None:
        pieces = [piece async for piece in request.body]
        return await self._echo(request, number, length, b"".join(pieces))

    async def _do_unzip(
        self, request: trio_http.Request, number: int, length: int
    ) -> trio_http.Response | None:
        if request.headers.get("content-encoding") != "gzip":
            self.complaints.append(f"{request.target} came in {request.headers.get('content-encoding')!r}")
        coded = await request.read(HEAVY)
        return await self._echo(request, number, length, gzip.decompress(coded))

    async def _do_early(self, request: trio_http.Request, number: int, length: int) -> trio_http.Response:
        raise trio_http.HTTPException(413, f"{number}", headers=_named(request))

    async def _do_bounded(
        self, request: trio_http.Request, number: int, length: int
    ) -> trio_http.Response | None:
        try:
            content = await request.read(1000)
        except trio_http.HTTPException as exc:
            raise trio_http.HTTPException(exc.status, f"{number}", headers=_named(request)) from exc
        return await self._echo(request, number, length, content)

    async def _echo(
        self, request: trio_http.Request, number: int, length: int, content: bytes
    ) -> trio_http.Response | None:
        """Send back what came, whole or in pieces; and hold it to what must have been sent."""
        if content != content_of(number, length):
            self.complaints.append(f"{request.target} came with {len(content)} bytes: {content[:40]!r}")
        sent = request.body.trailers.get("x-id")
        if sent is not None and sent != str(number):
            self.complaints.append(f"{request.target} came with the trailers of {sent}")
        received = _named(request, {"X-Received": checksum(content).decode()})
        if sent is None and self._rng.random() < 0.5:
            return trio_http.Response(200, content, headers=received)
        async with request.stream_response(200, headers=received) as body:
            await self._send(body, content)
            if sent is not None:
                body.trailers = {"X-Id": sent}
        return None

    async def _do_upgrade(self, request: trio_http.Request, number: int, length: int) -> None:
        async with request.upgrade("echo", headers=_named(request)) as stream:
            async for piece in stream:
                await stream.send_all(piece)

    # What does not go well.

    async def _do_file(
        self, request: trio_http.Request, number: int, length: int
    ) -> trio_http.Response | None:
        validator = f'"{number}-{length}"'
        match = _RANGE.fullmatch(request.headers.get("range") or "")
        start = 0
        fields = {"ETag": validator, "Accept-Ranges": "bytes"}
        if match is not None and request.headers.get("if-range") == validator:
            start = int(match[1])
            if start >= length:
                fields["Content-Range"] = f"bytes */{length}"
                return trio_http.Response(416, headers=_named(request, fields))
            fields["Content-Range"] = f"bytes {start}-{length - 1}/{length}"
        fields["Content-Length"] = str(length - start)
        content = content_of(number, length)[start:]
        breaks = self._rng.random() < 0.3
        async with request.stream_response(206 if start else 200, headers=_named(request, fields)) as body:
            await self._send(body, content[: self._rng.randint(0, len(content))] if breaks else content)
            if breaks:
                raise Planned("the file breaks off")
        return None

    async def _do_flaky(
        self, request: trio_http.Request, number: int, length: int
    ) -> trio_http.Response | None:
        dice = self._rng.random()
        if dice < 0.3:
            raise trio_http.HTTPException(503, f"{number}", headers=_named(request, {"Retry-After": "0"}))
        if dice < 0.4:
            return await self._do_cut(request, number, length)
        return await self._do_small(request, number, length)

    async def _do_fail(self, request: trio_http.Request, number: int, length: int) -> trio_http.Response:
        raise Planned("before the answer")

    async def _do_cut(self, request: trio_http.Request, number: int, length: int) -> None:
        fields = {"Content-Length": str(length + 1)} if self._rng.random() < 0.5 else {}
        async with request.stream_response(200, headers=_named(request, fields)) as body:
            await body.send_all(content_of(number, length))
            raise Planned("within the answer")

    async def _do_commit(self, request: trio_http.Request, number: int, length: int) -> trio_http.Response:
        with request.finish(within=30):
            ended = request.cancel_reason is not None  # a cancel that came before is not withheld
            self.begun += 1
            try:
                await trio.sleep(self._rng.expovariate(1 / 0.01))
                ended = True
            finally:
                # The end of a shutdown's grace is not withheld. Nothing else may come in here.
                self.ended += ended
                self.stopped += not ended and request.draining
                if "commit" in self._planted:
                    self.ended -= 1
        return await self._do_small(request, number, length)

    # For who looks on.

    async def _hold(self, key: str, wished: int) -> trio_http.Response:
        count, all_here = self._held.setdefault(key, ([0], trio.Event()))
        count[0] += 1
        if count[0] >= wished:
            self._held.pop(key, None)
            all_here.set()
        with trio.move_on_after(HOLD_SECONDS):
            await all_here.wait()
        return trio_http.Response(200, content=b"held" if all_here.is_set() else b"alone")

    async def _go_wrong(self, request: trio_http.Request) -> None:
        """Do what was planted, of what concerns the process."""
        match self._rng.choice(self._planted):
            case "silence":
                with trio.CancelScope(shield=True, deadline=trio.current_time() + SILENT_SECONDS):
                    await trio.sleep_forever()
            case "task":
                trio.lowlevel.spawn_system_task(trio.sleep_forever)
            case "descriptor":
                os.dup(0)
            case "log":
                logging.getLogger("trio_http.server").error("planted")
            case "unraisable":
                _Unraisable()
            case "socket":
                socket.socket()  # nobody closes it


class _Unraisable:
    def __del__(self) -> None:
        raise ValueError("planted")


def _named(request: trio_http.Request, more: dict[str, str] | None = None) -> dict[str, str]:
    """Return header fields with the number that the request's own field says."""
    return {"X-Id": request.headers.get("x-id") or "", **(more or {})}
