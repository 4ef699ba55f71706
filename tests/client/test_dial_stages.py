"""A dial that is stuck, at each of its steps: given up in time, ended with its client, never left behind."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.client._loopback import head_from, listening, relay, serving, trusting
from trio_http import ConnectFailed, PoolClosed
from trio_http.client import Client, Proxy
from trio_http.instruments import ClientInstrument, DialRecord

pytestmark = pytest.mark.interop


class Dials(ClientInstrument):
    """Keeps what is told of dials."""

    def __init__(self) -> None:
        self.records: list[DialRecord] = []

    def dial_finished(self, dial: DialRecord) -> None:
        self.records.append(dial)


@attrs.define
class Stage:
    """A client whose dials to ``url`` get stuck.

    Attributes:
      client, url, dials: as said.
      close: closes the client, before its block does.
      reached: a dial has come so far.
      left: the peer has seen the end of the connection; None where there is none.
    """

    client: Client
    close: Callable[[], Awaitable[None]]
    url: str
    dials: Dials
    reached: trio.Event
    left: trio.Event | None


@contextlib.asynccontextmanager
async def stuck_at(step: str) -> AsyncIterator[Stage]:
    """Be at one of the steps of a dial."""
    reached, left = trio.Event(), trio.Event()
    dials = Dials()

    async def silent(stream: trio.SocketStream) -> None:
        if await stream.receive_some():
            reached.set()
            with contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    pass
            left.set()

    async def resolve(host: str, port: int) -> Sequence[str]:
        if step == "name":
            reached.set()
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return ["127.0.0.1"]

    async def connect(stream: trio.SocketStream) -> None:
        """Be a proxy, and then nothing."""
        tls = trio.SSLStream(stream, serving(), server_side=True, https_compatible=True)
        await head_from(tls)
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(silent, theirs)
            await tls.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            await relay(tls, ours)

    options: dict[str, Any] = {"resolver": resolve, "ssl_context": trusting(), "instruments": [dials]}
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening(connect if step == "TLS in TLS" else silent))
        if step == "TCP":
            # A queue that is full, and nobody accepts: the connection is neither made nor refused.
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            port = listener.getsockname()[1]
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            reached.set()
        proxies = {
            "CONNECT": f"http://localhost:{port}",
            "SOCKS": f"socks5h://localhost:{port}",
            "TLS to a proxy": f"https://localhost:{port}",
            "TLS in TLS": Proxy.from_url(f"https://localhost:{port}", ssl_context=trusting()),
        }
        if step in proxies:
            options["proxy"] = proxies[step]
        closing = await stack.enter_async_context(contextlib.AsyncExitStack())
        client = await closing.enter_async_context(Client(**options))
        has_peer = step not in ("name", "TCP")
        yield Stage(
            client, closing.aclose, f"https://localhost:{port}/", dials, reached, left if has_peer else None
        )


STEPS = ["name", "TCP", "TLS", "CONNECT", "SOCKS", "TLS to a proxy", "TLS in TLS"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_dial_that_is_stuck_is_given_up_when_its_time_is_over(
    step: str, mock_clock: MockClock
) -> None:
    caught: list[ConnectFailed] = []
    async with stuck_at(step) as stage:

        async def ask() -> None:
            with pytest.raises(ConnectFailed) as raised:
                await stage.client.get(stage.url)
            caught.append(raised.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await stage.reached.wait()
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(31)
        assert "not made within 30 s" in str(caught[0])
        assert isinstance(caught[0].__cause__, trio.TooSlowError)
        if stage.left is not None:
            await stage.left.wait()
        counts = stage.client.statistics()
        assert (counts.dialing, counts.leased, counts.idle, counts.waiting) == (0, 0, 0, 0)
        (record,) = stage.dials.records
        assert record.error is caught[0].__cause__
        assert (record.resolved is None) == (step == "name")
        assert (record.connected is None) == (step in ("name", "TCP"))
        assert (record.proxied is None) == (step != "TLS in TLS")
        assert record.secured is None


@pytest.mark.parametrize("step", STEPS)
async def test_a_dial_that_is_stuck_ends_with_its_client_and_so_does_who_waits_for_it(step: str) -> None:
    ended: list[str] = []

    async def ask(stage: Stage) -> None:
        with pytest.raises(PoolClosed):
            await stage.client.get(stage.url)
        ended.append("closed")

    async with trio.open_nursery() as nursery, stuck_at(step) as stage:
        nursery.start_soon(ask, stage)
        await stage.reached.wait()
        await trio.testing.wait_all_tasks_blocked()
        await stage.close()
        if stage.left is not None:
            await stage.left.wait()
        (record,) = stage.dials.records
        assert record.id is None
    assert ended == ["closed"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_cancelled_request_leaves_its_dial_to_others_who_find_it(step: str) -> None:
    async with stuck_at(step) as stage:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stage.client.get, stage.url)
                await stage.reached.wait()
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        counts = stage.client.statistics()
        assert (counts.dialing, counts.waiting) == (1, 0)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stage.client.get, stage.url)
                await trio.testing.wait_all_tasks_blocked()
                counts = stage.client.statistics()
                assert (counts.dialing, counts.waiting) == (1, 1)
                scope.cancel()
        assert stage.dials.records == []
