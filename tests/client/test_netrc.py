"""Credentials from a netrc file (C45)."""

from __future__ import annotations

import base64
import os
import traceback
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.client._auth_rounds import ORIGIN, request_for
from trio_http import Headers, InvalidRequest
from trio_http.client._netrc import NetrcAuth, _too_open

FILE = """\
# a comment
machine example.org login user password pass:word
machine CASE.example user "two words" password "quo\\"ted"
machine ::1 login six password hunter2
machine nobody.example
macdef init
cd there

default login anyone password hunter2
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("NETRC", raising=False)
    return folder


def written(path: Path, text: str = FILE, mode: int = 0o600) -> Path:
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


async def shown(auth: NetrcAuth, host: str = ORIGIN.host, scheme: str = "http", port: int = 80) -> str | None:
    """Name and password that a request to the host goes out with."""
    origin = ORIGIN._replace(scheme=scheme, host=host, port=port)
    field = Headers(await auth.authorize(request_for(origin=origin))).get("authorization")
    return None if field is None else base64.b64decode(field.removeprefix("Basic ")).decode()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.org", "user:pass:word"),
        ("case.example", 'two words:quo"ted'),
        ("::1", "six:hunter2"),
        ("nobody.example", None),
        ("sub.example.org", "anyone:hunter2"),
    ],
)
async def test_a_host_gets_what_the_file_has_for_it(tmp_path: Path, host: str, expected: str | None) -> None:
    """C45: netrc."""
    auth = NetrcAuth(written(tmp_path / "file"))
    assert await shown(auth, host) == expected
    assert await shown(auth, host, "https", 8443) == expected


async def test_a_host_without_an_entry_gets_nothing(tmp_path: Path) -> None:
    auth = NetrcAuth(written(tmp_path / "file", "machine a.example login a password b\n"))
    assert await shown(auth) is None
    assert await shown(auth, "a.example") == "a:b"


async def test_the_files_place_is_the_one_given_or_the_environments_or_the_home_folders(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, named = tmp_path / "given", tmp_path / "named"
    for path in (given, named, home / ".netrc", home / "_netrc"):
        written(path, f"default login {path.name} password x")
    assert await shown(NetrcAuth()) == ".netrc:x"
    monkeypatch.setenv("NETRC", str(named))
    assert await shown(NetrcAuth()) == "named:x"
    assert await shown(NetrcAuth(given)) == "given:x"
    assert await shown(NetrcAuth(str(given))) == "given:x"
    monkeypatch.setenv("NETRC", "")
    (home / ".netrc").unlink()
    assert await shown(NetrcAuth()) == "_netrc:x"


async def test_without_a_file_in_the_home_folder_nobody_has_credentials() -> None:
    assert await shown(NetrcAuth()) is None


async def test_a_file_that_was_named_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(InvalidRequest) as caught:
        await shown(NetrcAuth(missing))
    assert str(caught.value) == f"the netrc file {missing}, named by the path given, is not there"
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    monkeypatch.setenv("NETRC", str(missing))
    with pytest.raises(InvalidRequest, match="named by the environment variable NETRC, is not there"):
        await shown(NetrcAuth())


async def test_a_file_that_cannot_be_read_is_told_with_the_systems_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await shown(NetrcAuth(tmp_path))
    assert str(caught.value) == f"the netrc file {tmp_path} cannot be read: Is a directory"
    with pytest.raises(InvalidRequest, match="cannot be read: Not a directory"):
        await shown(NetrcAuth(written(tmp_path / "file") / "below"))


@pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")
async def test_a_file_in_the_home_folder_that_others_can_use_is_refused(home: Path, tmp_path: Path) -> None:
    file = written(home / ".netrc", mode=0o640)
    with pytest.raises(InvalidRequest) as caught:
        await shown(NetrcAuth())
    assert str(caught.value) == (
        f"the netrc file {file} can be used by others (mode 640); chmod 600 by its owner makes it usable"
    )
    assert await shown(NetrcAuth(written(tmp_path / "given", mode=0o644))) == "user:pass:word"
    stranger = os.stat_result((0o100600, 0, 0, 1, os.getuid() + 1, 0, 0, 0, 0, 0))
    assert _too_open(stranger) == f"belongs to the user {os.getuid() + 1}, not to {os.getuid()}"


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"machine a login b password c\nhunter2", "in line 2"),
        (b"machine a login b password correct hunter2", "in line 1"),
        (b"machine", "in line 1"),
    ],
)
async def test_a_malformed_file_is_told_by_its_line_and_without_its_words(
    tmp_path: Path, content: bytes, where: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(InvalidRequest) as caught:
        await shown(NetrcAuth(file))
    assert str(caught.value) == f"the netrc file {file} cannot be parsed {where}"
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


async def test_an_entry_that_basic_has_no_room_for_is_told_by_its_host(tmp_path: Path) -> None:
    auth = NetrcAuth(written(tmp_path / "file", "machine example.org login hun:ter password hunter2"))
    with pytest.raises(InvalidRequest) as caught:
        await shown(auth)
    assert str(caught.value).startswith(
        f"the entry for example.org in {tmp_path / 'file'}: username holds a colon"
    )


async def test_a_changed_file_is_read_again_but_looked_at_once_a_second(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    file = written(tmp_path / "file", "default login one password x")
    auth = NetrcAuth(file)
    assert await shown(auth) == "one:x"
    written(file, "default login other password x")
    mock_clock.jump(0.9)
    assert await shown(auth) == "one:x"
    mock_clock.jump(0.2)
    assert await shown(auth) == "other:x"
    file.unlink()
    mock_clock.jump(1)
    with pytest.raises(InvalidRequest, match="is not there"):
        await shown(auth)
    with pytest.raises(InvalidRequest, match="is not there"):
        await shown(auth)
    written(file, "default login third password x")
    assert await shown(auth) == "third:x"


async def test_a_file_that_did_not_change_is_not_read_again(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    file = written(tmp_path / "file", "default login one password x")
    before = file.stat()
    auth = NetrcAuth(file)
    assert await shown(auth) == "one:x"
    # What cannot happen by itself: another content with everything else as it was.
    file.write_text("default login two password x", "utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    mock_clock.jump(2)
    assert await shown(auth) == "one:x"
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1000))
    mock_clock.jump(2)
    assert await shown(auth) == "two:x"


async def test_many_requests_have_the_file_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "file")
    auth = NetrcAuth(file)
    threads = 0
    run_sync = trio.to_thread.run_sync

    async def counted(*args: object, **options: object) -> object:
        nonlocal threads
        threads += 1
        return await run_sync(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    found: list[str | None] = []

    async def one() -> None:
        found.append(await shown(auth))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert found == ["user:pass:word"] * 10
    assert threads == 1


async def test_a_cancelled_request_leaves_the_reading_to_the_next(tmp_path: Path) -> None:
    auth = NetrcAuth(written(tmp_path / "file"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await shown(auth)
    assert scope.cancelled_caught
    assert await shown(auth) == "user:pass:word"


async def test_what_the_file_has_is_in_no_repr(tmp_path: Path) -> None:
    auth = NetrcAuth(written(tmp_path / "file"))
    await shown(auth)
    assert "pass:word" not in repr(auth) + repr(auth._known)
    assert repr(auth) == "<NetrcAuth>"
