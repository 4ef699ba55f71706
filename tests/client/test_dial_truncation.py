"""RFC 9112 §9.8: content that was cut under TLS never looks complete, whatever carries the TLS.

A peer that ends its stream by a closure alert says that this was all. Without one, anybody on the way may
have ended it. trio's own streams hide the difference in the mode that is compatible with HTTPS.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
import trio

from tests.client._loopback import head_from, listening, serving, trusting, tunnelling
from trio_http import RequestFailed, ResponseIncomplete
from trio_http.client import Client, Proxy

pytestmark = pytest.mark.interop

HEAD = b"HTTP/1.1 200 OK\r\n"

#: What comes before the end of the stream: by its framing, and whether it is the whole of it.
ANSWERS = {
    "close-delimited": HEAD + b"\r\n" + b"content",
    "length": HEAD + b"Content-Length: 9\r\n\r\n" + b"content",
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"7\r\ncontent\r\n",
    "last chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"7\r\ncontent\r\n0\r\n",
}


@contextlib.asynccontextmanager
async def ending(answer: bytes, *, alert: bool) -> AsyncIterator[int]:
    """An origin under TLS that gives one answer and ends the stream, with or without an alert before FIN."""
    context = serving()

    async def play(stream: trio.SocketStream) -> None:
        # What is compatible with HTTPS closes without an alert.
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=not alert)
        await head_from(tls)
        await tls.send_all(answer)
        await tls.aclose()

    async with listening(play) as port:
        yield port


# ----------------------------------------------------------------------------------------- ways to have TLS


@contextlib.asynccontextmanager
async def over_a_socket() -> AsyncIterator[Client]:
    async with Client(ssl_context=trusting()) as client:
        yield client


def over_a_dial(*, own_tls: bool | None) -> Callable[[], contextlib.AbstractAsyncContextManager[Client]]:
    """By a stream of the caller's, under our TLS (None), or under trio's, with its mode for HTTPS or not."""

    @contextlib.asynccontextmanager
    async def client() -> AsyncIterator[Client]:
        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            if own_tls is None:
                return trio.StapledStream(stream, stream)
            return trio.SSLStream(stream, trusting(), server_hostname="localhost", https_compatible=own_tls)

        async with Client(dial=dial, ssl_context=trusting()) as client:
            yield client

    return client


def through_a_tunnel(*, outer_alert: bool) -> Callable[[], contextlib.AbstractAsyncContextManager[Client]]:
    """In the TLS to a proxy, which passes the end on by an alert of its own or by a FIN alone."""

    @contextlib.asynccontextmanager
    async def client() -> AsyncIterator[Client]:
        context = serving()

        async def play(stream: trio.SocketStream) -> None:
            tls = trio.SSLStream(stream, context, server_side=True, https_compatible=not outer_alert)
            await tunnelling([])(tls)

        async with listening(play) as port:
            proxy = f"https://127.0.0.1:{port}"
            async with trusting_proxy(proxy) as client:
                yield client

    return client


@contextlib.asynccontextmanager
async def trusting_proxy(url: str) -> AsyncIterator[Client]:
    proxy = Proxy.from_url(url, ssl_context=trusting())
    async with Client(proxy=proxy, ssl_context=trusting()) as client:
        yield client


WAYS = {
    "socket": over_a_socket,
    "stream": over_a_dial(own_tls=None),
    "trio's TLS": over_a_dial(own_tls=False),
    "trio's TLS for HTTPS": over_a_dial(own_tls=True),
    "tunnel": through_a_tunnel(outer_alert=False),
    "tunnel with an alert": through_a_tunnel(outer_alert=True),
}

way = pytest.mark.parametrize("way", WAYS)


# ------------------------------------------------------------------------------------------------- the cuts


@way
@pytest.mark.parametrize("framing", ANSWERS)
async def test_content_that_was_cut_is_not_the_whole(way: str, framing: str) -> None:
    async with ending(ANSWERS[framing], alert=False) as port, WAYS[way]() as client:
        with pytest.raises(ResponseIncomplete) as caught:
            await client.get(f"https://localhost:{port}/")
        assert caught.value.facts.response_started
        assert client.statistics().idle == client.statistics().leased == 0
        async with client.stream("GET", f"https://localhost:{port}/") as response:
            got = bytearray()
            with pytest.raises(ResponseIncomplete):
                async for piece in response.body:
                    got += piece
            assert got == b"content"
            with pytest.raises(RequestFailed):
                await response.body.receive_some()
        assert client.statistics().idle == client.statistics().leased == 0


@way
@pytest.mark.parametrize("framing", ANSWERS)
async def test_an_alert_is_a_good_end_for_content_that_ends_with_the_stream_and_for_no_other(
    way: str, framing: str
) -> None:
    async with ending(ANSWERS[framing], alert=True) as port, WAYS[way]() as client:
        if framing == "close-delimited":
            assert (await client.get(f"https://localhost:{port}/")).content == b"content"
        else:
            with pytest.raises(ResponseIncomplete):
                await client.get(f"https://localhost:{port}/")
        assert client.statistics().idle == client.statistics().leased == 0


@way
@pytest.mark.parametrize("alert", [False, True])
async def test_content_that_says_where_it_ends_needs_no_alert(way: str, alert: bool) -> None:
    answer = HEAD + b"Content-Length: 7\r\n\r\n" + b"content"
    async with ending(answer, alert=alert) as port, WAYS[way]() as client:
        for _ in range(2):  # and a second request does not meet what was left behind
            assert (await client.get(f"https://localhost:{port}/")).content == b"content"


@way
@pytest.mark.parametrize("alert", [False, True])
async def test_a_head_that_was_cut_is_no_answer(way: str, alert: bool) -> None:
    async with ending(b"HTTP/1.1 200 OK\r\nContent-Le", alert=alert) as port, WAYS[way]() as client:
        with pytest.raises(RequestFailed) as caught:
            await client.post(f"https://localhost:{port}/", content=b"x")
        assert caught.value.facts.may_have_acted
        assert client.statistics().idle == client.statistics().leased == 0
