"""100,000 requests, cut off at random bytes by FIN or RST: no wrong answer, and nothing leaks.

Each connection has one to eight exchanges, and breaks within the last: the request ends at a random byte, or
the answer is read up to a random byte. It breaks in one of three ways, which are *close* (a FIN, or a RST
where bytes are unread), *reset* (always a RST) and *half* (a FIN, and then whatever the server still says is
read to its end). All choices come from the seed and the number of the connection, so a run can be had again
whatever the timing was.

Every answer that came whole must be the right one for its request. Half-way and at the end the load stops,
and the server must hold the tasks and descriptors that it held in the beginning, and between the two points
no more memory and objects but for a stated slack.
"""

from __future__ import annotations

import collections
import functools
import random
import sys
import time
from dataclasses import dataclass

import _load
import trio
from _apps import pattern
from _client import RECEIVE, Answer, Answers, connect, get, reset
from _probe import measure

AT_ONCE = 64
MOST_EXCHANGES = 8
CLOSE_SECONDS = 15.0
"""Seconds for an exchange, or for the server to close behind a FIN: far above the limits that apply."""

MEMORY_SLACK = 4 << 20
"""Bytes; at the full size, 84 for each request. The allocator's own moods come to about 1 MiB."""


def object_slack(requests: int) -> int:
    """Return how many more objects may be tracked after `requests`: one for 100, and some for caches."""
    return 500 + requests // 100


@dataclass(frozen=True, slots=True)
class Task:
    """A request, and the content of its right answer."""

    request: bytes
    content: bytes


def make_task(rng: random.Random, number: int) -> Task:
    """Return a request whose right answer is that of no other, or of few."""
    match rng.choice(("number", "echo", "chunked", "sink", "big")):
        case "number":
            return Task(get(f"/number/{number}"), b"%d\n" % number)
        case "big":
            length = rng.choice((1, 1000, 65_536, 300_000))
            return Task(get(f"/big/{length}/{number}"), b"".join(pattern(length, number)))
        case "chunked":
            content = rng.randbytes(rng.randrange(1, 3000))
            at = rng.randrange(len(content))
            pieces = [piece for piece in (content[:at], content[at:]) if piece]
            framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            start = b"POST /echo HTTP/1.1\r\nHost: cut\r\nTransfer-Encoding: chunked\r\n\r\n"
            return Task(start + framed, content)
        case kind:
            content = rng.randbytes(rng.randrange(3000))
            head = f"POST /{kind} HTTP/1.1\r\nHost: cut\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            return Task(head + content, content if kind == "echo" else b"%d\n" % len(content))


class Load:
    """The clients: connections by their number, and what came of them.

    Args:
      port: the server's.
      seed: of all choices.

    Attributes:
      counts: of requests sent "whole" and "in part", of answers that came "right", of each way to break.
      wrong: what must not be, a line for each.
    """

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._seed = seed
        self._next_connection = 0
        self.requests = 0
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    async def run(self, requests: int) -> None:
        """Send requests until there have been `requests` in all."""
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(self._connections, requests)

    async def _connections(self, requests: int) -> None:
        while self.requests < requests and len(self.wrong) < 10:
            number = self._next_connection
            self._next_connection += 1
            rng = random.Random(f"{self._seed} {number}")
            count = rng.randint(1, MOST_EXCHANGES)
            self.requests += count
            sock = trio.socket.from_stdlib_socket(connect(self._port))
            try:
                with trio.fail_after(CLOSE_SECONDS * count):
                    await self._connection(rng, sock, number, count)
            except (OSError, ValueError, trio.TooSlowError) as exc:
                self.wrong.append(f"connection {number}: {type(exc).__name__}: {exc}")
            finally:
                sock.close()

    async def _connection(
        self, rng: random.Random, sock: trio.socket.SocketType, number: int, count: int
    ) -> None:
        answers = Answers()
        for exchange in range(count - 1):
            task = make_task(rng, number * MOST_EXCHANGES + exchange)
            self.counts["whole"] += 1
            await self._send(rng, sock, task.request)
            found: list[Answer] = []
            while not found:
                data = await sock.recv(RECEIVE)
                if not data:
                    raise ConnectionError("closed in place of an answer")
                found = answers.feed(data)
            self._check(found, [task])
        task = make_task(rng, number * MOST_EXCHANGES + count - 1)
        way = rng.choice(("close", "reset", "half"))
        if rng.random() < 0.5:
            cut = rng.randrange(len(task.request))
            self.counts["in part"] += 1
            self.counts[f"{way} in a request"] += 1
            await self._send(rng, sock, task.request[:cut])
            await self._break(sock, way, answers, [])
        else:
            # About 150 bytes of head: some cuts are in it, some in the content, some behind the answer.
            left = rng.randrange(len(task.content) + 200)
            self.counts["whole"] += 1
            self.counts[f"{way} in an answer"] += 1
            await self._send(rng, sock, task.request)
            found = []
            while left > 0 and not found:
                data = await sock.recv(min(left, RECEIVE))
                if not data:
                    raise ConnectionError("closed within an answer")
                left -= len(data)
                found = answers.feed(data)
            self._check(found, [task])
            await self._break(sock, way, answers, [] if found else [task])

    async def _send(self, rng: random.Random, sock: trio.socket.SocketType, data: bytes) -> None:
        """Send in one piece or in two."""
        at = rng.randrange(len(data) + 1) if data and rng.random() < 0.3 else 0
        for piece in (data[:at], data[at:]):
            rest = memoryview(piece)
            while rest:
                rest = rest[await sock.send(rest) :]

    async def _break(
        self, sock: trio.socket.SocketType, way: str, answers: Answers, awaited: list[Task]
    ) -> None:
        """Break off; behind a FIN, an answer to what is `awaited` may still come, whole or not."""
        if way == "reset":
            reset(sock)
        elif way == "half":
            sock.shutdown(trio.socket.SHUT_WR)
            while True:
                try:
                    data = await sock.recv(RECEIVE)
                except ConnectionResetError:
                    break  # a handler that was cancelled within its answer
                if not data:
                    break
                found = answers.feed(data)
                if awaited:
                    self._check(found, awaited)
                elif any(answer.status < 400 for answer in found):
                    raise ValueError(f"an answer to part of a request: {found!r}")

    def _check(self, found: list[Answer], tasks: list[Task]) -> None:
        if len(found) > len(tasks):
            raise ValueError(f"{len(found)} answers to {len(tasks)} requests")
        for answer, task in zip(found, tasks, strict=False):
            if (answer.status, answer.content) != (200, task.content):
                raise ValueError(
                    f"a wrong answer to {task.request[:60]!r}: {answer.status} {answer.content[:60]!r}"
                )
            self.counts["right"] += 1


def run(report: _load.Report, requests: int, seed: int, name: str) -> list[str]:
    """Break connections with one server; returns its cells."""
    with _load.running(name) as child:
        measure(child.port, 0.2)  # what is made once is made
        before = child.settled(child.facts())
        load = Load(child.port, seed)
        begin = time.monotonic()
        trio.run(load.run, requests // 2)
        elapsed = time.monotonic() - begin
        middle = child.settled(before)
        begin = time.monotonic()
        trio.run(load.run, requests)
        elapsed += time.monotonic() - begin
        after = child.settled(before)
        counts = load.counts
        breaks = sum(counts[kind] for kind in counts if " in a" in kind)
        grown = after["rss"] - middle["rss"]
        if load.wrong:
            report.remarks.append(f"{name}: {load.wrong[0]}")
        if name == _load.OURS:
            report.claim(f"no wrong answer in {counts['right']:,}", not load.wrong)
            for what in ("tasks", "fds"):
                values = [facts[what] for facts in (before, middle, after)]
                report.claim(f"{what} at 0, 50 and 100 %: {values}", max(values) == values[0])
            report.claim(
                f"memory from 50 to 100 %: {grown / 1024:+,.0f} KiB, slack {MEMORY_SLACK / 1024:,.0f}",
                grown <= MEMORY_SLACK,
            )
            objects, slack = after["objects"] - middle["objects"], object_slack(requests // 2)
            report.claim(f"objects from 50 to 100 %: {objects:+,}, slack {slack:,}", objects <= slack)
            report.claim(f"nothing in the server's log {child.log()[-200:]!r}", not child.log())
        return [
            f"{load.requests:,}",
            f"{counts['right']:,}",
            f"{breaks:,}",
            f"{len(load.wrong)}",
            f"{load.requests / elapsed:,.0f}",
            " / ".join(_load.mebibytes(facts["rss"]) for facts in (before, middle, after)),
        ]


def main() -> int:
    parser = _load.options(__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="in all, at least 2")
    given, servers = _load.begin(parser)
    requests = min(given.requests, 2000) if given.quick else given.requests
    columns = ["requests", "whole and right", "broken off", "wrong", "requests/s", "memory at 0 / 50 / 100 %"]
    report = _load.Report(f"{requests:,} requests with random disconnects", columns)
    _load.each(report, servers, functools.partial(run, report, requests, given.seed), "disconnects")
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
