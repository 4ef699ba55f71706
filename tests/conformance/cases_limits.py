"""How limits, retries, races and records are called."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import trio
import trio.testing

from tests.conformance._cases import MISUSE, Failure, case
from tests.conformance._client_worlds import (
    network_with,
)
from trio_http import (
    HarRecorder,
    RaceFailed,
    RateLimit,
    Retry,
    race,
)


@contextlib.asynccontextmanager
async def _limit() -> AsyncIterator[RateLimit]:
    limit = RateLimit(1, 1)
    yield limit
    assert limit.statistics().waiting == 0


async def _wait(limit: RateLimit) -> None:
    await limit.wait("key")


@case("trio_http.RateLimit.wait", world=_limit, variant="at once")
async def _(limit: RateLimit) -> None:
    await _wait(limit)


@contextlib.asynccontextmanager
async def _used_limit() -> AsyncIterator[RateLimit]:
    async with _limit() as limit:
        await limit.wait("key")
        yield limit


@case("trio_http.RateLimit.wait", world=_used_limit, variant="later")
async def _(limit: RateLimit) -> None:
    await _wait(limit)


@contextlib.asynccontextmanager
async def _retry() -> AsyncIterator[Retry]:
    yield Retry()


@case("trio_http.Retry.pause", world=_retry)
async def _(retry: Retry) -> None:
    await retry.pause(1)


@case("trio_http.Retry.pause", world=_retry, variant="of no time")
async def _(retry: Retry) -> None:
    await retry.pause(0)


async def _fast() -> int:
    await trio.sleep(1)
    return 1


async def _slow() -> int:
    await trio.sleep(2)
    return 2


async def _failing() -> int:
    await trio.lowlevel.checkpoint()
    raise ValueError("it was to fail")


async def _hasty() -> int:
    return 0


async def _hastily_failing() -> int:
    raise ValueError("it was to fail")


async def _race_of_none(_: object) -> None:
    await race()


async def _race_of_failures(_: object) -> None:
    await race(_failing, _failing)


async def _race_of_hasty_failures(_: object) -> None:
    await race(_hastily_failing, _hastily_failing)


@case(
    "trio_http.race",
    fails=[
        Failure(_race_of_none, TypeError, at_once=MISUSE),
        Failure(_race_of_failures, RaceFailed),
        Failure(_race_of_hasty_failures, RaceFailed),
    ],
)
async def _(_: object) -> None:
    assert await race(_slow, _fast, delay=0.5) == 1


@case("trio_http.race", variant="of what does not wait")
async def _(_: object) -> None:
    assert await race(_hasty, _hasty) == 0


@attrs.frozen
class _Recorded:
    recorder: HarRecorder
    path: Path


@contextlib.asynccontextmanager
async def _recorded() -> AsyncIterator[_Recorded]:
    recorder = HarRecorder()
    async with network_with(extra=[recorder])() as net:
        await net.client.get("/fresh")
        with tempfile.TemporaryDirectory() as name:
            yield _Recorded(recorder, Path(name) / "archive")


def _no_half_archive(there: _Recorded) -> None:
    assert not os.path.exists(f"{there.path}.part")


async def _save_nowhere(there: _Recorded) -> None:
    await there.recorder.save(there.path / "no such directory" / "archive")


@case(
    "trio_http.HarRecorder.save",
    world=_recorded,
    threads=True,
    check=_no_half_archive,
    fails=[Failure(_save_nowhere, OSError)],
)
async def _(there: _Recorded) -> None:
    await there.recorder.save(there.path)
