"""Ways to a connection and out of HTTP, cancelled at every step, and the client closed at each."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._scenes import Scene, close_at_every_step, sweep_scene
from tests.cancellation._worlds import Accounts, Network, sweep_client
from trio_http import ConnectFailed, PoolClosed, Request, Response, UpgradeRefused
from trio_http.client import Client


class _Upgraded(Scene):
    """A connection that speaks another protocol; there is one, which the next request needs."""

    options = {"max_connections": 1}
    lands = ("__aenter__", "run", "__aexit__")
    refusals = (PoolClosed, trio.ClosedResourceError)

    async def app(self, request: Request) -> Response | None:
        async with request.upgrade("echo") as stream:
            async for data in stream:
                await stream.send_all(data)
        return None

    async def run(self, client: Client) -> None:
        for _ in range(2):
            async with client.upgrade("/", "echo") as stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"


class _UpgradeRefused(Scene):
    lands = ("__aenter__", "whole")

    async def app(self, request: Request) -> Response | None:
        async with request.stream_response(403) as body:
            await body.send_all(b"no")
            await trio.sleep(1)
        return None

    async def run(self, client: Client) -> None:
        with contextlib.suppress(UpgradeRefused):
            async with client.upgrade("/", "echo"):
                pass
            raise AssertionError("it was refused")


class _Warmed(Scene):
    """Connections made ahead, more than there is room for; a request takes one in the meantime."""

    options = {"max_connections_per_origin": 2}
    warm = 0
    lands = ("warm",)

    async def run(self, client: Client) -> None:
        await client.warm("/", 3)
        assert client.statistics().idle == 2
        assert (await client.post("/", content=b"x")).text == "x"
        await client.warm("/", 1)
        await client.warm("http://b/", 1)


class _WarmFails(Scene):
    warm = 0
    lands = ("warm",)

    async def run(self, client: Client) -> None:
        with contextlib.suppress(ConnectFailed):
            await client.warm("http://nowhere/", 2)
            raise AssertionError("there is nobody there")


SCENES = [_Upgraded, _UpgradeRefused, _Warmed, _WarmFails]


@pytest.mark.parametrize("scene", SCENES)
async def test_a_way_that_is_cancelled_is_free_again(scene: type[Scene], autojump_clock: MockClock) -> None:
    await sweep_scene(scene)


@pytest.mark.parametrize("scene", SCENES)
async def test_a_way_whose_client_is_closed_fails_with_that(
    scene: type[Scene], autojump_clock: MockClock
) -> None:
    assert await close_at_every_step(scene) > 0


async def _quick(request: Request) -> Response:
    return Response(text=request.path)


async def test_warming_that_is_cancelled_leaves_its_dials_to_others(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.warm, "/", 3)
            await trio.sleep(2)
            assert (await client.get("/mine")).text == "/mine"

    await sweep_client(scenario, _quick, network={"dial_seconds": 5})


async def test_a_dial_that_was_begun_to_warm_up_makes_room_for_who_asks(autojump_clock: MockClock) -> None:
    async def scenario(client: Client) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.warm, "/", 1)
            await trio.sleep(2)
            assert (await client.get("http://b/mine")).text == "/mine"

    await sweep_client(scenario, _quick, network={"dial_seconds": 5}, max_connections=1)


@pytest.mark.finds_a_defect
@pytest.mark.parametrize("shown", ["exchange", "dial", "connection"])
async def test_accounts_that_do_not_balance_are_found(shown: str, autojump_clock: MockClock) -> None:
    """The instrument that all sweeps are held to: it finds what was told twice, or not at all."""

    def forget(*_: Any) -> None:
        """Be told, and not take it down."""

    accounts = Accounts()
    match shown:
        case "exchange":
            accounts.exchange_finished = forget  # type: ignore[method-assign]
        case "dial":
            accounts.dials = []
        case "connection":
            accounts.connection_closed = forget  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=r"never finished|without an end|were begun"):
        async with Network(_quick).opened() as net:
            net.accounts = accounts
            if shown == "dial":
                net.dials += 1
            async with Client(base_url="http://a", dial=net.dial, instruments=[accounts]) as client:
                assert (await client.get("/")).text == "/"
