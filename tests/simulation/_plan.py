"""What a run is going to do: drawn from its seed before anything begins, to be printed and repeated.

A run has servers, clients and tasks. Each task makes a few requests, one after the other; each request has a
*manner*, which says how the client goes about it (`tests.simulation._manners`), and a handler, which says
what the server does with it (`tests.simulation._handlers`). Beside them stands what disturbs it: the weather,
limits that are too tight for anybody's comfort, cancels, clients that are closed and servers that are stopped
in the midst. Each of these is drawn for itself, so that there are runs with any of them and runs with none.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import attrs

#: All times of a plan are multiples of this, so that the clock jumps seldom, and things coincide often.
BEAT: Final = 0.25

#: Answers of all the sizes at which something changes: of one byte; in one piece with the head; more than one
#: receive brings (64 KiB); more than is on its way at once.
SIZES: Final = (1, 7, 100, 100, 100, 3000, 3000, 20_000, 70_000, 150_000)

#: "fair": some delay and any splitting, and nothing is lost; "slow": so that large bodies take seconds, too.
#: "foul": stalls, cuts, resets, refused dials.
WeatherKind: TypeAlias = Literal["clear", "fair", "slow", "foul"]

#: How a client's block ends in the midst.
Closing: TypeAlias = Literal["left", "cancelled", "raised"]

#: By which way a client goes to its servers. "proxy": an HTTP proxy that forwards; "tunnel": CONNECT.
Way: TypeAlias = Literal["direct", "proxy", "tunnel"]

#: How often each manner is drawn.
MANNERS: Final = {
    "get": 8, "head": 2, "post": 4, "upload": 4, "expect": 2, "compress": 2, "refused": 3, "redirect": 3,
    "redirect_post": 2, "gzip": 2, "trailers": 2, "inform": 2, "stream": 3, "leave": 4, "echo": 3, "race": 2,
    "warm": 1, "retry": 2, "torn": 2, "late": 1, "source_fails": 1, "gateway": 3, "alone": 2, "fails": 1,
    "cookie": 2,
}  # fmt: skip

#: What a plain request is answered by.
PLAIN: Final = ("plain", "plain", "sleep", "stream", "finish", "drain", "children")

#: What content is met with.
TAKING: Final = ("take", "take", "take", "take_part", "take_slowly")


@attrs.frozen
class Moment:
    """When something happens that does not go by what others do.

    Attributes:
      at: seconds from the beginning: of the run, or of the request that is cancelled.
      steps: checkpoints after that.
    """

    at: float
    steps: int


@attrs.frozen(kw_only=True)
class Errand:
    """One request that a task makes.

    Attributes:
      id: says whose it is; unlike that of any other, and never part of another's.
      manner: how the client goes about it.
      handler: what the server does.
      client: which of the clients makes it, from 0.
      host: of the server.
      size: bytes of the answer's content.
      body: bytes of the request's content.
      pause: seconds between pieces, of whoever is slow.
      wait: seconds before it begins.
      cancel: when another task cancels it; None: never.
      seconds: after which its own deadline passes; None: it has none.
    """

    id: str
    manner: str
    handler: str
    client: int
    host: str
    size: int
    body: int
    pause: float
    wait: float
    cancel: Moment | None
    seconds: float | None


@attrs.frozen(kw_only=True)
class PlannedClient:
    """A client.

    Attributes:
      max_connections, max_connections_per_origin, idle_seconds, dial_seconds, decode: as in `ClientConfig`.
      retries: attempts that its `Retry` makes; 1: it has none.
      cookies: it keeps them.
      way: how its requests go.
      closed: when its block ends; None: when everything is over.
      closing: how it ends then.
    """

    max_connections: int
    max_connections_per_origin: int
    idle_seconds: float
    dial_seconds: float
    decode: bool
    retries: int
    cookies: bool
    way: Way
    closed: Moment | None
    closing: Closing


@attrs.frozen(kw_only=True)
class PlannedServer:
    """A server.

    Attributes:
      host: its name.
      tls: it is reached over TLS.
      tight: its limits are such that they are met; it may refuse what is in order.
      max_connections, excess, max_requests, drain_bytes, linger_bytes, half_close: as in `ServerConfig`.
      stopped: when it is shut down; None: when everything is over.
      grace: seconds that it has for that.
      again: seconds after which another one takes its place; None: never.
    """

    host: str
    tls: bool
    tight: bool
    max_connections: float
    excess: Literal["wait", "refuse"]
    max_requests: float
    drain_bytes: int
    linger_bytes: int
    half_close: Literal["cancel", "answer"]
    stopped: Moment | None
    grace: float
    again: float | None

    @property
    def port(self) -> int:
        """Where it listens."""
        return 443 if self.tls else 80

    @property
    def origin(self) -> str:
        """The origin of its URLs."""
        return f"{'https' if self.tls else 'http'}://{self.host}"


@attrs.frozen(kw_only=True)
class Plan:
    """A run.

    Attributes:
      weather: of the network.
      servers, clients: what there is. The last server is the gate, which forwards to the others.
      tasks: what each task does, in order.
    """

    weather: WeatherKind
    servers: tuple[PlannedServer, ...]
    clients: tuple[PlannedClient, ...]
    tasks: tuple[tuple[Errand, ...], ...]

    @property
    def is_calm(self) -> bool:
        """There is no reason for anything to fail."""
        return (
            self.weather != "foul"
            and not any(server.tight or server.stopped for server in self.servers)
            and not any(client.closed for client in self.clients)
            and not any(errand.cancel or errand.seconds for task in self.tasks for errand in task)
        )


def drawn(chance: random.Random) -> Plan:
    """Return the plan that ``chance`` leads to."""
    weather: WeatherKind = chance.choice(["clear", "fair", "slow", "foul", "foul"])
    tight, stops, closes, cancels = (chance.random() < share for share in (0.35, 0.35, 0.25, 0.6))
    hosts = ["a.test", "b.test"][: chance.choice([1, 1, 2])]
    servers = tuple(_server(chance, host, tight=tight, stops=stops) for host in (*hosts, "gate.test"))
    clients = tuple(_client(chance, closes=closes) for _ in range(chance.choice([1, 1, 2, 3])))
    tasks = []
    # Many small runs find more than few large ones in the same time; some are crowded all the same. But a
    # connection has to be used again: with 1.2 errands a task, a POST that was sent twice was found in 5 of
    # 2,000 runs, and with 1.8 in 15 of 500.
    for number in range(chance.choice([2, 2, 3, 3, 4, 5, 6, 16])):
        errands = []
        for index in range(chance.choice([1, 1, 2, 2, 3])):
            # Without one, a request may wait for ever for a connection that the network has forgotten.
            patience = 60.0 if weather == "foul" else None
            errands.append(
                _errand(
                    chance, f"({number}.{index})", hosts, len(clients), cancels=cancels, patience=patience
                )
            )
        tasks.append(tuple(errands))
    return Plan(weather=weather, servers=servers, clients=clients, tasks=tuple(tasks))


def moment(chance: random.Random, beats: Sequence[int] = range(13)) -> Moment:
    """Return a moment at which much may be under way: on a beat, or wherever the network's times lead."""
    at = chance.choice(beats) * BEAT
    if chance.random() < 0.5:
        at += chance.random() * BEAT
    return Moment(at, chance.choice([0, 0, 1, 2, 3, 5, 8, 13, 21, 34, 55]))


def _server(chance: random.Random, host: str, *, tight: bool, stops: bool) -> PlannedServer:
    stopped = moment(chance) if stops and chance.random() < 0.6 else None
    return PlannedServer(
        host=host,
        tls=chance.random() < 0.3,
        tight=tight,
        max_connections=chance.choice([float("inf"), 2, 5]) if tight else float("inf"),
        # The gate asks itself, and would wait for itself.
        excess="refuse" if host == "gate.test" else chance.choice(["wait", "refuse"]),
        max_requests=chance.choice([float("inf"), float("inf"), 1, 3]),
        drain_bytes=chance.choice([0, 1000, 65536]),
        linger_bytes=chance.choice([0, 100_000]) if tight else 4 << 20,
        half_close=chance.choice(["cancel", "answer"]),
        stopped=stopped,
        grace=chance.choice([0, 0.25, 1, 3]),
        again=chance.choice([None, 0, 0.25, 2]),
    )


def _client(chance: random.Random, *, closes: bool) -> PlannedClient:
    return PlannedClient(
        max_connections=chance.choice([1, 2, 3, 4]),
        max_connections_per_origin=chance.choice([1, 2, 4]),
        idle_seconds=chance.choice([0.5, 2.0, 15.0]),
        dial_seconds=chance.choice([1.0, 5.0]),
        decode=chance.random() < 0.9,
        retries=chance.choice([1, 1, 2, 3]),
        cookies=chance.random() < 0.5,
        way=chance.choice(["direct", "direct", "direct", "direct", "proxy", "tunnel"]),
        closed=moment(chance) if closes and chance.random() < 0.6 else None,
        closing=chance.choice(["left", "cancelled", "raised"]),
    )


def _errand(
    chance: random.Random,
    id_: str,
    hosts: list[str],
    clients: int,
    *,
    cancels: bool,
    patience: float | None,
) -> Errand:
    manner = chance.choices(list(MANNERS), list(MANNERS.values()))[0]
    wait = chance.choice([0, 0, 0, 1, 2, 5]) * BEAT
    kind = chance.random() if cancels else 1.0
    return Errand(
        id=id_,
        manner=manner,
        handler=chance.choice(TAKING if manner in ("post", "upload", "expect") else PLAIN),
        client=chance.randrange(clients),
        host=chance.choice(hosts),
        size=chance.choice(SIZES) + chance.randrange(20),
        body=chance.choice([1, 1, 100, 100, 5000, 20_000, 100_000]) - (manner in ("post", "upload")),
        pause=chance.choice([0, 0, 1, 2]) * BEAT,
        wait=wait,
        cancel=moment(chance, (0, 0, 0, 0, 1, 1, 2, 5)) if kind < 0.35 else None,
        seconds=chance.randrange(12) * BEAT if 0.35 <= kind < 0.5 else patience,
    )
