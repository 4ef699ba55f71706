"""The PROXY protocol: headers read and written, and taken from a socket to the byte."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from tests.transport._peers import tcp_pair
from trio_http.transport import (
    Networks,
    ProxyHeader,
    ProxyHeaderParser,
    ProxyProtocolError,
    ProxyTLS,
    read_proxy_header,
)

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
V4 = bytes.fromhex("c0000201 c6336402 dc04 01bb")  # the same addresses, in the bytes of version 2


def v2(block: bytes = V4, *, command: int = 0x21, kind: int = 0x11, length: int | None = None) -> bytes:
    """A header of version 2 from its parts, good or bad."""
    return SIGNATURE + struct.pack("!BBH", command, kind, len(block) if length is None else length) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def parse(data: bytes, **options: Any) -> ProxyHeader:
    """The header that is all of `data`."""
    parser = ProxyHeaderParser(**options)
    assert parser.feed(data) == len(data)
    assert parser.header is not None, "the header has no end"
    return parser.header


# --------------------------------------------------------------------------------------- what a header says


def test_a_line_gives_both_addresses() -> None:
    assert parse(LINE) == ProxyHeader(
        version=1, family="tcp4", source=("192.0.2.1", 56324), destination=("198.51.100.2", 443)
    )


def test_a_line_of_ipv6_gives_addresses_as_sockets_do() -> None:
    header = parse(b"PROXY TCP6 2001:DB8:0:0::1 ::ffff:192.0.2.1 0 65535\r\n")
    assert header.family == "tcp6"
    assert header.source == ("2001:db8::1", 0, 0, 0)
    assert header.destination == ("::ffff:192.0.2.1", 65535, 0, 0)
    assert header.source in Networks.of(["2001:db8::/32"])


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
        b"PROXY UNKNOWN whatever \x00\xff\r\n",
        b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n",
    ],
)
def test_a_line_of_unknown_kind_gives_no_addresses_whatever_it_holds(line: bytes) -> None:
    assert parse(line) == ProxyHeader(version=1)


def test_a_binary_header_gives_both_addresses() -> None:
    assert parse(v2()) == ProxyHeader(
        family="tcp4", source=("192.0.2.1", 56324), destination=("198.51.100.2", 443)
    )


@pytest.mark.parametrize(
    ("kind", "block", "family", "source"),
    [
        (0x12, V4, "udp4", ("192.0.2.1", 56324)),
        (0x21, bytes(15) + b"\1" + bytes(16) + V4[-4:], "tcp6", ("::1", 56324, 0, 0)),
        (0x22, bytes(15) + b"\1" + bytes(16) + V4[-4:], "udp6", ("::1", 56324, 0, 0)),
        (0x31, b"/run/a".ljust(108, b"\0") + bytes(108), "unix", "/run/a"),
        (0x32, b"/run/a\0junk".ljust(108, b"\0") + bytes(108), "unix", "/run/a"),
        (0x31, b"/" + b"a" * 107 + bytes(108), "unix", "/" + "a" * 107),
        (0x31, b"\0hidden".ljust(108, b"\0") + bytes(108), "unix", "\0hidden"),
        (0x31, bytes(216), "unix", ""),
    ],
)
def test_each_family_has_its_addresses(kind: int, block: bytes, family: str, source: object) -> None:
    header = parse(v2(block, kind=kind))
    assert (header.family, header.source) == (family, source)


@pytest.mark.parametrize("block", [b"", V4, b"\xff" * 300])
@pytest.mark.parametrize("kind", [0x00, 0x11, 0xFF])
def test_a_local_connection_has_no_addresses_and_its_block_is_skipped(block: bytes, kind: int) -> None:
    assert parse(v2(block, command=0x20, kind=kind)) == ProxyHeader(command="LOCAL")


@pytest.mark.parametrize("kind", [0x00, 0x01, 0x10, 0x20, 0x30])
def test_an_unspecified_family_has_no_addresses_and_its_block_is_skipped(kind: int) -> None:
    assert parse(v2(b"\xff" * 50, kind=kind)) == ProxyHeader()


def test_tlvs_are_kept_in_order_and_those_we_know_are_read() -> None:
    header = parse(
        v2(
            V4
            + tlv(0x04, b"\0\0")
            + tlv(0x01, b"h2")
            + tlv(0x02, "exämple.test".encode())
            + tlv(0x05, b"\0id")
            + tlv(0x30, b"blue")
            + tlv(0xE0, b"")
            + tlv(0xE0, b"twice")
        )
    )
    assert [kind for kind, _ in header.tlvs] == [0x04, 0x01, 0x02, 0x05, 0x30, 0xE0, 0xE0]
    assert header.alpn == b"h2"
    assert header.authority == "exämple.test"
    assert header.unique_id == b"\0id"
    assert header.network_namespace == "blue"
    assert header.tls is None


def test_a_header_without_tlvs_tells_nothing_of_the_layers_above() -> None:
    header = parse(v2())
    assert (header.alpn, header.authority, header.unique_id, header.network_namespace, header.tls) == (
        None,
    ) * 5


def test_the_facts_of_tls_are_told() -> None:
    inner = tlv(0x21, b"TLSv1.3") + tlv(0x22, "Zoë".encode()) + tlv(0x23, b"AES") + tlv(0x24, b"SHA256")
    header = parse(v2(V4 + tlv(0x20, b"\x07" + bytes(4) + inner + tlv(0x25, b"RSA2048"))))
    assert header.tls == ProxyTLS(
        used=True,
        certificate="connection",
        verified=True,
        version="TLSv1.3",
        cipher="AES",
        common_name="Zoë",
        signature_algorithm="SHA256",
        key_algorithm="RSA2048",
    )


@pytest.mark.parametrize(
    ("client", "verify", "certificate", "verified"),
    [
        (0x01, 0, None, False),  # HAProxy says 0 here too, when there was no certificate to find fault with
        (0x01, 1, None, False),
        (0x03, 0, "connection", True),
        (0x03, 19, "connection", False),
        (0x05, 0, "session", True),
        (0x05, 0xFFFFFFFF, "session", False),
    ],
)
def test_a_client_is_verified_only_if_it_presented_a_certificate(
    client: int, verify: int, certificate: str | None, verified: bool
) -> None:
    tls = parse(v2(V4 + tlv(0x20, struct.pack("!BI", client, verify)))).tls
    assert tls is not None
    assert tls.used
    assert (tls.certificate, tls.verified) == (certificate, verified)


def test_a_right_checksum_is_taken_and_is_no_tlv_of_the_header() -> None:
    header = parse(v2(V4 + tlv(0x05, b"id")))
    summed = header.to_bytes(checksum=True)
    assert summed[:-7] == v2(V4 + tlv(0x05, b"id"), length=24)
    assert summed[-7:-4] == b"\x03\0\x04"
    assert parse(summed) == header


def test_the_checksum_is_crc32c() -> None:
    """A header of another make, computed with the polynomial's other, bitwise definition."""
    header = bytearray(v2(V4[:8] + V4[8:] + tlv(0x03, bytes(4)) + tlv(0xE0, b"behind it")))
    crc = 0xFFFFFFFF
    for byte in header:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    header[31:35] = struct.pack("!I", crc ^ 0xFFFFFFFF)
    assert parse(bytes(header)).tlvs == ((0xE0, b"behind it"),)


def test_with_a_checksum_no_bit_that_was_turned_over_gives_another_address() -> None:
    header = ProxyHeader(family="tcp4", source=("1.2.3.4", 5), destination=("6.7.8.9", 10))
    written = header.to_bytes(checksum=True)
    refused = 0
    for bit in range(8 * len(written)):
        turned = bytearray(written)
        turned[bit // 8] ^= 1 << bit % 8
        parser = ProxyHeaderParser()
        try:
            parser.feed(bytes(turned))
        except ProxyProtocolError:
            refused += 1
            continue
        # A length that has grown leaves the header without an end, and a kind whose block is skipped has no
        # addresses; a checksum whose type has changed is no checksum, and the addresses are the right ones.
        found = parser.header
        assert found is None or (found.source, found.destination) in [
            (None, None),
            (header.source, header.destination),
        ]
    assert refused > 8 * 24


# -------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 \r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4\t192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 0xc0.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 ::1%1 ::1 1 2\r\n",
        b"PROXY TCP6 :::1 ::1 1 2\r\n",
        b"PROXY TCP6 1::2::3 ::1 1 2\r\n",
        b"PROXY TCP6 [::1] ::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1_0 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
        b"PROXY TCP4 192.0.2.1\r192.0.2.2 1 2\r\n",
        b"PROXY UNKNOWN\n\r\n",
        b"PROXY UNKNOWN \r \r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"\nPROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_a_line_that_does_not_match_to_the_letter_is_refused(line: bytes) -> None:
    parser = ProxyHeaderParser()
    with pytest.raises(ProxyProtocolError) as caught:
        parser.feed(line)
    assert isinstance(caught.value, ValueError)
    assert parser.header is None
    with pytest.raises(ProxyProtocolError):
        parser.feed(b"more")


def test_a_line_has_an_end_within_107_bytes() -> None:
    assert parse(b"PROXY UNKNOWN".ljust(105) + b"\r\n").family == "unknown"
    for line in (b"PROXY UNKNOWN".ljust(106) + b"\r\n", b"PROXY UNKNOWN".ljust(107)):
        with pytest.raises(ProxyProtocolError) as caught:
            ProxyHeaderParser().feed(line)
        assert "107" in str(caught.value)
    assert ProxyHeaderParser().feed(b"PROXY UNKNOWN".ljust(106)) == 106  # the end could still come


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (v2(command=0x11), "0x11"),
        (v2(command=0x01), "0x01"),
        (v2(command=0x31), "0x31"),
        (v2(command=0x22), "0x22"),
        (v2(kind=0x13), "0x13"),
        (v2(kind=0x41), "0x41"),
        (v2(V4[:-1]), "11 bytes"),
        (v2(b""), "0 bytes"),
        (v2(V4, kind=0x21), "expected 36"),
        (v2(V4, kind=0x31), "expected 216"),
        (v2(V4 + b"\x01"), "beyond the end"),
        (v2(V4 + b"\x01\0"), "beyond the end"),
        (v2(V4 + b"\x01\0\x01"), "beyond the end"),
        (v2(V4 + tlv(0x01, b"h2")[:-1]), "beyond the end"),
        (v2(V4 + tlv(0x02, b"a") * 2), "repeated"),
        (v2(V4 + tlv(0x05, b"") * 2), "repeated"),
        (v2(V4 + tlv(0x02, b"\xff")), "utf-8"),
        (v2(V4 + tlv(0x30, b"\xff")), "ascii"),
        (v2(V4 + tlv(0x05, bytes(129))), "128"),
        (v2(V4 + tlv(0x20, bytes(4))), "at least 5"),
        (v2(V4 + tlv(0x20, bytes(5) + b"\x21\0\x09x")), "beyond the end"),
        (v2(V4 + tlv(0x20, bytes(5) + tlv(0x22, b"a") + tlv(0x22, b"b"))), "repeated"),
        (v2(V4 + tlv(0x20, bytes(5) + tlv(0x22, b"\xff"))), "utf-8"),
        (v2(V4 + tlv(0x20, bytes(5) + tlv(0x23, b"\xff"))), "ascii"),
        (v2(V4 + tlv(0x03, bytes(4))), "checksum"),
        (v2(V4 + tlv(0x03, b"")), "checksum"),
        (v2(V4 + tlv(0x03, bytes(5))), "checksum"),
    ],
)
def test_a_binary_header_that_is_malformed_is_refused_and_told(data: bytes, what: str) -> None:
    with pytest.raises(ProxyProtocolError) as caught:
        ProxyHeaderParser().feed(data)
    assert what in str(caught.value)


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_have_come() -> None:
    fits = tlv(0x04, bytes(4096 - 16 - 12 - 3))
    assert len(parse(v2(V4 + fits)).tlvs) == 1
    with pytest.raises(ProxyProtocolError) as caught:
        ProxyHeaderParser().feed(v2(b"", length=4096 - 15))
    assert "4097 bytes" in str(caught.value)
    with pytest.raises(ProxyProtocolError):
        parse(v2(), max_bytes=27)
    assert parse(v2(), max_bytes=28).family == "tcp4"
    with pytest.raises(ValueError):
        ProxyHeaderParser(max_bytes=15)


@pytest.mark.parametrize("start", [LINE, v2()])
def test_what_is_no_header_is_refused_at_the_first_byte_that_shows_it(start: bytes) -> None:
    """A client that waits for an answer to half a line must not be waited for."""
    fixed = 6 if start == LINE else 12
    for length in range(fixed):
        parser = ProxyHeaderParser()
        assert parser.feed(start[:length]) == length
        with pytest.raises(ProxyProtocolError):
            parser.feed(b"\x7f")


@given(st.binary(max_size=200))
@example(b"PROXY ")
@example(SIGNATURE)
def test_any_bytes_end_in_a_header_a_wait_or_our_error(data: bytes) -> None:
    for prefix in (b"", b"PROXY TCP4 ", SIGNATURE + b"\x21", v2(V4, length=60)):
        parser = ProxyHeaderParser()
        try:
            used = parser.feed(prefix + data)
        except ProxyProtocolError:
            continue
        assert used <= len(prefix + data)
        assert (parser.header is not None) or used == len(prefix + data)


# ------------------------------------------------------------------------------------------------- both ways

ports = st.integers(0, 65535)
unix_names = st.one_of(
    st.just(""),
    st.binary(min_size=1, max_size=108)
    .filter(lambda name: b"\0" not in name)
    .map(lambda b: b.decode("utf-8", "surrogateescape")),
    st.binary(min_size=1, max_size=106).map(lambda name: "\0" + name.hex()[:100]),
)


def addresses(family: str) -> st.SearchStrategy[Any]:
    if family == "unix":
        return unix_names
    if family[-1] == "4":
        return st.tuples(st.ip_addresses(v=4).map(str), ports)
    hosts = st.ip_addresses(v=6).map(lambda a: socket.inet_ntop(socket.AF_INET6, a.packed))
    return st.tuples(hosts, ports, st.just(0), st.just(0))


tls_values = st.builds(
    lambda client, verify, name: struct.pack("!BI", client, verify) + tlv(0x22, name.encode()),
    st.integers(0, 7), st.integers(0, 2**32 - 1), st.text(max_size=20),
)  # fmt: skip
tlv_lists = st.lists(
    st.one_of(
        st.tuples(st.just(0x01), st.binary(max_size=10)),
        st.tuples(st.just(0x02), st.text(max_size=10).map(str.encode)),
        st.tuples(st.just(0x05), st.binary(max_size=128)),
        st.tuples(st.just(0x20), tls_values),
        st.tuples(st.integers(0xE0, 0xFF), st.binary(max_size=50)),
    ),
    unique_by=lambda pair: pair[0],
    max_size=6,
).map(tuple)


@st.composite
def headers(draw: st.DrawFn) -> ProxyHeader:
    version = draw(st.sampled_from([1, 2]))
    families = ["tcp4", "tcp6", "unknown"] + ["udp4", "udp6", "unix", "local"] * (version == 2)
    family = draw(st.sampled_from(families))
    if family in ("unknown", "local"):
        return ProxyHeader(version=version, command="LOCAL" if family == "local" else "PROXY")
    return ProxyHeader(
        version=version,
        family=family,
        source=draw(addresses(family)),
        destination=draw(addresses(family)),
        tlvs=draw(tlv_lists) if version == 2 else (),
    )


@given(headers(), st.binary(max_size=40), st.booleans())
def test_what_is_written_is_read_again_and_what_follows_is_left(
    header: ProxyHeader, following: bytes, checksum: bool
) -> None:
    summed = checksum and header.version == 2 and header.family != "unknown"
    data = header.to_bytes(checksum=summed)
    parser = ProxyHeaderParser()
    assert parser.feed(data + following) == len(data)
    assert parser.header == header
    assert parser.feed(following) == 0


@given(headers(), st.data())
def test_the_way_a_header_is_cut_into_pieces_makes_no_difference(
    header: ProxyHeader, data: st.DataObject
) -> None:
    written = header.to_bytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=8)))
    parser = ProxyHeaderParser()
    for start, end in zip([0, *cuts], [*cuts, len(written)], strict=True):
        assert parser.feed(written[start:end]) == end - start
        assert (parser.header is not None) == (end == len(written))
    assert parser.header == header


@pytest.mark.parametrize("written", [LINE, v2(V4 + tlv(0x05, b"id"))])
def test_every_split_in_two_gives_the_header_at_its_last_byte(written: bytes) -> None:
    for cut in range(len(written) + 1):
        parser = ProxyHeaderParser()
        assert parser.feed(written[:cut]) == cut
        assert (parser.header is None) == (cut < len(written))
        assert parser.feed(written[cut:] + b"GET") == len(written) - cut
        assert parser.header == parse(written)


def test_a_line_is_written_as_the_specification_has_it() -> None:
    """The example of spec §2.1, and its longest address pair."""
    header = ProxyHeader(
        version=1, family="tcp4", source=("192.168.0.1", 56324), destination=("192.168.0.11", 443)
    )
    assert header.to_bytes() == b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    long = "0000:0000:0000:0000:0000:ffff:255.255.255.255"
    assert (
        len(ProxyHeader(version=1, family="tcp6", source=(long, 1), destination=(long, 1)).to_bytes()) <= 104
    )


@pytest.mark.parametrize(
    "parts",
    [
        {"version": 3},
        {"command": "proxy"},
        {"family": "tcp5", "source": ("::1", 1), "destination": ("::1", 1)},
        {"version": 1, "command": "LOCAL"},
        {"version": 1, "family": "unix", "source": "/a", "destination": "/b"},
        {"version": 1, "family": "tcp4", "source": ("1.1.1.1", 1), "destination": ("1.1.1.1", 2),
         "tlvs": ((1, b""),)},
        {"version": 1, "tlvs": ((1, b""),)},
        {"command": "LOCAL", "family": "tcp4", "source": ("1.1.1.1", 1), "destination": ("1.1.1.1", 1)},
        {"source": ("1.1.1.1", 1)},
        {"tlvs": ((5, b""),)},
        {"family": "tcp4"},
        {"family": "tcp4", "source": ("1.1.1.1", 1)},
        {"family": "tcp4", "source": ("::1", 1), "destination": ("::1", 1)},
        {"family": "tcp6", "source": ("1.1.1.1", 1), "destination": ("1.1.1.1", 1)},
        {"family": "tcp4", "source": ("1.1.1.1", 65536), "destination": ("1.1.1.1", 1)},
        {"family": "tcp4", "source": ("1.1.1.1", -1), "destination": ("1.1.1.1", 1)},
        {"family": "tcp4", "source": ("a\n", 1), "destination": ("1.1.1.1", 1)},
        {"family": "tcp4", "source": ("\u20ac\0", 1), "destination": ("1.1.1.1", 1)},
        {"family": "tcp4", "source": "/a", "destination": "/b"},
        {"family": "unix", "source": "/a\0b", "destination": ""},
        {"family": "unix", "source": "\0a\0", "destination": ""},
        {"family": "unix", "source": "/" * 109, "destination": ""},
        {"family": "unix", "source": None, "destination": ""},
        {"family": "unix", "source": "", "destination": "", "tlvs": ((256, b""),)},
        {"family": "unix", "source": "", "destination": "", "tlvs": ((1, bytes(65536)),)},
        {"family": "unix", "source": "", "destination": "", "tlvs": ((3, bytes(4)),)},
        {"family": "unix", "source": "", "destination": "", "tlvs": ((1, b""), (1, b""))},
    ],
)  # fmt: skip
def test_a_header_that_could_not_be_written_or_read_again_cannot_be_made(parts: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:
        ProxyHeader(**parts)
    assert not isinstance(caught.value, ProxyProtocolError), "the fault is not a peer's"


def test_a_header_longer_than_its_length_field_can_tell_cannot_be_written() -> None:
    header = ProxyHeader(family="unix", source="", destination="", tlvs=((0xE0, bytes(65535)),))
    with pytest.raises(ValueError):
        header.to_bytes()
    with pytest.raises(ValueError):
        ProxyHeader(version=1).to_bytes(checksum=True)


# ---------------------------------------------------------------------------------------------- from a socket

FOLLOWING = b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 20


def pair() -> tuple[socket.socket, socket.socket]:
    client, server = tcp_pair()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.setblocking(False)
    return client, server


@pytest.mark.interop
@pytest.mark.parametrize("make", [pair, socket.socketpair], ids=["tcp", "unix"])
@pytest.mark.parametrize(
    "written", [LINE, b"PROXY UNKNOWN\r\n", v2(), v2(V4 + tlv(0x04, bytes(4000))), v2(b"", command=0x20)]
)
async def test_a_header_is_taken_and_what_follows_is_left_to_the_byte(make: Any, written: bytes) -> None:
    client, server = make()
    server.setblocking(False)
    with client, server:
        client.sendall(written + FOLLOWING)
        with trio.testing.assert_checkpoints():
            header = await read_proxy_header(server)
        assert header == parse(written)
        got = b""
        while len(got) < len(FOLLOWING):
            await trio.lowlevel.wait_readable(server)
            got += server.recv(65536)
        assert got == FOLLOWING


class CountedSocket(socket.socket):
    """A socket that counts how often it is read."""

    reads = 0

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        self.reads += 1
        return super().recv(bufsize, flags)


def counted(sock: socket.socket) -> CountedSocket:
    made = CountedSocket(sock.family, sock.type, sock.proto, sock.detach())
    made.setblocking(False)
    return made


@pytest.mark.interop
@pytest.mark.parametrize("written", [LINE, v2(V4 + tlv(0x05, b"id"))])
async def test_a_header_that_comes_byte_by_byte_is_read_without_a_busy_loop(written: bytes) -> None:
    """Left in the socket, the beginning of a header would make it readable all the time."""
    client, plain = pair()
    server = counted(plain)
    with client, server:
        result: list[ProxyHeader] = []

        async def read() -> None:
            result.append(await read_proxy_header(server))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for index in range(len(written)):
                await trio.testing.wait_all_tasks_blocked()
                assert server.reads <= 2 * index
                assert not result
                client.sendall(written[index : index + 1] + (FOLLOWING if index == len(written) - 1 else b""))
        assert result == [parse(written)]
        assert server.reads <= 2 * len(written)
        assert server.recv(18) == FOLLOWING[:18]


@pytest.mark.interop
@pytest.mark.parametrize("written", [LINE, v2()])
async def test_a_connection_that_ends_within_its_header_is_refused(written: bytes) -> None:
    for length in range(len(written)):
        client, server = pair()
        with server:
            client.sendall(written[:length])
            client.close()
            with pytest.raises(ProxyProtocolError) as caught:
                await read_proxy_header(server)
            assert "ended" in str(caught.value)


@pytest.mark.interop
async def test_a_connection_that_is_reset_within_its_header_is_broken() -> None:
    client, server = pair()
    with server:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        async def reset() -> None:
            client.sendall(LINE[:10])
            await trio.testing.wait_all_tasks_blocked()
            client.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reset)
            with pytest.raises(trio.BrokenResourceError) as caught:
                await read_proxy_header(server)
            assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.interop
async def test_something_else_than_a_header_is_refused_and_not_waited_for() -> None:
    client, server = pair()
    with client, server:
        client.sendall(b"G")
        with pytest.raises(ProxyProtocolError):
            await read_proxy_header(server)


@pytest.mark.interop
async def test_a_wait_for_a_header_can_be_cancelled_and_closing_ends_it() -> None:
    client, server = pair()
    with client, server:
        with trio.CancelScope() as scope:
            scope.cancel()
            await read_proxy_header(server)
        assert scope.cancelled_caught

        async def close() -> None:
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.notify_closing(server)
            server.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(close)
            with pytest.raises(trio.ClosedResourceError):
                await read_proxy_header(server)
        with pytest.raises(trio.ClosedResourceError):
            await read_proxy_header(server)


class RobbedSocket(CountedSocket):
    """A socket whose bytes somebody else takes after they were seen."""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        found = super().recv(bufsize, flags)
        if flags & socket.MSG_PEEK:
            super().recv(5)
        return found


@pytest.mark.interop
async def test_a_second_reader_does_not_make_us_take_the_clients_bytes_for_the_header() -> None:
    client, plain = pair()
    server = RobbedSocket(plain.family, plain.type, plain.proto, plain.detach())
    server.setblocking(False)
    with client, server:
        client.sendall(LINE + FOLLOWING)
        with pytest.raises(trio.BrokenResourceError):
            await read_proxy_header(server)


class DeafSocket(CountedSocket):
    """A socket that is woken for nothing the first time."""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if not self.reads:
            self.reads = 1
            raise BlockingIOError
        return super().recv(bufsize, flags)


@pytest.mark.interop
async def test_a_wake_up_for_nothing_is_waited_over() -> None:
    client, plain = pair()
    server = DeafSocket(plain.family, plain.type, plain.proto, plain.detach())
    server.setblocking(False)
    with client, server:
        client.sendall(LINE)
        assert await read_proxy_header(server) == parse(LINE)
