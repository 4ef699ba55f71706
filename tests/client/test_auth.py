"""The hook for credentials, Basic and Bearer (C45)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.client._auth_rounds import exchange, refusal, request_for, with_fields
from trio_http import Headers, InvalidRequest, Response
from trio_http.client._auth import Auth, AuthRequest, BasicAuth, BearerAuth, as_auth
from trio_http.client._challenge import challenges
from trio_http.client._digest import DigestAuth


async def shown(auth: Auth, request: AuthRequest | None = None) -> str | None:
    """The Authorization field that a request goes out with."""
    fields = Headers(await auth.authorize(request or request_for()))
    assert set(fields) <= {"authorization"}
    return fields.get("authorization")


# --------------------------------------------------------------------------------------------------- the hook


async def test_the_base_shows_nothing_and_hands_a_401_over() -> None:
    response, attempts = await exchange(Auth(), lambda request: refusal("Basic"))
    assert (response.status, attempts) == (401, [None])


class Signed(Auth):
    """A signature over what goes out, as cloud services want it."""

    def __init__(self, key_id: str, key: bytes) -> None:
        self._key_id, self._key = key_id, key

    async def authorize(self, request: AuthRequest) -> Headers:
        if request.content is None:
            raise ValueError("a streamed content cannot be signed beforehand")
        digest = hashlib.sha256(request.content).hexdigest()
        text = "\n".join([request.method, request.target, request.origin.authority, "20260102", digest])
        signature = hmac.new(self._key, text.encode(), "sha256").hexdigest()
        credentials = f"HMAC-SHA256 keyid={self._key_id}, signature={signature}"
        return Headers({"X-Date": "20260102", "Authorization": credentials})


async def test_a_subclass_signs_method_target_and_content() -> None:
    """C45: SigV4 and its like go through the hook."""
    auth = Signed("me", b"key")
    given = request_for("/a?b=c", method="PUT", content=b"content", headers=Headers({"x-date": "old"}))
    sent = with_fields(given, await auth.authorize(given))
    assert sent.headers.get_all("x-date") == ["20260102"]
    content = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    text = f"PUT\n/a?b=c\nexample.org\n20260102\n{content}".encode()
    signature = hmac.digest(b"key", text, "sha256").hex()
    assert sent.headers["authorization"] == f"HMAC-SHA256 keyid=me, signature={signature}"
    with pytest.raises(ValueError, match="streamed"):
        await auth.authorize(request_for(content=None))


class Steps(Auth):
    """A scheme that needs three messages, as NTLM does."""

    rounds = 2
    keeps_connection = True

    async def answer(self, request: AuthRequest, response: Response, round: int) -> Headers | None:
        for challenge in challenges(response.headers.get_all("www-authenticate")):
            if challenge.scheme == "steps":
                return Headers({"Authorization": f"Steps {round}-{challenge.token68 or 'first'}"})
        return None


async def test_a_subclass_goes_through_as_many_rounds_as_it_says() -> None:
    """C45: NTLM and Negotiate go through the hook."""

    def server(request: AuthRequest) -> Response:
        match request.headers.get("authorization"):
            case None:
                return refusal("Basic", "Steps")
            case "Steps 1-first":
                return refusal("Steps aGk=")
            case "Steps 2-aGk=":
                return Response(200)
            case other:
                raise AssertionError(other)

    response, attempts = await exchange(Steps(), server)
    assert (response.status, attempts) == (200, [None, "Steps 1-first", "Steps 2-aGk="])
    response, attempts = await exchange(Steps(), lambda request: refusal("Steps"))
    assert (response.status, len(attempts)) == (401, 3)


def test_a_tuple_stands_for_basic_and_an_auth_for_itself() -> None:
    auth = Auth()
    assert as_auth(auth) is auth
    assert isinstance(as_auth(("user", "password")), BasicAuth)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ("user:hunter2", "not str"),
        (("hunter2",), "not a tuple of 1"),
        (["user", "hunter2"], "not list"),
        (BasicAuth, "not type; for a callable there are BearerAuth and subclasses of Auth"),
        (None, "not NoneType"),
    ],
)
def test_anything_else_is_refused_with_what_is_expected(given: object, got: str) -> None:
    with pytest.raises(TypeError) as caught:
        as_auth(given)
    assert str(caught.value) == f"auth must be an Auth or a tuple (username, password), {got}"


# ------------------------------------------------------------------------------------------------------ basic


@pytest.mark.parametrize(
    ("username", "password", "pair"),
    [
        ("Aladdin", "open sesame", b"Aladdin:open sesame"),  # RFC 7617 §2
        ("test", "123\xa3", b"test:123\xc2\xa3"),  # RFC 7617 §2.1
        ("", "a:b:c", b":a:b:c"),
        ("cafe\u0301", "", b"caf\xc3\xa9:"),  # NFC
    ],
)
async def test_basic_sends_name_and_password_in_utf_8(username: str, password: str, pair: bytes) -> None:
    """C45: basic."""
    field = await shown(BasicAuth(username, password))
    assert field == f"Basic {base64.b64encode(pair).decode()}"


async def test_basic_has_nothing_better_after_a_401() -> None:
    response, attempts = await exchange(BasicAuth("a", "b"), lambda request: refusal("Basic realm=x"))
    assert (response.status, attempts) == (401, ["Basic YTpi"])


@pytest.mark.parametrize("auth", [BasicAuth, DigestAuth])
@pytest.mark.parametrize(
    ("username", "password", "error", "why"),
    [
        ("user\n", "hunter2", InvalidRequest, "username holds a control character (RFC 7617 §2)"),
        ("user", "hunter2\x7f", InvalidRequest, "password holds a control character (RFC 7617 §2)"),
        ("user", "hunter2\ud800", InvalidRequest, "password holds a lone surrogate"),
        (b"user", "hunter2", TypeError, "username must be a str, not bytes"),
        ("user", None, TypeError, "password must be a str, not NoneType"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_not_shown(
    auth: Callable[[Any, Any], Auth], username: Any, password: Any, error: type[Exception], why: str
) -> None:
    with pytest.raises(error) as caught:
        auth(username, password)
    assert str(caught.value).startswith(why)
    assert "hunter2" not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_colon_in_the_name_is_refused_by_basic() -> None:
    with pytest.raises(InvalidRequest) as caught:
        BasicAuth("hunter:2", "x")
    assert str(caught.value) == "username holds a colon, which Basic has no room for (RFC 7617 §2)"


# ----------------------------------------------------------------------------------------------------- bearer


def invalid_token(*good: str) -> Callable[[AuthRequest], Response]:
    """A server that knows ``good`` tokens."""

    def server(request: AuthRequest) -> Response:
        token = (request.headers.get("authorization") or "").removeprefix("Bearer ")
        if token in good:
            return Response(200)
        return refusal('Bearer realm="r", error="invalid_token", error_description="expired"')

    return server


class Source:
    """Gives one token after the other."""

    def __init__(self, *tokens: Any) -> None:
        self.tokens = list(tokens)
        self.asked = 0

    async def __call__(self) -> Any:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        token = self.tokens.pop(0)
        if isinstance(token, Exception):
            raise token
        return token


async def test_a_bearer_token_is_sent_as_given() -> None:
    """C45: bearer."""
    auth = BearerAuth("mF_9.B5f-4.1JqM~+/==")
    assert await shown(auth) == "Bearer mF_9.B5f-4.1JqM~+/=="
    response, attempts = await exchange(auth, invalid_token())
    assert (response.status, len(attempts)) == (401, 1)
    assert await shown(auth) == "Bearer mF_9.B5f-4.1JqM~+/=="


@pytest.mark.parametrize(
    "token", ["", "hunter 2", "hunter2\n", "=hunter2", "hun=ter2", "hünter2", '"hunter2"']
)
async def test_what_is_no_bearer_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(InvalidRequest, match=r"RFC 6750 §2\.1") as caught:
        BearerAuth(token)
    with pytest.raises(InvalidRequest, match=r"RFC 6750 §2\.1") as caught_later:
        await shown(BearerAuth(Source(token)))
    assert "ter" not in str(caught.value).replace("letters", "").replace("characters", "")
    assert str(caught_later.value) == str(caught.value)


async def test_a_source_that_gives_no_token_is_told() -> None:
    with pytest.raises(
        TypeError, match="token must be a str or an async callable that returns one, not bytes"
    ):
        BearerAuth(b"hunter2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must return a str, not bytes"):
        await shown(BearerAuth(Source(b"hunter2")))
    with pytest.raises(TypeError, match=r"must be async, but it returned str"):
        await shown(BearerAuth(lambda: "hunter2"))  # type: ignore[arg-type, return-value]


async def test_the_source_is_asked_once_for_many_requests() -> None:
    source = Source("one")
    auth = BearerAuth(source)
    found: list[str | None] = []

    async def one() -> None:
        found.append(await shown(auth))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert found == ["Bearer one"] * 10
    assert source.asked == 1


async def test_the_source_is_asked_again_once_when_the_token_is_called_invalid() -> None:
    source = Source("old", "new", "newest")
    auth = BearerAuth(source)
    response, attempts = await exchange(auth, invalid_token("new"))
    assert (response.status, attempts) == (200, ["Bearer old", "Bearer new"])
    response, attempts = await exchange(auth, invalid_token())
    assert (response.status, attempts) == (401, ["Bearer new", "Bearer newest"])
    assert source.asked == 3


async def test_many_requests_with_an_expired_token_ask_the_source_once() -> None:
    source = Source("old", "new", "not needed")
    auth = BearerAuth(source)
    await shown(auth)
    found = []

    async def one() -> None:
        found.append(await exchange(auth, invalid_token("new")))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert all(response.status == 200 for response, _ in found)
    assert source.asked == 2


async def test_another_401_does_not_make_the_source_work() -> None:
    source = Source("one", "two")
    for challenge in ("Bearer", "Bearer error=insufficient_scope", "Basic error=invalid_token"):
        response, attempts = await exchange(BearerAuth(source), lambda request, c=challenge: refusal(c))
        assert (response.status, len(attempts)) == (401, 1)
        source = Source("one", "two")
    assert source.asked == 0


async def test_the_same_token_once_more_is_not_tried() -> None:
    response, attempts = await exchange(BearerAuth(Source("one", "one")), invalid_token())
    assert (response.status, attempts) == (401, ["Bearer one"])


async def test_a_streamed_request_that_cannot_be_repeated_leaves_the_next_one_a_new_token() -> None:
    auth = BearerAuth(Source("old", "new"))
    response, attempts = await exchange(auth, invalid_token("new"), request_for(content=None))
    assert (response.status, attempts) == (401, ["Bearer old"])
    response, attempts = await exchange(auth, invalid_token("new"), request_for(content=None))
    assert (response.status, attempts) == (200, ["Bearer new"])


async def test_an_error_of_the_source_comes_out_as_it_is_and_the_next_request_asks_again() -> None:
    error = OSError("no token today")
    auth = BearerAuth(Source(error, "one"))
    with pytest.raises(OSError) as caught:
        await shown(auth)
    assert caught.value is error
    assert await shown(auth) == "Bearer one"


async def test_a_request_cancelled_while_it_asks_leaves_the_asking_to_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked = 0

    async def source() -> str:
        nonlocal asked
        asked += 1
        await trio.sleep(10 if asked == 1 else 0)
        return f"token{asked}"

    auth = BearerAuth(source)
    found: list[str | None] = []

    async def patient() -> None:
        found.append(await shown(auth))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1) as scope:
            nursery.start_soon(patient)
            nursery.start_soon(patient)
            await shown(auth)
    assert scope.cancelled_caught
    assert found == ["Bearer token2"] * 2


# ---------------------------------------------------------------------------------------------------- secrets


async def test_credentials_are_in_no_repr_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    source = Source("hunter2", "hunter2b")
    auths = [BasicAuth("hunter2", "hunter2"), BearerAuth("hunter2"), BearerAuth(source)]
    auths.append(DigestAuth("hunter2", "hunter2"))
    challenge = 'Bearer error="invalid_token", Digest realm="r", nonce="n", qop="auth"'
    pair = base64.b64encode(b"hunter2:hunter2").decode()
    for auth in auths:
        _, attempts = await exchange(auth, lambda request: refusal(challenge))
        sent = with_fields(request_for(content=b"hunter2"), {"Authorization": attempts[-1] or "none"})
        for text in (repr(auth), str(auth), repr(sent), caplog.text):
            assert "hunter2" not in text
            assert pair not in text
        assert repr(auth) == f"<{type(auth).__name__}>"
    assert "example.org" in repr(sent)


def test_a_challenge_can_be_pickled_and_compared() -> None:
    found = challenges(['Digest realm="a"'])
    assert pickle.loads(pickle.dumps(found)) == found
