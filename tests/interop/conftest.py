"""What the tests of our client have in common, whatever its peer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.interop.programs import SECONDS
from trio_http import Client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client with its defaults, for as long as a step may take."""
    async with Client() as client:
        with trio.fail_after(SECONDS):
            yield client


def idle_and_leased(client: Client) -> tuple[int, int]:
    """How many connections wait for a request, and how many have one."""
    counts = client.statistics()
    return counts.idle, counts.leased
