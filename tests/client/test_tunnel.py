"""C18: CONNECT through an HTTP proxy, byte by byte."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.client._network import END
from trio_http import wire
from trio_http.client._origin import Origin
from trio_http.client._proxy import Proxy, ProxyFailed
from trio_http.client._tunnel import ProxyRefused, open_tunnel
from trio_http.messages import Headers
from trio_http.testing import ScriptedPeer, cancel_at_every_step
from trio_http.transport import StreamTransport, Transport

PROXY = Proxy.from_url("http://proxy.example:3128")
TARGET = Origin("https", "example.org", 443)
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def connecting() -> ScriptedPeer:
    """A proxy that has read a CONNECT."""
    return ScriptedPeer().expect_until(END, startswith=b"CONNECT example.org:443 HTTP/1.1\r\n")


async def tunnel(
    peer: ScriptedPeer,
    target: Origin = TARGET,
    proxy: Proxy = PROXY,
    limits: wire.Limits | None = None,
    **options: Any,
) -> Transport:
    """Open a tunnel through a proxy that plays its script to the end."""
    transport = StreamTransport(peer.stream)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.play)
            try:
                await open_tunnel(transport, target, proxy, limits or wire.Limits(), **options)
            except ProxyFailed as exc:
                failure: ProxyFailed | None = exc
                await transport.aclose()  # which is the caller's, and lets the script end
            else:
                failure = None
    if failure is not None:
        raise failure
    return transport


async def failure_of(peer: ScriptedPeer, **options: Any) -> ProxyFailed:
    with pytest.raises(ProxyFailed) as caught:
        await tunnel(peer, **options)
    assert str(caught.value).startswith("proxy http://proxy.example:3128, asked for example.org:443: ")
    return caught.value


# ---------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        (Origin("https", "example.org", 443), b"example.org:443"),
        (Origin("https", "example.org", 8443), b"example.org:8443"),
        (Origin("http", "example.org", 80), b"example.org:80"),
        (Origin("https", "192.0.2.1", 443), b"192.0.2.1:443"),
        (Origin("https", "2001:db8::1", 443), b"[2001:db8::1]:443"),
        (Origin("https", "example.org.", 443), b"example.org.:443"),
    ],
)
async def test_the_target_is_host_and_port_in_both_places(target: Origin, authority: bytes) -> None:
    peer = ScriptedPeer()
    peer.expect(
        b"CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n\r\n"
        % (authority, authority, wire.PRODUCT_ID.encode())
    )
    await tunnel(peer.send(ESTABLISHED), target)
    assert peer.finished


async def test_the_proxy_is_told_who_we_are_and_what_it_was_given() -> None:
    proxy = Proxy.from_url("http://Aladdin:open%20sesame@proxy.example", headers={"X-Team": "a"})
    peer = connecting().send(ESTABLISHED)
    await tunnel(peer, proxy=proxy, user_agent="mine/1")
    assert peer.received.split(b"\r\n")[1:] == [
        b"Host: example.org:443",
        b"User-Agent: mine/1",
        b"X-Team: a",
        b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        b"",
        b"",
    ]


async def test_a_user_agent_of_the_proxys_own_stands_alone() -> None:
    peer = connecting().send(ESTABLISHED)
    await tunnel(peer, proxy=Proxy.from_url("http://proxy.example", headers={"user-agent": "other"}))
    assert bytes(peer.received).lower().count(b"user-agent") == 1
    assert b"user-agent: other\r\n" in peer.received


# ------------------------------------------------------------------------------------------- what is answered


@pytest.mark.parametrize(
    "answer",
    [
        ESTABLISHED,
        b"HTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r\n",
        b"HTTP/1.1 204 \r\n\r\n",
        b"HTTP/1.1 299 Odd\r\nConnection: close\r\n\r\n",
        # A 2xx to CONNECT has no content, whatever it says (RFC 9110 §9.3.6).
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ESTABLISHED,
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_behind_a_2xx_the_transport_is_the_origins_from_the_first_byte(
    answer: bytes, bytewise: bool
) -> None:
    peer = connecting()
    peer = peer.send_bytewise(answer) if bytewise else peer.send(answer)
    peer.expect(b"\x16client hello").send(b"\x16server hello").expect_end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        transport = StreamTransport(peer.stream)
        with trio.fail_after(60):
            await open_tunnel(transport, TARGET, PROXY, wire.Limits())
            await transport.send_all(b"\x16client hello")
            assert await transport.receive() == b"\x16server hello"
            await transport.aclose()


@pytest.mark.parametrize("target", [TARGET, Origin("http", "example.org", 443)])
async def test_bytes_behind_the_2xx_that_nobody_asked_for_are_an_error(target: Origin) -> None:
    failure = await failure_of(connecting().send(ESTABLISHED + b"HTTP/1.1 200 OK\r\n"), target=target)
    assert type(failure) is ProxyFailed
    assert "it sent 17 bytes behind its 200" in str(failure)
    assert "HTTP/1.1 200 OK" in str(failure)


@pytest.mark.parametrize("bytewise", [False, True])
async def test_a_refusal_has_all_its_facts(bytewise: bool) -> None:
    answer = (
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 9\r\nVia: x\r\n\r\nnot there"
    )
    peer = connecting()
    failure = await failure_of(peer.send_bytewise(answer) if bytewise else peer.send(answer))
    assert isinstance(failure, ProxyRefused)
    assert (failure.status, failure.reason, failure.content) == (403, "Forbidden", b"not there")
    assert failure.headers == Headers({"content-type": "text/plain", "content-length": "9", "via": "x"})
    assert not failure.authorized
    assert str(failure).endswith(": it refused with 403 Forbidden")
    for again in (copy.copy(failure), pickle.loads(pickle.dumps(failure))):
        assert str(again) == str(failure)
        assert (again.status, again.headers, again.content) == (403, failure.headers, b"not there")


@pytest.mark.parametrize("userinfo", ["", "user:secret@"])
async def test_a_407_tells_whether_credentials_were_sent_and_what_is_asked_for(userinfo: str) -> None:
    answer = b'HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
    proxy = Proxy.from_url(f"http://{userinfo}proxy.example:3128")
    failure = await failure_of(connecting().send(answer), proxy=proxy)
    assert isinstance(failure, ProxyRefused)
    assert failure.authorized == bool(userinfo)
    what = "not accepting our credentials" if userinfo else "and we have sent no credentials"
    assert str(failure).endswith(f"it refused with 407 Who?, {what} (it asks for 'Basic realm=\"x\"')")
    assert "secret" not in str(failure)


async def test_a_redirect_is_a_refusal() -> None:
    failure = await failure_of(
        connecting().send(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")
    )
    assert isinstance(failure, ProxyRefused)
    assert failure.headers["location"] == "/x"


@pytest.mark.parametrize(
    ("rest", "content"),
    [
        (b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000, b"x" * 8192),
        (b"Content-Length: 10\r\n\r\nabc", b"abc"),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense", b"abc"),
        (b"\r\nabc", b"abc"),
        (b"\r\n", b""),
    ],
    ids=["long", "cut", "chunked", "malformed", "close-delimited", "none"],
)
async def test_of_a_refusals_content_what_comes_is_kept_up_to_a_bound(rest: bytes, content: bytes) -> None:
    failure = await failure_of(connecting().send(b"HTTP/1.1 502 Bad Gateway\r\n" + rest).close())
    assert isinstance(failure, ProxyRefused)
    assert failure.content == content


async def test_a_refusal_is_not_kept_waiting_by_its_content(autojump_clock: trio.testing.MockClock) -> None:
    peer = connecting().send(b"HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\nabc").expect_end()
    failure = await failure_of(peer)
    assert isinstance(failure, ProxyRefused)
    assert (failure.status, failure.content) == (503, b"abc")
    assert trio.current_time() == pytest.approx(1.0)


async def test_a_proxy_that_refuses_unheard_and_resets_our_send_is_heard() -> None:
    class Deaf(StreamTransport):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("the proxy reads no more")

    peer = ScriptedPeer().send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").close()
    await peer.play()
    with pytest.raises(ProxyRefused) as caught:
        await open_tunnel(Deaf(peer.stream), TARGET, PROXY, wire.Limits())
    assert caught.value.status == 503


# ------------------------------------------------------------------------------------------------- what fails


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "the connection ended where a response was due"),
        (b"HTTP/1.1 200 OK\r\n", "the connection ended within a head"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "the connection ended where a response was due"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "byte b'S' where a response should begin"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "proposed no upgrade"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + END, "65536"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 101, "101 interim responses"),
    ],
)
async def test_no_proper_answer_is_an_error_that_says_why(answer: bytes, why: str) -> None:
    failure = await failure_of(connecting().send(answer).close())
    assert type(failure) is ProxyFailed
    assert "no proper answer to CONNECT" in str(failure)
    assert why in str(failure)
    assert isinstance(failure.__cause__, wire.RemoteProtocolError)


async def test_the_limits_are_those_given() -> None:
    answer = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200 + END
    failure = await failure_of(connecting().send(answer), limits=wire.Limits(max_head_bytes=100))
    assert "100" in str(failure)


async def test_a_proxy_that_breaks_the_connection_is_told_apart_with_its_cause() -> None:
    failure = await failure_of(connecting().reset())
    assert "the connection to it broke before its answer" in str(failure)
    assert isinstance(failure.__cause__, trio.BrokenResourceError)


async def test_a_transport_that_we_close_meanwhile_is_no_failure_of_the_proxys() -> None:
    peer = connecting().wait_until_quiet()
    transport = StreamTransport(peer.stream)

    async def open_and_be_closed() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await open_tunnel(transport, TARGET, PROXY, wire.Limits())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        nursery.start_soon(open_and_be_closed)
        await trio.testing.wait_all_tasks_blocked()
        await peer.stream.aclose()


@given(st.lists(st.integers(1, 200), max_size=8))
def test_where_the_answer_is_cut_makes_no_difference(cuts: list[int]) -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nVia: 1.1 proxy\r\nX-Cache: none\r\n\r\n"

    async def main() -> None:
        peer, at = connecting(), 0
        for cut in [*cuts, len(answer)]:
            peer.send(answer[at : at + cut]).wait_until_quiet()
            at += cut
        peer.expect(b"x").send(b"y")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.play)
            transport = StreamTransport(peer.stream)
            await open_tunnel(transport, TARGET, PROXY, wire.Limits())
            await transport.send_all(b"x")
            assert await transport.receive() == b"y"

    trio.run(main)


@pytest.mark.parametrize("answer", [ESTABLISHED, b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"])
async def test_a_cancel_at_any_step_leaves_the_transport_to_its_owner(
    answer: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[StreamTransport]:
        peer = connecting().send_bytewise(answer).expect_end()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.play)
            yield StreamTransport(peer.stream)
            nursery.cancel_scope.cancel()
        peer.stream.close()

    async def scenario(transport: StreamTransport) -> None:
        with contextlib.suppress(ProxyRefused):
            await open_tunnel(transport, TARGET, PROXY, wire.Limits())

    def check(transport: StreamTransport) -> None:
        assert not transport.closed

    report = await cancel_at_every_step(scenario, world=world, check=check)
    assert report.steps > len(answer)
