"""Fetch a URL and write its content to standard output, as it comes.

    python examples/fetch.py https://example.org/ > page.html

Status, fields and speed go to standard error. Ctrl+C ends it at any time.
"""

from __future__ import annotations

import argparse
import sys

import trio

from trio_http import Client


async def fetch(url: str, seconds: float) -> int:
    """Fetch ``url``; return the exit status: 0 for a response below 400."""
    received = 0
    started = trio.current_time()
    async with Client() as client:
        # The head has to come in time; from then on each piece has.
        with trio.fail_after(seconds) as limit:
            async with client.stream("GET", url) as response:
                print(f"{response.status} {response.reason}", file=sys.stderr)
                for name, value in response.headers.items():
                    print(f"{name}: {value}", file=sys.stderr)
                async for piece in response.body:
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
                    received += len(piece)
                    limit.deadline = trio.current_time() + seconds
    taken = trio.current_time() - started
    print(f"\n{received:,} bytes in {taken:.3f} s", file=sys.stderr)
    return 0 if response.status < 400 else 1


def main() -> int:
    """Read the command line, fetch, and say what went wrong in one line."""
    parser = argparse.ArgumentParser(description="Fetch a URL.")
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=30, help="without anything new; default 30")
    options = parser.parse_args()
    try:
        return trio.run(fetch, options.url, options.seconds)
    except trio.TooSlowError:
        print(f"{options.url}: nothing new for {options.seconds} s", file=sys.stderr)
    except Exception as exc:  # noqa: BLE001  # the end of the program: all that is left to do is to say it
        print(exc, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
