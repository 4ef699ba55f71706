"""How a client goes about a request, in each of the manners that a plan can have; and what it must see then.

A manner returns when what it wanted has come, and raises what the client raised otherwise. What came is
looked at to the last byte: a wrong answer is an AssertionError, whatever the weather.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import trio

from tests.simulation._handlers import Squall, content, said_by_client
from tests.simulation._plan import Errand, PlannedClient
from trio_http import (
    Client,
    ClientConfig,
    ClientConnection,
    ClientExchangeRecord,
    ClientPace,
    ConnectionLost,
    ResponseIncomplete,
    Retry,
    StreamedResponse,
    UpgradeRefused,
    race,
)
from trio_http.messages import Response


class Refused(Exception):
    """A server answered by itself, without a handler, or the gate for another server.

    Attributes:
      status: of its answer.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Caller:
    """One errand, and whom to ask.

    Attributes:
      errand: what is to be done.
      client: to do it with.
      planned: that client's plan.
      number: that client's number.
      origins: of the URLs at each host.
      dial: makes a connection to a host without the client.
      instruments: of a connection without the client.
      reports: what the request's ``report`` was called with.
      done: the errand has come to its end, and all was right.
    """

    def __init__(
        self,
        errand: Errand,
        client: Client,
        planned: PlannedClient,
        origins: Mapping[str, str],
        dial: Callable[[str], Awaitable[trio.abc.Stream]],
        instruments: list[Any],
    ) -> None:
        self.errand = errand
        self.client = client
        self.planned = planned
        self.origins = origins
        self.dial = dial
        self.instruments = instruments
        self.reports: list[ClientExchangeRecord] = []
        self.done = False

    def url(self, handler: str, marker: str | None = None) -> str:
        """Return what to ask for."""
        errand = self.errand
        return f"{self.origins[errand.host]}/{handler}/{marker or errand.id}/{errand.size}/{errand.pause}"

    @property
    def uploaded(self) -> bytes:
        """The content of the request."""
        return content(said_by_client(self.errand.id), self.errand.body)

    @property
    def told(self) -> dict[str, Any]:
        """The options of a request with content: the handler is to know how much must come."""
        return {"headers": {"x-body": str(self.errand.body)}, "report": self.reports.append}

    def check(self, response: Response, status: int = 200, *, has_content: bool = True) -> None:
        """See that a whole response is the one to this errand."""
        self.check_head(response, status)
        if has_content:
            self.check_content(response.content)

    def check_head(
        self, response: Response | StreamedResponse, status: int = 200, marker: str | None = None
    ) -> None:
        """See that the head of a response is of this errand, and from a handler.

        Raises:
          Refused: it is from the server itself.
        """
        found = response.headers.get("x-marker")
        if found is None:
            raise Refused(response.status)
        marker = marker or self.errand.id
        assert found == marker, f"{marker} got the answer to {found}"
        assert response.status == status, f"{marker} got {response.status}, expected {status}"
        cookie = response.headers.get("x-cookie")
        owner = f"owner={self.errand.client}"
        assert cookie in (None, owner), f"the cookie of client {self.errand.client} is {cookie}"

    def check_content(self, data: bytes, marker: str | None = None) -> None:
        """See that content is what the handler has to say, all of it."""
        expected = content(marker or self.errand.id, self.errand.size)
        assert data == expected, (
            f"{self.errand.id} got {len(data)} bytes of {len(expected)}; the first wrong one is "
            f"{_differs_at(data, expected)}"
        )


def _differs_at(data: bytes, expected: bytes) -> int:
    return next(
        (at for at, (ours, theirs) in enumerate(zip(data, expected, strict=False)) if ours != theirs),
        min(len(data), len(expected)),
    )


Manner: TypeAlias = Callable[[Caller], Awaitable[object]]

MANNERS: Final[dict[str, Manner]] = {}


def manner(function: Manner) -> Manner:
    """Enter a manner by its name."""
    MANNERS[function.__name__.rstrip("_")] = function
    return function


# -------------------------------------------------------------------------------------------- without content


@manner
async def get(caller: Caller) -> None:
    caller.check(await caller.client.get(caller.url(caller.errand.handler)))


@manner
async def head(caller: Caller) -> None:
    response = await caller.client.head(caller.url(caller.errand.handler))
    caller.check_head(response)
    assert response.content == b"", "content in answer to HEAD"


@manner
async def redirect(caller: Caller) -> None:
    hops = caller.errand.size % 3 + 1
    response = await caller.client.get(caller.url("hop", f"{caller.errand.id}~{hops}"), follow_redirects=True)
    if response.headers.get("x-marker") is not None:
        assert len(response.history) == hops
    caller.check(response)


@manner
async def gzip(caller: Caller) -> None:
    response = await caller.client.get(caller.url("coded"), decode=True)
    caller.check(response)


@manner
async def trailers(caller: Caller) -> None:
    async with caller.client.stream("GET", caller.url("trailers")) as response:
        caller.check_head(response)
        data = await response.read()
        caller.check_content(data)
        assert response.trailers["x-sum"] == str(sum(data)), "the trailers are others"


@manner
async def inform(caller: Caller) -> None:
    seen: list[str] = []
    response = await caller.client.get(
        caller.url("inform"), on_interim=lambda interim: seen.append(interim.headers["x-early"])
    )
    caller.check(response)
    # The gate passes none of them on when it is a proxy.
    assert set(seen) <= {caller.errand.id}, f"interim responses of {seen}"
    assert seen or caller.planned.way == "proxy", "there was no interim response"


@manner
async def stream(caller: Caller) -> None:
    """Read slowly."""
    async with caller.client.stream("GET", caller.url(caller.errand.handler)) as response:
        caller.check_head(response)
        pieces = []
        async for piece in response.body:
            pieces.append(piece)
            if len(pieces) < 4:
                await trio.sleep(caller.errand.pause)
        caller.check_content(b"".join(pieces))


@manner
async def leave(caller: Caller) -> None:
    """Leave before the end, with or without having begun to read."""
    async with caller.client.stream("GET", caller.url(caller.errand.handler)) as response:
        caller.check_head(response)
        await trio.sleep(caller.errand.pause)
        if caller.errand.size % 2:
            piece = await response.body.receive_some(5)
            expected = content(caller.errand.id, caller.errand.size)
            assert piece == expected[: len(piece)], f"{piece!r} in answer to {caller.errand.id}"
        if caller.errand.size % 3 == 0:
            raise Squall(caller.errand.id)


@manner
async def race_(caller: Caller) -> None:
    """Ask twice; the first answer counts."""

    async def ask(marker: str) -> Response:
        response = await caller.client.get(caller.url("sleep", marker))
        caller.check_head(response, marker=marker)
        caller.check_content(response.content, marker)
        return response

    first, second = (f"{caller.errand.id}{which}" for which in "!*")
    await race(lambda: ask(first), lambda: ask(second), delay=caller.errand.pause)


@manner
async def warm(caller: Caller) -> None:
    await caller.client.warm(caller.origins[caller.errand.host], caller.errand.size % 3 + 1)


@manner
async def retry(caller: Caller) -> None:
    """Be told "later", and come later.

    Often enough for a server that is away in between: with six attempts the last one could be the first to
    arrive, and was told "later" for good (seed 94957 in a hundred thousand).
    """
    policy = Retry(attempts=8, backoff=0.25, jitter=False, budget=None)
    caller.check(await caller.client.get(caller.url("flaky"), retry=policy))


@manner
async def cookie(caller: Caller) -> None:
    response = await caller.client.get(caller.url("cookie"), headers={"x-owner": str(caller.errand.client)})
    caller.check(response)
    caller.check(await caller.client.get(caller.url("plain")))


@manner
async def gateway(caller: Caller) -> None:
    """Ask one server for what another one has."""
    errand, gate = caller.errand, caller.origins["gate.test"]
    if errand.size % 2:
        path = f"/via/{errand.host}/{errand.handler}/{errand.id}/{errand.size}/{errand.pause}"
        caller.check(await caller.client.get(gate + path))
    else:
        path = f"/via/{errand.host}/take/{errand.id}/{errand.size}/{errand.pause}"
        caller.check(await caller.client.post(gate + path, content=caller.uploaded, **caller.told))


@manner
async def alone(caller: Caller) -> None:
    """Use a connection without a pool."""
    connection = await caller.dial(caller.errand.host)
    config = ClientConfig(instruments=caller.instruments)
    async with ClientConnection(connection, config=config) as client:
        caller.check(await client.get(caller.url(caller.errand.handler)))
        if not client.closed:
            caller.check(await client.post(caller.url("take"), content=caller.uploaded, **caller.told))


# ----------------------------------------------------------------------------------------------- with content


class _Source(trio.abc.ReceiveStream):
    """Content that comes in three pieces, with pauses; or breaks off.

    Attributes:
      closed: it was closed.
    """

    def __init__(self, data: bytes, pause: float, *, fails: bool = False) -> None:
        self.closed = False
        self._rest = data
        self._step = len(data) // 3 + 1
        self._pause = pause
        self._fails = fails

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep(self._pause)
        if self._fails and len(self._rest) < self._step:
            raise Squall("the source")
        piece, self._rest = self._rest[: self._step], self._rest[self._step :]
        return piece

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


@manner
async def post(caller: Caller) -> None:
    caller.check(
        await caller.client.post(
            caller.url(caller.errand.handler), content=caller.uploaded, retry=None, **caller.told
        )
    )


@manner
async def upload(caller: Caller) -> None:
    source = _Source(caller.uploaded, caller.errand.pause)
    try:
        caller.check(
            await caller.client.post(caller.url(caller.errand.handler), content=source, **caller.told)
        )
    finally:
        assert not source.closed, "a stream of the caller's was closed"


@manner
async def expect(caller: Caller) -> None:
    refused = caller.errand.size % 3 == 0
    handler = "refuse" if refused else caller.errand.handler
    headers = {"x-body": str(caller.errand.body), "expect": "100-continue"}
    response = await caller.client.post(
        caller.url(handler), content=caller.uploaded, headers=headers, report=caller.reports.append
    )
    caller.check(response, 413 if refused else 200)


@manner
async def compress(caller: Caller) -> None:
    caller.check(
        await caller.client.post(
            caller.url("inflate"), content=caller.uploaded, compress="gzip", **caller.told
        )
    )


@manner
async def refused(caller: Caller) -> None:
    """Be refused while much is still to be sent."""
    data = caller.uploaded * 5
    source: Any = data if caller.errand.size % 2 else _Source(data, caller.errand.pause)
    caller.check(await caller.client.post(caller.url("refuse"), content=source, **caller.told), 413)


@manner
async def redirect_post(caller: Caller) -> None:
    response = await caller.client.post(
        caller.url("hop", f"{caller.errand.id}~1"),
        content=caller.uploaded,
        follow_redirects=True,
        **caller.told,
    )
    caller.check(response)


# ----------------------------------------------------------------------------------- where a failure is right


@manner
async def torn(caller: Caller) -> None:
    """See that a part is not taken for the whole."""
    try:
        response = await caller.client.get(caller.url("tear"))
    except ResponseIncomplete:
        return
    caller.check_head(response)
    raise AssertionError(f"{caller.errand.id} got as whole what was torn")


@manner
async def fails(caller: Caller) -> None:
    response = await caller.client.get(caller.url("fail"))
    if response.status != 500:
        raise Refused(response.status)


@manner
async def late(caller: Caller) -> None:
    """Give a server up that takes too long."""
    try:
        response = await caller.client.get(caller.url("dawdle"), pace=ClientPace(head=2), retry=None)
    except ConnectionLost as exc:
        if exc.facts.timed_out:
            return
        raise
    caller.check_head(response)
    raise AssertionError(f"{caller.errand.id} was answered in 20 s, and had 2")


@manner
async def source_fails(caller: Caller) -> None:
    source = _Source(caller.uploaded, caller.errand.pause, fails=True)
    response = await caller.client.post(caller.url("take"), content=source, **caller.told)
    caller.check_head(response)
    raise AssertionError(f"{caller.errand.id} was answered whole, and its content was not")


@manner
async def echo(caller: Caller) -> None:
    """Change to another protocol."""
    word = content(caller.errand.id, caller.errand.size)
    try:
        async with caller.client.upgrade(caller.url("echo"), "echo") as both:
            heard = bytearray()

            async def say() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    await both.send_all(word)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(say)
                while len(heard) < len(word):
                    data = await both.receive_some(10_000)
                    if not data:
                        raise trio.BrokenResourceError("the echo has ended")
                    heard += data
            assert heard == word, f"another echo than that of {caller.errand.id}"
    except UpgradeRefused as exc:
        caller.check_head(exc.response, 426)
        assert caller.planned.way == "proxy", "an upgrade was refused, and nobody stood between"
    except BaseExceptionGroup as group:
        raise _alone(group) from None


def _alone(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what a nursery of our own has wrapped: one error, or the cancels of both of its tasks."""
    errors = group.split(trio.Cancelled)[1]
    return group.exceptions[0] if errors is None else errors.exceptions[0]


async def take_turn(caller: Caller) -> None:
    """Do the errand."""
    await MANNERS[caller.errand.manner](caller)
    caller.done = True
