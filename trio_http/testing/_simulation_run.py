"""One simulated run: a clock, a network, a repeatable order of tasks, and a judge."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import attrs
import trio
import trio.testing

from ._arguments import awaited
from ._interrupts import interrupt_in
from ._said import said
from ._scheduler import cancels_in_order, raise_in_ready, raise_in_waiting, repeatable_order
from ._simulated_network import SimulatedNetwork
from ._simulated_weather import ConnectionFacts, Weather, generator
from ._simulation_report import SimulationFailed
from ._task_tree import draw_tasks, function_name, is_within, tasks_under

# Virtual seconds that a program has for its clean-up when it is cancelled, before its tasks are ended by
# force. Arbitrary; far above what a clean-up of ours may take.
_CLEAN_UP_SECONDS = 600.0


@attrs.frozen(kw_only=True)
class Simulation:
    """What a simulated program is given.

    Attributes:
      seed: of this run.
      random: a generator for the program's own choices. Nobody else draws from it.
      network: the network of this run; its weather may be set.
      clock: the clock of this run, which jumps as soon as all tasks wait.
    """

    seed: int
    random: random.Random = attrs.field(repr=False)
    network: SimulatedNetwork
    clock: trio.testing.MockClock = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Terms:
    """What is the same in all runs of a simulation; see `simulate`."""

    program: Callable[[Simulation], Awaitable[object]]
    weather: Weather | Callable[[ConnectionFacts], Weather]
    buffer_bytes: int
    max_virtual_seconds: float
    max_steps: int

    @property
    def name(self) -> str:
        """The program's name."""
        return function_name(self.program).rpartition("<locals>.")[2]


class SimulatedRun(trio.abc.Instrument):
    """One run. Counts the steps, and stops a program that does not end.

    Attributes:
      network: of this run.
      seconds: virtual, when it was over.
      steps: that Trio's tasks have taken.
    """

    def __init__(self, terms: Terms, seed: int) -> None:
        self.seconds = 0.0
        self.steps = 0
        self._terms = terms
        self._seed = seed
        self._clock = trio.testing.MockClock(autojump_threshold=0)
        self.network = SimulatedNetwork(seed=seed, weather=terms.weather, buffer_bytes=terms.buffer_bytes)
        self._limit = terms.max_steps
        self._task: trio.lowlevel.Task | None = None
        self._scope = trio.CancelScope()
        self._error: Exception | None = None
        self._endless = ""
        self._tasks = ""
        self._left: list[str] = []

    def run(self) -> SimulationFailed | None:
        """Run the program; return what went wrong.

        Raises:
          KeyboardInterrupt, SystemExit: as they came.
        """
        random.seed(self._seed)
        with repeatable_order(self._seed), cancels_in_order():
            try:
                trio.run(self._main, clock=self._clock, instruments=[self])
            except Exception as exc:  # noqa: BLE001  # judged below
                self._error = self._error or exc
            except BaseExceptionGroup as group:  # cancel: outside of `trio.run` there is none
                raise (interrupt_in(group) or group) from group
        self.seconds = self._clock.current_time()
        return self._judged()

    def _judged(self) -> SimulationFailed | None:
        if self._endless:
            reason = self._endless
        elif self._error is not None:
            reason = said(self._error)
        elif self._left:
            reason = "it has ended and left open: " + "; ".join(self._left)
        else:
            return None
        failed = SimulationFailed(
            seed=self._seed,
            program=self._terms.name,
            reason=reason,
            seconds=self.seconds,
            steps=self.steps,
            trace=tuple(self.network.trace),
            tasks=self._tasks,
        )
        failed.__cause__ = self._error
        return failed

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            # Beside the program and not around it: a deadline around it would be seen by what it calls.
            nursery.start_soon(self._watch)
            nursery.start_soon(self._perform, nursery.cancel_scope, name=self._terms.name)

    async def _perform(self, whole: trio.CancelScope) -> None:
        self._task = trio.lowlevel.current_task()
        simulation = Simulation(
            seed=self._seed,
            random=generator(self._seed, "program"),
            network=self.network,
            clock=self._clock,
        )
        try:
            with self._scope:
                program = self._terms.program
                await awaited("the program", program, program(simulation))
                self._left = self.network.left_open()
        except Exception as exc:  # noqa: BLE001  # `run` judges it
            self._error = exc
        finally:
            self._task = None
            whole.cancel(reason="the simulated program has ended")

    async def _watch(self) -> None:
        await trio.sleep(self._terms.max_virtual_seconds)
        self._stop(f"it has not ended within {self._terms.max_virtual_seconds:g} virtual seconds")
        while True:  # what catches the error, and waits on, meets it again
            await trio.sleep(_CLEAN_UP_SECONDS)
            for task in tasks_under(self._task) if self._task is not None else ():
                if not any(nursery.child_tasks for nursery in task.child_nurseries):
                    raise_in_waiting(task, f"cancelled, and still waiting after {_CLEAN_UP_SECONDS:g} s")

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step; stop the program when there are too many."""
        self.steps += 1
        if self.steps > self._limit and self._task is not None and is_within(task, self._task):
            self._limit = self.steps + self._terms.max_steps
            if self._endless:  # it was cancelled, and goes on for as long again
                raise_in_ready(task, f"cancelled, and still running after {self.steps} steps")
            self._stop(f"it has not ended within {self._terms.max_steps} steps")

    def _stop(self, why: str) -> None:
        if not self._endless and self._task is not None:
            self._endless = why
            self._tasks = draw_tasks(self._task)
            self._scope.cancel(reason="the simulated program does not end")
