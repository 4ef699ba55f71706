"""Bad input: the right status and a close, nothing of it echoed, and the server lives."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from tests.server.support import GET, chunk, config, echo, head, hello, serve
from trio_http import Leniency, Limits, Request, Response, ServerConfig

SMALL = ServerConfig(limits=Limits(max_head_bytes=400, max_fields=5, max_target_bytes=50))

REFUSED = {
    "no request line": (400, b"<script>alert(1)</script>\r\n\r\n"),
    "a method that is no token": (400, b"G<ET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "a malformed Host": (400, b"GET / HTTP/1.1\r\nHost: a/<b>\r\n\r\n"),
    "a field name with a space": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX : <b>\r\n\r\n"),
    "a bare LF": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "a folded line": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n <b>\r\n\r\n"),
    "NUL in a value": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: \0<b>\r\n\r\n"),
    "both framings": (400, head("POST", "/", "Content-Length: 1", "Transfer-Encoding: chunked")),
    "two lengths": (400, head("POST", "/", "Content-Length: 1", "Content-Length: 2")),
    "a length that is no number": (400, head("POST", "/", "Content-Length: +1<b>")),
    "an end within the head": (400, b"GET / HTTP/1.1\r\nHos"),
    "a TLS hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "HTTP/0.9": (400, b"GET /<b>\r\n\r\n"),
    "a chunk size that is none": (400, head("POST", "/", "Transfer-Encoding: chunked") + b"<b>\r\n"),
    "a target that is too long": (414, head("GET", "/" + "b" * 50)),
    "a request line without an end": (414, b"GET /" + b"b" * 400),
    "an expectation that nobody knows": (417, head("GET", "/", "Expect: <b>")),
    "a head that is too long": (431, head("GET", "/", "X: " + "<b>" * 140)),
    "too many fields": (431, head("GET", "/", *["X: <b>"] * 5)),
    "a coding that is not implemented": (501, head("POST", "/", "Transfer-Encoding: gzip, chunked")),
    "another major version": (505, head("GET", version="2.0")),
    "another minor version": (505, head("GET", version="1.2")),
    "the HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_bad_input_is_answered_with_its_status_and_the_close(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, name: str
) -> None:
    status, data = REFUSED[name]
    peer = serve(nursery, echo, SMALL)
    await peer.send(data)
    await peer.stream.send_eof()
    answer = await peer.answer()

    assert (answer.status, answer.closes) == (status, True)
    assert answer.content.decode() == f"{status} {answer.reason}\n"
    assert b"<" not in answer.content
    assert "<" not in str(answer.fields)
    assert await peer.is_closed_by_server()
    await peer.finished.wait()


@pytest.mark.parametrize("name", [name for name in REFUSED if "end within" not in name])
async def test_bad_input_behind_good_is_answered_in_its_place(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, name: str
) -> None:
    status, data = REFUSED[name]
    peer = serve(nursery, echo, SMALL)
    await peer.send(head("HEAD"), GET, data)
    assert (await peer.answer(to="HEAD")).status == 200
    assert (await peer.answer()).status == 200
    assert (await peer.answer()).status == status
    assert await peer.is_closed_by_server()


async def test_what_follows_bad_input_is_not_served(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    handled = []

    async def handler(request: Request) -> Response:
        handled.append(request.target)
        return Response(200)

    peer = serve(nursery, handler)
    await peer.send(b"bad\r\n\r\n", GET, GET)
    assert (await peer.answer()).status == 400
    await peer.send(GET)
    assert await peer.is_closed_by_server()
    assert handled == []


async def test_a_chunk_extension_flood_is_refused(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, echo, ServerConfig(limits=Limits(max_chunk_extension_bytes=10)))
    await peer.send(head("POST", "/", "Transfer-Encoding: chunked"), b"1;a=bcdefghijk\r\nx\r\n0\r\n\r\n")
    assert (await peer.answer()).status == 400


async def test_too_many_trailers_are_refused(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = serve(nursery, echo, ServerConfig(limits=Limits(max_trailers=1)))
    request = head("POST", "/", "Transfer-Encoding: chunked") + chunk(b"x") + b"0\r\nA: 1\r\nB: 2\r\n\r\n"
    assert (await peer.ask(request)).status == 431


async def test_a_leniency_of_the_configuration_reaches_the_wire(nursery: trio.Nursery) -> None:
    peer = serve(nursery, hello, ServerConfig(lenient=frozenset([Leniency.BARE_LF])))
    assert (await peer.ask(b"GET / HTTP/1.1\nHost: a\n\n")).status == 200


async def test_bad_input_is_told_to_whoever_wants_to_know_and_never_as_an_error(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_http")
    peer = serve(nursery, hello)
    await peer.send(b"bad\r\n\r\n")
    await peer.answer()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "malformed request line b'bad'" in caplog.records[0].getMessage()


async def test_many_bad_clients_leave_a_good_one_alone(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    good = serve(nursery, hello, config())
    for _, data in REFUSED.values():
        bad = serve(nursery, hello, SMALL)
        await bad.send(data)
        await bad.stream.aclose()
        assert (await good.ask()).status == 200
        await bad.finished.wait()
