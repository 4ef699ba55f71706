"""How the methods of `Auth` and its kind are called."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import trio
import trio.testing

from tests.conformance._cases import Failure, case
from trio_http import (
    Auth,
    AuthRequest,
    BasicAuth,
    BearerAuth,
    DigestAuth,
    Headers,
    NetrcAuth,
    Origin,
    Response,
)

REQUEST = AuthRequest(
    method="GET", url="http://a/", target="/", headers=Headers(), content=b"", origin=Origin("http", "a", 80)
)
CHALLENGE = Headers(
    [("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"'), ("WWW-Authenticate", "Bearer")]
)
REFUSED = Response(401, headers=CHALLENGE)
INVALID = Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


async def token() -> str:
    await trio.lowlevel.checkpoint()
    return "token"


async def no_token() -> str:
    await trio.lowlevel.checkpoint()
    raise OSError("no token to be had")


@case("trio_http.Auth.authorize")
async def _(_: object) -> None:
    assert await Auth().authorize(REQUEST) == ()


@case("trio_http.Auth.answer")
async def _(_: object) -> None:
    assert await Auth().answer(REQUEST, REFUSED, 1) is None


@case("trio_http.BasicAuth.authorize")
async def _(_: object) -> None:
    assert await BasicAuth("user", "secret").authorize(REQUEST)


@case("trio_http.DigestAuth.authorize")
async def _(_: object) -> None:
    auth = DigestAuth("user", "secret")
    auth.received(REQUEST, 401, CHALLENGE)
    assert await auth.authorize(REQUEST)


@case("trio_http.DigestAuth.answer")
async def _(_: object) -> None:
    assert await DigestAuth("user", "secret").answer(REQUEST, REFUSED, 1)


async def _fails_to_authorize(_: object) -> None:
    await BearerAuth(no_token).authorize(REQUEST)


@contextlib.asynccontextmanager
async def _bearer() -> AsyncIterator[BearerAuth]:
    yield BearerAuth(token)


async def _has_a_token(auth: BearerAuth) -> None:
    assert await auth.authorize(REQUEST) == {"Authorization": "Bearer token"}


@case(
    "trio_http.BearerAuth.authorize",
    world=_bearer,
    check=_has_a_token,
    fails=[Failure(_fails_to_authorize, OSError)],
)
async def _(auth: BearerAuth) -> None:
    await auth.authorize(REQUEST)


@case("trio_http.BearerAuth.answer", world=_bearer, check=_has_a_token)
async def _(auth: BearerAuth) -> None:
    assert await auth.answer(REQUEST, INVALID, 1)


@contextlib.asynccontextmanager
async def _netrc() -> AsyncIterator[NetrcAuth]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "netrc"
        path.write_text("machine a login user password secret\n")
        path.chmod(0o600)
        yield NetrcAuth(path)


@case("trio_http.NetrcAuth.authorize", world=_netrc, threads=True)
async def _(auth: NetrcAuth) -> None:
    assert await auth.authorize(REQUEST)
