"""Requests of several exchanges, cancelled at every step, and the client closed at each.

Redirects, credentials, cookies, retries, the rate limit, races: between the exchanges nothing may be held,
and none of them may be told of twice or not at all.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._scenes import Scene, close_at_every_step, sweep_scene
from trio_http import (
    Auth,
    AuthRequest,
    CookieJar,
    DigestAuth,
    PoolClosed,
    RateLimit,
    Request,
    Response,
    Retry,
)
from trio_http.client import Client, RaceFailed, race


class _Redirects(Scene):
    """Two redirects, the second to another origin; their content is short, long, and none."""

    options = {"follow_redirects": True}
    lands = ("_followed", "passed_over")

    async def app(self, request: Request) -> Response | None:
        match request.path:
            case "/":
                return Response(302, text="short", headers={"location": "/long"})
            case "/long":
                return Response(302, content=bytes(100_000), headers={"location": "http://b/pieces"})
            case "/pieces":
                async with request.stream_response(303, headers={"location": "/end"}) as body:
                    for _ in range(3):
                        await body.send_all(b"piece")
                        await trio.sleep(1)
                return None
        return Response(text="end")

    async def run(self, client: Client) -> None:
        response = await client.get("/")
        assert response.text == "end"
        assert [step.status for step in response.history] == [302, 302, 303]


class _RedirectsOfContent(Scene):
    """One that repeats the content, and one that drops it."""

    options = {"follow_redirects": True}

    async def app(self, request: Request) -> Response | None:
        content = await request.read()
        match request.path:
            case "/":
                return Response(307, headers={"location": "/again"})
            case "/again":
                assert content == b"content"
                return Response(303, headers={"location": "/end"})
        return Response(text=f"{request.method} {len(content)}")

    async def run(self, client: Client) -> None:
        assert (await client.post("/", content=b"content")).text == "GET 0"


class _Digest(Scene):
    """A challenge, a nonce that has become stale, and success; then at once."""

    lands = ("_authorized",)

    def __init__(self) -> None:
        self.nonces: list[str] = []

    def fresh_options(self) -> dict[str, Any]:
        return {"auth": DigestAuth("user", "secret")}

    async def app(self, request: Request) -> Response | None:
        said = request.headers.get("authorization", "")
        if len(self.nonces) == 2 and f'nonce="{self.nonces[1]}"' in said:
            return Response(text="secret")
        stale = ", stale=true" if self.nonces else ""
        self.nonces = [*self.nonces, f"n{len(self.nonces)}"][:2]
        challenge = f'Digest realm="r", nonce="{self.nonces[-1]}", qop="auth"{stale}'
        return Response(401, text="who?", headers={"www-authenticate": challenge})

    async def run(self, client: Client) -> None:
        self.nonces = []  # until then other requests may have asked
        assert (await client.get("/")).text == "secret"
        assert (await client.get("/")).text == "secret"


class _Steps(Auth):
    """A scheme of three messages, which the server holds against the connection."""

    rounds = 2
    keeps_connection = True

    async def authorize(self, request: AuthRequest) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return {"authorization": "Steps 1"}

    async def answer(self, request: AuthRequest, response: Response, round: int) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return {"authorization": f"Steps {round + 1}"}


class _KeptConnection(Scene):
    """Credentials of several steps over one connection, with a rate limit between them."""

    warm = 2
    lands = ("answer", "kept", "wait")

    def __init__(self) -> None:
        self.steps: dict[object, int] = {}  # by the server's side of the connection

    def fresh_options(self) -> dict[str, Any]:
        return {"auth": _Steps(), "rate_limit": RateLimit(0.5, 4)}

    async def app(self, request: Request) -> Response | None:
        connection = request.connection._link
        step = int(request.headers["authorization"].split()[1])
        assert step in (1, self.steps.get(connection, 0) + 1), "the steps came over several connections"
        self.steps[connection] = step
        if step < 3:
            return Response(401, text="go on", headers={"www-authenticate": "Steps"})
        return Response(text="well")

    async def run(self, client: Client) -> None:
        assert (await client.post("/", content=b"content")).text == "well"


class _Cookies(Scene):
    """A cookie that is set with a redirect, and sent with what follows."""

    options = {"follow_redirects": True}

    def fresh_options(self) -> dict[str, Any]:
        return {"cookies": CookieJar()}

    async def app(self, request: Request) -> Response | None:
        if request.path == "/login":
            return Response(302, headers={"location": "/", "set-cookie": "session=1; Path=/"})
        return Response(text=request.headers.get("cookie", "none"))

    async def run(self, client: Client) -> None:
        assert (await client.get("/login")).text == "session=1"


class _Retries(Scene):
    """A status that means later, a gateway that is down, and success. Nothing is held in the waits."""

    lands = ("_attempted", "_wait_past")

    def __init__(self) -> None:
        self.calls = 0

    def fresh_options(self) -> dict[str, Any]:
        return {"retry": Retry(backoff=2, jitter=False)}

    async def app(self, request: Request) -> Response | None:
        self.calls += 1
        match self.calls:
            case 1:
                return Response(503, text="later", headers={"retry-after": "3"})
            case 2:
                return Response(502, content=bytes(100_000))
        return Response(text="well")

    async def run(self, client: Client) -> None:
        response = await client.get("/")
        if response.text == "later":  # handed out, since a cancel leaves no time for another attempt
            await trio.lowlevel.checkpoint()
        assert response.text == "well"


class _RateLimited(Scene):
    """Three requests of which two have to wait; a turn that is given up is the next one's."""

    warm = 0
    lands = ("wait", "_wait_in")

    def __init__(self) -> None:
        self.limit = RateLimit(1.0)

    def fresh_options(self) -> dict[str, Any]:
        return {"rate_limit": self.limit}

    async def run(self, client: Client) -> None:
        for _ in range(3):
            assert (await client.post("/", content=b"x")).text == "x"

    def see(self) -> None:
        assert self.limit.statistics().waiting == 0


class _Race(Scene):
    """Two requests of which one wins; the other one's connection is closed."""

    lands = ("race", "begin")
    refusals = (PoolClosed, RaceFailed)

    async def app(self, request: Request) -> Response | None:
        await trio.sleep(1 if request.path == "/fast" else 50)
        return Response(text=request.path)

    async def run(self, client: Client) -> None:
        get = functools.partial(functools.partial, client.get)
        assert (await race(get("/slow"), get("/fast"))).text == "/fast"


class _Streamed(Scene):
    """A response behind a redirect and a challenge, streamed, and left half way."""

    options = {"follow_redirects": True, "auth": ("user", "secret")}
    lands = ("__aenter__", "__aexit__")

    async def app(self, request: Request) -> Response | None:
        assert request.headers["authorization"].startswith("Basic ")
        if request.path == "/":
            return Response(302, headers={"location": "/pieces"})
        async with request.stream_response() as body:
            for _ in range(3):
                await body.send_all(b"piece")
                await trio.sleep(1)
        return None

    async def run(self, client: Client) -> None:
        async with client.stream("GET", "/") as response:
            assert await response.body.receive_some() == b"piece"
            await trio.sleep(0.5)


SCENES: Iterable[type[Scene]] = [
    _Redirects, _RedirectsOfContent, _Digest, _KeptConnection, _Cookies, _Retries, _RateLimited, _Race,
    _Streamed,
]  # fmt: skip


@pytest.mark.parametrize("scene", SCENES)
async def test_a_request_of_several_exchanges_that_is_cancelled_holds_nothing(
    scene: type[Scene], autojump_clock: MockClock
) -> None:
    await sweep_scene(scene)


@pytest.mark.parametrize("scene", SCENES)
async def test_a_request_of_several_exchanges_whose_client_is_closed_fails_with_that(
    scene: type[Scene], autojump_clock: MockClock
) -> None:
    assert await close_at_every_step(scene) > 0
