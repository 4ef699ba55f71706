"""The program of a server's process: it serves, takes commands on standard input, and reports on standard
output (`_say.report`). When standard input ends, its parent is gone, and it ends itself and what it started.

| command | what it does |
|---|---|
| ``stop GRACE`` | asks the server to shut down; then come "stopped" (ours only) and "served" |
| ``swap CERTIFICATE KEY`` | has it use these files in later TLS handshakes |
| ``snapshot`` | ours only: reports what each connection is doing |
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]

import _harness  # noqa: E402 - it finds the checkout
from _say import report  # noqa: E402

HOST = "127.0.0.1"


def take_commands(handle: Callable[[list[str]], None]) -> None:
    """Call `handle` with the words of each command, in a thread of its own."""

    def run() -> None:
        said = b""
        while data := os.read(0, 4096):
            *lines, said = (said + data).split(b"\n")
            for line in lines:
                handle(line.decode().split())
        os.killpg(0, signal.SIGKILL)  # the parent has made this process the leader of a group of its own

    threading.Thread(target=run, daemon=True).start()


def serve_ours(port: int, settings: dict[str, Any]) -> None:
    import _ours
    import trio

    trio.run(_ours.serve, port, settings, take_commands)


def serve_hypercorn(port: int, settings: dict[str, Any]) -> None:
    import ssl

    import _asgi
    import hypercorn.config
    import hypercorn.trio
    import trio

    class Config(hypercorn.config.Config):
        context: ssl.SSLContext | None = None

        def create_ssl_context(self) -> ssl.SSLContext | None:
            self.context = super().create_ssl_context()
            return self.context

    config = Config()
    config.bind = [f"{HOST}:{port}"]
    config.loglevel = "ERROR"
    config.graceful_timeout = settings["grace"]
    if settings["tls"] is not None:
        config.certfile, config.keyfile = settings["tls"]
    application: Any = _asgi.app

    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        asked = trio.Event()

        def handle(words: list[str]) -> None:
            match words:
                case ["stop", _]:
                    token.run_sync_soon(asked.set)
                case ["swap", certificate, key]:
                    assert config.context is not None
                    token.run_sync_soon(config.context.load_cert_chain, certificate, key)

        take_commands(handle)
        report("ready")
        await hypercorn.trio.serve(application, config, shutdown_trigger=asked.wait)
        report("served")

    trio.run(main)


def serve_uvicorn(port: int, settings: dict[str, Any]) -> None:
    import asyncio
    import ssl

    import _asgi
    import httptools  # noqa: F401 - or uvicorn says in its own words that it is missing
    import uvicorn
    import uvloop

    contexts: list[ssl.SSLContext] = []

    def keep_context(_config: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        contexts.append(default())
        return contexts[0]

    tls = settings["tls"]
    config = uvicorn.Config(
        _asgi.app,
        host=HOST,
        port=port,
        http="httptools",
        ws="wsproto",
        lifespan="on",
        access_log=False,
        log_level="error",
        timeout_graceful_shutdown=whole_seconds(settings["grace"]),
        ssl_certfile=tls and tls[0],
        ssl_keyfile=tls and tls[1],
        ssl_context_factory=keep_context if tls else None,
    )
    server = uvicorn.Server(config)

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def handle(words: list[str]) -> None:
            match words:
                case ["stop", _]:
                    server.should_exit = True
                case ["swap", certificate, key]:
                    loop.call_soon_threadsafe(contexts[0].load_cert_chain, certificate, key)

        take_commands(handle)
        report("ready")
        await server.serve()
        report("served")

    uvloop.run(main())


def serve_granian(port: int, settings: dict[str, Any]) -> None:
    import granian
    import granian.constants
    import granian.log

    tls = settings["tls"]

    def handle(words: list[str]) -> None:
        match words:
            case ["stop", _]:
                os.kill(os.getpid(), signal.SIGTERM)
            case ["swap", certificate, key]:
                shutil.copy(certificate, tls[0])
                shutil.copy(key, tls[1])
                os.kill(os.getpid(), signal.SIGHUP)

    take_commands(handle)
    report("ready")
    # Its worker is a process of its own, which imports the application by name.
    granian.Granian(
        "_asgi:app",
        address=HOST,
        port=port,
        interface=granian.constants.Interfaces.ASGI,
        workers=1,
        workers_kill_timeout=whole_seconds(settings["grace"]),
        log_level=granian.log.LogLevels.error,
        ssl_cert=tls and Path(tls[0]),
        ssl_key=tls and Path(tls[1]),
        working_dir=FOLDER,
    ).serve()
    report("served")


def whole_seconds(grace: float) -> int:
    """Return the grace for a server that takes whole seconds only, and for which 0 is not "at once"."""
    return max(1, round(grace))


SERVERS: dict[str, Callable[[int, dict[str, Any]], None]] = {
    "ours": serve_ours,
    "hypercorn": serve_hypercorn,
    "uvicorn": serve_uvicorn,
    "granian": serve_granian,
}


def take_passed(passed: str, names: str) -> None:
    """Have the descriptors `passed` as from systemd: 3 and up, told of in the environment (sd_listen_fds(3)).

    Starts this program again, since a process's environment is read when it starts.
    """
    import fcntl

    moved = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 100) for fd in passed.split(",")]
    for number, fd in enumerate(moved, 3):
        os.dup2(fd, number, inheritable=True)
    variables = {"LISTEN_PID": os.getpid(), "LISTEN_FDS": len(moved), "LISTEN_FDNAMES": names}
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    kept = [word for word in sys.argv if not word.startswith(("--passed=", "--names="))]
    os.execve(sys.executable, [sys.executable, *kept], environment)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", choices=SERVERS, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--passed", default="")
    parser.add_argument("--names", default="")
    options = parser.parse_args()
    if options.passed:
        take_passed(options.passed, options.names)
    return _harness.exit_status(lambda: SERVERS[options.server](options.port, options.settings))


if __name__ == "__main__":
    sys.exit(main())
