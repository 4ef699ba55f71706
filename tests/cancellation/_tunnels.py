"""A client, a proxy that is a program over our own server, and an origin behind it; all in memory."""

from __future__ import annotations

import attrs
import trio

from tests.cancellation._houses import Door, Visit, tls_contexts
from tests.cancellation._worlds import CONFIG
from trio_http import Request, Response, wire
from trio_http.client import Client, Proxy
from trio_http.client._origin import Origin
from trio_http.client._tunnel import open_tunnel
from trio_http.server import serve_listeners
from trio_http.transport import Transport, transport_over

PROXY = Proxy.from_url("http://user:secret@proxy.test:3128")


async def open_way(stream: trio.abc.Stream | Transport, host: str, port: int, scheme: str) -> Transport:
    """Have the proxy at the other end connect us; a dial, as `Client` makes it over sockets."""
    transport = transport_over(stream)
    try:
        await open_tunnel(transport, Origin(scheme, host, port), PROXY, wire.Limits())
    except BaseException:
        await transport.aclose_forcefully()
        raise
    return transport


class Tunnelled(Visit):
    """A client, a proxy that relays, and an origin behind it. What is interrupted is the client, or the
    proxy."""

    config = attrs.evolve(CONFIG, connect=True)
    holds = 1
    serves = ("app", "relay", "receive_some", "__aexit__")
    origin_scheme = "http"

    def __init__(self) -> None:
        self.origin = Door()

    async def beside(self) -> None:
        """Be the origin."""
        listener: trio.abc.Listener[trio.abc.Stream] = self.origin
        if self.origin_scheme == "https":
            listener = trio.SSLListener(self.origin, tls_contexts()[1], https_compatible=True)
        await serve_listeners(self.answer, [listener], config=CONFIG)

    async def answer(self, request: Request) -> Response | None:
        """Be the origin's handler."""
        if request.path == "/pieces":
            async with request.stream_response() as body:
                for _ in range(3):
                    await body.send_all(b"piece")
                    await trio.sleep(1)
            return None
        return Response(content=await request.read() or b"fresh")

    async def app(self, request: Request) -> Response | None:
        """Be the proxy."""
        assert request.method == "CONNECT"
        there = self.origin.connect()
        async with there, request.tunnel() as here, trio.open_nursery() as nursery:

            async def relay(source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream) -> None:
                async for data in source:
                    await sink.send_all(data)
                await sink.send_eof()

            nursery.start_soon(relay, there, here)
            await relay(here, there)
            # A client that has ended its sending waits for the rest; one that has gone does not.
        return None

    async def dial(self, host: str, port: int, scheme: str) -> Transport:
        await trio.lowlevel.checkpoint()
        return await open_way(self.house.door.connect(), host, port, scheme)

    async def run(self, client: Client) -> None:
        url = f"{self.origin_scheme}://a/"
        assert (await client.get(url)).content == b"fresh"
        assert (await client.post(url, content=b"content")).content == b"content"
        async with client.stream("GET", f"{url}pieces") as response:
            assert await response.body.receive_some() == b"piece"

    def see(self) -> None:
        open_there = sum(not stream.closed for stream in self.origin.streams)
        assert open_there <= 1, f"{open_there} connections from the proxy to the origin were left"


class TunnelledTLS(Tunnelled):
    """The same with TLS to the origin, of which the proxy sees nothing."""

    origin_scheme = "https"

    def fresh_options(self) -> dict[str, object]:
        return {"ssl_context": tls_contexts()[0], "base_url": "https://a"}

    async def run(self, client: Client) -> None:
        assert (await client.get("https://a/")).content == b"fresh"
        async with client.stream("GET", "https://a/pieces") as response:
            assert await response.body.receive_some() == b"piece"
