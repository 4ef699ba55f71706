"""The far side of the soak: four servers, and two of them once more behind bad networks.

`World` runs in the process of the clients, or in one of its own: then this is a program,
``python _soak_world.py SETTINGS``, which takes orders as lines of JSON on standard input and reports on
standard output; `Remote` gives the orders.

| route | server | what lies between |
|---|---|---|
| tcp | TCP, with a limit on requests for each connection | |
| tls | TLS, with an instrument | |
| unix | a Unix socket | |
| ahead | TCP, without the epoll of our own, and with ``half_close="answer"`` | |
| chaos tcp | as tcp | `Chaos` |
| chaos tls | as tls | `Chaos` |
"""

from __future__ import annotations

import functools
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import _load  # first of all: it finds the checkout, and the harness
import trio
from _chaos import Chaos
from _soak_app import App
from _soak_facts import Troubles, descriptor_kinds, facts

import trio_http

BEHIND = {"chaos tcp": "tcp", "chaos tls": "tls"}
"""Which server is behind which proxy."""

SERVERS = ("tcp", "tls", "unix", "ahead")
ROUTES = (*SERVERS, *BEHIND)

TIMES = trio_http.ServerTimes(
    handshake=5, head=5, head_stall=5, idle=30, body_stall=5, write_stall=5, linger=1
)
"""Short, so that what the bad networks hold up is over in time; long beside what a busy process takes."""

SHUTDOWN_SLACK = 1.5
"""Seconds that a shutdown may take beyond its grace. Arbitrary: what a busy machine can put between."""

SETTLE_SECONDS = 15.0
"""How long the servers may take until nothing is left, once all clients have closed. The longest that they
wait for anything is `TIMES`.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a world is made of; goes through JSON.

    Attributes:
      seed: of its choices.
      folder: has "cert.pem", and takes the Unix socket.
      ports: by route; "unix" has none.
      planted: names of defects.
    """

    seed: int
    folder: str
    ports: dict[str, int]
    planted: list[str] = field(default_factory=list)

    @property
    def socket_path(self) -> str:
        return f"{self.folder}/socket"


@dataclass(slots=True)
class Left:
    """What a world holds when no client is there any more; goes through JSON.

    Attributes:
      busy: what is not at zero, by server: its connections, requests under way, and what its instrument says.
      commits: pieces of work that were begun, ended, and stopped by the end of a grace.
      complaints: of the handlers.
      requests: answered so far, by server.
      weather: connections of the bad networks so far, by kind.
      facts, kinds, troubles: of its process.
    """

    busy: dict[str, str]
    commits: tuple[int, int, int]
    complaints: list[str]
    requests: dict[str, int]
    weather: dict[str, int]
    facts: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    troubles: dict[str, list[str]] = field(default_factory=dict)


class World:
    """The servers and the bad networks, in this process.

    Args:
      settings: of it.
      troubles: of this process.
    """

    def __init__(self, settings: Settings, troubles: Troubles) -> None:
        self._settings = settings
        self._troubles = troubles
        self._app = App(settings.seed, settings.planted)
        self._chaos = Chaos(settings.seed)
        self._counters = trio_http.Counters()
        self._servers: dict[str, trio_http.Server] = {}
        self._ended: dict[str, trio.Event] = {}
        self._before: dict[str, int] = dict.fromkeys(SERVERS, 0)
        self._nursery: trio.Nursery | None = None
        self._context = trio_http.server_context(Path(settings.folder) / "cert.pem")

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled; `task_status` is started when all listen."""
        async with trio.open_nursery() as self._nursery:
            for name in SERVERS:
                await self._start(name)
            for name, behind in BEHIND.items():
                ports = self._settings.ports
                self._nursery.start_soon(self._chaos.serve, ports[name], ports[behind])
            task_status.started()

    async def restart(self, name: str, grace: float) -> str:
        """Drain a server and start it anew.

        Returns:
          What was wrong with that; "" for nothing.
        """
        server, ended = self._servers[name], self._ended[name]
        wrong = ""
        begin = time.monotonic()
        await server.shutdown(grace=grace)
        if (took := time.monotonic() - begin) > grace + SHUTDOWN_SLACK:
            wrong = f"{name}: a shutdown with {grace:.2f} s of grace took {took:.2f} s"
        with trio.move_on_after(5) as scope:
            await ended.wait()  # for the handlers, whose sockets are closed already
        if scope.cancelled_caught or server.statistics().connections:
            wrong = f"{name} still serves after its shutdown: {_states(server)}"
        self._before[name] += server.statistics().requests_total
        await self._start(name)
        return wrong

    async def settle(self) -> Left:
        """Break what the bad networks still have, wait until nothing is under way, and tell what is left."""
        # Twice: a connection may be in the midst of being accepted.
        deadline = trio.current_time() + SETTLE_SECONDS
        while True:
            self._chaos.drop_all()
            busy = self._busy()
            if not busy or trio.current_time() > deadline:
                break
            await trio.sleep(0.05)
        await trio.sleep(0.05)  # for the tasks that have closed their connection, and have yet to end
        return Left(
            busy=busy,
            commits=(self._app.begun, self._app.ended, self._app.stopped),
            complaints=self._app.complaints[:20],
            requests={
                name: self._before[name] + server.statistics().requests_total
                for name, server in self._servers.items()
            },
            weather=dict(self._chaos.counts),
            facts=asdict(facts()),
            kinds=descriptor_kinds(),
            troubles=self._troubles.as_dict(),
        )

    def _busy(self) -> dict[str, str]:
        busy = {}
        for name, server in self._servers.items():
            now = server.statistics()
            if now.connections or now.handling:
                busy[name] = f"{now.connections} connections, {now.handling} requests: {_states(server)}"
        if self._chaos.connections:
            busy["chaos"] = f"{self._chaos.connections} connections"
        counted = self._counters
        if counted.connections_open or counted.exchanges_open:
            busy["counters"] = f"{counted.connections_open} connections, {counted.exchanges_open} exchanges"
        if counted.exchanges_started != sum(counted.responses.values()):
            busy["counters"] = f"{counted.exchanges_started} exchanges have ended as {counted.responses}"
        return busy

    async def _start(self, name: str) -> None:
        assert self._nursery is not None
        self._ended[name] = ended = trio.Event()
        self._servers[name] = await self._nursery.start(self._serve, name, ended)

    async def _serve(
        self, name: str, ended: trio.Event, *, task_status: trio.TaskStatus[trio_http.Server]
    ) -> None:
        config = trio_http.ServerConfig(times=TIMES)
        serve: Callable[..., Awaitable[None]]
        port = self._settings.ports.get(name, 0)
        match name:
            case "tls":
                config = trio_http.ServerConfig(times=TIMES, instruments=[self._counters])
                serve = functools.partial(trio_http.serve_ssl_over_tcp, self._app, port, self._context)
            case "unix":
                serve = functools.partial(trio_http.serve_unix, self._app, self._settings.socket_path)
            case "ahead":
                config = trio_http.ServerConfig(times=TIMES, edge_poll=False, half_close="answer")
                serve = functools.partial(trio_http.serve_tcp, self._app, port)
            case _:
                config = trio_http.ServerConfig(times=TIMES, max_requests=200, max_requests_jitter=150)
                serve = functools.partial(trio_http.serve_tcp, self._app, port)
        try:
            await serve(config=config, task_status=task_status)
        finally:
            ended.set()


def _states(server: trio_http.Server) -> str:
    """Return what the connections of a server are at, the first few."""
    shown = [f"{each.state} {each.target} for {each.age:.1f} s" for each in server.snapshot()[:3]]
    return "; ".join(shown)


def free_ports(names: tuple[str, ...], seed: int) -> dict[str, int]:
    """Return a free port for each name, outside of the range from which the system chooses for clients.

    A server that starts anew needs its port back, and no client's connection may have it meanwhile; nor may
    a client that finds nobody listening be connected to itself.
    """
    rng = random.Random(f"{seed} ports {os.getpid()}")
    found: dict[str, int] = {}
    while len(found) < len(names):
        port = rng.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found.values():
            found[names[len(found)]] = port
    return found


# In a process of its own.


class Remote:
    """A world in another process, with the verbs of `World`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: trio.Process | None = None
        self._number = 0
        self._answers: dict[int, Any] = {}
        self._waiting: dict[int, trio.Event] = {}
        self._sending = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run the process until cancelled.

        Raises:
          RuntimeError: it has ended by itself.
        """
        command = [sys.executable, __file__, json.dumps(asdict(self._settings))]
        self._process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            await self._read(task_status)
        finally:
            self._process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await self._process.wait()

    async def _read(self, task_status: trio.TaskStatus[None]) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        buffer = b""
        async for data in self._process.stdout:
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                number, answer = json.loads(line)
                if number == 0:
                    task_status.started()
                    continue
                self._answers[number] = answer
                self._waiting[number].set()
        raise RuntimeError("the process of the servers has ended")

    async def restart(self, name: str, grace: float) -> str:
        """As `World.restart`."""
        answer: str = await self._ask("restart", name, grace)
        return answer

    async def settle(self) -> Left:
        """As `World.settle`."""
        return Left(**await self._ask("settle"))

    async def _ask(self, *order: object) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        self._number += 1
        number = self._number
        answered = self._waiting[number] = trio.Event()
        async with self._sending:
            await self._process.stdin.send_all(json.dumps([number, *order]).encode() + b"\n")
        await answered.wait()
        del self._waiting[number]
        return self._answers.pop(number)


async def _obey(settings: Settings) -> None:
    troubles = Troubles()
    troubles.install()
    world = World(settings, troubles)

    async def carry_out(number: int, verb: str, arguments: list[Any]) -> None:
        result = await (world.settle() if verb == "settle" else world.restart(*arguments))
        _say(number, asdict(result) if isinstance(result, Left) else result)

    async with trio.open_nursery() as nursery:
        await nursery.start(world.run)
        _say(0, None)
        buffer = b""
        async with trio.lowlevel.FdStream(os.dup(0)) as orders:
            async for data in orders:
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    number, verb, *arguments = json.loads(line)
                    nursery.start_soon(carry_out, number, verb, arguments)
        nursery.cancel_scope.cancel()  # the parent has gone


def _say(number: int, what: object) -> None:
    os.write(1, json.dumps([number, what]).encode() + b"\n")


if __name__ == "__main__":
    _load.raise_descriptor_limit()
    trio.run(_obey, Settings(**json.loads(sys.argv[1])))
