"""What the pages of explanation show is run, and what they claim of it is so."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

import trio_http
from tests.test_docs import ROOT, blocks
from trio_http.server._pace import Pace


class Order:
    """The handler of the page on shutdowns, with what it calls."""

    def __init__(self) -> None:
        (source,) = blocks((ROOT / "docs/explanation/shutdown.md").read_text("utf-8"), "python")
        self.done: list[str] = []
        names: dict[str, Any] = {"trio_http": trio_http, "charge": self._step, "record": self._step}
        exec(compile(source, "shutdown.md", "exec"), names)
        self.app = names["order"]

    async def _step(self, content: Any) -> None:
        await trio.sleep(2)
        self.done.append(content["what"])

    async def begin(self, nursery: trio.Nursery) -> tuple[trio_http.Server, trio.abc.Stream]:
        client, end = trio.testing.memory_stream_pair()
        server = await nursery.start(trio_http.serve_connection, self.app, end)
        await client.send_all(b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\r\n{"what": "a"}')
        await trio.sleep(1)
        return server, client


async def test_a_client_that_leaves_does_not_keep_the_pages_order_from_being_finished(
    autojump_clock: trio.testing.MockClock,
) -> None:
    order = Order()
    async with trio.open_nursery() as nursery:
        _, client = await order.begin(nursery)
        await client.aclose()
    assert order.done == ["a", "a"]
    assert trio.current_time() == 4


async def test_the_end_of_the_grace_comes_through_the_pages_finish(
    autojump_clock: trio.testing.MockClock,
) -> None:
    order = Order()
    async with trio.open_nursery() as nursery:
        server, _ = await order.begin(nursery)
        await server.shutdown(grace=2)
        assert trio.current_time() == 3
    assert order.done == ["a"]


def given_up_after(*, bytes_per_second: int) -> float:
    """When a client that sends so much, once a second, has used up the patience of the page's example."""
    pace = Pace(60, 240)
    now = 0.0
    while now < 3600:
        end = pace.start(now)
        now += 1
        if end < now or not pace.stop(now, bytes_per_second):
            return now
    return 3600


def test_patience_lasts_as_long_as_the_page_on_time_says() -> None:
    assert given_up_after(bytes_per_second=0) == 60
    assert 118 <= given_up_after(bytes_per_second=120) <= 120
    assert given_up_after(bytes_per_second=240) == 3600
    assert 59 <= given_up_after(bytes_per_second=1) <= 61
