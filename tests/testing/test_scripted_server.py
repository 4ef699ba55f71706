"""A scripted server plays a script on each connection, and fails when the scripts were not followed."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.testing._ways import MEMORY, TCP, UNIX, every_plain_way, serving, trusting
from trio_http import ConnectFailed, ConnectionLost, ResponseIncomplete, ResponseInvalid
from trio_http.client import Client
from trio_http.testing import (
    Script,
    ScriptedServer,
    ScriptFailed,
    cancel_at_every_step,
    memory_pair,
    open_scripted_server,
)

END = b"\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWER = Script().expect_until(END, startswith=b"GET ").send(OK)


@contextlib.asynccontextmanager
async def opened(
    way: str, *scripts: Script, client: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Client, ScriptedServer]]:
    """A scripted server, and a client whose dials lead to it."""
    opening = open_scripted_server(*scripts, over=way, **options)  # type: ignore[arg-type]  # it is a way
    async with opening as server, Client(dial=server.dial, **(client or {})) as it:
        yield it, server


# -------------------------------------------------------------------------------------- scripts are followed


@every_plain_way
async def test_the_nth_connection_plays_the_nth_script(way: str) -> None:
    scripts = (ANSWER.close(), ANSWER.then(ANSWER).expect_end())
    async with opened(way, *scripts) as (client, server):
        for _ in range(3):
            assert (await client.get(server.url)).text == "ok"
        assert [peer.received.count(b"GET / ") for peer in server.peers] == [1, 2]


@pytest.mark.interop
async def test_a_tcp_server_has_a_url_and_an_address() -> None:
    async with open_scripted_server(ANSWER.close()) as server, Client() as client:
        assert isinstance(server.address, tuple)
        assert server.url == "http://{}:{}".format(*server.address)
        assert (await client.get(server.url)).text == "ok"
        assert repr(server) in (
            "<ScriptedServer, 0 of 1 scripts played>",
            "<ScriptedServer, 1 of 1 scripts played>",
        )


@pytest.mark.interop
async def test_a_unix_server_has_a_path_which_is_gone_afterwards() -> None:
    async with open_scripted_server(ANSWER.close(), over="unix") as server:
        assert isinstance(server.address, str)
        async with Client(unix_socket=server.address) as client:
            assert (await client.get(server.url)).text == "ok"
    assert not Path(server.address).parent.exists()


async def test_a_server_in_memory_has_no_address_and_is_reached_by_its_dial() -> None:
    async with opened("memory", ANSWER.expect_end()) as (client, server):
        assert server.address is None
        assert (await client.get("http://anything.example/")).text == "ok"


@every_plain_way
async def test_the_same_script_answers_under_tls(way: str) -> None:
    # In memory our client has no way to announce an end without a wait.
    script = ANSWER.expect_end_or_broken()
    async with opened(way, script, ssl_context=serving(), client={"ssl_context": trusting()}) as it:
        client, server = it
        assert server.url.startswith("https://")
        assert (await client.get(server.url)).text == "ok"


@every_plain_way
async def test_a_close_delimited_answer_is_whole_after_a_close_and_not_after_a_cut(way: str) -> None:
    head = Script().expect_until(END).send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall")
    async with opened(
        way, head.close(), head.cut(), ssl_context=serving(), client={"ssl_context": trusting()}
    ) as (client, server):
        assert (await client.get(server.url)).text == "all"
        with pytest.raises(ResponseIncomplete):
            await client.get(server.url)


@pytest.mark.parametrize("way", [MEMORY, TCP])
async def test_a_client_sees_a_reset_as_a_reset(way: str) -> None:
    script = Script().expect_until(END).send(OK[:-1]).wait_until_quiet().reset()
    async with opened(way, script) as (client, server):
        with pytest.raises(ResponseIncomplete) as caught:
            await client.get(server.url)
    assert isinstance(caught.value.__cause__, trio.BrokenResourceError)


@every_plain_way
async def test_a_client_reads_an_answer_that_comes_byte_by_byte(way: str) -> None:
    """What each receive gets is counted here in memory, and in test_scripted_steps over every way."""
    streams: list[Any] = []
    script = Script().expect_until(END).send_bytewise(OK).expect_end()
    async with open_scripted_server(script, over=way) as server:  # type: ignore[arg-type]  # a way

        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            stream = await server.dial(host, port, scheme)
            streams.append(stream)
            return stream

        async with Client(dial=dial) as client:
            assert (await client.get(server.url)).text == "ok"
    if way == "memory":
        assert (streams[0].receives, streams[0].received_bytes) == (len(OK), len(OK))


@every_plain_way
async def test_the_end_of_the_block_waits_for_the_scripts(way: str) -> None:
    script = ANSWER.expect_end().wait(0.05).call(lambda: told.append("over"))
    told: list[str] = []
    async with opened(way, script) as (client, server):
        await client.get(server.url)
    assert told == ["over"]


# ---------------------------------------------------------------------------------- scripts are not followed


@every_plain_way
async def test_a_script_that_fails_cancels_the_block_and_its_failure_comes_out(way: str) -> None:
    with pytest.raises(AssertionError) as caught:
        async with opened(way, ANSWER.close(), Script().expect(b"PUT ")) as (client, server):
            await client.get(server.url)
            with pytest.raises(ConnectionLost):
                await client.get(server.url)
            await trio.sleep_forever()
    assert str(caught.value) == (
        "connection 2, step 1 of 1, expect(b'PUT '):\n  expected: b'PUT '\n  got:      b'GET '"
    )


@every_plain_way
async def test_an_exception_of_the_block_is_the_cause_of_a_failure_that_led_to_it_or_else_comes_out(
    way: str,
) -> None:
    """Which of both is the other's consequence does not depend on whose task was faster."""
    script = Script().expect_until(END, startswith=b"PUT ")
    with pytest.raises(ScriptFailed, match="connection 1, step 1 of 1, expect_until") as failure:
        async with opened(way, script) as (client, server):
            try:
                await client.post(server.url)
            except (ConnectionLost, trio.Cancelled) as exc:
                raise ZeroDivisionError from exc
    assert isinstance(failure.value.__cause__, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError) as caught:
        async with opened(way, ANSWER.expect(b"more")) as (_, server):
            stream = await server.dial("a", 80, "http")
            try:
                await stream.aclose()
                await trio.sleep_forever()
            except trio.Cancelled as exc:
                raise ZeroDivisionError from exc
    assert "a script has failed, too: connection 1, step 1 of 3" in caught.value.__notes__[0]
    with pytest.raises(ZeroDivisionError) as caught:
        async with opened(way, ANSWER):  # which is not played, and that is no wonder
            raise ZeroDivisionError
    assert not hasattr(caught.value, "__notes__")


async def test_a_script_that_is_not_at_its_end_fails_the_block(
    autojump_clock: trio.testing.MockClock,
) -> None:
    start = trio.current_time()
    stream: trio.abc.Stream
    with pytest.raises(AssertionError) as caught:
        async with open_scripted_server(
            ANSWER.expect(b"more"), ANSWER, ANSWER, over="memory", patience=7
        ) as server:
            stream = await server.dial("a", 80, "http")
            await stream.send_all(b"GET /" + END)
            assert await stream.receive_some() == OK
    assert trio.current_time() - start == 7
    assert str(caught.value) == (
        "connection 1 is still at step 3 of 3, expect(b'more')\n"
        "  received so far: b'GET /\\r\\n\\r\\n'\n"
        "of 3 connections that have scripts, 1 have come"
    )
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()


@every_plain_way
async def test_a_connection_without_a_script_fails_the_block(way: str) -> None:
    with pytest.raises(
        AssertionError, match=r"\A1 more connections have come than the 1 that have scripts\Z"
    ):
        async with opened(way, ANSWER.close()) as (client, server):
            await client.get(server.url)
            with pytest.raises((ConnectFailed, ConnectionLost)):
                await client.get(server.url)


@pytest.mark.interop
@pytest.mark.parametrize("checkpoints", range(5))
async def test_a_connection_that_comes_with_the_end_of_the_block_counts(checkpoints: int) -> None:
    """However far it has come in being accepted."""
    with pytest.raises(ScriptFailed, match="1 more connections"):
        async with open_scripted_server() as server:
            if checkpoints:  # otherwise the server's own task has not run yet
                await trio.testing.wait_all_tasks_blocked()
            assert isinstance(server.address, tuple)
            socket.create_connection(server.address).close()
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("first", [0, 1])
async def test_of_several_failures_one_that_is_no_consequence_comes_out(first: int) -> None:
    scripts = (Script().expect(b"x"), Script().expect(b"x"))
    with pytest.raises(ScriptFailed, match=f"connection {first + 1}, .*") as failure:
        async with open_scripted_server(*scripts, over="memory") as server:
            streams: list[Any] = [await server.dial("a", 80, "http") for _ in range(2)]
            await trio.testing.wait_all_tasks_blocked()
            await streams[first].send_all(b"y")
            streams[1 - first].close()
            await trio.sleep_forever()
    assert f"a script has failed, too: connection {2 - first}, " in failure.value.__notes__[0]


async def test_what_a_called_function_raises_comes_out_as_it_is() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        async with opened("memory", ANSWER.wait_until_quiet().call(fail)) as (client, server):
            await client.get(server.url)
            await trio.sleep_forever()
    assert caught.value.__notes__ == [f"while a script was at step 4 of 4, call({fail.__qualname__})"]


@every_plain_way
async def test_a_failed_handshake_is_a_failure_of_the_first_step_that_needs_it(way: str) -> None:
    with pytest.raises(AssertionError, match="connection 1, step 2 of 3, expect_until"):
        async with opened(way, Script().wait(0).then(ANSWER), ssl_context=serving()) as (client, server):
            with pytest.raises(ConnectFailed):
                await client.get(server.url)  # trusts nobody of ours
            await trio.sleep(60)


async def test_a_closed_server_is_not_there_any_more() -> None:
    async with open_scripted_server(over="memory") as server:
        pass
    with pytest.raises(ConnectionRefusedError):
        await server.dial("a", 80, "http")


@pytest.mark.parametrize(
    "wrong", [{"over": "pigeon"}, {"patience": -1}, {"patience": float("inf")}, {"max_buffer_bytes": 0}]
)
async def test_an_argument_that_is_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="got"):
        async with open_scripted_server(ANSWER, **wrong):
            raise AssertionError("the block was entered")


# --------------------------------------------------------------------------------------------------- cancels


@every_plain_way
@pytest.mark.parametrize("context", [None, "tls"])
async def test_cancelled_anywhere_it_leaves_nothing_open(way: str, context: str | None) -> None:
    """The whole of it: the listener, connections whose script is played and over, the client, the folder."""
    tls: dict[str, Any] = {}
    if context is not None:
        contexts: tuple[ssl.SSLContext, ssl.SSLContext] = serving(), trusting()
        tls = {"ssl_context": contexts[0], "client": {"ssl_context": contexts[1]}}
    scripts = (ANSWER.close(), ANSWER.then(ANSWER).expect_end_or_broken())

    async def scenario() -> None:
        async with opened(way, *scripts, **tls) as (client, server):
            for _ in range(3):
                assert (await client.get(server.url)).text == "ok"

    report = await cancel_at_every_step(scenario)
    waiting = {point.task for point in report.points if point.moment == "waiting"}
    assert {"the scenario's task", "script 1", "script 2"} <= waiting


@pytest.mark.parametrize("way", [MEMORY, TCP, UNIX])
async def test_a_script_under_way_is_broken_off_with_the_block(way: str) -> None:
    ours: trio.abc.Stream = memory_pair()[0]
    with trio.CancelScope() as scope:
        async with open_scripted_server(ANSWER, over=way) as server:  # type: ignore[arg-type]  # a way
            ours = await server.dial("a", 80, "http")
            await ours.send_all(b"GET")
            await trio.testing.wait_all_tasks_blocked(0.01)
            scope.cancel()
            await trio.sleep_forever()
    async with ours:
        if way == "unix":
            assert await ours.receive_some() == b""
        else:
            with pytest.raises(trio.BrokenResourceError):
                await ours.receive_some()


@every_plain_way
async def test_an_answer_that_is_none_is_the_clients_error(way: str) -> None:
    async with opened(way, Script().expect_until(END).send(b"EHLO\r\n\r\n").expect_end_or_broken()) as (
        client,
        server,
    ):
        with pytest.raises(ResponseInvalid):
            await client.get(server.url)
