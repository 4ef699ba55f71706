"""Scenes: what a client and a server do together, played again for each place where it can be interrupted."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import trio
import trio.testing

from tests.cancellation._worlds import Accounts, Network, lands_in
from trio_http import PoolClosed, Request, Response
from trio_http.client import Client
from trio_http.testing import SweepReport, cancel_at_every_step
from trio_http.testing._scheduler import repeatable_order


class Scene:
    """A request or several, and the server that answers them: what the two sweeps below are about.

    A new one is made for each run, and may remember what has happened in it.

    Attributes:
      options: of the client.
      warm: how many connections the client has already.
      lands: functions in which a cancel has to come.
      refusals: what may come of it when the client is closed meanwhile.
    """

    refusals: tuple[type[Exception], ...] = (PoolClosed,)
    options: Mapping[str, Any] = {}
    warm: int = 1
    lands: Sequence[str] = ()

    def fresh_options(self) -> dict[str, Any]:
        """Return those options of the client that remember something."""
        return {}

    async def app(self, request: Request) -> Response | None:
        """Be the server."""
        return Response(content=await request.read())

    async def run(self, client: Client) -> None:
        """Be the client, and see that what comes is right. Left alone, it succeeds."""
        raise NotImplementedError

    def see(self) -> None:
        """See after each run, cancelled or not, that nothing is left behind."""


class _Stage:
    """Where a scene is played: again and again, each time from its beginning."""

    scene: Scene

    def __init__(self, make: Callable[[], Scene]) -> None:
        self._make = make

    @contextlib.asynccontextmanager
    async def network(self) -> AsyncIterator[Network]:
        scene = self.scene = self._make()

        async def answer(request: Request) -> Response | None:
            return Response(text="fresh") if request.path == "/fresh" else await scene.app(request)

        async with Network(answer).opened() as net:
            net.accounts = Accounts()
            yield net

    @contextlib.asynccontextmanager
    async def opened(self, net: Network) -> AsyncIterator[Client]:
        options = {"dial": net.dial, **self.scene.options, **self.scene.fresh_options()}
        assert net.accounts is not None
        async with Client(base_url="http://a", instruments=[net.accounts], **options) as net.client:
            async with trio.open_nursery() as nursery:
                for _ in range(self.scene.warm):
                    nursery.start_soon(net.client.get, "/fresh")
            yield net.client


async def sweep_scene(make: Callable[[], Scene]) -> SweepReport:
    """Cancel a scene at each of its steps; see that the client is none the worse, and has told no lie."""
    stage = _Stage(make)

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Network]:
        async with stage.network() as net, stage.opened(net):
            yield net

    async def perform(net: Network) -> None:
        await stage.scene.run(net.client)

    async def check(net: Network) -> None:
        await net.see_all_is_well()
        stage.scene.see()

    report = await cancel_at_every_step(perform, world=world, check=check, max_steps=5000)
    lands_in(report, *stage.scene.lands)
    return report


class _Steps(trio.abc.Instrument):
    """Tells when a task has made so many steps."""

    def __init__(self, limit: int) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.reached = trio.Event()
        self._left = limit

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self._left -= 1
            if self._left == 0:
                self.reached.set()


async def close_at_every_step(make: Callable[[], Scene]) -> int:
    """Close the client after each step of a scene that another task plays.

    After each run: the scene has come to its end, well or with what it may be refused with, and not with
    anybody's cancel; every connection is closed, and the instruments were told the truth.

    Returns:
      How many of the runs were refused.
    """
    stage = _Stage(make)
    refused = 0
    for step in itertools.count(1):
        outcome: list[str] = []
        steps = _Steps(step)

        async def play(client: Client, steps: _Steps = steps, outcome: list[str] = outcome) -> None:
            steps.task = trio.lowlevel.current_task()
            try:
                await stage.scene.run(client)
                outcome.append("well")
            except stage.scene.refusals:
                outcome.append("refused")
            finally:
                steps.reached.set()

        with repeatable_order(0), trio.fail_after(1000):
            async with stage.network() as net:
                async with trio.open_nursery() as nursery, stage.opened(net) as client:
                    nursery.start_soon(play, client)
                    trio.lowlevel.add_instrument(steps)
                    await steps.reached.wait()
                    trio.lowlevel.remove_instrument(steps)
                    ended = bool(outcome)
                await trio.testing.wait_all_tasks_blocked()
                stage.scene.see()
        assert len(outcome) == 1, f"closed after step {step}: {outcome}"
        refused += outcome == ["refused"]
        if ended:
            assert outcome == ["well"], "left alone, the scene succeeds"
            return refused
    raise AssertionError("a count has no end")
