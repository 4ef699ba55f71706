"""TLS over what is no socket: Trio's contract, cuts, staleness, closing, and answers that are owed."""

from __future__ import annotations

import contextlib
import functools
import random
import select
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from tests.transport._peers import (
    CA,
    client_context,
    expect,
    plain_pair,
    server_context,
    tcp_pair,
    tls_pair,
)
from trio_http.transport import (
    RECEIVE_BYTES,
    SocketTransport,
    StreamTransport,
    TLSOverTransport,
    TLSTransport,
    Transport,
    TransportStream,
    tls_over,
)

Under = trio.abc.Stream | Transport


# Made once, since each reads all the certificates of the system.
a_client_context = functools.cache(client_context)
a_server_context = functools.cache(server_context)


async def over(
    left: Under, right: Under, client: ssl.SSLContext | None = None, server: ssl.SSLContext | None = None
) -> tuple[TLSOverTransport, TLSOverTransport]:
    """TLS over two ends of something, client and server, after the handshake."""
    made: dict[str, Transport] = {}

    async def serve() -> None:
        made["server"] = await tls_over(right, server or a_server_context(), server_side=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        made["client"] = await tls_over(left, client or a_client_context(), server_hostname="example.test")
    ours, theirs = made["client"], made["server"]
    assert isinstance(ours, TLSOverTransport)
    assert isinstance(theirs, TLSOverTransport)
    return ours, theirs


async def over_memory(**contexts: ssl.SSLContext) -> tuple[TLSOverTransport, TLSOverTransport]:
    return await over(*trio.testing.memory_stream_pair(), **contexts)


async def in_tls(**contexts: ssl.SSLContext) -> tuple[TLSOverTransport, TLSOverTransport]:
    return await over(*await tls_pair(), **contexts)


class Valve(trio.abc.Stream):
    """A stream that can be shut (it then takes nothing, and waits), or be cut after some bytes sent.

    Attributes:
      may_pass: how many more bytes it sends before it says the end; None: no limit.
      sent: bytes of all sends since `may_pass` was set last.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.may_pass: int | None = None
        self.shut = False
        self.closed = False
        self.sent = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.shut:
            await trio.sleep_forever()
        if self.may_pass is None:
            await self.stream.send_all(data)
            return
        self.sent += len(data)
        part = bytes(data)[: self.may_pass]
        self.may_pass -= len(part)
        if part:
            await self.stream.send_all(part)
        if not self.may_pass:
            await self.stream.send_eof()

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.closed = True
        await self.stream.aclose()


# ------------------------------------------------------------------------------------------- Trio's contract

StreamPair = tuple[TransportStream, TransportStream]


def streams(
    make: Callable[[], Awaitable[tuple[Transport, Transport]]],
) -> Callable[[], Awaitable[StreamPair]]:
    async def made() -> StreamPair:
        left, right = await make()
        return TransportStream(left), TransportStream(right)

    return made


async def over_lockstep() -> tuple[TLSOverTransport, TLSOverTransport]:
    return await over(*trio.testing.lockstep_stream_pair())


async def test_it_is_a_half_closeable_stream_by_trios_own_suite_over_memory() -> None:
    await trio.testing.check_half_closeable_stream(streams(over_memory), None)


async def test_it_is_a_half_closeable_stream_by_trios_own_suite_in_tls() -> None:
    await trio.testing.check_half_closeable_stream(streams(in_tls), None)


async def test_it_is_a_stream_by_trios_own_suite_over_one_that_takes_nothing_unread() -> None:
    await trio.testing.check_two_way_stream(streams(over_lockstep), streams(over_lockstep))


async def test_it_is_a_stream_by_trios_own_suite_in_tls_in_memory() -> None:
    async def twice() -> tuple[TLSOverTransport, TLSOverTransport]:
        return await over(*await over_memory())

    await trio.testing.check_two_way_stream(streams(twice), None)


@pytest.mark.parametrize("make", [over_memory, over_lockstep, in_tls])
async def test_much_goes_both_ways_at_once_in_parts_of_any_size(
    make: Callable[[], Awaitable[tuple[TLSOverTransport, TLSOverTransport]]],
) -> None:
    seed = 20_251
    print("seed", seed)
    rng = random.Random(seed)
    left, right = await make()
    bodies = {left: rng.randbytes(700_000), right: rng.randbytes(500_000)}

    async def send(transport: Transport) -> None:
        body, position = bodies[transport], 0
        while position < len(body):
            size = rng.choice((1, 100, 16_384, 70_000, 200_000))
            await transport.send_all(body[position : position + size])
            position += size
        await transport.send_eof()

    async def receive(transport: Transport, body: bytes) -> None:
        got = bytearray()
        while part := await transport.receive():
            assert type(part) is bytes
            assert len(part) <= RECEIVE_BYTES
            got += part
        assert got == body
        assert not transport.truncated

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for transport, peer in ((left, right), (right, left)):
                nursery.start_soon(send, transport)
                nursery.start_soon(receive, peer, bodies[transport])
    await left.aclose()
    await right.aclose()


async def test_no_receive_returns_more_than_one_may_however_records_and_reads_overlap() -> None:
    client, server = await over_memory()
    for _ in range(20):
        await server.send_all(b"x" * 100_003)  # records of many sizes, so that a read completes an old one
    await server.aclose()
    lengths = []
    while part := await client.receive():
        lengths.append(len(part))
    assert sum(lengths) == 20 * 100_003
    assert max(lengths) <= RECEIVE_BYTES
    await client.aclose()


# --------------------------------------------------------------------------------------------------- cuts


async def answered_through(may_pass: int) -> tuple[list[bytes], bool, int]:
    """What a client gets of two records and a closure alert when only ``may_pass`` bytes of them
    come through.

    Returns:
      What was received; whether the end is said to be truncated; how many bytes there were to pass.
    """
    ours, theirs = trio.testing.memory_stream_pair()
    valve = Valve(theirs)
    client, server = await over(ours, valve, server=a_server_context(num_tickets=0))
    valve.may_pass = may_pass
    await server.send_all(b"first")
    await server.send_all(b"second")
    await server.aclose()
    got = []
    while part := await client.receive():
        got.append(part)
    assert await client.receive() == b""
    await client.aclose()
    return got, client.truncated, valve.sent


async def test_a_cut_at_any_byte_is_told_from_a_regular_end() -> None:
    # C20: an attacker's FIN must not pass for the end of a body (RFC 9112 §9.8).
    whole, truncated, length = await answered_through(10_000)
    assert (b"".join(whole), truncated) == (b"firstsecond", False)
    for position in range(length):
        got, truncated, _ = await answered_through(position)
        assert truncated, f"cut after {position} of {length} bytes"
        assert b"".join(got) in (b"", b"first", b"firstsecond")
    assert length > 50


async def test_a_cut_in_the_handshake_is_an_error_wherever_it_comes() -> None:
    position, failures = 0, 0
    while True:
        ours, theirs = trio.testing.memory_stream_pair()
        valve = Valve(theirs)
        valve.may_pass = position

        async def serve(valve: Valve = valve) -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                server = await tls_over(valve, a_server_context(num_tickets=0), server_side=True)
                await server.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                client = await tls_over(ours, a_client_context(), server_hostname="example.test")
            except trio.BrokenResourceError:
                failures += 1
            else:
                await client.aclose()
                break
        position += 97
    assert failures > 5


async def test_a_forged_record_gives_what_came_before_it_and_then_an_error() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    client, server = await over(ours, theirs, server=server_context(num_tickets=0))
    await server.send_all(b"sound")
    await theirs.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    await expect(client, b"sound")
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.receive()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
    with pytest.raises(trio.BrokenResourceError, match="nothing more can be sent"):
        await client.send_all(b"x")
    await client.aclose()
    await server.aclose_forcefully()


# ------------------------------------------------------------------------------- a user's own `SSLStream`


@pytest.mark.parametrize("alert", [True, False])
async def test_a_users_ssl_stream_that_is_https_compatible_tells_an_end_from_a_cut(alert: bool) -> None:
    # C20: it says "end" to both.
    ours, theirs = trio.testing.memory_stream_pair()
    compatible = trio.SSLStream(ours, client_context(), server_hostname="example.test", https_compatible=True)
    server = trio.SSLStream(theirs, server_context(), server_side=True, https_compatible=not alert)
    client = StreamTransport(compatible)

    async def serve() -> None:
        await server.send_all(b"all of it")
        with contextlib.suppress(trio.BrokenResourceError):
            await server.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await expect(client, b"all of it")
        for _ in range(3):
            assert await client.receive() == b""
            assert client.truncated is not alert
        await client.aclose_forcefully()


async def test_a_cancel_while_the_end_is_questioned_makes_no_cut_look_regular() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    compatible = trio.SSLStream(ours, client_context(), server_hostname="example.test", https_compatible=True)
    server = trio.SSLStream(theirs, server_context(), server_side=True, https_compatible=True)
    client = StreamTransport(compatible)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        await compatible.do_handshake()
    await server.aclose()

    async def cancel_after(steps: int, scope: trio.CancelScope) -> None:
        for _ in range(steps):
            await trio.lowlevel.cancel_shielded_checkpoint()
        scope.cancel()

    cancelled = 0
    async with trio.open_nursery() as nursery:
        for steps in range(8):
            scope = trio.CancelScope()
            nursery.start_soon(cancel_after, steps, scope)
            # Where a cancel meets the stream in its own last checkpoint, it is broken the next time.
            with scope, contextlib.suppress(trio.BrokenResourceError):
                assert await client.receive() == b""
                assert client.truncated
            cancelled += scope.cancelled_caught
    assert 0 < cancelled < 8
    await client.aclose_forcefully()


# ---------------------------------------------------------------------------------------------- staleness


async def test_session_tickets_do_not_make_a_connection_in_tls_stale_and_bytes_and_ends_do() -> None:
    # C20, C18: TLS to the origin in TLS to the proxy.
    client, server = await in_tls(server=server_context(num_tickets=4))
    assert server._engine.held > 0
    await server.send_all(b"x")  # the tickets go with it
    await expect(client, b"x")
    server._engine.tls.write(b"")
    assert not client.is_stale()
    await server.send_all(b"unasked")
    assert client.is_stale()
    assert client.receive_nowait() == b"unasked"
    assert not client.is_stale()
    server.close()
    assert client.is_stale()
    assert (client.receive_nowait(), client.truncated) == (b"", False)
    client.close()


async def test_tickets_alone_are_read_and_are_nothing() -> None:
    client, server = await in_tls(server=server_context(num_tickets=4))
    assert server._push()  # only the tickets: nobody has sent anything
    assert isinstance(client._inner, TLSTransport)
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(client._inner._fd)
    assert not client.is_stale()
    assert client.receive_nowait() is None
    client.close()
    server.close()


async def test_an_inner_end_without_an_alert_makes_it_stale_and_truncated() -> None:
    client, server = await in_tls()
    server.abort()
    assert client.is_stale()
    client.close()
    client, server = await in_tls()
    server._inner.close()
    assert client.is_stale()
    assert client.receive_nowait() == b""
    assert client.truncated
    client.close()


async def test_over_a_foreign_stream_nothing_is_seen_without_receiving() -> None:
    client, server = await over_memory()
    await server.send_all(b"x")
    assert client.receive_nowait() is None
    assert not client.is_stale()
    await expect(client, b"x")
    await client.aclose()
    assert client.is_stale()
    await server.aclose()


# ------------------------------------------------------------------------------------------------ the end


async def test_a_close_in_tls_is_synchronous_and_says_the_alert() -> None:
    client, server = await in_tls()
    client.close()
    client.close()
    assert client._inner.closed
    assert (await server.receive(), server.truncated) == (b"", False)
    for refused in (client.receive(), client.send_all(b"x"), client.send_eof()):
        with pytest.raises(trio.ClosedResourceError):
            await refused
    server.close()


async def test_an_abort_says_no_alert() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    client, server = await over(ours, theirs)
    client.abort()
    await client.aclose()
    assert (await server.receive(), server.truncated) == (b"", True)
    await server.aclose_forcefully()


async def test_aclose_over_a_foreign_stream_says_the_alert() -> None:
    client, server = await over_memory()
    client.close()
    await client.aclose()
    assert (await server.receive(), server.truncated) == (b"", False)
    await server.aclose()


async def test_aclose_does_not_wait_for_a_foreign_stream_that_takes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    valve = Valve(ours)
    client, server = await over(valve, theirs)
    valve.shut = True
    started = trio.current_time()
    await client.aclose()
    assert trio.current_time() - started == pytest.approx(0.1)
    assert valve.closed
    assert (await server.receive(), server.truncated) == (b"", True)
    await server.aclose_forcefully()


async def test_a_cancelled_aclose_has_closed() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    valve = Valve(ours)
    client, server = await over(valve, theirs)
    valve.shut = True
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.aclose()
    assert scope.cancelled_caught
    assert valve.closed
    await server.aclose_forcefully()


async def test_no_alert_follows_a_send_that_was_cancelled_midway() -> None:
    # A peer that got an alert after half an answer would take it for the whole.
    client, server = await over(*trio.testing.lockstep_stream_pair())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"x" * 200_000)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(trio.BrokenResourceError, match="an earlier send was cancelled"):
        await server.send_all(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.aclose)
        with contextlib.suppress(trio.BrokenResourceError):
            while await client.receive():
                pass
            assert client.truncated
    await client.aclose_forcefully()


async def test_a_close_beside_a_send_is_at_once_and_says_no_alert(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    client, server = await over(ours, theirs)

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await client.send_all(b"x" * 200_000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        await client.aclose()
        assert trio.current_time() == started
    with contextlib.suppress(trio.BrokenResourceError):
        while await server.receive():
            pass
        assert server.truncated
    await server.aclose_forcefully()


# ------------------------------------------------------------------------------------- concurrency, cancels


async def test_two_tasks_in_one_direction_are_refused() -> None:
    client, server = await over(*trio.testing.lockstep_stream_pair())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive)
        nursery.start_soon(client.send_all, b"x" * 100_000)
        await trio.testing.wait_all_tasks_blocked()
        assert client.unsent() > 0
        with pytest.raises(trio.BusyResourceError):
            await client.receive()
        with pytest.raises(trio.BusyResourceError):
            await client.send_all(b"y")
        with pytest.raises(trio.BusyResourceError):
            await client.wait_send_all_might_not_block()
        nursery.cancel_scope.cancel()
    await client.aclose_forcefully()
    assert client.unsent() == 0
    await server.aclose_forcefully()


async def test_a_cancelled_receive_has_lost_nothing() -> None:
    client, server = await over_memory()
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.receive()
    assert scope.cancelled_caught
    await server.send_all(b"abc")
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.receive()
    await expect(client, b"abc")
    client._engine.stored = b"found earlier"
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.receive()
    assert scope.cancelled_caught
    await expect(client, b"found earlier")
    await client.aclose()
    await server.aclose()


# ------------------------------------------------------------------------------- a read that wants to write


def asking_later() -> dict[str, ssl.SSLContext]:
    """Contexts with which the server may ask for the client's certificate after the handshake."""
    client = client_context(post_handshake_auth=True)
    CA.issue_cert("client@example.test").configure_cert(client)
    server = server_context(verify_mode=ssl.CERT_REQUIRED, post_handshake_auth=True)
    CA.configure_trust(server)
    return {"client": client, "server": server}


@pytest.mark.parametrize("make", [over_memory, in_tls])
async def test_a_certificate_that_is_asked_for_later_is_shown_while_receiving(
    make: Callable[..., Awaitable[tuple[TLSOverTransport, TLSOverTransport]]],
) -> None:
    client, server = await make(**asking_later())
    assert not server._engine.tls.getpeercert()
    server._engine.tls.verify_client_post_handshake()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, client, b"who are you? welcome")
            await server.send_all(b"who are you? ")
            async with trio.open_nursery() as until_shown:
                until_shown.start_soon(server.receive)
                while not server._engine.tls.getpeercert():
                    await trio.lowlevel.checkpoint()
                until_shown.cancel_scope.cancel()
            await server.send_all(b"welcome")
    await client.aclose()
    await server.aclose()


async def test_an_answer_that_is_not_taken_yet_does_not_stop_receiving() -> None:
    """The server asks, and goes on sending without reading; only then it reads the answer."""
    pairs = trio.testing.lockstep_stream_pair()
    contexts = asking_later()
    client, server = await over(*pairs, contexts["client"], contexts["server"])
    body = b"x" * 150_000

    async def serve() -> None:
        server._engine.tls.verify_client_post_handshake()
        await server.send_all(b"?")
        await server.send_all(body)
        await server.receive()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await expect(client, b"?" + body)
            await client.send_all(b"done")
    assert server._engine.tls.getpeercert()
    await client.aclose_forcefully()
    await server.aclose_forcefully()


async def test_an_answer_waits_for_who_waits_until_sending_is_possible() -> None:
    """The inner transport refuses a send while a task waits in it for room."""
    client, server = await in_tls(**asking_later())
    assert isinstance(client._inner, TLSTransport)
    filled = 0
    while select.select([], [client._inner._fd], [], 0)[1]:
        assert client.begin_send(b"x" * 1024)
        filled += 1024
    server._engine.tls.verify_client_post_handshake()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.wait_send_all_might_not_block)
            await trio.testing.wait_all_tasks_blocked()
            await server.send_all(b"?")
            await expect(client, b"?")
            assert client._owes()
            await expect(server, b"x" * filled)
        async with trio.open_nursery() as until_shown:
            until_shown.start_soon(server.receive)
            while not server._engine.tls.getpeercert():
                await trio.lowlevel.checkpoint()
            until_shown.cancel_scope.cancel()
    client.close()
    server.close()


# ---------------------------------------------------------------------------------------------- handshakes


async def test_a_certificate_that_is_not_trusted_ends_it_and_the_peer_is_told_why() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    valve = Valve(ours)
    told: list[BaseException | None] = []

    async def serve() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            # TLS 1.3 ends the server's handshake before the client has judged; the alert is its first data.
            await (await tls_over(theirs, server_context(), server_side=True)).receive()
        told.append(caught.value.__cause__)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await tls_over(valve, ssl.create_default_context(), server_hostname="example.test")
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert "UNKNOWN_CA" in str(told[0])
    assert valve.closed


async def test_a_context_that_checks_names_wants_one() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    valve = Valve(ours)
    with pytest.raises(ValueError, match="server_hostname"):
        await tls_over(valve, client_context())
    assert valve.closed
    assert await theirs.receive_some() == b""


async def test_a_cancelled_handshake_has_closed_the_stream() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    valve = Valve(ours)
    async with trio.open_nursery() as nursery:

        async def connect() -> None:
            await tls_over(valve, client_context(), server_hostname="example.test")

        nursery.start_soon(connect)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert valve.closed
    assert await theirs.receive_some() != b""  # the client's hello
    assert await theirs.receive_some() == b""


@pytest.mark.parametrize("kind", ["stream", "transport"])
async def test_a_socket_gets_the_transport_that_is_made_for_it(kind: str) -> None:
    left, right = tcp_pair()
    under: Under = (
        SocketTransport(left)
        if kind == "transport"
        else trio.SocketStream(trio.socket.from_stdlib_socket(left))
    )
    made: list[Transport] = []

    async def connect() -> None:
        made.append(await tls_over(under, client_context(), server_hostname="example.test"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        server = await TLSTransport.handshake(right, server_context(), server_side=True)
    assert isinstance(made[0], TLSTransport)
    made[0].close()
    server.close()


async def test_leftover_bytes_begin_the_tls_stream() -> None:
    left, right = await plain_pair()
    made: list[Transport] = []

    async def connect() -> None:
        made.append(await tls_over(left, client_context(), server_hostname="example.test"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        hello = await right.receive()  # a reader of something else has read too far
        server = await tls_over(right, server_context(), server_side=True, leftover=hello)
    await server.send_all(b"x")
    await expect(made[0], b"x")
    assert server.tls is not None
    assert server.tls.version() == "TLSv1.3"
    made[0].close()
    server.close()


async def test_tls_1_2_goes_over_it_too() -> None:
    old = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    client, server = await over_memory(client=old)
    await client.send_all(b"ping")
    await expect(server, b"ping")
    await server.send_all(b"pong")
    await server.aclose()
    await expect(client, b"pong")
    assert (await client.receive(), client.truncated) == (b"", False)
    await client.aclose()
