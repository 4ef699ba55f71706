"""What others notice: a few clients on kept connections that ask for little, and how long each answer took.

A process of its own, so that the figures hold the server's delays and not those of the script that makes the
load. Run as a program it says that it is ready, and in the end writes one line of JSON into a file: a pipe
would be full before anybody read it, for who asks whether the probe is over does not read. `Probe` does both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import _load
import trio
from _apps import HELLO
from _client import RECEIVE, Answer, Answers, connect, get

PAUSE = 0.005
"""Seconds that a client waits between its requests: 8 clients ask about 1,300 times a second."""

GRACE = 30.0
"""Seconds for an answer after which it counts as failed. Arbitrary: far above what anybody would bear."""

READY = b"ready\n"


@dataclass(frozen=True, slots=True)
class Latencies:
    """What a probe saw.

    Attributes:
      seconds: how long each right answer took.
      failures: what went wrong otherwise, a line for each.
    """

    seconds: list[float]
    failures: list[str]

    def cell(self) -> str:
        """Return median, 99th percentile and maximum in milliseconds, and how many failed if any did."""
        figures = [_load.percentile(self.seconds, percent) for percent in (50, 99, 100)]
        text = " / ".join(_load.milliseconds(figure) for figure in figures)
        return f"{text}, {len(self.failures)} FAILED" if self.failures else text


class Probe:
    """A running probe: it measures for a while from when this returns, and `result` waits for its end.

    Its connections are there and have had an exchange each when this returns, so what begins then meets
    clients that are being served.

    Args:
      port: the server's.
      seconds: how long it asks.
      clients: how many kept connections it has.
    """

    def __init__(self, port: int, seconds: float, *, clients: int = 8) -> None:
        words = {"--port": port, "--seconds": seconds, "--clients": clients}
        command = [
            sys.executable,
            str(Path(__file__)),
            *(str(part) for pair in words.items() for part in pair),
        ]
        self._patience = seconds + GRACE + 30
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `result`
        command += ["--output", str(self._output.fileno())]
        # Unbuffered: what is not read here must be left to `communicate`.
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=[self._output.fileno()],
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != READY:
            self.result()
            raise RuntimeError("the probe did not begin")

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def result(self) -> Latencies:
        """Wait for its end and return what it saw.

        Raises:
          RuntimeError: it broke.
        """
        try:
            _, errors = self._process.communicate(timeout=self._patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        if self._process.returncode != 0:
            raise RuntimeError(f"the probe broke: {errors.decode().strip().rpartition(chr(10))[2]}")
        with self._output:
            self._output.seek(0)
            return Latencies(**json.loads(self._output.read()))

    def kill(self) -> None:
        """End it without a result."""
        self._process.kill()
        self._process.communicate()


def measure(port: int, seconds: float, *, clients: int = 8) -> Latencies:
    """Run a probe from beginning to end."""
    return Probe(port, seconds, clients=clients).result()


# The probe's own process.


class Asker:
    """One client of the probe, on one connection as long as that lasts.

    Args:
      port: the server's.
      seen: takes what it sees.
    """

    def __init__(self, port: int, seen: Latencies) -> None:
        self._port = port
        self._seen = seen
        self._sock: trio.socket.SocketType | None = None

    async def ask(self) -> None:
        """Have one exchange, on a new connection if need be."""
        begin = time.perf_counter()
        try:
            with trio.fail_after(GRACE):
                await self._exchange()
            self._seen.seconds.append(time.perf_counter() - begin)
        except (OSError, ValueError, trio.TooSlowError) as exc:
            self._seen.failures.append(f"{type(exc).__name__}: {exc}")
            if self._sock is not None:
                self._sock.close()
                self._sock = None

    async def ask_until(self, end: float, offset: float) -> None:
        """Ask with pauses until the monotonic clock shows `end`; an `offset` keeps clients out of step."""
        await trio.sleep(offset)
        while time.monotonic() < end:
            await self.ask()
            await trio.sleep(PAUSE)

    async def _exchange(self) -> None:
        if self._sock is None:
            self._sock = trio.socket.from_stdlib_socket(connect(self._port))
        answers = Answers()
        found: list[Answer] = []
        await self._sock.send(get("/hello"))
        while not found:
            data = await self._sock.recv(RECEIVE)
            if not data:
                raise ConnectionError("closed in place of an answer")
            found = answers.feed(data)
        if (len(found), found[0].status, found[0].content) != (1, 200, HELLO):
            raise ValueError(f"a wrong answer: {found!r}")


async def _main(port: int, seconds: float, clients: int) -> Latencies:
    seen = Latencies([], [])
    askers = [Asker(port, seen) for _ in range(clients)]
    for asker in askers:
        await asker.ask()
    seen.seconds.clear()
    print(READY.decode(), end="", flush=True)
    end = time.monotonic() + seconds
    async with trio.open_nursery() as nursery:
        for number, asker in enumerate(askers):
            nursery.start_soon(asker.ask_until, end, PAUSE * number / clients)
    return seen


def _be_the_probe() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--output", type=int, required=True, help="an open descriptor")
    given = parser.parse_args()
    seen = trio.run(_main, given.port, given.seconds, given.clients)
    with open(given.output, "w") as output:
        json.dump({"seconds": seen.seconds, "failures": seen.failures}, output)


if __name__ == "__main__":
    _be_the_probe()
