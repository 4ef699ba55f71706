"""The cancellation sweep: a scenario is run once for every moment at which a cancel can come.

Theory of operation
===================

A Trio task runs in *steps*, from one wake-up to the next wait. Between two steps of a task, and nowhere
else, can it be found by a cancel. What it finds there depends on when and how it comes:

- *waiting*: after a step, while the task waits. The wait is aborted: `trio.Cancelled` comes out of this
  very await, and what the abort has to take back (a place in a queue, a half-made hand-over) is put to the
  test;
- *woken*: before the next step, when what the task waited for has come. The await returns as if nothing had
  happened, and `Cancelled` comes out of the next one: what the task was just given must not get lost
  between the two;
- *deadline*: a deadline passes as the step begins. Trio cancels in its next round, when the I/O that has come
  meanwhile and the steps of all other ready tasks are behind it; and until then the code can see a deadline
  that is over;
- *beside*: after a step of a task that is not the scenario's: a server, a dial, another request. The scenario
  still waits, for something that is half done by then.

So a scenario of n steps beside m steps of others has 3n - 1 + m cancel points. The sweep runs it once
untouched, then once for each point, in the order of time. Steps of the tasks that the scenario has started
inside itself are its own, because the same cancel reaches them all.

These rules hold after each run, whatever the scenario is:

1. When `Cancelled` was delivered to the scenario, or to a task inside it, it comes out of it: neither
   swallowed nor turned into something else. A scenario that was not waiting for anything any more may
   complete instead.
2. No task, descriptor, socket or stream in memory is left that was not there before; nothing was dropped that
   should have been closed. First, a thread that was left to itself (``abandon_on_cancel``) has two real
   seconds to end in.
3. It ends at all, within ``patience`` seconds of Trio's clock: with an autojump clock this costs nothing.

The second is a list of invariants, to which the caller adds. What else must hold is also the caller's to say,
in ``check``.

The hard case is the first rule, for a scenario that comes to its end looks the same whether it was told or
not. So before each step of its tasks the sweep looks at what the task is about to be sent, and knows its own
cancel by the reason. A task that was sent it and ends without raising anything has swallowed it, unless a
scope within was cancelled on its own and has caught it; or, of a child's, somebody keeps it to hand it on, as
an ``outcome.Error`` does. Not found is a task that swallows it, meets it again at its next checkpoint, and so
raises it in the end.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar, overload

import attrs
import trio

from ._arguments import as_context, check_function, check_int, check_invariants, check_world
from ._cancel_point import OTHER_MOMENTS, OWN_MOMENTS, Moment, parse_key
from ._invariants import DEFAULT_INVARIANTS, Invariant
from ._left_threads import let_threads_end, threads_at_work
from ._said import said
from ._scheduler import cancels_in_order, repeatable_order, resting_collector
from ._steering import steering
from ._sweep_report import SweepFailed, SweepReport, sweep_defaults, tell_watchers
from ._sweep_run import SweepRun
from ._task_tree import all_tasks, function_name

T = TypeVar("T")

# Rounds of Trio that tasks have which are just about to end, before they count as left behind. Arbitrary; not
# until all wait, for one that was left behind may never.
_LAST_ROUNDS: Final = 100


@overload
async def cancel_at_every_step(
    scenario: Callable[[], Awaitable[object]],
    *,
    check: Callable[[], Awaitable[object] | None] | None = None,
    state: Callable[[], object] | None = None,
    invariants: Iterable[Invariant] = DEFAULT_INVARIANTS,
    beside: bool = True,
    only: str | None = None,
    keep_going: bool = False,
    max_steps: int = 2000,
    patience: float = 300,
    seed: int | None = None,
) -> SweepReport: ...


@overload
async def cancel_at_every_step(
    scenario: Callable[[T], Awaitable[object]],
    *,
    world: Callable[[], AbstractAsyncContextManager[T]],
    check: Callable[[T], Awaitable[object] | None] | None = None,
    state: Callable[[T], object] | None = None,
    invariants: Iterable[Invariant] = DEFAULT_INVARIANTS,
    beside: bool = True,
    only: str | None = None,
    keep_going: bool = False,
    max_steps: int = 2000,
    patience: float = 300,
    seed: int | None = None,
) -> SweepReport: ...


async def cancel_at_every_step(
    scenario: Callable[..., Awaitable[object]],
    *,
    world: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    check: Callable[..., Awaitable[object] | None] | None = None,
    state: Callable[..., object] | None = None,
    invariants: Iterable[Invariant] = DEFAULT_INVARIANTS,
    beside: bool = True,
    only: str | None = None,
    keep_going: bool = False,
    max_steps: int = 2000,
    patience: float = 300,
    seed: int | None = None,
) -> SweepReport:
    """Run ``scenario`` once for every moment at which a cancel can come, and look each time that all is well.

    ::

        async def scenario(client):
            await client.get("/")

        async def check(client):
            assert (await client.get("/")).status == 200    # cancelled or not, the client works as before

        report = await cancel_at_every_step(scenario, world=lambda: open_client(app), check=check)

    Works for any Trio code. Use an autojump clock where the scenario waits for time; but none where it waits
    for threads, processes or sockets of the system under a timeout, for it jumps to the timeout and does not
    wait for them. One sweep at a time, or one inside another: it sets the order of all tasks of the process.

    Args:
      scenario: what is cancelled. It must succeed when it is left alone, and do the same in every run.
      world: gives an async context manager, entered afresh for each run and not cancelled; what it yields
        is handed to ``scenario``, ``check`` and ``state``. None: they are called without arguments.
      check: raises when something is wrong after the scenario has ended, and returns otherwise; sync or
        async. It is called in the world, also after the run that is left alone.
      state: returns whatever shows best how things stand, such as the statistics of a pool; its text is in
        the report of a failure, as it was before, at the cancel, and after. It is called in the midst of
        Trio's work, so it may look at things and nothing else. None: what the world yields, if there is one.
      invariants: what must hold again when the world is left; see `Invariant`. To add one, give
        ``(*DEFAULT_INVARIANTS, yours)``.
      beside: cancel also after each step of tasks that are not the scenario's.
      only: the key of one cancel point, as a failure gives it; only that run is made, after the one that is
        left alone.
      keep_going: collect failures in the report, instead of raising the first one.
      max_steps: a scenario of more steps is taken for endless. At least 1.
      patience: seconds on Trio's clock that one run may take. Above 0.
      seed: decides in which order ready tasks run; the same seed gives the same runs. Another one may find
        another defect. None: 0, or what pytest was told by ``--sweep-seed``.

    Returns:
      What was tried. That it is not empty is the caller's to assert.

    Raises:
      SweepFailed: a rule is broken, or ``check`` has raised (its exception is the cause). The text has
        the cancel point, what could be seen before and after, and how to run it alone.
      TypeError: an argument is of the wrong kind: no async function, or one that takes something else.
      ValueError: ``only`` is no key, or the run ended before that point came; or a limit is too low.
      RuntimeError: another task or thread sweeps or simulates already.
      Exception: what the scenario raises when it is left alone, or what is found then; a note says so.

    Cancellation: the run under way is cancelled like any code, and no further one begins.
    """
    seed = sweep_defaults.seed if seed is None else seed
    only = sweep_defaults.only if only is None else only
    given = () if world is None else ("what the world gives",)
    check_function("the scenario", scenario, given)
    if world is not None:
        check_world(world)
    if check is not None:
        check_function("check", check, given)
    if state is not None:
        check_function("state", state, given, waits=False)
    check_int("seed", seed)
    check_int("max_steps", max_steps, 1)
    if not patience > 0:
        raise ValueError(f"patience must be above 0 seconds, got {patience}")
    name = function_name(scenario)
    sweep = _Sweep(
        scenario, world, check, state, check_invariants(invariants),
        beside, keep_going, max_steps, patience, seed,
    )  # fmt: skip
    with steering(f"a sweep of {name}"):
        try:
            if only is None:
                await sweep.run_all()
            else:
                await sweep.run_only(*parse_key(only))
        finally:
            report = sweep.report(name)
            tell_watchers(report)
    return report


@attrs.define
class _Sweep:
    """A sweep under way: what is the same in every run, and what has come of those that were made."""

    scenario: Callable[..., Awaitable[object]]
    world: Callable[[], AbstractAsyncContextManager[Any]] | None
    check: Callable[..., Awaitable[object] | None] | None
    state: Callable[..., object] | None
    invariants: tuple[Invariant, ...]
    beside: bool
    keep_going: bool
    max_steps: int
    patience: float
    seed: int
    steps: int = 0
    runs: list[SweepRun] = attrs.field(factory=list)
    failures: list[SweepFailed] = attrs.field(factory=list)
    raised_by_check: Exception | None = None

    def report(self, name: str) -> SweepReport:
        points = tuple(run.point for run in self.runs if run.point is not None)
        return SweepReport(points, self.steps, tuple(self.failures), name, self.seed)

    async def run_all(self) -> None:
        """Leave it alone once, then cancel it at each point until a run ends before its point comes."""
        owners = await self._leave_alone()
        step = 1
        more = True
        while more:
            if step > self.max_steps:
                raise AssertionError(
                    f"the scenario has not ended by itself within {self.max_steps} steps; is it endless?"
                )
            if step <= len(owners):
                moments = OWN_MOMENTS if owners[step - 1] else OTHER_MOMENTS
            else:  # it takes longer when it is cancelled late, or is not the same each time
                moments = (*OWN_MOMENTS, *OTHER_MOMENTS) if self.beside else OWN_MOMENTS
            reached = [await self._run_cancelled(step, moment) for moment in moments]
            # What the last step's end, a wait, has let in goes on.
            more = step < len(owners) or any(
                hit for hit, moment in zip(reached, moments, strict=True) if moment in ("waiting", "beside")
            )
            step += 1

    async def run_only(self, step: int, moment: Moment) -> None:
        """Leave it alone once, then cancel it at this point."""
        owners = await self._leave_alone()
        if not await self._run_cancelled(step, moment):
            raise ValueError(
                f"the scenario has no cancel point '{step} {moment}': left alone it takes {len(owners)} steps"
            )

    async def _leave_alone(self) -> list[bool]:
        """Run it untouched; return whose each of its steps was."""
        try:
            run = await self._run(None, "woken")
        except AssertionError:
            # A thing that is made once and kept for good (a thread's pipe, a module's file) is not left
            # behind by the second run.
            run = await self._run(None, "woken")
        self.steps = len(run.owners)
        return run.owners

    async def _run_cancelled(self, step: int, moment: Moment) -> bool:
        """Run it, cancelled at this point; return whether the point was reached."""
        try:
            run = await self._run(step, moment)
        except SweepFailed as exc:
            if not self.keep_going:
                raise
            return exc.point is not None
        return run.point is not None

    async def _run(self, step: int | None, moment: Moment) -> SweepRun:
        """Run the scenario once; see that the rules hold."""
        value: list[object] = []
        run = SweepRun(
            step,
            moment,
            max_steps=self.max_steps,
            beside=self.beside,
            describe=lambda: self._describe(value),
        )
        self.runs.append(run)
        try:
            with repeatable_order(self.seed), cancels_in_order(), resting_collector():
                await self._run_in_world(run, value)
        except Exception as exc:
            if step is None:
                exc.add_note("This was the run that a sweep leaves alone: nothing has been cancelled yet.")
                raise
            reason = f"check has raised {said(exc)}" if exc is self.raised_by_check else said(exc)
            failure = SweepFailed(run.point, run.place(), reason, run.state, self.seed)
            self.failures.append(failure)
            raise failure from exc
        return run

    async def _run_in_world(self, run: SweepRun, value: list[object]) -> None:
        before, at_work = all_tasks(), threads_at_work()
        with contextlib.ExitStack() as watched:
            for invariant in self.invariants:
                watched.enter_context(as_context(invariant, invariant()))
            if self.world is None:
                error = await self._perform(run, value)
            else:
                error = None
                try:
                    # The world is left in peace, also after a failure: its nurseries would group that.
                    async with self.world() as given:
                        value.append(given)
                        del given  # what is kept of it is in the list, and goes with that
                        error = await self._perform(run, value)
                except Exception:
                    if error is None:
                        raise
            value.clear()  # what was yielded is the world's, and may go with it
            # What they still have open is no leak; and what they open later would be one of the next run.
            await let_threads_end(at_work)
            if error is not None:
                raise error
            for _ in range(_LAST_ROUNDS):
                if all_tasks() <= before:
                    break
                await trio.lowlevel.checkpoint()

    async def _perform(self, run: SweepRun, value: list[object]) -> Exception | None:
        """Perform and check; return what went wrong."""
        try:
            await run.drive(self.scenario, tuple(value), self.patience)
        except Exception as exc:  # noqa: BLE001  # raised by `_run_in_world`
            return exc
        try:
            if self.check is not None:
                verdict: object = self.check(*value)
                if inspect.isawaitable(verdict):
                    verdict = await verdict
                if isinstance(verdict, bool):  # who returns one wants it to be looked at
                    raise TypeError(
                        f"check must raise when something is wrong, as assert does, and returned {verdict}"
                    )
        except Exception as exc:  # noqa: BLE001  # as above
            self.raised_by_check = exc
            return exc
        return None

    def _describe(self, value: list[object]) -> str:
        """Return the caller's state as text."""
        try:
            return str(self.state(*value)) if self.state is not None else repr(value[0]) if value else ""
        except Exception as exc:  # noqa: BLE001  # it is there for a failure's text, and must not be one
            return f"(not to be had: {said(exc)})"
