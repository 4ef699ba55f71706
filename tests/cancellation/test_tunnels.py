"""Tunnels by CONNECT, cancelled at every step: at the client's end, in the proxy, and with TLS inside.

The proxy here is a program over our own server, and the network is in memory: what a client that is cancelled
leaves behind can be looked for at all four ends. `test_proxies` has the same over real sockets.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._houses import (
    Visit,
    break_at_every_step,
    shut_down_at_every_step,
    sweep_serving,
    sweep_visitor,
)
from tests.cancellation._tunnels import Tunnelled, TunnelledTLS, open_way
from tests.cancellation._worlds import lands_in
from trio_http import ConnectFailed, RequestFailed
from trio_http.client import Client
from trio_http.testing import ScriptedPeer, cancel_at_every_step
from trio_http.transport import Transport


@pytest.mark.parametrize("visit", [Tunnelled, TunnelledTLS])
async def test_a_client_of_a_tunnel_that_is_cancelled_is_gone_from_the_proxy_and_the_origin(
    visit: type[Visit], autojump_clock: MockClock
) -> None:
    report = await sweep_visitor(visit)
    lands_in(report, "_wait", "_receive_head")


async def test_a_proxy_that_is_cancelled_closes_both_ends_of_its_tunnels(autojump_clock: MockClock) -> None:
    await sweep_serving(Tunnelled)


@pytest.mark.parametrize(
    ("visit", "grace"), [(Tunnelled, 0), (Tunnelled, 1.2), (Tunnelled, math.inf), (TunnelledTLS, 1.2)]
)
async def test_a_proxy_that_is_shut_down_ends_its_tunnels_in_time(
    visit: type[Visit], grace: float, autojump_clock: MockClock
) -> None:
    assert (await shut_down_at_every_step(visit, grace))["well"] > 0


async def test_a_tunnel_that_breaks_is_noticed_at_all_four_ends(autojump_clock: MockClock) -> None:
    assert (await break_at_every_step(Tunnelled))["broken"] > 0


# ------------------------------------------------------------------------------------- proxies by a script

GRANTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 20\r\n\r\n"
END = b"\r\n\r\n"


def _slowly_granting(peer: ScriptedPeer) -> None:
    peer.expect_until(END, startswith=b"CONNECT origin.test:80 ").wait(1).send(GRANTED[:5])
    peer.wait_until_quiet().send(GRANTED[5:-1]).wait(1).send(GRANTED[-1:])
    peer.expect_until(END, startswith=b"GET / ").wait(1).send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )


def _refusing_at_length(peer: ScriptedPeer) -> None:
    peer.expect_until(END).send(REFUSED + b"not today").wait(0.5).send(b", not ever")


def _refusing_without_end(peer: ScriptedPeer) -> None:
    peer.expect_until(END).send(REFUSED).wait(100)


def _closing(peer: ScriptedPeer) -> None:
    peer.expect_until(END).send(b"HTTP/1.1 200 Con").wait(1).close()


def _breaking(peer: ScriptedPeer) -> None:
    peer.wait(1).reset()


def _speaking_first(peer: ScriptedPeer) -> None:
    peer.expect_until(END).send(GRANTED + b"HTTP/1.1 200 OK\r\n")


def _silent(peer: ScriptedPeer) -> None:
    peer.wait(100)


@pytest.mark.parametrize(
    "script",
    [
        _slowly_granting,
        _refusing_at_length,
        _refusing_without_end,
        _closing,
        _breaking,
        _speaking_first,
        _silent,
    ],
)
async def test_a_dial_through_a_proxy_of_any_manners_leaves_no_connection(
    script: object, autojump_clock: MockClock
) -> None:
    """Cancelled with the whole client; only one that is granted leads to an answer."""
    assert callable(script)

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[ScriptedPeer]:
        peer = ScriptedPeer()
        script(peer)

        async def play() -> None:
            with contextlib.suppress(AssertionError):  # of one whose client was cancelled
                await peer.play()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(play)
            yield peer
            nursery.cancel_scope.cancel()

    async def scenario(peer: ScriptedPeer) -> None:
        async def dial(host: str, port: int, scheme: str) -> Transport:
            await trio.lowlevel.checkpoint()
            return await open_way(peer.stream, host, port, scheme)

        async with Client(dial=dial, dial_seconds=10) as client:
            try:
                response = await client.get("http://origin.test/")
            except ConnectFailed:
                assert script is not _slowly_granting
            else:
                assert script is _slowly_granting
                assert response.content == b"ok"

    def check(peer: ScriptedPeer) -> None:
        # Closed, or not even dialed.
        assert peer.stream.closed or not peer.received

    report = await cancel_at_every_step(scenario, world=world, check=check, invariants=())
    lands_in(report, "open_tunnel", "_final_head")


async def test_a_tunnel_whose_way_back_is_cut_fails_as_a_request(autojump_clock: MockClock) -> None:
    """What a proxy breaks after its 200 is told as any lost connection is."""
    peer = ScriptedPeer()
    peer.expect_until(END, startswith=b"CONNECT ").send(GRANTED).expect_until(END).reset()

    async def dial(host: str, port: int, scheme: str) -> Transport:
        return await open_way(peer.stream, host, port, scheme)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        async with Client(dial=dial) as client:
            with pytest.raises(RequestFailed):
                await client.post("http://origin.test/", content=b"once")
    assert peer.stream.closed
