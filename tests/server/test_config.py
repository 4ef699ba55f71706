"""What a server is told: its common fields, its configuration, and `serve_tcp` as a whole."""

from __future__ import annotations

import email.utils
import math
import time

import pytest
import trio
import trio.testing

from tests.server.support import GET, Peer, head, hello, serve
from trio_http import Leniency, Request, Response, Server, ServerConfig, ServerTimes, serve_tcp, wire
from trio_http.server._common import CommonFields

# ---------------------------------------------------------------------------------------------- common fields


async def test_the_date_is_the_wall_clocks_in_the_form_of_the_rfc(nursery: trio.Nursery) -> None:
    before = int(time.time())
    date = (await serve(nursery, hello).ask()).get("date")
    assert date is not None
    assert date.endswith(" GMT")
    assert before <= email.utils.parsedate_to_datetime(date).timestamp() <= time.time()


class WallClock:
    """A wall clock that stands where it is put."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


def test_the_common_fields_are_made_anew_when_the_second_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = WallClock(1_000_000_000.75)
    monkeypatch.setattr("trio_http.server._common.time", clock)
    common = CommonFields(ServerConfig())

    first = common.at(50.0)
    assert first.get("date") == b"Sun, 09 Sep 2001 01:46:40 GMT"
    clock.now += 0.2
    assert common.at(50.2) is first
    clock.now += 0.05
    second = common.at(50.25)
    assert second.get("date") == b"Sun, 09 Sep 2001 01:46:41 GMT"
    assert common.at(51.2) is second
    assert common.at(51.25) is not second


def test_common_fields_without_a_date_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    common = CommonFields(ServerConfig(date=False))
    assert common.at(0) is common.at(1e9)
    assert common.at(0) == [(b"server", b"trio_http")]


async def test_server_and_date_can_be_left_out(nursery: trio.Nursery) -> None:
    answer = await serve(nursery, hello, ServerConfig(server_name=None, date=False)).ask()
    assert sorted(name.lower() for name, _ in answer.fields) == ["content-length", "content-type"]


async def test_the_server_has_the_name_that_it_is_given(nursery: trio.Nursery) -> None:
    assert (await serve(nursery, hello, ServerConfig(server_name="mine/1")).ask()).get("server") == "mine/1"


# ------------------------------------------------------------------------------------------ the configuration


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(AttributeError):
        ServerConfig().date = False  # type: ignore[misc]
    with pytest.raises(AttributeError):
        ServerTimes().head = 1  # type: ignore[misc]


def test_leniencies_may_be_given_as_any_set() -> None:
    assert ServerConfig(lenient={Leniency.OBS_FOLD}).lenient == frozenset([Leniency.OBS_FOLD])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["head", "idle", "body_stall", "write_stall", "answer", "linger"])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_a_time_that_is_no_time_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        ServerTimes(**{name: value})


def test_a_bound_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="max_body_bytes"):
        ServerConfig(max_body_bytes=0)
    with pytest.raises(ValueError, match="drain_bytes"):
        ServerConfig(drain_bytes=-1)
    with pytest.raises(ValueError, match="linger_bytes"):
        ServerConfig(linger_bytes=-1)


async def test_nothing_need_be_drained_nor_lingered_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, hello, ServerConfig(drain_bytes=0, linger_bytes=0))
    assert (await peer.ask(head("POST", "/", "Content-Length: 1"))).closes
    await peer.finished.wait()
    assert trio.current_time() == 0


# -------------------------------------------------------------------------------------------------- serve_tcp


async def connected(server: Server) -> Peer:
    return Peer(await trio.testing.open_stream_to_socket_listener(server.listeners[0]))


@pytest.mark.interop
async def test_serving_a_port_tells_where_and_serves_many_at_once(nursery: trio.Nursery) -> None:
    barrier = 0
    all_here = trio.Event()

    async def handler(request: Request) -> Response:
        nonlocal barrier
        barrier += 1
        if barrier == 5:
            all_here.set()
        await all_here.wait()
        return Response(200, text=str(request.connection.peername))

    server: Server = await nursery.start(serve_tcp, handler, 0)
    port = server.listeners[0].socket.getsockname()[1]
    assert server.url == f"http://127.0.0.1:{port}"

    peers = [await connected(server) for _ in range(5)]
    for peer in peers:
        await peer.send(GET)
    for peer in peers:
        stream = peer.stream
        assert isinstance(stream, trio.SocketStream)
        assert (await peer.answer()).content.decode() == str(stream.socket.getsockname())
        await peer.stream.aclose()


@pytest.mark.interop
async def test_cancelling_a_server_closes_its_listeners_and_connections(nursery: trio.Nursery) -> None:
    async with trio.open_nursery() as inner:
        server: Server = await inner.start(serve_tcp, hello, 0)
        idle, asked = await connected(server), await connected(server)
        await asked.ask()
        inner.cancel_scope.cancel()

    for peer in (idle, asked):
        with pytest.raises(trio.BrokenResourceError):
            await peer.rest()
        await peer.stream.aclose()
    host, _, port = server.url.removeprefix("http://").partition(":")
    with pytest.raises(OSError):
        await trio.open_tcp_stream(host, int(port))


@pytest.mark.interop
async def test_a_handler_that_fails_leaves_other_connections_alone(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        if request.path == "/bad":
            raise RuntimeError
        return Response(200)

    server: Server = await nursery.start(serve_tcp, handler, 0)
    good, bad = await connected(server), await connected(server)
    await good.ask()
    assert (await bad.ask(head("GET", "/bad"))).status == 500
    assert (await good.ask()).status == 200
    for peer in (good, bad):
        await peer.stream.aclose()


@pytest.mark.interop
async def test_a_configuration_that_makes_no_fields_is_refused_before_the_port_is_taken() -> None:
    with pytest.raises(wire.LocalProtocolError):
        await serve_tcp(hello, 0, config=ServerConfig(server_name="a\r\nb"))
