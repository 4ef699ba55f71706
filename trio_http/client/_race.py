"""The same thing attempted several ways at once; the first success counts. Knows nothing of HTTP.

Each attempt runs in a task and a cancel scope of its own. What ends a race, a winner or an exception that is
nobody's failure, cancels these scopes, and not the nursery: so a loser's `trio.Cancelled` ends at its own
scope, also when the clean-up of the loser raised something beside it, and what comes out of the nursery can
only have come from outside, which is the caller's cancel.

A result is in exactly one place: on its way out of its attempt, then kept, then returned; or else it is
discarded. There is no checkpoint between these.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NoReturn, TypeVar

import trio

from trio_http._errors import HTTPError
from trio_http._kinds import check_number

T = TypeVar("T")

logger = logging.getLogger("trio_http.client")


class RaceFailed(HTTPError):
    """All attempts of a race failed. The cause is a group of their errors.

    Args:
      errors: what each attempt raised.

    Attributes:
      errors: as given, in the order of the attempts.
    """

    def __init__(self, errors: Sequence[Exception]) -> None:
        super().__init__(tuple(errors))
        self.errors = tuple(errors)

    def __str__(self) -> str:
        reasons = "; ".join(f"{type(error).__name__}: {error}" for error in self.errors)
        return f"all {len(self.errors)} attempts failed: {reasons}"


async def race(
    *attempts: Callable[[], Awaitable[T]],
    delay: float = 0.0,
    wins: Callable[[T], bool] | None = None,
    discard: Callable[[T], Awaitable[object] | None] | None = None,
) -> T:
    """Make several attempts at the same thing, and return the first result.

    ::

        get = functools.partial(client.get, "/slow")
        response = await race(get, get, delay=0.05)              # hedged: asked again after 50 ms
        response = await race(from_mirror, from_origin, delay=1, wins=lambda answer: answer.status < 500)

    The first attempt begins at once, each further one ``delay`` seconds after the one before it, or as soon
    as that has failed. When one wins, the others are cancelled, and have ended when this returns. Their
    errors, and those of the attempts that had failed before, are dropped.

    Attempts may all have been carried out, wholly or in part. Race requests that do no harm when the server
    acts on them more than once, and return whole responses: with a block around the race, such as
    ``client.stream``, only one of them could be entered. For results that hold something, give ``discard``.

    Args:
      attempts: at least one function without arguments.
      delay: seconds, at least 0. 0 begins all at once, `math.inf` one after the other.
      wins: whether a result is a success; None: each is. A result that does not win lets the next attempt
        begin, as a failure does. When nothing wins, the first such result is returned all the same.
      discard: lets go of a result that is not returned: one that came when the race was over, or was
        cancelled, or did not win. It is called in a cancelled scope, so what it awaits must not need to wait;
        `trio.aclose_forcefully` is such a function. What it raises is logged.

    Returns:
      One result, and that one was not discarded.

    Raises:
      Exception: what the attempt raised, when there was only one.
      RaceFailed: each of several attempts raised an exception.
      BaseException: what is no `Exception`, such as `KeyboardInterrupt`, comes out of an attempt as it is and
        ends the race; and so does what ``wins`` raises. No exception is put into a group on its way.
      TypeError: no attempt, or one that is no function.
      ValueError: a negative ``delay``.

    Cancellation: every attempt is cancelled, and has ended when it comes out. A result is discarded.
    """
    _check(attempts, delay)
    await trio.lowlevel.checkpoint_if_cancelled()  # a nursery has no such, nor need the attempts have
    state = _Race(attempts, wins, discard)
    stopped: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            await state.start(nursery, delay)
    except BaseException as exc:  # noqa: BLE001, ASYNC103  # raised below, without the nursery's group
        stopped = exc
    if stopped is not None or state.fatal:
        await state.fail(stopped)
    if state.kept:
        return state.kept[0]
    errors = [state.errors[index] for index in range(len(attempts))]
    if len(errors) == 1:
        raise errors[0]
    raise RaceFailed(errors) from ExceptionGroup("the attempts of a race", errors)


def _check(attempts: tuple[object, ...], delay: float) -> None:
    if not attempts:
        raise TypeError("a race needs at least one attempt")
    wrong = [attempt for attempt in attempts if not callable(attempt)]
    for attempt in attempts:
        if wrong and inspect.iscoroutine(attempt):
            attempt.close()  # or Python would warn, beside our error, that nobody awaited it
    if wrong:
        raise TypeError(
            f"attempts must be functions, not {wrong[0]!r}: not get(url) but functools.partial(get, url)"
        )
    check_number("delay", delay, unit="seconds", hint="math.inf for one after the other")


class _Race(Generic[T]):
    """The state of a race.

    Attributes:
      errors: what attempts raised, by their index.
      fatal: what ended the race though it is nobody's failure; of several the first comes out.
      kept: the result that is to be returned, if there is one: the winner's, or until there is a winner the
        first one that did not win.
    """

    def __init__(
        self,
        attempts: tuple[Callable[[], Awaitable[T]], ...],
        wins: Callable[[T], bool] | None,
        discard: Callable[[T], Awaitable[object] | None] | None,
    ) -> None:
        self.errors: dict[int, Exception] = {}
        self.fatal: list[BaseException] = []
        self.kept: list[T] = []
        self._attempts = attempts
        self._wins = wins
        self._discard = discard
        self._scopes: list[trio.CancelScope] = []
        self._over = False
        self._next = trio.Event()

    async def start(self, nursery: trio.Nursery, delay: float) -> None:
        """Begin one attempt after the other, until the race is over."""
        for index in range(len(self._attempts)):
            self._next = trio.Event()
            self._scopes.append(trio.CancelScope())
            nursery.start_soon(self._run, index)
            if delay > 0 and index + 1 < len(self._attempts):
                with trio.move_on_after(delay):
                    await self._next.wait()
                if self._over:
                    return

    async def _run(self, index: int) -> None:
        results: list[T] = []
        try:
            with self._scopes[index]:
                results.append(await self._attempts[index]())
        except Exception as exc:  # noqa: BLE001  # kept: the caller raises it, unless another attempt succeeds
            self.errors[index] = exc
            self._failed(index)
        except BaseException as exc:  # noqa: ASYNC103  # what is kept is no cancel; `fail` raises it
            if _has_cancelled(exc):
                raise
            self._end(exc)
        for result in results:  # one, or none
            await self._take(index, result)

    async def _take(self, index: int, result: T) -> None:
        # No checkpoint from here to the first `_drop`: others may come to their end meanwhile.
        won = False
        if not self._over:
            try:
                won = self._wins is None or self._wins(result)
            except BaseException as exc:  # noqa: BLE001, ASYNC103  # raised by the caller
                self._end(exc)
        if won:
            self._end()
            superseded, self.kept = self.kept, [result]
            for other in superseded:
                await self._drop(other)
        elif self._over or self.kept:
            self._failed(index)
            await self._drop(result)
        else:
            self.kept = [result]
            self._failed(index)

    def _failed(self, index: int) -> None:
        """Have the next attempt begin, if that was the last one that has begun."""
        if index == len(self._scopes) - 1:
            self._next.set()

    def _end(self, fatal: BaseException | None = None) -> None:
        """End the race."""
        if fatal is not None:
            self.fatal.append(fatal)
        self._over = True
        self._next.set()
        for scope in self._scopes:
            scope.cancel(reason="the race is over")

    async def fail(self, stopped: BaseException | None) -> NoReturn:
        """Discard what is kept, and raise what ended the race.

        Args:
          stopped: what came out of the nursery, if something did.
        """
        for result in self.kept:
            await self._drop(result)
        raised = list(self.fatal[:1])
        if isinstance(stopped, BaseExceptionGroup):
            # Its members are the exceptions of the tasks, as they were. Those that are a mere cancel say
            # nothing beside others, and all of them say the same.
            raised += [exc for exc in stopped.exceptions if not _is_mere_cancel(exc)] or (
                [] if self.fatal else [_first_leaf(stopped)]
            )
        elif stopped is not None:
            raised.append(stopped)
        if len(raised) == 1:
            raise raised[0]
        # Several attempts failed in their clean-up: there is no single exception that says so.
        raise BaseExceptionGroup("the attempts of a race that was cancelled", raised)

    async def _drop(self, result: T) -> None:
        """Discard a result, without waiting."""
        if self._discard is None:
            return
        try:
            # Shielded, for a cancel of the caller's has its own place to come out; and cancelled, so that it
            # ends.
            with trio.CancelScope(shield=True, deadline=-math.inf) as scope:
                scope.cancel(reason="a result that is not wanted must be discarded at once")
                waiting = self._discard(result)
                if waiting is not None:
                    await waiting
        except Exception:
            logger.exception("discarding %r failed", result)


def _has_cancelled(exc: BaseException) -> bool:
    """Whether an exception is a cancel, or a group with one in it."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(trio.Cancelled) is not None
    return isinstance(exc, trio.Cancelled)


def _is_mere_cancel(exc: BaseException) -> bool:
    """Whether an exception is a cancel, or a group of nothing else."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(trio.Cancelled)[1] is None
    return isinstance(exc, trio.Cancelled)


def _first_leaf(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc
