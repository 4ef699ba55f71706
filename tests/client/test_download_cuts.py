"""Downloads that are cut: by the network at any byte, by a cancel at any step, by a disk that is full."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.client._files import URL, FileServer, client_to, content_of, files, part_of
from trio_http import Client, RequestFailed, Response, ResponseIncomplete, Retry, StatusError
from trio_http.client import _download
from trio_http.client._partial_file import PartialFile
from trio_http.testing import cancel_at_every_step

CONTENT = content_of(20_000)


def policy(attempts: int = 3) -> Retry:
    return Retry(attempts=attempts, backoff=0, jitter=False, budget=None)


# ------------------------------------------------------------------------------------------------ the network


@settings(max_examples=60)
@given(
    size=st.integers(0, 3000),
    cuts=st.lists(st.integers(0, 3500), max_size=8),
    etags=st.lists(st.sampled_from(['"v1"', '"v2"', 'W/"v1"', None]), min_size=9, max_size=9),
    at_most=st.integers(1, 3000),
    block=st.sampled_from([1, 100, 10_000]),
    retry=st.booleans(),
)
def test_whatever_is_cut_the_file_is_equal_in_the_end(
    size: int, cuts: list[int], etags: list[str | None], at_most: int, block: int, retry: bool
) -> None:
    """C42: connections are cut anywhere, in heads, too; the file changes meanwhile; calls are repeated."""

    async def main(target: Path) -> None:
        server = FileServer(content_of(size), etags[0])
        # A server that sends too little of a range each time is asked once for each part of it.
        server.at_most = max(at_most, size // 20 + 1)
        versions = iter(etags[1:])
        async with client_to(server, cuts, retry=policy() if retry else None) as client:
            while True:
                try:
                    result = await client.download(URL, target)
                except RequestFailed as exc:
                    note(str(exc))
                    assert "file" not in files(target.parent)
                    # A file that is marked as another is another.
                    etag = next(versions)
                    server.content = (etag or "no").encode() + content_of(size)
                    server.fields.update({"etag": etag or '"no"'})
                    if etag is None:
                        del server.fields["etag"]
                else:
                    break
        assert result.size == len(server.content)
        ended_with.append(server.content)

    ended_with: list[bytes] = []
    before, _download._BLOCK_BYTES = _download._BLOCK_BYTES, block  # type: ignore[misc]
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "file"
            trio.run(main, target)
            assert [target.read_bytes()] == ended_with
            assert files(target.parent) == ["file"]
    finally:
        _download._BLOCK_BYTES = before  # type: ignore[misc]


async def test_a_policy_goes_on_with_what_came_within_one_call(tmp_path: Path) -> None:
    server = FileServer(CONTENT)
    async with client_to(server, [5000, 5000, 5000], retry=policy(2)) as client:
        result = await client.download(URL, tmp_path / "file")
    starts = [int((asked or "bytes=0-")[6:-1]) for asked, _ in server.asked]
    # Three cuts and two attempts: whoever gets further may go on.
    assert len(starts) == 4
    assert starts == sorted(set(starts))
    assert (result.requests, result.resumed_from) == (4, 0)
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_who_gets_no_further_has_only_so_many_attempts(tmp_path: Path) -> None:
    server = FileServer(CONTENT, etag=None)
    async with client_to(server, [5000] * 9, retry=policy(3)) as client:
        with pytest.raises(ResponseIncomplete):
            await client.download(URL, tmp_path / "file")
    assert len(server.asked) == 3
    assert files(tmp_path) == []


async def test_a_policy_of_one_request_takes_the_place_of_the_clients(tmp_path: Path) -> None:
    server = FileServer(CONTENT)
    async with client_to(server, [5000], retry=policy()) as client:
        with pytest.raises(ResponseIncomplete):
            await client.download(URL, tmp_path / "file", retry=None)
        assert len(server.asked) == 1
        await client.download(URL, tmp_path / "file")


async def test_a_status_that_says_later_is_asked_again(tmp_path: Path) -> None:
    statuses = [503, 429, 200]

    async def app(request: object) -> Response:
        return Response(statuses.pop(0), CONTENT)

    async with client_to(app, retry=policy()) as client:
        assert (await client.download(URL, tmp_path / "file")).requests == 3
        statuses.append(404)
        with pytest.raises(StatusError, match="404"):
            await client.download(URL, tmp_path / "file")


# --------------------------------------------------------------------------------------------------- a cancel


@pytest.mark.parametrize("there", [0, 8000])
async def test_a_download_can_be_cancelled_at_every_step(there: int) -> None:
    """What is there is the beginning of what its record names; no file is open, so the next call gets it."""
    server = FileServer(CONTENT)

    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[tuple[Client, Path]]:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "file"
            async with client_to(server, [4000 + there, 4000]) as client:
                if there:
                    with contextlib.suppress(ResponseIncomplete):
                        await client.download(URL, target)
                yield client, target

    async def scenario(of: tuple[Client, Path]) -> None:
        client, target = of
        await client.download(URL, target, retry=policy())

    async def check(of: tuple[Client, Path]) -> None:
        client, target = of
        if target.exists():
            assert target.read_bytes() == CONTENT
        elif (part := part_of(target)).exists():
            assert CONTENT.startswith(part.read_bytes())
            if part.stat().st_size:
                record = json.loads(target.with_name("file.part.json").read_bytes())
                assert (record["validators"]["etag"], record["total"]) == ('"v1"', len(CONTENT))
        assert (await client.download(URL, target, retry=policy())).size == len(CONTENT)
        assert target.read_bytes() == CONTENT
        assert files(target.parent) == ["file"]

    report = await cancel_at_every_step(scenario, world=world, check=check)
    within = {name for point in report.points for name in point.within}
    assert {"download", "_attempt", "_receive"} <= within, report
    assert len(report.points) > 20


async def test_what_came_before_a_cancel_is_on_the_disk(tmp_path: Path) -> None:
    async def app(request: object) -> None:
        async with request.stream_response(200, headers={"etag": '"v1"'}) as body:  # type: ignore[attr-defined]
            await body.send_all(b"abc")
            await trio.sleep_forever()

    seen = trio.Event()
    async with client_to(app) as client, trio.open_nursery() as nursery:

        async def run() -> None:
            await client.download(URL, tmp_path / "file", progress=lambda progress: seen.set())

        nursery.start_soon(run)
        await seen.wait()
        nursery.cancel_scope.cancel()
    assert part_of(tmp_path / "file").read_bytes() == b"abc"


async def test_a_cancel_without_a_free_thread_writes_all_the_same(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def app(request: object) -> None:
        async with request.stream_response(200, headers={"etag": '"v1"'}) as body:  # type: ignore[attr-defined]
            await body.send_all(b"abc")
            await trio.sleep_forever()

    limiter = trio.to_thread.current_default_thread_limiter()
    async with client_to(app) as client:
        with trio.CancelScope() as scope:
            others = [object() for _ in range(limiter.total_tokens)]  # type: ignore[call-overload]

            def all_threads_are_busy(progress: object) -> None:
                for other in others:
                    limiter.acquire_on_behalf_of_nowait(other)
                scope.cancel()

            await client.download(URL, tmp_path / "file", progress=all_threads_are_busy)
        assert scope.cancelled_caught
        assert part_of(tmp_path / "file").read_bytes() == b"abc"
        for other in others:
            limiter.release_on_behalf_of(other)


# --------------------------------------------------------------------------------------------------- the disk


async def test_a_full_disk_is_told_and_what_fits_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    write = os.write

    def write_little(file: int, data: memoryview) -> int:
        there = os.fstat(file).st_size
        if there >= 7000:
            raise OSError(errno.ENOSPC, "no space left")
        return write(file, data[: min(3000, 7000 - there)])

    server = FileServer(CONTENT)
    async with client_to(server) as client:
        monkeypatch.setattr("trio_http.client._partial_file.os.write", write_little)
        with pytest.raises(OSError, match="no space left"):
            await client.download(URL, target)
        assert part_of(target).read_bytes() == CONTENT[:7000]
        monkeypatch.undo()
        assert (await client.download(URL, target)).resumed_from == 7000
    assert target.read_bytes() == CONTENT


async def test_a_target_that_became_a_folder_meanwhile_is_told_and_what_came_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "file"
    async with client_to(FileServer(CONTENT)) as client:
        with pytest.raises(IsADirectoryError):
            await client.download(URL, target, progress=lambda progress: target.mkdir(exist_ok=True))
        target.rmdir()
        assert (await client.download(URL, target)).resumed_from == len(CONTENT)
    assert target.read_bytes() == CONTENT


async def test_what_is_held_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    add = PartialFile.add

    def watched(self: PartialFile, piece: bytes) -> None:
        add(self, piece)
        held.append(self.held)

    monkeypatch.setattr(PartialFile, "add", watched)
    content = content_of(5_000_000)
    async with client_to(FileServer(content)) as client:
        await client.download(URL, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    assert _download._BLOCK_BYTES <= max(held) < _download._BLOCK_BYTES + 256 * 1024
