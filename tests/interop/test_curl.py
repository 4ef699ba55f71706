"""curl against our server, over real sockets.

curl is the judge: it knows when an answer is complete and when it was cut, whether it could use a connection
again, and whether it had to wait for a ``100 Continue``. What it wrote is read from its files and its log;
what it sent is read from the requests that the handler saw.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

import trio_http
from tests.interop.programs import SECONDS, output_until, run, running

pytestmark = pytest.mark.interop

MEBIBYTE = 1 << 20
CONTENT = b"".join(b"%015d\n" % number for number in range(5 * MEBIBYTE // 16))  # no two lines are the same
# Longer than a test may take: a curl that was not told to continue would be found by the clock, and not be
# forgiven after its usual second.
PATIENT = ["--expect100-timeout", str(2 * SECONDS)]

# curl's exit codes: https://curl.se/libcurl/c/libcurl-errors.html
PARTIAL_FILE, RECEIVE_ERROR, FILE_TOO_LARGE = 18, 56, 63

Curl = Callable[..., Awaitable[subprocess.CompletedProcess[bytes]]]


class App:
    """Answers curl, and remembers what it asked.

    Attributes:
      requests: every request, in order.
      client_left: set when a handler was told that its client has gone.
    """

    def __init__(self) -> None:
        self.requests: list[trio_http.Request] = []
        self.client_left = trio.Event()

    async def __call__(self, request: trio_http.Request) -> trio_http.Response | None:
        self.requests.append(request)
        match request.path:
            case "/hello":
                return trio_http.Response(200, text="hello\n")
            case "/whole":
                return trio_http.Response(200, content=await request.read())
            case "/refuse":
                raise trio_http.HTTPException(403)
            case "/little":
                request.limit_body(1000)
                return trio_http.Response(200, content=await request.read())
            case "/pieces":
                async with request.stream_response(200) as body:
                    for number in range(100):
                        await body.send_all(b"%d " % number * 1000)
            case "/echo":
                async with request.stream_response(200) as body:
                    async for piece in request.body:
                        await body.send_all(piece)
            case "/counted-echo":
                first = await request.body.receive_some()
                headers = {"Content-Length": request.headers["content-length"]}
                async with request.stream_response(200, headers=headers) as body:
                    await body.send_all(first)
                    async for piece in request.body:
                        await body.send_all(piece)
            case "/broken" | "/broken-counted":
                headers = {"Content-Length": "1000000"} if request.path == "/broken-counted" else {}
                async with request.stream_response(200, headers=headers) as body:
                    await body.send_all(b"the beginning")
                    raise RuntimeError("in the middle")
            case "/endless":
                try:
                    async with request.stream_response(200, headers={"Content-Length": str(1 << 40)}) as body:
                        while True:
                            await body.send_all(bytes(65536))
                except (trio_http.ClientDisconnected, trio.Cancelled):
                    self.client_left.set()
                    raise
            case _:
                raise trio_http.HTTPException(404)
        return None


PIECES = b"".join(b"%d " % number * 1000 for number in range(100))


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def url(app: App, nursery: trio.Nursery) -> str:
    server: trio_http.Server = await nursery.start(trio_http.serve_tcp, app, 0)
    return server.url


@pytest.fixture
def curl(program: Callable[[str], str]) -> Curl:
    path = program("curl")

    async def run_curl(
        *args: str, stdin: bytes | int = b"", seconds: float = SECONDS
    ) -> subprocess.CompletedProcess[bytes]:
        # `-q`: without the user's own configuration.
        return await run([path, "-q", "--silent", "--show-error", *args], stdin=stdin, seconds=seconds)

    return run_curl


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    """A file with `CONTENT`."""
    return file_of(tmp_path / "upload", CONTENT)


def file_of(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def heads_in(log: bytes) -> list[str]:
    """The status lines that ``curl --verbose`` logged."""
    return re.findall(r"^< (HTTP/\S+ .*?) *\r?$", log.decode("latin-1"), re.MULTILINE)


def has_field(head: bytes, name: str) -> bool:
    return re.search(rb"^" + name.encode() + rb":", head, re.MULTILINE | re.IGNORECASE) is not None


# ------------------------------------------------------------------------------------------------ downloads


async def test_a_get_is_answered(curl: Curl, url: str, app: App) -> None:
    done = await curl("--include", f"{url}/hello?a=b")
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    assert (done.returncode, content) == (0, b"hello\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 6\r\n" in head + b"\r\n"
    assert has_field(head, "date")
    (request,) = app.requests
    assert (request.method, request.target, request.http_version) == ("GET", "/hello?a=b", "1.1")
    assert request.headers["host"] == url.removeprefix("http://")


async def test_a_head_has_the_fields_of_the_get_and_leaves_the_connection_in_order(
    curl: Curl, url: str, app: App
) -> None:
    connects = ["--write-out", "connects: %{num_connects}\n"]
    done = await curl("--head", *connects, f"{url}/hello", "--next", "-sS", *connects, f"{url}/hello")
    assert done.returncode == 0, done.stderr
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: 6\r\n" in head + b"\r\n"
    assert rest == b"connects: 1\nhello\nconnects: 0\n"
    assert [request.method for request in app.requests] == ["HEAD", "GET"]


async def test_a_head_of_a_streamed_response_has_no_body(curl: Curl, url: str) -> None:
    connects = ["--write-out", "connects: %{num_connects}\n"]
    done = await curl("--head", *connects, f"{url}/pieces", "--next", "-sS", *connects, f"{url}/hello")
    assert done.returncode == 0, done.stderr
    assert done.stdout.partition(b"\r\n\r\n")[2] == b"connects: 1\nhello\nconnects: 0\n"


async def test_a_streamed_response_comes_whole_and_in_chunks(curl: Curl, url: str) -> None:
    done = await curl("--include", f"{url}/pieces")
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    assert (done.returncode, content) == (0, PIECES)
    assert b"\r\nTransfer-Encoding: chunked\r\n" in head + b"\r\n"


async def test_http_1_0_gets_a_whole_response(curl: Curl, url: str, app: App) -> None:
    done = await curl("--http1.0", "--include", f"{url}/hello")
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    assert (done.returncode, content) == (0, b"hello\n")
    assert b"\r\nConnection: close\r\n" in head + b"\r\n"
    assert [request.http_version for request in app.requests] == ["1.0"]


async def test_http_1_0_gets_a_streamed_response_that_the_close_delimits(curl: Curl, url: str) -> None:
    done = await curl("--http1.0", "--include", f"{url}/pieces")
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    assert (done.returncode, content) == (0, PIECES)
    assert not has_field(head, "transfer-encoding")
    assert not has_field(head, "content-length")


@pytest.mark.parametrize(
    ("path", "args"),
    [("/broken", []), ("/broken-counted", []), ("/broken", ["--http1.0"])],
    ids=["chunked", "counted", "close-delimited"],
)
async def test_curl_knows_that_a_response_whose_handler_failed_is_not_complete(
    path: str, args: list[str], curl: Curl, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    done = await curl(*args, url + path)
    assert done.returncode in (PARTIAL_FILE, RECEIVE_ERROR), done
    assert "in the middle" in caplog.text
    assert (await curl(f"{url}/hello")).stdout == b"hello\n"


async def test_the_handler_learns_that_curl_has_left(curl: Curl, url: str, app: App) -> None:
    done = await curl("--max-filesize", "1000", "--output", os.devnull, f"{url}/endless")
    assert done.returncode == FILE_TOO_LARGE
    with trio.fail_after(SECONDS):
        await app.client_left.wait()
    assert (await curl(f"{url}/hello")).stdout == b"hello\n"


# ----------------------------------------------------------------------------------- one connection for all


async def test_several_urls_share_one_connection(curl: Curl, url: str, tmp_path: Path, app: App) -> None:
    paths = ["/hello", "/pieces", "/no-such-thing", "/hello"]
    args = [arg for n, path in enumerate(paths) for arg in ("--output", str(tmp_path / f"{n}"), url + path)]
    done = await curl("--write-out", "%{http_code} %{num_connects}\n", *args)
    assert (done.returncode, done.stdout) == (0, b"200 1\n200 0\n404 0\n200 0\n")
    assert content_of(tmp_path / "1") == PIECES
    assert content_of(tmp_path / "3") == b"hello\n"
    assert len({request.connection.peername for request in app.requests}) == 1


async def test_each_upload_on_a_connection_has_its_own_limit(
    curl: Curl, url: str, tmp_path: Path, upload: Path
) -> None:
    """The sizes used to be added up over the connection, and a handler's limit stayed for those after it."""
    part = file_of(tmp_path / "part", CONTENT[: 700 * 1024])
    out = ["--write-out", "%{http_code} %{num_connects}\n", "--output", str(tmp_path / "out")]
    reads = [
        arg for _ in range(3) for arg in (*out, "--data-binary", f"@{part}", f"{url}/whole", "--next", "-sS")
    ]
    done = await curl(*reads, *out, "--data-binary", f"@{upload}", f"{url}/counted-echo")
    assert done.stdout == b"200 1\n200 0\n200 0\n200 0\n", done.stderr
    assert content_of(tmp_path / "out") == CONTENT


async def test_a_client_that_asks_for_the_close_gets_it(curl: Curl, url: str, tmp_path: Path) -> None:
    args = [arg for n in range(2) for arg in ("--output", str(tmp_path / f"{n}"), f"{url}/hello")]
    done = await curl("--header", "Connection: close", "--write-out", "%{http_code} %{num_connects}\n", *args)
    assert (done.returncode, done.stdout) == (0, b"200 1\n200 1\n")


# -------------------------------------------------------------------------------------------------- uploads


@pytest.mark.parametrize("path", ["/echo", "/counted-echo"])
async def test_a_file_that_is_posted_comes_back_equal(
    path: str, curl: Curl, url: str, app: App, upload: Path, tmp_path: Path
) -> None:
    # Without Expect, for `/echo` answers before it has read, and curl would then wait in vain for a 100.
    args = ["--header", "Expect:", "--output", str(tmp_path / "out")]
    done = await curl(*args, "--data-binary", f"@{upload}", url + path)
    assert done.returncode == 0, done.stderr
    assert content_of(tmp_path / "out") == CONTENT
    assert app.requests[0].headers["content-length"] == str(5 * MEBIBYTE)


async def test_an_upload_of_unknown_length_comes_in_chunks_and_back_equal(
    curl: Curl, url: str, app: App, upload: Path, tmp_path: Path
) -> None:
    """What was here with the head used to be lost when the answer began before the first read."""
    args = ["--header", "Expect:", "--output", str(tmp_path / "out")]
    done = await curl(*args, "--upload-file", "-", f"{url}/echo", stdin=CONTENT)
    assert done.returncode == 0, done.stderr
    assert content_of(tmp_path / "out") == CONTENT
    (request,) = app.requests
    assert (request.method, request.headers["transfer-encoding"]) == ("PUT", "chunked")
    assert "content-length" not in request.headers


async def test_a_post_of_a_file_in_chunks_comes_back_equal(
    curl: Curl, url: str, app: App, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 2000
    part = file_of(tmp_path / "part", content)
    args = ["--header", "Transfer-Encoding: chunked", "--data-binary", f"@{part}", *PATIENT]
    done = await curl(*args, f"{url}/whole")
    assert (done.returncode, done.stdout) == (0, content)
    assert app.requests[0].headers["transfer-encoding"] == "chunked"


async def test_a_little_content_is_echoed_by_an_answer_that_began_before_it_was_read(
    curl: Curl, url: str
) -> None:
    """Content that came with the head used to be thrown away when the answer's head was sent."""
    connects = ["--write-out", " connects: %{num_connects}\n"]
    done = await curl(
        "--data", "content", *connects, f"{url}/echo", "--next", "-sS", *connects, f"{url}/hello"
    )
    assert done.stdout == b"content connects: 1\nhello\n connects: 0\n", done.stderr


# ------------------------------------------------------------------------------------- Expect: 100-continue


@pytest.mark.parametrize(
    "framing", [[], ["--header", "Transfer-Encoding: chunked"]], ids=["counted", "chunked"]
)
async def test_curl_is_told_to_continue_when_the_handler_reads(
    framing: list[str], curl: Curl, url: str, app: App
) -> None:
    expect = ["--header", "Expect: 100-continue", *PATIENT]
    done = await curl("--verbose", *expect, *framing, "--data", "content", f"{url}/whole")
    assert (done.returncode, done.stdout) == (0, b"content"), done.stderr
    assert heads_in(done.stderr) == ["HTTP/1.1 100 Continue", "HTTP/1.1 200 OK"]
    assert app.requests[0].headers["expect"] == "100-continue"


async def test_curl_itself_expects_a_100_for_a_large_file_and_gets_it(
    curl: Curl, url: str, app: App, upload: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    args = ["--verbose", *PATIENT, "--output", out, "--data-binary", f"@{upload}"]
    done = await curl(*args, f"{url}/counted-echo")
    assert done.returncode == 0, done.stderr
    assert heads_in(done.stderr) == ["HTTP/1.1 100 Continue", "HTTP/1.1 200 OK"]
    assert app.requests[0].headers["expect"] == "100-continue"
    assert content_of(tmp_path / "out") == CONTENT


@pytest.mark.parametrize(("path", "status"), [("/little", 413), ("/refuse", 403)])
async def test_curl_sends_no_content_that_is_refused_before(
    path: str, status: int, curl: Curl, url: str, upload: Path, tmp_path: Path
) -> None:
    args = [
        "--verbose",
        *PATIENT,
        "--output",
        str(tmp_path / "out"),
        "--write-out",
        "%{http_code} %{size_upload}",
    ]
    done = await curl(*args, "--data-binary", f"@{upload}", url + path)
    assert (done.returncode, done.stdout) == (0, b"%d 0" % status), done.stderr
    assert len(heads_in(done.stderr)) == 1
    assert re.search(rb"^< Connection: close\r?$", done.stderr, re.MULTILINE)


async def test_curl_gets_the_refusal_of_an_upload_that_it_has_begun(
    curl: Curl, url: str, upload: Path
) -> None:
    done = await curl("--header", "Expect:", "--data-binary", f"@{upload}", f"{url}/refuse")
    assert (done.returncode, done.stdout) == (0, b"403 Forbidden\n"), done.stderr


# -------------------------------------------------------------------------------------- a gibibyte each way

GIBIBYTE = 1 << 30
# For the busiest machine; a quiet one takes a few seconds each.
GIBIBYTE_SECONDS = 100.0
# The kernel's buffers are not ours; what is, are a few pieces of 64 KiB and what the allocator keeps of them.
MAX_GROWTH = 32 * MEBIBYTE
GIBIBYTE_SERVER = Path(__file__).with_name("gigabyte_server.py")

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of a process's memory is read from Linux's /proc"
)


@needs_proc
@pytest.mark.parametrize("path", ["/body", "/chunked"])
async def test_a_download_of_a_gibibyte_takes_no_memory(path: str, curl: Curl) -> None:
    async with running([sys.executable, str(GIBIBYTE_SERVER)]) as process:
        url = (await output_until(process, r"http://\S+"))[0]

        async def download(size: int) -> bytes:
            args = ["--output", os.devnull, "--write-out", "%{size_download}"]
            return (await curl(*args, f"{url}{path}?{size}", seconds=GIBIBYTE_SECONDS)).stdout

        assert await download(MEBIBYTE) == b"%d" % MEBIBYTE  # so that all that is loaded once is loaded
        before = int((await curl(f"{url}/peak")).stdout)
        assert await download(GIBIBYTE) == b"%d" % GIBIBYTE
        after = int((await curl(f"{url}/peak")).stdout)
    assert after - before < MAX_GROWTH


@needs_proc
@pytest.mark.parametrize("name", ["file", "-"], ids=["counted", "chunked"])
async def test_an_upload_of_a_gibibyte_takes_no_memory(name: str, curl: Curl, tmp_path: Path) -> None:
    sizes = {MEBIBYTE: tmp_path / "mebibyte", GIBIBYTE: tmp_path / "gibibyte"}
    for size, file in sizes.items():
        file.touch()
        os.truncate(file, size)  # all hole: it takes no room on the disk
    async with running([sys.executable, str(GIBIBYTE_SERVER)]) as process:
        url = (await output_until(process, r"http://\S+"))[0]

        async def upload(size: int) -> bytes:
            with sizes[size].open("rb") as file:
                source = name if name == "-" else str(sizes[size])
                args = ["--upload-file", source, f"{url}/sink"]
                return (await curl(*args, stdin=file.fileno(), seconds=GIBIBYTE_SECONDS)).stdout

        assert await upload(MEBIBYTE) == b"%d" % MEBIBYTE
        before = int((await curl(f"{url}/peak")).stdout)
        assert await upload(GIBIBYTE) == b"%d" % GIBIBYTE
        after = int((await curl(f"{url}/peak")).stdout)
    assert after - before < MAX_GROWTH
