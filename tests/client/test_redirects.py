"""Where redirects lead (C43): method and content, the Location field, chains, and the connections between."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.client._contents import generated
from tests.client._network import END, OK, answering, client_of, in_pool
from tests.client._web import HERE, moved, web
from trio_http import (
    ClientConnection,
    ConnectionLost,
    RedirectRefused,
    Request,
    RequestFailed,
    Response,
    Retry,
    TooManyRedirects,
    UpgradeRefused,
)

START = f"{HERE}/start"


# ------------------------------------------ method and content

TABLE = [
    # What a POST becomes, and what everything else does (RFC 9110 §15.4).
    *((status, method, method) for status in (301, 302, 307, 308) for method in ("GET", "PUT", "DELETE")),
    *((status, "POST", "GET") for status in (301, 302, 303)),
    *((status, "POST", "POST") for status in (307, 308)),
    *((303, method, "GET") for method in ("GET", "PUT", "DELETE", "PATCH", "QUERY")),
    *((302, method, method) for method in ("PATCH", "QUERY", "HEAD")),
    (303, "HEAD", "HEAD"),
]


@pytest.mark.parametrize(("status", "method", "then"), TABLE)
async def test_the_status_decides_on_method_and_content(status: int, method: str, then: str) -> None:
    content = b"" if method in ("GET", "HEAD") else b"some content"
    async with web({START: moved(status, "/there")}) as (client, world):
        response = await client.request(
            method, START, content=content, headers={"Content-Type": "a/b"}, follow_redirects=True
        )
    assert (response.status, response.url) == (200, f"{HERE}/there")
    first, second = world.asked
    assert (first.method, second.method) == (method, then)
    assert second.content == (content if then == method else b"")
    if then != method:
        assert "content-type" not in second.headers
        assert "content-length" not in second.headers


@pytest.mark.parametrize("status", [300, 304, 305, 306, 309, 399])
async def test_no_other_status_is_a_redirect(status: int) -> None:
    async with web({START: moved(status, "/there")}) as (client, world):
        response = await client.get(START, follow_redirects=True)
    assert (response.status, response.history, world.urls) == (status, (), [START])


@pytest.mark.parametrize("options", [{}, {"follow_redirects": False}])
async def test_a_redirect_that_nobody_wants_followed_is_the_answer(options: dict[str, Any]) -> None:
    async with web({START: moved(302, "/there")}, follow_redirects=bool(options)) as (client, world):
        response = await client.get(START, **options)
    assert (response.status, response.headers["location"], len(world.asked)) == (302, "/there", 1)


async def test_a_redirect_that_says_not_where_is_the_answer() -> None:
    async with web({START: Response(302)}, follow_redirects=True) as (client, _):
        assert (await client.get(START)).status == 302


async def test_content_from_a_file_goes_out_again(tmp_path: Any) -> None:
    path = tmp_path / "content"
    path.write_bytes(bytes(100_000))
    async with web({START: moved(307, "/there")}, follow_redirects=True) as (client, world):
        response = await client.post(START, content=path)
    assert response.status == 200
    assert [asked.content for asked in world.asked] == [bytes(100_000)] * 2


@pytest.mark.parametrize("status", [307, 308])
async def test_content_that_was_used_up_cannot_be_sent_on(status: int) -> None:
    async with web({START: moved(status, "/there")}, follow_redirects=True) as (client, world):
        with pytest.raises(RedirectRefused, match="can be sent once, and was") as caught:
            await client.post(START, content=generated(b"once"))
    assert caught.value.response.status == status
    assert world.urls == [START]


async def test_content_that_was_used_up_does_not_matter_where_it_is_dropped() -> None:
    async with web({START: moved(303, "/there")}, follow_redirects=True) as (client, world):
        assert (await client.post(START, content=generated(b"once"))).status == 200
    assert [(asked.method, asked.content) for asked in world.asked] == [("POST", b"once"), ("GET", b"")]


async def test_the_fields_of_the_request_go_along_but_not_its_target_or_params() -> None:
    async with web({f"{HERE}/exact?x=1": moved(302, "/there")}, follow_redirects=True) as (client, world):
        await client.get(START, target="/exact?x=1", params={"q": "1"}, headers={"X-Mine": "kept"})
    assert world.urls == [f"{HERE}/exact?x=1", f"{HERE}/there"]
    assert world.sent("x-mine") == ["kept", "kept"]
    assert world.sent("host") == ["a.example", "a.example"]


async def test_a_host_field_of_the_callers_is_for_the_first_request() -> None:
    async with web({START: moved(302, "http://b.example/there")}, follow_redirects=True) as (client, world):
        await client.get(START, headers={"Host": "virtual.example"})
    assert world.sent("host") == ["virtual.example", "b.example"]


# ------------------------------------------ the Location field


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/there", "/there"),
        ("there", "/a/there"),
        ("./there?q=1", "/a/there?q=1"),
        ("../there", "/there"),
        ("../../../there", "/there"),
        ("?only=query", "/a/start?only=query"),
        ("#fragment", "/a/start?q=0"),
        ("/there#fragment", "/there"),
        ("//b.example/there", "http://b.example/there"),
        ("HTTP://B.EXAMPLE/there", "http://b.example/there"),
        ("http://b.example", "http://b.example/"),
        ("http://b.example?q", "http://b.example/?q"),
        ("http://b.example:8080/there", "http://b.example:8080/there"),
        ("https://b.example/there", "https://b.example/there"),
        ("/a%2Fb/%7e?%20", "/a%2Fb/%7e?%20"),
        ("/with space", "/with%20space"),
        ("/tab\there", "/tab%09here"),
        ("/caf\xc3\xa9", "/caf%C3%A9"),
        ("/caf\xe9", "/caf%E9"),
        ("/login?next=http://c.example/with space", "/login?next=http://c.example/with%20space"),
        ("/50% off/é", "/50%%20off/%E9"),
        ("http://b.example/\xc3\xa9?\xc3\xa9", "http://b.example/%C3%A9?%C3%A9"),
        ("//b.example/\xc3\xa9", "http://b.example/%C3%A9"),
        ("/back\\slash", "/back\\slash"),
    ],
)
async def test_a_location_leads_where_it_says(location: str, leads_to: str) -> None:
    start = f"{HERE}/a/start?q=0"
    expected = leads_to if "://" in leads_to.partition("?")[0] else HERE + leads_to

    async def answer(request: Request) -> Response:
        return moved(302, location) if len(world.asked) == 1 else Response(200)

    async with web({start: answer}, follow_redirects=True) as (client, world):
        await client.get(start)
    assert world.urls == [start, expected]


async def test_a_host_beyond_ascii_is_a_name_of_the_idna() -> None:
    location = "//b\xc3\xbccher.example/\xc3\xbc"
    async with web({START: moved(302, location)}, follow_redirects=True) as (client, world):
        await client.get(START)
    assert world.urls[1] == "http://xn--bcher-kva.example/%C3%BC"


async def test_an_empty_location_is_the_resource_itself() -> None:
    """RFC 9110 §15.4.4: a form that leads back to its own page."""

    async def form(request: Request) -> Response:
        return moved(303, "") if request.method == "POST" else Response(text="the page")

    async with web({START: form}, follow_redirects=True) as (client, world):
        assert (await client.post(START, content=b"x")).text == "the page"
    assert [asked.method for asked in world.asked] == ["POST", "GET"]


@pytest.mark.parametrize(
    "location",
    [
        "ftp://b.example/",
        "javascript:alert(1)",
        "data:text/plain,hello",
        "mailto:a@b.example",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://[::1/",
        "http://[v1.x]/",
        "http://b.example:99999/",
        "http://b.example:port/",
        "http://b..example/",
        "http://\xff\xfe/",
        "http://b example/",
        "http://user:s3cret@b.example/",
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_location_that_leads_nowhere_is_refused(location: str, stream: bool) -> None:
    answers = {START: moved(302, location, text="moved")}
    async with web(answers, follow_redirects=True) as (client, world):
        with pytest.raises(RedirectRefused, match="malformed Location") as caught:
            if stream:
                async with client.stream("GET", START):
                    raise AssertionError("not reached")
            await client.get(START)
        error = caught.value
        assert error.response.headers["location"] == location
        assert (error.facts.url, error.facts.response_started) == (START, True)
        assert "s3cret" not in str(error)
        assert (await client.get(f"{HERE}/again")).status == 200
    assert len(world.asked) == 2


async def test_two_locations_that_differ_are_refused() -> None:
    twice = Response(302, headers=[("Location", "/a"), ("Location", "/b")])
    same = Response(302, headers=[("Location", "/a"), ("Location", "/a")])
    async with web({START: twice, f"{HERE}/same": same}, follow_redirects=True) as (client, _):
        with pytest.raises(RedirectRefused, match="several Location"):
            await client.get(START)
        assert (await client.get(f"{HERE}/same")).url == f"{HERE}/a"


# ------------------------------------------ chains and loops


async def test_the_history_holds_each_redirect_with_what_it_said() -> None:
    answers = {
        START: moved(301, "/2", text="one"),
        f"{HERE}/2": moved(302, "/3", text="two", headers={"X-Mark": "2"}),
        f"{HERE}/3": moved(307, "/4"),
    }
    async with web(answers, follow_redirects=True) as (client, world):
        response = await client.get(START)
        assert [(each.status, each.url, each.text) for each in response.history] == [
            (301, START, "one"),
            (302, f"{HERE}/2", "two"),
            (307, f"{HERE}/3", ""),
        ]
        assert response.history[1].headers["x-mark"] == "2"
        assert [len(each.history) for each in response.history] == [0, 1, 2]
        async with client.stream("GET", START) as streamed:
            assert [each.status for each in streamed.history] == [301, 302, 307]
            assert streamed.url == f"{HERE}/4"
            assert await streamed.read() == f"{HERE}/4".encode()
        assert client.statistics().idle == 1
    assert world.dialed == [HERE], "one connection for all of it"


@pytest.mark.parametrize(("limit", "asked"), [(0, 1), (1, 2), (5, 6)])
async def test_a_loop_is_left_after_so_many_redirects(limit: int, asked: int) -> None:
    async with web({START: moved(302, "/start")}, follow_redirects=True, max_redirects=limit) as (
        client,
        world,
    ):
        with pytest.raises(TooManyRedirects, match=f"more than {limit} redirects") as caught:
            await client.get(START)
        assert caught.value.response.headers["location"] == "/start"
        assert client.statistics().idle == 1
    assert len(world.asked) == asked


async def test_as_many_redirects_as_are_allowed_are_followed() -> None:
    answers = {f"{HERE}/{number}": moved(302, f"/{number + 1}") for number in range(20)}
    async with web(answers, follow_redirects=True) as (client, _):
        response = await client.get(f"{HERE}/0")
        assert (response.status, len(response.history)) == (200, 20)


# ------------------------------------------ the connections of what was passed over


REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /there\r\n"
PASSED_OVER = {
    "no content": (REDIRECT + b"Content-Length: 0\r\n\r\n", True),
    "short": (REDIRECT + b"Content-Length: 5\r\n\r\nmoved", True),
    "chunked": (REDIRECT + b"Transfer-Encoding: chunked\r\n\r\n5\r\nmoved\r\n0\r\n\r\n", True),
    "long": (REDIRECT + b"Content-Length: 1000000\r\n\r\n" + bytes(1000), False),
    "never whole": (REDIRECT + b"Content-Length: 50\r\n\r\nmoved", False),
    "chunked without an end": (REDIRECT + b"Transfer-Encoding: chunked\r\n\r\n5\r\nmoved\r\n", False),
    "close-delimited": (REDIRECT + b"\r\nmoved", False),
    "last": (REDIRECT + b"Connection: close\r\nContent-Length: 5\r\n\r\nmoved", False),
    "malformed": (REDIRECT + b"Transfer-Encoding: chunked\r\n\r\nfive\r\n", False),
    "coded badly": (REDIRECT + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nbad", False),
    "coded six times": (
        REDIRECT + b"Content-Encoding: gzip" + b", gzip" * 5 + b"\r\nContent-Length: 3\r\n\r\nbad",
        False,
    ),
}


@pytest.mark.parametrize("name", PASSED_OVER)
async def test_the_connection_of_a_redirect_goes_back_or_is_closed(
    name: str, autojump_clock: MockClock
) -> None:
    """Whatever the server makes of its content, that nobody reads."""
    answer, is_kept = PASSED_OVER[name]
    first = answering(answer, OK) if is_kept else answering(answer)
    async with client_of(first, answering(OK), follow_redirects=True) as (client, network):
        response = await client.get(START)
        assert (response.status, len(response.history)) == (200, 1)
        assert len(network.dialed) == (1 if is_kept else 2)
        assert await in_pool(client) == (0, 1)
    assert trio.current_time() <= 1, "more than a second costs more than a new connection"


async def test_a_redirect_that_drips_for_ever_is_left(autojump_clock: MockClock) -> None:
    peer = answering(REDIRECT + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(9):
        peer.wait(0.1).send(b"1\r\nx\r\n")
    peer.expect_end()
    async with client_of(peer, answering(OK), follow_redirects=True) as (client, _):
        assert (await client.get(START)).status == 200
        assert trio.current_time() == pytest.approx(1)


async def test_a_cancel_while_a_redirect_is_passed_over_closes_its_connection(
    autojump_clock: MockClock,
) -> None:
    async with client_of(answering(PASSED_OVER["never whole"][0]), follow_redirects=True) as (client, _):
        with trio.move_on_after(0.5) as scope:
            await client.get(START)
        assert scope.cancelled_caught
        assert await in_pool(client) == (0, 0)


async def test_an_origin_that_is_not_there_fails_the_request_and_no_other() -> None:
    async with client_of(answering(REDIRECT.replace(b"/there", b"http://gone.example/") + b"\r\n")) as (
        client,
        _,
    ):
        with pytest.raises(RequestFailed) as caught:
            await client.get(START, follow_redirects=True)
        assert caught.value.facts.url == "http://gone.example/"
        assert await in_pool(client) == (0, 0)


async def test_a_single_connection_does_not_ask_its_server_for_another_origin() -> None:
    peer = answering(REDIRECT.replace(b"/there", b"http://b.example/") + b"Content-Length: 0\r\n\r\n")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        async with ClientConnection(peer.stream) as connection:
            with pytest.raises(RedirectRefused, match="another origin"):
                await connection.get(START, follow_redirects=True)
        nursery.cancel_scope.cancel()


# ------------------------------------------ with upgrades and retries


async def test_an_upgrade_can_be_redirected() -> None:
    async def echo(request: Request) -> None:
        async with request.upgrade("echo") as stream:
            async for chunk in stream:
                await stream.send_all(chunk)

    answers = {START: moved(307, "http://b.example/echo"), "http://b.example/echo": echo}
    async with web(answers) as (client, world):
        async with client.upgrade(START, "echo", follow_redirects=True) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
        with pytest.raises(UpgradeRefused) as caught:
            async with client.upgrade(START, "echo"):
                raise AssertionError("not reached")
        assert caught.value.response.status == 307
    assert world.sent("upgrade") == ["echo"] * 3


async def test_a_retry_is_for_the_request_that_failed_and_not_for_the_one_that_led_there(
    autojump_clock: MockClock,
) -> None:
    """A POST that was answered by a redirect has been acted on."""
    tries = 0

    async def page(request: Request) -> Response:
        nonlocal tries
        tries += 1
        return Response(503 if tries < 3 else 200)

    answers = {START: moved(303, "/page"), f"{HERE}/page": page}
    async with web(answers, follow_redirects=True, retry=Retry()) as (client, world):
        response = await client.post(START, content=b"buy")
    assert (response.status, len(response.history)) == (200, 1)
    assert [asked.method for asked in world.asked] == ["POST", "GET", "GET", "GET"]


async def test_a_failed_connection_behind_a_redirect_does_not_repeat_a_post(
    autojump_clock: MockClock,
) -> None:
    """A dial that fails cannot have had an effect; the request before it can."""
    see_other = b"HTTP/1.1 303 See Other\r\nLocation: http://gone.example/\r\nContent-Length: 0\r\n\r\n"
    async with client_of(answering(see_other), retry=Retry(), follow_redirects=True) as (client, network):
        with pytest.raises(RequestFailed):
            await client.post(START, content=b"buy")
    assert [host for host, _, _ in network.dialed] == ["a.example"] + ["gone.example"] * 3


async def test_a_redirect_that_asks_to_wait_is_waited_for(autojump_clock: MockClock) -> None:
    """RFC 9110 §10.2.3; with a policy for it."""
    later = {START: moved(307, "/there", headers={"Retry-After": "30"})}
    async with web(later, follow_redirects=True, retry=Retry()) as (client, _):
        await client.get(START)
        assert trio.current_time() == 30
        with trio.fail_after(20):
            response = await client.get(START)  # no time for that, and no use in waiting
        assert (response.status, response.headers["retry-after"]) == (307, "30")
        assert trio.current_time() == 30
        async with client.stream("GET", START, retry=None) as streamed:
            assert (streamed.status, trio.current_time()) == (200, 30)


async def test_a_failure_behind_a_redirect_is_told_with_its_own_facts() -> None:
    peer = answering(REDIRECT + b"Content-Length: 0\r\n\r\n").expect_until(END).reset()
    async with client_of(peer, follow_redirects=True) as (client, _):
        with pytest.raises(ConnectionLost) as caught:
            await client.patch(START, content=b"")
        assert caught.value.facts.url == f"{HERE}/there"
        assert caught.value.facts.reused
