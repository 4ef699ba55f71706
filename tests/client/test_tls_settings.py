"""TLS to origins: trust, certificates and names by origin, pins, and the file of keys."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import pickle
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509 import load_pem_x509_certificate

from trio_http.client import _tls_settings
from trio_http.client._connect import DialTimes
from trio_http.client._origin import Origin
from trio_http.client._tls_settings import CertificateMismatch, TLSSettings, client_context, public_key_of
from trio_http.transport import TLSTransport, Transport, tls_over

CA = trustme.CA()
ORIGIN = Origin("https", "example.test", 443)
CERTIFICATE = CA.issue_cert("example.test", "inner.test")


def der_of(leaf: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


def pins_of(leaf: trustme.LeafCert) -> tuple[str, str]:
    """The pin of a certificate, and that of its public key, by another program's reading of it."""
    certificate = load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    key = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    by_key = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return hashlib.sha256(der_of(leaf)).hexdigest(), f"sha256//{by_key}"


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    return context


def serving(leaf: trustme.LeafCert = CERTIFICATE, asking: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    context.set_alpn_protocols(["http/1.1"])
    if asking:
        context.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(context)
    return context


@contextlib.asynccontextmanager
async def server_end(context: ssl.SSLContext) -> AsyncIterator[tuple[trio.abc.Stream, list[Transport]]]:
    """A client's stream to a server that shakes hands by ``context``; the list gets its transport."""
    ours, theirs = trio.testing.memory_stream_pair()
    served: list[Transport] = []

    async def serve() -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            served.append(await tls_over(theirs, context, server_side=True))
            await served[0].send_all(b"hello")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield ours, served
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(theirs)


# ----------------------------------------------------------------------------------------------------- trust


def test_the_default_context_is_made_once_and_only_when_needed_and_verifies() -> None:
    # C21
    settings = TLSSettings()
    assert settings._own is None
    context = settings.context_for(ORIGIN)
    assert context is settings.context_for(Origin("https", "other.test", 443))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_the_default_context_offers_http_1_1_and_a_users_own_is_left_alone() -> None:
    # C24: the choice of ALPN is the context's.
    bundle = CA.cert_pem.bytes()
    for context, chosen in ((client_context(), "http/1.1"), (trusting(), None)):
        context.load_verify_locations(cadata=bundle.decode())
        async with server_end(serving()) as (stream, _):
            transport = await TLSSettings(ssl_context=context).secure(stream, ORIGIN)
            assert transport.tls is not None
            assert transport.tls.selected_alpn_protocol() == chosen
            await transport.aclose_forcefully()


async def test_the_default_context_does_not_trust_just_anybody() -> None:
    async with server_end(serving()) as (stream, _):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await TLSSettings().secure(stream, ORIGIN)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("system", ["darwin", "win32"])
async def test_where_the_system_itself_judges_truststore_asks_it(
    system: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # C21, C25. (The package was loaded for the system we are on, and so judges by OpenSSL here.)
    truststore = pytest.importorskip("truststore")
    monkeypatch.setattr(_tls_settings.sys, "platform", system)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = client_context()
    monkeypatch.undo()
    assert type(context) is truststore.SSLContext
    assert context.keylog_filename == str(tmp_path / "keys")
    context.load_verify_locations(cadata=CA.cert_pem.bytes().decode())
    async with server_end(serving()) as (stream, _):
        transport = await TLSSettings(ssl_context=context).secure(stream, ORIGIN)
        assert await transport.receive() == b"hello"
        await transport.aclose_forcefully()
    async with server_end(serving(trustme.CA().issue_cert("example.test"))) as (stream, _):
        with pytest.raises(trio.BrokenResourceError, match="CERTIFICATE_VERIFY_FAILED"):
            await TLSSettings(ssl_context=context).secure(stream, ORIGIN)


def test_without_truststore_it_is_pythons_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tls_settings.sys, "platform", "darwin")
    monkeypatch.setitem(_tls_settings.sys.modules, "truststore", None)  # as if it were not installed
    assert type(client_context()) is ssl.SSLContext


def test_a_python_that_knows_no_certificates_finds_the_systems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # C21: a Python that was built elsewhere, with other paths in its OpenSSL.
    bundle = tmp_path / "bundle.pem"
    CA.cert_pem.write_to_path(str(bundle))
    monkeypatch.setattr(_tls_settings, "_BUNDLES", (str(tmp_path / "absent.pem"), str(bundle)))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))
    assert client_context().cert_store_stats()["x509_ca"] == 1
    # A folder that has some is read when they are needed.
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "01234567.0").touch()
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "folder"))
    assert client_context().cert_store_stats()["x509_ca"] == 0


async def test_the_keys_are_written_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # C25
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = client_context()
    context.load_verify_locations(cadata=CA.cert_pem.bytes().decode())
    async with server_end(serving()) as (stream, _):
        await (await TLSSettings(ssl_context=context).secure(stream, ORIGIN)).aclose_forcefully()
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


def test_what_is_no_context_for_clients_is_refused() -> None:
    with pytest.raises(TypeError, match="one for servers"):
        TLSSettings(ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    wrong: Callable[[Origin], ssl.SSLContext] = lambda origin: "a context"  # type: ignore[assignment, return-value]  # noqa: E731
    with pytest.raises(TypeError, match=r"must be an ssl\.SSLContext.*, not 'a context'"):
        TLSSettings(ssl_context=wrong).context_for(ORIGIN)


# ------------------------------------------------------------------------------- certificates of our own


async def test_a_certificate_is_shown_to_the_origin_whose_context_has_it(tmp_path: Path) -> None:
    # C22
    mine = CA.issue_cert("me@example.test")
    pem, authority = tmp_path / "me.pem", tmp_path / "ca.pem"
    mine.private_key_and_cert_chain_pem.write_to_path(str(pem))
    CA.cert_pem.write_to_path(str(authority))
    contexts = {
        "example.test": client_context(pem, cafile=authority),
        "inner.test": client_context(cafile=authority),
    }
    asked: list[Origin] = []

    def by_origin(origin: Origin) -> ssl.SSLContext:
        asked.append(origin)
        return contexts[origin.host]

    settings = TLSSettings(ssl_context=by_origin)
    async with server_end(serving(asking=True)) as (stream, served):
        transport = await settings.secure(stream, ORIGIN)
        assert await transport.receive() == b"hello"
        assert served[0].tls is not None
        assert served[0].tls.getpeercert(binary_form=True) == der_of(mine)
        await transport.aclose_forcefully()
    other = Origin("https", "inner.test", 443)
    async with server_end(serving(asking=True)) as (stream, served):
        transport = await settings.secure(stream, other)
        with pytest.raises(trio.BrokenResourceError, match="CERTIFICATE_REQUIRED"):
            await transport.receive()
        await transport.aclose_forcefully()
    assert asked == [ORIGIN, other]


def test_a_key_without_a_certificate_or_without_its_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="certfile"):
        client_context(keyfile=tmp_path / "key.pem")
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    pem = tmp_path / "locked.pem"
    pem.write_bytes(key + CERTIFICATE.cert_chain_pems[0].bytes())
    with pytest.raises(ValueError, match="no password was given"):
        client_context(pem)


async def test_a_context_that_cannot_be_had_closes_the_stream() -> None:
    def by_origin(origin: Origin) -> ssl.SSLContext:
        raise KeyError(origin.host)

    ours, theirs = trio.testing.memory_stream_pair()
    with pytest.raises(KeyError):
        await TLSSettings(ssl_context=by_origin).secure(ours, ORIGIN)
    assert await theirs.receive_some() == b""


# ----------------------------------------------------------------------------------------------------- names


async def test_another_name_is_asked_for_and_verified() -> None:
    # C24: a server that is reached under a name of its own, say by an address.
    names: list[str | None] = []
    context = serving()
    context.sni_callback = lambda session, name, _: names.append(name)
    by_address = Origin("https", "192.0.2.1", 443)
    settings = TLSSettings(ssl_context=trusting(), tls_names={"192.0.2.1": "inner.test"})
    async with server_end(context) as (stream, _):
        await (await settings.secure(stream, by_address)).aclose_forcefully()
    async with server_end(context) as (stream, _):
        with pytest.raises(trio.BrokenResourceError, match="IP address mismatch"):
            await TLSSettings(ssl_context=trusting()).secure(stream, by_address)
    assert names == ["inner.test", None]


def test_a_final_dot_is_in_no_certificate() -> None:
    settings = TLSSettings(tls_names={"A.test": "b.test"})
    assert settings.name_for(Origin("https", "example.test.", 443)) == "example.test"
    assert settings.name_for(Origin("https", "a.test.", 443)) == "b.test"


# ------------------------------------------------------------------------------------------------------ pins

BY_CERTIFICATE, BY_KEY = pins_of(CERTIFICATE)
WITH_COLONS = ":".join(BY_CERTIFICATE[at : at + 2] for at in range(0, 64, 2)).upper()
STRANGERS = pins_of(CA.issue_cert("example.test"))


@pytest.mark.parametrize(
    "pins",
    [BY_CERTIFICATE, WITH_COLONS, BY_KEY, [STRANGERS[0], BY_KEY], (BY_CERTIFICATE, STRANGERS[1])],
    ids=["certificate", "with colons", "key", "a list", "a tuple"],
)
async def test_one_pin_that_matches_is_enough(pins: str | list[str]) -> None:
    # C23
    settings = TLSSettings(ssl_context=trusting(), pinned_certificates={"Example.Test.": pins})
    times = DialTimes()
    async with server_end(serving()) as (stream, _):
        transport = await settings.secure(stream, ORIGIN, times=times)
        assert await transport.receive() == b"hello"
        await transport.aclose_forcefully()
    assert times.secured is not None


async def test_a_certificate_that_is_not_pinned_is_refused_before_a_byte_is_sent() -> None:
    # C23: although it is sound.
    settings = TLSSettings(ssl_context=trusting(), pinned_certificates={"example.test": STRANGERS})
    async with server_end(serving()) as (stream, served):
        with pytest.raises(CertificateMismatch) as caught:
            await settings.secure(stream, ORIGIN)
        await trio.testing.wait_all_tasks_blocked()
        assert await served[0].receive() == b""
    error = caught.value
    assert (error.host, error.expected, error.found) == ("example.test", STRANGERS, (BY_CERTIFICATE, BY_KEY))
    for fact in ("example.test", *STRANGERS, BY_CERTIFICATE, BY_KEY):
        assert fact in str(error)
    assert isinstance(error, OSError)
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.found) == (str(error), error.found)


async def test_a_pin_alone_makes_a_certificate_of_nobodys_trusted_where_the_context_verifies_nothing() -> (
    None
):
    mine = trustme.CA().issue_cert("whatever.test")
    blind = ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    settings = TLSSettings(ssl_context=blind, pinned_certificates={"example.test": pins_of(mine)[1]})
    async with server_end(serving(mine)) as (stream, _):
        await (await settings.secure(stream, ORIGIN)).aclose_forcefully()
    async with server_end(serving()) as (stream, _):
        with pytest.raises(CertificateMismatch):
            await settings.secure(stream, ORIGIN)


async def test_pins_hold_for_their_host_only() -> None:
    settings = TLSSettings(ssl_context=trusting(), pinned_certificates={"inner.test": STRANGERS})
    async with server_end(serving()) as (stream, _):
        await (await settings.secure(stream, ORIGIN)).aclose_forcefully()


@pytest.mark.parametrize("pins", [BY_KEY, STRANGERS], ids=["its own", "strangers"])
async def test_pins_hold_for_a_users_own_ssl_stream_too(pins: str | tuple[str, str]) -> None:
    settings = TLSSettings(pinned_certificates={"example.test": pins})
    async with server_end(serving()) as (stream, _):
        own = trio.SSLStream(stream, trusting(), server_hostname="example.test", https_compatible=True)
        if pins == BY_KEY:
            transport = await settings.secure(own, ORIGIN)
            assert await transport.receive() == b"hello"
            await transport.aclose_forcefully()
        else:
            with pytest.raises(CertificateMismatch):
                await settings.secure(own, ORIGIN)


def test_a_connection_without_a_certificate_matches_no_pin() -> None:
    with pytest.raises(CertificateMismatch, match="has shown none"):
        TLSSettings(pinned_certificates={"example.test": BY_KEY}).check(ORIGIN, None)


@pytest.mark.parametrize(
    "pin",
    [
        "",
        "00",
        BY_CERTIFICATE[:-2],
        BY_CERTIFICATE + "00",
        "sha256//",
        "sha256//AAAA",
        BY_KEY[:-1] + "!",
        BY_KEY[8:],
    ],
    ids=["empty", "short", "one less", "one more", "no digest", "short digest", "no base64", "no algorithm"],
)
def test_a_pin_of_another_form_is_refused_at_once(pin: str) -> None:
    with pytest.raises(ValueError, match="expected the SHA-256") as caught:
        TLSSettings(pinned_certificates={"example.test": [BY_KEY, pin]})
    assert repr(pin) in str(caught.value)


def test_a_host_with_no_pin_at_all_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="at least one"):
        TLSSettings(pinned_certificates={"example.test": []})


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_the_public_key_is_found_as_others_find_it(kind: str) -> None:
    leaf = CA.issue_cert("x.test", key_type=trustme.KeyType[kind])
    assert (
        f"sha256//{base64.b64encode(hashlib.sha256(public_key_of(der_of(leaf))).digest()).decode()}"
        == (pins_of(leaf)[1])
    )


def test_what_is_no_certificate_in_der_is_refused_and_nothing_worse() -> None:
    whole = der_of(CERTIFICATE)
    refused = 0
    for end in range(len(whole)):
        with pytest.raises(ValueError, match="certificate"):
            public_key_of(whole[:end])
    for at in range(300):
        for value in (0, 0x30, 0x80, 0x82, 0x84, 0xFF):
            changed = whole[:at] + bytes([value]) + whole[at + 1 :]
            try:
                assert public_key_of(changed) in changed
            except ValueError:
                refused += 1
    assert refused > 30
    for indefinite in (b"\x30\x80" + whole[4:] + b"\x00\x00", b"\x30\x83\x00" + whole[2:]):
        with pytest.raises(ValueError, match="not in DER"):
            public_key_of(indefinite)


# ---------------------------------------------------------------------------------------------- over a socket


@pytest.mark.interop
async def test_over_a_socket_it_is_the_transport_that_is_made_for_it() -> None:
    left, right = socket.socketpair()
    settings = TLSSettings(ssl_context=trusting(), pinned_certificates={"example.test": BY_KEY})
    made: list[Transport] = []

    async def connect() -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(left))
        made.append(await settings.secure(stream, ORIGIN))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect)
        server = await TLSTransport.handshake(right, serving(), server_side=True)
    assert isinstance(made[0], TLSTransport)
    made[0].close()
    server.close()


# --------------------------------------------------------------------------------------------------- sessions


async def resumed(settings: TLSSettings, context: ssl.SSLContext, origin: Origin = ORIGIN) -> bool:
    """Whether another connection to the server of ``context`` has resumed a session."""
    async with server_end(context) as (stream, _):
        transport = await settings.secure(stream, origin)
        assert await transport.receive() == b"hello"  # the tickets come with it
        assert isinstance(transport.tls, ssl.SSLObject)
        reused = transport.tls.session_reused
        await transport.aclose_forcefully()
        return bool(reused)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_resumed_when_that_is_asked_for(version: ssl.TLSVersion) -> None:
    # C25
    server, client = serving(), trusting()
    client.maximum_version = version
    settings = TLSSettings(
        ssl_context=client, resume_sessions=True, pinned_certificates={"example.test": BY_KEY}
    )
    assert [await resumed(settings, server) for _ in range(3)] == [False, True, True]
    usual = TLSSettings(ssl_context=client)
    assert [await resumed(usual, server) for _ in range(3)] == [False, False, False]


async def test_a_session_is_of_one_server_and_one_context_and_given_out_once() -> None:
    server, contexts = serving(), [trusting(), trusting()]
    settings = TLSSettings(ssl_context=lambda _: contexts[0], resume_sessions=True)
    await resumed(settings, server)
    assert not await resumed(settings, server, Origin("https", "inner.test", 443))
    contexts.reverse()
    assert not await resumed(settings, server)
    contexts.reverse()
    (key, _), *_ = settings._last.items()
    assert settings._session(key) is not None
    assert settings._session(key) is None
    assert not await resumed(settings, server)


async def test_the_sessions_of_a_bounded_number_of_servers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tls_settings, "_MAX_SESSIONS", 2)
    server = serving()
    settings = TLSSettings(ssl_context=trusting(), resume_sessions=True)
    ports = (1, 2, 3)
    for port in ports:
        await resumed(settings, server, Origin("https", "example.test", port))
    assert [key[-1] for key in settings._last] == [2, 3]
