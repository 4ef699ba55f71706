"""A program that runs batteries one after the other, each in a fork of a process that has imported the tools.

Importing pytest, Hypothesis and Trio takes longer than most batteries. Nothing of ours is imported before the
fork, so each battery finds the package of its own project. It is told of batteries by lines of JSON, and
answers each by one: `[status, output]`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

del sys.path[0]  # the folder of this file, in which nobody is to look for modules

# What the batteries import anyway, and what does not know our package.
import hypothesis  # noqa: E402, F401
import pytest  # noqa: E402
import trio.testing  # noqa: E402, F401
import trustme  # noqa: E402, F401
import yarl  # noqa: E402, F401


def run(project: str, arguments: list[str]) -> int:
    """Be the forked process: run pytest in a project, and return its exit status."""
    os.chdir(project)
    sys.path.insert(0, project)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    status = int(pytest.main(arguments))
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def waited(child: int, seconds: float) -> int:
    """Wait for a process; return its exit status, -1 when it was killed, by us or by others."""
    end = time.monotonic() + seconds
    while True:
        pid, state = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(state) if os.WIFEXITED(state) else -1
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -1
        time.sleep(0.01)


def main() -> None:
    for line in sys.stdin:
        project, arguments, seconds = json.loads(line)
        child = os.fork()
        if not child:
            status = -1
            try:
                status = run(project, arguments)
            except BaseException:  # noqa: BLE001  # for who reads the output; the process is over
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status & 0xFF)
        status = waited(child, seconds)
        output = Path(project, "output.txt").read_text("utf-8", errors="replace")
        print(json.dumps([status, output]), flush=True)


if __name__ == "__main__":
    main()
