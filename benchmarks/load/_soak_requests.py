"""What a task of the soak asks, in which manner, and whether the answer is that of its request.

Each kind of `_soak_app` has a function here that makes one request of a `Call` and returns how it ended. It
raises `Wrong` for an answer that is not that of its request, and lets the client's errors pass, for `excuse`
to judge: an error needs a reason that the soak itself has made.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from _peer import checksum, content_of
from _pieces import Pieces

import trio_http

ANSWERED, LEFT, REFUSED = "answered", "left half-way", "refused or broken off on purpose"


class Wrong(Exception):
    """An answer that is not that of its request; the text says what it was."""


class Refused(Exception):
    """The server has answered by itself, without the handler."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server's own {status}")
        self.status = status


class _Left(Exception):
    """The task leaves a response before its end, by an exception."""


@dataclass(eq=False, slots=True)
class Seat:
    """A client, and whether it is being closed."""

    client: trio_http.Client
    closing: bool = False


@dataclass(eq=False, slots=True)
class Call:
    """One request under way.

    Attributes:
      number: in all that is asked and answered.
      kind: of `KINDS`.
      route: where it goes.
      base: the URL of that.
      seat: whose client makes it.
      rng: of its choices.
      folder: for what it downloads.
      scope: cancels it.
      begin: on trio's clock.
      bound: when it should have ended, however it does.
      task: that makes it.
      cancelled: from outside.
    """

    number: int
    kind: str
    route: str
    base: str
    seat: Seat
    rng: random.Random
    folder: Path
    scope: trio.CancelScope
    begin: float
    bound: float
    task: trio.lowlevel.Task = field(default_factory=trio.lowlevel.current_task)
    cancelled: bool = False

    @property
    def client(self) -> trio_http.Client:
        return self.seat.client

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Id": str(self.number)}

    def url(self, kind: str, length: int, query: str = "") -> str:
        return f"{self.base}/{kind}/{self.number}/{length}{query}"

    def length(self) -> int:
        """Draw a length of content, mostly small."""
        return self.rng.choice((0, 1, 20, 20, 300, 1000, 1000, 1000, 10_000, 30_000, 120_000))

    def pieces(self, content: bytes) -> AsyncIterator[bytes]:
        return Pieces(self.rng, content)

    def check(
        self, response: trio_http.ReceivedResponse | trio_http.StreamedResponse, status: int = 200
    ) -> None:
        """Hold a head to what it must be.

        Raises:
          Refused: it is none of a handler's.
          Wrong: it is another's.
        """
        found = response.headers.get("x-id")
        if found is None and response.status in (400, 408, 500, 503):
            raise Refused(response.status)
        if (response.status, found) != (status, str(self.number)):
            raise Wrong(f"expected {status} for {self.number}, and was told {response.status} for {found}")

    def check_content(self, received: bytes, length: int, *, whole: bool = True) -> None:
        """Hold content, or the beginning of it, to what it must be.

        Raises:
          Wrong: it is something else.
        """
        wanted = content_of(self.number, length)
        if received != (wanted if whole else wanted[: len(received)]):
            raise Wrong(f"{len(received)} bytes, of {length}: {received[:40]!r}...{received[-20:]!r}")

    def check_trailers(self, trailers: trio_http.Headers) -> None:
        if trailers.get("x-id") != str(self.number):
            raise Wrong(f"the trailers of another answer: {trailers!r}")


# Whole answers.


async def ask_small(call: Call, kind: str = "small") -> str:
    length = call.length()
    method = call.rng.choices(("GET", "HEAD", "DELETE"), (8, 1, 1))[0] if kind == "small" else "GET"
    response = await call.client.request(method, call.url(kind, length), headers=call.headers)
    call.check(response)
    if method == "HEAD":
        if response.content or response.headers.get("content-length") != str(length):
            raise Wrong(f"to HEAD: {response.content[:40]!r}, {response.headers!r}")
    else:
        call.check_content(response.content, length)
    return ANSWERED


async def ask_chunked(call: Call) -> str:
    length = call.length()
    response = await call.client.get(call.url("chunked", length), headers=call.headers)
    call.check(response)
    call.check_content(response.content, length)
    call.check_trailers(response.trailers)
    return ANSWERED


async def ask_gzip(call: Call) -> str:
    length = call.rng.choice((0, 20, 1000, 20_000))
    decode = call.rng.random() < 0.8
    response = await call.client.get(call.url("gzip", length), headers=call.headers, decode=decode)
    call.check(response)
    call.check_content(response.content if decode else gzip.decompress(response.content), length)
    return ANSWERED


async def ask_hints(call: Call) -> str:
    length = call.length()
    told: list[str | None] = []
    response = await call.client.get(
        call.url("hints", length),
        headers=call.headers,
        on_interim=lambda interim: told.append(interim.headers.get("x-id")),
    )
    call.check(response)
    call.check_content(response.content, length)
    if not told or set(told) != {str(call.number)}:
        raise Wrong(f"the hints of another answer: {told}")
    return ANSWERED


async def ask_cookie(call: Call) -> str:
    name = f"c{call.number % 30}"
    with_name = f"?name={name}"
    set_it = f"{with_name}&set={call.number}"
    response = await call.client.get(call.url("cookie", 0, set_it), headers=call.headers)
    call.check(response)
    response = await call.client.get(call.url("cookie", 0, with_name), headers=call.headers)
    call.check(response)
    # Another task may have set the same name meanwhile: to a number that has the same name.
    if not response.text.isdigit() or int(response.text) % 30 != call.number % 30:
        raise Wrong(f"the cookie {name} came back as {response.text!r}")
    return ANSWERED


async def ask_redirect(call: Call) -> str:
    length, hops = call.length(), call.rng.randint(0, 3)
    if call.rng.random() < 0.6:
        response = await call.client.get(
            call.url("redirect", length, f"?hops={hops}&to=small"),
            headers=call.headers,
            follow_redirects=True,
        )
    else:
        response = await call.client.post(
            call.url("redirect", length, f"?hops={hops}&to=echo"),
            headers=call.headers,
            content=content_of(call.number, length),
            follow_redirects=True,
        )
    call.check(response)
    call.check_content(response.content, length)
    return ANSWERED


async def ask_flaky(call: Call) -> str:
    length = call.length()
    retry = trio_http.Retry(attempts=4, backoff=0.002, max_backoff=0.01, budget=None)
    response = await call.client.get(call.url("flaky", length), headers=call.headers, retry=retry)
    if response.status == 503 and response.text == str(call.number):
        return REFUSED
    call.check(response)
    call.check_content(response.content, length)
    return ANSWERED


async def ask_hedged(call: Call) -> str:
    length = call.length()
    get = functools.partial(call.client.get, call.url("late", length), headers=call.headers)
    attempts = [get] * call.rng.randint(2, 3)
    response = await trio_http.race(*attempts, delay=call.rng.choice((0, 0.003, 0.01)))
    call.check(response)
    call.check_content(response.content, length)
    return ANSWERED


async def ask_warm(call: Call) -> str:
    await call.client.warm(call.base, call.rng.randint(1, 4))
    return await ask_small(call)


async def ask_commit(call: Call) -> str:
    return await ask_small(call, "commit")


async def ask_late(call: Call) -> str:
    return await ask_small(call, "late")


async def ask_sleep(call: Call) -> str:
    # Nobody waits for so long: it is cancelled mostly, and so is the handler.
    call.scope.deadline = min(call.scope.deadline, trio.current_time() + call.rng.expovariate(1 / 0.15))
    return await ask_small(call, "sleep")


# Content of requests.


async def ask_echo(call: Call) -> str:
    length = call.length()
    content = content_of(call.number, length)
    headers, options = call.headers, dict[str, Any]()
    kind = call.rng.choice(("echo", "echo", "unzip", "bounded"))
    manner = call.rng.choice(("bytes", "pieces", "sized", "trailers", "expect"))
    if kind == "unzip":
        options["compress"] = "gzip"
    if manner == "expect" and length:  # without content there is nothing to wait with
        headers["Expect"] = "100-continue"
    if manner == "sized" and kind != "unzip":
        options["content"] = trio_http.Sized(call.pieces(content), length)
    elif manner in ("pieces", "trailers"):
        options["content"] = call.pieces(content)
    else:
        options["content"] = content
    if manner == "trailers" and kind != "bounded":
        options["trailers"] = {"X-Id": str(call.number)}
    url = call.url(kind, length)
    response = await call.client.post(url, headers=headers, **options)
    if kind == "bounded" and length > 1000:
        call.check(response, 413)
        return REFUSED
    call.check(response)
    call.check_content(response.content, length)
    if response.headers.get("x-received") != checksum(content).decode():
        raise Wrong(f"the server has received {response.headers.get('x-received')}")
    if "trailers" in options:
        call.check_trailers(response.trailers)
    return ANSWERED


async def ask_early(call: Call) -> str:
    length = call.rng.choice((1000, 100_000, 600_000))
    content = content_of(call.number, length)
    headers = call.headers
    if call.rng.random() < 0.3:
        headers["Expect"] = "100-continue"
    response = await call.client.post(
        call.url("early", length),
        headers=headers,
        content=content if call.rng.random() < 0.3 else call.pieces(content),
    )
    call.check(response, 413)
    if response.text != str(call.number):
        raise Wrong(f"refused as {response.text!r}")
    return REFUSED


# Answers that are streamed, and upgrades.


async def ask_stream(call: Call) -> str:
    length = call.rng.choice((20, 1000, 30_000, 120_000, 500_000))
    kind = call.rng.choice(("pieces", "chunked", "gzip"))
    most = call.rng.choice((0, 1, 3, 1_000_000))
    by_exception = call.rng.random() < 0.5
    received, ended = b"", False
    trailers = None
    try:
        async with call.client.stream("GET", call.url(kind, length), headers=call.headers) as response:
            call.check(response)
            for _ in range(most):
                piece = await response.body.receive_some()
                received += piece
                if not piece:
                    ended, trailers = True, response.trailers
                    break
            if not ended and by_exception:
                raise _Left
    except _Left:
        pass
    call.check_content(received, length, whole=ended)
    if ended and kind == "chunked" and trailers is not None:
        call.check_trailers(trailers)
    return ANSWERED if ended else LEFT


async def ask_events(call: Call) -> str:
    length = call.rng.choice((20, 1000))
    event = content_of(call.number, length)
    async with call.client.stream("GET", call.url("events", length), headers=call.headers) as response:
        call.check(response)
        received = await response.read()
        call.check_trailers(response.trailers)
        count = int(response.trailers["x-count"])
    if received != event * count:
        raise Wrong(f"{count} events of {length} bytes are {received[:40]!r}, {len(received)} bytes")
    return ANSWERED


async def ask_upgrade(call: Call) -> str:
    content = content_of(call.number, call.rng.choice((10, 1000, 15_000)))
    received = bytearray()
    asked = call.client.upgrade(call.url("upgrade", 0), "echo", headers=call.headers)
    try:
        async with asked as stream:
            assert asked.response is not None
            call.check(asked.response, 101)
            for start in range(0, len(content), 4000):
                await stream.send_all(content[start : start + 4000])
            if by_end := call.base.startswith("http:") and call.rng.random() < 0.5:
                await stream.send_eof()
            while by_end or len(received) < len(content):
                data = await stream.receive_some()
                received += data
                if not data:
                    break
    except trio_http.UpgradeRefused as exc:
        if exc.response.headers.get("x-id") is None:
            raise Refused(exc.response.status) from exc
        raise Wrong(f"an upgrade was answered {exc.response.status}") from exc
    if not content.startswith(received):
        raise Wrong(f"echoed: {bytes(received[:40])!r}, {len(received)} of {len(content)} bytes")
    if len(received) < len(content):
        raise trio.BrokenResourceError("the upgraded connection has ended early")
    return ANSWERED


async def ask_download(call: Call) -> str:
    """Download, and again until all of it is there; a cancel leaves a part, for which nobody comes back."""
    length = call.rng.choice((1000, 60_000, 300_000))
    path = call.folder / str(call.number)
    get = functools.partial(call.client.download, call.url("file", length), path, headers=call.headers)
    try:
        for attempt in itertools.count(1):
            try:
                if attempt == 1 and call.rng.random() < 0.3:
                    with trio.move_on_after(call.rng.uniform(0, 0.02)):
                        await get()
                await get()
                break
            except trio_http.ResponseIncomplete:
                if attempt == 8:
                    return REFUSED
        call.check_content(path.read_bytes(), length)
    finally:
        for name in (str(call.number), f"{call.number}.part"):
            (call.folder / name).unlink(missing_ok=True)
    return ANSWERED


# What fails on purpose.


async def ask_fail(call: Call) -> str:
    response = await call.client.get(call.url("fail", 0), headers=call.headers)
    if response.status != 500:
        call.check(response, 500)
    return REFUSED


async def ask_cut(call: Call) -> str:
    length = call.length()
    try:
        response = await call.client.get(call.url("cut", length), headers=call.headers)
    except (trio_http.ResponseIncomplete, trio_http.ConnectionLost):
        return REFUSED
    call.check(response)
    raise Wrong(f"an answer that was broken off is whole, with {len(response.content)} bytes")


KINDS: dict[str, tuple[int, Callable[[Call], Awaitable[str]]]] = {
    "small": (70, ask_small),
    "chunked": (6, ask_chunked),
    "gzip": (4, ask_gzip),
    "hints": (3, ask_hints),
    "cookie": (3, ask_cookie),
    "redirect": (4, ask_redirect),
    "flaky": (4, ask_flaky),
    "hedged": (3, ask_hedged),
    "warm": (2, ask_warm),
    "commit": (3, ask_commit),
    "late": (5, ask_late),
    "sleep": (2, ask_sleep),
    "echo": (12, ask_echo),
    "early": (3, ask_early),
    "stream": (6, ask_stream),
    "events": (2, ask_events),
    "upgrade": (3, ask_upgrade),
    "download": (2, ask_download),
    "fail": (1, ask_fail),
    "cut": (2, ask_cut),
}
"""Each kind, with how often it is asked."""

FAILURES = (trio_http.HTTPError, trio.BrokenResourceError, trio.ClosedResourceError, Refused)
"""What a request may end in, if there is an excuse."""

_BREAKS = (
    trio_http.ConnectFailed,
    trio_http.ConnectionLost,
    trio_http.ResponseIncomplete,
    trio.BrokenResourceError,
)


def excuse(exc: BaseException, call: Call, *, restarted: bool) -> str | None:
    """Return what to call a failure that the soak has made itself; None for one that must not be.

    Args:
      exc: of `FAILURES`.
      call: what failed.
      restarted: its server was being drained or away for a part of the time.
    """
    if isinstance(exc, trio_http.RaceFailed):
        found = {excuse(error, call, restarted=restarted) for error in exc.errors}
        return None if None in found else found.pop()
    closed = isinstance(exc, trio_http.PoolClosed) or (
        call.kind == "upgrade" and isinstance(exc, trio.ClosedResourceError | trio.BrokenResourceError)
    )
    if closed and call.seat.closing:
        return "client closed"
    broken = isinstance(exc, _BREAKS)
    status = exc.status if isinstance(exc, Refused) else 0
    if isinstance(exc, trio_http.StatusError):
        status = exc.response.status
    if restarted and (broken or status in (408, 503)):
        return "server restarted"
    if call.route.startswith("chaos") and (broken or status in (400, 408)):
        return "broken by chaos"
    if call.kind == "flaky" and isinstance(exc, trio_http.ResponseIncomplete | trio_http.ConnectionLost):
        return REFUSED
    return None
