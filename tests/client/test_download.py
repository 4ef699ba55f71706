"""Downloads to a file (C42, C66): whole or not at all, and gone on with only where that is certain."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.client._files import (
    LONG_AFTER,
    MODIFIED,
    URL,
    FileServer,
    Scripted,
    client_to,
    content_of,
    files,
    part_of,
)
from trio_http import (
    Download,
    Progress,
    Request,
    RequestFailed,
    Response,
    ResponseIncomplete,
    ResponseInvalid,
    Retry,
    StatusError,
)

CONTENT = content_of(100_000)
# Behind the head and about half of the content.
HALF = 50_000
ETAG = {"etag": '"v1"'}


async def cut_short(target: Path, server: FileServer, at: int = HALF) -> int:
    """Have a download fail in the midst of its content; return how much of it is there."""
    async with client_to(server, [at]) as client:
        with pytest.raises(ResponseIncomplete):
            await client.download(URL, target)
    server.asked.clear()
    return part_of(target).stat().st_size


async def resumed(target: Path, *answers: Response) -> tuple[Download, Scripted]:
    """Go on with a download, at a server that answers just this."""
    server = Scripted(*answers)
    async with client_to(server) as client:
        result = await client.download(URL, target)
    assert server.answers == []
    return result, server


# ----------------------------------------------------------------------------------------------------- whole


async def test_a_download_is_the_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    async with client_to(FileServer(CONTENT, last_modified=MODIFIED)) as client:
        result = await client.download(URL, target)
    assert target.read_bytes() == CONTENT
    assert files(tmp_path) == ["file"]
    assert (result.path, result.size, result.resumed_from, result.requests) == (target, 100_000, 0, 1)
    assert (result.status, result.url, result.headers["etag"]) == (200, URL, '"v1"')
    assert result.validators.if_changed() == {"If-None-Match": '"v1"', "If-Modified-Since": MODIFIED}


@pytest.mark.parametrize("kind", [str, Path, trio.Path])
async def test_a_path_may_be_of_any_kind(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with client_to(FileServer(b"abc")) as client:
        result = await client.download(URL, kind("file"))
    assert result.path == tmp_path / "file"
    assert result.path.read_bytes() == b"abc"


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    async with client_to(FileServer(b"")) as client:
        assert (await client.download(URL, tmp_path / "file")).size == 0
    assert files(tmp_path) == ["file"]


async def test_options_and_params_are_those_of_a_request(tmp_path: Path) -> None:
    seen: list[tuple[str, str | None, str | None]] = []

    async def app(request: Request) -> Response:
        seen.append((request.target, request.headers.get("x-a"), request.headers.get("accept-encoding")))
        return Response(200, b"abc")

    async with client_to(app, base_url="http://a/b") as client:
        await client.download("c", tmp_path / "file", params={"d": 1}, headers={"X-A": "e"})
    assert seen == [("/b/c?d=1", "e", "identity")]


async def test_a_file_that_was_there_is_replaced_at_the_end_and_not_before(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    await cut_short(target, FileServer(CONTENT))
    assert target.read_bytes() == b"old"
    async with client_to(FileServer(CONTENT)) as client:
        await client.download(URL, target)
    assert target.read_bytes() == CONTENT


# ----------------------------------------------------------------------------------------------- gone on with


@pytest.mark.parametrize(
    ("server", "condition"),
    [
        (FileServer(CONTENT), '"v1"'),
        (FileServer(CONTENT, None, last_modified=MODIFIED, date=LONG_AFTER), MODIFIED),
    ],
    ids=["etag", "date"],
)
async def test_a_cut_download_is_gone_on_with(server: FileServer, condition: str, tmp_path: Path) -> None:
    target = tmp_path / "file"
    there = await cut_short(target, server)
    assert 0 < there < HALF
    assert files(tmp_path) == ["file.part", "file.part.json"]
    async with client_to(server) as client:
        result = await client.download(URL, target)
    assert server.asked == [(f"bytes={there}-", condition)]
    assert (result.status, result.resumed_from, result.size) == (206, there, 100_000)
    assert target.read_bytes() == CONTENT
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "server",
    [
        FileServer(CONTENT, None),
        FileServer(CONTENT, 'W/"v1"'),
        FileServer(CONTENT, "v1"),
        # A weak entity tag keeps the date from being used, too (RFC 9110 §13.1.5).
        FileServer(CONTENT, 'W/"v1"', last_modified=MODIFIED, date=LONG_AFTER),
        FileServer(CONTENT, None, last_modified=MODIFIED, date=MODIFIED),
        FileServer(CONTENT, None, last_modified="yesterday", date=LONG_AFTER),
    ],
    ids=["none", "weak", "unquoted", "weak-and-date", "date-too-near", "no-date"],
)
async def test_without_a_strong_validator_nothing_is_kept(server: FileServer, tmp_path: Path) -> None:
    async with client_to(server, [HALF]) as client:
        with pytest.raises(ResponseIncomplete):
            await client.download(URL, tmp_path / "file")
        assert files(tmp_path) == []
        await client.download(URL, tmp_path / "file")
    assert server.asked == [(None, None)] * 2
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_another_url_is_another_file(tmp_path: Path) -> None:
    server = FileServer(CONTENT)
    await cut_short(tmp_path / "file", server)
    async with client_to(server) as client:
        assert (await client.download(URL + "?b", tmp_path / "file")).resumed_from == 0
    assert server.asked == [(None, None)]


async def test_what_is_there_is_not_used_when_that_is_not_wanted(tmp_path: Path) -> None:
    server = FileServer(CONTENT)
    await cut_short(tmp_path / "file", server)
    async with client_to(server) as client:
        assert (await client.download(URL, tmp_path / "file", resume=False)).resumed_from == 0
    assert server.asked == [(None, None)]
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_a_file_that_has_changed_is_downloaded_from_its_beginning(tmp_path: Path) -> None:
    server = FileServer(CONTENT)
    there = await cut_short(tmp_path / "file", server)
    server.content, server.fields["etag"] = CONTENT[::-1], '"v2"'
    async with client_to(server) as client:
        result = await client.download(URL, tmp_path / "file")
    assert server.asked == [(f"bytes={there}-", '"v1"')]
    assert (result.status, result.resumed_from, result.requests) == (200, 0, 1)
    assert result.validators.etag == '"v2"'
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]


async def test_a_server_without_ranges_sends_everything(tmp_path: Path) -> None:
    server = FileServer(CONTENT)
    await cut_short(tmp_path / "file", server)
    server.ranges = False
    async with client_to(server) as client:
        assert (await client.download(URL, tmp_path / "file")).resumed_from == 0
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_a_range_may_come_in_parts(tmp_path: Path) -> None:
    server = FileServer(CONTENT)
    there = await cut_short(tmp_path / "file", server)
    server.at_most = 20_000
    async with client_to(server) as client:
        result = await client.download(URL, tmp_path / "file")
    assert [asked for asked, _ in server.asked] == [f"bytes={there + n * 20_000}-" for n in range(3)]
    assert (result.requests, result.resumed_from) == (3, there)
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_a_complete_part_needs_only_a_416(tmp_path: Path) -> None:
    """A call was cancelled between the last byte and the renaming."""
    target = tmp_path / "file"
    await cut_short(target, FileServer(CONTENT))
    part_of(target).write_bytes(CONTENT)
    server = FileServer(CONTENT)
    async with client_to(server) as client:
        result = await client.download(URL, target)
    assert server.asked == [("bytes=100000-", '"v1"')]
    assert (result.status, result.resumed_from, result.size) == (416, 100_000, 100_000)
    assert target.read_bytes() == CONTENT


async def test_a_total_that_the_server_does_not_say_is_found_out_by_a_416(tmp_path: Path) -> None:
    target = tmp_path / "file"

    async def chunked(request: Request) -> None:
        async with request.stream_response(200, headers=ETAG) as body:
            await body.send_all(CONTENT[:1000])
            raise OSError("the disk is broken")

    async with client_to(chunked) as client:
        with pytest.raises(RequestFailed):
            await client.download(URL, target)
    there = part_of(target).stat().st_size
    rest = Response(206, CONTENT[there:], headers={**ETAG, "content-range": f"bytes {there}-99999/*"})
    none = Response(416, headers={"content-range": "bytes */100000"})
    result, server = await resumed(target, rest, none)
    assert server.asked[1] == ("bytes=100000-", '"v1"')
    assert (result.resumed_from, result.requests) == (there, 2)
    assert target.read_bytes() == CONTENT


# ------------------------------------------------------------------------------------------------- distrusted


def rest(start: int, said: str, **fields: str) -> Response:
    """A 206 with the content from ``start`` on."""
    given = {name.replace("_", "-"): value for name, value in fields.items()}
    return Response(206, CONTENT[start:], headers={**ETAG, **given, "content-range": said})


@pytest.mark.parametrize(
    "answer",
    [
        lambda there: rest(there, f"bytes {there + 1}-99999/100000"),
        lambda there: rest(there, f"bytes {there - 1}-99999/100000"),
        lambda there: rest(there, f"bytes {there}-99998/100000"),
        lambda there: rest(there, f"bytes {there}-100000/100000"),
        lambda there: rest(there, f"bytes {there}-99999/100001"),
        lambda there: rest(there, f"bytes {there}-99999/99999"),
        lambda there: rest(there, f"bytes {there}-{there - 1}/100000"),
        lambda there: rest(there, f"octets {there}-99999/100000"),
        lambda there: rest(there, "bytes */100000"),
        lambda there: rest(there, "nonsense"),
        lambda there: rest(there, f"bytes {there}-99999/100000", etag='"v2"'),
        lambda there: rest(there, f"bytes {there}-99999/100000", content_encoding="gzip"),
        lambda there: Response(
            206, CONTENT[there:-1], headers={**ETAG, "content-range": f"bytes {there}-99999/100000"}
        ),
        lambda there: Response(206, CONTENT[there:], headers=ETAG),
        lambda there: Response(206, b"--a--", headers={"content-type": "multipart/byteranges; boundary=a"}),
        lambda there: Response(416),
        lambda there: Response(416, headers={"content-range": "bytes */5"}),
        lambda there: Response(416, headers={"content-range": f"bytes */{there}"}),
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_exactly_the_rest_makes_the_download_start_over(
    answer: Any, tmp_path: Path
) -> None:
    target = tmp_path / "file"
    there = await cut_short(target, FileServer(CONTENT))
    seen: list[Progress] = []
    server = Scripted(answer(there), Response(200, CONTENT))
    async with client_to(server) as client:
        result = await client.download(URL, target, progress=seen.append)
    assert server.asked == [(f"bytes={there}-", '"v1"'), (None, None)]
    assert (result.status, result.resumed_from, result.requests) == (200, 0, 2)
    assert {progress.resumed_from for progress in seen} == {0}, "its content was not even looked at"
    assert target.read_bytes() == CONTENT
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("last", "sent"),
    [
        (99_999, b""),
        (99_999, CONTENT[:1000]),
        (99_999, CONTENT),
        # These would be right, if there were no such ranges.
        (100_000, None),
        (-1, b""),
    ],
)
async def test_a_range_whose_length_only_its_end_shows_is_held_to_it(
    last: int, sent: bytes | None, tmp_path: Path
) -> None:
    target = tmp_path / "file"
    there = await cut_short(target, FileServer(CONTENT))
    said = {**ETAG, "content-range": f"bytes {there}-{there - 1 if last < 0 else last}/100000"}
    content = CONTENT[there:] + b"a" if sent is None else sent
    asked: list[str | None] = []
    seen: list[Progress] = []

    async def app(request: Request) -> Response | None:
        asked.append(request.headers.get("range"))
        if len(asked) > 1:
            return Response(200, CONTENT)
        async with request.stream_response(206, headers=said) as body:
            await body.send_all(content)
        return None

    async with client_to(app) as client:
        await client.download(URL, target, progress=seen.append)
    assert asked == [f"bytes={there}-", None]
    assert max(progress.received for progress in seen) == 100_000
    assert target.read_bytes() == CONTENT


async def test_a_partial_response_that_nobody_asked_for_is_invalid(tmp_path: Path) -> None:
    async with client_to(Scripted(rest(0, "bytes 0-99999/100000"))) as client:
        with pytest.raises(ResponseInvalid, match="206 to a request for all") as caught:
            await client.download(URL, tmp_path / "file")
    assert (caught.value.facts.method, caught.value.facts.url) == ("GET", URL)
    assert files(tmp_path) == []


@pytest.mark.parametrize("status", [204, 302, 304, 404, 416, 500])
async def test_another_status_is_an_error_and_no_file(status: int, tmp_path: Path) -> None:
    async with client_to(Scripted(Response(status, headers={"location": "/b"}))) as client:
        with pytest.raises(StatusError, match=f"answered {status}") as caught:
            await client.download(URL, tmp_path / "file")
    assert caught.value.response.status == status
    assert files(tmp_path) == []


async def test_an_error_status_leaves_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    there = await cut_short(target, FileServer(CONTENT))
    async with client_to(Scripted(Response(503))) as client:
        with pytest.raises(StatusError):
            await client.download(URL, target)
    assert part_of(target).stat().st_size == there
    async with client_to(FileServer(CONTENT)) as client:
        assert (await client.download(URL, target)).resumed_from == there


async def test_redirects_are_followed_when_that_is_wanted(tmp_path: Path) -> None:
    server = Scripted(Response(302, headers={"location": "/there"}), Response(200, CONTENT))
    async with client_to(server) as client:
        result = await client.download(URL, tmp_path / "file", follow_redirects=True)
    assert result.url == "http://a/there"
    assert (tmp_path / "file").read_bytes() == CONTENT


# ---------------------------------------------------------------------------------------------------- codings


@pytest.mark.parametrize("decode", [True, False])
async def test_content_under_a_coding_is_decoded_unless_it_is_wanted_as_it_is(
    decode: bool, tmp_path: Path
) -> None:
    coded = gzip.compress(CONTENT)
    totals: set[int | None] = set()
    async with client_to(FileServer(coded, content_encoding="gzip")) as client:
        await client.download(
            URL, tmp_path / "file", decode=decode, progress=lambda seen: totals.add(seen.total)
        )
    assert (tmp_path / "file").read_bytes() == (CONTENT if decode else coded)
    assert totals == {None if decode else len(coded)}


async def test_decoded_content_is_not_gone_on_with(tmp_path: Path) -> None:
    coded = gzip.compress(os.urandom(100_000))
    async with client_to(FileServer(coded, content_encoding="gzip"), [HALF]) as client:
        with pytest.raises(ResponseIncomplete):
            await client.download(URL, tmp_path / "file")
    assert files(tmp_path) == []


async def test_a_file_that_has_become_coded_is_decoded(tmp_path: Path) -> None:
    await cut_short(tmp_path / "file", FileServer(CONTENT))
    answer = Response(200, gzip.compress(CONTENT), headers={"content-encoding": "gzip"})
    result, _ = await resumed(tmp_path / "file", answer)
    assert (result.size, result.requests, result.resumed_from) == (100_000, 1, 0)
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_what_was_not_to_be_decoded_is_not_gone_on_with_by_who_wants_it_decoded(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    server = FileServer(gzip.compress(content), content_encoding="gzip")
    async with client_to(server, [HALF]) as client:
        with pytest.raises(ResponseIncomplete):
            await client.download(URL, tmp_path / "file", decode=False)
        assert part_of(tmp_path / "file").stat().st_size > 0
        assert (await client.download(URL, tmp_path / "file")).resumed_from == 0
    assert server.asked == [(None, None)] * 2
    assert (tmp_path / "file").read_bytes() == content


async def test_coded_content_that_is_wanted_as_it_is_is_gone_on_with(tmp_path: Path) -> None:
    coded = gzip.compress(os.urandom(100_000))
    server = FileServer(coded, content_encoding="gzip")
    async with client_to(server, [HALF]) as client:
        with pytest.raises(ResponseIncomplete):
            await client.download(URL, tmp_path / "file", decode=False)
        assert (await client.download(URL, tmp_path / "file", decode=False)).resumed_from > 0
    assert (tmp_path / "file").read_bytes() == coded


# --------------------------------------------------------------------------------------------------- progress


async def test_progress_is_told_after_each_piece(tmp_path: Path) -> None:
    """C66."""
    target = tmp_path / "file"
    server = FileServer(CONTENT)
    seen: list[Progress] = []
    there = await cut_short(target, server)
    async with client_to(server) as client:
        await client.download(URL, target, progress=seen.append)
    assert seen[-1] == Progress(100_000, 100_000, there)
    received = [there, *(progress.received for progress in seen)]
    assert received == sorted(set(received))
    assert {(progress.total, progress.resumed_from) for progress in seen} == {(100_000, there)}


async def test_progress_falls_back_when_a_download_starts_over(tmp_path: Path) -> None:
    target = tmp_path / "file"
    there = await cut_short(target, FileServer(CONTENT))
    seen: list[Progress] = []
    async with client_to(FileServer(CONTENT[:1000], '"v2"')) as client:
        await client.download(URL, target, progress=seen.append)
    assert there > 1000
    assert seen == [Progress(1000, 1000, 0)]


@pytest.mark.parametrize("error", [KeyError("mine"), StatusError(Response(503), URL)])
async def test_what_a_progress_function_raises_comes_out_as_it_is_and_what_came_stays(
    error: Exception, tmp_path: Path
) -> None:
    def fail(progress: Progress) -> None:
        raise error

    server = FileServer(CONTENT)
    async with client_to(server, retry=Retry(backoff=0)) as client:
        with pytest.raises(type(error)) as caught:
            await client.download(URL, tmp_path / "file", progress=fail)
        assert caught.value is error
        assert len(server.asked) == 1
        there = part_of(tmp_path / "file").stat().st_size
        assert there > 0
        assert (await client.download(URL, tmp_path / "file")).resumed_from == there
