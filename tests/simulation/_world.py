"""A run: servers, clients and their network, played by a plan; and what must hold in it and after it."""

from __future__ import annotations

import collections
import hashlib
import math
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio
import trio.testing

from tests.simulation._handlers import Rendezvous, Site, Squall
from tests.simulation._invariants import (
    Books,
    Complaints,
    Reason,
    Witness,
    check_executions,
    check_stopped,
    unexcused,
)
from tests.simulation._manners import Caller, take_turn
from tests.simulation._plan import Errand, Moment, Plan, PlannedClient, PlannedServer
from tests.simulation._tls import contexts
from tests.simulation._totals import Totals
from trio_http import Client, ClientStatistics, Proxy, Retry, Server, ServerConfig, ServerRates, ServerTimes
from trio_http.client._origin import Origin
from trio_http.client._tunnel import open_tunnel
from trio_http.server import Handler, serve_listeners
from trio_http.testing import Simulation, Weather
from trio_http.transport import TransportStream, tls_over, transport_over
from trio_http.wire import Limits

#: Nothing is lost.
FAIR: Final = Weather(latency=(0.0, 0.05), jitter=(0.0, 0.02), split=0.15, split_bytes=(1, 64))

#: Arbitrary: the largest bodies take some seconds.
SLOW: Final = attrs.evolve(FAIR, bytes_per_second=50_000)

#: About one connection in four comes to no good. Arbitrary: so that a good part of the requests succeeds.
FOUL: Final = Weather(
    latency=(0.0, 0.1), jitter=(0.0, 0.1), split=0.15, split_bytes=(1, 64), stall=0.02,
    stall_seconds=(0.1, 5.0), reset=0.01, cut=0.01, silence=0.005, dial_refused=0.03, black_hole=0.02,
)  # fmt: skip

WEATHERS: Final = {"clear": Weather(), "fair": FAIR, "slow": SLOW, "foul": FOUL}

#: Where it never rains: to see at the end that a client is as good as new.
FRESH: Final = "fresh.test"

#: No run is longer, in virtual seconds; in foul weather each request has 60 of its own.
BOUND: Final = 1000.0

#: Of these, the end of their client is the end at once: they have no pauses of their own.
PROMPT: Final = frozenset(
    ["get", "head", "post", "expect", "compress", "gzip", "inform", "trailers", "alone"]
)

#: A cancel is over when it was given: what is left is rounding.
SLACK: Final = 1e-6


class World:
    """One run.

    Args:
      simulation: its seed, network and clock.
      plan: what is to be done.
      site: what the servers do; None: `Site`.
      perform: does an errand.

    Attributes:
      plan: as given.
      log: a line for each end of an errand, and for what else happened.
      totals: what happened, counted.
    """

    def __init__(
        self,
        simulation: Simulation,
        plan: Plan,
        make_site: Callable[[Callable[[str, int], Awaitable[Any]], dict[str, str]], Site] = Site,
        perform: Callable[[Caller], Awaitable[object]] = take_turn,
    ) -> None:
        self.plan = plan
        self.log: list[str] = []
        self.totals = Totals()
        self._network = simulation.network
        self._seed = simulation.seed
        self._perform = perform
        self._planned_servers = {server.host: server for server in plan.servers}
        self._origins = {server.host: server.origin for server in plan.servers}
        gate = self._planned("gate.test")
        self._proxy = Proxy.from_url(
            f"{gate.origin}:{gate.port}", ssl_context=contexts()[0] if gate.tls else None
        )
        self._site = make_site(lambda host, port: self._network.dial(host, port, "http"), self._origins)
        self._servers: dict[str, tuple[Server, trio.Event]] = {}
        self._clients: list[Client] = []
        self._books: list[Books] = []
        self._dials: collections.Counter[Books] = collections.Counter()
        self._witnesses: list[Witness] = []
        self._reasons: set[tuple[Reason, object]] = set()  # what has happened, and to which client or host
        self._closings: list[trio.Event] = []
        self._closed_at: dict[int, float] = {}
        self._begun = trio.current_time()
        self._over = False
        self._waiting: set[trio.CancelScope] = set()

    async def play(self) -> None:
        """Do everything, and see that all is well.

        Raises:
          AssertionError: something is not.
        """
        tasks_before = trio.lowlevel.current_statistics().tasks_living
        with Complaints() as complaints:
            async with trio.open_nursery() as nursery:
                await self._play_in(nursery)
        assert not self._site.faults, self._site.faults
        assert self._site.inside == 0, f"{self._site.inside} handlers were left behind"
        for books in self._books:
            books.see_all_is_settled(self._dials[books])
        for witness in self._witnesses:
            witness.check()
            self.totals.counts["closings"].update(witness.closings)
            self.totals.count("runs", "connections refused", witness.refused)
        check_executions(self._site.executed, self._books, self._witnesses)
        complaints.check()
        tasks = trio.lowlevel.current_statistics().tasks_living
        assert tasks == tasks_before, f"{tasks} tasks live, and before there were {tasks_before}"
        self.totals.count("runs", "played")
        self.totals.count("runs", "in which nothing had a reason to fail", self.plan.is_calm)

    def digest(self) -> str:
        """Return what happened, in short."""
        return hashlib.blake2b("\n".join(self.log).encode(), digest_size=16).hexdigest()

    async def _play_in(self, nursery: trio.Nursery) -> None:
        for planned in self.plan.servers:
            await self._start_server(nursery, planned.host, self._site, self._config(planned))
        async with self._opened_client(None) as self._site.client:
            async with trio.open_nursery() as clients:
                for number, _ in enumerate(self.plan.clients):
                    self._closings.append(trio.Event())
                    self._clients.append(await clients.start(self._run_client, number))
                await self._play_tasks(nursery)
                await self._see_clients(nursery)
                for closing in self._closings:
                    closing.set()
            for host in list(self._servers):
                await self._stop_server(host, self._planned(host).grace if host != FRESH else 0)
            await trio.sleep(6)  # dials of the gate's client may go on
            counts = self._site.client.statistics()
            assert (counts.leased, counts.waiting, counts.dialing) == (0, 0, 0), (
                f"the gate's client: {counts}"
            )

    async def _play_tasks(self, nursery: trio.Nursery) -> None:
        async with trio.open_nursery() as fates:
            for number, client in enumerate(self.plan.clients):
                if client.closed is not None:
                    fates.start_soon(self._close_client_later, number, client.closed)
            for server in self.plan.servers:
                if server.stopped is not None:
                    fates.start_soon(self._stop_server_later, nursery, server, server.stopped)
            async with trio.open_nursery() as tasks:
                for errands in self.plan.tasks:
                    tasks.start_soon(self._run_errands, fates, errands)
            self._over = True
            for scope in self._waiting:
                scope.cancel()

    async def _has_come(self, moment: Moment, begin: float) -> bool:
        """Wait for a moment; tell whether it came before all errands were done."""
        if self._over:
            return False
        with trio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                await trio.sleep_until(begin + moment.at)
                for _ in range(moment.steps):
                    await trio.lowlevel.checkpoint()
            finally:
                self._waiting.discard(scope)
        return not scope.cancelled_caught

    def _note(self, what: str) -> None:
        self.log.append(f"{trio.current_time() - self._begun:9.4f} {what}")

    # -- servers ---------------------------------------------------------------------------------------------

    def _planned(self, host: str) -> PlannedServer:
        return self._planned_servers[host]

    def _config(self, planned: PlannedServer) -> ServerConfig:
        luck = random.Random(f"{self._seed}/{planned.host}")
        times, rates = ServerTimes(), ServerRates()
        if planned.tight:
            times = ServerTimes(
                head=4, head_stall=2, idle=luck.choice([1, 6]), body_stall=2, write_stall=2, answer=1,
                linger=1, request=luck.choice([float("inf"), float("inf"), 2.1]),
            )  # fmt: skip
            rates = luck.choice([ServerRates(), ServerRates(head=0, body=0, response=0)])
        return ServerConfig(
            times=times,
            rates=rates,
            max_connections=planned.max_connections,
            excess=planned.excess,
            max_requests=planned.max_requests,
            drain_bytes=planned.drain_bytes,
            linger_bytes=planned.linger_bytes,
            half_close=planned.half_close,
            connect=planned.host == "gate.test",
            date=False,
            server_name=None,
            edge_poll=False,
        )

    async def _start_server(
        self, nursery: trio.Nursery, host: str, handler: Handler, config: ServerConfig
    ) -> None:
        witness = Witness()
        self._witnesses.append(witness)
        planned = self._planned_servers.get(host)
        listener: trio.abc.Listener[Any] = self._network.listen(host, planned.port if planned else 80)
        if planned and planned.tls:
            listener = trio.SSLListener(listener, contexts()[1], https_compatible=True)
        ended = trio.Event()

        async def serve(task_status: trio.TaskStatus[Server]) -> None:
            given = attrs.evolve(config, instruments=[witness])
            await serve_listeners(handler, [listener], config=given, task_status=task_status)
            ended.set()

        self._servers[host] = await nursery.start(serve), ended

    async def _stop_server(self, host: str, grace: float) -> None:
        """Shut a server down; see that it ends in time, with nothing left."""
        server, ended = self._servers.pop(host)
        self._reasons.add(("server stopped", host))
        begun = trio.current_time()
        await server.shutdown(grace)
        late = trio.current_time() - begun - grace
        assert late <= SLACK, f"the shutdown of {host} took {late} s longer than its {grace} s"
        with trio.move_on_after(5):
            await ended.wait()
        assert ended.is_set(), f"{host} did not end within 5 s of its shutdown: {server.snapshot()}"
        check_stopped(server)
        self._note(f"{host} stopped")

    async def _stop_server_later(self, nursery: trio.Nursery, planned: PlannedServer, moment: Moment) -> None:
        if not await self._has_come(moment, self._begun):
            return
        self.totals.count("events", "server stopped")
        await self._stop_server(planned.host, planned.grace)
        if planned.again is not None:
            await trio.sleep(planned.again)
            await self._start_server(nursery, planned.host, self._site, self._config(planned))
            self.totals.count("events", "server started again")
            self._note(f"{planned.host} started again")

    # -- clients ---------------------------------------------------------------------------------------------

    def _opened_client(self, planned: PlannedClient | None) -> Client:
        """Return a client of that kind; None: the gate's."""
        books = Books("gate" if planned is None else "client")
        self._books.append(books)

        async def dial(host: str, port: int, scheme: str) -> Any:
            self._dials[books] += 1
            if planned is not None and planned.way == "tunnel" and host != FRESH:
                return await self._dial_through_gate(host, port)
            return await self._network.dial(host, port, scheme)

        if planned is None:
            return Client(dial=dial, instruments=[books], dial_seconds=5.0, ssl_context=contexts()[0])
        retry = None
        if planned.retries > 1:
            retry = Retry(attempts=planned.retries, backoff=0.25, rng=random.Random(self._seed))
        proxied = planned.way == "proxy"
        client = Client(
            dial=None if proxied else dial,
            proxy=(lambda origin: None if origin.host == FRESH else self._proxy) if proxied else None,
            instruments=[books],
            max_connections=planned.max_connections,
            max_connections_per_origin=planned.max_connections_per_origin,
            idle_seconds=planned.idle_seconds,
            dial_seconds=planned.dial_seconds,
            decode=planned.decode,
            cookies=planned.cookies,
            retry=retry,
            ssl_context=contexts()[0],
        )
        if proxied:
            # A dial of the caller's takes the place of proxies, too; so the network takes the place of TCP,
            # one step further down.
            async def connected(host: str, port: int, times: Any) -> trio.abc.Stream:
                stream: trio.abc.Stream = await dial(host, port, "http")
                times.connected = trio.current_time()
                return stream

            client._pool._dialer._connected_by_tcp = connected  # type: ignore[method-assign,assignment]
        return client

    async def _dial_through_gate(self, host: str, port: int) -> Any:
        gate = self._planned("gate.test")
        stream = await self._network.dial("gate.test", gate.port)
        if gate.tls:
            transport = await tls_over(stream, contexts()[0], server_hostname="gate.test")
        else:
            transport = transport_over(stream)
        try:
            target = Origin("https" if self._planned(host).tls else "http", host, port)
            await open_tunnel(transport, target, self._proxy, Limits())
        except BaseException:
            await transport.aclose_forcefully()
            raise
        # A transport with TLS would be taken for one to the origin, where it is one to the gate.
        return TransportStream(transport) if gate.tls else transport

    async def _dial_alone(self, host: str) -> trio.abc.Stream:
        """Connect to a server without a client."""
        planned = self._planned(host)
        stream = await self._network.dial(host, planned.port)
        if not planned.tls:
            return stream
        return trio.SSLStream(stream, contexts()[0], server_hostname=host, https_compatible=True)

    async def _run_client(self, number: int, task_status: trio.TaskStatus[Client]) -> None:
        planned = self.plan.clients[number]
        raised = False
        with trio.CancelScope() as scope:
            try:
                async with self._opened_client(planned) as client:
                    task_status.started(client)
                    await self._closings[number].wait()
                    if self._over:
                        return
                    self._reasons.add(("client closed", number))
                    self._closed_at[number] = trio.current_time()
                    self.totals.count("events", f"client {planned.closing}")
                    if planned.closing == "cancelled":
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
                    elif planned.closing == "raised":
                        raise Squall("the block of a client")
            except Squall:
                raised = True
        assert raised == (planned.closing == "raised"), (
            f"the block of client {number} did not end as it was left"
        )
        assert scope.cancelled_caught == (planned.closing == "cancelled"), "the block's cancel was swallowed"
        self._note(f"client {number} closed, {planned.closing}")

    async def _close_client_later(self, number: int, moment: Moment) -> None:
        if await self._has_come(moment, self._begun):
            self._closings[number].set()

    async def _see_clients(self, nursery: trio.Nursery) -> None:
        """See that every client that is open holds nothing, and has all its connections to give."""
        await trio.sleep(6)  # dials may go on for others
        await trio.testing.wait_all_tasks_blocked()
        is_open = [number for number, closing in enumerate(self._closings) if not closing.is_set()]
        counts = {}
        for number in is_open:
            planned = self.plan.clients[number]
            counts[number] = min(planned.max_connections, planned.max_connections_per_origin)
            self._see_quiet(self._clients[number])
        await self._start_server(nursery, FRESH, Rendezvous(counts), ServerConfig(edge_poll=False))
        with trio.move_on_after(50) as scope:
            async with trio.open_nursery() as requests:
                for number in is_open:
                    for each in range(counts[number]):
                        requests.start_soon(self._ask_fresh, self._clients[number], f"/{number}/{each}")
        assert not scope.cancelled_caught, (
            "a client could not have all its connections at once: "
            + ", ".join(
                f"client {number} wants {counts[number]}, {self._clients[number].statistics()}"
                for number in is_open
            )
        )
        for number in is_open:
            self._see_quiet(self._clients[number])
        await self._stop_server(FRESH, 0)

    async def _ask_fresh(self, client: Client, path: str) -> None:
        response = await client.get(f"http://{FRESH}{path}", retry=None)
        assert response.text == path

    def _see_quiet(self, client: Client) -> None:
        counts: ClientStatistics = client.statistics()
        assert (counts.leased, counts.waiting, counts.dialing) == (0, 0, 0), f"{counts}"
        client._pool.ledger.check()

    # -- errands ---------------------------------------------------------------------------------------------

    async def _run_errands(self, fates: trio.Nursery, errands: tuple[Errand, ...]) -> None:
        for errand in errands:
            await trio.sleep(errand.wait)
            await self._run_errand(fates, errand)

    async def _run_errand(self, fates: trio.Nursery, errand: Errand) -> None:
        scope = trio.CancelScope()
        given: list[float] = []
        begin = trio.current_time()
        if errand.seconds is not None:
            scope.deadline = begin + errand.seconds
        if errand.cancel is not None:
            fates.start_soon(self._cancel_later, errand.cancel, scope, given)
        books = Books()
        caller = Caller(
            errand,
            self._clients[errand.client],
            self.plan.clients[errand.client],
            self._origins,
            self._dial_alone,
            [books],
        )
        outcome = "complete"
        met = False
        try:
            with scope:
                try:
                    await self._perform(caller)
                except trio.Cancelled:
                    met = True
                    # Or else the whole run is given up.
                    given_up = trio.current_effective_deadline() == -math.inf
                    assert scope.cancel_called or given_up, f"{errand.id} met a cancel that nobody gave"
                    raise
        except AssertionError:
            raise
        except Squall:
            assert errand.manner in ("leave", "source_fails"), f"{errand.id} raised what another one has to"
            outcome = "raised on purpose"
        except Exception as exc:  # judged: there is a reason, or it is a failure of the run
            why = unexcused(exc, self._reasons_of(errand, scope))
            if why is not None:
                raise AssertionError(f"{errand} failed: {why}") from exc
            outcome = type(exc).__name__
        now = trio.current_time()
        limit = min([scope.deadline, *given])
        assert now <= limit + SLACK, f"{errand.id} was cancelled at {limit} and ended at {now}: {outcome}"
        assert scope.cancelled_caught == met, f"{errand.id} met a cancel that was another's"
        assert outcome != "complete" or caller.done or met, f"{errand.id} swallowed a cancel"
        if outcome == "PoolClosed" and errand.manner in PROMPT and caller.planned.retries == 1:
            over = max(begin, self._closed_at[errand.client])
            assert now <= over + SLACK, f"{errand.id} ended {now - over} s after its client was closed"
        if met:
            outcome = "cancelled"
        caller.client._pool.ledger.check()
        if books.finished:
            self._books.append(books)
        self._see_reports(caller)
        self.totals.count("manners", errand.manner)
        self.totals.count("outcomes", outcome)
        if outcome == "complete" or (outcome == "raised on purpose" and errand.manner == "source_fails"):
            self.totals.count("as wanted", errand.manner)
        self._note(f"{errand.id} {errand.manner} {outcome}")

    async def _cancel_later(self, moment: Moment, scope: trio.CancelScope, given: list[float]) -> None:
        if await self._has_come(moment, trio.current_time()):
            given.append(trio.current_time())
            scope.cancel(reason="as planned")
            for server, _ in self._servers.values():
                server.snapshot()

    def _reasons_of(self, errand: Errand, scope: trio.CancelScope) -> set[Reason]:
        """Return what an errand may fail for by now, in its scope."""
        hosts = {errand.host}
        if errand.manner == "gateway" or self.plan.clients[errand.client].way != "direct":
            hosts.add("gate.test")
        reasons: set[Reason] = {
            reason for reason, whose in self._reasons if whose in hosts or whose == errand.client
        }
        if any(self._planned(host).tight for host in hosts):
            reasons.add("server tight")
        # A dial is over when TLS is; and a tunnel, when the gate has answered.
        way = self.plan.clients[errand.client].way
        tunnelled = way == "tunnel" or (way == "proxy" and self._planned(errand.host).tls)
        if any(
            planned.tight and (planned.tls or (tunnelled and host == "gate.test"))
            for host, planned in ((host, self._planned(host)) for host in hosts)
        ):
            reasons.add("dial tight")
        if self.plan.weather == "foul":
            reasons.add("foul weather")
        # Also once it is cancelled and has yet to be told: then the answer that is there comes out.
        if errand.manner == "retry" and (errand.seconds is not None or scope.cancel_called):
            reasons.add("no time to try again")
        return reasons

    def _see_reports(self, caller: Caller) -> None:
        """See that the reports of a request agree with one another."""
        attempts = [report.attempt for report in caller.reports]
        assert attempts == sorted(set(attempts)), f"{caller.errand.id} was reported twice: {caller.reports}"
        for report in caller.reports:
            assert report.finished <= trio.current_time()
            assert report.outcome != "complete" or report.may_have_acted, f"{report}"
