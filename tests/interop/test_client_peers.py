"""Our client and nginx over TLS: sessions, certificates, names, ends of connections, and much content."""

from __future__ import annotations

import gzip
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
import trustme
from trio.testing import MockClock

import trio_http
from tests.interop.behind import MEBIBYTE, PIECE, pieces
from tests.interop.conftest import idle_and_leased
from tests.interop.programs import SECONDS, running_nginx
from trio_http.client import Client, client_context

pytestmark = pytest.mark.interop

TEXT = b"".join(b"%09d\n" % number for number in range(20_000))
MUCH = 64

# `$connection $connection_requests`: the number of the connection, and which request on it this is.
HTTP = """
    access_log off;
    types {{ text/plain txt; }}
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.pem;
    ssl_client_certificate {folder}/authority.pem;
    ssl_verify_client optional;
    server {{
        listen 127.0.0.1:{ports[0]} ssl http2;
        root {folder}/files;
        location = /count {{ return 200 "$connection $connection_requests"; }}
        set $names "$ssl_server_name|$ssl_client_s_dn";
        location = /tls {{ return 200 "$ssl_protocol|$server_protocol|$names"; }}
        location = /last {{ keepalive_timeout 0; return 200 "$ssl_session_reused"; }}
        location = /told {{ keepalive_timeout 30s 3s; return 200 "$connection"; }}
        location = /untold {{ keepalive_timeout 1s; return 200 "$connection"; }}
        location = /thrice {{ keepalive_requests 3; return 200 "$connection $connection_requests"; }}
        location = /limited {{ client_max_body_size 1k; try_files /none /text.txt; }}
        location /coded/ {{ gzip on; gzip_min_length 1; gzip_types text/plain; alias {folder}/files/; }}
        location /chunked/ {{ ssi on; ssi_types *; alias {folder}/files/; }}
        location /slow/ {{ limit_rate 20k; alias {folder}/files/; }}
        location /put/ {{ dav_methods PUT; client_max_body_size 100m; }}
    }}
"""


@attrs.frozen
class Nginx:
    """A running nginx under TLS.

    Attributes:
      port: where it listens.
      url: likewise, as localhost.
      files: the folder that it serves.
      authority: has signed its certificate.
      process: it.
    """

    port: int
    files: Path
    authority: trustme.CA
    process: trio.Process

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def context(self) -> ssl.SSLContext:
        """A client's context that trusts it."""
        context = client_context()
        context.load_verify_locations(cadata=self.authority.cert_pem.bytes().decode())
        return context


@pytest.fixture
async def nginx(program: Callable[[str], str], tmp_path: Path) -> AsyncIterator[Nginx]:
    path = program("nginx")
    files = tmp_path / "files"
    (files / "put").mkdir(parents=True)
    (files / "text.txt").write_bytes(TEXT)
    with (files / "much.bin").open("wb") as much:
        for _ in range(MUCH):
            much.write(PIECE)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    leaf = authority.issue_cert("localhost", "other.example")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    async with running_nginx(path, tmp_path, HTTP, errors="stderr crit") as (process, ports):
        yield Nginx(ports[0], files, authority, process)


@pytest.fixture
async def client(nginx: Nginx) -> AsyncIterator[Client]:
    async with Client(ssl_context=nginx.context(), base_url=nginx.url) as client:
        with trio.fail_after(SECONDS):
            yield client


# ------------------------------------------------------------------------------------------------------ TLS


async def test_nginx_that_offers_http_2_as_well_is_spoken_to_in_1_1(client: Client) -> None:
    # C21, C24
    response = await client.get("/tls")
    assert response.text == "TLSv1.3|HTTP/1.1|localhost|"
    assert idle_and_leased(client) == (1, 0)


async def test_a_context_that_offers_http_2_is_refused_when_nginx_takes_it(nginx: Nginx) -> None:
    context = nginx.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with Client(ssl_context=context, base_url=nginx.url) as client:
        with trio.fail_after(SECONDS), pytest.raises(trio_http.ConnectFailed, match="has chosen HTTP/2"):
            await client.get("/tls")


async def test_another_name_is_asked_for_and_found(nginx: Nginx) -> None:
    # C24, C15
    async with Client(
        ssl_context=nginx.context(),
        tls_names={"aliased.example": "other.example"},
        pinned_addresses={"aliased.example": "127.0.0.1"},
    ) as client:
        with trio.fail_after(SECONDS):
            response = await client.get(f"https://aliased.example:{nginx.port}/tls")
    assert response.text.split("|")[2] == "other.example"


async def test_nginx_is_shown_our_certificate(nginx: Nginx, tmp_path: Path) -> None:
    # C22
    leaf = nginx.authority.issue_cert("alice@example.org", common_name="alice")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "alice.pem")
    context = client_context(tmp_path / "alice.pem", cafile=tmp_path / "authority.pem")
    async with Client(ssl_context=lambda _: context, base_url=nginx.url) as client:
        with trio.fail_after(SECONDS):
            assert "CN=alice" in (await client.get("/tls")).text.split("|")[3]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_nginx_resumes_sessions_when_we_do(version: ssl.TLSVersion, nginx: Nginx) -> None:
    # C25
    for resume, expected in ((True, [".", "r", "r"]), (False, [".", ".", "."])):
        context = nginx.context()
        context.maximum_version = version
        async with Client(ssl_context=context, base_url=nginx.url, resume_sessions=resume) as client:
            with trio.fail_after(SECONDS):
                assert [(await client.get("/last")).text for _ in range(3)] == expected


# -------------------------------------------------------------------------------------- ends of connections


async def test_requests_one_after_the_other_share_a_connection(client: Client) -> None:
    texts = [(await client.get("/count")).text.split() for _ in range(20)]
    assert [count for _, count in texts] == [str(n) for n in range(1, 21)]


async def test_the_client_goes_on_when_nginx_has_had_enough_of_a_connection(client: Client) -> None:
    texts = [(await client.get("/thrice")).text.split() for _ in range(9)]
    assert [count for _, count in texts] == ["1", "2", "3"] * 3
    assert len({number for number, _ in texts}) == 3
    assert idle_and_leased(client) == (0, 0)


async def test_a_connection_is_left_before_nginx_leaves_it_as_it_has_said(
    nginx: Nginx, mock_clock: MockClock
) -> None:
    # C4: it says "Keep-Alive: timeout=3", and keeps it for longer; so what ends it is our word alone.
    mock_clock.rate = 1.0
    async with Client(ssl_context=nginx.context(), base_url=nginx.url, idle_seconds=1000) as client:
        first = await client.get("/told")
        assert first.headers["keep-alive"] == "timeout=3"
        assert idle_and_leased(client) == (1, 0)
        mock_clock.jump(2.5)
        await trio.testing.wait_all_tasks_blocked()
        assert idle_and_leased(client) == (0, 0)
        assert (await client.get("/told")).text != first.text


async def test_a_connection_that_nginx_has_closed_is_not_used(nginx: Nginx) -> None:
    # C5: it has not said for how long it would be kept. Even a POST is safe: it never went out.
    sockets: list[trio.socket.SocketType] = []

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        sockets.append(stream.socket.dup())
        return stream

    async with Client(ssl_context=nginx.context(), base_url=nginx.url, dial=dial) as client:
        with trio.fail_after(SECONDS):
            first = await client.get("/untold")
            assert "keep-alive" not in first.headers
            assert idle_and_leased(client) == (1, 0)
            await _end_of(sockets[0])
            second = await client.post("/untold", content=b"once")
    assert second.text != first.text
    assert len(sockets) == 2
    sockets[1].close()


async def _end_of(sock: trio.socket.SocketType) -> None:
    """Wait until the peer has closed; what it has sent stays unread. Closes ``sock``."""
    with sock:
        # TCP_INFO begins with the state of the connection, and 8 is CLOSE-WAIT: the peer has sent FIN. There
        # is nothing to wait for: session tickets make the socket readable long before.
        while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 8:  # noqa: ASYNC110  # as said
            await trio.sleep(0.02)


async def test_a_download_that_nginx_cuts_is_incomplete(nginx: Nginx, client: Client) -> None:
    with pytest.raises(trio_http.ResponseIncomplete):
        async with client.stream("GET", "/slow/text.txt") as response:
            assert await response.body.receive_some()
            nginx.process.terminate()
            await response.read()
    assert idle_and_leased(client) == (0, 0)


# -------------------------------------------------------------------------------------------------- content


async def test_chunked_and_coded_content_is_fetched(client: Client) -> None:
    # C38
    chunked = await client.get("/chunked/text.txt")
    assert (chunked.headers["transfer-encoding"], chunked.content) == ("chunked", TEXT)
    coded = await client.get("/coded/text.txt")
    assert (coded.headers["content-encoding"], coded.content) == ("gzip", TEXT)
    raw = await client.get("/coded/text.txt", decode=False, headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(raw.content) == TEXT
    assert len(raw.content) < len(TEXT)
    plain = await client.get("/coded/text.txt", headers={"Accept-Encoding": "identity"})
    assert (plain.headers.get("content-encoding"), plain.content) == (None, TEXT)
    assert idle_and_leased(client) == (1, 0)


async def test_much_is_fetched_and_sent(nginx: Nginx, client: Client) -> None:
    expected = hashlib.sha256()
    for _ in range(MUCH):
        expected.update(PIECE)
    digest, length = hashlib.sha256(), 0
    async with client.stream("GET", "/much.bin") as response:
        async for piece in response.body:
            digest.update(piece)
            length += len(piece)
    assert (length, digest.hexdigest()) == (MUCH * MEBIBYTE, expected.hexdigest())
    assert (await client.put("/put/chunked", content=pieces(MUCH))).status == 201
    assert (await client.put("/put/counted", content=nginx.files / "much.bin")).status == 201
    for name in ("chunked", "counted"):
        with (nginx.files / "put" / name).open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == expected.hexdigest()
    assert idle_and_leased(client) == (1, 0)


async def test_content_goes_out_when_nginx_says_continue_and_not_when_it_refuses(
    nginx: Nginx, client: Client
) -> None:
    # C28, C29
    seen: list[int] = []
    expect = {"Expect": "100-continue"}
    response = await client.put(
        "/put/expected", content=PIECE, headers=expect, on_interim=lambda interim: seen.append(interim.status)
    )
    assert (response.status, seen) == (201, [100])
    assert (nginx.files / "put" / "expected").read_bytes() == PIECE
    for headers in ({}, expect):
        refused = await client.post("/limited", content=PIECE, headers=headers)
        assert refused.status == 413
    assert (await client.get("/count")).status == 200
