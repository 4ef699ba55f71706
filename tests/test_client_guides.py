"""The client's guides: every block of code on them is run, against a server that knows what they ask for."""

from __future__ import annotations

import functools
import hashlib
import hmac
import math
import pathlib
import re
import textwrap
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio.testing

import trio_http
import trio_http.testing
from tests.test_docs import ROOT, blocks
from trio_http.client import ClientOptions
from trio_http.client._hints import _OPTIONS, _STREAMED_WORDS, _WHOLE_WORDS
from trio_http.client._options import ContentOptions

FOLDER = ROOT / "docs/how-to"

# The files that the guides send, and what is in them.
FILES = {"cat.png": b"cat" * 50_000, "huge.png": b"huge" * 500_000}


class Shop:
    """The server of the guides.

    Attributes:
      requests: method, target and content of each, in the order in which they came.
      fields: of the last one.
      now: when each came.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.fields = trio_http.Headers()
        self.now: list[float] = []
        self.tokens = 0
        self.failures = 0

    async def __call__(self, request: trio_http.Request) -> trio_http.Response | None:
        self.fields = request.headers
        self.now.append(trio.current_time())
        if request.path == "/scans/9":
            self.requests.append((request.method, request.target, b""))
            return trio_http.Response(413)
        content = await request.read(limit=1 << 24)
        self.requests.append((request.method, request.target, content))
        answer = getattr(self, "_" + request.path.split("/")[1], None)
        return trio_http.Response(200, text="as asked\n") if answer is None else await answer(request)

    async def _items(self, request: trio_http.Request) -> trio_http.Response:
        if self.failures:
            self.failures -= 1
            return trio_http.Response(503, headers={"Retry-After": "2"})
        return trio_http.Response(200, json=["socks"])

    async def _export(self, request: trio_http.Request) -> None:
        async with request.stream_response(200) as body:
            for _ in range(3):
                await body.send_all(bytes(70_000))

    async def _events(self, request: trio_http.Request) -> None:
        async with request.stream_response(200, headers={"Content-Type": "text/event-stream"}) as body:
            await body.send_all(b"data: one\n\n")
            await trio.sleep(300)
            await body.send_all(b": nothing\n\ndata: two\n\n")

    async def _scans(self, request: trio_http.Request) -> None:
        await request.send_informational(103, headers={"Link": "</style.css>"})
        async with request.stream_response(200) as body:
            body.trailers = trio_http.Headers({"X-Checksum": "abc"})

    async def _orders(self, request: trio_http.Request) -> trio_http.Response:
        if "idempotency-key" in request.headers:
            self.failures += 1
            if self.failures == 1:
                return trio_http.Response(503)
            return trio_http.Response(201)
        return trio_http.Response(409, text="sold out\n")

    async def _old(self, request: trio_http.Request) -> trio_http.Response:
        return trio_http.Response(301, headers={"Location": "/new"})

    async def _login(self, request: trio_http.Request) -> trio_http.Response:
        cookie = "session=s1; Path=/; HttpOnly; Secure"
        return trio_http.Response(303, headers={"Location": "/account", "Set-Cookie": cookie})

    async def _account(self, request: trio_http.Request) -> trio_http.Response:
        return trio_http.Response(200, text=request.headers.get("cookie") or "")

    async def _digest(self, request: trio_http.Request) -> trio_http.Response:
        if (request.headers.get("authorization") or "").startswith("Digest "):
            return trio_http.Response(200)
        challenge = 'Digest realm="a", nonce="b", qop="auth", algorithm=SHA-256'
        return trio_http.Response(401, headers={"WWW-Authenticate": challenge})

    async def _token(self, request: trio_http.Request) -> trio_http.Response:
        self.tokens += 1
        return trio_http.Response(200, json={"access_token": f"token-{self.tokens}"})

    async def _slow(self, request: trio_http.Request) -> trio_http.Response:
        if len(self.requests) == 1:
            await trio.sleep(3)
        return trio_http.Response(200, text="here\n")


class Package:
    """`trio_http` as the blocks see it, with a `Client` whose connections all lead to the shop."""

    def __init__(self, shop: trio_http.Handler) -> None:
        self._shop = shop

    def __getattr__(self, name: str) -> Any:
        return getattr(trio_http, name)

    def Client(self, **options: Any) -> AbstractAsyncContextManager[trio_http.Client]:
        return trio_http.testing.open_client(self._shop, **options)


async def run(page: str, number: int, shop: Shop, **names: Any) -> dict[str, Any]:
    """Run a block of a guide as the body of a function; return its local names."""
    source = blocks((FOLDER / page).read_text("utf-8"), "python")[number - 1]
    return await run_source(source, shop, **names)


async def run_source(source: str, shop: trio_http.Handler, **names: Any) -> dict[str, Any]:
    names |= {
        "functools": functools, "hashlib": hashlib, "hmac": hmac, "math": math, "pathlib": pathlib,
        "trio": trio, "trio_http": Package(shop),
    }  # fmt: skip
    body = textwrap.indent(source, "    ")
    exec(compile(f"async def block(client):\n{body}\n    return locals()\n", "guide", "exec"), names)
    async with trio_http.testing.open_client(shop, base_url="https://shop.example") as client:
        left: dict[str, Any] = await names["block"](client)
    return left


@pytest.fixture(autouse=True)
def _folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guides' files, in the folder that the blocks run in."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_no_block_of_the_guides_is_left_out() -> None:
    numbers = {page: len(blocks((FOLDER / page).read_text("utf-8"), "python")) for page in PAGES}
    assert numbers == PAGES


# How many blocks each page has; a new one wants a test below.
PAGES = {
    "make-requests.md": 9,
    "follow-redirects-and-log-in.md": 6,
    "retry-and-limit.md": 7,
    "coming-from-httpx.md": 0,
}


# ----------------------------------------------------------------------- make-requests.md


async def test_the_first_request_has_its_parameters_and_the_clients_fields(shop: Shop) -> None:
    left = await run("make-requests.md", 1, shop)
    assert left["items"] == ["socks"]
    assert shop.requests == [("GET", "/items?q=wool+socks&size=39&size=40", b"")]
    assert shop.fields["x-tenant"] == "blue"


async def test_what_is_sent_goes_out_as_the_guide_says(shop: Shop) -> None:
    await run("make-requests.md", 2, shop)
    sent = [content for _, _, content in shop.requests]
    assert sent[0] == b'{"name":"socks","price":9.5}'
    assert sent[1] == b"q=wool+socks&size=39&size=40"
    assert b'name="title"\r\n\r\na cat' in sent[2]
    assert b'name="scan"; filename="cat.png"\r\nContent-Type: image/png\r\n\r\ncatcat' in sent[2]
    assert sent[3:] == [FILES["cat.png"], "grüezi".encode()]


async def test_a_response_is_received_piece_by_piece(shop: Shop) -> None:
    assert (await run("make-requests.md", 3, shop))["size"] == 210_000


async def test_events_are_waited_for_longer_than_the_usual_minute(
    shop: Shop, autojump_clock: trio.testing.MockClock
) -> None:
    assert (await run("make-requests.md", 4, shop))["events"] == ["one", "two"]
    assert trio.current_time() >= 300


async def test_an_upload_tells_its_progress(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    await run("make-requests.md", 5, shop)
    assert shop.requests == [("PUT", "/scans/8", FILES["cat.png"])]
    assert shop.fields["transfer-encoding"] == "chunked"
    assert capsys.readouterr().out.endswith("\n150000 bytes sent\n")


async def test_a_refused_upload_is_not_sent(shop: Shop) -> None:
    assert (await run("make-requests.md", 6, shop))["refused"].status == 413
    assert shop.fields["expect"] == "100-continue"


async def test_a_checksum_goes_behind_the_content(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[trio_http.Headers] = []

    async def scan(request: trio_http.Request) -> None:
        seen.append(request.body.trailers)
        await Shop._scans(shop, request)

    shop._scans = scan  # type: ignore[method-assign]
    source = blocks((FOLDER / "make-requests.md").read_text("utf-8"), "python")
    progress = source[4].partition("\n\n\n")[0]
    left = await run_source(f"{progress}\n\n{source[6]}", shop)
    assert seen[0]["x-checksum"] == hashlib.sha256(FILES["cat.png"]).hexdigest()
    assert left["checksum"] == "abc"
    assert "103 Headers([('link', '</style.css>')])" in capsys.readouterr().out


async def test_many_are_asked_at_once_and_not_all_of_them(shop: Shop) -> None:
    most = asked = 0

    async def item(request: trio_http.Request) -> trio_http.Response:
        nonlocal most, asked
        asked += 1
        most = max(most, asked)
        await trio.sleep(0.001)
        asked -= 1
        return trio_http.Response(200)

    shop._items = item  # type: ignore[method-assign]
    left = await run("make-requests.md", 8, shop)
    assert left["statuses"] == {f"/items/{number}": 200 for number in range(100)}
    assert 1 < most <= 10  # as many as there are connections


async def test_an_answer_that_was_not_hoped_for_is_an_error_with_the_answer(shop: Shop) -> None:
    assert (await run("make-requests.md", 9, shop))["problem"] == "sold out\n"


# ----------------------------------------------------------------------- follow-redirects-and-log-in.md


async def test_the_chain_of_redirects_is_there(shop: Shop) -> None:
    left = await run("follow-redirects-and-log-in.md", 1, shop)
    assert left["chain"] == [(301, "https://shop.example/old")]
    assert left["response"].url == "https://shop.example/new"


async def test_who_has_logged_in_stays_so(shop: Shop) -> None:
    left = await run("follow-redirects-and-log-in.md", 2, shop)
    assert left["page"].text == "session=s1"
    assert shop.requests[0][2] == b"user=me&password=secret"


async def test_a_jar_is_saved_and_loaded(shop: Shop) -> None:
    left = await run("follow-redirects-and-log-in.md", 3, shop)
    assert left["session"] == "s1"
    assert shop.fields["cookie"] == "consent=no"  # of the only request
    assert {cookie.name for cookie in left["later"]} == {"consent", "session"}


async def test_credentials_of_each_kind_are_shown(shop: Shop) -> None:
    await run("follow-redirects-and-log-in.md", 4, shop)
    assert [target for _, target, _ in shop.requests] == ["/basic", "/bearer", "/digest", "/digest"]
    assert shop.fields["authorization"].startswith('Digest username="me"')


async def test_a_token_is_fetched_first(shop: Shop) -> None:
    await run("follow-redirects-and-log-in.md", 5, shop)
    assert [target for _, target, _ in shop.requests] == ["/token", "/bearer"]
    assert shop.fields["authorization"] == "Bearer token-1"


async def test_a_signature_is_made_of_the_request(shop: Shop) -> None:
    await run("follow-redirects-and-log-in.md", 6, shop)
    expected = hmac.new(b"a key", b"GET /signed", "sha256").hexdigest()
    assert shop.fields["x-signature"] == expected


# ----------------------------------------------------------------------- retry-and-limit.md


async def test_a_server_that_says_later_is_asked_later(
    shop: Shop, autojump_clock: trio.testing.MockClock
) -> None:
    shop.failures = 2
    assert (await run("retry-and-limit.md", 1, shop))["response"].status == 200
    waits = [later - sooner for sooner, later in zip(shop.now, shop.now[1:], strict=False)]
    assert len(waits) == 2
    assert all(2 <= wait <= 3 for wait in waits)  # what the server says, and the dice


async def test_a_post_with_a_key_is_tried_again(shop: Shop, autojump_clock: trio.testing.MockClock) -> None:
    assert (await run("retry-and-limit.md", 2, shop))["response"].status == 201
    assert [content for _, _, content in shop.requests] == [b'{"item":7}'] * 2


async def test_requests_begin_at_the_rate_of_the_guide(
    shop: Shop, autojump_clock: trio.testing.MockClock
) -> None:
    await run("retry-and-limit.md", 3, shop)
    assert len(shop.now) == 20
    assert shop.now[4] - shop.now[0] < 0.01
    assert shop.now[-1] - shop.now[0] == pytest.approx(1.5, abs=0.01)


async def test_a_pace_is_one_requests_own(shop: Shop) -> None:
    assert (await run("retry-and-limit.md", 4, shop))["response"].status == 200


async def test_the_second_request_wins_when_the_first_is_late(
    shop: Shop, autojump_clock: trio.testing.MockClock
) -> None:
    assert (await run("retry-and-limit.md", 5, shop))["response"].text == "here\n"
    assert trio.current_time() == pytest.approx(0.2)


async def test_the_other_server_is_asked_when_the_mirror_fails(
    shop: Shop, autojump_clock: trio.testing.MockClock
) -> None:
    shop.failures = 1
    assert (await run("retry-and-limit.md", 6, shop))["response"].status == 200
    assert [target for _, target, _ in shop.requests] == ["/items", "/items"]
    assert trio.current_time() == 0  # it has failed: there is nothing to wait for


async def test_the_server_learns_what_is_left(shop: Shop, autojump_clock: trio.testing.MockClock) -> None:
    await run("retry-and-limit.md", 7, shop)
    assert shop.fields["request-deadline"] == "5000"


# ----------------------------------------------------------------------- upgrade.md


async def test_the_guides_client_speaks_with_the_guides_server() -> None:
    """The first block of the page is the server, the last one the client."""
    server, *_, client = blocks((FOLDER / "upgrade.md").read_text("utf-8"), "python")
    names: dict[str, Any] = {}
    exec(compile(server, "upgrade.md", "exec"), names)
    left = await run_source(client, names["app"])
    assert left["answer"] == b"hello"


# ----------------------------------------------------------------------- coming-from-httpx.md


def rows() -> list[tuple[str, str]]:
    """The table of words."""
    page = (FOLDER / "coming-from-httpx.md").read_text("utf-8")
    table = page.partition("## The words")[2].partition("\n##")[0]
    found = re.findall(r"^\| (.+?) \| (.+) \|$", table, re.MULTILINE)
    return [(theirs, ours) for theirs, ours in found if theirs != "there"]


def code_of(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize(("theirs", "ours"), rows(), ids=range(len(rows())))
def test_what_the_table_calls_ours_is_there(theirs: str, ours: str) -> None:
    options = ClientOptions.__annotations__.keys() | {"base_url", "headers"}
    of_requests = ContentOptions.__annotations__.keys()
    for code in code_of(ours):
        for name in re.findall(r"trio_http\.(?!testing)(\w+)", code):
            assert hasattr(trio_http, name)
        for name in re.findall(r"testing\.(\w+)", code):
            assert hasattr(trio_http.testing, name)
        for name in re.findall(r"\bclient\.(\w+)", code):
            assert hasattr(trio_http.Client, name)
        for name in re.findall(r"Client\((\w+)=|, (\w+)=trio_http.NetrcAuth", code):
            assert (name[0] or name[1]) in options
        for name in re.findall(r"^(\w+)=", code):
            assert name in of_requests
        for name in re.findall(r"\bresponse\.(\w+)", code):
            assert name in {*dir(trio_http.ReceivedResponse), *dir(trio_http.StreamedResponse)} | {
                "status", "reason", "headers", "body", "interim"
            }  # fmt: skip


@pytest.mark.parametrize(("theirs", "ours"), rows(), ids=range(len(rows())))
def test_who_writes_the_old_word_is_told_the_new_one(theirs: str, ours: str) -> None:
    for code in code_of(theirs):
        for name in re.findall(r"^response\.(\w+)", code):
            known = {*_WHOLE_WORDS, *_STREAMED_WORDS}
            assert name in known or hasattr(trio_http.ReceivedResponse, name)
        for name in re.findall(r"^(\w+)=", code):
            assert name in _OPTIONS
        for name in re.findall(r"^httpx\.(\w+)\(\)", code):
            assert name in trio_http._ELSEWHERE
