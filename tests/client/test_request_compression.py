"""Content that goes out under a content coding (C31)."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.client._network import END, OK, URL, answering, client_of, in_pool
from trio_http import InvalidRequest
from trio_http.messages import ContentDecoder, supported_codings
from trio_http.testing import ScriptedPeer

TEXT = b"the same again and again, " * 10_000


def decoded(coding: str, data: bytes) -> bytes:
    decoder = ContentDecoder([coding])
    decoder.feed(data)
    parts = []
    while piece := decoder.take():
        parts.append(piece)
    decoder.finish()
    return b"".join(parts)


def unchunked(body: bytes) -> bytes:
    content = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return content
        content += body[:length]
        body = body[length + 2 :]


async def posted(marker: bytes, **options: Any) -> tuple[bytes, bytes]:
    """The head and the body of a POST, which is read up to ``marker``."""
    peer = ScriptedPeer().expect_until(END).expect_until(marker).send(OK)
    async with client_of(peer) as (client, _):
        assert (await client.post(URL, **options)).status == 200
        assert await in_pool(client) == (0, 1)
    head, _, body = bytes(peer.received).partition(END)
    return head, body


LAST = b"\r\n0\r\n\r\n"


def gzip_end(content: bytes) -> bytes:
    """What gzip writes last: a check sum and the length (RFC 1952 §2.3.1)."""
    return zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")


async def test_short_content_is_compressed_whole_and_has_its_length() -> None:
    """C31."""
    head, body = await posted(gzip_end(b"hello"), content=b"hello", compress="gzip")
    assert gzip.decompress(body) == b"hello"
    assert b"\r\nContent-Encoding: gzip\r\n" in head + b"\r\n"
    assert b"\r\nContent-Length: %d" % len(body) in head


async def test_long_content_is_compressed_as_it_goes() -> None:
    """C31: other tasks have their turns meanwhile, so its length is not known beforehand."""
    head, body = await posted(LAST, content=TEXT, compress="gzip")
    assert gzip.decompress(unchunked(body)) == TEXT
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert b"Content-Length" not in head


@pytest.mark.parametrize("coding", supported_codings())
async def test_every_coding_that_can_be_decoded_can_be_sent(coding: str) -> None:
    """C31: streamed content is compressed as it goes, so its length is not known."""

    async def source() -> AsyncIterator[bytes]:
        for at in range(0, len(TEXT), 10_000):
            await trio.lowlevel.checkpoint()
            yield TEXT[at : at + 10_000]

    head, body = await posted(LAST, content=source(), compress=coding)
    assert decoded(coding, unchunked(body)) == TEXT
    assert len(body) < len(TEXT) / 10
    assert b"\r\nContent-Encoding: %s\r\n" % coding.encode() in head
    assert b"Content-Length" not in head


async def test_json_forms_and_files_can_be_compressed_and_keep_their_type(tmp_path: Path) -> None:
    """C31."""
    head, body = await posted(gzip_end(b'{"a":1}'), json={"a": 1}, compress="gzip")
    assert gzip.decompress(body) == b'{"a":1}'
    assert b"Content-Type: application/json" in head
    head, body = await posted(gzip_end(b"a=1"), data={"a": 1}, compress="gzip")
    assert gzip.decompress(body) == b"a=1"
    assert b"Content-Type: application/x-www-form-urlencoded" in head
    path = tmp_path / "notes.txt"
    path.write_bytes(TEXT)
    _, body = await posted(LAST, content=path, compress="gzip")
    assert gzip.decompress(unchunked(body)) == TEXT


async def test_compressed_content_is_sent_again_from_its_start(tmp_path: Path) -> None:
    """C31, C6: with a coder of its own."""
    path = tmp_path / "notes.txt"
    path.write_bytes(TEXT)
    first = answering(OK).expect_until(END).expect_until(LAST).close()
    second = ScriptedPeer().expect_until(END).expect_until(LAST).send(OK)
    async with client_of(first, second) as (client, network):
        await client.get(URL)
        await client.put(URL, content=path, compress="gzip")
        bodies = [network.heads(0).split(END, 2)[2], network.heads(1).partition(END)[2]]
    assert [gzip.decompress(unchunked(body)) for body in bodies] == [TEXT, TEXT]


async def test_trailers_may_follow_compressed_content() -> None:
    """C31, C29."""
    _, body = await posted(b"\r\na: b\r\n\r\n", content=b"hello", compress="gzip", trailers={"a": "b"})
    content, _, rest = body.partition(b"\r\n0\r\n")
    assert rest == b"a: b\r\n\r\n"
    assert gzip.decompress(unchunked(content + b"\r\n0\r\n")) == b"hello"


@pytest.mark.parametrize("coding", ["lzma", "", "gzip, br", "identity"])
async def test_an_unknown_coding_is_refused_and_nothing_is_sent(coding: str) -> None:
    """C31."""
    async with client_of(answering(OK)) as (client, network):
        with pytest.raises(InvalidRequest, match="compress"):
            await client.post(URL, content=b"x", compress=coding)
        assert network.dialed == []


async def test_nothing_is_compressed_unless_asked() -> None:
    """C31."""
    head, body = await posted(TEXT[-5:] * 1, content=b"hello, " + TEXT[-5:])
    assert body == b"hello, " + TEXT[-5:]
    assert b"Content-Encoding" not in head
