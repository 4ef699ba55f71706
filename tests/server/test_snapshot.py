"""What a running server tells of itself, as plain data, in every state of a connection."""

from __future__ import annotations

import json
import math
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.server.support import GET, Peer, config, head, hello, post
from trio_http import Request, Response, Server, ServerConfig, ServerTimes, serve_connection
from trio_http.server import ConnectionSnapshot


async def serving(
    nursery: trio.Nursery, handler: Any, config: ServerConfig, streams: tuple[Any, Any] | None = None
) -> tuple[Server, Peer]:
    """A server of one connection, and the client of that."""
    client, stream = streams or trio.testing.memory_stream_pair()
    server: Server = await nursery.start(
        lambda task_status: serve_connection(handler, stream, config=config, task_status=task_status)
    )
    await trio.testing.wait_all_tasks_blocked()
    return server, Peer(client)


async def look(server: Server) -> ConnectionSnapshot:
    """The server's only connection, when all that can be done is done. Its JSON is sound."""
    await trio.testing.wait_all_tasks_blocked()
    (snapshot,) = server.snapshot()
    again = json.loads(json.dumps(snapshot.as_dict(), allow_nan=False))
    assert again["state"] == snapshot.state
    assert json.loads(json.dumps(attrs.asdict(server.statistics()))) == attrs.asdict(server.statistics())
    return snapshot


async def sleepy(request: Request) -> Response:
    await trio.sleep(100)
    return Response(200)


async def reading(request: Request) -> Response:
    return Response(200, await request.read())


# --------------------------------------------------------------------------------------------------- states


async def test_before_and_between_requests(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """N25, S51, and N7: deadlines are visible."""
    server, peer = await serving(nursery, hello, ServerConfig())
    fresh = await look(server)
    assert (fresh.state, fresh.requests, fresh.method, fresh.deadlines) == ("head", 0, None, {"receive": 20})
    await peer.ask()
    await trio.sleep(15)
    idle = await look(server)
    assert (idle.state, idle.requests, idle.age, idle.deadlines) == ("idle", 1, 15, {"receive": 45})
    assert (idle.method, idle.target, idle.handling_for, idle.cancel_reason) == (None, None, None, None)
    await peer.send(GET[:10])
    begun = await look(server)
    assert (begun.state, begun.deadlines) == ("head", {"receive": 10})
    assert (begun.id, begun.transport, begun.peername) == (1, "stream", None)


async def test_a_request_under_way(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    server, peer = await serving(nursery, sleepy, config(request=200))
    await trio.sleep(5)
    await peer.send(head("DELETE", "/a?b"))
    await trio.sleep(10)
    snapshot = await look(server)
    assert (snapshot.state, snapshot.method, snapshot.target) == ("handling", "DELETE", "/a?b")
    assert (snapshot.age, snapshot.handling_for, snapshot.deadlines.keys()) == (15, 10, {"handler"})
    assert 190 <= snapshot.deadlines["handler"] <= 190 + 200 / 32
    assert server.statistics().handling == 1


async def test_a_body_that_is_waited_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server, peer = await serving(nursery, reading, config(body_stall=60))
    await peer.send(post(bytes(1000))[:-1])
    await trio.sleep(10)
    snapshot = await look(server)
    assert (snapshot.state, snapshot.deadlines, snapshot.receive_rate) == ("receiving", {"receive": 50}, None)
    await peer.send(b"x")
    await peer.answer()
    assert (await look(server)).receive_rate == pytest.approx(0.1)


async def test_bytes_that_arrive_in_no_time_have_no_speed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """It once was infinite, which JSON has not."""
    server, peer = await serving(nursery, reading, config())
    await peer.send(head("POST", "/", "Content-Length: 3"))
    await trio.testing.wait_all_tasks_blocked()
    await peer.ask(b"abc")
    assert (await look(server)).receive_rate is None


async def test_an_answer_that_is_not_read(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server, peer = await serving(nursery, hello, config(write_stall=60), trio.testing.lockstep_stream_pair())
    await peer.send(GET)
    await trio.sleep(10)
    snapshot = await look(server)
    assert (snapshot.state, snapshot.deadlines, snapshot.method) == ("sending", {"send": 50}, "GET")
    assert snapshot.unsent is not None
    assert snapshot.unsent > 50
    await peer.answer()
    assert (await look(server)).unsent == 0


async def test_an_upgraded_connection(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    async def handler(request: Request) -> None:
        async with request.upgrade("echo") as stream:
            await stream.receive_some()

    server, peer = await serving(nursery, handler, ServerConfig())
    await peer.send(head("GET", "/", "Connection: upgrade", "Upgrade: echo"))
    assert (await peer.head()).status == 101
    snapshot = await look(server)
    assert (snapshot.state, snapshot.deadlines) == ("upgraded", {})


async def test_a_connection_that_lingers(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server, peer = await serving(nursery, hello, ServerConfig())
    assert (await peer.ask(b"nonsense\r\n\r\n")).status == 400
    assert (await look(server)).state == "ending"
    assert server.statistics().handling == 0


async def test_a_cancel_that_is_held_back(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        with request.finish(within=30):
            await trio.sleep(20)
        raise AssertionError

    server, peer = await serving(nursery, handler, config())
    await peer.send(GET)
    await trio.sleep(5)
    await peer.stream.aclose()
    await trio.sleep(1)
    snapshot = await look(server)
    assert (snapshot.state, snapshot.cancel_reason, snapshot.deadlines) == ("handling", None, {"finish": 24})


async def test_a_handler_that_goes_on_after_its_cancel(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 100):
            await trio.sleep(50)
        return Response(200)

    server, peer = await serving(nursery, handler, config())
    await peer.send(GET)
    await trio.sleep(5)
    await peer.stream.aclose()
    await trio.sleep(5)
    snapshot = await look(server)
    assert (snapshot.state, snapshot.cancel_reason) == ("handling", "client disconnected")


async def test_a_handler_that_goes_on_after_its_deadline(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> Response:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 100):
            await trio.sleep(50)
        return Response(200)

    server, peer = await serving(nursery, handler, config(request=10))
    await peer.send(GET)
    await trio.sleep(30)
    snapshot = await look(server)
    assert snapshot.deadlines["handler"] == -20
    assert snapshot.cancel_reason == "deadline"


async def test_states_do_not_depend_on_there_being_limits(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    names = ["head", "head_stall", "idle", "body_stall", "write_stall"]
    endless = ServerConfig(times=ServerTimes(**dict.fromkeys(names, math.inf)))
    server, peer = await serving(nursery, reading, endless, trio.testing.lockstep_stream_pair())
    assert (await look(server)).state == "head"
    await peer.send(head("POST", "/", "Content-Length: 3"))
    assert (await look(server)).state == "receiving"
    await peer.send(b"abc")
    assert (await look(server)).state == "sending"
    await peer.answer()
    assert (await look(server)).state == "idle"


# -------------------------------------------------------------------------------------------------- numbers


async def test_the_numbers_of_a_server(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    server, peer = await serving(nursery, hello, ServerConfig())
    for count in range(3):
        numbers = server.statistics()
        assert (numbers.requests_total, numbers.connections, numbers.connections_total) == (count, 1, 1)
        await peer.ask()
        await trio.testing.wait_all_tasks_blocked()
    await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    numbers = server.statistics()
    assert (numbers.requests_total, numbers.connections, numbers.connections_total) == (3, 0, 1)
    assert (numbers.handling, numbers.draining) == (0, False)
    assert server.snapshot() == []


async def test_a_snapshot_keeps_nothing_alive_and_does_not_change(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server, peer = await serving(nursery, sleepy, ServerConfig())
    await peer.send(GET)
    before = await look(server)
    as_it_was = json.dumps(before.as_dict())
    await peer.answer()
    assert json.dumps(before.as_dict()) == as_it_was
    with pytest.raises(AttributeError):
        before.state = "idle"  # type: ignore[misc]


async def test_a_target_of_any_bytes_can_be_shown(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server, peer = await serving(nursery, sleepy, ServerConfig())
    await peer.send(head("GET", '/"%00<script>\\'))
    assert (await look(server)).target == '/"%00<script>\\'
