"""How many requests may begin in a second.

Theory of operation
===================

Each key, an origin as a rule, has a bucket of ``burst`` tokens, into which a token falls every ``1 / rate``
seconds. Instead of counting tokens the bucket knows one moment, `_Bucket.full_at`, at which it will be full.
A token taken moves it one interval on; there is a token as long as it is less than ``burst`` intervals ahead.
So nothing has to happen while nobody asks, and a bucket that is full may be forgotten.

*Who waits.* Tasks that found no token stand in a queue. The first of them sleeps until there is one; the
others wait for their predecessor to leave, whether it has its token or was cancelled. So there is one timer
for each key, no task in the background, and a turn that was given up is simply the next one's.

*Who was late.* Timers wake tasks a little late, and a limit that began each interval at such a moment would
fall short of its rate. So the token of somebody who waited counts from when it was due, if that was less
than an interval ago. After a longer delay, of the whole program for instance, at most one request more than
``burst`` may follow at once.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Literal

import attrs
import trio

from trio_http._kinds import check_int, check_number

# Differences below this, in seconds, come from floating point: the clock itself cannot tell so little.
_NOTHING: Final = 1e-9

# How many buckets each call looks at, to forget those that are full. More than one, for a call may add one.
_LOOKED_AT: Final = 2


class _Bucket:
    """What is known of a key.

    Attributes:
      full_at: when no request will be counted any more, by Trio's clock.
      queue: who waits, in order; the first one sleeps, the others wait for it.
    """

    __slots__ = ("full_at", "queue")

    def __init__(self) -> None:
        self.full_at = -math.inf
        self.queue: OrderedDict[trio.lowlevel.Task, None] = OrderedDict()


@attrs.frozen(kw_only=True)
class RateLimitStatistics:
    """What a `RateLimit` holds at a moment.

    Attributes:
      waiting: tasks that wait for their turn.
      keys: how many keys it remembers.
    """

    waiting: int
    keys: int


class RateLimit:
    """A limit on how often something begins: so many a second, for each key.

    First come, first served within a key; keys do not wait for each other. A limit can be shared by several
    clients. What a call costs does not depend on how many keys and waiters there are; and each call looks at
    two keys, and forgets those that may have their whole burst again.

    In any t seconds at most ``burst + rate * t`` turns are given for one key, and one more after the program
    itself was late.

    Args:
      rate: turns for a second, above 0; 0.1 is one in ten seconds.
      burst: how many may come at once after a time without any, at least 1.
      per: "origin": each origin has a bucket of its own; "client": there is only one, and keys are ignored.

    Raises:
      TypeError, ValueError: an argument is of the wrong kind, or out of its range.
    """

    def __init__(self, rate: float, burst: int = 1, *, per: Literal["origin", "client"] = "origin") -> None:
        check_number("rate", rate, above=True, finite=True, unit="turns for a second")
        check_int("burst", burst, 1)
        if per not in ("origin", "client"):
            raise ValueError(f'per must be "origin" or "client", not {per!r}')
        self.rate = rate
        self.burst = burst
        self.per = per
        self._interval = 1 / rate
        self._ahead = (burst - 1) * self._interval
        # In the order in which they are looked at next.
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()
        self._waiting = 0

    def __repr__(self) -> str:
        return f"RateLimit({self.rate!r}, burst={self.burst!r}, per={self.per!r})"

    def statistics(self) -> RateLimitStatistics:
        """Return how many tasks wait, and how many keys there are."""
        return RateLimitStatistics(waiting=self._waiting, keys=len(self._buckets))

    async def wait(self, key: Hashable = None) -> None:
        """Return when it is the caller's turn, at once if it is. Always a checkpoint.

        Args:
          key: what is counted together; for a client the `Origin` of the request.

        Cancellation: the turn is the next waiter's, and nobody waits longer for it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        bucket = self._bucket(None if self.per == "client" else key)
        if bucket.queue or self._due(bucket) > trio.current_time() + _NOTHING:
            await self._wait_in(bucket)
        else:
            bucket.full_at = max(bucket.full_at, trio.current_time()) + self._interval
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _due(self, bucket: _Bucket) -> float:
        """When there is a token."""
        return bucket.full_at - self._ahead

    async def _wait_in(self, bucket: _Bucket) -> None:
        task = trio.lowlevel.current_task()
        queue = bucket.queue
        queue[task] = None
        self._waiting += 1

        def give_up(_: object) -> trio.lowlevel.Abort:
            del queue[task]  # now: its predecessor must not wake somebody who is awake
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            if next(iter(queue)) is not task:
                await trio.lowlevel.wait_task_rescheduled(give_up)
            await trio.sleep_until(self._due(bucket))
            # No checkpoint from here on: the turn is taken.
            earliest = trio.current_time() - self._interval
            bucket.full_at = max(bucket.full_at, earliest) + self._interval
        finally:
            self._waiting -= 1
            if task in queue:  # and first in it: those behind are waiting, and leave by `give_up`
                del queue[task]
                if queue:
                    trio.lowlevel.reschedule(next(iter(queue)))

    def _bucket(self, key: Hashable) -> _Bucket:
        now = trio.current_time()
        self._forget(now)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket()
        # It can be no further ahead in this `trio.run`, but another one may have had a clock far ahead.
        bucket.full_at = min(bucket.full_at, now + self._ahead + self._interval)
        return bucket

    def _forget(self, now: float) -> None:
        """Look at the next few buckets, in turns, and drop those that are full."""
        for _ in range(min(_LOOKED_AT, len(self._buckets))):
            key = next(iter(self._buckets))
            bucket = self._buckets[key]
            if bucket.queue or bucket.full_at > now:
                self._buckets.move_to_end(key)
            else:
                del self._buckets[key]
