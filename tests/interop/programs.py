"""Runs other programs, bounded: each is ended by its own handle when its time is up or its user is done."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

# Far above what any step takes on a busy machine, far below the patience of a test run.
SECONDS = 30.0


def environment() -> dict[str, str]:
    """This process's environment without proxies, which a test on the loopback interface must not take."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


async def run(
    argv: Sequence[str], *, stdin: bytes | int = b"", seconds: float = SECONDS
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end; its output is in ``stdout`` and ``stderr``, its exit code is not looked at.

    Args:
      argv: the program and its arguments.
      stdin: what it reads, or a descriptor to read from.
      seconds: how long it may take.

    Raises:
      trio.TooSlowError: it took longer, and was ended.
    """
    with trio.fail_after(seconds):
        return await trio.run_process(
            argv, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False, env=environment()
        )


@asynccontextmanager
async def running(argv: Sequence[str], **options: object) -> AsyncIterator[trio.Process]:
    """Run a program while the block runs, then end it.

    Args:
      argv: the program and its arguments.
      options: as for `subprocess.Popen`; ``stdout`` can be read from the process that the block gets.
    """
    options = {"stdout": subprocess.PIPE, "env": environment(), **options}
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            functools.partial(trio.run_process, argv, check=False, **options)
        )
        try:
            yield process
        finally:
            nursery.cancel_scope.cancel()


async def output_until(process: trio.Process, pattern: str) -> re.Match[str]:
    """Read what a process prints until it matches ``pattern``, and return the match.

    Raises:
      AssertionError: its output ended before.
      trio.TooSlowError: it took longer than `SECONDS`.
    """
    assert process.stdout is not None
    text = ""
    with trio.fail_after(SECONDS):
        while (match := re.search(pattern, text)) is None:
            piece = await process.stdout.receive_some()
            assert piece, f"the program ended after {text!r}, before it said {pattern!r}"
            text += piece.decode()
    return match
