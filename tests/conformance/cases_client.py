"""How the verbs of `Client` and of `ClientConnection` are called."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import trio
import trio.testing

from tests.cancellation._worlds import Network
from tests.conformance._cases import MISUSE, Failure, a_list, case
from tests.conformance._client_worlds import (
    WHOLE,
    OneConnection,
    answer,
    is_closed,
    network,
    network_with,
    one_connection,
    still_works,
    works_or_is_closed,
)
from trio_http import (
    Client,
    ConnectFailed,
    ConnectionLost,
    ContentTooLarge,
    InvalidRequest,
    PoolClosed,
    ResponseIncomplete,
    StatusError,
    UpgradeRefused,
)

VERBS = "get head options delete post put patch".split()
WITH_CONTENT = frozenset(["post", "put", "patch"])


# ------------------------------------------------------------------------------------------------------ verbs


async def _ask(requester: Any, verb: str, path: str = "/path", **options: Any) -> None:
    if verb in WITH_CONTENT:
        options.setdefault("content", b"content")
    response = await getattr(requester, verb)(path, **options)
    said = f"{verb.upper()} /path {'content' if verb in WITH_CONTENT else ''}"
    assert response.text == ("" if verb == "head" else said)


def _fails(verb: str) -> list[Failure]:
    """Return the failures that all verbs have in common."""

    async def unreachable(net: Network) -> None:
        await getattr(net.client, verb)("http://nowhere/")

    async def refused(net: Network) -> None:
        await getattr(net.client, verb)("http://")

    async def close(closed: list[Client]) -> None:
        async with Client() as client:
            closed.append(client)

    async def closed(closed: list[Client]) -> None:
        await getattr(closed[0], verb)("http://a/")

    return [
        Failure(unreachable, ConnectFailed),
        Failure(refused, InvalidRequest, at_once=MISUSE),
        Failure(closed, PoolClosed, prepare=close, world=a_list),
    ]


def _fails_alone(verb: str) -> list[Failure]:
    async def close(one: OneConnection) -> None:
        await one.connection.aclose()

    async def closed(one: OneConnection) -> None:
        await getattr(one.connection, verb)("/")

    async def refused(one: OneConnection) -> None:
        await getattr(one.connection, verb)("http://")

    return [Failure(closed, PoolClosed, prepare=close), Failure(refused, InvalidRequest, at_once=MISUSE)]


for verb in VERBS:

    @case(f"trio_http.Client.{verb}", world=network, check=still_works, fails=_fails(verb))
    async def _by_client(net: Network, verb: str = verb) -> None:
        await _ask(net.client, verb)

    @case(
        f"trio_http.ClientConnection.{verb}",
        world=one_connection,
        check=works_or_is_closed,
        fails=_fails_alone(verb),
    )
    async def _by_connection(one: OneConnection, verb: str = verb) -> None:
        await _ask(one.connection, verb)


async def _cut(net: Network) -> None:
    await net.client.request("GET", "/cut")


async def _endless(net: Network) -> None:
    await net.client.request("GET", "/pieces")


@case(
    "trio_http.Client.request",
    world=network,
    check=still_works,
    fails=[
        Failure(_cut, ResponseIncomplete),
        Failure(_endless, ContentTooLarge, world=network_with(max_content_bytes=1)),
    ],
)
async def _request(net: Network) -> None:
    assert (await net.client.request("GET", "/pieces")).content == WHOLE


async def _cut_alone(one: OneConnection) -> None:
    await one.connection.request("GET", "/cut")


async def _stale(one: OneConnection) -> None:
    one.stream.reset()
    await one.connection.request("GET", "/")


@case(
    "trio_http.ClientConnection.request",
    world=one_connection,
    check=works_or_is_closed,
    fails=[Failure(_cut_alone, ResponseIncomplete), Failure(_stale, ConnectionLost)],
)
async def _request_alone(one: OneConnection) -> None:
    assert (await one.connection.request("GET", "/pieces")).content == WHOLE


# ----------------------------------------------------------------------------------------------------- blocks


async def _read_block(requester: Any) -> None:
    async with requester.stream("GET", "/pieces") as response:
        assert await response.read() == WHOLE


async def _cut_block(requester: Any) -> None:
    async with requester.stream("GET", "/cut") as response:
        await response.read()


async def _echo_block(requester: Any) -> None:
    async with requester.upgrade("/echo", "echo") as stream:
        await stream.send_all(b"echo")
        assert await stream.receive_some() == b"echo"


async def _refused_block(requester: Any) -> None:
    async with requester.upgrade("/fresh", "echo"):
        raise AssertionError("the server does not know this protocol")


@case(
    "trio_http.Client.stream()",
    world=network,
    check=still_works,
    fails=[Failure(lambda net: _cut_block(net.client), ResponseIncomplete)],
)
async def _stream(net: Network) -> None:
    await _read_block(net.client)


@case(
    "trio_http.ClientConnection.stream()",
    world=one_connection,
    check=works_or_is_closed,
    fails=[Failure(lambda one: _cut_block(one.connection), ResponseIncomplete)],
)
async def _stream_alone(one: OneConnection) -> None:
    await _read_block(one.connection)


@case(
    "trio_http.Client.upgrade()",
    world=network,
    check=still_works,
    fails=[Failure(lambda net: _refused_block(net.client), UpgradeRefused)],
)
async def _upgrade(net: Network) -> None:
    await _echo_block(net.client)


@case(
    "trio_http.ClientConnection.upgrade()",
    world=one_connection,
    check=works_or_is_closed,
    fails=[Failure(lambda one: _refused_block(one.connection), UpgradeRefused)],
)
async def _upgrade_alone(one: OneConnection) -> None:
    await _echo_block(one.connection)


@case("trio_http.Upgrade.__aenter__", world=network, check=still_works)
async def _enter_upgrade(net: Network) -> None:
    upgrade = net.client.upgrade("/echo", "echo")
    with trio.testing.assert_checkpoints():
        await upgrade.__aenter__()
    await upgrade.__aexit__(None, None, None)


@attrs.frozen
class _Upgraded:
    net: Network
    upgrade: Any


@contextlib.asynccontextmanager
async def _upgraded() -> AsyncIterator[_Upgraded]:
    async with network() as net:
        upgrade = net.client.upgrade("/echo", "echo")
        await upgrade.__aenter__()
        yield _Upgraded(net, upgrade)


@case("trio_http.Upgrade.__aexit__", world=_upgraded, check=lambda each: still_works(each.net))
async def _leave_upgrade(each: _Upgraded) -> None:
    await each.upgrade.__aexit__(None, None, None)


# -------------------------------------------------------------------------------------------------- downloads


@attrs.frozen
class _Directory:
    net: Any
    one: Any
    path: Path


@contextlib.asynccontextmanager
async def _directory() -> AsyncIterator[_Directory]:
    with tempfile.TemporaryDirectory() as name:
        async with network() as net, one_connection() as one:
            yield _Directory(net, one, Path(name) / "file")


async def _download_is_whole_or_not_there(there: _Directory) -> None:
    path = there.path
    if path.exists():
        assert path.read_bytes() == WHOLE
        assert not path.with_name("file.part").exists()


async def _check_download(there: _Directory) -> None:
    await _download_is_whole_or_not_there(there)
    await still_works(there.net)


async def _check_download_alone(there: _Directory) -> None:
    await _download_is_whole_or_not_there(there)
    await works_or_is_closed(there.one)


def _download_fails(whose: str) -> list[Failure]:
    async def error(there: _Directory) -> None:
        await _of(there).download("/error", there.path)

    async def cut(there: _Directory) -> None:
        await _of(there).download("/cut", there.path)

    async def nowhere(there: _Directory) -> None:
        await _of(there).download("/pieces", there.path / "no such" / "directory")

    def _of(there: _Directory) -> Any:
        return there.net.client if whose == "client" else there.one.connection

    return [Failure(error, StatusError), Failure(cut, ResponseIncomplete), Failure(nowhere, OSError)]


@case(
    "trio_http.Client.download",
    world=_directory,
    check=_check_download,
    fails=_download_fails("client"),
    threads=True,
)
async def _download(there: _Directory) -> None:
    await there.net.client.download("/pieces", there.path)


@case(
    "trio_http.ClientConnection.download",
    world=_directory,
    check=_check_download_alone,
    fails=_download_fails("connection"),
    threads=True,
)
async def _download_alone(there: _Directory) -> None:
    await there.one.connection.download("/pieces", there.path)


# ---------------------------------------------------------------------------------------- opening and closing


async def _warm_nowhere(net: Network) -> None:
    await net.client.warm("http://nowhere")


async def _warm_none(net: Network) -> None:
    await net.client.warm("http://a", 0)


@case(
    "trio_http.Client.warm",
    world=network,
    check=still_works,
    fails=[
        Failure(_warm_nowhere, ConnectFailed),
        Failure(_warm_none, ValueError, at_once=MISUSE),
    ],
)
async def _warm(net: Network) -> None:
    await net.client.warm("http://a", 2)


@case("trio_http.Client.warm", world=network, check=still_works, variant="is warm already")
async def _warm_already(net: Network) -> None:
    await net.client.warm("http://a")
    with trio.testing.assert_checkpoints():
        await net.client.warm("http://a")


async def _open_again(net: Network) -> None:
    await net.client.__aenter__()


@case(
    "trio_http.Client.__aenter__",
    fails=[Failure(_open_again, RuntimeError, at_once=MISUSE, world=network)],
)
async def _open(_: object) -> None:
    client = Client()
    with trio.testing.assert_checkpoints():
        await client.__aenter__()
    await client.__aexit__(None, None, None)


@contextlib.asynccontextmanager
async def _net_alone() -> AsyncIterator[Network]:
    async with Network(answer).opened() as net:
        yield net


async def _all_closed(net: Network) -> None:
    await trio.testing.wait_all_tasks_blocked()
    assert all(stream.closed for stream in net.streams)


@case("trio_http.Client.__aexit__", world=_net_alone, check=_all_closed)
async def _close(net: Network) -> None:
    # From beginning to end: the task that has opened a client closes it.
    client = await Client(base_url="http://a", dial=net.dial).__aenter__()
    try:
        await client.warm("/")
    finally:
        with trio.testing.assert_checkpoints():
            await client.__aexit__(None, None, None)


@case("trio_http.ClientConnection.aclose", world=one_connection, check=is_closed)
async def _aclose(one: OneConnection) -> None:
    await one.connection.aclose()


@case("trio_http.ClientConnection.aclose", world=one_connection, check=is_closed, variant="closed before")
async def _aclose_again(one: OneConnection) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
        await one.connection.aclose()
    await one.connection.aclose()


@case("trio_http.ClientConnection.__aenter__", world=one_connection, check=works_or_is_closed)
async def _enter_connection(one: OneConnection) -> None:
    assert await one.connection.__aenter__() is one.connection


@case("trio_http.ClientConnection.__aexit__", world=one_connection, check=is_closed)
async def _leave_connection(one: OneConnection) -> None:
    await one.connection.__aexit__(None, None, None)
