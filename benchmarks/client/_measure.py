"""One client, measured once: what the child process runs. Prints its figures as one line of JSON.

Each answer is held to what it must be, also while the clock runs. "wall" and "cpu" are microseconds a
request, the second those of this process alone, in user and system together.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
if str(FOLDER.parent) not in sys.path:
    sys.path.append(str(FOLDER.parent))  # behind this folder, whose names win

import _harness as harness  # noqa: E402 - the line above is what makes these found
import _traffic as traffic  # noqa: E402
from _clients import CLIENTS, Asker, Client, Setting  # noqa: E402

WARM_UP = 0.3
"""Seconds before counting begins, at least. Arbitrary: some thousand requests of a fast client."""

WARM_UP_REQUESTS = 2
"""Requests that each task makes on average before counting begins: the first one opens its connection."""

LEAST_COUNT = 10
"""Requests that are counted, however long they take. Arbitrary: of fewer, one slow one would be all. And at
least one for each task, since an event loop may deal with all of them in a burst, and then with none.
"""

FEW = 10
"""Idle connections, or waiting requests, that many are compared with."""

ORIGINS = 100
"""Origins to which many idle connections go."""

WAITED_FOR = 10
"""Connections that the waiting requests wait for."""

Figures = dict[str, Any]


class Meter:
    """Counts what all tasks of a client have done, from the end of the warm-up to the end of the time.

    Args:
      tasks: that will call `tick`.
      seconds: from the end of the warm-up to the end of the count; longer if fewer requests than there are
        tasks, or than `LEAST_COUNT`, are done in it.
      warm_up: seconds at least, before the count.
    """

    def __init__(self, tasks: int, seconds: float, *, warm_up: float = WARM_UP) -> None:
        self._seconds = seconds
        self._warm_until = time.perf_counter() + warm_up
        self._count = -WARM_UP_REQUESTS * tasks  # negative: warming up
        self._least = max(LEAST_COUNT, tasks)
        self._begin = self._end = self._cpu = 0.0

    def tick(self) -> bool:
        """Count one request that is done; return whether to make another."""
        now = time.perf_counter()
        if self._end:
            return False
        if self._begin:
            self._count += 1
            if now < self._begin + self._seconds or self._count < self._least:
                return True
            self._end = now
            self._cpu = time.process_time() - self._cpu
            return False
        self._count = min(0, self._count + 1)
        if self._count == 0 and now >= self._warm_until:
            self._begin = now
            self._cpu = time.process_time()
        return True

    @property
    def figures(self) -> Figures:
        """Microseconds a request, "wall" and "cpu"; to be read when `tick` has said that it is over."""
        wall = (self._end - self._begin) * 1e6 / self._count
        return {"wall": wall, "cpu": self._cpu * 1e6 / self._count}


async def ask(asker: Asker, url: str) -> None:
    """Make one request and hold its answer to what it must be."""
    status, content = await asker.get(url)
    if status != 200 or content != traffic.ANSWER_BODY:
        raise ValueError(f"got {status} {content!r}")


async def ask_until_over(asker: Asker, url: str, meter: Meter) -> None:
    """Be one task: make one request after another."""
    while True:
        await ask(asker, url)
        if not meter.tick():
            return


async def small(client: Client, asked: dict[str, Any]) -> Figures:
    """GET "url" by "tasks" tasks that have a connection each, for "seconds"."""
    tasks = asked["tasks"]
    async with client.open(Setting(tasks, tasks, asked.get("trust"))) as asker:
        meter = Meter(tasks, asked["seconds"])
        await client.spread(lambda: ask_until_over(asker, asked["url"], meter), tasks)
    return meter.figures


async def down(client: Client, asked: dict[str, Any]) -> Figures:
    """GET "length" bytes from "url"; see `_transfer`."""
    async with client.open(Setting(1, 1)) as asker:
        transfer = _Transfer()
        length = await asker.download(asked["url"])
        figures = transfer.figures(asked["length"])
    if length != asked["length"]:
        raise ValueError(f"{length} bytes came, of {asked['length']}")
    return figures


async def up(client: Client, asked: dict[str, Any]) -> Figures:
    """PUT "length" bytes to "url", which answers how many came; see `_transfer`."""
    async with client.open(Setting(1, 1)) as asker:
        transfer = _Transfer()
        said = await asker.upload(asked["url"], asked["length"])
        figures = transfer.figures(asked["length"])
    if said != b"%d" % asked["length"]:
        raise ValueError(f"{said!r} bytes came, of {asked['length']}")
    return figures


class _Transfer:
    """Times a body: "wall" and "cpu" in microseconds a MiB, "peak" and "grown" in bytes of memory."""

    def __init__(self) -> None:
        self._peak = peak_bytes()
        self._begin, self._cpu = time.perf_counter(), time.process_time()

    def figures(self, length: int) -> Figures:
        wall, cpu = time.perf_counter() - self._begin, time.process_time() - self._cpu
        unit = 1e6 * (1 << 20) / length
        peak = peak_bytes()
        return {"wall": wall * unit, "cpu": cpu * unit, "peak": peak, "grown": peak - self._peak}


def peak_bytes() -> int:
    """The most memory that this process has had resident so far, as Linux counts it (proc(5), `VmHWM`).

    0 on other systems. Not `resource.getrusage`: that maximum is inherited from who started the process.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


# The pool. Two clients are open in one process, with few and with many, and are measured in turn: so sockets,
# objects and the server's own load are the same for both, and what differs is the pool that is asked.


async def idle(client: Client, asked: dict[str, Any]) -> Figures:
    """Ask with `FEW` idle connections in the pool, and with "many"; one task, to one origin after another.

    Returns:
      "few" and "many": lists of a round's "wall" and "cpu"; "filled": seconds that it took to fill the pool.
    """
    many = asked["many"]
    each = many // ORIGINS
    async with (
        client.open(Setting(FEW, 1)) as small_pool,
        client.open(Setting(many, each)) as large_pool,
    ):
        begin = time.perf_counter()
        await _fill(client, small_pool, asked["port"], FEW, 1)
        await _fill(client, large_pool, asked["port"], ORIGINS, each)
        figures: Figures = {"filled": time.perf_counter() - begin, "few": [], "many": []}
        _, count = await small_pool.get(f"http://127.0.0.1:{asked['port']}/connections")
        if int(count) < FEW + many:
            raise ValueError(f"holds {int(count)} connections, not {FEW + many}")
        urls = [f"http://127.0.0.{number}:{asked['port']}/" for number in range(1, FEW + 1)]
        for _ in range(asked["rounds"]):
            for which, pool in (("few", small_pool), ("many", large_pool)):
                meter = Meter(FEW, asked["seconds"], warm_up=asked["seconds"] / 5)
                going = True
                while going:
                    for url in urls:
                        await ask(pool, url)
                        going = meter.tick()
                figures[which].append(meter.figures)
    return figures


async def _fill(client: Client, asker: Asker, port: int, origins: int, each: int) -> None:
    """Make `each` connections to every origin: the server answers none of them before it has all requests."""
    for number in range(1, origins + 1):
        url = f"http://127.0.0.{number}:{port}/hold/{each}/{number}-{each}"

        async def one(url: str = url) -> None:
            await ask(asker, url)

        await client.spread(one, each)


async def waiting(client: Client, asked: dict[str, Any]) -> Figures:
    """Ask with `FEW` requests that wait for one of `WAITED_FOR` connections, and with "many"; as `idle`."""
    figures: Figures = {"few": [], "many": []}
    for _ in range(asked["rounds"]):
        for which, waiters in (("few", FEW), ("many", asked["many"])):
            async with client.open(Setting(WAITED_FOR, WAITED_FOR)) as asker:
                tasks = waiters + WAITED_FOR
                meter = Meter(tasks, asked["seconds"])

                async def one(asker: Asker = asker, meter: Meter = meter) -> None:
                    await ask_until_over(asker, asked["url"], meter)

                await client.spread(one, tasks)
            figures[which].append(meter.figures)
    return figures


MEASURES = {"small": small, "down": down, "up": up, "idle": idle, "waiting": waiting}


def main() -> int:
    asked = json.loads(sys.argv[1])
    client = CLIENTS[asked["client"]]

    async def run() -> None:
        print(json.dumps(await MEASURES[asked["measure"]](client, asked)))

    return harness.exit_status(lambda: client.run(run))


if __name__ == "__main__":
    sys.exit(main())
