"""TLS contexts for servers: good defaults, one for each server name, and one that can be exchanged."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NoReturn, TypeAlias

#: Whether clients have to show a certificate.
ClientCertificates: TypeAlias = Literal["none", "optional", "required"]

_VERIFY_MODES: Final[dict[str, ssl.VerifyMode]] = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}

#: What a connection takes from the context that it begins with, and keeps when the server name leads it to
#: another one; the rest (certificates, whom to trust, ciphers, ALPN) it takes from that one. Observed with
#: OpenSSL 3.0, in whose source "SSL_set_SSL_CTX" copies no more.
_KEPT_FROM_THE_FIRST: Final = (
    "verify_mode",
    "verify_flags",
    "minimum_version",
    "maximum_version",
    "options",
    "num_tickets",
)


def server_context(
    certfile: str | os.PathLike[str],
    keyfile: str | os.PathLike[str] | None = None,
    *,
    password: str | bytes | None = None,
    client_ca: str | os.PathLike[str] | None = None,
    client_certificates: ClientCertificates = "none",
    alpn: Iterable[str] = ("http/1.1",),
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
) -> ssl.SSLContext:
    """Make a TLS context for a server. The files are read now.

    Ciphers are Python's own choice (forward secrecy and authenticated encryption only). Renegotiation is off:
    it lets a client make the server work for nothing, and no client of HTTP/1.1 needs it.

    Args:
      certfile: the server's certificate and those between it and the root, in that order; PEM.
      keyfile: its private key, PEM; None when that is in `certfile`.
      password: of the private key, if it is encrypted.
      client_ca: who may issue certificates of clients: a PEM file, or a directory of such as ``openssl
        rehash`` leaves it. Public authorities are never trusted for that.
      client_certificates: "none" asks for none; "optional" verifies what is shown; "required" ends the
        handshake of who shows none. Both need `client_ca`.
      alpn: protocols, by preference (RFC 7301).
      minimum: the lowest version of TLS. Lower ones than 1.2 are deprecated (RFC 8996).

    Raises:
      OSError: a file cannot be read.
      ssl.SSLError: a file is not what it should be, or key and certificate do not belong together.
      ValueError: the arguments contradict each other, or the key is encrypted and there is no password.
    """
    if client_certificates not in _VERIFY_MODES:
        raise ValueError(
            f'client_certificates must be "none", "optional" or "required", not {client_certificates!r}'
        )
    if client_certificates != "none" and client_ca is None:
        raise ValueError(f"client certificates are {client_certificates}, but client_ca= does not say whose")
    if client_certificates == "none" and client_ca is not None:
        # Somebody has forgotten something, and believes that nobody gets in without a certificate.
        raise ValueError('client_ca= has no effect while client_certificates= is "none"')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = minimum
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(alpn))
    # Without a password OpenSSL would ask for one on the terminal, and the program would stand still.
    context.load_cert_chain(certfile, keyfile, password=_no_password if password is None else password)
    if client_ca is not None:
        if os.path.isdir(client_ca):
            context.load_verify_locations(capath=client_ca)
        else:
            context.load_verify_locations(cafile=client_ca)
        context.verify_mode = _VERIFY_MODES[client_certificates]
    return context


def _no_password() -> NoReturn:
    raise ValueError("the private key is encrypted, and no password was given")


def by_server_name(
    contexts: Mapping[str, ssl.SSLContext], *, default: ssl.SSLContext | None
) -> ssl.SSLContext:
    """Make a context that takes the certificate, and all that goes with it, by the name a client asks for.

    A name applies before a pattern. A client that asks for a name which is not there, or for none, gets
    `default`; without that its handshake ends with the alert unrecognized_name.

    When client certificates are asked for, TLS 1.3 sessions are not resumed: with a session that began under
    one name, a client could get in under another, whose authority has never seen its certificate.

    Args:
      contexts: by name, as in "a.example" or "*.b.example"; the asterisk stands for exactly one label, as in
        certificates (RFC 9525 §6.3). Names are compared without case, and may be in Unicode.
      default: for all others; None refuses them.

    Raises:
      TypeError: one of the contexts is none for servers.
      ValueError: there is no context; a name cannot be one; or the contexts differ in what is settled before
        the name is known: whether client certificates are asked for, versions, options, verification flags,
        and the number of tickets.

    Reference: RFC 6066 §3.
    """
    names = {_server_name(name): _checked(context) for name, context in contexts.items()}
    if len(names) < len(contexts):
        raise ValueError(f"two of these are the same name: {', '.join(map(repr, contexts))}")
    everyone = [*names.values()] + ([] if default is None else [_checked(default)])
    if not everyone:
        raise ValueError("there is no context to choose")
    first = everyone[0]
    for attribute in _KEPT_FROM_THE_FIRST:
        if any(getattr(context, attribute) != getattr(first, attribute) for context in everyone):
            raise ValueError(
                f"the contexts differ in {attribute}, which is settled before the client has said a name"
            )
    outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for attribute in _KEPT_FROM_THE_FIRST:
        setattr(outer, attribute, getattr(first, attribute))
    if outer.verify_mode is not ssl.CERT_NONE and len(everyone) > 1:
        # Tickets are the outer context's, so those of one name open under all of them; in TLS 1.3 without a
        # new look at the client's certificate. (In TLS 1.2 a session brings its own name with it.)
        outer.num_tickets = 0

    def choose(session: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: Any) -> int | None:
        chosen = default
        if name is not None:
            name = name.lower().rstrip(".")
            chosen = names.get(name) or names.get("*." + name.partition(".")[2]) or default
        if chosen is None:
            return ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        session.context = chosen
        return None

    outer.sni_callback = choose
    return outer


def _server_name(name: str) -> str:
    """Return a name as a client sends it: in ASCII and lower case."""
    try:
        plain = name.encode("idna").decode("ascii").lower().rstrip(".")
    except UnicodeError as exc:
        raise ValueError(f"{name!r} is no server name: {exc}") from exc
    if not plain or "*" in plain.removeprefix("*.") or plain.startswith("."):
        raise ValueError(f"{name!r} is no server name, such as 'a.example' or '*.b.example'")
    return plain


class ContextHolder:
    """The context of a server, which can be replaced while it serves.

    Each handshake begins with the context that is current then; connections keep what they have. Sessions of
    the old context are not resumed under the new one.

    Args:
      context: for servers.
    """

    __slots__ = ("_current",)

    def __init__(self, context: ssl.SSLContext) -> None:
        self._current = _checked(context)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._current!r}>"

    @property
    def current(self) -> ssl.SSLContext:
        """For the next handshake."""
        return self._current

    def replace(self, context: ssl.SSLContext) -> None:
        """Use another context from now on. May be called from any thread.

        Raises:
          TypeError: it is none for servers; then the present one stays.
        """
        self._current = _checked(context)


def _checked(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return what may be a server's context."""
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"expected an ssl.SSLContext, not {type(context).__name__}")
    if context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise TypeError("the context is one for clients; trio_http.server_context makes one for servers")
    return context
