"""How the functions for tests are called."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import trio
import trio.testing

from tests.conformance._cases import CLOSED, MISUSE, Failure, case
from tests.conformance._server_worlds import Handling, handling
from trio_http import Request, Response, Server, serve_tcp
from trio_http.testing import (
    Faults,
    FaultyStream,
    MemoryStream,
    RecordedExchange,
    RecordedRequest,
    RecordedResponse,
    Recording,
    Script,
    ScriptedPeer,
    ScriptedServer,
    ScriptFailed,
    SimulatedListener,
    SimulatedNetwork,
    SimulatedStream,
    cancel_at_every_step,
    memory_pair,
    open_client,
    open_scripted_server,
    play_to,
    play_to_handler,
)

# ---------------------------------------------------------------------------------------------------- streams


@attrs.define
class Ends:
    """A stream that is tested, and its peer.

    Attributes:
      got: what calls have received.
    """

    ours: Any
    peer: MemoryStream | SimulatedStream
    got: bytes = b""


Prepare = Callable[[Ends], Awaitable[object]]


def ends(kind: str, prepare: Prepare | None = None) -> Callable[[], AbstractAsyncContextManager[Ends]]:
    """Return the world of a stream of one kind, to which its peer has sent "data"."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Ends]:
        left, right = memory_pair(1000)
        async with left, right:
            await right.send_all(b"data")
            ours = left if kind == "MemoryStream" else FaultyStream(left, sending=Faults(at_most=2))
            pair = Ends(ours, right)
            if prepare is not None:
                await prepare(pair)
            yield pair

    @contextlib.asynccontextmanager
    async def simulated() -> AsyncIterator[Ends]:
        async with SimulatedNetwork() as network, network.listen("a", 80) as listener:
            ours = await network.dial("a", 80)
            pair = Ends(ours, await listener.accept())
            await pair.peer.send_all(b"data")
            if prepare is not None:
                await prepare(pair)
            yield pair

    return simulated if kind == "SimulatedStream" else world


async def _receive(pair: Ends) -> None:
    pair.got += await pair.ours.receive_some(2)


async def _receive_none(pair: Ends) -> None:
    await pair.ours.receive_some(0)


async def _next(pair: Ends) -> None:
    pair.got += await pair.ours.__anext__()


async def _send(pair: Ends) -> None:
    await pair.ours.send_all(b"data")


async def _wait(pair: Ends) -> None:
    await pair.ours.wait_send_all_might_not_block()


async def _end(pair: Ends) -> None:
    await pair.ours.send_eof()


async def _close(pair: Ends) -> None:
    await pair.ours.aclose()


async def _enter(pair: Ends) -> None:
    assert await pair.ours.__aenter__() is pair.ours


async def _exit(pair: Ends) -> None:
    await pair.ours.__aexit__(None, None, None)


async def _reset(pair: Ends) -> None:
    pair.peer.reset()


async def _peer_ends(pair: Ends) -> None:
    await pair.ours.receive_some()
    await pair.peer.send_eof()


async def _nothing_was_lost(pair: Ends) -> None:
    while len(pair.got) < len(b"data"):
        pair.got += await pair.ours.receive_some()
    assert pair.got == b"data"


def _is_closed(pair: Ends) -> None:
    assert (pair.ours._stream if isinstance(pair.ours, FaultyStream) else pair.ours).closed


_RESET = (trio.BrokenResourceError, _reset)
_CLOSED = (trio.ClosedResourceError, _close)

for kind in ("MemoryStream", "FaultyStream", "SimulatedStream"):
    home = f"trio_http.testing.{kind}"
    case(
        f"{home}.receive_some",
        world=ends(kind),
        check=_nothing_was_lost,
        fails=[
            Failure(_receive, trio.BrokenResourceError, prepare=_reset, spoils=True),
            Failure(_receive, trio.ClosedResourceError, prepare=_close, spoils=True),
            Failure(_receive_none, ValueError, at_once=MISUSE),
        ],
    )(_receive)
    case(
        f"{home}.__anext__",
        world=ends(kind),
        check=_nothing_was_lost,
        fails=[Failure(_next, StopAsyncIteration, prepare=_peer_ends, spoils=True)],
    )(_next)
    for name, call in [("send_all", _send), ("wait_send_all_might_not_block", _wait), ("send_eof", _end)]:
        case(
            f"{home}.{name}",
            world=ends(kind),
            fails=[
                Failure(call, error, prepare=prepare)
                for error, prepare in [_CLOSED, *([] if name == "send_eof" else [_RESET])]
            ],
        )(call)
    case(f"{home}.aclose", world=ends(kind), check=_is_closed)(_close)
    case(f"{home}.aclose", world=ends(kind, _close), check=_is_closed, variant="closed before")(_close)
    case(f"{home}.__aenter__", world=ends(kind))(_enter)
    case(f"{home}.__aexit__", world=ends(kind), check=_is_closed)(_exit)


def faulty(**faults: int) -> Callable[[], AbstractAsyncContextManager[Ends]]:
    """Return the world of a stream in which something goes wrong, in both directions."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Ends]:
        left, right = memory_pair()
        async with left, right:
            yield Ends(FaultyStream(left, receiving=Faults(**faults), sending=Faults(**faults)), right)

    return world


for name, call in [("receive_some", _receive), ("send_all", _send)]:

    @case(f"trio_http.testing.FaultyStream.{name}", world=faulty(end_at=0), variant="at its end")
    async def _(pair: Ends, call: Callable[[Ends], Awaitable[None]] = call) -> None:
        await call(pair)


# ---------------------------------------------------------------------------------------- scripts and records


async def app(request: Request) -> Response:
    return Response(text="well")


@contextlib.asynccontextmanager
async def scripted() -> AsyncIterator[ScriptedPeer]:
    peer = ScriptedPeer().send(b"hello").wait(1).close()
    async with peer.stream:
        yield peer


@contextlib.asynccontextmanager
async def scripted_in_vain() -> AsyncIterator[ScriptedPeer]:
    peer = ScriptedPeer().expect(b"hello")
    async with peer.stream:
        await peer.stream.send_all(b"farewell")
        yield peer


async def _play(peer: ScriptedPeer) -> None:
    await peer.play()


case(
    "trio_http.testing.ScriptedPeer.play",
    world=scripted,
    fails=[Failure(_play, AssertionError, world=scripted_in_vain)],
)(_play)

EXCHANGE = RecordedExchange(
    request=RecordedRequest(method="GET", host="a", target="/"),
    response=RecordedResponse(status=200, content=b"again"),
)


@attrs.define
class Replaying:
    scene: Handling
    replay: Any


@contextlib.asynccontextmanager
async def replaying() -> AsyncIterator[Replaying]:
    async with handling()() as scene:
        yield Replaying(scene, Recording([EXCHANGE]).handler())


@case("trio_http.testing.Replay.__call__", world=replaying)
async def _(given: Replaying) -> None:
    assert (await given.replay(given.scene.request)).content == b"again"


async def _two_steps() -> None:
    await trio.sleep(1)


async def _failing() -> None:
    await trio.lowlevel.checkpoint()
    raise ZeroDivisionError


async def _sweep_failing(_: object) -> None:
    await cancel_at_every_step(_failing)


@case("trio_http.testing.cancel_at_every_step", fails=[Failure(_sweep_failing, ZeroDivisionError)])
async def _(_: object) -> None:
    assert (await cancel_at_every_step(_two_steps)).points


SCRIPT = Script().expect(b"hello").wait(1).send(b"well").expect_end()


@contextlib.asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    async with open_scripted_server(Script(), over="memory") as server:
        yield server
        if not server.peers:
            (await server.dial("a", 80, "http")).close()


async def _dial(server: ScriptedServer) -> None:
    (await server.dial("a", 80, "http")).close()


@contextlib.asynccontextmanager
async def server_without_a_script() -> AsyncIterator[ScriptedServer]:
    with contextlib.suppress(ScriptFailed):
        async with open_scripted_server(over="memory") as server:
            yield server


case(
    "trio_http.testing.ScriptedServer.dial",
    world=scripted_server,
    fails=[Failure(_dial, ConnectionRefusedError, world=server_without_a_script)],
)(_dial)


@case("trio_http.testing.open_scripted_server()")
async def _(_: object) -> None:
    async with (
        open_scripted_server(SCRIPT, over="memory") as server,
        await server.dial("a", 80, "http") as stream,
    ):
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"well"


TALK = Script().send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect_until_end()
WRONG_TALK = Script().send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(b"something else")


async def _play_wrongly(_: object) -> None:
    await play_to_handler(app, WRONG_TALK)


@case("trio_http.testing.play_to_handler", fails=[Failure(_play_wrongly, ScriptFailed)])
async def _(_: object) -> None:
    assert b"well" in (await play_to_handler(app, TALK)).received


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        serve = functools.partial(serve_tcp, app, 0)
        yield await nursery.start(serve)
        nursery.cancel_scope.cancel()


async def _play_to_nobody(server: Server) -> None:
    await play_to("no such socket", TALK)


async def _play_to_wrongly(server: Server) -> None:
    await play_to(server, WRONG_TALK)


@case(
    "trio_http.testing.play_to",
    world=listening,
    fails=[Failure(_play_to_nobody, OSError), Failure(_play_to_wrongly, ScriptFailed)],
)
async def _(server: Server) -> None:
    assert b"well" in (await play_to(server, TALK)).received


# ----------------------------------------------------------------------------------------- simulated networks


@attrs.define
class Simulated:
    """A network with a listener.

    Attributes:
      streams: what calls have got; to be closed.
    """

    network: SimulatedNetwork
    listener: SimulatedListener
    streams: list[SimulatedStream] = attrs.field(factory=list)


def simulated(prepare: Callable[[Simulated], Awaitable[object]] | None = None) -> Any:
    """Return the world of a network on which "a" listens."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Simulated]:
        async with SimulatedNetwork() as network, network.listen("a", 80) as listener:
            given = Simulated(network, listener)
            if prepare is not None:
                await prepare(given)
            yield given
            for stream in given.streams:
                stream.close()

    return world


async def _dial_network(given: Simulated) -> None:
    given.streams.append(await given.network.dial("a", 80))


async def _dial_nobody(given: Simulated) -> None:
    await given.network.dial("b", 80)


async def _close_network(given: Simulated) -> None:
    await given.network.aclose()


async def _accept(given: Simulated) -> None:
    given.streams.append(await given.listener.accept())


async def _close_listener(given: Simulated) -> None:
    await given.listener.aclose()


async def _one_is_there(given: Simulated) -> None:
    """See that a connection that was not accepted waits still."""
    assert given.listener.waiting + len(given.streams) == 2


_NETWORK = "trio_http.testing.SimulatedNetwork"
_LISTENER = "trio_http.testing.SimulatedListener"
case(
    f"{_NETWORK}.dial",
    world=simulated(),
    fails=[
        Failure(_dial_nobody, ConnectionRefusedError),
        Failure(_dial_network, trio.ClosedResourceError, prepare=_close_network, at_once=CLOSED),
    ],
)(_dial_network)
case(f"{_NETWORK}.aclose", world=simulated())(_close_network)
case(
    f"{_LISTENER}.accept",
    world=simulated(_dial_network),
    check=_one_is_there,
    fails=[
        Failure(_accept, trio.ClosedResourceError, prepare=_close_listener, spoils=True, world=simulated())
    ],
)(_accept)
case(f"{_LISTENER}.aclose", world=simulated())(_close_listener)

for home, which in [(_NETWORK, "network"), (_LISTENER, "listener")]:

    @case(f"{home}.__aenter__", world=simulated())
    async def _(given: Simulated, which: str = which) -> None:
        await getattr(given, which).__aenter__()

    @case(f"{home}.__aexit__", world=simulated())
    async def _(given: Simulated, which: str = which) -> None:
        await getattr(given, which).__aexit__(None, None, None)


@case(f"{_NETWORK}.listen()", world=simulated())
async def _(given: Simulated) -> None:
    async with given.network.listen("b", 80):
        pass


@case("trio_http.testing.open_client()")
async def _(_: object) -> None:
    async with open_client(app) as client:
        assert (await client.get("/")).text == "well"
