"""The tools on the real thing: an exchange that is cut at any byte is never taken for a whole one."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_http import ClientDisconnected, Request, RequestFailed, Response
from trio_http.client import Client, ClientConnection
from trio_http.server import serve_connection
from trio_http.testing import Faults, FaultyStream, memory_pair

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "a length": OK + b"Content-Length: 5\r\n\r\nhello",
    "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n",
    "an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("fault", ["break_at", "end_at"])
@pytest.mark.parametrize("at_most", [None, 1], ids=["in one piece", "byte by byte"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_half_a_response_is_never_returned(fault: str, at_most: int | None, answer: bytes) -> None:
    for position in range(len(answer) + 1):
        ours, theirs = memory_pair()
        await theirs.send_all(answer)
        stream = FaultyStream(ours, receiving=Faults(**{fault: position}, at_most=at_most))
        async with ClientConnection(stream, base_url="http://a") as connection:
            if position == len(answer):
                assert (await connection.get("/")).content == b"hello"
            else:
                with pytest.raises(RequestFailed):
                    await connection.get("/")
                assert connection.closed
        assert ours.closed


@pytest.mark.parametrize("fault", ["break_at", "end_at"])
async def test_half_a_body_is_never_handed_to_a_handler(fault: str) -> None:
    request = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    )
    whole: list[int] = []
    position = 0

    async def read(request: Request) -> Response:
        assert await request.read() == b"hello"
        whole.append(position)
        return Response()

    for position in range(len(request) + 1):  # the handler notes it
        ours, theirs = memory_pair()
        await ours.send_all(request)
        await ours.send_eof()
        await serve_connection(read, FaultyStream(theirs, receiving=Faults(**{fault: position})))
        assert theirs.closed
    assert whole == [len(request)]


async def test_a_request_that_breaks_at_any_byte_fails_or_was_answered(autojump_clock: MockClock) -> None:
    async def echo(request: Request) -> Response:
        try:
            return Response(content=await request.read())
        except ClientDisconnected:
            broken.append(request)
            raise

    async def content() -> trio.abc.ReceiveStream:
        ours, theirs = memory_pair()
        for _ in range(3):
            await theirs.send_all(b"abcde")
        await theirs.aclose()
        return ours

    broken: list[Request] = []
    ends = []
    for position in range(220):
        async with trio.open_nursery() as nursery:

            async def dial(
                host: str, port: int, scheme: str, position: int = position, nursery: trio.Nursery = nursery
            ) -> trio.abc.Stream:
                ours, theirs = memory_pair()
                nursery.start_soon(serve_connection, echo, theirs)
                return FaultyStream(ours, sending=Faults(break_at=position))

            async with Client(base_url="http://a", dial=dial) as client:
                try:
                    with trio.fail_after(5):
                        assert (await client.post("/", content=await content())).content == b"abcde" * 3
                    ends.append("answered")
                except RequestFailed:
                    ends.append("failed")
                assert client.statistics().leased == 0
    failed = ends.index("answered")
    assert ends == ["failed"] * failed + ["answered"] * (220 - failed)
    assert failed > 100
