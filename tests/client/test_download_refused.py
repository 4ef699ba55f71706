"""Downloads that are refused, before anything is sent or because another one is under way (C42)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.client._files import URL, FileServer, client_to, content_of, files
from trio_http import Client, ConnectFailed, InvalidRequest, Progress

CONTENT = content_of(100_000)


async def no_dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
    raise AssertionError("something was sent")


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("", IsADirectoryError, "which is a directory"),
        ("absent/file", FileNotFoundError, "no directory"),
        ("a-file/file", NotADirectoryError, "no directory"),
    ],
)
async def test_a_path_that_cannot_become_a_file_is_refused_before_anything_is_sent(
    name: str, kind: type[OSError], match: str, tmp_path: Path
) -> None:
    (tmp_path / "a-file").touch()
    async with Client(dial=no_dial) as client:
        with pytest.raises(kind, match=match):
            await client.download(URL, tmp_path / name)
    assert files(tmp_path) == ["a-file"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize(
    "make", [lambda part: part.symlink_to("elsewhere"), os.mkfifo, lambda part: part.mkdir()]
)
async def test_a_part_that_is_no_file_is_not_written_to(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "file.part")
    async with Client(dial=no_dial) as client:
        with pytest.raises(OSError):
            await client.download(URL, tmp_path / "file")
    assert files(tmp_path) == ["file.part"]


@pytest.mark.parametrize("name", ["Range", "if-range"])
async def test_a_range_of_the_callers_is_refused(name: str, tmp_path: Path) -> None:
    async with Client(dial=no_dial) as client:
        with pytest.raises(InvalidRequest, match="asks for ranges by itself"):
            await client.download(URL, tmp_path / "file", headers={name: "bytes=0-"})
    assert files(tmp_path) == []


async def test_a_bad_request_is_refused_before_the_disk_is_touched(tmp_path: Path) -> None:
    async with Client(dial=no_dial) as client:
        with pytest.raises(InvalidRequest):
            await client.download("http://a/ b", tmp_path / "file")
        with pytest.raises(TypeError, match="nonsense"):
            await client.download(URL, tmp_path / "file", nonsense=1)  # type: ignore[call-arg]
    assert files(tmp_path) == []


async def test_a_progress_function_that_would_have_to_be_awaited_is_refused(tmp_path: Path) -> None:
    async def tell(progress: Progress) -> None:
        raise AssertionError("it was called")

    async with Client(dial=no_dial) as client:
        with pytest.raises(TypeError, match="plain function"):
            await client.download(URL, tmp_path / "file", progress=tell)


async def test_nothing_is_left_of_a_download_that_never_began(tmp_path: Path) -> None:
    async def nobody(host: str, port: int, scheme: str) -> trio.abc.Stream:
        raise OSError("nobody is there")

    async with Client(dial=nobody) as client:
        with pytest.raises(ConnectFailed):
            await client.download(URL, tmp_path / "file")
    assert files(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
async def test_two_downloads_to_one_file_are_not_mixed(tmp_path: Path) -> None:
    server = FileServer(CONTENT)
    async with client_to(server) as client, trio.open_nursery() as nursery:
        busy: list[str] = []

        async def one() -> None:
            try:
                await client.download(URL, tmp_path / "file")
            except trio.BusyResourceError as exc:
                busy.append(str(exc))

        for _ in range(3):
            nursery.start_soon(one)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(server.asked) + len(busy) == 3
    assert all("another download" in text for text in busy)
