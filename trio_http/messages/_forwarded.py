"""Who the client is, when proxies stand between: `Forwarded` and the X-Forwarded fields.

Theory of operation
===================

Each proxy on the way adds one element to the right end of a list, and tells in it whom the request came from:

    peer of ours = 10.0.0.2        X-Forwarded-For: 6.6.6.6, 198.51.100.7, 10.0.0.1
                                                    |        |             +- 10.0.0.2 says so: we trust it
                                                    |        +- 10.0.0.1 says so: we trust it. The client.
                                                    +- 198.51.100.7 says so, who may say what it likes

So the list is read from the right, and only as far as who says it is one of ours; anybody can have written
what is to the left of that. Whoever reads from the left lets clients choose their own address.

Three things follow:

1. Elements are cut off from the right, too, and field lines are taken apart first: a quotation mark that a
   client has left open must not swallow what a proxy adds behind it.
2. What cannot be read ends the walk, and everything to the right of it stands. Nothing is raised: what is in
   these fields is for the client to choose, and a request must not fail by it.
3. The two styles are never mixed: a proxy that writes one passes the other on as the client sent it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import attrs

from trio_http.transport import Address, Networks, ip_of

from ._headers import Headers

ForwardedStyle: TypeAlias = Literal["forwarded", "x-forwarded"]

#: The walk ends after so many proxies of ours. Arbitrary: no request passes so many, and each costs time.
MAX_HOPS: Final = 32

# forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] ), forwarded-pair = token "=" value,
# value = token / quoted-string (RFC 7239 §4; the two by RFC 9110 §5.6.2 and §5.6.4). No whitespace anywhere.
_TCHARS: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED: Final = r'"(?:[\t \x21\x23-\x5B\x5D-\x7E\x80-\xFF]|\\[\t \x21-\x7E\x80-\xFF])*+"'
_PAIR: Final = re.compile(rf"({_TCHARS})=({_TCHARS}|{_QUOTED})")
_ELEMENT: Final = re.compile(rf"(?:{_PAIR.pattern})?(?:;(?:{_PAIR.pattern})?)*+")

# node = nodename [ ":" node-port ], nodename = IPv4address / "[" IPv6address "]" / "unknown" / obfnode,
# node-port = 1*5DIGIT / obfport (RFC 7239 §6). An obfuscated identifier begins with "_" (§6.3).
_OBFUSCATED: Final = r"_[A-Za-z0-9._\-]+"
_NODE: Final = re.compile(
    rf"(?: ([0-9.]+) | \[([0-9A-F:.]+)\] | (unknown|{_OBFUSCATED}) )"
    rf" (?: : ([0-9]{{1,5}}) | :{_OBFUSCATED} )?",
    re.VERBOSE | re.IGNORECASE,
)
# An IPv6 address without brackets, as X-Forwarded-For has it: two colons or more, which tell it from a port.
_BARE_IPV6: Final = re.compile(r"[0-9A-Fa-f.]{0,4}:[0-9A-Fa-f.]{0,4}:[0-9A-Fa-f:.]{0,40}")

# What of uri-host (RFC 3986 §3.2.2) a host in use has: letters, digits, hyphens, dots, and the underscores of
# internal names. Nothing that would mean something else within a URL, a log line or a page. 253: the longest
# name that DNS has (RFC 1035 §2.3.4).
_HOST: Final = re.compile(r"([A-Za-z0-9._\-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")

# A WebSocket's opening handshake is a request like others; its URL has the scheme of the connection.
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@attrs.frozen(kw_only=True)
class ForwardedFacts:
    """What is known of a client beyond the proxies that are ours.

    Attributes:
      client: the client's IP address; IPv4 also where it was written as IPv6. None when it is not known: the
        proxy has hidden it or did not say it, or the peer is on a Unix socket and no proxy. With no ``hops``
        it is the peer itself.
      port: the client's port, if told.
      scheme: "http" or "https", which the client used; a proxy's "ws" and "wss" are told as these. None if
        not told, or another.
      host: the host, and maybe port, that the client asked for, as in a Host field; fit for a URL. None if
        not told, or not fit.
      identifier: what the last proxy calls the client: an address with what stood beside it, "unknown", or a
        made-up name that begins with "_" (RFC 7239 §6.3). None if not told.
      by: what the last proxy calls itself; only in `Forwarded` (RFC 7239 §5.1).
      hops: how many proxies have told the truth, as far as we can know. 0: nothing was forwarded, or the peer
        is not to be believed.
      malformed: what could not be read, or was one too many, and so ended the walk; at most 60 characters.
        None when all that mattered was well-formed. A proxy of ours is to blame, or an address that is not
        one of our proxies is in the trusted networks.
    """

    client: str | None = None
    port: int | None = None
    scheme: str | None = None
    host: str | None = None
    identifier: str | None = None
    by: str | None = None
    hops: int = 0
    malformed: str | None = None


def client_of(
    headers: Headers, peer: Address, trusted: Networks, style: ForwardedStyle = "forwarded"
) -> ForwardedFacts:
    """Return what a request's fields say of the client, as far as those who say it are trusted.

    The walk goes from the right over elements that trusted proxies wrote. It ends at the first address that
    is not trusted, which is the client's; or at the leftmost element; or at one that tells no address
    ("unknown", a made-up name, nothing), and then the client is not known; or at a malformed one, and then
    what stands to its right holds, and the client is the address there: a proxy's own, if no proxy has said
    better. Nothing in the fields makes it raise.

    In ``"forwarded"`` all facts are those of the one element at which the walk ended. In ``"x-forwarded"``
    they come from fields of their own (-Proto, -Host, -Port): of a list, the member that is as far from the
    right as the client is in X-Forwarded-For; a single value as it is. So the proxy must set or remove each
    of these fields: what it passes on is the client's word.

    Args:
      headers: the request's header section.
      peer: the address of the connection's other end; see `trio_http.transport.peer_address`.
      trusted: where our proxies are.
      style: which fields to read, "forwarded" (RFC 7239) or "x-forwarded"; the others are not looked at.

    Raises:
      ValueError: there is no such style.
    """
    if style not in ("forwarded", "x-forwarded"):
        raise ValueError(f'expected "forwarded" or "x-forwarded", not {style!r}')
    here = peer_facts(peer)
    if peer not in trusted:
        return here
    if style == "forwarded":
        return _walk_forwarded(headers, here, trusted)
    return _walk_x_forwarded(headers, here, trusted)


def peer_facts(peer: Address) -> ForwardedFacts:
    """Return what the connection to ``peer`` itself tells."""
    if not isinstance(peer, tuple) or len(peer) < 2 or not isinstance(peer[0], str):
        return ForwardedFacts()
    address = ip_of(peer[0])
    return ForwardedFacts(client=peer[0] if address is None else str(address), port=peer[1])


# ------------------------------------------------------------------------------------------------ Forwarded


def _walk_forwarded(headers: Headers, here: ForwardedFacts, trusted: Networks) -> ForwardedFacts:
    facts = here
    for element in _from_the_right(headers.get_all("forwarded"), quoted=True):
        pairs = _pairs(element)
        found = None if pairs is None or facts.hops == MAX_HOPS else _facts_of(pairs, facts.hops + 1)
        if found is None:
            return attrs.evolve(facts, malformed=element[:60])
        facts = found
        if facts.client is None or not trusted.contains_host(facts.client):
            break
    return facts


def _pairs(element: str) -> dict[str, str] | None:
    """Return an element's parameters, names in lower case, values unquoted; None when it is malformed."""
    if _ELEMENT.fullmatch(element) is None:
        return None
    pairs: dict[str, str] = {}
    for name, value in _PAIR.findall(element):
        name = name.lower()
        if name in pairs:
            return None  # "MUST NOT occur more than once per element" (RFC 7239 §4)
        pairs[name] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] == '"' else value
    return pairs


def _facts_of(pairs: dict[str, str], hops: int) -> ForwardedFacts | None:
    """Return what one element says, or None when its node identifier is malformed."""
    identifier = pairs.get("for")
    client, port = None, None
    if identifier is not None:
        node = _node(identifier)
        if node is None:
            return None
        client, port = node
    return ForwardedFacts(
        client=client,
        port=port,
        scheme=_SCHEMES.get(pairs.get("proto", "").lower()),
        host=_host(pairs.get("host")),
        identifier=identifier,
        by=pairs.get("by"),
        hops=hops,
    )


# ------------------------------------------------------------------------------------------- X-Forwarded-...


def _walk_x_forwarded(headers: Headers, here: ForwardedFacts, trusted: Networks) -> ForwardedFacts:
    client, port, identifier, hops, malformed = here.client, here.port, None, 0, None
    for element in _from_the_right(headers.get_all("x-forwarded-for"), quoted=False):
        node = _node(f"[{element}]" if _BARE_IPV6.fullmatch(element) else element)
        if node is None or hops == MAX_HOPS:
            malformed = element[:60]
            break
        (client, port), identifier, hops = node, element, hops + 1
        if client is None or not trusted.contains_host(client):
            break
    scheme = _SCHEMES.get((_beside(headers, "x-forwarded-proto", hops) or "").lower())
    host = _host(_beside(headers, "x-forwarded-host", hops))
    server_port = _beside(headers, "x-forwarded-port", hops)
    if server_port is not None:
        # Proxies that send the port let Host pass, or set it to the bare name.
        host = _with_port(host or _host(headers.get("host")), server_port, scheme)
    return ForwardedFacts(
        client=client,
        port=port,
        scheme=scheme,
        host=host,
        identifier=identifier,
        hops=hops,
        malformed=malformed,
    )


def _beside(headers: Headers, name: str, hops: int) -> str | None:
    """Return the member of a list field that belongs to the element ``hops`` from the right."""
    values = list(_from_the_right(headers.get_all(name), quoted=False))
    if len(values) == 1:
        return values[0]
    index = max(hops, 1) - 1
    return values[index] if index < len(values) else None


def _with_port(host: str | None, port: str, scheme: str | None) -> str | None:
    default = "443" if scheme == "https" else "80"
    found = None if host is None else _HOST.fullmatch(host)
    if found is None or found[2] is not None or port == default:
        return host
    return _host(f"{host}:{port}") or host


# -------------------------------------------------------------------------------------------------- in common


def _from_the_right(lines: list[str], *, quoted: bool) -> Iterator[str]:
    """Give the members of a list field, last first, without whitespace around them; empty ones are none.

    Args:
      lines: the values of its field lines, in order.
      quoted: members may hold quoted strings, and so commas that separate nothing.

    Reference: RFC 9110 §5.6.1.2 (empty members), §5.6.4 (quoted strings).
    """
    for line in reversed(lines):
        end = len(line)
        while end >= 0:
            start = _start_of_last(line, end) if quoted else line.rfind(",", 0, end) + 1
            member = line[start:end].strip(" \t")
            if member:
                yield member
            end = start - 1


def _start_of_last(line: str, end: int) -> int:
    """Return where the last member of ``line[:end]`` begins.

    Seen from the right, a well-formed quoted string is told from what a client has put to the left of it: it
    begins at the nearest quotation mark that no backslash escapes.
    """
    position = end
    comma = line.rfind(",", 0, end)
    while (mark := line.rfind('"', comma + 1, position)) >= 0:
        position = _unescaped_mark(line, mark)
        if position < 0:
            return 0  # never opened: all of it is one malformed member
        if comma >= position:
            comma = line.rfind(",", 0, position)
    return comma + 1


def _unescaped_mark(line: str, position: int) -> int:
    """Return the nearest quotation mark left of ``position`` that no backslash escapes, or -1."""
    while (position := line.rfind('"', 0, position)) > 0:
        before = position
        while before and line[before - 1] == "\\":
            before -= 1
        if (position - before) % 2 == 0:
            break
    return position


def _node(text: str) -> tuple[str | None, int | None] | None:
    """Return a node's IP address, None when it is hidden, and port; or None when it is malformed."""
    found = _NODE.fullmatch(text)
    if found is None or int(found[4] or 0) > 0xFFFF:
        return None
    port = None if found[4] is None else int(found[4])
    if found[3] is not None:
        return None, port
    address = ip_of(found[1] or found[2])
    if address is None or (found[2] is not None and ":" not in found[2]):
        return None  # brackets are for IPv6
    return str(address), port


def _host(text: str | None) -> str | None:
    """Return ``text`` if it is a host, maybe with a port, that is fit for a URL; else None."""
    found = None if text is None else _HOST.fullmatch(text)
    if found is None or int(found[2] or 1) not in range(1, 0x10000):
        return None
    if found[1][0] == "[" and (":" not in found[1] or ip_of(found[1][1:-1]) is None):
        return None
    return text
