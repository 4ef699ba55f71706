"""Requests a second of one server core, beside raw trio, hypercorn, uvicorn, granian and aiohttp.

Each server runs in a process of its own on one CPU and answers "Hello, world!" as text/plain; wrk runs on
another CPU (one thread, 64 keep-alive connections). All servers are up during the whole run, and wrk goes to
them in turn, round by round. Before the first round each must give the right answer to a request of Python's
own `http.client`.

Two of the contenders are no HTTP servers but floors: they send fixed bytes for whatever they receive. *raw
trio* is a non-blocking `recv` and `send` around `trio.lowlevel.wait_readable`, which nobody on trio can be
faster than; *trio streams* is `trio.serve_tcp` with `receive_some` and `send_all`.

*Ours* has what it has by default: all limits on time and rates, the watch over disconnects. *Everything on*
adds a deadline for each request, limits on connections and requests, trusted networks and counting
instruments. Two more write an access log, each in its own way, to nowhere.

Scenarios: *small* is wrk's own head of one field; *browser* adds fields to make up the 12 of desktop Chrome,
the same in each request; *varied* sends 64 such heads in turn, which differ in target and in three fields
(made by a script inside wrk; it costs wrk a little).
"""

from __future__ import annotations

import argparse
import errno
import functools
import http.client
import re
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import _harness as harness
import _traffic as traffic

HOST = "127.0.0.1"
CONNECTIONS = 64
VARIED_HEADS = 64

RAW, STREAMS, OURS, OURS_ALL, OURS_LOG = (
    "raw trio",
    "trio streams",
    "ours",
    "ours, everything on",
    "ours, access log",
)
HYPERCORN, UVICORN, UVICORN_LOG, GRANIAN, AIOHTTP = (
    "hypercorn on trio",
    "uvicorn (httptools, uvloop)",
    "uvicorn, access log",
    "granian (ASGI)",
    "aiohttp",
)

FIXED_ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Tue, 04 Nov 2025 10:12:55 GMT\r\ncontent-type: %s\r\n"
    b"content-length: %d\r\n\r\n%s" % (traffic.ANSWER_TYPE, len(traffic.ANSWER_BODY), traffic.ANSWER_BODY)
)


# The servers. Each runs in a child process until it is ended; what they import is imported there only.


def serve_raw_trio(port: int) -> None:
    """The floor: what one exchange costs in system calls and in trio's scheduler."""
    import trio

    async def exchange_forever(sock: socket.socket) -> None:
        with sock:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                await trio.lowlevel.wait_readable(sock)
                try:
                    if not sock.recv(65536):
                        return
                    sock.send(FIXED_ANSWER)
                except OSError as exc:
                    if exc.errno not in (errno.ECONNRESET, errno.EPIPE):
                        raise
                    return

    async def main() -> None:
        with socket.create_server((HOST, port), backlog=1024) as listener:
            listener.setblocking(False)
            async with trio.open_nursery() as nursery:
                while True:
                    await trio.lowlevel.wait_readable(listener)
                    try:
                        while True:
                            nursery.start_soon(exchange_forever, listener.accept()[0])
                    except BlockingIOError:
                        continue

    trio.run(main)


def serve_trio_streams(port: int) -> None:
    """The floor of a server that uses trio's own streams."""
    import trio

    async def exchange_forever(stream: trio.SocketStream) -> None:
        try:
            while await stream.receive_some():
                await stream.send_all(FIXED_ANSWER)
        except trio.BrokenResourceError:
            pass

    trio.run(functools.partial(trio.serve_tcp, exchange_forever, port, host=HOST))


def serve_ours(port: int) -> None:
    """The server of this project, with no option set and the handler that a beginner would write."""
    import trio

    from trio_http import Request, Response, serve_tcp

    async def app(request: Request) -> Response:
        return Response(200, text="Hello, world!")

    trio.run(functools.partial(serve_tcp, app, port, host=HOST))


def serve_ours_with_everything(port: int) -> None:
    """The same with all that is off by default switched on, but for what is written somewhere."""
    import trio

    from trio_http import Counters, Request, Response, ServerConfig, ServerTimes, serve_tcp

    async def app(request: Request) -> Response:
        return Response(200, text="Hello, world!")

    config = ServerConfig(
        times=ServerTimes(request=30),
        max_connections=10_000,
        max_requests=10_000_000,
        max_requests_jitter=1000,
        trusted_proxies=["10.0.0.0/8"],
        deadlines_from=["10.0.0.0/8"],
        instruments=[Counters()],
        connect=True,
    )
    trio.run(functools.partial(serve_tcp, app, port, host=HOST, config=config))


def serve_ours_with_a_log(port: int) -> None:
    """The same with a line in a log for each exchange, which goes nowhere."""
    import logging
    import os

    import trio

    from trio_http import AccessLog, Request, Response, ServerConfig, serve_tcp

    async def app(request: Request) -> Response:
        return Response(200, text="Hello, world!")

    logger = logging.getLogger("trio_http.access")
    logger.addHandler(logging.FileHandler(os.devnull))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    config = ServerConfig(instruments=[AccessLog("common")])
    trio.run(functools.partial(serve_tcp, app, port, host=HOST, config=config))


async def asgi_app(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """The least ASGI application: it says the same as the others, without reading the request's body."""
    assert scope["type"] == "http"
    fields = [(b"content-type", traffic.ANSWER_TYPE), (b"content-length", b"%d" % len(traffic.ANSWER_BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": traffic.ANSWER_BODY})


def serve_hypercorn(port: int) -> None:
    import hypercorn.config
    import hypercorn.trio
    import trio

    config = hypercorn.config.Config()
    config.bind = [f"{HOST}:{port}"]
    config.loglevel = "WARNING"
    app: Any = asgi_app
    trio.run(hypercorn.trio.serve, app, config)


def serve_uvicorn(port: int, *, access_log: bool = False) -> None:
    import copy
    import os

    import httptools  # noqa: F401 - or uvicorn says in its own words that it is missing
    import uvicorn
    import uvloop  # noqa: F401 - likewise

    log_config = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    log_config["handlers"]["access"] = {
        "class": "logging.FileHandler",
        "formatter": "access",
        "filename": os.devnull,
    }
    uvicorn.run(
        asgi_app,
        host=HOST,
        port=port,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        access_log=access_log,
        log_config=log_config,
        log_level="info" if access_log else "warning",
    )


def serve_granian(port: int) -> None:
    import granian
    import granian.constants

    # Its workers import the application by name, from the folder of this file.
    granian.Granian(
        f"{Path(__file__).stem}:asgi_app",
        address=HOST,
        port=port,
        interface=granian.constants.Interfaces.ASGINL,
        workers=1,
        websockets=False,
        log_access=False,
        log_enabled=False,
        working_dir=Path(__file__).parent,
    ).serve()


def serve_aiohttp(port: int) -> None:
    import aiohttp.web
    import uvloop

    async def handler(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(text="Hello, world!")

    app = aiohttp.web.Application()
    app.router.add_get("/{path:.*}", handler)
    aiohttp.web.run_app(app, host=HOST, port=port, loop=uvloop.new_event_loop(), access_log=None, print=None)


SERVERS: dict[str, Callable[[int], None]] = {
    RAW: serve_raw_trio,
    STREAMS: serve_trio_streams,
    OURS: serve_ours,
    OURS_ALL: serve_ours_with_everything,
    OURS_LOG: serve_ours_with_a_log,
    GRANIAN: serve_granian,
    UVICORN: serve_uvicorn,
    UVICORN_LOG: functools.partial(serve_uvicorn, access_log=True),
    AIOHTTP: serve_aiohttp,
    HYPERCORN: serve_hypercorn,
}


def command(name: str, port: int) -> list[str]:
    """Return the command line of a child that is the server `name`."""
    return [sys.executable, __file__, "--serve", name, "--port", str(port)]


def serve(name: str, port: int) -> int:
    """Be the server `name`: what the child runs. Returns only if that cannot be."""
    try:
        return harness.exit_status(lambda: SERVERS[name](port))
    except KeyboardInterrupt:
        return 0


# The measuring.


def check(port: int) -> None:
    """Send two requests on one connection and hold the answers to what they should be.

    Raises:
      ValueError: another status, content type or body, or no second exchange on the connection.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    fields = {n.decode(): v.decode() for n, v in traffic.browser_fields(1)}
    try:
        for number in range(2):
            connection.request("GET", f"/{number}", headers=fields)
            socket_before = connection.sock
            answer = connection.getresponse()
            content = answer.read()
            kind = (answer.getheader("content-type") or "").partition(";")[0]
            if (answer.status, kind, content) != (200, "text/plain", traffic.ANSWER_BODY):
                raise ValueError(f"answered {answer.status} {kind!r} {content!r}")
            if connection.sock is None or connection.sock is not socket_before:
                raise ValueError("does not keep the connection")
    finally:
        connection.close()


def wrk_options(scenario: str, folder: str) -> list[str]:
    """Return the options by which wrk sends the heads of `scenario`; scripts go into `folder`."""
    if scenario == "small":
        return []
    if scenario == "browser":
        # wrk writes Host itself, and writes no Connection unless told; so these make up the twelve.
        pairs = [(n, v) for n, v in traffic.browser_fields(1) if n != b"Host"]
        return [word for name, value in pairs for word in ("-H", f"{name.decode()}: {value.decode()}")]
    heads = [traffic.browser_request(number).data.decode() for number in range(VARIED_HEADS)]
    script = Path(folder, "varied.lua")
    body = ",\n".join("[==[\n" + head.replace("\r\n", "\\r\\n") + "]==]" for head in heads)
    script.write_text(
        f"local heads = {{{body}}}\n"
        'for i, head in ipairs(heads) do heads[i] = head:gsub("\\\\r\\\\n", "\\r\\n") end\n'
        "local i = 0\n"
        f"request = function() i = i % {VARIED_HEADS} + 1; return heads[i] end\n"
    )
    return ["-s", str(script)]


def wrk(port: int, seconds: float, options: list[str], cpu: int | None, result: harness.Result) -> float:
    """Run wrk once and return requests a second; the 99th percentile of latency (ms) goes into
    `result.extra`.

    Raises:
      ValueError: an answer was not 2xx or 3xx, or a connection failed, was cut, or timed out.
    """
    output = harness.run_pinned(
        [
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{max(1, round(seconds))}s",
            "--latency",
            *options,
            f"http://{HOST}:{port}/",
        ],
        cpu,
        timeout=seconds + 30,
    )
    for trouble in ("Non-2xx or 3xx responses: .*", "Socket errors: .*"):
        if found := re.search(trouble, output):
            raise ValueError(found.group())
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    latency = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    if rate is None or latency is None:
        raise ValueError(f"cannot read wrk's output: {output!r}")
    in_ms = float(latency[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[latency[2]]
    result.extra.setdefault("p99", []).append(in_ms)
    return float(rate[1])


def main() -> int:
    parser = harness.arguments(__doc__, rounds=5)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="length of one round of one server, at least 1"
    )
    parser.add_argument("--scenarios", default="small,browser", help="of small, browser, varied")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.port)
    rounds, seconds = (min(options.rounds, 3), 1.0) if options.quick else (options.rounds, options.seconds)
    scenarios = options.scenarios.split(",")
    if unknown := set(scenarios) - {"small", "browser", "varied"}:
        parser.error(f"no such scenario: {', '.join(unknown)}")

    print(
        harness.versions(
            "trio", "trio-http", "hypercorn", "uvicorn", "httptools", "uvloop", "granian", "aiohttp"
        )
    )
    server_cpu, peer_cpu = harness.cpus()
    where = "not pinned" if server_cpu is None else f"servers on CPU {server_cpu}, wrk on CPU {peer_cpu}"
    print(
        f"{rounds} rounds of {seconds:.0f} s, {CONNECTIONS} connections, {where}; higher ratios are faster\n"
    )

    notes: dict[str, str] = {}
    ports: dict[str, int] = {}
    failed = False
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for name in SERVERS:
            if not harness.chosen(options.only, name):
                continue
            harness.progress(f"starting {name}")
            try:
                port = harness.free_port()
                stack.enter_context(harness.serving(command(name, port), port, server_cpu))
                check(port)
                ports[name] = port
            except Exception as exc:  # noqa: BLE001 - a failure is a row of the table, not the run's end
                notes[name] = harness.describe(exc)
        for scenario in scenarios:
            results = {
                name: harness.Result(name, note=notes.get(name, ""))
                for name in SERVERS
                if name in ports | notes
            }
            extra = wrk_options(scenario, folder)
            samplers = {
                name: functools.partial(wrk, port, seconds, extra, peer_cpu) for name, port in ports.items()
            }
            for name in samplers:
                harness.progress(f"{scenario}: warming {name}")
                try:
                    wrk(ports[name], 1, extra, peer_cpu, harness.Result(name))
                except Exception as exc:  # noqa: BLE001 - as above; the rounds are spared this one
                    results[name].note = harness.describe(exc)
            ready = {name: sample for name, sample in samplers.items() if not results[name].note}
            harness.interleave(ready, rounds, results, label=scenario)
            failed |= any(result.failed for result in results.values())
            print(report(scenario, results), flush=True)
    return 1 if failed else 0


def report(scenario: str, results: dict[str, harness.Result]) -> str:
    """Return the table of one scenario."""
    peers = {RAW: "raw trio", UVICORN: "uvicorn", HYPERCORN: "hypercorn"}

    def row(result: harness.Result) -> list[str]:
        p99 = sorted(result.extra["p99"])[len(result.extra["p99"]) // 2]
        ratios = [harness.times(result.ratio(results.get(peer))) for peer in peers]
        micro = 1e6 / result.median
        return [f"{result.median:,.0f}", f"±{result.spread:.0f}%", f"{micro:.1f}", f"{p99:.1f}", *ratios]

    columns = ["requests/s", "spread", "µs/request", "p99 ms", *peers.values()]
    return harness.table(f"server, {scenario}", columns, results, row)


if __name__ == "__main__":
    sys.exit(main())
