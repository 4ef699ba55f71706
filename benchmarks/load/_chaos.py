"""A proxy for bytes that behaves like a bad network: it sits between a client and a server of the soak.

Each connection draws a kind of weather when it is accepted, and keeps it. The proxy knows nothing of HTTP or
TLS: what it breaks, it breaks at some byte of one direction.

| weather | what becomes of the connection |
|---|---|
| clear | bytes pass as they come |
| split | in pieces of 1 to 700 bytes, some of which wait a little |
| delay | each piece waits |
| stall | from some byte on one direction stands still for a while, and then goes on |
| dead | from some byte on one direction stands still, until a RST in both |
| reset | a RST in both directions behind some byte |
| end | a FIN in both directions behind some byte, in the midst of a message as it were |
| half | a FIN in one direction behind some byte; the other goes on for a while |
| refuse | a RST at once |
"""

from __future__ import annotations

import collections
import random
import socket
import struct

import trio

WEATHER = {
    "clear": 30,
    "split": 16,
    "delay": 14,
    "stall": 8,
    "dead": 1,
    "reset": 11,
    "end": 9,
    "half": 8,
    "refuse": 3,
}
"""Each kind, with how often it comes."""

RECEIVE = 64 * 1024
BREAK_BYTES = 5_000
"""After how many bytes of a direction something happens, on average. A small exchange has some 400, so that
many connections serve a few requests first.
"""

STALL_SECONDS = 0.2
"""The average stall that ends. Above the short deadlines of the soak, below the long ones."""

DEAD_SECONDS = 2.0
"""How long a dead connection is kept."""

HALF_SECONDS = 0.3
"""How long the other direction goes on when one has ended."""


class _Broken(Exception):
    """The connection is to be ended: with a RST if `hard`, else with a FIN."""

    def __init__(self, *, hard: bool) -> None:
        super().__init__(hard)
        self.hard = hard


class Chaos:
    """The proxies of a soak.

    Args:
      seed: of all weather.

    Attributes:
      counts: of connections, by weather.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"{seed} chaos")
        self._running: set[trio.CancelScope] = set()
        self.counts: collections.Counter[str] = collections.Counter()

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._running)

    def drop_all(self) -> None:
        """Reset all connections."""
        for scope in self._running:
            scope.cancel()

    async def serve(self, port: int, behind: int) -> None:
        """Accept on a port of the loopback interface and pass on to another one, until cancelled."""
        with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
            listener.setblocking(False)
            async with trio.open_nursery() as nursery:
                while True:
                    await trio.lowlevel.wait_readable(listener)
                    try:
                        client, _ = listener.accept()
                    except (BlockingIOError, ConnectionAbortedError):
                        continue
                    nursery.start_soon(self._pass_on, client, behind)

    async def _pass_on(self, client: socket.socket, behind: int) -> None:
        rng = random.Random(self._rng.random())
        weather = rng.choices(list(WEATHER), list(WEATHER.values()))[0]
        self.counts[weather] += 1
        hard = True  # whatever ends it without saying how: this process's end, or `drop_all`
        server = socket.socket()
        with client, server, trio.CancelScope() as scope:
            self._running.add(scope)
            try:
                for sock in (client, server):
                    sock.setblocking(False)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if weather != "refuse":
                    await _connect(server, behind)
                    hard = await self._both_ways(client, server, weather, rng)
            except OSError:
                pass  # the server is not there, or either end has reset
            finally:
                self._running.discard(scope)
                if hard:
                    for sock in (client, server):
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _both_ways(
        self, client: socket.socket, server: socket.socket, weather: str, rng: random.Random
    ) -> bool:
        """Pass on both ways until the connection ends or is broken; return whether it is to be reset."""
        pairs = [(client, server), (server, client)]
        rng.shuffle(pairs)
        hard = False
        try:
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                for index, (source, sink) in enumerate(pairs):
                    # The troubles that one direction has happen in the first of the shuffled pairs.
                    own = weather if index == 0 or weather in ("split", "delay") else "clear"
                    nursery.start_soon(_one_way, source, sink, own, rng, nursery.cancel_scope)
        except* _Broken as group:
            hard = any(exc.hard for exc in group.exceptions if isinstance(exc, _Broken))
        except* OSError:
            hard = True  # one end has reset, and so the other is told
        return hard


async def _one_way(
    source: socket.socket, sink: socket.socket, weather: str, rng: random.Random, both: trio.CancelScope
) -> None:
    """Pass on one way until its end, in its weather."""
    rest = rng.expovariate(1 / BREAK_BYTES) if weather not in ("clear", "split", "delay") else float("inf")
    while True:
        await trio.lowlevel.wait_readable(source)
        data = source.recv(RECEIVE)
        if not data:
            await _end(sink, both)
            return
        if weather == "delay":
            await trio.sleep(rng.expovariate(1 / 0.004))
        passed = data[: int(min(rest, len(data)))]
        for start, stop in _cuts(len(passed), weather, rng):
            await _send(sink, passed[start:stop])
            if weather == "split" and rng.random() < 0.05:
                await trio.sleep(rng.uniform(0, 0.01))
        rest -= len(passed)
        if rest >= 1:
            continue
        match weather:
            case "stall":
                await trio.sleep(rng.expovariate(1 / STALL_SECONDS))
                rest = float("inf")
                await _send(sink, data[len(passed) :])
            case "dead":
                await trio.sleep(DEAD_SECONDS)
                raise _Broken(hard=True)
            case "half":
                await _end(sink, both)
                return
            case _:
                raise _Broken(hard=weather == "reset")


def _cuts(length: int, weather: str, rng: random.Random) -> list[tuple[int, int]]:
    """Return the bounds of the pieces in which so many bytes go out."""
    if weather != "split":
        return [(0, length)]
    cuts, at = [], 0
    while at < length:
        # About two hundred pieces at most for what was received at once, so that it does not take for ever.
        size = rng.randint(1, max(700, length // 100))
        cuts.append((at, min(length, at + size)))
        at += size
    return cuts


async def _end(sink: socket.socket, both: trio.CancelScope) -> None:
    """Pass on the end of one direction; the other has `HALF_SECONDS` from now on."""
    both.deadline = min(both.deadline, trio.current_time() + HALF_SECONDS)
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it has broken already, and whoever passes on the other way is told so


async def _send(sink: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sink.send(rest) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sink)


async def _connect(sock: socket.socket, port: int) -> None:
    try:
        sock.connect(("127.0.0.1", port))
    except BlockingIOError:
        await trio.lowlevel.wait_writable(sock)
    if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, "no connection to the server")
