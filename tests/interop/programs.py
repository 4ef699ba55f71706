"""Runs other programs, bounded: each is ended by its own handle when its time is up or its user is done.

Two of them are proxies to a server of ours, `nginx_before` and `haproxy_before`. Both give each request an
id, tell it to our server in ``X-Request-Id`` and to the client in ``X-Front-Id``, and write it to their log;
so what passes can be told from what does not, request by request.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import trio

# Far above what any step takes on a busy machine, far below the patience of a test run.
SECONDS = 30.0


def environment() -> dict[str, str]:
    """This process's environment without proxies, which a test on the loopback interface must not take."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


async def run(
    argv: Sequence[str], *, stdin: bytes | int = b"", seconds: float = SECONDS
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end; its output is in ``stdout`` and ``stderr``, its exit code is not looked at.

    Args:
      argv: the program and its arguments.
      stdin: what it reads, or a descriptor to read from.
      seconds: how long it may take.

    Raises:
      trio.TooSlowError: it took longer, and was ended.
    """
    with trio.fail_after(seconds):
        return await trio.run_process(
            argv, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False, env=environment()
        )


@asynccontextmanager
async def running(argv: Sequence[str], **options: object) -> AsyncIterator[trio.Process]:
    """Run a program while the block runs, then end it.

    Args:
      argv: the program and its arguments.
      options: as for `subprocess.Popen`; ``stdout`` can be read from the process that the block gets.
    """
    options = {"stdout": subprocess.PIPE, "env": environment(), **options}
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            functools.partial(trio.run_process, argv, check=False, **options)
        )
        try:
            yield process
        finally:
            nursery.cancel_scope.cancel()


async def output_until(process: trio.Process, pattern: str) -> re.Match[str]:
    """Read what a process prints until it matches ``pattern``, and return the match.

    Raises:
      AssertionError: its output ended before.
      trio.TooSlowError: it took longer than `SECONDS`.
    """
    assert process.stdout is not None
    text = ""
    with trio.fail_after(SECONDS):
        while (match := re.search(pattern, text)) is None:
            piece = await process.stdout.receive_some()
            assert piece, f"the program ended after {text!r}, before it said {pattern!r}"
            text += piece.decode()
    return match


# ------------------------------------------------------------------------------------------------------ nginx

# What is in each configuration. One worker, so that all requests compete for the same upstream connections.
NGINX = """
    daemon off;
    error_log {errors};
    pid {folder}/nginx.pid;
    {user}
    worker_processes 1;
    {outermost}
    events {{ worker_connections 512; }}
    http {{
        client_body_temp_path {folder}/bodies;
        proxy_temp_path {folder}/proxy;
        fastcgi_temp_path {folder}/fastcgi;
        uwsgi_temp_path {folder}/uwsgi;
        scgi_temp_path {folder}/scgi;
        {http}
    }}
"""


@asynccontextmanager
async def running_nginx(
    path: str,
    folder: Path,
    http: str,
    *,
    outermost: str = "",
    listeners: int = 1,
    errors: str = "stderr warn",
    **facts: object,
) -> AsyncIterator[tuple[trio.Process, list[int]]]:
    """Run nginx while the block runs; it gets the process, and the ports.

    Args:
      path: where nginx is.
      folder: where its files go.
      http: its ``http`` block, with ``{folder}``, ``{ports[0]}`` and ``facts`` in it.
      outermost: the same for the outermost level.
      listeners: on how many ports it listens, each on 127.0.0.1. To the first it answers HTTP, be it that it
        wants TLS.
      errors: where its error log goes, and from which level on.
      facts: for the texts.
    """
    # nginx inherits the listening sockets, as it does when one nginx replaces another. So no other program
    # can get the ports in between.
    with ExitStack() as stack:
        ours = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(listeners)]
        ports = [listener.getsockname()[1] for listener in ours]
        facts |= {"folder": folder, "ports": ports}
        configuration = folder / "nginx.conf"
        configuration.write_text(
            NGINX.format(
                folder=folder,
                errors=errors,
                # Started by root, it would become a user who has no right to these files.
                user="user root;" if os.geteuid() == 0 else "",
                outermost=outermost.format(**facts),
                http=http.format(**facts),
            )
        )
        argv = [path, "-e", "stderr", "-p", str(folder), "-c", str(configuration)]
        descriptors = [listener.fileno() for listener in ours]
        inherited = environment() | {"NGINX": "".join(f"{number};" for number in descriptors)}
        async with running(argv, pass_fds=descriptors, env=inherited) as process:
            await _ready(ports[0])
            # They are one more each that could accept; nginx alone shall refuse when it has gone.
            stack.close()
            yield process, ports


async def _ready(port: int) -> None:
    """Wait until the program behind ``port`` answers; a proxy does so by itself, and does not log it."""
    with trio.fail_after(SECONDS):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET /ready HTTP/1.0\r\n\r\n")
            assert await stream.receive_some() != b""


# ---------------------------------------------------------------------------------------------------- proxies

# `$http_host` hands on the Host that the client wrote, which is harder on us than nginx's own.
NGINX_BEFORE = """
    log_format account '$request_id $upstream_addr $status "$request"';
    access_log {log} account;
    client_max_body_size 0;
    client_header_timeout 10s;
    client_body_timeout 10s;
    map $http_upgrade $connection_field {{ default upgrade; '' ''; }}
    upstream ours {{ server 127.0.0.1:{backend}; keepalive 16; keepalive_requests 100000; }}
    server {{
        listen 127.0.0.1:{ports[0]};
        {options}
        location = /ready {{ access_log off; return 204; }}
        location / {{
            proxy_pass http://ours;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection $connection_field;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            add_header X-Front-Id $request_id always;
        }}
    }}
"""

# `retry-on empty-response`: a reused connection that the server ended just then is no error of the server,
# and what HAProxy's manual advises beside `http-reuse always`.
HAPROXY = """
    global
        nbthread 1
        maxconn 512
        hard-stop-after 10s
        log stdout len 65535 format raw local0
        tune.http.logurilen 16384
    defaults
        mode http
        timeout connect 10s
        timeout client 30s
        timeout server 30s
        timeout http-request 10s
        timeout tunnel 30s
        http-reuse always
        retries 3
        retry-on conn-failure empty-response
        unique-id-format %[uuid()]
        unique-id-header X-Request-Id
    frontend front
        bind fd@{listener}
        log global
        log-format "%ID %s %ST %{{+Q}}r"
        http-request set-log-level silent if {{ path /ready }}
        http-request return status 204 if {{ path /ready }}
        http-after-response set-header X-Front-Id %[unique-id]
        {options}
        default_backend ours
    backend ours
        {backend_options}
        server ours 127.0.0.1:{backend} {server}
"""


@dataclasses.dataclass(frozen=True)
class Forwarding:
    """What a proxy says of a request that it had.

    Attributes:
      id: what it called the request, as in ``X-Request-Id``.
      forwarded: it went to our server.
      status: of the response that the client got; 0 when it got none.
      line: the request line as the client wrote it, each byte a character.
    """

    id: str
    forwarded: bool
    status: int
    line: str


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A proxy that runs before a server of ours.

    Attributes:
      port: where it listens, on 127.0.0.1.
      process: it.
      stream_port: where it listens for what it passes on without looking; 0 if it does not.
    """

    name: str
    port: int
    process: trio.Process
    log: Path
    stream_port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Let it finish what it has, and wait until it has ended; its log is complete then."""
        # Each names its own signal for that: nginx(8), and the Management Guide of HAProxy.
        self.process.send_signal(signal.SIGQUIT if self.name == "nginx" else signal.SIGUSR1)
        with trio.fail_after(SECONDS):
            await self.process.wait()

    def account(self) -> list[Forwarding]:
        """What its log says, in the order in which requests ended."""
        found = []
        for line in self.log.read_text("latin-1").split("\n")[:-1]:
            if line.startswith("Proxy "):  # HAProxy tells there too that it ends
                continue
            match = re.fullmatch(r'([\w-]+) (.+) (-?\d+) "(.*)"', line)
            assert match is not None, f"{self.name} wrote {line!r}"
            # nginx names the servers that it asked, HAProxy the one that it chose.
            forwarded = match[2] not in ("-", "<NOSRV>")
            text = re.sub(r"(?:\\x|#\{)([0-9A-F]{2})\}?", lambda code: chr(int(code[1], 16)), match[4])
            found.append(Forwarding(match[1], forwarded, max(0, int(match[3])), text))
        return found


@asynccontextmanager
async def nginx_before(
    backend: int, path: str, folder: Path, *, options: str = "", stream: str = ""
) -> AsyncIterator[Proxy]:
    """Run nginx as a proxy while the block runs.

    Args:
      backend: the port of our server, on 127.0.0.1.
      path: where nginx is.
      folder: where its files go; made if need be.
      options: directives for its ``server`` block.
      stream: text for the outermost level, with ``{backend}`` and ``{ports[1]}`` in it: a ``stream`` block
        that listens there.
    """
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - a folder below the test's own
    log = folder / "access.log"
    async with running_nginx(
        path,
        folder,
        NGINX_BEFORE,
        outermost=stream,
        listeners=2 if stream else 1,
        errors=f"{folder}/error.log warn",
        backend=backend,
        log=log,
        options=options,
    ) as (process, ports):
        yield Proxy("nginx", ports[0], process, log, ports[1] if stream else 0)


@asynccontextmanager
async def haproxy_before(
    backend: int, path: str, folder: Path, *, options: str = "", backend_options: str = "", server: str = ""
) -> AsyncIterator[Proxy]:
    """Run HAProxy as a proxy while the block runs.

    Args:
      backend: the port of our server, on 127.0.0.1.
      path: where HAProxy is.
      folder: where its files go; made if need be.
      options: lines for its ``frontend`` section.
      backend_options: lines for its ``backend`` section.
      server: words for its ``server`` line.
    """
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - a folder below the test's own
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        configuration, log = folder / "haproxy.cfg", folder / "haproxy.log"
        text = HAPROXY.format(
            listener=listener.fileno(),
            backend=backend,
            options=options,
            backend_options=backend_options,
            server=server,
        )
        configuration.write_text("\n".join(line.strip() for line in text.splitlines()) + "\n")
        with log.open("wb") as file:
            argv = [path, "-db", "-f", str(configuration)]
            async with running(argv, pass_fds=[listener.fileno()], stdout=file) as process:
                await _ready(port)
                listener.close()
                yield Proxy("haproxy", port, process, log)
