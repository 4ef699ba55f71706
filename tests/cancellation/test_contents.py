"""Content of every kind, cancelled at every step of its sending, and the client closed at each.

What must hold in general is in `_worlds`; here besides: what we opened is closed, what the caller opened is
not, and no server takes half of a content for the whole.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._scenes import Scene, close_at_every_step, sweep_scene
from tests.client._contents import open_files
from trio_http import HTTPException, Request, Response
from trio_http.client import Client

BIG = bytes(range(256)) * 800  # several pieces


class _Echo(Scene):
    """A server that says what it got; what it got whole must be one of these.

    Attributes:
      whole: the right contents.
    """

    def __init__(self, *whole: bytes) -> None:
        self.whole = whole
        self.got: list[bytes] = []

    async def app(self, request: Request) -> Response | None:
        content = await request.read()
        self.got.append(content)
        return Response(
            text=str(len(content)), headers={"x-trailer": str(request.body.trailers.get("x-sum"))}
        )

    def see(self) -> None:
        assert all(content in self.whole for content in self.got), "half a content passed for the whole"


class _Path(_Echo):
    """Content from a path: ours to open and to close."""

    lands = ("open", "next_piece")

    def __init__(self, path: Path) -> None:
        super().__init__(BIG)
        self.path = path

    async def run(self, client: Client) -> None:
        assert (await client.put("/", content=self.path)).text == str(len(BIG))

    def see(self) -> None:
        super().see()
        assert open_files(self.path) == []


class _File(_Echo):
    """Content from a file of the caller's, which stays open."""

    lands = ("next_piece",)

    def __init__(self, path: Path) -> None:
        super().__init__(BIG)
        self.file = path.open("rb")

    async def run(self, client: Client) -> None:
        assert (await client.put("/", content=self.file)).text == str(len(BIG))

    def see(self) -> None:
        super().see()
        assert not self.file.closed
        self.file.close()


class _MultipartWithFiles(_Echo):
    """A form with a path, a file and a field; sent twice, since the first answer is a redirect."""

    options = {"follow_redirects": True}
    lands = ("open", "next_piece", "passed_over")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    async def app(self, request: Request) -> Response | None:
        content = await request.read()
        assert content.endswith(b"--\r\n")
        assert (content.count(BIG), content.count(b"field")) == (2, 1), "half a form passed for the whole"
        if request.path == "/":
            return Response(307, headers={"location": "/next"})
        return Response(text="form")

    async def run(self, client: Client) -> None:
        files = {"path": self.path, "memory": ("x", io.BytesIO(BIG))}
        response = await client.post("/", data={"field": "value"}, files=files)
        assert (response.text, len(response.history)) == ("form", 1)

    def see(self) -> None:
        assert open_files(self.path) == []


class _ReceiveStream(_Echo):
    """Content from a stream: the body of another response, as a proxy sends it on."""

    warm = 2
    lands = ("next_piece", "_next_piece")

    def __init__(self) -> None:
        super().__init__(b"one two")

    async def app(self, request: Request) -> Response | None:
        if request.method == "POST":
            return await super().app(request)
        async with request.stream_response() as body:
            await body.send_all(b"one ")
            await trio.sleep(1)
            await body.send_all(b"two")
        return None

    async def run(self, client: Client) -> None:
        async with client.stream("GET", "/") as source:
            assert (await client.post("/", content=source.body)).text == "7"


class _Generator(_Echo):
    """Content from a generator with clean-up of its own, and a trailer section of what it came to."""

    lands = ("pieces", "aclose")

    def __init__(self) -> None:
        super().__init__(b"one two")
        self.inside = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        self.inside += 1
        try:
            for piece in (b"one ", b"two"):
                await trio.sleep(1)
                yield piece
        finally:
            self.inside -= 1

    async def run(self, client: Client) -> None:
        response = await client.post("/", content=self.pieces(), trailers=lambda: {"x-sum": "7"})
        assert (response.text, response.headers["x-trailer"]) == ("7", "7")

    def see(self) -> None:
        super().see()
        assert self.inside == 0, "the generator was left open"


class _Compressed(_Echo):
    """Content that is compressed as it goes."""

    def __init__(self) -> None:
        super().__init__()

    async def app(self, request: Request) -> Response | None:
        assert request.headers["content-encoding"] == "gzip"
        return Response(text=str(len(await request.read()) < len(BIG)))

    async def run(self, client: Client) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield BIG
            await trio.sleep(1)
            yield BIG

        assert (await client.post("/", content=pieces(), compress="gzip")).text == "True"


class _EarlyAnswer(Scene):
    """A final response before the content has gone out; the content is then at an end, and so the link."""

    lands = ("endless",)
    inside = 0

    async def app(self, request: Request) -> Response | None:
        await trio.sleep(2.5)
        raise HTTPException(413)

    async def endless(self) -> AsyncIterator[bytes]:
        self.inside += 1
        try:
            while True:
                yield bytes(1000)
                await trio.sleep(1)
        finally:
            self.inside -= 1

    async def run(self, client: Client) -> None:
        assert (await client.post("/", content=self.endless())).status == 413

    def see(self) -> None:
        assert self.inside == 0


class _ExpectRace(_Echo):
    """A 100 that comes in the moment in which the client has waited for long enough."""

    lands = ("run", "next_piece")
    options = {"expect_seconds": 1.0}

    def __init__(self) -> None:
        super().__init__(b"content")

    async def app(self, request: Request) -> Response | None:
        await trio.sleep(1)
        return await super().app(request)

    async def run(self, client: Client) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"con"
            await trio.lowlevel.checkpoint()
            yield b"tent"

        response = await client.post("/", content=pieces(), headers={"expect": "100-continue"})
        assert response.text == "7"


class _ExpectRefused(Scene):
    """A final response in place of the 100: nothing is sent, and the connection is closed."""

    lands = ("run",)

    async def app(self, request: Request) -> Response | None:
        return Response(417)

    async def run(self, client: Client) -> None:
        response = await client.post("/", content=b"content", headers={"expect": "100-continue"})
        assert response.status == 417


IN_MEMORY = [_ReceiveStream, _Generator, _Compressed, _EarlyAnswer, _ExpectRace, _ExpectRefused]
FROM_DISK = [_Path, _File, _MultipartWithFiles]


async def _in_this_thread(read: Callable[..., Any], *args: Any, abandon_on_cancel: bool = False) -> Any:
    """Stand in for a thread, for which an autojump clock would not wait: it is cancelled before it only."""
    await trio.lowlevel.checkpoint_if_cancelled()
    result = read(*args)
    await trio.lowlevel.cancel_shielded_checkpoint()
    return result


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(trio.to_thread, "run_sync", _in_this_thread)
    file = tmp_path / "content.bin"
    file.write_bytes(BIG)
    return file


@pytest.mark.parametrize("scene", IN_MEMORY)
async def test_content_that_is_cancelled_leaves_nothing_behind(
    scene: type[Scene], autojump_clock: MockClock
) -> None:
    await sweep_scene(scene)


@pytest.mark.parametrize("scene", IN_MEMORY)
async def test_content_whose_client_is_closed_meanwhile_fails_with_that(
    scene: type[Scene], autojump_clock: MockClock
) -> None:
    assert await close_at_every_step(scene) > 0


@pytest.mark.parametrize("scene", FROM_DISK)
async def test_files_that_are_cancelled_leave_nothing_behind(
    scene: type[_Path | _File | _MultipartWithFiles], path: Path, autojump_clock: MockClock
) -> None:
    await sweep_scene(lambda: scene(path))


@pytest.mark.parametrize("scene", FROM_DISK)
async def test_files_whose_client_is_closed_meanwhile_fail_with_that(
    scene: type[_Path | _File | _MultipartWithFiles], path: Path, autojump_clock: MockClock
) -> None:
    assert await close_at_every_step(lambda: scene(path)) > 0
