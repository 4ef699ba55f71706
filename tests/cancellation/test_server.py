"""The server, cancelled at every step of every stage of an exchange.

The sweep's own rules hold in each test (`Cancelled` comes out, no task stays behind, it ends), and those of
`sweep_server`.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._worlds import lands_in, sweep_server
from trio_http import HTTPException, Request, Response
from trio_http.testing import Faults, FaultyStream, ScriptedPeer

END = b"\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello"


async def hello(request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    return Response(text="hello")


async def test_two_requests_on_a_kept_connection(autojump_clock: MockClock) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    report = await sweep_server(
        hello,
        lambda peer: peer.send(request).expect(HELLO).wait(1).send(request).expect(HELLO).close(),
        answer=HELLO * 2,
    )
    lands_in(report, "receive", "hello", "finish_send")


async def test_two_requests_in_one_piece(autojump_clock: MockClock) -> None:
    report = await sweep_server(
        hello,
        lambda peer: (
            peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2).expect(HELLO * 2).send_eof().expect_end()
        ),
        answer=HELLO * 2,
    )
    lands_in(report, "_serve_exchanges")


async def test_a_head_that_comes_byte_by_byte(autojump_clock: MockClock) -> None:
    await sweep_server(
        hello,
        lambda peer: peer.send_bytewise(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(HELLO).close(),
        answer=HELLO,
    )


async def test_a_whole_answer_to_a_client_that_reads_slowly(autojump_clock: MockClock) -> None:
    report = await sweep_server(
        hello,
        lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").wait(2).expect(HELLO).close(),
        answer=HELLO,
        max_buffer_bytes=40,
    )
    lands_in(report, "finish_send")


async def test_a_body_that_is_read_whole(autojump_clock: MockClock) -> None:
    async def echo(request: Request) -> Response:
        return Response(text=await request.text())

    report = await sweep_server(
        echo,
        lambda peer: (
            peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
            .wait(1)
            .send(b"llo")
            .expect(HELLO)
            .close()
        ),
        answer=HELLO,
    )
    lands_in(report, "receive")


async def test_a_chunked_body_that_is_iterated_over(autojump_clock: MockClock) -> None:
    async def echo(request: Request) -> Response:
        pieces = [piece async for piece in request.body]
        return Response(text=b"".join(pieces).decode())

    await sweep_server(
        echo,
        lambda peer: (
            peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .send_bytewise(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
            .expect(HELLO)
            .close()
        ),
        answer=HELLO,
    )


CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("buffer", [None, 8], ids=["a quick client", "a slow client"])
async def test_a_streamed_answer(buffer: int | None, autojump_clock: MockClock) -> None:
    async def count(request: Request) -> None:
        async with request.stream_response() as body:
            for number in range(3):
                await body.send_all(b"%d\n" % number)
                await trio.sleep(1)
                await body.wait_send_all_might_not_block()

    answer = CHUNKED_HEAD + b"2\r\n0\n\r\n2\r\n1\n\r\n2\r\n2\n\r\n0\r\n\r\n"
    report = await sweep_server(
        count,
        lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").wait(1).expect(answer).close(),
        answer=answer,
        max_buffer_bytes=buffer,
    )
    lands_in(report, "count", "send_all", "wait_send_all_might_not_block")


async def test_a_streamed_answer_that_a_task_of_the_handler_sends(autojump_clock: MockClock) -> None:
    async def together(request: Request) -> None:
        async with request.stream_response() as body, trio.open_nursery() as nursery:
            send, receive = trio.open_memory_channel[bytes](0)

            async def produce() -> None:
                async with send:
                    for piece in (b"a", b"b"):
                        await send.send(piece)

            nursery.start_soon(produce)
            async for piece in receive:
                await body.send_all(piece)

    answer = CHUNKED_HEAD + b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
    await sweep_server(
        together,
        lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(answer).close(),
        answer=answer,
    )


async def test_a_streamed_answer_that_only_the_close_ends(autojump_clock: MockClock) -> None:
    async def two_pieces(request: Request) -> None:
        async with request.stream_response() as body:
            await body.send_all(b"one")
            await body.send_all(b"two")

    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nonetwo"
    await sweep_server(
        two_pieces,
        lambda peer: peer.send(b"GET / HTTP/1.0\r\n\r\n").expect(answer).expect_end().close(),
        answer=answer,
    )


async def test_a_body_that_waits_for_100_continue(autojump_clock: MockClock) -> None:
    async def echo(request: Request) -> Response:
        return Response(text=await request.text())

    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    await sweep_server(
        echo,
        lambda peer: (
            peer.send(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            .expect(interim)
            .send(b"hello")
            .expect(HELLO)
            .close()
        ),
        answer=interim + HELLO,
    )


async def test_an_interim_response(autojump_clock: MockClock) -> None:
    async def early(request: Request) -> Response:
        await request.send_informational(103, headers={"link": "</a>"})
        return Response(text="hello")

    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    await sweep_server(
        early,
        lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(interim + HELLO).close(),
        answer=interim + HELLO,
    )


async def test_an_unread_body_is_drained_and_the_next_request_answered(autojump_clock: MockClock) -> None:
    report = await sweep_server(
        hello,
        lambda peer: (
            peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nab")
            .expect(HELLO)
            .wait(1)
            .send(b"cd")
            .wait(1)
            .send(b"efGET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect(HELLO)
            .close()
        ),
        answer=HELLO * 2,
    )
    lands_in(report, "receive")


async def test_a_body_that_is_never_sent_is_given_up(autojump_clock: MockClock) -> None:
    await sweep_server(
        hello,
        lambda peer: (
            peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nab").expect(HELLO).expect_end()
        ),
        answer=HELLO,
    )


CLOSING = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Content-Length: 5\r\n\r\nhello"
)


@pytest.mark.parametrize("goes", [True, False], ids=["the client ends", "the client stays"])
async def test_lingering_behind_an_answer_that_came_before_the_bodys_end(
    goes: bool, autojump_clock: MockClock
) -> None:
    def script(peer: ScriptedPeer) -> ScriptedPeer:
        peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nab").expect(CLOSING).send(
            b"cd"
        )
        peer.expect_end()
        return peer.send(b"ef").wait(1).close() if goes else peer

    report = await sweep_server(hello, script, answer=CLOSING)
    lands_in(report, "_end", "receive")


async def test_an_http_exception(autojump_clock: MockClock) -> None:
    async def refuse(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        raise HTTPException(404, "no\n")

    answer = (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\r\nno\n"
    )
    await sweep_server(
        refuse,
        lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(answer).close(),
        answer=answer,
    )


async def test_a_handler_that_fails(autojump_clock: MockClock) -> None:
    async def fail(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        raise LookupError("nothing here")

    answer = (
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 26\r\n\r\n500 Internal Server Error\n"
    )
    await sweep_server(
        fail,
        lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(answer).close(),
        answer=answer,
        faults=1,
    )


async def test_a_bad_request(autojump_clock: MockClock) -> None:
    answer = (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 16\r\nConnection: close\r\n\r\n400 Bad Request\n"
    )
    report = await sweep_server(
        hello, lambda peer: peer.send(b"GET\r\n\r\n").expect(answer).expect_end().close(), answer=answer
    )
    lands_in(report, "_end")


async def test_a_head_that_comes_too_late(autojump_clock: MockClock) -> None:
    answer = (
        b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
        b"Content-Length: 20\r\n\r\n408 Request Timeout\n"
    )
    await sweep_server(
        hello, lambda peer: peer.send(b"GET / HT").expect(answer).expect_end().close(), answer=answer
    )


async def test_a_handler_with_a_shielded_clean_up_is_waited_for(autojump_clock: MockClock) -> None:
    cleaned: list[bool] = []

    async def careful(request: Request) -> Response:
        try:
            await trio.sleep(1)
        finally:
            with trio.move_on_after(2, shield=True):
                await trio.sleep(1)
                cleaned.append(True)
        return Response(text="hello")

    report = await sweep_server(
        careful,
        lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(HELLO).close(),
        answer=HELLO,
    )
    lands_in(report, "careful")
    entered = sum(" in careful" in point.where or point.step > 4 for point in report.points)
    assert len(cleaned) >= entered / 2


@pytest.mark.parametrize("at", [0, 30, 90, 110])
async def test_a_client_that_breaks_off(at: int, autojump_clock: MockClock) -> None:
    """Broken and cancelled at once: the worst of both."""

    async def count(request: Request) -> None:
        async with request.stream_response() as body:
            for _ in range(5):
                await body.send_all(b"0123456789")

    whole = CHUNKED_HEAD + b"a\r\n0123456789\r\n" * 5 + b"0\r\n\r\n"
    await sweep_server(
        count,
        lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(whole[:at]).expect_end(),
        answer=whole[:at],
        over=lambda stream: FaultyStream(stream, sending=Faults(break_at=at)),
    )


@pytest.mark.finds_a_defect
async def test_the_sweep_over_a_server_would_see_an_answer_that_is_wrong(autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError, match="the client received"):
        await sweep_server(
            hello,
            lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(HELLO).close(),
            answer=HELLO.replace(b"hello", b"adieu"),
        )


@pytest.mark.finds_a_defect
async def test_the_sweep_over_a_server_would_see_a_handler_that_swallows_the_cancel(
    autojump_clock: MockClock,
) -> None:
    async def stubborn(request: Request) -> Response:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return Response(text="hello")

    # The server notices by itself at its next await; the cancel is late, and not lost.
    report = await sweep_server(
        stubborn,
        lambda peer: peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(HELLO).close(),
        answer=HELLO,
    )
    assert report.points
