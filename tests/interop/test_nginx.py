"""Our client fetching from nginx: files, fixed answers, chunks, uploads, and nginx ending connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

import trio_http
from tests.interop.conftest import idle_and_leased
from tests.interop.programs import running_nginx
from trio_http.client import Client

pytestmark = pytest.mark.interop

MEBIBYTE = 1 << 20
CONTENT = b"".join(b"%09d\n" % number for number in range(800_000))  # 8 MB in which no two lines are the same

# `$connection $connection_requests`: the number of the connection, and which request on it this is.
HTTP = """
    access_log off;
    types {{ text/plain txt; }}
    server {{
        listen 127.0.0.1:{ports[0]};
        root {folder}/files;
        location = /fixed {{ return 200 "fixed"; }}
        location = /empty {{ return 204; }}
        location = /moved {{ return 302 /fixed; }}
        location = /count {{ return 200 "$connection $connection_requests"; }}
        location = /twice {{ keepalive_requests 2; return 200 "$connection $connection_requests"; }}
        location = /never {{ keepalive_timeout 0; return 200 "$connection $connection_requests"; }}
        location = /limited {{ client_max_body_size 1k; try_files /none /content.txt; }}
        location /chunked/ {{ ssi on; ssi_types *; alias {folder}/files/; }}
        location /slow/ {{ limit_rate 20k; alias {folder}/files/; }}
        location /put/ {{ dav_methods PUT; client_max_body_size 20m; }}
    }}
"""


class Nginx:
    """A running nginx.

    Attributes:
      url: where it listens.
      files: the folder that it serves.
      process: it.
    """

    def __init__(self, url: str, files: Path, process: trio.Process) -> None:
        self.url = url
        self.files = files
        self.process = process


@pytest.fixture
async def nginx(program: Callable[[str], str], tmp_path: Path) -> AsyncIterator[Nginx]:
    path = program("nginx")
    files = tmp_path / "files"
    (files / "put").mkdir(parents=True)
    (files / "content.txt").write_bytes(CONTENT)
    async with running_nginx(path, tmp_path, HTTP) as (process, ports):
        yield Nginx(f"http://127.0.0.1:{ports[0]}", files, process)


async def test_a_static_file_is_fetched_whole(nginx: Nginx, client: Client) -> None:
    response = await client.get(nginx.url + "/content.txt")
    assert response.status == 200
    assert response.content == CONTENT
    assert response.headers["content-length"] == str(len(CONTENT))
    assert response.headers["content-type"] == "text/plain"
    assert response.headers["server"].startswith("nginx/")


async def test_a_static_file_is_fetched_in_pieces(nginx: Nginx, client: Client) -> None:
    async with client.stream("GET", nginx.url + "/content.txt") as response:
        pieces = [piece async for piece in response.body]
    assert len(pieces) > 1
    assert b"".join(pieces) == CONTENT
    assert idle_and_leased(client) == (1, 0)


async def test_a_fixed_answer_a_redirect_and_an_error_are_fetched(nginx: Nginx, client: Client) -> None:
    fixed = await client.get(nginx.url + "/fixed")
    assert (fixed.status, fixed.reason, fixed.text) == (200, "OK", "fixed")
    moved = await client.get(nginx.url + "/moved")
    assert (moved.status, moved.headers["location"]) == (302, nginx.url + "/fixed")
    missing = await client.get(nginx.url + "/no-such-file")
    assert missing.status == 404
    with pytest.raises(trio_http.StatusError):
        missing.raise_for_status()
    assert idle_and_leased(client) == (1, 0)


async def test_responses_without_content_leave_the_connection_in_order(nginx: Nginx, client: Client) -> None:
    head = await client.head(nginx.url + "/content.txt")
    assert (head.status, head.headers["content-length"], head.content) == (200, str(len(CONTENT)), b"")
    empty = await client.get(nginx.url + "/empty")
    assert (empty.status, empty.content) == (204, b"")
    unchanged = await client.get(nginx.url + "/content.txt", headers={"If-None-Match": head.headers["etag"]})
    assert (unchanged.status, unchanged.content) == (304, b"")
    chunked = await client.head(nginx.url + "/chunked/content.txt")
    assert (chunked.status, chunked.content) == (200, b"")
    number, count = (await client.get(nginx.url + "/count")).text.split()
    assert count == "5", f"connection {number}"


async def test_a_part_of_a_file_is_fetched(nginx: Nginx, client: Client) -> None:
    response = await client.get(nginx.url + "/content.txt", headers={"Range": "bytes=10-19"})
    assert (response.status, response.content) == (206, CONTENT[10:20])
    assert response.headers["content-range"] == f"bytes 10-19/{len(CONTENT)}"


async def test_chunked_content_is_fetched(nginx: Nginx, client: Client) -> None:
    response = await client.get(nginx.url + "/chunked/content.txt")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.content == CONTENT
    assert idle_and_leased(client) == (1, 0)


async def test_requests_one_after_the_other_share_a_connection(nginx: Nginx, client: Client) -> None:
    texts = [(await client.get(nginx.url + "/count")).text.split() for _ in range(10)]
    assert [count for _, count in texts] == [str(n) for n in range(1, 11)]
    assert len({number for number, _ in texts}) == 1


async def test_the_client_goes_on_when_nginx_has_had_enough_of_a_connection(
    nginx: Nginx, client: Client
) -> None:
    texts = [(await client.get(nginx.url + "/twice")).text.split() for _ in range(6)]
    assert [count for _, count in texts] == ["1", "2"] * 3
    assert len({number for number, _ in texts}) == 3
    texts = [(await client.get(nginx.url + "/never")).text.split() for _ in range(3)]
    assert [count for _, count in texts] == ["1"] * 3
    assert idle_and_leased(client) == (0, 0)


async def test_many_tasks_get_each_their_own_answer(nginx: Nginx, client: Client) -> None:
    contents: dict[int, bytes] = {}

    async def fetch(number: int) -> None:
        part = {"Range": f"bytes={number * 10}-{number * 10 + 9}"}
        contents[number] = (await client.get(nginx.url + "/content.txt", headers=part)).content

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(fetch, number)
    assert contents == {number: b"%09d\n" % number for number in range(100)}
    idle, leased = idle_and_leased(client)
    assert 1 <= idle <= 10  # `ClientConfig.max_connections_per_origin`
    assert leased == 0


async def test_a_file_is_put_with_its_length_and_in_chunks(nginx: Nginx, client: Client) -> None:
    response = await client.put(nginx.url + "/put/counted", content=CONTENT)
    assert response.status == 201
    assert (nginx.files / "put" / "counted").read_bytes() == CONTENT

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(CONTENT), 12_345):
            yield CONTENT[start : start + 12_345]

    response = await client.put(nginx.url + "/put/chunked", content=pieces())
    assert response.status == 201
    assert (nginx.files / "put" / "chunked").read_bytes() == CONTENT
    assert idle_and_leased(client) == (1, 0)


async def test_content_is_sent_when_nginx_says_continue(nginx: Nginx, client: Client) -> None:
    expect = {"Expect": "100-continue"}
    response = await client.put(nginx.url + "/put/expected", content=CONTENT, headers=expect)
    assert response.status == 201
    assert (nginx.files / "put" / "expected").read_bytes() == CONTENT


@pytest.mark.parametrize("headers", [{}, {"Expect": "100-continue"}], ids=["at once", "when told"])
async def test_the_answer_to_content_that_nginx_refuses_is_received(
    headers: dict[str, str], nginx: Nginx, client: Client
) -> None:
    response = await client.post(nginx.url + "/limited", content=bytes(MEBIBYTE), headers=headers)
    assert response.status == 413
    assert (await client.get(nginx.url + "/fixed")).text == "fixed"


async def test_a_cancelled_download_takes_its_connection_with_it_and_no_other(
    nginx: Nginx, client: Client
) -> None:
    with trio.CancelScope() as scope:
        async with client.stream("GET", nginx.url + "/slow/content.txt") as response:
            number = (await client.get(nginx.url + "/count")).text.split()[0]
            assert CONTENT.startswith(await response.body.receive_some())
            scope.cancel()
            await response.read()
    assert scope.cancelled_caught
    assert idle_and_leased(client) == (1, 0)
    assert (await client.get(nginx.url + "/count")).text.split() == [number, "2"]


async def test_a_download_that_nginx_cuts_is_incomplete(nginx: Nginx, client: Client) -> None:
    with pytest.raises(trio_http.ResponseIncomplete) as caught:
        async with client.stream("GET", nginx.url + "/slow/content.txt") as response:
            assert await response.body.receive_some()
            nginx.process.terminate()
            await response.read()
    assert caught.value.facts.response_started
    assert idle_and_leased(client) == (0, 0)
    await nginx.process.wait()
    with pytest.raises(trio_http.ConnectFailed):
        await client.get(nginx.url + "/fixed")
