"""The scars of others: what users of other HTTP programs have asked for or suffered, as scenes of ours.

The rows are those of the catalogue of wishes and complaints, A47 to A73. `ROWS` says for each where it is
played, and what is only told of here. A row that is not about cancelling has the cancel's side of it: in a
retry's wait, in a rate limit's, in a handshake with a certificate of the client's.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import math
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType

import pytest
import trio
import trustme
from trio.testing import MockClock

from tests._forwarding import ForwardingStream
from tests.cancellation._houses import Visit, break_at_every_step, sweep_visitor, tls_contexts
from tests.cancellation._tunnels import TunnelledTLS, open_way
from tests.cancellation._worlds import CONFIG, Network, lands_in, sweep_client
from trio_http import CancelReason, Request, Response, serve_connection
from trio_http.client import Client
from trio_http.client._origin import Origin
from trio_http.testing import MemoryStream, cancel_at_every_step, memory_pair
from trio_http.transport import Transport, tls_over

#: By row: where it is played, as file and test; or, alone, why there is nothing to play.
ROWS: dict[str, str] = {
    "A47": "test_scars.test_a_cancelled_request_costs_no_room_in_the_pool",
    "A48": "test_scars.test_a_stream_that_never_ends_its_close_keeps_nobody",
    "A49": "test_scars.test_a_server_that_drips_is_left_when_the_deadline_says_so",
    "A50": "test_contents.test_content_that_is_cancelled_leaves_nothing_behind",
    "A51": "test_pool.test_a_kept_connection_that_the_server_closes_in_the_moment_it_is_used",
    "A52": "test_accounts.test_a_retry_that_is_cancelled_in_its_wait_gives_its_token_back",
    "A53": "test_client.test_an_interim_response_is_passed_over",
    "A54": "test_contents.test_content_that_is_cancelled_leaves_nothing_behind",
    "A55": "test_scars.test_many_waiters_that_are_cancelled_at_once_cost_each_the_same",
    "A56": "test_flow.test_a_request_of_several_exchanges_that_is_cancelled_holds_nothing",
    "A57": "test_client.test_a_streamed_answer_that_is_left_half_way",
    "A58": "test_scars.test_tls_in_a_tunnel_in_tls_is_let_go_of_by_everybody",
    "A59": "test_scars.test_a_handshake_with_a_certificate_of_the_clients_and_a_context_by_origin",
    "A60": "test_compound.test_attempts_to_connect_side_by_side_leave_no_socket",
    "A61": "test_scars.test_a_read_that_was_given_up_poisons_no_later_request",
    "A62": "a cache: the package has none",
    "A63": "test_scars.test_a_server_that_drips_is_left_when_the_deadline_says_so",
    "A64": "test_client.test_a_get",
    "A65": "test_client.test_a_streamed_answer_that_is_read_to_its_end",
    "A66": "test_client.test_opening_using_and_closing_a_client",
    "A67": "test_routes.test_a_way_that_is_cancelled_is_free_again",
    "A68": "test_client.test_a_whole_test_with_a_client_in_memory",
    "A69": "test_server_serving.test_a_connection_belongs_to_somebody_in_each_moment_of_its_accepting",
    "A70": "test_contents.test_files_that_are_cancelled_leave_nothing_behind",
    "A71": "test_compound.test_a_line_that_is_not_waited_for_is_not_lost",
    "A72": "test_client.test_a_streamed_post_by_a_generator_which_is_closed",
    "A73": "test_scars.test_a_handler_that_has_borrowed_gives_back_whoever_goes",
}


def test_every_row_has_its_place() -> None:
    assert list(ROWS) == [f"A{number}" for number in range(47, 74)]
    for row, place in ROWS.items():
        if ":" in place:
            continue
        file, _, name = place.partition(".")
        source = Path(__file__).with_name(f"{file}.py").read_text("utf-8")
        names = {
            node.name
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in names, f"{row}: there is no {place}"


async def slow(request: Request) -> Response:
    await trio.sleep(3)
    return Response(text=request.path)


async def test_a_cancelled_request_costs_no_room_in_the_pool(autojump_clock: MockClock) -> None:
    """A47 (a pool whose slots leak with each cancel, until nobody gets one): after each cancel all the room
    that there was can be used at the same time."""

    async def answer(request: Request) -> Response:
        return Response(text="fresh") if request.path == "/fresh" else await slow(request)

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Network]:
        async with (
            Network(answer, dial_seconds=1).opened() as net,
            Client(base_url="http://a", dial=net.dial, max_connections=3) as net.client,
        ):
            yield net

    async def scenario(net: Network) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(net.client.get, f"/{number}")

    async def check(net: Network) -> None:
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(net.client.get, f"/{number}")
        took = trio.current_time() - start
        assert took <= 1 + 3 + 1e-6, f"three requests had to wait for each other, and took {took} s"

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "_wait")


class _Clinging(ForwardingStream[MemoryStream]):
    """A stream whose close waits for ever, as one that says goodbye to a peer who does not answer."""

    async def aclose(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.inner.close()


async def test_a_stream_that_never_ends_its_close_keeps_nobody(autojump_clock: MockClock) -> None:
    """A48 (a shielded close without a deadline hangs; one without a shield loses state): cancelled anywhere,
    a whole client is gone at once, and left alone it waits a bounded time at most."""
    began = 0.0

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Network]:
        nonlocal began
        async with Network(slow).opened() as net:
            began = trio.current_time()
            yield net

    async def scenario(net: Network) -> None:
        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            stream = await net.dial(host, port, scheme)
            assert isinstance(stream, MemoryStream)
            return _Clinging(stream)

        async with Client(base_url="http://a", dial=dial) as client:
            assert (await client.get("/1")).text == "/1"
            with trio.move_on_after(1):
                await client.get("/2")
            async with client.stream("GET", "/3"):
                pass

    def check(net: Network) -> None:
        took = trio.current_time() - began
        assert took <= 3 + 1 + 3 + 5, f"it took {took} s"
        assert all(stream.closed for stream in net.streams)

    await cancel_at_every_step(scenario, world=world, check=check)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
async def test_a_server_that_drips_is_left_when_the_deadline_says_so(
    whole: bool, autojump_clock: MockClock
) -> None:
    """A49, A63 (a byte now and then defeats each limit on a single read): a scope round the call is the limit
    of it all, to the moment, wherever it comes."""

    async def drip(request: Request) -> Response | None:
        if request.path == "/fresh":
            return Response(text="fresh")
        await trio.sleep(0.7)
        async with request.stream_response() as body:
            for _ in range(5):
                await body.send_all(b".")
                await trio.sleep(0.7)
        return None

    async def ask(client: Client) -> bytes:
        if whole:
            return (await client.get("/")).content
        async with client.stream("GET", "/") as response:
            return b"".join([piece async for piece in response.body])

    ended: list[bool] = []
    async with (
        Network(drip, dial_seconds=0.7).opened() as net,
        Client(base_url="http://a", dial=net.dial) as net.client,
    ):
        for tenths in range(0, 60, 3):
            start = trio.current_time()
            with trio.move_on_after(tenths / 10) as scope:
                assert await ask(net.client) == b"....."
            ended.append(not scope.cancelled_caught)
            if scope.cancelled_caught:
                assert trio.current_time() - start == pytest.approx(tenths / 10)
            await net.see_all_is_well()
    assert ended[0] is False
    assert ended[-1] is True
    assert ended == sorted(ended), "more time has led to less"


async def test_many_waiters_that_are_cancelled_at_once_cost_each_the_same(autojump_clock: MockClock) -> None:
    """A55 (a pool that looks through all its requests at each of their ends): the work for a waiter that goes
    does not grow with how many there are. Counted in calls, and not timed."""

    async def calls_for(waiters: int) -> int:
        count = 0

        def see(frame: FrameType, event: str, arg: object) -> None:
            nonlocal count
            count += "/client/" in frame.f_code.co_filename and event == "call"

        async with (
            Network(slow).opened() as net,
            Client(base_url="http://a", dial=net.dial, max_connections=1) as client,
        ):
            async with trio.open_nursery() as nursery:
                for _ in range(waiters + 1):
                    nursery.start_soon(client.get, "/")
                await trio.sleep(1)
                assert client.statistics().waiting == waiters
                sys.setprofile(see)
                nursery.cancel_scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
                sys.setprofile(None)
            assert client.statistics().waiting == 0
        return count

    few, many = await calls_for(50), await calls_for(400)
    assert few > 50
    assert many < few * 8 * 1.2, f"{few} calls for 50 waiters, {many} for 400"


class _TunnelInTLS(TunnelledTLS):
    """An https proxy, and an https origin behind it."""

    tls = True
    serves = ()

    async def dial(self, host: str, port: int, scheme: str) -> Transport:
        await trio.lowlevel.checkpoint()
        proxy = await tls_over(self.house.door.connect(), tls_contexts()[0], server_hostname="a")
        way = await open_way(proxy, host, port, scheme)
        # A dial that returns TLS has made all of it, so the client adds none.
        return await tls_over(way, tls_contexts()[0], server_hostname=host)


async def test_tls_in_a_tunnel_in_tls_is_let_go_of_by_everybody(autojump_clock: MockClock) -> None:
    """A58 (an https proxy): the dial is composed of parts, and so is what a cancel has to undo."""
    report = await sweep_visitor(_TunnelInTLS)
    lands_in(report, "_wait", "receive")


def _mutual() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return contexts of a client that shows a certificate, and of a server that asks for one."""
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context, name in ((ours, "client.test"), (theirs, "mutual.test")):
        authority.configure_trust(context)
        authority.issue_cert(name).configure_cert(context)
    theirs.verify_mode = ssl.CERT_REQUIRED
    return ours, theirs


async def test_a_handshake_with_a_certificate_of_the_clients_and_a_context_by_origin(
    autojump_clock: MockClock,
) -> None:
    """A59 (certificates of clients, and contexts by host): one origin asks who we are, the other one does
    not; cancelled with the whole client, also while its certificate is under way."""
    mutual = _mutual()

    async def app(request: Request) -> Response:
        return Response(text="fresh")

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[tuple[trio.Nursery, list[MemoryStream]]]:
        streams: list[MemoryStream] = []
        async with trio.open_nursery() as nursery:
            yield nursery, streams
        assert all(stream.closed for stream in streams)

    async def scenario(value: tuple[trio.Nursery, list[MemoryStream]]) -> None:
        nursery, streams = value

        async def serve(stream: MemoryStream, context: ssl.SSLContext) -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                await serve_connection(app, await tls_over(stream, context, server_side=True), config=CONFIG)

        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = memory_pair()
            streams.extend((ours, theirs))
            nursery.start_soon(serve, theirs, mutual[1] if host == "mutual.test" else tls_contexts()[1])
            return ours

        def context_for(origin: Origin) -> ssl.SSLContext:
            return mutual[0] if origin.host == "mutual.test" else tls_contexts()[0]

        async with Client(dial=dial, ssl_context=context_for) as client:
            assert (await client.get("https://mutual.test/")).text == "fresh"
            assert (await client.get("https://a/")).text == "fresh"

    report = await cancel_at_every_step(scenario, world=world)
    lands_in(report, "_shake_hands")


async def test_a_read_that_was_given_up_poisons_no_later_request(autojump_clock: MockClock) -> None:
    """A61 (after a read that took too long, the next request on that connection got the rest of it): given up
    after any time, and cancelled at any step, each request has its own answer or none."""

    async def app(request: Request) -> None:
        async with request.stream_response() as body:
            for _ in range(2):
                await body.send_all(request.path.encode())
                await trio.sleep(1)

    async def scenario(client: Client) -> None:
        with trio.move_on_after(0.5):
            await client.get("/1")
        with trio.move_on_after(0.5):
            async with client.stream("GET", "/2") as response:
                async for piece in response.body:
                    assert piece == b"/2"
        assert (await client.get("/3")).text == "/3/3"

    report = await sweep_client(scenario, app, warm=1, max_connections=1)
    lands_in(report, "_read_whole", "next_data")


# -------------------------------------------------------------------------------------- A73, in three parts


class _Borrowing(Visit):
    """A handler that works with a connection to a database, of which there are two; and a client that asks
    three times.

    A transaction is carried out whole or taken back, and either takes its time.
    """

    options = {"max_connections": 3}
    holds_two = 2

    def __init__(self) -> None:
        self.free = trio.Semaphore(self.holds_two, max_value=self.holds_two)
        self.open_now = 0
        self.begun = self.committed = self.taken_back = 0

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self.free:
            self.begun += 1
            self.open_now += 1
            try:
                yield
            except BaseException:
                with trio.move_on_after(2, shield=True):
                    await trio.sleep(0.25)
                    self.taken_back += 1
                raise
            else:
                self.committed += 1
            finally:
                self.open_now -= 1

    async def app(self, request: Request) -> Response | None:
        async with self.transaction():
            await trio.sleep(1)
        return Response(text="stored")

    async def run(self, client: Client) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(client.put, "/")

    def see(self) -> None:
        assert self.free.value == self.holds_two, "a connection to the database was lost"
        assert self.open_now == 0
        assert self.begun == self.committed + self.taken_back, "a transaction was neither made nor unmade"


class _BorrowingOnce(_Borrowing):
    """One request, whose failure comes out as it is."""

    async def run(self, client: Client) -> None:
        assert (await client.put("/")).text == "stored"


async def test_a_handler_that_has_borrowed_gives_back_whoever_goes(autojump_clock: MockClock) -> None:
    """A73 (a server that cancelled at once on a disconnect broke the pools of databases): the handler's own
    clean-up has the time that it takes for itself, and the server waits for it."""
    await sweep_visitor(_Borrowing)
    assert (await break_at_every_step(_BorrowingOnce))["broken"] > 0


async def test_a_handler_can_read_why_it_is_cancelled_and_may_have_time(autojump_clock: MockClock) -> None:
    """A73 (then there was a grace, and no word of it): the grace is the handler's own choice, and the reason
    is there to be read, in the request as in the cancel."""
    seen: list[tuple[CancelReason | None, str | None, float]] = []

    async def app(request: Request) -> Response:
        start = trio.current_time()
        try:
            with request.finish(within=3):
                await trio.sleep(50)
        except trio.Cancelled as exc:
            seen.append((request.cancel_reason, exc.reason, trio.current_time() - start))
            raise
        return Response()

    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(functools.partial(serve_connection, app, theirs, config=CONFIG))
        await ours.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(1)
        ours.close()
    ((reason, text, after),) = seen
    assert (reason, text) == (CancelReason.CLIENT_DISCONNECTED, "client disconnected")
    assert after == pytest.approx(3)
    assert theirs.closed


@pytest.mark.parametrize("times", [1, 5, math.inf], ids=["once", "again and again", "until it is let go"])
async def test_a_cancel_that_a_handler_swallows_comes_again(times: float, autojump_clock: MockClock) -> None:
    """A73 (and then a cancel that was swallowed broke a framework): it is not ours that swallow it. A handler
    that does meets it in its next await, and what it answers then is sent to nobody."""
    met = 0

    async def app(request: Request) -> Response:
        nonlocal met
        while met < min(times, 20):
            try:
                await trio.sleep(50)
            except trio.Cancelled:
                met += 1
        return Response(text="all the same")

    ours, theirs = memory_pair()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(functools.partial(serve_connection, app, theirs, config=CONFIG))
            await ours.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await trio.sleep(1)
            ours.close()
    assert met == min(times, 20)
    assert theirs.closed
    assert ours.received_bytes == 0
