"""Sets of networks: what is in them, and what is refused."""

from __future__ import annotations

import ipaddress
import socket

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_http.transport import Networks, SocketTransport, ip_of, peer_address

LOCAL = Networks.of(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"])


@pytest.mark.parametrize(
    "peer",
    [
        ("10.0.0.0", 1),
        ("10.255.255.255", 1),
        ("192.0.2.7", 1),
        ("::1", 1, 0, 0),
        ("2001:db8:ffff::1", 1, 0, 0),
        ("2001:DB8::1", 1, 0, 0),
        ("::ffff:10.1.2.3", 1, 0, 0),
        ("::ffff:a01:203", 1, 0, 0),
        ("2001:db8::1%eth0", 1, 0, 2),
    ],
)
def test_a_peer_is_in_the_networks_that_hold_its_address(peer: tuple[object, ...]) -> None:
    assert peer in LOCAL


@pytest.mark.parametrize(
    "peer",
    [
        ("9.255.255.255", 1),
        ("11.0.0.0", 1),
        ("192.0.2.6", 1),
        ("192.0.2.8", 1),
        ("::2", 1, 0, 0),
        ("::10.1.2.3", 1, 0, 0),  # IPv4-compatible, which stands for no IPv4 address
        ("2001:db9::", 1, 0, 0),
        ("::ffff:9.1.2.3", 1, 0, 0),
        ("localhost", 1),
        ("10.0.0.1 ", 1),
        ("010.0.0.1", 1),
        ("", 1),
        (),
        (b"10.0.0.1", 1),
        ("10.0.0.1"),  # a str is the path of a Unix socket
        "/run/proxy.sock",
        "",
        b"\0abstract",
        None,
        7,
    ],
)
def test_a_peer_is_in_no_other_networks(peer: object) -> None:
    assert peer not in LOCAL


def test_peers_on_unix_sockets_are_members_when_named_and_then_all_of_them() -> None:
    networks = Networks.of(["unix"])
    assert all(peer in networks for peer in ["/run/proxy.sock", "", b"", "\0abstract"])
    assert ("127.0.0.1", 1) not in networks
    assert None not in networks


def test_the_star_stands_for_every_peer_whose_address_is_known() -> None:
    everybody = Networks.of(["*"])
    assert all(peer in everybody for peer in [("192.0.2.1", 1), ("2001:db8::1", 1, 0, 0), ""])
    assert ("::ffff:192.0.2.1", 1, 0, 0) in everybody
    assert None not in everybody
    assert ("a.name", 1) not in everybody


def test_all_of_ipv6_has_no_ipv4_peers_however_they_are_written() -> None:
    networks = Networks.of(["::/0"])
    assert ("2001:db8::1", 1, 0, 0) in networks
    assert ("192.0.2.1", 1) not in networks
    assert ("::ffff:192.0.2.1", 1, 0, 0) not in networks


@pytest.mark.parametrize("text", ["::ffff:10.0.0.0/104", "::ffff:a00:0/104"])
def test_a_network_of_mapped_addresses_is_the_ipv4_network(text: str) -> None:
    assert Networks.of([text]) == Networks.of(["10.0.0.0/8"])


def test_addresses_and_networks_of_ipaddress_are_taken() -> None:
    networks = Networks.of([ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_address("fe80::1%eth0")])
    assert list(networks) == ["10.0.0.0/8", "fe80::1/128"]


def test_what_a_set_lists_makes_the_same_set() -> None:
    networks = Networks.of(["unix", "::1", "10.128.0.0/9", "10.0.0.0/9", "10.1.0.0/16"])
    assert list(networks) == ["10.0.0.0/8", "::1/128", "unix"]
    assert Networks.of(networks) is networks
    again = Networks.of(list(networks))
    assert again == networks
    assert hash(again) == hash(networks)
    assert repr(networks) == "Networks.of(['10.0.0.0/8', '::1/128', 'unix'])"


def test_a_set_is_true_when_it_can_have_members() -> None:
    assert not Networks.of([])
    assert Networks.of(["unix"])
    assert Networks.of(["::1"])
    assert Networks.of([]) == Networks()


def test_it_converts_an_attrs_field() -> None:
    @attrs.frozen
    class Config:
        proxies: Networks = attrs.field(default=(), converter=Networks.of)

    assert Config().proxies == Networks()
    assert Config(["10.0.0.0/8"]).proxies.contains_host("10.1.1.1")


def test_it_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        LOCAL.unix = True  # type: ignore[misc]


def test_host_bits_are_refused_with_both_readings() -> None:
    with pytest.raises(ValueError) as caught:
        Networks.of(["10.0.0.1/8"])
    assert "host bits" in str(caught.value)
    assert "10.0.0.0/8" in str(caught.value)
    assert "10.0.0.1 alone" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "", "localhost", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/255.0.0.0",
        "10.0.0.0/8 ", "10.0.0.0/8/8", "::1/129", "fe80::1%eth0", "fe80::%eth0/64", "1.2.3.4,5.6.7.8",
        "UNIX", "**", "/run/a.sock",
    ],
)  # fmt: skip
def test_text_that_is_no_network_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Networks.of(["10.0.0.0/8", text])
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", [5, b"10.0.0.0/8", None, ("10.0.0.0", 8)])
def test_a_member_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        Networks.of([value])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "values",
    ["10.0.0.0/8", b"10.0.0.0/8", ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_address("::1"), 7, None],
)
def test_one_network_that_is_not_in_a_list_is_refused(values: object) -> None:
    """A str and a network are iterables, too: of characters, and of all their addresses."""
    with pytest.raises(TypeError):
        Networks.of(values)  # type: ignore[arg-type]


@given(
    st.lists(st.ip_addresses(v=4).flatmap(lambda a: st.integers(0, 32).map(lambda n: (a, n)))),
    st.ip_addresses(v=4),
)
def test_membership_is_what_asking_each_network_says(
    pairs: list[tuple[ipaddress.IPv4Address, int]], address: ipaddress.IPv4Address
) -> None:
    given_ = [ipaddress.ip_network(pair, strict=False) for pair in pairs]
    edges = [edge for network in given_ for edge in (network[0], network[-1])]
    networks = Networks.of(given_)
    for host in [address, *edges]:
        assert networks.contains_host(str(host)) == any(host in network for network in given_)


@given(st.text())
def test_any_text_is_a_host_or_none_and_never_an_error(text: str) -> None:
    assert Networks.of(["*"]).contains_host(text) == (ip_of(text) is not None)


def test_a_peer_without_a_name_is_on_a_unix_socket_when_our_end_is() -> None:
    assert peer_address(None, "/run/server.sock") == ""
    assert peer_address("/run/client.sock", "/run/server.sock") == "/run/client.sock"
    assert peer_address(("192.0.2.1", 1), ("192.0.2.2", 80)) == ("192.0.2.1", 1)


def test_a_tcp_peer_that_is_gone_is_not_taken_for_a_unix_peer() -> None:
    """Such a peer has no name either, and what it sent can still be read."""
    assert peer_address(None, ("192.0.2.2", 80)) is None
    assert peer_address(None, None) is None


@pytest.mark.interop
async def test_a_client_of_a_real_unix_socket_is_a_unix_peer(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = str(tmp_path_factory.mktemp("u") / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        transport = SocketTransport(listener.accept()[0])
        assert transport.peername is None
        assert peer_address(transport.peername, transport.sockname) in Networks.of(["unix"])
        transport.close()
