"""Content that is not plain bytes: what is taken for it, what it promises, and what a cancel leaves open."""

from __future__ import annotations

import io
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.client._contents import LARGE, PIECE, as_source, generated, open_files, read_all, sent
from trio_http import InvalidRequest
from trio_http.client._content import Compressed, Sized, as_content
from trio_http.client._content_source import Content
from trio_http.testing import cancel_at_every_step, memory_pair


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(LARGE)
    return path


# --------------------------------------------------------------------------------------------- what is taken


@pytest.mark.parametrize(
    "given",
    [b"abc", bytearray(b"abc"), memoryview(b"abc"), [b"a", b"bc"], (b"ab", memoryview(b"c")), [b"abc"]],
)
def test_bytes_of_any_kind_and_lists_of_them_are_bytes(given: object) -> None:
    content = as_content(given)
    assert type(content) is bytes
    assert content == b"abc"


async def test_a_stream_has_no_length_can_be_sent_once_and_stays_open() -> None:
    source, sink = memory_pair()
    await sink.send_all(LARGE)
    await sink.aclose()
    content = as_source(source)
    assert not content.repeatable
    async with await content.open() as reader:
        pieces = await read_all(reader)
    assert b"".join(pieces) == LARGE
    assert max(map(len, pieces)) <= PIECE
    assert not source.closed
    with pytest.raises(InvalidRequest, match="a stream that was sent before, expected a new one"):
        await content.open()
    await source.aclose()


async def test_a_stream_that_can_also_read_itself_whole_is_a_stream_and_no_file() -> None:
    """As the body of a response is, which a proxy sends on."""

    class Body(trio.abc.ReceiveStream):
        def __init__(self) -> None:
            self.pieces = [b"one", b"two", b""]

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.lowlevel.checkpoint()
            return self.pieces.pop(0)

        async def read(self, limit: int) -> bytes:
            raise AssertionError("read as a whole")

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    assert await sent(as_source(Body())) == (b"onetwo", None)


async def test_an_async_iterable_has_no_length_and_its_empty_pieces_are_no_end() -> None:
    """C26: an async iterable is streamed up."""
    content = as_source(generated(b"ab", b"", bytearray(b"c"), memoryview(b"d"), b""))
    assert not content.repeatable
    assert await sent(content) == (b"abcd", None)
    with pytest.raises(InvalidRequest, match=r"an async iterable \(async_generator\) that was sent before"):
        await content.open()


async def test_a_source_that_never_waits_lets_others_run() -> None:
    class Empty:
        def __aiter__(self) -> Empty:
            return self

        async def __anext__(self) -> bytes:
            return b""

    async with await as_source(Empty()).open() as reader:
        with trio.CancelScope() as scope:
            trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
            await reader.next_piece()
        assert scope.cancelled_caught


def test_content_of_the_callers_own_passes() -> None:
    content = Compressed(b"", zlib.compressobj)  # type: ignore[arg-type]  # it is not opened
    assert as_content(content) is content


# ------------------------------------------------------------------------------------------- what is refused


def numbers() -> Iterator[bytes]:
    yield b"1"


class Message:
    """As a response under way."""

    async def read(self) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("text", r"a str, expected bytes: give text.encode\(\), or pathlib.Path"),
        (generated, r"a function, expected what it returns: call generated\(\)"),
        ({"a": "b"}, "dict, .*; data= makes a form of a mapping"),
        (numbers(), "generator, .*; a sync iterator may stop every task: make it an async generator"),
        ({b"a"}, "type set, expected bytes, a path, a binary file or an async iterable"),
        ([b"a", "b"], "a list, expected bytes in it: .*str found"),
        (12, "type int, expected bytes, a path"),
        (None, "type NoneType, expected"),
        (io.StringIO("text"), "a text file, expected a binary one"),
        (Message(), r"type Message, whose read\(\) is async.*: its body, if it is a message"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_content_is_refused_with_what_to_give_instead(given: object, what: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^content is .*{what}"):
        as_content(given)


def test_a_coroutine_is_not_awaited_for_its_caller() -> None:
    coroutine = Message().read()
    with pytest.raises(InvalidRequest, match=r"a coroutine, expected what it returns: await read\(\) first"):
        as_content(coroutine)
    coroutine.close()


async def test_a_closed_reader_gives_nothing(large: Path) -> None:
    sources = [as_content(large), as_content(generated(b"a")), Sized(b"a", 1), Compressed(b"a", Doubling)]
    source, _ = memory_pair()
    for content in (*sources, as_content(source)):
        assert isinstance(content, Content)
        reader = await content.open()
        await reader.aclose()
        await reader.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await reader.next_piece()
    await source.aclose()


# ---------------------------------------------------------------------------------- what a source does wrong


@pytest.mark.parametrize("error", [ValueError("mine"), trio.BrokenResourceError("mine"), OSError("mine")])
async def test_an_error_of_the_source_comes_out_as_it_is_and_is_no_end(error: Exception) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"a"
        raise error

    class Failing(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            raise error

    for content in (as_source(failing()), as_source(Failing()), Compressed(failing(), Doubling)):
        async with await content.open() as reader:
            with pytest.raises(type(error)) as caught:
                await read_all(reader)
            assert caught.value is error
    async with await as_source(failing()).open() as reader:
        with pytest.raises(type(error)):
            await read_all(reader)
        with pytest.raises(trio.BrokenResourceError, match="has failed, or was cancelled, before"):
            await reader.next_piece()


async def test_a_source_of_text_is_told_what_is_expected() -> None:
    with pytest.raises(TypeError, match="content must give bytes, not str"):
        await sent(as_source(generated("a")))


# --------------------------------------------------------------------------------- a length that is promised


async def test_a_sized_stream_keeps_its_promise() -> None:
    content = Sized(generated(b"ab", b"cde"), 5)
    assert not content.repeatable
    assert await sent(content) == (b"abcde", 5)
    assert Sized(b"abc", 3).repeatable


@pytest.mark.parametrize(
    ("length", "what"), [(6, "has 5 bytes, expected the 6"), (4, "has at least 5 bytes, expected the 4")]
)
async def test_a_sized_stream_of_another_length_is_an_error(length: int, what: str) -> None:
    async with await Sized(generated(b"ab", b"cde"), length).open() as reader:
        assert await reader.next_piece() == b"ab"
        with pytest.raises(InvalidRequest, match=what):
            await read_all(reader)


async def test_a_sized_source_that_knows_better_is_refused_when_it_is_opened(large: Path) -> None:
    with pytest.raises(InvalidRequest, match=f"has {len(LARGE)} bytes, expected the 10"):
        await Sized(large, 10).open()
    assert open_files(large) == []


@pytest.mark.parametrize(("length", "error"), [(-1, ValueError), (1.5, TypeError), ("5", TypeError)])
def test_a_promise_that_is_no_length_is_refused(length: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Sized(b"", length)


# --------------------------------------------------------------------------------------------- coded content


class Doubling:
    """A coder that tells how much it is given at a time, and says nothing before it has to."""

    def __init__(self) -> None:
        self.given: list[int] = []
        self.data = b""

    def encode(self, data: bytes) -> bytes:
        self.given.append(len(data))
        self.data += data
        return b""

    def finish(self) -> bytes:
        return self.data * 2


class Deflating:
    def __init__(self) -> None:
        self.coder = zlib.compressobj()

    def encode(self, data: bytes) -> bytes:
        return self.coder.compress(data)

    def finish(self) -> bytes:
        return self.coder.flush()


async def test_compressed_content_is_coded_anew_each_time_it_is_sent(large: Path) -> None:
    """C31: a request's content is compressed on its way out."""
    for source in (large, LARGE):
        content = Compressed(source, Deflating)
        assert content.repeatable
        for _ in range(2):
            data, length = await sent(content)
            assert zlib.decompress(data) == LARGE
            assert length is None
    assert zlib.decompress((await sent(Compressed(b"", Deflating)))[0]) == b""
    assert not Compressed(generated(b"a"), Deflating).repeatable


async def test_a_coder_gets_a_little_at_a_time_and_others_run_between() -> None:
    coder = Doubling()
    content = Compressed(generated(LARGE), lambda: coder)
    assert (await sent(content))[0] == LARGE * 2
    assert coder.given == [PIECE, PIECE, len(LARGE) - 2 * PIECE]


async def test_a_coder_that_fails_is_no_end() -> None:
    class Failing(Doubling):
        def finish(self) -> bytes:
            raise ValueError("mine")

    async with await Compressed(b"a", Failing).open() as reader:
        for _ in range(2):
            with pytest.raises(ValueError, match="mine"):
                await reader.next_piece()


# --------------------------------------------------------------------------------------------------- cancels


async def test_a_cancel_while_an_async_generator_gives_closes_it() -> None:
    inside = 0

    async def scenario() -> None:
        nonlocal inside

        async def source() -> AsyncIterator[bytes]:
            nonlocal inside
            inside += 1
            try:
                for piece in (b"a", b"b"):
                    await trio.lowlevel.checkpoint()
                    yield piece
            finally:
                inside -= 1

        assert await sent(as_source(source())) == (b"ab", None)

    def check() -> None:
        assert inside == 0

    report = await cancel_at_every_step(scenario, check=check)
    assert any("source" in point.within for point in report.points)


async def test_an_async_generator_that_is_not_read_to_its_end_is_closed() -> None:
    source = generated(b"a", b"b")
    async with await as_source(source).open() as reader:
        assert await reader.next_piece() == b"a"
    with pytest.raises(StopAsyncIteration):
        await anext(source)


async def test_a_generator_that_a_cancel_went_through_is_not_taken_for_complete() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"a"
        await trio.sleep_forever()

    async with await as_source(source()).open() as reader:
        assert await reader.next_piece() == b"a"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.next_piece)
            await trio.testing.wait_all_tasks_blocked()  # inside the generator, where it sleeps
            nursery.cancel_scope.cancel()
        with pytest.raises(trio.BrokenResourceError, match="failed, or was cancelled, before"):
            await reader.next_piece()
