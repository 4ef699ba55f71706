"""What does not go along with a redirect (C43): credentials to other origins, and content out of TLS."""

from __future__ import annotations

import pytest

from tests.client._web import HERE, moved, web
from trio_http import RedirectRefused

START = f"{HERE}/start"
SECRETS = {"Authorization": "Basic YTpi", "Cookie": "a=b", "Proxy-Authorization": "Basic cDpw"}
ELSEWHERE = [
    "http://b.example/there",
    "http://sub.a.example/there",
    "http://a.example:8080/there",
    "https://a.example/there",
]


@pytest.mark.parametrize("location", ELSEWHERE)
async def test_credentials_do_not_go_to_another_origin(location: str) -> None:
    async with web({START: moved(302, location)}, follow_redirects=True) as (client, world):
        await client.get(START, headers={**SECRETS, "X-Mine": "kept"})
    for name, value in SECRETS.items():
        assert world.sent(name) == [value, None]
    assert world.sent("x-mine") == ["kept", "kept"]


@pytest.mark.parametrize("location", ELSEWHERE)
async def test_the_clients_own_credentials_do_not_go_to_another_origin(location: str) -> None:
    answers = {START: moved(302, location)}
    async with web(answers, follow_redirects=True, auth=("a", "b"), headers={"Cookie": "a=b"}) as (
        client,
        world,
    ):
        await client.get(START)
    assert world.sent("authorization") == ["Basic YTpi", None]
    assert world.sent("cookie") == ["a=b", None]


@pytest.mark.parametrize("location", ["/there", "http://a.example:80/there", "HTTP://A.example/there"])
async def test_credentials_go_on_within_the_origin(location: str) -> None:
    async with web({START: moved(302, location)}, follow_redirects=True) as (client, world):
        await client.get(START, headers=SECRETS)
        await client.get(START, auth=("a", "b"))
    assert world.sent("authorization") == ["Basic YTpi"] * 4
    assert world.sent("cookie") == ["a=b", "a=b", None, None]


async def test_credentials_do_not_come_back_with_the_way_back() -> None:
    """Who sends us there may have written where it leads back to."""
    answers = {
        START: moved(302, "http://b.example/"),
        "http://b.example/": moved(302, f"{HERE}/transfer?to=b"),
    }
    async with web(answers, follow_redirects=True, auth=("a", "b")) as (client, world):
        await client.get(START, headers={"Cookie": "a=b"})
    assert world.urls == [START, "http://b.example/", f"{HERE}/transfer?to=b"]
    assert world.sent("authorization") == ["Basic YTpi", None, None]
    assert world.sent("cookie") == ["a=b", None, None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_content_does_not_leave_tls_unasked(method: str, status: int) -> None:
    start = "https://a.example/start"
    leaves = method == "POST" and status in (307, 308)
    async with web({start: moved(status, "http://a.example/there")}, follow_redirects=True) as (
        client,
        world,
    ):
        if leaves:
            with pytest.raises(RedirectRefused, match="not under TLS") as caught:
                await client.request(method, start, content=b"secret")
            assert caught.value.facts.may_have_acted
        else:
            await client.request(method, start, content=b"" if method == "GET" else b"secret")
    assert world.dialed == ["https://a.example"] + ["http://a.example"] * (not leaves)
    assert all(asked.content != b"secret" for asked in world.asked[1:])
