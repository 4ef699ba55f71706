"""A response while its block lasts: the body as it comes, and what leaving the block does to the
connection.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from trio_http import ContentTooLarge, ResponseIncomplete, ResponseInvalid, StatusError
from trio_http.testing import ScriptedPeer

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
IDLE, LEASED, GONE = (0, 1), (1, 0), (0, 0)


async def test_a_response_is_here_with_its_head_and_the_body_follows() -> None:
    peer = ScriptedPeer().expect_until(END).send(CHUNKED).wait_until_quiet().send(b"3\r\nabc\r\n")
    peer.wait_until_quiet().send(b"2\r\nde\r\n0\r\nSum: 5\r\n\r\n")
    async with client_of(peer) as (client, _), client.stream("GET", URL) as response:
        assert (response.status, response.reason, response.url) == (200, "OK", URL)
        assert await in_pool(client) == LEASED
        assert [piece async for piece in response.body] == [b"abc", b"de"]
        assert response.trailers.items() == [("sum", "5")]
        assert await in_pool(client) == IDLE, "it goes back with the last byte, not with the block"
        assert await response.body.receive_some() == b""


async def test_a_body_can_be_taken_in_small_parts() -> None:
    async with (
        client_of(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg")) as (client, _),
        client.stream("GET", URL) as response,
    ):
        assert [await response.body.receive_some(3) for _ in range(4)] == [b"abc", b"def", b"g", b""]


async def test_the_rest_can_be_read_whole() -> None:
    async with (
        client_of(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg")) as (client, _),
        client.stream("GET", URL) as response,
    ):
        assert await response.body.receive_some(2) == b"ab"
        assert await response.read() == b"cdefg"


@pytest.mark.parametrize(("limit", "fits"), [(7, True), (6, False)])
async def test_reading_whole_keeps_to_the_limit(limit: int, fits: bool) -> None:
    async with client_of(answering(CHUNKED + b"4\r\nabcd\r\n3\r\nefg\r\n0\r\n\r\n")) as (client, _):
        async with client.stream("GET", URL) as response:
            if fits:
                assert await response.read(limit) == b"abcdefg"
            else:
                with pytest.raises(ContentTooLarge, match=f"exceeds {limit} bytes"):
                    await response.read(limit)
        assert await in_pool(client) == (IDLE if fits else GONE)


async def test_a_response_without_a_body_gives_its_connection_back_at_once() -> None:
    async with (
        client_of(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as (client, _),
        client.stream("GET", URL) as response,
    ):
        assert await in_pool(client) == IDLE
        assert await response.read() == b""


# ------------------------------------------------------------------------------------------ leaving the block


@pytest.mark.parametrize(
    ("rest", "afterwards"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789", IDLE),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", IDLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234", GONE),
        (CHUNKED + b"3\r\nabc\r\n", GONE),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", GONE),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", GONE),
        (CHUNKED + b"oops\r\n", GONE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 65000\r\n\r\n" + b"x" * 65000, IDLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000, GONE),
    ],
    ids=["here", "chunked", "missing", "no end", "delimited", "close", "malformed", "64 KiB", "more"],
)
async def test_leaving_gives_the_connection_back_if_the_rest_is_here(
    rest: bytes, afterwards: tuple[int, int]
) -> None:
    async with client_of(answering(rest)) as (client, _):
        async with client.stream("GET", URL):
            await trio.testing.wait_all_tasks_blocked()
        assert await in_pool(client) == afterwards


async def test_leaving_with_the_rest_here_does_not_wait() -> None:
    async with client_of(answering(OK)) as (client, _):
        block = client.stream("GET", URL)
        await block.__aenter__()
        with trio.testing.assert_no_checkpoints():
            await block.__aexit__(None, None, None)
        assert await in_pool(client) == IDLE


async def test_the_body_is_closed_when_its_block_is_left() -> None:
    async with client_of(answering(OK)) as (client, _):
        async with client.stream("GET", URL) as response:
            pass
        with pytest.raises(trio.ClosedResourceError):
            await response.body.receive_some()


async def test_a_body_may_be_closed_before_the_end_of_the_block() -> None:
    async with (
        client_of(ScriptedPeer().expect_until(END).send(CHUNKED).expect_end()) as (client, _),
        client.stream("GET", URL) as response,
    ):
        with trio.testing.assert_checkpoints():
            await response.body.aclose()
        assert await in_pool(client) == GONE
        await response.body.aclose()


async def test_closing_a_body_ends_the_read_of_another_task() -> None:
    async with client_of(ScriptedPeer().expect_until(END).send(CHUNKED).expect_end()) as (client, _):
        async with client.stream("GET", URL) as response, trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await response.body.receive_some()

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await response.body.receive_some()
            await response.body.aclose()
        assert await in_pool(client) == GONE


async def test_an_exception_of_the_block_comes_out_as_it_is() -> None:
    error = ValueError("mine")
    async with client_of(answering(OK)) as (client, _):
        with pytest.raises(ValueError, match="mine") as caught:
            async with client.stream("GET", URL):
                raise error
        assert caught.value is error
        assert await in_pool(client) == IDLE


async def test_a_cancel_in_the_block_closes_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    peer = ScriptedPeer().expect_until(END).send(OK[:-1]).expect_end()
    async with client_of(peer) as (client, _):
        with trio.move_on_after(1) as scope:
            async with client.stream("GET", URL):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert await in_pool(client) == GONE


async def test_a_cancelled_read_has_lost_nothing(autojump_clock: trio.testing.MockClock) -> None:
    peer = (
        ScriptedPeer().expect_until(END).send(CHUNKED + b"3\r\nabc\r\n").wait(2).send(b"2\r\nde\r\n0\r\n\r\n")
    )
    async with client_of(peer) as (client, _):
        async with client.stream("GET", URL) as response:
            assert await response.body.receive_some() == b"abc"
            with trio.move_on_after(1) as scope:
                await response.body.receive_some()
            assert scope.cancelled_caught
            assert await response.read() == b"de"
        assert await in_pool(client) == IDLE


# --------------------------------------------------------------------------------------------------- failures


async def test_a_body_cut_short_gives_what_came_and_then_the_error() -> None:
    peer = ScriptedPeer().expect_until(END).send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").close()
    async with client_of(peer) as (client, _), client.stream("GET", URL) as response:
        assert await response.body.receive_some() == b"abc"
        for _ in range(2):
            with pytest.raises(ResponseIncomplete) as caught:
                await response.body.receive_some()
            assert caught.value.facts.response_started
        assert await in_pool(client) == GONE


async def test_a_malformed_body_is_invalid() -> None:
    async with client_of(answering(CHUNKED + b"3\r\nabcd\r\n")) as (client, _):
        with pytest.raises(ResponseInvalid):
            async with client.stream("GET", URL) as response:
                await response.read()
        assert await in_pool(client) == GONE


async def test_an_error_status_of_a_stream_is_raised_only_when_asked_for() -> None:
    async with client_of(answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", OK)) as (client, _):
        async with client.stream("GET", URL) as response:
            with pytest.raises(StatusError, match="answered 500"):
                response.raise_for_status()
        async with client.stream("GET", URL) as response:
            assert response.raise_for_status() is response


async def test_a_block_is_one_request() -> None:
    async with client_of(answering(OK)) as (client, _):
        block = client.stream("GET", URL)
        async with block:
            pass
        with pytest.raises(RuntimeError, match="call it again"):
            await block.__aenter__()
