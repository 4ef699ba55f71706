"""Proxies: what one is, and how a client is told which to take.

A proxy is named by a URL. The credentials in it are taken out at once, so that no repr, error or log that
shows the proxy shows them. What goes over the connection to it is elsewhere: `open_tunnel` and `open_socks`.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, cast, get_args
from urllib.parse import unquote

import attrs

from trio_http import wire
from trio_http._errors import InvalidRequest
from trio_http.messages import FieldsInput, as_wire_headers

from ._origin import Origin
from ._url import _ABSOLUTE, _AUTHORITY, _host_of, masked

ProxyScheme: TypeAlias = Literal["http", "https", "socks5", "socks5h"]

#: The port of a proxy whose URL names none: the scheme's own, and for SOCKS the one that RFC 1928 §3 gives.
#: Precedent: Go; curl takes 1080 for all but https.
PROXY_PORTS: Final[dict[str, int]] = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# They say where a request goes and how long it is, and are not to be had twice.
_OURS: Final = frozenset([b"host", b"content-length", b"transfer-encoding"])


class ProxyFailed(Exception):  # what failed is the proxy; as in RequestFailed
    """A proxy did not give us a connection to where we wanted. No byte went to the origin.

    Args:
      what: what went wrong, as a sentence without a full stop.
      proxy: its URL, without credentials.
      target: host and port that it was asked for.

    Attributes:
      what, proxy, target: as given.
    """

    def __init__(self, what: str, proxy: str, target: str) -> None:
        super().__init__(what, proxy, target)
        self.what = what
        self.proxy = proxy
        self.target = target

    def __str__(self) -> str:
        return f"proxy {self.proxy}, asked for {self.target}: {self.what}"


def _as_host(host: str) -> str:
    return _host_of(f"[{host}]" if ":" in host else host, host)


def _as_pairs(fields: FieldsInput | None) -> tuple[tuple[bytes, bytes], ...]:
    try:
        return tuple(as_wire_headers(fields).raw_items())
    except (wire.LocalProtocolError, UnicodeEncodeError) as exc:
        raise InvalidRequest(f"header fields for a proxy that cannot be sent: {exc}") from exc


def _hidden(credentials: object) -> str:
    return "None" if credentials is None else "'***'"


def _names_alone(pairs: tuple[tuple[bytes, bytes], ...]) -> str:
    return repr([name.decode("ascii") for name, _ in pairs])


@attrs.frozen(kw_only=True)
class Proxy:
    """A proxy, and who we are to it. Two with the same values are equal, and their connections are shared.

    Mostly made by `Proxy.from_url`.

    Attributes:
      scheme: how it is spoken to. "http": HTTP over TCP; "https": HTTP over TLS; "socks5": SOCKS 5, and it is
        sent the address that we have found for a name; "socks5h": SOCKS 5, and it is sent the name. What is
        sent to an https origin is under TLS to that origin in each case, and the proxy cannot read it.
      host: its name or IP address; brought into lower case.
      port: 1-65535.
      credentials: user name and password; None: none are sent. Never in the repr.
      headers: field lines that go to the proxy and no further. Not for SOCKS. The repr has their names only.
      ssl_context: for the TLS to an https proxy, which is not the one to the origin. None: the proxy is
        verified by the system's certificates. Compared by identity.
      authorization: the value of the Proxy-Authorization field, by the Basic scheme (RFC 7617, in UTF-8);
        None without credentials, and for SOCKS. It is made from the credentials.

    Raises:
      InvalidRequest: a value that cannot be used, with the reason. The credentials are not in the text.
    """

    scheme: ProxyScheme
    host: str = attrs.field(converter=_as_host)
    port: int
    credentials: tuple[str, str] | None = attrs.field(default=None, repr=_hidden)
    headers: tuple[tuple[bytes, bytes], ...] = attrs.field(default=(), converter=_as_pairs, repr=_names_alone)
    ssl_context: ssl.SSLContext | None = None
    authorization: bytes | None = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.scheme not in PROXY_PORTS:
            raise InvalidRequest(
                f"proxy of the scheme {self.scheme!r}, expected one of {', '.join(get_args(ProxyScheme))}"
            )
        port: object = self.port
        if not isinstance(port, int) or not 0 < port < 65536:
            raise InvalidRequest(f"proxy {self.host} has the port {self.port!r}, expected 1-65535")
        if self.ssl_context is not None and self.scheme != "https":
            raise InvalidRequest(
                f"proxy {self} has an ssl_context, which is for the TLS to an https proxy; that of an https "
                "origin is the client's"
            )
        if self.headers and self.is_socks:
            raise InvalidRequest(f"proxy {self} has header fields, for which SOCKS has no room (RFC 1928)")
        names = {name.lower() for name, _ in self.headers}
        if ours := sorted(names & _OURS):
            raise InvalidRequest(f"proxy {self} has the field {ours[0].decode()}, which is not to be chosen")
        if self.credentials is not None and b"proxy-authorization" in names:
            raise InvalidRequest(f"proxy {self} has credentials and a Proxy-Authorization, expected only one")
        object.__setattr__(self, "authorization", self._checked_credentials())

    def _checked_credentials(self) -> bytes | None:
        """Return the value of Proxy-Authorization; what the proxy's scheme cannot carry is refused."""
        if self.credentials is None:
            return None
        given: object = self.credentials
        if not isinstance(given, tuple) or [type(each) for each in given] != [str, str]:
            raise InvalidRequest(f"the credentials of proxy {self} are no tuple of two str")
        user, password = given
        whose = f"of the credentials of proxy {self}"
        try:
            lengths = {"user name": len(user.encode()), "password": len(password.encode())}
        except UnicodeEncodeError as exc:
            # Not chained: the error has the text. So it is with bytes of the environment that are no UTF-8.
            raise InvalidRequest(f"one {whose} cannot be written in UTF-8 ({exc.reason})") from None
        if self.is_socks:
            for what, length in lengths.items():
                if not 0 < length < 256:
                    raise InvalidRequest(
                        f"the {what} {whose} has {length} bytes, expected 1-255 (RFC 1929 §2)"
                    )
            return None
        if ":" in user:
            raise InvalidRequest(
                f"the user name {whose} has a colon, where the Basic scheme puts the password (RFC 7617 §2)"
            )
        if _CONTROL.search(user + password):
            raise InvalidRequest(f"one {whose} has control characters (RFC 7617 §2)")
        return b"Basic " + base64.b64encode(f"{user}:{password}".encode())

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        credentials: tuple[str, str] | None = None,
        headers: FieldsInput | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> Proxy:
        """Return the proxy that a URL names: ``"http://user:password@proxy.example:3128"``.

        Args:
          url: scheme, host, and perhaps credentials and a port; no path but ``/``. In the credentials what a
            URL gives another meaning is percent-encoded, in UTF-8.
          credentials: user name and password as they are, instead of in the URL.
          headers, ssl_context: as the attributes.

        Raises:
          InvalidRequest: the URL is no such one, or something cannot be used; the text says what, and has no
            credentials in it.
        """
        shown = masked(url)
        match = _ABSOLUTE.fullmatch(url)
        if match is None:
            raise InvalidRequest(
                f"proxy URL {shown!r} is not absolute, expected one such as http://proxy.example:3128"
            )
        scheme, authority, path, query = match.groups()
        scheme = scheme.lower()
        if scheme not in PROXY_PORTS:
            raise InvalidRequest(
                f"proxy URL {shown!r} has the scheme {scheme!r}, expected one of "
                f"{', '.join(get_args(ProxyScheme))}"
            )
        userinfo, _, hostport = authority.rpartition("@")
        parts = _AUTHORITY.fullmatch(hostport)
        if parts is None:
            raise InvalidRequest(f"proxy URL {shown!r} has a malformed host or port (RFC 3986 §3.2)")
        if path not in ("", "/") or query is not None or "#" in url:
            raise InvalidRequest(f"proxy URL {shown!r} has more than credentials, host and port")
        host, port = parts.groups()
        if port and (len(port) > 5 or not 0 < int(port) < 65536):
            raise InvalidRequest(f"proxy URL {shown!r} has the port {port}, expected 1-65535")
        if userinfo and credentials is not None:
            raise InvalidRequest(f"proxy URL {shown!r} has credentials, and others were given beside it")
        return cls(
            scheme=cast(ProxyScheme, scheme),
            host=_host_of(host, shown),
            port=int(port) if port else PROXY_PORTS[scheme],
            credentials=_credentials_of(userinfo, shown) if userinfo else credentials,
            headers=headers,
            ssl_context=ssl_context,
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_socks(self) -> bool:
        """It is spoken to by SOCKS, not by HTTP."""
        return self.scheme in ("socks5", "socks5h")

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Return the field lines of each request that this proxy is to read: its own, and who we are."""
        if self.authorization is None:
            return list(self.headers)
        return [*self.headers, (b"Proxy-Authorization", self.authorization)]


def _credentials_of(userinfo: str, shown: str) -> tuple[str, str]:
    if _BAD_PERCENT.search(userinfo):
        raise InvalidRequest(
            f"proxy URL {shown!r} has a % in its credentials without two hexadecimal digits; % itself is %25 "
            "(RFC 3986 §2.1)"
        )
    user, _, password = userinfo.partition(":")
    try:
        return unquote(user, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError as exc:
        # Not chained: the error has the bytes, which may be the password.
        raise InvalidRequest(
            f"proxy URL {shown!r} has credentials that are not UTF-8 ({exc.reason})"
        ) from None


# ------------------------------------------------------------------------------------------------- the choice

#: Says which proxy a request to an origin goes through; None: through none.
ProxyChooser: TypeAlias = Callable[[Origin], Proxy | None]

#: What a client may be given: one proxy for all, its URL, a function of the origin, or None for no proxy.
ProxyChoice: TypeAlias = "Proxy | str | ProxyChooser | None"


def no_proxy(_: Origin) -> None:
    """Choose none: the `ProxyChooser` of a client without proxies."""


def as_chooser(given: ProxyChoice) -> ProxyChooser:
    """Return ``given`` as a function of the origin.

    The function raises what a function that was given raises, and TypeError when that returns something else
    than a `Proxy` or None.

    Raises:
      InvalidRequest: a URL that names no proxy.
      TypeError: something that no proxy can be chosen by.
    """
    if given is None:
        return no_proxy
    if isinstance(given, str):
        given = Proxy.from_url(given)
    if isinstance(given, Proxy):
        proxy = given
        return lambda origin: proxy
    if not callable(given):
        raise TypeError(f"proxy must be a Proxy, its URL, a function of the origin or None, not {given!r}")
    choose = given

    def checked(origin: Origin) -> Proxy | None:
        chosen: object = choose(origin)
        if chosen is None or isinstance(chosen, Proxy):
            return chosen
        raise TypeError(
            f"the function that chooses a proxy returned {type(chosen).__name__} for {origin}, expected a "
            "Proxy or None"
        )

    return checked
