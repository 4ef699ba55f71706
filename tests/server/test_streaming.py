"""Responses piece by piece, alone and while the request's body is read."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.server.support import GET, Cut, Peer, chunk, head, post, serve, watched
from trio_http import Request, Response, wire


async def letters(request: Request) -> None:
    async with request.stream_response(200, headers={"X-Kind": "letters"}) as body:
        for letter in (b"a", b"", b"bc"):
            await body.send_all(letter)


async def test_a_streamed_response_is_chunked_and_the_connection_lives_on(nursery: trio.Nursery) -> None:
    peer = serve(nursery, letters)
    for _ in range(3):
        answer = await peer.ask()
        assert (answer.framing, answer.content, answer.trailers) == ("chunked", b"abc", [])
        assert answer.get("x-kind") == "letters"
        assert answer.get("date") is not None


async def test_each_piece_is_on_its_way_before_the_next_is_made(nursery: trio.Nursery) -> None:
    go_on = trio.Semaphore(0)

    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            for piece in (b"one", b"two"):
                await go_on.acquire()
                await body.send_all(piece)
            await go_on.acquire()

    peer = serve(nursery, handler)
    await peer.send(GET)
    assert (await peer.head()).status == 200
    for expected in (b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"):
        assert await peer.nothing_came()
        go_on.release()
        assert await peer.take(len(expected)) == expected


async def test_a_declared_length_frames_a_streamed_response(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200, headers={"Content-Length": "3"}) as body:
            await body.send_all(bytearray(b"ab"))
            await body.send_all(memoryview(b"c"))

    peer = serve(nursery, handler)
    for _ in range(2):
        answer = await peer.ask()
        assert (answer.framing, answer.content) == ("length", b"abc")


@pytest.mark.parametrize("pieces", [[b"ab"], [b"ab", b"cd"], []])
async def test_a_streamed_body_of_another_length_than_declared_is_aborted(
    nursery: trio.Nursery, pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200, headers={"Content-Length": "3"}) as body:
            for piece in pieces:
                await body.send_all(piece)

    streams = watched()
    with pytest.raises(Cut):
        await serve(nursery, handler, streams=streams).ask()
    assert streams[1].ending == "aborted"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_client_of_1_0_gets_a_body_that_ends_with_the_connection(nursery: trio.Nursery) -> None:
    streams = watched()
    peer = serve(nursery, letters, streams=streams)
    answer = await peer.ask(head("GET", "/", "Connection: keep-alive", version="1.0"))

    assert (answer.framing, answer.content, answer.closes) == ("close", b"abc", True)
    await peer.stream.aclose()
    await peer.finished.wait()
    assert streams[1].ending == "closed"


async def test_a_streamed_answer_to_head_has_no_body_and_leaves_the_connection_usable(
    nursery: trio.Nursery,
) -> None:
    peer = serve(nursery, letters)
    for _ in range(2):
        answer = await peer.ask(head("HEAD"))
        assert answer.get("transfer-encoding") == "chunked"
    assert (await peer.ask()).content == b"abc"


# --------------------------------------------------------------------------------------------------- trailers


async def with_trailers(request: Request) -> None:
    async with request.stream_response(200, headers={"Trailer": "Checksum"}) as body:
        await body.send_all(b"abc")
        body.trailers = {"Checksum": "9"}


async def test_trailers_go_out_behind_the_body(nursery: trio.Nursery) -> None:
    peer = serve(nursery, with_trailers)
    for _ in range(2):
        answer = await peer.ask()
        assert (answer.content, answer.trailers) == (b"abc", [("Checksum", "9")])


async def test_trailers_are_left_out_where_none_can_be_and_the_response_is_whole(
    nursery: trio.Nursery,
) -> None:
    """The answer to a HEAD and to a client of HTTP/1.0 was once aborted for them."""
    peer = serve(nursery, with_trailers)
    assert (await peer.ask(head("HEAD"))).status == 200
    assert (await peer.ask(head("GET", version="1.0"))).content == b"abc"
    assert await peer.is_closed_by_server()


@pytest.mark.parametrize("trailers", [{"X": "a\r\nb"}, {"a b": "c"}, [("x", "\u20ac")]])
async def test_illegal_trailers_abort(
    nursery: trio.Nursery, trailers: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            body.trailers = trailers  # type: ignore[assignment]

    streams = watched()
    with pytest.raises(Cut):
        await serve(nursery, handler, streams=streams).ask()
    assert streams[1].ending == "aborted"


# ------------------------------------------------------------------------------------------ both ways at once


async def copy(request: Request) -> None:
    async with request.stream_response(200) as body:
        async for piece in request.body:
            await body.send_all(piece)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_handler_may_begin_its_answer_and_then_read_what_was_here_already(
    nursery: trio.Nursery, chunked: bool
) -> None:
    """What had come with the head was once thrown away when the answer began."""
    if chunked:
        request = head("POST", "/", "Transfer-Encoding: chunked") + chunk(b"abc") + chunk(b"de") + chunk(b"")
    else:
        request = post(b"abcde")
    assert (await serve(nursery, copy).ask(request)).content == b"abcde"


async def test_a_request_and_its_response_stream_side_by_side(nursery: trio.Nursery) -> None:
    peer = serve(nursery, copy)
    await peer.send(head("POST", "/", "Content-Length: 6"))
    assert (await peer.head()).status == 200
    for piece in (b"ab", b"cd", b"ef"):
        await peer.send(piece)
        assert await peer.take(7) == b"2\r\n%s\r\n" % piece
    assert await peer.take(5) == b"0\r\n\r\n"
    assert (await peer.ask(post(b"again"))).content == b"again"


async def test_a_streamed_answer_that_leaves_the_request_unread_announces_the_close(
    nursery: trio.Nursery,
) -> None:
    peer = serve(nursery, letters)
    answer = await peer.ask(head("POST", "/", "Transfer-Encoding: chunked") + chunk(b"abc"))
    assert (answer.content, answer.closes) == (b"abc", True)
    assert await peer.is_closed_by_server()


async def test_a_small_unread_request_behind_a_streamed_answer_is_drained(nursery: trio.Nursery) -> None:
    peer = serve(nursery, letters)
    answer = await peer.ask(post(b"unread"))
    assert not answer.closes
    assert (await peer.ask()).content == b"abc"


# -------------------------------------------------------------------------------------------- ends and misuse


async def test_leaving_the_block_alone_ends_the_message(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            await body.send_all(b"part")
            await body.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await body.send_all(b"more")
            with pytest.raises(trio.ClosedResourceError):
                await body.wait_send_all_might_not_block()

    streams = watched()
    with pytest.raises(Cut):
        await serve(nursery, handler, streams=streams).ask()
    assert streams[1].ending == "aborted"


async def test_a_stream_that_has_ended_takes_nothing_more(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            await body.wait_send_all_might_not_block()
            await body.send_all(b"all")
        with pytest.raises(trio.ClosedResourceError):
            await body.send_all(b"more")
        await body.aclose()

    peer = serve(nursery, handler)
    for _ in range(2):
        assert (await peer.ask()).content == b"all"


async def test_a_second_streamed_response_is_refused(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            with pytest.raises(RuntimeError, match="already"):
                request.stream_response(200)
            await body.send_all(b"first")
        with pytest.raises(RuntimeError, match="already"):
            await body.__aenter__()

    assert (await serve(nursery, handler).ask()).content == b"first"


@pytest.mark.parametrize("status", [100, 101, 199, 1000])
async def test_a_streamed_response_with_no_final_status_is_refused(
    nursery: trio.Nursery, status: int
) -> None:
    """An interim head once went out in the final one's place."""

    async def handler(request: Request) -> Response:
        with pytest.raises(ValueError):
            request.stream_response(status)
        return Response(200, text="fine")

    answer = await serve(nursery, handler).ask()
    assert (answer.content, answer.interims) == (b"fine", [])


async def test_illegal_fields_of_a_streamed_response_are_refused_before_anything_is_sent(
    nursery: trio.Nursery,
) -> None:
    async def handler(request: Request) -> Response:
        with pytest.raises(wire.LocalProtocolError):
            request.stream_response(200, headers={"X": "a\nb"})
        return Response(200, text="fine")

    assert (await serve(nursery, handler).ask()).content == b"fine"


async def test_a_cancelled_send_poisons_the_stream_and_aborts(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    later: list[BaseException] = []

    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            with trio.move_on_after(1):
                await body.send_all(b"never read")
            try:
                await body.send_all(b"more")
            except trio.BrokenResourceError as exc:
                later.append(exc)

    client, server = trio.testing.lockstep_stream_pair()
    peer = serve(nursery, handler, streams=(client, server))
    await peer.send(GET)
    assert (await peer.head()).status == 200
    await peer.finished.wait()
    assert [type(exc) for exc in later] == [trio.BrokenResourceError]
    assert trio.current_time() == 1


async def test_a_cancel_before_the_send_has_begun_leaves_the_stream_whole(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            with trio.CancelScope() as scope:
                scope.cancel()
                await body.send_all(b"not sent")
            await body.send_all(b"sent")

    assert (await serve(nursery, handler).ask()).content == b"sent"


async def test_the_verbs_of_a_stream_are_checkpoints(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        stream = request.stream_response(200)
        with trio.testing.assert_checkpoints():
            await stream.__aenter__()
        with trio.testing.assert_checkpoints():
            await stream.send_all(b"x")
        with trio.testing.assert_checkpoints():
            await stream.send_all(b"")
        with trio.testing.assert_checkpoints():
            await stream.__aexit__(None, None, None)
        with trio.testing.assert_checkpoints():
            await stream.aclose()

    peer = serve(nursery, handler)
    await peer.send(GET)
    assert (await Peer.answer(peer)).content == b"x"
