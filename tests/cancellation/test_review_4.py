"""Scenes that a second review of the client added: what it changed in who holds a connection, and when, is
cancelled at every step, and the client closed at each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._contents import CountedContent
from tests.cancellation._scenes import Scene, close_at_every_step, sweep_scene
from trio_http import Auth, AuthRequest, Request, Response
from trio_http.client import Client


class _Tokens(Auth):
    """Fetches a token by the client whose request has to show it."""

    client: Client

    async def answer(self, request: AuthRequest, response: Response, round: int) -> dict[str, str] | None:
        token = (await self.client.get("/token", auth=None)).text
        return {"authorization": token} if token != "none" else None


class _TokenFromThere(Scene):
    """A 401, and a token from the same server, to which there may be one connection: the 401 must not hold
    it. The second request has to make do with its 401, after the connection has carried another exchange."""

    options: Mapping[str, Any] = {"max_connections_per_origin": 1}
    lands: Sequence[str] = ("answer", "_authorized")

    def __init__(self) -> None:
        self.tokens = ["none", "good"]

    async def app(self, request: Request) -> Response | None:
        if request.path == "/token":
            return Response(text=self.tokens.pop() if self.tokens else "none")
        is_known = request.headers.get("authorization") == "good"
        return Response(text="secret") if is_known else Response(401, text=f"who? {request.path}")

    async def run(self, client: Client) -> None:
        self.tokens = ["none", "good"]
        auth = _Tokens()
        auth.client = client
        assert (await client.get("/1", auth=auth)).text == "secret"
        response = await client.get("/2", auth=auth)
        assert (response.status, response.text) == (401, "who? /2")


class _Dialogue(Auth):
    rounds = 2
    keeps_connection = True

    async def answer(self, request: AuthRequest, response: Response, round: int) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return {"authorization": f"step {round}"}


class _KeptConnectionWithContent(Scene):
    """Content that has to be opened for each step of a dialogue over one connection, and is closed after
    each."""

    lands: Sequence[str] = ("_begin_again", "begin_and_close", "next_piece", "aclose")

    def __init__(self) -> None:
        self.content = CountedContent(b"one ", b"two", pause=1)

    async def app(self, request: Request) -> Response | None:
        content = await request.read()
        if request.headers.get("authorization") == "step 2":
            return Response(content=content)
        return Response(401, text="go on")

    async def run(self, client: Client) -> None:
        response = await client.put("/", content=self.content, auth=_Dialogue())
        assert response.content == b"one two"

    def see(self) -> None:
        assert self.content.open_now == 0


SCENES: Iterable[type[Scene]] = [_TokenFromThere, _KeptConnectionWithContent]


@pytest.mark.parametrize("scene", SCENES)
async def test_a_dialogue_that_is_cancelled_holds_nothing(
    scene: type[Scene], autojump_clock: MockClock
) -> None:
    await sweep_scene(scene)


@pytest.mark.parametrize("scene", SCENES)
async def test_a_dialogue_whose_client_is_closed_fails_with_that(
    scene: type[Scene], autojump_clock: MockClock
) -> None:
    assert await close_at_every_step(scene) > 5
