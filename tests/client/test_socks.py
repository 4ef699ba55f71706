"""C18: SOCKS 5, byte by byte."""

from __future__ import annotations

import contextlib
import copy
import ipaddress
import pickle
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_http.client._origin import Origin
from trio_http.client._proxy import Proxy, ProxyFailed
from trio_http.client._socks import SOCKS_REPLIES, SOCKSRefused, open_socks
from trio_http.testing import ScriptedPeer, cancel_at_every_step
from trio_http.transport import StreamTransport

PROXY = Proxy.from_url("socks5h://proxy.example")
WITH_CREDENTIALS = Proxy.from_url("socks5h://user:secret@proxy.example")
TARGET = Origin("https", "example.org", 443)

HELLO = b"\x05\x01\x00"  # version 5, one way of authenticating: none
WELCOME = b"\x05\x00"
ASK = b"\x05\x01\x00\x03\x0bexample.org\x01\xbb"  # CONNECT, a name of 11 bytes, port 443
DONE = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"  # succeeded, bound to 0.0.0.0:0


def welcoming() -> ScriptedPeer:
    """A proxy that lets anybody in, and has read what is wanted."""
    return ScriptedPeer().expect(HELLO).send(WELCOME).expect(ASK)


async def socks(
    peer: ScriptedPeer, target: Origin = TARGET, proxy: Proxy = PROXY, resolved: str | None = None
) -> StreamTransport:
    """Get connected by a proxy that plays its script to the end."""
    transport = StreamTransport(peer.stream)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.play)
            try:
                await open_socks(transport, target, proxy, resolved)
            except ProxyFailed as exc:
                failure: ProxyFailed | None = exc
                await transport.aclose()  # which is the caller's, and lets the script end
            else:
                failure = None
    if failure is not None:
        raise failure
    return transport


async def failure_of(peer: ScriptedPeer, proxy: Proxy = PROXY) -> ProxyFailed:
    with pytest.raises(ProxyFailed) as caught:
        await socks(peer, proxy=proxy)
    assert str(caught.value).startswith("proxy socks5h://proxy.example:1080, asked for example.org:443: ")
    assert "secret" not in str(caught.value)
    return caught.value


# ---------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("host", "resolved", "address"),
    [
        ("example.org", None, b"\x03\x0bexample.org"),
        ("example.org.", None, b"\x03\x0cexample.org."),
        ("example.org", "192.0.2.1", b"\x01\xc0\x00\x02\x01"),
        ("example.org", "2001:db8::1", b"\x04" + ipaddress.ip_address("2001:db8::1").packed),
        ("192.0.2.1", None, b"\x01\xc0\x00\x02\x01"),
        ("2001:db8::1", None, b"\x04" + ipaddress.ip_address("2001:db8::1").packed),
        ("a" * 63 + ("." + "b" * 63) * 3, None, b"\x03\xff" + b"a" * 63 + (b"." + b"b" * 63) * 3),
    ],
)
async def test_a_name_is_sent_unless_it_was_resolved_and_an_address_as_an_address(
    host: str, resolved: str | None, address: bytes
) -> None:
    peer = ScriptedPeer().expect(HELLO).send(WELCOME)
    peer.expect(b"\x05\x01\x00" + address + b"\x1f\x90").send(DONE)
    await socks(peer, Origin("http", host, 8080), resolved=resolved)
    assert peer.finished


async def test_what_cannot_be_sent_is_refused_before_anything_is() -> None:
    peer = ScriptedPeer().expect_end()
    with pytest.raises(ProxyFailed, match="the name has 256 bytes, and at most 255 can be sent"):
        await socks(peer, Origin("https", "a" * 64 + ("." + "b" * 63) * 3, 443))
    transport = StreamTransport(ScriptedPeer().stream)
    with pytest.raises(ValueError, match="nowhere"):
        await open_socks(transport, TARGET, PROXY, "nowhere")
    assert transport.unsent() == 0


async def test_user_name_and_password_are_offered_and_sent_when_the_proxy_wants_them() -> None:
    peer = ScriptedPeer().expect(b"\x05\x02\x00\x02").send(b"\x05\x02")
    peer.expect(b"\x01\x04user\x06secret").send(b"\x01\x00").expect(ASK).send(DONE)
    await socks(peer, proxy=WITH_CREDENTIALS)
    assert peer.finished


async def test_a_proxy_that_wants_no_credentials_gets_none() -> None:
    peer = ScriptedPeer().expect(b"\x05\x02\x00\x02").send(WELCOME).expect(ASK).send(DONE)
    await socks(peer, proxy=WITH_CREDENTIALS)
    assert peer.finished
    assert b"secret" not in peer.received


async def test_credentials_beyond_ascii_go_out_in_utf_8() -> None:
    proxy = Proxy(scheme="socks5", host="proxy.example", port=1, credentials=("ü", "ß" * 127))
    peer = ScriptedPeer().expect(b"\x05\x02\x00\x02").send(b"\x05\x02")
    peer.expect(b"\x01\x02\xc3\xbc\xfe" + b"\xc3\x9f" * 127).send(b"\x01\x00").expect(ASK).send(DONE)
    await socks(peer, proxy=proxy)
    assert peer.finished


# ------------------------------------------------------------------------------------------- what is answered


@pytest.mark.parametrize(
    "done",
    [
        DONE,
        b"\x05\x00\x00\x04" + bytes(16) + b"\x1f\x90",
        b"\x05\x00\x00\x03\x00\x00\x00",
        b"\x05\x00\x00\x03\x0bexample.org\x01\xbb",
        b"\x05\x00\x00\x03\xff" + b"x" * 255 + b"\x01\xbb",
    ],
    ids=["IPv4", "IPv6", "empty name", "name", "long name"],
)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_not_one_byte_of_the_origins_is_taken(done: bytes, bytewise: bool) -> None:
    peer = ScriptedPeer().expect(HELLO).send_bytewise(WELCOME).expect(ASK)
    peer = peer.send_bytewise(done) if bytewise else peer.send(done)
    peer.expect(b"\x16client hello").send(b"\x16server hello").expect_end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        transport = StreamTransport(peer.stream)
        with trio.fail_after(60):
            await open_socks(transport, TARGET, PROXY, None)
            await transport.send_all(b"\x16client hello")
            assert await transport.receive() == b"\x16server hello"
            await transport.aclose()


@pytest.mark.parametrize(
    "peer",
    [
        ScriptedPeer().expect(HELLO).send(WELCOME + b"early"),
        welcoming().send(DONE + b"early"),
        welcoming().send(DONE[:4]).wait_until_quiet().send(DONE[4:] + b"early"),
    ],
    ids=["behind the welcome", "behind the reply", "behind the end of the reply"],
)
async def test_bytes_behind_an_answer_that_nobody_asked_for_are_an_error(peer: ScriptedPeer) -> None:
    failure = await failure_of(peer)
    assert type(failure) is ProxyFailed
    assert "it sent 5 bytes behind an answer" in str(failure)
    assert "b'early'" in str(failure)


@pytest.mark.parametrize("code", [*range(1, 10), 255])
async def test_each_refusal_has_its_code_and_what_it_means(code: int) -> None:
    failure = await failure_of(welcoming().send(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])))
    assert isinstance(failure, SOCKSRefused)
    assert failure.code == code
    assert f"(reply {code})" in str(failure)
    assert SOCKS_REPLIES.get(code, "a code that RFC 1928 does not know") in str(failure)
    for again in (copy.copy(failure), pickle.loads(pickle.dumps(failure))):
        assert (str(again), again.code) == (str(failure), code)


async def test_a_refusal_that_is_cut_behind_its_code_is_understood() -> None:
    failure = await failure_of(welcoming().send(b"\x05\x05").close())
    assert isinstance(failure, SOCKSRefused)
    assert "connection refused by the origin (reply 5)" in str(failure)


@pytest.mark.parametrize(
    ("proxy", "answers", "why"),
    [
        (PROXY, [b"\x05\xff"], "lets nobody in without credentials, and we have none"),
        (WITH_CREDENTIALS, [b"\x05\xff"], "accepts neither a user name with a password nor going without"),
        (
            WITH_CREDENTIALS,
            [b"\x05\x02", b"\x01\x01"],
            "does not accept our user name and password (status 1",
        ),
        (WITH_CREDENTIALS, [b"\x05\x02", b"\x01\xff"], "(status 255)"),
    ],
)
async def test_a_proxy_that_does_not_let_us_in_refuses_without_a_code(
    proxy: Proxy, answers: list[bytes], why: str
) -> None:
    peer = ScriptedPeer()
    for question, answer in zip([b"\x05", b"\x01\x04user\x06secret"], answers, strict=False):
        peer.expect_until(question[-1:]).wait_until_quiet().send(answer)
    failure = await failure_of(peer, proxy)
    assert isinstance(failure, SOCKSRefused)
    assert failure.code is None
    assert why in str(failure)


# ------------------------------------------------------------------------------------------------- what fails


@pytest.mark.parametrize(
    ("peer", "why"),
    [
        (ScriptedPeer().expect(HELLO).send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "is it a SOCKS 5 proxy?"),
        (ScriptedPeer().expect(HELLO).send(b"\x04"), "expected version 5"),
        (ScriptedPeer().expect(HELLO).send(b"\x05\x02"), "way of authenticating 2, which we did not offer"),
        (ScriptedPeer().expect(HELLO).send(b"\x05\x01"), "way of authenticating 1, which we did not offer"),
        (ScriptedPeer().expect(HELLO).close(), "closed the connection after 0 bytes of an answer"),
        (ScriptedPeer().expect(HELLO).send(b"\x05").close(), "closed the connection after 1 bytes"),
        (welcoming().close(), "closed the connection after 0 bytes of an answer"),
        (welcoming().send(DONE[:9]).close(), "closed the connection after 9 bytes of an answer"),
        (welcoming().send(b"\x04\x00"), "expected version 5"),
        (welcoming().send(b"\x05\x00\x00\x02\x00"), "address of type 2, expected 1, 3 or 4"),
        (welcoming().reset(), "the connection to it broke before its answer"),
    ],
)  # fmt: skip
async def test_a_proxy_that_does_not_speak_socks_5_to_the_end_fails_and_says_why(
    peer: ScriptedPeer, why: str
) -> None:
    failure = await failure_of(peer)
    assert type(failure) is ProxyFailed
    assert why in str(failure)
    assert isinstance(failure.__cause__, trio.BrokenResourceError) == ("broke" in why)


async def test_the_answer_to_the_password_has_a_version_of_its_own() -> None:
    peer = ScriptedPeer().expect(b"\x05\x02\x00\x02").send(b"\x05\x02").expect(b"\x01\x04user\x06secret")
    failure = await failure_of(peer.send(b"\x05\x00"), WITH_CREDENTIALS)
    assert "expected version 1" in str(failure)


@given(st.binary(max_size=24), st.binary(max_size=24), st.booleans())
def test_whatever_a_proxy_answers_it_succeeds_or_fails_as_documented(
    first: bytes, second: bytes, like: bool
) -> None:
    welcome = WELCOME if like else first
    reply = DONE[:4] + second if like else second

    async def main() -> None:
        peer = ScriptedPeer().send(welcome).wait_until_quiet().send(reply).send_eof()
        transport = StreamTransport(peer.stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.play)
            succeeded = False
            with contextlib.suppress(ProxyFailed):
                await open_socks(transport, TARGET, PROXY, None)
                succeeded = True
        if like:
            assert succeeded == (len(second) == 6)  # an IPv4 address and a port
        else:
            assert not succeeded or (welcome, reply[:2]) == (WELCOME, DONE[:2])

    trio.run(main)


@pytest.mark.parametrize("reply", [DONE, b"\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"])
async def test_a_cancel_at_any_step_leaves_the_transport_to_its_owner(
    reply: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    @contextlib.asynccontextmanager
    async def world() -> AsyncIterator[StreamTransport]:
        peer = ScriptedPeer().expect(b"\x05\x02\x00\x02").send_bytewise(b"\x05\x02")
        peer.expect(b"\x01\x04user\x06secret").send_bytewise(b"\x01\x00").expect(ASK).send_bytewise(
            reply
        ).expect_end()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.play)
            yield StreamTransport(peer.stream)
            nursery.cancel_scope.cancel()
        peer.stream.close()

    async def scenario(transport: StreamTransport) -> None:
        with contextlib.suppress(SOCKSRefused):
            await open_socks(transport, TARGET, WITH_CREDENTIALS, None)

    def check(transport: StreamTransport) -> None:
        assert not transport.closed

    report = await cancel_at_every_step(scenario, world=world, check=check)
    assert report.steps > 8
