"""A million requests of our client to a peer that breaks off, delays, resets, and says what nobody asked.

200 tasks share one client, whose pool is smaller than they are many, and ask four origins. Each request has a
number, which the peer echoes in a field and in the content; what the peer does with it besides follows from
the seed and the number (`_peer.py`), and so does what the client does: the method, the content and how it is
sent, whether the answer is read whole, in part or not at all, and the deadline, which is often a short one.
One more task cancels requests at random moments. Which request shares a connection with which, and what a
cancel hits, depends on the machine's timing, so a seed repeats the choices but not the run.

Every answer that comes must be whole and that of its own request. A request that the peer answers well and
that nobody cancels must succeed; only where it cannot be sent twice may it fail, when the peer has closed
the connection in that moment. Half-way and at the end all is quiet, and nothing may be left over: no
connection in use, no task, and no memory and objects but for a stated slack. In the end the pool must have as
many connections to lend at once as in the beginning, and after the close, no descriptor may be left.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import gc
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _load  # first of all: it finds the checkout, and the harness
import trio
from _peer import SOUND, Plan, checksum, content_of, make_plan
from _pieces import Pieces, object_slack

import trio_http
import trio_http.client

harness = _load.harness

TASKS = 200
ORIGINS = 4
CONNECTIONS, PER_ORIGIN = 50, 20
"""Less than there are tasks, and less in all than the origins may have: every limit is met all the time."""

LONG_SECONDS = 20.0
"""The deadline of a request that has no short one. Arbitrary: no answer takes a hundredth of it."""

HANG_SECONDS = 60.0
"""After this a request hangs, whatever its deadline was."""

CANCEL_EVERY = 0.004
"""Seconds between two cancels from outside, on average: some requests in a hundred meet one."""

WARM_UP = 2000
"""Requests before anything is compared, so that what is made once is made. Arbitrary: ten of each task."""

MEMORY_SLACK = 16 << 20
"""Bytes; at the full size, 34 for each request. The allocator's own moods come to some MiB with so many
contents of up to 200 kB.
"""


class _Left(Exception):
    """The task leaves a response before its end, by an exception."""


@dataclass(slots=True)
class _Running:
    """A request under way: its scope, when it began, and whether it was cancelled from outside."""

    number: int
    scope: trio.CancelScope
    begin: float
    cancelled: bool = False


class Soak:
    """The tasks that share a client, and what came of their requests.

    Args:
      client: open.
      port: the peer's.
      seed: of all choices, the peer's too.

    Attributes:
      counts: of each end that a request came to.
      wrong: what must not be, a line for each; ten end the run.
      done: requests that have ended.
    """

    def __init__(self, client: trio_http.Client, port: int, seed: int) -> None:
        self._client = client
        self._port = port
        self._seed = seed
        self._next = 0
        self._running: dict[int, _Running] = {}
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.done = 0

    async def run(self, until: int, *, tasks: int = TASKS) -> None:
        """Make requests until there have been `until` in all, and wait for the last of them."""
        async with trio.open_nursery() as around:
            around.start_soon(self._cancel_some)
            around.start_soon(self._watch, around.cancel_scope)
            async with trio.open_nursery() as nursery:
                for _ in range(tasks):
                    nursery.start_soon(self._ask_on, until)
            around.cancel_scope.cancel()
        faulthandler.cancel_dump_traceback_later()

    async def _cancel_some(self) -> None:
        """Cancel a request now and then, wherever it is."""
        rng = random.Random(f"{self._seed} cancels {self._next}")
        while True:
            await trio.sleep(rng.expovariate(1 / CANCEL_EVERY))
            if self._running:
                running = rng.choice(list(self._running.values()))
                running.cancelled = True
                running.scope.cancel()

    async def _watch(self, scope: trio.CancelScope) -> None:
        """End the run when a request hangs; the whole process, with its stacks, when trio itself does."""
        while True:
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            await trio.sleep(1)
            harness.progress(f"client_soak: {self.done:,} requests")
            for running in self._running.values():
                if trio.current_time() - running.begin > HANG_SECONDS:
                    self.wrong.append(f"request {running.number} hangs; the pool: {self._client!r}")
                    scope.cancel()
                    return

    async def _ask_on(self, until: int) -> None:
        """Be one task: one request after another."""
        while self._next < until and len(self.wrong) < 10:
            number = self._next
            self._next += 1
            rng = random.Random(f"{self._seed} client {number}")
            plan = make_plan(self._seed, number)
            seconds = LONG_SECONDS
            if plan.kind == "silent":
                seconds = rng.uniform(0, 0.05)
            elif rng.random() < 0.25:
                seconds = rng.expovariate(1 / 0.02)
            outcome = ""
            with trio.move_on_after(seconds) as scope:
                running = self._running[number] = _Running(number, scope, trio.current_time())
                try:
                    outcome = await self._ask(rng, number, plan)
                except trio_http.RequestFailed as exc:
                    outcome = self._judge(exc, number, plan)
                except ValueError as exc:
                    self.wrong.append(f"request {number} ({plan.kind}): {exc}")
                    outcome = "wrong"
                finally:
                    del self._running[number]
            if scope.cancelled_caught:
                outcome = "cancelled" if running.cancelled else "deadline"
                if not running.cancelled and seconds == LONG_SECONDS:
                    self.wrong.append(f"request {number} ({plan.kind}) took {seconds:.0f} s")
            self.counts[outcome] += 1
            self.done += 1

    # One request.

    async def _ask(self, rng: random.Random, number: int, plan: Plan) -> str:
        """Make one request; return how it ended well.

        Raises:
          ValueError: the answer is not that of the request.
          trio_http.RequestFailed: as the client says.
        """
        url = f"http://127.0.0.{number % ORIGINS + 1}:{self._port}/{number}"
        method, content, options = _make_request(rng, number)
        if rng.random() < 0.8:
            response = await self._client.request(method, url, **options)
            _check(number, plan, content, response.status, response.headers)
            _check_content(number, plan, response.content, whole=True)
            if plan.kind == "chunked" and response.trailers.get("x-id") != str(number):
                raise ValueError(f"trailers of another answer: {response.trailers!r}")
            return "answered"
        return await self._stream(rng, number, plan, content, method, url, options)

    async def _stream(
        self,
        rng: random.Random,
        number: int,
        plan: Plan,
        content: bytes,
        method: str,
        url: str,
        options: dict[str, Any],
    ) -> str:
        pieces = rng.choice((0, 1, 2, 1_000_000))
        received, ended = b"", False
        try:
            async with self._client.stream(method, url, **options) as response:
                _check(number, plan, content, response.status, response.headers)
                while pieces and not ended:
                    piece = await response.body.receive_some()
                    received += piece
                    ended = not piece
                    pieces -= 1
                if not ended and rng.random() < 0.5:
                    raise _Left
        except _Left:
            pass
        _check_content(number, plan, received, whole=ended)
        return "answered" if ended else "answered, left"

    def _judge(self, exc: trio_http.RequestFailed, number: int, plan: Plan) -> str:
        """Return what to call a failure; one that must not be is put on record."""
        if plan.kind not in SOUND:
            return "failed, as the peer did"
        lost = isinstance(exc, trio_http.ConnectionLost) and exc.facts.reused
        if lost and exc.facts.method == "POST":
            return "failed, closed in that moment"
        self.wrong.append(f"request {number} ({plan.kind}) failed: {exc!r}")
        return "wrong"


def _make_request(rng: random.Random, number: int) -> tuple[str, bytes, dict[str, Any]]:
    """Return a method, the content that goes with it, and the keywords that send it."""
    method = rng.choices(("GET", "POST", "PUT"), (6, 2, 2))[0]
    if method == "GET":
        return method, b"", {}
    content = content_of(number, rng.choice((1, 100, 15_000, 40_000, 200_000)))
    if method == "POST" and rng.random() < 0.5:
        return method, content, {"content": Pieces(rng, content)}
    return method, content, {"content": content}


def _check(number: int, plan: Plan, sent: bytes, status: int, headers: Any) -> None:
    """Hold the head of an answer to what it must be."""
    said = (status, headers.get("x-id"), headers.get("x-received"))
    received = "early" if plan.kind == "early" else checksum(sent).decode()
    if said != (200, str(number), received):
        raise ValueError(f"asked as {number}, sent {received}, and was told {said}")


def _check_content(number: int, plan: Plan, received: bytes, *, whole: bool) -> None:
    wanted = content_of(number, plan.length)
    if received != (wanted if whole else wanted[: len(received)]):
        raise ValueError(f"{len(received)} bytes, of {plan.length}: {received[:40]!r}...{received[-20:]!r}")


# The end.


async def hold_all(client: trio_http.Client, port: int, count: int, *, seconds: float = 30.0) -> bool:
    """Tell whether `count` requests can be under way at once: the peer answers none before it has all."""
    held: set[int] = set()

    async def one(number: int) -> None:
        response = await client.get(f"http://127.0.0.{number % ORIGINS + 1}:{port}/hold/{count}/end")
        if response.content == b"held":
            held.add(number)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(one, number)
    return len(held) == count


@dataclass(frozen=True, slots=True)
class Facts:
    """What this process holds: tasks of Trio, bytes of memory, objects that the collector tracks."""

    tasks: int
    rss: int
    objects: int


async def quiet(client: trio_http.Client) -> Facts:
    """Wait until no request and no dial is under way, for ten seconds at most; return what is held then."""
    with trio.move_on_after(10):
        while (now := client.statistics()).leased or now.dialing or now.waiting:  # noqa: ASYNC110
            await trio.sleep(0.05)
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])  # noqa: ASYNC240 - nothing else runs
    rss = pages * os.sysconf("SC_PAGE_SIZE")
    return Facts(trio.lowlevel.current_statistics().tasks_living, rss, len(gc.get_objects()))


def open_descriptors() -> set[str]:
    """Return what is open: the number of each descriptor, and what it stands for."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:
            pass  # the one that lists them
    return found


@asynccontextmanager
async def open_client(dial: trio_http.client.Dial | None = None) -> AsyncIterator[trio_http.Client]:
    """The client of the soak, for the length of a block; with a `dial` in place of TCP."""
    async with trio_http.Client(
        max_connections=CONNECTIONS, max_connections_per_origin=PER_ORIGIN, idle_seconds=2.0, dial=dial
    ) as client:
        yield client


async def run(report: _load.Report, port: int, requests: int, seed: int) -> None:
    """Make all requests, and put what was found into `report`."""
    descriptors = open_descriptors()
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with open_client() as client:
        soak = Soak(client, port, seed)
        await soak.run(WARM_UP)
        before = await quiet(client)
        begin = time.monotonic()
        await soak.run(WARM_UP + requests // 2)
        middle = await quiet(client)
        await soak.run(WARM_UP + requests)
        elapsed = time.monotonic() - begin
        after = await quiet(client)
        left = client.statistics()
        whole = await hold_all(client, port, CONNECTIONS)
        peer = json.loads((await client.get(f"http://127.0.0.1:{port}/facts")).content)
    left_open = open_descriptors() - descriptors
    after_close = trio.lowlevel.current_statistics().tasks_living
    counts = soak.counts
    report.rows["ours"] = [
        f"{soak.done:,}",
        f"{counts['answered'] + counts['answered, left']:,}",
        *(f"{counts[what]:,}" for what in ENDS),
        f"{len(soak.wrong)}",
        f"{(soak.done - WARM_UP) / elapsed:,.0f}",
        " / ".join(_load.mebibytes(facts.rss) for facts in (before, middle, after)),
    ]
    report.remarks += soak.wrong
    answers = counts["answered"] + counts["answered, left"]
    report.claim(f"no answer to another request, none in part, in {answers:,}", not soak.wrong)
    asked = WARM_UP + requests
    report.claim(f"no request hangs: {soak.done:,} of {asked:,} ended", soak.done == asked)
    report.claim(f"the peer met nothing but requests {peer['malformed'][:1]}", not peer["malformed"])
    busy = (left.leased, left.dialing, left.waiting)
    report.claim(f"nothing is in use, dialed or waiting: {busy}", busy == (0, 0, 0))
    report.claim(f"all {CONNECTIONS} connections can be used at once", whole)
    held = [facts.tasks for facts in (before, middle, after)]
    report.claim(f"tasks at 0, 50 and 100 %: {held}", len(set(held)) == 1)
    report.claim(f"after the close, {tasks} tasks are {after_close}", after_close == tasks)
    report.claim(f"after the close, no new descriptor is open {sorted(left_open)[:3]}", not left_open)
    grown, slack = after.rss - middle.rss, MEMORY_SLACK
    text = f"memory from 50 to 100 %: {grown / 1024:+,.0f} KiB, slack {slack / 1024:,.0f}"
    report.claim(text, grown <= slack)
    objects, most = after.objects - middle.objects, object_slack(requests // 2)
    report.claim(f"objects from 50 to 100 %: {objects:+,}, slack {most:,}", objects <= most)


ENDS = ("failed, as the peer did", "failed, closed in that moment", "deadline", "cancelled")
COLUMNS = ["requests", "right", *ENDS, "wrong", "requests/s", "memory at 0 / 50 / 100 %"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--seed", type=int, help="of all random choices; by default a new one each run")
    parser.add_argument("--requests", type=int, default=1_000_000, help="in all, at least 1,000")
    given = parser.parse_args()
    if not Path("/proc/self/statm").exists():
        parser.error("the load scripts read Linux's /proc, and this system has none")
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    requests = min(given.requests, 4000) if given.quick else max(1000, given.requests)
    print(harness.versions("trio", "trio-http"))
    own_cpu, peer_cpu = harness.cpus()
    if own_cpu is not None:
        os.sched_setaffinity(0, {own_cpu})
    print("not pinned" if own_cpu is None else f"client on CPU {own_cpu}, peer on CPU {peer_cpu}")
    print(f"seed {seed}\n", flush=True)
    _load.raise_descriptor_limit()
    report = _load.Report(f"{requests:,} requests of {TASKS} tasks", COLUMNS, quick=given.quick)
    port = harness.free_port()
    command = [sys.executable, str(_load.FOLDER / "_peer.py"), str(port), str(ORIGINS), str(seed)]
    try:
        with harness.serving(command, port, peer_cpu):
            trio.run(run, report, port, requests, seed)
    except Exception as exc:  # noqa: BLE001 - a failure is a row of the table
        report.notes["ours"] = harness.describe(exc)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
