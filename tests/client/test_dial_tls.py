"""TLS of a `Client`: contexts by origin, names, pins, sessions, and every way in which it can fail."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ssl

import pytest
import trio
import trustme

from tests.client._loopback import AUTHORITY, LEAF, listening, origin, serving, trusting
from trio_http import ConnectFailed, ResponseInvalid
from trio_http.client import CertificateMismatch, Client, Origin
from trio_http.client._tls_settings import public_key_of

pytestmark = pytest.mark.interop

DER = ssl.PEM_cert_to_DER_cert(LEAF.cert_chain_pems[0].bytes().decode())
BY_CERTIFICATE = hashlib.sha256(DER).hexdigest()
BY_KEY = "sha256//" + base64.b64encode(hashlib.sha256(public_key_of(DER)).digest()).decode()
STRANGER = "00" * 32

# A fatal alert: no_application_protocol (RFC 8446 §6.2).
NO_PROTOCOL = bytes.fromhex("15 03 03 00 02 02 78")


def showing(*names: str) -> ssl.SSLContext:
    """A client's context with a certificate of its own."""
    context = trusting()
    AUTHORITY.issue_cert(*names).configure_cert(context)
    return context


async def failure_of(client: Client, url: str) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        await client.get(url)
    assert (caught.value.facts.bytes_sent, caught.value.facts.may_have_acted) == (0, False)
    assert client.statistics().dialing == client.statistics().leased == 0
    return caught.value


def tls_error(error: ConnectFailed) -> ssl.SSLError:
    """What OpenSSL said, at the end of the chain."""
    assert isinstance(error.__cause__, trio.BrokenResourceError)
    assert isinstance(error.__cause__.__cause__, ssl.SSLError)
    return error.__cause__.__cause__


# -------------------------------------------------------------------------------------------- what is asked


async def test_each_origin_is_shown_its_own_certificate() -> None:
    # C22, A59
    asking = serving()
    asking.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(asking)
    contexts = {"localhost": showing("alice.example"), "127.0.0.1": showing("bob.example")}
    asked: list[Origin] = []

    def context_for(origin: Origin) -> ssl.SSLContext:
        asked.append(origin)
        return contexts[origin.host]

    async with (
        origin(asking) as port,
        Client(ssl_context=context_for, pinned_addresses={"elsewhere.example": "127.0.0.1"}) as client,
    ):
        for host, name in (("localhost", "alice.example"), ("127.0.0.1", "bob.example")) * 2:
            assert (await client.get(f"https://{host}:{port}/")).json()["names"] == [name]
        with pytest.raises(KeyError):
            await client.get(f"https://elsewhere.example:{port}/")
        assert [each.host for each in asked[:2]] == ["localhost", "127.0.0.1"]
        assert asked[0].scheme == "https"


async def test_a_server_that_wants_a_certificate_does_not_answer_one_without() -> None:
    asking = serving()
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.maximum_version = ssl.TLSVersion.TLSv1_2  # where the server's verdict is a part of the handshake
    AUTHORITY.configure_trust(asking)
    async with origin(asking) as port, Client(ssl_context=trusting()) as client:
        assert "alert" in str(await failure_of(client, f"https://localhost:{port}/")).lower()


async def test_a_function_that_gives_no_context_is_told_so() -> None:
    async with (
        origin(serving()) as port,
        Client(ssl_context=lambda _: True) as client,  # type: ignore[arg-type, return-value]
    ):
        with pytest.raises(TypeError, match=r"an ssl\.SSLContext.* not True"):
            await client.get(f"https://localhost:{port}/")


async def test_a_server_may_be_asked_for_by_another_name_than_its_hosts() -> None:
    # C24
    pins = {"other.example": "127.0.0.1"}
    async with origin(serving()) as port:
        names = {"other.example": "inner.example"}
        async with Client(ssl_context=trusting(), tls_names=names, pinned_addresses=pins) as client:
            answer = (await client.get(f"https://other.example:{port}/")).json()
            assert answer["host"] == f"other.example:{port}"
        async with Client(ssl_context=trusting(), pinned_addresses=pins) as client:
            assert "other.example" in str(await failure_of(client, f"https://other.example:{port}/"))


@pytest.mark.parametrize(
    "pin", [BY_CERTIFICATE, BY_KEY, [STRANGER, BY_KEY]], ids=["certificate", "key", "a list"]
)
async def test_a_pinned_certificate_is_taken(pin: str | list[str]) -> None:
    # C23
    async with (
        origin(serving()) as port,
        Client(ssl_context=trusting(), pinned_certificates={"localhost": pin}) as client,
    ):
        assert (await client.get(f"https://localhost:{port}/")).status == 200


async def test_a_sound_certificate_that_is_not_pinned_is_refused_with_both_pins() -> None:
    # C23
    async with (
        origin(serving()) as port,
        Client(ssl_context=trusting(), pinned_certificates={"localhost": STRANGER}) as client,
    ):
        error = await failure_of(client, f"https://localhost:{port}/")
        assert isinstance(error.__cause__, CertificateMismatch)
        assert STRANGER in str(error)
        assert BY_KEY in str(error)
        # It holds for its host, and for no other.
        assert (await client.get(f"https://127.0.0.1:{port}/")).status == 200


@pytest.mark.parametrize("resume", [False, True])
async def test_sessions_are_resumed_only_when_that_is_asked_for(resume: bool) -> None:
    # C25
    async with origin(serving()) as port, Client(ssl_context=trusting(), resume_sessions=resume) as client:
        seen = [(await client.get(f"https://localhost:{port}/last")).json()["resumed"] for _ in range(3)]
    assert seen == [False, resume, resume]


# -------------------------------------------------------------------------------------------- what can fail


async def test_an_unknown_authority_is_not_trusted() -> None:
    # C21
    async with origin(serving()) as port, Client() as client:
        error = await failure_of(client, f"https://localhost:{port}/")
        assert isinstance(tls_error(error), ssl.SSLCertVerificationError)
        assert "certificate verify failed" in str(error)


async def test_a_certificate_for_another_name_is_not_trusted() -> None:
    async with (
        origin(serving(AUTHORITY.issue_cert("elsewhere.example"))) as port,
        Client(ssl_context=trusting()) as client,
    ):
        error = await failure_of(client, f"https://localhost:{port}/")
        assert isinstance(tls_error(error), ssl.SSLCertVerificationError)
        assert "not valid for 'localhost'" in str(error)


async def test_an_expired_certificate_is_not_trusted() -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    leaf = AUTHORITY.issue_cert("localhost", not_before=past, not_after=past + datetime.timedelta(days=1))
    async with origin(serving(leaf)) as port, Client(ssl_context=trusting()) as client:
        assert "expired" in str(await failure_of(client, f"https://localhost:{port}/"))


async def test_a_server_without_tls_is_said_to_be_none() -> None:
    async with origin() as port, Client() as client:
        error = await failure_of(client, f"https://127.0.0.1:{port}/")
        assert "TLS handshake failed" in str(error)
        tls_error(error)


async def test_a_server_that_ends_within_the_handshake_is_named() -> None:
    async def end(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async with listening(end) as port, Client() as client:
        error = await failure_of(client, f"https://127.0.0.1:{port}/")
        assert "closed the connection in the TLS handshake" in str(error)
        assert str(port) in str(error)


async def test_a_server_that_refuses_our_protocol_says_so() -> None:
    # C24: one that speaks HTTP/2 alone, and is strict about it.
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(NO_PROTOCOL)
        await stream.receive_some()

    async with listening(refuse) as port, Client() as client:
        error = await failure_of(client, f"https://127.0.0.1:{port}/")
        assert "no application protocol" in str(error).lower()
        tls_error(error)


async def test_http_2_that_a_context_of_ones_own_has_offered_is_refused_before_anything_is_sent() -> None:
    # C24
    offering = trusting()
    offering.set_alpn_protocols(["h2", "http/1.1"])
    async with origin(serving(LEAF, "h2", "http/1.1")) as port, Client(ssl_context=offering) as client:
        error = await failure_of(client, f"https://localhost:{port}/")
        assert "has chosen HTTP/2" in str(error)
        assert 'set_alpn_protocols(["http/1.1"])' in str(error)


async def test_a_server_that_speaks_http_2_unasked_has_given_no_valid_response() -> None:
    served = serving(LEAF, "h2")

    async def speak(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, served, server_side=True, https_compatible=True)
        await tls.receive_some()
        await tls.send_all(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x08\x07" + bytes(13))

    async with listening(speak) as port, Client(ssl_context=trusting()) as client:
        with pytest.raises(ResponseInvalid):
            await client.get(f"https://localhost:{port}/")
        assert client.statistics().idle == 0


async def test_the_certificate_of_a_proxy_under_tls_is_its_own_matter() -> None:
    other = trustme.CA()

    async def shake_hands(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, serving(other.issue_cert("127.0.0.1")), server_side=True)
        await tls.do_handshake()

    async with (
        listening(shake_hands) as port,
        Client(proxy=f"https://127.0.0.1:{port}", ssl_context=trusting(other)) as client,
    ):
        for url in ("http://a.example/", "https://a.example/"):
            error = await failure_of(client, url)
            assert isinstance(tls_error(error), ssl.SSLCertVerificationError)
