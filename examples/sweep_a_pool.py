"""Find what a cancel loses: a pool of one slot that forgets who has stopped waiting, then one that does not.

    python examples/sweep_a_pool.py

It needs no pytest and no HTTP. docs/how-to/sweep-cancels.md goes through such a failure line by line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
import trio.testing

from trio_http.testing import SweepFailed, cancel_at_every_step


class Pool:
    def __init__(self, careful: bool) -> None:
        self.careful, self.free, self.waiters = careful, True, list[trio.Event]()

    def __repr__(self) -> str:
        return f"{'free' if self.free else 'taken'}, {len(self.waiters)} waiting"

    async def use(self) -> None:
        if self.free:
            self.free = False
        else:
            self.waiters.append(turn := trio.Event())
            try:
                await turn.wait()
            finally:
                if self.careful and turn in self.waiters:
                    self.waiters.remove(turn)
        try:
            await trio.sleep(1)
        finally:
            if self.waiters:
                self.waiters.pop(0).set()  # the slot is this one's now
            else:
                self.free = True


@asynccontextmanager
async def pool_in_use(careful: bool) -> AsyncIterator[Pool]:
    pool = Pool(careful)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.use)
        await trio.testing.wait_all_tasks_blocked()
        yield pool


async def use_again(pool: Pool) -> None:
    with trio.fail_after(60):
        await pool.use()


async def main() -> None:
    for careful in (False, True):
        try:
            print(await cancel_at_every_step(Pool.use, world=partial(pool_in_use, careful), check=use_again))
        except SweepFailed as exc:
            print(exc)


if __name__ == "__main__":
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
