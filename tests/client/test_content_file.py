"""Files as content: their length, who closes them, and what becomes of them under a cancel."""

from __future__ import annotations

import io
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.client._contents import LARGE, PIECE, as_source, open_files, opened, read_all, sent
from trio_http import InvalidRequest
from trio_http.client._content import as_content
from trio_http.testing import cancel_at_every_step

BLOCK = 512 * 1024  # what a thread reads in one turn


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(LARGE)
    return path


@pytest.mark.parametrize("kind", [Path, trio.Path])
async def test_a_path_is_sent_with_its_length_and_can_be_sent_again(
    kind: Callable[[Path], Any], large: Path
) -> None:
    """C26: a file is streamed up."""
    content = as_source(kind(large))
    assert content.repeatable
    for _ in range(2):
        assert await sent(content) == (LARGE, len(LARGE))
    assert open_files(large) == []


async def test_a_file_comes_in_pieces_of_64_kib(large: Path) -> None:
    async with await as_source(large).open() as reader:
        assert [len(piece) for piece in await read_all(reader)] == [PIECE, PIECE, len(LARGE) - 2 * PIECE]


@pytest.mark.parametrize(
    "size",
    [0, 1, PIECE - 1, PIECE, PIECE + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 1],
)
async def test_a_file_of_a_size_about_a_piece_or_a_block_is_whole(size: int, tmp_path: Path) -> None:
    data = (LARGE * 6)[:size]
    path = trio.Path(tmp_path / "file")
    await path.write_bytes(data)
    assert await sent(as_source(path)) == (data, size)


@pytest.mark.parametrize("buffering", [0, -1])
async def test_a_file_of_the_callers_is_sent_from_where_it_stands_and_stays_open(
    buffering: int, large: Path
) -> None:
    with opened(large, "rb", buffering) as file:
        file.seek(1000)
        content = as_source(file)
        assert content.repeatable
        for _ in range(2):
            assert await sent(content) == (LARGE[1000:], len(LARGE) - 1000)
        assert not file.closed


async def test_an_async_file_of_trios_is_sent_from_where_it_stands_and_stays_open(large: Path) -> None:
    async with await trio.open_file(large, "rb") as file:
        await file.seek(5)
        content = as_source(file)
        assert content.repeatable
        assert await sent(content) == (LARGE[5:], len(LARGE) - 5)
        assert not file.closed


def spooled() -> Any:
    file = tempfile.SpooledTemporaryFile(max_size=10**6)  # noqa: SIM115  # the test closes it
    file.write(LARGE)
    file.seek(0)
    return file


def named() -> Any:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115  # the test closes it
    file.write(LARGE)
    file.seek(0)
    return file


@pytest.mark.parametrize(
    "make", [lambda: io.BytesIO(LARGE), spooled, named], ids=["BytesIO", "spooled", "named"]
)
async def test_files_of_other_kinds_are_files(make: Callable[[], Any]) -> None:
    with make() as file:
        content = as_source(file)
        assert content.repeatable
        for _ in range(2):
            assert await sent(content) == (LARGE, len(LARGE))
        assert not file.closed


async def test_a_file_that_was_opened_and_not_read_stands_where_it_stood(large: Path) -> None:
    with opened(large, "rb") as file:
        file.seek(7)
        async with await as_source(file).open():
            pass
        assert file.tell() == 7


async def test_a_pipe_has_no_length_and_can_be_sent_once() -> None:
    there, here = os.pipe()
    os.write(here, b"through")
    os.close(here)
    with opened(there, "rb") as file:
        content = as_source(file)
        assert not content.repeatable
        assert await sent(content) == (b"through", None)
        with pytest.raises(InvalidRequest, match="which cannot seek, that was sent before"):
            await content.open()


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc")
async def test_a_file_that_the_kernel_writes_as_it_is_read_has_no_length() -> None:
    data, length = await sent(as_source(Path("/proc/self/status")))
    assert b"Name:" in data
    assert length is None


async def test_a_file_that_cannot_be_read_is_refused(large: Path) -> None:
    with (
        opened(large, "r") as text,
        pytest.raises(InvalidRequest, match=r"text file.*open '.*large\.bin' with 'rb'"),
    ):
        as_content(text)
    async with await trio.open_file(large) as async_text:
        with pytest.raises(InvalidRequest, match="text file"):
            as_content(async_text)
    with tempfile.TemporaryFile("w+") as temporary, pytest.raises(InvalidRequest, match="text file"):
        as_content(temporary)
    with opened(large, "rb") as closed:
        pass
    with pytest.raises(InvalidRequest, match=r"large\.bin', which is closed"):
        as_content(closed)
    with opened(large, "ab") as appending, pytest.raises(InvalidRequest, match="not open for reading"):
        as_content(appending)


async def test_a_path_that_cannot_be_opened_raises_what_open_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await as_source(tmp_path / "absent").open()
    with pytest.raises(IsADirectoryError):
        await as_source(tmp_path).open()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
async def test_a_path_of_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidRequest, match="no regular file, so that reading it may wait for ever"):
        await as_source(tmp_path / "pipe").open()
    assert open_files(tmp_path / "pipe") == []


async def test_a_file_gives_one_sending_at_a_time(large: Path) -> None:
    with opened(large, "rb") as file:
        content = as_source(file)
        async with await content.open():
            with pytest.raises(trio.BusyResourceError, match=r"large\.bin' is being sent by another request"):
                await content.open()
        assert await sent(content) == (LARGE, len(LARGE))


@pytest.mark.parametrize("size", [10, len(LARGE), BLOCK, BLOCK + 1])
async def test_a_file_that_grows_is_an_error_before_its_last_promised_byte_goes_out(
    size: int, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes((LARGE * 3)[:size])
    given = 0
    async with await as_source(path).open() as reader:
        with opened(path, "ab") as file:
            file.write(b"x")
        with pytest.raises(InvalidRequest, match=f"has grown while it was sent: it had {size} bytes"):
            while piece := await reader.next_piece():
                given += len(piece)
    assert given < size
    assert open_files(path) == []


@pytest.mark.parametrize("left", [0, 9, PIECE, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
async def test_a_file_that_shrinks_is_an_error_and_no_end(left: int, tmp_path: Path) -> None:
    path = trio.Path(tmp_path / "file")
    await path.write_bytes(bytes(2 * BLOCK + 1))
    async with await as_source(path).open() as reader:
        os.truncate(path, left)
        what = f"has shrunk.*had {2 * BLOCK + 1} bytes, now it ends after {left}$"
        with pytest.raises(InvalidRequest, match=what):
            await read_all(reader)


async def test_a_file_without_bytes_for_now_is_an_error_and_no_end() -> None:
    there, here = os.pipe()
    os.set_blocking(there, False)
    with opened(there, "rb", 0) as file, opened(here, "wb"):
        async with await as_source(file).open() as reader:
            with pytest.raises(InvalidRequest, match="non-blocking mode and has nothing to read"):
                await reader.next_piece()


async def test_a_cancel_while_a_path_is_read_leaves_nothing_open(large: Path) -> None:
    content = as_source(large)

    async def scenario() -> None:
        assert await sent(content) == (LARGE, len(LARGE))

    def check() -> None:
        assert open_files(large) == []

    report = await cancel_at_every_step(scenario, check=check)
    assert any("next_piece" in point.within for point in report.points)
    assert any("open" in point.within for point in report.points)


async def test_a_cancel_while_a_file_of_the_callers_is_read_leaves_it_open_and_fit_to_be_sent_again(
    large: Path,
) -> None:
    with opened(large, "rb") as file:
        content = as_source(file)

        async def scenario() -> None:
            assert await sent(content) == (LARGE, len(LARGE))

        report = await cancel_at_every_step(scenario, check=scenario)
        assert any("next_piece" in point.within for point in report.points)


async def test_a_cancel_between_two_pieces_of_a_file_loses_nothing(large: Path) -> None:
    async with await as_source(large).open() as reader:
        pieces = [await reader.next_piece()]
        with trio.CancelScope() as scope:
            scope.cancel()
            pieces.append(await reader.next_piece())
        assert b"".join(pieces + await read_all(reader)) == LARGE


class Waiting(io.RawIOBase):
    """A file whose first read waits until it is let go on."""

    def __init__(self, *, can_seek: bool) -> None:
        self.can_seek = can_seek
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.left = threading.Event()
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.can_seek

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset if whence == 0 else 3
        return self.at

    def read(self, size: int = -1) -> bytes:
        self.entered.set()
        self.go_on.wait(60)
        data, self.at = b"abc"[self.at :], 3
        self.left.set()
        return data


async def test_a_cancel_while_a_thread_reads_a_file_waits_for_it_and_loses_nothing() -> None:
    file = Waiting(can_seek=True)
    pieces = []

    async def read() -> None:
        pieces.append(await reader.next_piece())

    async with await as_source(file).open() as reader:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.to_thread.run_sync(file.entered.wait)
            nursery.cancel_scope.cancel()
            file.go_on.set()
        assert pieces == [b"abc"]
        assert await reader.next_piece() == b""


async def test_a_cancel_does_not_wait_for_a_pipe() -> None:
    file = Waiting(can_seek=False)
    async with await as_source(file).open() as reader:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.next_piece)
            await trio.to_thread.run_sync(file.entered.wait)
            nursery.cancel_scope.cancel()
        assert not file.left.is_set()
        with pytest.raises(trio.ClosedResourceError):
            await reader.next_piece()
    file.go_on.set()
    await trio.to_thread.run_sync(file.left.wait)


async def test_a_file_that_is_being_read_is_busy_and_is_given_free_by_who_reads() -> None:
    file = Waiting(can_seek=True)
    content = as_source(file)
    reader = await content.open()

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await reader.next_piece()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.to_thread.run_sync(file.entered.wait)
        with pytest.raises(trio.BusyResourceError, match="another task is reading this content"):
            await reader.next_piece()
        await reader.aclose()
        with pytest.raises(trio.BusyResourceError, match="is being sent"):
            await content.open()
        file.go_on.set()
    assert await sent(content) == (b"abc", 3)
