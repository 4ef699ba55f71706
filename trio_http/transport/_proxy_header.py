"""What one PROXY protocol header says, and how it is read and written; `_proxy_protocol` tells the theory."""

from __future__ import annotations

import os
import re
import socket
import struct
from typing import Final, Literal, TypeAlias

import attrs

from ._transport import Address

ProxyFamily: TypeAlias = Literal["tcp4", "tcp6", "udp4", "udp6", "unix", "unknown"]

V1_START: Final = b"PROXY "
V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
V2_FIXED_BYTES: Final = 16  # signature, version and command, family, length

# Version 1's fields (spec §2.1): decimal numbers without leading zeros, at most 65535; addresses are left to
# the functions that know them, once it is sure that nothing but their characters is there.
_V1_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")
_V1_HOST: Final = {"tcp4": re.compile(rb"[0-9.]+"), "tcp6": re.compile(rb"[0-9A-Fa-f:.]+")}

# The family byte of version 2 (spec §2.2): address family, then transport protocol. A Unix datagram socket is
# not told from a stream one; it is written as the latter.
_V2_FAMILIES: Final[dict[int, ProxyFamily]] = {
    0x11: "tcp4",
    0x12: "udp4",
    0x21: "tcp6",
    0x22: "udp6",
    0x31: "unix",
    0x32: "unix",
}
_V2_BYTE: Final[dict[ProxyFamily, int]] = {
    "unknown": 0x00,
    "tcp4": 0x11,
    "udp4": 0x12,
    "tcp6": 0x21,
    "udp6": 0x22,
    "unix": 0x31,
}
_UNIX_PATH_BYTES: Final = 108

# TLV types (spec §2.2).
_ALPN: Final = 0x01
_AUTHORITY: Final = 0x02
_CRC32C: Final = 0x03
_UNIQUE_ID: Final = 0x05
_TLS: Final = 0x20
_NETNS: Final = 0x30
_TLS_VERSION: Final = 0x21
_TLS_COMMON_NAME: Final = 0x22
_TLS_CIPHER: Final = 0x23
_TLS_SIGNATURE: Final = 0x24
_TLS_KEY: Final = 0x25
_ONCE: Final = frozenset([_ALPN, _AUTHORITY, _UNIQUE_ID, _TLS, _NETNS])
_TLS_ONCE: Final = frozenset([_TLS_VERSION, _TLS_COMMON_NAME, _TLS_CIPHER, _TLS_SIGNATURE, _TLS_KEY])
_UNIQUE_ID_BYTES: Final = 128

TLVs: TypeAlias = tuple[tuple[int, bytes], ...]


@attrs.frozen(kw_only=True)
class ProxyTLS:
    """What a proxy that ended TLS says of it (spec §2.2.6).

    Attributes:
      used: the client came over TLS. If not, nothing else here means anything.
      certificate: where the client has presented a certificate: on this "connection", or earlier in the TLS
        "session"; None for nowhere.
      verified: the client has presented a certificate, and the proxy has found it good. A proxy that was not
        shown any says "no error", too; that is not verified.
      version, cipher: of the session, such as "TLSv1.3"; None if not told.
      common_name: of the subject of the client's certificate; None if not told.
      signature_algorithm, key_algorithm: of the proxy's own certificate; None if not told.
    """

    used: bool
    certificate: Literal["connection", "session"] | None = None
    verified: bool = False
    version: str | None = None
    cipher: str | None = None
    common_name: str | None = None
    signature_algorithm: str | None = None
    key_algorithm: str | None = None


@attrs.frozen(kw_only=True)
class ProxyHeader:
    """One PROXY protocol header.

    Attributes:
      version: 1 (text) or 2 (binary).
      command: "PROXY": the connection is a client's; "LOCAL": it is the proxy's own, such as a health check,
        and has no other client.
      family: of the two addresses; "unknown" when there are none.
      source, destination: the client's address, and the one that the client connected to. As sockets give
        them: ``(host, port)`` for IPv4, ``(host, port, 0, 0)`` for IPv6, the path for Unix (empty without a
        name). None when the family is "unknown": then those of the connection itself hold.
      tlvs: what else the header says, as pairs of type (0-255) and value, in order; without the checksum,
        which is checked and which `to_bytes` makes anew. Empty in version 1 and when the family is "unknown".

    Raises:
      ValueError: the parts contradict each other, or cannot be written.
    """

    version: Literal[1, 2] = 2
    command: Literal["PROXY", "LOCAL"] = "PROXY"
    family: ProxyFamily = "unknown"
    source: Address = None
    destination: Address = None
    tlvs: TLVs = ()

    def __attrs_post_init__(self) -> None:
        if self.version not in (1, 2) or self.command not in ("PROXY", "LOCAL"):
            raise ValueError(
                f"expected version 1 or 2 and PROXY or LOCAL, got {self.version!r}, {self.command!r}"
            )
        if self.version == 1 and (
            self.command == "LOCAL" or self.family not in ("tcp4", "tcp6", "unknown") or self.tlvs
        ):
            raise ValueError(
                "version 1 has neither LOCAL nor TLVs, and no families but tcp4, tcp6 and unknown"
            )
        if self.command == "LOCAL" and self.family != "unknown":
            raise ValueError(
                f"a LOCAL connection has no addresses, so its family is unknown, not {self.family!r}"
            )
        if self.family == "unknown" and (self.source, self.destination, self.tlvs) != (None, None, ()):
            raise ValueError("a header of unknown family has neither addresses nor TLVs")
        _addresses(self)  # which refuses what it cannot write
        _check_tlvs(self)

    @property
    def alpn(self) -> bytes | None:
        """The protocol of the layer above, as ALPN names it (``b"http/1.1"``); None if not told."""
        return _value(self.tlvs, _ALPN)

    @property
    def authority(self) -> str | None:
        """The host that the client asked for, as SNI tells it; None if not told."""
        return _text(self.tlvs, _AUTHORITY, "utf-8")

    @property
    def unique_id(self) -> bytes | None:
        """What the proxy calls this connection, at most 128 bytes; None if not told."""
        return _value(self.tlvs, _UNIQUE_ID)

    @property
    def network_namespace(self) -> str | None:
        """The name of the network namespace that the client came through; None if not told."""
        return _text(self.tlvs, _NETNS, "ascii")

    @property
    def tls(self) -> ProxyTLS | None:
        """What the proxy says of the client's TLS; None if it says nothing."""
        value = _value(self.tlvs, _TLS)
        return None if value is None else _tls(value)

    def to_bytes(self, *, checksum: bool = False) -> bytes:
        """Return the header as it goes onto the wire, to be sent at once and before anything else.

        Args:
          checksum: add a CRC32C (spec §2.2.3); version 2 only.

        Raises:
          ValueError: it has more than 65,551 bytes, or a checksum was asked for in version 1.
        """
        if self.version == 1:
            if checksum:
                raise ValueError("a PROXY header of version 1 has no checksum")
            return _v1_line(self)
        block = _addresses(self) + b"".join(_tlv(kind, value) for kind, value in self.tlvs)
        if checksum:
            block += _tlv(_CRC32C, bytes(4))
        if len(block) > 0xFFFF:
            raise ValueError(
                f"a PROXY header has at most 65535 bytes after its 16 fixed ones, not {len(block)}"
            )
        command = 0x21 if self.command == "PROXY" else 0x20
        header = V2_SIGNATURE + struct.pack("!BBH", command, _V2_BYTE[self.family], len(block)) + block
        return header[:-4] + struct.pack("!I", crc32c(header)) if checksum else header


# ------------------------------------------------------------------------------------------------ version 1


def parse_v1(line: bytes) -> ProxyHeader:
    kind, space, rest = line[len(V1_START) : -2].partition(b" ")
    if kind == b"UNKNOWN":
        return ProxyHeader(version=1)  # whatever follows is to be ignored (spec §2.1)
    parts = rest.split(b" ")
    family: ProxyFamily = "tcp6" if kind == b"TCP6" else "tcp4"
    if kind in (b"TCP4", b"TCP6") and space and len(parts) == 4:
        hosts, ports = parts[:2], parts[2:]
        allowed = _V1_HOST[family]
        if all(map(allowed.fullmatch, hosts)) and all(map(_V1_PORT.fullmatch, ports)):
            source, destination = (
                _address(family, _packed(family, host.decode("ascii")), int(port))
                for host, port in zip(hosts, ports, strict=True)
            )
            return ProxyHeader(version=1, family=family, source=source, destination=destination)
    raise ValueError(f"the line {line!r} does not match spec §2.1")


def _v1_line(header: ProxyHeader) -> bytes:
    family = header.family
    if family == "unknown":
        return b"PROXY UNKNOWN\r\n"
    # By way of the bytes of version 2, which has one spelling for each address, and that the shortest.
    packed = _addresses(header)
    size = 4 if family == "tcp4" else 16
    kind = socket.AF_INET if family == "tcp4" else socket.AF_INET6
    source, destination = (socket.inet_ntop(kind, packed[start : start + size]) for start in (0, size))
    source_port, destination_port = struct.unpack_from("!HH", packed, 2 * size)
    return f"PROXY {family.upper()} {source} {destination} {source_port} {destination_port}\r\n".encode()


# ------------------------------------------------------------------------------------------------ version 2


def parse_v2(header: bytes) -> ProxyHeader:
    if header[12] == 0x20:
        return ProxyHeader(command="LOCAL")
    kind = header[13]
    if kind >> 4 > 3 or kind & 0xF > 2:
        raise ValueError(f"{kind:#04x} is no family and protocol (spec §2.2)")
    family = _V2_FAMILIES.get(kind, "unknown")
    if family == "unknown":
        return ProxyHeader()
    size = {"4": 4, "6": 16}.get(family[-1], _UNIX_PATH_BYTES)
    block = header[V2_FIXED_BYTES:]
    start = 2 * size + (0 if family == "unix" else 4)
    if len(block) < start:
        raise ValueError(f"{len(block)} bytes for addresses of family {family}, expected {start} (spec §2.2)")
    ports = (0, 0) if family == "unix" else struct.unpack_from("!HH", block, 2 * size)
    source = _address(family, block[:size], ports[0])
    destination = _address(family, block[size : 2 * size], ports[1])
    tlvs = []
    for type_, value, offset in _split_tlvs(block, start):
        if type_ == _CRC32C:
            _check_crc(header, V2_FIXED_BYTES + offset, value)
        else:
            tlvs.append((type_, value))
    return ProxyHeader(family=family, source=source, destination=destination, tlvs=tuple(tlvs))


def _tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def _split_tlvs(block: bytes, start: int) -> list[tuple[int, bytes, int]]:
    """Return (type, value, offset of the value) of each TLV from ``start`` to the end of ``block``."""
    found = []
    while start < len(block):
        value = start + 3
        end = value + int.from_bytes(block[start + 1 : value], "big")
        if value > len(block) or end > len(block):
            raise ValueError(f"the TLV {block[start : start + 16]!r} goes beyond the end (spec §2.2)")
        found.append((block[start], block[value:end], value))
        start = end
    return found


def _check_crc(header: bytes, offset: int, value: bytes) -> None:
    """Refuse a header whose checksum, at ``offset``, is not its own (spec §2.2.3)."""
    zeroed = header[:offset] + bytes(4) + header[offset + 4 :]
    if len(value) != 4 or crc32c(zeroed) != int.from_bytes(value, "big"):
        raise ValueError(f"the checksum {value[:8].hex()} is wrong (spec §2.2.3)")


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE: Final = _crc_table()


def crc32c(data: bytes) -> int:
    """Return the CRC32C of ``data`` (the Castagnoli polynomial, reflected; RFC 9260 appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# ----------------------------------------------------------------------------------------- addresses and TLVs


def _address(family: ProxyFamily, packed: bytes, port: int) -> Address:
    """Return an address as sockets give it."""
    if family == "unix":
        # An abstract name (Linux) begins with NUL and, in a field of fixed size, ends before the padding; a
        # path ends at the first NUL, and what stands behind it is whatever was in the sender's memory.
        name = packed.rstrip(b"\0") if packed[:1] == b"\0" else packed.partition(b"\0")[0]
        return os.fsdecode(name)
    if family in ("tcp4", "udp4"):
        return (socket.inet_ntop(socket.AF_INET, packed), port)
    return (socket.inet_ntop(socket.AF_INET6, packed), port, 0, 0)


def _packed(family: ProxyFamily, host: str) -> bytes:
    """Return an IP address as bytes.

    Raises:
      ValueError: it is none.
    """
    kind = socket.AF_INET if family in ("tcp4", "udp4") else socket.AF_INET6
    try:
        return socket.inet_pton(kind, host)
    except (OSError, ValueError) as exc:  # ValueError: characters that no address has
        raise ValueError(f"{host!r} is no address of family {family}") from exc


def _addresses(header: ProxyHeader) -> bytes:
    """Return both addresses as version 2 writes them.

    Raises:
      ValueError: an address does not fit the family.
    """
    family = header.family
    ends = (header.source, header.destination)
    if family == "unknown":
        return b""
    if family == "unix":
        return b"".join(map(_unix_name, ends))
    if family not in _V2_BYTE:
        raise ValueError(f"expected one of {', '.join(_V2_BYTE)} as family, not {family!r}")
    hosts, ports = b"", b""
    for address in ends:
        if not isinstance(address, tuple) or len(address) < 2:
            raise ValueError(f"{address!r} is no address of family {family}, expected (host, port)")
        host, port = address[:2]
        if not isinstance(host, str) or not isinstance(port, int) or not 0 <= port <= 0xFFFF:
            raise ValueError(f"{address!r} is no address of family {family}, expected a port of 0-65535")
        hosts += _packed(family, host)
        ports += struct.pack("!H", port)
    return hosts + ports


def _unix_name(address: Address) -> bytes:
    name = os.fsencode(address) if isinstance(address, str) else None
    # A NUL within a path, or at the end of an abstract name, would not come out again at the other end.
    if (
        name is None
        or len(name) > _UNIX_PATH_BYTES
        or name.endswith(b"\0")
        or (b"\0" in name and not name.startswith(b"\0"))
    ):
        raise ValueError(f"{address!r} is no Unix address of at most {_UNIX_PATH_BYTES} bytes")
    return name.ljust(_UNIX_PATH_BYTES, b"\0")


def _value(tlvs: TLVs, kind: int) -> bytes | None:
    return next((value for found, value in tlvs if found == kind), None)


def _text(tlvs: TLVs, kind: int, encoding: Literal["ascii", "utf-8"]) -> str | None:
    value = _value(tlvs, kind)
    return None if value is None else value.decode(encoding)


def _tls(value: bytes) -> ProxyTLS:
    """Return what the value of a TLV of type SSL says (spec §2.2.6)."""
    if len(value) < 5:
        raise ValueError(f"SSL TLV of {len(value)} bytes, expected at least 5 (spec §2.2.6)")
    client, verify = struct.unpack_from("!BI", value)
    inner = tuple((kind, content) for kind, content, _ in _split_tlvs(value, 5))
    _check_repeats(inner, _TLS_ONCE)
    certificate: Literal["connection", "session"] | None = None
    if client & 0x02:
        certificate = "connection"
    elif client & 0x04:
        certificate = "session"
    return ProxyTLS(
        used=bool(client & 0x01),
        certificate=certificate,
        verified=certificate is not None and verify == 0,
        version=_text(inner, _TLS_VERSION, "ascii"),
        cipher=_text(inner, _TLS_CIPHER, "ascii"),
        common_name=_text(inner, _TLS_COMMON_NAME, "utf-8"),
        signature_algorithm=_text(inner, _TLS_SIGNATURE, "ascii"),
        key_algorithm=_text(inner, _TLS_KEY, "ascii"),
    )


def _check_repeats(tlvs: TLVs, once: frozenset[int]) -> None:
    kinds = [kind for kind, _ in tlvs if kind in once]
    if len(kinds) != len(set(kinds)):
        raise ValueError("a TLV that may be there once is repeated, so what it says is not certain")


def _check_tlvs(header: ProxyHeader) -> None:
    """Refuse TLVs that could not be written, or that say nothing certain."""
    for kind, value in header.tlvs:
        if not 0 <= kind <= 0xFF or len(value) > 0xFFFF:
            raise ValueError(f"a TLV has a type of 0-255 and at most 65535 bytes, not {kind}, {len(value)}")
        if kind == _CRC32C:
            raise ValueError("the checksum is made by `to_bytes(checksum=True)`, not given")
    _check_repeats(header.tlvs, _ONCE)
    if len(header.unique_id or b"") > _UNIQUE_ID_BYTES:
        raise ValueError(f"a unique ID has at most {_UNIQUE_ID_BYTES} bytes (spec §2.2.5)")
    # What has an inner form is read once, for its errors, so that the properties have none.
    _ = header.authority, header.network_namespace, header.tls
