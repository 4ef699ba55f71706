"""One round of the soak: clients are opened, tasks ask, all is closed again, and nothing may be left.

Which request shares a connection with which, and what a cancel hits, depends on the machine's timing; so a
seed repeats the choices, but not the run.
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import itertools
import random
import ssl
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import _load
import trio
from _soak_facts import Facts, descriptor_kinds, facts, last_lines, stack_of
from _soak_requests import ANSWERED, FAILURES, KINDS, LEFT, REFUSED, Call, Seat, Wrong, excuse
from _soak_world import BEHIND, ROUTES, SERVERS, Left, Remote, World

import trio_http

ROUTE_WEIGHTS = {"tcp": 38, "tls": 14, "unix": 20, "ahead": 10, "chaos tcp": 13, "chaos tls": 5}

CHAOS_SECONDS = 6.0
"""The deadline of a request through a bad network, if it has no shorter one: what ends a wait for what is
never passed on.
"""

CANCEL_EVERY = 0.02
"""Seconds between two cancels from outside, on average."""

LAST_SECONDS = 0.5
"""How long after the end of a round the bad networks are waited for; what they hold up then is cancelled."""

RESTART_EVERY = 4.0
"""Seconds between the restarts of servers, on average."""

CLIENT_SECONDS = 10.0
"""How long a client is open, on average."""

READS_SESSIONS = sys.version_info >= (3, 13, 1) or (3, 12, 8) <= sys.version_info < (3, 13)
"""Whether this Python can read a TLS session without losing 7 kB of memory (python/cpython#116810), which
would look like a leak of ours.
"""

CLIENTS: tuple[dict[str, Any], ...] = (
    {"max_connections": 50, "max_connections_per_origin": 15, "idle_seconds": 2.0},
    {"max_connections": 40, "max_connections_per_origin": 15, "resume_sessions": READS_SESSIONS},
    {"max_connections": 30, "max_connections_per_origin": 12, "idle_seconds": 0.3},
    {"max_connections": 12, "max_connections_per_origin": 4, "propagate_deadline": True},
)
"""The seats. There are more tasks than connections, so all limits are met all the time."""

MOST_WRONG = 20
"""After so many findings of one sort no further ones are kept."""


@dataclass(slots=True)
class Findings:
    """What must not be, by sort, a line for each."""

    lines: dict[str, list[str]] = field(default_factory=dict)

    def add(self, sort: str, text: str) -> None:
        kept = self.lines.setdefault(sort, [])
        if len(kept) < MOST_WRONG:
            kept.append(text)

    def of(self, sort: str) -> list[str]:
        return self.lines.get(sort, [])

    @property
    def total(self) -> int:
        return sum(map(len, self.lines.values()))


class _Leave(Exception):
    """A client's block is left by an exception."""


class Soak:
    """All rounds, and what came of them.

    Args:
      world: the servers.
      urls: by route.
      folder: has "ca.pem", and takes downloads.
      socket_path: of the Unix socket.
      seed: of all choices.
      tasks: how many ask at once.
      longest: seconds: the deadline of a request on a direct route that has no short one. None may meet it.
      patience: seconds beyond its deadline after which a request hangs.
      planted: names of defects.
      on_hang: ends the process, for what hangs cannot be ended otherwise.

    Attributes:
      outcomes: of each route, how often each end came.
      kinds: how often each kind was asked.
      findings: what must not be.
      restarts, clients: how many there were.
    """

    def __init__(
        self,
        world: World | Remote,
        urls: dict[str, str],
        folder: Path,
        socket_path: str,
        seed: int,
        *,
        tasks: int,
        longest: float,
        patience: float,
        planted: Collection[str],
        on_hang: Callable[[str], NoReturn],
    ) -> None:
        self.outcomes: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in ROUTES}
        self.kinds: collections.Counter[str] = collections.Counter()
        self.findings = Findings()
        self.restarts = self.clients = 0
        self._world = world
        self._urls = urls
        self._folder = folder
        self._socket_path = socket_path
        self._seed = seed
        self._tasks = tasks
        self._patience = patience
        self._planted = sorted(planted)
        self._longest = longest
        self._on_hang = on_hang
        self._context = ssl.create_default_context(cafile=folder / "ca.pem")
        self._numbers = itertools.count(1)
        self._running: dict[int, Call] = {}
        self._seats: list[Seat | None] = [None] * len(CLIENTS)
        self._away: set[str] = set()
        self._back_at: dict[str, float] = {}
        self._until = 0.0
        self._quiet = self._over = trio.Event()

    @property
    def requests(self) -> int:
        """How many have ended."""
        return sum(counts.total() for counts in self.outcomes.values())

    async def round(self, seconds: float, label: str) -> tuple[Facts, Left]:
        """Ask for so long; then close all, and look at what is left.

        Returns:
          What this process and the world hold when nothing is under way.
        """
        self._until = trio.current_time() + seconds
        self._quiet, self._over = trio.Event(), trio.Event()
        async with trio.open_nursery() as around:
            around.start_soon(self._watch, label)
            async with trio.open_nursery() as clients:
                for index in range(len(CLIENTS)):
                    await clients.start(self._sit, index)
                async with trio.open_nursery() as others:
                    others.start_soon(self._cancel_some)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._restart_some)
                        for _ in range(self._tasks):
                            nursery.start_soon(self._ask_on)
                    others.cancel_scope.cancel()
                self._quiet.set()
                await self._look_at_pools()
                self._over.set()
            around.cancel_scope.cancel()
        faulthandler.cancel_dump_traceback_later()
        left = await self._world.settle()
        return facts(), left

    # What goes on beside the requests.

    async def _watch(self, label: str) -> None:
        """End the process when a request hangs, and with all stacks when trio itself does."""
        while True:
            faulthandler.dump_traceback_later(60 + self._patience, exit=True)
            await trio.sleep(0.5)
            _load.harness.progress(f"{label}: {self.requests:,} requests, {self.findings.total} findings")
            now = trio.current_time()
            for call in self._running.values():
                if now > call.bound + self._patience:
                    self._on_hang(
                        f"request {call.number} ({call.kind}, {call.route}) is {now - call.begin:.1f} s old;"
                        f" {call.client!r}; it is at\n{stack_of(call.task)}"
                    )

    async def _cancel_some(self) -> None:
        """Cancel a request now and then, wherever it is."""
        rng = random.Random(f"{self._seed} cancels {self.requests}")
        while True:
            await trio.sleep(rng.expovariate(1 / CANCEL_EVERY))
            calls = list(self._running.values())
            if trio.current_time() < self._until:
                calls = [rng.choice(calls)] if calls else []
            elif trio.current_time() > self._until + LAST_SECONDS:
                calls = [call for call in calls if call.route in BEHIND]
            else:
                calls = []  # or one that has no answer would be cancelled here, and not be found
            for call in calls:
                call.cancelled = True
                call.scope.cancel()

    async def _restart_some(self) -> None:
        """Drain a server now and then, and start it anew, while requests go on."""
        rng = random.Random(f"{self._seed} restarts {self.requests}")
        while True:
            at = trio.current_time() + rng.expovariate(1 / RESTART_EVERY)
            await trio.sleep_until(min(at, self._until))
            if at >= self._until:
                return
            name = rng.choice(SERVERS)
            self._away.add(name)
            wrong = await self._world.restart(name, rng.choice((0, 0.05, 1.0)))
            self._away.discard(name)
            self._back_at[name] = trio.current_time()
            self.restarts += 1
            if wrong:
                self.findings.add("shutdown", wrong)

    async def _sit(self, index: int, *, task_status: trio.TaskStatus[None]) -> None:
        """Have a client on a seat: one after the other, each closed while requests go on."""
        rng = random.Random(f"{self._seed} seat {index} {self.requests}")
        while not self._over.is_set():
            client = trio_http.Client(
                **CLIENTS[index],
                dial_seconds=4.0,
                cookies=True,
                ssl_context=self._context,
                unix_socket=lambda origin: self._socket_path if origin.host == "unix.test" else None,
            )
            seat = Seat(client)
            self.clients += 1
            try:
                with trio.CancelScope() as scope:
                    async with client:
                        self._seats[index] = seat
                        task_status.started()
                        task_status = trio.TASK_STATUS_IGNORED
                        with trio.move_on_after(rng.expovariate(1 / CLIENT_SECONDS)):
                            await self._quiet.wait()
                        if self._quiet.is_set():
                            await self._over.wait()
                        seat.closing = True
                        way = rng.choice(("end", "exception", "cancel"))
                        if way == "exception":
                            raise _Leave
                        if way == "cancel":
                            scope.cancel()
            except _Leave:
                pass
            self._look_at_pool(client, "after its close", idle=False)

    # The requests.

    async def _ask_on(self) -> None:
        """Be one task: one request after another."""
        while trio.current_time() < self._until and self.findings.total < MOST_WRONG:
            number = next(self._numbers)
            rng = random.Random(f"{self._seed} request {number}")
            seat = rng.choices(self._seats, [options["max_connections"] for options in CLIENTS])[0]
            if seat is None or seat.closing:
                await trio.sleep(0.001)
                continue
            route = rng.choices(list(ROUTE_WEIGHTS), list(ROUTE_WEIGHTS.values()))[0]
            kind = rng.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
            longest = min(CHAOS_SECONDS, self._longest) if route in BEHIND else self._longest
            seconds = rng.expovariate(1 / 0.05) if rng.random() < 0.1 else longest
            begin = trio.current_time()
            with trio.CancelScope(deadline=begin + seconds) as scope:
                call = Call(
                    number,
                    kind,
                    route,
                    self._urls[route],
                    seat,
                    rng,
                    self._folder,
                    scope,
                    begin,
                    begin + seconds,
                )
                self._running[number] = call
                try:
                    outcome = await self._ask(call)
                finally:
                    del self._running[number]
            if scope.cancelled_caught:
                outcome = self._judge_cancel(call, seconds == longest)
            self.outcomes[route][outcome] += 1
            self.kinds[kind] += 1
            if (pause := rng.random()) < 0.1:
                await trio.sleep(pause / 10)

    async def _ask(self, call: Call) -> str:
        if self._planted and call.number % 50 == 0:
            await self._go_wrong(call)
        try:
            return await KINDS[call.kind][1](call)
        except Wrong as exc:
            self.findings.add("answer", f"request {call.number} ({call.kind}, {call.route}): {exc}")
        except FAILURES as exc:
            outcome = excuse(exc, call, restarted=self._was_restarted(call))
            if outcome is not None:
                return outcome
            self.findings.add(
                "failure",
                f"request {call.number} ({call.kind}, {call.route}) failed: {exc!r}, {exc.__cause__!r}",
            )
        except Exception as exc:  # noqa: BLE001 - what nobody has foreseen is a finding too
            self.findings.add(
                "failure", f"request {call.number} ({call.kind}, {call.route}): {last_lines(exc)}"
            )
        return "wrong"

    def _judge_cancel(self, call: Call, was_long: bool) -> str:
        """Return what to call the end of a request that was cancelled."""
        if call.cancelled:
            return "cancelled"
        if was_long and call.kind != "sleep" and call.route not in BEHIND:
            took = trio.current_time() - call.begin
            self.findings.add(
                "slow", f"request {call.number} ({call.kind}, {call.route}) had no answer in {took:.0f} s"
            )
        return "deadline"

    def _was_restarted(self, call: Call) -> bool:
        server = BEHIND.get(call.route, call.route)
        return server in self._away or self._back_at.get(server, 0.0) >= call.begin

    async def _go_wrong(self, call: Call) -> None:
        """Do what was planted, of what concerns the clients."""
        match call.rng.choice(self._planted):
            case "hang":
                with trio.CancelScope(shield=True):
                    await trio.sleep_forever()
            case "lease":
                block = call.client.stream(
                    "GET", self._urls["tcp"] + "/pieces/1/900000", headers={"X-Id": "1"}
                )
                with contextlib.suppress(trio_http.RequestFailed):  # its client is closed, its server away
                    await block.__aenter__()  # and nobody leaves it

    # What is left.

    def _look_at_pool(self, client: trio_http.Client, when: str, *, idle: bool) -> None:
        """Hold a pool to what it must be when nothing is under way."""
        now = client.statistics()
        busy = (now.leased, now.dialing, now.waiting, 0 if idle else now.idle)
        if any(busy):
            self.findings.add("pool", f"{busy} leased, dialing, waiting, idle {when}: {now.origins}")
        try:
            client._pool.ledger.check()
        except AssertionError as exc:
            self.findings.add("ledger", f"{exc!r} {when}: {client!r}")

    async def _look_at_pools(self) -> None:
        """Wait until no dial and no close is under way; then see whether the pools can lend all they have."""
        with trio.move_on_after(6):  # longer than any dial takes
            while any(map(_is_busy, self._seats)):  # noqa: ASYNC110 - a pool tells nobody when it is quiet
                await trio.sleep(0.02)
        async with trio.open_nursery() as nursery:
            for seat, options in zip(self._seats, CLIENTS, strict=True):
                if seat is None or seat.closing:
                    self.findings.add("pool", f"the block of {seat} does not come to its end")
                    continue
                self._look_at_pool(seat.client, "when no request is under way", idle=True)
                nursery.start_soon(self._look_at_capacity, seat.client, options)

    async def _look_at_capacity(self, client: trio_http.Client, options: dict[str, Any]) -> None:
        if not await self._hold_all(client, options):
            self.findings.add("capacity", f"not all of {options} can be used at once: {client.statistics()}")

    async def _hold_all(self, client: trio_http.Client, options: dict[str, Any]) -> bool:
        """Tell whether as many requests can be under way as the pool has connections."""
        count, each = options["max_connections"], options["max_connections_per_origin"]
        key = str(next(self._numbers))
        held = 0

        async def hold(route: str) -> None:
            nonlocal held
            url = f"{self._urls[route]}/hold/{key}/{count}"
            response = await client.get(url, headers={"X-Id": key})
            held += response.content == b"held"

        with trio.move_on_after(min(10, 2 * self._patience)):
            async with trio.open_nursery() as nursery:
                for number in range(count):
                    nursery.start_soon(hold, SERVERS[number // each])
        return held == count


def _is_busy(seat: Seat | None) -> bool:
    """Whether there is nobody on a seat, somebody who is leaving it, or a request of theirs under way."""
    if seat is None or seat.closing:
        return True
    now = seat.client.statistics()
    return bool(now.leased or now.dialing or now.waiting)


GOOD = (ANSWERED, LEFT, REFUSED)


def look(findings: Findings, before: tuple[Facts, Left], now: tuple[Facts, Left], *, remote: bool) -> None:
    """Hold what is left after a round to what there was before it.

    Args:
      findings: takes what is not as it must be.
      before, now: as `Soak.round` returns them.
      remote: the world has a process of its own.
    """
    pairs = [("", before[0], now[0])]
    if remote:
        pairs.append(("the servers' ", Facts(**before[1].facts), Facts(**now[1].facts)))
    for whose, old, new in pairs:
        if new.tasks != old.tasks:
            findings.add("task", f"{whose}{old.tasks} tasks have become {new.tasks}")
        if new.descriptors != old.descriptors:
            kinds = now[1].kinds if whose else descriptor_kinds()
            findings.add(
                "descriptor", f"{whose}{old.descriptors} descriptors have become {new.descriptors}: {kinds}"
            )
    left = now[1]
    for name, text in left.busy.items():
        findings.add("server", f"{name}: {text}")
    begun, ended, stopped = left.commits
    if begun != ended + stopped:
        findings.add("commit", f"of {begun}, {ended} were done and {stopped} stopped by the end of a grace")
    for text in left.complaints:
        if text not in findings.of("request"):
            findings.add("request", text)
