"""How bodies, and the lines in them, are called."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import attrs
import trio
import trio.testing

from tests.conformance._cases import CLOSED, MISUSE, Failure, case
from tests.conformance._client_worlds import (
    WHOLE,
    Streaming,
    is_over,
    nothing_was_lost,
    streaming,
)
from trio_http import (
    ContentTooLarge,
    Headers,
    Lines,
    LineTooLong,
    ResponseIncomplete,
)
from trio_http.messages import MessageBody


async def _receive(under_way: Streaming) -> None:
    under_way.got.append(await under_way.response.body.receive_some(3))


async def _read(under_way: Streaming) -> None:
    await under_way.response.body.read(1000)


async def _read_little(under_way: Streaming) -> None:
    await under_way.response.body.read(3)


async def _close_body(under_way: Streaming) -> None:
    await under_way.response.body.aclose()


@case(
    "trio_http.ResponseBody.receive_some",
    world=streaming(),
    check=nothing_was_lost,
    fails=[
        Failure(_receive, trio.ClosedResourceError, prepare=_close_body, at_once=CLOSED, spoils=True),
        Failure(_read, ResponseIncomplete, world=streaming("/cut")),
    ],
)
async def _(under_way: Streaming) -> None:
    await _receive(under_way)


@case(
    "trio_http.ResponseBody.read",
    world=streaming(),
    fails=[
        Failure(_read_little, ContentTooLarge),
        Failure(_read, ResponseIncomplete, world=streaming("/cut")),
    ],
)
async def _(under_way: Streaming) -> None:
    assert await under_way.response.body.read(1000) == WHOLE


@case("trio_http.ResponseBody.aclose", world=streaming(), check=is_over)
async def _(under_way: Streaming) -> None:
    await under_way.response.body.aclose()


# The rest of this one is not here. What is, was given back when the block was entered.
@case("trio_http.ResponseBody.release_early", world=streaming(), check=nothing_was_lost)
async def _(under_way: Streaming) -> None:
    await under_way.response.body.release_early()


@case("trio_http.ResponseBody.leave", world=streaming("/fresh"), check=is_over)
async def _(under_way: Streaming) -> None:
    await under_way.response.body.leave(reuse=True)


@case("trio_http.ResponseBody.end", world=streaming("/fresh"), check=is_over)
async def _(under_way: Streaming) -> None:
    await under_way.response.body.end("not wanted", None)


async def _read_response(under_way: Streaming) -> None:
    await under_way.response.read()


@case(
    "trio_http.StreamedResponse.read",
    world=streaming(),
    fails=[
        Failure(_read_response, ResponseIncomplete, world=streaming("/cut")),
        Failure(_read_response, trio.ClosedResourceError, prepare=_close_body, at_once=CLOSED, spoils=True),
    ],
)
async def _(under_way: Streaming) -> None:
    assert await under_way.response.read() == WHOLE


class Body(MessageBody):
    """A body that gives what it is given."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self.got: list[bytes] = []

    @property
    def trailers(self) -> Headers:
        return Headers()

    async def _next_piece(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._pieces.pop(0) if self._pieces else b""

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@contextlib.asynccontextmanager
async def body() -> AsyncIterator[Body]:
    yield Body([b"one\n", b"two\n"])


@contextlib.asynccontextmanager
async def ended_body() -> AsyncIterator[Body]:
    made = Body([])
    await made.receive_some()
    yield made


async def _all_is_there(given: Body) -> None:
    while piece := await given.receive_some():
        given.got.append(piece)
    assert b"".join(given.got) == b"one\ntwo\n"


async def _receive_of(given: Body) -> None:
    given.got.append(await given.receive_some(2))


async def _receive_none_of(given: Body) -> None:
    await given.receive_some(0)


@case(
    "trio_http.MessageBody.receive_some",
    world=body,
    check=_all_is_there,
    fails=[Failure(_receive_none_of, ValueError, at_once=MISUSE)],
)
async def _(given: Body) -> None:
    await _receive_of(given)


@case("trio_http.MessageBody.receive_some", world=ended_body, variant="at its end")
async def _(given: Body) -> None:
    assert await given.receive_some() == b""


async def _next_at_end(given: Any) -> None:
    await given.__anext__()


@case(
    "trio_http.MessageBody.__anext__",
    world=body,
    check=_all_is_there,
    fails=[Failure(_next_at_end, StopAsyncIteration, world=ended_body)],
)
async def _(given: Body) -> None:
    given.got.append(await given.__anext__())


@case("trio_http.MessageBody.aclose", world=body)
async def _(given: Body) -> None:
    await given.aclose()


@case("trio_http.MessageBody.__aenter__", world=body)
async def _(given: Body) -> None:
    assert await given.__aenter__() is given


@case("trio_http.MessageBody.__aexit__", world=body)
async def _(given: Body) -> None:
    await given.__aexit__(None, None, None)


# ------------------------------------------------------------------------------------------------------ lines


@attrs.define
class Text:
    lines: Lines
    got: list[str] = attrs.field(factory=list)


def text(*pieces: bytes, max_chars: int = 100) -> Any:
    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[Text]:
        yield Text(Lines(Body(list(pieces)), Headers(), max_chars=max_chars))

    return world


async def _next_line(under_way: Text) -> None:
    under_way.got.append(await under_way.lines.__anext__())


async def _all_lines_are_there(under_way: Text) -> None:
    async for line in under_way.lines:
        under_way.got.append(line)
    assert under_way.got == ["one", "two"]


@case(
    "trio_http.Lines.__anext__",
    world=text(b"one\ntwo\n"),
    check=_all_lines_are_there,
    fails=[
        Failure(_next_line, StopAsyncIteration, world=text()),
        Failure(_next_line, LineTooLong, world=text(b"too long", max_chars=3)),
        Failure(_next_line, LineTooLong, world=text(b"too long\n", max_chars=3)),
        Failure(
            _next_line,
            LineTooLong,
            world=text(b"one\ntoo long\n", max_chars=3),
            prepare=_next_line,
        ),
    ],
)
async def _(under_way: Text) -> None:
    await _next_line(under_way)


@contextlib.asynccontextmanager
async def _in_midst_of_a_piece() -> AsyncIterator[Text]:
    async with text(b"one\ntwo\n")() as under_way:
        await _next_line(under_way)
        yield under_way


@case(
    "trio_http.Lines.__anext__",
    world=_in_midst_of_a_piece,
    check=_all_lines_are_there,
    variant="of a piece that is here",
)
async def _(under_way: Text) -> None:
    await _next_line(under_way)
