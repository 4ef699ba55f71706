"""Our client fetching from Python's own `http.server`, which speaks HTTP/1.0 unless told otherwise."""

from __future__ import annotations

import http.server
import socket
import struct
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

import trio_http
from tests.interop.conftest import idle_and_leased
from tests.interop.programs import output_until, running
from trio_http.client import Client

pytestmark = pytest.mark.interop

CONTENT = b"".join(b"%09d\n" % number for number in range(100_000))

Serve = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """A function that runs ``python -m http.server`` for the length of a block, which gets its URL."""
    (tmp_path / "content.bin").write_bytes(CONTENT)
    (tmp_path / "empty").touch()

    @asynccontextmanager
    async def run_server(*args: str) -> AsyncIterator[str]:
        argv = [
            sys.executable,
            "-u",
            "-m",
            "http.server",
            "0",
            "--bind",
            "127.0.0.1",
            "--directory",
            str(tmp_path),
        ]
        async with running([*argv, *args]) as process:
            yield (await output_until(process, r"\((http://[\d.:]+)/\)"))[1]

    return run_server


async def test_files_come_by_http_1_0_each_on_its_own_connection(serve: Serve, client: Client) -> None:
    async with serve() as url:
        for _ in range(2):
            response = await client.get(url + "/content.bin")
            assert response.status == 200
            assert response.content == CONTENT
            assert response.headers["content-length"] == str(len(CONTENT))
            assert idle_and_leased(client) == (0, 0)
        async with client.stream("GET", url + "/content.bin") as streamed:
            assert b"".join([piece async for piece in streamed.body]) == CONTENT
        assert (await client.get(url + "/empty")).content == b""


async def test_a_listing_an_error_and_an_answer_without_content_come_by_http_1_0(
    serve: Serve, client: Client
) -> None:
    async with serve() as url:
        listing = await client.get(url + "/")
        assert 'href="content.bin"' in listing.text
        missing = await client.get(url + "/nothing")
        assert (missing.status, missing.reason) == (404, "File not found")
        assert "404" in missing.text
        head = await client.head(url + "/content.bin")
        assert (head.headers["content-length"], head.content) == (str(len(CONTENT)), b"")
        since = {"If-Modified-Since": head.headers["last-modified"]}
        unchanged = await client.get(url + "/content.bin", headers=since)
        assert (unchanged.status, unchanged.content) == (304, b"")
        refused = await client.post(url + "/content.bin", content=b"content")
        assert refused.status == 501


async def test_files_come_by_http_1_1_on_one_connection(serve: Serve, client: Client) -> None:
    async with serve("--protocol", "HTTP/1.1") as url:
        for path, content in [("/content.bin", CONTENT), ("/empty", b""), ("/content.bin", CONTENT)]:
            assert (await client.get(url + path)).content == content
            assert idle_and_leased(client) == (1, 0)


# ------------------------------------------------------------------------------------------ close-delimited


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers without a length, and then closes the connection; resets it when the path is ``/reset``."""

    def do_GET(self) -> None:
        self.answer(CONTENT)

    def do_POST(self) -> None:
        self.answer(b"> " + self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        for start in range(0, len(content), 10_000):
            self.wfile.write(content[start : start + 10_000])
        self.close_connection = True
        if self.path == "/reset":
            # Linger on, for zero seconds: the close becomes a reset (POSIX `SO_LINGER`).
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """Closes a connection without the standard library's FIN before it, which would forestall a reset."""

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        request.close()


@pytest.fixture(params=["HTTP/1.0", "HTTP/1.1"])
def close_delimited(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server whose content only the close delimits, in both versions."""
    handler = type("VersionedHandler", (Handler,), {"protocol_version": request.param})
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


async def test_close_delimited_content_ends_with_the_connection(close_delimited: str, client: Client) -> None:
    for _ in range(2):
        response = await client.get(close_delimited + "/")
        assert "content-length" not in response.headers
        assert response.content == CONTENT
        assert idle_and_leased(client) == (0, 0)
    async with client.stream("GET", close_delimited + "/") as streamed:
        assert b"".join([piece async for piece in streamed.body]) == CONTENT
    assert (await client.post(close_delimited + "/", content=b"content")).content == b"> content"
    assert (await client.head(close_delimited + "/")).status == 501


async def test_close_delimited_content_that_a_reset_cuts_is_incomplete(
    close_delimited: str, client: Client
) -> None:
    with pytest.raises(trio_http.ResponseIncomplete):
        async with client.stream("GET", close_delimited + "/reset") as response:
            await response.read()
    assert idle_and_leased(client) == (0, 0)
