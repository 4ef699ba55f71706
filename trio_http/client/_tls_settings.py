"""TLS to origins: whom to trust, which certificate to show, which name to expect, and pinned certificates.

*Whose certificates are trusted.* The system's. On Windows and macOS only the system itself can judge by them,
which the package ``truststore`` (the extra trio-http[truststore]) has it do; without it Python's own ways
remain, which on Windows see a part of the system's store, and on macOS whatever its OpenSSL was built with.
Elsewhere the system's store is a file that OpenSSL reads. There ``truststore`` would read that file anew in
each handshake, at 35–45 ms of standing still (measured with 0.10 on Debian), so it is not used.

*Resumed sessions* save a round trip in TLS 1.2. In TLS 1.3 they save none, but a fifth of the client's work
and two thirds of the server's: 0.65 instead of 0.84 ms, and 0.40 instead of 1.19 ms, with a key of RSA
(measured on two cores with OpenSSL 3.0). What they cost is that the certificate, sound when the session
began, is not verified again, and that one who watches can tell two connections of the same client (RFC 8446
appendix C.4). So they are off unless asked for. Pins are compared in any case.

*Keys for a look at the traffic*: the file that SSLKEYLOGFILE names is written, as by every context that
`ssl.create_default_context` makes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import ssl
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NoReturn, TypeAlias

import trio

from trio_http.transport import StreamTransport, TLSFacts, Transport, tls_over

from ._connect import DialTimes
from ._origin import Origin
from ._url import host_key

#: A context for all origins, or a function that gives one for each; None: one of our own, for all.
SSLContextInput: TypeAlias = "ssl.SSLContext | Callable[[Origin], ssl.SSLContext] | None"

#: Where ``truststore`` does more than Python's own `ssl`.
_NATIVE_STORES: Final = frozenset({"win32", "darwin"})

#: Of how many servers the last session is kept, at some tens of kB each. Arbitrary.
_MAX_SESSIONS: Final = 100

# Where the certificates lie on systems whose Python was built elsewhere, with other paths in its OpenSSL.
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Gentoo
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, the BSDs
)


def client_context(
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    *,
    password: str | bytes | None = None,
    cafile: str | os.PathLike[str] | None = None,
    alpn: Iterable[str] = ("http/1.1",),
) -> ssl.SSLContext:
    """Make a TLS context for a client, as a `Client` makes its own. The files are read now.

    TLS 1.2 or later; certificates and the names in them are verified.

    Args:
      certfile: the certificate to show to servers that ask for one, and those between it and the root, in
        that order; PEM. None: none is shown.
      keyfile: its private key, PEM; None when that is in `certfile`.
      password: of the private key, if it is encrypted.
      cafile: the authorities to trust, PEM; no others are. None: those of the system.
      alpn: protocols, by preference (RFC 7301).

    Raises:
      OSError: a file cannot be read.
      ssl.SSLError: a file is not what it should be, or key and certificate do not belong together.
      ValueError: a key without a certificate; or the key is encrypted and there is no password.
    """
    if certfile is None and keyfile is not None:
        raise ValueError("keyfile= has no effect without certfile=")
    context = _system_context() if cafile is None else ssl.create_default_context(cafile=cafile)
    context.set_alpn_protocols(list(alpn))
    if certfile is not None:
        # Without a password OpenSSL would ask for one on the terminal, and the program would stand still.
        context.load_cert_chain(certfile, keyfile, password=_no_password if password is None else password)
    return context


def _no_password() -> NoReturn:
    raise ValueError("the private key is encrypted, and no password was given")


def _system_context() -> ssl.SSLContext:
    """Return a context that trusts the authorities of the system."""
    if sys.platform in _NATIVE_STORES:
        try:
            import truststore  # deferred import: an optional dependency
        except ImportError:
            pass
        else:
            context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            # What `ssl.create_default_context` does by itself.
            if (keylog := os.environ.get("SSLKEYLOGFILE")) and not sys.flags.ignore_environment:
                context.keylog_filename = keylog
            return context
    context = ssl.create_default_context()
    folder = ssl.get_default_verify_paths().capath
    # A folder's certificates are read when they are needed, so they are not counted.
    if not context.cert_store_stats()["x509_ca"] and not (folder and os.listdir(folder)):
        for bundle in _BUNDLES:
            if os.path.isfile(bundle):
                context.load_verify_locations(bundle)
                break
    return context


class CertificateMismatch(ssl.SSLError):
    """A server has shown a certificate, sound or not, that is none of those pinned for it.

    Nothing of a request was sent. The fault of the server, of one who stands between, or of pins that are
    out of date.

    Args:
      host: as it was asked for.
      expected: the pins of that host, as they were given.
      found: what would have matched: the pin of the certificate and, where it could be read, that of its
        public key; nothing when there was no certificate.

    Attributes:
      host, expected, found: as given.
    """

    def __init__(self, host: str, expected: Iterable[str], found: Iterable[str]) -> None:
        self.host = host
        self.expected = tuple(expected)
        self.found = tuple(found)
        what = f"has shown {' or '.join(self.found)}" if self.found else "has shown none"
        pins = ", ".join(self.expected)
        super().__init__(
            ssl.SSL_ERROR_SSL,
            f"the certificate of {host} is none of those pinned: expected {pins}; the server {what}",
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.host, self.expected, self.found)


class TLSSettings:
    """How TLS is spoken to each origin.

    Args:
      ssl_context: for all origins, or a function that is called for each dial with its origin and should give
        the same context each time, for making one takes some 40 ms. None: `client_context`, made when first
        needed. A context of the caller's own is used as it is: also its ALPN, which should offer nothing but
        "http/1.1", and the certificate that it shows.
      tls_names: by host: another name to ask the server for (SNI), and to find in its certificate.
      pinned_certificates: by host: what the server's own certificate must be, over and above what the context
        verifies; one of several. Either the SHA-256 of the certificate, as 64 hexadecimal digits with or
        without colons; or that of its public key, which outlives the certificate, as ``sha256//`` and Base64
        (the form of curl's ``--pinnedpubkey``; RFC 7469 §2.4 has the same digest).
      resume_sessions: begin a connection with the session of the last one to the same server. Not where
        ``truststore`` judges, for it must see the certificate each time.

    Raises:
      TypeError: a context is none for clients.
      ValueError: a pin has another form, or there is none for a host; or what is to be a host is none.
    """

    def __init__(
        self,
        *,
        ssl_context: SSLContextInput = None,
        tls_names: Mapping[str, str] | None = None,
        pinned_certificates: Mapping[str, str | Iterable[str]] | None = None,
        resume_sessions: bool = False,
    ) -> None:
        self._given = ssl_context if ssl_context is None or callable(ssl_context) else _checked(ssl_context)
        self._own: ssl.SSLContext | None = None
        self._resumes = resume_sessions
        # The last connection of each, for its session grows: TLS 1.3 sends tickets after the handshake.
        self._last: dict[tuple[ssl.SSLContext, str, str, int], ssl.SSLObject] = {}
        self._names = {host_key(host, "tls_names"): name for host, name in (tls_names or {}).items()}
        self._pins: dict[str, dict[bytes, str]] = {}
        for host, given in (pinned_certificates or {}).items():
            pins = {_digest(pin): pin for pin in ([given] if isinstance(given, str) else given)}
            if not pins:
                raise ValueError(f"the pinned certificates of {host!r}: there must be at least one")
            self._pins[host_key(host, "pinned_certificates")] = pins

    def context_for(self, origin: Origin) -> ssl.SSLContext:
        """Return the context for a connection to ``origin``.

        Raises:
          TypeError: the function that was given for it returned something else.
          Exception: what it raised.
        """
        if self._given is None:
            if self._own is None:
                self._own = client_context()
            return self._own
        return _checked(self._given(origin)) if callable(self._given) else self._given

    def name_for(self, origin: Origin) -> str:
        """Return the name to ask the server of ``origin`` for, and to find in its certificate."""
        # The name in a certificate has no final dot, however absolute the name in the URL is.
        return self._names.get(_plain(origin.host), origin.host.removesuffix("."))

    def check(self, origin: Origin, tls: TLSFacts) -> None:
        """Look at what the handshake has brought: the server's certificate is one of those pinned for
        ``origin``, if any are, and the protocol is ours.

        Raises:
          CertificateMismatch: it is none of them.
          ssl.SSLError: it is HTTP/2, which somebody must have offered (ALPN).
        """
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            raise ssl.SSLError(
                ssl.SSL_ERROR_SSL,
                f"{origin} has chosen HTTP/2, which the context offered it; it should offer http/1.1 alone"
                ' (`set_alpn_protocols(["http/1.1"])`)',
            )
        pins = self._pins.get(_plain(origin.host))
        if pins is None:
            return
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        found: list[str] = []
        if certificate:
            digest = hashlib.sha256(certificate).digest()
            if digest in pins:
                return
            found.append(digest.hex())
            try:
                digest = hashlib.sha256(public_key_of(certificate)).digest()
            except ValueError:
                pass  # OpenSSL takes encodings that we do not; what cannot be read cannot match
            else:
                if digest in pins:
                    return
                found.append(f"sha256//{base64.b64encode(digest).decode('ascii')}")
        raise CertificateMismatch(origin.host, pins.values(), found)

    async def secure(
        self,
        stream: trio.abc.Stream | Transport,
        origin: Origin,
        *,
        leftover: bytes = b"",
        times: DialTimes | None = None,
    ) -> Transport:
        """Speak TLS to ``origin`` over ``stream``, to the end of the handshake and the look at the pins.

        The stream is ours from the call on: whatever is raised, it has been closed.

        Args:
          stream: leads to the origin: a connection, or a tunnel. A `trio.SSLStream` is taken for TLS to the
            origin itself; only its handshake is done, if it was not, and the pins are looked at.
          origin: whose server is at the other end.
          leftover: what was received already, any length.
          times: gets ``secured``.

        Returns:
          The transport, ready for a request.

        Raises:
          trio.BrokenResourceError: as `trio_http.transport.tls_over`.
          CertificateMismatch, ssl.SSLError: as `check`.
          Exception: as `context_for`.

        Cancellation: the stream is closed, without an alert.
        """
        if isinstance(stream, trio.SSLStream):
            transport: Transport = StreamTransport(stream)
            try:
                await stream.do_handshake()
            except BaseException:
                await transport.aclose_forcefully()
                raise
        else:
            try:
                context = self.context_for(origin)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            name = self.name_for(origin)
            key = context, name, origin.host, origin.port
            transport = await tls_over(
                stream, context, server_hostname=name, leftover=leftover, session=self._session(key)
            )
            if self._resumes and type(context) is ssl.SSLContext and isinstance(transport.tls, ssl.SSLObject):
                self._last[key] = transport.tls
                if len(self._last) > _MAX_SESSIONS:
                    del self._last[next(iter(self._last))]
        try:
            self.check(origin, transport.tls)
        except BaseException:
            await transport.aclose_forcefully()
            raise
        if times is not None:
            times.secured = trio.current_time()
        return transport

    def _session(self, key: tuple[ssl.SSLContext, str, str, int]) -> ssl.SSLSession | None:
        """Return the session to resume, which is given out once; None when there is none."""
        last = self._last.pop(key, None)
        return None if last is None else last.session


def _plain(host: str) -> str:
    """Return a host as hosts are compared."""
    return host.lower().removesuffix(".")


def _checked(context: object) -> ssl.SSLContext:
    """Return what may be a client's context."""
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(
            f"ssl_context must be an ssl.SSLContext, or a function that returns one, not {context!r}; "
            "trio_http.client_context makes one"
        )
    if context.protocol == ssl.PROTOCOL_TLS_SERVER:
        raise TypeError("ssl_context is one for servers; trio_http.client_context makes one for clients")
    return context


def _digest(pin: str) -> bytes:
    """Return the 32 bytes of a pin. Those of certificates and of public keys need not be told apart."""
    try:
        if pin.startswith("sha256//"):
            digest = base64.b64decode(pin.removeprefix("sha256//"), validate=True)
        else:
            digest = bytes.fromhex(pin.replace(":", ""))
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError(
            f"pinned certificate {pin!r}: expected the SHA-256 of a certificate in 64 hexadecimal digits, or"
            " that of a public key as sha256// and Base64"
        )
    return digest


# -------------------------------------------------------------------- as much of DER as finding the key needs

_INTEGER: Final = 0x02
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0


def public_key_of(certificate: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of a certificate in DER: what pins of public keys are digests of.

    It stands behind the optional version, the serial number, and four sequences: signature algorithm, issuer,
    validity, subject. The `cryptography` package could tell too; it is too much to ask for this.

    Raises:
      ValueError: this is no certificate, or not in DER.

    Reference: RFC 5280 §4.1; X.690 §8.1, §10.1.
    """
    start, stop = _contents(certificate, 0, len(certificate), _SEQUENCE)
    start, stop = _contents(certificate, start, stop, _SEQUENCE)
    if certificate[start : start + 1] == bytes([_VERSION]):
        _, start = _contents(certificate, start, stop, _VERSION)
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE):
        _, start = _contents(certificate, start, stop, tag)
    _, end = _contents(certificate, start, stop, _SEQUENCE)
    return certificate[start:end]


def _contents(der: bytes, start: int, stop: int, tag: int) -> tuple[int, int]:
    """Return where the contents of the element at ``start`` begin, and where they end, ``stop`` at most."""
    if stop < start + 2 or der[start] != tag:
        raise ValueError(f"expected an element {tag:#04x} at byte {start} of a certificate")
    length, begin = der[start + 1], start + 2
    if length >= 0x80:
        octets = der[begin : begin + (length & 0x7F)]
        length, begin = int.from_bytes(octets, "big"), begin + len(octets)
        # The shortest form is the only one, and the indefinite one (no octets) is none.
        if not octets or octets[0] == 0 or length < 0x80:
            raise ValueError(f"the element at byte {start} of a certificate has a length that is not in DER")
    if begin + length > stop:
        raise ValueError(f"the element at byte {start} of a certificate is longer than what it is in")
    return begin, begin + length
