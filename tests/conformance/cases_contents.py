"""How contents and their readers are called."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import trio
import trio.testing

from tests.conformance._cases import CLOSED, Failure, case, nothing
from tests.conformance._client_worlds import (
    WHOLE,
)
from trio_http import (
    InvalidRequest,
    Multipart,
    Sized,
)
from trio_http.client._content import content_of
from trio_http.testing import MemoryStream, memory_pair


async def _stream_with(data: bytes) -> MemoryStream:
    ours, theirs = memory_pair()
    await theirs.send_all(data)
    await theirs.aclose()
    return ours


@attrs.frozen
class Source:
    """A content, and what has been opened of it.

    Attributes:
      readers: those that a call has opened.
    """

    content: Any
    readers: list[Any] = attrs.field(factory=list)


def source(kind: str) -> Any:
    """Return the world of one kind of content; all of them give `WHOLE`."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Source]:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "file"
            path.write_bytes(WHOLE)
            match kind:
                case "bytes":
                    made = content_of(WHOLE)
                case "a path":
                    made = content_of(path)
                case "a file":
                    with path.open("rb") as file:
                        yield Source(content_of(file))
                    return
                case "a stream" | "sized":
                    async with await _stream_with(WHOLE) as stream:
                        yield Source(Sized(stream, len(WHOLE)) if kind == "sized" else content_of(stream))
                    return
                case "an iterable":
                    made = content_of(_Pieces([WHOLE]))
                case "a form":
                    made = Multipart(data={"name": "value"}, files={"file": path})
                case _:
                    raise AssertionError(kind)
            yield Source(made)

    return world


class _Pieces:
    """An async iterable, each piece of which has to be waited for."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = list(pieces)

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop(0)


async def _see_closed(given: Source) -> None:
    for reader in given.readers:
        await reader.aclose()


KINDS = ["bytes", "a path", "a file", "a stream", "an iterable"]


async def _open(given: Source) -> None:
    given.readers.append(await given.content.open())


async def _open_missing(_: object) -> None:
    await content_of(Path("no such") / "file").open()


for kind in KINDS:

    @case("trio_http.Content.open", world=source(kind), check=_see_closed, variant=kind, threads=True)
    async def _(given: Source) -> None:
        await _open(given)


@case(
    "trio_http.Sized.open",
    world=source("sized"),
    check=_see_closed,
    fails=[Failure(_open, InvalidRequest, prepare=_open)],
)
async def _(given: Source) -> None:
    await _open(given)


async def _open_form_without_file(_: object) -> None:
    await Multipart(files={"file": Path("no such") / "file"}).open()


@case(
    "trio_http.Multipart.open",
    world=source("a form"),
    threads=True,
    check=_see_closed,
    fails=[Failure(_open_form_without_file, FileNotFoundError, world=nothing)],
)
async def _(given: Source) -> None:
    await _open(given)


@attrs.define
class Reading:
    """A reader that was opened, and what calls have read."""

    reader: Any
    is_whole: bool = True
    got: list[bytes] = attrs.field(factory=list)


def reading(kind: str) -> Any:
    """Return the world in which a content has been opened."""

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Reading]:
        async with source(kind)() as given:
            under_way = Reading(await given.content.open(), kind != "a form")
            yield under_way
            await under_way.reader.aclose()

    return world


async def _rest_is_there(under_way: Reading) -> None:
    """See that the rest is to be had; a form has more in it."""
    try:
        while piece := await under_way.reader.next_piece():
            under_way.got.append(piece)
    except trio.BrokenResourceError:  # an iterable cannot be gone on with
        return
    assert WHOLE in b"".join(under_way.got)


async def _next_of_closed(under_way: Reading) -> None:
    await under_way.reader.next_piece()


async def _close_reader(under_way: Reading) -> None:
    await under_way.reader.aclose()


for kind in [*KINDS, "sized", "a form"]:

    @case(
        "trio_http.ContentReader.next_piece",
        world=reading(kind),
        check=_rest_is_there,
        variant=kind,
        threads=True,
        fails=[
            Failure(
                _next_of_closed, trio.ClosedResourceError, prepare=_close_reader, at_once=CLOSED, spoils=True
            )
        ]
        if kind not in ("bytes", "a form")
        else [],
    )
    async def _(under_way: Reading) -> None:
        under_way.got.append(await under_way.reader.next_piece())

    @case("trio_http.ContentReader.aclose", world=reading(kind), variant=kind, threads=True)
    async def _(under_way: Reading) -> None:
        await under_way.reader.aclose()


@case("trio_http.ContentReader.__aenter__", world=reading("bytes"))
async def _(under_way: Reading) -> None:
    assert await under_way.reader.__aenter__() is under_way.reader


@case("trio_http.ContentReader.__aexit__", world=reading("bytes"))
async def _(under_way: Reading) -> None:
    await under_way.reader.__aexit__(None, None, None)
