"""Credentials in a client (C45): whole handshakes, errors of an `Auth`, and the connections in between."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.client._contents import generated
from tests.client._network import END, OK, URL, answering, client_of, in_pool
from tests.client._web import HERE, moved, web
from trio_http import (
    Auth,
    AuthRequest,
    BearerAuth,
    DigestAuth,
    InvalidRequest,
    Request,
    RequestFailed,
    Response,
    Retry,
)
from trio_http.client._challenge import challenges

START = f"{HERE}/start"


class DigestServer:
    """A handler that knows one password, and lets no count of a nonce come twice (RFC 7616).

    Attributes:
      nonces: how many it has given out.
      seen: the counts that came, by nonce.
    """

    def __init__(self, uses: int = 1000) -> None:
        self.nonces = 0
        self.seen: dict[str, list[str]] = {}
        self._uses = uses

    async def __call__(self, request: Request) -> Response:
        found = challenges(request.headers.get_all("authorization"))
        if not found:
            return self._challenge()
        given = found[0].parameters
        counts = self.seen.get(given["nonce"])
        if counts is None or given["nc"] in counts or len(counts) >= self._uses:
            return self._challenge(", stale=true")
        counts.append(given["nc"])

        def h(*parts: str) -> str:
            return hashlib.sha256(":".join(parts).encode()).hexdigest()

        secret = h("me", "here", "secret")
        asked = h(request.method, request.target)
        proof = h(secret, given["nonce"], given["nc"], given["cnonce"], given["qop"], asked)
        if given["uri"] != request.target or given["response"] != proof:
            return self._challenge()
        return Response(text=f"hello {given['username']}, {request.headers.get('content-length', '0')} bytes")

    def _challenge(self, more: str = "") -> Response:
        self.nonces += 1
        nonce = f"nonce-{self.nonces}"
        self.seen[nonce] = []
        value = f'Digest realm="here", nonce="{nonce}", qop="auth", algorithm=SHA-256{more}'
        return Response(401, text="who?", headers={"WWW-Authenticate": value})


async def test_digest_is_shaken_once_and_then_counts() -> None:
    server = DigestServer()
    async with web({START: server}, auth=DigestAuth("me", "secret")) as (client, world):
        for _ in range(3):
            assert (await client.get(START)).text == "hello me, 0 bytes"
        async with client.stream("POST", START, content=b"12345") as response:
            assert await response.read() == b"hello me, 5 bytes"
    assert server.seen == {"nonce-1": ["00000001", "00000002", "00000003", "00000004"]}
    assert len(world.asked) == 5
    assert world.dialed == [HERE], "the 401 gave its connection back"


async def test_digest_goes_on_with_a_new_nonce_when_the_old_one_is_stale() -> None:
    server = DigestServer(uses=2)
    async with web({START: server}, auth=DigestAuth("me", "secret")) as (client, world):
        for _ in range(5):
            assert (await client.get(START)).status == 200
    assert server.nonces == 3
    assert len(world.asked) == 5 + 3


async def test_many_tasks_share_a_digest_and_no_count() -> None:
    server = DigestServer()
    async with web({START: server}, auth=DigestAuth("me", "secret")) as (client, _):
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await client.get(START)).status)

        await ask()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
    assert statuses == [200] * 21
    assert sorted(server.seen["nonce-1"]) == [f"{count:08x}" for count in range(1, 22)]


async def test_a_wrong_password_is_shown_once_a_request() -> None:
    async with web({START: DigestServer()}, auth=DigestAuth("me", "wrong")) as (client, world):
        for _ in range(2):
            assert (await client.get(START)).status == 401
    assert len(world.asked) == 4


async def test_digest_sends_a_file_again_and_a_generator_not(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(bytes(70_000))
    async with web({START: DigestServer()}) as (client, world):
        auth = DigestAuth("me", "secret")
        assert (await client.put(START, content=path, auth=auth)).text == "hello me, 70000 bytes"
        refused = await client.put(START, content=generated(b"once"), auth=DigestAuth("me", "secret"))
        assert (refused.status, refused.text) == (401, "who?")
    assert len(world.asked) == 3


async def test_digest_is_for_the_target_that_a_redirect_leads_to() -> None:
    """The proof of the first request says nothing about the second, so it does not go along."""
    answers = {START: moved(302, "/there"), f"{HERE}/there": DigestServer()}
    async with web(answers, auth=DigestAuth("me", "secret"), follow_redirects=True) as (client, world):
        response = await client.get(START)
    assert (response.text, len(response.history)) == ("hello me, 0 bytes", 1)
    assert [value is not None for value in world.sent("authorization")] == [False, False, True]


class Signed(Auth):
    """A signature in fields of its own, as cloud services have them."""

    async def authorize(self, request: AuthRequest) -> dict[str, str]:
        return {"X-Signature": f"{request.method} {request.target}", "X-Key": "secret"}


async def test_whatever_fields_an_auth_adds_stay_at_their_origin() -> None:
    """They were fields of the request that was redirected, and only Authorization was known as a secret."""
    answers = {START: moved(302, "/there"), f"{HERE}/there": moved(302, "http://b.example/")}
    async with web(answers, auth=Signed(), follow_redirects=True) as (client, world):
        await client.get(START)
    assert world.sent("x-signature") == ["GET /start", "GET /there", None]
    assert world.sent("x-key") == ["secret", "secret", None]


# ------------------------------------------ bearer


async def test_a_bearer_token_is_renewed_when_the_server_calls_it_invalid() -> None:
    tokens = iter(["one", "two", "three"])
    valid = "one"

    async def fetch() -> str:
        await trio.lowlevel.checkpoint()
        return next(tokens)

    async def guarded(request: Request) -> Response:
        if request.headers.get("authorization") == f"Bearer {valid}":
            return Response(text=valid)
        return Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

    async with web({START: guarded}, auth=BearerAuth(fetch)) as (client, world):
        assert (await client.get(START)).text == "one"
        valid = "two"
        assert (await client.post(START, content=b"x")).text == "two"
        valid = "none of them"
        assert (await client.get(START)).status == 401
    assert world.sent("authorization") == [
        f"Bearer {token}" for token in ["one", "one", "two", "two", "three"]
    ]


async def test_a_token_is_fetched_with_the_same_client() -> None:
    """By a request that has no credentials itself."""

    async def fetch() -> str:
        return (await client.post(f"{HERE}/token", auth=None)).text

    answers = {f"{HERE}/token": Response(text="fresh")}
    async with web(answers, auth=BearerAuth(fetch), max_connections=1) as (client, world):
        assert (await client.get(START)).status == 200
    assert world.sent("authorization") == [None, "Bearer fresh"]


# ------------------------------------------ schemes of several steps


class Steps(Auth):
    """A scheme that proves itself in three steps over one connection, as NTLM does."""

    rounds = 2
    keeps_connection = True

    async def answer(self, request: AuthRequest, response: Response, round: int) -> dict[str, str]:
        return {"Authorization": f"Steps {round}"}


ASKS = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Steps\r\nContent-Length: 4\r\n\r\nwho?"


async def test_a_scheme_of_steps_stays_on_its_connection() -> None:
    async with client_of(answering(ASKS, ASKS, OK), answering(OK), auth=Steps()) as (client, network):
        async with trio.open_nursery() as nursery:
            # Its connection is idle soon, and the one that was used last.
            nursery.start_soon(lambda: client.get(URL, auth=None))
            answer = await client.get(URL)
        assert answer.content == b"ok"
        assert len(network.dialed) == 2
        assert await in_pool(client) == (0, 2)
    shown = [line for line in network.heads(0).split(b"\r\n") if line.startswith(b"Authorization")]
    assert shown == [b"Authorization: Steps 1", b"Authorization: Steps 2"]


async def test_a_scheme_of_steps_sends_a_file_over_the_same_connection(tmp_path: Path) -> None:
    """It was sent as no content at all."""
    path = tmp_path / "content"
    path.write_bytes(b"x" * 20_000)
    peer = answering()
    for answer in (ASKS, ASKS, OK):
        peer.expect_until(END + b"x" * 20_000).send(answer)
    async with client_of(peer, auth=Steps()) as (client, network):
        assert (await client.put(URL, content=path)).content == b"ok"
        assert len(network.dialed) == 1
        assert await in_pool(client) == (0, 1)


async def test_a_connection_that_ends_with_the_401_cannot_be_kept() -> None:
    last = ASKS.replace(b"401 Unauthorized\r\n", b"401 Unauthorized\r\nConnection: close\r\n")
    async with client_of(answering(last), answering(ASKS, OK), auth=Steps()) as (client, network):
        assert (await client.get(URL)).content == b"ok"
        assert await in_pool(client) == (0, 1)
    assert b"Authorization: Steps 1" in network.heads(1)


async def test_a_file_that_is_gone_before_the_second_step_gives_the_connection_back(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(b"x")

    class Removing(Steps):
        async def answer(self, request: AuthRequest, response: Response, round: int) -> dict[str, str]:
            path.unlink()
            return {"Authorization": "Steps 1"}

    peer = answering().expect_until(END + b"x").send(ASKS).expect_until(END).send(OK)
    async with client_of(peer) as (client, _):
        with pytest.raises(FileNotFoundError):
            await client.put(URL, content=path, auth=Removing())
        assert await in_pool(client) == (0, 1)
        assert (await client.get(URL)).content == b"ok"


# ------------------------------------------ errors of an Auth


class Failing(Auth):
    """Raises in one of its methods."""

    def __init__(self, method: str, error: BaseException, *, keeps: bool) -> None:
        self.keeps_connection = keeps
        self._method = method
        self._error = error

    def _at(self, method: str) -> None:
        if method == self._method:
            raise self._error

    async def authorize(self, request: AuthRequest) -> tuple[()]:
        self._at("authorize")
        return ()

    def received(self, request: AuthRequest, status: int, headers: Any) -> None:
        self._at("received")

    async def answer(self, request: AuthRequest, response: Response, round: int) -> None:
        self._at("answer")


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt("mine")])
@pytest.mark.parametrize(("method", "idle"), [("authorize", 0), ("received", 1), ("answer", 1)])
async def test_an_error_of_an_auth_comes_out_as_it_is_and_leaks_nothing(
    method: str, idle: int, error: BaseException, keeps: bool
) -> None:
    auth = Failing(method, error, keeps=keeps)
    async with web({START: Response(401, text="who?")}, retry=Retry()) as (client, _):
        with pytest.raises(type(error)) as caught:
            await client.get(START, auth=auth)
        assert caught.value is error
        assert (client.statistics().leased, client.statistics().idle) == (0, idle)
        with pytest.raises(type(error)):
            async with client.stream("GET", START, auth=auth):
                raise AssertionError("not reached")
        assert client.statistics().leased == 0


BAD_FIELDS: list[Any] = [
    {"Authorization": "s3cret\r\nX: y"},
    {"Authorization": "s3cret\u20ac"},
    {"s3cret name": "x"},
    {"Content-Length": "17", "X": "s3cret"},
]


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("fields", BAD_FIELDS)
@pytest.mark.parametrize("method", ["authorize", "answer"])
async def test_fields_that_cannot_be_sent_are_refused_and_not_shown(
    method: str, fields: Any, keeps: bool
) -> None:
    """A connection that had its 401 stayed leased."""

    class Bad(Auth):
        keeps_connection = keeps

        async def authorize(self, request: AuthRequest) -> Any:
            return fields if method == "authorize" else ()

        async def answer(self, request: AuthRequest, response: Response, round: int) -> Any:
            return fields

    async with web({START: Response(401, text="who?")}) as (client, world):
        with pytest.raises(InvalidRequest, match="the fields that Bad gives") as caught:
            await client.get(START, auth=Bad())
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert client.statistics().leased == 0
    assert len(world.asked) == (0 if method == "authorize" else 1)


@pytest.mark.parametrize("keeps", [False, True])
async def test_an_auth_that_is_cancelled_leaks_nothing(keeps: bool, autojump_clock: MockClock) -> None:
    class Slow(Auth):
        keeps_connection = keeps

        async def answer(self, request: AuthRequest, response: Response, round: int) -> None:
            await trio.sleep(100)

    async with web({START: Response(401, text="who?")}) as (client, _):
        with trio.move_on_after(1) as scope:
            await client.get(START, auth=Slow())
        assert scope.cancelled_caught
        assert (client.statistics().leased, client.statistics().idle) == (0, 1)


async def test_an_auth_with_nothing_better_hands_the_401_over_with_its_content() -> None:
    async with web({START: Response(401, text="who?")}, auth=Auth()) as (client, _):
        assert (await client.get(START)).text == "who?"
        async with client.stream("GET", START) as response:
            assert (response.status, await response.read()) == (401, b"who?")
        assert client.statistics().idle == 1


async def test_a_repeat_on_another_connection_has_fields_of_its_own() -> None:
    """A server may refuse to see the same ones twice."""
    count = iter(range(1, 10))

    class Counting(Auth):
        async def authorize(self, request: AuthRequest) -> dict[str, str]:
            return {"Authorization": f"Count {next(count)}"}

    first = answering(OK).expect_until(END).close()
    async with client_of(first, answering(OK), auth=Counting()) as (client, network):
        await client.get(URL)
        await client.get(URL)
    assert b"Count 2" in network.heads(0)
    assert b"Count 3" in network.heads(1)


async def test_a_401_that_is_never_whole_is_answered_on_another_connection(autojump_clock: MockClock) -> None:
    class Better(Auth):
        async def answer(self, request: AuthRequest, response: Response, round: int) -> dict[str, str]:
            return {"Authorization": "Better 1"}

    async with client_of(answering(ASKS[:-2]), answering(OK), auth=Better()) as (client, _):
        assert (await client.get(URL)).content == b"ok"
        assert trio.current_time() <= 1
        assert await in_pool(client) == (0, 1)


async def test_the_failure_of_the_second_attempt_is_the_requests() -> None:
    class Better(Auth):
        async def answer(self, request: AuthRequest, response: Response, round: int) -> dict[str, str]:
            return {"Authorization": "Better 1"}

    async with client_of(answering(ASKS).expect_until(END).reset(), auth=Better()) as (client, _):
        with pytest.raises(RequestFailed):
            await client.patch(URL, content=b"")
        assert await in_pool(client) == (0, 0)
