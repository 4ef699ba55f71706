"""An exception that a caller's own code raises within one of our blocks comes out of it as it is: the same
object, and in no group.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from tests.client._network import END, OK, URL, answering, client_of
from trio_http import Request, Response
from trio_http.client import Client, ClientConnection
from trio_http.testing import ScriptedPeer, open_client

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


class Stop(BaseException):
    """As KeyboardInterrupt, but the caller's own."""


ERRORS = [
    ValueError("mine"),
    Stop("mine"),
    StopAsyncIteration("mine"),
    ExceptionGroup("mine", [ValueError("a"), OSError("b")]),
    BaseExceptionGroup("mine", [Stop("a")]),
]


class coming_out:
    """What is within has to raise ``error`` itself, with nothing chained to it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> bool:
        assert exc is self.error
        assert exc.__cause__ is None
        assert exc.__context__ is None
        return True


async def app(request: Request) -> Response:
    return Response(200, text="ok")


async def no_network(*_: object) -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    raise OSError("no network")


BLOCKS: dict[str, Any] = {
    "Client": lambda: Client(dial=no_network),
    "open_client": lambda: open_client(app),
    "ClientConnection": lambda: ClientConnection(ScriptedPeer().stream),
}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", BLOCKS)
async def test_out_of_the_blocks_that_stand_alone(name: str, error: BaseException) -> None:
    """Each of them has tasks or streams of its own to end first."""
    block: AbstractAsyncContextManager[Any] = BLOCKS[name]()
    with coming_out(error):
        async with block:
            await trio.lowlevel.checkpoint()
            raise error


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_out_of_the_block_of_a_client_with_requests_under_way(error: BaseException) -> None:
    """Those of other tasks end in their own tasks."""
    ended: list[type[BaseException]] = []

    async def ask(client: Client) -> None:
        try:
            await client.get("/slow")
        except Exception as exc:  # noqa: BLE001  # its kind is what is looked at
            ended.append(type(exc))

    async def slow(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    async with trio.open_nursery() as nursery:
        with coming_out(error):
            async with open_client(slow) as client:
                nursery.start_soon(ask, client)
                await trio.testing.wait_all_tasks_blocked()
                raise error
    assert [kind.__name__ for kind in ended] == ["PoolClosed"]


@pytest.mark.parametrize("answer", [OK, HALF], ids=["all here", "half here"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_out_of_the_block_of_a_stream(error: BaseException, answer: bytes) -> None:
    async with client_of(answering(answer)) as (client, _):
        with coming_out(error):
            async with client.stream("GET", URL):
                raise error


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_out_of_the_block_of_an_upgrade(error: BaseException) -> None:
    async with client_of(ScriptedPeer().expect_until(END).send(SWITCH)) as (client, network):
        with coming_out(error):
            async with client.upgrade(URL, "echo"):
                raise error
        assert network.streams[0].closed


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("sends", [False, True], ids=["at once", "after a part"])
async def test_out_of_the_block_of_a_servers_stream_response(error: BaseException, sends: bool) -> None:
    """And the answer never looks complete."""
    out: list[BaseException] = []

    async def handler(request: Request) -> None:
        with coming_out(error):
            async with request.stream_response(200) as body:
                if sends:
                    await body.send_all(b"part")
                raise error
        out.append(error)

    async with open_client(handler) as client:
        with pytest.raises(Exception) as caught:
            response = await client.get("/")
            raise AssertionError(f"{response!r} looks complete")
        assert type(caught.value).__name__ in ("ResponseIncomplete", "ConnectionLost")
    assert out == [error]


@pytest.mark.parametrize(
    "error", [Stop("mine"), BaseExceptionGroup("mine", [Stop("a")])], ids=["one", "group"]
)
async def test_out_of_a_dial_of_the_callers_own(error: BaseException) -> None:
    """A dial runs in a task of the client's; what it raises is its caller's all the same."""

    async def dial(*_: object) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise error

    with coming_out(error):
        async with Client(dial=dial) as client:
            await client.get(URL)


@pytest.mark.parametrize("error", ERRORS[:2] + ERRORS[3:], ids=lambda error: type(error).__name__)
async def test_out_of_a_report_of_progress_by_hand(error: BaseException) -> None:
    """In the midst of a body that is read."""
    async with client_of(answering(HALF)) as (client, _):
        with coming_out(error):
            async with client.stream("GET", URL) as response:
                async for _piece in response.body:
                    raise error
