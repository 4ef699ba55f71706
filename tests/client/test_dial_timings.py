"""C62: where the time of a dial went, as the first response of a connection tells, and no later one."""

from __future__ import annotations

import ssl

import pytest
import trio
from trio.testing import MockClock

from tests.client._loopback import head_from, listening, relay, serving, trusting
from trio_http.client import Client, Proxy, Timings
from trio_http.testing import ScriptedPeer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def spent(timings: Timings) -> dict[str, float]:
    """What is not 0."""
    names = ("waiting", "name", "connect", "proxy", "tls", "first_byte", "total")
    return {name: value for name in names if (value := getattr(timings, name))}


@pytest.mark.interop
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_each_step_of_a_dial_through_a_proxy_has_its_time(scheme: str, mock_clock: MockClock) -> None:
    # The clock stands still, and jumps within the steps: by powers of 2, so that no sum is ambiguous.
    context = serving()

    def note_handshake(_: object, __: object, ___: object) -> None:
        mock_clock.jump(16)

    context.sni_callback = note_handshake

    async def resolve(host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        mock_clock.jump(1)
        return ["127.0.0.1"]

    async def answer(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        while await head_from(tls):
            mock_clock.jump(32)
            await tls.send_all(OK)

    async def connect(stream: trio.SocketStream) -> None:
        await head_from(stream)
        mock_clock.jump(4)
        async with await trio.open_tcp_stream("127.0.0.1", port) as onward:
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            await relay(stream, onward)

    async def connect_under_tls(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, serving(), server_side=True, https_compatible=True)
        await connect(tls)  # type: ignore[arg-type]

    play = connect if scheme == "http" else connect_under_tls
    async with listening(answer) as port, listening(play) as proxy_port:
        outer: ssl.SSLContext | None = trusting() if scheme == "https" else None
        proxy = Proxy.from_url(f"{scheme}://localhost:{proxy_port}", ssl_context=outer)
        async with Client(proxy=proxy, resolver=resolve, ssl_context=trusting()) as client:
            response = await client.get(f"https://localhost:{port}/")
            assert spent(response.timings) == {
                "waiting": 21,
                "name": 1,
                "proxy": 4,
                "tls": 16,
                "first_byte": 32,
                "total": 53,
            }
            reused = await client.get(f"https://localhost:{port}/")
            assert spent(reused.timings) == {"first_byte": 32, "total": 32}


async def test_a_dial_of_ones_own_is_all_connecting(mock_clock: MockClock) -> None:
    peer = ScriptedPeer().expect_until(b"\r\n\r\n").send(OK).expect_until(b"\r\n\r\n").send(OK)

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        mock_clock.jump(2)
        return peer.stream

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        async with Client(dial=dial) as client:
            first = await client.get("http://a.example/")
            assert spent(first.timings) == {"waiting": 2, "connect": 2, "total": 2}
            async with client.stream("GET", "http://a.example/") as second:
                assert spent(second.timings) == {}


async def test_waiting_for_a_connection_in_use_is_waiting_and_no_step_of_a_dial(
    autojump_clock: MockClock,
) -> None:
    peer = ScriptedPeer()
    for _ in range(2):
        peer.expect_until(b"\r\n\r\n").wait(5).send(OK)

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.sleep(1)
        return peer.stream

    seen: list[dict[str, float]] = []

    async def ask(client: Client) -> None:
        seen.append(spent((await client.get("http://a.example/")).timings))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        async with Client(dial=dial, max_connections=1) as client, trio.open_nursery() as requests:
            for _ in range(2):
                requests.start_soon(ask, client)
    assert seen == [
        {"waiting": 1, "connect": 1, "first_byte": 5, "total": 6},
        {"waiting": 6, "first_byte": 5, "total": 11},
    ]
