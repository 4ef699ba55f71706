"""Content codings undone (C38, C39, C40): each of them, what is cut or malformed or a bomb, what is left as
it came; and bodies that only the end delimits, cut under TLS.
"""

from __future__ import annotations

import functools
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from tests.client._web import contexts
from trio_http import ContentTooLarge, RequestFailed, ResponseIncomplete, ResponseInvalid
from trio_http.client import Client
from trio_http.messages import ContentEncoder, supported_codings
from trio_http.testing import memory_pair

TEXT = b"What is said once is said. " * 4000
CHAINS = [*((coding,) for coding in supported_codings()), ("deflate", "gzip"), ("gzip", "zstd", "br")]


def coded(content: bytes, *codings: str) -> bytes:
    for coding in codings:
        encoder = ContentEncoder(coding)
        content = encoder.encode(content) + encoder.finish()
    return content


def response(content: bytes, *codings: str, status: int = 200, framing: str = "length") -> bytes:
    """A response as its bytes."""
    lines = [b"HTTP/1.1 %d Whatever" % status]
    lines += [b"Content-Encoding: " + coding.encode() for coding in codings]
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(content))
    elif framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        half = len(content) // 2
        parts = [content[:half], content[half:]]
        content = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
    return b"\r\n".join(lines) + END + content


# ------------------------------------------ what comes out whole


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("codings", CHAINS, ids="+".join)
async def test_codings_are_undone_however_the_content_is_framed(
    codings: tuple[str, ...], framing: str
) -> None:
    """C38."""
    peer = answering(response(coded(TEXT, *codings), ", ".join(codings), framing=framing))
    if framing == "close":
        peer.send_eof()
    async with client_of(peer) as (client, _):
        answer = await client.get(URL)
        assert answer.content == TEXT
        assert answer.headers["content-encoding"] == ", ".join(codings)
        assert await in_pool(client) == (0, 0 if framing == "close" else 1)


async def test_the_codings_that_can_be_undone_are_asked_for() -> None:
    async with client_of(answering(OK, OK)) as (client, network):
        await client.get(URL)
        await client.get(URL, headers={"Accept-Encoding": "gzip;q=0.5"})
    asked = [line for line in network.heads().split(b"\r\n") if line.lower().startswith(b"accept-encoding")]
    offered = ", ".join(supported_codings()).encode()
    assert asked == [b"Accept-Encoding: " + offered, b"Accept-Encoding: gzip;q=0.5"]


async def test_a_client_that_does_not_decode_asks_for_no_coding() -> None:
    content = gzip.compress(TEXT)
    async with client_of(answering(response(content, "gzip")), decode=False) as (client, network):
        assert (await client.get(URL)).content == content
    assert b"accept-encoding" not in network.heads().lower()


async def test_decoding_is_a_matter_of_the_request_too() -> None:
    content = gzip.compress(TEXT)
    async with client_of(answering(*[response(content, "gzip")] * 3)) as (client, _):
        raw = await client.get(URL, decode=False)
        assert (raw.content, raw.headers["content-encoding"]) == (content, "gzip")
        async with client.stream("GET", URL, decode=False) as streamed:
            assert await streamed.read() == content
        assert (await client.get(URL)).content == TEXT


@pytest.mark.parametrize("codings", ["x-unknown", "gzip, x-unknown", "identity", "", "IDENTITY, identity"])
async def test_what_is_not_coded_or_in_a_way_unknown_to_us_comes_as_it_is(codings: str) -> None:
    content = gzip.compress(TEXT)
    async with client_of(answering(*[response(content, codings)] * 2)) as (client, _):
        answer = await client.get(URL)
        assert (answer.content, answer.headers["content-encoding"]) == (content, codings)
        async with client.stream("GET", URL) as streamed:
            assert await streamed.read() == content
        assert await in_pool(client) == (0, 1)


@pytest.mark.parametrize("codings", ["GZIP", "x-gzip", " gzip , ", ", gzip,,identity"])
async def test_a_coding_is_known_however_it_is_written(codings: str) -> None:
    async with client_of(answering(response(gzip.compress(TEXT), codings.strip()))) as (client, _):
        assert (await client.get(URL)).content == TEXT


async def test_codings_in_two_field_lines_are_one_list() -> None:
    content = coded(TEXT, "deflate", "gzip")
    async with client_of(answering(response(content, "deflate", "gzip"))) as (client, _):
        assert (await client.get(URL)).content == TEXT


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 200)])
async def test_no_content_needs_no_decoding(method: str, status: int) -> None:
    """The field then says how the content would be coded that is not there."""
    length = b"Content-Length: 1000\r\n" if method == "HEAD" else b"Content-Length: 0\r\n" * (status == 200)
    head = b"HTTP/1.1 %d X\r\nContent-Encoding: gzip\r\n%s\r\n" % (status, length)
    async with client_of(answering(head, head)) as (client, _):
        answer = await client.request(method, URL)
        assert (answer.status, answer.content) == (status, b"")
        async with client.stream(method, URL) as streamed:
            assert await streamed.read() == b""
        assert await in_pool(client) == (0, 1)


async def test_a_part_of_coded_content_is_not_decoded() -> None:
    """RFC 9110 §14.2: the range is one of the coded bytes."""
    part = gzip.compress(TEXT)[10:60]
    peer = answering(*[response(part, "gzip", status=206)] * 2)
    async with client_of(peer) as (client, _):
        answer = await client.get(URL, headers={"Range": "bytes=10-59"})
        assert (answer.content, answer.headers["content-encoding"]) == (part, "gzip")
        async with client.stream("GET", URL, headers={"Range": "bytes=10-59"}) as streamed:
            assert await streamed.read() == part


async def test_a_part_is_asked_for_without_codings() -> None:
    """A part of coded content is of no use to who does not know the coding of the whole."""
    async with client_of(answering(OK, OK)) as (client, network):
        await client.get(URL, headers={"Range": "bytes=10-"})
        assert b"Accept-Encoding: identity\r\n" in network.heads()
        await client.get(URL, headers={"Range": "bytes=10-", "Accept-Encoding": "gzip"})
        assert b"Accept-Encoding: gzip\r\n" in network.heads()


async def test_decoded_content_comes_as_soon_as_it_can_be_decoded() -> None:
    encoder = ContentEncoder("gzip")
    first = encoder.encode(b"first") + encoder.flush()
    rest = encoder.encode(b"second") + encoder.finish()
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    peer = answering(head % len(first + rest) + first)
    peer.wait_until_quiet().send(rest)
    async with client_of(peer) as (client, _), client.stream("GET", URL) as streamed:
        assert await streamed.body.receive_some() == b"first"
        assert not peer.finished
        assert await streamed.body.receive_some(3) == b"sec"
        assert await streamed.read() == b"ond"


# ------------------------------------------ cut and malformed


async def get(client: Client) -> Any:
    return await client.get(URL)


async def stream(client: Client) -> Any:
    async with client.stream("GET", URL) as streamed:
        return await streamed.read()


asking = pytest.mark.parametrize("ask", [get, stream])
Ask = Callable[[Client], Awaitable[Any]]


@asking
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("coding", supported_codings())
async def test_a_coded_stream_that_is_cut_is_incomplete(coding: str, framing: str, ask: Ask) -> None:
    """Though its framing is whole: the sender was cut off from its own source, and did not say so."""
    peer = answering(response(coded(TEXT, coding)[:-6], coding, framing=framing))
    if framing == "close":
        peer.send_eof()
    async with client_of(peer, answering(OK)) as (client, _):
        with pytest.raises(ResponseIncomplete, match=f"{coding}: it is incomplete") as caught:
            await ask(client)
        assert caught.value.facts.response_started
        assert await in_pool(client) == (0, 0)
        assert (await client.get(URL)).content == b"ok"


@asking
@pytest.mark.parametrize("coding", supported_codings())
async def test_malformed_content_is_invalid_and_its_connection_closed(coding: str, ask: Ask) -> None:
    peer = answering(response(b"\x07 this is nothing of the kind " * 10, coding))
    async with client_of(peer, answering(OK)) as (client, _):
        with pytest.raises(ResponseInvalid, match=f"content in coding {coding}"):
            await ask(client)
        assert await in_pool(client) == (0, 0)
        assert (await client.get(URL)).content == b"ok"


@asking
async def test_bytes_behind_the_coded_stream_are_no_content(ask: Ask) -> None:
    async with client_of(answering(response(gzip.compress(TEXT) + b"and more", "gzip"))) as (client, _):
        with pytest.raises(ResponseInvalid, match="gzip"):
            await ask(client)


@asking
@pytest.mark.parametrize("missing", [0, 5])
async def test_more_codings_than_anybody_applies_are_invalid(missing: int, ask: Ask) -> None:
    """It was an error of another kind, and the connection stayed leased."""
    whole = response(bytes(10), ", ".join(["gzip"] * 6))
    peer = answering(whole[: len(whole) - missing]).expect_end()
    async with client_of(peer, answering(OK)) as (client, _):
        with pytest.raises(ResponseInvalid, match="one of 6 applied in turn"):
            await ask(client)
        assert await in_pool(client) == (0, 0)
        assert (await client.get(URL)).content == b"ok"


async def test_codings_that_nobody_has_to_undo_do_no_harm() -> None:
    absurd = ", ".join(["gzip"] * 6)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: 10\r\n\r\n" % absurd.encode()
    async with client_of(answering(head, response(bytes(10), absurd))) as (client, _):
        assert (await client.head(URL)).status == 200
        async with client.stream("GET", URL) as streamed:
            assert streamed.status == 200
        assert await in_pool(client) == (0, 1), "the body was here, and nobody wanted it"


async def test_good_content_comes_before_the_error() -> None:
    encoder = ContentEncoder("gzip")
    whole = response(encoder.encode(b"good") + encoder.flush() + b"\xff" * 100, "gzip")
    peer = answering(whole[:-100]).wait_until_quiet().send(whole[-100:])
    async with client_of(peer) as (client, _), client.stream("GET", URL) as streamed:
        assert await streamed.body.receive_some() == b"good"
        for _ in range(2):
            with pytest.raises(ResponseInvalid, match="malformed"):
                await streamed.body.receive_some()


# ------------------------------------------ limits


def bomb(megabytes: int, *outer: str) -> bytes:
    squeezer = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    return coded(b"".join(squeezer.compress(zeros) for _ in range(megabytes)) + squeezer.flush(), *outer)


@asking
@pytest.mark.parametrize("outer", [(), ("gzip",)])
async def test_content_that_grows_out_of_bounds_is_refused(outer: tuple[str, ...], ask: Ask) -> None:
    """C39: 256 MiB from 260 kB, or from 1 kB, in bounded memory; also where the limit on content would allow
    it.
    """
    peer = answering(response(bomb(256, *outer), ", ".join(["gzip", *outer])))
    async with client_of(peer, max_content_bytes=1 << 30) as (client, _):
        tracemalloc.start()
        try:
            with pytest.raises(RequestFailed) as caught:
                await ask(client)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert await in_pool(client) == (0, 0)
    assert isinstance(caught.value, ResponseInvalid)
    assert "grow" in str(caught.value)
    assert peak < 120 << 20, "of what is within bounds, twice: in pieces and joined"


async def test_a_bomb_that_is_streamed_takes_no_memory() -> None:
    peer = answering(response(bomb(32), "gzip"))
    async with client_of(peer) as (client, _), client.stream("GET", URL) as streamed:
        tracemalloc.start()
        total = 0
        try:
            with pytest.raises(ResponseInvalid):
                while piece := await streamed.body.receive_some():
                    total += len(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert total >= 8 << 20
    assert peak < 2 << 20


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("content", [TEXT, bytes(range(256)) * 40], ids=["text", "noise"])
async def test_the_limit_on_content_counts_what_was_decoded(content: bytes, framing: str) -> None:
    """C40. Coded noise is longer than the noise itself."""
    answer = response(coded(content, "gzip"), "gzip", framing=framing)
    async with client_of(answering(answer, answer), max_content_bytes=len(content)) as (client, _):
        assert (await client.get(URL)).content == content
        async with client.stream("GET", URL) as streamed:
            with pytest.raises(ContentTooLarge):
                await streamed.read(len(content) - 1)
        assert await in_pool(client) == (0, 0)


async def test_one_byte_more_than_the_limit_is_too_much() -> None:
    answer = response(coded(TEXT, "gzip"), "gzip")
    async with client_of(answering(answer), max_content_bytes=len(TEXT) - 1) as (client, _):
        with pytest.raises(ContentTooLarge, match="max_content_bytes"):
            await client.get(URL)
        assert await in_pool(client) == (0, 0)


async def test_noise_of_just_the_limit_is_not_too_much_though_it_came_longer() -> None:
    noise = bytes((at * at * 2654435761 >> 7) & 255 for at in range(2000))
    content = coded(noise, "gzip")
    assert len(content) > len(noise)
    async with client_of(answering(response(content, "gzip")), max_content_bytes=len(noise)) as (client, _):
        assert (await client.get(URL)).content == noise


# ------------------------------------------ cut under TLS, where only the end tells

HEAD = b"HTTP/1.1 200 OK\r\n%s\r\n"
CODED = gzip.compress(TEXT)


async def play(stream: trio.abc.Stream, answer: bytes, *, alert: bool) -> None:
    """Be a server under TLS that gives one answer, and ends with or without saying that this was all."""
    # Made compatible with HTTPS, it would never say that this was all.
    tls = trio.SSLStream(stream, contexts()[1], server_side=True)
    received = b""
    while END not in received:
        received += await tls.receive_some()
    await tls.send_all(answer)
    if alert:
        await tls.aclose()  # with its closure alert
    else:
        await stream.aclose()


@asynccontextmanager
async def in_memory(answer: bytes, *, alert: bool) -> AsyncIterator[tuple[Client, str]]:
    """A client and a URL of that server."""
    async with trio.open_nursery() as nursery:

        async def dial(*_: Any) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = memory_pair()
            nursery.start_soon(functools.partial(play, theirs, answer, alert=alert))
            return ours

        async with Client(dial=dial, ssl_context=contexts()[0]) as client:
            yield client, "https://a.example/"


@asynccontextmanager
async def over_tcp(answer: bytes, *, alert: bool) -> AsyncIterator[tuple[Client, str]]:
    async with trio.open_nursery() as nursery:
        serve = functools.partial(play, answer=answer, alert=alert)
        listeners = await nursery.start(functools.partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        pinned: dict[Any, str] = {"a.example": "127.0.0.1"}
        async with Client(ssl_context=contexts()[0], pinned_addresses=pinned) as client:
            yield client, f"https://a.example:{port}/"
        nursery.cancel_scope.cancel()


ways = pytest.mark.parametrize("way", [in_memory, pytest.param(over_tcp, marks=pytest.mark.interop)])


@ways
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("fields", "content"), [(b"", TEXT[:5000]), (b"Content-Encoding: gzip\r\n", CODED)], ids=["plain", "gzip"]
)
async def test_a_body_that_only_the_end_delimits_is_incomplete_without_a_closure_alert(
    way: Any, streams: bool, fields: bytes, content: bytes
) -> None:
    """RFC 9112 §9.8: anybody on the way can end a connection; only the server can say that it is the end.
    Also where the coding says that it is whole.
    """
    async with way(HEAD % fields + content, alert=False) as (client, url):
        with pytest.raises(ResponseIncomplete, match="closure alert") as caught:
            if streams:
                async with client.stream("GET", url) as streamed:
                    await streamed.read()
            await client.get(url)
        assert caught.value.facts.response_started


@ways
async def test_a_body_that_only_the_end_delimits_is_whole_with_a_closure_alert(way: Any) -> None:
    async with way(HEAD % b"" + TEXT[:5000], alert=True) as (client, url):
        assert (await client.get(url)).content == TEXT[:5000]
    async with way(HEAD % b"Content-Encoding: gzip\r\n" + CODED, alert=True) as (client, url):
        assert (await client.get(url)).content == TEXT


@ways
@pytest.mark.parametrize("fields", [b"Content-Length: 5000\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_body_that_says_its_end_needs_no_closure_alert(way: Any, fields: bytes) -> None:
    content = TEXT[:5000]
    framed = content if b"Length" in fields else b"1388\r\n%s\r\n0\r\n\r\n" % content
    async with way(HEAD % fields + framed, alert=False) as (client, url):
        assert (await client.get(url)).content == content
    async with way(HEAD % fields + framed[:-6], alert=True) as (client, url):
        with pytest.raises(ResponseIncomplete):
            await client.get(url)


async def test_a_cancel_is_delivered_while_decoded_content_is_at_hand(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It used to wait until the decoder needed more, which of a bomb is never."""
    coded = gzip.compress(bytes(1_000_000))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(coded)
    async with client_of(answering(head + coded)) as (client, _), client.stream("GET", URL) as response:
        assert await response.body.receive_some()
        with trio.CancelScope() as scope:
            scope.cancel()
            await response.body.receive_some()
        assert scope.cancelled_caught
        assert await response.body.receive_some(), "nothing was lost, and more is there"
