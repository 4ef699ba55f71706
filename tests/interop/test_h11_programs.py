"""Programs written for h11, unmodified, with `trio_http.wire` in h11's place.

Each runs in a process of its own, where `as_h11.py` makes the replacement; here the other end of the wire is
the standard library, or wsproto on the real h11, so that no mistake of ours can cancel itself out.
"""

from __future__ import annotations

import http.client
import http.server
import json
import pathlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import wsproto
from wsproto import events

pytestmark = pytest.mark.interop

RUNNER = str(pathlib.Path(__file__).with_name("as_h11.py"))
SERVERS = ["uvicorn", "hypercorn_trio", "hypercorn_asyncio"]
CLIENTS = ["httpcore_sync", "httpcore_trio", "httpx_sync", "httpx_trio"]
# Far above what any step takes on a busy machine, far below the patience of a test run.
SECONDS = 20

# Which module of each program does the HTTP.
ENGINES = {
    "uvicorn": ["uvicorn.protocols.http.h11_impl", "wsproto.handshake"],
    "hypercorn_trio": ["hypercorn.protocol.h11", "wsproto.handshake"],
    "hypercorn_asyncio": ["hypercorn.protocol.h11", "wsproto.handshake"],
    "httpcore_sync": ["httpcore._sync.http11"],
    "httpcore_trio": ["httpcore._async.http11"],
    "httpx_sync": ["httpcore._sync.http11"],
    "httpx_trio": ["httpcore._async.http11"],
    "wsproto": ["wsproto.handshake"],
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Start a server and return its name and port."""
    with subprocess.Popen(
        [sys.executable, RUNNER, request.param], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield request.param, int(process.stdout.readline())
        finally:
            process.terminate()
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def raw(server: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server[1]), timeout=SECONDS) as sock:
        yield sock


def connection(server: tuple[str, int]) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server[1], timeout=SECONDS)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        piece = sock.recv(65536)
        assert piece, f"the connection ended after {data!r}"
        data += piece
    return data


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def assert_replaced(program: str, users: dict[str, str]) -> None:
    """Check that every module of the program that knows h11 knows ours by that name."""
    assert set(ENGINES[program]) <= set(users)
    assert set(users.values()) == {"trio_http.wire"}


def test_the_server_runs_on_the_replacement(server: tuple[str, int]) -> None:
    conn = connection(server)
    conn.request("GET", "/users")
    assert_replaced(server[0], json.load(conn.getresponse()))
    conn.close()


def test_requests_of_all_framings_follow_each_other_on_one_connection(server: tuple[str, int]) -> None:
    conn = connection(server)
    conn.connect()
    sock = conn.sock
    requests: list[tuple[str, str, Any, bytes]] = [
        ("GET", "/a", None, b""),
        ("POST", "/b", b"with a length", b"with a length"),
        ("POST", "/c", iter([b"in ", b"chunks"]), b"in chunks"),
        ("POST", "/chunked", b"and back", b"and back"),
        ("PUT", "/d", b"x" * 200_000, b"x" * 200_000),
        ("GET", "/e", None, b""),
    ]
    for method, path, body, expected in requests:
        conn.request(method, path, body=body)
        response = conn.getresponse()
        assert response.status == 200
        assert response.headers["x-method"] == method
        assert response.headers["x-version"] == "1.1"
        assert response.read() == expected
        chunked = path == "/chunked"
        assert (response.headers["transfer-encoding"] == "chunked") is chunked
        assert (response.headers["content-length"] is None) is chunked
        assert conn.sock is sock, f"the connection was closed after {path}"
    conn.close()


def test_head_is_answered_without_a_body(server: tuple[str, int]) -> None:
    conn = connection(server)
    for _ in range(2):
        conn.request("HEAD", "/users")
        response = conn.getresponse()
        assert response.status == 200
        assert int(response.headers["content-length"]) > 0
        assert response.read() == b""
    conn.close()


def test_an_expectation_is_met_before_the_body_is_sent(raw: socket.socket) -> None:
    raw.sendall(
        b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
        b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    interim = read_until(raw, b"\r\n\r\n")
    assert interim.startswith(b"HTTP/1.1 100 ")
    raw.sendall(b"body")
    rest = read_to_end(raw)
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert rest.endswith(b"\r\n\r\nbody")


def test_pipelined_requests_are_answered_in_order(raw: socket.socket) -> None:
    raw.sendall(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none" * 2)
    raw.sendall(b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntwo")
    answers = read_to_end(raw)
    assert answers.count(b"HTTP/1.1 200 ") == 3
    assert answers.count(b"\r\n\r\none") == 2
    assert answers.endswith(b"\r\n\r\ntwo")


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"nonsense\r\n\r\n", id="no request"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", id="space before colon"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="both framings",
        ),
    ],
)
def test_a_bad_request_gets_400_and_the_connection_is_closed(raw: socket.socket, request_: bytes) -> None:
    raw.sendall(request_)
    answer = read_to_end(raw)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close\r\n" in answer.lower()


def test_the_server_survives_a_bad_request(server: tuple[str, int]) -> None:
    with socket.create_connection(("127.0.0.1", server[1]), timeout=SECONDS) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        read_to_end(sock)
    conn = connection(server)
    conn.request("POST", "/", body=b"alive")
    assert conn.getresponse().read() == b"alive"
    conn.close()


def test_an_http_1_0_request_is_answered_and_closed(raw: socket.socket) -> None:
    raw.sendall(b"GET /chunked HTTP/1.0\r\n\r\n")
    answer = read_to_end(raw)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in answer.lower()


def test_a_web_socket_is_opened_and_echoes(raw: socket.socket) -> None:
    ws = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    raw.sendall(ws.send(events.Request(host="a", target="/ws")))
    texts: list[str] = []
    while len(texts) < 2:
        ws.receive_data(raw.recv(65536))
        for event in ws.events():
            if isinstance(event, events.AcceptConnection):
                raw.sendall(ws.send(events.TextMessage("one")) + ws.send(events.TextMessage("two")))
            else:
                assert isinstance(event, events.TextMessage), event
                texts.append(event.data)
    assert texts == ["echo one", "echo two"]
    raw.sendall(ws.send(events.CloseConnection(1000)))


def run(program: str, *arguments: str) -> Any:
    """Run a client to its end and return what it saw, once it has proved what it ran on."""
    done = subprocess.run(
        [sys.executable, RUNNER, program, *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert_replaced(program, report["users"])
    return report["seen"]


@pytest.mark.parametrize("program", CLIENTS)
def test_a_client_fetches_from_a_server_on_the_replacement(program: str, server: tuple[str, int]) -> None:
    seen = run(program, f"http://127.0.0.1:{server[1]}")
    assert seen == [[200, ""], [200, ""], [200, "a body"], [200, "in pieces"], [200, 100_000], 1]


class Echo(http.server.BaseHTTPRequestHandler):
    """The standard library's server: HTTP/1.1, bodies echoed, chunked ones chunked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(b"hello")

    def do_POST(self) -> None:
        if self.headers["transfer-encoding"] == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["content-length"]))
        self.answer(body)

    def answer(self, body: bytes) -> None:
        chunked = self.path == "/chunked"
        self.send_response(200)
        self.send_header(
            *(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body))))
        )
        self.end_headers()
        for start in range(0, len(body), 1000) if chunked else ():
            piece = body[start : start + 1000]
            self.wfile.write(b"%x;part=%d\r\n%s\r\n" % (len(piece), start, piece))
        self.wfile.write(b"0\r\nX-End: yes\r\n\r\n" if chunked else body)

    def log_message(self, *args: object) -> None:
        """Stay silent: a test's output is for failures."""


@pytest.fixture
def standard_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as standard:
        thread = threading.Thread(target=standard.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{standard.server_address[1]}"
        finally:
            standard.shutdown()
            thread.join(SECONDS)


@pytest.mark.parametrize("program", CLIENTS)
def test_a_client_fetches_from_the_standard_librarys_server(program: str, standard_server: str) -> None:
    seen = run(program, standard_server)
    assert seen == [[200, "hello"], [200, "hello"], [200, "a body"], [200, "in pieces"], [200, 100_000], 1]


def test_wsproto_shakes_hands_with_itself_on_the_replacement() -> None:
    assert run("wsproto") == ["/chat", "x", "hi", 403]
