"""Dials of the caller's own: any stream, any transport, TLS in it or to be put over it."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.client._loopback import AUTHORITY, origin, serving, trusting
from tests.client._network import OK, answering, client_of
from trio_http import ConnectFailed
from trio_http.client import CertificateMismatch, Client
from trio_http.testing import MemoryStream, memory_pair
from trio_http.transport import SocketTransport, StreamTransport, Transport, tls_over

STRANGER = "00" * 32

Stream = trio.abc.Stream | Transport


async def connected(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


async def a_socket_stream(port: int) -> Stream:
    return await connected(port)


async def a_socket_transport(port: int) -> Stream:
    return SocketTransport((await connected(port)).socket)


async def a_foreign_stream(port: int) -> Stream:
    stream = await connected(port)
    return trio.StapledStream(stream, stream)


async def a_stream_transport(port: int) -> Stream:
    return StreamTransport(await connected(port))


async def an_ssl_stream(port: int) -> Stream:
    return trio.SSLStream(await connected(port), trusting(), server_hostname="origin.example")


async def an_ssl_stream_for_https(port: int) -> Stream:
    stream = await connected(port)
    return trio.SSLStream(stream, trusting(), server_hostname="origin.example", https_compatible=True)


async def a_tls_transport(port: int) -> Stream:
    return await tls_over(await connected(port), trusting(), server_hostname="origin.example")


async def a_transport_over_an_ssl_stream(port: int) -> Stream:
    return StreamTransport(
        trio.SSLStream(await connected(port), trusting(), server_hostname="origin.example")
    )


PLAIN = [a_socket_stream, a_socket_transport, a_foreign_stream, a_stream_transport]
SECURE = [an_ssl_stream, an_ssl_stream_for_https, a_tls_transport, a_transport_over_an_ssl_stream]


def to_port(make: Callable[[int], Awaitable[Stream]], asked: list[Any]) -> Any:
    """A dial that leads by ``make`` to whatever port is asked for, and notes what that was."""

    async def dial(host: str, port: int, scheme: str) -> Stream:
        asked.append((host, port, scheme))
        return await make(port)

    return dial


@pytest.mark.interop
@pytest.mark.parametrize("make", PLAIN)
async def test_whatever_carries_bytes_is_kept_for_http(make: Callable[[int], Awaitable[Stream]]) -> None:
    # C20
    asked: list[Any] = []
    async with origin() as port, Client(dial=to_port(make, asked)) as client:
        for _ in range(3):
            assert (await client.get(f"http://origin.example:{port}/x")).json()["target"] == "/x"
        assert client.statistics().idle == 1
    assert asked == [("origin.example", port, "http")]


@pytest.mark.interop
@pytest.mark.parametrize("make", PLAIN + SECURE)
async def test_tls_is_put_over_it_for_https_unless_it_is_there(
    make: Callable[[int], Awaitable[Stream]],
) -> None:
    # C20, A58
    asked: list[Any] = []
    # One who has made the TLS has verified as it pleased; the client's own context then is not asked.
    context = trusting() if make in PLAIN else None
    async with (
        origin(serving()) as port,
        Client(dial=to_port(make, asked), ssl_context=context) as client,
    ):
        for _ in range(3):
            response = await client.get(f"https://origin.example:{port}/x")
            assert response.json()["target"] == "/x"
        assert client.statistics().idle == 1
    assert asked == [("origin.example", port, "https")]


@pytest.mark.interop
@pytest.mark.parametrize("make", PLAIN + SECURE)
async def test_pins_hold_however_the_connection_was_made(make: Callable[[int], Awaitable[Stream]]) -> None:
    # C23
    made: list[Stream] = []

    async def noted(port: int) -> Stream:
        made.append(await make(port))
        return made[0]

    async with origin(serving()) as port:
        pins = {"origin.example": STRANGER}
        dial = to_port(noted, [])
        async with Client(dial=dial, ssl_context=trusting(), pinned_certificates=pins) as client:
            with pytest.raises(ConnectFailed) as caught:
                await client.get(f"https://origin.example:{port}/x")
    assert isinstance(caught.value.__cause__, CertificateMismatch)
    assert STRANGER in str(caught.value)
    with pytest.raises(trio.ClosedResourceError):
        await made[0].send_all(b"x")


@pytest.mark.interop
async def test_a_handshake_that_fails_in_a_stream_of_ones_own_is_a_failed_dial() -> None:
    async def untrusting(port: int) -> Stream:
        context = ssl.create_default_context()
        return trio.SSLStream(await connected(port), context, server_hostname="origin.example")

    async with origin(serving()) as port, Client(dial=to_port(untrusting, [])) as client:
        with pytest.raises(ConnectFailed) as caught:
            await client.get(f"https://origin.example:{port}/x")
    assert isinstance(caught.value.__cause__, trio.BrokenResourceError)
    assert isinstance(caught.value.__cause__.__cause__, ssl.SSLCertVerificationError)


async def test_tls_in_memory_is_verified_against_the_host_of_the_url() -> None:
    served = serving(AUTHORITY.issue_cert("inner.example"))
    streams: list[MemoryStream] = []

    async with trio.open_nursery() as nursery:

        async def serve(stream: MemoryStream) -> None:
            try:
                transport = await tls_over(stream, served, server_side=True)
                assert (await transport.receive()).endswith(b"\r\n\r\n")
                await transport.send_all(OK)
                assert await transport.receive() == b""
                await transport.aclose()
            except trio.BrokenResourceError:
                await stream.aclose()

        async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = memory_pair()
            streams.append(ours)
            nursery.start_soon(serve, theirs)
            return ours

        async with Client(dial=dial, ssl_context=trusting()) as client:
            assert (await client.get("https://inner.example/")).content == b"ok"
            try:
                await client.get("https://outer.example/")
            except ConnectFailed as exc:
                failure = exc
        assert "outer.example" in str(failure)
        assert [stream.closed for stream in streams] == [True, True]


@pytest.mark.parametrize("given", [None, 3, b"stream"])
async def test_what_is_no_stream_is_said_to_be_none(given: Any) -> None:
    async def dial(host: str, port: int, scheme: str) -> Any:
        await trio.lowlevel.checkpoint()
        return given

    async with Client(dial=dial) as client:
        for scheme in ("http", "https"):
            with pytest.raises(TypeError, match=rf"{scheme}://a\.example .* expected a trio\.abc\.Stream"):
                await client.get(f"{scheme}://a.example/")
        assert client.statistics().dialing == 0


async def test_the_error_of_a_dial_comes_out_as_it_is_and_an_os_error_as_a_failure_to_connect() -> None:
    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise {"a.example": LookupError("a bug"), "b.example": OSError("all gone")}[host]

    async with Client(dial=dial) as client:
        with pytest.raises(LookupError, match="a bug"):
            await client.get("http://a.example/")
        with pytest.raises(ConnectFailed, match="all gone") as caught:
            await client.get("http://b.example/")
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_group_of_the_dials_own_is_not_taken_apart() -> None:
    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        async with trio.open_nursery():
            raise LookupError("in a nursery")

    async with Client(dial=dial) as client:
        with pytest.raises(ExceptionGroup) as caught:
            await client.get("http://a.example/")
    assert isinstance(caught.value.exceptions[0], LookupError)


async def test_a_dial_that_takes_too_long_is_given_up_and_says_after_how_long(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ended: list[float] = []

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time() - start)

    async with Client(dial=dial, dial_seconds=7) as client:
        start = trio.current_time()
        with pytest.raises(ConnectFailed, match="not made within 7 s") as caught:
            await client.get("http://a.example/")
        assert isinstance(caught.value.__cause__, trio.TooSlowError)
    assert ended == [7]


async def test_a_tls_handshake_counts_towards_the_time_of_a_dial(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, _theirs = memory_pair()  # a server that says nothing

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.sleep(3)
        return ours

    async with Client(dial=dial, dial_seconds=7) as client:
        start = trio.current_time()
        with pytest.raises(ConnectFailed, match="not made within 7 s"):
            await client.get("https://a.example/")
        assert trio.current_time() - start == 7
    assert ours.closed


@pytest.mark.parametrize("end", ["the client closes", "all is cancelled"])
async def test_a_dial_under_way_ends_with_its_client(
    end: str, autojump_clock: trio.testing.MockClock
) -> None:
    ours, _theirs = memory_pair()

    async def dial(host: str, port: int, scheme: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    with trio.CancelScope() as everything:
        async with Client(dial=dial) as client:
            with trio.move_on_after(1):
                await client.get("https://a.example/")
            assert client.statistics().dialing == 1, "it goes on for others"
            assert not ours.closed
            if end == "all is cancelled":
                everything.cancel()
                await trio.sleep_forever()
    assert ours.closed


async def test_plain_http_over_memory_needs_nothing_else() -> None:
    async with client_of(answering(OK, OK)) as (client, network):
        for _ in range(2):
            assert (await client.get("http://a.example:81/")).content == b"ok"
        assert network.dialed == [("a.example", 81, "http")]
