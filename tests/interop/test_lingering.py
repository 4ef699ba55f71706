"""How a connection ends, over real TCP, under a client that is still sending.

A close while bytes of the client's are unread, or under way, is a reset, and a reset may take an answer with
it that the client has not read yet (RFC 9112 §9.6). So an answer that is whole is followed by a FIN, and the
server reads on for a while. An answer that failed is the opposite: only a reset tells the client that it is
not whole, for a close-delimited one ends in a FIN.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing

from tests.server.media import PAUSE, TLSClient
from tests.server.support import Peer, chunk, head
from tests.transport._peers import server_context
from trio_http import Request, Response, Server, ServerConfig, ServerTimes, serve_ssl_over_tcp, serve_tcp
from trio_http.server import Handler

pytestmark = pytest.mark.interop

#: The upload, in bytes, which is far more than the server reads while it lingers, and a piece of it.
UPLOAD, PIECE = 50_000_000, 50_000
#: The client's send buffer, in bytes. The kernel's own choice could hold more than the server lingers for.
BUFFER = 65536

BY_LENGTH = head("POST", "/", f"Content-Length: {UPLOAD}")
CHUNKED = head("POST", "/", "Transfer-Encoding: chunked")


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    """Jumps when no bytes are under way any more."""
    return trio.testing.MockClock(autojump_threshold=PAUSE)


def by_length() -> list[bytes]:
    return [BY_LENGTH, *[bytes(PIECE)] * (UPLOAD // PIECE)]


def in_chunks() -> list[bytes]:
    return [CHUNKED, *[chunk(bytes(PIECE))] * (UPLOAD // PIECE), chunk(b"")]


def in_chunks_of_which_one_is_broken() -> list[bytes]:
    parts = in_chunks()
    parts[20] = b"no chunk" + bytes(PIECE)
    return parts


async def read_all(request: Request) -> Response:
    return Response(200, text=str(len(await request.read(limit=10 * UPLOAD))))


async def reject(request: Request) -> Response:
    return Response(403, text="not you\n")


@attrs.frozen
class Refusal:
    """An upload that is answered before its end.

    Attributes:
      parts: what the client sends.
      handler: who answers.
      status: with which it does so.
      max_body_bytes: see `ServerConfig`.
    """

    parts: Callable[[], list[bytes]]
    handler: Handler
    status: int
    max_body_bytes: int = 1 << 30


REFUSALS = {
    "413 for its length": Refusal(by_length, read_all, 413, 1 << 20),
    "413 in its midst": Refusal(in_chunks, read_all, 413, 10 << 20),
    "400 in its midst": Refusal(in_chunks_of_which_one_is_broken, read_all, 400),
    "403 unread": Refusal(by_length, reject, 403),
    "403 unread, in chunks": Refusal(in_chunks, reject, 403),
}


class Uploader:
    """A client that sends.

    Attributes:
      peer: reads the answer.
      sent: how many bytes were handed to the kernel, in whole pieces.
      events: what its sending and its receiving met: "reset", "broken pipe", "end"; under TLS also "cut", the
        end without a closure alert.
    """

    def __init__(self, sock: socket.socket, stream: trio.abc.HalfCloseableStream) -> None:
        self.sock = sock
        self.peer = Peer(stream, takes_resets=True)
        self.sent = 0
        self.events: list[str] = []

    async def send(self, parts: list[bytes]) -> None:
        """Send all, or as much as the server lets us."""
        for part in parts:
            try:
                await self.peer.send(part)
            except trio.BrokenResourceError as exc:
                self._note(exc)
                return
            self.sent += len(part)

    async def receive_to_end(self) -> bytes:
        """Receive all that comes, note how it ended, and return it."""
        received = b""
        try:
            while data := await self.peer.stream.receive_some():
                received += data
            self.events.append("end")
        except trio.BrokenResourceError as exc:
            self._note(exc)
        return received

    def _note(self, exc: trio.BrokenResourceError) -> None:
        # Linux tells of a reset that no FIN preceded once as ECONNRESET, to whoever asks first, and of one
        # behind a FIN as EPIPE. (Whoever asks later is told EPIPE, or that all has been read.)
        cause = exc.__cause__
        assert isinstance(cause, OSError)
        self.events.append({errno.ECONNRESET: "reset", errno.EPIPE: "broken pipe"}.get(cause.errno, "cut"))


async def connect(server: Server, nursery: trio.Nursery) -> Uploader:
    """Open a connection to the server, in TLS if it speaks that."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    sock.connect(server.listeners[0].socket.getsockname())
    sock.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    if server.url.startswith("http:"):
        return Uploader(sock, stream)
    tls = TLSClient(stream, sock)
    nursery.start_soon(tls.shake_hands)
    return Uploader(sock, tls)


@pytest.fixture(params=["tcp", "tls"])
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


async def start(
    nursery: trio.Nursery, handler: Handler, scheme: str = "tcp", config: ServerConfig | None = None
) -> Server:
    """Serve on a free port."""
    config = config or ServerConfig()

    async def serve(task_status: trio.TaskStatus[Server]) -> None:
        if scheme == "tcp":
            await serve_tcp(handler, 0, config=config, task_status=task_status)
        else:
            await serve_ssl_over_tcp(handler, 0, server_context(), config=config, task_status=task_status)

    server: Server = await nursery.start(serve)
    return server


# -- an answer that is whole


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_client_that_looks_up_from_its_upload_gets_the_answer_and_a_regular_end(
    name: str, scheme: str, nursery: trio.Nursery
) -> None:
    refusal = REFUSALS[name]
    config = ServerConfig(max_body_bytes=refusal.max_body_bytes)
    with trio.fail_after(30):
        server = await start(nursery, refusal.handler, scheme, config)
        client = await connect(server, nursery)
        async with client.peer.stream:
            async with trio.open_nursery() as uploading:
                uploading.start_soon(client.send, refusal.parts())
                answer = await client.peer.answer()
                uploading.cancel_scope.cancel()
            assert (answer.status, answer.closes) == (refusal.status, True)
            assert answer.content
            assert await client.receive_to_end() == b""
        assert client.events == ["end"]
        assert client.sent < UPLOAD


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_client_that_looks_up_only_when_its_upload_fails_gets_the_answer_too(
    name: str, scheme: str, nursery: trio.Nursery
) -> None:
    """The server does not read it all. But the answer, and its end, came before the reset."""
    refusal = REFUSALS[name]
    config = ServerConfig(max_body_bytes=refusal.max_body_bytes)
    with trio.fail_after(30):
        server = await start(nursery, refusal.handler, scheme, config)
        client = await connect(server, nursery)
        async with client.peer.stream:
            await client.send(refusal.parts())
            answer = await client.peer.answer()
        assert (answer.status, answer.closes) == (refusal.status, True)
        assert answer.content
        # A reset behind the FIN: to whoever sends, Linux tells that as EPIPE.
        assert client.events == ["broken pipe"]


async def test_who_never_stops_sending_is_let_in_for_so_many_bytes_and_no_more(nursery: trio.Nursery) -> None:
    linger_bytes = 5_000_000
    with trio.fail_after(30):
        server = await start(nursery, reject, config=ServerConfig(linger_bytes=linger_bytes))
        client = await connect(server, nursery)
        async with client.peer.stream:
            await client.send(by_length())
            assert (await client.peer.answer()).status == 403
        # Beyond the bound: one receive, and what the kernel's buffers held on both sides.
        assert linger_bytes <= client.sent < linger_bytes + 10_000_000
        assert server.statistics().connections == 0


async def test_who_sends_nothing_more_and_stays_is_waited_for_no_longer_than_the_linger_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server = await start(nursery, reject, config=ServerConfig(times=ServerTimes(linger=3)))
    client = await connect(server, nursery)
    async with client.peer.stream:
        await client.send(by_length()[:3])
        before = trio.current_time()
        assert (await client.peer.answer()).status == 403
        assert await client.peer.is_closed_by_server()  # its sending, at once
        assert trio.current_time() == before
        await server.shutdown()  # waits for the connection, and does not hurry it
        assert trio.current_time() - before == pytest.approx(3)


# -- an answer that failed


FRAMINGS = {
    "chunked": ({}, "1.1"),
    "length": ({"Content-Length": "100000"}, "1.1"),
    "close": ({}, "1.0"),
}


class Failing:
    """A handler that sends the beginning of an answer, reads a little of the upload, and fails.

    Args:
      framing: of the answer, a key of `FRAMINGS`.
      how: "raises", "overruns" its deadline, "is stopped" with its server.
    """

    def __init__(self, framing: str, how: str) -> None:
        self.framing = framing
        self.how = how
        self.began = trio.Event()

    async def __call__(self, request: Request) -> None:
        fields, _ = FRAMINGS[self.framing]
        async with request.stream_response(200, headers=fields) as body:
            await body.send_all(b"the beginning")
            await request.body.receive_some()
            self.began.set()
            if self.how == "raises":
                raise RuntimeError("on purpose")
            await trio.sleep_forever()

    def request(self, length: int) -> bytes:
        """The head of what a client asks it, with so much content to come."""
        _, version = FRAMINGS[self.framing]
        return head("POST", "/", f"Content-Length: {length}", version=version)


@pytest.fixture(params=FRAMINGS)
def framing(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["raises", "overruns", "is stopped"])
async def failing(request: pytest.FixtureRequest, framing: str) -> Failing:
    return Failing(framing, request.param)


@pytest.mark.parametrize("upload", [UPLOAD, PIECE // 50], ids=["still sending", "has sent all"])
async def test_an_answer_that_failed_ends_in_a_reset_and_never_in_a_fin(
    upload: int,
    failing: Failing,
    scheme: str,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also where a mere close would be a FIN: when all that was sent has been read."""
    server = await start(nursery, failing, scheme, ServerConfig(times=ServerTimes(request=5)))
    client = await connect(server, nursery)
    received = b""

    async def receive() -> None:
        nonlocal received
        received = await client.receive_to_end()

    async with client.peer.stream, trio.open_nursery() as exchange:
        parts = [bytes(PIECE)] * (upload // PIECE) or [bytes(upload)]
        exchange.start_soon(client.send, [failing.request(upload), *parts])
        exchange.start_soon(receive)
        if failing.how == "is stopped":
            await failing.began.wait()
            server.begin_shutdown(0)
    assert "reset" in client.events, (client.events, received)
    assert client.sent < UPLOAD
    answer, _, content = received.partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") or not received  # a reset may overtake what was sent before it
    assert not content.endswith(b"0\r\n\r\n")
    assert ("on purpose" in caplog.text) == (failing.how == "raises")
    assert server.statistics().connections == 0
