"""Clients that are cancelled, and networks that break, at every step of every kind of visit to a server.

What must hold on both sides is in `House.see_all_is_well`: the handler has ended, each side has closed what
the other one has, and both work as before.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._houses import Visit, break_at_every_step, sweep_visitor
from tests.cancellation._visits import SECURED, VISITS, Finishing, Kept, WaitingForTheEnd
from trio_http import Request, Response
from trio_http.client import Client


@pytest.mark.parametrize("visit", [*VISITS, *SECURED])
async def test_a_client_that_is_cancelled_is_gone_from_the_server(
    visit: type[Visit], autojump_clock: MockClock
) -> None:
    await sweep_visitor(visit)


@pytest.mark.parametrize("visit", VISITS)
async def test_a_network_that_breaks_is_noticed_on_both_sides(
    visit: type[Visit], autojump_clock: MockClock
) -> None:
    outcomes = await break_at_every_step(visit)
    # This one goes by itself, and never hears of it.
    assert outcomes["broken"] > 0 or visit is WaitingForTheEnd
    assert outcomes["well"] > 0


# ---------------------------------------------------------------------------------- the sweeps can complain


class _Deaf(Visit):
    """A handler that lets no cancel near itself for a long time."""

    async def app(self, request: Request) -> Response | None:
        with trio.move_on_after(1000, shield=True):
            await trio.sleep(999)
        return Response()

    async def run(self, client: Client) -> None:
        with trio.move_on_after(1):
            await client.get("/")


@pytest.mark.finds_a_defect
async def test_a_handler_that_stays_would_be_found(autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError, match="1 handlers were left inside"):
        await sweep_visitor(_Deaf)


class _Forgetful(Kept):
    """A client that never closes one of its connections, which is none of its pool's."""

    async def run(self, client: Client) -> None:
        await super().run(client)
        self.house.door.connect()


@pytest.mark.finds_a_defect
async def test_a_connection_that_is_left_open_would_be_found(autojump_clock: MockClock) -> None:
    with pytest.raises((AssertionError, ExceptionGroup)) as caught:
        await sweep_visitor(_Forgetful)
    assert "connections are open" in "".join(_texts(caught.value))


class _Careless(Finishing):
    """A transaction that nothing protects."""

    async def app(self, request: Request) -> Response | None:
        self.begun += 1
        await trio.sleep(1)
        self.done += 1
        return Response(text="done")


async def test_a_transaction_that_is_broken_off_would_be_found(autojump_clock: MockClock) -> None:
    with pytest.raises((AssertionError, ExceptionGroup)) as caught:
        await break_at_every_step(_Careless)
    assert "a transaction was broken off" in "".join(_texts(caught.value))


class _Blaming(Kept):
    """A handler that takes its client's going for a fault of its own."""

    async def app(self, request: Request) -> Response | None:
        try:
            return await super().app(request)
        except trio.Cancelled as exc:
            raise LookupError("the client has gone") from exc


async def test_what_is_reported_as_a_fault_would_be_found(autojump_clock: MockClock) -> None:
    with pytest.raises((AssertionError, ExceptionGroup)) as caught:
        await break_at_every_step(_Blaming)
    assert "the client has gone" in "".join(_texts(caught.value))


def _texts(exc: BaseException) -> list[str]:
    """Return what the exceptions of a group of groups say."""
    if isinstance(exc, BaseExceptionGroup):
        return [text for each in exc.exceptions for text in _texts(each)]
    return [str(exc)]
