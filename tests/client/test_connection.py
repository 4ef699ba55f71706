"""One connection without a pool."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering
from trio_http import ConnectionLost, PoolClosed
from trio_http.client import ClientConnection
from trio_http.testing import ScriptedPeer
from trio_http.transport import StreamTransport

CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


async def test_requests_in_a_row_use_the_stream_that_was_given() -> None:
    peer = answering(OK, OK).expect_end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        async with ClientConnection(peer.stream, base_url="http://example.org") as connection:
            assert (await connection.get("/a")).content == b"ok"
            async with connection.stream("POST", "/b") as response:
                assert await response.read() == b"ok"
            assert not connection.closed
        assert connection.closed
    assert peer.received.startswith(b"GET /a HTTP/1.1\r\nHost: example.org\r\n")


async def test_a_transport_is_taken_as_it_is() -> None:
    peer = answering(OK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        async with ClientConnection(StreamTransport(peer.stream)) as connection:
            assert (await connection.get(URL)).content == b"ok"


async def test_a_second_request_at_once_is_refused_and_the_first_goes_on() -> None:
    peer = answering(OK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        async with ClientConnection(peer.stream) as connection, connection.stream("GET", URL) as response:
            pass
        assert response.status == 200
    peer = ScriptedPeer().expect_until(END).wait_until_quiet().send(OK)
    async with ClientConnection(peer.stream) as connection, trio.open_nursery() as nursery:
        nursery.start_soon(connection.get, URL)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await connection.get(URL)
        nursery.start_soon(peer.play)


async def test_after_a_response_that_closes_there_is_no_further_request() -> None:
    peer = answering(CLOSING).expect_end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        connection = ClientConnection(peer.stream)
        assert (await connection.get(URL)).content == b"ok"
        assert connection.closed
        with pytest.raises(PoolClosed):
            await connection.get(URL)


async def test_a_lost_race_is_told_and_not_tried_again() -> None:
    peer = answering(OK).expect_until(END).close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        async with ClientConnection(peer.stream) as connection:
            await connection.get(URL)
            with pytest.raises(ConnectionLost) as caught:
                await connection.get(URL)
            assert caught.value.facts.reused
            assert connection.closed


async def test_a_cancel_within_a_request_closes_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    peer = ScriptedPeer().expect_until(END).expect_end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        connection = ClientConnection(peer.stream)
        with trio.move_on_after(1):
            await connection.get(URL)
        assert connection.closed


async def test_closing_ends_a_request_of_another_task_in_pool_closed() -> None:
    peer = ScriptedPeer().expect_until(END).expect_end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        connection = ClientConnection(peer.stream)

        async def one() -> None:
            with pytest.raises(PoolClosed):
                await connection.get(URL)

        nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        with trio.testing.assert_checkpoints():
            await connection.aclose()
        await connection.aclose()
