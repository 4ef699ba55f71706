"""Contexts for servers: handshakes in memory, and one over a socket."""

from __future__ import annotations

import contextlib
import functools
import logging
import signal
import socket
import ssl
import subprocess
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from cryptography.hazmat.primitives import serialization  # trustme brings it

from tests.transport._peers import closing, expect
from trio_http.transport import TLSTransport
from trio_http.transport._contexts import ContextHolder, by_server_name, server_context

GUIDE = Path(__file__).resolve().parent.parent.parent / "docs/how-to/certificates.md"
CA = trustme.CA()
OTHER_CA = trustme.CA()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates and keys, as an administrator has them."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("a.example", "b.example", "c.example"):
        certificate = CA.issue_cert(name)
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(str(folder / f"{name}.pem"), append=number > 0)
    (folder / "both.pem").write_bytes(
        (folder / "a.example.key").read_bytes() + (folder / "a.example.pem").read_bytes()
    )
    CA.cert_pem.write_to_path(str(folder / "ca.pem"))
    OTHER_CA.cert_pem.write_to_path(str(folder / "other-ca.pem"))
    key = serialization.load_pem_private_key((folder / "a.example.key").read_bytes(), None)
    (folder / "encrypted.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return folder


def context_of(files: Path, name: str, **options: Any) -> ssl.SSLContext:
    """A server's context for a name."""
    return server_context(files / f"{name}.pem", files / f"{name}.key", **options)


def client_context(issuer: trustme.CA | None = None, **attributes: Any) -> ssl.SSLContext:
    """A client's context, with a certificate of `issuer`."""
    context = ssl.create_default_context()
    CA.configure_trust(context)
    if issuer is not None:
        issuer.issue_cert("somebody@client.example").configure_cert(context)
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


class Handshake:
    """A whole handshake between two contexts, with a byte each way behind it.

    Attributes:
      server, client: the two sides.
    """

    def __init__(
        self,
        server: ssl.SSLContext,
        client: ssl.SSLContext,
        name: str | None = "a.example",
        session: ssl.SSLSession | None = None,
    ) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(to_server, to_client, server_side=True)
        self.client = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
        # Each side as far as it gets, in turn. The byte shows the client what a TLS 1.3 server thinks of its
        # certificate, and brings the session tickets.
        steps: dict[ssl.SSLObject, list[Callable[[], object]]] = {
            side: [side.do_handshake, functools.partial(side.write, b"x"), side.read]
            for side in (self.client, self.server)
        }
        for _ in range(10):
            for waiting in steps.values():
                with contextlib.suppress(ssl.SSLWantReadError):
                    while waiting:
                        waiting[0]()
                        del waiting[0]
        assert not any(steps.values()), "the handshake has not come to its end"

    @property
    def served_by(self) -> str:
        """The name in the certificate that the client saw."""
        certificate: Any = self.client.getpeercert()
        return str(certificate["subjectAltName"][0][1])


def test_a_server_context_speaks_tls_from_1_2_on_and_only_http_1_1(files: Path) -> None:
    server = context_of(files, "a.example")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = client_context(maximum_version=version)
        client.set_alpn_protocols(["h2", "http/1.1"])
        done = Handshake(server, client)
        assert done.client.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]
        assert done.client.selected_alpn_protocol() == "http/1.1"
        assert done.served_by == "a.example"
    assert server.minimum_version is ssl.TLSVersion.TLSv1_2
    assert server.options & ssl.OP_NO_RENEGOTIATION


def test_the_minimum_and_the_protocols_can_be_chosen(files: Path) -> None:
    server = context_of(files, "a.example", minimum=ssl.TLSVersion.TLSv1_3, alpn=())
    client = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(ssl.SSLError) as info:
        Handshake(server, client)
    assert info.value.reason in ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION")
    client = client_context()
    client.set_alpn_protocols(["http/1.1"])
    assert Handshake(server, client).client.selected_alpn_protocol() is None


def test_key_and_certificates_may_be_in_one_file(files: Path) -> None:
    assert Handshake(server_context(files / "both.pem"), client_context()).served_by == "a.example"


def test_an_encrypted_key_needs_its_password_and_nobody_is_asked_on_the_terminal(files: Path) -> None:
    with pytest.raises(ValueError, match="no password was given"):
        server_context(files / "a.example.pem", files / "encrypted.key")
    server = server_context(files / "a.example.pem", files / "encrypted.key", password="secret")
    assert Handshake(server, client_context()).served_by == "a.example"
    with pytest.raises(ssl.SSLError):
        server_context(files / "a.example.pem", files / "encrypted.key", password="wrong")


def test_files_that_do_not_serve_are_told(files: Path) -> None:
    with pytest.raises(FileNotFoundError):
        server_context(files / "no.pem")
    with pytest.raises(ssl.SSLError) as info:
        server_context(files / "a.example.pem", files / "b.example.key")
    assert info.value.reason == "KEY_VALUES_MISMATCH"


# ------------------------------------------------------------------------------------ certificates of clients


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("required", [True, False])
def test_a_clients_certificate_is_verified_and_shown(
    required: bool, version: ssl.TLSVersion, files: Path
) -> None:
    server = context_of(
        files,
        "a.example",
        client_ca=files / "ca.pem",
        client_certificates="required" if required else "optional",
    )
    certificate = Handshake(server, client_context(CA, maximum_version=version)).server.getpeercert()
    assert certificate is not None
    assert certificate["subjectAltName"] == (("email", "somebody@client.example"),)
    with pytest.raises(ssl.SSLError, match=r"(?i)verify failed|unknown ca"):
        Handshake(server, client_context(OTHER_CA, maximum_version=version))
    nobody = client_context(maximum_version=version)
    if required:
        with pytest.raises(ssl.SSLError, match=r"(?i)did not return a certificate"):
            Handshake(server, nobody)
    else:
        assert Handshake(server, nobody).server.getpeercert() is None


def test_clients_are_not_asked_for_a_certificate_unless_it_is_said(files: Path) -> None:
    assert Handshake(context_of(files, "a.example"), client_context(CA)).server.getpeercert() is None


def test_authorities_may_be_in_a_folder(files: Path, tmp_path: Path, program: Callable[[str], str]) -> None:
    command = [program("openssl"), "x509", "-noout", "-subject_hash", "-in", str(files / "ca.pem")]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / f"{name}.0").write_bytes((files / "ca.pem").read_bytes())
    server = context_of(files, "a.example", client_ca=tmp_path, client_certificates="required")
    assert Handshake(server, client_context(CA)).server.getpeercert()
    with pytest.raises(ssl.SSLError, match="verify failed"):
        Handshake(server, client_context(OTHER_CA))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"client_certificates": "required"}, "client_ca= does not say whose"),
        ({"client_certificates": "optional"}, "client_ca= does not say whose"),
        ({"client_ca": "ca.pem"}, "has no effect"),
        ({"client_certificates": "yes"}, "not 'yes'"),
    ],
)
def test_arguments_that_contradict_each_other_are_told(
    options: dict[str, Any], complaint: str, files: Path
) -> None:
    with pytest.raises(ValueError, match=complaint):
        context_of(files, "a.example", **options)


# --------------------------------------------------------------------------------------------- by server name


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("a.example", "a.example"),
        ("A.EXAMPLE", "a.example"),
        ("one.b.example", "b.example"),
        ("special.b.example", "a.example"),
        ("b.example", "c.example"),
        ("two.labels.b.example", "c.example"),
        ("xn--bcher-kva.example", "b.example"),
        ("other.example", "c.example"),
        (None, "c.example"),
    ],
)
def test_the_certificate_is_that_of_the_name_that_was_asked_for(
    asked: str | None, served: str, files: Path
) -> None:
    a, b, c = (context_of(files, name) for name in ("a.example", "b.example", "c.example"))
    names = {"a.example": a, "*.b.example": b, "special.b.example": a, "Bücher.example.": b}
    server = by_server_name(names, default=c)
    done = Handshake(server, client_context(check_hostname=False), asked)
    assert done.served_by == served
    assert done.server.context is {"a.example": a, "b.example": b, "c.example": c}[served]


@pytest.mark.parametrize("asked", ["other.example", None])
def test_without_a_default_an_unknown_name_ends_the_handshake_with_its_alert(
    asked: str | None, files: Path
) -> None:
    server = by_server_name({"a.example": context_of(files, "a.example")}, default=None)
    assert Handshake(server, client_context()).served_by == "a.example"
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(check_hostname=False).wrap_bio(to_client, to_server, server_hostname=asked)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with pytest.raises(ssl.SSLError):
        server.wrap_bio(to_server, to_client, server_side=True).do_handshake()
    with pytest.raises(ssl.SSLError) as info:
        client.do_handshake()
    assert info.value.reason == "TLSV1_UNRECOGNIZED_NAME"


def test_protocols_and_authorities_go_with_the_name(files: Path) -> None:
    asking = {"client_certificates": "required"}
    a = context_of(files, "a.example", client_ca=files / "ca.pem", alpn=["one"], **asking)
    b = context_of(files, "b.example", client_ca=files / "other-ca.pem", alpn=["two"], **asking)
    server = by_server_name({"a.example": a, "b.example": b}, default=None)
    for name, issuer, stranger, protocol in (
        ("a.example", CA, OTHER_CA, "one"),
        ("b.example", OTHER_CA, CA, "two"),
    ):
        client = client_context(issuer)
        client.set_alpn_protocols(["one", "two"])
        done = Handshake(server, client, name)
        assert done.client.selected_alpn_protocol() == protocol
        assert done.server.getpeercert()
        with pytest.raises(ssl.SSLError, match=r"(?i)verify failed|unknown ca"):
            Handshake(server, client_context(stranger), name)


def test_a_session_of_one_name_does_not_get_a_client_in_under_another(files: Path) -> None:
    """A ticket of one name would open under the other, whose authority has not seen the certificate."""
    asking = {"client_certificates": "required"}
    a = context_of(files, "a.example", client_ca=files / "ca.pem", **asking)
    b = context_of(files, "b.example", client_ca=files / "other-ca.pem", **asking)
    server = by_server_name({"a.example": a, "b.example": b}, default=None)
    client = client_context(CA)
    session = Handshake(server, client, "a.example").client.session
    with pytest.raises(ssl.SSLError, match=r"(?i)verify failed|unknown ca"):
        Handshake(server, client, "b.example", session)
    # TLS 1.2 binds a session to its name: it is still a.example's connection, by its context.
    client = client_context(CA, maximum_version=ssl.TLSVersion.TLSv1_2)
    session = Handshake(server, client, "a.example").client.session
    assert Handshake(server, client, "b.example", session).server.context is a


def test_where_no_certificate_is_asked_for_sessions_are_resumed(files: Path) -> None:
    server = by_server_name({"a.example": context_of(files, "a.example")}, default=None)
    client = client_context()
    session = Handshake(server, client).client.session
    assert Handshake(server, client, "a.example", session).client.session_reused


@pytest.mark.parametrize(
    ("options", "attribute"),
    [
        ({"client_ca": "ca.pem", "client_certificates": "required"}, "verify_mode"),
        ({"minimum": ssl.TLSVersion.TLSv1_3}, "minimum_version"),
    ],
)
def test_contexts_that_differ_in_what_the_name_cannot_change_are_told(
    options: dict[str, Any], attribute: str, files: Path
) -> None:
    if "client_ca" in options:
        options = {**options, "client_ca": files / "ca.pem"}
    a, b = context_of(files, "a.example"), context_of(files, "b.example", **options)
    with pytest.raises(ValueError, match=attribute):
        by_server_name({"a.example": a, "b.example": b}, default=None)
    with pytest.raises(ValueError, match=attribute):
        by_server_name({"a.example": a}, default=b)


@pytest.mark.parametrize("name", ["", ".", "*", "*.", "a.*.example", "*.*.example", ".example", "a..example"])
def test_what_cannot_be_a_name_is_told(name: str, files: Path) -> None:
    with pytest.raises(ValueError, match="no server name"):
        by_server_name({name: context_of(files, "a.example")}, default=None)


def test_a_name_that_comes_twice_and_none_at_all_are_told(files: Path) -> None:
    a = context_of(files, "a.example")
    with pytest.raises(ValueError, match="same name"):
        by_server_name({"a.example": a, "A.example": a}, default=None)
    with pytest.raises(ValueError, match="no context"):
        by_server_name({}, default=None)
    assert Handshake(by_server_name({}, default=a), client_context()).served_by == "a.example"


# ------------------------------------------------------------------------------------------------- exchanging


async def test_a_new_context_is_for_new_handshakes_and_connections_keep_theirs(files: Path) -> None:
    holder = ContextHolder(context_of(files, "a.example"))
    client = client_context(check_hostname=False)

    async def connect() -> tuple[TLSTransport, TLSTransport]:
        ends: dict[str, TLSTransport] = {}
        left, right = socket.socketpair()

        async def serve() -> None:
            ends["server"] = await TLSTransport.handshake(right, holder.current, server_side=True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            ends["client"] = await TLSTransport.handshake(left, client, server_hostname="a.example")
        return ends["client"], ends["server"]

    def served_by(transport: TLSTransport) -> str:
        certificate: Any = transport.tls.getpeercert() if isinstance(transport.tls, ssl.SSLObject) else None
        return str(certificate["subjectAltName"][0][1])

    old = await connect()
    replacement = context_of(files, "b.example")
    holder.replace(replacement)
    assert holder.current is replacement
    new = await connect()
    with closing(*old, *new):
        assert (served_by(old[0]), served_by(new[0])) == ("a.example", "b.example")
        for ends in (old, new):
            await ends[0].send_all(b"ask")
            await expect(ends[1], b"ask")
            await ends[1].send_all(b"answer")
            await expect(ends[0], b"answer")


def test_a_session_of_the_old_context_begins_anew_under_the_new_one(files: Path) -> None:
    holder = ContextHolder(context_of(files, "a.example"))
    client = client_context()
    session = Handshake(holder.current, client).client.session
    assert Handshake(holder.current, client, "a.example", session).client.session_reused
    holder.replace(context_of(files, "a.example"))
    assert not Handshake(holder.current, client, "a.example", session).client.session_reused


async def test_the_guides_reload_replaces_the_certificate_at_a_hangup_and_keeps_it_if_the_files_are_bad(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = (
        GUIDE.read_text("utf-8")
        .partition("<!-- the reload")[2]
        .partition("```python\n")[2]
        .partition("```\n")[0]
    )
    public = types.SimpleNamespace(server_context=server_context)
    names: dict[str, Any] = {"trio": trio, "signal": signal, "logging": logging, "trio_http": public}
    exec(compile(source, "certificates.md", "exec"), names)

    def install(name: str) -> None:
        (tmp_path / "cert.pem").write_bytes((files / f"{name}.pem").read_bytes())
        (tmp_path / "key.pem").write_bytes((files / f"{name}.key").read_bytes())

    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    install("a.example")
    holder = ContextHolder(server_context(certfile, keyfile))
    server = types.SimpleNamespace(replace_ssl_context=holder.replace)
    client = client_context(check_hostname=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(names["reload_at_hangup"], server, certfile, keyfile)
        install("b.example")
        assert Handshake(holder.current, client).served_by == "a.example"
        signal.raise_signal(signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert Handshake(holder.current, client).served_by == "b.example"
        assert caplog.records == []
        certfile.write_bytes((files / "c.example.pem").read_bytes())  # half of a renewal
        signal.raise_signal(signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert Handshake(holder.current, client).served_by == "b.example"
        assert "KEY_VALUES_MISMATCH" in caplog.text
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "wrong", [ssl.create_default_context(), "cert.pem", None], ids=["client", "str", "None"]
)
def test_what_is_no_context_for_servers_is_refused_and_the_present_one_stays(wrong: Any, files: Path) -> None:
    present = context_of(files, "a.example")
    holder = ContextHolder(present)
    with pytest.raises(TypeError):
        holder.replace(wrong)
    assert holder.current is present
    with pytest.raises(TypeError):
        ContextHolder(wrong)
    with pytest.raises(TypeError):
        by_server_name({"a.example": wrong}, default=present)
    if wrong is not None:
        with pytest.raises(TypeError):
            by_server_name({"a.example": present}, default=wrong)
