"""A server with one file, the network to it, which can be cut at any byte, and what is on the disk."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.cancellation._worlds import Network
from trio_http import Client, Request, Response
from trio_http.testing import Faults, FaultyStream

URL = "http://a/file"
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
LONG_AFTER = "Sun, 06 Nov 1994 09:49:37 GMT"


def content_of(size: int) -> bytes:
    """Bytes of which no two neighbourhoods are alike, so that a shift by some of them is seen."""
    return b"".join(b"%07d\n" % number for number in range(size // 8 + 1))[:size]


class FileServer:
    """A handler that serves one file, with ranges and If-Range as RFC 9110 §14 has them.

    Attributes:
      content, fields: of the file, and of its responses.
      ranges: it knows them.
      at_most: bytes that it sends of a range.
      asked: Range and If-Range of each request.
    """

    def __init__(self, content: bytes, etag: str | None = '"v1"', **fields: str) -> None:
        self.content = content
        self.fields = {name.replace("_", "-"): value for name, value in fields.items()}
        if etag is not None:
            self.fields["etag"] = etag
        self.ranges = True
        self.at_most = len(content)
        self.asked: list[tuple[str | None, str | None]] = []

    async def __call__(self, request: Request) -> Response:
        wanted, condition = request.headers.get("range"), request.headers.get("if-range")
        self.asked.append((wanted, condition))
        holds = condition in (None, self.fields.get("etag"), self.fields.get("last-modified"))
        if wanted is None or not holds or not self.ranges:
            return Response(200, self.content, headers=self.fields)
        found = re.fullmatch(r"bytes=(\d+)-", wanted)
        assert found is not None, wanted
        start, size = int(found[1]), len(self.content)
        if start >= size:
            return Response(416, headers={**self.fields, "content-range": f"bytes */{size}"})
        part = self.content[start : start + self.at_most]
        said = {"content-range": f"bytes {start}-{start + len(part) - 1}/{size}"}
        return Response(206, part, headers={**self.fields, **said})


class Scripted:
    """A handler that gives one answer after the other."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str | None, str | None]] = []

    async def __call__(self, request: Request) -> Response:
        self.asked.append((request.headers.get("range"), request.headers.get("if-range")))
        return self.answers.pop(0)


@asynccontextmanager
async def client_to(
    handler: Callable[[Request], Any], cuts: Iterable[int] = (), **options: Any
) -> AsyncIterator[Client]:
    """A client whose connections lead to a handler, each cut behind so many bytes of what it would receive;
    those beyond ``cuts`` are not. At the end, none may be open."""
    left = iter(cuts)
    network = Network(handler)

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        stream = await network.dial(host, port, scheme)
        assert isinstance(stream, trio.abc.HalfCloseableStream)
        return FaultyStream(stream, receiving=Faults(end_at=next(left, None)))

    failure: Exception | None = None
    async with network.opened():
        try:
            async with Client(dial=dial, **options) as client:
                yield client
        except Exception as exc:  # noqa: BLE001  # raised below, outside the nursery
            failure = exc
    if failure is not None:
        raise failure


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")
