"""Recorded peers: what a recording holds, and what a replay answers or refuses (C64)."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_http import Client, Headers, Request, Response
from trio_http.testing import (
    RecordedExchange,
    RecordedRequest,
    RecordedResponse,
    Recording,
    Replay,
    ScriptedPeer,
    UnexpectedRequest,
    memory_pair,
    open_client,
)


async def shop(request: Request) -> Response | None:
    """The real server."""
    match request.method, request.path.split("/")[1:]:
        case "GET" | "HEAD", ["items"]:
            return Response(json=["tea", "milk"])
        case "POST", ["items"]:
            return Response(201, await request.read(), headers={"Set-Cookie": "sid=s3cret; Path=/"})
        case "GET", ["picture"]:
            return Response(content=bytes(range(256)), headers={"Content-Type": "image/x-test"})
        case "GET", ["moved"]:
            return Response(302, headers={"Location": "https://shop.example/items"})
        case "GET", ["unchanged"]:
            return Response(304, headers={"Content-Length": "7", "ETag": '"1"'})
        case "GET", ["ticker"]:
            async with request.stream_response(headers={"Content-Type": "text/plain"}) as body:
                await body.send_all(b"one\ntwo\n")
                body.trailers = {"X-Count": "2"}
            return None
    return Response(404, reason="Sold Out")


ASKED: tuple[tuple[str, str, bytes], ...] = (
    ("GET", "/items", b""),
    ("HEAD", "/items", b""),
    ("POST", "/items?list=1", b"coffee"),
    ("GET", "/picture", b""),
    ("GET", "/ticker", b""),
    ("GET", "/unchanged", b""),
    ("GET", "/a%2Fb/../c", b""),
)


async def ask(client: Client, what: tuple[str, str, bytes] = ASKED[0]) -> list[Any]:
    """Ask, and return all of the answer that a recording holds."""
    method, target, content = what
    response = await client.request(method, target, content=content)
    fields = [pair for pair in response.headers.items() if pair[0] != "content-length"]
    return [response.status, response.reason, fields, response.content, response.trailers.items()]


async def record(*asked: tuple[str, str, bytes], **options: Any) -> tuple[Recording, list[list[Any]]]:
    """Return a recording of what was asked, and the answers."""
    recording = Recording()
    async with open_client(shop) as real, open_client(recording.handler_around(real, **options)) as client:
        answers = [await ask(client, what) for what in asked]
    return recording, answers


def exchange(target: str = "/", content: bytes = b"", *, status: int = 200) -> RecordedExchange:
    return RecordedExchange(
        request=RecordedRequest(method="GET", host="testserver", target=target, content=content),
        response=RecordedResponse(status=status, content=target.encode()),
    )


# ------------------------------------------------------------------------------------- there and back again


async def test_a_replay_answers_as_the_real_server_did() -> None:
    """C64: statuses, reasons, fields, contents of both kinds, trailers, and targets as they were written."""
    recording, answers = await record(*ASKED)
    assert [answer[0] for answer in answers] == [200, 200, 201, 200, 200, 304, 404]
    assert answers[4][4] == [("x-count", "2")]
    assert answers[6][1] == "Sold Out"
    replay = Recording.from_json(recording.to_json()).handler()
    async with open_client(replay) as client:
        replayed = [await ask(client, what) for what in ASKED]
    answers[2][2][0] = ("set-cookie", "sid=redacted; Path=/")
    assert replayed == answers
    replay.check()


async def test_the_answers_to_head_and_the_304_keep_the_length_of_what_they_do_not_have() -> None:
    recording, _ = await record(ASKED[1], ASKED[5], ASKED[0])
    lengths = [each.response.headers.get("content-length") for each in recording.exchanges]
    assert lengths == ["14", "7", None]
    async with open_client(recording.handler()) as client:
        assert (await client.head("/items")).headers["content-length"] == "14"
        assert (await client.get("/unchanged")).headers["content-length"] == "7"


async def test_the_order_is_that_in_which_the_requests_came(autojump_clock: MockClock) -> None:
    async def slow(request: Request) -> Response:
        await trio.sleep(float(request.path[1:]))
        return Response()

    recording = Recording()
    async with (
        open_client(slow) as real,
        open_client(recording.handler_around(real)) as client,
        trio.open_nursery() as nursery,
    ):
        for seconds in (3, 1, 2):
            nursery.start_soon(client.get, f"/{seconds}")
            await trio.sleep(0.1)
    assert [each.request.target for each in recording.exchanges] == ["/3", "/1", "/2"]


# ------------------------------------------------------------------------------------------------ recording


async def test_what_is_recorded_has_no_secrets_and_what_is_answered_has() -> None:
    recording = Recording()
    async with open_client(shop) as real, open_client(recording.handler_around(real)) as client:
        fields = {"Authorization": "Bearer s3cret", "Cookie": "a=s3cret; b=s3cret"}
        response = await client.post("/items", headers=fields)
    assert response.headers["set-cookie"] == "sid=s3cret; Path=/"
    text = recording.to_json()
    assert "s3cret" not in text
    headers = recording.exchanges[0].request.headers
    assert (headers["authorization"], headers["cookie"]) == ("Bearer redacted", "a=redacted; b=redacted")


async def test_other_fields_can_be_redacted_or_none() -> None:
    recording, _ = await record(ASKED[2], redact=())
    assert recording.exchanges[0].response.headers["set-cookie"] == "sid=s3cret; Path=/"
    recording, _ = await record(ASKED[2], redact=["USER-AGENT"])
    assert recording.exchanges[0].request.headers["user-agent"] == "redacted"
    with pytest.raises(TypeError, match="in a list"):
        await record(redact="cookie")


async def test_an_edit_changes_what_is_recorded_or_leaves_it_out() -> None:
    def edit(exchange: RecordedExchange) -> RecordedExchange | None:
        if exchange.request.method == "HEAD":
            return None
        headers = Headers([pair for pair in exchange.response.headers.raw if pair[0] != b"Date"])
        return attrs.evolve(exchange, response=attrs.evolve(exchange.response, headers=headers))

    recording, answers = await record(ASKED[0], ASKED[1], edit=edit)
    assert [each.request.method for each in recording.exchanges] == ["GET"]
    assert "date" not in recording.exchanges[0].response.headers
    assert "date" in dict(answers[0][2])


async def test_with_an_upstream_all_requests_go_there() -> None:
    hosts: list[str] = []

    async def server(request: Request) -> Response | None:
        hosts.append(request.headers["host"])
        return await shop(request)

    recording = Recording()
    async with open_client(server) as real:
        handler = recording.handler_around(real, upstream="http://shop.example/")
        async with open_client(handler) as client:
            assert (await client.get("/items")).json() == ["tea", "milk"]
            elsewhere = await client.get("/moved")
    assert hosts == ["shop.example"] * 2
    # By https, and so not the origin that was recorded.
    assert elsewhere.headers["location"] == "https://shop.example/items"
    assert [each.request.host for each in recording.exchanges] == ["testserver"] * 2


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://shop.example/items", "http://testserver/items"),
        ("http://shop.example", "http://testserver"),
        ("http://shop.example?a", "http://testserver?a"),
        ("http://shop.example.org/", "http://shop.example.org/"),
        ("/items", "/items"),
    ],
)
async def test_a_location_on_the_upstream_leads_to_the_handler(location: str, expected: str) -> None:
    async def moved(request: Request) -> Response:
        return Response(302, headers={"Location": location})

    recording = Recording()
    async with open_client(moved) as real:
        handler = recording.handler_around(real, upstream="http://shop.example")
        async with open_client(handler) as client:
            assert (await client.get("/")).headers["location"] == expected
    assert recording.exchanges[0].response.headers["location"] == expected


@pytest.mark.parametrize("upstream", ["shop.example", "ftp://shop.example", "https://shop.example/v1", ""])
async def test_an_upstream_that_is_no_origin_is_refused(upstream: str) -> None:
    async with open_client(shop) as real:
        with pytest.raises(ValueError, match=re.escape(f"not {upstream!r}")):
            Recording().handler_around(real, upstream=upstream)


async def test_the_server_is_asked_for_content_that_is_not_coded() -> None:
    seen: list[Headers] = []

    async def server(request: Request) -> Response:
        seen.append(request.headers)
        return Response()

    recording = Recording()
    async with open_client(server) as real, open_client(recording.handler_around(real)) as client:
        await client.get("/", headers={"Accept-Encoding": "gzip", "Connection": "close", "X-Other": "1"})
    (headers,) = seen
    assert headers["accept-encoding"] == "identity"
    assert headers["x-other"] == "1"
    assert "connection" not in headers
    assert recording.exchanges[0].request.headers["accept-encoding"] == "gzip"


async def test_what_fails_is_a_502_that_says_why_and_is_not_recorded() -> None:
    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        ours, theirs = memory_pair()
        await theirs.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal")
        await theirs.aclose()
        return ours

    recording = Recording()
    async with Client(dial=dial) as real, open_client(recording.handler_around(real)) as client:
        response = await client.get("/")
    assert response.status == 502
    assert response.text.startswith("not recorded: GET http://testserver")
    assert recording.exchanges == ()
    assert json.loads(recording.to_json())["exchanges"] == []


async def test_a_request_that_was_given_up_is_not_recorded(autojump_clock: MockClock) -> None:
    async def never(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError("it woke up")

    recording = Recording()
    async with open_client(never) as real, open_client(recording.handler_around(real)) as client:
        with trio.move_on_after(1) as scope:
            await client.get("/")
        await trio.sleep(1)
        assert real.statistics().leased == 0
    assert scope.cancelled_caught
    assert recording.exchanges == ()


# ------------------------------------------------------------------------------------------------ replaying


async def test_in_order_another_request_is_an_error_that_says_what_was_expected_and_what_came(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replay = Recording([exchange("/a"), exchange("/b")]).handler()
    async with open_client(replay) as client:
        response = await client.get("/b")
        assert (await client.get("/a")).status == 200
    text = (
        "unexpected request\n"
        "  expected: GET /a of testserver, no content\n"
        "  got:      GET /b of testserver, no content"
    )
    assert (response.status, response.text) == (500, f"{text}\n")
    assert [(entry.name, entry.levelno) for entry in caplog.records] == [("trio_http.testing", logging.ERROR)]
    assert caplog.messages == [text]
    with pytest.raises(UnexpectedRequest) as raised:
        replay.check()
    assert str(raised.value) == text
    assert raised.value.got.target == "/b"


async def test_by_match_requests_may_come_in_any_order_and_each_is_answered_once() -> None:
    recording = Recording([exchange("/a", status=201), exchange("/b"), exchange("/a", status=202)])
    replay = recording.handler("by match")
    async with open_client(replay) as client:
        statuses = [(await client.get(target)).status for target in ("/b", "/a", "/a")]
        replay.check()
        assert statuses == [200, 201, 202]
        assert (await client.get("/a")).status == 500
    assert "expected: nothing more" in str(replay.errors[0])


async def test_an_error_by_match_names_the_first_of_those_that_are_left() -> None:
    replay = Recording([exchange(f"/{number}") for number in range(8)]).handler("by match")
    async with open_client(replay) as client:
        text = (await client.get("/other")).text
    assert text.count("expected:") == 5
    assert "or one of 3 more" in text


@pytest.mark.parametrize(
    ("method", "url", "content"),
    [
        ("POST", "/a", b"x"),
        ("GET", "http://elsewhere.example/a", b"x"),
        ("GET", "/a?", b"x"),
        ("GET", "/a", b"y"),
    ],
)
async def test_method_host_target_and_content_have_to_be_the_same(
    method: str, url: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    replay = Recording([exchange("/a", b"x")]).handler()
    async with open_client(replay) as client:
        assert (await client.request(method, url, content=content)).status == 500
        assert replay.left
        assert (await client.request("GET", "/a", content=b"x")).status == 200
    assert replay.left == ()
    assert len(caplog.records) == 1


async def test_what_is_the_same_can_be_told_otherwise() -> None:
    def same(recorded: RecordedRequest, asked: RecordedRequest) -> bool:
        return recorded.target == asked.target and asked.headers.get("x-key") == "1"

    replay = Recording([exchange("/a", b"x")]).handler(same=same)
    async with open_client(replay) as client:
        assert (await client.post("/a")).status == 500
        assert (await client.post("/a", headers={"X-Key": "1"})).status == 200


async def test_a_check_fails_while_something_was_not_asked_for() -> None:
    replay = Recording([exchange("/a"), exchange("/b")]).handler()
    async with open_client(replay) as client:
        await client.get("/a")
    assert repr(replay) == "<Replay, 1 of 2 exchanges played>"
    with pytest.raises(AssertionError, match=r"1 of 2 recorded exchanges were not asked for.*GET /b"):
        replay.check()


async def test_each_handler_of_a_recording_begins_anew() -> None:
    recording = Recording([exchange("/a")])
    for _ in range(2):
        replay = recording.handler()
        async with open_client(replay) as client:
            assert (await client.get("/a")).text == "/a"
        replay.check()


def test_there_are_two_modes() -> None:
    with pytest.raises(ValueError, match="no mode 'any'"):
        Recording().handler("any")  # type: ignore[arg-type]


async def test_a_replay_is_a_handler_for_any_peer() -> None:
    """Nothing of the client that recorded it is needed."""
    replay = Recording([exchange("/a")]).handler()
    assert isinstance(replay, Replay)
    async with open_client(replay) as client, client.stream("GET", "/a") as response:
        assert await response.read() == b"/a"


# ------------------------------------------------------------------------------------------------- the file


async def test_the_file_can_be_read_by_people_and_is_the_same_each_time(tmp_path: Path) -> None:
    recording, _ = await record(("GET", "/ticker", b""), ("POST", "/items", b"\x00\x01"))
    path = tmp_path / "shop.json"
    recording.save(path)
    text = await trio.Path(path).read_text("utf-8")
    assert text == recording.to_json() == Recording.load(path).to_json()
    first, second = json.loads(text)["exchanges"]
    assert first["response"]["text"] == ["one\n", "two\n"]
    assert first["response"]["trailers"] == ["X-Count: 2"]
    assert "Content-Type: text/plain" in first["response"]["headers"]
    assert "text" not in first["request"]
    assert second["request"]["base64"] == ["AAE="]
    assert Recording.load(path).exchanges == recording.exchanges


# ----------------------------------------------------------------------------------------- scripted, beside


async def test_a_scripted_peer_can_be_recorded_too() -> None:
    """C64: the two kinds of peers, one in front of the other."""
    peer = ScriptedPeer().expect_until(b"\r\n\r\n", startswith=b"PATCH /odd HTTP/1.1\r\n")
    peer.send(b"HTTP/1.1 299 Odd\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n")

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        return peer.stream

    recording = Recording()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        async with Client(dial=dial) as real, open_client(recording.handler_around(real)) as client:
            response = await client.patch("/odd")
    assert (response.status, response.headers.get_all("x-a")) == (299, ["1", "2"])
    assert recording.exchanges[0].response.headers.raw == [(b"X-A", b"1"), (b"x-a", b"2")]
