"""Microseconds a request of one client core: small GETs against one fast server, by 1, 16 and 256 tasks.

The server is nginx with `return 200` on a CPU of its own, or where nginx is not installed the raw trio server
of `server.py`, which sends fixed bytes; one server for all. Each sample is a new process of one client on the
other CPU: it opens its connections and warms up, then counts requests for the length of the round. Clients go
in turn, round by round. Every client may hold as many connections as there are tasks, so nobody waits for a
connection; everything else is as the library has it by default. Each request must come back as a 200 with 13
bytes of content.

*raw trio* is no client but the floor: it sends fixed bytes on a socket and counts the bytes that come back.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import _harness as harness
import _traffic as traffic
import server

HOST = "127.0.0.1"
WARM_UP = 0.3
"""Seconds before counting begins, at least. Arbitrary: some thousand requests of a fast client."""

WARM_UP_REQUESTS = 2
"""Requests that each task makes on average before counting begins: the first one opens its connection."""

RAW, OURS, AIOHTTP = "raw trio", "ours", "aiohttp on uvloop"
HTTPX_TRIO, HTTPX_UVLOOP = "httpx on trio", "httpx on uvloop"

HTTPX_OPTIONS: Any = {"trust_env": False, "timeout": 30}
"""No proxy that the environment may name; and its 5 s by default are short for 256 connections at once."""

NGINX = """
daemon off;
pid {folder}/pid;
error_log stderr crit;
worker_processes 1;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    default_type text/plain;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen {host}:{port} backlog=1024; location / {{ return 200 "{body}"; }} }}
}}
"""


class Meter:
    """Counts what all tasks of a client have done, from the end of the warm-up to the end of the time."""

    def __init__(self, tasks: int, seconds: float) -> None:
        self._seconds = seconds
        self._warm_until = time.perf_counter() + WARM_UP
        self._count = -WARM_UP_REQUESTS * tasks  # negative: warming up
        self._begin = self._end = 0.0

    def tick(self) -> bool:
        """Count one request that is done; return whether to make another."""
        now = time.perf_counter()
        if self._begin:
            self._count += 1
            self._end = now
            return now < self._begin + self._seconds
        self._count = min(0, self._count + 1)
        if self._count == 0 and now >= self._warm_until:
            self._begin = now
        return True

    @property
    def microseconds(self) -> float:
        """Microseconds a request. Raises ValueError if fewer than 10 requests were counted."""
        if self._count < 10:
            raise ValueError(f"only {self._count} requests in the time of a round")
        return (self._end - self._begin) * 1e6 / self._count


async def fetch_until_over(get: Callable[[], Awaitable[tuple[int, bytes]]], meter: Meter) -> None:
    """Be one task: make one request after another and hold each answer to what it must be."""
    while True:
        status, content = await get()
        if status != 200 or content != traffic.ANSWER_BODY:
            raise ValueError(f"got {status} {content!r}")
        if not meter.tick():
            return


# The clients. Each runs in a child process, which imports only its own library.


def measure_raw_trio(port: int, tasks: int, meter: Meter) -> None:
    """The floor: what one exchange costs in system calls and in trio's scheduler."""
    import trio

    request = b"GET / HTTP/1.1\r\nHost: %s:%d\r\n\r\n" % (HOST.encode(), port)

    async def task() -> None:
        with socket.create_connection((HOST, port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.send(request)
            answer = b""
            while not answer.endswith(b"\r\n\r\n" + traffic.ANSWER_BODY):
                answer += sock.recv(65536)
            length = len(answer)  # every answer has this length, since a Date always has the same
            sock.setblocking(False)
            while meter.tick():
                sock.send(request)
                await trio.lowlevel.wait_readable(sock)
                received = len(sock.recv(65536))
                while received < length:
                    await trio.lowlevel.wait_readable(sock)
                    received += len(sock.recv(65536))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(task)

    trio.run(main)


def measure_ours(port: int, tasks: int, meter: Meter) -> None:
    import trio

    from trio_http import Client

    async def main() -> None:
        async with Client(max_connections=tasks, max_connections_per_origin=tasks) as client:
            url = f"http://{HOST}:{port}/"

            async def get() -> tuple[int, bytes]:
                response = await client.get(url)
                return response.status, response.content

            async with trio.open_nursery() as nursery:
                for _ in range(tasks):
                    nursery.start_soon(fetch_until_over, get, meter)

    trio.run(main)


def measure_httpx_on_trio(port: int, tasks: int, meter: Meter) -> None:
    import httpx
    import trio

    async def main() -> None:
        limits = httpx.Limits(max_connections=tasks, max_keepalive_connections=tasks)
        async with httpx.AsyncClient(limits=limits, **HTTPX_OPTIONS) as client:
            url = f"http://{HOST}:{port}/"

            async def get() -> tuple[int, bytes]:
                response = await client.get(url)
                return response.status_code, response.content

            async with trio.open_nursery() as nursery:
                for _ in range(tasks):
                    nursery.start_soon(fetch_until_over, get, meter)

    trio.run(main)


def measure_httpx_on_uvloop(port: int, tasks: int, meter: Meter) -> None:
    import asyncio

    import httpx
    import uvloop

    async def main() -> None:
        limits = httpx.Limits(max_connections=tasks, max_keepalive_connections=tasks)
        async with httpx.AsyncClient(limits=limits, **HTTPX_OPTIONS) as client:
            url = f"http://{HOST}:{port}/"

            async def get() -> tuple[int, bytes]:
                response = await client.get(url)
                return response.status_code, response.content

            async with asyncio.TaskGroup() as group:
                for _ in range(tasks):
                    group.create_task(fetch_until_over(get, meter))

    uvloop.run(main())


def measure_aiohttp(port: int, tasks: int, meter: Meter) -> None:
    import asyncio

    import aiohttp
    import uvloop

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=tasks)) as session:
            url = f"http://{HOST}:{port}/"

            async def get() -> tuple[int, bytes]:
                async with session.get(url) as response:
                    return response.status, await response.read()

            async with asyncio.TaskGroup() as group:
                for _ in range(tasks):
                    group.create_task(fetch_until_over(get, meter))

    uvloop.run(main())


CLIENTS: dict[str, Callable[[int, int, Meter], None]] = {
    RAW: measure_raw_trio,
    OURS: measure_ours,
    AIOHTTP: measure_aiohttp,
    HTTPX_UVLOOP: measure_httpx_on_uvloop,
    HTTPX_TRIO: measure_httpx_on_trio,
}


def measure(name: str, port: int, tasks: int, seconds: float) -> int:
    """Be the client `name`: what the child runs. Prints microseconds a request."""
    meter = Meter(tasks, seconds)
    try:
        CLIENTS[name](port, tasks, meter)
    except ImportError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return harness.EXIT_ABSENT
    print(meter.microseconds)
    return 0


# The measuring.


def sample(
    name: str, port: int, tasks: int, seconds: float, cpu: int | None, _result: harness.Result
) -> float:
    """Run one client once, in a child process, and return microseconds a request."""
    words = {"--measure": name, "--port": port, "--tasks": tasks, "--seconds": seconds}
    command = [sys.executable, __file__, *(str(part) for pair in words.items() for part in pair)]
    return float(harness.run_pinned(command, cpu, timeout=seconds + 60).split()[-1])


def server_command(port: int, folder: str) -> tuple[str, list[str]]:
    """Return the name and the command line of the fastest server there is."""
    nginx = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    if nginx is None:
        return "the raw trio server of server.py (nginx is not installed)", server.command(server.RAW, port)
    config = Path(folder, "nginx.conf")
    body = traffic.ANSWER_BODY.decode()
    config.write_text(NGINX.format(folder=folder, host=HOST, port=port, body=body))
    return "nginx", [nginx, "-p", folder, "-c", str(config)]


def main() -> int:
    parser = harness.arguments(__doc__, rounds=5)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="length of one round of one client, over 0.1"
    )
    parser.add_argument("--tasks", default="1,16,256", help="numbers of tasks, comma-separated")
    parser.add_argument("--measure", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure, options.port, int(options.tasks), options.seconds)
    rounds, seconds = (min(options.rounds, 3), 0.3) if options.quick else (options.rounds, options.seconds)

    print(harness.versions("trio", "trio-http", "httpx", "httpcore", "h11", "aiohttp", "uvloop"))
    client_cpu, server_cpu = harness.cpus()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        port = harness.free_port()
        kind, command = server_command(port, folder)
        where = (
            "not pinned" if client_cpu is None else f"clients on CPU {client_cpu}, server on CPU {server_cpu}"
        )
        print(f"Server: {kind}. {rounds} rounds of {seconds:.1f} s, {where}; lower ratios are faster\n")
        with harness.serving(command, port, server_cpu):
            server.check(port)
            for tasks in map(int, options.tasks.split(",")):
                names = [name for name in CLIENTS if harness.chosen(options.only, name)]
                results = {name: harness.Result(name) for name in names}
                samplers = {
                    name: functools.partial(sample, name, port, tasks, seconds, client_cpu)
                    for name in results
                }
                label = "1 task" if tasks == 1 else f"{tasks} tasks"
                harness.interleave(samplers, rounds, results, label=label)
                failed |= any(result.failed for result in results.values())
                print(report(label, results), flush=True)
    return 1 if failed else 0


def report(label: str, results: dict[str, harness.Result]) -> str:
    """Return the table of one number of tasks. Ratios are of times: 2.00x took twice as long."""
    peers = {RAW: "raw trio", AIOHTTP: "aiohttp", HTTPX_TRIO: "httpx on trio"}

    def row(result: harness.Result) -> list[str]:
        ratios = [harness.times(result.ratio(results.get(peer))) for peer in peers]
        return [f"{result.median:.1f}", f"±{result.spread:.0f}%", f"{1e6 / result.median:,.0f}", *ratios]

    return harness.table(
        f"client, {label}", ["µs/request", "spread", "requests/s", *peers.values()], results, row
    )


if __name__ == "__main__":
    sys.exit(main())
