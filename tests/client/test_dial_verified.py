"""Whoever is at the other end of TLS proves that he is the host of the URL, on every way that leads there."""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.client._loopback import AUTHORITY, listening, origin, relay, serving, trusting, tunnelling
from trio_http import ConnectFailed
from trio_http.client import CertificateMismatch, Client, Proxy

pytestmark = pytest.mark.interop

STRANGER = "00" * 32
Play = Callable[[trio.SocketStream], Awaitable[None]]


async def exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := await stream.receive_some(count - len(data))):
        data += piece
    return data


async def socks(port: int, stream: trio.SocketStream) -> None:
    """A SOCKS proxy that leads to a port of this machine, whatever it is asked for."""
    _, methods = await exactly(stream, 2)
    await exactly(stream, methods)
    await stream.send_all(b"\x05\x00")
    await exactly(stream, 4)
    await exactly(stream, (await exactly(stream, 1))[0] + 2)
    async with await trio.open_tcp_stream("127.0.0.1", port) as onward:
        await stream.send_all(b"\x05\x00\x00\x01" + bytes(6))
        await relay(stream, onward)


async def leading(port: int, stream: trio.abc.Stream) -> None:
    """What passes all on to a port of this machine."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as onward:
        await relay(stream, onward)


@contextlib.asynccontextmanager
async def way_to(port: int, way: str, folder: Path) -> AsyncIterator[dict[str, Any]]:
    """The settings of a client to which every name is a server on this port of the machine."""

    async def dial(*_: object) -> trio.abc.Stream:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        return stream if way == "a dial of one's own" else trio.StapledStream(stream, stream)

    async def under_tls(stream: trio.SocketStream) -> None:
        context = serving(AUTHORITY.issue_cert("127.0.0.1"))
        await tunnelling([])(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    match way:
        case "an address":
            names = ["right.example", "wrong.example"]
            yield {"pinned_addresses": dict.fromkeys(names, "127.0.0.1")}
        case "a dial of one's own" | "a stream of one's own":
            yield {"dial": dial}
        case "a Unix socket":
            async with trio.open_nursery() as nursery:
                socket = trio.socket.socket(trio.socket.AF_UNIX)
                await socket.bind(str(folder / "s"))
                socket.listen()
                listener = trio.SocketListener(socket)
                nursery.start_soon(trio.serve_listeners, functools.partial(leading, port), [listener])
                yield {"unix_socket": folder / "s"}
                nursery.cancel_scope.cancel()
        case "an https proxy":
            async with listening(under_tls) as proxy:
                url = f"https://127.0.0.1:{proxy}"
                yield {"proxy": Proxy.from_url(url, ssl_context=trusting())}
        case _:
            play: Play = tunnelling([]) if way == "an http proxy" else functools.partial(socks, port)
            async with listening(play) as proxy:
                yield {"proxy": f"{'http' if way == 'an http proxy' else 'socks5h'}://127.0.0.1:{proxy}"}


WAYS = [
    "an address",
    "a dial of one's own",
    "a stream of one's own",
    "a Unix socket",
    "an http proxy",
    "an https proxy",
    "a SOCKS proxy",
]


def tls_error(error: BaseException) -> ssl.SSLError:
    """What was wrong with TLS, at the end of the chain."""
    while not isinstance(error, ssl.SSLError):
        assert error.__cause__ is not None, error
        error = error.__cause__
    return error


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_a_certificate_of_another_name_is_taken_on_no_way(
    way: str, resume: bool, tmp_path: Path
) -> None:
    """C21, C25: neither by a session that was begun under the right name."""
    leaf = AUTHORITY.issue_cert("right.example")
    async with origin(serving(leaf)) as port, way_to(port, way, tmp_path) as settings:
        settings = {**settings, "ssl_context": trusting(), "resume_sessions": resume}
        async with Client(**settings) as client:
            for host in ("right.example", "RIGHT.example", "right.example."):
                assert (await client.get(f"https://{host}:{port}/last")).status == 200
            hosts = ["wrong.example", "wrong.example."]
            if way != "a SOCKS proxy":  # this one of ours knows names alone
                hosts += ["127.0.0.1"]
            for host in hosts:
                with pytest.raises(ConnectFailed) as caught:
                    await client.get(f"https://{host}:{port}/last")
                assert isinstance(tls_error(caught.value), ssl.SSLCertVerificationError)
                assert caught.value.facts.bytes_sent == 0


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_a_sound_certificate_that_is_not_pinned_is_taken_on_no_way(
    way: str, resume: bool, tmp_path: Path
) -> None:
    """C23, C25: a session that a refused certificate has left does not make it a pinned one."""
    leaf = AUTHORITY.issue_cert("right.example")
    async with origin(serving(leaf)) as port, way_to(port, way, tmp_path) as settings:
        settings = {**settings, "ssl_context": trusting(), "resume_sessions": resume}
        async with Client(**settings, pinned_certificates={"right.example": STRANGER}) as client:
            for host in ("right.example", "RIGHT.example.", "right.example"):
                with pytest.raises(ConnectFailed) as caught:
                    await client.get(f"https://{host}:{port}/last")
                assert isinstance(tls_error(caught.value), CertificateMismatch)
                assert caught.value.facts.bytes_sent == 0


async def test_the_certificate_of_a_proxy_is_for_the_proxys_name(tmp_path: Path) -> None:
    """C18: and nothing is sent to another one, credentials least of all."""
    heads: list[bytes] = []

    async def play(stream: trio.SocketStream) -> None:
        context = serving(AUTHORITY.issue_cert("proxy.example"))
        await tunnelling(heads)(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    async with listening(play) as port:
        proxy = Proxy.from_url(f"https://user:secret@127.0.0.1:{port}", ssl_context=trusting())
        async with Client(proxy=proxy, ssl_context=trusting()) as client:
            for url in ("https://right.example/", "http://right.example/"):
                with pytest.raises(ConnectFailed) as caught:
                    await client.get(url)
                assert isinstance(tls_error(caught.value), ssl.SSLCertVerificationError)
    assert heads == []
