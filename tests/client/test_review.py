"""What a review of the client found, each with what used to happen."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import trio_http
from trio_http.messages import MessageBody


class Server:
    """A TCP server that plays the same bytes to every request, and may then close."""

    def __init__(self, answers: list[bytes], *, closes: bool = False) -> None:
        self.answers = answers
        self.closes = closes

    async def __call__(self, stream: trio.SocketStream) -> None:
        for answer in self.answers:
            data = b""
            while not data.endswith(b"\r\n\r\n"):
                piece = await stream.receive_some()
                if not piece:
                    return
                data += piece
            await stream.send_all(answer)
            if self.closes:
                return

    async def start(self, nursery: trio.Nursery) -> str:
        listeners = await nursery.start(trio.serve_tcp, self, 0)
        return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"


def response(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)


@pytest.mark.interop
async def test_a_connection_with_an_unasked_response_is_not_handed_to_who_waits(
    nursery: trio.Nursery,
) -> None:
    """Only idle connections were looked at: a waiter took the bytes that nobody had asked for as its
    answer."""
    big = b"a" * 65536
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n"
    url = await Server([head + big + response(b"POISON"), response(b"ok"), response(b"ok")]).start(nursery)
    answers: list[bytes] = []
    async with trio_http.Client(max_connections_per_origin=1) as client, trio.open_nursery() as tasks:
        for _ in range(3):
            tasks.start_soon(lambda: collect(client, url, answers))
    assert set(answers) <= {big, b"ok"}
    nursery.cancel_scope.cancel()


async def collect(client: trio_http.Client, url: str, answers: list[bytes]) -> None:
    answers.append((await client.get(url)).content)


@pytest.mark.interop
async def test_a_server_that_closes_without_saying_so_loses_no_get(nursery: trio.Nursery) -> None:
    """A quarter of concurrent GETs failed: the second attempt could get another dead connection."""
    url = await Server([response(b"ok")], closes=True).start(nursery)
    answers: list[bytes] = []
    async with trio_http.Client(max_connections_per_origin=2) as client, trio.open_nursery() as tasks:
        for _ in range(60):
            tasks.start_soon(lambda: collect(client, url, answers))
    assert answers == [b"ok"] * 60
    nursery.cancel_scope.cancel()


@pytest.mark.interop
async def test_a_single_connection_refuses_what_nobody_asked_for(nursery: trio.Nursery) -> None:
    """The unasked response was the answer to the next request."""
    url = await Server([response(b"one") + response(b"POISON")]).start(nursery)
    port = int(url.rstrip("/").rpartition(":")[2])
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with trio_http.ClientConnection(stream) as connection:
        # What came with the answer fails its exchange; what comes behind it, the next one.
        with pytest.raises(trio_http.RequestFailed) as caught:
            assert (await connection.get(url)).content == b"one"
            await connection.get(url)
    assert not caught.value.facts.may_have_acted
    nursery.cancel_scope.cancel()


async def test_two_readers_of_one_body_are_told_so() -> None:
    """The second got an empty part, which means the end."""

    class Body(MessageBody):
        trailers = trio_http.Headers()

        async def _next_piece(self) -> bytes:
            await trio.lowlevel.checkpoint()
            return b"012"

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    body = Body()
    assert await body.receive_some(1) == b"0"
    seen: list[object] = []

    async def read() -> None:
        try:
            seen.append(await body.receive_some())
        except trio.BusyResourceError as exc:
            seen.append(type(exc))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
    assert sorted(map(str, seen)) == sorted(map(str, [b"12", trio.BusyResourceError]))


@pytest.mark.parametrize("options", [{"lenient": "x"}, {"limits": 5}])
def test_settings_of_the_wrong_type_are_refused_at_once(options: dict[str, object]) -> None:
    """They were found out in the first dial, and left trio's nurseries in disorder."""
    with pytest.raises(TypeError):
        trio_http.Client(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    ["ftp://user:s3cret@h/", "http://user:s3cret@h/a b", "http://user:s3cret@h/", "http://user:s3#cret@h/"],
)
async def test_a_password_is_in_no_error(url: str) -> None:
    async with trio_http.Client() as client:
        with pytest.raises(trio_http.InvalidRequest) as caught:
            await client.get(url)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://a..b/", "http://.../", "https://.a/", f"http://{'a' * 64}.b/"])
async def test_a_host_that_no_resolver_takes_is_refused_as_such(url: str) -> None:
    """It came as a UnicodeError of the idna codec."""
    async with trio_http.Client() as client:
        with pytest.raises(trio_http.InvalidRequest, match="label"):
            await client.get(url)


@pytest.mark.interop
async def test_a_refused_connection_says_so() -> None:
    """It said that all attempts had failed, and not how."""
    async with trio_http.Client() as client:
        with pytest.raises(trio_http.ConnectFailed, match="Connection refused"):
            await client.get("http://127.0.0.1:1/")


@pytest.mark.parametrize("charset", ["punycode", "idna", "unicode_escape", "undefined", "no-such", "hex"])
def test_a_codec_that_is_no_charset_is_not_used(charset: str) -> None:
    """600 kB of punycode took most of a minute, in which nothing else ran."""
    headers = {"Content-Type": f"text/plain; charset={charset}"}
    assert trio_http.Response(200, b"b" * 100 + b"-" + b"a" * 100, headers=headers).text.startswith("bbb")
