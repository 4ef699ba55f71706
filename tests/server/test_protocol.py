"""HTTP/1.1 to its corners: both directions at once, interim responses, trailers both ways, a handler's tasks.

What the plain exchange, bodies, streaming and refusals have tests for stands there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import trio
import trio.testing

from tests.server.support import (
    CLOSING_GET,
    GET,
    Handler,
    Peer,
    chunk,
    echo,
    head,
    hello,
    post,
    serve,
    watched,
)
from trio_http import HTTPException, Request, Response, ServerConfig, serve_connection

CHUNKED_POST = head("POST", "/", "Transfer-Encoding: chunked")


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


# ------------------------------------------------------------------------------------------ both ways at once


async def test_an_answer_can_flow_while_the_request_does(nursery: trio.Nursery) -> None:
    """S34: the client sends each piece only when it has the answer to the one before."""

    async def handler(request: Request) -> None:
        async with request.stream_response() as body:
            async for piece in request.body:
                await body.send_all(piece.upper())

    peer = serve(nursery, handler)
    await peer.send(CHUNKED_POST)
    assert (await peer.head()).status == 200
    for piece in (b"one", b"two", b"three"):
        await peer.send(chunk(piece))
        assert await peer.take(len(chunk(piece))) == chunk(piece.upper())
    await peer.send(chunk(b""))
    assert await peer.take(5) == b"0\r\n\r\n"


async def test_two_tasks_of_a_handler_may_read_and_send_side_by_side(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> None:
        received = 0

        async def read() -> None:
            nonlocal received
            async for piece in request.body:
                received += len(piece)

        async with request.stream_response() as body:
            async with trio.open_nursery() as both:
                both.start_soon(read)
                for _ in range(20):
                    await body.send_all(b"down" * 10_000)
            await body.send_all(b"%d" % received)

    peer = serve(nursery, handler)
    async with trio.open_nursery() as both:
        both.start_soon(peer.send, post(b"up" * 400_000))
        answer = await peer.answer()
    assert answer.content == b"down" * 200_000 + b"800000"
    # When the head went out, more was unread than is worth waiting for.
    assert answer.closes


async def test_two_tasks_that_send_at_once_are_told_and_the_answer_does_not_look_whole(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response() as body, trio.open_nursery() as both:
            for _ in range(2):
                both.start_soon(body.send_all, b"x" * 100)

    peer = serve(nursery, handler, streams=trio.testing.lockstep_stream_pair())
    await peer.send(GET)
    assert not (await peer.rest()).endswith(b"0\r\n\r\n")
    assert "BusyResourceError" in str(errors(caplog)[0].exc_info)


# ------------------------------------------------------------------------------------------ interim responses


async def test_several_interim_responses_of_all_kinds_come_in_order(nursery: trio.Nursery) -> None:
    """S33, A38."""

    async def handler(request: Request) -> Response:
        await request.send_informational(102)
        await request.send_informational(
            103, headers=[("Link", "</a.css>; rel=preload"), ("Link", "</b.js>")]
        )
        await request.send_informational(103, headers={"Link": "</c>"})
        return Response(200)

    peer = serve(nursery, handler)
    for _ in range(2):
        answer = await peer.ask()
        assert [interim.status for interim in answer.interims] == [102, 103, 103]
        assert [value for _, value in answer.interims[1].fields] == ["</a.css>; rel=preload", "</b.js>"]
        assert all(interim.framing == "none" for interim in answer.interims)


async def test_an_interim_response_behind_the_final_head_is_refused(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response() as body:
            await body.send_all(b"x")
            await request.send_informational(103)

    peer = serve(nursery, handler)
    await peer.send(GET)
    await peer.rest()
    assert "LocalProtocolError" in str(errors(caplog)[0].exc_info)


async def test_early_hints_are_no_100_continue(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        await request.send_informational(103)
        return Response(200, await request.read())

    peer = serve(nursery, handler)
    await peer.send(head("POST", "/", "Content-Length: 3", "Expect: 100-continue"))
    assert [(await peer.head()).status, (await peer.head()).status] == [103, 100]
    await peer.send(b"abc")
    assert (await peer.answer()).content == b"abc"


async def test_a_handler_may_say_100_continue_itself_and_it_is_not_said_twice(nursery: trio.Nursery) -> None:
    """S29, A36."""

    async def handler(request: Request) -> Response:
        await request.send_informational(100)
        return Response(200, await request.read())

    peer = serve(nursery, handler)
    await peer.send(head("POST", "/", "Content-Length: 3", "Expect: 100-continue"))
    assert (await peer.head()).status == 100
    await peer.send(b"abc")
    answer = await peer.answer()
    assert (answer.interims, answer.content) == ([], b"abc")


async def test_behind_a_final_head_no_100_continue_comes_and_the_body_can_still_be_read(
    nursery: trio.Nursery,
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response() as body:
            await body.send_all(await request.read())

    peer = serve(nursery, handler)
    await peer.send(head("POST", "/", "Content-Length: 3", "Expect: 100-continue"))
    answer = await peer.head()
    assert (answer.status, answer.closes) == (200, True)
    await peer.send(b"abc")
    assert await peer.rest() == chunk(b"abc") + chunk(b"")


async def test_the_next_request_expects_for_itself(nursery: trio.Nursery) -> None:
    """A connection that was once told to continue."""
    asked = []

    async def handler(request: Request) -> Response:
        asked.append(request.path)
        if request.path == "/unread":
            return Response(403)
        return Response(200, await request.read())

    peer = serve(nursery, handler)
    for _ in range(2):
        await peer.send(head("POST", "/read", "Content-Length: 3", "Expect: 100-continue"))
        assert (await peer.head()).status == 100
        await peer.send(b"abc")
        assert (await peer.answer()).content == b"abc"
    await peer.send(head("POST", "/unread", "Content-Length: 3", "Expect: 100-continue"))
    answer = await peer.answer()
    assert (answer.interims, answer.status, answer.closes) == ([], 403, True)
    assert await peer.is_closed_by_server()


# --------------------------------------------------------------------------------------------------- trailers


async def test_trailers_go_both_ways_in_one_exchange(nursery: trio.Nursery) -> None:
    """S31, S32: each side sends its digest behind what it covers."""

    async def handler(request: Request) -> None:
        async with request.stream_response(headers={"Trailer": "X-Digest"}) as body:
            digest = hashlib.sha256()
            async for piece in request.body:
                digest.update(piece)
                await body.send_all(piece * 2)
            good = request.body.trailers["x-digest"] == digest.hexdigest()
            body.trailers = [("X-Good", str(good)), ("X-Digest", hashlib.sha256(b"abcabc").hexdigest())]

    peer = serve(nursery, handler)
    digest = hashlib.sha256(b"abc").hexdigest().encode()
    await peer.send(CHUNKED_POST, chunk(b"abc"), b"0\r\nX-Digest: ", digest, b"\r\n\r\n")
    answer = await peer.answer()
    assert answer.content == b"abcabc"
    assert answer.trailers == [("X-Good", "True"), ("X-Digest", hashlib.sha256(b"abcabc").hexdigest())]


# --------------------------------------------------------------------------------------- methods and versions


async def test_options_for_the_server_as_a_whole_reaches_the_handler(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        assert (request.method, request.target, request.path, request.query) == ("OPTIONS", "*", "*", "")
        with pytest.raises(ValueError, match="names no resource"):
            _ = request.url
        return Response(204, headers={"Allow": "GET, HEAD, OPTIONS"})

    answer = await serve(nursery, handler).ask(head("OPTIONS", "*"))
    assert (answer.status, answer.get("allow")) == (204, "GET, HEAD, OPTIONS")


async def test_a_star_is_for_options_alone(nursery: trio.Nursery) -> None:
    assert (await serve(nursery, hello).ask(head("GET", "*"))).status == 400


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_head_is_answered_by_the_handler_of_get(nursery: trio.Nursery, status: int) -> None:
    """S40: also where that fails, and the next answer is where it belongs."""

    async def handler(request: Request) -> Response:
        if status == 500:
            raise RuntimeError
        if status == 404:
            raise HTTPException(404)
        return Response(200, text="content")

    peer = serve(nursery, handler)
    await peer.send(head("HEAD"), GET)
    without, whole = await peer.answer("HEAD"), await peer.answer("GET")
    assert without.status == whole.status == status
    assert without.get("content-length") == whole.get("content-length") == str(len(whole.content))
    assert without.content == b""


async def test_a_streamed_answer_of_known_length_keeps_a_1_0_connection(nursery: trio.Nursery) -> None:
    """S39: only a body that the close delimits ends it."""

    async def handler(request: Request) -> None:
        headers = {"Content-Length": "3"} if request.path == "/known" else {}
        async with request.stream_response(headers=headers) as body:
            await body.send_all(b"abc")

    peer = serve(nursery, handler)
    for _ in range(2):
        answer = await peer.ask(head("GET", "/known", "Connection: keep-alive", version="1.0"))
        assert (answer.get("connection"), answer.framing, answer.content) == ("keep-alive", "length", b"abc")
    answer = await peer.ask(head("GET", "/unknown", "Connection: keep-alive", version="1.0"))
    assert (answer.framing, answer.content) == ("close", b"abc")


async def test_methods_that_nobody_has_heard_of_reach_the_handler(nursery: trio.Nursery) -> None:
    """What is not implemented only the application knows (RFC 9110 §9.1)."""
    assert (await serve(nursery, hello).ask(head("BREW", "/pot"))).content == b"BREW /pot\n"


# ------------------------------------------------------------------------------------ the handler's own tasks


async def test_the_handlers_tasks_end_before_its_answer_goes_out(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """N8: the nursery of a request is the handler's own."""
    parts: dict[str, int] = {}

    async def fetch(name: str, seconds: int) -> None:
        await trio.sleep(seconds)
        parts[name] = seconds

    async def handler(request: Request) -> Response:
        async with trio.open_nursery() as children:
            children.start_soon(fetch, "a", 3)
            children.start_soon(fetch, "b", 2)
        return Response(200, json=parts)

    began = trio.current_time()
    answer = await serve(nursery, handler).ask()
    assert json.loads(answer.content) == {"a": 3, "b": 2}
    assert trio.current_time() == pytest.approx(began + 3, abs=0.5)


@pytest.mark.parametrize("streams", [False, True])
async def test_a_failed_child_fails_the_request_and_takes_its_siblings_along(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, streams: bool
) -> None:
    """N8: a 500 if the head has not gone, else an abort; either way told once."""
    ended = []

    async def fail() -> None:
        await trio.testing.wait_all_tasks_blocked()
        raise LookupError("the child's")

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("sibling")

    async def children() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(fail)

    async def handler(request: Request) -> Response | None:
        if not streams:
            await children()
            return Response(200)
        async with request.stream_response() as body:
            await body.send_all(b"part")
            await children()
        return None

    peer = serve(nursery, handler)
    await peer.send(CLOSING_GET)
    answer = await peer.rest()
    assert answer.startswith(b"HTTP/1.1 200" if streams else b"HTTP/1.1 500")
    assert not answer.endswith(b"0\r\n\r\n")
    assert ended == ["sibling"]
    (record,) = errors(caplog)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ExceptionGroup)


async def test_a_disconnect_cancels_the_handlers_tasks(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """N8."""
    ended = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_effective_deadline() < trio.current_time())

    async def handler(request: Request) -> Response:
        async with trio.open_nursery() as children:
            for _ in range(3):
                children.start_soon(child)
        return Response(200)

    peer = serve(nursery, handler)
    await peer.send(GET)
    await trio.sleep(1)
    await peer.stream.aclose()
    await peer.finished.wait()
    assert ended == [True] * 3


async def test_what_is_to_outlive_a_request_goes_into_a_nursery_around_the_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """N8, A44: neither delays the answer nor is cancelled with the request, and the author can see which."""
    mails = []

    async def send_mail(name: str) -> None:
        await trio.sleep(10)
        mails.append(name)

    async with trio.open_nursery() as background:

        async def handler(request: Request) -> Response:
            background.start_soon(send_mail, request.path)
            return Response(202)

        async with trio.open_nursery() as connections:
            peer = serve(connections, handler)
            began = trio.current_time()
            assert (await peer.ask(head("GET", "/you"))).status == 202
            assert trio.current_time() - began < 1
            await peer.stream.aclose()
            await peer.finished.wait()
        assert mails == []
    assert mails == ["/you"]


# --------------------------------------------------------------------------------------------- one among many


async def test_a_crash_in_one_connection_leaves_a_streaming_one_alone(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """S53."""
    go_on = trio.Event()

    async def handler(request: Request) -> None:
        if request.path == "/crash":
            raise BaseExceptionGroup("worse", [RuntimeError(), RecursionError(), MemoryError()])
        async with request.stream_response() as body:
            await body.send_all(b"before ")
            await go_on.wait()
            await body.send_all(b"after")

    async with trio.open_nursery() as server:
        one, other = serve(server, handler), serve(server, handler)
        await one.send(GET)
        assert (await other.ask(head("GET", "/crash"))).status == 500
        go_on.set()
        assert (await one.answer()).content == b"before after"
        await one.stream.aclose()
        await other.stream.aclose()


GUIDE = Path(__file__).resolve().parents[2] / "docs/how-to/start-tasks.md"


async def test_the_guides_tasks_do_as_it_says(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs: list[dict[str, Any]] = []
    for source in re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        programs.append({})
        exec(compile(source, str(GUIDE), "exec"), programs[-1])
    within, beyond = programs
    assert json.loads((await serve(nursery, within["app"]).ask()).content) == {"here": 4, "there": 5}

    served, sent = trio.Event(), []

    async def send_mail(address: str) -> None:
        await trio.sleep(1)
        sent.append(address)

    async def serve_one(app: Handler, port: int) -> None:
        async with trio.open_nursery() as connections:
            peer = serve(connections, app)
            assert (await peer.ask(head("GET", "/?you@example.org"))).status == 202
            await peer.stream.aclose()
            assert sent == []
            served.set()

    beyond["send_mail"] = send_mail
    monkeypatch.setattr("trio_http.serve_tcp", serve_one)
    await beyond["main"]()
    assert (served.is_set(), sent) == (True, ["you@example.org"])


PIECES = st.sampled_from(
    [
        GET, CLOSING_GET, CHUNKED_POST, post(b"12345"), chunk(b"abc"), chunk(b""), head("HEAD"),
        b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"Upgrade: echo\r\nConnection: upgrade\r\n",
        b"Expect: 100-continue\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
        b"\r\n", b"\r\n\r\n", b"ffffffffffffffffff\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        head("GET", "/", "Connection: upgrade", "Upgrade: echo"), head("OPTIONS", "*"),
        b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
    ]
)  # fmt: skip


@hypothesis.given(data=st.lists(st.one_of(PIECES, st.binary(max_size=30)), max_size=8))
@hypothesis.settings(max_examples=300, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_no_bytes_at_all_do_more_than_end_their_own_connection(
    data: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """A29, A45: whatever it is, and wherever it is cut, the server returns and nothing is its or a handler's
    error."""
    caplog.clear()

    async def handler(request: Request) -> Response | None:
        if request.upgrade_protocols:
            async with request.upgrade(request.upgrade_protocols[0]) as stream:
                async for received in stream:
                    await stream.send_all(received)
            return None
        if request.method == "CONNECT":
            raise HTTPException(405)
        return await echo(request)

    async def main() -> None:
        client, server = watched()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: serve_connection(handler, server, config=ServerConfig(connect=len(data) % 2 == 0))
            )
            peer = Peer(client)
            with contextlib.suppress(trio.BrokenResourceError):  # it was closed already
                for part in data:
                    await peer.send(part)
                    await trio.testing.wait_all_tasks_blocked()
                await client.send_eof()
            await peer.rest()
            await client.aclose()
        assert server.ending in ("closed", "aborted")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert errors(caplog) == []
