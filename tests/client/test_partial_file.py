"""What is on the disk of a download: the record, the lock, and what is taken for what."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.client._files import files, part_of
from trio_http import Validators
from trio_http.client._partial_file import PartialFile, Record

RECORD = Record("a", Validators('"v1"', None, None), "", 10)


def begun(target: Path, content: bytes = b"abc", record: Record | None = RECORD) -> PartialFile:
    part = PartialFile.open(target, "a")
    part.begin(record)
    part.add(content)
    return part


@given(
    st.builds(
        Record,
        st.text(),
        st.builds(Validators, st.sampled_from(['"v1"', '"\xe9"']), st.none(), st.none()),
        st.text(),
        st.none() | st.integers(0, 10**15),
    )
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": None},
        {"request": 1},
        {"coding": None},
        {"total": -1},
        {"total": True},
        {"total": "10"},
        {"validators": None},
        {"validators": {"etag": None, "last_modified": None, "date": None}},
        {"validators": {"etag": 'W/"v1"', "last_modified": None, "date": None}},
        {"validators": {"etag": '"v1"\r\nX-Evil: 1', "last_modified": None, "date": None}},
        {"validators": {"etag": '"\u1234"', "last_modified": None, "date": None}},
        {"validators": {"etag": 5, "last_modified": None, "date": None}},
    ],
)
def test_a_record_that_makes_no_sense_is_none(change: dict[str, Any]) -> None:
    data = json.loads(RECORD.to_json())
    assert Record.from_json(json.dumps(data).encode()) == RECORD
    assert Record.from_json(json.dumps(data | change).encode()) is None


@pytest.mark.parametrize("text", [b"", b"[]", b"1", b"{}", b"\xff", b"[" * 100_000, RECORD.to_json()[:-5]])
def test_what_is_no_record_at_all_is_none(text: bytes) -> None:
    assert Record.from_json(text) is None


def test_what_was_written_is_there_for_the_same_request_alone(tmp_path: Path) -> None:
    begun(tmp_path / "file").close()
    for request, record in (("a", RECORD), ("b", None), ("a", RECORD)):
        part = PartialFile.open(tmp_path / "file", request)
        assert (part.record, part.size) == (record, 3)
        part.close()


def test_more_than_there_can_be_is_of_no_use(tmp_path: Path) -> None:
    begun(tmp_path / "file", b"a" * 11).close()
    part = PartialFile.open(tmp_path / "file", "a")
    assert part.record is None
    part.close()


def test_a_file_of_somebody_elses_is_left_alone_until_there_is_content(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"mine")
    PartialFile.open(tmp_path / "file", "a").close()
    assert (tmp_path / "file.part").read_bytes() == b"mine"
    begun(tmp_path / "file", record=None).close()
    assert files(tmp_path) == []


def test_a_part_is_closed_once(tmp_path: Path) -> None:
    part = begun(tmp_path / "file")
    part.complete()
    assert part.closed
    part.close()
    assert files(tmp_path) == ["file"]


def test_the_record_has_no_url_and_is_never_newer_than_the_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path / "file", b"abc").close()
    part = PartialFile.open(tmp_path / "file", "a")

    def dies(*args: object) -> None:
        assert part_of(tmp_path / "file").stat().st_size == 0
        raise KeyboardInterrupt

    monkeypatch.setattr("trio_http.client._partial_file.os.replace", dies)
    with pytest.raises(KeyboardInterrupt):
        part.begin(Record("a", Validators('"v2"'), "", 5))
    assert Record.from_json((tmp_path / "file.part.json").read_bytes()) == RECORD
    part.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_one_at_a_time_has_a_part(tmp_path: Path) -> None:
    first = begun(tmp_path / "file")
    with pytest.raises(trio.BusyResourceError, match="another download is writing"):
        PartialFile.open(tmp_path / "file", "a")
    first.close()
    second = PartialFile.open(tmp_path / "file", "a")
    assert second.size == 3
    second.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_a_part_that_got_its_name_while_it_was_being_locked_is_not_taken_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    first = begun(tmp_path / "file")
    flock = fcntl.flock
    locked: list[int] = []

    def complete_first(file: int, how: int) -> None:
        locked.append(file)
        if not first.closed:
            first.complete()
        flock(file, how)

    monkeypatch.setattr("trio_http.client._partial_file.fcntl.flock", complete_first)
    second = PartialFile.open(tmp_path / "file", "a")
    assert len(locked) == 2
    assert second.size == 0
    second.begin(None)
    second.close()
    assert (tmp_path / "file").read_bytes() == b"abc"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
@pytest.mark.parametrize(("code", "goes_on"), [("ENOLCK", True), ("EOPNOTSUPP", True), ("EIO", False)])
def test_a_file_system_without_locks_does_not_need_them(
    code: str, goes_on: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def flock(file: int, how: int) -> None:
        raise OSError(getattr(errno, code), "says the file system")

    monkeypatch.setattr("trio_http.client._partial_file.fcntl.flock", flock)
    if goes_on:
        begun(tmp_path / "file").complete()
        assert (tmp_path / "file").read_bytes() == b"abc"
    else:
        with pytest.raises(OSError, match="says the file system"):
            PartialFile.open(tmp_path / "file", "a")
