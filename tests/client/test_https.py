"""The client over real sockets under TLS: by its own transport, and over a stream that it was given."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import trio
import trustme

from trio_http import ConnectFailed
from trio_http.client import Client

pytestmark = pytest.mark.interop


@contextlib.asynccontextmanager
async def tls_server(authority: trustme.CA, *names: str) -> AsyncIterator[int]:
    """A server by trio's own TLS that says ok to each head; what is given is its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)

    async def handle(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(
            0, context, host="127.0.0.1", https_compatible=True
        )
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_https_is_kept_alive_and_verified() -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with tls_server(authority, "localhost") as port:
        async with Client(ssl_context=trusting) as client:
            for _ in range(3):
                assert (await client.get(f"https://localhost:{port}/")).content == b"ok"
            assert client.statistics().idle == 1
            with pytest.raises(ConnectFailed) as caught:
                await client.get(f"https://127.0.0.1:{port}/")
            assert "IP address mismatch" in str(caught.value)
        async with Client() as client:
            with pytest.raises(ConnectFailed) as caught:
                await client.get(f"https://localhost:{port}/")
            assert isinstance(caught.value.__cause__, trio.BrokenResourceError)
            assert isinstance(caught.value.__cause__.__cause__, ssl.SSLCertVerificationError)


async def test_https_goes_over_a_dial_of_ones_own() -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with tls_server(authority, "elsewhere.example") as port:

        async def dial(host: str, _: int, scheme: str) -> trio.abc.Stream:
            assert (host, scheme) == ("elsewhere.example.", "https")
            inner = await trio.open_tcp_stream("127.0.0.1", port)
            return trio.StapledStream(inner, inner)  # no socket stream, so TLS has to go over it as a stream

        async with Client(ssl_context=trusting, dial=dial) as client:
            for _ in range(2):
                assert (await client.get("https://elsewhere.example./")).content == b"ok"
            assert client.statistics().idle == 1


async def test_a_port_without_a_server_cannot_be_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with Client() as client:
        with pytest.raises(ConnectFailed) as caught:
            await client.get(f"http://127.0.0.1:{port}/")
        assert isinstance(caught.value.__cause__, OSError)
        assert not caught.value.facts.may_have_acted
