"""The client's block: what opens with it, what ends with it, and what comes out of it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests._forwarding import ForwardingStream
from tests.client._network import OK, URL, Network, answering, client_of, in_pool
from trio_http.client import Client, ClientConfig, ClientStatistics
from trio_http.testing import ScriptedPeer


async def nothing(*_: Any) -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    raise OSError("no network")


@pytest.mark.parametrize(
    "error", [ValueError("mine"), KeyboardInterrupt(), ExceptionGroup("mine", [ValueError()]), SystemExit(3)]
)
async def test_an_exception_of_the_block_comes_out_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        async with Client(dial=nothing):
            raise error
    assert caught.value is error
    assert error.__context__ is None


async def test_a_cancel_comes_out_of_the_block_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[type[BaseException]] = []
    with trio.move_on_after(1) as scope:
        try:
            async with Client(dial=nothing):
                await trio.sleep_forever()
        except BaseException as exc:
            seen.append(type(exc))
            raise
    assert scope.cancelled_caught
    assert seen == [trio.Cancelled]


async def test_the_end_of_the_block_closes_every_connection() -> None:
    peers = [answering(OK).expect_end() for _ in range(2)]
    async with trio.open_nursery() as nursery:
        network = Network(nursery, *peers)
        async with Client(dial=network.dial) as client:
            await client.get(URL)
            await client.get("http://other.example/")
            assert not any(stream.closed for stream in network.streams)
        assert all(stream.closed for stream in network.streams)
    assert all(peer.finished for peer in peers)


async def test_clean_up_within_the_block_can_make_a_shielded_request(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client_of(answering(OK)) as (client, _):
        with trio.move_on_after(1):
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True, relative_deadline=5):
                    response = await client.post(URL, content=b"unlock")
        assert response.status == 200


async def test_the_clients_connections_outlive_a_cancel_round_its_block_until_the_block_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    peer = answering(OK, OK).expect_end()
    async with trio.open_nursery() as nursery:

        async def dial(*_: Any) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            nursery.start_soon(peer.play)
            return peer.stream

        with trio.CancelScope() as scope:
            async with Client(dial=dial) as client:
                scope.cancel()
                with trio.CancelScope(shield=True, relative_deadline=5):
                    for _ in range(2):
                        assert (await client.get(URL)).status == 200
    assert peer.finished


async def test_a_client_that_is_not_open_refuses_to_ask() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Client(dial=nothing).get(URL)


async def test_a_client_is_opened_once() -> None:
    client = Client(dial=nothing)
    async with client:
        pass
    with pytest.raises(RuntimeError, match="once"):
        await client.__aenter__()


async def test_opening_in_a_cancelled_scope_leaves_nothing_behind() -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living
    with trio.CancelScope() as scope:
        scope.cancel()
        async with Client(dial=nothing):
            raise AssertionError("not reached")
    assert scope.cancelled_caught
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_a_closed_client_leaves_no_task_behind() -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with Client(dial=nothing):
        pass
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_the_statistics_are_a_frozen_picture() -> None:
    async with client_of(answering(OK)) as (client, _):
        assert client.statistics() == ClientStatistics(dialing=0, leased=0, idle=0, waiting=0)
        await client.get(URL)
        counts = client.statistics()
        assert counts == ClientStatistics(dialing=0, leased=0, idle=1, waiting=0)
        assert repr(client) == "<Client: 0 leased, 1 idle, 0 waiting>"
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            counts.idle = 2  # type: ignore[misc]  # what is tested


def test_options_are_a_config_or_its_attributes() -> None:
    assert set(ClientConfig.__annotations__) == set(attrs.fields_dict(ClientConfig))
    with pytest.raises(TypeError, match="not both"):
        Client(ClientConfig(), max_connections=1)
    with pytest.raises(TypeError):
        Client(timeout=5)  # type: ignore[call-arg]  # there is none


async def test_a_config_can_be_shared() -> None:
    config = ClientConfig(max_content_bytes=1, dial=nothing)
    async with Client(config) as one, Client(config) as other:
        assert one.statistics() == other.statistics()


async def test_a_stream_that_cannot_be_closed_does_not_take_the_client_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unclosable(ForwardingStream[trio.abc.HalfCloseableStream]):
        """A user's stream with a bug."""

        async def aclose(self) -> None:
            try:
                await super().aclose()
            finally:
                raise LookupError("a bug")

    peers = [answering(OK), answering(OK)]
    streams = iter([Unclosable(peers[0].stream), peers[1].stream])
    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(peer.play)

        async def dial(*_: Any) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            return next(streams)

        async with Client(dial=dial, max_connections=1) as client:
            await client.get(URL)
            await client.get("http://other.example/")
            assert await in_pool(client) == (0, 1)
    assert "a bug" in caplog.text


async def test_a_scripted_server_that_says_nothing_holds_nobody_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client_of(ScriptedPeer(), answering(OK)) as (client, _):
        with trio.move_on_after(1):
            await client.get(URL)
        with trio.fail_after(1):
            assert (await client.get(URL)).status == 200
