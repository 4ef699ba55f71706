"""A client and a handler, joined without sockets: as on a network, and with nothing left behind."""

from __future__ import annotations

import contextvars
import logging

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_http import HTTPException, Request, Response, ServerConfig
from trio_http.client import ClientConfig
from trio_http.testing import memory_pair, open_client

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


async def greet(request: Request) -> Response:
    match request.method, request.path.split("/")[1:]:
        case "GET", ["hello", name]:
            return Response(text=f"hello {name}\n")
        case "POST", ["echo"]:
            return Response(content=await request.read())
        case "GET", ["host"]:
            return Response(text=request.headers["host"])
    raise HTTPException(404)


async def test_relative_urls_lead_to_the_handler() -> None:
    async with open_client(greet) as client:
        assert (await client.get("/hello/you")).text == "hello you\n"
        assert (await client.post("/echo", content=b"content")).content == b"content"
        assert (await client.get("/nothing")).status == 404
        assert (await client.get("/host")).text == "testserver"
        assert (await client.get("http://elsewhere.example/host")).text == "elsewhere.example"


async def test_a_base_url_and_fields_are_for_every_request() -> None:
    async def show(request: Request) -> Response:
        return Response(json=[request.target, request.headers.get("x-api")])

    async with open_client(show, base_url="http://api.example/v1", headers={"x-api": "1"}) as client:
        assert (await client.get("/things")).json() == ["/v1/things", "1"]


async def test_a_connection_is_kept_and_given_back() -> None:
    seen: set[object] = set()

    async def note(request: Request) -> Response:
        seen.add(trio.lowlevel.current_task())
        return Response()

    async with open_client(note) as client:
        for _ in range(5):
            await client.get("/")
        assert client.statistics().idle == 1
    assert len(seen) == 1


async def test_an_exception_of_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_client(greet) as client:
            await client.get("/hello/you")
            raise KeyError("mine")


async def test_a_handlers_error_is_a_500_and_reaches_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: Request) -> Response:
        raise LookupError("nothing here")

    async with open_client(fail) as client:
        response = await client.get("/")
    assert response.status == 500
    (record,) = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


async def test_handlers_that_still_run_are_cancelled_when_the_block_ends(autojump_clock: MockClock) -> None:
    ended: list[float] = []

    async def wait(request: Request) -> Response:
        try:
            await trio.sleep(1000)
        finally:
            ended.append(trio.current_time())
        return Response()

    start = trio.current_time()
    async with open_client(wait) as client:
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(client.get, "/")
        assert client.statistics().leased == 0
    assert [time - start for time in ended] == [1, 1, 1]


async def test_a_request_in_a_shielded_clean_up_is_answered() -> None:
    async with open_client(greet) as client:
        with trio.CancelScope() as scope:
            try:
                scope.cancel()
                await trio.lowlevel.checkpoint()
            finally:
                with trio.move_on_after(5, shield=True):
                    answer = (await client.get("/hello/you")).text
    assert answer == "hello you\n"


async def test_cancelled_from_outside_it_closes_everything_and_passes_the_cancel_on() -> None:
    with trio.CancelScope() as scope:
        async with open_client(greet) as client:
            await client.get("/hello/you")
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert client.statistics().idle == 0


async def test_an_answer_that_nobody_reads_waits_for_its_reader(autojump_clock: MockClock) -> None:
    sent = 0

    async def endless(request: Request) -> None:
        nonlocal sent
        async with request.stream_response() as body:
            while True:
                await body.send_all(bytes(10_000))
                sent += 10_000

    async with open_client(endless) as client, client.stream("GET", "/") as response:
        await trio.sleep(1)
        assert 50_000 < sent < 200_000
        await response.body.receive_some()
        await trio.sleep(1)
        assert sent < 300_000


async def test_a_handler_does_not_see_its_clients_context() -> None:
    async def show(request: Request) -> Response:
        return Response(text=VARIABLE.get())

    async with open_client(show) as client:
        token = VARIABLE.set("the client's")
        try:
            assert (await client.get("/")).text == "unset"
        finally:
            VARIABLE.reset(token)


async def test_settings_reach_the_server_and_the_client() -> None:
    config = ServerConfig(server_name="test", max_body_bytes=3)
    async with open_client(greet, config=config, user_agent="tester") as client:
        assert (await client.get("/hello/you")).headers["server"] == "test"
        assert (await client.post("/echo", content=b"four")).status == 413
    with pytest.raises(TypeError):
        async with open_client(greet, no_such_option=1):
            pass  # pragma: no cover  # not reached
    async with open_client(greet, max_connections=1) as client:
        assert isinstance(client._config, ClientConfig)
        assert client._config.max_connections == 1


async def test_https_leads_to_the_handler_too_and_counts_as_secure() -> None:
    async def app(request: Request) -> Response:
        assert request.connection.peer_certificate is None
        assert (request.connection.tls is None) == (request.url.scheme == "http")
        match request.path:
            case "/login":
                return Response(headers={"set-cookie": "session=1; Secure"})
            case "/down":
                return Response(302, headers={"location": f"http://{request.headers['host']}/"})
        return Response(json=[str(request.url), request.headers.get("cookie")])

    async with open_client(app, base_url="https://testserver", cookies=True) as client:
        await client.get("/login")
        assert (await client.get("/")).json() == ["https://testserver/", "session=1"]
        redirected = await client.get("/down", follow_redirects=True)
        assert redirected.json() == ["http://testserver/", None]
        assert set(client.statistics().origins) == {"https://testserver", "http://testserver"}


async def test_a_dial_of_ones_own_takes_the_handlers_place() -> None:
    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        ours, theirs = memory_pair()
        await theirs.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
        return ours

    async with open_client(greet, dial=dial) as client:
        assert (await client.get("/hello/you")).text == "other"
