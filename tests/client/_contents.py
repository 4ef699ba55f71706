"""What the tests of request content have in common."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

from trio_http.client._content import as_content
from trio_http.client._content_source import Content, ContentReader

PIECE = 64 * 1024
LARGE = bytes(range(256)) * 700  # 179,200 bytes: three pieces, the last of them not full


def as_source(given: object) -> Content:
    content = as_content(given)
    assert isinstance(content, Content)
    return content


async def read_all(reader: ContentReader) -> list[bytes]:
    pieces = []
    while piece := await reader.next_piece():
        pieces.append(piece)
    assert await reader.next_piece() == b"", "the end is said again to who asks again"
    return pieces


async def sent(content: Content) -> tuple[bytes, int | None]:
    """What one sending gives, and the length that it has promised."""
    async with await content.open() as reader:
        return b"".join(await read_all(reader)), reader.length


async def generated(*parts: Any) -> AsyncIterator[Any]:
    for part in parts:
        await trio.lowlevel.checkpoint()
        yield part


def open_files(path: Path) -> list[int]:
    """The descriptors of this process that lead to the file."""
    facts = os.stat(path)
    found = []
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself is closed by now
            if os.path.samestat(os.fstat(int(name)), facts):
                found.append(int(name))
    return found


def opened(path: Path | int, mode: str = "rb", buffering: int = -1) -> Any:
    """A file that a test has opened, and has to close; opening one stops nobody here."""
    return open(path, mode, buffering)
