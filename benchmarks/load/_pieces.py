"""What the clients of both soaks have in common: content in pieces, and how many objects they may leave."""

from __future__ import annotations

import random

import trio


class Pieces:
    """Content that comes in pieces, with a wait now and then."""

    def __init__(self, rng: random.Random, content: bytes) -> None:
        self._rng = rng
        self._rest = memoryview(content)

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        if self._rng.random() < 0.1:
            await trio.sleep(self._rng.uniform(0, 0.002))
        size = self._rng.randint(1, 20_000)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


def object_slack(requests: int) -> int:
    """Return how many more objects may be tracked after so many requests: one for 100, and what trio does not
    clear away at once, which are up to 1,000 deadlines that are over (a scope, its entry and its reason).
    """
    return 4000 + requests // 100
