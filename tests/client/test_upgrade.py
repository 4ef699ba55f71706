"""A connection that stops speaking HTTP (C52)."""

from __future__ import annotations

import contextlib

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from tests.client._sockets import tcp_client_of, tcp_peer
from trio_http import ConnectionLost, ResponseInvalid, UpgradeRefused
from trio_http.client import Client, ClientPace
from trio_http.testing import MemoryStream, ScriptedPeer, memory_pair

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


async def test_the_block_has_the_connection_and_what_came_behind_the_101() -> None:
    """C52: it is asked for as RFC 9110 §7.8 says."""
    peer = ScriptedPeer().expect_until(END, contains=b"\r\nConnection: Upgrade\r\nUpgrade: echo, echo/2")
    peer.send(SWITCH + b"hel").wait_until_quiet().send(b"lo").expect(b"ping").send(b"pong").expect_end()
    async with client_of(peer) as (client, network):
        upgrade = client.upgrade(URL, "echo", "echo/2", headers={"x-key": "k"})
        async with upgrade as stream:
            assert upgrade.response is not None
            assert (upgrade.response.status, upgrade.response.headers["upgrade"]) == (101, "echo")
            assert await stream.receive_some(2) == b"he"
            assert await stream.receive_some() == b"l"
            assert await stream.receive_some() == b"lo"
            await stream.send_all(b"ping")
            assert await stream.receive_some() == b"pong"
            assert await in_pool(client) == (1, 0), "it is one of the client's until the block ends"
        assert await in_pool(client) == (0, 0)
        assert network.streams[0].closed
    assert b"\r\nx-key: k" in network.heads()
    assert peer.finished


@pytest.mark.interop
async def test_over_tcp_either_side_may_end_its_direction_first() -> None:
    """C52: it is a half-closeable stream."""
    peer = (
        tcp_peer().expect_until(END).send(SWITCH + b"first").expect(b"last").expect_end().send(b"bye").close()
    )
    async with tcp_client_of(peer) as (client, _), client.upgrade(URL, "echo") as stream:
        await stream.send_all(b"last")
        await stream.send_eof()
        data = b""
        while piece := await stream.receive_some():
            data += piece
        assert data == b"firstbye"


async def test_it_is_a_stream_as_trio_checks_them() -> None:
    """C52, N13."""
    async with contextlib.AsyncExitStack() as stack:

        async def pair() -> tuple[trio.abc.HalfCloseableStream, MemoryStream]:
            theirs, ours = memory_pair()

            async def dial(*_: object) -> trio.abc.Stream:
                await trio.lowlevel.checkpoint()
                return ours

            async def serve() -> None:
                received = b""
                while not received.endswith(END):
                    received += await theirs.receive_some()
                await theirs.send_all(SWITCH)

            client = await stack.enter_async_context(Client(dial=dial))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                stream = await stack.enter_async_context(client.upgrade(URL, "echo"))
            return stream, theirs

        await trio.testing.check_half_closeable_stream(pair, None)


@pytest.mark.parametrize("agreed", [b"ECHO", b"Echo"])
async def test_the_name_of_a_protocol_has_no_case(agreed: bytes) -> None:
    """C52: RFC 9110 §7.8."""
    peer = ScriptedPeer().expect_until(END).send(SWITCH.replace(b"echo", agreed)).expect_end()
    async with client_of(peer) as (client, _), client.upgrade(URL, "echo"):
        pass


@pytest.mark.parametrize("status", [200, 400, 426])
async def test_an_answer_without_a_switch_is_in_the_error_and_the_connection_goes_on(status: int) -> None:
    """C52."""
    answer = b"HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\nnope" % status
    async with client_of(answering(answer, OK)) as (client, network):
        with pytest.raises(UpgradeRefused) as caught:
            async with client.upgrade(URL, "echo"):
                raise AssertionError("not reached")
        assert (caught.value.response.status, caught.value.response.content) == (status, b"nope")
        assert await in_pool(client) == (0, 1)
        assert (await client.get(URL)).status == 200
    assert len(network.dialed) == 1


@pytest.mark.parametrize(
    "answer",
    [
        SWITCH.replace(b"echo", b"other"),
        SWITCH.replace(b"Upgrade: echo\r\n", b""),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
    ids=["other", "none", "bare"],
)
async def test_a_switch_to_what_was_not_offered_is_invalid(answer: bytes) -> None:
    """C52: RFC 9110 §7.8."""
    async with client_of(ScriptedPeer().expect_until(END).send(answer).expect_end()) as (client, _):
        with pytest.raises(ResponseInvalid):
            async with client.upgrade(URL, "echo"):
                raise AssertionError("not reached")
        assert await in_pool(client) == (0, 0)


async def test_an_interim_response_may_come_first() -> None:
    """C52, C36."""
    peer = ScriptedPeer().expect_until(END).send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCH).expect_end()
    async with client_of(peer) as (client, _):
        upgrade = client.upgrade(URL, "echo")
        async with upgrade:
            assert upgrade.response is not None
            assert [each.status for each in upgrade.response.interim] == [103]


async def test_a_connection_at_rest_that_was_closed_is_replaced() -> None:
    """C52, C6."""
    first = answering(OK).expect_until(END).close()
    async with client_of(first, ScriptedPeer().expect_until(END).send(SWITCH).expect_end()) as (
        client,
        network,
    ):
        await client.get(URL)
        async with client.upgrade(URL, "echo"):
            assert len(network.dialed) == 2


async def test_a_server_that_goes_before_it_switches_is_lost() -> None:
    """C52."""
    async with client_of(ScriptedPeer().expect_until(END).close()) as (client, _):
        with pytest.raises(ConnectionLost):
            async with client.upgrade(URL, "echo"):
                raise AssertionError("not reached")
        assert await in_pool(client) == (0, 0)


async def test_nobody_limits_the_time_of_an_upgraded_stream(autojump_clock: trio.testing.MockClock) -> None:
    """C52: neither the pool's idle time nor the client's pace."""
    peer = ScriptedPeer().expect_until(END).send(SWITCH).wait(10_000).send(b"still here").expect_end()
    options = {"idle_seconds": 1, "pace": ClientPace(head=2, stall=3, receive_rate=1e6, send_rate=1e6)}
    async with client_of(peer, **options) as (client, _), client.upgrade(URL, "echo") as stream:
        assert await stream.receive_some() == b"still here"


async def test_a_cancel_in_the_block_closes_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    """C52, C57."""
    peer = ScriptedPeer().expect_until(END).send(SWITCH).expect_end()
    async with client_of(peer) as (client, network):
        with trio.move_on_after(1) as scope:
            async with client.upgrade(URL, "echo") as stream:
                await stream.receive_some()
        assert scope.cancelled_caught
        assert network.streams[0].closed
        assert await in_pool(client) == (0, 0)


async def test_an_upgrade_is_one_request_and_names_a_protocol() -> None:
    """C52."""
    async with client_of(ScriptedPeer().expect_until(END).send(SWITCH).expect_end()) as (client, _):
        with pytest.raises(TypeError, match="name of a protocol"):
            client.upgrade(URL)
        upgrade = client.upgrade(URL, "echo")
        async with upgrade:
            pass
        with pytest.raises(RuntimeError, match="one request"):
            await upgrade.__aenter__()
