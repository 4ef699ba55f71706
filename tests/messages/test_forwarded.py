"""Who the client is behind proxies, and who it is not however it tries."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_http import Headers
from trio_http.messages import ForwardedFacts, client_of
from trio_http.messages._forwarded import MAX_HOPS
from trio_http.transport import Networks

OURS = Networks.of(["10.0.0.0/8", "fd00::/8", "unix"])
PROXY = ("10.0.0.9", 40000)
CLIENT = "198.51.100.7"


def forwarded(*lines: str, peer: Any = PROXY, trusted: Networks = OURS) -> ForwardedFacts:
    return client_of(Headers([("Forwarded", line) for line in lines]), peer, trusted, "forwarded")


def x_forwarded(*lines: str, peer: Any = PROXY, trusted: Networks = OURS, **others: str) -> ForwardedFacts:
    fields = [("X-Forwarded-For", line) for line in lines]
    fields += [
        (f"X-Forwarded-{name}" if name != "Host_" else "Host", value) for name, value in others.items()
    ]
    return client_of(Headers(fields), peer, trusted, "x-forwarded")


both = pytest.mark.parametrize("style", ["forwarded", "x-forwarded"])

EVERYTHING = Headers(
    {
        "Forwarded": "for=1.1.1.1;proto=https;host=a.test;by=_p",
        "X-Forwarded-For": "2.2.2.2",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "b.test",
        "X-Forwarded-Port": "444",
        "Host": "c.test",
    }
)

# -------------------------------------------------------------------------------------------- who is believed


@both
@pytest.mark.parametrize("peer", [(CLIENT, 5), ("::ffff:198.51.100.7", 5, 0, 0)])
def test_a_peer_that_is_not_trusted_is_the_client_whatever_it_says(style: Any, peer: Any) -> None:
    assert client_of(EVERYTHING, peer, OURS, style) == ForwardedFacts(client=CLIENT, port=5)


@both
@pytest.mark.parametrize("peer", [None, ()])
def test_a_peer_without_an_address_is_not_trusted(style: Any, peer: Any) -> None:
    everybody = Networks.of(["*"])
    assert client_of(EVERYTHING, peer, everybody, style) == ForwardedFacts()


@both
def test_nobody_is_trusted_by_an_empty_set(style: Any) -> None:
    assert client_of(EVERYTHING, PROXY, Networks(), style) == ForwardedFacts(client=PROXY[0], port=PROXY[1])


@both
def test_a_trusted_peer_that_forwards_nothing_is_the_client(style: Any) -> None:
    assert client_of(Headers(), PROXY, OURS, style) == ForwardedFacts(client=PROXY[0], port=PROXY[1])
    assert client_of(Headers(), "", OURS, style) == ForwardedFacts()


def test_the_two_styles_are_never_mixed() -> None:
    assert client_of(EVERYTHING, PROXY, OURS, "forwarded") == ForwardedFacts(
        client="1.1.1.1", scheme="https", host="a.test", by="_p", identifier="1.1.1.1", hops=1
    )
    assert client_of(EVERYTHING, PROXY, OURS, "x-forwarded") == ForwardedFacts(
        client="2.2.2.2", scheme="https", host="b.test:444", identifier="2.2.2.2", hops=1
    )


def test_there_is_no_third_style() -> None:
    with pytest.raises(ValueError):
        client_of(Headers(), PROXY, OURS, "both")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "peer", [PROXY, ("::ffff:10.0.0.9", 1, 0, 0), ("fd00::1%eth0", 1, 0, 2), "", "/run/p"]
)
def test_a_trusted_peer_is_believed_whatever_kind_of_address_it_has(peer: Any) -> None:
    assert forwarded(f"for={CLIENT}", peer=peer).client == CLIENT
    assert x_forwarded(CLIENT, peer=peer).client == CLIENT


# --------------------------------------------------------------------------------------------------- the walk


def as_elements(*addresses: str) -> str:
    return ", ".join(f'for="[{a}]"' if ":" in a else f"for={a}" for a in addresses)


def walk(style: str, *lines: list[str]) -> ForwardedFacts:
    if style == "forwarded":
        return forwarded(*(as_elements(*line) for line in lines))
    return x_forwarded(*(", ".join(line) for line in lines))


@both
@pytest.mark.parametrize(
    ("lines", "client", "hops"),
    [
        ([[CLIENT]], CLIENT, 1),
        ([["6.6.6.6", CLIENT]], CLIENT, 1),
        ([["10.6.6.6", CLIENT]], CLIENT, 1),
        ([["6.6.6.6", CLIENT, "10.0.0.1"]], CLIENT, 2),
        ([["10.0.0.5", CLIENT, "10.0.0.1", "10.0.0.2"]], CLIENT, 3),
        ([["6.6.6.6"], [CLIENT]], CLIENT, 1),
        ([["6.6.6.6"], [CLIENT], ["10.0.0.1"]], CLIENT, 2),
        ([["6.6.6.6", "10.0.0.1"], [CLIENT]], CLIENT, 1),
        ([["6.6.6.6", CLIENT, "fd00::1"], ["10.0.0.1"]], CLIENT, 3),
        ([["10.0.0.3"]], "10.0.0.3", 1),  # a client in our own network: no proxy tells more
        ([["10.0.0.3", "10.0.0.1"]], "10.0.0.3", 2),
        ([["2001:DB8::1"]], "2001:db8::1", 1),
        ([["::ffff:198.51.100.7"]], CLIENT, 1),
        ([["6.6.6.6", "::ffff:10.0.0.1"]], "6.6.6.6", 2),
    ],
)
def test_the_client_is_the_first_address_from_the_right_that_is_not_a_proxy_of_ours(
    style: str, lines: list[list[str]], client: str, hops: int
) -> None:
    facts = walk(style, *lines)
    assert (facts.client, facts.hops, facts.malformed) == (client, hops, None)


@both
@given(
    claimed=st.lists(st.ip_addresses().map(str), max_size=5),
    proxies=st.lists(st.ip_addresses(network="10.0.0.0/8").map(str), max_size=5),
    split=st.integers(0, 10),
)
def test_nothing_that_a_client_claims_changes_what_our_proxies_say(
    style: str, claimed: list[str], proxies: list[str], split: int
) -> None:
    """The claim and the truth may be in one field line or in two, cut anywhere."""
    members = [*claimed, CLIENT, *proxies]
    facts = walk(style, members[:split], members[split:])
    assert (facts.client, facts.hops) == (CLIENT, len(proxies) + 1)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)), st.booleans())
@example('for="', False)
@example('for="1.1.1.1', False)
@example('for=1.1.1.1;x="\\', False)
@example('for=1.1.1.1;x="\\"', False)
@example("\\", False)
@example('"', False)
def test_no_text_in_front_of_a_proxys_element_changes_how_it_is_read(claim: str, two_lines: bool) -> None:
    """An open quotation mark, read from the left, would have made the proxy's element a part of the claim."""
    told = f'for="{CLIENT}:77";host="a.test";x="one, two";y="\\"q\\\\"'
    lines = [claim, told] if two_lines else [f"{claim}, {told}"]
    facts = forwarded(*lines)
    assert (facts.client, facts.port, facts.host, facts.hops) == (CLIENT, 77, "a.test", 1)
    plain = x_forwarded(*([claim, CLIENT] if two_lines else [f"{claim}, {CLIENT}"]))
    assert (plain.client, plain.hops) == (CLIENT, 1)


@both
@pytest.mark.parametrize("empty", ["{},,", ", {}", ",\t, {} ,,,", ",,{},,"])
def test_empty_members_are_no_hops(style: str, empty: str) -> None:
    element = f"for={CLIENT}" if style == "forwarded" else CLIENT
    walked = forwarded if style == "forwarded" else x_forwarded
    assert walked(empty.format(element)).client == CLIENT
    assert walked("6.6.6.6", empty.format(element), "", ",").hops == 1
    assert walked("", ", ,").hops == 0


@both
@pytest.mark.parametrize("hidden", ["unknown", "UNKNOWN", "_hidden", "_SEVKISEK"])
def test_a_client_that_a_proxy_hides_is_not_known_and_nobody_else_is_taken_for_it(
    style: str, hidden: str
) -> None:
    if style == "forwarded":
        facts = forwarded(f"for=6.6.6.6, for={hidden};proto=https, for=10.0.0.1")
        assert facts.scheme == "https"
    else:
        facts = x_forwarded(f"6.6.6.6, {hidden}, 10.0.0.1")
    assert (facts.client, facts.identifier, facts.hops, facts.malformed) == (None, hidden, 2, None)


def test_an_element_that_does_not_name_the_client_ends_the_walk() -> None:
    facts = forwarded("for=6.6.6.6, proto=https;host=a.test")
    assert (facts.client, facts.scheme, facts.host, facts.hops) == (None, "https", "a.test", 1)
    assert forwarded(f"for={CLIENT}, ;;").client is None


@both
def test_a_chain_of_proxies_that_never_ends_is_not_walked_for_ever(style: str) -> None:
    facts = walk(style, ["10.0.0.1"] * (MAX_HOPS + 1))
    assert (facts.client, facts.hops) == ("10.0.0.1", MAX_HOPS)
    assert facts.malformed is not None
    assert walk(style, ["10.0.0.1"] * MAX_HOPS).malformed is None


# ------------------------------------------------------------------------------------------ malformed members

MALFORMED_FORWARDED = [
    "for",
    "for=",
    "=1.1.1.1",
    "for =1.1.1.1",
    "for= 1.1.1.1",
    "for=1.1.1.1; proto=https",
    "for=1.1.1.1 ;proto=https",
    "for=1.1.1.1 proto=https",
    "1.1.1.1",
    "for=1.1.1.1;for=1.1.1.1",
    "for=1.1.1.1;FOR=2.2.2.2",
    "for=1.1.1.1;x=1;X=2",
    "for=1.1.1.1:80",
    "for=[2001:db8::1]",
    "for=2001:db8::1",
    'for="2001:db8::1"',
    'for="[1.1.1.1]"',
    'for="[2001:db8::1"',
    'for="[2001:db8::1]80"',
    'for="[fe80::1%eth0]"',
    'for="1.1.1.1:"',
    'for="1.1.1.1:65536"',
    'for="1.1.1.1:123456"',
    'for="1.1.1.1:+1"',
    'for="1.1.1.1 "',
    "for=1.1.1",
    "for=1.1.1.256",
    "for=01.1.1.1",
    "for=hidden",
    "for=_",
    "for=client.example",
    'for=""',
    'for="1.1.1.1',
    'for=1.1.1.1"',
    'for="1.1.1.1"x',
    'for="1.1.1.1\\"',
    "for='1.1.1.1'",
    "for=1.1.1.1;h=a/b",
    "for=1.1.1.1;\xe9=1",
]


@pytest.mark.parametrize("element", MALFORMED_FORWARDED)
def test_a_malformed_element_ends_the_walk_and_what_is_right_of_it_holds(element: str) -> None:
    alone = forwarded(element)
    assert alone == ForwardedFacts(client=PROXY[0], port=PROXY[1], malformed=element[:60])
    behind = forwarded(f"for=6.6.6.6, {element}", "for=10.0.0.1;proto=https")
    assert (behind.client, behind.scheme, behind.hops) == ("10.0.0.1", "https", 1)
    assert behind.malformed is not None
    assert forwarded(element, f"for={CLIENT}").malformed is None  # never reached


@pytest.mark.parametrize(
    "member",
    [
        "client.example", "1.1.1", "1.1.1.1 2.2.2.2", "1.1.1.1:", "1.1.1.1:65536", "1.1.1.1:80:90",
        "[1.1.1.1]", "[::1", "::1]", "[::1]x", "[]", "fe80::1%eth0", "1::2::3", ":::", "for=1.1.1.1",
        '"1.1.1.1"', "_", "*", "x" * 99,
    ],
)  # fmt: skip
def test_a_malformed_address_ends_the_walk_and_what_is_right_of_it_holds(member: str) -> None:
    facts = x_forwarded(f"6.6.6.6, {member}, 10.0.0.1")
    assert (facts.client, facts.hops, facts.malformed) == ("10.0.0.1", 1, member[:60])
    assert x_forwarded(f"6.6.6.6, {member}").client == PROXY[0]


@given(
    st.text(st.characters(codec="latin-1")).filter(lambda text: text.strip() == text and text.isprintable())
)
@example('"' * 50)
@example('a,b"')
@example('"a,b"')
@example("\\" * 50 + '"')
@example(";" * 50)
@example("for=" + "[" * 50)
@example(":" * 5000)
def test_whatever_the_fields_hold_nothing_is_raised(text: str) -> None:
    for peer in (PROXY, (CLIENT, 1)):
        forwarded(text, text, peer=peer)
        x_forwarded(text, text, peer=peer, Proto=text, Host=text, Port=text, Host_=text)


@pytest.mark.parametrize("unit", ['"', '\\"', '",', "a=", 'a="b",', "10.0.0.1,", ":", "[", ";", "for=_"])
def test_long_fields_are_read_in_linear_time(unit: str) -> None:
    """Counted by the interpreter's own lines, so that a slow machine is no failure."""

    def lines(length: int) -> int:
        count = 0

        def tracer(frame: Any, event: str, argument: Any) -> Any:
            nonlocal count
            count += 1
            return tracer

        text = unit * (length // len(unit))
        fields = Headers({"Forwarded": text, "X-Forwarded-For": text, "X-Forwarded-Proto": text})
        previous = sys.gettrace()
        sys.settrace(tracer)
        try:
            client_of(fields, PROXY, OURS, "forwarded")
            client_of(fields, PROXY, OURS, "x-forwarded")
        finally:
            sys.settrace(previous)
        return count

    assert lines(8000) <= 4.5 * lines(2000) + 100


# ------------------------------------------------------------------------------------------ what else is told


def test_an_element_is_read_whole() -> None:
    facts = forwarded('For="[2001:db8::1]:4711";PROTO=HTTPS;host="a.test:8443";by=203.0.113.43;secret=x')
    assert facts == ForwardedFacts(
        client="2001:db8::1",
        port=4711,
        scheme="https",
        host="a.test:8443",
        identifier="[2001:db8::1]:4711",
        by="203.0.113.43",
        hops=1,
    )


def test_quoted_values_lose_their_backslashes() -> None:
    facts = forwarded(f'for="{CLIENT[:-1]}\\{CLIENT[-1]}";by="a\\"\\\\b,;c"')
    assert facts.client == CLIENT
    assert facts.by == 'a"\\b,;c'


def test_a_made_up_port_is_none() -> None:
    facts = forwarded(f'for="{CLIENT}:_p0rt"')
    assert (facts.client, facts.port) == (CLIENT, None)


def test_the_facts_are_those_of_the_element_that_names_the_client() -> None:
    facts = forwarded(
        f"for=6.6.6.6;host=evil.test, for={CLIENT};proto=https;host=a.test, for=10.0.0.1;proto=http;by=_in"
    )
    assert (facts.client, facts.scheme, facts.host, facts.by) == (CLIENT, "https", "a.test", None)


@pytest.mark.parametrize(
    ("member", "client", "port"),
    [
        (f"{CLIENT}:4711", CLIENT, 4711),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("[2001:db8::1]:4711", "2001:db8::1", 4711),
        ("::", "::", None),
    ],
)
def test_the_usual_spellings_of_x_forwarded_for_are_read(member: str, client: str, port: int | None) -> None:
    facts = x_forwarded(f"6.6.6.6, {member}")
    assert (facts.client, facts.port, facts.identifier) == (client, port, member)


@pytest.mark.parametrize(
    ("told", "scheme"),
    [
        ("http", "http"), ("https", "https"), ("HTTPS", "https"), ("ws", "http"), ("wss", "https"),
        ("ftp", None), ("", None), ("https:", None), ("javascript", None), ("on", None),
    ],
)  # fmt: skip
def test_a_scheme_is_http_or_https_or_not_known(told: str, scheme: str | None) -> None:
    assert x_forwarded(CLIENT, Proto=told).scheme == scheme
    assert forwarded(f'for={CLIENT};proto="{told}"').scheme == scheme


@pytest.mark.parametrize(
    "host",
    [
        "a.test",
        "A.test:8080",
        "xn--exmple-cua.test",
        "under_score",
        "192.0.2.1",
        "[2001:db8::1]",
        "[::1]:8080",
        "a.test.",
    ],
)
def test_a_host_is_told_as_it_is_written(host: str) -> None:
    assert x_forwarded(CLIENT, Host=host).host == host
    assert forwarded(f'for={CLIENT};host="{host}"').host == host


@pytest.mark.parametrize(
    "host",
    [
        "", ":80", "a.test:", "a.test:0", "a.test:65536", "a.test:8o", "a.test:80:80", "user@a.test",
        "a.test/path", "a.test?q", "a.test#f", "a b", "a.test\\@b.test", "a%2ftest", "<script>", "[a.test]",
        "[1.2.3.4]", "[::1", "::1", "[fe80::1%eth0]", "ex\xe4mple.test", "a" * 254, "a;b", "a'b",
    ],
)  # fmt: skip
def test_a_host_that_is_none_is_not_told_and_the_rest_is(host: str) -> None:
    """It would become a part of a URL, and of whatever is made of that."""
    facts = x_forwarded(CLIENT, Host=host, Proto="https")
    assert (facts.client, facts.scheme, facts.host) == (CLIENT, "https", None)
    quoted = host.replace("\\", "\\\\")
    told = forwarded(f'for={CLIENT};proto=https;host="{quoted}"')
    assert (told.client, told.scheme, told.host) == (CLIENT, "https", None)


@pytest.mark.parametrize(
    ("chain", "told", "scheme"),
    [
        (CLIENT, "http", "http"),
        (f"{CLIENT}, 10.0.0.1", "https", "https"),  # one value: the outermost proxy's, kept, or the nearest's
        (f"{CLIENT}, 10.0.0.1", "https, http", "https"),
        (f"6.6.6.6, {CLIENT}", "http, https", "https"),
        (f"6.6.6.6, {CLIENT}, 10.0.0.1", "ftp, https, http", "https"),
        (f"{CLIENT}, 10.0.0.1, 10.0.0.2", "https, http", None),  # whose is the second missing?
        ("", "http, https", "https"),
    ],
)
def test_of_several_schemes_that_of_the_proxy_nearest_to_the_client_holds(
    chain: str, told: str, scheme: str | None
) -> None:
    assert x_forwarded(chain, Proto=told).scheme == scheme


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({"Host": "a.test", "Port": "8443"}, "a.test:8443"),
        ({"Host": "a.test:1", "Port": "8443"}, "a.test:1"),
        ({"Host": "[::1]", "Port": "8443"}, "[::1]:8443"),
        ({"Host": "a.test", "Port": "443", "Proto": "https"}, "a.test"),
        ({"Host": "a.test", "Port": "80", "Proto": "http"}, "a.test"),
        ({"Host": "a.test", "Port": "80"}, "a.test"),
        ({"Host": "a.test", "Port": "443", "Proto": "http"}, "a.test:443"),
        ({"Host": "a.test", "Port": "65536"}, "a.test"),
        ({"Host": "a.test", "Port": "x@evil.test"}, "a.test"),
        ({"Host_": "c.test", "Port": "8443"}, "c.test:8443"),
        ({"Host_": "c.test:1", "Port": "8443"}, "c.test:1"),
        ({"Host_": "c.test", "Host": "a.test", "Port": "8443"}, "a.test:8443"),
        ({"Host_": "c.test"}, None),
        ({"Port": "8443"}, None),
    ],
)
def test_the_port_that_the_client_asked_for_completes_the_host(
    fields: dict[str, str], host: str | None
) -> None:
    assert x_forwarded(CLIENT, **fields).host == host


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_address_and_port_is_read_as_it_was_meant(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    node = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    meant = str(getattr(address, "ipv4_mapped", None) or address)
    everybody = Networks.of(["*"])
    for facts in (forwarded(f'for="{node}"', trusted=everybody), x_forwarded(node, trusted=everybody)):
        assert (facts.client, facts.port) == (meant, port)
