"""What the pages of explanation show is run, and what they claim of it is so."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

import pytest
import trio
import trio.testing

import trio_http
import trio_http.client
from tests.test_docs import ROOT, blocks
from trio_http.client._ledger import State
from trio_http.client._link import _kept_for
from trio_http.client._pool import _MANY
from trio_http.client._route import Route
from trio_http.client._url import parse_url
from trio_http.connection import Pace


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


POOL = (ROOT / "docs/explanation/client-pool.md").read_text("utf-8")


async def test_a_cancelled_request_leaves_its_dial_for_the_next_as_the_page_on_the_pool_says(
    autojump_clock: trio.testing.MockClock,
) -> None:
    (source,) = blocks(POOL, "python")

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        return trio.testing.memory_stream_pair()[0]

    names: dict[str, Any] = {"trio": trio, "trio_http": trio_http, "dial": dial}
    body = textwrap.indent(source, "    ")
    exec(compile(f"async def example():\n{body}\n    return waiting\n", "client-pool.md", "exec"), names)
    assert await names["example"]() == 1


def test_the_states_of_a_connection_are_those_of_the_page_on_the_pool() -> None:
    drawn = set(re.findall(r"\b[A-Z]{4,}\b", blocks(POOL.partition("## The states")[2], "")[0]))
    assert drawn == {state.name for state in State}


@pytest.mark.parametrize("row", re.findall(r"^\| `(http.*?)` \| (.*?) \| `(.*?)` \|$", POOL, re.MULTILINE))
def test_connections_are_kept_by_what_the_page_on_the_pool_says(row: tuple[str, str, str]) -> None:
    url, proxy, shown = row
    origin = parse_url(url).origin
    route = (
        Route(origin)
        if proxy == "none"
        else Route.through(trio_http.Proxy.from_url(proxy.strip("`")), origin)
    )
    assert str(route) == shown


def test_the_numbers_of_the_page_on_the_pool_are_those_of_the_code() -> None:
    assert "a second less than the server's `Keep-Alive: timeout=` says" in POOL
    assert _kept_for(b"timeout=5, max=100") == 4
    assert "more than\na dozen exchanges" in POOL
    assert _MANY == 12


def coroutines_with_a_promise() -> set[str]:
    """What a client's user may await and finds a paragraph on cancellation for, as its class or module names
    it."""
    found = set()
    for name, public in vars(trio_http.client).items():
        if not isinstance(public, type):
            continue
        for method, function in vars(public).items():
            if inspect.iscoroutinefunction(function) and "Cancellation:" in (function.__doc__ or ""):
                found.add(f"{name}.{method}")
    return found


#: What the table names otherwise, or what is no affair of a user's.
UNDER_ANOTHER_NAME = {
    **dict.fromkeys(
        ["BasicAuth.authorize", "BearerAuth.authorize", "DigestAuth.authorize", "NetrcAuth.authorize"],
        "Auth.authorize",
    ),
    **dict.fromkeys(["BearerAuth.answer", "DigestAuth.answer"], "Auth.answer"),
    **dict.fromkeys(["Multipart.open", "Sized.open"], "Content.open"),
    "Client.__aenter__": "entering `Client`",
    "Client.__aexit__": "leaving its block, `ClientConnection.aclose`",
    "ClientConnection.__aenter__": "ClientConnection.aclose",
    "ClientConnection.__aexit__": "ClientConnection.aclose",
    "Upgrade.__aenter__": "entering `upgrade`",
    "Upgrade.__aexit__": "leaving its block",
    **dict.fromkeys(
        ["ResponseBody.release_early", "ResponseBody.leave", "ResponseBody.end"],
        "leaving the block of `stream`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(coroutines_with_a_promise()))
def test_what_may_be_awaited_of_a_client_stands_in_the_table_of_cancels(name: str) -> None:
    page = (ROOT / "docs/explanation/cancellation.md").read_text("utf-8")
    assert UNDER_ANOTHER_NAME.get(name, f"`{name}`") in page.partition("## On the client")[2]
