"""One exchange after another: persistence, pipelining, HEAD, HTTP/1.0, interim responses, contexts."""

from __future__ import annotations

import collections
import contextvars
import socket

import pytest
import trio
import trio.testing

from tests.server.support import CLOSING_GET, GET, Peer, chunk, config, echo, head, hello, post, serve
from trio_http import Request, Response, ServerConfig, serve_connection


async def test_a_request_is_answered_with_the_handlers_response(nursery: trio.Nursery) -> None:
    answer = await serve(nursery, hello).ask(head("GET", "/some%20where?x=1"))

    assert (answer.status, answer.reason) == (200, "OK")
    assert answer.content == b"GET /some%20where?x=1\n"
    assert answer.get("content-type") == "text/plain; charset=utf-8"
    assert answer.get("server") == "trio_http"
    assert answer.get("connection") is None


async def test_a_connection_carries_exchange_after_exchange(nursery: trio.Nursery) -> None:
    peer = serve(nursery, echo)
    for number in range(5):
        content = b"%d" % number * number
        answer = await peer.ask(post(content))
        assert answer.content == content
        assert not answer.closes


async def test_a_request_may_come_byte_by_byte(nursery: trio.Nursery) -> None:
    peer = serve(nursery, echo)
    request = head("POST", "/", "Transfer-Encoding: chunked") + chunk(b"abc") + chunk(b"de") + chunk(b"")
    for byte in request + request:
        await peer.send(bytes([byte]))
        await trio.testing.wait_all_tasks_blocked()
    assert (await peer.answer()).content == b"abcde"
    assert (await peer.answer()).content == b"abcde"


async def test_pipelined_requests_are_answered_in_order_and_handled_one_at_a_time(
    nursery: trio.Nursery,
) -> None:
    running = 0

    async def handler(request: Request) -> Response:
        nonlocal running
        running += 1
        assert running == 1
        await trio.testing.wait_all_tasks_blocked()
        running -= 1
        return Response(200, await request.read() or request.path.encode())

    peer = serve(nursery, handler)
    await peer.send(head("GET", "/first"), post(b"second"), head("HEAD", "/third"), head("GET", "/fourth"))

    assert (await peer.answer()).content == b"/first"
    assert (await peer.answer()).content == b"second"
    assert (await peer.answer(to="HEAD")).get("content-length") == "6"
    assert (await peer.answer()).content == b"/fourth"


async def test_a_client_that_pipelines_gives_other_tasks_their_turn(nursery: trio.Nursery) -> None:
    """Over a socket neither the buffered head nor the answer has to wait, so a turn must be taken."""
    turns = 0
    seen = []

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def handler(request: Request) -> Response:
        seen.append(turns)
        return Response(200)

    left, right = socket.socketpair()
    client, server = (trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in (left, right))
    async with client:
        peer = serve(nursery, handler, streams=(client, server))
        nursery.start_soon(other)
        await peer.send(GET * 20)
        for _ in range(20):
            await peer.answer()
    # Within a batch trio's order is random, so the same count may be seen twice in a row, never three times.
    assert max(collections.Counter(seen).values()) <= 2


async def test_the_answer_to_head_has_the_fields_of_the_answer_to_get_and_no_content(
    nursery: trio.Nursery,
) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, html="<p>content</p>")

    peer = serve(nursery, handler, config())
    to_head = await peer.ask(head("HEAD"))
    to_get = await peer.ask(head("GET"))

    assert to_head.fields == to_get.fields
    assert to_get.content == b"<p>content</p>"


@pytest.mark.parametrize("status", [204, 304])
async def test_a_response_that_has_no_content_by_its_status_has_no_length_either(
    nursery: trio.Nursery, status: int
) -> None:
    async def handler(request: Request) -> Response:
        return Response(status)

    peer = serve(nursery, handler)
    for _ in range(2):
        answer = await peer.ask()
        assert answer.status == status
        assert answer.get("content-length") is None
        assert answer.get("transfer-encoding") is None


async def test_a_response_with_empty_content_says_so(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        return Response(201)

    assert (await serve(nursery, handler).ask()).get("content-length") == "0"


async def test_the_handlers_own_fields_are_sent_as_written_and_not_doubled(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        headers = [("X-Case", "Kept"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("server", "mine")]
        return Response(200, headers=headers, reason="Fine")

    answer = await serve(nursery, handler, config()).ask()

    assert answer.reason == "Fine"
    assert sorted(answer.fields) == [
        ("Content-Length", "0"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Case", "Kept"),
        ("server", "mine"),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ persistence


async def test_a_client_that_asks_for_the_close_gets_it(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello)
    assert (await peer.ask(CLOSING_GET)).closes
    assert await peer.is_closed_by_server()
    await peer.finished.wait()


async def test_a_request_behind_connection_close_is_not_served(nursery: trio.Nursery) -> None:
    handled = []

    async def handler(request: Request) -> Response:
        handled.append(request.target)
        return Response(200)

    peer = serve(nursery, handler)
    await peer.send(CLOSING_GET, head("GET", "/second"))
    await peer.answer()
    await peer.stream.send_eof()

    assert await peer.is_closed_by_server()
    assert handled == ["/"]


async def test_a_handler_may_ask_for_the_close(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, headers={"Connection": "close"})

    peer = serve(nursery, handler)
    assert (await peer.ask()).closes
    assert await peer.is_closed_by_server()


async def test_a_client_of_1_0_gets_one_answer_and_the_close(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello)
    answer = await peer.ask(head("GET", version="1.0"))
    assert answer.content == b"GET /\n"
    assert await peer.is_closed_by_server()


async def test_a_client_of_1_0_that_asks_to_be_kept_is_kept_and_told_so(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello)
    for _ in range(2):
        answer = await peer.ask(head("GET", "/", "Connection: keep-alive", version="1.0"))
        assert answer.content == b"GET /\n"
        assert answer.get("connection") == "keep-alive"


async def test_a_client_that_closes_between_exchanges_ends_the_service(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello)
    await peer.ask()
    await peer.stream.aclose()
    await peer.finished.wait()


async def test_a_client_that_closes_without_a_word_ends_the_service(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello)
    await peer.stream.aclose()
    await peer.finished.wait()


async def test_an_empty_line_before_a_request_is_ignored(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello)
    await peer.ask(post(b"x"))
    assert (await peer.ask(b"\r\n" + GET)).status == 200


async def test_a_proposed_upgrade_that_the_handler_does_not_take_is_declined(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello)
    for _ in range(2):
        answer = await peer.ask(head("GET", "/", "Connection: upgrade", "Upgrade: echo"))
        assert (answer.status, answer.closes) == (200, False)


async def test_connect_is_refused_without_asking_the_handler(nursery: trio.Nursery) -> None:
    """A 200 would announce a tunnel that nobody serves; one with content used to end in an abort and a
    traceback."""

    async def handler(request: Request) -> Response:
        assert request.method != "CONNECT"
        return Response(200)

    peer = serve(nursery, handler)
    answer = await peer.ask(head("CONNECT", "other.example:443"))
    assert (answer.status, answer.closes) == (501, True)  # what follows may be meant for the tunnel
    assert await peer.is_closed_by_server()


# ------------------------------------------------------------------------------------------ interim responses


async def test_an_interim_response_comes_before_the_final_one(nursery: trio.Nursery) -> None:
    sent = trio.Event()

    async def handler(request: Request) -> Response:
        await request.send_informational(103, headers={"Link": "</style.css>; rel=preload"})
        await sent.wait()
        await request.send_informational(199)
        return Response(200, text="done")

    peer = serve(nursery, handler)
    await peer.send(GET)
    early = await peer.head()
    sent.set()
    answer = await peer.answer()

    assert (early.status, early.fields) == (103, [("Link", "</style.css>; rel=preload")])
    assert [interim.status for interim in answer.interims] == [199]
    assert answer.content == b"done"
    assert (await peer.ask()).interims != []


async def test_a_client_of_1_0_is_sent_no_interim_response(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        await request.send_informational(103)
        return Response(200)

    assert (await serve(nursery, handler).ask(head("GET", version="1.0"))).interims == []


@pytest.mark.parametrize("status", [99, 101, 200])
async def test_an_interim_response_with_another_status_is_refused(nursery: trio.Nursery, status: int) -> None:
    async def handler(request: Request) -> Response:
        with pytest.raises(ValueError):
            await request.send_informational(status)
        return Response(200)

    assert (await serve(nursery, handler).ask()).status == 200


# --------------------------------------------------------------------------------------------------- contexts

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


async def test_context_variables_are_fresh_in_each_request(nursery: trio.Nursery) -> None:
    async def handler(request: Request) -> Response:
        before = VARIABLE.get()
        VARIABLE.set(request.path)
        await request.read()
        return Response(200, text=f"{before} then {VARIABLE.get()}")

    VARIABLE.set("the server's")
    peer = serve(nursery, handler)
    await peer.send(head("GET", "/a"), head("GET", "/b"))
    assert (await peer.answer()).content == b"the server's then /a"
    assert (await peer.answer()).content == b"the server's then /b"
    assert (await peer.ask(head("GET", "/c"))).content == b"the server's then /c"


async def test_a_handlers_context_does_not_outlive_the_connection(nursery: trio.Nursery) -> None:
    """It once stayed behind in the task that had called `serve_connection`."""

    async def handler(request: Request) -> Response:
        VARIABLE.set("the handler's")
        return Response(200)

    client, server = trio.testing.memory_stream_pair()
    VARIABLE.set("mine")
    await client.send_all(CLOSING_GET)
    await serve_connection(handler, server)

    assert VARIABLE.get() == "mine"
    assert (await Peer(client).answer()).status == 200


async def test_serving_something_that_is_no_stream_is_refused() -> None:
    with pytest.raises((TypeError, ExceptionGroup)) as caught:
        await serve_connection(hello, object())  # type: ignore[arg-type]
    assert isinstance(caught.value, TypeError)


async def test_cancelling_the_service_closes_the_connection() -> None:
    client, server = trio.testing.memory_stream_pair()

    async def handler(request: Request) -> Response:
        scope.cancel()
        await trio.sleep_forever()
        raise AssertionError

    with trio.CancelScope() as scope:
        await client.send_all(GET)
        await serve_connection(handler, server, config=ServerConfig())

    assert scope.cancelled_caught
    assert await client.receive_some() == b""
