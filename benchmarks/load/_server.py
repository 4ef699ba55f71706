"""A server under load: what the child process runs, and the wires by which its parent asks and stops it.

Standard input takes one word a line: ``facts`` is answered by a report of what the server holds, ``stop``
asks it to shut down with its grace. When standard input ends, the parent is gone, and the child ends itself
and what it started. Standard output carries reports (`_apps.report`), standard error the server's log.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _load  # first of all: it finds the checkout, and the harness
from _apps import app, asgi_app, report

harness = _load.harness

HOST = _load.HOST
FOREVER = 24 * 3600  # s: for servers that do not know infinity


class Control(threading.Thread):
    """Answers the parent, in a thread, so that a busy server is not asked for its time but for the lock's.

    Attributes:
      tasks: gives the number of tasks that live; None where they cannot be seen, in workers of another
        process.
      stop: asks the server to shut down; called in this thread.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.tasks: Callable[[], int] | None = None
        self.stop: Callable[[], None] = functools.partial(os.kill, os.getpid(), signal.SIGTERM)

    def run(self) -> None:
        said = b""
        # Not `sys.stdin`, whose lock a thread that waits in it would hold while the interpreter shuts down.
        while data := os.read(0, 4096):
            *words, said = (said + data).split(b"\n")
            for word in words:
                if word == b"facts":
                    report("facts", **self._facts())
                elif word == b"stop":
                    self.stop()
        os.killpg(0, signal.SIGKILL)  # the parent has made this process the leader of a group of its own

    def _facts(self) -> dict[str, int | None]:
        gc.collect()
        family = list(_family(os.getpid()))
        alone = len(family) == 1
        return {
            "rss": sum(_resident(pid) for pid in family),
            "fds": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in family),
            "threads": sum(len(os.listdir(f"/proc/{pid}/task")) for pid in family),
            "tasks": self.tasks() if self.tasks is not None else None,
            "objects": len(gc.get_objects()) if alone else None,
        }


def _family(pid: int) -> list[int]:
    """Return `pid` and the processes that descend from it, by what Linux tells of each thread's children."""
    found = [pid]
    for thread in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
            found += _family(int(child))
    return found


def _resident(pid: int) -> int:
    """Return the bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# The servers. Settings: "idle" and "grace" in seconds, and "ours" with attributes of `ServerConfig`.


def server_config(settings: dict[str, Any]) -> Any:
    """Return our configuration; a group of settings, such as "times", is an object of the group's class."""
    import trio_http

    config = trio_http.ServerConfig()
    options = dict(settings.get("ours", {}))
    if "idle" in settings:
        options["times"] = {"idle": settings["idle"], **options.get("times", {})}
    for name, value in options.items():
        if isinstance(value, dict):
            options[name] = type(getattr(config, name))(**value)
    return trio_http.ServerConfig(**options)


def serve_ours(control: Control, port: int, settings: dict[str, Any]) -> None:
    import trio

    import trio_http

    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        asked = trio.Event()
        control.stop = functools.partial(token.run_sync_soon, asked.set)
        control.tasks = functools.partial(trio.from_thread.run_sync, _trio_tasks, trio_token=token)
        serve = functools.partial(
            trio_http.serve_tcp, app, port, host=HOST, config=server_config(settings), backlog=_load.BACKLOG
        )
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve)
            control.start()
            await asked.wait()
            await server.shutdown(grace=settings["grace"])

    trio.run(main)


def _trio_tasks() -> int:
    import trio

    return trio.lowlevel.current_statistics().tasks_living


def serve_hypercorn(control: Control, port: int, settings: dict[str, Any]) -> None:
    import hypercorn.config
    import hypercorn.trio
    import trio

    config = hypercorn.config.Config()
    config.bind = [f"{HOST}:{port}"]
    config.loglevel = "WARNING"
    config.backlog = _load.BACKLOG
    config.graceful_timeout = settings["grace"]
    if "idle" in settings:
        config.keep_alive_timeout = settings["idle"]
    application: Any = asgi_app

    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        asked = trio.Event()
        control.stop = functools.partial(token.run_sync_soon, asked.set)
        control.tasks = functools.partial(trio.from_thread.run_sync, _trio_tasks, trio_token=token)
        control.start()
        await hypercorn.trio.serve(application, config, shutdown_trigger=asked.wait)

    trio.run(main)


def serve_uvicorn(control: Control, port: int, settings: dict[str, Any]) -> None:
    import asyncio

    import httptools  # noqa: F401 - or uvicorn says in its own words that it is missing
    import uvicorn
    import uvloop

    config = uvicorn.Config(
        asgi_app,
        host=HOST,
        port=port,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        backlog=_load.BACKLOG,
        timeout_keep_alive=int(settings.get("idle", 5)),  # its default, 5 s
        timeout_graceful_shutdown=max(1, round(settings["grace"])),  # whole seconds, and 0 is "at once"
    )
    server = uvicorn.Server(config)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        control.tasks = lambda: len(asyncio.all_tasks(loop))
        control.stop = functools.partial(setattr, server, "should_exit", True)
        control.start()
        await server.serve()

    uvloop.run(main())


def serve_granian(control: Control, port: int, settings: dict[str, Any]) -> None:
    import granian
    import granian.constants
    import granian.http

    control.start()
    http1 = granian.http.HTTP1Settings()
    if "idle" in settings:
        http1.header_read_timeout = int(settings["idle"] * 1000)
    # Its worker imports the application by name, from the folder of this file.
    granian.Granian(
        "_apps:asgi_app",
        address=HOST,
        port=port,
        interface=granian.constants.Interfaces.ASGINL,
        workers=1,
        backlog=_load.BACKLOG,
        backpressure=_load.BACKLOG,  # the number of connections at which it stops accepting
        http1_settings=http1,
        workers_kill_timeout=max(1, round(settings["grace"])),  # whole seconds
        websockets=False,
        log_access=False,
        log_enabled=False,
        working_dir=Path(__file__).parent,
    ).serve()


SERVERS: dict[str, Callable[[Control, int, dict[str, Any]], None]] = {
    _load.OURS: serve_ours,
    _load.HYPERCORN: serve_hypercorn,
    _load.UVICORN: serve_uvicorn,
    _load.GRANIAN: serve_granian,
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", choices=SERVERS, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--settings", type=json.loads, required=True)
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})  # here rather than in the parent: a worker inherits it
    return harness.exit_status(lambda: SERVERS[options.server](Control(), options.port, options.settings))


if __name__ == "__main__":
    sys.exit(main())
