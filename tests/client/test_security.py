"""What could be turned against the caller: hosts in disguise, settings without effect, planted files, small
content that costs much."""

from __future__ import annotations

import contextlib
import encodings
import gzip
import hashlib
import os
import socket
import stat
import sys
import tracemalloc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yarl
import zstandard

from tests.client._files import URL as FILE_URL
from tests.client._files import FileServer, client_to, content_of, files
from tests.client._network import END, URL, answering, client_of, in_pool
from tests.client._web import HERE, moved, web
from trio_http import InvalidRequest, RedirectRefused, Response, ResponseInvalid
from trio_http.client import BasicAuth, CertificateMismatch, Client, DigestAuth, Proxy
from trio_http.client._addresses import Addresses
from trio_http.client._challenge import challenges
from trio_http.client._partial_file import _is_planted
from trio_http.client._tls_settings import TLSSettings
from trio_http.client._url import host_key, parse_url
from trio_http.messages import ContentDecoder, ContentTooExpanded, supported_codings

CERTIFICATE = b"a certificate"
STRANGER = "00" * 32

# ------------------------------------------------------------------------------------------ hosts in disguise


@pytest.mark.parametrize(
    "host",
    "127.1 0x7f.1 2130706433 0x7f000001 0177.0.0.1 127.0.0.01 127.0.0.1. 1.2.3.4.5 256.1.1.1 example.1 a.0x "
    "127.0.0.0x1 １２７.1".split(),
)
def test_a_host_that_resolvers_take_for_an_address_and_others_for_a_name_is_refused(host: str) -> None:
    """They went to the resolver, for which 127.1 is the loopback interface: past whoever looks at a URL's
    host for addresses that must not be asked, and past those of NO_PROXY."""
    with pytest.raises(InvalidRequest, match="ends in a number and is no IPv4 address"):
        parse_url(f"http://{host}/")
    with pytest.raises(InvalidRequest, match="ends in a number and is no IPv4 address"):
        Proxy.from_url(f"http://{host}:3128")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("①②⑦.0.0.1", "127.0.0.1"),
        ("[::FFFF:127.0.0.1]", "::ffff:7f00:1"),
        ("[0:0::0:1]", "::1"),
        ("1.example", "1.example"),
        ("a1", "a1"),
        ("4b.2a", "4b.2a"),
        ("a_1", "a_1"),
    ],
)
def test_a_host_is_what_is_connected_to(host: str, expected: str) -> None:
    origin = parse_url(f"http://{host}/").origin
    assert (
        origin.host == expected or ":" in expected
    )  # Python writes mapped addresses in one way or the other
    assert socket.inet_pton(socket.AF_INET6, origin.host) if ":" in expected else True


@pytest.mark.parametrize(
    "authority",
    [
        "good.example\\@evil.example",
        "good.example\\.evil.example",
        "good.example@evil.example",
        "@evil.example",
        "good.example%2f.evil.example",
        "good.example／.evil.example",
        "good.example＠evil.example",
        "good.example：80",
        "good.example\t.evil.example",
        "good\u00ad.example",
        "evil\u2100.example",
        "a b",
    ],
)
def test_a_host_with_a_second_reading_is_refused(authority: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_url(f"http://{authority}/")


async def test_a_redirect_to_a_host_longer_than_any_name_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """IDNA took two seconds for a Location of 64 KiB, in which no other task ran."""
    asked: list[str] = []
    build = yarl.URL.build

    def counted(**parts: Any) -> yarl.URL:
        asked.append(parts["host"])
        return build(**parts)

    monkeypatch.setattr(yarl.URL, "build", counted)
    location = f"http://{'ﷺ' * 20_000}/".encode()
    peer = answering(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + END)
    async with client_of(peer, follow_redirects=True) as (client, _):
        with pytest.raises(RedirectRefused, match="20000 characters, expected at most 254"):
            await client.get(URL)
        assert await in_pool(client) == (0, 1)
    assert asked == []
    assert parse_url("http://" + "a." * 126 + "a/").origin.host.endswith(".a")
    with pytest.raises(InvalidRequest, match="255 characters"):
        parse_url("http://" + "a." * 127 + "a/")


# ------------------------------------------------------------------------------------ settings without effect


class Shown:
    """What a handshake has brought: this certificate."""

    def selected_alpn_protocol(self) -> str | None:
        return None

    def getpeercert(self, binary_form: bool = False) -> bytes:
        return CERTIFICATE


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("EXAMPLE.org", "https://example.org/"),
        ("example.org", "https://EXAMPLE.ORG./"),
        ("example.org.", "https://example.org/"),
        ("bücher.example", "https://xn--bcher-kva.example/"),
        ("xn--bcher-kva.example", "https://BÜCHER.example/"),
        ("[::1]", "https://[::1]/"),
        ("0:0:0::1", "https://[::1]/"),
        ("2001:DB8::1", "https://[2001:db8:0::1]/"),
    ],
)
async def test_a_setting_by_host_holds_however_the_host_is_written(written: str, url: str) -> None:
    """The pins of "[::1]" and of "bücher.example" were passed over in silence, and every sound certificate
    was taken."""
    origin = parse_url(url).origin
    shown: Any = Shown()
    with pytest.raises(CertificateMismatch):
        TLSSettings(pinned_certificates={written: STRANGER}).check(origin, shown)
    TLSSettings(pinned_certificates={written: hashlib.sha256(CERTIFICATE).hexdigest()}).check(origin, shown)
    assert TLSSettings(tls_names={written: "other.example"}).name_for(origin) == "other.example"
    addresses = Addresses(pinned={written: "192.0.2.7"})
    assert await addresses.of(origin.host, origin.port) == ("192.0.2.7",)


@pytest.mark.parametrize(
    "written",
    ["https://example.org", "example.org:443", "example.org/", "", "*.example.org/", "a b", 3, None],
)
@pytest.mark.parametrize("setting", ["pinned_certificates", "tls_names", "pinned_addresses"])
async def test_a_setting_for_what_is_no_host_is_refused(setting: str, written: Any) -> None:
    with pytest.raises(ValueError, match=rf"{setting} has .*, expected a host"):
        host_key(written, setting)
    value = {"pinned_certificates": STRANGER, "tls_names": "a.example", "pinned_addresses": "192.0.2.7"}[
        setting
    ]
    if isinstance(written, str):
        with pytest.raises(ValueError, match=rf"{setting} has .*, expected a host"):
            options: Any = {setting: {written: value}}
            Client(**options)


# ---------------------------------------------------------------------------------------------- planted files


async def test_a_download_does_not_write_through_links_beside_it(tmp_path: Path) -> None:
    """Who could write into the folder had any file of the user's replaced, by a link in a record's place."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("file.part.json", "file.part.json.new"):
        (folder / name).symlink_to(precious)
    async with client_to(FileServer(content_of(3000))) as client:
        await client.download(FILE_URL, folder / "file")
    assert precious.read_bytes() == b"mine"
    assert (folder / "file").read_bytes() == content_of(3000)
    assert files(folder) == ["file"]


async def test_a_download_does_not_wait_for_the_other_end_of_a_pipe(tmp_path: Path) -> None:
    """A pipe in the record's place stopped it for ever, in a thread that no cancel reaches."""
    os.mkfifo(tmp_path / "file.part.json")
    async with client_to(FileServer(content_of(3000))) as client:
        await client.download(FILE_URL, tmp_path / "file")
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("mode", "owner", "planted"),
    [
        (0o1777, "stranger", True),
        (0o1775, "stranger", True),
        (0o777, "stranger", False),
        (0o755, "stranger", False),
        (0o1777, "me", False),
        (0o1777, "the folder's", False),
    ],
)
def test_a_part_of_another_users_is_not_gone_on_with_where_everybody_may_write(
    mode: int, owner: str, planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(mode)
    folder = tmp_path.stat().st_uid
    me = folder + 1
    monkeypatch.setattr(os, "geteuid", lambda: me)
    number = {"stranger": folder + 2, "me": me, "the folder's": folder}[owner]
    facts = os.stat_result((stat.S_IFREG | 0o644, 1, 1, 1, number, number, 0, 0, 0, 0))
    assert _is_planted(facts, tmp_path) is planted


# ------------------------------------------------------------------------------ small content that costs much


async def text_in(charset: str, content: bytes) -> tuple[str, list[str]]:
    """Content by its charset: at once, and line by line."""
    head = f'HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset="{charset}"\r\n'
    answer = head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
    async with client_of(answering(answer, answer)) as (client, _):
        whole = (await client.get(URL)).text
        async with client.stream("GET", URL) as response:
            return whole, [line async for line in response.lines()]


async def test_utf_7_is_no_charset() -> None:
    """Its decoder keeps a run of Base64 whole: a line without end filled the memory, past `max_chars`, and
    took quadratic time."""
    assert await text_in("utf-7", b"+" + b"A" * 50) == ("+" + "A" * 50, ["+" + "A" * 50])
    assert await text_in("UTF7", b"+AGE-") == ("+AGE-", ["+AGE-"])


async def test_a_charset_that_python_does_not_know_leaves_nothing_behind() -> None:
    """Python remembers each name that it has looked for in vain: 50 kB for ever, with each response."""
    before = len(encodings._cache)
    for number in range(20):
        assert await text_in(f"x-none-{number}", b"a") == ("a", ["a"])
        assert await text_in(f"{number}" * 20_000, b"a") == ("a", ["a"])
    assert len(encodings._cache) == before
    assert await text_in("ISO-8859-15", b"\xa4") == ("€", ["€"])
    assert await text_in("koi8-u", b"\xa4") == ("є", ["є"])


@pytest.mark.parametrize("charset", ["utf-16", "utf-32"])
async def test_lines_without_a_byte_order_mark_are_read_as_the_whole_text_is(charset: str) -> None:
    """They were an UnicodeError of the codec's, which nobody who reads lines expects."""
    ours = "é\nab".encode(f"{charset}-{'le' if sys.byteorder == 'little' else 'be'}")
    assert await text_in(charset, ours) == ("é\nab", ["é", "ab"])
    assert await text_in(charset, "é\nab".encode(charset)) == ("é\nab", ["é", "ab"])


def test_json_of_a_hundred_thousand_brackets_is_no_json() -> None:
    """It was a RecursionError, past every ``except ValueError``."""
    with pytest.raises(ValueError, match="nested too deeply"):
        Response(content=b"[" * 100_000).json()


def test_a_challenge_for_every_second_byte_is_not_read_to_its_end() -> None:
    """A head of them took half a second, and several times so within one request."""
    assert len(challenges(["a," * 30_000])) == 1000
    long = "Basic realm=x, " + ",".join(f"p{number}=v" for number in range(5000))
    assert [len(challenge.parameters) for challenge in challenges([long])] == [1000]
    assert len(challenges(['Digest realm="a", nonce="b", qop="auth", algorithm=MD5, Basic realm="a"'])) == 2


def test_blocks_without_content_are_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three bytes for each of them: a megabyte took a second of the processor's time."""
    # Of the modules for zstd, the one to which an empty block costs something.
    monkeypatch.setattr("trio_http.messages._coded_streams.zstd_module", lambda: zstandard)
    decoder = ContentDecoder(["zstd"])
    decoder.feed(b"\x28\xb5\x2f\xfd\x00\x58" + b"\x00\x00\x00" * (1 << 19))
    with pytest.raises(ContentTooExpanded):
        while decoder.take():
            pass


@pytest.mark.skipif("zstd" not in supported_codings(), reason="zstd is an extra")
async def test_content_in_tiny_blocks_takes_little_more_memory_than_it_has_bytes() -> None:
    """Each block of two bytes took 43: content of 64 MiB, which is allowed, filled 1.4 GiB."""
    size = 32 * 1024
    coded = b"\x28\xb5\x2f\xfd\x00\x58" + b"\x10\x00\x00ab" * (size // 2) + b"\x01\x00\x00"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nContent-Length: %d\r\n\r\n" % len(coded)
    async with client_of(answering(head + coded)) as (client, _), client.stream("GET", URL) as response:
        tracemalloc.start()
        try:
            content = await response.read()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert content == b"ab" * (size // 2)
    # The content twice at the moment of joining, what it came in, and a thousand pieces; else it is 2 MB.
    assert peak < 2 * size + len(coded) + 256 * 1024


# ------------------------------------------------------------------------------------------------ credentials


@pytest.mark.parametrize(
    "location",
    r"""//b.example/ ///b.example/ /\b.example/ \\b.example/ http:b.example http:/b.example/ http:///b.example/
    http://a.example@b.example/ http://a.example\@b.example/ HTTP://B.example http://a.example:81/
    http://a.example./ https://a.example/ http://a.example.b.example/ http://a.example%00.b.example/
    http://a.example%2eb.example ftp://a.example/ ?//b.example/ .//b.example/ /..//b.example/ javascript:0
    data:,x http:// // http://a.example:0x50/ http://127.1/ //a.example#@b.example/ //a.example:80@b.example/
    http://b.example?@a.example/ http://b.example:80#a.example""".split(),
)
async def test_no_spelling_of_a_location_takes_credentials_elsewhere(location: str) -> None:
    """C43: whatever is asked, it is asked without credentials if it is another origin's."""
    auth = BasicAuth("user", "secret")
    async with web({f"{HERE}/start": moved(302, location)}, follow_redirects=True, cookies=True) as (
        client,
        world,
    ):
        assert client._config.cookies is not None
        client._config.cookies.set("a", "secret", domain="a.example")
        # Refused or followed: what matters is what was sent.
        with contextlib.suppress(RedirectRefused):
            await client.get(f"{HERE}/start", auth=auth, headers={"Proxy-Authorization": "Basic secret"})
    assert len(world.asked) <= 2
    for asked in world.asked:
        is_here = asked.url.startswith(f"{HERE}/")
        assert ("authorization" in asked.headers) is is_here
        assert ("proxy-authorization" in asked.headers) is is_here
        # A cookie is its host's, on every port.
        assert ("cookie" in asked.headers) is (urlsplit(asked.url).hostname == "a.example")


@pytest.mark.parametrize("stale", ["true", "false"])
async def test_a_server_that_is_never_content_ends_the_rounds(stale: str) -> None:
    asked = 0

    async def never(_: object) -> Response:
        nonlocal asked
        asked += 1
        challenge = f'Digest realm="r", nonce="{asked}", qop="auth", stale={stale}'
        return Response(401, headers={"WWW-Authenticate": challenge})

    async with web({f"{HERE}/": never}) as (client, _):
        response = await client.get(f"{HERE}/", auth=DigestAuth("user", "secret"))
    assert response.status == 401
    assert asked <= 3


@pytest.mark.parametrize("protocol", ["a\r\nX: y", "a b", "", "a, b", "é", "a/", "/1", "a/1/2", "a\0"])
async def test_a_protocol_that_is_none_is_refused_before_anything_is_sent(protocol: str) -> None:
    async with client_of() as (client, network):
        with pytest.raises(InvalidRequest, match="malformed protocol"):
            client.upgrade(URL, "ok/1.0", protocol)
    assert network.dialed == []


async def test_a_bomb_behind_a_redirect_or_an_error_is_not_decoded_whole() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * (1 << 26)))
    fields = {"Content-Encoding": "gzip, gzip"}
    answers = {
        f"{HERE}/start": Response(302, bomb, headers={**fields, "Location": "/end"}),
        f"{HERE}/bomb": Response(500, bomb, headers=fields),
    }
    async with web(answers, follow_redirects=True) as (client, _):
        response = await client.get(f"{HERE}/start")
        assert response.text == f"{HERE}/end"
        assert response.history[0].content == b""
        with pytest.raises(ResponseInvalid, match="grow to"):
            await client.get(f"{HERE}/bomb")
