"""A server in a process of its own, as the one who looks at it sees it."""

from __future__ import annotations

import itertools
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

FOLDER = Path(__file__).resolve().parent
if str(FOLDER.parent) not in sys.path:
    sys.path.append(str(FOLDER.parent))  # behind this folder, whose names win

import _harness  # noqa: E402 - the line above is what makes it found

harness = _harness

HOST: Final = "127.0.0.1"
OURS, HYPERCORN, UVICORN, GRANIAN = "ours", "hypercorn", "uvicorn", "granian"
PEERS: Final = (HYPERCORN, UVICORN, GRANIAN)
WHOLE_SECONDS: Final = (UVICORN, GRANIAN)
"""Servers that take their grace in whole seconds only."""

LOOK: Final = 0.005
"""Seconds between two looks at what another process does. Figures of time are the process's own."""

START_SECONDS: Final = 30.0
_STARTING: Final = trio.CapacityLimiter(3)
"""So many servers start at once: each takes half a second of a processor."""

Facts = dict[str, Any]


class Contender:
    """A server in a child process.

    Attributes:
      name: of the server.
      port: where it listens.
      process: the child; it leads a process group of its own.
      grace: seconds that it was really given.
    """

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], port: int, grace: float, log: Any
    ) -> None:
        self.name = name
        self.port = port
        self.process = process
        self.grace = grace
        self._log = log
        self._reports: list[Facts] = []
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(b'{"report"'):
                self._reports.append(json.loads(line))
            else:
                self._lines.append(line.decode(errors="replace"))  # some log to standard output

    def command(self, *words: object) -> None:
        """Give the child a command; see `_child.py`."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        self.process.stdin.flush()

    def reports(self, key: str, *words: str) -> list[Facts]:
        """Return what was reported so far about `key`, of these kinds, in order."""
        return [said for said in list(self._reports) if said["key"] == key and said["report"] in words]

    async def reported(self, key: str, *words: str, seconds: float) -> Facts | None:
        """Wait for the first report about `key` of one of these kinds; None after `seconds`."""
        deadline = time.monotonic() + seconds
        while not (found := self.reports(key, *words)):
            if time.monotonic() > deadline:
                return None
            await trio.sleep(LOOK)
        return found[0]

    async def began(self, key: str) -> Facts:
        """Wait until the handler of the request with this key has begun.

        Raises:
          RuntimeError: it has not, in ten seconds.
        """
        report = await self.reported(key, "began", seconds=10)
        if report is None:
            raise RuntimeError(f"{self.name}: the handler did not begin; its log: {self.log()[-300:]!r}")
        return report

    async def served(self, seconds: float) -> float | None:
        """Wait until it has ended serving; return when, or None if that takes longer than `seconds`.

        What the interpreter takes to end after that is not counted, where the server lets one see.
        """
        deadline = time.monotonic() + seconds
        while not (found := self.reports("", "served")):
            if self.process.poll() is not None:
                return time.monotonic()
            if time.monotonic() > deadline:
                return None
            await trio.sleep(LOOK)
        at: float = found[0]["at"]
        return at

    def log(self) -> str:
        """Return what the server has logged so far."""
        self._log.seek(0)
        text: str = self._log.read()
        return text + "".join(self._lines)


_keys = itertools.count(1)


def new_key() -> str:
    """Return a key that no other request of this run has."""
    return f"k{next(_keys)}"


def _free_ports() -> Iterator[int]:
    """Give ports that nobody listens on, none of them twice, and none that the system gives to clients."""
    start = random.randrange(20_000, 28_000)
    for port in range(start, 32_000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        yield port


_ports = _free_ports()


@asynccontextmanager
async def running(
    name: str,
    *,
    grace: float = 1.0,
    tls: tuple[str, str] | None = None,
    ours: Mapping[str, Any] | None = None,
    passed: Sequence[tuple[str, socket.socket]] = (),
    systemd: str | None = None,
) -> AsyncIterator[Contender]:
    """Run a server for the length of a block, from when it accepts connections; then end its process group.

    Args:
      name: `OURS` or one of `PEERS`.
      grace: seconds; `WHOLE_SECONDS` round it up.
      tls: files of certificate and key, for TLS.
      ours: attributes of our `ServerConfig`, a group of them as a mapping; peers do not look at it.
      passed: listening sockets, handed to the child with their names as systemd does.
      systemd: the name of those that it is to serve, in place of a port.

    Raises:
      Absent: the server's library is not there.
      RuntimeError: it did not begin to listen within `START_SECONDS`.
    """
    settings = {"grace": grace, "tls": tls, "ours": dict(ours or {}), "systemd": systemd}
    port = next(_ports)
    command = [sys.executable, str(FOLDER / "_child.py"), f"--server={name}", f"--port={port}"]
    command.append(f"--settings={json.dumps(settings)}")
    if passed:
        command.append(f"--passed={','.join(str(sock.fileno()) for _, sock in passed)}")
        command.append(f"--names={':'.join(its_name for its_name, _ in passed)}")
    with tempfile.TemporaryFile("w+") as log:
        async with _STARTING:
            process = subprocess.Popen(  # noqa: ASYNC220 - takes a millisecond, and trio's has no reader thread
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=[sock.fileno() for _, sock in passed],
            )
            given = max(1.0, round(grace)) if name in WHOLE_SECONDS else grace
            child = Contender(name, process, port, given, log)
            try:
                await _wait_until_it_listens(child, asks_port=systemd is None)
            except BaseException:
                _end(process)
                raise
        try:
            yield child
        finally:
            _end(process)


async def _wait_until_it_listens(child: Contender, *, asks_port: bool) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if child.reports("", "ready") and (not asks_port or await _accepts(child.port)):
            return
        status = child.process.poll()
        if status is not None or time.monotonic() > deadline:
            last = child.log().strip().rpartition("\n")[2]
            if status == _harness.EXIT_ABSENT:
                raise _harness.Absent(last)
            raise RuntimeError(f"{child.name} does not listen: {last or 'no output'}")
        await trio.sleep(0.05)


async def _accepts(port: int) -> bool:
    try:
        await (await trio.open_tcp_stream(HOST, port)).aclose()
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    _harness.end_at_once(process)  # whatever was to be seen of it has been seen
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        try:
            pipe.close()
        except BrokenPipeError:
            pass
