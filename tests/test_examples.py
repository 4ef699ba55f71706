"""Every file in ``examples/`` is short, and is run as its reader would run it: as a program, from outside.

The other end is the standard library or curl, so that what a reader sees is what is checked.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
# What a reader takes in at one look; a metrics page is a list, and lists are longer; a pool brings its test.
MAX_LINES = {"metrics.py": 80, "sweep_a_pool.py": 70}
MOST_LINES = 60
# Far above what any step takes on a busy machine, far below the patience of a test run.
SECONDS = 30


@contextmanager
def example(name: str, *args: str, stdin: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run an example while the block runs; its output can be read as text."""
    # A shell's background job ignores Ctrl-C and hands that down. A handler is not handed down: the example
    # gets the default.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    # A reader's Python buffers what it writes to a pipe; in containers it is often told not to.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    try:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / name), *args],
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    # Not even an example that prints nothing can hold up the tests.
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    with process:  # at its end, the pipes are closed and the process is waited for
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def first_lines(process: subprocess.Popen[str], until: str) -> list[str]:
    """Read what an example prints, up to the line with ``until``."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if until in line:
            return lines
    stderr = process.stderr.read() if process.stderr is not None else ""
    pytest.fail(f"it ended after {lines}, before it said {until!r}: {stderr}")


@pytest.fixture
def demo_server() -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The running demonstration, and what it has printed."""
    with example("demo_server.py", "0") as process:
        yield process, first_lines(process, "Ctrl-C")


@pytest.fixture
def demo_url(demo_server: tuple[subprocess.Popen[str], list[str]]) -> str:
    found = re.search(r"http://[\w.:]+", demo_server[1][0])
    assert found is not None
    return found[0]


@pytest.fixture
def connection(demo_url: str) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(demo_url.removeprefix("http://"), timeout=SECONDS)
    yield connection
    connection.close()


def test_the_examples_are_those_that_are_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "demo_server.py",
        "echo_upgrade.py",
        "fetch.py",
        "metrics.py",
        "reverse_proxy.py",
        "sse.py",
        "sweep_a_pool.py",
        "upload.py",
    }


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES.get(path.name, MOST_LINES)


def test_the_demo_server_shows_its_page_to_a_browser(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/", headers={"User-Agent": "a <browser>"})
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    page = response.read().decode()
    assert "<h1>It works</h1>" in page
    assert "a &lt;browser&gt;" in page


def test_the_demo_server_streams_a_response_while_it_comes_to_be(
    connection: http.client.HTTPConnection,
) -> None:
    connection.request("GET", "/clock")
    response = connection.getresponse()
    # The first second's piece is here nine seconds before the response is complete.
    assert response.readline() == b"0 seconds\n"
    assert response.readline() == b"1 seconds\n"
    assert not response.isclosed()


@pytest.mark.parametrize(
    "content", [b"word=hello", b"x" * 300_000, [b"in ", b"pieces"]], ids=["form", "large", "chunked"]
)
def test_the_demo_server_echoes_what_it_is_sent(
    content: bytes | list[bytes], connection: http.client.HTTPConnection
) -> None:
    connection.request("POST", "/echo", body=content, headers={"Content-Type": "text/plain"})
    response = connection.getresponse()
    assert response.headers["content-type"] == "text/plain"
    assert response.read() == (content if isinstance(content, bytes) else b"".join(content))


def test_the_demo_server_refuses_what_it_does_not_know(connection: http.client.HTTPConnection) -> None:
    for method, path in [("GET", "/nothing"), ("GET", "/echo"), ("DELETE", "/")]:
        connection.request(method, path)
        response = connection.getresponse()
        assert (response.status, response.read()) == (404, b"404 Not Found\n")


def test_the_demo_server_ends_in_peace_by_ctrl_c(
    demo_server: tuple[subprocess.Popen[str], list[str]], connection: http.client.HTTPConnection
) -> None:
    process, _ = demo_server
    connection.request("GET", "/clock")
    assert connection.getresponse().readline() == b"0 seconds\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=SECONDS)
    assert (process.returncode, stderr) == (0, "")


@pytest.mark.interop
def test_what_the_demo_server_says_to_try_can_be_tried(
    demo_server: tuple[subprocess.Popen[str], list[str]], program: Callable[[str], str]
) -> None:
    beginnings = {
        "/": b"HTTP/1.1 200 OK\r\n",
        "/clock": b"0 seconds\n",
        "/echo": (ROOT / "README.md").read_bytes()[:20],
    }
    for command in [line.split() for line in demo_server[1] if line.startswith("curl ")]:
        beginning = beginnings.pop(re.sub(r"http://[^/]+", "", command[-1]))
        argv = [program("curl"), "-q", "--silent", "--no-buffer", "--max-time", str(SECONDS), *command[1:]]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout is not None
            assert process.stdout.read(len(beginning)) == beginning
            process.kill()
    assert beginnings == {}


def run_fetch(url: str) -> tuple[int, str, str]:
    """Run the example on a URL, and return its exit code, what it printed, and what it said beside that."""
    with example("fetch.py", url) as process:
        stdout, stderr = process.communicate(timeout=SECONDS)
    return process.returncode, stdout, stderr


def test_fetch_prints_the_content_and_says_the_rest_beside_it(demo_url: str) -> None:
    status, stdout, stderr = run_fetch(f"{demo_url}/")
    assert status == 0, stderr
    assert stdout.startswith("<!doctype html>")
    assert "<h1>It works</h1>" in stdout
    assert stderr.startswith("200 OK\n")
    assert f"content-length: {len(stdout.encode())}\n" in stderr
    assert f"{len(stdout.encode()):,} bytes in " in stderr


def test_fetch_prints_the_content_as_it_comes(demo_url: str) -> None:
    with example("fetch.py", f"{demo_url}/clock") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0 seconds\n"
        process.kill()
        assert "9 seconds" not in process.stdout.read()  # the last piece is nine seconds away


def test_fetch_tells_an_error_of_the_server_by_its_exit_code(demo_url: str) -> None:
    status, stdout, stderr = run_fetch(f"{demo_url}/nothing")
    assert (status, stdout) == (1, "404 Not Found\n")
    assert stderr.startswith("404 Not Found\n")


def test_fetch_says_in_one_line_why_it_got_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = "http://{}:{}/".format(*listener.getsockname())
    status, stdout, stderr = run_fetch(url)  # where nobody listens any more
    assert (status, stdout) == (2, "")
    assert url in stderr
    assert stderr.count("\n") == 1


@pytest.fixture
def metrics() -> Iterator[tuple[subprocess.Popen[str], http.client.HTTPConnection]]:
    """The running server that counts, and a connection to it."""
    with example("metrics.py", "0") as process:
        found = re.search(r"http://([\w.:]+)/,", first_lines(process, "/metrics")[0])
        assert found is not None
        connection = http.client.HTTPConnection(found[1], timeout=SECONDS)
        yield process, connection
        connection.close()


def ask(connection: http.client.HTTPConnection, path: str, method: str = "GET") -> str:
    connection.request(method, path)
    response = connection.getresponse()
    assert response.status == 200
    return response.read().decode()


def scrape(connection: http.client.HTTPConnection) -> dict[str, float]:
    """Read the page as Prometheus does: a value for each name with its label."""
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = response.read().decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def test_metrics_counts_what_the_server_has_really_done(
    metrics: tuple[subprocess.Popen[str], http.client.HTTPConnection],
) -> None:
    _, connection = metrics
    before = scrape(connection)
    assert before["http_connections_open"] == 1
    assert before["http_exchanges_open"] == 1  # the one that asks
    page = ask(connection, "/")
    ask(connection, "/", "HEAD")
    connection.close()
    connection.request("GET", "/", headers={"Connection": "close"})
    assert connection.getresponse().read().decode() == page
    after = scrape(connection)
    # The scrape before, the page, the answer to HEAD, and the page again.
    assert after['http_responses_total{status="2xx"}'] == 4
    assert after["http_duration_seconds_count"] == 4
    assert after['http_duration_seconds_bucket{le="+Inf"}'] == 4
    assert after["http_connections_total"] == 3
    assert after['http_connections_closed_total{why="client closed"}'] == 1
    assert after['http_connections_closed_total{why="server closed"}'] == 1
    assert after["http_response_bytes_total"] > 2 * len(page)
    assert after["http_handler_errors_total"] == 0


def test_metrics_ends_in_peace_by_ctrl_c(
    metrics: tuple[subprocess.Popen[str], http.client.HTTPConnection],
) -> None:
    process, connection = metrics
    ask(connection, "/")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=SECONDS)
    assert (process.returncode, stderr) == (0, "")


def port_of(process: subprocess.Popen[str]) -> int:
    """The port that an example says it listens on, in the first line that it prints."""
    found = re.search(r"http://127\.0\.0\.1:(\d+)", first_lines(process, "http://")[0])
    assert found is not None
    return int(found[1])


def test_sse_ticks_and_says_goodbye_when_it_is_told_to_end() -> None:
    with example("sse.py", "0") as process:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(process), timeout=SECONDS)
        connection.request("GET", "/events")
        response = connection.getresponse()  # delimited by its chunks, so that a cut would raise
        assert response.headers["content-type"] == "text/event-stream"
        assert re.fullmatch(rb"data: \d\d:\d\d:\d\d\n", response.readline())
        process.send_signal(signal.SIGTERM)
        assert response.read().endswith(b"\nevent: bye\ndata:\n\n")
        connection.close()
        stdout, stderr = process.communicate(timeout=SECONDS)
    assert (process.returncode, stderr) == (0, "")
    assert stdout == "one more watches\none less watches: the clock has stopped\n"


def test_sse_notices_that_a_watcher_has_left() -> None:
    with example("sse.py", "0") as process:
        port = port_of(process)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        connection.request("GET", "/")
        assert b'EventSource("/events")' in connection.getresponse().read()
        connection.request("GET", "/events")
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        response.close()
        connection.close()
        assert first_lines(process, "one less")[-1] == "one less watches: client disconnected"


@pytest.fixture
def upload(tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    """A connection to the example that keeps files in ``tmp_path``."""
    with example("upload.py", str(tmp_path), "0") as process:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(process), timeout=SECONDS)
        yield connection
        connection.close()


def status_of(connection: http.client.HTTPConnection) -> int:
    """The status of the answer; the rest of it is read, for only then its socket is let go."""
    with connection.getresponse() as response:
        response.read()
        return response.status


@pytest.mark.parametrize("content", [b"x" * 300_000, [b"in ", b"pieces"]], ids=["sized", "chunked"])
def test_upload_keeps_the_file_that_it_is_sent(
    content: bytes | list[bytes], upload: http.client.HTTPConnection, tmp_path: Path
) -> None:
    upload.request("PUT", "/file.txt", body=content)
    response = upload.getresponse()
    assert (response.status, response.read()) == (201, b"file.txt is kept\n")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    assert (tmp_path / "file.txt").read_bytes() == (
        content if isinstance(content, bytes) else b"".join(content)
    )


def test_upload_refuses_a_file_that_is_too_large_before_it_is_sent(
    upload: http.client.HTTPConnection, tmp_path: Path
) -> None:
    upload.putrequest("PUT", "/file.txt")
    upload.putheader("Content-Length", "10000001")
    upload.putheader("Expect", "100-continue")
    upload.endheaders()
    assert status_of(upload) == 413
    assert list(tmp_path.iterdir()) == []


def test_upload_keeps_nothing_of_a_file_that_was_cut(
    upload: http.client.HTTPConnection, tmp_path: Path
) -> None:
    upload.putrequest("PUT", "/file.txt")
    upload.putheader("Content-Length", "10")
    upload.endheaders(b"half")
    assert upload.sock is not None
    upload.sock.shutdown(socket.SHUT_WR)
    assert status_of(upload) == 400
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("PUT", "/../up", 404), ("PUT", "/.hidden", 404), ("PUT", "/", 404), ("POST", "/a", 405)],
)
def test_upload_refuses_what_is_no_file_of_its_folder(
    method: str, path: str, status: int, upload: http.client.HTTPConnection, tmp_path: Path
) -> None:
    upload.request(method, path, body=b"hello")
    assert status_of(upload) == status
    assert list(tmp_path.iterdir()) == []


def test_the_echo_by_upgrade_says_everything_again() -> None:
    with example("echo_upgrade.py", "serve", "0") as server:
        port = str(port_of(server))
        with example("echo_upgrade.py", "say", port, stdin=subprocess.PIPE) as client:
            stdout, stderr = client.communicate("hello\nhow are you?\n", timeout=SECONDS)
        assert (client.returncode, stderr) == (0, "")
        assert stdout == "echo: hello\necho: how are you?\n"


def test_the_echo_by_upgrade_has_no_other_protocol() -> None:
    with example("echo_upgrade.py", "serve", "0") as server:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=SECONDS)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.status, response.headers["upgrade"]) == (426, "echo")
        connection.close()


def test_who_wants_an_echo_from_another_server_is_told_of_the_refusal(demo_url: str) -> None:
    with example("echo_upgrade.py", "say", demo_url.rpartition(":")[2]) as client:
        stdout, stderr = client.communicate(timeout=SECONDS)
    assert (client.returncode, stdout) == (1, "")
    assert re.fullmatch(r"refused: http://[\d.:]+/ did not switch protocols, and answered 200 OK\n", stderr)


def test_the_reverse_proxy_passes_both_directions_on(demo_url: str) -> None:
    with example("reverse_proxy.py", demo_url, "--port", "0") as proxy:
        line = first_lines(proxy, "leads to")[-1]
        found = re.search(r":(\d+) leads to", line)
        assert found is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(found.group(1)), timeout=SECONDS)
        connection.request("GET", "/", headers={"accept-encoding": "gzip"})
        response = connection.getresponse()
        assert (response.status, b"<form" in response.read()) == (200, True)
        connection.request("POST", "/echo", body=iter([b"one", b"two"]), encode_chunked=True)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"onetwo")
        connection.close()


def test_the_reverse_proxy_answers_for_a_server_that_is_not_there() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens
        upstream = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with example("reverse_proxy.py", upstream, "--port", "0") as proxy:
            found = re.search(r":(\d+) leads to", first_lines(proxy, "leads to")[-1])
            assert found is not None
            connection = http.client.HTTPConnection("127.0.0.1", int(found.group(1)), timeout=SECONDS)
            connection.request("GET", "/")
            assert connection.getresponse().status == 502
            connection.close()


def test_sweep_a_pool_finds_what_the_careless_pool_loses_and_nothing_in_the_other() -> None:
    with example("sweep_a_pool.py") as process:
        stdout, stderr = process.communicate(timeout=SECONDS)
    assert (process.returncode, stderr) == (0, "")
    careless, careful = re.split(r"(?=^9 cancel points)", stdout, flags=re.MULTILINE)
    assert careless.startswith("cancelled at step 1, woken at its beginning")
    assert "  afterwards:     taken, 1 waiting\n  to run it alone: only='1 woken'" in careless
    assert "failed" not in careful
    assert "  step 2, beside at " in careful
