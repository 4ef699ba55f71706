"""Cookies in a client (C44): through redirects and refusals, and beside a Cookie field of the caller's."""

from __future__ import annotations

import pytest

from tests.client._web import HERE, moved, web
from trio_http import CookieJar, DigestAuth, Request, Response
from trio_http.client._challenge import challenges

START = f"{HERE}/start"


def setting(*cookies: str, status: int = 200, **fields: str) -> Response:
    return Response(status, headers=[*(("Set-Cookie", cookie) for cookie in cookies), *fields.items()])


async def test_what_a_response_sets_goes_with_the_next_request() -> None:
    answers = {START: setting("a=1", "b=2; Path=/deep")}
    async with web(answers, cookies=True) as (client, world):
        await client.get(START)
        await client.get(f"{HERE}/other")
        await client.get(f"{HERE}/deep/er")
        async with client.stream("GET", f"{HERE}/deep") as response:
            await response.read()
    assert world.sent("cookie") == [None, "a=1", "b=2; a=1", "b=2; a=1"]


async def test_without_a_jar_cookies_are_left_alone() -> None:
    async with web({START: setting("a=1")}) as (client, world):
        response = await client.get(START)
        await client.get(START)
    assert response.headers["set-cookie"] == "a=1"
    assert world.sent("cookie") == [None, None]


async def test_a_redirect_sets_the_cookies_of_the_request_that_it_leads_to() -> None:
    """How everybody logs in."""
    answers = {START: setting("session=new", status=303, Location="/home")}
    async with web(answers, cookies=True, follow_redirects=True) as (client, world):
        await client.post(START, data={"name": "me"})
    assert world.sent("cookie") == [None, "session=new"]


async def test_a_cookie_that_a_redirect_replaces_is_not_sent_again() -> None:
    """It went along as a field of the first request, and the jar was not asked any more."""
    answers = {START: setting("session=new", "old=; Max-Age=0", status=303, Location="/home")}
    jar = CookieJar.from_mapping({"session": "anonymous", "old": "1"}, HERE)
    async with web(answers, cookies=jar, follow_redirects=True) as (client, world):
        await client.post(START)
    assert world.sent("cookie") == ["session=anonymous; old=1", "session=new"]


async def test_a_redirect_changes_the_path_and_so_the_cookies() -> None:
    jar = CookieJar()
    jar.set("for", "start", domain="a.example", path="/start")
    jar.set("for", "there", domain="a.example", path="/there")
    async with web({START: moved(302, "/there")}, cookies=jar, follow_redirects=True) as (client, world):
        await client.get(START)
    assert world.sent("cookie") == ["for=start", "for=there"]


async def test_each_host_of_a_chain_has_its_own_cookies() -> None:
    answers = {
        START: setting("a=1", status=302, Location="http://b.example/"),
        "http://b.example/": setting("b=2", "a=9; Domain=a.example", status=302, Location=f"{HERE}/back"),
    }
    async with web(answers, cookies=True, follow_redirects=True) as (client, world):
        await client.get(START)
        await client.get("http://b.example/again")
        await client.get("http://a.example:8080/cookies-know-no-ports")
    assert world.sent("cookie") == [None, None, "a=1", "b=2", "a=1"]


async def test_a_secure_cookie_goes_over_tls_alone() -> None:
    answers = {"https://a.example/": setting("s=1; Secure", "p=2", status=302, Location=f"{HERE}/")}
    async with web(answers, cookies=True, follow_redirects=True) as (client, world):
        await client.get("https://a.example/")
        await client.get("https://a.example/again")
    assert world.sent("cookie") == [None, "p=2", "s=1; p=2"]


async def test_a_cookie_field_of_the_callers_stands_in_place_of_the_jar() -> None:
    jar = CookieJar.from_mapping({"jar": "1"}, HERE)
    answers = {START: moved(302, "/there"), f"{HERE}/away": moved(302, "http://b.example/")}
    jar.set("b", "2", domain="b.example")
    async with web(answers, cookies=jar, follow_redirects=True) as (client, world):
        await client.get(START, headers={"Cookie": "mine=1"})
        await client.get(f"{HERE}/away", headers={"Cookie": "mine=1"})
    assert world.sent("cookie") == ["mine=1", "mine=1", "mine=1", "b=2"]


async def test_a_cookie_of_a_401_goes_with_the_answer_to_it() -> None:
    async def guarded(request: Request) -> Response:
        if "authorization" in request.headers:
            return Response(text="in")
        challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'
        return setting("step=2", status=401, **{"WWW-Authenticate": challenge})

    async with web({START: guarded}, cookies=True, auth=DigestAuth("me", "secret")) as (client, world):
        response = await client.get(START)
    assert response.text == "in"
    assert world.sent("cookie") == [None, "step=2"]
    (shown,) = challenges([world.sent("authorization")[1] or ""])
    assert (shown.scheme, shown.parameters["username"]) == ("digest", "me")


@pytest.mark.parametrize("value", ["", "=", ";", "a=\x80b", "a=b; Domain=.com", "a=b; Domain=b.example"])
async def test_no_cookie_of_a_server_can_fail_a_request(value: str) -> None:
    async with web({START: setting(value)}, cookies=True) as (client, world):
        assert (await client.get(START)).status == 200
        assert (await client.get(f"{HERE}/next")).status == 200
    assert world.sent("cookie")[1] in (None, "a=\x80b")
