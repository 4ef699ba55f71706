"""Scenarios for which a defect planted in the client was the reason; see `test_holes`."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

import trio_http.client._pool
from tests.cancellation._contents import CountedContent
from tests.cancellation._worlds import Network, lands_in, sweep_client
from tests.client._contents import open_files
from trio_http import PoolClosed, Request, Response, serve_tcp
from trio_http.client import Client, ClientPace
from trio_http.client._addresses import Addresses
from trio_http.testing import cancel_at_every_step


async def slow(request: Request) -> Response:
    await trio.sleep(3)
    return Response(text=request.path)


async def test_the_idle_time_of_a_connection_ends_with_its_lease(autojump_clock: MockClock) -> None:
    """An answer may take longer than a connection may be idle."""

    async def scenario(client: Client) -> None:
        # No GET, which would be made again on another connection.
        assert (await client.post("/mine", content=b"once")).text == "/mine"

    # Without a limit on the server's time, which would take the place of the other.
    pace = ClientPace(head=math.inf)
    report = await sweep_client(scenario, slow, warm=1, idle_seconds=2.0, pace=pace)
    lands_in(report, "_receive_head")


async def test_there_are_never_more_dials_than_connections_may_be(autojump_clock: MockClock) -> None:
    """A dial that has lost its slot is over at once, and not when its own time is up."""
    most = 0

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Network]:
        nonlocal most
        most = 0
        async with Network(slow).opened() as net:

            async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
                nonlocal most
                net.dialing += 1
                try:
                    await trio.sleep(0.1)  # who has lost its slot in favour of this one has ended by now
                    most = max(most, net.dialing)
                    await trio.sleep(0 if host == "a" else 5)
                finally:
                    net.dialing -= 1
                return await net.dial(host, port, scheme)

            options: Any = {"dial": dial, "max_connections": 1}
            async with Client(base_url="http://a", **options) as net.client:
                yield net

    async def scenario(net: Network) -> None:
        with trio.move_on_after(1):
            await net.client.get("http://c/")
        assert (await net.client.get("/mine")).text == "/mine"

    async def check(net: Network) -> None:
        assert most <= 1, f"{most} dials at once where there may be one connection"
        counts = net.client.statistics()
        assert counts.dialing == net.dialing, f"{net.dialing} dials go on: {counts}"
        with trio.fail_after(10):
            await net.client.get("/mine")
        assert most <= 1, f"{most} dials at once where there may be one connection"

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "_wait")


async def test_content_is_closed_also_when_its_request_never_had_a_connection(
    autojump_clock: MockClock,
) -> None:
    content = CountedContent(b"content")

    async def app(request: Request) -> Response:
        await trio.sleep(3)
        return Response(content=await request.read())

    async def prepare(net: Network) -> None:
        net.background.start_soon(net.client.get, "/other")
        await trio.sleep(1)

    async def scenario(client: Client) -> None:
        try:
            assert (await client.put("/", content=content)).content == b"content"
        finally:
            assert content.open_now == 0, "the content was left open"

    report = await sweep_client(scenario, app, warm=1, prepare=prepare, max_connections_per_origin=1)
    lands_in(report, "open", "_wait", "next_piece", "aclose")


async def test_an_early_answer_ends_content_that_waits(autojump_clock: MockClock) -> None:
    """Content that nobody wants any more does not hold the answer up; its generator is closed."""
    inside = 0

    async def content() -> AsyncIterator[bytes]:
        nonlocal inside
        inside += 1
        try:
            yield b"piece"
            await trio.sleep(10_000)
        finally:
            inside -= 1

    async def early(request: Request) -> Response:
        return Response(413)

    async def scenario(client: Client) -> None:
        try:
            with trio.fail_after(100):
                assert (await client.post("/", content=content())).status == 413
        finally:
            assert inside == 0, "the content was left open"

    report = await sweep_client(scenario, early, warm=1)
    lands_in(report, "content", "_receive_head")


@pytest.mark.parametrize("joins", [0.0, 0.5])
async def test_a_lookup_that_is_cancelled_is_begun_again_by_who_shares_it(
    joins: float, autojump_clock: MockClock
) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await trio.sleep(1)
        return ["192.0.2.1"]

    class Asking:
        def __init__(self, nursery: trio.Nursery) -> None:
            self.addresses = Addresses(resolver=resolve)
            self.nursery = nursery
            self.found: list[Sequence[str]] = []

        async def ask(self, after: float) -> None:
            await trio.sleep(after)
            self.found.append(await self.addresses.of("a", 80))

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Asking]:
        async with trio.open_nursery() as nursery:
            try:
                yield Asking(nursery)
            finally:
                nursery.cancel_scope.cancel()

    async def scenario(asking: Asking) -> None:
        asking.nursery.start_soon(asking.ask, joins)
        await asking.ask(0.1)

    async def check(asking: Asking) -> None:
        with trio.fail_after(5):
            await asking.ask(0)
        await trio.sleep(3)
        assert all(found == ("192.0.2.1",) for found in asking.found), asking.found
        assert not asking.nursery.child_tasks, "somebody still waits"

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "of")


async def test_what_a_dial_brings_that_was_cancelled_is_closed(autojump_clock: MockClock) -> None:
    """A dial may be past its last checkpoint, or shield itself, when nobody wants its connection any more."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Network]:
        async with Network(slow, dial_seconds=1).opened() as net:
            yield net

    async def scenario(net: Network) -> None:
        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            with trio.CancelScope(shield=True):
                stream = await net.dial(host, port, scheme)
            return stream  # noqa: RET504  # within the block, mypy takes the scope to swallow what is raised

        options: Any = {"dial": dial}
        async with Client(base_url="http://a", **options) as client:
            assert (await client.get("/mine")).text == "/mine"

    async def check(net: Network) -> None:
        await trio.testing.wait_all_tasks_blocked()
        assert all(stream.closed for stream in net.streams), f"left open: {net.streams}"

    report = await cancel_at_every_step(scenario, world=world, check=check)
    lands_in(report, "dial", "_wait")


@pytest.mark.interop
async def test_a_client_that_waits_through_an_epoll_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which it does with many exchanges under way; here with any. Who waits in there is woken."""
    monkeypatch.setattr(trio_http.client._pool, "_MANY", 1)

    async def app(request: Request) -> Response:
        if request.path == "/never":
            await trio.sleep_forever()
        return Response(text="hello")

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_tcp, app, 0)
            yield server.url
            nursery.cancel_scope.cancel()

    async def scenario(url: str) -> None:
        async def never(client: Client) -> None:
            with contextlib.suppress(PoolClosed):
                await client.get("/never")
                raise AssertionError("an answer came")

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery, Client(base_url=url) as client:
                nursery.start_soon(never, client)
                assert (await client.get("/")).text == "hello"
                assert (await client.get("/")).text == "hello"

    report = await cancel_at_every_step(scenario, world=world)
    lands_in(report, "_receive_head", "__aexit__")


async def _in_this_thread(read: Callable[..., Any], *args: Any, abandon_on_cancel: bool = False) -> Any:
    """Stand in for a thread, for which an autojump clock would not wait: it is cancelled before it only."""
    await trio.lowlevel.checkpoint_if_cancelled()
    result = read(*args)
    await trio.lowlevel.cancel_shielded_checkpoint()
    return result


async def test_a_download_that_is_cancelled_lets_go_of_its_file_and_can_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", _in_this_thread)
    path, part = tmp_path / "file", tmp_path / "file.part"
    content = bytes(range(256)) * 40

    async def app(request: Request) -> None:
        first = int(request.headers.get("range", "bytes=0-")[6:-1])
        status, headers = 200, {"etag": '"1"'}
        if first:
            status = 206
            headers["content-range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        async with request.stream_response(status, headers=headers) as body:
            for start in range(first, len(content), 4000):
                await body.send_all(content[start : start + 4000])
                await trio.sleep(1)

    async def prepare(net: Network) -> None:
        for name in os.listdir(tmp_path):
            os.unlink(tmp_path / name)

    async def scenario(client: Client) -> None:
        try:
            await client.download("/", path)
        except trio.Cancelled:
            if part.exists():
                assert open_files(part) == [], "the part is still open"
                assert content.startswith(part.read_bytes()), "the part is not the beginning"
            raise
        assert path.read_bytes() == content

    async def again(client: Client) -> None:
        with trio.move_on_after(1.5):
            await scenario(client)
        await scenario(client)

    report = await sweep_client(again, app, warm=1, prepare=prepare)
    lands_in(report, "_receive", "download")
