"""A request and its response: what is sent, what is made of the answer, and where the connection ends up."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from trio_http import (
    ConnectFailed,
    ConnectionLost,
    ContentTooLarge,
    HTTPError,
    RequestFailed,
    ResponseIncomplete,
    ResponseInvalid,
    StatusError,
    wire,
)
from trio_http.client import Client, ClientConnection
from trio_http.messages import accept_encoding
from trio_http.testing import ScriptedPeer, memory_pair

IDLE, GONE = (0, 1), (0, 0)


async def test_a_get_returns_the_whole_response_and_keeps_the_connection() -> None:
    peer = answering(b"HTTP/1.1 200 Fine\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
    async with client_of(peer) as (client, network):
        response = await client.get(URL)
        assert (response.status, response.reason, response.content) == (200, "Fine", b"hello")
        assert response.headers["content-type"] == "text/plain"
        assert response.text == "hello"
        assert response.url == URL
        assert await in_pool(client) == IDLE
    assert network.dialed == [("example.org", 80, "http")]
    assert network.heads() == (
        b"GET /path HTTP/1.1\r\nHost: example.org\r\nUser-Agent: trio-http/0.1.0\r\nAccept: */*\r\n"
        b"Accept-Encoding: " + accept_encoding() + b"\r\n\r\n"
    )


async def test_requests_in_a_row_share_a_connection() -> None:
    async with client_of(answering(OK, OK, OK)) as (client, network):
        for _ in range(3):
            assert (await client.get(URL)).content == b"ok"
    assert len(network.dialed) == 1


@pytest.mark.parametrize(
    ("answer", "content", "afterwards"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            b"abcde",
            IDLE,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", IDLE),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", IDLE),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", b"", IDLE),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", GONE),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", GONE),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok", IDLE),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK, b"ok", IDLE),
    ],
    ids=["chunked", "empty", "204", "304", "close", "1.0", "1.0-keep-alive", "interim"],
)
@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "byte by byte"])
async def test_the_framing_decides_the_content_and_the_fate_of_the_connection(
    answer: bytes, content: bytes, afterwards: tuple[int, int], bytewise: bool
) -> None:
    peer = ScriptedPeer().expect_until(END)
    peer = peer.send_bytewise(answer) if bytewise else peer.send(answer)
    async with client_of(peer) as (client, _):
        assert (await client.get(URL)).content == content
        assert await in_pool(client) == afterwards


async def test_bytes_behind_a_response_end_the_connection() -> None:
    async with client_of(answering(OK + OK)) as (client, _):
        assert (await client.get(URL)).content == b"ok"
        assert await in_pool(client) == GONE


async def test_a_close_delimited_response_ends_with_the_connection() -> None:
    peer = ScriptedPeer().expect_until(END).send(b"HTTP/1.1 200 OK\r\n\r\nall ").send(b"of it").close()
    async with client_of(peer) as (client, _):
        assert (await client.get(URL)).content == b"all of it"
        assert await in_pool(client) == GONE


async def test_the_answer_to_head_has_no_content_whatever_its_fields_say() -> None:
    peer = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", OK)
    async with client_of(peer) as (client, _):
        response = await client.head(URL)
        assert (response.content, response.headers["content-length"]) == (b"", "1000")
        assert (await client.get(URL)).content == b"ok"


async def test_trailers_of_a_whole_response_are_kept() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nDigest: abc\r\n\r\n"
    async with client_of(answering(answer, OK)) as (client, _):
        first, second = await client.get(URL), await client.get(URL)
    assert first.trailers.items() == [("digest", "abc")]
    assert second.trailers.items() == []


async def test_an_error_status_is_raised_only_when_asked_for() -> None:
    async with client_of(answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", OK)) as (
        client,
        _,
    ):
        response = await client.get(URL)
        with pytest.raises(StatusError) as caught:
            response.raise_for_status()
        assert caught.value.response is response
        assert str(caught.value) == f"{URL} answered 404 Not Found"
        ok = await client.get(URL)
        assert ok.raise_for_status() is ok


# --------------------------------------------------------------------------------------------------- failures


async def failing(peer: ScriptedPeer, kind: type[RequestFailed]) -> RequestFailed:
    """The error of a GET to ``peer``; the connection has to be closed."""
    async with client_of(peer) as (client, _):
        with pytest.raises(HTTPError) as caught:
            await client.get(URL)
        assert await in_pool(client) == GONE
    assert type(caught.value) is kind
    return caught.value


async def test_a_connection_closed_before_the_answer_is_lost() -> None:
    error = await failing(ScriptedPeer().expect_until(END).close(), ConnectionLost)
    assert error.facts.bytes_sent > 60
    assert error.facts.may_have_acted
    assert not error.facts.response_started
    assert not error.facts.reused
    assert "without an answer" in str(error)
    assert isinstance(error.__cause__, wire.RemoteProtocolError)


async def test_a_connection_reset_before_the_answer_is_lost() -> None:
    error = await failing(ScriptedPeer().expect_until(END).reset(), ConnectionLost)
    assert isinstance(error.__cause__, trio.BrokenResourceError)


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\nConte",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_response_cut_short_is_incomplete(cut: bytes, end: str) -> None:
    peer = ScriptedPeer().expect_until(END).send(cut).wait_until_quiet()
    error = await failing(getattr(peer, end)(), ResponseIncomplete)
    assert error.facts.response_started


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\n",
        b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_a_response_that_is_no_http_is_invalid_and_the_error_says_why(answer: bytes) -> None:
    error = await failing(ScriptedPeer().expect_until(END).send(answer), ResponseInvalid)
    assert isinstance(error.__cause__, wire.RemoteProtocolError)
    assert str(error.__cause__) in str(error)


async def test_a_flood_of_interim_responses_is_invalid() -> None:
    peer = ScriptedPeer().expect_until(END).send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 101)
    assert "interim" in str(await failing(peer, ResponseInvalid))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n12345678901",
    ],
)
async def test_content_beyond_the_limit_is_refused_and_the_connection_closed(answer: bytes) -> None:
    async with client_of(answering(answer), max_content_bytes=10) as (client, _):
        with pytest.raises(ContentTooLarge) as caught:
            await client.get(URL)
        assert "exceeds 10 bytes" in str(caught.value)
        assert await in_pool(client) == GONE


async def test_content_of_exactly_the_limit_is_taken() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n6\r\n567890\r\n0\r\n\r\n"
    async with client_of(answering(answer), max_content_bytes=10) as (client, _):
        assert (await client.get(URL)).content == b"1234567890"


async def test_no_connection_is_an_error_with_its_cause() -> None:
    async with client_of() as (client, _):
        with pytest.raises(ConnectFailed) as caught:
            await client.get(URL)
    assert isinstance(caught.value.__cause__, OSError)
    assert "nobody listens there" in str(caught.value)
    assert "cannot have acted" in str(caught.value)
    assert caught.value.facts.bytes_sent == 0


async def test_an_answer_that_came_before_the_connection_broke_is_had() -> None:
    """A server that is too busy says so at once, and closes: the request cannot even be sent."""
    busy = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
    theirs, ours = memory_pair()
    await theirs.send_all(busy)
    await theirs.aclose()
    async with ClientConnection(ours) as connection:
        response = await connection.post(URL, content=b"x" * 100)
        assert (response.status, response.content) == (503, b"busy")
        assert connection.closed


async def test_a_connection_that_broke_before_anything_was_sent_is_lost() -> None:
    theirs, ours = memory_pair()
    theirs.reset()
    async with ClientConnection(ours) as connection:
        with pytest.raises(ConnectionLost) as caught:
            await connection.get(URL)
        assert caught.value.facts.bytes_sent == 0
        assert caught.value.facts.may_have_acted, "some bytes may have been taken before it broke"


# ---------------------------------------------------------------------------------------------- the lost race


def lost_race(answers: int = 1) -> ScriptedPeer:
    """A server that answers, and closes as the next request arrives."""
    return answering(*[OK] * answers).expect_until(END).close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
async def test_an_idempotent_request_that_lost_the_race_is_sent_once_more(method: str) -> None:
    again = OK[:-2] if method == "HEAD" else OK
    async with client_of(lost_race(), answering(again)) as (client, network):
        await client.get(URL)
        response = await client.request(method, URL, content=b"x" if method == "PUT" else None)
        assert response.status == 200
    assert len(network.dialed) == 2
    assert network.heads(1).startswith(method.encode())


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_post_that_lost_the_race_is_not_repeated(end: str) -> None:
    peer = getattr(answering(OK).expect_until(END), end)()
    async with client_of(peer, answering(OK)) as (client, network):
        await client.get(URL)
        with pytest.raises(ConnectionLost) as caught:
            await client.post(URL, content=b"pay")
        assert caught.value.facts.reused
    assert len(network.dialed) == 1


async def test_content_that_cannot_be_had_again_is_not_sent_again() -> None:
    async with client_of(lost_race(), answering(OK)) as (client, network):
        await client.get(URL)
        with pytest.raises(ConnectionLost):
            await client.put(URL, content=Pieces(b"once"))
    assert len(network.dialed) == 1


async def test_a_request_is_not_repeated_after_the_first_byte_of_an_answer() -> None:
    peer = answering(OK).expect_until(END).send(b"H").wait_until_quiet().close()
    async with client_of(peer, answering(OK)) as (client, network):
        await client.get(URL)
        with pytest.raises(ResponseIncomplete):
            await client.get(URL)
    assert len(network.dialed) == 1


async def test_a_request_is_not_repeated_after_an_interim_response() -> None:
    peer = answering(OK).expect_until(END).send(b"HTTP/1.1 102 Processing\r\n\r\n").wait_until_quiet().close()
    async with client_of(peer, answering(OK)) as (client, network):
        await client.get(URL)
        with pytest.raises(ResponseIncomplete) as caught:
            await client.get(URL)
        assert caught.value.facts.response_started
    assert len(network.dialed) == 1


async def test_a_request_on_a_fresh_connection_is_not_repeated() -> None:
    async with client_of(lost_race(0), answering(OK)) as (client, network):
        with pytest.raises(ConnectionLost):
            await client.get(URL)
    assert len(network.dialed) == 1


async def test_the_second_attempt_is_the_last() -> None:
    async with client_of(lost_race(), lost_race(0), answering(OK)) as (client, network):
        await client.get(URL)
        with pytest.raises(ConnectionLost):
            await client.get(URL)
    assert len(network.dialed) == 2


async def test_the_second_attempt_does_not_try_another_idle_connection() -> None:
    used_last = ScriptedPeer().expect_until(END).wait_until_quiet().send(OK).expect_until(END).close()
    untouched = answering(OK).expect_end()
    async with client_of(used_last, untouched, answering(OK)) as (client, network):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get, URL)
            nursery.start_soon(client.get, URL)
        assert await in_pool(client) == (0, 2)
        assert (await client.get(URL)).content == b"ok"
        await trio.testing.wait_all_tasks_blocked()
    assert len(network.dialed) == 3
    assert used_last.finished
    assert untouched.finished


class Pieces:
    """An async iterable that is no generator."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = iter(pieces)

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        try:
            return next(self._pieces)
        except StopIteration:
            raise StopAsyncIteration from None


# -------------------------------------------------------------------------------------------- being cancelled


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
    ],
    ids=["nothing", "interim", "half a head", "half a body"],
)
async def test_a_cancel_closes_the_connection_in_use_and_no_other(
    said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    stuck = ScriptedPeer().expect_until(END).send(said).expect_end()
    async with client_of(answering(OK), stuck) as (client, network):
        await client.get("http://other.example/")
        with trio.move_on_after(3) as scope:
            await client.get(URL)
        assert scope.cancelled_caught
        assert await in_pool(client) == IDLE
        assert [stream.closed for stream in network.streams] == [False, True]
        await trio.testing.wait_all_tasks_blocked()
        assert stuck.finished


async def test_a_cancel_before_anything_was_sent_gives_the_connection_back() -> None:
    peer = answering(OK, OK)
    async with client_of(peer) as (client, network):
        await client.get(URL)
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.get(URL)
        assert scope.cancelled_caught
        assert await in_pool(client) == IDLE
        await client.get(URL)
    assert len(network.dialed) == 1
    assert network.heads().count(b"GET") == 2


async def test_a_cancelled_send_closes_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    theirs, ours = memory_pair(10)  # ten bytes on their way, and the rest of the head has to wait

    async def dial(*_: object) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    async with Client(dial=dial) as client:
        with trio.move_on_after(1) as scope:
            await client.get(URL)
        assert scope.cancelled_caught
        assert await in_pool(client) == GONE
        assert ours.closed
    await theirs.aclose()
