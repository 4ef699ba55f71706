"""SOCKS 5: a connection to an origin through a proxy that knows no HTTP (RFC 1928, RFC 1929).

Three questions at most, and an answer of a few bytes to each. The proxy may not speak between them, nor
behind the last answer before we do: so what is received beyond an answer is an error, and on success not one
byte of the origin's was taken.

The `socksio` package does the same without I/O, and is not used: an answer has to be cut out of the stream
before it is given to it, which is the harder half; a number that it does not know becomes "malformed", and
the version in two of the three answers is not looked at.
"""

from __future__ import annotations

import ipaddress
from typing import Final

import trio

from trio_http.transport import Transport

from ._origin import Origin
from ._proxy import Proxy, ProxyFailed

_VERSION: Final = 5
# The version of RFC 1929's own exchange within that of RFC 1928.
_PASSWORD_VERSION: Final = 1

_NO_AUTHENTICATION: Final = 0
_PASSWORD: Final = 2
_NONE_ACCEPTABLE: Final = 0xFF

_CONNECT: Final = b"\x05\x01\x00"
_IPV4: Final = 1
_NAME: Final = 3
_IPV6: Final = 4

#: What the codes of a reply mean (RFC 1928 §6).
SOCKS_REPLIES: Final = {
    1: "general failure",
    2: "its rules do not allow this connection",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused by the origin",
    6: "time to live expired on the way",
    7: "command not supported",
    8: "address type not supported",
}


class SOCKSRefused(ProxyFailed):
    """A SOCKS proxy said no: to us, or to the connection that we asked for.

    Attributes:
      code: its reply, 1-255, explained in the text where RFC 1928 §6 knows it. None when it refused us before
        we could ask, for want of credentials that it accepts.
    """

    def __init__(self, what: str, proxy: str, target: str, code: int | None) -> None:
        super().__init__(what, proxy, target)
        self.args = (what, proxy, target, code)  # what `Exception` makes a copy from
        self.code = code


async def open_socks(transport: Transport, target: Origin, proxy: Proxy, resolved: str | None) -> None:
    """Have a SOCKS proxy connect us to an origin.

    When this returns, what is sent and received on the transport is the origin's, from the first byte on; TLS
    to it is the caller's to begin. Otherwise the transport can only be closed, which is the caller's too.

    Args:
      transport: connected to the proxy.
      target: what to be connected to. A host that is an IP address is sent as one.
      proxy: its credentials. Where it has some they are offered, beside going without; the proxy chooses.
      resolved: the IP address to send instead of the host's name; None: the name is sent, and the proxy looks
        it up.

    Raises:
      SOCKSRefused: the proxy does not let us in, or could not or would not connect us.
      ProxyFailed: it does not speak SOCKS 5, closed or lost the connection, or sent more than an answer; a
        cause is chained. Or the name is too long to be sent.
      ValueError: ``resolved`` is no IP address; nothing was sent.
      trio.ClosedResourceError: we have closed the transport meanwhile.

    Cancellation: the proxy may have connected us or not; close the transport.

    Reference: RFC 1928 §3-§6; RFC 1929 §2.
    """
    dialogue = _Dialogue(transport, target, proxy)
    address = dialogue.address(resolved)
    try:
        await dialogue.authenticate()
        await dialogue.connect(address)
    except trio.BrokenResourceError as exc:
        raise dialogue.failure(f"the connection to it broke before its answer: {exc}") from exc


class _Dialogue:
    """What is said to one proxy for one connection, in the order of the methods."""

    def __init__(self, transport: Transport, target: Origin, proxy: Proxy) -> None:
        self._transport = transport
        self._target = target
        self._proxy = proxy
        self._received = b""

    def address(self, resolved: str | None) -> bytes:
        """Return where we want to go: type, address and port (RFC 1928 §4)."""
        host = resolved if resolved is not None else self._target.host
        port = self._target.port.to_bytes(2, "big")
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            if resolved is not None:
                raise
        else:
            return bytes([_IPV4 if ip.version == 4 else _IPV6]) + ip.packed + port
        name = host.encode("ascii")
        if len(name) > 255:
            raise self.failure(f"the name has {len(name)} bytes, and at most 255 can be sent (RFC 1928 §5)")
        return bytes([_NAME, len(name)]) + name + port

    async def authenticate(self) -> None:
        """Agree on how we tell who we are, and tell it (RFC 1928 §3, RFC 1929 §2)."""
        credentials = self._proxy.credentials
        offered = [_NO_AUTHENTICATION] if credentials is None else [_NO_AUTHENTICATION, _PASSWORD]
        await self._transport.send_all(bytes([_VERSION, len(offered), *offered]))
        _, method = await self._answer(2, _VERSION)
        if method == _NONE_ACCEPTABLE:
            if credentials is None:
                raise self.refusal("it lets nobody in without credentials, and we have none", None)
            raise self.refusal("it accepts neither a user name with a password nor going without", None)
        if method not in offered:
            raise self.failure(f"it chose the way of authenticating {method}, which we did not offer")
        if method == _NO_AUTHENTICATION or credentials is None:
            return
        user, password = (each.encode() for each in credentials)
        await self._transport.send_all(
            bytes([_PASSWORD_VERSION, len(user)]) + user + bytes([len(password)]) + password
        )
        _, status = await self._answer(2, _PASSWORD_VERSION)
        if status != 0:
            raise self.refusal(f"it does not accept our user name and password (status {status})", None)

    async def connect(self, address: bytes) -> None:
        """Ask for the connection (RFC 1928 §4, §6)."""
        await self._transport.send_all(_CONNECT + address)
        # The two bytes that tell of a failure are enough: some proxies close right behind them.
        head = await self._beginning(2, _VERSION)
        if code := head[1]:
            meaning = SOCKS_REPLIES.get(code, "a code that RFC 1928 does not know")
            raise self.refusal(f"{meaning} (reply {code})", code)
        # What address it uses is of no use to us; only how long it is.
        kind = (await self._beginning(5, _VERSION))[3]
        if kind == _IPV4:
            length = 4
        elif kind == _IPV6:
            length = 16
        elif kind == _NAME:
            length = 1 + self._received[4]
        else:
            raise self.failure(f"its reply has an address of type {kind}, expected 1, 3 or 4 (RFC 1928 §5)")
        await self._answer(4 + length + 2, _VERSION)

    async def _beginning(self, count: int, version: int) -> bytes:
        """Return what has come of an answer, once it is ``count`` bytes or more."""
        while len(self._received) < count:
            data = await self._transport.receive()
            if not data:
                raise self.failure(f"it closed the connection after {len(self._received)} bytes of an answer")
            self._received += data
            if self._received[0] != version:
                raise self.failure(
                    f"it answered {self._received[:60]!r}, expected version {version} in the first byte: "
                    "is it a SOCKS 5 proxy?"
                )
        return self._received

    async def _answer(self, count: int, version: int) -> bytes:
        """Return an answer of ``count`` bytes; there must be nothing behind it."""
        answer = await self._beginning(count, version)
        if len(answer) > count:
            raise self.failure(
                f"it sent {len(answer) - count} bytes behind an answer, where it is on us to speak: "
                f"{answer[count:][:60]!r}"
            )
        self._received = b""
        return answer

    def failure(self, what: str) -> ProxyFailed:
        return ProxyFailed(what, str(self._proxy), self._authority)

    def refusal(self, what: str, code: int | None) -> SOCKSRefused:
        return SOCKSRefused(what, str(self._proxy), self._authority, code)

    @property
    def _authority(self) -> str:
        host = f"[{self._target.host}]" if ":" in self._target.host else self._target.host
        return f"{host}:{self._target.port}"
